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
//! multiply. A reset is found by one look at all samples, and only the windows around it are
//! worked out again.

use std::ops::Range;

use multiversion::multiversion;

use super::extrapolate::{Gaps, from_zero};
use crate::functions::ColumnKernel;
use crate::vector::{CHUNK_STEPS, Windows};

/// Above every rounding error of the comparison, below every difference that matters.
const REACH_MARGIN: f64 = 1.0 + 1e-9;
/// First values up to this take the exact way: rounding errors of numbers this small are
/// not relative ones.
const FIRST_MIN: f64 = 1e-250;
/// Windows, or pairs of samples, that are asked about together.
const LANES: usize = 8;

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
    /// Stretches of steps, and whether their windows rise.
    stretches: Vec<(Range<usize>, bool)>,
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
        self.stretches.clear();
        self.stretches.extend(w.stretches());
        true
    }

    fn run(&mut self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        for (steps, rising) in &self.stretches {
            let (out, factor) = (&mut out[steps.clone()], &self.factor[steps.clone()]);
            let (from, to) = (&w.from[steps.clone()], &w.to[steps.clone()]);
            if *rising {
                let (first, last) = edges(from, to, vs);
                extrapolate(first, last, factor, out);
                continue;
            }
            // Empty windows are given some sample: they are not read.
            let newest = vs.len() - 1;
            for (((from, to), factor), out) in from.iter().zip(to).zip(factor).zip(out) {
                let first = vs[(*from as usize).min(newest)];
                *out = (vs[to.saturating_sub(1) as usize] - first) * factor;
            }
        }
        if COUNTER {
            note_dips(vs, &mut self.dips, &mut self.resets);
            self.stop_at_zero(w, vs, out);
            self.count_resets(w, vs, out);
        }
    }
}

/// The first and the last values of windows that rise.
#[inline]
fn edges<'v>(from: &[u32], to: &[u32], vs: &'v [f64]) -> (&'v [f64], &'v [f64]) {
    let (first, last) = (from[0] as usize, to[0] as usize - 1);
    (&vs[first..first + from.len()], &vs[last..last + to.len()])
}

/// Writes `growth * factor` of each window.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn extrapolate(first: &[f64], last: &[f64], factor: &[f64], out: &mut [f64]) {
    for (((first, last), factor), out) in first.iter().zip(last).zip(factor).zip(out) {
        *out = (last - first) * factor;
    }
}

