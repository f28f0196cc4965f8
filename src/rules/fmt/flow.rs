//! Collections in flow style (`{a: b}`, `[a, b]`) as blocks. Scalars keep their text but for
//! those over several lines, comments their place between entries. A collection of which
//! anything is not plain to see (anchors, aliases, tags, `?`) stays as it is.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{indent, scalar};
use crate::model::lines::Lines;
use crate::rules::config::{LoadOptions, read_written};
use crate::yaml::{Content, Node, Style, node_span};

/// The text with the flow collections of its groups as blocks. Whoever uses it sees to it
/// that it still means the same.
pub(in crate::rules) fn in_blocks(file: &str, text: &str, options: &LoadOptions) -> String {
    let written = read_written(file, text, options);
    let lines = Lines::new(text);
    let deeper = written.lists.first().map_or(0, |(key, list)| list_indent(&lines, key, list));
    let mut flows = Flows { lines: &lines, deeper, seen: BTreeSet::new(), edits: Vec::new() };
    for (key, list) in &written.lists {
        flows.value(Some(key), list);
    }
    let mut edits = flows.edits;
    edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut out = text.to_owned();
    for (span, block) in edits {
        out.replace_range(span, &block);
    }
    out
}

/// How much deeper than their key this file begins the items of a list.
fn list_indent(lines: &Lines<'_>, key: &Node, list: &Node) -> usize {
    match &list.content {
        Content::Sequence(items) if !is_flow(lines, list) => items.first().map_or(0, |item| {
            let dash = indent(&lines.text()[lines.line(item.at.line)]);
            if dash + 1 > key.at.column { 2 } else { 0 }
        }),
        _ => 0,
    }
}

/// Whether a collection is in flow style, whatever anchor or tag stands before it.
fn is_flow(lines: &Lines<'_>, node: &Node) -> bool {
    let (bracket, first) = match &node.content {
        Content::Scalar { .. } => return false,
        Content::Sequence(items) => ('[', items.first()),
        Content::Mapping(entries) => ('{', entries.first().map(|(key, _)| key)),
    };
    let mut rest = &lines.text()[lines.offset(node.at)..];
    while rest.starts_with(['&', '!']) {
        rest = rest.trim_start_matches(|c: char| !c.is_whitespace()).trim_start();
    }
    // A block may be said to begin where its first entry does, which may be a bracket.
    rest.starts_with(bracket) && first.is_none_or(|first| first.at != node.at)
}

fn is_empty(node: &Node) -> bool {
    match &node.content {
        Content::Scalar { .. } => false,
        Content::Sequence(items) => items.is_empty(),
        Content::Mapping(entries) => entries.is_empty(),
    }
}

/// Finds the outermost flow collections.
struct Flows<'a> {
    lines: &'a Lines<'a>,
    deeper: usize,
    /// The collections that were looked at: aliases come again and again.
    seen: BTreeSet<*const Node>,
    edits: Vec<(Range<usize>, String)>,
}

impl Flows<'_> {
    /// The value of a key, or an item of a list.
    fn value(&mut self, key: Option<&Node>, node: &Node) {
        if node.scalar().is_some() || !self.seen.insert(std::ptr::from_ref(node)) {
            return;
        }
        if is_flow(self.lines, node) {
            let edit = self.block(key, node);
            self.edits.extend(edit);
            return;
        }
        match &node.content {
            Content::Scalar { .. } => {}
            Content::Sequence(items) => items.iter().for_each(|item| self.value(None, item)),
            Content::Mapping(entries) => {
                entries.iter().for_each(|(key, value)| self.value(Some(key), value));
            }
        }
    }

    /// What to write in the place of which bytes.
    fn block(&self, key: Option<&Node>, node: &Node) -> Option<(Range<usize>, String)> {
        let (lines, text) = (self.lines, self.lines.text());
        let start = lines.offset(node.at);
        if is_empty(node) {
            return None;
        }
        let (from, column) = match key {
            Some(key) => {
                let span = node_span(lines, key);
                let between = text.get(span.end..start)?;
                if between.trim() != ":" {
                    return None;
                }
                (span.end + between.find(':')? + 1, span.start - lines.line(key.at.line).start)
            }
            None => (start, start - lines.line(node.at.line).start),
        };
        let first = lines.line(key.unwrap_or(node).at.line).start;
        let before = text.get(first..first + column)?;
        if !before.bytes().all(|b| matches!(b, b' ' | b'-')) {
            return None;
        }
        let mut writer = Writer { lines, deeper: self.deeper, at: start, out: Vec::new() };
        writer.out.push(Line { is_item: key.is_none(), ..Line::default() });
        match key {
            Some(_) => writer.collection(node, column + writer.step(node), false)?,
            None => writer.collection(node, column, true)?,
        }
        let end = lines.line(lines.position(writer.at).line).end;
        let rest = text.get(writer.at..end)?;
        match rest.trim() {
            "" => {}
            comment if comment.starts_with('#') && rest.starts_with([' ', '\t']) => {
                let line = writer.out.first_mut()?;
                if line.comment.replace(comment).is_some() {
                    return None;
                }
            }
            _ => return None,
        }
        let written: Vec<String> = writer.out.iter().map(Line::written).collect();
        Some((from..end, written.join("\n")))
    }
}

#[derive(Default)]
struct Line<'a> {
    text: String,
    /// Beside the text.
    comment: Option<&'a str>,
    /// It begins with the dash of an item that is written already.
    is_item: bool,
    is_comment: bool,
}

