//! Which labels the series of an expression, and so of a rule, may have: what static
//! analysis can know of them without looking at any data.
//!
//! Everything here errs on one side: a label said to be absent or to have one of some
//! values never has another one. What is not understood may be anything.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::functions::{Kernel, LabelEffect, Operator};
use crate::model::matcher::MatchOp;
use crate::model::value::ValueType;
use crate::model::{METRIC_NAME, Matcher};
use crate::parser::Expr;
use crate::parser::ast::{
    Aggregate, Binary, BinaryOp, Call, Cardinality, ExprKind, Grouping, VectorMatching,
};

/// Labels that functions drop together with the name.
const TYPE_AND_UNIT: [&str; 2] = ["__type__", "__unit__"];

/// The values one label may have; "" is a label that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Only what all of these accept; without any, everything.
    Accepted(Vec<Matcher>),
    OneOf(BTreeSet<String>),
}

impl Values {
    const ANY: Values = Values::Accepted(Vec::new());

    fn one(value: &str) -> Self {
        Self::OneOf(BTreeSet::from([value.to_owned()]))
    }

    /// The values that satisfy every one of these matchers, which are about one label.
    fn of(matchers: Vec<Matcher>) -> Self {
        let accepted = |value: &str| matchers.iter().all(|m| m.matches(value));
        let listed = matchers.iter().find_map(|m| match m.op {
            MatchOp::Equal => Some(vec![m.value.to_string()]),
            MatchOp::Regex => m.regex().and_then(|re| re.set_matches()).map(<[String]>::to_vec),
            MatchOp::NotEqual | MatchOp::NotRegex => None,
        });
        match listed {
            Some(values) => Self::OneOf(values.into_iter().filter(|v| accepted(v)).collect()),
            None => Self::Accepted(matchers),
        }
    }

    /// Whether one of the values satisfies all matchers.
    fn meet(&self, matchers: &[&Matcher]) -> bool {
        match self {
            Self::OneOf(values) => values.iter().any(|v| matchers.iter().all(|m| m.matches(v))),
            Self::Accepted(own) => {
                let all: Vec<Matcher> =
                    own.iter().chain(matchers.iter().copied()).cloned().collect();
                match Self::of(all) {
                    Self::OneOf(values) => !values.is_empty(),
                    Self::Accepted(_) => true,
                }
            }
        }
    }

    fn or(self, other: &Values) -> Self {
        match (self, other) {
            (Self::OneOf(mut a), Self::OneOf(b)) => {
                a.extend(b.iter().cloned());
                Self::OneOf(a)
            }
            (a, b) if a == *b => a,
            _ => Self::ANY,
        }
    }

    fn or_absent(self) -> Self {
        self.or(&Self::one(""))
    }
}

/// The labels of a set of series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    known: BTreeMap<String, Values>,
    /// Labels that are not in `known` may be there, with any value.
    open: bool,
}

impl Shape {
    /// Series without labels.
    fn empty() -> Self {
        Self { known: BTreeMap::new(), open: false }
    }

    fn unknown() -> Self {
        Self { known: BTreeMap::new(), open: true }
    }

    /// The series a selector finds.
    fn selected(matchers: &[Matcher]) -> Self {
        let mut by_name: BTreeMap<String, Vec<Matcher>> = BTreeMap::new();
        for matcher in matchers {
            by_name.entry(matcher.name.to_string()).or_default().push(matcher.clone());
        }
        let known = by_name.into_iter().map(|(name, all)| (name, Values::of(all))).collect();
        Self { known, open: true }
    }

    /// The series of this shape that satisfy all matchers.
    fn narrowed(mut self, matchers: &[Matcher]) -> Self {
        for matcher in matchers {
            let left = match self.values(&matcher.name).into_owned() {
                Values::OneOf(values) => {
                    Values::OneOf(values.into_iter().filter(|v| matcher.matches(v)).collect())
                }
                Values::Accepted(mut own) => {
                    own.push(matcher.clone());
                    Values::of(own)
                }
            };
            self.set(&matcher.name, left);
        }
        self
    }

