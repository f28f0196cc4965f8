//! What a server's own settings say about rules: how long it keeps samples, what it knows of
//! the language, its external labels, the labels of its targets; and what it did not answer.

use std::ops::Range;

use super::text;
use crate::diagnostics::Severity;
use crate::diagnostics::nearest::nearest;
use crate::functions::Stability;
use crate::lint::checks::find_word;
use crate::lint::context::{Findings, Project, RuleCx, finding};
use crate::model::duration::format_duration;
use crate::parser::Expr;
use crate::parser::ast::{AtModifier, DurationExpr, DurationKind, ExprKind, Modifiers, UnaryOp};
use crate::rules::template::Template;

/// How far back from an evaluation a selector reads: its window, and how far its end is off.
struct Reach {
    at: Range<usize>,
    range_ms: i64,
    offset_ms: i64,
}

/// Milliseconds of a duration that is written down; `None` for one that is computed.
fn millis(duration: &DurationExpr) -> Option<i64> {
    match &duration.kind {
        DurationKind::Number(number) => Some((number.value * 1000.0) as i64),
        DurationKind::Paren(inner) | DurationKind::Unary { op: UnaryOp::Plus, expr: inner } => {
            millis(inner)
        }
        DurationKind::Unary { op: UnaryOp::Minus, expr } => millis(expr).map(|ms| -ms),
        _ => None,
    }
}

fn reaches(expr: &Expr, now_ms: i64, (range, offset): (i64, i64), found: &mut Vec<Reach>) {
    let at = expr.span.start as usize..expr.span.end as usize;
    let moved = |modifiers: &Modifiers, own: Option<&DurationExpr>| {
        let own = own.and_then(millis).unwrap_or(0);
        let off = modifiers.offset.as_ref().and_then(millis).unwrap_or(0);
        match modifiers.at {
            Some(AtModifier::Timestamp(at_ms)) => (own, (now_ms - at_ms).saturating_add(off)),
            _ => (range.saturating_add(own), offset.saturating_add(off)),
        }
    };
    let mut add = |(range_ms, offset_ms)| found.push(Reach { at: at.clone(), range_ms, offset_ms });
    match &expr.kind {
        ExprKind::VectorSelector(selector) => add(moved(&selector.modifiers, None)),
        ExprKind::MatrixSelector(matrix) => {
            add(moved(&matrix.selector.modifiers, Some(&matrix.range)));
        }
        ExprKind::Subquery(subquery) => {
            let inner = moved(&subquery.modifiers, Some(&subquery.range));
            reaches(&subquery.expr, now_ms, inner, found);
        }
        _ => expr.children().for_each(|child| reaches(child, now_ms, (range, offset), found)),
    }
}

fn kept(cx: &RuleCx<'_>) -> Option<(i64, Vec<Reach>)> {
    let observed = cx.group.project.observed.as_ref()?;
    let kept_ms = observed.retention_ms?;
    let mut found = Vec::new();
    reaches(cx.expr(), observed.now_ms, (0, 0), &mut found);
    Some((kept_ms, found))
}

/// `promql/range_query`
pub(in crate::lint) fn range_query(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some((kept_ms, found)) = kept(cx) else { return };
    let late = |r: &Reach| r.offset_ms < kept_ms && r.offset_ms + r.range_ms > kept_ms;
    for reach in found.into_iter().filter(late) {
        let kept = format_duration(kept_ms);
        let mut problem = finding(format!(
            "this reads {} back, and the server keeps {kept}",
            format_duration(reach.range_ms + reach.offset_ms.max(0))
        ));
        if reach.offset_ms > 0 {
            let (range, offset) = (reach.range_ms, reach.offset_ms);
            let (range, offset) = (format_duration(range), format_duration(offset));
            problem = problem.note(format!("{range} of window and {offset} of offset"));
        }
        out.rule(cx, problem.at(cx.in_expr(reach.at)));
    }
}

/// `promql/offset`
pub(in crate::lint) fn offset(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some((kept_ms, found)) = kept(cx) else { return };
    for reach in found.into_iter().filter(|r| r.offset_ms >= kept_ms) {
        let problem = finding(format!(
            "this looks {} back, where there is nothing: the server keeps {}",
            format_duration(reach.offset_ms),
            format_duration(kept_ms)
        ));
        out.rule(cx, problem.at(cx.in_expr(reach.at)));
    }
}

/// `promql/features`
pub(in crate::lint) fn features(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &cx.group.project.observed else { return };
    let Some(Some(refusal)) = observed.syntax.get(&cx.spec.expr.printed) else { return };
    let whole = cx.expr().span.start as usize..cx.expr().span.end as usize;
    let mut problem = finding(format!("the server does not take this: {refusal}"));
    let (at, feature) = match experimental(cx.expr()) {
        Some((at, feature)) => (at, Some(feature)),
        None => (whole, None),
    };
    if let Some(version) = &observed.version {
        problem = problem.note(format!("it says it is version {version}"));
    }
    if let Some(feature) = feature {
        problem = problem.help(format!("start it with --enable-feature={feature}"));
    }
    out.rule(cx, problem.at(cx.in_expr(at)));
}

