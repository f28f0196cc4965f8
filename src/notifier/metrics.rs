//! `prometheus_notifications_*`. Series of an Alertmanager exist as long as a queue for
//! its URL does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::{Registry, Summary};

type ByUrl = Vec<(&'static str, String)>;

/// Makes the latency metrics of one Alertmanager.
#[derive(Clone, Copy, Debug)]
struct Latency;

impl MetricConstructor<Summary> for Latency {
    fn new_metric(&self) -> Summary {
        Summary::new(&[0.5, 0.9, 0.99])
    }
}

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.01, 0.1, 1.0, 10.0])
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    latency: Family<ByUrl, Summary, Latency>,
    latency_histogram: Family<ByUrl, Histogram, Latency>,
    errors: Family<ByUrl, Counter>,
    sent: Family<ByUrl, Counter>,
    dropped: Family<ByUrl, Counter>,
    queue_length: Family<ByUrl, Gauge>,
    queue_capacity: Gauge,
    discovered: Gauge,
    /// How many loops count under a URL: two sets may name the same Alertmanager.
    users: Mutex<HashMap<String, usize>>,
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            latency: Family::new_with_constructor(Latency),
            latency_histogram: Family::new_with_constructor(Latency),
            errors: Family::default(),
            sent: Family::default(),
            dropped: Family::default(),
            queue_length: Family::default(),
            queue_capacity: Gauge::<i64, AtomicI64>::default(),
            discovered: Gauge::<i64, AtomicI64>::default(),
            users: Mutex::default(),
        };
        registry.register(
            "prometheus_notifications_latency_seconds",
            "Latency quantiles for sending alert notifications.",
            metrics.latency.clone(),
        );
        registry.register(
            "prometheus_notifications_latency_histogram_seconds",
            "Latency histogram for sending alert notifications.",
            metrics.latency_histogram.clone(),
        );
        registry.register(
            "prometheus_notifications_errors",
            "Total number of sent alerts affected by errors.",
            metrics.errors.clone(),
        );
        registry.register(
            "prometheus_notifications_sent",
            "Total number of alerts sent.",
            metrics.sent.clone(),
        );
        registry.register(
            "prometheus_notifications_dropped",
            "Total number of alerts dropped due to errors when sending to Alertmanager.",
            metrics.dropped.clone(),
        );
        registry.register(
            "prometheus_notifications_queue_length",
            "The number of alert notifications in the queue.",
            metrics.queue_length.clone(),
        );
        registry.register(
            "prometheus_notifications_queue_capacity",
            "The capacity of the alert notifications queue.",
            metrics.queue_capacity.clone(),
        );
        registry.register(
            "prometheus_notifications_alertmanagers_discovered",
            "The number of alertmanagers discovered and active.",
            metrics.discovered.clone(),
        );
        metrics
    }

    pub(super) fn set_queue_capacity(&self, capacity: usize) {
        self.queue_capacity.set(i64::try_from(capacity).unwrap_or(i64::MAX));
    }

    pub(super) fn set_discovered(&self, count: usize) {
        self.discovered.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// The metrics of one Alertmanager. Dropping the last one of a URL ends its series.
pub(super) struct LoopMetrics {
    metrics: Arc<Metrics>,
    url: ByUrl,
    pub latency: Summary,
    pub latency_histogram: Histogram,
    pub errors: Counter,
    pub sent: Counter,
    pub dropped: Counter,
    pub queue_length: Gauge,
}

impl LoopMetrics {
    /// Starts the series of a URL, counters at zero.
    pub(super) fn new(metrics: &Arc<Metrics>, url: &str) -> Self {
        *metrics.users.lock().entry(url.to_owned()).or_default() += 1;
        let url = vec![("alertmanager", url.to_owned())];
        Self {
            latency: metrics.latency.get_or_create_owned(&url),
            latency_histogram: metrics.latency_histogram.get_or_create_owned(&url),
            errors: metrics.errors.get_or_create_owned(&url),
            sent: metrics.sent.get_or_create_owned(&url),
            dropped: metrics.dropped.get_or_create_owned(&url),
            queue_length: metrics.queue_length.get_or_create_owned(&url),
            metrics: metrics.clone(),
            url,
        }
    }
}

impl Drop for LoopMetrics {
    fn drop(&mut self) {
        let url = &self.url;
        let mut users = self.metrics.users.lock();
        let Some(count) = users.get_mut(&url[0].1) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        users.remove(&url[0].1);
        let m = &self.metrics;
        m.latency.remove(url);
        m.latency_histogram.remove(url);
        m.errors.remove(url);
        m.sent.remove(url);
        m.dropped.remove(url);
        m.queue_length.remove(url);
    }
}
