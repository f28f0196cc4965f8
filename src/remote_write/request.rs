//! `WriteRequest` and what it contains, read in place.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::histogram::{CounterResetHint, Span};
use crate::model::labels::LABEL_LEN_MAX;
use crate::model::metadata::{Metadata, MetricType};
use crate::model::{FloatHistogram, Labels, METRIC_NAME, TimestampMs};

use super::WriteError;
use super::wire::{Fields, Payload, WireError, each_double, each_varint, zigzag};

/// One `TimeSeries` message.
pub(super) struct Series<'a> {
    message: &'a [u8],
    exemplars: usize,
    histograms: usize,
}

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

/// Calls `f` for each series of a request.
pub(super) fn each_series<'a>(
    request: &'a [u8],
    mut f: impl FnMut(&Series<'a>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    each_message(request, 1, |message| {
        let (mut exemplars, mut histograms) = (0, 0);
        each_field::<WriteError>(message, |fields, field, payload| {
            match field {
                3 if payload.bytes().is_none() => {
                    return Err(fields.wrong_kind(field, payload).into());
                }
                3 => exemplars += 1,
                4 => histograms += 1,
                _ => {}
            }
            Ok(())
        })?;
        f(&Series { message, exemplars, histograms })
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
    /// The labels, or `None` when they are not acceptable: no metric name, a name that is
    /// empty or repeated, a text that is not UTF-8 or too long.
    pub(super) fn labels(&self) -> Result<Option<Labels>, WriteError> {
        let mut pairs: SmallVec<[(&str, &str); 24]> = SmallVec::new();
        let mut valid = true;
        each_message(self.message, 1, |label| {
            let (name, value) = decode_label(label)?;
            match (std::str::from_utf8(name), std::str::from_utf8(value)) {
                (Ok(name), Ok(value)) => {
                    valid &= !name.is_empty() && name.len().max(value.len()) <= LABEL_LEN_MAX;
                    valid &= name != METRIC_NAME || !value.is_empty();
                    pairs.push((name, value));
                }
                _ => valid = false,
            }
            Ok(())
        })?;
        // Senders sort; Prometheus accepts those that do not.
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            pairs.sort_unstable();
            valid &= pairs.windows(2).all(|p| p[0].0 != p[1].0);
        }
        if !valid || !pairs.iter().any(|(name, _)| *name == METRIC_NAME) {
            return Ok(None);
        }
        pairs.retain(|(_, value)| !value.is_empty());
        Ok(Some(Labels::from_sorted_pairs(pairs.iter().copied())))
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
        each_message(self.message, 4, |histogram| {
            let (ts, value) = decode_histogram(histogram)?;
            f(ts, Arc::new(value))
        })
    }

    /// Number of exemplars.
    pub(super) fn exemplars(&self) -> usize {
        self.exemplars
    }
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

fn decode_histogram(message: &[u8]) -> Result<(TimestampMs, FloatHistogram), WriteError> {
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
