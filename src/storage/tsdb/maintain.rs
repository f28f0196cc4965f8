//! What keeps memory and disk bounded: cutting blocks off the head, compacting blocks,
//! removing what is no longer kept. All of it beside appends and queries, which never wait
//! for it, and it ends soon after the store is closed.

use std::sync::Arc;

use crate::model::{Matcher, TimestampMs};
use crate::storage::StorageError;

use super::Tsdb;
use super::block::{BlockMeta, Ulid};
use super::compact::compact;
use super::head::LateCut;

/// What is known from one round to the next.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    /// A range that a block has, and the head still has too: `(end, mark)`. It leaves the
    /// head when nobody reads any more who began before the mark.
    pub(super) cut: Option<(TimestampMs, u64)>,
    /// A range was cut since blocks were made of what came out of order.
    late_due: bool,
    /// What is being made blocks of, and once that is done, the mark after which readers
    /// see them.
    late: Option<(LateCut, Option<u64>)>,
    /// In a directory of another process: what came out of order up to a commit leaves memory
    /// when everybody reads the blocks that have it, which is after a mark.
    pub(super) late_followed: Option<(u64, u64)>,
}

impl Tsdb {
    /// One round. Safe to repeat after an error.
    pub(super) fn maintain_once(&self) -> Result<(), StorageError> {
        let mut known = self.maintenance.lock();
        let result = self.cut_head(&mut known).and_then(|()| {
            self.cut_late(&mut known)?;
            self.head.maintain()?;
            self.compact_blocks()?;
            self.blocks.reload(None, &[], self.head.wal_bytes())
        });
        match result {
            Err(StorageError::Closed) if self.stop.is_set() => Ok(()),
            result => result,
        }
    }

    /// Cuts all ranges that are due.
    fn cut_head(&self, known: &mut Maintenance) -> Result<(), StorageError> {
        loop {
            self.stop.check()?;
            self.truncate_cut(known);
            let Some((from_ms, to_ms)) = self.head.due() else { return Ok(()) };
            if known.cut.is_some() || !self.head.settle(to_ms) {
                // Readers or batches are in the way: the next round finds them gone.
                return Ok(());
            }
            self.metrics.compactions_triggered.inc();
            let start_ns = self.clock.monotonic_ns();
            let written = self.head.write_block(&self.dir, (from_ms, to_ms), &self.stop);
            self.count_compaction(&written, start_ns);
            let block = written?;
            if let Some(meta) = &block {
                tell_written("block cut from the head", meta);
            }
            self.blocks.reload(Some(to_ms), &[], self.head.wal_bytes())?;
            known.cut = Some((to_ms, self.head.mark()));
            known.late_due = true;
        }
    }

    /// Makes blocks of what came out of order, once for each time that the head was cut.
    /// Where readers are in the way, the next round goes on.
    fn cut_late(&self, known: &mut Maintenance) -> Result<(), StorageError> {
        if known.late.is_none() && known.late_due {
            known.late = self.head.begin_late_cut()?.map(|cut| (cut, None));
            known.late_due = false;
        }
        if let Some((cut, written @ None)) = &mut known.late
            && self.head.all_read_since(cut.mark)
        {
            self.metrics.compactions_triggered.inc();
            let start_ns = self.clock.monotonic_ns();
            for meta in self.head.write_late_blocks(&self.dir, *cut, &self.stop)? {
                tell_written("block of samples that came out of order", &meta);
                self.count_compaction(&Ok(None), start_ns);
            }
            self.blocks.reload(None, &[], self.head.wal_bytes())?;
            *written = Some(self.head.mark());
        }
        if let Some((cut, Some(mark))) = known.late
            && self.head.all_read_since(mark)
        {
            known.late = None;
            self.head.finish_late_cut(cut)?;
        }
        Ok(())
    }

    pub(super) fn truncate_cut(&self, known: &mut Maintenance) {
        if let Some((to_ms, mark)) = known.cut
            && self.head.all_read_since(mark)
        {
            self.head.truncate(to_ms);
            self.head.forget_followed();
            known.cut = None;
        }
    }

    fn count_compaction(&self, written: &Result<Option<BlockMeta>, StorageError>, start_ns: u64) {
        match written {
            Err(StorageError::Closed) => {}
            Err(_) => drop(self.metrics.compactions_failed.inc()),
            Ok(_) => {
                self.metrics.compactions.inc();
                self.metrics.compaction_seconds.observe(self.seconds_since(start_ns));
            }
        }
    }

    fn seconds_since(&self, start_ns: u64) -> f64 {
        self.clock.monotonic_ns().saturating_sub(start_ns) as f64 / 1e9
    }

