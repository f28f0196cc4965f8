//! Errors of the PromQL parser as advice: its words, the bytes it means, and what to write
//! instead. The hints themselves are in `hints`.

use std::ops::Range;

use super::hints::HINTS;
use super::{Diagnostic, Edit, Help, Related, Severity};
use crate::parser::{ParseError, ParseErrors};

/// An error with advice. Spans are bytes of the expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    pub span: Range<usize>,
    pub message: String,
    pub label: String,
    pub related: Vec<Related>,
    pub helps: Vec<Help>,
    pub notes: Vec<String>,
    /// It follows from another error and would only confuse.
    pub consequence: bool,
}

/// What is wrong, with what the hints know about it. Several errors of one expression are
/// all told.
pub fn explain(errors: &ParseErrors) -> Vec<Explained> {
    let all = errors.errors.iter().map(|error| explain_one(&errors.input, error));
    let mut all: Vec<Explained> = all.collect();
    if all.len() > 1 {
        // Where the parser loses its way inside an aggregation, it also misses arguments.
        for explained in &mut all {
            let rest = &errors.input[explained.span.end..];
            let empty = rest.trim_start().strip_prefix('(').map(str::trim_start);
            explained.consequence = explained.message.starts_with("no arguments for aggregate")
                && !empty.is_some_and(|rest| rest.starts_with(')'));
        }
    }
    all
}

fn explain_one(text: &str, error: &ParseError) -> Explained {
    let start = floor(text, error.span.start as usize);
    let end = floor(text, error.span.end as usize).max(start);
    let case = Case { text, message: &error.message, start, end };
    let mut explained = Explained {
        span: case.token(),
        message: error.message.clone(),
        label: String::new(),
        related: Vec::new(),
        helps: Vec::new(),
        notes: Vec::new(),
        consequence: false,
    };
    for hint in HINTS {
        hint(&case, &mut explained);
        if !explained.helps.is_empty() {
            break;
        }
    }
    explained
}

fn floor(text: &str, mut offset: usize) -> usize {
    offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// One error, as hints look at it.
pub(super) struct Case<'a> {
    pub text: &'a str,
    pub message: &'a str,
    pub start: usize,
    pub end: usize,
}

impl<'a> Case<'a> {
    /// The bytes to point at: those of the error, or the word or character it begins with
    /// where the error says no more than a place.
    pub(super) fn token(&self) -> Range<usize> {
        let rest = &self.text[self.start..];
        // The lexer's errors reach to the end of the text; what is wrong is one character,
        // or two that are one operator elsewhere.
        if self.says("unexpected character") || self.says("unexpected left brace") {
            let first = rest.chars().next().unwrap_or(' ');
            let doubled = matches!(first, '&' | '|') && rest[1..].starts_with(first);
            let len = first.len_utf8() * (1 + usize::from(doubled));
            return self.start..(self.start + len).min(self.text.len());
        }
        if self.end > self.start {
            return self.start..self.end;
        }
        let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let len = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
        self.start..self.start + len
    }

    /// The text of the error's token.
    pub(super) fn found(&self) -> &'a str {
        &self.text[self.token()]
    }

    /// What stands before the error, without blanks at its end.
    pub(super) fn before(&self) -> &'a str {
        self.text[..self.start].trim_end()
    }

    /// What begins at the error.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.start..]
    }

    /// The word that ends right before the error.
    pub(super) fn word_before(&self) -> &'a str {
        let before = self.before();
        let start = before
            .rfind(|c: char| !is_word(c))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        &before[start..]
    }

    /// The texts in double quotes in the message, unescaped as far as names need it.
    pub(super) fn quoted(&self, n: usize) -> Option<&'a str> {
        self.message.split('"').nth(2 * n + 1)
    }

    /// Whether the message begins so.
    pub(super) fn says(&self, prefix: &str) -> bool {
        self.message.starts_with(prefix)
    }
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == ':'
}

impl Explained {
    pub(super) fn advise(&mut self, text: impl Into<String>) {
        self.helps.push(Help { text: text.into(), edit: None });
    }

    pub(super) fn suggest(
        &mut self,
        text: impl Into<String>,
        span: Range<usize>,
        replacement: impl Into<String>,
    ) {
        let edit = Some(Edit { span, replacement: replacement.into() });
        self.helps.push(Help { text: text.into(), edit });
    }

    /// The diagnostic about the source the expression was read from. `place` tells where a
    /// range of the expression stands there, `verbatim` whether a text may be put there as
    /// it is.
    pub fn diagnostic(
        self,
        id: &'static str,
        place: &dyn Fn(Range<usize>) -> Range<usize>,
        verbatim: &dyn Fn(&str) -> bool,
    ) -> Diagnostic {
        let mut diagnostic = Diagnostic::new(id, Severity::Fatal, self.message);
        diagnostic.span = Some(place(self.span));
        diagnostic.label = self.label;
        diagnostic.notes = self.notes;
        let related = |r: Related| Related { span: place(r.span), label: r.label };
        diagnostic.related = self.related.into_iter().map(related).collect();
        diagnostic.helps = self
            .helps
            .into_iter()
            .map(|help| {
                let edit = help.edit.filter(|edit| verbatim(&edit.replacement));
                let edit = edit.map(|e| Edit { span: place(e.span), replacement: e.replacement });
                Help { text: help.text, edit }
            })
            .collect();
        diagnostic
    }
}
