//! What a change of rule files means when a server reloads them: which rules keep their
//! state, which series and alerts end, what is decided otherwise from then on.
//!
//! Rules are paired as a reload pairs them: groups by name, in them rules by name and
//! labels, in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::duration::format_duration;
use crate::model::{Matcher, labels::quote};
use crate::parser::Expr;
use crate::parser::ast::ExprKind;
use crate::rules::config::{GroupSpec, RuleKind, RuleSpec};

/// How much a change matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Nothing is decided otherwise.
    Note,
    /// State is kept, but results, times or texts change.
    Change,
    /// Series or alerts end, or begin anew.
    Loss,
}

impl Weight {
    /// `note`, `change` or `loss`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Change => "change",
            Self::Loss => "loss",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub group: String,
    /// "" for what concerns the group as a whole.
    pub rule: String,
    pub weight: Weight,
    pub text: String,
}

/// What is different, group by group in the order of the new files; what is gone last.
pub fn differences(old: &[GroupSpec], new: &[GroupSpec]) -> Vec<Difference> {
    let mut found = Vec::new();
    let named = |groups: &[GroupSpec], name: &str| groups.iter().position(|g| g.name == name);
    for group in new {
        match named(old, &group.name) {
            Some(at) => compare(&old[at], group, &mut found),
            None => {
                let text = format!("new group of {} rules", group.rules.len());
                say(&mut found, group, "", Weight::Change, text);
            }
        }
    }
    for group in old.iter().filter(|group| named(new, &group.name).is_none()) {
        let text = "gone: its series end, its alerts are not sent any more".to_owned();
        say(&mut found, group, "", Weight::Loss, text);
    }
    orphans(old, new, &mut found);
    found
}

fn say(
    found: &mut Vec<Difference>,
    group: &GroupSpec,
    rule: &str,
    weight: Weight,
    text: impl Into<String>,
) {
    let (group, rule, text) = (group.name.clone(), rule.to_owned(), text.into());
    found.push(Difference { group, rule, weight, text });
}

fn compare(old: &GroupSpec, new: &GroupSpec, found: &mut Vec<Difference>) {
    let duration = |ms: Option<i64>| ms.map_or("the default".to_owned(), format_duration);
    let mut field = |name: &str, before: String, after: String| {
        if before != after {
            say(found, new, "", Weight::Change, format!("{name}: {before} became {after}"));
        }
    };
    field("interval", duration(old.interval_ms), duration(new.interval_ms));
    field("query_offset", duration(old.query_offset_ms), duration(new.query_offset_ms));
    field("limit", old.limit.to_string(), new.limit.to_string());
    if old.policy != new.policy || old.group_policy != new.group_policy {
        say(found, new, "", Weight::Change, "the group's policies changed");
    }
    let mut taken = vec![false; old.rules.len()];
    let mut fresh = Vec::new();
    for rule in &new.rules {
        let same = |(i, before): &(usize, &Arc<RuleSpec>)| {
            !taken[*i] && before.name() == rule.name() && before.labels == rule.labels
        };
        match old.rules.iter().enumerate().find(same) {
            Some((i, before)) => {
                taken[i] = true;
                compare_rules(before, rule, new, found);
            }
            None => fresh.push(rule),
        }
    }
    let mut gone: Vec<&Arc<RuleSpec>> =
        old.rules.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(rule, _)| rule).collect();
    for rule in fresh {
        let renamed = gone.iter().position(|before| {
            before.expr.printed == rule.expr.printed
                && is_alert(before) == is_alert(rule)
                && before.name() != rule.name()
        });
        let relabelled = gone.iter().position(|before| before.name() == rule.name());
        let (weight, text) = match (renamed, relabelled) {
            (_, Some(at)) => (Weight::Loss, relabelled_text(gone.remove(at), rule)),
            (Some(at), None) => (Weight::Loss, renamed_text(gone.remove(at), rule)),
            (None, None) => (Weight::Change, format!("new {}", kind(rule))),
        };
        say(found, new, rule.name(), weight, text);
    }
    for rule in gone {
        let text = match is_alert(rule) {
            true => {
                "gone: its active alerts are not sent any more and end at Alertmanager when they expire"
            }
            false => "gone: its series end",
        };
        say(found, new, rule.name(), Weight::Loss, text);
    }
}

