//! Many active alerts in `watchfire serve`: memory, time of an evaluation, size of the
//! state log, and how long a restart after SIGKILL takes until every alert is back.
//! Asserts that all alerts are there, and nothing about speed.
//!
//! `cargo bench --bench alert_state [-- ALERTS]`; without a number it is 100,000.
//!
//! The bench serves the metrics the alerts are about, one series each, and takes the
//! place of the Alertmanager.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Series of one scrape.
const TARGET_SERIES: usize = 50_000;
const PATIENCE: Duration = Duration::from_secs(600);

const RULES: &str = "
groups:
- name: many
  interval: 15s
  rules:
  - alert: InstanceSlow
    expr: demo_latency_seconds > 0.5
    labels: {severity: page, team: '{{ $labels.job }}'}
    annotations:
      summary: 'Instance {{ $labels.instance }} of {{ $labels.job }} is slow'
      description: 'p99 latency of {{ $labels.path }} is {{ $value | humanizeDuration }}.'
";

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(dir: &Path, config: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let child = Command::new(env!("CARGO_BIN_EXE_watchfire"))
            .arg("serve")
            .arg(format!("--config.file={config}"))
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("watchfire starts");
        Self { child, address }
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split_whitespace().nth(1).filter(|status| *status == "200")?;
        Some(body.to_owned())
    }

    fn wait_ready(&self) {
        wait("ready", || self.get("/-/ready"));
    }

    /// The value of a metric of the process.
    fn metric(&self, line_start: &str) -> Option<f64> {
        let text = self.get("/metrics")?;
        let line = text.lines().find(|line| line.starts_with(line_start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn firing(&self) -> Option<usize> {
        let query = "/api/v1/query?query=count(ALERTS%7Balertstate%3D%22firing%22%7D)";
        let answer: serde_json::Value = serde_json::from_str(&self.get(query)?).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    fn rss_bytes(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok());
        kib.unwrap_or(0.0) * 1024.0
    }
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "not {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Answers scrapes of `/N` with the N-th share of the series, and alerts with 200.
fn serve(alerts: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let bodies: Vec<Arc<String>> = (0..alerts)
        .step_by(TARGET_SERIES)
        .map(|from| Arc::new(exposition(from, alerts.min(from + TARGET_SERIES))))
        .collect();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let bodies = bodies.clone();
            std::thread::spawn(move || answer(stream, &bodies));
        }
    });
    address
}

fn exposition(from: usize, to: usize) -> String {
    let mut text = String::from("# TYPE demo_latency_seconds gauge\n");
    for i in from..to {
        let (service, path) = (i % 40, i / 40);
        let _ = writeln!(
            text,
            "demo_latency_seconds{{service=\"service-{service}\",path=\"/api/v1/resource/{path}\"}} 1.{i}"
        );
    }
    text
}

fn answer(mut stream: TcpStream, bodies: &[Arc<String>]) {
    let mut request = Vec::new();
    let mut chunk = [0; 64 << 10];
    // A request for metrics ends with its head; alerts are read as long as they come.
    while let Ok(read) = stream.read(&mut chunk) {
        request.extend_from_slice(&chunk[..read]);
        let Some(head) = request.windows(4).position(|w| w == b"\r\n\r\n") else {
            if read == 0 {
                return;
            }
            continue;
        };
        let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if request.len() >= head + 4 + length.unwrap_or(0) || read == 0 {
            let share = text.split(['/', ' ']).filter_map(|word| word.parse::<usize>().ok()).next();
            let body = share.and_then(|share| bodies.get(share)).map_or("", |body| body.as_str());
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ =
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            return;
        }
    }
}

fn config(target: SocketAddr, alerts: usize, rules: &str) -> String {
    let mut text = format!(
        "global: {{scrape_interval: 1m, scrape_timeout: 1m}}
{rules}
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{target}']}}]}}]}}
scrape_configs:
"
    );
    for share in 0..alerts.div_ceil(TARGET_SERIES) {
        let _ = writeln!(
            text,
            "- {{job_name: job-{share}, metrics_path: /{share}, static_configs: [{{targets: ['{target}']}}]}}"
        );
    }
    text
}

fn directory_bytes(dir: &Path) -> f64 {
    let entries = fs::read_dir(dir).into_iter().flatten().map_while(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|m| m.len() as f64).sum()
}

fn line(what: &str, value: String) {
    println!("{what:<58} {value:>14}");
}

fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / (1 << 20) as f64)
}

fn main() {
    let number = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let alerts: usize = number.unwrap_or(100_000);
    let dir = std::env::temp_dir().join(format!("watchfire-alert-state-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a folder");
    let target = serve(alerts);
    fs::write(dir.join("plain.yml"), config(target, alerts, "")).expect("a config");
    fs::write(dir.join("alerts.yml"), config(target, alerts, "rule_files: [rules.yml]"))
        .expect("a config");
    fs::write(dir.join("rules.yml"), RULES).expect("rules");
    measure(&dir, alerts);
    let _ = fs::remove_dir_all(&dir);
}

fn measure(dir: &Path, alerts: usize) {
    println!("{alerts} active alerts of one rule");
    let server = Server::start(dir, "plain.yml");
    server.wait_ready();
    let all_series =
        || server.metric("prometheus_tsdb_head_series ").filter(|n| *n >= alerts as f64);
    wait("scraped", all_series);
    std::thread::sleep(Duration::from_secs(2));
    let without = server.rss_bytes();
    line("RSS with their series only", mib(without));
    drop(server);

    let server = Server::start(dir, "alerts.yml");
    server.wait_ready();
    wait("firing", || server.firing().filter(|n| *n == alerts));
    let evaluations = || {
        let name = "prometheus_rule_group_iterations_total{";
        server.metric(name).filter(|n| *n >= 6.0)
    };
    wait("evaluated", evaluations);
    wait("idle", || {
        let at = server.metric("prometheus_rule_group_last_duration_seconds{")?;
        (at > 0.0).then_some(())
    });
    let evaluation = server.metric("prometheus_rule_group_last_duration_seconds{").unwrap_or(0.0);
    line("evaluation of the rule", format!("{evaluation:.3} s"));
    let rss = server.rss_bytes();
    line("RSS with the alerts, their series ALERTS included", mib(rss));
    line("of that, per active alert", format!("{:.0} B", (rss - without) / alerts as f64));
    let state = directory_bytes(&dir.join("data/alert_state"));
    line("state log", mib(state));
    line("of that, per active alert", format!("{:.0} B", state / alerts as f64));

    // SIGKILL.
    drop(server);
    let began = Instant::now();
    let server = Server::start(dir, "alerts.yml");
    server.wait_ready();
    line(
        "restart after SIGKILL until ready, log of samples included",
        format!("{:.2} s", began.elapsed().as_secs_f64()),
    );
    let restored = server.metric("watchfire_alert_state_restored_alerts").unwrap_or(0.0);
    assert_eq!(restored as usize, alerts, "every alert is back");
    line("alerts restored", format!("{restored}"));
}
