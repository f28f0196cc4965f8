//! The facade over parser, plan and exec: prepare once, run as instant, range or rule.

mod bundle;
mod log;
mod metrics;
mod metricsql;
mod push;
mod run;
mod together;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
pub use bundle::Bundle;
pub use log::{FinishedQuery, QueryLog, QueryOrigin};
pub use metrics::QueryMetrics;
pub use push::{PushTarget, WrittenHere};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::model::annotation::Severity;
use crate::model::value::ValueType;
use crate::model::{Annotation, Annotations, Clock, StepGrid, TimestampMs, Value};
use crate::parser::{self, Expr, ParseErrors, ParserOptions};
use crate::plan::{Plan, PlanOptions};
use crate::storage::{Source, StorageError};

/// Settings of an engine; defaults are Prometheus' (`--query.*`).
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub lookback_ms: i64,
    pub timeout: Duration,
    /// Most samples one query may hold in memory.
    pub max_samples: usize,
    /// Most bytes one query may hold: its samples, histograms and series.
    pub max_memory_bytes: u64,
    /// Queries evaluated at once; further ones wait.
    pub max_concurrency: usize,
    pub parser: ParserOptions,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `use-start-timestamps`
    pub use_start_timestamps: bool,
    /// `type-and-unit-labels`
    pub type_and_unit_labels: bool,
    /// `promql-per-step-stats`
    pub per_step_stats: bool,
    /// Large evaluations use all processors. The result does not depend on it.
    pub parallel: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            timeout: Duration::from_secs(120),
            max_samples: 50_000_000,
            max_memory_bytes: 2 << 30,
            max_concurrency: 20,
            parser: ParserOptions::default(),
            delayed_name_removal: false,
            use_start_timestamps: false,
            type_and_unit_labels: false,
            per_step_stats: false,
            parallel: true,
        }
    }
}

/// Prepares and runs queries within its limits. One per process; share it by `Arc`.
pub struct Engine {
    options: EngineOptions,
    /// Step of `[5m:]`: `global.evaluation_interval`, changed by reload.
    default_subquery_step_ms: AtomicI64,
    /// Evaluations that may run at once.
    slots: Arc<Semaphore>,
    /// Measures how long phases take; without one every duration is 0.
    clock: OnceLock<Arc<dyn Clock>>,
    metrics: OnceLock<QueryMetrics>,
    push_target: OnceLock<PushTarget>,
    log: ArcSwapOption<log::Log>,
}

