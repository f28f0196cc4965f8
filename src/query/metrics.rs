//! What the engine counts, under Prometheus' names.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::QueryStats;
use crate::telemetry::{Registry, Summary};

/// Metrics of the query engine. Clones share state.
#[derive(Clone, Debug)]
pub struct QueryMetrics {
    queries: Gauge<i64, AtomicI64>,
    concurrent_max: Gauge<i64, AtomicI64>,
    samples: Counter<u64, AtomicU64>,
    samples_read: Counter<u64, AtomicU64>,
    log_enabled: Gauge<i64, AtomicI64>,
    log_failures: Counter<u64, AtomicU64>,
    slices: [Slice; SLICES.len()],
}

/// How long one part of queries took.
#[derive(Clone, Debug)]
struct Slice {
    seconds: Summary,
    histogram_seconds: Histogram,
}

/// The parts, in the order in which [`QueryMetrics::observe_all`] has them.
const SLICES: [&str; 4] = ["queue_time", "prepare_time", "inner_eval", "result_sort"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SliceLabels {
    slice: &'static str,
}

const BUCKETS: [f64; 11] = [0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 100.0, 120.0];

impl QueryMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let duration_seconds: Family<SliceLabels, Summary> =
            Family::new_with_constructor(|| Summary::new(&[0.5, 0.9, 0.99]));
        let duration_histogram_seconds: Family<SliceLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let slices = SLICES.map(|slice| {
            let labels = SliceLabels { slice };
            Slice {
                seconds: duration_seconds.get_or_create(&labels).clone(),
                histogram_seconds: duration_histogram_seconds.get_or_create(&labels).clone(),
            }
        });
        let metrics = Self {
            queries: Gauge::default(),
            concurrent_max: Gauge::default(),
            samples: Counter::default(),
            samples_read: Counter::default(),
            log_enabled: Gauge::default(),
            log_failures: Counter::default(),
            slices,
        };
        registry.register(
            "prometheus_engine_queries",
            "The current number of queries being executed or waiting",
            metrics.queries.clone(),
        );
        registry.register(
            "prometheus_engine_queries_concurrent_max",
            "The max number of concurrent queries",
            metrics.concurrent_max.clone(),
        );
        registry.register(
            "prometheus_engine_query_log_enabled",
            "State of the query log",
            metrics.log_enabled.clone(),
        );
        registry.register(
            "prometheus_engine_query_log_failures",
            "The number of query log failures: queries that are not in the log",
            metrics.log_failures.clone(),
        );
        registry.register(
            "prometheus_engine_query_samples",
            "The total number of samples loaded by all queries",
            metrics.samples.clone(),
        );
        registry.register(
            "prometheus_engine_query_samples_read",
            "The total number of samples read from storage by all queries, each once",
            metrics.samples_read.clone(),
        );
        registry.register(
            "prometheus_engine_query_duration_seconds",
            "Query timings",
            duration_seconds,
        );
        registry.register(
            "prometheus_engine_query_duration_histogram_seconds",
            "The duration of various parts of PromQL query execution",
            duration_histogram_seconds,
        );
        metrics
    }

    pub(super) fn set_concurrent_max(&self, max: usize) {
        self.concurrent_max.set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    pub(super) fn set_query_log_enabled(&self, enabled: bool) {
        self.log_enabled.set(i64::from(enabled));
    }

    /// Counts queries that could not be written to the query log.
    pub fn query_log_failed(&self, queries: u64) {
        self.log_failures.inc_by(queries);
    }

    /// Counts a query until the answer is dropped.
    pub(super) fn begin(&self) -> Running {
        self.queries.inc();
        Running(self.queries.clone())
    }

    /// Notes what queries cost that finished together.
    pub(super) fn observe_all<'s>(&self, all: impl Iterator<Item = &'s QueryStats> + Clone) {
        self.samples.inc_by(all.clone().map(|stats| stats.total_queryable_samples).sum());
        self.samples_read.inc_by(all.clone().map(|stats| stats.samples_read).sum());
        let seconds: [fn(&QueryStats) -> f64; SLICES.len()] = [
            |stats| stats.queue_seconds,
            |stats| stats.prepare_seconds,
            |stats| stats.inner_eval_seconds,
            |stats| stats.result_sort_seconds,
        ];
        for (slice, seconds) in self.slices.iter().zip(seconds) {
            slice.seconds.observe_all(all.clone().map(seconds));
            all.clone().for_each(|stats| slice.histogram_seconds.observe(seconds(stats)));
        }
    }
}

/// A query that has not finished.
pub(super) struct Running(Gauge<i64, AtomicI64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
