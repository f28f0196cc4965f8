//! docs/mistakes.md: the 24 most common mistakes, as the real promtool and as Watchfire
//! answer them. Both are run; the page is what they said.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{kept_up_to_date, said, watchfire};
use crate::support::available;

/// A mistake: its title, promtool's command line, ours, the files.
struct Mistake {
    title: &'static str,
    theirs: &'static [&'static str],
    ours: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
}

const CHECK: &[&str] = &["check", "rules", "rules.yml"];
const ADVISE: &[&str] = &["check", "rules", "--output=text", "rules.yml"];
const LINT: &[&str] = &["rules", "lint", "rules.yml"];

/// A mistake in a rule file.
const fn of_rules(
    title: &'static str,
    ours: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
) -> Mistake {
    Mistake { title, theirs: CHECK, ours, files }
}

const MISTAKES: &[Mistake] = &[
    of_rules(
        "A function is misspelt",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - record: job:errors:rate5m\n    expr: sum by (job) (rat(errors_total[5m]))\n",
        )],
    ),
    of_rules(
        "A bracket is not closed",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Errors\n    expr: |\n      sum by (job) (rate(errors_total[5m])\n        / sum by (job) (rate(requests_total[5m])) > 0.05\n    for: 5m\n",
        )],
    ),
    of_rules(
        "`rate` without a window",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Errors\n    expr: rate(errors_total) > 1\n",
        )],
    ),
    of_rules(
        "A window where one value is wanted",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Errors\n    expr: sum(errors_total[5m]) > 1\n",
        )],
    ),
    of_rules(
        "`=` for `==`",
        ADVISE,
        &[("rules.yml", "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up = 0\n")],
    ),
    of_rules(
        "`&&` for `and`",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Busy\n    expr: |\n      node_load5 > 8\n      && on (instance) up == 1\n",
        )],
    ),
    of_rules(
        "A label's value without quotes",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up{job=api} == 0\n",
        )],
    ),
    of_rules(
        "Labels without brackets",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - record: job:up:sum\n    expr: sum by job (up)\n",
        )],
    ),
    of_rules(
        "A unit of time PromQL does not have",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Errors\n    expr: increase(errors_total[5min]) > 10\n",
        )],
    ),
    of_rules(
        "A number compared with a text",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up == \"0\"\n",
        )],
    ),
    of_rules(
        "A regular expression that is none",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up{job=~\"api-(eu|us\"} == 0\n",
        )],
    ),
    of_rules(
        "A field is misspelt",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up == 0\n    anotations:\n      summary: '{{ $labels.instance }} is down'\n",
        )],
    ),
    of_rules(
        "`for` in words",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up == 0\n    for: 5 minutes\n",
        )],
    ),
    of_rules(
        "A template names what there is not",
        ADVISE,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up == 0\n    annotations:\n      summary: '{{ $label.instance }} is down'\n",
        )],
    ),
    of_rules(
        "An alert that fires whatever the value",
        LINT,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Errors\n    expr: sum by (job) (rate(errors_total[5m]))\n    for: 5m\n",
        )],
    ),
    of_rules(
        "A template uses a label that the expression drops",
        LINT,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Errors\n    expr: sum by (job) (rate(errors_total[5m])) > 1\n    for: 5m\n    annotations:\n      summary: '{{ $labels.instance }} of {{ $labels.job }} fails'\n",
        )],
    ),
    of_rules(
        "Two sides that never match",
        LINT,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Errors\n    expr: |\n      sum by (job) (rate(errors_total[5m]))\n        / sum by (service) (rate(requests_total[5m])) > 0.05\n    for: 5m\n",
        )],
    ),
    of_rules(
        "A condition that cannot hold",
        LINT,
        &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Gone\n    expr: count(up{job=\"api\"}) == 0\n    for: 5m\n",
        )],
    ),
    Mistake {
        title: "A unit test expects something else",
        theirs: &["test", "rules", "test.yml"],
        ours: &["test", "rules", "--diff", "test.yml"],
        files: &[
            (
                "rules.yml",
                "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up == 0\n    labels: {severity: page}\n",
            ),
            (
                "test.yml",
                "rule_files: [rules.yml]\ntests:\n- input_series:\n  - {series: 'up{job=\"api\"}', values: '0x5'}\n  alert_rule_test:\n  - eval_time: 2m\n    alertname: Down\n    exp_alerts:\n    - exp_labels: {severity: warning, job: api}\n",
            ),
        ],
    },
    Mistake {
        title: "A key of the configuration is misspelt",
        theirs: &["check", "config", "prometheus.yml"],
        ours: &["check", "config", "prometheus.yml"],
        files: &[(
            "prometheus.yml",
            "global:\n  scrape_intervall: 15s\nscrape_configs:\n- job_name: api\n  static_configs:\n  - targets: ['localhost:8080']\n",
        )],
    },
    Mistake {
        title: "A rule file is taken for a test file",
        theirs: &["test", "rules", "rules.yml"],
        ours: &["test", "rules", "rules.yml"],
        files: &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up == 0\n",
        )],
    },
    Mistake {
        title: "A test file is taken for a rule file",
        theirs: &["check", "rules", "test.yml"],
        ours: &["check", "rules", "test.yml"],
        files: &[(
            "test.yml",
            "rule_files: [rules.yml]\ntests:\n- input_series:\n  - {series: 'up{job=\"api\"}', values: '0x5'}\n  alert_rule_test:\n  - {eval_time: 2m, alertname: Down, exp_alerts: [{exp_labels: {job: api}}]}\n",
        )],
    },
    Mistake {
        title: "A rule file is taken for a configuration",
        theirs: &["check", "config", "rules.yml"],
        ours: &["check", "config", "rules.yml"],
        files: &[(
            "rules.yml",
            "groups:\n- name: api\n  rules:\n  - alert: Down\n    expr: up == 0\n",
        )],
    },
    Mistake {
        title: "A configuration is taken for a rule file",
        theirs: &["check", "rules", "prometheus.yml"],
        ours: &["check", "rules", "prometheus.yml"],
        files: &[(
            "prometheus.yml",
            "global:\n  scrape_interval: 15s\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: api\n  static_configs:\n  - targets: ['localhost:8080']\n",
        )],
    },
];

