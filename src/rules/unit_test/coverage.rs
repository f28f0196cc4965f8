//! What tests exercise of rules, and what they check: whether alerts fire, which branches of
//! an expression had a say, which labels and annotations somebody expects.
//!
//! Branches are looked at by queries of their own beside each evaluation, so nothing of the
//! rules' own course changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::schema::Test;
use crate::model::value::ValueType;
use crate::model::{Matcher, TimestampMs};
use crate::parser::ast::{BinaryOp, ExprKind};
use crate::parser::{self, Expr};
use crate::query::{Engine, PreparedQuery};
use crate::rules::config::{GroupSpec, RuleKind, RuleSpec};
use crate::rules::group::{Context, Group};
use crate::rules::recording::vector;
use crate::rules::view::AlertState;

/// One thing about a rule that tests may exercise or check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facet {
    /// For a person, such as `a test expects it to fire`.
    pub what: String,
    /// A branch of the expression.
    pub is_branch: bool,
    pub covered: bool,
}

/// What tests cover of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCoverage {
    pub file: String,
    /// Where the rule stands, from 1.
    pub line: usize,
    pub group: String,
    pub rule: String,
    pub facets: Vec<Facet>,
}

impl RuleCoverage {
    /// How many facets are covered.
    pub fn covered(&self) -> usize {
        self.facets.iter().filter(|facet| facet.covered).count()
    }
}

/// Puts together what several test files cover of the same rules.
pub fn merged(all: impl IntoIterator<Item = RuleCoverage>) -> Vec<RuleCoverage> {
    let mut rules: BTreeMap<(String, usize, String), RuleCoverage> = BTreeMap::new();
    for coverage in all {
        let key = (coverage.file.clone(), coverage.line, coverage.rule.clone());
        match rules.get_mut(&key) {
            Some(known) => {
                for (known, other) in known.facets.iter_mut().zip(coverage.facets) {
                    known.covered |= other.covered;
                }
            }
            None => {
                rules.insert(key, coverage);
            }
        }
    }
    rules.into_values().collect()
}

/// Covered and all facets.
pub fn totals(rules: &[RuleCoverage]) -> (usize, usize) {
    let covered = rules.iter().map(RuleCoverage::covered).sum();
    (covered, rules.iter().map(|rule| rule.facets.len()).sum())
}

const FIRES: &str = "it fires";
const EXPECTED: &str = "a test expects it to fire";
const SILENT: &str = "a test expects it not to fire";
const GIVES: &str = "it gives series";
const CHECKED: &str = "a promql_expr_test reads it";

/// Watches tests.
pub(super) struct Observer {
    rules: Vec<Watched>,
}

struct Watched {
    coverage: RuleCoverage,
    /// By facet: true when the query gives something.
    probes: Vec<(usize, Arc<Expr>, Option<Arc<PreparedQuery>>)>,
    spec: RuleSpec,
    group_key: (String, String),
}

impl Observer {
    pub(super) fn new(groups: &[GroupSpec]) -> Self {
        let watched = |group: &GroupSpec| {
            let rules = group.rules.iter().map(|rule| Watched::new(group, rule));
            rules.collect::<Vec<_>>()
        };
        Self { rules: groups.iter().flat_map(watched).collect() }
    }

    pub(super) fn into_coverage(self) -> Vec<RuleCoverage> {
        self.rules.into_iter().map(|watched| watched.coverage).collect()
    }

    /// Forgets queries of an engine that is gone.
    pub(super) fn begin_test(&mut self) {
        self.rules.iter_mut().flat_map(|w| &mut w.probes).for_each(|probe| probe.2 = None);
    }

    /// Looks at a group that was evaluated just now.
    pub(super) async fn look(&mut self, group: &Group, cx: &Context, ts: TimestampMs) {
        let key = (group.spec.file.clone(), group.spec.name.clone());
        let watched = self.rules.iter_mut().filter(|watched| watched.group_key == key);
        for (watched, rule) in watched.zip(&group.rules) {
            if let Some(alerting) = &rule.alerting
                && !alerting.alerts_that(|a| a.state == AlertState::Firing).is_empty()
            {
                watched.cover(FIRES);
            }
            watched.probe(cx, ts - group.query_offset_ms).await;
        }
    }

    /// Notes what a test checks, once it has run.
    pub(super) fn note_cases(&mut self, test: &Test, cx: &Context) {
        let read: Vec<Expr> = test
            .expressions
            .iter()
            .filter_map(|case| parser::parse(&case.expr, &cx.engine.options().parser).ok())
            .collect();
        for watched in &mut self.rules {
            match &watched.spec.kind {
                RuleKind::Recording { record } => {
                    if read.iter().any(|expr| reads(expr, record)) {
                        watched.cover(CHECKED);
                    }
                }
                RuleKind::Alerting(alert) => {
                    let name = alert.alert.clone();
                    for case in test.alerts.iter().filter(|case| case.alert == name) {
                        watched.cover(if case.expected.is_empty() { SILENT } else { EXPECTED });
                        for expected in &case.expected {
                            for (name, _) in expected.labels.iter() {
                                watched.cover(&label_facet(name));
                            }
                            for (name, _) in expected.annotations.iter() {
                                watched.cover(&annotation_facet(name));
                            }
                        }
                    }
                }
            }
        }
    }
}

