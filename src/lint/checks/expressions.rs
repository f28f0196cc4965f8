//! Shapes of expressions that work, but not as well as they look.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::lint::context::{Findings, RuleCx, finding};
use crate::lint::infer::values;
use crate::model::duration::format_duration;
use crate::model::{MatchOp, Matcher};
use crate::parser::Expr;
use crate::parser::ast::{
    Aggregate, Binary, BinaryOp, Cardinality, DurationKind, ExprKind, Grouping, MatrixSelector,
    ValueType,
};

fn span(expr: &Expr) -> Range<usize> {
    expr.span.start as usize..expr.span.end as usize
}

/// `promql/nan`: a division inside an aggregation by what may be 0.
pub(in crate::lint) fn nan(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let mut found = Vec::new();
    cx.expr().walk(&mut |expr| {
        if let ExprKind::Aggregate(aggregate) = &expr.kind
            && matches!(aggregate.op.name, "sum" | "avg" | "stddev" | "stdvar")
        {
            divisions(&aggregate.expr, aggregate, &mut found);
        }
    });
    for (aggregate, binary) in found {
        let (name, op) = (aggregate.op.name, binary.op.as_str());
        let divisor = span(&binary.rhs);
        let text = binary.rhs.to_string();
        let guarded = match &binary.rhs.kind {
            _ if text.len() > 40 => "(...".to_owned(),
            ExprKind::Binary(_) => format!("(({text})"),
            _ => format!("({text}"),
        };
        let problem = finding(format!(
            "a single 0 on the right of this `{op}` makes the whole `{name}` NaN or Inf"
        ));
        out.rule(
            cx,
            problem
                .at(cx.in_expr(binary.op_span.start as usize..binary.op_span.end as usize))
                .related(cx.in_expr(divisor), "may be 0")
                .help(format!(
                    "leave zeros out: `{op} {guarded} > 0)`, or divide after the `{name}`"
                )),
        );
    }
}

/// Divisions whose values reach an aggregation one by one.
fn divisions<'a>(
    expr: &'a Expr,
    aggregate: &'a Aggregate,
    found: &mut Vec<(&'a Aggregate, &'a Binary)>,
) {
    match &expr.kind {
        // What is aggregated below is that aggregation's affair.
        ExprKind::Aggregate(_) => {}
        ExprKind::Binary(binary) if binary.op.is_set() => {
            divisions(&binary.lhs, aggregate, found);
            if binary.op == BinaryOp::Or {
                divisions(&binary.rhs, aggregate, found);
            }
        }
        // A comparison lets no NaN pass.
        ExprKind::Binary(binary)
            if binary.op.is_comparison() && !matches!(binary.op, BinaryOp::NotEq) => {}
        ExprKind::Binary(binary) => {
            let risky = matches!(binary.op, BinaryOp::Div | BinaryOp::Mod)
                && binary.rhs.value_type() == ValueType::InstantVector
                && values::analyse(&binary.rhs).0.may_be_zero();
            if risky {
                found.push((aggregate, binary));
            }
            divisions(&binary.lhs, aggregate, found);
            divisions(&binary.rhs, aggregate, found);
        }
        ExprKind::Call(call) if call.function.name.starts_with("clamp") => {}
        _ => expr.children().for_each(|child| divisions(child, aggregate, found)),
    }
}