    fn values(&self, name: &str) -> Cow<'_, Values> {
        match self.known.get(name) {
            Some(values) => Cow::Borrowed(values),
            None if self.open => Cow::Owned(Values::ANY),
            None => Cow::Owned(Values::one("")),
        }
    }

    /// Whether the label may be there.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        match &*self.values(name) {
            Values::OneOf(values) => values.iter().any(|v| !v.is_empty()),
            Values::Accepted(_) => true,
        }
    }

    /// Whether there can be series of this shape at all: a label that must have two values
    /// at once has none.
    pub(crate) fn impossible_label(&self) -> Option<&str> {
        let none = |values: &Values| matches!(values, Values::OneOf(v) if v.is_empty());
        self.known.iter().find(|(_, values)| none(values)).map(|(name, _)| name.as_str())
    }

    /// Whether a label may have the same value in a series of either shape; that it is
    /// absent counts as a value.
    pub(crate) fn may_agree(&self, other: &Shape, name: &str) -> bool {
        match (&*self.values(name), &*other.values(name)) {
            (Values::OneOf(a), Values::OneOf(b)) => a.intersection(b).next().is_some(),
            (Values::OneOf(values), Values::Accepted(matchers))
            | (Values::Accepted(matchers), Values::OneOf(values)) => {
                values.iter().any(|v| matchers.iter().all(|m| m.matches(v)))
            }
            (Values::Accepted(a), Values::Accepted(b)) => {
                if begin_differently(a, b) {
                    return false;
                }
                let both: Vec<&Matcher> = b.iter().collect();
                Values::Accepted(a.clone()).meet(&both)
            }
        }
    }

    /// The labels something is known of.
    pub(crate) fn known_labels(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Whether there may be labels nothing is known of.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a series of this shape may satisfy all matchers.
    pub(crate) fn may_match(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().enumerate().all(|(i, matcher)| {
            if matchers[..i].iter().any(|earlier| earlier.name == matcher.name) {
                return true;
            }
            let same: Vec<&Matcher> = matchers.iter().filter(|m| m.name == matcher.name).collect();
            self.values(&matcher.name).meet(&same)
        })
    }

    fn set(&mut self, name: &str, values: Values) {
        self.known.insert(name.to_owned(), values);
    }

    fn remove(&mut self, name: &str) {
        self.set(name, Values::one(""));
    }

    /// The label may have gone.
    fn blur(&mut self, name: &str) {
        let values = self.values(name).into_owned().or_absent();
        self.set(name, values);
    }

    fn without_name(mut self) -> Self {
        self.remove(METRIC_NAME);
        for name in TYPE_AND_UNIT {
            self.blur(name);
        }
        self
    }

    fn only(&self, names: &[String]) -> Self {
        let known = names.iter().map(|n| (n.clone(), self.values(n).into_owned())).collect();
        Self { known, open: false }
    }

    fn without(mut self, names: &[String]) -> Self {
        for name in names {
            self.remove(name);
        }
        self
    }

    pub(crate) fn or(&self, other: &Shape) -> Self {
        let names: BTreeSet<&String> = self.known.keys().chain(other.known.keys()).collect();
        let values = |name: &str| self.values(name).into_owned().or(&other.values(name));
        let known = names.into_iter().map(|n| (n.clone(), values(n))).collect();
        Self { known, open: self.open || other.open }
    }
}

/// Whether patterns demand beginnings of which neither is one of the other.
fn begin_differently(a: &[Matcher], b: &[Matcher]) -> bool {
    let prefixes = |matchers: &[Matcher]| -> Vec<String> {
        let demanded = matchers.iter().filter(|m| m.op == MatchOp::Regex);
        demanded.filter_map(|m| m.regex()?.prefix().map(str::to_owned)).collect()
    };
    let others = prefixes(b);
    prefixes(a)
        .iter()
        .any(|p| others.iter().any(|o| !p.starts_with(o.as_str()) && !o.starts_with(p.as_str())))
}

