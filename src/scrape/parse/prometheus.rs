//! The Prometheus text format, 0.0.4 and 1.0.0: blanks are spaces and tabs, comments and
//! empty lines may stand anywhere.

use super::{Entry, Format, ParseError, Parser, Series, is_blank, labels, number};
use crate::model::metadata::MetricType;

impl<'a> Parser<'a> {
    /// The next entry; `None` at the end.
    pub(super) fn next_prometheus(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            self.take_while(is_blank);
            return match self.peek() {
                None => Ok(None),
                Some(b'\n') => {
                    self.at += 1;
                    self.line += 1;
                    continue;
                }
                Some(b'#') => self.comment().map(Some),
                Some(b'{' | b'_' | b':' | b'a'..=b'z' | b'A'..=b'Z') => self.sample().map(Some),
                Some(_) => Err(self.error("expected a valid start token", self.at)),
            };
        }
    }

    fn comment(&mut self) -> Result<Entry<'a>, ParseError> {
        let start = self.at;
        self.at += 1;
        let spaced = !self.take_while(is_blank).is_empty();
        for (keyword, name) in [(b"HELP", "HELP"), (b"TYPE", "TYPE")] {
            let is_keyword = self.rest().starts_with(keyword);
            if spaced && is_keyword && self.rest().get(4).copied().is_some_and(is_blank) {
                self.at += 4;
                return self.metadata(name, start);
            }
        }
        self.take_while(|b| b != b'\n');
        self.line_break();
        Ok(Entry::Comment)
    }

    fn metadata(&mut self, keyword: &str, start: usize) -> Result<Entry<'a>, ParseError> {
        self.take_while(is_blank);
        let family = self.take_family(keyword, start)?;
        let rest = self.take_while(|b| b != b'\n');
        // One byte separates name and text, whatever it is.
        let text = rest.get(1..).unwrap_or_default();
        let entry = if keyword == "TYPE" {
            let kind = match text {
                b"counter" => MetricType::Counter,
                b"gauge" => MetricType::Gauge,
                b"histogram" => MetricType::Histogram,
                b"summary" => MetricType::Summary,
                b"untyped" => MetricType::Unknown,
                other => {
                    let other = super::excerpt(other);
                    return Err(self.failure(format!("invalid metric type {other}")));
                }
            };
            self.kind = kind;
            Entry::Type { family, kind }
        } else {
            let text = std::str::from_utf8(text).map_err(|_| {
                let shown = super::excerpt(text);
                self.failure(format!("help text {shown} is not a valid utf8 string"))
            })?;
            Entry::Help { family, text: labels::unescape_help(text) }
        };
        self.line_break();
        Ok(entry)
    }

    fn sample(&mut self) -> Result<Entry<'a>, ParseError> {
        let (start, line) = (self.at, self.line);
        let Some(raw) = self.take_series(true) else {
            return Err(self.error("expected label name or brace close", start));
        };
        self.take_while(is_blank);
        let text = self.take_while(|b| !is_blank(b) && b != b'\n' && b != b'{');
        if text.is_empty() {
            return Err(self.error("expected value after metric", start));
        }
        let value = number::parse(text).map_err(|why| {
            let entry = super::excerpt(&self.input[start..self.at]);
            self.failure(format!("{why} while parsing: {entry}"))
        })?;
        self.take_while(is_blank);
        let digits = self.take_while(|b| b.is_ascii_digit());
        let ts = match digits {
            [] => None,
            digits => {
                let digits = super::ascii(digits);
                let parsed = digits.parse::<i64>().map_err(|_| {
                    self.failure(format!(
                        "strconv.ParseInt: parsing \"{digits}\": value out of range"
                    ))
                });
                Some(parsed?)
            }
        };
        self.take_while(is_blank);
        if self.peek().is_some_and(|b| b != b'\n') {
            let expected = match ts {
                None => "expected timestamp or new record",
                Some(_) => "expected next entry after timestamp",
            };
            return Err(self.error(expected, start));
        }
        self.line_break();
        let format = Format::Prometheus;
        let kind = self.kind;
        Ok(Entry::Series(Series { raw, value, ts, exemplar: None, kind, format, line }))
    }

    /// Consumes the line break, which may be missing at the end.
    fn line_break(&mut self) {
        if self.eat(b"\n") {
            self.line += 1;
        }
    }
}
