//! Brackets that are missing or too many, and lists of labels.

use super::super::Related;
use super::super::brackets::{closing, unclosed};
use super::super::nearest::nearest;
use super::super::promql::{Case, Explained};
use crate::aggregations;

/// The end of the text is reached with brackets open.
pub(super) fn unclosed_bracket(case: &Case<'_>, found: &mut Explained) {
    let open_range = unclosed(&case.text[..case.start]).pop().filter(|o| o.bracket == '[');
    if let Some(open) = open_range.filter(|_| case.message.contains("in subquery or range")) {
        found.related.push(Related {
            span: open.offset..open.offset + 1,
            label: "this `[` is never closed".to_owned(),
        });
        let end = case.before().len();
        found.suggest("add `]`", end..end, "]");
        return;
    }
    let at_end = case.rest().trim().is_empty();
    let in_braces = case.says("unexpected character inside braces: '['");
    if !at_end && !in_braces {
        return;
    }
    let open = unclosed(&case.text[..case.start]);
    let Some(last) = open.last() else { return };
    let missing: String = match in_braces {
        true => "}".to_owned(),
        false => open.iter().rev().map(|o| closing(o.bracket)).collect(),
    };
    if !in_braces && case.before().ends_with(['+', '-', '*', '/', '%', '^', '<', '>', '=']) {
        return;
    }
    found.related.push(Related {
        span: last.offset..last.offset + 1,
        label: format!("this `{}` is never closed", last.bracket),
    });
    let end = case.before().len();
    if end == last.offset + 1 {
        found.advise(format!("write something after `{}` and close it", last.bracket));
    } else {
        found.suggest(format!("add `{missing}`"), end..end, missing);
    }
}

/// `sum(rate(x[5m]) by (job)`
pub(super) fn missing_bracket_before_by(case: &Case<'_>, found: &mut Explained) {
    let word = case.found().to_ascii_lowercase();
    if !case.says("unexpected <") || !matches!(word.as_str(), "by" | "without") {
        return;
    }
    if let Some(open) = unclosed(&case.text[..case.start]).last() {
        found.related.push(Related {
            span: open.offset..open.offset + 1,
            label: "this is still open here".to_owned(),
        });
        let end = case.before().len();
        found.suggest(format!("close the brackets before `{word}`"), end..end, ")");
    }
}

/// `rate(x[5m]) by (job)`
pub(super) fn grouping_of_no_aggregation(case: &Case<'_>, found: &mut Explained) {
    let word = case.found().to_ascii_lowercase();
    if !case.says("unexpected <") || !matches!(word.as_str(), "by" | "without") {
        return;
    }
    found.label = "only aggregations group".to_owned();
    // A word before it that is meant to be an aggregation: `summ by (job) (x)`.
    let name = case.word_before();
    let known = nearest(name, aggregations::all().map(|a| a.name));
    if let Some(known) = known.filter(|_| !name.is_empty()) {
        let end = case.before().len();
        found.suggest(format!("did you mean `{known}`?"), end - name.len()..end, known);
    } else {
        found.advise(format!(
            "`{word}` belongs to an aggregation: `sum {word} (...) (...)`, or `sum(...) {word} (...)`"
        ));
    }
}

/// `sum by job (x)`
pub(super) fn grouping_without_brackets(case: &Case<'_>, found: &mut Explained) {
    if !case.message.contains("in grouping opts") {
        return;
    }
    if case.message.ends_with("expected \"(\"") && case.says("unexpected identifier") {
        let label = case.found();
        found.suggest(
            "labels stand in brackets",
            case.start..case.start + label.len(),
            format!("({label})"),
        );
    } else if case.says("unexpected \"(\"") {
        let end = case.before().len();
        found.suggest("close the list of labels first", end..end, ")");
    } else {
        found.advise("a list of labels is written `(job, instance)`");
    }
}

pub(super) fn closing_too_many(case: &Case<'_>, found: &mut Explained) {
    for (bracket, says) in [
        (')', "unexpected right parenthesis"),
        ('}', "unexpected right brace"),
        (']', "unexpected right bracket"),
    ] {
        if case.says(says) {
            // Prometheus' place is behind the bracket.
            let end = case.text[..case.start].rfind(bracket);
            let start = if case.rest().starts_with(bracket) { Some(case.start) } else { end };
            let Some(start) = start else { return };
            found.span = start..start + 1;
            found.label = "nothing is open here".to_owned();
            found.suggest(format!("leave this `{bracket}` out"), start..start + 1, "");
        }
    }
}
