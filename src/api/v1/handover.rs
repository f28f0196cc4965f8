//! `rules/handover`: what a replica that takes over must know of the alerts of a group. Not
//! in Prometheus; a message of the rule engine's own, which another Watchfire reads.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::super::params::Params;
use super::super::state::ApiState;

/// `GET rules/handover?file=F&group=G`
pub(super) async fn handover(State(state): State<Arc<ApiState>>, params: Params) -> Response {
    let (file, group) = (params.get("file"), params.get("group"));
    match state.rules.handover(file, group) {
        Some(told) => ([(CONTENT_TYPE, "application/x-protobuf")], told).into_response(),
        None => {
            let text = format!("group {group} of {file} does not run here\n");
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}
