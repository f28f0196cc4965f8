//! Files of a block as bytes in memory, and reading from them with checks.
//!
//! A block never changes once it has its name, neither in a directory of ours, which is
//! locked against other processes, nor in that of a Prometheus whose directory is only read:
//! so what is mapped stays as it is, and an unlinked file stays mapped. This is the one place of the program with `unsafe`: the compiler cannot know that.
//!
//! Whatever is read is first checked: that it lies inside the file, and against its
//! checksum where the format has one. Errors name the file and the offset in it.

use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::storage::StorageError;
use crate::storage::tsdb::encoding::Cursor;

/// Bytes of a CRC32C.
pub(super) const CRC_BYTES: usize = 4;

/// A file in memory.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    /// `None` when the file is empty, which cannot be mapped.
    map: Option<memmap2::Mmap>,
}

impl MappedFile {
    /// Maps a file as long as it is now.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let failed =
            |e: &std::io::Error| StorageError::io(format!("map file {}", path.display()), e);
        let file = File::open(path).map_err(|e| failed(&e))?;
        let empty = file.metadata().map_err(|e| failed(&e))?.len() == 0;
        let map = if empty { None } else { Some(map(&file).map_err(|e| failed(&e))?) };
        Ok(Self { path: path.to_owned(), map })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// An error about bytes of this file.
    pub(crate) fn corrupt(&self, offset: usize, why: impl Display) -> StorageError {
        StorageError::Corrupt {
            what: self.path.display().to_string(),
            offset: offset as u64,
            why: why.to_string(),
        }
    }

    /// `len` bytes from `at` on.
    pub(crate) fn slice(&self, at: usize, len: usize) -> Result<&[u8], StorageError> {
        let end = at.checked_add(len);
        end.and_then(|end| self.bytes().get(at..end)).ok_or_else(|| {
            self.corrupt(at, format!("{len} bytes are needed and the file has {}", self.len()))
        })
    }

    pub(crate) fn be32(&self, at: usize) -> Result<u32, StorageError> {
        Ok(self.slice(at, 4)?.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)))
    }

    /// The content of a section: length in four bytes, content, checksum of the content.
    pub(crate) fn section(&self, at: usize) -> Result<&[u8], StorageError> {
        let len = self.be32(at)? as usize;
        let content = self.slice(at + 4, len)?;
        self.check(at, content, at + 4 + len)?;
        Ok(content)
    }

    /// The content of an entry: length as uvarint, content, checksum of the content. Also
    /// gives where the content begins.
    pub(crate) fn entry(&self, at: usize) -> Result<(usize, &[u8]), StorageError> {
        let rest = self.bytes().get(at..).unwrap_or_default();
        let mut cursor = Cursor::new(rest);
        let len = cursor.count(1).map_err(|e| self.corrupt(at, e))?;
        let start = at + (rest.len() - cursor.remaining());
        let content = self.slice(start, len)?;
        self.check(at, content, start + len)?;
        Ok((start, content))
    }

    /// Compares a checksum with the one that is stored at `crc_at`.
    pub(crate) fn check(
        &self,
        at: usize,
        content: &[u8],
        crc_at: usize,
    ) -> Result<(), StorageError> {
        let (stored, actual) = (self.be32(crc_at)?, crc32c::crc32c(content));
        if stored == actual {
            return Ok(());
        }
        let why = format!("its checksum is {actual:08x} and not {stored:08x} as it was written");
        Err(self.corrupt(at, why))
    }
}

#[allow(unsafe_code, reason = "a memory map is the point of this file")]
fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the mapped bytes are only read, and nobody changes or shortens the file while
    // it is mapped: see the module.
    unsafe { memmap2::Mmap::map(file) }
}
