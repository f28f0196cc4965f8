//! Blocks: the samples of an interval of time in files that never change, byte for byte
//! Prometheus' own.
//!
//! ```text
//! <data directory>/<ULID>/
//!   meta.json    what it covers and where it comes from, see `meta`
//!   index        symbols, series, postings, see `index_writer`
//!   chunks/      the samples, see `chunks`
//!   tombstones   what was deleted since, see `tombstones`
//! ```
//! Directories named `<ULID>.tmp-for-creation` and `.tmp-for-deletion` are on their way into
//! and out of being; whoever opens the data directory removes them.
//!
//! A block knows nothing of the head, of other blocks, or of what is kept how long.

mod chunks;
mod index_reader;
mod index_writer;
mod mapped;
mod meta;
mod output;
mod read;
mod symbols;
#[cfg(test)]
pub(super) mod tests;
mod tombstones;
mod ulid;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::intervals::Intervals;

use chunks::ChunkReader;
pub(crate) use chunks::RawChunk;
pub(crate) use index_reader::IndexReader;
pub(crate) use index_writer::ChunkMeta;
pub(crate) use mapped::MappedFile;
pub(crate) use meta::META_FILE;
pub use meta::{BlockCompaction, BlockDesc, BlockMeta, BlockStats};
use tombstones::Tombstones;
pub use ulid::{NotUlid, Ulid};
pub(crate) use writer::{BlockWriter, NewChunk};

use super::disk::{Disk, sync_dir};
use super::index::{Lists, select};

/// Suffix of a block that is being written.
pub(crate) const CREATION_SUFFIX: &str = ".tmp-for-creation";
/// Suffix of a block that is being removed.
pub(crate) const DELETION_SUFFIX: &str = ".tmp-for-deletion";

/// An open block.
#[derive(Debug)]
pub(crate) struct Block {
    dir: PathBuf,
    meta: BlockMeta,
    index: IndexReader,
    chunks: ChunkReader,
    tombstones: Tombstones,
    /// When the file of tombstones was written.
    tombstones_written: Option<std::time::SystemTime>,
    bytes: u64,
}

impl Block {
    /// Opens the block in a directory. Checks what is needed to find series; series and
    /// chunks are checked when they are read.
    pub(crate) fn open(dir: &Path) -> Result<Self, StorageError> {
        let meta = BlockMeta::read(dir)?;
        let index = IndexReader::open(dir)?;
        let chunks = ChunkReader::open(dir)?;
        let tombstones_written = Tombstones::written(dir);
        let tombstones = Tombstones::read(dir)?;
        let len = |name: &str| fs::metadata(dir.join(name)).map_or(0, |m| m.len());
        let bytes = chunks.size_bytes() + index.size_bytes() + len(META_FILE) + len("tombstones");
        let dir = dir.to_owned();
        Ok(Self { dir, meta, index, chunks, tombstones, tombstones_written, bytes })
    }

    /// True when something was deleted of it, or brought back, since it was opened.
    pub(crate) fn is_outdated(&self) -> bool {
        Tombstones::written(&self.dir) != self.tombstones_written
    }

    pub(crate) fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    pub(crate) fn index(&self) -> &IndexReader {
        &self.index
    }

