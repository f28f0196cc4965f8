//! A series' samples that came out of order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::tsdb::chunk::Chunk;
use crate::vector::RawSamples;

use super::super::isolation::CommitId;
use super::{MemSeries, SampleValue};

impl MemSeries {
    /// True when samples that came out of order may lie in the closed interval.
    pub(crate) fn has_late(&self, from_ms: TimestampMs, to_ms: TimestampMs) -> bool {
        let (min, max) = self.late_bounds();
        min <= to_ms && from_ms <= max
    }

    /// As `overlaps`, for samples that came out of order.
    pub(crate) fn overlaps_late(
        &self,
        visible: CommitId,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> bool {
        self.has_late(from_ms, to_ms)
            && self
                .state
                .lock()
                .late
                .as_ref()
                .is_some_and(|late| late.overlaps(visible, from_ms, to_ms))
    }

    /// As `overlaps`, for all samples.
    pub(crate) fn shows(&self, visible: CommitId, from: TimestampMs, to: TimestampMs) -> bool {
        self.overlaps(visible, from, to) || self.overlaps_late(visible, from, to)
    }

    /// Adds a sample that came out of order: `None` when there is one of its time, otherwise
    /// how many chunks were completed.
    pub(crate) fn insert_late(
        &self,
        ts: TimestampMs,
        value: &SampleValue,
        commit: CommitId,
        oldest_visible: CommitId,
    ) -> Option<usize> {
        let mut state = self.state.lock();
        let late = state.late.get_or_insert_default();
        let completed = late.insert(ts, value, commit, oldest_visible)?;
        self.late_max_ms.fetch_max(ts, Ordering::AcqRel);
        self.late_min_ms.fetch_min(ts, Ordering::AcqRel);
        Some(completed)
    }

    /// See `Late::complete_if_full`.
    pub(crate) fn complete_late(&self, up_to: CommitId) -> Option<(Vec<Arc<Chunk>>, usize)> {
        self.state.lock().late.as_mut()?.complete_if_full(up_to)
    }

    /// Puts a chunk as a file holds it in the place of the one in memory.
    pub(crate) fn replace_late(&self, held: &Arc<Chunk>, written: Arc<Chunk>) {
        // It may have left meanwhile.
        if let Some(late) = &mut self.state.lock().late {
            late.replace(held, written);
        }
    }

    /// See `Late::attach`.
    pub(crate) fn attach_late(&self, chunk: &Arc<Chunk>) -> Result<isize, StorageError> {
        let mut state = self.state.lock();
        let more = state.late.get_or_insert_default().attach(chunk)?;
        self.late_max_ms.fetch_max(chunk.max_ms, Ordering::AcqRel);
        self.late_min_ms.fetch_min(chunk.min_ms, Ordering::AcqRel);
        Ok(more)
    }

    /// The samples that came out of order and are not deleted: those of the closed interval
    /// that a reader may see. With `sealed` only those that are about to leave.
    pub(crate) fn read_late(
        &self,
        visible: CommitId,
        interval: (TimestampMs, TimestampMs),
        sealed: bool,
    ) -> Result<RawSamples, StorageError> {
        let state = self.state.lock();
        // Few series have any, and few samples each: copied, so that decoding them keeps
        // nobody waiting.
        let late = state.late.clone();
        let tombstones = state.tombstones.clone();
        drop(state);
        let Some(late) = late else { return Ok(RawSamples::default()) };
        let mut samples = late.read(visible, interval, sealed)?;
        if let Some(deleted) = tombstones {
            deleted.remove_from(&mut samples);
        }
        Ok(samples)
    }

    /// Prepares what came out of order up to a commit, which everybody sees, for a block.
    pub(crate) fn seal_late(&self, up_to: CommitId) {
        if let Some(late) = &mut self.state.lock().late {
            late.seal(up_to);
        }
    }

    /// As `seal_late`, but what holds newer samples stays.
    pub(crate) fn seal_late_only(&self, up_to: CommitId) {
        if let Some(late) = &mut self.state.lock().late {
            late.seal_only(up_to);
        }
    }

    /// Lets go of what was prepared: a block has it. Says how many chunks that were.
    pub(crate) fn drop_sealed(&self) -> usize {
        let mut state = self.state.lock();
        let Some(late) = &mut state.late else { return 0 };
        let dropped = late.drop_sealed();
        let (min, max) = late.bounds();
        self.late_min_ms.store(min, Ordering::Release);
        self.late_max_ms.store(max, Ordering::Release);
        state.late.take_if(|late| late.is_empty());
        dropped
    }

    /// Times of the oldest and newest sample that came out of order.
    pub(crate) fn late_bounds(&self) -> (TimestampMs, TimestampMs) {
        (self.late_min_ms.load(Ordering::Acquire), self.late_max_ms.load(Ordering::Acquire))
    }
}
