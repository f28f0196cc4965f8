//! What is to be checked, and by which policy: `--lint.config`, a YAML file.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use thiserror::Error;

use super::registry;
use crate::diagnostics::Severity;
use crate::diagnostics::nearest::nearest;
use crate::model::duration::parse_duration;
use crate::model::regex::{AnchoredRegex, GoRegex};

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    #[error("{0}")]
    Syntax(String),
    #[error("there is no check {id:?}{}", suggestion(.like))]
    UnknownCheck { id: String, like: Option<&'static str> },
}

fn suggestion(like: &Option<&'static str>) -> String {
    like.map(|like| format!("; did you mean {like:?}?")).unwrap_or_default()
}

/// The settings of a run. The default has no policies and knows no intervals.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub(super) checks: Chosen,
    /// Severities that are not those of the registry.
    pub(super) severity: BTreeMap<String, SeverityName>,
    /// Interval of groups that name none.
    pub(super) evaluation_interval: Option<Millis>,
    pub(super) scrape_interval: Option<Millis>,
    pub(super) lookback_delta: Option<Millis>,
    pub(super) owners: Option<Owners>,
    pub(super) regexp: RegexpSettings,
    pub(super) dependency: DependencySettings,
    pub(super) cost: CostSettings,
    pub(super) rules: Vec<Policy>,
}

/// Checks to turn on and off.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Chosen {
    pub enabled: Vec<String>,
    pub disabled: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RegexpSettings {
    /// Also report labels that seem to hold several things at once.
    pub smelly: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DependencySettings {
    /// Metrics of other groups that may be read with a delay.
    pub ignore: Vec<Pattern>,
}

/// What an evaluation may cost.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CostSettings {
    pub max_series: Option<u64>,
    pub max_samples: Option<u64>,
    pub max_peak_samples: Option<u64>,
    pub max_duration: Option<Millis>,
    pub severity: Option<SeverityName>,
    pub comment: Option<String>,
}

/// Who may own rules.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Owners {
    pub required: bool,
    pub allowed: Option<Pattern>,
}

/// What is asked of some rules.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Policy {
    #[serde(rename = "match")]
    pub only: Option<Which>,
    pub ignore: Option<Which>,
    #[serde(deserialize_with = "by_pattern")]
    pub annotations: Vec<(Pattern, ValuePolicy)>,
    #[serde(deserialize_with = "by_pattern")]
    pub labels: Vec<(Pattern, ValuePolicy)>,
    pub aggregate: Vec<AggregatePolicy>,
    #[serde(rename = "for")]
    pub hold: Option<DurationPolicy>,
    pub keep_firing_for: Option<DurationPolicy>,
    pub name: Option<NamePolicy>,
    pub selector: Vec<SelectorPolicy>,
    pub reject: Vec<RejectPolicy>,
    pub report: Option<ReportPolicy>,
    pub link: Vec<LinkPolicy>,
}

/// Which rules: all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Which {
    pub file: Option<Pattern>,
    pub group: Option<Pattern>,
    pub name: Option<Pattern>,
    pub kind: Option<Kind>,
    pub labels: BTreeMap<String, Pattern>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Alerting,
    Recording,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ValuePolicy {
    pub required: bool,
    pub value: Option<Pattern>,
    pub values: Vec<String>,
    pub severity: Option<SeverityName>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AggregatePolicy {
    /// Names of rules it is about; without it all.
    pub name: Option<Pattern>,
    pub keep: Vec<String>,
    pub strip: Vec<String>,
    pub severity: Option<SeverityName>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DurationPolicy {
    pub min: Option<Millis>,
    pub max: Option<Millis>,
    pub severity: Option<SeverityName>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamePolicy {
    pub pattern: Pattern,
    pub severity: Option<SeverityName>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SelectorPolicy {
    /// Metrics it is about; without it all.
    pub metric: Option<Pattern>,
    /// Functions and aggregations it is about; without it selectors everywhere.
    pub call: Option<Pattern>,
    pub required_labels: Vec<String>,
    pub severity: Option<SeverityName>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectPolicy {
    pub pattern: Pattern,
    #[serde(default)]
    pub label_keys: bool,
    #[serde(default)]
    pub label_values: bool,
    #[serde(default)]
    pub annotation_keys: bool,
    #[serde(default)]
    pub annotation_values: bool,
    pub severity: Option<SeverityName>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportPolicy {
    pub comment: String,
    pub severity: Option<SeverityName>,
}

/// Links that must be answered with 200.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkPolicy {
    pub url: Pattern,
    /// What to ask for instead; `$1` is what the pattern's first group matched.
    pub uri: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub severity: Option<SeverityName>,
    pub comment: Option<String>,
}

/// `info`, `warning` or `bug`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SeverityName {
    Info,
    Warning,
    Bug,
}

impl SeverityName {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Info => Severity::Info,
            Self::Warning => Severity::Warning,
            Self::Bug => Severity::Bug,
        }
    }
}

/// A duration as Prometheus writes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Millis(pub i64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Millis).map_err(de::Error::custom)
    }
}

/// A regular expression that must match the whole.
#[derive(Clone)]
pub(super) struct Pattern {
    source: String,
    regex: AnchoredRegex,
}

