//! What the kernels' unit tests share.

use std::sync::Arc;

use super::{Flags, Kernel, RangeArgs, RangeKernel, WindowMode};
use crate::model::{FloatHistogram, Sample, TimestampMs};
use crate::vector::{Window, WindowTable};

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

/// Runs a function's column kernel over two series of the same times and its window kernel
/// over each window, and demands the same bits. Times are in ms.
pub(crate) fn check_columns(
    name: &str,
    samples: &[(TimestampMs, f64)],
    start: i64,
    step: i64,
    range_ms: i64,
) {
    let spec = super::find(name).expect("BUG: tests name functions");
    let Kernel::Range { kernel, columns: Some(columns), .. } = spec.kernel else {
        unreachable!("BUG: {name} has no column kernel");
    };
    let ends: Vec<TimestampMs> = (0..130).map(|i| start + i * step).collect();
    let mut table = WindowTable::new(ends.clone(), range_ms);
    let mut column_kernel = (columns.new)();
    let ts: Vec<TimestampMs> = samples.iter().map(|s| s.0).collect();
    let forwards: Vec<f64> = samples.iter().map(|s| s.1).collect();
    let backwards: Vec<f64> = forwards.iter().rev().copied().collect();
    for vs in [forwards, backwards] {
        if table.lay(&ts) {
            assert!(column_kernel.lay(&table.windows()));
        }
        let mut got = vec![0.0; ends.len()];
        if !vs.is_empty() {
            column_kernel.run(&table.windows(), &vs, &mut got);
        }
        let mut present = vec![];
        table.mark_present(columns.samples_min, &mut present);
        for (i, end_ms) in ends.iter().copied().enumerate() {
            let windows = table.windows();
            let samples = windows.from[i] as usize..windows.to[i] as usize;
            let window = Window {
                ts: &ts[samples.clone()],
                vs: &vs[samples],
                hist: &[],
                start_ts: &[],
                hist_start_ts: &[],
                start_ms: end_ms - range_ms,
                end_ms,
                eval_ms: end_ms,
            };
            let args = RangeArgs {
                scalars: &[],
                range_ms,
                mode: WindowMode::Plain,
                use_start_timestamps: false,
            };
            let mut flags = Flags::default();
            let expected = match kernel(&window, &args, &mut flags) {
                Some(Sample::Float(v)) => Some(v),
                None => None,
                Some(other) => unreachable!("BUG: {other:?} is no float"),
            };
            assert_eq!(flags, if expected.is_some() { columns.flags } else { Flags(0) });
            let got = (present[i / 64] >> (i % 64) & 1 == 1).then_some(got[i]);
            let same = match (got, expected) {
                (Some(got), Some(expected)) => {
                    got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan()
                }
                (got, expected) => got.is_none() && expected.is_none(),
            };
            assert!(same, "{name} at {end_ms}: expected {expected:?}, got {got:?} of {window:?}");
        }
    }
}
