//! What the HTTP server counts.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::telemetry::Registry;

/// Metrics of the HTTP server. Clones share state.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    requests: Family<RequestLabels, Counter>,
    duration_seconds: Family<HandlerLabels, Histogram>,
    response_bytes: Family<HandlerLabels, Histogram>,
    ready: Gauge<i64, AtomicI64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    code: u16,
    handler: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandlerLabels {
    handler: String,
}

impl ApiMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration_seconds: Family::new_with_constructor(|| {
                Histogram::new([0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0])
            }),
            response_bytes: Family::new_with_constructor(|| {
                Histogram::new([1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9])
            }),
            ready: Gauge::default(),
        };
        registry.register(
            "prometheus_http_requests",
            "Counter of HTTP requests",
            metrics.requests.clone(),
        );
        registry.register(
            "prometheus_http_request_duration_seconds",
            "Histogram of latencies for HTTP requests",
            metrics.duration_seconds.clone(),
        );
        registry.register(
            "prometheus_http_response_size_bytes",
            "Histogram of response size for HTTP requests",
            metrics.response_bytes.clone(),
        );
        registry.register(
            "prometheus_ready",
            "Whether Prometheus startup was fully completed and the server is ready for normal operation",
            metrics.ready.clone(),
        );
        metrics
    }

    /// Notes a finished request. `handler` is a route, never a path a client made up.
    pub(super) fn observe(&self, handler: &str, code: u16, seconds: f64) {
        let handler = handler.to_owned();
        self.requests.get_or_create(&RequestLabels { code, handler: handler.clone() }).inc();
        self.duration_seconds.get_or_create(&HandlerLabels { handler }).observe(seconds);
    }

    /// Notes the size of a response, once it has been sent.
    pub(super) fn observe_bytes(&self, handler: &str, bytes: u64) {
        let labels = HandlerLabels { handler: handler.to_owned() };
        self.response_bytes.get_or_create(&labels).observe(bytes as f64);
    }

    /// Shows whether the server is ready.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}
