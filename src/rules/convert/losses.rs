//! What a conversion loses, and what the target understands differently.

use std::collections::BTreeSet;
use std::fmt;

use super::Target;
use super::keys::{self, Fate};
use crate::model::labels::{is_legacy_label_name, is_legacy_metric_name, quote};
use crate::model::lines::Position;
use crate::model::{METRIC_NAME, MatchOp};
use crate::parser::ast::{ExprKind, Grouping};
use crate::rules::config::{GroupSpec, RuleKind, RuleSpec, Written};
use crate::rules::graph::{RuleGraph, Sees, Ticks};
use crate::yaml;

/// What a conversion loses, or what means something else afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    Alignment,
    Chaining,
    Comments,
    Duplicate,
    EvalOffset,
    Extrapolation,
    Function,
    Metadata,
    Names,
    OwnKey,
    PartialResponse,
    Request,
    Tenants,
    UnknownKey,
}

impl Loss {
    /// The name of the warning.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alignment => "alignment",
            Self::Chaining => "chaining",
            Self::Comments => "comments",
            Self::Duplicate => "duplicate",
            Self::EvalOffset => "eval-offset",
            Self::Extrapolation => "extrapolation",
            Self::Function => "function",
            Self::Metadata => "metadata",
            Self::Names => "names",
            Self::OwnKey => "watchfire-key",
            Self::PartialResponse => "partial-response",
            Self::Request => "request",
            Self::Tenants => "tenants",
            Self::UnknownKey => "unknown-key",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Alignment => "evaluations are not aligned to the interval",
            Self::Chaining => {
                "it reads what an earlier rule of its group writes, which vmalert stores \
                 asynchronously: it may see the value of an earlier evaluation"
            }
            Self::Comments => {
                "comments are left out: those of keys that are dropped, outside of groups, or \
                 where the file is not in block style"
            }
            Self::Duplicate => {
                "vmalert refuses a group that has the same name, expression and labels twice: \
                 only the first of them is kept"
            }
            Self::EvalOffset => "where in its interval the group runs cannot be said",
            Self::Extrapolation => {
                "vmalert has rate, increase, delta and changes computed without extrapolation and \
                 with the sample before the window: values differ a little"
            }
            Self::Function => {
                "MetricsQL has no such function, or another of that name: the rule fails, or \
                 means something else"
            }
            Self::Names => {
                "names of metrics or labels that have to be quoted are refused by many versions \
                 of vmalert"
            }
            Self::Metadata => "metadata of the object are dropped",
            Self::OwnKey => {
                "only Watchfire knows this key: it is dropped, and Prometheus' way holds"
            }
            Self::PartialResponse => "partial answers are not accepted: the rule fails instead",
            Self::Request => "requests of rules cannot be changed: the key is dropped",
            Self::Tenants => "there are no tenants: all data of the server are read",
            Self::UnknownKey => "an unknown key is dropped",
        }
    }
}

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub loss: Loss,
    pub at: Position,
    /// The group, and the rule if it is about one.
    pub group: String,
    pub rule: Option<String>,
    /// The key that is lost.
    pub key: Option<String>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, at, group, rule, key } = self;
        write!(f, "{at}: {}: ", loss.as_str())?;
        if !group.is_empty() {
            write!(f, "group {}: ", quote(group))?;
        }
        if let Some(rule) = rule {
            write!(f, "{rule}: ")?;
        }
        if let Some(key) = key {
            write!(f, "{key}: ")?;
        }
        f.write_str(loss.text())
    }
}

