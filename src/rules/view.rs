//! What the API shows of rules.

use super::alert::Missing;
use super::config::Position;
use super::cost::Cost;
use super::outcome::Outcome;
use super::policy::{GroupPolicy, Policy};
use crate::model::{Labels, TimestampMs};

/// Result of a rule's last evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleHealth {
    Unknown,
    Ok,
    Err,
}

impl RuleHealth {
    /// `unknown`, `ok` or `err`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// State of an alert; of an alerting rule, the gravest of its alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// The rule was never evaluated.
    Unknown,
    Inactive,
    Pending,
    Firing,
}

impl AlertState {
    /// `unknown`, `inactive`, `pending` or `firing`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One rule group.
#[derive(Clone, Debug)]
pub struct GroupView {
    pub name: String,
    pub file: String,
    pub interval_ms: i64,
    pub limit: usize,
    /// What holds for the group, flags merged in.
    pub policy: GroupPolicy,
    pub evaluation_time_seconds: f64,
    pub last_evaluation_ms: Option<TimestampMs>,
    /// `None` before the first evaluation.
    pub pace: Option<PaceView>,
    pub rules: Vec<RuleView>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct RuleView {
    pub name: String,
    /// The printed expression.
    pub query: String,
    pub labels: Labels,
    /// What holds for the rule, its group's choices and flags merged in.
    pub policy: Policy,
    pub health: RuleHealth,
    /// "" when healthy.
    pub last_error: String,
    pub evaluation_time_seconds: f64,
    pub last_evaluation_ms: Option<TimestampMs>,
    /// `None` before the first evaluation.
    pub last_outcome: Option<Outcome>,
    /// Of the last evaluation.
    pub cost: Option<Cost>,
    /// Set when the rule as written cannot be used.
    pub quarantine: Option<QuarantineView>,
    /// `None` for a recording rule.
    pub alerting: Option<AlertingView>,
}

/// The part of an alerting rule that a recording rule lacks.
#[derive(Clone, Debug)]
pub struct AlertingView {
    pub state: AlertState,
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
    pub annotations: Labels,
    /// Unresolved alerts.
    pub alerts: Vec<AlertView>,
}

/// One active alert.
#[derive(Clone, Debug)]
pub struct AlertView {
    pub labels: Labels,
    pub annotations: Labels,
    pub state: AlertState,
    pub active_at_ms: TimestampMs,
    pub keep_firing_since_ms: Option<TimestampMs>,
    /// Set while it is active without a sample.
    pub missing: Option<Missing>,
    pub value: f64,
}

/// What is shown in place of a rule that cannot be used as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineView {
    /// The version that ran last goes on; else nothing runs in the rule's place.
    pub last_good_runs: bool,
}

/// A file, group or rule that cannot be used as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedView {
    pub file: String,
    /// `file` (or an object in it), `group` or `rule`.
    pub kind: &'static str,
    pub group: Option<String>,
    /// The rule's name, "" when it has none.
    pub rule: Option<String>,
    pub position: Option<Position>,
    /// Every error, with its place.
    pub error: String,
    pub last_good_runs: bool,
}

/// How much of its interval a group takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaceView {
    /// Share of the interval, over the last evaluations.
    pub used: f64,
    /// The share it may take.
    pub budget: f64,
    pub exceeded: bool,
    /// Seconds until the group will take longer than its interval, should it go on as it
    /// has; `None` when it does not look as if it ever would.
    pub overrun_forecast_seconds: Option<f64>,
}

/// One measure of what a rule costs, over the evaluations that are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostSummary {
    pub last: f64,
    pub avg: f64,
    pub p99: f64,
    pub max: f64,
    /// Over all evaluations since the rule came, kept or not.
    pub total: f64,
}

/// What one rule costs.
#[derive(Clone, Debug)]
pub struct RuleCostView {
    pub name: String,
    pub is_alert: bool,
    pub labels: Labels,
    pub query: String,
    /// Since the rule came.
    pub evaluations: u64,
    pub last_evaluation_ms: Option<TimestampMs>,
    pub seconds: CostSummary,
    pub samples: CostSummary,
    pub series: CostSummary,
    pub bytes: CostSummary,
}

/// What the rules of one group cost.
#[derive(Clone, Debug)]
pub struct GroupCostView {
    pub file: String,
    pub name: String,
    pub interval_ms: i64,
    pub pace: Option<PaceView>,
    pub rules: Vec<RuleCostView>,
}

/// Read access to the rule manager.
pub trait RulesView: Send + Sync {
    /// All groups, by file and then in file order.
    fn groups(&self) -> Vec<GroupView>;

    /// What the last load set aside.
    fn quarantined(&self) -> Vec<QuarantinedView>;

    /// What every rule costs.
    fn costs(&self) -> Vec<GroupCostView>;

    /// What a replica that takes over must know of the alerts of a group; `None` when there is
    /// no such group.
    fn handover(&self, file: &str, group: &str) -> Option<Vec<u8>>;
}
