//! Duration expressions: ranges, steps and offsets.

use super::*;

/// A duration under construction with the depth of its tree.
pub(in crate::parser) struct DurationNode {
    pub(super) expr: DurationExpr,
    pub(super) depth: usize,
}

/// Operands and operators of a duration that wait for what follows them.
#[derive(Default)]
pub(in crate::parser) struct DurationStack {
    operands: Vec<DurationNode>,
    pending: Vec<Pending>,
}

impl DurationStack {
    pub fn sign(&mut self, op: UnaryOp, start: u32) {
        self.pending.push(Pending::Sign { op, start });
    }

    pub fn operand(&mut self, operand: DurationNode) {
        self.operands.push(operand);
    }
}

impl DurationNode {
    fn literal(&self) -> Option<f64> {
        match &self.expr.kind {
            DurationKind::Number(number) => Some(number.value),
            _ => None,
        }
    }

    /// A literal that is nothing when rounded to nanoseconds.
    pub(super) fn is_zero(&self) -> bool {
        self.literal().is_some_and(|seconds| (seconds * 1e9).round() == 0.0)
    }
}

enum Pending {
    Sign { op: UnaryOp, start: u32 },
    Binary { op: DurationOp, op_span: Span },
}

const SIGN_PRECEDENCE: u8 = 2;

fn precedence(op: DurationOp) -> u8 {
    match op {
        DurationOp::Add | DurationOp::Sub => 1,
        DurationOp::Mul | DurationOp::Div | DurationOp::Mod => SIGN_PRECEDENCE,
        DurationOp::Pow => 3,
    }
}

fn duration_op(text: &str) -> DurationOp {
    match text {
        "+" => DurationOp::Add,
        "-" => DurationOp::Sub,
        "*" => DurationOp::Mul,
        "/" => DurationOp::Div,
        "%" => DurationOp::Mod,
        _ => DurationOp::Pow,
    }
}

/// What a failed check leaves behind: zero, without a place, as in Prometheus.
fn nothing() -> DurationNode {
    let kind = DurationKind::Number(NumberLiteral { value: 0.0, duration: false });
    DurationNode { expr: DurationExpr { span: 0..0, kind }, depth: 1 }
}

