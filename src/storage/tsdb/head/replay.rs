//! Rebuilding the head from the log.
//!
//! What a series record names under several references is one series: it left the head and
//! came back. Samples are taken by the rules of a live append, so what was refused then is
//! refused again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use crate::model::exemplar::Exemplar;
use crate::model::{Labels, METRIC_NAME, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::chunk::Chunk;
use crate::storage::tsdb::encoding::DecodeError;
use crate::storage::tsdb::wal::checkpoint::remove_obsolete;
use crate::storage::tsdb::wal::reader::{Damage, ReadError, SegmentReader};
use crate::storage::tsdb::wal::record::{Record, RefExemplar, RefHistogram, RefSample};
use crate::storage::tsdb::wal::segment::{self, CheckpointDir, Segment};
use crate::vector::RawSamples;

use super::Head;
use super::chunk_files::LateChunks;
use super::follow::Tail;
use super::isolation::CommitId;
use super::orphans::{Orphan, Orphans};
use super::series::{MemSeries, Outcome, SampleValue};
use super::snapshot::{self, Snapshot};

/// Samples that wait: some of each series, but not many more than the cache holds of few
/// series, and at most so many of many. And into how many heaps series are divided.
const WAITING_OF_SERIES: usize = 8;
const WAITING_MIN: usize = 1 << 14;
const WAITING_MAX: usize = 1 << 20;
const HEAPS: usize = 1 << 10;

/// Samples that were read and not added yet. The log has them by time, all series after one
/// another, and each series is in another corner of the memory: added heap by heap, the few
/// series of a heap stay in the processor's cache for as long as they get samples. The
/// samples of a series are in one heap, in their order, whatever reference they came under.
#[derive(Debug, Default)]
struct Waiting {
    heaps: Vec<Vec<(u64, TimestampMs, SampleValue)>>,
    count: usize,
    /// The first reference of series that have several.
    firsts: HashMap<u64, u64, FxBuildHasher>,
}

impl Waiting {
    /// True when it is time to add them, with so many series.
    fn push(&mut self, series: usize, id: u64, ts: TimestampMs, value: SampleValue) -> bool {
        if self.heaps.is_empty() {
            self.heaps.resize_with(HEAPS, Vec::new);
        }
        let first =
            if self.firsts.is_empty() { id } else { self.firsts.get(&id).copied().unwrap_or(id) };
        self.heaps[first as usize % HEAPS].push((id, ts, value));
        self.count += 1;
        self.count >= (WAITING_OF_SERIES * series).clamp(WAITING_MIN, WAITING_MAX)
    }
}

/// What replay found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Newest sample of each segment.
    pub(super) segment_max_ms: std::collections::BTreeMap<u32, TimestampMs>,
    /// Up to this segment nothing was read: a snapshot has it.
    pub(super) unread_up_to: Option<u32>,
    /// References that stand for a series known under another one.
    pub(super) aliases: Vec<(u64, Arc<MemSeries>)>,
    samples: u64,
    /// Entries whose series record is missing, and records of unknown type.
    pub(super) unknown_refs: u64,
    unknown_records: u64,
}

/// Applies records to a head.
#[derive(Debug, Default)]
pub(super) struct Replayer {
    pub(super) series: HashMap<u64, Arc<MemSeries>, FxBuildHasher>,
    /// References whose series had left the head when it was last looked.
    gone: HashSet<u64, FxBuildHasher>,
    pub(super) found: Replayed,
    pub(super) chunks: u64,
    newest_ms: TimestampMs,
    waiting: Waiting,
    /// The commit that samples are part of, and what every reader sees: see `Isolation`.
    pub(super) commit: (CommitId, CommitId),
    /// Chunks in files, of series that were not met yet.
    mapped: HashMap<u64, Vec<Arc<Chunk>>, FxBuildHasher>,
    /// The same of samples that came out of order, by their place. They count where the log
    /// says so: what it does not name is in a block.
    pub(super) late_mapped: LateChunks,
    /// Records that were read, where they are to be written anew.
    pub(super) kept: Option<Vec<Vec<u8>>>,
    /// What is read is the log of samples that came out of order.
    pub(super) late: bool,
    /// What belongs to series that are not known yet; `None` once the start is over.
    pub(super) orphans: Option<Orphans>,
}

