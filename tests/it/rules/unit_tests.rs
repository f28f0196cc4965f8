//! Unit tests of rules: those of the rules that ship, and what tests can say beyond promtool.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use watchfire::rules::unit_test::{
    FileReport, Mutants, TestBegins, UnitTestOptions, merged, run_unit_tests, totals,
};

fn run(files: &[PathBuf], options: &UnitTestOptions) -> Vec<FileReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run_unit_tests(files, options))
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "yml"))
        .collect();
    files.sort();
    files
}

#[test]
fn the_rules_that_ship_pass_their_tests() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let tests = files_of(&rules.join("tests"));
    let names = |files: &[PathBuf]| -> Vec<_> {
        files.iter().map(|f| f.file_name().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&files_of(&rules)), names(&tests), "each rule file has its test file");
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let begins = TestBegins(Arc::new(move |name: &str, number, of| {
        tell.lock().unwrap().push((name.to_owned(), number, of));
    }));
    let options = UnitTestOptions { begins: Some(begins), ..UnitTestOptions::default() };
    let reports = run(&tests, &options);
    let begun = reports.iter().flat_map(|report| {
        let numbered = report.tests.iter().enumerate();
        numbered.map(|(number, test)| (test.name.clone(), number, report.tests.len()))
    });
    assert!(begun.eq(told.lock().unwrap().iter().cloned()), "{told:?}");
    for report in reports {
        let errors: Vec<_> = report.all_errors().map(String::as_str).collect();
        assert!(report.passed(), "{}:\n{}", report.file, errors.join("\n"));
        assert!(report.warnings.is_empty() && !report.tests.is_empty(), "{report:?}");
    }
}

#[test]
fn policies_of_rules_hold_in_unit_tests() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "
groups:
- name: g
  limit: 1
  on_limit: truncate
  rules:
  - {alert: Kept, expr: x > 5, on_no_data: keep}
  - {alert: Silent, expr: nothing > 5, on_no_data: fire, for: 1m, labels: {severity: page}}
  - {alert: Broken, expr: \"label_replace(y, 'i', 'same', '', '')\", on_error: fire}
";
    let tests = "
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - {series: 'x{i=\"a\"}', values: '9 9 stale _ _ _ _ _ 1'}
  - {series: 'y{i=\"1\"}', values: '1x20'}
  - {series: 'y{i=\"2\"}', values: '1x20'}
  alert_rule_test:
  - {eval_time: 5m, alertname: Kept, exp_alerts: [{exp_labels: {i: a}}]}
  - {eval_time: 8m, alertname: Kept, exp_alerts: []}
  - {eval_time: 0m, alertname: Silent, exp_alerts: []}
  - eval_time: 1m
    alertname: Silent
    exp_alerts:
    - exp_labels: {severity: page, watchfire_reason: no_data}
      exp_annotations:
        summary: 'Silent: no data'
        description: 'The expression finds no series to look at, so this alert cannot fire: check that what it selects is still collected, under these names and labels. Active alerts are held. Expression: nothing > 5'
  - eval_time: 1m
    alertname: Broken
    exp_alerts:
    - exp_labels: {watchfire_reason: error}
      exp_annotations:
        summary: 'Broken: evaluation fails'
        description: 'The rule cannot be evaluated, so this alert cannot fire; active alerts are held. Error: vector cannot contain metrics with the same labelset. Expression: label_replace(y, \"i\", \"same\", \"\", \"\")'
";
    std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
    std::fs::write(dir.path().join("tests.yml"), tests).unwrap();
    for report in run(&[dir.path().join("tests.yml")], &UnitTestOptions::default()) {
        let errors: Vec<_> = report.all_errors().map(String::as_str).collect();
        assert!(report.passed(), "{}", errors.join("\n"));
        assert_eq!(report.tests.len(), 1);
    }
}

const RULES: &str = r#"
groups:
- name: fast
  interval: 30s
  rules:
  - {record: "job:x:sum", expr: sum by (job) (x)}
- name: slow
  interval: 2m
  labels: {team: infra}
  rules:
  - alert: High
    expr: job:x:sum > 5 unless on (job) maintenance == 1
    for: 2m
    keep_firing_for: 2m
    labels: {severity: page}
    annotations: {summary: '{{ $labels.job }} is at {{ $value }}'}
"#;

/// Runs one test over `RULES`; its lines are indented as items of `tests`.
fn run_test(head: &str, test: &str, options: &UnitTestOptions) -> FileReport {
    let dir = tempfile::tempdir().unwrap();
    run(&[write_test(dir.path(), head, test)], options).remove(0)
}

/// Writes a test of one case, with the rules it is about beside it.
fn write_test(dir: &Path, head: &str, test: &str) -> PathBuf {
    std::fs::write(dir.join("rules.yml"), RULES).unwrap();
    let text = format!(
        "rule_files: [rules.yml]\n{head}\ntests:\n- name: t\n  interval: 1m\n  input_series: [{{series: 'x{{job=\"a\",i=\"1\"}}', values: '9x5 0x10'}}]\n  external_labels: {{region: eu, severity: none}}\n{test}\n"
    );
    std::fs::write(dir.join("tests.yml"), text).unwrap();
    dir.join("tests.yml")
}

