//! What the kernels' unit tests share.

use std::sync::Arc;

use super::{Flags, RangeArgs, RangeKernel, WindowMode};
use crate::model::{FloatHistogram, Sample, TimestampMs};
use crate::vector::Window;

/// An owned window; all times given in seconds.
#[derive(Clone, Debug)]
pub(crate) struct TestWindow {
    ts: Vec<TimestampMs>,
    vs: Vec<f64>,
    pub(crate) hist: Vec<(TimestampMs, Arc<FloatHistogram>)>,
    /// In ms, parallel to the samples.
    pub(crate) start_ts: Vec<TimestampMs>,
    start_ms: TimestampMs,
    end_ms: TimestampMs,
}

/// Floats at seconds in `(start, end]`.
pub(crate) fn window(points: &[(i64, f64)], start: i64, end: i64) -> TestWindow {
    TestWindow {
        ts: points.iter().map(|(t, _)| t * 1000).collect(),
        vs: points.iter().map(|(_, v)| *v).collect(),
        hist: Vec::new(),
        start_ts: Vec::new(),
        start_ms: start * 1000,
        end_ms: end * 1000,
    }
}

impl TestWindow {
    pub(crate) fn window(&self) -> Window<'_> {
        Window {
            ts: &self.ts,
            vs: &self.vs,
            hist: &self.hist,
            start_ts: &self.start_ts,
            hist_start_ts: &[],
            start_ms: self.start_ms,
            end_ms: self.end_ms,
            eval_ms: self.end_ms,
        }
    }
}

/// Runs a kernel over a plain window and compares within 1e-12, NaN equal to NaN.
pub(crate) fn check_float(
    kernel: RangeKernel,
    w: &TestWindow,
    scalars: &[f64],
    expected: Option<f64>,
) -> Flags {
    let args = RangeArgs {
        scalars,
        range_ms: w.end_ms - w.start_ms,
        mode: WindowMode::Plain,
        use_start_timestamps: !w.start_ts.is_empty(),
    };
    let mut flags = Flags::default();
    let got = kernel(&w.window(), &args, &mut flags);
    let same = match (&got, expected) {
        (None, None) => true,
        (Some(Sample::Float(got)), Some(expected)) => {
            got.to_bits() == expected.to_bits()
                || (got.is_nan() && expected.is_nan())
                || *got == expected
                || (got - expected).abs() <= 1e-12 * (got.abs() + expected.abs())
        }
        _ => false,
    };
    assert!(same, "expected {expected:?}, got {got:?} over {w:?}");
    flags
}
