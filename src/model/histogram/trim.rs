//! The trim operators: `h </ x` keeps the observations up to `x`, `h >/ x` those from
//! `x` on. What lies in the bucket around `x` is estimated by interpolation.

use super::{Bucket, FloatHistogram};

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Below,
    Above,
}

/// What is left of a bucket: its count and the value its observations are taken to have.
struct Rest {
    count: f64,
    midpoint: f64,
}

impl FloatHistogram {
    /// Keeps the observations up to `limit`.
    pub fn trim_above(&mut self, limit: f64) {
        self.trim(limit, Keep::Below);
    }

    /// Keeps the observations from `limit` on.
    pub fn trim_below(&mut self, limit: f64) {
        self.trim(limit, Keep::Above);
    }

    /// The sum is re-estimated from the middles of the buckets only when a bucket
    /// changed; otherwise the exact sum stays.
    fn trim(&mut self, limit: f64, keep: Keep) {
        let mut changed = false;
        let (mut count, mut sum) = (0.0, 0.0);
        let mut take = |bucket: Bucket, rest: Rest| {
            changed |= rest.count != bucket.count;
            count += rest.count;
            if rest.count != 0.0 {
                sum += rest.count * rest.midpoint;
            }
            rest.count
        };
        let positive: Vec<f64> =
            self.positive_buckets().map(|b| take(b, self.rest_of(b, limit, keep))).collect();
        let negative: Vec<f64> =
            self.negative_buckets().map(|b| take(b, self.rest_of(b, limit, keep))).collect();
        let zero = if self.zero_count != 0.0 {
            let bucket = self.effective_zero_bucket();
            take(bucket, linear(bucket, limit, keep))
        } else {
            0.0
        };
        self.positive_buckets = positive;
        self.negative_buckets = negative;
        self.zero_count = zero;
        if changed {
            self.count = count;
            self.sum = sum;
        }
        self.compact(0);
    }

