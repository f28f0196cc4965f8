//! Syntax tree to plan. The tree has been checked, so lowering cannot fail; what a query
//! gets wrong only when it runs (a bad regex in `label_replace`) stays in the node.

use super::PlanOptions;
use super::node::{
    Aggregate, Choose, Emit, Hints, HistogramQuantiles, Info, Join, LabelReplace, NameDrop, Node,
    Overlap, QueryTime, RangeCall, RangeSource, Select, Subquery, VectorScalar,
};
use crate::aggregations::AggregatorKernel;
use crate::functions::{Kernel, LabelEffect, Operator};
use crate::model::regex::GoRegex;
use crate::model::value::ValueType;
use crate::model::{METRIC_NAME, MatchOp, Matcher};
use crate::parser::ast::{
    self, BinaryOp, Call, DurationExpr, DurationKind, DurationOp, Expr, ExprKind, Grouping,
    Modifiers, Span, UnaryOp,
};

/// Lowers a checked expression. Selector and subquery numbers are given out later.
pub(super) fn lower(expr: &Expr, options: PlanOptions) -> Node {
    let lowering = Lowering { options };
    let root = lowering.expr(expr, &Hints::default());
    if !options.delayed_name_removal {
        return root;
    }
    match root {
        // The names of a subquery's result go where its series are made.
        Node::RangeResult(RangeSource::Subquery(mut sub)) => {
            sub.input = drop_marked(sub.input);
            Node::RangeResult(RangeSource::Subquery(sub))
        }
        root if expr.value_type() == ValueType::InstantVector => drop_marked(root),
        root => root,
    }
}

/// Delayed name removal: the names of marked series go, and what then coincides merges.
fn drop_marked(root: Node) -> Node {
    let input = Box::new(Node::DropName { input: Box::new(root), how: NameDrop::Marked });
    Node::MergeDuplicates { input, overlap: Overlap::SameStep }
}

struct Lowering {
    options: PlanOptions,
}

