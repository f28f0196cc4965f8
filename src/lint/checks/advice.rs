//! What people mean when a field, a value or a template is refused.

use crate::diagnostics::Diagnostic;
use crate::diagnostics::nearest::nearest;
use crate::lint::context::FileCx;
use crate::model::lines::Position;
use crate::rules::template::Template;

/// Fields of the mappings of a rule file, by the names the reader has for them.
const FIELDS: &[(&str, &[&str])] = &[
    ("rulefmt.RuleGroups", &["groups"]),
    (
        "rulefmt.RuleGroup",
        &[
            "name",
            "interval",
            "query_offset",
            "limit",
            "labels",
            "rules",
            "on_no_data",
            "on_error",
            "missing_evals_to_resolve",
            "on_limit",
            "catch_up",
            "depends_on",
            "budget",
            "datasource",
        ],
    ),
    (
        "rulefmt.Rule",
        &[
            "record",
            "alert",
            "expr",
            "for",
            "keep_firing_for",
            "labels",
            "annotations",
            "on_no_data",
            "on_error",
            "missing_evals_to_resolve",
            "depends_on",
            "datasource",
        ],
    ),
];

/// Fields people put where they do not belong, and where they do.
const MISPLACED: &[(&str, &str)] = &[
    ("severity", "`severity` is a label: put it under `labels`"),
    ("team", "`team` is a label: put it under `labels`"),
    ("summary", "`summary` is an annotation: put it under `annotations`"),
    ("description", "`description` is an annotation: put it under `annotations`"),
    ("message", "`message` is an annotation: put it under `annotations`"),
    ("runbook_url", "`runbook_url` is an annotation: put it under `annotations`"),
    ("dashboard", "`dashboard` is an annotation: put it under `annotations`"),
    ("name", "a rule is named by `alert` or `record`"),
    ("query", "the expression is the field `expr`"),
    ("expression", "the expression is the field `expr`"),
    ("promql", "the expression is the field `expr`"),
    ("duration", "how long the condition must hold is the field `for`"),
    ("interval", "`interval` belongs to the group, beside `name`"),
    ("limit", "`limit` belongs to the group, beside `name`"),
    ("alert", "rules stand in the list `rules` of a group"),
    ("record", "rules stand in the list `rules` of a group"),
    ("rules", "rules stand in a group: `groups: [{name: ..., rules: [...]}]`"),
];

/// Advice about fields, their values, and the shape of the file.
pub(super) fn about_field(file: &FileCx<'_>, mut found: Diagnostic) -> Diagnostic {
    let message = found.message.clone();
    let after = |prefix: &str| message.strip_prefix(prefix);
    if let Some((field, kind)) = after("field ").and_then(|m| m.split_once(" not found in type ")) {
        let fields = FIELDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, f)| f);
        found.message = format!("there is no field `{field}` here");
        let misplaced = MISPLACED.iter().find(|(name, _)| *name == field);
        if let (Some((_, advice)), false) = (misplaced, fields.contains(&field)) {
            return found.help(*advice);
        }
        let like = nearest(field, fields.iter().copied());
        return match (like, found.span.clone()) {
            (Some(like), Some(span)) => {
                found.suggest(format!("did you mean `{like}`?"), span, like)
            }
            _ => found.help(format!("known here are {}", fields.join(", "))),
        };
    }
    if let Some((key, line)) =
        after("mapping key ").and_then(|m| m.split_once(" already defined at line "))
    {
        found.message = format!("the key {key} is written twice");
        if let Ok(line) = line.parse::<usize>() {
            let start = file.lines.offset(Position { line, column: 1 });
            let content = &file.lines.text()[file.lines.line(line)];
            let name = key.trim_matches('"');
            let at = content.find(name).map_or(start, |i| start + i);
            return found
                .related(at..at + name.len(), "first here")
                .help("only one of them can count: remove the other");
        }
        return found;
    }
    if message.contains("not a valid duration string") || message.contains("unknown unit") {
        return duration(file, found);
    }
    if let Some(rest) = after("cannot unmarshal ") {
        return mismatch(rest, found);
    }
    let advice = match message.as_str() {
        m if m.contains("only one of 'record' and 'alert' must be set") => {
            "a rule either records or alerts: make two of it"
        }
        m if m.contains("one of 'record' or 'alert' must be set") => {
            "name it with `alert: Name` or `record: level:metric:operations`"
        }
        m if m.contains("field 'expr' must be set in rule") => "add `expr: ...`",
        m if m.contains("in recording rule") && m.contains("invalid field") => {
            "`for`, `keep_firing_for` and `annotations` are of use to alerts only"
        }
        m if m.contains("invalid label name") => {
            "names of labels are letters, digits and underscores, and begin with no digit; \
             `__name__` cannot be set"
        }
        m if m.contains("braces present in the recording rule name") => {
            "a rule records under a plain name; fixed labels go under `labels`"
        }
        m if m.contains("is repeated in the same file") => "give one of the groups another name",
        m if m.contains("Groupname must not be empty") => "add `name: ...` to the group",
        m if m.contains("(a tab indents; use spaces)") => {
            "YAML is indented by spaces; set the editor to expand tabs"
        }
        m if m.contains("mapping values are not allowed") => {
            "a text with `: ` in it is quoted, or written as a block: `expr: |`"
        }
        m if m.contains("unknown anchor") => "a text that begins with `*` is quoted",
        m if m.contains("did not find expected") => {
            "look at the indentation of this line and of the one above"
        }
        _ => return found,
    };
    found.help(advice)
}

