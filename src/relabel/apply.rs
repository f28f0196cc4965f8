//! Applying rules to a label set. Pure: the same labels and rules give the same verdict.

use md5::{Digest, Md5};

use super::{Action, DEFAULT_REGEX, RelabelConfig};
use crate::model::{Labels, LabelsBuilder};

/// Whether what carries the labels lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Drop,
}

/// Applies the rules in order to `labels`. After `Drop` the labels are unspecified.
pub fn apply(rules: &[RelabelConfig], labels: &mut LabelsBuilder) -> Verdict {
    for rule in rules {
        if apply_one(rule, labels) == Verdict::Drop {
            return Verdict::Drop;
        }
    }
    Verdict::Keep
}

/// As `apply`, on an immutable set; `None` when it is dropped.
pub fn apply_to(rules: &[RelabelConfig], labels: &Labels) -> Option<Labels> {
    if rules.is_empty() {
        return Some(labels.clone());
    }
    let mut builder = labels.builder();
    (apply(rules, &mut builder) == Verdict::Keep).then(|| builder.build())
}

fn apply_one(rule: &RelabelConfig, labels: &mut LabelsBuilder) -> Verdict {
    let value = joined(rule, labels);
    let keep = match rule.action {
        Action::Keep => rule.regex.is_match(&value),
        Action::Drop => !rule.regex.is_match(&value),
        Action::KeepEqual => labels.get(&rule.target_label) == value,
        Action::DropEqual => labels.get(&rule.target_label) != value,
        Action::Replace => {
            replace(rule, &value, labels);
            true
        }
        Action::Lowercase => {
            labels.set(&rule.target_label, &value.to_lowercase());
            true
        }
        Action::Uppercase => {
            labels.set(&rule.target_label, &value.to_uppercase());
            true
        }
        Action::HashMod => {
            labels.set(&rule.target_label, &hash_mod(&value, rule.modulus).to_string());
            true
        }
        Action::LabelMap => {
            map_names(rule, labels);
            true
        }
        Action::LabelDrop => {
            labels.retain(|name, _| !rule.regex.is_match(name));
            true
        }
        Action::LabelKeep => {
            labels.retain(|name, _| rule.regex.is_match(name));
            true
        }
    };
    if keep { Verdict::Keep } else { Verdict::Drop }
}

fn joined(rule: &RelabelConfig, labels: &LabelsBuilder) -> String {
    let mut value = String::new();
    for (i, name) in rule.source_labels.iter().enumerate() {
        if i > 0 {
            value.push_str(&rule.separator);
        }
        value.push_str(labels.get(name));
    }
    value
}

fn replace(rule: &RelabelConfig, value: &str, labels: &mut LabelsBuilder) {
    let constant = !rule.target_label.contains('$') && !rule.replacement.contains('$');
    if value.is_empty() && constant && rule.regex.as_str() == DEFAULT_REGEX {
        labels.set(&rule.target_label, &rule.replacement);
        return;
    }
    let Some(captures) = rule.regex.captures(value) else { return };
    let target = rule.regex.expand(&rule.target_label, value, &captures);
    // A target that expands to no name leaves the labels as they are.
    if target.is_empty() {
        return;
    }
    labels.set(&target, &rule.regex.expand(&rule.replacement, value, &captures));
}

fn map_names(rule: &RelabelConfig, labels: &mut LabelsBuilder) {
    let mapped: Vec<(String, String)> = labels
        .iter()
        .filter_map(|(name, value)| {
            let captures = rule.regex.captures(name)?;
            Some((rule.regex.expand(&rule.replacement, name, &captures), value.to_owned()))
        })
        .collect();
    for (name, value) in mapped {
        labels.set(&name, &value);
    }
}

/// The last eight bytes of the MD5 sum, big-endian, modulo `modulus`.
fn hash_mod(value: &str, modulus: u64) -> u64 {
    let sum = Md5::digest(value.as_bytes());
    let mut tail = [0; 8];
    tail.copy_from_slice(&sum[8..]);
    u64::from_be_bytes(tail).checked_rem(modulus).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, before: &[(&str, &str)], after: Option<&[(&str, &str)]>) {
        let rules: Vec<RelabelConfig> = serde_yaml::from_str(yaml).unwrap();
        let got = apply_to(&rules, &Labels::from_pairs(before.iter().copied()));
        assert_eq!(got, after.map(|l| Labels::from_pairs(l.iter().copied())), "{yaml}");
    }

    #[test]
    fn each_action_does_what_prometheus_documents() {
        let l = [("a", "foo"), ("b", "bar"), ("c", "baz")];
        check(
            "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
            &l,
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")]),
        );
        check("[{source_labels: [a], regex: '.*o.*', action: drop}]", &l, None);
        check("[{source_labels: [a], regex: 'no', action: drop}]", &l, Some(&l));
        check("[{source_labels: [a, b], regex: 'foo;bar', action: keep}]", &l, Some(&l));
        check("[{source_labels: [a], target_label: b, action: keepequal}]", &l, None);
        check(
            "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
            &[("c", "baz")],
            Some(&[("c", "baz"), ("d", "976")]),
        );
        check(
            "[{regex: '(b.*)', replacement: 'bar_${1}', action: labelmap}]",
            &[("a", "foo"), ("b1", "bar"), ("b2", "baz")],
            Some(&[
                ("a", "foo"),
                ("b1", "bar"),
                ("b2", "baz"),
                ("bar_b1", "bar"),
                ("bar_b2", "baz"),
            ]),
        );
        check("[{regex: 'a', action: labelkeep}]", &l, Some(&[("a", "foo")]));
        check("[{regex: '[ab]', action: labeldrop}]", &l, Some(&[("c", "baz")]));
        check(
            "[{source_labels: [a], target_label: a, action: Uppercase}]",
            &[("a", "foo")],
            Some(&[("a", "FOO")]),
        );
        // A replacement that expands to nothing deletes the label.
        check("[{source_labels: [x], target_label: a}]", &[("a", "1")], Some(&[]));
        // A target that expands to nothing changes nothing.
        check(
            "[{source_labels: [a], regex: '(x)?foo', target_label: '${1}', replacement: v}]",
            &[("a", "foo")],
            Some(&[("a", "foo")]),
        );
        check(
            "[{source_labels: [a], regex: '(?P<n>f)oo', target_label: '${n}_$$', replacement: '$n$9x$'}]",
            &[("a", "foo")],
            Some(&[("a", "foo"), ("f_$", "f$")]),
        );
    }
}
