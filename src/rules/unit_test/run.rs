//! One test: time goes on, groups are evaluated, and cases are looked at when they are due.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::affected::Scope;
use super::ahead;
use super::compare::{Sent, Shown, alerts, go_duration, notifications, samples, samples_text};
use super::coverage::Observer;
use super::data::Feed;
use super::schema::{AlertCase, ExpectedAlert, ExpectedSample, ExprCase, Test, TestFile};
use super::{TestReport, UnitTestOptions};
use crate::model::duration::format_duration;
use crate::model::labels::quote;
use crate::model::time::gcd;
use crate::model::{Labels, Sample, TimestampMs};
use crate::notifier::{Notifier, OutgoingAlert};
use crate::parser::parse_metric;
use crate::parser::series::{SeriesValue, parse_series_values};
use crate::query::{Engine, EngineOptions, RunOptions};
use crate::rules::alert::Alert;
use crate::rules::budget::{AlertBudget, Load};
use crate::rules::config::GroupSpec;
use crate::rules::error::RuleError;
use crate::rules::group::{Context, Defaults, External, Group, Rule};
use crate::rules::metrics::Metrics;
use crate::rules::policy::{OnError, RulePolicyDefaults};
use crate::rules::recording::vector;
use crate::rules::view::AlertState;
use crate::rules::waves::EvaluationOptions;
use crate::storage::memory::MemoryStorage;
use crate::storage::{RawSeries, SelectHints, SelectRequest};
use crate::telemetry::Registry;
use crate::telemetry::clock::ManualClock;
use crate::vector::RawSamples;

/// Keeps what an Alertmanager would have been sent since it was last asked.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Vec<OutgoingAlert>>);

impl Notifier for Recorder {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        self.0.lock().extend(alerts);
    }
}

impl Recorder {
    /// With external labels, where an alert has none of its own; what ends by `now` is
    /// resolved.
    fn take(&self, external: &Labels, now: TimestampMs) -> Vec<Sent> {
        let alerts = std::mem::take(&mut *self.0.lock());
        let sent = |alert: OutgoingAlert| {
            let labels = external.with(alert.labels.iter());
            Sent {
                firing: alert.ends_at_ms > now,
                starts_at_ms: alert.starts_at_ms,
                ends_at_ms: alert.ends_at_ms,
                alert: ExpectedAlert { labels, annotations: alert.annotations },
            }
        };
        alerts.into_iter().map(sent).collect()
    }
}

/// Runs one test. What `observer` is to see is noted there. `ahead` says that the rules
/// suit [`ahead::evaluate`]; the report is the same with and without.
pub(super) async fn run_test(
    test: &Test,
    file: &TestFile,
    specs: Vec<GroupSpec>,
    options: &UnitTestOptions,
    observer: Option<&mut Observer>,
    ahead: bool,
) -> TestReport {
    if ahead && observer.is_none() && test.notifications.is_empty() {
        let (cx, storage, recorder) = context(test, file, options);
        let run = Run { test, file, cx: &cx, recorder: &recorder, diff: options.diff, scope: None };
        if let Some(errors) = run.evaluate_ahead(&specs, &storage).await {
            return report(test, options, &cx, errors).await;
        }
    }
    let (cx, _, recorder) = context(test, file, options);
    let run = Run { test, file, cx: &cx, recorder: &recorder, diff: options.diff, scope: None };
    let errors = run.evaluate(specs, observer).await;
    report(test, options, &cx, errors).await
}

/// Whether some rules of a test run as they should and what is looked at is as expected.
/// The time is that of the whole test.
pub(super) async fn passes(
    test: &Test,
    file: &TestFile,
    specs: Vec<GroupSpec>,
    options: &UnitTestOptions,
    scope: &Scope,
) -> bool {
    let (diff, scope) = (false, Some(scope));
    if !scope.is_some_and(|scope| scope.notifications) && ahead::suits(file, &specs) {
        let (cx, storage, recorder) = context(test, file, options);
        let run = Run { test, file, cx: &cx, recorder: &recorder, diff, scope };
        if let Some(errors) = run.evaluate_ahead(&specs, &storage).await {
            return errors.is_empty();
        }
    }
    let (cx, _, recorder) = context(test, file, options);
    let run = Run { test, file, cx: &cx, recorder: &recorder, diff, scope };
    run.evaluate(specs, None).await.is_empty()
}

