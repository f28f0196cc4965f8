//! Walking a tree.

use super::ast::*;
use crate::model::{DATASOURCE, Matcher};

impl Expr {
    /// The direct children, in text order (an aggregation's parameter before its input).
    pub fn children(&self) -> impl Iterator<Item = &Expr> {
        let (first, second, rest): (Option<&Expr>, Option<&Expr>, &[Expr]) = match &self.kind {
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector(_) => (None, None, &[]),
            ExprKind::Subquery(subquery) => (Some(&subquery.expr), None, &[]),
            ExprKind::Call(call) => (None, None, &call.args),
            ExprKind::Aggregate(aggregate) => {
                (aggregate.param.as_ref(), Some(&aggregate.expr), &[])
            }
            ExprKind::Binary(binary) => (Some(&binary.lhs), Some(&binary.rhs), &[]),
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => (Some(&**expr), None, &[]),
        };
        first.into_iter().chain(second).chain(rest)
    }

    /// As `children`, to be changed.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.kind {
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector(_) => Vec::new(),
            ExprKind::Subquery(subquery) => vec![&mut subquery.expr],
            ExprKind::Call(call) => call.args.iter_mut().collect(),
            ExprKind::Aggregate(aggregate) => {
                let Aggregate { param, expr, .. } = &mut **aggregate;
                param.iter_mut().chain([expr]).collect()
            }
            ExprKind::Binary(binary) => {
                let Binary { lhs, rhs, .. } = &mut **binary;
                vec![lhs, rhs]
            }
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => vec![&mut **expr],
        }
    }

    /// Calls `visit` on this node and all below it, parents before children, in text order.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) {
        let mut pending = vec![self];
        while let Some(expr) = pending.pop() {
            visit(expr);
            let mark = pending.len();
            pending.extend(expr.children());
            pending[mark..].reverse();
        }
    }

    /// The matchers of every selector, in text order.
    pub fn selectors(&self) -> Vec<&[Matcher]> {
        let mut found = Vec::new();
        self.walk(&mut |expr| match &expr.kind {
            ExprKind::VectorSelector(selector) => found.push(selector.matchers.as_slice()),
            ExprKind::MatrixSelector(matrix) => found.push(matrix.selector.matchers.as_slice()),
            _ => {}
        });
        found
    }

    /// Calls `change` on every selector, in text order. Spans stay those of the old text.
    pub fn change_selectors(&mut self, change: &mut impl FnMut(&mut VectorSelector)) {
        match &mut self.kind {
            ExprKind::VectorSelector(selector) => change(selector),
            ExprKind::MatrixSelector(matrix) => change(&mut matrix.selector),
            _ => {}
        }
        for child in self.children_mut() {
            child.change_selectors(change);
        }
    }

    /// Gives every selector that names no datasource the one of this name.
    pub fn ask_datasource(&mut self, name: &str) {
        self.change_selectors(&mut |selector| {
            if !selector.matchers.iter().any(|m| &*m.name == DATASOURCE) {
                // That of the name stays the last.
                selector.matchers.insert(0, Matcher::equal(DATASOURCE, name));
            }
        });
    }

    /// The expression without parentheses around it.
    pub fn unparenthesised(&self) -> &Expr {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }
}
