//! The type checker. It is called bottom-up while the tree is built, so it needs neither
//! recursion nor the finished tree, and files its errors in the order in which Prometheus'
//! checker, a walk after parsing, meets them.

use std::ops::Range;

use super::ast::*;
use super::build::BinaryModifiers;
use super::diagnostic::ParseError;
use crate::aggregations::AggregatorSpec;
use crate::functions::{Arity, FunctionSpec};
use crate::model::METRIC_NAME;
use crate::model::labels::quote;

/// What is known of an operand.
pub(super) struct Argument {
    pub span: Span,
    pub value_type: ValueType,
}

pub(super) struct Checker<'a> {
    text: &'a str,
    pub errors: Vec<ParseError>,
}

impl<'a> Checker<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, errors: Vec::new() }
    }

    /// Where the next error will be filed.
    pub fn mark(&self) -> usize {
        self.errors.len()
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.errors.push(ParseError { span, message: message.into() });
    }

    fn want(&mut self, argument: &Argument, wanted: ValueType, context: impl FnOnce() -> String) {
        let got = argument.value_type;
        if got != wanted {
            let (wanted, got, context) = (wanted.documented(), got.documented(), context());
            self.error(
                argument.span.clone(),
                format!("expected type {wanted} in {context}, got {got}"),
            );
        }
    }

    /// A selector must have a name or a matcher that refuses the empty value.
    pub fn selector(&mut self, selector: &VectorSelector, span: &Span) {
        let Some(name) = &selector.name else {
            if selector.matchers.iter().all(|m| m.matches_empty()) {
                self.error(
                    span.clone(),
                    "vector selector must contain at least one non-empty matcher",
                );
            }
            return;
        };
        let (_, inside) = selector.matchers.split_last().expect("BUG: a name has its matcher");
        for matcher in inside.iter().filter(|m| *m.name == *METRIC_NAME) {
            let (name, other) = (quote(name), quote(&matcher.value));
            self.error(
                span.clone(),
                format!("metric name must not be set twice: {name} or {other}"),
            );
        }
    }

    pub fn subquery(&mut self, inner: ValueType, span: &Span) {
        if inner != ValueType::InstantVector {
            let got = inner.raw();
            self.error(
                span.clone(),
                format!("subquery is only allowed on instant vector, got {got} instead"),
            );
        }
    }

    pub fn unary(&mut self, inner: ValueType, span: &Span) {
        if !matches!(inner, ValueType::Scalar | ValueType::InstantVector) {
            let got = inner.documented();
            self.error(
                span.clone(),
                format!("unary expression only allowed on expressions of type scalar or instant vector, got \"{got}\""),
            );
        }
    }

    /// Checks an aggregation. `param_errors` are the errors already filed for the parameter,
    /// which is built first but checked last.
    pub fn aggregate(
        &mut self,
        expr: Argument,
        param: Option<Argument>,
        op: &AggregatorSpec,
        param_errors: Range<usize>,
    ) {
        let Some((param, wanted)) = param.zip(op.param) else {
            return self.want(&expr, ValueType::InstantVector, || "aggregation expression".into());
        };
        let of_expr = self.errors.split_off(param_errors.end);
        let of_param = self.errors.split_off(param_errors.start);
        self.errors.extend(of_expr);
        self.want(&expr, ValueType::InstantVector, || "aggregation expression".into());
        self.errors.extend(of_param);
        self.want(&param, wanted, || "aggregation parameter".into());
    }

    /// Checks one argument of a call; `before` is the mark from before it was built.
    pub fn argument(
        &mut self,
        function: &FunctionSpec,
        index: usize,
        expr: &mut Expr,
        value_type: ValueType,
        before: usize,
    ) {
        if function.name == "info"
            && index == 1
            && let ExprKind::VectorSelector(selector) = &mut expr.kind
            && selector.name.is_none()
        {
            // Label selectors of info() may match anything: what was filed is void.
            selector.bypass_empty_check = true;
            self.errors.truncate(before);
        }
        let repeats = matches!(function.arity, Arity::Variadic { .. });
        let wanted = match function.args.get(index) {
            Some(wanted) => *wanted,
            None if repeats || matches!(function.arity, Arity::Optional(_)) => {
                match function.args.last() {
                    Some(wanted) => *wanted,
                    None => return,
                }
            }
            None => return,
        };
        let context = || format!("call to function {}", quote(function.name));
        self.want(&Argument { span: expr.span.clone(), value_type }, wanted, context);
    }

    /// Checks the number of arguments; such errors come before those of the arguments,
    /// which start at `mark`.
    pub fn call(&mut self, function: &FunctionSpec, args: &[Expr], span: &Span, mark: usize) {
        let of_args = self.errors.split_off(mark);
        let declared = function.args.len();
        let (min, max) = match function.arity {
            Arity::Exact => (declared, Some(declared)),
            Arity::Optional(n) => (declared - n, Some(declared)),
            Arity::Variadic { min, max } => (min, max),
        };
        let got = args.len();
        let wanted = match max.filter(|max| got > *max) {
            _ if function.arity == Arity::Exact && got != declared => Some(declared.to_string()),
            _ if got < min => Some(format!("at least {min}")),
            Some(max) => Some(format!("at most {max}")),
            None => None,
        };
        if let Some(wanted) = wanted {
            let name = quote(function.name);
            let message = format!("expected {wanted} argument(s) in call to {name}, got {got}");
            self.error(span.clone(), message);
        }
        if function.name == "info"
            && let Some(selector) = args.get(1)
        {
            match &selector.kind {
                ExprKind::VectorSelector(s) if s.name.is_none() => {}
                ExprKind::VectorSelector(_) => self.error(
                    selector.span.clone(),
                    "expected label selectors only, got vector selector instead",
                ),
                _ => self.error(selector.span.clone(), "expected label selectors only"),
            }
        }
        self.errors.extend(of_args);
    }

    /// Checks a binary expression and returns the matching it ends up with: none unless
    /// both sides are instant vectors.
    pub fn binary(
        &mut self,
        op: BinaryOp,
        modifiers: &BinaryModifiers,
        lhs: Argument,
        rhs: Argument,
    ) -> Option<VectorMatching> {
        use ValueType::{InstantVector, Scalar};
        let matching = &modifiers.matching;
        let between = || self.between(&lhs.span, &rhs.span);
        let whole = lhs.span.start..rhs.span.end;
        let scalars = lhs.value_type == Scalar && rhs.value_type == Scalar;
        let mut found: Vec<(Span, String)> = Vec::new();
        if modifiers.return_bool && !op.is_comparison() {
            let message = "bool modifier can only be used on comparison operators";
            found.push((between(), message.into()));
        }
        if op.is_comparison() && !modifiers.return_bool && scalars {
            let message = "comparisons between scalars must use BOOL modifier";
            found.push((between(), message.into()));
        }
        if matching.on {
            for label in matching.labels.iter().filter(|l| matching.include.contains(l)) {
                let label = quote(label);
                let message =
                    format!("label {label} must not occur in ON and GROUP clause at once");
                found.push((between(), message));
            }
        }
        for side in [&lhs, &rhs] {
            if !matches!(side.value_type, Scalar | InstantVector) {
                let message = "binary expression must contain only scalar and instant vector types";
                found.push((side.span.clone(), message.into()));
            }
        }
        let vectors = lhs.value_type == InstantVector && rhs.value_type == InstantVector;
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        let grouped = matches!(matching.card, Cardinality::ManyToOne | Cardinality::OneToMany);
        if !vectors {
            if !matching.labels.is_empty() {
                let message = "vector matching only allowed between instant vectors";
                found.push((whole.clone(), message.into()));
            }
            if fills {
                let message = "filling in missing series only allowed between instant vectors";
                found.push((whole.clone(), message.into()));
            }
        } else if op.is_set() {
            if grouped {
                let message = format!("no grouping allowed for \"{}\" operation", op.as_str());
                found.push((whole.clone(), message));
                let message = "set operations must always be many-to-many";
                found.push((whole.clone(), message.into()));
            }
            if fills {
                let message = "filling in missing series not allowed for set operators";
                found.push((whole.clone(), message.into()));
            }
        }
        if op.is_set() && (lhs.value_type == Scalar || rhs.value_type == Scalar) {
            let op = op.as_str();
            let message = format!("set operator \"{op}\" not allowed in binary scalar expression");
            found.push((whole, message));
        }
        self.errors.extend(found.into_iter().map(|(span, message)| ParseError { span, message }));
        vectors.then(|| matching.clone())
    }

    /// What lies between two operands, without the blanks around it. Prometheus' span ends
    /// on the last byte instead of after it, and so does this one.
    fn between(&self, lhs: &Span, rhs: &Span) -> Span {
        let bytes = self.text.as_bytes();
        let blank = |at: usize| bytes.get(at).is_some_and(|b| b" \t\n\r".contains(b));
        let mut start = lhs.end as usize;
        while blank(start) {
            start += 1;
        }
        let mut end = (rhs.start as usize).saturating_sub(1);
        while end > start && blank(end) {
            end -= 1;
        }
        start as u32..end as u32
    }
}