impl Builder<'_> {
    /// A `dur_expr` pair.
    pub(super) fn duration_expr(&mut self, pair: Pair<'_>) -> Built<DurationNode> {
        let mut stack = DurationStack::default();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::sign => stack.sign(chain::sign(&part), span(&part).start),
                Rule::dur_op => self.duration_op(&mut stack, part.as_str(), span(&part)),
                _ => stack.operand(self.duration_atom(part)?),
            }
        }
        self.finish_duration(stack).ok_or(NotPromql)
    }

    /// Takes an operator: what binds more tightly before it is settled.
    pub(in crate::parser) fn duration_op(
        &mut self,
        stack: &mut DurationStack,
        op: &str,
        op_span: Span,
    ) {
        let op = duration_op(op);
        self.reduce_durations(precedence(op), op == DurationOp::Pow, stack);
        stack.pending.push(Pending::Binary { op, op_span });
    }

    /// The whole of what a stack holds; `None` when an operand is missing.
    pub(in crate::parser) fn finish_duration(
        &mut self,
        mut stack: DurationStack,
    ) -> Option<DurationNode> {
        self.reduce_durations(0, false, &mut stack);
        stack.operands.pop()
    }

    /// What follows `offset`: an optional sign and one atom.
    pub(super) fn offset_duration<'i>(
        &mut self,
        mut parts: impl Iterator<Item = Pair<'i>>,
    ) -> Built<DurationNode> {
        let first = parts.next().ok_or(NotPromql)?;
        if first.as_rule() != Rule::sign {
            return self.duration_atom(first);
        }
        let atom = self.duration_atom(parts.next().ok_or(NotPromql)?)?;
        Ok(self.signed_duration(chain::sign(&first), span(&first).start, atom))
    }

    fn reduce_durations(&mut self, limit: u8, right: bool, stack: &mut DurationStack) {
        while let Some(top) = stack.pending.pop_if(|top| {
            let strength = match top {
                Pending::Sign { .. } => SIGN_PRECEDENCE,
                Pending::Binary { op, .. } => precedence(*op),
            };
            strength > limit || (strength == limit && !right)
        }) {
            let Some(rhs) = stack.operands.pop() else { return };
            let result = match top {
                Pending::Sign { op, start } => self.signed_duration(op, start, rhs),
                Pending::Binary { op, op_span } => {
                    let Some(lhs) = stack.operands.pop() else { return };
                    self.duration_binary(lhs, op, op_span, rhs)
                }
            };
            stack.operands.push(result);
        }
    }

    fn duration_node(&mut self, span: Span, kind: DurationKind, below: usize) -> DurationNode {
        if below < NESTING_MAX {
            return DurationNode { expr: DurationExpr { span, kind }, depth: below + 1 };
        }
        self.too_deep.get_or_insert(span.clone());
        DurationNode { expr: DurationExpr { span, kind: DurationKind::Step }, depth: 1 }
    }

    /// A sign on a literal is part of the literal; a plus elsewhere means nothing.
    pub(in crate::parser) fn signed_duration(
        &mut self,
        op: UnaryOp,
        start: u32,
        inner: DurationNode,
    ) -> DurationNode {
        let minus = op == UnaryOp::Minus;
        let span = start..inner.expr.span.end;
        match inner.expr.kind {
            DurationKind::Number(number) => {
                let value = if minus { -number.value } else { number.value };
                let kind = DurationKind::Number(NumberLiteral { value, ..number });
                DurationNode { expr: DurationExpr { span, kind }, depth: 1 }
            }
            _ if minus => {
                let kind = DurationKind::Unary { op, expr: Box::new(inner.expr) };
                self.duration_node(span, kind, inner.depth)
            }
            _ => inner,
        }
    }

    fn duration_binary(
        &mut self,
        lhs: DurationNode,
        op: DurationOp,
        op_span: Span,
        rhs: DurationNode,
    ) -> DurationNode {
        if rhs.literal() == Some(0.0) {
            match op {
                DurationOp::Div => {
                    self.error(op_span, "division by zero");
                    return nothing();
                }
                DurationOp::Mod => {
                    self.error(op_span, "modulo by zero");
                    return nothing();
                }
                _ => {}
            }
        }
        let span = lhs.expr.span.start..rhs.expr.span.end;
        let below = lhs.depth.max(rhs.depth);
        let (lhs, rhs) = (Box::new(lhs.expr), Box::new(rhs.expr));
        self.duration_node(span, DurationKind::Binary { op, lhs, rhs }, below)
    }

    fn duration_atom(&mut self, pair: Pair<'_>) -> Built<DurationNode> {
        let span = span(&pair);
        Ok(match pair.as_rule() {
            Rule::number | Rule::number_word | Rule::duration => {
                let number = self.number(&pair);
                self.duration_literal(number, span)
            }
            Rule::dur_now => {
                let step = pair.as_str().get(..4).is_some_and(|w| w.eq_ignore_ascii_case("step"));
                self.duration_now(step, span)
            }
            Rule::dur_pick => {
                let mut parts = pair.into_inner();
                let name = parts.next().ok_or(NotPromql)?;
                let a = self.duration_expr(parts.next().ok_or(NotPromql)?)?;
                let b = self.duration_expr(parts.next().ok_or(NotPromql)?)?;
                let min = name.as_str().eq_ignore_ascii_case("min_of");
                self.duration_pick(min, a, b, span)
            }
            Rule::dur_paren => {
                let inner = self.duration_expr(pair.into_inner().next().ok_or(NotPromql)?)?;
                self.duration_paren(inner, span)
            }
            _ => return Err(NotPromql),
        })
    }

    /// A number or duration as a duration.
    pub(in crate::parser) fn duration_literal(
        &mut self,
        number: NumberLiteral,
        span: Span,
    ) -> DurationNode {
        // Go's durations are nanoseconds in 63 bits.
        if number.value.is_nan() || number.value.abs() > i64::MAX as f64 / 1e9 {
            self.error(span, "duration out of range");
            return nothing();
        }
        DurationNode { expr: DurationExpr { span, kind: DurationKind::Number(number) }, depth: 1 }
    }

    /// `step()`, else `range()`.
    pub(in crate::parser) fn duration_now(&self, step: bool, span: Span) -> DurationNode {
        let kind = if step { DurationKind::Step } else { DurationKind::Range };
        DurationNode { expr: DurationExpr { span, kind }, depth: 1 }
    }

    /// `min_of(a, b)`, else `max_of(a, b)`.
    pub(in crate::parser) fn duration_pick(
        &mut self,
        min: bool,
        a: DurationNode,
        b: DurationNode,
        span: Span,
    ) -> DurationNode {
        let below = a.depth.max(b.depth);
        let (a, b) = (Box::new(a.expr), Box::new(b.expr));
        let kind = if min { DurationKind::MinOf(a, b) } else { DurationKind::MaxOf(a, b) };
        self.duration_node(span, kind, below)
    }

    /// A duration in parentheses.
    pub(in crate::parser) fn duration_paren(
        &mut self,
        inner: DurationNode,
        span: Span,
    ) -> DurationNode {
        let below = inner.depth;
        self.duration_node(span, DurationKind::Paren(Box::new(inner.expr)), below)
    }

    /// Ranges and steps must be positive; here where they are literals, else when evaluated.
    pub(in crate::parser) fn positive(&mut self, duration: DurationNode) -> DurationNode {
        if duration.literal().is_some_and(|seconds| seconds <= 0.0) {
            self.error(duration.expr.span.clone(), "duration must be greater than 0");
            return nothing();
        }
        duration
    }
}