    /// Compacts until there is nothing to compact, or a range of the head is due.
    fn compact_blocks(&self) -> Result<(), StorageError> {
        loop {
            self.stop.check()?;
            let shown = self.blocks.shown();
            // Of what came out of order the head may hold the rest still: compacted with other
            // blocks, it would look as if they had all of that time.
            let settled = |meta: &BlockMeta| {
                !meta.compaction.from_out_of_order() || meta.max_time <= shown.head_from_ms
            };
            let blocks: Vec<_> = shown.blocks.iter().filter(|b| settled(b.meta())).collect();
            let metas: Vec<&BlockMeta> = blocks.iter().map(|b| b.meta()).collect();
            let chosen = self.plan.next(&metas);
            if chosen.is_empty() || self.head.due().is_some() {
                return Ok(());
            }
            let chosen: Vec<_> = chosen.iter().map(|i| Arc::clone(blocks[*i])).collect();
            drop(shown);
            self.metrics.compactions_triggered.inc();
            let overlapping =
                chosen.windows(2).any(|w| w[1].meta().min_time < w[0].meta().max_time);
            self.metrics.vertical_compactions.inc_by(u64::from(overlapping));
            let start_ns = self.clock.monotonic_ns();
            let written = compact(&self.disk, &chosen, &self.dir, self.clock.now_ms(), &self.stop);
            self.count_compaction(&written, start_ns);
            let ids: Vec<Ulid> = chosen.iter().map(|b| b.meta().ulid).collect();
            let changed: &[Ulid] = match &written {
                Ok(Some(meta)) => {
                    tell_written("blocks compacted", meta);
                    &[]
                }
                Ok(None) => {
                    for block in &chosen {
                        block.rewrite_meta(&*self.disk, |meta| meta.compaction.deletable = true)?;
                    }
                    &ids
                }
                Err(StorageError::Closed) => &[],
                // A disk that is full or fails now may do better the next time, which is soon;
                // blocks that cannot be read will not.
                Err(StorageError::Io { .. }) => &[],
                Err(error) => {
                    tracing::error!(blocks = ?ids, %error, "compaction failed; these blocks are left as they are");
                    for block in &chosen {
                        block.rewrite_meta(&*self.disk, |meta| meta.compaction.failed = true)?;
                    }
                    &ids
                }
            };
            self.blocks.reload(None, changed, self.head.wal_bytes())?;
            written?;
        }
    }

    /// Deletes the samples of a closed interval of the series that satisfy all matchers of
    /// any of the sets. What is in blocks is hidden, and leaves the disk when the block is
    /// next compacted or cleaned.
    pub fn delete_series(
        &self,
        matcher_sets: &[Vec<Matcher>],
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> Result<(), StorageError> {
        let _alone = self.maintenance.lock();
        for matchers in matcher_sets {
            let shown = self.blocks.shown();
            let mut changed = Vec::new();
            for block in shown.blocks.iter().filter(|block| block.overlaps(from_ms, to_ms)) {
                if block.delete(&*self.disk, matchers, from_ms, to_ms)? {
                    changed.push(block.meta().ulid);
                }
            }
            if !changed.is_empty() {
                self.blocks.reload(None, &changed, self.head.wal_bytes())?;
            }
            self.head.delete(matchers, from_ms, to_ms)?;
        }
        Ok(())
    }

    /// Writes every block anew of which something was deleted.
    pub fn clean_tombstones(&self) -> Result<(), StorageError> {
        let _alone = self.maintenance.lock();
        let start_ns = self.clock.monotonic_ns();
        for block in &self.blocks.shown().blocks {
            if block.meta().stats.num_tombstones == 0 {
                continue;
            }
            let one = std::slice::from_ref(block);
            let written = compact(&self.disk, one, &self.dir, self.clock.now_ms(), &self.stop)?;
            let id = block.meta().ulid;
            if written.is_none() {
                block.rewrite_meta(&*self.disk, |meta| meta.compaction.deletable = true)?;
            }
            self.blocks.reload(None, &[id], self.head.wal_bytes())?;
        }
        self.metrics.tombstone_cleanup_seconds.observe(self.seconds_since(start_ns));
        Ok(())
    }

    /// Puts all blocks, and unless `skip_head` the samples in memory as one more, into a
    /// new directory below `snapshots`. Returns its name.
    pub fn snapshot(&self, skip_head: bool) -> Result<String, StorageError> {
        let _alone = self.maintenance.lock();
        let now_ms = self.clock.now_ms();
        let name = snapshot_name(now_ms);
        let dir = self.blocks.snapshot_dir(&name)?;
        let view = self.head.view();
        let shown = self.blocks.shown();
        for block in &shown.blocks {
            block.snapshot(&*self.disk, &dir)?;
        }
        let (oldest, newest) = self.head.bounds();
        if !skip_head && oldest <= newest {
            let from_ms = oldest.max(shown.head_from_ms);
            self.head.write_block(&dir, (from_ms, newest.saturating_add(1)), &self.stop)?;
        }
        if !skip_head {
            self.head.copy_late_blocks(&dir, &self.stop)?;
        }
        drop(view);
        Ok(name)
    }

    /// Descriptions of the blocks that are served, by their beginning.
    pub fn block_metas(&self) -> Vec<BlockMeta> {
        self.blocks.shown().blocks.iter().map(|block| block.meta().clone()).collect()
    }
}

fn tell_written(what: &str, meta: &BlockMeta) {
    tracing::info!(
        block = %meta.ulid,
        min_time_ms = meta.min_time,
        max_time_ms = meta.max_time,
        series = meta.stats.num_series,
        samples = meta.stats.num_samples,
        level = meta.compaction.level,
        "{what}"
    );
}

/// The time, and something random, as Prometheus names snapshots.
fn snapshot_name(now_ms: TimestampMs) -> String {
    let time = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    format!("{}-{:016x}", time.format("%Y%m%dT%H%M%SZ"), rand::random::<u64>())
}
