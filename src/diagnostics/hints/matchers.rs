//! What stands in braces, and how sides match.

use super::super::promql::{Case, Explained};

/// `{job=foo}`
pub(super) fn matcher_value(case: &Case<'_>, found: &mut Explained) {
    let wants_string = case.message.ends_with("in label matching, expected string");
    if !wants_string {
        return;
    }
    let rest = case.rest();
    if rest.starts_with(['=', '~', '!']) {
        return;
    }
    let value = &rest[..rest.find([',', '}']).unwrap_or(rest.len())];
    let value = value.trim_end();
    if !value.is_empty() && !value.contains(['"', '\'', '\n']) {
        found.label = "not in quotes".to_owned();
        found.suggest(
            "values of labels are strings",
            case.start..case.start + value.len(),
            format!("\"{value}\""),
        );
    }
}

/// `{job: "a"}`, `{job=="a"}`, `{job!~="a"}`
pub(super) fn matcher_operator(case: &Case<'_>, found: &mut Explained) {
    let colon = case.says("unexpected character inside braces: ':'");
    let doubled = case.message.contains("in label matching, expected string")
        && case.rest().starts_with(['=', '~', '!']);
    if !colon && !doubled {
        return;
    }
    let is_op = |c: char| matches!(c, '=' | '!' | '~' | ':' | ' ');
    let start = case.text[..case.start].rfind(|c| !is_op(c)).map_or(0, |i| i + 1);
    let end = case.start + case.rest().find(|c| !is_op(c)).unwrap_or(0);
    let (start, end) = match (start.min(case.start), end.max(case.start)) {
        (start, end) if case.text.is_char_boundary(start) => (start, end),
        _ => return,
    };
    let written = case.text[start..end].replace(' ', "");
    let meant = match written.as_str() {
        w if w.contains('!') && w.contains('~') => "!~",
        w if w.contains('!') => "!=",
        w if w.contains('~') => "=~",
        _ => "=",
    };
    found.suggest(format!("a matcher compares with `{meant}`"), start..end, meant);
}

/// `{a="1" b="2"}`, `{a="1",,b="2"}`
pub(super) fn matcher_separator(case: &Case<'_>, found: &mut Explained) {
    if case.message.ends_with("in label matching, expected \",\" or \"}\"") {
        let end = case.before().len();
        found.suggest("matchers are separated by commas", end..end, ",");
    } else if case.says("unexpected \",\" in label matching") {
        found.suggest("one comma is enough", case.start..case.start + 1, "");
    } else if case.says("unexpected \"{\"") && case.before().ends_with('}') {
        let end = case.before().len();
        found.suggest("all matchers stand in one pair of braces", end - 1..case.start + 1, ",");
    }
}

pub(super) fn empty_selector(case: &Case<'_>, found: &mut Explained) {
    if case.says("vector selector must contain at least one non-empty matcher") {
        found.advise(
            "name a metric, or a label that must be there: `{job=\"api\"}`, `{job=~\".+\"}`",
        );
    } else if case.says("metric name must not be set twice") {
        found.advise("the name stands either before the braces or in them");
    }
}

pub(super) fn regular_expression(case: &Case<'_>, found: &mut Explained) {
    if case.says("error parsing regexp") {
        let why = if case.message.contains("invalid or unsupported Perl syntax") {
            "regular expressions are RE2's: no look-ahead (`(?!...)`) and no look-behind; a label \
             is excluded with a matcher of its own, `!~\"...\"`"
        } else {
            "regular expressions are RE2's; a character that means itself is escaped with `\\\\`"
        };
        found.advise(why);
    }
}

pub(super) fn quotes(case: &Case<'_>, found: &mut Explained) {
    if case.says("unterminated") {
        let quote = case.rest().chars().next().unwrap_or('"');
        found.span = case.start..case.start + quote.len_utf8();
        found.label = "begins here".to_owned();
        found.advise(format!("end the string with `{quote}`"));
    } else if case.says("unknown escape sequence") {
        found.advise("write `\\\\` for a backslash, or put the string in backquotes");
    }
}

pub(super) fn on_and_group(case: &Case<'_>, found: &mut Explained) {
    if case.message.contains("must not occur in ON and GROUP clause at once") {
        let label = case.quoted(0).unwrap_or_default();
        found.advise(format!(
            "both sides have the same `{label}` already: take it out of group_left or group_right"
        ));
    }
}
