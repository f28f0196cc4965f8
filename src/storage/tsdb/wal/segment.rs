//! Which segments and checkpoints a log directory holds.

use std::fs;
use std::path::{Path, PathBuf};

use crate::storage::StorageError;
use crate::storage::tsdb::disk::{self, FileSystem};

/// A segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) index: u32,
    pub(crate) bytes: u64,
    pub(crate) path: PathBuf,
}

/// A checkpoint directory: replaces the segments up to and including `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointDir {
    pub(crate) index: u32,
    pub(crate) path: PathBuf,
}

const CHECKPOINT_PREFIX: &str = "checkpoint.";

/// File of a segment.
pub(crate) fn path(dir: &Path, index: u32) -> PathBuf {
    dir.join(format!("{index:08}"))
}

/// Directory of a checkpoint.
pub(crate) fn checkpoint_path(dir: &Path, index: u32) -> PathBuf {
    dir.join(format!("{CHECKPOINT_PREFIX}{index:08}"))
}

/// Segments in order. Other files are left alone; a gap is an error, because what comes
/// after it would be read without what it builds on.
pub(crate) fn list(dir: &Path) -> Result<Vec<Segment>, StorageError> {
    let mut segments = Vec::new();
    for (name, path) in entries(dir)? {
        if let Ok(index) = name.parse() {
            let bytes = fs::metadata(&path)
                .map_err(|e| StorageError::io(format!("look at {}", path.display()), &e))?
                .len();
            segments.push(Segment { index, bytes, path });
        }
    }
    segments.sort_by_key(|s| s.index);
    for pair in segments.windows(2) {
        if pair[0].index + 1 != pair[1].index {
            return Err(StorageError::Corrupt {
                what: format!("WAL directory {}", dir.display()),
                offset: 0,
                why: format!(
                    "segments are not sequential: {:08} is followed by {:08}; restore the missing \
                     ones, or move the later ones away to start without them",
                    pair[0].index, pair[1].index
                ),
            });
        }
    }
    Ok(segments)
}

/// Checkpoints in order.
pub(crate) fn list_checkpoints(dir: &Path) -> Result<Vec<CheckpointDir>, StorageError> {
    let mut all: Vec<_> = entries(dir)?
        .into_iter()
        .filter_map(|(name, path)| {
            let index = name.strip_prefix(CHECKPOINT_PREFIX)?.parse().ok()?;
            Some(CheckpointDir { index, path })
        })
        .collect();
    all.sort_by_key(|c| c.index);
    Ok(all)
}

/// The newest checkpoint.
pub(crate) fn last_checkpoint(dir: &Path) -> Result<Option<CheckpointDir>, StorageError> {
    Ok(list_checkpoints(dir)?.pop())
}

/// Removes checkpoints that were never finished.
pub(crate) fn remove_temporary(dir: &Path) -> Result<(), StorageError> {
    for (name, path) in entries(dir)? {
        if name.starts_with(CHECKPOINT_PREFIX) && name.ends_with(".tmp") {
            remove_dir(&path)?;
        }
    }
    Ok(())
}

/// Removes a directory with what it holds.
pub(crate) fn remove_dir(path: &Path) -> Result<(), StorageError> {
    fs::remove_dir_all(path).map_err(|e| StorageError::io(format!("remove {}", path.display()), &e))
}

/// Makes names created or changed in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    disk::sync_dir(&FileSystem, dir)
}

/// Removes a file.
pub(crate) fn remove_file(path: &Path) -> Result<(), StorageError> {
    fs::remove_file(path).map_err(|e| StorageError::io(format!("remove {}", path.display()), &e))
}

/// Removes the segments up to and including one.
pub(crate) fn remove_up_to(dir: &Path, last: u32) -> Result<(), StorageError> {
    for segment in list(dir)? {
        if segment.index <= last {
            remove_file(&segment.path)?;
        }
    }
    Ok(())
}

/// Bytes of all segments and checkpoints.
pub(crate) fn size_bytes(dir: &Path) -> Result<u64, StorageError> {
    let mut bytes: u64 = list(dir)?.iter().map(|s| s.bytes).sum();
    for checkpoint in list_checkpoints(dir)? {
        bytes += list(&checkpoint.path)?.iter().map(|s| s.bytes).sum::<u64>();
    }
    Ok(bytes)
}

fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, StorageError> {
    let failed =
        |e: &std::io::Error| StorageError::io(format!("list directory {}", dir.display()), e);
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        if let Ok(name) = entry.file_name().into_string() {
            all.push((name, entry.path()));
        }
    }
    Ok(all)
}
