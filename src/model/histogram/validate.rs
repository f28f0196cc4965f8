//! Checks of histograms that came from outside. Texts are those of Prometheus.

use thiserror::Error;

use super::{
    CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN, FloatHistogram, Span,
};

/// Why a histogram was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum HistogramError {
    #[error(
        "schema {0}: histogram has an invalid schema, which must be between -4 and 8 for \
         exponential buckets, or -53 for custom buckets"
    )]
    Schema(i32),
    #[error(
        "{side} side: span number {number} with offset {offset}: histogram has a span whose \
         offset is negative"
    )]
    NegativeOffset { side: &'static str, number: usize, offset: i32 },
    #[error(
        "{side} side: spans need {need} buckets, have {have} buckets: histogram spans specify \
         different number of buckets than provided"
    )]
    SpansBuckets { side: &'static str, need: u64, have: usize },
    #[error(
        "{side} side: bucket number {number} has observation count of {count}: histogram has a \
         bucket whose observation count is negative"
    )]
    NegativeBucket { side: &'static str, number: usize, count: f64 },
    #[error(
        "zero bucket has observation count of {0}: histogram has a bucket whose observation \
         count is negative"
    )]
    NegativeZeroCount(f64),
    #[error("observation count is {0}: histogram has a bucket whose observation count is negative")]
    NegativeCount(f64),
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialCustomBounds,
    #[error(
        "previous bound is {previous:.6} and current is {current:.6}: histogram custom bounds \
         must be in strictly increasing order"
    )]
    CustomBoundsOrder { previous: f64, current: f64 },
    #[error(
        "last +Inf bound must not be explicitly defined: histogram custom bounds must be finite"
    )]
    CustomBoundsInfinite,
    #[error("histogram custom bounds must not be NaN")]
    CustomBoundsNan,
    #[error(
        "only {bounds} custom bounds defined which is insufficient to cover total span length of \
         {length}: histogram custom bounds are too few"
    )]
    CustomBoundsTooFew { bounds: usize, length: u64 },
}

impl FloatHistogram {
    /// Checks what readers and the arithmetic rely on, before a histogram is stored. Cheap: one
    /// pass over spans and buckets.
    pub fn validate(&self) -> Result<(), HistogramError> {
        let positive_length =
            check_spans("positive", &self.positive_spans, self.positive_buckets.len())?;
        check_spans("negative", &self.negative_spans, self.negative_buckets.len())?;
        match self.schema {
            CUSTOM_BUCKETS_SCHEMA => self.check_custom(positive_length)?,
            EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX => {
                if !self.custom_values.is_empty() {
                    return Err(HistogramError::ExponentialCustomBounds);
                }
            }
            other => return Err(HistogramError::Schema(other)),
        }
        if self.zero_count < 0.0 {
            return Err(HistogramError::NegativeZeroCount(self.zero_count));
        }
        if self.count < 0.0 {
            return Err(HistogramError::NegativeCount(self.count));
        }
        check_counts("positive", &self.positive_buckets)?;
        check_counts("negative", &self.negative_buckets)
    }

    fn check_custom(&self, positive_length: u64) -> Result<(), HistogramError> {
        for (i, current) in self.custom_values.iter().enumerate() {
            if current.is_nan() {
                return Err(HistogramError::CustomBoundsNan);
            }
            if i > 0 && *current <= self.custom_values[i - 1] {
                let previous = self.custom_values[i - 1];
                return Err(HistogramError::CustomBoundsOrder { previous, current: *current });
            }
        }
        if self.custom_values.last() == Some(&f64::INFINITY) {
            return Err(HistogramError::CustomBoundsInfinite);
        }
        if positive_length > self.custom_values.len() as u64 + 1 {
            return Err(HistogramError::CustomBoundsTooFew {
                bounds: self.custom_values.len(),
                length: positive_length,
            });
        }
        if self.zero_count != 0.0 {
            return Err(HistogramError::CustomZeroCount);
        }
        if self.zero_threshold != 0.0 {
            return Err(HistogramError::CustomZeroThreshold);
        }
        if !self.negative_spans.is_empty() {
            return Err(HistogramError::CustomNegativeSpans);
        }
        if !self.negative_buckets.is_empty() {
            return Err(HistogramError::CustomNegativeBuckets);
        }
        Ok(())
    }
}

/// Returns the index after the last bucket, counted from 0.
fn check_spans(side: &'static str, spans: &[Span], have: usize) -> Result<u64, HistogramError> {
    let (mut need, mut end) = (0u64, 0u64);
    for (i, span) in spans.iter().enumerate() {
        if i > 0 && span.offset < 0 {
            let (number, offset) = (i + 1, span.offset);
            return Err(HistogramError::NegativeOffset { side, number, offset });
        }
        need += u64::from(span.length);
        end += u64::from(span.length) + u64::try_from(span.offset).unwrap_or(0);
    }
    if need != have as u64 {
        return Err(HistogramError::SpansBuckets { side, need, have });
    }
    Ok(end)
}

fn check_counts(side: &'static str, counts: &[f64]) -> Result<(), HistogramError> {
    match counts.iter().position(|c| *c < 0.0) {
        Some(i) => Err(HistogramError::NegativeBucket { side, number: i + 1, count: counts[i] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{custom, exponential};
    use super::*;

    #[test]
    fn malformed_histograms_are_named_by_what_is_wrong() {
        let check = |expected: &str, h: FloatHistogram| {
            let got = h.validate().map_or_else(|e| e.to_string(), |()| "fine".to_owned());
            assert!(got.contains(expected), "expected {expected:?} in {got:?}");
        };
        let good = exponential(0, 3.0, 1.0, -2, &[1.0, 2.0]);
        check("fine", good.clone());
        check("fine", custom(&[1.0], 3.0, 1.0, &[1.0, 2.0]));
        check("schema 9", FloatHistogram { schema: 9, ..good.clone() });
        check(
            "spans need 2 buckets, have 1",
            FloatHistogram { positive_buckets: vec![1.0], ..good.clone() },
        );
        check(
            "bucket number 2 has observation count of -1",
            FloatHistogram { positive_buckets: vec![1.0, -1.0], ..good.clone() },
        );
        check("only 1 custom bounds", custom(&[1.0], 3.0, 1.0, &[1.0, 2.0, 3.0]));
        check("strictly increasing", custom(&[1.0, 1.0], 3.0, 1.0, &[1.0]));
        check("must not be NaN", custom(&[f64::NAN], 3.0, 1.0, &[1.0]));
        check("must not be explicitly", custom(&[1.0, f64::INFINITY], 3.0, 1.0, &[1.0]));
        check("exponential schema", FloatHistogram { custom_values: vec![1.0], ..good });
    }
}
