//! `resets` and `changes`: events between neighbouring samples.

use super::extended::extend_anchored;
use super::start_time_reset;
use crate::functions::window::{Point, PointValue, merged};
use crate::functions::{ColumnKernel, Flags, RangeArgs, WindowMode};
use crate::model::Sample;
use crate::vector::{Window, Windows};

pub(super) fn resets(w: &Window<'_>, args: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    let use_start = args.use_start_timestamps && args.mode == WindowMode::Plain;
    count(w, args, |a, b| {
        let by_start = use_start && start_time_reset((a.start_ts, a.ts), (b.start_ts, b.ts));
        by_start
            || match (a.value, b.value) {
                (PointValue::Float(a), PointValue::Float(b)) => is_reset(a, b),
                (PointValue::Histogram(a), PointValue::Histogram(b)) => b.detect_reset(a),
                _ => true,
            }
    })
}

pub(super) fn changes(w: &Window<'_>, args: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    count(w, args, |a, b| match (a.value, b.value) {
        (PointValue::Float(a), PointValue::Float(b)) => is_change(a, b),
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

pub(super) fn is_reset(before: f64, after: f64) -> bool {
    after < before
}

pub(super) fn is_change(before: f64, after: f64) -> bool {
    after != before && !(before.is_nan() && after.is_nan())
}

/// Events over all windows of a series at once: those up to the last sample of a window
/// less those up to its first.
pub(super) struct Events {
    event: fn(f64, f64) -> bool,
    /// Per sample, the events up to it.
    until: Vec<u32>,
}

impl Events {
    pub(super) fn new(event: fn(f64, f64) -> bool) -> Self {
        Self { event, until: vec![] }
    }
}

impl ColumnKernel for Events {
    fn lay(&mut self, _: &Windows<'_>) -> bool {
        true
    }

    fn run(&mut self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        self.until.clear();
        let mut events = 0;
        let pairs = vs.iter().zip(&vs[1..]);
        self.until.push(0);
        self.until.extend(pairs.map(|(before, after)| {
            events += u32::from((self.event)(*before, *after));
            events
        }));
        for ((out, from), to) in out.iter_mut().zip(w.from).zip(w.to) {
            if from < to {
                *out = f64::from(self.until[*to as usize - 1] - self.until[*from as usize]);
            }
        }
    }
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
