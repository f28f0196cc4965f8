//! From a place inside a scalar's text to the place in the file.
//!
//! Quoting, folding and indentation change white space and escapes only, so the n-th
//! character that is not white space is the same one in the text and in the source.

use super::{Content, Node, Position, Style};

/// Where byte `text_offset` of a scalar's text stands in `source`. A place at white space
/// or at the end is the one after the character before it.
pub(crate) fn locate(source: &str, node: &Node, text_offset: usize) -> Position {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let Content::Scalar { text, style, .. } = &node.content else { return node.at };
    let mut offset = text_offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = text[..offset].chars().filter(|c| !c.is_whitespace()).count();
    let inside = text[offset..].chars().next().is_some_and(|c| !c.is_whitespace());
    let mut walk = Walk::new(source, node, *style);
    let mut last_end = None;
    for _ in 0..before {
        match walk.next_visible() {
            Some((_, end)) => last_end = Some(end),
            None => return node.at,
        }
    }
    if inside && let Some((start, _)) = walk.next_visible() {
        return start;
    }
    last_end.unwrap_or(node.at)
}

struct Walk<'a> {
    rest: std::str::Chars<'a>,
    at: Position,
    style: Style,
}

impl<'a> Walk<'a> {
    fn new(source: &'a str, node: &Node, style: Style) -> Self {
        let mut walk = Self { rest: source.chars(), at: Position { line: 1, column: 1 }, style };
        while walk.at < node.at && walk.bump().is_some() {}
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

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    /// The next character that is not white space in the text: where it starts, and where
    /// what follows it starts.
    fn next_visible(&mut self) -> Option<(Position, Position)> {
        loop {
            let start = self.at;
            let c = self.bump()?;
            let visible = match (self.style, c) {
                (Style::Quoted, '\'') => self.bump().is_some(),
                (Style::DoubleQuoted, '\\') => self.escape(),
                _ => !c.is_whitespace(),
            };
            if visible {
                return Some((start, self.at));
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
