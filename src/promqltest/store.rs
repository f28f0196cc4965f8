//! What scripts load into: series in memory, with the counter-reset hints a histogram has
//! after it went through Prometheus' chunks.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};

use crate::model::histogram::CounterResetHint;
use crate::model::value::is_stale_nan;
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::storage::{
    LabelAnswer, LabelRequest, RawSeries, SelectRequest, SeriesSet, Source, StorageError,
};
use crate::vector::RawSamples;

/// A sample of a script.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Float(f64),
    Histogram {
        histogram: Arc<FloatHistogram>,
        /// `counter_reset_hint` was written, so it is compared.
        hint_given: bool,
    },
}

/// A source that holds what a script has loaded.
#[derive(Clone, Debug, Default)]
pub struct TestStore {
    series: BTreeMap<Labels, Arc<Stored>>,
}

#[derive(Clone, Debug, Default)]
struct Stored {
    labels: Labels,
    samples: RawSamples,
    last_ts: Option<TimestampMs>,
    /// The last sample, when it was a histogram and not stale, as it was appended.
    last_histogram: Option<Arc<FloatHistogram>>,
}

impl TestStore {
    /// Appends a sample; times of a series must ascend. A start timestamp of 0 is unknown.
    pub fn append(
        &mut self,
        labels: &Labels,
        ts: TimestampMs,
        point: &Point,
        start_ts: TimestampMs,
    ) -> Result<(), String> {
        let stored = Arc::make_mut(self.series.entry(labels.clone()).or_default());
        stored.labels = labels.clone();
        match stored.last_ts {
            Some(last) if ts < last => {
                return Err(format!("out of order sample for {labels} at {ts}"));
            }
            Some(last) if ts == last => return stored.check_duplicate(ts, point),
            _ => stored.last_ts = Some(ts),
        }
        match point {
            Point::Float(v) => {
                stored.samples.push(ts, *v);
                stored.samples.start_ts.push(start_ts);
                stored.last_histogram = None;
            }
            Point::Histogram { histogram, .. } => stored.push_histogram(ts, histogram, start_ts),
        }
        Ok(())
    }
}

impl Stored {
    fn check_duplicate(&self, ts: TimestampMs, point: &Point) -> Result<(), String> {
        let same = match point {
            Point::Float(v) => {
                self.samples.ts.last() == Some(&ts)
                    && self.samples.vs.last().is_some_and(|last| last.to_bits() == v.to_bits())
            }
            Point::Histogram { histogram, .. } => self
                .samples
                .hist
                .last()
                .is_some_and(|(last_ts, last)| *last_ts == ts && last.equals(histogram)),
        };
        if same {
            Ok(())
        } else {
            Err(format!("duplicate sample for timestamp {ts} in {}", self.labels))
        }
    }

    /// Chunks keep a hint for all their samples: gauge, or else "not reset" from the second
    /// sample on and "unknown" for the first. What does not fit a chunk begins another.
    fn push_histogram(&mut self, ts: TimestampMs, h: &Arc<FloatHistogram>, start_ts: TimestampMs) {
        let continues = self.last_histogram.as_ref().is_some_and(|last| continues_chunk(last, h));
        let hint = match h.counter_reset_hint {
            CounterResetHint::Gauge => CounterResetHint::Gauge,
            _ if continues => CounterResetHint::NotReset,
            _ => CounterResetHint::Unknown,
        };
        let mut stored = FloatHistogram::clone(h);
        stored.counter_reset_hint = hint;
        self.samples.hist.push((ts, Arc::new(stored)));
        self.samples.hist_start_ts.push(start_ts);
        self.last_histogram = (!is_stale_nan(h.sum)).then(|| Arc::clone(h));
    }
}

fn continues_chunk(last: &FloatHistogram, h: &FloatHistogram) -> bool {
    use CounterResetHint::{Gauge, Reset, Unknown};
    if is_stale_nan(h.sum) || h.counter_reset_hint == Reset {
        return false;
    }
    let gauges = [last, h].map(|h| h.counter_reset_hint == Gauge);
    let same_layout = last.schema == h.schema
        && last.zero_threshold == h.zero_threshold
        && last.custom_values == h.custom_values;
    if gauges[0] != gauges[1] || !same_layout {
        return false;
    }
    let mut open = h.clone();
    open.counter_reset_hint = Unknown;
    gauges[1] || !open.detect_reset(last)
}

impl RawSeries for Stored {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        let s = &self.samples;
        let (from, to) =
            (s.ts.partition_point(|ts| *ts < from_ms), s.ts.partition_point(|ts| *ts <= to_ms));
        if from < to {
            out.ts.extend_from_slice(&s.ts[from..to]);
            out.vs.extend_from_slice(&s.vs[from..to]);
            out.start_ts.extend_from_slice(&s.start_ts[from..to]);
        }
        let (from, to) = (
            s.hist.partition_point(|(ts, _)| *ts < from_ms),
            s.hist.partition_point(|(ts, _)| *ts <= to_ms),
        );
        if from < to {
            out.hist.extend_from_slice(&s.hist[from..to]);
            out.hist_start_ts.extend_from_slice(&s.hist_start_ts[from..to]);
        }
        Ok(())
    }
}

impl Stored {
    fn overlaps(&self, from_ms: TimestampMs, to_ms: TimestampMs) -> bool {
        let s = &self.samples;
        let next_float = s.ts.get(s.ts.partition_point(|ts| *ts < from_ms));
        let next_histogram = s.hist.get(s.hist.partition_point(|(ts, _)| *ts < from_ms));
        next_float.is_some_and(|ts| *ts <= to_ms)
            || next_histogram.is_some_and(|(ts, _)| *ts <= to_ms)
    }
}

impl TestStore {
    fn look_up(
        &self,
        request: &LabelRequest,
        mut take: impl FnMut(&Labels, &mut Vec<String>),
    ) -> LabelAnswer {
        let mut answer = LabelAnswer::default();
        for stored in self.series.values() {
            let sets = &request.matcher_sets;
            let wanted = sets.is_empty()
                || sets.iter().any(|set| set.iter().all(|m| m.matches_labels(&stored.labels)));
            if wanted && stored.overlaps(request.from_ms, request.to_ms) {
                take(&stored.labels, &mut answer.values);
            }
        }
        answer.values.sort();
        answer.values.dedup();
        answer
    }
}

impl Source for TestStore {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        let found = self.series.values().filter(|stored| {
            request.matchers.iter().all(|m| m.matches_labels(&stored.labels))
                && stored.overlaps(request.from_ms, request.to_ms)
        });
        let series = found.map(|stored| Arc::clone(stored) as Arc<dyn RawSeries>).collect();
        std::future::ready(Ok(SeriesSet { series, warnings: Vec::new() })).boxed()
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        let answer = self.look_up(request, |labels, out| {
            out.extend(labels.iter().map(|(name, _)| name.to_owned()));
        });
        std::future::ready(Ok(answer)).boxed()
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        let answer = self.look_up(request, |labels, out| {
            out.extend(labels.get(name).map(str::to_owned));
        });
        std::future::ready(Ok(answer)).boxed()
    }
}
