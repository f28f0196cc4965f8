//! Go's replacement templates.

use regex_automata::util::captures::Captures;

/// Appends the filled template.
pub(super) fn expand(template: &str, text: &str, captures: &Captures, out: &mut String) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = group_name(rest) else {
            out.push('$');
            continue;
        };
        rest = after;
        let span = match group_index(name) {
            Some(index) => captures.get_group(index),
            None => captures.get_group_by_name(name),
        };
        if let Some(span) = span {
            out.push_str(&text[span.start..span.end]);
        }
    }
    out.push_str(rest);
}

/// The name at the start of `text`, bare or in braces, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let is_word = |c: char| c.is_alphabetic() || c.is_numeric() || c == '_';
    let end = inner.find(|c| !is_word(c)).unwrap_or(inner.len());
    let (name, after) = inner.split_at(end);
    match (name.is_empty(), braced) {
        (true, _) => None,
        (false, false) => Some((name, after)),
        (false, true) => Some((name, after.strip_prefix('}')?)),
    }
}

/// A name that is a group's number; leading zeros make it a name.
fn group_index(name: &str) -> Option<usize> {
    let leading_zero = name.len() > 1 && name.starts_with('0');
    if leading_zero || name.len() > 9 || !name.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    name.parse().ok()
}
