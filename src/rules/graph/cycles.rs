//! Ways in directed graphs: strongly connected parts, and what comes after what.

use std::collections::VecDeque;
use std::ops::Range;

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

/// What comes after what: the rules of each group in their order, and what was put after
/// what across groups. Built so that hundreds of groups, each of whose rules may read what
/// all others write, cost no look at each pair of rules.
pub(super) struct Order {
    /// By rule.
    group: Vec<usize>,
    /// By group.
    ends: Vec<usize>,
    /// For each rule those of other groups that were put after it.
    after: Vec<Vec<usize>>,
}

impl Order {
    /// Of groups that follow each other, so many rules in each.
    pub(super) fn new(groups: impl IntoIterator<Item = Range<usize>>) -> Self {
        let mut order = Self { group: Vec::new(), ends: Vec::new(), after: Vec::new() };
        for rules in groups {
            order.group.resize(rules.end, order.ends.len());
            order.ends.push(rules.end);
        }
        order.after.resize(order.group.len(), Vec::new());
        order
    }

    /// Puts a rule after one of another group, and so after those before that one. Rules come
    /// in ascending order.
    pub(super) fn put_after(&mut self, earlier: usize, later: usize) {
        let after = &mut self.after[earlier];
        // Behind one of its own group it is anyway.
        if after.last().is_none_or(|known| self.group[*known] != self.group[later]) {
            after.push(later);
        }
    }

    /// For each group the first of its rules that comes after a rule, which counts as coming
    /// after itself; `usize::MAX` where there is none. All further ones of the group do, too.
    pub(super) fn first_after(&self, rule: usize) -> Vec<usize> {
        let mut first = vec![usize::MAX; self.ends.len()];
        let mut pending = vec![rule];
        while let Some(rule) = pending.pop() {
            let group = self.group[rule];
            let known = first[group].min(self.ends[group]);
            if rule < known {
                first[group] = rule;
                pending.extend(self.after[rule..known].iter().flatten());
            }
        }
        first
    }

    /// A shortest way from a rule to one that comes after it, both included; empty when there
    /// is none.
    pub(super) fn way(&self, from: usize, to: usize) -> Vec<usize> {
        let mut came_from = vec![None; self.group.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(rule) = queue.pop_front() {
            if rule == to {
                let mut way = vec![rule];
                let mut at = rule;
                while at != from
                    && let Some(before) = came_from[at]
                {
                    way.push(before);
                    at = before;
                }
                way.reverse();
                return way;
            }
            let own = (rule + 1 < self.ends[self.group[rule]]).then_some(rule + 1);
            for then in own.into_iter().chain(self.after[rule].iter().copied()) {
                if then != from && came_from[then].is_none() {
                    came_from[then] = Some(rule);
                    queue.push_back(then);
                }
            }
        }
        Vec::new()
    }
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
    }

    #[test]
    fn what_comes_after_a_rule_is_known_by_group() {
        let mut order = Order::new([0..3, 3..6, 6..8]);
        let none = usize::MAX;
        assert_eq!(order.first_after(1), [1, none, none]);
        order.put_after(1, 5);
        order.put_after(4, 7);
        order.put_after(5, 6);
        assert_eq!(order.first_after(0), [0, 5, 6]);
        assert_eq!(order.first_after(2), [2, none, none]);
        assert_eq!(order.first_after(3), [none, 3, 6]);
        assert_eq!(order.way(0, 7), [0, 1, 5, 6, 7]);
        assert_eq!(order.way(7, 0), [0usize; 0]);
    }
}
