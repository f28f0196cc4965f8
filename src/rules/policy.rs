//! Choices Prometheus does not offer: what a rule does when its query finds nothing or
//! fails, and what a group does when a rule grows too large or ticks were missed.
//!
//! A choice is written on a rule, on its group or as a flag; the nearest one holds, and
//! the defaults of the flags are Prometheus' behaviour. This module knows the words and
//! which of them holds; what they do is the business of the evaluation.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A word that is none of those a choice has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{given:?} is none of {expected}")]
pub struct UnknownWord {
    given: String,
    /// All words, separated by commas.
    expected: String,
}

/// An enum whose variants are words of a file or flag.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every word, the default first.
            pub const WORDS: &[(&str, Self)] = &[$(($word, Self::$variant)),*];

            /// The word as files and flags have it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let found = Self::WORDS.iter().find(|(word, _)| *word == text);
                found.map(|(_, value)| *value).ok_or_else(|| UnknownWord {
                    given: text.to_owned(),
                    expected: Self::WORDS.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

words! {
    /// `on_no_data`: what becomes of active alerts when the selectors of a rule match no
    /// series at all, as opposed to a condition that no longer holds.
    OnNoData {
        /// Alerts resolve, as in Prometheus.
        #[default]
        Resolve = "resolve",
        /// Alerts whose data is missing stay as they are.
        Keep = "keep",
        /// As `keep`; and when nothing at all is there, an alert about that fires.
        Fire = "fire",
    }
}

words! {
    /// `on_error`: what becomes of active alerts when the query of a rule fails.
    OnError {
        /// Alerts stay as they are, as in Prometheus.
        #[default]
        Keep = "keep",
        /// Alerts resolve.
        Resolve = "resolve",
        /// Alerts stay, and an alert about the failing rule fires.
        Fire = "fire",
    }
}

words! {
    /// `on_limit`: what happens to a rule that makes more than its group's `limit` allows.
    OnLimit {
        /// The evaluation fails and its result is dropped whole, as in Prometheus.
        #[default]
        Fail = "fail",
        /// A stable subset is kept and an alert says so.
        Truncate = "truncate",
    }
}

/// What a rule or a group says about its alerts; `None`: the next outer level decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicySpec {
    pub on_no_data: Option<OnNoData>,
    pub on_error: Option<OnError>,
    /// At least 1.
    pub missing_evals_to_resolve: Option<u32>,
}

/// What a group says about itself as a whole; `None`: the flag decides.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupPolicySpec {
    pub on_limit: Option<OnLimit>,
    pub catch_up_ms: Option<i64>,
    /// Share of the interval, above 0 and at most 1.
    pub budget: Option<f64>,
}

/// What holds where neither rule nor group says anything: the flags `--rules.*`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RulePolicyDefaults {
    pub on_no_data: OnNoData,
    pub on_error: OnError,
    pub missing_evals_to_resolve: u32,
    pub on_limit: OnLimit,
    /// Age of the oldest missed tick that is made up for; 0 makes up for none.
    pub catch_up_ms: i64,
    /// Share of its interval a group may take before that is reported.
    pub group_budget: f64,
    /// Most pending and firing alerts over all rules; 0 is no limit.
    pub max_active_alerts: usize,
    /// Most bytes they may take, as `watchfire_rules_active_alerts_bytes` counts them; 0 is
    /// no limit.
    pub active_alerts_bytes: usize,
    /// Resolved notifications say why in an annotation.
    pub annotate_resolved: bool,
}

impl Default for RulePolicyDefaults {
    fn default() -> Self {
        Self {
            on_no_data: OnNoData::default(),
            on_error: OnError::default(),
            missing_evals_to_resolve: 1,
            on_limit: OnLimit::default(),
            catch_up_ms: 0,
            group_budget: 1.0,
            max_active_alerts: 0,
            active_alerts_bytes: 0,
            annotate_resolved: false,
        }
    }
}

/// What holds for one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub on_no_data: OnNoData,
    pub on_error: OnError,
    /// Evaluations in a row an alert must be missing from before it resolves; at least 1.
    pub missing_evals_to_resolve: u32,
}

