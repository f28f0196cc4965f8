//! A file of a block being written: buffered, with its position and errors that name it.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::storage::StorageError;
use crate::storage::tsdb::disk::{Disk, DiskFile};

/// See the module.
#[derive(Debug)]
pub(super) struct Output {
    file: BufWriter<Sink>,
    path: PathBuf,
    at: u64,
}

impl Output {
    /// Makes a file that is not there yet.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let file = disk
            .create(path)
            .map_err(|e| StorageError::io(format!("create {}", path.display()), &e))?;
        let file = BufWriter::with_capacity(1 << 18, Sink(file));
        Ok(Self { file, path: path.to_owned(), at: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all(bytes).map_err(|e| self.failed(&e))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to a multiple of `size`.
    pub(super) fn align(&mut self, size: u64) -> Result<(), StorageError> {
        let rest = self.at % size;
        if rest == 0 { Ok(()) } else { self.write(&[0; 16][..(size - rest) as usize]) }
    }

    /// Begins a section whose length is known only at its end.
    pub(super) fn begin_section(&mut self) -> Result<Section, StorageError> {
        let start = self.at;
        self.write(&[0; 4])?;
        Ok(Section { start, crc: 0 })
    }

    /// Makes everything written so far readable through the file's name.
    pub(super) fn flush(&mut self) -> Result<(), StorageError> {
        self.file.flush().map_err(|e| self.failed(&e))
    }

    /// Flushes, and asks the disk to keep it.
    pub(super) fn finish(mut self) -> Result<(), StorageError> {
        self.flush()?;
        let synced = self.file.get_mut().0.sync();
        synced.map_err(|e| StorageError::io(format!("sync {}", self.path.display()), &e))
    }

    fn failed(&self, e: &std::io::Error) -> StorageError {
        StorageError::io(format!("write {} at byte {}", self.path.display(), self.at), e)
    }
}

#[derive(Debug)]
struct Sink(Box<dyn DiskFile>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A section under way.
#[derive(Debug)]
pub(super) struct Section {
    start: u64,
    crc: u32,
}

impl Section {
    pub(super) fn write(&mut self, out: &mut Output, bytes: &[u8]) -> Result<(), StorageError> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        out.write(bytes)
    }

    /// Writes the checksum, and the length in its place.
    pub(super) fn end(self, out: &mut Output) -> Result<(), StorageError> {
        let len = u32::try_from(out.at - self.start - 4).map_err(|_| {
            let path = out.path.display();
            StorageError::Unsupported(format!("a section of {path} would exceed 4 GiB"))
        })?;
        out.write(&self.crc.to_be_bytes())?;
        out.flush()?;
        let patched = out.file.get_mut().0.write_all_at(&len.to_be_bytes(), self.start);
        patched.map_err(|e| out.failed(&e))
    }
}
