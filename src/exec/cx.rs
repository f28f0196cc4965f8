//! What every operator of one evaluation shares: the binding, the fetched series, the
//! memory budget, the interrupt, and where annotations and statistics go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use thiserror::Error;

use super::found::Found;
use super::memo::Memo;
use super::shared::Shared;
use super::stats::{ExecStats, SampleCounts, SampleStats};
use super::tally::{Tallies, Tally};
use crate::model::annotation::{Severity, Span};
use crate::model::{Annotation, Annotations, StepGrid, TimestampMs};
use crate::plan::Binding;
use crate::plan::node::Select;
use crate::storage::StorageError;

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

/// What counts as one sample in limits: a time and a value.
const SAMPLE_BYTES: u64 = 16;

/// The shared state of one evaluation.
pub(crate) struct Cx {
    pub binding: Arc<Binding>,
    /// Per request of the binding, the series found.
    pub series: Vec<Arc<Found>>,
    pub options: ExecOptions,
    pub budget: Budget,
    /// What the series found take.
    series_bytes: u64,
    interrupt: Interrupt,
    annotations: Mutex<Annotations>,
    tallies: Mutex<Tallies>,
    stats: SampleStats,
    /// Per selector, by its place in the text, what reading it has shown.
    seen: Mutex<FxHashMap<(u32, u32), bool>>,
    /// What other evaluations need as well.
    pub shared: Option<Arc<Shared>>,
    /// What the last evaluation of these plans worked out.
    pub memo: Option<Arc<Memo>>,
    /// What came to nothing, until the end.
    left: Mutex<Vec<Box<dyn Send>>>,
    /// This evaluation's part of the time that went into shared results.
    shared_ns: AtomicU64,
}

impl Cx {
    pub(crate) fn new(
        binding: Arc<Binding>,
        series: Vec<Arc<Found>>,
        options: ExecOptions,
        interrupt: Interrupt,
    ) -> Result<Self> {
        let mut series_bytes = 0;
        for found in &series {
            series_bytes += found.bytes(|| interrupt.check())?;
        }
        Ok(Self::with_series_bytes(binding, series, options, interrupt, series_bytes))
    }

    /// As `new`, for an evaluation that answers for `series_bytes` of series.
    pub(crate) fn with_series_bytes(
        binding: Arc<Binding>,
        series: Vec<Arc<Found>>,
        options: ExecOptions,
        interrupt: Interrupt,
        series_bytes: u64,
    ) -> Self {
        Self {
            binding,
            series,
            options,
            budget: Budget::new(&options, series_bytes),
            series_bytes,
            shared: None,
            memo: None,
            shared_ns: AtomicU64::new(0),
            interrupt,
            annotations: Mutex::default(),
            tallies: Mutex::default(),
            stats: SampleStats::new(options.per_step_stats),
            seen: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Takes what came to nothing and is large, to be dropped with the evaluation.
    pub(crate) fn leave(&self, left: Box<dyn Send>) {
        self.left.lock().push(left);
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

    pub(crate) fn add_shared_ns(&self, ns: u64) {
        self.shared_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Nanoseconds of shared results that this evaluation answers for.
    pub(crate) fn shared_ns(&self) -> u64 {
        self.shared_ns.load(Ordering::Relaxed)
    }

    /// What was noted and counted since the beginning or the last call.
    pub(crate) fn take_effects(&self) -> Effects {
        let (peak, held) = self.budget.take_peak();
        Effects {
            annotations: std::mem::take(&mut *self.annotations.lock()),
            tallies: std::mem::take(&mut *self.tallies.lock()),
            counts: self.stats.take(),
            seen: std::mem::take(&mut *self.seen.lock()),
            peak,
            held,
        }
    }

    /// Notes and counts what another evaluation did, positions in its text turned into
    /// those of this one by `place`.
    pub(crate) fn repeat(&self, effects: &Effects, place: impl Fn(&Span) -> Span) {
        self.stats.add(&effects.counts);
        for ((start, end), found) in &effects.seen {
            let ours = place(&(*start..*end));
            *self.seen.lock().entry((ours.start, ours.end)).or_default() |= found;
        }
        if !effects.annotations.is_empty() {
            let mut annotations = self.annotations.lock();
            for mut annotation in effects.annotations.iter() {
                annotation.span = annotation.span.as_ref().map(&place);
                annotations.add(annotation);
            }
        }
        if !effects.tallies.is_empty() {
            self.tallies.lock().absorb(&effects.tallies, place);
        }
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
        let stats = self.stats.stats(self.budget.peak.load(Ordering::Relaxed) as u64);
        ExecStats { bytes_read: self.series_bytes + SAMPLE_BYTES * stats.samples_read, ..stats }
    }

    /// Time of the first step of the query.
    pub(crate) fn start_ms(&self) -> TimestampMs {
        self.binding.grid.start_ms
    }
}

/// What an evaluation did beside yielding samples.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub annotations: Annotations,
    pub tallies: Tallies,
    counts: SampleCounts,
    seen: FxHashMap<(u32, u32), bool>,
    /// Most samples held at one time, and how many still are.
    pub peak: usize,
    pub held: usize,
}

impl Effects {
    /// Every position something was noted about.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut all: Vec<Span> = self.annotations.iter().filter_map(|a| a.span).collect();
        all.extend(self.tallies.spans());
        all.extend(self.seen.keys().map(|(start, end)| *start..*end));
        all
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

    /// The most that was held, and what is held; the most counts from here on anew.
    pub(crate) fn take_peak(&self) -> (usize, usize) {
        let used = self.used.load(Ordering::Relaxed);
        (self.peak.swap(used, Ordering::Relaxed), used)
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

    /// Gives back all but `samples`.
    pub(crate) fn shrink_to(&mut self, samples: usize) {
        let less = self.samples.saturating_sub(samples);
        self.budget.used.fetch_sub(less, Ordering::Relaxed);
        self.samples -= less;
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
