//! Diagnostics for programs: JSON, SARIF 2.1.0 (code scanning), GitHub workflow commands,
//! and JUnit for whatever shows test results.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::{Diagnostic, Report, Severity};
use crate::model::lines::{Lines, Position};

/// What SARIF says about a check.
#[derive(Clone, Debug)]
pub struct CheckInfo {
    pub id: &'static str,
    pub severity: Severity,
    pub summary: String,
    pub doc: String,
}

/// Where a diagnostic is, from its first character to behind its last one.
fn place(diagnostic: &Diagnostic, lines: &[Lines<'_>]) -> Option<(Position, Position)> {
    let span = diagnostic.span.as_ref()?;
    let lines = lines.get(diagnostic.source)?;
    Some((lines.position(span.start), lines.position(span.end)))
}

fn all_lines(report: &Report) -> Vec<Lines<'_>> {
    report.sources.iter().map(|s| Lines::new(&s.text)).collect()
}

fn file<'a>(report: &'a Report, diagnostic: &Diagnostic) -> &'a str {
    report.sources.get(diagnostic.source).map_or("", |s| s.name.as_str())
}

/// One object: `diagnostics`, in which `line` and `column` count from 1 and in characters,
/// `start` and `end` in bytes from 0, and a `summary` of how many there are of each kind.
pub fn json(report: &Report) -> String {
    let lines = all_lines(report);
    let one = |d: &Diagnostic| {
        let range = |span: &std::ops::Range<usize>| {
            let lines = &lines[d.source];
            let (from, to) = (lines.position(span.start), lines.position(span.end));
            json!({
                "start": span.start, "end": span.end,
                "line": from.line, "column": from.column,
                "endLine": to.line, "endColumn": to.column,
            })
        };
        let helps: Vec<Value> = d
            .helps
            .iter()
            .map(|help| {
                let edit = help.edit.as_ref().map(
                    |edit| json!({"range": range(&edit.span), "replacement": edit.replacement}),
                );
                json!({"text": help.text, "edit": edit})
            })
            .collect();
        let related: Vec<Value> =
            d.related.iter().map(|r| json!({"range": range(&r.span), "label": r.label})).collect();
        json!({
            "id": d.id,
            "severity": d.severity.as_str(),
            "file": file(report, d),
            "range": d.span.as_ref().map(range),
            "message": d.message,
            "label": d.label,
            "subject": d.subject,
            "related": related,
            "notes": d.notes,
            "help": helps,
        })
    };
    let count = |severity| report.diagnostics.iter().filter(|d| d.severity == severity).count();
    let document = json!({
        "diagnostics": report.diagnostics.iter().map(one).collect::<Vec<_>>(),
        "summary": {
            "files": report.sources.len(),
            "error": count(Severity::Fatal),
            "bug": count(Severity::Bug),
            "warning": count(Severity::Warning),
            "info": count(Severity::Info),
        },
    });
    format!("{document:#}")
}

