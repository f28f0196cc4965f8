//! `--enable-feature`: Prometheus' names for what is experimental.

use clap::Args;

use crate::parser::ParserOptions;
use crate::promqltest;
use crate::query::EngineOptions;

/// Features that have an effect, beyond those the parser knows.
const ENGINE: &[&str] = &[
    "promql-delayed-name-removal",
    "promql-per-step-stats",
    "use-start-timestamps",
    "type-and-unit-labels",
];
const PARSER: &[&str] = &[
    "promql-experimental-functions",
    "promql-extended-range-selectors",
    "promql-binop-fill-modifiers",
];
/// Several rules of a group may be evaluated at once.
const CONCURRENT_RULES: &str = "concurrent-rule-eval";
/// What the head holds is left in a file when the store is closed.
const SNAPSHOTS: &str = "memory-snapshot-on-shutdown";
/// Exemplars are kept.
const EXEMPLARS: &str = "exemplar-storage";
/// The configuration is loaded again when it changes.
const AUTO_RELOAD: &str = "auto-reload-config";
/// Always on, as in Prometheus 3.14.
const ALWAYS_ON: &[&str] = &["promql-duration-expr", "native-histograms", "promql-at-modifier"];

/// `--enable-feature`, before or after the name of any command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FeatureFlags {
    /// Comma-separated features to enable; names are those of Prometheus
    /// (promql-experimental-functions, promql-extended-range-selectors,
    /// promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats,
    /// type-and-unit-labels, use-start-timestamps, concurrent-rule-eval, exemplar-storage,
    /// memory-snapshot-on-shutdown, auto-reload-config).
    /// Repeatable.
    #[arg(long = "enable-feature", value_name = "LIST", value_delimiter = ',', global = true)]
    enable_feature: Vec<String>,
}

impl FeatureFlags {
    fn has(&self, name: &str) -> bool {
        self.enable_feature.iter().any(|f| f == name)
    }

    /// Which experimental syntax is accepted.
    pub fn parser(&self) -> ParserOptions {
        ParserOptions {
            experimental_functions: self.has(PARSER[0]),
            extended_range_selectors: self.has(PARSER[1]),
            binop_fill_modifiers: self.has(PARSER[2]),
        }
    }

    /// Engine settings with the features applied; everything else is default.
    pub fn engine(&self) -> EngineOptions {
        EngineOptions {
            parser: self.parser(),
            delayed_name_removal: self.has(ENGINE[0]),
            per_step_stats: self.has(ENGINE[1]),
            use_start_timestamps: self.has(ENGINE[2]),
            type_and_unit_labels: self.has(ENGINE[3]),
            ..EngineOptions::default()
        }
    }

    /// Settings for `.test` scripts: what they expect, and what was asked for besides.
    pub fn script_engine(&self) -> EngineOptions {
        let options = promqltest::engine_options();
        EngineOptions {
            per_step_stats: options.per_step_stats || self.has(ENGINE[1]),
            type_and_unit_labels: options.type_and_unit_labels || self.has(ENGINE[3]),
            ..options
        }
    }

    /// What is named, and what a flag of its own has turned on.
    pub fn enabled(&self, auto_reload: bool) -> Vec<String> {
        let mut all = self.enable_feature.clone();
        all.extend(auto_reload.then(|| AUTO_RELOAD.to_owned()));
        all
    }

    /// Whether the configuration is loaded again when it changes.
    pub fn auto_reload(&self) -> bool {
        self.has(AUTO_RELOAD)
    }

    /// Whether several rules of a group may be evaluated at once.
    pub fn concurrent_rule_eval(&self) -> bool {
        self.has(CONCURRENT_RULES)
    }

    /// Whether what the head holds is left in a file when the store is closed.
    pub fn memory_snapshots(&self) -> bool {
        self.has(SNAPSHOTS)
    }

    /// Whether exemplars are kept.
    pub fn exemplar_storage(&self) -> bool {
        self.has(EXEMPLARS)
    }

    /// Whether names are dropped at the end of a query.
    pub fn delayed_name_removal(&self) -> bool {
        self.has(ENGINE[0])
    }

    /// Names each unknown feature on standard error, in promtool's words.
    pub fn warn_of_unknown(&self) {
        for feature in self.unknown() {
            eprintln!("  WARNING: Unknown feature passed to --enable-feature: {feature}");
        }
    }

    /// Features that were asked for and have no effect here.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let known = |f: &&str| {
            [ENGINE, PARSER, ALWAYS_ON, &[AUTO_RELOAD, CONCURRENT_RULES, EXEMPLARS, SNAPSHOTS]]
                .iter()
                .any(|list| list.contains(f))
        };
        self.enable_feature.iter().map(String::as_str).filter(move |f| !known(f))
    }
}
