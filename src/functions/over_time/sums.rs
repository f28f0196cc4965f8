//! Sums, means and variances, all compensated.

use super::floats;
use crate::functions::{Flags, RangeArgs};
use crate::model::Sample;
use crate::model::histogram::HistogramFold;
use crate::model::sums::kahan_inc;
use crate::vector::Window;

pub(super) fn sum(w: &Window<'_>, _: &RangeArgs<'_>, flags: &mut Flags) -> Option<Sample> {
    if let Some(result) = histograms::<false>(w, flags) {
        return result;
    }
    Some(Sample::Float(sum_of(w.vs)))
}

pub(super) fn sum_of(vs: &[f64]) -> f64 {
    let (sum, c) = vs.iter().fold((0.0, 0.0), |(sum, c), v| kahan_inc(*v, sum, c));
    if f64::is_infinite(sum) { sum } else { sum + c }
}

pub(super) fn avg(w: &Window<'_>, _: &RangeArgs<'_>, flags: &mut Flags) -> Option<Sample> {
    if let Some(result) = histograms::<true>(w, flags) {
        return result;
    }
    avg_of(w.vs).map(Sample::Float)
}

/// The sum over the count, and a running mean from where the sum would overflow.
pub(super) fn avg_of(vs: &[f64]) -> Option<f64> {
    let (first, rest) = vs.split_first()?;
    let (mut sum, mut c, mut running) = (*first, 0.0, false);
    for (i, v) in rest.iter().enumerate() {
        let n = (i + 2) as f64;
        if !running {
            let (direct, direct_c) = kahan_inc(*v, sum, c);
            if !direct.is_infinite() {
                (sum, c) = (direct, direct_c);
                continue;
            }
            running = true;
            sum /= n - 1.0;
            c /= n - 1.0;
        }
        let q = (n - 1.0) / n;
        (sum, c) = kahan_inc(*v / n, q * sum, q * c);
    }
    let n = if running { 1.0 } else { vs.len() as f64 };
    Some(sum / n + c / n)
}

/// Windows with histograms, and empty ones; `None` leaves the window to the float path.
fn histograms<const AVG: bool>(w: &Window<'_>, flags: &mut Flags) -> Option<Option<Sample>> {
    if w.hist.is_empty() {
        return w.vs.is_empty().then_some(None);
    }
    if !w.vs.is_empty() {
        flags.raise(Flags::MIXED);
        return Some(None);
    }
    let ((_, first), rest) = w.hist.split_first()?;
    let mut fold = HistogramFold::new(first);
    for (_, h) in rest {
        fold.add::<AVG>(h);
    }
    let outcome = fold.finish::<AVG>();
    flags.raise(Flags::of_fold(&outcome));
    Some(outcome.histogram.map(Sample::Histogram))
}

/// Welford's method with compensated mean and squares; the standard deviation when
/// `DEVIATION`.
pub(super) fn variance<const DEVIATION: bool>(
    w: &Window<'_>,
    _: &RangeArgs<'_>,
    flags: &mut Flags,
) -> Option<Sample> {
    let (mut mean, mut mean_c, mut squares, mut squares_c) = (0.0, 0.0, 0.0, 0.0);
    let values = floats(w, flags)?;
    for (i, v) in values.iter().enumerate() {
        let delta = v - (mean + mean_c);
        (mean, mean_c) = kahan_inc(delta / (i + 1) as f64, mean, mean_c);
        (squares, squares_c) = kahan_inc(delta * (v - (mean + mean_c)), squares, squares_c);
    }
    let variance = (squares + squares_c) / values.len() as f64;
    Some(Sample::Float(if DEVIATION { variance.sqrt() } else { variance }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{check_float, window};

    #[test]
    fn sums_and_means_survive_cancellation_and_overflow() {
        let w = |vs: &[f64]| {
            let points: Vec<_> = vs.iter().enumerate().map(|(i, v)| (i as i64 + 1, *v)).collect();
            window(&points, 0, 60)
        };
        for (vs, expected_sum, expected_avg) in [
            (&[1.0, 1e100, 1.0, -1e100][..], Some(2.0), Some(0.5)),
            (&[f64::MAX, f64::MAX], Some(f64::INFINITY), Some(f64::MAX)),
            (&[f64::INFINITY, 1.0], Some(f64::INFINITY), Some(f64::INFINITY)),
            (&[f64::INFINITY, f64::NEG_INFINITY], Some(f64::NAN), Some(f64::NAN)),
            (&[], None, None),
        ] {
            check_float(sum, &w(vs), &[], expected_sum);
            check_float(avg, &w(vs), &[], expected_avg);
        }
        // Here the sum overflows on the way, but the mean is in reach.
        let overflowing = w(&[f64::MAX, f64::MAX, -f64::MAX]);
        check_float(avg, &overflowing, &[], Some(f64::MAX / 3.0));
    }

    #[test]
    fn variance_is_that_of_the_population() {
        let w = window(&[(1, 0.0), (2, 8.0), (3, 8.0), (4, 2.0), (5, 3.0)], 0, 60);
        check_float(variance::<false>, &w, &[], Some(10.56));
        check_float(variance::<true>, &w, &[], Some(10.56f64.sqrt()));
        let w = window(&[(1, 1.5990505637277868), (2, 1.5990505637277868)], 0, 60);
        check_float(variance::<false>, &w, &[], Some(0.0));
    }
}
