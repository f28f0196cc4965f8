//! What can be said of an expression without looking at any data: which labels its result
//! has (`labels`), and which values it may have and whether there is any (`values`).
//!
//! Both err on one side: what is reported holds for any data, or for any that is scraped in
//! the usual way, in which case the text says so.

pub(super) mod labels;
pub(super) mod values;

use std::ops::Range;

use crate::parser::Expr;

/// Something that follows from an expression alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inferred {
    pub kind: Kind,
    /// Bytes of the expression.
    pub span: Range<usize>,
    pub message: String,
    /// Beside the caret.
    pub label: String,
    /// Other places, and what they have to do with it.
    pub related: Vec<(Range<usize>, String)>,
    pub notes: Vec<String>,
    pub help: String,
}

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of the expression has no result, ever.
    Never,
    /// A comparison leaves nothing out.
    Always,
    /// The two sides of an operator do not find each other.
    Unmatched,
    /// A label is used that is not there.
    NoLabel,
    /// A parameter makes no sense.
    Parameter,
}

impl Inferred {
    fn new(kind: Kind, span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            kind,
            span,
            message: message.into(),
            label: String::new(),
            related: Vec::new(),
            notes: Vec::new(),
            help: String::new(),
        }
    }
}

fn span(expr: &Expr) -> Range<usize> {
    expr.span.start as usize..expr.span.end as usize
}
