//! Native histograms inside WAL records.
//!
//! ```text
//! float    reset hint 1B, schema varint, zero threshold, zero count, count, sum (8B BE each),
//!          spans, spans, { n uvarint, n x 8B BE } positive, the same negative, [bounds]
//! integer  reset hint 1B, schema varint, zero threshold 8B, zero count uvarint, count uvarint,
//!          sum 8B, spans, spans, { n uvarint, n x varint } positive, the same negative, [bounds]
//! spans    n uvarint, n x { offset varint, length uvarint }
//! bounds   n uvarint, n x 8B BE; only with schema -53
//! ```
//! Integer buckets are deltas to the previous bucket; here they become absolute floats.

use std::sync::Arc;

use crate::model::FloatHistogram;
use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Span};
use crate::storage::tsdb::encoding::{Cursor, DecodeError, Put};

/// True for schema -53.
pub(crate) fn has_custom_bounds(h: &FloatHistogram) -> bool {
    h.schema == CUSTOM_BUCKETS_SCHEMA
}

/// Appends a histogram as integers, which its counts are, or as floats.
pub(crate) fn encode_last_histogram(h: &FloatHistogram, integer: bool, out: &mut Vec<u8>) {
    if !integer {
        return encode_float(h, out);
    }
    put_hint(h, out);
    out.put_varint(i64::from(h.schema));
    out.put_f64(h.zero_threshold);
    out.put_uvarint(h.zero_count as u64);
    out.put_uvarint(h.count as u64);
    out.put_f64(h.sum);
    put_spans(h, out);
    for buckets in [&h.positive_buckets, &h.negative_buckets] {
        out.put_uvarint(buckets.len() as u64);
        let mut before = 0;
        for count in buckets {
            out.put_varint(*count as i64 - before);
            before = *count as i64;
        }
    }
    if has_custom_bounds(h) {
        put_floats(&h.custom_values, out);
    }
}

fn put_hint(h: &FloatHistogram, out: &mut Vec<u8>) {
    out.push(match h.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    });
}

/// Appends a float histogram.
pub(crate) fn encode_float(h: &FloatHistogram, out: &mut Vec<u8>) {
    put_hint(h, out);
    out.put_varint(i64::from(h.schema));
    for v in [h.zero_threshold, h.zero_count, h.count, h.sum] {
        out.put_f64(v);
    }
    put_spans(h, out);
    put_floats(&h.positive_buckets, out);
    put_floats(&h.negative_buckets, out);
    if has_custom_bounds(h) {
        put_floats(&h.custom_values, out);
    }
}

fn put_spans(h: &FloatHistogram, out: &mut Vec<u8>) {
    for spans in [&h.positive_spans, &h.negative_spans] {
        out.put_uvarint(spans.len() as u64);
        for span in spans {
            out.put_varint(i64::from(span.offset));
            out.put_uvarint(u64::from(span.length));
        }
    }
}

fn put_floats(values: &[f64], out: &mut Vec<u8>) {
    out.put_uvarint(values.len() as u64);
    for v in values {
        out.put_f64(*v);
    }
}

/// Reads a float histogram.
pub(crate) fn decode_float(c: &mut Cursor<'_>) -> Result<Arc<FloatHistogram>, DecodeError> {
    let mut h = decode_head(c)?;
    h.zero_count = c.f64()?;
    h.count = c.f64()?;
    h.sum = c.f64()?;
    decode_tail(c, h, floats)
}

/// Reads an integer histogram.
pub(crate) fn decode_integer(c: &mut Cursor<'_>) -> Result<Arc<FloatHistogram>, DecodeError> {
    let mut h = decode_head(c)?;
    h.zero_count = c.uvarint()? as f64;
    h.count = c.uvarint()? as f64;
    h.sum = c.f64()?;
    decode_tail(c, h, |c| {
        let n = c.count(1)?;
        let mut count = 0i64;
        (0..n)
            .map(|_| {
                count = count.wrapping_add(c.varint()?);
                Ok(count as f64)
            })
            .collect()
    })
}

