//! Making up for evaluations that were missed: through a restart, a tick that took too
//! long, or a source that did not answer.
//!
//! Missed ticks are evaluated at their own times, the oldest first, before the tick that is
//! due. Gaps in recordings are filled and alerts move on with the times of the ticks; what
//! is to be sent of it is sent at the tick that is due, so nobody is told of an alert that
//! came and went meanwhile. Where no rule reads what it or a later one wrote the tick
//! before, the group goes rule by rule and each query runs once over all ticks; the result
//! is that of tick by tick.
//!
//! Groups that tick together make up for missed ticks in the order in which they evaluate
//! any other: a group that waits for others goes tick by tick and rule by rule, and every
//! group shows from the start which tick it is at, so that nobody takes it to be done.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;

use super::config::GroupSpec;
use super::error::RuleError;
use super::graph::{RuleGraph, Sees};
use super::group::{Context, Group, Rule, is_source_failure, panic_text, samples_of_failure};
use super::mates::Mates;
use super::order::asks;
use super::outcome::{Answer, Outcome};
use super::policy::OnNoData;
use super::recording::{Names, record};
use super::write::{Written, write};
use crate::functions::{Kernel, Operator};
use crate::model::value::VectorSample;
use crate::model::{Labels, Sample, StepGrid, TimestampMs, Value};
use crate::parser::Expr;
use crate::parser::ast::{AtModifier, DurationExpr, DurationKind, ExprKind, Modifiers};
use crate::storage::AppendError;

/// Most ticks made up for at one time: the latest ones.
const TICKS_MAX: i64 = 1_000;

/// Ticks one query covers: what it yields is held in memory.
const TICKS_PER_QUERY: i64 = 100;

/// Whether a group has to be taken tick by tick.
pub(super) fn is_sequential(spec: &GroupSpec, graph: &RuleGraph) -> bool {
    let asks = spec.rules.iter().any(|rule| asks(rule));
    asks || graph.edges().any(|edge| edge.sees == Sees::PreviousTick)
}

/// The first tick that the group evaluates when `tick` is due: that, or one that is made up
/// for before.
pub(super) fn first_to_do(group: &Group, cx: &Context, tick: TimestampMs) -> TimestampMs {
    tick - made_up(group, missed(group, cx, tick)) * group.interval_ms
}

/// How many ticks before `tick` were not done with.
fn missed(group: &Group, cx: &Context, tick: TimestampMs) -> i64 {
    if group.policy.catch_up_ms <= 0 {
        return 0;
    }
    let last = group.watermark(cx).unwrap_or(tick);
    tick.saturating_sub(last).saturating_sub(1).div_euclid(group.interval_ms).max(0)
}

/// How many of so many missed ticks are made up for: the latest ones.
fn made_up(group: &Group, missed: i64) -> i64 {
    missed.min(group.policy.catch_up_ms / group.interval_ms).min(TICKS_MAX)
}

/// Evaluates what the group missed before `tick`, as far as it is to be made up for.
pub(super) async fn catch_up(
    group: &Group,
    cx: &Context,
    tick: TimestampMs,
    stop: impl Fn() -> bool,
) {
    let interval_ms = group.interval_ms;
    let (Some(last), missed) = (group.watermark(cx), missed(group, cx, tick)) else { return };
    if missed <= 0 {
        return;
    }
    let restarted = !group.has_run();
    let made_up = made_up(group, missed);
    let mut next = tick - made_up * interval_ms;
    if made_up < missed {
        skip(group, missed - made_up);
        group.set_watermark(cx, next - interval_ms);
    }
    if restarted {
        seed(group, cx, last).await;
    }
    let mates = group.mates.load_full();
    let mut mates = mates.wait_for_others().then_some(&*mates);
    group.progress.at(next);
    let mut done = 0;
    while done < made_up && !stop() {
        let len = match group.sequential || mates.is_some() {
            true => 1,
            false => (made_up - done).min(TICKS_PER_QUERY),
        };
        let ticks = StepGrid { start_ms: next, step_ms: interval_ms, len: len as u32 };
        if !evaluate(group, cx, ticks, &mut mates, tick).await {
            // The source is down: another try when the next tick is due.
            break;
        }
        done += len;
        next += len * interval_ms;
        group.set_watermark(cx, ticks.end_ms());
        group.progress.at(next);
        group.metrics.catch_up_evaluations.inc_by(len.unsigned_abs());
    }
    for alerting in group.rules.iter().filter_map(|rule| rule.alerting.as_ref()) {
        alerting.states.lock().forget_untold();
    }
    if done > 0 {
        tracing::info!(
            group = group.spec.name,
            file = group.spec.file,
            evaluations = done,
            "missed evaluations were made up for"
        );
    }
}

/// Notes that ticks will never be evaluated.
pub(super) fn skip(group: &Group, ticks: i64) {
    group.metrics.catch_up_skipped.inc_by(ticks.unsigned_abs());
    tracing::warn!(
        group = group.spec.name,
        file = group.spec.file,
        evaluations = ticks,
        "missed evaluations are not made up for: they are older than catch_up allows, too many, or the source answered again only afterwards"
    );
}

