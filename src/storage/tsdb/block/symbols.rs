//! The symbol table of an index: every text once, sorted; series name texts by their place
//! in it. Kept in the map; of each `EVERY` texts the place of one is held in memory.

use crate::storage::StorageError;
use crate::storage::tsdb::encoding::Cursor;

use super::mapped::MappedFile;

const EVERY: usize = 32;

/// Where the symbols of a mapped index are.
#[derive(Debug)]
pub(super) struct Symbols {
    marks: Vec<usize>,
    count: usize,
}

impl Symbols {
    /// Reads the table that stands at `at`, checksum and all.
    pub(super) fn read(file: &MappedFile, at: usize) -> Result<Self, StorageError> {
        let content = file.section(at)?;
        let start = at + 4;
        let (count, texts) = content
            .split_first_chunk::<4>()
            .ok_or_else(|| file.corrupt(start, "the symbol table has no count"))?;
        let count = u32::from_be_bytes(*count) as usize;
        let mut cursor = Cursor::new(texts);
        let mut marks = Vec::with_capacity((count / EVERY + 1).min(texts.len()));
        for i in 0..count {
            let place = start + content.len() - cursor.remaining();
            if i % EVERY == 0 {
                marks.push(place);
            }
            cursor.str().map_err(|e| file.corrupt(place, format!("symbol {i}: {e}")))?;
        }
        Ok(Self { marks, count })
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The text of a number.
    pub(super) fn get<'f>(
        &self,
        file: &'f MappedFile,
        number: u32,
    ) -> Result<&'f str, StorageError> {
        let n = number as usize;
        if n >= self.count {
            return Err(file.corrupt(0, format!("there is no symbol {number}")));
        }
        let mut texts = self.texts_from(file, n / EVERY)?;
        let text = texts.nth(n % EVERY);
        text.unwrap_or_else(|| Err(file.corrupt(0, format!("there is no symbol {number}"))))
    }

    /// The number of a text, if it is in the table.
    pub(super) fn find(&self, file: &MappedFile, text: &str) -> Result<Option<u32>, StorageError> {
        // The last mark whose text is not greater.
        let (mut low, mut high) = (0, self.marks.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.texts_from(file, middle)?.next().transpose()? {
                Some(found) if found <= text => low = middle + 1,
                _ => high = middle,
            }
        }
        let Some(mark) = low.checked_sub(1) else { return Ok(None) };
        for (i, found) in self.texts_from(file, mark)?.take(EVERY).enumerate() {
            match found?.cmp(text) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(u32::try_from(mark * EVERY + i).ok()),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// All texts, sorted.
    pub(super) fn iter<'f>(
        &self,
        file: &'f MappedFile,
    ) -> Result<impl Iterator<Item = Result<&'f str, StorageError>> + use<'f>, StorageError> {
        self.texts_from(file, 0)
    }

    fn texts_from<'f>(
        &self,
        file: &'f MappedFile,
        mark: usize,
    ) -> Result<impl Iterator<Item = Result<&'f str, StorageError>> + use<'f>, StorageError> {
        // Without a symbol there is no mark, and nothing to read.
        let at = self.marks.get(mark).copied().unwrap_or(0);
        let rest = file.bytes().get(at..).ok_or_else(|| file.corrupt(at, "no symbols here"))?;
        let mut cursor = Cursor::new(rest);
        let left = self.count - mark * EVERY;
        Ok((0..left).map(move |_| cursor.str().map_err(|e| file.corrupt(at, e))))
    }
}
