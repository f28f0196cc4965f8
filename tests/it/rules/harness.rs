//! A rule manager over memory and a clock that stands still until it is moved.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use watchfire::model::value::is_stale_nan;
use watchfire::model::{Clock, Labels, Matcher, TimestampMs};
use watchfire::notifier::{Notifier, OutgoingAlert};
use watchfire::query::{Engine, EngineOptions};
use watchfire::rules::config::LoadOptions;
use watchfire::rules::state::{
    STATE_FILE_BYTES_MIN, StateLog, StateMetrics, StateOptions, StateSync,
};
use watchfire::rules::view::{AlertingView, RuleView, RulesView};
use watchfire::rules::{
    EvaluationOptions, External, Manager, ManagerOptions, Metrics, RulePolicyDefaults,
    RuleSettings, RuleSource, UpdateError,
};
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::{SelectHints, SelectRequest, Sink, Source};
use watchfire::telemetry::Registry;
use watchfire::telemetry::clock::ManualClock;
use watchfire::vector::RawSamples;

pub const SECOND: i64 = 1000;
pub const MINUTE: i64 = 60 * SECOND;

/// A manual clock that knows who sleeps until when: when every group sleeps towards the
/// future, everything that was due is done.
pub struct TestClock {
    manual: ManualClock,
    sleepers: Arc<watch::Sender<BTreeMap<u64, TimestampMs>>>,
    next_id: AtomicU64,
    /// Ticks lie at multiples of it: who sleeps towards another time waits for something
    /// else, in the middle of an evaluation.
    pub grid_ms: AtomicI64,
}

impl TestClock {
    fn new(now_ms: TimestampMs) -> Self {
        Self {
            manual: ManualClock::new(now_ms),
            sleepers: Arc::new(watch::Sender::new(BTreeMap::new())),
            next_id: AtomicU64::new(0),
            grid_ms: AtomicI64::new(1),
        }
    }

    /// Waits until exactly `count` sleep, all towards the future.
    async fn settle(&self, count: usize) {
        let mut sleepers = self.sleepers.subscribe();
        let grid_ms = self.grid_ms.load(Ordering::Relaxed);
        let asleep = |at: &TimestampMs| *at > self.manual.now_ms() && *at % grid_ms == 0;
        let quiet = sleepers.wait_for(|s| s.len() == count && s.values().all(asleep));
        tokio::time::timeout(std::time::Duration::from_secs(20), quiet)
            .await
            .expect("groups must go back to sleep")
            .expect("the clock outlives its users");
    }

    /// Waits until nobody sleeps towards the past.
    async fn awake(&self, at: TimestampMs) {
        let mut sleepers = self.sleepers.subscribe();
        let awake = sleepers.wait_for(|s| s.values().all(|wake| *wake > at));
        tokio::time::timeout(std::time::Duration::from_secs(20), awake)
            .await
            .expect("groups must wake")
            .expect("the clock outlives its users");
    }

    pub fn now(&self) -> TimestampMs {
        self.manual.now_ms()
    }

    fn next_wake(&self) -> TimestampMs {
        *self.sleepers.borrow().values().min().expect("somebody sleeps")
    }
}

struct Sleeper {
    id: u64,
    sleepers: Arc<watch::Sender<BTreeMap<u64, TimestampMs>>>,
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.sleepers.send_modify(|s| {
            s.remove(&self.id);
        });
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> TimestampMs {
        self.manual.now_ms()
    }

    fn sleep_until(&self, at_ms: TimestampMs) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.sleepers.send_modify(|s| {
            s.insert(id, at_ms);
        });
        let sleeper = Sleeper { id, sleepers: self.sleepers.clone() };
        let sleep = self.manual.sleep_until(at_ms);
        Box::pin(async move {
            let _sleeper = sleeper;
            sleep.await;
        })
    }

    fn monotonic_ns(&self) -> u64 {
        self.manual.monotonic_ns()
    }
}

/// Keeps what is sent.
#[derive(Default)]
struct Inbox {
    sent: Mutex<Vec<OutgoingAlert>>,
    panics: AtomicBool,
    /// Nothing arrives, as far as the sender knows.
    deaf: AtomicBool,
    /// There is nobody to send to.
    absent: AtomicBool,
}

impl Notifier for Inbox {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        assert!(!self.panics.load(Ordering::Relaxed), "the notifier is broken");
        for mut alert in alerts {
            let receipt = std::mem::take(&mut alert.receipt);
            receipt.offered();
            if !self.deaf.load(Ordering::Relaxed) {
                receipt.accepted();
            }
            self.sent.lock().unwrap().push(alert);
        }
    }

    fn has_receivers(&self) -> bool {
        !self.absent.load(Ordering::Relaxed)
    }
}

