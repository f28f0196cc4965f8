//! Operator precedence over the flat list of signs, operands and operators.

use std::iter::Peekable;

use super::*;

/// Long runs of one associative set operator are built as a balanced tree: rules made by
/// machines have `or` chains of thousands of operands, far beyond any sensible depth, and
/// `or` and `and` under one matching mean the same however they are bracketed. Shorter
/// runs lean left as in Prometheus. Both print alike.
const LEANING_RUN_MAX: usize = 100;

/// An operator that waits for its right operand.
enum Pending {
    Sign { op: UnaryOp, start: u32 },
    Binary { op: BinaryOp, op_span: Span, modifiers: BinaryModifiers },
}

/// What was written between a binary operator and its right operand.
pub(in crate::parser) struct BinaryModifiers {
    pub return_bool: bool,
    /// As written; becomes part of the tree only between instant vectors.
    pub matching: VectorMatching,
}

/// A finished operand, or a run of operands of the same `and` / `or`.
enum Operand {
    Node(Node),
    Run(Run),
}

struct Run {
    op: BinaryOp,
    matching: VectorMatching,
    nodes: Vec<Node>,
    op_spans: Vec<Span>,
}

/// Binding strength; unary signs bind like `*`.
fn precedence(op: BinaryOp) -> u8 {
    use BinaryOp::*;
    match op {
        Or => 1,
        And | Unless => 2,
        Eq | NotEq | Less | LessEq | Greater | GreaterEq | TrimUpper | TrimLower => 3,
        Add | Sub => 4,
        Mul | Div | Mod | Atan2 => SIGN_PRECEDENCE,
        Pow => 6,
    }
}

const SIGN_PRECEDENCE: u8 = 5;

fn binary_op(text: &str) -> Option<BinaryOp> {
    use BinaryOp::*;
    const ALL: [BinaryOp; 18] = [
        Add, Sub, Mul, Div, Mod, Pow, Atan2, Eq, NotEq, Less, LessEq, Greater, GreaterEq,
        TrimUpper, TrimLower, And, Or, Unless,
    ];
    ALL.into_iter().find(|op| op.as_str().eq_ignore_ascii_case(text))
}

