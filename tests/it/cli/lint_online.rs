//! The checks that ask: a real Prometheus, servers that do not answer as they should, and
//! links that lead somewhere or nowhere.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value as Json;

use super::{said, watchfire};
use crate::support::{http_get, start_prometheus, until};

/// Exit code, and `LINE severity id message | help | notes` for each finding.
fn lint(args: &[&str], dir: &Path) -> (Option<i32>, Vec<String>) {
    let all = [&["rules", "lint", "--output=json", "--min-severity=info"], args].concat();
    let output = watchfire(&all, dir, None);
    let report: Json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {args:?}: {}", said(&output)));
    let found = report["diagnostics"].as_array().expect("a list");
    let text = |v: &Json| v.as_str().unwrap_or_default().to_owned();
    let line = |d: &Json| {
        let mut line = format!(
            "{} {} {} {}",
            d["range"]["line"],
            text(&d["severity"]),
            text(&d["id"]),
            text(&d["message"])
        );
        for help in d["help"].as_array().into_iter().flatten() {
            line += &format!(" | {}", text(&help["text"]));
        }
        for note in d["notes"].as_array().into_iter().flatten() {
            line += &format!(" | {}", text(note));
        }
        line
    };
    (output.status.code(), found.iter().map(line).collect())
}

/// A server that answers every request with what `answer` makes of its path and body, and
/// counts them. An empty answer is none at all: the connection stays open.
fn server(
    answer: impl Fn(usize, &str) -> String + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, answer) = (Arc::clone(&count), Arc::new(answer));
    std::thread::spawn(move || {
        let mut silent: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(request) = read_request(&stream) else { continue };
            let body = answer(counted.fetch_add(1, Ordering::SeqCst), &request);
            if body.is_empty() {
                silent.push(stream);
                continue;
            }
            let _ = (&stream).write_all(body.as_bytes());
        }
    });
    (format!("http://{address}"), count)
}

fn read_request(mut stream: &TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = [0; 65536];
    loop {
        let n = stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
        text += &String::from_utf8_lossy(&buffer[..n]);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|l| {
            let (name, value) = l.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        if body.len() >= length.unwrap_or(0usize) {
            return Some(text);
        }
    }
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// What a Prometheus without any series says to whatever query.
fn nothing() -> String {
    let body = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    response("200 OK", body)
}

const RULES: &str = "\
groups:
- name: g
  rules:
  - record: a:b
    expr: sum(a)
  - alert: A
    expr: a / on (x) b > 1
";

#[test]
fn servers_that_fail_are_reported_and_do_not_hang() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("r.yml"), RULES).expect("a file");
    let check = |url: &str, args: &[&str], code: i32, parts: &[&str]| {
        let all = [&["--server", url, "r.yml"], args].concat();
        let (got, found) = lint(&all, dir.path());
        let found = found.join("\n");
        assert_eq!(got, Some(code), "{url} {args:?}: {found}");
        for part in parts {
            assert!(found.contains(part), "{url}: no {part:?} in\n{found}");
        }
    };
    // Nobody there, no answer, no HTTP, no JSON, no Prometheus.
    check(
        "http://127.0.0.1:1",
        &[],
        1,
        &[
            "error server/answer the server cannot be asked: http://127.0.0.1:1: ",
            "| the checks that need it found nothing to go by",
        ],
    );
    let (silent, _) = server(|_, _| String::new());
    check(&silent, &["--server.timeout=300ms"], 1, &["the server cannot be asked: ", "timed out"]);
    let (noise, _) = server(|_, _| "hello\r\n\r\n".to_owned());
    check(&noise, &[], 1, &["error server/answer the server cannot be asked: "]);
    let (page, _) = server(|_, _| response("200 OK", "<html>welcome</html>"));
    check(&page, &[], 1, &["server answered HTTP status 200, not Prometheus' JSON"]);
    let (other, _) = server(|_, _| response("502 Bad Gateway", "{\"oh\": []}"));
    check(&other, &[], 1, &["server answered HTTP status 502, not Prometheus' JSON"]);
    // What needs no server is said all the same.
    fs::write(dir.path().join("bad.yml"), RULES.replace("> 1", "")).expect("a file");
    let (_, found) = lint(&["--server", "http://127.0.0.1:1", "bad.yml"], dir.path());
    assert!(found.iter().any(|f| f.contains("alerts/comparison")), "{found:?}");
    // One that breaks after the first answers is left alone.
    let mut many = "groups:\n- name: g\n  rules:\n".to_owned();
    for i in 0..200 {
        many += &format!("  - record: r:{i}\n    expr: sum(x{i})\n");
    }
    fs::write(dir.path().join("r.yml"), many).expect("a file");
    let (broken, count) =
        server(|n, _| if n == 0 { nothing() } else { response("500 Oh", "<html>") });
    check(
        &broken,
        &["--fail-on=error"],
        0,
        &[
            "warning server/answer the server did not answer about this rule: not asked, as 8 requests in a row had no answer",
        ],
    );
    assert!(count.load(Ordering::SeqCst) <= 24, "{count:?} requests");
    let (fine, count) = server(|_, _| nothing());
    check(
        &fine,
        &["--server.max-requests=20", "--fail-on=error"],
        0,
        &["not asked, as --server.max-requests were made"],
    );
    assert_eq!(count.load(Ordering::SeqCst), 20);
}

