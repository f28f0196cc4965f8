//! What a server can tell about rules: which series there are, of which type metrics are,
//! how often alerts would have fired. Here is what to ask and what to make of the answers;
//! whoever has a client does the asking.

mod cost;
mod links;
mod matching;
mod server;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use cost::Cost;
pub(super) use cost::cost;
pub use links::Link;
pub(super) use links::link;
pub(super) use matching::matching;
pub use matching::{Matched, Sides};
pub(super) use server::{conflict, external_labels, features, offset, range_query, unanswered};

use super::context::{Findings, RuleCx, finding};
use super::registry::CHECKS;
use super::{Input, Options, with_project};
use crate::diagnostics::nearest::nearest;
use crate::model::duration::format_duration;
use crate::model::{METRIC_NAME, MatchOp, Matcher};
use crate::parser::Expr;
use crate::parser::ast::{BinaryOp, ExprKind, VectorSelector};

/// What is worth asking about some rules.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// Selectors by their text, as `{...}` with the name among the matchers.
    pub selectors: BTreeMap<String, Vec<Matcher>>,
    /// Expressions of alerts.
    pub alerts: BTreeSet<String>,
    /// Expressions whose cost is to be known.
    pub costs: BTreeSet<String>,
    /// Expressions the server must be able to read.
    pub syntax: BTreeSet<String>,
    /// Operators, by what finds matches.
    pub matchings: BTreeMap<String, Sides>,
    /// Links by where they lead; they are not asked of the server.
    pub links: BTreeMap<String, Link>,
    /// What is asked once.
    pub wants: Wants,
}

/// What there is to know of a server as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Types and names of metrics.
    pub metrics: bool,
    pub retention: bool,
    pub configuration: bool,
    /// Labels of its targets.
    pub targets: bool,
    /// Its recording rules.
    pub rules: bool,
}

/// What a server has of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Series.
    Now,
    /// There were series not long ago.
    Before,
    /// No series of that name.
    NoMetric,
    /// Matchers that find nothing of the metric.
    NoMatch(Vec<String>),
    /// Each matcher finds something of the metric, all together find nothing.
    NotTogether,
}

/// What a server has answered. What is missing was not asked or could not be had.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub series: HashMap<String, Seen>,
    /// Types by the name of the metric's family.
    pub types: HashMap<String, String>,
    /// All names of metrics, for suggestions.
    pub names: Vec<String>,
    /// By expression: times in ms at which each series of the result was there.
    pub alerts: HashMap<String, Vec<Vec<i64>>>,
    /// By expression.
    pub costs: HashMap<String, Cost>,
    /// Memory a series takes on the server.
    pub bytes_per_series: Option<f64>,
    /// Why expressions cannot be read, or `None` when they can.
    pub syntax: HashMap<String, Option<String>>,
    pub matchings: HashMap<String, Matched>,
    /// HTTP status of links, or why there is none.
    pub links: HashMap<String, Result<u16, String>>,
    /// How long samples are kept, in ms.
    pub retention_ms: Option<i64>,
    pub version: Option<String>,
    pub external_labels: Option<BTreeMap<String, String>>,
    pub target_labels: BTreeSet<String>,
    /// Recorded metrics by the expression, as it is printed.
    pub recorded: HashMap<String, String>,
    /// Distance of two scrapes, where the server's configuration tells.
    pub scrape_interval_ms: Option<i64>,
    pub evaluation_interval_ms: Option<i64>,
    /// Why nothing could be asked at all.
    pub silent: Option<String>,
    /// What the server does not tell of itself, and why.
    pub gaps: Vec<(String, String)>,
    /// Questions that had no answer, and why.
    pub failed: HashMap<String, String>,
    /// When it was asked, in ms.
    pub now_ms: i64,
    /// How far back was looked, in ms.
    pub range_ms: i64,
    /// Between the times, in ms.
    pub step_ms: i64,
}

