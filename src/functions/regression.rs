//! Lines and trends through the floats of a window.

use super::families::RANGE;
use super::*;
use crate::model::sums::kahan_inc;
use crate::model::value::ValueType::{RangeVector, Scalar};

pub(super) static ROWS: &[FunctionSpec] = &[
    FunctionSpec {
        name: "deriv",
        kernel: Kernel::Range { kernel: deriv, check: None, columns: None },
        doc: "Per-second slope of a gauge over the window, by least squares through all samples. \
              Steadier than `delta`, which looks at two samples only. At least two floats are \
              needed; histograms are ignored.",
        example: "deriv(disk_free_bytes[1h]) < 0",
        ..RANGE
    },
    FunctionSpec {
        name: "predict_linear",
        args: &[RangeVector, Scalar],
        kernel: Kernel::Range { kernel: predict_linear, check: None, columns: None },
        doc: "The value a gauge will have the given number of seconds after the evaluation time, \
              if it goes on along the least-squares line through the window. At least two floats \
              are needed; histograms are ignored.",
        example: "predict_linear(node_filesystem_avail_bytes[6h], 24 * 3600) < 0",
        ..RANGE
    },
    FunctionSpec {
        name: "double_exponential_smoothing",
        args: &[RangeVector, Scalar, Scalar],
        stability: Stability::Experimental,
        kernel: Kernel::Range { kernel: smooth, check: Some(check_factors), columns: None },
        doc: "Smoothed value of a gauge at the end of the window (Holt's linear method). The \
              smoothing factor decides how much recent samples count, the trend factor how fast \
              the trend adapts; both lie between 0 and 1. At least two floats are needed; \
              histograms are ignored.",
        example: "double_exponential_smoothing(queue_length[1h], 0.3, 0.1)",
        ..RANGE
    },
];

/// At least two floats; notes histograms beside them.
fn at_least_two(w: &Window<'_>, flags: &mut Flags) -> Option<()> {
    if w.ts.len() < 2 {
        return None;
    }
    if !w.hist.is_empty() {
        flags.raise(Flags::HISTOGRAMS_IGNORED);
    }
    Some(())
}

fn deriv(w: &Window<'_>, _: &RangeArgs<'_>, flags: &mut Flags) -> Option<Sample> {
    at_least_two(w, flags)?;
    Some(Sample::Float(regression(w, w.ts[0]).slope))
}

fn predict_linear(w: &Window<'_>, args: &RangeArgs<'_>, flags: &mut Flags) -> Option<Sample> {
    at_least_two(w, flags)?;
    let line = regression(w, w.eval_ms);
    let ahead = args.scalars.first().copied().unwrap_or(f64::NAN);
    Some(Sample::Float(line.slope * ahead + line.intercept))
}

struct Line {
    /// Per second.
    slope: f64,
    /// Value at the origin.
    intercept: f64,
}

/// Least squares, with x in seconds from `origin_ms`. A constant series is exact: no sum
/// of rounding errors gives it a slope.
fn regression(w: &Window<'_>, origin_ms: TimestampMs) -> Line {
    let first = w.vs[0];
    if w.vs.iter().all(|v| *v == first) {
        return if first.is_infinite() {
            Line { slope: f64::NAN, intercept: f64::NAN }
        } else {
            Line { slope: 0.0, intercept: first }
        };
    }
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) =
        ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    let add = |sum: &mut (f64, f64), v: f64| *sum = kahan_inc(v, sum.0, sum.1);
    for (ts, y) in w.ts.iter().zip(w.vs) {
        let x = ts.saturating_sub(origin_ms) as f64 / 1000.0;
        add(&mut x_sum, x);
        add(&mut y_sum, *y);
        add(&mut xy_sum, x * y);
        add(&mut xx_sum, x * x);
    }
    let n = w.ts.len() as f64;
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|(sum, c)| sum + c);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Line { slope, intercept: y / n - slope * x / n }
}

fn check_factors(scalars: &[f64]) -> Result<(), String> {
    let refused = |v: f64| v <= 0.0 || v >= 1.0;
    match scalars {
        [sf, ..] if refused(*sf) => {
            Err(format!("invalid smoothing factor. Expected: 0 < sf < 1, got: {}", fixed(*sf)))
        }
        [_, tf, ..] if refused(*tf) => {
            Err(format!("invalid trend factor. Expected: 0 < tf < 1, got: {}", fixed(*tf)))
        }
        _ => Ok(()),
    }
}

/// Go's `%f`.
fn fixed(v: f64) -> String {
    match v {
        v if v == f64::INFINITY => "+Inf".to_owned(),
        v if v == f64::NEG_INFINITY => "-Inf".to_owned(),
        v => format!("{v:.6}"),
    }
}

/// `level = sf * v + (1 - sf) * (level + trend)`, where
/// `trend = tf * (level - previous level) + (1 - tf) * trend`.
fn smooth(w: &Window<'_>, args: &RangeArgs<'_>, flags: &mut Flags) -> Option<Sample> {
    at_least_two(w, flags)?;
    let &[sf, tf, ..] = args.scalars else { return None };
    let (mut before, mut level) = (0.0, w.vs[0]);
    let mut trend = w.vs[1] - w.vs[0];
    for (i, v) in w.vs.iter().enumerate().skip(1) {
        if i > 1 {
            trend = tf * (level - before) + (1.0 - tf) * trend;
        }
        let next = sf * v + (1.0 - sf) * (level + trend);
        (before, level) = (level, next);
    }
    Some(Sample::Float(level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::{check_float, window};

    #[test]
    fn lines_through_samples() {
        let line = window(&[(10, 1.0), (20, 3.0), (40, 7.0)], 0, 60);
        check_float(deriv, &line, &[], Some(0.2));
        check_float(predict_linear, &line, &[40.0], Some(19.0));
        let constant = window(&[(1, 0.1), (2, 0.1), (9, 0.1)], 0, 60);
        check_float(deriv, &constant, &[], Some(0.0));
        check_float(predict_linear, &constant, &[1e9], Some(0.1));
        let infinite = window(&[(1, f64::INFINITY), (2, f64::INFINITY)], 0, 60);
        check_float(deriv, &infinite, &[], Some(f64::NAN));
        check_float(deriv, &window(&[(1, 1.0)], 0, 60), &[], None);
    }

    #[test]
    fn smoothing_follows_a_straight_line_and_refuses_factors_outside_0_and_1() {
        let line = window(&[(1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0)], 0, 5);
        check_float(smooth, &line, &[0.5, 0.5], Some(40.0));
        let step = window(&[(1, 0.0), (2, 0.0), (3, 8.0), (4, 8.0)], 0, 5);
        // Levels 0, 0, 4, then trend 2: 4 + 3.
        check_float(smooth, &step, &[0.5, 0.5], Some(7.0));
        let error = |scalars: &[f64]| check_factors(scalars).err();
        assert_eq!(
            error(&[1.0, 0.5]).as_deref(),
            Some("invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000")
        );
        assert_eq!(
            error(&[0.5, -1.0]).as_deref(),
            Some("invalid trend factor. Expected: 0 < tf < 1, got: -1.000000")
        );
        assert_eq!(error(&[0.5, f64::NAN]), None);
    }
}
