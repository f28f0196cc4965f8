//! Moving finished chunks out of memory into files, and back into the head at a start.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::storage::StorageError;
use crate::storage::tsdb::block::Block;
use crate::storage::tsdb::chunk::Chunk;
use crate::vector::RawSamples;

use super::chunk_files::{self, ChunkFiles, Loaded};
use super::isolation::CommitId;
use super::replay::Replayer;
use super::series::MemSeries;
use super::snapshot::{self, Snapshot};
use super::{Committer, Head};

/// Bytes of chunks that are written at once.
const BATCH_BYTES: usize = 1 << 20;

/// Series that are looked at to tell what a block holds.
const SERIES_LOOKED_AT: usize = 32;

impl Head {
    fn chunks_dir(&self) -> PathBuf {
        self.dir.join("chunks_head")
    }

    /// Reads the chunk files. Damage is told and cut off: the log has what is lost by it.
    pub(super) fn load_chunks(&self) -> Result<Loaded, StorageError> {
        let dir = self.chunks_dir();
        if self.options.read_only && !dir.exists() {
            return Ok(Loaded::default());
        }
        if !self.options.read_only {
            std::fs::create_dir_all(&dir)
                .map_err(|e| StorageError::io(format!("create {}", dir.display()), &e))?;
        }
        let loaded = chunk_files::load(&dir, self.options.min_valid_ms)?;
        if let Some(damage) = loaded.damage.as_ref().filter(|_| !self.options.read_only) {
            self.metrics.mmap_corruptions.inc();
            tracing::error!(
                file = %damage.path.display(),
                offset = damage.offset,
                reason = damage.why,
                "a file of head chunks is damaged; it is cut there, and the log is read instead"
            );
            damage.repair()?;
        }
        if !self.options.read_only {
            *self.chunk_files.lock() = Some(ChunkFiles::new(&dir, &loaded));
        }
        Ok(loaded)
    }

    /// The snapshot to start from, if there is one that can be used.
    pub(super) fn load_snapshot(&self, chunks: &Loaded) -> Option<Snapshot> {
        if !self.options.snapshots || self.options.read_only {
            return None;
        }
        let loaded = match snapshot::load(&self.dir) {
            // Without them it lacks what it does not repeat.
            Ok(Some(_)) if chunks.damage.is_some() => {
                Err("head chunks beside it are damaged".to_owned())
            }
            Ok(loaded) => Ok(loaded),
            Err(e) => Err(e.to_string()),
        };
        loaded.unwrap_or_else(|error| {
            self.metrics.snapshot_errors.inc();
            tracing::warn!(%error, "the snapshot of the head is not used; the log is read instead");
            None
        })
    }

    /// Puts a snapshot into the empty head.
    pub(super) fn apply_snapshot(&self, snapshot: Snapshot, replayer: &mut Replayer) {
        replayer.restore(self, snapshot);
    }

    /// Moves finished chunks into files.
    pub(crate) fn write_chunks(&self) -> Result<(), StorageError> {
        let mut files = self.chunk_files.lock();
        let Some(files) = &mut *files else { return Ok(()) };
        let mut all = Vec::new();
        self.series.for_each(|series| all.push(Arc::clone(series)));
        let mut batch: Vec<(u64, Arc<Chunk>)> = Vec::new();
        let mut owners: Vec<Arc<MemSeries>> = Vec::new();
        let mut bytes = 0;
        for series in all {
            for chunk in series.unwritten() {
                bytes += chunk.bytes.len();
                batch.push((series.id, chunk));
                owners.push(Arc::clone(&series));
            }
            if bytes >= BATCH_BYTES {
                self.write_batch(files, &mut batch, &mut owners)?;
                bytes = 0;
            }
        }
        self.write_batch(files, &mut batch, &mut owners)?;
        files.complete_if_nearly_full()?;
        self.metrics.head_chunks_bytes.set(files.size_bytes() as i64);
        Ok(())
    }

