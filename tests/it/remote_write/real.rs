//! Real receivers: everything that was acknowledged arrives, in order and once, though the
//! receiver is away for a while and the sender is killed meanwhile.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use watchfire::remote_write::{encode, proto};

use crate::support::{Program, available, free_address, http_get, until};

const PATIENCE: Duration = Duration::from_secs(60);
const SERIES: usize = 7;

/// What samples are sent on to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Prometheus,
    VictoriaMetrics,
    /// Ourselves, by remote write 2.0.
    Watchfire,
}

impl Kind {
    pub fn start(self, dir: &Path, address: SocketAddr) -> Option<Program> {
        let data = dir.join("receiver");
        let (program, ready) = match self {
            Self::Prometheus => {
                let config = dir.join("receiver.yml");
                fs::write(&config, "global: {}\n").expect("a file");
                let args = [
                    format!("--config.file={}", config.display()),
                    format!("--storage.tsdb.path={}", data.display()),
                    format!("--web.listen-address={address}"),
                    "--web.enable-remote-write-receiver".to_owned(),
                ];
                (Program::start("prometheus", &args)?, "/-/ready")
            }
            Self::VictoriaMetrics => {
                let args = [
                    format!("-storageDataPath={}", data.display()),
                    format!("-httpListenAddr={address}"),
                    "-search.latencyOffset=0s".to_owned(),
                    // It keeps what it is sent twice unless told not to: a request whose
                    // answer was not heard before the kill is made again.
                    "-dedup.minScrapeInterval=1ms".to_owned(),
                    "-memory.allowedBytes=64MB".to_owned(),
                ];
                (Program::start("victoria-metrics", &args)?, "/health")
            }
            Self::Watchfire => {
                let config = dir.join("receiver.yml");
                fs::write(&config, "global: {}\n").expect("a file");
                let args = [
                    "serve".to_owned(),
                    format!("--config.file={}", config.display()),
                    format!("--storage.tsdb.path={}", data.display()),
                    format!("--web.listen-address={address}"),
                    "--web.enable-remote-write-receiver".to_owned(),
                ];
                (Program::watchfire(&args, dir), "/-/ready")
            }
        };
        let mut program = program;
        program.wait_ready(&format!("http://{address}{ready}"));
        Some(program)
    }

    /// Times and values of a series.
    pub fn stored(self, address: SocketAddr, i: usize, end_ms: i64) -> Vec<(i64, f64)> {
        if self == Self::VictoriaMetrics {
            let url = format!("http://{address}/api/v1/export?match[]=k_total{{i=\"{i}\"}}");
            let (_, body) = http_get(&url).expect("an answer");
            let mut all: Vec<(i64, f64)> = Vec::new();
            for line in body.lines() {
                let line: Json = serde_json::from_str(line).expect("JSON");
                let times = line["timestamps"].as_array().expect("times").iter();
                let values = line["values"].as_array().expect("values").iter();
                let pair = |(t, v): (&Json, &Json)| (t.as_i64().unwrap(), v.as_f64().unwrap());
                all.extend(times.zip(values).map(pair));
            }
            return all;
        }
        let query = format!("k_total{{i=\"{i}\"}}[1h]");
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let time = end_ms as f64 / 1000.0;
        let url = format!("http://{address}/api/v1/query?query={query}&time={time}");
        let (_, body) = http_get(&url).expect("an answer");
        let answer: Json = serde_json::from_str(&body).expect("JSON");
        let values = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
        let pair = |v: &Json| {
            let seconds = v[0].as_f64().unwrap();
            ((seconds * 1000.0).round() as i64, v[1].as_str().unwrap().parse().unwrap())
        };
        values.iter().map(pair).collect()
    }
}

