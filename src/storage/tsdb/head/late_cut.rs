//! The head's part in what comes out of order: its log, and blocks of it.
//!
//! In this order: the log goes on in a new segment; when everybody sees what is in the old
//! ones, that becomes chunks and the chunks become blocks, one for each range they touch;
//! readers are shown those; when everybody is, the chunks leave memory and the old segments
//! go. A crash in between leaves samples in the log and in a block, which is the same to a
//! reader. What is full before that goes into files, see `late_map`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::tsdb::block::{BlockMeta, BlockWriter, Ulid};
use crate::storage::tsdb::compact::recode::{Recoder, Stop};
use crate::storage::tsdb::wal::{Wal, segment};

use super::Head;
use super::cut::new_chunk;
use super::isolation::CommitId;
use super::series::MemSeries;

/// Series written before a look at whether to stop.
const PER_LOOK: usize = 1024;

/// What is written as blocks now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateCut {
    /// Last segment of the log that goes then.
    pub(crate) segment: u32,
    /// Everything up to this commit is in those segments.
    pub(crate) mark: CommitId,
}

impl Head {
    /// Changes how far behind the newest sample one may be that comes out of order.
    pub(crate) fn set_late_window(&self, window_ms: i64) -> Result<(), StorageError> {
        if window_ms > 0 && self.commit.lock().wbl.is_none() {
            self.open_wbl()?;
        }
        self.late_window_ms.store(window_ms.max(0), Ordering::Release);
        Ok(())
    }

    /// Starts to write the log of samples that come out of order.
    pub(super) fn open_wbl(&self) -> Result<(), StorageError> {
        let mut committer = self.commit.lock();
        if committer.wal.is_none() {
            return Err(StorageError::Closed);
        }
        let (metrics, clock) = (self.metrics.wbl.clone(), Arc::clone(&self.clock));
        committer.wbl = Some(Wal::open(&self.wbl_dir, self.options.wal.clone(), metrics, clock)?);
        self.metrics.wbl.storage_bytes.set(segment::size_bytes(&self.wbl_dir)? as i64);
        Ok(())
    }

    /// Notes when the oldest and newest sample is that came out of order.
    pub(super) fn widen_late(&self, min_ms: TimestampMs, max_ms: TimestampMs) {
        self.late_min_ms.fetch_min(min_ms, Ordering::AcqRel);
        self.late_max_ms.fetch_max(max_ms, Ordering::AcqRel);
    }

    /// Times of the oldest and newest sample that came out of order, at the most.
    pub(crate) fn late_bounds(&self) -> (TimestampMs, TimestampMs) {
        (self.late_min_ms.load(Ordering::Acquire), self.late_max_ms.load(Ordering::Acquire))
    }

    /// True when samples that came out of order may lie in the closed interval.
    pub(crate) fn has_late(&self, from_ms: TimestampMs, to_ms: TimestampMs) -> bool {
        let (min, max) = self.late_bounds();
        min <= to_ms && from_ms <= max
    }

    /// Begins to make blocks of what came out of order until now. `None` when there is none.
    pub(crate) fn begin_late_cut(&self) -> Result<Option<LateCut>, StorageError> {
        let mut committer = self.commit.lock();
        let (min_ms, max_ms) = self.late_bounds();
        let Some(wbl) = committer.wbl.as_mut().filter(|_| min_ms <= max_ms) else {
            return Ok(None);
        };
        wbl.cut()?;
        let segment = wbl.segment() - 1;
        let mark = self.isolation.finished() + 1;
        self.isolation.finish(mark);
        Ok(Some(LateCut { segment, mark }))
    }

    /// Writes what came out of order as blocks, one for each range, when everybody sees it.
    pub(crate) fn write_late_blocks(
        &self,
        dir: &Path,
        cut: LateCut,
        stop: &Stop,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let all = self.late_series();
        all.iter().for_each(|series| series.seal_late(cut.mark));
        self.write_late(dir, &all, true, stop)
    }

    /// Writes all that came out of order as blocks, beside whatever else goes on.
    pub(crate) fn copy_late_blocks(&self, dir: &Path, stop: &Stop) -> Result<(), StorageError> {
        self.write_late(dir, &self.late_series(), false, stop).map(drop)
    }

