//! Native histograms: exponential schemas -4..=8 and custom bounds (schema -53), and
//! the arithmetic PromQL does with them. Knows nothing of samples, windows or queries.

mod arithmetic;
mod bounds;
mod buckets;
mod compare;
mod fold;
mod layout;
mod reset;
mod text;
mod trim;
mod validate;

pub use arithmetic::{Combined, HistogramSum, IncompatibleSchemas};
pub use bounds::bound;
pub use buckets::Bucket;
pub use fold::{FoldOutcome, HistogramFold};
pub use layout::{merged_spans, respan};
pub use reset::Succession;
pub use validate::HistogramError;

/// What is known about a counter reset between this histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    Gauge,
}

/// A run of consecutive buckets: `offset` empty buckets, then `length` present ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// Schema number of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;
/// Coarsest exponential schema.
pub const EXPONENTIAL_SCHEMA_MIN: i32 = -4;
/// Finest exponential schema.
pub const EXPONENTIAL_SCHEMA_MAX: i32 = 8;

/// A native histogram with float counts; bucket counts are absolute, not deltas.
///
/// `PartialEq` compares every field as written; [`FloatHistogram::equals`] is PromQL's `==`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    pub counter_reset_hint: CounterResetHint,
    /// -4..=8, or `CUSTOM_BUCKETS_SCHEMA`.
    pub schema: i32,
    /// Observations in `[-zero_threshold, zero_threshold]` count as zero.
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_spans: Vec<Span>,
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of a custom-bucket histogram: strictly increasing, without +Inf.
    pub custom_values: Vec<f64>,
}

impl FloatHistogram {
    /// True for histograms with custom bucket bounds (NHCB).
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// True when a count or the sum has run over to an infinity.
    pub fn has_overflow(&self) -> bool {
        self.zero_count.is_infinite()
            || self.count.is_infinite()
            || self.sum.is_infinite()
            || self.positive_buckets.iter().chain(&self.negative_buckets).any(|b| b.is_infinite())
    }

    /// Drops empty buckets at the edges of runs and gaps of more than `empty_max` empty
    /// buckets; shorter gaps are filled with zeros. The result is canonical.
    pub fn compact(&mut self, empty_max: usize) {
        compact_side(&mut self.positive_spans, &mut self.positive_buckets, empty_max);
        compact_side(&mut self.negative_spans, &mut self.negative_buckets, empty_max);
    }

    /// Lowers the resolution of an exponential histogram; nothing happens when it is
    /// already that coarse, or has custom bounds.
    pub fn reduce_to_schema(&mut self, schema: i32) {
        if self.uses_custom_buckets() || schema >= self.schema {
            return;
        }
        let by = self.schema - schema;
        reduce_side(&mut self.positive_spans, &mut self.positive_buckets, by);
        reduce_side(&mut self.negative_spans, &mut self.negative_buckets, by);
        self.schema = schema;
    }
}

fn compact_side(spans: &mut Vec<Span>, counts: &mut Vec<f64>, empty_max: usize) {
    let already = empty_max == 0
        && counts.iter().all(|c| *c != 0.0)
        && spans.iter().all(|s| s.length > 0)
        && spans.iter().skip(1).all(|s| s.offset > 0);
    if already {
        return;
    }
    let mut builder = layout::Builder::default();
    for (index, count) in layout::indexed(spans, counts).filter(|(_, c)| *c != 0.0) {
        builder.push_filling(index, count, empty_max);
    }
    (*spans, *counts) = builder.finish();
}

fn reduce_side(spans: &mut Vec<Span>, counts: &mut Vec<f64>, by: i32) {
    let mut builder = layout::Builder::default();
    for (index, count) in layout::indexed(spans, counts) {
        builder.add(layout::coarser(index, by), count);
    }
    (*spans, *counts) = builder.finish();
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An exponential histogram with one positive span from index `offset`.
    pub(crate) fn exponential(
        schema: i32,
        count: f64,
        sum: f64,
        offset: i32,
        b: &[f64],
    ) -> FloatHistogram {
        FloatHistogram {
            schema,
            count,
            sum,
            positive_spans: vec![Span { offset, length: b.len() as u32 }],
            positive_buckets: b.to_vec(),
            ..Default::default()
        }
    }

    /// A custom-bucket histogram with one span from the first bucket.
    pub(crate) fn custom(bounds: &[f64], count: f64, sum: f64, b: &[f64]) -> FloatHistogram {
        FloatHistogram {
            custom_values: bounds.to_vec(),
            ..exponential(CUSTOM_BUCKETS_SCHEMA, count, sum, 0, b)
        }
    }

    #[test]
    fn compaction_keeps_short_gaps_and_drops_long_ones() {
        let full = exponential(0, 6.0, 1.0, -1, &[0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0]);
        let check = |empty_max, spans: &[(i32, u32)], counts: &[f64]| {
            let mut h = full.clone();
            h.compact(empty_max);
            let got: Vec<_> = h.positive_spans.iter().map(|s| (s.offset, s.length)).collect();
            assert_eq!((got.as_slice(), h.positive_buckets.as_slice()), (spans, counts));
        };
        check(0, &[(0, 1), (1, 1), (2, 1)], &[1.0, 2.0, 3.0]);
        check(1, &[(0, 3), (2, 1)], &[1.0, 0.0, 2.0, 3.0]);
        check(usize::MAX, &[(0, 6)], &[1.0, 0.0, 2.0, 0.0, 0.0, 3.0]);
    }

    #[test]
    fn halving_the_resolution_merges_neighbours_towards_the_upper_bound() {
        let mut h = exponential(1, 15.0, 1.0, 0, &[1.0, 2.0, 4.0, 8.0]);
        h.reduce_to_schema(0);
        assert_eq!((h.positive_spans[0].offset, h.positive_buckets), (0, vec![1.0, 6.0, 8.0]));
    }
}
