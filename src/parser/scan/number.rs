//! Where a number or duration ends, however odd: the lexer is looser than the values.

use super::{Kind, is_alnum};

/// Length of the number or duration at the start of `text`; in series notation there are
/// no hexadecimals and `x` may follow. On failure how far the lexer looked.
pub(in crate::parser) fn cut_number(text: &str, in_series: bool) -> Result<(Kind, usize), usize> {
    let bytes = text.as_bytes();
    let number = scan_number(bytes, in_series);
    if let Ok(len) = number {
        return Ok((Kind::Number, len));
    }
    let mut pos = number.unwrap_or_else(|looked| looked);
    let accept = |pos: &mut usize, set: &[u8]| {
        let hit = bytes.get(*pos).is_some_and(|b| set.contains(b));
        *pos += usize::from(hit);
        hit
    };
    if !accept(&mut pos, b"smhdwy") {
        return Err(pos);
    }
    accept(&mut pos, b"s");
    while accept(&mut pos, b"0123456789") {
        while accept(&mut pos, b"0123456789") {}
        if !accept(&mut pos, b"smhdw") {
            return Err(pos);
        }
        accept(&mut pos, b"s");
    }
    match text[pos..].chars().next() {
        Some('x') if in_series => Ok((Kind::Duration, pos)),
        Some(c) if is_alnum(c) => Err(pos + c.len_utf8()),
        _ => Ok((Kind::Duration, pos)),
    }
}

/// Prometheus' loose number scanner: `Err` is where it stopped.
fn scan_number(bytes: &[u8], in_series: bool) -> Result<usize, usize> {
    let at = |pos: usize| bytes.get(pos).copied();
    let is = |pos: usize, set: &[u8]| at(pos).is_some_and(|b| set.contains(&b));
    let mut pos = 0;
    let hexadecimal = !in_series && at(0) == Some(b'0') && is(1, b"xX");
    let digit = |pos: usize| match at(pos) {
        Some(b) if hexadecimal => b.is_ascii_hexdigit(),
        Some(b) => b.is_ascii_digit(),
        None => false,
    };
    if hexadecimal {
        pos = 2 + usize::from(is(2, b"_"));
    }
    let (mut dot, mut exponent) = (false, false);
    loop {
        while digit(pos) {
            pos += 1;
        }
        match at(pos) {
            Some(b'.') => {
                if dot || hexadecimal {
                    return Err(pos + 1);
                }
                dot = true;
                pos += 1;
                if is(pos, b"_.") {
                    return Err(pos + 1);
                }
            }
            Some(b'e' | b'E') if !hexadecimal => {
                if exponent {
                    return Err(pos + 1);
                }
                exponent = true;
                pos += 1;
                pos += usize::from(is(pos, b"+-"));
                if is(pos, b"._eE") {
                    return Err(pos + 1);
                }
                if at(pos).is_none() {
                    return Err(pos);
                }
            }
            Some(b'_') => {
                pos += 1;
                if is(pos, b"._eE") {
                    return Err(pos + 1);
                }
                if at(pos).is_none() {
                    return Err(pos);
                }
            }
            _ => break,
        }
    }
    match at(pos) {
        Some(b'x') if in_series => Ok(pos),
        Some(b) if is_alnum(b as char) => Err(pos),
        _ => Ok(pos),
    }
}