impl Builder<'_> {
    /// An `expr` pair.
    pub(super) fn expr(&mut self, pair: Pair<'_>) -> Built<Node> {
        let mut parts = pair.into_inner().peekable();
        let mut operands = Vec::new();
        let mut pending = Vec::new();
        // Most expressions are one operand.
        if let Some(part) = parts.next_if(|p| p.as_rule() != Rule::sign) {
            let node = self.operand(part, &mut parts)?;
            if parts.peek().is_none() {
                return Ok(node);
            }
            operands.push(Operand::Node(node));
        }
        while let Some(part) = parts.next() {
            match part.as_rule() {
                Rule::sign => {
                    pending.push(Pending::Sign { op: sign(&part), start: span(&part).start })
                }
                Rule::op => {
                    let op = binary_op(part.as_str()).ok_or(NotPromql)?;
                    let modifiers = self.modifiers(op, &mut parts)?;
                    self.reduce_above(
                        precedence(op),
                        op == BinaryOp::Pow,
                        &mut operands,
                        &mut pending,
                    )?;
                    pending.push(Pending::Binary { op, op_span: span(&part), modifiers });
                }
                _ => operands.push(Operand::Node(self.operand(part, &mut parts)?)),
            }
        }
        self.reduce_above(0, false, &mut operands, &mut pending)?;
        let last = operands.pop().ok_or(NotPromql)?;
        Ok(self.settle(last))
    }

    /// An operand with the modifiers behind it.
    fn operand(&mut self, primary: Pair<'_>, parts: &mut Peekable<Pairs<'_>>) -> Built<Node> {
        let mut node = self.primary(primary)?;
        while let Some(postfix) = parts.next_if(is_postfix) {
            node = self.postfix(node, postfix)?;
        }
        Ok(node)
    }

    /// Applies every pending operator that binds more tightly than `limit`, or as tightly
    /// unless the operator to come is right-associative.
    fn reduce_above(
        &mut self,
        limit: u8,
        right: bool,
        operands: &mut Vec<Operand>,
        pending: &mut Vec<Pending>,
    ) -> Built<()> {
        while let Some(top) = pending.pop_if(|top| {
            let strength = match top {
                Pending::Sign { .. } => SIGN_PRECEDENCE,
                Pending::Binary { op, .. } => precedence(*op),
            };
            strength > limit || (strength == limit && !right)
        }) {
            let rhs = operands.pop().ok_or(NotPromql)?;
            let rhs = self.settle(rhs);
            let result = match top {
                Pending::Sign { op, start } => Operand::Node(self.unary(op, start, rhs)),
                Pending::Binary { op, op_span, modifiers } => {
                    let lhs = operands.pop().ok_or(NotPromql)?;
                    self.binary(lhs, op, op_span, modifiers, rhs)
                }
            };
            operands.push(result);
        }
        Ok(())
    }

    /// A sign on a number is part of the number.
    fn unary(&mut self, op: UnaryOp, start: u32, operand: Node) -> Node {
        let span = start..operand.expr.span.end;
        if let ExprKind::Number(number) = &operand.expr.kind
            && operand.value_type == ValueType::Scalar
        {
            let value = if op == UnaryOp::Minus { -number.value } else { number.value };
            let kind = ExprKind::Number(NumberLiteral { value, duration: number.duration });
            return Node::leaf(span, kind, ValueType::Scalar);
        }
        self.checker.unary(operand.value_type, &span);
        let kind = ExprKind::Unary { op, expr: Box::new(operand.expr) };
        self.node(span, kind, operand.value_type, operand.depth)
    }

    fn binary(
        &mut self,
        lhs: Operand,
        op: BinaryOp,
        op_span: Span,
        modifiers: BinaryModifiers,
        rhs: Node,
    ) -> Operand {
        let (lhs_type, lhs_span) = match &lhs {
            Operand::Node(node) => (node.value_type, node.span()),
            Operand::Run(run) => (ValueType::InstantVector, run.span()),
        };
        let lhs_argument = Argument { span: lhs_span, value_type: lhs_type };
        let matching = self.checker.binary(op, &modifiers, lhs_argument, Argument::of(&rhs));
        if let (BinaryOp::And | BinaryOp::Or, Some(matching)) = (op, &matching) {
            return Operand::Run(self.extend_run(lhs, op, matching, op_span, rhs));
        }
        let lhs = self.settle(lhs);
        Operand::Node(self.binary_node(lhs, op, op_span, modifiers.return_bool, matching, rhs))
    }

    fn extend_run(
        &mut self,
        lhs: Operand,
        op: BinaryOp,
        matching: &VectorMatching,
        op_span: Span,
        rhs: Node,
    ) -> Run {
        match lhs {
            Operand::Run(mut run) if run.op == op && run.matching == *matching => {
                run.nodes.push(rhs);
                run.op_spans.push(op_span);
                run
            }
            lhs => Run {
                op,
                matching: matching.clone(),
                nodes: vec![self.settle(lhs), rhs],
                op_spans: vec![op_span],
            },
        }
    }

    fn binary_node(
        &mut self,
        lhs: Node,
        op: BinaryOp,
        op_span: Span,
        return_bool: bool,
        matching: Option<VectorMatching>,
        rhs: Node,
    ) -> Node {
        let span = lhs.expr.span.start..rhs.expr.span.end;
        let value_type = match (lhs.value_type, rhs.value_type) {
            (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
            _ => ValueType::InstantVector,
        };
        let below = lhs.depth.max(rhs.depth);
        let (lhs, rhs) = (lhs.expr, rhs.expr);
        let binary = Binary { op, lhs, rhs, return_bool, matching, op_span };
        self.node(span, ExprKind::Binary(Box::new(binary)), value_type, below)
    }

    /// Turns a run into a tree.
    fn settle(&mut self, operand: Operand) -> Node {
        let run = match operand {
            Operand::Node(node) => return node,
            Operand::Run(run) => run,
        };
        let count = run.nodes.len();
        let (mut nodes, mut op_spans) = (run.nodes.into_iter(), run.op_spans.into_iter());
        let mut join = |builder: &mut Self, lhs, op_span, rhs| {
            builder.binary_node(lhs, run.op, op_span, false, Some(run.matching.clone()), rhs)
        };
        if count > LEANING_RUN_MAX {
            return self.balance(count, &mut nodes, &mut op_spans, &mut join);
        }
        let mut tree = nodes.next().expect("BUG: a run has two nodes at least");
        for (op_span, rhs) in op_spans.zip(nodes) {
            tree = join(self, tree, op_span, rhs);
        }
        tree
    }

    fn balance(
        &mut self,
        count: usize,
        nodes: &mut impl Iterator<Item = Node>,
        op_spans: &mut impl Iterator<Item = Span>,
        join: &mut impl FnMut(&mut Self, Node, Span, Node) -> Node,
    ) -> Node {
        if count == 1 {
            return nodes.next().expect("BUG: as many nodes as counted");
        }
        let lhs = self.balance(count / 2, nodes, op_spans, join);
        let op_span = op_spans.next().expect("BUG: one operator between two nodes");
        let rhs = self.balance(count - count / 2, nodes, op_spans, join);
        join(self, lhs, op_span, rhs)
    }

    /// What follows an operator: `bool`, matching, `fill`.
    fn modifiers(
        &mut self,
        op: BinaryOp,
        parts: &mut Peekable<Pairs<'_>>,
    ) -> Built<BinaryModifiers> {
        let return_bool = parts.next_if(|p| p.as_rule() == Rule::kw_bool).is_some();
        let mut matching = VectorMatching {
            card: if op.is_set() { Cardinality::ManyToMany } else { Cardinality::OneToOne },
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        if let Some(pair) = parts.next_if(|p| p.as_rule() == Rule::matching) {
            let mut inner = pair.into_inner();
            let word = inner.next().ok_or(NotPromql)?;
            matching.on = word.as_str().eq_ignore_ascii_case("on");
            matching.labels = self.label_list(inner.next())?;
            if let Some(side) = inner.next() {
                let left = side.as_str().eq_ignore_ascii_case("group_left");
                matching.card = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                matching.include = self.label_list(inner.next())?;
            }
        }
        self.fills(&mut matching, parts)?;
        Ok(BinaryModifiers { return_bool, matching })
    }

    /// `fill(v)`, or `fill_left(v)` and `fill_right(v)` in either order, each at most once.
    fn fills(
        &mut self,
        matching: &mut VectorMatching,
        parts: &mut Peekable<Pairs<'_>>,
    ) -> Built<()> {
        while let Some(pair) = parts.next_if(|p| p.as_rule() == Rule::fill) {
            let fill_span = span(&pair);
            let mut inner = pair.into_inner();
            let name = inner.next().ok_or(NotPromql)?;
            let mut value = inner.next().ok_or(NotPromql)?;
            let mut factor = 1.0;
            if value.as_rule() == Rule::sign {
                factor = if sign(&value) == UnaryOp::Minus { -1.0 } else { 1.0 };
                value = inner.next().ok_or(NotPromql)?;
            }
            let value = self.number(&value).value * factor;
            let name = name.as_str();
            let left = !name.eq_ignore_ascii_case("fill_right");
            let right = !name.eq_ignore_ascii_case("fill_left");
            if (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some()) {
                return Err(NotPromql);
            }
            if left {
                matching.fill_left = Some(value);
            }
            if right {
                matching.fill_right = Some(value);
            }
            self.fill_enabled(fill_span);
        }
        Ok(())
    }

    /// Reports a `fill` where it is not enabled.
    pub(in crate::parser) fn fill_enabled(&mut self, span: Span) {
        if !self.options.binop_fill_modifiers {
            self.error(span, "binop fill modifiers are experimental and not enabled");
        }
    }
}

impl Run {
    fn span(&self) -> Span {
        let first = self.nodes.first().map_or(0, |n| n.expr.span.start);
        let last = self.nodes.last().map_or(0, |n| n.expr.span.end);
        first..last
    }
}

/// The sign of a `sign` pair.
pub(super) fn sign(pair: &Pair<'_>) -> UnaryOp {
    if pair.as_str() == "-" { UnaryOp::Minus } else { UnaryOp::Plus }
}

fn is_postfix(pair: &Pair<'_>) -> bool {
    matches!(pair.as_rule(), Rule::brackets | Rule::offset | Rule::at | Rule::extension)
}