fn decode_head(c: &mut Cursor<'_>) -> Result<FloatHistogram, DecodeError> {
    let counter_reset_hint = match c.byte()? {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    let schema = c.varint()? as i32;
    let zero_threshold = c.f64()?;
    Ok(FloatHistogram { counter_reset_hint, schema, zero_threshold, ..FloatHistogram::default() })
}

fn decode_tail(
    c: &mut Cursor<'_>,
    mut h: FloatHistogram,
    mut buckets: impl FnMut(&mut Cursor<'_>) -> Result<Vec<f64>, DecodeError>,
) -> Result<Arc<FloatHistogram>, DecodeError> {
    h.positive_spans = spans(c)?;
    h.negative_spans = spans(c)?;
    h.positive_buckets = buckets(c)?;
    h.negative_buckets = buckets(c)?;
    if has_custom_bounds(&h) {
        h.custom_values = floats(c)?;
    }
    // Readers walk buckets by spans: the two must agree before anyone does.
    let covered = |spans: &[Span]| spans.iter().map(|s| u64::from(s.length)).sum::<u64>();
    if covered(&h.positive_spans) != h.positive_buckets.len() as u64
        || covered(&h.negative_spans) != h.negative_buckets.len() as u64
    {
        return Err(DecodeError::Buckets);
    }
    Ok(Arc::new(h))
}

fn spans(c: &mut Cursor<'_>) -> Result<Vec<Span>, DecodeError> {
    let n = c.count(2)?;
    (0..n).map(|_| Ok(Span { offset: c.varint()? as i32, length: c.uvarint()? as u32 })).collect()
}

fn floats(c: &mut Cursor<'_>) -> Result<Vec<f64>, DecodeError> {
    let n = c.count(8)?;
    (0..n).map(|_| c.f64()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::{Record, RefHistogram, encode_histograms};
    use super::*;

    fn histogram(schema: i32) -> FloatHistogram {
        FloatHistogram {
            counter_reset_hint: CounterResetHint::NotReset,
            schema,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 9.5,
            sum: -3.25,
            positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 4, length: 1 }],
            positive_buckets: vec![1.0, 2.5, 3.0],
            negative_spans: vec![Span { offset: 0, length: 1 }],
            negative_buckets: vec![1.0],
            custom_values: if schema == CUSTOM_BUCKETS_SCHEMA { vec![0.1, 5.0] } else { vec![] },
        }
    }

    #[test]
    fn float_histograms_round_trip_with_and_without_custom_bounds() {
        for (schema, kind) in [(3, 8), (CUSTOM_BUCKETS_SCHEMA, 10)] {
            let all: Vec<_> = (0..3)
                .map(|i| RefHistogram {
                    series: 9 - i,
                    ts: i as i64 - 1,
                    value: histogram(schema).into(),
                })
                .collect();
            let mut bytes = Vec::new();
            encode_histograms(&all, &mut bytes);
            assert_eq!(bytes[0], kind);
            assert_eq!(Record::decode(&bytes), Ok(Record::Histograms(all)));
        }
    }

    #[test]
    fn integer_buckets_become_absolute_counts() {
        let mut bytes = vec![7];
        bytes.put_be64(1);
        bytes.put_be64(10);
        bytes.extend([0, 0, 3, 2]); // deltas, gauge hint, schema 1
        bytes.put_f64(0.5);
        bytes.extend([1, 6]); // zero count, count
        bytes.put_f64(12.0);
        bytes.extend([1, 0, 3, 0]); // one positive span (0, 3), no negative one
        bytes.push(3);
        for d in [1, 1, -2] {
            bytes.put_varint(d);
        }
        bytes.push(0);
        let Ok(Record::Histograms(all)) = Record::decode(&bytes) else { panic!("not a histogram") };
        assert_eq!(all[0].value.positive_buckets, [1.0, 2.0, 0.0]);
        assert_eq!((all[0].value.schema, all[0].value.count), (1, 6.0));
        assert_eq!(all[0].value.counter_reset_hint, CounterResetHint::Gauge);
    }
}
