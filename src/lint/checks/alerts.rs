//! Alerts that fire always, too early, or on and off.

use std::collections::HashSet;
use std::ops::Range;

use super::expressions::range_ms;
use crate::diagnostics::Severity;
use crate::lint::context::{Findings, Project, RuleCx, finding};
use crate::lint::infer::Kind;
use crate::lint::infer::values::{self, Presence};
use crate::model::duration::format_duration;
use crate::model::{METRIC_NAME, MatchOp};
use crate::parser::Expr;
use crate::parser::ast::{BinaryOp, ExprKind, ValueType, VectorSelector};

fn span(expr: &Expr) -> Range<usize> {
    expr.span.start as usize..expr.span.end as usize
}

/// `alerts/comparison`: nothing in the expression depends on a value.
pub(in crate::lint) fn comparison(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    if cx.alert().is_none() {
        return;
    }
    let (facts, inferred) = values::analyse(cx.expr());
    // What always has a result is meant to: a watchdog.
    if facts.presence != Presence::Maybe {
        return;
    }
    let idle: HashSet<usize> =
        inferred.iter().filter(|i| i.kind == Kind::Always).map(|i| i.span.start).collect();
    let search = Search { project: cx.group.project, idle };
    if search.is_conditional(cx.expr(), 0) {
        return;
    }
    let mut with_bool = None;
    cx.expr().walk(&mut |expr| {
        if let ExprKind::Binary(binary) = &expr.kind
            && binary.return_bool
        {
            with_bool.get_or_insert(binary.op_span.start as usize..binary.op_span.end as usize);
        }
    });
    let mut problem = finding("this alert fires for every series there is, whatever its value");
    problem = match (with_bool, inferred.iter().find(|i| i.kind == Kind::Always)) {
        (Some(at), _) => problem
            .at(cx.in_expr(at))
            .label("`bool` gives 0 or 1, and both fire")
            .help("leave `bool` out"),
        (None, Some(idle)) => {
            let mut problem = problem.at(cx.in_expr(idle.span.clone())).label("always true");
            for (range, label) in &idle.related {
                problem = problem.related(cx.in_expr(range.clone()), label.clone());
            }
            problem
        }
        (None, None) => {
            problem.at(cx.in_expr(span(cx.expr()))).help("compare it with something: `... > 0`")
        }
    };
    out.rule(cx, problem);
}

struct Search<'a> {
    project: &'a Project<'a>,
    /// Starts of comparisons that are always true.
    idle: HashSet<usize>,
}

impl Search<'_> {
    /// Whether there is a result only under some condition. `depth` bounds the way through
    /// recording rules.
    fn is_conditional(&self, expr: &Expr, depth: usize) -> bool {
        let inner = |e: &Expr| self.is_conditional(e, depth);
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => false,
            ExprKind::VectorSelector(selector) => self.is_conditional_metric(selector, depth),
            ExprKind::MatrixSelector(matrix) => self.is_conditional_metric(&matrix.selector, depth),
            ExprKind::Subquery(subquery) => inner(&subquery.expr),
            ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => inner(e),
            ExprKind::Aggregate(aggregate) => inner(&aggregate.expr),
            ExprKind::Call(call) => match call.function.name {
                "absent" | "absent_over_time" => true,
                "scalar" | "vector" => false,
                _ => call.args.iter().any(inner),
            },
            ExprKind::Binary(binary) => match binary.op {
                BinaryOp::And | BinaryOp::Unless => true,
                BinaryOp::Or => inner(&binary.lhs) && inner(&binary.rhs),
                op if op.is_comparison() && !binary.return_bool => {
                    !self.idle.contains(&(binary.op_span.start as usize))
                        || inner(&binary.lhs)
                        || inner(&binary.rhs)
                }
                _ => inner(&binary.lhs) || inner(&binary.rhs),
            },
        }
    }

    /// Alerts, and what is recorded under a condition.
    fn is_conditional_metric(&self, selector: &VectorSelector, depth: usize) -> bool {
        let named = selector.matchers.iter().find(|m| &*m.name == METRIC_NAME);
        let Some(name) = named.filter(|m| m.op == MatchOp::Equal).map(|m| &*m.value) else {
            return false;
        };
        if matches!(name, "ALERTS" | "ALERTS_FOR_STATE") {
            return true;
        }
        let writers = self.project.recorded.get(name).into_iter().flatten();
        depth < 3
            && writers.take(8).filter_map(|place| self.project.rule(*place)).any(|rule| {
                let (_, inferred) = values::analyse(rule.expr());
                let always = inferred.iter().filter(|i| i.kind == Kind::Always);
                let idle = always.map(|i| i.span.start).collect();
                let search = Search { project: self.project, idle };
                search.is_conditional(rule.expr(), depth + 1)
            })
    }
}

