//! `watchfire check config`: configurations, the rule files they name, and what else they
//! refer to.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::rules::{LintFlags, show_rules};
use super::{FeatureFlags, Outcome, say, show_failure};
use crate::cli::file_kind::{FileKind, show_help};
use crate::config::{self, CheckProblem, Config};
use crate::model::duration::{format_duration, parse_duration};
use crate::rules::config::check_file;

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only check the syntax: do not look whether files that are named exist.
    #[arg(long)]
    syntax_only: bool,
    #[command(flatten)]
    lint: LintFlags,
    /// The server's lookback, for --lint=too-long-scrape-interval.
    #[arg(long = "query.lookback-delta", default_value = "5m")]
    lookback_delta: String,
}

/// Runs `watchfire check config`.
pub(super) fn run(args: &ConfigArgs, features: &FeatureFlags) -> ExitCode {
    let lookback_ms = match parse_duration(&args.lookback_delta) {
        Ok(ms) => ms,
        Err(error) => return crate::cli::fail(&format!("--query.lookback-delta: {error}")),
    };
    let mut outcome = Outcome::default();
    let checks = args.lint.checks(&["duplicate-rules", "too-long-scrape-interval"]);
    let options = args.lint.load_options(features);
    for file in &args.files {
        let Some(config) = show_config(file, args.syntax_only, &mut outcome) else { continue };
        let rules = config.rule_paths().unwrap_or_default();
        for path in if args.syntax_only { Vec::new() } else { rules } {
            say(&format_args!("Checking {}", path.display()));
            show_rules(&check_file(&path, &options), &checks, &mut outcome);
        }
        if checks.contains("too-long-scrape-interval") {
            show_long_intervals(&config, lookback_ms, &mut outcome);
        }
    }
    outcome.exit_code(args.lint.lint_fatal)
}

/// Checks one configuration; gives it back when it can be used.
fn show_config(file: &Path, syntax_only: bool, outcome: &mut Outcome) -> Option<Config> {
    say(&format_args!("Checking {}", file.display()));
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            show_failure(&error, outcome);
            show_help(file, FileKind::Config);
            return None;
        }
    };
    for warning in &loaded.warnings {
        eprintln!("  WARNING: {warning}");
    }
    if !syntax_only {
        let mut bad = false;
        for problem in config::check_references(&loaded.config) {
            match problem {
                CheckProblem::Warning(text) => eprintln!("  WARNING: {text}"),
                CheckProblem::Error(text) => {
                    eprintln!("  FAILED: {text}");
                    bad = true;
                }
            }
        }
        if bad {
            say(&"");
            outcome.failed = true;
            return None;
        }
    }
    match loaded.config.rule_paths() {
        Ok(rules) if !rules.is_empty() => {
            say(&format_args!("  SUCCESS: {} rule files found", rules.len()))
        }
        Ok(_) => {}
        Err(error) => {
            show_failure(&error, outcome);
            return None;
        }
    }
    say(&format_args!(" SUCCESS: {} is valid prometheus config file syntax\n", file.display()));
    Some(loaded.config)
}

/// A target scraped no more often than the lookback looks stale between scrapes.
fn show_long_intervals(config: &Config, lookback_ms: i64, outcome: &mut Outcome) {
    for scrape in config.all_scrape_configs() {
        if scrape.scrape_interval_ms >= lookback_ms {
            eprintln!(
                "  FAILED: too long scrape interval found, data point will be marked as stale - job: {}, interval: {}",
                scrape.job_name,
                format_duration(scrape.scrape_interval_ms)
            );
            outcome.linted = true;
        }
    }
}
