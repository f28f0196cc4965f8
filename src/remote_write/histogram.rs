//! Native histograms as messages of remote write, which both versions write alike.

use super::WriteError;
use super::proto;
use super::request::decode_histogram;
use crate::model::histogram::{CounterResetHint, Span};
use crate::model::{FloatHistogram, TimestampMs};

/// Counts up to this are told apart as floats.
const EXACT_MAX: f64 = (1_u64 << 53) as f64;

/// The message of a histogram: of integers when all its counts are whole, as most are where
/// they are counted.
pub fn to_proto(ts: TimestampMs, h: &FloatHistogram) -> proto::Histogram {
    let whole = |v: &f64| (0.0..EXACT_MAX).contains(v) && v.trunc() == *v && v.is_sign_positive();
    let buckets = h.positive_buckets.iter().chain(&h.negative_buckets);
    let is_whole = [h.count, h.zero_count].iter().chain(buckets).all(whole);
    let mut message = proto::Histogram {
        sum: h.sum,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        negative_spans: spans(&h.negative_spans),
        positive_spans: spans(&h.positive_spans),
        reset_hint: match h.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        },
        timestamp: ts,
        custom_values: h.custom_values.clone(),
        ..proto::Histogram::default()
    };
    if is_whole {
        message.count_int = Some(h.count as u64);
        message.zero_count_int = Some(h.zero_count as u64);
        message.negative_deltas = deltas(&h.negative_buckets);
        message.positive_deltas = deltas(&h.positive_buckets);
    } else {
        message.count_float = Some(h.count);
        message.zero_count_float = Some(h.zero_count);
        message.negative_counts.clone_from(&h.negative_buckets);
        message.positive_counts.clone_from(&h.positive_buckets);
    }
    message
}

/// Reads the bytes of such a message.
pub fn decode(message: &[u8]) -> Result<(TimestampMs, FloatHistogram), WriteError> {
    decode_histogram(message)
}

fn spans(spans: &[Span]) -> Vec<proto::BucketSpan> {
    spans.iter().map(|s| proto::BucketSpan { offset: s.offset, length: s.length }).collect()
}

fn deltas(counts: &[f64]) -> Vec<i64> {
    let mut last = 0;
    let delta = |count: &f64| {
        let delta = *count as i64 - last;
        last = *count as i64;
        delta
    };
    counts.iter().map(delta).collect()
}
