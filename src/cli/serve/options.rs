//! What the flags of `watchfire serve` say, as the options of its parts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{ExternalUrl, web_config};
use crate::api::ApiOptions;
use crate::cli::features::FeatureFlags;
use crate::cli::flags::ServeFlags;
use crate::model::Clock;
use crate::model::regex::AnchoredRegex;
use crate::query::EngineOptions;
use crate::remote_read::ReadLimits;
use crate::remote_write::Version;
use crate::remote_write::send::SenderOptions;
use crate::rules::config::LoadOptions;
use crate::rules::{EvaluationOptions, RulePolicyDefaults};
use crate::storage::tsdb::{Threads, TsdbMetrics, TsdbOptions, WalCompression};

pub(super) fn sender_options(flags: &ServeFlags, clock: &Arc<dyn Clock>) -> SenderOptions {
    SenderOptions {
        dir: flags.storage_path.join("remote_write"),
        queue_bytes_max: flags.remote_queue_bytes_max.max(1 << 16),
        flush_deadline: flags.remote_flush_deadline,
        user_agent: concat!("Watchfire/", env!("CARGO_PKG_VERSION")).to_owned(),
        clock: clock.clone(),
    }
}

/// Where alerts are remembered.
pub(super) fn state_dir(flags: &ServeFlags) -> Option<PathBuf> {
    match &flags.state_dir {
        None => Some(flags.storage_path.join("alert_state")),
        Some(dir) => Some(PathBuf::from(dir)).filter(|_| !dir.is_empty()),
    }
}

pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn load_options(features: &FeatureFlags) -> LoadOptions {
    LoadOptions { parser: features.parser(), dialects: true, ..LoadOptions::default() }
}

pub(super) fn rule_policy(flags: &ServeFlags) -> RulePolicyDefaults {
    RulePolicyDefaults {
        on_no_data: flags.on_no_data,
        on_error: flags.on_error,
        missing_evals_to_resolve: flags.missing_evals_to_resolve,
        on_limit: flags.on_limit,
        catch_up_ms: ms(flags.catch_up),
        group_budget: flags.group_budget,
        max_active_alerts: flags.max_active_alerts,
        active_alerts_bytes: flags.active_alerts_memory,
        annotate_resolved: flags.annotate_resolved,
    }
}

pub(super) fn evaluation_options(flags: &ServeFlags, features: &FeatureFlags) -> EvaluationOptions {
    let options = EvaluationOptions {
        shared: flags.shared_evaluation,
        align_groups: flags.align_groups,
        concurrent: None,
    };
    if features.concurrent_rule_eval() {
        options.with_concurrent_evals(flags.max_concurrent_evals)
    } else {
        options
    }
}

pub(super) fn engine_options(flags: &ServeFlags, features: &FeatureFlags) -> EngineOptions {
    EngineOptions {
        lookback_ms: ms(flags.lookback_delta),
        timeout: flags.query_timeout,
        max_samples: flags.query_max_samples,
        max_memory_bytes: flags.query_max_memory_bytes,
        max_concurrency: flags.query_max_concurrency,
        ..features.engine()
    }
}

/// The run time's threads for work that blocks.
#[derive(Debug)]
struct BlockingThreads;

impl Threads for BlockingThreads {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = tokio::task::spawn_blocking(work);
        // What it did not do, because it panicked or all is ending, whoever waits finds out.
        Box::pin(async move { drop(task.await) })
    }
}

pub(super) fn tsdb_options(flags: &ServeFlags, metrics: TsdbMetrics) -> TsdbOptions {
    let wal_compression = match flags.wal_compression_type.as_str() {
        _ if !flags.wal_compression => WalCompression::None,
        "zstd" => WalCompression::Zstd,
        _ => WalCompression::Snappy,
    };
    TsdbOptions {
        retention_ms: ms(flags.retention_time),
        retention_bytes: flags.retention_size,
        chunk_range_ms: ms(flags.min_block_duration),
        block_range_max_ms: flags.max_block_duration.map_or(0, ms),
        wal_segment_bytes: flags.wal_segment_size,
        wal_compression,
        metrics,
        threads: Some(Arc::new(BlockingThreads)),
        ..TsdbOptions::default()
    }
}

pub(super) fn read_limits(flags: &ServeFlags) -> ReadLimits {
    ReadLimits {
        samples: flags.remote_read_sample_limit,
        concurrent: flags.remote_read_concurrent_limit,
        frame_bytes: flags.remote_read_max_bytes_in_frame,
    }
}

pub(super) fn api_options(
    flags: &ServeFlags,
    features: &FeatureFlags,
    effective: BTreeMap<String, String>,
    url: ExternalUrl,
) -> Result<ApiOptions, String> {
    let cors_origin = AnchoredRegex::new(&flags.cors_origin)
        .map_err(|e| format!("--web.cors.origin={}: {e}", flags.cors_origin))?;
    let access = flags.web_config_file.as_deref().map(web_config::source).transpose()?;
    Ok(ApiOptions {
        access,
        features: features.enabled(flags.auto_reload),
        external_url: Some(url.url),
        route_prefix: url.route_prefix,
        enable_lifecycle: flags.enable_lifecycle,
        enable_admin_api: flags.enable_admin_api,
        enable_remote_write_receiver: flags.enable_remote_write_receiver,
        remote_write_messages: [Version::V1, Version::V2]
            .into_iter()
            .filter(|version| flags.remote_write_messages.iter().any(|m| m == version.message()))
            .collect(),
        cors_origin: Some(cors_origin),
        page_title: flags.page_title.clone(),
        read_timeout: flags.read_timeout,
        max_connections: flags.max_connections,
        flags: effective.into_iter().collect(),
    })
}
