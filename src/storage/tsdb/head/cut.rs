//! Cutting a block off the head: its oldest whole range, once the newest sample is a range
//! and a half ahead of the oldest one.
//!
//! In this order: no batch may append to the range any more; the block is written and made
//! durable; readers are shown it; the readers that were not have ended; the range leaves
//! memory, and with the next checkpoint the log. A crash in between leaves the samples in
//! the log, in the block, or in both: what a block has is not replayed.

use std::path::Path;
use std::sync::Arc;

use crate::model::{Matcher, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::block::{BlockMeta, BlockWriter, NewChunk, RawChunk, Ulid};
use crate::storage::tsdb::chunk::{Chunk, range_end};
use crate::storage::tsdb::compact::recode::{Recoder, Stop};
use crate::storage::tsdb::wal::record::{RefTombstone, encode_tombstones};
use crate::vector::RawSamples;

use super::Head;
use super::isolation::CommitId;
use super::series::MemSeries;

/// Series written before a look at whether to stop.
const PER_LOOK: usize = 1024;

impl Head {
    /// The interval that is due to be cut off, open at its end.
    pub(crate) fn due(&self) -> Option<(TimestampMs, TimestampMs)> {
        let (oldest, newest) = self.bounds();
        if oldest > newest {
            return None;
        }
        // A sample far in the future must not push everything else out.
        let newest = newest.min(self.clock.now_ms());
        let range = self.options.chunk_range_ms;
        (newest.saturating_sub(oldest) > range / 2 * 3).then(|| (oldest, range_end(oldest, range)))
    }

    /// Takes no samples older than `to_ms` from now on. False while a batch under way has
    /// some: then the interval cannot be cut yet.
    pub(crate) fn settle(&self, to_ms: TimestampMs) -> bool {
        self.under_way.raise(to_ms)
    }

    /// Writes what lies before `to_ms` as a block. `None` when all of it was deleted.
    pub(crate) fn write_block(
        &self,
        dir: &Path,
        (from_ms, to_ms): (TimestampMs, TimestampMs),
        stop: &Stop,
    ) -> Result<Option<BlockMeta>, StorageError> {
        let mut all = Vec::new();
        self.series.for_each(|series| {
            if series.bounds().0 < to_ms {
                all.push(Arc::clone(series));
            }
        });
        let all = self.ranking.sort(all);
        let mut meta = BlockMeta::new(Ulid::new(self.clock.now_ms()), from_ms, to_ms);
        meta.compaction.level = 1;
        meta.compaction.sources = vec![meta.ulid];
        let symbols = self.symbols();
        let mut writer =
            BlockWriter::create(&self.options.wal.disk, dir, meta, symbols.iter().map(Ok))?;
        let mut recoder = Recoder::default();
        for (i, series) in all.iter().enumerate() {
            if i % PER_LOOK == 0 {
                stop.check()?;
            }
            write_series(series, (from_ms, to_ms), &mut recoder, &mut writer)?;
        }
        writer.finish(stop)
    }

    /// All names and values, sorted, each once.
    pub(super) fn symbols(&self) -> Vec<Box<str>> {
        let postings = self.series.postings();
        let mut all: Vec<Box<str>> = Vec::new();
        for name in postings.names() {
            all.push(name.into());
            all.extend(postings.values(name).map(|(value, _)| value.into()));
        }
        drop(postings);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Marks the present: whoever starts to read from now on is told apart from those that
    /// read already, see [`Head::all_read_since`].
    pub(crate) fn mark(&self) -> CommitId {
        // As an empty commit: numbers are given out under the lock.
        let _commit = self.commit.lock();
        let mark = self.isolation.finished() + 1;
        self.isolation.finish(mark);
        mark
    }

    /// True when every reader started after a mark.
    pub(crate) fn all_read_since(&self, mark: CommitId) -> bool {
        self.isolation.oldest_visible() >= mark
    }

    /// Deletes the samples of a closed interval: in memory, and in the log for a restart.
    pub(crate) fn delete(
        &self,
        matchers: &[Matcher],
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> Result<(), StorageError> {
        let satisfies = |id: u64, matcher: &Matcher| {
            self.series.by_id(id).is_some_and(|s| matcher.matches_labels(&s.labels))
        };
        let ids = self.series.postings().select(matchers, &satisfies);
        let mut committer = self.commit.lock();
        let found = ids.into_iter().filter_map(|id| self.series.by_id(id));
        let mut stones = Vec::new();
        let mut series = Vec::new();
        for one in found {
            let ((oldest, newest), late) = (one.bounds(), one.late_bounds());
            let (oldest, newest) = (oldest.min(late.0), newest.max(late.1));
            let (min_ms, max_ms) = (from_ms.max(oldest), to_ms.min(newest));
            if min_ms <= max_ms {
                stones.push(RefTombstone { series: one.id, min_ms, max_ms });
                series.push(one);
            }
        }
        if stones.is_empty() {
            return Ok(());
        }
        let mut record = Vec::new();
        encode_tombstones(&stones, &mut record);
        committer.wal.as_mut().ok_or(StorageError::Closed)?.log(&[&record])?;
        for (series, stone) in series.iter().zip(&stones) {
            series.delete(stone.min_ms, stone.max_ms);
        }
        Ok(())
    }

    /// Bytes of the log on disk.
    pub(crate) fn wal_bytes(&self) -> u64 {
        u64::try_from(self.metrics.wal.storage_bytes.get()).unwrap_or(0)
    }
}

fn write_series(
    series: &MemSeries,
    (from_ms, to_ms): (TimestampMs, TimestampMs),
    recoder: &mut Recoder,
    writer: &mut BlockWriter,
) -> Result<(), StorageError> {
    let (mut chunks, deleted) = series.chunks_before(to_ms);
    let whole = |c: &Arc<Chunk>| {
        from_ms <= c.min_ms
            && c.max_ms < to_ms
            && deleted.as_ref().is_none_or(|deleted| !deleted.touch(c.min_ms, c.max_ms))
    };
    if !chunks.iter().all(whole) {
        let mut samples = RawSamples::default();
        for chunk in &chunks {
            chunk.read_into(from_ms, to_ms - 1, &mut samples)?;
        }
        if let Some(deleted) = deleted {
            deleted.remove_from(&mut samples);
        }
        chunks = recoder.encode(&samples).into_iter().map(Arc::new).collect();
    }
    writer.add(&series.labels, chunks.iter().map(|chunk| new_chunk(chunk)))
}

/// A chunk as a block takes it.
pub(crate) fn new_chunk(chunk: &Chunk) -> NewChunk<'_> {
    NewChunk {
        min_ms: chunk.min_ms,
        max_ms: chunk.max_ms,
        chunk: RawChunk { encoding: chunk.encoding as u8, bytes: &chunk.bytes },
    }
}
