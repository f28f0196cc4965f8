//! `query` and `query_range`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, OriginalUri, State};
use axum::http::request::Parts;

use super::super::error::ApiError;
use super::super::params::{Params, parse_duration_seconds};
use super::super::query_json::QueryBody;
use super::super::response::{ApiResult, Success};
use super::super::server::Peer;
use super::super::state::ApiState;
use crate::model::annotation::Severity;
use crate::model::labels::quote;
use crate::model::{StepGrid, Value};
use crate::query::{QueryOrigin, QueryResult, RunOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most steps of a range query beside the first.
const STEPS_MAX: f64 = 11_000.0;

/// Evaluates at one time.
pub(super) async fn instant(
    State(state): State<Arc<ApiState>>,
    Asker(origin): Asker,
    params: Params,
) -> ApiResult {
    let limit = params.limit()?;
    let at_ms = params.time_or("time", state.clock.now_ms())?;
    let (options, _cancel_on_drop) = run_options(&params)?;
    let options = RunOptions { origin, ..options };
    let query = state.engine.prepare_on(params.get("query"), params.get("datasource"))?;
    let result = query.instant(&state.source, at_ms, &options).await?;
    Ok(answer(result, query.text(), &params, limit))
}

/// Evaluates at every step between two times.
pub(super) async fn range(
    State(state): State<Arc<ApiState>>,
    Asker(origin): Asker,
    params: Params,
) -> ApiResult {
    let limit = params.limit()?;
    let start_ms = params.time("start")?;
    let end_ms = params.time("end")?;
    if end_ms < start_ms {
        let why = "end timestamp must not be before start time";
        return Err(ApiError::invalid_parameter("end", why));
    }
    let step_seconds = parse_duration_seconds(params.get("step"))
        .map_err(|e| ApiError::invalid_parameter("step", e))?;
    // Times are whole milliseconds, so a shorter step is none.
    let step_ms = (step_seconds * 1000.0) as i64;
    if step_ms <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. \
                   Try a positive integer";
        return Err(ApiError::invalid_parameter("step", why));
    }
    let span_ms = end_ms as f64 - start_ms as f64;
    let grid = StepGrid::range(start_ms, end_ms, step_ms)
        .filter(|_| (span_ms / step_ms as f64).floor() <= STEPS_MAX)
        .ok_or_else(|| {
            ApiError::bad_data(
                "exceeded maximum resolution of 11,000 points per timeseries. \
                 Try decreasing the query resolution (?step=XX)",
            )
        })?;
    let (options, _cancel_on_drop) = run_options(&params)?;
    let options = RunOptions { end_ms: Some(end_ms), origin, ..options };
    let query = state.engine.prepare_on(params.get("query"), params.get("datasource"))?;
    let result = query.range(&state.source, grid, &options).await?;
    Ok(answer(result, query.text(), &params, limit))
}

/// Who asks, when that is wanted for the query log.
pub(super) struct Asker(Option<Arc<QueryOrigin>>);

impl FromRequestParts<Arc<ApiState>> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ApiState>,
    ) -> Result<Self, Infallible> {
        if !state.engine.has_query_log() {
            return Ok(Self(None));
        }
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        let original = parts.extensions.get::<OriginalUri>();
        Ok(Self(Some(Arc::new(QueryOrigin::Http {
            client_ip: peer.map(|peer| peer.0.ip()).unwrap_or_default(),
            method: parts.method.to_string(),
            path: original.map_or(&parts.uri, |uri| &uri.0).path().to_owned(),
        }))))
    }
}

/// Options of the run, and the guard that cancels it when the handler is dropped: that is
/// what happens when the client goes away.
fn run_options(params: &Params) -> Result<(RunOptions, DropGuard), ApiError> {
    let timeout = params.duration_seconds("timeout")?;
    let lookback = match params.get("lookback_delta") {
        "" => None,
        text => Some(parse_duration_seconds(text).map_err(|e| {
            ApiError::bad_data(format!("error parsing lookback delta duration: {e}"))
        })?),
    };
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    let options = RunOptions {
        lookback_ms: lookback.map(|seconds| (seconds * 1000.0) as i64).filter(|ms| *ms > 0),
        // A timeout in the past has run out already.
        timeout: timeout
            .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)),
        cancel,
        per_step_stats: params.get("stats") == "all",
        end_ms: None,
        origin: None,
    };
    Ok((options, guard))
}

fn answer(result: QueryResult, text: &str, params: &Params, limit: usize) -> Success {
    let QueryResult { mut value, annotations, stats } = result;
    let mut warnings = annotations.texts(Severity::Warning, text);
    let infos = annotations.texts(Severity::Info, text);
    if truncate(&mut value, limit) {
        warnings.push("results truncated due to limit".to_owned());
    }
    let wanted = params.get("stats");
    if !matches!(wanted, "" | "true" | "all") {
        warnings.push(format!(
            "value {} for parameter \"stats\" is deprecated and will be rejected in the next \
             major release, use \"true\" or \"all\"",
            quote(wanted)
        ));
    }
    let stats = (!wanted.is_empty()).then_some(stats);
    Success::pieces(QueryBody::new(value, stats)).annotated(warnings, infos)
}

/// Cuts a result to this many series; 0 cuts nothing.
fn truncate(value: &mut Value, limit: usize) -> bool {
    let len = match value {
        Value::Vector(samples) => samples.len(),
        Value::Matrix(series) => series.len(),
        Value::Scalar { .. } | Value::String { .. } => 0,
    };
    if limit == 0 || len <= limit {
        return false;
    }
    match value {
        Value::Vector(samples) => samples.truncate(limit),
        Value::Matrix(series) => series.truncate(limit),
        Value::Scalar { .. } | Value::String { .. } => {}
    }
    true
}
