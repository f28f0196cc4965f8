//! The checks' functions, by what they look at. Their rows are in `registry`.

pub(super) mod advice;
pub(super) mod alerts;
pub(super) mod comments;
pub(super) mod expressions;
pub(super) mod groups;
pub(super) mod impossible;
pub(super) mod policies;
pub(super) mod project;
pub(super) mod reader;
pub(super) mod regexp;
pub(super) mod templates;

use std::ops::Range;

/// `["a", "b"]` as `a and b`.
fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// The first occurrence of a word in a text from an offset on.
pub(super) fn find_word(text: &str, word: &str, from: usize) -> Option<Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut start = from.min(text.len());
    while let Some(at) = text.get(start..)?.find(word) {
        let (from, to) = (start + at, start + at + word.len());
        let before = text[..from].chars().next_back();
        let after = text[to..].chars().next();
        if !before.is_some_and(is_word) && !after.is_some_and(is_word) {
            return Some(from..to);
        }
        start = to;
    }
    None
}
