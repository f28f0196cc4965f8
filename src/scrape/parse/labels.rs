//! The inside of a series' braces: decoding labels, and names in quotes.

use std::borrow::Cow;

use super::{Format, ascii, excerpt, is_blank, is_name_byte, number};
use crate::model::labels::quote;
use crate::model::metadata::MetricType;
use crate::model::{Labels, METRIC_NAME};

/// Decoded labels, sorted by name. Keeps its memory from series to series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelPairs<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> LabelPairs<'a> {
    /// Names and values in name order; empty values are there too.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pairs.iter().map(|(n, v)| (&**n, &**v))
    }

    /// The first name that stands twice.
    pub fn duplicate(&self) -> Option<&str> {
        self.pairs.windows(2).find(|w| w[0].0 == w[1].0).map(|w| &*w[0].0)
    }

    /// The immutable set; labels with an empty value do not exist.
    pub fn build(&self) -> Labels {
        Labels::from_sorted_pairs(self.iter().filter(|(_, v)| !v.is_empty()))
    }

    pub(super) fn read(
        &mut self,
        raw: &'a [u8],
        format: Format,
        kind: MetricType,
        named: bool,
    ) -> Result<(), String> {
        self.pairs.clear();
        let name_len = raw.iter().position(|b| !is_name_byte(*b)).unwrap_or(raw.len());
        let (mut name, braces) = raw.split_at(name_len);
        let mut quoted_name = None;
        if let Some(inside) = inside(braces) {
            let reader = Reader { raw, rest: inside, format };
            quoted_name = reader.pairs(&mut self.pairs, named && name.is_empty())?;
        }
        if !named {
            name = b"";
        } else if name.is_empty() && quoted_name.is_none() {
            return Err(format!("metric name not set while parsing: {}", excerpt(raw)));
        }
        for (label, value) in &mut self.pairs {
            canonical_bound(kind, label, value);
        }
        if let Some(name) = quoted_name {
            self.pairs.push((METRIC_NAME.into(), name));
        } else if !name.is_empty() {
            self.pairs.push((METRIC_NAME.into(), Cow::Borrowed(ascii(name))));
        }
        self.pairs.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(())
    }
}

/// What stands between the braces, which are the last thing of a series' text.
fn inside(text: &[u8]) -> Option<&[u8]> {
    let open = text.iter().position(|b| *b == b'{')?;
    text[open + 1..].strip_suffix(b"}")
}

/// Writes the bounds of histograms and the quantiles of summaries in one way, so that
/// `1` and `1.0` are the same bucket.
fn canonical_bound(kind: MetricType, label: &str, value: &mut Cow<'_, str>) {
    let is_bound = match kind {
        MetricType::Histogram | MetricType::GaugeHistogram => label == "le",
        MetricType::Summary => label == "quantile",
        _ => false,
    };
    if is_bound && let Ok(number) = number::parse(value.as_bytes()) {
        let text = number::format_label_float(number);
        if text != *value {
            *value = text.into();
        }
    }
}

struct Reader<'a> {
    raw: &'a [u8],
    rest: &'a [u8],
    format: Format,
}

impl<'a> Reader<'a> {
    /// Reads to the end; returns the metric name when it stands in quotes among the
    /// labels, which `name_wanted` allows once.
    fn pairs(
        mut self,
        out: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
        name_wanted: bool,
    ) -> Result<Option<Cow<'a, str>>, String> {
        let mut metric_name = None;
        loop {
            self.skip_blanks();
            let Some(first) = self.rest.first() else { return Ok(metric_name) };
            let is_quoted = *first == b'"';
            let name = if is_quoted { self.string(true)? } else { self.label_name()? };
            self.skip_blanks();
            match self.rest.first() {
                Some(b'=') => {
                    self.rest = &self.rest[1..];
                    self.skip_blanks();
                    let value = self.string(self.format == Format::Prometheus)?;
                    out.push((name, value));
                    self.skip_blanks();
                    if self.rest.first().is_none_or(|b| *b == b',') {
                        self.rest = self.rest.get(1..).unwrap_or_default();
                    } else if self.format == Format::OpenMetrics {
                        return Err(self.error("expected comma or brace close"));
                    }
                }
                Some(b',') | None if is_quoted && name_wanted => {
                    if metric_name.replace(name).is_some() {
                        return Err(self.already_set());
                    }
                    self.rest = self.rest.get(1..).unwrap_or_default();
                }
                Some(b',') | None if is_quoted && !self.raw.starts_with(b"{") => {
                    return Err(self.already_set());
                }
                _ => return Err(self.error("expected equal")),
            }
        }
    }

    fn already_set(&self) -> String {
        format!("metric name already set while parsing: {}", excerpt(self.raw))
    }

    fn skip_blanks(&mut self) {
        if self.format == Format::Prometheus {
            let blanks = self.rest.iter().take_while(|b| is_blank(**b)).count();
            self.rest = &self.rest[blanks..];
        }
    }

    fn label_name(&mut self) -> Result<Cow<'a, str>, String> {
        let len = self
            .rest
            .iter()
            .position(|b| !is_name_byte(*b) || *b == b':')
            .unwrap_or(self.rest.len());
        if len == 0 || self.rest[0].is_ascii_digit() {
            return Err(self.error("expected label name"));
        }
        let (name, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(Cow::Borrowed(ascii(name)))
    }

    /// A text in quotes, unescaped.
    fn string(&mut self, line_breaks: bool) -> Result<Cow<'a, str>, String> {
        let body = self.rest.strip_prefix(b"\"");
        let len = body.and_then(|body| string_len(body, line_breaks));
        let (Some(body), Some(len)) = (body, len) else {
            return Err(self.error("expected label value"));
        };
        self.rest = &body[len + 1..];
        let text = utf8(&body[..len])?;
        Ok(unescape(text))
    }

    fn error(&self, expected: &str) -> String {
        let found = match self.rest.first() {
            Some(byte) => excerpt(&[*byte]),
            None => quote("}"),
        };
        format!("{expected}, got {found} while parsing: {}", excerpt(self.raw))
    }
}

/// Length of a text up to its closing quote; the opening one has been read.
pub(super) fn string_len(body: &[u8], line_breaks: bool) -> Option<usize> {
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => return Some(at),
            b'\n' if !line_breaks => return None,
            b'\\' if body.get(at + 1) == Some(&b'\n') => return None,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("invalid UTF-8 label value: {}", excerpt(bytes)))
}

/// Resolves `\"`, `\\` and `\n`; other escapes stay as they are.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    replace_escapes(text, true)
}

/// Resolves `\\` and `\n`: help texts of the Prometheus format.
pub(super) fn unescape_help(text: &str) -> Cow<'_, str> {
    replace_escapes(text, false)
}

fn replace_escapes(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escaped = match (c, chars.as_str().chars().next()) {
            ('\\', Some('\\')) => '\\',
            ('\\', Some('n')) => '\n',
            ('\\', Some('"')) if quotes => '"',
            _ => {
                out.push(c);
                continue;
            }
        };
        chars.next();
        out.push(escaped);
    }
    Cow::Owned(out)
}
