//! Windows of `anchored` and `smoothed` selectors, which also hold samples from before
//! (and after) the range.
//!
//! Anchored: the baseline is the last sample at or before the start of the range, else
//! the first inside; nothing is extrapolated. Smoothed: the values at both edges are
//! interpolated between their neighbours; where a counter was reset between two
//! samples, it is taken to have grown from zero since the earlier one.

use std::ops::Range;
use std::sync::Arc;

use super::histograms::combine;
use crate::functions::{Flags, RangeArgs, WindowMode};
use crate::model::histogram::CounterResetHint;
use crate::model::{FloatHistogram, Sample, TimestampMs};
use crate::vector::Window;

/// `rate`, `increase` and `delta` over a window of floats or of histograms.
pub(super) fn extended<const COUNTER: bool, const RATE: bool>(
    w: &Window<'_>,
    args: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    let seconds = args.range_ms as f64 / 1000.0;
    if w.hist.is_empty() {
        let growth = growth::<COUNTER, _>(&Floats(w), w, args.mode, flags)?;
        if COUNTER {
            flags.raise(Flags::COUNTER_FLOATS);
        }
        return Some(Sample::Float(if RATE { growth / seconds } else { growth }));
    }
    let mut growth = growth::<COUNTER, _>(&Histograms(w), w, args.mode, flags)?;
    if RATE {
        growth.div(seconds);
    }
    growth.counter_reset_hint = CounterResetHint::Gauge;
    growth.compact(0);
    Some(Sample::Histogram(Arc::new(growth)))
}

/// The samples of one kind, by position.
trait Track {
    type Value;
    fn times(&self) -> usize;
    fn ts(&self, i: usize) -> TimestampMs;
    fn at(&self, i: usize) -> Self::Value;
    /// A counter was reset between samples `i - 1` and `i`.
    fn is_reset(&self, i: usize) -> bool;
    /// The value `share` of the way from sample `i - 1` to sample `i`.
    fn between(
        &self,
        i: usize,
        share: f64,
        from_zero: bool,
        flags: &mut Flags,
    ) -> Option<Self::Value>;
    fn add(a: Self::Value, b: Self::Value, flags: &mut Flags) -> Option<Self::Value>;
    fn sub(a: Self::Value, b: Self::Value, flags: &mut Flags) -> Option<Self::Value>;
    /// Raises what is to be said about the samples that count; `None` to give up.
    fn check<const COUNTER: bool>(&self, used: Range<usize>, flags: &mut Flags) -> Option<()>;
}

/// The samples that count, from the one at or before the start to the one at or after the
/// end, and the values at both edges.
struct Edges<V> {
    used: Range<usize>,
    left: V,
    right: V,
    /// The left value lies between the first two samples.
    left_inside: bool,
}

/// `None` when no sample lies behind the start, or the samples cannot be combined.
fn edges<const COUNTER: bool, T: Track>(
    track: &T,
    w: &Window<'_>,
    mode: WindowMode,
    flags: &mut Flags,
) -> Option<Edges<T::Value>> {
    let smoothed = mode == WindowMode::Smoothed;
    let mut last = track.times().checked_sub(1)?;
    if smoothed {
        last = (0..last).find(|i| track.ts(*i) >= w.end_ms).unwrap_or(last);
    }
    if track.ts(last) <= w.start_ms {
        return None;
    }
    let first = (0..last).find(|i| track.ts(*i) > w.start_ms).unwrap_or(last).saturating_sub(1);
    track.check::<COUNTER>(first..last + 1, flags)?;

    let share = |i: usize, t: TimestampMs| {
        (t - track.ts(i - 1)) as f64 / (track.ts(i) - track.ts(i - 1)) as f64
    };
    let reset = |i: usize| COUNTER && track.is_reset(i);
    let left_inside = smoothed && track.ts(first) < w.start_ms && first < last;
    let right_inside = smoothed && last > 0 && track.ts(last) > w.end_ms;
    let left = if left_inside {
        track.between(first + 1, share(first + 1, w.start_ms), reset(first + 1), flags)?
    } else {
        track.at(first)
    };
    let right = if right_inside {
        track.between(last, share(last, w.end_ms), reset(last), flags)?
    } else {
        track.at(last)
    };
    Some(Edges { used: first..last + 1, left, right, left_inside })
}

