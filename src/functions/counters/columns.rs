//! `rate`, `increase` and `delta` over all windows of a series at once: the formula of
//! `extrapolate`, with what depends on times alone worked out once for all series that
//! share their times.
//!
//! What remains per window is `growth * factor`. Whether a counter must not be extrapolated
//! below zero is decided without dividing: `sampled * first / growth < to_start` cannot
//! hold where `first > growth * reach`, with `reach = to_start / sampled` and a margin far
//! above rounding errors. Only windows that fail this test take the exact way. Where the
//! samples of a chunk of windows never fall, its first value and its growth as a whole tell
//! for all of them: that is the usual case, and then nothing is left but to subtract and to
//! multiply.

use std::ops::Range;

use super::extrapolate::{Gaps, from_zero};
use crate::functions::ColumnKernel;
use crate::vector::{CHUNK_STEPS, Windows};

/// Above every rounding error of the comparison, below every difference that matters.
const REACH_MARGIN: f64 = 1.0 + 1e-9;
/// First values up to this take the exact way: rounding errors of numbers this small are
/// not relative ones.
const FIRST_MIN: f64 = 1e-250;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Extrapolation<const COUNTER: bool, const RATE: bool> {
    /// Per step, what growth is multiplied by when zero is out of reach.
    factor: Vec<f64>,
    /// Per step, the share of its growth below which the first value was zero inside the
    /// gap before it.
    reach: Vec<f64>,
    /// Per chunk of steps, the largest of `reach`.
    reach_max: Vec<f64>,
    gaps: Vec<Gaps>,
    /// Per chunk of samples of the series at hand: between some of them and the next one the
    /// value does not stay or rise.
    dips: Vec<bool>,
    /// Samples below the one before them, of the series at hand.
    resets: Vec<u32>,
}

impl<const COUNTER: bool, const RATE: bool> ColumnKernel for Extrapolation<COUNTER, RATE> {
    fn lay(&mut self, w: &Windows<'_>) -> bool {
        self.factor.clear();
        self.reach.clear();
        self.gaps.clear();
        // Regular times give the same gaps at every step.
        let (mut distances, mut laid) = (None, (Gaps::default(), 0.0, 0.0));
        for ((from, to), end) in w.from.iter().zip(w.to).zip(w.end_ms) {
            let samples = (to - from) as usize;
            if samples >= 2 {
                let (first, last) = (w.ts[*from as usize], w.ts[*to as usize - 1]);
                let before = first - end.saturating_sub(w.range_ms);
                let these = Some((before, last - first, end - last, samples));
                if these != distances {
                    distances = these;
                    let gaps = Gaps::between(before, last - first, end - last, samples);
                    let factor = gaps.factor::<COUNTER, RATE>(None, w.range_ms);
                    laid = (gaps, factor, gaps.to_start / gaps.sampled * REACH_MARGIN);
                }
            }
            self.gaps.push(laid.0);
            self.factor.push(laid.1);
            self.reach.push(laid.2);
        }
        let largest = |reach: &[f64]| reach.iter().copied().fold(0.0, f64::max);
        self.reach_max.clear();
        self.reach_max.extend(self.reach.chunks(CHUNK_STEPS).map(largest));
        true
    }

    fn run(&mut self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        if COUNTER {
            self.note_dips(vs);
        }
        for (chunk, out) in out.chunks_mut(CHUNK_STEPS).enumerate() {
            let base = chunk * CHUNK_STEPS;
            let steps = base..base + out.len();
            let (from, to) = (&w.from[steps.clone()], &w.to[steps.clone()]);
            let (factor, reach) = (&self.factor[steps.clone()], &self.reach[steps.clone()]);
            let near_zero = if w.rising[chunk] {
                let (first, last) = (from[0] as usize, to[0] as usize - 1);
                let far = !COUNTER || self.far_from_zero(vs, first..last + out.len(), chunk);
                let (first, last) = (&vs[first..first + out.len()], &vs[last..last + out.len()]);
                if far {
                    for (((first, last), factor), out) in
                        first.iter().zip(last).zip(factor).zip(out)
                    {
                        *out = (last - first) * factor;
                    }
                    continue;
                }
                grow::<COUNTER>(first.iter().copied().zip(last.iter().copied()), factor, reach, out)
            } else {
                // Empty windows are given some sample: they are not read.
                let newest = vs.len() - 1;
                let edges = from.iter().zip(to).map(|(from, to)| {
                    (vs[(*from as usize).min(newest)], vs[to.saturating_sub(1) as usize])
                });
                grow::<COUNTER>(edges, factor, reach, out)
            };
            if near_zero {
                for (out, step) in out.iter_mut().zip(steps) {
                    let samples = w.from[step] as usize..w.to[step] as usize;
                    if samples.len() < 2 {
                        continue;
                    }
                    let (first, growth) =
                        (vs[samples.start], vs[samples.end - 1] - vs[samples.start]);
                    if is_near_zero(first, growth, self.reach[step]) {
                        *out = self.exact(w, vs, step, &[]);
                    }
                }
            }
        }
        if COUNTER {
            self.count_resets(w, vs, out);
        }
    }
}

