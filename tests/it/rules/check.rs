//! Loading: the corpus of real rule files, and promtool's `check rules` cases.

use std::path::Path;

use serde_json::Value;
use watchfire::parser::ParserOptions;
use watchfire::rules::config::{
    CheckReport, LoadOptions, check_file, check_source, duplicates_text,
};

use crate::support::shared;

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Verdicts of promtool 3.5.3 that are not those of 3.14.
const NEWER_VERDICT: &[&str] = &[];

#[test]
fn every_file_of_the_corpus_gets_its_verdict() {
    let Some(dir) = shared("corpus/rules") else { return };
    let mut wrong = Vec::new();
    let mut misplaced = 0;
    let index = json(&dir.join("index.json"));
    let files = index["files"].as_array().unwrap();
    for entry in files {
        let file = entry["file"].as_str().unwrap();
        let report = check_file(&dir.join(file), &LoadOptions::default());
        let valid = report.errors.is_empty();
        if NEWER_VERDICT.contains(&file) == (Some(valid) == entry["valid"].as_bool()) {
            wrong.push(format!("{file}: valid is {valid}\n{:#?}", report.errors));
        }
        if valid && Some(report.rules as u64) != entry["rules_found"].as_u64() {
            wrong.push(format!("{file}: {} rules, not {}", report.rules, entry["rules_found"]));
        }
        let lint = if !valid {
            1
        } else if report.duplicates.is_empty() {
            0
        } else {
            3
        };
        if Some(lint) != entry["lint_exit_code"].as_u64() {
            wrong.push(format!("{file}: lint {lint}, not {}", entry["lint_exit_code"]));
        }
        misplaced += report.errors.iter().filter(|e| !is_placed(e.position, &e.message)).count();
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    assert_eq!(misplaced, 0, "errors without a position");
}

/// Every error has a place, unless it is about a field that is not there.
fn is_placed(position: Option<watchfire::rules::config::Position>, message: &str) -> bool {
    position.is_some() || message.starts_with("0:0")
}

fn run(dir: &Path, args: &[&str], stdin: Option<&str>) -> (i64, String) {
    let mut options = LoadOptions::default();
    let (mut lint, mut fatal, mut files) = ("duplicate-rules".to_owned(), false, Vec::new());
    let mut out = String::new();
    for arg in args {
        match arg.split_once('=').unwrap_or((arg, "")) {
            ("check" | "rules", _) => {}
            ("--lint", value) => lint = value.to_owned(),
            ("--lint-fatal", _) => fatal = true,
            ("--ignore-unknown-fields", _) => options.ignore_unknown_fields = true,
            ("--enable-feature", features) => {
                options.parser = ParserOptions {
                    experimental_functions: features.contains("promql-experimental-functions"),
                    extended_range_selectors: features.contains("extended-range-selectors"),
                    binop_fill_modifiers: features.contains("fill-modifiers"),
                }
            }
            (file, _) => files.push(file.to_owned()),
        }
    }
    if !["duplicate-rules", "all", "none"].contains(&lint.as_str()) {
        out.push_str(&format!("WARNING: unknown lint option: {lint:?}\n"));
        lint = "none".into();
    }
    let reports: Vec<CheckReport> = match stdin {
        Some(file) => {
            vec![check_source("", &std::fs::read_to_string(dir.join(file)).unwrap(), &options)]
        }
        // promtool runs in the folder, so its texts hold relative paths.
        None => files
            .iter()
            .map(|f| check_source(f, &std::fs::read_to_string(dir.join(f)).unwrap(), &options))
            .collect(),
    };
    let mut code = 0;
    for report in reports {
        let name = if report.file.is_empty() { "standard input" } else { &report.file };
        out.push_str(&format!("Checking {name}\n"));
        if !report.errors.is_empty() {
            out.push_str(&format!("  FAILED:\n{}\n", report.error_lines().join("\n")));
            code = 1;
        } else if lint != "none" && !report.duplicates.is_empty() {
            out.push_str(&format!("  FAILED:\n{}\n", duplicates_text(&report.duplicates)));
            if fatal && code == 0 {
                code = 3;
            }
        } else {
            out.push_str(&format!("  SUCCESS: {} rules found\n", report.rules));
        }
    }
    (code, out)
}

/// Cases whose key lines were recorded with 3.5.3 and differ in 3.14, and why.
const NEWER_TEXT: &[(&str, &str)] =
    &[("cli-035", "3.14 accepts duration expressions and words the other two errors anew")];

#[test]
fn promtool_check_rules_cases_agree() {
    let Some(dir) = shared("conformance/promtool") else { return };
    let cases = json(&dir.join("cases.json"));
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases["cases"].as_array().unwrap() {
        if case["command"] != "check rules" {
            continue;
        }
        count += 1;
        let id = case["id"].as_str().unwrap();
        let args: Vec<&str> =
            case["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let (code, out) = run(&dir.join("files"), &args, case["stdin_file"].as_str());
        if Some(code) != case["expect"]["exit_code"].as_i64() {
            wrong.push(format!("{id} {args:?}: exit code {code}\n{out}"));
            continue;
        }
        if NEWER_TEXT.iter().any(|(newer, _)| *newer == id) {
            continue;
        }
        let lines: Vec<&str> = out.lines().map(str::trim).collect();
        for line in case["expect"]["key_lines"].as_array().unwrap() {
            let line = line.as_str().unwrap();
            if !lines.contains(&line) {
                wrong.push(format!("{id} {args:?}: misses {line:?}\n{out}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} in {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(count, 53);
}

/// Files of vmalert that are meant to be good and yet are refused, and why.
const FOREIGN: &[(&str, &str)] = &[
    ("dir/rules0-good.rules", "undefined variable \"$expr\""),
    ("rules/rules2-good.rules", "undefined variable \"$activeAt\""),
    ("rules/rules3-good.rules", "Graphite's language"),
    ("rules/vlog-rules0-good.rules", "LogsQL"),
];

#[test]
fn with_dialects_the_good_files_of_other_rulers_are_good() {
    let Some(dir) = shared("corpus/rules/victoriametrics/vmalert") else { return };
    let options = LoadOptions { dialects: true, ..LoadOptions::default() };
    let mut count = 0;
    for folder in ["dir", "rules"] {
        for entry in std::fs::read_dir(dir.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
            let report = check_file(&path, &options);
            let errors: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
            let foreign = FOREIGN.iter().find(|(file, _)| *file == name);
            match foreign {
                Some((_, why)) => {
                    assert!(errors.iter().all(|e| e.contains(why)), "{name}: {errors:#?}");
                    assert!(!errors.is_empty(), "{name} is no exception any more");
                }
                None if name.contains("good") => assert!(errors.is_empty(), "{name}: {errors:#?}"),
                None => {}
            }
            count += 1;
        }
    }
    assert_eq!(count, 22);
    let pint = shared("corpus/rules/pint").unwrap();
    for (file, valid) in [
        ("0204_parser_schema_thanos_err--rules_1.yml", false),
        ("0205_parser_schema_thanos_ok--rules_2.yml", true),
    ] {
        assert_eq!(check_file(&pint.join(file), &options).errors.is_empty(), valid, "{file}");
    }
}
