//! What the process says about itself through the API.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::late::LateStorage;
use crate::api::{RuntimeInfo, StatusView, StoreAdmin, TsdbHead, TsdbStat, TsdbStatus, WalReplay};
use crate::config::Config;
use crate::model::duration::format_duration;
use crate::model::{Labels, Matcher, TimestampMs};
use crate::scrape::ScrapeConfig;
use crate::storage::StorageError;
use crate::storage::tsdb::{ReplayProgress, Tsdb, TsdbMetrics};
use crate::telemetry::ReloadMetrics;

/// Facts for `/api/v1/status/*`.
pub(super) struct Status {
    pub config: Arc<ArcSwap<Config>>,
    pub storage: Arc<LateStorage>,
    pub reloads: ReloadMetrics,
    pub started_ms: TimestampMs,
    pub tsdb_metrics: TsdbMetrics,
    pub replay_progress: ReplayProgress,
    pub retention_ms: i64,
    /// 0 for no limit.
    pub retention_bytes: u64,
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
            corruption_count: self.tsdb_metrics.wal_corruption_count(),
            storage_retention: match self.retention_bytes {
                0 => format_duration(self.retention_ms),
                bytes => {
                    format!("{} or {}", format_duration(self.retention_ms), binary_bytes(bytes))
                }
            },
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

    fn scrape_config(&self, pool: &str) -> Option<ScrapeConfig> {
        let config = self.config.load();
        config.all_scrape_configs().find(|scrape| scrape.job_name == pool).cloned()
    }

    fn tsdb_blocks(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.storage.get()?.block_metas()).ok()
    }

    fn admin(&self) -> Option<Arc<dyn StoreAdmin>> {
        let store: Arc<dyn StoreAdmin> = Arc::new(Admin(Arc::clone(self.storage.own()?)));
        Some(store)
    }

    fn wal_replay(&self) -> WalReplay {
        let (min, max, current) = self.replay_progress.get();
        WalReplay { min, max, current }
    }
}

/// The embedded store as administrators see it.
struct Admin(Arc<Tsdb>);

impl StoreAdmin for Admin {
    fn delete_series(
        &self,
        matcher_sets: &[Vec<Matcher>],
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> Result<(), StorageError> {
        self.0.delete_series(matcher_sets, from_ms, to_ms)
    }

    fn clean_tombstones(&self) -> Result<(), StorageError> {
        self.0.clean_tombstones()
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, StorageError> {
        self.0.snapshot(skip_head)
    }
}

/// `10GiB`, `1KiB512B`: each unit that is not zero, as Prometheus writes bytes.
pub(crate) fn binary_bytes(bytes: u64) -> String {
    let units = ["EiB", "PiB", "TiB", "GiB", "MiB", "KiB", "B"];
    let mut text = String::new();
    for (i, unit) in units.iter().enumerate() {
        let shift = 10 * (units.len() - 1 - i);
        let count = bytes >> shift & if i == 0 { u64::MAX } else { 1023 };
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0B".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_unit_by_unit() {
        for (bytes, expected) in
            [(0, "0B"), (13_301, "12KiB1013B"), (10 << 30, "10GiB"), (1 << 60, "1EiB")]
        {
            assert_eq!(binary_bytes(bytes), expected);
        }
    }
}