/// `promql/fragile`: alerts whose set of series changes by itself.
pub(in crate::lint) fn fragile(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(alert) = cx.alert() else { return };
    if let Some(aggregate) = sampled(cx.expr()) {
        let name = aggregate.0.op.name;
        let problem = finding(format!(
            "`{name}` may choose other series at each evaluation, and each is an alert of its own"
        ));
        let at = aggregate.1.start..aggregate.1.start + name.len();
        out.rule(
            cx,
            problem
                .at(cx.in_expr(at))
                .note("alerts come and go, and `for` starts again each time")
                .help("alert on a threshold, and let the notification show the largest"),
        );
    }
    if alert.for_ms > 0 {
        return;
    }
    let mut jobs = Vec::new();
    cx.expr().walk(&mut |expr| {
        if let ExprKind::Binary(binary) = &expr.kind
            && !binary.op.is_set()
            && !binary.op.is_comparison()
            && let (Some(left), Some(right)) =
                (aggregated_jobs(&binary.lhs), aggregated_jobs(&binary.rhs))
            && left.is_disjoint(&right)
        {
            jobs.push(binary.op_span.start as usize..binary.op_span.end as usize);
        }
    });
    for at in jobs {
        let problem =
            finding("the two sides come from different jobs, which are not scraped at once");
        out.rule(
            cx,
            problem
                .at(cx.in_expr(at))
                .note("after a restart one side may be complete while the other is not")
                .help("give it a `for` of at least one scrape interval"),
        );
    }
}

