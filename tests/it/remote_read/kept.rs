//! Rules over a real VictoriaMetrics at one tick after the other, while samples come in: what
//! is kept from tick to tick and the little that is fetched are what our own store has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use watchfire::query::{Bundle, Engine, EngineOptions, RunOptions};
use watchfire::storage::{
    LabelAnswer, LabelRequest, PushDown, SelectRequest, SeriesSet, StorageError,
};
use watchfire::telemetry::clock::ManualClock;
use watchfire::telemetry::new_registry;

use super::rules::rules;
use super::*;

const TICK_MS: i64 = 30_000;
const TICKS: i64 = 14;

/// Those samples of a request that lie in a closed interval.
fn part(request: &proto::WriteRequest, from_ms: i64, to_ms: i64) -> proto::WriteRequest {
    let mut part = request.clone();
    for series in &mut part.timeseries {
        series.samples.retain(|s| (from_ms..=to_ms).contains(&s.timestamp));
    }
    part.timeseries.retain(|series| !series.samples.is_empty());
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_tick_after_tick_come_to_the_same_with_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_vm, base)) = start_victoria_metrics(dir.path()) else { return };
    // The samples are moved so that the last ticks are now.
    let now_ms = surroundings().clock.now_ms();
    let shift_ms = (now_ms - data::END_MS) / 1000 * 1000;
    let mut sent = without_nan(data::request(SEED));
    for sample in sent.timeseries.iter_mut().flat_map(|series| &mut series.samples) {
        sample.timestamp += shift_ms;
    }
    let last_ms = data::END_MS + shift_ms - 500;
    let first_ms = last_ms - (TICKS - 1) * TICK_MS;

    let mut registry = new_registry();
    let around = Surroundings { metrics: RemoteMetrics::new(&mut registry), ..surroundings() };
    let config = DatasourceConfig {
        url: base.clone(),
        name: "other".to_owned(),
        kind: DatasourceKind::VictoriaMetrics,
        evaluate: Evaluation::Here,
        ..DatasourceConfig::default()
    };
    let remote = remote::open(&config, &around).await.unwrap();
    let metric = |registry: &watchfire::telemetry::Registry, name: &str| -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };

    let rules: Vec<String> = rules().into_iter().step_by(4).collect();
    let plain = Engine::new(EngineOptions::default());
    let bundle = |engine: &Arc<Engine>| {
        let queries = rules.iter().map(|r| Arc::new(engine.prepare(r).unwrap())).collect();
        Bundle::new(engine, queries)
    };
    let (ours, theirs) = (bundle(&plain), bundle(&plain));
    let (mut done_ms, mut bytes, mut requests) = (i64::MIN, Vec::new(), Vec::new());
    for tick in 0..TICKS {
        let at_ms = first_ms + tick * TICK_MS;
        // What comes in the last seconds before a tick comes after it.
        let so_far_ms = at_ms - 7_000 * (tick % 3);
        send(&base, &part(&sent, done_ms, so_far_ms)).await;
        flush(&base).await;
        done_ms = so_far_ms + 1;
        let store = local(&part(&sent, i64::MIN, so_far_ms));
        let before = metric(&registry, "watchfire_remote_read_received_bytes_total");
        let asked = metric(&registry, "prometheus_remote_storage_read_queries_total");
        let got = theirs.instant(&remote, at_ms, &RunOptions::default()).await;
        bytes.push(metric(&registry, "watchfire_remote_read_received_bytes_total") - before);
        requests.push(metric(&registry, "prometheus_remote_storage_read_queries_total") - asked);
        let wanted = ours.instant(&store, at_ms, &RunOptions::default()).await;
        for ((rule, wanted), got) in rules.iter().zip(wanted).zip(got) {
            let (wanted, got) = (comparable(wanted), comparable(got));
            assert!(same(&wanted, &got), "tick {tick} {rule}\n{wanted:?}\n{got:?}");
        }
    }
    assert!(metric(&registry, "watchfire_remote_read_kept_samples") > 1000.0);
    println!("bytes {bytes:?}\nrequests {requests:?}");
    // The first tick fetches everything, the second keeps it, later ones what is new.
    let later = &bytes[2..];
    let mean = later.iter().sum::<f64>() / later.len() as f64;
    assert!(mean * 3.0 < bytes[0], "{bytes:?}");
    assert!(requests[2..].iter().all(|n| *n <= 80.0), "{requests:?}");
}

/// A Prometheus at an address that takes late samples and deletes what it is told to.
pub fn start_late(dir: &Path, address: std::net::SocketAddr) -> Option<Program> {
    start_late_with(dir, address, &[])
}

