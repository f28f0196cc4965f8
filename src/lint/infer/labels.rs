//! Which labels the result of an expression has, and what follows from it for operators
//! that match series by labels.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Inferred, Kind, span};
use crate::functions::LabelEffect;
use crate::model::is_metadata_label;
use crate::parser::Expr;
use crate::parser::ast::{
    Aggregate, Binary, BinaryOp, Cardinality, ExprKind, Grouping, ValueType, VectorMatching,
    VectorSelector,
};
use crate::rules::graph::shape::{Known, Shape, of, of_known};

/// Labels every scraped series has.
const SCRAPED: [&str; 2] = ["instance", "job"];

/// Whether a metric comes from a scrape, as far as one can tell: no rule makes it.
pub(in crate::lint) type IsScraped<'a> = &'a dyn Fn(&str) -> bool;

/// Everything that is odd about the labels of an expression.
pub(in crate::lint) fn analyse(
    expr: &Expr,
    is_scraped: IsScraped<'_>,
    known: Known<'_>,
) -> Vec<Inferred> {
    let mut found = Vec::new();
    let mut unmatched: Vec<(Range<usize>, Inferred)> = Vec::new();
    expr.walk(&mut |node| match &node.kind {
        ExprKind::VectorSelector(selector) => of_selector(node, selector, &mut found),
        ExprKind::MatrixSelector(matrix) => of_selector(node, &matrix.selector, &mut found),
        ExprKind::Aggregate(aggregate) => of_aggregate(node, aggregate, known, &mut found),
        ExprKind::Binary(binary) => {
            if let Some(matching) = &binary.matching {
                let before = found.len();
                of_binary(binary, matching, is_scraped, known, &mut found);
                let (own, other): (Vec<_>, Vec<_>) =
                    found.drain(before..).partition(|i| i.kind == Kind::Unmatched);
                found.extend(other);
                unmatched.extend(own.into_iter().map(|i| (span(node), i)));
            }
        }
        ExprKind::Call(call) if call.function.name == "histogram_quantile" => {
            if let Some(input) = call.args.get(1) {
                of_buckets(node, input, known, &mut found);
            }
        }
        _ => {}
    });
    // A side without a result matches nothing; the innermost operator is to blame.
    let whole: Vec<Range<usize>> = unmatched.iter().map(|(node, _)| node.clone()).collect();
    found.extend(unmatched.into_iter().filter_map(|(node, inferred)| {
        let inner = |other: &Range<usize>| {
            *other != node && other.start >= node.start && other.end <= node.end
        };
        (!whole.iter().any(inner)).then_some(inferred)
    }));
    found
}

/// Where a label is lost: the innermost part whose input may have it while its own result
/// has not, and what that part is.
pub(in crate::lint) fn loss(
    expr: &Expr,
    label: &str,
    known: Known<'_>,
) -> Option<(Range<usize>, String)> {
    let mut node = expr;
    loop {
        let inputs: Vec<&Expr> = node.children().filter(|c| is_vector(c)).collect();
        if let Some(metric) = recorded_metric(node, known) {
            return Some((span(node), format!("`{metric}` is recorded without it")));
        }
        let kept = inputs.iter().any(|input| of_known(input, known).may_have(label));
        if kept {
            return Some((head(node), describe(node, label)));
        }
        node = inputs.first().copied()?;
    }
}

/// The metric a selector names, if it is one that rules record.
fn recorded_metric<'e>(expr: &'e Expr, known: Known<'_>) -> Option<&'e str> {
    let name = match &expr.kind {
        ExprKind::VectorSelector(selector) => selector.name.as_deref()?,
        ExprKind::MatrixSelector(matrix) => matrix.selector.name.as_deref()?,
        _ => return None,
    };
    known(name).map(|_| name)
}

fn is_vector(expr: &Expr) -> bool {
    matches!(expr.value_type(), ValueType::InstantVector | ValueType::RangeVector)
}

/// The part of a node before its inputs, to point at.
fn head(node: &Expr) -> Range<usize> {
    let whole = span(node);
    match &node.kind {
        ExprKind::Aggregate(aggregate) => whole.start..whole.start + aggregate.op.name.len(),
        ExprKind::Call(call) => whole.start..whole.start + call.function.name.len(),
        ExprKind::Binary(binary) => binary.op_span.start as usize..binary.op_span.end as usize,
        _ => whole,
    }
}

