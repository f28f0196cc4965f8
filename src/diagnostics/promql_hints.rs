//! What people mean when they write what is not PromQL: one function for each kind of
//! mistake. A hint looks at an error and adds help when it knows the mistake; the first one
//! that does is heard.

use super::Related;
use super::brackets::{closing, unclosed};
use super::nearest::nearest;
use super::promql::{Case, Explained, is_word};
use crate::aggregations;
use crate::functions;

pub(super) type Hint = fn(&Case<'_>, &mut Explained);

pub(super) const HINTS: &[Hint] = &[
    unknown_function,
    experimental,
    unclosed_bracket,
    missing_bracket_before_by,
    grouping_of_no_aggregation,
    grouping_without_brackets,
    matcher_value,
    matcher_operator,
    matcher_separator,
    words_of_other_languages,
    misspelt_keyword,
    comparison_operator,
    foreign_characters,
    percent,
    thousands,
    duration,
    nothing_after_operator,
    range_wanted,
    range_unwanted,
    operand_type,
    scalar_comparison,
    set_operator,
    range_of_expression,
    offset_before_range,
    empty_selector,
    argument_count,
    regular_expression,
    quotes,
    on_and_group,
    at_modifier,
    closing_too_many,
    two_words,
];

/// Names people try and what they are called here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("median", "quantile(0.5, ...)"),
    ("mean", "avg(...)"),
    ("average", "avg(...)"),
    ("percentile", "quantile(0.95, ...)"),
    ("log", "ln(...), log2(...) or log10(...)"),
    ("pow", "the operator ^"),
    ("len", "count(...)"),
    ("size", "count(...)"),
    ("distinct", "count(group by (label) (...))"),
    ("holt_winters", "double_exponential_smoothing(...)"),
    ("now", "time()"),
    ("increase_pure", "increase(...)"),
    ("median_over_time", "quantile_over_time(0.5, ...)"),
    ("average_over_time", "avg_over_time(...)"),
    ("mean_over_time", "avg_over_time(...)"),
];

/// Functions of MetricsQL that rule files bring along most.
const METRICSQL: &[&str] = &[
    "default_rollup",
    "rollup",
    "rollup_rate",
    "rollup_increase",
    "increase_prometheus",
    "range_median",
    "range_avg",
    "running_sum",
    "keep_last_value",
    "interpolate",
    "label_set",
    "label_del",
    "label_copy",
    "label_map",
    "label_match",
    "sum2",
    "outliersk",
    "topk_avg",
    "topk_max",
    "histogram",
    "share_le_over_time",
    "count_gt_over_time",
    "lag",
    "lifetime",
    "zscore",
    "any",
    "geomean",
    "limitk_avg",
    "union",
    "alias",
    "remove_resets",
    "share",
];

fn functions_and_aggregators() -> impl Iterator<Item = &'static str> {
    functions::all().map(|f| f.name).chain(aggregations::all().map(|a| a.name))
}

fn unknown_function(case: &Case<'_>, found: &mut Explained) {
    let Some(name) = case.quoted(0).filter(|_| case.says("unknown function with name")) else {
        return;
    };
    found.span = case.start..case.start + name.len();
    found.label = "no such function".to_owned();
    if let Some((_, other)) = OTHER_NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
        found.advise(format!("PromQL has {other} for that"));
    } else if let Some(known) = nearest(name, functions_and_aggregators()) {
        found.suggest(format!("did you mean `{known}`?"), found.span.clone(), known);
    } else if METRICSQL.contains(&name) {
        found.advise(format!(
            "`{name}` is a function of MetricsQL (VictoriaMetrics); PromQL has nothing of that name"
        ));
    } else {
        found.advise("`watchfire promql functions` lists all functions");
    }
}

fn experimental(case: &Case<'_>, found: &mut Explained) {
    if case.message.contains("is not enabled") && case.quoted(0).is_some() {
        let flag = match case.message {
            m if m.contains("fill") => "promql-binop-fill-modifiers",
            m if m.contains("anchored") || m.contains("smoothed") => {
                "promql-extended-range-selectors"
            }
            _ => "promql-experimental-functions",
        };
        found.advise(format!("--enable-feature={flag} turns it on"));
    }
}