impl Default for Policy {
    /// Prometheus' behaviour.
    fn default() -> Self {
        Self::resolve(&RulePolicyDefaults::default(), PolicySpec::default(), PolicySpec::default())
    }
}

impl Policy {
    /// The rule's own choice, else its group's, else the flag's.
    pub fn resolve(defaults: &RulePolicyDefaults, group: PolicySpec, rule: PolicySpec) -> Self {
        Self {
            on_no_data: rule.on_no_data.or(group.on_no_data).unwrap_or(defaults.on_no_data),
            on_error: rule.on_error.or(group.on_error).unwrap_or(defaults.on_error),
            missing_evals_to_resolve: rule
                .missing_evals_to_resolve
                .or(group.missing_evals_to_resolve)
                .unwrap_or(defaults.missing_evals_to_resolve)
                .max(1),
        }
    }
}

/// What holds for one group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupPolicy {
    pub on_limit: OnLimit,
    pub catch_up_ms: i64,
    /// Share of the interval, above 0 and at most 1.
    pub budget: f64,
}

impl Default for GroupPolicy {
    /// Prometheus' behaviour.
    fn default() -> Self {
        Self::resolve(&RulePolicyDefaults::default(), GroupPolicySpec::default())
    }
}

impl GroupPolicy {
    /// The group's own choice, else the flag's.
    pub fn resolve(defaults: &RulePolicyDefaults, group: GroupPolicySpec) -> Self {
        Self {
            on_limit: group.on_limit.unwrap_or(defaults.on_limit),
            catch_up_ms: group.catch_up_ms.unwrap_or(defaults.catch_up_ms),
            budget: group.budget.unwrap_or(defaults.group_budget),
        }
    }
}

/// A budget is no share of an interval.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no share of the interval: want a number above 0 and up to 1, or e.g. 50%")]
pub struct BadBudget(String);

/// Reads `0.5` or `50%`.
pub fn parse_budget(text: &str) -> Result<f64, BadBudget> {
    let (number, whole) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text.trim(), 1.0),
    };
    let share = number.parse::<f64>().ok().map(|n| n / whole);
    share.filter(|s| *s > 0.0 && *s <= 1.0).ok_or_else(|| BadBudget(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for (word, value) in OnNoData::WORDS {
            assert_eq!((word.parse(), value.to_string()), (Ok(*value), (*word).to_owned()));
        }
        for (word, value) in OnError::WORDS {
            assert_eq!((word.parse(), value.to_string()), (Ok(*value), (*word).to_owned()));
        }
        for (word, value) in OnLimit::WORDS {
            assert_eq!((word.parse(), value.to_string()), (Ok(*value), (*word).to_owned()));
        }
        let error = "Keep".parse::<OnNoData>().unwrap_err().to_string();
        assert_eq!(error, "\"Keep\" is none of resolve, keep, fire");
    }

    #[test]
    fn the_nearest_choice_holds() {
        let rule = PolicySpec { on_error: Some(OnError::Fire), ..PolicySpec::default() };
        let group = PolicySpec {
            on_error: Some(OnError::Resolve),
            on_no_data: Some(OnNoData::Keep),
            missing_evals_to_resolve: None,
        };
        let flags = RulePolicyDefaults { missing_evals_to_resolve: 3, ..Default::default() };
        let expected = Policy {
            on_no_data: OnNoData::Keep,
            on_error: OnError::Fire,
            missing_evals_to_resolve: 3,
        };
        assert_eq!(Policy::resolve(&flags, group, rule), expected);
    }

    #[test]
    fn budgets_are_shares() {
        for (text, expected) in
            [("0.5", Some(0.5)), ("50%", Some(0.5)), ("1", Some(1.0)), ("100 %", Some(1.0))]
        {
            assert_eq!(parse_budget(text).ok(), expected, "{text}");
        }
        for text in ["0", "-1", "1.1", "101%", "NaN", "%", "", "half"] {
            assert!(parse_budget(text).is_err(), "{text}");
        }
    }
}
