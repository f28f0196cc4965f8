//! The life of alerts, as a pure function: `(states, samples, tick) -> (states, events)`.
//!
//! Live evaluation, unit tests and everything that replays rules use this one function.
//! It knows neither clocks, templates, storage nor who is told. The behaviour is that of
//! Prometheus' alerting rules:
//!
//! ```text
//!            present                    for elapsed
//! (none) ------------> pending ------------------------> firing
//!    ^                    |   <------------------------     |
//!    |                    |     `for` was raised            | absent, and not kept
//!    |       absent       |                                 v by keep_firing_for
//!    +--------------------+                              inactive (resolved)
//!    |                     15 minutes                       |  |
//!    +------------------------------------------------------+  +--> pending: present again
//! ```
//!
//! A rule's [`Policy`] may hold an alert whose data is missing where Prometheus ends it,
//! a limit may refuse new alerts where Prometheus fails, and notices, alerts about the rule
//! itself, live beside those of its series. The defaults are Prometheus'.

use rustc_hash::FxHashSet;
use thiserror::Error;

use super::notice::Notices;
use super::policy::{OnError, OnNoData, Policy};
use super::table::AlertTable;
use super::view::AlertState;
use crate::model::{Labels, TimestampMs};

/// How long a resolved alert is remembered, so that its end reaches every Alertmanager.
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

/// What of a rule the states depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertParams {
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
    /// Most pending and firing alerts together; 0 is no limit. Notices do not count.
    pub limit: usize,
    /// Alerts beyond the limit are refused, instead of the step failing.
    pub truncate: bool,
    pub policy: Policy,
}

/// One sample of the rule's result, its templates expanded.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSample {
    /// The alert's labels, `alertname` included: its identity.
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
}

/// Why an active alert has no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Absence {
    /// Its series are there, the condition does not hold.
    FilterFalse,
    /// What the condition looks at is not there.
    NoData,
    /// Part of the sources did not answer.
    Partial,
    /// The evaluation failed.
    Error,
    /// What it looks at is not whole again after a restart: that says nothing.
    Restart,
}

impl Absence {
    /// `filter_false`, `no_data`, `partial`, `error` or `restart`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FilterFalse => "filter_false",
            Self::NoData => "no_data",
            Self::Partial => "partial",
            Self::Error => "error",
            Self::Restart => "restart",
        }
    }
}

/// Since when an alert has no sample, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub since_ms: TimestampMs,
    /// Evaluations in a row, up to the last one, in which its data was missing.
    pub evaluations: u32,
    /// As the last evaluation had it; `None` when nobody looked.
    pub reason: Option<Absence>,
}

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
    /// `Inactive`, `Pending` or `Firing`.
    pub state: AlertState,
    pub active_at_ms: TimestampMs,
    pub fired_at_ms: Option<TimestampMs>,
    pub resolved_at_ms: Option<TimestampMs>,
    pub last_sent_at_ms: Option<TimestampMs>,
    /// Until when the last notification holds if no other arrives.
    pub valid_until_ms: Option<TimestampMs>,
    /// Since when the alert fires only because of `keep_firing_for`.
    pub keep_firing_since_ms: Option<TimestampMs>,
    /// Set while an active alert has no sample, and of a resolved one: what ended it.
    pub missing: Option<Missing>,
    pub(super) logged: Logged,
    pub(super) series: AlertSeries,
}

/// The labels of the two series about an alert, as they were written last: the very sets
/// that the store has, so that a million alerts hold them once.
#[derive(Clone, Debug, Default)]
pub(super) struct AlertSeries(Option<(AlertState, Labels, Labels)>);

impl AlertSeries {
    /// `ALERTS` and `ALERTS_FOR_STATE`. What `make_for_state` makes must depend on nothing
    /// that changes while the alert lives; `make_alerts` makes the first from the second
    /// and the state.
    pub(super) fn get(
        &mut self,
        state: AlertState,
        make_for_state: impl FnOnce() -> Labels,
        make_alerts: impl FnOnce(&Labels) -> Labels,
    ) -> [Labels; 2] {
        let for_state = match self.0.take() {
            Some((as_of, alerts, for_state)) if as_of == state => {
                self.0 = Some((state, alerts.clone(), for_state.clone()));
                return [alerts, for_state];
            }
            Some((_, _, for_state)) => for_state,
            None => make_for_state(),
        };
        let alerts = make_alerts(&for_state);
        self.0 = Some((state, alerts.clone(), for_state.clone()));
        [alerts, for_state]
    }
}

