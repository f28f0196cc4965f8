//! What the state log counts, `watchfire_alert_state_*`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Registry;

/// The metrics of the state log. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct StateMetrics {
    pub(super) failing: Gauge,
    pub(super) write_failures: Counter,
    pub(super) changes: Counter,
    pub(super) written_bytes: Counter,
    pub(super) syncs: Counter,
    pub(super) files: Gauge,
    pub(super) size_bytes: Gauge,
    pub(super) damage: Counter,
    pub(super) restored_alerts: Gauge,
}

impl StateMetrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let counters = [
            (
                "watchfire_alert_state_write_failures",
                "Changes of alerts that could not be written to the state log; they are written again later",
                &metrics.write_failures,
            ),
            (
                "watchfire_alert_state_changes",
                "Changes written to the state log, one for each rule evaluation that changed something",
                &metrics.changes,
            ),
            (
                "watchfire_alert_state_written_bytes",
                "Bytes written to the state log",
                &metrics.written_bytes,
            ),
            (
                "watchfire_alert_state_syncs",
                "Times the disk was asked to keep the state log",
                &metrics.syncs,
            ),
            (
                "watchfire_alert_state_damage",
                "Damaged places and unreadable files found in the state log at start",
                &metrics.damage,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let gauges = [
            (
                "watchfire_alert_state_failing",
                "1 while the state log cannot be written: alerts go on, but would not survive a restart",
                &metrics.failing,
            ),
            ("watchfire_alert_state_files", "Files of the state log", &metrics.files),
            (
                "watchfire_alert_state_size_bytes",
                "Size of all files of the state log",
                &metrics.size_bytes,
            ),
            (
                "watchfire_alert_state_restored_alerts",
                "Alerts read from the state log at start",
                &metrics.restored_alerts,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        metrics
    }
}
