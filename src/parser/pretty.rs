//! Expressions back to text over several lines: Prometheus' formatter. A node is split
//! over lines when its one-line form is longer than the limit.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::ops::Range;

use super::ast::*;
use super::print::{AggregateHead, BinaryHead, SubquerySuffix};

/// Longest line that is not split, in bytes.
const LINE_MAX: usize = 100;

/// The expression as `format_query` and `promql format` print it.
pub fn pretty(expr: &Expr) -> String {
    pretty_within(expr, LINE_MAX)
}

/// As [`pretty`] with another limit.
pub fn pretty_within(expr: &Expr, line_max: usize) -> String {
    Printer { line_max, ..Printer::default() }.printed(expr)
}

/// As [`pretty`], for a block of YAML, which must not begin deeper than it goes on:
/// operators stand below the start of their left side, before the right one.
pub fn pretty_flush(expr: &Expr) -> String {
    Printer { flush: true, ..Printer::default() }.printed(expr)
}

/// As [`pretty_flush`], with the comments of the text the expression was parsed from. What
/// holds a comment is split, so that it stays between the parts it stood between; inside of
/// what is never split (a selector, the labels of a grouping) it moves above or behind it.
pub fn pretty_with_comments(expr: &Expr, text: &str) -> String {
    let comment = |span: Range<usize>| {
        let line = text[..span.start].rfind(['\n', '\r']).map_or(0, |i| i + 1);
        let before = text[line..span.start].trim();
        Comment {
            at: span.start as u32,
            text: text[span].trim_end(),
            is_beside: !before.is_empty(),
        }
    };
    let comments = super::comments(text).into_iter().map(comment).collect();
    Printer { flush: true, comments, ..Printer::default() }.printed(expr)
}

struct Comment<'a> {
    at: u32,
    text: &'a str,
    /// Something stands before it on its line.
    is_beside: bool,
}

struct Printer<'a> {
    out: String,
    line_max: usize,
    flush: bool,
    /// Those that are not printed yet.
    comments: VecDeque<Comment<'a>>,
}

impl Default for Printer<'_> {
    fn default() -> Self {
        Self { out: String::new(), line_max: LINE_MAX, flush: false, comments: VecDeque::new() }
    }
}

impl Printer<'_> {
    fn printed(mut self, expr: &Expr) -> String {
        self.expr(expr, 0);
        self.comments_before(u32::MAX, 0);
        self.out
    }

    fn push(&mut self, part: impl fmt::Display) {
        write!(self.out, "{part}").expect("BUG: writing to a String cannot fail");
    }

    /// Begins a line, the first as well.
    fn line(&mut self, level: usize) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.extend(std::iter::repeat_n("  ", level));
    }

    fn fits(&self, expr: &Expr) -> bool {
        let mut room = Room(self.line_max);
        !self.is_commented(&expr.span) && write!(room, "{expr}").is_ok()
    }

    fn is_commented(&self, span: &Span) -> bool {
        self.comments.iter().any(|comment| span.contains(&comment.at))
    }

    /// Prints the comments before a place of the text; a new line has to follow.
    fn comments_before(&mut self, end: u32, level: usize) {
        let mut is_taken = self.out.is_empty();
        while self.comments.front().is_some_and(|comment| comment.at < end) {
            let Some(comment) = self.comments.pop_front() else { return };
            match comment.is_beside && !is_taken {
                true => self.out.push_str("  "),
                false => self.line(level),
            }
            self.out.push_str(comment.text);
            is_taken = true;
        }
    }

    /// Prints a node on lines of its own.
    fn expr(&mut self, expr: &Expr, level: usize) {
        self.comments_before(expr.span.start, level);
        self.comments_above(expr, level);
        self.line(level);
        self.unindented(expr, level);
    }

    /// Those inside of the first selector or literal of a node. One that stands beside a
    /// part of it can stand beside all of it.
    fn comments_above(&mut self, expr: &Expr, level: usize) {
        let mut first = expr;
        loop {
            first = match &first.kind {
                ExprKind::Binary(binary) => &binary.lhs,
                ExprKind::Subquery(subquery) => &subquery.expr,
                ExprKind::Number(_)
                | ExprKind::String(_)
                | ExprKind::VectorSelector(_)
                | ExprKind::MatrixSelector(_) => break,
                _ => return,
            };
        }
        let inside = self.comments.iter_mut().take_while(|c| c.at < first.span.end);
        let mut inside: Vec<&mut Comment<'_>> = inside.collect();
        if matches!(&inside[..], [] | [Comment { is_beside: true, .. }]) {
            return;
        }
        inside.iter_mut().for_each(|comment| comment.is_beside = false);
        self.comments_before(first.span.end, level);
    }

    /// Prints a node whose first line is already indented, if it is to be at all: binary
    /// expressions and subqueries of them begin deeper than the node itself.
    fn unindented(&mut self, expr: &Expr, level: usize) {
        if self.fits(expr) {
            return self.push(expr);
        }
        match &expr.kind {
            ExprKind::Aggregate(aggregate) => {
                self.push(AggregateHead(aggregate));
                self.out.push('(');
                if let Some(param) = &aggregate.param {
                    self.expr(param, level + 1);
                    self.out.push(',');
                }
                self.expr(&aggregate.expr, level + 1);
                self.close(expr, level);
            }
            ExprKind::Call(call) => {
                self.push(call.function.name);
                self.out.push('(');
                for (i, arg) in call.args.iter().enumerate() {
                    if i > 0 {
                        self.out.push(',');
                    }
                    self.expr(arg, level + 1);
                }
                self.close(expr, level);
            }
            ExprKind::Paren(inner) => {
                self.out.push('(');
                self.expr(inner, level + 1);
                self.close(expr, level);
            }
            ExprKind::Binary(binary) if self.flush => {
                self.unindented(&binary.lhs, level);
                self.comments_before(binary.op_span.start, level);
                self.line(level);
                self.push(BinaryHead(binary));
                let rest = binary.op_span.start..binary.rhs.span.start;
                if self.fits(&binary.rhs) && !self.is_commented(&rest) {
                    self.out.push(' ');
                    self.push(&binary.rhs);
                } else {
                    self.expr(&binary.rhs, level + 1);
                }
            }
            ExprKind::Binary(binary) => {
                self.out.push_str("  ");
                self.unindented(&binary.lhs, level + 1);
                self.line(level);
                self.push(BinaryHead(binary));
                self.expr(&binary.rhs, level + 1);
            }
            ExprKind::Unary { op, expr } => {
                self.push(op.as_str());
                let start = self.out.len();
                self.unindented(expr, level);
                let blanks = self.out[start..].len() - self.out[start..].trim_start().len();
                self.out.replace_range(start..start + blanks, "");
            }
            ExprKind::Subquery(subquery) => {
                self.unindented(&subquery.expr, level);
                self.push(SubquerySuffix(subquery));
            }
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector(_) => self.push(expr),
        }
    }

    fn close(&mut self, expr: &Expr, level: usize) {
        self.comments_before(expr.span.end, level + 1);
        self.line(level);
        self.out.push(')');
    }
}

/// Takes so many bytes and no more, so that measuring a large node is cheap.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(s.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}
