//! The YAML that rule files are written in, read quickly: block mappings and sequences of
//! plain, simply quoted and literal scalars, in one document.
//!
//! Whatever else there is (anchors, flow collections, folded scalars, escapes, errors of
//! any kind, ...) makes [`parse`] give up, and the text is read by the parser of all of
//! YAML. What is read here is what that one would read, places included; the tests hold
//! the two against each other.

use std::sync::Arc;

use super::{Content, Document, Entry, Node, Position, Style};

/// Deepest nesting read here.
const DEPTH_MAX: usize = 50;
/// Longest key read here, in bytes.
const KEY_MAX: usize = 100;

/// The document, or `None` when it is not certain to be of the simple kind.
pub(super) fn parse(source: &str) -> Option<Document> {
    // Without a branch, so that many bytes are looked at at once.
    let odd = |b: u8| (b < b' ') & (b != b'\n') | (b == 0x7f);
    if !source.ends_with('\n') || source.bytes().fold(false, |found, b| found | odd(b)) {
        return None;
    }
    if !source.is_ascii() && source.chars().any(|c| c.is_control() && c != '\n' || is_special(c)) {
        return None;
    }
    let mut reader = Reader { source, at: 0, line: 1, line_start: 0, depth: 0 };
    let first = reader.content()?;
    if first.indent != 0 {
        return None;
    }
    let root = reader.block(first)?;
    match reader.content() {
        Some(_) => None,
        None => Some(Document { at: first.position(), root: Some(root) }),
    }
}

/// What YAML takes for a line break or refuses.
fn is_special(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}')
}

/// Where something stands.
#[derive(Clone, Copy)]
struct Place {
    line: usize,
    /// Column from 0. Only keys, indicators and blanks come before any node, so bytes are
    /// characters.
    indent: usize,
}

impl Place {
    fn position(self) -> Position {
        Position { line: self.line, column: self.indent + 1 }
    }
}

