//! `read`: the answering end of remote read.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio::sync::{Semaphore, mpsc};

use super::super::params::{BodyError, read_body};
use super::super::response::text_response;
use super::super::state::ApiState;
use crate::remote_read::{self, ReadError, ReadLimits, Reading, RemoteReadMetrics, ResponseType};
use crate::storage::StorageError;

/// Largest request as sent.
const BODY_BYTES_MAX: usize = 32 << 20;
/// Frames that wait for a slow reader.
const FRAMES_WAITING: usize = 4;

/// The answering end of remote read, with the requests it answers now.
pub struct RemoteRead {
    limits: ReadLimits,
    slots: Arc<Semaphore>,
    metrics: RemoteReadMetrics,
}

impl RemoteRead {
    /// One that keeps to limits.
    pub fn new(limits: ReadLimits, metrics: RemoteReadMetrics) -> Self {
        let slots = match limits.concurrent {
            0 => Semaphore::MAX_PERMITS,
            n => n.min(Semaphore::MAX_PERMITS),
        };
        Self { limits, slots: Arc::new(Semaphore::new(slots)), metrics }
    }
}

/// Answers a request, when its turn has come.
pub(super) async fn read(State(state): State<Arc<ApiState>>, request: Request) -> Response {
    let running = state.remote_read.metrics.begin();
    let slot = Arc::clone(&state.remote_read.slots).acquire_owned().await;
    let slot = slot.expect("BUG: nobody closes the semaphore");
    let body =
        match read_body(request.into_body(), BODY_BYTES_MAX, state.options.read_timeout).await {
            Ok(body) => body,
            Err(error @ BodyError::TooLarge(_)) => {
                return text_response(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string());
            }
            Err(error) => return text_response(StatusCode::BAD_REQUEST, &error.to_string()),
        };
    let external = state.status.external_labels();
    let limits = state.remote_read.limits;
    let reading = match Reading::decode(&body, &external) {
        Ok(reading) => reading,
        Err(error) => return refusal(&error),
    };
    let found = match reading.select(&*state.source).await {
        Ok(found) => found,
        Err(error) => return refusal(&error),
    };
    if reading.response_type == ResponseType::Samples {
        let answer = tokio::task::spawn_blocking(move || {
            let answer = remote_read::samples(&found, &external, limits);
            drop((slot, running));
            answer
        });
        return match answer.await {
            Ok(Ok(answer)) => sampled(answer),
            Ok(Err(error)) => refusal(&error),
            Err(_) => text_response(StatusCode::INTERNAL_SERVER_ERROR, "the read was interrupted"),
        };
    }
    let (sender, receiver) = mpsc::channel::<Result<Bytes, StorageError>>(FRAMES_WAITING);
    tokio::task::spawn_blocking(move || {
        let send = |frame: Vec<u8>| sender.blocking_send(Ok(frame.into())).is_ok();
        if let Err(error) = remote_read::frames(&found, &external, limits, send) {
            tracing::error!(err = %error, "Remote read request failed");
            // The stream breaks off, so that what came is not taken for the whole.
            let _ = sender.blocking_send(Err(error));
        }
        drop((slot, running));
    });
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn sampled(answer: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(answer));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    response
}

fn refusal(error: &ReadError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    text_response(status, &error.to_string())
}