async fn report(
    test: &Test,
    options: &UnitTestOptions,
    cx: &Context,
    errors: Vec<String>,
) -> TestReport {
    let dump = if options.dump_series { dump(cx).await } else { Vec::new() };
    TestReport { name: test.name.clone(), errors, dump }
}

/// `{a="b"} 1@0 2@60`: what is stored, one series a line, times in seconds.
async fn dump(cx: &Context) -> Vec<String> {
    let (from_ms, to_ms) = (TimestampMs::MIN, TimestampMs::MAX);
    let request =
        SelectRequest { matchers: Vec::new(), from_ms, to_ms, hints: SelectHints::default() };
    let found = match cx.source.select(&request).await {
        Ok(found) => found.series,
        Err(e) => return vec![e.to_string()],
    };
    let line = |series: &Arc<dyn RawSeries>| {
        let mut raw = RawSamples::default();
        if let Err(e) = series.read_into(from_ms, to_ms, &mut raw) {
            return e.to_string();
        }
        let at = |ts: &TimestampMs| *ts as f64 / 1000.0;
        let mut line = series.labels().to_string();
        for (ts, v) in raw.ts.iter().zip(&raw.vs) {
            line += &format!(" {v}@{}", at(ts));
        }
        for (ts, h) in &raw.hist {
            line += &format!(" {}@{}", h.test_expression(), at(ts));
        }
        line
    };
    found.iter().map(line).collect()
}

/// Which alerts are looked at.
pub(super) type Wanted = fn(&Alert) -> bool;

/// One test under way.
pub(super) struct Run<'a> {
    pub test: &'a Test,
    pub file: &'a TestFile,
    pub cx: &'a Context,
    recorder: &'a Recorder,
    diff: bool,
    /// `None`: all of the test is looked at.
    scope: Option<&'a Scope>,
}

