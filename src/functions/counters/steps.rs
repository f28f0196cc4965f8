//! `resets` and `changes`: events between neighbouring samples.

use super::extended::extend_anchored;
use super::start_time_reset;
use crate::functions::window::{Point, PointValue, merged};
use crate::functions::{Flags, RangeArgs, WindowMode};
use crate::model::Sample;
use crate::vector::Window;

pub(super) fn resets(w: &Window<'_>, args: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    let use_start = args.use_start_timestamps && args.mode == WindowMode::Plain;
    count(w, args, |a, b| {
        let by_start = use_start && start_time_reset((a.start_ts, a.ts), (b.start_ts, b.ts));
        by_start
            || match (a.value, b.value) {
                (PointValue::Float(a), PointValue::Float(b)) => b < a,
                (PointValue::Histogram(a), PointValue::Histogram(b)) => b.detect_reset(a),
                _ => true,
            }
    })
}

pub(super) fn changes(w: &Window<'_>, args: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    count(w, args, |a, b| match (a.value, b.value) {
        (PointValue::Float(a), PointValue::Float(b)) => b != a && !(a.is_nan() && b.is_nan()),
        (PointValue::Histogram(a), PointValue::Histogram(b)) => !a.equals(b),
        _ => true,
    })
}

fn count(
    w: &Window<'_>,
    args: &RangeArgs<'_>,
    event: impl Fn(&Point<'_>, &Point<'_>) -> bool,
) -> Option<Sample> {
    let narrowed;
    let w = if args.mode == WindowMode::Anchored {
        narrowed = extend_anchored(w)?;
        &narrowed
    } else {
        w
    };
    let mut points = merged(w);
    let mut before = points.next()?;
    let mut events = 0.0;
    for point in points {
        if event(&before, &point) {
            events += 1.0;
        }
        before = point;
    }
    Some(Sample::Float(events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{check_float, window};

    #[test]
    fn nan_after_nan_is_no_change_and_never_a_reset() {
        let w =
            window(&[(1, 1.0), (2, f64::NAN), (3, f64::NAN), (4, 2.0), (5, 1.0), (6, 1.0)], 0, 10);
        check_float(changes, &w, &[], Some(3.0));
        check_float(resets, &w, &[], Some(1.0));
        check_float(changes, &window(&[(1, 1.0)], 0, 10), &[], Some(0.0));
        check_float(changes, &window(&[], 0, 10), &[], None);
    }
}