pub fn start_late_with(
    dir: &Path,
    address: std::net::SocketAddr,
    more: &[&str],
) -> Option<Program> {
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, "storage: {tsdb: {out_of_order_time_window: 2h}}\n").unwrap();
    let mut args = vec![
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.join("data").display()),
        "--storage.tsdb.retention.time=100y".to_owned(),
        format!("--web.listen-address={address}"),
        "--web.enable-remote-write-receiver".to_owned(),
        "--web.enable-admin-api".to_owned(),
        "--enable-feature=native-histograms".to_owned(),
    ];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    let mut program = Program::start("prometheus", &args)?;
    let ready = format!("http://{address}/-/ready");
    std::thread::scope(|scope| scope.spawn(|| program.wait_ready(&ready)).join()).unwrap();
    Some(program)
}

/// After this tick there are 24 minutes in which nobody asks.
const LAST_BEFORE_GAP: i64 = 10;
const FIRST_MS: i64 = data::END_MS - 31 * 60_000 - 500;

fn tick_ms(tick: i64) -> i64 {
    let gap_ms = if tick > LAST_BEFORE_GAP { 24 * 60_000 } else { 0 };
    FIRST_MS + tick * TICK_MS + gap_ms
}

/// The first tick that sees a sample: some series are a tick late, some are away for a
/// while, and of some a sample comes after the next one.
fn seen_at(series: usize, ts: i64) -> i64 {
    let on_time = (0..TICKS).find(|tick| ts <= tick_ms(*tick)).unwrap_or(TICKS);
    match series % 4 {
        1 if ts > tick_ms(on_time) - 20_000 => on_time + 1,
        2 if (3..=5).contains(&on_time) => 6,
        3 if ts / 15_000 % 7 == 3 => on_time + 1,
        _ => on_time,
    }
}

/// Counts what is asked of a source.
struct Counting {
    inner: Arc<dyn Source>,
    selects: AtomicUsize,
}

impl Source for Counting {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        self.inner.select(request)
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.inner.label_names(request)
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.inner.label_values(name, request)
    }

    fn push_down(&self, datasource: Option<&str>) -> Option<PushDown> {
        self.inner.push_down(datasource)
    }
}

