//! `prometheus_remote_storage_*` of reading. Series exist from the first request on.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::Registry;

type Pairs = Vec<(&'static str, String)>;

/// Makes the latency metric of one server.
#[derive(Clone, Copy, Debug)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0])
    }
}

/// What reading from other systems counts. Clones share it; the default is seen by nobody.
#[derive(Clone, Debug)]
pub struct RemoteMetrics {
    queries: Family<Pairs, Counter>,
    in_flight: Family<Pairs, Gauge<i64, AtomicI64>>,
    seconds: Family<Pairs, Histogram, Latency>,
    retries: Family<Pairs, Counter>,
    bytes: Family<Pairs, Counter>,
    kept: Family<Pairs, Gauge<i64, AtomicI64>>,
    kinds: Family<Pairs, Gauge<i64, AtomicI64>>,
}

impl Default for RemoteMetrics {
    fn default() -> Self {
        Self {
            queries: Family::default(),
            in_flight: Family::default(),
            seconds: Family::new_with_constructor(Latency),
            retries: Family::default(),
            bytes: Family::default(),
            kept: Family::default(),
            kinds: Family::default(),
        }
    }
}

impl RemoteMetrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "prometheus_remote_storage_read_queries",
            "The total number of remote read queries.",
            metrics.queries.clone(),
        );
        registry.register(
            "prometheus_remote_storage_remote_read_queries",
            "The number of in-flight remote read queries.",
            metrics.in_flight.clone(),
        );
        registry.register(
            "prometheus_remote_storage_read_request_duration_seconds",
            "Histogram of the latency for remote read requests. Note that for streamed responses \
             this is only the duration of the initial call and does not include the processing \
             of the stream.",
            metrics.seconds.clone(),
        );
        registry.register(
            "watchfire_remote_read_retries",
            "Requests for samples of other systems that were sent again",
            metrics.retries.clone(),
        );
        registry.register(
            "watchfire_remote_read_received_bytes",
            "Bytes of the answers of other systems, as sent",
            metrics.bytes.clone(),
        );
        registry.register(
            "watchfire_remote_read_kept_samples",
            "Samples of other systems kept in memory until rules are evaluated again",
            metrics.kept.clone(),
        );
        registry.register(
            "watchfire_remote_read_type",
            "What a system that is read is taken for: 1 for its type",
            metrics.kinds.clone(),
        );
        metrics
    }

    /// Those of one server.
    pub(super) fn server(&self, name: &str, url: &str) -> ServerMetrics {
        let pairs = vec![("remote_name", name.to_owned()), ("url", url.to_owned())];
        ServerMetrics {
            in_flight: self.in_flight.get_or_create(&pairs).clone(),
            retries: self.retries.get_or_create(&pairs).clone(),
            bytes: self.bytes.get_or_create(&pairs).clone(),
            kept: self.kept.get_or_create(&pairs).clone(),
            kind: Arc::default(),
            all: self.clone(),
            pairs,
        }
    }
}

/// The metrics of one server.
#[derive(Clone, Debug)]
pub(super) struct ServerMetrics {
    pub(super) retries: Counter,
    pub(super) bytes: Counter,
    pub(super) kept: Gauge<i64, AtomicI64>,
    in_flight: Gauge<i64, AtomicI64>,
    /// What it was taken for last.
    kind: Arc<Mutex<Option<&'static str>>>,
    all: RemoteMetrics,
    pairs: Pairs,
}

/// Counts a query for as long as it lives.
pub(super) struct InFlight(Gauge<i64, AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ServerMetrics {
    /// Tells what the server is taken for, and no more what it was.
    pub(super) fn is_a(&self, kind: &'static str) {
        let of = |kind: &str| {
            let mut pairs = self.pairs.clone();
            pairs.push(("type", kind.to_owned()));
            pairs
        };
        let mut was = self.kind.lock();
        if let Some(was) = was.replace(kind).filter(|was| *was != kind) {
            self.all.kinds.remove(&of(was));
        }
        self.all.kinds.get_or_create(&of(kind)).set(1);
    }

    pub(super) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a response, or with code 0 that there was none.
    pub(super) fn answered(&self, kind: &str, code: u16, seconds: f64) {
        let mut pairs = self.pairs.clone();
        pairs.push(("response_type", kind.to_owned()));
        self.all.seconds.get_or_create(&pairs).observe(seconds);
        pairs.push(("code", code.to_string()));
        self.all.queries.get_or_create(&pairs).inc();
    }
}
