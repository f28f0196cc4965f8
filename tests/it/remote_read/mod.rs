//! Other systems as sources, each a real one: whatever is asked, the answer is the one that
//! the same samples in our own store give.

pub mod credentials;
mod discovered;
mod failures;
mod kept;
mod metricsql;
mod outage;
mod queried;
mod rules;
mod serve;
mod served;
mod templates;
mod wire;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use watchfire::api::result_json;
use watchfire::model::value::is_stale_nan;
use watchfire::model::{Labels, StepGrid};
use watchfire::query::{Engine, EngineOptions, PushTarget, QueryError, QueryResult, RunOptions};
use watchfire::remote_write::{self, proto};
use watchfire::storage::Source;
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::remote::{
    self, DatasourceConfig, DatasourceKind, Evaluation, RemoteMetrics, Surroundings,
};
use watchfire::telemetry::clock::SystemClock;

use crate::api::answer;
use crate::differential::generate::Generator;
use crate::differential::{SEED, TOLERANCE, data};
use crate::support::{Program, alike, free_address, ordered, start_prometheus};

const EXPRESSIONS: usize = 400;

pub fn surroundings() -> Surroundings {
    Surroundings {
        clock: Arc::new(SystemClock::default()),
        metrics: RemoteMetrics::default(),
        user_agent: "Watchfire/test".to_owned(),
        changed: Arc::default(),
    }
}

/// A source over a server.
pub async fn open(base: &str, kind: DatasourceKind, evaluate: Evaluation) -> Arc<dyn Source> {
    let url = match kind {
        DatasourceKind::RemoteRead => format!("{base}/api/v1/read"),
        _ => base.to_owned(),
    };
    let name = "other".to_owned();
    let timeout_ms = 30_000;
    let config =
        DatasourceConfig { url, name, kind, evaluate, timeout_ms, ..DatasourceConfig::default() };
    remote::open(&config, &surroundings()).await.unwrap()
}

/// An engine that lets a source evaluate what it can.
pub fn pushing(source: &Arc<dyn Source>) -> Arc<Engine> {
    let engine = Engine::new(EngineOptions::default());
    engine.set_push_target(PushTarget { source: source.clone(), written_here: None });
    engine
}

pub async fn send(base: &str, request: &proto::WriteRequest) {
    let body = remote_write::encode(request).unwrap();
    let request = reqwest::Client::new()
        .post(format!("{base}/api/v1/write"))
        .header("Content-Type", "application/x-protobuf")
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Write-Version", "0.1.0")
        .body(body);
    let got = answer(request).await;
    assert_eq!(got.status, 204, "{base}: {}", got.body);
}

/// Our own store with the same samples.
pub fn local(request: &proto::WriteRequest) -> Arc<dyn Source> {
    let storage = MemoryStorage::new();
    for series in &request.timeseries {
        let pairs = series.labels.iter().map(|l| (l.name.as_str(), l.value.as_str()));
        let labels = Labels::from_pairs(pairs);
        for sample in &series.samples {
            storage.append(&labels, sample.timestamp, sample.value, None).unwrap();
        }
    }
    Arc::new(storage)
}

/// What VictoriaMetrics keeps of samples: none that are no number.
pub fn without_nan(mut request: proto::WriteRequest) -> proto::WriteRequest {
    for series in &mut request.timeseries {
        series.samples.retain(|s| !s.value.is_nan() || is_stale_nan(s.value));
    }
    request
}

/// A VictoriaMetrics that keeps everything, and where it listens.
pub fn start_victoria_metrics(dir: &Path) -> Option<(Program, String)> {
    let address = free_address();
    let args = [
        format!("-storageDataPath={}", dir.join("vm").display()),
        format!("-httpListenAddr={address}"),
        "-retentionPeriod=100y".to_owned(),
        "-memory.allowedBytes=200MB".to_owned(),
        "-dedup.minScrapeInterval=1ms".to_owned(),
    ];
    let mut program = Program::start("victoria-metrics", &args)?;
    let ready = format!("http://{address}/health");
    std::thread::scope(|scope| scope.spawn(|| program.wait_ready(&ready)).join()).unwrap();
    Some((program, format!("http://{address}")))
}

