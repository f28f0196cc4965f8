//! Quantiles of a window, shared with the `quantile` aggregator.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::floats;
use crate::functions::{Flags, RangeArgs};
use crate::model::Sample;
use crate::vector::Window;

/// A copy of a window to sort; small windows need no allocation.
type Scratch = SmallVec<[f64; 64]>;

pub(super) fn quantile(w: &Window<'_>, args: &RangeArgs<'_>, flags: &mut Flags) -> Option<Sample> {
    let values = floats(w, flags)?;
    let phi = args.scalars.first().copied().unwrap_or(f64::NAN);
    if !(0.0..=1.0).contains(&phi) {
        flags.raise(Flags::QUANTILE_OUT_OF_RANGE);
    }
    Some(Sample::Float(quantile_of(phi, &mut Scratch::from_slice(values))))
}

/// The `phi`-quantile of `values`, which are sorted here, NaN first:
/// `rank = phi * (n - 1)`, interpolated between the neighbours of the rank.
/// NaN for no values or a NaN `phi`, -Inf below 0 and +Inf above 1.
pub(crate) fn quantile_of(phi: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(nan_first);
    let highest = values.len() - 1;
    let rank = phi * highest as f64;
    let lower = rank.floor();
    let upper = (lower as usize + 1).min(highest);
    let weight = rank - lower;
    values[lower as usize] * (1.0 - weight) + values[upper] * weight
}

fn nan_first(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

pub(super) fn median_absolute_deviation(
    w: &Window<'_>,
    _: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    let mut values = Scratch::from_slice(floats(w, flags)?);
    if values.iter().any(|v| v.is_nan()) {
        return Some(Sample::Float(f64::NAN));
    }
    let median = quantile_of(0.5, &mut values);
    for v in &mut values {
        *v = (*v - median).abs();
    }
    Some(Sample::Float(quantile_of(0.5, &mut values)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{check_float, window};

    #[test]
    fn nan_sorts_below_every_number() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (phi, values, expected) in [
            (0.5, &[3.0, 1.0, 2.0][..], 2.0),
            (0.25, &[4.0, 1.0], 1.75),
            (1.0, &[nan, 1.0, 3.0], 3.0),
            (0.0, &[1.0, nan, 3.0], nan),
            (0.75, &[1.0, nan, 3.0], 2.0),
            (-0.5, &[1.0], -inf),
            (1.5, &[1.0], inf),
            (nan, &[1.0], nan),
            (0.5, &[], nan),
        ] {
            let got = quantile_of(phi, &mut values.to_vec());
            let same = got == expected || (got.is_nan() && f64::is_nan(expected));
            assert!(same, "{phi} of {values:?}: expected {expected}, got {got}");
        }
    }

    #[test]
    fn the_median_deviation_ignores_an_outlier() {
        let w =
            window(&[(1, 4.0), (2, 6.0), (3, 2.0), (4, 1.0), (5, 999.0), (6, 1.0), (7, 2.0)], 0, 9);
        check_float(median_absolute_deviation, &w, &[], Some(1.0));
        let flags = check_float(quantile, &w, &[2.0], Some(f64::INFINITY));
        assert!(flags.has(Flags::QUANTILE_OUT_OF_RANGE));
    }
}
