//! Constant folding: scalar arithmetic on literals becomes a literal. What depends on the
//! grid (`start()`, `step()`, ...) is folded when a grid is bound.

use crate::functions::Kernel;
use crate::plan::arithmetic::scalar_binary;
use crate::plan::node::Node;

/// Folds bottom-up.
pub(super) fn fold(mut node: Node) -> Node {
    for child in node.children_mut() {
        let taken = std::mem::replace(child, Node::Number(0.0));
        *child = fold(taken);
    }
    let number = |node: &Node| match node {
        Node::Number(v) => Some(*v),
        _ => None,
    };
    let folded = match &node {
        Node::ScalarNegate(input) => number(input).map(|v| -v),
        // Scalars cannot be trimmed: the query fails when it runs.
        Node::ScalarBinary { op, lhs, rhs } if !op.is_trim() => {
            number(lhs).zip(number(rhs)).map(|(l, r)| scalar_binary(*op, l, r))
        }
        Node::ScalarCall { function, args } => match function.kernel {
            Kernel::Scalar(kernel) => {
                args.iter().map(number).collect::<Option<Vec<_>>>().map(|args| kernel(&args))
            }
            _ => None,
        },
        _ => None,
    };
    folded.map_or(node, Node::Number)
}
