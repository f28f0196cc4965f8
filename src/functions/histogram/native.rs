//! Quantiles, fractions and moments of native histograms.

use crate::model::FloatHistogram;
use crate::model::histogram::Bucket;
use crate::model::sums::kahan_inc;

use super::classic::outside;

/// What NaN observations did to a result. They are in `count` but in no bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanObservations {
    /// The rank fell among them: the quantile is NaN.
    ResultIsNan,
    /// They push the quantile up.
    SkewedHigher,
    /// They belong to no fraction.
    Excluded,
}

/// The `q`-quantile: logarithmic interpolation in exponential buckets, linear in the
/// zero bucket and in custom ones. NaN without observations or for a NaN `q`; -Inf and
/// +Inf for `q` below 0 and above 1.
pub fn native_quantile(q: f64, h: &FloatHistogram) -> (f64, Option<NanObservations>) {
    if let Some(value) = outside(q) {
        return (value, None);
    }
    if h.count == 0.0 {
        return (f64::NAN, None);
    }
    // From below for low quantiles and from above for high ones keeps sums short. With
    // NaN observations only the way from below counts them as the highest.
    let nan_sum = h.sum.is_nan();
    let upwards = nan_sum || q < 0.5;
    let mut buckets = h.all_buckets();
    if !upwards {
        buckets.reverse();
    }
    let mut rank = if upwards { q * h.count } else { (1.0 - q) * h.count };
    let mut seen = 0.0;
    let mut found = buckets.len();
    let mut bucket: Option<Bucket> = None;
    for (i, b) in buckets.iter().enumerate().filter(|(_, b)| b.count != 0.0) {
        seen += b.count;
        bucket = Some(*b);
        if seen >= rank {
            found = i + 1;
            break;
        }
    }
    let Some(mut bucket) = bucket else {
        let nan = nan_sum.then_some(NanObservations::ResultIsNan);
        return (if nan_sum { f64::NAN } else { 0.0 }, nan);
    };
    if h.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else {
        narrow_zero_bucket(&mut bucket, h);
    }
    let reached = seen.min(h.count);
    if reached < rank {
        return if nan_sum {
            (f64::NAN, Some(NanObservations::ResultIsNan))
        } else {
            (bucket.upper, None)
        };
    }
    rank = if upwards { rank - (reached - bucket.count) } else { reached - rank };
    let rest: f64 = buckets[found..].iter().map(|b| b.count).sum();
    let skewed = nan_sum && seen + rest < h.count;
    let value = within(&bucket, rank / bucket.count, h.uses_custom_buckets());
    (value, skewed.then_some(NanObservations::SkewedHigher))
}

/// The zero bucket reaches only to zero on a side without buckets.
fn narrow_zero_bucket(bucket: &mut Bucket, h: &FloatHistogram) {
    if bucket.lower < 0.0 && bucket.upper > 0.0 {
        match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
    }
}

/// The value `fraction` of the way into a bucket.
fn within(bucket: &Bucket, fraction: f64, custom: bool) -> f64 {
    if custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let log_lower = bucket.lower.abs().log2();
    let log_upper = bucket.upper.abs().log2();
    if bucket.lower > 0.0 {
        (log_lower + (log_upper - log_lower) * fraction).exp2()
    } else {
        -(log_upper + (log_lower - log_upper) * (1.0 - fraction)).exp2()
    }
}

/// The share of observations between `lower` and `upper`. NaN without observations or
/// with a NaN limit; 0 when the interval is empty.
pub fn native_fraction(
    lower: f64,
    upper: f64,
    h: &FloatHistogram,
) -> (f64, Option<NanObservations>) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let buckets = h.all_buckets();
    let mut count = h.count;
    let mut nan = None;
    if h.sum.is_nan() {
        count = buckets.iter().map(|b| b.count).sum();
        if count < h.count {
            nan = Some(NanObservations::Excluded);
        }
    }
    let rank = |v: f64| fraction_rank(v, &buckets, h).unwrap_or(count).min(count);
    ((rank(upper) - rank(lower)) / h.count, nan)
}

/// Observations below `v`; `None` when `v` lies above every bucket.
fn fraction_rank(v: f64, buckets: &[Bucket], h: &FloatHistogram) -> Option<f64> {
    let mut below = 0.0;
    for (i, bucket) in buckets.iter().enumerate() {
        let mut bucket = *bucket;
        let custom = h.uses_custom_buckets();
        if custom {
            // As in classic histograms, the first bucket starts at 0 if it ends above.
            if i == 0 && bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
                bucket.lower = 0.0;
            }
        } else {
            narrow_zero_bucket(&mut bucket, h);
        }
        if bucket.lower >= v {
            return Some(below);
        }
        if v < bucket.upper {
            let linear = custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0);
            return Some(if !linear {
                below + bucket.count * exponential_share(v, &bucket)
            } else if bucket.lower == f64::NEG_INFINITY {
                bucket.count
            } else {
                // Against an infinite upper bound the share is 0.
                below + bucket.count * (v - bucket.lower) / (bucket.upper - bucket.lower)
            });
        }
        below += bucket.count;
    }
    None
}

