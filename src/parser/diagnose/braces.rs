//! Lists of labels and matchers.

use super::{Kind, Token, Walk, Walker, is_metric_name};
use crate::parser::literal;

impl Walker<'_> {
    /// Label names in parentheses.
    pub(super) fn labels(&mut self) -> Walk {
        const CONTEXT: &str = "grouping opts";
        if !self.take("(") {
            return self.fault_in(CONTEXT, "\"(\"");
        }
        self.items(CONTEXT, ")", "\",\" or \")\"", |walker| {
            let token = walker.token().clone();
            if !is_label(&token) {
                return walker.fault_in(CONTEXT, "label");
            }
            walker.bump();
            if token.kind == Kind::String
                && let Ok(name) = literal::unquote(token.text)
            {
                walker.builder.quoted_label(&name, token.span());
            }
            Ok(())
        })
    }

    pub(super) fn matchers(&mut self) -> Walk {
        self.pairs("label matching", "label matching operator", |token| token.kind == Kind::Equal)
    }

    /// As `matchers`, with equality only.
    pub(super) fn label_set(&mut self) -> Walk {
        self.pairs("label set", "\"=\"", |token| token.is("="))
    }

    /// Names with values, or quoted names alone, in braces. `wanted` says what must follow
    /// a bare name, and `is_operator` knows it.
    fn pairs(
        &mut self,
        context: &'static str,
        wanted: &'static str,
        is_operator: impl Fn(&Token<'_>) -> bool,
    ) -> Walk {
        self.need("{")?;
        self.items(context, "}", "\",\" or \"}\"", |walker| {
            let Token { kind, start, .. } = *walker.token();
            if !matches!(kind, Kind::Identifier | Kind::String) {
                return walker.fault_in(context, "identifier or \"}\"");
            }
            walker.bump();
            if is_operator(walker.token()) {
                let op = walker.token().text;
                walker.bump();
                if walker.token().kind != Kind::String {
                    return walker.fault_in(context, "string");
                }
                let value = walker.token().text;
                walker.bump();
                walker.builder.check_matcher(op, value, start..walker.end_of_last());
            } else if kind == Kind::Identifier {
                return walker.fault_in(context, wanted);
            }
            Ok(())
        })
    }

    /// What follows an opening bracket: items, with a comma between two and perhaps after
    /// the last, up to `close`.
    fn items(
        &mut self,
        context: &'static str,
        close: &'static str,
        wanted: &'static str,
        item: impl Fn(&mut Self) -> Walk,
    ) -> Walk {
        if self.take(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(close) {
                return Ok(());
            }
            if !self.take(",") {
                return self.fault_in(context, wanted);
            }
            if self.take(close) {
                return Ok(());
            }
        }
    }
}

/// Whether a token may be a label in `by (...)` and its like.
fn is_label(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::String => true,
        Kind::Operator => token.is_any(&["and", "or", "unless", "atan2"]),
        Kind::Keyword => !token.is("without"),
        _ => is_metric_name(token),
    }
}
