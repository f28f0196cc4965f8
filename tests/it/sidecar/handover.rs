//! A replica takes over from a peer that is killed: what the Alertmanagers hear goes on.
//!
//! Each replica has a store of its own and is sent the samples. So that what each of them
//! says is known, each has an Alertmanager of its own; a real one hears both.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value as Json;
use watchfire::remote_write::{encode, proto};

use super::{PATIENCE, Server};
use crate::remote_read::credentials::{HASHED, certificate};
use crate::serve::start_alertmanager_with;
use crate::support::{Program, available, free_address, http_get, serve_app, until};

const RULES: &str = "
groups:
- name: alerts
  interval: 1s
  rules:
  - alert: Pending
    expr: v{kind='pending'} > 0
    for: 1h
  - alert: Firing
    expr: v{kind='firing'} > 0
    for: 2s
    annotations: {value: '{{ $value }}'}
  - alert: Many
    expr: v{kind=~'many.*'} > 0
  - alert: Kept
    expr: v{kind='kept'} > 0
    keep_firing_for: 1h
  - alert: Done
    expr: v{kind='done'} > 0
";

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

type Heard = Arc<Mutex<Vec<(i64, Json)>>>;

/// An Alertmanager that keeps what it hears, with when.
fn alertmanager(runtime: &tokio::runtime::Runtime) -> (SocketAddr, Heard) {
    async fn take(State(heard): State<Heard>, body: String) {
        let all: Json = serde_json::from_str(&body).unwrap();
        let all = all.as_array().unwrap().iter().map(|alert| (now_ms(), alert.clone()));
        heard.lock().unwrap().extend(all);
    }
    let heard = Heard::default();
    let app = Router::new().route("/api/v2/alerts", post(take)).with_state(heard.clone());
    (runtime.block_on(serve_app(app)), heard)
}

/// What was heard of each alert, as (when, startsAt, endsAt) in order.
fn story(heard: &Heard) -> BTreeMap<String, Vec<(i64, i64, i64)>> {
    let mut story: BTreeMap<String, Vec<(i64, i64, i64)>> = BTreeMap::new();
    let ms = |v: &Json| {
        let text = v.as_str().unwrap();
        chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    };
    for (at, alert) in heard.lock().unwrap().iter() {
        let of = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        let name = format!("{} {}", of("alertname"), of("kind"));
        story.entry(name).or_default().push((*at, ms(&alert["startsAt"]), ms(&alert["endsAt"])));
    }
    story
}

fn start(dir: &Path, name: &str, alertmanager: SocketAddr, more: &[String]) -> Server {
    Server::start(dir, free_address(), &args(dir, name, alertmanager, more))
}

/// Flags of a replica whose files are in a folder of its own.
fn args(dir: &Path, name: &str, alertmanager: SocketAddr, more: &[String]) -> Vec<String> {
    let home = dir.join(name);
    fs::create_dir_all(&home).unwrap();
    // Not below the same path: a file is found by its last part.
    fs::write(home.join("rules.yml"), RULES).unwrap();
    let config = format!(
        "rule_files: [rules.yml]\nalerting: {{alertmanagers: [{{static_configs: [{{targets: ['{alertmanager}']}}]}}]}}\n"
    );
    fs::write(home.join("c.yml"), config).unwrap();
    let mut args = vec![
        "serve".to_owned(),
        format!("--config.file={}", home.join("c.yml").display()),
        format!("--storage.tsdb.path={}", home.join("data").display()),
        "--web.enable-remote-write-receiver".to_owned(),
        "--rules.alert.resend-delay=2s".to_owned(),
    ];
    args.extend(more.iter().cloned());
    args
}

/// A sample, as it is sent now.
fn sample(kind: &str, value: f64) -> Vec<u8> {
    samples(&[(kind, value)])
}

/// Sends a sample of each kind, now.
fn feed(runtime: &tokio::runtime::Runtime, server: &Server, values: &[(&str, f64)]) {
    let url = format!("http://{}/api/v1/write", server.address);
    let answer = runtime.block_on(reqwest::Client::new().post(url).body(samples(values)).send());
    assert_eq!(answer.unwrap().status().as_u16(), 204);
}

fn samples(values: &[(&str, f64)]) -> Vec<u8> {
    let label = |name: &str, value: &str| proto::Label { name: name.into(), value: value.into() };
    let timestamp = now_ms();
    let series = values.iter().map(|(kind, value)| proto::TimeSeries {
        labels: vec![label("__name__", "v"), label("kind", kind)],
        samples: vec![proto::Sample { value: *value, timestamp }],
        ..proto::TimeSeries::default()
    });
    let request = proto::WriteRequest { timeseries: series.collect(), metadata: Vec::new() };
    encode(&request).unwrap()
}

/// Since when an alert is active, in which state, and since when it is kept.
fn shown(server: &Server, name: &str) -> Vec<(String, String, String)> {
    let text = |v: &Json| v.as_str().unwrap_or_default().to_owned();
    let alerts = server.alerts(name);
    let one = |a: &Json| (text(&a["activeAt"]), text(&a["state"]), text(&a["keepFiringSince"]));
    let mut all: Vec<_> = alerts.iter().map(one).collect();
    all.sort();
    all
}

