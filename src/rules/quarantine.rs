//! Going on without what is bad: of a load that found errors, what can be used is used,
//! and in place of what cannot, the version that ran last goes on.
//!
//! What "the same" is depends on how much of a file cannot be read ([`Scope`]): a rule is
//! found again by file, group, kind and name, a group by file and name; where not even
//! that is known, every group of the file that is not there anew goes on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::config::{
    GroupSpec, LoadedFile, Position, Problem, Rejected, RejectedRule, RuleKind, RuleSpec, Scope,
};
use super::group::key;
use super::view::{
    AlertState, AlertingView, GroupView, QuarantineView, QuarantinedView, RuleHealth, RuleView,
};
use crate::model::Labels;

/// Something that is set aside.
#[derive(Clone, Debug)]
pub(super) struct Quarantined {
    /// The file it was read from.
    file: String,
    position: Option<Position>,
    /// Its errors, with their places.
    error: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// A file, object or group whose own version is not used; the keys of the groups that
    /// go on in its stead.
    Groups { name: Option<String>, running: Vec<String> },
    /// A rule of the group with that key.
    Rule { group: String, name: String, rule: Box<RejectedRule>, place: Place },
}

/// Where a rule that is set aside stands among the rules of its group that run.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Its last good version, at this place.
    Running(usize),
    /// It has none; it would stand before this place.
    Absent(usize),
}

impl Quarantined {
    /// Whether the group of that file and name, or a rule in it, may be what is set aside.
    pub(super) fn concerns(&self, file: &str, group: &str) -> bool {
        match &self.what {
            What::Rule { group: of, .. } => *of == key(file, group),
            What::Groups { name: Some(name), .. } if name != group => false,
            // Objects of a file have names that begin with the file's; a source that cannot
            // be read at all is known by its pattern.
            What::Groups { .. } => {
                file.starts_with(&self.file)
                    || glob::Pattern::new(&self.file).is_ok_and(|p| p.matches(file))
            }
        }
    }
}

/// Most errors that are put into one text.
const ERRORS_MAX: usize = 10;

/// What is to run after a load, and what was set aside. `last_good` is what runs now.
pub(super) fn merge(
    loaded: Vec<LoadedFile>,
    last_good: &[&GroupSpec],
) -> (Vec<GroupSpec>, Vec<Quarantined>) {
    let old: HashMap<String, &GroupSpec> =
        last_good.iter().map(|g| (key(&g.file, &g.name), *g)).collect();
    let mut present: HashSet<String> =
        loaded.iter().flat_map(|f| &f.groups).map(|g| key(&g.file, &g.name)).collect();
    let mut specs = Vec::new();
    let mut set_aside = Vec::new();
    for LoadedFile { file, mut groups, rejected, .. } in loaded {
        let mut rules: HashMap<String, Vec<Rejected>> = HashMap::new();
        for rejected in rejected {
            let kept: Vec<&GroupSpec> = match &rejected.scope {
                Scope::Rule { file, group, .. } => {
                    rules.entry(key(file, group)).or_default().push(rejected);
                    continue;
                }
                Scope::Source => last_good.to_vec(),
                Scope::File => last_good.iter().filter(|g| g.origin == file).copied().collect(),
                Scope::Object(object) => last_good
                    .iter()
                    .filter(|g| g.origin == file && g.object.as_ref() == Some(object))
                    .copied()
                    .collect(),
                Scope::Group { file, name } => {
                    old.get(&key(file, name)).copied().into_iter().collect()
                }
            };
            let mut running = Vec::new();
            for group in kept {
                let key = key(&group.file, &group.name);
                if present.insert(key.clone()) {
                    groups.push(group.clone());
                    running.push(key);
                }
            }
            let name = match &rejected.scope {
                Scope::Group { name, .. } => Some(name.clone()),
                _ => None,
            };
            set_aside.push(Quarantined::new(&file, &rejected, What::Groups { name, running }));
        }
        for group in &mut groups {
            let key = key(&group.file, &group.name);
            if let Some(rejected) = rules.remove(&key) {
                let old = old.get(&key).map_or(&[][..], |g| &g.rules);
                set_aside.extend(merge_rules(&file, group, rejected, old));
            }
        }
        specs.extend(groups);
    }
    (specs, set_aside)
}

