//! Reading the sections one by one, so that a file with several mistakes names them all.

use std::collections::BTreeMap;

use super::decode::{from_node, unknown_field};
use super::yaml::{Node, YamlError, parse};
use super::{
    Config, ConfigError, GlobalConfig, Loaded, RuntimeConfig, StorageConfig, env, is_url, matching,
    read as read_file, remote, unserved,
};
use crate::discovery::{
    DiscoveryConfig, DiscoveryConfigError, DnsConfig, FileConfig, HttpConfig, OTHER_KINDS,
    SERVED_KINDS, STATIC, StaticConfig,
};
use crate::http::{ClientConfig, config as http};
use crate::model::LabelsBuilder;
use crate::model::labels::quote;
use crate::notifier::{AlertingConfig, AlertmanagerConfig};
use crate::relabel::{NameScheme, RelabelConfig};
use crate::remote_write::send::RemoteWriteConfig;
use crate::remote_write::send::config::UNSERVED_KEYS;
use crate::scrape::ScrapeConfig;
use crate::scrape::config::{ScrapeDefaults, ScrapeProtocol};

const SECTIONS: &[&str] = &[
    "global",
    "runtime",
    "alerting",
    "rule_files",
    "scrape_config_files",
    "scrape_configs",
    "storage",
    "tracing",
    "remote_write",
    "remote_read",
    "datasources",
    "otlp",
];

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What reading collects beside the values.
#[derive(Default)]
pub(super) struct Notes {
    pub problems: Vec<YamlError>,
    warnings: Vec<String>,
}

