//! Storage in memory: what tests, `eval`, `.test` scripts and rule unit tests read and
//! write. One lock, plain vectors, nothing durable.
//!
//! Appends are refused as Prometheus' own head refuses them. Counter-reset hints of
//! histograms come out as they would of its chunks: the first sample of a chunk says
//! "unknown", the following ones "not reset", gauges "gauge".

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{self, BoxFuture};
use parking_lot::RwLock;

use super::{
    AppendError, Appender, LabelAnswer, LabelRequest, RawSeries, SelectRequest, SeriesRef,
    SeriesSet, Sink, Source, StorageError,
};
use crate::model::histogram::{CounterResetHint, Succession};
use crate::model::metadata::Metadata;
use crate::model::{FloatHistogram, Labels, Sample, TimestampMs};
use crate::vector::{RawSamples, first_from};

/// See the module. Cheap to clone; clones share the data.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    series: Arc<RwLock<BTreeMap<Labels, Arc<MemorySeries>>>>,
    metadata: Arc<RwLock<BTreeMap<String, Metadata>>>,
}

/// One stored series.
struct MemorySeries {
    labels: Labels,
    samples: RwLock<Stored>,
}

#[derive(Default)]
struct Stored {
    raw: RawSamples,
    /// Histograms since the last chunk was begun.
    in_chunk: u32,
}

/// Histograms a chunk holds before the next one is begun.
const CHUNK_SAMPLES_MAX: u32 = 120;

impl MemoryStorage {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.series.write().clear();
        self.metadata.write().clear();
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.read().len()
    }

    /// True when nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.series.read().is_empty()
    }

    /// Stores one float at once; `start_ms` is its start time, where known.
    pub fn append(
        &self,
        labels: &Labels,
        ts: TimestampMs,
        value: f64,
        start_ms: Option<TimestampMs>,
    ) -> Result<(), AppendError> {
        self.series_of(labels).samples.write().push_float(ts, value, start_ms)
    }

    /// Stores one native histogram at once.
    pub fn append_histogram(
        &self,
        labels: &Labels,
        ts: TimestampMs,
        value: &Arc<FloatHistogram>,
        start_ms: Option<TimestampMs>,
    ) -> Result<(), AppendError> {
        self.series_of(labels).samples.write().push_histogram(ts, value, start_ms)
    }

    /// Stores samples of one series at once, in order. Those before a refused one are kept.
    pub fn append_run(
        &self,
        labels: &Labels,
        points: impl IntoIterator<Item = (TimestampMs, Sample)>,
    ) -> Result<(), AppendError> {
        let mut points = points.into_iter().peekable();
        if points.peek().is_none() {
            return Ok(());
        }
        let series = self.series_of(labels);
        let mut stored = series.samples.write();
        points.try_for_each(|(ts, sample)| match sample {
            Sample::Float(value) => stored.push_float(ts, value, None),
            Sample::Histogram(value) => stored.push_histogram(ts, &value, None),
        })
    }

    /// What is known of a metric family.
    pub fn metadata(&self, family: &str) -> Option<Metadata> {
        self.metadata.read().get(family).cloned()
    }

    fn series_of(&self, labels: &Labels) -> Arc<MemorySeries> {
        if let Some(series) = self.series.read().get(labels) {
            return series.clone();
        }
        let new = || Arc::new(MemorySeries { labels: labels.clone(), samples: RwLock::default() });
        self.series.write().entry(labels.clone()).or_insert_with(new).clone()
    }
}

impl Stored {
    fn newest(&self) -> Option<TimestampMs> {
        let float = self.raw.ts.last().copied();
        float.max(self.raw.hist.last().map(|(ts, _)| *ts))
    }

    /// Whether a sample may follow: `Ok(false)` when the very same one is there already.
    fn admits(&self, ts: TimestampMs, same: bool) -> Result<bool, AppendError> {
        match self.newest() {
            Some(newest) if ts < newest => Err(AppendError::OutOfOrder),
            Some(newest) if ts == newest && same => Ok(false),
            Some(newest) if ts == newest => Err(AppendError::DuplicateForTimestamp),
            _ => Ok(true),
        }
    }