/// The first part of an expression that only a feature makes possible, and the feature.
fn experimental(expr: &Expr) -> Option<(Range<usize>, &'static str)> {
    let mut found = None;
    expr.walk(&mut |expr| {
        let start = expr.span.start as usize;
        let (feature, length) = match &expr.kind {
            ExprKind::Call(call) if call.function.stability == Stability::Experimental => {
                ("promql-experimental-functions", call.function.name.len())
            }
            ExprKind::Aggregate(a) if a.op.stability == Stability::Experimental => {
                ("promql-experimental-functions", a.op.name.len())
            }
            ExprKind::VectorSelector(s) if s.extension.is_some() => {
                ("promql-extended-range-selectors", expr.span.end as usize - start)
            }
            ExprKind::MatrixSelector(m) if m.selector.extension.is_some() => {
                ("promql-extended-range-selectors", expr.span.end as usize - start)
            }
            ExprKind::Binary(binary)
                if binary
                    .matching
                    .as_ref()
                    .is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some()) =>
            {
                ("promql-binop-fill-modifiers", expr.span.end as usize - start)
            }
            _ => return,
        };
        found.get_or_insert((start..start + length, feature));
    });
    found
}

/// `alerts/external_labels`
pub(in crate::lint) fn external_labels(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &cx.group.project.observed else { return };
    let (Some(known), Some(alert)) = (&observed.external_labels, cx.alert()) else { return };
    for field in ["labels", "annotations"] {
        for (_, node) in cx.written.map(field) {
            let Some(text) = node.scalar().filter(|t| t.contains("xternalLabels")) else {
                continue;
            };
            let Ok(template) = Template::parse_alert(&alert.alert, text) else { continue };
            for (label, from) in template.uses().external {
                if known.contains_key(&label) {
                    continue;
                }
                let place = find_word(text, &label, from).unwrap_or(0..text.len());
                let mut problem = finding(format!("the server has no external label `{label}`"))
                    .at(cx.file().inside(&node, place.clone()));
                problem = match nearest(&label, known.keys().map(String::as_str)) {
                    Some(like) => problem.suggest(
                        format!("did you mean `{like}`?"),
                        cx.file().inside(&node, place),
                        like,
                    ),
                    None if known.is_empty() => problem.note("it has none at all"),
                    None => {
                        let names: Vec<&str> = known.keys().map(String::as_str).collect();
                        problem.note(format!("it has {}", names.join(", ")))
                    }
                };
                out.rule(cx, problem);
            }
        }
    }
}

/// `labels/conflict`
pub(in crate::lint) fn conflict(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &cx.group.project.observed else { return };
    for (key, value) in cx.written.map("labels") {
        let (Some(name), Some(text)) = (key.scalar(), value.scalar()) else { continue };
        let at = cx.file().span(&key);
        if let Some(external) = observed.external_labels.as_ref().and_then(|l| l.get(name)) {
            let (severity, problem) = if external == text {
                let message = format!("`{name}` has this value already, as an external label");
                (Severity::Info, finding(message).help("leave it out"))
            } else {
                let message = format!("`{name}` is an external label of the server as well");
                let note = format!(
                    "there it is \"{external}\"; what leaves the server with a label of the rule's keeps that one"
                );
                (Severity::Warning, finding(message).note(note).help("choose another name"))
            };
            out.rule_as(cx, Some(severity), None, problem.at(at));
        } else if observed.target_labels.contains(name)
            && !text.is_empty()
            && cx.shape().may_have(name)
        {
            let problem =
                finding(format!("`{name}` is a label of targets, which the rule replaces"))
                    .at(at)
                    .note("series that differ in this label alone become one, and the rule fails")
                    .help(format!("choose another name, or aggregate `{name}` away"));
            out.rule(cx, problem);
        }
    }
}

/// `server/answer`
pub(in crate::lint) fn unanswered(project: &Project<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &project.observed else { return };
    let Some(file) = project.files.first() else { return };
    if let Some(error) = &observed.silent {
        let message = format!("the server cannot be asked: {error}");
        let problem = finding(message).note("the checks that need it found nothing to go by");
        out.file(file, None, problem);
        return;
    }
    for (what, error) in &observed.gaps {
        let problem = finding(format!("the server does not tell {what}: {error}"));
        out.file(file, Some(Severity::Info), problem);
    }
    for cx in project.rules() {
        let Some((question, error)) =
            keys(&cx).into_iter().find_map(|key| Some((observed.failed.get(&key)?, key)))
        else {
            continue;
        };
        let (error, question) = (question, error);
        let problem = finding(format!("the server did not answer about this rule: {error}"))
            .note(format!("it was asked for {question}"));
        out.rule_as(&cx, Some(Severity::Warning), None, problem);
    }
}

/// What is asked about a rule, by the words it is asked with.
fn keys(cx: &RuleCx<'_>) -> Vec<String> {
    let selectors = super::asked(cx).into_iter().map(|(selector, _)| text(&selector.matchers));
    let matchings = super::matching::probes(cx.expr()).into_iter().map(|probe| probe.key);
    let links = super::links::links(cx).into_iter().map(|link| link.url);
    let whole = [cx.spec.expr.printed.clone()];
    selectors.chain(matchings).chain(links).chain(whole).collect()
}
