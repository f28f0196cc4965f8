//! Text forms: the one of query results, and the one of test scripts.

use std::fmt::{self, Write};

use super::{Bucket, CounterResetHint, FloatHistogram};
use crate::model::float::general;

/// Widest gap that is spelled out as empty buckets.
const FILLED_GAP_MAX: usize = 10_000;

/// `{count:22, sum:3, [-0.1,0.1]:2, (0.5,1]:3}`: non-empty buckets, ascending.
impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", general(self.count), general(self.sum))?;
        let mut negative: Vec<Bucket> = self.negative_buckets().collect();
        negative.reverse();
        let buckets = negative
            .into_iter()
            .chain(std::iter::once(self.zero_bucket()))
            .chain(self.positive_buckets());
        for bucket in buckets.filter(|b| b.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_char('}')
    }
}

/// `(0.5,1]:3`
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{},{}{}:{}",
            if self.lower_inclusive { '[' } else { '(' },
            general(self.lower),
            general(self.upper),
            if self.upper_inclusive { ']' } else { ')' },
            general(self.count)
        )
    }
}

impl FloatHistogram {
    /// `{{schema:1 count:22 sum:3 offset:-1 buckets:[5 10 7]}}`, the notation of test
    /// scripts: fields that are zero are left out, gaps are filled with empty buckets. A
    /// histogram with a gap too wide to fill has no such form and prints as usual.
    pub fn test_expression(&self) -> String {
        let mut h = self.clone();
        h.compact(FILLED_GAP_MAX);
        if h.positive_spans.len() > 1 || h.negative_spans.len() > 1 {
            return h.to_string();
        }
        let mut parts: Vec<String> = Vec::new();
        if h.schema != 0 {
            parts.push(format!("schema:{}", h.schema));
        }
        for (key, value) in [
            ("count", h.count),
            ("sum", h.sum),
            ("z_bucket", h.zero_count),
            ("z_bucket_w", h.zero_threshold),
        ] {
            if value != 0.0 {
                parts.push(format!("{key}:{}", general(value)));
            }
        }
        if h.uses_custom_buckets() {
            parts.push(format!("custom_values:[{}]", join(&h.custom_values)));
        }
        match h.counter_reset_hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::Reset => parts.push("counter_reset_hint:reset".to_owned()),
            CounterResetHint::NotReset => parts.push("counter_reset_hint:not_reset".to_owned()),
            CounterResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
        }
        for (offset_key, buckets_key, spans, counts) in [
            ("offset", "buckets", &h.positive_spans, &h.positive_buckets),
            ("n_offset", "n_buckets", &h.negative_spans, &h.negative_buckets),
        ] {
            if let Some(span) = spans.first().filter(|span| span.offset != 0) {
                parts.push(format!("{offset_key}:{}", span.offset));
            }
            if !counts.is_empty() {
                parts.push(format!("{buckets_key}:[{}]", join(counts)));
            }
        }
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

fn join(values: &[f64]) -> String {
    values.iter().map(|v| general(*v)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{custom, exponential};

    #[test]
    fn histograms_print_in_both_notations() {
        let mut h = exponential(0, 22.0, 3.0, 0, &[5.0, 0.0, 7.0]);
        (h.zero_count, h.zero_threshold) = (2.0, 0.1);
        h.negative_spans = vec![super::super::Span { offset: 1, length: 2 }];
        h.negative_buckets = vec![3.0, 1.0];
        assert_eq!(
            h.to_string(),
            "{count:22, sum:3, [-4,-2):1, [-2,-1):3, [-0.1,0.1]:2, (0.5,1]:5, (2,4]:7}"
        );
        assert_eq!(
            h.test_expression(),
            "{{count:22 sum:3 z_bucket:2 z_bucket_w:0.1 buckets:[5 0 7] n_offset:1 n_buckets:[3 1]}}"
        );
        h.positive_spans[0].length = 1;
        h.positive_spans.push(super::super::Span { offset: 2_000_000_000, length: 2 });
        assert!(h.test_expression().starts_with("{count:22,"), "no room for two billion zeros");
        let h = custom(&[5.0, 10.0], 4.0, 1.0, &[1.0, 2.0, 1.0]);
        assert_eq!(h.to_string(), "{count:4, sum:1, [-Inf,5]:1, (5,10]:2, (10,+Inf]:1}");
        assert_eq!(
            h.test_expression(),
            "{{schema:-53 count:4 sum:1 custom_values:[5 10] buckets:[1 2 1]}}"
        );
    }
}
