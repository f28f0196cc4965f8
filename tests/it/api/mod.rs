//! The HTTP API on a real socket, over a store in memory.

mod bad_input;
mod endpoints;
mod lifecycle;
mod limits;
mod notifications;
mod programs;
mod server;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use watchfire::api::{
    self, ApiMetrics, ApiOptions, ApiState, Notifications, Phase, Readiness, RemoteRead,
    RuntimeInfo, StatusView,
};
use watchfire::model::metadata::{Metadata, MetricType};
use watchfire::model::{Clock, Labels, TimestampMs};
use watchfire::notifier::NotifierView;
use watchfire::query::{Engine, EngineOptions};
use watchfire::remote_read::{ReadLimits, RemoteReadMetrics};
use watchfire::remote_write::RemoteWriteMetrics;
use watchfire::rules::policy::{GroupPolicy, Policy};
use watchfire::rules::view::{
    AlertState, AlertView, AlertingView, CostSummary, GroupCostView, GroupView, PaceView,
    QuarantinedView, RuleCostView, RuleHealth, RuleView, RulesView,
};
use watchfire::scrape::ScrapeConfig;
use watchfire::scrape::view::{
    DroppedTargetView, ScrapeView, TargetHealth, TargetMetadata, TargetView,
};
use watchfire::storage::Sink;
use watchfire::storage::memory::MemoryStorage;
use watchfire::telemetry::clock::ManualClock;
use watchfire::telemetry::{self, Registry};

/// The time of every test that does not talk to another program.
pub const NOW_MS: TimestampMs = 1_700_000_000_000;

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// A running server and what it was given.
pub struct TestServer {
    pub base: String,
    pub storage: MemoryStorage,
    pub state: Arc<ApiState>,
    client: reqwest::Client,
    shutdown: CancellationToken,
}

/// An answer: status, headers and text.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl TestServer {
    /// A ready server with default settings at [`NOW_MS`].
    pub async fn start() -> Self {
        Self::start_with(Arc::new(ManualClock::new(NOW_MS)), |_| {}).await
    }

    pub async fn start_with(clock: Arc<dyn Clock>, adjust: impl FnOnce(&mut ApiState)) -> Self {
        let storage = MemoryStorage::new();
        let mut registry = telemetry::new_registry();
        let mut state = state(&storage, clock, &mut registry);
        adjust(&mut state);
        state.registry = Arc::new(registry);
        let state = Arc::new(state);
        let listener = api::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        tokio::spawn(api::serve(vec![listener], Arc::clone(&state), shutdown.clone()));
        // Plain HTTP needs no provider, but the client insists on one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_gzip()
            .build()
            .unwrap();
        Self { base, storage, state, client, shutdown }
    }

    /// Stores samples of one series, `(ms, value)`.
    pub fn store(&self, pairs: &[(&str, &str)], samples: &[(TimestampMs, f64)]) {
        let mut appender = self.storage.appender();
        for (ts, value) in samples {
            appender.append(None, &labels(pairs), *ts, *value).unwrap();
        }
        appender.commit().unwrap();
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request("GET", path)).await
    }

    pub async fn post_form(&self, path: &str, form: &str) -> Answer {
        let request = self
            .request("POST", path)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        answer(request).await
    }

    /// The one way endpoints are tested: path, status, text.
    pub async fn check(&self, path: &str, status: u16, expected: &str) {
        let answer = self.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, expected), "GET {path}");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    Answer { status, headers, body: response.text().await.unwrap() }
}

fn state(storage: &MemoryStorage, clock: Arc<dyn Clock>, registry: &mut Registry) -> ApiState {
    let readiness = Readiness::default();
    readiness.set(Phase::Ready);
    ApiState {
        engine: Engine::new(EngineOptions::default()),
        source: Arc::new(storage.clone()),
        sink: Arc::new(storage.clone()),
        scrape: Arc::new(Fixed),
        rules: Arc::new(Fixed),
        notifier: Arc::new(Fixed),
        status: Arc::new(Fixed),
        notifications: Notifications::new(2, clock.clone(), registry),
        clock,
        metrics: ApiMetrics::new(registry),
        remote_write: RemoteWriteMetrics::new(registry),
        remote_read: RemoteRead::new(ReadLimits::default(), RemoteReadMetrics::new(registry)),
        registry: Arc::new(Registry::default()),
        readiness,
        reload: Arc::new(|| Box::pin(async { Ok(()) })),
        ruler: None,
        quit: CancellationToken::new(),
        options: ApiOptions::default(),
    }
}

/// Managers that always say the same.
struct Fixed;

impl StatusView for Fixed {
    fn config_yaml(&self) -> String {
        "global:\n  scrape_interval: 15s\n".to_owned()
    }

    fn external_labels(&self) -> Labels {
        labels(&[("replica", "a")])
    }

    fn runtime(&self) -> RuntimeInfo {
        RuntimeInfo {
            start_time_ms: NOW_MS - 60_000,
            working_directory: "/data".to_owned(),
            hostname: "host".to_owned(),
            reload_successful: true,
            last_config_ms: Some(NOW_MS - 59_500),
            corruption_count: 0,
            storage_retention: "15d".to_owned(),
        }
    }

    fn scrape_config(&self, pool: &str) -> Option<ScrapeConfig> {
        let text = "scrape_configs:\n- job_name: node\n  relabel_configs:\n  \
                    - {source_labels: [__address__], target_label: host, regex: '(.*):.*'}\n  \
                    - {source_labels: [host, job], regex: a;node, action: keep}\n  \
                    - {action: labeldrop, regex: host}\n  \
                    - {target_label: none, regex: ''}\n";
        let loaded = watchfire::config::parse(text, std::path::Path::new("")).expect("valid");
        loaded.config.scrape_configs.into_iter().find(|scrape| scrape.job_name == pool)
    }
}

