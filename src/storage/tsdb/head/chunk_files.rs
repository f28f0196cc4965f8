//! `chunks_head/`: the head's finished chunks in files, byte for byte Prometheus' own, so
//! that they need no memory of the process and a start need not make them again. All they
//! hold is in the log too: what cannot be read here is read there.
//!
//! ```text
//! chunks_head/000001, 000002, ...   files of at most 128 MiB, consecutive
//!
//! file    magic 0x0130BC91, version 1, three zero bytes, chunks, zeros where none is yet
//! chunk   series 8B BE, first time 8B BE, last time 8B BE, encoding 1B, length uvarint,
//!         bytes, CRC32C 4B of all of it
//! ```
//! The highest bit of the encoding marks samples that came out of order. That log says, too,
//! from where on a file has what it named of a series before: see `late_map`.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::tsdb::block::MappedFile;
use crate::storage::tsdb::chunk::{Chunk, ChunkBytes, Encoding};
use crate::storage::tsdb::encoding::{Cursor, Put};
use crate::storage::tsdb::wal::record::Place;
use crate::storage::tsdb::wal::segment::{remove_file, sync_dir};

const MAGIC: u32 = 0x0130_BC91;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
/// Series, times and encoding.
const FIXED_BYTES: usize = 25;
const CRC_BYTES: usize = 4;
/// Room of a file; what it does not need goes when it is complete.
const FILE_BYTES: u64 = 128 << 20;
const OUT_OF_ORDER: u8 = 0x80;

/// Chunks of samples that came out of order: by their place, with the series.
pub(super) type LateChunks = HashMap<Place, (u64, Arc<Chunk>), FxBuildHasher>;

/// The chunks that files hold.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// By series, in time order.
    pub(super) by_series: HashMap<u64, Vec<Arc<Chunk>>, FxBuildHasher>,
    pub(super) late: LateChunks,
    pub(super) damage: Option<Damaged>,
    /// Number of the next file to write.
    next: u32,
}

/// Where files make no sense any more.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) why: String,
    /// Files after it.
    later: Vec<PathBuf>,
}

/// Reads the files of a directory up to damage. Chunks that end before `from_ms` are left
/// out: blocks have them.
pub(super) fn load(dir: &Path, from_ms: TimestampMs) -> Result<Loaded, StorageError> {
    let mut loaded = Loaded { next: 1, ..Loaded::default() };
    let files = list(dir)?;
    // Chunks of an encoding that is not known here, and what comes after them.
    let mut unknown: HashSet<u64, FxBuildHasher> = HashSet::default();
    for (i, (number, path)) in files.iter().enumerate() {
        let file = Arc::new(MappedFile::open(path)?);
        let in_order = i == 0 || files[i - 1].0 + 1 == *number;
        let read = match in_order {
            true => read_file(&file, *number, from_ms, &mut loaded, &mut unknown),
            false => Err((0, "the file before it is missing".to_owned())),
        };
        loaded.next = number + 1;
        if let Err((offset, why)) = read {
            let later = files[i + 1..].iter().map(|(_, path)| path.clone()).collect();
            loaded.damage = Some(Damaged { path: path.clone(), offset, why, later });
            break;
        }
    }
    Ok(loaded)
}

