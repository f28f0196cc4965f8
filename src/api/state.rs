//! What the API is given: ports to the other rooms, and its own settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::access::AccessSource;
use super::metrics::ApiMetrics;
use super::notifications::Notifications;
use super::v1::RemoteRead;
use crate::model::regex::AnchoredRegex;
use crate::model::{Clock, Labels, Matcher, TimestampMs};
use crate::notifier::NotifierView;
use crate::query::Engine;
use crate::remote_write::{self, RemoteWriteMetrics};
use crate::rule_sources::RulerStore;
use crate::rules::view::RulesView;
use crate::scrape::ScrapeConfig;
use crate::scrape::view::ScrapeView;
use crate::storage::{Sink, Source, StorageError};
use crate::telemetry::Registry;

/// Loads the configuration again; the error says why nothing (or only a part) changed.
pub type ReloadHandle = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Everything a request handler can reach. One per process, shared by `Arc`.
pub struct ApiState {
    pub engine: Arc<Engine>,
    pub source: Arc<dyn Source>,
    pub sink: Arc<dyn Sink>,
    pub scrape: Arc<dyn ScrapeView>,
    pub rules: Arc<dyn RulesView>,
    pub notifier: Arc<dyn NotifierView>,
    pub status: Arc<dyn StatusView>,
    pub clock: Arc<dyn Clock>,
    /// What `/metrics` shows; every room has registered in it, [`ApiMetrics`] included.
    pub registry: Arc<Registry>,
    pub metrics: ApiMetrics,
    pub notifications: Notifications,
    pub remote_write: RemoteWriteMetrics,
    pub remote_read: RemoteRead,
    pub readiness: Readiness,
    pub reload: ReloadHandle,
    /// The rules that can be written; `None` without `--web.enable-rules-api`.
    pub ruler: Option<Ruler>,
    /// Cancelled by `/-/quit`; whoever runs the process waits for it.
    pub quit: CancellationToken,
    pub options: ApiOptions,
}

/// Rules that are written through the API.
pub struct Ruler {
    pub store: Arc<RulerStore>,
    /// Loads the rules anew.
    pub apply: ReloadHandle,
}

/// Settings that do not change while the process runs; defaults are Prometheus'.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// `--web.external-url`: where users find this server. Only its path is used here.
    pub external_url: Option<Url>,
    /// `--web.route-prefix`: below which path all routes stand; "/" for none.
    pub route_prefix: String,
    /// `--web.enable-lifecycle`
    pub enable_lifecycle: bool,
    /// `--web.enable-admin-api`
    pub enable_admin_api: bool,
    /// `--web.enable-remote-write-receiver`
    pub enable_remote_write_receiver: bool,
    /// `--web.remote-write-receiver.accepted-protobuf-messages`
    pub remote_write_messages: Vec<remote_write::Version>,
    /// `--web.cors.origin`
    pub cors_origin: Option<AnchoredRegex>,
    /// `--web.page-title`
    pub page_title: String,
    /// `--web.read-timeout`: for reading a request, and for idle connections.
    pub read_timeout: Duration,
    /// `--web.max-connections`
    pub max_connections: usize,
    /// `--web.config.file`; `None` without.
    pub access: Option<AccessSource>,
    /// What `--enable-feature` names, and what a flag of its own turns on.
    pub features: Vec<String>,
    /// Every flag and its value, for `/api/v1/status/flags`.
    pub flags: Vec<(String, String)>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            external_url: None,
            route_prefix: "/".to_owned(),
            enable_lifecycle: false,
            enable_admin_api: false,
            enable_remote_write_receiver: false,
            remote_write_messages: vec![remote_write::Version::V1, remote_write::Version::V2],
            cors_origin: AnchoredRegex::new(".*").ok(),
            page_title: "Watchfire".to_owned(),
            read_timeout: Duration::from_secs(300),
            max_connections: 512,
            access: None,
            features: Vec::new(),
            flags: Vec::new(),
        }
    }
}

/// Where the server stands between start and stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Ready,
    Stopping,
}

/// The current [`Phase`]. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    phase: Arc<AtomicU8>,
}

impl Readiness {
    /// Moves to a phase.
    pub fn set(&self, phase: Phase) {
        let number = match phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Stopping => 2,
        };
        self.phase.store(number, Ordering::Release);
    }

    /// The phase now.
    pub fn get(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Stopping,
        }
    }
}

/// What the process knows about itself and its configuration.
pub trait StatusView: Send + Sync {
    /// The configuration that runs, as YAML with secrets replaced by `<secret>`.
    fn config_yaml(&self) -> String;

    /// `global.external_labels` of the configuration that runs.
    fn external_labels(&self) -> Labels;

    /// Facts of `/api/v1/status/runtimeinfo`.
    fn runtime(&self) -> RuntimeInfo;

    /// Statistics of the embedded store, at most `limit` rows each; `None` without one.
    fn tsdb(&self, limit: usize) -> Option<TsdbStatus> {
        let _ = limit;
        None
    }

    /// The section of a scrape pool, if there is one of that name.
    fn scrape_config(&self, _pool: &str) -> Option<ScrapeConfig> {
        None
    }

    /// Descriptions of the blocks of the embedded store, as their `meta.json` has them; `None`
    /// without one.
    fn tsdb_blocks(&self) -> Option<serde_json::Value> {
        None
    }

    /// The embedded store for administrators; `None` without one, and while it opens.
    fn admin(&self) -> Option<Arc<dyn StoreAdmin>> {
        None
    }

    /// How far replaying the write-ahead log has come.
    fn wal_replay(&self) -> WalReplay {
        WalReplay::default()
    }
}

/// What administrators do to a store. All of it may block for long.
pub trait StoreAdmin: Send + Sync {
    /// Deletes the samples of a closed interval of the series that satisfy all matchers of
    /// any of the sets.
    fn delete_series(
        &self,
        matcher_sets: &[Vec<Matcher>],
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> Result<(), StorageError>;

    /// Removes deleted samples from the disk.
    fn clean_tombstones(&self) -> Result<(), StorageError>;

    /// Copies the store into a new directory below `snapshots`, whose name it returns.
    fn snapshot(&self, skip_head: bool) -> Result<String, StorageError>;
}

/// Runtime facts; what the operating system knows is added by the API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeInfo {
    pub start_time_ms: TimestampMs,
    pub working_directory: String,
    pub hostname: String,
    pub reload_successful: bool,
    /// Time of the last successful load of the configuration.
    pub last_config_ms: Option<TimestampMs>,
    /// Corruptions found in the write-ahead log since start.
    pub corruption_count: u64,
    /// `15d`, `15d or 10GiB`
    pub storage_retention: String,
}

/// Segments of a write-ahead log replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalReplay {
    pub min: i64,
    pub max: i64,
    pub current: i64,
}

/// `/api/v1/status/tsdb`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TsdbStatus {
    pub head: TsdbHead,
    pub series_count_by_metric_name: Vec<TsdbStat>,
    pub label_value_count_by_label_name: Vec<TsdbStat>,
    pub memory_in_bytes_by_label_name: Vec<TsdbStat>,
    pub series_count_by_label_value_pair: Vec<TsdbStat>,
}

/// The head of the embedded store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TsdbHead {
    pub series: u64,
    pub label_pairs: u64,
    pub chunks: u64,
    pub min_time_ms: TimestampMs,
    pub max_time_ms: TimestampMs,
}

/// One row of a table of `/api/v1/status/tsdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsdbStat {
    pub name: String,
    pub value: u64,
}
