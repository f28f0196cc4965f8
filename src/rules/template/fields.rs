//! Methods and fields of values: what `.Name` means on something that is no map.

use super::functions::Signature;
use super::gotime::{GoTime, duration_text};
use super::value::{Type, Value};

pub(super) struct Method {
    pub signature: Signature,
    /// Why a template may not call it; worded as Go words it.
    pub unusable: Option<String>,
    pub run: fn(&Value, &[Value]) -> Result<Value, String>,
}

type Run = fn(&Value, &[Value]) -> Result<Value, String>;

/// The method of a value's type.
pub(super) fn method(receiver: &Value, name: &str) -> Option<Method> {
    let found = match receiver {
        Value::Time(..) => time_method(name),
        Value::Duration(..) => duration_method(name),
        Value::Int(_, Type::Month | Type::Weekday) | Value::Location | Value::Histogram(_)
            if name == "String" =>
        {
            Some((&[][..], stringer as Run))
        }
        _ => None,
    };
    if let Some((params, run)) = found {
        let signature = Signature { params, variadic: None };
        return Some(Method { signature, unusable: None, run });
    }
    let unusable = match (receiver, name) {
        (Value::Time(..), "Date" | "Clock") => {
            format!("function {name} has 3 return values; should be 1 or 2")
        }
        (Value::Time(..), "ISOWeek" | "Zone") => format!(
            "invalid function signature for {name}: second return value should be error; is int"
        ),
        _ => return None,
    };
    let signature = Signature { params: &[], variadic: None };
    Some(Method { signature, unusable: Some(unusable), run: stringer })
}

fn stringer(receiver: &Value, _args: &[Value]) -> Result<Value, String> {
    Ok(Value::str(receiver.stringer().unwrap_or_default()))
}

fn time_of(value: Option<&Value>) -> Result<GoTime, String> {
    match value {
        Some(Value::Time(t, _)) => Ok(*t),
        _ => Err(NIL_POINTER.to_owned()),
    }
}

fn ns_of(value: Option<&Value>) -> Result<i64, String> {
    match value {
        Some(Value::Duration(ns, _) | Value::Int(ns, _)) => Ok(*ns),
        _ => Err(NIL_POINTER.to_owned()),
    }
}

/// What Go's run time says when a nil pointer is followed.
pub(super) const NIL_POINTER: &str =
    "runtime error: invalid memory address or nil pointer dereference";

fn moved(time: Option<GoTime>) -> Result<Value, String> {
    match time {
        Some(time) => Ok(Value::Time(time, Type::Time)),
        None => Err("time out of range: years beyond 262142 cannot be shown".to_owned()),
    }
}

const NONE: &[Type] = &[];
const ONE_TIME: &[Type] = &[Type::Time];
const ONE_DURATION: &[Type] = &[Type::Duration];

/// An integer read from a time.
macro_rules! time_int {
    ($kind:expr, |$t:ident| $body:expr) => {{
        fn run(receiver: &Value, _args: &[Value]) -> Result<Value, String> {
            let $t = time_of(Some(receiver))?;
            Ok(Value::Int($body, $kind))
        }
        Some((NONE, run as Run))
    }};
}

/// A comparison of two times.
macro_rules! time_compare {
    (|$a:ident, $b:ident| $body:expr) => {{
        fn run(receiver: &Value, args: &[Value]) -> Result<Value, String> {
            let ($a, $b) = (time_of(Some(receiver))?, time_of(args.first())?);
            Ok($body)
        }
        Some((ONE_TIME, run as Run))
    }};
}

/// A time moved by a duration.
macro_rules! time_move {
    (|$t:ident, $ns:ident| $body:expr) => {{
        fn run(receiver: &Value, args: &[Value]) -> Result<Value, String> {
            let ($t, $ns) = (time_of(Some(receiver))?, ns_of(args.first())?);
            moved($body)
        }
        Some((ONE_DURATION, run as Run))
    }};
}

fn time_method(name: &str) -> Option<(&'static [Type], Run)> {
    match name {
        "Year" => time_int!(Type::Int, |t| t.date().0),
        "Month" => time_int!(Type::Month, |t| t.date().1),
        "Day" => time_int!(Type::Int, |t| t.date().2),
        "Hour" => time_int!(Type::Int, |t| t.clock().0),
        "Minute" => time_int!(Type::Int, |t| t.clock().1),
        "Second" => time_int!(Type::Int, |t| t.clock().2),
        "Nanosecond" => time_int!(Type::Int, |t| t.nanosecond()),
        "YearDay" => time_int!(Type::Int, |t| t.year_day()),
        "Weekday" => time_int!(Type::Weekday, |t| t.weekday()),
        "Unix" => time_int!(Type::Int64, |t| t.unix()),
        "UnixMilli" => {
            time_int!(Type::Int64, |t| t.unix().wrapping_mul(1000) + t.nanosecond() / 1_000_000)
        }
        "UnixMicro" => {
            time_int!(Type::Int64, |t| t.unix().wrapping_mul(1_000_000) + t.nanosecond() / 1000)
        }
        "UnixNano" => time_int!(Type::Int64, |t| t.unix_nano()),
        "Before" => time_compare!(|a, b| Value::Bool(a < b)),
        "After" => time_compare!(|a, b| Value::Bool(a > b)),
        "Equal" => time_compare!(|a, b| Value::Bool(a == b)),
        "Compare" => time_compare!(|a, b| Value::int(a.cmp(&b) as i64)),
        "Sub" => time_compare!(|a, b| Value::Duration(a.sub(b), Type::Duration)),
        "Add" => time_move!(|t, ns| t.add(ns)),
        "Truncate" => time_move!(|t, ns| t.truncate(ns)),
        "Round" => time_move!(|t, ns| t.round(ns)),
        "UTC" | "Local" => Some((NONE, |receiver, _| moved(Some(time_of(Some(receiver))?)))),
        "String" => Some((NONE, stringer)),
        "GoString" => Some((NONE, |receiver, _| {
            let t = time_of(Some(receiver))?;
            let ((y, m, d), (h, min, s)) = (t.date(), t.clock());
            let month = super::gotime::month_name(m);
            let ns = t.nanosecond();
            Ok(Value::str(format!(
                "time.Date({y}, time.{month}, {d}, {h}, {min}, {s}, {ns}, time.UTC)"
            )))
        })),
        "Location" => Some((NONE, |_, _| Ok(Value::Location))),
        "IsZero" => Some((NONE, |receiver, _| Ok(Value::Bool(time_of(Some(receiver))?.is_zero())))),
        "IsDST" => Some((NONE, |_, _| Ok(Value::Bool(false)))),
        "Format" => Some((&[Type::Str], |receiver, args| match args {
            [Value::Str(layout)] => Ok(Value::str(time_of(Some(receiver))?.format(layout))),
            _ => Err(NIL_POINTER.to_owned()),
        })),
        "AddDate" => Some((&[Type::Int, Type::Int, Type::Int], |receiver, args| match args {
            [Value::Int(y, _), Value::Int(m, _), Value::Int(d, _)] => {
                moved(time_of(Some(receiver))?.add_date(*y, *m, *d))
            }
            _ => Err(NIL_POINTER.to_owned()),
        })),
        _ => None,
    }
}

