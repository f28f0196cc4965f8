//! What every operator of one evaluation shares: the binding, the fetched series, the
//! memory budget, the interrupt, and where annotations and statistics go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use thiserror::Error;

use super::stats::{ExecStats, SampleCounts, SampleStats};
use super::tally::{Tallies, Tally};
use crate::model::annotation::{Severity, Span};
use crate::model::{Annotation, Annotations, StepGrid, TimestampMs};
use crate::plan::Binding;
use crate::plan::node::Select;
use crate::storage::{RawSeries, StorageError};

/// Why an evaluation stopped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ExecError {
    /// The query asks for what cannot be; the text is Prometheus'.
    #[error("{0}")]
    Query(String),
    #[error("too many samples")]
    TooManySamples,
    #[error("too much memory")]
    TooMuchMemory,
    #[error("canceled")]
    Canceled,
    #[error("timed out")]
    TimedOut,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ExecError {
    /// A query error of that text.
    pub(crate) fn query(text: impl Into<String>) -> Self {
        Self::Query(text.into())
    }
}

pub(crate) type Result<T> = std::result::Result<T, ExecError>;

/// Tells a running evaluation to stop. Set from outside, looked at often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    state: Arc<AtomicU8>,
    /// Looks after which it cancels itself.
    #[cfg(test)]
    looks_left: Option<Arc<std::sync::atomic::AtomicU64>>,
}

impl Interrupt {
    /// Nobody waits for the answer any more.
    pub(crate) fn cancel(&self) {
        self.state.store(1, Ordering::Relaxed);
    }

    /// The time allowed is over.
    pub(crate) fn time_out(&self) {
        self.state.store(2, Ordering::Relaxed);
    }

    /// Fails once the evaluation has been told to stop. Costs next to nothing.
    #[inline]
    fn check(&self) -> Result<()> {
        #[cfg(test)]
        self.note_look();
        match self.state.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(ExecError::Canceled),
            _ => Err(ExecError::TimedOut),
        }
    }

    /// Cancels itself after so many looks, which are counted down.
    #[cfg(test)]
    pub(crate) fn after_looks(left: Arc<std::sync::atomic::AtomicU64>) -> Self {
        Self { looks_left: Some(left), ..Self::default() }
    }

    #[cfg(test)]
    fn note_look(&self) {
        crate::model::effort::counted::looked();
        if let Some(left) = &self.looks_left
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.cancel();
        }
    }
}

/// Work between two looks at the interrupt: slots touched, labels compared. Each takes some
/// nanoseconds, so the interrupt is seen within a few milliseconds. Tests count the work, and
/// less of it is quicker to count.
pub(crate) const CHECK_EVERY: usize = if cfg!(test) { 1 << 13 } else { 1 << 16 };

/// Work a native histogram counts for, whatever is done to it.
pub(crate) const HISTOGRAM_WORK: usize = 64;

/// Looks at the interrupt now and then, for loops whose single turns are too short to look
/// each time.
pub(crate) struct Pace<'a> {
    cx: &'a Cx,
    left: usize,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(cx: &'a Cx) -> Self {
        Self { cx, left: CHECK_EVERY }
    }

    /// Notes work that is about to be done; fails once the evaluation has been told to stop.
    #[inline]
    pub(crate) fn work(&mut self, units: usize) -> Result<()> {
        if units < self.left {
            self.left -= units;
            return Ok(());
        }
        self.left = CHECK_EVERY;
        self.cx.check()
    }
}

/// Settings of one evaluation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExecOptions {
    pub max_samples: usize,
    pub max_memory_bytes: u64,
    pub delayed_names: bool,
    pub use_start_timestamps: bool,
    pub type_and_unit_labels: bool,
    pub per_step_stats: bool,
    /// Ranges of series may run on the thread pool.
    pub parallel: bool,
    /// Slots of work that make a part of their own; changes the order of additions.
    pub part_work: u64,
}

/// What a series takes beside its labels and samples: the handle, its row in tables.
const SERIES_BYTES: u64 = 128;

/// What counts as one sample in limits: a time and a value.
const SAMPLE_BYTES: u64 = 16;

/// The shared state of one evaluation.
pub(crate) struct Cx {
    pub binding: Binding,
    /// Per request of the binding, the series found.
    pub series: Vec<Vec<Arc<dyn RawSeries>>>,
    pub options: ExecOptions,
    pub budget: Budget,
    interrupt: Interrupt,
    annotations: Mutex<Annotations>,
    tallies: Mutex<Tallies>,
    stats: SampleStats,
    /// Per selector, by its place in the text, what reading it has shown.
    seen: Mutex<FxHashMap<(u32, u32), bool>>,
}

impl Cx {
    pub(crate) fn new(
        binding: Binding,
        series: Vec<Vec<Arc<dyn RawSeries>>>,
        options: ExecOptions,
        interrupt: Interrupt,
    ) -> Result<Self> {
        let mut series_bytes = 0;
        for handle in series.iter().flatten() {
            interrupt.check()?;
            series_bytes += SERIES_BYTES + handle.labels().encoded_size() as u64;
        }
        Ok(Self {
            binding,
            series,
            options,
            budget: Budget::new(&options, series_bytes),
            interrupt,
            annotations: Mutex::default(),
            tallies: Mutex::default(),
            stats: SampleStats::new(options.per_step_stats),
            seen: Mutex::default(),
        })
    }