fn list(dir: &Path) -> Result<Vec<(u32, PathBuf)>, StorageError> {
    let failed = |e: &std::io::Error| StorageError::io(format!("list {}", dir.display()), e);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn read_file(
    file: &Arc<MappedFile>,
    number: u32,
    from_ms: TimestampMs,
    loaded: &mut Loaded,
    unknown: &mut HashSet<u64, FxBuildHasher>,
) -> Result<(), (u64, String)> {
    let bytes = file.bytes();
    if bytes.is_empty() {
        return Ok(());
    }
    let wrong = |at: usize, why: String| (at as u64, why);
    let header = bytes.get(..HEADER_BYTES).unwrap_or_default();
    if !header.starts_with(&MAGIC.to_be_bytes()) || header.get(4) != Some(&VERSION) {
        return Err(wrong(0, format!("it begins with {header:02x?}")));
    }
    let mut at = HEADER_BYTES;
    loop {
        let rest = &bytes[at..];
        if rest.iter().take(FIXED_BYTES + 6 + CRC_BYTES).all(|byte| *byte == 0) {
            return Ok(());
        }
        let short = |_| wrong(at, "it ends inside a chunk".to_owned());
        let mut c = Cursor::new(rest);
        let series = c.be64().map_err(short)?;
        let (min_ms, max_ms) = (c.be64().map_err(short)? as i64, c.be64().map_err(short)? as i64);
        let encoding = c.byte().map_err(short)?;
        let len = c.count(1).map_err(short)?;
        let start = at + rest.len() - c.remaining();
        c.take(len).map_err(short)?;
        let end = start + len;
        let stored = c.take(CRC_BYTES).map_err(short)?;
        let found = crc32c::crc32c(&bytes[at..end]);
        if stored != found.to_be_bytes() {
            return Err(wrong(
                at,
                format!("the checksum of a chunk is {found:08x}, not as it was written"),
            ));
        }
        if min_ms > max_ms {
            return Err(wrong(at, "a chunk ends before it begins".to_owned()));
        }
        let place = Place { file: number, offset: at as u32 };
        at = end + CRC_BYTES;
        let late = encoding & OUT_OF_ORDER != 0;
        if !late && (max_ms < from_ms || unknown.contains(&series)) {
            continue;
        }
        let bytes = ChunkBytes::mapped(file, number, start, len);
        match Encoding::of(encoding & !OUT_OF_ORDER) {
            Some(encoding) => {
                let chunk = Arc::new(Chunk { min_ms, max_ms, encoding, bytes });
                if late {
                    loaded.late.insert(place, (series, chunk));
                } else {
                    loaded.by_series.entry(series).or_default().push(chunk);
                }
            }
            None if late => {}
            None => drop(unknown.insert(series)),
        }
    }
}

impl Damaged {
    /// Cuts the file where it is sound, and removes those after it.
    pub(super) fn repair(&self) -> Result<(), StorageError> {
        let cut = |e| StorageError::io(format!("cut damaged {}", self.path.display()), &e);
        if self.offset < HEADER_BYTES as u64 {
            remove_file(&self.path)?;
        } else {
            let file = OpenOptions::new().write(true).open(&self.path).map_err(cut)?;
            file.set_len(self.offset).map_err(cut)?;
        }
        self.later.iter().try_for_each(|path| remove_file(path))
    }
}

/// Bytes of a chunk and what goes with it, at the most.
fn size_in_file(chunk: &Chunk) -> u64 {
    (FIXED_BYTES + 5 + chunk.bytes.len() + CRC_BYTES) as u64
}

/// The file being written.
#[derive(Debug)]
struct Current {
    number: u32,
    path: PathBuf,
    file: File,
    map: Arc<MappedFile>,
    len: u64,
}

/// Writes chunks to files.
#[derive(Debug)]
pub(super) struct ChunkFiles {
    dir: PathBuf,
    next: u32,
    current: Option<Current>,
}

impl ChunkFiles {
    /// Goes on after the files that were loaded, the damaged ones less.
    pub(super) fn new(dir: &Path, loaded: &Loaded) -> Self {
        let removed = loaded.damage.as_ref().is_some_and(|d| d.offset < HEADER_BYTES as u64);
        Self { dir: dir.to_owned(), next: loaded.next - u32::from(removed), current: None }
    }

    /// Writes chunks of series; gives them as they are in the file, in the same order.
    pub(super) fn write(
        &mut self,
        chunks: &[(u64, Arc<Chunk>)],
    ) -> Result<Vec<Arc<Chunk>>, StorageError> {
        let written = self.write_marked(chunks, 0)?;
        Ok(written.into_iter().map(|(chunk, _)| chunk).collect())
    }

    /// The same of samples that came out of order, with the place of each.
    pub(super) fn write_late(
        &mut self,
        chunks: &[(u64, Arc<Chunk>)],
    ) -> Result<Vec<(Arc<Chunk>, Place)>, StorageError> {
        self.write_marked(chunks, OUT_OF_ORDER)
    }

    fn write_marked(
        &mut self,
        chunks: &[(u64, Arc<Chunk>)],
        mark: u8,
    ) -> Result<Vec<(Arc<Chunk>, Place)>, StorageError> {
        let mut written = Vec::with_capacity(chunks.len());
        let mut rest = chunks;
        while !rest.is_empty() {
            let taken = self.write_some(rest, mark, &mut written)?;
            rest = &rest[taken..];
        }
        Ok(written)
    }

    /// Writes as many as have room in the file.
    fn write_some(
        &mut self,
        chunks: &[(u64, Arc<Chunk>)],
        mark: u8,
        written: &mut Vec<(Arc<Chunk>, Place)>,
    ) -> Result<usize, StorageError> {
        let full = self.current.as_ref().is_some_and(|c| {
            c.len + chunks.first().map_or(0, |(_, c)| size_in_file(c)) > FILE_BYTES
        });
        if full {
            self.complete()?;
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let current = Current::create(&self.dir, self.next)?;
                self.next += 1;
                self.current.insert(current)
            }
        };
        let mut buffer = Vec::new();
        let mut taken = 0;
        for (series, chunk) in chunks {
            if current.len + buffer.len() as u64 + size_in_file(chunk) > FILE_BYTES && taken > 0 {
                break;
            }
            taken += 1;
            let begin = buffer.len();
            buffer.put_be64(*series);
            buffer.put_be64(chunk.min_ms as u64);
            buffer.put_be64(chunk.max_ms as u64);
            buffer.push(chunk.encoding as u8 | mark);
            buffer.put_uvarint(chunk.bytes.len() as u64);
            let start = current.len as usize + buffer.len();
            buffer.extend_from_slice(&chunk.bytes);
            let crc = crc32c::crc32c(&buffer[begin..]);
            buffer.extend_from_slice(&crc.to_be_bytes());
            let bytes = ChunkBytes::mapped(&current.map, current.number, start, chunk.bytes.len());
            let place = Place { file: current.number, offset: current.len as u32 + begin as u32 };
            written.push((Arc::new(Chunk { bytes, ..Chunk::clone(chunk) }), place));
        }
        current.file.write_all_at(&buffer, current.len).map_err(|e| {
            StorageError::io(format!("write head chunks to {}", current.path.display()), &e)
        })?;
        current.len += buffer.len() as u64;
        Ok(taken)
    }

    /// False when the file being written has to be completed for these, which waits for the
    /// disk.
    pub(super) fn has_room(&self, chunks: &[(u64, Arc<Chunk>)]) -> bool {
        let bytes: u64 = chunks.iter().map(|(_, chunk)| size_in_file(chunk)).sum();
        self.current.as_ref().is_none_or(|current| current.len + bytes <= FILE_BYTES)
    }

    /// Completes the file being written when there is little room in it, so that whoever must
    /// not wait for the disk finds room in the next one.
    pub(super) fn complete_if_nearly_full(&mut self) -> Result<(), StorageError> {
        let nearly = |current: &Current| current.len > FILE_BYTES - FILE_BYTES / 16;
        if self.current.as_ref().is_some_and(nearly) { self.complete() } else { Ok(()) }
    }

    /// Completes the file being written; the next chunk begins another one.
    pub(super) fn complete(&mut self) -> Result<(), StorageError> {
        let Some(current) = self.current.take() else { return Ok(()) };
        // What was read through the map lies before the new end.
        let done = current.file.set_len(current.len).and_then(|()| current.file.sync_all());
        done.map_err(|e| StorageError::io(format!("complete {}", current.path.display()), &e))
    }

    /// Removes files before one that is still needed; `None` when none is.
    pub(super) fn remove_before(&mut self, needed: Option<u32>) -> Result<(), StorageError> {
        self.complete()?;
        for (number, path) in list(&self.dir)? {
            if needed.is_none_or(|needed| number < needed) {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Bytes of all files, as far as they are written.
    pub(super) fn size_bytes(&self) -> u64 {
        let Ok(files) = list(&self.dir) else { return 0 };
        let current = self.current.as_ref();
        let len = |(number, path): (u32, PathBuf)| match current {
            Some(current) if current.number == number => current.len,
            _ => fs::metadata(path).map_or(0, |m| m.len()),
        };
        files.into_iter().map(len).sum()
    }
}

impl Current {
    fn create(dir: &Path, number: u32) -> Result<Self, StorageError> {
        let path = dir.join(format!("{number:06}"));
        let failed = |e| StorageError::io(format!("create {}", path.display()), &e);
        let mut header = MAGIC.to_be_bytes().to_vec();
        header.extend([VERSION, 0, 0, 0]);
        let options = OpenOptions::new().write(true).create(true).truncate(true).clone();
        let file = options.open(&path).map_err(failed)?;
        file.write_all_at(&header, 0).and_then(|()| file.set_len(FILE_BYTES)).map_err(failed)?;
        sync_dir(dir)?;
        let map = Arc::new(MappedFile::open(&path)?);
        Ok(Self { number, path, file, map, len: HEADER_BYTES as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(min_ms: i64, bytes: &[u8]) -> Arc<Chunk> {
        let bytes = ChunkBytes::from(Box::<[u8]>::from(bytes));
        Arc::new(Chunk { min_ms, max_ms: min_ms + 9, encoding: Encoding::Xor, bytes })
    }

    fn found(loaded: &Loaded) -> Vec<(u64, Vec<i64>)> {
        let mut all: Vec<_> = loaded
            .by_series
            .iter()
            .map(|(id, chunks)| (*id, chunks.iter().map(|c| c.min_ms).collect()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn chunks_are_read_as_they_were_written_up_to_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = ChunkFiles::new(dir.path(), &load(dir.path(), 0).expect("none yet"));
        let batch = [(7, chunk(0, b"one")), (9, chunk(5, b"")), (7, chunk(10, &[9; 300]))];
        let written = files.write(&batch).expect("a write");
        assert!(written.iter().zip(&batch).all(|(new, (_, old))| *new.bytes == *old.bytes));
        // Not complete, as after a crash: the rest of the file is zeros.
        let loaded = load(dir.path(), 0).expect("files");
        assert_eq!(found(&loaded), [(7, vec![0, 10]), (9, vec![5])]);
        assert_eq!(*loaded.by_series[&7][1].bytes, [9; 300]);
        assert_eq!(found(&load(dir.path(), 12).expect("files")), [(7, vec![10]), (9, vec![5])]);
        files.complete().expect("a file");
        files.write(&[(8, chunk(20, b"x"))]).expect("a write");
        files.complete().expect("a file");
        let path = dir.path().join("000001");
        let sound = fs::read(&path).expect("a file");
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).expect("a damaged file");
            let loaded = load(dir.path(), 0).expect("files");
            if (5..HEADER_BYTES).contains(&at) {
                continue;
            }
            let damage = loaded.damage.as_ref().unwrap_or_else(|| panic!("byte {at}"));
            assert!(damage.offset as usize <= at && !loaded.by_series.contains_key(&8));
            assert_eq!(damage.path, path);
        }
        let mut cut = sound.clone();
        cut.truncate(cut.len() - 1);
        fs::write(&path, &cut).expect("a damaged file");
        let loaded = load(dir.path(), 0).expect("files");
        assert_eq!(found(&loaded), [(7, vec![0]), (9, vec![5])]);
        loaded.damage.as_ref().expect("damage").repair().expect("a repair");
        let loaded = load(dir.path(), 0).expect("files");
        assert!(loaded.damage.is_none() && found(&loaded) == [(7, vec![0]), (9, vec![5])]);
        let mut files = ChunkFiles::new(dir.path(), &loaded);
        files.write(&[(8, chunk(20, b"x"))]).expect("a write");
        files.remove_before(Some(2)).expect("a removal");
        assert_eq!(found(&load(dir.path(), 0).expect("files")), [(8, vec![20])]);
    }
}