    fn push_float(
        &mut self,
        ts: TimestampMs,
        value: f64,
        start_ms: Option<TimestampMs>,
    ) -> Result<(), AppendError> {
        let raw = &mut self.raw;
        let same = raw.ts.last() == Some(&ts)
            && raw.vs.last().is_some_and(|v| v.to_bits() == value.to_bits());
        if !self.admits(ts, same)? {
            return Ok(());
        }
        let raw = &mut self.raw;
        note_start(&mut raw.start_ts, raw.ts.len(), start_ms);
        raw.push(ts, value);
        // A float between histograms ends their chunk.
        self.in_chunk = 0;
        Ok(())
    }

    fn push_histogram(
        &mut self,
        ts: TimestampMs,
        value: &Arc<FloatHistogram>,
        start_ms: Option<TimestampMs>,
    ) -> Result<(), AppendError> {
        let last = self.raw.hist.last();
        let same = last.is_some_and(|(t, h)| *t == ts && h.equals(value));
        if !self.admits(ts, same)? {
            return Ok(());
        }
        let continues = self.in_chunk > 0
            && self.in_chunk < CHUNK_SAMPLES_MAX
            && last.is_some_and(|(_, before)| value.succession(before) == Succession::Continues);
        let hint = match (value.counter_reset_hint, continues) {
            (CounterResetHint::Gauge, _) => CounterResetHint::Gauge,
            (_, true) => CounterResetHint::NotReset,
            (_, false) => CounterResetHint::Unknown,
        };
        self.in_chunk = if continues { self.in_chunk + 1 } else { 1 };
        let mut stored = value.clone();
        if stored.counter_reset_hint != hint {
            Arc::make_mut(&mut stored).counter_reset_hint = hint;
        }
        let raw = &mut self.raw;
        note_start(&mut raw.hist_start_ts, raw.hist.len(), start_ms);
        raw.hist.push((ts, stored));
        Ok(())
    }
}

/// Start times are kept from the first known one on; 0 says unknown.
fn note_start(starts: &mut Vec<TimestampMs>, samples: usize, start_ms: Option<TimestampMs>) {
    if start_ms.is_some() || !starts.is_empty() {
        starts.resize(samples, 0);
        starts.push(start_ms.unwrap_or(0));
    }
}

impl RawSeries for MemorySeries {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        out.extend_from(&self.samples.read().raw, from_ms, to_ms);
        Ok(())
    }
}

impl MemorySeries {
    fn overlaps(&self, from_ms: TimestampMs, to_ms: TimestampMs) -> bool {
        let stored = self.samples.read();
        let raw = &stored.raw;
        let float = raw.ts.get(first_from(&raw.ts, from_ms)).copied();
        let hist = raw.hist.get(raw.hist.partition_point(|(ts, _)| *ts < from_ms));
        float.is_some_and(|ts| ts <= to_ms) || hist.is_some_and(|(ts, _)| *ts <= to_ms)
    }
}

impl MemoryStorage {
    fn matching(&self, request: &LabelRequest, mut visit: impl FnMut(&Labels)) {
        for (labels, series) in self.series.read().iter() {
            let sets = &request.matcher_sets;
            let matches =
                sets.is_empty() || sets.iter().any(|s| s.iter().all(|m| m.matches_labels(labels)));
            if matches && series.overlaps(request.from_ms, request.to_ms) {
                visit(labels);
            }
        }
    }
}

impl Source for MemoryStorage {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        let limit = match request.hints.limit {
            0 => usize::MAX,
            limit => limit,
        };
        let series = self
            .series
            .read()
            .iter()
            .filter(|(labels, _)| request.matchers.iter().all(|m| m.matches_labels(labels)))
            .filter(|(_, series)| series.overlaps(request.from_ms, request.to_ms))
            .take(limit)
            .map(|(_, series)| series.clone() as Arc<dyn RawSeries>)
            .collect();
        Box::pin(future::ready(Ok(SeriesSet { series, warnings: vec![] })))
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        let mut names = std::collections::BTreeSet::new();
        self.matching(request, |labels| {
            for (name, _) in labels.iter() {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        });
        let values = names.into_iter().collect();
        Box::pin(future::ready(Ok(LabelAnswer { values, warnings: vec![] })))
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        let mut values = std::collections::BTreeSet::new();
        self.matching(request, |labels| {
            if let Some(value) = labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        });
        let values = values.into_iter().collect();
        Box::pin(future::ready(Ok(LabelAnswer { values, warnings: vec![] })))
    }
}

impl Sink for MemoryStorage {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(MemoryAppender { storage: self.clone(), batch: vec![], metadata: vec![] })
    }
}