/// What a harness has that is not usual.
#[derive(Default)]
pub struct Setup {
    /// Where rules read from and write to, instead of the harness' memory.
    pub source: Option<Arc<dyn Source>>,
    pub sink: Option<Arc<dyn Sink>>,
    /// Whom alerts go to, instead of the harness' inbox.
    pub notifier: Option<Arc<dyn Notifier>>,
    pub evaluation: EvaluationOptions,
    /// Flags of `--rules.*`.
    pub policy: RulePolicyDefaults,
    pub strict: bool,
    pub engine: EngineOptions,
}

pub struct Harness {
    pub clock: Arc<TestClock>,
    pub storage: Arc<MemoryStorage>,
    pub manager: Arc<Manager>,
    inbox: Arc<Inbox>,
    /// Groups that run, and removed ones that wait to end their series.
    pub sleepers: usize,
    /// Groups removed by earlier loads that still wait to end their series.
    pub retiring: usize,
    pub settings: RuleSettings,
    pub registry: Registry,
}

impl Harness {
    /// A manager at `now_ms` over what `storage` holds.
    pub fn new(storage: Arc<MemoryStorage>, now_ms: TimestampMs) -> Self {
        Self::with(storage, now_ms, Setup::default())
    }

    /// As `new`, with other limits of queries.
    pub fn with_engine(
        storage: Arc<MemoryStorage>,
        now_ms: TimestampMs,
        engine: EngineOptions,
    ) -> Self {
        Self::with(storage, now_ms, Setup { engine, ..Setup::default() })
    }

    /// As `new`, with rules evaluated in a certain way.
    pub fn with_evaluation(
        storage: Arc<MemoryStorage>,
        now_ms: TimestampMs,
        evaluation: EvaluationOptions,
    ) -> Self {
        Self::over(storage.clone(), storage.clone(), storage, now_ms, evaluation)
    }

    /// As `with_evaluation`; rules read from `source` and write to `sink`.
    pub fn over(
        storage: Arc<MemoryStorage>,
        source: Arc<dyn Source>,
        sink: Arc<dyn Sink>,
        now_ms: TimestampMs,
        evaluation: EvaluationOptions,
    ) -> Self {
        let setup =
            Setup { source: Some(source), sink: Some(sink), evaluation, ..Setup::default() };
        Self::with(storage, now_ms, setup)
    }

    /// As `new`, with `--rules.strict`.
    pub fn strict(storage: Arc<MemoryStorage>, now_ms: TimestampMs) -> Self {
        Self::with(storage, now_ms, Setup { strict: true, ..Setup::default() })
    }

    /// As `new`, with whatever is not usual.
    pub fn with(storage: Arc<MemoryStorage>, now_ms: TimestampMs, setup: Setup) -> Self {
        let source = setup.source.unwrap_or_else(|| storage.clone());
        let sink = setup.sink.unwrap_or_else(|| storage.clone());
        let clock = Arc::new(TestClock::new(now_ms));
        let inbox = Arc::new(Inbox::default());
        let mut registry = Registry::default();
        let manager = Manager::new(ManagerOptions {
            engine: Engine::new(setup.engine),
            source,
            sink,
            notifier: setup.notifier.unwrap_or_else(|| inbox.clone()),
            clock: clock.clone(),
            metrics: Metrics::new(&mut registry),
            resend_delay_ms: MINUTE,
            outage_tolerance_ms: 60 * MINUTE,
            grace_period_ms: 10 * MINUTE,
            load: LoadOptions { dialects: true, ..LoadOptions::default() },
            policy: setup.policy,
            strict: setup.strict,
            last_good_dir: None,
            shard: None,
            peer: None,
            handover: None,
            evaluation: setup.evaluation,
        });
        let settings = RuleSettings {
            sources: Vec::new(),
            interval_ms: 30 * SECOND,
            query_offset_ms: 0,
            external: External {
                labels: Labels::from_pairs([("cluster", "c1")]),
                url: "http://w:9090".to_owned(),
            },
        };
        Self { clock, storage, manager, inbox, sleepers: 0, retiring: 0, settings, registry }
    }

    /// Makes the notifier panic, or work again.
    pub fn break_notifier(&self, broken: bool) {
        self.inbox.panics.store(broken, Ordering::Relaxed);
    }

    /// Takes away whoever receives alerts, or brings them back.
    pub fn receive(&self, present: bool) {
        self.inbox.absent.store(!present, Ordering::Relaxed);
    }

    /// Makes whoever receives alerts say nothing, or confirm again.
    pub fn deafen(&self, deaf: bool) {
        self.inbox.deaf.store(deaf, Ordering::Relaxed);
    }

    /// Makes alerts go on from what a state directory holds. Comes before the first load.
    pub fn remember(&mut self, dir: &std::path::Path) {
        let metrics = StateMetrics::new(&mut self.registry);
        let (dir, clock) = (dir.to_owned(), self.clock.clone());
        let options = StateOptions {
            dir,
            sync: StateSync::Never,
            file_bytes_min: STATE_FILE_BYTES_MIN,
            clock,
            metrics,
        };
        self.manager.use_state(StateLog::open(options).unwrap());
    }