impl Engine {
    /// An engine with these settings.
    pub fn new(options: EngineOptions) -> Arc<Self> {
        let slots = options.max_concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            options,
            default_subquery_step_ms: AtomicI64::new(60_000),
            slots: Arc::new(Semaphore::new(slots)),
            clock: OnceLock::new(),
            metrics: OnceLock::new(),
            push_target: OnceLock::new(),
            log: ArcSwapOption::empty(),
        })
    }

    /// The settings.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Gives the engine a clock to measure the `stats` of queries with. The first one stays.
    pub fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.clock.get_or_init(|| clock);
    }

    /// Counts queries from now on. The first metrics stay.
    pub fn set_metrics(&self, metrics: QueryMetrics) {
        metrics.set_concurrent_max(self.options.max_concurrency);
        self.metrics.get_or_init(|| metrics);
    }

    /// Lets the source evaluate itself what it evaluates exactly as this engine does. Queries
    /// prepared from now on must run over this source, or one that passes on to it what it
    /// does not know. The first target stays.
    pub fn set_push_target(&self, target: PushTarget) {
        self.push_target.get_or_init(|| target);
    }

    /// Changes the step of subqueries that name none; from the next evaluation on.
    pub fn set_default_subquery_step_ms(&self, step_ms: i64) {
        self.default_subquery_step_ms.store(step_ms, Ordering::Relaxed);
    }

    fn default_subquery_step_ms(&self) -> i64 {
        self.default_subquery_step_ms.load(Ordering::Relaxed)
    }

    fn monotonic_ns(&self) -> u64 {
        self.clock.get().map_or(0, |clock| clock.monotonic_ns())
    }

    /// Parses, checks and plans. The result has no time and can run any number of times.
    pub fn prepare(self: &Arc<Self>, text: &str) -> Result<PreparedQuery, QueryError> {
        let expr = parser::parse(text, &self.options.parser)?;
        self.prepare_expr(text, expr)
    }

    /// As `prepare`; selectors that name no datasource are about the one of that name.
    pub fn prepare_on(
        self: &Arc<Self>,
        text: &str,
        datasource: &str,
    ) -> Result<PreparedQuery, QueryError> {
        let mut expr = parser::parse(text, &self.options.parser)?;
        if !datasource.is_empty() {
            parser::with_stack(expr.is_deep(), || expr.ask_datasource(datasource))
                .map_err(QueryError::no_thread)?;
        }
        self.prepare_expr(text, expr)
    }

    /// As `prepare`, from an expression that has been parsed already (rules keep the tree).
    pub fn prepare_expr(
        self: &Arc<Self>,
        text: &str,
        expr: impl Into<Arc<Expr>>,
    ) -> Result<PreparedQuery, QueryError> {
        let expr = expr.into();
        let options = PlanOptions { delayed_name_removal: self.options.delayed_name_removal };
        let deep = expr.is_deep();
        let target = self.push_target.get().filter(|_| !deep);
        let pushed = target.and_then(|target| push::rewritten(&expr, target, &self.options));
        let planned = pushed.as_ref().unwrap_or(&expr);
        let plan = parser::with_stack(deep, || Arc::new(Plan::new(planned, options)))
            .map_err(QueryError::no_thread)?;
        let pushed = pushed.map(|expr| expr.to_string().into());
        let (engine, text) = (self.clone(), text.into());
        Ok(PreparedQuery { engine, text, expr, plan, deep, pushed, origin: None })
    }

    /// Evaluates several queries of this engine at one time as one plan: what they have in
    /// common is fetched, decoded and evaluated once. The results come in the order of the
    /// queries, and each, annotations, statistics and errors included, is that of
    /// [`PreparedQuery::instant`]; only measured times are shares of the whole. They see
    /// what was stored when the evaluation began, so none may need what another makes.
    ///
    /// What is asked again and again is cheaper as a [`Bundle`].
    pub async fn together(
        self: &Arc<Self>,
        queries: &[&PreparedQuery],
        source: &Arc<dyn Source>,
        at_ms: TimestampMs,
        options: &RunOptions,
    ) -> Vec<Result<QueryResult, QueryError>> {
        let options = RunOptions { end_ms: None, ..options.clone() };
        let grid = StepGrid::instant(at_ms);
        together::run(self, queries, source, grid, run::Shape::Instant, &options, None).await
    }

    /// As `together`, over a grid: each result is that of [`PreparedQuery::range`].
    pub async fn together_range(
        self: &Arc<Self>,
        queries: &[&PreparedQuery],
        source: &Arc<dyn Source>,
        grid: StepGrid,
        options: &RunOptions,
    ) -> Vec<Result<QueryResult, QueryError>> {
        together::run(self, queries, source, grid, run::Shape::Range, options, None).await
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What a run may be told beyond its time.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Overrides the engine's lookback when positive.
    pub lookback_ms: Option<i64>,
    /// Shortens the engine's timeout.
    pub timeout: Option<Duration>,
    /// Cancelled when nobody waits for the answer any more; evaluation stops within 100 ms.
    pub cancel: CancellationToken,
    /// Collect per-step statistics (needs the engine's `per_step_stats`).
    pub per_step_stats: bool,
    /// End of a range query as asked for, which may lie beyond the last step: what
    /// `@ end()`, `end()` and `range()` mean. `None`: the last step.
    pub end_ms: Option<TimestampMs>,
    /// Who asks, for the query log; `None`: who the query belongs to, if anyone.
    pub origin: Option<Arc<QueryOrigin>>,
}

/// A planned query. Cheap to share; rules keep theirs from load.
pub struct PreparedQuery {
    engine: Arc<Engine>,
    text: Box<str>,
    expr: Arc<Expr>,
    plan: Arc<Plan>,
    /// The tree needs more stack than usual.
    deep: bool,
    /// What is planned where a source evaluates parts of it.
    pushed: Option<Box<str>>,
    origin: Option<Arc<QueryOrigin>>,
}

impl PreparedQuery {
    /// The checked expression.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The expression as submitted: spans of annotations index into it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the same parts are evaluated by the source, given the same expression. What it
    /// evaluates can change with what is written here.
    pub fn is_planned_as(&self, other: &Self) -> bool {
        self.pushed == other.pushed
    }