/// Notes for each chunk of samples whether all stay or rise, and which samples are below the
/// one before them. Looks at many at once, without branches: counters are seldom reset.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn note_dips(vs: &[f64], dips: &mut Vec<bool>, resets: &mut Vec<u32>) {
    dips.clear();
    resets.clear();
    for base in (0..vs.len()).step_by(CHUNK_STEPS) {
        let end = (base + CHUNK_STEPS + 1).min(vs.len());
        let (before, after) = (&vs[base..end - 1], &vs[base + 1..end]);
        let rises = |rises, (before, after): (&f64, &f64)| rises & (after >= before);
        let dip = !before.iter().zip(after).fold(true, rises);
        dips.push(dip);
        if !dip {
            continue;
        }
        let lanes = before.chunks(LANES).zip(after.chunks(LANES));
        for (lane, (before, after)) in lanes.enumerate() {
            let falls = |falls, (before, after): (&f64, &f64)| falls | (after < before);
            if before.iter().zip(after).fold(false, falls) {
                let pairs = (base + lane * LANES + 1..).zip(before.iter().zip(after));
                let falling = pairs.filter(|(_, (before, after))| after < before);
                resets.extend(falling.map(|(i, _)| i as u32));
            }
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

/// For each `LANES` of at most a chunk of windows, whether one of them is near zero.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn near_zero(first: &[f64], last: &[f64], reach: &[f64]) -> u64 {
    let lanes = first.chunks(LANES).zip(last.chunks(LANES)).zip(reach.chunks(LANES));
    lanes.enumerate().fold(0, |bits, (i, ((first, last), reach))| {
        let near = first.iter().zip(last).zip(reach).fold(false, |near, ((first, last), reach)| {
            near | is_near_zero(*first, last - first, *reach)
        });
        bits | u64::from(near) << i
    })
}

impl<const COUNTER: bool, const RATE: bool> Extrapolation<COUNTER, RATE> {
    /// True when no window of a chunk of steps over these samples can have been zero within
    /// the gap before it: with values that never fall, none starts below the first one and
    /// none grows by more than all of them do.
    fn far_from_zero(&self, vs: &[f64], samples: Range<usize>, chunk: usize) -> bool {
        let (first, last) = (vs[samples.start], vs[samples.end - 1]);
        let pairs = samples.start / CHUNK_STEPS..(samples.end - 1).div_ceil(CHUNK_STEPS);
        let far = first > (last - first) * self.reach_max[chunk] && first > FIRST_MIN;
        far && !self.dips[pairs].contains(&true)
    }

    /// Works the windows out again whose counter may have been zero in the gap before them,
    /// as if none was reset.
    fn stop_at_zero(&self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        for (chunk, out) in out.chunks_mut(CHUNK_STEPS).enumerate() {
            let base = chunk * CHUNK_STEPS;
            let steps = base..base + out.len();
            let mut near = u64::MAX;
            if w.rising[chunk] {
                let samples = w.from[base] as usize..w.to[base] as usize - 1 + out.len();
                if self.far_from_zero(vs, samples, chunk) {
                    continue;
                }
                let (first, last) = edges(&w.from[steps.clone()], &w.to[steps.clone()], vs);
                near = near_zero(first, last, &self.reach[steps.clone()]);
            }
            for (lanes, (out, first_step)) in
                out.chunks_mut(LANES).zip(steps.step_by(LANES)).enumerate()
            {
                if near >> lanes & 1 == 0 {
                    continue;
                }
                for (out, step) in out.iter_mut().zip(first_step..) {
                    let samples = w.from[step] as usize..w.to[step] as usize;
                    if samples.len() < 2 {
                        continue;
                    }
                    let first = vs[samples.start];
                    let growth = vs[samples.end - 1] - first;
                    if is_near_zero(first, growth, self.reach[step]) {
                        *out = self.stopped_at_zero(w, step, first, growth);
                    }
                }
            }
        }
    }

    /// The result of a window whose counter may have been zero in the gap before it.
    fn stopped_at_zero(&self, w: &Windows<'_>, step: usize, first: f64, growth: f64) -> f64 {
        let from_zero = from_zero::<COUNTER>(first, growth);
        growth * self.gaps[step].factor::<COUNTER, RATE>(from_zero, w.range_ms)
    }

    /// The result of a window that grew so much, resets counted.
    #[inline]
    fn result(&self, w: &Windows<'_>, step: usize, first: f64, growth: f64) -> f64 {
        if is_near_zero(first, growth, self.reach[step]) {
            return self.stopped_at_zero(w, step, first, growth);
        }
        growth * self.factor[step]
    }

    /// The result of one window, whose resets are the first ones of `resets` that lie in it.
    fn exact(&self, w: &Windows<'_>, vs: &[f64], step: usize, resets: &[u32]) -> f64 {
        let (first, last) = (vs[w.from[step] as usize], vs[w.to[step] as usize - 1]);
        let mut growth = last - first;
        for reset in resets.iter().take_while(|reset| **reset < w.to[step]) {
            growth += vs[*reset as usize - 1];
        }
        self.result(w, step, first, growth)
    }

    /// Works the windows with resets out again. Those with one reset are neighbours, and
    /// bounds only rise: each step is visited once.
    fn count_resets(&self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        if self.resets.is_empty() {
            return;
        }
        for (steps, rising) in &self.stretches {
            if *rising {
                self.count_resets_rising(w, vs, steps, out);
            } else {
                self.count_resets_any(w, vs, steps, out);
            }
        }
    }

    /// As `count_resets`, of any steps.
    fn count_resets_any(&self, w: &Windows<'_>, vs: &[f64], steps: &Range<usize>, out: &mut [f64]) {
        let (from, to) = (&w.from[..steps.end], &w.to[..steps.end]);
        let mut done = steps.start;
        for (i, reset) in self.resets.iter().enumerate() {
            let begin = done + to[done..].partition_point(|to| to <= reset);
            let end = begin + from[begin..].partition_point(|from| from < reset);
            for (step, out) in out[begin..end].iter_mut().enumerate() {
                *out = self.exact(w, vs, begin + step, &self.resets[i..]);
            }
            done = end;
        }
    }

    /// As `count_resets`, of steps whose windows rise: which of them hold a reset need not
    /// be searched for.
    fn count_resets_rising(
        &self,
        w: &Windows<'_>,
        vs: &[f64],
        steps: &Range<usize>,
        out: &mut [f64],
    ) {
        let (from, to) = (w.from[steps.start] as usize, w.to[steps.start] as usize);
        // The step of the window that begins, or ends before, so many samples further on.
        let step = |samples: usize, bound: usize| {
            (steps.start + samples.saturating_sub(bound)).min(steps.end)
        };
        let mut done = steps.start;
        for (i, reset) in self.resets.iter().map(|reset| *reset as usize).enumerate() {
            let begin = step(reset + 1, to).max(done);
            let end = step(reset, from).max(begin);
            let next = self.resets.get(i + 1).map_or(vs.len(), |next| *next as usize);
            let alone = step(next + 1, to).clamp(begin, end);
            let before = vs[reset - 1];
            let (simple, others) = out[begin..end].split_at_mut(alone - begin);
            for (step, out) in (begin..).zip(simple) {
                let first = vs[from + (step - steps.start)];
                let growth = (vs[to - 1 + (step - steps.start)] - first) + before;
                *out = self.result(w, step, first, growth);
            }
            for (step, out) in (alone..).zip(others) {
                *out = self.exact(w, vs, step, &self.resets[i..]);
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