fn check_test(head: &str, test: &str, expected: &[&str]) {
    let report = run_test(head, test, &UnitTestOptions::default());
    let errors: Vec<String> = report.all_errors().map(|e| e.trim().to_owned()).collect();
    assert_eq!(errors.len(), expected.len(), "{test}: {errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected), "{test}: {expected:?} is not in {error}");
    }
}

const OWN: &str = "use_group_intervals: true";

#[test]
fn tests_may_follow_the_groups_own_intervals() {
    let at = |time: &str, fires: bool| {
        let alerts = if fires {
            "[{exp_labels: {job: a, team: infra, severity: page}, exp_annotations: {summary: a is at 9}}]"
        } else {
            "[]"
        };
        format!("  alert_rule_test: [{{eval_time: {time}, alertname: High, exp_alerts: {alerts}}}]")
    };
    // Every minute the alert is seen to be pending at 0 and old enough at 2m; with intervals
    // of its own, too, but it goes only every other minute.
    for (head, time, fires) in [
        ("", "2m", true),
        ("", "1m", false),
        (OWN, "2m", true),
        (OWN, "3m", true),
        // Its condition is gone at 6m; it is kept from there, and looked at again at 8m.
        ("", "7m", true),
        ("", "8m", false),
        (OWN, "7m", true),
        (OWN, "8m", false),
    ] {
        check_test(head, &at(time, fires), &[]);
    }
    // The recording of 30 s ago is there only when its group runs that often.
    let recorded = |time: &str, value: u8| {
        format!(
            "  promql_expr_test: [{{expr: 'count_over_time(job:x:sum[59s])', eval_time: {time}, exp_samples: [{{labels: '{{job=\"a\"}}', value: {value}}}]}}]"
        )
    };
    check_test("", &recorded("4m", 1), &[]);
    check_test(OWN, &recorded("4m", 2), &[]);
}

#[test]
fn every_state_of_an_alert_can_be_expected() {
    let case = |time: &str, rest: &str| {
        format!(
            "  alert_rule_test: [{{eval_time: {time}, alertname: High, match: subset, {rest}}}]"
        )
    };
    for (time, rest, expected) in [
        ("1m", "exp_alerts: [], exp_pending: [{exp_labels: {job: a}}]", vec![]),
        ("2m", "exp_alerts: [{}], exp_pending: [], exp_keep_firing: []", vec![]),
        ("7m", "exp_alerts: [{}], exp_keep_firing: [{}], exp_resolved: []", vec![]),
        (
            "9m",
            "exp_alerts: [], exp_keep_firing: [], exp_resolved: [{exp_labels: {job: a}}]",
            vec![],
        ),
        ("1m", "exp_alerts: []", vec![]),
        (
            "1m",
            "exp_pending: []",
            vec!["time: 1m, state: pending, \n        exp:[], \n        got:["],
        ),
        ("7m", "exp_alerts: [{}], exp_resolved: [{}]", vec!["state: resolved, "]),
        ("7m", "exp_alerts: [{}], exp_keep_firing: []", vec!["state: keep_firing, "]),
    ] {
        check_test("", &case(time, rest), &expected);
    }
}

#[test]
fn what_is_expected_may_be_a_part_or_a_pattern() {
    let case = |matching: &str, alert: &str| {
        format!(
            "  alert_rule_test: [{{eval_time: 2m, alertname: High, match: {matching}, exp_alerts: [{alert}]}}]"
        )
    };
    for (matching, alert, expected) in [
        ("exact", "{exp_labels: {job: a}}", vec!["exp:["]),
        ("subset", "{exp_labels: {job: a}}", vec![]),
        ("subset", "{exp_labels: {job: b}}", vec!["exp:["]),
        ("subset", "{exp_labels: {job: a}}, {exp_labels: {job: a}}", vec!["exp:["]),
        (
            "regex",
            "{exp_labels: {job: '[a-c]'}, exp_annotations: {summary: 'a is at \\d+'}}",
            vec![],
        ),
        ("regex", "{exp_annotations: {summary: 'a is'}}", vec!["exp:["]),
        ("regex", "{exp_labels: {job: '('}}", vec!["line 8: \"job\": error parsing regexp"]),
        ("some", "{}", vec!["line 8: match must be exact, subset or regex"]),
    ] {
        check_test("", &case(matching, alert), &expected);
    }
    let sample = |matching: &str, labels: &str| {
        format!(
            "  promql_expr_test: [{{expr: 'x', eval_time: 1m, match: {matching}, exp_samples: [{{labels: '{labels}', value: 9}}]}}]"
        )
    };
    check_test("", &sample("subset", "x{job=\"a\"}"), &[]);
    check_test("", &sample("exact", "x{job=\"a\"}"), &["exp: {__name__=\"x\", job=\"a\"} 9E+00"]);
    check_test("", &sample("regex", "x{i=\"[0-9]\"}"), &[]);
}

