//! The logical plan: what has to be computed, without a time and without data.
//!
//! A node is typed by where it stands: scalar nodes yield one number per step, vector
//! nodes yield series, range sources feed range functions. Name dropping and the merging
//! of series that coincide afterwards are nodes of their own, so that passes can see them.

use crate::aggregations::{AggregatorSpec, Selection};
use crate::functions::FunctionSpec;
use crate::model::Matcher;
use crate::model::regex::GoRegex;
use crate::parser::ast::{
    AtModifier, BinaryOp, DurationExpr, Grouping, RangeExtension, Span, VectorMatching,
};

/// One step of the plan.
#[derive(Debug)]
pub enum Node {
    /// A scalar that never changes.
    Number(f64),
    /// A string at the top of a query.
    Text(String),
    /// `time()`: the time of the step, in seconds.
    EvalTime,
    /// `start()`, `end()`, `range()`, `step()`: known once the grid is.
    QueryTime(QueryTime),
    /// A function of scalars.
    ScalarCall {
        function: &'static FunctionSpec,
        args: Vec<Node>,
    },
    /// Arithmetic or comparison of scalars.
    ScalarBinary {
        op: BinaryOp,
        lhs: Box<Node>,
        rhs: Box<Node>,
    },
    ScalarNegate(Box<Node>),
    /// `scalar(v)`
    ScalarOf(Box<Node>),

    /// The newest sample of each series at each step.
    Select(Select),
    /// `vector(s)`
    VectorOf(Box<Node>),
    /// A function of each sample on its own.
    Map {
        function: &'static FunctionSpec,
        input: Box<Node>,
        scalars: Vec<Node>,
    },
    /// `timestamp(v)` where `v` is not a selector: the time of the step.
    StepTime(Box<Node>),
    /// Nothing, whatever the input: `start_timestamp(v)` where `v` is not a selector.
    Nothing(Box<Node>),
    /// A function over windows of raw samples.
    Range(Box<RangeCall>),
    /// A range vector at the top of an instant query.
    RangeResult(RangeSource),
    Negate(Box<Node>),
    VectorScalar(Box<VectorScalar>),
    Join(Box<Join>),
    SetOp {
        op: BinaryOp,
        lhs: Box<Node>,
        rhs: Box<Node>,
        on: bool,
        labels: Vec<String>,
    },
    Aggregate(Box<Aggregate>),
    Choose(Box<Choose>),
    CountValues {
        input: Box<Node>,
        label: String,
        grouping: Grouping,
    },
    /// `absent(v)`; the labels of the result come from the selector.
    Absent {
        input: Box<Node>,
        labels: Vec<(String, String)>,
    },
    /// `absent_over_time(r)`
    AbsentOverTime {
        source: RangeSource,
        labels: Vec<(String, String)>,
    },
    HistogramQuantiles(Box<HistogramQuantiles>),
    HistogramFraction {
        lower: Box<Node>,
        upper: Box<Node>,
        input: Box<Node>,
        span: Span,
    },
    LabelReplace(Box<LabelReplace>),
    LabelJoin {
        input: Box<Node>,
        target: String,
        separator: String,
        sources: Vec<String>,
    },
    Sort {
        input: Box<Node>,
        descending: bool,
        span: Span,
    },
    SortByLabel {
        input: Box<Node>,
        labels: Vec<String>,
        descending: bool,
        span: Span,
    },
    Info(Box<Info>),

    /// Takes the metric name (and type and unit) away, or notes that it is to go.
    DropName {
        input: Box<Node>,
        how: NameDrop,
    },
    /// Joins series whose labels coincide; overlap is an error.
    MergeDuplicates {
        input: Box<Node>,
        overlap: Overlap,
    },
    /// The input is the same at every step: evaluated once and repeated.
    StepInvariant(Box<Node>),
}

/// What is known only with the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryTime {
    Start,
    End,
    Range,
    Step,
}

