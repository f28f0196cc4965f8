//! `write`: the receiving end of remote write 1.0 and 2.0.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::super::params::{BodyError, read_body};
use super::super::response::text_response;
use super::super::state::ApiState;
use crate::remote_write::{self, Version, WriteLimits, Written};

/// Largest request as sent; senders make them of a few hundred KiB.
const BODY_BYTES_MAX: usize = 32 << 20;
const MEDIA_TYPE: &str = "application/x-protobuf";

/// Stores the samples of a request: of 1.0 all of them, or nothing.
pub(super) async fn write(State(state): State<Arc<ApiState>>, request: Request) -> Response {
    if !state.options.enable_remote_write_receiver {
        let text =
            "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        return text_response(StatusCode::NOT_FOUND, text);
    }
    let version = match version(request.headers(), &state.options.remote_write_messages) {
        Ok(version) => version,
        Err(why) => return text_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why),
    };
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
        remote_write::receive(&body, version, WriteLimits::default(), &*sink, now_ms, &metrics)
    });
    let (written, result) = match receiving.await {
        Ok((written, result)) => (written, Ok(result)),
        Err(interrupted) => (Written::default(), Err(interrupted)),
    };
    let mut response = match result {
        Ok(Ok(())) => {
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
    };
    if version == Version::V2 {
        // Senders of 2.0 take the lack of these for a receiver of 1.0 that understood nothing.
        for (name, count) in [
            ("x-prometheus-remote-write-samples-written", written.samples),
            ("x-prometheus-remote-write-histograms-written", written.histograms),
            ("x-prometheus-remote-write-exemplars-written", written.exemplars),
        ] {
            response.headers_mut().insert(name, HeaderValue::from(count));
        }
    }
    response
}

/// Which message the headers announce, or why it is not read here, in Prometheus' own
/// words. Absent headers mean version 1.0, as the first senders had none.
fn version(headers: &HeaderMap, accepted: &[Version]) -> Result<Version, String> {
    let text = |name: header::HeaderName| {
        headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes())).filter(|v| !v.is_empty())
    };
    let version = match text(header::CONTENT_TYPE) {
        Some(kind) => version_of_type(kind.trim())?,
        None => Version::V1,
    };
    if !accepted.contains(&version) {
        let accepted: Vec<&str> = accepted.iter().map(|version| version.message()).collect();
        return Err(format!(
            "{} protobuf message is not accepted by this server; only accepts {}",
            version.message(),
            accepted.join(", ")
        ));
    }
    match text(header::CONTENT_ENCODING).filter(|encoding| encoding != "snappy") {
        None => Ok(version),
        Some(encoding) => Err(format!(
            "{encoding} encoding (compression) is not accepted by this server; only snappy is \
             acceptable"
        )),
    }
}

fn version_of_type(content_type: &str) -> Result<Version, String> {
    let mut parts = content_type.split(';');
    if parts.next() != Some(MEDIA_TYPE) {
        return Err(format!(
            "expected {MEDIA_TYPE} as the first (media) part, got {content_type} content-type"
        ));
    }
    let known = [Version::V1, Version::V2];
    for part in parts {
        let pair: Vec<&str> = part.split('=').collect();
        match pair[..] {
            // As there, `proto` after a space is another parameter.
            ["proto", message] => {
                return known.into_iter().find(|v| v.message() == message).ok_or_else(|| {
                    format!(
                        "got {content_type} content type; unknown type for remote write protobuf \
                         message {message}, supported: {}, {}",
                        Version::V1.message(),
                        Version::V2.message()
                    )
                });
            }
            [_, _] => {}
            _ => {
                return Err(format!(
                    "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters \
                     to be key-values, got {part} in {content_type} content-type"
                ));
            }
        }
    }
    Ok(Version::V1)
}
