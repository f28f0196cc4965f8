//! The command line as a script sees it: what it prints and how it exits.

mod analyze;
mod convert;
mod fmt;
mod help;
mod lint;
mod lint_online;
mod mistakes;
mod progress;
mod promtool;
mod record;
mod record_made;
mod snapshots;
mod tsdb;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;

use crate::support::{run_watchfire, shared};

fn watchfire(args: &[&str], dir: &Path, stdin: Option<&[u8]>) -> Output {
    run_watchfire(args, dir, stdin.unwrap_or_default())
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn every_rule_file_of_the_corpus_gets_its_verdict() {
    let Some(dir) = shared("corpus/rules") else { return };
    let text = fs::read_to_string(dir.join("index.json")).expect("the index");
    let index: Json = serde_json::from_str(&text).expect("JSON");
    let mut ran = 0;
    let mut wrong = Vec::new();
    for file in index["files"].as_array().expect("a list") {
        let name = file["file"].as_str().expect("a name");
        let output = watchfire(&["check", "rules", name], &dir, None);
        ran += 1;
        if output.status.success() != (file["valid"] == true) {
            wrong.push(format!("{name}: want valid={}:\n{}", file["valid"], said(&output)));
        } else if let Some(rules) = file["rules_found"].as_i64().filter(|_| file["valid"] == true) {
            let linted = said(&output).contains("lint error");
            if !linted && !said(&output).contains(&format!("SUCCESS: {rules} rules found")) {
                wrong.push(format!("{name}: want {rules} rules:\n{}", said(&output)));
            }
        }
    }
    assert!(ran > 200, "only {ran} files were found");
    assert!(wrong.is_empty(), "{} of {ran} files:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn expressions_are_evaluated_over_a_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |data: &str, args: &[&str], expected: &str| {
        let mut all = vec!["eval", "--data", "-"];
        all.extend(args);
        let output = watchfire(&all, dir.path(), Some(data.as_bytes()));
        assert_eq!(said(&output).trim_end(), expected, "{args:?}");
    };
    let counter = "x_total{job=\"a\"} 10 60000\nx_total{job=\"a\"} 40 120000\n";
    check(counter, &["increase(x_total[2m])"], "{job=\"a\"} => 40 @[120]");
    check(counter, &["x_total", "--time", "60"], "x_total{job=\"a\"} => 10 @[60]");
    check(
        counter,
        &["sum(x_total)", "--start", "60", "--end", "120", "--step", "30s"],
        "{} =>\n10 @[60]\n10 @[90]\n40 @[120]",
    );
    check("# TYPE y gauge\ny 3 1\n# EOF\n", &["y * 2"], "{} => 6 @[1]");
    check(counter, &["--json", "x_total > 100"], "{\"resultType\":\"vector\",\"result\":[]}");
    check(counter, &["sum(x_total"], "error: 1:12: parse error: unclosed left parenthesis");
    let broken = watchfire(&["eval", "--data", "-", "x"], dir.path(), Some(b"x 1\ny{a} 2\n"));
    assert_eq!(broken.status.code(), Some(1));
    assert!(said(&broken).starts_with("error: -: line 2: "), "{}", said(&broken));
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    for args in [
        vec!["check", "config", "absent.yml"],
        vec!["check", "rules", "absent.yml"],
        vec!["eval", "x", "--data", "absent.txt"],
    ] {
        let output = watchfire(&args, dir.path(), None);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let said = said(&output);
        assert!(said.contains("absent") && said.contains("No such file"), "{args:?}: {said}");
    }
}

/// Runs and gives exit code and everything said.
fn outcome(args: &[&str], dir: &Path) -> (Option<i32>, String) {
    let output = watchfire(args, dir, None);
    (output.status.code(), said(&output).trim_end().to_owned())
}

#[test]
fn scripts_are_found_in_folders_run_and_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
    fs::create_dir_all(dir.path().join("deep/er")).expect("a folder");
    fs::create_dir(dir.path().join("none")).expect("a folder");
    let load = "load 1m\n  m 1 2\n\n";
    write("good.test", &format!("{load}eval instant at 1m m\n  m 2\n"));
    write("deep/er/bad.test", &format!("{load}eval instant at 1m m\n  m 3\n"));
    write("deep/notes.txt", "nonsense");
    let check = |args: &[&str], code: i32, lines: &[&str]| {
        let all: Vec<&str> = ["test", "promql"].iter().chain(args).copied().collect();
        let (got, said) = outcome(&all, dir.path());
        assert_eq!(got, Some(code), "{args:?}: {said}");
        for line in lines {
            assert!(said.lines().any(|l| l.trim() == *line), "{args:?}: no {line:?} in:\n{said}");
        }
    };
    check(&["good.test"], 0, &["good.test: 1 passed, 0 failed", "1 passed, 0 failed"]);
    check(
        &["."],
        1,
        &[
            "./deep/er/bad.test: 0 passed, 1 failed",
            "./deep/er/bad.test:line 4: eval instant at 1m m",
            "{__name__=\"m\"}: expected 3, got 2",
            "./good.test: 1 passed, 0 failed",
            "1 passed, 1 failed",
        ],
    );
    // What cannot be read is said; the rest runs all the same.
    check(
        &["absent.test", "none", "good.test"],
        1,
        &[
            "error: absent.test: No such file or directory (os error 2)",
            "error: none: no file below it ends in .test",
            "1 passed, 0 failed",
        ],
    );
}

