//! Reading an index from the map. The layout is drawn in `index_writer`.
//!
//! When a block is opened, the contents, the symbols and the table of postings are checked
//! against their checksums; a list or a series is when it is read. Held in memory are, of
//! symbols and of each label's values, the places of every 32nd.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::{Labels, Matcher};
use crate::storage::StorageError;
use crate::storage::tsdb::encoding::{Cursor, DecodeError};
use crate::storage::tsdb::index::Lists;

use super::index_writer::{
    ChunkMeta, INDEX_MAGIC, INDEX_VERSION, SERIES_ALIGN, TOC_BYTES, read_label_symbols,
};
use super::mapped::{CRC_BYTES, MappedFile};
use super::symbols::Symbols;

const EVERY: usize = 32;

/// The values of one label in the table of postings.
#[derive(Debug, Default)]
struct Values {
    /// Places of every 32nd entry in the file.
    marks: Vec<usize>,
    count: usize,
    /// Of the name; `None` when no series carries it.
    symbol: Option<u32>,
}

/// The index of a block.
#[derive(Debug)]
pub(crate) struct IndexReader {
    file: MappedFile,
    symbols: Symbols,
    names: BTreeMap<Box<str>, Values>,
    name_by_symbol: FxHashMap<u32, Box<str>>,
    /// The list of all series.
    all_at: usize,
    /// End of the part that is read by offset.
    series: std::ops::Range<usize>,
}

/// An entry of the table of postings.
struct Entry<'a> {
    name: &'a str,
    value: &'a str,
    at: usize,
}

fn read_entry<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>, DecodeError> {
    if cursor.byte()? != 2 {
        return Err(DecodeError::Buckets);
    }
    let (name, value, at) = (cursor.str()?, cursor.str()?, cursor.uvarint()?);
    Ok(Entry { name, value, at: usize::try_from(at).map_err(|_| DecodeError::Overflow)? })
}

impl IndexReader {
    /// Opens the file `index` of a block.
    pub(super) fn open(block: &Path) -> Result<Self, StorageError> {
        let file = MappedFile::open(&block.join("index"))?;
        let magic = file.be32(0)?;
        if magic != INDEX_MAGIC {
            return Err(file.corrupt(0, format!("it begins with {magic:08x}, not baaad700")));
        }
        let version = file.slice(4, 1)?[0];
        if version != INDEX_VERSION {
            return Err(file.corrupt(4, format!("unknown index file version {version}")));
        }
        let [symbols_at, series_at, labels_at, _, _, table_at] = read_contents(&file)?;
        let symbols = Symbols::read(&file, symbols_at)?;
        let mut reader = Self {
            symbols,
            names: BTreeMap::new(),
            name_by_symbol: FxHashMap::default(),
            all_at: 0,
            series: series_at..labels_at.max(series_at),
            file,
        };
        reader.read_table(table_at)?;
        Ok(reader)
    }

