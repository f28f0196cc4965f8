//! Alerts of a rule about itself: that it finds no data, cannot be evaluated, or was
//! limited. One each per rule; they carry what of the rule's labels needs no sample, so
//! that they reach whom the rule's alerts reach.

use super::alert::{AlertSample, Truncated};
use super::config::RuleSpec;
use crate::model::Labels;

/// Name of the label that tells a notice from the rule's alerts, and notices apart.
pub const REASON: &str = "watchfire_reason";

/// What the notices of one rule look like.
#[derive(Clone, Debug)]
pub struct Notices {
    no_data: Labels,
    error: Labels,
    limit: Labels,
    /// The rule's annotations that need no sample.
    annotations: Labels,
    name: String,
    expr: String,
}

impl Notices {
    /// The notices of a rule.
    pub(super) fn new(
        rule: &RuleSpec,
        annotations: &std::collections::BTreeMap<String, String>,
    ) -> Self {
        let fixed = |pairs: &std::collections::BTreeMap<String, String>| {
            Labels::from_pairs(pairs.iter().filter(|(_, v)| !v.contains("{{")))
        };
        let labels = fixed(&rule.labels);
        let name = rule.name();
        let because =
            |reason: &str| labels.builder().set("alertname", name).set(REASON, reason).build();
        Self {
            no_data: because("no_data"),
            error: because("error"),
            limit: because("limit"),
            annotations: fixed(annotations),
            name: name.to_owned(),
            expr: rule.expr.printed.clone(),
        }
    }

    /// The labels of every notice the rule may raise.
    pub fn labels(&self) -> impl Iterator<Item = &Labels> {
        [&self.no_data, &self.error, &self.limit].into_iter()
    }

    /// The rule's input is not there.
    pub fn no_data(&self) -> AlertSample {
        let expr = &self.expr;
        self.sample(
            &self.no_data,
            format!("{}: no data", self.name),
            format!(
                "The expression finds no series to look at, so this alert cannot fire: check that what it selects is still collected, under these names and labels. Active alerts are held. Expression: {expr}"
            ),
            0.0,
        )
    }

    /// The rule cannot be evaluated.
    pub fn error(&self, error: &str) -> AlertSample {
        let expr = &self.expr;
        self.sample(
            &self.error,
            format!("{}: evaluation fails", self.name),
            format!(
                "The rule cannot be evaluated, so this alert cannot fire; active alerts are held. Error: {error}. Expression: {expr}"
            ),
            0.0,
        )
    }

    /// Some alerts were refused; the value is how many.
    pub fn limit(&self, truncated: Truncated) -> AlertSample {
        let Truncated { kept, found } = truncated;
        let (refused, expr) = (found.saturating_sub(kept), &self.expr);
        self.sample(
            &self.limit,
            format!("{}: limited to {kept} of {found} alerts", self.name),
            format!(
                "The rule matches more than its limit allows: {kept} alerts are kept, those that were active first, and {refused} are neither stored nor sent. Narrow the expression, or raise the group's limit, --rules.max-active-alerts or --rules.active-alerts-memory, whichever it is. Expression: {expr}"
            ),
            refused as f64,
        )
    }

    fn sample(
        &self,
        labels: &Labels,
        summary: String,
        description: String,
        value: f64,
    ) -> AlertSample {
        let mut annotations = self.annotations.builder();
        annotations.set("summary", &summary).set("description", &description);
        AlertSample { labels: labels.clone(), annotations: annotations.build(), value }
    }
}
