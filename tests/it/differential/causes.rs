//! Why two answers differ: the innermost parts of an expression that differ although what
//! they are made of does not. The difference is excused when every such part is of a kind
//! that has changed since 2.42, and differs in exactly the way it has changed.

use serde_json::Value;
use watchfire::parser::ast::{BinaryOp, ExprKind};
use watchfire::parser::{self, Expr, ParserOptions};

use super::{Pair, SEED, same, values};

/// All of the data, a step a sample: what is below a subquery is asked for over all times.
const WHOLE: (&str, &[(&str, &str)]) =
    ("query_range", &[("start", "1699996400.5"), ("end", "1699999990.5"), ("step", "15")]);

/// When a question is asked: endpoint and fields.
pub type When<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// The reasons why the answers to `text` differ; `Err` names a part without one.
pub async fn reasons(pair: &Pair, text: &str, when: When<'_>) -> Result<Vec<&'static str>, String> {
    let expr = parser::parse(text, &ParserOptions::default()).map_err(|e| e.to_string())?;
    let by_chance = "2.42 answers now so, now so: a hash map chooses among equals";
    let (_, first) = ask(pair, &expr, when).await;
    for _ in 0..4 {
        let (theirs, ours) = ask(pair, &expr, when).await;
        if same(&theirs, &ours) {
            return Ok(vec![by_chance]);
        }
    }
    let mut reasons = vec![];
    let mut pending = vec![(&expr, when)];
    while let Some((expr, when)) = pending.pop() {
        let (theirs, ours) = ask(pair, expr, when).await;
        if same(&theirs, &ours) {
            continue;
        }
        let below = pending.len();
        for child in parts(expr) {
            let when = if matches!(child.kind, ExprKind::Subquery(_)) { WHOLE } else { when };
            let child = if let ExprKind::Subquery(sub) = &child.kind { &sub.expr } else { child };
            let (theirs, ours) = ask(pair, child, when).await;
            if !same(&theirs, &ours) {
                pending.push((child, when));
            }
        }
        if pending.len() > below {
            continue;
        }
        match reason(expr, &theirs, &ours) {
            Some(reason) => reasons.push(reason),
            None => return Err(format!("seed {SEED}: {expr}\n  theirs {theirs}\n  ours   {ours}")),
        }
    }
    if !reasons.is_empty() {
        return Ok(reasons);
    }
    // Something differed when it was asked first and no more when it was asked again.
    match ask(pair, &expr, when).await.1 == first {
        true => Ok(vec![by_chance]),
        false => Err("our own answers differ from each other".into()),
    }
}

/// Whether 2.42 looks for pinned samples where they are not: it does not pin what is in the
/// parameter of an aggregation, nor what `timestamp` is applied to.
pub fn miscounted(text: &str) -> bool {
    let Ok(expr) = parser::parse(text, &ParserOptions::default()) else { return false };
    let mut found = false;
    expr.walk(&mut |expr| {
        let unpinned = match &expr.kind {
            ExprKind::Aggregate(aggregate) => aggregate.param.as_ref(),
            ExprKind::Call(call) if call.function.name == "timestamp" => call.args.first(),
            _ => None,
        };
        found |= unpinned.is_some_and(|e| e.to_string().contains('@'));
    });
    found
}

/// The parts that can be asked for by themselves; subqueries stand for what is below them.
fn parts(expr: &Expr) -> impl Iterator<Item = &Expr> {
    expr.children().filter(|e| !matches!(e.kind, ExprKind::MatrixSelector(_) | ExprKind::String(_)))
}

async fn ask(pair: &Pair, expr: &Expr, (endpoint, times): When<'_>) -> (Value, Value) {
    let text = expr.to_string();
    pair.ask(endpoint, &[&[("query", text.as_str())], times].concat()).await
}

fn reason(expr: &Expr, theirs: &Value, ours: &Value) -> Option<&'static str> {
    let different = || different_values(theirs, ours);
    let near = |(old, new): &(f64, f64)| (old - new).abs() <= 1e-5 * old.abs().max(new.abs());
    match &expr.kind {
        ExprKind::Binary(b) if b.op == BinaryOp::Atan2 => {
            let nameless = without_names(theirs);
            let collide = ours["error"] == "vector cannot contain metrics with the same labelset";
            (same(&nameless, ours) || collide).then_some("atan2 kept the metric name in 2.42")
        }
        ExprKind::Binary(b) if b.op.is_comparison() && !b.return_bool => {
            let checked = ours["error"].as_str().is_some_and(|e| e.starts_with("multiple matches"));
            (checked && theirs["status"] == "success")
                .then_some("a match must be unique since 3.9 although a filter discards it")
        }
        ExprKind::Aggregate(a) if matches!(a.op.name, "stddev" | "stdvar") => {
            let different = different()?;
            if different.iter().all(near) {
                return Some("deviations of averages magnify how those are rounded");
            }
            let only = different.iter().all(|(old, new)| *old == 0.0 && new.is_nan());
            only.then_some("the deviation of one infinite value is NaN since 3.0, was 0")
        }
        ExprKind::Aggregate(a) if matches!(a.op.name, "topk" | "bottomk") => (values(theirs)
            == values(ours))
        .then_some("which of equal values is chosen depends on a hash map in 2.42"),
        // A range that starts far before the first sample is cut to half an average interval
        // before it is cut to where a counter would be zero; 2.42 cut to zero first and then
        // took up to 1.1 intervals. With two samples that is 0.6 of what they cover.
        ExprKind::Call(call) if matches!(call.function.name, "rate" | "increase") => {
            let grew = |(old, new): &(f64, f64)| (1.0..=1.6).contains(&(old / new));
            different()?.iter().all(grew).then_some("extrapolation of counters near zero changed")
        }
        _ => None,
    }
}

/// The pairs of values that differ; `None` when the answers differ in anything else.
fn different_values(theirs: &Value, ours: &Value) -> Option<Vec<(f64, f64)>> {
    let mut different = vec![];
    collect(theirs, ours, &mut different)?;
    Some(different)
}

fn collect(theirs: &Value, ours: &Value, different: &mut Vec<(f64, f64)>) -> Option<()> {
    match (theirs, ours) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).try_for_each(|(a, b)| collect(a, b, different))
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            a.iter().try_for_each(|(key, a)| collect(a, b.get(key)?, different))
        }
        _ if same(theirs, ours) => Some(()),
        _ => {
            let number = |v: &Value| v.as_str()?.parse::<f64>().ok();
            different.push((number(theirs)?, number(ours)?));
            Some(())
        }
    }
}

/// An answer whose series have lost their names.
fn without_names(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for series in answer["data"]["result"].as_array_mut().into_iter().flatten() {
        if let Some(metric) = series["metric"].as_object_mut() {
            metric.remove("__name__");
        }
    }
    crate::support::ordered(&answer.to_string())
}
