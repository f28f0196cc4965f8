//! Step-invariant hoisting: what `@` pins is evaluated once and repeated over the grid.
//!
//! A node is invariant when all its inputs are and it does not look at the step's own time.

use crate::functions::Kernel;
use crate::plan::node::{Emit, Node, RangeSource, Select};

/// Wraps the largest invariant subtrees.
pub(super) fn hoist(mut root: Node) -> Node {
    let invariant = walk(&mut root);
    if invariant { wrap(root) } else { root }
}

/// Takes the parameter of an aggregation from the first step where its input is invariant.
///
/// No rewrite but the language: Prometheus (2.42 and 3.x alike) calls an aggregation
/// invariant by its input alone and then evaluates it once, parameter and all, so that
/// `topk(scalar(k), m @ 0)` keeps the first `k`.
pub(in crate::plan) fn freeze_params(node: &mut Node) {
    node.children_mut().into_iter().for_each(freeze_params);
    let (input, param) = match node {
        Node::Aggregate(a) => (&a.input, a.param.as_mut()),
        Node::Choose(c) => (&c.input, Some(&mut c.param)),
        _ => return,
    };
    if let Some(param) = param
        && !is_invariant(param)
        && is_invariant(input)
    {
        let taken = std::mem::replace(param, Node::Number(0.0));
        *param = Node::StepInvariant(Box::new(taken));
    }
}

fn is_invariant(node: &Node) -> bool {
    if matches!(node, Node::StepInvariant(_)) {
        return true;
    }
    let subqueries = usize::from(matches!(node.range_source(), Some(RangeSource::Subquery(_))));
    own_invariant(node) && node.children().into_iter().skip(subqueries).all(is_invariant)
}

/// Hoists below the node and tells whether the node itself is invariant.
fn walk(node: &mut Node) -> bool {
    if let Node::StepInvariant(input) = node {
        walk(input);
        return true;
    }
    let own = own_invariant(node);
    // A subquery has its own grid: what is invariant there is wrapped there, and whether
    // the subquery is pinned decides alone.
    if let Some(RangeSource::Subquery(sub)) = node.range_source_mut()
        && walk(&mut sub.input)
    {
        let taken = std::mem::replace(&mut sub.input, Node::Number(0.0));
        sub.input = wrap(taken);
    }
    let subqueries = usize::from(matches!(node.range_source(), Some(RangeSource::Subquery(_))));
    // The input of a subquery comes first among the children.
    let mut children = node.children_mut().split_off(subqueries);
    let invariant: Vec<bool> = children.iter_mut().map(|child| walk(child)).collect();
    if own && invariant.iter().all(|i| *i) {
        return true;
    }
    for (child, invariant) in children.into_iter().zip(invariant) {
        if invariant {
            let taken = std::mem::replace(child, Node::Number(0.0));
            *child = wrap(taken);
        }
    }
    false
}

/// Constants gain nothing from being repeated.
fn wrap(node: Node) -> Node {
    match node {
        Node::Number(_)
        | Node::Text(_)
        | Node::QueryTime(_)
        | Node::RangeResult(_)
        | Node::StepInvariant(_) => node,
        other => Node::StepInvariant(Box::new(other)),
    }
}

/// Whether the node, its inputs aside, yields the same at every step.
fn own_invariant(node: &Node) -> bool {
    let pinned = |select: &Select| select.at.is_some();
    let source = |source: &RangeSource| match source {
        RangeSource::Select(select) => pinned(select),
        RangeSource::Subquery(sub) => sub.at.is_some(),
    };
    match node {
        Node::EvalTime | Node::QueryTime(_) | Node::StepTime(_) => false,
        Node::Select(select) => pinned(select) && select.emit != Emit::StartTimestamp,
        Node::Info(info) => pinned(&info.select),
        Node::Map { function, .. } => !matches!(function.kernel, Kernel::Calendar(_)),
        Node::Range(call) => call.function.name != "predict_linear" && source(&call.source),
        Node::RangeResult(range) | Node::AbsentOverTime { source: range, .. } => source(range),
        // Sorting warns by the grid of the query, so it stays on that grid.
        Node::Sort { .. } | Node::SortByLabel { .. } => false,
        _ => true,
    }
}
