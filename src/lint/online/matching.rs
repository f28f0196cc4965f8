//! Whether the two sides of an operator have anything in common on a server.
//!
//! A condition that does not hold at the moment would hide what it is about, so sides are
//! looked at without their comparisons: `a > 5` as `a`.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::lint::context::{Findings, RuleCx, finding};
use crate::model::METRIC_NAME;
use crate::model::value::ValueType;
use crate::parser::Expr;
use crate::parser::ast::{Binary, BinaryOp, Cardinality, ExprKind, VectorMatching};

/// What is asked about one operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Sides {
    /// Finds something when series of both sides match.
    pub both: String,
    pub left: String,
    pub right: String,
    /// The operation as it is, where one side may match too many of the other.
    pub exact: Option<String>,
}

/// What a server has of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// Something matches, or one side is empty anyway.
    Fine,
    /// Nothing matches; a series of each side, if one could be had.
    Never { left: BTreeMap<String, String>, right: BTreeMap<String, String> },
    /// The server refuses to match them.
    Refused(String),
}

/// An operator, and by which key it is asked for.
pub(in crate::lint) struct Probe {
    pub key: String,
    pub sides: Sides,
    pub at: Range<usize>,
    matching: VectorMatching,
}

/// The operators of an expression that are worth asking about.
pub(in crate::lint) fn probes(expr: &Expr) -> Vec<Probe> {
    let mut found = Vec::new();
    expr.walk(&mut |expr| {
        let ExprKind::Binary(binary) = &expr.kind else { return };
        let Some(matching) = &binary.matching else { return };
        let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
        if binary.op == BinaryOp::Or || filled {
            return;
        }
        let (left, right) = (unfiltered(&binary.lhs), unfiltered(&binary.rhs));
        let both = Expr {
            span: expr.span.clone(),
            kind: ExprKind::Binary(Box::new(Binary {
                op: BinaryOp::And,
                lhs: Expr {
                    span: left.span.clone(),
                    kind: ExprKind::Paren(Box::new(left.clone())),
                },
                rhs: Expr {
                    span: right.span.clone(),
                    kind: ExprKind::Paren(Box::new(right.clone())),
                },
                return_bool: false,
                matching: Some(VectorMatching {
                    card: Cardinality::ManyToMany,
                    include: Vec::new(),
                    ..matching.clone()
                }),
                op_span: binary.op_span.clone(),
            })),
        };
        let both = both.to_string();
        found.push(Probe {
            key: both.clone(),
            sides: Sides {
                both,
                left: left.to_string(),
                right: right.to_string(),
                exact: (!binary.op.is_set()).then(|| expr.to_string()),
            },
            at: binary.op_span.start as usize..binary.op_span.end as usize,
            matching: matching.clone(),
        });
    });
    found
}

/// The expression without conditions that leave series out.
fn unfiltered(expr: &Expr) -> Expr {
    if let ExprKind::Binary(binary) = &expr.kind
        && !binary.return_bool
    {
        let scalar = |side: &Expr| side.value_type() == ValueType::Scalar;
        match binary.op {
            op if op.is_comparison() && scalar(&binary.rhs) => return unfiltered(&binary.lhs),
            op if op.is_comparison() && scalar(&binary.lhs) => return unfiltered(&binary.rhs),
            // Whether the right side leaves something out may change at any time.
            BinaryOp::Unless => return unfiltered(&binary.lhs),
            _ => {}
        }
    }
    let mut whole = expr.clone();
    for child in whole.children_mut() {
        *child = unfiltered(child);
    }
    // What compared two vectors has still to match them.
    if let ExprKind::Binary(binary) = &mut whole.kind
        && binary.op.is_comparison()
        && !binary.return_bool
        && binary.matching.is_some()
    {
        binary.op = BinaryOp::Add;
    }
    whole
}

