//! Writing an index, in one go and bounded memory: symbols first, then series in label
//! order, then everything that can be computed from them by reading them again.
//!
//! ```text
//! magic 0xBAAAD700, version 2
//! symbols        len 4B │ count 4B │ { len uvarint, text }* │ CRC
//! series         each at a multiple of 16, by which it is referred to:
//!                len uvarint │ labels, chunks │ CRC
//!   labels       count uvarint, { name symbol uvarint, value symbol uvarint }*
//!   chunks       count uvarint; min varint, max - min uvarint, reference uvarint; then
//!                { min - previous max uvarint, max - min uvarint, reference delta varint }*
//! label indices  per name, at a multiple of 4: len 4B │ 1 4B │ count 4B │ value symbol 4B* │ CRC
//! postings       per name and value: len 4B │ count 4B │ series 4B* │ CRC; all series first
//! label table    len 4B │ count 4B │ { 1, name, offset uvarint }* │ CRC
//! postings table len 4B │ count 4B │ { 2, name, value, offset uvarint }* │ CRC
//! contents       offsets of the six parts, 8B each │ CRC
//! ```
//! Numbers are big-endian, checksums CRC32C of what is between the bars.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::{Labels, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::compact::Stop;
use crate::storage::tsdb::disk::Disk;
use crate::storage::tsdb::encoding::{Cursor, DecodeError, Put};

use super::mapped::{CRC_BYTES, MappedFile};
use super::output::Output;
use super::symbols::Symbols;

pub(super) const INDEX_MAGIC: u32 = 0xBAAA_D700;
pub(super) const INDEX_VERSION: u8 = 2;
pub(super) const HEADER_BYTES: usize = 5;
pub(super) const SERIES_ALIGN: usize = 16;
pub(super) const TOC_BYTES: usize = 6 * 8 + CRC_BYTES;

/// Postings sorted in memory at once, 16 bytes each. More when one label name has more.
const POSTINGS_PER_PASS: u64 = 1 << 21;
/// Texts whose numbers are remembered.
const REMEMBERED_MAX: usize = 1 << 15;
/// Bytes of one posting list's entry on its way into the tables.
const ENTRY_BYTES: usize = 16;

/// A chunk of a series, as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkMeta {
    pub(crate) min_ms: TimestampMs,
    pub(crate) max_ms: TimestampMs,
    /// Segment and offset, see `ChunkReader`.
    pub(crate) reference: u64,
}

/// See the module. Call `add` in label order, then `finish`.
#[derive(Debug)]
pub(super) struct IndexWriter {
    disk: Arc<dyn Disk>,
    out: Output,
    dir: PathBuf,
    /// The beginning of the file, symbols included.
    head: MappedFile,
    symbols: Symbols,
    numbers: FxHashMap<Box<str>, u32>,
    series_at: u64,
    series_count: u64,
    /// Series that carry each label name, by its symbol.
    names: BTreeMap<u32, u64>,
    last: Option<Labels>,
    buffer: Vec<u8>,
}

impl IndexWriter {
    /// Starts `index` in a directory. `symbols` are sorted and each there once; every name
    /// and value of the series to come must be among them.
    pub(super) fn create<S: AsRef<str>>(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        symbols: impl Iterator<Item = Result<S, StorageError>>,
    ) -> Result<Self, StorageError> {
        let path = dir.join("index");
        let mut out = Output::create(&**disk, &path)?;
        out.write(&INDEX_MAGIC.to_be_bytes())?;
        out.write(&[INDEX_VERSION])?;
        write_symbols(&**disk, &mut out, dir, symbols)?;
        out.flush()?;
        let head = MappedFile::open(&path)?;
        let symbols = Symbols::read(&head, HEADER_BYTES)?;
        out.align(SERIES_ALIGN as u64)?;
        Ok(Self {
            disk: Arc::clone(disk),
            series_at: out.at(),
            out,
            dir: dir.to_owned(),
            head,
            symbols,
            numbers: FxHashMap::default(),
            series_count: 0,
            names: BTreeMap::new(),
            last: None,
            buffer: Vec::new(),
        })
    }