/// How a metric name goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameDrop {
    /// `__name__`, `__type__` and `__unit__` go now.
    Metadata,
    /// As `Metadata`, below an aggregation that looks at none of the three (`by`), or at
    /// all but `__name__`: series that stay distinct without them may keep them.
    Unseen { by: bool },
    /// Only `__name__` goes now.
    Name,
    /// The series is marked; its name goes at the end (delayed name removal).
    Mark,
    /// The names of marked series go: the end.
    Marked,
}

/// When series with the same labels are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Only when two have a sample at the same step.
    SameStep,
    /// Whenever both have samples at all.
    Always,
}

/// A selector: of the newest sample (no range) or of windows.
#[derive(Clone, Debug)]
pub struct Select {
    /// Dense number of the selector in the plan.
    pub id: usize,
    pub matchers: Vec<Matcher>,
    pub offset: Option<DurationExpr>,
    pub at: Option<AtModifier>,
    pub extension: Option<RangeExtension>,
    pub range: Option<DurationExpr>,
    pub emit: Emit,
    /// Only counts and sums of histograms are wanted. Prometheus then works counter-reset
    /// hints out from the samples, which shows in annotations.
    pub stats_only: bool,
    pub span: Span,
    pub hints: Hints,
}

/// What an instant selector yields for the sample it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    Value,
    /// The sample's own time in seconds.
    Timestamp,
    /// As `Timestamp` for floats; histograms as they are.
    FloatTimestamp,
    /// Its start time in seconds, where known.
    StartTimestamp,
}

/// What the source is told of the use of the samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    pub function: &'static str,
    pub grouping: Vec<String>,
    pub by: bool,
}

/// Where a range function takes its windows from.
#[derive(Debug)]
pub enum RangeSource {
    Select(Select),
    Subquery(Box<Subquery>),
}

/// `input[range:step]`
#[derive(Debug)]
pub struct Subquery {
    /// Dense number of the subquery in the plan.
    pub id: usize,
    pub input: Node,
    pub range: DurationExpr,
    pub step: Option<DurationExpr>,
    pub offset: Option<DurationExpr>,
    pub at: Option<AtModifier>,
}

/// A range function and its arguments.
#[derive(Debug)]
pub struct RangeCall {
    pub function: &'static FunctionSpec,
    pub source: RangeSource,
    pub scalars: Vec<Node>,
    /// The range vector argument, for annotations.
    pub span: Span,
    /// The first scalar argument, for annotations about it.
    pub param_span: Span,
}

/// A vector and a scalar.
#[derive(Debug)]
pub struct VectorScalar {
    pub op: BinaryOp,
    pub vector: Node,
    pub scalar: Node,
    pub scalar_on_left: bool,
    pub return_bool: bool,
    pub span: Span,
}

/// Two vectors, matched by labels.
#[derive(Debug)]
pub struct Join {
    pub op: BinaryOp,
    pub lhs: Node,
    pub rhs: Node,
    pub matching: VectorMatching,
    pub return_bool: bool,
    /// `bool` marks the name as dropped instead of dropping it.
    pub delayed_names: bool,
    pub span: Span,
}

/// Series folded into groups.
#[derive(Debug)]
pub struct Aggregate {
    pub op: &'static AggregatorSpec,
    pub input: Node,
    pub param: Option<Node>,
    pub grouping: Grouping,
    /// The aggregated expression, for annotations.
    pub span: Span,
    pub param_span: Span,
}

impl Aggregate {
    /// True when members may still carry the name that was dropped below (`Unseen`).
    pub fn drops_unseen_names(&self) -> bool {
        let mut input = &self.input;
        while let Node::StepInvariant(inner) | Node::MergeDuplicates { input: inner, .. } = input {
            input = inner;
        }
        matches!(input, Node::DropName { how: NameDrop::Unseen { .. }, .. })
    }
}

