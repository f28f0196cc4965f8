//! `watchfire rules`: what a person asks about rules beside checking and testing them.

mod template;

use std::process::ExitCode;

use clap::Subcommand;

use super::FeatureFlags;

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Show what a label or annotation of an alert expands to.
    Template(template::TemplateArgs),
}

/// Runs `watchfire rules ...`.
pub(crate) fn run(command: &RulesCommand, features: &FeatureFlags) -> ExitCode {
    match command {
        RulesCommand::Template(args) => template::run(args, features),
    }
}
