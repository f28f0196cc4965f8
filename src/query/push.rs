//! What a source evaluates itself. Before an expression is planned, the largest parts of it
//! that the source answers exactly as they would be answered here become selectors that
//! stand for them (see [`PUSHED`](crate::storage::PUSHED)); everything after that sees
//! selectors, and the plan shows them.
//!
//! A part is never pushed down when
//! - the source's language may answer it otherwise (see [`Dialect`]);
//! - it drops what it looked at, as comparisons and `and` do: whether there was anything to
//!   look at decides what becomes of alerts, and is seen from what selectors find;
//! - it stands in a subquery, whose steps are its own;
//! - it looks at what is written here and may not have arrived there yet.

use std::sync::Arc;

use super::{EngineOptions, metricsql};
use crate::model::labels::{is_legacy_label_name, is_legacy_metric_name};
use crate::model::value::ValueType;
use crate::model::{DATASOURCE, METRIC_NAME, MatchOp, Matcher};
use crate::parser::ast::{
    Aggregate, AtModifier, DurationExpr, DurationKind, Expr, ExprKind, Grouping, MatrixSelector,
    Modifiers, UnaryOp, VectorSelector,
};
use crate::storage::{Dialect, PUSHED, PUSHED_FOR, PUSHED_OFFSET, PushDown, SHARD, Source};

/// Says of a selector's matchers whether what it finds may be newer here than at the source.
pub type WrittenHere = Arc<dyn Fn(&[Matcher]) -> bool + Send + Sync>;

/// Where parts of expressions are pushed down to.
#[derive(Clone)]
pub struct PushTarget {
    pub source: Arc<dyn Source>,
    pub written_here: Option<WrittenHere>,
}

/// Functions that every Prometheus of the last years evaluates as we do, over ranges.
const OVER_RANGES: &[&str] = &[
    "avg_over_time",
    "changes",
    "count_over_time",
    "delta",
    "deriv",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "predict_linear",
    "present_over_time",
    "quantile_over_time",
    "rate",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
];

/// The same, of instant vectors.
const OF_VECTORS: &[&str] = &[
    "abs",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "exp",
    "floor",
    "histogram_quantile",
    "label_join",
    "label_replace",
    "ln",
    "log10",
    "log2",
    "round",
    "sgn",
    "sqrt",
];

const AGGREGATORS: &[&str] =
    &["avg", "count", "group", "max", "min", "quantile", "stddev", "stdvar", "sum"];

/// Aggregations whose results over several shards are put together by another one.
const COMBINED: &[(&str, &str)] =
    &[("count", "sum"), ("group", "group"), ("max", "max"), ("min", "min"), ("sum", "sum")];

/// The expression with parts pushed down; `None` when there is nothing to push.
pub(super) fn rewritten(expr: &Expr, target: &PushTarget, options: &EngineOptions) -> Option<Expr> {
    // With these, samples or names mean more than an answer can tell.
    let special = options.delayed_name_removal
        || options.use_start_timestamps
        || options.type_and_unit_labels;
    let lookback_ms = options.lookback_ms;
    let mut rewriter = Rewriter { target, special, lookback_ms, pushed: 0 };
    let mut out = expr.clone();
    rewriter.visit(&mut out);
    (rewriter.pushed > 0).then_some(out)
}

fn selector_of(expr: &Expr) -> Option<&VectorSelector> {
    match &expr.kind {
        ExprKind::VectorSelector(selector) => Some(selector),
        ExprKind::MatrixSelector(matrix) => Some(&matrix.selector),
        _ => None,
    }
}

/// The datasource a selector names; an error when it is not one.
fn datasource(selector: &VectorSelector) -> Result<Option<&str>, ()> {
    let mut named = selector.matchers.iter().filter(|m| &*m.name == DATASOURCE);
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if one.op == MatchOp::Equal => Ok(Some(&one.value)),
        _ => Err(()),
    }
}

struct Rewriter<'a> {
    target: &'a PushTarget,
    special: bool,
    lookback_ms: i64,
    pushed: usize,
}