#[test]
fn nothing_ends_or_begins_anew_when_a_killed_peer_is_taken_over_from() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    watchfire::http::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let (first_to, first_heard) = alertmanager(&runtime);
    let (second_to, second_heard) = alertmanager(&runtime);
    let mut first = start(dir.path(), "first", first_to, &[]);
    let holds = [("pending", 1.0), ("firing", 1.0), ("many1", 1.0), ("many2", 1.0)];
    let begin = [&holds[..], &[("kept", 1.0), ("done", 1.0)]].concat();
    let end = [&holds[..], &[("kept", 0.0), ("done", 0.0)]].concat();
    let names = ["Pending", "Firing", "Many", "Kept"];
    let state = |server: &Server, name: &str| shown(server, name).first().map(|a| a.1.clone());
    // Pending, firing, ended but kept, and ended, each told to the Alertmanager.
    let ready = until(PATIENCE, || {
        feed(&runtime, &first, &begin);
        let heard = story(&first_heard);
        ["Firing firing", "Kept kept", "Done done", "Many many2"]
            .iter()
            .all(|name| heard.contains_key(*name))
            .then_some(())
    });
    assert!(ready.is_some(), "{}", first.program.log());
    let ready = until(PATIENCE, || {
        feed(&runtime, &first, &end);
        let kept = shown(&first, "Kept").first().is_some_and(|a| !a.2.is_empty());
        let pending = state(&first, "Pending").as_deref() == Some("pending");
        let ended = story(&first_heard)["Done done"].iter().any(|(at, _, ends)| ends <= at);
        (kept && pending && ended && state(&first, "Done").is_none()).then_some(())
    });
    assert!(ready.is_some(), "{}", first.program.log());
    let before: Vec<_> = names.iter().map(|name| shown(&first, name)).collect();

    // The second one has no samples at all when it takes over, and its peer is killed.
    let peer = [format!("--state.peer=http://{}", first.address)];
    let second = start(dir.path(), "second", second_to, &peer);
    let taken = until(PATIENCE, || (shown(&second, "Many").len() == 2).then_some(()));
    assert!(taken.is_some(), "{}", second.program.log());
    first.program.kill();
    let heard_twice = || {
        let heard = story(&second_heard);
        ["Firing firing", "Kept kept", "Many many1", "Many many2"]
            .iter()
            .all(|name| heard.get(*name).is_some_and(|told| told.len() >= 2))
            .then_some(())
    };
    let told = until(PATIENCE, heard_twice);
    assert!(told.is_some(), "{:?}\n{}", story(&second_heard), second.program.log());
    let now: Vec<_> = names.iter().map(|name| shown(&second, name)).collect();
    assert_eq!(now, before, "without samples\n{}", second.program.log());
    // One series after the other comes.
    for count in 1..=end.len() {
        let evaluated = second.alerts("Many").len();
        assert_eq!(evaluated, 2);
        let told = story(&second_heard)["Firing firing"].len();
        feed(&runtime, &second, &end[..count]);
        let later = until(PATIENCE, || {
            feed(&runtime, &second, &end[..count]);
            (story(&second_heard)["Firing firing"].len() > told).then_some(())
        });
        assert!(later.is_some(), "{}", second.program.log());
        let now: Vec<_> = names.iter().map(|name| shown(&second, name)).collect();
        assert_eq!(now, before, "with {count} series\n{}", second.program.log());
    }
    let (theirs, ours) = (story(&first_heard), story(&second_heard));
    for (name, told) in &ours {
        let (_, starts, ends) = theirs[name][0];
        for (at, now_starts, now_ends) in told {
            assert_eq!(*now_starts, starts, "{name} began when it did");
            let is_over = *now_ends <= *at;
            assert_eq!(is_over, name == "Done done", "{name}: {told:?} {ends}");
        }
    }
    assert!(!ours.contains_key("Pending pending"));
    // What does end then ends, and its end is told.
    let ended = until(Duration::from_secs(60), || {
        let mut last = end.clone();
        last[1].1 = 0.0;
        feed(&runtime, &second, &last);
        let story = story(&second_heard);
        story["Firing firing"].iter().any(|(at, _, ends)| ends <= at).then_some(())
    });
    assert!(ended.is_some(), "{}", second.program.log());
}

/// What a webhook of Alertmanager heard: `(status, alertname, startsAt, fingerprint)`.
type Notified = Arc<Mutex<Vec<(String, String, String, String)>>>;

fn webhook(runtime: &tokio::runtime::Runtime) -> (SocketAddr, Notified) {
    async fn take(State(notified): State<Notified>, body: String) {
        let all: Json = serde_json::from_str(&body).unwrap();
        let text = |v: &Json| v.as_str().unwrap_or_default().to_owned();
        let alerts = all["alerts"].as_array().unwrap().iter();
        let alerts = alerts.map(|a| {
            let name = text(&a["labels"]["alertname"]);
            (text(&a["status"]), name, text(&a["startsAt"]), text(&a["fingerprint"]))
        });
        notified.lock().unwrap().extend(alerts);
    }
    let notified = Notified::default();
    let app = Router::new().fallback(post(take)).with_state(notified.clone());
    (runtime.block_on(serve_app(app)), notified)
}

