//! Whether the configuration that runs is the one on disk.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::gauge::Gauge;

use super::Registry;
use crate::model::TimestampMs;

/// `prometheus_config_last_reload_*`. Clones share state.
#[derive(Clone, Debug, Default)]
pub struct ReloadMetrics {
    successful: Gauge<i64, AtomicI64>,
    success_timestamp_seconds: Gauge<f64, AtomicU64>,
}

impl ReloadMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "prometheus_config_last_reload_successful",
            "Whether the last configuration reload attempt was successful",
            metrics.successful.clone(),
        );
        registry.register(
            "prometheus_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful configuration reload",
            metrics.success_timestamp_seconds.clone(),
        );
        metrics
    }

    /// Notes that a configuration took effect at this time.
    pub fn succeeded(&self, now_ms: TimestampMs) {
        self.successful.set(1);
        self.success_timestamp_seconds.set(now_ms as f64 / 1000.0);
    }

    /// Notes that a configuration was refused; the time of the last success stays.
    pub fn failed(&self) {
        self.successful.set(0);
    }

    /// Whether the last attempt took effect.
    pub fn is_successful(&self) -> bool {
        self.successful.get() == 1
    }

    /// Time of the last success; 0 before the first.
    pub fn last_success_ms(&self) -> TimestampMs {
        (self.success_timestamp_seconds.get() * 1000.0).round() as TimestampMs
    }
}
