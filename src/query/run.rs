//! One evaluation: bind, fetch, execute. Fetching is asynchronous; execution is not, and
//! runs in place when the input is small and on a blocking thread otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::try_join_all;
use tokio::sync::OwnedSemaphorePermit;

use super::metrics::Running;
use super::{
    Engine, EngineOptions, PreparedQuery, QueryError, QueryMetrics, QueryResult, QueryStats,
    RunOptions,
};
use crate::exec::{self, Cx, ExecError, ExecOptions, ExecStats, Found, Interrupt};
use crate::model::annotation::Severity;
use crate::model::{Annotation, Annotations, StepGrid, Value};
use crate::parser::with_stack;
use crate::plan::bind::Request;
use crate::plan::{BindOptions, Binding, Plan};
use crate::storage::{SelectHints, SelectRequest, SeriesSet, Source, StorageError};

/// Samples looked at up to which a query runs where it is: a hop to another thread costs
/// more than this much work.
pub(super) const SMALL_WORK: u64 = 1 << 16;

/// How far apart samples are taken to be when work is estimated: the densest usual
/// scrape interval is a few seconds, the usual one 15.
const SAMPLE_INTERVAL_MS: u64 = 15_000;

/// Names of the phases in "query timed out in ..." and "query was canceled in ...", in the
/// order a query goes through them.
const PHASES: [&str; 3] = ["query queue", "query execution", "expression evaluation"];
pub(super) const QUEUE: &str = PHASES[0];
pub(super) const EXECUTION: &str = PHASES[1];
const EVALUATION: &str = PHASES[2];

/// How far a query has come.
#[derive(Default)]
struct Progress(AtomicUsize);

impl Progress {
    fn next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn phase(&self) -> &'static str {
        PHASES[self.0.load(Ordering::Relaxed).min(PHASES.len() - 1)]
    }
}

/// What `PreparedQuery::{instant, range}` differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Instant,
    Range,
}

/// Runs a query under the engine's limits, its own timeout and its caller's patience, and
/// notes it in the query log.
pub(super) async fn run(
    query: &PreparedQuery,
    source: &Arc<dyn Source>,
    grid: StepGrid,
    shape: Shape,
    options: &RunOptions,
) -> Result<QueryResult, QueryError> {
    if !query.engine.has_query_log() {
        return limited(query, source, grid, shape, options).await;
    }
    let mut noted = Noted { query, grid, shape, options, done: false };
    let result = limited(query, source, grid, shape, options).await;
    noted.note(result.as_ref());
    result
}

/// Notes a query, be it that its caller went away.
struct Noted<'a> {
    query: &'a PreparedQuery,
    grid: StepGrid,
    shape: Shape,
    options: &'a RunOptions,
    done: bool,
}

impl Noted<'_> {
    fn note(&mut self, result: Result<&QueryResult, &QueryError>) {
        self.done = true;
        let Self { query, grid, options, .. } = self;
        query.engine.note(query, *grid, self.shape == Shape::Range, options, result);
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.note(Err(&QueryError::Canceled(EVALUATION)));
        }
    }
}

async fn limited(
    query: &PreparedQuery,
    source: &Arc<dyn Source>,
    grid: StepGrid,
    shape: Shape,
    options: &RunOptions,
) -> Result<QueryResult, QueryError> {
    let engine = &query.engine;
    let limit = options.timeout.unwrap_or(engine.options.timeout).min(engine.options.timeout);
    if options.cancel.is_cancelled() {
        return Err(QueryError::Canceled(EXECUTION));
    }
    if limit.is_zero() {
        return Err(QueryError::Timeout(EXECUTION));
    }
    let interrupt = Interrupt::default();
    let progress = Progress::default();
    // A caller that drops the future stops the evaluation as well.
    let _stop = StopOnDrop(interrupt.clone());
    let running = engine.metrics.get().map(QueryMetrics::begin);
    tokio::select! {
        biased;
        result = evaluate(query, source, grid, shape, options, (interrupt.clone(), running, &progress)) => result,
        () = options.cancel.cancelled() => Err(QueryError::Canceled(progress.phase())),
        () = tokio::time::sleep(limit) => {
            interrupt.time_out();
            Err(QueryError::Timeout(progress.phase()))
        }
    }
}

