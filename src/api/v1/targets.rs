//! What is scraped and who is paged: `targets`, `scrape_pools`, `alertmanagers`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use super::super::go_time::GoTime;
use super::super::params::Params;
use super::super::response::{ApiResult, LabelMap, Success};
use super::super::state::ApiState;
use crate::model::duration::format_duration;
use crate::scrape::view::{DroppedTargetView, TargetView};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Discovery<'a> {
    active_targets: Vec<ActiveTarget<'a>>,
    dropped_targets: Vec<DroppedTarget<'a>>,
    /// `null` when dropped targets were not asked for.
    dropped_target_counts: Option<BTreeMap<String, usize>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget<'a> {
    discovered_labels: LabelMap<'a>,
    labels: LabelMap<'a>,
    scrape_pool: &'a str,
    scrape_url: &'a str,
    global_url: &'a str,
    last_error: &'a str,
    last_scrape: GoTime,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    scrape_timeout: String,
}

impl<'a> From<&'a TargetView> for ActiveTarget<'a> {
    fn from(target: &'a TargetView) -> Self {
        Self {
            discovered_labels: LabelMap(&target.discovered_labels),
            labels: LabelMap(&target.labels),
            scrape_pool: &target.scrape_pool,
            scrape_url: &target.scrape_url,
            global_url: &target.global_url,
            last_error: &target.last_error,
            last_scrape: GoTime(target.last_scrape_ms),
            last_scrape_duration: target.last_scrape_duration_seconds,
            health: target.health.as_str(),
            scrape_interval: format_duration(target.scrape_interval_ms),
            scrape_timeout: format_duration(target.scrape_timeout_ms),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DroppedTarget<'a> {
    discovered_labels: LabelMap<'a>,
    scrape_pool: &'a str,
}

impl<'a> From<&'a DroppedTargetView> for DroppedTarget<'a> {
    fn from(target: &'a DroppedTargetView) -> Self {
        Self {
            discovered_labels: LabelMap(&target.discovered_labels),
            scrape_pool: &target.scrape_pool,
        }
    }
}

/// Active and dropped targets.
pub(super) async fn targets(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let wanted = params.get("state").to_lowercase();
    let shows = |kind: &str| wanted.is_empty() || wanted == "any" || wanted == kind;
    let pool = params.get("scrapePool");
    let in_pool = |name: &str| pool.is_empty() || pool == name;
    let active = if shows("active") { state.scrape.active_targets() } else { Vec::new() };
    let dropped = if shows("dropped") { state.scrape.dropped_targets() } else { Vec::new() };
    let counts = shows("dropped").then(|| state.scrape.dropped_target_counts());
    let body = Discovery {
        active_targets: active.iter().filter(|t| in_pool(&t.scrape_pool)).map(Into::into).collect(),
        dropped_targets: dropped
            .iter()
            .filter(|t| in_pool(&t.scrape_pool))
            .map(Into::into)
            .collect(),
        dropped_target_counts: counts.map(|counts| counts.into_iter().collect()),
    };
    Ok(Success::new(&body))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScrapePools {
    scrape_pools: BTreeSet<String>,
}

/// Names of the scrape pools.
pub(super) async fn scrape_pools(State(state): State<Arc<ApiState>>) -> ApiResult {
    let mut scrape_pools: BTreeSet<String> =
        state.scrape.active_targets().into_iter().map(|target| target.scrape_pool).collect();
    scrape_pools.extend(state.scrape.dropped_target_counts().into_iter().map(|(pool, _)| pool));
    Ok(Success::new(&ScrapePools { scrape_pools }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alertmanagers {
    active_alertmanagers: Vec<Alertmanager>,
    dropped_alertmanagers: Vec<Alertmanager>,
}

#[derive(Serialize)]
struct Alertmanager {
    url: String,
}

/// Alertmanagers that get alerts, and those relabelling dropped.
pub(super) async fn alertmanagers(State(state): State<Arc<ApiState>>) -> ApiResult {
    let list = |urls: Vec<String>| urls.into_iter().map(|url| Alertmanager { url }).collect();
    Ok(Success::new(&Alertmanagers {
        active_alertmanagers: list(state.notifier.active_alertmanagers()),
        dropped_alertmanagers: list(state.notifier.dropped_alertmanagers()),
    }))
}
