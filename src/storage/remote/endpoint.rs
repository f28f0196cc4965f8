//! One server: how requests reach it, when they are sent again, and how its refusals are
//! told. Every request only reads, so it may be sent again as long as nothing of an answer
//! was used; nothing outlives the future, so a query that is dropped stops its requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Request, Response, StatusCode, Url};
use tokio::sync::Semaphore;

use super::metrics::ServerMetrics;
use super::{OpenError, Surroundings, failed};
use crate::http::{Client, ClientConfig, HttpError, SigV4Config, UnpackError, Unpacker};
use crate::model::{Clock, TimestampMs};
use crate::storage::StorageError;

/// How often a request is sent at most.
const ATTEMPTS_MAX: u32 = 4;
/// Before the second attempt; doubled before each further one.
const BACK_OFF: Duration = Duration::from_millis(100);
/// A server that asks for more patience has it only so far.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// What is told of a body that explains a refusal.
const REFUSAL_BYTES_MAX: usize = 2048;
/// A body that explains at more length is not read to its end.
const REFUSAL_READ_MAX: u64 = 64 << 10;

/// How to reach a server.
#[derive(Clone, Debug)]
pub(super) struct EndpointConfig {
    pub name: String,
    pub url: String,
    pub timeout_ms: i64,
    pub headers: BTreeMap<String, String>,
    pub parameters: BTreeMap<String, String>,
    pub concurrent_max: usize,
    pub http: ClientConfig,
    pub sigv4: Option<SigV4Config>,
}

/// An answer, whatever it says.
pub(super) struct Said {
    pub status: StatusCode,
    /// Its `Content-Type`.
    pub kind: String,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub error: StorageError,
    /// It is the request that was refused, not the server that is away or busy: a smaller one
    /// may be answered.
    pub by_request: bool,
}

impl From<Refused> for StorageError {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// See the module.
pub(super) struct Endpoint {
    pub name: String,
    pub url: Url,
    pub timeout: Duration,
    pub metrics: ServerMetrics,
    /// Added to each request to a query API.
    pub parameters: BTreeMap<String, String>,
    headers: HeaderMap,
    slots: Semaphore,
    client: Client,
    clock: Arc<dyn Clock>,
}

impl Endpoint {
    pub(super) async fn new(
        config: &EndpointConfig,
        around: &Surroundings,
    ) -> Result<Self, OpenError> {
        let agent = &around.user_agent;
        let client = match &config.sigv4 {
            Some(sigv4) => Client::signed(&config.http, sigv4, agent, around.clock.clone()).await,
            None => Client::new(&config.http, agent, around.clock.clone()).await,
        };
        let client =
            client.map_err(|cause| OpenError::Client { name: config.name.clone(), cause })?;
        let url = Url::parse(&config.url).map_err(|e| {
            OpenError::Config(super::DatasourceError::Url {
                url: config.url.clone(),
                why: e.to_string(),
            })
        })?;
        let mut shown = url.clone();
        if shown.password().is_some() {
            // An error means that the URL can have none.
            let _ = shown.set_password(Some("xxxxx"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            // What cannot be sent was refused with the configuration.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
            {
                headers.insert(name, value);
            }
        }
        Ok(Self {
            name: config.name.clone(),
            timeout: Duration::from_millis(config.timeout_ms.max(1).unsigned_abs()),
            metrics: around.metrics.server(&config.name, shown.as_str()),
            parameters: config.parameters.clone(),
            slots: Semaphore::new(config.concurrent_max.clamp(1, Semaphore::MAX_PERMITS)),
            url,
            headers,
            client,
            clock: around.clock.clone(),
        })
    }

    /// The URL without its password, for texts.
    pub(super) fn shown_url(&self) -> String {
        let mut url = self.url.clone();
        if url.password().is_some() {
            // An error means that the URL can have none.
            let _ = url.set_password(Some("xxxxx"));
        }
        url.to_string()
    }

    /// Runs a whole exchange within the server's time, which begins when its turn has come:
    /// a thousand rules ask at once. The query's own time goes on meanwhile.
    pub(super) async fn within_time<T>(
        &self,
        exchange: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let _in_flight = self.metrics.begin();
        let _slot = self.slots.acquire().await.expect("BUG: nobody closes the semaphore");
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs_f64();
            Err(failed(
                &self.name,
                format_args!("no whole answer from {} within {seconds}s", self.shown_url()),
            ))
        })
    }

