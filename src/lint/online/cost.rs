//! What rules cost a server, and what it records already.

use std::collections::HashMap;

use crate::diagnostics::Severity;
use crate::lint::context::{Findings, Project, RuleCx, finding};
use crate::model::duration::format_duration;
use crate::parser::ast::ExprKind;
use crate::rules::config::RuleKind;

/// What one evaluation of an expression takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Series of the result.
    pub series: u64,
    /// Samples read, and most of them held at once; servers that do not tell have none.
    pub samples: Option<u64>,
    pub peak_samples: Option<u64>,
    pub seconds: Option<f64>,
}

/// `query/cost`
pub(in crate::lint) fn cost(project: &Project<'_>, out: &mut Findings<'_>) {
    let Some(observed) = &project.observed else { return };
    let recorded = recorded(project);
    for cx in project.rules() {
        if let Some(cost) = observed.costs.get(&cx.spec.expr.printed) {
            of_rule(&cx, cost, observed.bytes_per_series, out);
        }
        again(&cx, &recorded, out);
    }
}

fn of_rule(cx: &RuleCx<'_>, cost: &Cost, bytes_per_series: Option<f64>, out: &mut Findings<'_>) {
    let whole = cx.expr().span.start as usize..cx.expr().span.end as usize;
    let limits = &cx.settings().cost;
    let seconds_max = limits.max_duration.map(|d| d.0 as f64 / 1000.0);
    let over = |what: &str, got: Option<u64>, most: Option<u64>| {
        let (got, most) = (got?, most?);
        (got > most).then(|| format!("{got} {what}, and at most {most} are allowed"))
    };
    let mut broken: Vec<String> = [
        over("series in its result", Some(cost.series), limits.max_series),
        over("samples read", cost.samples, limits.max_samples),
        over("samples held at once", cost.peak_samples, limits.max_peak_samples),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let (Some(took), Some(most)) = (cost.seconds, seconds_max)
        && took > most
    {
        let most = format_duration((most * 1000.0) as i64);
        broken.push(format!("it takes {took:.3} s, and at most {most} is allowed"));
    }
    for text in broken {
        let severity = limits.severity.map_or(Severity::Bug, |s| s.severity());
        let mut problem = finding(format!("this costs too much: {text}"));
        problem.notes.extend(limits.comment.clone());
        out.rule_as(cx, Some(severity), None, problem.at(cx.in_expr(whole.clone())));
    }
    let mut problem = finding(says(cost));
    if let (Some(bytes), RuleKind::Recording { .. }) = (bytes_per_series, &cx.spec.kind) {
        let kib = bytes * cost.series as f64 / 1024.0;
        problem = problem.note(format!("what it records takes about {kib:.0} KiB of memory there"));
    }
    out.rule(cx, problem.at(cx.in_expr(whole)));
}

fn says(cost: &Cost) -> String {
    let series =
        if cost.series == 1 { "1 series".to_owned() } else { format!("{} series", cost.series) };
    let mut text = format!("an evaluation gives {series}");
    if let Some(samples) = cost.samples {
        text += &format!(", reads {samples} samples");
    }
    if let Some(peak) = cost.peak_samples {
        text += &format!(" ({peak} at once)");
    }
    if let Some(seconds) = cost.seconds {
        text += &format!(", takes {seconds:.3} s");
    }
    text
}

/// Metrics by the expression that gives exactly them: of these files, and of the server.
fn recorded(project: &Project<'_>) -> HashMap<String, String> {
    let mut recorded = HashMap::new();
    if let Some(observed) = &project.observed {
        recorded.extend(observed.recorded.iter().map(|(e, n)| (e.clone(), n.clone())));
    }
    for cx in project.rules() {
        if let RuleKind::Recording { record } = &cx.spec.kind
            && cx.spec.labels.is_empty()
        {
            recorded.insert(cx.expr().unparenthesised().to_string(), record.clone());
        }
    }
    recorded
}

/// Parts of the expression that somebody computes already.
fn again(cx: &RuleCx<'_>, recorded: &HashMap<String, String>, out: &mut Findings<'_>) {
    let mut told: Vec<String> = Vec::new();
    cx.expr().walk(&mut |expr| {
        if !matches!(expr.kind, ExprKind::Call(_) | ExprKind::Aggregate(_)) {
            return;
        }
        let Some(name) = recorded.get(&expr.to_string()) else { return };
        if name == cx.spec.name() || told.contains(name) {
            return;
        }
        told.push(name.clone());
        let at = cx.in_expr(expr.span.start as usize..expr.span.end as usize);
        let problem = finding(format!("`{name}` is recorded with just this"))
            .at(at)
            .help(format!("read `{name}`; it is up to one interval old"));
        out.rule(cx, problem);
    });
}
