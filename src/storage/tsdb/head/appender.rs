//! Batches: collected without touching the series, checked, logged, then applied at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::model::exemplar::{Exemplar, ExemplarError};
use crate::model::metadata::Metadata;
use crate::model::value::is_stale_nan;
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::storage::tsdb::wal::record::{
    RefExemplar, RefHistogram, RefSample, encode_exemplars, encode_histograms, encode_metadata,
    encode_samples, encode_series,
};
use crate::storage::{AppendError, Appender, SeriesRef, StorageError};

use super::series::{MemSeries, Outcome, SampleValue};
use super::{Committer, Head};

/// Entries a record may hold, so that no record grows without limit.
const RECORD_ENTRIES_MAX: usize = 1 << 16;

/// Series whose chunk is finished that are waited for, so that many go into a file at once:
/// some 120 KiB.
const FINISHED_MAX: usize = 512;

/// Families whose metadata is kept; further ones wait until truncation makes room.
const METADATA_FAMILIES_MAX: usize = 1 << 17;

pub(super) struct Pending {
    pub(super) series: Arc<MemSeries>,
    pub(super) ts: TimestampMs,
    pub(super) value: SampleValue,
    /// It comes out of order.
    pub(super) late: bool,
}

/// What may be appended, fixed at a batch's first sample, so that it does not outrun itself.
#[derive(Clone, Copy)]
struct Bounds {
    /// Older samples cannot go in order.
    from_ms: TimestampMs,
    newest_ms: TimestampMs,
    /// How far behind the newest sample one may be that comes out of order.
    late_window_ms: i64,
}

/// One batch.
pub(crate) struct HeadAppender {
    head: Arc<Head>,
    bounds: Option<Bounds>,
    /// Time of the oldest sample; the head knows it, and cuts nothing newer meanwhile.
    oldest_ms: Option<TimestampMs>,
    pending: Vec<Pending>,
    exemplars: Vec<(Arc<MemSeries>, Exemplar)>,
    metadata: Vec<(Box<str>, Metadata)>,
}

