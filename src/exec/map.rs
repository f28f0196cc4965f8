//! Functions of each sample on its own.

use super::cx::{CHECK_EVERY, Cx, HISTOGRAM_WORK, Pace, Result};
use super::operator::{BoxOp, PerBlock};
use crate::functions::{FunctionSpec, Kernel};
use crate::model::StepGrid;
use crate::model::float::whole;
use crate::vector::SeriesBlock;

/// A function from the registry; `rows` holds its scalar arguments, `width` for each step.
pub(crate) fn function<'a>(
    cx: &'a Cx,
    function: &'static FunctionSpec,
    input: BoxOp<'a>,
    rows: Vec<f64>,
    width: usize,
) -> BoxOp<'a> {
    match function.kernel {
        Kernel::Map(f) => PerBlock::boxed(input, move |block, _| {
            // Absent slots are computed too: that keeps the loop free of branches.
            block.histograms = None;
            each_stretch(cx, block, |v| *v = f(*v))
        }),
        Kernel::Calendar(f) => PerBlock::boxed(input, move |block, _| {
            block.histograms = None;
            each_stretch(cx, block, |v| *v = f(whole(*v)))
        }),
        Kernel::MapWith(f) => PerBlock::boxed(input, move |block, _| {
            block.histograms = None;
            each_float(cx, block, |v, step| f(v, &rows[step * width..(step + 1) * width]))
        }),
        Kernel::FromHistogram(f) => PerBlock::boxed(input, move |block, _| {
            let mut out = SeriesBlock::absent(block.first, block.rows, block.steps);
            if block.histograms.is_some() {
                let mut pace = Pace::new(cx);
                for row in 0..block.rows {
                    for step in 0..block.steps {
                        pace.work(HISTOGRAM_WORK)?;
                        if let Some(h) = block.histogram(row, step) {
                            out.set_float(row, step, f(h));
                        }
                    }
                }
            }
            *block = out;
            Ok(())
        }),
        Kernel::Range { .. } | Kernel::Scalar(_) | Kernel::Operator(_) => {
            unreachable!("BUG: not a function of single samples")
        }
    }
}

/// `timestamp(v)` of something computed: the time of the step.
pub(crate) fn step_time<'a>(input: BoxOp<'a>, grid: StepGrid) -> BoxOp<'a> {
    PerBlock::boxed(input, move |block, _| {
        for row in 0..block.rows {
            let steps: Vec<u32> = block.occupied_steps(row).collect();
            for step in steps {
                block.set_float(row, step, grid.at(step) as f64 / 1000.0);
            }
        }
        Ok(())
    })
}

/// Unary minus.
pub(crate) fn negate<'a>(cx: &'a Cx, input: BoxOp<'a>) -> BoxOp<'a> {
    PerBlock::boxed(input, move |block, _| {
        each_stretch(cx, block, |v| *v = -*v)?;
        if block.histograms.is_some() {
            map_histograms(cx, block, |h| h.mul(-1.0))?;
        }
        Ok(())
    })
}

/// Changes every float slot of a block, absent ones too.
fn each_stretch(cx: &Cx, block: &mut SeriesBlock, f: impl Fn(&mut f64)) -> Result<()> {
    for stretch in block.floats.chunks_mut(CHECK_EVERY) {
        cx.check()?;
        stretch.iter_mut().for_each(&f);
    }
    Ok(())
}

/// Replaces every histogram of a block.
fn map_histograms(
    cx: &Cx,
    block: &mut SeriesBlock,
    f: impl Fn(&mut crate::model::FloatHistogram),
) -> Result<()> {
    let mut pace = Pace::new(cx);
    for row in 0..block.rows {
        for step in 0..block.steps {
            pace.work(HISTOGRAM_WORK)?;
            if let Some(mut h) = block.take_histogram(row, step) {
                f(std::sync::Arc::make_mut(&mut h));
                block.set_histogram(row, step, h);
            }
        }
    }
    Ok(())
}

/// Replaces every float by `f(value, step)`; `None` makes the slot absent.
fn each_float(
    cx: &Cx,
    block: &mut SeriesBlock,
    f: impl Fn(f64, usize) -> Option<f64>,
) -> Result<()> {
    let mut pace = Pace::new(cx);
    let steps = block.steps as usize;
    for row in 0..block.rows {
        let words = block.present.row_mut(row);
        let floats = &mut block.floats[row as usize * steps..(row as usize + 1) * steps];
        for (w, word) in words.iter_mut().enumerate() {
            pace.work(64)?;
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                let step = w * 64 + bit;
                match f(floats[step], step) {
                    Some(v) => floats[step] = v,
                    None => *word &= !(1 << bit),
                }
            }
        }
    }
    Ok(())
}
