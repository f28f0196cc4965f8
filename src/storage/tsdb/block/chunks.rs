//! The chunk segments of a block.
//!
//! ```text
//! chunks/000001, 000002, ...   segments of up to 512 MiB, consecutive
//!
//! segment    magic 0x85BD40DD, version 1, three zeros, then chunks
//! chunk      len uvarint │ encoding 1B │ len bytes │ CRC32C of encoding and bytes, 4B
//! reference  number of the segment, from 0, in the upper 32 bits; offset in it in the lower
//! ```
//! What the bytes of a chunk mean is known to `tsdb::chunk`; here they pass untouched.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::StorageError;
use crate::storage::tsdb::disk::{Disk, sync_dir};
use crate::storage::tsdb::encoding::{Cursor, Put};

use super::mapped::{CRC_BYTES, MappedFile};
use super::output::Output;

const CHUNKS_MAGIC: u32 = 0x85BD_40DD;
const CHUNKS_VERSION: u8 = 1;
const HEADER_BYTES: u64 = 8;
/// Most bytes of a segment, unless one chunk needs more.
pub(crate) const SEGMENT_BYTES: u64 = 512 << 20;

/// An encoded chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawChunk<'a> {
    pub(crate) encoding: u8,
    pub(crate) bytes: &'a [u8],
}

impl RawChunk<'_> {
    /// Samples it says it holds: all encodings begin with that.
    pub(crate) fn samples(&self) -> u64 {
        self.bytes.first_chunk::<2>().map_or(0, |n| u64::from(u16::from_be_bytes(*n)))
    }
}

/// Writes segments one after the other.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    /// Number of the segment under way, from 0.
    number: u32,
    out: Option<Output>,
    header: Vec<u8>,
}

impl ChunkWriter {
    /// Makes the directory `chunks` in that of a block.
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        block: &Path,
        segment_bytes: u64,
    ) -> Result<Self, StorageError> {
        let dir = block.join("chunks");
        fs::create_dir(&dir)
            .map_err(|e| StorageError::io(format!("create {}", dir.display()), &e))?;
        let disk = Arc::clone(disk);
        Ok(Self { disk, dir, segment_bytes, number: 0, out: None, header: Vec::new() })
    }

    /// Writes a chunk and gives its reference.
    pub(super) fn write(&mut self, chunk: RawChunk<'_>) -> Result<u64, StorageError> {
        self.header.clear();
        self.header.put_uvarint(chunk.bytes.len() as u64);
        self.header.push(chunk.encoding);
        let size = (self.header.len() + chunk.bytes.len() + CRC_BYTES) as u64;
        if let Some(out) = &self.out
            && out.at() > HEADER_BYTES
            && out.at() + size > self.segment_bytes
        {
            self.complete()?;
            self.number += 1;
        }
        if self.out.is_none() {
            let mut out =
                Output::create(&*self.disk, &self.dir.join(format!("{:06}", self.number + 1)))?;
            out.write(&CHUNKS_MAGIC.to_be_bytes())?;
            out.write(&[CHUNKS_VERSION, 0, 0, 0])?;
            self.out = Some(out);
        }
        let out = self.out.as_mut().expect("BUG: a segment was just opened");
        let reference = u64::from(self.number) << 32 | out.at();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[chunk.encoding]), chunk.bytes);
        out.write(&self.header)?;
        out.write(chunk.bytes)?;
        out.write(&crc.to_be_bytes())?;
        Ok(reference)
    }

    fn complete(&mut self) -> Result<(), StorageError> {
        self.out.take().map_or(Ok(()), Output::finish)
    }

    /// Makes all segments durable.
    pub(super) fn finish(mut self) -> Result<(), StorageError> {
        self.complete()?;
        sync_dir(&*self.disk, &self.dir)
    }
}

/// The chunks of a block.
#[derive(Debug)]
pub(super) struct ChunkReader {
    segments: Vec<MappedFile>,
}

impl ChunkReader {
    /// Maps all segments of a block. A block without chunks has none.
    pub(super) fn open(block: &Path) -> Result<Self, StorageError> {
        let dir = block.join("chunks");
        let listed = fs::read_dir(&dir)
            .map_err(|e| StorageError::io(format!("list directory {}", dir.display()), &e))?;
        let mut numbers: Vec<u32> = Vec::new();
        for entry in listed {
            let entry = entry
                .map_err(|e| StorageError::io(format!("list directory {}", dir.display()), &e))?;
            numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        let mut segments = Vec::with_capacity(numbers.len());
        for (i, number) in numbers.iter().enumerate() {
            let path = dir.join(format!("{number:06}"));
            if *number as usize != i + 1 {
                return Err(StorageError::Corrupt {
                    what: dir.display().to_string(),
                    offset: 0,
                    why: format!("segment {:06} is missing", i + 1),
                });
            }
            let file = MappedFile::open(&path)?;
            let magic = file.be32(0)?;
            if magic != CHUNKS_MAGIC {
                return Err(file.corrupt(0, format!("it begins with {magic:08x}, not 85bd40dd")));
            }
            let version = file.slice(4, 4)?[0];
            if version != CHUNKS_VERSION {
                return Err(file.corrupt(4, format!("unknown chunk segment version {version}")));
            }
            segments.push(file);
        }
        Ok(Self { segments })
    }

    /// The chunk of a reference, checked against its checksum.
    pub(super) fn get(&self, reference: u64) -> Result<RawChunk<'_>, StorageError> {
        let (number, at) = ((reference >> 32) as usize, (reference & 0xffff_ffff) as usize);
        let file = self.segments.get(number).ok_or_else(|| StorageError::Corrupt {
            what: "chunks of a block".to_owned(),
            offset: reference,
            why: format!("there is no segment {:06}", number + 1),
        })?;
        let rest = file.bytes().get(at..).unwrap_or_default();
        let mut cursor = Cursor::new(rest);
        let len = cursor.count(1).map_err(|e| file.corrupt(at, e))?;
        let start = at + rest.len() - cursor.remaining();
        let content = file.slice(start, len + 1)?;
        file.check(at, content, start + len + 1)?;
        Ok(RawChunk { encoding: content[0], bytes: &content[1..] })
    }

    /// Bytes of all segments.
    pub(super) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.len() as u64).sum()
    }
}
