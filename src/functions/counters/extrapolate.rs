//! The growth over a window, extrapolated to its edges: `rate`, `increase`, `delta`.
//!
//! With `n` samples from `first` to `last` in a window `(start, end]`:
//! `sampled = last.ts - first.ts`, `average = sampled / (n - 1)`; each gap to an edge
//! counts in full when it is shorter than `1.1 * average`, else as `average / 2`. A
//! counter is not extrapolated below zero: the gap before the first sample is at most
//! the time the counter would have needed to grow from zero at its average speed.
//! `result = growth * (sampled + gap_start + gap_end) / sampled`.

use std::sync::Arc;

use super::extended::extended;
use super::{histograms, start_time_overlaps, start_time_reset};
use crate::functions::{Flags, RangeArgs, WindowMode};
use crate::model::{Sample, TimestampMs};
use crate::vector::Window;

/// Gaps up to this many average sample distances are taken for regular scrape jitter.
const JITTER_FACTOR: f64 = 1.1;

pub(super) fn extrapolated<const COUNTER: bool, const RATE: bool>(
    w: &Window<'_>,
    args: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    if !w.hist.is_empty() && !w.ts.is_empty() {
        flags.raise(Flags::MIXED);
        return None;
    }
    if args.mode != WindowMode::Plain {
        return extended::<COUNTER, RATE>(w, args, flags);
    }
    if w.hist.is_empty() {
        floats::<COUNTER, RATE>(w, args, flags)
    } else {
        native::<COUNTER, RATE>(w, args, flags)
    }
}

fn floats<const COUNTER: bool, const RATE: bool>(
    w: &Window<'_>,
    args: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    let (first_ts, last_ts) = (*w.ts.first()?, *w.ts.last()?);
    let (first, last) = (*w.vs.first()?, *w.vs.last()?);
    let use_start = COUNTER && args.use_start_timestamps && !w.start_ts.is_empty();
    let born = use_start.then(|| born_inside(w, w.start_ts[0], first_ts)).flatten();
    if w.ts.len() < 2 && born.is_none() {
        return None;
    }
    let mut growth = last - first;
    if COUNTER {
        if use_start {
            growth += reset_correction_with_starts(w, flags);
        } else if falls(w.vs) {
            for pair in w.vs.windows(2) {
                if pair[1] < pair[0] {
                    growth += pair[0];
                }
            }
        }
        if born.is_some() {
            growth += first;
        }
    }
    let gaps = Gaps::new(w, (first_ts, last_ts), w.ts.len(), born);
    let factor = gaps.factor::<COUNTER, RATE>(from_zero::<COUNTER>(first, growth), args.range_ms);
    if COUNTER {
        flags.raise(Flags::COUNTER_FLOATS);
    }
    Some(Sample::Float(growth * factor))
}

/// True when some value is below the one before it. Looks at all of them, so that it
/// needs no branches: counters are seldom reset.
#[inline]
fn falls(vs: &[f64]) -> bool {
    vs.iter().zip(vs.get(1..).unwrap_or_default()).fold(false, |f, (a, b)| f | (b < a))
}

fn native<const COUNTER: bool, const RATE: bool>(
    w: &Window<'_>,
    args: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    let (first, last) = (w.hist.first()?, w.hist.last()?);
    let use_start = COUNTER && args.use_start_timestamps && !w.hist_start_ts.is_empty();
    let born = use_start.then(|| born_inside(w, w.hist_start_ts[0], first.0)).flatten();
    if w.hist.len() < 2 && born.is_none() {
        return None;
    }
    let starts = if use_start { w.hist_start_ts } else { &[] };
    let mut growth = histograms::growth::<COUNTER>(w.hist, starts, born.is_some(), flags)?;
    let gaps = Gaps::new(w, (first.0, last.0), w.hist.len(), born);
    let from_zero = from_zero::<COUNTER>(first.1.count, growth.count);
    growth.mul(gaps.factor::<COUNTER, RATE>(from_zero, args.range_ms));
    Some(Sample::Histogram(Arc::new(growth)))
}

/// The first value of a counter in units of its growth; `None` where there was no growth
/// from a value that can have come from zero.
#[inline]
pub(super) fn from_zero<const COUNTER: bool>(first: f64, growth: f64) -> Option<f64> {
    (COUNTER && growth > 0.0 && first >= 0.0).then(|| first / growth)
}

/// The stretch of time the samples of a window cover and what of the gaps to its edges
/// counts, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Gaps {
    pub(super) sampled: f64,
    pub(super) to_start: f64,
    pub(super) to_end: f64,
}

impl Gaps {
    fn new(
        w: &Window<'_>,
        (first_ts, last_ts): (TimestampMs, TimestampMs),
        samples: usize,
        born: Option<TimestampMs>,
    ) -> Self {
        let before_ms = first_ts - w.start_ms;
        let after_ms = w.end_ms - last_ts;
        let mut gaps = Self::between(before_ms, last_ts - first_ts, after_ms, samples);
        // Nothing lies before the birth of a counter.
        if let Some(born) = born {
            gaps.sampled = (last_ts - born) as f64 / 1000.0;
            gaps.to_start = 0.0;
        }
        gaps
    }

