//! Many selectors by one query: what is too much for a server is asked in parts, what cannot
//! be read fails those who asked for it, and what a server did not tell whole is not kept.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Form, State};
use watchfire::query::Bundle;
use watchfire::telemetry::clock::ManualClock;

use super::discovered::Gate;
use super::kept::start_late_with;
use super::*;
use crate::support::serve_app;

async fn asked(base: &str, clock: &Arc<ManualClock>) -> Arc<dyn Source> {
    let config = DatasourceConfig {
        url: base.to_owned(),
        name: "asked".to_owned(),
        kind: DatasourceKind::Prometheus,
        evaluate: Evaluation::Here,
        ..DatasourceConfig::default()
    };
    let around = Surroundings { clock: clock.clone(), ..surroundings() };
    remote::open(&config, &around).await.unwrap()
}

fn bundle(engine: &Arc<Engine>, rules: &[&str]) -> Bundle {
    let queries = rules.iter().map(|rule| Arc::new(engine.prepare(rule).unwrap())).collect();
    Bundle::new(engine, queries)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_a_server_is_asked_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let sent = data::request(SEED);
    let at_ms = data::END_MS - 500;
    let names = ["level", "errors_total", "sometimes", "up"];
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for series in &sent.timeseries {
        let name = series.labels.iter().find(|l| l.name == "__name__").unwrap().value.as_str();
        let inside = |s: &&proto::Sample| (at_ms - 1_800_001..=at_ms).contains(&s.timestamp);
        *counts.entry(name).or_default() += series.samples.iter().filter(inside).count();
    }
    let counts: Vec<usize> = names.iter().map(|name| counts[name]).collect();
    let (most, all) = (counts.iter().max().unwrap(), counts.iter().sum::<usize>());
    let max = most + most / 10;
    assert!(all > 2 * max, "{counts:?}");
    let address = free_address();
    let limit = format!("--query.max-samples={max}");
    let Some(_prometheus) = start_late_with(dir.path(), address, &[&limit]) else { return };
    let base = format!("http://{address}");
    send(&base, &sent).await;
    let (gate, gated) = Gate::start(&base).await;
    let clock = Arc::new(ManualClock::new(at_ms));
    let remote = asked(&gated, &clock).await;
    let rules: Vec<String> = names.iter().map(|n| format!("count_over_time({n}[30m])")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let engine = Engine::new(EngineOptions::default());
    let (ours, theirs) = (bundle(&engine, &rules), bundle(&engine, &rules));
    let store = local(&sent);
    let mut requests = Vec::new();
    for tick in 0..4 {
        clock.set_ms(at_ms - 60_000 + tick * 15_000);
        let at_ms = at_ms - 60_000 + tick * 15_000;
        let before = gate.requests.load(Ordering::SeqCst);
        let got = theirs.instant(&remote, at_ms, &RunOptions::default()).await;
        requests.push(gate.requests.load(Ordering::SeqCst) - before);
        let wanted = ours.instant(&store, at_ms, &RunOptions::default()).await;
        for ((rule, wanted), got) in rules.iter().zip(wanted).zip(got) {
            let error = got.as_ref().err().map(ToString::to_string);
            let (wanted, got) = (comparable(wanted), comparable(got));
            assert!(got.is_some() && same(&wanted, &got), "{rule} {error:?}\n{wanted:?}\n{got:?}");
        }
    }
    // Once whole, once more to be kept; what is new then is no more than one answer, unless
    // a busy machine let the rules ask one after the other.
    assert!(requests[0] > 2 && requests[2..].contains(&1), "{requests:?}");
}

/// A server of two metrics, counters by the minute, that says what a test wants.
#[derive(Default)]
struct Odd {
    asked: Mutex<Vec<String>>,
    /// Answers are of `a` alone, with a warning.
    half: Mutex<bool>,
    /// `b` is a native histogram.
    native: Mutex<bool>,
    queries: AtomicUsize,
}

async fn answer_oddly(
    State(odd): State<Arc<Odd>>,
    Form(form): Form<Vec<(String, String)>>,
) -> String {
    let get = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap();
    let (query, time) = (get("query"), get("time").parse::<f64>().unwrap());
    odd.queries.fetch_add(1, Ordering::SeqCst);
    odd.asked.lock().unwrap().push(query.clone());
    let (half, native) = (*odd.half.lock().unwrap(), *odd.native.lock().unwrap());
    let (_, range) = query.rsplit_once('[').unwrap();
    let range_ms: f64 = range.trim_end_matches("ms]").parse().unwrap();
    let first = ((time - range_ms / 1e3) / 60.0).floor() as i64 + 1;
    let last = (time / 60.0).floor() as i64;
    let series = |name: &str, native: bool| {
        let values: Vec<String> = (first..=last).map(|m| format!("[{},\"{m}\"]", m * 60)).collect();
        let histogram = if native { ",\"histograms\":[[60,{}]]" } else { "" };
        format!(
            "{{\"metric\":{{\"__name__\":\"{name}\"}},\"values\":[{}]{histogram}}}",
            values.join(",")
        )
    };
    let all: Vec<String> = ["a", "b"]
        .into_iter()
        .filter(|name| {
            (query.contains(&format!("\"{name}\"")) || query.contains("\"a|b\""))
                && !(half && *name == "b")
        })
        .map(|name| series(name, native && name == "b"))
        .collect();
    let warnings = if half { ",\"warnings\":[\"a store is away\"]" } else { "" };
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{}]}}{warnings}}}",
        all.join(",")
    )
}

