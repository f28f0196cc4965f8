//! The `global`, `runtime` and `storage` sections.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Labels;
use crate::model::duration::as_text;
use crate::relabel::NameScheme;
use crate::scrape::config::{Limits, ScrapeDefaults, protocols, size};

/// The `global` section, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlobalConfig {
    #[serde(rename = "scrape_interval", with = "as_text")]
    pub scrape_interval_ms: i64,
    #[serde(rename = "scrape_timeout", with = "as_text")]
    pub scrape_timeout_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_protocols: Option<Vec<String>>,
    #[serde(rename = "evaluation_interval", with = "as_text")]
    pub evaluation_interval_ms: i64,
    /// How far in the past rules are evaluated unless their group says otherwise.
    #[serde(rename = "rule_query_offset", with = "as_text", skip_serializing_if = "is_zero_i64")]
    pub rule_query_offset_ms: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query_log_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scrape_failure_log_file: String,
    #[serde(with = "label_map", skip_serializing_if = "Labels::is_empty")]
    pub external_labels: Labels,
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
    pub keep_dropped_targets: u64,
    #[serde(rename = "metric_name_validation_scheme", deserialize_with = "name_scheme")]
    pub name_validation: NameScheme,
    #[serde(rename = "metric_name_escaping_scheme", skip_serializing_if = "String::is_empty")]
    pub name_escaping: String,
    pub scrape_native_histograms: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub convert_classic_histograms_to_nhcb: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub always_scrape_classic_histograms: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub extra_scrape_metrics: bool,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_zero_i64(n: &i64) -> bool {
    *n == 0
}

fn name_scheme<'de, D: Deserializer<'de>>(d: D) -> Result<NameScheme, D::Error> {
    match String::deserialize(d)?.as_str() {
        "" | "utf8" => Ok(NameScheme::Utf8),
        "legacy" => Ok(NameScheme::Legacy),
        other => Err(serde::de::Error::custom(format!(
            "unrecognized ValidationScheme: {other:?}: write utf8 or legacy"
        ))),
    }
}

/// Labels written as a mapping.
mod label_map {
    use super::{Deserialize, Deserializer, Labels, Serializer};
    use std::collections::BTreeMap;

    pub fn serialize<S: Serializer>(labels: &Labels, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(labels.iter())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Labels, D::Error> {
        Ok(Labels::from_pairs(BTreeMap::<String, String>::deserialize(d)?))
    }
}

const DEFAULT_INTERVAL_MS: i64 = 60_000;
const DEFAULT_TIMEOUT_MS: i64 = 10_000;

impl Default for GlobalConfig {
    fn default() -> Self {
        Self {
            scrape_interval_ms: 0,
            scrape_timeout_ms: 0,
            scrape_protocols: None,
            evaluation_interval_ms: 0,
            rule_query_offset_ms: 0,
            query_log_file: String::new(),
            scrape_failure_log_file: String::new(),
            external_labels: Labels::empty(),
            body_size_limit: 0,
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            name_validation: NameScheme::Utf8,
            name_escaping: String::new(),
            scrape_native_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: false,
        }
    }
}

impl GlobalConfig {
    /// Fills defaults and checks the section; the error texts are Prometheus'.
    pub(super) fn normalize(&mut self) -> Result<(), String> {
        for (name, _) in self.external_labels.iter() {
            if !self.name_validation.allows_label(name) {
                return Err(format!("{name:?} is not a valid label name"));
            }
        }
        if self.scrape_interval_ms == 0 {
            self.scrape_interval_ms = DEFAULT_INTERVAL_MS;
        }
        if self.scrape_timeout_ms > self.scrape_interval_ms {
            return Err("global scrape timeout greater than scrape interval".into());
        }
        if self.scrape_timeout_ms == 0 {
            self.scrape_timeout_ms = DEFAULT_TIMEOUT_MS.min(self.scrape_interval_ms);
        }
        if self.evaluation_interval_ms == 0 {
            self.evaluation_interval_ms = DEFAULT_INTERVAL_MS;
        }
        if let Some(names) = &self.scrape_protocols {
            protocols(names).map_err(|e| format!("{e} for global config"))?;
        }
        Ok(())
    }

    /// What scrape configurations inherit.
    pub fn scrape_defaults(&self) -> ScrapeDefaults {
        ScrapeDefaults {
            scrape_interval_ms: self.scrape_interval_ms,
            scrape_timeout_ms: self.scrape_timeout_ms,
            scrape_protocols: self.scrape_protocols.clone(),
            limits: Limits {
                body_bytes: self.body_size_limit,
                samples: self.sample_limit,
                labels: self.label_limit,
                label_name_bytes: self.label_name_length_limit,
                label_value_bytes: self.label_value_length_limit,
            },
            target_limit: self.target_limit,
            keep_dropped_targets: self.keep_dropped_targets,
            scrape_failure_log_file: self.scrape_failure_log_file.clone(),
            name_validation: self.name_validation,
            name_escaping: self.name_escaping.clone(),
            scrape_native_histograms: self.scrape_native_histograms,
            convert_classic_histograms_to_nhcb: self.convert_classic_histograms_to_nhcb,
            always_scrape_classic_histograms: self.always_scrape_classic_histograms,
            extra_scrape_metrics: self.extra_scrape_metrics,
        }
    }
}

/// The `runtime` section: read for compatibility.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Go's garbage collection target; without meaning here.
    pub gogc: i64,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { gogc: 75 }
    }
}

/// The `storage` section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsdb: Option<TsdbConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exemplars: Option<ExemplarsConfig>,
}

impl StorageConfig {
    /// How far behind the newest sample one may be that comes out of order; 0 takes none.
    pub fn out_of_order_window_ms(&self) -> i64 {
        self.tsdb.as_ref().map_or(0, |tsdb| tsdb.out_of_order_time_window_ms)
    }

    /// How many exemplars are kept, where they are kept at all.
    pub fn max_exemplars(&self) -> usize {
        let given = self.exemplars.clone().unwrap_or_default();
        usize::try_from(given.max_exemplars).unwrap_or(0)
    }
}

/// `storage.tsdb`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TsdbConfig {
    /// How far behind a series' newest sample one may still be added.
    #[serde(
        rename = "out_of_order_time_window",
        with = "as_text",
        skip_serializing_if = "is_zero_i64"
    )]
    pub out_of_order_time_window_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_series_compaction_threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_encoding: Option<ChunkEncoding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionConfig>,
}

/// `storage.tsdb.chunk_encoding`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChunkEncoding {
    pub floats: String,
}

/// `storage.tsdb.retention`: overrides the flags of the same name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    #[serde(rename = "time", with = "as_text", skip_serializing_if = "is_zero_i64")]
    pub time_ms: i64,
    #[serde(rename = "size", with = "size", skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage: Option<f64>,
}

/// `storage.exemplars`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExemplarsConfig {
    pub max_exemplars: i64,
}

impl Default for ExemplarsConfig {
    fn default() -> Self {
        Self { max_exemplars: 100_000 }
    }
}