/// Some of the series of each group: `topk` and its kin.
#[derive(Debug)]
pub struct Choose {
    pub op: &'static AggregatorSpec,
    pub selection: Selection,
    pub input: Node,
    pub param: Node,
    pub grouping: Grouping,
    /// The whole aggregation, for annotations.
    pub span: Span,
    pub param_span: Span,
}

/// `histogram_quantile` and `histogram_quantiles`.
#[derive(Debug)]
pub struct HistogramQuantiles {
    /// The quantiles and where they stand.
    pub quantiles: Vec<(Node, Span)>,
    /// The label that tells the quantiles apart; `None` for `histogram_quantile`.
    pub label: Option<String>,
    pub input: Node,
    pub span: Span,
}

/// `label_replace`
#[derive(Debug)]
pub struct LabelReplace {
    pub input: Node,
    pub target: String,
    pub replacement: String,
    pub source: String,
    /// Compiled once; the error is the query's when it runs.
    pub regex: Result<GoRegex, String>,
}

/// `info(v, selector)`
#[derive(Debug)]
pub struct Info {
    pub input: Node,
    /// The info series.
    pub select: Select,
    /// Matchers on data labels, as written in the second argument.
    pub data_matchers: Vec<Matcher>,
    /// Matchers on `__name__`: series that satisfy them are info series themselves.
    pub name_matchers: Vec<Matcher>,
}

impl RangeSource {
    /// The nodes below.
    pub fn children_mut(&mut self) -> Vec<&mut Node> {
        match self {
            Self::Select(_) => vec![],
            Self::Subquery(sub) => vec![&mut sub.input],
        }
    }

    fn children(&self) -> Vec<&Node> {
        match self {
            Self::Select(_) => vec![],
            Self::Subquery(sub) => vec![&sub.input],
        }
    }
}

/// Writes the list of children once for shared and for mutable access.
macro_rules! children {
    ($node:expr, $children:ident, $iter:ident, $($ref:tt)+) => {
        match $node {
            Node::Number(_) | Node::Text(_) | Node::EvalTime | Node::QueryTime(_)
            | Node::Select(_) => vec![],
            Node::ScalarCall { args, .. } => args.$iter().collect(),
            Node::ScalarBinary { lhs, rhs, .. } | Node::SetOp { lhs, rhs, .. } => {
                vec![$($ref)+ **lhs, $($ref)+ **rhs]
            }
            Node::ScalarNegate(input) | Node::ScalarOf(input) | Node::VectorOf(input)
            | Node::StepTime(input) | Node::Nothing(input) | Node::Negate(input)
            | Node::CountValues { input, .. } | Node::Absent { input, .. }
            | Node::LabelJoin { input, .. } | Node::Sort { input, .. }
            | Node::SortByLabel { input, .. } | Node::DropName { input, .. }
            | Node::MergeDuplicates { input, .. } | Node::StepInvariant(input) => {
                vec![$($ref)+ **input]
            }
            Node::Map { input, scalars, .. } => {
                let mut all = vec![$($ref)+ **input];
                all.extend(scalars.$iter());
                all
            }
            Node::Range(call) => {
                let call = $($ref)+ **call;
                let mut all = call.source.$children();
                all.extend(call.scalars.$iter());
                all
            }
            Node::RangeResult(source) | Node::AbsentOverTime { source, .. } => source.$children(),
            Node::VectorScalar(b) => {
                let b = $($ref)+ **b;
                vec![$($ref)+ b.vector, $($ref)+ b.scalar]
            }
            Node::Join(b) => {
                let b = $($ref)+ **b;
                vec![$($ref)+ b.lhs, $($ref)+ b.rhs]
            }
            Node::Aggregate(a) => {
                let a = $($ref)+ **a;
                let mut all = vec![$($ref)+ a.input];
                all.extend(a.param.$iter());
                all
            }
            Node::Choose(c) => {
                let c = $($ref)+ **c;
                vec![$($ref)+ c.input, $($ref)+ c.param]
            }
            Node::HistogramQuantiles(h) => {
                let h = $($ref)+ **h;
                let mut all = vec![$($ref)+ h.input];
                all.extend(h.quantiles.$iter().map(|(node, _)| node));
                all
            }
            Node::HistogramFraction { lower, upper, input, .. } => {
                vec![$($ref)+ **lower, $($ref)+ **upper, $($ref)+ **input]
            }
            Node::LabelReplace(l) => vec![$($ref)+ l.input],
            Node::Info(i) => vec![$($ref)+ i.input],
        }
    };
}