/// `promql/vector_matching`, as far as a server is needed for it. `told` are the places that
/// were found without one.
pub(in crate::lint) fn matching(cx: &RuleCx<'_>, told: bool, out: &mut Findings<'_>) {
    let Some(observed) = &cx.group.project.observed else { return };
    if told {
        return;
    }
    for probe in probes(cx.expr()) {
        let problem = match observed.matchings.get(&probe.key) {
            None | Some(Matched::Fine) => continue,
            Some(Matched::Refused(error)) => {
                finding(format!("the server cannot match the two sides: {error}"))
            }
            Some(Matched::Never { left, right }) => {
                let message = "on the server no series of the left side matches one of the right";
                let mut problem = finding(message);
                problem.notes = reasons(&probe.matching, left, right);
                problem
            }
        };
        out.rule(cx, problem.at(cx.in_expr(probe.at)));
    }
}

/// Why two series do not match, by their labels.
fn reasons(
    matching: &VectorMatching,
    left: &BTreeMap<String, String>,
    right: &BTreeMap<String, String>,
) -> Vec<String> {
    if left.is_empty() && right.is_empty() {
        return Vec::new();
    }
    let names: Vec<&String> = if matching.on {
        matching.labels.iter().collect()
    } else {
        let ignored = |name: &&String| *name == METRIC_NAME || matching.labels.contains(name);
        let mut names: Vec<&String> =
            left.keys().chain(right.keys()).filter(|name| !ignored(name)).collect();
        names.sort();
        names.dedup();
        names
    };
    let mut reasons = Vec::new();
    for name in names {
        reasons.push(match (left.get(name), right.get(name)) {
            (Some(l), Some(r)) if l == r => continue,
            (Some(l), Some(r)) => {
                format!("`{name}` is e.g. \"{l}\" on the left, \"{r}\" on the right")
            }
            (Some(_), None) => format!("only the left side has `{name}`"),
            (None, Some(_)) => format!("only the right side has `{name}`"),
            (None, None) => format!("neither side has `{name}`"),
        });
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParserOptions, parse};

    #[test]
    fn sides_are_asked_for_without_their_conditions() {
        let check = |expr: &str, expected: &[(&str, &str, &str)]| {
            let expr = parse(expr, &ParserOptions::all()).unwrap();
            let found = probes(&expr);
            let found: Vec<(&str, &str, &str)> = found
                .iter()
                .map(|p| (&*p.sides.both, &*p.sides.left, p.sides.exact.as_deref().unwrap_or("")))
                .collect();
            assert_eq!(found, expected, "{expr}");
        };
        check("a > 5", &[]);
        check("a or b", &[]);
        check("a > on (x) b", &[("(a) and on (x) (b)", "a", "a > on (x) b")]);
        check("(a > 5) and b == 0", &[("((a)) and (b)", "(a)", "")]);
        check(
            "sum by (j) (x > 1) / ignoring (i) group_left (l) (y unless z)",
            &[
                (
                    "(sum by (j) (x)) and ignoring (i) ((y))",
                    "sum by (j) (x)",
                    "sum by (j) (x > 1) / ignoring (i) group_left (l) (y unless z)",
                ),
                ("(y) and (z)", "y", ""),
            ],
        );
        check(
            "(a > b) * c",
            &[("((a + b)) and (c)", "(a + b)", "(a > b) * c"), ("(a) and (b)", "a", "a > b")],
        );
    }

    #[test]
    fn labels_tell_why() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        let left = labels(&[("__name__", "a"), ("job", "x"), ("i", "1")]);
        let right = labels(&[("__name__", "b"), ("job", "y"), ("k", "1")]);
        let check = |expr: &str, expected: &[&str]| {
            let expr = parse(expr, &ParserOptions::all()).unwrap();
            assert_eq!(reasons(&probes(&expr)[0].matching, &left, &right), expected);
        };
        check(
            "a + b",
            &[
                "only the left side has `i`",
                "`job` is e.g. \"x\" on the left, \"y\" on the right",
                "only the right side has `k`",
            ],
        );
        check("a + on (z, k) b", &["neither side has `z`", "only the right side has `k`"]);
        check("a + ignoring (i, k, job) b", &[]);
    }
}
