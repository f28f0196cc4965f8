//! `rules` with its filters and pages, and `alerts`.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::error::ApiError;
use super::super::go_time::GoTime;
use super::super::params::Params;
use super::super::response::{ApiResult, LabelMap, Success};
use super::super::state::ApiState;
use crate::model::labels::quote;
use crate::model::{Matcher, float};
use crate::rules::view::{AlertView, AlertingView, GroupView, PaceView, QuarantinedView, RuleView};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Discovery<'a> {
    groups: Vec<Group<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_next_token: Option<String>,
    /// What the last load set aside; not in Prometheus.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quarantined: Vec<Quarantined<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Quarantined<'a> {
    file: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    error: &'a str,
    last_good_runs: bool,
}

impl<'a> From<&'a QuarantinedView> for Quarantined<'a> {
    fn from(view: &'a QuarantinedView) -> Self {
        Self {
            file: &view.file,
            kind: view.kind,
            group: view.group.as_deref(),
            rule: view.rule.as_deref(),
            line: view.position.map(|at| at.line),
            column: view.position.map(|at| at.column),
            error: &view.error,
            last_good_runs: view.last_good_runs,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Group<'a> {
    name: &'a str,
    file: &'a str,
    rules: Vec<Rule<'a>>,
    interval: f64,
    limit: usize,
    evaluation_time: f64,
    last_evaluation: GoTime,
    /// Not in Prometheus, as everything below that is absent at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
}

/// How much of its interval a group takes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Budget {
    /// Shares of the interval: what it takes, and may take.
    pub used: f64,
    budget: f64,
    exceeded: bool,
    /// Seconds until it will take longer than its interval; `null` when that is not in sight.
    overrun_forecast: Option<f64>,
}

impl From<PaceView> for Budget {
    fn from(pace: PaceView) -> Self {
        Self {
            used: pace.used,
            budget: pace.budget,
            exceeded: pace.exceeded,
            overrun_forecast: pace.overrun_forecast_seconds,
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule<'a> {
    Alerting(AlertingRule<'a>),
    Recording(RecordingRule<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertingRule<'a> {
    state: &'static str,
    name: &'a str,
    query: &'a str,
    duration: f64,
    keep_firing_for: f64,
    labels: LabelMap<'a>,
    annotations: LabelMap<'a>,
    /// `null` when alerts were excluded.
    alerts: Option<Vec<Alert<'a>>>,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Serialize)]
struct RecordingRule<'a> {
    name: &'a str,
    query: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    labels: LabelMap<'a>,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

fn is_empty(labels: &LabelMap<'_>) -> bool {
    labels.0.is_empty()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    health: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_error: &'a str,
    evaluation_time: f64,
    last_evaluation: GoTime,
    /// What came out; Prometheus has no such field.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_outcome: Option<&'static str>,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Of the last evaluation; not in Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<LastCost>,
    /// Only of rules that are set aside; not in Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined: Option<SetAside>,
}

#[derive(Serialize)]
struct LastCost {
    samples: u64,
    series: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SetAside {
    last_good_runs: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    labels: LabelMap<'a>,
    annotations: LabelMap<'a>,
    state: &'static str,
    active_at: GoTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<GoTime>,
    /// Since when it is active without a sample, and why; Prometheus has no such fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_since: Option<GoTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_reason: Option<&'static str>,
    value: String,
}

impl<'a> From<&'a AlertView> for Alert<'a> {
    fn from(alert: &'a AlertView) -> Self {
        Self {
            labels: LabelMap(&alert.labels),
            annotations: LabelMap(&alert.annotations),
            state: alert.state.as_str(),
            active_at: GoTime(Some(alert.active_at_ms)),
            keep_firing_since: alert.keep_firing_since_ms.map(|ms| GoTime(Some(ms))),
            missing_since: alert.missing.map(|m| GoTime(Some(m.since_ms))),
            missing_reason: alert.missing.and_then(|m| m.reason).map(|reason| reason.as_str()),
            value: float::exponent(alert.value),
        }
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// Which rules a request asks for.
struct Filter<'a> {
    alerting: bool,
    recording: bool,
    with_alerts: bool,
    names: HashSet<&'a str>,
    groups: HashSet<&'a str>,
    files: HashSet<&'a str>,
    matcher_sets: Vec<Vec<Matcher>>,
}

impl<'a> Filter<'a> {
    fn new(params: &'a Params) -> Result<Self, ApiError> {
        let set = |name: &str| params.all(name).into_iter().collect::<HashSet<_>>();
        let matcher_sets = params.matcher_sets().map_err(ApiError::bad_data)?;
        let kind = params.get("type").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            let why = format!("not supported value {}", quote(&kind));
            return Err(ApiError::invalid_parameter("type", why));
        }
        Ok(Self {
            alerting: kind != "record",
            recording: kind != "alert",
            with_alerts: !parse_bool(params, "exclude_alerts")?,
            names: set("rule_name[]"),
            groups: set("rule_group[]"),
            files: set("file[]"),
            matcher_sets,
        })
    }

    fn wants_group(&self, group: &GroupView) -> bool {
        (self.groups.is_empty() || self.groups.contains(group.name.as_str()))
            && (self.files.is_empty() || self.files.contains(group.file.as_str()))
    }

    fn wants_rule(&self, rule: &RuleView) -> bool {
        let kind = if rule.alerting.is_some() { self.alerting } else { self.recording };
        kind && (self.names.is_empty() || self.names.contains(rule.name.as_str()))
            && (self.matcher_sets.is_empty()
                || self
                    .matcher_sets
                    .iter()
                    .any(|set| set.iter().all(|m| m.matches_labels(&rule.labels))))
    }

    fn group<'v>(&self, group: &'v GroupView) -> Group<'v> {
        let rules = group.rules.iter().filter(|rule| self.wants_rule(rule));
        Group {
            name: &group.name,
            file: &group.file,
            rules: rules.map(|rule| self.rule(rule)).collect(),
            interval: seconds(group.interval_ms),
            limit: group.limit,
            evaluation_time: group.evaluation_time_seconds,
            last_evaluation: GoTime(group.last_evaluation_ms),
            budget: group.pace.map(Budget::from),
        }
    }

    fn rule<'v>(&self, rule: &'v RuleView) -> Rule<'v> {
        let outcome = |kind| Outcome {
            health: rule.health.as_str(),
            last_error: &rule.last_error,
            evaluation_time: rule.evaluation_time_seconds,
            last_evaluation: GoTime(rule.last_evaluation_ms),
            last_outcome: rule.last_outcome.map(|outcome| outcome.as_str()),
            kind,
            cost: rule.cost.map(|c| LastCost {
                samples: c.samples,
                series: c.series,
                bytes: c.bytes,
            }),
            quarantined: rule.quarantine.map(|q| SetAside { last_good_runs: q.last_good_runs }),
        };
        let (name, query, labels) = (&rule.name, &rule.query, LabelMap(&rule.labels));
        match &rule.alerting {
            None => Rule::Recording(RecordingRule {
                name,
                query,
                labels,
                outcome: outcome("recording"),
            }),
            Some(alerting) => Rule::Alerting(AlertingRule {
                state: alerting.state.as_str(),
                name,
                query,
                duration: seconds(alerting.for_ms),
                keep_firing_for: seconds(alerting.keep_firing_for_ms),
                labels,
                annotations: LabelMap(&alerting.annotations),
                alerts: self.with_alerts.then(|| alerts_of(alerting)),
                outcome: outcome("alerting"),
            }),
        }
    }
}

fn alerts_of(alerting: &AlertingView) -> Vec<Alert<'_>> {
    alerting.alerts.iter().map(Alert::from).collect()
}

