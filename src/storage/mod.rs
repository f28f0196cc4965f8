//! Storage ports. Everything above asks a [`Source`] and feeds a [`Sink`]; what lies
//! behind them (memory, the embedded database, a remote system, a fan-out) is named only
//! by `cli` and by tests.
//!
//! Rules every implementation keeps:
//! - times are closed intervals in ms: `from_ms <= ts <= to_ms`;
//! - a series' samples come in time order, each time once;
//! - staleness markers are returned as they were stored; `exec` interprets them;
//! - a label with an empty value is the same as no label.

pub mod by_age;
pub mod chunks;
pub mod datasources;
pub mod fanout;
pub(crate) mod frames;
pub mod memory;
pub mod overlay;
pub mod prompb;
pub mod remote;
pub mod router;
pub mod shards;
pub mod tsdb;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use thiserror::Error;

use crate::model::exemplar::{Exemplar, ExemplarError};
use crate::model::metadata::Metadata;
use crate::model::{FloatHistogram, Labels, Matcher, TimestampMs};
use crate::vector::RawSamples;

/// What a selector needs from storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SelectRequest {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// First time needed, inclusive.
    pub from_ms: TimestampMs,
    /// Last time needed, inclusive.
    pub to_ms: TimestampMs,
    /// What the engine will do with the samples; a source may ignore it.
    pub hints: SelectHints,
}

/// Hints as Prometheus sends them to remote read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SelectHints {
    /// Step of the query in ms, 0 for an instant.
    pub step_ms: i64,
    /// Range of the selector in ms, 0 for an instant selector.
    pub range_ms: i64,
    /// Nearest enclosing function or aggregation, "" for none.
    pub function: String,
    /// Grouping labels of that aggregation.
    pub grouping: Vec<String>,
    /// Whether `grouping` is `by` (true) or `without`.
    pub by: bool,
    /// Most series wanted, 0 for all; set by API look-ups, never by evaluation.
    pub limit: usize,
}

/// The series a request found, and what the source wants the user to know.
#[derive(Default)]
pub struct SeriesSet {
    /// Sorted by labels, each label set once.
    pub series: Vec<Arc<dyn RawSeries>>,
    pub warnings: Vec<String>,
}

/// A handle on one series' stored samples. Cheap to hold: decoding happens in
/// `read_into`, on the thread that evaluates.
pub trait RawSeries: Send + Sync {
    /// The label set, `__name__` included.
    fn labels(&self) -> &Labels;

    /// Appends the samples with `from_ms <= ts <= to_ms` to `out`, in time order. The
    /// caller clears `out` first and owns it afterwards; after an error its content is
    /// unspecified. May be called any number of times with any interval inside the
    /// request's, from any thread.
    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError>;

    /// As `read_into`, for a reader that looks at the newest sample of the interval alone:
    /// older ones may be left out.
    fn read_newest_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        self.read_into(from_ms, to_ms, out)
    }
}

/// Lets whoever drives a long look-up have a turn, which is when a look-up nobody waits for
/// any more is dropped. Sources do this between stretches of a few milliseconds.
pub(crate) async fn breathe() {
    let mut rested = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut rested, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Reserved label: a selector with an equality matcher of this name stands for the expression
/// that is the matcher's value, evaluated by the source itself at the steps of the request.
/// A series has a sample at each step it has a value, and a staleness marker at the step
/// after its last one. When the expression is a selector and nothing else, its matchers stand
/// beside, with [`PUSHED_OFFSET`] when it has an offset.
pub const PUSHED: &str = "__watchfire_pushed__";

/// Whose language a source evaluates, when it evaluates at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    PromQl,
    /// VictoriaMetrics' language, which answers some of the same expressions otherwise.
    MetricsQl,
}

/// Reserved label beside [`PUSHED`] and the matchers of a selector: its offset in ms.
pub const PUSHED_OFFSET: &str = "__watchfire_pushed_offset__";

/// Reserved label beside [`PUSHED`], of sources that may become others: the
/// [`PushDown::class`] the expression was planned for.
pub const PUSHED_FOR: &str = "__watchfire_pushed_for__";

/// What a source evaluates itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushDown {
    pub dialect: Dialect,
    /// Whole expressions; else only what samples alone cannot tell, as where staleness
    /// markers are not shown.
    pub whole: bool,
    /// Each of several servers answers for what it holds, in series of its own (see
    /// [`SHARD`]): only what can be put together from such answers is pushed down.
    pub sharded: bool,
    /// What it evaluates may become something else, as another server takes its place:
    /// selectors with [`PUSHED`] say by [`PUSHED_FOR`] what they were planned for.
    pub may_change: bool,
}

