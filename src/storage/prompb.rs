//! The protobuf messages that remote read and remote write have in common
//! (`prometheus/prompb`), and those of remote read. Field numbers are the wire format.

use bytes::Bytes;

use crate::model::histogram::{CounterResetHint, Span};
use crate::model::{FloatHistogram, Labels, MatchOp, Matcher, TimestampMs};

/// A label.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A float sample; time in ms.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A native histogram: integer (`*_int`, deltas) or float (`*_float`, counts).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

/// A run of buckets.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// What is asked by remote read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    /// What the asking end understands, best first; see [`SAMPLES`], [`STREAMED_XOR_CHUNKS`].
    #[prost(int32, repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

/// Response type: one [`ReadResponse`], compressed with snappy.
pub const SAMPLES: i32 = 0;
/// Response type: a stream of [`ChunkedReadResponse`].
pub const STREAMED_XOR_CHUNKS: i32 = 1;

/// Series over a closed interval.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Query {
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
    #[prost(message, optional, tag = "4")]
    pub hints: Option<ReadHints>,
}

/// A matcher: 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LabelMatcher {
    #[prost(int32, tag = "1")]
    pub r#type: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub value: String,
}

/// What the samples are for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReadHints {
    #[prost(int64, tag = "1")]
    pub step_ms: i64,
    #[prost(string, tag = "2")]
    pub func: String,
    #[prost(int64, tag = "3")]
    pub start_ms: i64,
    #[prost(int64, tag = "4")]
    pub end_ms: i64,
    #[prost(string, repeated, tag = "5")]
    pub grouping: Vec<String>,
    #[prost(bool, tag = "6")]
    pub by: bool,
    #[prost(int64, tag = "7")]
    pub range_ms: i64,
}

/// The answer as samples: a result for each query, in their order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<QueryResult>,
}

/// The series of one query, sorted by labels.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// A series with samples in time order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

/// A frame of the answer as chunks. A series may go on in the next frame.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub chunked_series: Vec<ChunkedSeries>,
    /// Which query of the request this belongs to.
    #[prost(int64, tag = "2")]
    pub query_index: i64,
}

/// A series, or the next part of it, with chunks in time order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<Chunk>,
}

/// An encoded chunk; the numbers of the encodings are those of the block files.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Chunk {
    #[prost(int64, tag = "1")]
    pub min_time_ms: i64,
    #[prost(int64, tag = "2")]
    pub max_time_ms: i64,
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// The message of each label.
pub fn labels_to_wire(labels: &Labels) -> Vec<Label> {
    let pair = |(name, value): (&str, &str)| Label { name: name.into(), value: value.into() };
    labels.iter().map(pair).collect()
}

/// The label set of messages; of a repeated name one stays.
pub fn labels_from_wire(labels: &[Label]) -> Labels {
    Labels::from_pairs(labels.iter().map(|l| (l.name.as_str(), l.value.as_str())))
}

impl From<&Matcher> for LabelMatcher {
    fn from(matcher: &Matcher) -> Self {
        let number = match matcher.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        };
        Self { r#type: number, name: (*matcher.name).into(), value: (*matcher.value).into() }
    }
}

impl LabelMatcher {
    /// The matcher; the error is Prometheus' text.
    pub fn matcher(&self) -> Result<Matcher, String> {
        let op = match self.r#type {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err("invalid matcher type".to_owned()),
        };
        Matcher::new(op, &self.name, &self.value).map_err(|e| e.to_string())
    }
}

fn spans_to_wire(spans: &[Span]) -> Vec<BucketSpan> {
    spans.iter().map(|s| BucketSpan { offset: s.offset, length: s.length }).collect()
}

fn spans_from_wire(spans: &[BucketSpan]) -> Vec<Span> {
    spans.iter().map(|s| Span { offset: s.offset, length: s.length }).collect()
}

/// Counts from the differences they are written as.
fn summed(deltas: &[i64]) -> Vec<f64> {
    let mut count = 0i64;
    let next = |delta: &i64| {
        count = count.wrapping_add(*delta);
        count as f64
    };
    deltas.iter().map(next).collect()
}

/// Differences from each count to the next.
fn differences(counts: &[f64]) -> Vec<i64> {
    let mut last = 0;
    let difference = |count: &f64| {
        let difference = *count as i64 - last;
        last = *count as i64;
        difference
    };
    counts.iter().map(difference).collect()
}

/// Counts up to this are told apart as floats.
const EXACT_MAX: f64 = (1_u64 << 53) as f64;

/// Whether all counts of a histogram are whole, as most are where they are counted.
fn is_whole(h: &FloatHistogram) -> bool {
    let whole = |v: &f64| (0.0..EXACT_MAX).contains(v) && v.trunc() == *v && v.is_sign_positive();
    let buckets = h.positive_buckets.iter().chain(&h.negative_buckets);
    [h.count, h.zero_count].iter().chain(buckets).all(whole)
}

impl Histogram {
    /// The message of a histogram: of integers when all its counts are whole.
    pub fn of(timestamp: TimestampMs, h: &FloatHistogram) -> Self {
        let mut message = Self {
            sum: h.sum,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            negative_spans: spans_to_wire(&h.negative_spans),
            positive_spans: spans_to_wire(&h.positive_spans),
            reset_hint: match h.counter_reset_hint {
                CounterResetHint::Unknown => 0,
                CounterResetHint::Reset => 1,
                CounterResetHint::NotReset => 2,
                CounterResetHint::Gauge => 3,
            },
            timestamp,
            custom_values: h.custom_values.clone(),
            ..Self::default()
        };
        if is_whole(h) {
            message.count_int = Some(h.count as u64);
            message.zero_count_int = Some(h.zero_count as u64);
            message.negative_deltas = differences(&h.negative_buckets);
            message.positive_deltas = differences(&h.positive_buckets);
        } else {
            message.count_float = Some(h.count);
            message.zero_count_float = Some(h.zero_count);
            message.negative_counts.clone_from(&h.negative_buckets);
            message.positive_counts.clone_from(&h.positive_buckets);
        }
        message
    }

    /// The histogram of a message of either kind. It has not been validated.
    pub fn histogram(&self) -> FloatHistogram {
        let buckets = |counts: &[f64], deltas: &[i64]| match counts.is_empty() {
            true => summed(deltas),
            false => counts.to_vec(),
        };
        let either = |int: Option<u64>, float: Option<f64>| match int {
            Some(int) => int as f64,
            None => float.unwrap_or(0.0),
        };
        FloatHistogram {
            counter_reset_hint: match self.reset_hint {
                1 => CounterResetHint::Reset,
                2 => CounterResetHint::NotReset,
                3 => CounterResetHint::Gauge,
                _ => CounterResetHint::Unknown,
            },
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: either(self.zero_count_int, self.zero_count_float),
            count: either(self.count_int, self.count_float),
            sum: self.sum,
            positive_spans: spans_from_wire(&self.positive_spans),
            positive_buckets: buckets(&self.positive_counts, &self.positive_deltas),
            negative_spans: spans_from_wire(&self.negative_spans),
            negative_buckets: buckets(&self.negative_counts, &self.negative_deltas),
            custom_values: self.custom_values.clone(),
        }
    }
}