impl Line<'_> {
    fn written(&self) -> String {
        match self.comment {
            Some(comment) => format!("{}  {comment}", self.text),
            None => self.text.clone(),
        }
    }

    /// Whether a dash waits for its item.
    fn is_open(&self) -> bool {
        self.is_item && self.text.is_empty() || self.text.ends_with("- ")
    }
}

/// Reads a collection with the help of its nodes, and writes it. Every function gives
/// `None` when it finds what is not expected.
struct Writer<'a> {
    lines: &'a Lines<'a>,
    deeper: usize,
    /// What has been read, in bytes of the text.
    at: usize,
    out: Vec<Line<'a>>,
}

impl<'a> Writer<'a> {
    fn rest(&self) -> &'a str {
        &self.lines.text()[self.at..]
    }

    /// How much deeper than its key a collection stands.
    fn step(&self, node: &Node) -> usize {
        if matches!(node.content, Content::Sequence(_)) { self.deeper } else { 2 }
    }

    fn expect(&mut self, token: char) -> Option<()> {
        self.at += self.rest().strip_prefix(token).map(|_| token.len_utf8())?;
        Some(())
    }

    /// A collection whose entries stand at `column`, the first behind a dash if it is
    /// `inline`.
    fn collection(&mut self, node: &Node, column: usize, mut inline: bool) -> Option<()> {
        if self.at != self.lines.offset(node.at) {
            return None;
        }
        let mut begin = |writer: &mut Self| {
            writer.between(column)?;
            if !std::mem::take(&mut inline) {
                writer.out.push(Line { text: " ".repeat(column), ..Line::default() });
            }
            Some(())
        };
        match &node.content {
            Content::Scalar { .. } => None,
            Content::Sequence(items) => {
                self.expect('[')?;
                for item in items {
                    begin(self)?;
                    self.push("- ");
                    match is_flow(self.lines, item) && !is_empty(item) {
                        true => self.collection(item, column + 2, true)?,
                        false => self.leaf(item)?,
                    }
                }
                self.between(column)?;
                self.expect(']')
            }
            Content::Mapping(entries) => {
                self.expect('{')?;
                for (key, value) in entries {
                    begin(self)?;
                    self.key(key)?;
                    self.push(":");
                    self.entry_value(value, column)?;
                }
                self.between(column)?;
                self.expect('}')
            }
        }
    }

    /// A key, without quotes where it does without.
    fn key(&mut self, key: &Node) -> Option<()> {
        let before = self.out.last()?.text.len();
        self.leaf(key)?;
        let text = key.scalar().filter(|_| key.tag() == "!!str");
        if let (Some(text), Some(line)) = (text, self.out.last_mut()) {
            line.text.truncate(before);
            line.text.push_str(&scalar(text));
        }
        Some(())
    }

    fn entry_value(&mut self, value: &Node, column: usize) -> Option<()> {
        self.blanks();
        if !self.rest().starts_with(':') {
            // A key alone.
            return value.is_null().then_some(());
        }
        self.at += 1;
        self.blanks();
        if self.rest().starts_with([',', '}', '#']) {
            return (value.scalar() == Some("")).then_some(());
        }
        if is_flow(self.lines, value) && !is_empty(value) {
            return self.collection(value, column + self.step(value), false);
        }
        self.push(" ");
        self.leaf(value)
    }

    /// A scalar, or a collection without entries.
    fn leaf(&mut self, node: &Node) -> Option<()> {
        let text = self.lines.text();
        if self.at != self.lines.offset(node.at) {
            return None;
        }
        match &node.content {
            Content::Scalar { text: value, style, tag: None } if *style != Style::Block => {
                let span = node_span(self.lines, node);
                let raw = text.get(span.clone())?;
                if raw.is_empty() || raw.starts_with(['&', '!', '*', '?']) {
                    return None;
                }
                self.at = span.end;
                match raw.contains('\n') {
                    true => self.push(&scalar(value)),
                    false => self.push(raw),
                }
            }
            Content::Scalar { .. } => return None,
            Content::Sequence(_) => {
                self.expect('[')?;
                self.blanks();
                self.expect(']')?;
                self.push("[]");
            }
            Content::Mapping(_) => {
                self.expect('{')?;
                self.blanks();
                self.expect('}')?;
                self.push("{}");
            }
        }
        Some(())
    }

    fn push(&mut self, text: &str) {
        if let Some(line) = self.out.last_mut() {
            line.text.push_str(text);
        }
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// What stands between entries; its comments are written.
    fn between(&mut self, column: usize) -> Option<()> {
        let mut from = self.at;
        loop {
            self.blanks();
            match self.rest().chars().next()? {
                ',' => {
                    self.at += 1;
                    from = self.at;
                }
                '#' => {
                    let line = self.rest().lines().next()?;
                    let comment = line.trim_end();
                    let is_beside = !self.lines.text()[from..self.at].contains('\n');
                    self.at += line.len();
                    let last = self.out.last_mut()?;
                    if last.is_open() {
                        return None;
                    }
                    if is_beside && !last.is_comment && last.comment.is_none() {
                        last.comment = Some(comment);
                    } else {
                        let text = format!("{:column$}{comment}", "");
                        self.out.push(Line { text, is_comment: true, ..Line::default() });
                    }
                }
                _ => return Some(()),
            }
        }
    }
}
