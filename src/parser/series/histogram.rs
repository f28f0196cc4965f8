//! `{{schema:1 sum:3 count:22 buckets:[5 10 7]}}`: native histograms in series notation.

use super::{CONTEXT, Kind, Parsed, Parser};
use crate::model::FloatHistogram;
use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use crate::model::labels::quote;
use crate::parser::ParseError;

pub(super) struct Written {
    pub histogram: FloatHistogram,
    pub hint_written: bool,
}

/// What may stand in a histogram once it has a first key.
const IN_DESCRIPTION: &str =
    " in histogram description, expected histogram description key, e.g. buckets:[5 10 7]";

impl Parser<'_> {
    /// A histogram from `{{` to `}}`.
    pub(super) fn histogram(&mut self) -> Parsed<Written> {
        self.pos += 1;
        let mut histogram = FloatHistogram::default();
        let mut offsets = (0, 0);
        let mut seen: Vec<&str> = Vec::new();
        let mut duplicate = None;
        if self.take(Kind::Space).is_some() && self.token().kind != Kind::Close {
            return self.unexpected(CONTEXT);
        }
        while self.take(Kind::Close).is_none() {
            let context = if seen.is_empty() { CONTEXT } else { IN_DESCRIPTION };
            let Some(key) = self.take(Kind::Key) else { return self.unexpected(context) };
            if seen.contains(&key.text) {
                duplicate.get_or_insert(key.text);
            }
            seen.push(key.text);
            self.punctuation(":")?;
            match key.text {
                "schema" => histogram.schema = self.schema()?,
                "sum" => histogram.sum = self.signed_number()?,
                "count" => histogram.count = self.signed_number()?,
                "z_bucket" => histogram.zero_count = self.signed_number()?,
                "z_bucket_w" => histogram.zero_threshold = self.number()?,
                "buckets" => histogram.positive_buckets = self.list()?,
                "n_buckets" => histogram.negative_buckets = self.list()?,
                "custom_values" => histogram.custom_values = self.list()?,
                "offset" => offsets.0 = self.integer()?,
                "n_offset" => offsets.1 = self.integer()?,
                _ => histogram.counter_reset_hint = self.hint()?,
            }
            if self.token().kind != Kind::Close && self.take(Kind::Space).is_none() {
                return self.unexpected(IN_DESCRIPTION);
            }
        }
        if let Some(key) = duplicate {
            let message = format!("duplicate key {} in histogram", quote(key));
            return Err(ParseError { span: 0..0, message });
        }
        histogram.positive_spans = spans(offsets.0, histogram.positive_buckets.len());
        histogram.negative_spans = spans(offsets.1, histogram.negative_buckets.len());
        Ok(Written { histogram, hint_written: seen.contains(&"counter_reset_hint") })
    }

    fn punctuation(&mut self, text: &str) -> Parsed<()> {
        if self.token().kind != Kind::Punctuation || self.token().text != text {
            return self.unexpected(CONTEXT);
        }
        self.pos += 1;
        Ok(())
    }

    fn integer(&mut self) -> Parsed<i32> {
        let span = self.token().span();
        let value = self.signed_number()?;
        if value.fract() == 0.0 && value.abs() <= f64::from(i32::MAX) {
            return Ok(value as i32);
        }
        let message = format!("error parsing number: {value} is not an integer");
        Err(ParseError { span, message })
    }

    /// Prometheus takes any integer here and fails on it later.
    fn schema(&mut self) -> Parsed<i32> {
        let span = self.token().span();
        let schema = self.integer()?;
        if (-4..=8).contains(&schema) || schema == CUSTOM_BUCKETS_SCHEMA {
            return Ok(schema);
        }
        let message = format!(
            "invalid histogram schema {schema}: must be between -4 and 8, or {CUSTOM_BUCKETS_SCHEMA}"
        );
        Err(ParseError { span, message })
    }

    /// `[5 10 7]`
    fn list(&mut self) -> Parsed<Vec<f64>> {
        self.punctuation("[")?;
        let mut values = vec![self.signed_number()?];
        loop {
            if self.token().kind == Kind::Punctuation {
                self.punctuation("]")?;
                return Ok(values);
            }
            if self.take(Kind::Space).is_none() {
                return self.unexpected(CONTEXT);
            }
            if self.token().kind != Kind::Punctuation {
                values.push(self.signed_number()?);
            }
        }
    }

    fn hint(&mut self) -> Parsed<CounterResetHint> {
        let Some(hint) = self.take(Kind::Hint) else { return self.unexpected(CONTEXT) };
        Ok(match hint.text {
            "reset" => CounterResetHint::Reset,
            "not_reset" => CounterResetHint::NotReset,
            "gauge" => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        })
    }
}

/// One span for buckets without gaps.
fn spans(offset: i32, len: usize) -> Vec<Span> {
    if len == 0 { Vec::new() } else { vec![Span { offset, length: len as u32 }] }
}
