//! One rule group: its rules, what they did last, and one evaluation of all of them.
//!
//! A rule is queried when everything it reads of the group has been committed (`waves`), and
//! committed when nobody before it would see it (`order`): the result is that of rules that run
//! one by one, in file order (`tick`). A group knows its tick but not why it came: the scheduler, unit tests and
//! replays all call [`Group::evaluate`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::alerting::Alerting;
use super::budget::AlertBudget;
use super::catch_up;
use super::config::{GroupSpec, RuleKind, RuleSpec};
use super::cost::{Cost, Costs, Crossing, Pace};
use super::error::RuleError;
use super::graph::{RuleGraph, Ticks};
use super::mates::{Mates, Progress};
use super::metrics::{GroupMetrics, Metrics};
use super::order::{Met, Order};
use super::outcome::{Answer, Outcome};
use super::policy::{GroupPolicy, Policy, RulePolicyDefaults};
use super::recording::{Names, record};
use super::state::{Peer, StateLog};
use super::tick::{Made, Tick};
use super::view::{
    AlertState, AlertView, AlertingView, GroupCostView, GroupView, RuleCostView, RuleHealth,
    RuleView,
};
use super::waves::{Bundles, EvaluationOptions, SERIES_OF_NEW_RULE};
use super::write::{Written, mark_stale};
use crate::model::{Clock, Labels, Sample, TimestampMs};
use crate::notifier::Notifier;
use crate::query::{Engine, PreparedQuery, QueryError, QueryOrigin, RunOptions};
use crate::storage::{Sink, Source};

/// What evaluation needs from outside, the same for all groups.
pub(super) struct Context {
    pub engine: Arc<Engine>,
    pub source: Arc<dyn Source>,
    /// Where alerts are restored from that nothing is remembered of, when it is one that
    /// has been there all the time: alerts are as they are there.
    pub peer: Option<Arc<dyn Source>>,
    /// Who is asked for the alerts of a group before its first tick.
    pub handover: Option<Arc<dyn Peer>>,
    pub sink: Arc<dyn Sink>,
    pub notifier: Arc<dyn Notifier>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub resend_delay_ms: i64,
    pub outage_tolerance_ms: i64,
    pub grace_period_ms: i64,
    /// Room for active alerts, of all rules.
    pub budget: AlertBudget,
    /// Resolved notifications say why.
    pub annotate_resolved: bool,
    /// Where alerts are remembered; set before the first load or never.
    pub state: OnceLock<StateLog>,
    /// Changed by reload; evaluation takes it anew for every rule.
    pub external: ArcSwap<External>,
    /// Queries end when this is cancelled.
    pub run: RunOptions,
    pub evaluation: EvaluationOptions,
}

/// What templates know about this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct External {
    pub labels: Labels,
    /// Without a trailing slash.
    pub url: String,
}

/// What a group takes from the configuration when it says nothing itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub interval_ms: i64,
    pub query_offset_ms: i64,
    pub policy: RulePolicyDefaults,
    pub align_groups: bool,
}

