//! What the answering end of remote read counts, under Prometheus' name.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Registry;

/// The metrics. Clones share them; the default is seen by nobody.
#[derive(Clone, Debug, Default)]
pub struct RemoteReadMetrics {
    queries: Gauge<i64, AtomicI64>,
}

/// Counts a request for as long as it lives.
#[derive(Debug)]
pub struct Running(Gauge<i64, AtomicI64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RemoteReadMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "prometheus_api_remote_read_queries",
            "The current number of remote read queries being executed or waiting.",
            metrics.queries.clone(),
        );
        metrics
    }

    /// Counts a request from now on.
    pub fn begin(&self) -> Running {
        self.queries.inc();
        Running(self.queries.clone())
    }
}