#[test]
fn conformance_scripts_pass_as_one_command() {
    let Some(dir) = shared("conformance/promql") else { return };
    let (code, said) = outcome(&["test", "promql", "."], &dir);
    assert_eq!((code, said.lines().last()), (Some(0), Some("1542 passed, 0 failed")), "{said}");
}

#[test]
fn expressions_are_parsed_formatted_and_changed() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |args: &[&str], code: i32, expected: &str| {
        let all: Vec<&str> = std::iter::once("promql").chain(args.iter().copied()).collect();
        assert_eq!(outcome(&all, dir.path()), (Some(code), expected.to_owned()), "{args:?}");
    };
    check(
        &["parse", "-sum(x)"],
        0,
        "unary -  [instant vector, 0..7]\n  aggregate sum  [instant vector, 1..7]\n    selector x  [instant vector, 5..6]",
    );
    check(
        &["parse", "--format", "json", "1 + x"],
        0,
        r#"{"bool":false,"lhs":{"type":"numberLiteral","val":"1"},"matching":null,"op":"+","rhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"x"}],"name":"x","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"type":"binaryExpr"}"#,
    );
    check(&["parse", "x +"], 1, "1:4: parse error: unexpected end of input");
    check(&["format", "-x  +1"], 0, "-x + 1");
    check(
        &["format", "limitk(1, x)"],
        1,
        "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
    );
    check(
        &["format", "limitk(1,x)", "--enable-feature=promql-experimental-functions"],
        0,
        "limitk(1, x)",
    );
    let changed = |args: &[&str], expected: &str| {
        let all: Vec<&str> =
            std::iter::once("label-matchers").chain(args.iter().copied()).collect();
        check(&all, 0, expected);
    };
    let query = "sum by (a) (rate(x{a=\"1\",b!=\"2\",a!=\"3\"}[5m]) or max_over_time(y[1h:]))";
    changed(
        &["set", query, "a", "z"],
        "sum by (a) (rate(x{a=\"z\",a=\"z\",b!=\"2\"}[5m]) or max_over_time(y{a=\"z\"}[1h:]))",
    );
    changed(&["delete", query, "a"], "sum by (a) (rate(x{b!=\"2\"}[5m]) or max_over_time(y[1h:]))");
    changed(&["set", "-t", "!~", "x", "a", "b|c"], "x{a!~\"b|c\"}");
    changed(&["set", "x + {a=\"b\"}", "__name__", "y"], "y + {__name__=\"y\",a=\"b\"}");
    changed(&["set", "--type=!=", "x", "__name__", "y"], "{__name__!=\"y\"}");
    changed(&["delete", "x{a=\"b\"}", "__name__"], "x{a=\"b\"}");
    check(
        &["label-matchers", "set", "-t", "=~", "x", "a", "("],
        1,
        "error: error parsing regexp: missing closing ): `(`",
    );
    let (code, said) =
        outcome(&["promql", "label-matchers", "set", "-t", "==", "x", "a", "b"], dir.path());
    assert!(code == Some(2) && said.contains("want one of =, !=, =~, !~"), "{said}");
}