impl Rewriter<'_> {
    fn visit(&mut self, expr: &mut Expr) {
        if let Some((push, source)) = self.pushes(expr) {
            let source = source.map(str::to_owned);
            let stands_for_it = match push.sharded {
                true => self.combined(expr, push, source.as_deref()),
                false => Some(self.leaf(expr, push, source.as_deref())),
            };
            if let Some(stands_for_it) = stands_for_it {
                *expr = stands_for_it;
                self.pushed += 1;
                return;
            }
        }
        match &mut expr.kind {
            // Steps of subqueries are their own, and `info` looks at more than its input.
            ExprKind::Subquery(_) => {}
            ExprKind::Call(call) if matches!(call.function.name, "info" | "start_timestamp") => {}
            // The labels of the result are those of the selector.
            ExprKind::Call(call) if call.function.name == "absent" => {
                for arg in &mut call.args {
                    let below = inside(arg).children_mut();
                    below.into_iter().for_each(|child| self.visit(child));
                }
            }
            // The time is that of the sample, which only the selector itself knows.
            ExprKind::Call(call) if call.function.name == "timestamp" => {
                for arg in &mut call.args {
                    let arg = inside(arg);
                    if !matches!(arg.kind, ExprKind::VectorSelector(_)) {
                        self.visit(arg);
                    }
                }
            }
            _ => expr.children_mut().into_iter().for_each(|child| self.visit(child)),
        }
    }

    /// Whether, and to which datasource, an expression as it stands is pushed down.
    fn pushes<'e>(&self, expr: &'e Expr) -> Option<(PushDown, Option<&'e str>)> {
        if expr.value_type() != ValueType::InstantVector {
            return None;
        }
        let mut source: Option<Option<&str>> = None;
        let mut fits = true;
        expr.walk(&mut |expr| {
            let Some(selector) = selector_of(expr) else { return };
            match (datasource(selector), source) {
                (Ok(this), None) => source = Some(this),
                (Ok(this), Some(other)) if this == other => {}
                _ => fits = false,
            }
            let here = self.target.written_here.as_ref();
            fits &= plain(selector) && !here.is_some_and(|here| here(&selector.matchers));
        });
        let source = source.filter(|_| fits)?;
        let push = self.target.source.push_down(source)?;
        let whole = push.whole && !self.special;
        let allowed = match push.dialect {
            Dialect::PromQl => (whole && promql(expr)) || (!push.sharded && at_steps(expr)),
            Dialect::MetricsQl => whole && self.in_metricsql(expr).is_some(),
        };
        allowed.then_some((push, source))
    }

    fn in_metricsql(&self, expr: &Expr) -> Option<String> {
        let plain = |matrix: &MatrixSelector| written(&matrix.range) && plain(&matrix.selector);
        metricsql::text(expr, self.lookback_ms, &plain)
    }

    /// The selector that stands for an expression.
    fn leaf(&self, expr: &Expr, push: PushDown, source: Option<&str>) -> Expr {
        let text = match push.dialect {
            Dialect::PromQl => None,
            Dialect::MetricsQl => self.in_metricsql(expr),
        };
        let text = text.unwrap_or_else(|| {
            let mut asked = expr.clone();
            asked.change_selectors(&mut |s| s.matchers.retain(|m| &*m.name != DATASOURCE));
            asked.to_string()
        });
        let mut matchers = vec![Matcher::equal(PUSHED, &text)];
        matchers.extend(source.map(|name| Matcher::equal(DATASOURCE, name)));
        if let ExprKind::VectorSelector(plain) = &expr.kind
            && let Some(offset_ms) = offset_ms(&plain.modifiers)
        {
            let own = plain.matchers.iter().filter(|m| &*m.name != DATASOURCE);
            matchers.extend(own.cloned());
            let offset = || Matcher::equal(PUSHED_OFFSET, &offset_ms.to_string());
            matchers.extend((offset_ms != 0).then(offset));
        }
        matchers.extend(push.may_change.then(|| Matcher::equal(PUSHED_FOR, push.class())));
        let selector = VectorSelector {
            name: None,
            matchers,
            modifiers: Modifiers::default(),
            extension: None,
            bypass_empty_check: true,
        };
        Expr { span: expr.span.clone(), kind: ExprKind::VectorSelector(selector) }
    }

    /// An aggregation made by each shard for itself, and what puts the results together.
    fn combined(&self, expr: &Expr, push: PushDown, source: Option<&str>) -> Option<Expr> {
        let ExprKind::Aggregate(aggregate) = &expr.kind else { return None };
        let (_, by) = COMBINED.iter().find(|(name, _)| *name == aggregate.op.name)?;
        let mut grouping = aggregate.grouping.clone();
        if let Grouping::Without(names) = &mut grouping {
            names.push(SHARD.to_owned());
        }
        let op = crate::aggregations::find(by)?;
        // What is aggregated must lie within one shard: joins may not.
        let mut joins = false;
        aggregate.expr.walk(&mut |expr| {
            let nested = matches!(&expr.kind, ExprKind::Aggregate(_));
            let join = matches!(&expr.kind, ExprKind::Binary(b) if b.matching.is_some());
            joins |= nested || join;
        });
        if joins {
            return None;
        }
        let expr_here = self.leaf(expr, push, source);
        let outer = Aggregate { op, param: None, expr: expr_here, grouping };
        Some(Expr { span: expr.span.clone(), kind: ExprKind::Aggregate(Box::new(outer)) })
    }
}

