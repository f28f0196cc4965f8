//! Rule files of one ruler as those of another, and what that loses.
//!
//! As in [`fmt`](super::fmt) whole lines move: groups keep their text and comments, keys
//! that the target does not have leave with the comments above them. The result is read
//! again and must mean what the source meant but for the losses that were named; else, or
//! where lines are not a mapping's own (flow style, aliases), the groups are written anew
//! from what was read (`emit`), without comments.

mod emit;
mod keys;
mod losses;

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use self::keys::Fate;
pub use self::losses::{Loss, Warning};
use self::losses::{losses, twice};
use super::config::{GroupSpec, LoadOptions, read_written, render};
use super::fmt::{
    Block, Level, comments, in_blocks, indent, is_blank, is_comment, mappings, quoted, scalar,
};
use super::policy::{GroupPolicySpec, PolicySpec};
use crate::model::lines::{Lines, Position};
use crate::parser::ParserOptions;
use crate::yaml::{Content, Entry, Node, node_span};

/// Whose rule files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Prometheus,
    Vmalert,
    Thanos,
    Mimir,
    /// The Kubernetes object of the Prometheus operator.
    PrometheusRule,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "Prometheus",
            Self::Vmalert => "vmalert",
            Self::Thanos => "Thanos",
            Self::Mimir => "Mimir",
            Self::PrometheusRule => "a PrometheusRule",
        }
    }
}

/// Why nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConvertError {
    /// One line each, as `check rules` prints them.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    #[error(
        "group {0:?} is there in several objects, and {1} has room for one of that name: convert them from files of their own"
    )]
    SameGroup(String, &'static str),
    #[error("there is no group in it")]
    Empty,
    #[error(
        "BUG: converting would change what the rules mean; nothing is written, please report this"
    )]
    Changed,
}

/// What to write, beside the groups.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub parser: ParserOptions,
    /// `metadata.name` of an object.
    pub name: String,
    /// `metadata.namespace` of an object, or the namespace of Mimir.
    pub namespace: Option<String>,
    /// `metadata.labels` of an object.
    pub labels: Vec<(String, String)>,
}

/// A file for the target.
#[derive(Clone, Debug)]
pub struct Converted {
    pub text: String,
    /// In file order.
    pub warnings: Vec<Warning>,
}

