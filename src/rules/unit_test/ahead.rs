//! Tests whose rules can be evaluated one after the other, each over many ticks by one
//! query, instead of all of them tick by tick.
//!
//! That gives the same where no rule reads what it or a later one wrote for an earlier
//! tick, none sees what comes after the tick, and nothing goes wrong: [`suits`] says so of
//! rules, and [`evaluate`] gives up as soon as anything at all goes wrong (a query fails,
//! the store refuses a sample), so that the test is run tick by tick and its report is of
//! that run.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::data::Feed;
use super::run::{Run, Wanted, expected_of};
use super::schema::{ExpectedAlert, TestFile};
use crate::model::value::{Series, VectorSample, stale_nan};
use crate::model::{Labels, Sample, StepGrid, TimestampMs, Value};
use crate::parser::Expr;
use crate::parser::ast::{DurationExpr, DurationKind, ExprKind, Modifiers, VectorSelector};
use crate::rules::alert::Alert;
use crate::rules::catch_up::{is_sequential, looks_at_query};
use crate::rules::config::GroupSpec;
use crate::rules::graph::{RuleGraph, Ticks};
use crate::rules::group::{Group, Rule};
use crate::rules::outcome::{Answer, Outcome};
use crate::rules::policy::{GroupPolicySpec, PolicySpec};
use crate::rules::recording::{Names, record};
use crate::rules::write::write;
use crate::storage::memory::MemoryStorage;

/// Ticks one query covers: what it yields is held in memory.
const TICKS_PER_QUERY: i64 = 500;

/// Whether these rules may be evaluated ahead of each other.
pub(super) fn suits(file: &TestFile, specs: &[GroupSpec]) -> bool {
    let plain = |group: &GroupSpec| {
        group.limit == 0
            && group.query_offset_ms.unwrap_or(0) == 0
            && group.policy == PolicySpec::default()
            && group.group_policy == GroupPolicySpec::default()
            && group.rules.iter().all(|rule| {
                rule.policy == PolicySpec::default() && !sees_beyond_tick(&rule.expr.expr)
            })
    };
    if file.use_group_intervals || !specs.iter().all(plain) {
        return false;
    }
    // They run as the rules of one group would.
    let mut groups: Vec<&GroupSpec> = specs.iter().collect();
    groups.sort_by_key(|group| file.order_of(group));
    let Some((first, others)) = groups.split_first() else { return true };
    let mut all = (*first).clone();
    all.rules.extend(others.iter().flat_map(|group| group.rules.iter().cloned()));
    let ticks = Ticks { interval_ms: file.evaluation_interval_ms.max(1), offset_ms: Some(0) };
    let graph = RuleGraph::new([(&all, ticks)]);
    !is_sequential(&all, &graph)
}

/// Whether an expression may look at samples after the tick it is evaluated at, or knows
/// of the query it is part of.
fn sees_beyond_tick(expr: &Expr) -> bool {
    fn later(expr: &Expr) -> bool {
        let own = match &expr.kind {
            ExprKind::VectorSelector(selector) => selects_later(selector),
            ExprKind::MatrixSelector(matrix) => selects_later(&matrix.selector),
            ExprKind::Subquery(subquery) => moved(&subquery.modifiers),
            _ => false,
        };
        own || expr.children().any(later)
    }
    looks_at_query(expr) || later(expr)
}

/// Smoothed ranges take in the sample that follows.
fn selects_later(selector: &VectorSelector) -> bool {
    selector.extension.is_some() || moved(&selector.modifiers)
}

fn moved(modifiers: &Modifiers) -> bool {
    let back =
        |offset: &DurationExpr| matches!(&offset.kind, DurationKind::Number(n) if n.value >= 0.0);
    modifiers.at.is_some() || !modifiers.offset.as_ref().is_none_or(back)
}

/// Runs the rules of a test, and gives what is not as expected of alerts. `None` when
/// something went wrong; what is stored is of no use then.
pub(super) async fn evaluate(
    run: &Run<'_>,
    groups: &[Group],
    feed: &mut Feed,
    storage: &MemoryStorage,
) -> Option<Vec<String>> {
    let (test, pace_ms) = (run.test, run.file.evaluation_interval_ms.max(1));
    let end_ms = test.start_ms + test.last_eval_time_ms();
    let rules = || groups.iter().flat_map(|group| group.rules.iter().map(move |r| (group, r)));
    let mut written: Vec<Written> = rules().map(|_| Written::default()).collect();
    let mut errors = Vec::new();
    let mut next = test.start_ms;
    while next <= end_ms {
        let len = ((end_ms - next) / pace_ms + 1).min(TICKS_PER_QUERY);
        let ticks = StepGrid { start_ms: next, step_ms: pace_ms, len: len as u32 };
        feed.store_until(ticks.end_ms(), &*run.cx.sink).ok()?;
        let mut seen = Seen { run, pace_ms, alerts: Vec::new() };
        for ((group, rule), written) in rules().zip(&mut written) {
            let answer = query(run, rule, ticks).await?;
            match &rule.alerting {
                None => written.record(rule, answer, ticks, storage)?,
                Some(_) => written.alert(group, rule, answer, ticks, &mut seen).await?,
            }
        }
        for ts in ticks.iter() {
            let from = ts - test.start_ms;
            let got = |alert: &str, wanted: Wanted| seen.of(ts, alert, wanted);
            run.check_alerts(from..from + pace_ms, &got, &mut errors);
        }
        next += len * pace_ms;
    }
    Some(errors)
}

