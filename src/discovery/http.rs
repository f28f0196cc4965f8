//! `http_sd_configs`: asks a server for target groups.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};

use super::config::HttpConfig;
use super::file::WrittenGroup;
use super::run::{Outlet, Surroundings, refresh_forever};
use super::{META_URL, TARGETS_MAX, TargetGroup};
use crate::http::Client;
use crate::model::duration::format_duration;
use crate::model::labels::quote;

/// How often the server may expect to be asked.
const INTERVAL_HEADER: HeaderName =
    HeaderName::from_static("x-prometheus-refresh-interval-seconds");
/// Largest answer.
const ANSWER_MAX: usize = 64 << 20;

/// Never ends.
pub(super) async fn run(config: HttpConfig, client: Client, around: Surroundings, outlet: Outlet) {
    let interval_ms = config.refresh_interval_ms;
    refresh_forever("http", &config.url, interval_ms, &around, &outlet, async || {
        let groups = ask(&config, &client).await;
        if groups.is_err() {
            around.metrics.http_failures.inc();
        }
        groups
    })
    .await;
}

async fn ask(config: &HttpConfig, client: &Client) -> Result<Vec<TargetGroup>, String> {
    let url = config.parsed_url().map_err(|e| e.to_string())?;
    let mut request = client.request(Method::GET, url);
    let seconds = config.refresh_interval_ms as f64 / 1000.0;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::try_from(format!("{seconds}")) {
        headers.insert(INTERVAL_HEADER, value);
    }
    let exchange = async {
        let mut response = client.execute(request).await.map_err(|e| e.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("server returned HTTP status {}", response.status()));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if !is_json(kind.unwrap_or_default()) {
            return Err(format!("unsupported content type {}", quote(kind.unwrap_or_default())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| e.to_string())? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                return Err(format!("the answer has more than {ANSWER_MAX} bytes"));
            }
        }
        Ok(body)
    };
    // As in Prometheus, an answer may take as long as the interval.
    let limit = Duration::from_millis(config.refresh_interval_ms.unsigned_abs());
    let body = tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
        let limit = format_duration(config.refresh_interval_ms);
        Err(format!("no answer within the refresh interval of {limit}"))
    })?;
    let groups: Vec<Option<WrittenGroup>> =
        serde_yaml::from_slice(&body).map_err(|e| e.to_string())?;
    let mut found = Vec::with_capacity(groups.len());
    let mut targets = 0;
    for (at, group) in groups.into_iter().enumerate() {
        let Some(group) = group else { return Err("nil target group item found".to_owned()) };
        targets += group.targets.len();
        if targets > TARGETS_MAX {
            return Err(format!("the answer has more than {TARGETS_MAX} targets"));
        }
        let mut group = group.into_group(format!("{}:{at}", config.url));
        group.labels.insert(META_URL.to_owned(), config.url.clone());
        found.push(group);
    }
    Ok(found)
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let charset = parts.all(|p| {
        p.eq_ignore_ascii_case("charset=utf-8") || p.eq_ignore_ascii_case("charset=\"utf-8\"")
    });
    kind.eq_ignore_ascii_case("application/json") && charset
}
