//! Relabelling: the configuration, its validation, and its pure application to a label
//! set. Shared by scraping, the notifier and remote write. It knows nothing of where the
//! labels come from or what the verdict means to its caller.

mod apply;
mod pattern;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use crate::model::labels::{is_legacy_label_name, quote};
use crate::model::regex::RegexError;

pub use apply::{Verdict, apply, apply_to};
pub use pattern::Pattern;

/// Which label and metric names are allowed: any UTF-8, or the alphabet of Prometheus 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameScheme {
    #[default]
    Utf8,
    Legacy,
}

impl NameScheme {
    /// True when a label may have this name.
    pub fn allows_label(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy_label_name(name),
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    /// Every action, in the order of Prometheus' documentation.
    pub const ALL: [Self; 11] = [
        Self::Replace,
        Self::Keep,
        Self::Drop,
        Self::KeepEqual,
        Self::DropEqual,
        Self::HashMod,
        Self::LabelMap,
        Self::LabelDrop,
        Self::LabelKeep,
        Self::Lowercase,
        Self::Uppercase,
    ];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::KeepEqual => "keepequal",
            Self::DropEqual => "dropequal",
            Self::HashMod => "hashmod",
            Self::LabelMap => "labelmap",
            Self::LabelDrop => "labeldrop",
            Self::LabelKeep => "labelkeep",
            Self::Lowercase => "lowercase",
            Self::Uppercase => "uppercase",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str().eq_ignore_ascii_case(text))
    }
}

const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REPLACEMENT: &str = "$1";

