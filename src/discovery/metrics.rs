//! `prometheus_sd_*`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};

use crate::telemetry::{Registry, Summary};

type ByMechanism = Vec<(&'static str, &'static str)>;

#[derive(Clone, Copy, Debug)]
struct Duration;

impl MetricConstructor<Summary> for Duration {
    fn new_metric(&self) -> Summary {
        Summary::new(&[0.5, 0.9, 0.99])
    }
}

/// What discovery counts. Clones share their values.
#[derive(Clone, Debug)]
pub struct DiscoveryMetrics {
    refresh_failures: Family<ByMechanism, Counter>,
    refresh_duration: Family<ByMechanism, Summary, Duration>,
    pub(super) file_read_errors: Counter,
    pub(super) dns_lookups: Counter,
    pub(super) dns_lookup_failures: Counter,
    pub(super) http_failures: Counter,
}

impl DiscoveryMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            refresh_failures: Family::default(),
            refresh_duration: Family::new_with_constructor(Duration),
            file_read_errors: Counter::default(),
            dns_lookups: Counter::default(),
            dns_lookup_failures: Counter::default(),
            http_failures: Counter::default(),
        };
        registry.register(
            "prometheus_sd_refresh_failures",
            "Number of refresh failures for the given SD mechanism.",
            metrics.refresh_failures.clone(),
        );
        registry.register(
            "prometheus_sd_refresh_duration_seconds",
            "The duration of a refresh in seconds for the given SD mechanism.",
            metrics.refresh_duration.clone(),
        );
        for (name, help, counter) in [
            (
                "prometheus_sd_file_read_errors",
                "The number of File-SD read errors.",
                &metrics.file_read_errors,
            ),
            ("prometheus_sd_dns_lookups", "The number of DNS-SD lookups.", &metrics.dns_lookups),
            (
                "prometheus_sd_dns_lookup_failures",
                "The number of DNS-SD lookup failures.",
                &metrics.dns_lookup_failures,
            ),
            (
                "prometheus_sd_http_failures",
                "Number of HTTP service discovery refresh failures.",
                &metrics.http_failures,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    pub(super) fn refreshed(&self, mechanism: &'static str, seconds: f64, ok: bool) {
        let labels = vec![("mechanism", mechanism)];
        self.refresh_duration.get_or_create(&labels).observe(seconds);
        let failures = self.refresh_failures.get_or_create(&labels);
        if !ok {
            failures.inc();
        }
    }
}
