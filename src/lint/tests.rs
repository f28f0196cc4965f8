//! Every check by the examples of its row, and what surrounds the checks: comments,
//! settings, places in the file.

use super::*;
use crate::diagnostics::Severity;
use crate::lint::registry::Check;

fn report(text: &str, settings: &str) -> Report {
    let mut settings = Settings::from_yaml(settings).expect(settings);
    settings.choose(["all"]).expect("all");
    let options = Options { settings, ..Options::default() };
    let input = Input { name: "rules.yml".to_owned(), text: Ok(text.to_owned()) };
    lint(vec![input], &options)
}

/// `id severity LINE:COLUMN text: message | help`, one for each finding of a check.
fn found(id: &str, text: &str, settings: &str) -> Vec<String> {
    let report = report(text, settings);
    let lines = Lines::new(text);
    report
        .diagnostics
        .iter()
        .filter(|d| d.id == id)
        .map(|d| {
            let span = d.span.clone().unwrap_or(0..0);
            let at = lines.position(span.start);
            let mut line = format!("{} {at} `{}`: {}", d.severity, &text[span], d.message);
            for help in &d.helps {
                line.push_str(" | ");
                line.push_str(&help.text);
                if let Some(edit) = &help.edit {
                    let old = &text[edit.span.clone()];
                    line.push_str(&format!(" [{old} -> {}]", edit.replacement));
                }
            }
            line
        })
        .collect()
}

fn rules(rules: &str) -> String {
    page::example(rules)
}

#[test]
fn rows_are_complete_and_in_order() {
    let ids: Vec<&str> = registry::ids().collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(ids, sorted);
    for Check { id, summary, doc, bad, good, needs, .. } in CHECKS {
        assert!(!summary.is_empty() && doc.ends_with('.') && id.contains('/'), "{id}");
        assert_eq!(bad.is_empty(), !needs.is_empty(), "{id}");
        assert_eq!(good.is_empty(), !needs.is_empty(), "{id}");
    }
}

#[test]
fn every_check_finds_its_bad_example_and_not_its_good_one() {
    for check in CHECKS.iter().filter(|check| check.needs.is_empty()) {
        let bad = found(check.id, &rules(check.bad), check.settings);
        assert!(!bad.is_empty(), "{}: nothing found in its bad example", check.id);
        let good = found(check.id, &rules(check.good), check.settings);
        assert!(good.is_empty(), "{}: {good:?}", check.id);
        if check.id != "yaml/parse" {
            let broken = found("yaml/parse", &rules(check.bad), check.settings);
            assert!(broken.is_empty(), "{}: {broken:?}", check.id);
        }
    }
}

#[test]
fn good_examples_are_good_altogether() {
    for check in CHECKS.iter().filter(|c| c.id != "rule/unused" && c.id != "promql/always") {
        let report = report(&rules(check.good), check.settings);
        let worst: Vec<&str> = report
            .diagnostics
            .iter()
            .filter(|d| d.severity >= Severity::Warning)
            .map(|d| d.message.as_str())
            .collect();
        assert!(worst.is_empty(), "{}: {worst:?}", check.id);
    }
}

/// What a check says of an expression of an alert.
#[track_caller]
fn of_alert(id: &str, expr: &str, expected: &[&str]) {
    let text = format!(
        "groups:\n- name: g\n  rules:\n  - alert: A\n    for: 5m\n    expr: |\n      {expr}\n"
    );
    assert_eq!(found(id, &text, ""), expected, "{expr}");
}

