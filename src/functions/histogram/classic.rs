//! Quantiles and fractions of classic histograms: cumulative counts per upper bound.

/// One cumulative bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassicBucket {
    /// The `le` label.
    pub upper_bound: f64,
    /// Observations up to the bound.
    pub count: f64,
}

/// Decreases that had to be flattened before a quantile could be estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MonotonicRepair {
    /// Bounds of the first and last bucket that were raised.
    pub min_bucket: f64,
    pub max_bucket: f64,
    /// Largest decrease.
    pub max_diff: f64,
}

/// A quantile and what had to be repaired to get it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassicQuantile {
    pub value: f64,
    pub repair: Option<MonotonicRepair>,
}

/// Relative differences below this are rounding errors of aggregation, not decreases.
const SMALL_DELTA: f64 = 1e-12;
/// Relative differences above this are none, and counts above this are not compared by an
/// absolute error.
const FAR_DELTA: f64 = 1e-11;
const FAR_MIN: f64 = 1e-300;

/// The `q`-quantile, interpolated linearly within its bucket. `buckets` come in any
/// order and are sorted, merged and made monotonic in place.
///
/// NaN without a `+Inf` bucket, without observations, with fewer than two buckets or for
/// a NaN `q`; -Inf and +Inf for `q` below 0 and above 1. A quantile in the `+Inf` bucket
/// is the highest finite bound; the first bucket starts at 0 unless its bound is not
/// positive, in which case that bound is the answer.
pub fn bucket_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> ClassicQuantile {
    let plain = |value| ClassicQuantile { value, repair: None };
    if let Some(value) = outside(q) {
        return plain(value);
    }
    if !sort_and_coalesce(buckets) {
        return plain(f64::NAN);
    }
    let repair = make_monotonic(buckets);
    ClassicQuantile { value: interpolate(q, buckets), repair }
}

/// What a `q` that is no probability gives.
pub(super) fn outside(q: f64) -> Option<f64> {
    if q.is_nan() {
        Some(f64::NAN)
    } else if q < 0.0 {
        Some(f64::NEG_INFINITY)
    } else if q > 1.0 {
        Some(f64::INFINITY)
    } else {
        None
    }
}

fn interpolate(q: f64, buckets: &[ClassicBucket]) -> f64 {
    let Some((last, finite)) = buckets.split_last() else { return f64::NAN };
    if finite.is_empty() || last.count == 0.0 {
        return f64::NAN;
    }
    let mut rank = q * last.count;
    // With NaN counts no bucket compares, and the search ends at the last one.
    let b = finite.iter().position(|bucket| bucket.count >= rank).unwrap_or(finite.len());
    if b == finite.len() {
        return finite[b - 1].upper_bound;
    }
    let ClassicBucket { upper_bound: end, mut count } = finite[b];
    if b == 0 {
        return if end <= 0.0 { end } else { end * (rank / count) };
    }
    let before = finite[b - 1];
    count -= before.count;
    rank -= before.count;
    before.upper_bound + (end - before.upper_bound) * (rank / count)
}

/// The share of observations between `lower` and `upper`, interpolated linearly. NaN
/// without a `+Inf` bucket, without observations or with a NaN limit; 0 when the
/// interval is empty. The first bucket starts at 0 when its bound is positive.
pub fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !sort_and_coalesce(buckets) {
        return f64::NAN;
    }
    let count = buckets.last().map_or(0.0, |b| b.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |v: f64| fraction_rank(v, buckets).min(count);
    (rank(upper) - rank(lower)) / count
}

/// Observations below `v`.
fn fraction_rank(v: f64, buckets: &[ClassicBucket]) -> f64 {
    let mut below = 0.0;
    let mut lower_bound = match buckets.first() {
        Some(first) if first.upper_bound > 0.0 => 0.0,
        _ => f64::NEG_INFINITY,
    };
    for bucket in buckets {
        if lower_bound >= v {
            return below;
        }
        if v < bucket.upper_bound {
            if lower_bound == f64::NEG_INFINITY {
                return bucket.count;
            }
            if bucket.upper_bound == f64::INFINITY {
                return below;
            }
            let share = (v - lower_bound) / (bucket.upper_bound - lower_bound);
            return below + (bucket.count - below) * share;
        }
        below = bucket.count;
        lower_bound = bucket.upper_bound;
    }
    below
}

/// False when there is no `+Inf` bucket.
fn sort_and_coalesce(buckets: &mut Vec<ClassicBucket>) -> bool {
    let ascend = |a: &ClassicBucket, b: &ClassicBucket| a.upper_bound.total_cmp(&b.upper_bound);
    if !buckets.is_sorted_by(|a, b| ascend(a, b).is_le()) {
        buckets.sort_by(ascend);
    }
    if buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
        return false;
    }
    // Two spellings of one bound (`le="1"`, `le="1.0"`) are one bucket.
    buckets.dedup_by(|later, kept| {
        let same = later.upper_bound == kept.upper_bound;
        if same {
            kept.count += later.count;
        }
        same
    });
    true
}

fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<MonotonicRepair> {
    let mut repair: Option<MonotonicRepair> = None;
    let (first, rest) = buckets.split_first_mut()?;
    let mut previous = first.count;
    for bucket in rest {
        let current = bucket.count;
        if current == previous {
            continue;
        }
        // Far beyond rounding errors, which takes no division to tell.
        if current - previous > (current.abs() + previous.abs()) * FAR_DELTA && current > FAR_MIN {
            previous = current;
            continue;
        }
        if almost_equal(previous, current, SMALL_DELTA) {
            bucket.count = previous;
        } else if current < previous {
            bucket.count = previous;
            let diff = previous - current;
            let r = repair.get_or_insert(MonotonicRepair {
                min_bucket: bucket.upper_bound,
                max_bucket: bucket.upper_bound,
                max_diff: diff,
            });
            r.max_bucket = bucket.upper_bound;
            r.max_diff = r.max_diff.max(diff);
        } else {
            previous = current;
        }
    }
    repair
}

/// True when two floats are equal within a relative error, as Prometheus compares them:
/// NaN equals NaN (a staleness marker only another one), and near zero the error is
/// absolute.
pub fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    use crate::model::value::is_stale_nan;
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (magnitude, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || magnitude < f64::MIN_POSITIVE {
        return diff < epsilon * f64::MIN_POSITIVE;
    }
    diff / magnitude.min(f64::MAX) < epsilon
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<ClassicBucket> {
        pairs.iter().map(|&(upper_bound, count)| ClassicBucket { upper_bound, count }).collect()
    }

    #[test]
    fn quantiles_interpolate_within_the_bucket_that_holds_their_rank() {
        let inf = f64::INFINITY;
        let usual: &[(f64, f64)] = &[(1.0, 10.0), (2.0, 30.0), (4.0, 40.0), (inf, 50.0)];
        let check = |q: f64, b: &[(f64, f64)], expected: f64| {
            let got = bucket_quantile(q, &mut buckets(b)).value;
            let same = got == expected || (got.is_nan() && expected.is_nan());
            assert!(same, "q={q} of {b:?}: expected {expected}, got {got}");
        };
        check(0.0, usual, 0.0);
        check(0.1, usual, 0.5);
        check(0.4, usual, 1.5);
        check(0.8, usual, 4.0);
        check(1.0, usual, 4.0);
        check(-0.1, usual, -inf);
        check(1.1, usual, inf);
        check(f64::NAN, usual, f64::NAN);
        check(0.5, &usual[..3], f64::NAN);
        check(0.5, &[(inf, 5.0)], f64::NAN);
        check(0.5, &[(1.0, 0.0), (inf, 0.0)], f64::NAN);
        check(0.5, &[], f64::NAN);
        // The first bucket has no lower bound to interpolate from unless it is 0.
        check(0.1, &[(-1.0, 10.0), (inf, 20.0)], -1.0);
        check(0.75, &[(-1.0, 10.0), (1.0, 20.0), (inf, 20.0)], 0.0);
        // Equal bounds add up: (1: 4), (2: 8), (+Inf: 8).
        check(0.75, &[(2.0, 8.0), (1.0, 1.0), (1.0, 3.0), (inf, 8.0)], 1.5);
    }

    #[test]
    fn decreases_are_raised_and_rounding_errors_pass_silently() {
        let inf = f64::INFINITY;
        let mut b = buckets(&[(1.0, 10.0), (2.0, 8.0), (3.0, 4.0), (4.0, 20.0), (inf, 19.0)]);
        let got = bucket_quantile(0.75, &mut b);
        assert_eq!(got.value, 3.5);
        let expected = MonotonicRepair { min_bucket: 2.0, max_bucket: inf, max_diff: 6.0 };
        assert_eq!(got.repair, Some(expected));
        let mut b = buckets(&[(1.0, 10.0), (2.0, 10.0 - 1e-13), (inf, 10.0)]);
        assert_eq!(bucket_quantile(0.5, &mut b).repair, None);
    }

    #[test]
    fn fractions_count_what_lies_between_the_limits() {
        let inf = f64::INFINITY;
        let usual: &[(f64, f64)] = &[(1.0, 10.0), (2.0, 30.0), (inf, 40.0)];
        let check = |lower: f64, upper: f64, b: &[(f64, f64)], expected: f64| {
            let got = bucket_fraction(lower, upper, &mut buckets(b));
            let same = got == expected || (got.is_nan() && expected.is_nan());
            assert!(same, "{lower}..{upper} of {b:?}: expected {expected}, got {got}");
        };
        check(0.0, 1.0, usual, 0.25);
        check(0.5, 1.5, usual, 0.375);
        check(-inf, inf, usual, 1.0);
        check(0.0, 100.0, usual, 0.75);
        check(2.0, 1.0, usual, 0.0);
        check(f64::NAN, 1.0, usual, f64::NAN);
        check(0.0, 1.0, &usual[..2], f64::NAN);
        check(-3.0, -2.0, &[(-1.0, 10.0), (inf, 20.0)], 0.0);
    }
}
