//! docs/diagnostics.md: the usual mistakes, what promtool says and what is said here.

use std::fmt::Write;

use super::{Input, Options, lint};
use crate::diagnostics::{Look, text};
use crate::rules::config::{LoadOptions, check_source};

/// What somebody got wrong, and the file.
const MISTAKES: &[(&str, &str)] = &[
    (
        "A function is misspelt",
        "  - record: job:errors:rate5m\n    expr: sum by (job) (rat(errors_total[5m]))\n",
    ),
    ("A keyword is misspelt", "  - record: job:up:sum\n    expr: sum(up) bye (job)\n"),
    (
        "A bracket is not closed",
        "  - alert: Errors\n    expr: |\n      sum(rate(errors_total[5m])\n        > 1\n",
    ),
    (
        "A bracket is not closed before `by`",
        "  - record: job:errors:rate5m\n    expr: sum(rate(errors_total[5m]) by (job)\n",
    ),
    ("`rate` without a range", "  - alert: Errors\n    expr: rate(errors_total) > 1\n"),
    (
        "A range where one value is wanted",
        "  - alert: Errors\n    expr: sum(errors_total[5m]) > 1\n",
    ),
    ("A range of an expression", "  - alert: Load\n    expr: max_over_time(sum(load)[1h]) > 5\n"),
    ("`=` for `==`", "  - alert: Down\n    expr: up = 0\n"),
    (
        "Operators of other languages",
        "  - alert: Busy\n    expr: |\n      load > 5\n      && on (instance) up == 1\n",
    ),
    ("A label's value without quotes", "  - alert: Down\n    expr: up{job=api} == 0\n"),
    ("Labels without brackets", "  - record: job:up:sum\n    expr: sum by job (up)\n"),
    ("A number compared with a text", "  - alert: Down\n    expr: up == \"0\"\n"),
    (
        "A unit of time PromQL does not have",
        "  - alert: Errors\n    expr: increase(errors_total[5min]) > 10\n",
    ),
    (
        "A variable of a dashboard",
        "  - alert: Errors\n    expr: rate(errors_total[$__rate_interval]) > 1\n",
    ),
    ("A template in an expression", "  - alert: Errors\n    expr: errors > {{ $threshold }}\n"),
    ("A percentage", "  - alert: Full\n    expr: disk_used_percent > 80%\n"),
    (
        "Too few arguments",
        "  - record: job:latency:p90\n    expr: histogram_quantile(sum by (le) (rate(latency_bucket[5m])))\n",
    ),
    (
        "A field of another name",
        "  - alert: Down\n    expr: up == 0\n    label:\n      severity: page\n",
    ),
    (
        "A label that stands beside the rule's fields",
        "  - alert: Down\n    expr: up == 0\n    severity: page\n",
    ),
    ("A duration in words", "  - alert: Down\n    expr: up == 0\n    for: 5 minutes\n"),
    (
        "A function of a template is misspelt",
        "  - alert: Errors\n    expr: errors > 1\n    annotations:\n      summary: '{{ humanise $value }} errors'\n",
    ),
    (
        "A field is written twice",
        "  - alert: Down\n    expr: up == 0\n    labels: {severity: page}\n    labels: {team: a}\n",
    ),
];

const INTRODUCTION: &str = "\
# What is said about the usual mistakes

What promtool says is what `watchfire check rules FILE` says too; below it is what \
`watchfire check rules --output text FILE` says. `watchfire rules lint` (docs/lint.md) also finds \
what can be read but is likely to be wrong. Refresh this page with

```
cargo run -- rules lint --mistakes > docs/diagnostics.md
```
";

/// A file for each mistake.
#[cfg(test)]
pub(super) fn files() -> impl Iterator<Item = String> {
    MISTAKES.iter().map(|(_, rules)| format!("groups:\n- name: example\n  rules:\n{rules}"))
}

/// The page.
pub fn page() -> String {
    let mut out = INTRODUCTION.to_owned();
    for (i, (title, rules)) in MISTAKES.iter().enumerate() {
        let file = format!("groups:\n- name: example\n  rules:\n{rules}");
        let before = check_source("rules.yml", &file, &LoadOptions::default());
        let mut options = Options::default();
        // Whatever else may be said of the rule is not the point.
        let _ = options.settings.choose(["none", "yaml/parse", "promql/syntax", "alerts/template"]);
        let input = Input { name: "rules.yml".to_owned(), text: Ok(file) };
        let after = text(&lint(vec![input], &options), Look { colour: false, width: 100 });
        let _ = writeln!(
            out,
            "\n## {}. {title}\n\npromtool:\n\n```\n{}\n```\n\nwatchfire:\n\n```\n{}\n```",
            i + 1,
            before.error_lines().join("\n"),
            after.trim_end()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_gets_advice() {
        for (title, rules) in MISTAKES {
            let file = format!("groups:\n- name: example\n  rules:\n{rules}");
            let input = Input { name: "rules.yml".to_owned(), text: Ok(file) };
            let report = lint(vec![input], &Options::default());
            let helped = report.diagnostics.iter().any(|d| !d.helps.is_empty());
            assert!(helped, "{title}: {:#?}", report.diagnostics);
        }
    }
}
