//! Rules that write the same series twice.

use std::fmt::Write;
use std::sync::Arc;

use super::{GroupSpec, RuleSpec};
use crate::model::Labels;

/// Name and labels that several rules of a file have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateRule {
    pub name: String,
    pub labels: Labels,
}

/// What several rules of one file make, by name and labels. Records and alerts share one
/// name space.
pub fn duplicate_rules(groups: &[GroupSpec]) -> Vec<DuplicateRule> {
    let rules = groups.iter().flat_map(|group| &group.rules);
    let made = |rule: &Arc<RuleSpec>| DuplicateRule {
        name: rule.name().to_owned(),
        labels: rule.label_set(),
    };
    duplicates_of(rules.map(made).collect())
}

/// Those that are there more than once, sorted.
pub(super) fn duplicates_of(mut rules: Vec<DuplicateRule>) -> Vec<DuplicateRule> {
    rules.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.labels.cmp(&b.labels)));
    let twins = rules.windows(2).filter(|pair| pair[0] == pair[1]);
    let mut duplicates: Vec<DuplicateRule> = twins.map(|pair| pair[1].clone()).collect();
    duplicates.dedup();
    duplicates
}

/// promtool's text about duplicates, without a final line break.
pub fn duplicates_text(duplicates: &[DuplicateRule]) -> String {
    let mut out = format!("lint error {} duplicate rule(s) found.\n", duplicates.len());
    for rule in duplicates {
        let _ = writeln!(out, "Metric: {}\nLabel(s):", rule.name);
        for (name, value) in rule.labels.iter() {
            let _ = writeln!(out, "\t{name}: {value}");
        }
    }
    out.push_str("Might cause inconsistency while recording expressions");
    out
}
