//! Remembering alerts across a restart: since when they were active is read back from the
//! `ALERTS_FOR_STATE` series that the process wrote before it went down.

use std::sync::atomic::Ordering;

use rustc_hash::FxHashMap;

use super::alert::Alert;
use super::alerting::{ALERTS_FOR_STATE, Alerting};
use super::config::RuleSpec;
use super::group::{Context, Group, seconds_since};
use crate::model::value::is_stale_nan;
use crate::model::{Labels, METRIC_NAME, Matcher, TimestampMs};
use crate::storage::{SelectHints, SelectRequest, StorageError};
use crate::vector::RawSamples;

/// The last sample of an `ALERTS_FOR_STATE` series.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Remembered {
    /// When it was last written: about when the process went down.
    down_at_ms: TimestampMs,
    active_at_ms: TimestampMs,
}

/// Restores every alerting rule of a group at `now_ms`. A rule is marked as restored
/// whatever happens: there is no second chance, and its series must be written again.
pub(super) async fn restore(group: &Group, cx: &Context, now_ms: TimestampMs) {
    let started = cx.clock.monotonic_ns();
    for rule in &group.rules {
        let Some(alerting) = &rule.alerting else { continue };
        if alerting.restored.load(Ordering::Relaxed) {
            continue;
        }
        // A shorter `for` than the grace period fires sooner by itself.
        if (cx.peer.is_some() || alerting.params.for_ms >= cx.grace_period_ms)
            && let Err(error) = restore_rule(alerting, &rule.spec, cx, now_ms).await
        {
            tracing::error!(
                group = group.spec.name, rule = rule.spec.name(), %error,
                "restoring alerts failed; they start anew"
            );
        }
        alerting.restored.store(true, Ordering::Relaxed);
        if let Some(log) = alerting.log.get() {
            log.write_all_next();
        }
    }
    group.restore_pending.store(false, Ordering::Relaxed);
    group.metrics.last_restore_seconds.set(seconds_since(cx, started));
}

async fn restore_rule(
    alerting: &Alerting,
    rule: &RuleSpec,
    cx: &Context,
    now_ms: TimestampMs,
) -> Result<(), StorageError> {
    let request = SelectRequest {
        matchers: matchers(rule),
        from_ms: now_ms - cx.outage_tolerance_ms,
        to_ms: now_ms,
        hints: SelectHints::default(),
    };
    let found = cx.peer.as_ref().unwrap_or(&cx.source).select(&request).await?;
    let mut samples = RawSamples::default();
    let mut remembered: FxHashMap<Labels, Remembered> = FxHashMap::default();
    for series in found.series {
        samples.clear();
        series.read_into(request.from_ms, request.to_ms, &mut samples)?;
        if let (Some(ts), Some(v)) = (samples.ts.last(), samples.vs.last())
            && !is_stale_nan(*v)
            && v.is_finite()
        {
            let labels = series.labels().retain(|name| name != METRIC_NAME);
            let active_at_ms = (*v as i64).saturating_mul(1000);
            remembered.insert(labels, Remembered { down_at_ms: *ts, active_at_ms });
        }
    }
    let for_ms = alerting.params.for_ms;
    alerting.states.lock().restore_active_at(|alert: &Alert| {
        let before = remembered.get(&alert.labels)?;
        if cx.peer.is_some() {
            return Some(before.active_at_ms);
        }
        Some(restored_active_at(*before, for_ms, cx.grace_period_ms, now_ms))
    });
    Ok(())
}

/// The rule's series: its name and the labels that are no templates.
fn matchers(rule: &RuleSpec) -> Vec<Matcher> {
    let fixed = rule.labels.iter().filter(|(_, v)| !v.is_empty() && !v.contains("{{"));
    let pairs = [(METRIC_NAME, ALERTS_FOR_STATE), ("alertname", rule.name())];
    let fixed = fixed.map(|(n, v)| (n.as_str(), v.as_str())).filter(|(n, _)| *n != "alertname");
    pairs.into_iter().chain(fixed).map(|(name, value)| Matcher::equal(name, value)).collect()
}

/// Since when an alert counts as active after a restart.
///
/// One that was firing goes on: it fires at the next evaluation. One that would fire
/// within the grace period waits for the end of that period, so that data has time to
/// arrive. Any other is shifted by the time the process was down.
fn restored_active_at(
    before: Remembered,
    for_ms: i64,
    grace_ms: i64,
    now_ms: TimestampMs,
) -> TimestampMs {
    let remaining = for_ms - (before.down_at_ms - before.active_at_ms);
    if remaining <= 0 {
        before.active_at_ms
    } else if remaining < grace_ms {
        now_ms + grace_ms - for_ms
    } else {
        before.active_at_ms + (now_ms - before.down_at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    /// Minutes: active at, down at, `for`, now -> restored active at (grace 10).
    fn check(active_at: i64, down_at: i64, hold: i64, now: i64, expected: i64) {
        let before = Remembered { down_at_ms: down_at * MINUTE, active_at_ms: active_at * MINUTE };
        let at = restored_active_at(before, hold * MINUTE, 10 * MINUTE, now * MINUTE);
        assert_eq!(at / MINUTE, expected);
    }

    #[test]
    fn pending_time_survives_a_restart() {
        // Was firing already.
        check(0, 30, 30, 40, 0);
        check(0, 60, 30, 70, 0);
        // 5 minutes were left: fires 10 minutes from now.
        check(0, 25, 30, 40, 20);
        // 20 minutes were left, 10 minutes down: fires 20 minutes from now.
        check(0, 10, 30, 20, 10);
        check(5, 10, 30, 40, 35);
    }
}