/// What to ask about some files, for the checks that are on.
pub fn questions(inputs: &[Input], options: &Options) -> Questions {
    let mut questions = Questions::default();
    let on = |id: &str| CHECKS.iter().any(|c| c.id == id && options.settings.is_on(c));
    questions.wants = Wants {
        metrics: on("promql/series") || on("promql/counter"),
        retention: on("promql/range_query") || on("promql/offset"),
        // Intervals stand there as well, which offline checks use.
        configuration: true,
        targets: on("labels/conflict"),
        rules: on("query/cost"),
    };
    with_project(inputs.to_vec(), options, |project, _| {
        for cx in project.rules() {
            let printed = &cx.spec.expr.printed;
            if on("promql/series") {
                for (selector, _) in asked(&cx) {
                    questions.selectors.insert(text(&selector.matchers), selector.matchers.clone());
                }
            }
            if on("alerts/count") && cx.alert().is_some() {
                questions.alerts.insert(printed.clone());
            }
            if on("query/cost") {
                questions.costs.insert(printed.clone());
            }
            if on("promql/features") {
                questions.syntax.insert(printed.clone());
            }
            if on("promql/vector_matching") {
                let probes = matching::probes(cx.expr());
                questions.matchings.extend(probes.into_iter().map(|p| (p.key, p.sides)));
            }
            if on("rule/link") {
                let found = links::links(&cx);
                questions.links.extend(found.iter().map(|found| (found.url.clone(), found.link())));
            }
        }
    });
    questions
}

/// `{__name__="x", job="a"}`.
fn text(matchers: &[Matcher]) -> String {
    let all: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", all.join(","))
}

fn name_of(matchers: &[Matcher]) -> Option<&str> {
    let name = matchers.iter().find(|m| &*m.name == METRIC_NAME)?;
    (name.op == MatchOp::Equal).then_some(&*name.value)
}

/// The selectors a rule needs series of: not those that ask whether there are any, nor
/// those of what the rules themselves make.
fn asked<'a>(cx: &RuleCx<'a>) -> Vec<(&'a VectorSelector, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    gather(cx.expr(), &mut found);
    let recorded = &cx.group.project.recorded;
    found.retain(|(selector, _)| {
        name_of(&selector.matchers)
            .is_some_and(|name| !name.starts_with("ALERTS") && !recorded.contains_key(name))
    });
    found
}

fn gather<'a>(expr: &'a Expr, found: &mut Vec<(&'a VectorSelector, std::ops::Range<usize>)>) {
    let at = expr.span.start as usize..expr.span.end as usize;
    match &expr.kind {
        ExprKind::VectorSelector(selector) => found.push((selector, at)),
        ExprKind::MatrixSelector(matrix) => {
            let span = &matrix.selector_span;
            found.push((&matrix.selector, span.start as usize..span.end as usize));
        }
        ExprKind::Call(call) if call.function.name.starts_with("absent") => {}
        // What may be missing: `x or vector(0)`, `x unless y`.
        ExprKind::Binary(binary) if matches!(binary.op, BinaryOp::Or | BinaryOp::Unless) => {
            if binary.op == BinaryOp::Unless {
                gather(&binary.lhs, found);
            }
        }
        _ => expr.children().for_each(|child| gather(child, found)),
    }
}

/// `promql/series`
pub(super) fn series(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &cx.group.project.observed else { return };
    for (selector, at) in asked(cx) {
        let Some(seen) = observed.series.get(&text(&selector.matchers)) else { continue };
        let name = name_of(&selector.matchers).unwrap_or_default();
        let range = format_duration(observed.range_ms);
        let problem = match seen {
            Seen::Now => continue,
            Seen::Before => finding(format!("the series of `{name}` that this selects are gone"))
                .note(format!("they were there within the last {range}")),
            Seen::NoMetric => {
                let found = finding(format!("the server has had no `{name}` for {range}"));
                match nearest(name, observed.names.iter().map(String::as_str)) {
                    Some(like) => found.help(format!("it has `{like}`")),
                    None => found,
                }
            }
            Seen::NoMatch(matchers) => finding(format!(
                "the server has `{name}`, but none with {}",
                matchers.join(" and none with ")
            )),
            Seen::NotTogether => finding(format!(
                "the server has `{name}` for each of these matchers, but none for all of them"
            )),
        };
        out.rule(cx, problem.at(cx.in_expr(at)));
    }
}