/// Makes what was sent to VictoriaMetrics visible.
pub async fn flush(base: &str) {
    let got = answer(reqwest::Client::new().get(format!("{base}/internal/force_flush"))).await;
    assert_eq!(got.status, 200);
}

/// A result as JSON whose order says nothing; `None` for an error.
pub fn comparable(result: Result<QueryResult, QueryError>) -> Option<Value> {
    let value = result.ok()?.value;
    Some(ordered(&format!("{{\"data\":{}}}", result_json(value))))
}

/// When questions are asked: half seconds, where no sample is.
#[derive(Clone, Copy, Debug)]
pub enum When {
    At(i64),
    Range(i64, i64, i64),
}

const TIMES: &[When] = &[
    When::At(1_699_999_990_500),
    When::Range(1_699_998_200_500, 1_699_999_990_500, 73_000),
    When::At(1_699_998_123_500),
    When::Range(1_699_999_300_500, 1_699_999_900_500, 20_000),
];

pub async fn ask(
    engine: &Arc<Engine>,
    source: &Arc<dyn Source>,
    expr: &str,
    when: When,
) -> Result<QueryResult, QueryError> {
    let query = engine.prepare(expr)?;
    let options = RunOptions::default();
    match when {
        When::At(ms) => query.instant(source, ms, &options).await,
        When::Range(start, end, step) => {
            let grid = StepGrid::range(start, end, step).unwrap();
            query.range(source, grid, &options).await
        }
    }
}

/// An engine and the source it reads.
pub type Side = (Arc<Engine>, Arc<dyn Source>);

/// What two sides answer to one question.
pub struct Answers {
    pub ours: Option<Value>,
    pub theirs: Option<Value>,
    /// Both, cut, with the question.
    pub told: String,
}

impl Answers {
    pub async fn get(ours: &Side, theirs: &Side, expr: &str, when: When) -> Self {
        let wanted = comparable(ask(&ours.0, &ours.1, expr, when).await);
        let got = ask(&theirs.0, &theirs.1, expr, when).await;
        let error = got.as_ref().err().map(ToString::to_string);
        let got = comparable(got);
        let cut = |v: &Option<Value>| format!("{v:?}").chars().take(600).collect::<String>();
        let told = format!(
            "{when:?}\n  {expr}\n  ours   {}\n  theirs {} {error:?}",
            cut(&wanted),
            cut(&got)
        );
        Self { ours: wanted, theirs: got, told }
    }

    pub fn are_same(&self) -> bool {
        same(&self.ours, &self.theirs)
    }
}

pub fn same(ours: &Option<Value>, theirs: &Option<Value>) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => alike(theirs, ours, TOLERANCE),
        (None, None) => true,
        _ => false,
    }
}

/// What the server itself answers to the whole question.
async fn server_says(base: &str, expr: &str, when: When) -> Option<Value> {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let (path, fields) = match when {
        When::At(ms) => ("query", vec![("time", seconds(ms))]),
        When::Range(start, end, step) => (
            "query_range",
            vec![("start", seconds(start)), ("end", seconds(end)), ("step", seconds(step))],
        ),
    };
    let mut fields = fields;
    fields.push(("query", expr.to_owned()));
    let client = reqwest::Client::new();
    let got = answer(client.post(format!("{base}/api/v1/{path}")).form(&fields)).await;
    let value = ordered(&got.body);
    (value["status"] == "success").then(|| serde_json::json!({ "data": value["data"] }))
}

