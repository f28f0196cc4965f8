//! Formats and what Go makes of them.

use super::*;
use crate::rules::template::value::Type;

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
        &[f(3.25), f(2.5), f(1.0), f(12345.678)],
        "3.25|   2.5|1.000   |+1.2e+04",
    );
    check(
        "%08.3f|%+08.3f|% .2f|%08.3f",
        &[f(-3.25), f(3.25), f(1.0), f(3.5)],
        "-003.250|+003.250| 1.00|0003.500",
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
    check("%t|%q|%v", &[Value::Bool(true), i(65), Value::Complex(1.0, -2.0)], "true|'A'|(1-2i)");
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
    let args = [Value::int(1), Value::int(2), Value::str("a"), Value::int(3), Value::Float(4.0)];
    assert_eq!(sprint(&args), "1 2a3 4");
    assert_eq!(sprintln(&args), "1 2 a 3 4\n");
}
