//! `watchfire check`: files and servers, with promtool's outcome lines, exit codes and
//! lint options.

mod config;
mod health;
mod metrics;
mod rules;
mod service_discovery;
mod web_config;

use std::io::Read;
use std::process::ExitCode;

use clap::Subcommand;

use super::{FeatureFlags, say};

/// Largest text read from standard input.
const STDIN_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Check configuration files and the rule files they name.
    Config(config::ConfigArgs),
    /// Check rule files and PrometheusRule manifests; standard input when none is named.
    ///
    /// Looks at what promtool looks at: YAML, field names, durations, expressions,
    /// templates, rules that write the same series.
    ///
    /// Prints SUCCESS with the number of rules, or FAILED with every error, for each file. Ends
    /// with 1 when a file is refused, and with --lint-fatal with 3 when only a lint check found
    /// something. For what is likely to be wrong beyond that see `watchfire rules lint`.
    Rules(rules::RulesArgs),
    /// Check files that say how to serve HTTP (--web.config.file).
    WebConfig(web_config::WebConfigArgs),
    /// Check metrics from standard input, in the text format, for consistency and good names.
    ///
    /// For example: curl -s http://127.0.0.1:9090/metrics | watchfire check metrics
    Metrics(metrics::MetricsArgs),
    /// Show what a scrape job discovers, before and after relabelling.
    ServiceDiscovery(service_discovery::ServiceDiscoveryArgs),
    /// Ask a server whether it is healthy.
    Healthy(health::HealthArgs),
    /// Ask a server whether it is ready to serve.
    Ready(health::HealthArgs),
}

/// What a run of checks has come to.
#[derive(Debug, Default)]
struct Outcome {
    failed: bool,
    linted: bool,
}

impl Outcome {
    fn exit_code(&self, lint_fatal: bool) -> ExitCode {
        match self {
            Self { failed: true, .. } => ExitCode::from(1),
            Self { linted: true, .. } if lint_fatal => ExitCode::from(3),
            _ => ExitCode::SUCCESS,
        }
    }
}

/// Runs `watchfire check ...`.
pub(crate) fn run(command: &CheckCommand, features: &FeatureFlags) -> ExitCode {
    match command {
        CheckCommand::Config(args) => config::run(args, features),
        CheckCommand::Rules(args) => rules::run(args, features),
        CheckCommand::WebConfig(args) => web_config::run(args),
        CheckCommand::Metrics(args) => metrics::run(args),
        CheckCommand::ServiceDiscovery(args) => service_discovery::run(args),
        CheckCommand::Healthy(args) => health::run(args, "-/healthy"),
        CheckCommand::Ready(args) => health::run(args, "-/ready"),
    }
}

/// Standard input, if it is not too large.
pub(in crate::cli) fn stdin_text() -> Result<String, String> {
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock().take(STDIN_BYTES_MAX + 1);
    stdin.read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
    if text.len() as u64 > STDIN_BYTES_MAX {
        return Err(format!("standard input has more than {STDIN_BYTES_MAX} bytes"));
    }
    Ok(text)
}

fn show_failure(text: &dyn std::fmt::Display, outcome: &mut Outcome) {
    eprintln!("  FAILED: {text}");
    say(&"");
    outcome.failed = true;
}
