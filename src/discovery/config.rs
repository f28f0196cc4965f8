//! The discovery sections of a scrape job or a set of Alertmanagers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use crate::http::{ClientConfig, ClientConfigError};
use crate::model::duration::as_text;
use crate::model::labels::quote;
use crate::model::regex::AnchoredRegex;

/// What is discovered while the program runs; lists of one kind run beside each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DiscoveryConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_sd_configs: Vec<DnsConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub file_sd_configs: Vec<FileConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http_sd_configs: Vec<HttpConfig>,
    /// Kinds that are not served yet, as written and with secrets hidden.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_yaml::Value>,
}

/// `file_sd_configs`: target groups in files that others write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// Paths; the last part may be a pattern.
    pub files: Vec<String>,
    /// How often files are read even if nobody reports a change.
    #[serde(rename = "refresh_interval", with = "as_text")]
    pub refresh_interval_ms: i64,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self { files: Vec::new(), refresh_interval_ms: 5 * 60_000 }
    }
}

/// `dns_sd_configs`: targets in DNS records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    pub names: Vec<String>,
    #[serde(rename = "refresh_interval", with = "as_text")]
    pub refresh_interval_ms: i64,
    /// `SRV`, `A`, `AAAA`, `MX` or `NS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Port of the targets; SRV records have their own.
    #[serde(skip_serializing_if = "is_zero")]
    pub port: u16,
}

fn is_zero(port: &u16) -> bool {
    *port == 0
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { names: Vec::new(), refresh_interval_ms: 30_000, kind: "SRV".into(), port: 0 }
    }
}

/// `http_sd_configs`: target groups that an HTTP server gives as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The HTTP client options, which stand inline.
    #[serde(flatten, skip_deserializing)]
    pub http: ClientConfig,
    #[serde(rename = "refresh_interval", with = "as_text")]
    pub refresh_interval_ms: i64,
    pub url: String,
}

impl Default for HttpConfig {
    fn default() -> Self {
        let http = ClientConfig::default();
        Self { http, refresh_interval_ms: 60_000, url: String::new() }
    }
}

/// Why a section was refused; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DiscoveryConfigError {
    #[error("file service discovery config must contain at least one path name")]
    NoFiles,
    #[error("path name {} is not valid for file discovery", quote(.0))]
    Path(String),
    #[error("DNS-SD config must contain at least one SRV record name")]
    NoNames,
    #[error("a port is required in DNS-SD configs for all record types except SRV")]
    NoPort,
    #[error("invalid DNS-SD records type {0}")]
    RecordType(String),
    #[error("URL is missing")]
    NoUrl,
    #[error("URL scheme must be 'http' or 'https'")]
    UrlScheme,
    #[error("host is missing in URL")]
    UrlHost,
    #[error("parse {}: {cause}", quote(url))]
    Url { url: String, cause: String },
    #[error("refresh_interval must be longer than 0s")]
    Interval,
    #[error(transparent)]
    Http(#[from] ClientConfigError),
}

/// A pattern may stand in the last part of a path only.
static FILE_NAME: LazyLock<AnchoredRegex> = LazyLock::new(|| {
    AnchoredRegex::new(r"[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)")
        .expect("BUG: a fixed expression compiles")
});

fn is_positive(interval_ms: i64) -> Result<(), DiscoveryConfigError> {
    if interval_ms > 0 { Ok(()) } else { Err(DiscoveryConfigError::Interval) }
}

impl FileConfig {
    /// Checks the section.
    pub fn validate(&self) -> Result<(), DiscoveryConfigError> {
        if self.files.is_empty() {
            return Err(DiscoveryConfigError::NoFiles);
        }
        match self.files.iter().find(|file| !FILE_NAME.is_match(file)) {
            Some(file) => Err(DiscoveryConfigError::Path(file.clone())),
            None => is_positive(self.refresh_interval_ms),
        }
    }
}

