//! `watchfire promql`: what the parser and the registries know, without any data.

mod matchers;
mod reference;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::{FeatureFlags, fail, say};
use crate::api::tree_json;
use crate::parser::{self, Expr};

#[derive(Debug, Subcommand)]
pub(crate) enum PromqlCommand {
    /// Show the syntax tree of an expression, with types and byte positions.
    Parse {
        #[command(flatten)]
        query: QueryArg,
        /// An indented tree, or the JSON of the API's parse_query.
        #[arg(long, default_value = "text")]
        format: TreeFormat,
    },
    /// Print an expression in the standard layout.
    Format {
        #[command(flatten)]
        query: QueryArg,
    },
    /// Change the label matchers of every selector of an expression.
    #[command(subcommand)]
    LabelMatchers(matchers::MatchersCommand),
    /// List the functions and aggregators.
    Functions {
        /// How to list them; docs/functions.md is made with `markdown`.
        #[arg(long, default_value = "text")]
        format: reference::Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QueryArg {
    /// The expression.
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expr: String,
}

impl QueryArg {
    /// Parses it; an error is what Prometheus says, with the position.
    fn parse(&self, features: &FeatureFlags) -> Result<Expr, String> {
        parser::parse(&self.expr, &features.parser()).map_err(|errors| errors.to_string())
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TreeFormat {
    Text,
    Json,
}

/// Runs `watchfire promql ...`.
pub(crate) fn run(command: &PromqlCommand, features: &FeatureFlags) -> ExitCode {
    let text = match command {
        PromqlCommand::Parse { query, format } => query.parse(features).map(|expr| match format {
            TreeFormat::Text => parser::outline(&expr),
            TreeFormat::Json => tree_json(&expr).to_string(),
        }),
        PromqlCommand::Format { query } => query.parse(features).map(|e| parser::pretty(&e)),
        PromqlCommand::LabelMatchers(command) => command.rewritten(features),
        PromqlCommand::Functions { format } => Ok(reference::reference(*format)),
    };
    match text {
        Ok(text) => {
            say(&text.trim_end());
            ExitCode::SUCCESS
        }
        // As promtool prints it: a line that begins with the position.
        Err(error) if error.starts_with(|c: char| c.is_ascii_digit()) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
        Err(error) => fail(&error),
    }
}