fn growth<const COUNTER: bool, T: Track>(
    track: &T,
    w: &Window<'_>,
    mode: WindowMode,
    flags: &mut Flags,
) -> Option<T::Value> {
    if mode == WindowMode::Smoothed && track.times() > 0 && track.ts(0) > w.end_ms {
        return None;
    }
    let edges = edges::<COUNTER, T>(track, w, mode, flags)?;
    let mut growth = T::sub(edges.right, edges.left, flags)?;
    // A left edge between two samples lies behind any reset between them.
    let from = edges.used.start + if edges.left_inside { 2 } else { 1 };
    for i in from..edges.used.end {
        if COUNTER && track.is_reset(i) {
            growth = T::add(growth, track.at(i - 1), flags)?;
        }
    }
    Some(growth)
}

/// A window of floats as a range vector shows it: a sample at each edge, anchored or
/// smoothed, and those between. Values are taken for gauges, as the selector alone does
/// not say what they are.
pub fn edged_floats(w: &Window<'_>, mode: WindowMode) -> Vec<(TimestampMs, f64)> {
    let Some(edges) = edges::<false, _>(&Floats(w), w, mode, &mut Flags::default()) else {
        return vec![];
    };
    let between = edges.used.map(|i| (w.ts[i], w.vs[i]));
    let between = between.filter(|(ts, _)| w.start_ms < *ts && *ts < w.end_ms);
    let mut all = vec![(w.start_ms, edges.left)];
    all.extend(between);
    all.push((w.end_ms, edges.right));
    all
}

struct Floats<'a>(&'a Window<'a>);

impl Track for Floats<'_> {
    type Value = f64;

    fn times(&self) -> usize {
        self.0.ts.len()
    }

    fn ts(&self, i: usize) -> TimestampMs {
        self.0.ts[i]
    }

    fn at(&self, i: usize) -> f64 {
        self.0.vs[i]
    }

    fn is_reset(&self, i: usize) -> bool {
        self.0.vs[i] < self.0.vs[i - 1]
    }

    fn between(&self, i: usize, share: f64, from_zero: bool, _: &mut Flags) -> Option<f64> {
        let a = if from_zero { 0.0 } else { self.0.vs[i - 1] };
        Some(a + (self.0.vs[i] - a) * share)
    }

    fn add(a: f64, b: f64, _: &mut Flags) -> Option<f64> {
        Some(a + b)
    }

    fn sub(a: f64, b: f64, _: &mut Flags) -> Option<f64> {
        Some(a - b)
    }

    fn check<const COUNTER: bool>(&self, _: Range<usize>, _: &mut Flags) -> Option<()> {
        Some(())
    }
}

struct Histograms<'a>(&'a Window<'a>);

impl Track for Histograms<'_> {
    type Value = FloatHistogram;

    fn times(&self) -> usize {
        self.0.hist.len()
    }

    fn ts(&self, i: usize) -> TimestampMs {
        self.0.hist[i].0
    }

    fn at(&self, i: usize) -> FloatHistogram {
        FloatHistogram::clone(&self.0.hist[i].1)
    }

    fn is_reset(&self, i: usize) -> bool {
        self.0.hist[i].1.detect_reset(&self.0.hist[i - 1].1)
    }

    fn between(
        &self,
        i: usize,
        share: f64,
        from_zero: bool,
        flags: &mut Flags,
    ) -> Option<FloatHistogram> {
        between(&self.0.hist[i - 1].1, &self.0.hist[i].1, share, from_zero, flags)
    }

    fn add(mut a: FloatHistogram, b: FloatHistogram, flags: &mut Flags) -> Option<FloatHistogram> {
        let outcome = a.add(&b);
        combine(outcome, Flags::BOUNDS_RECONCILED_ADD, flags).map(|()| a)
    }

    fn sub(mut a: FloatHistogram, b: FloatHistogram, flags: &mut Flags) -> Option<FloatHistogram> {
        let outcome = a.sub(&b);
        combine(outcome, Flags::BOUNDS_RECONCILED_SUB, flags).map(|()| a)
    }

    fn check<const COUNTER: bool>(&self, used: Range<usize>, flags: &mut Flags) -> Option<()> {
        let points = &self.0.hist[used];
        let (first, last) = (points.first()?, points.last()?);
        let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
        if COUNTER && points.iter().any(|p| gauge(&p.1)) {
            flags.raise(Flags::NOT_COUNTER);
        }
        let gauges = gauge(&first.1) && gauge(&last.1);
        if !COUNTER && !gauges {
            flags.raise(Flags::NOT_GAUGE);
        }
        let custom = first.1.uses_custom_buckets();
        if points.iter().any(|p| p.1.uses_custom_buckets() != custom) {
            flags.raise(Flags::MIXED_SCHEMAS);
            return None;
        }
        Some(())
    }
}