fn describe(node: &Expr, label: &str) -> String {
    match &node.kind {
        ExprKind::Aggregate(aggregate) => match &aggregate.grouping {
            Grouping::By(labels) if labels.is_empty() => {
                format!("`{}` without `by` drops all labels", aggregate.op.name)
            }
            Grouping::By(labels) => {
                format!("`{} by ({})` keeps no other label", aggregate.op.name, labels.join(", "))
            }
            Grouping::Without(_) => "it is dropped here".to_owned(),
        },
        ExprKind::Binary(binary) => match &binary.matching {
            Some(matching) if matching.on => {
                format!("`on ({})` keeps no other label", matching.labels.join(", "))
            }
            Some(matching) if matching.labels.iter().any(|l| l == label) => {
                format!("`ignoring ({})` drops it", matching.labels.join(", "))
            }
            _ => "it is dropped here".to_owned(),
        },
        ExprKind::Call(call) if call.function.name.starts_with("absent") => {
            format!(
                "`{}` has the labels its selector demands by `=`, no others",
                call.function.name
            )
        }
        ExprKind::Call(call) => format!("`{}` drops it", call.function.name),
        _ => "it is dropped here".to_owned(),
    }
}

fn of_selector(node: &Expr, selector: &VectorSelector, found: &mut Vec<Inferred>) {
    let shape = of(node);
    let Some(label) = shape.impossible_label() else { return };
    let matchers: Vec<String> =
        selector.matchers.iter().filter(|m| *m.name == *label).map(ToString::to_string).collect();
    let message = format!("no series can match {} at once", matchers.join(" and "));
    let mut one = Inferred::new(Kind::Never, span(node), message);
    if matchers.len() < 2 {
        one.message = format!("no series can match {}", matchers.join(""));
    }
    found.push(one);
}

fn of_aggregate(node: &Expr, aggregate: &Aggregate, known: Known<'_>, found: &mut Vec<Inferred>) {
    let Grouping::By(labels) = &aggregate.grouping else { return };
    let input = of_known(&aggregate.expr, known);
    let lost: Vec<&String> = labels.iter().filter(|l| !input.may_have(l)).collect();
    let Some(first) = lost.first() else { return };
    let names: Vec<String> = lost.iter().map(|l| format!("`{l}`")).collect();
    let mut one = Inferred::new(
        Kind::NoLabel,
        head(node),
        format!(
            "{} groups by {}, which its input does not have",
            aggregate.op.name,
            names.join(", ")
        ),
    );
    if let Some((at, why)) = loss(&aggregate.expr, first, known) {
        one.related.push((at, why));
        one.help = format!("keep {} there, or do not group by it here", names.join(", "));
    }
    found.push(one);
}

fn of_buckets(node: &Expr, input: &Expr, known: Known<'_>, found: &mut Vec<Inferred>) {
    let classic = |expr: &Expr| {
        let mut buckets = false;
        expr.walk(&mut |e| {
            let selector = match &e.kind {
                ExprKind::VectorSelector(selector) => selector,
                ExprKind::MatrixSelector(matrix) => &matrix.selector,
                _ => return,
            };
            buckets |= selector.name.as_ref().is_some_and(|n| n.ends_with("_bucket"));
        });
        buckets
    };
    if of_known(input, known).may_have("le") || !classic(input) {
        return;
    }
    let mut one = Inferred::new(
        Kind::NoLabel,
        head(node),
        "histogram_quantile needs the label `le`, which its input does not have",
    );
    if let Some((at, why)) = loss(input, "le", known) {
        one.related.push((at, why));
        one.help = "keep `le`: `sum by (le, ...) (...)`".to_owned();
    }
    found.push(one);
}

/// The two sides of an operator.
struct Sides<'a> {
    binary: &'a Binary,
    matching: &'a VectorMatching,
    lhs: Shape,
    rhs: Shape,
    known: Known<'a>,
}

impl Sides<'_> {
    /// What it means that no series of one side finds one of the other.
    fn consequence(&self) -> (Kind, String) {
        let op = self.binary.op.as_str();
        match self.binary.op {
            BinaryOp::Unless => (Kind::Unmatched, "`unless` takes nothing away".to_owned()),
            _ => (Kind::Unmatched, format!("the sides of `{op}` never match")),
        }
    }

    /// The sides with the label, and without it, when exactly one cannot have it.
    fn lacking(&self, label: &str) -> Option<(&Expr, &str)> {
        match (self.lhs.may_have(label), self.rhs.may_have(label)) {
            (false, true) => Some((&self.binary.lhs, "left")),
            (true, false) => Some((&self.binary.rhs, "right")),
            _ => None,
        }
    }

    fn op_span(&self) -> Range<usize> {
        self.binary.op_span.start as usize..self.binary.op_span.end as usize
    }
}

