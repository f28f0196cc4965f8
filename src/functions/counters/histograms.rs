//! The growth of a native histogram over a window.

use std::sync::Arc;

use super::{start_time_overlaps, start_time_reset};
use crate::functions::Flags;
use crate::model::histogram::{Combined, CounterResetHint, IncompatibleSchemas};
use crate::model::{FloatHistogram, TimestampMs};

type Point = (TimestampMs, Arc<FloatHistogram>);

/// Last minus first, plus what was lost at every reset. `starts` are the start
/// timestamps or empty; `from_birth` says that the counter began at zero inside the
/// window. `None`, with a flag, when the layouts cannot be combined. At least one point.
pub(super) fn growth<const COUNTER: bool>(
    points: &[Point],
    starts: &[TimestampMs],
    from_birth: bool,
    flags: &mut Flags,
) -> Option<FloatHistogram> {
    let (first, last) = (points.first()?, points.last()?);
    let is_gauge = |p: &Point| p.1.counter_reset_hint == CounterResetHint::Gauge;
    if COUNTER && (is_gauge(first) || is_gauge(last)) {
        flags.raise(Flags::NOT_COUNTER);
    }
    let is_reset = |i: usize| {
        let by_start = !starts.is_empty()
            && start_time_reset((starts[i - 1], points[i - 1].0), (starts[i], points[i].0));
        by_start || points[i].1.detect_reset(&points[i - 1].1)
    };
    // After a reset right behind it the first sample is not needed, whatever its layout.
    let skip_first = from_birth || (COUNTER && points.len() > 1 && is_reset(1));
    let relevant =
        if skip_first && points.len() > 1 && !from_birth { &points[1..] } else { points };
    let custom = last.1.uses_custom_buckets();
    if relevant[0].1.uses_custom_buckets() != custom {
        flags.raise(Flags::MIXED_SCHEMAS);
        return None;
    }
    // What lies behind a sample of another schema is not looked at, as in Prometheus.
    for point in points[1..].iter().take_while(|_| COUNTER) {
        if is_gauge(point) {
            flags.raise(Flags::NOT_COUNTER);
        }
        if point.1.uses_custom_buckets() != custom {
            flags.raise(Flags::MIXED_SCHEMAS);
            return None;
        }
    }
    if !(COUNTER || is_gauge(first) && is_gauge(last)) {
        flags.raise(Flags::NOT_GAUGE);
    }
    let mut result = FloatHistogram::clone(&last.1);
    if COUNTER && let Some(schema) = relevant.iter().map(|p| p.1.schema).min() {
        result.reduce_to_schema(schema);
    }
    if !skip_first {
        combine(result.sub(&first.1), Flags::BOUNDS_RECONCILED_SUB, flags)?;
    }
    if COUNTER {
        for i in 1..points.len() {
            if !starts.is_empty()
                && start_time_overlaps((starts[i - 1], points[i - 1].0), (starts[i], points[i].0))
            {
                flags.raise(Flags::START_TIME_OVERLAP);
            }
            // A first sample that is left out was not subtracted, so nothing was lost.
            let left_out = i == 1 && skip_first && !from_birth;
            if !left_out && is_reset(i) {
                combine(result.add(&points[i - 1].1), Flags::BOUNDS_RECONCILED_ADD, flags)?;
            }
        }
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    result.compact(0);
    Some(result)
}

/// Contradicting reset hints are not reported here: resets are dealt with explicitly.
pub(super) fn combine(
    outcome: Result<Combined, IncompatibleSchemas>,
    reconciled: Flags,
    flags: &mut Flags,
) -> Option<()> {
    match outcome {
        Ok(combined) => {
            if combined.bounds_reconciled {
                flags.raise(reconciled);
            }
            Some(())
        }
        Err(_) => {
            flags.raise(Flags::MIXED_SCHEMAS);
            None
        }
    }
}
