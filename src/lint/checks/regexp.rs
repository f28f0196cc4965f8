//! Matchers with regular expressions that need none, or say less than they seem to.

use std::ops::Range;

use crate::diagnostics::Diagnostic;
use crate::lint::context::{Findings, RuleCx, finding};
use crate::model::{METRIC_NAME, MatchOp, Matcher};
use crate::parser::ast::{ExprKind, VectorSelector};

/// `promql/regexp`
pub(in crate::lint) fn regexp(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let mut selectors: Vec<(&VectorSelector, Range<usize>)> = Vec::new();
    cx.expr().walk(&mut |expr| {
        let span = expr.span.start as usize..expr.span.end as usize;
        match &expr.kind {
            ExprKind::VectorSelector(selector) => selectors.push((selector, span)),
            ExprKind::MatrixSelector(matrix) => selectors.push((&matrix.selector, span)),
            _ => {}
        }
    });
    for (selector, span) in selectors {
        let mut from = span.start;
        for matcher in &selector.matchers {
            if !matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex) {
                continue;
            }
            let written = written_matcher(cx.expr_text(), matcher, from..span.end);
            if let Some(written) = &written {
                from = written.whole.end;
            }
            // Without it the selector may not be one.
            let needed = selector
                .matchers
                .iter()
                .filter(|other| !std::ptr::eq(*other, matcher))
                .all(|other| other.matches_empty());
            if let Some(found) = judge(cx, matcher, written.as_ref(), needed) {
                out.rule(cx, found);
            }
        }
    }
}

/// A matcher as it stands in the text of an expression.
struct WrittenMatcher {
    whole: Range<usize>,
    op: Range<usize>,
    /// With its quotes.
    value: Range<usize>,
}

/// Finds a matcher by its name, operator and value. `None` where it is written in a way
/// that is not looked for, such as with escapes.
fn written_matcher(text: &str, matcher: &Matcher, within: Range<usize>) -> Option<WrittenMatcher> {
    let blank = |c: char| c.is_whitespace();
    let mut from = within.start;
    loop {
        let name = super::find_word(text, &matcher.name, from).filter(|r| r.end <= within.end)?;
        from = name.end;
        let after = text[name.end..within.end].trim_start_matches(blank);
        let op_start = within.end - after.len();
        let Some(after) = after.strip_prefix(matcher.op.as_str()) else { continue };
        let op = op_start..op_start + matcher.op.as_str().len();
        let after = after.trim_start_matches(blank);
        let value_start = within.end - after.len();
        let Some(quote) = after.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else {
            continue;
        };
        let Some(len) = after[1..]
            .strip_prefix(&*matcher.value)
            .and_then(|rest| rest.starts_with(quote).then_some(matcher.value.len() + 2))
        else {
            continue;
        };
        let value = value_start..value_start + len;
        return Some(WrittenMatcher { whole: name.start..value.end, op, value });
    }
}

/// No character of it means anything but itself.
fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '^', '$', '\\'])
}

fn judge(
    cx: &RuleCx<'_>,
    matcher: &Matcher,
    written: Option<&WrittenMatcher>,
    needed: bool,
) -> Option<Diagnostic> {
    let value = &*matcher.value;
    let positive = matcher.op == MatchOp::Regex;
    let at = |range: Option<Range<usize>>| match range {
        Some(range) => cx.in_expr(range),
        None => cx.at_name(),
    };
    let whole = at(written.map(|w| w.whole.clone()));
    let equality = if positive { "=" } else { "!=" };
    let change = |found: Diagnostic, help: String, op: &str, meant: &str| {
        // The quotes stay what they are.
        match written.filter(|_| cx.fits_expr(op) && cx.fits_expr(meant)) {
            Some(w) => {
                let range = cx.in_expr(w.op.start..w.value.end);
                let text = cx.expr_text();
                let between = &text[w.op.end..w.value.start];
                let quote = &text[w.value.start..=w.value.start];
                if cx.fits_expr(quote) {
                    return found.suggest(
                        help,
                        range,
                        format!("{op}{between}{quote}{meant}{quote}"),
                    );
                }
                found.help(help)
            }
            None => found.help(help),
        }
    };
    if is_literal(value) {
        let found = finding(format!("`{matcher}` needs no regular expression")).at(whole);
        let help = format!("compare with `{equality}`");
        return Some(change(found, help, equality, value));
    }
    if matches!(value, ".*" | "^.*$" | "^.*" | ".*$") {
        let found = if positive {
            if needed {
                return None;
            }
            finding(format!("`{matcher}` matches every series")).at(whole).help("leave it out")
        } else {
            finding(format!("`{matcher}` matches no series"))
                .at(whole)
                .help(format!("for series without the label: `{}=\"\"`", matcher.name))
        };
        return Some(found);
    }
    if value == ".+" && &*matcher.name != METRIC_NAME {
        let (op, what) = if positive { ("!=", "has the label") } else { ("=", "lacks the label") };
        let found = finding(format!("`{matcher}` says no more than that a series {what}"));
        let help = format!("compare with `{op}`");
        return Some(change(found.at(whole), help, op, ""));
    }
    let mut bare = value;
    bare = bare.strip_prefix('^').unwrap_or(bare);
    if !bare.ends_with("\\$") {
        bare = bare.strip_suffix('$').unwrap_or(bare);
    }
    if bare.len() < value.len() && !bare.contains(['^', '$']) && !splits(bare) {
        let found = finding("a matcher always matches the whole value: the anchors do nothing");
        let help = "leave `^` and `$` out".to_owned();
        let (op, help) = match is_literal(bare) {
            true => (equality, format!("compare with `{equality}`")),
            false => (matcher.op.as_str(), help),
        };
        return Some(change(found.at(whole), help, op, bare));
    }
    if cx.settings().regexp.smelly && is_smelly(value) {
        let found = finding(format!(
            "`{}` seems to hold several things at once, of which `{value}` picks some",
            matcher.name
        ));
        return Some(found.at(whole).help("give each thing a label of its own"));
    }
    None
}

/// `^a|b$` anchors `a` at its start and `b` at its end, so its anchors do belong to parts.
/// In a matcher even those do nothing, but a reader may think otherwise.
fn splits(pattern: &str) -> bool {
    let mut depth = 0usize;
    pattern.chars().any(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '|' && depth == 0
    })
}

/// Words, a wildcard, words: `service_.+_prod`.
fn is_smelly(pattern: &str) -> bool {
    let wild = [".*", ".+"];
    let part = wild.iter().find_map(|w| pattern.split_once(w));
    part.is_some_and(|(before, after)| {
        !before.is_empty() && !after.is_empty() && is_literal(before) && is_literal(after)
    })
}
