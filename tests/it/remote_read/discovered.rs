//! Servers that are asked what they are: each real one is found out, one that is down first,
//! and another one in the place of the first.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use watchfire::config;
use watchfire::storage::datasources::Datasource;
use watchfire::storage::{LabelRequest, StorageError};
use watchfire::telemetry::clock::ManualClock;
use watchfire::telemetry::{Registry, new_registry};

use super::kept::start_late;
use super::*;
use crate::support::serve_app;

/// What stands before a server: it leads to another one when told so, has no such path, and
/// counts what it is asked.
#[derive(Default)]
pub struct Gate {
    target: Mutex<String>,
    closed: Mutex<Option<&'static str>>,
    pub requests: AtomicUsize,
    down: AtomicBool,
    client: reqwest::Client,
}

impl Gate {
    /// Where it listens.
    pub async fn start(target: &str) -> (Arc<Self>, String) {
        watchfire::http::install_crypto_provider();
        let gate = Arc::new(Self { target: Mutex::new(target.to_owned()), ..Self::default() });
        let app = Router::new().fallback(pass).with_state(gate.clone());
        let base = format!("http://{}", serve_app(app).await);
        (gate, base)
    }

    pub fn close(&self, path: &'static str) {
        *self.closed.lock().unwrap() = Some(path);
    }

    fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap());
    }
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    gate.requests.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let closed = *gate.closed.lock().unwrap();
    if closed.is_some_and(|path| head.uri.path().ends_with(path)) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if gate.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let url = format!("{}{}", gate.target.lock().unwrap(), head.uri);
    let mut asked = gate.client.request(head.method, url).body(body);
    for (name, value) in &head.headers {
        if name != "host" && name != "content-length" {
            asked = asked.header(name, value);
        }
    }
    let answer = asked.send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != "transfer-encoding" && name != "content-length" {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

/// A source of which it is not said what it is, and what is told of it.
struct Asked {
    source: Arc<dyn Source>,
    around: Surroundings,
    clock: Arc<ManualClock>,
    registry: Registry,
}

impl Asked {
    async fn new(base: &str, evaluate: Evaluation) -> Self {
        Self::with(base, evaluate, &[]).await
    }

    /// With parameters of its queries.
    async fn with(base: &str, evaluate: Evaluation, parameters: &[&str]) -> Self {
        let mut registry = new_registry();
        let clock = Arc::new(ManualClock::new(data::END_MS));
        let metrics = RemoteMetrics::new(&mut registry);
        let around = Surroundings { clock: clock.clone(), metrics, ..surroundings() };
        let config = DatasourceConfig {
            url: base.to_owned(),
            name: "asked".to_owned(),
            kind: DatasourceKind::Auto,
            evaluate,
            parameters: parameters.iter().map(|p| ((*p).to_owned(), "1".to_owned())).collect(),
            ..DatasourceConfig::default()
        };
        let source = remote::open(&config, &around).await.unwrap();
        Self { source, around, clock, registry }
    }

    /// What the server is taken for; nothing before it is known.
    fn kind(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let told: Vec<_> =
            text.lines().filter(|l| l.starts_with("watchfire_remote_read_type{")).collect();
        assert!(told.len() < 2, "{told:?}");
        let word = |line: &&str| {
            let (_, rest) = line.split_once("type=\"").unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        told.first().map(word).unwrap_or_default()
    }

    /// So much later.
    fn pass(&self, ms: i64) {
        self.clock.advance_ms(ms);
    }

    async fn count(&self, engine: &Arc<Engine>, expr: &str) -> Result<usize, String> {
        let result = ask(engine, &self.source, expr, When::At(data::END_MS - 10_500)).await;
        let failed = result.as_ref().err().map(ToString::to_string);
        match (comparable(result), failed) {
            (Some(value), _) => Ok(value["data"]["result"].as_array().map_or(0, Vec::len)),
            (None, error) => Err(error.unwrap_or_default()),
        }
    }

    async fn names(&self) -> Result<Vec<String>, StorageError> {
        let request = LabelRequest {
            matcher_sets: Vec::new(),
            from_ms: data::END_MS - 3_600_000,
            to_ms: data::END_MS,
        };
        self.source.label_names(&request).await.map(|answer| answer.values)
    }
}

const RATE: &str = "rate(requests_total[5m])";

#[test]
fn a_configuration_may_leave_it_to_the_server() {
    let text = "datasources: {other: {type: auto, url: 'http://other:9090/base'}}\n";
    let loaded = config::parse(text, Path::new("")).unwrap();
    let Datasource::Server(server) = &loaded.config.datasources["other"] else { panic!() };
    assert_eq!(server.kind, DatasourceKind::Auto);
    assert!(loaded.config.to_yaml().contains("type: auto"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_found_out_and_answers_alike() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_prometheus, prometheus)) = start_prometheus(dir.path(), "global: {}\n") else {
        return;
    };
    let Some((_vm, vm)) = start_victoria_metrics(dir.path()) else { return };
    let outer = dir.path().join("outer");
    std::fs::create_dir(&outer).unwrap();
    let config = "global: {external_labels: {job: outer, region: eu}}\n";
    let Some((_outer, outer)) = start_prometheus(&outer, config) else { return };
    let sent = without_nan(data::request(SEED));
    for base in [&prometheus, &vm, &outer] {
        send(base, &sent).await;
    }
    flush(&vm).await;
    let (gate, gated) = Gate::start(&prometheus).await;
    gate.close("/api/v1/read");
    let (hiding, hidden) = Gate::start(&prometheus).await;
    hiding.close("/api/v1/status/config");
    let asked = Asked::with(&prometheus, Evaluation::Auto, &["dedup"]).await;
    assert_eq!(asked.kind(), "prometheus", "parameters are for queries");
    for (base, evaluate, kind) in [
        (&prometheus, Evaluation::Auto, "remote_read"),
        (&prometheus, Evaluation::PushDown, "prometheus"),
        (&vm, Evaluation::Auto, "victoriametrics"),
        (&outer, Evaluation::Auto, "prometheus"),
        (&gated, Evaluation::Auto, "prometheus"),
        (&hidden, Evaluation::Auto, "prometheus"),
    ] {
        let asked = Asked::new(base, evaluate).await;
        assert_eq!(asked.kind(), kind, "{base} {evaluate:?}");
        let names = asked.names().await.unwrap();
        assert!(names.contains(&"instance".to_owned()), "{names:?}");
        assert!(!names.contains(&"region".to_owned()), "{names:?}");
        let ours: Side = (Engine::new(EngineOptions::default()), local(&sent));
        let theirs: Side = (pushing(&asked.source), asked.source.clone());
        // 2.42 extrapolates rates near zero otherwise.
        let here = if evaluate == Evaluation::PushDown { "up" } else { RATE };
        for expr in [here, "level", "sum by (job) (level) > 0", "absent(nothing{job='x'})"] {
            let answers = Answers::get(&ours, &theirs, expr, TIMES[0]).await;
            assert!(answers.are_same(), "{kind} {}", answers.told);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_first_is_found_out_when_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let address: SocketAddr = free_address();
    let asked = Asked::new(&format!("http://{address}"), Evaluation::Auto).await;
    assert_eq!(asked.kind(), "");
    assert_eq!(asked.source.push_down(None), None);
    let engine = pushing(&asked.source);
    let error = asked.count(&engine, RATE).await.unwrap_err();
    assert!(error.contains("Connection refused"), "{error}");
    let Some(_prometheus) = start_late(dir.path(), address) else { return };
    send(&format!("http://{address}"), &data::request(SEED)).await;
    // What was found holds for a moment.
    assert!(asked.count(&engine, RATE).await.is_err());
    asked.pass(1000);
    assert!(asked.count(&engine, RATE).await.unwrap() > 0);
    assert_eq!(asked.kind(), "remote_read");
    asked.around.changed.notified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_in_its_place_is_found_out_and_not_asked_what_was_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_prometheus, prometheus)) = start_prometheus(dir.path(), "global: {}\n") else {
        return;
    };
    let Some((_vm, vm)) = start_victoria_metrics(dir.path()) else { return };
    let sent = without_nan(data::request(SEED));
    for base in [&prometheus, &vm] {
        send(base, &sent).await;
    }
    flush(&vm).await;
    let (gate, base) = Gate::start(&prometheus).await;
    let asked = Asked::new(&base, Evaluation::PushDown).await;
    assert_eq!(asked.kind(), "prometheus");
    let engine = pushing(&asked.source);
    let at_ms = data::END_MS - 10_500;
    let planned = engine.prepare("sum(level)").unwrap();
    let run = async || planned.instant(&asked.source, at_ms, &RunOptions::default()).await;
    assert!(planned.explain().contains("evaluated by the source: sum(level)"));
    assert!(run().await.is_ok());

    // Not while it does not answer, but then.
    gate.down.store(true, Ordering::SeqCst);
    asked.pass(1000);
    assert!(run().await.is_err());
    assert_eq!(asked.kind(), "prometheus");
    gate.lead_to(&vm);
    gate.down.store(false, Ordering::SeqCst);
    asked.pass(1000);
    let error = run().await.unwrap_err().to_string();
    assert!(error.contains("has become another server"), "{error}");
    assert_eq!(asked.kind(), "victoriametrics");
    asked.around.changed.notified().await;
    // What is planned now is for the new one, and what was not left to anybody goes on.
    let anew = engine.prepare("sum(level)").unwrap();
    assert!(!anew.is_planned_as(&planned));
    assert!(anew.instant(&asked.source, at_ms, &RunOptions::default()).await.is_ok());
    assert!(asked.count(&engine, RATE).await.unwrap() > 0);

    // The same again is no change, and once a second is enough.
    asked.pass(1000);
    let before = gate.requests.load(Ordering::SeqCst);
    for _ in 0..3 {
        asked.names().await.unwrap();
    }
    let requests = gate.requests.load(Ordering::SeqCst) - before;
    assert_eq!(requests, 3 + 1, "each query and one look");

    // A path that is there no more is noticed by what fails.
    gate.lead_to(&prometheus);
    asked.pass(1000);
    let here = Asked::new(&base, Evaluation::Auto).await;
    assert_eq!(here.kind(), "remote_read");
    let plain = Engine::new(EngineOptions::default());
    assert!(here.count(&plain, RATE).await.unwrap() > 0);
    gate.close("/api/v1/read");
    here.pass(15_000);
    assert!(here.count(&plain, RATE).await.is_err());
    here.pass(1000);
    assert!(here.count(&plain, RATE).await.unwrap() > 0);
    assert_eq!(here.kind(), "prometheus");
}
