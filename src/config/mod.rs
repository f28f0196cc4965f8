//! The service's configuration file, in Prometheus' format. Reading is strict: what
//! Prometheus refuses is refused, with file and line; what it accepts is accepted, and
//! what this program does not serve yet is named in a warning. The structs live in the
//! rooms they configure; this room composes them.

mod check;
mod decode;
mod env;
mod global;
mod sections;
mod unserved;
pub mod web;
mod yaml;

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::http::ClientConfig;
use crate::http::config::join;
use crate::notifier::AlertingConfig;
use crate::remote_write::send::RemoteWriteConfig;
use crate::scrape::ScrapeConfig;

pub use check::{CheckProblem, check_references};
pub use global::{
    ChunkEncoding, ExemplarsConfig, GlobalConfig, RetentionConfig, RuntimeConfig, StorageConfig,
    TsdbConfig,
};
pub use yaml::YamlError;

/// A whole configuration, with defaults filled in and relative paths resolved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    pub global: GlobalConfig,
    pub runtime: RuntimeConfig,
    #[serde(skip_serializing_if = "is_empty_alerting")]
    pub alerting: AlertingConfig,
    /// Patterns as written, resolved against the configuration's directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rule_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrape_config_files: Vec<String>,
    /// Those of the file itself, in its order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Those of `scrape_config_files`; empty after `parse`, filled by `load`.
    #[serde(skip)]
    pub included_scrape_configs: Vec<ScrapeConfig>,
    pub storage: StorageConfig,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_write: Vec<RemoteWriteConfig>,
    /// Sections that are not served yet, as written and with secrets hidden.
    #[serde(flatten)]
    pub unserved: std::collections::BTreeMap<String, serde_yaml::Value>,
}

fn is_empty_alerting(alerting: &AlertingConfig) -> bool {
    *alerting == AlertingConfig::default()
}

/// A configuration and what its reader should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    /// One line each, naming the section or key: accepted but not served, or suspicious.
    pub warnings: Vec<String>,
}

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("cannot read {}: {cause}", file.display())]
    Read { file: PathBuf, cause: String },
    #[error("parsing YAML file {file}: {}", joined(.problems))]
    Invalid {
        /// As given, or `configuration` for a text without a file.
        file: String,
        /// At least one, in file order.
        problems: Vec<YamlError>,
    },
    #[error("error retrieving {what} for {}: {cause}", crate::model::labels::quote(pattern))]
    Pattern { what: &'static str, pattern: String, cause: String },
}

fn joined(problems: &[YamlError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Default for Config {
    /// What an empty file means.
    fn default() -> Self {
        parse("", Path::new("")).expect("BUG: an empty configuration is valid").config
    }
}

/// Reads and checks a file and the scrape configuration files it names.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = read(path)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let name = path.display().to_string();
    let mut loaded = parse_named(&text, dir, &name)?;
    sections::include_scrape_configs(&mut loaded)?;
    Ok(loaded)
}

/// Checks a text; relative paths are resolved against `base_dir`.
pub fn parse(text: &str, base_dir: &Path) -> Result<Loaded, ConfigError> {
    parse_named(text, base_dir, "configuration")
}

fn parse_named(text: &str, dir: &Path, name: &str) -> Result<Loaded, ConfigError> {
    let lookup = |variable: &str| std::env::var(variable).ok();
    let mut loaded = sections::read(text, &lookup)
        .map_err(|problems| ConfigError::Invalid { file: name.to_owned(), problems })?;
    loaded.config.resolve_paths(dir);
    Ok(loaded)
}

/// Reads options of an HTTP client from a file of their own (`--http.config.file`);
/// relative paths are resolved against the file's directory.
pub fn read_http_client(path: &Path) -> Result<ClientConfig, ConfigError> {
    let text = read(path)?;
    let invalid = |problem| ConfigError::Invalid {
        file: path.display().to_string(),
        problems: vec![problem],
    };
    let root = yaml::parse(&text).map_err(invalid)?.root;
    let mut config = sections::client(&root).map_err(invalid)?;
    config.resolve_paths(path.parent().unwrap_or(Path::new("")));
    Ok(config)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|e| ConfigError::Read { file: path.to_owned(), cause: e.to_string() })
}

impl Config {
    /// Every scrape configuration, those of included files last.
    pub fn all_scrape_configs(&self) -> impl Iterator<Item = &ScrapeConfig> {
        self.scrape_configs.iter().chain(&self.included_scrape_configs)
    }

    /// The files the `rule_files` patterns match now, sorted within each pattern.
    pub fn rule_paths(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let mut paths = Vec::new();
        for pattern in &self.rule_files {
            paths.extend(matching("rule files", pattern)?);
        }
        Ok(paths)
    }

    /// The configuration as YAML with all defaults, secrets as `<secret>`: what
    /// `/api/v1/status/config` shows.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("BUG: a configuration can always be printed")
    }

    fn resolve_paths(&mut self, dir: &Path) {
        join(dir, &mut self.global.query_log_file);
        join(dir, &mut self.global.scrape_failure_log_file);
        self.rule_files.iter_mut().for_each(|pattern| join(dir, pattern));
        self.scrape_config_files.iter_mut().for_each(|pattern| join(dir, pattern));
        self.scrape_configs.iter_mut().for_each(|scrape| scrape.resolve_paths(dir));
        self.alerting.alertmanagers.iter_mut().for_each(|set| set.resolve_paths(dir));
        self.remote_write.iter_mut().for_each(|target| target.resolve_paths(dir));
    }
}

/// The files a pattern matches, sorted.
fn matching(what: &'static str, pattern: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |cause: String| ConfigError::Pattern { what, pattern: pattern.into(), cause };
    let paths = glob::glob(pattern).map_err(|e| failed(e.to_string()))?;
    paths.collect::<Result<_, _>>().map_err(|e| failed(e.to_string()))
}
