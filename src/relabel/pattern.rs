//! The regular expression of a relabelling rule: anchored on both sides, with captures
//! that a Go-style template can name.

use std::fmt;
use std::sync::Arc;

use regex_automata::meta;
use regex_automata::util::captures::Captures;

use crate::model::regex::RegexError;

/// A compiled expression, equal to another when its text is.
#[derive(Clone)]
pub struct Pattern {
    inner: Arc<meta::Regex>,
    source: Arc<str>,
}

impl Pattern {
    /// Compiles `^(?s:EXPR)$`.
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

    /// The captures of a match of the whole text.
    pub(super) fn captures(&self, text: &str) -> Option<Captures> {
        let mut captures = self.inner.create_captures();
        self.inner.captures(text, &mut captures);
        captures.is_match().then_some(captures)
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

/// Expands `$1`, `$name`, `${name}` and `$$` as Go's `Regexp.Expand`: a name is the
/// longest run of letters, digits and underscores; an unknown one is empty; a `$` that
/// starts no name stands for itself.
pub(super) fn expand(template: &str, text: &str, captures: &Captures) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        match variable(rest) {
            Some((name, after)) => {
                let span = match name.parse::<usize>() {
                    Ok(index) => captures.get_group(index),
                    Err(_) => captures.get_group_by_name(name),
                };
                out.push_str(span.map_or("", |s| &text[s.start..s.end]));
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

/// The variable name that starts here and what follows it.
fn variable(text: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if let Some(inner) = text.strip_prefix('{') {
        let end = inner.find(|c| !is_word(c))?;
        let closed = end > 0 && inner[end..].starts_with('}');
        return closed.then(|| (&inner[..end], &inner[end + 1..]));
    }
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}