/// The series a recording rule writes: named and labelled by the rule.
pub(crate) fn recorded(expr: &Expr, record: &str, labels: &BTreeMap<String, String>) -> Shape {
    recorded_known(expr, record, labels, &|_| None)
}

/// As [`recorded`], where something is known of some metrics.
pub(crate) fn recorded_known(
    expr: &Expr,
    record: &str,
    labels: &BTreeMap<String, String>,
    known: Known<'_>,
) -> Shape {
    let mut shape = of_known(expr, known);
    for (name, value) in labels {
        shape.set(name, Values::one(value));
    }
    shape.set(METRIC_NAME, Values::one(record));
    shape
}

/// The series about a rule's alerts, one shape for each of the two metrics. Nothing is
/// inferred from the expression: an alert keeps the labels it began with when a reload
/// changes its rule's expression.
pub(crate) fn alerts(alert: &str, labels: &BTreeMap<String, String>) -> [Shape; 2] {
    let mut shape = Shape::unknown();
    for (name, value) in labels {
        let fixed = !value.contains("{{");
        shape.set(name, if fixed { Values::one(value) } else { Values::ANY });
    }
    shape.set("alertname", Values::one(alert));
    let mut for_state = shape.clone();
    for_state.set(METRIC_NAME, Values::one("ALERTS_FOR_STATE"));
    let states = ["pending", "firing"].map(str::to_owned);
    shape.set("alertstate", Values::OneOf(BTreeSet::from(states)));
    shape.set(METRIC_NAME, Values::one("ALERTS"));
    [shape, for_state]
}

/// What is known of a metric by its name, beyond what a selector says.
pub(crate) type Known<'a> = &'a dyn Fn(&str) -> Option<Shape>;

/// The series an expression gives.
pub(crate) fn of(expr: &Expr) -> Shape {
    of_known(expr, &|_| None)
}

/// The series an expression gives, where something is known of some metrics.
pub(crate) fn of_known(expr: &Expr, known: Known<'_>) -> Shape {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => Shape::empty(),
        ExprKind::VectorSelector(selector) => selected(&selector.matchers, known),
        ExprKind::MatrixSelector(matrix) => selected(&matrix.selector.matchers, known),
        ExprKind::Subquery(subquery) => of_known(&subquery.expr, known),
        ExprKind::Call(call) => of_call(call, known),
        ExprKind::Aggregate(aggregate) => of_aggregate(aggregate, known),
        ExprKind::Binary(binary) => of_binary(binary, known),
        ExprKind::Unary { expr, .. } => of_known(expr, known).without_name(),
        ExprKind::Paren(expr) => of_known(expr, known),
    }
}

/// The series a selector finds.
fn selected(matchers: &[Matcher], known: Known<'_>) -> Shape {
    match matchers.iter().find_map(Matcher::metric_name).and_then(known) {
        Some(shape) => shape.narrowed(matchers),
        None => Shape::selected(matchers),
    }
}

fn is_vector(expr: &Expr) -> bool {
    matches!(expr.value_type(), ValueType::InstantVector | ValueType::RangeVector)
}

