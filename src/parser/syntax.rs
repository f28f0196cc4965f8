//! The grammar `grammar/promql.pest` as a parser of pairs. Only this file names pest;
//! `build` sees its types through the aliases here.

use std::borrow::Cow;
use std::ops::Range;

use pest::Parser;

use super::nesting::string_end;

/// The generated parser; `Rule` has one variant per production of the grammar.
#[derive(pest_derive::Parser)]
#[grammar = "grammar/promql.pest"]
struct Grammar;

/// A production that matched, with its text and its parts.
pub(super) type Pair<'a> = pest::iterators::Pair<'a, Rule>;
/// The parts of a production, in order.
pub(super) type Pairs<'a> = pest::iterators::Pairs<'a, Rule>;

/// Parses `text`, which has no comments, from `entry` on. `None` when the text is not of
/// the grammar: what exactly is wrong, in Prometheus' words, is `diagnose`'s business.
pub(super) fn parse(entry: Rule, text: &str) -> Option<Pair<'_>> {
    if has_odd_controls(text.as_bytes()) {
        return None;
    }
    Grammar::parse(entry, text).ok()?.next()
}

/// Whether there are control characters outside of strings that the grammar, to be quick,
/// takes for blanks, which they are not.
fn has_odd_controls(bytes: &[u8]) -> bool {
    let is_odd = |b: u8| (b < b' ') & !matches!(b, b'\t' | b'\n' | b'\r');
    // All at once, without branches: there are hardly ever any.
    if !bytes.iter().fold(false, |found, b| found | is_odd(*b)) {
        return false;
    }
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' | b'`' => at = string_end(bytes, at),
            _ if is_odd(byte) => return true,
            _ => {}
        }
        at += 1;
    }
    false
}

/// The text with blanks in place of comments, as many bytes as before, so that places stay
/// what they are. Few expressions have comments, and a grammar that looked for them after
/// each token would take a third longer for all.
///
/// Comments stay where Prometheus takes none: behind `[`, and between `fill` and its
/// parenthesis. There the grammar fails.
pub(super) fn without_comments(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'#') {
        return Cow::Borrowed(text);
    }
    let mut blanked = bytes.to_vec();
    comments(text, &mut |comment| blanked[comment].fill(b' '));
    // Whole comments became blanks, and a comment begins and ends between characters.
    String::from_utf8(blanked).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Calls `found` with the bytes of each comment that Prometheus takes, in order.
pub(super) fn comments(text: &str, found: &mut dyn FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    // Behind the last token.
    let mut token = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' | b'`' => at = string_end(bytes, at),
            b'#' => {
                let rest = &bytes[at..];
                let len = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
                let end = at + len.unwrap_or(rest.len());
                match is_refused(&bytes[..token], &bytes[end..]) {
                    true => token = end,
                    false => found(at..end),
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
        if !byte.is_ascii_whitespace() {
            token = at.min(bytes.len());
        }
    }
}

/// Whether a comment between these is one that Prometheus does not take.
fn is_refused(before: &[u8], after: &[u8]) -> bool {
    const FILLS: [&[u8]; 3] = [b"fill", b"fill_left", b"fill_right"];
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':');
    let word = before.iter().rposition(|b| !is_word(b)).map_or(before, |i| &before[i + 1..]);
    let is_fill = FILLS.iter().any(|fill| fill.eq_ignore_ascii_case(word));
    before.ends_with(b"[") || is_fill && after.trim_ascii_start().starts_with(b"(")
}
