//! Plan node to operator.

use super::cx::{Cx, Result};
use super::operator::{BoxOp, Ready, single_row};
use super::{
    absent, aggregate, binary, choose, count_values, histogram, info, labels, map, merge, range,
    repeat, scalar, select, sort,
};
use crate::model::{Labels, StepGrid};
use crate::plan::Node;

/// Opens a vector node on a grid. Operators that need all of an input before they know
/// their series evaluate it here. What was evaluated for others as well is not evaluated
/// again.
pub(crate) fn open<'a>(cx: &'a Cx, node: &'a Node, grid: StepGrid) -> Result<BoxOp<'a>> {
    cx.check()?;
    if let Some(shared) = &cx.shared
        && let Some(replay) = shared.open(cx, node)?
    {
        return Ok(replay);
    }
    compute(cx, node, grid)
}

/// As `open`, evaluating in any case.
pub(crate) fn compute<'a>(cx: &'a Cx, node: &'a Node, grid: StepGrid) -> Result<BoxOp<'a>> {
    match node {
        Node::Select(select) => select::InstantSelect::open(cx, select, grid),
        Node::VectorOf(input) => {
            Ok(Box::new(single_row(Labels::empty(), scalar::values(cx, input, grid)?)))
        }
        Node::Map { function, input, scalars } => {
            let input = open(cx, input, grid)?;
            let (rows, width) = scalar::step_rows(cx, scalars, grid)?;
            Ok(map::function(cx, function, input, rows, width))
        }
        Node::StepTime(input) => Ok(map::step_time(open(cx, input, grid)?, grid)),
        Node::Nothing(_) => Ok(Box::new(Ready::empty())),
        Node::Range(call) => range::open_range(cx, call, grid),
        Node::Negate(input) => Ok(map::negate(cx, open(cx, input, grid)?)),
        Node::VectorScalar(b) => binary::vector_scalar(cx, b, grid),
        Node::Join(join) => binary::join(cx, join, grid),
        Node::SetOp { op, lhs, rhs, on, labels } => {
            binary::set_op(cx, *op, (lhs, rhs), (*on, labels), grid)
        }
        Node::Aggregate(a) => aggregate::open_aggregate(cx, a, grid),
        Node::Choose(c) => choose::open_choose(cx, c, grid),
        Node::CountValues { input, label, grouping } => {
            count_values::open_count_values(cx, input, label, grouping, grid)
        }
        Node::Absent { input, labels } => absent::absent(cx, input, labels, grid),
        Node::AbsentOverTime { source, labels } => {
            absent::absent_over_time(cx, source, labels, grid)
        }
        Node::HistogramQuantiles(h) => histogram::quantiles(cx, h, grid),
        Node::HistogramFraction { lower, upper, input, span } => {
            histogram::fraction(cx, (lower, upper), input, span, grid)
        }
        Node::LabelReplace(l) => labels::replace(cx, l, grid),
        Node::LabelJoin { input, target, separator, sources } => {
            labels::join(cx, input, target, separator, sources, grid)
        }
        Node::Sort { input, descending, span } => {
            sort::by_value(cx, input, *descending, span, grid)
        }
        Node::SortByLabel { input, labels, descending, span } => {
            sort::by_label(cx, input, labels, *descending, span, grid)
        }
        Node::Info(i) => info::open_info(cx, i, grid),
        Node::DropName { input, how } => labels::drop_names(cx, node, open(cx, input, grid)?, *how),
        Node::MergeDuplicates { input, overlap } => {
            merge::merge(cx, open(cx, input, grid)?, *overlap, grid.len)
        }
        Node::StepInvariant(input) => repeat::open_repeat(cx, input, grid),
        Node::Number(_)
        | Node::Text(_)
        | Node::EvalTime
        | Node::QueryTime(_)
        | Node::ScalarCall { .. }
        | Node::ScalarBinary { .. }
        | Node::ScalarNegate(_)
        | Node::ScalarOf(_)
        | Node::RangeResult(_) => unreachable!("BUG: not a vector node"),
    }
}
