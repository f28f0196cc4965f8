//! Entries of the log whose series it has not named: the record that does was damaged, or
//! it comes later. They wait until the start has read everything that may name them: the log
//! itself, and a snapshot that lies there, used or not. What is left then is told, with the
//! place of the first, and counted; it is in the log still, and nowhere else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use crate::model::{Labels, TimestampMs};
use crate::storage::tsdb::wal::record::RefTombstone;
use crate::vector::RawSamples;

use super::Head;
use super::replay::Replayer;
use super::series::SampleValue;
use super::snapshot;

/// Entries that wait; of further ones only the number is known.
const WAITING_MAX: usize = 1 << 21;

/// Samples of the log that belong to no series, because what named it was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostSeries {
    pub series: usize,
    pub samples: u64,
    /// Where the first of them is.
    pub file: PathBuf,
    pub offset: u64,
}

/// What is waiting for its series.
#[derive(Clone, Debug)]
pub(super) enum Orphan {
    Sample { late: bool, ts: TimestampMs, value: SampleValue },
    Tombstone(RefTombstone),
}

/// What waits for one series.
#[derive(Debug)]
struct Waiting {
    /// Which of all series it is, the file, and the offset of the first entry.
    first: (usize, Arc<Path>, u64),
    entries: Vec<Orphan>,
    /// Those there was no room for.
    dropped: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Orphans {
    by_series: HashMap<u64, Waiting, FxBuildHasher>,
    waiting: usize,
    met: usize,
    /// File and offset of the record being read.
    file: Arc<Path>,
    offset: u64,
    /// Of those that belong to a series after all.
    recovered: u64,
}

impl Default for Orphans {
    fn default() -> Self {
        Self {
            by_series: HashMap::default(),
            waiting: 0,
            met: 0,
            file: Path::new("").into(),
            offset: 0,
            recovered: 0,
        }
    }
}

impl Orphans {
    /// Notes which file is read.
    pub(super) fn reading(&mut self, file: &Path) {
        self.file = file.into();
    }

    /// Notes where in it.
    pub(super) fn reading_at(&mut self, offset: u64) {
        self.offset = offset;
    }

    fn add(&mut self, series: u64, orphan: Orphan) {
        let waiting = self.by_series.entry(series).or_insert_with(|| {
            self.met += 1;
            let first = (self.met, Arc::clone(&self.file), self.offset);
            Waiting { first, entries: Vec::new(), dropped: 0 }
        });
        if self.waiting < WAITING_MAX {
            waiting.entries.push(orphan);
            self.waiting += 1;
        } else {
            waiting.dropped += 1;
        }
    }
}

impl Replayer {
    /// Keeps what belongs to a series that is not known yet. Of the log that is followed
    /// only the number counts: it is read anew then.
    pub(super) fn orphan(&mut self, head: &Head, series: u64, orphan: Orphan) {
        self.found.unknown_refs += 1;
        // Whoever gets the reference next must not get the samples.
        head.series.reserve_id(series);
        if let Some(orphans) = &mut self.orphans {
            orphans.add(series, orphan);
        }
    }

    /// Gives a series that was just named what waited for it.
    pub(super) fn adopt(&mut self, head: &Head, id: u64) {
        let Some(orphans) = &mut self.orphans else { return };
        let Some(waiting) = orphans.by_series.remove(&id) else { return };
        let count = waiting.entries.len();
        orphans.waiting -= count;
        orphans.recovered += count as u64;
        self.found.unknown_refs -= count as u64;
        // Those may be of the same series under another reference.
        self.add_waiting(head);
        for orphan in waiting.entries {
            match orphan {
                Orphan::Tombstone(stone) => {
                    if let Some(series) = self.series.get(&id) {
                        series.delete(stone.min_ms, stone.max_ms);
                    }
                }
                Orphan::Sample { late, ts, value } => {
                    // It may have been named by another reference meanwhile, and gone on.
                    let passed = self.series.get(&id).is_some_and(|s| s.newest_ms() >= ts);
                    if !late && !passed {
                        self.add_sample(head, id, ts, &value);
                    } else if late || !self.holds(id, ts) {
                        self.add_late(head, id, ts, &value);
                    }
                }
            }
        }
    }

    fn holds(&self, id: u64, ts: TimestampMs) -> bool {
        let mut there = RawSamples::default();
        let Some(series) = self.series.get(&id) else { return false };
        let read = series.read_into(self.commit.0, ts, ts, &mut there);
        read.is_ok() && !(there.ts.is_empty() && there.hist.is_empty())
    }

    /// After everything was read: looks who else names the series, and tells what is left.
    pub(super) fn settle_orphans(&mut self, head: &Head) -> Option<LostSeries> {
        if self.orphans.as_ref().is_some_and(|orphans| !orphans.by_series.is_empty()) {
            for (id, labels) in names_of(head) {
                if self.orphans.as_ref().is_some_and(|o| o.by_series.contains_key(&id)) {
                    self.add_series(head, id, &labels);
                }
            }
        }
        let orphans = self.orphans.take()?;
        if orphans.recovered > 0 {
            tracing::warn!(
                entries = orphans.recovered,
                "the log names series after their samples, or not at all; they were found nevertheless"
            );
        }
        let mut samples = 0;
        for waiting in orphans.by_series.values() {
            samples += waiting.dropped;
            head.metrics.count_unknown(false, "samples", waiting.dropped);
            for orphan in &waiting.entries {
                let (late, kind) = match orphan {
                    Orphan::Tombstone(_) => (false, "tombstones"),
                    Orphan::Sample { late, value: SampleValue::Float(_), .. } => (*late, "samples"),
                    Orphan::Sample { late, .. } => (*late, "histograms"),
                };
                samples += u64::from(kind != "tombstones");
                head.metrics.count_unknown(late, kind, 1);
            }
        }
        let first = orphans.by_series.values().map(|w| &w.first).min()?;
        if samples == 0 {
            return None;
        }
        let lost = LostSeries {
            series: orphans.by_series.len(),
            samples,
            file: first.1.to_path_buf(),
            offset: first.2,
        };
        tracing::error!(
            series = lost.series,
            samples = lost.samples,
            segment = %lost.file.display(),
            offset = lost.offset,
            "samples of the write-ahead log belong to series that nothing names any more; they are lost to queries"
        );
        Some(lost)
    }
}

/// Series by reference, as a snapshot names them: that of the last orderly shutdown, also
/// when it is not started from.
fn names_of(head: &Head) -> Vec<(u64, Labels)> {
    match snapshot::load(&head.dir) {
        Ok(Some(snapshot)) => {
            snapshot.series.into_iter().map(|(id, labels, _)| (id, labels)).collect()
        }
        _ => Vec::new(),
    }
}
