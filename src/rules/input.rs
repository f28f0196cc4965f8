//! What the condition of an alert looks at: the expression without its filters.
//!
//! An alert that vanished is asked for in the input. When the input holds its labels, the
//! condition turned false; when it does not, there was nothing to look at. The rewriting:
//!
//! ```text
//! v > s              input of v; when s reads series (`scalar`), those are needed too
//! a > b, a + b       input of a that has a partner in the input of b
//! a and b            input of a that has a partner in the input of b
//! a unless b         input of a
//! a or b             input of a or input of b
//! sum by (l) (v)     the groups of the input of v
//! topk(k, v)         input of v
//! absent(v)          always there: absence is what it looks at
//! f(v), f(v[r:s])    input of v, over the same steps
//! ```
//!
//! What holds no filter is its own input. Labels that depend on values or on which partner
//! was found are lost: they are left aside on both sides when alerts are looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::functions::{Kernel, Operator};
use crate::model::labels::{quote, quote_label_name};
use crate::model::value::{ValueType, VectorSample};
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher};
use crate::parser::Expr;
use crate::parser::ast::{
    Aggregate, Binary, BinaryOp, Call, Cardinality, ExprKind, Grouping, VectorMatching,
};
use crate::query::{Engine, PreparedQuery, QueryError, QueryOrigin};

/// The input of a rule's condition.
#[derive(Debug)]
pub(super) enum Input {
    /// The expression has no condition: what it lacks has no data.
    Itself,
    Other {
        query: Box<PreparedQuery>,
        /// Labels that do not tell alerts apart here.
        aside: BTreeSet<String>,
    },
}

impl Input {
    /// The input of an alert's expression; `labels` are the rule's own, which cover up
    /// those of the series.
    pub(super) fn new(
        expr: &Expr,
        labels: &BTreeMap<String, String>,
        engine: &Arc<Engine>,
        origin: &Arc<QueryOrigin>,
    ) -> Result<Self, QueryError> {
        let Some((text, mut aside)) = without_filters(expr) else { return Ok(Self::Itself) };
        aside.extend(labels.keys().cloned());
        aside.extend([METRIC_NAME, "alertname"].map(str::to_owned));
        let query = engine.prepare(&text)?.with_origin(origin.clone());
        Ok(Self::Other { query: Box::new(query), aside })
    }
}

/// The alerts there is data for.
pub(super) struct Known<'a> {
    identities: FxHashSet<Labels>,
    aside: &'a BTreeSet<String>,
}

impl<'a> Known<'a> {
    /// From the samples of the input.
    pub(super) fn new(samples: &[VectorSample], aside: &'a BTreeSet<String>) -> Self {
        let identities = samples.iter().map(|s| identity(&s.labels, aside)).collect();
        Self { identities, aside }
    }

    /// Whether there is data for the alert of these labels.
    pub(super) fn has(&self, alert: &Labels) -> bool {
        self.identities.contains(&identity(alert, self.aside))
    }
}

fn identity(labels: &Labels, aside: &BTreeSet<String>) -> Labels {
    labels.retain(|name| !aside.contains(name))
}

/// The text of the input, and its lost labels; `None` when the expression is its own.
fn without_filters(expr: &Expr) -> Option<(String, BTreeSet<String>)> {
    let mut rewrite = Rewrite { lost: BTreeSet::new() };
    if expr.value_type() == ValueType::Scalar {
        // One sample at every tick: it can vanish only by what it reads.
        let needs = rewrite.needs(expr);
        return (!needs.is_empty())
            .then(|| (requiring("vector(1)".to_owned(), needs), rewrite.lost));
    }
    let text = rewrite.vector(expr);
    (!text.same).then_some((text.text, rewrite.lost))
}

struct Rewrite {
    lost: BTreeSet<String>,
}

/// The input of a part of the expression.
struct Text {
    text: String,
    /// The part is its own input.
    same: bool,
}

impl Text {
    fn same(expr: &Expr) -> Self {
        Self { text: expr.to_string(), same: true }
    }

    fn other(text: String) -> Self {
        Self { text, same: false }
    }
}

/// The text, where all of `needs` hold something.
fn requiring(text: String, needs: Vec<String>) -> String {
    needs.into_iter().fold(text, |text, need| format!("({text}) and on () ({need})"))
}

