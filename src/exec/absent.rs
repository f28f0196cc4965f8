//! `absent` and `absent_over_time`: one series that is there when nothing else is.

use std::sync::Arc;

use super::cx::{Cx, Pace, Result};
use super::exchange;
use super::open::open;
use super::operator::{BoxOp, Ready, SeriesMeta, SeriesTable, or_into};
use super::range::{count_window, open_source};
use super::window::sweep;
use crate::model::{Labels, StepGrid};
use crate::plan::Node;
use crate::plan::node::RangeSource;
use crate::vector::{RawSamples, SeriesBlock, SeriesId};

/// Opens `absent(v)`.
pub(crate) fn absent<'a>(
    cx: &'a Cx,
    input: &'a Node,
    labels: &[(String, String)],
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let input = open(cx, input, grid)?;
    let make = || Ok(no_steps(grid));
    let add = |any: &mut Vec<u64>, block: &mut SeriesBlock| {
        (0..block.rows).for_each(|row| or_into(any, block.occupied(row)));
        Ok(())
    };
    let join = |any: &mut Vec<u64>, part: Vec<u64>| {
        or_into(any, part.into_iter());
        Ok(())
    };
    let any = exchange::reduce(cx, input, grid.len, 8, make, add, join)?;
    Ok(Box::new(where_absent(&any, labels, grid)))
}

/// Opens `absent_over_time(r)`.
pub(crate) fn absent_over_time<'a>(
    cx: &'a Cx,
    source: &'a RangeSource,
    labels: &[(String, String)],
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let mut source = open_source(cx, source)?;
    let mut any = no_steps(grid);
    let mut raw = RawSamples::default();
    let mut counts = cx.counts(grid);
    let mut pace = Pace::new(cx);
    for row in 0..source.table.len() {
        cx.check()?;
        source.samples.load(cx, row, &mut raw)?;
        sweep(&raw, grid, source.shape, |step, seen| {
            pace.work(1)?;
            if !seen.window.ts.is_empty() || !seen.window.hist.is_empty() {
                any[step as usize / 64] |= 1 << (step % 64);
                count_window(&raw, &seen, step, &mut counts);
            }
            Ok::<(), super::ExecError>(())
        })?;
    }
    cx.count_samples(source.scope, &counts);
    Ok(Box::new(where_absent(&any, labels, grid)))
}

fn no_steps(grid: StepGrid) -> Vec<u64> {
    vec![0; (grid.len as usize).div_ceil(64)]
}

fn where_absent(any: &[u64], labels: &[(String, String)], grid: StepGrid) -> Ready<'static> {
    let mut block = SeriesBlock::absent(SeriesId(0), 1, grid.len);
    for step in 0..grid.len {
        if any[step as usize / 64] >> (step % 64) & 1 == 0 {
            block.set_float(0, step, 1.0);
        }
    }
    let labels = Labels::from_pairs(labels.iter().map(|(n, v)| (n, v)));
    let table = SeriesTable { series: vec![SeriesMeta::new(labels)], unique: true };
    Ready::new(Arc::new(table), vec![block], None)
}