    fn write_late(
        &self,
        dir: &Path,
        all: &[Arc<MemSeries>],
        sealed: bool,
        stop: &Stop,
    ) -> Result<Vec<BlockMeta>, StorageError> {
        let (min_ms, max_ms) = all
            .iter()
            .map(|s| s.late_bounds())
            .fold((TimestampMs::MAX, TimestampMs::MIN), |(min, max), (from, to)| {
                (min.min(from), max.max(to))
            });
        let range = self.options.chunk_range_ms;
        let mut written = Vec::new();
        let mut from_ms = min_ms.div_euclid(range) * range;
        while min_ms <= max_ms && from_ms <= max_ms {
            stop.check()?;
            let to_ms = from_ms.saturating_add(range);
            written.extend(self.write_late_block(dir, all, (from_ms, to_ms), sealed, stop)?);
            from_ms = to_ms;
        }
        Ok(written)
    }

    pub(super) fn late_series(&self) -> Vec<Arc<MemSeries>> {
        let mut all = Vec::new();
        self.series.for_each(|series| {
            let (min_ms, max_ms) = series.late_bounds();
            if min_ms <= max_ms {
                all.push(Arc::clone(series));
            }
        });
        self.ranking.sort(all)
    }

    fn write_late_block(
        &self,
        dir: &Path,
        all: &[Arc<MemSeries>],
        (from_ms, to_ms): (TimestampMs, TimestampMs),
        sealed: bool,
        stop: &Stop,
    ) -> Result<Option<BlockMeta>, StorageError> {
        let within: Vec<_> = all.iter().filter(|s| s.has_late(from_ms, to_ms - 1)).collect();
        if within.is_empty() {
            return Ok(None);
        }
        let mut meta = BlockMeta::new(Ulid::new(self.clock.now_ms()), from_ms, to_ms);
        meta.compaction.level = 1;
        meta.compaction.sources = vec![meta.ulid];
        meta.compaction.set_from_out_of_order();
        let symbols = self.symbols();
        let mut writer =
            BlockWriter::create(&self.options.wal.disk, dir, meta, symbols.iter().map(Ok))?;
        let mut recoder = Recoder::default();
        for (i, series) in within.into_iter().enumerate() {
            if i % PER_LOOK == 0 {
                stop.check()?;
            }
            let samples = series.read_late(CommitId::MAX, (from_ms, to_ms - 1), sealed)?;
            let chunks = recoder.encode(&samples);
            writer.add(&series.labels, chunks.iter().map(new_chunk))?;
        }
        writer.finish(stop)
    }

    /// Lets go of what blocks have: in memory, and in the log.
    pub(crate) fn finish_late_cut(&self, cut: LateCut) -> Result<(), StorageError> {
        self.drop_sealed();
        if let Err(error) = self.forget_chunks() {
            tracing::warn!(%error, "files of head chunks stay that are not needed any more");
        }
        self.metrics.wbl.truncations.inc();
        if let Err(e) = segment::remove_up_to(&self.wbl_dir, cut.segment) {
            self.metrics.wbl.truncations_failed.inc();
            return Err(e);
        }
        self.metrics.wbl.storage_bytes.set(segment::size_bytes(&self.wbl_dir)? as i64);
        Ok(())
    }

    /// Lets go of what blocks of another process have, whose log has it no more.
    pub(crate) fn drop_late(&self, up_to: CommitId) {
        self.late_series().iter().for_each(|series| series.seal_late_only(up_to));
        self.drop_sealed();
    }

    fn drop_sealed(&self) {
        // Commits wait: what comes meanwhile must not be lost sight of.
        let committer = self.commit.lock();
        let (mut min_ms, mut max_ms, mut dropped) = (TimestampMs::MAX, TimestampMs::MIN, 0);
        for series in self.late_series() {
            dropped += series.drop_sealed();
            let (from, to) = series.late_bounds();
            min_ms = min_ms.min(from);
            max_ms = max_ms.max(to);
        }
        self.late_min_ms.store(min_ms, Ordering::Release);
        self.late_max_ms.store(max_ms, Ordering::Release);
        drop(committer);
        self.metrics.head_chunks.dec_by(dropped as i64);
        self.metrics.head_chunks_removed.inc_by(dropped as u64);
    }
}
