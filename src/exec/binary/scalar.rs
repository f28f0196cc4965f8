//! A vector and a scalar.

use super::elements::Elements;
use crate::exec::cx::{Cx, HISTOGRAM_WORK, Pace, Result};
use crate::exec::open::open;
use crate::exec::operator::{BoxOp, PerBlock};
use crate::exec::scalar::values;
use crate::model::{Sample, StepGrid};
use crate::plan::node::VectorScalar;
use crate::vector::SeriesBlock;

/// Opens `vector op scalar` or `scalar op vector`. A comparison that filters passes the
/// vector's value, whichever side it stands on.
pub(crate) fn vector_scalar<'a>(
    cx: &'a Cx,
    node: &'a VectorScalar,
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let scalars = values(cx, &node.scalar, grid)?;
    let input = open(cx, &node.vector, grid)?;
    let elements = Elements { cx, op: node.op, return_bool: node.return_bool, span: &node.span };
    let scalar_on_left = node.scalar_on_left;
    Ok(PerBlock::boxed(input, move |block, _| {
        if block.histograms.is_some() || node.op.is_trim() {
            by_sample(elements, block, &scalars, scalar_on_left)
        } else {
            by_row(elements, block, &scalars, scalar_on_left)
        }
    }))
}

fn by_row(
    elements: Elements<'_>,
    block: &mut SeriesBlock,
    scalars: &[f64],
    scalar_on_left: bool,
) -> Result<()> {
    let steps = block.steps as usize;
    let mut left = if scalar_on_left { scalars.to_vec() } else { vec![] };
    for row in 0..block.rows {
        elements.cx.check()?;
        let mask = block.present.row_mut(row);
        let floats = &mut block.floats[row as usize * steps..(row as usize + 1) * steps];
        if scalar_on_left {
            left.copy_from_slice(scalars);
            elements.floats(&mut left, floats, true, mask);
            floats.copy_from_slice(&left);
        } else {
            elements.floats(floats, scalars, false, mask);
        }
    }
    Ok(())
}

fn by_sample(
    elements: Elements<'_>,
    block: &mut SeriesBlock,
    scalars: &[f64],
    scalar_on_left: bool,
) -> Result<()> {
    let mut pace = Pace::new(elements.cx);
    for row in 0..block.rows {
        let steps: Vec<u32> = block.occupied_steps(row).collect();
        for step in steps {
            pace.work(HISTOGRAM_WORK)?;
            let Some(sample) = block.sample(row, step) else { continue };
            let scalar = Sample::Float(scalars[step as usize]);
            let result = if scalar_on_left {
                elements.apply(&scalar, &sample, &sample)
            } else {
                elements.apply(&sample, &scalar, &sample)
            };
            match result {
                Some(result) => block.set_sample(row, step, result),
                None => block.clear_slot(row, step),
            }
        }
    }
    Ok(())
}
