//! `eval` blocks: a query, its times, and what is expected.

use super::expect::{Annotated, Expectations, TextMatch};
use super::load::{Point, parse_points};
use super::script::{Line, LineError};
use crate::model::duration::parse_duration;
use crate::model::{Labels, StepGrid, TimestampMs};
use crate::parser::{self, Expr, ParserOptions};

/// When a query is evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Instant(TimestampMs),
    Range(StepGrid),
}

/// A series that is expected.
#[derive(Clone, Debug)]
pub(super) struct ExpectedSeries {
    pub(super) labels: Labels,
    /// One per step; `None` where no sample is expected.
    pub(super) points: Vec<Option<Point>>,
}

/// The value that is expected.
#[derive(Clone, Debug)]
pub(super) enum ExpectedValue {
    /// A vector or matrix, in the order written; none is an empty result.
    Series(Vec<ExpectedSeries>),
    Scalar(f64),
    String(String),
    /// An instant query that gives a range vector with points at these times.
    RangeVector(StepGrid, Vec<ExpectedSeries>),
}

/// One case.
#[derive(Clone, Debug)]
pub(super) struct Eval {
    pub(super) when: When,
    pub(super) query: String,
    pub(super) expr: Expr,
    pub(super) value: ExpectedValue,
    pub(super) expect: Expectations,
}

/// Reads an `eval` line and its block; also returns how many lines belong to it.
pub(super) fn parse(head: Line<'_>, block: &[Line<'_>]) -> Result<(Eval, usize), LineError> {
    let at_head = |message: String| (head.number, message);
    let (word, rest) = split_word(head.text);
    let mut expect = Expectations::default();
    match word.to_ascii_lowercase().as_str() {
        "eval" => {}
        "eval_fail" => expect.fail = Some(TextMatch::Any),
        "eval_warn" => expect.warn = Annotated { wanted: vec![TextMatch::Any], none: false },
        "eval_info" => expect.info = Annotated { wanted: vec![TextMatch::Any], none: false },
        "eval_ordered" => expect.ordered = true,
        other => return Err(at_head(format!("invalid command {other:?}"))),
    }
    let (when, query) = times(rest).map_err(at_head)?;
    let expr = parser::parse(query, &ParserOptions::all()).map_err(|e| at_head(e.to_string()))?;
    let mut eval = Eval {
        when,
        query: query.to_owned(),
        expr,
        value: ExpectedValue::Series(Vec::new()),
        expect,
    };
    let mut used = 0;
    for line in block {
        used += 1;
        let ends = eval.add(line.text).map_err(|message| (line.number, message))?;
        if ends {
            break;
        }
    }
    Ok((eval, used))
}

/// The times and the query of `instant at T QUERY` and `range from A to B step S QUERY`.
fn times(rest: &str) -> Result<(When, &str), String> {
    const FORMS: &str = "invalid eval command. Must be either \
        'eval instant at <offset:duration> <query>' or \
        'eval range from <from> to <to> step <step> <query>'";
    let (kind, rest) = split_word(rest);
    match kind {
        "instant" => {
            let rest = keyword(rest, "at").ok_or(FORMS)?;
            let (at, query) = split_word(rest);
            let at = time("timestamp", at)?;
            Ok((When::Instant(at), query))
        }
        "range" => {
            let (from, rest) = split_word(keyword(rest, "from").ok_or(FORMS)?);
            let (to, rest) = split_word(keyword(rest, "to").ok_or(FORMS)?);
            let (step, query) = split_word(keyword(rest, "step").ok_or(FORMS)?);
            let (from_ms, to_ms) = (time("start timestamp", from)?, time("end timestamp", to)?);
            if to_ms < from_ms {
                return Err(format!(
                    "invalid test definition, end timestamp ({to}) is before start timestamp \
                     ({from})"
                ));
            }
            let step_ms = time("step", step)?;
            let grid = StepGrid::range(from_ms, to_ms, step_ms)
                .ok_or_else(|| format!("invalid step {step:?}: it must be positive"))?;
            Ok((When::Range(grid), query))
        }
        _ => Err(FORMS.to_owned()),
    }
}

