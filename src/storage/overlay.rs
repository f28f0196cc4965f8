//! Read-your-writes over storage that shows only after a while what was written to it: a
//! remote system that is written to by one way and queried by another.
//!
//! What is committed through an [`Overlay`] is kept in memory for a while and laid over
//! what the source answers, so that it is seen at once. Of two samples of a series at one
//! time the source's counts: it is the record, this is the memory of the last minutes.
//! Memory is bounded by age and by number; what falls out early because of the number is
//! counted.
//!
//! Series are told apart by their labels as written. A source that adds labels of its own
//! to what it was sent must be asked through something that takes them away again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::{
    AppendError, Appender, ExemplarSeries, LabelAnswer, LabelRequest, RawSeries, SelectRequest,
    SeriesRef, SeriesSet, Sink, Source, StorageError,
};
use crate::model::exemplar::{Exemplar, ExemplarError};
use crate::model::metadata::Metadata;
use crate::model::{FloatHistogram, Labels, Matcher, Sample, TimestampMs};
use crate::telemetry::Registry;
use crate::vector::RawSamples;

/// How much is remembered.
#[derive(Clone, Debug)]
pub struct OverlayOptions {
    /// Samples that much older than the newest one are forgotten, shown or not.
    pub keep_ms: i64,
    /// A sample is laid over for that long even when the source has shown it: of several
    /// replicas behind one address another one may answer next.
    pub linger_ms: i64,
    /// Most samples remembered; then the oldest are forgotten first.
    pub samples_max: usize,
    pub metrics: OverlayMetrics,
}

impl Default for OverlayOptions {
    fn default() -> Self {
        Self {
            keep_ms: 10 * 60_000,
            linger_ms: 60_000,
            samples_max: 5_000_000,
            metrics: OverlayMetrics::default(),
        }
    }
}

/// What an overlay counts.
#[derive(Clone, Debug, Default)]
pub struct OverlayMetrics {
    samples: Gauge<i64, std::sync::atomic::AtomicI64>,
    evicted: Counter<u64, AtomicU64>,
}

impl OverlayMetrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "watchfire_rules_overlay_samples",
            "Results of rules kept in memory until the storage shows them",
            metrics.samples.clone(),
        );
        registry.register(
            "watchfire_rules_overlay_evicted_samples",
            "Results of rules forgotten before their time because there were too many",
            metrics.evicted.clone(),
        );
        metrics
    }
}

/// See the module.
pub struct Overlay {
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    recent: Arc<Recent>,
}

impl Overlay {
    /// Lays what is committed to `sink` over what `source` answers.
    pub fn new(source: Arc<dyn Source>, sink: Arc<dyn Sink>, options: OverlayOptions) -> Self {
        Self { source, sink, recent: Arc::new(Recent { options, state: RwLock::default() }) }
    }
}

/// One series' newest samples.
struct RecentSeries {
    labels: Labels,
    samples: Mutex<Vec<(TimestampMs, Sample)>>,
    /// The source has shown everything up to this.
    shown_until_ms: AtomicI64,
}

/// Everything remembered.
struct Recent {
    options: OverlayOptions,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// By metric name and then by labels.
    names: BTreeMap<String, BTreeMap<Labels, Arc<RecentSeries>>>,
    /// Who has a sample at a time: what is forgotten together.
    ticks: BTreeMap<TimestampMs, Vec<Arc<RecentSeries>>>,
    samples: usize,
}

type Batch = Vec<(Labels, TimestampMs, Sample)>;

impl Recent {
    fn add(&self, batch: Batch) {
        let mut state = self.state.write();
        for (labels, ts, sample) in batch {
            let name = labels.metric_name();
            if !state.names.contains_key(name) {
                state.names.insert(name.to_owned(), BTreeMap::new());
            }
            let of_name = state.names.get_mut(name).expect("BUG: it was just put there");
            let series = of_name.entry(labels).or_insert_with_key(|labels| {
                Arc::new(RecentSeries {
                    labels: labels.clone(),
                    samples: Mutex::default(),
                    shown_until_ms: AtomicI64::new(TimestampMs::MIN),
                })
            });
            let series = series.clone();
            let mut samples = series.samples.lock();
            let at = samples.partition_point(|(t, _)| *t < ts);
            match samples.get_mut(at) {
                Some((t, known)) if *t == ts => *known = sample,
                _ => {
                    samples.insert(at, (ts, sample));
                    drop(samples);
                    state.samples += 1;
                    state.ticks.entry(ts).or_default().push(series);
                }
            }
        }
        self.forget(&mut state);
    }

