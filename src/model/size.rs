//! Sizes in bytes as text: `10MiB`, for configuration files.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

const UNITS: [(&str, u64); 7] = [
    ("EiB", 1 << 60),
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Bytes of a size text; `None` when it is none.
pub fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() && rest != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(0);
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = rest[..end].replace('i', "");
        let (_, factor) = UNITS.iter().find(|(name, _)| name.replace('i', "") == unit)?;
        total += number * *factor as f64;
        rest = &rest[end..];
    }
    (total < u64::MAX as f64).then_some(total as u64)
}

/// `10MiB`; several units where needed.
pub fn format(bytes: u64) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    for (name, factor) in UNITS {
        if rest >= factor {
            out.push_str(&format!("{}{name}", rest / factor));
            rest %= factor;
        }
    }
    if out.is_empty() { "0B".into() } else { out }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let text = String::deserialize(d)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!("units: invalid {text:?}: write a size such as 10MB or 1GiB"))
    })
}

pub(crate) fn serialize<S: Serializer>(bytes: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&format(*bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_round_trip() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("15MB", Some(15 << 20)),
            ("1GiB512KiB", Some((1 << 30) + (512 << 10))),
            ("1.5KB", Some(1536)),
            ("10", None),
            ("MB", None),
            ("", None),
            ("10XB", None),
        ] {
            assert_eq!(super::parse(text), bytes, "{text}");
        }
        assert_eq!(super::format((1 << 30) + 1), "1GiB1B");
    }
}
