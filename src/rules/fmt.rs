//! The standard layout of rule files: keys in one order, expressions as the printer of
//! PromQL lays them out, everything else as it was written.
//!
//! It works on lines. Each key of a group or a rule owns its lines and the comments above
//! them, and whole lines move; only those of an expression are written anew, and not when
//! it holds comments. What cannot be moved so without a doubt (flow mappings, anchors,
//! aliases, merge keys) stays as it is. At the end the new text is read again: it must
//! mean what the old one meant and have the same comments, or the file is refused.

use std::collections::BTreeMap;

use thiserror::Error;

use super::config::{GroupSpec, LoadOptions, Problem, Written, read_written, render};
use crate::model::lines::Lines;
use crate::parser::{self, ParserOptions};
use crate::yaml::{self, Content, Entry, Node, Style, node_span};

/// The keys of a rule in the order they are written in. Others follow.
pub(crate) const RULE_KEYS: &[&str] = &[
    "record",
    "alert",
    "expr",
    "for",
    "keep_firing_for",
    "datasource",
    "on_no_data",
    "on_error",
    "missing_evals_to_resolve",
    "depends_on",
    "debug",
    "update_entries_limit",
    "labels",
    "annotations",
];

/// The keys of a group in the order they are written in. Others come before the rules.
pub(crate) const GROUP_KEYS: &[&str] = &[
    "name",
    "type",
    "datasource",
    "interval",
    "query_offset",
    "evaluation_delay",
    "eval_offset",
    "eval_delay",
    "eval_alignment",
    "align_evaluation_time_on_interval",
    "limit",
    "concurrency",
    "partial_response_strategy",
    "source_tenants",
    "tenant",
    "params",
    "headers",
    "notifier_headers",
    "debug",
    "extra_filter_labels",
    "on_no_data",
    "on_error",
    "missing_evals_to_resolve",
    "on_limit",
    "budget",
    "catch_up",
    "depends_on",
    "labels",
];

/// Why a file is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// One line each, as `check rules` prints them.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    #[error("it has carriage returns; format it with line feeds alone (dos2unix)")]
    CarriageReturns,
    #[error("BUG: formatting would change {0}; the file is left as it is, please report this")]
    Changed(&'static str),
}

/// The text in the standard layout. `file` names it in errors.
pub fn format(file: &str, source: &str, parser: &ParserOptions) -> Result<String, FormatError> {
    if source.contains('\r') {
        return Err(FormatError::CarriageReturns);
    }
    let (mark, body) = match source.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", source),
    };
    let options = LoadOptions {
        parser: *parser,
        dialects: true,
        ignore_unknown_fields: true,
        ..LoadOptions::default()
    };
    let before = groups(file, body, &options).map_err(|e| FormatError::Invalid(render(&e)))?;
    if before.is_empty() {
        return Ok(source.to_owned());
    }
    let mut text = body.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    // Rules first: they lie within groups.
    for level in [Level::Rules, Level::Groups] {
        text = rewrite(file, &text, &options, level);
    }
    let after = groups(file, &text, &options);
    if !after.is_ok_and(|after| after == before) {
        return Err(FormatError::Changed("what the rules mean"));
    }
    if comments(body) != comments(&text) {
        return Err(FormatError::Changed("comments"));
    }
    Ok(mark.to_owned() + &text)
}

fn groups(file: &str, text: &str, options: &LoadOptions) -> Result<Vec<GroupSpec>, Vec<Problem>> {
    let loaded = super::config::load_source(file, text, options);
    match loaded.is_valid() {
        true => Ok(loaded.groups),
        false => Err(loaded.errors().cloned().collect()),
    }
}

/// How often each comment is there, those in expressions too.
pub(super) fn comments(text: &str) -> BTreeMap<&str, usize> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let own = line.trim_start().starts_with('#').then_some(line.trim());
        let beside = line.rfind(" # ").map(|at| line[at..].trim());
        if let Some(comment) = own.or(beside) {
            *found.entry(comment).or_default() += 1;
        }
    }
    found
}

/// Which mappings of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Rules,
    Groups,
}

/// The mappings of a level from the last to the first, so that lines before stay where they
/// are; an aliased one once.
pub(super) fn mappings(written: &Written, level: Level) -> Vec<&Node> {
    let groups = written.groups.iter();
    let mut nodes: Vec<&Node> = match level {
        Level::Groups => groups.map(|group| &*group.node).collect(),
        Level::Rules => groups.flat_map(|g| g.rules.iter().map(|r| &*r.node)).collect(),
    };
    nodes.sort_by_key(|node| std::cmp::Reverse(node.at));
    nodes.dedup_by_key(|node| node.at);
    nodes
}

/// Lays out all mappings of a level anew.
fn rewrite(file: &str, text: &str, options: &LoadOptions, level: Level) -> String {
    let written = read_written(file, text, options);
    let source = Lines::new(text);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for node in mappings(&written, level) {
        let Some(block) = Block::new(&lines, &source, node) else { continue };
        let laid_out = block.laid_out(&lines, &source, options, level);
        lines.splice(block.start..block.tail, laid_out);
    }
    let mut out = lines.join("\n");
    out.push('\n');
    out
}

/// A block mapping as lines; numbers of lines count from 0.
pub(super) struct Block<'a> {
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
pub(super) struct Part<'a> {
    entry: &'a Entry,
    pub name: &'a str,
    /// The first line of the comments above it.
    lead: usize,
    key: usize,
    end: usize,
}

pub(super) fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

pub(super) fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