/// The expression without parentheses around it.
fn inside(expr: &mut Expr) -> &mut Expr {
    if !matches!(expr.kind, ExprKind::Paren(_)) {
        return expr;
    }
    let ExprKind::Paren(inner) = &mut expr.kind else {
        unreachable!("BUG: it has just been one in parentheses")
    };
    inside(inner)
}

/// What samples alone do not tell: which series a server sees at a step.
fn at_steps(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::VectorSelector(_) => true,
        ExprKind::Call(call) if call.function.name == "timestamp" => {
            matches!(call.args[0].kind, ExprKind::VectorSelector(_))
        }
        _ => false,
    }
}

/// A selector that any server understands: old names, durations as numbers with units.
fn plain(selector: &VectorSelector) -> bool {
    let VectorSelector { matchers, modifiers, extension, bypass_empty_check, .. } = selector;
    let named = |m: &Matcher| {
        let name = &*m.name;
        is_legacy_label_name(name)
            && (name != METRIC_NAME || m.metric_name().is_none_or(is_legacy_metric_name))
            && !matches!(name, PUSHED | PUSHED_FOR | PUSHED_OFFSET | SHARD)
    };
    extension.is_none() && !bypass_empty_check && fixed(modifiers) && matchers.iter().all(named)
}

fn fixed(modifiers: &Modifiers) -> bool {
    modifiers.offset.as_ref().is_none_or(written)
        && !matches!(modifiers.at, Some(AtModifier::Start | AtModifier::End))
}

/// How far modifiers move a selector; `None` when they pin it to a time.
fn offset_ms(modifiers: &Modifiers) -> Option<i64> {
    fn ms(duration: &DurationExpr) -> Option<i64> {
        match &duration.kind {
            // Durations are written in whole milliseconds.
            DurationKind::Number(number) => Some((number.value * 1000.0).round() as i64),
            DurationKind::Unary { op: UnaryOp::Minus, expr } => ms(expr).map(|ms| -ms),
            DurationKind::Unary { op: UnaryOp::Plus, expr } => ms(expr),
            _ => None,
        }
    }
    match (&modifiers.at, &modifiers.offset) {
        (Some(_), _) => None,
        (None, None) => Some(0),
        (None, Some(offset)) => ms(offset),
    }
}

/// A duration that was written as one.
fn written(duration: &DurationExpr) -> bool {
    match &duration.kind {
        DurationKind::Number(number) => number.duration,
        DurationKind::Unary { expr, .. } => written(expr),
        _ => false,
    }
}

/// Whether Prometheus answers an expression as it is answered here, and shows by an empty
/// answer that there was nothing to look at.
fn promql(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::VectorSelector(_) => true,
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => promql(inner),
        ExprKind::Number(number) => !number.duration,
        ExprKind::String(_) => true,
        ExprKind::Call(call) => {
            let name = call.function.name;
            let args = || call.args.iter();
            let literal = |arg: &Expr| {
                matches!(arg.value_type(), ValueType::Scalar | ValueType::String) && constant(arg)
            };
            let range = |arg: &Expr| match &arg.kind {
                ExprKind::MatrixSelector(MatrixSelector { range, .. }) => written(range),
                ExprKind::Subquery(sub) => {
                    written(&sub.range)
                        && sub.step.as_ref().is_some_and(written)
                        && fixed(&sub.modifiers)
                        && promql(&sub.expr)
                }
                _ => false,
            };
            match name {
                "timestamp" => args().all(|arg| matches!(arg.kind, ExprKind::VectorSelector(_))),
                _ if OVER_RANGES.contains(&name) => args().all(|arg| literal(arg) || range(arg)),
                _ if OF_VECTORS.contains(&name) => args().all(|arg| literal(arg) || promql(arg)),
                _ => false,
            }
        }
        ExprKind::Aggregate(aggregate) => {
            AGGREGATORS.contains(&aggregate.op.name)
                && aggregate.param.as_ref().is_none_or(constant)
                && old_names(&aggregate.grouping)
                && promql(&aggregate.expr)
        }
        ExprKind::Binary(binary) => {
            let op = binary.op;
            let arithmetic = !op.is_comparison() && !op.is_set() && !op.is_trim();
            let matched = binary.matching.as_ref().is_none_or(|m| {
                m.fill_left.is_none()
                    && m.fill_right.is_none()
                    && m.labels.iter().chain(&m.include).all(|name| is_legacy_label_name(name))
            });
            arithmetic && matched && promql(&binary.lhs) && promql(&binary.rhs)
        }
        ExprKind::MatrixSelector(_) | ExprKind::Subquery(_) => false,
    }
}