impl Head {
    /// Reads the log into the empty head. Damage is repaired, see `repair`; in a directory
    /// that is only read it is passed over. The tail is where to go on.
    pub(super) fn replay(&self) -> Result<(Replayed, Tail), StorageError> {
        let dir = &self.wal_dir;
        let mut tail = Tail::default();
        tail.replayer.orphans = Some(Orphans::default());
        let read_only = self.options.read_only;
        if read_only && !dir.exists() {
            return Ok((Replayed::default(), tail));
        }
        if !read_only {
            segment::remove_temporary(dir)?;
        }
        let mut loaded = self.load_chunks()?;
        let checkpoint = segment::last_checkpoint(dir)?;
        let mut segments = segment::list(dir)?;
        let mut snapshot = self.load_snapshot(&loaded).filter(|snapshot| {
            let last = segments.last().is_some_and(|s| s.index >= snapshot.segment);
            last && checkpoint.as_ref().is_none_or(|c| c.index < snapshot.segment)
        });
        if let Some(found) = &mut snapshot
            && found.last_series.is_none()
        {
            let mut unread = match &checkpoint {
                Some(checkpoint) => segment::list(&checkpoint.path)?,
                None => Vec::new(),
            };
            unread.extend(segments.iter().filter(|s| s.index <= found.segment).cloned());
            found.last_series = snapshot::last_series_of(&unread)?;
            snapshot = snapshot.filter(|found| found.last_series.is_some());
        }
        tail.replayer.mapped = std::mem::take(&mut loaded.by_series);
        tail.replayer.late_mapped = std::mem::take(&mut loaded.late);
        if let (Some(checkpoint), None) = (&checkpoint, &snapshot) {
            self.replay_checkpoint(checkpoint, &mut tail.replayer)?;
        }
        // A crash may have come between the checkpoint and the removal of what it replaces.
        if let Some(checkpoint) = checkpoint.as_ref().filter(|_| !read_only) {
            remove_obsolete(dir, checkpoint.index)?;
            segments.retain(|s| s.index > checkpoint.index);
        }
        if read_only {
            self.check_whole(checkpoint.as_ref(), &segments)?;
            segments.retain(|s| checkpoint.as_ref().is_none_or(|c| s.index > c.index));
        }
        let start = snapshot.as_ref().map(|s| (s.segment, s.offset));
        if let Some(snapshot) = snapshot {
            self.apply_snapshot(snapshot, &mut tail.replayer);
        }
        if let Some((first, last)) = segments.first().zip(segments.last()) {
            self.options.progress.begin(first.index, last.index);
        }
        for (i, source) in segments.iter().enumerate() {
            self.options.progress.at(source.index);
            let mut reader = SegmentReader::open(source)?;
            match start {
                Some((segment, _)) if source.index < segment => {
                    tail.replayer.skip_segment(source.index);
                    continue;
                }
                Some((segment, offset)) if source.index == segment => reader.start_at(offset)?,
                _ => {}
            }
            let is_last = i + 1 == segments.len();
            self.replay_segment(source, &mut reader, &mut tail.replayer, is_last)?;
            tail.reader = Some(reader);
        }
        self.replay_late(&mut tail)?;
        *self.lost.lock() = tail.replayer.settle_orphans(self);
        if !read_only {
            snapshot::remove_all(&self.dir)?;
        }
        self.finish_replay(&mut tail.replayer);
        Ok((std::mem::take(&mut tail.replayer.found), tail))
    }

    fn replay_checkpoint(
        &self,
        checkpoint: &CheckpointDir,
        replayer: &mut Replayer,
    ) -> Result<(), StorageError> {
        for source in segment::list(&checkpoint.path)? {
            let mut reader = SegmentReader::open(&source)?;
            self.replay_segment(&source, &mut reader, replayer, false)?;
        }
        Ok(())
    }

    /// Reads the log of samples that came out of order, which names series of the other one.
    fn replay_late(&self, tail: &mut Tail) -> Result<(), StorageError> {
        if !self.wbl_dir.exists() {
            return Ok(());
        }
        tail.replayer.late = true;
        let segments = segment::list(&self.wbl_dir)?;
        for (i, source) in segments.iter().enumerate() {
            let mut reader = SegmentReader::open(source)?;
            let is_last = i + 1 == segments.len();
            self.replay_segment(source, &mut reader, &mut tail.replayer, is_last)?;
            tail.late_reader = Some(reader);
        }
        tail.replayer.late = false;
        Ok(())
    }