impl HeadAppender {
    pub(crate) fn new(head: Arc<Head>) -> Self {
        head.metrics.active_appenders.inc();
        Self {
            head,
            bounds: None,
            oldest_ms: None,
            pending: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// Finds the series: by the hint when it fits, else by its labels.
    fn resolve(
        &self,
        hint: Option<SeriesRef>,
        labels: &Labels,
    ) -> Result<Arc<MemSeries>, AppendError> {
        // Remote write sends the samples of a series one after the other.
        if let Some(hint) = hint
            && let Some(Pending { series, .. }) = self.pending.last()
            && series.id == hint.0
            && same_labels(&series.labels, labels)
        {
            return Ok(Arc::clone(series));
        }
        if let Some(hint) = hint
            && let Some(series) = self.head.series.by_id(hint.0)
            && same_labels(&series.labels, labels)
        {
            return Ok(series);
        }
        if labels.is_empty() {
            return Err(AppendError::Invalid("empty labelset".to_owned()));
        }
        Ok(self.head.series_of(labels, None).0)
    }

    fn bounds(&mut self, first_ts: TimestampMs) -> Bounds {
        let head = &self.head;
        *self.bounds.get_or_insert_with(|| {
            let newest_ms = head.newest_ms(first_ts);
            Bounds {
                from_ms: head.appendable_from_ms(newest_ms),
                newest_ms,
                late_window_ms: head.late_window_ms.load(Ordering::Acquire),
            }
        })
    }

    /// Whether a sample that cannot go in order may come out of order.
    fn check_late(
        &self,
        ts: TimestampMs,
        value: &SampleValue,
        bounds: Bounds,
    ) -> Result<(), AppendError> {
        let metrics = &self.head.metrics;
        if bounds.late_window_ms == 0 {
            metrics.count_out_of_order(value.kind());
            return Err(AppendError::OutOfOrder);
        }
        let behind_ms = bounds.newest_ms.saturating_sub(ts);
        metrics.late_delta_seconds.observe(behind_ms as f64 / 1000.0);
        if behind_ms > bounds.late_window_ms {
            metrics.count_too_old(value.kind());
            return Err(AppendError::TooOld);
        }
        Ok(())
    }

    fn add(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        mut value: SampleValue,
    ) -> Result<SeriesRef, AppendError> {
        if self.head.closed.load(Ordering::Acquire) {
            return Err(StorageError::Closed.into());
        }
        let bounds = self.bounds(ts);
        let head = &self.head;
        let in_bounds = ts >= bounds.from_ms;
        if !in_bounds && bounds.late_window_ms == 0 {
            head.metrics.count_out_of_bound(value.kind());
            return Err(AppendError::OutOfBounds);
        }
        let series = self.resolve(hint, labels)?;
        if let SampleValue::Float(v) = value
            && is_stale_nan(v)
            && series.ends_in_histogram()
        {
            // The end of a histogram series is a histogram, whoever writes the marker.
            let stale = FloatHistogram { sum: v, ..FloatHistogram::default() };
            value = SampleValue::Histogram(Arc::new(stale));
        }
        let fits = if in_bounds { series.check(ts, &value) } else { Err(AppendError::OutOfOrder) };
        let late = match fits {
            Ok(()) => false,
            Err(AppendError::OutOfOrder) => {
                self.check_late(ts, &value, bounds)?;
                true
            }
            Err(e) => return Err(e),
        };
        if !late && self.oldest_ms.is_none_or(|oldest| ts < oldest) {
            if !self.head.under_way.replace(self.oldest_ms, ts) {
                self.head.metrics.count_out_of_bound(value.kind());
                return Err(AppendError::OutOfBounds);
            }
            self.oldest_ms = Some(ts);
        }
        let id = SeriesRef(series.id);
        self.pending.push(Pending { series, ts, value, late });
        Ok(id)
    }
}

/// Equality, for which the same allocation is enough.
fn same_labels(a: &Labels, b: &Labels) -> bool {
    a.is_same(b) || a == b
}

impl Appender for HeadAppender {
    fn append(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        self.add(hint, labels, ts, SampleValue::Float(value))
    }

    fn append_histogram(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        value.validate().map_err(|e| AppendError::Invalid(e.to_string()))?;
        self.add(hint, labels, ts, SampleValue::Histogram(Arc::clone(value)))
    }

    fn append_exemplar(
        &mut self,
        series: SeriesRef,
        exemplar: Exemplar,
    ) -> Result<(), ExemplarError> {
        let last = self.pending.last().filter(|p| p.series.id == series.0);
        let series = match last {
            Some(p) => Arc::clone(&p.series),
            None => self.head.series.by_id(series.0).ok_or(ExemplarError::UnknownSeries)?,
        };
        if self.head.exemplars().check(&series.labels, &exemplar)? {
            self.exemplars.push((series, exemplar));
        }
        Ok(())
    }

    fn stored_labels(&self, reference: SeriesRef) -> Option<Labels> {
        let last = self.pending.last().filter(|p| p.series.id == reference.0);
        last.map(|p| p.series.labels.clone())
    }

    fn append_metadata(&mut self, family: &str, metadata: &Metadata) {
        let held = self.head.metadata.read();
        if held.get(family) != Some(metadata) && held.len() < METADATA_FAMILIES_MAX {
            self.metadata.push((family.into(), metadata.clone()));
        }
    }

    fn commit(mut self: Box<Self>) -> Result<(), StorageError> {
        let mut pending = std::mem::take(&mut self.pending);
        let metadata = std::mem::take(&mut self.metadata);
        let exemplars = std::mem::take(&mut self.exemplars);
        self.head.commit_batch(&mut pending, metadata, exemplars)
    }
}

impl Drop for HeadAppender {
    fn drop(&mut self) {
        self.head.under_way.remove(self.oldest_ms);
        self.head.metrics.active_appenders.dec();
    }
}

impl Head {
    /// The series of a label set, created when there is none: the flag says whether it was.
    /// `id` is for replay, which knows it.
    pub(super) fn series_of(&self, labels: &Labels, id: Option<u64>) -> (Arc<MemSeries>, bool) {
        let (series, created) = self.series.get_or_create(labels, id);
        if created {
            self.metrics.head_series.inc();
            self.metrics.head_series_created.inc();
        }
        (series, created)
    }

    fn commit_batch(
        &self,
        pending: &mut [Pending],
        metadata: Vec<(Box<str>, Metadata)>,
        exemplars: Vec<(Arc<MemSeries>, Exemplar)>,
    ) -> Result<(), StorageError> {
        let mut committer = self.commit.lock();
        if committer.wal.is_none() {
            return Err(StorageError::Closed);
        }
        self.revive(pending);
        if committer.wbl.is_some() {
            mark_late(pending);
            let late = pending.iter().filter(|p| p.late).map(|p| &p.series);
            self.map_late(&mut committer, late);
        }
        let metadata_refs = refs_of_families(pending, &metadata);
        committer.log(pending, &metadata_refs, &exemplars)?;
        for p in pending.iter() {
            p.series.set_logged();
        }
        self.apply(pending, &mut committer.finished);
        if committer.finished.len() >= FINISHED_MAX {
            self.write_finished(&mut committer.finished);
        }
        for (series, exemplar) in exemplars {
            self.exemplars.add(&series.labels, exemplar);
        }
        if !metadata.is_empty() {
            self.metadata.write().extend(metadata);
        }
        Ok(())
    }

    /// A series may have left the head since it was looked up: it comes back as a new one.
    fn revive(&self, pending: &mut [Pending]) {
        for p in pending {
            if p.series.is_gone() {
                p.series = self.series_of(&p.series.labels, None).0;
            }
        }
    }

    /// Appends the batch to the series and lets new readers see it. Whose chunk that finished
    /// is noted.
    fn apply(&self, pending: &[Pending], finished: &mut Vec<Arc<MemSeries>>) {
        let commit = self.isolation.finished() + 1;
        let oldest_visible = self.isolation.oldest_visible();
        let range = self.options.chunk_range_ms;
        let (mut min, mut max) = (TimestampMs::MAX, TimestampMs::MIN);
        let (mut floats, mut histograms, mut chunks) = (0u64, 0u64, 0u64);
        let (mut late_min, mut late_max) = (TimestampMs::MAX, TimestampMs::MIN);
        for Pending { series, ts, value, late } in pending {
            if *late {
                let Some(completed) = series.insert_late(*ts, value, commit, oldest_visible) else {
                    self.metrics.duplicates.inc();
                    continue;
                };
                chunks += completed as u64;
                late_min = late_min.min(*ts);
                late_max = late_max.max(*ts);
                self.metrics.count_late(value.kind());
                match value {
                    SampleValue::Float(_) => floats += 1,
                    SampleValue::Histogram(_) => histograms += 1,
                }
                continue;
            }
            match series.append(*ts, value, commit, oldest_visible, range) {
                Outcome::OutOfOrder => {
                    self.metrics.count_out_of_order(value.kind());
                    continue;
                }
                Outcome::Duplicate => {
                    self.metrics.duplicates.inc();
                    continue;
                }
                Outcome::Gone => unreachable!("BUG: truncation waits for the commit lock"),
                Outcome::AppendedToNewChunk => chunks += 1,
                Outcome::AppendedAfterChunk => {
                    chunks += 1;
                    finished.push(Arc::clone(series));
                }
                Outcome::Appended => {}
            }
            min = min.min(*ts);
            max = max.max(*ts);
            match value {
                SampleValue::Float(_) => floats += 1,
                SampleValue::Histogram(_) => histograms += 1,
            }
        }
        if min <= max {
            self.note_times(min, max);
        }
        self.widen_late(late_min, late_max);
        self.isolation.finish(commit);
        self.metrics.floats_appended.inc_by(floats);
        self.metrics.histograms_appended.inc_by(histograms);
        self.metrics.head_chunks.inc_by(chunks as i64);
        self.metrics.head_chunks_created.inc_by(chunks);
        self.metrics.isolation_high.set(commit as i64);
        self.metrics.isolation_low.set(oldest_visible as i64);
    }
}

/// Finds out which samples come out of order because of others of their batch.
fn mark_late(pending: &mut [Pending]) {
    let mut newest: HashMap<u64, TimestampMs, FxBuildHasher> = HashMap::default();
    for p in pending.iter_mut().filter(|p| !p.late) {
        let newest = newest.entry(p.series.id).or_insert_with(|| p.series.newest_ms());
        // A second one of the same time is a duplicate, not out of order.
        p.late = p.ts < *newest;
        *newest = p.ts.max(*newest);
    }
}

/// The log keeps metadata per series: finds one of the batch for each family.
fn refs_of_families<'a>(
    pending: &[Pending],
    metadata: &'a [(Box<str>, Metadata)],
) -> Vec<(u64, &'a Metadata)> {
    if metadata.is_empty() {
        return Vec::new();
    }
    let by_name: HashMap<&str, u64, FxBuildHasher> =
        pending.iter().map(|p| (p.series.labels.metric_name(), p.series.id)).collect();
    let find = |family: &str| {
        ["", "_total", "_count", "_bucket", "_sum", "_info"]
            .iter()
            .find_map(|suffix| by_name.get(format!("{family}{suffix}").as_str()).copied())
    };
    metadata.iter().filter_map(|(family, m)| Some((find(family)?, m))).collect()
}

impl Committer {
    /// Writes the batch to the logs; when this fails, they are as before.
    fn log(
        &mut self,
        pending: &[Pending],
        metadata: &[(u64, &Metadata)],
        exemplars: &[(Arc<MemSeries>, Exemplar)],
    ) -> Result<(), StorageError> {
        let wal = self.wal.as_mut().ok_or(StorageError::Closed)?;
        let mut records = Records { buffers: &mut self.buffers, used: 0 };
        log_series(pending, &mut records);
        if !metadata.is_empty() {
            encode_metadata(metadata.iter().copied(), records.next());
        }
        for run in runs(pending) {
            log_samples(run, false, &mut records);
        }
        log_exemplars(exemplars, &mut records);
        let in_wal = records.used;
        for run in runs(pending) {
            log_samples(run, true, &mut records);
        }
        let used = records.used;
        let (wal_records, wbl_records) = self.buffers[..used].split_at(in_wal);
        let (wal_records, wbl_records) = (filled(wal_records), filled(wbl_records));
        if !wal_records.is_empty() {
            wal.log(&wal_records)?;
        }
        // What names the series comes first, so that the other log never names unknown ones.
        if !wbl_records.is_empty() {
            let logged =
                self.wbl.as_mut().ok_or(StorageError::Closed).and_then(|wbl| wbl.log(&wbl_records));
            if let Err(e) = logged {
                if !wal_records.is_empty() {
                    wal.take_back();
                }
                return Err(e);
            }
        }
        if let Some(max) = pending.iter().filter(|p| !p.late).map(|p| p.ts).max() {
            let held = self.segment_max_ms.entry(wal.segment()).or_insert(max);
            *held = max.max(*held);
        }
        Ok(())
    }
}

fn filled(records: &[Vec<u8>]) -> Vec<&[u8]> {
    records.iter().map(Vec::as_slice).filter(|r| !r.is_empty()).collect()
}

/// Record buffers that are reused from commit to commit.
struct Records<'a> {
    buffers: &'a mut Vec<Vec<u8>>,
    used: usize,
}