fn time(what: &str, text: &str) -> Result<i64, String> {
    parse_duration(text).map_err(|e| format!("invalid {what} definition {text:?}: {e}"))
}

fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (text, ""),
    }
}

fn keyword<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.strip_prefix(word).filter(|rest| rest.starts_with(char::is_whitespace)).map(str::trim)
}

impl Eval {
    /// Takes a line of the block; true when it is the last one by nature.
    fn add(&mut self, line: &str) -> Result<bool, String> {
        for (word, is_regex) in [("expected_fail_message", false), ("expected_fail_regexp", true)] {
            if let Some(text) = keyword(line, word) {
                self.expect.fail = Some(if is_regex {
                    TextMatch::pattern(text)?
                } else {
                    TextMatch::Message(text.to_owned())
                });
                return Ok(true);
            }
        }
        if let Some(rest) = line.strip_prefix("expect range vector") {
            self.value = ExpectedValue::RangeVector(range_vector(rest.trim())?, Vec::new());
            return Ok(false);
        }
        if let Some(rest) = line.strip_prefix("expect string") {
            self.value = ExpectedValue::String(string(rest.trim())?);
            return Ok(false);
        }
        let (word, rest) = split_word(line);
        if word == "expect" {
            self.expect.add(rest)?;
            return Ok(false);
        }
        if let Some(value) = number(line) {
            self.value = ExpectedValue::Scalar(value);
            return Ok(true);
        }
        self.add_series(line)?;
        Ok(false)
    }

    fn add_series(&mut self, line: &str) -> Result<(), String> {
        let (labels, points) = parse_points(line)?;
        let series = ExpectedSeries { labels, points };
        match (&mut self.value, self.when) {
            (ExpectedValue::RangeVector(_, all), _) => all.push(series),
            (ExpectedValue::Series(_), When::Instant(_)) if series.points.len() > 1 => {
                return Err("expecting multiple values in instant evaluation not allowed. \
                            consider using 'expect range vector' directive to enable a range \
                            vector result for an instant query"
                    .to_owned());
            }
            (ExpectedValue::Series(all), _) => all.push(series),
            (ExpectedValue::Scalar(_) | ExpectedValue::String(_), _) => {
                return Err("a series cannot be expected beside a scalar or string".to_owned());
            }
        }
        Ok(())
    }
}

/// `from A to B step S`
fn range_vector(rest: &str) -> Result<StepGrid, String> {
    const FORM: &str = "invalid range vector definition: expect range vector from <from> to <to> \
                        step <step>";
    let (from, rest) = split_word(keyword(rest, "from").ok_or(FORM)?);
    let (to, rest) = split_word(keyword(rest, "to").ok_or(FORM)?);
    let (step, _) = split_word(keyword(rest, "step").ok_or(FORM)?);
    let (from, to) = (time("start timestamp", from)?, time("end timestamp", to)?);
    StepGrid::range(from, to, time("step", step)?).ok_or_else(|| FORM.to_owned())
}

/// A number as PromQL writes it.
fn number(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "inf" | "+inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            text.parse().ok()
        }
        _ => None,
    }
}

/// A Go string literal in double or back quotes.
fn string(text: &str) -> Result<String, String> {
    const REQUIRED: &str =
        "expected string literal not valid - a quoted string literal is required";
    const BROKEN: &str =
        "expected string literal not valid - check that the string is correctly quoted";
    if text.is_empty() {
        return Err(REQUIRED.to_owned());
    }
    let expr = parser::parse(text, &ParserOptions::all()).map_err(|_| BROKEN.to_owned())?;
    match expr.kind {
        parser::ast::ExprKind::String(value) => Ok(value),
        _ => Err(BROKEN.to_owned()),
    }
}