/// Converts one file. `file` names it in errors.
pub fn convert(
    file: &str,
    source: &str,
    to: Target,
    options: &Options,
) -> Result<Converted, ConvertError> {
    let load = LoadOptions {
        parser: options.parser,
        dialects: true,
        ignore_unknown_fields: true,
        ..LoadOptions::default()
    };
    let source = source.strip_prefix('\u{feff}').unwrap_or(source).replace("\r\n", "\n");
    let written = read_written(file, &source, &load);
    if !written.loaded.is_valid() {
        let errors: Vec<_> = written.loaded.errors().cloned().collect();
        return Err(ConvertError::Invalid(render(&errors)));
    }
    if written.groups.is_empty() {
        return Err(ConvertError::Empty);
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = written.loaded.groups.iter().find(|g| !names.insert(&*g.name)) {
        return Err(ConvertError::SameGroup(twice.name.clone(), to.name()));
    }
    let mut warnings = losses(&source, &written, to);
    let mut wanted = written.loaded.groups.clone();
    let left_out = if to == Target::Vmalert { twice(&wanted) } else { BTreeSet::new() };
    for (i, group) in wanted.iter_mut().enumerate() {
        let mut rule = 0..;
        group.rules.retain(|_| rule.next().is_some_and(|rule| !left_out.contains(&(i, rule))));
    }
    wanted.iter_mut().for_each(|group| without_lost(group, to));
    let header = header(to, options);
    let is_right = |text: &String| means(file, text, &load, &wanted, to);
    let by_lines = text_of(file, &source, to, &load);
    let by_lines = by_lines.map(|(head, body)| format!("{head}{header}{body}"));
    let text = match by_lines.filter(is_right) {
        Some(text) => text,
        None => {
            let text = header + &emit::groups(&written.groups, to, &left_out);
            Some(text).filter(is_right).ok_or(ConvertError::Changed)?
        }
    };
    let left = comments(&text);
    if comments(&source).iter().any(|(text, count)| left.get(text).is_none_or(|n| n < count)) {
        let at = Position { line: 1, column: 1 };
        let (group, rule, key) = (String::new(), None, None);
        warnings.push(Warning { loss: Loss::Comments, at, group, rule, key });
    }
    warnings.sort_by_key(|warning| warning.at);
    Ok(Converted { text, warnings })
}

/// Whether a text holds these groups.
fn means(file: &str, text: &str, load: &LoadOptions, wanted: &[GroupSpec], to: Target) -> bool {
    let mut loaded = super::config::load_source(file, text, load);
    if !loaded.is_valid() {
        return false;
    }
    // Where a group stood says nothing about it.
    for group in &mut loaded.groups {
        group.file = file.to_owned();
        without_lost(group, to);
    }
    loaded.groups.len() == wanted.len()
        && loaded.groups.iter().zip(wanted).all(|(got, wanted)| {
            let wanted = GroupSpec { file: file.to_owned(), ..wanted.clone() };
            *got == wanted
        })
}

/// What is left of a group.
fn without_lost(group: &mut GroupSpec, to: Target) {
    group.policy = PolicySpec::default();
    group.group_policy = GroupPolicySpec::default();
    group.depends_on.clear();
    if to != Target::Vmalert {
        group.eval_offset_ms = None;
        group.concurrency = None;
    }
    for rule in &mut group.rules {
        let rule = Arc::make_mut(rule);
        rule.policy = PolicySpec::default();
        rule.depends_on.clear();
    }
}

/// What stands before `groups:`, and how deep that stands.
fn header(to: Target, options: &Options) -> String {
    let value = |text: &str| scalar(text);
    match to {
        Target::Mimir => {
            let namespace = options.namespace.as_deref().unwrap_or(&options.name);
            format!("namespace: {}\n", value(namespace))
        }
        Target::PrometheusRule => {
            let mut out = format!(
                "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: {}\n",
                value(&options.name)
            );
            if let Some(namespace) = &options.namespace {
                out += &format!("  namespace: {}\n", value(namespace));
            }
            if !options.labels.is_empty() {
                out += "  labels:\n";
                for (name, text) in &options.labels {
                    out += &format!("    {}: {}\n", value(name), value(text));
                }
            }
            out + "spec:\n"
        }
        _ => String::new(),
    }
}

fn depth(to: Target) -> usize {
    if to == Target::PrometheusRule { 2 } else { 0 }
}

/// The comments at the top, and the groups with their text and comments. `None` where lines
/// are not theirs alone.
fn text_of(file: &str, source: &str, to: Target, load: &LoadOptions) -> Option<(String, String)> {
    let mut text = source.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text = in_blocks(file, &text, load);
    if to == Target::PrometheusRule {
        text = with_texts(file, &text, load);
    }
    if to == Target::Vmalert {
        text = without_twins(file, &text, load)?;
    }
    // Rules first: they lie within groups.
    text = with_keys(file, &text, load, to, Level::Rules)?;
    text = with_keys(file, &text, load, to, Level::Groups)?;
    let written = read_written(file, &text, load);
    let source = Lines::new(&text);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let base = " ".repeat(depth(to));
    let mut out = format!("{base}groups:\n");
    let top = lines.iter().take_while(|line| is_comment(line)).count();
    // Behind what has been taken.
    let mut done = top;
    for (i, group) in written.groups.iter().enumerate() {
        let block = Block::new(&lines, &source, &group.node)?;
        let dash = block.column.checked_sub(2)?;
        if block.start < done || lines[block.start].get(dash..block.column)? != "- " {
            return None;
        }
        let aside = |i: &usize| is_blank(&lines[*i]) || is_comment(&lines[*i]);
        let lead = (done..block.start).rev().take_while(aside).last().unwrap_or(block.start);
        let is_last = i + 1 == written.groups.len();
        let own = |i: &usize| aside(i) && (is_last || indent(&lines[*i]) >= block.column);
        let after = (block.tail..lines.len()).take_while(own);
        done = after.filter(|i| is_comment(&lines[*i])).last().map_or(block.tail, |i| i + 1);
        for line in lines[lead..done].iter().skip_while(|line| i == 0 && is_blank(line)) {
            match is_blank(line) {
                true => out.push('\n'),
                false => out += &format!("{base}{}\n", &line[indent(line).min(dash)..]),
            }
        }
    }
    let head = lines[..top].iter().map(|line| format!("{line}\n")).collect();
    Some((head, out))
}

/// Takes out the rules that [`twice`] names.
fn without_twins(file: &str, text: &str, load: &LoadOptions) -> Option<String> {
    let written = read_written(file, text, load);
    let twins = twice(&written.loaded.groups);
    let source = Lines::new(text);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (group, rule) in twins.into_iter().rev() {
        let written = written.groups.iter().find(|written| written.spec == Some(group))?;
        let mut of_spec = written.rules.iter().filter(|written| written.spec == Some(rule));
        let node = &of_spec.next()?.node;
        // An alias stands where its rule is written, and that one stays.
        if written.rules.iter().filter(|rule| rule.node.at == node.at).count() > 1 {
            return None;
        }
        let block = Block::new(&lines, &source, node)?;
        let (start, tail) = (block.start, block.tail);
        lines.drain(start..tail);
    }
    Some(lines.join("\n") + "\n")
}

/// Takes out and renames keys of the mappings of a level.
fn with_keys(
    file: &str,
    text: &str,
    load: &LoadOptions,
    to: Target,
    level: Level,
) -> Option<String> {
    let written = read_written(file, text, load);
    let source = Lines::new(text);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let fate = |name: &str, value: &Node| match level {
        Level::Groups => keys::of_group(name, value, to),
        Level::Rules => keys::of_rule(name, to),
    };
    for node in mappings(&written, level) {
        let Content::Mapping(entries) = &node.content else { return None };
        // What a merge key brings along may have to go.
        if entries.iter().any(|(key, _)| key.is_merge()) {
            return None;
        }
        let kept = |(key, value): &Entry| fate(key.scalar().unwrap_or(""), value) == Fate::Keep;
        if entries.iter().all(kept) {
            continue;
        }
        let block = Block::new(&lines, &source, node)?;
        let mut parts = Vec::with_capacity(block.parts.len());
        for part in &block.parts {
            let mut own = block.own_lines(part, &lines);
            match fate(part.name, part.value()) {
                Fate::Keep => {}
                Fate::Rename(name) => own[0].replace_range(..part.name.len(), name),
                Fate::Drop | Fate::Lose(_) => continue,
            }
            parts.push((part, own));
        }
        let rebuilt = block.assembled(&lines, parts);
        lines.splice(block.start..block.tail, rebuilt);
    }
    Some(lines.join("\n") + "\n")
}

/// Labels and annotations that look like numbers, truth values or nothing as texts: the API
/// server takes nothing else.
fn with_texts(file: &str, text: &str, load: &LoadOptions) -> String {
    let written = read_written(file, text, load);
    let lines = Lines::new(text);
    let mut spans = Vec::new();
    for group in &written.groups {
        let own = group.map("labels");
        let rules = group.rules.iter().flat_map(|r| [r.map("labels"), r.map("annotations")]);
        for (_, value) in own.into_iter().chain(rules.flatten()) {
            if value.scalar().is_some() && value.tag() != "!!str" {
                let written = if value.is_null() { "" } else { value.scalar().unwrap_or("") };
                spans.push((node_span(&lines, &value), quoted(written)));
            }
        }
    }
    spans.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    spans.dedup_by_key(|(span, _)| span.start);
    let mut out = text.to_owned();
    for (span, value) in spans {
        let blank = if span.is_empty() { " " } else { "" };
        out.replace_range(span, &format!("{blank}{value}"));
    }
    out
}

#[cfg(test)]
mod tests;