    fn forget(&self, state: &mut State) {
        let newest = state.ticks.last_key_value().map_or(TimestampMs::MIN, |(ts, _)| *ts);
        let oldest_kept = newest.saturating_sub(self.options.keep_ms);
        while let Some(tick) = state.ticks.first_entry() {
            let (ts, aged) = (*tick.key(), *tick.key() < oldest_kept);
            if !aged && state.samples <= self.options.samples_max {
                break;
            }
            let of_tick = tick.remove();
            state.samples -= of_tick.len();
            if !aged {
                self.options.metrics.evicted.inc_by(of_tick.len() as u64);
            }
            for series in of_tick {
                let mut samples = series.samples.lock();
                samples.retain(|(t, _)| *t != ts);
                if samples.is_empty() {
                    drop(samples);
                    state.remove(&series.labels);
                }
            }
        }
        self.options.metrics.samples.set(i64::try_from(state.samples).unwrap_or(i64::MAX));
    }

    /// What is remembered of the series that match, in the interval and not known to be
    /// shown by the source; sorted by labels.
    fn select(&self, request: &SelectRequest) -> BTreeMap<Labels, Laid> {
        let state = self.state.read();
        let newest = state.ticks.last_key_value().map_or(TimestampMs::MIN, |(ts, _)| *ts);
        let lingering = newest.saturating_sub(self.options.linger_ms);
        let mut found = BTreeMap::new();
        state.each(&request.matchers, |series| {
            let shown = series.shown_until_ms.load(Ordering::Relaxed);
            let mut raw = RawSamples::default();
            for (ts, sample) in series.samples.lock().iter() {
                let wanted = (request.from_ms..=request.to_ms).contains(ts);
                if wanted && (*ts > shown || *ts > lingering) {
                    match sample {
                        Sample::Float(value) => raw.push(*ts, *value),
                        Sample::Histogram(value) => raw.hist.push((*ts, value.clone())),
                    }
                }
            }
            if !raw.ts.is_empty() || !raw.hist.is_empty() {
                let laid = Laid { series: series.clone(), recent: raw, stored: None };
                found.insert(series.labels.clone(), laid);
            }
        });
        found
    }

    fn labels(&self, request: &LabelRequest, mut visit: impl FnMut(&Labels)) {
        let state = self.state.read();
        let mut look = |matchers: &[Matcher]| {
            state.each(matchers, |series| {
                let samples = series.samples.lock();
                let interval = request.from_ms..=request.to_ms;
                if samples.iter().any(|(ts, _)| interval.contains(ts)) {
                    visit(&series.labels);
                }
            });
        };
        match &request.matcher_sets[..] {
            [] => look(&[]),
            sets => sets.iter().for_each(|matchers| look(matchers)),
        }
    }
}

impl State {
    fn each(&self, matchers: &[Matcher], mut visit: impl FnMut(&Arc<RecentSeries>)) {
        let of_names: Vec<_> = match matchers.iter().find_map(Matcher::metric_name) {
            Some(name) => self.names.get(name).into_iter().collect(),
            None => self.names.values().collect(),
        };
        for series in of_names.into_iter().flat_map(BTreeMap::values) {
            if matchers.iter().all(|m| m.matches_labels(&series.labels)) {
                visit(series);
            }
        }
    }

    fn remove(&mut self, labels: &Labels) {
        if let Some(of_name) = self.names.get_mut(labels.metric_name()) {
            of_name.remove(labels);
            if of_name.is_empty() {
                self.names.remove(labels.metric_name());
            }
        }
    }
}

/// A series with what is remembered of it laid over what is stored.
struct Laid {
    series: Arc<RecentSeries>,
    recent: RawSamples,
    stored: Option<Arc<dyn RawSeries>>,
}

