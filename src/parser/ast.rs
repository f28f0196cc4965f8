//! The typed syntax tree. Every node carries the byte span of its text.
//!
//! The tree is at most [`NESTING_MAX`](super::NESTING_MAX) deep (the parser sees to it),
//! so recursive walks and the derived `Drop` cannot overflow the stack.

use crate::aggregations::AggregatorSpec;
use crate::functions::FunctionSpec;
pub use crate::model::annotation::Span;
pub use crate::model::value::ValueType;
use crate::model::{Matcher, TimestampMs};

/// An expression and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub span: Span,
    pub kind: ExprKind,
}

/// The kinds of expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Number(NumberLiteral),
    String(String),
    VectorSelector(VectorSelector),
    MatrixSelector(MatrixSelector),
    Subquery(Box<Subquery>),
    Call(Call),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Unary { op: UnaryOp, expr: Box<Expr> },
    Paren(Box<Expr>),
}

/// A number; `duration` says it was written as one (`5m`), so that it prints back as one.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    /// The value; durations in seconds.
    pub value: f64,
    pub duration: bool,
}

/// `name{matchers} @ t offset d`, also with `anchored` or `smoothed`.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The name written before the braces; its `__name__` matcher is in `matchers` too.
    pub name: Option<String>,
    /// In the order written, the name's matcher last, as Prometheus keeps them.
    pub matchers: Vec<Matcher>,
    pub modifiers: Modifiers,
    /// Whether `anchored` or `smoothed` was written.
    pub extension: Option<RangeExtension>,
    /// Second argument of `info()`: the "at least one non-empty matcher" rule is waived.
    pub bypass_empty_check: bool,
}

/// `selector[range]`. Modifiers and extension are those of the inner selector.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    /// Span of the selector without the range.
    pub selector_span: Span,
    pub range: DurationExpr,
}

/// `expr[range:step]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    pub expr: Expr,
    pub range: DurationExpr,
    /// `None`: the engine's default step.
    pub step: Option<DurationExpr>,
    pub modifiers: Modifiers,
}

/// `anchored` / `smoothed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RangeExtension {
    Anchored,
    Smoothed,
}

/// `offset` and `@`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modifiers {
    pub offset: Option<DurationExpr>,
    pub at: Option<AtModifier>,
}

/// What `@` pins to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtModifier {
    Timestamp(TimestampMs),
    Start,
    End,
}

/// A duration, possibly computed: `5m`, `300`, `step() * 2`, `min_of(range(), 1h)`.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    pub span: Span,
    pub kind: DurationKind,
}

/// The kinds of duration expression. Values are seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    Number(NumberLiteral),
    /// `step()`: the query's step, 0 for an instant query.
    Step,
    /// `range()`: the query's end less its start.
    Range,
    Binary {
        op: DurationOp,
        lhs: Box<DurationExpr>,
        rhs: Box<DurationExpr>,
    },
    Unary {
        op: UnaryOp,
        expr: Box<DurationExpr>,
    },
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
    Paren(Box<DurationExpr>),
}

/// Arithmetic inside durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

/// A function call; the registry row says what it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub function: &'static FunctionSpec,
    pub args: Vec<Expr>,
}

/// `op by (labels) (param, expr)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub op: &'static AggregatorSpec,
    pub param: Option<Expr>,
    pub expr: Expr,
    pub grouping: Grouping,
}

/// How an aggregation groups. Plain `sum(x)` is `By(vec![])`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grouping {
    By(Vec<String>),
    Without(Vec<String>),
}

/// `lhs op bool on(...) group_left(...) fill(...) rhs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Expr,
    pub rhs: Expr,
    pub return_bool: bool,
    /// Set exactly when both sides are instant vectors.
    pub matching: Option<VectorMatching>,
    /// Byte span of the operator itself.
    pub op_span: Span,
}

/// How series of the two sides find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    pub card: Cardinality,
    /// `on` (true) or `ignoring`.
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels of `group_left(...)` / `group_right(...)`.
    pub include: Vec<String>,
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

/// Cardinality of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    NotEq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    /// `</`
    TrimUpper,
    /// `>/`
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// The operator as written (lower case).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::NotEq => "!=",
            Self::Less => "<",
            Self::LessEq => "<=",
            Self::Greater => ">",
            Self::GreaterEq => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// `== != < <= > >=`.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Eq | Self::NotEq | Self::Less | Self::LessEq | Self::Greater | Self::GreaterEq
        )
    }

    /// `and or unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// `</ >/`.
    pub fn is_trim(self) -> bool {
        matches!(self, Self::TrimUpper | Self::TrimLower)
    }
}

/// Unary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    Plus,
    Minus,
}

impl Expr {
    /// The type this expression evaluates to.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::VectorSelector(_) | ExprKind::Aggregate(_) => ValueType::InstantVector,
            ExprKind::MatrixSelector(_) | ExprKind::Subquery(_) => ValueType::RangeVector,
            ExprKind::Call(call) => call.function.returns,
            ExprKind::Binary(b) => match (b.lhs.value_type(), b.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::InstantVector,
            },
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => expr.value_type(),
        }
    }
}