enum Batched {
    Float(Labels, TimestampMs, f64),
    Histogram(Labels, TimestampMs, Arc<FloatHistogram>),
}

/// A batch: checked when appended, stored when committed.
struct MemoryAppender {
    storage: MemoryStorage,
    batch: Vec<Batched>,
    metadata: Vec<(String, Metadata)>,
}

impl MemoryAppender {
    /// Refuses what could not be stored after what is there and what the batch holds.
    fn check(
        &self,
        labels: &Labels,
        ts: TimestampMs,
        same: impl Fn(&Stored) -> bool,
    ) -> Result<(), AppendError> {
        let series = self.storage.series.read().get(labels).cloned();
        if let Some(series) = series {
            let stored = series.samples.read();
            stored.admits(ts, same(&stored))?;
        }
        Ok(())
    }
}

impl Appender for MemoryAppender {
    fn append(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        self.check(labels, ts, |stored| {
            stored.raw.ts.last() == Some(&ts)
                && stored.raw.vs.last().is_some_and(|v| v.to_bits() == value.to_bits())
        })?;
        self.batch.push(Batched::Float(labels.clone(), ts, value));
        Ok(SeriesRef(labels.hash64()))
    }

    fn append_histogram(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        self.check(labels, ts, |stored| {
            stored.raw.hist.last().is_some_and(|(t, h)| *t == ts && h.equals(value))
        })?;
        self.batch.push(Batched::Histogram(labels.clone(), ts, value.clone()));
        Ok(SeriesRef(labels.hash64()))
    }

    fn append_metadata(&mut self, family: &str, metadata: &Metadata) {
        self.metadata.push((family.to_owned(), metadata.clone()));
    }

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        for entry in self.batch {
            // As in Prometheus, what a concurrent batch has overtaken is left out.
            let _overtaken = match entry {
                Batched::Float(labels, ts, value) => self.storage.append(&labels, ts, value, None),
                Batched::Histogram(labels, ts, h) => {
                    self.storage.append_histogram(&labels, ts, &h, None)
                }
            };
        }
        self.storage.metadata.write().extend(self.metadata);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels::from_pairs([("__name__", "m")])
    }

    #[test]
    fn appends_are_refused_as_the_head_refuses_them() {
        let storage = MemoryStorage::new();
        let check = |ts, value, expected| {
            let mut appender = storage.appender();
            let got = appender.append(None, &labels(), ts, value).map(|_| ());
            assert_eq!(got, expected, "{value} at {ts}");
            appender.commit().unwrap();
        };
        check(10, 1.0, Ok(()));
        check(10, 1.0, Ok(()));
        check(10, 2.0, Err(AppendError::DuplicateForTimestamp));
        check(9, 1.0, Err(AppendError::OutOfOrder));
        check(11, f64::NAN, Ok(()));
        check(11, f64::NAN, Ok(()));
        let mut out = RawSamples::default();
        let series = storage.series_of(&labels());
        series.read_into(10, 11, &mut out).unwrap();
        assert_eq!(out.ts, [10, 11]);
    }

    #[test]
    fn a_dropped_batch_leaves_nothing() {
        let storage = MemoryStorage::new();
        let mut appender = storage.appender();
        appender.append(None, &labels(), 1, 1.0).unwrap();
        drop(appender);
        assert!(storage.is_empty());
    }

    #[test]
    fn histogram_hints_come_out_as_of_chunks() {
        let storage = MemoryStorage::new();
        let counts = [(5.0, CounterResetHint::Unknown), (6.0, CounterResetHint::Unknown)];
        let more = [(2.0, CounterResetHint::Unknown), (3.0, CounterResetHint::Reset)];
        let gauges = [(1.0, CounterResetHint::Gauge), (0.0, CounterResetHint::Gauge)];
        for (i, (count, hint)) in counts.into_iter().chain(more).chain(gauges).enumerate() {
            let h = FloatHistogram { count, counter_reset_hint: hint, ..FloatHistogram::default() };
            storage.append_histogram(&labels(), i as i64, &Arc::new(h), None).unwrap();
        }
        let mut out = RawSamples::default();
        storage.series_of(&labels()).read_into(0, 9, &mut out).unwrap();
        let hints: Vec<_> = out.hist.iter().map(|(_, h)| h.counter_reset_hint).collect();
        use CounterResetHint::{Gauge, NotReset, Unknown};
        assert_eq!(hints, [Unknown, NotReset, Unknown, Unknown, Gauge, Gauge]);
    }
}