/// Alerts are equal whatever was written about them.
impl PartialEq for AlertSeries {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What an active alert takes in memory beside its texts: what is known of it, its places
/// in tables, and its two series in the store with some samples and their index. Measured
/// with the bench `alert_state`, a million of them, and rounded up.
pub(super) const ALERT_BYTES: usize = 2_600;

/// What an active alert of these texts takes in memory, its two series in the store
/// included: they carry its labels once more each.
fn bytes(labels: &Labels, annotations: &Labels) -> usize {
    ALERT_BYTES + 3 * labels.encoded_size() + annotations.encoded_size()
}

/// What the state log holds of an alert; the log's business alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Logged {
    /// 0 when it does not hold it.
    pub number: u32,
    pub fingerprint: u64,
}

/// Alerts are equal whatever is logged of them.
impl PartialEq for Logged {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Alert {
    pub(super) fn new(sample: AlertSample, ts: TimestampMs) -> Self {
        Self {
            labels: sample.labels,
            annotations: sample.annotations,
            value: sample.value,
            state: AlertState::Pending,
            active_at_ms: ts,
            fired_at_ms: None,
            resolved_at_ms: None,
            last_sent_at_ms: None,
            valid_until_ms: None,
            keep_firing_since_ms: None,
            missing: None,
            logged: Logged::default(),
            series: AlertSeries::default(),
        }
    }

    /// About what it takes in memory while it is active.
    pub(super) fn bytes(&self) -> usize {
        bytes(&self.labels, &self.annotations)
    }

    /// Whether Alertmanagers should hear of this alert at `ts`: it was never sent, it ended
    /// since it was, or more than `resend_delay_ms` have passed. Pending alerts never are.
    pub fn is_due(&self, ts: TimestampMs, resend_delay_ms: i64) -> bool {
        let Some(sent) = self.last_sent_at_ms else { return self.state != AlertState::Pending };
        self.state != AlertState::Pending
            && (self.resolved_at_ms.is_some_and(|at| at > sent)
                || sent.saturating_add(resend_delay_ms) < ts)
    }
}

/// The alerts of one rule, resolved ones included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertStates {
    alerts: AlertTable,
}

impl AlertStates {
    /// Whether there is no alert, resolved ones included.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Every alert, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Alert> {
        self.alerts.values_mut()
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = Alert> {
        self.alerts.into_values()
    }

    /// The pending and firing ones, in no order.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.iter().filter(|a| a.state != AlertState::Inactive)
    }

    /// The gravest state of all alerts; `Inactive` when there is none.
    pub fn state(&self) -> AlertState {
        self.iter().map(|a| a.state).max().unwrap_or(AlertState::Inactive)
    }

    /// One alert by its labels.
    pub fn get(&self, labels: &Labels) -> Option<&Alert> {
        self.alerts.get(labels)
    }

    /// Adds an alert, replacing the one with the same labels.
    pub fn insert(&mut self, alert: Alert) {
        self.alerts.insert(alert.labels.clone(), alert);
    }

    /// How many of these samples belong to no active alert, and the most bytes an alert of
    /// one of them takes.
    pub(super) fn count_new(&self, samples: &[AlertSample]) -> (usize, usize) {
        let new = samples.iter().filter(|s| !self.is_active(&s.labels));
        new.fold((0, 0), |(count, most), sample| {
            (count + 1, bytes(&sample.labels, &sample.annotations).max(most))
        })
    }

    /// The same sample, its texts shared with the alert it belongs to where they are equal.
    pub(super) fn shared(&self, sample: AlertSample) -> AlertSample {
        let Some(alert) = self.alerts.get(&sample.labels) else { return sample };
        let same = alert.annotations == sample.annotations;
        let annotations = if same { alert.annotations.clone() } else { sample.annotations };
        AlertSample { labels: alert.labels.clone(), annotations, value: sample.value }
    }

    /// The labels of the active alerts that have none of these samples.
    pub fn without_sample(&self, samples: &[AlertSample]) -> Vec<Labels> {
        let present: FxHashSet<&Labels> = samples.iter().map(|s| &s.labels).collect();
        let missing = self.active().filter(|a| !present.contains(&a.labels));
        missing.map(|a| a.labels.clone()).collect()
    }

    fn is_active(&self, labels: &Labels) -> bool {
        self.alerts.get(labels).is_some_and(|a| a.state != AlertState::Inactive)
    }

    /// Forgets resolved alerts that nobody was told of.
    pub fn forget_untold(&mut self) {
        self.alerts.retain(|_, a| a.state != AlertState::Inactive || a.last_sent_at_ms.is_some());
    }

    /// Changes since when active alerts are; `None` leaves one as it is.
    pub fn restore_active_at(&mut self, find: impl Fn(&Alert) -> Option<TimestampMs>) {
        for alert in self.alerts.values_mut().filter(|a| a.state != AlertState::Inactive) {
            if let Some(at) = find(alert) {
                alert.active_at_ms = at;
            }
        }
    }

    /// Takes what is due at `ts`, by labels, and notes that it was sent. A notification
    /// stays valid for four times the longer of interval and resend delay, so that two may
    /// get lost.
    pub fn take_due(
        &mut self,
        ts: TimestampMs,
        resend_delay_ms: i64,
        interval_ms: i64,
    ) -> Vec<Alert> {
        let mut due = Vec::new();
        for alert in self.alerts.values_mut().filter(|a| a.is_due(ts, resend_delay_ms)) {
            let validity = resend_delay_ms.max(interval_ms).saturating_mul(4);
            alert.last_sent_at_ms = Some(ts);
            alert.valid_until_ms = Some(ts.saturating_add(validity));
            due.push(alert.clone());
        }
        due.sort_by(|a, b| a.labels.cmp(&b.labels));
        due
    }
}

