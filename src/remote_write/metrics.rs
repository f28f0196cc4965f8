//! Counters of the remote-write receiver, under Prometheus' names.

use prometheus_client::metrics::counter::Counter;

use crate::telemetry::Registry;

/// The receiver's metrics.
#[derive(Clone, Debug)]
pub struct RemoteWriteMetrics {
    pub(crate) invalid_labels_samples: Counter,
}

impl Default for RemoteWriteMetrics {
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl RemoteWriteMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let invalid_labels_samples = Counter::default();
        registry.register(
            "prometheus_api_remote_write_invalid_labels_samples",
            "The total number of received remote write samples and histogram samples which were \
             rejected due to invalid labels.",
            invalid_labels_samples.clone(),
        );
        Self { invalid_labels_samples }
    }
}
