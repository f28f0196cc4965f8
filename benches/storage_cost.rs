//! What storing costs, beside a real Prometheus: the same remote-write stream into both (a
//! sample of every series each 15 seconds of two hours), blocks of half an hour, and then a
//! restart in order and one after a kill. Prints processor seconds per million samples,
//! resident memory, bytes per sample in blocks and the time from start to ready; asserts
//! that both answer the same at the end, and nothing about cost.
//!
//! `cargo bench --bench storage_cost [-- SERIES]` (10,000; needs `prometheus` in PATH).

mod rival;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use rival::{PROGRAMS, Server, compressed, http, processors, series};

const STEP_MS: i64 = 15_000;
const SAMPLES: i64 = 480;
const METRICS: usize = 40;
/// Series of one request, and samples of each: a sender that is a minute behind.
const PER_REQUEST: (usize, i64) = (500, 4);
const FLAGS: [&str; 2] =
    ["--storage.tsdb.min-block-duration=30m", "--storage.tsdb.max-block-duration=30m"];
/// Retention, rules and the rest never play a part.
const CONFIG: &str = "global: {evaluation_interval: 1h}\n";

/// Counters, gauges that change, and gauges that do not.
fn value(number: usize, i: i64) -> f64 {
    match number % 3 {
        0 => (i * (3 + number as i64 % 7)) as f64,
        1 => 20.0 + ((i * (number as i64 % 13 + 1)) % 17) as f64 * 0.25,
        _ => 1.0,
    }
}

fn request(first: usize, count: usize, from: i64, first_ms: i64) -> Vec<u8> {
    let mut request = Vec::new();
    for number in first..first + count {
        let labels = [
            ("__name__", format!("demo_{}", number % METRICS)),
            ("instance", format!("i{}", number / 400)),
            ("job", format!("job-{}", number % 10)),
            ("path", format!("p{}", number / METRICS % 10)),
        ];
        let samples =
            (from..from + PER_REQUEST.1).map(|i| (first_ms + i * STEP_MS, value(number, i)));
        series(&mut request, labels.iter().map(|(n, v)| (*n, v.as_str())), samples);
    }
    compressed(&request)
}

/// Bytes and samples of all blocks.
fn blocks(data: &Path) -> (usize, u64, u64) {
    let (mut count, mut bytes, mut samples) = (0, 0, 0);
    for entry in fs::read_dir(data).into_iter().flatten().flatten() {
        let Ok(meta) = fs::read(entry.path().join("meta.json")) else { continue };
        let Ok(meta) = serde_json::from_slice::<Json>(&meta) else { continue };
        count += 1;
        samples += meta["stats"]["numSamples"].as_u64().unwrap_or(0);
        let chunks = fs::read_dir(entry.path().join("chunks")).into_iter().flatten().flatten();
        let files = fs::read_dir(entry.path()).into_iter().flatten().flatten().chain(chunks);
        bytes += files
            .filter_map(|f| f.metadata().ok())
            .filter(|m| m.is_file())
            .map(|m| m.len())
            .sum::<u64>();
    }
    (count, bytes, samples)
}

/// Samples of every series, one metric after the other: what is counted loses its name.
fn count(server: &Server, at_ms: i64) -> u64 {
    let of_metric = |number: usize| {
        let query = format!("sum(count_over_time(demo_{number}[3h]))");
        let escaped: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let url = server.url(&format!("/api/v1/query?query={escaped}&time={}", at_ms / 1000));
        let json: Json = serde_json::from_str(&http(&url, None)?).expect("JSON");
        json["data"]["result"][0]["value"][1].as_str()?.parse::<u64>().ok()
    };
    (0..METRICS).map(|number| of_metric(number).expect("a count")).sum()
}

fn main() {
    let given = std::env::args().skip(1).find_map(|a| a.parse::<usize>().ok());
    let all = given.unwrap_or(10_000).next_multiple_of(PER_REQUEST.0);
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("prometheus.yml");
    fs::write(&config, CONFIG).expect("a writable folder");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let first_ms = (now - SAMPLES * STEP_MS) / STEP_MS * STEP_MS;
    let homes = PROGRAMS.map(|(name, _)| dir.path().join(name));
    let start = |i: usize| Server::start_with(PROGRAMS[i], &homes[i], &config, &FLAGS);
    let (Some(prometheus), Some(watchfire)) = (start(0), start(1)) else {
        println!("skipped: `prometheus` is not in PATH or a server did not start");
        return;
    };
    let mut servers = [prometheus, watchfire];
    println!(
        "{all} series, {SAMPLES} samples each, {} processors; ratio > 1: Watchfire is better\n",
        processors()
    );
    println!("| measure | Prometheus | Watchfire | ratio |\n| --- | --- | --- | --- |");
    let print = |what: &str, unit: &str, [p, w]: [f64; 2]| {
        println!("| {what} | {p:.2} {unit} | {w:.2} {unit} | {:.2}x |", p / w);
    };
    let before = [0, 1].map(|i| servers[i].cpu_seconds());
    for from in (0..SAMPLES).step_by(PER_REQUEST.1 as usize) {
        for first in (0..all).step_by(PER_REQUEST.0) {
            let body = request(first, PER_REQUEST.0, from, first_ms);
            for server in &servers {
                http(&server.url("/api/v1/write"), Some(body.clone())).expect("it is taken");
            }
        }
    }
    let millions = all as f64 * SAMPLES as f64 / 1e6;
    let spent = [0, 1].map(|i| (servers[i].cpu_seconds() - before[i]) / millions);
    print("CPU per million samples, while they come", "s", spent);
    print("resident memory then", "MiB", [0, 1].map(|i| servers[i].resident_mib()));
    // Watchfire looks once a minute whether a block is due.
    let data = |i: usize| homes[i].join("data");
    for _ in 0..150 {
        if [0, 1].iter().all(|i| blocks(&data(*i)).0 >= 2) {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    std::thread::sleep(Duration::from_secs(65));
    let spent = [0, 1].map(|i| (servers[i].cpu_seconds() - before[i]) / millions);
    print("CPU per million samples, with blocks", "s", spent);
    print("resident memory with blocks", "MiB", [0, 1].map(|i| servers[i].resident_mib()));
    let held = [0, 1].map(|i| blocks(&data(i)));
    let per_sample = held.map(|(_, bytes, samples)| bytes as f64 / samples.max(1) as f64);
    print("bytes per sample in blocks", "B", per_sample);
    println!("(blocks: {held:?})");
    for (what, kill) in [("restart to ready, stopped in order", false), ("after a kill", true)] {
        let mut seconds = [0.0; 2];
        for i in [0, 1] {
            servers[i].end(kill);
            let began = Instant::now();
            servers[i] = start(i).expect("it starts again");
            seconds[i] = began.elapsed().as_secs_f64();
        }
        print(what, "s", seconds);
    }
    let counts = [0, 1].map(|i| count(&servers[i], first_ms + SAMPLES * STEP_MS));
    assert_eq!(counts[0], counts[1], "both hold the same number of samples");
    println!("\n{} samples are found in each.", counts[0]);
}
