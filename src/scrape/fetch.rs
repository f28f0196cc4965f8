//! Getting a target's body: one HTTP request, decompressed, never larger than allowed.

use std::io::Write;

use flate2::write::GzDecoder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use thiserror::Error;

use super::negotiate::FormatError;
use crate::http::{Client, HttpError};
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
    let mut writer = Writer::new(&encoding, limit, std::mem::take(&mut body.bytes))?;
    loop {
        let chunk = response.chunk().await.map_err(|e| FetchError::Body(innermost(&e)))?;
        let Some(chunk) = chunk else { break };
        writer.write(&chunk)?;
    }
    body.bytes = writer.finish()?;
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

/// Memory that refuses to grow past a limit.
struct Limited {
    bytes: Vec<u8>,
    max: usize,
    exceeded: bool,
}

impl Write for Limited {
    fn write(&mut self, chunk: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + chunk.len() > self.max {
            self.exceeded = true;
            return Err(std::io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Writer {
    Plain(Limited, u64),
    Gzip(Box<GzDecoder<Limited>>, u64),
}

impl Writer {
    fn new(encoding: &str, limit: u64, bytes: Vec<u8>) -> Result<Self, FetchError> {
        let max = if limit == 0 { BODY_BYTES_MAX } else { limit };
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let limited = Limited { bytes, max, exceeded: false };
        match encoding.to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Plain(limited, limit)),
            "gzip" => Ok(Self::Gzip(Box::new(GzDecoder::new(limited)), limit)),
            _ => Err(FetchError::Encoding(encoding.to_owned())),
        }
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        let (result, exceeded, limit) = match self {
            Self::Plain(limited, limit) => (limited.write_all(chunk), limited.exceeded, *limit),
            Self::Gzip(decoder, limit) => {
                let result = decoder.write_all(chunk);
                (result, decoder.get_ref().exceeded, *limit)
            }
        };
        result.map_err(|e| failure(exceeded, limit, &e))
    }

    fn finish(self) -> Result<Vec<u8>, FetchError> {
        match self {
            Self::Plain(limited, _) => Ok(limited.bytes),
            Self::Gzip(mut decoder, limit) => {
                let finished = decoder.try_finish();
                let exceeded = decoder.get_ref().exceeded;
                finished.map_err(|e| failure(exceeded, limit, &e))?;
                Ok(std::mem::take(&mut decoder.get_mut().bytes))
            }
        }
    }
}

fn failure(exceeded: bool, limit: u64, error: &std::io::Error) -> FetchError {
    match (exceeded, limit) {
        (true, 0) => FetchError::BodyAboveCeiling,
        (true, _) => FetchError::BodyTooLarge,
        (false, _) => FetchError::Gzip(error.to_string()),
    }
}
