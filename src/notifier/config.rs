//! The `alerting` section: which Alertmanagers there are and how alerts are relabelled
//! on their way.

use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::discovery::static_::ADDRESS;
use crate::discovery::{DiscoveryConfig, StaticConfig, TargetGroup};
use crate::http::{ClientConfig, SigV4Config, SigV4ConfigError};
use crate::model::LabelsBuilder;
use crate::model::duration::as_text;
use crate::model::labels::quote;
use crate::relabel::{NameScheme, RelabelConfig, RelabelError, Verdict, apply};

/// The `alerting` section.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AlertingConfig {
    /// Applied to every alert after the external labels were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alert_relabel_configs: Vec<RelabelConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

/// One set of Alertmanagers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertmanagerConfig {
    pub scheme: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path_prefix: String,
    #[serde(rename = "timeout", with = "as_text")]
    pub timeout_ms: i64,
    /// Always `v2`.
    pub api_version: String,
    /// The HTTP client options, which stand inline.
    #[serde(flatten, skip_deserializing)]
    pub http: ClientConfig,
    /// Requests are signed for AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<SigV4Config>,
    /// Applied to the targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relabel_configs: Vec<RelabelConfig>,
    /// Applied to the alerts of this set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alert_relabel_configs: Vec<RelabelConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub static_configs: Vec<StaticConfig>,
    /// The other kinds of discovery, which stand inline.
    #[serde(flatten, skip_deserializing)]
    pub discovery: DiscoveryConfig,
}

impl Default for AlertmanagerConfig {
    fn default() -> Self {
        Self {
            scheme: "http".into(),
            path_prefix: String::new(),
            timeout_ms: 10_000,
            api_version: "v2".into(),
            http: ClientConfig::default(),
            sigv4: None,
            relabel_configs: Vec::new(),
            alert_relabel_configs: Vec::new(),
            static_configs: Vec::new(),
            discovery: DiscoveryConfig::default(),
        }
    }
}

/// Why the section was refused; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AlertingConfigError {
    #[error("expected Alertmanager api version to be one of [v2] but got {0}")]
    ApiVersion(String),
    #[error("at most one of basic_auth, authorization, oauth2, & sigv4 must be configured")]
    Sigv4BesideAuth,
    #[error("{} is not a valid hostname", quote(.0))]
    Address(String),
    #[error(transparent)]
    Sigv4(#[from] SigV4ConfigError),
    #[error(transparent)]
    Relabel(#[from] RelabelError),
}

/// The Alertmanagers of a set after relabelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertmanagerTargets {
    /// URLs to post alerts to, each once, in configuration order.
    pub active: Vec<String>,
    /// URLs that relabelling dropped.
    pub dropped: Vec<String>,
}

/// Label that carries the path alerts are posted to during relabelling.
const ALERTS_PATH: &str = "__alerts_path__";
const SCHEME: &str = "__scheme__";

impl AlertmanagerConfig {
    /// Checks the set; `http` has been normalized before.
    pub fn validate(&self, scheme: NameScheme) -> Result<(), AlertingConfigError> {
        if self.api_version != "v2" {
            return Err(AlertingConfigError::ApiVersion(self.api_version.clone()));
        }
        let http = &self.http;
        let auth = http.basic_auth.is_some() || http.authorization.is_some();
        if self.sigv4.is_some() && (auth || http.oauth2.is_some()) {
            return Err(AlertingConfigError::Sigv4BesideAuth);
        }
        if let Some(sigv4) = &self.sigv4 {
            sigv4.validate()?;
        }
        for rule in self.alert_relabel_configs.iter().chain(&self.relabel_configs) {
            rule.validate(scheme)?;
        }
        Ok(())
    }

    /// The listed Alertmanagers and those that were discovered. Scheme, address and path
    /// may be relabelled.
    pub fn targets(
        &self,
        discovered: &[TargetGroup],
    ) -> Result<AlertmanagerTargets, AlertingConfigError> {
        let mut targets = AlertmanagerTargets::default();
        let prefix = self.path_prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        let path = format!("/{prefix}{slash}api/v2/alerts");
        let listed = self.static_configs.iter().flat_map(StaticConfig::label_sets);
        let discovered = discovered.iter().flat_map(TargetGroup::label_sets);
        for labels in listed.chain(discovered) {
            let mut builder = labels.builder();
            for (name, value) in [(SCHEME, &self.scheme), (ALERTS_PATH, &path)] {
                if !builder.contains(name) {
                    builder.set(name, value);
                }
            }
            let url = |labels: &LabelsBuilder| {
                let (scheme, address) = (labels.get(SCHEME), labels.get(ADDRESS));
                format!("{scheme}://{address}{}", labels.get(ALERTS_PATH))
            };
            let before = url(&builder);
            if apply(&self.relabel_configs, &mut builder) == Verdict::Drop {
                targets.dropped.push(before);
                continue;
            }
            if builder.get(ADDRESS).contains('/') {
                return Err(AlertingConfigError::Address(builder.get(ADDRESS).to_owned()));
            }
            let url = url(&builder);
            if !targets.active.contains(&url) {
                targets.active.push(url);
            }
        }
        Ok(targets)
    }

    /// Resolves relative file names against the configuration's directory.
    pub fn resolve_paths(&mut self, dir: &Path) {
        self.http.resolve_paths(dir);
        self.discovery.resolve_paths(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_relabelled_and_listed_once() {
        let yaml = "
path_prefix: /am/
static_configs: [{targets: ['a:9093', 'b:9093', 'a:9093']}, {targets: ['c:1'], labels: {__scheme__: https}}]
relabel_configs: [{source_labels: [__address__], regex: 'b:.*', action: drop}]
";
        let config: AlertmanagerConfig = serde_yaml::from_str(yaml).unwrap();
        let targets = config.targets(&[]).unwrap();
        assert_eq!(
            targets.active,
            ["http://a:9093/am/api/v2/alerts", "https://c:1/am/api/v2/alerts"]
        );
        assert_eq!(targets.dropped, ["http://b:9093/am/api/v2/alerts"]);
    }
}
