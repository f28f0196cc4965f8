//! `watchfire rules lint` and `check rules --output`: exit codes, forms, and the corpus of
//! real rules, in which nothing may be said that is not so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use super::{outcome, said, watchfire};
use crate::support::{http_get, shared, start_prometheus, until};

#[test]
fn the_pages_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, flag) in [("docs/lint.md", "--page"), ("docs/diagnostics.md", "--mistakes")] {
        let (_, made) = outcome(&["rules", "lint", flag], root);
        let kept = fs::read_to_string(root.join(page)).unwrap_or_default();
        assert!(
            kept.trim_end() == made.trim_end(),
            "{page} is stale; refresh it with\n  cargo run -- rules lint {flag} > {page}"
        );
    }
}

const WARNED: &str =
    "groups:\n- name: g\n  rules:\n  - record: r\n    expr: sum(x{job=~\"api\"})\n";
const BUGGY: &str = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: count(x) < 1\n";
const BROKEN: &str = "groups:\n- name: g\n  rules:\n  - record: r\n    expr: summ(x)\n";

#[test]
fn exit_codes_say_how_grave_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = [("warned.yml", WARNED), ("buggy.yml", BUGGY), ("broken.yml", BROKEN)];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    let check = |args: &[&str], code: i32, part: &str| {
        let (got, text) = outcome(args, dir.path());
        assert_eq!(got, Some(code), "{args:?}: {text}");
        assert!(text.contains(part), "{args:?}: {text}");
    };
    let lint = |args: &[&str], code: i32, part: &str| {
        check(&[&["rules", "lint"], args].concat(), code, part);
    };
    lint(&["warned.yml"], 0, "1 file: 1 warning");
    lint(&["warned.yml", "--fail-on=warning"], 3, "promql/regexp");
    lint(&["warned.yml", "--lint=-promql/regexp"], 0, "1 file: nothing found");
    lint(&["buggy.yml"], 3, "bug[promql/impossible]");
    lint(&["buggy.yml", "--fail-on=error"], 0, "bug[promql/impossible]");
    lint(&["broken.yml"], 1, "help: did you mean `sum`?");
    lint(&["."], 1, "3 files: 1 error, 1 bug, 1 warning");
    lint(&["w*.yml"], 0, "1 file: 1 warning");
    lint(&["none*.yml"], 1, "none*.yml: no file matches");
    lint(&["gone.yml"], 1, "cannot read the file");
    lint(&["warned.yml", "--lint=promql/regex"], 1, "did you mean \"promql/regexp\"?");
    lint(&["--explain", "promql/nan"], 0, "## promql/nan");
    lint(&["--list"], 0, "rule/unused");
    check(&["lint", "buggy.yml"], 3, "bug[promql/impossible]");
    fs::write(dir.path().join("lint.yml"), "rules: [{name: {pattern: 'x:.*', severity: bug}}]\n")
        .expect("a file");
    lint(&["--lint.config", "lint.yml", "warned.yml"], 3, "the name must match `x:.*`");
    fs::write(dir.path().join("bad.yml"), "rules: 1\n").expect("a file");
    lint(&["--lint.config", "bad.yml", "warned.yml"], 1, "bad.yml: ");
    let output = watchfire(&["rules", "lint"], dir.path(), Some(BROKEN.as_bytes()));
    assert!(said(&output).contains("--> standard input:5:11"), "{}", said(&output));
    assert!(!said(&output).contains('\u{1b}'), "colours without a terminal");
}

#[test]
fn check_rules_speaks_as_promtool_unless_asked() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in [("warned.yml", WARNED), ("broken.yml", BROKEN)] {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    let check = |args: &[&str], code: i32, expected: &str| {
        let (got, text) = outcome(&[&["check", "rules"], args].concat(), dir.path());
        assert_eq!((got, text.trim_end()), (Some(code), expected), "{args:?}");
    };
    check(&["warned.yml"], 0, "Checking warned.yml\n  SUCCESS: 1 rules found");
    check(&["--lint=all", "warned.yml"], 0, "Checking warned.yml\n  SUCCESS: 1 rules found");
    let excerpt = "\
error[promql/syntax]: unknown function with name \"summ\"
 --> broken.yml:5:11
  |
5 |     expr: summ(x)
  |           ^^^^ no such function
  |
  = in: record \"r\" of group \"g\"
help: did you mean `sum`?
  |
5 -     expr: summ(x)
5 +     expr: sum(x)
  |

1 file: 1 error";
    check(&["--output=text", "broken.yml"], 1, excerpt);
    check(&["--output=text", "warned.yml"], 0, "1 file: nothing found");
    // Templates are part of a rule, advice about them is not.
    let template = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: sum(x) > 0\n    annotations: {a: '{{ $labels.b }}', c: '{{ $label }}'}\n";
    fs::write(dir.path().join("template.yml"), template).expect("a file");
    let said = outcome(&["check", "rules", "--output=text", "template.yml"], dir.path());
    assert!(
        said.0 == Some(1) && said.1.ends_with("1 file: 1 error") && said.1.contains("$label"),
        "{said:?}"
    );
    check(
        &["--output=github", "broken.yml"],
        1,
        "::error file=broken.yml,line=5,endLine=5,col=11,endColumn=14,title=promql/syntax::unknown function with name \"summ\" (record \"r\" of group \"g\")%0Ahelp: did you mean `sum`?: sum",
    );
    let (code, text) = outcome(
        &["check", "rules", "--lint=promql/regexp", "--lint-fatal", "warned.yml"],
        dir.path(),
    );
    assert!(
        code == Some(3)
            && text.starts_with("Checking warned.yml\n  SUCCESS: 1 rules found\n")
            && text.contains("warning[promql/regexp]"),
        "{text}"
    );
    let (code, text) = outcome(&["check", "rules", "--lint=nonsense", "warned.yml"], dir.path());
    assert!(
        code == Some(0) && text.contains("WARNING: unknown lint option: \"nonsense\""),
        "{text}"
    );
}

