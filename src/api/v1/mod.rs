//! `/api/v1`: one file per endpoint family.

mod admin;
mod ast;
mod exemplars;
mod features;
mod handover;
mod labels;
mod metadata;
mod notifications;
mod query;
mod read;
mod rule_costs;
mod ruler;
mod rules;
mod scrape_config;
mod status;
mod syntax;
mod targets;
mod write;

pub use ast::to_json as tree_json;
pub use read::RemoteRead;
pub(super) use ruler::config_routes;
pub(super) use status::BuildBody;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::state::ApiState;

/// The routes below `/api/v1` that answer only when the server is ready.
pub(super) fn routes() -> Router<Arc<ApiState>> {
    Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/format_query", get(syntax::format_query).post(syntax::format_query))
        .route("/parse_query", get(syntax::parse_query).post(syntax::parse_query))
        .route("/query_exemplars", get(exemplars::exemplars).post(exemplars::exemplars))
        .route("/series", get(labels::series).post(labels::series))
        .route("/labels", get(labels::names).post(labels::names))
        .route("/label/{name}/values", get(labels::values))
        .route("/metadata", get(metadata::metrics))
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(metadata::targets))
        .route("/targets/relabel_steps", get(scrape_config::relabel_steps))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/scrape_pools/config", get(scrape_config::config))
        .route("/features", get(features::features))
        .route("/rules", get(rules::rules))
        .route("/rules/top", get(rule_costs::top))
        .route("/rules/handover", get(handover::handover))
        .route("/alerts", get(rules::alerts))
        .route("/alertmanagers", get(targets::alertmanagers))
        .route("/status/config", get(status::config))
        .route("/status/flags", get(status::flags))
        .route("/status/buildinfo", get(status::build_info))
        .route("/status/runtimeinfo", get(status::runtime_info))
        .route("/status/tsdb", get(status::tsdb))
        .route("/status/tsdb/blocks", get(status::tsdb_blocks))
        .route("/admin/tsdb/delete_series", post(admin::delete_series).put(admin::delete_series))
        .route(
            "/admin/tsdb/clean_tombstones",
            post(admin::clean_tombstones).put(admin::clean_tombstones),
        )
        .route("/admin/tsdb/snapshot", post(admin::snapshot).put(admin::snapshot))
        .route("/read", post(read::read))
        .route("/write", post(write::write))
        .merge(ruler::routes())
}

/// The routes that answer also while the server starts and stops: how far it is, and that
/// it does.
pub(super) fn early_routes() -> Router<Arc<ApiState>> {
    Router::new()
        .route("/status/walreplay", get(status::wal_replay))
        .route("/notifications", get(notifications::list))
        .route("/notifications/live", get(notifications::live))
}
