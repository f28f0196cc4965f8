//! ULIDs, which name blocks: 48 bits of milliseconds and 80 random ones, in 26 characters of
//! Crockford's base 32, so that names sort by the time they were given.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::model::TimestampMs;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LEN: usize = 26;

/// The name of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

/// A text is not the name of a block.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a ULID: 26 characters of Crockford's base 32")]
pub struct NotUlid(String);

impl Ulid {
    /// A new name given at a time.
    pub(crate) fn new(now_ms: TimestampMs) -> Self {
        let ms = now_ms.clamp(0, (1 << 48) - 1).unsigned_abs();
        let random = rand::random::<u128>() & ((1 << 80) - 1);
        Self(u128::from(ms) << 80 | random)
    }

    /// When it was given.
    pub fn time_ms(self) -> TimestampMs {
        (self.0 >> 80) as TimestampMs
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in (0..LEN).rev() {
            let digit = ALPHABET[(self.0 >> (5 * i) & 31) as usize];
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

impl FromStr for Ulid {
    type Err = NotUlid;

    fn from_str(text: &str) -> Result<Self, NotUlid> {
        let not = || NotUlid(text.chars().take(64).collect());
        if text.len() != LEN {
            return Err(not());
        }
        let mut value = 0u128;
        for (i, c) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|d| *d == c.to_ascii_uppercase());
            let digit = digit.filter(|d| i > 0 || *d < 8).ok_or_else(not)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self(value))
    }
}

impl Serialize for Ulid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ulid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sort_by_time() {
        let known = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let ulid: Ulid = known.parse().unwrap();
        assert_eq!((ulid.to_string(), ulid.time_ms()), (known.to_owned(), 1_469_922_850_259));
        let (early, late) = (Ulid::new(1_000), Ulid::new(1_001));
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        for bad in ["", "wal", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU"] {
            assert!(bad.parse::<Ulid>().is_err(), "{bad}");
        }
    }
}
