//! `features`: what this server can do, in Prometheus' groups and names. What only
//! Prometheus has is there as well, and off.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;

use super::super::response::{ApiResult, Success};
use super::super::state::ApiState;
use crate::functions::Stability;
use crate::rules::template;
use crate::{aggregations, functions};

type Group = BTreeMap<&'static str, bool>;

/// Every feature, and whether it is on.
pub(super) async fn features(State(state): State<Arc<ApiState>>) -> ApiResult {
    Ok(Success::new(&table(&state)))
}

fn table(state: &ApiState) -> BTreeMap<&'static str, Group> {
    let options = &state.options;
    let engine = state.engine.options();
    let has = |name: &str| options.features.iter().any(|feature| feature == name);
    let parser = engine.parser;
    let on = |names: &[&'static str]| names.iter().map(|name| (*name, true)).collect::<Group>();
    let is_there = |stability| stability == Stability::Stable || parser.experimental_functions;
    let mut operators = on(&[
        "!=", "!~", "%", "*", "+", "-", "/", "<", "<=", "==", "=~", ">", ">=", "@", "^", "and",
        "atan2", "or", "unless",
    ]);
    operators.extend(aggregations::all().map(|spec| (spec.name, is_there(spec.stability))));
    let functions = functions::all().map(|spec| (spec.name, is_there(spec.stability)));
    let mut promql = on(&[
        "at_modifier",
        "bool",
        "by",
        "duration_expr",
        "group_left",
        "group_right",
        "ignoring",
        "negative_offset",
        "offset",
        "on",
        "per_query_lookback_delta",
        "subqueries",
        "without",
    ]);
    for name in ["fill", "fill_left", "fill_right"] {
        promql.insert(name, parser.binop_fill_modifiers);
    }
    for name in ["anchored", "smoothed"] {
        promql.insert(name, parser.extended_range_selectors);
    }
    promql.extend([
        ("delayed_name_removal", engine.delayed_name_removal),
        ("per_step_stats", engine.per_step_stats),
        ("type_and_unit_labels", engine.type_and_unit_labels),
    ]);
    let mut api = on(&[
        "exclude_alerts",
        "label_values_match",
        "query_stats",
        "query_warnings",
        "time_range_labels",
        "time_range_series",
    ]);
    api.extend([
        ("admin", options.enable_admin_api),
        ("lifecycle", options.enable_lifecycle),
        ("openapi_3.1", false),
        ("openapi_3.2", false),
        ("otlp_write_receiver", false),
        ("remote_write_receiver", options.enable_remote_write_receiver),
    ]);
    BTreeMap::from([
        ("api", api),
        (
            "otlp_receiver",
            Group::from([("delta_conversion", false), ("native_delta_ingestion", false)]),
        ),
        (
            "prometheus",
            Group::from([
                ("agent_mode", false),
                ("auto_reload_config", has("auto-reload-config")),
                ("server_mode", true),
                ("stringlabels", false),
            ]),
        ),
        ("promql", promql),
        ("promql_functions", functions.collect()),
        ("promql_operators", operators),
        (
            "rules",
            Group::from([
                ("concurrent_rule_eval", has("concurrent-rule-eval")),
                ("keep_firing_for", true),
                ("query_offset", true),
            ]),
        ),
        (
            "scrape",
            Group::from([
                ("extra_scrape_metrics", true),
                ("start_timestamp_zero_ingestion", false),
                ("type_and_unit_labels", engine.type_and_unit_labels),
            ]),
        ),
        ("service_discovery_providers", on(&["dns", "file", "http", "static"])),
        ("templating_functions", template::prometheus_names().map(|name| (name, true)).collect()),
        (
            "tsdb",
            Group::from([
                ("delayed_compaction", false),
                ("exemplar_storage", has("exemplar-storage")),
                ("isolation", true),
                ("native_histograms", true),
                ("use_uncached_io", false),
            ]),
        ),
        ("ui", Group::from([("ui_v2", false), ("ui_v3", false)])),
    ])
}
