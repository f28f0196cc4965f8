//! Forgetting: samples that blocks have, series without samples, log segments that hold
//! nothing newer.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::tsdb::wal::checkpoint::{self, Keep};
use crate::storage::tsdb::wal::{observe_since, segment};

use super::Head;

impl Head {
    /// Ranks series, completes a segment that has been open for long, and replaces obsolete
    /// segments by a checkpoint. To be called about once a minute; appends and reads go on
    /// meanwhile. Safe to repeat after an error.
    pub(crate) fn maintain(&self) -> Result<(), StorageError> {
        let _alone = self.maintenance.lock();
        self.rank_if_stale();
        self.write_chunks()?;
        self.write_late_chunks()?;
        self.truncate_wal()
    }

    /// Ranks all series when many are new.
    pub(super) fn rank_if_stale(&self) {
        if self.ranking.is_stale(self.series.len()) {
            let mut all = Vec::with_capacity(self.series.len());
            self.series.for_each(|series| all.push(Arc::clone(series)));
            self.ranking.rank(all);
        }
    }

    /// Drops whole chunks older than `from_ms` and the series that are empty then.
    pub(crate) fn truncate(&self, from_ms: TimestampMs) {
        // Commits wait: a series must not vanish between their check and their append.
        let mut committer = self.commit.lock();
        let start_ns = self.clock.monotonic_ns();
        self.under_way.raise(from_ms);
        self.truncated_ms.fetch_max(from_ms, Ordering::AcqRel);
        let (mut chunks, mut oldest, mut gone) = (0, TimestampMs::MAX, Vec::new());
        self.series.for_each(|series| {
            let (dropped, empty) = series.truncate(from_ms);
            chunks += dropped;
            if empty {
                // A select under way may still hold it: the next ranking will not know it.
                series.set_rank(0);
                gone.push(Arc::clone(series));
            } else {
                oldest = oldest.min(series.bounds().0);
            }
        });
        self.series.remove(&gone);
        self.selections.clear();
        if from_ms > committer.aliases_until_ms
            && !self.has_late(TimestampMs::MIN, TimestampMs::MAX)
        {
            committer.aliases.clear();
        }
        if let Some(segment) = committer.wal.as_ref().map(|w| w.segment()) {
            committer.expiring.extend(gone.iter().map(|s| (s.id, segment)));
        }
        self.min_ms.store(oldest, Ordering::Release);
        if oldest == TimestampMs::MAX {
            self.max_ms.store(TimestampMs::MIN, Ordering::Release);
        }
        drop(committer);
        self.forget_metadata();
        if let Err(error) = self.forget_chunks() {
            tracing::warn!(%error, "files of head chunks stay that are not needed any more");
        }
        observe_since(&self.metrics.head_gc_seconds, self.clock.as_ref(), start_ns);
        self.metrics.head_min_time.set(oldest);
        self.metrics.head_truncations.inc();
        self.metrics.head_chunks.dec_by(chunks as i64);
        self.metrics.head_chunks_removed.inc_by(chunks as u64);
        self.metrics.head_series.dec_by(gone.len() as i64);
        self.metrics.head_series_removed.inc_by(gone.len() as u64);
        tracing::info!(series = gone.len(), chunks, from_ms, "head truncated");
    }

    /// Metadata of families that no series carries any more goes.
    fn forget_metadata(&self) {
        let postings = self.series.postings();
        let alive = |family: &str| {
            ["", "_total", "_count", "_bucket", "_sum", "_info"].iter().any(|suffix| {
                let name = format!("{family}{suffix}");
                !postings.get(crate::model::METRIC_NAME, &name).is_empty()
            })
        };
        self.metadata.write().retain(|family, _| alive(family));
    }

    fn truncate_wal(&self) -> Result<(), StorageError> {
        let Some(last) = self.obsolete_segments()? else { return Ok(()) };
        let start_ns = self.clock.monotonic_ns();
        self.metrics.wal.truncations.inc();
        self.metrics.checkpoints_created.inc();
        let committer = self.commit.lock();
        let (expiring, unread_up_to) = (committer.expiring.clone(), committer.unread_up_to);
        let aliases: HashSet<u64> = committer.aliases.keys().copied().collect();
        drop(committer);
        let keep = Keep {
            series: &|id| {
                self.series.by_id(id).is_some()
                    || aliases.contains(&id)
                    || unread_up_to.is_some_and(|unread| last < unread)
                    || expiring.get(&id).is_some_and(|s| *s > last)
            },
            from_ms: self.truncated_ms.load(Ordering::Acquire),
        };
        let (options, clock) = (self.options.wal.clone(), Arc::clone(&self.clock));
        if let Err(e) = checkpoint::create(&self.wal_dir, last, &keep, options, clock) {
            self.metrics.checkpoints_failed.inc();
            self.metrics.wal.truncations_failed.inc();
            return Err(e);
        }
        observe_since(&self.metrics.wal_truncate_seconds, self.clock.as_ref(), start_ns);
        let mut committer = self.commit.lock();
        committer.expiring.retain(|_, segment| *segment > last);
        committer.segment_max_ms.retain(|segment, _| *segment > last);
        drop(committer);
        self.metrics.wal.storage_bytes.set(segment::size_bytes(&self.wal_dir)? as i64);
        tracing::info!(checkpoint = last, "write-ahead log truncated");
        Ok(())
    }

    /// The last of the oldest segments that hold no sample a reader could still want.
    fn obsolete_segments(&self) -> Result<Option<u32>, StorageError> {
        let mut committer = self.commit.lock();
        let from_ms = self.truncated_ms.load(Ordering::Acquire);
        let (now, range) = (self.clock.now_ms(), self.options.chunk_range_ms);
        let (_, started) = committer.segment_started;
        let Some(wal) = committer.wal.as_mut() else { return Ok(None) };
        // A slow trickle would keep its segment, and all before it, for ever.
        if wal.segment_len() > 0 && now.saturating_sub(started) >= range {
            wal.cut()?;
        }
        let current = wal.segment();
        if committer.segment_started.0 != current {
            committer.segment_started = (current, now);
        }
        let newest: &BTreeMap<u32, TimestampMs> = &committer.segment_max_ms;
        let last = segment::list(&self.wal_dir)?
            .iter()
            .map(|s| s.index)
            .take_while(|i| *i < current && newest.get(i).is_none_or(|max| *max < from_ms))
            .last();
        Ok(last)
    }
}
