//! Prometheus durations: `1h30m`, units y w d h m s ms, each at most once, largest first.
//! A year is 365 days and a week 7. Parsed and printed here because `humantime`
//! accepts and prints other forms (`5m 30s`, `1month`, a year of 365.25 days).

use thiserror::Error;

/// Units from largest to smallest, in milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Longest duration in ms: what Go's `time.Duration` (nanoseconds in an `int64`) holds.
pub const DURATION_MAX_MS: i64 = i64::MAX / 1_000_000;

/// Why a duration was refused; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {}", super::labels::quote(.0))]
    Invalid(String),
    #[error("duration out of range")]
    OutOfRange,
}

/// Parses a Prometheus duration into milliseconds. `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        if digits == 0 {
            return Err(invalid());
        }
        let unit = &rest[digits..digits + letters];
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let count: i64 = rest[..digits].parse().map_err(|_| DurationError::OutOfRange)?;
        total = count
            .checked_mul(*factor)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= DURATION_MAX_MS)
            .ok_or(DurationError::OutOfRange)?;
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// Parses a duration that may carry a leading `-`.
pub fn parse_signed_duration(text: &str) -> Result<i64, DurationError> {
    match text.strip_prefix('-') {
        Some(rest) => Ok(-parse_duration(rest)?),
        None => parse_duration(text),
    }
}

/// Prints as Prometheus does: years and weeks only where they divide the duration, then
/// days to milliseconds; `0s` for zero.
pub fn format_duration(ms: i64) -> String {
    use std::fmt::Write;
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms.unsigned_abs();
    if ms < 0 {
        out.push('-');
    }
    for (name, factor) in UNITS {
        let factor = factor.unsigned_abs();
        let exact_only = matches!(name, "y" | "w");
        if rest < factor || (exact_only && !rest.is_multiple_of(factor)) {
            continue;
        }
        write!(out, "{}{name}", rest / factor).expect("BUG: writing to a String cannot fail");
        rest %= factor;
    }
    out
}

/// Durations in configuration files: written as text, held in milliseconds. For
/// `#[serde(with = "...")]`.
pub mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Reads `1m30s`; absent and empty are refused as Prometheus refuses them.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
        super::parse_duration(&String::deserialize(d)?).map_err(D::Error::custom)
    }

    /// Prints as Prometheus prints durations.
    pub fn serialize<S: Serializer>(ms: &i64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::format_duration(*ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for (text, ms) in [
            ("0", 0),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1y2w3d4h5m6s7ms", 31_536_000_000 + 1_209_600_000 + 273_906_007),
            ("90s", 90_000),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for (ms, text) in [
            (0, "0s"),
            (90_000, "1m30s"),
            (604_800_000, "1w"),
            (691_200_000, "8d"),
            (-1500, "-1s500ms"),
        ] {
            assert_eq!(format_duration(ms), text);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["5", "5m 30s", "30s5m", "1.5h", "m", "5min", "1M", "-5m", "5m5m"] {
            assert_eq!(parse_duration(text), Err(DurationError::Invalid(text.into())), "{text}");
        }
        assert_eq!(parse_duration("99999999y"), Err(DurationError::OutOfRange));
        assert_eq!(parse_duration(""), Err(DurationError::Empty));
    }
}