/// The type of a metric by the family it belongs to.
fn type_of<'o>(observed: &'o Observed, name: &str) -> Option<&'o str> {
    if let Some(kind) = observed.types.get(name) {
        return Some(kind);
    }
    for suffix in ["_total", "_created"] {
        if let Some(kind) = name.strip_suffix(suffix).and_then(|base| observed.types.get(base)) {
            return Some(kind);
        }
    }
    let cumulative = ["_bucket", "_count", "_sum"].iter().any(|suffix| {
        let base = name.strip_suffix(suffix).and_then(|base| observed.types.get(base));
        base.is_some_and(|kind| matches!(kind.as_str(), "histogram" | "summary"))
    });
    cumulative.then_some("counter")
}

/// `promql/counter`
pub(super) fn counter(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &cx.group.project.observed else { return };
    let mut raw = Vec::new();
    raw_selectors(cx.expr(), &mut raw);
    for (name, at) in raw {
        if type_of(observed, name) == Some("counter") {
            let problem = finding(format!(
                "`{name}` is a counter: its value says how long the process has been running"
            ));
            out.rule(
                cx,
                problem.at(cx.in_expr(at)).help(format!("use `rate({name}[5m])` or `increase`")),
            );
        }
    }
    let mut of_gauges = Vec::new();
    cx.expr().walk(&mut |expr| {
        if let ExprKind::Call(call) = &expr.kind
            && matches!(call.function.name, "rate" | "irate" | "increase")
            && let Some(ExprKind::MatrixSelector(matrix)) = call.args.first().map(|a| &a.kind)
            && let Some(name) = name_of(&matrix.selector.matchers)
            && type_of(observed, name) == Some("gauge")
        {
            let at = expr.span.start as usize..expr.span.start as usize + call.function.name.len();
            of_gauges.push((call.function.name, name, at));
        }
    });
    for (function, name, at) in of_gauges {
        let problem = finding(format!(
            "`{name}` is a gauge: `{function}` takes every fall of it for a restart"
        ));
        out.rule(cx, problem.at(cx.in_expr(at)).help("use `delta` or `deriv`"));
    }
}

/// Selectors whose values count as they are.
fn raw_selectors<'a>(expr: &'a Expr, found: &mut Vec<(&'a str, std::ops::Range<usize>)>) {
    match &expr.kind {
        ExprKind::VectorSelector(selector) => {
            if let Some(name) = name_of(&selector.matchers) {
                found.push((name, expr.span.start as usize..expr.span.end as usize));
            }
        }
        ExprKind::Call(call) => match call.function.name {
            "rate" | "irate" | "increase" | "resets" | "changes" | "timestamp"
            | "histogram_quantile" | "histogram_fraction" | "info" | "scalar" => {}
            name if name.starts_with("absent") || name.ends_with("_over_time") => {}
            _ => expr.children().for_each(|child| raw_selectors(child, found)),
        },
        ExprKind::Aggregate(aggregate)
            if matches!(aggregate.op.name, "count" | "group" | "count_values") => {}
        ExprKind::Binary(binary) => match binary.op {
            // Only whether there is something matters on the right.
            BinaryOp::And | BinaryOp::Unless => raw_selectors(&binary.lhs, found),
            // Whether it ever happened, and differences of two looks, are fair questions.
            BinaryOp::Eq | BinaryOp::NotEq | BinaryOp::Sub => {}
            _ => {
                raw_selectors(&binary.lhs, found);
                raw_selectors(&binary.rhs, found);
            }
        },
        _ => expr.children().for_each(|child| raw_selectors(child, found)),
    }
}

/// `alerts/count`
pub(super) fn count(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &cx.group.project.observed else { return };
    let Some(alert) = cx.alert() else { return };
    let Some(series) = observed.alerts.get(&cx.spec.expr.printed) else { return };
    let fired: Vec<usize> = series
        .iter()
        .map(|times| fired(times, observed.step_ms, alert.for_ms, alert.keep_firing_for_ms))
        .collect();
    let total: usize = fired.iter().sum();
    let alerts = fired.iter().filter(|n| **n > 0).count();
    if total == 0 {
        return;
    }
    let times = |n: usize| if n == 1 { "once".to_owned() } else { format!("{n} times") };
    let many = |n: usize| if n == 1 { "one series".to_owned() } else { format!("{n} series") };
    let range = format_duration(observed.range_ms);
    let problem = finding(format!(
        "it would have fired {} in the last {range}, for {}",
        times(total),
        many(alerts)
    ));
    let whole = cx.expr().span.start as usize..cx.expr().span.end as usize;
    out.rule(cx, problem.at(cx.in_expr(whole)));
}

