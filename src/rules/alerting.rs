//! Alerting rules: a query's result to alerts, the series about them, and notifications.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::alert::{Absence, Alert, AlertParams, AlertSample, AlertStates, Evidence, Step, step};
use super::budget::{Load, Share};
use super::config::{AlertSpec, RuleSpec};
use super::error::RuleError;
use super::expand::{Queries, Text};
use super::gap::{Hold, Waiting};
use super::group::Context;
use super::input::{Input, Known};
use super::notice::Notices;
use super::outcome::{Answer, Outcome};
use super::policy::{GroupPolicy, OnError, OnLimit, OnNoData, Policy};
use super::reach::Need;
use super::state::RuleLog;
use super::template::TemplateData;
use super::view::AlertState;
use crate::model::value::VectorSample;
use crate::model::{Labels, METRIC_NAME, Sample, TimestampMs};
use crate::notifier::{OutgoingAlert, Receipt};
use crate::query::{Engine, QueryError, QueryOrigin};

/// Name of the label that carries the alert's name.
const ALERT_NAME: &str = "alertname";
/// Name of the label of `ALERTS` that carries the alert's state.
const ALERT_STATE: &str = "alertstate";
/// The series of what is pending or firing.
const ALERTS: &str = "ALERTS";
/// The series that remembers since when an alert is active.
pub(super) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

/// What an alerting rule has beyond its query.
pub(super) struct Alerting {
    pub spec: Arc<AlertSpec>,
    pub params: AlertParams,
    labels: Vec<(String, Text)>,
    annotations: Vec<(String, Text)>,
    /// Written only by the group's evaluation; others read.
    pub states: Mutex<AlertStates>,
    /// The rule's alerts about itself.
    notices: Notices,
    /// What the condition looks at; planned when it is first asked for, `None` when it
    /// cannot be.
    input: OnceLock<Option<Input>>,
    share: Share,
    /// Whether restoring from before the start is done or was not needed. Until then
    /// neither `ALERTS` nor `ALERTS_FOR_STATE` is written: it would hide what is to be read.
    pub restored: AtomicBool,
    /// The rule's part of the state log, when there is one.
    pub log: OnceLock<Arc<RuleLog>>,
    /// After a restart, until what the alerts look at is whole again.
    pub hold: Mutex<Option<Hold>>,
    /// What the alerts look at, until the peer was asked about them.
    pub handover: Mutex<Option<Arc<[Need]>>>,
    /// Its data comes in whether or not this process runs.
    gapless: bool,
    /// Whose queries those of its templates are.
    origin: Arc<QueryOrigin>,
}

impl Alerting {
    pub(super) fn new(
        alert: &Arc<AlertSpec>,
        spec: &RuleSpec,
        policy: Policy,
        (restored, origin): (bool, Arc<QueryOrigin>),
    ) -> Self {
        let texts = |pairs: &BTreeMap<String, String>| {
            pairs.iter().map(|(n, v)| (n.clone(), Text::new(&alert.alert, v))).collect()
        };
        Self {
            spec: alert.clone(),
            params: AlertParams {
                for_ms: alert.for_ms,
                keep_firing_for_ms: alert.keep_firing_for_ms,
                policy,
                ..AlertParams::default()
            },
            labels: texts(&spec.labels),
            annotations: texts(&alert.annotations),
            states: Mutex::default(),
            notices: Notices::new(spec, &alert.annotations),
            input: OnceLock::new(),
            share: Share::default(),
            restored: AtomicBool::new(restored),
            log: OnceLock::new(),
            hold: Mutex::default(),
            handover: Mutex::default(),
            gapless: false,
            origin,
        }
    }

    /// What the group says about its alerts.
    pub(super) fn set_group(&mut self, limit: usize, policy: GroupPolicy) {
        self.params.limit = limit;
        self.params.truncate = policy.on_limit == OnLimit::Truncate;
        self.gapless = policy.catch_up_ms > 0;
    }