/// What is asked beside generated expressions: aggregations of ranges in every combination
/// that VictoriaMetrics is asked for whole.
fn aggregations() -> Vec<String> {
    let mut all = Vec::new();
    for (i, by) in ["sum by (job)", "min", "max without (instance)", "count", "avg by (instance)"]
        .into_iter()
        .enumerate()
    {
        for function in ["sum_over_time", "min_over_time", "max_over_time", "count_over_time"] {
            for (j, metric) in ["level", "sometimes", "requests_total"].into_iter().enumerate() {
                let range = ["90s", "10m", "3m"][(i + j) % 3];
                let offset = ["", " offset 7m"][(i + 2 * j) % 2];
                all.push(format!("{by} ({function}({metric}[{range}]{offset})) > -1000"));
            }
        }
    }
    all
}

/// Asks a source and our own store the same; every difference is one the server itself has
/// from us over the whole question, and these are few.
async fn compare(
    base: &str,
    kind: DatasourceKind,
    evaluate: Evaluation,
    sent: &proto::WriteRequest,
    explained_max: usize,
) {
    let ours: Side = (Engine::new(EngineOptions::default()), local(sent));
    let remote = open(base, kind, evaluate).await;
    let theirs: Side = (pushing(&remote), remote);
    let mut generator = Generator::new(SEED);
    let (mut answered, mut pushed, mut explained) = (0, 0, Vec::new());
    let mut different = Vec::new();
    let mut expressions = aggregations();
    expressions.extend((0..EXPRESSIONS).map(|_| generator.expression()));
    for (n, expr) in expressions.into_iter().enumerate() {
        if theirs.0.prepare(&expr).is_ok_and(|q| q.explain().contains(" evaluated by ")) {
            pushed += 1;
        }
        for when in TIMES.iter().skip(n % 2).step_by(2) {
            let answers = Answers::get(&ours, &theirs, &expr, *when).await;
            answered += usize::from(answers.theirs.is_some());
            if answers.are_same() {
                continue;
            }
            if evaluate == Evaluation::PushDown
                && !same(&answers.ours, &server_says(base, &expr, *when).await)
            {
                explained.push(expr.clone());
                continue;
            }
            different.push(answers.told);
        }
    }
    println!("{kind:?} {evaluate:?}: {answered} answered, {pushed} expressions pushed in part");
    println!("explained: {explained:#?}");
    assert!(
        different.is_empty(),
        "{kind:?} {evaluate:?}: {} differ:\n{}",
        different.len(),
        different.join("\n")
    );
    assert!(answered > EXPRESSIONS, "{answered} answered");
    assert!(explained.len() <= explained_max, "{explained:#?}");
    let pushes = kind != DatasourceKind::RemoteRead
        && (kind == DatasourceKind::Prometheus || evaluate == Evaluation::PushDown);
    assert_eq!(pushed > 10, pushes, "{pushed} pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_is_read_in_every_way() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_prometheus, base)) = start_prometheus(dir.path(), "global: {}\n") else { return };
    let sent = data::request(SEED);
    send(&base, &sent).await;
    compare(&base, DatasourceKind::RemoteRead, Evaluation::Here, &sent, 0).await;
    compare(&base, DatasourceKind::Prometheus, Evaluation::Here, &sent, 0).await;
    // 2.42 extrapolates rates near zero otherwise, and has other rounding.
    compare(&base, DatasourceKind::Prometheus, Evaluation::PushDown, &sent, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victoriametrics_is_read_in_every_way() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_program, base)) = start_victoria_metrics(dir.path()) else { return };
    let sent = without_nan(data::request(SEED));
    send(&base, &sent).await;
    flush(&base).await;
    compare(&base, DatasourceKind::VictoriaMetrics, Evaluation::Here, &sent, 0).await;
    // Sums of infinities of both signs are missing there.
    compare(&base, DatasourceKind::VictoriaMetrics, Evaluation::PushDown, &sent, 4).await;
}

/// Waits at most so long for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
