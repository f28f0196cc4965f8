//! Expressions as VictoriaMetrics is asked for them: only those that it answers as they would
//! be answered here, in its own words where these differ.
//!
//! What it does otherwise, and so is not asked for:
//! - it extrapolates no rates, and looks at the sample before a window (`rate`, `increase`,
//!   `delta`, `irate`, `idelta`, `resets`, `deriv` of one sample);
//! - its instant selectors look back as far as samples are apart; [`text`] says how far;
//! - it drops what is no number, or takes it for one, so nothing is asked that makes some of
//!   numbers (division by a vector, roots, logarithms, powers), and what makes some of
//!   infinities (sums, quantiles) only outermost; deviations not at all;
//! - it joins vectors otherwise;
//! - it keeps other names, so names have to be lost in an aggregation.

use crate::model::labels::is_legacy_label_name;
use crate::model::{DATASOURCE, METRIC_NAME};
use crate::parser::ast::{
    Aggregate, Binary, BinaryOp, Call, DurationExpr, DurationKind, Expr, ExprKind, Grouping,
    MatrixSelector, NumberLiteral, UnaryOp, VectorSelector,
};

/// Functions of ranges, and what they are called there.
const OVER_RANGES: &[(&str, &str)] = &[
    ("avg_over_time", "avg_over_time"),
    ("changes", "changes_prometheus"),
    ("count_over_time", "count_over_time"),
    ("last_over_time", "last_over_time"),
    ("max_over_time", "max_over_time"),
    ("min_over_time", "min_over_time"),
    ("present_over_time", "present_over_time"),
    ("sum_over_time", "sum_over_time"),
];

/// Functions of vectors; of numbers they make numbers.
const OF_VECTORS: &[&str] = &["abs", "ceil", "clamp_max", "clamp_min", "floor"];

const AGGREGATORS: &[&str] = &["avg", "count", "group", "max", "min", "quantile", "sum"];

/// Those whose results are numbers whatever they look at.
const SAFE_AGGREGATORS: &[&str] = &["count", "group", "max", "min"];

/// The text to ask; `None` when the answer could be another one. `plain` says whether a
/// selector is understood everywhere; instant selectors look back as far as `lookback_ms`.
pub(super) fn text(
    expr: &Expr,
    lookback_ms: i64,
    plain: &dyn Fn(&MatrixSelector) -> bool,
) -> Option<String> {
    Writer { lookback_ms, plain }.nameless(expr)
}

struct Writer<'a> {
    lookback_ms: i64,
    plain: &'a dyn Fn(&MatrixSelector) -> bool,
}

