//! Smallest, largest, first and last samples, and when they were.

use std::sync::Arc;

use super::floats;
use crate::functions::{Flags, RangeArgs};
use crate::model::{Sample, TimestampMs};
use crate::vector::Window;

/// `max_over_time` when `MAX`. Any number replaces a NaN.
pub(super) fn value<const MAX: bool>(
    w: &Window<'_>,
    _: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    let values = floats(w, flags)?;
    let picked = values.iter().copied().fold(f64::NAN, |kept, v| {
        let better = if MAX { v > kept } else { v < kept };
        if better || kept.is_nan() { v } else { kept }
    });
    Some(Sample::Float(picked))
}

/// The time of the newest smallest value, or largest when `MAX`.
pub(super) fn time<const MAX: bool>(
    w: &Window<'_>,
    _: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    let values = floats(w, flags)?;
    let mut kept = 0;
    for (i, v) in values.iter().enumerate() {
        let as_good = if MAX { *v >= values[kept] } else { *v <= values[kept] };
        if as_good || values[kept].is_nan() {
            kept = i;
        }
    }
    Some(seconds(w.ts[kept]))
}

/// The oldest sample; of two at one time the histogram.
pub(super) fn first(w: &Window<'_>, _: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    match (w.ts.first(), w.hist.first()) {
        (Some(ts), Some((hist_ts, h))) if hist_ts <= ts => Some(Sample::Histogram(Arc::clone(h))),
        (Some(_), _) => w.vs.first().copied().map(Sample::Float),
        (None, Some((_, h))) => Some(Sample::Histogram(Arc::clone(h))),
        (None, None) => None,
    }
}

/// The newest sample; of two at one time the histogram.
pub(super) fn last(w: &Window<'_>, _: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    match (w.ts.last(), w.hist.last()) {
        (Some(ts), Some((hist_ts, h))) if hist_ts >= ts => Some(Sample::Histogram(Arc::clone(h))),
        (Some(_), _) => w.vs.last().copied().map(Sample::Float),
        (None, Some((_, h))) => Some(Sample::Histogram(Arc::clone(h))),
        (None, None) => None,
    }
}

pub(super) fn first_time(w: &Window<'_>, _: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    let times = w.ts.first().copied().into_iter().chain(w.hist.first().map(|(ts, _)| *ts));
    times.min().map(seconds)
}

pub(super) fn last_time(w: &Window<'_>, _: &RangeArgs<'_>, _: &mut Flags) -> Option<Sample> {
    let times = w.ts.last().copied().into_iter().chain(w.hist.last().map(|(ts, _)| *ts));
    times.max().map(seconds)
}

fn seconds(ts: TimestampMs) -> Sample {
    Sample::Float(ts as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{check_float, window};

    #[test]
    fn nan_gives_way_to_any_number_and_ties_go_to_the_newest() {
        let nan = f64::NAN;
        let w = window(&[(1, nan), (2, 3.0), (3, 1.0), (4, 3.0), (5, 1.0), (6, nan)], 0, 10);
        check_float(value::<true>, &w, &[], Some(3.0));
        check_float(value::<false>, &w, &[], Some(1.0));
        check_float(time::<true>, &w, &[], Some(4.0));
        check_float(time::<false>, &w, &[], Some(5.0));
        check_float(first_time, &w, &[], Some(1.0));
        check_float(last_time, &w, &[], Some(6.0));
        let only_nan = window(&[(1, nan), (2, nan)], 0, 10);
        check_float(value::<true>, &only_nan, &[], Some(nan));
    }
}
