//! Scalar nodes: one number per step.

use super::cx::{Cx, ExecError, Pace, Result};
use super::exchange;
use super::open::open;
use crate::functions::Kernel;
use crate::model::StepGrid;
use crate::plan::Node;
use crate::plan::arithmetic::scalar_binary;
use crate::plan::bind::first_step;
use crate::plan::node::QueryTime;

/// The value of a scalar node at every step of a grid.
pub(crate) fn values(cx: &Cx, node: &Node, grid: StepGrid) -> Result<Vec<f64>> {
    let len = grid.len as usize;
    Ok(match node {
        Node::Number(v) => vec![*v; len],
        Node::EvalTime => grid.iter().map(|ms| ms as f64 / 1000.0).collect(),
        Node::QueryTime(what) => vec![query_time(cx, *what); len],
        Node::ScalarNegate(input) => {
            let mut all = values(cx, input, grid)?;
            all.iter_mut().for_each(|v| *v = -*v);
            all
        }
        Node::ScalarBinary { op, .. } if op.is_trim() => {
            let op = op.as_str();
            return Err(ExecError::query(format!(
                "operator \"{op}\" not allowed for Scalar operations"
            )));
        }
        Node::ScalarBinary { op, lhs, rhs } => {
            let (lhs, rhs) = (values(cx, lhs, grid)?, values(cx, rhs, grid)?);
            lhs.into_iter().zip(rhs).map(|(l, r)| scalar_binary(*op, l, r)).collect()
        }
        Node::ScalarCall { function, args } => {
            let Kernel::Scalar(kernel) = function.kernel else {
                unreachable!("BUG: a scalar call has a scalar kernel")
            };
            let (rows, width) = step_rows(cx, args, grid)?;
            let mut pace = Pace::new(cx);
            let each = (0..len).map(|step| {
                pace.work(1)?;
                Ok(kernel(&rows[step * width..(step + 1) * width]))
            });
            each.collect::<Result<_>>()?
        }
        Node::ScalarOf(input) => only_sample(cx, input, grid)?,
        Node::StepInvariant(input) => {
            let once = values(cx, input, first_step(grid))?;
            vec![once.first().copied().unwrap_or(f64::NAN); len]
        }
        _ => unreachable!("BUG: not a scalar node"),
    })
}

/// The values of several scalar nodes, those of one step side by side; and how many they are.
pub(crate) fn step_rows(cx: &Cx, nodes: &[Node], grid: StepGrid) -> Result<(Vec<f64>, usize)> {
    let width = nodes.len();
    let mut rows = vec![0.0; width * grid.len as usize];
    for (i, node) in nodes.iter().enumerate() {
        for (step, v) in values(cx, node, grid)?.into_iter().enumerate() {
            rows[step * width + i] = v;
        }
    }
    Ok((rows, width))
}

fn query_time(cx: &Cx, what: QueryTime) -> f64 {
    let grid = cx.binding.grid;
    let (start, end) = (grid.start_ms as f64 / 1000.0, cx.binding.end_ms as f64 / 1000.0);
    match what {
        QueryTime::Start => start,
        QueryTime::End => end,
        QueryTime::Range => cx.binding.end_ms.saturating_sub(grid.start_ms) as f64 / 1000.0,
        QueryTime::Step if grid.is_instant() => 0.0,
        QueryTime::Step => grid.step_ms as f64 / 1000.0,
    }
}

/// `scalar(v)`: the value where there is exactly one float; histograms do not count.
fn only_sample(cx: &Cx, input: &Node, grid: StepGrid) -> Result<Vec<f64>> {
    let len = grid.len as usize;
    let op = open(cx, input, grid)?;
    let make = || Ok((vec![f64::NAN; len], vec![0u32; len]));
    let parts = exchange::fold(cx, op, grid.len, 8, make, |(value, count), block| {
        for row in 0..block.rows {
            let floats = block.row(row);
            for step in block.present.ones(row) {
                value[step as usize] = floats[step as usize];
                count[step as usize] += 1;
            }
        }
        Ok(())
    })?;
    let mut out = vec![f64::NAN; len];
    for (step, slot) in out.iter_mut().enumerate() {
        let total: u32 = parts.iter().map(|(_, count)| count[step]).sum();
        if total == 1
            && let Some((value, _)) = parts.iter().find(|(_, count)| count[step] == 1)
        {
            *slot = value[step];
        }
    }
    Ok(out)
}
