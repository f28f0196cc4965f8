//! `notifications` and `notifications/live`: what holds now, and a stream of what changes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use serde::Serialize;

use super::super::go_time::GoTime;
use super::super::json::to_json;
use super::super::notifications::Notification;
use super::super::response::{ApiResult, Success};
use super::super::state::ApiState;

#[derive(Serialize)]
struct NotificationBody {
    text: &'static str,
    date: GoTime,
    active: bool,
}

impl From<Notification> for NotificationBody {
    fn from(notification: Notification) -> Self {
        Self {
            text: notification.notice.text(),
            date: GoTime(Some(notification.at_ms)),
            active: notification.active,
        }
    }
}

/// The notices that hold.
pub(super) async fn list(State(state): State<Arc<ApiState>>) -> ApiResult {
    let active = state.notifications.active().into_iter();
    Ok(Success::new(&active.map(NotificationBody::from).collect::<Vec<_>>()))
}

/// Server-sent events, one for each notice that holds and each that comes or goes. Without
/// a free place 204, which tells a browser not to come back.
pub(super) async fn live(State(state): State<Arc<ApiState>>) -> Response {
    let body = state.notifications.subscribe().map(|subscription| {
        Body::from_stream(stream::unfold(subscription, async |mut subscription| {
            let body = NotificationBody::from(subscription.next().await?);
            let event = [b"data: ", to_json(&body).as_slice(), b"\n\n"].concat();
            Some((Ok::<_, Infallible>(event), subscription))
        }))
    });
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT };
    let mut response = Response::new(body.unwrap_or_default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
