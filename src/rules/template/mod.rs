//! Alert templates: Go's `text/template` language with Prometheus' functions, so that a
//! label or annotation expands to the very text Prometheus would give it, errors included.
//!
//! A template is parsed once, when its rule is loaded, and expanded for every alert. The
//! engine knows Go's types where they show (in `printf`, comparisons, error texts) but
//! nothing of rules, storage or time: queries and the evaluation time are handed in.
//! Everything an expansion may use is bounded: nesting, steps, size of the output.

mod calls;
mod eval;
mod exec;
mod fields;
mod float;
mod functions;
mod gotime;
mod html;
mod lex;
mod node;
mod number;
mod parse;
mod printf;
mod prometheus;
mod simple;
mod value;

pub(crate) use calls::Uses;
pub use functions::prometheus_names;
pub(in crate::rules) use gotime::duration_text;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

use self::simple::Simple;
use self::value::{AlertData, Type, Value};
use crate::model::regex::{GoRegex, RegexError};
use crate::model::value::VectorSample;
use crate::model::{Labels, Sample, TimestampMs};

/// Why a template was refused or its expansion failed. `Display` is the text Prometheus
/// puts into `<error expanding template: ...>`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// The text is no template.
    #[error("error parsing template {name}: {detail}")]
    Parse {
        name: String,
        /// From `template: NAME:LINE: ` on: what a check of a rule file shows.
        detail: String,
    },
    /// The expansion failed.
    #[error("error executing template {name}: {detail}")]
    Execute {
        name: String,
        /// From `template: NAME:LINE:COLUMN: executing ` on.
        detail: String,
    },
}

impl TemplateError {
    /// The error without what was being done, as `promtool check rules` shows it.
    pub fn detail(&self) -> &str {
        match self {
            Self::Parse { detail, .. } | Self::Execute { detail, .. } => detail,
        }
    }
}

/// The variables every label and annotation can use; they are part of the parsed text, so
/// columns of error positions count them, as in Prometheus.
const ALERT_DEFINITIONS: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// Regular expressions a template keeps compiled; further ones are compiled each time.
const MAX_KEPT_PATTERNS: usize = 32;

/// What a key that a map lacks gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// The zero of the map's element: the empty text. What Prometheus sets.
    #[default]
    Zero,
    /// `<no value>`, Go's default.
    Invalid,
    /// An error.
    Error,
}

/// Runs a query at the evaluation time, for `{{ query "..." }}`. The error's text goes
/// into the template's.
pub type QueryFn<'q> = dyn FnMut(&str) -> Result<Vec<VectorSample>, String> + 'q;

/// What a template is expanded with.
#[derive(Clone, Debug)]
pub struct TemplateData {
    dot: Value,
    external_url: Arc<str>,
    now_ms: TimestampMs,
}

impl TemplateData {
    /// The data of one alert: the labels of the result's sample (the metric name
    /// included), the external labels, and the sample's value. Make it once and expand
    /// all labels and annotations of the alert with it.
    pub fn alert(
        labels: Labels,
        external_labels: Labels,
        external_url: impl Into<Arc<str>>,
        value: &Sample,
        now_ms: TimestampMs,
    ) -> Self {
        let external_url = external_url.into();
        let data = AlertData {
            labels,
            external_labels,
            external_url: external_url.clone(),
            value: Value::from_sample(value),
        };
        Self { dot: Value::Alert(Arc::new(data)), external_url, now_ms }
    }

    /// Data for a template that stands alone: `.` is nothing, or a list.
    pub fn standalone(
        list: Option<TemplateList>,
        external_url: impl Into<Arc<str>>,
        now_ms: TimestampMs,
    ) -> Self {
        let dot = list.map_or(Value::Missing, TemplateList::into_value);
        Self { dot, external_url: external_url.into(), now_ms }
    }
}

/// A list by the Go type of its elements.
#[derive(Clone, Debug)]
pub enum TemplateList {
    Floats(Vec<f64>),
    Strings(Vec<String>),
    Ints(Vec<i64>),
    Int64s(Vec<i64>),
    Uints(Vec<u64>),
    Uint64s(Vec<u64>),
}

impl TemplateList {
    fn into_value(self) -> Value {
        let (items, kind): (Vec<Value>, Type) = match self {
            Self::Floats(v) => (v.into_iter().map(Value::Float).collect(), Type::Floats),
            Self::Strings(v) => (v.into_iter().map(Value::str).collect(), Type::Strings),
            Self::Ints(v) => (v.into_iter().map(Value::int).collect(), Type::Ints),
            Self::Int64s(v) => {
                (v.into_iter().map(|v| Value::Int(v, Type::Int64)).collect(), Type::Int64s)
            }
            Self::Uints(v) => {
                (v.into_iter().map(|v| Value::Uint(v, Type::Uint)).collect(), Type::Uints)
            }
            Self::Uint64s(v) => {
                (v.into_iter().map(|v| Value::Uint(v, Type::Uint64)).collect(), Type::Uint64s)
            }
        };
        Value::List(Arc::new(items), kind)
    }
}