impl RawSeries for Laid {
    fn labels(&self) -> &Labels {
        &self.series.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        if let Some(stored) = &self.stored {
            stored.read_into(from_ms, to_ms, out)?;
        }
        let newest = out.ts.last().copied().max(out.hist.last().map(|(ts, _)| *ts));
        if let Some(newest) = newest {
            // A series is sent in order: what is older has arrived as well or never will.
            self.series.shown_until_ms.fetch_max(newest, Ordering::Relaxed);
        }
        let wanted = |ts: TimestampMs| (from_ms..=to_ms).contains(&ts);
        let stored: BTreeSet<TimestampMs> =
            out.ts.iter().copied().chain(out.hist.iter().map(|(ts, _)| *ts)).collect();
        let mut late = false;
        for (ts, value) in self.recent.ts.iter().zip(&self.recent.vs) {
            if wanted(*ts) && !stored.contains(ts) {
                late |= out.ts.last().is_some_and(|last| last > ts);
                out.push(*ts, *value);
                if !out.start_ts.is_empty() {
                    out.start_ts.push(0);
                }
            }
        }
        if late {
            sort_floats(out);
        }
        for (ts, value) in &self.recent.hist {
            if wanted(*ts) && !stored.contains(ts) {
                let at = out.hist.partition_point(|(t, _)| t < ts);
                out.hist.insert(at, (*ts, value.clone()));
                if !out.hist_start_ts.is_empty() {
                    out.hist_start_ts.insert(at, 0);
                }
            }
        }
        Ok(())
    }
}

/// The source lacked a sample between others.
fn sort_floats(out: &mut RawSamples) {
    let mut order: Vec<usize> = (0..out.ts.len()).collect();
    order.sort_by_key(|i| out.ts[*i]);
    let mut sorted = RawSamples::default();
    for i in &order {
        sorted.push(out.ts[*i], out.vs[*i]);
        if let Some(start) = out.start_ts.get(*i) {
            sorted.start_ts.push(*start);
        }
    }
    out.ts = sorted.ts;
    out.vs = sorted.vs;
    out.start_ts = sorted.start_ts;
}

impl Source for Overlay {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            // First what is remembered: what the source does not show yet must not be
            // forgotten between the two looks.
            let mut laid = self.recent.select(request);
            let found = self.source.select(request).await?;
            if laid.is_empty() {
                return Ok(found);
            }
            let SeriesSet { series: stored, warnings } = found;
            let mut alone: BTreeMap<Labels, Arc<dyn RawSeries>> = BTreeMap::new();
            for series in stored {
                match laid.get_mut(series.labels()) {
                    Some(over) => over.stored = Some(series),
                    None => {
                        alone.insert(series.labels().clone(), series);
                    }
                }
            }
            for (labels, series) in laid {
                alone.insert(labels, Arc::new(series));
            }
            let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
            Ok(SeriesSet { series: alone.into_values().take(limit).collect(), warnings })
        })
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        self.source.select_exemplars(request)
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let mut names = BTreeSet::new();
            self.recent.labels(request, |labels| {
                names.extend(labels.iter().map(|(name, _)| name.to_owned()));
            });
            Ok(joined(names, self.source.label_names(request).await?))
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let mut values = BTreeSet::new();
            self.recent.labels(request, |labels| {
                values.extend(labels.get(name).map(str::to_owned));
            });
            Ok(joined(values, self.source.label_values(name, request).await?))
        })
    }
}

fn joined(mut values: BTreeSet<String>, stored: LabelAnswer) -> LabelAnswer {
    values.extend(stored.values);
    LabelAnswer { values: values.into_iter().collect(), warnings: stored.warnings }
}

impl Sink for Overlay {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(OverlayAppender {
            inner: self.sink.appender(),
            recent: self.recent.clone(),
            batch: Vec::new(),
        })
    }

    fn commit_waits(&self) -> bool {
        self.sink.commit_waits()
    }
}

/// Remembers what the sink has taken.
struct OverlayAppender {
    inner: Box<dyn Appender>,
    recent: Arc<Recent>,
    batch: Batch,
}

impl Appender for OverlayAppender {
    fn append(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        let reference = self.inner.append(hint, labels, ts, value)?;
        self.batch.push((labels.clone(), ts, Sample::Float(value)));
        Ok(reference)
    }

    fn append_histogram(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        let reference = self.inner.append_histogram(hint, labels, ts, value)?;
        self.batch.push((labels.clone(), ts, Sample::Histogram(value.clone())));
        Ok(reference)
    }

    fn append_exemplar(
        &mut self,
        series: SeriesRef,
        exemplar: Exemplar,
    ) -> Result<(), ExemplarError> {
        self.inner.append_exemplar(series, exemplar)
    }

