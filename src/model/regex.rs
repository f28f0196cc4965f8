//! Regular expressions as Go's `regexp` (RE2 syntax) understands them.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta;
use thiserror::Error;

/// Why an expression was refused: `error parsing regexp: ...` as Go words it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

/// An expression that must match the whole text, with `.` matching newlines:
/// `^(?s:EXPR)$`, as label matchers and relabelling use it.
#[derive(Clone)]
pub struct AnchoredRegex {
    inner: Arc<meta::Regex>,
    source: Arc<str>,
}

impl AnchoredRegex {
    /// Compiles an expression.
    pub fn new(source: &str) -> Result<Self, RegexError> {
        let inner =
            meta::Regex::new(&format!("^(?s:{source})$")).map_err(|e| RegexError(e.to_string()))?;
        Ok(Self { inner: Arc::new(inner), source: source.into() })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// True when the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.inner.is_match(text)
    }
}

impl fmt::Debug for AnchoredRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}