fn label_list(labels: &[String]) -> String {
    labels.iter().map(|l| quote_label_name(l)).collect::<Vec<_>>().join(", ")
}

fn group(grouping: &Grouping, text: &str) -> String {
    match grouping {
        Grouping::By(labels) => format!("group by ({}) ({text})", label_list(labels)),
        Grouping::Without(labels) => format!("group without ({}) ({text})", label_list(labels)),
    }
}

impl Rewrite {
    fn vector(&mut self, expr: &Expr) -> Text {
        match &expr.kind {
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector(_)
            | ExprKind::Subquery(_) => Text::same(expr),
            ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => {
                let inner = self.vector(inner);
                if inner.same { Text::same(expr) } else { inner }
            }
            ExprKind::Call(call) => self.call(expr, call),
            ExprKind::Aggregate(aggregate) => self.aggregate(expr, aggregate),
            ExprKind::Binary(binary) => self.binary(expr, binary),
        }
    }

    /// What a scalar reads: the arguments of its `scalar` calls.
    fn needs(&mut self, expr: &Expr) -> Vec<String> {
        if let ExprKind::Call(call) = &expr.kind
            && matches!(call.function.kernel, Kernel::Operator(Operator::Scalar))
        {
            return call.args.iter().map(|arg| self.vector(arg).text).collect();
        }
        let scalars = expr.children().filter(|c| c.value_type() == ValueType::Scalar);
        scalars.flat_map(|child| self.needs(child)).collect()
    }

    fn call(&mut self, expr: &Expr, call: &Call) -> Text {
        let Kernel::Operator(operator) = call.function.kernel else {
            return self.plain_call(expr, call);
        };
        match operator {
            Operator::Absent | Operator::AbsentOverTime => Text::other(always(call)),
            Operator::Vector => {
                let needs = self.argument_needs(call);
                if needs.is_empty() {
                    return Text::same(expr);
                }
                Text::other(requiring("vector(1)".to_owned(), needs))
            }
            Operator::LabelReplace | Operator::LabelJoin | Operator::Info => {
                let Some((first, rest)) = call.args.split_first() else { return Text::same(expr) };
                let first = self.vector(first);
                if first.same {
                    return Text::same(expr);
                }
                let rest: String = rest.iter().map(|arg| format!(", {arg}")).collect();
                Text::other(format!("{}({}{rest})", call.function.name, first.text))
            }
            Operator::HistogramQuantile
            | Operator::HistogramQuantiles
            | Operator::HistogramFraction => {
                let text = self.plain_call(expr, call);
                if text.same {
                    return text;
                }
                // The label that tells the quantiles apart.
                let label = call.args.iter().find_map(|arg| match &arg.unparenthesised().kind {
                    ExprKind::String(label) => Some(label.clone()),
                    _ => None,
                });
                self.lost.extend(label);
                Text::other(group(&Grouping::Without(vec!["le".to_owned()]), &text.text))
            }
            _ => self.plain_call(expr, call),
        }
    }

    /// A function of one vector that keeps its labels, the name aside.
    fn plain_call(&mut self, expr: &Expr, call: &Call) -> Text {
        let needs = self.argument_needs(call);
        let input = call.args.iter().find_map(|arg| match arg.value_type() {
            ValueType::InstantVector => Some(self.vector(arg)),
            ValueType::RangeVector => Some(self.window(arg)),
            _ => None,
        });
        let text = match input {
            Some(input) if !input.same => input.text,
            _ if needs.is_empty() => return Text::same(expr),
            _ => expr.to_string(),
        };
        Text::other(requiring(text, needs))
    }

    /// A range vector, as an instant vector of the series that have a sample in it.
    fn window(&mut self, expr: &Expr) -> Text {
        let ExprKind::Subquery(subquery) = &expr.unparenthesised().kind else {
            return Text::same(expr);
        };
        let inner = self.vector(&subquery.expr);
        if inner.same {
            return Text::same(expr);
        }
        let whole = expr.unparenthesised().to_string();
        let suffix = whole.strip_prefix(&subquery.expr.to_string()).unwrap_or_default();
        Text::other(format!("last_over_time(({}){suffix})", inner.text))
    }

