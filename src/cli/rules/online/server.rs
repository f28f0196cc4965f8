//! What a server tells of itself: configuration, retention, version, targets, rules, metrics.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value as Json;

use super::asker::Asker;
use crate::cli::client::ServerConfig;
use crate::lint::online::{Observed, Wants};
use crate::model::duration::parse_duration;
use crate::parser::{self, ParserOptions};

/// Names of metrics that are fetched for suggestions.
const NAMES_MAX: usize = 100_000;

/// Asks for what is wanted. What cannot be had is noted as a gap.
pub(super) async fn ask(asker: &Asker<'_>, wants: Wants, observed: &mut Observed) {
    if wants.metrics {
        observed.types = or_gap(types(asker).await, "the types of metrics", observed);
        observed.names = names(asker).await.unwrap_or_default();
    }
    if wants.configuration {
        let read = configuration(asker).await;
        let read: Option<ServerConfig> = or_gap(read.map(Some), "its configuration", observed);
        if let Some(ServerConfig { global }) = read {
            let ms = |text: Option<String>| text.and_then(|text| parse_duration(&text).ok());
            observed.scrape_interval_ms = ms(global.scrape_interval);
            observed.evaluation_interval_ms = ms(global.evaluation_interval);
            observed.external_labels = Some(global.external_labels);
        }
        observed.version = version(asker).await;
    }
    if wants.retention {
        observed.retention_ms =
            or_gap(retention(asker).await, "how long it keeps samples", observed);
    }
    if wants.targets {
        observed.target_labels = or_gap(targets(asker).await, "its targets", observed);
    }
    if wants.rules {
        observed.recorded = or_gap(recorded(asker).await, "its rules", observed);
    }
}

fn or_gap<T: Default>(answer: Result<T, String>, what: &str, observed: &mut Observed) -> T {
    answer.unwrap_or_else(|error| {
        observed.gaps.push((what.to_owned(), error));
        T::default()
    })
}

async fn configuration(asker: &Asker<'_>) -> Result<ServerConfig, String> {
    ServerConfig::of(&asker.get("api/v1/status/config", &[]).await?)
}

async fn version(asker: &Asker<'_>) -> Option<String> {
    let data = asker.get("api/v1/status/buildinfo", &[]).await.ok()?;
    data["version"].as_str().map(str::to_owned)
}

/// What is in effect stands in the runtime's information, as `15d` or `15d or 10GiB`; what a
/// flag says is asked of servers that do not tell.
async fn retention(asker: &Asker<'_>) -> Result<Option<i64>, String> {
    let runtime = asker.get("api/v1/status/runtimeinfo", &[]).await;
    let told = runtime.as_ref().ok().and_then(|data| data["storageRetention"].as_str());
    if let Some(told) = told {
        let times = told.split(" or ").filter_map(|part| parse_duration(part).ok());
        return Ok(times.filter(|ms| *ms > 0).min());
    }
    let flags = asker.get("api/v1/status/flags", &[]).await?;
    let flag = flags["storage.tsdb.retention.time"].as_str().and_then(|t| parse_duration(t).ok());
    Ok(flag.filter(|ms| *ms > 0))
}

async fn targets(asker: &Asker<'_>) -> Result<BTreeSet<String>, String> {
    let data = asker.get("api/v1/targets", &[("state", "active".to_owned())]).await?;
    let targets = data["activeTargets"].as_array().into_iter().flatten();
    let labels = targets.filter_map(|target| target["labels"].as_object());
    Ok(labels.flat_map(|labels| labels.keys().cloned()).collect())
}

/// Recording rules without labels of their own, by their expression.
async fn recorded(asker: &Asker<'_>) -> Result<HashMap<String, String>, String> {
    let data = asker.get("api/v1/rules", &[("type", "record".to_owned())]).await?;
    let groups = data["groups"].as_array().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
    let own = rules.filter(|rule| rule["labels"].as_object().is_none_or(serde_json::Map::is_empty));
    Ok(own
        .filter_map(|rule| {
            let (name, query) = (rule["name"].as_str()?, rule["query"].as_str()?);
            let expr = parser::parse(query, &ParserOptions::all()).ok()?;
            Some((expr.unparenthesised().to_string(), name.to_owned()))
        })
        .collect())
}

async fn types(asker: &Asker<'_>) -> Result<HashMap<String, String>, String> {
    let data = asker.get("api/v1/metadata", &[]).await?;
    let families = data.as_object().into_iter().flatten();
    let kind = |all: &Json| {
        let mut kinds: Vec<&str> = all
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["type"].as_str())
            .collect();
        kinds.dedup();
        // Targets that disagree tell nothing.
        match kinds[..] {
            [kind] => Some(kind.to_owned()),
            _ => None,
        }
    };
    Ok(families.filter_map(|(name, all)| Some((name.clone(), kind(all)?))).collect())
}

async fn names(asker: &Asker<'_>) -> Result<Vec<String>, String> {
    let path = "api/v1/label/__name__/values";
    let data = asker.get(path, &[("limit", NAMES_MAX.to_string())]).await?;
    let names = data.as_array().into_iter().flatten().filter_map(Json::as_str);
    Ok(names.take(NAMES_MAX).map(str::to_owned).collect())
}
