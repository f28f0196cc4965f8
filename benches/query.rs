//! The language: parsing, and evaluating the common shapes of queries over decoded samples.
//!
//! `cargo bench --bench query [FILTER [SECONDS]]`: rows that contain the filter, e.g.
//! `'rate | embedded | 10000 | 1 |'`, each for that long. Prints the best of many runs as Markdown: what
//! else the machine does shows least in it. "ns per sample read" counts each stored sample
//! once, however many windows it lies in; "ns per sample" counts it once in each window, as
//! the samples of a query's statistics do. Every row includes finding the series and reading
//! their samples, which in the embedded store means decoding its chunks and in the memory
//! store copying; what that alone takes is measured apart, and "ns per sample once read" is
//! of the rest: of the evaluation itself. What no evaluation can be quicker than is measured
//! beside: one pass that does nothing but add up times and values.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use watchfire::model::{Labels, Matcher, StepGrid};
use watchfire::parser::{ParserOptions, parse};
use watchfire::query::{Engine, EngineOptions, RunOptions};
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::tsdb::{Tsdb, TsdbOptions};
use watchfire::storage::{SelectHints, SelectRequest, SeriesRef, SeriesSet, Sink, Source};
use watchfire::telemetry::clock::SystemClock;
use watchfire::vector::RawSamples;

/// The allocator of the service.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a case may take, after one run that warms caches.
const BUDGET: Duration = Duration::from_millis(250);
const RUNS_MIN: usize = 3;
const RUNS_MAX: usize = 10_000;
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

/// Name, expression, and what it reads: a metric, and how many minutes before each step.
type Shape = (&'static str, &'static str, &'static [(&'static str, i64)]);

const REQUESTS: &[(&str, i64)] = &[("requests_total", 5)];

const SHAPES: &[Shape] = &[
    ("selector", "requests_total", REQUESTS),
    ("rate", "rate(requests_total[5m])", REQUESTS),
    ("sum by rate", "sum by (path) (rate(requests_total[5m]))", REQUESTS),
    ("histogram_quantile", "histogram_quantile(0.9, rate(requests_total[5m]))", REQUESTS),
    (
        "join, one-to-one",
        "requests_total / on (instance, le, path) requests_total",
        &[("requests_total", 5), ("requests_total", 5)],
    ),
    (
        "join, many-to-one",
        "requests_total * on (instance) group_left (team) instance_info",
        &[("requests_total", 5), ("instance_info", 5)],
    ),
    ("topk", "topk by (path) (5, requests_total)", REQUESTS),
    ("subquery", "max_over_time(rate(requests_total[1m])[5m:30s])", &[("requests_total", 6)]),
];

