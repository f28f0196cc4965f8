//! `status/*`: configuration, flags, build, runtime, storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use super::super::error::{ApiError, ErrorKind};
use super::super::go_time::GoTime;
use super::super::params::Params;
use super::super::response::{ApiResult, Success};
use super::super::state::{ApiState, TsdbStat};
use crate::telemetry::build::{BUILD_INFO, PROMETHEUS_VERSION};

#[derive(Serialize)]
struct Config {
    yaml: String,
}

/// The configuration that runs.
pub(super) async fn config(State(state): State<Arc<ApiState>>) -> ApiResult {
    Ok(Success::new(&Config { yaml: state.status.config_yaml() }))
}

/// Every flag and its value.
pub(super) async fn flags(State(state): State<Arc<ApiState>>) -> ApiResult {
    let flags: BTreeMap<_, _> = state.options.flags.iter().map(|(n, v)| (n, v)).collect();
    Ok(Success::new(&flags))
}

/// `version` is that of the Prometheus whose API this is, because clients decide by it
/// what they may ask; the program's own name and version stand beside it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct BuildBody {
    version: &'static str,
    revision: &'static str,
    branch: &'static str,
    build_user: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    application: &'static str,
    application_version: &'static str,
}

impl BuildBody {
    /// The build that runs.
    pub(in super::super) fn current() -> Self {
        Self {
            version: PROMETHEUS_VERSION,
            revision: BUILD_INFO.revision,
            branch: BUILD_INFO.branch,
            build_user: BUILD_INFO.build_user,
            build_date: BUILD_INFO.build_date,
            go_version: BUILD_INFO.toolchain,
            application: "Watchfire",
            application_version: BUILD_INFO.version,
        }
    }
}

/// The build that runs.
pub(super) async fn build_info() -> ApiResult {
    Ok(Success::new(&BuildBody::current()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Runtime {
    start_time: GoTime,
    #[serde(rename = "CWD")]
    working_directory: String,
    hostname: String,
    server_time: GoTime,
    reload_config_success: bool,
    last_config_time: GoTime,
    corruption_count: u64,
    /// Tasks of the async runtime stand in the place of goroutines.
    goroutine_count: usize,
    #[serde(rename = "GOMAXPROCS")]
    threads: usize,
    #[serde(rename = "GOMEMLIMIT")]
    memory_limit: i64,
    #[serde(rename = "GOGC")]
    gogc: &'static str,
    #[serde(rename = "GODEBUG")]
    godebug: &'static str,
    storage_retention: String,
}

/// Facts about the process. Fields that only a Go program has are empty.
pub(super) async fn runtime_info(State(state): State<Arc<ApiState>>) -> ApiResult {
    let info = state.status.runtime();
    Ok(Success::new(&Runtime {
        start_time: GoTime(Some(info.start_time_ms)),
        working_directory: info.working_directory,
        hostname: info.hostname,
        server_time: GoTime(Some(state.clock.now_ms())),
        reload_config_success: info.reload_successful,
        last_config_time: GoTime(info.last_config_ms),
        corruption_count: info.corruption_count,
        goroutine_count: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        memory_limit: i64::MAX,
        gogc: "",
        godebug: "",
        storage_retention: info.storage_retention,
    }))
}

/// Rows of a table of `status/tsdb` when `limit` does not say.
const TSDB_ROWS: usize = 10;
/// Most rows of such a table.
const TSDB_ROWS_MAX: usize = 10_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tsdb<'a> {
    head_stats: HeadStats,
    series_count_by_metric_name: Vec<Stat<'a>>,
    label_value_count_by_label_name: Vec<Stat<'a>>,
    memory_in_bytes_by_label_name: Vec<Stat<'a>>,
    series_count_by_label_value_pair: Vec<Stat<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadStats {
    num_series: u64,
    num_label_pairs: u64,
    chunk_count: u64,
    min_time: i64,
    max_time: i64,
}

#[derive(Serialize)]
struct Stat<'a> {
    name: &'a str,
    value: u64,
}

/// Statistics of the embedded store.
pub(super) async fn tsdb(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let limit = match params.get("limit") {
        "" => TSDB_ROWS,
        text => match text.parse::<usize>() {
            Ok(limit) if limit > TSDB_ROWS_MAX => {
                let why = format!("limit must not exceed {TSDB_ROWS_MAX}");
                return Err(ApiError::bad_data(why));
            }
            Ok(limit) if limit > 0 => limit,
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    let Some(status) = state.status.tsdb(limit) else {
        let why = "this server has no embedded store (TSDB)";
        return Err(ApiError::new(ErrorKind::Unavailable, why));
    };
    let rows = |stats: &'_ [TsdbStat]| -> Vec<(String, u64)> {
        stats.iter().take(limit).map(|stat| (stat.name.clone(), stat.value)).collect()
    };
    let tables = [
        rows(&status.series_count_by_metric_name),
        rows(&status.label_value_count_by_label_name),
        rows(&status.memory_in_bytes_by_label_name),
        rows(&status.series_count_by_label_value_pair),
    ];
    let [by_metric, by_label, memory, by_pair] = &tables;
    let head = status.head;
    Ok(Success::new(&Tsdb {
        head_stats: HeadStats {
            num_series: head.series,
            num_label_pairs: head.label_pairs,
            chunk_count: head.chunks,
            min_time: head.min_time_ms,
            max_time: head.max_time_ms,
        },
        series_count_by_metric_name: table(by_metric),
        label_value_count_by_label_name: table(by_label),
        memory_in_bytes_by_label_name: table(memory),
        series_count_by_label_value_pair: table(by_pair),
    }))
}

#[derive(Serialize)]
struct Blocks {
    blocks: serde_json::Value,
}

/// Blocks of the embedded store.
pub(super) async fn tsdb_blocks(State(state): State<Arc<ApiState>>) -> ApiResult {
    match state.status.tsdb_blocks() {
        Some(blocks) => Ok(Success::new(&Blocks { blocks })),
        None => {
            let why = "this server has no embedded store (TSDB)";
            Err(ApiError::new(ErrorKind::Unavailable, why))
        }
    }
}

fn table(rows: &[(String, u64)]) -> Vec<Stat<'_>> {
    rows.iter().map(|(name, value)| Stat { name, value: *value }).collect()
}

#[derive(Serialize)]
struct Replay {
    min: i64,
    max: i64,
    current: i64,
}

/// Progress of the start.
pub(super) async fn wal_replay(State(state): State<Arc<ApiState>>) -> ApiResult {
    let replay = state.status.wal_replay();
    Ok(Success::new(&Replay { min: replay.min, max: replay.max, current: replay.current }))
}