/// `alerts/for`
pub(in crate::lint) fn hold(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(alert) = cx.alert() else { return };
    for (field, ms) in [("for", alert.for_ms), ("keep_firing_for", alert.keep_firing_for_ms)] {
        let Some((key, node)) = cx.field(field) else { continue };
        let whole = cx.file().span(key).start..cx.file().span(node).end;
        if ms == 0 {
            let problem = finding(format!("`{field}` of 0 is what holds without it"));
            out.rule_as(cx, Some(Severity::Info), None, problem.at(whole));
            continue;
        }
        let Some(interval) = cx.group.interval_ms().filter(|interval| ms < *interval) else {
            continue;
        };
        let (own, every) = (format_duration(ms), format_duration(interval));
        let problem = finding(format!(
            "`{field}` of {own} is shorter than the interval of {every} at which it is looked at"
        ));
        let (severity, note) = match field {
            "for" => {
                (Severity::Info, format!("the alert fires at the second evaluation, after {every}"))
            }
            _ => (
                Severity::Warning,
                "at the next evaluation it is over already: it has no effect".to_owned(),
            ),
        };
        out.rule_as(cx, Some(severity), None, problem.at(whole).note(note));
    }
}

/// `alerts/absent`
pub(in crate::lint) fn absent(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    if cx.alert().is_none_or(|alert| alert.for_ms > 0) {
        return;
    }
    let mut found = None;
    cx.expr().walk(&mut |expr| {
        if let ExprKind::Call(call) = &expr.kind
            && call.function.name == "absent"
        {
            found.get_or_insert(span(expr).start..span(expr).start + "absent".len());
        }
    });
    if let Some(at) = found {
        let problem =
            finding("without `for`, this fires at every restart, before the first scrape");
        out.rule(
            cx,
            problem
                .at(cx.in_expr(at))
                .help("give it a `for` of at least two scrape intervals, e.g. `for: 5m`"),
        );
    }
}

/// `alerts/flapping`
pub(in crate::lint) fn flapping(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    if cx.alert().is_none() {
        return;
    }
    let interval = cx.group.interval_ms();
    let mut found = Vec::new();
    cx.expr().walk(&mut |expr| match &expr.kind {
        ExprKind::Call(call) if matches!(call.function.name, "irate" | "idelta") => {
            let name = call.function.name;
            let at = span(expr).start..span(expr).start + name.len();
            let (slow, why) = match name {
                "irate" => ("rate", "the last two samples"),
                _ => ("delta", "the last two samples"),
            };
            let problem =
                finding(format!("`{name}` looks at {why} alone: one dip resolves the alert"))
                    .note("`for` starts again each time")
                    .help(format!("alert on `{slow}`"));
            found.push((at, problem));
        }
        ExprKind::Call(call) => {
            let Some(interval) = interval else { return };
            let name = call.function.name;
            let of_window = matches!(name, "rate" | "increase" | "delta" | "changes" | "resets")
                || name.ends_with("_over_time");
            let matrix = call.args.iter().find(|a| a.value_type() == ValueType::RangeVector);
            let range = matrix.and_then(|a| match &a.unparenthesised().kind {
                ExprKind::MatrixSelector(matrix) => range_ms(matrix),
                _ => None,
            });
            if let (true, Some(range), Some(matrix)) = (of_window, range, matrix)
                && range < interval
            {
                let (own, every) = (format_duration(range), format_duration(interval));
                let problem = finding(format!(
                    "this looks back {own}, every {every}: what happens in between is never seen"
                ));
                found.push((span(matrix), problem.help(format!("look back at least {every}"))));
            }
        }
        _ => {}
    });
    for (at, problem) in found {
        out.rule(cx, problem.at(cx.in_expr(at)));
    }
}
