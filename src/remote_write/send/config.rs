//! The `remote_write` section: one entry per place samples are sent on to. Names, defaults
//! and error texts are Prometheus'; `queue_config.max_disk_size` is not in Prometheus, whose
//! queue lies in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use super::super::Version;
use crate::http::config::without_password;
use crate::http::{ClientConfig, SigV4Config, SigV4ConfigError};
use crate::model::duration::as_text;
use crate::relabel::{NameScheme, RelabelConfig, RelabelError};

/// Keys of an entry that are read and have no effect.
pub const UNSERVED_KEYS: &[&str] =
    &["azuread", "google_iam", "round_robin_dns", "failed_request_logging"];

/// Headers that are ours or the protocol's.
const RESERVED_HEADERS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "www-authenticate",
    "x-prometheus-remote-read-version",
    "x-prometheus-remote-write-version",
    "x-prometheus-scrape-timeout-seconds",
];

/// A place samples are sent on to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteWriteConfig {
    #[serde(serialize_with = "without_password")]
    pub url: String,
    #[serde(rename = "remote_timeout", with = "as_text")]
    pub timeout_ms: i64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_relabel_configs: Vec<RelabelConfig>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub send_exemplars: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub send_native_histograms: bool,
    pub protobuf_message: Message,
    #[serde(flatten, skip_deserializing)]
    pub http: ClientConfig,
    pub queue_config: QueueConfig,
    pub metadata_config: MetadataConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<SigV4Config>,
    /// Keys that are read and have no effect, secrets hidden.
    #[serde(flatten, skip_deserializing)]
    pub unserved: BTreeMap<String, serde_yaml::Value>,
}

impl Default for RemoteWriteConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout_ms: 30_000,
            headers: BTreeMap::new(),
            write_relabel_configs: Vec::new(),
            name: String::new(),
            send_exemplars: false,
            send_native_histograms: false,
            protobuf_message: Message::V1,
            http: plain_http(),
            queue_config: QueueConfig::default(),
            metadata_config: MetadataConfig::default(),
            sigv4: None,
            unserved: BTreeMap::new(),
        }
    }
}

/// Prometheus writes with HTTP/1.1 unless told otherwise.
fn plain_http() -> ClientConfig {
    let mut http = ClientConfig::default();
    http.enable_http2 = false;
    http
}

/// Which message is sent, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub enum Message {
    #[default]
    #[serde(rename = "prometheus.WriteRequest")]
    V1,
    #[serde(rename = "io.prometheus.write.v2.Request")]
    V2,
}

impl Message {
    /// The version of the protocol.
    pub fn version(self) -> Version {
        match self {
            Self::V1 => Version::V1,
            Self::V2 => Version::V2,
        }
    }
}

impl TryFrom<String> for Message {
    type Error = RemoteWriteConfigError;

    fn try_from(text: String) -> Result<Self, RemoteWriteConfigError> {
        [Self::V1, Self::V2]
            .into_iter()
            .find(|m| m.version().message() == text)
            .ok_or(RemoteWriteConfigError::Message(text))
    }
}

/// How samples are gathered and sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Samples a shard holds in memory.
    pub capacity: usize,
    pub max_shards: usize,
    pub min_shards: usize,
    pub max_samples_per_send: usize,
    #[serde(rename = "batch_send_deadline", with = "as_text")]
    pub batch_send_deadline_ms: i64,
    #[serde(rename = "min_backoff", with = "as_text")]
    pub min_backoff_ms: i64,
    #[serde(rename = "max_backoff", with = "as_text")]
    pub max_backoff_ms: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retry_on_http_429: bool,
    /// 0 for no limit.
    #[serde(rename = "sample_age_limit", with = "as_text", skip_serializing_if = "is_zero")]
    pub sample_age_limit_ms: i64,
    /// Most bytes of the queue on disk; the flag's when it is left out.
    #[serde(
        with = "crate::model::size",
        rename = "max_disk_size",
        skip_serializing_if = "is_none"
    )]
    pub max_disk_bytes: u64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn is_none(n: &u64) -> bool {
    *n == 0
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2000,
            batch_send_deadline_ms: 5000,
            min_backoff_ms: 30,
            max_backoff_ms: 5000,
            retry_on_http_429: false,
            sample_age_limit_ms: 0,
            max_disk_bytes: 0,
        }
    }
}