/// The end of the text is reached with brackets open.
fn unclosed_bracket(case: &Case<'_>, found: &mut Explained) {
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
fn missing_bracket_before_by(case: &Case<'_>, found: &mut Explained) {
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
fn grouping_of_no_aggregation(case: &Case<'_>, found: &mut Explained) {
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
fn grouping_without_brackets(case: &Case<'_>, found: &mut Explained) {
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

/// `{job=foo}`
fn matcher_value(case: &Case<'_>, found: &mut Explained) {
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
fn matcher_operator(case: &Case<'_>, found: &mut Explained) {
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
fn matcher_separator(case: &Case<'_>, found: &mut Explained) {
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

/// Words that mean something elsewhere.
const FOREIGN_WORDS: &[(&str, &str)] = &[
    ("for", "how long a condition must hold is the field `for` of the rule, beside `expr`"),
    ("if", "`if` is MetricsQL; PromQL says `x and on (...) y`"),
    ("ifnot", "`ifnot` is MetricsQL; PromQL says `x unless on (...) y`"),
    ("default", "`default` is MetricsQL; PromQL says `x or vector(0)`"),
    ("keep_metric_names", "`keep_metric_names` is MetricsQL"),
    ("limit", "PromQL has topk(...), limitk(...) and the field `limit` of a group"),
    ("where", "conditions on labels stand in braces: `x{label=\"value\"}`"),
    ("is", "values are compared with `==`"),
    ("over", "a range is written `x[5m]`: `avg_over_time(x[5m])`"),
    ("like", "patterns stand in braces: `x{label=~\"pattern\"}`"),
    ("between", "write `x > 1 < 2`"),
    ("then", "an alert fires where its expression has a result; there is nothing to add"),
];

fn words_of_other_languages(case: &Case<'_>, found: &mut Explained) {
    if !case.says("unexpected identifier") {
        return;
    }
    let word = case.found();
    if let Some((_, advice)) = FOREIGN_WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)) {
        found.advise(*advice);
    } else if case.word_before().eq_ignore_ascii_case("not") {
        found.advise("PromQL has no `not`: write `x unless y`, or `x == 0`");
    }
}

const KEYWORDS: &[&str] = &[
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "and",
    "or",
    "unless",
    "atan2",
];

fn misspelt_keyword(case: &Case<'_>, found: &mut Explained) {
    if !case.says("unexpected identifier") || case.message.contains("label matching") {
        return;
    }
    let word = case.found();
    if let Some(keyword) = nearest(word, KEYWORDS.iter().copied()) {
        found.suggest(
            format!("did you mean `{keyword}`?"),
            case.start..case.start + word.len(),
            keyword,
        );
    }
}

/// `x = 5`, `x => 5`, `x <> 5`
fn comparison_operator(case: &Case<'_>, found: &mut Explained) {
    let rest = case.rest();
    let (start, end, meant) = if case.says("unexpected \"=\"") {
        match rest.as_bytes().get(1) {
            Some(b'>') => (case.start, case.start + 2, ">="),
            Some(b'<') => (case.start, case.start + 2, "<="),
            _ if case.before().ends_with("!=") || case.before().ends_with("==") => {
                (case.before().len() - 2, case.start + 1, &case.before()[case.before().len() - 2..])
            }
            _ if case.before().ends_with('!') => (case.before().len() - 1, case.start + 1, "!="),
            _ => (case.start, case.start + 1, "=="),
        }
    } else if case.says("unexpected <op:>>") && case.before().ends_with('<') {
        (case.before().len() - 1, case.start + 1, "!=")
    } else {
        return;
    };
    found.suggest(format!("the comparison is written `{meant}`"), start..end, meant);
}

fn foreign_characters(case: &Case<'_>, found: &mut Explained) {
    let rest = case.rest();
    let Some(c) = rest.chars().next() else { return };
    let unexpected = case.says("unexpected character") || case.says("unexpected left brace");
    if !unexpected {
        return;
    }
    let doubled = rest.chars().nth(1) == Some(c);
    let len = c.len_utf8() * (1 + usize::from(doubled));
    let span = case.start..case.start + len;
    match c {
        '&' => found.suggest("that is `and`", span, "and"),
        '|' => found.suggest("that is `or`", span, "or"),
        '!' => found.advise("PromQL has no `!`: write `x unless y`, or `x == 0`"),
        '$' => {
            found.label = "a variable".to_owned();
            found.advise(
                "variables of dashboards ($__rate_interval, $job) mean nothing in rules: write \
                 the value, e.g. `[5m]`",
            );
        }
        '{' if doubled || case.before().ends_with('{') => found.advise(
            "templates are expanded in labels and annotations only; an expression is taken as it \
             is",
        ),
        '.' => found.advise(
            "a name with dots is quoted: `{\"http.requests\"}`; most systems write underscores \
             instead",
        ),
        ';' => found.advise("one rule holds one expression; write another rule"),
        'm' | 's' | 'h' | 'd' | 'w' | 'y' if case.message.contains("expected ':'") => {
            let start = case.before().len();
            found.suggest("a duration holds no blanks", start..case.start, "");
        }
        '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => {
            found.suggest(
                "these are typographic quotes",
                case.start..case.start + c.len_utf8(),
                "\"",
            );
        }
        _ => {}
    }
}

/// `x > 80%`
fn percent(case: &Case<'_>, found: &mut Explained) {
    let before = case.before();
    let Some(number) = before.strip_suffix('%') else { return };
    let digits =
        number.len() - number.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    if digits > 0 && case.says("unexpected end of input") {
        let number = &number[number.len() - digits..];
        let start = before.len() - 1;
        found.span = start..start + 1;
        found.label = "this is the modulo operator".to_owned();
        let share = number.parse::<f64>().map(|n| n / 100.0).unwrap_or_default();
        found.advise(format!(
            "there are no percentages: compare with {number}, or with {share} where the value is \
             a share"
        ));
    }
}

/// `x > 1,000`
fn thousands(case: &Case<'_>, found: &mut Explained) {
    let digits: String = case.rest().chars().skip(1).take_while(char::is_ascii_digit).collect();
    let after_number = case.before().ends_with(|c: char| c.is_ascii_digit());
    if case.says("unexpected \",\"") && digits.len() == 3 && after_number {
        found.suggest("numbers have no separators", case.start..case.start + 1, "");
    }
}

const UNITS: &[(&str, &str)] = &[
    ("millis", "ms"),
    ("msec", "ms"),
    ("min", "m"),
    ("mo", "30d"),
    ("sec", "s"),
    ("h", "h"),
    ("d", "d"),
    ("w", "w"),
    ("y", "y"),
    ("s", "s"),
    ("m", "m"),
];

/// `[5min]`, `x > 10k`
fn duration(case: &Case<'_>, found: &mut Explained) {
    if case.says("duration must be greater than 0") {
        found.advise("a range reaches back; shift it with `offset`: `x[5m] offset 1h`");
        return;
    }
    if !case.says("bad number or duration syntax") {
        return;
    }
    let rest = case.rest();
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let unit_len = rest[digits..].find(|c: char| !is_word(c)).unwrap_or(rest.len() - digits);
    let (number, unit) = (&rest[..digits], &rest[digits..digits + unit_len]);
    let span = case.start..case.start + digits + unit_len;
    if number.is_empty() || unit.is_empty() {
        return;
    }
    found.span = span.clone();
    let in_range = case.before().ends_with(['[', ':']) || case.word_before() == "offset";
    let factor = match unit {
        "k" | "K" => Some(1e3),
        "M" | "Mi" | "MB" | "Mb" => Some(1e6),
        "G" | "Gi" | "GB" | "Gb" => Some(1e9),
        _ => None,
    };
    if let (Some(factor), false, Ok(value)) = (factor, in_range, number.parse::<f64>()) {
        let meant = format!("{}", value * factor);
        found.suggest("numbers have no such suffix", span, meant);
    } else if let Some((_, known)) = UNITS.iter().find(|(u, _)| unit.to_lowercase().starts_with(u))
        && !number.contains('.')
        && *known != "30d"
    {
        let meant = format!("{number}{known}");
        found.suggest("units are ms, s, m, h, d, w and y", span, meant);
    } else {
        found.advise("a duration is written in whole ms, s, m, h, d, w and y: `1h30m`");
    }
}

/// `x > `
fn nothing_after_operator(case: &Case<'_>, found: &mut Explained) {
    if !case.says("unexpected end of input") && !case.says("no expression found") {
        return;
    }
    let before = case.before();
    if before.is_empty() {
        found.advise("write a PromQL expression, e.g. `up == 0`");
        return;
    }
    let is_op = |c: char| "+-*/%^<>=!".contains(c);
    let start = before.trim_end_matches(is_op).len();
    let op = if start < before.len() { &before[start..] } else { case.word_before() };
    if op.is_empty() {
        found.advise("the expression ends before it is whole: something must follow");
        return;
    }
    found.span = before.len() - op.len()..before.len();
    found.label = "nothing follows".to_owned();
    found.advise(format!("`{op}` needs something on its right"));
}

/// `rate(x)`
fn range_wanted(case: &Case<'_>, found: &mut Explained) {
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
fn range_unwanted(case: &Case<'_>, found: &mut Explained) {
    if !case.says("expected type instant vector") || !case.message.ends_with("got range vector") {
        return;
    }
    let argument = case.found();
    let span = case.token();
    let name = &case.before().trim_end_matches('(').trim_end();
    let name = &name[name.rfind(|c: char| !is_word(c)).map_or(0, |i| i + 1)..];
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

/// `x[5m] > 3`, `up == "1"`
fn operand_type(case: &Case<'_>, found: &mut Explained) {
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

fn scalar_comparison(case: &Case<'_>, found: &mut Explained) {
    if case.says("comparisons between scalars must use BOOL modifier") {
        let operator = case.rest().find(|c: char| !"<>=!".contains(c)).unwrap_or(0);
        found.span = case.start..case.start + operator.max(1);
        let end = case.start + operator;
        found.suggest("say that 0 or 1 is wanted", end..end, " bool");
    } else if case.message.contains("bool modifier can only be used on comparison") {
        found.advise("`bool` goes with == != < <= > >=");
    }
}

fn set_operator(case: &Case<'_>, found: &mut Explained) {
    if case.says("set operator") {
        found.advise("and, or, unless work on series: make one of a number with `vector(1)`");
    } else if case.says("no grouping allowed") || case.says("set operations must always") {
        found.advise("and, or, unless match any number of series: leave group_left away");
    }
}

/// `(a + b)[5m]`
fn range_of_expression(case: &Case<'_>, found: &mut Explained) {
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

fn offset_before_range(case: &Case<'_>, found: &mut Explained) {
    if case.message.contains("modifiers allowed before range") {
        found.advise("the range comes first: `x[5m] offset 1h`, `x[5m] @ start()`");
    }
}

fn empty_selector(case: &Case<'_>, found: &mut Explained) {
    if case.says("vector selector must contain at least one non-empty matcher") {
        found.advise(
            "name a metric, or a label that must be there: `{job=\"api\"}`, `{job=~\".+\"}`",
        );
    } else if case.says("metric name must not be set twice") {
        found.advise("the name stands either before the braces or in them");
    }
}

fn argument_count(case: &Case<'_>, found: &mut Explained) {
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

fn regular_expression(case: &Case<'_>, found: &mut Explained) {
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

fn quotes(case: &Case<'_>, found: &mut Explained) {
    if case.says("unterminated") {
        let quote = case.rest().chars().next().unwrap_or('"');
        found.span = case.start..case.start + quote.len_utf8();
        found.label = "begins here".to_owned();
        found.advise(format!("end the string with `{quote}`"));
    } else if case.says("unknown escape sequence") {
        found.advise("write `\\\\` for a backslash, or put the string in backquotes");
    }
}

fn on_and_group(case: &Case<'_>, found: &mut Explained) {
    if case.message.contains("must not occur in ON and GROUP clause at once") {
        let label = case.quoted(0).unwrap_or_default();
        found.advise(format!(
            "both sides have the same `{label}` already: take it out of group_left or group_right"
        ));
    }
}

fn at_modifier(case: &Case<'_>, found: &mut Explained) {
    if case.message.contains("in @, expected timestamp") {
        found.advise("`@` takes a time in seconds, `start()` or `end()`");
    } else if case.message.contains(" in offset, expected ") {
        found.advise("`offset` takes a duration: `x offset 5m`");
    }
}

fn closing_too_many(case: &Case<'_>, found: &mut Explained) {
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

/// `http requests > 3`
fn two_words(case: &Case<'_>, found: &mut Explained) {
    if !case.says("unexpected identifier") {
        return;
    }
    let (word, before) = (case.found(), case.word_before());
    let known = |name: &str| functions::find(name).is_some() || aggregations::find(name).is_some();
    if !before.is_empty() && !before.starts_with(|c: char| c.is_ascii_digit()) && !known(word) {
        let name = format!("{before}_{word}");
        found.advise(format!(
            "names hold no blanks (is it `{name}`?); two expressions need an operator between them"
        ));
    } else {
        found.advise(format!("an operator is missing before `{word}`"));
    }
}
