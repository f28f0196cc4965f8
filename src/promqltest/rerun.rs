//! Further queries that must give what an instant query gave.
//!
//! With every selector pinned to the evaluation time by `@`, the query has the same
//! result at any other time; printed and parsed again, it is the same query; and the
//! middle step of a range query around a time equals the instant query at that time.

use crate::model::value::VectorSample;
use crate::model::{StepGrid, TimestampMs, Value};
use crate::parser::Expr;
use crate::parser::ast::{AtModifier, ExprKind, Modifiers};

/// Functions whose result depends on the evaluation time whatever is pinned.
const TIME_DEPENDENT: &[&str] = &[
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "start_timestamp",
    "step",
    "time",
    "timestamp",
    "year",
];

/// Half the length of the range query around a time.
const AROUND_MS: i64 = 60_000;

/// A query to run at a time, expecting the result of the original.
#[derive(Clone, Debug)]
pub(super) struct Rerun {
    pub(super) query: String,
    pub(super) at_ms: TimestampMs,
}

/// The pinned query at other times; none when a function depends on the time.
pub(super) fn pinned(expr: &Expr, at_ms: TimestampMs) -> Vec<Rerun> {
    if calls_any(expr, TIME_DEPENDENT) {
        return Vec::new();
    }
    let mut expr = expr.clone();
    pin(&mut expr, at_ms);
    let query = expr.to_string();
    let times: Vec<TimestampMs> = if at_ms == 0 {
        vec![-1000, 0, 1000]
    } else {
        vec![-10 * at_ms, 0, at_ms / 5, at_ms, 10 * at_ms]
    };
    times.into_iter().map(|at_ms| Rerun { query: query.clone(), at_ms }).collect()
}

/// The range query around a time; none when the query asks for its own range.
pub(super) fn around(expr: &Expr, at_ms: TimestampMs) -> Option<StepGrid> {
    if calls_any(expr, &["start", "end", "range", "step"]) || uses_query_times(expr) {
        return None;
    }
    StepGrid::range(at_ms - AROUND_MS, at_ms + AROUND_MS, AROUND_MS)
}

/// The result at the middle step, as the instant query would give it.
pub(super) fn middle(range: &Value, at_ms: TimestampMs, scalar: bool) -> Value {
    let Value::Matrix(series) = range else { return range.clone() };
    let samples: Vec<VectorSample> = series
        .iter()
        .filter_map(|s| {
            let (ts, sample) = s.points.iter().find(|(ts, _)| *ts == at_ms)?;
            Some(VectorSample { labels: s.labels.clone(), ts: *ts, sample: sample.clone() })
        })
        .collect();
    match samples.as_slice() {
        [VectorSample { sample: crate::model::Sample::Float(value), .. }] if scalar => {
            Value::Scalar { ts: at_ms, value: *value }
        }
        _ => Value::Vector(samples),
    }
}

fn calls_any(expr: &Expr, names: &[&str]) -> bool {
    let mut found = false;
    expr.walk(&mut |e| {
        if let ExprKind::Call(call) = &e.kind {
            found |= names.contains(&call.function.name);
        }
    });
    found
}

/// True for `@ start()`, `@ end()` and durations made of `step()` or `range()`.
fn uses_query_times(expr: &Expr) -> bool {
    let text = expr.to_string();
    ["start()", "end()", "step()", "range()"].iter().any(|call| text.contains(call))
}

fn pin(expr: &mut Expr, at_ms: TimestampMs) {
    let at = |modifiers: &mut Modifiers| {
        if !matches!(modifiers.at, Some(AtModifier::Timestamp(_))) {
            modifiers.at = Some(AtModifier::Timestamp(at_ms));
        }
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => {}
        ExprKind::VectorSelector(selector) => at(&mut selector.modifiers),
        ExprKind::MatrixSelector(matrix) => at(&mut matrix.selector.modifiers),
        // What a pinned subquery contains is evaluated on its own grid.
        ExprKind::Subquery(subquery) => at(&mut subquery.modifiers),
        ExprKind::Call(call) => call.args.iter_mut().for_each(|arg| pin(arg, at_ms)),
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &mut aggregate.param {
                pin(param, at_ms);
            }
            pin(&mut aggregate.expr, at_ms);
        }
        ExprKind::Binary(binary) => {
            pin(&mut binary.lhs, at_ms);
            pin(&mut binary.rhs, at_ms);
        }
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => pin(expr, at_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParserOptions, parse};

    #[test]
    fn selectors_are_pinned_outside_subqueries_only() {
        let check = |query: &str, expected: &str| {
            let expr = parse(query, &ParserOptions::all()).unwrap();
            let reruns = pinned(&expr, 50_000);
            let got = reruns.first().map_or("", |r| &r.query);
            assert_eq!(got, expected, "{query}");
        };
        check("a + rate(b[1m])", "a @ 50.000 + rate(b[1m] @ 50.000)");
        check("a @ 7", "a @ 7.000");
        check("sum(max_over_time(a[5m:1m]))", "sum(max_over_time(a[5m:1m] @ 50.000))");
        check("a * time()", "");
        let expr = parse("a", &ParserOptions::all()).unwrap();
        let times: Vec<_> = pinned(&expr, 50_000).iter().map(|r| r.at_ms).collect();
        assert_eq!(times, [-500_000, 0, 10_000, 50_000, 500_000]);
    }
}