    /// Takes the alerts of the rule this one replaces.
    pub(super) fn copy_state(&self, from: &Alerting) {
        *self.states.lock() = std::mem::take(&mut *from.states.lock());
        from.share.settle(Load::default());
        self.restored.store(from.restored.load(Ordering::Relaxed), Ordering::Relaxed);
        *self.hold.lock() = from.hold.lock().take();
        *self.handover.lock() = from.handover.lock().take();
        if let Some(log) = from.log.get() {
            let _ = self.log.set(log.clone());
        }
    }

    /// Drops what the state log holds of the rule, which is gone.
    pub(super) fn forget_state(&self) {
        if let Some(log) = self.log.get() {
            log.forget();
        }
    }

    /// Moves the alerts on to tick `ts`, whose query ran at `at`, and gives the samples
    /// about them.
    pub(super) async fn evaluate(
        &self,
        rule: &RuleSpec,
        cx: &Context,
        answer: Answer,
        (ts, at): (TimestampMs, TimestampMs),
    ) -> Result<Vec<(Labels, Sample)>, RuleError> {
        let no_data =
            self.params.policy.on_no_data == OnNoData::Fire && answer.outcome == Outcome::NoData;
        // Mostly there is no alert and none comes.
        let quiet = answer.samples.is_empty() && !no_data && self.hold.lock().is_none();
        if quiet && self.states.lock().is_empty() {
            return Ok(Vec::new());
        }
        let external = cx.external.load_full();
        let mut queries = Queries::new(cx, &rule.datasource, ts, &self.origin);
        let mut samples = Vec::with_capacity(answer.samples.len());
        let url: Arc<str> = external.url.as_str().into();
        for sample in answer.samples {
            let sample = self.expand((&external.labels, &url), &mut queries, sample, ts).await;
            // Of those that go on, nothing is to be held twice.
            samples.push(self.states.lock().shared(sample));
        }
        let waiting = self.waiting(cx, &samples, answer.outcome, (ts, at)).await;
        let absences = self.absences(rule, cx, &samples, answer.outcome, at).await;
        let absence = |labels: &Labels| match waiting.has(labels) {
            true => Some(Absence::Restart),
            false => absences.of(labels),
        };
        let raised = no_data.then(|| self.notices.no_data());
        let out = self.step(cx, samples, &absence, raised.as_ref(), ts);
        out.result?;
        if out.truncated.is_some() {
            cx.metrics.limited.inc();
        }
        Ok(self.all_series(rule))
    }

    /// Moves the alerts on over a failed evaluation, where the policy says more than to
    /// leave them alone. `None` when it does not.
    pub(super) fn evaluate_failed(
        &self,
        rule: &RuleSpec,
        cx: &Context,
        error: &RuleError,
        ts: TimestampMs,
    ) -> Option<Vec<(Labels, Sample)>> {
        let raised = match self.params.policy.on_error {
            OnError::Keep => return None,
            OnError::Resolve => None,
            OnError::Fire => Some(self.notices.error(&error.to_string())),
        };
        let absence = |_: &Labels| Some(Absence::Error);
        self.step(cx, Vec::new(), &absence, raised.as_ref(), ts);
        Some(self.all_series(rule))
    }

    /// One step of the state machine, within the limits of all rules.
    fn step(
        &self,
        cx: &Context,
        samples: Vec<AlertSample>,
        absence: &dyn Fn(&Labels) -> Option<Absence>,
        raised: Option<&AlertSample>,
        ts: TimestampMs,
    ) -> Step {
        let mut states = self.states.lock();
        let active = self.load(&states);
        let (new, each_bytes) = states.count_new(&samples);
        let granted = self.share.take(&cx.budget, active, new, each_bytes);
        let allowance = active.alerts.saturating_add(granted);
        let policy = &self.params.policy;
        let speaks = policy.on_no_data == OnNoData::Fire
            || policy.on_error == OnError::Fire
            || self.params.truncate
            || cx.budget.is_limited();
        let notices = speaks.then_some(&self.notices);
        let evidence = Evidence { absence, notices, raised, allowance };
        let mut out = step(std::mem::take(&mut *states), &self.params, samples, evidence, ts);
        *states = std::mem::take(&mut out.states);
        self.share.settle(self.load(&states));
        out
    }

