//! The requests of both versions and what they contain, read in place.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::exemplar::Exemplar;
use crate::model::histogram::{CounterResetHint, Span};
use crate::model::labels::{LABEL_LEN_MAX, quote};
use crate::model::metadata::{Metadata, MetricType};
use crate::model::{FloatHistogram, Labels, METRIC_NAME, TimestampMs};

use super::wire::{Fields, Payload, WireError, each_double, each_varint, zigzag};
use super::{Version, WriteError};

/// Field numbers that differ between the versions; samples and histograms themselves are
/// written alike, but that those of 2.0 may know when they began.
struct Shape {
    series: u64,
    histograms: u64,
    exemplars: u64,
}

impl Shape {
    const fn of(version: Version) -> Self {
        match version {
            Version::V1 => Self { series: 1, exemplars: 3, histograms: 4 },
            Version::V2 => Self { series: 5, exemplars: 4, histograms: 3 },
        }
    }
}

/// One `TimeSeries` message.
pub(super) struct Series<'a> {
    message: &'a [u8],
    version: Version,
    /// Of the request; 1.0 has none.
    symbols: &'a [&'a [u8]],
    samples: usize,
    histograms: usize,
    exemplars: usize,
}

/// Names and values.
type Pairs<'a> = SmallVec<[(&'a str, &'a str); 24]>;

/// Why a series' labels are not acceptable, in Prometheus' words for 2.0.
pub(super) struct InvalidLabels(pub(super) String);

/// Calls `f` for each field of a message.
fn each_field<'a, E: From<WireError>>(
    message: &'a [u8],
    mut f: impl FnMut(&Fields<'a>, u64, Payload<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut fields = Fields::new(message);
    while let Some((field, payload)) = fields.next()? {
        f(&fields, field, payload)?;
    }
    Ok(())
}

/// The texts of a request of version 2.0, in their places. They come first, but no reader
/// may rely on the order of fields.
pub(super) fn symbols(request: &[u8]) -> Result<Vec<&[u8]>, WriteError> {
    let mut symbols = Vec::new();
    each_message(request, 4, |symbol| {
        symbols.push(symbol);
        Ok(())
    })?;
    Ok(symbols)
}

/// Calls `f` for each series of a request.
pub(super) fn each_series<'a>(
    request: &'a [u8],
    version: Version,
    symbols: &'a [&'a [u8]],
    mut f: impl FnMut(&Series<'a>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let shape = Shape::of(version);
    each_message(request, shape.series, |message| {
        let (mut samples, mut histograms, mut exemplars) = (0, 0, 0);
        each_field::<WriteError>(message, |fields, field, payload| {
            if field == shape.exemplars && payload.bytes().is_none() {
                return Err(fields.wrong_kind(field, payload).into());
            }
            samples += usize::from(field == 2);
            histograms += usize::from(field == shape.histograms);
            exemplars += usize::from(field == shape.exemplars);
            Ok(())
        })?;
        f(&Series { message, version, symbols, samples, histograms, exemplars })
    })
}

/// Calls `f` for each metadata entry of a request that names its family.
pub(super) fn each_metadata(
    request: &[u8],
    mut f: impl FnMut(&str, Metadata),
) -> Result<(), WriteError> {
    each_message(request, 3, |message| {
        if let Some((family, metadata)) = decode_metadata(message)? {
            f(family, metadata);
        }
        Ok(())
    })
}

fn each_message<'a>(
    message: &'a [u8],
    wanted: u64,
    mut f: impl FnMut(&'a [u8]) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    each_field(message, |fields, field, payload| {
        if field == wanted {
            f(payload.bytes().ok_or_else(|| fields.wrong_kind(field, payload))?)?;
        }
        Ok(())
    })
}

impl<'a> Series<'a> {
    /// The labels, unless they are not acceptable: no metric name, a name that is empty or
    /// repeated, a text that is not UTF-8 or too long, a place that no symbol has.
    pub(super) fn labels(&self) -> Result<Result<Labels, InvalidLabels>, WriteError> {
        let mut pairs = SmallVec::new();
        if let Err(invalid) = self.pairs_of(self.message, &mut pairs)? {
            return Ok(Err(invalid));
        }
        Ok(accepted(&pairs))
    }

    /// Names and values of a message, which is this one or one in it.
    fn pairs_of(
        &self,
        message: &'a [u8],
        pairs: &mut SmallVec<[(&'a [u8], &'a [u8]); 24]>,
    ) -> Result<Result<(), InvalidLabels>, WriteError> {
        if self.version == Version::V1 {
            each_message(message, 1, |label| {
                pairs.push(decode_label(label)?);
                Ok(())
            })?;
            return Ok(Ok(()));
        }
        let mut places: SmallVec<[u64; 48]> = SmallVec::new();
        each_field::<WriteError>(message, |fields, field, payload| {
            if field == 1 && !each_varint(payload, |place| places.push(place))? {
                return Err(fields.wrong_kind(field, payload).into());
            }
            Ok(())
        })?;
        let (both, rest) = places.as_chunks::<2>();
        if !rest.is_empty() {
            let text = format!("invalid labelRefs length {}", places.len());
            return Ok(Err(InvalidLabels(format!("parsing labels for series {places:?}: {text}"))));
        }
        let symbol = |place: u64| usize::try_from(place).ok().and_then(|p| self.symbols.get(p));
        for [name, value] in both {
            let Some(pair) = symbol(*name).zip(symbol(*value)) else {
                return Ok(Err(InvalidLabels(format!(
                    "parsing labels for series {places:?}: labelRefs {name} (name) = {value} \
                     (value) outside of symbols table (size {})",
                    self.symbols.len()
                ))));
            };
            pairs.push((pair.0, pair.1));
        }
        Ok(Ok(()))
    }

