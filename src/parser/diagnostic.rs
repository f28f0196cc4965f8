//! Parse and type errors, with spans.

use std::fmt;

use super::ast::Span;
use crate::model::annotation::line_column;

/// One problem: Prometheus' message and the bytes it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub span: Span,
    pub message: String,
}

/// Every problem found in an expression, in the order Prometheus reports them; never empty.
/// `Display` is the first one, as `LINE:COLUMN: parse error: MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErrors {
    /// The expression as submitted.
    pub input: String,
    pub errors: Vec<ParseError>,
}

impl ParseErrors {
    /// One error as Prometheus prints it.
    pub fn render(&self, error: &ParseError) -> String {
        let (line, column) = line_column(&self.input, error.span.start as usize);
        format!("{line}:{column}: parse error: {}", error.message)
    }
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.first() {
            Some(first) => f.write_str(&self.render(first)),
            None => f.write_str("parse error"),
        }
    }
}

impl std::error::Error for ParseErrors {}