    /// Adds a series with its chunks in time order.
    pub(super) fn add(
        &mut self,
        labels: &Labels,
        chunks: &[ChunkMeta],
    ) -> Result<(), StorageError> {
        if self.last.as_ref().is_some_and(|last| last >= labels) {
            return Err(StorageError::Unsupported(format!(
                "BUG: series {labels} was added out of order to {}",
                self.out.path().display()
            )));
        }
        let mut entry = std::mem::take(&mut self.buffer);
        entry.clear();
        entry.put_uvarint(labels.len() as u64);
        for (name, value) in labels.iter() {
            let name = self.number(name)?;
            *self.names.entry(name).or_default() += 1;
            entry.put_uvarint(u64::from(name));
            entry.put_uvarint(u64::from(self.number(value)?));
        }
        put_chunks(&mut entry, chunks);
        self.out.align(SERIES_ALIGN as u64)?;
        let mut len = Vec::with_capacity(5);
        len.put_uvarint(entry.len() as u64);
        self.out.write(&len)?;
        self.out.write(&entry)?;
        self.out.write(&crc32c::crc32c(&entry).to_be_bytes())?;
        self.buffer = entry;
        self.series_count += 1;
        self.last = Some(labels.clone());
        Ok(())
    }

    fn number(&mut self, text: &str) -> Result<u32, StorageError> {
        if let Some(number) = self.numbers.get(text) {
            return Ok(*number);
        }
        let number = self.symbols.find(&self.head, text)?.ok_or_else(|| {
            StorageError::Unsupported(format!("BUG: {text:?} is not among the symbols"))
        })?;
        if self.numbers.len() >= REMEMBERED_MAX {
            self.numbers.clear();
        }
        self.numbers.insert(text.into(), number);
        Ok(number)
    }

    /// Writes what follows the series, and makes the file durable.
    /// Fails as soon as `stop` is set: with millions of series it takes minutes.
    pub(super) fn finish(mut self, stop: &Stop) -> Result<(), StorageError> {
        let series_end = self.out.at();
        self.out.flush()?;
        let file = MappedFile::open(self.out.path())?;
        let lists = self.write_postings(&file, series_end as usize, stop)?;
        let mut toc = vec![HEADER_BYTES as u64, self.series_at];
        self.out.align(4)?;
        toc.push(self.out.at());
        let label_indices = self.write_label_indices(&lists, stop)?;
        toc.push(0);
        toc.push(self.out.at());
        let postings_at = self.out.at();
        append_file(&mut self.out, &lists.postings, stop)?;
        toc[3] = self.out.at();
        self.write_label_table(&label_indices)?;
        toc.push(self.out.at());
        self.write_postings_table(&lists, postings_at, stop)?;
        let mut contents = Vec::with_capacity(TOC_BYTES);
        toc.iter().for_each(|offset| contents.put_be64(*offset));
        let crc = crc32c::crc32c(&contents);
        contents.extend_from_slice(&crc.to_be_bytes());
        self.out.write(&contents)?;
        self.out.finish()?;
        lists.remove()
    }

    /// Computes the lists of all labels, some names at a time, into files of their own: what
    /// stands before them in the index is known only once they are.
    fn write_postings(
        &self,
        file: &MappedFile,
        end: usize,
        stop: &Stop,
    ) -> Result<Lists, StorageError> {
        let mut lists = Lists {
            postings: self.dir.join("postings.tmp"),
            entries: self.dir.join("entries.tmp"),
        };
        let mut postings = Output::create(&*self.disk, &lists.postings)?;
        let mut entries = Output::create(&*self.disk, &lists.entries)?;
        let start = self.series_at as usize;
        let mut all = postings.begin_section()?;
        all.write(&mut postings, &count_of(self.series_count)?)?;
        for_series(file, start, end, stop, |series, _| {
            all.write(&mut postings, &series.to_be_bytes())
        })?;
        all.end(&mut postings)?;
        let mut names = self.names.iter().peekable();
        let per_pass = POSTINGS_PER_PASS.max(self.series_count);
        while names.peek().is_some() {
            let mut size = 0;
            let mut pass = Vec::new();
            while let Some((name, count)) =
                names.next_if(|(_, count)| size == 0 || size + **count <= per_pass)
            {
                size += count;
                pass.push(*name);
            }
            let (first, last) = (pass[0], pass[pass.len() - 1]);
            // Name and value, and the series: sorted stably by the former, which leaves the
            // series in order.
            let mut found: Vec<(u64, u32)> = Vec::with_capacity(size as usize);
            for_series(file, start, end, stop, |series, labels| {
                for (name, value) in labels {
                    if (first..=last).contains(name) {
                        found.push((u64::from(*name) << 32 | u64::from(*value), series));
                    }
                }
                Ok(())
            })?;
            stop.check()?;
            found.sort_by_key(|(label, _)| *label);
            for list in found.chunk_by(|a, b| a.0 == b.0) {
                stop.check()?;
                let mut entry = Vec::with_capacity(ENTRY_BYTES);
                entry.put_be64(list[0].0);
                entry.put_be64(postings.at());
                entries.write(&entry)?;
                let mut content = Vec::with_capacity(4 * list.len() + 4);
                content.extend_from_slice(&count_of(list.len() as u64)?);
                for (_, series) in list {
                    content.extend_from_slice(&series.to_be_bytes());
                }
                let len = count_of(content.len() as u64)?;
                postings.write(&len)?;
                postings.write(&content)?;
                postings.write(&crc32c::crc32c(&content).to_be_bytes())?;
            }
        }
        postings.flush()?;
        entries.flush()?;
        lists.postings = postings.path().to_owned();
        Ok(lists)
    }