#[test]
fn what_is_the_same_is_asked_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = "groups:\n- name: g\n  rules:\n".to_owned();
    for i in 0..30 {
        text += &format!(
            "  - record: r:{i}\n    expr: sum(x{{job=\"a\"}})\n    labels: {{i: '{i}'}}\n"
        );
    }
    fs::write(dir.path().join("r.yml"), text).expect("a file");
    let (url, count) = server(|_, _| nothing());
    let chosen = "--lint=none,promql/series,query/cost,promql/features";
    lint(&["--server", &url, chosen, "r.yml"], dir.path());
    let (once, all) = (count.load(Ordering::SeqCst), 30 * 4);
    assert!(once < 25 && once < all, "{once} requests");
}

#[test]
fn links_are_followed_where_a_policy_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let (url, count) = server(|_, request| match request.split(' ').nth(1) {
        Some("/ok") if request.to_lowercase().contains("x-key: secret") => {
            response("200 OK", "fine")
        }
        Some("/moved") => response("302 Found\r\nLocation: /ok", ""),
        _ => response("404 Not Found", "no"),
    });
    let rules = format!(
        "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    annotations:\n      ok: {url}/ok\n      gone: see {url}/gone.\n      again: {url}/gone\n      moved: {url}/moved\n      templated: {url}/{{{{ $labels.job }}}}\n      other: https://example.invalid/\n      rewritten: wiki {url}/wiki/ok\n      dead: http://127.0.0.1:1/x\n"
    );
    fs::write(dir.path().join("r.yml"), rules).expect("a file");
    let settings = format!(
        "rules:\n- link:\n  - {{url: '{url}/wiki/(.+)', uri: '{url}/$1', headers: {{X-Key: secret}}}}\n  - {{url: 'http://127.0.0.1:.+', headers: {{X-Key: secret}}, severity: warning, comment: runbooks must exist}}\n"
    );
    fs::write(dir.path().join("lint.yml"), settings).expect("a file");
    let chosen = ["--lint=none,rule/link", "--lint.config=lint.yml", "r.yml"];
    let (code, mut found) = lint(&chosen, dir.path());
    let dead = found.pop().expect("a finding");
    assert_eq!(
        found,
        [
            "8 warning rule/link the link is answered with HTTP status 404 | runbooks must exist",
            "9 warning rule/link the link is answered with HTTP status 404 | runbooks must exist",
        ]
    );
    assert!(dead.starts_with("14 warning rule/link the link leads nowhere: "), "{dead}");
    assert_eq!(code, Some(0));
    // /ok, /gone, /moved and where it leads.
    assert_eq!(count.load(Ordering::SeqCst), 4);
    // Without the policy nobody is asked.
    assert_eq!(lint(&["--lint=none,rule/link", "r.yml"], dir.path()), (Some(0), Vec::new()));
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