/// What happened to an alert in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// New, or back after it was resolved.
    Pending,
    Firing,
    /// Its condition is gone but `keep_firing_for` holds it.
    Kept,
    /// Its data is missing and the policy holds it as it is.
    Held,
    /// `for` was raised beyond its age: firing no more.
    Demoted,
    Resolved,
    /// It never fired, and its condition is gone.
    Dropped,
    /// Resolved long enough ago.
    Forgotten,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    pub labels: Labels,
    pub change: Change,
}

/// Why a step failed. Texts are Prometheus'.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AlertError {
    /// States are as before.
    #[error("vector contains metrics with the same labelset after applying alert labels")]
    Duplicate,
    /// All states are gone.
    #[error("exceeded limit of {limit} with {found} alerts")]
    Limit { limit: usize, found: usize },
}

/// What one evaluation found.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// Why an active alert has no sample; asked once for each that has none.
    pub absence: &'a dyn Fn(&Labels) -> Option<Absence>,
    /// The rule's alerts about itself. One is raised when a limit refuses alerts.
    pub notices: Option<&'a Notices>,
    /// The notice that holds now, by its sample. One that holds no more ends.
    pub raised: Option<&'a AlertSample>,
    /// Most active alerts the rule may have, notices aside. What is active stays even so.
    pub allowance: usize,
}

impl Default for Evidence<'_> {
    /// Nobody looked, and everything may come.
    fn default() -> Self {
        Self { absence: &|_| None, notices: None, raised: None, allowance: usize::MAX }
    }
}

/// Alerts that a limit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Pending and firing alerts that there are.
    pub kept: usize,
    /// That there would be.
    pub found: usize,
}

/// The outcome of a step. What is pending or firing afterwards is what `ALERTS` holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub states: AlertStates,
    /// By labels.
    pub events: Vec<Event>,
    pub truncated: Option<Truncated>,
    pub result: Result<(), AlertError>,
}

/// Moves the alerts of a rule on to tick `ts`, whose result is `samples`. Without
/// `evidence` an alert that has no sample ends, as in Prometheus; there, a failed
/// evaluation makes no step: absence of an answer is not absence of the condition.
pub fn step(
    states: AlertStates,
    params: &AlertParams,
    samples: Vec<AlertSample>,
    evidence: Evidence<'_>,
    ts: TimestampMs,
) -> Step {
    let mut present = FxHashSet::with_capacity_and_hasher(samples.len(), Default::default());
    for sample in &samples {
        if !present.insert(sample.labels.clone()) {
            let result = Err(AlertError::Duplicate);
            return Step { states, events: Vec::new(), truncated: None, result };
        }
    }
    let mut run = Run { states, params, evidence, ts, events: Vec::new() };
    let fresh = run.update(samples);
    let staying = run.age(&present);
    let found = staying + fresh.len();
    if params.limit > 0 && found > params.limit && !params.truncate {
        let result = Err(AlertError::Limit { limit: params.limit, found });
        let states = AlertStates::default();
        return Step { states, events: Vec::new(), truncated: None, result };
    }
    let admitted = run.admit(fresh, staying);
    let truncated =
        (staying + admitted < found).then_some(Truncated { kept: staying + admitted, found });
    run.notify(&present, truncated);
    run.events.sort();
    Step { states: run.states, events: run.events, truncated, result: Ok(()) }
}

