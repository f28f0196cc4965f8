//! Judging a mistake by what it can change gives what running everything gives.

use super::*;
use crate::rules::config::{LoadOptions, load_source};
use crate::rules::unit_test::{TestReport, ahead};

impl Mutants {
    /// As `is_noticed`, by running every rule and looking at every case.
    async fn is_noticed_by_all(&self, mutant: usize) -> bool {
        let every: Vec<usize> = (0..self.rules.len()).collect();
        let specs = self.with(mutant, &every);
        let reports = all_reports(&self.file, &specs).await;
        reports.iter().any(|report| !report.errors.is_empty())
    }
}

async fn all_reports(file: &TestFile, groups: &[GroupSpec]) -> Vec<TestReport> {
    let options = UnitTestOptions::default();
    let ahead = ahead::suits(file, groups);
    let mut reports = Vec::new();
    for test in &file.tests {
        reports.push(run::run_test(test, file, groups.to_vec(), &options, None, ahead).await);
    }
    reports
}

fn load(rules: &str) -> Vec<GroupSpec> {
    let options = LoadOptions { dialects: true, ..LoadOptions::default() };
    let loaded = load_source("f.yml", rules, &options);
    assert!(loaded.is_valid(), "{rules}: {:?}", loaded.problems);
    loaded.groups
}

/// Judges every mistake both ways. How many are noticed of how many, and how many rules ran
/// at most for one.
async fn judged(rules: &str, tests: &str) -> (usize, usize, usize) {
    let (file, groups) = (schema::read(tests).unwrap(), load(rules));
    for report in all_reports(&file, &groups).await {
        assert_eq!(report.errors, Vec::<String>::new(), "{rules}\n{tests}");
    }
    let mutants = Mutants::new(file, groups, UnitTestOptions::default());
    let (mut noticed, mut most) = (0, 0);
    for number in 0..mutants.len() {
        let (at, Mutant { what, rule }) = &mutants.mutants[number];
        let whole = mutants.is_noticed_by_all(number).await;
        let part = mutants.is_noticed(number).await;
        assert_eq!(part, whole, "{}: {what}\n{rules}\n{tests}", rule.name());
        noticed += usize::from(whole);
        let parts = mutants.affected.parts(*at, number);
        most = parts.iter().map(|(_, part)| part.rules.len()).max().unwrap_or(0).max(most);
    }
    (noticed, mutants.len(), most)
}

async fn check(rules: &str, tests: &str, expected: (usize, usize, usize)) {
    let rules = match rules.starts_with("groups:") {
        true => rules.to_owned(),
        false => format!("groups:\n- name: g\n  rules:\n{rules}"),
    };
    let tests = match tests.contains("tests:") {
        true => format!("rule_files: []\n{tests}"),
        false => format!("rule_files: []\ntests:\n{tests}"),
    };
    assert_eq!(judged(&rules, &tests).await, expected, "{rules}\n{tests}");
}

#[tokio::test]
async fn chains_of_rules_are_followed() {
    check(
        "  - {record: 'a:r', expr: 'sum by (job) (rate(x{part=\"1\"}[5m]))', labels: {by: a}}
  - {record: 'b:r', expr: 'a:r{by=\"a\"} * 2'}
  - {alert: B, expr: 'b:r > 3', for: 2m, labels: {severity: page}, annotations: {s: '{{ $value }}'}}
  - {record: other, expr: 'count by (job) (y > 0)'}
  - {alert: Other, expr: 'other >= 1', for: 1m}
",
        "- interval: 1m
  input_series:
  - {series: 'x{job=\"j\",part=\"1\"}', values: '0+120x30'}
  - {series: 'x{job=\"k\",part=\"2\"}', values: '0+9x30'}
  alert_rule_test:
  - {eval_time: 20m, alertname: B, exp_alerts: [{exp_labels: {job: j, by: a, severity: page}, exp_annotations: {s: '4'}}]}
- interval: 1m
  input_series: [{series: 'y{job=\"j\"}', values: '1x10 0x20'}]
  alert_rule_test: [{eval_time: 5m, alertname: Other, exp_alerts: [{exp_labels: {job: j}}]}]
  promql_expr_test:
  - {expr: 'b:r', eval_time: 9m, exp_samples: []}
  - {expr: 'count({__name__=~\"oth.+\"})', eval_time: 15m, exp_samples: []}
  - {expr: 'other', eval_time: 4m, exp_samples: [{labels: 'other{job=\"j\"}', value: 1}]}
",
        (12, 24, 3),
    )
    .await;
}