    fn finish_replay(&self, replayer: &mut Replayer) {
        self.metrics.head_chunks.set(replayer.chunks as i64);
        self.metrics.head_chunks_created.inc_by(replayer.chunks);
        // Whoever gets such a reference next must not get the chunks.
        replayer.mapped.keys().for_each(|id| self.series.reserve_id(*id));
        replayer.mapped = HashMap::default();
        // Who goes on following needs far less room.
        replayer.waiting.heaps = Vec::new();
        replayer.late_mapped = HashMap::default();
        let found = &mut replayer.found;
        self.forget_empty(found);
        self.metrics.head_series_not_found.inc_by(found.unknown_refs);
        if found.unknown_records > 0 {
            tracing::warn!(
                records = found.unknown_records,
                "the write-ahead log holds records of an unknown type; they were skipped"
            );
        }
        tracing::info!(
            series = self.series.len(),
            samples = found.samples,
            "write-ahead log replayed"
        );
    }

    /// Fails when the log of a running server changed while it was listed.
    fn check_whole(
        &self,
        checkpoint: Option<&CheckpointDir>,
        segments: &[Segment],
    ) -> Result<(), StorageError> {
        let first_wanted = checkpoint.map_or(0, |c| c.index + 1);
        let now = segment::last_checkpoint(&self.wal_dir)?.map(|c| c.index);
        let gap = checkpoint.is_some() && segments.first().is_some_and(|s| s.index > first_wanted);
        if gap || now != checkpoint.map(|c| c.index) {
            return Err(StorageError::Io {
                what: format!("read WAL directory {}", self.wal_dir.display()),
                cause: "it was truncated meanwhile; try again".to_owned(),
            });
        }
        Ok(())
    }

    pub(super) fn tell_passed_over(&self, source: &Segment, offset: u64, damage: &Damage) {
        self.metrics.wal_corruptions.inc();
        tracing::warn!(
            segment = %source.path.display(),
            offset,
            reason = %damage,
            "a segment of the write-ahead log is damaged; the rest of it is not read"
        );
    }

    /// Drops series of which blocks have all samples. Segments may name them still.
    fn forget_empty(&self, found: &mut Replayed) {
        let mut empty = Vec::new();
        self.series.for_each(|series| {
            let ((oldest, newest), late) = (series.bounds(), series.late_bounds());
            if oldest > newest && late.0 > late.1 {
                series.close();
                empty.push(Arc::clone(series));
            }
        });
        self.series.remove(&empty);
        self.metrics.head_series.dec_by(empty.len() as i64);
        self.metrics.head_series_removed.inc_by(empty.len() as u64);
        found.aliases.extend(empty.into_iter().map(|series| (series.id, series)));
    }
}

impl Replayer {
    /// Reads a segment up to its end or to damage, whose offset is returned, and notes its
    /// newest sample.
    pub(super) fn read_segment(
        &mut self,
        head: &Head,
        reader: &mut SegmentReader,
    ) -> Result<Option<(u64, Damage)>, StorageError> {
        self.newest_ms = TimestampMs::MIN;
        let damage = self.read(head, reader);
        self.add_waiting(head);
        if !self.late && self.newest_ms > TimestampMs::MIN {
            let held = self.found.segment_max_ms.entry(reader.segment()).or_insert(self.newest_ms);
            *held = self.newest_ms.max(*held);
        }
        damage
    }

    /// As `read_segment`, without the note.
    fn read(
        &mut self,
        head: &Head,
        reader: &mut SegmentReader,
    ) -> Result<Option<(u64, Damage)>, StorageError> {
        loop {
            let damage = match reader.next() {
                Ok(None) => return Ok(None),
                Ok(Some(bytes)) => match Record::decode(bytes) {
                    Ok(record) => {
                        if let Some(kept) = &mut self.kept {
                            kept.push(bytes.to_vec());
                        }
                        if let Some(orphans) = &mut self.orphans {
                            orphans.reading_at(reader.good());
                        }
                        self.apply(head, record);
                        continue;
                    }
                    Err(DecodeError::UnknownType(_)) => {
                        self.found.unknown_records += 1;
                        continue;
                    }
                    Err(e) => Damage::Record(e.to_string()),
                },
                Err(ReadError::Damaged(damage)) => damage,
                Err(ReadError::Storage(e)) => return Err(e),
            };
            return Ok(Some((reader.good(), damage)));
        }
    }

    /// Entries so far whose series is not known.
    pub(super) fn unknown_refs(&self) -> u64 {
        self.found.unknown_refs
    }

