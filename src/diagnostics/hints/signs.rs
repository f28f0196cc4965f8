//! Operators, numbers and durations as other languages write them.

use super::super::promql::{Case, Explained, is_word};

/// `x = 5`, `x => 5`, `x <> 5`
pub(super) fn comparison_operator(case: &Case<'_>, found: &mut Explained) {
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

pub(super) fn foreign_characters(case: &Case<'_>, found: &mut Explained) {
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
pub(super) fn percent(case: &Case<'_>, found: &mut Explained) {
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
pub(super) fn thousands(case: &Case<'_>, found: &mut Explained) {
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
pub(super) fn duration(case: &Case<'_>, found: &mut Explained) {
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
pub(super) fn nothing_after_operator(case: &Case<'_>, found: &mut Explained) {
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
