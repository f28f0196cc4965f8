//! One entry of `scrape_configs`, and the global settings it inherits.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::discovery::{DiscoveryConfig, StaticConfig};
use crate::http::ClientConfig;
use crate::http::config::join;
use crate::model::duration::as_text;
use crate::model::labels::quote;
pub use crate::model::size;
use crate::relabel::{NameScheme, RelabelConfig, RelabelError};

/// A format a target may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScrapeProtocol {
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0_0_1,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText1_0_0,
    PrometheusProto,
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText0_0_4,
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1_0_0,
}

impl ScrapeProtocol {
    const ALL: [Self; 5] = [
        Self::OpenMetricsText0_0_1,
        Self::OpenMetricsText1_0_0,
        Self::PrometheusProto,
        Self::PrometheusText0_0_4,
        Self::PrometheusText1_0_0,
    ];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Self::PrometheusProto => "PrometheusProto",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
        }
    }

    /// What an `Accept` header calls it.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Self::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Self::PrometheusText1_0_0 => "text/plain;version=1.0.0",
        }
    }
}

/// Protocols offered unless the configuration lists some, most wanted first.
pub const DEFAULT_PROTOCOLS: [ScrapeProtocol; 4] = [
    ScrapeProtocol::OpenMetricsText1_0_0,
    ScrapeProtocol::OpenMetricsText0_0_1,
    ScrapeProtocol::PrometheusText1_0_0,
    ScrapeProtocol::PrometheusText0_0_4,
];

/// A list of protocols as written: names are checked by `protocols`, with Prometheus' texts.
type ProtocolNames = Vec<String>;

/// How names outside the legacy alphabet are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Escaping {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    /// The word in the configuration and in the `Accept` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values]
            .into_iter()
            .find(|e| e.as_str() == text)
    }
}

/// Limits a scrape must keep; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub body_bytes: u64,
    pub samples: u64,
    pub labels: u64,
    pub label_name_bytes: u64,
    pub label_value_bytes: u64,
}

/// What scrape configurations inherit from the `global` section.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeDefaults {
    pub scrape_interval_ms: i64,
    pub scrape_timeout_ms: i64,
    pub scrape_protocols: Option<Vec<String>>,
    pub limits: Limits,
    pub target_limit: u64,
    pub keep_dropped_targets: u64,
    pub scrape_failure_log_file: String,
    pub name_validation: NameScheme,
    pub name_escaping: String,
    pub scrape_native_histograms: bool,
    pub convert_classic_histograms_to_nhcb: bool,
    pub always_scrape_classic_histograms: bool,
    pub extra_scrape_metrics: bool,
}

/// One scrape configuration. Fields that `resolve` fills from the globals are zero,
/// empty or `None` before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeConfig {
    pub job_name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Vec<String>>,
    #[serde(rename = "scrape_interval", with = "as_text")]
    pub scrape_interval_ms: i64,
    #[serde(rename = "scrape_timeout", with = "as_text")]
    pub scrape_timeout_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scrape_protocols: Option<ProtocolNames>,
    #[serde(skip_serializing_if = "String::is_empty")]
    fallback_scrape_protocol: String,
    pub scrape_native_histograms: Option<bool>,
    pub always_scrape_classic_histograms: Option<bool>,
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scrape_failure_log_file: String,
    pub metrics_path: String,
    pub scheme: String,
    pub enable_compression: bool,
    #[serde(with = "size", skip_serializing_if = "is_zero")]
    pub body_size_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub sample_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub target_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub label_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub label_name_length_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub label_value_length_limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub native_histogram_bucket_limit: u64,
    #[serde(skip_serializing_if = "is_zero_float")]
    pub native_histogram_min_bucket_factor: f64,
    #[serde(skip_serializing_if = "is_zero")]
    pub keep_dropped_targets: u64,
    metric_name_validation_scheme: String,
    metric_name_escaping_scheme: String,
    pub extra_scrape_metrics: Option<bool>,
    /// The HTTP client options, which stand inline.
    #[serde(flatten, skip_deserializing)]
    pub http: ClientConfig,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relabel_configs: Vec<RelabelConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metric_relabel_configs: Vec<RelabelConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub static_configs: Vec<StaticConfig>,
    /// The other kinds of discovery, which stand inline.
    #[serde(flatten, skip_deserializing)]
    pub discovery: DiscoveryConfig,
    /// What `resolve` made of the names above.
    #[serde(skip)]
    resolved: Resolved,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Resolved {
    protocols: Vec<ScrapeProtocol>,
    fallback: Option<ScrapeProtocol>,
    validation: NameScheme,
    escaping: Option<Escaping>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_zero_float(n: &f64) -> bool {
    *n == 0.0
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            job_name: String::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            params: BTreeMap::new(),
            scrape_interval_ms: 0,
            scrape_timeout_ms: 0,
            scrape_protocols: None,
            fallback_scrape_protocol: String::new(),
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            scrape_failure_log_file: String::new(),
            metrics_path: "/metrics".into(),
            scheme: "http".into(),
            enable_compression: true,
            body_size_limit: 0,
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            native_histogram_bucket_limit: 0,
            native_histogram_min_bucket_factor: 0.0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: String::new(),
            metric_name_escaping_scheme: String::new(),
            extra_scrape_metrics: None,
            http: ClientConfig::default(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            static_configs: Vec::new(),
            discovery: DiscoveryConfig::default(),
            resolved: Resolved::default(),
        }
    }
}

