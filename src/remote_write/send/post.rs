//! One request to a receiver, and what its answer means for what was sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, StatusCode, Url};
use thiserror::Error;

use super::super::Version;
use super::config::RemoteWriteConfig;
use super::metrics::Counts;
use crate::http::{Client, HttpError};
use crate::model::Clock;

/// Most bytes of an answer that are read; they only go to the log.
const ANSWER_MAX: usize = 1024;
/// Receivers that ask for a longer rest are asked again after this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Why a receiver cannot be written to at all.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("header {0:?} cannot be sent as an HTTP header")]
    Header(String),
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// It was taken; what of it was written, where the receiver says so.
    Taken(Option<Counts>),
    /// Sending it again would not help: what is wrong, and what was written all the same.
    Refused { status: Option<StatusCode>, why: String, written: Counts },
    /// Sending it again may help, after a time if the receiver said so.
    Failed { why: String, after: Option<Duration> },
}

/// A receiver.
pub(super) struct Receiver {
    url: Url,
    client: Client,
    headers: HeaderMap,
    version: Version,
    timeout: Duration,
    retry_on_429: bool,
    clock: Arc<dyn Clock>,
}

impl Receiver {
    /// Makes the client and the headers that all requests have.
    pub async fn new(
        config: &RemoteWriteConfig,
        url: Url,
        user_agent: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let client = match &config.sigv4 {
            Some(sigv4) => Client::signed(&config.http, sigv4, user_agent, clock.clone()).await?,
            None => Client::new(&config.http, user_agent, clock.clone()).await?,
        };
        let version = config.protobuf_message.version();
        Ok(Self {
            url,
            client,
            headers: headers(&config.headers)?,
            version,
            timeout: config.timeout(),
            retry_on_429: config.queue_config.retry_on_http_429,
            clock,
        })
    }

    /// Which message is sent.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sends samples; `attempt` counts from 0.
    pub async fn post(&self, body: Vec<u8>, sent: &Counts, attempt: u32) -> Answer {
        let version = self.version;
        let answer = self.exchange(body, version, attempt).await;
        // A receiver of 1.0 may take what it does not understand without a word.
        if version == Version::V2 && sent.sum() > 0 && matches!(answer, Answer::Taken(None)) {
            let why = format!(
                "sent {} request with {} samples, {} histograms and {} exemplars; got a success \
                 without the headers of remote write 2.0 that say what was written: the receiver \
                 probably knows 1.0 alone; set protobuf_message: {}",
                version.message(),
                sent.samples,
                sent.histograms,
                sent.exemplars,
                Version::V1.message()
            );
            return Answer::Refused { status: None, why, written: Counts::default() };
        }
        answer
    }

    /// Sends metadata, which 2.0 sends with the samples.
    pub async fn post_metadata(&self, body: Vec<u8>, attempt: u32) -> Answer {
        self.exchange(body, Version::V1, attempt).await
    }

    async fn exchange(&self, body: Vec<u8>, version: Version, attempt: u32) -> Answer {
        let mut request = self.client.request(Method::POST, self.url.clone());
        *request.headers_mut() = self.headers.clone();
        let (kind, number) = match version {
            Version::V1 => ("application/x-protobuf", "0.1.0"),
            Version::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        let own = request.headers_mut();
        own.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        own.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        own.insert("x-prometheus-remote-write-version", HeaderValue::from_static(number));
        if attempt > 0 {
            own.insert("retry-attempt", HeaderValue::from(attempt));
        }
        *request.body_mut() = Some(body.into());
        let exchange = async {
            let mut response = self.client.execute(request).await?;
            // Reading the answer to its end lets the connection be used again.
            let mut text = Vec::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                text.extend_from_slice(&chunk);
                if text.len() > ANSWER_MAX {
                    break;
                }
            }
            text.truncate(ANSWER_MAX);
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            Ok::<_, HttpError>((response.status(), response.headers().clone(), text))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Err(_) => {
                Answer::Failed { why: format!("no answer within {:?}", self.timeout), after: None }
            }
            Ok(Err(error)) => Answer::Failed { why: error.to_string(), after: None },
            Ok(Ok((status, headers, text))) => self.judge(status, &headers, &text),
        }
    }

    fn judge(&self, status: StatusCode, headers: &HeaderMap, text: &str) -> Answer {
        let written = written(headers);
        if status.is_success() {
            return Answer::Taken(written);
        }
        let line = text.lines().next().unwrap_or("");
        let why = format!("server returned HTTP status {status}: {line}");
        let overloaded = status == StatusCode::TOO_MANY_REQUESTS;
        if status.is_server_error() || overloaded && self.retry_on_429 {
            let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let after = after.and_then(|text| retry_after(text, self.clock.now_ms()));
            return Answer::Failed { why, after };
        }
        Answer::Refused { status: Some(status), why, written: written.unwrap_or_default() }
    }
}

fn headers(given: &BTreeMap<String, String>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let bad = || ClientError::Header(name.clone());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| bad())?);
    }
    Ok(headers)
}

/// What a receiver of 2.0 says it wrote; `None` when it says nothing.
fn written(headers: &HeaderMap) -> Option<Counts> {
    let count = |kind: &str| -> Option<u64> {
        let name = format!("x-prometheus-remote-write-{kind}-written");
        headers.get(name)?.to_str().ok()?.parse().ok()
    };
    let all = (count("samples"), count("histograms"), count("exemplars"));
    if all == (None, None, None) {
        return None;
    }
    Some(Counts {
        samples: all.0.unwrap_or(0),
        histograms: all.1.unwrap_or(0),
        exemplars: all.2.unwrap_or(0),
    })
}

/// The time that `Retry-After` asks for: seconds, or a date.
fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?;
            let ms = date.timestamp_millis().saturating_sub(now_ms);
            Duration::from_millis(u64::try_from(ms).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now_ms = 1_445_412_480_000; // Wed, 21 Oct 2015 07:28:00 GMT
        for (text, seconds) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("100000", Some(300)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(text, now_ms), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
