//! Writing a block: into a directory of another name first, which is renamed when all of it
//! is on disk. A crash leaves a directory that the next start removes, or a whole block.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{Labels, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::compact::Stop;
use crate::storage::tsdb::disk::{Disk, sync_dir};

use super::CREATION_SUFFIX;
use super::chunks::{ChunkWriter, RawChunk, SEGMENT_BYTES};
use super::index_writer::{ChunkMeta, IndexWriter};
use super::meta::BlockMeta;
use super::tombstones::Tombstones;
use crate::storage::tsdb::chunk::Encoding;

/// A chunk on its way into a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewChunk<'a> {
    pub(crate) min_ms: TimestampMs,
    pub(crate) max_ms: TimestampMs,
    pub(crate) chunk: RawChunk<'a>,
}

/// See the module. Call `add` in label order, then `finish`; dropped before, nothing stays.
#[derive(Debug)]
pub(crate) struct BlockWriter {
    disk: Arc<dyn Disk>,
    temporary: Temporary,
    parent: PathBuf,
    meta: BlockMeta,
    index: IndexWriter,
    chunks: ChunkWriter,
    metas: Vec<ChunkMeta>,
}

/// A directory that goes when it is not renamed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            tracing::warn!(directory = %self.0.display(), %error, "an unfinished block stays");
        }
    }
}

impl BlockWriter {
    /// Starts a block in a directory of blocks. `meta` says what it is to cover and where it
    /// comes from; `symbols` as in `IndexWriter::create`.
    pub(crate) fn create<S: AsRef<str>>(
        disk: &Arc<dyn Disk>,
        parent: &Path,
        mut meta: BlockMeta,
        symbols: impl Iterator<Item = Result<S, StorageError>>,
    ) -> Result<Self, StorageError> {
        let path = parent.join(format!("{}{CREATION_SUFFIX}", meta.ulid));
        fs::create_dir_all(&path)
            .map_err(|e| StorageError::io(format!("create {}", path.display()), &e))?;
        let temporary = Temporary(path);
        meta.stats = Default::default();
        Ok(Self {
            index: IndexWriter::create(disk, &temporary.0, symbols)?,
            chunks: ChunkWriter::create(disk, &temporary.0, SEGMENT_BYTES)?,
            disk: Arc::clone(disk),
            temporary,
            parent: parent.to_owned(),
            meta,
            metas: Vec::new(),
        })
    }

    /// Adds a series with its chunks in time order. One without chunks is left out.
    pub(crate) fn add<'a>(
        &mut self,
        labels: &Labels,
        chunks: impl Iterator<Item = NewChunk<'a>>,
    ) -> Result<(), StorageError> {
        self.metas.clear();
        for NewChunk { min_ms, max_ms, chunk } in chunks {
            let stats = &mut self.meta.stats;
            stats.num_samples += chunk.samples();
            match Encoding::of(chunk.encoding) {
                Some(Encoding::Xor) => stats.num_float_samples += chunk.samples(),
                _ => stats.num_histogram_samples += chunk.samples(),
            }
            stats.num_chunks += 1;
            let reference = self.chunks.write(chunk)?;
            self.metas.push(ChunkMeta { min_ms, max_ms, reference });
        }
        if self.metas.is_empty() {
            return Ok(());
        }
        self.meta.stats.num_series += 1;
        self.index.add(labels, &self.metas)
    }

    /// Makes the block durable and gives it its name. `None` when nothing was added: then
    /// there is no block.
    /// Fails as soon as `stop` is set, and then nothing stays either.
    pub(crate) fn finish(self, stop: &Stop) -> Result<Option<BlockMeta>, StorageError> {
        if self.meta.stats.num_samples == 0 {
            return Ok(None);
        }
        self.chunks.finish()?;
        self.index.finish(stop)?;
        stop.check()?;
        let temporary = &self.temporary.0;
        let disk = &*self.disk;
        Tombstones::default().write(disk, temporary)?;
        self.meta.write(disk, temporary)?;
        let target = self.parent.join(self.meta.ulid.to_string());
        disk.rename(temporary, &target).map_err(|e| {
            let what = format!("rename {} to {}", temporary.display(), target.display());
            StorageError::io(what, &e)
        })?;
        if let Err(error) = sync_dir(disk, &self.parent) {
            // Whoever is told that there is no block writes another one: this one goes.
            let _ = disk.rename(&target, temporary);
            return Err(error);
        }
        Ok(Some(self.meta))
    }
}
