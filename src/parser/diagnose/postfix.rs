//! What follows an operand, and durations.

use super::{Fault, Kind, Node, Token, Walk, Walker, Words};
use crate::parser::ast::{AtModifier, NumberLiteral, Span, UnaryOp};
use crate::parser::build::{DurationNode, DurationStack};

const DURATION_WORDS: &str = "number, duration, step(), or range()";

impl Walker<'_> {
    /// Steps over a sign.
    pub(super) fn sign(&mut self) -> Option<UnaryOp> {
        if self.take("+") {
            return Some(UnaryOp::Plus);
        }
        self.take("-").then_some(UnaryOp::Minus)
    }

    /// A number or duration.
    pub(super) fn number(&mut self) -> Result<NumberLiteral, Fault> {
        let token = self.token().clone();
        if !matches!(token.kind, Kind::Number | Kind::Duration) {
            return self.fault();
        }
        self.bump();
        let duration = token.kind == Kind::Duration;
        Ok(self.builder.number_token(token.text, duration, token.span()))
    }

    pub(super) fn at_postfix(&self) -> bool {
        self.token().is_any(&["[", "offset", "@", "anchored", "smoothed"])
    }

    /// The node with the postfix that stands here.
    pub(super) fn postfix(&mut self, node: Node) -> Result<Node, Fault> {
        let word = self.token().clone();
        self.bump();
        if word.is("[") {
            return self.brackets(node, word.start);
        }
        if word.is("offset") {
            let offset = self.offset().map_err(|_| Fault::worded(("offset", DURATION_WORDS)))?;
            return Ok(self.builder.with_offset(node, offset, self.end_of_last()));
        }
        if word.is("@") {
            let at = self.at(&node).map_err(|_| Fault::worded(("@", "timestamp")))?;
            return Ok(self.builder.with_at(node, at, self.end_of_last()));
        }
        Ok(self.builder.extension(node, word.text, word.span().end))
    }

    fn at(&mut self, node: &Node) -> Result<AtModifier, Fault> {
        if self.token().is_any(&["start", "end"]) {
            let start = self.token().is("start");
            self.bump();
            self.need("(")?;
            self.need(")")?;
            return Ok(if start { AtModifier::Start } else { AtModifier::End });
        }
        let minus = self.sign() == Some(UnaryOp::Minus);
        let value = self.number()?.value;
        Ok(self.builder.at_timestamp(if minus { -value } else { value }, &node.span()))
    }

    fn offset(&mut self) -> Result<DurationNode, Fault> {
        let start = self.token().start;
        let sign = self.sign();
        let atom = self.duration_atom()?;
        Ok(match sign {
            Some(op) => self.builder.signed_duration(op, start, atom),
            None => atom,
        })
    }

    fn brackets(&mut self, node: Node, start: u32) -> Result<Node, Fault> {
        const RANGE: Words = ("subquery or range", "\":\" or \"]\"");
        const STEP: Words = ("subquery selector", "\"]\"");
        let range = self.positive_in(("subquery or range selector", DURATION_WORDS))?;
        if self.take("]") {
            return Ok(self.builder.matrix(node, range, start..self.end_of_last()));
        }
        if !self.take(":") {
            return Err(Fault::worded(RANGE));
        }
        if self.take("]") {
            return Ok(self.builder.subquery(node, range, None, self.end_of_last()));
        }
        let words = ("subquery selector", "number, duration, step(), range(), or \"]\"");
        let step = self.positive_in(words)?;
        if !self.take("]") {
            return Err(Fault::worded(STEP));
        }
        Ok(self.builder.subquery(node, range, Some(step), self.end_of_last()))
    }

    /// A range or step, with the words for what does not fit in it.
    fn positive_in(&mut self, words: Words) -> Result<DurationNode, Fault> {
        let duration = self.duration_expr().map_err(|_| Fault::worded(words))?;
        Ok(self.builder.positive(duration))
    }

    fn duration_expr(&mut self) -> Result<DurationNode, Fault> {
        let mut stack = DurationStack::default();
        self.duration_operand(&mut stack)?;
        self.duration_rest(&mut stack)?;
        self.finished(stack)
    }

    /// Operators and operands, as long as there are any.
    fn duration_rest(&mut self, stack: &mut DurationStack) -> Walk {
        while is_arithmetic(self.token()) {
            let op = self.token().clone();
            self.bump();
            self.builder.duration_op(stack, op.text, op.span());
            self.duration_operand(stack)?;
        }
        Ok(())
    }

    fn finished(&mut self, stack: DurationStack) -> Result<DurationNode, Fault> {
        // Only the next token tells that the duration ends, so the lexer's complaint about
        // that comes before those about the duration.
        self.report_lexer();
        match self.builder.finish_duration(stack) {
            Some(duration) => Ok(duration),
            None => self.fault(),
        }
    }

    fn duration_operand(&mut self, stack: &mut DurationStack) -> Walk {
        loop {
            let start = self.token().start;
            let Some(op) = self.sign() else { break };
            stack.sign(op, start);
        }
        let atom = self.duration_atom()?;
        stack.operand(atom);
        Ok(())
    }

    fn duration_atom(&mut self) -> Result<DurationNode, Fault> {
        let word = self.token().clone();
        let span = |walker: &Self| -> Span { word.start..walker.end_of_last() };
        if word.is_any(&["step", "range"]) {
            self.bump();
            self.need("(")?;
            self.need(")")?;
            return Ok(self.builder.duration_now(word.is("step"), span(self)));
        }
        if word.is_any(&["min_of", "max_of"]) {
            self.bump();
            self.need("(")?;
            let a = self.duration_expr()?;
            self.need(",")?;
            let b = self.duration_expr()?;
            self.need(")")?;
            return Ok(self.builder.duration_pick(word.is("min_of"), a, b, span(self)));
        }
        if self.take("(") {
            let inner = self.duration_expr()?;
            self.need(")")?;
            return Ok(self.builder.duration_paren(inner, span(self)));
        }
        let number = self.number()?;
        Ok(self.builder.duration_literal(number, word.span()))
    }
}

fn is_arithmetic(token: &Token<'_>) -> bool {
    token.kind == Kind::Operator && token.is_any(&["+", "-", "*", "/", "%", "^"])
}