    fn argument_needs(&mut self, call: &Call) -> Vec<String> {
        let scalars = call.args.iter().filter(|arg| arg.value_type() == ValueType::Scalar);
        scalars.flat_map(|arg| self.needs(arg)).collect()
    }

    fn aggregate(&mut self, expr: &Expr, aggregate: &Aggregate) -> Text {
        let inner = self.vector(&aggregate.expr);
        match aggregate.op.name {
            "topk" | "bottomk" | "limitk" | "limit_ratio" => Text::other(inner.text),
            "count_values" => {
                if let Some(ExprKind::String(label)) =
                    aggregate.param.as_ref().map(|p| &p.unparenthesised().kind)
                {
                    self.lost.insert(label.clone());
                }
                Text::other(group(&aggregate.grouping, &inner.text))
            }
            _ if inner.same => Text::same(expr),
            _ => Text::other(group(&aggregate.grouping, &inner.text)),
        }
    }

    fn binary(&mut self, expr: &Expr, binary: &Binary) -> Text {
        let filters = binary.op.is_comparison() && !binary.return_bool;
        let scalar = |e: &Expr| e.value_type() == ValueType::Scalar;
        let (vector, number) = match (scalar(&binary.lhs), scalar(&binary.rhs)) {
            (false, false) => return self.join(expr, binary, filters),
            (true, true) => return Text::same(expr),
            (false, true) => (&binary.lhs, &binary.rhs),
            (true, false) => (&binary.rhs, &binary.lhs),
        };
        let (input, needs) = (self.vector(vector), self.needs(number));
        if input.same && !filters && needs.is_empty() {
            return Text::same(expr);
        }
        Text::other(requiring(input.text, needs))
    }

    fn join(&mut self, expr: &Expr, binary: &Binary, filters: bool) -> Text {
        let (lhs, rhs) = (self.vector(&binary.lhs), self.vector(&binary.rhs));
        if binary.op == BinaryOp::Unless {
            return Text::other(lhs.text);
        }
        if lhs.same && rhs.same && !filters {
            return Text::same(expr);
        }
        let (lhs, rhs) = (lhs.text, rhs.text);
        let Some(matching) = &binary.matching else { return Text::same(expr) };
        match binary.op {
            // Only the very same labels stand in for each other: a series that is hidden
            // while the left side matches has data all the same.
            BinaryOp::Or => Text::other(format!("({lhs}) or ({rhs})")),
            BinaryOp::And => Text::other(partnered(&lhs, &rhs, matching)),
            _ => Text::other(self.matched(&lhs, &rhs, matching)),
        }
    }

    /// What an operation between two vectors looks at, labelled as its result.
    fn matched(&mut self, lhs: &str, rhs: &str, matching: &VectorMatching) -> String {
        self.lost.extend(matching.include.iter().cloned());
        let shape = |text: &str| match (matching.card, matching.on) {
            (Cardinality::OneToOne, true) => group(&Grouping::By(matching.labels.clone()), text),
            (Cardinality::OneToOne, false) if !matching.labels.is_empty() => {
                group(&Grouping::Without(matching.labels.clone()), text)
            }
            _ => text.to_owned(),
        };
        match (matching.fill_left.is_some(), matching.fill_right.is_some()) {
            (true, true) => format!("({}) or ({})", shape(lhs), shape(rhs)),
            (true, false) => shape(rhs),
            (false, true) => shape(lhs),
            (false, false) if matching.card == Cardinality::OneToMany => {
                partnered(rhs, lhs, matching)
            }
            (false, false) => shape(&partnered(lhs, rhs, matching)),
        }
    }
}

/// `many`, where it has a partner.
fn partnered(many: &str, one: &str, matching: &VectorMatching) -> String {
    let labels = label_list(&matching.labels);
    match (matching.on, matching.labels.is_empty()) {
        (true, _) => format!("({many}) and on ({labels}) ({one})"),
        (false, true) => format!("({many}) and ({one})"),
        (false, false) => format!("({many}) and ignoring ({labels}) ({one})"),
    }
}