/// The histogram `share` of the way from `a` to `b`, or from nothing when `from_zero`.
fn between(
    a: &FloatHistogram,
    b: &FloatHistogram,
    share: f64,
    from_zero: bool,
    flags: &mut Flags,
) -> Option<FloatHistogram> {
    let mut result = b.clone();
    if from_zero {
        result.mul(share);
        return Some(result);
    }
    combine(result.sub(a), Flags::BOUNDS_RECONCILED_SUB, flags)?;
    result.mul(share);
    combine(result.add(a), Flags::BOUNDS_RECONCILED_ADD, flags)?;
    result.counter_reset_hint = b.counter_reset_hint;
    Some(result)
}

/// The part of an anchored window that counts for `changes` and `resets`: the samples in
/// the range, and before them the newest one at or before its start. `None` when the
/// range holds no sample.
pub(crate) fn extend_anchored<'a>(w: &Window<'a>) -> Option<Window<'a>> {
    let mut f = w.ts.partition_point(|ts| *ts <= w.start_ms);
    let mut h = w.hist.partition_point(|(ts, _)| *ts <= w.start_ms);
    if f == w.ts.len() && h == w.hist.len() {
        return None;
    }
    let float_before = f.checked_sub(1).map(|i| w.ts[i]);
    let histogram_before = h.checked_sub(1).map(|i| w.hist[i].0);
    if float_before.is_some() && float_before >= histogram_before {
        f -= 1;
    } else if histogram_before.is_some() {
        h -= 1;
    }
    Some(Window {
        ts: &w.ts[f..],
        vs: &w.vs[f..],
        hist: &w.hist[h..],
        start_ts: w.start_ts.get(f..).unwrap_or_default(),
        hist_start_ts: w.hist_start_ts.get(h..).unwrap_or_default(),
        ..*w
    })
}