    /// Values per name, which older versions of Prometheus look at. Returns where each is.
    fn write_label_indices(
        &mut self,
        lists: &Lists,
        stop: &Stop,
    ) -> Result<Vec<(u32, u64)>, StorageError> {
        let mut places = Vec::new();
        let mut values: Vec<u32> = Vec::new();
        let mut entries = lists.entries()?.peekable();
        while let Some(entry) = entries.next() {
            let (name, value, _) = entry?;
            stop.check()?;
            values.push(value);
            if entries.peek().is_some_and(|next| matches!(next, Ok((n, ..)) if *n == name)) {
                continue;
            }
            places.push((name, self.out.at()));
            let mut section = self.out.begin_section()?;
            section.write(&mut self.out, &count_of(1)?)?;
            section.write(&mut self.out, &count_of(values.len() as u64)?)?;
            for value in values.drain(..) {
                section.write(&mut self.out, &value.to_be_bytes())?;
            }
            section.end(&mut self.out)?;
        }
        Ok(places)
    }

    fn write_label_table(&mut self, label_indices: &[(u32, u64)]) -> Result<(), StorageError> {
        let mut section = self.out.begin_section()?;
        section.write(&mut self.out, &count_of(label_indices.len() as u64)?)?;
        let mut entry = Vec::new();
        for (name, at) in label_indices {
            entry.clear();
            entry.push(1);
            entry.put_str(self.symbols.get(&self.head, *name)?);
            entry.put_uvarint(*at);
            section.write(&mut self.out, &entry)?;
        }
        section.end(&mut self.out)
    }

    fn write_postings_table(
        &mut self,
        lists: &Lists,
        base: u64,
        stop: &Stop,
    ) -> Result<(), StorageError> {
        let bytes = fs::metadata(&lists.entries)
            .map_err(|e| StorageError::io(format!("look at {}", lists.entries.display()), &e))?
            .len();
        let mut section = self.out.begin_section()?;
        section.write(&mut self.out, &count_of(bytes / ENTRY_BYTES as u64 + 1)?)?;
        let mut entry = vec![2, 0, 0];
        entry.put_uvarint(base);
        section.write(&mut self.out, &entry)?;
        for list in lists.entries()? {
            let (name, value, at) = list?;
            stop.check()?;
            entry.clear();
            entry.push(2);
            entry.put_str(self.symbols.get(&self.head, name)?);
            entry.put_str(self.symbols.get(&self.head, value)?);
            entry.put_uvarint(base + at);
            section.write(&mut self.out, &entry)?;
        }
        section.end(&mut self.out)
    }
}

/// Counts the symbols on their way through a file of their own, for the count comes first.
fn write_symbols<S: AsRef<str>>(
    disk: &dyn Disk,
    out: &mut Output,
    dir: &Path,
    symbols: impl Iterator<Item = Result<S, StorageError>>,
) -> Result<(), StorageError> {
    let path = dir.join("symbols.tmp");
    let mut texts = Output::create(disk, &path)?;
    let mut count = 0u64;
    let mut buffer = Vec::new();
    for symbol in symbols {
        buffer.clear();
        buffer.put_str(symbol?.as_ref());
        texts.write(&buffer)?;
        count += 1;
    }
    texts.flush()?;
    let mut section = out.begin_section()?;
    section.write(out, &count_of(count)?)?;
    for_parts(&path, |part| section.write(out, part))?;
    section.end(out)?;
    remove(&path)
}