/// A step under way.
struct Run<'a> {
    states: AlertStates,
    params: &'a AlertParams,
    evidence: Evidence<'a>,
    ts: TimestampMs,
    events: Vec<Event>,
}

impl Run<'_> {
    /// Gives active alerts their samples; what is left belongs to no active alert.
    fn update(&mut self, samples: Vec<AlertSample>) -> Vec<AlertSample> {
        let mut fresh = Vec::new();
        for sample in samples {
            match self.states.alerts.get_mut(&sample.labels) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.value = sample.value;
                    alert.annotations = sample.annotations;
                }
                _ => fresh.push(sample),
            }
        }
        fresh
    }

    /// Moves on what was there before, notices aside, and counts what stays active.
    fn age(&mut self, present: &FxHashSet<Labels>) -> usize {
        let Self { states, params, evidence, ts, events } = self;
        let mut staying = 0;
        states.alerts.retain(|labels, alert| {
            let mut note = |change| events.push(Event { labels: labels.clone(), change });
            if evidence.is_notice(labels) && !present.contains(labels) {
                return true;
            }
            if present.contains(labels) {
                // A resolved one that is back waits to be replaced.
                if alert.state == AlertState::Inactive {
                    return true;
                }
                alert.keep_firing_since_ms = None;
                alert.missing = None;
            } else {
                let held = alert.state != AlertState::Inactive
                    && hold(alert, params, evidence, *ts, &mut note);
                if held {
                    staying += 1;
                    return true;
                }
                if !keep_firing(alert, params, *ts, &mut note) {
                    return end(alert, *ts, &mut note);
                }
            }
            staying += 1;
            advance(alert, params, *ts, &mut note);
            true
        });
        staying
    }

    /// Adds new alerts as far as limits allow, by labels, and counts them. Alerts that are
    /// active stay whatever the limit: taking one away would resolve it falsely. So the
    /// same ones stay from tick to tick.
    fn admit(&mut self, mut fresh: Vec<AlertSample>, staying: usize) -> usize {
        let limit = if self.params.limit == 0 { usize::MAX } else { self.params.limit };
        let room = limit.min(self.evidence.allowance).saturating_sub(staying);
        if fresh.len() > room {
            fresh.sort_by(|a, b| a.labels.cmp(&b.labels));
            fresh.truncate(room);
        }
        let admitted = fresh.len();
        for sample in fresh {
            self.begin(sample);
        }
        admitted
    }

    fn begin(&mut self, sample: AlertSample) {
        let labels = sample.labels.clone();
        let events = &mut self.events;
        let mut note = |change| events.push(Event { labels: labels.clone(), change });
        note(Change::Pending);
        let mut alert = Alert::new(sample, self.ts);
        advance(&mut alert, self.params, self.ts, &mut note);
        self.states.alerts.insert(labels, alert);
    }

    /// Raises the notices that hold, ends the others. They pass through `for` as any alert
    /// does; `keep_firing_for` is about a condition and leaves them alone.
    fn notify(&mut self, present: &FxHashSet<Labels>, truncated: Option<Truncated>) {
        let Some(notices) = self.evidence.notices else { return };
        let limit = truncated.map(|t| notices.limit(t));
        let raised = self.evidence.raised.into_iter().chain(&limit);
        // A series may look like the notice: it is an alert of its own then.
        let raised: Vec<&AlertSample> = raised.filter(|s| !present.contains(&s.labels)).collect();
        for labels in notices.labels() {
            if present.contains(labels) {
                continue;
            }
            let holds = raised.iter().find(|s| s.labels == *labels);
            let failed = (self.evidence.absence)(labels) == Some(Absence::Error);
            let Some(alert) = self.states.alerts.get_mut(labels) else { continue };
            let events = &mut self.events;
            let mut note = |change| events.push(Event { labels: labels.clone(), change });
            match holds {
                Some(_) if alert.state == AlertState::Inactive => {}
                Some(sample) => {
                    alert.annotations = sample.annotations.clone();
                    alert.value = sample.value;
                    advance(alert, self.params, self.ts, &mut note);
                }
                // Nobody knows whether what it says still holds.
                None if failed && alert.state != AlertState::Inactive => {}
                None => {
                    if !end(alert, self.ts, &mut note) {
                        self.states.alerts.remove(labels);
                    }
                }
            }
        }
        let fresh: Vec<AlertSample> =
            raised.into_iter().filter(|s| !self.states.is_active(&s.labels)).cloned().collect();
        fresh.into_iter().for_each(|sample| self.begin(sample));
    }
}