/// One relabelling rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig")]
pub struct RelabelConfig {
    /// Labels whose values are joined with `separator`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub separator: String,
    #[serde(serialize_with = "pattern_text")]
    pub regex: Pattern,
    #[serde(skip_serializing_if = "is_zero")]
    pub modulus: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replacement: String,
    pub action: Action,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn pattern_text<S: Serializer>(pattern: &Pattern, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(pattern.as_str())
}

/// Why a rule was refused; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RelabelError {
    #[error("relabel action cannot be empty")]
    EmptyAction,
    #[error("unknown relabel action {}", quote(.0))]
    UnknownAction(String),
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    ZeroModulus,
    #[error("relabel configuration for {0} action requires 'target_label' value")]
    NoTarget(&'static str),
    #[error("{} is invalid 'target_label' for {action} action", quote(label))]
    InvalidTarget { label: String, action: &'static str },
    #[error("{} is invalid 'replacement' for {action} action", quote(text))]
    InvalidReplacement { text: String, action: &'static str },
    #[error("'replacement' can not be set for {0} action")]
    ReplacementSet(&'static str),
    #[error("{0} action requires only 'regex', and no other fields")]
    OnlyRegex(&'static str),
    #[error("{0} action requires only 'source_labels' and `target_label`, and no other fields")]
    OnlySourceAndTarget(&'static str),
    #[error(transparent)]
    Regex(#[from] RegexError),
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    source_labels: Vec<String>,
    separator: String,
    regex: String,
    modulus: u64,
    target_label: String,
    replacement: String,
    action: String,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: DEFAULT_SEPARATOR.into(),
            regex: DEFAULT_REGEX.into(),
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.into(),
            action: "replace".into(),
        }
    }
}

impl TryFrom<RawConfig> for RelabelConfig {
    type Error = RelabelError;

    fn try_from(raw: RawConfig) -> Result<Self, RelabelError> {
        if raw.action.is_empty() {
            return Err(RelabelError::EmptyAction);
        }
        let action = Action::parse(&raw.action)
            .ok_or_else(|| RelabelError::UnknownAction(raw.action.to_lowercase()))?;
        Ok(Self {
            source_labels: raw.source_labels,
            separator: raw.separator,
            regex: Pattern::new(&raw.regex)?,
            modulus: raw.modulus,
            target_label: raw.target_label,
            replacement: raw.replacement,
            action,
        })
    }
}

impl Default for RelabelConfig {
    /// `replace` with Prometheus' defaults, which does nothing until a target is named.
    fn default() -> Self {
        Self::try_from(RawConfig::default()).expect("BUG: the default relabel rule is valid")
    }
}

impl RelabelConfig {
    /// Checks the rule's fields against each other, as Prometheus does at load.
    pub fn validate(&self, scheme: NameScheme) -> Result<(), RelabelError> {
        use Action::*;
        let name = self.action.as_str();
        if self.action == HashMod && self.modulus == 0 {
            return Err(RelabelError::ZeroModulus);
        }
        let needs_target = matches!(
            self.action,
            Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual
        );
        if needs_target && self.target_label.is_empty() {
            return Err(RelabelError::NoTarget(name));
        }
        let target_ok = match self.action {
            Replace if self.target_label.contains('$') => {
                is_name_template(&self.target_label, scheme)
            }
            _ => scheme.allows_label(&self.target_label),
        };
        if needs_target && !target_ok {
            return Err(RelabelError::InvalidTarget {
                label: self.target_label.clone(),
                action: name,
            });
        }
        let default_replacement = self.replacement == DEFAULT_REPLACEMENT;
        if matches!(self.action, Lowercase | Uppercase | KeepEqual | DropEqual)
            && !default_replacement
        {
            return Err(RelabelError::ReplacementSet(name));
        }
        if self.action == LabelMap && !is_name_template(&self.replacement, scheme) {
            return Err(RelabelError::InvalidReplacement {
                text: self.replacement.clone(),
                action: name,
            });
        }
        let plain = self.modulus == 0 && self.separator == DEFAULT_SEPARATOR && default_replacement;
        let default_regex = self.regex.as_str() == DEFAULT_REGEX;
        if matches!(self.action, KeepEqual | DropEqual) && !(plain && default_regex) {
            return Err(RelabelError::OnlySourceAndTarget(name));
        }
        let unaimed = self.source_labels.is_empty() && self.target_label.is_empty();
        if matches!(self.action, LabelDrop | LabelKeep) && !(plain && unaimed) {
            return Err(RelabelError::OnlyRegex(name));
        }
        Ok(())
    }
}

/// True when the text is a label name in which `$name`, `${name}` and `$1` may stand.
fn is_name_template(text: &str, scheme: NameScheme) -> bool {
    let mut chars = text.chars().peekable();
    let mut at_start = true;
    while let Some(c) = chars.next() {
        let ok = match c {
            '$' if chars.next_if_eq(&'{').is_some() => {
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                // `take_while` swallows the brace; a text that ends before it has none.
                !name.is_empty() && text.matches('{').count() == text.matches('}').count()
            }
            '$' => chars.peek().is_some_and(|c| c.is_alphanumeric() || *c == '_'),
            '{' | '}' => false,
            _ if scheme == NameScheme::Utf8 => true,
            c if at_start => c.is_ascii_alphabetic() || c == '_',
            c => c.is_ascii_alphanumeric() || c == '_',
        };
        if !ok {
            return false;
        }
        // What follows a variable may be a digit: `$1` is one.
        at_start = false;
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: &str) -> RawConfig {
        RawConfig { action: action.into(), ..RawConfig::default() }
    }

    fn refusal(raw: RawConfig, scheme: NameScheme) -> String {
        match RelabelConfig::try_from(raw).and_then(|c| c.validate(scheme)) {
            Ok(()) => "ok".into(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn rules_are_refused_in_the_words_of_prometheus() {
        let target =
            |action: &str, target: &str| RawConfig { target_label: target.into(), ..rule(action) };
        for (raw, scheme, expected) in [
            (rule(""), NameScheme::Utf8, "relabel action cannot be empty"),
            (rule("Bogus"), NameScheme::Utf8, "unknown relabel action \"bogus\""),
            (
                target("hashmod", "a"),
                NameScheme::Utf8,
                "relabel configuration for hashmod requires non-zero modulus",
            ),
            (
                rule("replace"),
                NameScheme::Utf8,
                "relabel configuration for replace action requires 'target_label' value",
            ),
            (
                target("lowercase", "${3}"),
                NameScheme::Legacy,
                "\"${3}\" is invalid 'target_label' for lowercase action",
            ),
            (target("replace", "a.b"), NameScheme::Utf8, "ok"),
            (
                target("replace", "a.b"),
                NameScheme::Legacy,
                "\"a.b\" is invalid 'target_label' for replace action",
            ),
            (target("replace", "x_${1}_$name"), NameScheme::Legacy, "ok"),
            (
                target("replace", "x_${1"),
                NameScheme::Utf8,
                "\"x_${1\" is invalid 'target_label' for replace action",
            ),
            (
                RawConfig { replacement: "${x".into(), ..rule("labelmap") },
                NameScheme::Utf8,
                "\"${x\" is invalid 'replacement' for labelmap action",
            ),
            (
                RawConfig { replacement: "x".into(), ..target("uppercase", "a") },
                NameScheme::Utf8,
                "'replacement' can not be set for uppercase action",
            ),
            (
                target("labeldrop", "a"),
                NameScheme::Utf8,
                "labeldrop action requires only 'regex', and no other fields",
            ),
            (
                RawConfig { regex: "x".into(), ..target("keepequal", "a") },
                NameScheme::Utf8,
                "keepequal action requires only 'source_labels' and `target_label`, and no other \
                 fields",
            ),
        ] {
            assert_eq!(refusal(raw, scheme), expected);
        }
        assert!(
            refusal(RawConfig { regex: "(".into(), ..rule("keep") }, NameScheme::Utf8)
                .starts_with("error parsing regexp: ")
        );
    }
}
