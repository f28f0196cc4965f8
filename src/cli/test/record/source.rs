//! The rules of a recording: of files, or of the server.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;

use super::{RecordArgs, relative};
use crate::cli::FeatureFlags;
use crate::cli::client::ApiClient;
use crate::cli::rules::files;
use crate::model::duration::format_duration;
use crate::rules::config::{GroupSpec, LoadOptions, load_file, load_source};
use crate::rules::unit_test::record::Plan;

/// Rules, and where they are from.
pub(super) struct Rules {
    pub groups: Vec<GroupSpec>,
    /// For a person: `in rules.yml`.
    pub from: String,
    paths: Vec<PathBuf>,
    /// Those of a server, which have no file.
    document: Option<Document>,
}

/// The files a test names.
pub(super) struct Files {
    /// As the test names them.
    pub named: Vec<String>,
    /// Those that are there.
    pub read: Vec<PathBuf>,
    /// Those that are to be written.
    pub written: Vec<(PathBuf, String)>,
}

pub(super) async fn load(
    args: &RecordArgs,
    features: &FeatureFlags,
    client: &ApiClient,
) -> Result<Rules, String> {
    let options = LoadOptions {
        parser: features.parser(),
        dialects: args.dialects,
        ..LoadOptions::default()
    };
    if args.rules.is_empty() {
        return of_server(client, &options).await;
    }
    let named = files::named(&args.rules)?;
    if named.stdin {
        return Err("--rules: standard input has no name that a test could use".to_owned());
    }
    let mut groups = Vec::new();
    for path in &named.files {
        let loaded = load_file(path, &options);
        if let Some(error) = loaded.errors().next() {
            return Err(error.to_string());
        }
        groups.extend(loaded.groups);
    }
    let names: Vec<String> = named.files.iter().map(|p| p.display().to_string()).collect();
    let from = format!("in {}", names.join(", "));
    Ok(Rules { groups, from, paths: named.files.into_iter().collect(), document: None })
}

async fn of_server(client: &ApiClient, options: &LoadOptions) -> Result<Rules, String> {
    let data = client.api_get("api/v1/rules", &[]).await?;
    let groups = data["groups"].as_array().map_or(&[][..], Vec::as_slice);
    let document = Document { groups: groups.iter().map(Group::of).collect() };
    let text = document.text()?;
    let loaded = load_source("the server's rules", &text, options);
    if let Some(error) = loaded.errors().next() {
        return Err(format!("a rule of the server cannot be used: {error}"));
    }
    let from = "on the server".to_owned();
    Ok(Rules { groups: loaded.groups, from, paths: Vec::new(), document: Some(document) })
}

impl Rules {
    /// The files the test at `out` is going to name.
    pub(super) fn files(&self, out: Option<&Path>, plan: &Plan) -> Result<Files, String> {
        let folder = out.and_then(Path::parent).unwrap_or(Path::new(""));
        let Some(document) = &self.document else {
            let mut used: Vec<PathBuf> = self.paths.clone();
            // Files that hold none of the rules need not be named.
            used.retain(|path| {
                let name = path.display().to_string();
                let groups = self.groups.iter().filter(|group| group.origin == name);
                groups.into_iter().any(|g| plan.rules().any(|(group, _)| group == g.name))
            });
            let named = used.iter().map(|path| relative(path, folder)).collect();
            return Ok(Files { named, read: used, written: Vec::new() });
        };
        let Some(out) = out else {
            return Err(
                "the rules are the server's and have to be written into a file of their own: \
                 name the test with --out, or a rule file with --rules"
                    .to_owned(),
            );
        };
        let stem = out.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = stem.trim_end_matches(".test").trim_end_matches("_test").to_owned();
        let path = out.with_file_name(format!("{stem}.rules.yml"));
        if path == out {
            return Err(format!(
                "{}: the rules would be written into the same file",
                out.display()
            ));
        }
        let named = vec![relative(&path, folder)];
        let written = vec![(path, document.only(plan).text()?)];
        Ok(Files { named, read: Vec::new(), written })
    }
}

/// A rule file as it is written.
#[derive(Clone, Serialize)]
struct Document {
    groups: Vec<Group>,
}

#[derive(Clone, Serialize)]
struct Group {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Clone, Default, Serialize)]
struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_for: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Document {
    fn text(&self) -> Result<String, String> {
        serde_yaml::to_string(self).map_err(|e| e.to_string())
    }

    /// Only the rules that have a say.
    fn only(&self, plan: &Plan) -> Self {
        let mut document = self.clone();
        for group in &mut document.groups {
            let name = group.name.clone();
            group.rules.retain(|rule| {
                let own = rule.alert.as_deref().or(rule.record.as_deref()).unwrap_or_default();
                plan.rules().any(|(group, rule)| group == name && rule == own)
            });
        }
        document.groups.retain(|group| !group.rules.is_empty());
        document
    }
}

impl Group {
    fn of(json: &Json) -> Self {
        let rules = json["rules"].as_array().map_or(&[][..], Vec::as_slice);
        Self {
            name: text(&json["name"]),
            interval: seconds(&json["interval"]),
            rules: rules.iter().map(Rule::of).collect(),
        }
    }
}

impl Rule {
    fn of(json: &Json) -> Self {
        let alerting = json["type"] == "alerting";
        let name = Some(text(&json["name"]));
        let map = |key: &str| {
            let all = json[key].as_object().into_iter().flatten();
            all.map(|(name, value)| (name.clone(), text(value))).collect()
        };
        Self {
            record: name.clone().filter(|_| !alerting),
            alert: name.filter(|_| alerting),
            expr: text(&json["query"]),
            hold: seconds(&json["duration"]),
            keep_firing_for: seconds(&json["keepFiringFor"]),
            labels: map("labels"),
            annotations: map("annotations"),
        }
    }
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

/// A number of seconds as a duration; nothing for 0.
fn seconds(json: &Json) -> Option<String> {
    let ms = (json.as_f64()? * 1000.0).round() as i64;
    (ms > 0).then(|| format_duration(ms))
}
