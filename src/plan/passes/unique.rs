//! Proves that series cannot coincide, and takes the merge away.
//!
//! An aggregation's groups are distinct and carry no name unless grouped by it; dropping
//! the name of such series changes nothing, so they stay distinct.

use crate::model::METRIC_NAME;
use crate::parser::ast::Grouping;
use crate::plan::node::{NameDrop, Node};

/// Removes name drops and merges that have nothing to do.
pub(super) fn unique(mut node: Node) -> Node {
    for child in node.children_mut() {
        let taken = std::mem::replace(child, Node::Number(0.0));
        *child = unique(taken);
    }
    match node {
        Node::MergeDuplicates { input, overlap } => match *input {
            Node::DropName { input, how: NameDrop::Name } if distinct_without_name(&input) => {
                *input
            }
            Node::DropName { input, how } if how != NameDrop::Mark && nameless(&input) => {
                Node::DropName { input, how }
            }
            input => Node::MergeDuplicates { input: Box::new(input), overlap },
        },
        other => other,
    }
}

/// Series are distinct and carry no `__name__`.
fn distinct_without_name(node: &Node) -> bool {
    match node {
        Node::Aggregate(a) => match &a.grouping {
            Grouping::By(labels) => !labels.iter().any(|l| l == METRIC_NAME),
            Grouping::Without(_) => true,
        },
        Node::VectorOf(_) | Node::Absent { .. } | Node::AbsentOverTime { .. } => true,
        Node::VectorScalar(b) => distinct_without_name(&b.vector),
        Node::Negate(input) => distinct_without_name(input),
        Node::Map { input, .. } => distinct_without_name(input),
        Node::StepInvariant(input) => distinct_without_name(input),
        _ => false,
    }
}

/// Series are distinct and carry none of `__name__`, `__type__`, `__unit__`.
fn nameless(node: &Node) -> bool {
    match node {
        Node::Aggregate(a) => match &a.grouping {
            Grouping::By(labels) => !labels.iter().any(|l| crate::model::is_metadata_label(l)),
            Grouping::Without(_) => false,
        },
        Node::VectorOf(_) => true,
        Node::VectorScalar(b) => nameless(&b.vector),
        Node::Negate(input) | Node::StepInvariant(input) => nameless(input),
        Node::Map { input, .. } | Node::DropName { input, .. } => nameless(input),
        _ => false,
    }
}