    /// Fails once the evaluation has been told to stop.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        self.interrupt.check()
    }

    pub(crate) fn warn(&self, span: &Span, text: String) {
        self.annotate(Severity::Warning, span, format!("PromQL warning: {text}"));
    }

    pub(crate) fn info(&self, span: &Span, text: String) {
        self.annotate(Severity::Info, span, format!("PromQL info: {text}"));
    }

    fn annotate(&self, severity: Severity, span: &Span, text: String) {
        self.annotations.lock().add(Annotation { severity, text, span: Some(span.clone()) });
    }

    /// Notes what is told with figures; `text` is complete but for them.
    pub(crate) fn tally(&self, severity: Severity, text: String, span: &Span, tally: Tally) {
        self.tallies.lock().add(severity, text, span, tally);
    }

    /// Everything that was noted, at the end.
    pub(crate) fn take_annotations(&self) -> Annotations {
        let mut all = std::mem::take(&mut *self.annotations.lock());
        self.tallies.lock().drain().for_each(|annotation| all.add(annotation));
        all
    }

    /// Empty counts for an operator on `grid`.
    pub(crate) fn counts(&self, grid: StepGrid) -> SampleCounts {
        self.stats.counts(grid)
    }

    /// Takes the counts of an operator that stands in scope number `scope`.
    pub(crate) fn count_samples(&self, scope: usize, counts: &SampleCounts) {
        self.stats.count(&self.binding.scopes, scope, counts);
    }

    /// Notes that series of a selector were read, and whether they held samples.
    pub(crate) fn note_read(&self, select: &Select, counts: &SampleCounts) {
        let place = (select.span.start, select.span.end);
        *self.seen.lock().entry(place).or_default() |= !counts.is_empty();
    }

    /// Whether a selector found samples. Of one that nobody had to read, all that is known
    /// is whether it has series.
    pub(crate) fn found(&self, select: &Select) -> bool {
        let seen = self.seen.lock().get(&(select.span.start, select.span.end)).copied();
        seen.unwrap_or_else(|| !self.series[self.binding.selects[select.id].request].is_empty())
    }

    /// The cost so far.
    pub(crate) fn stats(&self) -> ExecStats {
        self.stats.stats(self.budget.peak.load(Ordering::Relaxed) as u64)
    }

    /// Time of the first step of the query.
    pub(crate) fn start_ms(&self) -> TimestampMs {
        self.binding.grid.start_ms
    }
}

/// Samples held in memory at one time, over all threads of one evaluation. Histograms and
/// empty slots count by their size. The limit in bytes counts the series as well.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    peak: AtomicUsize,
    max: usize,
    /// What the limit in bytes leaves for samples, in samples; `None` when the series alone
    /// exceed it.
    memory_max: Option<u64>,
}

impl Budget {
    fn new(options: &ExecOptions, series_bytes: u64) -> Self {
        let left = options.max_memory_bytes.checked_sub(series_bytes);
        Self {
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            max: options.max_samples,
            memory_max: left.map(|bytes| bytes / SAMPLE_BYTES),
        }
    }

    /// Fails when `used` samples are too many. Too many samples are said to be just that,
    /// as by Prometheus, even when they are too many bytes as well.
    fn check(&self, used: usize) -> Result<()> {
        match self.memory_max {
            _ if used > self.max => Err(ExecError::TooManySamples),
            Some(max) if used as u64 <= max => Ok(()),
            _ => Err(ExecError::TooMuchMemory),
        }
    }

    /// Takes `samples` from the budget until the answer is dropped.
    pub(crate) fn hold(&self, samples: usize) -> Result<Hold<'_>> {
        let mut hold = Hold { budget: self, samples: 0 };
        hold.grow_to(samples)?;
        // Where nothing is held yet, the series may already be too much.
        self.check(0)?;
        Ok(hold)
    }
}

/// A part of the budget in use.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    budget: &'a Budget,
    samples: usize,
}

impl Hold<'_> {
    /// Raises what is held to at least `samples`.
    pub(crate) fn grow_to(&mut self, samples: usize) -> Result<()> {
        if samples <= self.samples {
            return Ok(());
        }
        let more = samples - self.samples;
        let used = self.budget.used.fetch_add(more, Ordering::Relaxed) + more;
        self.samples = samples;
        self.budget.peak.fetch_max(used, Ordering::Relaxed);
        self.budget.check(used)
    }

    /// Takes over what another holds.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.samples += std::mem::take(&mut other.samples);
    }

    /// Adds to what is held.
    pub(crate) fn grow_by(&mut self, samples: usize) -> Result<()> {
        self.grow_to(self.samples + samples)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.samples, Ordering::Relaxed);
    }
}