fn duration(file: &FileCx<'_>, mut found: Diagnostic) -> Diagnostic {
    let written = found.message.rsplit('"').nth(1).unwrap_or("").to_owned();
    let text = file.lines.text();
    let start = found.span.as_ref().map_or(0, |s| s.start);
    // Behind the quote, if there is one.
    let inner = [start, start + 1].into_iter().find(|from| {
        !written.is_empty() && text.get(*from..).is_some_and(|t| t.starts_with(&written))
    });
    match (repaired_duration(&written), inner) {
        (Some(meant), Some(from)) => {
            let span = from..from + written.len();
            found.span = Some(span.clone());
            found.suggest("a duration is written in ms, s, m, h, d, w and y", span, meant)
        }
        (Some(meant), None) => found.help(format!("write `{meant}`")),
        (None, _) => found.help("a duration is written in whole ms, s, m, h, d, w and y: `1h30m`"),
    }
}

/// `5 min` as `5m`; nothing when it cannot be guessed.
fn repaired_duration(written: &str) -> Option<String> {
    let mut out = String::new();
    let text = written.replace([' ', ','], "").to_lowercase();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0)?;
        let unit_len =
            rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let unit = match &rest[digits..digits + unit_len] {
            "ms" | "msec" | "millis" | "milliseconds" => "ms",
            "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "m" | "min" | "mins" | "minute" | "minutes" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => "d",
            "w" | "week" | "weeks" => "w",
            "y" | "year" | "years" => "y",
            _ => return None,
        };
        out.push_str(&rest[..digits]);
        out.push_str(unit);
        rest = &rest[digits + unit_len..];
    }
    crate::model::duration::parse_duration(&out).ok().map(|_| out)
}

fn mismatch(rest: &str, mut found: Diagnostic) -> Diagnostic {
    let (what, wanted) = rest.rsplit_once(" into ").unwrap_or((rest, ""));
    let kind = |word: &str| match word {
        w if w.starts_with("!!seq") => "a list",
        w if w.starts_with("!!map") => "a mapping",
        w if w.starts_with("!!int") => "a number",
        w if w.starts_with("!!float") => "a number",
        w if w.starts_with("!!bool") => "true or false",
        w if w.starts_with("!!null") => "nothing",
        _ => "a text",
    };
    let (text, help) = match wanted {
        "rulefmt.RuleGroups" => ("a mapping with `groups`", "a rule file begins with `groups:`"),
        "[]rulefmt.RuleGroup" => ("a list of groups", "write `- name: ...` for each group"),
        "rulefmt.RuleGroup" => ("a group", "write `- name: ...`"),
        "[]rulefmt.Rule" => {
            ("a list of rules", "write `- alert: ...` or `- record: ...` for each rule")
        }
        "rulefmt.Rule" => ("a rule", "write `- alert: ...` or `- record: ...`"),
        "map[string]string" => ("a mapping of names to texts", "write `name: value` below it"),
        "string" => ("a text", "quote it, or write it as a block: `|`"),
        "int" => ("a whole number", "write digits only"),
        _ => return found,
    };
    found.message = format!("{text} is wanted here, not {}", kind(what));
    found.help(help)
}

/// Advice about a template that cannot be parsed.
pub(super) fn about_template(file: &FileCx<'_>, mut found: Diagnostic) -> Diagnostic {
    let message = found.message.clone();
    if let Some((what, rest)) = message.split_once("template: __alert_")
        && let Some((_, why)) = rest.split_once(": ")
    {
        found.message = format!("{what}{why}");
    }
    // The word it is about, where it stands in the file.
    let quoted = message.rsplit('"').nth(1).unwrap_or("");
    let place = found.span.clone().and_then(|span| {
        let at = span.start + file.lines.text().get(span)?.find(quoted)?;
        Some(at..at + quoted.len())
    });
    let known: Option<Vec<&str>> = match message.as_str() {
        m if m.contains("undefined variable") => {
            Some(vec!["$labels", "$value", "$externalLabels", "$externalURL"])
        }
        m if m.contains("function \"") && m.contains("not defined") => {
            Some(Template::function_names().collect())
        }
        _ => None,
    };
    if let Some(known) = known {
        if let Some(place) = &place {
            found.span = Some(place.clone());
        }
        let like = nearest(quoted, known.iter().copied());
        return match (like, place) {
            (Some(like), Some(place)) => {
                found.suggest(format!("did you mean `{like}`?"), place, like)
            }
            (Some(like), None) => found.help(format!("did you mean `{like}`?")),
            (None, _) if known.len() < 10 => {
                found.help(format!("defined are {}", known.join(", ")))
            }
            (None, _) => found.help(
                "besides Go's own there are humanize, humanizePercentage, humanizeDuration, \
                 query, first, value, label, title, toUpper, reReplaceAll and others",
            ),
        };
    }
    let help = match message.as_str() {
        m if m.contains("unexpected EOF") => {
            "an `{{ if }}`, `{{ range }}` or `{{ with }}` lacks its `{{ end }}`"
        }
        m if m.contains("unclosed action") => "an action ends with `}}`",
        m if m.contains("unexpected {{end}}") => "there is nothing this `{{ end }}` could end",
        m if m.contains("unterminated") => {
            "a string in a template ends with the quote it began with"
        }
        m if m.contains("bad character") => {
            "names of labels that are no plain words: `{{ index $labels \"a.b\" }}`"
        }
        _ => return found,
    };
    found.help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_guessed() {
        for (written, meant) in [
            ("5 min", Some("5m")),
            ("1 hour 30 minutes", Some("1h30m")),
            ("10secs", Some("10s")),
            ("5", None),
            ("soon", None),
            ("1.5h", None),
            ("30m1h", None),
        ] {
            assert_eq!(repaired_duration(written).as_deref(), meant, "{written}");
        }
    }
}
