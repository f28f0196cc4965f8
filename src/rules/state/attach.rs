//! Tying rule groups to the log: who goes on from what, and whose state is dropped.

use rustc_hash::FxHashMap;

use super::{GroupKey, RuleIdentity, StateLog};
use crate::model::TimestampMs;
use crate::rules::alert::AlertStates;
use crate::rules::alerting::Alerting;
use crate::rules::gap::{Gap, Hold};
use crate::rules::group::{Group, Rule};
use crate::rules::reach::Writers;
use crate::rules::view::AlertState;
use crate::rules::write::Written;

use std::sync::atomic::Ordering;

/// What has become of a group that the log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules) enum GroupFate {
    Runs,
    /// Its file could not be read or used: it may come back.
    Unread,
    Gone,
}

/// The alerting rules of a group with who they are.
pub(super) fn identities(group: &Group) -> impl Iterator<Item = (&Rule, &Alerting, RuleIdentity)> {
    let mut equals: FxHashMap<_, u32> = FxHashMap::default();
    let alerting = group.rules.iter().filter_map(|rule| Some((rule, rule.alerting.as_ref()?)));
    alerting.map(move |(rule, alerting)| {
        let (name, labels) = (rule.spec.name().to_owned(), rule.spec.label_set());
        let next = equals.entry((name.clone(), labels.clone())).or_default();
        let index = std::mem::replace(next, *next + 1);
        let (file, group) = (group.spec.file.clone(), group.spec.name.clone());
        (rule, alerting, RuleIdentity { file, group, name, labels, index })
    })
}

/// What attaching a group needs to know.
#[derive(Clone, Copy)]
pub(in crate::rules) struct Restart<'a> {
    /// Everything that runs.
    pub writers: &'a Writers<'a>,
    pub outage_tolerance_ms: i64,
    /// How far back a query finds the newest sample.
    pub lookback_ms: i64,
    pub now_ms: TimestampMs,
}

impl StateLog {
    /// Gives every alerting rule of a group its part of the log and its alerts from before
    /// the start. Rules that have taken over from others are left alone. Called before the
    /// group is evaluated for the first time.
    pub(in crate::rules) fn attach(&self, group: &Group, restart: Restart<'_>) {
        let last_tick = self.watermark(&group.spec.file, &group.spec.name);
        // A group that was only loaded anew has missed nothing.
        let restarted = !group.has_run();
        let mut all_restored = true;
        for (rule, alerting, identity) in identities(group) {
            if alerting.log.get().is_none() {
                self.attach_rule(rule, alerting, identity, (last_tick, restarted), restart);
            } else if let Some(hold) = alerting.hold.lock().as_mut() {
                // It may look at something else now.
                hold.needs = restart.writers.needs(&rule.spec).into();
            }
            all_restored &= alerting.restored.load(Ordering::Relaxed);
        }
        if all_restored {
            group.restore_pending.store(false, Ordering::Relaxed);
        }
    }

    fn attach_rule(
        &self,
        rule: &Rule,
        alerting: &Alerting,
        identity: RuleIdentity,
        (last_tick, restarted): (Option<TimestampMs>, bool),
        restart: Restart<'_>,
    ) {
        let Restart { writers, outage_tolerance_ms, lookback_ms, now_ms } = restart;
        let (log, image) = self.claim(identity);
        // An alert that is attached already has its log; there is no other caller.
        let _ = alerting.log.set(log);
        if restarted && (last_tick.is_some() || image.is_some()) {
            // Also for alerts that are yet to come: they may begin with samples from before.
            let gap = Gap::new(last_tick, now_ms, lookback_ms);
            let needs = writers.needs(&rule.spec).into();
            *alerting.hold.lock() = Some(Hold { gap, needs });
        }
        let Some(image) = image else { return };
        if image.restored {
            alerting.restored.store(true, Ordering::Relaxed);
        }
        let too_old = last_tick.is_some_and(|tick| now_ms - tick > outage_tolerance_ms);
        let mut restored = AlertStates::default();
        for alert in image.into_states().into_iter() {
            // `for` does not count on through an outage that long; what fired goes on.
            if !(too_old && alert.state == AlertState::Pending) {
                restored.insert(alert);
            }
        }
        *alerting.states.lock() = restored;
        *rule.previous.lock() = Written::of(alerting.series_since(&rule.spec, last_tick));
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