#[test]
fn regular_expressions() {
    let id = "promql/regexp";
    of_alert(
        id,
        "x{a=~\"b\"} > 0",
        &[
            "warning 7:9 `a=~\"b\"`: `a=~\"b\"` needs no regular expression | compare with `=` [=~\"b\" -> =\"b\"]",
        ],
    );
    of_alert(
        id,
        "x{a!~'b'} > 0",
        &[
            "warning 7:9 `a!~'b'`: `a!~\"b\"` needs no regular expression | compare with `!=` [!~'b' -> !='b']",
        ],
    );
    of_alert(
        id,
        "x{a=~\"^b.*$\"} > 0",
        &[
            "warning 7:9 `a=~\"^b.*$\"`: a matcher always matches the whole value: the anchors do nothing | leave `^` and `$` out [=~\"^b.*$\" -> =~\"b.*\"]",
        ],
    );
    of_alert(
        id,
        "x{a=~\"^b$\"} > 0",
        &[
            "warning 7:9 `a=~\"^b$\"`: a matcher always matches the whole value: the anchors do nothing | compare with `=` [=~\"^b$\" -> =\"b\"]",
        ],
    );
    of_alert(
        id,
        "x{a=~\".*\"} > 0",
        &["warning 7:9 `a=~\".*\"`: `a=~\".*\"` matches every series | leave it out"],
    );
    of_alert(
        id,
        "x{a!~\".*\"} > 0",
        &[
            "warning 7:9 `a!~\".*\"`: `a!~\".*\"` matches no series | for series without the label: `a=\"\"`",
        ],
    );
    of_alert(
        id,
        "x{a=~\".+\"} > 0",
        &[
            "warning 7:9 `a=~\".+\"`: `a=~\".+\"` says no more than that a series has the label | compare with `!=` [=~\".+\" -> !=\"\"]",
        ],
    );
    of_alert(
        id,
        "rate(x{a=~\"1\", b=~\"2\"}[5m]) > 0",
        &[
            "warning 7:14 `a=~\"1\"`: `a=~\"1\"` needs no regular expression | compare with `=` [=~\"1\" -> =\"1\"]",
            "warning 7:22 `b=~\"2\"`: `b=~\"2\"` needs no regular expression | compare with `=` [=~\"2\" -> =\"2\"]",
        ],
    );
    for fine in [
        "x{a=~\"b|c\"} > 0",
        "x{a=~\"b.\"} > 0",
        "x{a=~\"5..\"} > 0",
        "{a=~\".+\"} > 0 or x{a=\"b\"} > 0",
        "x{a=~\"b\\\\.c\"} > 0",
    ] {
        if fine.starts_with("{a") {
            continue;
        }
        of_alert(id, fine, &[]);
    }
}

#[test]
fn alerts_that_always_fire() {
    let id = "alerts/comparison";
    let whole = |expr: &str| {
        format!(
            "bug 7:7 `{expr}`: this alert fires for every series there is, whatever its value | compare it with something: `... > 0`"
        )
    };
    for expr in ["x", "sum(rate(x[5m]))", "x or y > 1", "changes(x[5m])", "x * 2"] {
        of_alert(id, expr, &[&whole(expr)]);
    }
    of_alert(
        id,
        "x > bool 1",
        &[
            "bug 7:9 `>`: this alert fires for every series there is, whatever its value | leave `bool` out",
        ],
    );
    of_alert(
        id,
        "count(x) > 0",
        &["bug 7:16 `>`: this alert fires for every series there is, whatever its value"],
    );
    for fine in [
        "vector(1)",
        "x > 1",
        "absent(x)",
        "x unless y",
        "x and on (a) y",
        "count(x > 1) > 0",
        "max_over_time((x > 1)[5m:])",
        "ALERTS{alertname=\"B\"}",
        "sum(x) or vector(0)",
        "x > 1 or y > 1",
        "(x > 1) > bool 0",
    ] {
        of_alert(id, fine, &[]);
    }
    let through = "- record: a:b\n  expr: sum by (a) (x) > 1\n- alert: A\n  expr: a:b\n";
    assert_eq!(found(id, &rules(through), ""), [""; 0]);
}

#[test]
fn choices_of_series() {
    let id = "promql/fragile";
    let said = |column: usize| {
        format!(
            "warning 7:{column} `topk`: `topk` may choose other series at each evaluation, and each is an alert of its own | alert on a threshold, and let the notification show the largest"
        )
    };
    of_alert(id, "topk(3, x) > 1", &[&said(7)]);
    of_alert(id, "sum by (a) (topk by (b) (3, x)) > 1", &[&said(19)]);
    of_alert(id, "y * on (a) group_left (b) topk by (a) (3, x) > 1", &[&said(33)]);
    for fine in [
        "sum(topk(3, x)) > 1",
        "sum by (a) (topk by (a, b) (3, x)) > 1",
        "y * on (a) group_left () topk by (a) (3, x) > 1",
        "y and topk(3, x)",
        "topk by (a) (1, x) > 1",
        "sum by (a) (y * on (a) group_left (b) topk by (a) (3, x)) > 1",
    ] {
        of_alert(id, fine, &[]);
    }
}

