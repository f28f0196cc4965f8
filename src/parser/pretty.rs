//! Expressions back to text over several lines: Prometheus' formatter. A node is split
//! over lines when its one-line form is longer than the limit.

use std::fmt::{self, Write};

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
    let mut printer = Printer { out: String::new(), line_max, flush: false };
    printer.expr(expr, 0);
    printer.out
}

/// As [`pretty`], for a block of YAML, which must not begin deeper than it goes on:
/// operators stand below the start of their left side, before the right one.
pub fn pretty_flush(expr: &Expr) -> String {
    let mut printer = Printer { out: String::new(), line_max: LINE_MAX, flush: true };
    printer.expr(expr, 0);
    printer.out
}

struct Printer {
    out: String,
    line_max: usize,
    flush: bool,
}

impl Printer {
    fn push(&mut self, part: impl fmt::Display) {
        write!(self.out, "{part}").expect("BUG: writing to a String cannot fail");
    }

    fn indent(&mut self, level: usize) {
        self.out.extend(std::iter::repeat_n("  ", level));
    }

    fn fits(&self, part: impl fmt::Display) -> bool {
        let mut room = Room(self.line_max);
        write!(room, "{part}").is_ok()
    }

    fn expr(&mut self, expr: &Expr, level: usize) {
        self.indent(level);
        self.unindented(expr, level);
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
                self.out.push_str("(\n");
                if let Some(param) = &aggregate.param {
                    self.expr(param, level + 1);
                    self.out.push_str(",\n");
                }
                self.expr(&aggregate.expr, level + 1);
                self.close(level);
            }
            ExprKind::Call(call) => {
                self.push(call.function.name);
                self.out.push_str("(\n");
                for (i, arg) in call.args.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(",\n");
                    }
                    self.expr(arg, level + 1);
                }
                self.close(level);
            }
            ExprKind::Paren(inner) => {
                self.out.push_str("(\n");
                self.expr(inner, level + 1);
                self.close(level);
            }
            ExprKind::Binary(binary) if self.flush => {
                self.unindented(&binary.lhs, level);
                self.out.push('\n');
                self.indent(level);
                self.push(BinaryHead(binary));
                if self.fits(&binary.rhs) {
                    self.out.push(' ');
                    self.push(&binary.rhs);
                } else {
                    self.out.push('\n');
                    self.expr(&binary.rhs, level + 1);
                }
            }
            ExprKind::Binary(binary) => {
                self.out.push_str("  ");
                self.unindented(&binary.lhs, level + 1);
                self.out.push('\n');
                self.indent(level);
                self.push(BinaryHead(binary));
                self.out.push('\n');
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

    fn close(&mut self, level: usize) {
        self.out.push('\n');
        self.indent(level);
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