struct StopOnDrop(Interrupt);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn evaluate(
    query: &PreparedQuery,
    source: &Arc<dyn Source>,
    grid: StepGrid,
    shape: Shape,
    options: &RunOptions,
    (interrupt, running, progress): (Interrupt, Option<Running>, &Progress),
) -> Result<QueryResult, QueryError> {
    let engine = &query.engine;
    let clock = Stopwatch::new(engine);
    let permit = engine.slots.clone().acquire_owned().await;
    let permit = permit.expect("BUG: the engine never closes its semaphore");
    progress.next();
    let queued = clock.seconds();
    let bind = bind_options(engine, grid, options);
    let binding =
        with_stack(query.deep, || query.plan.bind(grid, bind)).map_err(QueryError::no_thread)?;
    let binding = binding.map_err(QueryError::Invalid)?;
    let (series, warnings) = fetch(source, &binding).await?;
    progress.next();
    let prepared = clock.seconds();
    let small =
        work(&binding, &series) <= SMALL_WORK && query.plan.subqueries() == 0 && !query.deep;
    // Threads of the pool have no stack for depth.
    let exec_options = exec_options(engine, options, small || query.deep);
    let job = Job {
        engine: engine.clone(),
        plan: query.plan.clone(),
        binding: Arc::new(binding),
        series,
        options: exec_options,
        interrupt,
        shape,
        permit,
        running,
    };
    let done = if small {
        job.run()
    } else {
        let deep = query.deep;
        let joined = tokio::task::spawn_blocking(move || with_stack(deep, || job.run())).await;
        let joined = joined.map_err(|e| QueryError::Execution(format!("unexpected error: {e}")))?;
        joined.map_err(QueryError::no_thread)?
    };
    let done = done.map_err(|e| query_error(e, &engine.options))?;
    let Done { value, mut annotations, stats, sort_seconds } = done;
    add_warnings(&mut annotations, &warnings);
    let total = clock.seconds();
    let stats = QueryStats {
        queue_seconds: queued,
        prepare_seconds: prepared - queued,
        inner_eval_seconds: total - prepared - sort_seconds,
        result_sort_seconds: sort_seconds,
        eval_total_seconds: total - queued,
        exec_total_seconds: total,
        ..sample_stats(stats, grid, exec_options.per_step_stats)
    };
    if let Some(metrics) = engine.metrics.get() {
        metrics.observe_all(std::iter::once(&stats));
    }
    Ok(QueryResult { value, annotations, stats })
}

pub(super) fn bind_options(engine: &Engine, grid: StepGrid, options: &RunOptions) -> BindOptions {
    let lookback_ms = options.lookback_ms.filter(|ms| *ms > 0);
    BindOptions {
        lookback_ms: lookback_ms.unwrap_or(engine.options.lookback_ms),
        default_step_ms: engine.default_subquery_step_ms(),
        end_ms: options.end_ms.unwrap_or(grid.end_ms()).max(grid.end_ms()),
    }
}

pub(super) fn exec_options(engine: &Engine, options: &RunOptions, small: bool) -> ExecOptions {
    ExecOptions {
        max_samples: engine.options.max_samples,
        max_memory_bytes: engine.options.max_memory_bytes,
        delayed_names: engine.options.delayed_name_removal,
        use_start_timestamps: engine.options.use_start_timestamps,
        type_and_unit_labels: engine.options.type_and_unit_labels,
        per_step_stats: options.per_step_stats && engine.options.per_step_stats,
        parallel: !small && engine.options.parallel,
        part_work: exec::PART_WORK,
    }
}

/// Adds what the source wants the user to know.
pub(super) fn add_warnings(annotations: &mut Annotations, warnings: &[String]) {
    for text in warnings.iter().cloned() {
        annotations.add(Annotation { severity: Severity::Warning, text, span: None });
    }
}

/// About how many samples will be looked at: those that are decoded, and those of every
/// window at every step.
pub(super) fn work(binding: &Binding, series: &[Arc<Found>]) -> u64 {
    let steps = u64::from(binding.grid.len.max(1));
    let samples = |ms: u64| 1 + ms / SAMPLE_INTERVAL_MS;
    let each = binding.selects.iter().map(|select| {
        let span_ms = select.to_ms.saturating_sub(select.from_ms).max(0).unsigned_abs();
        let windows = steps.saturating_mul(samples(select.range_ms.unsigned_abs()));
        let found = series[select.request].len() as u64;
        windows.saturating_add(samples(span_ms)).saturating_mul(found)
    });
    each.fold(0, u64::saturating_add)
}

/// Everything an evaluation needs, to be moved to another thread.
struct Job {
    engine: Arc<Engine>,
    plan: Arc<Plan>,
    binding: Arc<Binding>,
    series: Vec<Arc<Found>>,
    options: ExecOptions,
    interrupt: Interrupt,
    shape: Shape,
    permit: OwnedSemaphorePermit,
    /// Counts the query for as long as it is evaluated, awaited or not.
    running: Option<Running>,
}

