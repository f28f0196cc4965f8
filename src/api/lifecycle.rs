//! `/-/healthy`, `/-/ready`, `/-/reload`, `/-/quit`, `/version` and `/metrics`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use super::json::to_json;
use super::response::{json_response, text_response};
use super::state::{ApiState, Phase};
use super::v1::BuildBody;
use crate::telemetry::exposition::{ExpositionFormat, encode};

/// The process runs.
pub(super) async fn healthy() -> Response {
    text_response(StatusCode::OK, "Watchfire is Healthy.")
}

/// The server can answer queries.
pub(super) async fn ready(State(state): State<Arc<ApiState>>) -> Response {
    not_ready(&state).unwrap_or_else(|| text_response(StatusCode::OK, "Watchfire is Ready."))
}

/// What is answered while the server starts or stops; `None` when it is ready.
pub(super) fn not_ready(state: &ApiState) -> Option<Response> {
    let stopping = match state.readiness.get() {
        Phase::Ready => return None,
        Phase::Starting => "false",
        Phase::Stopping => "true",
    };
    let mut response = text_response(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    response.headers_mut().insert("X-Prometheus-Stopping", HeaderValue::from_static(stopping));
    Some(response)
}

/// Loads the configuration again.
pub(super) async fn reload(State(state): State<Arc<ApiState>>, method: Method) -> Response {
    if let Some(refusal) = lifecycle_refusal(&state, &method) {
        return refusal;
    }
    // A reload runs to its end even if the client goes away in the middle.
    let outcome = tokio::spawn((state.reload)()).await;
    match outcome {
        Ok(Ok(())) => Response::new(Body::empty()),
        Ok(Err(why)) => {
            let text = format!("failed to reload config: {why}");
            text_response(StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
        Err(_) => {
            let text = "failed to reload config: the reload was interrupted";
            text_response(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

/// Ends the process.
pub(super) async fn quit(State(state): State<Arc<ApiState>>, method: Method) -> Response {
    if let Some(refusal) = lifecycle_refusal(&state, &method) {
        return refusal;
    }
    state.quit.cancel();
    text_response(StatusCode::OK, "Requesting termination... Goodbye!")
}

fn lifecycle_refusal(state: &ApiState, method: &Method) -> Option<Response> {
    if !state.options.enable_lifecycle {
        let text = "Lifecycle API is not enabled.";
        return Some(text_response(StatusCode::FORBIDDEN, text));
    }
    if !matches!(*method, Method::POST | Method::PUT) {
        let text = "Only POST or PUT requests allowed";
        return Some(text_response(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    None
}

/// The build that runs.
pub(super) async fn version() -> Response {
    json_response(StatusCode::OK, to_json(&BuildBody::current()))
}

/// The program's own metrics.
pub(super) async fn metrics(State(state): State<Arc<ApiState>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = ExpositionFormat::negotiate(accept);
    state.metrics.set_ready(state.readiness.get() == Phase::Ready);
    let mut response = Response::new(Body::from(encode(&state.registry, format)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}
