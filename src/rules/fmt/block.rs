//! One mapping in block style as lines: what belongs to each key, and the keys in another
//! order.

use super::{Level, inline, rank};
use crate::model::lines::Lines;
use crate::parser::{self, ParserOptions};
use crate::rules::config::LoadOptions;
use crate::yaml::{Content, Entry, Node, Style, node_span};

/// A block mapping as lines; numbers of lines count from 0.
pub(in crate::rules) struct Block<'a> {
    /// The line of its first key.
    pub start: usize,
    /// Behind its last line but for comments and blanks.
    pub tail: usize,
    /// Of its keys, in bytes.
    pub column: usize,
    pub parts: Vec<Part<'a>>,
    /// Its keys may be put into another order.
    movable: bool,
}

/// A key with all lines that belong to it.
pub(in crate::rules) struct Part<'a> {
    entry: &'a Entry,
    pub name: &'a str,
    /// The first line of the comments above it.
    lead: usize,
    key: usize,
    end: usize,
}

pub(in crate::rules) fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

pub(in crate::rules) fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

pub(in crate::rules) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

impl<'a> Block<'a> {
    /// `None` when its lines are not its own.
    pub(in crate::rules) fn new(
        lines: &[String],
        source: &Lines<'_>,
        node: &'a Node,
    ) -> Option<Self> {
        let Content::Mapping(entries) = &node.content else { return None };
        let (start, column) = (node.at.line.checked_sub(1)?, node.at.column.checked_sub(1)?);
        let before = lines.get(start)?.get(..column)?;
        if !before.bytes().all(|b| matches!(b, b' ' | b'-')) {
            return None;
        }
        let ends = |line: &String| {
            let content = !is_blank(line) && !is_comment(line);
            content && (indent(line) < column || line.starts_with("---") || line.starts_with("..."))
        };
        let end = (start + 1..lines.len()).find(|i| ends(&lines[*i])).unwrap_or(lines.len());
        let outside = |i: &usize| {
            is_blank(&lines[*i]) || is_comment(&lines[*i]) && indent(&lines[*i]) <= column
        };
        let after = |i: usize, least: usize| {
            let above = (least..i).rev().take_while(outside);
            above.last().unwrap_or(i)
        };
        let mut parts: Vec<Part<'_>> = Vec::with_capacity(entries.len());
        for entry in entries {
            let (name, at) = (entry.0.scalar()?, entry.0.at);
            let key = at.line.checked_sub(1)?;
            let line = lines.get(key)?;
            let own = key == start || line.get(..column).is_some_and(is_blank);
            let plain = line.get(column..)?.strip_prefix(name)?.starts_with(':');
            if at.column != column + 1 || key >= end || !own || !plain {
                return None;
            }
            let lead = match parts.last() {
                // Before the first key may be an anchor.
                None if key != start => return None,
                None => key,
                Some(last) if last.key >= key => return None,
                Some(last) => after(key, last.key + 1),
            };
            if let Some(last) = parts.last_mut() {
                last.end = lead;
            }
            parts.push(Part { entry, name, lead, key, end });
        }
        let tail = after(end, parts.last()?.key + 1);
        parts.last_mut()?.end = tail;
        // A value that goes on outside of its lines was not understood.
        let last_line =
            |part: &Part<'_>| source.position(node_span(source, &part.entry.1).end).line;
        if parts.iter().any(|part| part.is_in_place() && last_line(part) > part.end) {
            return None;
        }
        let linked = |line: &String| {
            [": &", ": *", "- &", "- *", "<<:"].iter().any(|link| line.contains(link))
        };
        let movable = !lines[start..tail].iter().any(linked);
        Some(Self { start, tail, column, parts, movable })
    }

