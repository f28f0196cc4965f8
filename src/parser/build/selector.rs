//! Names, matchers and label sets.

use super::*;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};

/// Words that may be a function's name: those that are no keyword, and the keywords that
/// name functions too.
pub(super) fn may_name_function(word: &str) -> bool {
    const KEYWORDS: [&str; 19] = [
        "and",
        "or",
        "unless",
        "atan2",
        "offset",
        "smoothed",
        "anchored",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "fill",
        "fill_left",
        "fill_right",
        "bool",
        "inf",
        "nan",
    ];
    !word.contains(':') && !is_any(word, &KEYWORDS)
}

/// The metric name of an `ident` pair; a few keywords cannot be one.
pub(super) fn metric_name<'i>(ident: &Pair<'i>) -> Built<&'i str> {
    const RESERVED: [&str; 8] =
        ["bool", "on", "ignoring", "group_left", "group_right", "atan2", "inf", "nan"];
    if is_any(ident.as_str(), &RESERVED) { Err(NotPromql) } else { Ok(ident.as_str()) }
}

/// Whether a bare word is a number.
pub(super) fn is_number(word: &str) -> bool {
    is_any(word, &["inf", "nan"])
}

/// Whether a bare word may stand in `by (...)` and its like.
pub(super) fn may_be_label(word: &str) -> bool {
    !is_any(word, &["without", "inf", "nan"])
}

fn is_any(word: &str, words: &[&str]) -> bool {
    words.iter().any(|w| w.eq_ignore_ascii_case(word))
}

/// One `matcher` pair: its name, operator and value. A lone string is a metric name.
fn parts(pair: Pair<'_>) -> Built<(String, MatchOp, String)> {
    let mut inner = pair.into_inner();
    let first = inner.next().ok_or(NotPromql)?;
    let name = match first.as_rule() {
        Rule::string => string(&first)?,
        _ => first.as_str().to_owned(),
    };
    let (Some(op), Some(value)) = (inner.next(), inner.next()) else {
        return Ok((METRIC_NAME.to_owned(), MatchOp::Equal, name));
    };
    let op = match_op(op.as_str());
    let value = string(&value)?;
    Ok((name, op, value))
}

fn match_op(text: &str) -> MatchOp {
    match text {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        _ => MatchOp::NotRegex,
    }
}

/// The label set of a `metric` pair's parts.
pub(super) fn metric(metric: Pairs<'_>) -> Built<Labels> {
    let mut labels = LabelsBuilder::default();
    let mut named = None;
    for part in metric {
        if part.as_rule() == Rule::ident {
            named = Some(metric_name(&part)?.to_owned());
            continue;
        }
        for matcher in part.into_inner() {
            let (name, op, value) = parts(matcher)?;
            if op != MatchOp::Equal {
                return Err(NotPromql);
            }
            labels.set(&name, &value);
        }
    }
    if let Some(name) = named {
        labels.set(METRIC_NAME, &name);
    }
    Ok(labels.build())
}

impl Builder<'_> {
    /// A selector from its name and `matchers` pair; the name's own matcher comes last.
    pub(super) fn selector(
        &mut self,
        name: Option<String>,
        matchers: Option<Pair<'_>>,
    ) -> Built<VectorSelector> {
        let mut built = Vec::new();
        for pair in matchers.into_iter().flat_map(Pair::into_inner) {
            let span = span(&pair);
            let (name, op, value) = parts(pair)?;
            built.extend(self.matcher(op, &name, &value, span));
        }
        if let Some(name) = &name {
            built.push(Matcher::equal(METRIC_NAME, name));
        }
        Ok(VectorSelector {
            name,
            matchers: built,
            modifiers: Modifiers::default(),
            extension: None,
            bypass_empty_check: false,
        })
    }

    /// One matcher; a bad regular expression is reported.
    fn matcher(&mut self, op: MatchOp, name: &str, value: &str, span: Span) -> Option<Matcher> {
        match Matcher::new(op, name, value) {
            Ok(matcher) => Some(matcher),
            Err(bad_regex) => {
                self.error(span, bad_regex.to_string());
                None
            }
        }
    }

    /// Reports what is wrong with a matcher; `op` and `value` as written.
    pub(in crate::parser) fn check_matcher(&mut self, op: &str, value: &str, span: Span) {
        if let Ok(value) = literal::unquote(value) {
            let _ = self.matcher(match_op(op), "", &value, span);
        }
    }
}