/// After a restart nobody knows which series the rules wrote last; those that ended
/// meanwhile must end. Asked for anew, at the last tick that is done with.
async fn seed(group: &Group, cx: &Context, last: TimestampMs) {
    let at = last - group.query_offset_ms;
    for rule in &group.rules {
        let labels: Vec<Labels> = match &rule.alerting {
            Some(alerting) => {
                alerting.all_series(&rule.spec).into_iter().map(|(labels, _)| labels).collect()
            }
            None => {
                let Ok(result) = rule.query.instant(&cx.source, at, &cx.run).await else {
                    continue;
                };
                let Ok(answer) = Answer::new(result) else { continue };
                let (spec, limit) = (&rule.spec, group.spec.limit);
                let mut names = Names::default();
                let made = record(answer.samples, spec.name(), &spec.labels, limit, &mut names);
                made.unwrap_or_default().into_iter().map(|(labels, _)| labels).collect()
            }
        };
        *rule.previous.lock() = Written::of(labels);
    }
}

/// Evaluates all rules over `ticks`, rule by rule. False when nothing could be read.
/// Rules that read from `mates` wait for them; once that took until long after `due`, no
/// more.
async fn evaluate(
    group: &Group,
    cx: &Context,
    ticks: StepGrid,
    mates: &mut Option<&Mates>,
    due: TimestampMs,
) -> bool {
    let (mut asked, mut down) = (false, true);
    for (index, rule) in group.rules.iter().enumerate() {
        if let Some(waiting) = *mates {
            group.progress.committed(ticks.start_ms, index);
            if !waiting.wait(group, index, (ticks.start_ms, due), cx).await {
                *mates = None;
            }
        }
        // Its alerts are not known yet: nothing there that could move on.
        if rule.alerting.as_ref().is_some_and(|a| !a.restored.load(Ordering::Relaxed)) {
            continue;
        }
        asked = true;
        let outcome = AssertUnwindSafe(evaluate_rule(group, rule, cx, ticks)).catch_unwind().await;
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(panic) => Some(RuleError::Panic(panic_text(&*panic))),
        };
        down &= error.as_ref().is_some_and(is_source_failure);
        if let Some(error) = error {
            let (group, rule) = (&group.spec.name, rule.spec.name());
            tracing::warn!(group, rule, %error, "making up for missed evaluations of a rule failed");
        }
    }
    !(asked && down)
}

