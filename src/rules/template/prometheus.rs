//! The functions Prometheus adds: queries and their results, humanized numbers, links,
//! texts and regular expressions.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::exec::Exec;
use super::fields::NIL_POINTER;
use super::float::{default_text, format_float};
use super::functions::{Function, row, variadic};
use super::gotime::GoTime;
use super::number::{go_quote, parse_float};
use super::value::{QuerySample, Type, Value};
use crate::model::duration::parse_signed_duration;

type Result<T> = std::result::Result<T, String>;

const STR: Type = Type::Str;

pub(super) static FUNCTIONS: &[Function] = &[
    row("query", &[STR], |x, args| query(x, text(&args[0]))),
    row("first", &[Type::Vector], |_, args| match vector(&args[0]).first() {
        Some(sample) => Ok(Value::Sample(sample.clone())),
        None => Err("first() called on vector with no elements".to_owned()),
    }),
    row("label", &[STR, Type::Sample], |_, args| {
        Ok(Value::str(sample(&args[1])?.labels.get_or_empty(text(&args[0]))))
    }),
    row("value", &[Type::Sample], |_, args| Ok(sample(&args[0])?.value.clone())),
    row("strvalue", &[Type::Sample], |_, args| {
        Ok(Value::str(sample(&args[0])?.labels.get_or_empty("__value__")))
    }),
    row("sortByLabel", &[STR, Type::Vector], |_, args| {
        let name = text(&args[0]);
        let mut samples = vector(&args[1]).to_vec();
        samples.sort_by(|a, b| a.labels.get_or_empty(name).cmp(b.labels.get_or_empty(name)));
        Ok(Value::Vector(Arc::new(samples)))
    }),
    variadic("args", &[], Type::Any, |_, args| {
        let named = args.iter().enumerate().map(|(i, v)| (format!("arg{i}"), v.clone()));
        Ok(Value::Map(Arc::new(named.collect::<BTreeMap<_, _>>())))
    }),
    row("reReplaceAll", &[STR, STR, STR], |x, args| {
        let pattern = text(&args[0]);
        let regex = x
            .regex(pattern)
            .map_err(|e| format!("regexp: Compile({}): {e}", back_quoted(pattern)))?;
        Ok(Value::str(regex.replace_all(text(&args[2]), text(&args[1]))))
    }),
    row("match", &[STR, STR], |x, args| {
        let regex = x.regex(text(&args[0])).map_err(|e| e.to_string())?;
        Ok(Value::Bool(regex.is_match(text(&args[1]))))
    }),
    row("safeHtml", &[STR], |_, args| Ok(Value::Html(text(&args[0]).into()))),
    row("title", &[STR], |_, args| Ok(Value::str(title(text(&args[0]))))),
    row("toUpper", &[STR], |_, args| Ok(Value::str(each_char(text(&args[0]), upper)))),
    row("toLower", &[STR], |_, args| Ok(Value::str(each_char(text(&args[0]), lower)))),
    row("urlQueryEscape", &[STR], |_, args| Ok(Value::str(query_escape(text(&args[0]))))),
    row("graphLink", &[STR], |_, args| Ok(Value::str(expression_link(text(&args[0]), 0)))),
    row("tableLink", &[STR], |_, args| Ok(Value::str(expression_link(text(&args[0]), 1)))),
    row("stripPort", &[STR], |_, args| {
        let whole = text(&args[0]);
        Ok(Value::str(split_host_port(whole).map_or(whole, |(host, _)| host)))
    }),
    row("stripDomain", &[STR], |_, args| Ok(Value::str(strip_domain(text(&args[0]))))),
    row("externalURL", &[], |x, _| Ok(Value::Str(x.env.external_url.clone()))),
    row("pathPrefix", &[], |x, _| Ok(Value::str(url_path(x.env.external_url)))),
    row("humanize", &[Type::Any], |_, args| number(&args[0]).map(|v| Value::str(humanize(v)))),
    row("humanize1024", &[Type::Any], |_, args| {
        number(&args[0]).map(|v| Value::str(humanize_1024(v)))
    }),
    row("humanizeDuration", &[Type::Any], |_, args| {
        number(&args[0]).map(|v| Value::str(humanize_duration(v)))
    }),
    row("humanizePercentage", &[Type::Any], |_, args| {
        number(&args[0]).map(|v| Value::str(format!("{}%", four(v * 100.0))))
    }),
    row("humanizeTimestamp", &[Type::Any], |_, args| {
        let v = number(&args[0])?;
        if !v.is_finite() {
            return Ok(Value::str(four(v)));
        }
        time_of(v).map(|t| Value::str(t.to_string()))
    }),
    row("toTime", &[Type::Any], |_, args| {
        time_of(number(&args[0])?).map(|t| Value::Time(t, Type::TimePtr))
    }),
    row("toDuration", &[Type::Any], |_, args| {
        nanoseconds(number(&args[0])?, "duration").map(|ns| Value::Duration(ns, Type::DurationPtr))
    }),
    row("parseDuration", &[STR], |_, args| match parse_signed_duration(text(&args[0])) {
        Ok(ms) => Ok(Value::Float((ms as f64 * 1e6) / 1e9)),
        Err(error) => Err(error.to_string()),
    }),
    row("now", &[], |x, _| Ok(Value::Float(x.env.now_ms as f64 / 1000.0))),
];

