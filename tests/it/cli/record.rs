//! `watchfire test record` against a real Prometheus: what it makes passes here and in the
//! real promtool, is small, and says what it lacks.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{outcome, said, watchfire};
use crate::support::{Program, available, http_get, start_prometheus, until};

const RULES: &str = "\
groups:
- name: top
  rules:
  - alert: Errors
    expr: job:errors:rate5m / on (job) job:requests:rate5m > 0.1
    for: 2m
    labels: {severity: page, team: 'it''s us'}
    annotations:
      text: '{{ $labels.job }} fails: {{ $value | humanizePercentage }} of {{ with query \"sum(instances)\" }}{{ . | first | value }}{{ end }}'
  - alert: Full
    expr: min by (job) (free) < 10
    for: 2m
    annotations: {text: '{{ $labels.job }} has {{ $value }} left'}
  - alert: Gone
    expr: absent(heartbeat)
    for: 1m
- name: base
  rules:
  - record: job:errors:rate5m
    expr: sum by (job) (rate(errors_total[5m]))
  - record: job:requests:rate5m
    expr: sum by (job) (rate(requests_total[5m]))
  - record: unused
    expr: sum(noise)
";

/// Seconds since 1970, at a whole minute.
fn minute() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    now.as_secs() as i64 / 60 * 60
}

/// Samples every 15 s from 55 minutes ago on: errors of one job from minute 20 to 30; a
/// heartbeat that misses minutes 30 to 40 altogether.
fn samples(start: i64) -> String {
    let mut text = String::new();
    for i in 0..(50 * 4) {
        let (at, minute) = ((start + i * 15) * 1000, i / 4);
        let mut add = |series: &str, value: i64| text += &format!("{series} {value} {at}\n");
        for job in ["api", "web", "db"] {
            for instance in ["a", "b", "c"] {
                let failing = job == "api" && instance == "b";
                let bad = if failing { (i - 80).clamp(0, 40) * 30 } else { 0 };
                add(
                    &format!("errors_total{{job=\"{job}\",instance=\"{instance}\"}}"),
                    bad + i / 20,
                );
                add(&format!("requests_total{{job=\"{job}\",instance=\"{instance}\"}}"), i * 30);
                let full = job == "web" && instance == "c" && (20..30).contains(&minute);
                let left = if full { 30 - minute } else { 50 };
                add(&format!("free{{job=\"{job}\",instance=\"{instance}\"}}"), left);
                add(&format!("noise{{job=\"{job}\",instance=\"{instance}\"}}"), i % 7);
            }
        }
        add("instances{zone=\"x\"}", 4);
        add("instances{zone=\"y\"}", 5);
        if !(30..40).contains(&minute) {
            add("heartbeat", 1);
        }
    }
    text
}

/// A Prometheus with the samples, and when they begin.
fn filled(dir: &Path, config: &str) -> Option<(Program, String, i64)> {
    let (program, base) = start_prometheus(dir, config)?;
    let start = minute() - 55 * 60;
    // By time, so that no request is far behind what was sent before.
    let text = samples(start);
    let output =
        watchfire(&["push", "metrics", &base, "--label=pushed=yes"], dir, Some(text.as_bytes()));
    assert!(output.status.success(), "{}", said(&output));
    Some((program, base, start))
}

