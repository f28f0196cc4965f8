//! What follows an operand, and durations.

use super::{Fault, Kind, Token, Walk, Walker, Words, error};
use crate::parser::literal;

const DURATION_WORDS: &str = "number, duration, step(), or range()";

impl Walker<'_> {
    pub(super) fn sign(&mut self) -> bool {
        self.take("+") || self.take("-")
    }

    pub(super) fn literal(&mut self) -> Walk {
        let token = self.token();
        let value = match token.kind {
            Kind::Number => {
                literal::number(token.text).map_err(|e| format!("error parsing number: {e}"))
            }
            Kind::Duration => literal::duration_seconds(token.text).map_err(|e| e.to_string()),
            _ => return self.fault(),
        };
        if let Err(message) = value {
            let span = token.span();
            self.errors.push(error(span, message));
        }
        self.bump();
        Ok(())
    }

    /// Steps over one postfix; false when there is none.
    pub(super) fn postfix(&mut self) -> Result<bool, Fault> {
        if self.take("[") {
            self.brackets()?;
        } else if self.take("offset") {
            self.sign();
            self.duration_atom().map_err(|_| Fault::worded(("offset", DURATION_WORDS)))?;
        } else if self.take("@") {
            self.at().map_err(|_| Fault::worded(("@", "timestamp")))?;
        } else if self.token().is_any(&["anchored", "smoothed"]) {
            self.bump();
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn at(&mut self) -> Walk {
        if self.token().is_any(&["start", "end"]) {
            self.bump();
            self.need("(")?;
            return self.need(")");
        }
        self.sign();
        self.literal()
    }

    fn brackets(&mut self) -> Walk {
        const RANGE: Words = ("subquery or range", "\":\" or \"]\"");
        const STEP: Words = ("subquery selector", "\"]\"");
        self.duration_in(("subquery or range selector", DURATION_WORDS), RANGE)?;
        if self.take("]") {
            return Ok(());
        }
        if !self.take(":") {
            return Err(Fault::worded(RANGE));
        }
        if self.take("]") {
            return Ok(());
        }
        let first = ("subquery selector", "number, duration, step(), or range() or \"]\"");
        self.duration_in(first, STEP)?;
        if self.take("]") { Ok(()) } else { Err(Fault::worded(STEP)) }
    }

    /// A duration expression with the words for its first operand and for what follows.
    fn duration_in(&mut self, first: Words, later: Words) -> Walk {
        self.duration_operand().map_err(|_| Fault::worded(first))?;
        while is_arithmetic(self.token()) {
            self.bump();
            self.duration_operand().map_err(|_| Fault::worded(later))?;
        }
        Ok(())
    }

    fn duration_expr(&mut self) -> Walk {
        loop {
            self.duration_operand()?;
            if !is_arithmetic(self.token()) {
                return Ok(());
            }
            self.bump();
        }
    }

    fn duration_operand(&mut self) -> Walk {
        while self.sign() {}
        self.duration_atom()
    }

    fn duration_atom(&mut self) -> Walk {
        if self.token().is_any(&["step", "range"]) {
            self.bump();
            self.need("(")?;
            return self.need(")");
        }
        if self.token().is_any(&["min_of", "max_of"]) {
            self.bump();
            self.need("(")?;
            self.duration_expr()?;
            self.need(",")?;
            self.duration_expr()?;
            return self.need(")");
        }
        if self.take("(") {
            self.duration_expr()?;
            return self.need(")");
        }
        self.literal()
    }
}

fn is_arithmetic(token: &Token<'_>) -> bool {
    token.kind == Kind::Operator && token.is_any(&["+", "-", "*", "/", "%", "^"])
}
