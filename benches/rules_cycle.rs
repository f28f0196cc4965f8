//! What a cycle of many rules costs in one process: the rules and series of
//! `rules_versus_prometheus`, without a rival, HTTP and waiting: the clock jumps from one
//! group's tick to the next. Prints processor time of a cycle and memory; asserts that every
//! rule is healthy.
//!
//! `cargo bench --bench rules_cycle [large|small|alerts [CYCLES [ALERTS]]]`; under `perf
//! record` it shows where a cycle's time goes. `alerts` is one rule with as many active alerts
//! (100,000 unless said otherwise), as in `alert_state`.

#[path = "rules_scale/mod.rs"]
mod scale;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use watchfire::model::{Clock, Labels, TimestampMs};
use watchfire::notifier::{Notifier, OutgoingAlert};
use watchfire::query::{Engine, EngineOptions};
use watchfire::rules::config::LoadOptions;
use watchfire::rules::state::{
    STATE_FILE_BYTES_MIN, StateLog, StateMetrics, StateOptions, StateSync,
};
use watchfire::rules::view::RulesView;
use watchfire::rules::{
    EvaluationOptions, External, Manager, ManagerOptions, Metrics, RulePolicyDefaults,
    RuleSettings, RuleSource,
};
use watchfire::storage::tsdb::{Tsdb, TsdbOptions};
use watchfire::storage::{SeriesRef, Sink};
use watchfire::telemetry::Registry;

use scale::{SCALES, Scale};

const START_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 15_000;
const INTERVAL_MS: i64 = 30_000;
const HISTORY_STEPS: i64 = 62 * 4;
/// Samples lie that long after whole steps, where no window begins or ends.
const SHIFT_MS: i64 = 137;

// As the server does.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// By the time to wake at, and a number.
type Sleepers = BTreeMap<(TimestampMs, u64), oneshot::Sender<()>>;

/// A clock that is moved by hand, wakes only who is due, and measures real time.
struct BenchClock {
    now_ms: AtomicI64,
    origin: Instant,
    sleepers: Mutex<Sleepers>,
    next_id: AtomicU64,
}

impl Clock for BenchClock {
    fn now_ms(&self) -> TimestampMs {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn sleep_until(&self, at_ms: TimestampMs) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (wake, woken) = oneshot::channel();
        self.sleepers.lock().expect("no panic").insert((at_ms, id), wake);
        Box::pin(async move {
            let _ = woken.await;
        })
    }

