//! What is wrong in a text a person wrote, said so that the person can mend it: an id, how
//! grave it is, which bytes it is about, what to do. `text` shows it with an excerpt of the
//! source and a caret, `machine` as JSON, SARIF, GitHub annotations or JUnit; `promql`
//! turns errors of the parser into advice, `nearest` finds what a misspelt word was to be.
//!
//! Nothing here knows what rules are, opens files, or decides what is worth saying.

mod brackets;
mod hints;
mod machine;
pub mod nearest;
pub mod promql;
mod text;

use std::fmt;
use std::ops::Range;

pub use machine::{CheckInfo, github, json, junit, sarif};
pub use text::{Look, render, text};

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing needs to be done.
    Info,
    /// Works, but not well or not for long.
    Warning,
    /// Does not do what its author meant.
    Bug,
    /// Cannot be used at all.
    Fatal,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Self::Info, Self::Warning, Self::Bug, Self::Fatal];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Bug => "bug",
            Self::Fatal => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text with its name; diagnostics are about bytes of it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path as given; "standard input" has none of its own.
    pub name: String,
    /// Without a byte order mark.
    pub text: String,
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Id of the check that found it, such as `promql/syntax`.
    pub id: &'static str,
    pub severity: Severity,
    /// Index of its source in the report.
    pub source: usize,
    /// Bytes of the source; `None` when it is about the file as a whole.
    pub span: Option<Range<usize>>,
    pub message: String,
    /// What stands beside the caret; may be empty.
    pub label: String,
    /// Other places that matter.
    pub related: Vec<Related>,
    pub notes: Vec<String>,
    pub helps: Vec<Help>,
    /// Which rule or group it is about, for a person: `alert "Down" of group "nodes"`.
    pub subject: Option<String>,
}

/// Another place of the same source, and what it has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    pub span: Range<usize>,
    pub label: String,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Help {
    pub text: String,
    /// A change of the source that does it.
    pub edit: Option<Edit>,
}

/// Bytes of a source and what is to stand there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub span: Range<usize>,
    pub replacement: String,
}

impl Diagnostic {
    /// A diagnostic without details.
    pub fn new(id: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self {
            id,
            severity,
            source: 0,
            span: None,
            message: message.into(),
            label: String::new(),
            related: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
            subject: None,
        }
    }

    #[must_use]
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related.push(Related { span, label: label.into() });
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.helps.push(Help { text: text.into(), edit: None });
        self
    }

    /// Help that says which bytes to change to what.
    #[must_use]
    pub fn suggest(
        mut self,
        text: impl Into<String>,
        span: Range<usize>,
        replacement: impl Into<String>,
    ) -> Self {
        let edit = Some(Edit { span, replacement: replacement.into() });
        self.helps.push(Help { text: text.into(), edit });
        self
    }
}

/// Everything there is to say about some files.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub sources: Vec<Source>,
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// By file, place and id.
    pub fn sort(&mut self) {
        self.diagnostics.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.source, d.span.as_ref().map_or(0, |s| s.start), d.id);
            key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
        });
    }

    /// The gravest of all.
    pub fn worst(&self) -> Option<Severity> {
        self.diagnostics.iter().map(|d| d.severity).max()
    }

    /// `2 errors, 1 warning`; "" when there is nothing to say.
    pub fn counts(&self) -> String {
        let mut parts = Vec::new();
        for severity in Severity::ALL.into_iter().rev() {
            let count = self.diagnostics.iter().filter(|d| d.severity == severity).count();
            if count > 0 {
                let plural = if count == 1 || severity == Severity::Info { "" } else { "s" };
                parts.push(format!("{count} {severity}{plural}"));
            }
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests;