impl Node {
    /// The nodes this one reads, in the order they are evaluated.
    pub fn children(&self) -> Vec<&Node> {
        children!(self, children, iter, &)
    }

    /// As `children`, to rewrite them.
    pub fn children_mut(&mut self) -> Vec<&mut Node> {
        children!(self, children_mut, iter_mut, &mut)
    }

    /// True for nodes that yield one number per step.
    pub fn is_scalar(&self) -> bool {
        match self {
            Self::Number(_)
            | Self::EvalTime
            | Self::QueryTime(_)
            | Self::ScalarCall { .. }
            | Self::ScalarBinary { .. }
            | Self::ScalarNegate(_)
            | Self::ScalarOf(_) => true,
            Self::StepInvariant(input) => input.is_scalar(),
            _ => false,
        }
    }

    /// Every position in the text that this node or one below it speaks of, in an order
    /// that depends on the form of the tree alone.
    pub fn spans(&self) -> Vec<&Span> {
        let mut all = self.own_spans();
        self.children().into_iter().for_each(|child| all.extend(child.spans()));
        all
    }

    fn own_spans(&self) -> Vec<&Span> {
        let mut all: Vec<&Span> = self.own_selects().into_iter().map(|s| &s.span).collect();
        match self {
            Self::Range(call) => all.extend([&call.span, &call.param_span]),
            Self::VectorScalar(b) => all.push(&b.span),
            Self::Join(b) => all.push(&b.span),
            Self::Aggregate(a) => all.extend([&a.span, &a.param_span]),
            Self::Choose(c) => all.extend([&c.span, &c.param_span]),
            Self::HistogramQuantiles(h) => {
                all.push(&h.span);
                all.extend(h.quantiles.iter().map(|(_, span)| span));
            }
            Self::HistogramFraction { span, .. }
            | Self::Sort { span, .. }
            | Self::SortByLabel { span, .. } => all.push(span),
            _ => {}
        }
        all
    }

    /// The selectors of this node itself (not of its children).
    pub fn own_selects(&self) -> Vec<&Select> {
        match self {
            Self::Select(select) => vec![select],
            Self::Info(info) => vec![&info.select],
            Self::Range(call) => call.source.select().into_iter().collect(),
            Self::RangeResult(source) | Self::AbsentOverTime { source, .. } => {
                source.select().into_iter().collect()
            }
            _ => vec![],
        }
    }

    /// The selectors of this node itself, to change.
    pub fn own_selects_mut(&mut self) -> Vec<&mut Select> {
        match self {
            Self::Select(select) => vec![select],
            Self::Info(info) => vec![&mut info.select],
            _ => match self.range_source_mut() {
                Some(RangeSource::Select(select)) => vec![select],
                _ => vec![],
            },
        }
    }

    /// The range source of this node itself.
    pub fn range_source_mut(&mut self) -> Option<&mut RangeSource> {
        match self {
            Self::Range(call) => Some(&mut call.source),
            Self::RangeResult(source) | Self::AbsentOverTime { source, .. } => Some(source),
            _ => None,
        }
    }

    /// The range source of this node itself.
    pub fn range_source(&self) -> Option<&RangeSource> {
        match self {
            Self::Range(call) => Some(&call.source),
            Self::RangeResult(source) | Self::AbsentOverTime { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl RangeSource {
    /// The selector, when this is one.
    pub fn select(&self) -> Option<&Select> {
        match self {
            Self::Select(select) => Some(select),
            Self::Subquery(_) => None,
        }
    }
}
