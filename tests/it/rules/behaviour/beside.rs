//! The edits of `reload`, made under a real Prometheus: it keeps the state of the same
//! alerts. Debian's is 2.42, which does not know all fields yet.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use super::reload::{CASES, Case, RULES};
use crate::support::{Program, free_address, http_get, http_post, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of the alert at the first evaluation after the edit.
fn expected(case: &Case) -> &'static str {
    let posted = |part: &str| case.posted.iter().any(|p| p.contains(part));
    match () {
        () if case.posted.is_empty() || posted("30..40") => "gone",
        () if posted(" 60..") => "anew",
        () => "kept",
    }
}

/// In a two-hundredth of the time, and with the data that `reload` stores.
fn quick(rules: &str) -> String {
    let rules = ["10", "20", "50", "70"].iter().fold(rules.to_owned(), |text, seconds| {
        let ms = 5 * seconds.parse::<u32>().unwrap();
        text.replace(&format!(" {seconds}s"), &format!(" {ms}ms"))
    });
    format!("{rules}\n- {{name: data, rules: [{{record: x, expr: '5'}}]}}\n")
}

struct Prometheus {
    base: String,
    _program: Program,
}

impl Prometheus {
    fn start(dir: &Path) -> Option<Self> {
        let config = "global: {evaluation_interval: 50ms}\nrule_files: ['rules/*.yml']\n";
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        std::fs::create_dir(dir.join("rules")).unwrap();
        let address = free_address();
        let args = [
            format!("--config.file={}", dir.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            format!("--web.listen-address={address}"),
            "--web.enable-lifecycle".to_owned(),
        ];
        let mut program = Program::start("prometheus", &args)?;
        let base = format!("http://{address}");
        program.wait_ready(&format!("{base}/-/ready"));
        Some(Self { base, _program: program })
    }

    fn groups(&self) -> Vec<Json> {
        let (_, text) = http_get(&format!("{}/api/v1/rules", self.base)).unwrap();
        let answer: Json = serde_json::from_str(&text).unwrap();
        answer["data"]["groups"].as_array().unwrap().clone()
    }

    /// The alert, when it is active: its state and since when.
    fn alert(&self) -> Option<(String, String)> {
        let rules = self.groups().into_iter().flat_map(|g| g["rules"].as_array().unwrap().clone());
        let alert = rules.into_iter().find_map(|rule| rule["alerts"].get(0).cloned())?;
        let text = |name: &str| alert[name].as_str().unwrap().to_owned();
        Some((text("state"), text("activeAt")))
    }

    /// Puts rules in place and waits until all of them were evaluated twice since: what
    /// they read may come from the first time.
    fn load(&self, dir: &Path, file: &str, rules: &str) {
        for entry in std::fs::read_dir(dir.join("rules")).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        std::fs::write(dir.join("rules").join(file), rules).unwrap();
        let (status, text) = http_post(&format!("{}/-/reload", self.base)).unwrap();
        assert_eq!(status, 200, "{text}\n{rules}");
        for _ in 0..2 {
            let times = || -> Vec<String> {
                let groups = self.groups();
                groups.iter().map(|g| g["lastEvaluation"].as_str().unwrap().to_owned()).collect()
            };
            let before = times();
            let all = || {
                let now = times();
                now.iter().zip(&before).all(|(now, before)| now > before).then_some(())
            };
            until(PATIENCE, all).expect("evaluations");
        }
    }
}

#[test]
fn a_real_prometheus_keeps_the_state_of_the_same_alerts() {
    let dir = tempfile::tempdir().unwrap();
    let Some(prometheus) = Prometheus::start(dir.path()) else { return };
    let unknown = ["query_offset", "labels: {g"];
    for case in CASES.iter().filter(|c| !unknown.iter().any(|field| c.to.contains(field))) {
        // Without the group first: every case begins anew.
        prometheus.load(dir.path(), "f.yml", &quick("groups:"));
        prometheus.load(dir.path(), "f.yml", &quick(RULES));
        let firing = || prometheus.alert().filter(|(state, _)| state == "firing");
        let (_, since) = until(PATIENCE, firing).expect(case.edit);
        prometheus.load(dir.path(), case.file(), &quick(&case.changed()));
        let got = match prometheus.alert() {
            None => "gone",
            Some((_, now)) if now == since => "kept",
            Some(_) => "anew",
        };
        assert_eq!(got, expected(case), "{}", case.edit);
    }
}

const ALERT: &str = r#"
groups:
- name: g
  rules:
  - alert: Odd
    expr: label_replace(vector(5), "i", "a b+c", "", "") * 2 >
      0  # not as it is printed
    labels: {team: t, note: '"x" & <y>', none: ''}
    annotations:
      text: '{{ $labels.i }} has {{ $value }} of {{ $externalLabels.cluster }}'
      empty: ''
      lines: "two\nlines <&>"
"#;

/// Headers and body of the first request to `/api/v2/alerts` below a prefix.
fn first_post(listener: &std::net::TcpListener) -> (String, Json) {
    listener.set_nonblocking(true).unwrap();
    let (mut stream, _) = until(PATIENCE, || listener.accept().ok()).expect("a request");
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        text.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8(text.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            return (head.to_lowercase(), body);
        }
        assert!(length > 0, "half a request: {text}");
    }
}

/// What is posted about the alert, without its times, which are checked.
fn posted(listener: &std::net::TcpListener) -> Json {
    let (head, mut body) = first_post(listener);
    assert!(head.starts_with("post /am/api/v2/alerts http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
    let alert = body[0].as_object_mut().unwrap();
    let mut time = |name: &str| {
        let text = alert.remove(name).unwrap().as_str().unwrap().to_owned();
        assert_eq!(text.len(), "2006-01-02T15:04:05.000Z".len(), "{text}");
        chrono::DateTime::parse_from_rfc3339(&text).unwrap().timestamp_millis()
    };
    // Both are ticks, but for the four resend delays on top.
    let (start, end) = (time("startsAt"), time("endsAt"));
    assert!(end - start >= 4000 && (end - start) % 200 == 0, "{start}..{end}");
    body
}

#[test]
fn a_real_prometheus_posts_the_same_about_an_alert() {
    if !crate::support::available("prometheus") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), ALERT).unwrap();
    let start = |name: &str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = format!(
            "global: {{evaluation_interval: 200ms, external_labels: {{cluster: c, team: other}}}}\n\
             rule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{path_prefix: /am, static_configs: [{{targets: ['{}']}}]}}]}}\n",
            listener.local_addr().unwrap()
        );
        let file = dir.path().join(format!("{name}.yml"));
        std::fs::write(&file, config).unwrap();
        let mut args = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", dir.path().join(name).display()),
            format!("--web.listen-address={}", free_address()),
            "--web.external-url=http://p.example:9/pre".to_owned(),
            // Prometheus learns of its Alertmanagers seconds after its first evaluation.
            "--rules.alert.resend-delay=1s".to_owned(),
        ];
        let program = if name == "prometheus" {
            Program::start(name, &args).unwrap()
        } else {
            args.insert(0, "serve".to_owned());
            Program::watchfire(&args, dir.path())
        };
        (program, listener)
    };
    let (_theirs, their_listener) = start("prometheus");
    let (_ours, our_listener) = start("watchfire");
    let ours = posted(&our_listener);
    assert_eq!(ours, posted(&their_listener));
    assert_eq!(ours[0]["annotations"]["empty"], "");
}