    /// Its lines in the standard layout, [`start`](Self::start) to [`tail`](Self::tail).
    pub(super) fn laid_out(
        &self,
        lines: &[String],
        source: &Lines<'_>,
        options: &LoadOptions,
        level: Level,
    ) -> Vec<String> {
        let mut order: Vec<&Part<'_>> = self.parts.iter().collect();
        if self.movable {
            order.sort_by_key(|part| rank(part.name, level));
        }
        let own = |part: &Part<'_>| {
            let value = match part.name {
                "expr" if level == Level::Rules => self.expression(part, lines, source, options),
                _ => None,
            };
            value.unwrap_or_else(|| self.own_lines(part, lines))
        };
        let parts = order.into_iter().map(|part| (part, own(part))).collect();
        self.assembled(lines, parts)
    }

    /// The lines of a key, the first without what stands before the key.
    pub(in crate::rules) fn own_lines(&self, part: &Part<'_>, lines: &[String]) -> Vec<String> {
        let first = lines[part.key][self.column..].to_owned();
        std::iter::once(first).chain(lines[part.key + 1..part.end].iter().cloned()).collect()
    }

    /// The lines from [`start`](Self::start) to [`tail`](Self::tail), of these keys and no
    /// others.
    pub(in crate::rules) fn assembled(
        &self,
        lines: &[String],
        parts: Vec<(&Part<'_>, Vec<String>)>,
    ) -> Vec<String> {
        let head = &lines[self.start][..self.column];
        let dash = &head[..indent(head)];
        let blank = " ".repeat(self.column);
        let mut out = Vec::with_capacity(self.tail - self.start);
        for (i, (part, mut own)) in parts.into_iter().enumerate() {
            let above = &lines[part.lead..part.key];
            match i {
                // Above the first key is above the whole mapping.
                0 => {
                    let comments = above.iter().filter(|line| !is_blank(line));
                    out.extend(comments.map(|line| format!("{dash}{}", line.trim_start())));
                }
                _ => out.extend_from_slice(above),
            }
            own[0].insert_str(0, if i == 0 { head } else { &blank });
            out.append(&mut own);
        }
        out
    }

    /// The lines of an expression in the standard layout, the first without what stands
    /// before the key. `None` when it stays as it is.
    fn expression(
        &self,
        part: &Part<'_>,
        lines: &[String],
        source: &Lines<'_>,
        options: &LoadOptions,
    ) -> Option<Vec<String>> {
        let node = &*part.entry.1;
        let Content::Scalar { text, style, tag: None } = &node.content else { return None };
        if !part.is_in_place() {
            return None;
        }
        let first = lines[part.key][self.column..].strip_prefix("expr:")?.trim_start();
        if first.starts_with(['&', '*', '!']) {
            return None;
        }
        let (beside, last) = match style {
            Style::Block => {
                let header = first.split_once(" #").map(|(_, comment)| comment);
                (header, self.block_end(part, lines))
            }
            _ => {
                let end = node_span(source, node).end;
                let line = source.position(end).line;
                let rest = source.text()[end..source.line(line).end].trim_start();
                match rest.strip_prefix('#') {
                    None if !rest.is_empty() => return None,
                    comment => (comment, line),
                }
            }
        };
        let printed = printed(text, &options.parser)?;
        let beside = beside.map(|comment| format!("  #{comment}")).unwrap_or_default();
        let is_one_line = parser::comments(&printed).is_empty();
        let mut out = match inline(&printed).filter(|_| is_one_line) {
            Some(value) => vec![format!("expr: {value}{beside}")],
            None => {
                let inner = " ".repeat(self.column + 2);
                let content = printed.lines().map(|line| format!("{inner}{line}"));
                std::iter::once(format!("expr: |{beside}")).chain(content).collect()
            }
        };
        out.extend_from_slice(lines.get(last..part.end)?);
        Some(out)
    }

    /// Behind the last line of a block scalar.
    fn block_end(&self, part: &Part<'_>, lines: &[String]) -> usize {
        let own = &lines[part.key + 1..part.end];
        let header = lines[part.key].split_once(['|', '>']).map_or("", |(_, header)| header);
        let indicated = header.chars().take(2).find_map(|c| c.to_digit(10));
        let inner = match indicated {
            Some(deeper) => self.column + deeper as usize,
            None => own.iter().find(|line| !is_blank(line)).map_or(0, |line| indent(line)),
        };
        let len = own.iter().take_while(|line| is_blank(line) || indent(line) >= inner).count();
        part.key + 1 + len
    }
}

impl Part<'_> {
    pub(in crate::rules) fn value(&self) -> &Node {
        &self.entry.1
    }

    /// Whether the value stands where the key does, and not where an anchor is.
    fn is_in_place(&self) -> bool {
        (self.key + 1..=self.end).contains(&self.entry.1.at.line)
    }
}

/// An expression in the standard layout. `None` when none was found that stays as it is, or
/// a block of YAML cannot hold it.
fn printed(text: &str, options: &ParserOptions) -> Option<String> {
    let mut text = text.to_owned();
    // A comment that moves may let what it left stand on one line.
    for _ in 0..4 {
        let expr = parser::parse(&text, options).ok()?;
        if parser::comments(&text).is_empty() {
            return Some(parser::pretty_flush(&expr));
        }
        let printed = parser::pretty_with_comments(&expr, &text);
        if printed == text {
            let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            return Some(printed).filter(|printed| !printed.contains(is_odd));
        }
        text = printed;
    }
    None
}
