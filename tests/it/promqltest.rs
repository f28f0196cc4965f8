//! Integration tests: our own `.test` scripts, and that they leave no function out.

use std::path::Path;

use watchfire::promqltest::{FileReport, ScriptOptions, engine_options, run_script};
use watchfire::query::{Engine, EngineOptions};

fn run(path: &Path, options: &ScriptOptions) -> FileReport {
    let text = std::fs::read_to_string(path).expect("a readable script");
    let name = path.file_name().expect("a file").to_string_lossy();
    runtime().block_on(run_script(&name, &text, options))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
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

/// Runs a script of its own and returns its report as text.
fn report(script: &str) -> String {
    let options = ScriptOptions::default();
    runtime().block_on(run_script("script", script, &options)).to_string()
}

#[test]
fn what_goes_wrong_is_named_with_its_line() {
    let load = "load 1m\n  m{x=\"a\"} 1 2 3\n  m{x=\"b\"} 4\n  h {{count:1 sum:2}}\n\n";
    for (script, expected) in [
        ("eval instant at 0 m{x=\"a\"}\n  m{x=\"a\"} 1\n", "1 passed, 0 failed"),
        (
            "eval instant at 0 m{x=\"a\"}\n  m{x=\"a\"} 2\n",
            "line 6: eval instant at 0 m{x=\"a\"}\n  {__name__=\"m\", x=\"a\"}: expected 2, got 1",
        ),
        ("eval instant at 0 m\n  m{x=\"a\"} 1\n", "unexpected series {__name__=\"m\", x=\"b\"}"),
        (
            "eval instant at 6m m{x=\"b\"}\n  m{x=\"b\"} 4\n",
            "expected series {__name__=\"m\", x=\"b\"} is missing",
        ),
        (
            "eval instant at 0 m{x=\"a\"}\n  m{x=\"a\"} 1 2\n",
            "line 7: eval instant at 0 m{x=\"a\"}\n  expecting multiple values in instant evaluation not allowed",
        ),
        ("eval instant at 0 h\n  h 1\n", "expected 1, got histogram {{count:1 sum:2}}"),
        (
            "eval instant at 0 h\n  h {{count:2 sum:2}}\n",
            "expected histogram {{count:2 sum:2}}, got {{count:1 sum:2}}",
        ),
        (
            "eval range from 0 to 1m step 1m m{x=\"a\"}\n  m{x=\"a\"} 1 _\n",
            "expected 1 points at [0], got 2 at [0 60000] (ms)",
        ),
        (
            "eval range from 0 to 1m step 1m m{x=\"a\"}\n  m{x=\"a\"} 1 2 3\n",
            "expected 3 points, but query time range cannot return this many points",
        ),
        ("eval range from 1m to 0 step 1m m\n", "end timestamp (0) is before start timestamp (1m)"),
        (
            "eval range from 0 to 1m step 1m m{x=\"a\"}\n  expect ordered\n  m{x=\"a\"} 1 2\n",
            "expected ordered result, but query returned a matrix",
        ),
        (
            "eval instant at 0 sort(m)\n  expect ordered\n  m{x=\"b\"} 4\n  m{x=\"a\"} 1\n",
            "expected {__name__=\"m\", x=\"a\"} at position 2, got it at position 1",
        ),
        ("eval instant at 0 1\n  2\n", "expected scalar 2, got 1"),
        ("eval instant at 0 m\n  1\n", "expected scalar 1, got another type"),
        ("eval instant at 0 \"a\"\n  expect string \"b\"\n", "expected string \"b\", got \"a\""),
        (
            "eval instant at 0 \"a\"\n  expect string b\n",
            "check that the string is correctly quoted",
        ),
        ("eval instant at 0 m + on () m\n", "error: found duplicate series for the match group"),
        (
            "eval instant at 0 m + on () m\n  expect fail msg: other\n",
            "expected failure \"other\", got \"found duplicate",
        ),
        (
            "eval instant at 0 vector(1)\n  expect fail\n  {} 1\n",
            "expected failure any text, but it succeeded",
        ),
        (
            "eval instant at 0 quantile(2, m)\n  expect no_warn\n  {} Inf\n",
            "expected no warning, got",
        ),
        (
            "eval instant at 0 vector(1)\n  expect warn\n  {} 1\n",
            "expected warning any text, got none",
        ),
        (
            "eval instant at 0 vector(1)\n  expect warn\n  expect no_warn\n  {} 1\n",
            "warn and no_warn cannot be used together",
        ),
        ("eval instant at 0 vector(1)\n  expect nonsense\n  {} 1\n", "invalid expect statement"),
        ("eval instant at 0 sum(\n", "parse error: unclosed left parenthesis"),
        ("eval instant m\n", "invalid eval command"),
        ("eval instant at soon m\n", "invalid timestamp definition \"soon\""),
        ("load\n  m 1\n", "invalid load command"),
        ("load 1m\n  m 1 nonsense\n", "expected number or \"stale\""),
        ("load 1m\n  m@st -1s\n", "@st line has no following sample line"),
        ("load 1m\n  m@st -1s\n  m 1 2\n", "@st line has 1 values but sample line has 2"),
        (
            "load 1m\n  m@st -1s\n  n 1\n",
            "@st metric does not match the following sample line metric",
        ),
        (
            "load 1m\n  m{x=\"a\"} 7\n",
            "cannot append a sample to {__name__=\"m\", x=\"a\"} at 0 ms: out of order sample",
        ),
        ("dance\n", "invalid command \"dance\""),
    ] {
        let got = report(&format!("{load}{script}"));
        assert!(got.contains(expected), "{script}\nexpected {expected:?} in:\n{got}");
    }
}

#[test]
fn with_type_labels_a_counter_is_known_by_its_type() {
    let script = r#"
load 1m
  r{__type__="gauge", x="1"} 0+60x5
  r{__type__="counter", x="2"} 0+60x5

eval instant at 5m rate(r{x="1"}[5m])
  expect info msg: PromQL info: metric might not be a counter, __type__ label is not set to "counter" or "histogram", got "gauge": "r" (1:6)
  {x="1"} 1

eval instant at 5m rate(r{x="2"}[5m])
  expect no_info
  {x="2"} 1
"#;
    let engine = Engine::new(EngineOptions { type_and_unit_labels: true, ..engine_options() });
    let options = ScriptOptions { engine, strict: true };
    let report = runtime().block_on(run_script("types", script, &options));
    assert_eq!((report.passed, report.failed), (2, 0), "{report}");
}