    /// Forgets references of series that left the head at the time before this, and did not
    /// come back since: whoever writes the log does not use them any more either.
    pub(super) fn forget_gone(&mut self) {
        let is_gone = |(id, s): (&u64, &Arc<MemSeries>)| s.is_gone().then_some(*id);
        let gone: HashSet<u64, _> = self.series.iter().filter_map(is_gone).collect();
        self.series.retain(|id, _| !(gone.contains(id) && self.gone.contains(id)));
        self.waiting.firsts.retain(|id, _| self.series.contains_key(id));
        self.gone = gone;
        self.found.aliases.clear();
        self.found.segment_max_ms.clear();
    }

    fn apply(&mut self, head: &Head, record: Record) {
        match record {
            Record::Series(all) => {
                for (id, labels) in all {
                    // A series without labels cannot be written; one in the log is ignored.
                    if !labels.is_empty() && !self.series.contains_key(&id) {
                        self.add_series(head, id, &labels);
                    }
                }
            }
            Record::Samples(all) => {
                for RefSample { series, ts, value } in all {
                    self.take_sample(head, series, ts, SampleValue::Float(value));
                }
            }
            Record::Histograms(all) => {
                for RefHistogram { series, ts, value } in all {
                    self.take_sample(head, series, ts, SampleValue::Histogram(value));
                }
            }
            Record::Tombstones(all) => {
                self.add_waiting(head);
                for stone in all {
                    match self.series.get(&stone.series) {
                        Some(series) => series.delete(stone.min_ms, stone.max_ms),
                        None => self.orphan(head, stone.series, Orphan::Tombstone(stone)),
                    }
                }
            }
            Record::Metadata(all) => {
                for (id, metadata) in all {
                    let Some(series) = self.series.get(&id) else { continue };
                    if let Some(name) = series.labels.get(METRIC_NAME) {
                        let family = metadata.kind.family(name);
                        head.metadata.write().insert(family.into(), metadata);
                    }
                }
            }
            Record::Exemplars(all) => {
                for RefExemplar { series, ts, value, labels } in all {
                    let Some(series) = self.series.get(&series) else { continue };
                    // The log does not say whether the time is its own.
                    let exemplar = Exemplar { labels, value, ts, has_ts: true };
                    head.exemplars().add(&series.labels, exemplar);
                }
            }
            Record::Markers(all) => self.take_late_chunks(head, &all),
            Record::Other => {}
        }
    }

    pub(super) fn add_series(&mut self, head: &Head, id: u64, labels: &Labels) {
        let (series, created) = head.series_of(labels, Some(id));
        if !created {
            head.series.reserve_id(id);
            self.found.aliases.push((id, Arc::clone(&series)));
            self.waiting.firsts.insert(id, series.id);
        }
        series.set_logged();
        if let Some(chunks) = self.mapped.remove(&id) {
            for chunk in &chunks {
                self.add_chunk(head, &series, chunk);
            }
        }
        self.series.insert(id, series);
        self.adopt(head, id);
    }

    /// Adds a chunk that a file holds, whole or sample by sample.
    fn add_chunk(&mut self, head: &Head, series: &MemSeries, chunk: &Arc<Chunk>) {
        if series.attach(chunk) {
            self.chunks += 1;
            head.widen(chunk.min_ms);
            head.widen(chunk.max_ms);
            return;
        }
        let mut samples = RawSamples::default();
        if chunk.read_into(TimestampMs::MIN, TimestampMs::MAX, &mut samples).is_err() {
            return;
        }
        let floats =
            samples.ts.iter().zip(&samples.vs).map(|(ts, v)| (*ts, SampleValue::Float(*v)));
        let histograms =
            samples.hist.iter().map(|(ts, h)| (*ts, SampleValue::Histogram(Arc::clone(h))));
        for (ts, value) in floats.chain(histograms) {
            series.insert_late(ts, &value, 0, 0);
            head.widen_late(ts, ts);
        }
    }

    /// Puts a snapshot into the empty head.
    pub(super) fn restore(&mut self, head: &Head, snapshot: Snapshot) {
        head.series.reserve_id(snapshot.last_series.unwrap_or_default());
        for (id, labels, samples) in snapshot.series {
            self.add_series(head, id, &labels);
            for (ts, value) in samples.ts.iter().zip(&samples.vs) {
                self.add_sample(head, id, *ts, &SampleValue::Float(*value));
            }
            for (ts, value) in &samples.hist {
                self.add_sample(head, id, *ts, &SampleValue::Histogram(Arc::clone(value)));
            }
        }
        self.apply(head, Record::Tombstones(snapshot.tombstones));
        self.apply(head, Record::Exemplars(snapshot.exemplars));
    }