/// Both replicas tell one real Alertmanager, and the second asks the first with TLS and a
/// password.
#[test]
fn to_a_real_alertmanager_the_alert_is_one_over_the_hand_over() {
    if !available("prometheus-alertmanager") || !available("openssl") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    watchfire::http::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let (hook, notified) = webhook(&runtime);
    let config = format!(
        "route: {{receiver: hook, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://{hook}/', \
         send_resolved: true}}]}}]\n"
    );
    let (alertmanager, to) = start_alertmanager_with(dir.path(), &config).unwrap();
    let alerts = || {
        let (_, body) = http_get(&format!("http://{to}/api/v2/alerts")).expect("an answer");
        let all: Json = serde_json::from_str(&body).unwrap();
        let all = all.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|a| a["labels"]["alertname"] == "Firing")
    };

    // The first one lets nobody in without the password.
    let web = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n";
    let web = format!("{web}basic_auth_users: {{reader: '{HASHED}'}}\n");
    fs::write(dir.path().join("web.yml"), web).unwrap();
    let first_at = free_address();
    let web_file = format!("--web.config.file={}", dir.path().join("web.yml").display());
    let more = [web_file, format!("--web.listen-address={first_at}")];
    let mut first = Program::watchfire(&args(dir.path(), "first", to, &more), dir.path());
    let ca = fs::read(dir.path().join("cert.pem")).unwrap();
    let client = reqwest::Client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(&ca).unwrap())
        .build()
        .unwrap();
    let base = format!("https://{first_at}");
    let feed_first = |value: f64| {
        let body = sample("firing", value);
        let request =
            client.post(format!("{base}/api/v1/write")).basic_auth("reader", Some("secret"));
        runtime.block_on(request.body(body).send()).is_ok_and(|answer| answer.status() == 204)
    };
    let active = until(PATIENCE, || {
        feed_first(1.0);
        alerts()
    });
    let before = active.unwrap_or_else(|| panic!("{}", first.log()));
    let heard = until(PATIENCE, || notified.lock().unwrap().first().cloned());
    let heard = heard.expect("a notification");
    assert_eq!((heard.0.as_str(), heard.1.as_str()), ("firing", "Firing"));

    // Without the password, or the certificate, it cannot be asked: that is said.
    let peer = format!("--state.peer={base}");
    let option = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        format!("--state.peer.http.config.file={}", file.display())
    };
    let tls = "tls_config: {ca_file: cert.pem}\n";
    let stranger = option("no-password.yml", tls);
    let third = start(dir.path(), "third", free_address(), &[peer.clone(), stranger]);
    let told = until(PATIENCE, || third.program.log().contains("401 Unauthorized").then_some(()));
    assert!(told.is_some(), "{}", third.program.log());
    drop(third);

    let known =
        option("peer.yml", &format!("{tls}basic_auth: {{username: reader, password: secret}}\n"));
    let second = start(dir.path(), "second", to, &[peer, known]);
    let taken = until(PATIENCE, || {
        feed_first(1.0);
        second.alerts("Firing").pop()
    });
    let taken = taken.unwrap_or_else(|| panic!("{}", second.program.log()));
    first.kill();
    // The last word of the first one ends; that of the second one holds.
    let ms = |v: &Json| {
        let text = v.as_str().unwrap_or_default();
        chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    };
    let last_word_ms = ms(&alerts().expect("it is active")["endsAt"]);
    let later = until(PATIENCE, || {
        feed(&runtime, &second, &[("firing", 1.0)]);
        (now_ms() > last_word_ms + 2000).then_some(())
    });
    assert!(later.is_some());
    let now = alerts().unwrap_or_else(|| panic!("it ended\n{}", second.program.log()));
    assert_eq!(now["status"]["state"], "active");
    assert_eq!(
        (&now["fingerprint"], &now["startsAt"]),
        (&before["fingerprint"], &before["startsAt"])
    );
    // It was pending for two seconds, in the first one.
    assert!(ms(&taken["activeAt"]) <= ms(&before["startsAt"]) - 2000, "{taken}");
    assert!(ms(&now["endsAt"]) > last_word_ms, "{now}");
    let all = notified.lock().unwrap().clone();
    assert_eq!(all, std::slice::from_ref(&heard), "one notification, and none that it is resolved");

    let resolved = until(Duration::from_secs(60), || {
        feed(&runtime, &second, &[("firing", 0.0)]);
        notified.lock().unwrap().get(1).cloned()
    });
    let resolved = resolved.unwrap_or_else(|| panic!("{}", second.program.log()));
    assert_eq!((resolved.0.as_str(), &resolved.2, &resolved.3), ("resolved", &heard.2, &heard.3));
    drop(alertmanager);
}