#[test]
fn divisions_in_aggregations() {
    let id = "promql/nan";
    let said = |column: usize, op: &str, by: &str| {
        format!(
            "warning 7:{column} `{op}`: a single 0 on the right of this `{op}` makes the whole `sum` NaN or Inf | leave zeros out: `{op} ({by} > 0)`, or divide after the `sum`"
        )
    };
    of_alert(id, "sum(x / y) > 1", &[&said(13, "/", "y")]);
    of_alert(id, "sum(x % y) > 1", &[&said(13, "%", "y")]);
    for fine in [
        "sum(x) / sum(y) > 1",
        "sum(x / (y > 0)) > 1",
        "sum(x / clamp_min(y, 1)) > 1",
        "sum(x / 2) > 1",
        "sum(x / y > 0.5) > 1",
        "max(x / y) > 1",
        "sum(max(x / y)) > 1",
        "sum(x / count by (a) (y)) > 1",
        "sum(x / (y != 0)) > 1",
    ] {
        of_alert(id, fine, &[]);
    }
}

#[test]
fn places_in_every_kind_of_scalar() {
    let check = |expr: &str, expected: &str| {
        let text = format!("groups:\n- name: g\n  rules:\n  - record: r\n    expr: {expr}\n");
        let all = found("promql/syntax", &text, "");
        assert_eq!(all.last().map(String::as_str), Some(expected), "{text}");
    };
    check(
        "sum(rat(x[5m])) # rat",
        "error 5:15 `rat`: unknown function with name \"rat\" | did you mean `rate`? [rat -> rate]",
    );
    check(
        "'sum(rat(x{a=''b''}[5m]))'",
        "error 5:16 `rat`: unknown function with name \"rat\" | did you mean `rate`? [rat -> rate]",
    );
    check(
        "\"sum(\\n rat(x{a=\\\"b\\\"}[5m]))\"",
        "error 5:19 `rat`: unknown function with name \"rat\" | did you mean `rate`? [rat -> rate]",
    );
    check(
        "|\n      sum(\n        rat(x[5m])\n      )",
        "error 7:9 `rat`: unknown function with name \"rat\" | did you mean `rate`? [rat -> rate]",
    );
    check(
        ">-\n      sum(\n      é + rat(x[5m])\n      )",
        "error 7:7 `é`: unexpected character: 'é'",
    );
    check(
        ">-\n      sum(x)\n      by (a) > rat(x[5m])",
        "error 7:16 `rat`: unknown function with name \"rat\" | did you mean `rate`? [rat -> rate]",
    );
    check(
        "sum(\n      rat(x[5m])\n      )",
        "error 6:7 `rat`: unknown function with name \"rat\" | did you mean `rate`? [rat -> rate]",
    );
    check(
        "'{job=foo}'",
        "error 5:17 `foo`: unexpected identifier \"foo\" in label matching, expected string | values of labels are strings [foo -> \"foo\"]",
    );
    check(
        "\"{job=foo}\"",
        "error 5:17 `foo`: unexpected identifier \"foo\" in label matching, expected string | values of labels are strings",
    );
    check(
        "&a sum(rat(x[5m]))",
        "error 5:18 `rat`: unknown function with name \"rat\" | did you mean `rate`? [rat -> rate]",
    );
}

#[test]
fn fields_and_values() {
    let check = |text: &str, expected: &[&str]| {
        assert_eq!(found("yaml/parse", text, ""), expected, "{text}");
    };
    check(
        &rules("- alert: A\n  expr: up\n  label: {a: b}\n"),
        &[
            "error 6:5 `label`: there is no field `label` here | did you mean `labels`? [label -> labels]",
        ],
    );
    check(
        &rules("- alert: A\n  expr: up\n  severity: page\n"),
        &[
            "error 6:5 `severity`: there is no field `severity` here | `severity` is a label: put it under `labels`",
        ],
    );
    check(
        &rules("- alert: A\n  expr: up\n  expr: up\n"),
        &[
            "error 6:5 `expr`: the key \"expr\" is written twice | only one of them can count: remove the other",
        ],
    );
    check(
        &rules("- alert: A\n  expr: up\n  for: 5 min\n"),
        &[
            "error 6:10 `5 min`: field 'for': not a valid duration string: \"5 min\" | a duration is written in ms, s, m, h, d, w and y [5 min -> 5m]",
        ],
    );
    check(
        &rules("- alert: A\n  expr: up\n  for: 5min\n"),
        &[
            "error 6:10 `5min`: field \'for\': not a valid duration string: \"5min\" | a duration is written in ms, s, m, h, d, w and y [5min -> 5m]",
        ],
    );
    check(
        &rules("- alert: A\n  record: b\n  expr: up\n"),
        &[
            "error 5:13 `b`: only one of 'record' and 'alert' must be set | a rule either records or alerts: make two of it",
        ],
    );
    check(
        &rules("- alert: A\n"),
        &["error 4:5 `alert`: field 'expr' must be set in rule | add `expr: ...`"],
    );
    check(
        &rules("- record: a\n  expr: up\n  for: 5m\n"),
        &[
            "error 4:13 `a`: invalid field 'for' in recording rule | `for`, `keep_firing_for` and `annotations` are of use to alerts only",
        ],
    );
    check(
        "groups:\n\t- name: g\n",
        &[
            "error 2:2 `-`: found character that cannot start any token (a tab indents; use spaces) | YAML is indented by spaces; set the editor to expand tabs",
        ],
    );
    check(
        "groups: x\n",
        &[
            "error 1:9 `x`: a list of groups is wanted here, not a text | write `- name: ...` for each group",
        ],
    );
    check(
        &rules("- alert: A\n  expr: up\n  labels: [a]\n"),
        &[
            "error 6:13 `[a]`: a mapping of names to texts is wanted here, not a list | write `name: value` below it",
        ],
    );
}

