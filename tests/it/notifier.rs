//! Delivery of alerts: against the real Alertmanager, and against listeners that refuse,
//! hang or hold an answer back for as long as a test wants.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value as Json;
use tokio::sync::{Semaphore, mpsc};
use watchfire::discovery::{DiscoveryMetrics, StaticConfig};
use watchfire::http::config::{Authorization, BasicAuth};
use watchfire::http::{Client, ClientConfig, Secret};
use watchfire::model::{Clock, Labels};
use watchfire::notifier::{
    AlertingConfig, AlertmanagerConfig, Manager, Notifier, NotifierOptions, NotifierView,
    OutgoingAlert, Receipt,
};
use watchfire::relabel::RelabelConfig;
use watchfire::telemetry::Registry;
use watchfire::telemetry::clock::SystemClock;

use crate::support::serve_app;

/// An Alertmanager that passes on what it gets and answers when it is let.
struct Mock {
    address: SocketAddr,
    posts: mpsc::UnboundedReceiver<(HeaderMap, Json)>,
    /// A permit for each answer.
    answers: Arc<Semaphore>,
}

#[derive(Clone)]
struct MockState {
    posts: mpsc::UnboundedSender<(HeaderMap, Json)>,
    answers: Arc<Semaphore>,
    authorization: Option<&'static str>,
}

async fn take(State(mock): State<MockState>, headers: HeaderMap, body: String) -> StatusCode {
    let sent = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
    if sent.as_deref() != mock.authorization {
        return StatusCode::UNAUTHORIZED;
    }
    mock.posts.send((headers, serde_json::from_str(&body).unwrap())).unwrap();
    mock.answers.acquire().await.unwrap().forget();
    StatusCode::OK
}

impl Mock {
    /// One that answers at once.
    async fn start(authorization: Option<&'static str>) -> Self {
        let mock = Self::held(authorization).await;
        mock.answers.add_permits(1000);
        mock
    }

    /// One that waits for permits.
    async fn held(authorization: Option<&'static str>) -> Self {
        let (sender, posts) = mpsc::unbounded_channel();
        let answers = Arc::new(Semaphore::new(0));
        let state = MockState { posts: sender, answers: answers.clone(), authorization };
        let app = Router::new().route("/api/v2/alerts", post(take)).with_state(state);
        let address = serve_app(app).await;
        Self { address, posts, answers }
    }

    /// Names of the alerts of the next request.
    async fn names(&mut self) -> Vec<String> {
        let (_, body) = self.posts.recv().await.unwrap();
        let name = |a: &Json| a["labels"]["alertname"].as_str().unwrap().to_owned();
        body.as_array().unwrap().iter().map(name).collect()
    }

    fn config(&self) -> AlertmanagerConfig {
        set(&[self.address])
    }
}

fn set(addresses: &[SocketAddr]) -> AlertmanagerConfig {
    let targets = addresses.iter().map(SocketAddr::to_string).collect();
    AlertmanagerConfig {
        // Whoever waits for an Alertmanager that hangs waits until the test fails.
        timeout_ms: 3_600_000,
        static_configs: vec![StaticConfig { targets, labels: BTreeMap::new() }],
        ..AlertmanagerConfig::default()
    }
}

fn alerting(alertmanagers: Vec<AlertmanagerConfig>) -> AlertingConfig {
    AlertingConfig { alertmanagers, ..AlertingConfig::default() }
}

fn manager(options: NotifierOptions) -> (Arc<Manager>, Registry) {
    let mut registry = Registry::default();
    let discovery = DiscoveryMetrics::new(&mut registry);
    let manager = Manager::new(options, Arc::new(SystemClock::default()), discovery, &mut registry);
    (Arc::new(manager), registry)
}

fn alert(name: &str) -> OutgoingAlert {
    let now_ms = SystemClock::default().now_ms();
    OutgoingAlert {
        labels: Labels::from_pairs([("alertname", name), ("job", "node")]),
        annotations: Labels::from_pairs([("summary", "what \"happened\"")]),
        starts_at_ms: now_ms - 1000,
        ends_at_ms: now_ms + 3_600_000,
        generator_url: "http://watchfire.example/graph?g0.expr=up&g0.tab=1".into(),
        receipt: Receipt::default(),
    }
}

fn alerts(names: std::ops::RangeInclusive<u32>) -> Vec<OutgoingAlert> {
    names.map(|i| alert(&i.to_string())).collect()
}