    /// Pending and firing alerts, notices aside.
    fn load(&self, states: &AlertStates) -> Load {
        let notices = self.notices.labels().filter_map(|labels| states.get(labels));
        let notices = Load::of(notices.filter(|a| a.state != AlertState::Inactive));
        Load::of(states.active()).minus(notices)
    }

    /// The active alerts whose lack of a sample says nothing, because what they look at is
    /// not whole again after a restart.
    async fn waiting(
        &self,
        cx: &Context,
        samples: &[AlertSample],
        outcome: Outcome,
        (ts, at): (TimestampMs, TimestampMs),
    ) -> Waiting {
        let Some(hold) = self.hold.lock().clone() else { return Waiting::Over };
        if hold.is_over(ts) {
            *self.hold.lock() = None;
            return Waiting::Over;
        }
        let sighted = matches!(outcome, Outcome::Matched | Outcome::FilterFalse);
        let missing = self.missing(samples);
        if missing.is_empty() || self.gapless && sighted {
            return Waiting::Over;
        }
        if outcome == Outcome::NoData {
            return Waiting::All;
        }
        match hold.waiting(&cx.source, at, &missing).await {
            Ok(Waiting::Over) => {
                *self.hold.lock() = None;
                Waiting::Over
            }
            Ok(waiting) => waiting,
            Err(error) => {
                let rule = &self.spec.alert;
                tracing::warn!(rule, %error, "whether the data of alerts is whole again after the restart cannot be told; they wait");
                Waiting::All
            }
        }
    }

    /// The labels of the active alerts without a sample, notices aside.
    fn missing(&self, samples: &[AlertSample]) -> Vec<Labels> {
        let mut missing = self.states.lock().without_sample(samples);
        missing.retain(|labels| !self.notices.labels().any(|notice| notice == labels));
        missing
    }

