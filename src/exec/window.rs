//! Windows over raw samples: two cursors per sample kind that only move forward, so a
//! sweep over all steps touches each sample once, and a window is a slice.

use crate::model::{StepGrid, TimestampMs};
use crate::vector::{RawSamples, Window, WindowTable};

/// Where windows lie, relative to the reference time of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowShape {
    /// Overrides the time of every step (`@`).
    pub at_ms: Option<TimestampMs>,
    pub offset_ms: i64,
    pub range_ms: i64,
    /// Samples up to this long before the start are shown too (anchored, smoothed).
    pub before_ms: i64,
    /// Samples up to this long after the end are shown too (smoothed).
    pub after_ms: i64,
}

impl WindowShape {
    /// Closed upper end of the window of a step at that time.
    fn end_ms(&self, eval_ms: TimestampMs) -> TimestampMs {
        self.at_ms.unwrap_or(eval_ms).saturating_sub(self.offset_ms)
    }

    /// The windows of every step, for operators that work on whole series.
    pub(crate) fn table(&self, grid: StepGrid) -> WindowTable {
        WindowTable::new(grid.iter().map(|ts| self.end_ms(ts)).collect(), self.range_ms)
    }
}

/// The cursors of one series.
#[derive(Clone, Copy, Debug, Default)]
struct Cursors {
    float: (usize, usize),
    hist: (usize, usize),
}

/// One step's window, and how many samples of it no earlier step has seen.
pub(crate) struct Seen<'a> {
    pub window: Window<'a>,
    pub new_floats: std::ops::Range<usize>,
    pub new_hist: std::ops::Range<usize>,
}

/// Calls `visit(step, window)` for every step, in order.
pub(crate) fn sweep<'a, E>(
    raw: &'a RawSamples,
    grid: StepGrid,
    shape: WindowShape,
    mut visit: impl FnMut(u32, Seen<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut c = Cursors::default();
    for step in 0..grid.len {
        let eval_ms = grid.at(step);
        let end_ms = shape.end_ms(eval_ms);
        let start_ms = end_ms.saturating_sub(shape.range_ms);
        let first = start_ms.saturating_sub(shape.before_ms);
        let last = end_ms.saturating_add(shape.after_ms);
        let seen = (c.float.1, c.hist.1);
        advance(&mut c.float, raw.ts.len(), |i| raw.ts[i], first, last);
        advance(&mut c.hist, raw.hist.len(), |i| raw.hist[i].0, first, last);
        let (floats, hist) = (c.float.0..c.float.1, c.hist.0..c.hist.1);
        let window = Window {
            ts: &raw.ts[floats.clone()],
            vs: &raw.vs[floats.clone()],
            hist: &raw.hist[hist.clone()],
            start_ts: raw.start_ts.get(floats.clone()).unwrap_or(&[]),
            hist_start_ts: raw.hist_start_ts.get(hist.clone()).unwrap_or(&[]),
            start_ms,
            end_ms,
            eval_ms,
        };
        let new_floats = seen.0.max(floats.start)..floats.end.max(seen.0);
        let new_hist = seen.1.max(hist.start)..hist.end.max(seen.1);
        visit(step, Seen { window, new_floats, new_hist })?;
    }
    Ok(())
}

/// Moves `(from, to)` to the samples with `first < ts <= last`.
#[inline]
fn advance(
    (from, to): &mut (usize, usize),
    len: usize,
    ts: impl Fn(usize) -> TimestampMs,
    first: TimestampMs,
    last: TimestampMs,
) {
    while *to < len && ts(*to) <= last {
        *to += 1;
    }
    while *from < *to && ts(*from) <= first {
        *from += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_open_at_the_start_and_closed_at_the_end() {
        let mut raw = RawSamples::default();
        for t in [10, 20, 30, 40, 50] {
            raw.push(t, t as f64);
        }
        let check = |shape: WindowShape, expected: &[&[i64]]| {
            let grid = StepGrid { start_ms: 20, step_ms: 10, len: 3 };
            let mut got: Vec<Vec<i64>> = vec![];
            sweep(&raw, grid, shape, |_, seen| {
                got.push(seen.window.ts.to_vec());
                Ok::<(), ()>(())
            })
            .unwrap();
            assert_eq!(got, expected);
        };
        let plain =
            WindowShape { at_ms: None, offset_ms: 0, range_ms: 10, before_ms: 0, after_ms: 0 };
        check(plain, &[&[20], &[30], &[40]]);
        check(WindowShape { range_ms: 0, ..plain }, &[&[], &[], &[]]);
        check(WindowShape { offset_ms: 10, range_ms: 20, ..plain }, &[&[10], &[10, 20], &[20, 30]]);
        check(
            WindowShape { before_ms: 10, after_ms: 10, ..plain },
            &[&[10, 20, 30], &[20, 30, 40], &[30, 40, 50]],
        );
        check(WindowShape { at_ms: Some(50), ..plain }, &[&[50], &[50], &[50]]);
    }
}
