//! What one replica tells another of a group's alerts, so that whoever takes over goes on
//! where the other is: the same as the state log remembers of them, as one message.
//!
//! A group asks once, just before its first tick. What its peer says counts when it is newer
//! than what the own log knows. How the peer is reached is not known here.

use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use prost::Message;
use rustc_hash::FxHashMap;

use super::RuleIdentity;
use super::attach::{Restart, identities};
use super::record::{AlertRecord, RuleRecord};
use crate::rules::alert::{Alert, AlertStates};
use crate::rules::alerting::Alerting;
use crate::rules::gap::{Gap, Hold};
use crate::rules::group::{Context, Group};
use crate::rules::view::AlertState;

/// One who runs the same rules.
pub trait Peer: Send + Sync {
    /// What it knows of the alerts of a group, as [`Manager::handover`] gives it; `None` when
    /// it does not run the group, or cannot tell.
    ///
    /// [`Manager::handover`]: crate::rules::Manager::handover
    fn group<'a>(
        &'a self,
        file: &'a str,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>>;
}

/// All of a group.
#[derive(Clone, PartialEq, prost::Message)]
struct GroupRecord {
    /// The last tick it has completed.
    #[prost(sint64, optional, tag = "1")]
    last_tick_ms: Option<i64>,
    #[prost(message, repeated, tag = "2")]
    rules: Vec<RuleStates>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuleStates {
    #[prost(message, optional, tag = "1")]
    define: Option<RuleRecord>,
    #[prost(message, repeated, tag = "2")]
    alerts: Vec<AlertRecord>,
}

/// What there is to tell of a group.
pub(in crate::rules) fn told(group: &Group) -> Vec<u8> {
    let mut record = GroupRecord { last_tick_ms: group.last_tick(), rules: Vec::new() };
    for (_, alerting, identity) in identities(group) {
        let restored = alerting.restored.load(Ordering::Relaxed);
        let states = alerting.states.lock();
        let alerts = states.iter().map(|alert| AlertRecord::new(alert, 0, true)).collect();
        record
            .rules
            .push(RuleStates { define: Some(RuleRecord::new(&identity, restored)), alerts });
    }
    record.encode_to_vec()
}

/// Notes of a group that has yet to run that its peer is to be asked.
pub(in crate::rules) fn prepare(group: &Group, restart: Restart<'_>) {
    if group.has_run() {
        return;
    }
    for rule in &group.rules {
        if let Some(alerting) = &rule.alerting {
            *alerting.handover.lock() = Some(restart.writers.needs(&rule.spec).into());
        }
    }
}

/// Asks the peer about a group before its first tick, and goes on from what it says.
pub(in crate::rules) async fn take_over(group: &Group, cx: &Context) {
    let Some(peer) = &cx.handover else { return };
    let awaits = |alerting: &&Alerting| alerting.handover.lock().is_some();
    if !group.rules.iter().filter_map(|rule| rule.alerting.as_ref()).any(|a| awaits(&a)) {
        return;
    }
    let (file, name) = (&group.spec.file, &group.spec.name);
    let told = match peer.group(file, name).await {
        Ok(told) => told.map(|bytes| GroupRecord::decode(&*bytes).map_err(|e| e.to_string())),
        Err(error) => Some(Err(error)),
    };
    match told {
        Some(Ok(record)) => {
            let taken = go_on(group, cx, record);
            tracing::info!(file, group = name, alerts = taken, "took over alerts from the peer");
        }
        Some(Err(error)) => tracing::warn!(
            file, group = name, %error,
            "The peer cannot be asked for its alerts; they go on from what is known here"
        ),
        None => {}
    }
    for alerting in group.rules.iter().filter_map(|rule| rule.alerting.as_ref()) {
        alerting.handover.lock().take();
    }
}

/// Replaces the alerts of the rules that the peer told of, where that is newer. Gives how
/// many alerts there are.
fn go_on(group: &Group, cx: &Context, record: GroupRecord) -> usize {
    let Some(last_tick_ms) = record.last_tick_ms else { return 0 };
    let own = group.watermark(cx);
    if own.is_some_and(|own| own > last_tick_ms) {
        return 0;
    }
    let now_ms = cx.clock.now_ms();
    let mut told = FxHashMap::default();
    for rule in record.rules {
        // One that has yet to look what was before it has nothing to tell.
        let Some(define) = rule.define.filter(|define| define.restored) else { continue };
        if let Some(identity) = define.identity() {
            told.insert(key(identity), rule.alerts);
        }
    }
    let (mut count, mut all_restored) = (0, true);
    for (_, alerting, identity) in identities(group) {
        let needs = alerting.handover.lock().take();
        if let (Some(alerts), Some(needs)) = (told.remove(&key(identity)), needs) {
            let states = states(alerts, now_ms - last_tick_ms > cx.outage_tolerance_ms);
            count += states.iter().count();
            *alerting.states.lock() = states;
            // What is there of their data may begin with this process.
            let lookback_ms = cx.engine.options().lookback_ms;
            let gap = Gap::elsewhere(last_tick_ms, now_ms, lookback_ms);
            *alerting.hold.lock() = Some(Hold { gap, needs });
            alerting.restored.store(true, Ordering::Relaxed);
            if let Some(log) = alerting.log.get() {
                log.write_all_next();
            }
        }
        all_restored &= alerting.restored.load(Ordering::Relaxed);
    }
    if all_restored {
        group.restore_pending.store(false, Ordering::Relaxed);
    }
    count
}

/// A rule within its group.
fn key(identity: RuleIdentity) -> (String, crate::model::Labels, u32) {
    (identity.name, identity.labels, identity.index)
}

/// `for` does not count on through an outage that long; what fired goes on.
fn states(records: Vec<AlertRecord>, too_old: bool) -> AlertStates {
    let mut states = AlertStates::default();
    let keep = |alert: &Alert| !(too_old && alert.state == AlertState::Pending);
    for alert in records.into_iter().filter_map(|record| record.alert(None)).filter(keep) {
        states.insert(alert);
    }
    states
}
