//! What the sender counts, under Prometheus' names; what only a queue on disk has, under
//! our own.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::record::Value;
use crate::telemetry::Registry;

/// Labels of one target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    remote_name: String,
    url: String,
}

/// Labels of what was dropped, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabels {
    remote_name: String,
    url: String,
    reason: &'static str,
}

type FloatGauge = Gauge<f64, AtomicU64>;

const BUCKETS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0];

fn durations() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Why something is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// By `write_relabel_configs`.
    Relabelled,
    /// By `sample_age_limit`.
    TooOld,
    /// The queue on disk had reached its size.
    QueueFull,
    /// The queue on disk could not be written or read.
    QueueFailed,
    /// Just after a restart: the receiver has had it before.
    AlreadySent,
}

impl Reason {
    const ALL: [Self; 5] =
        [Self::Relabelled, Self::TooOld, Self::QueueFull, Self::QueueFailed, Self::AlreadySent];

    fn word(self) -> &'static str {
        match self {
            Self::Relabelled => "dropped_series",
            Self::TooOld => "too_old",
            Self::QueueFull => "queue_full",
            Self::QueueFailed => "queue_failed",
            Self::AlreadySent => "already_sent",
        }
    }
}

/// One number for each kind of thing that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, value: &Value) {
        match value {
            Value::Float(..) => self.samples += 1,
            Value::Histogram(..) => self.histograms += 1,
            Value::Exemplar(_) => self.exemplars += 1,
        }
    }

    /// All together.
    pub fn sum(&self) -> u64 {
        self.samples + self.histograms + self.exemplars
    }

    /// What is left of this without that.
    pub fn without(&self, other: &Self) -> Self {
        Self {
            samples: self.samples.saturating_sub(other.samples),
            histograms: self.histograms.saturating_sub(other.histograms),
            exemplars: self.exemplars.saturating_sub(other.exemplars),
        }
    }
}

/// A family of counters of each kind: `samples`, `histograms`, `exemplars`.
#[derive(Clone, Debug)]
struct ByKind<L: Clone + std::hash::Hash + Eq> {
    samples: Family<L, Counter>,
    histograms: Family<L, Counter>,
    exemplars: Family<L, Counter>,
}

/// Counters of each kind.
#[derive(Clone, Debug)]
pub(super) struct Kinds {
    samples: Counter,
    histograms: Counter,
    exemplars: Counter,
}

impl Kinds {
    /// Adds to each.
    pub fn inc_by(&self, counts: &Counts) {
        self.samples.inc_by(counts.samples);
        self.histograms.inc_by(counts.histograms);
        self.exemplars.inc_by(counts.exemplars);
    }
}

impl<L> ByKind<L>
where
    L: Clone + std::hash::Hash + Eq + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static,
{
    fn new(registry: &mut Registry, end: &str, what: &str) -> Self {
        let mut family = |kind: &str, thing: &str| {
            let family = Family::default();
            registry.register(
                format!("prometheus_remote_storage_{kind}{end}"),
                format!("Total number of {thing} {what}."),
                Family::clone(&family),
            );
            family
        };
        Self {
            samples: family("samples", "samples"),
            histograms: family("histograms", "histograms"),
            exemplars: family("exemplars", "exemplars"),
        }
    }

    fn of(&self, labels: &L) -> Kinds {
        Kinds {
            samples: self.samples.get_or_create(labels).clone(),
            histograms: self.histograms.get_or_create(labels).clone(),
            exemplars: self.exemplars.get_or_create(labels).clone(),
        }
    }

    fn remove(&self, labels: &L) {
        self.samples.remove(labels);
        self.histograms.remove(labels);
        self.exemplars.remove(labels);
    }
}

