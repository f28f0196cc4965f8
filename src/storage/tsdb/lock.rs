//! The `lock` file: one process per data directory.
//!
//! Held with `flock(2)`, as Prometheus does, so the kernel lets go of it when the process
//! dies and the two programs keep out of each other's directories. The file itself stays:
//! removing it would let a second process lock a file that a third no longer sees.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::storage::StorageError;

/// Holds the directory until dropped.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of a data directory or says who is in the way.
    pub(crate) fn acquire(dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| StorageError::io(format!("open lock file {}", path.display()), &e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(StorageError::Unsupported(format!(
                "data directory {} is locked by another process; stop it or choose another \
                 directory with --storage.tsdb.path",
                dir.display()
            ))),
            Err(e) => Err(StorageError::io(format!("lock {}", path.display()), &e.into())),
        }
    }
}