/// Puts the last good version of each bad rule where the bad one stands.
fn merge_rules(
    file: &str,
    group: &mut GroupSpec,
    mut rejected: Vec<Rejected>,
    old: &[Arc<RuleSpec>],
) -> Vec<Quarantined> {
    let mut free = unclaimed(&group.rules, old);
    rejected.sort_by_key(|r| r.scope.rule().map_or(0, |rule| rule.index));
    // What finds its match by name has the first choice; only then those without a name.
    let mut found: Vec<Option<usize>> = vec![None; rejected.len()];
    for named in [true, false] {
        for (slot, bad) in found.iter_mut().zip(&rejected) {
            let Some(rule) = bad.scope.rule().filter(|r| r.name.is_empty() != named) else {
                continue;
            };
            *slot = last_good_of(rule, old, &free);
            if let Some(i) = *slot {
                free[i] = false;
            }
        }
    }
    let key = key(&group.file, &group.name);
    let mut absent = 0;
    let mut set_aside = Vec::with_capacity(rejected.len());
    for (bad, found) in rejected.iter().zip(found) {
        let Some(rule) = bad.scope.rule() else { continue };
        let at = rule.index.saturating_sub(absent).min(group.rules.len());
        let place = match found {
            Some(i) => {
                group.rules.insert(at, old[i].clone());
                Place::Running(at)
            }
            None => {
                absent += 1;
                Place::Absent(at)
            }
        };
        let (rule, name) = (Box::new(rule.clone()), group.name.clone());
        let what = What::Rule { group: key.clone(), name, rule, place };
        set_aside.push(Quarantined::new(file, bad, what));
    }
    set_aside
}

/// Which old rules no good new rule continues: rules are continued by what has the same
/// kind, name and labels, in order.
fn unclaimed(new: &[Arc<RuleSpec>], old: &[Arc<RuleSpec>]) -> Vec<bool> {
    let mut free = vec![true; old.len()];
    for rule in new {
        let same = |o: &RuleSpec| {
            is_alert(o) == is_alert(rule) && o.name() == rule.name() && o.labels == rule.labels
        };
        if let Some(i) = (0..old.len()).find(|i| free[*i] && same(&old[*i])) {
            free[i] = false;
        }
    }
    free
}

/// The old rule a bad one stands for: of those with its kind and name the one with its
/// labels, else the first. One without a name stands for the one at its place.
fn last_good_of(bad: &RejectedRule, old: &[Arc<RuleSpec>], free: &[bool]) -> Option<usize> {
    if bad.name.is_empty() {
        return free.get(bad.index).copied().unwrap_or(false).then_some(bad.index);
    }
    let same =
        |i: &usize| free[*i] && is_alert(&old[*i]) == bad.is_alert && old[*i].name() == bad.name;
    let with_labels = (0..old.len()).filter(same).find(|i| old[*i].labels == bad.labels);
    with_labels.or_else(|| (0..old.len()).find(same))
}

fn is_alert(rule: &RuleSpec) -> bool {
    matches!(rule.kind, RuleKind::Alerting(_))
}

impl Quarantined {
    fn new(file: &str, rejected: &Rejected, what: What) -> Self {
        let mut texts: Vec<String> =
            rejected.problems.iter().take(ERRORS_MAX).map(|p| p.placed()).collect();
        if let Some(more @ 1..) = rejected.problems.len().checked_sub(ERRORS_MAX) {
            texts.push(format!("and {more} more errors"));
        }
        Self {
            file: file.to_owned(),
            position: rejected.problems.iter().find_map(|p| p.position),
            error: texts.join("; "),
            what,
        }
    }