/// Why a scrape configuration was refused; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScrapeConfigError {
    #[error("scrape timeout greater than scrape interval for scrape config with job name {}", quote(.0))]
    TimeoutAboveInterval(String),
    #[error("{cause} for scrape config with job name {}", quote(job))]
    Protocols { cause: ProtocolsError, job: String },
    #[error(
        "invalid fallback_scrape_protocol for scrape config with job name {}: {cause}",
        quote(job)
    )]
    Fallback { cause: ProtocolsError, job: String },
    #[error(
        "unknown scrape config name validation method specified, must be either '', 'legacy' or \
         'utf8', got {0}"
    )]
    Validation(String),
    #[error(
        "unknown {which} name escaping method specified, must be one of 'allow-utf-8', \
         'underscores', 'dots', or 'values', got {}",
        quote(got)
    )]
    Escaping { which: &'static str, got: String },
    #[error("utf8 metric names requested but validation scheme is not set to UTF8")]
    Utf8WithLegacy,
    #[error(transparent)]
    Relabel(#[from] RelabelError),
}

/// What is wrong with a list of protocols.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolsError {
    #[error("scrape_protocols cannot be empty")]
    Empty,
    #[error("duplicated protocol in scrape_protocols, got [{}]", .0.join(" "))]
    Duplicate(Vec<String>),
    #[error("scrape_protocols: {}", unknown(.0))]
    Listed(String),
    #[error("{}", unknown(.0))]
    Unknown(String),
}

fn unknown(name: &str) -> String {
    let known: Vec<&str> = ScrapeProtocol::ALL.iter().map(|p| p.as_str()).collect();
    format!("unknown scrape protocol {name}, supported: [{}]", known.join(" "))
}

/// Checks a list of protocol names.
pub fn protocols(names: &[String]) -> Result<Vec<ScrapeProtocol>, ProtocolsError> {
    if names.is_empty() {
        return Err(ProtocolsError::Empty);
    }
    let mut found = Vec::new();
    for (i, name) in names.iter().enumerate() {
        if names[..i].iter().any(|n| n.eq_ignore_ascii_case(name)) {
            return Err(ProtocolsError::Duplicate(names.to_vec()));
        }
        let protocol = ScrapeProtocol::ALL.into_iter().find(|p| p.as_str() == name);
        found.push(protocol.ok_or_else(|| ProtocolsError::Listed(name.clone()))?);
    }
    Ok(found)
}

impl ScrapeConfig {
    /// Fills what is unset from the globals and checks the result.
    pub fn resolve(&mut self, globals: &ScrapeDefaults) -> Result<(), ScrapeConfigError> {
        inherit(&mut self.scrape_interval_ms, globals.scrape_interval_ms);
        if self.scrape_timeout_ms > self.scrape_interval_ms {
            return Err(ScrapeConfigError::TimeoutAboveInterval(self.job_name.clone()));
        }
        inherit(
            &mut self.scrape_timeout_ms,
            globals.scrape_timeout_ms.min(self.scrape_interval_ms),
        );
        inherit(&mut self.body_size_limit, globals.limits.body_bytes);
        inherit(&mut self.sample_limit, globals.limits.samples);
        inherit(&mut self.label_limit, globals.limits.labels);
        inherit(&mut self.label_name_length_limit, globals.limits.label_name_bytes);
        inherit(&mut self.label_value_length_limit, globals.limits.label_value_bytes);
        inherit(&mut self.target_limit, globals.target_limit);
        inherit(&mut self.keep_dropped_targets, globals.keep_dropped_targets);
        inherit(&mut self.scrape_failure_log_file, globals.scrape_failure_log_file.clone());
        self.scrape_native_histograms.get_or_insert(globals.scrape_native_histograms);
        self.extra_scrape_metrics.get_or_insert(globals.extra_scrape_metrics);
        self.convert_classic_histograms_to_nhcb
            .get_or_insert(globals.convert_classic_histograms_to_nhcb);
        self.always_scrape_classic_histograms
            .get_or_insert(globals.always_scrape_classic_histograms);
        self.resolve_protocols(globals)?;
        self.resolve_names(globals)?;
        for rule in self.relabel_configs.iter().chain(&self.metric_relabel_configs) {
            rule.validate(self.resolved.validation)?;
        }
        Ok(())
    }

