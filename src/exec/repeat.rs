//! A step-invariant input: evaluated at the first step, repeated at all.

use std::ops::Range;
use std::sync::Arc;

use super::cx::{Cx, Result};
use super::open::open;
use super::operator::{BoxOp, Operator, SeriesTable, rows_per_block};
use crate::model::{Sample, StepGrid};
use crate::plan::Node;
use crate::plan::bind::first_step;
use crate::vector::{SeriesBlock, SeriesId};

struct Repeat<'a> {
    cx: &'a Cx,
    input: BoxOp<'a>,
    steps: u32,
    /// The block being repeated and the next of its rows.
    current: Option<(SeriesBlock, u32)>,
}

/// See the module.
pub(crate) fn open_repeat<'a>(cx: &'a Cx, node: &'a Node, grid: StepGrid) -> Result<BoxOp<'a>> {
    let input = open(cx, node, first_step(grid))?;
    if grid.len <= 1 {
        return Ok(input);
    }
    Ok(Box::new(Repeat { cx, input, steps: grid.len, current: None }))
}

impl<'a> Operator<'a> for Repeat<'a> {
    fn series(&self) -> &Arc<SeriesTable> {
        self.input.series()
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        while self.current.as_ref().is_none_or(|(block, next)| *next == block.rows) {
            match self.input.next()? {
                Some(block) => self.current = Some((block, 0)),
                None => return Ok(None),
            }
        }
        let Some((block, next)) = &mut self.current else { return Ok(None) };
        let rows = rows_per_block(self.steps).min(block.rows - *next);
        let mut out = SeriesBlock::absent(SeriesId(block.first.0 + *next), rows, self.steps);
        for row in 0..rows {
            self.cx.check()?;
            match block.sample(*next + row, 0) {
                None => {}
                Some(Sample::Float(v)) => {
                    out.row_mut(row).fill(v);
                    (0..self.steps).for_each(|step| out.present.set(row, step));
                }
                Some(Sample::Histogram(h)) => {
                    (0..self.steps).for_each(|step| out.set_histogram(row, step, h.clone()));
                }
            }
        }
        *next += rows;
        Ok(Some(out))
    }

    fn split(
        self: Box<Self>,
        ranges: &[Range<u32>],
    ) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        let (cx, steps, current) = (self.cx, self.steps, self.current);
        match self.input.split(ranges) {
            Ok(parts) => Ok(parts
                .into_iter()
                .map(|input| Box::new(Self { cx, input, steps, current: None }) as BoxOp<'a>)
                .collect()),
            Err(input) => Err(Box::new(Self { cx, input, steps, current })),
        }
    }
}
