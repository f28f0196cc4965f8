//! A recording as a test file in promtool's format.

use std::fmt::Write;

use super::fixture::Fixture;
use super::notation::notation;
use super::replay::{Moment, Rig};
use super::{Plan, Surroundings};
use crate::model::duration::format_duration;
use crate::model::labels::{is_legacy_metric_name, quote, quote_label_name};
use crate::model::{Labels, METRIC_NAME};
use crate::rules::unit_test::schema::ExpectedAlert;

/// Most evaluations that a test looks at.
const CASES_MAX: usize = 200;

/// The evaluations a test has to look at: the first and the last, and both sides of every
/// change of which alerts fire.
pub(super) fn cases<'m>(
    plan: &Plan,
    moments: &'m [Moment],
    notes: &mut Vec<String>,
) -> Vec<(i64, &'m [ExpectedAlert])> {
    let labels = |moment: &Moment| -> Vec<Labels> {
        moment.firing.iter().map(|alert| alert.labels.clone()).collect()
    };
    let mut chosen = Vec::new();
    for (i, moment) in moments.iter().enumerate() {
        let differs = |other: Option<&Moment>| other.is_none_or(|o| labels(o) != labels(moment));
        let before = i.checked_sub(1).and_then(|i| moments.get(i));
        if differs(before) || differs(moments.get(i + 1)) {
            chosen.push((moment.at_ms - plan.start_ms, &moment.firing[..]));
        }
    }
    if chosen.len() > CASES_MAX {
        notes.push(format!(
            "the alerts change at {} evaluations; the test looks at the first {CASES_MAX}",
            chosen.len()
        ));
        chosen.truncate(CASES_MAX);
    }
    chosen
}

/// The whole file.
pub(super) fn test(
    plan: &Plan,
    fixture: &Fixture,
    cases: &[(i64, &[ExpectedAlert])],
    rig: &Rig<'_>,
    surroundings: &Surroundings,
) -> String {
    let mut out = String::new();
    write_test(plan, fixture, cases, rig, surroundings, &mut out)
        .expect("BUG: writing to a String cannot fail");
    out
}

fn write_test(
    plan: &Plan,
    fixture: &Fixture,
    cases: &[(i64, &[ExpectedAlert])],
    rig: &Rig<'_>,
    surroundings: &Surroundings,
    out: &mut String,
) -> std::fmt::Result {
    for line in &surroundings.head {
        writeln!(out, "# {line}")?;
    }
    writeln!(out, "rule_files:")?;
    for file in &surroundings.rule_files {
        writeln!(out, "- {}", scalar(file))?;
    }
    writeln!(out, "evaluation_interval: {}", format_duration(plan.interval_ms))?;
    if rig.groups().len() > 1 {
        writeln!(out, "group_eval_order:")?;
        for group in rig.groups() {
            writeln!(out, "- {}", scalar(&group.name))?;
        }
    }
    writeln!(out, "tests:\n- name: {}", scalar(&plan.alert))?;
    writeln!(out, "  interval: {}", format_duration(fixture.interval_ms))?;
    let test = &rig.test;
    if test.start_ms != 0 {
        writeln!(out, "  start_timestamp: {}", test.start_ms as f64 / 1000.0)?;
    }
    mapping(out, "  ", "external_labels", &test.external_labels)?;
    if !test.external_url.is_empty() {
        writeln!(out, "  external_url: {}", scalar(&test.external_url))?;
    }
    if fixture.series.is_empty() {
        writeln!(out, "  input_series: []")?;
    } else {
        writeln!(out, "  input_series:")?;
    }
    for (labels, values) in &fixture.series {
        writeln!(out, "  - series: {}", scalar(&series(labels)))?;
        writeln!(out, "    values: {}", scalar(&notation(values)))?;
    }
    writeln!(out, "  alert_rule_test:")?;
    for (after_ms, alerts) in cases {
        writeln!(out, "  - eval_time: {}", format_duration(*after_ms))?;
        writeln!(out, "    alertname: {}", scalar(&plan.alert))?;
        if alerts.is_empty() {
            writeln!(out, "    exp_alerts: []")?;
            continue;
        }
        writeln!(out, "    exp_alerts:")?;
        for alert in *alerts {
            let labels = alert.labels.retain(|name| name != "alertname");
            writeln!(out, "    -")?;
            mapping(out, "      ", "exp_labels", &labels)?;
            mapping(out, "      ", "exp_annotations", &alert.annotations)?;
            if labels.is_empty() && alert.annotations.is_empty() {
                writeln!(out, "      exp_labels: {{}}")?;
            }
        }
    }
    Ok(())
}

fn mapping(out: &mut String, indent: &str, key: &str, labels: &Labels) -> std::fmt::Result {
    if labels.is_empty() {
        return Ok(());
    }
    writeln!(out, "{indent}{key}:")?;
    for (name, value) in labels.iter() {
        writeln!(out, "{indent}  {}: {}", scalar(name), scalar(value))?;
    }
    Ok(())
}

/// `name{a="b"}`.
fn series(labels: &Labels) -> String {
    let name = labels.get(METRIC_NAME).unwrap_or_default();
    let outside = is_legacy_metric_name(name);
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(label, _)| !outside || *label != METRIC_NAME)
        .map(|(label, value)| format!("{}={}", quote_label_name(label), quote(value)))
        .collect();
    match (outside, pairs.is_empty()) {
        (true, true) => name.to_owned(),
        (true, false) => format!("{name}{{{}}}", pairs.join(", ")),
        (false, _) => format!("{{{}}}", pairs.join(", ")),
    }
}

/// A text as YAML reads it back: plain where nothing can be misunderstood.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | ':');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !text.ends_with(':')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n" | "inf" | "nan"
        );
    if is_word {
        text.to_owned()
    } else if text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        // What Go's strings escape, YAML's do as well.
        quote(text)
    }
}
