//! The web page: one HTML file for all its views, and its assets, embedded in the binary.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use rust_embed::{Embed, EmbeddedFile};

use super::response::text_response;
use super::state::ApiState;

#[derive(Embed)]
#[folder = "ui/"]
struct Assets;

/// Views of the page. `/graph` is where links in alert notifications point.
const VIEWS: [&str; 6] = ["/query", "/graph", "/alerts", "/rules", "/targets", "/status"];

/// What stands in the page for its title.
const TITLE_MARK: &str = "TITLE_PLACEHOLDER";

/// The page, its assets, and the way to it.
pub(super) fn routes() -> Router<Arc<ApiState>> {
    let mut routes = Router::new()
        .route("/", get(redirect_home))
        .route("/favicon.ico", get(favicon))
        .route("/assets/{file}", get(asset));
    for view in VIEWS {
        routes = routes.route(view, get(page));
    }
    routes
}

/// Sends to the query view, by the path under which users see this server.
pub(super) async fn redirect_home(State(state): State<Arc<ApiState>>) -> Response {
    let options = &state.options;
    let path = match &options.external_url {
        Some(url) => url.path(),
        None => options.route_prefix.as_str(),
    };
    let target = match path.trim_matches('/') {
        "" => "/query".to_owned(),
        path => format!("/{path}/query"),
    };
    let mut response = text_response(StatusCode::FOUND, "Found");
    if let Ok(value) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

async fn page(State(state): State<Arc<ApiState>>) -> Response {
    let Some(file) = Assets::get("index.html") else {
        return text_response(StatusCode::NOT_FOUND, "404 page not found");
    };
    let html = String::from_utf8_lossy(&file.data)
        .replace(TITLE_MARK, &escape_html(&state.options.page_title));
    let mut response = Response::new(Body::from(html));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    for (name, value) in [
        // Everything the page needs comes from this server.
        (
            "content-security-policy",
            "default-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn favicon(headers: HeaderMap) -> Response {
    file_response("favicon.svg", &headers)
}

async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    file_response(&file, &headers)
}

/// A file with a validator, so that a browser fetches it again only when it has changed.
fn file_response(name: &str, request: &HeaderMap) -> Response {
    let Some(file) = Assets::get(name).filter(|_| name != "index.html") else {
        return text_response(StatusCode::NOT_FOUND, "404 page not found");
    };
    let tag = entity_tag(&file);
    let known = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| known.split(',').any(|t| t.trim() == tag));
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(file.data.into_owned()))
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type(name)),
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn entity_tag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    // Weak, because compression changes the bytes on the wire.
    format!("W/\"{hex}\"")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_what_it_loads_are_embedded() {
        let index = Assets::get("index.html").unwrap();
        let html = String::from_utf8(index.data.into_owned()).unwrap();
        assert!(html.contains(TITLE_MARK));
        let mut assets = 0;
        for rest in html.split("assets/").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(Assets::get(name).is_some(), "{name} is not embedded");
            assets += 1;
        }
        assert!(assets >= 2, "the page loads no assets");
        for outside in ["http://", "https://", "//cdn"] {
            let count = Assets::iter()
                .filter(|name| !name.ends_with(".svg"))
                .filter_map(|name| Assets::get(&name))
                .filter(|file| String::from_utf8_lossy(&file.data).contains(outside))
                .count();
            assert_eq!(count, 0, "a file names {outside}");
        }
    }
}
