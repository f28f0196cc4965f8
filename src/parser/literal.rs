//! Values of literal tokens: numbers, durations, quoted strings. Shared by the builder and
//! the scanner, so that both refuse the same texts with the same words.

use crate::model::duration::{DurationError, parse_duration};
use crate::model::labels::quote;
use crate::model::value::NORMAL_NAN_BITS;

/// The value of a number token: Go's `ParseInt(text, 0, 64)`, then `ParseFloat`. A leading
/// zero therefore makes an octal number. The error is Go's.
pub(super) fn number(text: &str) -> Result<f64, String> {
    if text.eq_ignore_ascii_case("inf") {
        return Ok(f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Ok(f64::from_bits(NORMAL_NAN_BITS));
    }
    let refused = |why| Err(format!("strconv.ParseFloat: parsing {}: {why}", quote(text)));
    if !underscores_separate_digits(text) {
        return refused("invalid syntax");
    }
    let digits = text.replace('_', "");
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    if let Some(hexadecimal) = hexadecimal {
        return match i64::from_str_radix(hexadecimal, 16) {
            Ok(value) => Ok(value as f64),
            Err(_) => refused("invalid syntax"),
        };
    }
    let octal = digits.len() > 1 && digits.starts_with('0');
    let radix = if octal { 8 } else { 10 };
    if digits.bytes().all(|b| b.is_ascii_digit())
        && let Ok(value) = i64::from_str_radix(&digits, radix)
    {
        return Ok(value as f64);
    }
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => refused("value out of range"),
        Err(_) => refused("invalid syntax"),
    }
}

/// Go's rule for underscores in numbers: between digits, or after the `0x` prefix.
fn underscores_separate_digits(text: &str) -> bool {
    if !text.contains('_') {
        return true;
    }
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let body = if hexadecimal { &text[2..] } else { text };
    let mut before_is_digit = hexadecimal;
    let mut before_is_underscore = false;
    for b in body.bytes() {
        let digit = b.is_ascii_digit() || (hexadecimal && b.is_ascii_hexdigit());
        match b {
            b'_' if !before_is_digit => return false,
            _ if before_is_underscore && !digit => return false,
            _ => {}
        }
        before_is_underscore = b == b'_';
        before_is_digit = digit;
    }
    !before_is_underscore
}

/// The value of a duration token in seconds.
pub(super) fn duration_seconds(text: &str) -> Result<f64, DurationError> {
    Ok(parse_duration(text)? as f64 / 1000.0)
}

/// The text that the string at the start of `token` stands for. Bytes written as `\x..`
/// or octal that do not make up UTF-8 become U+FFFD, since label values and results are
/// text. The error is the message of Prometheus' lexer.
pub(super) fn unquote(token: &str) -> Result<String, String> {
    let open = token.chars().next().ok_or("unterminated quoted string")?;
    if open == '`' {
        let body = &token[1..];
        let end = body.find(['`', '\u{FFFD}']).ok_or("unterminated raw string")?;
        if body[end..].starts_with('\u{FFFD}') {
            return Err("invalid UTF-8 rune".into());
        }
        return Ok(body[..end].to_owned());
    }
    let body = &token[1..];
    let mut out = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    loop {
        match chars.next() {
            None | Some('\n') => return Err("unterminated quoted string".into()),
            Some(c) if c == open => break,
            Some('\u{FFFD}') => return Err("invalid UTF-8 rune".into()),
            Some('\\') => escape(&mut chars, open, &mut out)?,
            Some(c) => push_char(&mut out, c),
        }
    }
    Ok(match String::from_utf8(out) {
        Ok(text) => text,
        Err(broken) => String::from_utf8_lossy(broken.as_bytes()).into_owned(),
    })
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Reads what follows a backslash: Go's escapes, with only the string's own quote escapable.
fn escape(chars: &mut std::str::Chars<'_>, open: char, out: &mut Vec<u8>) -> Result<(), String> {
    const UNTERMINATED: &str = "escape sequence not terminated";
    let kind = chars.next().ok_or(UNTERMINATED)?;
    let plain = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        c if c == open => c as u8,
        _ => 0,
    };
    if plain != 0 {
        out.push(plain);
        return Ok(());
    }
    let (digits, radix, bytes) = match kind {
        '0'..='7' => (3, 8, true),
        'x' => (2, 16, true),
        'u' => (4, 16, false),
        'U' => (8, 16, false),
        c => return Err(format!("unknown escape sequence {}", go_rune(c))),
    };
    let mut value = if radix == 8 { kind.to_digit(8).unwrap_or(0) } else { 0 };
    for _ in usize::from(radix == 8)..digits {
        let c = chars.next().ok_or(UNTERMINATED)?;
        let Some(digit) = c.to_digit(radix) else {
            return Err(format!("illegal character {} in escape sequence", go_rune(c)));
        };
        value = value.wrapping_mul(radix).wrapping_add(digit);
    }
    match (bytes, u8::try_from(value), char::from_u32(value)) {
        (true, Ok(byte), _) => out.push(byte),
        (false, _, Some(c)) => push_char(out, c),
        _ => return Err("escape sequence is an invalid Unicode code point".into()),
    }
    Ok(())
}

/// A character as Go's `%#U` prints it: `U+0063 'c'`.
fn go_rune(c: char) -> String {
    let code = c as u32;
    if c.is_control() { format!("U+{code:04X}") } else { format!("U+{code:04X} '{c}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("1", 1.0),
            ("5.", 5.0),
            (".5", 0.5),
            ("1e-3", 0.001),
            ("0755", 493.0),
            ("0_7", 7.0),
            ("08", 8.0),
            ("0x1F", 31.0),
            ("0X_1fff", 8191.0),
            ("1_000", 1000.0),
            ("1_0.0_1", 10.01),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
            ("Inf", f64::INFINITY),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert!(number("NaN").is_ok_and(f64::is_nan));
        for text in ["1__0", "_1", "1_", "1_.5", "0x", "0xfffffffffffffffff", "1e400", "1e5.5"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn strings_are_unquoted_as_go_does() {
        for (token, value) in [
            (r#""a\"b""#, "a\"b"),
            (r"'a\'b'", "a'b"),
            (r"`a\b`", r"a\b"),
            (r#""\xc3\xa4\u00e4\344""#, "ää\u{FFFD}"),
            (r#""\U0001F600\101""#, "😀A"),
        ] {
            assert_eq!(unquote(token).as_deref(), Ok(value), "{token}");
        }
        for (token, message) in [
            (r#""\c""#, "unknown escape sequence U+0063 'c'"),
            (r#""\'""#, "unknown escape sequence U+0027 '''"),
            (r#""\x.""#, "illegal character U+002E '.' in escape sequence"),
            (r#""\"#, "escape sequence not terminated"),
            (r#""\ud800""#, "escape sequence is an invalid Unicode code point"),
            (r#""\777""#, "escape sequence is an invalid Unicode code point"),
            (r#""abc"#, "unterminated quoted string"),
            ("`abc", "unterminated raw string"),
        ] {
            assert_eq!(unquote(token), Err(message.to_owned()), "{token}");
        }
    }
}
