//! Values of the wrong kind: ranges, strings, too few arguments.

use super::super::promql::{Case, Explained, is_word};
use crate::aggregations;
use crate::functions;

/// `rate(x)`
pub(super) fn range_wanted(case: &Case<'_>, found: &mut Explained) {
    if !case.says("expected type range vector") || !case.message.ends_with("got instant vector") {
        return;
    }
    let argument = case.found();
    let end = case.token().end;
    let is_selector = argument.ends_with('}') || argument.chars().all(is_word);
    let function = case.quoted(0).unwrap_or("the function");
    found.label = "has no range".to_owned();
    if is_selector {
        let text = format!("`{function}` looks back over a range: say how far");
        found.suggest(text, end..end, "[5m]");
    } else {
        found.advise(format!(
            "`{function}` wants the samples of a selector, `{function}(metric[5m])`; of an \
             expression, a subquery: `(...)[30m:1m]`"
        ));
    }
}

/// `sum(x[5m])`, `abs(x[5m])`
pub(super) fn range_unwanted(case: &Case<'_>, found: &mut Explained) {
    if !case.says("expected type instant vector") || !case.message.ends_with("got range vector") {
        return;
    }
    let argument = case.found();
    let span = case.token();
    let name = last_word(case.before().trim_end_matches('(').trim_end());
    found.label = "a range of samples for each series".to_owned();
    let over_time = format!("{}_over_time", name.to_ascii_lowercase());
    if case.message.contains("aggregation") && functions::find(&over_time).is_some() {
        found.advise(format!(
            "`{name}` adds up series, not time: make one value of each range first, e.g. \
             `{name}(rate({argument}))` or `{name}({over_time}({argument}))`"
        ));
    } else if let Some(open) = argument.rfind('[') {
        let span = span.start + open..span.end;
        found.suggest("leave the range out", span, "");
    }
}

/// The word at the end of a text.
fn last_word(text: &str) -> &str {
    &text[text.trim_end_matches(is_word).len()..]
}

/// `x[5m] > 3`, `up == "1"`
pub(super) fn operand_type(case: &Case<'_>, found: &mut Explained) {
    if !case.says("binary expression must contain only scalar and instant vector types") {
        return;
    }
    let operand = case.found();
    if operand.starts_with(['"', '\'', '`']) {
        let inner = operand.trim_matches(['"', '\'', '`']);
        found.label = "a string".to_owned();
        if inner.parse::<f64>().is_ok() {
            found.suggest("numbers are not quoted", case.token(), inner);
        } else {
            found.advise("samples are numbers; what a label holds is compared in braces: `x{label=\"value\"}`");
        }
    } else {
        found.label = "a range of samples for each series".to_owned();
        found.advise(format!(
            "make one value of each range first, e.g. `rate({operand})` for a counter or \
             `avg_over_time({operand})` for a gauge"
        ));
    }
}

pub(super) fn scalar_comparison(case: &Case<'_>, found: &mut Explained) {
    if case.says("comparisons between scalars must use BOOL modifier") {
        let operator = case.rest().find(|c: char| !"<>=!".contains(c)).unwrap_or(0);
        found.span = case.start..case.start + operator.max(1);
        let end = case.start + operator;
        found.suggest("say that 0 or 1 is wanted", end..end, " bool");
    } else if case.message.contains("bool modifier can only be used on comparison") {
        found.advise("`bool` goes with == != < <= > >=");
    }
}

pub(super) fn set_operator(case: &Case<'_>, found: &mut Explained) {
    if case.says("set operator") {
        found.advise("and, or, unless work on series: make one of a number with `vector(1)`");
    } else if case.says("no grouping allowed") || case.says("set operations must always") {
        found.advise("and, or, unless match any number of series: leave group_left away");
    }
}

/// `(a + b)[5m]`
pub(super) fn range_of_expression(case: &Case<'_>, found: &mut Explained) {
    if !case.says("ranges only allowed for vector selectors") {
        return;
    }
    let close = case.before().len() + case.text[case.before().len()..].find(']').unwrap_or(0);
    if case.text.as_bytes().get(close) == Some(&b']') && !case.before().ends_with(']') {
        found.suggest(
            "a range of an expression is a subquery: it has a colon, and a step if you like",
            close..close,
            ":",
        );
    } else {
        found.advise("a range stands right after a selector: `x{a=\"b\"}[5m]`");
    }
}

pub(super) fn offset_before_range(case: &Case<'_>, found: &mut Explained) {
    if case.message.contains("modifiers allowed before range") {
        found.advise("the range comes first: `x[5m] offset 1h`, `x[5m] @ start()`");
    }
}

pub(super) fn argument_count(case: &Case<'_>, found: &mut Explained) {
    let of_function = case.message.contains("argument(s) in call to");
    let of_aggregation = case.says("wrong number of arguments for aggregate expression")
        || case.says("no arguments for aggregate expression");
    if !of_function && !of_aggregation {
        return;
    }
    let rest = case.rest();
    let name = &rest[..rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())];
    found.span = case.start..case.start + name.len();
    let signature = match of_function {
        true => functions::find(name).map(functions::FunctionSpec::signature),
        false => aggregations::find(name).map(aggregations::AggregatorSpec::signature),
    };
    let example = match of_function {
        true => functions::find(name).map(|f| f.example),
        false => aggregations::find(name).map(|a| a.example),
    };
    if let (Some(signature), Some(example)) = (signature, example) {
        found.notes.push(format!("its signature is `{signature}`"));
        found.advise(format!("for example `{example}`"));
    }
}

pub(super) fn at_modifier(case: &Case<'_>, found: &mut Explained) {
    if case.message.contains("in @, expected timestamp") {
        found.advise("`@` takes a time in seconds, `start()` or `end()`");
    } else if case.message.contains(" in offset, expected ") {
        found.advise("`offset` takes a duration: `x offset 5m`");
    }
}