    fn read_table(&mut self, table_at: usize) -> Result<(), StorageError> {
        let file = &self.file;
        let content = file.section(table_at)?;
        let end = table_at + 4 + content.len();
        let (count, entries) = content
            .split_first_chunk::<4>()
            .ok_or_else(|| file.corrupt(table_at, "the table of postings has no count"))?;
        let mut cursor = Cursor::new(entries);
        let mut values: Option<(&str, Values)> = None;
        let mut done = Vec::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let place = end - cursor.remaining();
            let entry = read_entry(&mut cursor).map_err(|e| file.corrupt(place, why(e)))?;
            if entry.name.is_empty() && entry.value.is_empty() {
                self.all_at = entry.at;
                continue;
            }
            if values.as_ref().is_none_or(|(name, _)| *name != entry.name) {
                done.extend(values.replace((entry.name, Values::default())));
            }
            if let Some((_, values)) = &mut values {
                if values.count % EVERY == 0 {
                    values.marks.push(place);
                }
                values.count += 1;
            }
        }
        done.extend(values);
        for (name, mut values) in done {
            values.symbol = self.symbols.find(&self.file, name)?;
            if let Some(symbol) = values.symbol {
                self.name_by_symbol.insert(symbol, name.into());
            }
            self.names.insert(name.into(), values);
        }
        Ok(())
    }

    /// Label names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// All texts that series are made of, sorted.
    pub(super) fn symbols(
        &self,
    ) -> Result<impl Iterator<Item = Result<&str, StorageError>>, StorageError> {
        self.symbols.iter(&self.file)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Bytes of the label index and the symbols that an index of values takes in memory.
    pub(crate) fn symbol_table_bytes(&self) -> u64 {
        8 * (self.symbols.len().div_ceil(EVERY)
            + self.names.values().map(|v| v.marks.len()).sum::<usize>()) as u64
    }

    /// Calls `each` for the values of a label in order, with the place of their lists, until
    /// it says to stop by `false`.
    pub(crate) fn for_values(
        &self,
        name: &str,
        mut each: impl FnMut(&str, ListAt) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        let Some(values) = self.names.get(name) else { return Ok(()) };
        let first = values.marks.first().copied().unwrap_or_default();
        let mut cursor = self.cursor(first);
        for _ in 0..values.count {
            let entry = read_entry(&mut cursor).map_err(|e| self.file.corrupt(first, why(e)))?;
            if !each(entry.value, ListAt(entry.at))? {
                break;
            }
        }
        Ok(())
    }

    /// Where the list of a label's value is; `None` when no series carries it.
    fn find(&self, name: &str, value: &str) -> Result<Option<ListAt>, StorageError> {
        let Some(values) = self.names.get(name) else { return Ok(None) };
        let read = |cursor: &mut Cursor<'_>, at: usize| {
            let entry = read_entry(cursor).map_err(|e| self.file.corrupt(at, why(e)))?;
            Ok::<_, StorageError>((entry.value.cmp(value), ListAt(entry.at)))
        };
        let (mut low, mut high) = (0, values.marks.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let at = values.marks[middle];
            if read(&mut self.cursor(at), at)?.0.is_le() { low = middle + 1 } else { high = middle }
        }
        let Some(mark) = low.checked_sub(1) else { return Ok(None) };
        let mut cursor = self.cursor(values.marks[mark]);
        for _ in 0..EVERY.min(values.count - mark * EVERY) {
            let (order, at) = read(&mut cursor, values.marks[mark])?;
            if order.is_ge() {
                return Ok(order.is_eq().then_some(at));
            }
        }
        Ok(None)
    }

    fn cursor(&self, at: usize) -> Cursor<'_> {
        Cursor::new(self.file.bytes().get(at..).unwrap_or_default())
    }

    /// Reads a list.
    pub(crate) fn read_list(&self, ListAt(at): ListAt) -> Result<Vec<u64>, StorageError> {
        let content = self.file.section(at)?;
        let bad = || self.file.corrupt(at, "a list of series is not as long as it says");
        let (count, series) = content.split_first_chunk::<4>().ok_or_else(bad)?;
        let (series, rest) = series.as_chunks::<4>();
        if series.len() != u32::from_be_bytes(*count) as usize || !rest.is_empty() {
            return Err(bad());
        }
        Ok(series.iter().map(|s| u64::from(u32::from_be_bytes(*s))).collect())
    }

    /// Reads a series: its labels, and its chunks into `chunks`.
    pub(crate) fn series(
        &self,
        series: u64,
        chunks: &mut Vec<ChunkMeta>,
    ) -> Result<Labels, StorageError> {
        let (at, mut cursor) = self.series_entry(series)?;
        let mut symbols = Vec::new();
        read_label_symbols(&mut cursor, &mut symbols).map_err(|e| self.file.corrupt(at, e))?;
        read_chunks(&mut cursor, chunks).map_err(|e| self.file.corrupt(at, e))?;
        let mut pairs: SmallVec<[(&str, &str); 24]> = SmallVec::new();
        for (name, value) in symbols {
            let name = match self.name_by_symbol.get(&name) {
                Some(name) => name,
                None => self.symbols.get(&self.file, name)?,
            };
            pairs.push((name, self.symbols.get(&self.file, value)?));
        }
        let sound = pairs.iter().all(|(_, value)| !value.is_empty());
        if sound && pairs.is_sorted_by(|a, b| a.0 < b.0) {
            return Ok(Labels::from_sorted_pairs(pairs.iter().copied()));
        }
        Ok(Labels::from_pairs(pairs))
    }

    fn series_entry(&self, series: u64) -> Result<(usize, Cursor<'_>), StorageError> {
        let at = usize::try_from(series).ok().and_then(|s| s.checked_mul(SERIES_ALIGN));
        let at = at.filter(|at| self.series.contains(at)).ok_or_else(|| {
            self.file.corrupt(self.series.start, format!("there is no series {series}"))
        })?;
        Ok((at, Cursor::new(self.file.entry(at)?.1)))
    }

    /// The value of a series' label, "" when it has none.
    fn value_of(&self, series: u64, name: &str) -> Result<&str, StorageError> {
        let Some(symbol) = self.names.get(name).and_then(|values| values.symbol) else {
            return Ok("");
        };
        let (at, mut cursor) = self.series_entry(series)?;
        let mut symbols = Vec::new();
        read_label_symbols(&mut cursor, &mut symbols).map_err(|e| self.file.corrupt(at, e))?;
        match symbols.iter().find(|(name, _)| *name == symbol) {
            Some((_, value)) => self.symbols.get(&self.file, *value),
            None => Ok(""),
        }
    }

    /// The value of a series' label.
    pub(crate) fn label_value(&self, series: u64, name: &str) -> Result<&str, StorageError> {
        self.value_of(series, name)
    }
}

