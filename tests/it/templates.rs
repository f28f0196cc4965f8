//! Alert templates against recorded expansions of Prometheus, and what no input may do.

use std::process::Command;

use proptest::prelude::*;
use watchfire::model::{Labels, Sample};
use watchfire::rules::template::{Template, TemplateData};

use crate::support::shared;

fn watchfire(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire")).args(args).output();
    let output = output.expect("watchfire starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn expansions_equal_those_of_prometheus() {
    let Some(dir) = shared("conformance/templates") else { return };
    let (code, said) = watchfire(&["test", "templates", &dir.to_string_lossy()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("62 passed, 0 failed"), "{said}");
}

#[test]
fn a_case_that_differs_is_shown_and_fails() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cases.json");
    let check = |cases: &str, code: i32, parts: &[&str]| {
        std::fs::write(&path, cases).expect("a file");
        let (got, said) = watchfire(&["test", "templates", &path.to_string_lossy()]);
        assert_eq!(got, Some(code), "{cases}: {said}");
        parts
            .iter()
            .for_each(|part| assert!(said.contains(part), "{cases}: no {part:?} in {said}"));
    };
    check(
        r#"{"cases": [
            {"id": "a", "template": "{{ 1 }}", "output": "1"},
            {"id": "b", "template": "{{ 1 }}", "output": "2"},
            {"id": "c", "template": "{{ first . }}", "data": {"of": "int", "items": [1]}, "output": ""},
            {"id": "d", "template": "{{ range . }}<{{ . }}{{ end }}", "html": true,
             "data": {"of": "string", "items": ["a", "<"]}, "output": "<a<&lt;"},
            {"id": "e", "template": "{{ .x }}", "options": ["missingkey=error"],
             "error": "error executing template test: template: test:1:3: executing \"test\" at <.x>: nil data; no entry for key \"x\""}
        ]}"#,
        1,
        &[
            "FAILED b: {{ 1 }}",
            r#"expected: "2""#,
            r#"got:      "1""#,
            "FAILED c",
            "3 passed, 2 failed",
        ],
    );
    check(r#"{"cases": []}"#, 0, &["0 passed, 0 failed"]);
    check(r#"{"casus": []}"#, 1, &["cases.json: ", "unknown field `casus`", "line 1"]);
    check(
        r#"{"cases": [{"id": "a", "template": "x", "options": ["missingkey=never"], "output": "x"}]}"#,
        1,
        &["unknown options [\"missingkey=never\"]"],
    );
}

#[test]
fn a_person_sees_an_expansion() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data.prom");
    std::fs::write(&data, "up{job=\"a\"} 1\nup{job=\"b\"} 0\n").expect("a file");
    let data = data.to_string_lossy();
    let check = |args: &[&str], code: i32, expected: &str| {
        let (got, said) = watchfire(&[&["rules", "template"], args].concat());
        assert_eq!((got, said.trim_end()), (Some(code), expected), "{args:?}");
    };
    check(
        &[
            "{{ $labels.job }} of {{ $externalLabels.cluster }} at {{ $externalURL }}: {{ $value | humanize }}",
            "--value",
            "-1234.5",
            "--label",
            "job=api",
            "--external-label",
            "cluster=eu",
            "--external-url",
            "http://w/",
        ],
        0,
        "api of eu at http://w: -1.234k",
    );
    check(
        &[
            "{{ query \"sum(up)\" | first | value }}/{{ with query \"count(up)\" }}{{ . | first | value }}{{ end }} at {{ now }}",
            "--data",
            &data,
            "--time",
            "60",
        ],
        0,
        "1/2 at 60",
    );
    check(&["{{ query \"up\" | len }}"], 0, "0");
    check(
        &["{{ $labels.x", "--alert", "A"],
        1,
        "error: error parsing template __alert_A: template: __alert_A:1: unclosed action",
    );
    check(
        &["{{ query \"sum(\" }}"],
        1,
        "error: error executing template __alert_test: template: __alert_test:1:115: executing \"__alert_test\" at <query \"sum(\">: error calling query: 1:5: parse error: unclosed left parenthesis",
    );
}

fn alert_data() -> TemplateData {
    TemplateData::alert(
        Labels::from_pairs([("__name__", "up"), ("instance", "a:9090"), ("job", "node")]),
        Labels::from_pairs([("cluster", "eu")]),
        "http://prometheus.example/base",
        &Sample::Float(0.5),
        1_353_755_652_000,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Any text either expands or gives an error; pieces that are templates are likelier
    /// to reach far than random characters.
    #[test]
    fn no_text_panics(pieces in proptest::collection::vec(prop_oneof![
        Just("{{".to_owned()), Just("}}".to_owned()), Just(" ".to_owned()),
        Just("{{- ".to_owned()), Just(" -}}".to_owned()), Just("|".to_owned()),
        Just("{{ range $i, $x := ".to_owned()), Just("{{ if ".to_owned()),
        Just("{{ else }}".to_owned()), Just("{{ end }}".to_owned()),
        Just("{{ with ".to_owned()), Just("{{ define \"x\" }}".to_owned()),
        Just("{{ template \"x\" . }}".to_owned()), Just("query \"up\" ".to_owned()),
        Just("first ".to_owned()), Just("printf \"%".to_owned()), Just("\" ".to_owned()),
        Just("$value ".to_owned()), Just("$labels.job ".to_owned()), Just("$x ".to_owned()),
        Just("(".to_owned()), Just(")".to_owned()), Just(".Format ".to_owned()),
        Just("(now | toTime)".to_owned()), Just("humanizeDuration ".to_owned()),
        Just("slice \"aé\" 1 2 ".to_owned()), Just("index $labels \"job\" ".to_owned()),
        Just("nil ".to_owned()), Just("1e400 ".to_owned()), Just("-0x1p-1074 ".to_owned()),
        Just("'\\U".to_owned()), Just("{{ break }}".to_owned()),
        "[ -~]{0,6}", "\\PC{0,3}",
    ], 0..24)) {
        let text = pieces.concat();
        if let Ok(template) = Template::parse_alert("A", &text) {
            let _ = template.expand(&alert_data(), &mut |_| Ok(Vec::new()));
        }
    }

    #[test]
    fn no_format_panics(format in "(%[-+# 0]{0,2}[0-9]{0,3}(\\.[0-9*]{0,2})?(\\[[0-9]\\])?[a-zA-Z%]?|\\PC){0,6}") {
        for value in ["$value", "$labels", "(now | toTime)", "nil", "\"é\"", "-7", "(toDuration 1)"] {
            let text = format!("{{{{ printf {} {value} 1 2 }}}}", serde_json::to_string(&format).expect("JSON"));
            if let Ok(template) = Template::parse_alert("A", &text) {
                let _ = template.expand(&alert_data(), &mut |_| Ok(Vec::new()));
            }
        }
    }
}