    /// A group that can be read and yet cannot be planned; `running` is the key of the one
    /// that goes on in its stead.
    pub(super) fn group(
        file: &str,
        name: String,
        problem: &Problem,
        running: Option<String>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            position: problem.position,
            error: problem.placed(),
            what: What::Groups { name: Some(name), running: running.into_iter().collect() },
        }
    }

    /// What its scope is called in metrics and the API.
    fn kind(&self) -> &'static str {
        match &self.what {
            What::Groups { name: None, .. } => "file",
            What::Groups { name: Some(_), .. } => "group",
            What::Rule { .. } => "rule",
        }
    }

    pub(super) fn view(&self) -> QuarantinedView {
        let (group, rule, last_good_runs) = match &self.what {
            What::Groups { name, running } => (name.clone(), None, !running.is_empty()),
            What::Rule { name, rule, place, .. } => {
                (Some(name.clone()), Some(rule.name.clone()), matches!(place, Place::Running(_)))
            }
        };
        QuarantinedView {
            file: self.file.clone(),
            kind: self.kind(),
            group,
            rule,
            position: self.position,
            error: self.error.clone(),
            last_good_runs,
        }
    }
}

/// Shows in the views of groups what is set aside.
pub(super) fn mark(groups: &mut [GroupView], set_aside: &[Quarantined]) {
    if set_aside.is_empty() {
        return;
    }
    let places: HashMap<String, usize> =
        groups.iter().enumerate().map(|(i, g)| (key(&g.file, &g.name), i)).collect();
    for item in set_aside {
        match &item.what {
            What::Groups { running, .. } => {
                for i in running.iter().filter_map(|key| places.get(key)) {
                    groups[*i].rules.iter_mut().for_each(|rule| mark_rule(rule, item));
                }
            }
            What::Rule { group, place: Place::Running(at), .. } => {
                let group = places.get(group).map(|i| &mut groups[*i]);
                if let Some(rule) = group.and_then(|g| g.rules.get_mut(*at)) {
                    mark_rule(rule, item);
                }
            }
            What::Rule { .. } => {}
        }
    }
    // Only now, so that what came before found its rule where it stands. From the last to
    // the first, so that none moves another.
    for item in set_aside.iter().rev() {
        if let What::Rule { group, rule, place: Place::Absent(at), .. } = &item.what
            && let Some(i) = places.get(group)
        {
            let rules = &mut groups[*i].rules;
            rules.insert((*at).min(rules.len()), absent_view(rule, item));
        }
    }
}

fn mark_rule(rule: &mut RuleView, item: &Quarantined) {
    rule.health = RuleHealth::Err;
    let note = if rule.last_error.is_empty() {
        "; its last good version runs".to_owned()
    } else {
        format!("; its last good version runs and fails: {}", rule.last_error)
    };
    rule.last_error = format!("{}{note}", item.error);
    rule.quarantine = Some(QuarantineView { last_good_runs: true });
}

/// A rule that does not run.
fn absent_view(rule: &RejectedRule, item: &Quarantined) -> RuleView {
    RuleView {
        name: rule.name.clone(),
        query: rule.expr.clone(),
        labels: Labels::from_pairs(&rule.labels),
        policy: Default::default(),
        health: RuleHealth::Err,
        last_error: format!("{}; it does not run: it has no last good version", item.error),
        evaluation_time_seconds: 0.0,
        last_evaluation_ms: None,
        last_outcome: None,
        cost: None,
        quarantine: Some(QuarantineView { last_good_runs: false }),
        alerting: rule.is_alert.then(|| AlertingView {
            state: AlertState::Unknown,
            for_ms: 0,
            keep_firing_for_ms: 0,
            annotations: Labels::empty(),
            alerts: Vec::new(),
        }),
    }
}

/// How many things are set aside, by file and by what they are.
pub(super) fn counts(set_aside: &[Quarantined]) -> HashMap<(String, &'static str), i64> {
    let mut counts = HashMap::new();
    for item in set_aside {
        *counts.entry((item.file.clone(), item.kind())).or_default() += 1;
    }
    counts
}