/// As Go's `strconv.ParseBool`; absent is false.
fn parse_bool(params: &Params, name: &str) -> Result<bool, ApiError> {
    match params.get(name).to_lowercase().as_str() {
        "" | "0" | "f" | "false" => Ok(false),
        "1" | "t" | "true" => Ok(true),
        text => {
            let why = format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text));
            Err(ApiError::invalid_parameter(name, format!("error converting {name}: {why}")))
        }
    }
}

/// One page of groups: how many, and where it begins.
#[derive(Default)]
struct Page<'a> {
    groups_max: Option<usize>,
    token: &'a str,
}

impl<'a> Page<'a> {
    fn new(params: &'a Params) -> Result<Self, ApiError> {
        let token = params.get("group_next_token");
        let limit = params.get("group_limit");
        if limit.is_empty() {
            if !token.is_empty() {
                return Err(ApiError::invalid_parameter(
                    "group_next_token",
                    "group_limit needs to be present in order to paginate over the groups",
                ));
            }
            return Ok(Self::default());
        }
        let parsed: i32 = limit.parse().map_err(|_| {
            let why = format!("strconv.ParseInt: parsing {}: invalid syntax", quote(limit));
            ApiError::invalid_parameter(
                "group_limit",
                format!("group_limit needs to be a valid number: {why}"),
            )
        })?;
        match usize::try_from(parsed) {
            Ok(max) if max > 0 => Ok(Self { groups_max: Some(max), token }),
            _ => Err(ApiError::invalid_parameter(
                "group_limit",
                "group_limit needs to be greater than 0",
            )),
        }
    }
}

/// Names a group in a way clients hand back but do not read.
fn token_of(group: &GroupView) -> String {
    let digest = Sha256::digest(format!("{};{}", group.file, group.name));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rule groups with their rules and, unless excluded, their alerts.
pub(super) async fn rules(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let filter = Filter::new(&params)?;
    let page = Page::new(&params)?;
    let set_aside = state.rules.quarantined();
    let mut groups = state.rules.groups();
    groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
    let first = if page.token.is_empty() {
        0
    } else {
        groups.iter().position(|group| token_of(group) == page.token).ok_or_else(|| {
            let why =
                format!("invalid group_next_token '{}'. were rule groups changed?", page.token);
            ApiError::invalid_parameter("group_next_token", why)
        })?
    };
    let quarantined = set_aside.iter().map(Quarantined::from).collect();
    let mut body = Discovery { groups: Vec::new(), group_next_token: None, quarantined };
    for view in groups[first..].iter().filter(|group| filter.wants_group(group)) {
        let group = filter.group(view);
        // Groups without any wanted rule count for nothing, not even for the page.
        if group.rules.is_empty() {
            continue;
        }
        if page.groups_max == Some(body.groups.len()) {
            body.group_next_token = Some(token_of(view));
            break;
        }
        body.groups.push(group);
    }
    Ok(Success::new(&body))
}

#[derive(Serialize)]
struct Alerts<'a> {
    alerts: Vec<Alert<'a>>,
}

/// Every unresolved alert.
pub(super) async fn alerts(State(state): State<Arc<ApiState>>) -> ApiResult {
    let groups = state.rules.groups();
    let rules = groups.iter().flat_map(|group| &group.rules);
    let alerts = rules.filter_map(|rule| rule.alerting.as_ref()).flat_map(alerts_of).collect();
    Ok(Success::new(&Alerts { alerts }))
}