    /// Why active alerts have no sample. Asks for the input of the condition only when the
    /// answer makes a difference.
    async fn absences(
        &self,
        rule: &RuleSpec,
        cx: &Context,
        samples: &[AlertSample],
        outcome: Outcome,
        at: TimestampMs,
    ) -> Absences<'_> {
        match outcome {
            Outcome::Partial => return Absences::All(Some(Absence::Partial)),
            Outcome::NoData => return Absences::All(Some(Absence::NoData)),
            _ => {}
        }
        let policy = &self.params.policy;
        let matters = policy.on_no_data != OnNoData::Resolve
            || policy.missing_evals_to_resolve > 1
            || cx.annotate_resolved;
        if !matters {
            return Absences::All(None);
        }
        if self.missing(samples).is_empty() {
            return Absences::All(None);
        }
        let (query, aside) = match self.input(rule, &cx.engine) {
            None => return Absences::All(None),
            Some(Input::Itself) => return Absences::All(Some(Absence::NoData)),
            Some(Input::Other { query, aside }) => (query, aside),
        };
        let answer = query.instant(&cx.source, at, &cx.run).await;
        match answer.map_err(RuleError::from).and_then(Answer::new) {
            Ok(input) if input.outcome == Outcome::Partial => Absences::All(Some(Absence::Partial)),
            Ok(input) => Absences::Each(Known::new(&input.samples, aside)),
            // Without its conditions the expression may be one that can never be evaluated.
            // Then nobody can tell, and Prometheus' way is the way.
            Err(RuleError::Query(QueryError::Execution(error))) => {
                tracing::debug!(
                    rule = self.spec.alert,
                    error,
                    "whether the data of an alert is missing cannot be told"
                );
                Absences::All(None)
            }
            Err(_) => Absences::All(Some(Absence::Partial)),
        }
    }

    fn input(&self, rule: &RuleSpec, engine: &Arc<Engine>) -> Option<&Input> {
        let plan = || match Input::new(&rule.expr.expr, &rule.labels, engine, &self.origin) {
            Ok(input) => Some(input),
            Err(error) => {
                // E.g. an expression at the limit of nesting.
                let rule = &self.spec.alert;
                tracing::warn!(rule, %error, "whether the data of this rule's alerts is missing cannot be told");
                None
            }
        };
        self.input.get_or_init(plan).as_ref()
    }

    /// The series of all active alerts.
    pub(super) fn all_series(&self, rule: &RuleSpec) -> Vec<(Labels, Sample)> {
        if !self.restored.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let base = rule.label_set();
        let mut states = self.states.lock();
        let mut series = Vec::with_capacity(2 * states.active().count());
        for alert in states.iter_mut().filter(|a| a.state != AlertState::Inactive) {
            series.extend(self.series(&base, alert));
        }
        series
    }

    /// The series that another process may have written last, when it was done with a tick:
    /// those that have ended since have to be told so.
    pub(super) fn series_since(
        &self,
        rule: &RuleSpec,
        last_tick: Option<TimestampMs>,
    ) -> Vec<Labels> {
        if !self.restored.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let since = last_tick.unwrap_or(TimestampMs::MIN);
        let base = rule.label_set();
        let states = self.states.lock();
        let mut series = Vec::new();
        for alert in states.iter() {
            let is_new = |at: Option<TimestampMs>| at.is_some_and(|at| at > since);
            let mut add = |state: AlertState| {
                let mut before = Alert { state, ..alert.clone() };
                series.extend(self.series(&base, &mut before).map(|(labels, _)| labels));
            };
            if alert.state != AlertState::Inactive {
                add(alert.state);
            }
            if is_new(alert.resolved_at_ms) {
                add(AlertState::Firing);
            }
            if is_new(alert.fired_at_ms) {
                add(AlertState::Pending);
            }
        }
        series
    }

    async fn expand(
        &self,
        (external_labels, external_url): (&Labels, &Arc<str>),
        queries: &mut Queries<'_>,
        sample: VectorSample,
        ts: TimestampMs,
    ) -> AlertSample {
        let data = TemplateData::alert(
            sample.labels.clone(),
            external_labels.clone(),
            external_url.clone(),
            &sample.sample,
            ts,
        );
        // Of one name what comes later counts.
        let mut labels: BTreeMap<&str, Cow<'_, str>> = BTreeMap::from([(METRIC_NAME, "".into())]);
        for (name, text) in &self.labels {
            labels.insert(name, text.expand(&data, queries).await);
        }
        labels.insert(ALERT_NAME, self.spec.alert.as_str().into());
        let mut annotations = Vec::with_capacity(self.annotations.len());
        for (name, text) in &self.annotations {
            annotations.push((name.as_str(), text.expand(&data, queries).await));
        }
        AlertSample {
            labels: sample.labels.with(labels.iter().map(|(name, value)| (*name, &**value))),
            // Unlike a label, an annotation whose text comes out empty stays.
            annotations: {
                annotations.sort_by_key(|(name, _)| *name);
                Labels::from_sorted_pairs(annotations.iter().map(|(n, v)| (*n, &**v)))
            },
            // As in Prometheus, an alert on a histogram has the value 0.
            value: match sample.sample {
                Sample::Float(value) => value,
                Sample::Histogram(_) => 0.0,
            },
        }
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of one alert that is in an active state. The rule's
    /// labels as written are their base: they show where a label's template expanded to
    /// nothing.
    fn series(&self, base: &Labels, alert: &mut Alert) -> [(Labels, Sample); 2] {
        let Alert { labels, state, series, active_at_ms, .. } = alert;
        let for_state = || {
            let only_base = base.iter().filter(|(name, _)| labels.get(name).is_none());
            let mut changes: BTreeMap<&str, &str> = only_base.collect();
            changes.insert(METRIC_NAME, ALERTS_FOR_STATE);
            changes.insert(ALERT_NAME, &self.spec.alert);
            labels.with(changes.into_iter())
        };
        let alerts = |for_state: &Labels| {
            for_state.with([(METRIC_NAME, ALERTS), (ALERT_STATE, state.as_str())].into_iter())
        };
        let [alerts, for_state] = series.get(*state, for_state, alerts);
        let active_since = active_at_ms.div_euclid(1000) as f64;
        [(alerts, Sample::Float(1.0)), (for_state, Sample::Float(active_since))]
    }

    /// Writes what changed to the state log, and takes what is due at `ts` when the alerts
    /// `moved` on and somebody is there to take it. Comes before anything that others see:
    /// samples and notifications.
    pub(super) async fn commit(
        &self,
        cx: &Context,
        ts: TimestampMs,
        interval_ms: i64,
        moved: bool,
    ) -> Vec<Alert> {
        let (due, unsynced) = {
            let mut states = self.states.lock();
            let due = match moved && cx.notifier.has_receivers() {
                true => states.take_due(ts, cx.resend_delay_ms, interval_ms),
                false => Vec::new(),
            };
            let restored = self.restored.load(Ordering::Relaxed);
            let unsynced = self.log.get().and_then(|log| log.record(&mut states, &due, restored));
            (due, unsynced)
        };
        if let Some(unsynced) = unsynced {
            unsynced.wait().await;
        }
        due
    }

    /// Hands what is due at `ts` to the notifier.
    pub(super) fn send(&self, rule: &RuleSpec, cx: &Context, ts: TimestampMs, due: Vec<Alert>) {
        if due.is_empty() {
            return;
        }
        let url: Arc<str> = generator_url(&cx.external.load().url, &rule.expr.printed).into();
        let receipt = self.log.get().map(|log| log.receipt(ts)).unwrap_or_default();
        let why = cx.annotate_resolved;
        let alerts = due.into_iter().map(|alert| outgoing(alert, ts, &url, why, receipt.clone()));
        cx.notifier.send(alerts.collect());
    }

    /// The alerts that are `wanted`, by labels.
    pub(super) fn alerts_that(&self, wanted: impl Fn(&Alert) -> bool) -> Vec<Alert> {
        let states = self.states.lock();
        let mut found: Vec<Alert> = states.iter().filter(|a| wanted(a)).cloned().collect();
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        found
    }
}