impl NotifierView for Fixed {
    fn active_alertmanagers(&self) -> Vec<String> {
        vec!["http://am:9093/api/v2/alerts".to_owned()]
    }

    fn dropped_alertmanagers(&self) -> Vec<String> {
        Vec::new()
    }
}

impl ScrapeView for Fixed {
    fn active_targets(&self) -> Vec<TargetView> {
        vec![TargetView {
            discovered_labels: labels(&[("__address__", "a:1"), ("job", "node")]),
            labels: labels(&[("instance", "a:1"), ("job", "node")]),
            scrape_pool: "node".to_owned(),
            scrape_url: "http://a:1/metrics".to_owned(),
            global_url: "http://a:1/metrics".to_owned(),
            last_error: String::new(),
            last_scrape_ms: Some(NOW_MS - 1_250),
            last_scrape_duration_seconds: 0.004,
            health: TargetHealth::Up,
            scrape_interval_ms: 90_000,
            scrape_timeout_ms: 10_000,
        }]
    }

    fn dropped_targets(&self) -> Vec<DroppedTargetView> {
        vec![DroppedTargetView {
            discovered_labels: labels(&[("__address__", "b:1")]),
            scrape_pool: "node".to_owned(),
        }]
    }

    fn dropped_target_counts(&self) -> Vec<(String, usize)> {
        vec![("node".to_owned(), 1)]
    }

    fn metadata(&self) -> Vec<TargetMetadata> {
        let entry = |family: &str, kind, help: &str, unit: &str| TargetMetadata {
            target: labels(&[("instance", "a:1"), ("job", "node")]),
            family: family.to_owned(),
            metadata: Metadata { kind, help: help.into(), unit: unit.into() },
        };
        vec![
            entry("up", MetricType::Gauge, "Is it <up>?", ""),
            entry("req_total", MetricType::Counter, "Requests", ""),
            entry("req_total", MetricType::Counter, "Requests, otherwise", "requests"),
        ]
    }
}

impl RulesView for Fixed {
    fn handover(&self, file: &str, group: &str) -> Option<Vec<u8>> {
        (group == "g").then(|| file.as_bytes().to_vec())
    }

    fn costs(&self) -> Vec<GroupCostView> {
        let summary = |avg: f64| CostSummary { last: 1.0, avg, p99: 3.0, max: 4.0, total: 5.0 };
        let rule = |name: &str, evaluations: u64, seconds: f64, samples: f64| RuleCostView {
            name: name.to_owned(),
            is_alert: name == "Down",
            labels: labels(&[("team", name)]),
            query: "up".to_owned(),
            evaluations,
            last_evaluation_ms: Some(NOW_MS - 500),
            seconds: summary(seconds),
            samples: summary(samples),
            series: summary(0.0),
            bytes: summary(16.0 * samples),
        };
        let group = |file: &str, name: &str, interval_ms, used, rules| GroupCostView {
            file: file.to_owned(),
            name: name.to_owned(),
            interval_ms,
            pace: Some(PaceView {
                used,
                budget: 0.5,
                exceeded: used > 0.5,
                overrun_forecast_seconds: (used > 0.5).then_some(3600.0),
            }),
            rules,
        };
        vec![
            group(
                "a.yml",
                "first",
                10_000,
                0.25,
                vec![rule("Down", 7, 1.0, 100.0), rule("new", 0, 0.0, 0.0)],
            ),
            group("b.yml", "second", 60_000, 0.75, vec![rule("rec:slow", 7, 3.0, 1200.0)]),
        ]
    }

    fn quarantined(&self) -> Vec<QuarantinedView> {
        Vec::new()
    }

    fn groups(&self) -> Vec<GroupView> {
        let rule = |name: &str, query: &str, alerting| RuleView {
            name: name.to_owned(),
            query: query.to_owned(),
            labels: labels(&[("team", name)]),
            policy: Policy::default(),
            health: RuleHealth::Ok,
            last_error: String::new(),
            evaluation_time_seconds: 0.001,
            last_evaluation_ms: Some(NOW_MS - 500),
            last_outcome: None,
            cost: None,
            quarantine: None,
            alerting,
        };
        let alert = AlertView {
            labels: labels(&[("alertname", "Down"), ("job", "node")]),
            annotations: labels(&[("summary", "node <down>")]),
            state: AlertState::Firing,
            active_at_ms: NOW_MS - 300_000,
            keep_firing_since_ms: None,
            missing: None,
            value: 1.0,
        };
        let alerting = AlertingView {
            state: AlertState::Firing,
            for_ms: 300_000,
            keep_firing_for_ms: 0,
            annotations: labels(&[("summary", "{{ $labels.job }} <down>")]),
            alerts: vec![alert],
        };
        let group = |file: &str, name: &str, rules| GroupView {
            name: name.to_owned(),
            file: file.to_owned(),
            interval_ms: 15_000,
            limit: 0,
            policy: GroupPolicy::default(),
            evaluation_time_seconds: 0.002,
            last_evaluation_ms: Some(NOW_MS - 500),
            pace: None,
            rules,
        };
        let mut broken = rule("rec:broken", "rate(x[5m])", None);
        broken.health = RuleHealth::Err;
        broken.last_error = "query timed out in query execution".to_owned();
        broken.labels = Labels::empty();
        broken.last_evaluation_ms = None;
        vec![
            group("b.yml", "second", vec![broken]),
            group(
                "a.yml",
                "first",
                vec![rule("Down", "up == 0 < 1", Some(alerting)), rule("rec:up", "sum(up)", None)],
            ),
        ]
    }
}