fn label_facet(name: &str) -> String {
    format!("label {name} is checked")
}

fn annotation_facet(name: &str) -> String {
    format!("annotation {name} is checked")
}

fn reads(expr: &Expr, metric: &str) -> bool {
    let is_name = |m: &Matcher| m.metric_name() == Some(metric);
    expr.selectors().iter().any(|matchers| matchers.iter().any(is_name))
}

impl Watched {
    fn new(group: &GroupSpec, rule: &RuleSpec) -> Self {
        let mut facets = Vec::new();
        let mut say = |what: String, is_branch| {
            facets.push(Facet { what, is_branch, covered: false });
            facets.len() - 1
        };
        let mut probes = Vec::new();
        match &rule.kind {
            RuleKind::Recording { .. } => {
                probes.push((say(GIVES.to_owned(), false), rule.expr.expr.clone(), None));
                say(CHECKED.to_owned(), false);
            }
            RuleKind::Alerting(alert) => {
                for what in [FIRES, EXPECTED, SILENT] {
                    say(what.to_owned(), false);
                }
                for name in rule.labels.keys() {
                    say(label_facet(name), false);
                }
                for name in alert.annotations.keys() {
                    say(annotation_facet(name), false);
                }
            }
        }
        for (what, probe) in branches(&rule.expr.expr) {
            probes.push((say(what, true), Arc::new(probe), None));
        }
        let coverage = RuleCoverage {
            file: group.origin.clone(),
            line: rule.at.line,
            group: group.name.clone(),
            rule: rule.name().to_owned(),
            facets,
        };
        let group_key = (group.file.clone(), group.name.clone());
        Self { coverage, probes, spec: rule.clone(), group_key }
    }

    fn cover(&mut self, what: &str) {
        let facets = self.coverage.facets.iter_mut().filter(|facet| facet.what == what);
        facets.for_each(|facet| facet.covered = true);
    }

    /// Asks for what has not been seen yet. A query that fails covers nothing.
    async fn probe(&mut self, cx: &Context, at: TimestampMs) {
        for (facet, expr, query) in &mut self.probes {
            let facet = &mut self.coverage.facets[*facet];
            if facet.covered {
                continue;
            }
            if query.is_none() {
                *query = prepared(&cx.engine, expr);
            }
            let Some(query) = query else { continue };
            let Ok(result) = query.instant(&cx.source, at, &cx.run).await else { continue };
            facet.covered = vector(result.value).is_ok_and(|samples| !samples.is_empty());
        }
    }
}

fn prepared(engine: &Arc<Engine>, expr: &Arc<Expr>) -> Option<Arc<PreparedQuery>> {
    engine.prepare_expr(&expr.to_string(), expr.clone()).ok().map(Arc::new)
}

/// What may happen at the operators of an expression that let series through or not, and
/// a query for each that gives something when it does.
fn branches(expr: &Expr) -> Vec<(String, Expr)> {
    let mut found = Vec::new();
    expr.walk(&mut |node| {
        let ExprKind::Binary(binary) = &node.kind else { return };
        let with = |op: BinaryOp, swap: bool| {
            let mut changed = node.clone();
            if let ExprKind::Binary(binary) = &mut changed.kind {
                binary.op = op;
                if swap {
                    let binary = &mut **binary;
                    std::mem::swap(&mut binary.lhs, &mut binary.rhs);
                }
            }
            changed
        };
        let text = node.to_string();
        let mut say = |what: &str, probe: Expr| found.push((format!("{what} in `{text}`"), probe));
        match binary.op {
            BinaryOp::And => {
                say("something passes `and`", node.clone());
                say("`and` holds something back", with(BinaryOp::Unless, false));
            }
            BinaryOp::Unless => {
                say("something passes `unless`", node.clone());
                say("`unless` holds something back", with(BinaryOp::And, false));
            }
            BinaryOp::Or => {
                say("the left side of `or` gives something", binary.lhs.clone());
                say("the right side of `or` adds something", with(BinaryOp::Unless, true));
            }
            op if op.is_comparison()
                && !binary.return_bool
                && node.value_type() == ValueType::InstantVector =>
            {
                let word = op.as_str();
                say(&format!("`{word}` holds"), node.clone());
                say(&format!("`{word}` does not hold"), with(negated(op), false));
            }
            _ => {}
        }
    });
    found
}

fn negated(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Eq => BinaryOp::NotEq,
        BinaryOp::NotEq => BinaryOp::Eq,
        BinaryOp::Less => BinaryOp::GreaterEq,
        BinaryOp::LessEq => BinaryOp::Greater,
        BinaryOp::Greater => BinaryOp::LessEq,
        BinaryOp::GreaterEq => BinaryOp::Less,
        other => other,
    }
}