/// Functions and aggregators of PromQL that VictoriaMetrics does not have, or has for
/// something else (of native histograms, which it does not store).
const NOT_METRICSQL: &[&str] = &[
    "double_exponential_smoothing",
    "end",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantiles",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "info",
    "limit_ratio",
    "max_of",
    "min_of",
    "range",
    "start",
    "start_timestamp",
    "step",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// Everything that is lost or means something else.
pub(super) fn losses(source: &str, written: &Written, to: Target) -> Vec<Warning> {
    let mut found = Vec::new();
    if to != Target::PrometheusRule {
        let documents = yaml::parse(source).unwrap_or_default();
        let roots = documents.iter().filter_map(|document| document.root.as_deref());
        for root in roots.filter(|root| root.get("metadata").is_some()) {
            let (group, rule, key) = (String::new(), None, None);
            found.push(Warning { loss: Loss::Metadata, at: root.at, group, rule, key });
        }
    }
    let twins = twice(&written.loaded.groups);
    for group in &written.groups {
        let spec = group.spec.map(|i| &written.loaded.groups[i]);
        let name = spec.map_or("", |spec| &spec.name);
        let mut lose = |loss, at, rule: Option<String>, key: Option<&str>| {
            let (group, key) = (name.to_owned(), key.map(str::to_owned));
            found.push(Warning { loss, at, group, rule, key });
        };
        for (key, value) in group.entries() {
            let text = key.scalar().unwrap_or_default();
            if let Fate::Lose(loss) = keys::of_group(text, value, to) {
                lose(loss, key.at, None, Some(text));
            }
        }
        for rule in &group.rules {
            let spec = spec.zip(rule.spec).map(|(group, i)| &group.rules[i]);
            let label = || spec.map(|rule| rule.name().to_owned());
            for (key, _) in rule.entries() {
                let text = key.scalar().unwrap_or_default();
                if let Fate::Lose(loss) = keys::of_rule(text, to) {
                    lose(loss, key.at, label(), Some(text));
                }
            }
            if let (Target::Vmalert, Some(spec)) = (to, spec) {
                for (loss, function) in misread(spec) {
                    lose(loss, rule.node.at, label(), function);
                }
            }
        }
        if let (Target::Vmalert, Some(spec), Some(index)) = (to, spec, group.spec) {
            for (_, twin) in twins.iter().filter(|(group, _)| *group == index) {
                let rule = &spec.rules[*twin];
                lose(Loss::Duplicate, rule.at, Some(rule.name().to_owned()), None);
            }
            for index in chained(spec) {
                let rule = &spec.rules[index];
                lose(Loss::Chaining, rule.at, Some(rule.name().to_owned()), None);
            }
        }
    }
    found
}

/// What VictoriaMetrics makes of an expression, beside what Prometheus does; with the name
/// of a function it does not have.
fn misread(rule: &RuleSpec) -> BTreeSet<(Loss, Option<&'static str>)> {
    let mut found = BTreeSet::new();
    rule.expr.expr.walk(&mut |node| {
        let mut names: Vec<&str> = Vec::new();
        match &node.kind {
            ExprKind::Call(call) => {
                let name = call.function.name;
                if matches!(name, "rate" | "increase" | "delta" | "changes") {
                    found.insert((Loss::Extrapolation, None));
                }
                if NOT_METRICSQL.contains(&name) {
                    found.insert((Loss::Function, Some(name)));
                }
            }
            ExprKind::Aggregate(aggregate) => {
                if NOT_METRICSQL.contains(&aggregate.op.name) {
                    found.insert((Loss::Function, Some(aggregate.op.name)));
                }
                let (Grouping::By(labels) | Grouping::Without(labels)) = &aggregate.grouping;
                names.extend(labels.iter().map(String::as_str));
            }
            ExprKind::Binary(binary) => {
                let matching = binary.matching.iter();
                let labels = matching.flat_map(|m| m.labels.iter().chain(&m.include));
                names.extend(labels.map(String::as_str));
            }
            ExprKind::VectorSelector(selector) => {
                names.extend(selector.matchers.iter().map(|matcher| &*matcher.name));
                let own = selector.matchers.iter().find(|m| &*m.name == METRIC_NAME);
                if own.is_some_and(|m| m.op == MatchOp::Equal && !is_legacy_metric_name(&m.value)) {
                    found.insert((Loss::Names, None));
                }
            }
            _ => {}
        }
        if !names.into_iter().all(is_legacy_label_name) {
            found.insert((Loss::Names, None));
        }
    });
    found
}

/// Rules that are in their group a second time, as vmalert tells rules apart: by index of
/// group and rule.
pub(super) fn twice(groups: &[GroupSpec]) -> BTreeSet<(usize, usize)> {
    let mut found = BTreeSet::new();
    for (i, group) in groups.iter().enumerate() {
        let mut seen = BTreeSet::new();
        for (j, rule) in group.rules.iter().enumerate() {
            let is_alert = matches!(rule.kind, RuleKind::Alerting(_));
            if !seen.insert((is_alert, rule.name(), &rule.expr.printed, &rule.labels)) {
                found.insert((i, j));
            }
        }
    }
    found
}

/// The rules that read what an earlier one of their group wrote for the same tick.
fn chained(group: &GroupSpec) -> BTreeSet<usize> {
    let ticks = Ticks { interval_ms: 60_000, offset_ms: Some(0) };
    let graph = RuleGraph::new([(group, ticks)]);
    let reads = graph.edges().filter(|e| e.sees == Sees::ThisTick && e.in_query);
    reads.map(|edge| edge.reader).collect()
}
