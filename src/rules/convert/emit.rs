//! Groups written anew from their nodes: every alias and merge key followed, no comments.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::keys::{self, Fate};
use super::{Target, depth};
use crate::rules::config::WrittenGroup;
use crate::rules::fmt::{quoted, scalar};
use crate::yaml::{Content, Entry, Node};

/// `groups:` with everything in it but the rules of these indices of group and rule.
pub(super) fn groups(
    groups: &[WrittenGroup],
    to: Target,
    left_out: &BTreeSet<(usize, usize)>,
) -> String {
    let base = depth(to);
    let mut out = format!("{:base$}groups:\n", "");
    for group in groups {
        let kept_rules = group.rules.iter().filter(|rule| {
            let index = group.spec.zip(rule.spec);
            !index.is_some_and(|index| left_out.contains(&index))
        });
        let rules: Vec<_> = kept_rules.map(|rule| rule.entries()).collect();
        let mut first = true;
        for (key, value) in group.entries() {
            let name = key.scalar().unwrap_or_default();
            let Some(name) = kept(name, keys::of_group(name, value, to)) else { continue };
            start(&mut out, base, &mut first);
            if name != "rules" {
                entry(&mut out, name, value, base + 2, to);
                continue;
            }
            out.push_str("rules:\n");
            for entries in &rules {
                rule(&mut out, entries, base + 2, to);
            }
        }
    }
    out
}

fn rule(out: &mut String, entries: &[Entry], column: usize, to: Target) {
    let mut first = true;
    for (key, value) in entries {
        let name = key.scalar().unwrap_or_default();
        if let Some(name) = kept(name, keys::of_rule(name, to)) {
            start(out, column, &mut first);
            entry(out, name, value, column + 2, to);
        }
    }
}

fn kept(name: &str, fate: Fate) -> Option<&str> {
    match fate {
        Fate::Keep => Some(name),
        Fate::Rename(name) => Some(name),
        Fate::Drop | Fate::Lose(_) => None,
    }
}

/// What stands before a key: the dash of the item, or as many blanks.
fn start(out: &mut String, column: usize, first: &mut bool) {
    let mark = if std::mem::take(first) { "- " } else { "  " };
    let _ = write!(out, "{:column$}{mark}", "");
}

/// A key and its value, where the key stands at `column` already.
fn entry(out: &mut String, name: &str, value: &Node, column: usize, to: Target) {
    out.push_str(&scalar(name));
    out.push(':');
    node(out, value, column, to, name == "expr");
}

fn node(out: &mut String, value: &Node, column: usize, to: Target, is_expr: bool) {
    match &value.content {
        Content::Scalar { text, .. } => {
            let written = match value.tag() {
                // What is no text stays what it is, but where only texts may be.
                "!!str" => block_or_scalar(text, column + 2),
                _ if value.is_null() => String::new(),
                _ if to == Target::PrometheusRule && column > 4 && !is_expr => quoted(text),
                _ => text.to_string(),
            };
            let _ = writeln!(out, " {written}");
        }
        Content::Sequence(items) if items.is_empty() => out.push_str(" []\n"),
        Content::Sequence(items) => {
            out.push('\n');
            for item in items {
                let _ = write!(out, "{:column$}-", "");
                node(out, item, column + 2, to, false);
            }
        }
        Content::Mapping(_) => {
            let entries = value.merged(&mut |_| {}).unwrap_or_default();
            out.push_str(if entries.is_empty() { " {}\n" } else { "\n" });
            for (key, value) in &entries {
                let inner = column + 2;
                let _ = write!(out, "{:inner$}", "");
                entry(out, key.scalar().unwrap_or_default(), value, inner, to);
            }
        }
    }
}

/// A text as a block where it has lines that a block gives back, else on one line.
fn block_or_scalar(text: &str, column: usize) -> String {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let fits = !lines.is_empty()
        && !lines.starts_with([' ', '\n'])
        && !lines.ends_with('\n')
        && lines.contains('\n')
        && lines.chars().all(|c| c == '\n' || !c.is_control())
        && lines.lines().all(|line| line.is_empty() || !line.trim().is_empty());
    if !fits {
        return scalar(text);
    }
    let mut out = if text.ends_with('\n') { "|".to_owned() } else { "|-".to_owned() };
    for line in lines.lines() {
        let column = if line.is_empty() { 0 } else { column };
        let _ = write!(out, "\n{:column$}{line}", "");
    }
    out
}
