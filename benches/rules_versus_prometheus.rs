//! Rules at scale beside a real Prometheus in one run: the same rule files over the same
//! remote-written series. Prints processor seconds of a full cycle (every
//! rule once) and resident memory of both; asserts that both record the same, and that
//! no evaluation failed, and nothing about speed.
//!
//! `cargo bench --bench rules_versus_prometheus [large|small]` (needs `prometheus` in PATH;
//! tests/run.sh fetches it into target/tools/usr/bin).
//!
//! Method. An hour of samples is written into both; from then on a sample of every series
//! every 15 s, a few seconds before its time, so that both have the same samples whenever
//! they evaluate. The processor time of both processes is read at the beginning and at the
//! end of one evaluation interval without rules, and of several with them, in which every
//! group is evaluated exactly so many times; the difference per interval is what a cycle
//! costs.

mod rival;
#[path = "rules_scale/mod.rs"]
mod scale;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use rival::{PROGRAMS, Server, compressed, http, processors, series};
use scale::{SCALES, Scale};

const STEP_MS: i64 = 15_000;
/// Before the first evaluation: the longest range is an hour.
const HISTORY_MS: i64 = 62 * 60_000;
/// How long before its time a sample is written.
const EARLY_MS: i64 = 6_000;
/// Of the recorded expressions, one in so many is compared.
const COMPARED_EVERY: usize = 7;
/// An evaluation is over that long after its time.
const SETTLED_MS: i64 = 10_000;
/// A multiple of the step, so that as many steps are written in each.
const INTERVAL: Duration = Duration::from_secs(30);
const CYCLES: u32 = 4;
const SERIES_PER_REQUEST: usize = 2_000;
const SAMPLES_PER_REQUEST: i64 = 20;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Writes the samples of the given steps into both.
fn write(servers: [&Server; 2], data: &scale::Data, first_ms: i64, steps: std::ops::Range<i64>) {
    for (number, part) in data.series.chunks(SERIES_PER_REQUEST).enumerate() {
        let mut request = Vec::new();
        for (i, one) in part.iter().enumerate() {
            let seed = (number * SERIES_PER_REQUEST + i) as i64;
            let values = steps.clone().map(|i| (first_ms + i * STEP_MS, one.value(seed, i)));
            let labels = one.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            series(&mut request, labels, values);
        }
        let body = compressed(&request);
        for server in servers {
            http(&server.url("/api/v1/write"), Some(body.clone())).expect("accepted");
        }
    }
}

/// The first step whose time to be written has not come.
fn next_step(first_ms: i64) -> i64 {
    (now_ms() + EARLY_MS - first_ms).div_euclid(STEP_MS) + 1
}

/// Writes what is due until now; the step to go on with.
fn catch_up(servers: [&Server; 2], data: &scale::Data, first_ms: i64, mut from: i64) -> i64 {
    loop {
        let to = next_step(first_ms).min(from + SAMPLES_PER_REQUEST);
        if from == to {
            return from;
        }
        write(servers, data, first_ms, from..to);
        from = to;
    }
}

fn json(server: &Server, path: &str) -> Json {
    let text = http(&server.url(path), None).expect("an answer");
    serde_json::from_str(&text).expect("JSON")
}

fn query(server: &Server, text: &str, at_ms: i64) -> BTreeMap<String, f64> {
    let escaped: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let time = at_ms as f64 / 1000.0;
    let answer = json(server, &format!("/api/v1/query?query={escaped}&time={time}"));
    let value = |s: &Json| s["value"][1].as_str().and_then(|v| v.parse().ok()).expect("a number");
    let series = answer["data"]["result"].as_array().expect("a vector").iter();
    series.map(|s| (s["metric"].to_string(), value(s))).collect()
}

/// Both made the same series, no rule failed, and what rules record from samples is the
/// same on both but for the last digits of sums. Prometheus 2 gives groups other places in
/// their interval, so that is asked at one time of both.
fn assert_same(servers: [&Server; 2], recorded: &[String], at_ms: i64) -> usize {
    let [p, w] = servers.map(|s| query(s, "{__name__=~\".+:.+\"}", at_ms));
    assert!(p.keys().eq(w.keys()), "both made the same series: {} and {}", p.len(), w.len());
    for text in recorded.iter().filter(|text| !reads_rules(text)).step_by(COMPARED_EVERY) {
        let [p, w] = servers.map(|s| query(s, text, at_ms));
        assert!(p.keys().eq(w.keys()), "{text}: {} and {} series", p.len(), w.len());
        for (labels, value) in &p {
            let other = w[labels];
            let near = (value - other).abs() <= 1e-9 * value.abs().max(other.abs());
            let same = near || value.is_nan() && other.is_nan();
            assert!(
                same || is_tie(servers[0], text, at_ms, labels, other),
                "{text}: {value} and {other}"
            );
        }
    }
    for server in servers {
        let groups = json(server, "/api/v1/rules");
        let groups = groups["data"]["groups"].as_array().expect("groups").iter();
        for rule in groups.flat_map(|g| g["rules"].as_array().expect("rules").clone()) {
            assert_eq!(rule["health"], "ok", "{}: {}", rule["name"], rule["lastError"]);
        }
    }
    p.len()
}