    fn append_metadata(&mut self, family: &str, metadata: &Metadata) {
        self.inner.append_metadata(family, metadata);
    }

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        self.inner.commit()?;
        self.recent.add(self.batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::storage::SelectHints;
    use crate::storage::memory::MemoryStorage;

    /// Takes everything; shows what it is told to show.
    #[derive(Clone, Default)]
    struct Slow {
        arrived: MemoryStorage,
        under_way: Arc<Mutex<Batch>>,
        broken: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Slow {
        /// What was written up to then arrives.
        fn show(&self, until_ms: TimestampMs) {
            self.under_way.lock().retain(|(labels, ts, sample)| {
                if *ts > until_ms {
                    return true;
                }
                match sample {
                    Sample::Float(v) => self.arrived.append(labels, *ts, *v, None).unwrap(),
                    Sample::Histogram(h) => {
                        self.arrived.append_histogram(labels, *ts, h, None).unwrap();
                    }
                }
                false
            });
        }
    }

    impl Sink for Slow {
        fn appender(&self) -> Box<dyn Appender> {
            Box::new(SlowAppender { to: self.clone(), batch: Vec::new() })
        }
    }

    struct SlowAppender {
        to: Slow,
        batch: Batch,
    }

    impl Appender for SlowAppender {
        fn append(
            &mut self,
            _: Option<SeriesRef>,
            labels: &Labels,
            ts: TimestampMs,
            value: f64,
        ) -> Result<SeriesRef, AppendError> {
            self.batch.push((labels.clone(), ts, Sample::Float(value)));
            Ok(SeriesRef(0))
        }

        fn append_histogram(
            &mut self,
            _: Option<SeriesRef>,
            labels: &Labels,
            ts: TimestampMs,
            value: &Arc<FloatHistogram>,
        ) -> Result<SeriesRef, AppendError> {
            self.batch.push((labels.clone(), ts, Sample::Histogram(value.clone())));
            Ok(SeriesRef(0))
        }

        fn append_metadata(&mut self, _: &str, _: &Metadata) {}

        fn commit(self: Box<Self>) -> Result<(), StorageError> {
            if self.to.broken.load(Ordering::Relaxed) {
                return Err(StorageError::Remote("the network is down".to_owned()));
            }
            self.to.under_way.lock().extend(self.batch);
            Ok(())
        }
    }

    fn overlay(slow: &Slow, options: OverlayOptions) -> Overlay {
        Overlay::new(Arc::new(slow.arrived.clone()), Arc::new(slow.clone()), options)
    }

    fn write(overlay: &Overlay, name: &str, samples: &[(TimestampMs, f64)]) -> bool {
        let mut appender = overlay.appender();
        for (ts, v) in samples {
            let labels = Labels::from_pairs([("__name__", name), ("job", "j")]);
            appender.append(None, &labels, *ts, *v).unwrap();
        }
        appender.commit().is_ok()
    }

    /// Everything a selector finds, as `name ts=v ts=v`.
    fn read(source: &dyn Source, matcher: Matcher, from_ms: i64, to_ms: i64) -> Vec<String> {
        let request = SelectRequest {
            matchers: vec![matcher],
            from_ms,
            to_ms,
            hints: SelectHints::default(),
        };
        let set = source.select(&request).now_or_never().unwrap().unwrap();
        let show = |series: &Arc<dyn RawSeries>| {
            let mut out = RawSamples::default();
            series.read_into(from_ms, to_ms, &mut out).unwrap();
            let floats = out.ts.iter().zip(&out.vs).map(|(ts, v)| format!(" {ts}={v}"));
            let hists = out.hist.iter().map(|(ts, h)| format!(" {ts}=h{}", h.count));
            let name = series.labels().metric_name().to_owned();
            name + &floats.chain(hists).collect::<String>()
        };
        set.series.iter().map(show).collect()
    }

    fn all(overlay: &Overlay) -> Vec<String> {
        read(overlay, Matcher::equal("job", "j"), 0, 1_000_000)
    }

    #[test]
    fn what_was_written_is_seen_before_it_is_shown_and_once_afterwards() {
        let slow = Slow::default();
        let overlay = overlay(&slow, OverlayOptions::default());
        assert!(write(&overlay, "b", &[(10, 1.0), (20, 2.0)]));
        assert!(write(&overlay, "a", &[(20, 3.0)]));
        assert_eq!(all(&overlay), ["a 20=3", "b 10=1 20=2"]);
        assert_eq!(read(&overlay, Matcher::equal("__name__", "b"), 0, 15), ["b 10=1"]);
        assert!(read(&overlay, Matcher::equal("__name__", "b"), 21, 30).is_empty());
        slow.show(10);
        assert_eq!(all(&overlay), ["a 20=3", "b 10=1 20=2"]);
        slow.show(20);
        assert!(write(&overlay, "b", &[(30, f64::NAN)]));
        assert_eq!(all(&overlay), ["a 20=3", "b 10=1 20=2 30=NaN"]);
        let early = LabelRequest { to_ms: 5, ..Default::default() };
        let names = overlay.label_values("__name__", &early);
        assert!(names.now_or_never().unwrap().unwrap().values.is_empty());
        let request = LabelRequest { to_ms: 50, ..Default::default() };
        let names = overlay.label_values("__name__", &request).now_or_never().unwrap().unwrap();
        assert_eq!(names.values, ["a", "b"]);
        let names = overlay.label_names(&request).now_or_never().unwrap().unwrap();
        assert_eq!(names.values, ["__name__", "job"]);
    }

    #[test]
    fn what_the_source_says_of_a_time_counts_and_gaps_are_filled() {
        let slow = Slow::default();
        let overlay = overlay(&slow, OverlayOptions::default());
        write(&overlay, "a", &[(10, 1.0), (20, 2.0), (30, 3.0)]);
        let labels = Labels::from_pairs([("__name__", "a"), ("job", "j")]);
        slow.arrived.append(&labels, 10, 7.0, None).unwrap();
        slow.arrived.append(&labels, 30, 9.0, None).unwrap();
        assert_eq!(all(&overlay), ["a 10=7 20=2 30=9"]);
    }

    #[test]
    fn what_was_not_committed_is_not_seen() {
        let slow = Slow::default();
        let overlay = overlay(&slow, OverlayOptions::default());
        slow.broken.store(true, Ordering::Relaxed);
        assert!(!write(&overlay, "a", &[(10, 1.0)]));
        let mut dropped = overlay.appender();
        dropped.append(None, &Labels::from_pairs([("job", "j")]), 1, 1.0).unwrap();
        drop(dropped);
        assert!(all(&overlay).is_empty());
    }

    #[test]
    fn memory_is_bounded_by_age_and_number() {
        let slow = Slow::default();
        let metrics = OverlayMetrics::default();
        let options = OverlayOptions {
            keep_ms: 20,
            samples_max: 3,
            metrics: metrics.clone(),
            ..OverlayOptions::default()
        };
        let overlay = overlay(&slow, options);
        for ts in [10, 20, 30, 40] {
            write(&overlay, "a", &[(ts, 1.0)]);
        }
        assert_eq!(all(&overlay), ["a 20=1 30=1 40=1"]);
        assert_eq!((metrics.samples.get(), metrics.evicted.get()), (3, 0));
        write(&overlay, "b", &[(40, 1.0), (41, 1.0)]);
        assert_eq!(all(&overlay), ["a 40=1", "b 40=1 41=1"]);
        assert_eq!((metrics.samples.get(), metrics.evicted.get()), (3, 1));
        // The same time again replaces.
        write(&overlay, "b", &[(41, 2.0)]);
        assert_eq!((all(&overlay)[1].as_str(), metrics.samples.get()), ("b 40=1 41=2", 3));
        write(&overlay, "c", &[(500, 1.0)]);
        assert_eq!((all(&overlay), metrics.samples.get()), (vec!["c 500=1".to_owned()], 1));
    }

    #[test]
    fn what_was_shown_is_laid_over_a_while_longer_for_replicas_that_lag() {
        let slow = Slow::default();
        let options = OverlayOptions { linger_ms: 15, ..OverlayOptions::default() };
        let overlay = overlay(&slow, options);
        write(&overlay, "a", &[(10, 1.0), (20, 2.0)]);
        slow.show(20);
        assert_eq!(all(&overlay), ["a 10=1 20=2"]);
        // A replica that has nothing answers.
        slow.arrived.clear();
        assert_eq!(all(&overlay), ["a 10=1 20=2"]);
        write(&overlay, "a", &[(30, 3.0)]);
        assert_eq!(all(&overlay), ["a 20=2 30=3"]);
    }

    #[test]
    fn histograms_are_laid_over_too() {
        let slow = Slow::default();
        let overlay = overlay(&slow, OverlayOptions::default());
        let labels = Labels::from_pairs([("__name__", "h"), ("job", "j")]);
        let histogram = |count| Arc::new(FloatHistogram { count, ..FloatHistogram::default() });
        for (ts, count) in [(10, 1.0), (20, 2.0), (30, 3.0)] {
            let mut appender = overlay.appender();
            appender.append_histogram(None, &labels, ts, &histogram(count)).unwrap();
            appender.commit().unwrap();
            slow.show(10);
        }
        assert_eq!(all(&overlay), ["h 10=h1 20=h2 30=h3"]);
    }
}
