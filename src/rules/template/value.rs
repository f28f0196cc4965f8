//! The values templates work on, with the Go types that show in output and error texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::gotime::{GoTime, duration_text};
use crate::model::{FloatHistogram, Labels, Sample};

/// A Go type, as far as templates can meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// `interface{}`: any value.
    Any,
    /// A parameter that takes any value, nil included, without a conversion.
    Reflect,
    Bool,
    Int,
    Int32,
    Int64,
    Uint,
    Uint8,
    Uint64,
    Float,
    Complex,
    Str,
    Html,
    Labels,
    Map,
    Vector,
    Sample,
    Alert,
    Time,
    TimePtr,
    Duration,
    DurationPtr,
    Month,
    Weekday,
    Location,
    Histogram,
    ResetHint,
    Floats,
    Strings,
    Ints,
    Int64s,
    Uints,
    Uint64s,
}

impl Type {
    /// As Go's `%T` prints it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Reflect => "reflect.Value",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint => "uint",
            Self::Uint8 => "uint8",
            Self::Uint64 => "uint64",
            Self::Float => "float64",
            Self::Complex => "complex128",
            Self::Str => "string",
            Self::Html => "template.HTML",
            Self::Labels => "map[string]string",
            Self::Map => "map[string]interface {}",
            Self::Vector => "template.queryResult",
            Self::Sample => "*template.sample",
            Self::Alert => {
                "struct { Labels map[string]string; ExternalLabels map[string]string; \
                 ExternalURL string; Value interface {} }"
            }
            Self::Time => "time.Time",
            Self::TimePtr => "*time.Time",
            Self::Duration => "time.Duration",
            Self::DurationPtr => "*time.Duration",
            Self::Month => "time.Month",
            Self::Weekday => "time.Weekday",
            Self::Location => "*time.Location",
            Self::Histogram => "*histogram.FloatHistogram",
            Self::ResetHint => "histogram.CounterResetHint",
            Self::Floats => "[]float64",
            Self::Strings => "[]string",
            Self::Ints => "[]int",
            Self::Int64s => "[]int64",
            Self::Uints => "[]uint",
            Self::Uint64s => "[]uint64",
        }
    }

    /// True for types an untyped nil converts to.
    pub(super) fn can_be_nil(self) -> bool {
        matches!(
            self,
            Self::Any
                | Self::Reflect
                | Self::Labels
                | Self::Map
                | Self::Vector
                | Self::Sample
                | Self::TimePtr
                | Self::DurationPtr
                | Self::Location
                | Self::Histogram
        )
    }

    /// True for types Go holds by pointer.
    pub(super) fn is_pointer(self) -> bool {
        matches!(
            self,
            Self::Sample | Self::TimePtr | Self::DurationPtr | Self::Location | Self::Histogram
        )
    }
}

/// An element of a query's result.
#[derive(Debug)]
pub(super) struct QuerySample {
    pub labels: Labels,
    /// A float or a histogram.
    pub value: Value,
}

/// What `.` is in a label or annotation.
#[derive(Debug)]
pub(super) struct AlertData {
    pub labels: Labels,
    pub external_labels: Labels,
    pub external_url: Arc<str>,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing at all: a key that was not there, the result of an empty pipeline.
    Missing,
    /// An `interface{}` that holds nothing.
    NilAny,
    /// The nil of a type that has one.
    Nil(Type),
    /// An element of a map of `interface{}` that a loop runs over: its static type shows
    /// in errors about its fields, and nowhere else.
    Boxed(Arc<Value>),
    Bool(bool),
    /// A signed integer of any of Go's integer types.
    Int(i64, Type),
    Uint(u64, Type),
    Float(f64),
    Complex(f64, f64),
    Str(Arc<str>),
    Html(Arc<str>),
    Labels(Labels),
    Map(Arc<BTreeMap<String, Value>>),
    List(Arc<Vec<Value>>, Type),
    Vector(Arc<Vec<Arc<QuerySample>>>),
    Sample(Arc<QuerySample>),
    Alert(Arc<AlertData>),
    Time(GoTime, Type),
    Duration(i64, Type),
    Location,
    Histogram(Arc<FloatHistogram>),
}

impl Value {
    pub(super) fn str(text: impl Into<Arc<str>>) -> Self {
        Self::Str(text.into())
    }

    pub(super) fn int(v: i64) -> Self {
        Self::Int(v, Type::Int)
    }

    pub(super) fn from_sample(sample: &Sample) -> Self {
        match sample {
            Sample::Float(v) => Self::Float(*v),
            Sample::Histogram(h) => Self::Histogram(h.clone()),
        }
    }

    /// The Go type; `None` for nothing at all.
    pub(super) fn type_of(&self) -> Option<Type> {
        Some(match self {
            Self::Missing => return None,
            Self::NilAny | Self::Boxed(_) => Type::Any,
            Self::Bool(_) => Type::Bool,
            Self::Float(_) => Type::Float,
            Self::Complex(..) => Type::Complex,
            Self::Str(_) => Type::Str,
            Self::Html(_) => Type::Html,
            Self::Labels(_) => Type::Labels,
            Self::Map(_) => Type::Map,
            Self::Vector(_) => Type::Vector,
            Self::Sample(_) => Type::Sample,
            Self::Alert(_) => Type::Alert,
            Self::Location => Type::Location,
            Self::Histogram(_) => Type::Histogram,
            Self::Nil(t)
            | Self::Int(_, t)
            | Self::Uint(_, t)
            | Self::List(_, t)
            | Self::Time(_, t)
            | Self::Duration(_, t) => *t,
        })
    }

    /// Name of the type, `<nil>` for nothing: Go's `%T`.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::NilAny => "<nil>",
            _ => self.type_of().map_or("<nil>", Type::name),
        }
    }

    /// Go's truth: not the zero of its type. Structs are true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::NilAny | Self::Nil(_) => false,
            Self::Boxed(inner) => inner.truth(),
            Self::Bool(b) => *b,
            Self::Int(v, _) | Self::Duration(v, Type::Duration) => *v != 0,
            Self::Uint(v, _) => *v != 0,
            Self::Float(v) => *v != 0.0,
            Self::Complex(re, im) => *re != 0.0 || *im != 0.0,
            Self::Str(s) | Self::Html(s) => !s.is_empty(),
            Self::Labels(labels) => !labels.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::List(items, _) => !items.is_empty(),
            Self::Vector(samples) => !samples.is_empty(),
            Self::Sample(_)
            | Self::Alert(_)
            | Self::Time(..)
            | Self::Duration(..)
            | Self::Location
            | Self::Histogram(_) => true,
        }
    }

    /// The value without the interface around it.
    pub(super) fn unboxed(self) -> Self {
        match self {
            Self::Boxed(inner) => inner.as_ref().clone(),
            other => other,
        }
    }

    /// What a type's own `String()` prints; `None` for types without one.
    pub(super) fn stringer(&self) -> Option<String> {
        Some(match self {
            Self::Time(t, _) => t.to_string(),
            Self::Duration(ns, _) => duration_text(*ns),
            Self::Int(v, Type::Month) => super::gotime::month_name(*v),
            Self::Int(v, Type::Weekday) => super::gotime::weekday_name(*v),
            Self::Location => "UTC".to_owned(),
            Self::Histogram(h) => h.to_string(),
            _ => return None,
        })
    }

    /// Bytes a string holds, to charge the budget of an expansion.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Str(s) | Self::Html(s) => s.len(),
            Self::Vector(samples) => samples.len() * 64,
            _ => 1,
        }
    }
}
