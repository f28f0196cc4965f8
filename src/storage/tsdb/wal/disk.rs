//! What lies beneath the log: files that are appended to. Tests put one there that fails.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// A file of the log.
pub trait LogFile: Send {
    /// Appends bytes; after an error any part of them may be in the file.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Waits until all that was written is durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Where the files of the log are.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Opens a file for appending, which is created when there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(OpenOptions::new().create(true).append(true).open(path)?))
    }
}

impl LogFile for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(self, bytes)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.sync_data()
    }
}
