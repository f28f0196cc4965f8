use super::*;

/// Every problem of a file as `SEVERITY LOCATION | TEXT`.
fn problems(source: &str) -> Vec<String> {
    let loaded = load_source("f.yml", source, &LoadOptions::default());
    loaded
        .problems
        .iter()
        .map(|p| format!("{:?} {} | {}", p.severity, p.location(), p.message))
        .collect()
}

fn check(source: &str, expected: &[&str]) {
    assert_eq!(problems(source), expected, "{source}");
}

fn groups(source: &str) -> Vec<GroupSpec> {
    let loaded = load_source("f.yml", source, &LoadOptions::default());
    assert!(loaded.is_valid(), "{:#?}", loaded.problems);
    loaded.groups
}

#[test]
fn a_rule_file_is_read_whole() {
    let groups = groups(
        "groups:\n- name: g\n  interval: 30s\n  query_offset: 0s\n  limit: 5\n  labels: {team: a, tier: x}\n  rules:\n  - record: r\n    expr: up\n    labels: {tier: ''}\n  - alert: A\n    expr: up == 0\n    for: 5m\n    keep_firing_for: 1m\n    annotations: {s: 1}\n",
    );
    let g = &groups[0];
    assert_eq!(
        (g.name.as_str(), g.interval_ms, g.query_offset_ms, g.limit),
        ("g", Some(30_000), Some(0), 5)
    );
    assert_eq!(g.rules[0].name(), "r");
    assert_eq!(g.rules[0].labels.get("tier").map(String::as_str), Some(""));
    assert_eq!(g.rules[0].label_set().to_string(), "{team=\"a\"}");
    let RuleKind::Alerting(alert) = &g.rules[1].kind else { panic!("an alert") };
    assert_eq!((alert.for_ms, alert.keep_firing_for_ms), (300_000, 60_000));
    assert_eq!(alert.annotations["s"], "1");
    check("", &[]);
    check("groups:\n", &[]);
}

#[test]
fn all_errors_are_found_in_one_run() {
    check(
        "groups:\n- name: g\n  speed: 3\n  rules:\n  - record: r\n    alert: a\n    expr: up\n    for: 5x\n  - {}\n  - record: 'x{y}'\n    expr: up\n    for: 1m\n    labels: {__name__: b}\n    annotations: {a: b}\n  - alert: a\n    expr: up\n    expr: down\n- name: g\n",
        &[
            "Error f.yml:8:10 | 8:10: group \"g\", rule 1, \"a\": field 'for': not a valid duration string: \"5x\"",
            "Error f.yml:6:12 | 5:13: 6:12: group \"g\", rule 1, \"a\": only one of 'record' and 'alert' must be set",
            "Error f.yml | 0:0: 0:0: group \"g\", rule 2, \"\": one of 'record' or 'alert' must be set",
            "Error f.yml | 0:0: group \"g\", rule 2, \"\": field 'expr' must be set in rule",
            "Error f.yml:10:13 | 10:13: group \"g\", rule 3, \"x{y}\": invalid field 'annotations' in recording rule",
            "Error f.yml:10:13 | 10:13: group \"g\", rule 3, \"x{y}\": invalid field 'for' in recording rule",
            "Error f.yml:10:13 | 10:13: group \"g\", rule 3, \"x{y}\": braces present in the recording rule name; should it be in expr?: x{y}",
            "Error f.yml:13:14 | group \"g\", rule 3, \"x{y}\": invalid label name: __name__",
            "Error f.yml:18:9 | 18:9: groupname: \"g\" is repeated in the same file",
            "Error f.yml:3:3 | line 3: field speed not found in type rulefmt.RuleGroup",
            "Error f.yml:17:5 | line 17: mapping key \"expr\" already defined at line 16",
        ],
    );
    check(
        "groups:\n- rules: 5\n",
        &[
            "Error f.yml:2:3 | 2:3: Groupname must not be empty",
            "Error f.yml:2:10 | line 2: cannot unmarshal !!int `5` into []rulefmt.Rule",
        ],
    );
    check(
        "a: [\n",
        &[
            "Error f.yml:2:1 | yaml: line 2: while parsing a node, did not find expected node content",
        ],
    );
}

