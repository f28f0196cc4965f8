//! `query_exemplars`: exemplars of the series an expression selects.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::super::error::{ApiError, ErrorKind};
use super::super::params::Params;
use super::super::response::{LabelMap, Success};
use super::super::state::ApiState;
use crate::model::exemplar::Exemplar;
use crate::model::{Matcher, float};
use crate::parser;
use crate::storage::{ExemplarSeries, LabelRequest};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeriesBody<'a> {
    series_labels: LabelMap<'a>,
    exemplars: Vec<ExemplarBody<'a>>,
}

#[derive(Serialize)]
struct ExemplarBody<'a> {
    labels: LabelMap<'a>,
    value: String,
    timestamp: f64,
}

impl<'a> From<&'a ExemplarSeries> for SeriesBody<'a> {
    fn from(found: &'a ExemplarSeries) -> Self {
        Self {
            series_labels: LabelMap(&found.labels),
            exemplars: found.exemplars.iter().map(ExemplarBody::from).collect(),
        }
    }
}

impl<'a> From<&'a Exemplar> for ExemplarBody<'a> {
    fn from(exemplar: &'a Exemplar) -> Self {
        let mut value = String::new();
        float::push_sample_value(&mut value, exemplar.value);
        let labels = LabelMap(&exemplar.labels);
        Self { labels, value, timestamp: exemplar.ts as f64 / 1000.0 }
    }
}

/// Exemplars of all selectors of `query` between `start` and `end`. An expression without
/// selectors has no answer at all, which is Prometheus' 204.
pub(super) async fn exemplars(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (from_ms, to_ms) = params.time_range()?;
    if to_ms < from_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = parser::parse(params.get("query"), &state.engine.options().parser)
        .map_err(|errors| ApiError::bad_data(errors.to_string()))?;
    let selectors = || expr.selectors().iter().map(|matchers| matchers.to_vec()).collect();
    let matcher_sets: Vec<Vec<Matcher>> = parser::with_stack(expr.is_deep(), selectors)
        .map_err(|e| ApiError::new(ErrorKind::Internal, format!("cannot start a thread: {e}")))?;
    if matcher_sets.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let request = LabelRequest { matcher_sets, from_ms, to_ms };
    let found = state.source.select_exemplars(&request).await?;
    let body: Vec<SeriesBody<'_>> = found.iter().map(SeriesBody::from).collect();
    Ok(Success::new(&body).into_response())
}
