//! Keys Prometheus does not know: what is read, what is refused, what is warned of.

use super::*;
use crate::rules::policy::{OnError, OnLimit, OnNoData};

/// The problems of a file read as the server reads it.
fn check(source: &str, expected: &[&str]) {
    problems(source, true, expected);
}

fn problems(source: &str, dialects: bool, expected: &[&str]) {
    let options = LoadOptions { dialects, ..LoadOptions::default() };
    let loaded = load_source("f.yml", source, &options);
    let found: Vec<String> = loaded
        .problems
        .iter()
        .map(|p| format!("{:?} {} | {}", p.severity, p.location(), p.message))
        .collect();
    assert_eq!(found, expected, "{source}");
}

fn group(keys: &str) -> GroupSpec {
    let source = format!("groups:\n- name: g\n{keys}  rules:\n  - {{alert: a, expr: up}}\n");
    let options = LoadOptions { dialects: true, ..LoadOptions::default() };
    let mut loaded = load_source("f.yml", &source, &options);
    assert!(loaded.is_valid(), "{:#?}", loaded.problems);
    loaded.groups.remove(0)
}

#[test]
fn own_keys_are_read_without_a_word() {
    let source = "groups:\n- name: g\n  on_no_data: keep\n  on_error: fire\n  missing_evals_to_resolve: 3\n  on_limit: truncate\n  catch_up: 2h\n  depends_on: [x, y, x]\n  budget: 50%\n  rules:\n  - alert: a\n    expr: up\n    on_no_data: fire\n    on_error: resolve\n    missing_evals_to_resolve: 1\n    depends_on: [b]\n";
    for dialects in [false, true] {
        problems(source, dialects, &[]);
    }
    let loaded = load_source("f.yml", source, &LoadOptions::default());
    let g = &loaded.groups[0];
    assert_eq!(
        g.policy,
        PolicySpec {
            on_no_data: Some(OnNoData::Keep),
            on_error: Some(OnError::Fire),
            missing_evals_to_resolve: Some(3),
        }
    );
    assert_eq!(
        g.group_policy,
        GroupPolicySpec {
            on_limit: Some(OnLimit::Truncate),
            catch_up_ms: Some(7_200_000),
            budget: Some(0.5),
        }
    );
    assert_eq!(g.depends_on, ["x", "y"]);
    assert_eq!(
        g.rules[0].policy,
        PolicySpec {
            on_no_data: Some(OnNoData::Fire),
            on_error: Some(OnError::Resolve),
            missing_evals_to_resolve: Some(1),
        }
    );
    assert_eq!(g.rules[0].depends_on, ["b"]);
}

#[test]
fn every_key_counts_for_equality() {
    let plain = group("");
    for keys in [
        "  on_no_data: keep\n",
        "  on_error: fire\n",
        "  missing_evals_to_resolve: 2\n",
        "  on_limit: truncate\n",
        "  catch_up: 1h\n",
        "  depends_on: [x]\n",
        "  budget: 0.5\n",
        "  eval_offset: 10s\n",
        "  eval_delay: 10s\n",
        "  eval_alignment: true\n",
        "  concurrency: 2\n",
    ] {
        let changed = group(keys);
        assert_ne!(plain, changed, "{keys}");
        assert_eq!(changed, group(keys));
    }
    for keys in
        ["  eval_alignment: false\n", "  type: prometheus\n", "  params: {nocache: ['1']}\n"]
    {
        assert_eq!(plain, group(keys), "{keys}");
    }
}

#[test]
fn bad_values_are_errors_with_their_place() {
    check(
        "groups:\n- name: g\n  on_no_data: maybe\n  on_error:\n  missing_evals_to_resolve: 0\n  on_limit: [fail]\n  catch_up: soon\n  depends_on: [a, '']\n  budget: 2\n  rules:\n  - {record: r, expr: up, on_error: keep}\n",
        &[
            "Error f.yml:3:15 | 3:15: group \"g\": field 'on_no_data': \"maybe\" is none of resolve, keep, fire",
            "Error f.yml:4:12 | 4:12: group \"g\": field 'on_error': it has no value",
            "Error f.yml:5:29 | 5:29: group \"g\": field 'missing_evals_to_resolve': want a whole number of evaluations, at least 1",
            "Error f.yml:8:19 | 8:19: group \"g\": field 'depends_on': a name of a rule is empty",
            "Error f.yml:6:13 | 6:13: group \"g\": field 'on_limit': want a word",
            "Error f.yml:9:11 | 9:11: group \"g\": field 'budget': \"2\" is no share of the interval: want a number above 0 and up to 1, or e.g. 50%",
            "Error f.yml:7:13 | 7:13: group \"g\": field 'catch_up': not a valid duration string: \"soon\"",
            "Error f.yml:11:27 | 11:27: group \"g\", rule 1, \"r\": invalid field 'on_error' in recording rule",
        ],
    );
}

#[test]
fn promtool_would_refuse_dialects_and_a_note_says_whose_they_are() {
    problems(
        "groups:\n- name: g\n  eval_offset: 1s\n  speed: 1\n  rules:\n  - {record: r, expr: up, debug: true}\n",
        false,
        &[
            "Error f.yml:3:3 | line 3: field eval_offset not found in type rulefmt.RuleGroup",
            "Error f.yml:4:3 | line 4: field speed not found in type rulefmt.RuleGroup",
            "Error f.yml:6:27 | line 6: field debug not found in type rulefmt.Rule",
            "Note f.yml:3:3 | 3:3: group \"g\": eval_offset is a key of vmalert: promtool refuses it; watchfire serve, and check rules --dialects, take it",
            "Note f.yml:6:27 | 6:27: group \"g\", rule 1, \"r\": debug is a key of vmalert: promtool refuses it; watchfire serve, and check rules --dialects, take it",
        ],
    );
}