/// One group, ready to be evaluated.
pub(super) struct Group {
    pub spec: GroupSpec,
    pub interval_ms: i64,
    pub query_offset_ms: i64,
    pub policy: GroupPolicy,
    pub rules: Vec<Rule>,
    /// For each rule how many must have been committed before it may be queried.
    pub ready_after: Vec<usize>,
    pub order: Order,
    pub ticks: Ticks,
    /// For groups that tick together with this one, and what it has to do with them.
    pub progress: Arc<Progress>,
    pub mates: ArcSwap<Mates>,
    /// Queries of its rules that are asked together, by the rules' indexes.
    pub bundles: Bundles<usize>,
    pub metrics: GroupMetrics,
    pace: Pace,
    status: Mutex<GroupStatus>,
    /// Series of rules that are gone; they end at the next evaluation.
    stale: Mutex<Vec<Labels>>,
    /// The last tick that is done with, in this process.
    watermark: Mutex<Option<TimestampMs>>,
    /// Rules read what they or later ones wrote for the tick before: missed ticks are made
    /// up for one by one.
    pub sequential: bool,
    /// That late samples are refused has been said.
    pub refusal_told: AtomicBool,
    /// Alerts are to be restored after the second evaluation.
    pub restore_pending: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct GroupStatus {
    last_evaluation_ms: Option<TimestampMs>,
    evaluation_seconds: f64,
}

/// One rule, its query planned.
pub(super) struct Rule {
    pub spec: Arc<RuleSpec>,
    pub policy: Policy,
    pub query: Arc<PreparedQuery>,
    /// `None` for a recording rule.
    pub alerting: Option<Alerting>,
    status: Mutex<RuleStatus>,
    costs: Mutex<Costs>,
    /// What the last successful evaluation wrote.
    pub previous: Mutex<Written>,
    /// Of a recording rule, the names of what it wrote.
    pub names: Mutex<Names>,
    /// Who looks at what it writes, of the rules before it.
    pub met: Mutex<Met>,
    /// It wrote that with another expression, before a reload.
    pub inherited: AtomicBool,
    /// Series of the last successful evaluation; `usize::MAX` before the first.
    last_series: AtomicUsize,
}

#[derive(Clone, Debug)]
struct RuleStatus {
    health: RuleHealth,
    last_error: Option<RuleError>,
    evaluation_seconds: f64,
    last_evaluation_ms: Option<TimestampMs>,
    last_outcome: Option<Outcome>,
}

impl Rule {
    fn new(
        spec: Arc<RuleSpec>,
        policy: Policy,
        engine: &Arc<Engine>,
        restored: bool,
        origin: &Arc<QueryOrigin>,
    ) -> Result<Self, QueryError> {
        let query = engine.prepare_expr(&spec.expr.printed, spec.expr.expr.clone())?;
        let query = query.with_origin(origin.clone());
        let alerting = match &spec.kind {
            RuleKind::Recording { .. } => None,
            RuleKind::Alerting(alert) => {
                Some(Alerting::new(alert, &spec, policy, (restored, origin.clone())))
            }
        };
        Ok(Self {
            spec,
            policy,
            query: Arc::new(query),
            alerting,
            status: Mutex::new(RuleStatus {
                health: RuleHealth::Unknown,
                last_error: None,
                evaluation_seconds: 0.0,
                last_evaluation_ms: None,
                last_outcome: None,
            }),
            costs: Mutex::default(),
            previous: Mutex::default(),
            names: Mutex::default(),
            met: Mutex::default(),
            inherited: AtomicBool::new(false),
            last_series: AtomicUsize::new(usize::MAX),
        })
    }

    /// How many series the next evaluation may be expected to give: as many as the last
    /// successful one.
    pub(super) fn expected_series(&self) -> usize {
        match self.last_series.load(Ordering::Relaxed) {
            usize::MAX => SERIES_OF_NEW_RULE,
            series => series,
        }
    }

    /// How long the last evaluation took.
    pub(super) fn last_seconds(&self) -> f64 {
        self.status.lock().evaluation_seconds
    }

    /// The error of the last evaluation.
    pub(super) fn last_error(&self) -> Option<RuleError> {
        self.status.lock().last_error.clone()
    }

    /// Notes how an evaluation came out.
    pub(super) fn note_outcome(&self, cx: &Context, outcome: Outcome) {
        cx.metrics.count_outcome(outcome);
        self.status.lock().last_outcome = Some(outcome);
    }

    /// Notes what an evaluation cost, which began at `asked_ms`.
    pub(super) fn note_cost(&self, asked_ms: TimestampMs, cost: Cost) {
        self.costs.lock().push(cost);
        let mut status = self.status.lock();
        status.evaluation_seconds = cost.seconds;
        status.last_evaluation_ms = Some(asked_ms);
    }

    /// Notes that an evaluation wrote so many series.
    pub(super) fn note_written(&self, series: usize) {
        self.inherited.store(false, Ordering::Relaxed);
        self.last_series.store(series, Ordering::Relaxed);
    }

    pub(super) fn set_result(&self, result: Result<(), RuleError>) {
        let mut status = self.status.lock();
        status.health = if result.is_ok() { RuleHealth::Ok } else { RuleHealth::Err };
        status.last_error = result.err();
    }

