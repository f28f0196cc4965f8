//! How other systems are named in a configuration file: `remote_read`, whose form is
//! Prometheus', and the servers among `datasources`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use super::Limits;
use super::endpoint::EndpointConfig;
use crate::http::config::without_password;
use crate::http::{ClientConfig, SigV4Config, SigV4ConfigError};
use crate::model::Matcher;
use crate::model::duration::as_text;
use crate::model::labels::quote;

/// `chunked_read_limit`: largest frame of a streamed answer, in bytes.
pub(super) const CHUNKED_READ_LIMIT: u64 = 50_000_000;
/// Largest answer, in bytes as sent.
const BYTES_MAX: u64 = 1 << 30;
/// Requests to one server at once: what a Prometheus evaluates at once.
const CONCURRENT_MAX: usize = 20;
/// What comes a minute late is no exception.
const LATE_SAMPLES_MS: i64 = 60_000;
/// What changed in the past of a server is seen within twice that.
const REFRESH_KEPT_MS: i64 = 10 * 60_000;
/// Samples kept from tick to tick.
pub const KEEP_BYTES: u64 = 512 << 20;
/// Most series of an answer.
const SERIES_MAX: usize = 5_000_000;

/// Headers that requests have anyway.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Why a section was refused; texts are Prometheus' where it has them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DatasourceError {
    #[error("url is empty")]
    NoUrl,
    #[error("parse {}: {why}", quote(url))]
    Url { url: String, why: String },
    #[error("{} is not an HTTP URL: it begins with neither http:// nor https://", quote(.0))]
    Scheme(String),
    #[error(
        "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter"
    )]
    AuthorizationHeader,
    #[error("{0} is a reserved header. It must not be changed")]
    ReservedHeader(String),
    #[error("{} cannot be sent as an HTTP header", quote(.0))]
    Header(String),
    #[error("at most one of basic_auth, authorization, oauth2, & sigv4 must be configured")]
    Sigv4BesideAuth,
    #[error(transparent)]
    Sigv4(#[from] SigV4ConfigError),
    #[error("{0} must be greater than 0")]
    Zero(&'static str),
}

/// An item of `remote_read`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteReadConfig {
    #[serde(serialize_with = "without_password")]
    pub url: String,
    #[serde(rename = "remote_timeout", with = "as_text")]
    pub remote_timeout_ms: i64,
    /// Largest frame of a streamed answer, in bytes.
    pub chunked_read_limit: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Ask also for times the local store has.
    pub read_recent: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Only selectors with all of these equality matchers are sent on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub required_matchers: BTreeMap<String, String>,
    /// Select by this server's external labels, and take them off the series found.
    pub filter_external_labels: bool,
    /// The HTTP client options, which stand inline.
    #[serde(flatten, skip_deserializing)]
    pub http: ClientConfig,
}

impl Default for RemoteReadConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            remote_timeout_ms: 60_000,
            chunked_read_limit: CHUNKED_READ_LIMIT,
            headers: BTreeMap::new(),
            read_recent: false,
            name: String::new(),
            required_matchers: BTreeMap::new(),
            filter_external_labels: true,
            http: ClientConfig::default(),
        }
    }
}

impl RemoteReadConfig {
    /// Checks the section; `http` has been normalized before.
    pub fn validate(&self) -> Result<(), DatasourceError> {
        check_url(&self.url)?;
        check_headers(&self.headers)
    }

    pub(super) fn required_matchers(&self) -> Vec<Matcher> {
        self.required_matchers.iter().map(|(name, value)| Matcher::equal(name, value)).collect()
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { series: SERIES_MAX, bytes: BYTES_MAX }
    }

    pub(super) fn endpoint(&self) -> EndpointConfig {
        let name = match self.name.is_empty() {
            true => short_name(&self.url),
            false => self.name.clone(),
        };
        EndpointConfig {
            name,
            url: self.url.clone(),
            timeout_ms: self.remote_timeout_ms,
            headers: self.headers.clone(),
            parameters: BTreeMap::new(),
            concurrent_max: CONCURRENT_MAX,
            http: self.http.clone(),
            sigv4: None,
        }
    }
}

/// A name that stays the same from start to start.
fn short_name(url: &str) -> String {
    let hash = xxhash_rust::xxh64::xxh64(url.as_bytes(), 0);
    format!("{:06x}", hash & 0xff_ffff)
}

/// What a server understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasourceKind {
    /// The query API of Prometheus, which Thanos and Mimir have too.
    #[default]
    Prometheus,
    /// What the server turns out to be, asked when it is first reached and whenever it may
    /// have become another one.
    Auto,
    /// The query API of VictoriaMetrics, whose language differs in places.
    #[serde(rename = "victoriametrics")]
    VictoriaMetrics,
    /// Prometheus' remote read: the URL is that of the endpoint.
    RemoteRead,
}

impl DatasourceKind {
    /// As a configuration has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Auto => "auto",
            Self::VictoriaMetrics => "victoriametrics",
            Self::RemoteRead => "remote_read",
        }
    }
}

