//! What an expression can never give, told by `infer`.

use std::collections::HashMap;
use std::ops::Range;

use crate::diagnostics::Diagnostic;
use crate::lint::context::{Findings, Project, RuleCx, finding};
use crate::lint::infer::{Inferred, Kind, labels, values};
use crate::lint::online;
use crate::model::METRIC_NAME;
use crate::rules::graph::reads;
use crate::rules::graph::shape;

fn diagnostic(cx: &RuleCx<'_>, inferred: Inferred) -> Diagnostic {
    let mut found = finding(inferred.message).at(cx.in_expr(inferred.span)).label(inferred.label);
    for (range, label) in inferred.related {
        found = found.related(cx.in_expr(range), label);
    }
    found.notes = inferred.notes;
    if !inferred.help.is_empty() {
        found = found.help(inferred.help);
    }
    found
}

fn of_labels(cx: &RuleCx<'_>) -> Vec<Inferred> {
    let recorded = &cx.group.project.recorded;
    labels::analyse(
        cx.expr(),
        &|metric| {
            !metric.contains(':') && !recorded.contains_key(metric) && !metric.starts_with("ALERTS")
        },
        &|name| cx.group.project.known(name),
    )
}

/// `promql/impossible`
pub(in crate::lint) fn impossible(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let of_values = values::analyse(cx.expr()).1;
    let all = of_labels(cx).into_iter().chain(of_values);
    for inferred in all.filter(|i| matches!(i.kind, Kind::Never | Kind::NoLabel | Kind::Parameter))
    {
        out.rule(cx, diagnostic(cx, inferred));
    }
}

/// `promql/vector_matching`
pub(in crate::lint) fn matching(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let mut told = false;
    for inferred in of_labels(cx).into_iter().filter(|i| i.kind == Kind::Unmatched) {
        told = true;
        out.rule(cx, diagnostic(cx, inferred));
    }
    online::matching(cx, told, out);
}

/// `promql/always`
pub(in crate::lint) fn always(cx: &RuleCx<'_>, out: &mut Findings<'_>) {
    let all = values::analyse(cx.expr()).1;
    for inferred in all.into_iter().filter(|i| i.kind == Kind::Always) {
        out.rule(cx, diagnostic(cx, inferred));
    }
}

/// `rule/dead`: a selector names what recording rules of these files write, and asks for
/// labels that none of them gives it.
pub(in crate::lint) fn dead(project: &Project<'_>, out: &mut Findings<'_>) {
    let mut shapes_of: HashMap<String, Vec<shape::Shape>> = HashMap::new();
    for cx in project.rules() {
        for read in reads(cx.spec).into_iter().filter(|r| !r.in_template) {
            let Some(name) = read.name() else { continue };
            let Some(writers) = project.recorded.get(name) else { continue };
            let writers: Vec<RuleCx<'_>> =
                writers.iter().filter_map(|place| project.rule(*place)).collect();
            let shapes = shapes_of.entry(name.to_owned()).or_insert_with(|| {
                let shape = |w: &RuleCx<'_>| shape::recorded(w.expr(), name, &w.spec.labels);
                writers.iter().map(shape).collect()
            });
            if shapes.is_empty() || shapes.iter().any(|s| s.may_match(&read.matchers)) {
                continue;
            }
            let blamed = read.matchers.iter().find(|m| {
                &*m.name != METRIC_NAME
                    && !shapes.iter().any(|s| s.may_match(std::slice::from_ref(m)))
            });
            let what = match blamed {
                Some(matcher) => format!("`{matcher}`"),
                None => "all of its matchers at once".to_owned(),
            };
            let message = format!("no series of `{name}` can match {what}");
            let mut found = finding(message).at(cx.in_expr(selector_span(&cx, name)));
            if let [writer] = &writers[..] {
                let place = writer.file();
                let at = place.lines.position(writer.at_name().start);
                if place.index == cx.file().index {
                    found = found.related(writer.at_name(), "it is recorded here");
                } else {
                    found = found.note(format!("it is recorded at {}:{at}", place.name));
                }
                if let Some(matcher) = blamed
                    && let Some((lost, why)) =
                        labels::loss(writer.expr(), &matcher.name, &|name| project.known(name))
                {
                    if place.index == cx.file().index {
                        found = found.related(writer.in_expr(lost), why);
                    } else {
                        found = found.note(format!("its expression has no such label: {why}"));
                    }
                }
            } else {
                found = found.note(format!("{} rules of these files record it", writers.len()));
            }
            out.rule(&cx, found);
        }
    }
}

/// Where a metric is named in the expression.
fn selector_span(cx: &RuleCx<'_>, name: &str) -> Range<usize> {
    super::find_word(cx.expr_text(), name, 0).unwrap_or(0..0)
}
