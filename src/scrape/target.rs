//! From a discovered label set to a target: relabelling, the URL, the schedule.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use thiserror::Error;
use xxhash_rust::xxh64::xxh64;

use super::config::ScrapeConfig;
use crate::discovery::static_::ADDRESS;
use crate::discovery::{StaticConfig, TargetGroup};
use crate::model::duration::{format_duration, parse_duration};
use crate::model::labels::quote;
use crate::model::{Labels, LabelsBuilder};
use crate::relabel::{Verdict, apply};

const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const PARAM_PREFIX: &str = "__param_";
const SCRAPE_INTERVAL: &str = "__scrape_interval__";
const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";

/// Something to scrape. Two targets with the same labels and URL are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Labels before relabelling.
    pub discovered: Labels,
    /// Labels its series get: none that starts with `__`.
    pub labels: Labels,
    pub url: String,
    pub interval_ms: i64,
    pub timeout_ms: i64,
}

/// Why a label set is no target; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    #[error("no address")]
    NoAddress,
    #[error("{} is not a valid hostname", quote(.0))]
    Address(String),
    #[error("error parsing scrape {what}: {why}")]
    Duration { what: &'static str, why: String },
    #[error("scrape {0} cannot be 0")]
    Zero(&'static str),
    #[error(
        "scrape timeout cannot be greater than scrape interval ({} > {})",
        quote(&format_duration(*timeout_ms)),
        quote(&format_duration(*interval_ms))
    )]
    TimeoutAboveInterval { timeout_ms: i64, interval_ms: i64 },
}

/// What a configuration's lists and discovery amount to.
#[derive(Debug, Default)]
pub struct Targets {
    /// Each once, in the order of discovery.
    pub active: Vec<Target>,
    /// Discovered labels of what relabelling dropped.
    pub dropped: Vec<Labels>,
    /// Discovered labels of what is no target, and why.
    pub errors: Vec<(Labels, TargetError)>,
}

impl Targets {
    /// Builds the targets of the configuration's static lists and of what was discovered.
    pub fn of(config: &ScrapeConfig, discovered: &[TargetGroup]) -> Self {
        let mut targets = Self::default();
        let mut seen = std::collections::HashSet::new();
        let listed = config.static_configs.iter().flat_map(StaticConfig::label_sets);
        for labels in listed.chain(discovered.iter().flat_map(TargetGroup::label_sets)) {
            let discovered = discovered_labels(config, &labels);
            match Target::from_discovered(config, &discovered) {
                Ok(Some(target)) => {
                    if seen.insert(target.key()) {
                        targets.active.push(target);
                    }
                }
                Ok(None) => targets.dropped.push(discovered),
                Err(error) => targets.errors.push((discovered, error)),
            }
        }
        targets
    }
}

/// A discovered label set with what the configuration adds where it says nothing.
fn discovered_labels(config: &ScrapeConfig, labels: &Labels) -> Labels {
    let mut builder = labels.builder();
    let interval = format_duration(config.scrape_interval_ms);
    let timeout = format_duration(config.scrape_timeout_ms);
    for (name, value) in [
        ("job", config.job_name.as_str()),
        (SCRAPE_INTERVAL, &interval),
        (SCRAPE_TIMEOUT, &timeout),
        (METRICS_PATH, &config.metrics_path),
        (SCHEME, &config.scheme),
    ] {
        if !builder.contains(name) {
            builder.set(name, value);
        }
    }
    for (name, values) in &config.params {
        let name = format!("{PARAM_PREFIX}{name}");
        if let Some(first) = values.first().filter(|_| !builder.contains(&name)) {
            builder.set(&name, first);
        }
    }
    builder.build()
}

impl Target {
    /// Relabels a label set; `None` when it is dropped.
    fn from_discovered(
        config: &ScrapeConfig,
        discovered: &Labels,
    ) -> Result<Option<Self>, TargetError> {
        let mut labels = discovered.builder();
        if apply(&config.relabel_configs, &mut labels) == Verdict::Drop {
            return Ok(None);
        }
        let address = labels.get(ADDRESS).to_owned();
        if address.is_empty() {
            return Err(TargetError::NoAddress);
        }
        if address.contains('/') {
            return Err(TargetError::Address(address));
        }
        let duration = |name: &str, what| {
            let parsed = parse_duration(labels.get(name))
                .map_err(|e| TargetError::Duration { what, why: e.to_string() })?;
            if parsed == 0 { Err(TargetError::Zero(what)) } else { Ok(parsed) }
        };
        let interval_ms = duration(SCRAPE_INTERVAL, "interval")?;
        let timeout_ms = duration(SCRAPE_TIMEOUT, "timeout")?;
        if timeout_ms > interval_ms {
            return Err(TargetError::TimeoutAboveInterval { timeout_ms, interval_ms });
        }
        labels.retain(|name, _| !name.starts_with(META_PREFIX));
        if !labels.contains("instance") {
            labels.set("instance", &address);
        }
        let url = url(config, &labels);
        labels.retain(|name, _| !name.starts_with(RESERVED_PREFIX));
        let discovered = discovered.clone();
        Ok(Some(Self { discovered, labels: labels.build(), url, interval_ms, timeout_ms }))
    }