#[tokio::test]
async fn alerts_on_alerts_and_patterns_of_names_are_followed() {
    let input = "- interval: 1m
  input_series: [{series: 'x{job=\"j\"}', values: '0x5 9x20'}, {series: 'z', values: '1x30'}]
";
    check(
        "  - {alert: A, expr: 'x > 5', for: 2m, labels: {team: t}}
  - {alert: Meta, expr: 'count(ALERTS{alertstate=\"firing\",team=\"t\"}) > 0'}
  - {record: since, expr: 'time() - ALERTS_FOR_STATE > 100'}
  - {alert: Apart, expr: 'z > 5'}
  - {record: apart, expr: 'z + 1'}
",
        &format!("{input}  alert_rule_test: [{{eval_time: 12m, alertname: Meta, exp_alerts: [{{exp_labels: {{}}}}]}}, {{eval_time: 7m, alertname: Meta, exp_alerts: []}}]
  promql_expr_test: [{{expr: 'count(since)', eval_time: 15m, exp_samples: [{{labels: '{{}}', value: 2}}]}}]
"),
        (8, 23, 4),
    )
    .await;
    check(
        "  - {record: 'n:a', expr: 'x * 2'}
  - {record: 'n:b', expr: 'z * 3'}
  - {record: all, expr: 'sum({__name__=~\"n:.+\"})'}
  - {record: unnamed, expr: 'count({job=\"j\",__name__!=\"x\"})'}
  - {record: apart, expr: 'z + 1'}
",
        &format!("{input}  promql_expr_test: [{{expr: 'all', eval_time: 10m, exp_samples: [{{labels: all, value: 21}}]}}, {{expr: 'unnamed', eval_time: 10m, exp_samples: [{{labels: unnamed, value: 1}}]}}]\n"),
        (3, 4, 5),
    )
    .await;
}

#[tokio::test]
async fn evaluations_that_fail_are_noticed_by_tests_that_look_elsewhere() {
    let input = "- interval: 1m
  input_series:
  - {series: 'x{job=\"j\",i=\"1\"}', values: '1x20'}
  - {series: 'x{job=\"j\",i=\"2\"}', values: '2x20'}
  - {series: 'y{job=\"j\",i=\"1\"}', values: '1x20'}
  - {series: 'y{job=\"j\",i=\"2\"}', values: '2x20'}
";
    let elsewhere = "  promql_expr_test: [{expr: 'count(x)', eval_time: 10m, exp_samples: [{labels: '{}', value: 2}]}]\n";
    for (rules, expected) in [
        // Without `i` the join is many-to-many.
        ("  - {record: r, expr: 'x{i=\"1\"} * on (job) y{i=\"1\"}'}\n", (2, 3, 1)),
        // What is read of a rule makes its reader fail.
        (
            "  - {record: r, expr: 'x{i=\"1\"}'}\n  - {record: s, expr: 'y{i=\"1\"} * on (job) group_left () r'}\n",
            (1, 3, 2),
        ),
        // Two rules write the same series: the later one fails.
        (
            "  - {record: r, expr: 'sum by (job) (x)', labels: {by: a}}\n  - {record: r, expr: 'sum by (job) (y) * 2', labels: {by: mutant}}\n",
            (1, 5, 2),
        ),
        (
            "  - {alert: A, expr: 'x > 0', labels: {by: a}}\n  - {alert: A, expr: 'x > 1', labels: {by: mutant}}\n",
            (0, 10, 2),
        ),
        // An input series has the very labels that a mistake makes.
        (
            "  - {record: y, expr: 'sum by (job, i) (x{i=\"1\"}) * 5', labels: {k: v}}\n  - {record: y, expr: 'x * 2', labels: {k: mutant}}\n",
            (1, 7, 2),
        ),
    ] {
        check(rules, &format!("{input}{elsewhere}"), expected).await;
    }
    let limited = "groups:
- {name: g, limit: 1, rules: [{record: r, expr: 'x{i=\"1\"}'}]}
- {name: h, rules: [{record: s, expr: 'r * 2'}]}
";
    check(limited, &format!("{input}{elsewhere}"), (1, 2, 2)).await;
}

#[tokio::test]
async fn rules_without_input_may_still_give_something() {
    check(
        "  - {alert: Gone, expr: 'absent(up{job=\"a\",instance=\"1\"})', for: 2m}
  - {record: one, expr: 'vector(1) > 0'}
  - {record: both, expr: '(nothing{a=\"b\"} > 1) or one'}
  - {record: dead, expr: 'rate(nothing{a=\"b\"}[5m]) > 2 unless one'}
",
        "- interval: 1m
  alert_rule_test: [{eval_time: 5m, alertname: Gone, exp_alerts: [{exp_labels: {job: a, instance: '1'}}]}]
  promql_expr_test: [{expr: both, eval_time: 3m, exp_samples: [{labels: both, value: 1}]}]
",
        (5, 21, 3),
    )
    .await;
}

#[tokio::test]
async fn templates_that_ask_are_followed() {
    check(
        "  - {record: r, expr: 'x + 1'}
  - {alert: A, expr: 'x > 5', annotations: {s: '{{ query \"r\" | first | value }}'}}
  - {alert: B, expr: 'x > 5', annotations: {s: '{{ range query (printf \"%s\" \"r\") }}{{ .Value }}{{ end }}'}}
  - {record: apart, expr: 'x + 2'}
",
        "- interval: 1m
  input_series: [{series: x, values: '9x20'}]
  alert_rule_test:
  - {eval_time: 5m, alertname: A, exp_alerts: [{exp_labels: {}, exp_annotations: {s: '10'}}]}
- interval: 1m
  input_series: [{series: x, values: '9x20'}]
  alert_rule_test:
  - {eval_time: 5m, alertname: B, exp_alerts: [{exp_labels: {}, exp_annotations: {s: '10'}}]}
",
        (3, 10, 4),
    )
    .await;
}

#[tokio::test]
async fn order_intervals_and_notifications_keep_their_meaning() {
    let groups = "groups:
- {name: late, interval: 2m, rules: [{record: r, expr: 'x * 2'}, {alert: Apart, expr: 'x > 20'}]}
- {name: early, interval: 1m, rules: [{record: s, expr: 'r + 1'}, {alert: A, expr: 's > 10', for: 2m}]}
- {name: third, interval: 3m, rules: [{record: t, expr: 'delta(s[5m]) > -1'}]}
";
    let case = "- interval: 1m
  input_series: [{series: x, values: '0+1x20'}]
  promql_expr_test:
  - {expr: s, eval_time: 7m, exp_samples: [{labels: s, value: VALUE}]}
  alert_rule_test: [{eval_time: 12m, alertname: A, exp_alerts: [{exp_labels: {}}]}]
";
    let tests =
        |head: &str, value: &str| format!("{head}\ntests:\n{}", case.replace("VALUE", value));
    check(groups, &tests("", "15"), (3, 18, 4)).await;
    check(groups, &tests("group_eval_order: [early, late]", "13"), (3, 18, 4)).await;
    check(groups, &tests("use_group_intervals: true", "13"), (3, 18, 4)).await;
    let sent = format!(
        "{}  notification_test: [{{eval_time: 8m, match: subset, exp_notifications: [{{labels: {{alertname: A}}, status: firing}}]}}]\n",
        tests("use_group_intervals: true", "13")
    );
    check(groups, &sent, (5, 18, 5)).await;
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

/// Something to read: an input series, what a rule wrote, or what several wrote.
fn operand(dice: &mut Dice) -> &'static str {
    dice.of(&[
        "x",
        "x{a=\"1\"}",
        "y",
        "y{b=\"2\"}",
        "r0",
        "r1",
        "r2{a=\"1\"}",
        "r3",
        "r4",
        "{__name__=~\"r[01]\",a=\"1\"}",
        "ALERTS{alertstate=\"firing\"}",
        "{a=\"2\",__name__!~\"A.*\"}",
        "ALERTS_FOR_STATE / 1e9",
    ])
}

fn rule(dice: &mut Dice, number: u64) -> String {
    let (p, q) = (operand(dice), operand(dice));
    let grouping = dice.of(&["by (a)", "by (a, b)", "without (b)", ""]);
    let (op, at) = (dice.of(&[">", "<", ">=", "!="]), dice.below(4));
    let expr = match dice.below(8) {
        0 => format!("sum {grouping} ({p})"),
        1 => format!("sum {grouping} ({p}) {op} {at}"),
        2 => format!("max_over_time({p}[3m])").replace("ALERTS_FOR_STATE / 1e9[", "y["),
        3 => format!("sum by (a) ({p}) + on (a) max by (a) ({q})"),
        4 => format!("max by (a) ({p}) unless on (a) ({q})"),
        5 => format!("count by (a) ({p}) or on (a) min by (a) ({q} {op} {at})"),
        6 => format!("absent({})", p.replace("ALERTS_FOR_STATE / 1e9", "r1")),
        _ => format!("avg by (a, b) ({p} {op} {at})"),
    };
    let labels = dice.of(&["", ", labels: {k: v}", ", labels: {k: mutant}", ", labels: {a: '1'}"]);
    match dice.below(3) {
        0 => {
            let hold = dice.of(&["", ", for: 2m", ", keep_firing_for: 2m"]);
            format!("  - {{alert: A{}, expr: '{expr}'{labels}{hold}}}\n", number % 3)
        }
        _ => format!("  - {{record: r{}, expr: '{expr}'{labels}}}\n", number % 5),
    }
}

fn input(dice: &mut Dice) -> String {
    let mut lines = "- interval: 1m\n  input_series:\n".to_owned();
    for name in ["x", "y"] {
        for labels in ["{a=\"1\",b=\"1\"}", "{a=\"1\",b=\"2\"}", "{a=\"2\",b=\"2\"}"] {
            if dice.below(3) > 0 {
                let values = dice.of(&["1x12", "0+1x12", "3x4 _x3 1x5", "4 3 2 1 0x8"]);
                lines += &format!("  - {{series: '{name}{labels}', values: '{values}'}}\n");
            }
        }
    }
    if lines.ends_with(":\n") {
        lines = "- interval: 1m\n".to_owned();
    }
    lines
}

/// What may be expected at some time: at most one of each is true.
fn candidates(dice: &mut Dice) -> Vec<String> {
    let minutes = 2 + dice.below(10);
    if dice.below(2) == 0 {
        let name = format!("A{}", dice.below(3));
        let expected = ["exp_alerts: []", "match: subset, exp_alerts: [{exp_labels: {}}]"];
        return expected
            .iter()
            .map(|e| {
                format!("  alert_rule_test: [{{eval_time: {minutes}m, alertname: {name}, {e}}}]\n")
            })
            .collect();
    }
    let expr = operand(dice);
    let none = format!(
        "  promql_expr_test: [{{expr: '{expr}', eval_time: {minutes}m, exp_samples: []}}]\n"
    );
    let some = (0..6).map(|sum| {
        format!("  promql_expr_test: [{{expr: 'sum({expr})', eval_time: {minutes}m, exp_samples: [{{labels: '{{}}', value: {sum}}}]}}]\n")
    });
    [none].into_iter().chain(some).collect()
}

#[tokio::test]
async fn parts_of_made_up_suites_tell_the_same_as_all_of_them() {
    let mut dice = Dice(7);
    let (mut suites, mut noticed, mut all, mut smaller) = (0, 0, 0, 0);
    for _ in 0..12 {
        let count = 3 + dice.below(6);
        let mut rules = "groups:\n- name: g0\n  rules:\n".to_owned();
        for number in 0..count {
            if number > 0 && dice.below(4) == 0 {
                rules += &format!("- name: g{number}\n  rules:\n");
            }
            let place = dice.below(9);
            rules += &rule(&mut dice, place);
        }
        let groups = load(&rules);
        let mut tests = String::new();
        for _ in 0..4 {
            let input = input(&mut dice);
            for candidate in candidates(&mut dice) {
                let file = schema::read(&format!("tests:\n{input}{candidate}")).unwrap();
                if all_reports(&file, &groups).await[0].errors.is_empty() {
                    tests += &format!("{input}{candidate}");
                }
            }
        }
        if tests.is_empty() {
            continue;
        }
        let (seen, of, most) = judged(&rules, &format!("tests:\n{tests}")).await;
        (suites, noticed, all) = (suites + 1, noticed + seen, all + of);
        smaller += usize::from(most < groups.iter().map(|g| g.rules.len()).sum());
    }
    // They are worth something: suites that hold, mistakes of either kind, and rules left out.
    assert!(
        suites > 6 && noticed > 15 && all > noticed + 100 && smaller > 3,
        "{suites} {noticed} {all} {smaller}"
    );
}