impl Writer<'_> {
    /// What has no names: aggregations, and what is made of them.
    fn nameless(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Paren(inner) => Some(format!("({})", self.nameless(inner)?)),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate),
            ExprKind::Call(call) => self.function(call, |arg| self.nameless(arg)),
            ExprKind::Binary(binary) => self.binary(binary),
            _ => None,
        }
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Option<String> {
        let name = aggregate.op.name;
        let (word, names) = match &aggregate.grouping {
            Grouping::By(names) => ("by", names),
            Grouping::Without(names) => ("without", names),
        };
        let old = |name: &String| is_legacy_label_name(name) && name != METRIC_NAME;
        if !AGGREGATORS.contains(&name) || !names.iter().all(old) {
            return None;
        }
        let parameter = match &aggregate.param {
            None => String::new(),
            Some(phi) => format!("{}, ", fraction(phi)?),
        };
        let inner = self.input(&aggregate.expr)?;
        let grouping = match (word, &names[..]) {
            ("by", []) => String::new(),
            _ => format!(" {word} ({}) ", names.join(", ")),
        };
        Some(format!("{name}{grouping}({parameter}{inner})"))
    }

    /// What an aggregation may look at.
    fn input(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.input(inner),
            ExprKind::VectorSelector(selector) => self.instant(selector),
            ExprKind::Call(call) if OF_VECTORS.contains(&call.function.name) => {
                self.function(call, |arg| self.input(arg))
            }
            ExprKind::Call(call) => self.over_range(call),
            ExprKind::Aggregate(inner) if SAFE_AGGREGATORS.contains(&inner.op.name) => {
                self.aggregate(inner)
            }
            _ => None,
        }
    }

    fn function(
        &self,
        call: &Call,
        vector: impl FnOnce(&Expr) -> Option<String>,
    ) -> Option<String> {
        let name = call.function.name;
        let (first, rest) = call.args.split_first().filter(|_| OF_VECTORS.contains(&name))?;
        let mut args = vec![vector(first)?];
        for arg in rest {
            args.push(number(arg)?.to_string());
        }
        Some(format!("{name}({})", args.join(", ")))
    }

    fn over_range(&self, call: &Call) -> Option<String> {
        let (_, name) = OVER_RANGES.iter().find(|(name, _)| *name == call.function.name)?;
        let mut args = Vec::new();
        for arg in &call.args {
            let ExprKind::MatrixSelector(matrix) = &arg.kind else { return None };
            // Series that differ by name alone become one series or an error here.
            matrix.selector.matchers.iter().find_map(|m| m.metric_name())?;
            self.selected(matrix)?;
            args.push(asked(arg));
        }
        Some(format!("{name}({})", args.join(", ")))
    }

    fn selected(&self, matrix: &MatrixSelector) -> Option<()> {
        // What a `@` means for the window is its own there.
        ((self.plain)(matrix) && matrix.selector.modifiers.at.is_none()).then_some(())
    }

    /// The newest sample of the window, unless it is a staleness marker.
    fn instant(&self, selector: &VectorSelector) -> Option<String> {
        let window = NumberLiteral { value: self.lookback_ms as f64 / 1e3, duration: true };
        let matrix = MatrixSelector {
            selector: selector.clone(),
            selector_span: 0..0,
            range: DurationExpr { span: 0..0, kind: DurationKind::Number(window) },
        };
        self.selected(&matrix)?;
        let expr = Expr { span: 0..0, kind: ExprKind::MatrixSelector(matrix) };
        Some(format!("default_rollup({})", asked(&expr)))
    }

    /// Sums, differences and products with a number, and quotients by one. Of two vectors it
    /// joins one without labels with anything.
    fn binary(&self, binary: &Binary) -> Option<String> {
        let op = binary.op;
        let (lhs, rhs) = match (number(&binary.lhs), number(&binary.rhs)) {
            (None, Some(divisor)) => {
                let safe = op == BinaryOp::Div && divisor != 0.0;
                (safe || is_linear(op)).then_some(())?;
                (self.nameless(&binary.lhs)?, divisor.to_string())
            }
            (Some(number), None) if is_linear(op) => {
                (number.to_string(), self.nameless(&binary.rhs)?)
            }
            _ => return None,
        };
        Some(format!("({lhs}) {} ({rhs})", op.as_str()))
    }
}

/// A selector without the datasource it is asked of.
fn asked(expr: &Expr) -> String {
    let mut expr = expr.clone();
    expr.change_selectors(&mut |s| s.matchers.retain(|m| &*m.name != DATASOURCE));
    expr.to_string()
}

fn is_linear(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul)
}

/// A number that is written as one and is neither infinite nor none.
fn number(expr: &Expr) -> Option<f64> {
    match &expr.kind {
        ExprKind::Number(number) if !number.duration => Some(number.value),
        ExprKind::Paren(inner) => number(inner),
        ExprKind::Unary { op, expr } => Some(match op {
            UnaryOp::Plus => number(expr)?,
            UnaryOp::Minus => -number(expr)?,
        }),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// A quantile that is one.
fn fraction(expr: &Expr) -> Option<String> {
    number(expr).filter(|phi| (0.0..=1.0).contains(phi)).map(|phi| phi.to_string())
}
