//! Go's `fmt`: `Sprintf`, `Sprint` and `Sprintln` over template values, with every verb
//! and flag that applies to them and Go's own complaints (`%!d(string=x)`) inside the text.

use super::float::format_float;
use super::number::go_quote;
use super::value::{Type, Value};

/// Widths and precisions beyond this are refused, as in Go but lower: nobody needs them,
/// and a template must not fill the memory.
const MAX_WIDTH: i64 = 10_000;

/// As `fmt.Sprint`: a space between two operands when neither is a string.
pub(super) fn sprint(args: &[Value]) -> String {
    let mut printer = Printer::default();
    let mut after_string = true;
    for (i, arg) in args.iter().enumerate() {
        let is_string = matches!(arg, Value::Str(_) | Value::Html(_));
        if i > 0 && !is_string && !after_string {
            printer.out.push(' ');
        }
        printer.arg(arg, 'v');
        after_string = is_string;
    }
    printer.out
}

/// As `fmt.Sprintln`.
pub(super) fn sprintln(args: &[Value]) -> String {
    let mut printer = Printer::default();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            printer.out.push(' ');
        }
        printer.arg(arg, 'v');
    }
    printer.out.push('\n');
    printer.out
}

/// As `fmt.Sprintf`.
pub(super) fn sprintf(format: &str, args: &[Value]) -> String {
    Format { rest: format, args, next: 0, reordered: false, good_index: true }.run()
}

#[derive(Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v` and `%#v`: flags of the value, not of its digits.
    plus_v: bool,
    sharp_v: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// State of one `Sprintf`: what is left of the format, and the argument that is next.
struct Format<'a> {
    rest: &'a str,
    args: &'a [Value],
    next: usize,
    reordered: bool,
    good_index: bool,
}

impl Format<'_> {
    fn run(mut self) -> String {
        let mut printer = Printer::default();
        let mut any_reordered = false;
        while let Some(at) = self.rest.find('%') {
            printer.out.push_str(&self.rest[..at]);
            self.rest = &self.rest[at + 1..];
            self.directive(&mut printer);
            any_reordered |= self.reordered;
        }
        printer.out.push_str(self.rest);
        if !any_reordered && self.next < self.args.len() {
            printer.flags = Flags::default();
            printer.out.push_str("%!(EXTRA ");
            for (i, arg) in self.args[self.next..].iter().enumerate() {
                if i > 0 {
                    printer.out.push_str(", ");
                }
                printer.out.push_str(arg.type_name());
                if !matches!(arg, Value::Missing | Value::NilAny) {
                    printer.out.push('=');
                    printer.arg(arg, 'v');
                }
            }
            printer.out.push(')');
        }
        printer.out
    }

    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn directive(&mut self, p: &mut Printer) {
        p.flags = Flags::default();
        self.good_index = true;
        self.reordered = false;
        loop {
            if self.eat('#') {
                p.flags.sharp = true;
            } else if self.eat('0') {
                p.flags.zero = true;
            } else if self.eat('+') {
                p.flags.plus = true;
            } else if self.eat('-') {
                p.flags.minus = true;
            } else if self.eat(' ') {
                p.flags.space = true;
            } else {
                break;
            }
        }
        let mut after_index = self.arg_index();
        after_index = self.width(p, after_index);
        after_index = self.precision(p, after_index);
        if !after_index {
            self.arg_index();
        }
        let Some(verb) = self.rest.chars().next() else {
            p.out.push_str("%!(NOVERB)");
            return;
        };
        self.rest = &self.rest[verb.len_utf8()..];
        if verb == '%' {
            p.out.push('%');
            return;
        }
        if !self.good_index {
            p.out.push_str(&format!("%!{verb}(BADINDEX)"));
            return;
        }
        let Some(arg) = self.args.get(self.next) else {
            p.out.push_str(&format!("%!{verb}(MISSING)"));
            return;
        };
        if verb == 'v' {
            p.flags.sharp_v = std::mem::take(&mut p.flags.sharp);
            p.flags.plus_v = std::mem::take(&mut p.flags.plus);
        }
        self.next += 1;
        p.arg(arg, verb);
    }

    fn number(&mut self) -> Option<i64> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let (text, rest) = self.rest.split_at(digits);
        self.rest = rest;
        Some(text.parse().unwrap_or(i64::MAX))
    }

    /// `[3]`: the argument to take next. True when there was one.
    fn arg_index(&mut self) -> bool {
        if !self.rest.starts_with('[') {
            return false;
        }
        self.reordered = true;
        let Some(end) = self.rest.find(']') else {
            self.good_index = false;
            self.rest = &self.rest[1..];
            return false;
        };
        let inner = &self.rest[1..end];
        self.rest = &self.rest[end + 1..];
        let index = inner.parse::<usize>().ok().filter(|i| (1..=self.args.len()).contains(i));
        match index {
            Some(index) => {
                self.next = index - 1;
                true
            }
            None => {
                self.good_index = false;
                true
            }
        }
    }

    /// The argument a `*` stands for.
    fn star(&mut self) -> Option<i64> {
        let value = match self.args.get(self.next) {
            Some(Value::Int(v, _)) => Some(*v),
            Some(Value::Uint(v, _)) => i64::try_from(*v).ok(),
            _ => None,
        };
        if self.next < self.args.len() {
            self.next += 1;
        }
        value.filter(|v| v.abs() <= MAX_WIDTH)
    }

    fn width(&mut self, p: &mut Printer, after_index: bool) -> bool {
        if self.eat('*') {
            match self.star() {
                Some(width) => {
                    p.flags.minus |= width < 0;
                    p.flags.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => p.out.push_str("%!(BADWIDTH)"),
            }
            return false;
        }
        if let Some(width) = self.number() {
            if after_index {
                // `%[3]2d` makes no sense.
                self.good_index = false;
            }
            if width > MAX_WIDTH {
                p.out.push_str("%!(BADWIDTH)");
            } else {
                p.flags.width = usize::try_from(width).ok();
            }
        }
        after_index
    }

    fn precision(&mut self, p: &mut Printer, mut after_index: bool) -> bool {
        if !self.eat('.') {
            return after_index;
        }
        if after_index {
            self.good_index = false;
        }
        after_index = self.arg_index();
        if self.eat('*') {
            match self.star() {
                Some(precision) if precision >= 0 => {
                    p.flags.precision = usize::try_from(precision).ok();
                }
                _ => p.out.push_str("%!(BADPREC)"),
            }
            return false;
        }
        match self.number() {
            Some(precision) if precision > MAX_WIDTH => p.out.push_str("%!(BADPREC)"),
            Some(precision) => p.flags.precision = usize::try_from(precision).ok(),
            None => p.flags.precision = Some(0),
        }
        after_index
    }
}

