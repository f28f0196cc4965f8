//! Where buckets begin and end.

use std::sync::LazyLock;

use super::{CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX};

/// `2^(i / 2^8) / 2`: fractions of the bounds of the finest schema; coarser ones take
/// every second, fourth, ... of them.
static FRACTIONS: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..256).map(|i| (f64::from(i) / 256.0 - 1.0).exp2()).collect());

/// Upper bound of positive bucket `index`. The last bucket of regular numbers ends at
/// `f64::MAX`, so that the one after it counts infinities. With custom bounds, an index
/// below 0 gives -Inf and one past the bounds +Inf.
pub fn bound(index: i32, schema: i32, custom_values: &[f64]) -> f64 {
    if schema == CUSTOM_BUCKETS_SCHEMA {
        return match usize::try_from(index) {
            Err(_) => f64::NEG_INFINITY,
            Ok(i) => custom_values.get(i).copied().unwrap_or(f64::INFINITY),
        };
    }
    if schema <= 0 {
        let exponent = i64::from(index) << schema.unsigned_abs().min(31);
        return if exponent == 1024 { f64::MAX } else { ldexp(1.0, exponent) };
    }
    let schema = schema.min(EXPONENTIAL_SCHEMA_MAX);
    let within = index & ((1 << schema) - 1);
    let fraction = FRACTIONS[(within << (EXPONENTIAL_SCHEMA_MAX - schema)) as usize];
    let exponent = i64::from(index >> schema) + 1;
    if within == 0 && exponent == 1025 { f64::MAX } else { ldexp(fraction, exponent) }
}

/// `fraction * 2^exponent` without overflow on the way; rounds once.
fn ldexp(fraction: f64, exponent: i64) -> f64 {
    let exponent = exponent.clamp(-2200, 2200) as i32;
    let half = exponent / 2;
    if exponent.abs() <= 1000 {
        return fraction * 2f64.powi(exponent);
    }
    // Four factors, so that each of them is a normal number.
    let quarter = half / 2;
    fraction
        * 2f64.powi(quarter)
        * 2f64.powi(half - quarter)
        * 2f64.powi(quarter)
        * 2f64.powi(exponent - half - quarter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_and_the_last_regular_bucket_ends_at_the_largest_number() {
        for (index, schema, expected) in [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-1, 0, 0.5),
            (1, 1, 2f64.sqrt()),
            (-3, 1, 2f64.powf(-1.5)),
            (2, -1, 16.0),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (512, -1, f64::MAX),
            (2048, 1, f64::MAX),
            (-1074, 0, 5e-324),
        ] {
            assert_eq!(bound(index, schema, &[]), expected, "{index} at schema {schema}");
        }
        let custom = |i| bound(i, CUSTOM_BUCKETS_SCHEMA, &[1.0, 5.0]);
        assert_eq!([-1, 0, 1, 2].map(custom), [f64::NEG_INFINITY, 1.0, 5.0, f64::INFINITY]);
    }
}
