//! Rewrites of a plan. Each keeps the result, and says in its own file why.

mod fold;
mod invariant;
mod stats;
mod unique;
mod unseen;

pub(super) use invariant::freeze_params;
pub(super) use stats::mark_stats;

use super::node::{Node, RangeSource};

/// Runs every pass in the order in which each makes work for the next.
pub(super) fn run(root: Node) -> Node {
    let root = fold::fold(root);
    let root = unique::unique(root);
    let root = unseen::unseen(root);
    invariant::hoist(root)
}

/// Gives selectors and subqueries their dense numbers; returns how many there are of each.
pub(super) fn number(root: &mut Node) -> (usize, usize) {
    fn walk(node: &mut Node, counts: &mut (usize, usize)) {
        for select in node.own_selects_mut() {
            take(&mut select.id, &mut counts.0);
        }
        if let Some(RangeSource::Subquery(sub)) = node.range_source_mut() {
            take(&mut sub.id, &mut counts.1);
        }
        for child in node.children_mut() {
            walk(child, counts);
        }
    }
    fn take(id: &mut usize, next: &mut usize) {
        *id = *next;
        *next += 1;
    }
    let mut counts = (0, 0);
    walk(root, &mut counts);
    counts
}
