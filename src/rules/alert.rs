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

use rustc_hash::FxHashSet;
use thiserror::Error;

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
    /// Most pending and firing alerts together; 0 is no limit.
    pub limit: usize,
    /// Alerts active since before this time do not end in this step, nor get on while they
    /// have no sample: just after a restart its absence says nothing.
    pub hold_before_ms: Option<TimestampMs>,
}

/// One sample of the rule's result, its templates expanded.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertSample {
    /// The alert's labels, `alertname` included: its identity.
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
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
    pub(super) logged: Logged,
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
            logged: Logged::default(),
        }
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

/// The outcome of a step. What is pending or firing afterwards is what `ALERTS` holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub states: AlertStates,
    /// By labels.
    pub events: Vec<Event>,
    pub result: Result<(), AlertError>,
}

/// Moves the alerts of a rule on to tick `ts`, whose successful result is `samples`. A
/// failed evaluation makes no step: absence of an answer is not absence of the condition.
pub fn step(
    mut states: AlertStates,
    params: &AlertParams,
    samples: Vec<AlertSample>,
    ts: TimestampMs,
) -> Step {
    let mut present = FxHashSet::with_capacity_and_hasher(samples.len(), Default::default());
    for sample in &samples {
        if !present.insert(sample.labels.clone()) {
            return Step { states, events: Vec::new(), result: Err(AlertError::Duplicate) };
        }
    }
    let mut events = Vec::new();
    for sample in samples {
        match states.alerts.get_mut(&sample.labels) {
            Some(alert) if alert.state != AlertState::Inactive => {
                alert.value = sample.value;
                alert.annotations = sample.annotations;
            }
            _ => {
                events.push(Event { labels: sample.labels.clone(), change: Change::Pending });
                states.alerts.insert(sample.labels.clone(), Alert::new(sample, ts));
            }
        }
    }
    let mut found = 0;
    states.alerts.retain(|labels, alert| {
        let mut note = |change| events.push(Event { labels: labels.clone(), change });
        if present.contains(labels) {
            alert.keep_firing_since_ms = None;
        } else if !keep_firing(alert, params, ts, &mut note) {
            let held = params.hold_before_ms.is_some_and(|at| alert.active_at_ms < at)
                && alert.state != AlertState::Inactive;
            found += usize::from(held);
            return held || end(alert, ts, &mut note);
        }
        found += 1;
        advance(alert, params, ts, &mut note);
        true
    });
    events.sort();
    if params.limit > 0 && found > params.limit {
        let result = Err(AlertError::Limit { limit: params.limit, found });
        return Step { states: AlertStates::default(), events: Vec::new(), result };
    }
    Step { states, events, result: Ok(()) }
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