/// How metadata is sent with version 1.0; with 2.0 it goes with the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataConfig {
    pub send: bool,
    #[serde(rename = "send_interval", with = "as_text")]
    pub send_interval_ms: i64,
    pub max_samples_per_send: usize,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self { send: true, send_interval_ms: 60_000, max_samples_per_send: 2000 }
    }
}

/// Why an entry was refused; texts are Prometheus' where it has them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RemoteWriteConfigError {
    #[error("url for remote_write is empty")]
    NoUrl,
    #[error("url for remote_write: {url}: {why}")]
    BadUrl { url: String, why: String },
    #[error(
        "unknown remote write protobuf message {0}, supported: prometheus.WriteRequest, \
         io.prometheus.write.v2.Request"
    )]
    Message(String),
    #[error(
        "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, \
         azuread or google_iam parameter"
    )]
    AuthorizationHeader,
    #[error("{0} is a reserved header. It must not be changed")]
    ReservedHeader(String),
    #[error(
        "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be \
         configured"
    )]
    TwoAuthentications,
    #[error(transparent)]
    SigV4(#[from] SigV4ConfigError),
    #[error(transparent)]
    Relabel(#[from] RelabelError),
    #[error("queue_config: {key} must be at least {min}")]
    TooSmall { key: &'static str, min: i64 },
    #[error("queue_config: min_shards is above max_shards")]
    Shards,
    #[error("queue_config: min_backoff is above max_backoff")]
    Backoff,
}

/// Smallest queue on disk: below it, segments would hold next to nothing.
const MAX_DISK_BYTES_MIN: i64 = 64 << 10;

impl RemoteWriteConfig {
    /// Checks the entry.
    pub fn validate(&self, scheme: NameScheme) -> Result<(), RemoteWriteConfigError> {
        use RemoteWriteConfigError as E;
        if self.url.is_empty() {
            return Err(E::NoUrl);
        }
        self.parsed_url()?;
        for rule in &self.write_relabel_configs {
            rule.validate(scheme)?;
        }
        for name in self.headers.keys() {
            let lower = name.to_ascii_lowercase();
            if lower == "authorization" {
                return Err(E::AuthorizationHeader);
            }
            if RESERVED_HEADERS.contains(&&*lower) {
                return Err(E::ReservedHeader(name.clone()));
            }
        }
        if let Some(sigv4) = &self.sigv4 {
            sigv4.validate()?;
            let http = &self.http;
            if http.basic_auth.is_some() || http.authorization.is_some() || http.oauth2.is_some() {
                return Err(E::TwoAuthentications);
            }
        }
        self.queue_config.validate()
    }

    /// The URL, parsed.
    pub fn parsed_url(&self) -> Result<Url, RemoteWriteConfigError> {
        let bad = |why: String| RemoteWriteConfigError::BadUrl { url: self.url.clone(), why };
        let url = Url::parse(&self.url).map_err(|e| bad(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("write http:// or https://".to_owned()));
        }
        Ok(url)
    }

    /// Resolves the paths of files against the configuration's directory.
    pub fn resolve_paths(&mut self, dir: &Path) {
        self.http.resolve_paths(dir);
    }

    pub(super) fn timeout(&self) -> Duration {
        millis(self.timeout_ms)
    }
}

impl QueueConfig {
    fn validate(&self) -> Result<(), RemoteWriteConfigError> {
        use RemoteWriteConfigError as E;
        for (key, value) in [
            ("capacity", self.capacity),
            ("max_shards", self.max_shards),
            ("min_shards", self.min_shards),
            ("max_samples_per_send", self.max_samples_per_send),
        ] {
            if value == 0 {
                return Err(E::TooSmall { key, min: 1 });
            }
        }
        if self.min_shards > self.max_shards {
            return Err(E::Shards);
        }
        if self.min_backoff_ms > self.max_backoff_ms {
            return Err(E::Backoff);
        }
        if self.max_disk_bytes > 0 && self.max_disk_bytes < MAX_DISK_BYTES_MIN as u64 {
            return Err(E::TooSmall { key: "max_disk_size (in bytes)", min: MAX_DISK_BYTES_MIN });
        }
        Ok(())
    }
}

pub(super) fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