/// The metrics of all targets. Clones share state.
#[derive(Clone, Debug)]
pub(super) struct SenderMetrics {
    pub(super) highest_timestamp: FloatGauge,
    pub(super) taken_in: Kinds,
    sent: ByKind<TargetLabels>,
    failed: ByKind<TargetLabels>,
    retried: ByKind<TargetLabels>,
    dropped: ByKind<DropLabels>,
    counters: Vec<(&'static str, Family<TargetLabels, Counter>)>,
    gauges: Vec<(&'static str, Family<TargetLabels, Gauge>)>,
    seconds: Vec<(&'static str, Family<TargetLabels, FloatGauge>)>,
    sent_batch_duration: Family<TargetLabels, Histogram, fn() -> Histogram>,
}

/// Counters of one number per target: name and help.
const COUNTERS: &[(&str, &str)] = &[
    ("prometheus_remote_storage_metadata", "Total number of metadata sent to remote storage."),
    (
        "prometheus_remote_storage_metadata_failed",
        "Total number of metadata entries which failed on send to remote storage, non-recoverable errors.",
    ),
    (
        "prometheus_remote_storage_metadata_retried",
        "Total number of metadata entries which failed on send to remote storage but were retried because the send error was recoverable.",
    ),
    (
        "prometheus_remote_storage_bytes",
        "The total number of bytes of data (not metadata) sent by the queue after compression.",
    ),
    (
        "prometheus_remote_storage_metadata_bytes",
        "The total number of bytes of metadata sent by the queue after compression.",
    ),
    (
        "prometheus_remote_storage_enqueue_retries",
        "Total number of times enqueue has failed because a shards queue was full.",
    ),
    (
        "watchfire_remote_storage_queue_lost_samples",
        "Samples that were never sent because the queue on disk had reached its size (queue_config.max_disk_size) or could not be written or read, since the queue was made: a restart goes on counting.",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    (
        "prometheus_remote_storage_samples_pending",
        "The number of samples pending in the queue on disk and the shards to be sent to the remote storage.",
    ),
    (
        "prometheus_remote_storage_shard_capacity",
        "The capacity of each shard of the queue used for parallel sending to the remote storage.",
    ),
    (
        "prometheus_remote_storage_shards",
        "The number of shards used for parallel sending to the remote storage.",
    ),
    (
        "prometheus_remote_storage_shards_max",
        "The maximum number of shards that the queue is allowed to run.",
    ),
    (
        "prometheus_remote_storage_shards_min",
        "The minimum number of shards that the queue is allowed to run.",
    ),
    (
        "prometheus_remote_storage_max_samples_per_send",
        "The maximum number of samples to be sent, in a single request, to the remote storage.",
    ),
    ("watchfire_remote_storage_queue_bytes", "Bytes of the queue on disk."),
    (
        "watchfire_remote_storage_queue_bytes_max",
        "Most bytes the queue on disk may take (queue_config.max_disk_size).",
    ),
];

const SECONDS: &[(&str, &str)] = &[
    (
        "prometheus_remote_storage_shards_desired",
        "The number of shards that the queues shard calculation wants to run based on the rate of samples in vs. samples out.",
    ),
    (
        "prometheus_remote_storage_queue_highest_timestamp_seconds",
        "Highest timestamp that was enqueued, in seconds since epoch.",
    ),
    (
        "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
        "Timestamp from a WAL sample, the highest timestamp successfully sent by this queue, in seconds since epoch.",
    ),
];

/// What one target counts.
#[derive(Clone, Debug)]
pub(super) struct TargetMetrics {
    pub sent: Kinds,
    pub failed: Kinds,
    pub retried: Kinds,
    dropped: Vec<Kinds>,
    pub metadata: Counter,
    pub metadata_failed: Counter,
    pub metadata_retried: Counter,
    pub bytes: Counter,
    pub metadata_bytes: Counter,
    pub enqueue_retries: Counter,
    pub lost: Counter,
    pub pending: Gauge,
    pub shard_capacity: Gauge,
    pub shards: Gauge,
    pub shards_max: Gauge,
    pub shards_min: Gauge,
    pub max_samples_per_send: Gauge,
    pub queue_bytes: Gauge,
    pub queue_bytes_max: Gauge,
    pub shards_desired: FloatGauge,
    pub highest_queued: FloatGauge,
    pub highest_sent: FloatGauge,
    pub sent_batch_duration: Histogram,
}

impl TargetMetrics {
    /// Counts what is never sent.
    pub fn drop_all(&self, reason: Reason, counts: &Counts) {
        self.dropped[reason as usize].inc_by(counts);
    }

    /// Counts what a full queue lost, and says so.
    pub fn lose(&self, name: &str, samples: u64) {
        self.drop_all(Reason::QueueFull, &Counts { samples, ..Counts::default() });
        self.lost.inc_by(samples);
        tracing::error!(
            remote_name = %name,
            samples,
            "Remote write queue is full: the oldest samples were dropped and will never be sent; \
             see to the receiver, or raise queue_config.max_disk_size"
        );
    }
}

impl SenderMetrics {
    /// Registers the metrics.
    pub fn new(registry: &mut Registry) -> Self {
        let highest_timestamp = FloatGauge::default();
        registry.register(
            "prometheus_remote_storage_highest_timestamp_in_seconds",
            "Highest timestamp that has come into the remote storage via the Appender interface, in seconds since epoch. Initialized to 0 when no data has been received yet.",
            highest_timestamp.clone(),
        );
        let mut taken = |kind: &str| {
            let counter = Counter::default();
            registry.register(
                format!("prometheus_remote_storage_{kind}_in"),
                format!("{kind} in to remote storage, compare to {kind} out for queue managers."),
                counter.clone(),
            );
            counter
        };
        let taken_in = Kinds {
            samples: taken("samples"),
            histograms: taken("histograms"),
            exemplars: taken("exemplars"),
        };
        let sent = ByKind::new(registry, "", "sent to remote storage");
        let failed = ByKind::new(
            registry,
            "_failed",
            "which failed on send to remote storage, non-recoverable errors",
        );
        let retried = ByKind::new(
            registry,
            "_retried",
            "which failed on send to remote storage but were retried because the send error was recoverable",
        );
        let dropped = ByKind::new(
            registry,
            "_dropped",
            "which were dropped after being read from the WAL before being sent via remote write, by reason",
        );
        let sent_batch_duration = Family::new_with_constructor(durations as fn() -> Histogram);
        registry.register(
            "prometheus_remote_storage_sent_batch_duration_seconds",
            "Duration of send calls to the remote storage.",
            sent_batch_duration.clone(),
        );
        Self {
            highest_timestamp,
            taken_in,
            sent,
            failed,
            retried,
            dropped,
            counters: families(registry, COUNTERS),
            gauges: families(registry, GAUGES),
            seconds: families(registry, SECONDS),
            sent_batch_duration,
        }
    }

    /// What a target counts with.
    pub fn target(&self, name: &str, url: &str) -> TargetMetrics {
        let labels = &TargetLabels { remote_name: name.into(), url: url.into() };
        TargetMetrics {
            sent: self.sent.of(labels),
            failed: self.failed.of(labels),
            retried: self.retried.of(labels),
            dropped: Reason::ALL.map(|r| self.dropped.of(&drop_labels(labels, r))).into(),
            metadata: get(&self.counters, "prometheus_remote_storage_metadata", labels),
            metadata_failed: get(
                &self.counters,
                "prometheus_remote_storage_metadata_failed",
                labels,
            ),
            metadata_retried: get(
                &self.counters,
                "prometheus_remote_storage_metadata_retried",
                labels,
            ),
            bytes: get(&self.counters, "prometheus_remote_storage_bytes", labels),
            metadata_bytes: get(&self.counters, "prometheus_remote_storage_metadata_bytes", labels),
            enqueue_retries: get(
                &self.counters,
                "prometheus_remote_storage_enqueue_retries",
                labels,
            ),
            lost: get(&self.counters, "watchfire_remote_storage_queue_lost_samples", labels),
            pending: get(&self.gauges, "prometheus_remote_storage_samples_pending", labels),
            shard_capacity: get(&self.gauges, "prometheus_remote_storage_shard_capacity", labels),
            shards: get(&self.gauges, "prometheus_remote_storage_shards", labels),
            shards_max: get(&self.gauges, "prometheus_remote_storage_shards_max", labels),
            shards_min: get(&self.gauges, "prometheus_remote_storage_shards_min", labels),
            max_samples_per_send: get(
                &self.gauges,
                "prometheus_remote_storage_max_samples_per_send",
                labels,
            ),
            queue_bytes: get(&self.gauges, "watchfire_remote_storage_queue_bytes", labels),
            queue_bytes_max: get(&self.gauges, "watchfire_remote_storage_queue_bytes_max", labels),
            shards_desired: get(&self.seconds, "prometheus_remote_storage_shards_desired", labels),
            highest_queued: get(
                &self.seconds,
                "prometheus_remote_storage_queue_highest_timestamp_seconds",
                labels,
            ),
            highest_sent: get(
                &self.seconds,
                "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
                labels,
            ),
            sent_batch_duration: self.sent_batch_duration.get_or_create(labels).clone(),
        }
    }

    /// Forgets a target that is gone.
    pub fn remove(&self, name: &str, url: &str) {
        let labels = &TargetLabels { remote_name: name.into(), url: url.into() };
        self.sent.remove(labels);
        self.failed.remove(labels);
        self.retried.remove(labels);
        for reason in Reason::ALL {
            self.dropped.remove(&drop_labels(labels, reason));
        }
        self.counters.iter().for_each(|(_, family)| _ = family.remove(labels));
        self.gauges.iter().for_each(|(_, family)| _ = family.remove(labels));
        self.seconds.iter().for_each(|(_, family)| _ = family.remove(labels));
        self.sent_batch_duration.remove(labels);
    }
}

fn drop_labels(labels: &TargetLabels, reason: Reason) -> DropLabels {
    let TargetLabels { remote_name, url } = labels.clone();
    DropLabels { remote_name, url, reason: reason.word() }
}

fn families<M>(
    registry: &mut Registry,
    table: &[(&'static str, &str)],
) -> Vec<(&'static str, Family<TargetLabels, M>)>
where
    M: prometheus_client::encoding::EncodeMetric
        + prometheus_client::metrics::TypedMetric
        + Default
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let register = |(name, help): &(&'static str, &str)| {
        let family = Family::<TargetLabels, M>::default();
        registry.register(*name, *help, family.clone());
        (*name, family)
    };
    table.iter().map(register).collect()
}

fn get<M: Clone + Default>(
    families: &[(&'static str, Family<TargetLabels, M>)],
    name: &str,
    labels: &TargetLabels,
) -> M {
    let family = families.iter().find(|(known, _)| *known == name);
    let (_, family) = family.expect("BUG: the metric is in the table");
    family.get_or_create(labels).clone()
}

/// Raises a gauge of seconds to a time.
pub(super) fn raise(gauge: &FloatGauge, ts_ms: i64) {
    let seconds = ts_ms as f64 / 1000.0;
    if seconds > gauge.get() {
        gauge.set(seconds);
    }
}

/// A count for a gauge.
pub(super) fn gauge(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}