impl Evidence<'_> {
    fn is_notice(&self, labels: &Labels) -> bool {
        self.notices.is_some_and(|n| n.labels().any(|l| l == labels))
    }
}

/// Notes that an active alert has no sample, and whether the policy holds it as it is.
fn hold(
    alert: &mut Alert,
    params: &AlertParams,
    evidence: &Evidence<'_>,
    ts: TimestampMs,
    note: &mut impl FnMut(Change),
) -> bool {
    let reason = (evidence.absence)(&alert.labels);
    let before = alert.missing;
    let looked_at = matches!(reason, None | Some(Absence::FilterFalse));
    let missing = Missing {
        since_ms: before.map_or(ts, |m| m.since_ms),
        evaluations: match before {
            _ if looked_at => 0,
            // Neither here nor there.
            _ if reason == Some(Absence::Restart) => before.map_or(0, |m| m.evaluations),
            Some(before) => before.evaluations.saturating_add(1),
            None => 1,
        },
        reason,
    };
    alert.missing = Some(missing);
    let held = holds(&params.policy, missing);
    if held && !before.is_some_and(|m| holds(&params.policy, m)) {
        note(Change::Held);
    }
    held
}

/// Whether an alert stays although it has no sample. A condition that is false ends it
/// whatever the policy: holding such an alert is what `keep_firing_for` is for.
fn holds(policy: &Policy, missing: Missing) -> bool {
    let evals = policy.missing_evals_to_resolve;
    let few = missing.evaluations < evals;
    match missing.reason {
        None | Some(Absence::FilterFalse) => false,
        Some(Absence::Restart) => true,
        Some(Absence::NoData | Absence::Partial) => match policy.on_no_data {
            OnNoData::Resolve => few,
            // A number beyond the default bounds the keeping: a series may be gone for good.
            OnNoData::Keep | OnNoData::Fire => evals <= 1 || few,
        },
        Some(Absence::Error) => match policy.on_error {
            OnError::Resolve => few,
            OnError::Keep | OnError::Fire => true,
        },
    }
}

/// Whether an alert without a sample goes on firing.
fn keep_firing(
    alert: &mut Alert,
    params: &AlertParams,
    ts: TimestampMs,
    note: &mut impl FnMut(Change),
) -> bool {
    if alert.state != AlertState::Firing || params.keep_firing_for_ms <= 0 {
        return false;
    }
    if alert.keep_firing_since_ms.is_none() {
        note(Change::Kept);
    }
    let since = *alert.keep_firing_since_ms.get_or_insert(ts);
    ts - since < params.keep_firing_for_ms
}

/// Ends an alert without a sample; false when it is to be forgotten.
fn end(alert: &mut Alert, ts: TimestampMs, note: &mut impl FnMut(Change)) -> bool {
    match alert.state {
        AlertState::Firing => {
            alert.state = AlertState::Inactive;
            alert.resolved_at_ms = Some(ts);
            note(Change::Resolved);
            true
        }
        AlertState::Inactive => {
            let expired = alert.resolved_at_ms.is_some_and(|at| ts - at > RESOLVED_RETENTION_MS);
            if expired {
                note(Change::Forgotten);
            }
            !expired
        }
        AlertState::Pending | AlertState::Unknown => {
            note(Change::Dropped);
            false
        }
    }
}

/// Moves an active alert between pending and firing by its age.
fn advance(
    alert: &mut Alert,
    params: &AlertParams,
    ts: TimestampMs,
    note: &mut impl FnMut(Change),
) {
    let old_enough = ts - alert.active_at_ms >= params.for_ms;
    match alert.state {
        AlertState::Pending if old_enough => {
            alert.state = AlertState::Firing;
            alert.fired_at_ms = Some(ts);
            note(Change::Firing);
        }
        AlertState::Firing if !old_enough => {
            alert.state = AlertState::Pending;
            alert.fired_at_ms = None;
            alert.last_sent_at_ms = None;
            alert.keep_firing_since_ms = None;
            note(Change::Demoted);
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;
