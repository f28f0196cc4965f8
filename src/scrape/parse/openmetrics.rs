//! OpenMetrics text: one space where a space may stand, no empty lines, no comments but
//! metadata, and `# EOF` at the end.

use super::{Entry, Exemplar, Format, ParseError, Parser, Series, labels, number};
use crate::model::TimestampMs;
use crate::model::metadata::MetricType;

const NO_EOF: &str = "data does not end with # EOF";

impl<'a> Parser<'a> {
    /// The next entry; `None` after `# EOF`.
    pub(super) fn next_openmetrics(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        let start = self.at;
        if self.eat(b"# EOF") {
            self.eat(b"\n");
            if self.at < self.input.len() {
                return Err(self.failure("unexpected data after # EOF".into()));
            }
            return Ok(None);
        }
        for keyword in ["HELP", "TYPE", "UNIT"] {
            let found = self.rest().strip_prefix(b"# ");
            let found = found.and_then(|r| r.strip_prefix(keyword.as_bytes()));
            if found.is_some_and(|r| r.starts_with(b" ")) {
                self.at += keyword.len() + 3;
                return self.om_metadata(keyword, start).map(Some);
            }
        }
        match self.peek() {
            None => Err(self.failure(NO_EOF.into())),
            Some(b'{' | b'_' | b':' | b'a'..=b'z' | b'A'..=b'Z') => self.om_sample().map(Some),
            Some(_) => Err(self.error("expected a valid start token", start)),
        }
    }

    fn om_metadata(&mut self, keyword: &str, start: usize) -> Result<Entry<'a>, ParseError> {
        let family = self.take_family(keyword, start)?;
        let text = match self.eat(b" ") {
            true => self.take_while(|b| b != b'\n'),
            false => return Err(self.failure(format!("expected text in {keyword}"))),
        };
        if self.peek().is_none() {
            return Err(self.failure(format!("expected text in {keyword}")));
        }
        let entry = match keyword {
            "TYPE" => {
                let Some(kind) = metric_type(text) else {
                    let other = super::excerpt(text);
                    return Err(self.failure(format!("invalid metric type {other}")));
                };
                self.kind = kind;
                Entry::Type { family, kind }
            }
            "HELP" => {
                let text = std::str::from_utf8(text).map_err(|_| {
                    let shown = super::excerpt(text);
                    self.failure(format!("help text {shown} is not a valid utf8 string"))
                })?;
                Entry::Help { family, text: labels::unescape(text) }
            }
            _ => {
                let unit = labels::utf8(text).map_err(|text| self.failure(text))?;
                let is_suffix = family.strip_suffix(unit).is_some_and(|m| m.ends_with('_'));
                if !unit.is_empty() && !is_suffix {
                    return Err(self.failure(format!(
                        "unit {unit:?} not a suffix of metric {:?}",
                        family.as_ref()
                    )));
                }
                Entry::Unit { family, unit: unit.into() }
            }
        };
        self.at += 1;
        self.line += 1;
        Ok(entry)
    }

    fn om_sample(&mut self) -> Result<Entry<'a>, ParseError> {
        let (start, line) = (self.at, self.line);
        let Some(raw) = self.take_series(false) else {
            return Err(self.error("expected label name or brace close", start));
        };
        let value = self.om_value("metric", start)?;
        let mut ts = None;
        if self.peek() == Some(b' ') && !self.rest().starts_with(b" #") {
            ts = Some(self.om_timestamp("timestamp", start)?);
        }
        let exemplar = match self.eat(b" # ") {
            true => Some(self.om_exemplar(start)?),
            false => None,
        };
        match self.peek() {
            Some(b'\n') => self.at += 1,
            None => return Err(self.failure(NO_EOF.into())),
            Some(_) => {
                let expected = match (ts, &exemplar) {
                    (_, Some(_)) => "expected next entry after exemplar timestamp",
                    (Some(_), None) => "expected next entry after timestamp",
                    (None, None) => "expected timestamp or comment",
                };
                return Err(self.error(expected, start));
            }
        }
        self.line += 1;
        let (kind, format) = (self.kind, Format::OpenMetrics);
        Ok(Entry::Series(Series { raw, value, ts, exemplar, kind, format, line }))
    }

    fn om_value(&mut self, after: &str, start: usize) -> Result<f64, ParseError> {
        let text = match self.eat(b" ") {
            true => self.take_while(|b| b != b' ' && b != b'\n'),
            false => &[],
        };
        if text.is_empty() {
            return Err(self.error(&format!("expected value after {after}"), start));
        }
        number::parse(text).map_err(|why| {
            let entry = super::excerpt(&self.input[start..self.at]);
            self.failure(format!("{why} while parsing: {entry}"))
        })
    }

    /// Seconds, as a float, to milliseconds.
    fn om_timestamp(&mut self, what: &str, start: usize) -> Result<TimestampMs, ParseError> {
        self.at += 1;
        let text = self.take_while(|b| b != b' ' && b != b'\n');
        if text.is_empty() {
            return Err(self.error("expected timestamp or comment", start));
        }
        let seconds = number::parse(text).map_err(|why| {
            let entry = super::excerpt(&self.input[start..self.at]);
            self.failure(format!("{why} while parsing: {entry}"))
        })?;
        if !seconds.is_finite() {
            return Err(self.failure(format!("invalid {what} {seconds}")));
        }
        Ok((seconds * 1000.0) as TimestampMs)
    }

    fn om_exemplar(&mut self, start: usize) -> Result<Exemplar<'a>, ParseError> {
        let line = self.line;
        let raw = match self.peek() {
            Some(b'{') => self.take_series(false),
            _ => None,
        };
        let Some(raw) = raw else { return Err(self.error("expected label name", start)) };
        let value = self.om_value("exemplar labels", start)?;
        let ts = match self.peek() {
            Some(b' ') => Some(self.om_timestamp("exemplar timestamp", start)?),
            _ => None,
        };
        let exemplar = Exemplar { raw, value, ts, line };
        // An exemplar's labels are few and rarely read: judge them here, so that a body
        // is refused whether or not anyone asks for them.
        exemplar.labels(&mut super::LabelPairs::default())?;
        Ok(exemplar)
    }
}

fn metric_type(text: &[u8]) -> Option<MetricType> {
    Some(match text {
        b"counter" => MetricType::Counter,
        b"gauge" => MetricType::Gauge,
        b"histogram" => MetricType::Histogram,
        b"gaugehistogram" => MetricType::GaugeHistogram,
        b"summary" => MetricType::Summary,
        b"info" => MetricType::Info,
        b"stateset" => MetricType::StateSet,
        b"unknown" => MetricType::Unknown,
        _ => return None,
    })
}