/// Where expressions are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluation {
    /// `push_down` when the server says that it is a Prometheus of version 3 or later, whose
    /// ranges are open at their start, as here; else `here`. It is asked once, when the
    /// source is made.
    #[default]
    Auto,
    /// Samples are fetched and everything is evaluated here.
    Here,
    /// What the server answers as it would be answered here is asked of it whole.
    PushDown,
}

/// A server among `datasources`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasourceConfig {
    /// Without the `/api/v1/...` that requests add; of `remote_read`, the endpoint itself.
    #[serde(serialize_with = "without_password")]
    pub url: String,
    /// What errors and metrics call it; the key in `datasources`.
    #[serde(skip)]
    pub name: String,
    #[serde(rename = "type")]
    pub kind: DatasourceKind,
    pub evaluate: Evaluation,
    /// For a whole exchange, attempts and waiting between them included.
    #[serde(rename = "timeout", with = "as_text")]
    pub timeout_ms: i64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Added to each request to a query API: `dedup`, `partial_response`, `extra_label`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Requests sent at once; further ones wait.
    pub max_concurrent_requests: usize,
    /// Most series of one answer.
    pub max_series: usize,
    /// Most bytes of one answer.
    pub max_response_bytes: u64,
    /// How late samples may come and be seen at the next tick, where they are kept from tick
    /// to tick.
    #[serde(rename = "late_samples", with = "as_text")]
    pub late_samples_ms: i64,
    /// How much may be kept; nothing with 0.
    pub keep_bytes: u64,
    /// After how long all that is kept of a selector is fetched anew, or up to twice that.
    #[serde(rename = "refresh_kept", with = "as_text")]
    pub refresh_kept_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<SigV4Config>,
    /// The HTTP client options, which stand inline.
    #[serde(flatten, skip_deserializing)]
    pub http: ClientConfig,
}

impl Default for DatasourceConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            name: String::new(),
            kind: DatasourceKind::default(),
            evaluate: Evaluation::default(),
            timeout_ms: 60_000,
            headers: BTreeMap::new(),
            parameters: BTreeMap::new(),
            max_concurrent_requests: CONCURRENT_MAX,
            max_series: SERIES_MAX,
            max_response_bytes: BYTES_MAX,
            late_samples_ms: LATE_SAMPLES_MS,
            keep_bytes: KEEP_BYTES,
            refresh_kept_ms: REFRESH_KEPT_MS,
            sigv4: None,
            http: ClientConfig::default(),
        }
    }
}

impl DatasourceConfig {
    /// Checks the section; `http` has been normalized before.
    pub fn validate(&self) -> Result<(), DatasourceError> {
        check_url(&self.url)?;
        check_headers(&self.headers)?;
        for (name, value) in [
            ("max_concurrent_requests", self.max_concurrent_requests as u64),
            ("max_series", self.max_series as u64),
            ("max_response_bytes", self.max_response_bytes),
            ("timeout", self.timeout_ms.max(0).unsigned_abs()),
        ] {
            if value == 0 {
                return Err(DatasourceError::Zero(name));
            }
        }
        let Some(sigv4) = &self.sigv4 else { return Ok(()) };
        let http = &self.http;
        if http.basic_auth.is_some() || http.authorization.is_some() || http.oauth2.is_some() {
            return Err(DatasourceError::Sigv4BesideAuth);
        }
        Ok(sigv4.validate()?)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { series: self.max_series, bytes: self.max_response_bytes }
    }

    pub(super) fn endpoint(&self) -> EndpointConfig {
        let name = match self.name.is_empty() {
            true => short_name(&self.url),
            false => self.name.clone(),
        };
        EndpointConfig {
            name,
            url: self.url.clone(),
            timeout_ms: self.timeout_ms,
            headers: self.headers.clone(),
            parameters: self.parameters.clone(),
            concurrent_max: self.max_concurrent_requests,
            http: self.http.clone(),
            sigv4: self.sigv4.clone(),
        }
    }
}

fn check_url(text: &str) -> Result<(), DatasourceError> {
    if text.is_empty() {
        return Err(DatasourceError::NoUrl);
    }
    let url = Url::parse(text)
        .map_err(|e| DatasourceError::Url { url: text.to_owned(), why: e.to_string() })?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(DatasourceError::Scheme(text.to_owned()));
    }
    Ok(())
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), DatasourceError> {
    for (name, value) in headers {
        let lower = name.to_lowercase();
        if lower == "authorization" {
            return Err(DatasourceError::AuthorizationHeader);
        }
        if RESERVED_HEADERS.contains(&&*lower) {
            return Err(DatasourceError::ReservedHeader(name.clone()));
        }
        let sendable = reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_ok()
            && reqwest::header::HeaderValue::from_str(value).is_ok();
        if !sendable {
            return Err(DatasourceError::Header(name.clone()));
        }
    }
    Ok(())
}