    /// What the series says of its metric; 2.0 only.
    pub(super) fn metadata(&self) -> Result<Option<Metadata>, WriteError> {
        let mut found = None;
        if self.version == Version::V1 {
            return Ok(None);
        }
        let symbol = |place: u64| {
            let symbol = usize::try_from(place).ok().and_then(|p| self.symbols.get(p));
            symbol.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
        };
        each_message(self.message, 5, |message| {
            let (mut kind, mut help, mut unit) = (0, 0, 0);
            each_field::<WriteError>(message, |fields, field, payload| {
                let wrong = || fields.wrong_kind(field, payload);
                match field {
                    1 => kind = payload.varint().ok_or_else(wrong)?,
                    3 => help = payload.varint().ok_or_else(wrong)?,
                    4 => unit = payload.varint().ok_or_else(wrong)?,
                    _ => {}
                }
                Ok(())
            })?;
            if kind != 0 || help != 0 || unit != 0 {
                let kind = MetricType::from_code(kind);
                found =
                    Some(Metadata { kind, help: symbol(help).into(), unit: symbol(unit).into() });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `f` for each float sample.
    pub(super) fn each_sample(
        &self,
        mut f: impl FnMut(TimestampMs, f64) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        each_message(self.message, 2, |sample| {
            let (mut ts, mut value) = (0, 0.0);
            each_field::<WriteError>(sample, |fields, field, payload| {
                let wrong = || fields.wrong_kind(field, payload);
                match field {
                    1 => value = payload.double().ok_or_else(wrong)?,
                    2 => ts = payload.varint().ok_or_else(wrong)? as i64,
                    _ => {}
                }
                Ok(())
            })?;
            f(ts, value)
        })
    }

    /// Calls `f` for each native histogram.
    pub(super) fn each_histogram(
        &self,
        mut f: impl FnMut(TimestampMs, Arc<FloatHistogram>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        if self.histograms == 0 {
            return Ok(());
        }
        each_message(self.message, Shape::of(self.version).histograms, |histogram| {
            let (ts, value) = decode_histogram(histogram)?;
            f(ts, Arc::new(value))
        })
    }

    /// Calls `f` for each exemplar.
    pub(super) fn each_exemplar(
        &self,
        mut f: impl FnMut(Result<Exemplar, InvalidLabels>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        if self.exemplars == 0 {
            return Ok(());
        }
        each_message(self.message, Shape::of(self.version).exemplars, |exemplar| {
            let (mut ts, mut value) = (0, 0.0);
            each_field::<WriteError>(exemplar, |fields, field, payload| {
                let wrong = || fields.wrong_kind(field, payload);
                match field {
                    2 => value = payload.double().ok_or_else(wrong)?,
                    3 => ts = payload.varint().ok_or_else(wrong)? as i64,
                    _ => {}
                }
                Ok(())
            })?;
            let mut pairs = SmallVec::new();
            if let Err(invalid) = self.pairs_of(exemplar, &mut pairs)? {
                return f(Err(invalid));
            }
            f(sorted(&pairs).map(|pairs| {
                let set = pairs.into_iter().filter(|(_, value)| !value.is_empty());
                Exemplar { labels: Labels::from_sorted_pairs(set), value, ts, has_ts: ts != 0 }
            }))
        })
    }

    /// Number of samples and histograms.
    pub(super) fn values(&self) -> usize {
        self.samples + self.histograms
    }
}

/// Names and values as they were sent, sorted by name; what is not UTF-8 is left out.
fn sorted<'a>(sent: &[(&'a [u8], &'a [u8])]) -> Result<Pairs<'a>, InvalidLabels> {
    let mut pairs = Pairs::new();
    let text = |bytes| std::str::from_utf8(bytes).ok();
    pairs.extend(sent.iter().filter_map(|(name, value)| text(name).zip(text(value))));
    // Senders sort; Prometheus accepts those that do not.
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        pairs.sort_unstable();
        if let Some(twice) = pairs.windows(2).find(|p| p[0].0 == p[1].0) {
            return Err(InvalidLabels(format!(
                "invalid labels for series, labels {}, duplicated label {}",
                said(&pairs),
                twice[0].0
            )));
        }
    }
    Ok(pairs)
}

/// Labels of names and values as they were sent.
fn accepted(sent: &[(&[u8], &[u8])]) -> Result<Labels, InvalidLabels> {
    let mut pairs = sorted(sent)?;
    let valid = pairs.len() == sent.len()
        && pairs
            .iter()
            .all(|(name, value)| !name.is_empty() && name.len().max(value.len()) <= LABEL_LEN_MAX)
        && pairs.iter().any(|(name, value)| *name == METRIC_NAME && !value.is_empty());
    if !valid {
        let text = format!("invalid metric name or labels, got {}", said(&pairs));
        return Err(InvalidLabels(text));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    Ok(Labels::from_sorted_pairs(pairs.iter().copied()))
}

/// Label pairs for a message, which does not grow with what was sent.
fn said(pairs: &[(&str, &str)]) -> String {
    const SAID_MAX: usize = 1000;
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", quote(value))).collect();
    let mut text = format!("{{{}}}", pairs.join(", "));
    if text.len() > SAID_MAX {
        text.truncate(text.floor_char_boundary(SAID_MAX));
        text.push_str("...");
    }
    text
}

fn decode_label(message: &[u8]) -> Result<(&[u8], &[u8]), WriteError> {
    let (mut name, mut value) = (&[][..], &[][..]);
    each_field::<WriteError>(message, |fields, field, payload| {
        let wrong = || fields.wrong_kind(field, payload);
        match field {
            1 => name = payload.bytes().ok_or_else(wrong)?,
            2 => value = payload.bytes().ok_or_else(wrong)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, value))
}

fn decode_metadata(message: &[u8]) -> Result<Option<(&str, Metadata)>, WriteError> {
    let (mut kind, mut family, mut help, mut unit) = (0, &[][..], &[][..], &[][..]);
    each_field::<WriteError>(message, |fields, field, payload| {
        let wrong = || fields.wrong_kind(field, payload);
        match field {
            1 => kind = payload.varint().ok_or_else(wrong)?,
            2 => family = payload.bytes().ok_or_else(wrong)?,
            4 => help = payload.bytes().ok_or_else(wrong)?,
            5 => unit = payload.bytes().ok_or_else(wrong)?,
            _ => {}
        }
        Ok(())
    })?;
    let kind = MetricType::from_code(kind);
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Ok(text(family).filter(|f| !f.is_empty()).zip(text(help).zip(text(unit))).map(
        |(family, (help, unit))| (family, Metadata { kind, unit: unit.into(), help: help.into() }),
    ))
}

pub(super) fn decode_histogram(
    message: &[u8],
) -> Result<(TimestampMs, FloatHistogram), WriteError> {
    let mut h = FloatHistogram::default();
    let mut ts = 0;
    // Integer histograms carry deltas, float ones counts; a message has one kind.
    let (mut positive_sum, mut negative_sum) = (0i64, 0i64);
    each_field::<WriteError>(message, |fields, field, payload| {
        let wrong = || fields.wrong_kind(field, payload);
        let mut known = true;
        match field {
            1 => h.count = payload.varint().ok_or_else(wrong)? as f64,
            2 => h.count = payload.double().ok_or_else(wrong)?,
            3 => h.sum = payload.double().ok_or_else(wrong)?,
            4 => h.schema = zigzag(payload.varint().ok_or_else(wrong)?) as i32,
            5 => h.zero_threshold = payload.double().ok_or_else(wrong)?,
            6 => h.zero_count = payload.varint().ok_or_else(wrong)? as f64,
            7 => h.zero_count = payload.double().ok_or_else(wrong)?,
            8 => h.negative_spans.push(decode_span(payload.bytes().ok_or_else(wrong)?)?),
            9 => known = add_deltas(payload, &mut negative_sum, &mut h.negative_buckets)?,
            10 => known = each_double(payload, |v| h.negative_buckets.push(v))?,
            11 => h.positive_spans.push(decode_span(payload.bytes().ok_or_else(wrong)?)?),
            12 => known = add_deltas(payload, &mut positive_sum, &mut h.positive_buckets)?,
            13 => known = each_double(payload, |v| h.positive_buckets.push(v))?,
            14 => h.counter_reset_hint = reset_hint(payload.varint().ok_or_else(wrong)?),
            15 => ts = payload.varint().ok_or_else(wrong)? as i64,
            16 => known = each_double(payload, |v| h.custom_values.push(v))?,
            _ => {}
        }
        if known { Ok(()) } else { Err(wrong().into()) }
    })?;
    Ok((ts, h))
}

fn add_deltas(
    payload: Payload<'_>,
    sum: &mut i64,
    buckets: &mut Vec<f64>,
) -> Result<bool, WireError> {
    each_varint(payload, |delta| {
        *sum = sum.wrapping_add(zigzag(delta));
        buckets.push(*sum as f64);
    })
}

fn decode_span(message: &[u8]) -> Result<Span, WriteError> {
    let mut span = Span::default();
    each_field::<WriteError>(message, |fields, field, payload| {
        let wrong = || fields.wrong_kind(field, payload);
        match field {
            1 => span.offset = zigzag(payload.varint().ok_or_else(wrong)?) as i32,
            2 => span.length = payload.varint().ok_or_else(wrong)? as u32,
            _ => {}
        }
        Ok(())
    })?;
    Ok(span)
}

fn reset_hint(code: u64) -> CounterResetHint {
    match code {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}
