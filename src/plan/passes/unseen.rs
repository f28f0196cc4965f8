//! Names that go below an aggregation which does not look at them need not be taken away:
//! that saves a new label set per series. Whether the series stay distinct without them is
//! known when they are fetched.

use crate::model::is_metadata_label;
use crate::parser::ast::Grouping;
use crate::plan::node::{NameDrop, Node};

/// Marks the name drops that no aggregation sees.
pub(super) fn unseen(mut node: Node) -> Node {
    for child in node.children_mut() {
        let taken = std::mem::replace(child, Node::Number(0.0));
        *child = unseen(taken);
    }
    let Node::Aggregate(aggregate) = &mut node else { return node };
    let by = match &aggregate.grouping {
        Grouping::By(labels) if labels.iter().any(|l| is_metadata_label(l)) => return node,
        Grouping::By(_) => true,
        Grouping::Without(_) => false,
    };
    let Node::MergeDuplicates { input, .. } = &mut aggregate.input else { return node };
    if let Node::DropName { how: how @ NameDrop::Metadata, .. } = &mut **input {
        *how = NameDrop::Unseen { by };
    }
    node
}
