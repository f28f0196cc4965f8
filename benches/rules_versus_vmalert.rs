//! Rules beside a real vmalert over the same VictoriaMetrics, and beside a Prometheus that
//! evaluates them itself: the same rule file, one after the other, written back to the same
//! server. Prints what a full cycle (every rule once) costs: requests for samples to the
//! server, processor seconds of the server and of the evaluator, bytes of the answers. Asserts
//! that all record the same series, and nothing about speed.
//!
//! `cargo bench --bench rules_versus_vmalert [large|small [ARM]]` (needs `victoria-metrics`,
//! `vmalert` and `prometheus` in PATH, which are Debian packages). An arm is named by a part
//! of its name, as in the first column.
//!
//! Method. Samples of 82 minutes, 15 s apart, are written at once, so that nothing is
//! written but results while it is measured. The server alone is measured for one interval,
//! then each evaluator for several; the server's own share is taken off. Each starts and
//! ends within one evaluation interval of its own.

mod rival;
#[path = "rules_scale/mod.rs"]
mod scale;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use rival::{Server, compressed, http, processors, series};
use scale::{SCALES, Scale};

const STEP_MS: i64 = 15_000;
const HISTORY_MS: i64 = 62 * 60_000;
/// What is written before its time.
const AHEAD_MS: i64 = 20 * 60_000;
const INTERVAL: Duration = Duration::from_secs(30);
const CYCLES: u32 = 3;
const SERIES_PER_REQUEST: usize = 2_000;
const SAMPLES_PER_REQUEST: usize = 40;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// The sum of the metrics of these names over what they are labelled with.
fn metric(server: &Server, wanted: &[&str]) -> f64 {
    // A connection that was idle for a minute is closed by the server just when it is used.
    let text = (0..3).find_map(|_| http(&server.url("/metrics"), None)).expect("metrics");
    let lines = text.lines().filter(|line| wanted.iter().any(|w| line.starts_with(w)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What a server has done so far.
#[derive(Clone, Copy, Default)]
struct Done {
    server_cpu: f64,
    evaluator_cpu: f64,
    queries: f64,
    bytes_out: f64,
}

/// Requests that samples are asked by, and bytes of what is answered, by server.
const COUNTED: [&str; 8] = [
    "vm_http_requests_total{path=\"/api/v1/query\"}",
    "vm_http_requests_total{path=\"/api/v1/query_range\"}",
    "vm_http_requests_total{path=\"/api/v1/export\"}",
    "vm_http_requests_total{path=\"/api/v1/series\"}",
    "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/query\"}",
    "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/query_range\"}",
    "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/series\"}",
    "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/read\"}",
];
const ANSWERED: [&str; 2] = [
    "vm_tcplistener_written_bytes_total{name=\"http\"",
    "prometheus_http_response_size_bytes_sum{handler=\"/api/v1/",
];

fn done(server: &Server, evaluator: Option<&Server>) -> Done {
    Done {
        server_cpu: server.cpu_seconds(),
        evaluator_cpu: evaluator.map_or(0.0, Server::cpu_seconds),
        queries: metric(server, &COUNTED),
        bytes_out: metric(server, &ANSWERED),
    }
}

impl Done {
    fn since(self, before: Self) -> Self {
        Self {
            server_cpu: self.server_cpu - before.server_cpu,
            evaluator_cpu: self.evaluator_cpu - before.evaluator_cpu,
            queries: self.queries - before.queries,
            bytes_out: self.bytes_out - before.bytes_out,
        }
    }
}

/// What a cycle costs while an evaluator runs, the server's own work taken off.
fn measure(server: &Server, evaluator: Option<&Server>, idle: Done) -> Done {
    // The first cycles make series, and the first ones of ours show what is asked again.
    std::thread::sleep(2 * INTERVAL);
    let before = done(server, evaluator);
    std::thread::sleep(CYCLES * INTERVAL);
    let all = done(server, evaluator).since(before);
    let cycles = f64::from(CYCLES);
    Done {
        server_cpu: all.server_cpu / cycles - idle.server_cpu,
        evaluator_cpu: all.evaluator_cpu / cycles,
        queries: all.queries / cycles,
        bytes_out: all.bytes_out / cycles - idle.bytes_out,
    }
}

fn write(server: &Server, data: &scale::Data, first_ms: i64) {
    let steps: Vec<i64> = (0..(HISTORY_MS + AHEAD_MS) / STEP_MS).collect();
    // Time after time: Prometheus refuses what is far older than what it has.
    for steps in steps.chunks(SAMPLES_PER_REQUEST) {
        for (number, part) in data.series.chunks(SERIES_PER_REQUEST).enumerate() {
            let mut request = Vec::new();
            for (i, one) in part.iter().enumerate() {
                let seed = (number * SERIES_PER_REQUEST + i) as i64;
                let values = steps.iter().map(|i| (first_ms + i * STEP_MS, one.value(seed, *i)));
                let labels = one.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                series(&mut request, labels, values);
            }
            http(&server.url("/api/v1/write"), Some(compressed(&request))).expect("accepted");
        }
    }
}

/// How many series with a colon in their names have a sample in the last two minutes.
fn recorded(server: &Server) -> usize {
    let text = "count(last_over_time({__name__=~\".+:.+\"}[2m]))";
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let text = http(&server.url(&format!("/api/v1/query?query={text}")), None).expect("an answer");
    let answer: Json = serde_json::from_str(&text).expect("JSON");
    let value = answer["data"]["result"][0]["value"][1].as_str();
    value.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// The programs of VictoriaMetrics cannot be told to name errors alone; Watchfire is.
fn quiet(program: &str, args: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stderr(Stdio::null());
    command
}

fn start_server(home: &Path) -> Option<Server> {
    Server::launch("victoria-metrics", "/health", |address| {
        quiet(
            "victoria-metrics",
            &[
                format!("-httpListenAddr={address}"),
                format!("-storageDataPath={}", home.display()),
                "-search.latencyOffset=0s".to_owned(),
                "-search.disableCache".to_owned(),
            ],
        )
    })
}

fn start_vmalert(server: &Server, rules: &Path) -> Option<Server> {
    Server::launch("vmalert", "/health", |address| {
        quiet(
            "vmalert",
            &[
                format!("-httpListenAddr={address}"),
                format!("-datasource.url={}", server.url("")),
                format!("-remoteWrite.url={}", server.url("")),
                format!("-rule={}", rules.display()),
                format!("-evaluationInterval={}s", INTERVAL.as_secs()),
                // Nobody is there: the rules are recording rules.
                "-notifier.url=http://127.0.0.1:1".to_owned(),
            ],
        )
    })
}

/// A Prometheus that takes remote write, and the file its rules are read from, which is not
/// there yet.
fn start_prometheus(home: &Path) -> Option<Server> {
    fs::create_dir_all(home).ok()?;
    let config = home.join("prometheus.yml");
    let text = format!(
        "global: {{evaluation_interval: {}s}}\nrule_files: [own-*.yml]\n",
        INTERVAL.as_secs()
    );
    fs::write(&config, text).ok()?;
    Server::start(("prometheus", "prometheus"), home, &config)
}

fn start_sidecar(
    server: &Server,
    rules: &Path,
    home: &Path,
    (kind, evaluate): (&str, &str),
) -> Option<Server> {
    Server::launch("watchfire", "/-/ready", |address| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchfire"));
        command.args([
            "sidecar".to_owned(),
            format!("--prometheus.type={kind}"),
            format!("--prometheus.evaluate={evaluate}"),
            format!("--prometheus.url={}", server.url("")),
            format!("--rules={}", rules.display()),
            format!("--rules.evaluation-interval={}s", INTERVAL.as_secs()),
            format!("--storage.path={}", home.display()),
            format!("--web.listen-address={address}"),
            "--rules.align-groups".to_owned(),
            "--log.level=error".to_owned(),
        ]);
        command
    })
}

/// Who evaluates, over which server.
#[derive(Clone, Copy)]
enum Arm {
    Vmalert,
    /// A Prometheus its own rules.
    Itself,
    /// Watchfire, with a type of server and where expressions are evaluated.
    Watchfire(&'static str, &'static str),
}

const ARMS: [(&str, Arm); 7] = [
    ("vmalert over VictoriaMetrics", Arm::Vmalert),
    ("watchfire over VictoriaMetrics, here", Arm::Watchfire("victoriametrics", "here")),
    ("watchfire over VictoriaMetrics, push-down", Arm::Watchfire("victoriametrics", "push-down")),
    ("Prometheus itself", Arm::Itself),
    ("watchfire over Prometheus, remote read", Arm::Watchfire("remote-read", "here")),
    ("watchfire over Prometheus, here", Arm::Watchfire("prometheus", "here")),
    ("watchfire over Prometheus, push-down", Arm::Watchfire("prometheus", "push-down")),
];

impl Arm {
    fn start_server(self, home: &Path) -> Option<Server> {
        match self {
            Self::Itself | Self::Watchfire("prometheus" | "remote-read", _) => {
                start_prometheus(home)
            }
            _ => start_server(home),
        }
    }

    /// The process that evaluates, beside the server; `None` in it when there is none.
    fn start(self, server: &Server, rules: &Path, home: &Path) -> Option<Option<Server>> {
        match self {
            Self::Vmalert => start_vmalert(server, rules).map(Some),
            Self::Watchfire(kind, evaluate) => {
                start_sidecar(server, rules, &home.join("state"), (kind, evaluate)).map(Some)
            }
            Self::Itself => {
                fs::copy(rules, home.join("server/own-rules.yml")).ok()?;
                // Any request with a body is a POST.
                http(&server.url("/-/reload"), Some(Vec::new()))?;
                Some(None)
            }
        }
    }
}

fn run(scale: &Scale, arms: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let data = scale.data();
    let rules = scale.rules();
    let rule_file = dir.path().join("rules.yml");
    fs::write(&rule_file, &rules.text).expect("a rule file");
    println!(
        "\n{}: {} series, {} rules in {} groups\n",
        scale.name,
        data.series.len(),
        rules.rules,
        rules.groups
    );
    println!(
        "| a cycle | requests | processor time of the server | of the evaluator | answered | series recorded |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut made = Vec::new();
    // Each over a server of its own, so that neither finds what the other recorded.
    for (number, (name, arm)) in ARMS.iter().enumerate() {
        if !name.contains(arms) {
            continue;
        }
        let home = dir.path().join(number.to_string());
        let Some(server) = arm.start_server(&home.join("server")) else {
            println!("skipped: the server for {name} is not in PATH");
            continue;
        };
        // Now, so that windows are full however long the others took.
        let first_ms = (now_ms() - HISTORY_MS) / STEP_MS * STEP_MS + 137;
        write(&server, &data, first_ms);
        std::thread::sleep(INTERVAL);
        let before = done(&server, None);
        std::thread::sleep(INTERVAL);
        let idle = done(&server, None).since(before);
        let Some(evaluator) = arm.start(&server, &rule_file, &home) else {
            println!("skipped: {name} did not start");
            continue;
        };
        let cost = measure(&server, evaluator.as_ref(), idle);
        made.push(recorded(&server));
        println!(
            "| {name} | {:.0} | {:.2} s | {:.2} s | {:.1} MiB | {} |",
            cost.queries,
            cost.server_cpu,
            cost.evaluator_cpu,
            cost.bytes_out / f64::from(1 << 20),
            made[made.len() - 1]
        );
    }
    assert!(made.iter().all(|n| *n == made[0]), "all record the same series: {made:?}");
}

fn main() {
    let mut words = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let (filter, arms) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    println!(
        "{} processors; interval {} s, {CYCLES} cycles measured",
        processors(),
        INTERVAL.as_secs()
    );
    SCALES.iter().filter(|scale| scale.name.contains(&filter)).for_each(|scale| run(scale, &arms));
}