impl DnsConfig {
    /// Checks the section; the type's letters become large.
    pub fn normalize(&mut self) -> Result<(), DiscoveryConfigError> {
        if self.names.is_empty() {
            return Err(DiscoveryConfigError::NoNames);
        }
        let kind = self.kind.to_ascii_uppercase();
        match kind.as_str() {
            "SRV" => {}
            "A" | "AAAA" | "MX" | "NS" if self.port == 0 => {
                return Err(DiscoveryConfigError::NoPort);
            }
            "A" | "AAAA" | "MX" | "NS" => {}
            _ => return Err(DiscoveryConfigError::RecordType(self.kind.clone())),
        }
        self.kind = kind;
        is_positive(self.refresh_interval_ms)
    }
}

impl HttpConfig {
    /// Checks the section; `http` has been normalized before.
    pub fn validate(&self) -> Result<(), DiscoveryConfigError> {
        self.parsed_url()?;
        is_positive(self.refresh_interval_ms)
    }

    /// The URL.
    pub(super) fn parsed_url(&self) -> Result<Url, DiscoveryConfigError> {
        if self.url.is_empty() {
            return Err(DiscoveryConfigError::NoUrl);
        }
        match Url::parse(&self.url) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                Err(DiscoveryConfigError::UrlScheme)
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => {
                Err(DiscoveryConfigError::UrlHost)
            }
            Ok(url) => Ok(url),
            Err(url::ParseError::RelativeUrlWithoutBase) => Err(DiscoveryConfigError::UrlScheme),
            Err(url::ParseError::EmptyHost) => Err(DiscoveryConfigError::UrlHost),
            Err(e) => {
                Err(DiscoveryConfigError::Url { url: self.url.clone(), cause: e.to_string() })
            }
        }
    }
}

impl DiscoveryConfig {
    /// True when nothing is discovered while the program runs.
    pub fn is_static(&self) -> bool {
        self.dns_sd_configs.is_empty()
            && self.file_sd_configs.is_empty()
            && self.http_sd_configs.is_empty()
    }

    /// Resolves relative file names against the configuration's directory.
    pub fn resolve_paths(&mut self, dir: &Path) {
        for file in self.file_sd_configs.iter_mut().flat_map(|c| &mut c.files) {
            if Path::new(file).is_relative() {
                *file = dir.join(&*file).display().to_string();
            }
        }
        for config in &mut self.http_sd_configs {
            config.http.resolve_paths(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T>(result: Result<T, DiscoveryConfigError>) -> Result<(), String> {
        result.map(|_| ()).map_err(|e| e.to_string())
    }

    #[test]
    fn sections_are_checked_as_prometheus_does() {
        let file = |files: &[&str]| {
            let files = files.iter().map(|f| (*f).to_owned()).collect();
            text(FileConfig { files, ..FileConfig::default() }.validate())
        };
        for good in ["a.json", "d/*.yml", "d/x*y.YAML", "*.json"] {
            assert_eq!(file(&[good]), Ok(()), "{good}");
        }
        for bad in ["a.txt", "*/a.json", "d/*/b.yml", "json"] {
            let expected = format!("path name \"{bad}\" is not valid for file discovery");
            assert_eq!(file(&["a.json", bad]), Err(expected));
        }
        assert_eq!(file(&[]), text::<()>(Err(DiscoveryConfigError::NoFiles)));

        let dns = |kind: &str, port| {
            let (kind, names) = (kind.to_owned(), vec!["n".to_owned()]);
            text(DnsConfig { names, kind, port, ..DnsConfig::default() }.normalize())
        };
        assert_eq!((dns("srv", 0), dns("a", 80), dns("NS", 1)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(dns("A", 0), text::<()>(Err(DiscoveryConfigError::NoPort)));
        assert_eq!(dns("txt", 1), Err("invalid DNS-SD records type txt".to_owned()));

        let http = |url: &str| {
            text(HttpConfig { url: url.to_owned(), ..HttpConfig::default() }.validate())
        };
        for (url, expected) in [
            ("http://h/x", Ok(())),
            ("", Err("URL is missing")),
            ("ftp://h", Err("URL scheme must be 'http' or 'https'")),
            ("h/x", Err("URL scheme must be 'http' or 'https'")),
            ("http://", Err("host is missing in URL")),
        ] {
            assert_eq!(http(url), expected.map_err(str::to_owned), "{url}");
        }
    }
}