/// True when a quantile lies where the last digit of a sum decides between two buckets: the
/// value is between those of quantiles just below and just above.
fn is_tie(server: &Server, text: &str, at_ms: i64, labels: &str, value: f64) -> bool {
    let parts = text.strip_prefix("histogram_quantile(").and_then(|rest| rest.split_once(", "));
    let Some((quantile, rest)) = parts else { return false };
    let Ok(quantile) = quantile.parse::<f64>() else { return false };
    let [low, high] = [-1e-9, 1e-9].map(|by| {
        let text = format!("histogram_quantile({}, {rest}", quantile + by);
        query(server, &text, at_ms).get(labels).copied().unwrap_or(f64::NAN)
    });
    (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(&value)
}

/// Whether an expression reads what other rules make: their names hold a colon.
fn reads_rules(expr: &str) -> bool {
    ["service:", "service_route:", "instance:", "namespace:"].iter().any(|s| expr.contains(s))
}

/// Processor seconds both use in a while.
fn cpu_during(servers: [&Server; 2], time: Duration) -> [f64; 2] {
    let before = servers.map(Server::cpu_seconds);
    std::thread::sleep(time);
    let after = servers.map(Server::cpu_seconds);
    [after[0] - before[0], after[1] - before[1]]
}

fn run(scale: &Scale) {
    let dir = tempfile::tempdir().expect("a folder");
    let data = scale.data();
    let rules = scale.rules();
    let (groups, count) = (rules.groups, rules.rules);
    let config = dir.path().join("prometheus.yml");
    let seconds = INTERVAL.as_secs();
    let rule_file = dir.path().join("rules.yml");
    let text = format!("global: {{evaluation_interval: {seconds}s}}\nrule_files: [rules.yml]\n");
    fs::write(&config, text).and_then(|()| fs::write(&rule_file, "groups: []\n")).expect("files");
    let started = PROGRAMS.map(|p| Server::start(p, &dir.path().join(p.0), &config));
    let [Some(prometheus), Some(watchfire)] = &started else {
        println!("skipped: `prometheus` is not in PATH or a server did not start");
        return;
    };
    let servers = [prometheus, watchfire];
    // No sample stands where a window may begin or end.
    let first_ms = (now_ms() - HISTORY_MS) / STEP_MS * STEP_MS + 137;
    let mut next = catch_up(servers, &data, first_ms, 0);
    let measured = std::sync::atomic::AtomicBool::new(false);
    let (loaded, idle, busy, memory) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !measured.load(std::sync::atomic::Ordering::Relaxed) {
                next = catch_up(servers, &data, first_ms, next);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        // Let both finish what loading left behind.
        std::thread::sleep(INTERVAL);
        let loaded = servers.map(Server::resident_mib);
        let idle = cpu_during(servers, INTERVAL);
        fs::write(&rule_file, &rules.text).expect("a rule file");
        for server in servers {
            http(&server.url("/-/reload"), Some(vec![])).expect("good rules");
        }
        // The first cycles make series.
        std::thread::sleep(2 * INTERVAL);
        let busy = cpu_during(servers, CYCLES * INTERVAL);
        let memory = servers.map(Server::resident_mib);
        measured.store(true, std::sync::atomic::Ordering::Relaxed);
        (loaded, idle, busy, memory)
    });
    // What both have finished, whichever was slower.
    let made = assert_same(servers, &rules.recorded, now_ms() - SETTLED_MS);
    let cycle = [0, 1].map(|i| busy[i] / f64::from(CYCLES) - idle[i]);
    println!(
        "\n{} series, {count} rules in {groups} groups, {made} series recorded\n",
        data.series.len()
    );
    println!("| measure | Prometheus | Watchfire | ratio |\n| --- | --- | --- | --- |");
    let print = |what: &str, unit: &str, [p, w]: [f64; 2]| {
        println!("| {what} | {p:.2} {unit} | {w:.2} {unit} | {:.1}x |", p / w);
    };
    print("processor time of a cycle", "s", cycle);
    print("processor time of a rule", "ms", cycle.map(|s| s * 1e3 / count as f64));
    print("resident memory, data loaded", "MiB", loaded);
    print("resident memory, rules running", "MiB", memory);
    println!("\nidle, per interval: {:.2} s and {:.2} s", idle[0], idle[1]);
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    println!(
        "{} processors; interval {} s, {CYCLES} cycles measured; ratio > 1: Watchfire is better",
        processors(),
        INTERVAL.as_secs()
    );
    SCALES.iter().filter(|scale| scale.name.contains(&filter)).for_each(run);
}
