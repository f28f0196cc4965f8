//! Functions over time, over all windows of a series at once.
//!
//! Counting and picking looks at no sample twice. Extremes come from a table of the
//! extremes of all stretches of 1, 2, 4, ... samples: two such stretches, which may
//! overlap, cover any window. Sums must add up each window in its own order to be exact, so
//! they go over windows side by side.

use super::sums::{avg_of, sum_of};
use crate::functions::{ColumnKernel, Columns, Flags};
use crate::model::sums::kahan_inc_columns;
use crate::vector::{CHUNK_STEPS, Windows};

/// Samples of all windows of a series up to which sums are worked out in one go, which
/// nothing can interrupt; and values of a table of extremes.
const SAMPLES_MAX: u64 = 1 << 22;

/// Columns of a kernel that needs one sample per window.
pub(super) const fn columns<K: ColumnKernel + Default + 'static>() -> Option<Columns> {
    Some(Columns { new: || Box::new(K::default()), samples_min: 1, flags: Flags(0) })
}

/// `count_over_time`
#[derive(Debug, Default)]
pub(super) struct Count;

impl ColumnKernel for Count {
    fn lay(&mut self, _: &Windows<'_>) -> bool {
        true
    }

    fn run(&mut self, w: &Windows<'_>, _: &[f64], out: &mut [f64]) {
        for ((out, from), to) in out.iter_mut().zip(w.from).zip(w.to) {
            *out = f64::from(to - from);
        }
    }
}

/// `present_over_time`
#[derive(Debug, Default)]
pub(super) struct Present;

impl ColumnKernel for Present {
    fn lay(&mut self, _: &Windows<'_>) -> bool {
        true
    }

    fn run(&mut self, _: &Windows<'_>, _: &[f64], out: &mut [f64]) {
        out.fill(1.0);
    }
}

/// `last_over_time`
#[derive(Debug, Default)]
pub(super) struct Last;

impl ColumnKernel for Last {
    fn lay(&mut self, _: &Windows<'_>) -> bool {
        true
    }

    fn run(&mut self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        w.newest(vs, out);
    }
}

/// `max_over_time` when `MAX`, else `min_over_time`.
#[derive(Debug, Default)]
pub(super) struct Extreme<const MAX: bool> {
    /// `levels[k][i]` is the extreme of the `2^(k+1)` samples from `i` on.
    levels: Vec<Vec<f64>>,
    depth: usize,
}

impl<const MAX: bool> ColumnKernel for Extreme<MAX> {
    fn lay(&mut self, w: &Windows<'_>) -> bool {
        let longest = w.from.iter().zip(w.to).map(|(from, to)| to - from).max().unwrap_or(0);
        self.depth = longest.max(1).ilog2() as usize;
        self.levels.resize(self.depth.max(self.levels.len()), vec![]);
        (w.ts.len() * self.depth) as u64 <= SAMPLES_MAX
    }

    fn run(&mut self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        for k in 0..self.depth {
            let (below, above) = self.levels.split_at_mut(k);
            let below = below.last().map_or(vs, Vec::as_slice);
            let (level, half) = (&mut above[0], 1 << k);
            level.clear();
            let later = below.get(half..).unwrap_or_default();
            level.extend(below.iter().zip(later).map(|(a, b)| better::<MAX>(*a, *b)));
        }
        for ((out, from), to) in out.iter_mut().zip(w.from).zip(w.to) {
            let (from, to) = (*from as usize, *to as usize);
            *out = match to - from {
                0 => 0.0,
                1 => vs[from],
                samples => {
                    let k = samples.ilog2() as usize;
                    let level = &self.levels[k - 1];
                    better::<MAX>(level[from], level[to - (1 << k)])
                }
            };
        }
    }
}

/// The better of two; the first of equal ones, and any number before NaN.
#[inline]
fn better<const MAX: bool>(kept: f64, v: f64) -> f64 {
    let better = if MAX { v > kept } else { v < kept };
    if better | kept.is_nan() { v } else { kept }
}

/// `avg_over_time` when `AVG`, else `sum_over_time`.
#[derive(Debug, Default)]
pub(super) struct Sum<const AVG: bool>;

impl<const AVG: bool> ColumnKernel for Sum<AVG> {
    fn lay(&mut self, w: &Windows<'_>) -> bool {
        let each = w.from.iter().zip(w.to).map(|(from, to)| u64::from(to - from));
        each.sum::<u64>() <= SAMPLES_MAX
    }

    fn run(&mut self, w: &Windows<'_>, vs: &[f64], out: &mut [f64]) {
        for (chunk, out) in out.chunks_mut(CHUNK_STEPS).enumerate() {
            let base = chunk * CHUNK_STEPS;
            let steps = base..base + out.len();
            let (from, to) = (&w.from[steps.clone()], &w.to[steps]);
            // In rising windows, all of one length, sample `j` of each makes a slice.
            let done = w.rising[chunk] && {
                let first = from[0] as usize;
                side_by_side::<AVG>(&vs[first..], (to[0] - from[0]) as usize, out)
            };
            if !done {
                for ((out, from), to) in out.iter_mut().zip(from).zip(to) {
                    let vs = &vs[*from as usize..*to as usize];
                    *out = if AVG { avg_of(vs).unwrap_or(0.0) } else { sum_of(vs) };
                }
            }
        }
    }
}

/// Sums or averages of the windows `i..i + samples` of `vs`, at most a chunk of them. False
/// when an average must be worked out another way, because a sum overflows.
fn side_by_side<const AVG: bool>(vs: &[f64], samples: usize, out: &mut [f64]) -> bool {
    let mut compensations = [0.0; CHUNK_STEPS];
    let cs = &mut compensations[..out.len()];
    // A mean starts from its first value, a sum from zero: that tells 0 from -0.
    let begun = if AVG {
        out.copy_from_slice(&vs[..out.len()]);
        1
    } else {
        out.fill(0.0);
        0
    };
    for j in begun..samples {
        kahan_inc_columns(&vs[j..j + out.len()], out, cs);
    }
    if !AVG {
        for (sum, c) in out.iter_mut().zip(cs) {
            *sum = if sum.is_infinite() { *sum } else { *sum + *c };
        }
        return true;
    }
    if !out.iter().fold(true, |finite, sum| finite & sum.is_finite()) {
        return false;
    }
    let n = samples as f64;
    for (sum, c) in out.iter_mut().zip(cs) {
        *sum = *sum / n + *c / n;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::functions::testing::check_columns;

    proptest! {
        #[test]
        fn columns_equal_windows_bit_for_bit(
            samples in prop::collection::vec(
                (
                    prop_oneof![9 => Just(10i64), 1 => 1i64..40],
                    prop_oneof![
                        6 => -1e3..1e3f64,
                        2 => (0u8..3).prop_map(f64::from),
                        1 => prop::sample::select(vec![
                            0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX,
                            -f64::MAX, 1e100, -1e100,
                        ]),
                    ],
                ),
                0..150,
            ),
            start in -50i64..200, step in 1i64..50, range in 0i64..300,
        ) {
            let mut ts = 0;
            let samples: Vec<(i64, f64)> = samples
                .into_iter()
                .map(|(distance, value)| { ts += distance; (ts, value) })
                .collect();
            for name in ["count", "present", "last", "min", "max", "sum", "avg"] {
                check_columns(&format!("{name}_over_time"), &samples, start, step, range);
            }
            for name in ["changes", "resets"] {
                check_columns(name, &samples, start, step, range);
            }
        }
    }
}