/// Why active alerts have no sample.
enum Absences<'a> {
    /// All for the same reason, if anybody looked.
    All(Option<Absence>),
    Each(Known<'a>),
}

impl Absences<'_> {
    fn of(&self, labels: &Labels) -> Option<Absence> {
        match self {
            Self::All(reason) => *reason,
            Self::Each(known) if known.has(labels) => Some(Absence::FilterFalse),
            Self::Each(_) => Some(Absence::NoData),
        }
    }
}

/// Annotation of resolved alerts that says why, when asked for.
const RESOLVED_REASON: &str = "watchfire_resolved_reason";

fn outgoing(
    alert: Alert,
    ts: TimestampMs,
    url: &Arc<str>,
    why: bool,
    receipt: Receipt,
) -> OutgoingAlert {
    let reason = alert.missing.and_then(|m| m.reason).filter(|_| why);
    let annotations = match reason {
        Some(reason) if alert.state == AlertState::Inactive => {
            alert.annotations.builder().set(RESOLVED_REASON, reason.as_str()).build()
        }
        _ => alert.annotations,
    };
    OutgoingAlert {
        labels: alert.labels,
        annotations,
        starts_at_ms: alert.fired_at_ms.unwrap_or(alert.active_at_ms),
        ends_at_ms: alert.resolved_at_ms.or(alert.valid_until_ms).unwrap_or(ts),
        generator_url: url.clone(),
        receipt,
    }
}

/// What Go's `url.QueryEscape` leaves alone.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a person sees the expression: the graph page of this server.
fn generator_url(external_url: &str, expr: &str) -> String {
    let expr = utf8_percent_encode(expr, QUERY).to_string().replace("%20", "+");
    format!("{}/graph?g0.expr={expr}&g0.tab=1", external_url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_urls_are_escaped_as_prometheus_does() {
        assert_eq!(
            generator_url("http://h:9090/p/", r#"up{a="b~c"} == 0"#),
            "http://h:9090/p/graph?g0.expr=up%7Ba%3D%22b~c%22%7D+%3D%3D+0&g0.tab=1"
        );
    }
}
