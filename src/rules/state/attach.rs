//! Tying rule groups to the log: who goes on from what, and whose state is dropped.

use rustc_hash::FxHashMap;

use super::{GroupKey, RuleIdentity, StateLog};
use crate::model::TimestampMs;
use crate::rules::alert::AlertStates;
use crate::rules::alerting::Alerting;
use crate::rules::group::Group;
use crate::rules::view::AlertState;

use std::sync::atomic::Ordering;

/// Longest time after a start for which the end of an alert is not believed.
const HOLD_MS_MAX: i64 = 5 * 60_000;

/// What has become of a group that the log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules) enum GroupFate {
    Runs,
    /// Its file could not be read or used: it may come back.
    Unread,
    Gone,
}

/// When the absence of an alert's samples says nothing, because they could not be taken
/// while the process was down: a window that reaches into the gap has fewer of them, and a
/// rate over too few samples is no rate. The gap is behind after as long as it lasted; it
/// is given twice that, for the first samples to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules) struct Hold {
    /// Evaluations before this time, and alerts active since before it: those that began
    /// after the start are about samples on both sides of the gap as well.
    pub until_ms: TimestampMs,
}

impl Hold {
    fn new(last_tick: Option<TimestampMs>, now_ms: TimestampMs) -> Self {
        let down_ms = now_ms.saturating_sub(last_tick.unwrap_or(i64::MIN)).max(0);
        let until_ms = now_ms + down_ms.saturating_mul(2).min(HOLD_MS_MAX);
        Self { until_ms }
    }
}

impl StateLog {
    /// Gives every alerting rule of a group its part of the log and its alerts from before
    /// the start. Rules that have taken over from others are left alone. Called before the
    /// group is evaluated for the first time.
    pub(in crate::rules) fn attach(
        &self,
        group: &Group,
        outage_tolerance_ms: i64,
        now_ms: TimestampMs,
    ) {
        let last_tick = self.watermark(&group.spec.file, &group.spec.name);
        let hold = Hold::new(last_tick, now_ms);
        let too_old = last_tick.is_some_and(|tick| now_ms - tick > outage_tolerance_ms);
        let mut equals: FxHashMap<_, u32> = FxHashMap::default();
        let mut all_restored = true;
        for rule in &group.rules {
            let Some(alerting) = &rule.alerting else { continue };
            let (name, labels) = (rule.spec.name().to_owned(), rule.spec.label_set());
            let next = equals.entry((name.clone(), labels.clone())).or_default();
            let index = std::mem::replace(next, *next + 1);
            if alerting.log.get().is_none() {
                let (file, group) = (group.spec.file.clone(), group.spec.name.clone());
                let identity = RuleIdentity { file, group, name, labels, index };
                self.attach_rule(alerting, identity, hold, too_old);
            }
            all_restored &= alerting.restored.load(Ordering::Relaxed);
        }
        if all_restored {
            group.restore_pending.store(false, Ordering::Relaxed);
        }
    }

    fn attach_rule(&self, alerting: &Alerting, identity: RuleIdentity, hold: Hold, too_old: bool) {
        let (log, image) = self.claim(identity);
        // An alert that is attached already has its log; there is no other caller.
        let _ = alerting.log.set(log);
        let Some(image) = image else { return };
        if image.restored {
            alerting.restored.store(true, Ordering::Relaxed);
        }
        let mut restored = AlertStates::default();
        for alert in image.into_states().into_iter() {
            // `for` does not count on through an outage that long; what fired goes on.
            if !(too_old && alert.state == AlertState::Pending) {
                restored.insert(alert);
            }
        }
        *alerting.states.lock() = restored;
        *alerting.hold.lock() = Some(hold);
    }

    /// Drops the state of a group that was removed.
    pub(in crate::rules) fn forget_group(&self, group: &Group) {
        for alerting in group.rules.iter().filter_map(|rule| rule.alerting.as_ref()) {
            alerting.forget_state();
        }
        let key = GroupKey { file: group.spec.file.clone(), name: group.spec.name.clone() };
        let mut writer = self.shared.writer.lock();
        writer.set_watermark(&key, None);
        self.shared.publish(&writer);
    }

    /// Drops what was read at start and that nobody will claim: rules that a group lacks
    /// now, and groups that are gone.
    pub(in crate::rules) fn forget_unclaimed(&self, fate: impl Fn(&str, &str) -> GroupFate) {
        let mut dormant = self.shared.dormant.lock();
        let mut gone = Vec::new();
        dormant.rules.retain(|rule, (number, image)| {
            let keep = fate(&rule.file, &rule.group) == GroupFate::Unread;
            if !keep {
                gone.push((*number, Some(image.generation)));
            }
            keep
        });
        let mut writer = self.shared.writer.lock();
        let groups: Vec<GroupKey> = writer
            .watermarks()
            .filter(|group| fate(&group.file, &group.name) == GroupFate::Gone)
            .cloned()
            .collect();
        for group in groups {
            writer.set_watermark(&group, None);
        }
        if !gone.is_empty() {
            tracing::info!(rules = gone.len(), "dropped the alert state of rules that are gone");
            writer.forget(&gone);
        }
        self.shared.publish(&writer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_is_not_believed_for_twice_the_gap_and_five_minutes_at_most() {
        let check = |last_tick, expected: i64| {
            let hold = Hold::new(last_tick, 1_000_000_000);
            assert_eq!(hold.until_ms - 1_000_000_000, expected);
        };
        check(Some(999_999_000), 2_000);
        check(Some(999_940_000), 120_000);
        check(Some(0), 300_000);
        check(None, 300_000);
        // A clock that went back.
        check(Some(1_000_000_500), 0);
    }
}