impl Pattern {
    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.source
    }

    /// The template with what the pattern's groups match in a text.
    pub(super) fn expand(&self, template: &str, text: &str) -> String {
        let found = GoRegex::anchored(&self.source).ok();
        let found = found.and_then(|regex| Some(regex.expand(template, text, &regex.find(text)?)));
        found.unwrap_or_else(|| text.to_owned())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

impl Pattern {
    fn new<E: de::Error>(source: String) -> Result<Self, E> {
        let regex = AnchoredRegex::new(&source).map_err(de::Error::custom)?;
        Ok(Self { source, regex })
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?)
    }
}

/// A mapping whose keys are patterns, sorted by them.
fn by_pattern<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(Pattern, ValuePolicy)>, D::Error> {
    let map: BTreeMap<String, ValuePolicy> = BTreeMap::deserialize(deserializer)?;
    map.into_iter().map(|(name, policy)| Ok((Pattern::new(name)?, policy))).collect()
}

impl Settings {
    /// Reads a settings file.
    pub fn from_yaml(text: &str) -> Result<Self, SettingsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let settings: Self =
            serde_yaml::from_str(text).map_err(|e| SettingsError::Syntax(e.to_string()))?;
        let named = settings.checks.enabled.iter().chain(&settings.checks.disabled);
        for id in named.chain(settings.severity.keys()) {
            known(id)?;
        }
        Ok(settings)
    }

    /// Applies the words of `--lint`, in order: an id or the part before its slash turns
    /// checks on, with a `-` in front off; `all`, `default` and `none` come first.
    pub fn choose<'w>(
        &mut self,
        words: impl IntoIterator<Item = &'w str>,
    ) -> Result<(), SettingsError> {
        for word in words {
            let (off, name) = match word.strip_prefix('-') {
                Some(name) => (true, name),
                None => (false, word),
            };
            match name {
                "" | "default" => {}
                "all" => self.choose_all(true),
                "none" => self.choose_all(false),
                name => {
                    let category = |id: &str| id.split('/').next() == Some(name);
                    let mut ids: Vec<&str> =
                        registry::ids().filter(|id| *id == name || category(id)).collect();
                    if ids.is_empty() {
                        ids.push(known(name)?);
                    }
                    for id in ids {
                        self.set(id, !off);
                    }
                }
            }
        }
        Ok(())
    }

    fn choose_all(&mut self, on: bool) {
        for id in registry::ids() {
            self.set(id, on);
        }
    }

    fn set(&mut self, id: &str, on: bool) {
        self.checks.enabled.retain(|other| other != id);
        self.checks.disabled.retain(|other| other != id);
        let list = if on { &mut self.checks.enabled } else { &mut self.checks.disabled };
        list.push(id.to_owned());
    }

    /// Sets the interval of groups that name none, unless the file has.
    pub fn default_evaluation_interval(&mut self, ms: i64) {
        self.evaluation_interval.get_or_insert(Millis(ms));
    }

    /// Sets the scrape interval, unless the file has.
    pub fn default_scrape_interval(&mut self, ms: i64) {
        self.scrape_interval.get_or_insert(Millis(ms));
    }

    pub(super) fn is_on(&self, check: &registry::Check) -> bool {
        let named = |list: &[String]| list.iter().any(|id| id == check.id);
        if named(&self.checks.disabled) {
            return false;
        }
        check.by_default || named(&self.checks.enabled)
    }

    pub(super) fn severity_of(&self, id: &str, own: Severity) -> Severity {
        self.severity.get(id).map_or(own, |name| name.severity())
    }

    pub(super) fn lookback_ms(&self) -> i64 {
        self.lookback_delta.map_or(300_000, |d| d.0)
    }
}

fn known(id: &str) -> Result<&str, SettingsError> {
    if registry::ids().any(|known| known == id) {
        return Ok(id);
    }
    Err(SettingsError::UnknownCheck { id: id.to_owned(), like: nearest(id, registry::ids()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_settings_are_said() {
        let check = |text: &str, expected: &str| {
            let error = Settings::from_yaml(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check(
            "checks: {disabled: [promql/regex]}",
            "there is no check \"promql/regex\"; did you mean \"promql/regexp\"?",
        );
        check("rules: [{name: {pattern: '('}}]", "missing closing )");
        check("evaluation_interval: soon", "not a valid duration string");
        check("rulez: []", "unknown field `rulez`");
        check("severity: {promql/nan: fatal}", "unknown variant `fatal`");
    }

    #[test]
    fn words_turn_checks_on_and_off() {
        let on = |words: &[&str]| {
            let mut settings = Settings::default();
            settings.choose(words.iter().copied()).unwrap();
            let all = registry::CHECKS.iter().filter(|c| settings.is_on(c));
            all.map(|c| c.id).collect::<Vec<_>>()
        };
        assert_eq!(on(&["none", "promql/nan", "yaml"]), ["promql/nan", "yaml/parse"]);
        assert_eq!(on(&["all"]).len(), registry::CHECKS.len());
        let default = on(&["default"]);
        assert!(
            default.len() < registry::CHECKS.len()
                && !on(&["-promql"]).iter().any(|id| id.starts_with("promql/"))
        );
        assert!(Settings::default().choose(["promql/nann"]).is_err());
    }
}
