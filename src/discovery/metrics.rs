//! `prometheus_sd_*`.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::{Registry, Summary};

/// Names and values of labels.
type LabelPairs = Vec<(&'static str, String)>;

/// The kinds of discovery that ask again and again.
const REFRESHING: [&str; 2] = ["dns", "http"];

#[derive(Clone, Copy, Debug)]
struct Duration;

impl MetricConstructor<Summary> for Duration {
    fn new_metric(&self) -> Summary {
        Summary::new(&[0.5, 0.9, 0.99])
    }
}

impl MetricConstructor<Histogram> for Duration {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.01, 0.1, 1.0, 10.0])
    }
}

/// Who uses what is discovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryUser {
    /// Targets of scrape jobs; a set is known by its job.
    Scrape,
    /// Alertmanagers; a set is known by its place, `config-0`.
    Notify,
}

impl DiscoveryUser {
    fn labels(self) -> LabelPairs {
        let name = match self {
            Self::Scrape => "scrape",
            Self::Notify => "notify",
        };
        vec![("name", name.to_owned())]
    }

    fn labels_of(self, set: &str) -> LabelPairs {
        let mut labels = self.labels();
        labels.push(("config", set.to_owned()));
        labels
    }
}

/// What discovery counts. Clones share their values.
#[derive(Clone, Debug)]
pub struct DiscoveryMetrics {
    failed_configs: Family<LabelPairs, Gauge>,
    discovered_targets: Family<LabelPairs, Gauge>,
    received_updates: Family<LabelPairs, Counter>,
    delayed_updates: Family<LabelPairs, Counter>,
    updates: Family<LabelPairs, Counter>,
    refresh_failures: Family<LabelPairs, Counter>,
    refresh_duration: Family<LabelPairs, Summary, Duration>,
    refresh_duration_histogram: Family<LabelPairs, Histogram, Duration>,
    file_modified: Family<LabelPairs, Gauge<f64, AtomicU64>>,
    pub(super) file_scan_duration: Summary,
    pub(super) file_read_errors: Counter,
    pub(super) file_watcher_errors: Counter,
    pub(super) dns_lookups: Counter,
    pub(super) dns_lookup_failures: Counter,
    pub(super) http_failures: Counter,
}

