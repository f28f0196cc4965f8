//! Go's built-in template functions, and the table that finds any function by name.

use super::exec::Exec;
use super::html;
use super::printf;
use super::prometheus;
use super::value::{Type, Value};

/// Types of the parameters; those beyond are `variadic`.
pub(super) struct Signature {
    pub params: &'static [Type],
    pub variadic: Option<Type>,
}

pub(super) type Kernel = fn(&mut Exec<'_, '_>, &[Value]) -> Result<Value, String>;

pub(super) struct Function {
    pub name: &'static str,
    pub signature: Signature,
    /// Gets exactly the arguments the signature admits.
    pub run: Kernel,
}

/// A row of a function table.
pub(super) const fn row(name: &'static str, params: &'static [Type], run: Kernel) -> Function {
    Function { name, signature: Signature { params, variadic: None }, run }
}

/// As `row`, with any number of further arguments.
pub(super) const fn variadic(
    name: &'static str,
    params: &'static [Type],
    rest: Type,
    run: Kernel,
) -> Function {
    Function { name, signature: Signature { params, variadic: Some(rest) }, run }
}

/// Finds a function; `None` for names no template may use. `html`: of an HTML template.
pub(super) fn lookup(name: &str, html: bool) -> Option<&'static Function> {
    let more = if html { html::FUNCTIONS } else { &[] };
    BUILTINS.iter().chain(prometheus::FUNCTIONS).chain(more).find(|f| f.name == name)
}

/// The functions that Prometheus adds to those of Go.
pub fn prometheus_names() -> impl Iterator<Item = &'static str> {
    prometheus::FUNCTIONS.iter().map(|f| f.name)
}

/// The functions of templates that are not HTML.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().chain(prometheus::FUNCTIONS).map(|f| f.name)
}

const ANY: Type = Type::Reflect;

static BUILTINS: &[Function] = &[
    // The walker runs these three itself; the rows say what they take.
    variadic("and", &[ANY], ANY, |_, _| Ok(Value::Missing)),
    variadic("or", &[ANY], ANY, |_, _| Ok(Value::Missing)),
    variadic("call", &[ANY], ANY, |_, _| Ok(Value::Missing)),
    row("not", &[ANY], |_, args| Ok(Value::Bool(!args[0].truth()))),
    variadic("print", &[], Type::Any, |_, args| Ok(Value::str(printf::sprint(args)))),
    variadic("println", &[], Type::Any, |_, args| Ok(Value::str(printf::sprintln(args)))),
    variadic("printf", &[Type::Str], Type::Any, |_, args| match args {
        [Value::Str(format), rest @ ..] => Ok(Value::str(printf::sprintf(format, rest))),
        _ => Ok(Value::str("")),
    }),
    variadic("html", &[], Type::Any, |_, args| Ok(Value::str(escape_html(&joined(args))))),
    variadic("js", &[], Type::Any, |_, args| Ok(Value::str(escape_js(&joined(args))))),
    variadic("urlquery", &[], Type::Any, |_, args| {
        Ok(Value::str(prometheus::query_escape(&joined(args))))
    }),
    row("len", &[ANY], |_, args| len(&args[0]).map(|n| Value::int(n as i64))),
    variadic("index", &[ANY], ANY, |_, args| index(&args[0], &args[1..])),
    variadic("slice", &[ANY], ANY, |_, args| slice(&args[0], &args[1..])),
    variadic("eq", &[ANY], ANY, |_, args| eq(&args[0], &args[1..]).map(Value::Bool)),
    row("ne", &[ANY, ANY], |_, args| eq(&args[0], &args[1..]).map(|b| Value::Bool(!b))),
    row("lt", &[ANY, ANY], |_, args| lt(&args[0], &args[1]).map(Value::Bool)),
    row("le", &[ANY, ANY], |_, args| le(&args[0], &args[1]).map(Value::Bool)),
    row("gt", &[ANY, ANY], |_, args| le(&args[0], &args[1]).map(|b| Value::Bool(!b))),
    row("ge", &[ANY, ANY], |_, args| lt(&args[0], &args[1]).map(|b| Value::Bool(!b))),
];

/// The text of arguments as `html` and its like see them.
fn joined(args: &[Value]) -> String {
    match args {
        [Value::Str(text)] => text.to_string(),
        _ => {
            let shown = args.iter().map(|arg| match arg {
                Value::Missing | Value::NilAny => Value::str("<no value>"),
                other => other.clone(),
            });
            printf::sprint(&shown.collect::<Vec<_>>())
        }
    }
}