/// The value of a metric in the exposition.
#[track_caller]
fn metric(registry: &Registry, name: &str, address: SocketAddr) -> f64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let url = format!("http://{address}/api/v2/alerts");
    let start = format!("{name}{{alertmanager=\"{url}\"}} ");
    let line = text.lines().find_map(|l| l.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {start}in\n{text}")).parse().unwrap()
}

/// Lets the loops run until a metric has the value.
async fn reaches(registry: &Registry, name: &str, address: SocketAddr, value: f64) {
    while metric(registry, name, address) < value {
        tokio::task::yield_now().await;
    }
    assert_eq!(metric(registry, name, address), value, "{name}");
}

/// The real Alertmanager on a free port, ended with the test.
struct Alertmanager {
    process: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn get(client: &Client, url: &str) -> Option<String> {
    let request = client.request(reqwest::Method::GET, url.parse().unwrap());
    let response = client.execute(request).await.ok()?;
    if response.status().is_success() { response.text().await.ok() } else { None }
}

/// Asks a foreign process until it says what we wait for.
async fn eventually(client: &Client, url: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut last = None;
    for _ in 0..1200 {
        last = get(client, url).await;
        if let Some(text) = last.as_ref().filter(|t| wanted(t)) {
            return text.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{url} never said it; last: {last:?}");
}

impl Alertmanager {
    async fn start(client: &Client) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("alertmanager.yml");
        std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").unwrap();
        let address = free_address();
        if !crate::support::available("prometheus-alertmanager") {
            return None;
        }
        let process = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus-alertmanager starts");
        let this = Self { process, address, _dir: dir };
        eventually(client, &format!("http://{address}/-/ready"), |_| true).await;
        Some(this)
    }
}

#[tokio::test]
async fn the_real_alertmanager_is_not_delayed_by_dead_and_hanging_ones() {
    let client = Client::new(&ClientConfig::default(), "test", Arc::new(SystemClock::default()))
        .await
        .unwrap();
    let Some(real) = Alertmanager::start(&client).await else { return };
    // The kernel completes connections to this one; nobody ever answers.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = free_address();
    let (manager, registry) = manager(NotifierOptions::default());
    let config = alerting(vec![set(&[hanging.local_addr().unwrap(), dead]), set(&[real.address])]);
    let external = Labels::from_pairs([("cluster", "eu"), ("job", "not this one")]);
    manager.apply(&config, &external).await.unwrap();
    assert_eq!(manager.active_alertmanagers().len(), 3);

    manager.send(vec![alert("Down"), alert("Slow")]);
    let url = format!("http://{}/api/v2/alerts?filter=alertname%3DDown", real.address);
    let text = eventually(&client, &url, |t| t.contains("Down")).await;
    let got: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(
        got[0]["labels"],
        serde_json::json!({"alertname": "Down", "cluster": "eu", "job": "node"})
    );
    assert_eq!(got[0]["annotations"], serde_json::json!({"summary": "what \"happened\""}));
    assert_eq!(got[0]["generatorURL"], "http://watchfire.example/graph?g0.expr=up&g0.tab=1");

    let resolved = OutgoingAlert { ends_at_ms: SystemClock::default().now_ms(), ..alert("Down") };
    manager.send(vec![resolved]);
    eventually(&client, &url, |t| t.trim() == "[]").await;
    let others = format!("http://{}/api/v2/alerts", real.address);
    eventually(&client, &others, |t| t.contains("Slow") && !t.contains("Down")).await;

    reaches(&registry, "prometheus_notifications_sent_total", real.address, 3.0).await;
    reaches(&registry, "prometheus_notifications_errors_total", dead, 3.0).await;
    reaches(&registry, "prometheus_notifications_dropped_total", dead, 3.0).await;
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_and_counts_them() {
    let mut mock = Mock::held(None).await;
    let options =
        NotifierOptions { queue_capacity: 5, max_batch_size: 2, ..NotifierOptions::default() };
    let (manager, registry) = manager(options);
    manager.apply(&alerting(vec![mock.config()]), &Labels::empty()).await.unwrap();
    manager.send(alerts(0..=0));
    assert_eq!(mock.names().await, ["0"]);
    // Under way: the queue is empty again. Eight do not fit, nor do two more.
    manager.send(alerts(1..=8));
    manager.send(alerts(9..=10));
    let dropped = "prometheus_notifications_dropped_total";
    assert_eq!(metric(&registry, dropped, mock.address), 5.0);
    assert_eq!(metric(&registry, "prometheus_notifications_queue_length", mock.address), 5.0);
    mock.answers.add_permits(10);
    assert_eq!(mock.names().await, ["6", "7"]);
    assert_eq!(mock.names().await, ["8", "9"]);
    assert_eq!(mock.names().await, ["10"]);
    manager.shutdown().await;
}

#[tokio::test]
async fn shutting_down_drains_the_queue_unless_told_not_to() {
    let mut mock = Mock::held(None).await;
    let options = NotifierOptions { max_batch_size: 2, ..NotifierOptions::default() };
    let (draining, _registry) = manager(options.clone());
    draining.apply(&alerting(vec![mock.config()]), &Labels::empty()).await.unwrap();
    draining.send(alerts(1..=5));
    assert_eq!(mock.names().await, ["1", "2"]);
    let shutdown = tokio::spawn({
        let manager = draining.clone();
        async move { manager.shutdown().await }
    });
    mock.answers.add_permits(3);
    shutdown.await.unwrap();
    assert_eq!(mock.names().await, ["3", "4"]);
    assert_eq!(mock.names().await, ["5"]);
    assert!(draining.active_alertmanagers().is_empty());
    draining.send(alerts(6..=6));
    assert!(draining.apply(&alerting(vec![]), &Labels::empty()).await.is_err());

    let (leaving, _registry) = manager(NotifierOptions { drain_on_shutdown: false, ..options });
    leaving.apply(&alerting(vec![mock.config()]), &Labels::empty()).await.unwrap();
    leaving.send(alerts(1..=5));
    assert_eq!(mock.names().await, ["1", "2"]);
    // Nobody answers, and yet it ends.
    leaving.shutdown().await;
    assert!(mock.posts.try_recv().is_err());
}

#[tokio::test]
async fn draining_ends_at_its_limit() {
    let mut mock = Mock::held(None).await;
    let options =
        NotifierOptions { drain_timeout: Duration::from_millis(1), ..NotifierOptions::default() };
    let (manager, _registry) = manager(options);
    manager.apply(&alerting(vec![mock.config()]), &Labels::empty()).await.unwrap();
    manager.send(alerts(1..=1));
    assert_eq!(mock.names().await, ["1"]);
    manager.shutdown().await;
}

#[tokio::test]
async fn credentials_go_along_and_a_refusal_is_counted() {
    // `user:secret` in base64.
    let mut basic = Mock::start(Some("Basic dXNlcjpzZWNyZXQ=")).await;
    let mut bearer = Mock::start(Some("Bearer token")).await;
    let refusing = Mock::start(Some("something else")).await;
    let mut with_basic = basic.config();
    with_basic.http.basic_auth = Some(BasicAuth {
        username: "user".into(),
        password: Secret::new("secret"),
        ..BasicAuth::default()
    });
    let mut with_bearer = bearer.config();
    with_bearer.http.authorization = Some(Authorization {
        kind: "Bearer".into(),
        credentials: Secret::new("token"),
        ..Authorization::default()
    });
    let (manager, registry) = manager(NotifierOptions::default());
    let config = alerting(vec![with_basic, with_bearer, refusing.config()]);
    manager.apply(&config, &Labels::empty()).await.unwrap();
    manager.send(alerts(1..=2));
    assert_eq!(basic.names().await, ["1", "2"]);
    let (headers, _) = bearer.posts.recv().await.unwrap();
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("Watchfire/"));
    // A second round is answered after the first was counted.
    manager.send(alerts(3..=3));
    assert_eq!(basic.names().await, ["3"]);
    let url = format!("http://{}/api/v2/alerts", refusing.address);
    assert!(manager.active_alertmanagers().contains(&url));
    reaches(&registry, "prometheus_notifications_errors_total", refusing.address, 3.0).await;
    assert_eq!(metric(&registry, "prometheus_notifications_sent_total", refusing.address), 0.0);
}

fn rules(yaml: &str) -> Vec<RelabelConfig> {
    serde_yaml::from_str(yaml).unwrap()
}

#[tokio::test]
async fn alerts_are_relabelled_for_all_and_for_each_set() {
    let mut plain = Mock::start(None).await;
    let mut relabelled = Mock::start(None).await;
    let mut second = relabelled.config();
    second.alert_relabel_configs = rules(
        "[{source_labels: [alertname], regex: '2', action: drop}, {target_label: team, replacement: db}]",
    );
    let mut config = alerting(vec![plain.config(), second]);
    config.alert_relabel_configs = rules(
        "[{source_labels: [alertname], regex: '1', action: drop}, {regex: replica, action: labeldrop}]",
    );
    let external = Labels::from_pairs([("replica", "a"), ("cluster", "eu")]);
    let (manager, _registry) = manager(NotifierOptions::default());
    manager.apply(&config, &external).await.unwrap();
    manager.send(alerts(1..=3));
    assert_eq!(plain.names().await, ["2", "3"]);
    let (_, body) = relabelled.posts.recv().await.unwrap();
    assert_eq!(body.as_array().unwrap().len(), 1);
    assert_eq!(
        body[0]["labels"],
        serde_json::json!({"alertname": "3", "cluster": "eu", "job": "node", "team": "db"})
    );
}

#[tokio::test]
async fn a_reload_keeps_the_queues_of_those_that_stay() {
    let mut staying = Mock::held(None).await;
    let mut going = Mock::held(None).await;
    let options = NotifierOptions { max_batch_size: 1, ..NotifierOptions::default() };
    let (manager, registry) = manager(options);
    let before = alerting(vec![going.config(), staying.config()]);
    manager.apply(&before, &Labels::empty()).await.unwrap();
    manager.send(alerts(1..=2));
    assert_eq!(staying.names().await, ["1"]);
    assert_eq!(going.names().await, ["1"]);

    let mut set = staying.config();
    set.alert_relabel_configs = rules("[{target_label: late, replacement: '1'}]");
    set.relabel_configs = rules("[{source_labels: [__address__], regex: 'gone:1', action: drop}]");
    set.static_configs[0].targets.push("gone:1".into());
    manager.apply(&alerting(vec![set]), &Labels::empty()).await.unwrap();
    let url = format!("http://{}/api/v2/alerts", staying.address);
    assert_eq!(manager.active_alertmanagers(), [url]);
    assert_eq!(manager.dropped_alertmanagers(), ["http://gone:1/api/v2/alerts"]);
    manager.send(alerts(3..=3));
    // Still the queue from before: the first is under way, two wait.
    assert_eq!(metric(&registry, "prometheus_notifications_queue_length", staying.address), 2.0);

    staying.answers.add_permits(9);
    going.answers.add_permits(9);
    assert_eq!(staying.names().await, ["2"]);
    assert_eq!(staying.names().await, ["3"]);
    // The one that was removed still gets what was queued for it, and nothing newer.
    assert_eq!(going.names().await, ["2"]);
    manager.shutdown().await;
    assert!(going.posts.try_recv().is_err());

    let wrong = alerting(vec![AlertmanagerConfig { scheme: "ht tp".into(), ..staying.config() }]);
    let (manager, _registry) = self::manager(NotifierOptions::default());
    let error = manager.apply(&wrong, &Labels::empty()).await.unwrap_err();
    assert!(error.to_string().starts_with("alertmanager ht tp://"), "{error}");
}

#[tokio::test]
async fn a_receipt_says_when_every_alertmanager_has_every_alert() {
    let mut slow = Mock::held(None).await;
    let quick = Mock::start(None).await;
    let refusing = Mock::start(Some("something else")).await;
    let (manager, registry) = manager(NotifierOptions::default());
    let (said, mut delivered) = mpsc::unbounded_channel();
    let send = |hand_over: u32| {
        let said = said.clone();
        let receipt = Receipt::new(move || said.send(hand_over).unwrap());
        let with = |a: OutgoingAlert| OutgoingAlert { receipt: receipt.clone(), ..a };
        manager.send(alerts(1..=2).into_iter().map(with).collect());
    };
    send(0);
    let both = alerting(vec![quick.config(), refusing.config()]);
    manager.apply(&both, &Labels::empty()).await.unwrap();
    send(1);
    reaches(&registry, "prometheus_notifications_sent_total", quick.address, 2.0).await;
    reaches(&registry, "prometheus_notifications_errors_total", refusing.address, 2.0).await;
    let both = alerting(vec![quick.config(), slow.config()]);
    manager.apply(&both, &Labels::empty()).await.unwrap();
    send(2);
    reaches(&registry, "prometheus_notifications_sent_total", quick.address, 4.0).await;
    assert_eq!(slow.names().await, ["1", "2"]);
    assert!(delivered.try_recv().is_err(), "nobody, not everybody, and not yet");
    slow.answers.add_permits(1);
    assert_eq!(delivered.recv().await, Some(2));
    manager.shutdown().await;
    assert!(delivered.try_recv().is_err());
}