/// True when a counter may have been zero within the gap before its window's first sample.
/// Without branches, so that it can be asked of many at once.
#[inline]
fn is_near_zero(first: f64, growth: f64, reach: f64) -> bool {
    let beyond = (first > growth * reach) & (first > FIRST_MIN);
    (growth > 0.0) & (first >= 0.0) & !beyond
}

/// Writes `growth * factor`; true when some counter may have been zero within the gap
/// before its window's first sample.
#[inline]
fn grow<const COUNTER: bool>(
    edges: impl Iterator<Item = (f64, f64)>,
    factor: &[f64],
    reach: &[f64],
    out: &mut [f64],
) -> bool {
    let mut near_zero = false;
    for ((((first, last), factor), reach), out) in edges.zip(factor).zip(reach).zip(out) {
        let growth = last - first;
        *out = growth * factor;
        if COUNTER {
            near_zero |= is_near_zero(first, growth, *reach);
        }
    }
    near_zero
}

impl<const COUNTER: bool, const RATE: bool> Extrapolation<COUNTER, RATE> {
    /// Looks at all samples without branches: counters are seldom reset.
    fn note_dips(&mut self, vs: &[f64]) {
        self.dips.clear();
        self.dips.extend((0..vs.len()).step_by(CHUNK_STEPS).map(|base| {
            let vs = &vs[base..(base + CHUNK_STEPS + 1).min(vs.len())];
            let pairs = vs.iter().zip(&vs[1..]);
            !pairs.fold(true, |rises, (before, after)| rises & (after >= before))
        }));
    }

    /// True when no window of a chunk of steps over these samples can have been zero within
    /// the gap before it: with values that never fall, none starts below the first one and
    /// none grows by more than all of them do.
    fn far_from_zero(&self, vs: &[f64], samples: Range<usize>, chunk: usize) -> bool {
        let (first, last) = (vs[samples.start], vs[samples.end - 1]);
        let pairs = samples.start / CHUNK_STEPS..(samples.end - 1).div_ceil(CHUNK_STEPS);
        let far = first > (last - first) * self.reach_max[chunk] && first > FIRST_MIN;
        far && !self.dips[pairs].contains(&true)
    }

    /// The result of one window, whose resets are the first ones of `resets` that lie in it.
    fn exact(&self, w: &Windows<'_>, vs: &[f64], step: usize, resets: &[u32]) -> f64 {
        let (first, last) = (vs[w.from[step] as usize], vs[w.to[step] as usize - 1]);
        let mut growth = last - first;
        for reset in resets.iter().take_while(|reset| **reset < w.to[step]) {
            growth += vs[*reset as usize - 1];
        }
        if !COUNTER || !is_near_zero(first, growth, self.reach[step]) {
            return growth * self.factor[step];
        }
        let from_zero = from_zero::<COUNTER>(first, growth);
        growth * self.gaps[step].factor::<COUNTER, RATE>(from_zero, w.range_ms)
    }

    /// Works the windows with resets out again. Those with one reset are neighbours, and
    /// bounds only rise: each step is visited once.
    fn count_resets(&mut self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        self.resets.clear();
        for (chunk, _) in self.dips.iter().enumerate().filter(|(_, dips)| **dips) {
            let base = chunk * CHUNK_STEPS;
            let end = (base + CHUNK_STEPS + 1).min(vs.len());
            let falling = (base + 1..end).filter(|i| vs[*i] < vs[*i - 1]);
            self.resets.extend(falling.map(|i| i as u32));
        }
        let mut done = 0;
        for (i, reset) in self.resets.iter().enumerate() {
            let begin = done + w.to[done..].partition_point(|to| to <= reset);
            let end = begin + w.from[begin..].partition_point(|from| from < reset);
            for (step, out) in out[begin..end].iter_mut().enumerate() {
                *out = self.exact(w, vs, begin + step, &self.resets[i..]);
            }
            done = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::functions::testing::check_columns;

    /// Mostly growing values with resets, repetitions, zeros and what else a float can be.
    fn values() -> impl Strategy<Value = Vec<(i64, f64)>> {
        let value = prop_oneof![
            8 => (0.0..1e3f64).prop_map(|grown| (true, grown)),
            2 => Just((true, 0.0)),
            1 => prop_oneof![
                Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(-1.0),
                Just(5e-324), Just(1e-308), Just(1e-251), Just(1e300), Just(3.0),
            ].prop_map(|value| (false, value)),
        ];
        prop::collection::vec((prop_oneof![9 => Just(10i64), 1 => 1i64..40], value), 0..150)
            .prop_map(|samples| {
                let (mut ts, mut held) = (0, 0.0);
                let grow = |(distance, (grows, value)): (i64, (bool, f64))| {
                    ts += distance;
                    held = if grows { held + value } else { value };
                    (ts, held)
                };
                samples.into_iter().map(grow).collect()
            })
    }

    proptest! {
        #[test]
        fn columns_equal_windows_bit_for_bit(
            samples in values(), start in -50i64..200, step in 1i64..50, range in 0i64..300,
        ) {
            for name in ["rate", "increase", "delta"] {
                check_columns(name, &samples, start, step, range);
            }
        }
    }
}
