//! Presence bits: one per slot, packed into `u64` words, each row starting on a word.

/// A two-dimensional bitmap of `rows` rows with `columns` bits each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    columns: u32,
    words_per_row: usize,
}

impl Bitmap {
    /// All bits 0.
    pub fn zeros(rows: u32, columns: u32) -> Self {
        let words_per_row = (columns as usize).div_ceil(64);
        Self { words: vec![0; rows as usize * words_per_row], columns, words_per_row }
    }

    /// The same with other dimensions and all bits 0, in the memory it has.
    pub(super) fn cleared(mut self, rows: u32, columns: u32) -> Self {
        let words_per_row = (columns as usize).div_ceil(64);
        self.words.clear();
        self.words.resize(rows as usize * words_per_row, 0);
        Self { words: self.words, columns, words_per_row }
    }

    /// Bits of a row, least significant bit of the first word first. Bits beyond the last
    /// column are always 0.
    pub fn row(&self, row: u32) -> &[u64] {
        let start = row as usize * self.words_per_row;
        &self.words[start..start + self.words_per_row]
    }

    /// The words of a row to write; bits beyond the last column must stay 0.
    pub fn row_mut(&mut self, row: u32) -> &mut [u64] {
        let start = row as usize * self.words_per_row;
        &mut self.words[start..start + self.words_per_row]
    }

    /// A copy of `rows` rows from row `from` on.
    pub fn copy_rows(&self, from: u32, rows: u32) -> Self {
        let words = from as usize * self.words_per_row..(from + rows) as usize * self.words_per_row;
        Self { words: self.words[words].to_vec(), ..*self }
    }

    /// True when the bit is set.
    pub fn get(&self, row: u32, column: u32) -> bool {
        debug_assert!(column < self.columns);
        self.row(row)[column as usize / 64] >> (column % 64) & 1 == 1
    }

    /// Sets a bit.
    pub fn set(&mut self, row: u32, column: u32) {
        debug_assert!(column < self.columns);
        self.row_mut(row)[column as usize / 64] |= 1 << (column % 64);
    }

    /// Clears a bit.
    pub fn clear(&mut self, row: u32, column: u32) {
        debug_assert!(column < self.columns);
        self.row_mut(row)[column as usize / 64] &= !(1 << (column % 64));
    }

    /// Number of set bits in a row.
    pub fn count_row(&self, row: u32) -> u32 {
        self.row(row).iter().map(|w| w.count_ones()).sum()
    }

    /// True when no bit of the row is set.
    pub fn row_is_empty(&self, row: u32) -> bool {
        self.row(row).iter().all(|w| *w == 0)
    }

    /// Columns of the set bits of a row, ascending.
    pub fn ones(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        self.row(row).iter().enumerate().flat_map(|(i, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros();
                word &= word - 1;
                Some(i as u32 * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_lists_set_columns_across_words() {
        let mut b = Bitmap::zeros(2, 130);
        for c in [0, 63, 64, 129] {
            b.set(1, c);
        }
        assert_eq!(b.ones(1).collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert!(b.row_is_empty(0) && b.count_row(1) == 4);
        b.clear(1, 64);
        assert!(!b.get(1, 64) && b.get(1, 63));
    }
}
