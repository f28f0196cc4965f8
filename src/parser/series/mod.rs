//! The notation of series in tests: `name{label="v"} 1+2x3 _ stale {{schema:1 sum:3}}x2`.
//! Used by test scripts, unit tests of rules, and expected results.

use std::sync::Arc;

use super::ast::Span;
use super::{ParseError, ParseErrors, literal, scan};
use crate::model::value::stale_nan;
use crate::model::{FloatHistogram, Labels};

mod histogram;
mod tokens;

use tokens::{Kind, Token};

/// Most points one series may describe.
pub const SERIES_POINTS_MAX: usize = 1_000_000;

/// A series: its labels, and one value per step.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDescription {
    pub labels: Labels,
    pub values: Vec<SeriesValue>,
}

/// The value at one step.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesValue {
    /// `_`
    Missing,
    /// A number; `stale` is the staleness marker.
    Float(f64),
    /// A histogram; whether its counter-reset hint was written matters when it is compared.
    Histogram { histogram: Arc<FloatHistogram>, hint_written: bool },
}

/// Parses a metric and its values. Errors are those of Prometheus.
pub fn parse_series_description(text: &str) -> Result<SeriesDescription, ParseErrors> {
    let at = |errors: ParseErrors| ParseErrors { input: text.to_owned(), ..errors };
    let end = metric_end(text);
    let labels = super::parse_metric(&text[..end]).map_err(at)?;
    let values = parse_from(text, end)?;
    Ok(SeriesDescription { labels, values })
}

/// Parses values without a metric before them, as `values:` of rule unit tests holds them.
pub fn parse_series_values(text: &str) -> Result<Vec<SeriesValue>, ParseErrors> {
    // The grammar wants a blank before every value.
    let padded = format!(" {text}");
    parse_from(&padded, 0).map_err(|mut errors| {
        errors.input = text.to_owned();
        for error in &mut errors.errors {
            let Span { start, end } = error.span;
            error.span = start.saturating_sub(1)..end.saturating_sub(1);
        }
        errors
    })
}

fn parse_from(text: &str, start: usize) -> Result<Vec<SeriesValue>, ParseErrors> {
    let (tokens, lexer_error) = tokens::tokens(text, start);
    let mut parser = Parser { tokens, pos: 0, values: Vec::new() };
    parser.values().map_err(|mut error| {
        if parser.token().kind == Kind::Error && error.span == parser.token().span() {
            let start = error.span.start;
            let message = lexer_error.unwrap_or_default();
            error = ParseError { span: start..text.len() as u32, message };
        }
        ParseErrors { input: text.to_owned(), errors: vec![error] }
    })?;
    Ok(parser.values)
}

/// Where the metric ends: after its name, or the braces that follow it directly.
fn metric_end(text: &str) -> usize {
    let start = text.len() - text.trim_start_matches([' ', '\t', '\n', '\r']).len();
    let name = text[start..]
        .find(|c: char| !scan::is_alnum(c) && c != ':')
        .map_or(text.len(), |len| start + len);
    if !text[name..].starts_with('{') {
        return name;
    }
    let mut at = name;
    while let Some(c) = text[at..].chars().next() {
        match c {
            '}' => return at + 1,
            '"' | '\'' | '`' => at += scan::string_len(&text[at..]),
            '#' => at += text[at..].find('\n').unwrap_or(text.len() - at),
            c => at += c.len_utf8(),
        }
    }
    text.len()
}

type Parsed<T> = Result<T, ParseError>;

/// The words for what does not fit, as in `diagnose`.
const CONTEXT: &str = " in series values";

struct Parser<'a> {
    /// Never empty: the last one is the end or the lexer's error.
    tokens: Vec<Token<'a>>,
    pos: usize,
    values: Vec<SeriesValue>,
}

