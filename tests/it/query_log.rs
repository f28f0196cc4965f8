//! The query log of a running server, beside that of a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::{Program, free_address, http_get, http_post, start_prometheus, until};

const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = "
global: {query_log_file: query.log, evaluation_interval: 1s}
rule_files: [rules.yml]
";

const RULES: &str = "
groups:
- name: g
  rules:
  - {record: r, expr: vector(1) + 1}
  - {alert: A, expr: vector(3), annotations: {s: '{{ query \"vector(5)\" | first | value }}'}}
";

/// Texts of queries that are asked, with the rest of the request.
const ASKED: [(&str, &str); 4] = [
    ("vector(7)", "query?time=90.5"),
    ("vector(8)", "query_range?start=1.5&end=10&step=2.5"),
    ("vector(9)", "query_range?start=0&end=600&step=1m"),
    (
        "vector(1) * on () (vector(6) or label_replace(vector(1), 'a', 'b', '', ''))",
        "query?time=60",
    ),
];

fn ask(base: &str) {
    for (query, path) in ASKED {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        http_get(&format!("{base}/api/v1/{path}&query={query}")).expect("an answer");
    }
    http_post(&format!("{base}/api/v1/query?query=vector(4)&time=30")).expect("an answer");
    http_get(&format!("{base}/api/v1/query?query=vector(")).expect("an answer");
}

fn lines(file: &Path) -> Vec<Json> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The first line about a query.
fn about(file: &Path, query: &str) -> Option<Json> {
    lines(file).into_iter().find(|line| line["params"]["query"] == query)
}

/// Every key, by its path.
fn keys(value: &Json, path: &str, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        keys(value, &path, found);
        found.insert(path);
    }
}

fn start(dir: &Path) -> (Program, String) {
    let address = free_address();
    let args = [
        "serve".to_owned(),
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        "--web.enable-lifecycle".to_owned(),
        format!("--web.listen-address={address}"),
    ];
    let mut program = Program::watchfire(&args, dir);
    program.wait_ready(&format!("http://{address}/-/ready"));
    (program, format!("http://{address}"))
}

#[test]
fn queries_are_logged_as_by_prometheus() {
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&theirs, &ours] {
        fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    }
    let Some((_prometheus, their_base)) = start_prometheus(theirs.path(), CONFIG) else { return };
    fs::write(ours.path().join("prometheus.yml"), CONFIG).unwrap();
    let (_watchfire, our_base) = start(ours.path());
    ask(&their_base);
    ask(&our_base);
    let rules = ["vector(1) + 1", "vector(3)", "vector(5)"];
    for query in ASKED.into_iter().map(|(query, _)| query).chain(["vector(4)"]).chain(rules) {
        let line = |dir: &Path| until(PATIENCE, || about(&dir.join("query.log"), query));
        let mut pair = [theirs.path(), ours.path()].map(|dir| line(dir).expect(query));
        let [theirs, ours] = [&pair[0], &pair[1]].map(|line| {
            let mut found = BTreeSet::new();
            keys(line, "", &mut found);
            found
        });
        let more = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
            a.difference(b).cloned().collect::<Vec<String>>()
        };
        // Spans are of those who trace; the rest is what later versions have.
        assert_eq!(more(&theirs, &ours), ["/spanID"], "{query}");
        let later = ["/level", "/msg", "/stats/samples/samplesRead", "/time"];
        assert_eq!(more(&ours, &theirs), later, "{query}");
        if rules.contains(&query) {
            for line in &mut pair {
                assert_eq!(line["params"]["start"], line["params"]["end"], "{query}");
                line["params"] = json!({"step": line["params"]["step"]});
                let file = line["ruleGroup"]["file"].as_str().unwrap_or_default();
                line["ruleGroup"]["file"] = file.ends_with("rules.yml").into();
            }
        }
        for key in ["params", "httpRequest", "ruleGroup"] {
            assert_eq!(pair[1].get(key), pair[0].get(key), "{query}: {key}");
        }
    }
    let asked = about(&ours.path().join("query.log"), "vector(4)").unwrap();
    let by = json!({"clientIP": "127.0.0.1", "method": "POST", "path": "/api/v1/query"});
    assert_eq!(asked["httpRequest"], by);
    assert_eq!(about(&ours.path().join("query.log"), "vector("), None, "it was never evaluated");
}

#[test]
fn the_log_is_opened_anew_changed_and_closed_by_reloads() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = |text: &str| fs::write(at("prometheus.yml"), text).unwrap();
    config("global: {query_log_file: one.log}\n");
    let (_server, base) = start(dir.path());
    let ask = |query: &str| {
        http_get(&format!("{base}/api/v1/query?query={query}&time=1")).expect("an answer");
    };
    let logged = |name: &str, query: &str| {
        until(PATIENCE, || about(&at(name), query)).unwrap_or_else(|| panic!("{query} in {name}"));
    };
    let reload = || http_post(&format!("{base}/-/reload")).expect("an answer");
    let metric = |line: &str| {
        let (_, text) = http_get(&format!("{base}/metrics")).expect("metrics");
        assert!(text.contains(&format!("\n{line}\n")), "want {line} in:\n{text}");
    };
    ask("1");
    logged("one.log", "1");
    metric("prometheus_engine_query_log_enabled 1");
    metric("prometheus_engine_query_log_failures_total 0");
    // As logrotate does.
    fs::rename(at("one.log"), at("one.log.1")).unwrap();
    assert_eq!(reload().0, 200);
    ask("2");
    logged("one.log", "2");
    assert_eq!(about(&at("one.log.1"), "2"), None);
    config("global: {query_log_file: two.log}\n");
    assert_eq!(reload().0, 200);
    ask("3");
    logged("two.log", "3");
    // One that cannot be opened leaves the one of before in place.
    config("global: {query_log_file: absent/three.log}\n");
    let (status, said) = reload();
    assert_eq!(status, 500);
    assert!(said.contains("query_log_file") && said.contains("absent/three.log"), "{said}");
    ask("4");
    logged("two.log", "4");
    config("global: {}\n");
    assert_eq!(reload().0, 200);
    ask("5");
    metric("prometheus_engine_query_log_enabled 0");
    assert_eq!(about(&at("two.log"), "5"), None);
}

#[test]
fn what_waits_for_the_disk_is_written_before_the_process_ends() {
    const QUERIES: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("slow.log");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    fs::write(dir.path().join("prometheus.yml"), "global: {query_log_file: slow.log}\n").unwrap();
    // A disk that takes what fits a pipe, and the rest when the server is to end.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let (mut server, base) = start(dir.path());
    let long = "9".repeat(1000);
    for _ in 0..QUERIES {
        let query = format!("{base}/api/v1/query?query=x%7Ba=%22{long}%22%7D&time=1");
        assert_eq!(http_get(&query).expect("an answer").0, 200);
    }
    let (done, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let ready = || http_get(&format!("{base}/-/ready")).is_ok_and(|(status, _)| status == 200);
        until(PATIENCE, || (!ready()).then_some(()));
        let mut found = 0;
        for line in BufReader::new(reader).lines() {
            found += usize::from(line.is_ok_and(|line| line.contains("9999")));
            if found == QUERIES {
                _ = done.send(());
            }
        }
    });
    assert!(server.terminate(PATIENCE).is_some_and(|status| status.success()));
    assert!(lines.recv_timeout(PATIENCE).is_ok(), "lines were lost");
}