#[test]
fn the_function_reference_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (_, made) = outcome(&["promql", "functions", "--format", "markdown"], root);
    let page = fs::read_to_string(root.join("docs/functions.md")).unwrap_or_default();
    assert!(
        page.trim_end() == made,
        "docs/functions.md is stale; refresh it with\n  cargo run -- promql functions --format markdown > docs/functions.md"
    );
}

#[test]
fn functions_are_listed_for_people_and_machines() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, text) = outcome(&["promql", "functions"], dir.path());
    for line in [
        "round(instant vector, [scalar]) -> instant vector",
        "label_join(instant vector, string, string, [string], ...) -> instant vector",
        "time() -> scalar",
        "mad_over_time(range vector) -> instant vector  (experimental)",
        "topk [by|without (labels)] (scalar, instant vector) -> instant vector",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in:\n{text}");
    }
    let (_, json) = outcome(&["promql", "functions", "--format", "json"], dir.path());
    let json: Json = serde_json::from_str(&json).expect("JSON");
    let count = |key: &str| json[key].as_array().map(Vec::len);
    assert_eq!((count("functions"), count("aggregators")), (Some(90), Some(14)));
}

#[test]
fn rule_tests_show_what_is_stored_when_asked() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
    write("r.yml", "groups: [{name: g, rules: [{record: y, expr: x * 2}]}]\n");
    write(
        "t.yml",
        "rule_files: [r.yml]\ntests:\n- name: doubles\n  input_series: [{series: x, values: 1 2}]\n  promql_expr_test: [{expr: y, eval_time: 1m, exp_samples: [{labels: y, value: 4}]}]\n",
    );
    let (code, said) = outcome(&["test", "rules", "--debug", "t.yml"], dir.path());
    assert_eq!(code, Some(0), "{said}");
    for part in ["SUCCESS", "DEBUG: Test doubles finished", "{__name__=\"y\"} 2@0 4@60"] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    let (code, said) = outcome(&["test", "rules", "--run", "(", "t.yml"], dir.path());
    assert!(code == Some(2) && said.contains("missing closing )"), "{said}");
    let (code, said) = outcome(&["test", "rules", "absent.yml"], dir.path());
    assert!(code == Some(1) && said.contains("cannot read absent.yml"), "{said}");
}

#[test]
fn a_reader_that_stops_reading_is_no_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    let data: String = (0..20_000).map(|i| format!("x{{i=\"{i}\"}} {i} 1\n")).collect();
    fs::write(dir.path().join("data.txt"), data).expect("a file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["eval", "x", "--data", "data.txt"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("watchfire starts");
    // Closing the pipe before anything is read is what `| head -0` does.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("watchfire ends");
    assert!(output.status.success(), "{}", said(&output));
}

/// Holds what was made against a file that is kept, or with WATCHFIRE_UPDATE writes it.
#[track_caller]
fn kept_up_to_date(path: &Path, made: &str, test: &str) {
    if std::env::var_os("WATCHFIRE_UPDATE").is_some() {
        fs::write(path, format!("{made}\n")).expect("the file can be written");
        return;
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    let (kept, made) = (kept.trim_end(), made.trim_end());
    let first = kept.lines().zip(made.lines()).find(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "{} is stale (first difference: {first:?}); look at the change after\n  WATCHFIRE_UPDATE=1 cargo nextest run -E 'test({test})'",
        path.display()
    );
}

#[test]
fn a_configuration_that_is_compared_as_rules_is_told_as_one() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("rules.yml"), "groups: []\n").expect("a file");
    fs::write(dir.path().join("prometheus.yml"), "global: {}\n").expect("a file");
    let output = watchfire(&["rules", "diff", "rules.yml", "prometheus.yml"], dir.path(), None);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let help =
        "\nhelp: prometheus.yml is a Prometheus configuration, which `watchfire check config";
    assert!(text.contains(help), "{text}");
}
