//! Floats as text, laid out as Go's `strconv.FormatFloat(v, c, -1, 64)` does: Prometheus'
//! wire formats, error texts and templates all print numbers with it. The shortest
//! digits that read back as the same float come from `zmij`; only the layout is ours.

use std::fmt::Write;

/// The shortest decimal digits of a finite float: `0.DIGITS * 10^point`.
struct Decimal {
    negative: bool,
    digits: [u8; 24],
    len: usize,
    point: i32,
}

impl Decimal {
    fn new(v: f64) -> Self {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(v);
        let mut out = Self { negative: v.is_sign_negative(), digits: [0; 24], len: 0, point: 0 };
        let mut exponent = 0;
        let mut seen_point = false;
        let mut bytes = text.bytes();
        while let Some(b) = bytes.next() {
            match b {
                b'-' => {}
                b'.' => seen_point = true,
                b'e' | b'E' => {
                    let rest = &text[text.len() - bytes.len()..];
                    exponent = rest.parse().expect("BUG: zmij writes a decimal exponent");
                    break;
                }
                // Leading zeros carry no digit, but those after the point move it.
                b'0' if out.len == 0 => out.point -= i32::from(seen_point),
                digit => {
                    out.digits[out.len] = digit;
                    out.len += 1;
                    out.point += i32::from(!seen_point);
                }
            }
        }
        while out.len > 0 && out.digits[out.len - 1] == b'0' {
            out.len -= 1;
        }
        if out.len == 0 {
            out.digits[0] = b'0';
            (out.len, out.point) = (1, 1);
        } else {
            out.point += exponent;
        }
        out
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.digits[..self.len]).expect("BUG: digits are ASCII")
    }

    fn push_fixed(&self, out: &mut String) {
        if self.negative {
            out.push('-');
        }
        let digits = self.text();
        let zeros = |out: &mut String, n: usize| out.extend(std::iter::repeat_n('0', n));
        match usize::try_from(self.point) {
            Err(_) | Ok(0) => {
                out.push_str("0.");
                zeros(out, self.point.unsigned_abs() as usize);
                out.push_str(digits);
            }
            Ok(point) if point >= self.len => {
                out.push_str(digits);
                zeros(out, point - self.len);
            }
            Ok(point) => {
                out.push_str(&digits[..point]);
                out.push('.');
                out.push_str(&digits[point..]);
            }
        }
    }

    fn push_exponent(&self, out: &mut String) {
        if self.negative {
            out.push('-');
        }
        let digits = self.text();
        out.push_str(&digits[..1]);
        if self.len > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        let zero = digits == "0";
        let exponent = if zero { 0 } else { self.point - 1 };
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "e{sign}{:02}", exponent.unsigned_abs())
            .expect("BUG: writing to a String cannot fail");
    }
}

/// Writes `NaN`, `+Inf` or `-Inf`; false when the float is finite.
fn push_special(out: &mut String, v: f64) -> bool {
    if v.is_finite() {
        return false;
    }
    out.push_str(if v.is_nan() {
        "NaN"
    } else if v > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    });
    true
}

/// Appends Go's `'f'` layout: digits without an exponent, however many it takes.
pub fn push_fixed(out: &mut String, v: f64) {
    if !push_special(out, v) {
        Decimal::new(v).push_fixed(out);
    }
}

/// Appends Go's `'e'` layout: `1.5e+00`.
pub fn push_exponent(out: &mut String, v: f64) {
    if !push_special(out, v) {
        Decimal::new(v).push_exponent(out);
    }
}

/// Appends Go's `'g'` layout: an exponent below 1e-4 and from 1e+06 on
/// whatever the number of digits, as `%v` has it.
pub fn push_general(out: &mut String, v: f64) {
    if push_special(out, v) {
        return;
    }
    let decimal = Decimal::new(v);
    let exponent = decimal.point - 1;
    if (-4..6).contains(&exponent) {
        decimal.push_fixed(out);
    } else {
        decimal.push_exponent(out);
    }
}

/// Appends a sample value as Prometheus' JSON has it: `'f'`, but `'e'` below 1e-6 and from
/// 1e+21 on.
pub fn push_sample_value(out: &mut String, v: f64) {
    let abs = v.abs();
    if abs != 0.0 && !(1e-6..1e21).contains(&abs) {
        push_exponent(out, v);
    } else {
        push_fixed(out, v);
    }
}

/// [`push_fixed`] as a new string.
pub fn fixed(v: f64) -> String {
    let mut out = String::new();
    push_fixed(&mut out, v);
    out
}

/// [`push_exponent`] as a new string.
pub fn exponent(v: f64) -> String {
    let mut out = String::new();
    push_exponent(&mut out, v);
    out
}

/// [`push_general`] as a new string.
pub fn general(v: f64) -> String {
    let mut out = String::new();
    push_general(&mut out, v);
    out
}

/// A float as a whole number as Go converts it on amd64, where Prometheus' answers come
/// from: towards zero, and the least integer for what does not fit, NaN included.
pub fn whole(v: f64) -> i64 {
    // 2^63 is a float, the largest i64 is not.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&v) { v as i64 } else { i64::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_go() {
        for (v, f, e, g) in [
            (0.0, "0", "0e+00", "0"),
            (-0.0, "-0", "-0e+00", "-0"),
            (1.0, "1", "1e+00", "1"),
            (-1.5, "-1.5", "-1.5e+00", "-1.5"),
            (0.1, "0.1", "1e-01", "0.1"),
            (0.001, "0.001", "1e-03", "0.001"),
            (1e-5, "0.00001", "1e-05", "1e-05"),
            (123456789.0, "123456789", "1.23456789e+08", "1.23456789e+08"),
            (100.0, "100", "1e+02", "100"),
            (999999.5, "999999.5", "9.999995e+05", "999999.5"),
            (1e6, "1000000", "1e+06", "1e+06"),
            (1e20, "100000000000000000000", "1e+20", "1e+20"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21"),
            (1.7976931348623157e308, "", "1.7976931348623157e+308", "1.7976931348623157e+308"),
            (5e-324, "", "5e-324", "5e-324"),
            (f64::NAN, "NaN", "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf"),
        ] {
            if !f.is_empty() {
                assert_eq!(fixed(v), f);
            }
            assert_eq!(exponent(v), e);
            assert_eq!(general(v), g);
        }
    }

    #[test]
    fn sample_values_get_an_exponent_only_when_very_small_or_large() {
        for (v, expected) in [
            (0.0, "0"),
            (1e-6, "0.000001"),
            (9.9e-7, "9.9e-07"),
            (-1e-9, "-1e-09"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (0.30000000000000004, "0.30000000000000004"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = String::new();
            push_sample_value(&mut out, v);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn every_layout_reads_back_as_the_same_float() {
        for bits in [1u64, 0x3ff0_0000_0000_0001, 0x7fef_ffff_ffff_ffff, 0x0010_0000_0000_0000] {
            let v = f64::from_bits(bits);
            for text in [fixed(v), exponent(v), general(v)] {
                assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(bits), "{text}");
            }
        }
    }
}