struct Reader<'a> {
    source: &'a str,
    /// The next byte.
    at: usize,
    line: usize,
    line_start: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn byte(&self, ahead: usize) -> u8 {
        self.source.as_bytes().get(self.at + ahead).copied().unwrap_or(b'\n')
    }

    fn place(&self) -> Place {
        Place { line: self.line, indent: self.at - self.line_start }
    }

    /// The rest of the line.
    fn rest(&self) -> &'a str {
        let rest = &self.source[self.at..];
        &rest[..memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len())]
    }

    fn skip_blanks(&mut self) {
        while self.at < self.source.len() && self.byte(0) == b' ' {
            self.at += 1;
        }
    }

    fn next_line(&mut self) {
        self.at += self.rest().len() + 1;
        self.at = self.at.min(self.source.len());
        self.line += 1;
        self.line_start = self.at;
    }

    /// Goes to the next content, over blank lines and comments; from there on when it is
    /// reached already.
    fn content(&mut self) -> Option<Place> {
        while self.at < self.source.len() {
            self.skip_blanks();
            let comment = self.byte(0) == b'#';
            if self.byte(0) != b'\n' && !comment {
                return Some(self.place());
            }
            self.next_line();
        }
        None
    }

    /// After a value: only blanks and a comment may follow on its line. Goes to the next
    /// line.
    fn end_line(&mut self) -> Option<()> {
        let rest = self.rest();
        let tail = rest.trim_start_matches(' ');
        if !(tail.is_empty() || tail.starts_with('#') && tail.len() < rest.len()) {
            return None;
        }
        self.next_line();
        Some(())
    }

    /// A node that begins at `place`, where the reader is.
    fn block(&mut self, place: Place) -> Option<Arc<Node>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let node = match self.is_item() {
            true => self.sequence(place, false),
            false => self.mapping(place),
        };
        self.depth -= 1;
        node
    }

    /// Whether a `-` with something or nothing behind it comes here.
    fn is_item(&self) -> bool {
        self.byte(0) == b'-' && matches!(self.byte(1), b' ' | b'\n')
    }

    fn mapping(&mut self, place: Place) -> Option<Arc<Node>> {
        let mut entries: Vec<Entry> = Vec::with_capacity(4);
        let mut at = place;
        loop {
            let key = self.key(at)?;
            // Past the colon.
            let colon = self.place();
            self.at += 1;
            let value = self.value(place.indent, colon)?;
            entries.push((key, value));
            match self.content() {
                Some(next) if next.indent == place.indent => at = next,
                Some(next) if next.indent > place.indent => return None,
                _ => break,
            }
        }
        entries.shrink_to_fit();
        Some(Arc::new(Node::new(place.position(), Content::Mapping(entries))))
    }

    /// A plain key; leaves the reader at its colon.
    fn key(&mut self, place: Place) -> Option<Arc<Node>> {
        let rest = &self.source.as_bytes()[self.at..];
        let part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-');
        let len = rest.iter().position(|b| !part(b))?;
        let ends = rest[len] == b':' && matches!(rest.get(len + 1), Some(b' ' | b'\n'));
        if len == 0 || len > KEY_MAX || !ends || !rest[0].is_ascii_alphabetic() && rest[0] != b'_' {
            return None;
        }
        let text = &self.source[self.at..self.at + len];
        self.at += len;
        Some(scalar(place, text, Style::Plain))
    }

    /// What comes behind a colon of a mapping at `indent`.
    fn value(&mut self, indent: usize, colon: Place) -> Option<Arc<Node>> {
        self.skip_blanks();
        if self.byte(0) != b'\n' && self.byte(0) != b'#' {
            return self.scalar(indent);
        }
        self.next_line();
        let after = Place { indent: colon.indent + 1, ..colon };
        match self.content() {
            Some(next) if next.indent > indent => self.block(next),
            // A sequence need not be indented.
            Some(next) if next.indent == indent && self.is_item() => self.sequence(next, true),
            _ => Some(scalar(after, "", Style::Plain)),
        }
    }

    /// One that is `flush` with the key it belongs to is said to stand where its first item
    /// does.
    fn sequence(&mut self, place: Place, flush: bool) -> Option<Arc<Node>> {
        let mut at = place;
        let mut items = Vec::new();
        loop {
            // Past the `-`.
            self.at += 1;
            self.skip_blanks();
            let here = self.place();
            if flush && items.is_empty() {
                if matches!(self.byte(0), b'\n' | b'#') {
                    return None;
                }
                at = here;
            }
            items.push(match self.byte(0) {
                b'\n' | b'#' => {
                    self.next_line();
                    match self.content() {
                        Some(next) if next.indent > place.indent => self.block(next)?,
                        // An item that is nothing.
                        _ => return None,
                    }
                }
                _ if self.is_item() || self.is_key() => self.block(here)?,
                _ => self.scalar(place.indent)?,
            });
            match self.content() {
                Some(next) if next.indent == place.indent && self.is_item() => {}
                Some(next) if next.indent > place.indent => return None,
                _ => break,
            }
        }
        items.shrink_to_fit();
        Some(Arc::new(Node::new(at.position(), Content::Sequence(items))))
    }

    fn is_key(&self) -> bool {
        let rest = self.rest().as_bytes();
        let end = rest.iter().position(|b| !b.is_ascii_alphanumeric() && !b"_./-".contains(b));
        end.is_some_and(|end| rest[end] == b':' && matches!(rest.get(end + 1), None | Some(b' ')))
    }

    /// A scalar that begins here, within a collection at `indent`.
    fn scalar(&mut self, indent: usize) -> Option<Arc<Node>> {
        let place = self.place();
        match self.byte(0) {
            quote @ (b'\'' | b'"') => self.quoted(place, quote),
            b'|' => self.literal(place, indent),
            _ => self.plain(place),
        }
    }

    fn plain(&mut self, place: Place) -> Option<Arc<Node>> {
        let rest = self.rest();
        let refused = |b: u8| b"&*!%@`>{}[],?:|#'\"".contains(&b);
        let first = self.byte(0);
        if refused(first) || first == b'-' && matches!(self.byte(1), b' ' | b'-' | b'\n') {
            return None;
        }
        let bytes = rest.as_bytes();
        let mut end = bytes.len();
        for (i, b) in bytes.iter().enumerate() {
            match b {
                b':' if matches!(bytes.get(i + 1), None | Some(b' ')) => return None,
                b'#' if bytes[i - 1] == b' ' => {
                    end = i;
                    break;
                }
                _ => {}
            }
        }
        let text = rest[..end].trim_end_matches(' ');
        self.next_line();
        Some(scalar(place, text, Style::Plain))
    }

    fn quoted(&mut self, place: Place, quote: u8) -> Option<Arc<Node>> {
        let rest = &self.rest()[1..];
        let mut end = rest.find(char::from(quote))?;
        let mut text = std::borrow::Cow::Borrowed(&rest[..end]);
        if quote == b'"' && text.contains('\\') {
            return None;
        }
        // A doubled quote stands for one.
        while quote == b'\'' && rest[end + 1..].starts_with('\'') {
            let more = &rest[end + 2..];
            let len = more.find('\'')?;
            text = (text.into_owned() + "'" + &more[..len]).into();
            end += 2 + len;
        }
        self.at += end + 2;
        self.end_line()?;
        let style = if quote == b'"' { Style::DoubleQuoted } else { Style::Quoted };
        Some(scalar(place, &text, style))
    }

    /// A literal block, `|` or `|-`.
    fn literal(&mut self, place: Place, parent: usize) -> Option<Arc<Node>> {
        let strip = match self.rest().trim_end_matches(' ') {
            "|" => false,
            "|-" => true,
            _ => return None,
        };
        self.next_line();
        let indent = self.rest().bytes().position(|b| b != b' ')?;
        if indent <= parent {
            return None;
        }
        let mut text = String::new();
        let mut blank = 0;
        while self.at < self.source.len() {
            let line = self.rest();
            let own = line.bytes().position(|b| b != b' ');
            match own {
                None if line.len() > indent => return None,
                None => blank += 1,
                Some(own) if own >= indent => {
                    text.extend(std::iter::repeat_n('\n', blank));
                    text.push_str(&line[indent..]);
                    blank = 1;
                }
                Some(own) if own > parent => return None,
                Some(_) => break,
            }
            self.next_line();
        }
        if !strip {
            text.push('\n');
        }
        Some(scalar(place, &text, Style::Block))
    }
}

fn scalar(place: Place, text: &str, style: Style) -> Arc<Node> {
    Arc::new(Node::new(place.position(), Content::Scalar { text: text.into(), style, tag: None }))
}