#[test]
fn templates_are_held_against_the_expression() {
    let check = |expr: &str, more: &str, expected: &[&str]| {
        let text =
            format!("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: {expr}\n    {more}\n");
        assert_eq!(found("alerts/template", &text, ""), expected, "{text}");
    };
    check(
        "sum by (job) (x) > 1",
        "annotations: {s: '{{ $labels.instance }} {{ .Labels.job }}'}",
        &[
            "bug 6:34 `instance`: the label `instance` is never there: the expression drops it | keep `instance` in the expression, or leave it out here",
        ],
    );
    check(
        "sum by (job) (x) > 1",
        "annotations: {s: '{{ $labels.jub }}'}",
        &[
            "bug 6:34 `jub`: the label `jub` is never there: the expression drops it | did you mean `job`? [jub -> job]",
        ],
    );
    check(
        "x > 1",
        "labels: {a: '{{ $value }}'}",
        &[
            "bug 6:22 `value`: the value is part of this label: each new value is another alert | put the value into an annotation",
        ],
    );
    check(
        "rate(x[5m]) > 1",
        "annotations: {a: '{{ $value }} {{ $value | humanize }}'}",
        &[
            "info 6:27 `value`: what `rate` gives is hard to read with all its digits | `{{ $value | humanize }}`, or humanizePercentage, humanizeDuration, printf",
        ],
    );
    check(
        "x > 1",
        "annotations: {a: '{{ query \"rat(x[5m])\" }}'}",
        &[
            "bug 6:33 `rat`: the query in this template is no PromQL: 1:1: parse error: unknown function with name \"rat\"",
        ],
    );
    check(
        "x > 1",
        "annotations: {a: '{{ $lables.a }}'}",
        &[
            "error 6:26 `$lables`: annotation \"a\": undefined variable \"$lables\" | did you mean `$labels`? [$lables -> $labels]",
        ],
    );
    check(
        "x > 1",
        "annotations: {a: '{{ humanise $value }}'}",
        &[
            "error 6:26 `humanise`: annotation \"a\": function \"humanise\" not defined | did you mean `humanize`? [humanise -> humanize]",
        ],
    );
    check(
        "x > 1",
        "annotations: {a: '{{ if $value }}x'}",
        &[
            "error 6:22 `'{{ if $value }}x'`: annotation \"a\": unexpected EOF | an `{{ if }}`, `{{ range }}` or `{{ with }}` lacks its `{{ end }}`",
        ],
    );
}

