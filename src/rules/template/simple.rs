//! Templates that only put labels of the sample into a text, as most of those of alerting
//! rules do: `{{ $labels.instance }} is down`. A million alerts are expanded at every
//! evaluation; these need neither variables nor values for it.
//!
//! What is not certain to be of that form is left to the interpreter, whose output is the
//! same.

use super::exec::MAX_BYTES;
use super::functions;
use crate::model::Labels;

/// A text in parts.
#[derive(Debug)]
pub(super) struct Simple(Box<[Part]>);

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    /// The value of a label, nothing where there is no such label.
    Label(Box<str>),
}

impl Simple {
    /// `None` when the text does more than naming labels. It has been parsed without error.
    pub(super) fn new(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}")?;
            let name = action.trim_matches(' ').strip_prefix("$labels.")?;
            let first = name.bytes().next()?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if first.is_ascii_digit() || !name.bytes().all(plain) {
                return None;
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(Part::Label(name.into()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Some(Self(parts.into()))
    }

    /// `None` when it would be longer than the interpreter allows.
    pub(super) fn expand(&self, labels: &Labels) -> Option<String> {
        let text = |part: &'_ Part| -> usize {
            match part {
                Part::Text(text) => text.len(),
                Part::Label(name) => labels.get_or_empty(name).len(),
            }
        };
        let len: usize = self.0.iter().map(text).sum();
        if len > MAX_BYTES {
            return None;
        }
        let mut out = String::with_capacity(len);
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Label(name) => out.push_str(labels.get_or_empty(name)),
            }
        }
        Some(out)
    }
}

/// Whether a text is a template for certain: its actions are variables every alert has,
/// with fields, piped through functions that exist (`{{ $value | humanize }}`), or it has
/// none. What functions make of their arguments shows only when it is expanded.
pub(super) fn is_certainly_valid(text: &str) -> bool {
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let mut rest = text;
    while let Some(open) = memchr::memchr(b'{', rest.as_bytes()) {
        let Some(after) = rest[open..].strip_prefix("{{") else {
            rest = &rest[open + 1..];
            continue;
        };
        let Some((action, after)) = after.split_once("}}") else { return false };
        let mut parts = action.split('|').map(|part| part.trim_matches(' '));
        let mut names = parts.next().unwrap_or_default().split('.');
        let variable = names.next().unwrap_or_default();
        if !["$labels", "$value", "$externalLabels", "$externalURL"].contains(&variable)
            || !names.all(word)
            || !parts.all(|part| word(part) && functions::lookup(part, false).is_some())
        {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::{Template, TemplateData};
    use super::*;
    use crate::model::Sample;

    #[test]
    fn what_is_simple_reads_as_the_interpreter_has_it() {
        let labels = Labels::from_pairs([
            ("__name__", "up"),
            ("if", "a keyword"),
            ("i", "1 {{ $labels.job }}"),
            ("job", "a<b>&\"c\""),
        ]);
        let sample = Sample::Float(7.5);
        let data = TemplateData::alert(labels.clone(), Labels::empty(), "http://h", &sample, 0);
        let check = |text: &str, simple: bool| {
            let template = Template::parse_alert("A", text).unwrap();
            assert_eq!(template.simple.is_some(), simple, "{text}");
            let expanded = template.expand(&data, &mut |_| Ok(vec![])).unwrap();
            let interpreted = Template { simple: None, ..template };
            let interpreted = interpreted.expand(&data, &mut |_| Ok(vec![])).unwrap();
            assert_eq!(expanded, interpreted, "{text}");
        };
        for text in [
            "{{ $labels.job }}",
            "{{$labels.i}}",
            "a {{ $labels.i }} b {{$labels.job}}{{ $labels.__name__ }}",
            "{{ $labels.nowhere }}|",
            "}} {{ $labels.if }} }}",
            "{ {{ $labels.job }} }",
        ] {
            check(text, true);
        }
        for text in [
            "{{ $value }}",
            "{{- $labels.job -}} x",
            "{{ $labels.job | toUpper }}",
            "{{ $labels }}",
            "{{ .Labels.job }}",
            "{{ \"}}\" }}{{ $labels.job }}",
            "{{/* $labels.job */}}",
            "{{ with $labels.job }}x{{ end }}",
            "{{ $labels.job.x }}",
        ] {
            if Template::parse_alert("A", text)
                .is_ok_and(|t| t.expand(&data, &mut |_| Ok(vec![])).is_ok())
            {
                check(text, false);
            } else {
                assert!(Simple::new(text).is_none(), "{text}");
            }
        }
    }

    #[test]
    fn what_is_certainly_valid_is_valid() {
        let check = |text: &str, certain: bool| {
            assert_eq!(is_certainly_valid(text), certain, "{text}");
            if certain {
                assert!(Template::parse_alert("A", text).is_ok(), "{text}");
            }
        };
        for text in [
            "",
            "plain } }}",
            "{{ $labels.a }} and {{$value}}",
            "{{ $labels }}{{ $externalLabels.b }}{{ $externalURL }}",
            "{{ $value | humanize | toUpper }}",
            "{ {{ $labels.if }} }",
            "{{ $labels.a.b | first }}",
        ] {
            check(text, true);
        }
        for text in [
            "{{ $value",
            "{{ value }}",
            "{{ $values }}",
            "{{ $labels. }}",
            "{{ $labels.1 }}",
            "{{ $labels.a-b }}",
            "{{- $value }}",
            "{{ $value -}}",
            "{{ $value | nothing }}",
            "{{ $value | }}",
            "{{ $value | printf \"%f\" }}",
            "{{ printf \"}}\" }}",
            "{{ $value | if }}",
            "{{ .Labels.a }}",
            "{{ $labels .a }}",
            "{{ $value\t}}",
        ] {
            check(text, false);
        }
    }
}
