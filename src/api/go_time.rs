//! Times as Go's JSON encoder writes them: RFC 3339 in UTC, fractions without trailing
//! zeros, and year 1 for "never".

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::model::TimestampMs;

/// A point in time; `None` is Go's zero time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoTime(pub(crate) Option<TimestampMs>);

impl std::fmt::Display for GoTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(time) = self.0.and_then(DateTime::<Utc>::from_timestamp_millis) else {
            return f.write_str("0001-01-01T00:00:00Z");
        };
        let text = time.to_rfc3339_opts(SecondsFormat::Millis, false);
        let seconds = &text[..text.len() - "+00:00".len()];
        let trimmed = match seconds.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|b| b == b'0') => whole,
            Some(_) => seconds.trim_end_matches('0'),
            None => seconds,
        };
        write!(f, "{trimmed}Z")
    }
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_lose_their_trailing_zeros() {
        for (ms, expected) in [
            (None, "0001-01-01T00:00:00Z"),
            (Some(0), "1970-01-01T00:00:00Z"),
            (Some(1_435_781_451_781), "2015-07-01T20:10:51.781Z"),
            (Some(1_435_781_451_700), "2015-07-01T20:10:51.7Z"),
            (Some(1_435_781_460_000), "2015-07-01T20:11:00Z"),
        ] {
            assert_eq!(GoTime(ms).to_string(), expected);
        }
    }
}