/// Prints one operand after the other under the flags of the directive at hand.
#[derive(Default)]
struct Printer {
    out: String,
    flags: Flags,
    /// Within the parentheses of a complaint.
    complaining: bool,
}

impl Printer {
    /// Writes padded to the width, zeros only on the left.
    fn pad(&mut self, text: &str) {
        let missing = self.flags.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.flags.minus {
            self.out.push_str(text);
            self.out.extend(std::iter::repeat_n(' ', missing));
        } else {
            let fill = if self.flags.zero { '0' } else { ' ' };
            self.out.extend(std::iter::repeat_n(fill, missing));
            self.out.push_str(text);
        }
    }

    fn pad_with_spaces(&mut self, text: &str) {
        let zero = std::mem::replace(&mut self.flags.zero, false);
        self.pad(text);
        self.flags.zero = zero;
    }

    /// The flags stay, but a type's own text is not asked for again.
    fn bad_verb(&mut self, arg: &Value, verb: char) {
        self.out.push_str(&format!("%!{verb}("));
        let outer = std::mem::replace(&mut self.complaining, true);
        match arg {
            Value::Missing | Value::NilAny => self.out.push_str("<nil>"),
            _ => {
                self.out.push_str(arg.type_name());
                self.out.push('=');
                self.arg(arg, 'v');
            }
        }
        self.complaining = outer;
        self.out.push(')');
    }

    fn arg(&mut self, arg: &Value, verb: char) {
        self.nested(arg, verb, 0);
    }