impl Records<'_> {
    fn next(&mut self) -> &mut Vec<u8> {
        if self.used == self.buffers.len() {
            self.buffers.push(Vec::new());
        }
        let buffer = &mut self.buffers[self.used];
        self.used += 1;
        buffer.clear();
        // One huge batch must not hold its memory for ever.
        buffer.shrink_to(4 << 20);
        buffer
    }
}

fn log_series(pending: &[Pending], records: &mut Records<'_>) {
    let mut seen = FxHashSet::default();
    let new: Vec<&Arc<MemSeries>> =
        pending.iter().map(|p| &p.series).filter(|s| !s.is_logged() && seen.insert(s.id)).collect();
    for part in new.chunks(RECORD_ENTRIES_MAX) {
        encode_series(part.iter().map(|s| (s.id, &s.labels)), records.next());
    }
}

/// An exemplar whose series left the head meanwhile is of no use to a replay.
fn log_exemplars(exemplars: &[(Arc<MemSeries>, Exemplar)], records: &mut Records<'_>) {
    let all: Vec<RefExemplar> = exemplars
        .iter()
        .filter(|(series, _)| !series.is_gone())
        .map(|(series, e)| RefExemplar {
            series: series.id,
            ts: e.ts,
            value: e.value,
            labels: e.labels.clone(),
        })
        .collect();
    for part in all.chunks(RECORD_ENTRIES_MAX) {
        encode_exemplars(part, records.next());
    }
}

