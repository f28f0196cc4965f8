//! A plan as text: one node a line, inputs indented below.

use std::fmt::Write;

use super::node::{NameDrop, Node, RangeSource, Select};
use crate::model::DATASOURCE;
use crate::parser::ast::{AtModifier, Grouping};
use crate::storage::PUSHED;

/// The tree under a node.
pub(super) fn explain(root: &Node) -> String {
    let mut out = String::new();
    walk(root, 0, &mut out);
    out
}

fn walk(node: &Node, depth: usize, out: &mut String) {
    let line = describe(node);
    writeln!(out, "{:indent$}{line}", "", indent = 2 * depth)
        .expect("BUG: writing to a String cannot fail");
    for child in node.children() {
        walk(child, depth + 1, out);
    }
}

fn describe(node: &Node) -> String {
    match node {
        Node::Number(v) => format!("number {v}"),
        Node::Text(text) => format!("string {text:?}"),
        Node::EvalTime => "time of the step".into(),
        Node::QueryTime(what) => format!("query {what:?}").to_lowercase(),
        Node::ScalarCall { function, .. } => format!("{} of scalars", function.name),
        Node::ScalarBinary { op, .. } => format!("scalar {}", op.as_str()),
        Node::ScalarNegate(_) => "scalar negate".into(),
        Node::ScalarOf(_) => "scalar of the only sample".into(),
        Node::Select(select) => format!("select {}", selector(select)),
        Node::VectorOf(_) => "vector of a scalar".into(),
        Node::Map { function, .. } => format!("{} of each sample", function.name),
        Node::StepTime(_) => "time of the step of each sample".into(),
        Node::Nothing(_) => "nothing".into(),
        Node::Range(call) => format!("{} over {}", call.function.name, source(&call.source)),
        Node::RangeResult(range) => source(range),
        Node::Negate(_) => "negate".into(),
        Node::VectorScalar(b) if b.scalar_on_left => format!("scalar {} vector", b.op.as_str()),
        Node::VectorScalar(b) => format!("vector {} scalar", b.op.as_str()),
        Node::Join(b) => {
            let word = if b.matching.on { "on" } else { "ignoring" };
            let labels = b.matching.labels.join(", ");
            format!("join {} {word} ({labels}) {:?}", b.op.as_str(), b.matching.card)
        }
        Node::SetOp { op, on, labels, .. } => {
            let word = if *on { "on" } else { "ignoring" };
            format!("{} {word} ({})", op.as_str(), labels.join(", "))
        }
        Node::Aggregate(a) => format!("{} {}", a.op.name, grouping(&a.grouping)),
        Node::Choose(c) => format!("{} {}", c.op.name, grouping(&c.grouping)),
        Node::CountValues { label, grouping: by, .. } => {
            format!("count_values {label:?} {}", grouping(by))
        }
        Node::Absent { .. } => "absent".into(),
        Node::AbsentOverTime { source: range, .. } => {
            format!("absent_over_time over {}", source(range))
        }
        Node::HistogramQuantiles(h) => format!("histogram quantiles ({})", h.quantiles.len()),
        Node::HistogramFraction { .. } => "histogram fraction".into(),
        Node::LabelReplace(l) => format!("label_replace {:?} from {:?}", l.target, l.source),
        Node::LabelJoin { target, .. } => format!("label_join {target:?}"),
        Node::Sort { descending: false, .. } => "sort".into(),
        Node::Sort { .. } => "sort descending".into(),
        Node::SortByLabel { labels, .. } => format!("sort by labels {}", labels.join(", ")),
        Node::Info(info) => format!("info from {}", selector(&info.select)),
        Node::DropName { how: NameDrop::Unseen { .. }, .. } => "drop name (unseen)".into(),
        Node::DropName { how, .. } => format!("drop name ({how:?})").to_lowercase(),
        Node::MergeDuplicates { .. } => "merge duplicates".into(),
        Node::StepInvariant(_) => "once for all steps".into(),
    }
}

fn selector(select: &Select) -> String {
    if let Some(pushed) = select.matchers.iter().find(|m| &*m.name == PUSHED) {
        let about = select.matchers.iter().find(|m| &*m.name == DATASOURCE);
        let about = about.map_or("the source", |m| &*m.value);
        return format!("#{} evaluated by {about}: {}", select.id, pushed.value);
    }
    let matchers: Vec<String> = select.matchers.iter().map(ToString::to_string).collect();
    let mut out = format!("#{} {{{}}}", select.id, matchers.join(","));
    match select.at {
        Some(AtModifier::Timestamp(ms)) => {
            write!(out, " @ {}", ms as f64 / 1000.0).expect("BUG: writing to a String cannot fail");
        }
        Some(AtModifier::Start) => out.push_str(" @ start()"),
        Some(AtModifier::End) => out.push_str(" @ end()"),
        None => {}
    }
    if select.offset.is_some() {
        out.push_str(" with offset");
    }
    out
}

fn source(source: &RangeSource) -> String {
    match source {
        RangeSource::Select(select) => format!("windows of {}", selector(select)),
        RangeSource::Subquery(sub) => format!("subquery #{}", sub.id),
    }
}

fn grouping(grouping: &Grouping) -> String {
    match grouping {
        Grouping::By(labels) => format!("by ({})", labels.join(", ")),
        Grouping::Without(labels) => format!("without ({})", labels.join(", ")),
    }
}