#[test]
fn notifications_can_be_expected_as_an_alertmanager_gets_them() {
    let case = |time: &str, expected: &str| {
        format!("  notification_test: [{{eval_time: {time}, exp_notifications: [{expected}]}}]")
    };
    let alert = "labels: {alertname: High, job: a, team: infra, severity: page, region: eu}";
    for (time, expected, errors) in [
        // Pending alerts are not sent.
        ("1m", String::new(), vec![]),
        (
            "2m",
            format!(
                "{{{alert}, annotations: {{summary: a is at 9}}, status: firing, starts_at: 2m, ends_at: 10m}}"
            ),
            vec![],
        ),
        // It was sent a minute ago, which is not more than a minute.
        ("3m", String::new(), vec![]),
        (
            "4m",
            format!(
                "{{{alert}, annotations: {{summary: a is at 9}}, starts_at: 2m, ends_at: 12m}}"
            ),
            vec![],
        ),
        (
            "8m",
            format!(
                "{{{alert}, annotations: {{summary: a is at 9}}, status: resolved, starts_at: 2m, ends_at: 8m}}"
            ),
            vec![],
        ),
        (
            "2m",
            "{}".to_owned(),
            vec![
                "notifications, time: 2m,\n        exp:\n            any status from any time to any time: Labels:{} Annotations:{}\n        got:\n            firing from 2m to 10m: Labels:{alertname=\"High\", ",
            ],
        ),
        ("2m", "{status: gone}".to_owned(), vec!["line 8: status must be firing or resolved"]),
    ] {
        check_test("", &case(time, &expected), &errors);
    }
}

#[test]
fn coverage_names_what_no_test_looks_at() {
    let options = UnitTestOptions { coverage: true, ..UnitTestOptions::default() };
    let left_out = |test: &str| -> Vec<String> {
        let report = run_test("", test, &options);
        assert!(report.passed(), "{report:?}");
        let both = merged(report.coverage.iter().cloned().chain(report.coverage.clone()));
        assert_eq!(both, report.coverage, "the same twice is the same");
        let facets = report.coverage.iter().flat_map(|rule| {
            let open = rule.facets.iter().filter(|facet| !facet.covered);
            open.map(move |facet| format!("{}: {}", rule.rule, facet.what))
        });
        let left: Vec<String> = facets.collect();
        let (covered, all) = totals(&report.coverage);
        assert_eq!(all - covered, left.len());
        left
    };
    let holds = "`unless` holds something back in `job:x:sum > 5 unless on (job) maintenance == 1`";
    let short = "  alert_rule_test: [{eval_time: 1m, alertname: High, exp_alerts: []}]";
    assert_eq!(
        left_out(short),
        [
            "job:x:sum: a promql_expr_test reads it".to_owned(),
            "High: it fires".to_owned(),
            "High: a test expects it to fire".to_owned(),
            "High: label severity is checked".to_owned(),
            "High: label team is checked".to_owned(),
            "High: annotation summary is checked".to_owned(),
            format!("High: {holds}"),
            "High: `>` does not hold in `job:x:sum > 5`".to_owned(),
            "High: `==` holds in `maintenance == 1`".to_owned(),
            "High: `==` does not hold in `maintenance == 1`".to_owned(),
        ]
    );
    let long = "  alert_rule_test:
  - {eval_time: 2m, alertname: High, exp_alerts: [{exp_labels: {job: a, team: infra, severity: page}, exp_annotations: {summary: a is at 9}}]}
  - {eval_time: 9m, alertname: High}
  promql_expr_test: [{expr: 'job:x:sum', eval_time: 1m, exp_samples: [{labels: 'job:x:sum{job=\"a\"}', value: 9}]}]";
    assert_eq!(
        left_out(long),
        [
            format!("High: {holds}"),
            "High: `==` holds in `maintenance == 1`".to_owned(),
            "High: `==` does not hold in `maintenance == 1`".to_owned(),
        ]
    );
}

#[test]
fn mistakes_that_no_test_notices_are_named() {
    let test = "  alert_rule_test: [{eval_time: 2m, alertname: High, match: subset, exp_alerts: [{exp_labels: {job: a}}]}]";
    let (dir, options) = (tempfile::tempdir().unwrap(), UnitTestOptions::default());
    let mutants = Mutants::load(&write_test(dir.path(), "", test), &options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let noticed: Vec<bool> =
        (0..mutants.len()).map(|m| runtime.block_on(mutants.is_noticed(m))).collect();
    let mutation = mutants.outcome(&noticed);
    let survivors: Vec<&str> = mutation.survivors.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(
        survivors,
        [
            "`>` became `>=`",
            "the threshold 5 became 5.5",
            "the threshold 5 became 4.5",
            "`==` became `!=`",
            "the threshold 1 became 1.1",
            "the threshold 1 became 0.9",
            "`for: 2m` became `for: 0s`",
            "label severity became \"mutant\"",
            "label team became \"mutant\"",
        ]
    );
    // `sum` without its label, `<`, `and`, `for: 4m`.
    assert_eq!(mutation.noticed, 4);
    assert_eq!((mutation.survivors[0].line, mutation.survivors[0].rule.as_str()), (11, "High"));
}
