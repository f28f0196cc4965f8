//! `irate` and `idelta`: the last two samples of a window.

use std::sync::Arc;

use super::start_time_reset;
use crate::functions::window::{Point, PointValue, last_two as newest};
use crate::functions::{Flags, RangeArgs};
use crate::model::histogram::CounterResetHint;
use crate::model::{FloatHistogram, Sample};
use crate::vector::Window;

pub(super) fn last_two<const RATE: bool>(
    w: &Window<'_>,
    args: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    let (before, last) = newest(w)?;
    if last.ts == before.ts {
        return None;
    }
    let seconds = (last.ts - before.ts) as f64 / 1000.0;
    let start_reset = args.use_start_timestamps
        && start_time_reset((before.start_ts, before.ts), (last.start_ts, last.ts));
    match (before.value, last.value) {
        (PointValue::Float(a), PointValue::Float(b)) => {
            if !RATE {
                return Some(Sample::Float(b - a));
            }
            let growth = if b < a || start_reset { b } else { b - a };
            Some(Sample::Float(growth / seconds))
        }
        (PointValue::Histogram(a), PointValue::Histogram(b)) => {
            let mut growth = growth::<RATE>((before, a), (last, b), start_reset, flags)?;
            if RATE {
                growth.div(seconds);
            }
            Some(Sample::Histogram(Arc::new(growth)))
        }
        _ => {
            flags.raise(Flags::MIXED);
            None
        }
    }
}

fn growth<const RATE: bool>(
    (_, a): (Point<'_>, &FloatHistogram),
    (_, b): (Point<'_>, &FloatHistogram),
    start_reset: bool,
    flags: &mut Flags,
) -> Option<FloatHistogram> {
    let gauges = [a, b].map(|h| h.counter_reset_hint == CounterResetHint::Gauge);
    if RATE && gauges.contains(&true) {
        flags.raise(Flags::NOT_COUNTER);
    }
    if !RATE && gauges.contains(&false) {
        flags.raise(Flags::NOT_GAUGE);
    }
    let mut result = b.clone();
    if !RATE || !(start_reset || b.detect_reset(a)) {
        match result.sub(a) {
            Ok(combined) if combined.bounds_reconciled => {
                flags.raise(Flags::BOUNDS_RECONCILED_SUB);
            }
            Ok(_) => {}
            Err(_) => {
                flags.raise(Flags::MIXED_SCHEMAS);
                return None;
            }
        }
    }
    result.counter_reset_hint = CounterResetHint::Gauge;
    result.compact(0);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{check_float, window};

    #[test]
    fn only_the_last_two_samples_count() {
        let w = window(&[(10, 100.0), (20, 4.0), (25, 9.0)], 0, 60);
        check_float(last_two::<true>, &w, &[], Some(1.0));
        check_float(last_two::<false>, &w, &[], Some(5.0));
        let w = window(&[(20, 9.0), (25, 4.0)], 0, 60);
        check_float(last_two::<true>, &w, &[], Some(0.8));
        check_float(last_two::<false>, &w, &[], Some(-5.0));
        check_float(last_two::<true>, &window(&[(20, 9.0)], 0, 60), &[], None);
    }
}
