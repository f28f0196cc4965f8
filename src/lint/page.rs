//! docs/lint.md, from the registry.

use std::fmt::Write;

use super::registry::{CHECKS, Check};

/// A file of the rules of an example.
#[cfg(test)]
pub(super) fn example(rules: &str) -> String {
    if rules.starts_with("groups:") || rules.starts_with("# pint ignore/file") {
        return rules.to_owned();
    }
    let mut file = "groups:\n- name: example\n  rules:\n".to_owned();
    for line in rules.lines() {
        let _ = writeln!(file, "  {line}");
    }
    file
}

/// One check, for a person at a terminal or on the page.
pub fn explain(check: &Check) -> String {
    let mut out = format!("## {}\n\n", check.id);
    let off = match (check.by_default, check.needs) {
        (false, _) => ", off by default".to_owned(),
        (true, "") => String::new(),
        (true, needs) => format!(", needs {needs}"),
    };
    let _ = writeln!(out, "{} ({}{off}).\n", capital(check.summary), check.severity);
    let _ = writeln!(out, "{}\n", check.doc);
    if !check.settings.is_empty() {
        let _ = writeln!(out, "Settings:\n\n```yaml\n{}```\n", check.settings);
    }
    if check.bad.is_empty() {
        out.truncate(out.trim_end().len());
        out.push('\n');
        return out;
    }
    let _ = writeln!(out, "Bad:\n\n```yaml\n{}```\n", check.bad);
    let _ = writeln!(out, "Good:\n\n```yaml\n{}```", check.good);
    out
}

/// The first letter in upper case.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The whole page.
pub fn page() -> String {
    let mut out = INTRODUCTION.to_owned();
    out.push_str("\n| check | severity | finds |\n| --- | --- | --- |\n");
    for check in CHECKS {
        let anchor = check.id.replace('/', "");
        let off = match (check.by_default, check.needs) {
            (false, _) => " (off by default)".to_owned(),
            (true, "") => String::new(),
            (true, needs) => format!(" (needs {needs})"),
        };
        let _ = writeln!(
            out,
            "| [{}](#{anchor}) | {} | {}{off} |",
            check.id, check.severity, check.summary
        );
    }
    for check in CHECKS {
        out.push('\n');
        out.push_str(&explain(check));
    }
    out
}

const INTRODUCTION: &str = "\
# What `watchfire rules lint` finds

Made from the registry of checks; refresh it with

```
cargo run -- rules lint --page > docs/lint.md
```

`watchfire rules lint FILE...` looks at rule files and PrometheusRule objects together, without \
a server. It shows warnings and worse (`--min-severity=info` shows all) and exits with 3 when \
something is at least as grave as `--fail-on` (bug by default), with 1 when a file cannot be used. \
`--output` is text, json, sarif, github or junit.

`--lint=` chooses checks, in order: ids, the part before the slash, `all`, `none`, each with `-` in \
front to turn it off: `--lint=all,-promql/nan`. `watchfire check rules` takes the same ids in its \
`--lint`, beside promtool's.

With `--server URL` a server that speaks Prometheus' API is asked which series there are, what \
types metrics have, when alerts would have fired (`--server.range` says how far back, 1d), what \
expressions cost, whether operators find matches, and for its configuration: external labels, \
retention, intervals. Each question is asked once, at most 8 at a time and \
`--server.max-requests` in all; a server that does not answer is reported (server/answer), and \
what can be told without it is told all the same.

A comment silences a check: `# watchfire: disable promql/regexp` above a rule or within it, \
`# watchfire: file/disable promql/regexp` for a file, above a group for the group; \
`snooze 2027-01-01 promql/regexp` until a day. Comments of pint (`# pint disable ...`, ignore/file, \
ignore/line, ignore/begin and end) mean the same. A finding of a policy can be silenced alone, as \
in pint: `disable promql/aggregate(job:true)`.

`--lint.config FILE` names a YAML file with policies and what is known of the place where the rules \
run:

```yaml
checks:
  disabled: [promql/fragile]
  enabled: [rule/unused]
severity: {promql/always: warning}
evaluation_interval: 1m
scrape_interval: 30s
lookback_delta: 5m
owners: {required: true, allowed: 'team-.+'}
rules:
- match: {kind: alerting, file: '.*/prod/.*', group: '.*', name: '.*', labels: {severity: critical}}
  ignore: {name: Watchdog}
  labels:
    severity: {required: true, values: [critical, warning]}
  annotations:
    runbook_url: {required: true, value: 'https://.+', severity: bug, comment: 'see the guide'}
  for: {min: 1m, max: 1h}
```
";
