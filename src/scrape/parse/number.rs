//! Numbers as Go reads and writes them.

use crate::model::value::NORMAL_NAN_BITS;

/// Reads a float: Go's syntax without underscores and hexadecimal. Overflow is an error;
/// NaN is the one Prometheus stores.
pub(super) fn parse(text: &[u8]) -> Result<f64, String> {
    if let Some(small) = small_integer(text) {
        return Ok(small);
    }
    let failed = |why: &str| {
        let shown = super::excerpt(text);
        Err(format!("strconv.ParseFloat: parsing {shown}: {why}"))
    };
    if text.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err("unsupported character in float".into());
    }
    let Some(value) = std::str::from_utf8(text).ok().and_then(|t| t.parse::<f64>().ok()) else {
        return failed("invalid syntax");
    };
    let letters = text.iter().any(|b| matches!(b, b'n' | b'N'));
    if value.is_nan() {
        // Go knows no signed NaN.
        let signed = matches!(text.first(), Some(b'+' | b'-'));
        return if signed { failed("invalid syntax") } else { Ok(f64::from_bits(NORMAL_NAN_BITS)) };
    }
    if value.is_infinite() && !letters {
        return failed("value out of range");
    }
    Ok(value)
}

/// Up to fifteen digits: most samples, and exact in a float.
fn small_integer(text: &[u8]) -> Option<f64> {
    if text.is_empty() || text.len() > 15 {
        return None;
    }
    let mut value = 0u64;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    Some(value as f64)
}

/// Writes a bucket bound or quantile the way OpenMetrics wants it: shortest digits, an
/// exponent below 1e-4 and from 1e6 on (`1e+06`), otherwise with a fraction (`1.0`).
pub fn format_label_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("+1.5e3", Some(1500.0)),
            (".5", Some(0.5)),
            ("1.", Some(1.0)),
            ("-Inf", Some(f64::NEG_INFINITY)),
            ("+inf", Some(f64::INFINITY)),
            ("1e308", Some(1e308)),
            ("1e309", None),
            ("0x1p4", None),
            ("1_000", None),
            ("-NaN", None),
            ("", None),
            ("abc", None),
            ("1 ", None),
        ] {
            assert_eq!(parse(text.as_bytes()).ok(), expected, "{text}");
        }
        assert_eq!(parse(b"NaN").unwrap().to_bits(), NORMAL_NAN_BITS);
    }

    #[test]
    fn label_floats_are_written_as_openmetrics_wants_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-1.0, "-1.0"),
            (0.005, "0.005"),
            (0.00001, "1e-05"),
            (100_000.0, "100000.0"),
            (1_000_000.0, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(format_label_float(value), expected);
        }
    }
}
