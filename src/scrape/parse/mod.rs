//! The exposition formats: bytes in, entries out, without copying. The text of a series
//! is only delimited here; its labels are decoded when asked for, so that a scrape that
//! knows the series by its text never decodes them.
//!
//! What is accepted and what is refused is what Prometheus' readers accept and refuse.

mod labels;
mod number;
mod openmetrics;
mod prometheus;

use std::borrow::Cow;

use thiserror::Error;

use crate::model::TimestampMs;
use crate::model::metadata::MetricType;

pub use labels::LabelPairs;
pub use number::format_label_float;

/// Which format a body is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4 and 1.0.0.
    Prometheus,
    /// OpenMetrics text 0.0.1 and 1.0.0.
    OpenMetrics,
}

/// Why a body was refused, with the text Prometheus has for it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {text}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    pub text: String,
}

/// One entry of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    Series(Series<'a>),
    Help { family: Cow<'a, str>, text: Cow<'a, str> },
    Type { family: Cow<'a, str>, kind: MetricType },
    Unit { family: Cow<'a, str>, unit: Cow<'a, str> },
    Comment,
}

/// One sample line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series<'a> {
    /// The text that names the series: name and braces as the target wrote them.
    pub raw: &'a [u8],
    pub value: f64,
    /// The target's own timestamp.
    pub ts: Option<TimestampMs>,
    pub exemplar: Option<Exemplar<'a>>,
    /// The type last declared before this line; bucket bounds of histograms and
    /// quantiles of summaries are written canonically because of it.
    kind: MetricType,
    format: Format,
    line: usize,
}

/// The exemplar of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// The braces as written.
    raw: &'a [u8],
    pub value: f64,
    pub ts: Option<TimestampMs>,
    line: usize,
}

impl<'a> Series<'a> {
    /// The line of the body it stands in, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Decodes the labels, the metric name among them, sorted by name. A name that
    /// stands twice is in there twice. `out` is cleared first.
    pub fn labels(&self, out: &mut LabelPairs<'a>) -> Result<(), ParseError> {
        out.read(self.raw, self.format, self.kind, true)
            .map_err(|text| ParseError { line: self.line, text })
    }
}

impl<'a> Exemplar<'a> {
    /// As `Series::labels`; an exemplar has no metric name.
    pub fn labels(&self, out: &mut LabelPairs<'a>) -> Result<(), ParseError> {
        out.read(self.raw, Format::OpenMetrics, MetricType::Unknown, false)
            .map_err(|text| ParseError { line: self.line, text })
    }
}

/// Reads entries until the end or the first error; after an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    /// Line of `at`, from 1.
    line: usize,
    kind: MetricType,
    format: Format,
    done: bool,
}

/// Reads the Prometheus text format. A missing last line break is forgiven.
pub fn text(input: &[u8]) -> Parser<'_> {
    Parser::new(input, Format::Prometheus)
}

/// Reads OpenMetrics text, which must end with `# EOF`.
pub fn openmetrics(input: &[u8]) -> Parser<'_> {
    Parser::new(input, Format::OpenMetrics)
}

impl<'a> Parser<'a> {
    /// Reads a body of the given format.
    pub fn new(input: &'a [u8], format: Format) -> Self {
        Self { input, at: 0, line: 1, kind: MetricType::Unknown, format, done: false }
    }

    fn rest(&self) -> &'a [u8] {
        &self.input[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// Consumes `text` when it comes next.
    fn eat(&mut self, text: &[u8]) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Consumes bytes while `wanted` holds and returns them.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|b| !wanted(*b)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Consumes the text that names a series, whose first byte comes next: a name,
    /// braces or both. The content is judged when the labels are decoded; here only the
    /// closing brace is found. Returns `None` when there is none.
    fn take_series(&mut self, spaces_before_brace: bool) -> Option<&'a [u8]> {
        let start = self.at;
        self.take_while(is_name_byte);
        let after_name = self.at;
        if spaces_before_brace {
            self.take_while(is_blank);
        }
        if self.peek() != Some(b'{') {
            self.at = after_name;
            return Some(&self.input[start..self.at]);
        }
        self.at += 1;
        let mut quoted = false;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => quoted = !quoted,
                b'\\' if quoted => self.at += 1,
                b'\n' => self.line += 1,
                b'}' if !quoted => return Some(&self.input[start..self.at]),
                _ => {}
            }
        }
        self.at = self.input.len();
        None
    }

    /// An error about the entry that began at `start`, met at `found`.
    fn error(&self, expected: &str, start: usize) -> ParseError {
        let found = match self.peek() {
            Some(_) => excerpt(&self.input[self.at..self.at + 1]),
            None => "the end of the data".to_owned(),
        };
        let entry = excerpt(&self.input[start..(self.at + 1).min(self.input.len())]);
        self.failure(format!("{expected}, got {found} while parsing: {entry}"))
    }

    fn failure(&self, text: String) -> ParseError {
        ParseError { line: self.line, text }
    }

    /// `NAME` or `"NAME"` after `# HELP` and its like.
    fn take_family(&mut self, keyword: &str, start: usize) -> Result<Cow<'a, str>, ParseError> {
        if self.peek() == Some(b'"') {
            let rest = &self.rest()[1..];
            let Some(len) = labels::string_len(rest, true) else {
                return Err(self.error(&format!("expected metric name after {keyword}"), start));
            };
            self.at += len + 2;
            let name = labels::utf8(&rest[..len]).map_err(|text| self.failure(text))?;
            return Ok(labels::unescape(name));
        }
        let name = match self.peek() {
            Some(byte) if !byte.is_ascii_digit() => self.take_while(is_name_byte),
            _ => &[],
        };
        if name.is_empty() {
            return Err(self.error(&format!("expected metric name after {keyword}"), start));
        }
        Ok(Cow::Borrowed(ascii(name)))
    }
}

impl<'a> Iterator for Parser<'a> {
    type Item = Result<Entry<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let entry = match self.format {
            Format::Prometheus => self.next_prometheus(),
            Format::OpenMetrics => self.next_openmetrics(),
        };
        let entry = entry.transpose();
        self.done = !matches!(entry, Some(Ok(_)));
        entry
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `[a-zA-Z0-9_:]`; that a name does not start with a digit is checked where it matters.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')
}

/// Text of bytes that were checked to be ASCII.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("BUG: the bytes were checked to be ASCII")
}

/// Longest part of the input an error text repeats, in bytes.
const EXCERPT_MAX: usize = 200;

/// The bytes as Go quotes them, shortened.
fn excerpt(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(EXCERPT_MAX)];
    let dots = if shown.len() < bytes.len() { "..." } else { "" };
    crate::model::labels::quote(&String::from_utf8_lossy(shown)) + dots
}

#[cfg(test)]
mod tests;
