//! Reads the records of a segment and says precisely where and why it cannot go on.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use thiserror::Error;

use super::segment::Segment;
use super::{HEADER_BYTES, PAGE_BYTES, SNAPPY, ZSTD};
use crate::storage::StorageError;

/// Largest record that is decompressed; a claim of more is corruption.
const RECORD_BYTES_MAX: usize = 512 << 20;

/// Why a fragment cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Damage {
    #[error("it ends inside a record")]
    CutOff,
    #[error("non-zero bytes after the end of a page's records")]
    NotZero,
    #[error("unknown fragment type {0}")]
    UnknownType(u8),
    #[error("a fragment of type {0} where a record {1}")]
    OutOfSequence(u8, &'static str),
    #[error("the fragments of a record are packed differently")]
    PackedDifferently,
    #[error("a fragment of {0} bytes leaves its page")]
    TooLong(usize),
    #[error("checksum is {found:08x}, expected {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    #[error("cannot decompress a record: {0}")]
    Compression(String),
    #[error("a record cannot be decoded: {0}")]
    Record(String),
}

/// Why reading stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The bytes from the reader's `good` offset on make no sense.
    Damaged(Damage),
    /// The disk failed.
    Storage(StorageError),
}

/// Yields a segment's records in order.
pub(crate) struct SegmentReader {
    segment: Segment,
    file: File,
    page: Box<[u8]>,
    page_len: usize,
    pos: usize,
    /// Offset of the byte after the page.
    read: u64,
    good: u64,
    record: Vec<u8>,
    unpacked: Vec<u8>,
    snappy: snap::raw::Decoder,
}

impl SegmentReader {
    pub(crate) fn open(segment: &Segment) -> Result<Self, StorageError> {
        let file = File::open(&segment.path).map_err(|e| {
            StorageError::io(format!("open WAL segment {}", segment.path.display()), &e)
        })?;
        Ok(Self {
            segment: segment.clone(),
            file,
            page: vec![0; PAGE_BYTES].into_boxed_slice(),
            page_len: 0,
            pos: 0,
            read: 0,
            good: 0,
            record: Vec::new(),
            unpacked: Vec::new(),
            snappy: snap::raw::Decoder::new(),
        })
    }

    /// Offset up to which the segment is sound: where to cut it after an error. A record
    /// counts as sound when the next one is asked for, so whoever cannot decode a record
    /// finds the offset before it here.
    pub(crate) fn good(&self) -> u64 {
        self.good
    }

    /// Number of the segment.
    pub(crate) fn segment(&self) -> u32 {
        self.segment.index
    }

    /// Goes back to where the last sound record ended: more may have been written since.
    pub(crate) fn again(&mut self) -> Result<(), StorageError> {
        self.start_at(self.good)
    }

    /// Goes on from an offset at which a record, or the padding after one, begins.
    pub(crate) fn start_at(&mut self, offset: u64) -> Result<(), StorageError> {
        let in_page = offset % PAGE_BYTES as u64;
        self.file
            .seek(SeekFrom::Start(offset - in_page))
            .map_err(|e| StorageError::io(self.reading(), &e))?;
        self.read = offset - in_page;
        self.read_page().map_err(|e| match e {
            ReadError::Storage(e) => e,
            ReadError::Damaged(_) => unreachable!("BUG: reading bytes finds no damage"),
        })?;
        self.pos = self.page_len.min(in_page as usize);
        Ok(())
    }

    /// After damage: goes on with the next record that is sound, wherever in the segment it
    /// begins. False when there is none.
    pub(crate) fn resync(&mut self) -> Result<bool, StorageError> {
        let from = self.good + 1;
        let in_page = (from % PAGE_BYTES as u64) as usize;
        self.start_at(from - in_page as u64)?;
        let mut first = in_page;
        while self.page_len > 0 {
            let place = (first..self.page_len).find(|at| self.begins_at(*at));
            if let Some(place) = place {
                self.pos = place;
                self.good = self.read - (self.page_len - self.pos) as u64;
                return Ok(true);
            }
            let more = self.read_page().map_err(|e| match e {
                ReadError::Storage(e) => e,
                ReadError::Damaged(_) => unreachable!("BUG: reading bytes finds no damage"),
            })?;
            if !more {
                break;
            }
            first = 0;
        }
        Ok(false)
    }

    /// True when a fragment that is a record, or the first of one, stands at a place.
    fn begins_at(&self, at: usize) -> bool {
        let page = &self.page[at..self.page_len];
        let Some((header, rest)) = page.split_at_checked(HEADER_BYTES) else { return false };
        let len = usize::from(u16::from_be_bytes([header[1], header[2]]));
        let expected = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
        matches!(header[0] & 7, 1 | 2)
            && header[0] & !(7 | SNAPPY | ZSTD) == 0
            && len > 0
            && rest.get(..len).is_some_and(|bytes| crc32c::crc32c(bytes) == expected)
    }

