//! Floats as Go's `strconv.FormatFloat` writes them. The digits come from the standard
//! library, which is exact; the layout is Go's.

/// Formats for verb `e E f F g G b x X` with a precision, or the shortest digits that
/// read back as the same number. Never with a `+` sign, except for `+Inf`.
pub(super) fn format_float(v: f64, verb: char, precision: Option<usize>) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let sign = if v.is_sign_negative() { "-" } else { "" };
    let magnitude = v.abs();
    let body = match verb {
        'e' | 'E' => exponent_form(&digits_for_e(magnitude, precision), precision, verb),
        'f' | 'F' => match precision {
            Some(p) => format!("{magnitude:.p$}"),
            None => format!("{magnitude}"),
        },
        'b' => binary_form(magnitude),
        'x' | 'X' => hex_form(magnitude, precision, verb == 'X'),
        _ => general_form(magnitude, precision, if verb == 'G' { 'E' } else { 'e' }),
    };
    format!("{sign}{body}")
}

/// `%v` of a float.
pub(super) fn default_text(v: f64) -> String {
    format_float(v, 'g', None)
}

/// Decimal digits without point and the exponent of the first one.
struct Digits {
    digits: String,
    exponent: i32,
}

fn digits_for_e(v: f64, precision: Option<usize>) -> Digits {
    let text = match precision {
        Some(p) => format!("{v:.p$e}"),
        None => format!("{v:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    Digits { digits: mantissa.replace('.', ""), exponent: exponent.parse().unwrap_or(0) }
}

fn exponent_form(d: &Digits, precision: Option<usize>, verb: char) -> String {
    let (first, rest) = d.digits.split_at(1);
    let mut out = first.to_owned();
    let places = precision.unwrap_or(rest.len());
    if places > 0 {
        out.push('.');
        out.push_str(rest);
        out.extend(std::iter::repeat_n('0', places.saturating_sub(rest.len())));
    }
    let sign = if d.exponent < 0 { '-' } else { '+' };
    format!("{out}{verb}{sign}{:02}", d.exponent.abs())
}

/// `%g`: the exponent form for large and small numbers, never with trailing zeros.
fn general_form(v: f64, precision: Option<usize>, verb: char) -> String {
    let significant = precision.map(|p| p.max(1));
    let mut d = digits_for_e(v, significant.map(|p| p - 1));
    d.digits.truncate(d.digits.trim_end_matches('0').len().max(1));
    if v == 0.0 {
        d.exponent = 0;
    }
    let count = i32::try_from(d.digits.len()).unwrap_or(i32::MAX);
    let point = d.exponent + 1;
    let limit = match significant {
        // Go decides for the shortest form as if six digits had been asked for.
        None => 6,
        Some(p) => {
            let p = i32::try_from(p).unwrap_or(i32::MAX);
            if p > count && count >= point { count } else { p }
        }
    };
    if d.exponent < -4 || d.exponent >= limit {
        return exponent_form(&d, None, verb);
    }
    plain_form(&d)
}

fn plain_form(d: &Digits) -> String {
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let count = i32::try_from(d.digits.len()).unwrap_or(i32::MAX);
    let point = d.exponent + 1;
    if point <= 0 {
        return format!("0.{}{}", zeros(-point), d.digits);
    }
    if count <= point {
        return format!("{}{}", d.digits, zeros(point - count));
    }
    let (whole, fraction) = d.digits.split_at(usize::try_from(point).unwrap_or(0));
    format!("{whole}.{fraction}")
}

/// Mantissa with its hidden bit and the power of two it is scaled by.
fn mantissa_exponent(v: f64) -> (u64, i32) {
    let bits = v.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0);
    let fraction = bits & ((1 << 52) - 1);
    if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) }
}

fn binary_form(v: f64) -> String {
    let (mantissa, exponent) = mantissa_exponent(v);
    format!("{mantissa}p{exponent:+}")
}

fn hex_form(v: f64, precision: Option<usize>, upper: bool) -> String {
    let (mut mantissa, mut exponent) = mantissa_exponent(v);
    if mantissa == 0 {
        exponent = 0;
    } else {
        // One leading bit, then 60 bits of fraction: fifteen hex digits.
        exponent += 52;
        while mantissa & 1 << 52 == 0 {
            mantissa <<= 1;
            exponent -= 1;
        }
    }
    let mut wide = u128::from(mantissa) << 8;
    if let Some(p) = precision
        && p < 15
    {
        let drop = (15 - p) * 4;
        let half = 1u128 << (drop - 1);
        let rest = wide & ((1u128 << drop) - 1);
        wide >>= drop;
        if rest > half || (rest == half && wide & 1 == 1) {
            wide += 1;
        }
        wide <<= drop;
        if wide >> 61 != 0 {
            wide >>= 1;
            exponent += 1;
        }
    }
    let lead = wide >> 60;
    let mut fraction = format!("{:015x}", wide & ((1u128 << 60) - 1));
    match precision {
        Some(p) if p <= 15 => fraction.truncate(p),
        Some(p) => fraction.extend(std::iter::repeat_n('0', p - 15)),
        None => fraction.truncate(fraction.trim_end_matches('0').len()),
    }
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    let text = format!("0x{lead}{point}{fraction}p{sign}{:02}", exponent.abs());
    if upper { text.to_uppercase() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_go() {
        for (v, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (1_353_755_652.0, "1.353755652e+09"),
            (123_456.0, "123456"),
            (1_234_567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (0.1 + 0.2, "0.30000000000000004"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(default_text(v), expected);
        }
        for (v, verb, precision, expected) in [
            (1_234_567.0, 'g', Some(4), "1.235e+06"),
            (100.0, 'g', Some(4), "100"),
            (0.12, 'g', Some(4), "0.12"),
            (1000.0, 'g', Some(0), "1e+03"),
            (1.5, 'f', Some(0), "2"),
            (2.5, 'f', Some(0), "2"),
            (3.0, 'e', Some(2), "3.00e+00"),
            (1234.5678, 'E', None, "1.2345678E+03"),
            (1.0, 'x', None, "0x1p+00"),
            (1.5, 'x', Some(0), "0x1p+01"),
            (10.0, 'X', None, "0X1.4P+03"),
            (1.0, 'b', None, "4503599627370496p-52"),
        ] {
            assert_eq!(format_float(v, verb, precision), expected, "{v} {verb} {precision:?}");
        }
    }
}