    /// From the distances of start, first sample, last sample and end.
    pub(super) fn between(before_ms: i64, sampled_ms: i64, after_ms: i64, samples: usize) -> Self {
        let sampled = sampled_ms as f64 / 1000.0;
        // Of a single sample nothing but its birth is known.
        let average = if samples < 2 { 0.0 } else { sampled / (samples - 1) as f64 };
        let threshold = average * JITTER_FACTOR;
        let limit = |gap: f64| if gap >= threshold { average / 2.0 } else { gap };
        let (to_start, to_end) = (before_ms as f64 / 1000.0, after_ms as f64 / 1000.0);
        Self { sampled, to_start: limit(to_start), to_end: limit(to_end) }
    }

    /// What the growth is multiplied by.
    pub(super) fn factor<const COUNTER: bool, const RATE: bool>(
        &self,
        from_zero: Option<f64>,
        range_ms: i64,
    ) -> f64 {
        let mut to_start = self.to_start;
        if COUNTER && let Some(share) = from_zero {
            let to_zero = self.sampled * share;
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        let sampled = self.sampled;
        let factor =
            if sampled == 0.0 { 1.0 } else { (sampled + to_start + self.to_end) / sampled };
        if RATE { factor / (range_ms as f64 / 1000.0) } else { factor }
    }
}

/// The start timestamp of the first sample when it lies inside the window.
fn born_inside(w: &Window<'_>, start: TimestampMs, first_ts: TimestampMs) -> Option<TimestampMs> {
    (start != 0 && start > w.start_ms && start < first_ts).then_some(start)
}

fn reset_correction_with_starts(w: &Window<'_>, flags: &mut Flags) -> f64 {
    let mut correction = 0.0;
    for i in 1..w.vs.len() {
        let previous = (w.start_ts[i - 1], w.ts[i - 1]);
        let current = (w.start_ts[i], w.ts[i]);
        if w.vs[i] < w.vs[i - 1] || start_time_reset(previous, current) {
            correction += w.vs[i - 1];
        }
        if start_time_overlaps(previous, current) {
            flags.raise(Flags::START_TIME_OVERLAP);
        }
    }
    correction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{check_float, window};

    #[test]
    fn growth_is_extrapolated_to_the_edges_of_the_window() {
        let increase = extrapolated::<true, false>;
        let rate = extrapolated::<true, true>;
        let delta = extrapolated::<false, false>;
        // Samples each 10 s from 10 s to 50 s in (0, 60]: both gaps are regular.
        let regular: &[(i64, f64)] = &[(10, 50.0), (20, 60.0), (30, 70.0), (40, 80.0), (50, 90.0)];
        let w = window(regular, 0, 60);
        check_float(increase, &w, &[], Some(60.0));
        check_float(rate, &w, &[], Some(1.0));
        check_float(delta, &w, &[], Some(60.0));
        // A gap of 11 s reaches 1.1 times the average and counts as half of it.
        check_float(delta, &window(regular, -1, 60), &[], Some(40.0 * 55.0 / 40.0));
        check_float(delta, &window(regular, 0, 61), &[], Some(40.0 * 55.0 / 40.0));
        // From 2 at 40 in 40 s: zero was 2 s before the first sample.
        let young: &[(i64, f64)] = &[(10, 2.0), (20, 12.0), (30, 22.0), (40, 32.0), (50, 42.0)];
        check_float(increase, &window(young, 0, 60), &[], Some(52.0));
        check_float(delta, &window(young, 0, 60), &[], Some(60.0));
        // Zero lies beyond the halved gap: the gap stays halved.
        check_float(increase, &window(regular, -100, 60), &[], Some(55.0));
    }

    #[test]
    fn counter_resets_count_from_zero() {
        let resets: &[(i64, f64)] = &[(10, 5.0), (20, 8.0), (30, 2.0), (40, 4.0), (50, 1.0)];
        // 1 - 5 + 8 + 4 = 8; to zero: 40 * 5/8 = 25 s, so the full gaps of 10 s count.
        check_float(extrapolated::<true, false>, &window(resets, 0, 60), &[], Some(8.0 * 1.5));
        check_float(extrapolated::<false, false>, &window(resets, 0, 60), &[], Some(-4.0 * 1.5));
    }

    #[test]
    fn one_sample_tells_nothing_unless_it_tells_its_birth() {
        let increase = extrapolated::<true, false>;
        let mut w = window(&[(30, 7.0)], 0, 60);
        check_float(increase, &w, &[], None);
        w.start_ts = vec![10_000];
        // Born at 10 s with 0; how it went on after 30 s is not known.
        check_float(increase, &w, &[], Some(7.0));
        w.start_ts = vec![0];
        check_float(increase, &w, &[], None);
    }

    #[test]
    fn nan_is_no_reset() {
        let w = window(&[(10, 1.0), (20, f64::NAN), (30, 3.0)], 0, 40);
        check_float(extrapolated::<true, false>, &w, &[], Some(4.0));
    }
}
