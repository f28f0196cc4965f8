//! `remote_read` and `datasources`: other systems that samples are read from.

use std::collections::BTreeSet;

use super::decode::from_node;
use super::sections::{Notes, client};
use super::yaml::{Node, YamlError};
use crate::http::config as http;
use crate::storage::datasources::{self, Datasource, Datasources};
use crate::storage::remote::{DatasourceConfig, RemoteReadConfig};

/// Reads `remote_read`.
pub(super) fn reads(node: &Node, notes: &mut Notes) -> Vec<RemoteReadConfig> {
    let items = notes.keep(node.items("remote_read").map(<[_]>::to_vec)).unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut reads = Vec::new();
    for item in &items {
        let Some(read) = notes.keep(remote_read(item)) else { continue };
        if !read.name.is_empty() && !names.insert(read.name.clone()) {
            let text = format!("found multiple remote read configs with job name {:?}", read.name);
            notes.problems.push(YamlError::at(item.line(), text));
        }
        reads.push(read);
    }
    reads
}

fn remote_read(node: &Node) -> Result<RemoteReadConfig, YamlError> {
    let failed = |text: String| YamlError::at(node.line(), text);
    if node.is_null() {
        return Err(failed("empty or null remote read config section".to_owned()));
    }
    node.entries("a remote read config")?;
    let (http, own) = node.split(|key| http::FIELDS.contains(&key));
    let mut config: RemoteReadConfig = from_node(&own)?;
    if config.url.is_empty() {
        return Err(failed("url for remote_read is empty".to_owned()));
    }
    config.http = client(&http)?;
    config.validate().map_err(|e| failed(e.to_string()))?;
    Ok(config)
}

/// Reads `datasources`.
pub(super) fn datasources(node: &Node, notes: &mut Notes) -> Datasources {
    let mut all = Datasources::new();
    let entries = notes.keep(node.entries("datasources").map(<[_]>::to_vec)).unwrap_or_default();
    for (key, value) in &entries {
        let Some(datasource) = notes.keep(datasource(value)) else { continue };
        all.insert(key.name().to_owned(), datasource);
    }
    if notes.problems.is_empty() {
        let checked = datasources::validate(&all);
        notes.keep(checked.map_err(|e| YamlError::at(node.line(), e.to_string())));
    }
    all
}

fn datasource(node: &Node) -> Result<Datasource, YamlError> {
    node.entries("a datasource")?;
    if node.get("shards").is_some() {
        return Ok(Datasource::Shards(from_node(node)?));
    }
    if node.get("routes").is_some() {
        return Ok(Datasource::Routes(from_node(node)?));
    }
    let (http, own) = node.split(|key| http::FIELDS.contains(&key));
    let mut config: DatasourceConfig = from_node(&own)?;
    config.http = client(&http)?;
    Ok(Datasource::Server(Box::new(config)))
}