/// What a rule's expression gives at all ticks.
async fn query(run: &Run<'_>, rule: &Rule, ticks: StepGrid) -> Option<Vec<Series>> {
    let result = rule.query.range(&run.cx.source, ticks, &run.cx.run).await.ok()?;
    let partial = result.is_partial();
    match result.value {
        Value::Matrix(series) if !partial => Some(series),
        _ => None,
    }
}

/// Alerts as they were when they are looked at.
struct Seen<'r, 'a> {
    run: &'r Run<'a>,
    pace_ms: i64,
    /// By tick and name, in the order of the rules.
    alerts: Vec<(TimestampMs, Arc<str>, Vec<Alert>)>,
}

impl Seen<'_, '_> {
    /// Whether a case looks at the alerts of a name after the tick.
    fn wants(&self, ts: TimestampMs, alert: &str) -> bool {
        let from = ts - self.run.test.start_ms;
        let span = from..from + self.pace_ms;
        self.run.test.alerts.iter().any(|c| c.alert == alert && span.contains(&c.eval_time_ms))
    }

    fn of(&self, ts: TimestampMs, alert: &str, wanted: Wanted) -> Vec<ExpectedAlert> {
        let then = self.alerts.iter().filter(|(at, name, _)| *at == ts && **name == *alert);
        then.flat_map(|(_, _, alerts)| alerts.iter().filter(|a| wanted(a)).cloned())
            .map(expected_of)
            .collect()
    }
}

/// What a rule has written so far.
#[derive(Default)]
struct Written {
    /// Series of a recording rule at the last tick.
    last: FxHashSet<Labels>,
    /// An alerting rule wrote series at the last tick.
    alerts: bool,
}

impl Written {
    /// Stores what a recording rule gives, series by series, each ended by a marker where
    /// it is not there at the next tick. The store refuses what would not be stored tick
    /// by tick, since its samples must be in order.
    fn record(
        &mut self,
        rule: &Rule,
        series: Vec<Series>,
        ticks: StepGrid,
        storage: &MemoryStorage,
    ) -> Option<()> {
        let before = std::mem::take(&mut self.last);
        let sample = |series: &Series| VectorSample {
            labels: series.labels.clone(),
            ts: ticks.start_ms,
            sample: Sample::Float(0.0),
        };
        let all = series.iter().map(sample).collect();
        let (name, names) = (rule.spec.name(), &mut Names::default());
        // Two series may not even share their labels at different ticks.
        let named = record(all, name, &rule.spec.labels, 0, names).ok()?;
        let mut left = before.clone();
        for (series, (labels, _)) in series.into_iter().zip(named) {
            left.remove(&labels);
            let mut points = Vec::with_capacity(series.points.len() + 1);
            let mut next = ticks.start_ms;
            let mut open = before.contains(&labels);
            for (ts, sample) in series.points {
                if open && ts > next {
                    points.push((next, Sample::Float(stale_nan())));
                }
                points.push((ts, sample));
                (open, next) = (true, ts + ticks.step_ms);
            }
            match next <= ticks.end_ms() {
                true if open => points.push((next, Sample::Float(stale_nan()))),
                true => {}
                false => _ = self.last.insert(labels.clone()),
            }
            storage.append_run(&labels, points).ok()?;
        }
        for labels in left {
            storage.append(&labels, ticks.start_ms, stale_nan(), None).ok()?;
        }
        Some(())
    }

