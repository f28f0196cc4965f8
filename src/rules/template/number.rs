//! Go literals: numbers as `strconv` reads them, and quoted strings.

/// Quotes as `strconv.Quote` does.
pub(super) fn go_quote(text: &str) -> String {
    crate::model::labels::quote(text)
}

/// A number of a template. Its type depends on where it is used, so every type it can
/// take is kept, as for Go's untyped constants.
#[derive(Clone, Debug, Default)]
pub(super) struct Number {
    /// As written.
    pub text: String,
    pub int: Option<i64>,
    pub uint: Option<u64>,
    pub float: Option<f64>,
    pub complex: Option<(f64, f64)>,
}

impl Number {
    /// Reads a number, an imaginary number or a complex constant. The error is Go's.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut number = Self { text: text.to_owned(), ..Self::default() };
        if let Some(imaginary) = text.strip_suffix('i') {
            let split = imaginary
                .rmatch_indices(['+', '-'])
                .map(|(i, _)| i)
                .find(|i| *i > 0 && !imaginary[..*i].ends_with(['e', 'E', 'p', 'P']))
                .unwrap_or(0);
            let (real, imaginary) = imaginary.split_at(split);
            let real = if real.is_empty() { Ok(0.0) } else { parse_float(real) };
            if let (Ok(real), Ok(imaginary)) = (real, parse_float(imaginary)) {
                number.set_complex(real, imaginary);
                return Ok(number);
            }
        }
        number.uint = parse_int(text).and_then(|(neg, v)| if neg { None } else { Some(v) });
        number.int = parse_int(text).and_then(|(neg, v)| signed(neg, v));
        if text.starts_with('+') {
            // An unsigned number takes no sign.
            number.uint = None;
        }
        if number.int == Some(0) {
            number.uint = Some(0);
        }
        number.float = number.int.map(|i| i as f64).or(number.uint.map(|u| u as f64));
        if number.float.is_none()
            && let Ok(float) = parse_float(text)
        {
            if !text.contains(['.', 'e', 'E', 'p', 'P']) {
                return Err(format!("integer overflow: {}", go_quote(text)));
            }
            number.set_float(float);
        }
        if number.float.is_none() {
            return Err(format!("illegal number syntax: {}", go_quote(text)));
        }
        Ok(number)
    }

    /// A character constant with its quotes: all three types at once.
    pub(super) fn parse_char(text: &str) -> Result<Self, String> {
        let inner = &text[1..];
        let mut bytes = Vec::new();
        let (c, used) = unquote_char(inner, '\'', &mut bytes).ok_or("invalid syntax")?;
        if &inner[used..] != "'" {
            return Err(format!("malformed character constant: {text}"));
        }
        Ok(Self {
            text: text.to_owned(),
            int: Some(i64::from(c)),
            uint: Some(u64::from(c)),
            float: Some(f64::from(c)),
            complex: None,
        })
    }

    fn set_float(&mut self, float: f64) {
        self.float = Some(float);
        if (float as i64) as f64 == float {
            self.int = Some(float as i64);
        }
        if (float as u64) as f64 == float {
            self.uint = Some(float as u64);
        }
    }

    fn set_complex(&mut self, real: f64, imaginary: f64) {
        self.complex = Some((real, imaginary));
        if imaginary == 0.0 {
            self.set_float(real);
        }
    }
}

fn signed(negative: bool, magnitude: u64) -> Option<i64> {
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Sign and magnitude of an integer literal with Go's prefixes and underscores.
fn parse_int(text: &str) -> Option<(bool, u64)> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // An underscore stands between digits, or right after a prefix.
    let prefixed = body.len() < lower.len();
    if body.ends_with('_') || body.contains("__") || (body.starts_with('_') && !prefixed) {
        return None;
    }
    let clean: String = body.chars().filter(|c| *c != '_').collect();
    if clean.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(&clean, radix).ok().map(|v| (negative, v))
}

/// Why `strconv.ParseFloat` refuses a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FloatError {
    Syntax,
    Range,
}

impl FloatError {
    /// The text of Go's error for `input`.
    pub(super) fn text(self, input: &str) -> String {
        let why = match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        };
        format!("strconv.ParseFloat: parsing {}: {why}", go_quote(input))
    }
}

/// As `strconv.ParseFloat(text, 64)`.
pub(super) fn parse_float(text: &str) -> Result<f64, FloatError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let lower = unsigned.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return parse_hex_float(hex).map(|v| if negative { -v } else { v });
    }
    match lower.as_str() {
        "inf" | "infinity" => return Ok(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        "nan" if unsigned.len() == text.len() => return Ok(f64::NAN),
        _ => {}
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(FloatError::Syntax);
    }
    let value: f64 = text.parse().map_err(|_| FloatError::Syntax)?;
    if value.is_infinite() { Err(FloatError::Range) } else { Ok(value) }
}