impl Lowering {
    fn expr(&self, expr: &Expr, hints: &Hints) -> Node {
        match &expr.kind {
            ExprKind::Number(n) => Node::Number(n.value),
            ExprKind::String(text) => Node::Text(text.clone()),
            ExprKind::VectorSelector(selector) => {
                Node::Select(vector_select(selector, expr.span.clone(), hints))
            }
            ExprKind::MatrixSelector(_) | ExprKind::Subquery(_) => {
                Node::RangeResult(self.range_source(expr, hints))
            }
            ExprKind::Call(call) => self.call(call, &expr.span, hints),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, expr),
            ExprKind::Binary(binary) => self.binary(binary, expr.span.clone()),
            ExprKind::Unary { op: UnaryOp::Plus, expr } => self.expr(expr, hints),
            ExprKind::Unary { op: UnaryOp::Minus, expr: inner } => {
                let input = Box::new(self.expr(inner, hints));
                if inner.value_type() == ValueType::Scalar {
                    return Node::ScalarNegate(input);
                }
                self.names(Node::Negate(input), LabelEffect::DropMetadata, Overlap::SameStep)
            }
            ExprKind::Paren(inner) => self.expr(inner, hints),
        }
    }

    fn boxed(&self, expr: &Expr, hints: &Hints) -> Box<Node> {
        Box::new(self.expr(expr, hints))
    }

    /// Puts the name drop and the merge that it makes necessary above a node.
    fn names(&self, node: Node, effect: LabelEffect, overlap: Overlap) -> Node {
        let how = match effect {
            LabelEffect::Keep | LabelEffect::Own => return node,
            _ if self.options.delayed_name_removal => {
                return Node::DropName { input: Box::new(node), how: NameDrop::Mark };
            }
            LabelEffect::DropMetadata => NameDrop::Metadata,
            LabelEffect::DropName => NameDrop::Name,
        };
        let input = Box::new(Node::DropName { input: Box::new(node), how });
        Node::MergeDuplicates { input, overlap }
    }

    fn merged(node: Node) -> Node {
        Node::MergeDuplicates { input: Box::new(node), overlap: Overlap::SameStep }
    }

    fn range_source(&self, expr: &Expr, hints: &Hints) -> RangeSource {
        match &expr.kind {
            ExprKind::MatrixSelector(matrix) => {
                let mut select = vector_select(&matrix.selector, expr.span.clone(), hints);
                select.range = Some(matrix.range.clone());
                RangeSource::Select(select)
            }
            ExprKind::Subquery(sub) => RangeSource::Subquery(Box::new(Subquery {
                id: 0,
                input: self.expr(&sub.expr, hints),
                range: sub.range.clone(),
                step: sub.step.clone(),
                offset: sub.modifiers.offset.clone(),
                at: sub.modifiers.at,
            })),
            ExprKind::Paren(inner) => self.range_source(inner, hints),
            _ => unreachable!("BUG: the checker lets only ranges and subqueries be range vectors"),
        }
    }

    fn call(&self, call: &Call, whole: &Span, outer: &Hints) -> Node {
        let function = call.function;
        let hints = Hints { function: function.name, ..Hints::default() };
        let arg = |i: usize| self.expr(&call.args[i], &hints);
        let overlap = match function.kernel {
            Kernel::Range { .. } => Overlap::Always,
            _ => Overlap::SameStep,
        };
        let node = match function.kernel {
            Kernel::Operator(operator) => return self.operator(operator, call, whole, outer),
            Kernel::Scalar(_) => {
                let args = (0..call.args.len()).map(arg).collect();
                return Node::ScalarCall { function, args };
            }
            Kernel::Range { .. } => {
                let is_range = |e: &&Expr| e.value_type() == ValueType::RangeVector;
                let vector = call.args.iter().find(is_range);
                let vector = vector.expect("BUG: a range function has a range argument");
                let scalars = call.args.iter().filter(|e| !is_range(e));
                Node::Range(Box::new(RangeCall {
                    function,
                    source: self.range_source(vector, &hints),
                    param_span: scalars.clone().next().map_or(0..0, |e| e.span.clone()),
                    scalars: scalars.map(|e| self.expr(e, &hints)).collect(),
                    span: vector.span.clone(),
                }))
            }
            Kernel::Calendar(_) if call.args.is_empty() => Node::Map {
                function,
                input: Box::new(Node::VectorOf(Box::new(Node::EvalTime))),
                scalars: vec![],
            },
            Kernel::Map(_)
            | Kernel::MapWith(_)
            | Kernel::FromHistogram(_)
            | Kernel::Calendar(_) => Node::Map {
                function,
                input: Box::new(arg(0)),
                scalars: (1..call.args.len()).map(arg).collect(),
            },
        };
        self.names(node, function.labels, overlap)
    }

    fn operator(&self, operator: Operator, call: &Call, whole: &Span, outer: &Hints) -> Node {
        let hints = Hints { function: call.function.name, ..Hints::default() };
        let arg = |i: usize| self.boxed(&call.args[i], &hints);
        let span = |i: usize| call.args[i].span.clone();
        let text = |i: usize| text_of(&call.args[i]);
        let texts = |from: usize| call.args[from..].iter().map(text_of).collect();
        let quantiles = |range: std::ops::Range<usize>| {
            range.map(|i| (self.expr(&call.args[i], &hints), call.args[i].span.clone())).collect()
        };
        let node = match operator {
            Operator::Time => return Node::EvalTime,
            Operator::QueryStart => return Node::QueryTime(QueryTime::Start),
            Operator::QueryEnd => return Node::QueryTime(QueryTime::End),
            Operator::QueryRange => return Node::QueryTime(QueryTime::Range),
            Operator::QueryStep => return Node::QueryTime(QueryTime::Step),
            Operator::Scalar => return Node::ScalarOf(arg(0)),
            Operator::Vector => return Node::VectorOf(arg(0)),
            Operator::Timestamp => sample_time(*arg(0), &call.args[0], Emit::Timestamp),
            Operator::StartTimestamp => sample_time(*arg(0), &call.args[0], Emit::StartTimestamp),
            Operator::Absent => {
                return Node::Absent { input: arg(0), labels: absent_labels(&call.args[0]) };
            }
            Operator::AbsentOverTime => {
                return Node::AbsentOverTime {
                    source: self.range_source(&call.args[0], &hints),
                    labels: absent_labels(&call.args[0]),
                };
            }
            Operator::HistogramQuantile => Self::quantiles(quantiles(0..1), None, *arg(1), span(1)),
            Operator::HistogramQuantiles => {
                let all = quantiles(2..call.args.len());
                Self::quantiles(all, Some(text(1)), *arg(0), span(0))
            }
            Operator::HistogramFraction => Node::HistogramFraction {
                lower: arg(0),
                upper: arg(1),
                input: arg(2),
                span: span(2),
            },
            Operator::LabelReplace => {
                let regex = compile(&text(4));
                return Self::merged(Node::LabelReplace(Box::new(LabelReplace {
                    input: *arg(0),
                    target: text(1),
                    replacement: text(2),
                    source: text(3),
                    regex,
                })));
            }
            Operator::LabelJoin => {
                let (target, separator, sources) = (text(1), text(2), texts(3));
                return Self::merged(Node::LabelJoin { input: arg(0), target, separator, sources });
            }
            Operator::Sort { descending } => {
                return Node::Sort { input: arg(0), descending, span: whole.clone() };
            }
            Operator::SortByLabel { descending } => {
                let labels = texts(1);
                let span = whole.clone();
                return Node::SortByLabel { input: arg(0), labels, descending, span };
            }
            Operator::Info => return self.info(call, outer),
        };
        self.names(node, call.function.labels, Overlap::SameStep)
    }

    fn quantiles(
        quantiles: Vec<(Node, Span)>,
        label: Option<String>,
        input: Node,
        span: Span,
    ) -> Node {
        Node::HistogramQuantiles(Box::new(HistogramQuantiles { quantiles, label, input, span }))
    }

    fn aggregate(&self, aggregate: &ast::Aggregate, expr: &Expr) -> Node {
        let (by, grouping) = match &aggregate.grouping {
            Grouping::By(labels) => (true, labels.clone()),
            Grouping::Without(labels) => (false, labels.clone()),
        };
        let hints = Hints { function: aggregate.op.name, grouping, by };
        let input = self.expr(&aggregate.expr, &hints);
        let param = aggregate.param.as_ref();
        let param_span = param.map_or(0..0, |e| e.span.clone());
        let grouping = aggregate.grouping.clone();
        let op = aggregate.op;
        match op.kernel {
            AggregatorKernel::Fold(_) => Node::Aggregate(Box::new(Aggregate {
                op,
                input,
                param: param.map(|e| self.expr(e, &hints)),
                grouping,
                span: aggregate.expr.span.clone(),
                param_span,
            })),
            AggregatorKernel::Select(selection) => Node::Choose(Box::new(Choose {
                op,
                selection,
                input,
                param: param.map_or(Node::Number(0.0), |e| self.expr(e, &hints)),
                grouping,
                span: expr.span.clone(),
                param_span,
            })),
            AggregatorKernel::CountValues => Node::CountValues {
                input: Box::new(input),
                label: param.map(text_of).unwrap_or_default(),
                grouping,
            },
        }
    }

    fn binary(&self, binary: &ast::Binary, span: Span) -> Node {
        let hints = Hints::default();
        let op = binary.op;
        let types = (binary.lhs.value_type(), binary.rhs.value_type());
        let (lhs, rhs) = (self.expr(&binary.lhs, &hints), self.expr(&binary.rhs, &hints));
        let return_bool = binary.return_bool;
        let drops_name = !(op.is_comparison() || op.is_trim()) || return_bool;
        match types {
            (ValueType::Scalar, ValueType::Scalar) => {
                Node::ScalarBinary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) }
            }
            (left, ValueType::Scalar) | (ValueType::Scalar, left) => {
                let scalar_on_left = left == types.1 && types.0 == ValueType::Scalar;
                let (vector, scalar) = if scalar_on_left { (rhs, lhs) } else { (lhs, rhs) };
                let node = Node::VectorScalar(Box::new(VectorScalar {
                    op,
                    vector,
                    scalar,
                    scalar_on_left,
                    return_bool,
                    span,
                }));
                let effect = if drops_name { LabelEffect::DropMetadata } else { LabelEffect::Keep };
                self.names(node, effect, Overlap::SameStep)
            }
            _ => {
                let matching = binary.matching.clone();
                let matching = matching.expect("BUG: two vectors always have a matching");
                if op.is_set() {
                    let (lhs, rhs) = (Box::new(lhs), Box::new(rhs));
                    let (on, labels) = (matching.on, matching.labels);
                    let node = Node::SetOp { op, lhs, rhs, on, labels };
                    return if op == BinaryOp::Or { Self::merged(node) } else { node };
                }
                let delayed_names = self.options.delayed_name_removal;
                let join = Join { op, lhs, rhs, matching, return_bool, delayed_names, span };
                Node::Join(Box::new(join))
            }
        }
    }

    /// `info(v, {...})`: the info series are selected where the first selector of `v` looks.
    fn info(&self, call: &Call, hints: &Hints) -> Node {
        let input = self.expr(&call.args[0], hints);
        let written = match call.args.get(1).map(|e| &e.kind) {
            Some(ExprKind::VectorSelector(selector)) => selector.matchers.clone(),
            _ => vec![],
        };
        let (mut name_matchers, data_matchers): (Vec<_>, Vec<_>) =
            written.into_iter().partition(|m| &*m.name == METRIC_NAME);
        if name_matchers.is_empty() {
            name_matchers.push(Matcher::equal(METRIC_NAME, "target_info"));
        } else if name_matchers
            .iter()
            .all(|m| matches!(m.op, MatchOp::NotEqual | MatchOp::NotRegex))
            && let Ok(default) = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info")
        {
            name_matchers.push(default);
        }
        let modifiers = first_modifiers(&call.args[0]).unwrap_or_default();
        let select = Select {
            id: 0,
            matchers: name_matchers.iter().chain(&data_matchers).cloned().collect(),
            offset: modifiers.offset,
            at: modifiers.at,
            extension: None,
            range: None,
            emit: Emit::FloatTimestamp,
            stats_only: false,
            span: call.args[0].span.clone(),
            hints: Hints { function: "info", ..Hints::default() },
        };
        Node::Info(Box::new(Info { input, select, data_matchers, name_matchers }))
    }
}

