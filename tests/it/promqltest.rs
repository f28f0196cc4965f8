//! Integration tests: our own `.test` scripts, and that they leave no function out.

use std::path::Path;

use watchfire::promqltest::{FileReport, ScriptOptions, run_script};

fn run(path: &Path, options: &ScriptOptions) -> FileReport {
    let text = std::fs::read_to_string(path).expect("a readable script");
    let name = path.file_name().expect("a file").to_string_lossy();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(run_script(&name, &text, options))
}

fn scripts(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("a folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .collect();
    paths.sort();
    paths
}

/// Runs every script and fails with all failures at once. `SCRIPT=name` runs only those
/// whose name contains it.
fn run_all(dir: &Path) {
    let only = std::env::var("SCRIPT").unwrap_or_default();
    let options = ScriptOptions::default();
    let mut failed = 0;
    for path in scripts(dir) {
        if !path.to_string_lossy().contains(&only) {
            continue;
        }
        let report = run(&path, &options);
        failed += report.failed;
        println!("{report}");
    }
    assert_eq!(failed, 0, "cases failed; see above");
}

/// Our own scripts.
fn own_scripts() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("promql-testdata")
}

#[test]
fn own_scripts_pass() {
    run_all(&own_scripts());
}

#[test]
fn every_function_and_aggregator_has_a_case() {
    let text: String = scripts(&own_scripts())
        .iter()
        .map(|path| std::fs::read_to_string(path).expect("a readable script"))
        .collect();
    let called = |name: &str| {
        text.lines().filter(|line| line.starts_with("eval")).any(|line| {
            line.match_indices(name).any(|(i, _)| {
                let before = line[..i].chars().next_back();
                let after = line[i + name.len()..].trim_start();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                    && ["(", "by", "without"].iter().any(|word| after.starts_with(word))
            })
        })
    };
    let functions = watchfire::functions::all().map(|spec| spec.name);
    let aggregators = watchfire::aggregations::all().map(|spec| spec.name);
    let missing: Vec<&str> = functions.chain(aggregators).filter(|name| !called(name)).collect();
    assert!(missing.is_empty(), "no case in promql-testdata calls {missing:?}");
}

#[test]
fn every_example_parses_and_calls_its_function() {
    let options = watchfire::parser::ParserOptions::all();
    let functions = watchfire::functions::all().map(|spec| (spec.name, spec.example));
    let aggregators = watchfire::aggregations::all().map(|spec| (spec.name, spec.example));
    for (name, example) in functions.chain(aggregators) {
        let parsed = watchfire::parser::parse(example, &options);
        assert!(parsed.is_ok(), "example of {name}: {}", parsed.unwrap_err());
        assert!(example.contains(name), "example of {name} does not use it: {example}");
    }
}
