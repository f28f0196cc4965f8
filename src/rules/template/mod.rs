//! Alert templates: Go's `text/template` language with Prometheus' functions, so that a
//! label or annotation expands to the very text Prometheus would give it, errors included.
//!
//! A template is parsed once, when its rule is loaded, and expanded for every alert. The
//! engine knows Go's types where they show (in `printf`, comparisons, error texts) but
//! nothing of rules, storage or time: queries and the evaluation time are handed in.
//! Everything an expansion may use is bounded: nesting, steps, size of the output.

mod lex;
mod node;
mod number;
mod parse;

use thiserror::Error;

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

/// A parsed template. Cheap to expand any number of times, from any thread.
#[derive(Debug)]
pub struct Template {
    name: String,
    text: String,
    trees: parse::Trees,
}

impl Template {
    /// Parses a text. The name shows in error texts.
    pub fn parse(name: &str, text: &str) -> Result<Self, TemplateError> {
        match parse::parse(name, text, is_function) {
            Ok(trees) => Ok(Self { name: name.to_owned(), text: text.to_owned(), trees }),
            Err(fault) => Err(TemplateError::Parse { name: name.to_owned(), detail: fault.0 }),
        }
    }

    /// Parses a label or annotation of the alert `alert_name`, with `$labels`,
    /// `$externalLabels`, `$externalURL` and `$value` defined.
    pub fn parse_alert(alert_name: &str, text: &str) -> Result<Self, TemplateError> {
        Self::parse(&format!("__alert_{alert_name}"), &format!("{ALERT_DEFINITIONS}{text}"))
    }

    /// The name it was parsed with.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

const FUNCTIONS: &[&str] = &[
    "and",
    "call",
    "html",
    "index",
    "slice",
    "js",
    "len",
    "not",
    "or",
    "print",
    "printf",
    "println",
    "urlquery",
    "eq",
    "ge",
    "gt",
    "le",
    "lt",
    "ne",
    "query",
    "first",
    "label",
    "value",
    "strvalue",
    "args",
    "reReplaceAll",
    "safeHtml",
    "match",
    "title",
    "toUpper",
    "toLower",
    "graphLink",
    "tableLink",
    "sortByLabel",
    "stripPort",
    "stripDomain",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "pathPrefix",
    "externalURL",
    "parseDuration",
    "toTime",
    "toDuration",
    "now",
    "urlQueryEscape",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(text: &str, expected: &str) {
        let error = Template::parse("test", text).expect_err(text);
        assert_eq!(error.detail(), expected, "{text}");
    }

    #[test]
    fn parse_errors_are_worded_as_go_words_them() {
        refuses("{{", "template: test:1: unclosed action");
        refuses("{{ }}", "template: test:1: missing value for command");
        refuses("{{ .a }", "template: test:1: unexpected \"}\" in operand");
        refuses("{{ foo }}", "template: test:1: function \"foo\" not defined");
        refuses("{{ $x }}", "template: test:1: undefined variable \"$x\"");
        refuses("{{ if .a }}", "template: test:1: unexpected EOF");
        refuses("{{ end }}", "template: test:1: unexpected {{end}}");
        refuses("{{ if }}{{ end }}", "template: test:1: missing value for if");
        refuses("a\n{{ .a | 1 }}", "template: test:2: non executable command in pipeline stage 2");
        refuses("{{ \"a }}", "template: test:1: unterminated quoted string");
        refuses("{{ 1a }}", "template: test:1: bad number syntax: \"1a\"");
        refuses("{{ (1 }}", "template: test:1: unclosed left paren");
        refuses("{{ 1) }}", "template: test:1: unexpected right paren");
        refuses("{{ break }}", "template: test:1: {{break}} outside {{range}}");
        refuses("{{ 1.a }}", "template: test:1: bad number syntax: \"1.a\"");
        refuses("{{ true.a }}", "template: test:1: unexpected . after term \"true\"");
        refuses("{{/* a }}", "template: test:1: unclosed comment");
        refuses("{{ .a-b }}", "template: test:1: bad character U+002D '-'");
        refuses("{{ define \"a\" }}", "template: test:1: unexpected EOF");
    }
}