    /// Bytes of all files.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.bytes
    }

    /// True when it covers some of a closed interval.
    pub(crate) fn overlaps(&self, from_ms: TimestampMs, to_ms: TimestampMs) -> bool {
        // A block ends before its end.
        self.meta.min_time <= to_ms && from_ms < self.meta.max_time
    }

    /// The series that satisfy all matchers, in label order.
    pub(crate) fn find(&self, matchers: &[Matcher]) -> Result<Vec<u64>, StorageError> {
        select(&self.index, matchers)
    }

    /// The series with exactly these labels.
    pub(crate) fn find_labels(&self, labels: &Labels) -> Result<Option<u64>, StorageError> {
        let matchers: Vec<Matcher> =
            labels.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
        let mut chunks = Vec::new();
        for series in self.find(&matchers)? {
            if self.series(series, &mut chunks)? == *labels {
                return Ok(Some(series));
            }
        }
        Ok(None)
    }

    /// All series, in label order.
    pub(crate) fn all(&self) -> Result<Vec<u64>, StorageError> {
        Ok(self.index.all()?.into_owned())
    }

    /// Labels of a series, and its chunks into `chunks`.
    pub(crate) fn series(
        &self,
        series: u64,
        chunks: &mut Vec<ChunkMeta>,
    ) -> Result<Labels, StorageError> {
        self.index.series(series, chunks)
    }

    /// The texts that its series are made of, sorted.
    pub(crate) fn symbols(
        &self,
    ) -> Result<impl Iterator<Item = Result<&str, StorageError>>, StorageError> {
        self.index.symbols()
    }

    /// A chunk as it is stored.
    pub(crate) fn chunk(&self, reference: u64) -> Result<RawChunk<'_>, StorageError> {
        self.chunks.get(reference)
    }

    /// What is deleted of a series.
    pub(crate) fn deleted(&self, series: u64) -> Option<&Intervals> {
        self.tombstones.get(series)
    }

    /// An error about the block as a whole.
    pub(crate) fn wrong(&self, why: String) -> StorageError {
        StorageError::Corrupt { what: format!("block {}", self.dir.display()), offset: 0, why }
    }

    /// Notes that samples of a closed interval are deleted; it must be opened again to see
    /// it. Says whether there was anything to delete.
    pub(crate) fn delete(
        &self,
        disk: &dyn Disk,
        matchers: &[Matcher],
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> Result<bool, StorageError> {
        let mut stones = self.tombstones.clone();
        let mut chunks = Vec::new();
        for series in self.find(matchers)? {
            self.series(series, &mut chunks)?;
            let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { continue };
            let (from, to) = (from_ms.max(first.min_ms), to_ms.min(last.max_ms));
            if chunks.iter().any(|c| c.min_ms <= to && from <= c.max_ms) {
                stones.add(series, from, to);
            }
        }
        if stones == self.tombstones {
            return Ok(false);
        }
        stones.write(disk, &self.dir)?;
        let mut meta = self.meta.clone();
        meta.stats.num_tombstones = stones.count();
        meta.write(disk, &self.dir)?;
        Ok(true)
    }

    /// Writes its description anew, changed.
    pub(crate) fn rewrite_meta(
        &self,
        disk: &dyn Disk,
        change: impl FnOnce(&mut BlockMeta),
    ) -> Result<(), StorageError> {
        let mut meta = self.meta.clone();
        change(&mut meta);
        meta.write(disk, &self.dir).map(drop)
    }

    /// Hard links to all its files in another directory, or copies where links cannot be.
    pub(crate) fn snapshot(&self, disk: &dyn Disk, into: &Path) -> Result<(), StorageError> {
        let target = into.join(self.meta.ulid.to_string());
        let failed = |e: &std::io::Error| StorageError::io(format!("link {}", target.display()), e);
        fs::create_dir_all(target.join("chunks")).map_err(|e| failed(&e))?;
        let mut names: Vec<PathBuf> = [META_FILE, "index", "tombstones"].map(PathBuf::from).into();
        let chunks = fs::read_dir(self.dir.join("chunks")).map_err(|e| failed(&e))?;
        for entry in chunks {
            names.push(Path::new("chunks").join(entry.map_err(|e| failed(&e))?.file_name()));
        }
        for name in names {
            let (from, to) = (self.dir.join(&name), target.join(&name));
            if !from.exists() {
                continue;
            }
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).map_err(|e| failed(&e))?;
            }
        }
        sync_dir(disk, &target.join("chunks"))?;
        sync_dir(disk, &target)?;
        sync_dir(disk, into)
    }
}

/// Removes a block: renamed first, so that half a block is never taken for one.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let failed = |e: &std::io::Error| StorageError::io(format!("remove {}", dir.display()), e);
    let parent = dir.parent().unwrap_or(dir);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let going = parent.join(format!("{name}{DELETION_SUFFIX}"));
    disk.rename(dir, &going).map_err(|e| failed(&e))?;
    sync_dir(disk, parent)?;
    fs::remove_dir_all(&going).map_err(|e| failed(&e))
}

/// Removes what a crash left of blocks on their way into or out of being.
pub(crate) fn remove_unfinished(parent: &Path) -> Result<(), StorageError> {
    let failed = |e: &std::io::Error| StorageError::io(format!("list {}", parent.display()), e);
    for entry in fs::read_dir(parent).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // `.tmp` is how versions of Prometheus before 2.21 called both.
        let id = [CREATION_SUFFIX, DELETION_SUFFIX, ".tmp"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        if id.is_some_and(|id| id.parse::<Ulid>().is_ok()) {
            let path = entry.path();
            tracing::info!(directory = %path.display(), "removing an unfinished block");
            fs::remove_dir_all(&path)
                .map_err(|e| StorageError::io(format!("remove {}", path.display()), &e))?;
        }
    }
    Ok(())
}

/// Directories of blocks, by name: those named as one with a description in it.
pub(crate) fn list(parent: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let failed = |e: &std::io::Error| StorageError::io(format!("list {}", parent.display()), e);
    let mut dirs = Vec::new();
    for entry in fs::read_dir(parent).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let is_block = entry.file_name().to_str().is_some_and(|n| n.parse::<Ulid>().is_ok());
        if is_block && entry.path().is_dir() {
            dirs.push(entry.path());
        }
    }
    dirs.sort();
    Ok(dirs)
}

/// Blocks shared by those who read them.
pub(crate) type Blocks = Vec<Arc<Block>>;
