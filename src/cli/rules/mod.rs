//! `watchfire rules`: what a person asks about rules beside checking and testing them.

mod diff;
pub(super) mod files;
mod graph;
mod lint;
mod online;
mod template;

use std::process::ExitCode;

use clap::Subcommand;

use super::FeatureFlags;
pub(super) use lint::{LintArgs, Output, report, run as lint, show};

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Show what a change of rules means: what ends, begins anew or is decided otherwise.
    Diff(diff::DiffArgs),
    /// Show which rule reads what which rule writes, and in which order they run.
    Graph(graph::GraphArgs),
    /// Find what is likely to be wrong with rules (docs/lint.md).
    Lint(lint::LintArgs),
    /// Show what a label or annotation of an alert expands to.
    Template(template::TemplateArgs),
}

/// Runs `watchfire rules ...`.
pub(crate) fn run(command: &RulesCommand, features: &FeatureFlags) -> ExitCode {
    match command {
        RulesCommand::Diff(args) => diff::run(args, features),
        RulesCommand::Graph(args) => graph::run(args, features),
        RulesCommand::Lint(args) => lint::run(args, features),
        RulesCommand::Template(args) => template::run(args, features),
    }
}
