//! What the reader of rule files refuses or warns of, with its place and advice.

use std::collections::HashSet;
use std::ops::Range;

use super::advice;
use crate::diagnostics::promql::explain;
use crate::diagnostics::{Diagnostic, Severity};
use crate::lint::context::{FileCx, Findings, finding, fits};
use crate::model::labels::quote;
use crate::parser;
use crate::rules::config::{Position, Problem, ProblemKind, Severity as ProblemSeverity};

/// A file that could not be read.
pub(in crate::lint) fn unread(source: usize, error: String) -> Diagnostic {
    Diagnostic { source, ..Diagnostic::new("yaml/parse", Severity::Fatal, error) }
}

fn severity(problem: &Problem) -> Severity {
    match problem.severity {
        ProblemSeverity::Error => Severity::Fatal,
        ProblemSeverity::Warning => Severity::Warning,
        ProblemSeverity::Note => Severity::Info,
    }
}

/// `yaml/parse`: everything that is not about expressions and templates.
pub(in crate::lint) fn problems(file: &FileCx<'_>, out: &mut Findings<'_>) {
    let explained = expression_errors(file);
    for problem in &file.written.loaded.problems {
        match problem.kind {
            ProblemKind::Template => continue,
            ProblemKind::Expression
                if problem.position.is_some_and(|at| explained.places.contains(&at)) =>
            {
                continue;
            }
            _ => {}
        }
        out.file(file, Some(severity(problem)), diagnostic(file, problem));
    }
}

/// A problem with its place, its words without the place, and advice.
pub(super) fn diagnostic(file: &FileCx<'_>, problem: &Problem) -> Diagnostic {
    let mut message = without_place(&problem.message);
    let at = problem.position.filter(|at| *at != Position::default());
    let at = at.or_else(|| rule_named(file, &message));
    let mut subject = None;
    if let Some((prefix, name)) = at.and_then(|at| rule_at(file, at)) {
        if let Some(rest) = message.strip_prefix(prefix.as_str()) {
            message = rest.to_owned();
        }
        subject = Some(name);
    }
    let mut found = finding(message);
    found.subject = subject;
    if let Some(at) = at {
        found.span = Some(token(file, at));
    }
    advice::about_field(file, found)
}

/// `3:4: group "g", rule 1, "r": text` without the place.
fn without_place(message: &str) -> String {
    let mut rest = message;
    loop {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0);
        let step = digits(rest)
            .filter(|n| rest[*n..].starts_with(':'))
            .and_then(|n| digits(&rest[n + 1..]).map(|m| n + 1 + m))
            .filter(|n| rest[*n..].starts_with(": "));
        match step {
            Some(n) => rest = &rest[n + 2..],
            None => break,
        }
    }
    if let Some(after) = rest.strip_prefix("yaml: ") {
        rest = after;
    }
    if let Some(after) = rest.strip_prefix("line ") {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        if let Some(text) = after[digits..].strip_prefix(": ") {
            rest = text;
        }
    }
    rest.to_owned()
}

/// What the reader puts before problems of the rule at a place, and the rule for a person.
fn rule_at(file: &FileCx<'_>, at: Position) -> Option<(String, String)> {
    let group = file.written.groups.iter().rev().find(|g| g.node.at <= at)?;
    let text = |field: Option<&(_, std::sync::Arc<crate::yaml::Node>)>| {
        field.and_then(|(_, node)| node.scalar()).unwrap_or("").to_owned()
    };
    let group_name = text(group.field("name"));
    let quoted = quote(&group_name);
    let found = group.rules.iter().enumerate().rev().find(|(_, rule)| rule.node.at <= at);
    let Some((i, rule)) = found else {
        return Some((format!("group {quoted}: "), format!("group {quoted}")));
    };
    let (alert, record) = (text(rule.field("alert")), text(rule.field("record")));
    let (kind, name) = if alert.is_empty() { ("record", record) } else { ("alert", alert) };
    let prefix = format!("group {quoted}, rule {}, {}: ", i + 1, quote(&name));
    let subject = match name.as_str() {
        "" => format!("rule {} of group {quoted}", i + 1),
        name => format!("{kind} {} of group {quoted}", quote(name)),
    };
    Some((prefix, subject))
}