/// Those that come out of order, or the others.
fn log_samples(run: &[Pending], late: bool, records: &mut Records<'_>) {
    if late && !run.iter().any(|p| p.late) {
        return;
    }
    for part in run.chunks(RECORD_ENTRIES_MAX) {
        let floats = part.iter().filter(|p| p.late == late).filter_map(|p| match p.value {
            SampleValue::Float(value) => Some(RefSample { series: p.series.id, ts: p.ts, value }),
            SampleValue::Histogram(_) => None,
        });
        encode_samples(floats, records.next());
        let histograms: Vec<_> = part
            .iter()
            .filter(|p| p.late == late)
            .filter_map(|p| match &p.value {
                SampleValue::Float(_) => None,
                SampleValue::Histogram(value) => {
                    let value = Arc::clone(value);
                    Some(RefHistogram { series: p.series.id, ts: p.ts, value })
                }
            })
            .collect();
        if !histograms.is_empty() {
            encode_histograms(&histograms, records.next());
        }
    }
}

/// Splits a batch where a series changes between floats and histograms: the log has the
/// floats of a run before its histograms, which must not reorder one series' samples.
fn runs(pending: &[Pending]) -> Vec<&[Pending]> {
    let is_histogram = |p: &Pending| matches!(p.value, SampleValue::Histogram(_));
    if !pending.iter().any(is_histogram) {
        return vec![pending];
    }
    let mut runs = Vec::new();
    let mut kinds: HashMap<u64, bool, FxBuildHasher> = HashMap::default();
    let mut start = 0;
    for (i, p) in pending.iter().enumerate() {
        let kind = is_histogram(p);
        if *kinds.entry(p.series.id).or_insert(kind) != kind {
            runs.push(&pending[start..i]);
            start = i;
            kinds.clear();
            kinds.insert(p.series.id, kind);
        }
    }
    runs.push(&pending[start..]);
    runs
}