fn of_binary(
    binary: &Binary,
    matching: &VectorMatching,
    is_scraped: IsScraped<'_>,
    known: Known<'_>,
    found: &mut Vec<Inferred>,
) {
    let (lhs, rhs) = (of_known(&binary.lhs, known), of_known(&binary.rhs, known));
    let sides = Sides { binary, matching, lhs, rhs, known };
    included(&sides, found);
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if binary.op == BinaryOp::Or || fills {
        return;
    }
    let before = found.len();
    if matching.on {
        on_labels(&sides, found);
    } else {
        all_labels(&sides, found);
        if found.len() == before {
            against_scraped(&sides, is_scraped, found);
        }
    }
}

/// `group_left (label)` where the one side has no such label.
fn included(sides: &Sides<'_>, found: &mut Vec<Inferred>) {
    let (one, shape, word) = match sides.matching.card {
        Cardinality::ManyToOne => (&sides.binary.rhs, &sides.rhs, "group_left"),
        Cardinality::OneToMany => (&sides.binary.lhs, &sides.lhs, "group_right"),
        _ => return,
    };
    for label in &sides.matching.include {
        if shape.may_have(label) || is_metadata_label(label) {
            continue;
        }
        let mut inferred = Inferred::new(
            Kind::NoLabel,
            sides.op_span(),
            format!("{word} copies `{label}`, which that side does not have: the result lacks it"),
        );
        if let Some((at, why)) = loss(one, label, sides.known) {
            inferred.related.push((at, why));
            inferred.help = format!("keep `{label}` there");
        }
        found.push(inferred);
    }
}

fn on_labels(sides: &Sides<'_>, found: &mut Vec<Inferred>) {
    for label in &sides.matching.labels {
        let (left, right) = (sides.lhs.may_have(label), sides.rhs.may_have(label));
        if !left && !right {
            let message = format!("neither side has the label `{label}` to match on");
            let mut one = Inferred::new(Kind::NoLabel, sides.op_span(), message);
            let losses = [&sides.binary.lhs, &sides.binary.rhs]
                .into_iter()
                .filter_map(|e| loss(e, label, sides.known));
            one.related.extend(losses);
            found.push(one);
            return;
        }
        if let Some((side, which)) = sides.lacking(label) {
            let (kind, what) = sides.consequence();
            let message = format!("{what}: the {which} side does not have the label `{label}`");
            let mut one = Inferred::new(kind, sides.op_span(), message);
            if let Some((at, why)) = loss(side, label, sides.known) {
                one.related.push((at, why));
                one.help = format!("keep `{label}` there, or take it out of `on`");
            }
            found.push(one);
            return;
        }
        if !sides.lhs.may_agree(&sides.rhs, label) {
            found.push(disagreement(sides, label));
            return;
        }
    }
}

fn disagreement(sides: &Sides<'_>, label: &str) -> Inferred {
    let (kind, what) = sides.consequence();
    let message = format!("{what}: `{label}` has different values on the two sides");
    let mut one = Inferred::new(kind, sides.op_span(), message);
    one.help = match (sides.matching.on, sides.matching.labels.is_empty()) {
        (true, _) => format!("take `{label}` out of `on`"),
        (false, true) => format!("leave it out: `{} ignoring ({label})`", sides.binary.op.as_str()),
        (false, false) => format!("add it to `ignoring (..., {label})`"),
    };
    one
}

/// Matching by all labels but those ignored.
fn all_labels(sides: &Sides<'_>, found: &mut Vec<Inferred>) {
    let ignored =
        |name: &str| is_metadata_label(name) || sides.matching.labels.iter().any(|l| l == name);
    let known: BTreeSet<&str> = sides
        .lhs
        .known_labels()
        .chain(sides.rhs.known_labels())
        .filter(|name| !ignored(name))
        .collect();
    for label in &known {
        if !sides.lhs.may_agree(&sides.rhs, label) {
            if let Some((side, which)) = sides.lacking(label) {
                found.push(one_sided(sides, label, side, which));
            } else {
                found.push(disagreement(sides, label));
            }
            return;
        }
    }
    if sides.lhs.is_open() || sides.rhs.is_open() {
        return;
    }
    // Both sides are grouped, by labels that differ. A classic histogram's `le` is gone
    // after a quantile, a native one's never was.
    let differing = known.into_iter().filter(|l| *l != "le");
    for label in differing {
        if let Some((side, which)) = sides.lacking(label) {
            found.push(one_sided(sides, label, side, which));
            return;
        }
    }
}

