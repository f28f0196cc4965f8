//! What a team asks of its rules: everything here comes from `--lint.config`.

use std::ops::Range;
use std::sync::Arc;

use super::listed;
use crate::diagnostics::{Diagnostic, Severity};
use crate::lint::context::{Findings, RuleCx, finding};
use crate::lint::infer::labels;
use crate::lint::settings::{DurationPolicy, Pattern, SeverityName, ValuePolicy};
use crate::model::METRIC_NAME;
use crate::model::duration::format_duration;
use crate::model::labels::quote;
use crate::parser::Expr;
use crate::parser::ast::{ExprKind, VectorSelector};
use crate::yaml::Node;

fn severity(name: Option<SeverityName>) -> Option<Severity> {
    name.map(SeverityName::severity)
}

fn commented(found: Diagnostic, comment: Option<&String>) -> Diagnostic {
    match comment {
        Some(comment) => found.note(comment),
        None => found,
    }
}

/// `alerts/annotation`
pub(in crate::lint) fn annotations(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    if cx.alert().is_some() {
        for policy in cx.policies() {
            values(cx, "annotations", "annotation", &policy.annotations, out);
        }
    }
}

/// `rule/label`
pub(in crate::lint) fn rule_labels(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    for policy in cx.policies() {
        values(cx, "labels", "label", &policy.labels, out);
    }
}

fn values(
    cx: &RuleCx<'_>,
    field: &str,
    what: &str,
    policies: &[(Pattern, ValuePolicy)],
    out: &mut Findings<'_>,
) {
    if policies.is_empty() {
        return;
    }
    let mut entries: Vec<(String, String, Option<Arc<Node>>)> = cx
        .written
        .map(field)
        .into_iter()
        .map(|(key, node)| {
            let text = |n: &Node| n.scalar().unwrap_or("").to_owned();
            (text(&key), text(&node), Some(node))
        })
        .collect();
    if field == "labels" {
        // The group's hold for the rule where it has none of its own.
        for (name, value) in &cx.spec.labels {
            if !entries.iter().any(|(n, _, _)| n == name) {
                entries.push((name.clone(), value.clone(), None));
            }
        }
    }
    for (name, policy) in policies {
        let key = Some(format!("{}:{}", name.as_str(), policy.required));
        let mut any = false;
        for (_, value, node) in entries.iter().filter(|(n, _, _)| name.matches(n)) {
            any = true;
            let mut wanted = Vec::new();
            if let Some(pattern) = policy.value.as_ref().filter(|p| !p.matches(value)) {
                wanted.push(format!("match `{}`", pattern.as_str()));
            }
            if !policy.values.is_empty() && !policy.values.contains(value) {
                wanted.push(format!("be one of {}", policy.values.join(", ")));
            }
            if wanted.is_empty() {
                continue;
            }
            let message = format!("the {what} `{}` must {}", name.as_str(), listed(&wanted));
            let at = node.as_ref().map_or_else(|| cx.at_name(), |n| cx.file().span(n));
            let found = commented(finding(message).at(at), policy.comment.as_ref());
            out.rule_as(cx, severity(policy.severity), key.clone(), found);
        }
        if policy.required && !any {
            let found = finding(format!("the {what} `{}` is required", name.as_str()));
            let found = commented(found, policy.comment.as_ref());
            out.rule_as(cx, severity(policy.severity), key, found);
        }
    }
}

/// `promql/aggregate`
pub(in crate::lint) fn aggregate(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    for policy in cx.policies().flat_map(|p| &p.aggregate) {
        if policy.name.as_ref().is_some_and(|name| !name.matches(cx.spec.name())) {
            continue;
        }
        let mut report = |label: &String, keep: bool, found: Diagnostic| {
            let key = Some(format!("{label}:{keep}"));
            let found = commented(found, policy.comment.as_ref());
            out.rule_as(cx, severity(policy.severity), key, found);
        };
        for label in &policy.keep {
            if cx.shape().may_have(label) || cx.spec.labels.contains_key(label) {
                continue;
            }
            let mut found = finding(format!("the label `{label}` must be kept"));
            found = match labels::loss(cx.expr(), label, &|name| cx.group.project.known(name)) {
                Some((at, why)) => found.at(cx.in_expr(at)).label(why),
                None => found,
            };
            report(label, true, found);
        }
        for label in &policy.strip {
            let set_empty = cx.spec.labels.get(label).is_some_and(String::is_empty);
            if cx.shape().may_have(label) && !set_empty {
                let whole = cx.expr().span.start as usize..cx.expr().span.end as usize;
                let found = finding(format!("the label `{label}` must be removed"));
                report(label, false, found.at(cx.in_expr(whole)));
            }
        }
    }
}

/// `rule/for`
pub(in crate::lint) fn hold(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(alert) = cx.alert() else { return };
    for policy in cx.policies() {
        for (field, policy, ms) in [
            ("for", &policy.hold, alert.for_ms),
            ("keep_firing_for", &policy.keep_firing_for, alert.keep_firing_for_ms),
        ] {
            let Some(policy) = policy else { continue };
            let Some(wanted) = wanted_duration(policy, ms) else { continue };
            let at = match cx.field(field) {
                Some((_, node)) => cx.file().span(node),
                None => cx.at_name(),
            };
            let found = finding(format!("`{field}` must be {wanted}")).at(at);
            let found = commented(found, policy.comment.as_ref());
            out.rule_as(cx, severity(policy.severity), Some(field.to_owned()), found);
        }
    }
}