/// How often an alert fires that is active at these times: runs without a gap that last at
/// least `hold_ms`; gaps shorter than `keep_ms` join what has fired.
fn fired(times: &[i64], step_ms: i64, hold_ms: i64, keep_ms: i64) -> usize {
    let mut count = 0;
    let mut start = None;
    let mut last = i64::MIN;
    let mut firing = false;
    for &t in times {
        let gap = t.saturating_sub(last);
        let joined = gap <= step_ms || (firing && gap <= keep_ms.saturating_add(step_ms));
        if start.is_none() || !joined {
            (start, firing) = (Some(t), false);
        }
        last = t;
        if !firing && start.is_some_and(|s| t - s >= hold_ms) {
            firing = true;
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, lint_with};
    use super::*;

    #[test]
    fn firings_are_counted() {
        let at = |minutes: &[i64]| minutes.iter().map(|m| m * 60_000).collect::<Vec<_>>();
        let check = |minutes: &[i64], hold: i64, keep: i64, expected: usize| {
            assert_eq!(
                fired(&at(minutes), 60_000, hold * 60_000, keep * 60_000),
                expected,
                "{minutes:?}"
            );
        };
        check(&[], 0, 0, 0);
        check(&[1], 0, 0, 1);
        check(&[1, 2, 3], 0, 0, 1);
        check(&[1, 3, 5], 0, 0, 3);
        check(&[1, 3, 5], 0, 1, 1);
        check(&[1, 2, 3], 2, 0, 1);
        check(&[1, 2, 4, 5], 2, 0, 0);
        check(&[1, 2, 3, 6, 7, 8], 2, 5, 1);
    }

    #[test]
    fn answers_become_findings() {
        let rules = "groups:\n- name: g\n  rules:\n  - record: r:x\n    expr: r:y + x_total\n  - alert: A\n    expr: rate(temp[5m]) > 1 and q{job=\"a\"} > 0\n  - record: r:y\n    expr: absent(gone) or y_count - sum(increase(x_total[5m]))\n";
        let input = Input { name: "f.yml".to_owned(), text: Ok(rules.to_owned()) };
        let mut settings = Settings::default();
        settings.choose(["none", "promql/series", "promql/counter", "alerts/count"]).unwrap();
        let options = Options { settings, ..Options::default() };
        let questions = questions(std::slice::from_ref(&input), &options);
        let asked: Vec<&str> = questions.selectors.keys().map(String::as_str).collect();
        assert_eq!(
            asked,
            ["{__name__=\"temp\"}", "{__name__=\"x_total\"}", "{job=\"a\",__name__=\"q\"}"]
        );
        assert_eq!(questions.alerts.len(), 1);
        let pairs = |all: &[(&str, &str)]| {
            all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let observed = Observed {
            series: HashMap::from([
                ("{__name__=\"temp\"}".to_owned(), Seen::NoMetric),
                ("{__name__=\"x_total\"}".to_owned(), Seen::Before),
                (
                    "{job=\"a\",__name__=\"q\"}".to_owned(),
                    Seen::NoMatch(vec!["job=\"a\"".to_owned()]),
                ),
            ]),
            types: pairs(&[("x", "counter"), ("temp", "gauge"), ("y", "histogram")]),
            names: vec!["tamp".to_owned()],
            alerts: HashMap::from([(
                questions.alerts.first().unwrap().clone(),
                vec![vec![0, 60_000, 300_000], vec![60_000]],
            )]),
            range_ms: 3_600_000,
            step_ms: 60_000,
            ..Observed::default()
        };
        let report = lint_with(vec![input], &options, Some(observed));
        let said: Vec<String> =
            report.diagnostics.iter().map(|d| format!("{} {}", d.id, d.message)).collect();
        assert_eq!(
            said,
            [
                "promql/counter `x_total` is a counter: its value says how long the process has been running",
                "promql/series the series of `x_total` that this selects are gone",
                "alerts/count it would have fired 3 times in the last 1h, for 2 series",
                "promql/counter `temp` is a gauge: `rate` takes every fall of it for a restart",
                "promql/series the server has had no `temp` for 1h",
                "promql/series the server has `q`, but none with job=\"a\"",
            ]
        );
    }
}