impl<'a> Block<'a> {
    /// `None` when its lines are not its own.
    pub(super) fn new(lines: &[String], source: &Lines<'_>, node: &'a Node) -> Option<Self> {
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

    fn laid_out(
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
    pub(super) fn own_lines(&self, part: &Part<'_>, lines: &[String]) -> Vec<String> {
        let first = lines[part.key][self.column..].to_owned();
        std::iter::once(first).chain(lines[part.key + 1..part.end].iter().cloned()).collect()
    }

    /// The lines from [`start`](Self::start) to [`tail`](Self::tail), of these keys and no
    /// others.
    pub(super) fn assembled(
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
        if !part.is_in_place() || parser::has_comments(text) {
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
        let expr = parser::parse(text, &options.parser).ok()?;
        let printed = parser::pretty_flush(&expr);
        let beside = beside.map(|comment| format!("  #{comment}")).unwrap_or_default();
        let mut out = match inline(&printed) {
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
        let inner = own.iter().find(|line| !is_blank(line)).map_or(0, |line| indent(line));
        let len = own.iter().take_while(|line| is_blank(line) || indent(line) >= inner).count();
        part.key + 1 + len
    }
}

impl Part<'_> {
    pub(super) fn value(&self) -> &Node {
        &self.entry.1
    }

    /// Whether the value stands where the key does, and not where an anchor is.
    fn is_in_place(&self) -> bool {
        (self.key + 1..=self.end).contains(&self.entry.1.at.line)
    }
}

fn rank(name: &str, level: Level) -> usize {
    let keys = match level {
        Level::Rules => RULE_KEYS,
        Level::Groups if name == "rules" => return usize::MAX,
        Level::Groups => GROUP_KEYS,
    };
    keys.iter().position(|key| *key == name).unwrap_or(keys.len())
}

/// How YAML writes a text behind a key on one line, if it can so that a person likes it.
pub(crate) fn inline(text: &str) -> Option<String> {
    if text.contains(char::is_control) {
        return None;
    }
    let reads_back = |written: &str| {
        let documents = yaml::parse(&format!("a: {written}\n")).ok()?;
        let value = documents.first()?.root.as_ref()?.get("a")?.clone();
        (value.scalar() == Some(text) && value.tag() == "!!str").then_some(())
    };
    let quoted = format!("'{text}'");
    match reads_back(text) {
        Some(()) => Some(text.to_owned()),
        None if !text.contains('\'') => reads_back(&quoted).map(|()| quoted),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &str) {
        let formatted = format("f.yml", source, &ParserOptions::default()).unwrap();
        assert_eq!(formatted, expected, "{source}");
        let again = format("f.yml", &formatted, &ParserOptions::default()).unwrap();
        assert_eq!(again, formatted, "formatted once more");
    }

    #[test]
    fn keys_move_with_their_comments() {
        check(
            "\
# top
groups:
  # about the group
  - rules:
      # about the rule
      - expr: up==0 # beside
        # above for
        for: 5m

        # above labels
        labels:
          a: b  # b
          # below b
        # above alert
        alert: A
        # below the rule

      # about the next
      - record: r
        labels: {x: y}
        expr: sum(x)by(job)
    name: g   # the name
    interval: 1m
  # end
",
            "\
# top
groups:
  # about the group
  - name: g   # the name
    interval: 1m
    rules:
      # about the rule
      # above alert
      - alert: A
        expr: up == 0  # beside
        # above for
        for: 5m

        # above labels
        labels:
          a: b  # b
          # below b
        # below the rule

      # about the next
      - record: r
        expr: sum by (job) (x)
        labels: {x: y}
  # end
",
        );
    }

    #[test]
    fn expressions_take_one_line_or_a_block() {
        let long = "sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m])) / sum by (job) (rate(http_requests_total[5m])) > 0.05";
        check(
            &format!(
                "groups:\n- name: g\n  rules:\n  - record: a\n    expr: '{long}'\n  - record: b\n    expr: |\n      up\n        == 0\n\n\n  - record: c\n    expr: >-\n      up\n      ==  1\n    # after\n  - record: d\n    expr: \"{{a='x: y'}}\"\n  - record: e\n    expr:\n      up\n      - 1\n"
            ),
            "\
groups:
- name: g
  rules:
  - record: a
    expr: |
      sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m]))
      / sum by (job) (rate(http_requests_total[5m]))
      > 0.05
  - record: b
    expr: up == 0


  - record: c
    expr: up == 1
    # after
  - record: d
    expr: '{a=\"x: y\"}'
  - record: e
    expr: up - 1
",
        );
    }

    #[test]
    fn what_cannot_be_moved_stays() {
        for source in [
            // Comments in expressions.
            "groups:\n- name: g\n  rules:\n  - record: a\n    expr: |\n      # why\n      up   == 0 # so\n",
            // Flow mappings, anchors, aliases, merge keys, tags.
            "groups:\n- name: g\n  rules:\n  - {expr: up==0, alert: A}\n",
            "groups:\n- name: g\n  rules:\n  - expr: &e up==0\n    alert: A\n  - expr: *e\n    alert: B\n",
            "groups:\n- name: g\n  rules:\n  - &r\n    alert: A\n    expr: up\n  - expr: x\n    <<: *r\n    alert: B\n",
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: !!str up==0\n",
            "groups: []\n",
            "",
        ] {
            check(source, source);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let check = |source: &str, expected: &str| {
            let error = format("f.yml", source, &ParserOptions::default()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check("groups:\r\n", "carriage returns");
        check("groups:\n- name: {{ .Values.x }}\n", "yaml: ");
        check("groups:\n- name: g\n  rules: [{record: r, expr: 'sum('}]\n", "could not parse");
        check("a: b\n- c\n", "yaml: line");
    }
}