impl PushDown {
    /// What decides which expressions are pushed down, and in which words.
    pub fn class(self) -> &'static str {
        match (self.dialect, self.whole) {
            (Dialect::PromQl, true) => "promql",
            (Dialect::PromQl, false) => "series",
            (Dialect::MetricsQl, true) => "metricsql",
            (Dialect::MetricsQl, false) => "nothing",
        }
    }
}

/// Reserved label: tells apart what several servers answered to the same pushed-down
/// expression.
pub const SHARD: &str = "__watchfire_shard__";

/// Reading side.
pub trait Source: Send + Sync {
    /// Finds the series with at least one sample in the interval. The result is a
    /// consistent view: appends committed later may or may not be seen, never half of one.
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>>;

    /// Sorted, distinct label names of the series that satisfy any of the matcher sets
    /// (all series when there is none) and overlap the interval.
    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>>;

    /// Sorted, distinct values of one label, restricted as `label_names` is.
    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>>;

    /// What this source, or the datasource of that name behind it, evaluates itself: it then
    /// understands selectors with [`PUSHED`]. Most sources evaluate nothing.
    fn push_down(&self, datasource: Option<&str>) -> Option<PushDown> {
        let _ = datasource;
        None
    }

    /// The exemplars of the series that satisfy any of the matcher sets, by their own times;
    /// sorted by series. A source that keeps none has none.
    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        let _ = request;
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A series' exemplars, in time order.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarSeries {
    pub labels: Labels,
    pub exemplars: Vec<Exemplar>,
}

/// Which series a label look-up ranges over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelRequest {
    /// A series counts when it satisfies all matchers of at least one set; no set means all.
    pub matcher_sets: Vec<Vec<Matcher>>,
    pub from_ms: TimestampMs,
    pub to_ms: TimestampMs,
}

/// Answer of a label look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelAnswer {
    pub values: Vec<String>,
    pub warnings: Vec<String>,
}

/// Identifies a series to the appender that gave it out, to skip the label look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesRef(pub u64);

/// Writing side.
pub trait Sink: Send + Sync {
    /// Starts a batch. Batches may run in parallel.
    fn appender(&self) -> Box<dyn Appender>;

    /// Whether a commit, however small, waits for a disk or a network: then it belongs on
    /// a thread that may block.
    fn commit_waits(&self) -> bool {
        false
    }

    /// Whether what was committed is found at once by the [`Source`] that belongs to this
    /// sink. Where it is not, rules read through an [`overlay::Overlay`].
    fn shows_at_once(&self) -> bool {
        true
    }
}

/// One batch of samples: visible and durable after `commit`, forgotten when dropped.
pub trait Appender: Send {
    /// Adds a sample. `hint` is what an earlier append of the same label set returned,
    /// from any appender of this sink; a wrong or outdated hint costs a look-up, never
    /// correctness. Within a batch, equal label sets give equal references. On an error the sample is left out and the batch stays usable.
    fn append(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: f64,
    ) -> Result<SeriesRef, AppendError>;

    /// As `append`, for a native histogram.
    fn append_histogram(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError>;

    /// Adds an exemplar to a series this batch, or an earlier one, appended to. One that is
    /// known is none to complain about, nor that none are kept. On an error the exemplar is
    /// left out and the batch stays usable.
    fn append_exemplar(
        &mut self,
        series: SeriesRef,
        exemplar: Exemplar,
    ) -> Result<(), ExemplarError> {
        let _ = (series, exemplar);
        Ok(())
    }

    /// The storage's own copy of the labels of a series just appended to, for those who keep
    /// labels and would rather not keep them twice. `None` when there is none to share.
    fn stored_labels(&self, _: SeriesRef) -> Option<Labels> {
        None
    }

    /// Notes the metadata of a metric family.
    fn append_metadata(&mut self, family: &str, metadata: &Metadata);

    /// Makes the batch visible to readers at once and writes it to the log. After an
    /// error nothing of the batch is visible.
    fn commit(self: Box<Self>) -> Result<(), StorageError>;
}

/// Why one sample was refused. Texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    #[error("out of order sample")]
    OutOfOrder,
    #[error("duplicate sample for timestamp")]
    DuplicateForTimestamp,
    #[error("out of bounds")]
    OutOfBounds,
    #[error("too old sample")]
    TooOld,
    #[error("invalid sample: {0}")]
    Invalid(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why storage could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StorageError {
    #[error("{what}: {cause}")]
    Io { what: String, cause: String },
    #[error("{what} is corrupt at byte {offset}: {why}")]
    Corrupt { what: String, offset: u64, why: String },
    #[error("{0}")]
    Unsupported(String),
    #[error("storage is closed")]
    Closed,
    #[error("{0}")]
    Remote(String),
}

impl StorageError {
    /// Wraps an I/O error with what was being done, e.g. `write segment wal/00000003`.
    pub fn io(what: impl Into<String>, cause: &std::io::Error) -> Self {
        Self::Io { what: what.into(), cause: cause.to_string() }
    }
}
