//! Watchfire beside a real Prometheus in one run: the same samples are remote-written
//! into both, the same queries asked of both, the same rules evaluated by both, on the same
//! number of processors. Prints figures of each and their ratio; asserts that the answers
//! are the same, and nothing about speed.
//!
//! `cargo bench --bench versus_prometheus` (needs `prometheus` in PATH; tests/run.sh
//! fetches it into target/tools/usr/bin).

mod rival;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use rival::{PROGRAMS, Server, compressed, http, processors, series};

const SERIES: usize = 20_000;
const STEP_MS: i64 = 15_000;
const SAMPLES: i64 = 240;
const RUNS: usize = 15;

const QUERIES: &[(&str, &str, bool)] = &[
    ("instant selector, 20k series", "demo_total", false),
    ("instant sum by (job)(rate[5m])", "sum by (job) (rate(demo_total[5m]))", false),
    ("instant one series of 20k", "demo_total{instance=\"i7\",path=\"p3\"}", false),
    ("instant regex, 1 job", "count(demo_total{job=~\"job-(3|4)\",instance=~\"i1.*\"})", false),
    ("instant join", "demo_total / on (job, instance, path) group_left () (demo_total + 1)", false),
    ("range 1h/15s sum(rate[5m])", "sum(rate(demo_total[5m]))", true),
    ("range 1h/15s quantile by (job)", "quantile by (job) (0.9, demo_total)", true),
    ("range 1h/15s max_over_time[10m]", "sum(max_over_time(demo_total[10m]))", true),
];

/// 200 recording and 100 alerting rules over the demo series, in ten groups.
fn rules() -> String {
    let mut text = "groups:\n".to_owned();
    for group in 0..10 {
        let _ = writeln!(text, "  - name: g{group}\n    rules:");
        for rule in 0..20 {
            let _ = writeln!(
                text,
                "      - record: job:demo{group}_{rule}:rate5m\n        expr: sum by (job, path) (rate(demo_total{{job=\"job-{group}\", path=~\"p{rule}.*\"}}[5m]))"
            );
        }
        for rule in 0..10 {
            let _ = writeln!(
                text,
                "      - alert: Demo{group}x{rule}\n        expr: rate(demo_total{{job=\"job-{group}\", path=\"p{rule}\"}}[5m]) > 1e9\n        for: 5m\n        annotations: {{summary: 'at {{{{ $value }}}}'}}"
            );
        }
    }
    text
}

/// A remote-write 1.0 request with `count` samples of every series in `range`.
fn write_request(range: std::ops::Range<usize>, first_ms: i64, from: i64, count: i64) -> Vec<u8> {
    let mut request = Vec::new();
    for number in range {
        let labels = [
            ("__name__", "demo_total".to_owned()),
            ("instance", format!("i{}", number / 200)),
            ("job", format!("job-{}", number % 10)),
            ("path", format!("p{}", number / 10 % 20)),
        ];
        let samples = (from..from + count).map(|i| {
            let grown = (i * (3 + number as i64 % 7)) as f64;
            (first_ms + i * STEP_MS, grown + (i * number as i64 % 5) as f64 * 0.25)
        });
        series(&mut request, labels.iter().map(|(n, v)| (*n, v.as_str())), samples);
    }
    compressed(&request)
}

/// Samples a second while requests are under way; making them is not counted.
fn load(server: &Server, first_ms: i64) -> f64 {
    const BATCH: i64 = 20;
    let mut spent = Duration::ZERO;
    for from in (0..SAMPLES).step_by(BATCH as usize) {
        for first in (0..SERIES).step_by(500) {
            let body = write_request(first..first + 500, first_ms, from, BATCH);
            let start = Instant::now();
            http(&server.url("/api/v1/write"), Some(body)).expect("remote write is accepted");
            spent += start.elapsed();
        }
    }
    (SERIES as f64 * SAMPLES as f64) / spent.as_secs_f64()
}

fn query_url(server: &Server, query: &str, range: bool, end_ms: i64) -> String {
    let escaped: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let end = end_ms as f64 / 1000.0;
    let path = if range {
        format!("/api/v1/query_range?query={escaped}&start={}&end={end}&step=15", end - 3600.0)
    } else {
        format!("/api/v1/query?query={escaped}&time={end}")
    };
    server.url(&path)
}

