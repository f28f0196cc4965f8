//! How long a query goes on after its client hung up: a real `watchfire serve` holds many
//! series, each query is sent over a socket that is closed at several moments of its course,
//! and the time is taken until `prometheus_engine_queries` says that nothing is done for it
//! any more. Prints the median and the longest time of each query; asserts nothing.
//!
//! `cargo bench --bench cancel [-- SERIES [FILTER [PROGRAM]]]`: 200,000 series, all queries
//! and the program of this build by default; of queries those that contain the filter.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use watchfire::remote_write::{self, proto};

const STEP_MS: i64 = 15_000;
const SAMPLES: i64 = 40;
/// Moments at which a client hangs up, spread over the time the query takes.
const HANG_UPS: u32 = 12;

/// What some of the queries need.
const FEATURES: &str = "promql-experimental-functions,promql-binop-fill-modifiers";

/// Queries at one time, and over the last ten minutes with 600 steps.
const QUERIES: &[(&str, bool)] = &[
    ("m", false),
    ("rate(m[5m])", false),
    ("m + on (i) n", false),
    ("m * on (tenth) group_left () sum by (tenth) (n)", false),
    ("m + on (i) fill (0) n", false),
    ("m and on (i) n", false),
    ("m or n", false),
    ("sum by (i) (m)", false),
    ("quantile by (tenth) (0.5, m)", false),
    ("topk(100000, m)", false),
    ("count_values('v', m)", false),
    ("sort(m)", false),
    ("sort_by_label(m, 'tenth', 'i')", false),
    ("label_replace(m, 'j', '$2', 'i', '(.*)(.)')", false),
    ("label_join(m, 'j', '-', 'i', 'tenth')", false),
    ("histogram_quantile(0.9, b)", false),
    ("max_over_time(m[5m:15s])", false),
    ("{__name__=~'m|n',i=~'.*[13].*5.*'}", false),
    ("sum(m)", true),
    ("sum by (i) (rate(m[5m]))", true),
    ("sum(m * on (i) n)", true),
    ("quantile(0.5, m{tenth='1'})", true),
    ("topk(10, m{tenth='1'})", true),
    ("count(m{tenth='1'} + on (i) fill (0) n{tenth='1'})", true),
    ("count(max_over_time(rate(m{tenth='1'}[1m])[5m:15s]))", true),
    ("sum(histogram_quantile(0.9, b))", true),
    ("m{tenth=~'1|2'}", true),
];

struct Server {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(program: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, "").expect("a configuration");
        let child = Command::new(program)
            .arg("serve")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--web.enable-remote-write-receiver", "--log.level=error"])
            .arg(format!("--enable-feature={FEATURES}"))
            .stdout(Stdio::null())
            .spawn()
            .expect("a server");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let server = Self { child, address, client: reqwest::Client::new(), runtime, _dir: dir };
        for _ in 0..300 {
            if server.get("/-/ready").is_some() {
                return server;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the server did not get ready");
    }

    fn get(&self, path: &str) -> Option<String> {
        self.runtime.block_on(async {
            let response = self.client.get(format!("http://{}{path}", self.address)).send().await;
            let response = response.ok()?;
            response.status().is_success().then_some(response.text().await.ok()?)
        })
    }

    fn write(&self, request: &proto::WriteRequest) {
        let body = remote_write::encode(request).expect("a body");
        let response = self.runtime.block_on(
            self.client.post(format!("http://{}/api/v1/write", self.address)).body(body).send(),
        );
        let status = response.expect("an answer").status();
        assert!(status.is_success(), "{status}");
    }

    /// Queries at work.
    fn active(&self) -> u64 {
        let metrics = self.get("/metrics").expect("metrics");
        let line = metrics.lines().find_map(|l| l.strip_prefix("prometheus_engine_queries "));
        line.and_then(|v| v.parse().ok()).expect("the gauge of active queries")
    }

    /// How long work goes on after a client that hung up after `after`; `None` when the
    /// query was done by then.
    fn hang_up(&self, path: &str, after: Duration) -> Option<Duration> {
        let mut socket = TcpStream::connect(self.address).expect("a connection");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request sent");
        std::thread::sleep(after);
        if self.active() == 0 {
            return None;
        }
        let closed = Instant::now();
        drop(socket);
        while self.active() > 0 {}
        Some(closed.elapsed())
    }
}

/// Samples of these series up to now: `m`, `n`, and `b` with buckets.
fn write_request(name: &str, range: std::ops::Range<usize>, now_ms: i64) -> proto::WriteRequest {
    let label = |name: &str, value: String| proto::Label { name: name.to_owned(), value };
    let timeseries = range.map(|i| {
        let mut labels = vec![label("__name__", name.to_owned()), label("i", format!("{i:06}"))];
        if name == "b" {
            labels[1].value = format!("{:06}", i / 10);
            labels.push(label("le", (i % 10).to_string()));
        }
        labels.push(label("tenth", (i % 10).to_string()));
        let sample = |s: i64| proto::Sample {
            value: (s * (i as i64 % 11) + i as i64 * 31 % 997) as f64,
            timestamp: now_ms - (SAMPLES - 1 - s) * STEP_MS,
        };
        proto::TimeSeries {
            labels,
            samples: (0..SAMPLES).map(sample).collect(),
            ..Default::default()
        }
    });
    proto::WriteRequest { timeseries: timeseries.collect(), ..Default::default() }
}

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|a| !a.starts_with("--")).collect();
    let series = arguments.get(1).and_then(|a| a.parse().ok()).unwrap_or(200_000);
    let filter = arguments.get(2).map_or("", String::as_str);
    let program = arguments.get(3).map_or(env!("CARGO_BIN_EXE_watchfire"), String::as_str);
    let server = Server::start(program);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let now_ms = i64::try_from(now.as_millis()).expect("a time of this age");
    for name in ["m", "n", "b"] {
        for first in (0..series).step_by(2_000) {
            server.write(&write_request(name, first..(first + 2_000).min(series), now_ms));
        }
    }
    println!("{series} series each of m, n and b, {SAMPLES} samples a series");
    println!("{:>9} {:>11} {:>11} {:>5}  query", "takes ms", "median ms", "longest ms", "cases");
    let mut longest = Duration::ZERO;
    for (query, range) in QUERIES.iter().filter(|(query, _)| query.contains(filter)) {
        let text = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let (start, end) = ((now_ms - SAMPLES * STEP_MS) / 1000, now_ms / 1000);
        let path = if *range {
            format!("/api/v1/query_range?query={text}&start={start}&end={end}&step=1")
        } else {
            format!("/api/v1/query?query={text}&time={end}")
        };
        let began = Instant::now();
        let answered = server.get(&path).is_some();
        let takes = began.elapsed();
        let moments = (0..HANG_UPS).map(|i| takes * i / HANG_UPS);
        let mut late: Vec<Duration> = moments.filter_map(|m| server.hang_up(&path, m)).collect();
        late.sort();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let (median, worst) =
            (late.get(late.len() / 2).copied(), late.last().copied().unwrap_or_default());
        longest = longest.max(worst);
        println!(
            "{:>9.0} {:>11.1} {:>11.1} {:>5}  {query}{}{}",
            ms(takes),
            ms(median.unwrap_or_default()),
            ms(worst),
            late.len(),
            if *range { " (600 steps)" } else { "" },
            if answered { "" } else { " REFUSED" },
        );
    }
    println!("longest of all: {:.1} ms", longest.as_secs_f64() * 1e3);
}
