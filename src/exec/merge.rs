//! Joins series whose labels have come to coincide. Where no two do, which the table often
//! proves, the input passes as it is.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::cx::{Cx, ExecError, Result};
use super::exchange::collect;
use super::operator::{BoxOp, Ready, SeriesMeta, SeriesTable};
use super::rows::Rows;
use crate::plan::node::Overlap;

/// The error of two samples under one label set.
pub(crate) fn same_labelset() -> ExecError {
    ExecError::query("vector cannot contain metrics with the same labelset")
}

/// See the module.
pub(crate) fn merge<'a>(
    cx: &'a Cx,
    input: BoxOp<'a>,
    overlap: Overlap,
    steps: u32,
) -> Result<BoxOp<'a>> {
    let table = input.series().clone();
    if table.unique || table.len() < 2 {
        return Ok(input);
    }
    let mut rows: HashMap<&[u8], u32, FxBuildHasher> = HashMap::default();
    let mut merged: Vec<SeriesMeta> = vec![];
    let mut target: Vec<u32> = Vec::with_capacity(table.series.len());
    for s in &table.series {
        cx.check()?;
        target.push(*rows.entry(s.labels.as_bytes()).or_insert_with(|| {
            merged.push(s.clone());
            merged.len() as u32 - 1
        }));
    }
    if merged.len() == table.series.len() {
        return Ok(input);
    }
    let input = collect(cx, input, steps)?;
    let mut out = Rows::new(steps);
    let mut used = vec![false; merged.len()];
    for (series, target) in target.iter().enumerate() {
        cx.check()?;
        let (block, row) = input.row(series as u32);
        if block.row_is_absent(row) {
            continue;
        }
        let first = !std::mem::replace(&mut used[*target as usize], true);
        if !first && overlap == Overlap::Always {
            return Err(same_labelset());
        }
        for step in block.occupied_steps(row) {
            if out.has(*target, step) {
                return Err(same_labelset());
            }
            if let Some(sample) = block.sample(row, step) {
                out.set_sample(*target, step, sample);
            }
        }
    }
    let hold = input.into_parts().1;
    let blocks = out.into_blocks(merged.len() as u32);
    let table = SeriesTable { series: merged, unique: true };
    Ok(Box::new(Ready::new(Arc::new(table), blocks, Some(hold))))
}
