//! From a place inside a scalar's text to the place in the file.
//!
//! Quoting, folding and indentation change white space and escapes only, so the n-th
//! character that is not white space is the same one in the text and in the source.
//!
//! `lines` are those of the source without a byte order mark.

use std::ops::Range;

use super::{Content, Node, Position, Style};
use crate::model::lines::Lines;

/// Where byte `text_offset` of a scalar's text stands. A place at white space or at the end
/// is the one after the character before it.
pub(crate) fn locate(lines: &Lines<'_>, node: &Node, text_offset: usize) -> Position {
    let Content::Scalar { text, .. } = &node.content else { return node.at };
    let span = locate_span(lines, node, text_offset..text_offset);
    let inside = text.get(text_offset..).and_then(|t| t.chars().next());
    lines.position(if inside.is_some_and(|c| !c.is_whitespace()) { span.end } else { span.start })
}

/// The bytes of the source that a range of a scalar's text was read from. An empty range
/// stands after the character before it, and its end at the character that follows.
pub(crate) fn locate_span(
    lines: &Lines<'_>,
    node: &Node,
    text_range: Range<usize>,
) -> Range<usize> {
    let whole = lines.offset(node.at).min(lines.text().len());
    let Content::Scalar { text, style, .. } = &node.content else { return whole..whole };
    if text.trim().is_empty() {
        return whole..whole;
    }
    let visible = |offset: usize| {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        text[..offset].chars().filter(|c| !c.is_whitespace()).count()
    };
    let first = visible(text_range.start);
    let last = visible(text_range.end.max(text_range.start));
    let mut walk = Walk::new(lines.text(), whole, *style);
    let (mut start, mut end) = (walk.at, walk.at);
    for _ in 0..first {
        match walk.next_visible() {
            Some(found) => (start, end) = (found.end, found.end),
            None => return whole..whole,
        }
    }
    if first == last {
        let next = walk.next_visible().map_or(end, |found| found.start);
        return if first == 0 { next..next } else { start..next };
    }
    for i in first..last {
        let Some(found) = walk.next_visible() else { break };
        if i == first {
            start = found.start;
        }
        end = found.end;
    }
    start..end
}

/// The bytes of a node: of a scalar all of it, quotes and the header of a block included;
/// of a collection the rest of the line it starts on.
pub(crate) fn node_span(lines: &Lines<'_>, node: &Node) -> Range<usize> {
    let start = lines.offset(node.at);
    let Content::Scalar { text, style, .. } = &node.content else {
        return start..lines.line(node.at.line).end.max(start);
    };
    let inner = locate_span(lines, node, 0..text.len());
    match style {
        Style::Plain if text.is_empty() => start..start,
        Style::Plain => start..inner.end,
        Style::Block => start..inner.end.max(lines.line(node.at.line).end),
        Style::Quoted | Style::DoubleQuoted => {
            let quote = if *style == Style::Quoted { '\'' } else { '"' };
            let from = inner.end.max(start + 1).min(lines.text().len());
            let closing = lines.text()[from..].find(quote);
            start..closing.map_or(from, |i| from + i + 1)
        }
    }
}

struct Walk<'a> {
    source: &'a str,
    at: usize,
    style: Style,
}

impl<'a> Walk<'a> {
    fn new(source: &'a str, start: usize, style: Style) -> Self {
        let mut walk = Self { source, at: start, style };
        if style != Style::Block {
            walk.skip_properties();
        }
        match style {
            Style::Plain => {}
            Style::Quoted | Style::DoubleQuoted => {
                walk.bump();
            }
            // The header (`|2-  # comment`) is not content.
            Style::Block => while walk.bump().is_some_and(|c| c != '\n') {},
        }
        walk
    }

    /// Steps over an anchor and a tag.
    fn skip_properties(&mut self) {
        while self.source[self.at..].starts_with(['&', '!']) {
            let rest = &self.source[self.at..];
            let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let blank = rest[word..].find(|c: char| !c.is_whitespace());
            self.at += word + blank.unwrap_or(rest.len() - word);
        }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.source[self.at..].chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// The bytes of the next character that is not white space in the text.
    fn next_visible(&mut self) -> Option<Range<usize>> {
        loop {
            let start = self.at;
            let c = self.bump()?;
            let visible = match (self.style, c) {
                (Style::Quoted, '\'') => self.bump().is_some(),
                (Style::DoubleQuoted, '\\') => self.escape(),
                _ => !c.is_whitespace(),
            };
            if visible {
                return Some(start..self.at);
            }
        }
    }

    /// Consumes an escape after its backslash; true when it stands for something visible.
    fn escape(&mut self) -> bool {
        let digits = match self.bump() {
            None | Some('\n' | '\r' | 'n' | 't' | 'r' | 'v' | 'f' | ' ' | '\t' | '_' | 'N') => {
                return false;
            }
            Some('L' | 'P') => return false,
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(_) => return true,
        };
        let mut code = 0u32;
        for _ in 0..digits {
            code = code << 4 | self.bump().and_then(|c| c.to_digit(16)).unwrap_or(0);
        }
        char::from_u32(code).is_none_or(|c| !c.is_whitespace())
    }
}