/// Place of a list of series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListAt(usize);

impl Lists for IndexReader {
    type Error = StorageError;

    fn all(&self) -> Result<Cow<'_, [u64]>, StorageError> {
        if self.all_at == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        self.read_list(ListAt(self.all_at)).map(Cow::Owned)
    }

    fn all_len(&self) -> Result<usize, StorageError> {
        // As for `len`.
        if self.all_at == 0 { Ok(0) } else { Ok(self.file.be32(self.all_at + 4)? as usize) }
    }

    fn list(&self, name: &str, value: &str) -> Result<Cow<'_, [u64]>, StorageError> {
        match self.find(name, value)? {
            Some(at) => self.read_list(at).map(Cow::Owned),
            None => Ok(Cow::Borrowed(&[])),
        }
    }

    fn len(&self, name: &str, value: &str) -> Result<usize, StorageError> {
        // Only an estimate of effort hangs on it, so it is not worth the checksum.
        match self.find(name, value)? {
            Some(ListAt(at)) => Ok(self.file.be32(at.saturating_add(4))? as usize),
            None => Ok(0),
        }
    }

    fn value_count(&self, name: &str) -> usize {
        self.names.get(name).map_or(0, |values| values.count)
    }

    fn union(&self, name: &str, accepts: &dyn Fn(&str) -> bool) -> Result<Vec<u64>, StorageError> {
        let mut all = Vec::new();
        self.for_values(name, |value, at| {
            if accepts(value) {
                all.extend(self.read_list(at)?);
            }
            Ok(true)
        })?;
        all.sort();
        Ok(all)
    }

    fn union_of(&self, name: &str, values: &[String]) -> Result<Vec<u64>, StorageError> {
        let mut all = Vec::new();
        for value in values {
            all.extend_from_slice(&self.list(name, value)?);
        }
        all.sort();
        Ok(all)
    }

    fn satisfies(&self, series: u64, matcher: &Matcher) -> Result<bool, StorageError> {
        Ok(matcher.matches(self.value_of(series, &matcher.name)?))
    }
}

fn why(error: DecodeError) -> String {
    match error {
        DecodeError::Buckets => "an entry of the table of postings is not of two texts".to_owned(),
        error => format!("an entry of the table of postings: {error}"),
    }
}

/// Offsets of the six parts, from the end of the file.
fn read_contents(file: &MappedFile) -> Result<[usize; 6], StorageError> {
    let at = file.len().saturating_sub(TOC_BYTES);
    let content = file.slice(at, TOC_BYTES - CRC_BYTES)?;
    file.check(at, content, at + content.len())?;
    let mut parts = [0; 6];
    for (part, bytes) in parts.iter_mut().zip(content.as_chunks::<8>().0) {
        *part = usize::try_from(u64::from_be_bytes(*bytes))
            .ok()
            .filter(|offset| *offset <= file.len())
            .ok_or_else(|| file.corrupt(at, "a part begins behind the end of the file"))?;
    }
    Ok(parts)
}

/// Reads the chunks of a series' entry.
fn read_chunks(cursor: &mut Cursor<'_>, out: &mut Vec<ChunkMeta>) -> Result<(), DecodeError> {
    out.clear();
    let count = cursor.count(3)?;
    for i in 0..count {
        let last = out.last().copied();
        let min_ms = match last {
            None => cursor.varint()?,
            Some(last) => last.max_ms.wrapping_add(cursor.uvarint()? as i64),
        };
        let max_ms = min_ms.wrapping_add(cursor.uvarint()? as i64);
        let reference = match last {
            None => cursor.uvarint()?,
            Some(last) => last.reference.wrapping_add(cursor.varint()? as u64),
        };
        debug_assert_eq!(out.len(), i);
        out.push(ChunkMeta { min_ms, max_ms, reference });
    }
    Ok(())
}