    /// The plan as an indented tree, one node a line.
    pub fn explain(&self) -> String {
        self.plan.explain()
    }

    /// Evaluates at one time. A range vector or string at the top is fine here.
    pub async fn instant(
        &self,
        source: &Arc<dyn Source>,
        at_ms: TimestampMs,
        options: &RunOptions,
    ) -> Result<QueryResult, QueryError> {
        let options = RunOptions { end_ms: None, ..options.clone() };
        run::run(self, source, StepGrid::instant(at_ms), run::Shape::Instant, &options).await
    }

    /// Evaluates over a grid; the expression must be a scalar or an instant vector.
    /// The matrix is sorted by labels.
    pub async fn range(
        &self,
        source: &Arc<dyn Source>,
        grid: StepGrid,
        options: &RunOptions,
    ) -> Result<QueryResult, QueryError> {
        self.check(run::Shape::Range)?;
        run::run(self, source, grid, run::Shape::Range, options).await
    }

    /// Whether the expression can be evaluated that way.
    fn check(&self, shape: run::Shape) -> Result<(), QueryError> {
        let kind = self.expr.value_type();
        let fits = matches!(kind, ValueType::Scalar | ValueType::InstantVector);
        if fits || shape == run::Shape::Instant {
            return Ok(());
        }
        Err(QueryError::Invalid(format!(
            "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
            kind.documented()
        )))
    }
}

impl std::fmt::Debug for PreparedQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedQuery").field("text", &self.text).finish_non_exhaustive()
    }
}

/// A successful evaluation.
#[derive(Clone, Debug)]
pub struct QueryResult {
    pub value: Value,
    pub annotations: Annotations,
    pub stats: QueryStats,
}

impl QueryResult {
    /// Whether part of the sources did not answer: what is missing from the value may be
    /// there. Warnings about the query itself point into its text; those of sources do not.
    pub fn is_partial(&self) -> bool {
        let warned = |a: &Annotation| a.severity == Severity::Warning && a.span.is_none();
        self.annotations.iter().any(|a| warned(&a))
    }
}

/// What a query cost; field meanings are those of the API's `stats` object.
#[derive(Clone, Debug, Default)]
pub struct QueryStats {
    pub queue_seconds: f64,
    pub prepare_seconds: f64,
    pub inner_eval_seconds: f64,
    pub result_sort_seconds: f64,
    pub eval_total_seconds: f64,
    pub exec_total_seconds: f64,
    pub total_queryable_samples: u64,
    pub samples_read: u64,
    /// Bytes of the series found and of the samples read, decoded: 16 a sample. No part of
    /// the API's `stats`.
    pub bytes_read: u64,
    pub peak_samples: u64,
    /// A selector without whose samples the result is always empty found none: an empty
    /// result then says that there was nothing to look at, not that nothing matched. See
    /// `plan::presence` for what an expression needs.
    pub input_missing: bool,
    /// `(step time, samples)`; only when asked for.
    pub total_queryable_samples_per_step: Option<Vec<(TimestampMs, u64)>>,
    pub samples_read_per_step: Option<Vec<(TimestampMs, u64)>>,
}

impl QueryError {
    /// A deeply nested expression found no thread to run on.
    fn no_thread(error: std::io::Error) -> Self {
        Self::Execution(format!("cannot start a thread for a deeply nested expression: {error}"))
    }
}

/// Why a query failed. `Display` is the text Prometheus' API gives.
#[derive(Clone, Debug, Error)]
pub enum QueryError {
    /// `bad_data`, 400.
    #[error(transparent)]
    Parse(#[from] ParseErrors),
    /// `bad_data`, 400: the parsed query cannot run this way.
    #[error("{0}")]
    Invalid(String),
    /// `execution`, 422.
    #[error("{0}")]
    Execution(String),
    /// `execution`, 422.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// `execution`, 422; the limit in bytes.
    #[error(
        "query would hold more than {0} bytes in memory in query execution: select fewer series or a shorter time, or raise --query.max-memory-bytes"
    )]
    TooMuchMemory(u64),
    /// `timeout`, 503.
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    /// `canceled`, 499.
    #[error("query was canceled in {0}")]
    Canceled(&'static str),
    /// `internal`, 500.
    #[error("expanding series: {0}")]
    Storage(#[from] StorageError),
}
