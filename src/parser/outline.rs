//! The tree as indented text for a person: one node a line, with what it does, its type
//! and the bytes it was read from.

use std::fmt::Write;

use super::ast::*;
use super::print::{AggregateHead, BinaryHead, SubquerySuffix};

/// The tree of an expression, parents before children, without a final newline.
pub fn outline(expr: &Expr) -> String {
    let mut out = String::new();
    let mut pending = vec![(expr, 0)];
    while let Some((expr, level)) = pending.pop() {
        if level > 0 {
            out.push('\n');
        }
        out.extend(std::iter::repeat_n("  ", level));
        let (kind, span) = (expr.value_type().documented(), &expr.span);
        let written = write!(out, "{}  [{kind}, {}..{}]", head(expr), span.start, span.end);
        written.expect("BUG: writing to a String cannot fail");
        let mark = pending.len();
        pending.extend(expr.children().map(|child| (child, level + 1)));
        pending[mark..].reverse();
    }
    out
}

/// What a node is, without its children.
fn head(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Number(_) => format!("number {expr}"),
        ExprKind::String(_) => format!("string {expr}"),
        ExprKind::VectorSelector(_) => format!("selector {expr}"),
        ExprKind::MatrixSelector(_) => format!("range selector {expr}"),
        ExprKind::Subquery(subquery) => format!("subquery {}", SubquerySuffix(subquery)),
        ExprKind::Call(call) => format!("call {}", call.function.name),
        ExprKind::Aggregate(aggregate) => {
            format!("aggregate {}", AggregateHead(aggregate).to_string().trim_end())
        }
        ExprKind::Binary(binary) => format!("binary {}", BinaryHead(binary)),
        ExprKind::Unary { op, .. } => format!("unary {}", op.as_str()),
        ExprKind::Paren(_) => "parentheses".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParserOptions, parse};

    #[test]
    fn every_kind_of_node_has_its_line() {
        let check = |text: &str, expected: &[&str]| {
            let expr = parse(text, &ParserOptions::all()).unwrap();
            assert_eq!(outline(&expr).lines().collect::<Vec<_>>(), expected, "{text}");
        };
        check(
            "sum by (a) (rate(x[5m])) / on (a) group_left (b) -(y offset 1m)",
            &[
                "binary / on (a) group_left (b)  [instant vector, 0..63]",
                "  aggregate sum by (a)  [instant vector, 0..24]",
                "    call rate  [instant vector, 12..23]",
                "      range selector x[5m]  [range vector, 17..22]",
                "  unary -  [instant vector, 49..63]",
                "    parentheses  [instant vector, 50..63]",
                "      selector y offset 1m  [instant vector, 51..62]",
            ],
        );
        check(
            "count_values('v', max_over_time(x[1h:5m] @ end()) > bool 0x10)",
            &[
                "aggregate count_values  [instant vector, 0..62]",
                "  string \"v\"  [string, 13..16]",
                "  binary > bool  [instant vector, 18..61]",
                "    call max_over_time  [instant vector, 18..49]",
                "      subquery [1h:5m] @ end()  [range vector, 32..48]",
                "        selector x  [instant vector, 32..33]",
                "    number 16  [scalar, 57..61]",
            ],
        );
    }
}
