//! `rules/top`: the rules that cost most, and the groups that have least time left. Not in
//! Prometheus.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use super::super::error::ApiError;
use super::super::go_time::GoTime;
use super::super::params::Params;
use super::super::response::{ApiResult, LabelMap, Success};
use super::super::state::ApiState;
use super::rules::Budget;
use crate::model::labels::quote;
use crate::rules::view::{CostSummary, GroupCostView, RuleCostView};

/// Entries of each list unless `limit` says otherwise.
const LIMIT_DEFAULT: usize = 10;

/// Most entries of each list.
const LIMIT_MAX: usize = 10_000;

#[derive(Serialize)]
struct Top<'a> {
    by: &'static str,
    rules: Vec<Rule<'a>>,
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    file: &'a str,
    group: &'a str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    labels: LabelMap<'a>,
    query: &'a str,
    interval: f64,
    evaluations: u64,
    last_evaluation: GoTime,
    /// Average duration as a share of the interval.
    interval_share: f64,
    /// Of what all rules cost together, in the measure asked for.
    share: f64,
    duration: Summary,
    samples: Summary,
    series: Summary,
    bytes: Summary,
}

#[derive(Serialize)]
struct Summary {
    last: f64,
    avg: f64,
    p99: f64,
    max: f64,
    total: f64,
}

impl From<CostSummary> for Summary {
    fn from(CostSummary { last, avg, p99, max, total }: CostSummary) -> Self {
        Self { last, avg, p99, max, total }
    }
}

#[derive(Serialize)]
struct Group<'a> {
    file: &'a str,
    name: &'a str,
    interval: f64,
    rules: usize,
    #[serde(flatten)]
    budget: Budget,
}

/// What rules are compared by.
#[derive(Clone, Copy)]
enum Measure {
    Duration,
    Samples,
    Series,
    Bytes,
}

impl Measure {
    fn new(params: &Params) -> Result<Self, ApiError> {
        match params.get("by") {
            "" | "duration" => Ok(Self::Duration),
            "samples" => Ok(Self::Samples),
            "series" => Ok(Self::Series),
            "bytes" => Ok(Self::Bytes),
            other => {
                let why = format!(
                    "not supported value {}, want duration, samples, series or bytes",
                    quote(other)
                );
                Err(ApiError::invalid_parameter("by", why))
            }
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Samples => "samples",
            Self::Series => "series",
            Self::Bytes => "bytes",
        }
    }

    /// What a rule costs per second of time that passes: a rule that is evaluated twice as
    /// often costs twice as much.
    fn rate(self, group: &GroupCostView, rule: &RuleCostView) -> f64 {
        let summary = match self {
            Self::Duration => rule.seconds,
            Self::Samples => rule.samples,
            Self::Series => rule.series,
            Self::Bytes => rule.bytes,
        };
        summary.avg / seconds(group)
    }
}

fn seconds(group: &GroupCostView) -> f64 {
    group.interval_ms.max(1) as f64 / 1000.0
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    let text = params.get("limit");
    if text.is_empty() {
        return Ok(LIMIT_DEFAULT);
    }
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| {
        let why = format!("{} is no whole number from 1 to {LIMIT_MAX}", quote(text));
        ApiError::invalid_parameter("limit", why)
    })
}

/// The rules that cost most per unit of time, and the groups that use most of theirs.
pub(super) async fn top(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let measure = Measure::new(&params)?;
    let limit = limit(&params)?;
    let costs = state.rules.costs();
    let mut ranked: Vec<(f64, &GroupCostView, &RuleCostView)> = costs
        .iter()
        .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
        .filter(|(_, rule)| rule.evaluations > 0)
        .map(|(group, rule)| (measure.rate(group, rule), group, rule))
        .collect();
    let all: f64 = ranked.iter().map(|(rate, ..)| rate).sum();
    ranked.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    ranked.truncate(limit);
    let mut groups: Vec<Group<'_>> = costs
        .iter()
        .filter_map(|group| {
            Some(Group {
                file: &group.file,
                name: &group.name,
                interval: seconds(group),
                rules: group.rules.len(),
                budget: group.pace?.into(),
            })
        })
        .collect();
    groups.sort_by(|a, b| b.budget.used.total_cmp(&a.budget.used));
    groups.truncate(limit);
    let rules = ranked.into_iter().map(|(rate, group, rule)| entry(group, rule, rate, all));
    Ok(Success::new(&Top { by: measure.as_str(), rules: rules.collect(), groups }))
}

fn entry<'a>(group: &'a GroupCostView, rule: &'a RuleCostView, rate: f64, all: f64) -> Rule<'a> {
    Rule {
        file: &group.file,
        group: &group.name,
        name: &rule.name,
        kind: if rule.is_alert { "alerting" } else { "recording" },
        labels: LabelMap(&rule.labels),
        query: &rule.query,
        interval: seconds(group),
        evaluations: rule.evaluations,
        last_evaluation: GoTime(rule.last_evaluation_ms),
        interval_share: rule.seconds.avg / seconds(group),
        share: if all > 0.0 { rate / all } else { 0.0 },
        duration: rule.seconds.into(),
        samples: rule.samples.into(),
        series: rule.series.into(),
        bytes: rule.bytes.into(),
    }
}