    /// What makes it the same target after a reload.
    pub(super) fn key(&self) -> (Labels, String) {
        (self.labels.clone(), self.url.clone())
    }

    /// When within each interval it is scraped: spreads targets evenly, and differently
    /// for servers with another seed.
    pub(super) fn offset_ms(&self, seed: u64) -> i64 {
        let hash = xxh64(self.url.as_bytes(), self.labels.hash64()) ^ seed;
        i64::try_from(hash % self.interval_ms.unsigned_abs().max(1)).unwrap_or(0)
    }
}

/// Bytes Go escapes in the path of a URL.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn url(config: &ScrapeConfig, labels: &LabelsBuilder) -> String {
    let mut params: BTreeMap<&str, Vec<&str>> = config
        .params
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()))
        .collect();
    for (name, value) in labels.iter() {
        if let Some(name) = name.strip_prefix(PARAM_PREFIX) {
            let values = params.entry(name).or_default();
            match values.first_mut() {
                Some(first) => *first = value,
                None => values.push(value),
            }
        }
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, values) in &params {
        for value in values {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let path = utf8_percent_encode(labels.get(METRICS_PATH), PATH).to_string();
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    let mark = if query.is_empty() { "" } else { "?" };
    let (scheme, address) = (labels.get(SCHEME), labels.get(ADDRESS));
    format!("{scheme}://{address}{slash}{path}{mark}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::config::ScrapeDefaults;

    fn config(yaml: &str) -> ScrapeConfig {
        let mut config: ScrapeConfig = serde_yaml::from_str(yaml).unwrap();
        let defaults = ScrapeDefaults {
            scrape_interval_ms: 60_000,
            scrape_timeout_ms: 10_000,
            scrape_protocols: None,
            limits: Default::default(),
            target_limit: 0,
            keep_dropped_targets: 0,
            scrape_failure_log_file: String::new(),
            name_validation: Default::default(),
            name_escaping: String::new(),
            scrape_native_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: false,
        };
        config.resolve(&defaults).unwrap();
        config
    }

    #[test]
    fn a_target_is_its_relabelled_labels_and_url() {
        let config = config(
            "
job_name: probe
metrics_path: probe
params: {module: [http, x], 'a b': ['&']}
static_configs:
- targets: ['a:80', 'a:80', 'drop:1', 'http://x']
  labels: {__meta_x: y, env: prod}
relabel_configs:
- {source_labels: [__address__], regex: 'drop:.*', action: drop}
- {source_labels: [__address__], target_label: __param_target}
- {source_labels: [__meta_x], target_label: meta}
- {source_labels: [__address__], regex: 'a:.*', target_label: __scrape_interval__, replacement: 15s}
",
        );
        let targets = Targets::of(&config, &[]);
        assert_eq!(targets.active.len(), 1);
        let target = &targets.active[0];
        assert_eq!(target.url, "http://a:80/probe?a+b=%26&module=http&module=x&target=a%3A80");
        assert_eq!(
            target.labels.to_string(),
            r#"{env="prod", instance="a:80", job="probe", meta="y"}"#
        );
        assert_eq!((target.interval_ms, target.timeout_ms), (15_000, 10_000));
        assert_eq!(targets.dropped[0].get(ADDRESS), Some("drop:1"));
        assert_eq!(targets.errors[0].1.to_string(), "\"http://x\" is not a valid hostname");
        assert!((0..15_000).contains(&target.offset_ms(7)));
    }

    #[test]
    fn a_relabelled_schedule_is_checked() {
        for (label, value, expected) in [
            (
                "__scrape_timeout__",
                "61s",
                "scrape timeout cannot be greater than scrape interval (\"1m1s\" > \"1m\")",
            ),
            ("__scrape_interval__", "0", "scrape interval cannot be 0"),
            (
                "__scrape_interval__",
                "x",
                "error parsing scrape interval: not a valid duration string: \"x\"",
            ),
            ("__address__", "", "no address"),
        ] {
            let config = config(&format!(
                "{{job_name: a, static_configs: [{{targets: ['a:1']}}], relabel_configs: \
                 [{{target_label: {label}, replacement: '{value}'}}]}}"
            ));
            let targets = Targets::of(&config, &[]);
            assert_eq!(targets.errors[0].1.to_string(), expected);
        }
    }
}
