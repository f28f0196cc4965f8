//! Whether a query had its input: the difference between "nothing matched the condition"
//! and "there was nothing to look at".
//!
//! A selector is present when it found a sample. An operation is present when the inputs
//! are whose lack alone makes its result empty:
//!
//! ```text
//! a + b, a > b, a and b     both sides; a side that `fill` stands in for is not needed
//! a or b                    either side
//! a unless b                the left side: what is missing on the right removes nothing
//! absent(a), numbers        always: they need no series
//! any other                 every input
//! ```

use super::node::{Join, Node, RangeSource, Select};
use crate::parser::ast::BinaryOp;

/// True when the node's input was there, given which selectors found samples.
pub(crate) fn present(node: &Node, found: &impl Fn(&Select) -> bool) -> bool {
    match node {
        Node::Absent { .. } | Node::AbsentOverTime { .. } => true,
        Node::SetOp { op: BinaryOp::Or, lhs, rhs, .. } => {
            present(lhs, found) || present(rhs, found)
        }
        Node::SetOp { op: BinaryOp::Unless, lhs, .. } => present(lhs, found),
        Node::Join(join) => join_present(join, found),
        // What `info` adds is not needed.
        Node::Info(info) => present(&info.input, found),
        _ => {
            let source = match node.range_source() {
                Some(RangeSource::Select(select)) => found(select),
                _ => true,
            };
            let own = match node {
                Node::Select(select) => found(select),
                _ => true,
            };
            source && own && node.children().into_iter().all(|child| present(child, found))
        }
    }
}

fn join_present(join: &Join, found: &impl Fn(&Select) -> bool) -> bool {
    let (lhs, rhs) = (present(&join.lhs, found), present(&join.rhs, found));
    let fills = (join.matching.fill_left.is_some(), join.matching.fill_right.is_some());
    match fills {
        (true, true) => lhs || rhs,
        (true, false) => rhs,
        (false, true) => lhs,
        (false, false) => lhs && rhs,
    }
}
