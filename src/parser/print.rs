//! Expressions back to text, on one line: what Prometheus prints an expression as. Rules
//! are identified by this text, and it parses back to the same tree.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::*;
use crate::model::Matcher;
use crate::model::duration::format_duration;
use crate::model::labels::{quote, quote_label_name};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::String(text) => f.write_str(&quoted(text)),
            ExprKind::VectorSelector(selector) => {
                selector.fmt_bare(f)?;
                fmt_at(&selector.modifiers, f)?;
                fmt_extension(selector.extension, f)?;
                fmt_offset(&selector.modifiers, f)
            }
            ExprKind::MatrixSelector(matrix) => {
                matrix.selector.fmt_bare(f)?;
                write!(f, "[{}]", matrix.range)?;
                fmt_extension(matrix.selector.extension, f)?;
                fmt_at(&matrix.selector.modifiers, f)?;
                fmt_offset(&matrix.selector.modifiers, f)
            }
            ExprKind::Subquery(subquery) => {
                write!(f, "{}{}", subquery.expr, SubquerySuffix(subquery))
            }
            ExprKind::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                fmt_list(&call.args, f)?;
                f.write_char(')')
            }
            ExprKind::Aggregate(aggregate) => {
                write!(f, "{}(", AggregateHead(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            ExprKind::Binary(binary) => {
                // As the base of a power, `+Inf` would read back as a sign on the power.
                match &binary.lhs.kind {
                    ExprKind::Number(n) if binary.op == BinaryOp::Pow && n.value > 0.0 => {
                        f.write_str(n.to_string().trim_start_matches('+'))?;
                    }
                    _ => binary.lhs.fmt(f)?,
                }
                write!(f, " {} {}", BinaryHead(binary), binary.rhs)
            }
            ExprKind::Unary { op, expr } => write!(f, "{}{expr}", op.as_str()),
            ExprKind::Paren(expr) => write!(f, "({expr})"),
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.value {
            v if self.duration && is_milliseconds(v) => f.write_str(&milliseconds(v)),
            v => f.write_str(&float(v)),
        }
    }
}

/// A float as Go's `FormatFloat(v, 'f', -1, 64)`.
fn float(v: f64) -> String {
    if v == f64::INFINITY {
        "+Inf".to_owned()
    } else if v == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else if v.is_nan() {
        "NaN".to_owned()
    } else {
        v.to_string()
    }
}

/// Whether a duration of that many seconds can be written in whole milliseconds. (What
/// cannot, `foo[0.0001]`, prints as a number, where Prometheus prints `0s`.)
fn is_milliseconds(seconds: f64) -> bool {
    let ms = (seconds * 1000.0).round();
    ms / 1000.0 == seconds && ms.abs() < i64::MAX as f64
}

fn milliseconds(seconds: f64) -> String {
    format_duration((seconds * 1000.0).round() as i64)
}

/// A quoted string. U+FFFD is escaped, since bare it reads as broken UTF-8.
fn quoted(text: &str) -> String {
    quote(text).replace('\u{FFFD}', "\\ufffd")
}

impl UnaryOp {
    /// `+` or `-`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
        }
    }
}

impl VectorSelector {
    /// Name and braces: matchers sorted as text, without the name's own.
    fn fmt_bare(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let own = usize::from(self.name.is_some());
        let shown = &self.matchers[..self.matchers.len().saturating_sub(own)];
        if let Some(name) = &self.name {
            f.write_str(name)?;
            if shown.is_empty() {
                return Ok(());
            }
        }
        let mut texts: Vec<String> = shown.iter().map(matcher).collect();
        texts.sort_unstable();
        write!(f, "{{{}}}", texts.join(","))
    }
}

fn matcher(matcher: &Matcher) -> String {
    matcher.to_string().replace('\u{FFFD}', "\\ufffd")
}

