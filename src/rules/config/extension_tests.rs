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

#[test]
fn dialects_are_honoured_where_that_makes_sense() {
    let check =
        |keys: &str, offset: Option<i64>, delay: Option<i64>, concurrency: Option<usize>| {
            let g = group(keys);
            let found = (g.eval_offset_ms, g.query_offset_ms, g.concurrency);
            assert_eq!(found, (offset, delay, concurrency), "{keys}");
        };
    check("  eval_offset: 10s\n", Some(10_000), None, None);
    check("  interval: 1h\n  eval_offset: -5m\n", Some(-300_000), None, None);
    check("  eval_alignment: true\n", Some(0), None, None);
    check("  align_evaluation_time_on_interval: true\n", Some(0), None, None);
    check("  eval_alignment: false\n", None, None, None);
    check("  eval_alignment: false\n  eval_offset: 7s\n", Some(7_000), None, None);
    check("  eval_delay: 30s\n", None, Some(30_000), None);
    check("  evaluation_delay: 1m\n", None, Some(60_000), None);
    check("  query_offset: 5s\n  eval_delay: 30s\n", None, Some(5_000), None);
    check("  concurrency: 4\n", None, None, Some(4));
    check("  concurrency: 0\n", None, None, None);
}

#[test]
fn what_cannot_be_honoured_is_said_with_what_happens_instead() {
    check(
        "groups:
- name: g
  type: prometheus
  params: {nocache: ['1'], extra_label: [env=dev]}
  headers: ['X-Scope-OrgID: t']
  notifier_headers: []
  tenant: '3:4'
  source_tenants: [a, b]
  partial_response_strategy: warn
  debug: true
  eval_offset: 1s
  eval_alignment: true
  rules:
  - {alert: a, expr: up, debug: false, update_entries_limit: 40}
",
        &[
            "Warning f.yml:12:3 | 12:3: group \"g\": eval_alignment is not honoured: eval_offset says where in the interval it runs",
            "Warning f.yml:4:28 | 4:28: group \"g\": params: extra_label is not honoured: its rules are evaluated here, without a request that had parameters",
            "Warning f.yml:10:3 | 10:3: group \"g\": debug is not honoured: what its rules do is shown by /api/v1/rules and /api/v1/rules/top; nothing more is logged",
            "Warning f.yml:5:3 | 5:3: group \"g\": headers is not honoured: its rules are evaluated over this server's own data, without a request",
            "Warning f.yml:7:3 | 7:3: group \"g\": tenant is not honoured: its rules are evaluated over all data of this server",
            "Warning f.yml:8:3 | 8:3: group \"g\": source_tenants is not honoured: its rules are evaluated over all data of this server",
            "Warning f.yml:9:3 | 9:3: group \"g\": partial_response_strategy is not honoured: answers are never partial: a source that fails makes the rule fail, and on_error says what follows",
            "Warning f.yml:14:40 | 14:40: group \"g\", rule 1, \"a\": update_entries_limit is not honoured: the number of evaluations that are kept per rule is fixed; /api/v1/rules/top shows them",
        ],
    );
}

#[test]
fn dialects_a_server_cannot_run_are_refused_for_their_group_alone() {
    check(
        "groups:
- name: g
  type: graphite
  rules:
  - {alert: a, expr: 'filterSeries(sumSeries(host.receiver.interface.cons),\"last\",\">\", 500)'}
- name: l
  type: vlogs
  rules:
  - {record: r, expr: '_time:5m * | stats count() c'}
- name: o
  type: sql
- name: t
  interval: 1m
  eval_offset: 2m
  partial_response_strategy: bob
  concurrency: -1
",
        &[
            "Error f.yml:3:9 | 3:9: group \"g\": field 'type': \"graphite\": its rules are written in Graphite's language; only prometheus (PromQL) is evaluated, none of its rules run",
            "Error f.yml:7:9 | 7:9: group \"l\": field 'type': \"vlogs\": its rules are written in LogsQL; only prometheus (PromQL) is evaluated, none of its rules run",
            "Error f.yml:11:9 | 11:9: group \"o\": field 'type': \"sql\": unknown type; only prometheus (PromQL) is evaluated, none of its rules run",
            "Error f.yml:14:16 | 14:16: group \"t\": field 'eval_offset': more than the interval of 1m",
            "Error f.yml:16:16 | 16:16: group \"t\": field 'concurrency': want a number from 0",
            "Error f.yml:15:30 | 15:30: group \"t\": field 'partial_response_strategy': \"bob\": want abort or warn",
        ],
    );
}