fn is_alert(rule: &RuleSpec) -> bool {
    matches!(rule.kind, RuleKind::Alerting(_))
}

fn kind(rule: &RuleSpec) -> &'static str {
    if is_alert(rule) { "alert" } else { "recording rule" }
}

fn relabelled_text(before: &RuleSpec, after: &RuleSpec) -> String {
    let show = |rule: &RuleSpec| rule.label_set().to_string();
    let then = match is_alert(after) {
        true => "alerts begin anew: `for` starts again, and those that fire now end",
        false => "its series end and others begin",
    };
    format!("labels: {} became {}; {then}", show(before), show(after))
}

fn renamed_text(before: &RuleSpec, after: &RuleSpec) -> String {
    let then = match is_alert(after) {
        true => "alerts begin anew under the new name, and those that fire now end",
        false => "its series end and others begin under the new name",
    };
    format!("renamed from {}; {then}", before.name())
}

fn compare_rules(old: &RuleSpec, new: &RuleSpec, group: &GroupSpec, found: &mut Vec<Difference>) {
    let mut change = |text: String| say(found, group, new.name(), Weight::Change, text);
    if old.expr.printed != new.expr.printed {
        let kept = if is_alert(new) { "; active alerts are kept" } else { "" };
        match numbers(&old.expr.expr, &new.expr.expr) {
            Some(pairs) => {
                for (before, after) in pairs {
                    change(format!("number {before} became {after}{kept}"));
                }
            }
            None => change(format!(
                "expression: `{}` became `{}`{kept}",
                old.expr.printed, new.expr.printed
            )),
        }
    }
    if let (RuleKind::Alerting(before), RuleKind::Alerting(after)) = (&old.kind, &new.kind) {
        for (name, before, after) in [
            ("for", before.for_ms, after.for_ms),
            ("keep_firing_for", before.keep_firing_for_ms, after.keep_firing_for_ms),
        ] {
            if before != after {
                let (before, after) = (format_duration(before), format_duration(after));
                change(format!("{name}: {before} became {after}; active alerts are kept"));
            }
        }
        let names = before.annotations.keys().chain(after.annotations.keys());
        let names: BTreeSet<&String> = names.collect();
        for name in names {
            let (before, after) = (before.annotations.get(name), after.annotations.get(name));
            let text = match (before, after) {
                (Some(before), Some(after)) if before != after => {
                    format!("annotation {name}: {} became {}", quote(before), quote(after))
                }
                (Some(_), None) => format!("annotation {name} is gone"),
                (None, Some(after)) => format!("new annotation {name}: {}", quote(after)),
                _ => continue,
            };
            say(found, group, new.name(), Weight::Note, text);
        }
    }
    if old.policy != new.policy {
        say(found, group, new.name(), Weight::Change, "its policies changed");
    }
}

/// The number literals that differ, when nothing else does.
fn numbers(old: &Expr, new: &Expr) -> Option<Vec<(String, String)>> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    old.walk(&mut |node| before.push(node));
    new.walk(&mut |node| after.push(node));
    if before.len() != after.len() {
        return None;
    }
    let mut pairs = Vec::new();
    for (a, b) in before.iter().zip(&after) {
        match (&a.kind, &b.kind) {
            (ExprKind::Number(_), ExprKind::Number(_)) => {
                let (a, b) = (a.to_string(), b.to_string());
                if a != b {
                    pairs.push((a, b));
                }
            }
            // What has no children has to be the same.
            _ if a.children().next().is_none() && a.to_string() != b.to_string() => return None,
            _ => {}
        }
    }
    // Operators and the like: with the old numbers in it, the new text is the old one.
    let mut masked = [old.clone(), new.clone()];
    masked.iter_mut().for_each(mask);
    let [old, new] = masked.map(|expr| expr.to_string());
    (old == new && !pairs.is_empty()).then_some(pairs)
}

fn mask(expr: &mut Expr) {
    if let ExprKind::Number(number) = &mut expr.kind {
        number.value = 0.0;
        number.duration = false;
    }
    expr.children_mut().into_iter().for_each(mask);
}

