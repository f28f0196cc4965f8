//! The standard layout of rule files: keys in one order, expressions as the printer of
//! PromQL lays them out, everything else as it was written.
//!
//! Collections in flow style become blocks first (`flow`). The rest works on lines. Each key
//! of a group or a rule owns its lines and the comments above them, and whole lines move
//! (`block`); only those of an expression are written anew. What cannot be moved so without
//! a doubt (anchors, aliases, merge keys) stays as it is. At the end the new text is read
//! again: it must mean what the old one meant and have the same comments, or the file is
//! refused.

mod block;
mod comments;
mod flow;

use std::fmt::Write;

use thiserror::Error;

pub(super) use self::block::{Block, indent, is_blank, is_comment};
pub(super) use self::comments::comments;
pub(super) use self::flow::in_blocks;
use super::config::{GroupSpec, LoadOptions, Problem, Written, read_written, render};
use crate::model::lines::Lines;
use crate::parser::ParserOptions;
use crate::yaml::{self, Node};

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
    #[error("it has carriage returns that do not end lines; format it with line feeds alone")]
    CarriageReturns,
    #[error("BUG: formatting would change {0}; the file is left as it is, please report this")]
    Changed(&'static str),
}

/// The text in the standard layout. `file` names it in errors.
pub fn format(file: &str, source: &str, parser: &ParserOptions) -> Result<String, FormatError> {
    // YAML reads both ends of a line as a line feed, in scalars too.
    let unix = source.replace("\r\n", "\n");
    if unix.contains('\r') {
        return Err(FormatError::CarriageReturns);
    }
    let (mark, body) = match unix.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", &*unix),
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
    let remarks = comments(body);
    let changed = |text: &str| match groups(file, text, &options) {
        Ok(after) if after == before => (comments(text) != remarks).then_some("comments"),
        _ => Some("what the rules mean"),
    };
    let blocks = in_blocks(file, &text, &options);
    if changed(&blocks).is_none() {
        text = blocks;
    }
    // Rules first: they lie within groups.
    for level in [Level::Rules, Level::Groups] {
        text = rewrite(file, &text, &options, level);
    }
    match changed(&text) {
        Some(what) => Err(FormatError::Changed(what)),
        None => Ok(mark.to_owned() + &text),
    }
}

fn groups(file: &str, text: &str, options: &LoadOptions) -> Result<Vec<GroupSpec>, Vec<Problem>> {
    let loaded = super::config::load_source(file, text, options);
    match loaded.is_valid() {
        true => Ok(loaded.groups),
        false => Err(loaded.errors().cloned().collect()),
    }
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

fn rank(name: &str, level: Level) -> usize {
    let keys = match level {
        Level::Rules => RULE_KEYS,
        Level::Groups if name == "rules" => return usize::MAX,
        Level::Groups => GROUP_KEYS,
    };
    keys.iter().position(|key| *key == name).unwrap_or(keys.len())
}

/// A text in double quotes, which hold any.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A text on one line.
pub(super) fn scalar(text: &str) -> String {
    inline(text).unwrap_or_else(|| quoted(text))
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
        labels:
          x: y
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
    fn comments_in_expressions_keep_their_place() {
        check(
            "\
groups:
- name: g
  rules:
  - record: a
    expr: |
      # why
      up   == 0 # so
  - expr: |2
          # the errors
          sum(rate(errors_total{ # of all kinds
            code=~'5..'}[5m])) by (job) # five minutes
        /   # over
          # everything
          sum by(job)(
            rate(requests_total[5m]) # all
            # codes
          )
        > 0.05


    record: b
  - record: c
    expr: \"x #one\\n+ label_replace(y, 'a', ' # no ', # no\\n 'b', '')\"
  - record: d
    expr: >
      up   ==   1 # the rest, all of it
  - record: e
    expr: |
      foo{
        # a
        a='1', # b
        b='2'
      } and (bar # c
      )
",
            "\
groups:
- name: g
  rules:
  - record: a
    expr: |
      # why
      up == 0  # so
  - record: b
    expr: |
      # the errors
      sum by (job) (
        rate(
          errors_total{code=~\"5..\"}[5m]  # of all kinds
        )
      )  # five minutes
      /  # over
        # everything
        sum by (job) (
          rate(requests_total[5m])  # all
          # codes
        )
      > 0.05
  - record: c
    expr: |
      x  #one
      +
        label_replace(
          y,
          \"a\",
          \" # no \",  # no
          \"b\",
          \"\"
        )
  - record: d
    expr: |
      up == 1  # the rest, all of it
  - record: e
    expr: |
      # a
      # b
      foo{a=\"1\",b=\"2\"}
      and
        (
          bar  # c
        )
",
        );
    }

    #[test]
    fn flow_collections_become_blocks() {
        check(
            "\
groups:
  - name: g
    labels: {team: a}   # whose
    source_tenants: [a, 'b']
    rules:
      - {expr: up==0, alert: A, labels: {}, 'annotations': {\"a\":\"{{ $value }}\", b: x y}} # short
      - alert: B
        labels:
          {severity: page, # always
            # two
            tier: '2',
          }
        # why
        expr: x
      - { record: r, expr: \"a\n          or b\" , labels: {n: 1, m: , long: one
            two}}
  - {name: h, interval: 1m, rules: [{record: x, expr: y}, # one
      # two
      {record: z,
       expr: y}]}
",
            "\
groups:
  - name: g
    source_tenants:
      - a
      - 'b'
    labels:  # whose
      team: a
    rules:
      - alert: A
        expr: up == 0  # short
        labels: {}
        annotations:
          a: \"{{ $value }}\"
          b: x y
      - alert: B
        # why
        expr: x
        labels:
          severity: page  # always
          # two
          tier: '2'
      - record: r
        expr: a or b
        labels:
          n: 1
          m:
          long: one two
  - name: h
    interval: 1m
    rules:
      - record: x
        expr: y  # one
      # two
      - record: z
        expr: y
",
        );
    }

    #[test]
    fn lines_may_end_as_elsewhere() {
        let unix = "groups:\n- name: g\n  rules:\n  - record: r\n    expr: up == 0\n";
        let source = unix.replace('\n', "\r\n").replace("up == 0", "up==0");
        assert_eq!(format("f.yml", &source, &ParserOptions::default()).unwrap(), unix);
    }

    #[test]
    fn what_cannot_be_moved_stays() {
        for source in [
            // Anchors, aliases, merge keys, tags, a whole file in flow style.
            "groups:\n- name: g\n  labels: &l {a: b}\n  rules:\n  - {record: r, expr: x==0, labels: *l}\n",
            "{\"groups\": [{\"name\": \"g\", \"rules\": [{\"record\": \"a\", \"expr\": \"x==0\"}]}]}\n",
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
        check("groups:\r#\n", "carriage returns");
        check("groups:\n- name: {{ .Values.x }}\n", "yaml: ");
        check("groups:\n- name: g\n  rules: [{record: r, expr: 'sum('}]\n", "could not parse");
        check("a: b\n- c\n", "yaml: line");
    }
}
