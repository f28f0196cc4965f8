//! `watchfire check rules`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{FeatureFlags, Outcome, say, show_failure, stdin_text};
use crate::rules::config::{CheckReport, LoadOptions, check_file, check_source, duplicates_text};

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// The files.
    files: Vec<PathBuf>,
    #[command(flatten)]
    lint: LintFlags,
}

#[derive(Debug, Args)]
pub(crate) struct LintFlags {
    /// Comma-separated lint checks: all, duplicate-rules, too-long-scrape-interval
    /// (configurations only), none.
    #[arg(long, default_value = "duplicate-rules")]
    lint: String,
    /// Exit with 3 when a lint check finds something.
    #[arg(long)]
    pub(super) lint_fatal: bool,
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
    pub(super) fn checks(&self, known: &[&'static str]) -> BTreeSet<&'static str> {
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

    pub(super) fn load_options(&self, features: &FeatureFlags) -> LoadOptions {
        LoadOptions {
            parser: features.parser(),
            ignore_unknown_fields: self.ignore_unknown_fields,
            dialects: self.dialects,
            ..LoadOptions::default()
        }
    }
}

/// Runs `watchfire check rules`.
pub(super) fn run(args: &RulesArgs, features: &FeatureFlags) -> ExitCode {
    let mut outcome = Outcome::default();
    let checks = args.lint.checks(&["duplicate-rules"]);
    let options = args.lint.load_options(features);
    if args.files.is_empty() {
        say(&format_args!("Checking standard input"));
        match stdin_text() {
            Ok(text) => show_rules(&check_source("", &text, &options), &checks, &mut outcome),
            Err(error) => show_failure(&error, &mut outcome),
        }
    }
    for file in &args.files {
        say(&format_args!("Checking {}", file.display()));
        show_rules(&check_file(file, &options), &checks, &mut outcome);
    }
    outcome.exit_code(args.lint.lint_fatal)
}

pub(super) fn show_rules(report: &CheckReport, checks: &BTreeSet<&str>, outcome: &mut Outcome) {
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