impl Notes {
    /// Keeps a value, or its problem.
    pub(super) fn keep<T>(&mut self, result: Result<T, YamlError>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

/// Reads a whole configuration text.
pub(super) fn read(text: &str, lookup: Lookup) -> Result<Loaded, Vec<YamlError>> {
    let document = parse(text).map_err(|e| vec![e])?;
    let root = document.root;
    let mut notes = Notes::default();
    if let Some(line) = document.second_line {
        notes.warn(format!("line {line}: a second YAML document starts here and is not read"));
    }
    for (key, _) in root.entries("the configuration").map_err(|e| vec![e])? {
        if !SECTIONS.contains(&key.name()) {
            notes.problems.push(YamlError::at(key.line(), unknown_field(key.name(), SECTIONS)));
        }
    }
    let config = sections(&root, lookup, &mut notes);
    if notes.problems.is_empty() {
        return Ok(Loaded { config, warnings: notes.warnings });
    }
    notes.problems.sort_by_key(|p| p.line);
    Err(notes.problems)
}

fn sections(root: &Node, lookup: Lookup, notes: &mut Notes) -> Config {
    let global = global(root.get("global").map(AsRef::as_ref), lookup, notes);
    let scheme = global.name_validation;
    let defaults = global.scrape_defaults();
    let scrape_configs = match root.get("scrape_configs") {
        Some(node) => scrape_configs(node, &defaults, notes),
        None => Vec::new(),
    };
    let section = |name| root.get(name).filter(|node| !node.is_null());
    let alerting = section("alerting").map(|node| alerting(node, scheme, notes));
    let runtime = section("runtime").and_then(|node| notes.keep(from_node::<RuntimeConfig>(node)));
    if runtime.is_some() {
        notes.warn("runtime.gogc has no effect: this program has no Go garbage collector");
    }
    let storage = section("storage").and_then(|node| notes.keep(from_node::<StorageConfig>(node)));
    storage.iter().for_each(|s| warn_storage(s, notes));
    Config {
        rule_files: patterns(root, "rule_files", "rule file path", notes),
        scrape_config_files: patterns(
            root,
            "scrape_config_files",
            "scrape config file path",
            notes,
        ),
        global,
        runtime: runtime.unwrap_or_default(),
        alerting: alerting.unwrap_or_default(),
        scrape_configs,
        included_scrape_configs: Vec::new(),
        storage: storage.unwrap_or_default(),
        remote_write: section("remote_write")
            .map(|node| remote_write(node, scheme, notes))
            .unwrap_or_default(),
        remote_read: section("remote_read").map_or_else(Vec::new, |n| remote::reads(n, notes)),
        datasources: section("datasources")
            .map_or_else(Default::default, |n| remote::datasources(n, notes)),
        unserved: unserved_sections(root, notes),
    }
}

fn global(node: Option<&Node>, lookup: Lookup, notes: &mut Notes) -> GlobalConfig {
    let mut global =
        node.and_then(|node| notes.keep(from_node::<GlobalConfig>(node))).unwrap_or_default();
    if let Err(text) = global.normalize() {
        notes.problems.push(YamlError::at(node.map_or(0, |n| n.line()), text));
    }
    let mut missing = Vec::new();
    let mut labels = LabelsBuilder::default();
    for (name, value) in global.external_labels.iter() {
        labels.set(name, &env::expand(value, lookup, &mut missing));
    }
    global.external_labels = labels.build();
    for name in missing {
        notes.warn(format!(
            "global.external_labels: the environment variable {name} is empty or not set"
        ));
    }
    global
}

fn patterns(root: &Node, section: &str, what: &str, notes: &mut Notes) -> Vec<String> {
    let Some(node) = root.get(section) else { return Vec::new() };
    let Some(patterns) = notes.keep(from_node::<Vec<String>>(node)) else { return Vec::new() };
    // What is asked of a server is no pattern.
    for pattern in patterns.iter().filter(|pattern| !is_url(pattern)) {
        // A star may stand in the last part of the path only.
        if pattern.find('*').is_some_and(|at| pattern[at..].contains('/')) {
            let text = format!("invalid {what} {}", quote(pattern));
            notes.problems.push(YamlError::at(node.line(), text));
        }
    }
    patterns
}

fn warn_storage(storage: &StorageConfig, notes: &mut Notes) {
    let Some(tsdb) = &storage.tsdb else { return };
    if tsdb.stale_series_compaction_threshold.is_some() {
        notes.warn("storage.tsdb.stale_series_compaction_threshold is not served yet");
    }
    if tsdb.chunk_encoding.as_ref().is_some_and(|e| !matches!(e.floats.as_str(), "" | "xor")) {
        notes.warn("storage.tsdb.chunk_encoding.floats is not served yet: chunks are xor");
    }
}

fn unserved_sections(root: &Node, notes: &mut Notes) -> BTreeMap<String, serde_yaml::Value> {
    let mut kept = BTreeMap::new();
    for (name, effect) in [("tracing", "no traces are sent"), ("otlp", "OTLP is not received")] {
        let Some(node) = root.get(name).filter(|node| !node.is_null()) else { continue };
        let checked = match name {
            "tracing" => unserved::check_tracing(node),
            _ => unserved::check_otlp(node),
        };
        notes.keep(checked);
        if let Some(value) = notes.keep(unserved::masked(node)) {
            kept.insert(name.to_owned(), value);
            notes.warn(format!("the section {name} is not served yet: {effect}"));
        }
    }
    kept
}

fn remote_write(node: &Node, scheme: NameScheme, notes: &mut Notes) -> Vec<RemoteWriteConfig> {
    let items = notes.keep(node.items("remote_write").map(<[_]>::to_vec)).unwrap_or_default();
    let mut configs: Vec<RemoteWriteConfig> = Vec::new();
    for item in &items {
        let read = remote_write_target(item, scheme, notes);
        let Some(config) = notes.keep(read) else { continue };
        let name = &config.name;
        if !name.is_empty() && configs.iter().any(|c| c.name == *name) {
            let text = format!("found multiple remote write configs with job name {}", quote(name));
            notes.problems.push(YamlError::at(item.line(), text));
        }
        configs.push(config);
    }
    configs
}

fn remote_write_target(
    node: &Node,
    scheme: NameScheme,
    notes: &mut Notes,
) -> Result<RemoteWriteConfig, YamlError> {
    if node.is_null() {
        return Err(YamlError::at(node.line(), "empty or null remote write config section"));
    }
    node.entries("a remote write config")?;
    let (http, rest) = node.split(|key| http::FIELDS.contains(&key));
    let (unserved, own) = rest.split(|key| UNSERVED_KEYS.contains(&key));
    no_nulls(
        &own,
        "write_relabel_configs",
        "empty or null relabeling rule in remote write config",
    )?;
    let mut config: RemoteWriteConfig = from_node(&own)?;
    let given = client(&http)?;
    // HTTP/2 is off unless it is asked for; elsewhere it is on.
    let http2 = http.get("enable_http2").is_some() && given.enable_http2;
    config.http = given;
    config.http.enable_http2 = http2;
    config.validate(scheme).map_err(|e| YamlError::at(node.line(), e.to_string()))?;
    for (key, value) in unserved.entries("a remote write config")? {
        config.unserved.insert(key.name().to_owned(), unserved::masked(value)?);
        let effect = match key.name() {
            "azuread" | "google_iam" => "requests are sent without it",
            "round_robin_dns" => "the system decides which address is asked",
            _ => "it has no effect",
        };
        notes.warn(format!(
            "remote_write {}: {} is not served yet: {effect}",
            quote(&config.url),
            key.name()
        ));
    }
    Ok(config)
}

fn scrape_configs(node: &Node, defaults: &ScrapeDefaults, notes: &mut Notes) -> Vec<ScrapeConfig> {
    let Some(items) = notes.keep(node.items("scrape_configs").map(<[_]>::to_vec)) else {
        return Vec::new();
    };
    let mut configs: Vec<ScrapeConfig> = Vec::new();
    for item in &items {
        let read = scrape_config(item, defaults, notes);
        let Some(config) = notes.keep(read) else { continue };
        if configs.iter().any(|c| c.job_name == config.job_name) {
            let job = quote(&config.job_name);
            let text = format!("found multiple scrape configs with job name {job}");
            notes.problems.push(YamlError::at(item.line(), text));
        }
        configs.push(config);
    }
    configs
}

fn scrape_config(
    node: &Node,
    defaults: &ScrapeDefaults,
    notes: &mut Notes,
) -> Result<ScrapeConfig, YamlError> {
    let failed = |text: String| YamlError::at(node.line(), text);
    if node.is_null() {
        return Err(failed("empty or null scrape config section".into()));
    }
    node.entries("a scrape config")?;
    let (http, rest) = node.split(|key| http::FIELDS.contains(&key));
    let (discovery, own) = rest.split(is_discovery);
    no_nulls(&own, "relabel_configs", "empty or null target relabeling rule in scrape config")?;
    no_nulls(
        &own,
        "metric_relabel_configs",
        "empty or null metric relabeling rule in scrape config",
    )?;
    no_nulls(&own, STATIC, "empty or null section in static_configs")?;
    let mut config: ScrapeConfig = from_node(&own)?;
    if config.job_name.is_empty() {
        return Err(failed("job_name is empty".into()));
    }
    config.http = client(&http)?;
    if config.relabel_configs.is_empty() {
        check_addresses(&config.static_configs, node)?;
    }
    config.discovery = self::discovery(&discovery)?;
    config.resolve(defaults).map_err(|e| failed(e.to_string()))?;
    warn_scrape(&config, &own, notes);
    Ok(config)
}

fn warn_scrape(config: &ScrapeConfig, own: &Node, notes: &mut Notes) {
    let job = quote(&config.job_name);
    let mut warn = |text: &str| notes.warn(format!("scrape config {job}: {text}"));
    if !matches!(config.scheme.as_str(), "http" | "https") {
        let scheme = quote(&config.scheme);
        warn(&format!(
            "scheme {scheme} is unknown: its targets cannot be scraped; use http or https"
        ));
    }
    for kind in config.discovery.other.keys() {
        warn(&format!("{kind} is not served yet: its targets are not scraped"));
    }
    if config.scrape_native_histograms == Some(true) {
        warn("scrape_native_histograms is not served yet: only the text formats are asked for");
    } else if config.protocols().contains(&ScrapeProtocol::PrometheusProto) {
        warn("scrape_protocols: PrometheusProto is not served yet and is not asked for");
    }
    if config.convert_classic_histograms_to_nhcb == Some(true) {
        warn("convert_classic_histograms_to_nhcb is not served yet");
    }
    for key in ["native_histogram_bucket_limit", "native_histogram_min_bucket_factor"] {
        if own.get(key).is_some_and(|value| !value.is_null()) {
            warn(&format!("{key} is not served yet"));
        }
    }
    if !config.scrape_failure_log_file.is_empty() {
        warn("scrape_failure_log_file is not served yet: failures are in the program's log");
    }
}

pub(super) fn client(node: &Node) -> Result<ClientConfig, YamlError> {
    let mut config: ClientConfig = from_node(node)?;
    config.normalize().map_err(|e| YamlError::at(node.line(), e.to_string()))?;
    Ok(config)
}

fn no_nulls(node: &Node, list: &str, text: &str) -> Result<(), YamlError> {
    let Some(items) = node.get(list) else { return Ok(()) };
    match items.items(list)?.iter().find(|item| item.is_null()) {
        Some(item) => Err(YamlError::at(item.line(), text)),
        None => Ok(()),
    }
}

/// Without relabelling, an address with a slash is a URL put where a host belongs.
fn check_addresses(groups: &[StaticConfig], node: &Node) -> Result<(), YamlError> {
    for address in groups.iter().flat_map(|group| &group.targets) {
        if address.contains('/') {
            let text = format!("{} is not a valid hostname", quote(address));
            return Err(YamlError::at(node.line(), text));
        }
    }
    for name in groups.iter().flat_map(|group| group.labels.keys()) {
        if name.is_empty() {
            return Err(YamlError::at(node.line(), "\"\" is not a valid label name"));
        }
    }
    Ok(())
}

fn is_discovery(key: &str) -> bool {
    OTHER_KINDS.contains(&key) || SERVED_KINDS.contains(&key)
}

fn discovery(node: &Node) -> Result<DiscoveryConfig, YamlError> {
    let mut config = DiscoveryConfig::default();
    for (key, value) in node.entries("service discovery")? {
        for item in value.items(key.name())? {
            if item.is_null() {
                let text = format!("empty or null section in {}", key.name());
                return Err(YamlError::at(item.line(), text));
            }
            let line = item.line();
            let at = |e: DiscoveryConfigError| YamlError::at(line, e.to_string());
            match key.name() {
                "dns_sd_configs" => {
                    let mut dns: DnsConfig = from_node(item)?;
                    dns.normalize().map_err(at)?;
                    config.dns_sd_configs.push(dns);
                }
                "file_sd_configs" => {
                    let files: FileConfig = from_node(item)?;
                    files.validate().map_err(at)?;
                    config.file_sd_configs.push(files);
                }
                "http_sd_configs" => {
                    let (http, own) = item.split(|key| http::FIELDS.contains(&key));
                    let mut server: HttpConfig = from_node(&own)?;
                    server.http = client(&http)?;
                    server.validate().map_err(at)?;
                    config.http_sd_configs.push(server);
                }
                _ => {}
            }
        }
        if OTHER_KINDS.contains(&key.name()) {
            config.other.insert(key.name().to_owned(), unserved::masked(value)?);
        }
    }
    Ok(config)
}

fn alerting(node: &Node, scheme: NameScheme, notes: &mut Notes) -> AlertingConfig {
    let mut alerting = AlertingConfig::default();
    let Some(entries) = notes.keep(node.entries("alerting").map(<[_]>::to_vec)) else {
        return alerting;
    };
    for (key, value) in &entries {
        match key.name() {
            "alert_relabel_configs" => {
                notes.keep(no_nulls(node, key.name(), "empty or null alert relabeling rule"));
                let rules = notes.keep(from_node::<Vec<RelabelConfig>>(value));
                alerting.alert_relabel_configs = rules.unwrap_or_default();
                for rule in &alerting.alert_relabel_configs {
                    let checked = rule.validate(scheme);
                    notes.keep(checked.map_err(|e| YamlError::at(value.line(), e.to_string())));
                }
            }
            "alertmanagers" => {
                let items = notes.keep(value.items("alertmanagers").map(<[_]>::to_vec));
                for item in items.unwrap_or_default() {
                    let read = alertmanager(&item, scheme, notes);
                    alerting.alertmanagers.extend(notes.keep(read));
                }
            }
            other => {
                let text = unknown_field(other, &["alert_relabel_configs", "alertmanagers"]);
                notes.problems.push(YamlError::at(key.line(), text));
            }
        }
    }
    alerting
}

fn alertmanager(
    node: &Node,
    scheme: NameScheme,
    notes: &mut Notes,
) -> Result<AlertmanagerConfig, YamlError> {
    node.entries("an Alertmanager")?;
    let (http, rest) = node.split(|key| http::FIELDS.contains(&key));
    let (discovery, own) = rest.split(is_discovery);
    no_nulls(&own, "relabel_configs", "empty or null Alertmanager target relabeling rule")?;
    no_nulls(&own, "alert_relabel_configs", "empty or null Alertmanager alert relabeling rule")?;
    no_nulls(&own, STATIC, "empty or null section in static_configs")?;
    let mut config: AlertmanagerConfig = from_node(&own)?;
    config.http = client(&http)?;
    if config.relabel_configs.is_empty() {
        check_addresses(&config.static_configs, node)?;
    }
    config.discovery = self::discovery(&discovery)?;
    config.validate(scheme).map_err(|e| YamlError::at(node.line(), e.to_string()))?;
    for kind in config.discovery.other.keys() {
        notes.warn(format!("alerting: {kind} is not served yet: no alerts are sent there"));
    }
    Ok(config)
}

/// Reads the files that `scrape_config_files` names into the configuration.
pub(super) fn include_scrape_configs(loaded: &mut Loaded) -> Result<(), ConfigError> {
    let defaults = loaded.config.global.scrape_defaults();
    let mut jobs: BTreeMap<String, String> = BTreeMap::new();
    for config in &loaded.config.scrape_configs {
        jobs.insert(config.job_name.clone(), "main config file".into());
    }
    for pattern in loaded.config.scrape_config_files.clone() {
        for path in matching("scrape config files", &pattern)? {
            let text = read_file(&path)?;
            let name = path.display().to_string();
            let mut notes = Notes::default();
            let configs = included(&text, &defaults, &mut notes);
            for mut config in configs {
                if let Some(first) = jobs.insert(config.job_name.clone(), quote(&name)) {
                    let job = quote(&config.job_name);
                    notes.problems.push(YamlError::at(
                        0,
                        format!(
                            "found multiple scrape configs with job name {job}, first found in \
                             {first}"
                        ),
                    ));
                }
                config.resolve_paths(path.parent().unwrap_or(&path));
                loaded.config.included_scrape_configs.push(config);
            }
            if !notes.problems.is_empty() {
                return Err(ConfigError::Invalid { file: name, problems: notes.problems });
            }
            loaded.warnings.append(&mut notes.warnings);
        }
    }
    Ok(())
}

fn included(text: &str, defaults: &ScrapeDefaults, notes: &mut Notes) -> Vec<ScrapeConfig> {
    let Some(document) = notes.keep(parse(text)) else { return Vec::new() };
    let mut configs = Vec::new();
    let entries = document.root.entries("the file").map(<[_]>::to_vec);
    for (key, value) in notes.keep(entries).unwrap_or_default() {
        if key.name() == "scrape_configs" {
            configs = scrape_configs(&value, defaults, notes);
        } else {
            let text = unknown_field(key.name(), &["scrape_configs"]);
            notes.problems.push(YamlError::at(key.line(), text));
        }
    }
    configs
}
