//! Rule files: what they say, read from Prometheus rule files and from Kubernetes
//! `PrometheusRule` objects alike, with every error of a file found in one run.
//!
//! [`load_file`] gives the groups, [`check_file`] also what a person should know about
//! them. Nothing here evaluates.

mod extensions;
mod kubernetes;
mod lint;
mod load;
mod outline;
mod problem;
mod validate;
mod verdicts;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::yaml::Position;
pub use lint::{DuplicateRule, duplicate_rules, duplicates_text};
pub(in crate::rules) use load::load_fetched;
pub(crate) use load::read_text;
pub use load::{
    CheckReport, LoadedFile, Rejected, RejectedRule, Scope, check_file, check_source, load_file,
    load_source,
};
pub(crate) use outline::{Written, WrittenGroup, WrittenRule, read_written};
pub(super) use problem::render;
pub use problem::{Problem, ProblemKind, Severity};

use crate::model::Labels;
use crate::parser::{Expr, ParserOptions};
use crate::rules::policy::{GroupPolicySpec, PolicySpec};

/// How to read rule files.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Experimental syntax accepted in expressions.
    pub parser: ParserOptions,
    /// `--ignore-unknown-fields`: unknown fields are warnings.
    pub ignore_unknown_fields: bool,
    /// `metric_name_validation_scheme: legacy`: names must be `[a-zA-Z_][a-zA-Z0-9_]*`.
    pub legacy_names: bool,
    /// Keys of vmalert, Thanos and Mimir are read, and those that cannot be honoured are
    /// warnings. Without it they are unknown fields, as for promtool.
    pub dialects: bool,
}

/// One group as written. Two are equal when evaluating them is the same; where they stand
/// does not matter.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// The file, part of the group's identity; see [`load_source`] for what it is when a
    /// file holds several Kubernetes objects.
    pub file: String,
    /// The file the group was read from; no part of its identity.
    pub origin: String,
    /// `NAMESPACE/NAME` of the Kubernetes object it was read from; no part of its identity.
    pub object: Option<String>,
    pub name: String,
    /// `None`: `global.evaluation_interval`.
    pub interval_ms: Option<i64>,
    /// `None`: `global.rule_query_offset`.
    pub query_offset_ms: Option<i64>,
    /// Most series or alerts a rule may produce; 0 is no limit.
    pub limit: usize,
    /// What rules that say nothing themselves do.
    pub policy: PolicySpec,
    pub group_policy: GroupPolicySpec,
    /// Names of rules that are to be evaluated first, in whatever group they are.
    pub depends_on: Vec<String>,
    /// Where in its interval the group runs, counted from the epoch and perhaps negative;
    /// `None`: where a hash of its name and file puts it.
    pub eval_offset_ms: Option<i64>,
    /// Rules the author of the file would let run at once: a hint.
    pub concurrency: Option<usize>,
    pub rules: Vec<Arc<RuleSpec>>,
    /// Where the group stands.
    pub at: Position,
}

/// One rule as written, the group's labels merged in.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    pub kind: RuleKind,
    pub expr: RuleExpr,
    /// May hold empty values: they delete a label of the result.
    pub labels: BTreeMap<String, String>,
    /// What the rule itself says; its group's choices are not merged in.
    pub policy: PolicySpec,
    /// Names of rules that are to be evaluated first; its group's are not merged in.
    pub depends_on: Vec<String>,
    /// What its expression and the queries of its templates are about; "" for what they are
    /// about anyway. The selectors of the expression say so themselves.
    pub datasource: String,
    /// Where the rule stands.
    pub at: Position,
}

/// What a rule makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleKind {
    Recording { record: String },
    Alerting(Arc<AlertSpec>),
}

/// The part of an alerting rule that a recording rule lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSpec {
    pub alert: String,
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
    pub annotations: BTreeMap<String, String>,
}

/// An expression that has been parsed.
#[derive(Clone, Debug)]
pub struct RuleExpr {
    /// The expression printed from its tree: what the API shows, links carry and equality
    /// is decided on.
    pub printed: String,
    /// Shared with the prepared query: a tree takes kilobytes, and there may be thousands.
    pub expr: Arc<Expr>,
}

impl RuleSpec {
    /// The name of the recorded metric or of the alert.
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Recording { record } => record,
            RuleKind::Alerting(alert) => &alert.alert,
        }
    }

    /// The rule's labels as a set, without those that are empty.
    pub fn label_set(&self) -> Labels {
        Labels::from_pairs(&self.labels)
    }
}

impl PartialEq for RuleSpec {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.expr.printed == other.expr.printed
            && self.labels == other.labels
            && self.policy == other.policy
            && self.depends_on == other.depends_on
            && self.datasource == other.datasource
    }
}

impl PartialEq for GroupSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.file == other.file
            && self.interval_ms == other.interval_ms
            && self.query_offset_ms == other.query_offset_ms
            && self.limit == other.limit
            && self.policy == other.policy
            && self.group_policy == other.group_policy
            && self.depends_on == other.depends_on
            && self.eval_offset_ms == other.eval_offset_ms
            && self.concurrency == other.concurrency
            && self.rules == other.rules
    }
}

#[cfg(test)]
mod extension_tests;
#[cfg(test)]
mod tests;