    fn resolve_protocols(&mut self, globals: &ScrapeDefaults) -> Result<(), ScrapeConfigError> {
        let native = self.scrape_native_histograms == Some(true);
        let defaults = || {
            let proto = native.then_some(ScrapeProtocol::PrometheusProto);
            proto.into_iter().chain(DEFAULT_PROTOCOLS).map(|p| p.as_str().to_owned()).collect()
        };
        let names: &ProtocolNames = self
            .scrape_protocols
            .get_or_insert_with(|| globals.scrape_protocols.clone().unwrap_or_else(defaults));
        self.resolved.protocols = protocols(names)
            .map_err(|cause| ScrapeConfigError::Protocols { cause, job: self.job_name.clone() })?;
        if !self.fallback_scrape_protocol.is_empty() {
            let name = &self.fallback_scrape_protocol;
            let found = ScrapeProtocol::ALL.into_iter().find(|p| p.as_str() == name);
            self.resolved.fallback = Some(found.ok_or_else(|| ScrapeConfigError::Fallback {
                cause: ProtocolsError::Unknown(name.clone()),
                job: self.job_name.clone(),
            })?);
        }
        Ok(())
    }

    fn resolve_names(&mut self, globals: &ScrapeDefaults) -> Result<(), ScrapeConfigError> {
        let own = match self.metric_name_validation_scheme.as_str() {
            "" => None,
            "utf8" => Some(NameScheme::Utf8),
            "legacy" => Some(NameScheme::Legacy),
            other => return Err(ScrapeConfigError::Validation(other.to_owned())),
        };
        let by_scheme = |scheme| match scheme {
            NameScheme::Utf8 => Escaping::AllowUtf8,
            NameScheme::Legacy => Escaping::Underscores,
        };
        let parse = |which, text: &str| {
            Escaping::parse(text)
                .ok_or_else(|| ScrapeConfigError::Escaping { which, got: text.to_owned() })
        };
        let global = match globals.name_escaping.as_str() {
            "" => by_scheme(globals.name_validation),
            text => parse("global", text)?,
        };
        let validation = own.unwrap_or(globals.name_validation);
        let escaping = match (self.metric_name_escaping_scheme.as_str(), own) {
            ("", None) => global,
            ("", Some(scheme)) => by_scheme(scheme),
            (text, _) => parse("scrape config", text)?,
        };
        if escaping == Escaping::AllowUtf8 && validation == NameScheme::Legacy {
            return Err(ScrapeConfigError::Utf8WithLegacy);
        }
        let word = if validation == NameScheme::Utf8 { "utf8" } else { "legacy" };
        self.metric_name_validation_scheme = word.to_owned();
        self.metric_name_escaping_scheme = escaping.as_str().to_owned();
        self.resolved.validation = validation;
        self.resolved.escaping = Some(escaping);
        Ok(())
    }

    /// Resolves relative file names against the configuration's directory.
    pub fn resolve_paths(&mut self, dir: &Path) {
        self.http.resolve_paths(dir);
        self.discovery.resolve_paths(dir);
        join(dir, &mut self.scrape_failure_log_file);
    }

    /// The formats to ask for, most wanted first. Set by `resolve`.
    pub fn protocols(&self) -> &[ScrapeProtocol] {
        &self.resolved.protocols
    }

    /// How to read a body whose content type says nothing useful. Set by `resolve`.
    pub fn fallback_protocol(&self) -> Option<ScrapeProtocol> {
        self.resolved.fallback
    }

    /// Which names are allowed. Set by `resolve`.
    pub fn name_validation(&self) -> NameScheme {
        self.resolved.validation
    }

    /// How names are to be escaped by the target. Set by `resolve`.
    pub fn name_escaping(&self) -> Escaping {
        self.resolved.escaping.unwrap_or(Escaping::AllowUtf8)
    }

    /// The limits of one scrape.
    pub fn limits(&self) -> Limits {
        Limits {
            body_bytes: self.body_size_limit,
            samples: self.sample_limit,
            labels: self.label_limit,
            label_name_bytes: self.label_name_length_limit,
            label_value_bytes: self.label_value_length_limit,
        }
    }
}

/// Takes the inherited value where the own one is the type's zero.
fn inherit<T: Default + PartialEq>(own: &mut T, inherited: T) {
    if *own == T::default() {
        *own = inherited;
    }
}
