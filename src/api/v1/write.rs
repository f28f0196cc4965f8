//! `write`: the receiving end of remote write 1.0.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::super::params::{BodyError, read_body};
use super::super::response::text_response;
use super::super::state::ApiState;
use crate::remote_write::{self, WriteLimits};

/// Largest request as sent; senders make them of a few hundred KiB.
const BODY_BYTES_MAX: usize = 32 << 20;
const MEDIA_TYPE: &str = "application/x-protobuf";
const MESSAGE_V1: &str = "prometheus.WriteRequest";
const MESSAGE_V2: &str = "io.prometheus.write.v2.Request";

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
            Err(error @ BodyError::TooLarge(_)) => {
                return text_response(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string());
            }
            Err(error) => return text_response(StatusCode::BAD_REQUEST, &error.to_string()),
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

/// Why the headers announce something this receiver does not read, in Prometheus' own
/// words. Absent headers mean version 1.0, as the first senders had none.
fn unsupported(headers: &HeaderMap) -> Option<String> {
    let text = |name: header::HeaderName| {
        headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes())).filter(|v| !v.is_empty())
    };
    if let Some(why) = text(header::CONTENT_TYPE).and_then(|kind| unsupported_type(kind.trim())) {
        return Some(why);
    }
    let encoding = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "snappy")?;
    Some(format!(
        "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
    ))
}

fn unsupported_type(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';');
    if parts.next() != Some(MEDIA_TYPE) {
        return Some(format!(
            "expected {MEDIA_TYPE} as the first (media) part, got {content_type} content-type"
        ));
    }
    for part in parts {
        let pair: Vec<&str> = part.split('=').collect();
        match pair[..] {
            // As there, `proto` after a space is another parameter.
            ["proto", MESSAGE_V1] => return None,
            ["proto", MESSAGE_V2] => {
                return Some(format!(
                    "{MESSAGE_V2} protobuf message is not accepted by this server; only accepts \
                     {MESSAGE_V1}"
                ));
            }
            ["proto", other] => {
                return Some(format!(
                    "got {content_type} content type; unknown type for remote write protobuf \
                     message {other}, supported: {MESSAGE_V1}, {MESSAGE_V2}"
                ));
            }
            [_, _] => {}
            _ => {
                return Some(format!(
                    "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters \
                     to be key-values, got {part} in {content_type} content-type"
                ));
            }
        }
    }
    None
}
