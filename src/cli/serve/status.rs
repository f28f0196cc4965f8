//! What the process says about itself through the API.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::late::LateStorage;
use crate::api::{RuntimeInfo, StatusView, TsdbHead, TsdbStat, TsdbStatus, WalReplay};
use crate::config::Config;
use crate::model::duration::format_duration;
use crate::model::{Labels, TimestampMs};
use crate::telemetry::ReloadMetrics;

/// Facts for `/api/v1/status/*`.
pub(super) struct Status {
    pub config: Arc<ArcSwap<Config>>,
    pub storage: Arc<LateStorage>,
    pub reloads: ReloadMetrics,
    pub started_ms: TimestampMs,
    pub retention_ms: i64,
}

impl StatusView for Status {
    fn config_yaml(&self) -> String {
        self.config.load().to_yaml()
    }

    fn external_labels(&self) -> Labels {
        self.config.load().global.external_labels.clone()
    }

    fn runtime(&self) -> RuntimeInfo {
        let directory = std::env::current_dir().unwrap_or_default();
        let last = self.reloads.last_success_ms();
        RuntimeInfo {
            start_time_ms: self.started_ms,
            working_directory: directory.display().to_string(),
            hostname: super::hostname(),
            reload_successful: self.reloads.is_successful(),
            last_config_ms: (last != 0).then_some(last),
            corruption_count: 0,
            storage_retention: format_duration(self.retention_ms),
        }
    }

    fn tsdb(&self, limit: usize) -> Option<TsdbStatus> {
        let stats = self.storage.get()?.stats(limit);
        let rows = |list: Vec<(String, u64)>| {
            list.into_iter().map(|(name, value)| TsdbStat { name, value }).collect()
        };
        Some(TsdbStatus {
            head: TsdbHead {
                series: stats.series as u64,
                label_pairs: stats.postings.label_pairs as u64,
                chunks: stats.chunks as u64,
                min_time_ms: stats.min_time_ms,
                max_time_ms: stats.max_time_ms,
            },
            series_count_by_metric_name: rows(stats.postings.series_by_metric),
            label_value_count_by_label_name: rows(stats.postings.values_by_label),
            memory_in_bytes_by_label_name: rows(stats.postings.bytes_by_label),
            series_count_by_label_value_pair: rows(stats.postings.series_by_pair),
        })
    }

    fn wal_replay(&self) -> WalReplay {
        WalReplay::default()
    }
}