/// What an evaluation came to.
pub(super) struct Done {
    pub(super) value: Value,
    pub(super) annotations: Annotations,
    pub(super) stats: ExecStats,
    pub(super) sort_seconds: f64,
}

impl Job {
    fn run(self) -> Result<Done, ExecError> {
        let cx = Cx::new(self.binding, self.series, self.options, self.interrupt)?;
        let done = execute(&self.engine, &cx, &self.plan, self.shape);
        // What is left to do is to give memory back, which nobody has to wait for.
        drop((self.permit, self.running));
        done
    }
}

pub(super) fn execute(
    engine: &Engine,
    cx: &Cx,
    plan: &Plan,
    shape: Shape,
) -> Result<Done, ExecError> {
    let value = match shape {
        Shape::Instant => exec::instant(cx, &plan.root)?,
        Shape::Range => exec::range(cx, &plan.root)?,
    };
    let clock = Stopwatch::new(engine);
    let value = exec::sort(cx, value)?;
    let sort_seconds = clock.seconds();
    let (annotations, mut stats) = (cx.take_annotations(), cx.stats());
    stats.input_missing = !plan.input_present(&|select| cx.found(select));
    Ok(Done { value, annotations, stats, sort_seconds })
}

/// Selects all series at once, each distinct need a single time.
async fn fetch(
    source: &Arc<dyn Source>,
    binding: &Binding,
) -> Result<(Vec<Arc<Found>>, Vec<String>), QueryError> {
    let requests: Vec<SelectRequest> =
        binding.requests.iter().cloned().map(select_request).collect();
    let sets = try_join_all(requests.iter().map(|r| select(source, r))).await?;
    let mut warnings = vec![];
    let mut series = Vec::with_capacity(sets.len());
    for set in sets {
        warnings.extend(set.warnings);
        series.push(Found::new(set.series));
    }
    Ok((series, warnings))
}

pub(super) async fn select(
    source: &Arc<dyn Source>,
    request: &SelectRequest,
) -> Result<SeriesSet, StorageError> {
    // An empty interval needs nobody's help.
    if request.from_ms > request.to_ms {
        return Ok(SeriesSet::default());
    }
    source.select(request).await
}

/// A need, as storage is told of it.
pub(super) fn select_request(request: Request) -> SelectRequest {
    SelectRequest {
        matchers: request.matchers,
        from_ms: request.from_ms,
        to_ms: request.to_ms,
        hints: SelectHints {
            step_ms: request.step_ms,
            range_ms: request.range_ms,
            function: request.hints.function.to_owned(),
            grouping: request.hints.grouping,
            by: request.hints.by,
            limit: 0,
        },
    }
}

pub(super) fn query_error(error: ExecError, options: &EngineOptions) -> QueryError {
    match error {
        ExecError::Query(text) => QueryError::Execution(text),
        ExecError::TooManySamples => QueryError::TooManySamples,
        ExecError::TooMuchMemory => QueryError::TooMuchMemory(options.max_memory_bytes),
        ExecError::Canceled => QueryError::Canceled(EVALUATION),
        ExecError::TimedOut => QueryError::Timeout(EVALUATION),
        ExecError::Storage(e) => QueryError::Storage(e),
    }
}

pub(super) fn sample_stats(stats: ExecStats, grid: StepGrid, per_step: bool) -> QueryStats {
    let timed = |mut counts: Vec<u64>| {
        counts.resize(grid.len as usize, 0);
        grid.iter().zip(counts).collect::<Vec<_>>()
    };
    QueryStats {
        total_queryable_samples: stats.total_queryable_samples,
        samples_read: stats.samples_read,
        bytes_read: stats.bytes_read,
        peak_samples: stats.peak_samples,
        input_missing: stats.input_missing,
        total_queryable_samples_per_step: per_step.then(|| timed(stats.queryable_per_step)),
        samples_read_per_step: per_step.then(|| timed(stats.read_per_step)),
        ..QueryStats::default()
    }
}

/// Time since its making, by the engine's clock; stands still when it has none.
pub(super) struct Stopwatch<'a> {
    engine: &'a Engine,
    start_ns: u64,
}

impl<'a> Stopwatch<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self { engine, start_ns: engine.monotonic_ns() }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.engine.monotonic_ns().saturating_sub(self.start_ns) as f64 / 1e9
    }
}