/// The value of a `smoothed` instant selector at `w.end_ms`: the sample at that time,
/// else one interpolated between its neighbours, else the one before. The window holds
/// what lies within the lookback on both sides. Floats are interpolated as gauges;
/// histograms as counters unless they say that they are gauges.
pub fn smoothed_instant(w: &Window<'_>, flags: &mut Flags) -> Option<Sample> {
    let at = w.end_ms;
    let (f, h) =
        (w.ts.partition_point(|ts| *ts <= at), w.hist.partition_point(|(ts, _)| *ts <= at));
    let float_before = f.checked_sub(1).map(|i| w.ts[i]);
    let histogram_before = h.checked_sub(1).map(|i| w.hist[i].0);
    if histogram_before.is_some() && histogram_before >= float_before {
        let (ts, before) = &w.hist[h - 1];
        let next = w.hist.get(h).filter(|next| w.ts.get(f).is_none_or(|ts| next.0 < *ts));
        let Some((next_ts, next)) = next.filter(|_| *ts < at) else {
            return Some(Sample::Histogram(Arc::clone(before)));
        };
        if before.uses_custom_buckets() != next.uses_custom_buckets() {
            flags.raise(Flags::MIXED_SCHEMAS);
            return None;
        }
        let share = (at - ts) as f64 / (next_ts - ts) as f64;
        let gauge = next.counter_reset_hint == CounterResetHint::Gauge;
        let from_zero = !gauge && next.detect_reset(before);
        return between(before, next, share, from_zero, flags)
            .map(|h| Sample::Histogram(Arc::new(h)));
    }
    let before = f.checked_sub(1)?;
    let (ts, v) = (w.ts[before], w.vs[before]);
    let next = w.ts.get(f).filter(|ts| w.hist.get(h).is_none_or(|next| **ts < next.0));
    Some(Sample::Float(match next.filter(|_| ts < at) {
        Some(next_ts) => v + (w.vs[f] - v) * (at - ts) as f64 / (next_ts - ts) as f64,
        None => v,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{TestWindow, window};

    fn check(mode: WindowMode, counter: bool, w: &TestWindow, range_s: i64, expected: Option<f64>) {
        let args =
            RangeArgs { scalars: &[], range_ms: range_s * 1000, mode, use_start_timestamps: false };
        let mut flags = Flags::default();
        let got = if counter {
            extended::<true, false>(&w.window(), &args, &mut flags)
        } else {
            extended::<false, false>(&w.window(), &args, &mut flags)
        };
        assert_eq!(got, expected.map(Sample::Float), "{w:?}");
    }

    #[test]
    fn anchored_takes_the_value_at_the_start_and_extrapolates_nothing() {
        let w = window(&[(-10, 2.0), (10, 5.0), (20, 8.0), (30, 1.0)], 0, 40);
        check(WindowMode::Anchored, false, &w, 40, Some(-1.0));
        check(WindowMode::Anchored, true, &w, 40, Some(7.0));
        check(WindowMode::Anchored, true, &window(&[(-5, 1.0), (0, 2.0)], 0, 40), 40, None);
        check(WindowMode::Anchored, true, &window(&[(5, 1.0)], 0, 40), 40, Some(0.0));
    }

    #[test]
    fn smoothed_interpolates_both_edges() {
        let w = window(&[(-10, 0.0), (10, 4.0), (30, 8.0), (50, 20.0)], 0, 40);
        check(WindowMode::Smoothed, false, &w, 40, Some(12.0));
        // Reset around both edges: from 0 at -10 s to 8 at 50 s.
        let w = window(&[(-10, 9.0), (10, 8.0), (30, 5.0), (50, 4.0)], 0, 40);
        check(WindowMode::Smoothed, true, &w, 40, Some(2.0 - 4.0 + 8.0 + 5.0));
        check(WindowMode::Smoothed, true, &window(&[(50, 1.0)], 0, 40), 40, None);
    }

    #[test]
    fn a_range_vector_has_a_sample_at_each_edge() {
        let check = |points: &[(i64, f64)], mode, expected: &[(i64, f64)]| {
            let expected: Vec<_> = expected.iter().map(|(ts, v)| (ts * 1000, *v)).collect();
            assert_eq!(edged_floats(&window(points, 0, 40).window(), mode), expected, "{points:?}");
        };
        let points = &[(-10, 0.0), (10, 4.0), (30, 8.0), (50, 20.0)];
        let inside = [(10, 4.0), (30, 8.0)];
        check(points, WindowMode::Smoothed, &[(0, 2.0), inside[0], inside[1], (40, 14.0)]);
        // An anchored window holds nothing from behind its end.
        check(&points[..3], WindowMode::Anchored, &[(0, 0.0), inside[0], inside[1], (40, 8.0)]);
        // A fall is no reset here.
        check(&[(-10, 6.0), (10, 2.0)], WindowMode::Smoothed, &[(0, 4.0), (10, 2.0), (40, 2.0)]);
        // Samples on the edges stay as they are.
        check(&[(0, 1.0), (40, 2.0)], WindowMode::Anchored, &[(0, 1.0), (40, 2.0)]);
        check(&[(-5, 1.0), (0, 2.0)], WindowMode::Anchored, &[]);
        check(&[(50, 1.0)], WindowMode::Smoothed, &[(0, 1.0), (40, 1.0)]);
        check(&[], WindowMode::Smoothed, &[]);
    }

    #[test]
    fn an_instant_between_two_samples_is_interpolated() {
        let check = |points: &[(i64, f64)], expected: Option<f64>| {
            let got = smoothed_instant(&window(points, -60, 15).window(), &mut Flags::default());
            assert_eq!(got, expected.map(Sample::Float));
        };
        check(&[(10, 1.0), (20, 2.0)], Some(1.5));
        check(&[(15, 1.0), (20, 2.0)], Some(1.0));
        check(&[(10, 1.0)], Some(1.0));
        check(&[(20, 2.0)], None);
    }
}