fn one_sided(sides: &Sides<'_>, label: &str, side: &Expr, which: &str) -> Inferred {
    let (kind, what) = sides.consequence();
    let message =
        format!("{what}: the {which} side does not have the label `{label}`, the other has");
    let mut one = Inferred::new(kind, sides.op_span(), message);
    if let Some((at, why)) = loss(side, label, sides.known) {
        one.related.push((at, why));
    }
    one.help = advice(sides, which);
    one
}

fn advice(sides: &Sides<'_>, lacking: &str) -> String {
    let op = sides.binary.op.as_str();
    let common: Vec<&str> = sides
        .lhs
        .known_labels()
        .filter(|l| !is_metadata_label(l) && sides.lhs.may_have(l) && sides.rhs.may_have(l))
        .collect();
    let group = match (sides.binary.op.is_set(), lacking) {
        (true, _) => "",
        (false, "right") => " group_left ()",
        (false, _) => " group_right ()",
    };
    format!("match by what both sides have: `{op} on ({}){group}`", common.join(", "))
}

/// One side is aggregated, the other is as it was scraped: `x / sum(x)`.
fn against_scraped(sides: &Sides<'_>, is_scraped: IsScraped<'_>, found: &mut Vec<Inferred>) {
    let pairs = [
        (&sides.binary.lhs, &sides.binary.rhs, &sides.rhs, "right"),
        (&sides.binary.rhs, &sides.binary.lhs, &sides.lhs, "left"),
    ];
    for (raw, other, other_shape, which) in pairs {
        let Some(metric) = scraped(raw).filter(|metric| is_scraped(metric)) else { continue };
        let missing = SCRAPED.into_iter().find(|label| {
            !other_shape.may_have(label) && !sides.matching.labels.iter().any(|l| l == label)
        });
        let Some(label) = missing else { continue };
        let mut one = one_sided(sides, label, other, which);
        one.notes.push(format!("`{metric}` has `instance` and `job` if it is scraped"));
        found.push(one);
        return;
    }
}

