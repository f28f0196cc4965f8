//! What rule evaluation counts, under Prometheus' names.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::budget::Load;
use super::outcome::Outcome;
use crate::telemetry::{Registry, Summary};

/// `rule_group="FILE;NAME"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GroupLabel {
    rule_group: String,
}

/// What is set aside: in which file, and what it is (file, group, rule).
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QuarantineLabel {
    file: String,
    kind: String,
}

/// Files that are counted by name; what lies in further ones is counted under no name.
const QUARANTINE_FILES_MAX: usize = 200;

type Counters = Family<GroupLabel, Counter>;
type Gauges = Family<GroupLabel, Gauge<f64, AtomicU64>>;

/// `outcome="..."`, one of [`Outcome::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Pending and firing alerts of all rules, and the memory they take.
#[derive(Clone, Debug, Default)]
pub(super) struct ActiveAlerts {
    count: Gauge,
    bytes: Gauge,
}

impl ActiveAlerts {
    pub(super) fn set(&self, load: Load) {
        self.count.set(i64::try_from(load.alerts).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(load.bytes).unwrap_or(i64::MAX));
    }
}

/// Bounds of the duration histograms, in seconds.
const DURATION_BUCKETS: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

/// The metrics of the rule manager. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    evaluation_duration: Histogram,
    evaluation_duration_summary: Summary,
    group_duration: Histogram,
    group_duration_summary: Summary,
    pub(super) template_expansions: Counter,
    pub(super) template_failures: Counter,
    pub(super) active_alerts: ActiveAlerts,
    pub(super) limited: Counter,
    outcomes: Family<OutcomeLabel, Counter>,
    catch_up_evaluations: Counters,
    catch_up_skipped: Counters,
    pub(super) order_timeouts: Counter,
    iterations_missed: Counters,
    iterations: Counters,
    evaluations: Counters,
    evaluation_failures: Counters,
    interval: Gauges,
    last_evaluation: Gauges,
    last_duration: Gauges,
    last_rule_duration_sum: Gauges,
    last_restore_duration: Gauges,
    rules: Gauges,
    last_samples: Gauges,
    interval_used: Gauges,
    budget: Gauges,
    budget_exceeded: Counters,
    overrun_forecast: Gauges,
    quarantined: Family<QuarantineLabel, Gauge>,
}