impl<'a> Parser<'a> {
    fn token(&self) -> &Token<'a> {
        let last = self.tokens.len() - 1;
        &self.tokens[self.pos.min(last)]
    }

    fn take(&mut self, kind: Kind) -> Option<Token<'a>> {
        let token = self.token();
        if token.kind != kind {
            return None;
        }
        let token = token.clone();
        self.pos += 1;
        Some(token)
    }

    fn unexpected<T>(&self, context: &str) -> Parsed<T> {
        let token = self.token();
        let message = format!("unexpected {}{context}", token.describe());
        Err(ParseError { span: token.span(), message })
    }

    fn values(&mut self) -> Parsed<()> {
        while self.take(Kind::End).is_none() {
            if self.take(Kind::Space).is_none() {
                return self.unexpected(CONTEXT);
            }
            match self.token().kind {
                Kind::End | Kind::Space => {}
                Kind::Blank => self.blank()?,
                Kind::Open => self.histograms()?,
                _ => self.floats()?,
            }
        }
        Ok(())
    }

    fn push(&mut self, value: SeriesValue, span: &Span) -> Parsed<()> {
        if self.values.len() >= SERIES_POINTS_MAX {
            let message = format!("a series may have at most {SERIES_POINTS_MAX} values");
            return Err(ParseError { span: span.clone(), message });
        }
        self.values.push(value);
        Ok(())
    }

    /// `xN`, or nothing.
    fn times(&mut self) -> Parsed<Option<u64>> {
        if self.take(Kind::Times).is_none() {
            return Ok(None);
        }
        let Some(count) = self.take(Kind::Number) else { return self.unexpected(CONTEXT) };
        match count.text.parse() {
            Ok(count) => Ok(Some(count)),
            Err(_) => {
                let quoted = crate::model::labels::quote(count.text);
                let message = format!(
                    "invalid repetition in series values: strconv.ParseUint: parsing {quoted}: invalid syntax"
                );
                Err(ParseError { span: count.span(), message })
            }
        }
    }

    fn blank(&mut self) -> Parsed<()> {
        let span = self.token().span();
        self.pos += 1;
        for _ in 0..self.times()?.unwrap_or(1) {
            self.push(SeriesValue::Missing, &span)?;
        }
        Ok(())
    }

    /// A number or duration token, with a sign if there is one.
    fn signed_number(&mut self) -> Parsed<f64> {
        let minus = self.take(Kind::Sign).is_some_and(|sign| sign.text == "-");
        let value = self.number()?;
        Ok(if minus { -value } else { value })
    }

    fn number(&mut self) -> Parsed<f64> {
        let token = self.token().clone();
        let value = match token.kind {
            Kind::Number => {
                literal::number(token.text).map_err(|e| format!("error parsing number: {e}"))
            }
            Kind::Duration => literal::duration_seconds(token.text).map_err(|e| e.to_string()),
            _ => return self.unexpected(CONTEXT),
        };
        self.pos += 1;
        value.map_err(|message| ParseError { span: token.span(), message })
    }

    /// `a`, `axN`, `a+bxN`, `a-bxN`; `stale` for `a` too. A ramp adds up step by step, so
    /// rounding errors add up as well.
    fn floats(&mut self) -> Parsed<()> {
        let span = self.token().span();
        let mut value = match self.token().kind {
            Kind::Identifier if self.token().text == "stale" => {
                self.pos += 1;
                stale_nan()
            }
            Kind::Identifier => {
                return self.unexpected(" in series values, expected number or \"stale\"");
            }
            _ => self.signed_number()?,
        };
        if self.token().kind != Kind::Sign {
            let count = self.times()?.unwrap_or(0);
            for _ in 0..=count {
                self.push(SeriesValue::Float(value), &span)?;
            }
            return Ok(());
        }
        let step = self.signed_number()?;
        let Some(count) = self.times()? else { return self.unexpected(CONTEXT) };
        self.push(SeriesValue::Float(value), &span)?;
        for _ in 0..count {
            value += step;
            self.push(SeriesValue::Float(value), &span)?;
        }
        Ok(())
    }

    /// `{{a}}`, `{{a}}xN`, `{{a}}+{{b}}xN`, `{{a}}-{{b}}xN`.
    fn histograms(&mut self) -> Parsed<()> {
        let span = self.token().span();
        let base = self.histogram()?;
        let hint_written = base.hint_written;
        let mut current = base.histogram;
        let Some(sign) = self.take(Kind::Sign) else {
            let histogram = Arc::new(current);
            for _ in 0..=self.times()?.unwrap_or(0) {
                let histogram = Arc::clone(&histogram);
                self.push(SeriesValue::Histogram { histogram, hint_written }, &span)?;
            }
            return Ok(());
        };
        if self.token().kind != Kind::Open {
            return self.unexpected(CONTEXT);
        }
        let increment = self.histogram()?.histogram;
        let Some(count) = self.times()? else { return self.unexpected(CONTEXT) };
        if current.schema > increment.schema {
            let message = format!(
                "error combining histograms: cannot merge from schema {} to {}",
                current.schema, increment.schema
            );
            return Err(ParseError { span: 0..0, message });
        }
        self.push(
            SeriesValue::Histogram { histogram: Arc::new(current.clone()), hint_written },
            &span,
        )?;
        for _ in 0..count {
            let combined = match sign.text {
                "+" => current.add(&increment),
                _ => current.sub(&increment),
            };
            combined.map_err(|e| ParseError {
                span: 0..0,
                message: format!("error combining histograms: {e}"),
            })?;
            self.push(
                SeriesValue::Histogram { histogram: Arc::new(current.clone()), hint_written },
                &span,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_add_up_and_repetitions_are_limited() {
        let values = parse_series_values("0+0.1x3 stale _x2 1m").expect("sound");
        let floats: Vec<Option<f64>> = values
            .iter()
            .map(|v| match v {
                SeriesValue::Float(v) => Some(*v),
                _ => None,
            })
            .collect();
        assert_eq!(floats[..4], [Some(0.0), Some(0.1), Some(0.2), Some(0.1 + 0.1 + 0.1)]);
        assert!(floats[4].is_some_and(crate::model::value::is_stale_nan));
        assert_eq!(floats[5..], [None, None, Some(60.0)]);
        for text in ["1x1000000", "_x99999999999", "{{}}x1000000", "0+1x18446744073709551615"] {
            let errors = parse_series_values(text).expect_err(text);
            assert!(errors.to_string().contains("at most 1000000 values"), "{errors}");
        }
    }

    #[test]
    fn errors_point_into_the_text() {
        for (text, message) in [
            (
                "1 2 foo",
                "1:5: parse error: unexpected identifier \"foo\" in series values, expected number or \"stale\"",
            ),
            ("1 2 {", "1:5: parse error: unexpected character in series sequence: '{'"),
            ("1+1", "1:4: parse error: unexpected end of input in series values"),
            ("0x1f", "1:3: parse error: bad number or duration syntax: \"1\""),
        ] {
            let errors = parse_series_values(text).expect_err(text);
            assert_eq!(errors.to_string(), message);
        }
    }
}
