//! Labels and annotations of alerts: what they use that is not there.

use std::ops::Range;
use std::sync::Arc;

use super::{find_word, reader};
use crate::diagnostics::Severity;
use crate::diagnostics::nearest::nearest;
use crate::lint::context::{Findings, Project, RuleCx, finding};
use crate::lint::infer::labels;
use crate::parser;
use crate::parser::ast::ExprKind;
use crate::rules::template::Template;
use crate::yaml::Node;

/// `alerts/template`
pub(in crate::lint) fn templates(project: &Project<'_>, out: &mut Findings<'_>) {
    for file in &project.files {
        reader::template_problems(file, out);
    }
    for cx in project.rules() {
        let Some(alert) = cx.alert() else { continue };
        for (field, is_label) in [("labels", true), ("annotations", false)] {
            for (_, node) in cx.written.map(field) {
                let Some(text) = node.scalar().filter(|t| t.contains("{{")) else { continue };
                if let Ok(template) = Template::parse_alert(&alert.alert, text) {
                    of_template(&cx, &node, text, &template, is_label, out);
                }
            }
        }
    }
}

fn of_template(
    cx: &RuleCx<'_>,
    node: &Arc<Node>,
    text: &str,
    template: &Template,
    is_label: bool,
    out: &mut Findings<'_>,
) {
    let uses = template.uses();
    let at = |range: Range<usize>| cx.file().inside(node, range);
    let mut told: Vec<&str> = Vec::new();
    for (label, offset) in &uses.labels {
        if cx.shape().may_have(label) || told.contains(&label.as_str()) {
            continue;
        }
        told.push(label);
        let place = find_word(text, label, *offset).unwrap_or(*offset..*offset);
        let mut problem =
            finding(format!("the label `{label}` is never there: the expression drops it"))
                .at(at(place.clone()));
        if let Some((lost, why)) =
            labels::loss(cx.expr(), label, &|name| cx.group.project.known(name))
        {
            problem = problem.related(cx.in_expr(lost), why);
        }
        if cx.spec.labels.contains_key(label) {
            problem = problem.note(format!(
                "`{label}` is set by the rule; $labels holds the labels of the result alone"
            ));
        }
        let known: Vec<&str> =
            cx.shape().known_labels().filter(|l| cx.shape().may_have(l)).collect();
        problem = match nearest(label, known.iter().copied()) {
            Some(like) => problem.suggest(format!("did you mean `{like}`?"), at(place), like),
            None => problem.help(format!("keep `{label}` in the expression, or leave it out here")),
        };
        out.rule(cx, problem);
    }
    if is_label {
        for value in &uses.values {
            let place = find_word(text, "value", value.offset)
                .or_else(|| find_word(text, "Value", value.offset))
                .unwrap_or(value.offset..value.offset);
            let problem =
                finding("the value is part of this label: each new value is another alert")
                    .at(at(place))
                    .note("the old alert resolves, and `for` starts again")
                    .help("put the value into an annotation");
            out.rule_as(cx, Some(Severity::Bug), None, problem);
        }
    } else if let Some(function) = small_numbers(cx) {
        for value in uses.values.iter().filter(|v| v.plain) {
            let place = find_word(text, "value", value.offset)
                .or_else(|| find_word(text, "Value", value.offset))
                .unwrap_or(value.offset..value.offset);
            let problem = finding(format!(
                "what `{function}` gives is hard to read with all its digits"
            ))
            .at(at(place))
            .help("`{{ $value | humanize }}`, or humanizePercentage, humanizeDuration, printf");
            out.rule_as(cx, Some(Severity::Info), None, problem);
        }
    }
    for query in template.literal_queries() {
        if let Err(errors) = parser::parse(query, &cx.file().parser) {
            let start = text.find(query);
            let place = errors.errors.first().zip(start).map(|(error, start)| {
                start + error.span.start as usize..start + error.span.end as usize
            });
            let problem = finding(format!("the query in this template is no PromQL: {errors}"));
            let problem = problem.at(at(place.unwrap_or(0..text.len())));
            out.rule_as(cx, Some(Severity::Bug), None, problem);
        }
    }
}

/// The function that makes the values, when they are fractions.
fn small_numbers(cx: &RuleCx<'_>) -> Option<&'static str> {
    let mut found = None;
    cx.expr().walk(&mut |expr| {
        if let ExprKind::Call(call) = &expr.kind
            && matches!(call.function.name, "rate" | "irate" | "deriv")
        {
            found.get_or_insert(call.function.name);
        }
    });
    // A count of rates is a whole number.
    let counted = matches!(
        &cx.expr().unparenthesised().kind,
        ExprKind::Aggregate(aggregate) if aggregate.op.name.starts_with("count")
    );
    found.filter(|_| !counted)
}