    /// Loads rules from text.
    pub async fn load(&mut self, source: &str) -> Result<(), UpdateError> {
        let text = RuleSource::Text { file: "f.yml".to_owned(), source: source.to_owned() };
        self.load_from(vec![text]).await
    }

    /// Loads rules from anywhere.
    pub async fn load_from(&mut self, sources: Vec<RuleSource>) -> Result<(), UpdateError> {
        self.settings.sources = sources;
        let removed = self.groups();
        let result = self.manager.update(self.settings.clone()).await;
        let left = self.groups();
        if !matches!(result, Err(UpdateError::Load(_) | UpdateError::ShutDown)) {
            let removed = removed.iter().filter(|g| !left.contains(g)).count();
            self.sleepers = left.len() + removed + self.retiring;
        }
        self.clock.settle(self.sleepers).await;
        result
    }

    fn groups(&self) -> Vec<String> {
        let groups = self.manager.groups().into_iter();
        groups.map(|g| format!("{};{}", g.file, g.name)).collect()
    }

    /// How many groups run.
    pub fn group_count(&self) -> usize {
        self.groups().len()
    }

    /// When the next group wakes.
    pub fn clock_next(&self) -> TimestampMs {
        self.clock.next_wake()
    }

    /// Moves to the next tick of any group and gives its time.
    pub async fn tick(&self) -> TimestampMs {
        let at = self.clock.next_wake();
        self.advance_to(at).await;
        at
    }

    /// Moves the clock and waits until everything due is done.
    pub async fn advance_to(&self, at: TimestampMs) {
        self.clock.manual.set_ms(at);
        self.clock.settle(self.sleepers).await;
    }

    /// Moves the clock to each time without waiting for what is due, but for the last.
    pub async fn advance_in_steps(&self, times: &[TimestampMs]) {
        let (last, before) = times.split_last().expect("at least one time");
        for at in before {
            self.clock.manual.set_ms(*at);
            // Whoever was due must have taken notice before the clock moves on.
            self.clock.awake(*at).await;
        }
        self.advance_to(*last).await;
    }

    /// Stores a sample now; `series` is `name` or `name/label=value,...`.
    pub fn put(&self, series: &str, value: f64) {
        self.put_at(series, self.clock.now_ms(), value);
    }

    pub fn put_at(&self, series: &str, ts: TimestampMs, value: f64) {
        let (name, rest) = series.split_once('/').unwrap_or((series, ""));
        let pairs = rest.split(',').filter_map(|p| p.split_once('='));
        let labels = Labels::from_pairs(pairs.chain([("__name__", name)]));
        let mut appender = Sink::appender(&*self.storage);
        appender.append(None, &labels, ts, value).unwrap();
        appender.commit().unwrap();
    }

    /// What was sent since the last call: `LABELS` and whether it was resolved.
    pub fn sent(&self) -> Vec<OutgoingAlert> {
        std::mem::take(&mut *self.inbox.sent.lock().unwrap())
    }

    /// All samples of a metric: `LABELS@seconds=value`, `stale` for markers.
    pub async fn stored(&self, name: &str) -> Vec<String> {
        self.stored_in(&*self.storage, name).await
    }

    /// As `stored`, as another source shows it.
    pub async fn stored_in(&self, source: &dyn Source, name: &str) -> Vec<String> {
        let request = SelectRequest {
            matchers: vec![Matcher::equal("__name__", name)],
            from_ms: i64::MIN / 2,
            to_ms: i64::MAX / 2,
            hints: SelectHints::default(),
        };
        let found = source.select(&request).await.unwrap();
        let mut out = Vec::new();
        for series in found.series {
            let mut samples = RawSamples::default();
            series.read_into(request.from_ms, request.to_ms, &mut samples).unwrap();
            let labels = series.labels().retain(|n| n != "__name__");
            for (ts, v) in samples.ts.iter().zip(&samples.vs) {
                let value = if is_stale_nan(*v) { "stale".to_owned() } else { v.to_string() };
                out.push(format!("{labels}@{ts}={value}"));
            }
        }
        out
    }

    /// A rule by name.
    pub fn rule(&self, name: &str) -> RuleView {
        let groups = self.manager.groups();
        groups.into_iter().flat_map(|g| g.rules).find(|r| r.name == name).expect("a rule")
    }

    pub fn alerting(&self, name: &str) -> AlertingView {
        self.rule(name).alerting.expect("an alerting rule")
    }

    /// The value of one of the program's own metrics, as its text form shows it.
    pub fn metric(&self, line_start: &str) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find(|l| l.starts_with(line_start));
        line.and_then(|l| l.rsplit(' ').next()).unwrap_or("absent").to_owned()
    }
}
