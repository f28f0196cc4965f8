//! Equality of histograms as PromQL's `==` sees it.

use super::{FloatHistogram, Span};

impl FloatHistogram {
    /// Bit-exact equality of schema, bounds, counts and sum. Reset hints do not count, and
    /// empty spans are ignored.
    pub fn equals(&self, other: &Self) -> bool {
        self.schema == other.schema
            && same_bits(&[self.count, self.sum], &[other.count, other.sum])
            && (!self.uses_custom_buckets() || same_bits(&self.custom_values, &other.custom_values))
            && self.zero_threshold == other.zero_threshold
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && spans_match(&self.negative_spans, &other.negative_spans)
            && same_bits(&self.negative_buckets, &other.negative_buckets)
            && spans_match(&self.positive_spans, &other.positive_spans)
            && same_bits(&self.positive_buckets, &other.positive_buckets)
    }
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// True when both lists place their buckets alike; empty spans only move the next one.
pub(crate) fn spans_match(a: &[Span], b: &[Span]) -> bool {
    normalised(a).eq(normalised(b))
}

fn normalised(spans: &[Span]) -> impl Iterator<Item = Span> + '_ {
    let mut carry = 0i32;
    spans.iter().filter_map(move |span| {
        let offset = span.offset.wrapping_add(carry);
        if span.length == 0 {
            carry = offset;
            return None;
        }
        carry = 0;
        Some(Span { offset, length: span.length })
    })
}
