//! Rule files that a server gives out.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, StatusCode, Url};

use crate::http::Client;

/// Largest rule file that is taken.
const ANSWER_MAX: usize = 64 << 20;
/// Longest time an answer may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// What a server gave last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    /// The file, or why it could not be had.
    pub text: Result<Arc<str>, String>,
    /// What the server calls this version.
    pub etag: Option<String>,
}

/// Asks for a file; what did not change since is not sent again.
pub(super) async fn ask(
    client: &Client,
    url: &str,
    before: Option<&Fetched>,
    interval: Duration,
) -> Fetched {
    let limit = interval.clamp(Duration::from_secs(1), TIMEOUT_MAX);
    let answer = tokio::time::timeout(limit, exchange(client, url, before)).await;
    let failed = |why: String| Fetched { text: Err(why), etag: None };
    match answer {
        Ok(Ok(fetched)) => fetched,
        Ok(Err(why)) => failed(format!("cannot fetch the rules: {why}")),
        Err(_) => failed(format!("cannot fetch the rules: no answer within {limit:?}")),
    }
}

async fn exchange(client: &Client, url: &str, before: Option<&Fetched>) -> Result<Fetched, String> {
    let url = Url::parse(url).map_err(|e| e.to_string())?;
    let mut request = client.request(Method::GET, url);
    let headers = request.headers_mut();
    headers
        .insert(ACCEPT, HeaderValue::from_static("application/yaml, text/plain;q=0.9, */*;q=0.1"));
    let known = before.filter(|before| before.text.is_ok());
    if let Some(etag) = known.and_then(|before| before.etag.as_deref())
        && let Ok(etag) = HeaderValue::from_str(etag)
    {
        headers.insert(IF_NONE_MATCH, etag);
    }
    let mut response = client.execute(request).await.map_err(|e| e.to_string())?;
    if response.status() == StatusCode::NOT_MODIFIED
        && let Some(known) = known
    {
        return Ok(known.clone());
    }
    if response.status() != StatusCode::OK {
        return Err(format!("server returned HTTP status {}", response.status()));
    }
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| e.to_string())? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_MAX {
            return Err(format!("the answer has more than {ANSWER_MAX} bytes"));
        }
    }
    let text = String::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
    Ok(Fetched { text: Ok(text.into()), etag })
}

/// A URL without its secrets.
pub(super) fn shown(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    if parsed.password().is_some() {
        _ = parsed.set_password(Some("xxxxx"));
    }
    parsed.set_query(None);
    parsed.to_string()
}
