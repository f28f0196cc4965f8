//! The newest exemplars of all series, in memory: a ring of a fixed size. What is pushed out
//! of it is forgotten; the log brings the others back after a restart.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rustc_hash::FxBuildHasher;

use crate::model::exemplar::{Exemplar, ExemplarError};
use crate::model::{Labels, Matcher};
use crate::storage::{ExemplarSeries, LabelRequest};
use crate::telemetry::Registry;

/// Counters under Prometheus' names.
#[derive(Clone, Debug)]
pub(crate) struct ExemplarMetrics {
    appended: Counter,
    out_of_order: Counter,
    in_storage: Gauge,
    series: Gauge,
    max: Gauge,
    oldest_seconds: Gauge<f64, AtomicU64>,
}

impl ExemplarMetrics {
    /// Registers the metrics.
    #[rustfmt::skip]
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            appended: Counter::default(),
            out_of_order: Counter::default(),
            in_storage: Gauge::default(),
            series: Gauge::default(),
            max: Gauge::default(),
            oldest_seconds: Gauge::default(),
        };
        registry.register("prometheus_tsdb_exemplar_exemplars_appended", "Total number of appended exemplars.", metrics.appended.clone());
        registry.register("prometheus_tsdb_exemplar_out_of_order_exemplars", "Total number of out of order exemplar ingestion failed attempts.", metrics.out_of_order.clone());
        registry.register("prometheus_tsdb_exemplar_exemplars_in_storage", "Number of exemplars currently in circular storage.", metrics.in_storage.clone());
        registry.register("prometheus_tsdb_exemplar_series_with_exemplars_in_storage", "Number of series with exemplars currently in circular storage.", metrics.series.clone());
        registry.register("prometheus_tsdb_exemplar_max_exemplars", "Total number of exemplars the exemplar storage can store, resizeable.", metrics.max.clone());
        registry.register("prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds", "The timestamp of the oldest exemplar stored in circular storage. Useful to check for what time range the current exemplar buffer limit allows. This usually means the last timestamp for all exemplars for a typical setup. This is not true though if one of the series timestamp is in future compared to rest series.", metrics.oldest_seconds.clone());
        metrics
    }
}

/// The exemplars.
#[derive(Debug)]
pub(crate) struct ExemplarStore {
    metrics: ExemplarMetrics,
    ring: RwLock<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// 0 keeps none.
    max: usize,
    /// The series of each exemplar in the order they came: the first is the next to go.
    order: VecDeque<Labels>,
    by_series: HashMap<Labels, VecDeque<Exemplar>, FxBuildHasher>,
}

impl ExemplarStore {
    pub(crate) fn new(max: usize, metrics: ExemplarMetrics) -> Self {
        let store = Self { metrics, ring: RwLock::default() };
        store.resize(max);
        store
    }

    /// Changes how many are kept; the oldest go when there are too many.
    pub(crate) fn resize(&self, max: usize) {
        let mut ring = self.ring.write();
        ring.max = max;
        while ring.order.len() > max {
            ring.forget_oldest();
        }
        ring.order.shrink_to_fit();
        self.metrics.max.set(max as i64);
        self.count(&ring);
    }

    /// Whether an exemplar would be kept: `Ok(false)` for one that is known, or when none
    /// are kept at all.
    pub(crate) fn check(&self, series: &Labels, new: &Exemplar) -> Result<bool, ExemplarError> {
        let ring = self.ring.read();
        if ring.max == 0 {
            return Ok(false);
        }
        new.check()?;
        ring.follows(series, new)
    }

    /// Keeps an exemplar that is new and in order.
    pub(crate) fn add(&self, series: &Labels, new: Exemplar) {
        let mut ring = self.ring.write();
        match ring.follows(series, &new) {
            Ok(true) if ring.max > 0 => {}
            Ok(_) => return,
            Err(_) => {
                self.metrics.out_of_order.inc();
                return;
            }
        }
        if ring.order.len() >= ring.max {
            ring.forget_oldest();
        }
        ring.order.push_back(series.clone());
        ring.by_series.entry(series.clone()).or_default().push_back(new);
        self.metrics.appended.inc();
        self.count(&ring);
    }

    /// Exemplars of the series a request finds, each in time order, sorted by series.
    pub(crate) fn select(&self, request: &LabelRequest) -> Vec<ExemplarSeries> {
        let ring = self.ring.read();
        let found = ring.by_series.iter().filter(|(series, _)| {
            let satisfied = |set: &Vec<Matcher>| set.iter().all(|m| m.matches_labels(series));
            request.matcher_sets.is_empty() || request.matcher_sets.iter().any(satisfied)
        });
        let inside = |e: &&Exemplar| request.from_ms <= e.ts && e.ts <= request.to_ms;
        let mut all: Vec<ExemplarSeries> = found
            .map(|(series, held)| ExemplarSeries {
                labels: series.clone(),
                exemplars: held.iter().filter(inside).cloned().collect(),
            })
            .filter(|found| !found.exemplars.is_empty())
            .collect();
        all.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        all
    }