/// The rule a message begins with, for problems about what is not there.
fn rule_named(file: &FileCx<'_>, message: &str) -> Option<Position> {
    if !message.starts_with("group ") {
        return None;
    }
    let rules = file.written.groups.iter().flat_map(|g| &g.rules).map(|rule| rule.node.at);
    rules.into_iter().find(|at| {
        rule_at(file, *at).is_some_and(|(prefix, _)| message.starts_with(prefix.as_str()))
    })
}

/// The word or quoted text at a place.
fn token(file: &FileCx<'_>, at: Position) -> Range<usize> {
    let start = file.lines.offset(at);
    let line = &file.lines.text()[start..file.lines.line(at.line).end.max(start)];
    let first = line.chars().next();
    let len = match first {
        Some('[' | '{') => line.trim_end().len(),
        Some(quote @ ('"' | '\'')) => line[1..].find(quote).map_or(line.len(), |i| i + 2),
        _ => {
            let end = line
                .find(|c: char| matches!(c, ',' | '}' | ']') || c.is_whitespace())
                .unwrap_or(line.len());
            line[..end].trim_end_matches(':').len()
        }
    };
    start..start + len
}

/// Errors of expressions, and the places the reader gave them.
struct Explained {
    places: HashSet<Position>,
    found: Vec<Diagnostic>,
}

fn expression_errors(file: &FileCx<'_>) -> Explained {
    let wanted: HashSet<Position> = file
        .written
        .loaded
        .problems
        .iter()
        .filter(|p| p.kind == ProblemKind::Expression)
        .filter_map(|p| p.position)
        .collect();
    let mut explained = Explained { places: HashSet::new(), found: Vec::new() };
    if wanted.is_empty() {
        return explained;
    }
    let rules = file.written.groups.iter().flat_map(|g| &g.rules).filter(|r| r.spec.is_none());
    for rule in rules {
        let Some((_, node)) = rule.field("expr") else { continue };
        let Some(text) = node.scalar().filter(|text| !text.is_empty()) else { continue };
        let Err(errors) = parser::parse(text, &file.parser) else { continue };
        let place = |range: Range<usize>| file.inside(node, range);
        for (error, advice) in errors.errors.iter().zip(explain(&errors)) {
            let at = crate::yaml::locate(&file.lines, node, error.span.start as usize);
            if !wanted.contains(&at) {
                continue;
            }
            explained.places.insert(at);
            if advice.consequence {
                continue;
            }
            let mut found = advice.diagnostic("", &place, &|text| fits(node, text));
            found.subject = rule_at(file, rule.node.at).map(|(_, subject)| subject);
            explained.found.push(found);
        }
    }
    explained
}

/// `promql/syntax`.
pub(in crate::lint) fn syntax(file: &FileCx<'_>, out: &mut Findings<'_>) {
    for found in expression_errors(file).found {
        out.file(file, Some(Severity::Fatal), found);
    }
}

/// The problems about templates, for `alerts/template`.
pub(super) fn template_problems(file: &FileCx<'_>, out: &mut Findings<'_>) {
    let of_templates =
        file.written.loaded.problems.iter().filter(|p| p.kind == ProblemKind::Template);
    for problem in of_templates {
        let found = advice::about_template(file, diagnostic(file, problem));
        out.file(file, Some(severity(problem)), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_off_messages() {
        for (message, expected) in [
            ("3:4: group \"g\"", "group \"g\""),
            ("0:0: 5:7: group", "group"),
            ("line 7: field x", "field x"),
            ("yaml: line 3: did not find", "did not find"),
            ("1:x: y", "1:x: y"),
            ("5m: y", "5m: y"),
        ] {
            assert_eq!(without_place(message), expected);
        }
    }
}
