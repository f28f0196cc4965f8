//! What scraping counts about itself, under Prometheus' names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::{Registry, Summary};

/// Label of per-job metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Job {
    pub scrape_job: String,
}

/// Label of per-interval metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Interval {
    pub interval: String,
}

/// The counters of the scrape manager and its loops. Clones share state.
#[derive(Clone, Debug)]
pub struct ScrapeMetrics {
    pub(super) interval_length: Family<Interval, Summary, fn() -> Summary>,
    pub(super) sync_length: Family<Job, Summary, fn() -> Summary>,
    pub(super) pools: Counter,
    pub(super) pools_failed: Counter,
    pub(super) reloads: Counter,
    pub(super) reloads_failed: Counter,
    pub(super) exceeded_target_limit: Counter,
    pub(super) exceeded_label_limits: Counter,
    pub(super) target_limit: Family<Job, Gauge>,
    pub(super) targets: Family<Job, Gauge>,
    pub(super) syncs: Family<Job, Counter>,
    pub(super) sync_failed: Family<Job, Counter>,
    pub(super) exceeded_sample_limit: Counter,
    pub(super) exceeded_body_size_limit: Counter,
    pub(super) duplicate_timestamp: Counter,
    pub(super) out_of_order: Counter,
    pub(super) out_of_bounds: Counter,
    pub(super) exemplar_out_of_order: Counter,
}

fn interval_summary() -> Summary {
    Summary::new(&[0.01, 0.05, 0.5, 0.9, 0.99])
}

impl ScrapeMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            interval_length: Family::new_with_constructor(interval_summary as fn() -> Summary),
            sync_length: Family::new_with_constructor(interval_summary as fn() -> Summary),
            pools: Counter::default(),
            pools_failed: Counter::default(),
            reloads: Counter::default(),
            reloads_failed: Counter::default(),
            exceeded_target_limit: Counter::default(),
            exemplar_out_of_order: Counter::default(),
            exceeded_label_limits: Counter::default(),
            target_limit: Family::default(),
            targets: Family::default(),
            syncs: Family::default(),
            sync_failed: Family::default(),
            exceeded_sample_limit: Counter::default(),
            exceeded_body_size_limit: Counter::default(),
            duplicate_timestamp: Counter::default(),
            out_of_order: Counter::default(),
            out_of_bounds: Counter::default(),
        };
        registry.register(
            "prometheus_target_interval_length_seconds",
            "Actual intervals between scrapes",
            metrics.interval_length.clone(),
        );
        registry.register(
            "prometheus_target_sync_length_seconds",
            "Actual interval to sync the scrape pool",
            metrics.sync_length.clone(),
        );
        for (name, help, gauge) in [
            (
                "prometheus_target_scrape_pool_target_limit",
                "Maximum number of targets allowed in this scrape pool",
                &metrics.target_limit,
            ),
            (
                "prometheus_target_scrape_pool_targets",
                "Current number of targets in this scrape pool",
                &metrics.targets,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            (
                "prometheus_target_scrape_pool_sync",
                "Total number of syncs that were executed on a scrape pool",
                &metrics.syncs,
            ),
            (
                "prometheus_target_sync_failed",
                "Total number of target sync failures",
                &metrics.sync_failed,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics.register_counters(registry);
        metrics
    }

    fn register_counters(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "prometheus_target_scrape_pools",
                "Total number of scrape pool creation attempts",
                &self.pools,
            ),
            (
                "prometheus_target_scrape_pools_failed",
                "Total number of scrape pool creations that failed",
                &self.pools_failed,
            ),
            (
                "prometheus_target_scrape_pool_reloads",
                "Total number of scrape pool reloads",
                &self.reloads,
            ),
            (
                "prometheus_target_scrape_pool_reloads_failed",
                "Total number of failed scrape pool reloads",
                &self.reloads_failed,
            ),
            (
                "prometheus_target_scrape_pool_exceeded_target_limit",
                "Total number of times scrape pools hit the target limit, during sync or config \
                 reload",
                &self.exceeded_target_limit,
            ),
            (
                "prometheus_target_scrape_pool_exceeded_label_limits",
                "Total number of times scrape pools hit the label limits, during sync or config \
                 reload",
                &self.exceeded_label_limits,
            ),
            (
                "prometheus_target_scrapes_exceeded_sample_limit",
                "Total number of scrapes that hit the sample limit and were rejected",
                &self.exceeded_sample_limit,
            ),
            (
                "prometheus_target_scrapes_exceeded_body_size_limit",
                "Total number of scrapes that hit the body size limit",
                &self.exceeded_body_size_limit,
            ),
            (
                "prometheus_target_scrapes_sample_duplicate_timestamp",
                "Total number of samples rejected due to duplicate timestamps but different \
                 values",
                &self.duplicate_timestamp,
            ),
            (
                "prometheus_target_scrapes_sample_out_of_order",
                "Total number of samples rejected due to not being out of the expected order",
                &self.out_of_order,
            ),
            (
                "prometheus_target_scrapes_sample_out_of_bounds",
                "Total number of samples rejected due to timestamp falling outside of the time \
                 bounds",
                &self.out_of_bounds,
            ),
            (
                "prometheus_target_scrapes_exemplar_out_of_order",
                "Total number of exemplar rejected due to not being in the expected order.",
                &self.exemplar_out_of_order,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}