/// A SARIF log of one run. `checks` are those that may be named.
pub fn sarif(report: &Report, checks: &[CheckInfo], version: &str) -> String {
    let lines = all_lines(report);
    let level = |severity| match severity {
        Severity::Fatal | Severity::Bug => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    };
    let used: BTreeSet<&str> = report.diagnostics.iter().map(|d| d.id).collect();
    let rules: Vec<Value> = checks
        .iter()
        .filter(|check| used.contains(check.id))
        .map(|check| {
            json!({
                "id": check.id,
                "shortDescription": {"text": check.summary},
                "fullDescription": {"text": check.doc},
                "defaultConfiguration": {"level": level(check.severity)},
            })
        })
        .collect();
    let region = |d: &Diagnostic, span: &std::ops::Range<usize>| {
        let lines = &lines[d.source];
        let (from, to) = (lines.position(span.start), lines.position(span.end));
        json!({
            "startLine": from.line, "startColumn": from.column,
            "endLine": to.line, "endColumn": to.column,
            "byteOffset": span.start, "byteLength": span.len(),
        })
    };
    let result = |d: &Diagnostic| {
        let mut location = json!({"artifactLocation": {"uri": uri(file(report, d))}});
        if let Some(span) = &d.span {
            location["region"] = region(d, span);
        }
        let mut result = json!({
            "ruleId": d.id,
            "level": level(d.severity),
            "message": {"text": full_text(d)},
            "locations": [{"physicalLocation": location}],
        });
        let fixes: Vec<Value> = d
            .helps
            .iter()
            .filter_map(|help| {
                let edit = help.edit.as_ref()?;
                Some(json!({
                    "description": {"text": help.text},
                    "artifactChanges": [{
                        "artifactLocation": {"uri": uri(file(report, d))},
                        "replacements": [{
                            "deletedRegion": region(d, &edit.span),
                            "insertedContent": {"text": edit.replacement},
                        }],
                    }],
                }))
            })
            .collect();
        if !fixes.is_empty() {
            result["fixes"] = Value::Array(fixes);
        }
        result
    };
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "watchfire", "version": version, "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": report.diagnostics.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{document:#}")
}

/// A relative reference as URIs have it.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The message with its notes and help, as plain text.
fn full_text(d: &Diagnostic) -> String {
    let mut out = d.message.clone();
    if let Some(subject) = &d.subject {
        let _ = write!(out, " ({subject})");
    }
    for note in &d.notes {
        let _ = write!(out, "\nnote: {note}");
    }
    for help in &d.helps {
        let _ = write!(out, "\nhelp: {}", help.text);
        if let Some(edit) = help.edit.as_ref().filter(|e| !e.replacement.is_empty()) {
            let _ = write!(out, ": {}", edit.replacement);
        }
    }
    out
}

/// One workflow command a line, as GitHub Actions shows them beside the changed lines.
pub fn github(report: &Report) -> String {
    let lines = all_lines(report);
    let mut out = String::new();
    for d in &report.diagnostics {
        let command = match d.severity {
            Severity::Fatal | Severity::Bug => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        let _ = write!(out, "::{command} file={}", property(file(report, d)));
        if let Some((from, to)) = place(d, &lines) {
            let _ = write!(out, ",line={},endLine={}", from.line, to.line);
            // Columns are heeded on one line only.
            if from.line == to.line {
                let end = to.column.max(from.column + 1) - 1;
                let _ = write!(out, ",col={},endColumn={end}", from.column);
            }
        }
        let _ = writeln!(out, ",title={}::{}", property(d.id), data(&full_text(d)));
    }
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A test suite for each file: a case for every diagnostic, which fails when it is at least
/// as grave as `fails_from`, or one that passes.
pub fn junit(report: &Report, fails_from: Severity) -> String {
    let lines = all_lines(report);
    let failing = report.diagnostics.iter().filter(|d| d.severity >= fails_from).count();
    let cases = |source: usize| report.diagnostics.iter().filter(move |d| d.source == source);
    let tests: usize = (0..report.sources.len()).map(|i| cases(i).count().max(1)).sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites tests=\"{tests}\" failures=\"{failing}\">");
    for (i, source) in report.sources.iter().enumerate() {
        let failures = cases(i).filter(|d| d.severity >= fails_from).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\">",
            xml(&source.name),
            cases(i).count().max(1)
        );
        if cases(i).next().is_none() {
            let _ =
                writeln!(out, "    <testcase name=\"lint\" classname=\"{}\"/>", xml(&source.name));
        }
        for d in cases(i) {
            let at = place(d, &lines).map(|(from, _)| from.to_string()).unwrap_or_default();
            let name = format!("{} {at}", d.id);
            let _ = writeln!(
                out,
                "    <testcase name=\"{}\" classname=\"{}\">",
                xml(name.trim_end()),
                xml(&source.name)
            );
            let text = xml(&full_text(d));
            if d.severity >= fails_from {
                let (message, kind) = (xml(&d.message), d.severity.as_str());
                let _ = writeln!(
                    out,
                    "      <failure message=\"{message}\" type=\"{kind}\">{text}</failure>"
                );
            } else {
                let _ = writeln!(out, "      <system-out>{}: {text}</system-out>", d.severity);
            }
            out.push_str("    </testcase>\n");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Characters XML 1.0 cannot hold become U+FFFD.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
