//! What the state log says: its records, and alerts to and from them.
//!
//! Records are Protocol Buffers: a field a reader does not know is skipped, a field that is
//! absent has its default. A new field of an alert takes the next tag here, and a line in
//! [`fingerprint`] when it must survive a restart; a change of meaning takes a new version
//! of the file.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::RuleIdentity;
use crate::model::Labels;
use crate::rules::alert::{Absence, Alert, AlertSeries, Logged, Missing};
use crate::rules::view::AlertState;

/// One record; its parts take effect in the order of the fields.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    /// The change goes on in the next record, and takes effect with its last one.
    #[prost(bool, tag = "1")]
    pub more: bool,
    /// The rule's number in this log; 0 when the record is about none.
    #[prost(uint32, tag = "2")]
    pub rule: u32,
    /// Everything known of the rule gives way to what follows.
    #[prost(message, optional, tag = "3")]
    pub define: Option<RuleRecord>,
    /// Numbers of alerts that are no more, ascending, each as the distance to the last.
    #[prost(uint32, repeated, packed = "true", tag = "5")]
    pub remove: Vec<u32>,
    #[prost(message, repeated, tag = "6")]
    pub put: Vec<AlertRecord>,
    #[prost(message, repeated, tag = "7")]
    pub sent: Vec<SentRecord>,
    /// Ticks whose notifications every Alertmanager took.
    #[prost(sint64, repeated, packed = "true", tag = "8")]
    pub delivered: Vec<i64>,
    #[prost(message, repeated, tag = "9")]
    pub watermarks: Vec<WatermarkRecord>,
    /// Numbers of rules that are gone.
    #[prost(uint32, repeated, packed = "true", tag = "10")]
    pub forgotten: Vec<u32>,
}

/// Which rule a number stands for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RuleRecord {
    #[prost(string, tag = "1")]
    pub file: String,
    #[prost(string, tag = "2")]
    pub group: String,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(bytes = "vec", tag = "4")]
    pub labels: Vec<u8>,
    #[prost(uint32, tag = "5")]
    pub index: u32,
    /// There is nothing left to take over from `ALERTS_FOR_STATE`.
    #[prost(bool, tag = "6")]
    pub restored: bool,
}

/// An alert as it is now.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AlertRecord {
    /// Its number within the rule, from 1.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Absent when the number is known.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub labels: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "3")]
    pub annotations: Vec<u8>,
    #[prost(double, tag = "4")]
    pub value: f64,
    /// 1 inactive, 2 pending, 3 firing.
    #[prost(uint32, tag = "5")]
    pub state: u32,
    #[prost(sint64, tag = "6")]
    pub active_at_ms: i64,
    #[prost(sint64, optional, tag = "7")]
    pub fired_at_ms: Option<i64>,
    #[prost(sint64, optional, tag = "8")]
    pub resolved_at_ms: Option<i64>,
    #[prost(sint64, optional, tag = "9")]
    pub last_sent_at_ms: Option<i64>,
    #[prost(sint64, optional, tag = "10")]
    pub valid_until_ms: Option<i64>,
    #[prost(sint64, optional, tag = "11")]
    pub keep_firing_since_ms: Option<i64>,
    /// Since when it has no sample, in how many evaluations its data was missing, and why:
    /// 1 the condition is false, 2 no data, 3 part of the sources, 4 an error, 5 a restart.
    #[prost(sint64, optional, tag = "12")]
    pub missing_since_ms: Option<i64>,
    #[prost(uint32, tag = "13")]
    pub missing_evaluations: u32,
    #[prost(uint32, tag = "14")]
    pub missing_reason: u32,
}

/// Alerts that were handed to the notifier and have not changed otherwise.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SentRecord {
    #[prost(sint64, tag = "1")]
    pub tick_ms: i64,
    #[prost(sint64, tag = "2")]
    pub valid_until_ms: i64,
    /// Ascending, each as the distance to the last.
    #[prost(uint32, repeated, packed = "true", tag = "3")]
    pub numbers: Vec<u32>,
}

/// The last tick a group has completed.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatermarkRecord {
    #[prost(string, tag = "1")]
    pub file: String,
    #[prost(string, tag = "2")]
    pub group: String,
    /// Absent when the group is gone.
    #[prost(sint64, optional, tag = "3")]
    pub tick_ms: Option<i64>,
}

impl RuleRecord {
    pub(super) fn new(identity: &RuleIdentity, restored: bool) -> Self {
        Self {
            file: identity.file.clone(),
            group: identity.group.clone(),
            name: identity.name.clone(),
            labels: identity.labels.as_bytes().to_vec(),
            index: identity.index,
            restored,
        }
    }