/// What arrives for a tick, or up to it.
fn arriving(all: &proto::WriteRequest, wanted: impl Fn(i64) -> bool) -> proto::WriteRequest {
    let mut part = all.clone();
    for (i, series) in part.timeseries.iter_mut().enumerate() {
        series.samples.retain(|s| wanted(seen_at(i, s.timestamp)));
        series.histograms.retain(|h| wanted(seen_at(0, h.timestamp)));
    }
    part.timeseries.retain(|s| !(s.samples.is_empty() && s.histograms.is_empty()));
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_over_prometheus_are_the_same_though_samples_are_late_or_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let Some(mut prometheus) = start_late(dir.path(), address) else { return };
    let base = format!("http://{address}");
    let mut sent = data::request(SEED);
    sent.timeseries.push(proto::TimeSeries {
        labels: wire::labels("native"),
        histograms: (1..wire::SAMPLES).map(wire::whole).collect(),
        ..proto::TimeSeries::default()
    });
    let clock = Arc::new(ManualClock::new(FIRST_MS));
    let mut registry = new_registry();
    let metrics = RemoteMetrics::new(&mut registry);
    let source = async |name: &str, kind: DatasourceKind, keep_bytes: u64| {
        let around =
            Surroundings { clock: clock.clone(), metrics: metrics.clone(), ..surroundings() };
        let config = DatasourceConfig {
            url: match kind {
                DatasourceKind::RemoteRead => format!("{base}/api/v1/read"),
                _ => base.clone(),
            },
            name: name.to_owned(),
            kind,
            evaluate: Evaluation::Here,
            keep_bytes,
            ..DatasourceConfig::default()
        };
        remote::open(&config, &around).await.unwrap()
    };
    use DatasourceKind::{Prometheus, RemoteRead};
    let kept = source("kept", RemoteRead, 512 << 20).await;
    let fresh = source("fresh", RemoteRead, 0).await;
    // By the query API, with instant selectors left to the server and not.
    let counting = |inner| Arc::new(Counting { inner, selects: AtomicUsize::new(0) });
    let queried = counting(source("queried", Prometheus, 512 << 20).await);
    let asked = counting(source("asked", Prometheus, 512 << 20).await);
    let by_counting: [Arc<dyn Source>; 2] = [queried.clone(), asked.clone()];
    let metric = |name: &str, of: &str| -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(of));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let mut rules: Vec<String> = rules().into_iter().step_by(4).collect();
    let native = rules.len();
    for rule in ["histogram_count(native)", "rate(native[3m])", "count_over_time(native[7m])"] {
        rules.push(rule.to_owned());
    }
    let engine = Engine::new(EngineOptions::default());
    let bundle = |engine: &Arc<Engine>| {
        let queries = rules.iter().map(|r| Arc::new(engine.prepare(r).unwrap())).collect();
        Bundle::new(engine, queries)
    };
    let (ours, theirs, anew) = (bundle(&engine), bundle(&engine), bundle(&engine));
    let (querying, asking) = (bundle(&engine), bundle(&pushing(&by_counting[1])));
    let options = RunOptions::default();
    let (received, queries) = (
        "watchfire_remote_read_received_bytes_total",
        "prometheus_remote_storage_read_queries_total",
    );
    let (mut bytes, mut requests) = (Vec::new(), Vec::new());
    let (mut by_query, mut by_both) = (Vec::new(), Vec::new());
    for tick in 0..TICKS {
        clock.set_ms(tick_ms(tick));
        send(&base, &arriving(&sent, |seen| seen == tick)).await;
        if tick == 8 {
            // What was kept is good for the same server after its restart.
            std::thread::scope(|scope| {
                scope.spawn(|| prometheus.terminate(Duration::from_secs(60))).join()
            })
            .unwrap();
            prometheus = start_late(dir.path(), address).unwrap();
        }
        if tick == LAST_BEFORE_GAP {
            // Samples that came out of order are not deleted by it: one that has none.
            let read = ["level", "requests_total", "errors_total", "sometimes"];
            let read = |series: &proto::TimeSeries| {
                series.labels.iter().any(|l| read.contains(&l.value.as_str()))
            };
            let gone = (0..sent.timeseries.len()).step_by(4).find(|i| read(&sent.timeseries[*i]));
            let gone = gone.unwrap();
            // Its place says how late others are.
            sent.timeseries[gone].samples.clear();
            let labels = sent.timeseries[gone].labels.iter();
            let matchers: Vec<_> = labels.map(|l| format!("{}=\"{}\"", l.name, l.value)).collect();
            let url = format!("{base}/api/v1/admin/tsdb/delete_series");
            let selector = format!("{{{}}}", matchers.join(","));
            let request = reqwest::Client::new().post(url).query(&[("match[]", selector)]);
            let got = answer(request).await;
            assert_eq!(got.status, 204, "{}", got.body);
            continue;
        }
        let store = local(&arriving(&sent, |seen| seen <= tick));
        let before = (metric(received, "kept"), metric(queries, "kept"));
        let got = theirs.instant(&kept, tick_ms(tick), &options).await;
        bytes.push(metric(received, "kept") - before.0);
        requests.push(metric(queries, "kept") - before.1);
        let again = anew.instant(&fresh, tick_ms(tick), &options).await;
        let wanted = ours.instant(&store, tick_ms(tick), &options).await;
        let before = (metric(queries, "queried"), metric(queries, "asked"));
        let by_range = querying.instant(&by_counting[0], tick_ms(tick), &options).await;
        let at_once = asking.instant(&by_counting[1], tick_ms(tick), &options).await;
        by_query.push(metric(queries, "queried") - before.0);
        by_both.push(metric(queries, "asked") - before.1);
        let others = by_range.into_iter().zip(at_once);
        for (n, (((wanted, got), again), (by_range, at_once))) in
            wanted.into_iter().zip(got).zip(again).zip(others).enumerate()
        {
            for other in [by_range, at_once] {
                if n >= native {
                    let error = other.unwrap_err().to_string();
                    assert!(error.contains("holds native histograms"), "{error}");
                    continue;
                }
                let (other, wanted) = (comparable(other), comparable(wanted.clone()));
                let rule = &rules[n];
                assert!(same(&wanted, &other), "tick {tick} {rule}\n{wanted:?}\n{other:?}");
            }
            let (got, again) = (comparable(got), comparable(again));
            let wanted = if n < native { comparable(wanted) } else { again.clone() };
            let rule = &rules[n];
            assert!(same(&again, &got), "tick {tick} {rule}\nfresh {again:?}\nkept {got:?}");
            assert!(same(&wanted, &got), "tick {tick} {rule}\nours {wanted:?}\nkept {got:?}");
            assert!(got.is_some(), "tick {tick} {rule}");
        }
    }
    assert!(metric("watchfire_remote_read_kept_samples", "kept") > 1000.0);
    println!("bytes {bytes:?}\nrequests {requests:?}");
    // Selectors that are asked for, each of which was one query before, or two.
    for (counting, made) in [(&queried, &by_query), (&asked, &by_both)] {
        let selects = counting.selects.load(Ordering::Relaxed);
        let made = made.iter().sum::<f64>();
        println!("{selects} selectors in {made} queries for {} rules", rules.len());
        assert!(made * 3.0 < selects as f64, "{made} {selects}");
    }
    assert!(requests.iter().all(|n| *n <= 12.0), "{requests:?}");
    // From the third on, but for those at which late samples made it look at everything.
    let least = bytes[2..].iter().copied().fold(f64::MAX, f64::min);
    assert!(least * 2.0 < bytes[0], "{bytes:?}");
}
