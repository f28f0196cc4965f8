//! A manager on a clock that tests move, and a sink that remembers.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use watchfire::config;
use watchfire::discovery::DiscoveryMetrics;
use watchfire::model::metadata::Metadata;
use watchfire::model::value::is_stale_nan;
use watchfire::model::{FloatHistogram, Labels, METRIC_NAME, TimestampMs};
use watchfire::scrape::view::TargetView;
use watchfire::scrape::{ManagerOptions, ScrapeManager, ScrapeMetrics, ScrapeView};
use watchfire::storage::{AppendError, Appender, SeriesRef, Sink, StorageError};
use watchfire::telemetry::Registry;
use watchfire::telemetry::clock::ManualClock;

/// A stored sample.
#[derive(Clone, Debug)]
pub struct Stored {
    pub labels: Labels,
    pub ts: TimestampMs,
    pub value: f64,
}

impl Stored {
    pub fn is_stale(&self) -> bool {
        is_stale_nan(self.value)
    }
}

/// Keeps every committed sample.
#[derive(Clone, Default)]
pub struct MemorySink {
    samples: Arc<Mutex<Vec<Stored>>>,
    committed: Arc<Notify>,
}

struct Batch {
    sink: MemorySink,
    pending: Vec<Stored>,
}

impl Sink for MemorySink {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(Batch { sink: self.clone(), pending: Vec::new() })
    }
}

impl Appender for Batch {
    fn append(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        let newest = self.sink.newest(|s| s.labels == *labels);
        if newest.is_some_and(|newest| newest.ts > ts) {
            return Err(AppendError::OutOfOrder);
        }
        self.pending.push(Stored { labels: labels.clone(), ts, value });
        Ok(SeriesRef(labels.hash64()))
    }

    fn append_histogram(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        _: TimestampMs,
        _: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(labels.hash64()))
    }

    fn append_metadata(&mut self, _: &str, _: &Metadata) {}

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        self.sink.samples.lock().extend(self.pending);
        self.sink.committed.notify_waiters();
        Ok(())
    }
}

impl MemorySink {
    fn newest(&self, wanted: impl Fn(&Stored) -> bool) -> Option<Stored> {
        self.samples.lock().iter().rev().find(|s| wanted(s)).cloned()
    }

    /// The newest sample of a metric of a job.
    pub fn last(&self, job: &str, metric: &str) -> Option<Stored> {
        self.newest(|s| s.labels.get("job") == Some(job) && s.labels.metric_name() == metric)
    }

    /// As `last`, passing over staleness markers.
    pub fn last_live(&self, job: &str, metric: &str) -> Option<Stored> {
        self.newest(|s| {
            s.labels.get("job") == Some(job) && s.labels.metric_name() == metric && !s.is_stale()
        })
    }

    pub fn count(&self, job: &str, metric: &str) -> usize {
        let samples = self.samples.lock();
        let wanted =
            |s: &&Stored| s.labels.get("job") == Some(job) && s.labels.metric_name() == metric;
        samples.iter().filter(wanted).count()
    }

    /// Waits until a commit makes the condition true.
    pub async fn until<T>(&self, what: &str, condition: impl Fn(&Self) -> Option<T>) -> T {
        within(what, async {
            loop {
                let committed = self.committed.notified();
                tokio::pin!(committed);
                committed.as_mut().enable();
                if let Some(found) = condition(self) {
                    return found;
                }
                committed.await;
            }
        })
        .await
    }
}

/// Fails the test when the future takes longer than anything healthy would.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("gave up waiting for {what}"),
    }
}

/// A manager with its clock and sink.
pub struct Bench {
    pub manager: ScrapeManager,
    pub clock: Arc<ManualClock>,
    pub sink: MemorySink,
}

/// An arbitrary moment for the clock to begin at.
pub const START_MS: TimestampMs = 1_700_000_000_000;

impl Bench {
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::new(START_MS));
        let sink = MemorySink::default();
        let manager = ScrapeManager::new(ManagerOptions {
            clock: clock.clone(),
            sink: Arc::new(sink.clone()),
            metrics: ScrapeMetrics::new(&mut Registry::default()),
            discovery: DiscoveryMetrics::new(&mut Registry::default()),
            user_agent: "Watchfire/test".into(),
            external_host: "box".into(),
            offset_seed: 1,
        });
        Self { manager, clock, sink }
    }

    /// Applies a configuration file's text.
    pub async fn apply(&self, yaml: &str) {
        let loaded = config::parse(yaml, Path::new("")).unwrap();
        let configs: Vec<_> = loaded.config.all_scrape_configs().collect();
        self.manager.apply(&configs).await.unwrap();
    }

    /// Moves the clock by a minute, the interval of the tests' jobs, and waits for the
    /// scrape's report; returns `up`.
    pub async fn next_scrape(&self, job: &str) -> Stored {
        let before = self.sink.count(job, "up");
        self.clock.advance_ms(60_000);
        self.sink
            .until("the next scrape", |sink| {
                (sink.count(job, "up") > before).then(|| sink.last(job, "up")).flatten()
            })
            .await
    }

    /// The only target of a job, once its page shows the scrape that was just stored.
    pub async fn target(&self, job: &str) -> TargetView {
        let stored = self.sink.last(job, "up").map(|s| s.ts);
        within("the target's page", async {
            loop {
                let mut targets = self.manager.active_targets();
                targets.retain(|t| t.scrape_pool == job);
                if let [target] = &targets[..]
                    && target.last_scrape_ms == stored
                {
                    return target.clone();
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// Labels of a series without the metric name, printed.
pub fn series_labels(stored: &Stored) -> String {
    stored.labels.retain(|name| name != METRIC_NAME).to_string()
}