    fn nested(&mut self, arg: &Value, verb: char, depth: usize) {
        match (arg, verb) {
            (Value::Missing | Value::NilAny, 'T' | 'v') => return self.pad_with_spaces("<nil>"),
            (Value::Missing | Value::NilAny, _) => return self.bad_verb(arg, verb),
            (_, 'T') if depth == 0 => return self.string(arg, arg.type_name(), 's'),
            (_, 'p') if depth == 0 => return self.pointer(arg, verb),
            _ => {}
        }
        if !self.flags.sharp_v
            && !self.complaining
            && matches!(verb, 'v' | 's' | 'x' | 'X' | 'q')
            && let Some(text) = arg.stringer()
        {
            return self.string(arg, &text, verb);
        }
        match arg {
            Value::Bool(b) => match verb {
                't' | 'v' => self.pad_with_spaces(if *b { "true" } else { "false" }),
                _ => self.bad_verb(arg, verb),
            },
            Value::Int(v, _) => self.integer(arg, v.unsigned_abs(), *v < 0, verb),
            Value::Duration(v, Type::Duration) => {
                self.integer(arg, v.unsigned_abs(), *v < 0, verb);
            }
            Value::Uint(v, _) => {
                if verb == 'v' && self.flags.sharp_v {
                    return self.digits(*v, false, 16, 'x', true);
                }
                self.integer(arg, *v, false, verb);
            }
            Value::Float(v) => self.float(arg, *v, verb),
            Value::Complex(re, im) => self.complex(arg, *re, *im, verb),
            Value::Str(text) | Value::Html(text) => self.string(arg, text, verb),
            Value::Labels(labels) => {
                let entries = labels.iter().map(|(n, v)| (n.to_owned(), Value::str(v)));
                self.map(arg, entries.collect(), verb, depth);
            }
            Value::Map(map) => {
                let entries = map.iter().map(|(k, v)| (k.clone(), v.clone()));
                self.map(arg, entries.collect(), verb, depth);
            }
            Value::List(items, _) => self.list(arg, items, verb, depth),
            Value::Vector(samples) => {
                let items: Vec<_> = samples.iter().map(|s| Value::Sample(s.clone())).collect();
                self.list(arg, &items, verb, depth);
            }
            Value::Sample(sample) if depth == 0 => {
                self.out.push('&');
                let fields = [
                    ("Labels", Value::Labels(sample.labels.clone())),
                    ("Value", sample.value.clone()),
                ];
                self.fields("template.sample", &fields, verb, depth);
            }
            Value::Alert(alert) => self.fields(
                Type::Alert.name(),
                &[
                    ("Labels", Value::Labels(alert.labels.clone())),
                    ("ExternalLabels", Value::Labels(alert.external_labels.clone())),
                    ("ExternalURL", Value::Str(alert.external_url.clone())),
                    ("Value", alert.value.clone()),
                ],
                verb,
                depth,
            ),
            Value::Nil(Type::Labels | Type::Map) => self.map(arg, Vec::new(), verb, depth),
            Value::Nil(Type::Vector) => self.list(arg, &[], verb, depth),
            Value::Nil(_) if verb == 'v' => self.pad_with_spaces("<nil>"),
            _ => self.pointer(arg, verb),
        }
    }

    /// Go prints an address, which says nothing and differs from run to run.
    fn pointer(&mut self, arg: &Value, verb: char) {
        const ADDRESS: u64 = 0xc0_0000_0000;
        let is_pointer = arg.type_of().is_some_and(Type::is_pointer);
        match verb {
            'v' | 'p' if is_pointer => self.digits(ADDRESS, false, 16, 'x', true),
            'b' | 'o' | 'd' | 'x' | 'X' if is_pointer => {
                self.integer(arg, ADDRESS, false, verb);
            }
            _ => self.bad_verb(arg, verb),
        }
    }

    fn map(&mut self, arg: &Value, entries: Vec<(String, Value)>, verb: char, depth: usize) {
        let (open, close, gap) = if self.flags.sharp_v {
            (format!("{}{{", arg.type_name()), "}", ", ")
        } else {
            ("map[".to_owned(), "]", " ")
        };
        self.out.push_str(&open);
        for (i, (key, value)) in entries.into_iter().enumerate() {
            if i > 0 {
                self.out.push_str(gap);
            }
            self.nested(&Value::str(key), verb, depth + 1);
            self.out.push(':');
            self.element(&value, verb, depth);
        }
        self.out.push_str(close);
    }

    /// An element whose static type is an interface prints `<nil>` unpadded.
    fn element(&mut self, value: &Value, verb: char, depth: usize) {
        match value {
            Value::Missing | Value::NilAny => self.out.push_str("<nil>"),
            _ => self.nested(value, verb, depth + 1),
        }
    }

