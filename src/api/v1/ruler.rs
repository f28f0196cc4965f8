//! Writing rules, as Mimir's ruler has it: groups by namespace, in YAML. One tenant: headers
//! that name others are not looked at.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;

use super::super::params::read_body;
use super::super::response::text_response;
use super::super::state::{ApiState, Ruler};
use crate::rule_sources::RulerError;

/// Largest group that is taken.
const BODY_BYTES_MAX: usize = 4 << 20;
/// What Mimir answers when something was written.
const ACCEPTED: &str = r#"{"status":"success","data":null,"errorType":"","error":""}"#;

/// The routes of one namespace and one group, below wherever rules are.
pub(super) fn routes() -> axum::Router<Arc<ApiState>> {
    axum::Router::new()
        .route("/rules/{namespace}", get(list_namespace).post(put).delete(delete_namespace))
        .route("/rules/{namespace}/{group}", get(group).delete(delete_group))
}

/// The same with the list of everything, where `/rules` has no other meaning.
pub(in crate::api) fn config_routes() -> axum::Router<Arc<ApiState>> {
    routes().route("/rules", get(list))
}

fn ruler(state: &ApiState) -> Result<&Ruler, Box<Response>> {
    state.ruler.as_ref().ok_or_else(|| {
        let text = "writing rules needs to be enabled with --web.enable-rules-api";
        Box::new(text_response(StatusCode::NOT_FOUND, text))
    })
}

fn refused(error: &RulerError) -> Response {
    let status = match error {
        RulerError::NotYaml(_) | RulerError::Invalid(_) | RulerError::Name { .. } => {
            StatusCode::BAD_REQUEST
        }
        RulerError::NoGroup | RulerError::NoGroups => StatusCode::NOT_FOUND,
        RulerError::TooMany => StatusCode::UNPROCESSABLE_ENTITY,
        RulerError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() {
        tracing::error!(%error, "Rules could not be written");
    }
    text_response(status, &error.to_string())
}

fn yaml(text: Result<String, RulerError>) -> Response {
    match text {
        Ok(text) => answer(StatusCode::OK, "application/yaml", text),
        Err(error) => refused(&error),
    }
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn list(State(state): State<Arc<ApiState>>) -> Response {
    match ruler(&state) {
        Ok(ruler) => yaml(ruler.store.list(None)),
        Err(refused) => *refused,
    }
}

async fn list_namespace(
    State(state): State<Arc<ApiState>>,
    Path(namespace): Path<String>,
) -> Response {
    match ruler(&state) {
        Ok(ruler) => yaml(ruler.store.list(Some(&namespace))),
        Err(refused) => *refused,
    }
}

async fn group(
    State(state): State<Arc<ApiState>>,
    Path((namespace, group)): Path<(String, String)>,
) -> Response {
    match ruler(&state) {
        Ok(ruler) => yaml(ruler.store.group(&namespace, &group)),
        Err(refused) => *refused,
    }
}

async fn put(
    State(state): State<Arc<ApiState>>,
    Path(namespace): Path<String>,
    request: Request,
) -> Response {
    if let Err(refused) = ruler(&state) {
        return *refused;
    }
    let body = read_body(request.into_body(), BODY_BYTES_MAX, state.options.read_timeout).await;
    let body = match body.map(|body| String::from_utf8(body.to_vec())) {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return text_response(StatusCode::BAD_REQUEST, "the rule group is not UTF-8");
        }
        Err(error) => return text_response(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    change(state, move |ruler| ruler.store.put(&namespace, &body)).await
}

async fn delete_group(
    State(state): State<Arc<ApiState>>,
    Path((namespace, group)): Path<(String, String)>,
) -> Response {
    change(state, move |ruler| ruler.store.delete(&namespace, &group)).await
}

async fn delete_namespace(
    State(state): State<Arc<ApiState>>,
    Path(namespace): Path<String>,
) -> Response {
    change(state, move |ruler| ruler.store.delete_namespace(&namespace)).await
}

/// Changes what is stored, then what runs: both are done when this answers.
async fn change(
    state: Arc<ApiState>,
    change: impl FnOnce(&Ruler) -> Result<(), RulerError> + Send + 'static,
) -> Response {
    if let Err(refused) = ruler(&state) {
        return *refused;
    }
    let shared = Arc::clone(&state);
    // The disk is waited for, and half a change must not stay when the client goes away.
    let changing = tokio::task::spawn_blocking(move || match ruler(&shared) {
        Ok(ruler) => Ok(change(ruler)),
        Err(refused) => Err(refused),
    });
    match changing.await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => return refused(&error),
        Ok(Err(refused)) => return *refused,
        Err(_) => {
            let text = "the change was interrupted";
            return text_response(StatusCode::INTERNAL_SERVER_ERROR, text);
        }
    }
    if let Some(ruler) = &state.ruler
        && let Err(error) = (ruler.apply)().await
    {
        // What was written is good; something else among the rules is not, which is told
        // where rules are shown.
        tracing::warn!(error, "Rules were written; not all rules can be used");
    }
    answer(StatusCode::ACCEPTED, "application/json", ACCEPTED.to_owned())
}