    fn monotonic_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl BenchClock {
    /// Waits until so many sleep; the time the next one wakes at.
    fn settle(&self, count: usize) -> TimestampMs {
        loop {
            {
                let mut sleepers = self.sleepers.lock().expect("no panic");
                sleepers.retain(|_, wake| !wake.is_closed());
                if sleepers.len() == count
                    && let Some(((next, _), _)) = sleepers.first_key_value()
                {
                    return *next;
                }
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn advance(&self, to_ms: TimestampMs) {
        self.now_ms.store(to_ms, Ordering::SeqCst);
        let mut sleepers = self.sleepers.lock().expect("no panic");
        let later = sleepers.split_off(&(to_ms + 1, 0));
        for (_, wake) in std::mem::replace(&mut *sleepers, later) {
            let _ = wake.send(());
        }
    }
}

struct Nobody;

impl Notifier for Nobody {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        for alert in alerts {
            alert.receipt.offered();
            alert.receipt.accepted();
        }
    }
}

/// Processor seconds of every thread but this one.
fn cpu_seconds() -> f64 {
    let own = std::process::id().to_string();
    let tasks = fs::read_dir("/proc/self/task").expect("tasks").flatten();
    let others = tasks.filter(|task| task.file_name().to_string_lossy() != own);
    let ns = others.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e9
}

fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.split_whitespace().nth(1).and_then(|v| v.parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}

/// The series, with the storage's references to them.
struct Feed {
    labels: Vec<Labels>,
    hints: Vec<Option<SeriesRef>>,
    next: i64,
}

impl Feed {
    /// Writes every step up to a time.
    fn catch_up(&mut self, store: &Tsdb, data: &scale::Data, to_ms: TimestampMs) {
        while START_MS + self.next * STEP_MS + SHIFT_MS <= to_ms {
            let ts = START_MS + self.next * STEP_MS + SHIFT_MS;
            let mut appender = store.appender();
            let all = self.labels.iter().zip(&mut self.hints).zip(&data.series).enumerate();
            for (seed, ((labels, hint), series)) in all {
                let value = series.value(seed as i64, self.next);
                *hint = Some(appender.append(*hint, labels, ts, value).expect("a sample"));
            }
            appender.commit().expect("a commit");
            self.next += 1;
        }
    }
}

struct Case {
    name: &'static str,
    data: scale::Data,
    /// Of samples before the first evaluation.
    steps: i64,
    text: String,
    groups: usize,
    rules: usize,
}

impl Case {
    fn new(scale: &Scale) -> Self {
        let rules = scale.rules();
        let (text, groups, count) = (rules.text, rules.groups, rules.rules);
        let (name, data) = (scale.name, scale.data());
        Self { name, data, steps: HISTORY_STEPS, text, groups, rules: count }
    }

    fn alerts(count: usize) -> Self {
        let mut data = scale::Data::default();
        for i in 0..count {
            let (service, path) = (format!("service-{}", i % 40), format!("/api/v1/r/{}", i / 40));
            let labels = [
                ("instance", "127.0.0.1:9090"),
                ("job", "many"),
                ("path", path.as_str()),
                ("service", service.as_str()),
            ];
            data.add("demo_latency_seconds", scale::Course::Gauge(2.0), &labels);
        }
        let text = "
groups:
- name: many
  rules:
  - alert: InstanceSlow
    expr: demo_latency_seconds > 0.5
    labels: {severity: page, team: '{{ $labels.job }}'}
    annotations:
      summary: 'Instance {{ $labels.instance }} of {{ $labels.job }} is slow'
      description: 'p99 latency of {{ $labels.path }} is {{ $value | humanizeDuration }}.'
";
        Self { name: "alerts", data, steps: 4, text: text.to_owned(), groups: 1, rules: 1 }
    }
}

fn run(case: Case, cycles: u32) {
    let dir = tempfile::tempdir().expect("a folder");
    let Case { name, data, steps, text, groups, rules } = case;
    let began = START_MS + steps * STEP_MS;
    let clock = Arc::new(BenchClock {
        now_ms: AtomicI64::new(began),
        origin: Instant::now(),
        sleepers: Mutex::default(),
        next_id: AtomicU64::new(0),
    });
    let store = Tsdb::open(dir.path().join("data"), TsdbOptions::default(), clock.clone());
    let store = store.expect("a store");
    let labels = data.series.iter().map(|s| Labels::from_pairs(s.labels.iter().cloned()));
    let labels: Vec<Labels> = labels.collect();
    let mut feed = Feed { hints: vec![None; labels.len()], labels, next: 0 };
    feed.catch_up(&store, &data, began);
    store.maintain().expect("maintenance");
    let loaded = resident_mib();
    let mut registry = Registry::default();
    let engine = Engine::new(EngineOptions::default());
    engine.set_clock(clock.clone());
    let manager = Manager::new(ManagerOptions {
        engine,
        source: store.clone(),
        sink: store.clone(),
        notifier: Arc::new(Nobody),
        clock: clock.clone(),
        metrics: Metrics::new(&mut registry),
        resend_delay_ms: 60_000,
        outage_tolerance_ms: 3_600_000,
        grace_period_ms: 600_000,
        load: LoadOptions::default(),
        policy: RulePolicyDefaults::default(),
        strict: true,
        last_good_dir: None,
        shard: None,
        peer: None,
        handover: None,
        evaluation: EvaluationOptions::default(),
    });
    let log = StateLog::open(StateOptions {
        dir: dir.path().join("state"),
        sync: StateSync::Never,
        file_bytes_min: STATE_FILE_BYTES_MIN,
        clock: clock.clone(),
        metrics: StateMetrics::new(&mut registry),
    });
    manager.use_state(log.expect("a state log"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime
        .block_on(manager.update(RuleSettings {
            sources: vec![RuleSource::Text { file: "rules.yml".to_owned(), source: text }],
            interval_ms: INTERVAL_MS,
            query_offset_ms: 0,
            external: External::default(),
        }))
        .expect("good rules");
    let planned = resident_mib();
    let mut cycle = |number: i64| {
        let end = began + number * INTERVAL_MS;
        let mut cpu = 0.0;
        loop {
            let next = clock.settle(groups);
            if next > end {
                return cpu;
            }
            feed.catch_up(&store, &data, next);
            let before = cpu_seconds();
            clock.advance(next);
            clock.settle(groups);
            cpu += cpu_seconds() - before;
        }
    };
    let first: f64 = (1..=3).map(&mut cycle).sum();
    store.maintain().expect("maintenance");
    let each: Vec<f64> = (4..4 + i64::from(cycles)).map(&mut cycle).collect();
    let mean = each.iter().sum::<f64>() / f64::from(cycles);
    let least = each.iter().copied().fold(f64::MAX, f64::min);
    for group in &manager.groups() {
        for rule in &group.rules {
            assert_eq!(rule.last_error, "", "{}", rule.name);
        }
    }
    println!(
        "{}: {} series, {} rules in {} groups: {:.1} ms a cycle (least {:.1}), {:.1} us a rule; \
         the first three cycles {:.0} ms; {loaded:.0} MiB loaded, {planned:.0} with rules, {:.0} \
         running",
        name,
        data.series.len(),
        rules,
        groups,
        mean * 1e3,
        least * 1e3,
        mean * 1e6 / rules as f64,
        first * 1e3,
        resident_mib(),
    );
    runtime.block_on(manager.shutdown());
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut numbers = args.iter().filter_map(|a| a.parse::<u32>().ok());
    let (cycles, alerts) = (numbers.next().unwrap_or(10), numbers.next().unwrap_or(100_000));
    let filter = args.iter().find(|a| a.parse::<u32>().is_err()).map(String::as_str);
    if filter == Some("alerts") {
        return run(Case::alerts(alerts as usize), cycles);
    }
    let wanted = |scale: &&Scale| filter.is_none_or(|filter| scale.name.contains(filter));
    SCALES.iter().filter(wanted).for_each(|scale| run(Case::new(scale), cycles));
}
