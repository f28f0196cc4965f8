//! Pairs to the typed tree. Precedence is climbed here over the grammar's flat lists, with
//! explicit stacks, so that long chains cost no native stack; recursion follows brackets
//! only, which the caller has limited. What the grammar let through but PromQL does not
//! know (a function with `by`, a keyword as metric name) ends in [`NotPromql`], and
//! `diagnose` finds the words for it.

use super::NESTING_MAX;
use super::ast::*;
use super::check::{Argument, Checker};
use super::diagnostic::ParseError;
use super::syntax::{Pair, Pairs, Rule};
use super::{ParserOptions, literal};
use crate::functions::{self, Stability};
use crate::{aggregations, model};

mod chain;
mod duration;
mod postfix;
mod selector;

pub(super) use chain::BinaryModifiers;
pub(super) use duration::{DurationNode, DurationStack};

/// The text is not PromQL although the grammar's wider shape accepted it.
#[derive(Debug)]
pub(super) struct NotPromql;

type Built<T> = Result<T, NotPromql>;

/// An expression under construction, with what would be costly to ask the tree for.
pub(super) struct Node {
    expr: Expr,
    value_type: ValueType,
    depth: usize,
    /// A range on something that is no selector: already reported, but later modifiers
    /// report again, as Prometheus does.
    bad_range: bool,
}

impl Node {
    fn leaf(span: Span, kind: ExprKind, value_type: ValueType) -> Self {
        Self { expr: Expr { span, kind }, value_type, depth: 1, bad_range: false }
    }

    /// Stands for what is read only to find out what is wrong with it.
    pub(super) fn opaque(span: Span) -> Self {
        placeholder(span, ValueType::InstantVector)
    }

    /// A selector of which only the place matters.
    pub(super) fn bare_selector(span: Span) -> Self {
        let selector = VectorSelector {
            name: None,
            matchers: Vec::new(),
            modifiers: Modifiers::default(),
            extension: None,
            bypass_empty_check: false,
        };
        Self::leaf(span, ExprKind::VectorSelector(selector), ValueType::InstantVector)
    }

    pub(super) fn span(&self) -> Span {
        self.expr.span.clone()
    }
}

impl Argument {
    fn of(node: &Node) -> Self {
        Self { span: node.span(), value_type: node.value_type }
    }
}

/// What building an expression yields beside the tree.
pub(super) struct Outcome {
    pub expr: Expr,
    /// Problems of form, in the order met.
    pub syntax: Vec<ParseError>,
    /// Problems of type, in the order Prometheus' type checker meets them; meaningful only
    /// when there is no problem of form.
    pub types: Vec<ParseError>,
    /// Where the tree went deeper than [`NESTING_MAX`] and was cut off.
    pub too_deep: Option<Span>,
}

/// Builds the tree of a `query` pair.
pub(super) fn query(pair: Pair<'_>, text: &str, options: &ParserOptions) -> Built<Outcome> {
    let mut builder = Builder::new(text, options);
    let expr = pair.into_inner().next().ok_or(NotPromql)?;
    let node = builder.expr(expr)?;
    Ok(Outcome {
        expr: node.expr,
        syntax: builder.syntax,
        types: builder.checker.errors,
        too_deep: builder.too_deep,
    })
}

/// Builds the matchers of a `selector_query` pair.
pub(super) fn selector_query(
    pair: Pair<'_>,
    text: &str,
) -> Built<(Vec<model::Matcher>, Vec<ParseError>)> {
    let options = ParserOptions::all();
    let mut builder = Builder::new(text, &options);
    let selector = pair.into_inner().next().ok_or(NotPromql)?;
    let mut parts = selector.into_inner().peekable();
    let name = match parts.next_if(|p| p.as_rule() == Rule::ident) {
        Some(ident) => Some(selector::metric_name(&ident)?.to_owned()),
        None => None,
    };
    let selector = builder.selector(name, parts.next())?;
    Ok((selector.matchers, builder.syntax))
}

/// Builds the label set of a `metric_query` pair.
pub(super) fn metric_query(pair: Pair<'_>) -> Built<model::Labels> {
    let metric = pair.into_inner().next().ok_or(NotPromql)?;
    selector::metric(metric.into_inner())
}

/// The value of a `string` pair. U+FFFD stands for broken UTF-8, which no string may hold.
fn string(pair: &Pair<'_>) -> Built<String> {
    let text = pair.as_str();
    if text.contains('\u{FFFD}') {
        return Err(NotPromql);
    }
    literal::unquote(text).map_err(|_| NotPromql)
}

/// Byte span of a pair.
fn span(pair: &Pair<'_>) -> Span {
    let span = pair.as_span();
    span.start() as u32..span.end() as u32
}