pub fn start_sender(dir: &Path, address: SocketAddr) -> Program {
    let args = [
        "serve".to_owned(),
        "--config.file=sender.yml".to_owned(),
        "--storage.tsdb.path=sender".to_owned(),
        format!("--web.listen-address={address}"),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    let mut program = Program::watchfire(&args, dir);
    program.wait_ready(&format!("http://{address}/-/ready"));
    program
}

/// Sends requests to the sender.
pub struct Feeder {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Feeder {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // No connection outlives the sender it was made to.
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build();
        Self { runtime: runtime.expect("a runtime"), client: client.expect("a client") }
    }

    /// Whether the sender acknowledged a body.
    pub fn post(&self, address: SocketAddr, body: Vec<u8>) -> bool {
        let request = self.client.post(format!("http://{address}/api/v1/write")).body(body);
        let answer = self.runtime.block_on(request.send());
        answer.is_ok_and(|answer| answer.status().as_u16() == 204)
    }
}

/// One sample of each series.
pub fn body(series: usize, ts: i64, value: f64) -> Vec<u8> {
    let series = (0..series).map(|i| {
        let label = |name: &str, value: String| proto::Label { name: name.into(), value };
        proto::TimeSeries {
            labels: vec![label("__name__", "k_total".into()), label("i", i.to_string())],
            samples: vec![proto::Sample { value, timestamp: ts }],
            ..proto::TimeSeries::default()
        }
    });
    let request = proto::WriteRequest { timeseries: series.collect(), metadata: Vec::new() };
    encode(&request).expect("a body")
}

fn check(kind: Kind) {
    let dir = tempfile::tempdir().expect("a folder");
    let (receiving, sending) = (free_address(), free_address());
    let Some(mut receiver) = kind.start(dir.path(), receiving) else { return };
    let message = match kind {
        Kind::Watchfire => "io.prometheus.write.v2.Request",
        _ => "prometheus.WriteRequest",
    };
    let config = format!(
        "remote_write:
- url: http://{receiving}/api/v1/write
  protobuf_message: {message}
  queue_config: {{batch_send_deadline: 100ms, max_samples_per_send: 20, max_backoff: 200ms}}
"
    );
    fs::write(dir.path().join("sender.yml"), config).expect("a file");
    let mut sender = start_sender(dir.path(), sending);
    let feeder = Feeder::new();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let from_ms = since.as_millis() as i64 - 1_000_000;
    let mut fed = Vec::new();
    let mut feed_some = |count: usize| {
        for _ in 0..count {
            let n = fed.len() as i64;
            assert!(feeder.post(sending, body(SERIES, from_ms + 1000 * n, n as f64)));
            fed.push((from_ms + 1000 * n, n as f64));
        }
        fed.clone()
    };
    let arrived = |fed: &[(i64, f64)]| {
        let end_ms = fed.last().map_or(0, |(ts, _)| *ts);
        let whole = |i: usize| kind.stored(receiving, i, end_ms) == fed;
        until(PATIENCE, || (0..SERIES).all(whole).then_some(()))
    };
    let fed = feed_some(40);
    assert!(arrived(&fed).is_some(), "{kind:?}\n{}", sender.log());

    // The receiver goes; the sender is killed; then another sender, and another kill.
    receiver.terminate(PATIENCE).expect("the receiver ends");
    feed_some(60);
    sender.kill();
    sender = start_sender(dir.path(), sending);
    feed_some(50);
    let mut receiver = kind.start(dir.path(), receiving).expect("it was there before");
    feed_some(30);
    sender.kill();
    sender = start_sender(dir.path(), sending);
    let fed = feed_some(10);
    assert!(
        arrived(&fed).is_some(),
        "{kind:?}: series 0 is {:?}\n{}",
        kind.stored(receiving, 0, fed.last().map_or(0, |f| f.0)),
        sender.log()
    );
    let (_, metrics) = http_get(&format!("http://{sending}/metrics")).expect("metrics");
    for name in ["failed_total", "pending"] {
        let name = format!("prometheus_remote_storage_samples_{name}{{");
        let value = metrics.lines().find(|l| l.starts_with(&name)).unwrap_or_default();
        assert!(value.ends_with(" 0"), "{kind:?}: {value}");
    }
    assert!(sender.terminate(PATIENCE).is_some_and(|s| s.success()), "{}", sender.log());
    receiver.kill();
}

#[test]
fn a_real_prometheus_has_everything_once() {
    if available("prometheus") {
        check(Kind::Prometheus);
    }
}

#[test]
fn a_real_victoria_metrics_has_everything_once() {
    if available("victoria-metrics") {
        check(Kind::VictoriaMetrics);
    }
}

#[test]
fn another_watchfire_has_everything_once_by_remote_write_2() {
    check(Kind::Watchfire);
}
