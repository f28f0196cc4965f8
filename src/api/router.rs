//! Which path goes where.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{any, get};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use super::access::{self, Guard};
use super::response::text_response;
use super::state::ApiState;
use super::{federate, lifecycle, middleware, v1, web};

/// All routes, below the route prefix.
pub fn router(state: Arc<ApiState>) -> Router {
    let ready = from_fn_with_state(Arc::clone(&state), middleware::require_ready);
    let cors = from_fn_with_state(Arc::clone(&state), middleware::cors);
    let api = v1::routes()
        .layer(ready.clone())
        .merge(v1::early_routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors);
    let gated = Router::new()
        .route("/federate", get(federate::federate))
        .route("/version", get(lifecycle::version))
        // Where Mimir's tools write rules.
        .nest("/config/v1", v1::config_routes())
        .nest("/prometheus/config/v1", v1::config_routes())
        .layer(ready);
    let routes = Router::new()
        .nest("/api/v1", api)
        .merge(gated)
        .merge(web::routes())
        .route("/metrics", get(lifecycle::metrics))
        .route("/-/healthy", get(lifecycle::healthy))
        .route("/-/ready", get(lifecycle::ready))
        .route("/-/reload", any(lifecycle::reload))
        .route("/-/quit", any(lifecycle::quit))
        .method_not_allowed_fallback(method_not_allowed);
    let source = state.options.access.clone();
    let routes = prefixed(routes, &state)
        .fallback(not_found)
        .layer(CatchPanicLayer::custom(middleware::panicked))
        // Deflating is most of what a large answer costs, and the higher levels save little.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(from_fn_with_state(Arc::clone(&state), middleware::count))
        .with_state(state);
    match source {
        Some(source) => routes.layer(from_fn_with_state(Guard::new(source), access::guard)),
        None => routes,
    }
}

/// Moves the routes below the prefix; what stands above it leads there.
fn prefixed(routes: Router<Arc<ApiState>>, state: &ApiState) -> Router<Arc<ApiState>> {
    let prefix = state.options.route_prefix.trim_matches('/');
    if prefix.is_empty() {
        return routes;
    }
    let prefix = format!("/{prefix}");
    let home = format!("{prefix}/");
    Router::new()
        .route("/", get(web::redirect_home))
        .route(&home, get(web::redirect_home))
        .nest(&prefix, routes)
}

async fn not_found() -> Response {
    text_response(StatusCode::NOT_FOUND, "404 page not found")
}

async fn method_not_allowed() -> Response {
    text_response(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}
