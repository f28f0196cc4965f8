//! What is written for each target, and what is said to be lost.

use super::*;

fn converted(source: &str, to: Target) -> Result<Converted, ConvertError> {
    let options = Options {
        name: "app".to_owned(),
        namespace: Some("prod".to_owned()),
        labels: vec![("role".to_owned(), "alert-rules".to_owned())],
        parser: ParserOptions::all(),
    };
    convert("f.yml", source, to, &options)
}

fn check(source: &str, to: Target, text: &str, warnings: &[&str]) {
    let converted = converted(source, to).unwrap();
    assert_eq!(converted.text, text, "{source}");
    let said: Vec<String> = converted.warnings.iter().map(ToString::to_string).collect();
    let begins = said.iter().zip(warnings).all(|(said, expected)| said.starts_with(expected));
    assert!(begins && said.len() == warnings.len(), "{said:#?}");
}

const VMALERT: &str = "\
# ours
groups:
  # about g
  - name: g
    interval: 30s
    # why so late
    eval_delay: 1m
    eval_offset: 10s
    concurrency: 4
    headers:
      - 'X: y'
    rules:
      # about the rule
      - alert: A
        expr: rate(x[5m]) > 0  # beside
        debug: true
        for: 5m
        labels:
          severity: page
      - record: r
        expr: sum(x)
      - record: s
        expr: r * 2
  # the end
";

#[test]
fn keys_are_renamed_and_dropped_with_their_comments() {
    check(
        VMALERT,
        Target::Prometheus,
        "\
# ours
groups:
# about g
- name: g
  interval: 30s
  # why so late
  query_offset: 1m
  rules:
    # about the rule
    - alert: A
      expr: rate(x[5m]) > 0  # beside
      for: 5m
      labels:
        severity: page
    - record: r
      expr: sum(x)
    - record: s
      expr: r * 2
# the end
",
        &["8:5: eval-offset: group \"g\": eval_offset: ", "10:5: request: group \"g\": headers: "],
    );
    // Watchfire's keys, and what vmalert does otherwise.
    check(
        "groups:\n- name: g\n  budget: 50%\n  query_offset: 1m\n  rules:\n  - record: r\n    expr: increase(x[5m])\n  - alert: A\n    # wait\n    on_no_data: keep\n    expr: r > 1\n",
        Target::Vmalert,
        "groups:\n- name: g\n  eval_delay: 1m\n  rules:\n  - record: r\n    expr: increase(x[5m])\n  - alert: A\n    expr: r > 1\n",
        &[
            "1:1: comments: ",
            "3:3: watchfire-key: group \"g\": budget: ",
            "6:5: extrapolation: group \"g\": r: ",
            "8:5: chaining: group \"g\": A: ",
            "10:5: watchfire-key: group \"g\": A: on_no_data: ",
        ],
    );
}

#[test]
fn objects_are_wrapped_and_unwrapped() {
    let plain = "# ours\ngroups:\n- name: g\n  # in it\n  rules:\n  - record: r\n    expr: |\n      sum(x)\n        / 2\n    labels:\n      a: 1\n      b: 'x'\n      c:\n";
    let object = "# ours\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: app\n  namespace: prod\n  labels:\n    role: alert-rules\nspec:\n  groups:\n  - name: g\n    # in it\n    rules:\n    - record: r\n      expr: |\n        sum(x)\n          / 2\n      labels:\n        a: \"1\"\n        b: 'x'\n        c: \"\"\n";
    check(plain, Target::PrometheusRule, object, &[]);
    let quoted = plain.replace("a: 1", "a: \"1\"").replace("c:\n", "c: \"\"\n");
    check(object, Target::Prometheus, &quoted, &["2:1: metadata: "]);
    check(
        &format!("namespace: old\n{quoted}"),
        Target::Mimir,
        &quoted.replace("groups:", "namespace: prod\ngroups:").replace("# ours\n", ""),
        &["1:1: comments: "],
    );
    // Several objects in one stream.
    let second = object.replace("name: g", "name: h").replace("# ours\n", "");
    let both = converted(&format!("{object}---\n{second}"), Target::Thanos).unwrap();
    assert_eq!(both.text.matches("- name: ").count(), 2, "{}", both.text);
    let twice = converted(&format!("{object}---\n{object}"), Target::Thanos).unwrap_err();
    assert!(matches!(twice, ConvertError::SameGroup(name, _) if name == "g"));
}

#[test]
fn what_has_no_lines_of_its_own_is_written_anew() {
    check(
        "groups:\n- name: g\n  eval_delay: 1m\n  rules:\n  - &r {alert: A, expr: 'x > 1', debug: true, labels: {a: 1, b: ''}, annotations: {t: \"x\\ny\\n\", u: \"\\t\"}} # c\n  - <<: *r\n    alert: B\n",
        Target::PrometheusRule,
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: app\n  namespace: prod\n  labels:\n    role: alert-rules\nspec:\n  groups:\n  - name: g\n    query_offset: 1m\n    rules:\n    - alert: A\n      expr: x > 1\n      labels:\n        a: \"1\"\n        b: ''\n      annotations:\n        t: |\n          x\n          y\n        u: \"\\t\"\n    - alert: B\n      expr: x > 1\n      labels:\n        a: \"1\"\n        b: ''\n      annotations:\n        t: |\n          x\n          y\n        u: \"\\t\"\n",
        &["1:1: comments: "],
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    for (source, expected) in [
        ("groups: {}\n", "cannot unmarshal"),
        ("groups: []\n", "no group"),
        ("groups:\n- name: g\n  type: graphite\n  rules: []\n", "Graphite"),
        ("groups:\n- name: g\n  rules: [{record: r, expr: 'sum('}]\n", "could not parse"),
    ] {
        let error = converted(source, Target::Thanos).unwrap_err().to_string();
        assert!(error.contains(expected), "{source}: {error}");
    }
}

#[test]
fn what_vmalert_would_refuse_is_left_out_or_named() {
    check(
        "\
groups:
- name: g
  rules:
  - alert: A
    expr: up == 0
    labels: {a: b}
  # less
  - alert: A
    expr: up==0
    for: 5m
    labels: {a: b}
  - record: A
    expr: info(changes(x[5m]))
  - record: b
    expr: sum by (\"c.d\") ({\"e.f\"})
",
        Target::Vmalert,
        "\
groups:
- name: g
  rules:
  - alert: A
    expr: up == 0
    labels:
      a: b
  # less
  - record: A
    expr: info(changes(x[5m]))
  - record: b
    expr: sum by (\"c.d\") ({\"e.f\"})
",
        &[
            "8:5: duplicate: group \"g\": A: ",
            "12:5: extrapolation: group \"g\": A: ",
            "12:5: function: group \"g\": A: info: ",
            "14:5: names: group \"g\": b: ",
        ],
    );
    // Of a rule that is written once and meant twice, the one that is written stays.
    let converted = converted(
        "groups:\n- name: g\n  rules:\n  - &r\n    record: r\n    expr: x\n  - *r\n",
        Target::Vmalert,
    );
    let text = converted.unwrap().text;
    assert_eq!(text, "groups:\n- name: g\n  rules:\n  - record: r\n    expr: x\n");
}