fn old_names(grouping: &Grouping) -> bool {
    let (Grouping::By(names) | Grouping::Without(names)) = grouping;
    names.iter().all(|name| is_legacy_label_name(name))
}

/// A scalar or text that needs neither time nor series.
fn constant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(number) => !number.duration,
        ExprKind::String(_) => true,
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => constant(inner),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::parser::{self, ParserOptions};
    use crate::storage::{LabelAnswer, LabelRequest, SelectRequest, SeriesSet, StorageError};

    /// Datasources by name: what each evaluates.
    struct Several;

    impl Source for Several {
        fn select<'a>(
            &'a self,
            _: &'a SelectRequest,
        ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
            Box::pin(async { Ok(SeriesSet::default()) })
        }

        fn label_names<'a>(
            &'a self,
            _: &'a LabelRequest,
        ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
            Box::pin(async { Ok(LabelAnswer::default()) })
        }

        fn label_values<'a>(
            &'a self,
            _: &'a str,
            _: &'a LabelRequest,
        ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
            Box::pin(async { Ok(LabelAnswer::default()) })
        }

        fn push_down(&self, datasource: Option<&str>) -> Option<PushDown> {
            let of = |dialect, whole, sharded| {
                Some(PushDown { dialect, whole, sharded, may_change: false })
            };
            match datasource? {
                "prom" => of(Dialect::PromQl, true, false),
                "here" => of(Dialect::PromQl, false, false),
                "vm" => of(Dialect::MetricsQl, true, false),
                "shards" => of(Dialect::PromQl, true, true),
                _ => None,
            }
        }
    }

    /// What is evaluated here, with `<...>` around what is pushed down.
    fn shown(expr: &Expr) -> String {
        let text = expr.to_string();
        let mut out = String::new();
        let mut rest = text.as_str();
        // Matchers are printed by name.
        let head = format!("\",{PUSHED}=\"");
        while let Some((before, after)) = rest.split_once(&head) {
            let (before, _) = before.rsplit_once("{__datasource__=").unwrap();
            let end = |(at, _): &(usize, &str)| !after[..*at].ends_with('\\');
            let (end, _) = after.match_indices("\"}").find(end).unwrap();
            out += &format!("{before}<{}>", after[..end].replace("\\\"", "\""));
            rest = &after[end + 2..];
        }
        out + rest
    }

    fn check(datasource: &str, text: &str, expected: &str) {
        let options = ParserOptions { experimental_functions: true, ..ParserOptions::default() };
        let mut expr = parser::parse(text, &options).unwrap();
        expr.ask_datasource(datasource);
        let target = PushTarget {
            source: Arc::new(Several),
            written_here: Some(Arc::new(|m: &[Matcher]| {
                m.iter().any(|m| m.metric_name().is_some_and(|name| name.contains(':')))
            })),
        };
        let out = rewritten(&expr, &target, &EngineOptions::default());
        let out = out.map_or_else(|| "nothing".to_owned(), |out| shown(&out));
        assert_eq!(out, expected, "{datasource}: {text}");
    }

    #[test]
    fn the_largest_parts_prometheus_answers_alike_are_pushed() {
        let check = |text: &str, expected: &str| check("prom", text, expected);
        check("up", "<up>");
        check("sum by (job) (rate(a[5m])) > 0.5", "<sum by (job) (rate(a[5m]))> > 0.5");
        check("sum(rate(a[5m])) / sum(rate(b[5m]))", "<sum(rate(a[5m])) / sum(rate(b[5m]))>");
        check("a > b", "<a> > <b>");
        check("a and on (x) b unless c", "<a> and on (x) <b> unless <c>");
        check("topk(3, sum by (x) (a))", "topk(3, <sum by (x) (a)>)");
        check("absent(a)", "nothing");
        check("absent(sum(a))", "absent(sum(<a>))");
        check("absent_over_time(a[5m])", "nothing");
        check("timestamp(a)", "<timestamp(a)>");
        check("time() - a", "time() - <a>");
        check("-a ^ 2", "<-a ^ 2>");
        check("max_over_time(rate(a[5m])[1h:1m])", "<max_over_time(rate(a[5m])[1h:1m])>");
        // Whose step is the server's own default.
        check("max_over_time(rate(a[5m])[1h:])", "nothing");
        check("a offset 5m @ 100", "<a @ 100.000 offset 5m>");
        check("a @ end()", "nothing");
        check("rate(a[300])", "nothing");
        check("job:a:sum / b", "job:a:sum{__datasource__=\"prom\"} / <b>");
        check(
            "histogram_quantile(0.9, sum by (le) (rate(a[5m])))",
            "<histogram_quantile(0.9, sum by (le) (rate(a[5m])))>",
        );
        check("mad_over_time(a[5m])", "nothing");
        check("{\"utf-8 name\"}", "nothing");
        check("scalar(sum(a)) * b", "scalar(<sum(a)>) * <b>");
        check("sum(a{__datasource__=\"here\"}) / sum(a)", "sum(<a>) / <sum(a)>");
        check("sum(a{__datasource__=~\"h.*\"})", "nothing");
    }

    #[test]
    fn what_is_evaluated_here_still_asks_which_series_there_are() {
        let check = |text: &str, expected: &str| check("here", text, expected);
        check("sum by (job) (rate(a[5m])) > 0.5", "nothing");
        check("sum(a) > timestamp(b)", "sum(<a>) > <timestamp(b)>");
        check("timestamp((a))", "nothing");
        check("max_over_time(a[1h:1m])", "nothing");
    }

    #[test]
    fn a_selector_alone_stands_beside_its_text() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let mut expr = parser::parse(text, &ParserOptions::default()).unwrap();
            expr.ask_datasource("here");
            let target = PushTarget { source: Arc::new(Several), written_here: None };
            let out = rewritten(&expr, &target, &EngineOptions::default()).unwrap();
            let ExprKind::VectorSelector(out) = out.kind else { panic!("{text}") };
            let beside = out.matchers.iter().filter(|m| !matches!(&*m.name, PUSHED | DATASOURCE));
            let beside: Vec<_> = beside.map(|m| (&*m.name, &*m.value)).collect();
            assert_eq!(beside, expected, "{text}");
        };
        check("up{job='x'}", &[("job", "x"), ("__name__", "up")]);
        let offset = (PUSHED_OFFSET, "300000");
        check("up offset 5m", &[("__name__", "up"), offset]);
        check("up offset -1m30s", &[("__name__", "up"), (PUSHED_OFFSET, "-90000")]);
        check("up @ 100", &[]);
        check("timestamp(up)", &[]);
    }

    #[test]
    fn victoriametrics_is_asked_for_aggregations_in_its_own_words() {
        let check = |text: &str, expected: &str| check("vm", text, expected);
        check("sum by (job) (a)", "<sum by (job) (default_rollup(a[5m]))>");
        check("max(changes(a[5m])) / 2", "<(max(changes_prometheus(a[5m]))) / (2)>");
        check("sum(a) / sum(b)", "<sum(default_rollup(a[5m]))> / <sum(default_rollup(b[5m]))>");
        check("count(sum by (x) (a))", "count(<sum by (x) (default_rollup(a[5m]))>)");
        check("count(max by (x) (a))", "<count(max by (x) (default_rollup(a[5m])))>");
        check("quantile(2, a)", "nothing");
        check("sum(stddev_over_time(a[5m]))", "nothing");
        check("sum by (__name__) (a)", "nothing");
        check("sum(last_over_time({x=\"y\"}[5m]))", "nothing");
        check("sum(max_over_time(a[5m])) > 1", "<sum(max_over_time(a[5m]))> > 1");
        check("sum(rate(a[5m]))", "nothing");
        check("a", "nothing");
        check("max_over_time(a[5m])", "nothing");
        check("sum(max_over_time(a[5m] @ 5))", "nothing");
    }

    #[test]
    fn aggregations_of_shards_are_put_together_here() {
        let check = |text: &str, expected: &str| check("shards", text, expected);
        check("count by (job) (rate(a[5m]))", "sum by (job) (<count by (job) (rate(a[5m]))>)");
        check(
            "max without (x) (a) > 1",
            "max without (x, __watchfire_shard__) (<max without (x) (a)>) > 1",
        );
        check("sum(a) / sum(b)", "sum(<sum(a)>) / sum(<sum(b)>)");
        check("avg(a)", "nothing");
        check("sum(a * on (x) b)", "nothing");
        check("a", "nothing");
    }
}
