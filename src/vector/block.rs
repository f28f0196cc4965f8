//! The unit operators exchange: rows are series, columns are steps, one flat arena.

use std::sync::Arc;

use super::Bitmap;
use crate::model::effort::{clearing, effort};
use crate::model::{FloatHistogram, Sample};

/// Dense, query-local number of a series; labels live in the operator's table beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// Histogram samples of a block: a second plane beside the floats, made only when a
/// selector met a histogram.
#[derive(Clone, Debug, Default)]
pub struct HistogramSide {
    present: Bitmap,
    /// `rows * steps` slots, row-major.
    slots: Vec<Option<Arc<FloatHistogram>>>,
}

impl HistogramSide {
    fn absent(rows: u32, steps: u32) -> Self {
        Self {
            present: Bitmap::zeros(rows, steps),
            slots: vec![None; rows as usize * steps as usize],
        }
    }

    /// Which slots hold a histogram.
    pub fn present(&self) -> &Bitmap {
        &self.present
    }
}

/// `rows` series over `steps` steps. Absence is a bit, never a NaN: a float slot is read
/// only when its `present` bit is set. A slot holds a float or a histogram, never both:
/// a slot with a histogram has its `present` bit clear.
#[derive(Clone, Debug, Default)]
pub struct SeriesBlock {
    /// Id of row 0; the ids of a block are consecutive.
    pub first: SeriesId,
    pub rows: u32,
    pub steps: u32,
    /// `rows * steps` values, row-major.
    pub floats: Vec<f64>,
    pub present: Bitmap,
    /// `None` unless a selector met a histogram.
    pub histograms: Option<Box<HistogramSide>>,
}

impl SeriesBlock {
    /// A block in which every slot is absent.
    pub fn absent(first: SeriesId, rows: u32, steps: u32) -> Self {
        clearing(rows as usize * steps as usize);
        Self {
            first,
            rows,
            steps,
            floats: vec![0.0; rows as usize * steps as usize],
            present: Bitmap::zeros(rows, steps),
            histograms: None,
        }
    }

    /// As [`Self::absent`], in the memory of another block. What its slots held stays there;
    /// nobody reads the float of an absent slot.
    pub fn absent_in(used: Self, first: SeriesId, rows: u32, steps: u32) -> Self {
        let slots = rows as usize * steps as usize;
        if used.floats.capacity() < slots {
            return Self::absent(first, rows, steps);
        }
        let mut floats = used.floats;
        clearing(slots.saturating_sub(floats.len()));
        floats.resize(slots, 0.0);
        Self {
            first,
            rows,
            steps,
            floats,
            present: used.present.cleared(rows, steps),
            histograms: None,
        }
    }

    /// The floats of a row.
    pub fn row(&self, row: u32) -> &[f64] {
        effort(self.steps as usize);
        let start = row as usize * self.steps as usize;
        &self.floats[start..start + self.steps as usize]
    }

    /// The floats of a row, to write; set the presence bits too.
    pub fn row_mut(&mut self, row: u32) -> &mut [f64] {
        effort(self.steps as usize);
        let start = row as usize * self.steps as usize;
        &mut self.floats[start..start + self.steps as usize]
    }

    /// The floats of a row and its presence bits, to write both. The row holds no histogram.
    pub fn row_and_bits_mut(&mut self, row: u32) -> (&mut [f64], &mut [u64]) {
        let start = row as usize * self.steps as usize;
        let floats = &mut self.floats[start..start + self.steps as usize];
        (floats, self.present.row_mut(row))
    }

    /// Stores a float.
    pub fn set_float(&mut self, row: u32, step: u32, value: f64) {
        effort(1);
        self.floats[row as usize * self.steps as usize + step as usize] = value;
        self.present.set(row, step);
        if self.histograms.is_some() {
            self.take_histogram(row, step);
        }
    }

    /// The float at a slot.
    pub fn float(&self, row: u32, step: u32) -> Option<f64> {
        effort(1);
        let slot = row as usize * self.steps as usize + step as usize;
        self.present.get(row, step).then(|| self.floats[slot])
    }

    /// Stores a histogram and makes the slot's float absent.
    pub fn set_histogram(&mut self, row: u32, step: u32, value: Arc<FloatHistogram>) {
        effort(1);
        self.present.clear(row, step);
        let (rows, steps) = (self.rows, self.steps);
        let side =
            self.histograms.get_or_insert_with(|| Box::new(HistogramSide::absent(rows, steps)));
        side.present.set(row, step);
        side.slots[row as usize * steps as usize + step as usize] = Some(value);
    }

    /// Stores a float or a histogram.
    pub fn set_sample(&mut self, row: u32, step: u32, sample: Sample) {
        match sample {
            Sample::Float(v) => self.set_float(row, step, v),
            Sample::Histogram(h) => self.set_histogram(row, step, h),
        }
    }

    /// What a slot holds, if anything.
    pub fn sample(&self, row: u32, step: u32) -> Option<Sample> {
        match self.float(row, step) {
            Some(v) => Some(Sample::Float(v)),
            None => self.histogram(row, step).cloned().map(Sample::Histogram),
        }
    }

