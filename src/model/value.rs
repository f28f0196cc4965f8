//! Samples and query results.

use std::sync::Arc;

use super::{FloatHistogram, Labels, TimestampMs};

/// Bits of the NaN that says "this series ends here". A computed NaN is not stale.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
/// Bits of the NaN Prometheus itself produces for "not a number".
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// The staleness marker.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// True only for the staleness marker, by its bits.
pub fn is_stale_nan(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}

/// What a series holds at one time.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// A series of a range result: points in time order.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: Labels,
    pub points: Vec<(TimestampMs, Sample)>,
}

/// A series of an instant result.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub ts: TimestampMs,
    pub sample: Sample,
}

/// The result of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar { ts: TimestampMs, value: f64 },
    String { ts: TimestampMs, value: String },
    Vector(Vec<VectorSample>),
    Matrix(Vec<Series>),
}

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    String,
    InstantVector,
    RangeVector,
}

impl ValueType {
    /// The word used in error texts: `instant vector`, `range vector`, `scalar`, `string`.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::InstantVector => "instant vector",
            Self::RangeVector => "range vector",
        }
    }

    /// The raw type name of the API and of a few error texts: `vector`, `matrix`, ...
    pub fn raw(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::InstantVector => "vector",
            Self::RangeVector => "matrix",
        }
    }
}