/// A server that leaves out the labels of replicas, as Thanos does.
async fn answer_without_replicas(Form(form): Form<Vec<(String, String)>>) -> String {
    let (_, query) = form.iter().find(|(name, _)| name == "query").unwrap();
    let (_, time) = form.iter().find(|(name, _)| name == "time").unwrap();
    // Of each replica another value; of both the first one's.
    let value = if query.contains("replica=\"b\"") { 2 } else { 1 };
    let series = ["x", "y"]
        .into_iter()
        .filter(|name| query.contains(&format!("\"{name}\"")) || query.contains("\"x|y\""));
    let series: Vec<String> = series
        .map(|name| {
            format!("{{\"metric\":{{\"__name__\":\"{name}\"}},\"values\":[[{time},\"{value}\"]]}}")
        })
        .collect();
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{}]}}}}",
        series.join(",")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn series_without_the_label_they_were_asked_for_by_are_found() {
    watchfire::http::install_crypto_provider();
    let app = Router::new().fallback(answer_without_replicas);
    let base = format!("http://{}", serve_app(app).await);
    let clock = Arc::new(ManualClock::new(data::END_MS));
    let remote = asked(&base, &clock).await;
    let engine = Engine::new(EngineOptions::default());
    let rules = [
        ("last_over_time(x[10m])", "1"),
        ("last_over_time(x{replica=\"a\"}[10m])", "1"),
        ("last_over_time(x{replica=\"b\"}[10m])", "2"),
        ("last_over_time(y{replica=\"b\"}[10m])", "2"),
    ];
    let rules_bundle = bundle(&engine, &rules.map(|(rule, _)| rule));
    for tick in 1..5 {
        let at_ms = data::END_MS + tick * 60_000;
        clock.set_ms(at_ms);
        let got = rules_bundle.instant(&remote, at_ms, &RunOptions::default()).await;
        for ((rule, wanted), got) in rules.iter().zip(got) {
            let got = comparable(got).unwrap();
            assert_eq!(got["data"]["result"][0]["value"][1], *wanted, "tick {tick} {rule}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_not_tell_whole_or_plainly_is_nobody_elses_loss() {
    watchfire::http::install_crypto_provider();
    let odd = Arc::new(Odd::default());
    let app = Router::new().fallback(answer_oddly).with_state(odd.clone());
    let base = format!("http://{}", serve_app(app).await);
    let start_ms = 1_700_000_040_000;
    let clock = Arc::new(ManualClock::new(start_ms));
    let remote = asked(&base, &clock).await;
    let engine = Engine::new(EngineOptions::default());
    let rules = bundle(&engine, &["count_over_time(a[10m])", "count_over_time(b[10m])"]);
    // What each comes to at the next tick, and how many queries it took.
    let mut minute = 0;
    let mut tick = async || {
        minute += 1;
        let at_ms = start_ms + minute * 60_000;
        clock.set_ms(at_ms);
        let before = odd.queries.load(Ordering::SeqCst);
        let got = rules.instant(&remote, at_ms, &RunOptions::default()).await;
        let told: Vec<String> = got
            .into_iter()
            .map(|result| match result {
                Err(error) => error.to_string(),
                Ok(result) => {
                    let partial = if result.is_partial() { "partial " } else { "" };
                    let value = comparable(Ok(result)).unwrap();
                    let value = &value["data"]["result"][0]["value"][1];
                    format!("{partial}{}", value.as_str().unwrap_or("nothing"))
                }
            })
            .collect();
        (told, odd.queries.load(Ordering::SeqCst) - before)
    };
    // A busy machine may have the rules ask one after the other, but not each time.
    let mut check = async |told: [&str; 2], queries: usize| {
        for _ in 0..20 {
            let (got, asked) = tick().await;
            for (got, told) in got.iter().zip(told) {
                assert!(got == told || told.len() > 20 && got.contains(told), "{got}");
            }
            if asked == queries {
                return;
            }
        }
        panic!("it never took {queries} queries to say {told:?}");
    };
    for _ in 0..3 {
        check(["10", "10"], 1).await;
    }
    let query = odd.asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(query, "{__name__=~\"a|b\"}[120001ms]", "what is new and what may be late");
    *odd.half.lock().unwrap() = true;
    // What is new, then all.
    check(["partial 10", "partial nothing"], 2).await;
    check(["partial 10", "partial nothing"], 2).await;
    *odd.half.lock().unwrap() = false;
    // As if nothing had been.
    check(["10", "10"], 1).await;
    *odd.native.lock().unwrap() = true;
    check(["10", "\"b\"} holds native histograms"], 1).await;
    *odd.native.lock().unwrap() = false;
    check(["10", "10"], 1).await;
}
