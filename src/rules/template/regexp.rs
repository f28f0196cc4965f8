//! Regular expressions of `match` and `reReplaceAll`: unanchored, with Go's replacement
//! language (`$1`, `${name}`, `$$`).

use std::sync::Arc;

use regex_automata::meta;
use regex_automata::util::captures::Captures;

use crate::model::regex::RegexError;

#[derive(Clone, Debug)]
pub(super) struct Pattern(Arc<meta::Regex>);

impl Pattern {
    pub(super) fn new(source: &str) -> Result<Self, RegexError> {
        meta::Regex::new(source).map(|r| Self(Arc::new(r))).map_err(|e| RegexError(e.to_string()))
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// As `Regexp.ReplaceAllString`.
    pub(super) fn replace_all(&self, text: &str, replacement: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut end = 0;
        for captures in self.0.captures_iter(text) {
            let Some(whole) = captures.get_match() else { continue };
            out.push_str(&text[end..whole.start()]);
            expand(&captures, text, replacement, &mut out);
            end = whole.end();
        }
        out.push_str(&text[end..]);
        out
    }
}

/// Go's `Expand`: the longest name of letters, digits and underscores after `$` counts,
/// `$$` is a dollar, and a group that is not there expands to nothing.
fn expand(captures: &Captures, text: &str, replacement: &str, out: &mut String) {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = group_name(rest) else {
            out.push('$');
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(i) => captures.get_group(i),
            Err(_) => captures.get_group_by_name(name),
        };
        if let Some(span) = group {
            out.push_str(&text[span.range()]);
        }
        rest = after;
    }
    out.push_str(rest);
}

/// `name` or `{name}` at the start, and what follows.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let len = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, after) = inner.split_at(len);
    if name.is_empty() {
        return None;
    }
    if braced { after.strip_prefix('}').map(|after| (name, after)) } else { Some((name, after)) }
}