fn duration_method(name: &str) -> Option<(&'static [Type], Run)> {
    fn int(ns: i64) -> Result<Value, String> {
        Ok(Value::Int(ns, Type::Int64))
    }
    /// Go splits off the whole units first, so that the sum rounds once.
    fn float(ns: i64, unit: i64) -> Result<Value, String> {
        Ok(Value::Float((ns / unit) as f64 + (ns % unit) as f64 / unit as f64))
    }
    fn duration(ns: i64) -> Result<Value, String> {
        Ok(Value::Duration(ns, Type::Duration))
    }
    Some(match name {
        "String" => (NONE, |d, _| Ok(Value::str(duration_text(ns_of(Some(d))?)))),
        "Nanoseconds" => (NONE, |d, _| int(ns_of(Some(d))?)),
        "Microseconds" => (NONE, |d, _| int(ns_of(Some(d))? / 1_000)),
        "Milliseconds" => (NONE, |d, _| int(ns_of(Some(d))? / 1_000_000)),
        "Seconds" => (NONE, |d, _| float(ns_of(Some(d))?, 1_000_000_000)),
        "Minutes" => (NONE, |d, _| float(ns_of(Some(d))?, 60_000_000_000)),
        "Hours" => (NONE, |d, _| float(ns_of(Some(d))?, 3_600_000_000_000)),
        "Abs" => (NONE, |d, _| duration(ns_of(Some(d))?.saturating_abs())),
        "Truncate" => (ONE_DURATION, |d, args| {
            let (ns, by) = (ns_of(Some(d))?, ns_of(args.first())?);
            duration(if by <= 0 { ns } else { ns - ns % by })
        }),
        "Round" => (ONE_DURATION, |d, args| {
            let (ns, by) = (ns_of(Some(d))?, ns_of(args.first())?);
            duration(round_duration(ns, by))
        }),
        _ => return None,
    })
}

/// To the nearest multiple, half away from zero.
fn round_duration(ns: i64, by: i64) -> i64 {
    if by <= 0 {
        return ns;
    }
    let rest = (ns % by).abs();
    let toward_zero = ns - ns % by;
    if rest < by - rest {
        toward_zero
    } else if ns < 0 {
        toward_zero.saturating_sub(by)
    } else {
        toward_zero.saturating_add(by)
    }
}

/// A field of a struct, and whether its static type is an interface.
pub(super) fn struct_field(receiver: &Value, name: &str) -> Option<(Value, bool)> {
    let plain = |value| Some((value, false));
    match (receiver, name) {
        (Value::Alert(alert), "Labels") => plain(Value::Labels(alert.labels.clone())),
        (Value::Alert(alert), "ExternalLabels") => {
            plain(Value::Labels(alert.external_labels.clone()))
        }
        (Value::Alert(alert), "ExternalURL") => plain(Value::Str(alert.external_url.clone())),
        (Value::Alert(alert), "Value") => Some((alert.value.clone(), true)),
        (Value::Sample(sample), "Labels") => plain(Value::Labels(sample.labels.clone())),
        (Value::Sample(sample), "Value") => Some((sample.value.clone(), true)),
        (Value::Histogram(h), _) => {
            let floats = |values: &[f64]| {
                let items = values.iter().map(|v| Value::Float(*v)).collect();
                plain(Value::List(std::sync::Arc::new(items), Type::Floats))
            };
            match name {
                "Count" => plain(Value::Float(h.count)),
                "Sum" => plain(Value::Float(h.sum)),
                "ZeroCount" => plain(Value::Float(h.zero_count)),
                "ZeroThreshold" => plain(Value::Float(h.zero_threshold)),
                "Schema" => plain(Value::Int(i64::from(h.schema), Type::Int32)),
                "CounterResetHint" => {
                    plain(Value::Uint(h.counter_reset_hint as u64, Type::ResetHint))
                }
                "PositiveBuckets" => floats(&h.positive_buckets),
                "NegativeBuckets" => floats(&h.negative_buckets),
                "CustomValues" => floats(&h.custom_values),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a pointer's struct has the field at all.
pub(super) fn has_field(kind: Type, name: &str) -> bool {
    kind == Type::Sample && matches!(name, "Labels" | "Value")
}