/// One sample with the labels `absent` gives its own: those its selector pins.
fn always(call: &Call) -> String {
    let matchers: &[Matcher] = match call.args.first().map(|arg| &arg.kind) {
        Some(ExprKind::VectorSelector(selector)) => &selector.matchers,
        Some(ExprKind::MatrixSelector(matrix)) => &matrix.selector.matchers,
        _ => &[],
    };
    let alone = |m: &Matcher| matchers.iter().filter(|other| other.name == m.name).count() == 1;
    let pinned =
        matchers.iter().filter(|m| &*m.name != METRIC_NAME && m.op == MatchOp::Equal && alone(m));
    pinned.fold("vector(1)".to_owned(), |text, m| {
        let (name, value) = (quote(&m.name), quote(&m.value.replace('$', "$$")));
        format!("label_replace({text}, {name}, {value}, \"\", \"\")")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParserOptions, parse};

    /// Expression, its input (`=` for itself), lost labels.
    fn check(expr: &str, expected: &str, lost: &[&str]) {
        let options = ParserOptions::all();
        let parsed = parse(expr, &options).unwrap();
        let (text, found) = match without_filters(&parsed) {
            None => ("=".to_owned(), BTreeSet::new()),
            Some((text, lost)) => {
                let again = parse(&text, &options).unwrap_or_else(|e| panic!("{text}: {e}"));
                (again.to_string(), lost)
            }
        };
        assert_eq!(text, expected, "{expr}");
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), lost, "{expr}");
    }

    #[test]
    fn filters_go_and_labels_stay() {
        for same in [
            "up",
            "-up",
            "1",
            "time() > bool 5",
            "rate(x[5m])",
            "sum by (job) (rate(x[5m]))",
            "a / on (i) group_left (l) b",
            "a == bool b",
            "a and on (i) b",
            "a or b",
            "hour()",
            "vector(time())",
            "max_over_time(rate(x[5m])[1h:5m])",
            "histogram_quantile(0.9, sum by (le) (rate(x[5m])))",
        ] {
            check(same, "=", &[]);
        }
        for (expr, expected) in [
            ("up == 0", "up"),
            ("0 == up", "up"),
            ("(sum by (job) (rate(x[5m])) > 5)", "sum by (job) (rate(x[5m]))"),
            ("-(up == 0)", "up"),
            ("abs(x > 5) < 9", "x"),
            ("a / b > 0.5", "a / b"),
            ("a > b", "(a) and (b)"),
            ("a > on (i) b", "group by (i) ((a) and on (i) (b))"),
            ("a > ignoring (i) b", "group without (i) ((a) and ignoring (i) (b))"),
            ("a > 1 and on (i) up == 1", "(a) and on (i) (up)"),
            ("a > 1 unless b == 1", "a"),
            ("a unless b", "a"),
            ("a > 1 or on (i) b > 1", "(a) or (b)"),
            ("count(up == 0) > 3", "group(up)"),
            ("sum without (i) (x > 1)", "group without (i) (x)"),
            ("topk(3, x)", "x"),
            ("topk(3, x) > 7", "x"),
            ("a > scalar(b)", "(a) and on () (b)"),
            ("vector(scalar(b == 2)) > 1", "(vector(1)) and on () (b)"),
            ("scalar(a) + scalar(b)", "((vector(1)) and on () (a)) and on () (b)"),
            (
                "max_over_time((x > 5)[10m:1m] offset 1m) > 0",
                "last_over_time((x)[10m:1m] offset 1m)",
            ),
            (
                "label_replace(x > 5, \"a\", \"$1\", \"b\", \"(.*)\")",
                "label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\")",
            ),
            ("histogram_quantile(0.9, x > 0)", "group without (le) (x)"),
            ("absent(up)", "vector(1)"),
            (
                "absent(up{job=\"a$\", i=~\"b\", c=\"1\", c=\"2\"})",
                "label_replace(vector(1), \"job\", \"a$$\", \"\", \"\")",
            ),
            ("up == 0 or absent(up)", "(up) or (vector(1))"),
        ] {
            check(expr, expected, &[]);
        }
        check("a * on (i) group_left (l) (b == 1)", "(a) and on (i) (b)", &["l"]);
        check("(b == 1) * on (i) group_right (l) a", "(a) and on (i) (b)", &["l"]);
        check("count_values by (job) (\"v\", x) > 2", "group by (job) (x)", &["v"]);
        check("a > fill_right (0) b", "a", &[]);
        check("a > fill (0) b", "(a) or (b)", &[]);
    }
}
