//! The regular expression of a relabelling rule: anchored on both sides, with captures
//! that a Go-style template can name.

use std::fmt;

use crate::model::regex::{GoRegex, Match, RegexError};

/// A compiled expression, equal to another when its text is.
#[derive(Clone)]
pub struct Pattern {
    source: Box<str>,
    regex: GoRegex,
}

impl Pattern {
    /// Compiles `^(?s:EXPR)$`.
    pub fn new(source: &str) -> Result<Self, RegexError> {
        Ok(Self { source: source.into(), regex: GoRegex::anchored(source)? })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// True when the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The captures of a match of the whole text.
    pub(super) fn captures(&self, text: &str) -> Option<Match> {
        self.regex.find(text)
    }

    /// Fills `$1`, `$name`, `${name}` and `$$` from the captures of `text`.
    pub(super) fn expand(&self, template: &str, text: &str, captures: &Match) -> String {
        self.regex.expand(template, text, captures)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}