/// A count or length as the format has it.
fn count_of(n: u64) -> Result<[u8; 4], StorageError> {
    u32::try_from(n).map(u32::to_be_bytes).map_err(|_| {
        StorageError::Unsupported(format!("{n} entries are more than a block's index can hold"))
    })
}

/// The chunks of a series as its entry has them.
fn put_chunks(entry: &mut Vec<u8>, chunks: &[ChunkMeta]) {
    entry.put_uvarint(chunks.len() as u64);
    let mut last: Option<&ChunkMeta> = None;
    for chunk in chunks {
        match last {
            None => entry.put_varint(chunk.min_ms),
            Some(last) => entry.put_uvarint(chunk.min_ms.wrapping_sub(last.max_ms) as u64),
        }
        entry.put_uvarint(chunk.max_ms.wrapping_sub(chunk.min_ms) as u64);
        match last {
            None => entry.put_uvarint(chunk.reference),
            Some(last) => entry.put_varint(chunk.reference.wrapping_sub(last.reference) as i64),
        }
        last = Some(chunk);
    }
}

/// Reads the series that were just written: their references and label symbols.
fn for_series(
    file: &MappedFile,
    start: usize,
    end: usize,
    stop: &Stop,
    mut each: impl FnMut(u32, &[(u32, u32)]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut labels = Vec::new();
    let mut at = start;
    while at < end {
        stop.check()?;
        let (content_at, content) = file.entry(at)?;
        let mut cursor = Cursor::new(content);
        read_label_symbols(&mut cursor, &mut labels).map_err(|e| file.corrupt(at, e))?;
        let series = u32::try_from(at / SERIES_ALIGN).map_err(|_| {
            StorageError::Unsupported("the series of a block take more than 64 GiB".to_owned())
        })?;
        each(series, &labels)?;
        at = (content_at + content.len() + CRC_BYTES).next_multiple_of(SERIES_ALIGN);
    }
    Ok(())
}

/// Reads the labels of a series' entry.
pub(super) fn read_label_symbols(
    cursor: &mut Cursor<'_>,
    out: &mut Vec<(u32, u32)>,
) -> Result<(), DecodeError> {
    out.clear();
    let narrow = |n: u64| u32::try_from(n).map_err(|_| DecodeError::Overflow);
    for _ in 0..cursor.count(2)? {
        out.push((narrow(cursor.uvarint()?)?, narrow(cursor.uvarint()?)?));
    }
    Ok(())
}

/// Files on the way to postings and tables.
struct Lists {
    postings: PathBuf,
    /// Per list: name symbol, value symbol, offset in `postings`.
    entries: PathBuf,
}

impl Lists {
    fn entries(
        &self,
    ) -> Result<impl Iterator<Item = Result<(u32, u32, u64), StorageError>> + use<>, StorageError>
    {
        let path = self.entries.clone();
        let file = fs::File::open(&path)
            .map_err(|e| StorageError::io(format!("open {}", path.display()), &e))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut next = move || {
            let mut entry = [0; ENTRY_BYTES];
            match file.read_exact(&mut entry) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(e) => return Err(StorageError::io(format!("read {}", path.display()), &e)),
            }
            let mut cursor = Cursor::new(&entry);
            let whole = |e| StorageError::Unsupported(format!("BUG: an entry of 16 bytes: {e}"));
            let label = cursor.be64().map_err(whole)?;
            let at = cursor.be64().map_err(whole)?;
            Ok(Some(((label >> 32) as u32, label as u32, at)))
        };
        Ok(std::iter::from_fn(move || next().transpose()))
    }

    fn remove(&self) -> Result<(), StorageError> {
        remove(&self.postings)?;
        remove(&self.entries)
    }
}

fn append_file(out: &mut Output, path: &Path, stop: &Stop) -> Result<(), StorageError> {
    for_parts(path, |part| {
        stop.check()?;
        out.write(part)
    })
}

/// Reads a file part by part.
fn for_parts(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let failed = |e: &std::io::Error| StorageError::io(format!("read {}", path.display()), e);
    let mut file = fs::File::open(path).map_err(|e| failed(&e))?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(|e| failed(&e))? {
            0 => return Ok(()),
            n => each(&buffer[..n])?,
        }
    }
}

fn remove(path: &Path) -> Result<(), StorageError> {
    fs::remove_file(path).map_err(|e| StorageError::io(format!("remove {}", path.display()), &e))
}
