//! `watchfire test`: rules against given series, and PromQL against scripts.

mod promql;
mod rules;

use std::process::ExitCode;

use clap::Subcommand;

use super::FeatureFlags;

#[derive(Debug, Subcommand)]
pub(crate) enum TestCommand {
    /// Run unit tests of rules, in promtool's format.
    Rules(rules::RulesArgs),
    /// Run `.test` scripts of PromQL, in the notation of Prometheus' promqltest.
    ///
    /// Everything experimental in the language is on and a query may hold 10,000 samples,
    /// as the scripts of Prometheus expect; --enable-feature adds type-and-unit-labels.
    /// Every instant query also runs with its selectors pinned at other times, and as the
    /// middle of a range query.
    Promql(promql::PromqlArgs),
}

/// Runs `watchfire test ...`.
pub(crate) fn run(command: &TestCommand, features: &FeatureFlags) -> ExitCode {
    match command {
        TestCommand::Rules(args) => rules::run(args, features),
        TestCommand::Promql(args) => promql::run(args, features),
    }
}
