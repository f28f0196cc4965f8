//! Unit tests of rules: those of the rules that ship, and promtool's `test rules` cases.

use std::path::{Path, PathBuf};

use serde_json::Value;
use watchfire::model::regex::GoRegex;
use watchfire::parser::ParserOptions;
use watchfire::rules::unit_test::{FileReport, UnitTestOptions, run_unit_tests};

use crate::support::shared;

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
    for report in run(&tests, &UnitTestOptions::default()) {
        let errors: Vec<_> = report.all_errors().map(String::as_str).collect();
        assert!(report.passed(), "{}:\n{}", report.file, errors.join("\n"));
        assert!(report.warnings.is_empty() && !report.tests.is_empty(), "{report:?}");
    }
}

/// Lines of a case that are recorded differently on purpose.
fn is_left_out(args: &[&str], line: &str) -> bool {
    // The coloured JSON of --diff; and 3.14 lists the two series in the order of labels.
    (args.contains(&"--diff") && line.starts_with("\"Labels\""))
        || line.contains("err: found duplicate series for the match group")
}

#[test]
fn promtool_test_rules_cases_agree() {
    let Some(dir) = shared("conformance/promtool") else { return };
    let text = std::fs::read_to_string(dir.join("cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases["cases"].as_array().unwrap() {
        if case["command"] != "test rules" {
            continue;
        }
        count += 1;
        let id = case["id"].as_str().unwrap();
        let args: Vec<&str> =
            case["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let files: Vec<PathBuf> = args
            .iter()
            .filter(|a| a.ends_with(".yml") || a.ends_with(".yaml"))
            .map(|f| dir.join("files").join(f))
            .collect();
        let run_patterns = args.iter().filter_map(|a| a.strip_prefix("--run="));
        let options = UnitTestOptions {
            run: run_patterns.map(|p| GoRegex::new(p).unwrap()).collect(),
            parser: ParserOptions::default(),
            ..Default::default()
        };
        let reports = run(&files, &options);
        let mut out = String::new();
        for report in &reports {
            if report.passed() {
                out.push_str("  SUCCESS\n");
            } else {
                out.push_str("  FAILED:\n");
                report.all_errors().for_each(|e| out.push_str(&format!("{e}\n")));
            }
        }
        let code = i64::from(!reports.iter().all(FileReport::passed));
        if Some(code) != case["expect"]["exit_code"].as_i64() {
            wrong.push(format!("{id} {args:?}: exit code {code}\n{out}"));
            continue;
        }
        // The files were run by absolute path.
        let folder = format!("{}/", dir.join("files").display());
        let out = out.replace(&folder, "");
        let lines: Vec<&str> = out.lines().map(str::trim).collect();
        for line in case["expect"]["key_lines"].as_array().unwrap() {
            let line = line.as_str().unwrap();
            if !lines.contains(&line) && !is_left_out(&args, line) {
                wrong.push(format!("{id} {args:?}: misses {line:?}\n{out}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} in {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(count, 32);
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