    /// Sends a request until it is answered with success, as often as that may help. The
    /// caller bounds the time.
    pub(super) async fn send(
        &self,
        kind: impl Fn(&Response) -> &'static str,
        request: impl Fn() -> Request,
    ) -> Result<Response, Refused> {
        let away = |error| Refused { error, by_request: false };
        let mut wait = BACK_OFF;
        for attempt in 1.. {
            let began_ns = self.clock.monotonic_ns();
            let mut request = request();
            request.headers_mut().extend(self.headers.clone());
            let result = self.client.execute(request).await;
            let seconds = self.clock.monotonic_ns().saturating_sub(began_ns) as f64 / 1e9;
            let (refusal, patience) = match result {
                Ok(response) if response.status() == StatusCode::OK => {
                    self.metrics.answered(kind(&response), 200, seconds);
                    return Ok(response);
                }
                Ok(response) => {
                    let status = response.status();
                    self.metrics.answered("", status.as_u16(), seconds);
                    let patience = retry_after(&response);
                    let text = self.refusal(response).await;
                    if !may_help(status) {
                        let by_request = matches!(status.as_u16(), 400 | 413 | 414 | 422);
                        return Err(Refused { error: text, by_request });
                    }
                    (text, patience)
                }
                Err(error) => {
                    self.metrics.answered("", 0, seconds);
                    let text = failed(&self.name, &error);
                    // Nothing of an answer was seen; whether the server began does not matter.
                    if !matches!(error, HttpError::Request(_)) {
                        return Err(away(text));
                    }
                    (text, None)
                }
            };
            if attempt == ATTEMPTS_MAX {
                return Err(away(refusal));
            }
            self.metrics.retries.inc();
            tokio::time::sleep(patience.unwrap_or(wait)).await;
            wait *= 2;
        }
        Err(away(failed(&self.name, "BUG: no attempt was the last")))
    }

    /// Wall time and steady time now.
    pub(super) fn now(&self) -> (TimestampMs, u64) {
        (self.clock.now_ms(), self.clock.monotonic_ns())
    }

    /// Sends a request a single time.
    pub(super) async fn send_once(&self, mut request: Request) -> Result<Response, StorageError> {
        request.headers_mut().extend(self.headers.clone());
        let response = self.client.execute(request).await.map_err(|e| failed(&self.name, &e))?;
        match response.status() {
            StatusCode::OK => Ok(response),
            _ => Err(self.refusal(response).await),
        }
    }

    /// Sends a request any answer to which tells something; twice when the connection failed.
    /// The caller bounds the time.
    pub(super) async fn whatever(
        &self,
        request: impl Fn() -> Request,
        bytes_max: u64,
    ) -> Result<Said, StorageError> {
        let send = || {
            let mut request = request();
            request.headers_mut().extend(self.headers.clone());
            self.client.execute(request)
        };
        let mut answer = send().await;
        if let Err(HttpError::Request(_)) = answer {
            answer = send().await;
        }
        let response = answer.map_err(|e| failed(&self.name, &e))?;
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        Ok(Said { status, kind, body: self.body(response, bytes_max).await? })
    }

    /// Why a server refused, in the words of Prometheus' client.
    async fn refusal(&self, mut response: Response) -> StorageError {
        let status = response.status();
        let mut body = Vec::new();
        if let Ok(mut unpacker) = Unpacker::of(response.headers(), REFUSAL_READ_MAX) {
            while let Ok(Some(chunk)) = response.chunk().await {
                if unpacker.write(&chunk).is_err() {
                    break;
                }
            }
            body = unpacker.so_far();
        }
        body.truncate(REFUSAL_BYTES_MAX);
        let said = super::api_json::refusal(&body)
            .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        failed(
            &self.name,
            format_args!(
                "remote server {} returned http status {} {}: {said}",
                self.shown_url(),
                status.as_u16(),
                status.canonical_reason().unwrap_or_default()
            ),
        )
    }

    /// The whole body, unpacked, as large as it may be.
    pub(super) async fn body(
        &self,
        mut response: Response,
        bytes_max: u64,
    ) -> Result<Vec<u8>, StorageError> {
        let failed = |error| match error {
            UnpackError::TooLarge { max } => self.too_large(max),
            error => {
                let url = self.shown_url();
                failed(&self.name, format_args!("cannot read the answer of {url}: {error}"))
            }
        };
        // What remote read packs, it packs in its own way, and reads so itself.
        let mut body = match response.headers().get(CONTENT_ENCODING) {
            Some(own) if own == "snappy" => Unpacker::new("", bytes_max, Vec::new()),
            _ => Unpacker::of(response.headers(), bytes_max),
        }
        .map_err(failed)?;
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broken(&e))? {
            self.metrics.bytes.inc_by(chunk.len() as u64);
            body.write(&chunk).map_err(failed)?;
        }
        body.finish().map_err(failed)
    }

    /// The error for an answer that broke off.
    pub(super) fn broken(&self, error: &reqwest::Error) -> StorageError {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = inner.to_string();
            cause = inner.source();
        }
        failed(&self.name, format_args!("the answer of {} broke off: {text}", self.shown_url()))
    }

    pub(super) fn too_large(&self, bytes_max: u64) -> StorageError {
        failed(
            &self.name,
            format_args!(
                "the answer has more than {bytes_max} bytes: select fewer series or a shorter \
                 time, or raise max_response_bytes of the datasource"
            ),
        )
    }

    pub(super) fn too_many_series(&self, max: usize) -> StorageError {
        failed(
            &self.name,
            format_args!(
                "the answer has more than {max} series: select fewer, or raise max_series of the \
                 datasource"
            ),
        )
    }
}

/// Whether the same request may be answered the next time.
fn may_help(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(BACK_OFF, RETRY_AFTER_MAX))
}
