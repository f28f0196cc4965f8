//! What several rules have to do with each other.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::lint::context::{Findings, Place, Project, RuleCx, finding};
use crate::model::Labels;
use crate::model::labels::quote;
use crate::rules::config::RuleKind;
use crate::rules::graph::reads;
use crate::rules::graph::shape::{self, Shape};

/// Most rules of one name and one set of labels that a rule is compared with.
const TWINS_MAX: usize = 16;

/// `FILE:LINE:COLUMN` of a rule's name.
fn place_of(cx: &RuleCx<'_>) -> String {
    format!("{}:{}", cx.file().name, cx.file().lines.position(cx.at_name().start))
}

/// `rule/duplicate`
pub(in crate::lint) fn duplicate(project: &Project<'_>, out: &mut Findings<'_>) {
    let mut seen: HashMap<(bool, String, Labels), Vec<Place>> = HashMap::new();
    for cx in project.rules() {
        let key = (cx.alert().is_some(), cx.spec.name().to_owned(), cx.spec.label_set());
        let earlier = seen.entry(key).or_default();
        let twin = earlier
            .iter()
            .filter_map(|place| project.rule(*place))
            .find(|other| are_duplicates(&cx, other));
        if earlier.len() < TWINS_MAX {
            earlier.push(cx.place());
        }
        let Some(twin) = twin else { continue };
        let same = twin.spec.expr.printed == cx.spec.expr.printed;
        let message = match (cx.alert().is_some(), same) {
            (true, _) => "this alert is written twice: same name, labels and expression",
            (false, true) => "this is recorded twice: same name, labels and expression",
            (false, false) => "two rules record under this name and may write the same series",
        };
        let mut found = finding(message).at(cx.at_name());
        if twin.file().index == cx.file().index {
            found = found.related(twin.at_name(), "the other one");
        } else {
            found = found.note(format!("the other one is at {}", place_of(&twin)));
        }
        if !same {
            found = found
                .note("of two samples for the same series and time one is dropped, with an error")
                .help("tell them apart by a label, or give one another name");
        }
        out.rule(&cx, found);
    }
}

/// Recording rules of one name and the same labels whose series may be the same; alerts
/// only when they are equal, since an alert may well have several conditions.
fn are_duplicates(a: &RuleCx<'_>, b: &RuleCx<'_>) -> bool {
    if a.spec.expr.printed == b.spec.expr.printed {
        return true;
    }
    if a.alert().is_some() {
        return false;
    }
    let shape = |cx: &RuleCx<'_>| shape::recorded(cx.expr(), cx.spec.name(), &cx.spec.labels);
    let (left, right): (Shape, Shape) = (shape(a), shape(b));
    // Nothing is known of series that pass through: they may well be others.
    if left.is_open() || right.is_open() {
        return false;
    }
    let labels: HashSet<&str> = left.known_labels().chain(right.known_labels()).collect();
    labels.into_iter().all(|l| left.may_agree(&right, l) && left.may_have(l) == right.may_have(l))
}

/// `rule/dependency`
pub(in crate::lint) fn dependency(project: &Project<'_>, out: &mut Findings<'_>) {
    for cx in project.rules().filter(|cx| cx.alert().is_none()) {
        let mut told: HashSet<String> = HashSet::new();
        for read in reads(cx.spec) {
            let Some(name) = read.name() else { continue };
            let Some(writers) = project.recorded.get(name) else { continue };
            let own = (cx.file().index, cx.group.index);
            if writers.iter().any(|w| (w.0, w.1) == own) || !told.insert(name.to_owned()) {
                continue;
            }
            let ignore = &project.settings.dependency.ignore;
            if ignore.iter().any(|pattern| pattern.matches(name)) {
                continue;
            }
            let Some(writer) = writers.first().and_then(|place| project.rule(*place)) else {
                continue;
            };
            let at = super::find_word(cx.expr_text(), name, 0).unwrap_or(0..0);
            let mut found = finding(format!(
                "`{name}` is recorded by another group, so what is read here may be an interval old"
            ))
            .at(cx.in_expr(at))
            .help(format!(
                "move both rules into one group, {} or this one",
                quote(&writer.group.spec.name)
            ));
            if writer.file().index == cx.file().index {
                found = found.related(writer.at_name(), "it is recorded here");
            } else {
                found = found.note(format!("it is recorded at {}", place_of(&writer)));
            }
            out.rule(&cx, found);
        }
    }
}

/// `rule/unused`
pub(in crate::lint) fn unused(project: &Project<'_>, out: &mut Findings<'_>) {
    let mut read_names: HashSet<String> = HashSet::new();
    let mut patterns = Vec::new();
    for cx in project.rules() {
        for read in reads(cx.spec) {
            match read.name() {
                Some(name) => {
                    read_names.insert(name.to_owned());
                }
                None => patterns.push(read.matchers),
            }
        }
    }
    let mut by_name: BTreeMap<Place, RuleCx<'_>> = BTreeMap::new();
    for cx in project.rules() {
        if let RuleKind::Recording { record } = &cx.spec.kind
            && !read_names.contains(record)
        {
            let shape = shape::recorded(cx.expr(), record, &cx.spec.labels);
            if !patterns.iter().any(|matchers| shape.may_match(matchers)) {
                by_name.insert(cx.place(), cx);
            }
        }
    }
    for cx in by_name.values() {
        let found = finding(format!("no rule of these files reads `{}`", cx.spec.name()));
        out.rule(cx, found.at(cx.at_name()).note("dashboards and people may"));
    }
}