    fn count(&self, ring: &Ring) {
        self.metrics.in_storage.set(ring.order.len() as i64);
        self.metrics.series.set(ring.by_series.len() as i64);
        let oldest = ring.order.front().and_then(|series| ring.by_series.get(series)?.front());
        self.metrics.oldest_seconds.set(oldest.map_or(0.0, |e| e.ts as f64 / 1000.0));
    }
}

impl Ring {
    /// Whether an exemplar is new to its series; an error when it comes too late.
    fn follows(&self, series: &Labels, new: &Exemplar) -> Result<bool, ExemplarError> {
        let Some(newest) = self.by_series.get(series).and_then(VecDeque::back) else {
            return Ok(true);
        };
        if new.is_same(newest) {
            return Ok(false);
        }
        // Those of one scrape come sorted by time, value and labels.
        let order = new
            .ts
            .cmp(&newest.ts)
            .then_with(|| new.value.total_cmp(&newest.value))
            .then_with(|| new.labels.cmp(&newest.labels));
        if order == Ordering::Less { Err(ExemplarError::OutOfOrder) } else { Ok(true) }
    }

    fn forget_oldest(&mut self) {
        let Some(series) = self.order.pop_front() else { return };
        if let Some(held) = self.by_series.get_mut(&series) {
            held.pop_front();
            if held.is_empty() {
                self.by_series.remove(&series);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MatchOp, TimestampMs};

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    fn exemplar(trace: &str, value: f64, ts: TimestampMs) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace", trace)]), value, ts, has_ts: true }
    }

    fn store(max: usize) -> ExemplarStore {
        ExemplarStore::new(max, ExemplarMetrics::new(&mut Registry::default()))
    }

    fn times(
        store: &ExemplarStore,
        from_ms: i64,
        to_ms: i64,
        name: &str,
    ) -> Vec<(String, Vec<i64>)> {
        let matcher = Matcher::new(MatchOp::Regex, "__name__", name).expect("a matcher");
        let request = LabelRequest { matcher_sets: vec![vec![matcher]], from_ms, to_ms };
        let found = store.select(&request).into_iter();
        found
            .map(|s| {
                (s.labels.metric_name().to_owned(), s.exemplars.iter().map(|e| e.ts).collect())
            })
            .collect()
    }

    #[test]
    fn the_oldest_make_room() {
        let store = store(3);
        for (name, ts) in [("b", 1), ("a", 2), ("a", 3), ("a", 4)] {
            store.add(&series(name), exemplar("x", 1.0, ts));
        }
        assert_eq!(times(&store, 0, 9, ".*"), [("a".to_owned(), vec![2, 3, 4])]);
        store.add(&series("b"), exemplar("x", 1.0, 5));
        let both = [("a".to_owned(), vec![3, 4]), ("b".to_owned(), vec![5])];
        assert_eq!(times(&store, 0, 9, ".*"), both);
        assert_eq!(times(&store, 4, 4, "a|b"), [("a".to_owned(), vec![4])]);
        assert_eq!(times(&store, 0, 9, "b"), [("b".to_owned(), vec![5])]);
        store.resize(1);
        assert_eq!(times(&store, 0, 9, ".*"), [("b".to_owned(), vec![5])]);
        store.resize(0);
        store.add(&series("b"), exemplar("x", 1.0, 6));
        assert_eq!(times(&store, 0, 9, ".*"), []);
        assert_eq!(store.check(&series("b"), &exemplar("x", 1.0, 1)), Ok(false));
    }

    #[test]
    fn what_is_known_or_late_or_long_is_not_kept() {
        let store = store(10);
        store.add(&series("a"), exemplar("m", 2.0, 10));
        let check = |new: &Exemplar| store.check(&series("a"), new);
        assert_eq!(check(&exemplar("m", 2.0, 10)), Ok(false));
        assert_eq!(check(&exemplar("m", 2.0, 9)), Err(ExemplarError::OutOfOrder));
        assert_eq!(check(&exemplar("m", 1.0, 10)), Err(ExemplarError::OutOfOrder));
        assert_eq!(check(&exemplar("a", 2.0, 10)), Err(ExemplarError::OutOfOrder));
        assert_eq!(check(&exemplar("z", 2.0, 10)), Ok(true));
        assert_eq!(store.check(&series("b"), &exemplar("m", 2.0, 9)), Ok(true));
        let long = exemplar(&"é".repeat(123), 9.0, 20);
        assert_eq!(check(&long), Ok(true), "five characters of the name, 123 of the value");
        let longer = exemplar(&"é".repeat(124), 9.0, 20);
        assert_eq!(check(&longer), Err(ExemplarError::LabelLength));
        // Without a time of its own the same one is seen at each scrape.
        let untimed = |ts| Exemplar { has_ts: false, ..exemplar("t", 3.0, ts) };
        store.add(&series("c"), untimed(1));
        assert_eq!(store.check(&series("c"), &untimed(2)), Ok(false));
    }
}