/// Rules that read what nothing records any more.
fn orphans(old: &[GroupSpec], new: &[GroupSpec], found: &mut Vec<Difference>) {
    let recorded = |groups: &[GroupSpec]| -> BTreeSet<String> {
        let rules = groups.iter().flat_map(|group| &group.rules);
        rules.filter(|rule| !is_alert(rule)).map(|rule| rule.name().to_owned()).collect()
    };
    let (before, after) = (recorded(old), recorded(new));
    for group in new {
        for rule in &group.rules {
            let selectors = rule.expr.expr.selectors();
            let names = selectors.iter().flat_map(|m| m.iter()).filter_map(Matcher::metric_name);
            let gone = |name: &&str| before.contains(*name) && !after.contains(*name);
            let gone: BTreeSet<&str> = names.filter(gone).collect();
            for name in gone {
                let text = format!("reads {name}, which nothing records any more");
                say(found, group, rule.name(), Weight::Loss, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::config::{LoadOptions, load_source};

    fn check(old: &str, new: &str, expected: &[&str]) {
        let load = |rules: &str| {
            let text = format!("groups:\n- name: g\n  rules: [{rules}]\n");
            let loaded = load_source("f", &text, &LoadOptions::default());
            assert!(loaded.is_valid(), "{rules}");
            loaded.groups
        };
        let found = differences(&load(old), &load(new));
        let said: Vec<String> =
            found.iter().map(|d| format!("{} {}: {}", d.weight.as_str(), d.rule, d.text)).collect();
        assert_eq!(said, expected, "{old} -> {new}");
    }

    #[test]
    fn rules_are_told_apart_by_what_a_reload_makes_of_them() {
        let a = "{alert: A, expr: x > 5, for: 1m, labels: {s: p}, annotations: {t: u}}";
        check(a, a, &[]);
        let with = |from: &str, to: &str| a.replace(from, to);
        check(a, &with("x > 5", "x > 6"), &["change A: number 5 became 6; active alerts are kept"]);
        check(
            a,
            &with("x > 5", "x < 6"),
            &["change A: expression: `x > 5` became `x < 6`; active alerts are kept"],
        );
        check(
            a,
            &with("for: 1m", "for: 2m"),
            &["change A: for: 1m became 2m; active alerts are kept"],
        );
        check(a, &with("t: u", "t: v"), &["note A: annotation t: \"u\" became \"v\""]);
        check(
            a,
            &with("s: p", "s: q"),
            &[
                "loss A: labels: {s=\"p\"} became {s=\"q\"}; alerts begin anew: `for` starts again, and those that fire now end",
            ],
        );
        check(
            a,
            &with("alert: A", "alert: B"),
            &[
                "loss B: renamed from A; alerts begin anew under the new name, and those that fire now end",
            ],
        );
        check(
            "{record: r, expr: x}, {record: s, expr: r * 2}",
            "{record: t, expr: x}, {record: s, expr: r * 2}, {record: n, expr: y}",
            &[
                "loss t: renamed from r; its series end and others begin under the new name",
                "change n: new recording rule",
                "loss s: reads r, which nothing records any more",
            ],
        );
        check(
            a,
            "",
            &[
                "loss A: gone: its active alerts are not sent any more and end at Alertmanager when they expire",
            ],
        );
    }

    #[test]
    fn groups_are_compared_by_name() {
        let load = |text: &str| load_source("f", text, &LoadOptions::default()).groups;
        let old =
            load("groups: [{name: a, rules: []}, {name: b, interval: 1m, limit: 3, rules: []}]");
        let new = load("groups: [{name: b, interval: 2m, rules: []}, {name: c, rules: []}]");
        let said: Vec<String> = differences(&old, &new)
            .iter()
            .map(|d| format!("{} {}: {}", d.weight.as_str(), d.group, d.text))
            .collect();
        assert_eq!(
            said,
            [
                "change b: interval: 1m became 2m",
                "change b: limit: 3 became 0",
                "change c: new group of 0 rules",
                "loss a: gone: its series end, its alerts are not sent any more",
            ]
        );
    }
}
