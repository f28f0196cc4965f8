//! The command line as a script sees it: what it prints and how it exits.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;

use crate::support::shared;

fn watchfire(args: &[&str], dir: &Path, stdin: Option<&[u8]>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("watchfire starts");
    // Dropping the pipe ends the input; a program that does not read it may end first.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(stdin.unwrap_or_default()));
    child.wait_with_output().expect("watchfire ends")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Cases whose texts were recorded from 3.5.3, when duration expressions were still
/// experimental and `anchored` and `fill` were unknown words; only their exit code counts.
const OLDER_TEXTS: &[&str] = &["promql-experimental-functions"];

/// Lines that come from a YAML reader, whose words are its own.
fn is_reader_text(line: &str) -> bool {
    line.contains("yaml:") || line.starts_with("line ") || line.starts_with("promtool: error")
}

#[test]
fn checks_agree_with_promtool() {
    let Some(dir) = shared("conformance/promtool") else { return };
    let text = fs::read_to_string(dir.join("cases.json")).expect("the cases");
    let cases: Json = serde_json::from_str(&text).expect("JSON");
    let files = dir.join("files");
    let mut ran = 0;
    let mut wrong = Vec::new();
    for case in cases["cases"].as_array().expect("a list") {
        let command = case["command"].as_str().unwrap_or("");
        if !matches!(command, "check rules" | "check config") {
            continue;
        }
        let args: Vec<&str> =
            case["args"].as_array().expect("args").iter().filter_map(Json::as_str).collect();
        let stdin = case["stdin_file"].as_str();
        let stdin = stdin.map(|file| fs::read(files.join(file)).expect("the input"));
        let output = watchfire(&args, &files, stdin.as_deref());
        let said = said(&output);
        ran += 1;
        let want = case["expect"]["exit_code"].as_i64();
        let got = output.status.code().map(i64::from);
        if want != got {
            wrong.push(format!("{args:?}: exit {got:?}, want {want:?}:\n{said}"));
            continue;
        }
        if args.iter().any(|a| OLDER_TEXTS.contains(&a.trim_start_matches("--enable-feature="))) {
            continue;
        }
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        for line in case["expect"]["key_lines"].as_array().into_iter().flatten() {
            let line = line.as_str().unwrap_or("");
            if !is_reader_text(line) && !lines.contains(&line) {
                wrong.push(format!("{args:?}: {line:?} is missing in:\n{said}"));
            }
        }
    }
    assert!(ran > 70, "only {ran} cases were found");
    assert!(wrong.is_empty(), "{} of {ran} cases:\n{}", wrong.len(), wrong.join("\n"));
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