fn promtool_agrees(dir: &Path, test: &str) {
    if available("promtool") {
        let output =
            Command::new("promtool").args(["test", "rules", test]).current_dir(dir).output();
        let output = output.expect("promtool runs");
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn an_alert_becomes_a_small_test_that_passes_everywhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = "global: {external_labels: {region: eu}}\n";
    let Some((_program, base, start)) = filled(dir.path(), config) else { return };
    fs::create_dir(dir.path().join("tests")).expect("a folder");
    fs::write(dir.path().join("rules.yml"), RULES).expect("the rules");
    let at = |minutes: i64| (start + minutes * 60).to_string();
    let record = |args: &[&str]| {
        let all = [&["test", "record", "--server", &base], args].concat();
        let output = watchfire(&all, dir.path(), None);
        (output.status.code(), said(&output))
    };
    let (from, to) = (at(16), at(45));
    let time = ["--from", &from, "--to", &to];
    let made = ["--alert=Errors", "--rules=rules.yml", "--out=tests/errors.yml"];
    let (code, text) = record(&[&made[..], &time].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("fires at ") && text.contains("{job=\"api\", severity=\"page\""),
        "{text}"
    );
    let test = fs::read_to_string(dir.path().join("tests/errors.yml")).expect("a test");
    // Only the job that fails, raw inputs instead of what is recorded, the query of the
    // template; neither noise nor other jobs.
    for part in [
        "\n- '../rules.yml'\n",
        "group_eval_order:\n- base\n- top\n",
        "instances{",
        "evaluation_interval: 1m\n",
    ] {
        assert!(test.contains(part), "no {part:?} in\n{test}");
    }
    for part in ["noise", "rate5m", "job=\"db\"", "job=\"web\"", "heartbeat"] {
        assert!(!test.contains(part), "{part:?} in\n{test}");
    }
    let series = test.matches("- series: ").count();
    assert!((3..=9).contains(&series), "{series} series in\n{test}");
    assert!(test.contains("exp_alerts: []") && test.contains("text: 'api fails: "), "{test}");
    let (code, text) = outcome(&["test", "rules", "tests/errors.yml"], dir.path());
    assert_eq!((code, text.trim()), (Some(0), "SUCCESS"));
    // The promtool of Debian counts windows otherwise, which show in the values: it is asked
    // about an alert without one, which one series decides.
    let made = ["--alert=Full", "--rules=rules.yml", "--out=tests/full.yml"];
    let (code, text) = record(&[&made[..], &time].concat());
    assert!(code == Some(0) && text.starts_with("1 of 9 series are needed"), "{text}");
    let full = fs::read_to_string(dir.path().join("tests/full.yml")).expect("a test");
    assert!(full.contains("series: 'free{instance=\"c\", job=\"web\", pushed=\"yes\"}'"), "{full}");
    promtool_agrees(dir.path(), "tests/full.yml");
    // Every series that is left is needed: without any of them the test fails.
    let blocks: Vec<&str> = test.split("  - series: ").collect();
    for left_out in 1..blocks.len() {
        let mut kept = blocks.clone();
        let tail = kept[left_out].split_once("  alert_rule_test:");
        let tail = tail.map(|(_, tail)| format!("  alert_rule_test:{tail}")).unwrap_or_default();
        kept.remove(left_out);
        let text = kept.join("  - series: ") + &tail;
        fs::write(dir.path().join("tests/less.yml"), text).expect("a test");
        let (code, _) = outcome(&["test", "rules", "tests/less.yml"], dir.path());
        assert_eq!(code, Some(1), "not needed: {}", blocks[left_out]);
    }
    // A series that is absent, staleness and all, to standard output.
    let made = ["--alert=Gone", "--rules=rules.yml"];
    let all = [&["test", "record", "--server", &base], &made[..], &time].concat();
    let output = watchfire(&all, dir.path(), None);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    fs::write(dir.path().join("gone.yml"), &output.stdout).expect("a test");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("- rules.yml\n") && text.contains("series: heartbeat{pushed=\"yes\"}")
            || text.contains("heartbeat"),
        "{text}"
    );
    let (code, text) = outcome(&["test", "rules", "gone.yml"], dir.path());
    assert_eq!((code, text.trim()), (Some(0), "SUCCESS"));
    promtool_agrees(dir.path(), "gone.yml");
    // What cannot be recorded is said.
    let refused = |args: &[&str], part: &str| {
        let (code, text) = record(&[args, &["--rules=rules.yml"]].concat());
        assert!(code == Some(1) && text.contains(part), "{args:?}: {text}");
    };
    refused(
        &[&["--alert=Error"], &time[..]].concat(),
        "no rule is an alert called \"Error\"; did you mean \"Errors\"?",
    );
    refused(&["--alert=Errors", "--from", &to, "--to", &from], "--from is not before --to");
    refused(&["--alert=Errors", "--from=0", "--to", &to], "at most 50000 are recorded");
    refused(&[&["--alert=Errors", "--max-series=2"], &time[..]].concat(), "raise --max-series");
}

#[test]
fn rules_of_the_server_are_written_beside_the_test() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("rules.yml"), RULES).expect("the rules");
    let config = format!("rule_files: ['{}/rules.yml']\n", dir.path().display());
    let Some((_program, base, start)) = filled(dir.path(), &config) else { return };
    let loaded = until(Duration::from_secs(30), || {
        let (_, body) = http_get(&format!("{base}/api/v1/rules")).ok()?;
        body.contains("\"Full\"").then_some(())
    });
    assert!(loaded.is_some(), "it never had the rules");
    let (from, to) = ((start + 16 * 60).to_string(), (start + 45 * 60).to_string());
    let args = ["test", "record", "--server", &base, "--alert=Full", "--from", &from, "--to", &to];
    let (code, text) = outcome(&args, dir.path());
    assert!(code == Some(1) && text.contains("name the test with --out"), "{text}");
    let (code, text) = outcome(&[&args[..], &["--out=full_test.yml"]].concat(), dir.path());
    assert_eq!(code, Some(0), "{text}");
    let rules = fs::read_to_string(dir.path().join("full.rules.yml")).expect("the rules");
    assert!(
        rules.contains("alert: Full") && !rules.contains("unused") && !rules.contains("Gone"),
        "{rules}"
    );
    let (code, text) = outcome(&["test", "rules", "full_test.yml"], dir.path());
    assert_eq!((code, text.trim()), (Some(0), "SUCCESS"));
    promtool_agrees(dir.path(), "full_test.yml");
}
