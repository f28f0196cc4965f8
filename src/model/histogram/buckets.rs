//! Buckets with their bounds, in the orders evaluation needs.

use super::layout::indexed;
use super::{FloatHistogram, bound};

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    /// Position within its schema; 0 and meaningless for the zero bucket.
    pub index: i32,
}

impl FloatHistogram {
    /// Buckets above the zero bucket (or all, with custom bounds), ascending.
    pub fn positive_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.positive_spans, &self.positive_buckets)
            .map(|(index, count)| self.bucket(index, count, false))
    }

    /// Buckets below the zero bucket, from zero downwards.
    pub fn negative_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.negative_spans, &self.negative_buckets)
            .map(|(index, count)| self.bucket(index, count, true))
    }

    /// The zero bucket; both bounds inclusive.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// All buckets, from the most negative to the most positive; the zero bucket only when
    /// it is populated. Bounds never reach into the zero bucket.
    pub fn all_buckets(&self) -> Vec<Bucket> {
        let mut all: Vec<Bucket> = self.negative_buckets().map(|b| self.clip(b)).collect();
        all.reverse();
        if self.zero_count > 0.0 {
            all.push(self.zero_bucket());
        }
        all.extend(self.positive_buckets().map(|b| self.clip(b)));
        all
    }

    fn bucket(&self, index: i32, count: f64, negative: bool) -> Bucket {
        let far = bound(index, self.schema, &self.custom_values);
        let near = bound(index.wrapping_sub(1), self.schema, &self.custom_values);
        let (lower, upper) = if negative { (-far, -near) } else { (near, far) };
        let (lower_inclusive, upper_inclusive) = if self.uses_custom_buckets() {
            (index == 0, true)
        } else {
            (lower < 0.0, upper > 0.0)
        };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count, index }
    }

    fn clip(&self, mut bucket: Bucket) -> Bucket {
        if self.uses_custom_buckets() {
            return bucket;
        }
        if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
            bucket.upper = -self.zero_threshold;
        } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
            bucket.lower = self.zero_threshold;
        }
        bucket
    }
}
