//! The query log: a port that is told of every query the engine has finished, with where it
//! came from. Who implements it must not wait for anything: it is called where the query
//! was evaluated.

use std::sync::Arc;

use super::{Engine, PreparedQuery, QueryError, QueryMetrics, QueryResult, QueryStats, RunOptions};
use crate::model::{StepGrid, TimestampMs};

/// Takes note of finished queries.
pub trait QueryLog: Send + Sync {
    /// Notes one, without waiting.
    fn log(&self, query: &FinishedQuery<'_>);
}

/// A query that was evaluated, or failed to be.
#[derive(Clone, Copy, Debug)]
pub struct FinishedQuery<'a> {
    /// As it was asked.
    pub text: &'a str,
    pub start_ms: TimestampMs,
    pub end_ms: TimestampMs,
    /// 0 for a query at one time.
    pub step_ms: i64,
    pub error: Option<&'a QueryError>,
    /// All 0 when it failed.
    pub stats: &'a QueryStats,
    pub origin: Option<&'a QueryOrigin>,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryOrigin {
    /// A request to the API.
    Http { client_ip: String, method: String, path: String },
    /// A rule, or a template of one.
    RuleGroup { file: String, name: String },
}

/// The log, as it is shared.
pub(super) struct Log(Arc<dyn QueryLog>);

impl Engine {
    /// Changes where finished queries are noted from now on; `None` for nowhere.
    pub fn set_query_log(&self, log: Option<Arc<dyn QueryLog>>) {
        if let Some(metrics) = self.metrics.get() {
            metrics.set_query_log_enabled(log.is_some());
        }
        self.log.store(log.map(|log| Arc::new(Log(log))));
    }

    /// Whether finished queries are noted.
    pub fn has_query_log(&self) -> bool {
        self.log.load().is_some()
    }

    /// What the engine counts, if it does.
    pub fn metrics(&self) -> Option<&QueryMetrics> {
        self.metrics.get()
    }

    /// Notes a query, if there is a log.
    pub(super) fn note(
        &self,
        query: &PreparedQuery,
        grid: StepGrid,
        is_range: bool,
        options: &RunOptions,
        result: Result<&QueryResult, &QueryError>,
    ) {
        let Some(log) = &*self.log.load() else { return };
        let none = QueryStats::default();
        log.0.log(&FinishedQuery {
            text: &query.text,
            start_ms: grid.start_ms,
            end_ms: options.end_ms.unwrap_or(grid.end_ms()),
            step_ms: if is_range { grid.step_ms } else { 0 },
            error: result.err(),
            stats: result.map_or(&none, |result| &result.stats),
            origin: options.origin.as_deref().or(query.origin.as_deref()),
        });
    }
}

impl PreparedQuery {
    /// The query as one of somebody who asks it every time.
    pub fn with_origin(self, origin: Arc<QueryOrigin>) -> Self {
        Self { origin: Some(origin), ..self }
    }
}