    /// The histogram at a slot.
    pub fn histogram(&self, row: u32, step: u32) -> Option<&Arc<FloatHistogram>> {
        self.histograms.as_ref()?.slots[row as usize * self.steps as usize + step as usize].as_ref()
    }

    /// Removes and returns the histogram at a slot.
    pub fn take_histogram(&mut self, row: u32, step: u32) -> Option<Arc<FloatHistogram>> {
        effort(1);
        let slot = row as usize * self.steps as usize + step as usize;
        let side = self.histograms.as_mut()?;
        side.present.clear(row, step);
        side.slots[slot].take()
    }

    /// Makes a slot absent, whatever it held.
    pub fn clear_slot(&mut self, row: u32, step: u32) {
        self.present.clear(row, step);
        self.take_histogram(row, step);
    }

    /// Keeps only the slots of a row whose bit is set in `mask` (one word per 64 steps).
    pub fn mask_row(&mut self, row: u32, mask: &[u64]) {
        effort(mask.len());
        for (word, keep) in self.present.row_mut(row).iter_mut().zip(mask) {
            *word &= keep;
        }
        let Some(side) = &mut self.histograms else { return };
        for (word, keep) in side.present.row_mut(row).iter_mut().zip(mask) {
            *word &= keep;
        }
        let first = row as usize * self.steps as usize;
        for (step, slot) in side.slots[first..first + self.steps as usize].iter_mut().enumerate() {
            if mask[step / 64] >> (step % 64) & 1 == 0 {
                *slot = None;
            }
        }
    }

    /// True when some slot holds a histogram.
    pub fn has_histograms(&self) -> bool {
        self.histograms.as_ref().is_some_and(|side| side.slots.iter().any(Option::is_some))
    }

    /// Which steps of a row hold a float or a histogram, one word per 64 steps.
    pub fn occupied(&self, row: u32) -> impl Iterator<Item = u64> + '_ {
        effort(self.present.row(row).len());
        let histograms = self.histograms.as_ref().map(|side| side.present.row(row));
        self.present
            .row(row)
            .iter()
            .enumerate()
            .map(move |(i, word)| word | histograms.map_or(0, |words| words[i]))
    }

    /// The steps of a row that hold something, ascending.
    pub fn occupied_steps(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        self.occupied(row)
            .enumerate()
            .flat_map(|(i, word)| ones(word).map(move |b| i as u32 * 64 + b))
    }

    /// True when no slot of the row holds anything.
    pub fn row_is_absent(&self, row: u32) -> bool {
        self.occupied(row).all(|word| word == 0)
    }

    /// A copy of `rows` rows from row `from` on.
    pub fn copy_rows(&self, from: u32, rows: u32) -> Self {
        if from == 0 && rows == self.rows {
            return self.clone();
        }
        let steps = self.steps as usize;
        let slots = from as usize * steps..(from + rows) as usize * steps;
        Self {
            first: SeriesId(self.first.0 + from),
            rows,
            steps: self.steps,
            floats: self.floats[slots.clone()].to_vec(),
            present: self.present.copy_rows(from, rows),
            histograms: self.histograms.as_ref().map(|side| {
                let present = side.present.copy_rows(from, rows);
                Box::new(HistogramSide { present, slots: side.slots[slots].to_vec() })
            }),
        }
    }

    /// Number of slots that hold something.
    pub fn sample_count(&self) -> usize {
        (0..self.rows).flat_map(|row| self.occupied(row)).map(|w| w.count_ones() as usize).sum()
    }

    /// Bytes the block holds, for the memory budget.
    pub fn size_bytes(&self) -> usize {
        self.floats.len() * 8
            + self.rows as usize * (self.steps as usize).div_ceil(64) * 8
            + self.histograms.as_ref().map_or(0, |side| {
                side.slots.len() * 8
                    + side.slots.iter().flatten().map(|h| histogram_bytes(h)).sum::<usize>()
            })
    }
}

/// Bytes a histogram takes, as Prometheus counts them for its sample limit.
pub fn histogram_bytes(h: &FloatHistogram) -> usize {
    let buckets = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
    let spans = h.positive_spans.len() + h.negative_spans.len();
    168 + 8 * buckets + 8 * spans
}

/// Numbers of the set bits of a word, ascending.
fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_holds_a_float_or_a_histogram_never_both() {
        let mut block = SeriesBlock::absent(SeriesId(0), 2, 70);
        block.set_float(1, 69, 4.0);
        block.set_histogram(1, 69, Arc::new(FloatHistogram::default()));
        block.set_float(1, 3, f64::NAN);
        assert_eq!(block.float(1, 69), None);
        assert_eq!(block.occupied_steps(1).collect::<Vec<_>>(), [3, 69]);
        assert!(block.row_is_absent(0) && block.sample_count() == 2);
        block.set_float(1, 69, 5.0);
        assert_eq!(block.histogram(1, 69), None);
        block.mask_row(1, &[!0, 0]);
        assert_eq!(block.occupied_steps(1).collect::<Vec<_>>(), [3]);
    }
}
