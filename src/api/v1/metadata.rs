//! What targets say about their metrics: `metadata` and `targets/metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use super::super::error::ApiError;
use super::super::params::Params;
use super::super::response::{ApiResult, LabelMap, Success};
use super::super::state::ApiState;
use crate::model::metadata::Metadata;
use crate::parser;

#[derive(Serialize)]
struct MetadataBody<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    help: &'a str,
    unit: &'a str,
}

impl<'a> From<&'a Metadata> for MetadataBody<'a> {
    fn from(metadata: &'a Metadata) -> Self {
        Self { kind: metadata.kind.as_str(), help: &metadata.help, unit: &metadata.unit }
    }
}

/// Distinct metadata by metric.
pub(super) async fn metrics(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let limit = params.loose_limit("limit")?;
    let limit_per_metric = params.loose_limit("limit_per_metric")?.filter(|limit| *limit > 0);
    let wanted = params.get("metric");
    let known = state.scrape.metadata();
    let mut by_metric: BTreeMap<&str, BTreeSet<&Metadata>> = BTreeMap::new();
    for entry in known.iter().filter(|e| wanted.is_empty() || e.family == wanted) {
        by_metric.entry(&entry.family).or_default().insert(&entry.metadata);
    }
    let body: BTreeMap<&str, Vec<MetadataBody<'_>>> = by_metric
        .into_iter()
        .take(limit.unwrap_or(usize::MAX))
        .map(|(family, entries)| {
            let entries = entries.into_iter().take(limit_per_metric.unwrap_or(usize::MAX));
            (family, entries.map(MetadataBody::from).collect())
        })
        .collect();
    Ok(Success::new(&body))
}

#[derive(Serialize)]
struct TargetMetadataBody<'a> {
    target: LabelMap<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<&'a str>,
    #[serde(flatten)]
    metadata: MetadataBody<'a>,
}

/// Metadata of each target.
pub(super) async fn targets(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let limit = params.loose_limit("limit")?;
    let wanted = params.get("metric");
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => parser::parse_metric_selector(text)
            .map_err(|e| ApiError::invalid_parameter("match_target", e))?,
    };
    let known = state.scrape.metadata();
    let body: Vec<TargetMetadataBody<'_>> = known
        .iter()
        .filter(|e| wanted.is_empty() || e.family == wanted)
        .filter(|e| matchers.iter().all(|m| m.matches_labels(&e.target)))
        .take(limit.unwrap_or(usize::MAX))
        .map(|entry| TargetMetadataBody {
            target: LabelMap(&entry.target),
            metric: wanted.is_empty().then_some(entry.family.as_str()),
            metadata: MetadataBody::from(&entry.metadata),
        })
        .collect();
    Ok(Success::new(&body))
}