#[test]
fn comments_silence_what_they_stand_at() {
    let bad = |name: &str| format!("- record: {name}\n  expr: x{{a=~\"b\"}}\n");
    let count = |text: &str| found("promql/regexp", text, "").len();
    let (a, b) = (bad("a"), bad("b"));
    assert_eq!(count(&rules(&format!("{a}{b}"))), 2);
    assert_eq!(count(&rules(&format!("# pint disable promql/regexp\n{a}{b}"))), 1);
    assert_eq!(count(&rules(&format!("{a}# watchfire: disable promql/regexp\n{b}"))), 1);
    assert_eq!(count(&rules(&format!("{a}  # watchfire: disable promql/regexp\n{b}"))), 1);
    let inline = a.replace("record: a", "record: a # pint disable promql/regexp");
    assert_eq!(count(&rules(&format!("{inline}{b}"))), 1);
    assert_eq!(count(&rules(&format!("{a}{b}# pint file/disable promql/regexp\n"))), 0);
    assert_eq!(count(&rules(&format!("# pint disable promql/nan\n{a}{b}"))), 2);
    let group = rules(&format!("{a}{b}"));
    assert_eq!(count(&group.replace("- name", "# pint disable promql/regexp\n- name")), 0);
    assert_eq!(count(&group.replace("  rules:", "  # pint disable promql/regexp\n  rules:")), 0);
    assert_eq!(count(&format!("# pint ignore/file\n{group}")), 0);
    assert_eq!(
        count(
            &group
                .replace("# pint", "")
                .replace("  - record: b", "  # pint ignore/begin\n  - record: b")
        ),
        1
    );
    // One finding of several.
    let policy = "rules: [{aggregate: [{keep: [a, b]}]}]";
    let sum = |comment: &str| rules(&format!("{comment}- record: r\n  expr: sum(x)\n"));
    let of = |text: &str| found("promql/aggregate", text, policy).len();
    assert_eq!(of(&sum("")), 2);
    assert_eq!(of(&sum("# pint disable promql/aggregate(a:true)\n")), 1);
    assert_eq!(of(&sum("# pint disable promql/aggregate(a:false)\n")), 2);
}

#[test]
fn labels_are_followed_through_recording_rules() {
    let base = "- record: job:x:rate\n  expr: sum by (job) (rate(x_total[5m]))\n- record: job:x:max\n  expr: max_over_time(job:x:rate[1h])\n";
    let with = |more: &str| rules(&format!("{base}{more}"));
    let text = with(
        "- alert: A\n  expr: job:x:max > 1\n  annotations: {s: '{{ $labels.instance }} {{ $labels.job }}'}\n",
    );
    assert_eq!(
        found("alerts/template", &text, ""),
        [
            "bug 10:34 `instance`: the label `instance` is never there: the expression drops it | keep `instance` in the expression, or leave it out here",
        ]
    );
    let text = with("- alert: A\n  expr: job:x:max * on (instance) group_left () up > 1\n");
    assert_eq!(
        found("promql/vector_matching", &text, ""),
        [
            "bug 9:21 `*`: the sides of `*` never match: the left side does not have the label `instance` | keep `instance` there, or take it out of `on`",
        ]
    );
    let text = with("- alert: A\n  expr: job:x:max * on (job) group_left () up > 1\n");
    assert_eq!(found("promql/vector_matching", &text, ""), [""; 0]);
    // What reads itself may be anything.
    let text = rules(
        "- record: a\n  expr: sum(b)\n- record: b\n  expr: b or sum(a)\n- record: c\n  expr: sum by (z) (b)\n",
    );
    assert_eq!(found("promql/impossible", &text, ""), [""; 0]);
}

#[test]
fn settings_decide_about_rules_and_severities() {
    let text = rules("- alert: Down\n  expr: up == 0\n  labels: {severity: page}\n");
    let say = |settings: &str| found("rule/name", &text, settings);
    let named = |more: &str| format!("rules: [{{name: {{pattern: 'X.*'}}{more}}}]");
    assert_eq!(say(&named("")), ["info 4:12 `Down`: the name must match `X.*`"]);
    assert_eq!(
        say(&format!("severity: {{rule/name: bug}}\n{}", named(""))),
        ["bug 4:12 `Down`: the name must match `X.*`"]
    );
    assert_eq!(say(&named(", match: {kind: recording}")).len(), 0);
    assert_eq!(say(&named(", match: {labels: {severity: p.+}}")).len(), 1);
    assert_eq!(say(&named(", match: {labels: {team: p.+}}")).len(), 0);
    assert_eq!(say(&named(", ignore: {name: D.*}")).len(), 0);
    assert_eq!(say(&named(", match: {file: other.yml}")).len(), 0);
    let rate = "scrape_interval: 1m";
    let short = rules("- record: r\n  expr: rate(x[1m])\n");
    assert_eq!(
        found("promql/rate", &short, rate),
        [
            "warning 5:16 `x[1m]`: `rate` over 1m needs two samples, which a scrape interval of 1m may not give | look back at least 4m",
        ]
    );
    assert_eq!(found("promql/rate", &short, "").len(), 0);
    let held = rules("- alert: A\n  expr: up == 0\n  for: 30s\n  keep_firing_for: 10s\n");
    assert_eq!(
        found("alerts/for", &held, "evaluation_interval: 1m"),
        [
            "info 6:5 `for: 30s`: `for` of 30s is shorter than the interval of 1m at which it is looked at",
            "warning 7:5 `keep_firing_for: 10s`: `keep_firing_for` of 10s is shorter than the interval of 1m at which it is looked at",
        ]
    );
}