/// How often each check may speak about the corpus. Every finding was looked at by hand, or
/// a sample of them where there are many; a change of these numbers wants another look.
const KNOWN: &[(&str, &str, usize)] = &[
    ("alerts/absent", "warning", 4),
    ("alerts/comparison", "bug", 8),
    ("alerts/flapping", "warning", 2),
    ("alerts/for", "info", 198),
    ("alerts/template", "bug", 209),
    ("alerts/template", "error", 4),
    ("alerts/template", "info", 253),
    ("ignore/file", "info", 1),
    ("promql/always", "info", 4),
    ("promql/impossible", "bug", 7),
    ("promql/nan", "warning", 14),
    ("promql/regexp", "warning", 50),
    ("promql/syntax", "error", 24),
    ("promql/vector_matching", "bug", 20),
    ("rule/dependency", "info", 2),
    ("rule/duplicate", "warning", 1),
    ("yaml/parse", "error", 52),
    ("yaml/parse", "info", 27),
    ("yaml/parse", "warning", 14),
];

#[test]
fn nothing_is_said_about_real_rules_that_is_not_so() {
    let Some(dir) = shared("corpus/rules") else { return };
    let index = fs::read_to_string(dir.join("index.json")).expect("the index");
    let index: Json = serde_json::from_str(&index).expect("JSON");
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for file in index["files"].as_array().expect("a list") {
        let name = file["file"].as_str().expect("a name");
        let args = ["rules", "lint", "--min-severity=info", "--output=json", name];
        let output = watchfire(&args, &dir, None);
        let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        let found = report["diagnostics"].as_array().expect("a list");
        let fatal = found.iter().any(|d| d["severity"] == "error");
        assert_eq!(fatal, file["valid"] == false, "{name}: {}", said(&output));
        assert_eq!(output.status.code() == Some(1), fatal, "{name}");
        for d in found {
            let word = |key: &str| d[key].as_str().expect("a word").to_owned();
            *counts.entry((word("id"), word("severity"))).or_default() += 1;
            assert!(d["range"].is_object(), "{name}: no place: {d}");
        }
    }
    let got: Vec<(&str, &str, usize)> =
        counts.iter().map(|((id, severity), n)| (id.as_str(), severity.as_str(), *n)).collect();
    assert_eq!(got, KNOWN);
}

#[test]
fn a_server_knows_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: self\n  static_configs: [{targets: [SELF]}]\n";
    let Some((_program, base)) = start_prometheus(dir.path(), config) else { return };
    // Two scrapes, and the metadata that comes with them.
    let has = |path: &str, part: &str| {
        let answer = until(Duration::from_secs(30), || {
            let (_, body) = http_get(&format!("{base}{path}")).ok()?;
            body.contains(part).then_some(())
        });
        assert!(answer.is_some(), "{path} never had {part}");
    };
    has("/api/v1/metadata?metric=prometheus_http_requests_total", "counter");
    has("/api/v1/query?query=rate(prometheus_http_requests_total[30s])", "\"value\"");
    let rules = "\
groups:
- name: g
  rules:
  - alert: Fine
    expr: rate(prometheus_http_requests_total{job=\"self\"}[5m]) > 1e9
  - alert: Fires
    expr: up{job=\"self\"} == 1
  - alert: Raw
    expr: prometheus_http_requests_total > 1e9
  - alert: Falling
    expr: rate(go_goroutines[5m]) > 1e9
  - alert: Misspelt
    expr: rate(prometheus_http_request_total[5m]) > 1
  - alert: NoSuchJob
    expr: up{job=\"other\"} == 0
  - alert: Excused
    expr: (nothing_of_this or vector(0)) > 1 unless nothing_of_that
";
    fs::write(dir.path().join("rules.yml"), rules).expect("a file");
    let args = ["rules", "lint", "--server", &base, "--min-severity=info", "--output=json"];
    let chosen = ["--lint=none,promql/series,promql/counter,alerts/count", "rules.yml"];
    let output = watchfire(&[&args[..], &chosen[..]].concat(), dir.path(), None);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let found = report["diagnostics"].as_array().expect("a list");
    let lines: Vec<String> = found
        .iter()
        .map(|d| {
            let word = |v: &Json| v.as_str().unwrap_or("").to_owned();
            let help = word(&d["help"][0]["text"]);
            format!("{} {} {} | {help}", d["range"]["line"], word(&d["id"]), word(&d["message"]))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "7 alerts/count it would have fired once in the last 1d, for one series | ",
            "9 promql/counter `prometheus_http_requests_total` is a counter: its value says how long the process has been running | use `rate(prometheus_http_requests_total[5m])` or `increase`",
            "11 promql/counter `go_goroutines` is a gauge: `rate` takes every fall of it for a restart | use `delta` or `deriv`",
            "13 promql/series the server has had no `prometheus_http_request_total` for 1d | it has `prometheus_http_requests_total`",
            "15 promql/series the server has `up`, but none with job=\"other\" | ",
        ]
    );
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let (code, text) =
        outcome(&["rules", "lint", "--server", "127.0.0.1:1", "rules.yml"], dir.path());
    assert!(code == Some(1) && text.contains("error[server/answer]"), "{text}");
}