fn wanted_duration(policy: &DurationPolicy, ms: i64) -> Option<String> {
    if let Some(min) = policy.min.filter(|min| ms < min.0) {
        return Some(format!("at least {}", format_duration(min.0)));
    }
    let max = policy.max.filter(|max| ms > max.0)?;
    Some(format!("at most {}", format_duration(max.0)))
}

/// `rule/name`
pub(in crate::lint) fn name(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    for policy in cx.policies().filter_map(|p| p.name.as_ref()) {
        if !policy.pattern.matches(cx.spec.name()) {
            let pattern = policy.pattern.as_str();
            let found = finding(format!("the name must match `{pattern}`"));
            let found = commented(found, policy.comment.as_ref());
            out.rule_as(cx, severity(policy.severity), Some(pattern.to_owned()), found);
        }
    }
}

/// `promql/selector`
pub(in crate::lint) fn selector(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    for policy in cx.policies().flat_map(|p| &p.selector) {
        let mut selectors = Vec::new();
        gather(cx.expr(), policy.call.as_ref(), policy.call.is_none(), &mut selectors);
        for (selector, at) in selectors {
            let metric = selector.matchers.iter().find(|m| &*m.name == METRIC_NAME);
            let metric = metric.map_or("", |m| &*m.value);
            if policy.metric.as_ref().is_some_and(|p| !p.matches(metric)) {
                continue;
            }
            for label in &policy.required_labels {
                if selector.matchers.iter().any(|m| *m.name == **label) {
                    continue;
                }
                let pattern = policy.metric.as_ref().map_or(".*", Pattern::as_str);
                let key = match &policy.call {
                    Some(call) => format!("{}:{pattern}:{label}", call.as_str()),
                    None => format!("{pattern}:{label}"),
                };
                let found = finding(format!("the selector must have a matcher for `{label}`"));
                let found = commented(found.at(cx.in_expr(at.clone())), policy.comment.as_ref());
                out.rule_as(cx, severity(policy.severity), Some(key), found);
            }
        }
    }
}

/// Selectors, or those below a call of a name.
fn gather<'e>(
    expr: &'e Expr,
    call: Option<&Pattern>,
    inside: bool,
    found: &mut Vec<(&'e VectorSelector, Range<usize>)>,
) {
    let name = match &expr.kind {
        ExprKind::VectorSelector(selector) if inside => {
            found.push((selector, expr.span.start as usize..expr.span.end as usize));
            return;
        }
        ExprKind::MatrixSelector(matrix) if inside => {
            let span = &matrix.selector_span;
            found.push((&matrix.selector, span.start as usize..span.end as usize));
            return;
        }
        ExprKind::Call(c) => c.function.name,
        ExprKind::Aggregate(aggregate) => aggregate.op.name,
        _ => "",
    };
    let inside = inside || (!name.is_empty() && call.is_some_and(|p| p.matches(name)));
    expr.children().for_each(|child| gather(child, call, inside, found));
}

/// `rule/reject`
pub(in crate::lint) fn reject(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    for policy in cx.policies().flat_map(|p| &p.reject) {
        let fields = [
            ("labels", "label", policy.label_keys, policy.label_values),
            ("annotations", "annotation", policy.annotation_keys, policy.annotation_values),
        ];
        for (field, what, keys, values) in fields {
            for (key, value) in cx.written.map(field) {
                for (node, part, on) in [(&key, "key", keys), (&value, "val", values)] {
                    let text = node.scalar().unwrap_or("");
                    if !on || !policy.pattern.matches(text) {
                        continue;
                    }
                    let pattern = policy.pattern.as_str();
                    let noun = if part == "key" { "name" } else { "value" };
                    let found = finding(format!(
                        "the {noun} of this {what}, {}, is not allowed: it matches `{pattern}`",
                        quote(text)
                    ));
                    let found = found.at(cx.file().span(node));
                    let found = commented(found, policy.comment.as_ref());
                    let id = Some(format!("{part}=~{pattern}"));
                    out.rule_as(cx, severity(policy.severity), id, found);
                }
            }
        }
    }
}

/// `rule/report`
pub(in crate::lint) fn report(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    for policy in cx.policies().filter_map(|p| p.report.as_ref()) {
        out.rule_as(cx, severity(policy.severity), None, finding(&policy.comment));
    }
}

/// `rule/owner`
pub(in crate::lint) fn owner(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let Some(owners) = &cx.settings().owners else { return };
    match cx.file().owner(cx.group.index, cx.index) {
        None if owners.required => out.rule(
            cx,
            finding("nobody owns this rule").help(
                "say who does: `# watchfire: rule/owner NAME`, or file/owner for a whole file",
            ),
        ),
        Some((name, comment)) => {
            if let Some(allowed) = owners.allowed.as_ref().filter(|p| !p.matches(name)) {
                let message = format!("`{name}` is no owner: it must match `{}`", allowed.as_str());
                out.rule(cx, finding(message).at(comment.span.clone()));
            }
        }
        None => {}
    }
}
