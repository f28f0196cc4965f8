//! Rule files of one ruler as those of another, and what that loses.
//!
//! As in [`fmt`](super::fmt) whole lines move: groups keep their text and comments, keys
//! that the target does not have leave with the comments above them. The result is read
//! again and must mean what the source meant but for the losses that were named; else, or
//! where lines are not a mapping's own (flow style, aliases), the groups are written anew
//! from what was read (`emit`), without comments.

mod emit;
mod keys;

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

use self::keys::Fate;
use super::config::{GroupSpec, LoadOptions, RuleSpec, Written, read_written, render};
use super::fmt::{Block, Level, comments, indent, is_blank, is_comment, mappings};
use super::graph::{RuleGraph, Sees, Ticks};
use super::policy::{GroupPolicySpec, PolicySpec};
use crate::model::labels::quote;
use crate::model::lines::{Lines, Position};
use crate::parser::ParserOptions;
use crate::parser::ast::ExprKind;
use crate::yaml::{self, Content, Entry, Node, node_span};

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

/// What a conversion loses, or what means something else afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    Alignment,
    Chaining,
    Comments,
    EvalOffset,
    Extrapolation,
    Metadata,
    OwnKey,
    PartialResponse,
    Request,
    Tenants,
    UnknownKey,
}

impl Loss {
    /// The name of the warning.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alignment => "alignment",
            Self::Chaining => "chaining",
            Self::Comments => "comments",
            Self::EvalOffset => "eval-offset",
            Self::Extrapolation => "extrapolation",
            Self::Metadata => "metadata",
            Self::OwnKey => "watchfire-key",
            Self::PartialResponse => "partial-response",
            Self::Request => "request",
            Self::Tenants => "tenants",
            Self::UnknownKey => "unknown-key",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Alignment => "evaluations are not aligned to the interval",
            Self::Chaining => {
                "it reads what an earlier rule of its group writes, which vmalert stores \
                 asynchronously: it may see the value of an earlier evaluation"
            }
            Self::Comments => {
                "comments are left out: those of keys that are dropped, outside of groups, or \
                 where the file is not in block style"
            }
            Self::EvalOffset => "where in its interval the group runs cannot be said",
            Self::Extrapolation => {
                "vmalert has rate, increase and delta computed without extrapolation and with \
                 the sample before the window: values differ a little"
            }
            Self::Metadata => "metadata of the object are dropped",
            Self::OwnKey => {
                "only Watchfire knows this key: it is dropped, and Prometheus' way holds"
            }
            Self::PartialResponse => "partial answers are not accepted: the rule fails instead",
            Self::Request => "requests of rules cannot be changed: the key is dropped",
            Self::Tenants => "there are no tenants: all data of the server are read",
            Self::UnknownKey => "an unknown key is dropped",
        }
    }
}

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub loss: Loss,
    pub at: Position,
    /// The group, and the rule if it is about one.
    pub group: String,
    pub rule: Option<String>,
    /// The key that is lost.
    pub key: Option<String>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, at, group, rule, key } = self;
        write!(f, "{at}: {}: ", loss.as_str())?;
        if !group.is_empty() {
            write!(f, "group {}: ", quote(group))?;
        }
        if let Some(rule) = rule {
            write!(f, "{rule}: ")?;
        }
        if let Some(key) = key {
            write!(f, "{key}: ")?;
        }
        f.write_str(loss.text())
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
    wanted.iter_mut().for_each(|group| without_lost(group, to));
    let header = header(to, options);
    let is_right = |text: &String| means(file, text, &load, &wanted, to);
    let by_lines = text_of(file, &source, to, &load);
    let by_lines = by_lines.map(|(head, body)| format!("{head}{header}{body}"));
    let text = match by_lines.filter(is_right) {
        Some(text) => text,
        None => {
            let text = header + &emit::groups(&written.groups, to);
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
        rule.policy = PolicySpec::default();
        rule.depends_on.clear();
    }
}

/// What stands before `groups:`, and how deep that stands.
fn header(to: Target, options: &Options) -> String {
    let value = |text: &str| emit::scalar(text);
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

/// Everything that is lost or means something else.
fn losses(source: &str, written: &Written, to: Target) -> Vec<Warning> {
    let mut found = Vec::new();
    if to != Target::PrometheusRule {
        let documents = yaml::parse(source).unwrap_or_default();
        let roots = documents.iter().filter_map(|document| document.root.as_deref());
        for root in roots.filter(|root| root.get("metadata").is_some()) {
            let (group, rule, key) = (String::new(), None, None);
            found.push(Warning { loss: Loss::Metadata, at: root.at, group, rule, key });
        }
    }
    for group in &written.groups {
        let spec = group.spec.map(|i| &written.loaded.groups[i]);
        let name = spec.map_or("", |spec| &spec.name);
        let mut lose = |loss, at, rule: Option<String>, key: Option<&str>| {
            let (group, key) = (name.to_owned(), key.map(str::to_owned));
            found.push(Warning { loss, at, group, rule, key });
        };
        for (key, value) in group.entries() {
            let text = key.scalar().unwrap_or_default();
            if let Fate::Lose(loss) = keys::of_group(text, value, to) {
                lose(loss, key.at, None, Some(text));
            }
        }
        for rule in &group.rules {
            let spec = spec.zip(rule.spec).map(|(group, i)| &group.rules[i]);
            let label = || spec.map(|rule| rule.name().to_owned());
            for (key, _) in rule.entries() {
                let text = key.scalar().unwrap_or_default();
                if let Fate::Lose(loss) = keys::of_rule(text, to) {
                    lose(loss, key.at, label(), Some(text));
                }
            }
            if to == Target::Vmalert && spec.is_some_and(extrapolates) {
                lose(Loss::Extrapolation, rule.node.at, label(), None);
            }
        }
        if let (Target::Vmalert, Some(spec)) = (to, spec) {
            for index in chained(spec) {
                let rule = &spec.rules[index];
                lose(Loss::Chaining, rule.at, Some(rule.name().to_owned()), None);
            }
        }
    }
    found
}

fn extrapolates(rule: &RuleSpec) -> bool {
    let mut found = false;
    rule.expr.expr.walk(&mut |node| {
        if let ExprKind::Call(call) = &node.kind {
            found |= matches!(call.function.name, "rate" | "increase" | "delta");
        }
    });
    found
}

/// The rules that read what an earlier one of their group wrote for the same tick.
fn chained(group: &GroupSpec) -> BTreeSet<usize> {
    let ticks = Ticks { interval_ms: 60_000, offset_ms: Some(0) };
    let graph = RuleGraph::new([(group, ticks)]);
    let reads = graph.edges().filter(|e| e.sees == Sees::ThisTick && e.in_query);
    reads.map(|edge| edge.reader).collect()
}

/// The comments at the top, and the groups with their text and comments. `None` where lines
/// are not theirs alone.
fn text_of(file: &str, source: &str, to: Target, load: &LoadOptions) -> Option<(String, String)> {
    let mut text = source.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if to == Target::PrometheusRule {
        text = with_texts(file, &text, load);
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
                spans.push((node_span(&lines, &value), emit::quoted(written)));
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