pub(super) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c.is_control() || (!c.is_ascii() && c.is_whitespace()) => {
                out.push_str(&format!("\\u{:04X}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

/// What Go's `reflect` says of a type asked of nothing.
const NO_TYPE: &str = "reflect: call of reflect.Value.Type on zero Value";

fn len(item: &Value) -> Result<usize, String> {
    match item {
        Value::Str(text) | Value::Html(text) => Ok(text.len()),
        Value::Labels(labels) => Ok(labels.len()),
        Value::Map(map) => Ok(map.len()),
        Value::List(items, _) => Ok(items.len()),
        Value::Vector(samples) => Ok(samples.len()),
        Value::Nil(Type::Labels | Type::Map | Type::Vector) => Ok(0),
        Value::Nil(_) | Value::NilAny => Err("len of nil pointer".to_owned()),
        Value::Missing => Err(NO_TYPE.to_owned()),
        // A pointer is followed before its type is named.
        other => Err(format!("len of type {}", pointee(other))),
    }
}

/// The type name of what a value points to.
fn pointee(value: &Value) -> &'static str {
    let name = value.type_name();
    name.strip_prefix('*').unwrap_or(name)
}

/// A position in something of length `len`.
fn position(index: &Value, len: usize) -> Result<usize, String> {
    let at = match index {
        Value::Int(v, _) | Value::Duration(v, Type::Duration) => *v,
        Value::Uint(v, _) => *v as i64,
        Value::Missing | Value::NilAny => {
            return Err("cannot index slice/array with nil".to_owned());
        }
        other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
    };
    match usize::try_from(at) {
        Ok(position) if position <= len => Ok(position),
        _ => Err(format!("index out of range: {at}")),
    }
}

fn index(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    if matches!(item, Value::Missing | Value::NilAny) {
        return Err("index of untyped nil".to_owned());
    }
    let mut item = item.clone();
    for index in indexes {
        item = index_once(&item, index)?;
    }
    Ok(item)
}

fn index_once(item: &Value, index: &Value) -> Result<Value, String> {
    let beyond = |what: &str| format!("reflect: {what} index out of range");
    match item {
        Value::Str(text) | Value::Html(text) => {
            let at = position(index, text.len())?;
            let byte = text.as_bytes().get(at).ok_or_else(|| beyond("string"))?;
            Ok(Value::Uint(u64::from(*byte), Type::Uint8))
        }
        Value::List(items, _) => {
            let at = position(index, items.len())?;
            items.get(at).cloned().ok_or_else(|| beyond("slice"))
        }
        Value::Vector(samples) => {
            let at = position(index, samples.len())?;
            let sample = samples.get(at).ok_or_else(|| beyond("slice"))?;
            Ok(Value::Sample(sample.clone()))
        }
        Value::Nil(Type::Vector) => {
            position(index, 0)?;
            Err(beyond("slice"))
        }
        Value::Labels(labels) => Ok(Value::str(labels.get_or_empty(key(index)?))),
        Value::Map(map) => Ok(map.get(key(index)?).cloned().unwrap_or(Value::NilAny)),
        Value::Nil(Type::Labels) => key(index).map(|_| Value::str("")),
        Value::Nil(Type::Map) => key(index).map(|_| Value::NilAny),
        Value::Nil(_) | Value::NilAny | Value::Missing => Err("index of nil pointer".to_owned()),
        other => Err(format!("can't index item of type {}", pointee(other))),
    }
}

fn key(index: &Value) -> Result<&str, String> {
    match index {
        Value::Str(text) => Ok(text),
        Value::Missing | Value::NilAny => Err("value is nil; should be of type string".to_owned()),
        other => Err(format!("value has type {}; should be string", other.type_name())),
    }
}

fn slice(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    if matches!(item, Value::Missing | Value::NilAny) {
        return Err("slice of untyped nil".to_owned());
    }
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()));
    }
    let len = match item {
        Value::Str(_) | Value::Html(_) if indexes.len() == 3 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Value::Str(text) | Value::Html(text) => text.len(),
        Value::List(items, _) => items.len(),
        Value::Vector(samples) => samples.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, len, len];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = position(index, len)?;
    }
    let [from, to, cap] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if indexes.len() == 3 && to > cap {
        return Err(format!("invalid slice index: {to} > {cap}"));
    }
    Ok(match item {
        // Half a character shows as the replacement character.
        Value::Str(text) => Value::str(String::from_utf8_lossy(&text.as_bytes()[from..to])),
        Value::Html(text) => {
            Value::Html(String::from_utf8_lossy(&text.as_bytes()[from..to]).into())
        }
        Value::List(items, kind) => Value::List(items[from..to].to_vec().into(), *kind),
        Value::Vector(samples) => Value::Vector(samples[from..to].to_vec().into()),
        other => other.clone(),
    })
}

/// Values Go can compare with each other, by kind rather than by type.
enum Basic<'v> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Complex(f64, f64),
    Str(&'v str),
}