/// `1.8p3` after its `0x`; the exponent is a must.
fn parse_hex_float(text: &str) -> Result<f64, FloatError> {
    let (mantissa, exponent) = text.split_once('p').ok_or(FloatError::Syntax)?;
    let clean: String = mantissa.chars().filter(|c| *c != '_').collect();
    let (whole, fraction) = clean.split_once('.').unwrap_or((&clean, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(FloatError::Syntax);
    }
    let sign_ok = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if sign_ok.is_empty() || !sign_ok.bytes().all(|b| b.is_ascii_digit()) {
        return Err(FloatError::Syntax);
    }
    let mut exponent: i64 = exponent.parse().unwrap_or(100_000).clamp(-100_000, 100_000);
    let mut bits: u64 = 0;
    let mut started = false;
    for (i, c) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = c.to_digit(16).ok_or(FloatError::Syntax)?;
        started |= digit != 0;
        if i >= whole.len() {
            exponent -= 4;
        }
        if bits >> 60 != 0 {
            // No room: the digit only matters for rounding.
            bits |= u64::from(digit != 0);
            exponent += 4;
        } else if started {
            bits = bits << 4 | u64::from(digit);
        }
    }
    // Two steps, so that a result in the subnormal range is rounded once.
    let half = i32::try_from(exponent / 2).unwrap_or(0);
    let rest = i32::try_from(exponent).unwrap_or(0) - half;
    let value = bits as f64 * 2f64.powi(half) * 2f64.powi(rest);
    if value.is_infinite() { Err(FloatError::Range) } else { Ok(value) }
}

/// As `strconv.Unquote` for `"..."` and back-quoted strings. Bytes that are no UTF-8
/// become the replacement character, as every reader of the output would show them.
pub(super) fn unquote(text: &str) -> Option<String> {
    let inner = text.get(1..text.len().checked_sub(1)?)?;
    if text.starts_with('`') {
        return Some(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let (_, used) = unquote_char(rest, '"', &mut bytes)?;
        rest = &rest[used..];
    }
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(fault) => String::from_utf8_lossy(fault.as_bytes()).into_owned(),
    })
}

/// Decodes the first character of a quoted text into `out`: its code and the bytes it
/// took. `None` for what Go calls invalid syntax.
fn unquote_char(text: &str, quote: char, out: &mut Vec<u8>) -> Option<(u32, usize)> {
    let mut chars = text.chars();
    let first = chars.next()?;
    let push = |out: &mut Vec<u8>, c: char| {
        let mut buffer = [0; 4];
        out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    };
    if first == quote {
        return None;
    }
    if first != '\\' {
        push(out, first);
        return Some((first as u32, first.len_utf8()));
    }
    let escape = chars.next()?;
    let hex = |len: usize| {
        let digits = text.get(2..2 + len)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok()
    };
    let simple = match escape {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => 10,
        'r' => 13,
        't' => 9,
        'v' => 11,
        '\\' => 92,
        '\'' | '"' if escape == quote => escape as u32,
        'x' => {
            let byte = hex(2)?;
            out.push(u8::try_from(byte).ok()?);
            return Some((byte, 4));
        }
        'u' | 'U' => {
            let len = if escape == 'u' { 4 } else { 8 };
            let code = hex(len)?;
            push(out, char::from_u32(code)?);
            return Some((code, 2 + len));
        }
        '0'..='7' => {
            let digits = text.get(1..4)?;
            let code = u32::from_str_radix(digits, 8).ok()?;
            out.push(u8::try_from(code).ok()?);
            return Some((code, 4));
        }
        _ => return None,
    };
    out.push(u8::try_from(simple).ok()?);
    Some((simple, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_go_reads_them() {
        for (text, expected) in [
            ("1", Ok(1.0)),
            (".12", Ok(0.12)),
            ("1.", Ok(1.0)),
            ("-Inf", Ok(f64::NEG_INFINITY)),
            ("+infinity", Ok(f64::INFINITY)),
            ("0x1p-2", Ok(0.25)),
            ("0x.8p1", Ok(1.0)),
            ("1e999", Err(FloatError::Range)),
            ("one", Err(FloatError::Syntax)),
            ("", Err(FloatError::Syntax)),
            ("-nan", Err(FloatError::Syntax)),
            ("0x10", Err(FloatError::Syntax)),
            (" 1", Err(FloatError::Syntax)),
            ("1_0", Err(FloatError::Syntax)),
        ] {
            assert_eq!(parse_float(text), expected, "{text}");
        }
    }

    #[test]
    fn integers_take_prefixes_and_underscores() {
        for (text, expected) in [
            ("0x1F", Some(31)),
            ("0b101", Some(5)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("1_000", Some(1000)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
        ] {
            assert_eq!(Number::parse(text).map(|n| n.int), Ok(expected), "{text}");
        }
        for text in ["1__0", "_1", "1_", "08", "0x", "99999999999999999999"] {
            assert!(Number::parse(text).is_err(), "{text}");
        }
        assert_eq!(Number::parse("1e3").map(|n| n.int), Ok(Some(1000)));
        assert_eq!(Number::parse("1+2i").map(|n| n.complex), Ok(Some((1.0, 2.0))));
    }

    #[test]
    fn strings_unquote_as_go_does() {
        for (text, expected) in [
            (r#""a\tb\"c""#, Some("a\tb\"c")),
            (r#""\u00e9\xc3\xa9\303\251""#, Some("ééé")),
            ("`a\\n`", Some("a\\n")),
            (r#""\'""#, None),
            (r#""\q""#, None),
            (r#""\ud800""#, None),
        ] {
            assert_eq!(unquote(text).as_deref(), expected, "{text}");
        }
    }
}
