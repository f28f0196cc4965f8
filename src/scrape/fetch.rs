//! Getting a target's body: one HTTP request, decompressed, never larger than allowed.

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use thiserror::Error;

use super::negotiate::FormatError;
use crate::http::{Client, HttpError, UnpackError, Unpacker};
use crate::model::labels::quote;

/// Largest body where the configuration sets no limit.
pub const BODY_BYTES_MAX: u64 = 512 << 20;

/// Why a scrape failed before its samples could be stored; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    #[error("Get {}: {why}", quote(url))]
    Request { url: String, why: String },
    #[error("Get {}: unsupported protocol scheme {}", quote(url), quote(scheme))]
    Scheme { url: String, scheme: String },
    #[error("server returned HTTP status {0}")]
    Status(String),
    #[error("body size limit exceeded")]
    BodyTooLarge,
    #[error("the body is larger than {BODY_BYTES_MAX} bytes: set body_size_limit to allow more")]
    BodyAboveCeiling,
    #[error("gzip: {0}")]
    Gzip(String),
    #[error("reading the body: {0}")]
    Body(String),
    #[error("received Content-Encoding {}, which was not asked for", quote(.0))]
    Encoding(String),
    #[error("Get {}: context deadline exceeded", quote(.0))]
    Deadline(String),
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// What to send with a scrape.
#[derive(Clone, Debug)]
pub(super) struct RequestHeaders {
    pub accept: String,
    pub compressed: bool,
    pub timeout_ms: i64,
}

/// A body as the target sent it, decompressed.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub bytes: Vec<u8>,
    pub content_type: String,
}

/// Fetches `url` into `body`, whose memory is kept from scrape to scrape. `limit` is in
/// bytes after decompression, 0 for none. The caller bounds the time.
pub(super) async fn fetch(
    client: &Client,
    url: &str,
    headers: &RequestHeaders,
    limit: u64,
    body: &mut Body,
) -> Result<(), FetchError> {
    body.bytes.clear();
    body.content_type.clear();
    let request_error = |why: String| FetchError::Request { url: url.to_owned(), why };
    let parsed = Url::parse(url).map_err(|e| request_error(e.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        let (url, scheme) = (url.to_owned(), parsed.scheme().to_owned());
        return Err(FetchError::Scheme { url, scheme });
    }
    let mut request = client.request(Method::GET, parsed);
    let sent = request.headers_mut();
    let accept = HeaderValue::from_str(&headers.accept)
        .expect("BUG: the Accept header is made of ASCII words");
    sent.insert(ACCEPT, accept);
    let encoding = if headers.compressed { "gzip" } else { "identity" };
    sent.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
    let seconds = headers.timeout_ms as f64 / 1000.0;
    let timeout =
        HeaderValue::from_str(&seconds.to_string()).expect("BUG: a number is a valid header value");
    sent.insert("X-Prometheus-Scrape-Timeout-Seconds", timeout);
    let mut response = client.execute(request).await.map_err(|e| match e {
        HttpError::Request(inner) => request_error(innermost(&inner)),
        other => request_error(other.to_string()),
    })?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        let reason = status.canonical_reason().unwrap_or_default();
        return Err(FetchError::Status(format!("{} {reason}", status.as_u16()).trim().to_owned()));
    }
    let text = |name| {
        let value = response.headers().get(name);
        value.map_or_else(String::new, |v| String::from_utf8_lossy(v.as_bytes()).into_owned())
    };
    body.content_type = text(CONTENT_TYPE);
    let encoding = text(CONTENT_ENCODING);
    if encoding.eq_ignore_ascii_case("zstd") {
        return Err(FetchError::Encoding(encoding));
    }
    let max = if limit == 0 { BODY_BYTES_MAX } else { limit };
    let memory = std::mem::take(&mut body.bytes);
    let failed = |error| failure(error, limit);
    let mut writer = Unpacker::new(&encoding, max, memory).map_err(failed)?;
    loop {
        let chunk = response.chunk().await.map_err(|e| FetchError::Body(innermost(&e)))?;
        let Some(chunk) = chunk else { break };
        writer.write(&chunk).map_err(failed)?;
    }
    body.bytes = writer.finish().map_err(failed)?;
    Ok(())
}

/// The cause at the bottom of an error: the system's own words.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn failure(error: UnpackError, limit: u64) -> FetchError {
    match (error, limit) {
        (UnpackError::TooLarge { .. }, 0) => FetchError::BodyAboveCeiling,
        (UnpackError::TooLarge { .. }, _) => FetchError::BodyTooLarge,
        (UnpackError::Broken { why, .. }, _) => FetchError::Gzip(why),
        (UnpackError::Unknown(encoding), _) => FetchError::Encoding(encoding),
    }
}