/// The metric of an expression that passes labels on from a selector.
fn scraped(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::VectorSelector(selector) => selector.name.as_deref(),
        ExprKind::MatrixSelector(matrix) => matrix.selector.name.as_deref(),
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => scraped(inner),
        ExprKind::Subquery(subquery) => scraped(&subquery.expr),
        ExprKind::Call(call) if call.function.labels != LabelEffect::Own => {
            call.args.iter().find(|arg| is_vector(arg)).and_then(scraped)
        }
        ExprKind::Binary(binary) => match &binary.matching {
            None => [&binary.lhs, &binary.rhs].into_iter().find(|s| is_vector(s)).and_then(scraped),
            Some(_) if matches!(binary.op, BinaryOp::And | BinaryOp::Unless) => {
                scraped(&binary.lhs)
            }
            Some(matching) if !matching.on && matching.labels.is_empty() => {
                scraped(&binary.lhs).or_else(|| scraped(&binary.rhs))
            }
            Some(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParserOptions, parse};

    #[test]
    fn labels_that_cannot_be_there_are_found() {
        let mut wrong = Vec::new();
        for (text, expected) in [
            // Selectors.
            ("x{a=\"1\",a=\"2\"}", "Never: no series can match a=\"1\" and a=\"2\" at once"),
            ("x{a=\"1\",a=~\"2|3\"}", "Never: no series can match a=\"1\" and a=~\"2|3\" at once"),
            ("x{a=\"1\",a!=\"2\"}", ""),
            // Grouping.
            (
                "sum by (a) (sum(x))",
                "NoLabel: sum groups by `a`, which its input does not have | `sum` without `by` drops all labels",
            ),
            (
                "sum by (a) (sum by (b) (x))",
                "NoLabel: sum groups by `a`, which its input does not have | `sum by (b)` keeps no other label",
            ),
            ("sum by (a) (sum by (a) (x))", ""),
            ("sum by (a) (sum without (b) (x))", ""),
            ("sum by (a) (label_replace(sum(x), \"a\", \"1\", \"\", \"\"))", ""),
            ("sum by (a) (sum by (a) (x) or vector(0))", ""),
            (
                "topk by (a) (1, sum(x))",
                "NoLabel: topk groups by `a`, which its input does not have | `sum` without `by` drops all labels",
            ),
            // Histograms.
            (
                "histogram_quantile(0.9, sum by (job) (rate(x_bucket[5m])))",
                "NoLabel: histogram_quantile needs the label `le`, which its input does not have | `sum by (job)` keeps no other label",
            ),
            ("histogram_quantile(0.9, sum(rate(x[5m])))", ""),
            ("histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))", ""),
            // on
            (
                "sum(x) / on (a) sum(y)",
                "NoLabel: neither side has the label `a` to match on | `sum` without `by` drops all labels | `sum` without `by` drops all labels",
            ),
            (
                "x / on (a) sum(y)",
                "Unmatched: the sides of `/` never match: the right side does not have the label `a` | `sum` without `by` drops all labels",
            ),
            (
                "x unless on (a) sum(y)",
                "Unmatched: `unless` takes nothing away: the right side does not have the label `a` | `sum` without `by` drops all labels",
            ),
            (
                "x{a=\"1\"} and on (a) y{a=\"2\"}",
                "Unmatched: the sides of `and` never match: `a` has different values on the two sides",
            ),
            (
                "x / on (a) group_left (b) sum by (a) (y)",
                "NoLabel: group_left copies `b`, which that side does not have: the result lacks it | `sum by (a)` keeps no other label",
            ),
            ("x / on (a) group_left (b) y", ""),
            ("x / on () sum(y)", ""),
            // All labels.
            (
                "x{a=\"1\"} / x{a=\"2\"}",
                "Unmatched: the sides of `/` never match: `a` has different values on the two sides",
            ),
            ("x{a=\"1\"} / ignoring (a) x{a=\"2\"}", ""),
            ("x{a=\"1\"} or x{a=\"2\"}", ""),
            (
                "x{a=\"1\"} / sum(x)",
                "Unmatched: the sides of `/` never match: the right side does not have the label `a`, the other has | `sum` without `by` drops all labels",
            ),
            (
                "sum by (a) (x) / sum by (b) (y)",
                "Unmatched: the sides of `/` never match: the right side does not have the label `a`, the other has | `sum by (b)` keeps no other label",
            ),
            ("sum by (a, b) (x) / ignoring (b) group_left () sum by (a) (y)", ""),
            ("sum by (a) (x) / sum by (a) (y)", ""),
            ("histogram_quantile(0.9, sum by (le, a) (x)) > sum by (a) (y)", ""),
            ("sum(x) / count(x)", ""),
            ("sum(x) or sum by (a) (x)", ""),
            // Scraped series.
            (
                "x / sum(x)",
                "Unmatched: the sides of `/` never match: the right side does not have the label `instance`, the other has | `sum` without `by` drops all labels",
            ),
            (
                "rate(x[5m]) > 2 * sum by (job) (x)",
                "Unmatched: the sides of `>` never match: the right side does not have the label `instance`, the other has | `sum by (job)` keeps no other label",
            ),
            (
                "x unless sum(x)",
                "Unmatched: `unless` takes nothing away: the right side does not have the label `instance`, the other has | `sum` without `by` drops all labels",
            ),
            ("a:x / sum(y)", ""),
            ("x / on (job) group_left () sum by (job) (x)", ""),
            ("x / ignoring (instance) group_left () sum without (instance) (x)", ""),
            ("x / y", ""),
            ("x + fill(0) sum(x)", ""),
            ("x / on (a) group_left (__name__) (y + z)", ""),
            // The innermost operator is to blame.
            (
                "x / sum(x) and y",
                "Unmatched: the sides of `/` never match: the right side does not have the label `instance`, the other has | `sum` without `by` drops all labels",
            ),
            (
                "x / ignoring (b) y{b=\"1\"} and y{b=\"1\"}",
                "Unmatched: the sides of `and` never match: the left side does not have the label `b`, the other has | `ignoring (b)` drops it",
            ),
        ] {
            let expr = parse(text, &ParserOptions::all()).expect(text);
            let got: Vec<String> = analyse(&expr, &|name| !name.contains(':'), &|_| None)
                .iter()
                .map(|f| {
                    let related: Vec<String> =
                        f.related.iter().map(|(_, r)| format!(" | {r}")).collect();
                    format!("{:?}: {}{}", f.kind, f.message, related.concat())
                })
                .collect();
            if got.join("; ") != expected {
                wrong.push(format!("{text}\n  got    {}\n  wanted {expected}", got.join("; ")));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_loss_is_pointed_at() {
        let check = |text: &str, label: &str, expected: Option<&str>| {
            let expr = parse(text, &ParserOptions::all()).expect(text);
            let at = loss(&expr, label, &|_| None).map(|(span, _)| &text[span]);
            assert_eq!(at, expected, "{text}");
        };
        check("rate(x[5m]) * on (a) y", "b", Some("*"));
        check("max(sum by (a) (x)) > 1", "b", Some("sum"));
        check("max by (b) (sum by (a, b) (x)) > 1", "a", Some("max"));
        check("absent(x{a=\"1\"})", "b", Some("absent"));
        check("vector(1)", "a", None);
    }
}
