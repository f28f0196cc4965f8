//! Alert templates against `promtool`: the same texts through both, outputs and errors
//! compared. `promtool` is Debian's, so the texts avoid what came later.

use std::collections::BTreeMap;
use std::process::Command;

use watchfire::model::value::VectorSample;
use watchfire::model::{Labels, Sample};
use watchfire::rules::template::{Template, TemplateData, error_text};

/// Templates that must expand, or fail, just as in Prometheus.
const TEXTS: &str = include_str!("templates_oracle.txt");

const VALUE: f64 = 12345.678;

fn labels() -> Labels {
    Labels::from_pairs([("__name__", "m"), ("instance", "a.b.c:9090"), ("job", "no de")])
}

fn query(expr: &str) -> Result<Vec<VectorSample>, String> {
    let sample = |labels: Labels, v: f64| VectorSample { labels, ts: 0, sample: Sample::Float(v) };
    match expr {
        "m" => Ok(vec![sample(labels(), VALUE)]),
        "sort(x)" => Ok(vec![
            sample(Labels::from_pairs([("__name__", "x"), ("l", "b")]), 1.0),
            sample(Labels::from_pairs([("__name__", "x"), ("l", "a")]), 2.0),
            sample(Labels::from_pairs([("__name__", "x"), ("l", "c"), ("__value__", "v")]), 3.0),
        ]),
        _ => Ok(Vec::new()),
    }
}

fn ours(text: &str) -> String {
    let data = TemplateData::alert(labels(), Labels::empty(), "", &Sample::Float(VALUE), 0);
    let expanded = Template::parse_alert("A", text).and_then(|t| t.expand(&data, &mut query));
    expanded.unwrap_or_else(|error| error_text(&error))
}

/// A Go-quoted text, which ends at its closing quote.
fn unquote(text: &str) -> String {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let mut push = |c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        match c {
            '"' => break,
            '\\' => match chars.next().unwrap() {
                'n' => push('\n'),
                't' => push('\t'),
                'r' => push('\r'),
                'a' => push('\u{7}'),
                'b' => push('\u{8}'),
                'f' => push('\u{c}'),
                'v' => push('\u{b}'),
                'x' => {
                    let hex: String = chars.by_ref().take(2).collect();
                    out.push(u8::from_str_radix(&hex, 16).unwrap());
                }
                letter @ ('u' | 'U') => {
                    let count = if letter == 'u' { 4 } else { 8 };
                    let hex: String = chars.by_ref().take(count).collect();
                    push(char::from_u32(u32::from_str_radix(&hex, 16).unwrap()).unwrap());
                }
                other => push(other),
            },
            other => push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What promtool says of a rule with these annotations; `None` when it is not there.
fn run_promtool(annotations: &BTreeMap<String, &String>) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let rules = serde_json::json!({"groups": [{"name": "g", "rules": [
        {"alert": "A", "expr": "m", "annotations": annotations}]}]});
    let tests = serde_json::json!({
        "rule_files": ["r.yml"], "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": [
            {"series": "m{instance=\"a.b.c:9090\",job=\"no de\"}", "values": VALUE.to_string()},
            {"series": "x{l=\"b\"}", "values": "1"},
            {"series": "x{l=\"a\"}", "values": "2"},
            {"series": "x{l=\"c\",__value__=\"v\"}", "values": "3"}],
            "alert_rule_test": [{"eval_time": "0m", "alertname": "A", "exp_alerts": []}]}]});
    std::fs::write(dir.path().join("r.yml"), rules.to_string()).unwrap();
    std::fs::write(dir.path().join("t.yml"), tests.to_string()).unwrap();
    if !crate::support::available("promtool") {
        return None;
    }
    let run = Command::new("promtool").args(["test", "rules", "t.yml"]).current_dir(&dir).output();
    let output = run.expect("promtool runs");
    let out = String::from_utf8_lossy(&output.stdout);
    Some(format!("{out}{}", String::from_utf8_lossy(&output.stderr)))
}

/// What promtool makes of each text: the expansion, or the error of a text that is no
/// template, which it finds in a pass of its own.
fn promtool(texts: &[String]) -> Option<Vec<String>> {
    let name = |i: usize| format!("a{i:04}");
    let mut annotations: BTreeMap<String, &String> =
        texts.iter().enumerate().map(|(i, t)| (name(i), t)).collect();
    let mut results = vec![String::new(); texts.len()];
    let mut text = run_promtool(&annotations)?;
    for (i, result) in results.iter_mut().enumerate() {
        let start = format!("annotation \"{}\": ", name(i));
        if let Some((_, rest)) = text.split_once(&start) {
            let detail = rest.lines().next().unwrap_or_default();
            *result =
                format!("<error expanding template: error parsing template __alert_A: {detail}>");
            annotations.remove(&name(i));
        }
    }
    if !text.contains("Annotations:{") {
        text = run_promtool(&annotations)?;
    }
    let (_, expanded) = text.split_once("Annotations:{").unwrap_or_else(|| panic!("{text}"));
    for (i, result) in results.iter_mut().enumerate() {
        // An empty annotation is no annotation.
        if let Some((_, rest)) = expanded.split_once(&format!("{}=\"", name(i))) {
            *result = unquote(rest);
        }
    }
    Some(results)
}

#[test]
fn promtool_expands_the_same() {
    let texts: Vec<String> = TEXTS
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.replace('␤', "\n"))
        .collect();
    let Some(expected) = promtool(&texts) else { return };
    let mut failures = Vec::new();
    for (text, expected) in texts.iter().zip(expected) {
        // The static type of the value became an interface after 2.42.
        let got = ours(text).replace("Value interface {} }", "Value float64 }");
        if got != expected {
            failures.push(format!("{text}\n  got      {got:?}\n  promtool {expected:?}"));
        }
    }
    let (failed, all) = (failures.len(), texts.len());
    assert!(failures.is_empty(), "{failed} of {all}:\n{}", failures.join("\n"));
}
