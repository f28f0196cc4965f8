//! Generated rule unit tests, run by `promtool test rules` and by this program. They expect
//! nothing, so that both tell every alert that fires and every sample that is recorded.

use std::fmt::Write;
use std::process::Command;

use watchfire::rules::unit_test::{UnitTestOptions, run_unit_tests};

use super::SEED;
use super::generate::Generator;
use crate::support::available;

const FILES: usize = 40;

/// A rule file and its unit test. Samples stand at whole minutes; ranges and `for` are
/// such that whether the first sample of a window counts makes no difference.
fn generate(g: &mut Generator) -> (String, String) {
    let mut rules = "groups:\n- name: g\n  interval: 1m\n  rules:\n".to_owned();
    let mut test = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n".to_owned();
    for (job, instance) in [("api", "a"), ("api", "b"), ("web", "a")] {
        for metric in ["up", "level", "total"] {
            let values = match (metric, g.below(6)) {
                ("total", n) => format!("0+{}x{} 0+{}x30", 5 * (n + 1), 4 + n, n + 1),
                ("up", _) => (0..20).map(|_| if g.chance(60) { "1 " } else { "0 " }).collect(),
                (_, 0) => "1+1x5 _x3 9-1x20".to_owned(),
                (_, 1) => "3x6 stale 7x10".to_owned(),
                (_, 2) => "-5 NaN Inf 4.5 1e3 0x10".to_owned(),
                (_, n) => format!("{}-1.5x30", n * 10),
            };
            let _ = writeln!(
                test,
                "  - series: '{metric}{{job=\"{job}\",instance=\"{instance}\"}}'\n    values: '{}'",
                values.trim()
            );
        }
    }
    let exprs = [
        "up == 0",
        "level > 3",
        "sum by (job) (level) > 5",
        "rate(total[150s]) > 0.05",
        "rec:level > 2",
        "count by (job) (up == 1) < 2",
        "absent(level{job=\"db\"})",
        "avg_over_time(level[170s]) > bool 4 == 1",
        "level < on (job) group_left () max by (job) (level)",
        "vector(1)",
    ];
    let templates = [
        "{{ $labels.job }} is at {{ $value }}",
        "{{ $value | humanize }} of {{ $labels.instance | toUpper }}",
        "{{ printf \"%.2f\" $value }}",
        "{{ range query \"sum by (instance) (up)\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }};{{ end }}",
        "{{ if gt $value 3.0 }}high{{ else }}low{{ end }}",
        "{{ $value | humanizePercentage }} {{ $value | humanizeDuration }}",
        "plain",
        "{{ with query \"sum(up{job=\\\"api\\\"})\" }}{{ . | first | value }}{{ end }}",
        "{{ $labels.missing }}",
        "{{ .Labels.nothing }}-{{ .ExternalLabels.nothing }}",
    ];
    let recorded =
        g.pick(&["sum by (job) (level)", "max(level) by (job)", "level * 2", "delta(total[130s])"]);
    let _ =
        writeln!(rules, "  - record: rec:level\n    expr: {recorded}\n    labels: {{kind: made}}");
    for n in 0..3 {
        let (expr, hold) =
            (g.pick(&exprs), g.pick(&["", "    for: 2m\n", "    for: 5m\n", "    for: 90s\n"]));
        let (label, note) = (g.pick(&templates), g.pick(&templates));
        let _ = write!(
            rules,
            "  - alert: A{n}\n    expr: '{expr}'\n{hold}    labels: {{severity: page, text: '{label}'}}\n    annotations: {{summary: '{note}'}}\n"
        );
    }
    test.push_str("  alert_rule_test:\n");
    for n in 0..3 {
        for minutes in [1, 4, 7, 12] {
            let _ =
                writeln!(test, "  - {{eval_time: {minutes}m, alertname: A{n}, exp_alerts: []}}");
        }
    }
    test.push_str("  promql_expr_test:\n");
    for expr in
        ["rec:level", "ALERTS", "max(rec:level)", "count by (alertname, alertstate) (ALERTS)"]
    {
        let _ = writeln!(test, "  - {{expr: '{expr}', eval_time: {}m}}", g.pick(&[3, 6, 11]));
    }
    (rules, test)
}

/// What both say in the same words, each alert and expression with its outcome; sorted,
/// because promtool walks hash maps.
fn outcomes(text: &str) -> Vec<String> {
    let mut outcomes = Vec::new();
    let (mut test, mut labels) = (String::new(), String::new());
    for line in text.lines().map(|line| line.trim().trim_end_matches(',')) {
        if line.starts_with("alertname:") || line.starts_with("expr:") {
            line.clone_into(&mut test);
        } else if line.starts_with("Labels:") {
            line.clone_into(&mut labels);
        } else if line.starts_with("Annotations:") {
            outcomes.push(format!("{test} {labels} {line}"));
        } else if line.starts_with("got:") && line != "got:[" {
            outcomes.push(format!("{test} {line}"));
        }
    }
    outcomes.sort();
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_rule_tests_have_the_same_outcomes() {
    if !available("promtool") {
        return;
    }
    let mut generator = Generator::new(SEED);
    let (mut different, mut lines) = (Vec::new(), 0);
    for n in 0..FILES {
        let dir = tempfile::tempdir().unwrap();
        let (rules, test) = generate(&mut generator);
        let file = dir.path().join("test.yml");
        std::fs::write(dir.path().join("rules.yml"), &rules).unwrap();
        std::fs::write(&file, &test).unwrap();
        let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let theirs = outcomes(&text);
        let reports = run_unit_tests(&[file], &UnitTestOptions::default()).await;
        let all: Vec<&str> =
            reports.iter().flat_map(|r| r.all_errors()).map(String::as_str).collect();
        let ours = outcomes(&all.join("\n"));
        assert!(!theirs.is_empty(), "file {n} says nothing: {text}\n{rules}\n{test}");
        lines += theirs.len();
        if theirs != ours {
            let only = |of: &[String], not: &[String]| -> String {
                of.iter()
                    .filter(|line| !not.contains(line))
                    .take(3)
                    .map(|l| format!("    {l}\n"))
                    .collect()
            };
            different.push(format!(
                "file {n}:\n  theirs\n{}  ours\n{}{rules}",
                only(&theirs, &ours),
                only(&ours, &theirs)
            ));
        }
    }
    println!("{lines} lines of outcomes in {FILES} files");
    assert!(
        different.is_empty(),
        "seed {SEED}: {} differ:\n{}",
        different.len(),
        different.join("\n")
    );
}