/// The aggregation that chooses which series come out, if one does.
fn sampled(expr: &Expr) -> Option<(&Aggregate, Range<usize>)> {
    match &expr.kind {
        // `topk by (...) (1, ...)` is how one series is kept of several that are alike.
        ExprKind::Aggregate(aggregate) if is_choice(aggregate) && keeps_one(aggregate) => None,
        ExprKind::Aggregate(aggregate) if is_choice(aggregate) => Some((aggregate, span(expr))),
        ExprKind::Aggregate(aggregate) => {
            let (inner, at) = sampled(&aggregate.expr)?;
            // Each group of the choice is always there; only which series stands for it
            // changes, and with it the labels that are not grouped by.
            let steady = match (&aggregate.grouping, &inner.grouping) {
                (Grouping::By(kept), Grouping::By(groups)) => {
                    kept.iter().all(|label| groups.contains(label))
                }
                _ => false,
            };
            (!steady).then_some((inner, at))
        }
        ExprKind::Binary(binary) => {
            let copies = binary.matching.as_ref().is_none_or(|m| !m.include.is_empty());
            let many_to_one = |card| binary.matching.as_ref().is_some_and(|m| m.card == card);
            // The one side of a join gives no labels but those that are copied.
            let left = copies || !many_to_one(Cardinality::OneToMany);
            let right = (copies || !many_to_one(Cardinality::ManyToOne))
                && !matches!(binary.op, BinaryOp::And | BinaryOp::Unless);
            let of_left = if left { sampled(&binary.lhs) } else { None };
            of_left.or_else(|| if right { sampled(&binary.rhs) } else { None })
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => sampled(inner),
        _ => None,
    }
}

fn is_choice(aggregate: &Aggregate) -> bool {
    matches!(aggregate.op.name, "topk" | "bottomk" | "limitk" | "limit_ratio")
}

fn keeps_one(aggregate: &Aggregate) -> bool {
    let one = aggregate.param.as_ref().is_some_and(
        |k| matches!(&k.unparenthesised().kind, ExprKind::Number(n) if n.value == 1.0),
    );
    let grouped = match &aggregate.grouping {
        Grouping::By(labels) => !labels.is_empty(),
        Grouping::Without(_) => true,
    };
    one && grouped && aggregate.op.name != "limit_ratio"
}

/// The jobs an aggregation selects by name; nothing unless all its selectors say so.
fn aggregated_jobs(expr: &Expr) -> Option<BTreeSet<String>> {
    if !matches!(expr.unparenthesised().kind, ExprKind::Aggregate(_)) {
        return None;
    }
    let mut jobs = BTreeSet::new();
    for matchers in expr.selectors() {
        let job = |m: &&Matcher| &*m.name == "job" && m.op == MatchOp::Equal;
        jobs.insert(matchers.iter().find(job)?.value.to_string());
    }
    Some(jobs)
}

/// `promql/rate`: windows too short to hold two samples, and rates that start again.
pub(in crate::lint) fn rate(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let settings = cx.settings();
    let scrape = settings.scrape_interval.map(|d| d.0);
    let mut found = Vec::new();
    cx.expr().walk(&mut |expr| {
        let ExprKind::Call(call) = &expr.kind else { return };
        let name = call.function.name;
        if !matches!(name, "rate" | "irate" | "increase" | "delta" | "idelta" | "deriv") {
            return;
        }
        let Some(argument) = call.args.first() else { return };
        match &argument.unparenthesised().kind {
            ExprKind::MatrixSelector(matrix) => {
                if let (Some(range), Some(scrape)) = (range_ms(matrix), scrape)
                    && range < 2 * scrape
                {
                    found.push((span(argument), Trouble::Short { range, scrape, name }));
                }
                if let Some(metric) = &matrix.selector.name
                    && matches!(name, "rate" | "irate" | "increase")
                {
                    found.push((span(argument), Trouble::Recorded { metric, name }));
                }
            }
            ExprKind::Subquery(subquery) if matches!(name, "rate" | "irate" | "increase") => {
                if let ExprKind::Aggregate(inner) = &subquery.expr.unparenthesised().kind
                    && inner.op.name == "sum"
                {
                    found.push((span(argument), Trouble::OfSum { name }));
                }
            }
            _ => {}
        }
    });
    for (at, trouble) in found {
        match trouble {
            Trouble::Short { range, scrape, name } => {
                let problem = finding(format!(
                    "`{name}` over {} needs two samples, which a scrape interval of {} may not give",
                    format_duration(range),
                    format_duration(scrape)
                ));
                out.rule(
                    cx,
                    problem
                        .at(cx.in_expr(at))
                        .help(format!("look back at least {}", format_duration(4 * scrape))),
                );
            }
            Trouble::OfSum { name } => {
                let problem = finding(format!(
                    "`{name}` of a sum takes every restart of one instance for a counter reset of all"
                ));
                let help = format!("sum the rates: `sum({name}(...))`");
                out.rule(cx, problem.at(cx.in_expr(at)).help(help));
            }
            Trouble::Recorded { metric, name } => of_recorded(cx, metric, name, at, out),
        }
    }
}

enum Trouble<'a> {
    Short { range: i64, scrape: i64, name: &'static str },
    OfSum { name: &'static str },
    Recorded { metric: &'a str, name: &'static str },
}

/// `rate(job:requests:sum[5m])` where the rule records `sum(requests_total)`.
fn of_recorded(
    cx: &RuleCx<'_>,
    metric: &str,
    name: &str,
    at: Range<usize>,
    out: &mut Findings<'_>,
) {
    let project = cx.group.project;
    let writers = project.recorded.get(metric).into_iter().flatten();
    for writer in writers.filter_map(|place| project.rule(*place)) {
        let ExprKind::Aggregate(aggregate) = &writer.expr().unparenthesised().kind else {
            continue;
        };
        let raw = matches!(
            &aggregate.expr.unparenthesised().kind,
            ExprKind::VectorSelector(selector)
                if selector.name.as_ref().is_some_and(|n| n.ends_with("_total") || n.ends_with("_bucket"))
        );
        if aggregate.op.name != "sum" || !raw {
            continue;
        }
        let mut problem = finding(format!(
            "`{metric}` is a sum of counters: `{name}` takes every restart of one instance for a \
             reset of all"
        ));
        if writer.file().index == cx.file().index {
            problem = problem.related(writer.at_name(), "it is recorded here");
        }
        out.rule(
            cx,
            problem.at(cx.in_expr(at)).help(format!("record the rate: `sum({name}(...))`")),
        );
        return;
    }
}

/// The range of a selector in milliseconds, when it is written out.
pub(super) fn range_ms(matrix: &MatrixSelector) -> Option<i64> {
    match &matrix.range.kind {
        DurationKind::Number(literal) => Some((literal.value * 1000.0) as i64),
        _ => None,
    }
}
