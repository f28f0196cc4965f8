//! Sections that Prometheus knows and this program does not serve yet: their keys are
//! checked, so that a typing error is found now, and they are kept for printing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::decode::{from_node, unknown_field};
use super::yaml::{Content, Node, YamlError};
use crate::http::{ClientConfig, config as http};

const REMOTE_READ: &[&str] = &[
    "url",
    "remote_timeout",
    "chunked_read_limit",
    "headers",
    "read_recent",
    "name",
    "required_matchers",
    "filter_external_labels",
];

const TRACING: &[&str] = &[
    "client_type",
    "endpoint",
    "sampling_fraction",
    "insecure",
    "tls_config",
    "headers",
    "compression",
    "timeout",
];

const OTLP: &[&str] = &[
    "promote_all_resource_attributes",
    "promote_resource_attributes",
    "ignore_resource_attributes",
    "translation_strategy",
    "keep_identifying_resource_attributes",
    "convert_histograms_to_nhcb",
    "promote_scope_metadata",
    "label_name_underscore_sanitization",
    "label_name_preserve_multiple_underscores",
];

/// Checks `remote_read`.
pub(super) fn check_remote_read(node: &Node) -> Result<(), YamlError> {
    let mut names = BTreeSet::new();
    for item in node.items("remote_read")? {
        if item.is_null() {
            return Err(YamlError::at(item.line(), "empty or null remote read config section"));
        }
        let (client, own) = item.split(|key| http::FIELDS.contains(&key));
        check_keys(&own, REMOTE_READ)?;
        let mut client: ClientConfig = from_node(&client)?;
        client.normalize().map_err(|e| YamlError::at(item.line(), e.to_string()))?;
        if own.get("url").is_none_or(|node| node.is_null()) {
            return Err(YamlError::at(item.line(), "url for remote_read is empty"));
        }
        let name: String =
            own.get("name").map(|node| from_node(node)).transpose()?.unwrap_or_default();
        if !name.is_empty() && !names.insert(name.clone()) {
            let text = format!("found multiple remote read configs with job name {name:?}");
            return Err(YamlError::at(item.line(), text));
        }
    }
    Ok(())
}

/// Checks the `tracing` section.
pub(super) fn check_tracing(node: &Node) -> Result<(), YamlError> {
    check_keys(node, TRACING)?;
    if node.get("endpoint").is_none_or(|node| node.is_null()) {
        return Err(YamlError::at(node.line(), "tracing endpoint must be set"));
    }
    Ok(())
}

/// Checks the `otlp` section.
pub(super) fn check_otlp(node: &Node) -> Result<(), YamlError> {
    check_keys(node, OTLP)
}

fn check_keys(node: &Node, known: &[&str]) -> Result<(), YamlError> {
    for (key, _) in node.entries("this section")? {
        if !known.contains(&key.name()) {
            return Err(YamlError::at(key.line(), unknown_field(key.name(), known)));
        }
    }
    Ok(())
}

/// Keys whose value is a secret wherever they stand.
const SECRET_KEYS: &[&str] = &[
    "account_key",
    "application_credential_secret",
    "auth_token",
    "bearer_token",
    "client_secret",
    "consumer_key",
    "application_secret",
    "credentials",
    "key",
    "password",
    "secret",
    "secret_key",
    "secrets",
    "service_account_key",
    "token",
];

/// The section for printing, with secrets replaced.
pub(super) fn masked(node: &Node) -> Result<serde_yaml::Value, YamlError> {
    masked_at(node, false)
}

fn masked_at(node: &Node, secret: bool) -> Result<serde_yaml::Value, YamlError> {
    match &node.content {
        Content::Scalar { .. } if secret && !node.is_null() => {
            Ok(serde_yaml::Value::String("<secret>".into()))
        }
        Content::Scalar { .. } => serde_yaml::Value::deserialize(node),
        Content::Sequence(items) => items
            .iter()
            .map(|item| masked_at(item, secret))
            .collect::<Result<Vec<_>, _>>()
            .map(serde_yaml::Value::Sequence),
        Content::Mapping(entries) => {
            let mut out = BTreeMap::new();
            for (key, value) in entries {
                let secret = secret || SECRET_KEYS.contains(&key.name());
                out.insert(key.name().to_owned(), masked_at(value, secret)?);
            }
            Ok(serde_yaml::Value::Mapping(
                out.into_iter().map(|(k, v)| (serde_yaml::Value::String(k), v)).collect(),
            ))
        }
    }
}