    /// Notes that a segment was not read: it may hold the newest sample of all.
    fn skip_segment(&mut self, index: u32) {
        self.found.segment_max_ms.insert(index, TimestampMs::MAX);
        self.found.unread_up_to = Some(index);
    }

    pub(super) fn add_late(&mut self, head: &Head, id: u64, ts: TimestampMs, value: &SampleValue) {
        let Some(series) = self.series.get_mut(&id) else {
            self.orphan(head, id, Orphan::Sample { late: true, ts, value: value.clone() });
            return;
        };
        if series.is_gone() {
            *series = head.series_of(&series.labels, Some(id)).0;
        }
        let (commit, oldest_visible) = self.commit;
        if let Some(completed) = series.insert_late(ts, value, commit, oldest_visible) {
            self.chunks += completed as u64;
            self.found.samples += 1;
            head.widen_late(ts, ts);
        }
    }

    /// Keeps a sample until enough are there, but for those that came out of order.
    fn take_sample(&mut self, head: &Head, id: u64, ts: TimestampMs, value: SampleValue) {
        if self.late {
            self.add_late(head, id, ts, &value);
        } else if ts < head.under_way.min_valid_ms() {
            // A block has it, with or without a name here: the log is only truncated some
            // time after.
        } else if !self.series.contains_key(&id) {
            self.orphan(head, id, Orphan::Sample { late: false, ts, value });
        } else if self.waiting.push(self.series.len(), id, ts, value) {
            self.add_waiting(head);
        }
    }

    pub(super) fn add_waiting(&mut self, head: &Head) {
        let mut heaps = std::mem::take(&mut self.waiting.heaps);
        for heap in &mut heaps {
            for (id, ts, value) in heap.drain(..) {
                self.add_sample(head, id, ts, &value);
            }
        }
        (self.waiting.heaps, self.waiting.count) = (heaps, 0);
    }

    pub(super) fn add_sample(
        &mut self,
        head: &Head,
        id: u64,
        ts: TimestampMs,
        value: &SampleValue,
    ) {
        if ts < head.under_way.min_valid_ms() {
            return;
        }
        let Some(series) = self.series.get_mut(&id) else {
            self.orphan(head, id, Orphan::Sample { late: false, ts, value: value.clone() });
            return;
        };
        let range_ms = head.options.chunk_range_ms;
        let mut outcome = series.append(ts, value, self.commit.0, self.commit.1, range_ms);
        if outcome == Outcome::Gone {
            // It left the head here sooner than where the log is written, and is given the
            // log's reference again: no other one is free for certain.
            *series = head.series_of(&series.labels, Some(id)).0;
            outcome = series.append(ts, value, self.commit.0, self.commit.1, range_ms);
        }
        // Also what a chunk in a file has: the log is kept for as long as samples are.
        self.newest_ms = self.newest_ms.max(ts);
        match outcome {
            Outcome::AppendedToNewChunk | Outcome::AppendedAfterChunk => self.chunks += 1,
            Outcome::Appended => {}
            Outcome::Duplicate | Outcome::OutOfOrder | Outcome::Gone => return,
        }
        self.found.samples += 1;
        head.widen(ts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tsdb::{Tsdb, TsdbOptions};
    use crate::telemetry::clock::SystemClock;

    /// A series that left and came back has two references, and the heap of the second one
    /// may come first.
    #[test]
    fn samples_of_a_series_with_two_references_stay_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(SystemClock::default());
        let tsdb = Tsdb::open(dir.path(), TsdbOptions::default(), clock).expect("a store");
        let labels = Labels::from_pairs([("__name__", "up")]);
        let samples = |series, times: std::ops::Range<i64>| {
            Record::Samples(times.map(|ts| RefSample { series, ts, value: ts as f64 }).collect())
        };
        let (first, second) = (HEAPS as u64 - 1, HEAPS as u64);
        let mut replayer = Replayer::default();
        for record in [
            Record::Series(vec![(first, labels.clone())]),
            samples(first, 10..20),
            Record::Series(vec![(second, labels)]),
            samples(second, 20..30),
        ] {
            replayer.apply(&tsdb.head, record);
        }
        replayer.add_waiting(&tsdb.head);
        let mut read = RawSamples::default();
        let series = &replayer.series[&first];
        series.read_into(0, 0, i64::MAX, &mut read).expect("samples");
        assert_eq!(read.ts, (10..30).collect::<Vec<i64>>());
    }
}