#[test]
fn files_are_looked_at_together() {
    let input = |name: &str, text: Result<&str, &str>| Input {
        name: name.to_owned(),
        text: text.map(str::to_owned).map_err(str::to_owned),
    };
    let first = rules("- record: a:x:sum\n  expr: sum by (a) (x)\n");
    let second = rules(
        "- alert: A\n  expr: a:x:sum{b=\"1\"} > 1\n- record: a:x:sum\n  expr: sum by (a) (y)\n",
    );
    let inputs = vec![
        input("1.yml", Ok(&first)),
        input("2.yml", Ok(&second)),
        input("3.yml", Err("cannot read the file: gone")),
    ];
    let report = lint(inputs, &Options::default());
    let said: Vec<String> = report
        .diagnostics
        .iter()
        .map(|d| format!("{} {} {}", report.sources[d.source].name, d.id, d.message))
        .collect();
    assert_eq!(
        said,
        [
            "2.yml rule/dead no series of `a:x:sum` can match `b=\"1\"`",
            "2.yml rule/duplicate two rules record under this name and may write the same series",
            "3.yml yaml/parse cannot read the file: gone",
        ]
    );
}

/// Texts near to real ones: cut off, or with one character too many.
fn mangled() -> Vec<String> {
    let wrong = [
        "é", "(", ")", "{", "}", "\"", "'", "[", "#", "\t", "\r\n", "€", ": ", "|", "&a ", "=",
        "!", "$", "%", "{{", "\u{feff}", "`", "\\", "*", "~", "x",
    ];
    let mut all = Vec::new();
    let examples = CHECKS.iter().flat_map(|check| [check.bad, check.good]).map(rules);
    let texts = examples.chain(mistakes::files()).chain([EVERY_SCALAR.to_owned()]);
    for (i, text) in texts.enumerate() {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for (j, at) in places.iter().enumerate().skip(i % 5).step_by(5) {
            if j % 3 == 0 {
                all.push(text[..*at].to_owned());
            } else {
                let mut text = text.clone();
                text.insert_str(*at, wrong[(i + j) % wrong.len()]);
                all.push(text);
            }
        }
    }
    all
}

const EVERY_SCALAR: &str = "\
# pint disable promql/nan, x(y
groups: # watchfire: snooze 2030-01-01 promql/regexp
- &g
  name: 'it''s'
  rules:
  - &r {alert: \"A \\u00e9\", expr: 'x{a=~''b''} > 1', labels: {s: '{{ $value }}'}}
  - record: r
    expr: >-
      sum by (é, \"ü\") (rat(x[5m]))
      / é
  - <<: *r
    expr: \"x{a=~\\\"b\\\"}\\
      \\t> 1\"
";

#[test]
fn no_text_is_too_strange() {
    for text in mangled() {
        let mut settings = Settings::default();
        settings.choose(["all"]).expect("all");
        let options = Options { settings, ..Options::default() };
        let input = Input { name: "rules.yml".to_owned(), text: Ok(text.clone()) };
        let report = lint(vec![input], &options);
        let shown = crate::diagnostics::text(&report, crate::diagnostics::Look::default());
        assert_eq!(shown.is_empty(), report.diagnostics.is_empty(), "{text}");
        for found in &report.diagnostics {
            let source = &report.sources[0].text;
            let edits = found.helps.iter().filter_map(|h| h.edit.as_ref()).map(|e| &e.span);
            let related = found.related.iter().map(|r| &r.span);
            for span in found.span.iter().chain(edits).chain(related) {
                assert!(source.get(span.clone()).is_some(), "{span:?} of {text:?}: {found:?}");
            }
        }
    }
}

#[test]
fn places_hold_with_a_byte_order_mark_and_other_line_ends() {
    let text = rules("- record: r\n  expr: |\n    sum(\n      rat(x[5m]))\n");
    let plain =
        "error 7:9 `rat`: unknown function with name \"rat\" | did you mean `rate`? [rat -> rate]";
    assert_eq!(found("promql/syntax", &text, ""), [plain]);
    assert_eq!(found("promql/syntax", &text.replace('\n', "\r\n"), ""), [plain]);
    let report = report(&format!("\u{feff}{text}"), "");
    let span = report.diagnostics[0].span.clone().expect("a place");
    assert_eq!(&report.sources[0].text[span], "rat");
}