fn vector_select(selector: &ast::VectorSelector, span: Span, hints: &Hints) -> Select {
    Select {
        id: 0,
        matchers: selector.matchers.clone(),
        offset: selector.modifiers.offset.clone(),
        at: selector.modifiers.at,
        extension: selector.extension,
        range: None,
        emit: Emit::Value,
        stats_only: false,
        span,
        hints: hints.clone(),
    }
}

/// `timestamp` and `start_timestamp` see the sample itself only of a selector.
fn sample_time(input: Node, written: &Expr, emit: Emit) -> Node {
    let mut written = written;
    while let ExprKind::Paren(inner) = &written.kind {
        written = inner;
    }
    match input {
        // What `+v` yields are no samples of a selector.
        Node::Select(select) if matches!(written.kind, ExprKind::VectorSelector(_)) => {
            Node::Select(Select { emit, ..select })
        }
        other if emit == Emit::Timestamp => Node::StepTime(Box::new(other)),
        other => Node::Nothing(Box::new(other)),
    }
}

fn compile(source: &str) -> Result<GoRegex, String> {
    GoRegex::anchored(source)
        .map_err(|_| format!("invalid regular expression in label_replace(): {source}"))
}

/// A string argument; parentheses are allowed.
fn text_of(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::String(text) => text.clone(),
        ExprKind::Paren(inner) => text_of(inner),
        _ => String::new(),
    }
}