    fn list(&mut self, arg: &Value, items: &[Value], verb: char, depth: usize) {
        let (open, close, gap) = if self.flags.sharp_v {
            (format!("{}{{", arg.type_name()), '}', ", ")
        } else {
            ("[".to_owned(), ']', " ")
        };
        self.out.push_str(&open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push_str(gap);
            }
            self.nested(item, verb, depth + 1);
        }
        self.out.push(close);
    }

    fn fields(&mut self, name: &str, fields: &[(&str, Value)], verb: char, depth: usize) {
        if self.flags.sharp_v {
            self.out.push_str(name);
        }
        self.out.push('{');
        for (i, (name, value)) in fields.iter().enumerate() {
            if i > 0 {
                self.out.push_str(if self.flags.sharp_v { ", " } else { " " });
            }
            if self.flags.plus_v || self.flags.sharp_v {
                self.out.push_str(name);
                self.out.push(':');
            }
            self.element(value, verb, depth);
        }
        self.out.push('}');
    }

    fn string(&mut self, arg: &Value, text: &str, verb: char) {
        match verb {
            'v' if self.flags.sharp_v => self.quoted(text),
            's' | 'v' => {
                let cut = self.truncated(text);
                self.pad(cut);
            }
            'q' => {
                let cut = self.truncated(text);
                self.quoted(cut);
            }
            'x' | 'X' => self.hex(text, verb == 'X'),
            _ => self.bad_verb(arg, verb),
        }
    }

    fn truncated<'s>(&self, text: &'s str) -> &'s str {
        let Some(precision) = self.flags.precision else { return text };
        match text.char_indices().nth(precision) {
            Some((at, _)) => &text[..at],
            None => text,
        }
    }

    fn quoted(&mut self, text: &str) {
        let plain = |c: char| c != '`' && c != '\u{feff}' && (c == '\t' || !c.is_control());
        if self.flags.sharp && text.chars().all(plain) {
            return self.pad(&format!("`{text}`"));
        }
        let mut quoted = go_quote(text);
        if self.flags.plus {
            quoted = ascii_only(&quoted);
        }
        self.pad(&quoted);
    }

    fn hex(&mut self, text: &str, upper: bool) {
        let bytes = text.as_bytes();
        let bytes = &bytes[..self.flags.precision.unwrap_or(bytes.len()).min(bytes.len())];
        let prefix = match (self.flags.sharp, upper) {
            (false, _) => "",
            (true, false) => "0x",
            (true, true) => "0X",
        };
        let mut out = String::new();
        for (i, byte) in bytes.iter().enumerate() {
            if self.flags.space && i > 0 {
                out.push(' ');
            }
            if i == 0 || self.flags.space {
                out.push_str(prefix);
            }
            out.push_str(&if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
        }
        self.pad(&out);
    }

    fn integer(&mut self, arg: &Value, magnitude: u64, negative: bool, verb: char) {
        match verb {
            'v' | 'd' => self.digits(magnitude, negative, 10, verb, false),
            'b' => self.digits(magnitude, negative, 2, verb, false),
            'o' | 'O' => self.digits(magnitude, negative, 8, verb, false),
            'x' | 'X' => self.digits(magnitude, negative, 16, verb, false),
            'c' | 'q' | 'U' => {
                let code = if negative { u64::MAX } else { magnitude };
                let c = u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
                match verb {
                    'c' => self.pad(&c.to_string()),
                    'q' => {
                        let inner = go_quote(&c.to_string());
                        let inner = inner[1..inner.len() - 1].replace("\\\"", "\"");
                        let text =
                            if c == '\'' { "'\\''".to_owned() } else { format!("'{inner}'") };
                        let text = if self.flags.plus { ascii_only(&text) } else { text };
                        self.pad(&text);
                    }
                    _ => {
                        let digits = self.flags.precision.unwrap_or(4).max(4);
                        let signed =
                            if negative { 0u64.wrapping_sub(magnitude) } else { magnitude };
                        let mut text = format!("U+{signed:0digits$X}");
                        if self.flags.sharp && char::from_u32(signed as u32).is_some() {
                            text.push_str(&format!(" '{c}'"));
                        }
                        self.pad_with_spaces(&text);
                    }
                }
            }
            _ => self.bad_verb(arg, verb),
        }
    }

    fn digits(&mut self, v: u64, negative: bool, radix: u32, verb: char, prefix: bool) {
        let f = self.flags;
        if f.precision == Some(0) && v == 0 {
            return self.pad_with_spaces("");
        }
        let mut body = match radix {
            2 => format!("{v:b}"),
            8 => format!("{v:o}"),
            16 if verb == 'X' => format!("{v:X}"),
            16 => format!("{v:x}"),
            _ => v.to_string(),
        };
        let signed = negative || f.plus || f.space;
        let least = match (f.precision, f.width) {
            (Some(p), _) => p,
            (None, Some(w)) if f.zero && !f.minus => w.saturating_sub(usize::from(signed)),
            _ => 0,
        };
        if body.len() < least {
            body.insert_str(0, &"0".repeat(least - body.len()));
        }
        match (radix, verb) {
            (2, _) if f.sharp => body.insert_str(0, "0b"),
            (8, 'O') => body.insert_str(0, "0o"),
            (8, _) if f.sharp && !body.starts_with('0') => body.insert(0, '0'),
            (16, 'X') if f.sharp => body.insert_str(0, "0X"),
            (16, _) if f.sharp || prefix => body.insert_str(0, "0x"),
            _ => {}
        }
        if negative {
            body.insert(0, '-');
        } else if f.plus {
            body.insert(0, '+');
        } else if f.space {
            body.insert(0, ' ');
        }
        self.pad_with_spaces(&body);
    }

    fn float(&mut self, arg: &Value, v: f64, verb: char) {
        let (verb, default) = match verb {
            'v' => ('g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => (verb, None),
            'f' | 'F' | 'e' | 'E' => (verb, Some(6)),
            _ => return self.bad_verb(arg, verb),
        };
        let precision = self.flags.precision.or(default);
        let mut text = format_float(v, verb, precision);
        if !text.starts_with(['-', '+']) {
            text.insert(0, if self.flags.space && !self.flags.plus { ' ' } else { '+' });
        }
        if !v.is_finite() {
            if self.flags.space && !self.flags.plus && text.starts_with('+') {
                text.replace_range(..1, " ");
            }
            if v.is_nan() && !self.flags.space && !self.flags.plus {
                text.remove(0);
            }
            return self.pad_with_spaces(&text);
        }
        if self.flags.sharp && verb != 'b' {
            text = keep_point(&text, verb, precision);
        }
        if self.flags.plus || !text.starts_with('+') {
            let (sign, body) = text.split_at(1);
            let width = self.flags.width.unwrap_or(0);
            if self.flags.zero && !self.flags.minus && width > text.len() {
                self.out.push_str(sign);
                self.out.extend(std::iter::repeat_n('0', width - text.len()));
                self.out.push_str(body);
                return;
            }
            return self.pad(&text);
        }
        self.pad(&text[1..]);
    }

    fn complex(&mut self, arg: &Value, re: f64, im: f64, verb: char) {
        if !matches!(verb, 'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E') {
            return self.bad_verb(arg, verb);
        }
        let plus = self.flags.plus;
        self.out.push('(');
        self.float(arg, re, verb);
        self.flags.plus = true;
        self.float(arg, im, verb);
        self.out.push_str("i)");
        self.flags.plus = plus;
    }
}

/// The `#` flag of floats: always a point, and for `%g` the zeros that fill the precision.
fn keep_point(text: &str, verb: char, precision: Option<usize>) -> String {
    let at = text.find(|c| matches!((verb, c), ('x' | 'X', 'p' | 'P') | (_, 'e' | 'E')));
    let (mut mantissa, tail) = match at {
        Some(at) => (text[..at].to_owned(), &text[at..]),
        None => (text.to_owned(), ""),
    };
    let point = mantissa.contains('.');
    if matches!(verb, 'g' | 'G') {
        let wanted = precision.unwrap_or(6).max(1);
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let significant = digits.trim_start_matches('0').len();
        // Of zero itself one digit counts.
        let count = if significant == 0 { 1 } else { significant };
        if !point {
            mantissa.push('.');
        }
        mantissa.extend(std::iter::repeat_n('0', wanted.saturating_sub(count)));
    } else if !point {
        mantissa.push('.');
    }
    mantissa + tail
}

/// `%+q`: everything beyond ASCII escaped.
fn ascii_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c as u32 {
            0..=0x7f => out.push(c),
            code @ 0x80..=0xffff => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, args: &[Value], expected: &str) {
        assert_eq!(sprintf(format, args), expected, "{format}");
    }

    #[test]
    fn numbers_print_as_in_go() {
        let f = Value::Float;
        let i = Value::int;
        check(
            "%.2f|%6.1f|%-8.3f|%+.1e",
            &[f(3.14159), f(2.5), f(1.0), f(12345.678)],
            "3.14|   2.5|1.000   |+1.2e+04",
        );
        check(
            "%08.3f|%+08.3f|% .2f|%08.3f",
            &[f(-3.14159), f(3.14159), f(1.0), f(3.5)],
            "-003.142|+003.142| 1.00|0003.500",
        );
        check(
            "%5d|%-5d|%05d|%+d|%x|%X|%#x|%o|%b|%c|%U",
            &[i(42), i(42), i(-42), i(42), i(255), i(255), i(255), i(8), i(5), i(65), i(0x1f600)],
            "   42|42   |-0042|+42|ff|FF|0xff|10|101|A|U+1F600",
        );
        check("%6.2f%%", &[f(99.5)], " 99.50%");
        check("%v %g %G", &[f(1e21), f(1e-7), f(1e-7)], "1e+21 1e-07 1E-07");
        check("%5v|%05v|%v", &[f(f64::NAN), f(f64::INFINITY), f(-0.0)], "  NaN| +Inf|-0");
        check("%#g|%#.3g|%#v", &[f(1.0), f(100.0), f(1.0)], "1.00000|100.|1");
        check(
            "%t|%q|%v",
            &[Value::Bool(true), i(65), Value::Complex(1.0, -2.0)],
            "true|'A'|(1-2i)",
        );
        check("%d", &[Value::Duration(5, Type::Duration)], "5");
        check("%s", &[Value::Duration(5_000_000_000, Type::DurationPtr)], "5s");
        check("%.3d|%.0d|", &[i(7), i(0)], "007||");
    }

    #[test]
    fn texts_and_containers_print_as_in_go() {
        let s = Value::str;
        check(
            "%s|%10s|%-10s|%.2s|%q|%x|%X",
            &[s("a"), s("right"), s("left"), s("héllo"), s("q\"\n"), s("hi"), s("hi")],
            "a|     right|left      |hé|\"q\\\"\\n\"|6869|6869",
        );
        let labels = Value::Labels(crate::model::Labels::from_pairs([("b", "2"), ("a", "1")]));
        check(
            "%v %s %d",
            &[labels.clone(), labels.clone(), labels.clone()],
            "map[a:1 b:2] map[a:1 b:2] map[%!d(string=a):%!d(string=1) %!d(string=b):%!d(string=2)]",
        );
        check(
            "%#v %T",
            &[labels.clone(), labels],
            "map[string]string{\"a\":\"1\", \"b\":\"2\"} map[string]string",
        );
        check("%#q %+q", &[s("a"), s("é")], "`a` \"\\u00e9\"");
    }

    #[test]
    fn complaints_are_those_of_go() {
        let s = Value::str;
        check("%d", &[s("hi")], "%!d(string=hi)");
        check("%z", &[Value::int(5)], "%!z(int=5)");
        check("%s", &[Value::Float(1.5)], "%!s(float64=1.5)");
        check("%d %d", &[Value::int(1)], "1 %!d(MISSING)");
        check("%d", &[Value::int(1), s("x"), Value::NilAny], "1%!(EXTRA string=x, <nil>)");
        check("%", &[], "%!(NOVERB)");
        check("%[2]d %[1]d", &[Value::int(1), Value::int(2)], "2 1");
        check("%[3]d", &[Value::int(1)], "%!d(BADINDEX)");
        check("%*d", &[Value::int(5), Value::int(42)], "   42");
        check("%*d", &[s("x"), Value::int(42)], "%!(BADWIDTH)42");
        check("%s", &[Value::NilAny], "%!s(<nil>)");
        check("%v", &[Value::Missing], "<nil>");
    }

    #[test]
    fn print_puts_spaces_between_operands_that_are_no_strings() {
        let args =
            [Value::int(1), Value::int(2), Value::str("a"), Value::int(3), Value::Float(4.0)];
        assert_eq!(sprint(&args), "1 2a3 4");
        assert_eq!(sprintln(&args), "1 2 a 3 4\n");
    }
}
