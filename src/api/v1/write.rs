//! `write`: the receiving end of remote write 1.0.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::super::params::read_body;
use super::super::response::text_response;
use super::super::state::ApiState;
use crate::remote_write::{self, WriteLimits};

/// Largest request as sent; senders make them of a few hundred KiB.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Stores the samples of a request: all of it, or nothing.
pub(super) async fn write(State(state): State<Arc<ApiState>>, request: Request) -> Response {
    if !state.options.enable_remote_write_receiver {
        let text =
            "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        return text_response(StatusCode::NOT_FOUND, text);
    }
    if let Some(why) = unsupported(request.headers()) {
        return text_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why);
    }
    let body =
        match read_body(request.into_body(), BODY_BYTES_MAX, state.options.read_timeout).await {
            Ok(body) => body,
            Err(error) => return text_response(StatusCode::BAD_REQUEST, &error.message),
        };
    let sink = Arc::clone(&state.sink);
    let metrics = state.remote_write.clone();
    let now_ms = state.clock.now_ms();
    // Writing waits for the disk, and must end whole even if the sender goes away.
    let receiving = tokio::task::spawn_blocking(move || {
        remote_write::receive(&body, WriteLimits::default(), &*sink, now_ms, &metrics)
    });
    match receiving.await {
        Ok(Ok(_)) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Ok(Err(error)) => {
            let status =
                StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            if status.is_server_error() {
                tracing::error!(err = %error, "Remote write request failed");
            }
            text_response(status, &error.to_string())
        }
        Err(_) => text_response(StatusCode::INTERNAL_SERVER_ERROR, "the write was interrupted"),
    }
}

/// Why the headers announce something this receiver does not read. Absent headers mean
/// version 1.0, as the first senders had none.
fn unsupported(headers: &HeaderMap) -> Option<String> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(content) = text(header::CONTENT_TYPE) {
        let mut parts = content.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let proto = parts.find_map(|part| part.strip_prefix("proto="));
        if media != "application/x-protobuf" {
            return Some(format!("unsupported content type {media}: send application/x-protobuf"));
        }
        if let Some(proto) = proto.filter(|proto| *proto != "prometheus.WriteRequest") {
            return Some(format!(
                "unsupported remote write message {proto}: this receiver reads \
                 prometheus.WriteRequest (remote write 1.0)"
            ));
        }
    }
    match text(header::CONTENT_ENCODING) {
        None | Some("snappy") => None,
        Some(other) => Some(format!(
            "{other} encoding (compression) is not accepted by this server; only snappy is acceptable"
        )),
    }
}