/// The labels `absent` gives its result: those the selector pins to one value.
fn absent_labels(expr: &Expr) -> Vec<(String, String)> {
    let matchers = match &expr.kind {
        ExprKind::VectorSelector(selector) => &selector.matchers,
        ExprKind::MatrixSelector(matrix) => &matrix.selector.matchers,
        ExprKind::Paren(inner) => return absent_labels(inner),
        _ => return vec![],
    };
    let mut labels: Vec<(String, String)> = vec![];
    let mut set: Vec<&str> = vec![];
    // In the order written: the first value of a label stands until another matcher of that
    // label takes it away, and does not come back.
    for matcher in matchers.iter().filter(|m| &*m.name != METRIC_NAME) {
        let name = &*matcher.name;
        if matcher.op == MatchOp::Equal && !set.contains(&name) {
            set.push(name);
            labels.push((name.to_owned(), matcher.value.to_string()));
        } else {
            labels.retain(|(other, _)| other != name);
        }
    }
    labels
}

/// Where the first selector of an expression looks: its own modifiers, within those of the
/// subqueries around it.
fn first_modifiers(expr: &Expr) -> Option<Modifiers> {
    match &expr.kind {
        ExprKind::VectorSelector(selector) => Some(selector.modifiers.clone()),
        ExprKind::MatrixSelector(matrix) => Some(matrix.selector.modifiers.clone()),
        ExprKind::Subquery(sub) => {
            let inner = first_modifiers(&sub.expr)?;
            if inner.at.is_some() {
                return Some(inner);
            }
            let offset = match (sub.modifiers.offset.clone(), inner.offset) {
                (Some(outer), Some(inner)) => Some(DurationExpr {
                    span: outer.span.start..inner.span.end,
                    kind: DurationKind::Binary {
                        op: DurationOp::Add,
                        lhs: Box::new(outer),
                        rhs: Box::new(inner),
                    },
                }),
                (outer, inner) => outer.or(inner),
            };
            Some(Modifiers { offset, at: sub.modifiers.at })
        }
        ExprKind::Call(call) => call.args.iter().find_map(first_modifiers),
        ExprKind::Aggregate(a) => {
            a.param.as_ref().and_then(first_modifiers).or_else(|| first_modifiers(&a.expr))
        }
        ExprKind::Binary(b) => first_modifiers(&b.lhs).or_else(|| first_modifiers(&b.rhs)),
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => first_modifiers(expr),
        ExprKind::Number(_) | ExprKind::String(_) => None,
    }
}
