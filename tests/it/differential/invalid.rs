//! Expressions that a parser must refuse: patterns around generated parts, and valid
//! expressions with a token lost, doubled or replaced.

use super::generate::Generator;

/// `{v}` is a vector, `{s}` a scalar.
const PATTERNS: &[&str] = &[
    "",
    "   ",
    "# only a comment",
    "({v}",
    "{v})",
    "sum({v}",
    "{v} +",
    "* {v}",
    "{v} {v}",
    "rate({v})",
    "rate()",
    "rate({v}, {v})",
    "nofunc({v})",
    "up[5m] + 1",
    "1 + up[5m]",
    "sum(up[5m])",
    "-up[5m]",
    "\"a\" + 1",
    "-\"a\"",
    "1 > 2",
    "{s} == {s}",
    "{s} and {v}",
    "{v} or {s}",
    "{s} unless {s}",
    "{v} + bool {v}",
    "{v} and bool {v}",
    "up[5m][5m]",
    "up offset",
    "up offset foo",
    "up offset 5x",
    "up[5x]",
    "up[]",
    "up[5m",
    "up[5m:1x]",
    "up[0s]",
    "up[-5m]",
    "up @",
    "up @ foo",
    "up @ start",
    "up @ {v}",
    "{}",
    "{job=~\".*\"}",
    "{job!=\"a\"}",
    "up{job=}",
    "up{job}",
    "up{job=\"a\"",
    "up{=\"a\"}",
    "up{job=\"a\" code=\"b\"}",
    "up{job=\"a\",,}",
    "up{,}",
    "up{job=~\"*\"}",
    "up{job=~\"(\"}",
    "up{__name__=\"b\"}",
    "up{job==\"a\"}",
    "up{job=\"a}",
    "up{job='a}",
    "up{job=`a}",
    "up{job=\"\\q\"}",
    "up{1a=\"b\"}",
    "sum by job ({v})",
    "sum by (1) ({v})",
    "sum by (job) without (le) ({v})",
    "sum({v}, {v})",
    "topk({v})",
    "topk(1, 2)",
    "topk({v}, {v})",
    "quantile(\"a\", {v})",
    "count_values(1, {v})",
    "sum by (job",
    "sum()",
    "{v} + on job {v}",
    "{v} + on (job) ignoring (le) {v}",
    "{v} + group_left {v}",
    "{v} and on (job) group_left {v}",
    "{v} + on (job) group_left (job) {v}",
    "{s} + on (job) {s}",
    "{v} + on (job) {s}",
    "histogram_quantile({v}, {v})",
    "label_replace({v}, 1, \"\", \"\", \"\")",
    "label_replace({v})",
    "label_join({v})",
    "clamp({v}, 1)",
    "round({v}, 1, 2)",
    "vector({v})",
    "scalar({s})",
    "time(1)",
    "absent({s})",
    "absent(up[5m])",
    "day_of_week(up[5m])",
    "predict_linear({v}, 1)",
    "1 offset 5m",
    "(1) @ 5",
    "sum({v}) offset 5m",
    "({v}) offset 5m",
    "sum({v})[5m]",
    "({v})[5m]",
    "({v})[5m:1m:1m]",
    "1[5m:]",
    "0x",
    "1e",
    "1.2.3",
    "1a",
    "08x",
    "up up",
    "up;",
    "up $ 1",
    "up & 1",
    "up | 1",
    "up = 1",
    "up ! 1",
    "up =~ 1",
    "up !~ 1",
    "\"unclosed",
    "'unclosed",
    "`unclosed",
    "\"\\xZZ\"",
    "\"\\400\"",
    "by (job)",
    "on (job)",
    "bool",
    "offset 5m",
    "and",
    "group_left",
    "1 + + ",
    "1 ++",
    "up ^ ",
    "up atan2",
    "up{job=\"a\"}{job=\"b\"}",
    "up[5m] offset 1m offset 2m",
    "up @ 1 @ 2",
    "up offset 1m offset 2m",
    "\u{e4}",
    "up{\u{e4}=\"a\"}",
    "@",
    "[5m]",
    ":",
    "up[5m:]:",
    "up @ end(",
    "up @ inf",
    "up @ NaN",
];
const INTRUDERS: &[&str] =
    &["(", ")", "{", "}", "[", "]", ",", "+", "by", "on", "\"", "sum", "=", "$", "5m"];