/// Median milliseconds of a query on each server, asked in turn so that what else the
/// machine does meets both; the answers must be the same.
fn ask(servers: [&Server; 2], query: &str, range: bool, end_ms: i64) -> [f64; 2] {
    let urls = servers.map(|s| query_url(s, query, range, end_ms));
    let [p, w] = [0, 1].map(|i| samples(&http(&urls[i], None).expect("an answer")));
    assert_eq!(p.len(), w.len(), "{query}: both return the same number of series");
    for (labels, values) in &p {
        let other = w.get(labels).unwrap_or_else(|| panic!("{query}: no {labels}"));
        assert_eq!(values.len(), other.len(), "{query}: {labels}");
        for ((t1, v1), (t2, v2)) in values.iter().zip(other) {
            // Prometheus 2.x adds up without compensation, so the last digits differ.
            let same = (v1 - v2).abs() <= 1e-9 * v1.abs().max(v2.abs());
            assert!(t1 == t2 && same, "{query}: {labels} at {t1}: {v1} and {v2}");
        }
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (url, times) in urls.iter().zip(&mut times) {
            let start = Instant::now();
            http(url, None).expect("an answer");
            times.push(start.elapsed().as_secs_f64() * 1000.0);
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// The samples of an answer by label set.
fn samples(text: &str) -> BTreeMap<String, Vec<(f64, f64)>> {
    let json: Json = serde_json::from_str(text).expect("JSON");
    let sample = |point: &Json| {
        let value = point[1].as_str().and_then(|v| v.parse().ok()).expect("a number");
        (point[0].as_f64().expect("a time"), value)
    };
    let series = json["data"]["result"].as_array().expect("a result").iter();
    series
        .map(|s| {
            // Objects of serde_json are sorted by key: equal label sets print equally.
            let points = match s["values"].as_array() {
                Some(points) => points.iter().map(sample).collect(),
                None => vec![sample(&s["value"])],
            };
            (s["metric"].to_string(), points)
        })
        .collect()
}

/// Seconds of evaluation per tick over all rule groups, from the API.
fn rule_seconds(server: &Server) -> f64 {
    let text = http(&server.url("/api/v1/rules"), None).expect("an answer");
    let json: Json = serde_json::from_str(&text).expect("JSON");
    let groups = json["data"]["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().filter_map(|g| g["evaluationTime"].as_f64()).sum()
}

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let first_ms = (now - SAMPLES * STEP_MS) / STEP_MS * STEP_MS;
    // Between two samples: before 3.0 a window holds the sample at its very start too.
    let end_ms = first_ms + (SAMPLES - 1) * STEP_MS + 5_000;
    let config = dir.path().join("prometheus.yml");
    fs::write(&config, "global: {evaluation_interval: 2s}\nrule_files: [rules.yml]\n")
        .and_then(|()| fs::write(dir.path().join("rules.yml"), rules()))
        .expect("a writable folder");
    let started = PROGRAMS.map(|p| Server::start(p, &dir.path().join(p.0), &config));
    let [Some(prometheus), Some(watchfire)] = started else {
        println!("skipped: `prometheus` is not in PATH or a server did not start");
        return;
    };
    let print = |what: &str, unit: &str, p: f64, w: f64, higher_is_better: bool| {
        let ratio = if higher_is_better { w / p } else { p / w };
        println!("| {what} | {p:.2} {unit} | {w:.2} {unit} | {ratio:.2}x |");
    };
    let built = http(&prometheus.url("/api/v1/status/buildinfo"), None).expect("an answer");
    let built: Json = serde_json::from_str(&built).expect("JSON");
    println!(
        "Prometheus {}, {} processors each.",
        built["data"]["version"].as_str().unwrap_or("of unknown version"),
        processors()
    );
    println!(
        "{SERIES} series x {SAMPLES} samples; medians of {RUNS}; ratio > 1: Watchfire is better\n"
    );
    println!("| measure | Prometheus | Watchfire | ratio |\n| --- | --- | --- | --- |");
    let loaded = [&prometheus, &watchfire].map(|s| load(s, first_ms) / 1000.0);
    print("remote write", "k samples/s", loaded[0], loaded[1], true);
    for (what, query, range) in QUERIES {
        let [p, w] = ask([&prometheus, &watchfire], query, *range, end_ms);
        print(what, "ms", p, w, false);
    }
    // Both have evaluated their rules over the loaded data by now; let a few ticks pass.
    std::thread::sleep(Duration::from_secs(10));
    let (p, w) = (rule_seconds(&prometheus) * 1000.0, rule_seconds(&watchfire) * 1000.0);
    print("300 rules, one tick", "ms", p, w, false);
    let cpu = [&prometheus, &watchfire].map(Server::cpu_seconds);
    print("CPU of the whole run", "s", cpu[0], cpu[1], false);
    let memory = [&prometheus, &watchfire].map(Server::resident_mib);
    print("resident memory at the end", "MiB", memory[0], memory[1], false);
}
