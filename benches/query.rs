//! The language: parsing, and evaluating the common shapes of queries over decoded samples.
//!
//! `cargo bench --bench query [FILTER]`. Prints medians as Markdown. "ns per sample read"
//! counts each stored sample once, however many windows it lies in; "ns per sample" counts
//! it once in each window, as the samples of a query's statistics do. The data lie in the
//! memory store, so that no chunk decoding is measured: `storage` does that.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use watchfire::model::{Labels, StepGrid};
use watchfire::parser::{ParserOptions, parse};
use watchfire::query::{Engine, EngineOptions, RunOptions};
use watchfire::storage::Source;
use watchfire::storage::memory::MemoryStorage;

/// What a case may take, after one run that warms caches.
const BUDGET: Duration = Duration::from_millis(250);
const RUNS_MIN: usize = 3;
const RUNS_MAX: usize = 1000;
const SCRAPE_MS: i64 = 15_000;
/// First step: behind the longest range below.
const START_MS: i64 = 900_000;

const LONG: &str = r#"
    histogram_quantile(0.99, sum by (job, le) (rate(http_request_duration_seconds_bucket{
        job=~"api-.+", env!="dev", status!~"5.."}[5m] offset 1h)))
      / on (job) group_left (team, tier)
        (avg by (job, team, tier) (service_info{env="prod"} == 1) * 2 ^ 3)
      > bool 0.5
      and on (job) (max_over_time(sum by (job) (up{env="prod"})[1h:5m] @ end()) > 0
        or absent(up{job="api-none"}) unless label_replace(vector(1), "job", "$1", "x", "(.*)"))
"#;

const SHAPES: &[(&str, &str)] = &[
    ("selector", "requests_total"),
    ("rate", "rate(requests_total[5m])"),
    ("sum by rate", "sum by (path) (rate(requests_total[5m]))"),
    ("histogram_quantile", "histogram_quantile(0.9, rate(requests_total[5m]))"),
    ("join, one-to-one", "requests_total / on (instance, le, path) requests_total"),
    ("join, many-to-one", "requests_total * on (instance) group_left (team) instance_info"),
    ("topk", "topk by (path) (5, requests_total)"),
    ("subquery", "max_over_time(rate(requests_total[1m])[5m:30s])"),
];

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    println!("| parse | bytes | µs |\n| --- | ---: | ---: |");
    let options = ParserOptions::all();
    for (name, text) in [("short", "sum by (job) (rate(requests_total[5m]))"), ("long", LONG)] {
        if name.contains(&filter) {
            let time = median(|| parse(black_box(text), &options).expect("a valid expression"));
            println!("| {name} | {} | {:.1} |", text.len(), time.as_secs_f64() * 1e6);
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\n| evaluate | series | steps | 1 thread, ms | ns per sample read | ns per sample | {threads} threads, ms |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let runtime = Runtime::new().expect("a runtime");
    for series in [1_000, 10_000] {
        let source = load(series);
        for (name, expr) in SHAPES {
            for steps in [1, 100, 400] {
                if name.contains(&filter) {
                    evaluate(&runtime, &source, name, expr, series, steps);
                }
            }
        }
    }
    if "rule".contains(&filter) {
        let few = load(10);
        evaluate(&runtime, &few, "rule", "sum by (path) (rate(requests_total[5m])) > 0", 10, 1);
    }
}

/// Counters in histograms of ten buckets, ten to an instance, a sample every 15 s for as
/// long as 400 steps of 15 s reach; now and then a counter is reset.
fn load(series: u32) -> Arc<dyn Source> {
    let storage = MemoryStorage::new();
    let samples = START_MS / SCRAPE_MS + 400;
    for i in 0..series {
        let instance = format!("host-{}:9100", i / 100);
        let labels = Labels::from_pairs([
            ("__name__", "requests_total".to_owned()),
            ("instance", instance.clone()),
            ("job", "api".to_owned()),
            ("le", if i % 10 == 9 { "+Inf".to_owned() } else { format!("0.{}", i % 10 + 1) }),
            ("path", format!("/api/{}", i / 10 % 10)),
        ]);
        for t in 0..samples {
            let grown = if (t + i64::from(i)) % 500 == 0 { 0 } else { t };
            let value = (grown * i64::from(i % 10 + 1)) as f64;
            storage.append(&labels, t * SCRAPE_MS, value, None).expect("in order");
            if i % 100 == 0 {
                let info =
                    [("__name__", "instance_info"), ("instance", &instance), ("team", "core")];
                storage.append(&Labels::from_pairs(info), t * SCRAPE_MS, 1.0, None).expect("info");
            }
        }
    }
    Arc::new(storage)
}

fn evaluate(
    runtime: &Runtime,
    source: &Arc<dyn Source>,
    name: &str,
    expr: &str,
    series: u32,
    steps: u32,
) {
    let grid = StepGrid { start_ms: START_MS, step_ms: SCRAPE_MS, len: steps };
    let options = RunOptions::default();
    let mut times = [Duration::ZERO; 2];
    let (mut read, mut seen) = (1, 1);
    for (time, parallel) in times.iter_mut().zip([false, true]) {
        let engine = Engine::new(EngineOptions { parallel, ..EngineOptions::default() });
        let query = engine.prepare(expr).expect("a valid expression");
        let run = || runtime.block_on(query.range(source, grid, &options)).expect("a result");
        let stats = run().stats;
        (read, seen) = (stats.samples_read.max(1), stats.total_queryable_samples.max(1));
        *time = median(run);
    }
    let [one, all] = times.map(|t| t.as_secs_f64());
    let (ms, read, seen) = (one * 1e3, one * 1e9 / read as f64, one * 1e9 / seen as f64);
    println!(
        "| {name} | {series} | {steps} | {ms:.3} | {read:.1} | {seen:.2} | {:.3} |",
        all * 1e3
    );
}

/// The median of as many runs as the budget allows.
fn median<T>(mut run: impl FnMut() -> T) -> Duration {
    black_box(run());
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < RUNS_MIN || (begin.elapsed() < BUDGET && times.len() < RUNS_MAX) {
        let start = Instant::now();
        black_box(run());
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}