#[test]
fn places_in_expressions_point_into_the_file() {
    check(
        "groups:\n- name: g\n  rules:\n  - record: r\n    expr: |\n      sum(\n        rate(up)\n      )\n",
        &[
            "Error f.yml:7:14 | 5:11: group \"g\", rule 1, \"r\": could not parse expression: 2:8: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ],
    );
}

#[test]
fn kubernetes_objects_and_streams_are_read() {
    let object = |name: &str| {
        format!(
            "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {{name: {name}}}\nspec:\n  groups:\n  - name: g\n    interval: ''\n    partial_response_strategy: warn\n    rules:\n    - alert: a\n      expr: 1\n      for: ''\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    let stream = format!("---\n{}---\n{service}---\n{}---\ngroups: []\n", object("x"), object("y"));
    let found = groups(&stream);
    let files: Vec<&str> = found.iter().map(|g| g.file.as_str()).collect();
    assert_eq!(files, ["f.yml", "f.yml#default/y"]);
    assert_eq!(found[0].interval_ms, None);
    check(
        &stream,
        &["Note f.yml:15:1 | 15:1: the object of kind Service is skipped: it holds no rules"],
    );
    check(
        service,
        &[
            "Error f.yml:1:1 | no rule file and no PrometheusRule object among its documents",
            "Note f.yml:1:1 | 1:1: the object of kind Service is skipped: it holds no rules",
        ],
    );
    let indented: String = object("x")
        .lines()
        .enumerate()
        .map(|(i, l)| format!("{}{l}\n", if i == 0 { "- " } else { "  " }))
        .collect();
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{indented}");
    assert_eq!(groups(&list).len(), 1);
    check(
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nspec:\n  grups: []\n  groups:\n  - name: g\n    rules:\n    - alert: a\n      expr: up\n      labels: {x: 1}\n",
        &[
            "Warning f.yml:1:1 | 1:1: metadata.name is missing; the API server refuses that",
            "Warning f.yml:10:19 | 10:19: the value of \"x\" is a !!int, not a string; the API server refuses that unless the operator's webhook turns it into text",
            "Warning f.yml:4:3 | line 4: field grups not found in type rulefmt.RuleGroups",
        ],
    );
}

#[test]
fn of_plain_documents_only_the_first_counts() {
    let source = "groups:\n- name: a\n---\ngroups:\n- name: b\n";
    assert_eq!(groups(source).len(), 1);
    check(
        source,
        &[
            "Warning f.yml:4:1 | 4:1: only the first YAML document of a rule file is used; this one is ignored, rules and all",
        ],
    );
}

#[test]
fn duplicates_are_listed_by_name_and_labels() {
    let source = "groups:\n- name: a\n  labels: {x: y}\n  rules:\n  - {record: r, expr: up}\n  - {alert: r, expr: up, labels: {x: y}}\n  - {record: q, expr: up}\n- name: b\n  rules:\n  - {record: r, expr: up}\n  - {record: r, expr: up, labels: {x: y}}\n";
    let report = check_source("", source, &LoadOptions::default());
    assert_eq!(
        duplicates_text(&report.duplicates),
        "lint error 1 duplicate rule(s) found.\nMetric: r\nLabel(s):\n\tx: y\nMight cause inconsistency while recording expressions"
    );
}

mod robustness {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = "---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: x}\nspec:\n  groups: &g\n  - name: 'g''s'\n    limit: 0x10\n    labels: {a: \"b\\n\"}\n    rules:\n    - &r\n      alert: A # why\n      expr: |+2\n          sum(up) by (job)\n            > 1\n\n      for: 5m\n      annotations: {t: '{{ $value }}', <<: {u: w}}\n    - <<: *r\n      alert: B\n      expr: >-\n        rate(x[5m])\n---\ngroups: *g\n";

    proptest! {
        /// Whatever happens to a file, reading it ends with groups or with errors.
        #[test]
        fn any_damage_gives_an_error_or_rules(
            edits in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::sample::select(vec![
                    "", "\n", "\t", " ", ":", "- ", "{", "}", "[", "]", "'", "\"", "|", ">", "&a ",
                    "*a", "#", "---\n", "\\", "é", "\u{0}", "\r", "<<: ", "!!int ", "? ", "%", "\u{feff}",
                ])),
                1..12,
            ),
            cut in any::<bool>(),
        ) {
            let mut text: Vec<char> = WHOLE.chars().collect();
            for (index, insert) in edits {
                let at = index.index(text.len());
                let end = if cut { (at + 3).min(text.len()) } else { at };
                text.splice(at..end, insert.chars());
                if text.is_empty() {
                    text.push(' ');
                }
            }
            let source: String = text.into_iter().collect();
            let report = check_source("f", &source, &LoadOptions::default());
            for problem in report.errors.iter().chain(&report.remarks) {
                prop_assert!(!problem.to_string().is_empty());
            }
        }
    }
}