    fn reading(&self) -> String {
        format!("read WAL segment {}", self.segment.path.display())
    }

    /// The next record, `None` at the segment's end.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.good = self.read - (self.page_len - self.pos) as u64;
        self.record.clear();
        // How the record that has begun is packed.
        let mut begun = None;
        let flags = loop {
            let inside = begun.is_some();
            let Some((kind, flags, start, len)) = self.next_fragment()? else {
                return if inside { Err(ReadError::Damaged(Damage::CutOff)) } else { Ok(None) };
            };
            let sequence = |kind| match inside {
                true => Damage::OutOfSequence(kind, "goes on"),
                false => Damage::OutOfSequence(kind, "begins"),
            };
            match (kind, inside) {
                (1 | 2, false) | (3 | 4, true) => {}
                _ => return Err(ReadError::Damaged(sequence(kind))),
            }
            // No checksum covers the flags.
            if *begun.get_or_insert(flags) != flags {
                return Err(ReadError::Damaged(Damage::PackedDifferently));
            }
            self.record.extend_from_slice(&self.page[start..start + len]);
            if kind == 1 || kind == 4 {
                break flags;
            }
        };
        let unpacked = self.unpack(flags).map_err(ReadError::Damaged)?;
        Ok(Some(if unpacked { &self.unpacked } else { &self.record }))
    }

    /// Type, flags, and the place in the page of the next fragment.
    fn next_fragment(&mut self) -> Result<Option<(u8, u8, usize, usize)>, ReadError> {
        loop {
            let left = self.page_len - self.pos;
            let short_page = self.page_len < PAGE_BYTES;
            if left == 0 || self.page[self.pos] & 7 == 0 || left < HEADER_BYTES {
                let rest = &self.page[self.pos..self.page_len];
                if rest.iter().any(|b| *b != 0) {
                    let damage = if short_page && left < HEADER_BYTES {
                        Damage::CutOff
                    } else {
                        Damage::NotZero
                    };
                    return Err(ReadError::Damaged(damage));
                }
                if !self.read_page()? {
                    return Ok(None);
                }
                continue;
            }
            let header = &self.page[self.pos..self.pos + HEADER_BYTES];
            let (kind, flags) = (header[0] & 7, header[0] & (SNAPPY | ZSTD));
            let packed_once = flags != SNAPPY | ZSTD;
            if kind > 4 || !packed_once || header[0] & !(7 | SNAPPY | ZSTD) != 0 {
                return Err(ReadError::Damaged(Damage::UnknownType(header[0])));
            }
            let len = usize::from(u16::from_be_bytes([header[1], header[2]]));
            let expected = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
            if len > left - HEADER_BYTES {
                let damage = if short_page { Damage::CutOff } else { Damage::TooLong(len) };
                return Err(ReadError::Damaged(damage));
            }
            let start = self.pos + HEADER_BYTES;
            let found = crc32c::crc32c(&self.page[start..start + len]);
            if found != expected {
                return Err(ReadError::Damaged(Damage::Checksum { found, expected }));
            }
            self.pos = start + len;
            return Ok(Some((kind, flags, start, len)));
        }
    }

    fn read_page(&mut self) -> Result<bool, ReadError> {
        let mut filled = 0;
        while filled < PAGE_BYTES {
            match self.file.read(&mut self.page[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(ReadError::Storage(StorageError::io(self.reading(), &e)));
                }
            }
        }
        self.page_len = filled;
        self.pos = 0;
        self.read += filled as u64;
        Ok(filled > 0)
    }

    /// Decompresses the record into `unpacked`; false when it is not compressed.
    fn unpack(&mut self, flags: u8) -> Result<bool, Damage> {
        let failed = |e: &dyn std::fmt::Display| Damage::Compression(e.to_string());
        if flags & SNAPPY != 0 {
            let len = snap::raw::decompress_len(&self.record).map_err(|e| failed(&e))?;
            if len > RECORD_BYTES_MAX {
                return Err(Damage::Compression(format!("it claims {len} bytes")));
            }
            self.unpacked.resize(len, 0);
            let n =
                self.snappy.decompress(&self.record, &mut self.unpacked).map_err(|e| failed(&e))?;
            self.unpacked.truncate(n);
            return Ok(true);
        }
        if flags & ZSTD != 0 {
            self.unpacked.clear();
            let decoder =
                zstd::stream::read::Decoder::new(&self.record[..]).map_err(|e| failed(&e))?;
            decoder
                .take(RECORD_BYTES_MAX as u64)
                .read_to_end(&mut self.unpacked)
                .map_err(|e| failed(&e))?;
            return Ok(true);
        }
        Ok(false)
    }
}