fn text(value: &Value) -> &str {
    match value {
        Value::Str(text) => text,
        _ => "",
    }
}

fn vector(value: &Value) -> &[Arc<QuerySample>] {
    match value {
        Value::Vector(samples) => samples,
        _ => &[],
    }
}

fn sample(value: &Value) -> Result<&QuerySample> {
    match value {
        Value::Sample(sample) => Ok(sample),
        _ => Err(NIL_POINTER.to_owned()),
    }
}

fn query(x: &mut Exec<'_, '_>, expr: &str) -> Result<Value> {
    let samples = (x.env.query)(expr)?;
    let samples = samples
        .into_iter()
        .map(|s| Arc::new(QuerySample { value: Value::from_sample(&s.sample), labels: s.labels }));
    Ok(Value::Vector(Arc::new(samples.collect())))
}

/// What the humanizing functions take for a number.
fn number(value: &Value) -> Result<f64> {
    match value {
        Value::Float(v) => Ok(*v),
        Value::Str(text) => parse_float(text).map_err(|e| e.text(text)),
        Value::Int(v, Type::Int | Type::Int64) => Ok(*v as f64),
        Value::Uint(v, Type::Uint | Type::Uint64) => Ok(*v as f64),
        Value::Duration(ns, Type::Duration) => {
            Ok((ns / 1_000_000_000) as f64 + (ns % 1_000_000_000) as f64 / 1e9)
        }
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

/// `%.4g`
fn four(v: f64) -> String {
    format_float(v, 'g', Some(4))
}

fn scaled(mut v: f64, prefixes: [&'static str; 8], base: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in prefixes {
        if v.abs() < base {
            break;
        }
        prefix = next;
        v /= base;
    }
    (v, prefix)
}

fn scaled_down(mut v: f64) -> (f64, &'static str) {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if v.abs() >= 1.0 {
            break;
        }
        prefix = next;
        v *= 1000.0;
    }
    (v, prefix)
}

fn humanize(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return four(v);
    }
    let (v, prefix) = if v.abs() >= 1.0 {
        scaled(v, ["k", "M", "G", "T", "P", "E", "Z", "Y"], 1000.0)
    } else {
        scaled_down(v)
    };
    format!("{}{prefix}", four(v))
}

fn humanize_1024(v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return four(v);
    }
    let (v, prefix) = scaled(v, ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"], 1024.0);
    format!("{}{prefix}", four(v))
}

fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return four(v);
    }
    if v == 0.0 {
        return format!("{}s", four(v));
    }
    if v.abs() < 1.0 {
        let (v, prefix) = scaled_down(v);
        return format!("{}{prefix}s", four(v));
    }
    let sign = if v < 0.0 { "-" } else { "" };
    let v = v.abs();
    // Beyond an i64 Go's conversion is whatever the processor gives; this one saturates.
    let whole = v as i64;
    let (seconds, minutes) = (whole % 60, whole / 60 % 60);
    let (hours, days) = (whole / 3600 % 24, whole / 86_400);
    if days != 0 {
        return format!("{sign}{days}d {hours}h {minutes}m {seconds}s");
    }
    if hours != 0 {
        return format!("{sign}{hours}h {minutes}m {seconds}s");
    }
    if minutes != 0 {
        return format!("{sign}{minutes}m {seconds}s");
    }
    format!("{sign}{}s", four(v))
}

fn nanoseconds(seconds: f64, what: &str) -> Result<i64> {
    if !seconds.is_finite() {
        return Err("value is NaN or Inf".to_owned());
    }
    let ns = seconds * 1e9;
    if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
        let shown = default_text(seconds);
        return Err(format!(
            "{shown} cannot be represented as a nanoseconds {what} since it overflows int64"
        ));
    }
    Ok(ns as i64)
}

/// A time of whole milliseconds.
fn time_of(seconds: f64) -> Result<GoTime> {
    let ms = nanoseconds(seconds, "timestamp")? / 1_000_000;
    GoTime::from_unix_ms(ms).ok_or_else(|| "value is NaN or Inf".to_owned())
}

/// The one character a character maps to; those that map to several stay, as in Go.
fn single(mut mapped: impl Iterator<Item = char>, c: char) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        _ => c,
    }
}

fn upper(c: char) -> char {
    single(c.to_uppercase(), c)
}

fn lower(c: char) -> char {
    if c == '\u{130}' { 'i' } else { single(c.to_lowercase(), c) }
}

fn title_char(c: char) -> char {
    match c as u32 {
        0x1c4..=0x1c6 => '\u{1c5}',
        0x1c7..=0x1c9 => '\u{1c8}',
        0x1ca..=0x1cc => '\u{1cb}',
        0x1f1..=0x1f3 => '\u{1f2}',
        // Georgian has capitals but no title case.
        0x10d0..=0x10ff => c,
        _ => upper(c),
    }
}

fn each_char(text: &str, map: fn(char) -> char) -> String {
    text.chars().map(map).collect()
}

/// Go's `strings.Title`: the first letter of each word, a word being what stands between
/// characters that are neither letters, digits nor underscores.
fn title(text: &str) -> String {
    let separates = |c: char| match c {
        '0'..='9' | 'a'..='z' | 'A'..='Z' | '_' => false,
        c if c.is_ascii() => true,
        c if c.is_alphanumeric() => false,
        c => c.is_whitespace(),
    };
    let mut previous = ' ';
    text.chars()
        .map(|c| {
            let starts = separates(previous);
            previous = c;
            if starts { title_char(c) } else { c }
        })
        .collect()
}

/// Go's `url.QueryEscape`.
pub(super) fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn expression_link(expr: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", query_escape(expr))
}

/// The path of a URL, decoded.
fn url_path(url: &str) -> Cow<'_, str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    percent_decode_str(path).decode_utf8_lossy()
}

/// Go's `net.SplitHostPort`; `None` for what it refuses.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let colon = text.rfind(':')?;
    let port = &text[colon + 1..];
    let (host, open_from, close_from) = if text.starts_with('[') {
        let end = text.find(']')?;
        if end + 1 != colon {
            return None;
        }
        (&text[1..end], 1, end + 1)
    } else {
        let host = &text[..colon];
        if host.contains(':') {
            return None;
        }
        (host, 0, 0)
    };
    let stray = text[open_from..].contains('[') || text[close_from..].contains(']');
    if stray { None } else { Some((host, port)) }
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.to_owned();
    }
    let host = host.split('.').next().unwrap_or("");
    match port {
        "" => host.to_owned(),
        _ if host.contains([':', '%']) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// As Go's `regexp` quotes a pattern in a panic.
fn back_quoted(text: &str) -> String {
    let plain = |c: char| c != '`' && c != '\u{feff}' && (c == '\t' || !c.is_control());
    if text.chars().all(plain) { format!("`{text}`") } else { go_quote(text) }
}