impl DiscoveryMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            failed_configs: Family::default(),
            discovered_targets: Family::default(),
            received_updates: Family::default(),
            delayed_updates: Family::default(),
            updates: Family::default(),
            refresh_failures: Family::default(),
            refresh_duration: Family::new_with_constructor(Duration),
            refresh_duration_histogram: Family::new_with_constructor(Duration),
            file_modified: Family::default(),
            file_scan_duration: Duration.new_metric(),
            file_read_errors: Counter::default(),
            file_watcher_errors: Counter::default(),
            dns_lookups: Counter::default(),
            dns_lookup_failures: Counter::default(),
            http_failures: Counter::default(),
        };
        metrics.register_users(registry);
        metrics.register_providers(registry);
        // Visible before anything happened.
        for labels in [DiscoveryUser::Scrape, DiscoveryUser::Notify].map(DiscoveryUser::labels) {
            let _ = metrics.failed_configs.get_or_create(&labels);
            for family in [&metrics.received_updates, &metrics.delayed_updates, &metrics.updates] {
                let _ = family.get_or_create(&labels);
            }
        }
        metrics
    }

    fn register_users(&self, registry: &mut Registry) {
        for (name, help, family) in [
            (
                "prometheus_sd_failed_configs",
                "Current number of service discovery configurations that failed to load.",
                &self.failed_configs,
            ),
            (
                "prometheus_sd_discovered_targets",
                "Current number of discovered targets.",
                &self.discovered_targets,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
        for (name, help, family) in [
            (
                "prometheus_sd_received_updates",
                "Total number of update events received from the SD providers.",
                &self.received_updates,
            ),
            (
                "prometheus_sd_updates_delayed",
                "Total number of update events that couldn't be sent immediately.",
                &self.delayed_updates,
            ),
            (
                "prometheus_sd_updates",
                "Total number of update events sent to the SD consumers.",
                &self.updates,
            ),
            (
                "prometheus_sd_refresh_failures",
                "Number of refresh failures for the given SD mechanism.",
                &self.refresh_failures,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    fn register_providers(&self, registry: &mut Registry) {
        registry.register(
            "prometheus_sd_refresh_duration_seconds",
            "The duration of a refresh in seconds for the given SD mechanism.",
            self.refresh_duration.clone(),
        );
        registry.register(
            "prometheus_sd_refresh_duration_histogram_seconds",
            "The duration of a refresh for the given SD mechanism.",
            self.refresh_duration_histogram.clone(),
        );
        registry.register(
            "prometheus_sd_file_scan_duration_seconds",
            "The duration of the File-SD scan in seconds.",
            self.file_scan_duration.clone(),
        );
        registry.register(
            "prometheus_sd_file_mtime_seconds",
            "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.",
            self.file_modified.clone(),
        );
        for (name, help, counter) in [
            (
                "prometheus_sd_file_read_errors",
                "The number of File-SD read errors.",
                &self.file_read_errors,
            ),
            (
                "prometheus_sd_file_watcher_errors",
                "The number of File-SD errors caused by filesystem watch failures.",
                &self.file_watcher_errors,
            ),
            ("prometheus_sd_dns_lookups", "The number of DNS-SD lookups.", &self.dns_lookups),
            (
                "prometheus_sd_dns_lookup_failures",
                "The number of DNS-SD lookup failures.",
                &self.dns_lookup_failures,
            ),
            (
                "prometheus_sd_http_failures",
                "Number of HTTP service discovery refresh failures.",
                &self.http_failures,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    /// A set has this many targets now, listed ones included, before relabelling.
    pub fn discovered(&self, user: DiscoveryUser, set: &str, targets: usize) {
        let gauge = self.discovered_targets.get_or_create_owned(&user.labels_of(set));
        gauge.set(i64::try_from(targets).unwrap_or(i64::MAX));
    }

    /// A set is gone.
    pub fn forget(&self, user: DiscoveryUser, set: &str) {
        self.discovered_targets.remove(&user.labels_of(set));
        for mechanism in REFRESHING {
            let labels = refresh_labels(mechanism, set);
            self.refresh_failures.remove(&labels);
            self.refresh_duration.remove(&labels);
        }
    }

    /// So many of the user's sets could not be set up.
    pub fn failed(&self, user: DiscoveryUser, sets: usize) {
        let gauge = self.failed_configs.get_or_create_owned(&user.labels());
        gauge.set(i64::try_from(sets).unwrap_or(i64::MAX));
    }

    /// A provider told what it found; listed targets do so when they are read.
    pub fn received(&self, user: DiscoveryUser) {
        self.received_updates.get_or_create_owned(&user.labels()).inc();
    }

    /// What was found had to wait for the user.
    pub fn delayed(&self, user: DiscoveryUser) {
        self.delayed_updates.get_or_create_owned(&user.labels()).inc();
    }

    /// The user took what was found.
    pub fn updated(&self, user: DiscoveryUser) {
        self.updates.get_or_create_owned(&user.labels()).inc();
    }

    pub(super) fn refreshed(&self, mechanism: &'static str, set: &str, seconds: f64, ok: bool) {
        let labels = refresh_labels(mechanism, set);
        self.refresh_duration.get_or_create(&labels).observe(seconds);
        let by_mechanism = vec![("mechanism", mechanism.to_owned())];
        self.refresh_duration_histogram.get_or_create(&by_mechanism).observe(seconds);
        let failures = self.refresh_failures.get_or_create_owned(&labels);
        if !ok {
            failures.inc();
        }
    }

    /// When a file that was read was changed last; `None` when it is not read any more.
    pub(super) fn file_modified(&self, file: &str, seconds: Option<f64>) {
        let labels = vec![("filename", file.to_owned())];
        match seconds {
            Some(seconds) => {
                self.file_modified.get_or_create(&labels).set(seconds);
            }
            None => {
                self.file_modified.remove(&labels);
            }
        }
    }
}

fn refresh_labels(mechanism: &str, set: &str) -> LabelPairs {
    vec![("mechanism", mechanism.to_owned()), ("config", set.to_owned())]
}
