//! When groups are evaluated, and the task that does it.
//!
//! A group's ticks lie on a grid of its interval, shifted by a hash of its name and file:
//! the same in every process and after every restart, and spread over the interval among
//! groups. A group that says where in its interval it runs (`eval_offset`) gets that
//! instead of the hash. Evaluation uses the tick's time, never the time it happens to run at.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::catch_up::{catch_up, first_to_do};
use super::group::{Context, Group, panic_text};
use super::restore::restore;
use super::state::handover::take_over;
use crate::model::{Labels, TimestampMs};

const NS_PER_MS: i128 = 1_000_000;

/// The last tick at or before `now_ms` of the group with that name and file, or of one
/// that chose its place in the interval.
pub(crate) fn tick_before(
    name: &str,
    file: &str,
    eval_offset_ms: Option<i64>,
    interval_ms: i64,
    now_ms: TimestampMs,
) -> TimestampMs {
    if let Some(offset) = eval_offset_ms {
        return (now_ms - offset).div_euclid(interval_ms) * interval_ms + offset;
    }
    let hash = Labels::from_pairs([("name", name), ("file", file)]).hash64();
    // Prometheus computes in nanoseconds; whole milliseconds of that are what is stored. A
    // tick within the current millisecond counts as past: it may have been evaluated.
    let interval = i128::from(interval_ms) * NS_PER_MS;
    let offset = i128::from(hash) % interval;
    let now = i128::from(now_ms) * NS_PER_MS + (NS_PER_MS - 1);
    let tick = (now - offset).div_euclid(interval) * interval + offset;
    i64::try_from(tick.div_euclid(NS_PER_MS)).unwrap_or(now_ms)
}

/// The tick to evaluate at `now_ms` when the last one was `tick`, and how many were missed
/// in between.
fn next_tick(tick: TimestampMs, interval_ms: i64, now_ms: TimestampMs) -> (TimestampMs, i64) {
    let missed = ((now_ms - tick).div_euclid(interval_ms) - 1).max(0);
    (tick + (missed + 1) * interval_ms, missed)
}

/// Runs a group until `stop`, and again should it ever panic.
pub(super) async fn supervise(group: Arc<Group>, cx: Arc<Context>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let run = AssertUnwindSafe(run(&group, &cx, &stop)).catch_unwind();
        match run.await {
            Ok(()) => break,
            Err(panic) => tracing::error!(
                group = group.spec.name,
                file = group.spec.file,
                cause = panic_text(&*panic),
                "BUG: the task of a rule group panicked; it starts again at its next tick"
            ),
        }
    }
    group.progress.ended();
}

async fn run(group: &Group, cx: &Context, stop: &CancellationToken) {
    let (name, file) = (&group.spec.name, &group.spec.file);
    let now = cx.clock.now_ms();
    let offset = group.ticks.offset_ms;
    let mut tick = tick_before(name, file, offset, group.interval_ms, now) + group.interval_ms;
    group.progress.sleeps(tick, first_to_do(group, cx, tick));
    if !sleep_until(cx, tick, stop).await {
        return;
    }
    take_over(group, cx).await;
    catch_up(group, cx, tick, || stop.is_cancelled()).await;
    group.evaluate(cx, tick, || stop.is_cancelled()).await;
    while sleep_until(cx, tick + group.interval_ms, stop).await {
        let (next, missed) = next_tick(tick, group.interval_ms, cx.clock.now_ms());
        if missed > 0 {
            let missed = missed.unsigned_abs();
            group.metrics.iterations_missed.inc_by(missed);
            group.metrics.iterations.inc_by(missed);
            tracing::warn!(
                group = name,
                file,
                missed,
                "evaluations were missed: the group takes longer than its interval, or the machine slept"
            );
        }
        tick = next;
        catch_up(group, cx, tick, || stop.is_cancelled()).await;
        group.evaluate(cx, tick, || stop.is_cancelled()).await;
        // After one evaluation recording rules may not have made yet what alerts need.
        if group.restore_pending.load(Ordering::Relaxed) && !stop.is_cancelled() {
            restore(group, cx, cx.clock.now_ms()).await;
        }
    }
}

/// False when `stop` came first.
async fn sleep_until(cx: &Context, at_ms: TimestampMs, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = cx.clock.sleep_until(at_ms) => true,
    }
}

/// Ends the series of a removed group two intervals from now, at the time of its removal:
/// until then a renamed rule may have taken them over.
pub(super) async fn retire(group: Arc<Group>, cx: Arc<Context>, shutdown: CancellationToken) {
    let now = cx.clock.now_ms();
    if sleep_until(&cx, now + 2 * group.interval_ms, &shutdown).await {
        group.end_all_series(&cx, now).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_on_a_grid_of_their_own() {
        let now = 1_700_000_000_000;
        for (name, interval) in [("a", 60_000), ("b", 60_000), ("c", 1_000), ("d", 7_001)] {
            let before = |at| tick_before(name, "f.yml", None, interval, at);
            let tick = before(now);
            assert!(tick <= now && now - tick < interval);
            assert_eq!(before(tick), tick);
            assert_eq!(before(tick - 1), tick - interval);
            assert_eq!(before(tick + interval + 1), tick + interval);
        }
        let a = tick_before("a", "f.yml", None, 60_000, now);
        assert_ne!(a, tick_before("b", "f.yml", None, 60_000, now));
        assert_ne!(a, tick_before("a", "g.yml", None, 60_000, now));
    }

    #[test]
    fn a_chosen_place_in_the_interval_is_kept_to_the_millisecond() {
        let minute = 60_000;
        let check = |offset: i64, now: i64, expected: i64| {
            for (name, file) in [("a", "f.yml"), ("b", "g.yml")] {
                assert_eq!(tick_before(name, file, Some(offset), minute, now), expected);
            }
        };
        let start = 1_700_000_040_000; // A whole minute.
        check(0, start, start);
        check(0, start + 59_999, start);
        check(10_000, start + 9_999, start - 50_000);
        check(10_000, start + 10_000, start + 10_000);
        check(-5_000, start + 54_999, start - 5_000);
        check(-5_000, start + 55_000, start + 55_000);
        check(minute, start + 1, start);
    }

    #[test]
    fn missed_ticks_are_skipped_and_counted() {
        assert_eq!(next_tick(100, 10, 110), (110, 0));
        assert_eq!(next_tick(100, 10, 119), (110, 0));
        assert_eq!(next_tick(100, 10, 120), (120, 1));
        assert_eq!(next_tick(100, 10, 155), (150, 4));
        // A clock that went back skips nothing.
        assert_eq!(next_tick(100, 10, 50), (110, 0));
    }
}