fn fmt_at(modifiers: &Modifiers, f: &mut Formatter<'_>) -> fmt::Result {
    match modifiers.at {
        None => Ok(()),
        Some(AtModifier::Start) => f.write_str(" @ start()"),
        Some(AtModifier::End) => f.write_str(" @ end()"),
        Some(AtModifier::Timestamp(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            let ms = ms.unsigned_abs();
            write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)
        }
    }
}

fn fmt_extension(extension: Option<RangeExtension>, f: &mut Formatter<'_>) -> fmt::Result {
    match extension {
        None => Ok(()),
        Some(RangeExtension::Anchored) => f.write_str(" anchored"),
        Some(RangeExtension::Smoothed) => f.write_str(" smoothed"),
    }
}

fn fmt_offset(modifiers: &Modifiers, f: &mut Formatter<'_>) -> fmt::Result {
    match &modifiers.offset {
        None => Ok(()),
        Some(offset) => write!(f, " offset {offset}"),
    }
}

/// A literal that stands alone prints as a duration however it was written; inside
/// arithmetic it keeps its form.
impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Number(number) if is_milliseconds(number.value) => {
                f.write_str(&milliseconds(number.value))
            }
            _ => self.fmt_inner(f),
        }
    }
}

impl DurationExpr {
    fn fmt_inner(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Number(number) => number.fmt(f),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::Binary { op, lhs, rhs } => {
                write!(f, "{} {} {}", Inner(lhs), op.as_str(), Inner(rhs))
            }
            DurationKind::Unary { op, expr } => write!(f, "{}{}", op.as_str(), Inner(expr)),
            DurationKind::MinOf(a, b) => write!(f, "min_of({}, {})", Inner(a), Inner(b)),
            DurationKind::MaxOf(a, b) => write!(f, "max_of({}, {})", Inner(a), Inner(b)),
            DurationKind::Paren(expr) => write!(f, "({})", Inner(expr)),
        }
    }
}

/// A part of a duration expression.
struct Inner<'a>(&'a DurationExpr);

impl Display for Inner<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt_inner(f)
    }
}

impl DurationOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }
}

/// `sum` or `sum by (a, b) `: what stands before the parenthesis.
pub(super) struct AggregateHead<'a>(pub &'a Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.name)?;
        match &self.0.grouping {
            Grouping::By(labels) if labels.is_empty() => Ok(()),
            Grouping::By(labels) => write!(f, " by ({}) ", Names(labels)),
            Grouping::Without(labels) => write!(f, " without ({}) ", Names(labels)),
        }
    }
}

/// The operator with its modifiers, without blanks around.
pub(super) struct BinaryHead<'a>(pub &'a Binary);

impl Display for BinaryHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &self.0.matching else { return Ok(()) };
        let side = match matching.card {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if matching.on || !matching.labels.is_empty() || side.is_some() {
            let word = if matching.on { "on" } else { "ignoring" };
            write!(f, " {word} ({})", Names(&matching.labels))?;
        }
        if let Some(side) = side {
            write!(f, " group_{side} ({})", Names(&matching.include))?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left == right || (left.is_nan() && right.is_nan()) => {
                write!(f, " fill ({})", float(left))
            }
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({})", float(left))?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({})", float(right))?;
                }
                Ok(())
            }
        }
    }
}

/// `[range:step]` with the modifiers.
pub(super) struct SubquerySuffix<'a>(pub &'a Subquery);

impl Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", self.0.range)?;
        if let Some(step) = &self.0.step {
            write!(f, "{step}")?;
        }
        f.write_char(']')?;
        fmt_at(&self.0.modifiers, f)?;
        fmt_offset(&self.0.modifiers, f)
    }
}

/// Label names joined by `, `, quoted where they are not plain words.
struct Names<'a>(&'a [String]);

impl Display for Names<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(&quote_label_name(name).replace('\u{FFFD}', "\\ufffd"))?;
        }
        Ok(())
    }
}

fn fmt_list(exprs: &[Expr], f: &mut Formatter<'_>) -> fmt::Result {
    for (i, expr) in exprs.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{expr}")?;
    }
    Ok(())
}
