//! JSON as Go's encoder lays it out, for everything but query results: `<`, `>` and `&`
//! are escaped, floats have Go's layout. Clients would read plain JSON just as well; the
//! point is that answers can be compared with Prometheus' own, byte for byte.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::model::float;

/// Serializes a value that has only string keys and finite floats.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    value
        .serialize(&mut Serializer::with_formatter(&mut out, GoFormatter))
        .expect("BUG: answers serialize and a Vec takes any write");
    out
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let mut text = String::new();
        float::push_sample_value(&mut text, value);
        writer.write_all(text.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (head, tail) = rest.split_at(at);
            let c = tail.chars().next().unwrap_or_default();
            writer.write_all(head.as_bytes())?;
            write!(writer, "\\u{:04x}", c as u32)?;
            rest = &tail[c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Appends a JSON string without escaping for HTML: the layout of label sets.
pub(crate) fn push_string(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    let mut start = 0;
    for (i, b) in text.bytes().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.push_str(&text[start..i]);
        start = i + 1;
        match b {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b => write!(out, "\\u{b:04x}").expect("BUG: writing to a String cannot fail"),
        }
    }
    out.push_str(&text[start..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_and_floats_are_laid_out_as_go_does() {
        for (value, expected) in [
            (json!("up > 0 & \"x\"\n\u{2028}é"), r#""up \u003e 0 \u0026 \"x\"\n\u2028é""#),
            (json!(0.0), "0"),
            (json!(60.0), "60"),
            (json!(0.000123), "0.000123"),
            (json!(1e-7), "1e-07"),
            (json!({"b": 1, "a": ["<"]}), r#"{"a":["\u003c"],"b":1}"#),
        ] {
            assert_eq!(String::from_utf8(to_json(&value)).unwrap(), expected);
        }
    }

    #[test]
    fn label_values_are_escaped_only_where_json_needs_it() {
        let mut out = String::new();
        push_string(&mut out, "a<b>\"\\\u{1}\u{7f}\té");
        assert_eq!(out, "\"a<b>\\\"\\\\\\u0001\u{7f}\\té\"");
    }
}
