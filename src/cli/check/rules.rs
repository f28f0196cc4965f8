//! `watchfire check rules`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{FeatureFlags, Outcome, say, show_failure, stdin_text};
use crate::cli::file_kind::{FileKind, show_help};
use crate::cli::rules::{Output, report, show};
use crate::diagnostics::Severity;
use crate::lint::{Settings, registry};
use crate::rules::config::{CheckReport, LoadOptions, check_file, check_source, duplicates_text};

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// The files; without one, standard input is read.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    lint: LintFlags,
    /// Show what is wrong with excerpts and advice, or for a program, instead of in
    /// promtool's lines. The checks of `watchfire rules lint` can be named in --lint.
    #[arg(long, value_enum)]
    output: Option<Output>,
}

#[derive(Debug, Args)]
pub(crate) struct LintFlags {
    /// Comma-separated lint checks: all, duplicate-rules, too-long-scrape-interval
    /// (configurations only), none. For rules also checks of `watchfire rules lint`.
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
                    None if is_own_check(word) => {}
                    None => eprintln!("WARNING: unknown lint option: {word:?}"),
                },
            }
        }
        on
    }

    /// The checks of `watchfire rules lint` among them.
    fn own_checks(&self) -> Vec<&str> {
        self.lint.split(',').map(str::trim).filter(|word| is_own_check(word)).collect()
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

/// Whether a word is the id of a check of the linter, or what ids begin with.
fn is_own_check(word: &str) -> bool {
    let word = word.strip_prefix('-').unwrap_or(word);
    registry::ids().any(|id| id == word || id.split('/').next() == Some(word))
}

/// The check that finds templates which cannot be used.
const TEMPLATES: &str = "alerts/template";

/// Runs `watchfire check rules`.
pub(super) fn run(args: &RulesArgs, features: &FeatureFlags) -> ExitCode {
    let mut outcome = Outcome::default();
    let checks = args.lint.checks(&["duplicate-rules"]);
    let options = args.lint.load_options(features);
    let own = args.lint.own_checks();
    if let Some(output) = args.output {
        let duplicates = checks.contains("duplicate-rules").then_some("rule/duplicate");
        let refused = ["none", "yaml", "promql/syntax", TEMPLATES];
        let wanted: Vec<&str> = refused.into_iter().chain(duplicates).chain(own).collect();
        return linting(args, &wanted, options, output);
    }
    if args.files.is_empty() {
        say(&format_args!("Checking standard input"));
        match stdin_text() {
            Ok(text) => show_rules(&check_source("", &text, &options), &checks, &mut outcome),
            Err(error) => show_failure(&error, &mut outcome),
        }
    }
    let mut files = args.files.iter().peekable();
    while let Some(file) = files.next() {
        say(&format_args!("Checking {}", file.display()));
        let report = check_file(file, &options);
        show_rules(&report, &checks, &mut outcome);
        if !report.errors.is_empty() {
            show_help(file, FileKind::Rules);
        }
        if files.peek().is_none() {
            // Of ten thousand rules, giving it back takes a twentieth of the whole time.
            report.leave();
        }
    }
    if !own.is_empty() && !args.files.is_empty() && !outcome.failed {
        let wanted: Vec<&str> = std::iter::once("none").chain(own).collect();
        return linting(args, &wanted, options, Output::Text);
    }
    outcome.exit_code(args.lint.lint_fatal)
}

fn linting(args: &RulesArgs, wanted: &[&str], load: LoadOptions, output: Output) -> ExitCode {
    let mut settings = Settings::default();
    if let Err(error) = settings.choose(wanted.iter().copied()) {
        return crate::cli::fail(&error);
    }
    let fail_on = if args.lint.lint_fatal { Severity::Info } else { Severity::Fatal };
    // Templates that cannot be used are wrong; what else is said of them is advice.
    let advised = args.lint.own_checks().iter().any(|id| TEMPLATES.starts_with(id));
    match report(&args.files, load, settings) {
        Ok(mut report) => {
            let kept = |id: &str| advised || id != TEMPLATES;
            report.diagnostics.retain(|d| kept(d.id) || d.severity == Severity::Fatal);
            show(&report, output, fail_on)
        }
        Err(error) => crate::cli::fail(&error),
    }
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
