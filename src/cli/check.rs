//! `watchfire check`: configurations and rule files, with promtool's outcome lines, exit
//! codes and lint options.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{FeatureFlags, say};
use crate::config::{self, CheckProblem, Config};
use crate::model::duration::{format_duration, parse_duration};
use crate::rules::config::{CheckReport, LoadOptions, check_file, check_source, duplicates_text};

/// Largest rule file read from standard input.
const STDIN_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Check configuration files and the rule files they name.
    Config {
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
    },
    /// Check rule files and PrometheusRule manifests; standard input when none is named.
    Rules {
        /// The files.
        files: Vec<PathBuf>,
        #[command(flatten)]
        lint: LintFlags,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LintFlags {
    /// Comma-separated lint checks: all, duplicate-rules, too-long-scrape-interval
    /// (configurations only), none.
    #[arg(long, default_value = "duplicate-rules")]
    lint: String,
    /// Exit with 3 when a lint check finds something.
    #[arg(long)]
    lint_fatal: bool,
    /// Accept unknown fields in rule files.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Read the keys of vmalert, Thanos and Mimir in rule files as `watchfire serve` does,
    /// instead of refusing them as promtool does.
    #[arg(long)]
    dialects: bool,
}

impl LintFlags {
    /// The checks that are on; an unknown one is said and left out.
    fn checks(&self, known: &[&'static str]) -> BTreeSet<&'static str> {
        let mut on = BTreeSet::new();
        for word in self.lint.split(',').map(str::trim) {
            match word {
                "all" => on.extend(known),
                "none" | "" => {}
                word => match known.iter().find(|k| **k == word) {
                    Some(known) => {
                        on.insert(*known);
                    }
                    None => eprintln!("WARNING: unknown lint option: {word:?}"),
                },
            }
        }
        on
    }

    fn load_options(&self, features: &FeatureFlags) -> LoadOptions {
        LoadOptions {
            parser: features.parser(),
            ignore_unknown_fields: self.ignore_unknown_fields,
            dialects: self.dialects,
            ..LoadOptions::default()
        }
    }
}

/// What a run of checks has come to.
#[derive(Debug, Default)]
struct Outcome {
    failed: bool,
    linted: bool,
}

impl Outcome {
    fn exit_code(&self, lint: &LintFlags) -> ExitCode {
        match self {
            Self { failed: true, .. } => ExitCode::from(1),
            Self { linted: true, .. } if lint.lint_fatal => ExitCode::from(3),
            _ => ExitCode::SUCCESS,
        }
    }
}

/// Runs `watchfire check ...`.
pub(crate) fn run(command: &CheckCommand, features: &FeatureFlags) -> ExitCode {
    let mut outcome = Outcome::default();
    match command {
        CheckCommand::Rules { files, lint } => {
            let checks = lint.checks(&["duplicate-rules"]);
            let options = lint.load_options(features);
            if files.is_empty() {
                say(&format_args!("Checking standard input"));
                match stdin_text() {
                    Ok(text) => {
                        let report = check_source("", &text, &options);
                        show_rules(&report, &checks, &mut outcome);
                    }
                    Err(error) => show_failure(&error, &mut outcome),
                }
            }
            for file in files {
                say(&format_args!("Checking {}", file.display()));
                show_rules(&check_file(file, &options), &checks, &mut outcome);
            }
            outcome.exit_code(lint)
        }
        CheckCommand::Config { files, syntax_only, lint, lookback_delta } => {
            let lookback_ms = match parse_duration(lookback_delta) {
                Ok(ms) => ms,
                Err(error) => return super::fail(&format!("--query.lookback-delta: {error}")),
            };
            let checks = lint.checks(&["duplicate-rules", "too-long-scrape-interval"]);
            let options = lint.load_options(features);
            for file in files {
                let Some(config) = show_config(file, *syntax_only, &mut outcome) else { continue };
                let rules = config.rule_paths().unwrap_or_default();
                for path in if *syntax_only { Vec::new() } else { rules } {
                    say(&format_args!("Checking {}", path.display()));
                    show_rules(&check_file(&path, &options), &checks, &mut outcome);
                }
                if checks.contains("too-long-scrape-interval") {
                    show_long_intervals(&config, lookback_ms, &mut outcome);
                }
            }
            outcome.exit_code(lint)
        }
    }
}

/// Standard input, if it is not too large.
pub(super) fn stdin_text() -> Result<String, String> {
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

fn show_rules(report: &CheckReport, checks: &BTreeSet<&str>, outcome: &mut Outcome) {
    for remark in &report.remarks {
        eprintln!("  {}: {}", remark.severity, remark);
    }
    if !report.errors.is_empty() {
        eprintln!("  FAILED:");
        for line in report.error_lines() {
            eprintln!("{line}");
        }
        outcome.failed = true;
    } else if checks.contains("duplicate-rules") && !report.duplicates.is_empty() {
        eprintln!("  FAILED:");
        eprintln!("{}", duplicates_text(&report.duplicates));
        outcome.linted = true;
    } else {
        say(&format_args!("  SUCCESS: {} rules found", report.rules));
    }
    say(&"");
}

/// Checks one configuration; gives it back when it can be used.
fn show_config(file: &std::path::Path, syntax_only: bool, outcome: &mut Outcome) -> Option<Config> {
    say(&format_args!("Checking {}", file.display()));
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            show_failure(&error, outcome);
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