    /// Moves the alerts of a rule on tick by tick, and stores their series.
    async fn alert(
        &mut self,
        group: &Group,
        rule: &Rule,
        series: Vec<Series>,
        ticks: StepGrid,
        seen: &mut Seen<'_, '_>,
    ) -> Option<()> {
        let alerting = rule.alerting.as_ref()?;
        let cx = seen.run.cx;
        let name: Arc<str> = rule.spec.name().into();
        let mut steps: Vec<Vec<VectorSample>> = vec![Vec::new(); ticks.len as usize];
        for series in series {
            for (ts, sample) in series.points {
                let step = (ts - ticks.start_ms) / ticks.step_ms;
                let labels = series.labels.clone();
                steps[step as usize].push(VectorSample { labels, ts, sample });
            }
        }
        for (ts, samples) in ticks.iter().zip(steps) {
            let idle = || alerting.states.lock().iter().next().is_none();
            if !samples.is_empty() || self.alerts || !idle() {
                let outcome = match samples.is_empty() {
                    true => Outcome::FilterFalse,
                    false => Outcome::Matched,
                };
                let answer = Answer { samples, outcome };
                let made = group.samples_of(rule, cx, answer, (ts, ts)).await.ok()?;
                self.alerts = !made.is_empty();
                if write(&cx.sink, &rule.previous, made, ts).await.ok()?.is_some() {
                    return None;
                }
            }
            if seen.wants(ts, &name) {
                seen.alerts.push((ts, name.clone(), alerting.alerts_that(|_| true)));
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::run_test;
    use super::super::{UnitTestOptions, schema};
    use super::*;
    use crate::rules::config::{LoadOptions, load_source};

    const INPUT: &str = "
tests:
- interval: 1m
  input_series:
  - {series: 'x{a=\"1\"}', values: '0+10x20 _x5 300 400 _ 500x30'}
  - {series: 'x{a=\"2\"}', values: '5x3 stale _x10 7x40'}
  - {series: 'gone', values: '1 2 3'}
  alert_rule_test:
  - {eval_time: 12m, alertname: A, exp_alerts: [{exp_labels: {a: '1'}}]}
  - {eval_time: 30m, alertname: A, exp_alerts: []}
  - {eval_time: 30m30s, alertname: B, exp_alerts: [], exp_pending: []}
  promql_expr_test:
  - {expr: 'r', eval_time: 50m, exp_samples: []}
";

    /// Whether rules are evaluated ahead, and that they give the same as tick by tick:
    /// every sample stored and every report.
    async fn check(rules: &str, ahead: bool) {
        let source = format!("evaluation_interval: 1m\nrule_files: []{INPUT}");
        let file = schema::read(&source).unwrap();
        let text = format!("groups:\n- name: g\n  rules:\n{rules}");
        let loaded = load_source("f.yml", &text, &LoadOptions::default());
        assert!(loaded.is_valid(), "{rules}: {:?}", loaded.problems);
        assert_eq!(suits(&file, &loaded.groups), ahead, "{rules}");
        let options = UnitTestOptions { dump_series: true, ..UnitTestOptions::default() };
        let mut reports = Vec::new();
        for ahead in [false, ahead] {
            let groups = loaded.groups.clone();
            reports.push(run_test(&file.tests[0], &file, groups, &options, None, ahead).await);
        }
        assert!(!reports[0].dump.is_empty());
        assert_eq!(reports[0], reports[1], "{rules}");
    }

    #[tokio::test]
    async fn rules_evaluated_ahead_give_the_same() {
        for rules in [
            "  - {record: r, expr: 'rate(x[5m])'}",
            "  - {record: r, expr: 'sum by (a) (x)'}\n  - {record: s, expr: 'r * 2', labels: {b: c}}\n  - {alert: A, expr: 's > 250', for: 3m}",
            "  - {alert: A, expr: 'x > 100', for: 2m, keep_firing_for: 4m, labels: {v: '{{ $value }}'}, annotations: {s: '{{ $labels.a }}'}}\n  - {record: r, expr: 'count by (a) (ALERTS{alertstate=\"firing\"})'}",
            "  - {alert: B, expr: 'absent(gone)', for: 5m}\n  - {record: r, expr: 'ALERTS_FOR_STATE'}",
            "  - {record: r, expr: 'max_over_time(sum(x)[10m:2m]) + x offset 3m'}",
            "  - {record: r, expr: '1'}\n  - {record: s, expr: 'time() - timestamp(x)'}",
            "  - {record: r, expr: 'topk(1, x)'}\n  - {record: s, expr: 'label_replace(x, \"b\", \"$1\", \"a\", \"(.*)\")'}",
            // What goes wrong on the way: it is told as tick by tick.
            "  - {record: r, expr: x}\n  - {record: r, expr: x + 1}",
            "  - {record: x, expr: 'x + 1'}\n  - {record: r, expr: 'label_replace(x, \"a\", \"\", \"a\", \"(.*)\")'}".split('\n').nth(1).unwrap(),
            "  - {record: r, expr: 'x * on() group_left x'}",
            "  - {record: r, expr: 'gone or x'}\n  - {record: r, expr: 'x{a=\"1\"} unless x'}",
        ] {
            check(rules, true).await;
        }
    }

    #[tokio::test]
    async fn rules_that_see_more_than_the_tick_are_left_alone() {
        for rules in [
            "  - {record: x, expr: 'x + 1'}",
            "  - {record: r, expr: 's'}\n  - {record: s, expr: x}",
            "  - {record: r, expr: 'x offset -1m'}",
            "  - {record: r, expr: 'x @ 60'}",
            "  - {record: r, expr: 'x @ end()'}",
            "  - {record: r, expr: 'x', labels: {a: b}}\n  - {alert: A, expr: r, annotations: {q: '{{ query \"x\" | first | value }}'}}",
            "  - {alert: A, expr: 'x unless ALERTS'}",
            "  - {alert: A, expr: x, on_no_data: keep}",
        ] {
            check(rules, false).await;
        }
    }
}
