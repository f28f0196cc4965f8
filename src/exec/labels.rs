//! Operations on label sets: done once per series; the samples pass unchanged.

use std::sync::Arc;

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

use super::cx::{Cx, ExecError, Result};
use super::open::open;
use super::operator::{BoxOp, Relabelled, SeriesMeta, SeriesTable};
use crate::model::labels::quote;
use crate::model::{Labels, METRIC_NAME, StepGrid, is_metadata_label};
use crate::plan::Node;
use crate::plan::node::{LabelReplace, NameDrop};

/// Drops metric names, or marks the series for the end.
pub(crate) fn drop_names(input: BoxOp<'_>, how: NameDrop) -> BoxOp<'_> {
    let old = input.series();
    let table = match how {
        NameDrop::Mark => SeriesTable {
            series: old
                .series
                .iter()
                .map(|s| SeriesMeta { labels: s.labels.clone(), drop_name: true })
                .collect(),
            unique: old.unique,
        },
        NameDrop::Marked if old.series.iter().all(|s| !s.drop_name) => return input,
        NameDrop::Marked => without_names(old, |s| s.drop_name, is_metadata_label),
        NameDrop::Metadata => without_names(old, |_| true, is_metadata_label),
        NameDrop::Name => without_names(old, |_| true, |name| name == METRIC_NAME),
    };
    Box::new(Relabelled::new(Arc::new(table), input))
}

/// Takes the labels that `goes` names from the series that `from` selects. Distinct series
/// stay so when all lose the same.
fn without_names(
    old: &SeriesTable,
    from: impl Fn(&SeriesMeta) -> bool,
    goes: impl Fn(&str) -> bool,
) -> SeriesTable {
    let lost = |labels: &Labels| -> Vec<(String, String)> {
        labels.iter().filter(|(n, _)| goes(n)).map(|(n, v)| (n.into(), v.into())).collect()
    };
    let first = old.series.first().map(|s| lost(&s.labels)).unwrap_or_default();
    let mut same = old.unique;
    let series = old
        .series
        .iter()
        .map(|s| {
            if !from(s) {
                same = false;
                return s.clone();
            }
            let mut gone = first.iter();
            let agrees = s
                .labels
                .iter()
                .filter(|(n, _)| goes(n))
                .all(|(n, v)| gone.next().is_some_and(|(fn_, fv)| fn_ == n && fv == v));
            same &= agrees && gone.next().is_none();
            SeriesMeta::new(s.labels.retain(|n| !goes(n)))
        })
        .collect();
    SeriesTable { series, unique: same }
}

/// `label_replace`
pub(crate) fn replace<'a>(cx: &'a Cx, node: &'a LabelReplace, grid: StepGrid) -> Result<BoxOp<'a>> {
    let regex = node.regex.as_ref().map_err(|e| ExecError::query(e.clone()))?;
    if node.target.is_empty() {
        return Err(ExecError::query(format!(
            "invalid destination label name in label_replace(): {}",
            node.target
        )));
    }
    let input = open(cx, &node.input, grid)?;
    let mut captures = regex.create_captures();
    let series = input
        .series()
        .series
        .iter()
        .map(|s| {
            let source = s.labels.get_or_empty(&node.source);
            regex.captures(source, &mut captures);
            if !captures.is_match() {
                return s.clone();
            }
            let value = expand(&node.replacement, source, regex, &captures);
            with_label(s, &node.target, &value)
        })
        .collect();
    Ok(relabelled(input, series))
}

/// `label_join`
pub(crate) fn join<'a>(
    cx: &'a Cx,
    input: &'a Node,
    target: &str,
    separator: &str,
    sources: &[String],
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let invalid = |what: &str, name: &str| {
        ExecError::query(format!("invalid {what} label name in label_join(): {name}"))
    };
    if let Some(name) = sources.iter().find(|name| name.is_empty()) {
        return Err(invalid("source", name));
    }
    if target.is_empty() {
        return Err(invalid("destination", target));
    }
    let input = open(cx, input, grid)?;
    let series = input
        .series()
        .series
        .iter()
        .map(|s| {
            let values: Vec<&str> = sources.iter().map(|n| s.labels.get_or_empty(n)).collect();
            with_label(s, target, &values.join(separator))
        })
        .collect();
    Ok(relabelled(input, series))
}

fn relabelled(input: BoxOp<'_>, series: Vec<SeriesMeta>) -> BoxOp<'_> {
    let table = SeriesTable { series, unique: false };
    Box::new(Relabelled::new(Arc::new(table), input))
}

/// Writing the metric name makes it stay, whatever was to drop it.
fn with_label(series: &SeriesMeta, name: &str, value: &str) -> SeriesMeta {
    let mut builder = series.labels.builder();
    builder.set(name, value);
    let drop_name = series.drop_name && name != METRIC_NAME;
    SeriesMeta { labels: builder.build(), drop_name }
}

/// Go's `Regexp.Expand`: `$1`, `$name`, `${1}`, `${name}` and `$$`; a group that is not
/// there is empty, and a `$` that starts none of these stands for itself.
fn expand(template: &str, source: &str, regex: &Regex, captures: &Captures) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(next) = after.strip_prefix('$') {
            out.push('$');
            rest = next;
            continue;
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (name, next) = match after.strip_prefix('{') {
            Some(braced) => match braced.split_once('}') {
                Some((name, next)) if !name.is_empty() && name.chars().all(is_word) => (name, next),
                _ => ("", after),
            },
            None => after.split_at(after.find(|c| !is_word(c)).unwrap_or(after.len())),
        };
        if name.is_empty() {
            out.push('$');
            rest = after;
            continue;
        }
        rest = next;
        let group = match name.parse::<usize>() {
            Ok(i) => captures.get_group(i),
            Err(_) => captures
                .pattern()
                .and_then(|p| regex.group_info().to_index(p, name))
                .and_then(|i| captures.get_group(i)),
        };
        out.push_str(group.map_or("", |span| &source[span.range()]));
    }
    out.push_str(rest);
    out
}

/// The error of a label name that cannot be.
pub(crate) fn invalid_label_name(name: &str) -> ExecError {
    ExecError::query(format!("invalid label name {}", quote(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_expand_as_in_go() {
        let regex = Regex::new("^(?s:(?P<host>[^:]*):(.*))$").unwrap();
        let mut captures = regex.create_captures();
        regex.captures("web:9090", &mut captures);
        for (template, expected) in [
            ("$1", "web"),
            ("${1}x$2", "webx9090"),
            ("$1x", ""),
            ("$host-$2", "web-9090"),
            ("a$$b$", "a$b$"),
            ("${", "${"),
            ("${nope}", ""),
        ] {
            assert_eq!(expand(template, "web:9090", &regex, &captures), expected, "{template}");
        }
    }
}
