//! Syntax tree to logical plan, and the passes that make it cheaper.
//!
//! A [`Plan`] has no time: [`Plan::bind`] puts it on a grid of steps, which settles `@`,
//! offsets, computed durations and the grids of subqueries, and lists what must be
//! fetched. The plan itself never changes, so a rule keeps one and binds every tick.

pub(crate) mod arithmetic;
pub(crate) mod bind;
pub(crate) mod common;
mod explain;
mod lower;
pub(crate) mod node;
mod passes;
mod presence;
#[cfg(test)]
mod tests;

pub(crate) use bind::{BindOptions, Binding, BoundSelect};
pub(crate) use node::Node;

use crate::parser::Expr;

/// What the language settings change about a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlanOptions {
    /// Names go at the end of the query instead of in each operation.
    pub delayed_name_removal: bool,
}

/// A planned expression.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Node,
    selects: usize,
    subqueries: usize,
}

impl Plan {
    /// Plans a checked expression.
    pub(crate) fn new(expr: &Expr, options: PlanOptions) -> Self {
        Self::finish(passes::run(Self::lowered(expr, options)))
    }

    /// As `new`, without the passes: what they are tested against.
    #[cfg(test)]
    pub(crate) fn unoptimized(expr: &Expr, options: PlanOptions) -> Self {
        Self::finish(Self::lowered(expr, options))
    }

    fn lowered(expr: &Expr, options: PlanOptions) -> Node {
        let mut root = lower::lower(expr, options);
        passes::freeze_params(&mut root);
        root
    }

    fn finish(mut root: Node) -> Self {
        passes::mark_stats(&mut root);
        let (selects, subqueries) = passes::number(&mut root);
        Self { root, selects, subqueries }
    }

    /// Number of subqueries: their steps are work that the query's grid does not show.
    pub(crate) fn subqueries(&self) -> usize {
        self.subqueries
    }

    /// Whether the input of the result was there, given which selectors found samples.
    pub(crate) fn input_present(&self, found: &impl Fn(&node::Select) -> bool) -> bool {
        presence::present(&self.root, found)
    }

    /// The plan as an indented tree, one node a line.
    pub(crate) fn explain(&self) -> String {
        explain::explain(&self.root)
    }
}