/// Makes nodes and notes what is wrong with them. `diagnose` shares the making.
pub(super) struct Builder<'a> {
    options: &'a ParserOptions,
    pub(super) syntax: Vec<ParseError>,
    checker: Checker<'a>,
    too_deep: Option<Span>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(text: &'a str, options: &'a ParserOptions) -> Self {
        Self { options, syntax: Vec::new(), checker: Checker::new(text), too_deep: None }
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.syntax.push(ParseError { span, message: message.into() });
    }

    /// A node above children of depth `below`. One that would be too deep becomes a leaf of
    /// the same type, so no tree ever is, and the error is reported at the end.
    fn node(&mut self, span: Span, kind: ExprKind, value_type: ValueType, below: usize) -> Node {
        let depth = below + 1;
        if depth <= NESTING_MAX {
            return Node { expr: Expr { span, kind }, value_type, depth, bad_range: false };
        }
        self.too_deep.get_or_insert(span.clone());
        placeholder(span, value_type)
    }

    /// One operand without signs and modifiers.
    fn primary(&mut self, pair: Pair<'_>) -> Built<Node> {
        let span = span(&pair);
        match pair.as_rule() {
            Rule::number | Rule::duration => {
                let number = self.number(&pair);
                Ok(Node::leaf(span, ExprKind::Number(number), ValueType::Scalar))
            }
            Rule::string => {
                let value = string(&pair)?;
                Ok(Node::leaf(span, ExprKind::String(value), ValueType::String))
            }
            Rule::paren => {
                let inner = self.expr(pair.into_inner().next().ok_or(NotPromql)?)?;
                let (value_type, below) = (inner.value_type, inner.depth);
                Ok(self.node(span, ExprKind::Paren(Box::new(inner.expr)), value_type, below))
            }
            Rule::matchers => self.selector_node(None, Some(pair), span),
            Rule::named => self.named(pair),
            _ => Err(NotPromql),
        }
    }

    /// The value of a number or duration pair.
    fn number(&mut self, pair: &Pair<'_>) -> NumberLiteral {
        self.number_token(pair.as_str(), pair.as_rule() == Rule::duration, span(pair))
    }

    /// The value of a number or duration token; a bad one is reported and reads as 0.
    pub(super) fn number_token(&mut self, text: &str, duration: bool, span: Span) -> NumberLiteral {
        let value = if duration {
            literal::duration_seconds(text).map_err(|e| e.to_string())
        } else {
            literal::number(text).map_err(|e| format!("error parsing number: {e}"))
        };
        let value = value.unwrap_or_else(|message| {
            self.error(span, message);
            0.0
        });
        NumberLiteral { value, duration }
    }

    fn selector_node(
        &mut self,
        name: Option<String>,
        matchers: Option<Pair<'_>>,
        span: Span,
    ) -> Built<Node> {
        let selector = self.selector(name, matchers)?;
        self.checker.selector(&selector, &span);
        Ok(Node::leaf(span, ExprKind::VectorSelector(selector), ValueType::InstantVector))
    }

    /// What starts with a name: aggregation, call, selector, or a number spelt as a word.
    fn named(&mut self, pair: Pair<'_>) -> Built<Node> {
        let mut parts = pair.into_inner();
        let ident = parts.next().ok_or(NotPromql)?;
        let (next, second) = (parts.next(), parts.next());
        // The pair itself also spans the blanks behind its last part.
        let end = self::span(second.as_ref().or(next.as_ref()).unwrap_or(&ident)).end;
        let span = self::span(&ident).start..end;
        let Some(next) = next else {
            if selector::is_number(ident.as_str()) {
                let number = self.number(&ident);
                return Ok(Node::leaf(span, ExprKind::Number(number), ValueType::Scalar));
            }
            let name = selector::metric_name(&ident)?;
            return self.selector_node(Some(name.to_owned()), None, span);
        };
        if next.as_rule() == Rule::matchers {
            let name = selector::metric_name(&ident)?;
            return self.selector_node(Some(name.to_owned()), Some(next), span);
        }
        if let Some(op) = aggregations::find(ident.as_str()) {
            return self.aggregate(op, next, second, span);
        }
        if next.as_rule() != Rule::args
            || second.is_some()
            || !selector::may_name_function(ident.as_str())
        {
            return Err(NotPromql);
        }
        self.call(&ident, next, span)
    }

    fn aggregate(
        &mut self,
        op: &'static aggregations::AggregatorSpec,
        first: Pair<'_>,
        second: Option<Pair<'_>>,
        span: Span,
    ) -> Built<Node> {
        let (args, grouping) = match (first.as_rule(), second) {
            (Rule::args, grouping) => (first, grouping),
            (_, Some(args)) => (args, Some(first)),
            (_, None) => return Err(NotPromql),
        };
        // Problems are reported in text order, so a grouping in front is read in front.
        let before = match &grouping {
            Some(pair) if pair.as_span().start() < args.as_span().start() => {
                Some(self.grouping(pair.clone())?)
            }
            _ => None,
        };
        let mark = self.checker.mark();
        let mut split = mark;
        let mut built = Vec::new();
        for arg in args.into_inner() {
            if arg.as_rule() == Rule::trailing_comma {
                self.trailing_comma(self::span(&arg));
                continue;
            }
            built.push(self.expr(arg)?);
            if built.len() == 1 {
                split = self.checker.mark();
            }
        }
        let grouping = match (before, grouping) {
            (Some(grouping), _) => grouping,
            (None, Some(pair)) => self.grouping(pair)?,
            (None, None) => Grouping::By(Vec::new()),
        };
        self.finish_aggregate(op, built, grouping, span, mark..split)
    }

    /// Whether an aggregation has as many arguments as it takes.
    pub(super) fn aggregate_arity(
        &mut self,
        op: &aggregations::AggregatorSpec,
        got: usize,
        span: Span,
    ) -> bool {
        if got == 0 {
            self.error(span, "no arguments for aggregate expression provided");
            return false;
        }
        if op.stability == Stability::Experimental && !self.options.experimental_functions {
            self.error(
                span.clone(),
                format!(
                    "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                    op.name
                ),
            );
        }
        let wanted = if op.param.is_some() { 2 } else { 1 };
        if got != wanted {
            self.error(
                span,
                format!(
                    "wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}"
                ),
            );
        }
        got == wanted
    }

    fn finish_aggregate(
        &mut self,
        op: &'static aggregations::AggregatorSpec,
        mut args: Vec<Node>,
        grouping: Grouping,
        span: Span,
        param_errors: std::ops::Range<usize>,
    ) -> Built<Node> {
        let result = ValueType::InstantVector;
        if !self.aggregate_arity(op, args.len(), span.clone()) {
            return Ok(placeholder(span, result));
        }
        let expr = args.pop().ok_or(NotPromql)?;
        let param = args.pop();
        let below = expr.depth.max(param.as_ref().map_or(0, |p| p.depth));
        self.checker.aggregate(
            Argument::of(&expr),
            param.as_ref().map(Argument::of),
            op,
            param_errors,
        );
        let aggregate = Aggregate { op, param: param.map(|p| p.expr), expr: expr.expr, grouping };
        Ok(self.node(span, ExprKind::Aggregate(Box::new(aggregate)), result, below))
    }

    pub(super) fn trailing_comma(&mut self, span: Span) {
        self.error(span, "trailing commas not allowed in function call args");
    }

    fn call(&mut self, ident: &Pair<'_>, args: Pair<'_>, span: Span) -> Built<Node> {
        let name = ident.as_str();
        let function = functions::find(name);
        let mark = self.checker.mark();
        let mut built: Vec<Expr> = Vec::new();
        let mut below = 0;
        for arg in args.into_inner() {
            if arg.as_rule() == Rule::trailing_comma {
                self.trailing_comma(self::span(&arg));
                continue;
            }
            let before = self.checker.mark();
            let mut node = self.expr(arg)?;
            if let Some(function) = function {
                self.checker.argument(
                    function,
                    built.len(),
                    &mut node.expr,
                    node.value_type,
                    before,
                );
            }
            below = below.max(node.depth);
            built.push(node.expr);
        }
        self.callable(name, self::span(ident));
        let Some(function) = function else {
            return Ok(placeholder(span, ValueType::InstantVector));
        };
        self.checker.call(function, &built, &span, mark);
        let call = Call { function, args: built };
        Ok(self.node(span, ExprKind::Call(call), function.returns, below))
    }

    /// Reports a function that is not there, or not enabled.
    pub(super) fn callable(&mut self, name: &str, span: Span) {
        let enabled = self.options.experimental_functions;
        match functions::find(name) {
            None => {
                let quoted = model::labels::quote(name);
                self.error(span, format!("unknown function with name {quoted}"));
            }
            Some(f) if f.stability == Stability::Experimental && !enabled => {
                self.error(span, format!("function \"{name}\" is not enabled"));
            }
            Some(_) => {}
        }
    }

    /// `by (...)` or `without (...)`.
    fn grouping(&mut self, pair: Pair<'_>) -> Built<Grouping> {
        let mut parts = pair.into_inner();
        let word = parts.next().ok_or(NotPromql)?;
        let labels = self.label_list(parts.next())?;
        Ok(if word.as_str().eq_ignore_ascii_case("by") {
            Grouping::By(labels)
        } else {
            Grouping::Without(labels)
        })
    }

    /// Reports a quoted name that cannot be a label's: valid UTF-8 can, but not nothing.
    pub(super) fn quoted_label(&mut self, name: &str, span: Span) {
        if name.is_empty() {
            self.error(span, "invalid label name for grouping: \"\"");
        }
    }

    /// The names in a `label_list` pair.
    fn label_list(&mut self, pair: Option<Pair<'_>>) -> Built<Vec<String>> {
        let mut labels = Vec::new();
        for label in pair.into_iter().flat_map(Pair::into_inner) {
            labels.push(match label.as_rule() {
                Rule::string => {
                    let name = string(&label)?;
                    self.quoted_label(&name, span(&label));
                    name
                }
                _ if selector::may_be_label(label.as_str()) => label.as_str().to_owned(),
                _ => return Err(NotPromql),
            });
        }
        Ok(labels)
    }
}

/// Stands in for what could not be built; never leaves the parser, since there is an error.
fn placeholder(span: Span, value_type: ValueType) -> Node {
    let kind = ExprKind::Number(NumberLiteral { value: 0.0, duration: false });
    Node::leaf(span, kind, value_type)
}