/// An error text of 2.42 as 3.14 words it.
pub fn in_new_words(text: &str) -> String {
    const DURATION: &str = "number, duration, step(), ";
    // The name of `@` is the number of its token, and there are more tokens now.
    text.replace("<Item 57385>", "<Item 57400>")
        .replace(
            "in offset, expected duration",
            &format!("in offset, expected {DURATION}or range()"),
        )
        .replace(
            "in subquery selector, expected duration or",
            &format!("in subquery selector, expected {DURATION}range(), or"),
        )
        .replace("Scalar value NaN overflows int64", "Parameter value is NaN")
        // Regular expressions are compiled without their anchors.
        .replace("`^(?:", "`")
        .replace(")$`", "`")
}

/// Why the two may refuse differently: changes of the language since 2.42. Each looks at
/// the very place 2.42 complains about.
pub fn known_difference(expr: &str, theirs: &str, ours: &str) -> Option<&'static str> {
    let at = theirs.split_once(" parse error").map_or("", |(head, _)| head);
    let column = at.trim_end_matches(':').rsplit(':').next().and_then(|c| c.parse::<usize>().ok());
    let rest = column.and_then(|c| expr.get(c - 1..)).unwrap_or_default();
    let reasons = [
        (
            theirs.contains("missing unit character in duration")
                || theirs.contains("bad duration syntax")
                || theirs.contains("unexpected number") && theirs.contains("in offset")
                || (rest.starts_with(['(', '+', '-', '*', '/', '%', '^'])
                    && [" in offset", " in subquery"].iter().any(|c| theirs.contains(c))),
            "durations may be numbers and may be computed",
        ),
        (
            theirs.contains("unexpected colon") && ours.contains(", expected ':'"),
            "words in brackets are told by their first letter",
        ),
        (is_duration(rest.trim_start_matches([',', ' '])), "durations are numbers"),
        (
            theirs.contains("unexpected string")
                && [" in label matching", " in grouping opts"].iter().any(|c| theirs.contains(c)),
            "names may be quoted",
        ),
        (
            rest.starts_with('(') && ours.contains("is not enabled"),
            "start() and its like are functions, if enabled",
        ),
        (
            ours.is_empty() && theirs == "unexpected number of samples",
            "2.42 cannot answer with a pinned range in parentheses",
        ),
        (
            ours.is_empty()
                && ["label name", "destination label name", "source label name"]
                    .iter()
                    .any(|what| theirs.starts_with(&format!("invalid {what} "))),
            "label names may be any text",
        ),
        (
            ours.contains("bad number or duration syntax")
                && (theirs.contains("unexpected number") || theirs.contains("parsing number")),
            "numbers are cut whole",
        ),
    ];
    reasons.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
}

/// Whether a text begins with a duration.
fn is_duration(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    unit.len() < text.len() && unit.starts_with(['s', 'm', 'h', 'd', 'w', 'y'])
}

impl Generator {
    /// Every pattern in turn, then mutations; `n` counts up from zero.
    pub fn invalid(&mut self, n: usize) -> String {
        let Some(pattern) = PATTERNS.get(n) else { return self.mutation() };
        let mut text = (*pattern).to_owned();
        while text.contains("{v}") {
            let vector = if self.chance(50) { "up".to_owned() } else { self.vector(1) };
            text = text.replacen("{v}", &vector, 1);
        }
        while text.contains("{s}") {
            text = text.replacen("{s}", &self.scalar(1), 1);
        }
        text
    }

    pub fn pattern_count() -> usize {
        PATTERNS.len()
    }

    fn mutation(&mut self) -> String {
        let text = self.vector(2);
        let mut tokens = tokens(&text);
        let at = self.below(tokens.len());
        match self.below(4) {
            0 => drop(tokens.remove(at)),
            1 => tokens.insert(at, tokens[at]),
            2 => tokens[at] = self.pick(INTRUDERS),
            _ => tokens.insert(at, self.pick(INTRUDERS)),
        }
        tokens.concat()
    }
}

/// Words, and every other character on its own.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let length = match rest.find(|c| !word(c)) {
            _ if !word(first) => first.len_utf8(),
            Some(end) => end,
            None => rest.len(),
        };
        tokens.push(&rest[..length]);
        rest = &rest[length..];
    }
    tokens
}
