//! Warnings and infos that accompany a result without failing it.

use std::collections::BTreeMap;

/// Byte range of the expression an annotation is about, in the submitted query.
pub type Span = std::ops::Range<u32>;

/// How grave an annotation is: decides whether it is rendered under `warnings` or `infos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Warning,
    Info,
}

/// One annotation. Two with the same severity and text are the same; the one raised last
/// says where, which is the expression evaluated last (see [`evaluated_before`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    pub severity: Severity,
    /// Full text without the position, e.g. `PromQL warning: ...`.
    pub text: String,
    /// Where in the query; `None` when it is about none of its parts (storage warnings).
    pub span: Option<Span>,
}

/// The deduplicated annotations of one evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    entries: BTreeMap<(Severity, String), Option<Span>>,
}

/// Most annotations of one severity that are rendered, as in Prometheus' API.
pub const RENDERED_MAX: usize = 10;

impl Annotations {
    /// Adds one; the same text again only moves its position.
    pub fn add(&mut self, annotation: Annotation) {
        let Annotation { severity, text, span } = annotation;
        let place = self.entries.entry((severity, text)).or_default();
        if place.as_ref().zip(span.as_ref()).is_none_or(|(old, new)| evaluated_before(old, new)) {
            *place = span;
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: Annotations) {
        for ((severity, text), span) in other.entries {
            self.add(Annotation { severity, text, span });
        }
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every annotation, warnings first, by text.
    pub fn iter(&self) -> impl Iterator<Item = Annotation> + '_ {
        self.entries.iter().map(|((severity, text), span)| Annotation {
            severity: *severity,
            text: text.clone(),
            span: span.clone(),
        })
    }

    /// The texts of one severity with ` (line:col)` of `query` appended, not capped.
    pub fn texts(&self, severity: Severity, query: &str) -> Vec<String> {
        self.iter()
            .filter(|a| a.severity == severity)
            .map(|a| match a.span {
                Some(span) => {
                    let (line, column) = line_column(query, span.start as usize);
                    format!("{} ({line}:{column})", a.text)
                }
                None => a.text,
            })
            .collect()
    }

    /// As `texts`, with at most ten and a line that says how many were left out.
    pub fn rendered(&self, severity: Severity, query: &str) -> Vec<String> {
        capped(self.texts(severity, query), severity)
    }
}

/// Whether the expression at `a` is evaluated before the one at `b`: operands from left to
/// right, and all of them before what they are operands of. Operators here run interleaved
/// and on several threads, so that their own order says nothing.
pub fn evaluated_before(a: &Span, b: &Span) -> bool {
    (a.end, b.start) < (b.end, a.start)
}

/// The first [`RENDERED_MAX`] texts, and a line that says how many were left out.
pub(crate) fn capped(mut texts: Vec<String>, severity: Severity) -> Vec<String> {
    if texts.len() > RENDERED_MAX {
        let more = texts.len() - RENDERED_MAX;
        let word = match severity {
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        texts.truncate(RENDERED_MAX);
        texts.push(format!("{more} more {word} annotations omitted"));
    }
    texts
}

/// Line and column (from 1, in bytes) of a byte offset.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    (line, before.len() - line_start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expression_evaluated_last_says_where() {
        let mut annotations = Annotations::default();
        let mut check = |span: Option<Span>, expected: Option<Span>| {
            let text = "same".to_owned();
            annotations.add(Annotation { severity: Severity::Info, text, span });
            assert_eq!(annotations.iter().next().and_then(|a| a.span), expected);
        };
        check(None, None);
        check(Some(10..20), Some(10..20));
        // Another operand to the left, an operand of its own, then what it is an operand of.
        check(Some(2..5), Some(10..20));
        check(Some(15..20), Some(10..20));
        check(Some(8..20), Some(8..20));
        check(Some(21..22), Some(21..22));
    }
}
