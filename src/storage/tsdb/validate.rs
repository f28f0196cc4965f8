//! What a native histogram must satisfy to be stored. Texts are Prometheus'.

use thiserror::Error;

use crate::model::FloatHistogram;
use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

/// Why a histogram is refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub(crate) enum HistogramError {
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, \
         or -53 for custom buckets: {0}"
    )]
    Schema(i32),
    #[error(
        "{side} side: spans need {needed} buckets, have {held} buckets: histogram spans specify \
         different number of buckets than provided"
    )]
    SpansMismatch { side: &'static str, needed: u64, held: usize },
    #[error(
        "{side} side: span number {number} with offset {offset}: histogram has a span whose \
         offset is negative"
    )]
    NegativeOffset { side: &'static str, number: usize, offset: i32 },
    #[error(
        "{side} side: bucket number {number} has observation count of {count}: histogram has a \
         bucket whose observation count is negative"
    )]
    NegativeBucket { side: &'static str, number: usize, count: f64 },
    #[error("{0}: histogram has a negative count")]
    NegativeCount(&'static str),
    #[error("custom buckets: {0}")]
    Custom(&'static str),
    #[error("histogram with exponential schema must not have custom bounds")]
    BoundsOnExponential,
}

/// Checks a histogram before it is stored. Readers rely on spans and buckets agreeing.
pub(crate) fn check_histogram(h: &FloatHistogram) -> Result<(), HistogramError> {
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        check_custom(h)?;
    } else if !(-4..=8).contains(&h.schema) {
        return Err(HistogramError::Schema(h.schema));
    } else if !h.custom_values.is_empty() {
        return Err(HistogramError::BoundsOnExponential);
    }
    check_side("negative", &h.negative_spans, &h.negative_buckets)?;
    check_side("positive", &h.positive_spans, &h.positive_buckets)?;
    if h.zero_count < 0.0 {
        return Err(HistogramError::NegativeCount("zero bucket"));
    }
    if h.count < 0.0 {
        return Err(HistogramError::NegativeCount("observation count"));
    }
    Ok(())
}

fn check_custom(h: &FloatHistogram) -> Result<(), HistogramError> {
    let bounds = &h.custom_values;
    let ascending = bounds.windows(2).all(|p| p[0] < p[1]);
    if !ascending || bounds.iter().any(|b| b.is_nan() || *b == f64::INFINITY) {
        return Err(HistogramError::Custom(
            "histogram custom bounds must be in strictly increasing order and finite",
        ));
    }
    if h.zero_count != 0.0 {
        return Err(HistogramError::Custom("must have zero count of 0"));
    }
    if h.zero_threshold != 0.0 {
        return Err(HistogramError::Custom("must have zero threshold of 0"));
    }
    if !h.negative_spans.is_empty() || !h.negative_buckets.is_empty() {
        return Err(HistogramError::Custom("must not have negative spans or buckets"));
    }
    let last: i64 =
        h.positive_spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
    if last > bounds.len() as i64 + 1 {
        return Err(HistogramError::Custom(
            "only that many buckets as bounds and one more are defined",
        ));
    }
    Ok(())
}

fn check_side(side: &'static str, spans: &[Span], buckets: &[f64]) -> Result<(), HistogramError> {
    for (i, span) in spans.iter().enumerate().skip(1) {
        if span.offset < 0 {
            return Err(HistogramError::NegativeOffset {
                side,
                number: i + 1,
                offset: span.offset,
            });
        }
    }
    let needed: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    if needed != buckets.len() as u64 {
        return Err(HistogramError::SpansMismatch { side, needed, held: buckets.len() });
    }
    match buckets.iter().position(|b| *b < 0.0) {
        Some(i) => Err(HistogramError::NegativeBucket { side, number: i + 1, count: buckets[i] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_histograms_are_refused_with_prometheus_texts() {
        let check = |h: FloatHistogram| check_histogram(&h).map_err(|e| e.to_string());
        assert_eq!(check(FloatHistogram::default()), Ok(()));
        let h = FloatHistogram { schema: 9, ..Default::default() };
        assert!(check(h).is_err_and(|e| e.contains("invalid schema")));
        let h = FloatHistogram {
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0],
            ..Default::default()
        };
        assert_eq!(
            check(h),
            Err("positive side: spans need 2 buckets, have 1 buckets: histogram spans specify \
                 different number of buckets than provided"
                .to_owned())
        );
        let h = FloatHistogram { schema: -53, custom_values: vec![2.0, 1.0], ..Default::default() };
        assert!(check(h).is_err_and(|e| e.contains("strictly increasing")));
    }
}