/// Evaluates one rule at each of `ticks`. Fails with the last error of a query.
async fn evaluate_rule(
    group: &Group,
    rule: &Rule,
    cx: &Context,
    ticks: StepGrid,
) -> Result<(), RuleError> {
    let grid = StepGrid { start_ms: ticks.start_ms - group.query_offset_ms, ..ticks };
    let together = ticks.len > 1 && can_range(rule);
    let mut answers = match together {
        true => range(rule, cx, grid).await?.map(Vec::into_iter),
        false => None,
    };
    let mut failed = None;
    for (ts, at) in ticks.iter().zip(grid.iter()) {
        let answer = match answers.as_mut().map(Iterator::next) {
            Some(answer) => Ok(answer.expect("BUG: a range answers every step")),
            None => match rule.query.instant(&cx.source, at, &cx.run).await {
                Ok(result) => Answer::new(result),
                Err(e) => Err(e.into()),
            },
        };
        let made = match answer {
            Ok(answer) => group.samples_of(rule, cx, answer, (ts, at)).await,
            Err(e) => Err(e),
        };
        let samples = match made {
            Ok(samples) => Some(samples),
            // What could not be read is tried again: it leaves no trace.
            Err(e) if is_source_failure(&e) => return Err(e),
            Err(e) => {
                let samples = samples_of_failure(rule, cx, &e, ts);
                failed = Some(e);
                samples
            }
        };
        if let Some(alerting) = &rule.alerting {
            alerting.commit(cx, ts, group.interval_ms, false).await;
        }
        if let Some(samples) = samples {
            store(group, rule, cx, samples, at).await?;
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn store(
    group: &Group,
    rule: &Rule,
    cx: &Context,
    samples: Vec<(Labels, Sample)>,
    at: TimestampMs,
) -> Result<(), RuleError> {
    let refused = write(&cx.sink, &rule.previous, samples, at).await.map_err(RuleError::Commit)?;
    let Some((error, refused)) = refused else { return Ok(()) };
    let late =
        matches!(error, AppendError::OutOfOrder | AppendError::TooOld | AppendError::OutOfBounds);
    if late && !group.refusal_told.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            group = group.spec.name, rule = rule.spec.name(), at_ms = at, refused, %error,
            "the store refuses samples of missed evaluations because they are late; gaps of recordings stay, alerts catch up all the same (said once for this group)"
        );
    }
    Ok(())
}

/// The answers at all steps of `grid` from one query; `None` when it holds too much for
/// one, or some step has an error of its own.
async fn range(
    rule: &Rule,
    cx: &Context,
    grid: StepGrid,
) -> Result<Option<Vec<Answer>>, RuleError> {
    let result = match rule.query.range(&cx.source, grid, &cx.run).await.map_err(RuleError::from) {
        Ok(result) => result,
        Err(e) if is_source_failure(&e) => return Err(e),
        Err(_) => return Ok(None),
    };
    let (partial, missing) = (result.is_partial(), result.stats.input_missing);
    let Value::Matrix(matrix) = result.value else { return Ok(None) };
    let mut steps: Vec<Vec<VectorSample>> = vec![Vec::new(); grid.len as usize];
    for series in matrix {
        for (ts, sample) in series.points {
            let step = (ts - grid.start_ms) / grid.step_ms;
            steps[step as usize].push(VectorSample { labels: series.labels.clone(), ts, sample });
        }
    }
    let answer = |samples: Vec<VectorSample>| {
        let outcome = match samples.is_empty() {
            _ if partial => Outcome::Partial,
            false => Outcome::Matched,
            true if missing => Outcome::NoData,
            true => Outcome::FilterFalse,
        };
        Answer { samples, outcome }
    };
    Ok(Some(steps.into_iter().map(answer).collect()))
}

/// Whether one query over all ticks gives what one at each gives.
fn can_range(rule: &Rule) -> bool {
    // A range tells of all its steps together whether there was data.
    let per_tick = rule.alerting.is_some() && rule.policy.on_no_data == OnNoData::Fire;
    !per_tick && !looks_at_query(&rule.spec.expr.expr)
}

/// Whether the expression knows when the query begins and ends: at a tick it is the tick.
pub(super) fn looks_at_query(expr: &Expr) -> bool {
    let modified = |m: &Modifiers| {
        matches!(m.at, Some(AtModifier::Start | AtModifier::End))
            || m.offset.as_ref().is_some_and(computed)
    };
    let own = match &expr.kind {
        ExprKind::VectorSelector(selector) => modified(&selector.modifiers),
        ExprKind::MatrixSelector(matrix) => {
            modified(&matrix.selector.modifiers) || computed(&matrix.range)
        }
        ExprKind::Subquery(subquery) => {
            modified(&subquery.modifiers)
                || computed(&subquery.range)
                || subquery.step.as_ref().is_some_and(computed)
        }
        ExprKind::Call(call) => matches!(
            call.function.kernel,
            Kernel::Operator(
                Operator::QueryStart
                    | Operator::QueryEnd
                    | Operator::QueryRange
                    | Operator::QueryStep
            )
        ),
        _ => false,
    };
    own || expr.children().any(looks_at_query)
}

/// Whether a duration depends on the query's step or range.
fn computed(duration: &DurationExpr) -> bool {
    match &duration.kind {
        DurationKind::Number(_) => false,
        DurationKind::Step | DurationKind::Range => true,
        DurationKind::Paren(inner) | DurationKind::Unary { expr: inner, .. } => computed(inner),
        DurationKind::MinOf(a, b)
        | DurationKind::MaxOf(a, b)
        | DurationKind::Binary { lhs: a, rhs: b, .. } => computed(a) || computed(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParserOptions, parse};
    use crate::rules::config::{LoadOptions, load_source};
    use crate::rules::graph::Ticks;

    #[test]
    fn what_knows_the_query_is_asked_tick_by_tick() {
        for (expr, expected) in [
            ("sum(rate(x[5m] offset 1m)) > 3", false),
            ("x @ 5", false),
            ("max_over_time(x[1h:5m])", false),
            ("x @ end()", true),
            ("1 + sum(x offset step())", true),
            ("rate(x[min_of(5m, 2 * range())])", true),
            ("max_over_time(x[1h:step()] @ 7)", true),
            ("x > step()", true),
        ] {
            let parsed = parse(expr, &ParserOptions::all()).unwrap();
            assert_eq!(looks_at_query(&parsed), expected, "{expr}");
        }
    }

    #[test]
    fn rules_that_read_the_tick_before_are_taken_tick_by_tick() {
        for (rules, expected) in [
            ("{record: a, expr: x}, {record: b, expr: a + y}, {alert: C, expr: b}", false),
            ("{record: a, expr: 'a offset 1m + 1'}", true),
            ("{record: a, expr: b}, {record: b, expr: x}", true),
            ("{alert: A, expr: 'x unless ALERTS{alertname=\"A\"}'}", true),
            ("{alert: A, expr: x, annotations: {t: '{{ query \"a\" | first | value }}'}}", true),
        ] {
            let text = format!("groups: [{{name: g, rules: [{rules}]}}]");
            let loaded = load_source("f.yml", &text, &LoadOptions::default());
            let spec = &loaded.groups[0];
            let ticks = Ticks { interval_ms: 60_000, offset_ms: None };
            let graph = RuleGraph::new([(spec, ticks)]);
            assert_eq!(is_sequential(spec, &graph), expected, "{rules}");
        }
    }
}