    /// `None` when the labels are none.
    pub(super) fn identity(self) -> Option<RuleIdentity> {
        let labels = Labels::from_encoded(&self.labels)?;
        let Self { file, group, name, index, .. } = self;
        Some(RuleIdentity { file, group, name, labels, index })
    }
}

impl AlertRecord {
    pub(super) fn new(alert: &Alert, number: u32, with_labels: bool) -> Self {
        Self {
            number,
            labels: with_labels.then(|| alert.labels.as_bytes().to_vec()),
            annotations: alert.annotations.as_bytes().to_vec(),
            value: alert.value,
            state: match alert.state {
                AlertState::Unknown | AlertState::Inactive => 1,
                AlertState::Pending => 2,
                AlertState::Firing => 3,
            },
            active_at_ms: alert.active_at_ms,
            fired_at_ms: alert.fired_at_ms,
            resolved_at_ms: alert.resolved_at_ms,
            last_sent_at_ms: alert.last_sent_at_ms,
            valid_until_ms: alert.valid_until_ms,
            keep_firing_since_ms: alert.keep_firing_since_ms,
            missing_since_ms: alert.missing.map(|m| m.since_ms),
            missing_evaluations: alert.missing.map_or(0, |m| m.evaluations),
            missing_reason: match alert.missing.and_then(|m| m.reason) {
                None => 0,
                Some(Absence::FilterFalse) => 1,
                Some(Absence::NoData) => 2,
                Some(Absence::Partial) => 3,
                Some(Absence::Error) => 4,
                Some(Absence::Restart) => 5,
            },
        }
    }

    /// The alert, its labels given when the record has none. `None` when a part is not what
    /// it should be.
    pub(super) fn alert(self, known: Option<&Labels>) -> Option<Alert> {
        let labels = match &self.labels {
            Some(bytes) => Labels::from_encoded(bytes)?,
            None => known?.clone(),
        };
        Some(Alert {
            labels,
            annotations: Labels::from_encoded(&self.annotations)?,
            value: self.value,
            state: match self.state {
                1 => AlertState::Inactive,
                2 => AlertState::Pending,
                3 => AlertState::Firing,
                _ => return None,
            },
            active_at_ms: self.active_at_ms,
            fired_at_ms: self.fired_at_ms,
            resolved_at_ms: self.resolved_at_ms,
            last_sent_at_ms: self.last_sent_at_ms,
            valid_until_ms: self.valid_until_ms,
            keep_firing_since_ms: self.keep_firing_since_ms,
            missing: self.missing_since_ms.map(|since_ms| Missing {
                since_ms,
                evaluations: self.missing_evaluations,
                reason: match self.missing_reason {
                    1 => Some(Absence::FilterFalse),
                    2 => Some(Absence::NoData),
                    3 => Some(Absence::Partial),
                    4 => Some(Absence::Error),
                    5 => Some(Absence::Restart),
                    _ => None,
                },
            }),
            logged: Logged::default(),
            series: AlertSeries::default(),
        })
    }
}

/// A number that differs when something differs that must survive a restart at once.
///
/// Not in it: value and annotations, which the next evaluation brings anew while the
/// condition holds and which are written along with every other change; and when the alert
/// was sent, which has a record of its own.
pub(super) fn fingerprint(alert: &Alert) -> u64 {
    // Every field is named, so that a new one has to be decided about.
    let Alert {
        labels: _,
        annotations: _,
        value: _,
        last_sent_at_ms: _,
        valid_until_ms: _,
        logged: _,
        series: _,
        state,
        active_at_ms,
        fired_at_ms,
        resolved_at_ms,
        keep_firing_since_ms,
        missing,
    } = alert;
    let mut hasher = FxHasher::default();
    state.hash(&mut hasher);
    active_at_ms.hash(&mut hasher);
    fired_at_ms.hash(&mut hasher);
    resolved_at_ms.hash(&mut hasher);
    keep_firing_since_ms.hash(&mut hasher);
    // How often the data was missing is written along; counted anew it only ends later.
    missing.map(|m| (m.since_ms, m.reason)).hash(&mut hasher);
    hasher.finish()
}

/// Ascending numbers as distances.
pub(super) fn distances(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut last = 0;
    numbers.map(|n| n.wrapping_sub(std::mem::replace(&mut last, n))).collect()
}

/// Distances as numbers.
pub(super) fn numbers(distances: &[u32]) -> impl Iterator<Item = u32> {
    let mut last = 0u32;
    distances.iter().map(move |d| {
        last = last.wrapping_add(*d);
        last
    })
}

/// What the record is about is finished by it. Looks at the first field only.
pub(super) fn is_last_of_change(payload: &[u8]) -> bool {
    !payload.starts_with(&[1 << 3, 1])
}
