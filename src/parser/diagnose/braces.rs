//! Lists of labels and matchers.

use super::{Kind, Token, Walk, Walker, is_metric_name};

impl Walker<'_> {
    /// Label names in parentheses.
    pub(super) fn labels(&mut self) -> Walk {
        const CONTEXT: &str = "grouping opts";
        if !self.take("(") {
            return self.fault_in(CONTEXT, "\"(\"");
        }
        if self.take(")") {
            return Ok(());
        }
        loop {
            if !is_label(self.token()) {
                return self.fault_in(CONTEXT, "label");
            }
            self.bump();
            if self.take(")") {
                return Ok(());
            }
            if !self.take(",") {
                return self.fault_in(CONTEXT, "\",\" or \")\"");
            }
            if self.take(")") {
                return Ok(());
            }
        }
    }

    pub(super) fn matchers(&mut self) -> Walk {
        const CONTEXT: &str = "label matching";
        self.need("{")?;
        if self.take("}") {
            return Ok(());
        }
        loop {
            let kind = self.token().kind;
            if !matches!(kind, Kind::Identifier | Kind::String) {
                return self.fault_in(CONTEXT, "identifier or \"}\"");
            }
            self.bump();
            if self.token().kind == Kind::Equal {
                self.bump();
                if self.token().kind != Kind::String {
                    return self.fault_in(CONTEXT, "string");
                }
                self.bump();
            } else if kind == Kind::Identifier {
                return self.fault_in(CONTEXT, "label matching operator");
            }
            if self.take("}") {
                return Ok(());
            }
            if !self.take(",") {
                return self.fault_in(CONTEXT, "\",\" or \"}\"");
            }
            if self.take("}") {
                return Ok(());
            }
        }
    }

    /// As `matchers`, with equality only.
    pub(super) fn label_set(&mut self) -> Walk {
        const CONTEXT: &str = "label set";
        self.need("{")?;
        if self.take("}") {
            return Ok(());
        }
        loop {
            let kind = self.token().kind;
            if !matches!(kind, Kind::Identifier | Kind::String) {
                return self.fault_in(CONTEXT, "identifier or \"}\"");
            }
            self.bump();
            if self.take("=") {
                if self.token().kind != Kind::String {
                    return self.fault_in(CONTEXT, "string");
                }
                self.bump();
            } else if kind == Kind::Identifier {
                return self.fault_in(CONTEXT, "\"=\"");
            }
            if self.take("}") {
                return Ok(());
            }
            if !self.take(",") {
                return self.fault_in(CONTEXT, "\",\" or \"}\"");
            }
            if self.take("}") {
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