    fn view(&self) -> RuleView {
        let status = self.status.lock().clone();
        let evaluated = status.health != RuleHealth::Unknown;
        RuleView {
            name: self.spec.name().to_owned(),
            query: self.spec.expr.printed.clone(),
            labels: as_written(&self.spec.labels),
            policy: self.policy,
            health: status.health,
            last_error: status.last_error.map(|e| e.to_string()).unwrap_or_default(),
            evaluation_time_seconds: status.evaluation_seconds,
            last_evaluation_ms: status.last_evaluation_ms,
            last_outcome: status.last_outcome,
            cost: self.costs.lock().last(),
            quarantine: None,
            alerting: self.alerting.as_ref().map(|a| alerting_view(a, evaluated)),
        }
    }
}

impl Rule {
    fn cost_view(&self) -> RuleCostView {
        let costs = self.costs.lock();
        let [seconds, samples, series, bytes] = costs.summaries();
        RuleCostView {
            name: self.spec.name().to_owned(),
            is_alert: self.alerting.is_some(),
            labels: self.spec.label_set(),
            query: self.spec.expr.printed.clone(),
            evaluations: costs.evaluations(),
            last_evaluation_ms: self.status.lock().last_evaluation_ms,
            seconds,
            samples,
            series,
            bytes,
        }
    }
}

/// As Prometheus shows them: those with an empty value too.
fn as_written(pairs: &BTreeMap<String, String>) -> Labels {
    Labels::from_sorted_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn alerting_view(alerting: &Alerting, evaluated: bool) -> AlertingView {
    let states = alerting.states.lock();
    let mut alerts: Vec<AlertView> = states
        .active()
        .map(|a| AlertView {
            labels: a.labels.clone(),
            annotations: a.annotations.clone(),
            state: a.state,
            active_at_ms: a.active_at_ms,
            keep_firing_since_ms: a.keep_firing_since_ms,
            missing: a.missing,
            value: a.value,
        })
        .collect();
    let state = match (evaluated, states.state()) {
        (false, AlertState::Inactive) => AlertState::Unknown,
        (_, state) => state,
    };
    drop(states);
    alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
    AlertingView {
        state,
        for_ms: alerting.params.for_ms,
        keep_firing_for_ms: alerting.params.keep_firing_for_ms,
        annotations: as_written(&alerting.spec.annotations),
        alerts,
    }
}

impl Group {
    /// Plans a group. `restored` says that its alerts have nothing to remember from before
    /// the start of the process.
    pub(super) fn new(
        spec: GroupSpec,
        defaults: Defaults,
        engine: &Arc<Engine>,
        metrics: &Metrics,
        restored: bool,
    ) -> Result<Self, QueryError> {
        let mut rules = Vec::with_capacity(spec.rules.len());
        let (file, name) = (spec.file.clone(), spec.name.clone());
        let origin = Arc::new(QueryOrigin::RuleGroup { file, name });
        for rule in &spec.rules {
            let policy = Policy::resolve(&defaults.policy, spec.policy, rule.policy);
            rules.push(Rule::new(rule.clone(), policy, engine, restored, &origin)?);
        }
        let policy = GroupPolicy::resolve(&defaults.policy, spec.group_policy);
        for rule in &mut rules {
            if let Some(alerting) = &mut rule.alerting {
                alerting.set_group(spec.limit, policy);
            }
        }
        let interval_ms = spec.interval_ms.unwrap_or(defaults.interval_ms).max(1);
        let aligned = defaults.align_groups.then_some(0);
        let ticks = Ticks { interval_ms, offset_ms: spec.eval_offset_ms.or(aligned) };
        let graph = RuleGraph::new([(&spec, ticks)]);
        Ok(Self {
            ready_after: graph.ready_after(0),
            order: Order::new(&spec, &graph),
            sequential: catch_up::is_sequential(&spec, &graph),
            watermark: Mutex::default(),
            refusal_told: AtomicBool::new(false),
            ticks,
            progress: Arc::default(),
            mates: ArcSwap::default(),
            bundles: Bundles::default(),
            interval_ms,
            query_offset_ms: spec.query_offset_ms.unwrap_or(defaults.query_offset_ms),
            pace: Pace::new(interval_ms, policy.budget),
            policy,
            metrics: metrics.group(&key(&spec.file, &spec.name)),
            rules,
            spec,
            status: Mutex::default(),
            stale: Mutex::default(),
            restore_pending: AtomicBool::new(!restored),
        })
    }

    /// `FILE;NAME`.
    pub(super) fn key(&self) -> String {
        key(&self.spec.file, &self.spec.name)
    }

    /// True when `other` would behave the same, so that this one may go on running.
    pub(super) fn equals(&self, other: &Group) -> bool {
        self.spec == other.spec
            && self.interval_ms == other.interval_ms
            && self.query_offset_ms == other.query_offset_ms
            // A source may not evaluate any more what rules of others record from now on.
            && self.rules.iter().zip(&other.rules).all(|(a, b)| a.query.is_planned_as(&b.query))
    }

    /// True when a rule may end series it would not make, after a reload: what others read
    /// of it is known only from the series themselves.
    pub(super) fn has_inherited(&self) -> bool {
        self.rules.iter().any(|rule| rule.inherited.load(Ordering::Relaxed))
    }

    /// Publishes what does not change while the group runs.
    pub(super) fn publish(&self) {
        self.metrics.interval_seconds.set(self.interval_ms as f64 / 1000.0);
        self.metrics.rules.set(self.rules.len() as f64);
    }

    /// Evaluates every rule for tick `ts`, as if in order; stops between two rules when `stop`
    /// says so.
    pub(super) async fn evaluate(&self, cx: &Context, ts: TimestampMs, stop: impl Fn() -> bool) {
        let started_ms = cx.clock.now_ms();
        let started = cx.clock.monotonic_ns();
        self.metrics.iterations.inc();
        self.progress.at(ts);
        let Some(Made { samples, rule_seconds }) = Tick::new(self, cx, ts).run(stop).await else {
            return;
        };
        self.end_stale_series(cx, ts - self.query_offset_ms).await;
        if self.policy.catch_up_ms == 0 || !self.is_source_down() {
            // Ticks that could not be made up for before this one never will be.
            let left = self.watermark(cx).map_or(0, |last| (ts - last - 1) / self.interval_ms);
            if self.policy.catch_up_ms > 0 && left > 0 {
                catch_up::skip(self, left);
            }
            self.set_watermark(cx, ts);
        }
        let next = ts + self.interval_ms;
        self.progress.sleeps(next, catch_up::first_to_do(self, cx, next));
        let seconds = seconds_since(cx, started);
        cx.metrics.observe_group(seconds);
        self.note_pace(cx, seconds);
        self.metrics.last_samples.set(samples as f64);
        self.metrics.last_duration_seconds.set(seconds);
        self.metrics.last_rule_duration_sum_seconds.set(rule_seconds);
        self.metrics.last_evaluation_seconds.set(started_ms as f64 / 1000.0);
        *self.status.lock() =
            GroupStatus { last_evaluation_ms: Some(started_ms), evaluation_seconds: seconds };
    }

    fn note_pace(&self, cx: &Context, seconds: f64) {
        let (group, file) = (&self.spec.name, &self.spec.file);
        let percent = (self.policy.budget * 100.0).round();
        match self.pace.note(&self.metrics, cx.clock.now_ms(), seconds) {
            Some(Crossing::Exceeded) => tracing::warn!(
                group,
                file,
                seconds,
                "the group takes more than its budget of {percent}% of its interval; \
                 /api/v1/rules/top shows which rules"
            ),
            Some(Crossing::Kept) => {
                tracing::info!(group, file, seconds, "the group is within its budget again")
            }
            None => {}
        }
    }

    /// The samples a rule makes of its query's result; moves alerts on.
    pub(super) async fn samples_of(
        &self,
        rule: &Rule,
        cx: &Context,
        answer: Answer,
        times: (TimestampMs, TimestampMs),
    ) -> Result<Vec<(Labels, Sample)>, RuleError> {
        match &rule.alerting {
            None => {
                let (spec, names) = (&rule.spec, &mut *rule.names.lock());
                record(answer.samples, spec.name(), &spec.labels, self.spec.limit, names)
            }
            Some(alerting) => alerting.evaluate(&rule.spec, cx, answer, times).await,
        }
    }

    /// The last tick that is done with; kept over restarts when there is a state log.
    pub(super) fn watermark(&self, cx: &Context) -> Option<TimestampMs> {
        let logged =
            || cx.state.get().and_then(|log| log.watermark(&self.spec.file, &self.spec.name));
        self.watermark.lock().or_else(logged)
    }

    /// The last tick that was done with in this process.
    pub(super) fn last_tick(&self) -> Option<TimestampMs> {
        *self.watermark.lock()
    }

    /// Whether a tick was done with in this process.
    pub(super) fn has_run(&self) -> bool {
        self.watermark.lock().is_some()
    }

    pub(super) fn set_watermark(&self, cx: &Context, ts: TimestampMs) {
        *self.watermark.lock() = Some(ts);
        if let Some(log) = cx.state.get() {
            log.set_watermark(&self.spec.file, &self.spec.name, ts);
        }
    }

    /// Whether no rule could be evaluated the last time because the source failed.
    fn is_source_down(&self) -> bool {
        let down = |rule: &Rule| rule.last_error().is_some_and(|e| is_source_failure(&e));
        !self.rules.is_empty() && self.rules.iter().all(down)
    }

    async fn end_stale_series(&self, cx: &Context, at: TimestampMs) {
        let stale = std::mem::take(&mut *self.stale.lock());
        if stale.is_empty() {
            return;
        }
        let (kept, result) = mark_stale(&cx.sink, stale, at).await;
        if let Err(error) = result {
            self.stale.lock().extend(kept);
            tracing::warn!(group = self.spec.name, %error, "ending the series of removed rules failed; next evaluation tries again");
        }
    }

    /// Ends all series of a group that was removed at `ended`, as if that were its last
    /// tick. Called when it runs no more.
    pub(super) async fn end_all_series(&self, cx: &Context, ended: TimestampMs) {
        for rule in &self.rules {
            let written = std::mem::take(&mut *rule.previous.lock());
            self.stale.lock().extend(written.into_labels());
        }
        self.end_stale_series(cx, ended - self.query_offset_ms).await;
    }

    /// Takes over from the group this one replaces: rules find each other by name and
    /// labels, in order. Called when `from` runs no more and before this one does.
    pub(super) fn copy_state(&self, from: &Group) {
        let mut taken = vec![false; from.rules.len()];
        for rule in &self.rules {
            let found = from.rules.iter().enumerate().find(|(i, old)| {
                !taken[*i]
                    && old.spec.name() == rule.spec.name()
                    && old.spec.labels == rule.spec.labels
            });
            let Some((i, old)) = found else { continue };
            taken[i] = true;
            *rule.previous.lock() = std::mem::take(&mut *old.previous.lock());
            let inherited = old.inherited.load(Ordering::Relaxed)
                || old.spec.expr.printed != rule.spec.expr.printed;
            rule.inherited.store(inherited, Ordering::Relaxed);
            rule.last_series.store(old.last_series.load(Ordering::Relaxed), Ordering::Relaxed);
            if old.spec.expr.printed == rule.spec.expr.printed {
                *rule.costs.lock() = std::mem::take(&mut *old.costs.lock());
            }
            match (&rule.alerting, &old.alerting) {
                (Some(new), Some(old)) => new.copy_state(old),
                (None, Some(old)) => old.forget_state(),
                _ => {}
            }
        }
        let mut stale = self.stale.lock();
        stale.append(&mut from.stale.lock());
        for (rule, taken) in from.rules.iter().zip(taken) {
            if !taken {
                stale.extend(std::mem::take(&mut *rule.previous.lock()).into_labels());
                rule.alerting.iter().for_each(Alerting::forget_state);
            }
        }
        *self.status.lock() = *from.status.lock();
        *self.watermark.lock() = *from.watermark.lock();
        let pending = from.restore_pending.load(Ordering::Relaxed);
        self.restore_pending.store(pending, Ordering::Relaxed);
    }

    /// What the API shows.
    pub(super) fn view(&self) -> GroupView {
        let status = *self.status.lock();
        GroupView {
            name: self.spec.name.clone(),
            file: self.spec.file.clone(),
            interval_ms: self.interval_ms,
            limit: self.spec.limit,
            policy: self.policy,
            evaluation_time_seconds: status.evaluation_seconds,
            last_evaluation_ms: status.last_evaluation_ms,
            pace: self.pace.view(),
            rules: self.rules.iter().map(Rule::view).collect(),
        }
    }

    /// What its rules cost.
    pub(super) fn costs(&self) -> GroupCostView {
        GroupCostView {
            file: self.spec.file.clone(),
            name: self.spec.name.clone(),
            interval_ms: self.interval_ms,
            pace: self.pace.view(),
            rules: self.rules.iter().map(Rule::cost_view).collect(),
        }
    }
}

/// Whether an evaluation failed because the source did, and not because of the rule.
pub(super) fn is_source_failure(error: &RuleError) -> bool {
    matches!(error, RuleError::Query(QueryError::Storage(_)))
}

/// What a failed evaluation makes of a rule's alerts, where the policy says.
pub(super) fn samples_of_failure(
    rule: &Rule,
    cx: &Context,
    error: &RuleError,
    ts: TimestampMs,
) -> Option<Vec<(Labels, Sample)>> {
    // A query that was cancelled on purpose says nothing about the rule.
    if matches!(error, RuleError::Query(QueryError::Canceled(_))) {
        return None;
    }
    rule.alerting.as_ref()?.evaluate_failed(&rule.spec, cx, error, ts)
}

pub(super) fn key(file: &str, name: &str) -> String {
    format!("{file};{name}")
}

pub(super) fn seconds_since(cx: &Context, started_ns: u64) -> f64 {
    cx.clock.monotonic_ns().saturating_sub(started_ns) as f64 / 1e9
}

/// The message of a panic.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