fn basic(value: &Value) -> Option<Basic<'_>> {
    Some(match value {
        Value::Bool(b) => Basic::Bool(*b),
        Value::Int(v, _) | Value::Duration(v, Type::Duration) => Basic::Int(*v),
        Value::Uint(v, _) => Basic::Uint(*v),
        Value::Float(v) => Basic::Float(*v),
        Value::Complex(re, im) => Basic::Complex(*re, *im),
        Value::Str(text) | Value::Html(text) => Basic::Str(text),
        _ => return None,
    })
}

const BAD_TYPE: &str = "invalid type for comparison";
const INCOMPATIBLE: &str = "incompatible types for comparison";

fn is_nil(value: &Value) -> bool {
    matches!(value, Value::Missing | Value::NilAny | Value::Nil(_))
}

/// Whether the first value equals any of the others.
fn eq(first: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if eq_pair(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn eq_pair(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(match (basic(a), basic(b)) {
        (Some(Basic::Bool(a)), Some(Basic::Bool(b))) => a == b,
        (Some(Basic::Int(a)), Some(Basic::Int(b))) => a == b,
        (Some(Basic::Uint(a)), Some(Basic::Uint(b))) => a == b,
        (Some(Basic::Int(a)), Some(Basic::Uint(b))) => u64::try_from(a) == Ok(b),
        (Some(Basic::Uint(a)), Some(Basic::Int(b))) => u64::try_from(b) == Ok(a),
        (Some(Basic::Float(a)), Some(Basic::Float(b))) => a == b,
        (Some(Basic::Complex(a, b)), Some(Basic::Complex(c, d))) => a == c && b == d,
        (Some(Basic::Str(a)), Some(Basic::Str(b))) => a == b,
        (Some(_), _) | (_, Some(_)) => {
            let nothing = |v: &Value| matches!(v, Value::Missing | Value::NilAny);
            if nothing(a) || nothing(b) {
                return Ok(false);
            }
            return Err(INCOMPATIBLE.to_owned());
        }
        (None, None) => return same_object(a, b),
    })
}

/// The word of `reflect.Kind` for what is not basic; "" for nothing.
fn kind(value: &Value) -> &'static str {
    match value.type_of() {
        None => "",
        Some(Type::Alert | Type::Time) => "struct",
        Some(Type::Labels | Type::Map) => "map",
        Some(kind) if kind.is_pointer() => "ptr",
        Some(Type::Any) => "",
        Some(_) => "slice",
    }
}

/// Pointers and structs: identity, as far as Go can tell.
fn same_object(a: &Value, b: &Value) -> Result<bool, String> {
    let text = |v: &Value| printf::sprintf("%s", std::slice::from_ref(v));
    let (kind_a, kind_b) = (kind(a), kind(b));
    if kind_a != kind_b && !kind_a.is_empty() && !kind_b.is_empty() {
        let (shown_a, shown_b) = (text(a), printf::sprint(std::slice::from_ref(b)));
        let (type_a, type_b) = (a.type_name(), b.type_name());
        return Err(format!("non-comparable types {shown_a}: {type_a}, {type_b}: {shown_b}"));
    }
    if is_nil(a) || is_nil(b) {
        return Ok(is_nil(a) == is_nil(b));
    }
    if matches!(kind_b, "map" | "slice") || matches!(b, Value::Alert(_)) {
        let (shown, name) = (text(b), b.type_name());
        return Err(format!("non-comparable type {shown}: {name}"));
    }
    Ok(match (a, b) {
        (Value::Sample(a), Value::Sample(b)) => std::sync::Arc::ptr_eq(a, b),
        (Value::Histogram(a), Value::Histogram(b)) => std::sync::Arc::ptr_eq(a, b),
        (Value::Time(a, Type::Time), Value::Time(b, Type::Time)) => a == b,
        (Value::Location, Value::Location) => true,
        _ => false,
    })
}

fn lt(a: &Value, b: &Value) -> Result<bool, String> {
    let (Some(a), Some(b)) = (basic(a), basic(b)) else {
        return Err(BAD_TYPE.to_owned());
    };
    Ok(match (a, b) {
        (Basic::Int(a), Basic::Int(b)) => a < b,
        (Basic::Uint(a), Basic::Uint(b)) => a < b,
        (Basic::Int(a), Basic::Uint(b)) => u64::try_from(a).map_or(true, |a| a < b),
        (Basic::Uint(a), Basic::Int(b)) => u64::try_from(b).is_ok_and(|b| a < b),
        (Basic::Float(a), Basic::Float(b)) => a < b,
        (Basic::Str(a), Basic::Str(b)) => a < b,
        (Basic::Bool(_), Basic::Bool(_)) | (Basic::Complex(..), Basic::Complex(..)) => {
            return Err(BAD_TYPE.to_owned());
        }
        _ => return Err(INCOMPATIBLE.to_owned()),
    })
}

fn le(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(lt(a, b)? || eq_pair(a, b)?)
}
