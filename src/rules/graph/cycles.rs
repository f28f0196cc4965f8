//! Ways in a directed graph: its strongly connected parts, and what leads from where to where.

use std::collections::VecDeque;

/// The nodes of every part with at least two nodes that reach each other, each part sorted,
/// parts by their first node. `next[n]` are the nodes `n` leads to.
pub(super) fn components(next: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut walk = Walk {
        next,
        index: vec![usize::MAX; next.len()],
        low: vec![0; next.len()],
        on_stack: vec![false; next.len()],
        stack: Vec::new(),
        count: 0,
        found: Vec::new(),
    };
    for node in 0..next.len() {
        if walk.index[node] == usize::MAX {
            walk.from(node);
        }
    }
    walk.found.sort();
    walk.found
}

/// Tarjan's algorithm, without recursion.
struct Walk<'a> {
    next: &'a [Vec<usize>],
    /// When a node was met; `usize::MAX` before.
    index: Vec<usize>,
    low: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    count: usize,
    found: Vec<Vec<usize>>,
}

impl Walk<'_> {
    fn enter(&mut self, node: usize) {
        self.index[node] = self.count;
        self.low[node] = self.count;
        self.count += 1;
        self.stack.push(node);
        self.on_stack[node] = true;
    }

    fn from(&mut self, root: usize) {
        self.enter(root);
        let mut path = vec![(root, 0)];
        while let Some((node, at)) = path.pop() {
            match self.next[node].get(at) {
                Some(&to) => {
                    path.push((node, at + 1));
                    if self.index[to] == usize::MAX {
                        self.enter(to);
                        path.push((to, 0));
                    } else if self.on_stack[to] {
                        self.low[node] = self.low[node].min(self.index[to]);
                    }
                }
                None => {
                    if let Some((parent, _)) = path.last() {
                        self.low[*parent] = self.low[*parent].min(self.low[node]);
                    }
                    if self.low[node] == self.index[node] {
                        self.close(node);
                    }
                }
            }
        }
    }

    fn close(&mut self, root: usize) {
        let mut part = Vec::new();
        while let Some(node) = self.stack.pop() {
            self.on_stack[node] = false;
            part.push(node);
            if node == root {
                break;
            }
        }
        if part.len() > 1 {
            part.sort_unstable();
            self.found.push(part);
        }
    }
}

/// A shortest way from one node to another, both named; empty when there is none.
pub(super) fn way(next: &[Vec<usize>], from: usize, to: usize) -> Vec<usize> {
    let mut came_from = vec![None; next.len()];
    let mut queue = VecDeque::from([from]);
    while let Some(node) = queue.pop_front() {
        if node == to {
            let mut way = vec![node];
            let mut at = node;
            while at != from
                && let Some(before) = came_from[at]
            {
                way.push(before);
                at = before;
            }
            way.reverse();
            return way;
        }
        for &then in &next[node] {
            if then != from && came_from[then].is_none() {
                came_from[then] = Some(node);
                queue.push_back(then);
            }
        }
    }
    Vec::new()
}

/// Whether `to` can be reached from `from`, which reaches itself.
pub(super) fn reaches(next: &[Vec<usize>], from: usize, to: usize) -> bool {
    let mut seen = vec![false; next.len()];
    let mut pending = vec![from];
    while let Some(node) = pending.pop() {
        if node == to {
            return true;
        }
        if !std::mem::replace(&mut seen[node], true) {
            pending.extend(&next[node]);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(next: &[&[usize]], expected: &[&[usize]]) {
        let next: Vec<Vec<usize>> = next.iter().map(|n| n.to_vec()).collect();
        let expected: Vec<_> = expected.iter().map(|part| part.to_vec()).collect();
        assert_eq!(components(&next), expected);
    }

    #[test]
    fn parts_that_reach_each_other_are_found() {
        check(&[], &[]);
        check(&[&[0]], &[]);
        check(&[&[1], &[2], &[]], &[]);
        check(&[&[1], &[0]], &[&[0, 1]]);
        check(&[&[1], &[2, 3], &[3], &[0]], &[&[0, 1, 2, 3]]);
        check(&[&[3], &[2], &[1, 0], &[4], &[3, 5], &[]], &[&[1, 2], &[3, 4]]);
    }

    #[test]
    fn long_chains_do_not_overflow() {
        let len = 200_000;
        let next: Vec<Vec<usize>> = (0..len).map(|i| vec![(i + 1) % len]).collect();
        assert_eq!(components(&next).len(), 1);
        assert!(reaches(&next, 1, 0));
    }
}