    /// Moves the finished chunks of some series into files. What fails is left to maintenance,
    /// which tells; so is all while that writes very many itself, and when a file is full.
    pub(super) fn write_finished(&self, some: &mut Vec<Arc<MemSeries>>) {
        let finished = std::mem::take(some);
        let Some(mut files) = self.chunk_files.try_lock() else { return };
        let Some(files) = files.as_mut() else { return };
        let (mut batch, mut owners): (Vec<(u64, Arc<Chunk>)>, Vec<_>) = Default::default();
        for series in finished {
            for chunk in series.unwritten() {
                batch.push((series.id, chunk));
                owners.push(Arc::clone(&series));
            }
        }
        // Nobody is to wait for the disk here.
        if !files.has_room(&batch) {
            return;
        }
        if let Err(error) = self.write_batch(files, &mut batch, &mut owners) {
            tracing::debug!(%error, "finished chunks stay in memory until maintenance");
        }
    }

    fn write_batch(
        &self,
        files: &mut ChunkFiles,
        batch: &mut Vec<(u64, Arc<Chunk>)>,
        owners: &mut Vec<Arc<MemSeries>>,
    ) -> Result<(), StorageError> {
        let written = files.write(batch)?;
        for ((series, (_, held)), written) in owners.drain(..).zip(batch.drain(..)).zip(written) {
            series.replace(&held, written);
            self.metrics.mmap_chunks.inc();
        }
        Ok(())
    }

    /// Removes the files that no series needs any more.
    pub(super) fn forget_chunks(&self) -> Result<(), StorageError> {
        let mut oldest: Option<u32> = None;
        let mut files = self.chunk_files.lock();
        let Some(files) = &mut *files else { return Ok(()) };
        self.series.for_each(|series| {
            oldest = [oldest, series.oldest_file()].into_iter().flatten().min();
        });
        files.remove_before(oldest)?;
        self.metrics.head_chunks_bytes.set(files.size_bytes() as i64);
        Ok(())
    }

    /// Before the head is closed: leaves its chunks in files, and what is not in them in a
    /// snapshot if that is wanted. What fails costs time at the next start and nothing else.
    pub(super) fn leave_chunks(&self, committer: &mut Committer) {
        let Some(wal) = &mut committer.wal else { return };
        let left = self.write_chunks().and_then(|()| {
            if let Some(files) = &mut *self.chunk_files.lock() {
                files.complete()?;
            }
            if !self.options.snapshots {
                return Ok(());
            }
            if wal.segment_len() > 0 {
                wal.cut()?;
            }
            self.write_snapshot(wal.segment(), &committer.aliases)
        });
        if let Err(error) = left {
            tracing::warn!(%error, "the next start has to read the log instead of head chunks");
        }
    }

    /// True when a block has the samples that were appended in order in its interval, judged
    /// by some of them. One of samples that came out of order has not; not every version of
    /// Prometheus marks those.
    pub(crate) fn is_held_by(&self, block: &Block) -> Result<bool, StorageError> {
        let (from_ms, to_ms) = (block.meta().min_time, block.meta().max_time - 1);
        let mut some: Vec<Arc<MemSeries>> = Vec::new();
        self.series.for_each(|series| {
            if some.len() < SERIES_LOOKED_AT && series.overlaps(CommitId::MAX, from_ms, to_ms) {
                some.push(Arc::clone(series));
            }
        });
        let (mut looked, mut found) = (0, 0);
        let mut chunks = Vec::new();
        for series in some {
            let mut held = RawSamples::default();
            series.read_into(CommitId::MAX, from_ms, to_ms, &mut held)?;
            let first = held.ts.first().copied().or(held.hist.first().map(|(ts, _)| *ts));
            let Some(ts) = first else { continue };
            looked += 1;
            let labels = block.find_labels(&series.labels)?;
            let Some(id) = labels else { continue };
            block.series(id, &mut chunks)?;
            let mut there = RawSamples::default();
            block.read_chunks(&chunks, ts, ts, &mut there)?;
            found += usize::from(!there.ts.is_empty() || !there.hist.is_empty());
        }
        Ok(found * 2 >= looked)
    }

    /// Takes the samples before `from_ms` for those of blocks.
    pub(crate) fn begin_at(&self, from_ms: crate::model::TimestampMs) {
        let (oldest, _) = self.bounds();
        self.under_way.raise(from_ms);
        self.truncated_ms.fetch_max(from_ms, Ordering::AcqRel);
        if oldest < from_ms {
            self.truncate(from_ms);
        }
    }
}
