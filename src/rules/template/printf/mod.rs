//! Go's `fmt`: `Sprintf`, `Sprint` and `Sprintln` over template values, with every verb
//! and flag that applies to them and Go's own complaints (`%!d(string=x)`) inside the text.

mod printer;

use self::printer::Printer;
use super::value::Value;

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

#[cfg(test)]
mod tests;