/// The metrics of one group.
#[derive(Clone, Debug)]
pub(super) struct GroupMetrics {
    pub catch_up_evaluations: Counter,
    pub catch_up_skipped: Counter,
    pub iterations_missed: Counter,
    pub iterations: Counter,
    pub evaluations: Counter,
    pub evaluation_failures: Counter,
    pub interval_seconds: Gauge<f64, AtomicU64>,
    pub last_evaluation_seconds: Gauge<f64, AtomicU64>,
    pub last_duration_seconds: Gauge<f64, AtomicU64>,
    pub last_rule_duration_sum_seconds: Gauge<f64, AtomicU64>,
    pub last_restore_seconds: Gauge<f64, AtomicU64>,
    pub rules: Gauge<f64, AtomicU64>,
    pub last_samples: Gauge<f64, AtomicU64>,
    pub interval_used: Gauge<f64, AtomicU64>,
    pub budget: Gauge<f64, AtomicU64>,
    pub budget_exceeded: Counter,
    pub overrun_forecast_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            evaluation_duration: Histogram::new(DURATION_BUCKETS),
            evaluation_duration_summary: Summary::new(&[0.5, 0.9, 0.99]),
            group_duration: Histogram::new(DURATION_BUCKETS),
            group_duration_summary: Summary::new(&[0.01, 0.05, 0.5, 0.9, 0.99]),
            template_expansions: Counter::default(),
            template_failures: Counter::default(),
            active_alerts: ActiveAlerts::default(),
            limited: Counter::default(),
            outcomes: Family::default(),
            catch_up_evaluations: Family::default(),
            catch_up_skipped: Family::default(),
            order_timeouts: Counter::default(),
            iterations_missed: Family::default(),
            iterations: Family::default(),
            evaluations: Family::default(),
            evaluation_failures: Family::default(),
            interval: Family::default(),
            last_evaluation: Family::default(),
            last_duration: Family::default(),
            last_rule_duration_sum: Family::default(),
            last_restore_duration: Family::default(),
            rules: Family::default(),
            last_samples: Family::default(),
            interval_used: Family::default(),
            budget: Family::default(),
            budget_exceeded: Family::default(),
            overrun_forecast: Family::default(),
            quarantined: Family::default(),
        };
        metrics.register_totals(registry);
        metrics.register_groups(registry);
        metrics.register_policies(registry);
        metrics
    }

    /// Notes how long rules took.
    pub(super) fn observe_rules(&self, seconds: &[f64]) {
        seconds.iter().for_each(|seconds| self.evaluation_duration.observe(*seconds));
        self.evaluation_duration_summary.observe_all(seconds.iter().copied());
    }

    /// Notes how long a group took.
    pub(super) fn observe_group(&self, seconds: f64) {
        self.group_duration.observe(seconds);
        self.group_duration_summary.observe(seconds);
    }

    fn register_totals(&self, registry: &mut Registry) {
        registry.register(
            "prometheus_rule_evaluation_duration_seconds",
            "How long evaluating a rule took",
            self.evaluation_duration_summary.clone(),
        );
        registry.register(
            "prometheus_rule_group_duration_seconds",
            "How long evaluating a rule group took",
            self.group_duration_summary.clone(),
        );
        registry.register(
            "prometheus_rule_evaluation_duration_histogram_seconds",
            "How long evaluating a rule took",
            self.evaluation_duration.clone(),
        );
        registry.register(
            "prometheus_rule_group_duration_histogram_seconds",
            "How long evaluating a rule group took",
            self.group_duration.clone(),
        );
        registry.register(
            "prometheus_template_text_expansions",
            "Templates of labels and annotations expanded",
            self.template_expansions.clone(),
        );
        registry.register(
            "prometheus_template_text_expansion_failures",
            "Templates of labels and annotations whose expansion failed",
            self.template_failures.clone(),
        );
        registry.register(
            "watchfire_rules_order_timeouts",
            "Rules that did not wait any longer for a group they read from in the same tick",
            self.order_timeouts.clone(),
        );
        registry.register(
            "watchfire_rules_quarantined",
            "Rules, groups and files that cannot be used as written and were set aside",
            self.quarantined.clone(),
        );
    }

    /// Replaces the counts of what is set aside.
    pub(super) fn set_quarantined(&self, counts: HashMap<(String, &'static str), i64>) {
        self.quarantined.clear();
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort();
        let mut files = HashSet::new();
        for ((file, kind), count) in counts {
            let named = files.len() < QUARANTINE_FILES_MAX || files.contains(&file);
            let label = QuarantineLabel {
                file: if named { file.clone() } else { String::new() },
                kind: kind.to_owned(),
            };
            if named {
                files.insert(file);
            }
            self.quarantined.get_or_create(&label).inc_by(count);
        }
    }

    /// Notes how a rule came out.
    pub(super) fn count_outcome(&self, outcome: Outcome) {
        self.outcomes.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    fn register_policies(&self, registry: &mut Registry) {
        for outcome in Outcome::ALL {
            self.outcomes.get_or_create_owned(&OutcomeLabel { outcome: outcome.as_str() });
        }
        registry.register(
            "watchfire_rules_evaluation_outcomes",
            "Rule evaluations by what came out: the condition matched, was false, had no data to look at, had answers of part of the sources only, or failed",
            self.outcomes.clone(),
        );
        registry.register(
            "watchfire_rules_active_alerts",
            "Pending and firing alerts of all rules, at the last evaluation of each",
            self.active_alerts.count.clone(),
        );
        registry.register(
            "watchfire_rules_active_alerts_bytes",
            "About what pending and firing alerts take in memory, their series in the store included",
            self.active_alerts.bytes.clone(),
        );
        registry.register(
            "watchfire_rules_limited_evaluations",
            "Rule evaluations of whose result a limit left a part out",
            self.limited.clone(),
        );
        registry.register(
            "watchfire_rules_catch_up_evaluations",
            "Missed evaluations of a group that were made up for at their own time",
            self.catch_up_evaluations.clone(),
        );
        registry.register(
            "watchfire_rules_catch_up_skipped",
            "Missed evaluations of a group with catch_up that were too old, too many or failed, and will not be made up for",
            self.catch_up_skipped.clone(),
        );
    }

    fn register_groups(&self, registry: &mut Registry) {
        let counters = [
            (
                "prometheus_rule_group_iterations_missed",
                "Evaluations of a group that were skipped because the one before took too long",
                &self.iterations_missed,
            ),
            (
                "prometheus_rule_group_iterations",
                "Evaluations of a group that were due, skipped ones included",
                &self.iterations,
            ),
            ("prometheus_rule_evaluations", "Rule evaluations", &self.evaluations),
            (
                "prometheus_rule_evaluation_failures",
                "Rule evaluations that failed",
                &self.evaluation_failures,
            ),
            (
                "watchfire_rules_group_budget_exceeded",
                "Evaluations of a group that took more of its interval than its budget",
                &self.budget_exceeded,
            ),
        ];
        for (name, help, metric) in counters {
            registry.register(name, help, metric.clone());
        }
        let gauges = [
            (
                "prometheus_rule_group_interval_seconds",
                "Time between two evaluations of a group",
                &self.interval,
            ),
            (
                "prometheus_rule_group_last_evaluation_timestamp_seconds",
                "When a group was last evaluated",
                &self.last_evaluation,
            ),
            (
                "prometheus_rule_group_last_duration_seconds",
                "How long the last evaluation of a group took",
                &self.last_duration,
            ),
            (
                "prometheus_rule_group_last_rule_duration_sum_seconds",
                "Sum of how long the rules of a group took the last time",
                &self.last_rule_duration_sum,
            ),
            (
                "prometheus_rule_group_last_restore_duration_seconds",
                "How long restoring a group's alerts took",
                &self.last_restore_duration,
            ),
            ("prometheus_rule_group_rules", "Rules in a group", &self.rules),
            (
                "prometheus_rule_group_last_evaluation_samples",
                "Samples the last evaluation of a group returned",
                &self.last_samples,
            ),
            (
                "watchfire_rules_group_interval_used_ratio",
                "Share of its interval a group took over its last evaluations",
                &self.interval_used,
            ),
            (
                "watchfire_rules_group_budget_ratio",
                "Share of its interval a group may take",
                &self.budget,
            ),
            (
                "watchfire_rules_group_overrun_forecast_seconds",
                "Time until a group will take longer than its interval; +Inf when none is in sight",
                &self.overrun_forecast,
            ),
        ];
        for (name, help, metric) in gauges {
            registry.register(name, help, metric.clone());
        }
    }

    /// The metrics of a group, made at zero when they are new.
    pub(super) fn group(&self, key: &str) -> GroupMetrics {
        let label = GroupLabel { rule_group: key.to_owned() };
        GroupMetrics {
            catch_up_evaluations: self.catch_up_evaluations.get_or_create_owned(&label),
            catch_up_skipped: self.catch_up_skipped.get_or_create_owned(&label),
            iterations_missed: self.iterations_missed.get_or_create_owned(&label),
            iterations: self.iterations.get_or_create_owned(&label),
            evaluations: self.evaluations.get_or_create_owned(&label),
            evaluation_failures: self.evaluation_failures.get_or_create_owned(&label),
            interval_seconds: self.interval.get_or_create_owned(&label),
            last_evaluation_seconds: self.last_evaluation.get_or_create_owned(&label),
            last_duration_seconds: self.last_duration.get_or_create_owned(&label),
            last_rule_duration_sum_seconds: self.last_rule_duration_sum.get_or_create_owned(&label),
            last_restore_seconds: self.last_restore_duration.get_or_create_owned(&label),
            rules: self.rules.get_or_create_owned(&label),
            last_samples: self.last_samples.get_or_create_owned(&label),
            interval_used: self.interval_used.get_or_create_owned(&label),
            budget: self.budget.get_or_create_owned(&label),
            budget_exceeded: self.budget_exceeded.get_or_create_owned(&label),
            overrun_forecast_seconds: self.overrun_forecast.get_or_create_owned(&label),
        }
    }

    /// Drops the metrics of a group that is gone.
    pub(super) fn forget(&self, key: &str) {
        let label = GroupLabel { rule_group: key.to_owned() };
        for family in [
            &self.catch_up_evaluations,
            &self.catch_up_skipped,
            &self.iterations_missed,
            &self.iterations,
            &self.evaluations,
            &self.evaluation_failures,
            &self.budget_exceeded,
        ] {
            family.remove(&label);
        }
        for family in [
            &self.interval,
            &self.last_evaluation,
            &self.last_duration,
            &self.last_rule_duration_sum,
            &self.last_restore_duration,
            &self.rules,
            &self.last_samples,
            &self.interval_used,
            &self.budget,
            &self.overrun_forecast,
        ] {
            family.remove(&label);
        }
    }
}