impl Run<'_> {
    /// Runs the rules over the input and gives what is not as expected.
    async fn evaluate(
        &self,
        specs: Vec<GroupSpec>,
        mut observer: Option<&mut Observer>,
    ) -> Vec<String> {
        let Self { test, file, cx, .. } = *self;
        let mut feed = match Feed::new(test, self.input()) {
            Ok(feed) => feed,
            Err(errors) => return errors,
        };
        let groups = match plan(test, file, specs, cx) {
            Ok(groups) => groups,
            Err(e) => return vec![e],
        };
        let pace_ms = pace_ms(file, &groups);
        let mut errors = Vec::new();
        let end_ms = test.start_ms + test.last_eval_time_ms();
        let mut ts = test.start_ms;
        while ts <= end_ms {
            if let Err(e) = feed.store_until(ts, &*cx.sink) {
                errors.push(e);
                return errors;
            }
            let told = errors.len();
            for group in groups.iter().filter(|group| self.is_due(group, ts)) {
                group.evaluate(cx, ts, || false).await;
                errors.extend(failures(group, ts));
                if let Some(observer) = &mut observer {
                    observer.look(group, cx, ts).await;
                }
            }
            // Only a failed evaluation ends the test: what alerts are not as expected is
            // told for every time.
            if errors.len() > told {
                return errors;
            }
            let from = ts - test.start_ms;
            let span = from..from + pace_ms;
            let got = |alert: &str, wanted: Wanted| alerts_that(&groups, alert, wanted);
            self.check_alerts(span.clone(), &got, &mut errors);
            self.check_notifications(span, &mut errors);
            ts += pace_ms;
        }
        self.check_expressions(&mut feed, &mut errors).await;
        if let Some(observer) = observer {
            observer.note_cases(test, cx);
        }
        errors
    }

    /// As `evaluate`, each rule over many ticks at once. `None` when that cannot be.
    async fn evaluate_ahead(
        &self,
        specs: &[GroupSpec],
        storage: &MemoryStorage,
    ) -> Option<Vec<String>> {
        let mut feed = Feed::new(self.test, self.input()).ok()?;
        let groups = plan(self.test, self.file, specs.to_vec(), self.cx).ok()?;
        let mut errors = ahead::evaluate(self, &groups, &mut feed, storage).await?;
        self.check_expressions(&mut feed, &mut errors).await;
        Some(errors)
    }

    /// The input series there are; `None`: all.
    fn input(&self) -> Option<&[usize]> {
        self.scope.map(|scope| &scope.input[..])
    }

    async fn check_expressions(&self, feed: &mut Feed, errors: &mut Vec<String>) {
        for (number, case) in self.test.expressions.iter().enumerate() {
            let at = self.test.start_ms + case.eval_time_ms;
            let stored = feed.store_until(at, &*self.cx.sink);
            errors.extend(stored.err());
            if self.scope.is_some_and(|scope| !scope.expressions.contains(&number)) {
                continue;
            }
            let checked = check_expr(case, at, self.file.fuzzy_compare, self.cx).await;
            errors.extend(checked.err());
        }
    }

    /// With promtool every group runs each time.
    fn is_due(&self, group: &Group, ts: TimestampMs) -> bool {
        let offset = group.ticks.offset_ms.unwrap_or(0);
        !self.file.use_group_intervals
            || (ts - self.test.start_ms - offset).rem_euclid(group.interval_ms) == 0
    }

    /// Holds alerts against the cases that are looked at in this span. `got` gives those of
    /// a name.
    pub(super) fn check_alerts(
        &self,
        span: Range<i64>,
        got: &dyn Fn(&str, Wanted) -> Vec<ExpectedAlert>,
        errors: &mut Vec<String>,
    ) {
        let test = self.test;
        let asked = |case: &&AlertCase| {
            let in_scope = self.scope.is_none_or(|scope| scope.alerts.contains(&case.alert));
            in_scope && span.contains(&case.eval_time_ms)
        };
        for case in test.alerts.iter().filter(asked) {
            let firing: Wanted = |a| a.state == AlertState::Firing;
            let pending: Wanted = |a| a.state == AlertState::Pending;
            let kept: Wanted =
                |a| a.state == AlertState::Firing && a.keep_firing_since_ms.is_some();
            let resolved: Wanted = |a| a.resolved_at_ms.is_some();
            for (state, expected, wanted) in [
                ("", Some(&case.expected), firing),
                ("pending", case.pending.as_ref(), pending),
                ("keep_firing", case.keep_firing.as_ref(), kept),
                ("resolved", case.resolved.as_ref(), resolved),
            ] {
                let Some(expected) = expected else { continue };
                let got = got(&case.alert, wanted);
                errors.extend(alerts(&test.name, case, (state, expected), got, self.diff));
            }
        }
    }

    /// Holds what was sent in this span against the cases about it.
    fn check_notifications(&self, span: Range<i64>, errors: &mut Vec<String>) {
        let test = self.test;
        if self.scope.is_some_and(|scope| !scope.notifications) {
            return;
        }
        let sent = self.recorder.take(&test.external_labels, test.start_ms + span.start);
        for case in test.notifications.iter().filter(|case| span.contains(&case.eval_time_ms)) {
            errors.extend(notifications(&test.name, case, &sent, test.start_ms));
        }
    }
}

/// Distance of two evaluations: so short that every group is evaluated when it is due.
fn pace_ms(file: &TestFile, groups: &[Group]) -> i64 {
    let own = groups.iter().filter(|_| file.use_group_intervals);
    own.flat_map(|group| [group.interval_ms, group.ticks.offset_ms.unwrap_or(0)])
        .fold(file.evaluation_interval_ms, gcd)
        .max(1)
}

/// The errors of the last evaluation. Where a rule says what is to happen when it fails,
/// that is looked at instead.
pub(super) fn failures(group: &Group, ts: TimestampMs) -> Vec<String> {
    let kept = group.rules.iter().filter(|r| r.policy.on_error == OnError::Keep);
    let failed = kept.filter_map(|r| Some((r, r.last_error()?)));
    let text = |(rule, e): (&Rule, RuleError)| {
        let (name, time) = (rule.spec.name(), go_duration(ts));
        format!("    rule: {name}, time: {time}, err: {e}")
    };
    failed.map(text).collect()
}