fn exponential_share(v: f64, bucket: &Bucket) -> f64 {
    let log_lower = bucket.lower.abs().log2();
    let log_upper = bucket.upper.abs().log2();
    let log_v = v.abs().log2();
    if v > 0.0 {
        (log_v - log_lower) / (log_upper - log_lower)
    } else {
        1.0 - (log_v - log_upper) / (log_lower - log_upper)
    }
}

/// The mean observation.
pub fn average(h: &FloatHistogram) -> f64 {
    h.sum / h.count
}

/// The estimated population variance: every observation is taken to lie at the middle of
/// its bucket (geometric for exponential buckets, arithmetic for custom ones, 0 for the
/// zero bucket).
pub fn variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let (mut sum, mut c) = (0.0, 0.0);
    for bucket in h.all_buckets() {
        if bucket.count == 0.0 {
            continue;
        }
        let middle = if h.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        (sum, c) = kahan_inc(bucket.count * delta * delta, sum, c);
    }
    (sum + c) / h.count
}

/// Square root of [`variance`].
pub fn deviation(h: &FloatHistogram) -> f64 {
    variance(h).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};

    /// Buckets (0.5,1]: 4, (1,2]: 0, (2,4]: 8 and 4 observations in [-0.001, 0.001].
    fn sample() -> FloatHistogram {
        FloatHistogram {
            count: 16.0,
            sum: 30.0,
            zero_threshold: 0.001,
            zero_count: 4.0,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![4.0, 0.0, 8.0],
            ..Default::default()
        }
    }

    fn custom() -> FloatHistogram {
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 10.0,
            sum: 10.0,
            custom_values: vec![2.0, 4.0],
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![4.0, 4.0, 2.0],
            ..Default::default()
        }
    }

    #[test]
    fn quantiles_of_exponential_histograms_interpolate_by_logarithm() {
        let check = |q: f64, expected: f64| {
            let (got, nan) = native_quantile(q, &sample());
            assert!((got - expected).abs() < 1e-12, "q={q}: expected {expected}, got {got}");
            assert_eq!(nan, None);
        };
        check(0.0, 0.0);
        check(0.125, 0.0005);
        check(0.375, 0.5f64.sqrt());
        check(0.75, 8f64.sqrt());
        check(1.0, 4.0);
        assert!(native_quantile(0.5, &FloatHistogram::default()).0.is_nan());
    }

    #[test]
    fn quantiles_of_custom_buckets_interpolate_linearly() {
        let mut h = custom();
        assert_eq!(native_quantile(0.2, &h).0, 1.0);
        assert_eq!(native_quantile(0.6, &h).0, 3.0);
        assert_eq!(native_quantile(0.95, &h).0, 4.0, "the last bucket has no upper bound");
        h.custom_values = vec![-2.0, 4.0];
        assert_eq!(native_quantile(0.2, &h).0, -2.0, "the first bucket has no lower bound");
    }

    #[test]
    fn nan_observations_count_as_the_highest() {
        let mut h = sample();
        (h.count, h.sum) = (20.0, f64::NAN);
        assert_eq!(native_quantile(0.1, &h).1, Some(NanObservations::SkewedHigher));
        let (value, nan) = native_quantile(0.9, &h);
        assert!(value.is_nan());
        assert_eq!(nan, Some(NanObservations::ResultIsNan));
        let (value, nan) = native_fraction(-1.0, 100.0, &h);
        assert_eq!((value, nan), (0.8, Some(NanObservations::Excluded)));
    }

    #[test]
    fn fractions_cover_whole_and_split_buckets() {
        let f = |lower, upper| native_fraction(lower, upper, &sample()).0;
        assert_eq!(f(0.001, 1.0), 0.25);
        assert_eq!(f(2.0, 8f64.sqrt()), 0.25);
        assert_eq!(f(f64::NEG_INFINITY, f64::INFINITY), 1.0);
        assert_eq!(f(3.0, 2.0), 0.0);
        assert!(f(f64::NAN, 2.0).is_nan());
        let f = |lower, upper| native_fraction(lower, upper, &custom()).0;
        assert_eq!(f(1.0, 3.0), 0.4);
        assert_eq!(f(4.0, 1000.0), 0.0, "nothing is known within the last bucket");
    }

    #[test]
    fn moments_take_observations_at_the_middle_of_their_bucket() {
        let h = FloatHistogram { zero_count: 0.0, count: 12.0, sum: 24.0, ..sample() };
        let (a, b) = (0.5f64.sqrt() - 2.0, 8f64.sqrt() - 2.0);
        assert!((variance(&h) - (4.0 * a * a + 8.0 * b * b) / 12.0).abs() < 1e-12);
        assert_eq!(average(&h), 2.0);
    }
}