/// The checks below against a real Prometheus, which scrapes itself.
const ASKED: &str = "\
groups:
- name: g
  rules:
  - record: region:up:sum
    expr: sum(up)
    labels: {region: us}
  - record: all:up:sum
    expr: sum(up)
    labels: {job: all}
  - alert: Down
    expr: up == 0
    labels: {job: x, zone: eu-1}
    annotations:
      text: '{{ $externalLabels.regoin }} {{ $externalLabels.region }}'
  - record: long
    expr: rate(prometheus_http_requests_total[20d])
  - record: far
    expr: up offset 30d
  - record: both
    expr: max_over_time(up[10d] offset 10d)
  - record: newer
    expr: mad_over_time(up[5m])
  - alert: Apart
    expr: up and on (version) go_info > 5
  - record: many
    expr: prometheus_http_requests_total * on (job) prometheus_http_requests_total
  - record: fine
    expr: up * on (instance) group_left (version) go_info
  - record: job:requests:rate5m
    expr: sum by (job) (rate(prometheus_http_requests_total[5m]))
  - alert: Requests # watchfire: disable promql/features
    expr: sum by (job) (rate(prometheus_http_requests_total[5m])) > 1e9
";

#[test]
fn a_real_server_is_asked_about_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = "global: {scrape_interval: 1s, external_labels: {region: eu, zone: eu-1}}\nscrape_configs:\n- job_name: self\n  static_configs: [{targets: [SELF]}]\n";
    let Some((_program, base)) = start_prometheus(dir.path(), config) else { return };
    let ready = until(Duration::from_secs(30), || {
        let path = "/api/v1/query?query=rate(prometheus_http_requests_total[30s])";
        let (_, body) = http_get(&format!("{base}{path}")).ok()?;
        body.contains("\"value\"").then_some(())
    });
    assert!(ready.is_some(), "it never had two scrapes");
    fs::write(dir.path().join("r.yml"), ASKED).expect("a file");
    fs::write(dir.path().join("lint.yml"), "cost: {max_series: 1, comment: be brief}\n")
        .expect("a file");
    let chosen = "--lint=none,labels/conflict,alerts/external_labels,promql/range_query,promql/offset,promql/features,promql/vector_matching,query/cost,server/answer";
    let features = "--enable-feature=promql-experimental-functions";
    let args = ["--server", &base, chosen, features, "--lint.config=lint.yml", "r.yml"];
    let (code, found) = lint(&args, dir.path());
    let (costs, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|line| line.contains(" query/cost "));
    let expected = [
        "6 warning labels/conflict `region` is an external label of the server as well | choose another name | there it is \"eu\"; what leaves the server with a label of the rule's keeps that one",
        "12 warning labels/conflict `job` is a label of targets, which the rule replaces | choose another name, or aggregate `job` away | series that differ in this label alone become one, and the rule fails",
        "12 info labels/conflict `zone` has this value already, as an external label | leave it out",
        "14 bug alerts/external_labels the server has no external label `regoin` | did you mean `region`?",
        "16 warning promql/range_query this reads 20d back, and the server keeps 15d",
        "18 bug promql/offset this looks 30d back, where there is nothing: the server keeps 15d",
        "20 warning promql/range_query this reads 20d back, and the server keeps 15d | 10d of window and 10d of offset",
        "22 bug promql/features the server does not take this: 1:1: parse error: unknown function with name \"mad_over_time\" | start it with --enable-feature=promql-experimental-functions | it says it is version 2.42.0",
        "24 bug promql/vector_matching on the server no series of the left side matches one of the right | only the right side has `version`",
    ];
    for (line, expected) in others.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nis not\n{expected}");
    }
    let many = &others[expected.len()];
    assert!(
        others.len() == expected.len() + 1
            && many.starts_with("26 bug promql/vector_matching the server cannot match the two sides: found duplicate series for the match group"),
        "{others:#?}"
    );
    let has = |part: &str| assert!(costs.iter().any(|c| c.contains(part)), "{part}: {costs:#?}");
    has("5 info query/cost an evaluation gives 1 series, reads 1 samples (");
    has("5 info query/cost an evaluation gives 1 series");
    has("bug query/cost this costs too much: ");
    has("series in its result, and at most 1 are allowed | be brief");
    has(
        "32 info query/cost `job:requests:rate5m` is recorded with just this | read `job:requests:rate5m`; it is up to one interval old",
    );
    assert_eq!(code, Some(3));
    // A comment silences the new checks as it does the others.
    let silenced =
        ASKED.replace("  - record: far\n", "  # pint disable promql/offset\n  - record: far\n");
    fs::write(dir.path().join("r.yml"), silenced).expect("a file");
    let (_, found) = lint(&["--server", &base, "--lint=none,promql/offset", "r.yml"], dir.path());
    assert_eq!(found, [] as [&str; 0]);
}