pub(super) fn context(
    test: &Test,
    file: &TestFile,
    options: &UnitTestOptions,
) -> (Context, MemoryStorage, Arc<Recorder>) {
    let (storage, recorder) = (MemoryStorage::default(), Arc::new(Recorder::default()));
    let engine = Engine::new(EngineOptions {
        parser: options.parser,
        delayed_name_removal: options.delayed_name_removal,
        ..EngineOptions::default()
    });
    engine.set_default_subquery_step_ms(file.evaluation_interval_ms);
    let metrics = Metrics::new(&mut Registry::default());
    let cx = Context {
        engine,
        source: Arc::new(storage.clone()),
        peer: None,
        handover: None,
        sink: Arc::new(storage.clone()),
        notifier: recorder.clone(),
        clock: Arc::new(ManualClock::new(test.start_ms)),
        budget: AlertBudget::new(Load::default(), metrics.active_alerts.clone()),
        annotate_resolved: false,
        metrics,
        resend_delay_ms: 60_000,
        outage_tolerance_ms: 0,
        grace_period_ms: 0,
        state: std::sync::OnceLock::new(),
        external: ArcSwap::from_pointee(External {
            labels: test.external_labels.clone(),
            url: test.external_url.trim_end_matches('/').to_owned(),
        }),
        run: RunOptions::default(),
        evaluation: EvaluationOptions::default(),
    };
    (cx, storage, recorder)
}

/// The groups in the order they are evaluated in: those without a place come first.
pub(super) fn plan(
    test: &Test,
    file: &TestFile,
    specs: Vec<GroupSpec>,
    cx: &Context,
) -> Result<Vec<Group>, String> {
    let defaults = Defaults {
        interval_ms: test.interval_ms,
        query_offset_ms: 0,
        policy: RulePolicyDefaults::default(),
        align_groups: false,
    };
    let mut groups = Vec::with_capacity(specs.len());
    for spec in specs {
        let name = spec.name.clone();
        let group = Group::new(spec, defaults, &cx.engine, &cx.metrics, true)
            .map_err(|e| format!("    group {}: {e}", quote(&name)))?;
        groups.push(group);
    }
    groups.sort_by_key(|g| file.order_of(&g.spec));
    Ok(groups)
}

/// The alerts of a name, in all groups, that are `wanted`.
pub(super) fn alerts_that(groups: &[Group], alert: &str, wanted: Wanted) -> Vec<ExpectedAlert> {
    let rules = groups.iter().flat_map(|g| &g.rules);
    rules
        .filter_map(|rule| rule.alerting.as_ref())
        .filter(|alerting| alerting.spec.alert == alert)
        .flat_map(|alerting| alerting.alerts_that(wanted))
        .map(expected_of)
        .collect()
}

/// An alert as tests expect them.
pub(super) fn expected_of(alert: Alert) -> ExpectedAlert {
    ExpectedAlert { labels: alert.labels, annotations: alert.annotations }
}

async fn check_expr(
    case: &ExprCase,
    at: TimestampMs,
    fuzzy: bool,
    cx: &Context,
) -> Result<(), String> {
    let (expr, time) = (quote(&case.expr), format_duration(case.eval_time_ms));
    let failed = |e: String| format!("    expr: {expr}, time: {time}, err: {e}");
    let prepared = cx.engine.prepare(&case.expr).map_err(|e| failed(e.to_string()))?;
    let result = prepared.instant(&cx.source, at, &cx.run).await;
    let result = result.map_err(|e| failed(e.to_string()))?;
    let result = vector(result.value).map_err(|e| failed(e.to_string()))?;
    let mut got: Vec<Shown> =
        result.into_iter().map(|s| Shown { labels: s.labels, sample: s.sample }).collect();
    let mut expected = Vec::with_capacity(case.expected.len());
    for sample in &case.expected {
        expected.push(expect(sample).map_err(failed)?);
    }
    if samples(&mut expected, &mut got, fuzzy, case.matching) {
        return Ok(());
    }
    Err(format!(
        "    expr: {expr}, time: {time},\n        exp: {}\n        got: {}",
        samples_text(&expected),
        samples_text(&got)
    ))
}

fn expect(sample: &ExpectedSample) -> Result<Shown, String> {
    let labels = if sample.labels.is_empty() {
        Labels::empty()
    } else {
        parse_metric(&sample.labels)
            .map_err(|e| format!("labels {}: {e}", quote(&sample.labels)))?
    };
    if sample.histogram.is_empty() {
        return Ok(Shown { labels, sample: Sample::Float(sample.value) });
    }
    let values = parse_series_values(&sample.histogram)
        .map_err(|e| format!("failed to parse histogram: {e}"))?;
    match values.as_slice() {
        [SeriesValue::Histogram { histogram, .. }] => {
            Ok(Shown { labels, sample: Sample::Histogram(histogram.clone()) })
        }
        [] | [_] => Err("expected histogram, but got something else".to_owned()),
        _ => Err("expected one histogram, but got several values".to_owned()),
    }
}