/// Which rows, and for how long each.
struct Asked {
    filter: String,
    budget: Duration,
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let filter = args.next().unwrap_or_default();
    let seconds = args.next().and_then(|s| s.parse().ok());
    let asked = Asked { filter, budget: seconds.map_or(BUDGET, Duration::from_secs_f64) };
    println!("| parse | bytes | µs |\n| --- | ---: | ---: |");
    let options = ParserOptions::all();
    for (name, text) in [("short", "sum by (job) (rate(requests_total[5m]))"), ("long", LONG)] {
        if name.contains(&asked.filter) {
            let run = || parse(black_box(text), &options).expect("a valid expression");
            let time = best(asked.budget, run);
            println!("| {name} | {} | {:.1} |", text.len(), time.as_secs_f64() * 1e6);
        }
    }
    println!("\n| floor | series | ms | ns per sample |\n| --- | ---: | ---: | ---: |");
    for series in [1_000, 10_000] {
        if format!("| floor | {series} |").contains(&asked.filter) {
            floor(series, &asked);
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\n| evaluate | store | series | steps | 1 thread, ms | of it find and read, ms | ns per sample read | ns per sample once read | ns per sample | {threads} threads, ms |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path();
    let makers: [(&str, u32, Maker<'_>); 3] = [
        ("memory", 1_000, &in_memory),
        ("memory", 10_000, &in_memory),
        ("embedded", 10_000, &|series| embedded(path, series)),
    ];
    for (store, series, make) in makers {
        let mut source = None;
        for shape in SHAPES {
            for steps in [1, 100, 400] {
                let row = format!("| {} | {store} | {series} | {steps} |", shape.0);
                if row.contains(&asked.filter) {
                    let source = source.get_or_insert_with(|| make(series));
                    evaluate(&runtime, source, &row, shape, steps, &asked);
                }
            }
        }
    }
    let row = "| rule | memory | 10 | 1 |";
    if row.contains(&asked.filter) {
        let expr = "sum by (path) (rate(requests_total[5m])) > 0";
        evaluate(&runtime, &in_memory(10), row, &("rule", expr, REQUESTS), 1, &asked);
    }
}

/// Makes a source of so many series.
type Maker<'m> = &'m dyn Fn(u32) -> Arc<dyn Source>;

fn in_memory(series: u32) -> Arc<dyn Source> {
    let storage = MemoryStorage::new();
    for_each_series(series, |labels, samples| {
        for (ts, value) in samples {
            storage.append(labels, ts, value, None).expect("in order");
        }
    });
    Arc::new(storage)
}

/// As a service holds it: scraped batch by batch, maintained once.
fn embedded(dir: &std::path::Path, series: u32) -> Arc<dyn Source> {
    let clock = Arc::new(SystemClock::default());
    let tsdb = Tsdb::open(dir, TsdbOptions::default(), clock).expect("a store");
    type Written = (Labels, Vec<(i64, f64)>, Option<SeriesRef>);
    let mut all: Vec<Written> = vec![];
    for_each_series(series, |labels, samples| all.push((labels.clone(), samples.collect(), None)));
    for i in 0..all[0].1.len() {
        for part in all.chunks_mut(1000) {
            let mut appender = tsdb.appender();
            for (labels, samples, hint) in part {
                let (ts, value) = samples[i];
                *hint = Some(appender.append(*hint, labels, ts, value).expect("in order"));
            }
            appender.commit().expect("a commit");
        }
    }
    tsdb.maintain().expect("maintenance");
    tsdb
}

/// Counters in histograms of ten buckets, ten to an instance, a sample every 15 s for as
/// long as 400 steps of 15 s reach; now and then a counter is reset. Beside them an
/// `instance_info` for every instance.
fn for_each_series(
    series: u32,
    mut take: impl FnMut(&Labels, &mut dyn Iterator<Item = (i64, f64)>),
) {
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
        take(
            &labels,
            &mut (0..samples).map(|t| {
                let grown = if (t + i64::from(i)) % 500 == 0 { 0 } else { t };
                (t * SCRAPE_MS, (grown * i64::from(i % 10 + 1)) as f64)
            }),
        );
        if i % 100 == 0 {
            let info = [("__name__", "instance_info"), ("instance", &instance), ("team", "core")];
            take(&Labels::from_pairs(info), &mut (0..samples).map(|t| (t * SCRAPE_MS, 1.0)));
        }
    }
}

fn evaluate(
    runtime: &Runtime,
    source: &Arc<dyn Source>,
    row: &str,
    (_, expr, reads): &Shape,
    steps: u32,
    asked: &Asked,
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
        *time = best(asked.budget, run);
    }
    let reading = best(asked.budget, || find_and_read(runtime, source, reads, grid)).as_secs_f64();
    let [one, all] = times.map(|t| t.as_secs_f64());
    let (read, seen) = (read as f64 / 1e9, seen as f64 / 1e9);
    println!(
        "{row} {:.3} | {:.3} | {:.1} | {:.1} | {:.2} | {:.3} |",
        one * 1e3,
        reading * 1e3,
        one / read,
        (one - reading) / read,
        one / seen,
        all * 1e3
    );
}

/// Adds up the times and the values of as many samples as a rate over 400 steps reads,
/// which lie in memory as the memory store has them.
fn floor(series: usize, asked: &Asked) {
    const SAMPLES: usize = 420;
    let ts: Vec<i64> = (0..SAMPLES as i64).map(|t| t * SCRAPE_MS).collect();
    let vs: Vec<f64> = ts.iter().map(|t| *t as f64).collect();
    let all: Vec<(Vec<i64>, Vec<f64>)> = (0..series).map(|_| (ts.clone(), vs.clone())).collect();
    let time = best(asked.budget, || {
        let (mut times, mut values) = (0i64, [0.0; 16]);
        for (ts, vs) in black_box(&all) {
            times = times.wrapping_add(ts.iter().sum::<i64>());
            for lanes in vs.as_chunks::<16>().0 {
                values.iter_mut().zip(lanes).for_each(|(sum, v)| *sum += v);
            }
        }
        (times, values)
    });
    let samples = (series * SAMPLES) as f64;
    let time = time.as_secs_f64();
    println!("| floor | {series} | {:.3} | {:.2} |", time * 1e3, time * 1e9 / samples);
}

/// Finds the series and reads their samples, and does nothing else.
fn find_and_read(
    runtime: &Runtime,
    source: &Arc<dyn Source>,
    reads: &[(&str, i64)],
    grid: StepGrid,
) -> usize {
    let mut samples = RawSamples::default();
    let mut count = 0;
    let mut last: Option<(&str, SeriesSet)> = None;
    for (name, minutes) in reads {
        let from_ms = grid.start_ms - minutes * 60_000 + 1;
        let to_ms = grid.end_ms();
        let matchers = vec![Matcher::equal("__name__", name)];
        let request = SelectRequest { matchers, from_ms, to_ms, hints: SelectHints::default() };
        // The same series are found once.
        if last.as_ref().is_none_or(|(before, _)| before != name) {
            let set = runtime.block_on(source.select(&request)).expect("series");
            last = Some((name, set));
        }
        for series in last.iter().flat_map(|(_, set)| &set.series) {
            samples.clear();
            series.read_into(from_ms, to_ms, &mut samples).expect("samples");
            count += black_box(&samples).len();
        }
    }
    count
}

/// The best of as many runs as the budget allows.
fn best<T>(budget: Duration, mut run: impl FnMut() -> T) -> Duration {
    black_box(run());
    let begin = Instant::now();
    let (mut best, mut runs) = (Duration::MAX, 0);
    while runs < RUNS_MIN || (begin.elapsed() < budget && runs < RUNS_MAX) {
        let start = Instant::now();
        black_box(run());
        best = best.min(start.elapsed());
        runs += 1;
    }
    best
}