    /// The zero bucket, narrowed to zero on a side that has no buckets.
    fn effective_zero_bucket(&self) -> Bucket {
        let mut bucket = self.zero_bucket();
        match (self.negative_buckets.is_empty(), self.positive_buckets.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
        bucket
    }

    fn rest_of(&self, bucket: Bucket, limit: f64, keep: Keep) -> Rest {
        if self.uses_custom_buckets() {
            custom(bucket, limit, keep)
        } else {
            exponential(bucket, limit, keep)
        }
    }
}

fn middle(lower: f64, upper: f64) -> f64 {
    (lower + upper) / 2.0
}

fn geometric_middle(lower: f64, upper: f64) -> f64 {
    let middle = (lower.abs() * upper.abs()).sqrt();
    if lower < 0.0 { -middle } else { middle }
}

/// Splits a bucket with finite bounds, observations spread evenly.
fn linear(bucket: Bucket, limit: f64, keep: Keep) -> Rest {
    let (lower, upper) = (bucket.lower, bucket.upper);
    let below = |x: f64| if upper == lower { 1.0 } else { (x - lower) / (upper - lower) };
    match keep {
        Keep::Below if upper <= limit => {
            Rest { count: bucket.count, midpoint: middle(lower, upper) }
        }
        Keep::Above if lower >= limit => {
            Rest { count: bucket.count, midpoint: middle(lower, upper) }
        }
        Keep::Below if lower < limit => {
            Rest { count: bucket.count * below(limit), midpoint: middle(lower, limit) }
        }
        Keep::Above if upper > limit => {
            Rest { count: bucket.count * (1.0 - below(limit)), midpoint: middle(limit, upper) }
        }
        _ => Rest { count: 0.0, midpoint: 0.0 },
    }
}

/// Splits an exponential bucket, observations spread evenly over the logarithm.
fn exponential(bucket: Bucket, limit: f64, keep: Keep) -> Rest {
    let (lower, upper) = (bucket.lower, bucket.upper);
    let whole = || Rest { count: bucket.count, midpoint: geometric_middle(lower, upper) };
    let below = |x: f64| {
        let (l, u, x) = (lower.abs().log2(), upper.abs().log2(), x.abs().log2());
        (x - l) / (u - l)
    };
    match keep {
        Keep::Below if upper <= limit => whole(),
        Keep::Above if lower >= limit => whole(),
        Keep::Below if lower < limit => {
            Rest { count: bucket.count * below(limit), midpoint: geometric_middle(lower, limit) }
        }
        Keep::Above if upper > limit => Rest {
            count: bucket.count * (1.0 - below(limit)),
            midpoint: geometric_middle(limit, upper),
        },
        _ => Rest { count: 0.0, midpoint: 0.0 },
    }
}

/// Custom buckets are split linearly. The two infinite ones cannot be: their
/// observations stay only where the limit leaves no doubt, or where (below 0, and beyond
/// the last bound) the limit itself can stand for them.
fn custom(mut bucket: Bucket, limit: f64, keep: Keep) -> Rest {
    let all = |midpoint: f64| Rest { count: bucket.count, midpoint };
    let none = Rest { count: 0.0, midpoint: 0.0 };
    let everything = match keep {
        Keep::Below => limit == f64::INFINITY,
        Keep::Above => limit == f64::NEG_INFINITY,
    };
    let (open_below, open_above) =
        (bucket.lower == f64::NEG_INFINITY, bucket.upper == f64::INFINITY);
    match (open_below, open_above) {
        (false, false) => {}
        (true, true) if everything => return all(0.0),
        (true, true) => return none,
        (true, false) if bucket.upper <= 0.0 => {
            return match keep {
                Keep::Below => all(limit.min(bucket.upper)),
                Keep::Above if everything => all(bucket.upper),
                Keep::Above => none,
            };
        }
        (true, false) => {
            if keep == Keep::Above && limit < 0.0 && !everything {
                return none;
            }
            bucket.lower = 0.0;
        }
        (false, true) => {
            return match keep {
                Keep::Below if everything => all(bucket.lower),
                Keep::Below => none,
                Keep::Above if limit == f64::INFINITY => none,
                Keep::Above => all(limit.max(bucket.lower)),
            };
        }
    }
    linear(bucket, limit, keep)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{custom as bounds, exponential};
    use super::*;

    fn check(h: &FloatHistogram, keep: Keep, limit: f64, expected: &str) {
        let mut h = h.clone();
        h.trim(limit, keep);
        assert_eq!(h.test_expression(), expected, "{keep:?} {limit}");
    }

    #[test]
    fn custom_buckets_split_linearly_and_open_ones_as_a_whole() {
        let h = bounds(&[4.0, 8.0], 16.0, 99.0, &[4.0, 8.0, 4.0]);
        check(
            &h,
            Keep::Below,
            6.0,
            "{{schema:-53 count:8 sum:28 custom_values:[4 8] buckets:[4 4]}}",
        );
        check(
            &h,
            Keep::Above,
            7.0,
            "{{schema:-53 count:6 sum:47 custom_values:[4 8] offset:1 buckets:[2 4]}}",
        );
        check(&h, Keep::Below, f64::INFINITY, &h.test_expression());
        check(&h, Keep::Above, f64::INFINITY, "{{schema:-53 custom_values:[4 8]}}");
    }

    #[test]
    fn exponential_buckets_split_by_logarithm_and_an_untouched_sum_stays() {
        let h = exponential(0, 8.0, 99.0, 1, &[4.0, 4.0]);
        check(&h, Keep::Below, 4.0, "{{count:8 sum:99 offset:1 buckets:[4 4]}}");
        check(&h, Keep::Above, 4.0, "{{}}");
        let mut split = h.clone();
        split.trim_above(8f64.sqrt());
        assert_eq!((split.count, split.positive_buckets), (6.0, vec![4.0, 2.0]));
    }
}
