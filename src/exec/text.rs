//! Numbers in messages, as Go prints them.

use chrono::DateTime;

use crate::model::TimestampMs;
pub(crate) use crate::model::float::{fixed as format_f, general as format_g};

/// Go's `%.2g`: two significant digits.
pub(crate) fn format_2g(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return format_g(v);
    }
    let rounded: f64 = format!("{v:.1e}").parse().unwrap_or(v);
    let exponent = rounded.abs().log10().floor() as i32;
    if (-4..2).contains(&exponent) {
        return format!("{rounded}");
    }
    let scientific = format!("{rounded:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A float as OpenMetrics writes it in label values: `0.5`, `1.0`, `NaN`.
pub(crate) fn format_openmetrics(v: f64) -> String {
    if !v.is_finite() {
        return format_f(v);
    }
    let text = format_g(v);
    if text.contains(['e', '.']) { text } else { format!("{text}.0") }
}

/// A time as RFC 3339 in UTC, without fractions: cut towards zero, as Go divides.
pub(crate) fn format_time(ms: TimestampMs) -> String {
    DateTime::from_timestamp(ms / 1000, 0)
        .map_or_else(|| ms.to_string(), |t| t.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_go() {
        for (v, expected) in
            [(0.123, "0.12"), (10.0, "10"), (123.0, "1.2e+02"), (0.00001, "1e-05"), (1.0, "1")]
        {
            assert_eq!(format_2g(v), expected);
        }
        assert_eq!(format_openmetrics(1.0), "1.0");
        assert_eq!(format_openmetrics(0.99), "0.99");
        assert_eq!(format_f(f64::NEG_INFINITY), "-Inf");
        assert_eq!(format_time(60_000), "1970-01-01T00:01:00Z");
        assert_eq!(format_time(-1_001), "1969-12-31T23:59:59Z");
    }
}