/// A parsed template. Cheap to expand any number of times, from any thread.
#[derive(Debug)]
pub struct Template {
    name: String,
    text: String,
    trees: parse::Trees,
    missing_key: MissingKey,
    /// Values are escaped as `html/template` does.
    html: bool,
    patterns: Mutex<HashMap<String, GoRegex>>,
    /// The output, where the text has no actions: such a text has no trees either.
    pub(super) plain: Option<String>,
    /// Of an alert, where the text only names labels.
    simple: Option<Simple>,
}

impl Template {
    /// Parses a text. The name shows in error texts.
    pub fn parse(name: &str, text: &str) -> Result<Self, TemplateError> {
        Self::parse_as(name, text, false)
    }

    /// Parses a text whose output is HTML: what `html/template` is to `text/template`,
    /// within the limits that `html.rs` states. Prometheus has it for console pages.
    pub fn parse_html(name: &str, text: &str) -> Result<Self, TemplateError> {
        Self::parse_as(name, text, true)
    }

    fn parse_as(name: &str, text: &str, html: bool) -> Result<Self, TemplateError> {
        let known: fn(&str) -> bool = match html {
            true => |name| functions::lookup(name, true).is_some(),
            false => |name| functions::lookup(name, false).is_some(),
        };
        let plain = (!html && !text.contains("{{")).then(|| text.to_owned());
        let trees = match &plain {
            Some(_) => parse::Trees::new(),
            None => parse::parse(name, text, known)
                .map_err(|fault| TemplateError::Parse { name: name.to_owned(), detail: fault.0 })?,
        };
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
            trees,
            missing_key: MissingKey::default(),
            html,
            patterns: Mutex::default(),
            plain,
            simple: None,
        })
    }

    /// Parses a label or annotation of the alert `alert_name`, with `$labels`,
    /// `$externalLabels`, `$externalURL` and `$value` defined.
    pub fn parse_alert(alert_name: &str, text: &str) -> Result<Self, TemplateError> {
        let name = format!("__alert_{alert_name}");
        match text.contains("{{") {
            true => {
                let template = Self::parse(&name, &format!("{ALERT_DEFINITIONS}{text}"))?;
                Ok(Self { simple: Simple::new(text), ..template })
            }
            // Nothing to define anything for.
            false => Self::parse(&name, text),
        }
    }

    /// Whether [`Template::parse_alert`] would refuse a text. Most texts of rules are plain,
    /// or put a label or the value into plain text, and need no parser to be accepted.
    pub fn check_alert(alert_name: &str, text: &str) -> Result<(), TemplateError> {
        match simple::is_certainly_valid(text) {
            true => Ok(()),
            false => Self::parse_alert(alert_name, text).map(|_| ()),
        }
    }

    /// Sets what a missing key gives.
    #[must_use]
    pub fn with_missing_key(mut self, missing_key: MissingKey) -> Self {
        self.missing_key = missing_key;
        self
    }

    /// The name it was parsed with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The texts `query` is called with where they are written out: `query "up"`. Texts
    /// that are put together while expanding are not known before.
    pub(crate) fn literal_queries(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.trees.values().for_each(|list| calls::literal_queries(list, &mut found));
        found
    }

    /// What it uses of its alert. For templates made by [`Template::parse_alert`].
    pub(crate) fn uses(&self) -> Uses {
        let from = ALERT_DEFINITIONS.len();
        let mut walk = calls::UseWalk { from, found: Uses::default(), redefined: false };
        if let Some(list) = self.trees.get(&self.name) {
            walk.list(list, true);
        }
        if walk.redefined { Uses::default() } else { walk.found }
    }

    /// Names of all functions a template may call.
    pub(crate) fn function_names() -> impl Iterator<Item = &'static str> {
        functions::names()
    }

    /// Expands. `query` serves the `query` function.
    pub fn expand(
        &self,
        data: &TemplateData,
        query: &mut QueryFn<'_>,
    ) -> Result<String, TemplateError> {
        if let Some(plain) = &self.plain {
            return Ok(plain.clone());
        }
        if let (Some(simple), Value::Alert(alert)) = (&self.simple, &data.dot)
            && let Some(text) = simple.expand(&alert.labels)
        {
            return Ok(text);
        }
        let env = exec::Env { external_url: &data.external_url, now_ms: data.now_ms, query };
        exec::execute(self, data.dot.clone(), env)
            .map_err(|abort| TemplateError::Execute { name: self.name.clone(), detail: abort.0 })
    }

    fn pattern(&self, source: &str) -> Result<GoRegex, RegexError> {
        if let Some(pattern) = self.patterns.lock().get(source) {
            return Ok(pattern.clone());
        }
        let pattern = GoRegex::new(source)?;
        let mut kept = self.patterns.lock();
        if kept.len() < MAX_KEPT_PATTERNS {
            kept.insert(source.to_owned(), pattern.clone());
        }
        Ok(pattern)
    }
}

/// What a label or annotation holds whose template failed.
pub fn error_text(error: &TemplateError) -> String {
    format!("<error expanding template: {error}>")
}

#[cfg(test)]
mod tests;
