//! What happens around every request: counting, CORS, readiness.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::error::{ApiError, ErrorKind};
use super::lifecycle::not_ready;
use super::metrics::ApiMetrics;
use super::state::ApiState;

/// Refuses requests until the server is ready.
pub(super) async fn require_ready(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    match not_ready(&state) {
        Some(response) => response,
        None => next.run(request).await,
    }
}

/// Adds the CORS headers, and answers every `OPTIONS` request of the API with them alone.
pub(super) async fn cors(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let Some(origin) = origin.filter(|origin| !origin.is_empty()) else { return response };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let allowed = match &state.options.cors_origin {
        Some(regex) if regex.as_str() == ".*" => Some(HeaderValue::from_static("*")),
        Some(regex) => Some(origin).filter(|o| o.to_str().is_ok_and(|o| regex.is_match(o))),
        None => None,
    };
    if let Some(value) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    }
    response
}

/// Counts a request under its route, with its status, duration and size.
pub(super) async fn count(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    let handler = handler_name(&state, &request);
    let started_ns = state.clock.monotonic_ns();
    let response = next.run(request).await;
    let seconds = state.clock.monotonic_ns().saturating_sub(started_ns) as f64 / 1e9;
    state.metrics.observe(&handler, response.status().as_u16(), seconds);
    let (parts, body) = response.into_parts();
    let counter = ByteCounter { bytes: 0, handler, metrics: state.metrics.clone() };
    Response::from_parts(parts, counter.around(body))
}

/// The route in Prometheus' spelling, without the prefix: `/label/:name/values`.
fn handler_name(state: &ApiState, request: &Request) -> String {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return "/*".to_owned() };
    let prefix = state.options.route_prefix.trim_end_matches('/');
    let path = path.as_str().strip_prefix(prefix).unwrap_or(path.as_str());
    if path.is_empty() { "/".to_owned() } else { path.replace('{', ":").replace('}', "") }
}

/// Counts the bytes of a response and reports them once it has gone.
struct ByteCounter {
    bytes: u64,
    handler: String,
    metrics: ApiMetrics,
}

impl ByteCounter {
    fn around(mut self, body: Body) -> Body {
        // A body of known size is left alone: it keeps its Content-Length.
        if let Some(bytes) = body.size_hint().exact() {
            self.bytes = bytes;
            return body;
        }
        Body::from_stream(body.into_data_stream().inspect(move |chunk| {
            self.add(chunk.as_ref().map_or(0, |data| data.len()));
        }))
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for ByteCounter {
    fn drop(&mut self) {
        self.metrics.observe_bytes(&self.handler, self.bytes);
    }
}

/// The answer to a request whose handler panicked: the defect is logged, the server goes on.
pub(super) fn panicked(cause: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(err = text, "A request handler panicked; please report this as a bug");
    ApiError::new(ErrorKind::Internal, format!("unexpected error: {text}")).into_response()
}