const INTRODUCTION: &str = "\
# Before and after: 24 common mistakes

What promtool says, and what Watchfire says. Both programs were run on the files shown; the page \
is made by a test, which also runs with every change and tells how to refresh it:

```
WATCHFIRE_UPDATE=1 cargo nextest run -E 'test(cli::mistakes)'
```

Where `watchfire check rules` is shown with `--output=text`: without it, it says what promtool says. \
docs/diagnostics.md has more mistakes in expressions, docs/lint.md all that the linter finds.
";

fn run_theirs(args: &[&str], dir: &Path) -> String {
    let output = Command::new("promtool").args(args).current_dir(dir).output().expect("it runs");
    format!("{}\n(exit code {})", said(&output).trim(), output.status.code().unwrap_or(-1))
}

fn run_ours(args: &[&str], dir: &Path) -> String {
    let output = watchfire(args, dir, None);
    let text = said(&output);
    format!(
        "{}\n(exit code {})",
        without_colours(&text).trim_end(),
        output.status.code().unwrap_or(-1)
    )
}

/// `--diff` has its colours wherever it goes, as promtool's.
fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += part.split_once('m').map_or("", |(_, rest)| rest);
    }
    out
}

#[test]
fn the_page_of_mistakes_is_what_both_programs_say() {
    if !available("promtool") {
        return;
    }
    assert_eq!(MISTAKES.len(), 24);
    let version = Command::new("promtool").arg("--version").output().expect("promtool runs");
    let version = said(&version);
    let version = version.split_whitespace().nth(2).unwrap_or("?").split('+').next().unwrap_or("?");
    let mut page = INTRODUCTION.to_owned();
    for (i, mistake) in MISTAKES.iter().enumerate() {
        let dir = tempfile::tempdir().expect("a folder");
        let _ = writeln!(page, "\n## {}. {}\n", i + 1, mistake.title);
        for (name, text) in mistake.files {
            fs::write(dir.path().join(name), text).expect("a file");
            let _ = writeln!(page, "```yaml\n# {name}\n{text}```\n");
        }
        let theirs = run_theirs(mistake.theirs, dir.path());
        let ours = run_ours(mistake.ours, dir.path());
        // The lint checks are what promtool lets pass; all others both refuse.
        let passes = theirs.ends_with("(exit code 0)");
        assert_eq!(passes, mistake.ours == LINT, "{}: {theirs}", mistake.title);
        assert!(!ours.ends_with("(exit code 0)"), "{}: {ours}", mistake.title);
        let _ = writeln!(
            page,
            "`promtool {}` ({version}):\n\n```\n{theirs}\n```\n\n`watchfire {}`:\n\n```\n{ours}\n```",
            mistake.theirs.join(" "),
            mistake.ours.join(" "),
        );
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mistakes.md");
    kept_up_to_date(&kept, page.trim_end(), "cli::mistakes");
}
