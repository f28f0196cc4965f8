//! `watchfire rules`: what a person asks about rules beside checking and testing them.

mod convert;
mod diff;
pub(super) mod files;
mod fmt;
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
    /// Write rule files of one ruler as those of another, and say what that loses.
    ///
    /// Reads rule files of Prometheus, vmalert, Thanos and Mimir, and PrometheusRule objects,
    /// and writes them for one of these. Comments are kept where their text can be.
    ///
    /// What is lost, or means something else afterwards, is said on standard error, a line for
    /// each rule, with a name for the kind of loss. Ends with 1 when a file cannot be
    /// converted, and with --strict with 3 when anything is lost; then nothing is written.
    Convert(convert::ConvertArgs),
    /// Show what a change of rules means: what ends, begins anew or is decided otherwise.
    Diff(diff::DiffArgs),
    /// Put rule files into the standard layout.
    ///
    /// Keys stand in the same order everywhere, expressions are spaced and broken the same
    /// way, comments are kept. What the rules mean stays the same; a file that cannot be read
    /// whole, or whose meaning would change, is left alone and said.
    ///
    /// Without a flag the formatted text goes to standard output. Ends with 1 when a file could
    /// not be formatted, and with --check or --diff with 3 when one is not formatted yet.
    Fmt(fmt::FmtArgs),
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
        RulesCommand::Convert(args) => convert::run(args, features),
        RulesCommand::Diff(args) => diff::run(args, features),
        RulesCommand::Fmt(args) => fmt::run(args, features),
        RulesCommand::Graph(args) => graph::run(args, features),
        RulesCommand::Lint(args) => lint::run(args, features),
        RulesCommand::Template(args) => template::run(args, features),
    }
}