fn of_call(call: &Call, known: Known<'_>) -> Shape {
    if call.function.returns == ValueType::Scalar {
        return Shape::empty();
    }
    let input = call.args.iter().find(|arg| is_vector(arg));
    let text = |i: usize| match call.args.get(i).map(|a| &a.unparenthesised().kind) {
        Some(ExprKind::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match (call.function.kernel, input) {
        (Kernel::Operator(Operator::Absent | Operator::AbsentOverTime), Some(input)) => {
            of_absent(input)
        }
        // `vector(1)`, `time()`, `hour()`.
        (_, None) => Shape::empty(),
        (Kernel::Operator(Operator::LabelReplace), Some(input)) => {
            let mut shape = of_known(input, known);
            match (text(1), text(2)) {
                (Some(label), Some(value)) if !value.contains('$') => {
                    let values = shape.values(label).into_owned().or(&Values::one(value));
                    shape.set(label, values);
                }
                (Some(label), _) => shape.set(label, Values::ANY),
                (None, _) => return Shape::unknown(),
            }
            shape
        }
        (Kernel::Operator(Operator::LabelJoin), Some(input)) => match text(1) {
            Some(label) => {
                let mut shape = of_known(input, known);
                shape.set(label, Values::ANY);
                shape
            }
            None => Shape::unknown(),
        },
        (
            Kernel::Operator(Operator::HistogramQuantile | Operator::HistogramFraction),
            Some(input),
        ) => {
            let mut shape = of_known(input, known).without_name();
            shape.blur("le");
            shape
        }
        (Kernel::Operator(Operator::HistogramQuantiles), Some(input)) => match text(1) {
            Some(label) => {
                let mut shape = of_known(input, known).without_name();
                shape.blur("le");
                shape.set(label, Values::ANY);
                shape
            }
            None => Shape::unknown(),
        },
        (_, Some(input)) => match call.function.labels {
            LabelEffect::Keep => of_known(input, known),
            LabelEffect::DropMetadata | LabelEffect::DropName => {
                of_known(input, known).without_name()
            }
            LabelEffect::Own => Shape::unknown(),
        },
    }
}

/// Labels the selectors demand by equality, or fewer of them.
fn of_absent(input: &Expr) -> Shape {
    let mut shape = Shape::empty();
    for matcher in input.selectors().into_iter().flatten() {
        if matcher.op == MatchOp::Equal && &*matcher.name != METRIC_NAME {
            let values = shape.values(&matcher.name).into_owned().or(&Values::one(&matcher.value));
            shape.set(&matcher.name, values.or_absent());
        }
    }
    shape
}

fn of_aggregate(aggregate: &Aggregate, known: Known<'_>) -> Shape {
    let input = of_known(&aggregate.expr, known);
    if matches!(aggregate.op.name, "topk" | "bottomk" | "limitk" | "limit_ratio") {
        return input;
    }
    let mut shape = match &aggregate.grouping {
        Grouping::By(names) => input.only(names),
        Grouping::Without(names) => input.without(names).without_name(),
    };
    if aggregate.op.name == "count_values" {
        match aggregate.param.as_ref().map(|p| &p.unparenthesised().kind) {
            Some(ExprKind::String(label)) => shape.set(label, Values::ANY),
            _ => return Shape::unknown(),
        }
    }
    shape
}

fn of_binary(binary: &Binary, known: Known<'_>) -> Shape {
    let keeps_name = binary.op.is_comparison() && !binary.return_bool || binary.op.is_set();
    let named = |shape: Shape| if keeps_name { shape } else { shape.without_name() };
    let Some(matching) = &binary.matching else {
        return match [&binary.lhs, &binary.rhs].into_iter().find(|side| is_vector(side)) {
            Some(side) => named(of_known(side, known)),
            None => Shape::empty(),
        };
    };
    let (lhs, rhs) = (of_known(&binary.lhs, known), of_known(&binary.rhs, known));
    match binary.op {
        BinaryOp::And | BinaryOp::Unless => lhs,
        BinaryOp::Or => lhs.or(&rhs),
        _ => named(joined(&lhs, &rhs, matching)),
    }
}

fn joined(lhs: &Shape, rhs: &Shape, matching: &VectorMatching) -> Shape {
    let filled = matching.fill_left.is_some() || matching.fill_right.is_some();
    let (many, one) = match matching.card {
        Cardinality::OneToMany => (rhs, lhs),
        _ => (lhs, rhs),
    };
    let mut shape = if filled { lhs.or(rhs) } else { many.clone() };
    if filled {
        // A side that is filled in has only the labels that match.
        let names: Vec<String> = shape.known.keys().cloned().collect();
        names.iter().for_each(|name| shape.blur(name));
    }
    match matching.card {
        Cardinality::OneToOne if matching.on => shape.only(&matching.labels),
        Cardinality::OneToOne => shape.without(&matching.labels),
        _ => {
            for name in &matching.include {
                let values = shape.values(name).into_owned().or(&one.values(name));
                shape.set(name, values);
            }
            shape
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParserOptions, parse, parse_metric_selector};

    fn shape(expr: &str) -> Shape {
        recorded(&parse(expr, &ParserOptions::all()).unwrap(), "r", &BTreeMap::new())
    }

    /// Selectors that may and that cannot match what `record: r` makes of an expression.
    fn check(expr: &str, may: &[&str], cannot: &[&str]) {
        let shape = shape(expr);
        for (selectors, expected) in [(may, true), (cannot, false)] {
            for selector in selectors {
                let matchers = parse_metric_selector(selector).unwrap();
                assert_eq!(shape.may_match(&matchers), expected, "{selector} of {expr}");
            }
        }
    }

    #[test]
    fn names_and_matchers_of_a_selector_reach_the_result() {
        check(
            r#"x{job="a",zone=~"p|q",rack!="7",row=~"n.+"}"#,
            &["r", r#"{__name__=~"r|s"}"#, r#"r{job="a"}"#, r#"{zone="p"}"#, r#"r{other="1"}"#],
            &["x", r#"{__name__!="r",job="a"}"#, r#"r{job="b"}"#, r#"r{zone="z"}"#],
        );
        check(
            r#"x{job="a",zone=~"p|q",rack!="7",row=~"n.+"}"#,
            &[r#"r{rack="8"}"#, r#"r{row="n1"}"#, r#"r{row=~".*"}"#, r#"r{job=~"a|b"}"#],
            &[
                r#"r{rack="7"}"#,
                r#"r{row="m1"}"#,
                r#"r{row=~"k|l"}"#,
                r#"r{job!="a"}"#,
                r#"r{job=""}"#,
            ],
        );
    }

    #[test]
    fn aggregations_leave_the_labels_they_group_by() {
        check(
            "sum by (job) (x)",
            &["r", r#"r{job="a"}"#, r#"r{i=""}"#],
            &[r#"r{i="1"}"#, r#"r{i!=""}"#],
        );
        check("sum(x)", &["r", r#"r{job!="a"}"#], &[r#"r{job="a"}"#]);
        check("sum without (i) (x)", &[r#"r{job="a"}"#], &[r#"r{i="1"}"#]);
        check("topk by (job) (1, x)", &[r#"r{i="1"}"#], &[]);
        check(r#"count_values("v", x)"#, &[r#"r{v="1"}"#], &[r#"r{job="a"}"#]);
        check(r#"sum by (job) (x{job="a"})"#, &[r#"r{job="a"}"#], &[r#"r{job="b"}"#]);
    }

    #[test]
    fn joins_keep_the_labels_of_the_side_that_counts() {
        check(r#"x{a="1"} * on (a) y"#, &[r#"r{a="1"}"#], &[r#"r{a="2"}"#, r#"r{b="1"}"#]);
        check(r#"x{a="1"} * ignoring (c) y"#, &[r#"r{a="1",b="1"}"#], &[r#"r{c="1"}"#]);
        check(
            r#"x{a="1",b="1"} * on (a) group_left (b) y{b="2"}"#,
            &[r#"r{a="1",b="2",z="1"}"#],
            &[r#"r{a="2"}"#, r#"r{b="3"}"#],
        );
        check(r#"x * on (a) group_right () y{b="2"}"#, &[r#"r{b="2"}"#], &[r#"r{b="3"}"#]);
        check(r#"x{a="1"} and y{a="2"}"#, &[r#"r{a="1"}"#], &[r#"r{a="2"}"#]);
        check(r#"x{a="1"} or y{a="2"}"#, &[r#"r{a="1"}"#, r#"r{a="2"}"#], &[r#"r{a="3"}"#]);
        check(r#"x{a="1"} + fill(0) y{a="2"}"#, &[r#"r{a="2"}"#, r#"r{a=""}"#], &[r#"r{a="3"}"#]);
        check(r#"2 * x{a="1"} > bool 1"#, &[r#"r{a="1"}"#], &[r#"r{a="2"}"#]);
    }

    #[test]
    fn functions_that_make_labels_may_make_any() {
        check(r#"label_replace(x{a="1"}, "a", "$1", "b", "(.*)")"#, &[r#"r{a="2"}"#], &[]);
        check(
            r#"label_replace(sum(x), "a", "fix", "b", "")"#,
            &[r#"r{a="fix"}"#, r#"r{a=""}"#],
            &[r#"r{a="2"}"#, r#"r{c="2"}"#],
        );
        check(r#"label_join(sum(x), "a", "-", "b", "c")"#, &[r#"r{a="2"}"#], &[r#"r{c="2"}"#]);
        check(
            r#"absent(x{a="1",b=~"2"})"#,
            &[r#"r{a="1"}"#, r#"r{a=""}"#],
            &[r#"r{b="2"}"#, r#"r{a="2"}"#],
        );
        check("vector(1)", &["r"], &[r#"r{a="2"}"#]);
        check("scalar(x)", &["r"], &[r#"r{a="2"}"#]);
        check(
            r#"histogram_quantile(0.9, sum by (le, job) (x))"#,
            &[r#"r{job="1"}"#],
            &[r#"r{a="1"}"#],
        );
        check(r#"max_over_time(rate(x{a="1"}[5m])[1h:])"#, &[r#"r{a="1"}"#], &[r#"r{a="2"}"#]);
        check(r#"quantile_over_time(0.5, x{a="1"}[5m])"#, &[r#"r{a="1"}"#], &[r#"r{a="2"}"#]);
        check(r#"info(x{a="1"})"#, &[r#"r{a="2"}"#], &[]);
    }

    #[test]
    fn labels_of_the_rule_win() {
        let labels = BTreeMap::from([("a", "9"), ("b", "")].map(|(n, v)| (n.into(), v.into())));
        let expr = parse(r#"x{a="1",b="2"}"#, &ParserOptions::all()).unwrap();
        let shape = recorded(&expr, "r", &labels);
        let may = |s: &str| shape.may_match(&parse_metric_selector(s).unwrap());
        assert!(may(r#"r{a="9"}"#) && may(r#"r{b=""}"#));
        assert!(!may(r#"r{a="1"}"#) && !may(r#"r{b="2"}"#));
        let labels =
            BTreeMap::from([("a", "9"), ("b", "{{ 1 }}")].map(|(n, v)| (n.into(), v.into())));
        let [series, for_state] = alerts("Down", &labels);
        let check = |selector: &str, expected: [bool; 2]| {
            let matchers = parse_metric_selector(selector).unwrap();
            let got = [series.may_match(&matchers), for_state.may_match(&matchers)];
            assert_eq!(got, expected, "{selector}");
        };
        check("ALERTS", [true, false]);
        check("ALERTS_FOR_STATE", [false, true]);
        check(r#"{__name__=~"ALERTS.*",alertname="Down"}"#, [true, true]);
        check(r#"ALERTS{alertname=~"Up|Left"}"#, [false, false]);
        check(r#"ALERTS{alertstate="firing",b="x",c="y"}"#, [true, false]);
        check(r#"ALERTS{alertstate!~"firing|pending"}"#, [false, false]);
        check(r#"ALERTS{a="8"}"#, [false, false]);
    }
}
