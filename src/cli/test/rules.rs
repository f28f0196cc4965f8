//! `watchfire test rules`: promtool's flags, outcome lines and exit codes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{SecondsFormat, Utc};
use clap::Args;

use crate::cli::{FeatureFlags, fail, junit, say, small_runtime};
use crate::model::regex::GoRegex;
use crate::rules::unit_test::{FileReport, UnitTestOptions, run_unit_tests};

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// The test files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run only the tests whose name this regular expression matches. Repeatable: one of
    /// them must match.
    #[arg(long, value_name = "REGEX", value_parser = |text: &str| GoRegex::new(text))]
    run: Vec<GoRegex>,
    /// Show alerts that are not as expected as one tree, with what differs in colour.
    #[arg(long)]
    diff: bool,
    /// Say on standard error which tests ran, and show all series as they were at the end.
    #[arg(long)]
    debug: bool,
    /// Accept unknown fields in rule files; test files are always checked.
    #[arg(long)]
    ignore_unknown_fields: bool,
    /// Read the keys of vmalert, Thanos and Mimir in rule files as `watchfire serve` does.
    #[arg(long)]
    dialects: bool,
}

/// Runs `watchfire test rules`: 1 when a test failed or could not run.
/// `junit` is where the outcome goes as XML.
pub(crate) fn run(args: &RulesArgs, junit: Option<&Path>, features: &FeatureFlags) -> ExitCode {
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let options = UnitTestOptions {
        run: args.run.clone(),
        ignore_unknown_fields: args.ignore_unknown_fields,
        dialects: args.dialects,
        parser: features.parser(),
        delayed_name_removal: features.delayed_name_removal(),
        dump_series: args.debug,
        diff: args.diff,
    };
    let mut failed = false;
    let mut suites = Vec::new();
    for file in &args.files {
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        // One file at a time, so that its outcome is seen before the next begins.
        for report in runtime.block_on(run_unit_tests(std::slice::from_ref(file), &options)) {
            show(&report, args.debug);
            failed |= !report.passed();
            suites.push(suite(&report, timestamp.clone()));
        }
    }
    if let Some(junit) = junit
        && let Err(error) = std::fs::write(junit, junit::document(&suites))
    {
        return fail(&format!("{}: {error}", junit.display()));
    }
    ExitCode::from(u8::from(failed))
}

/// What is wrong with the file itself is an error of a case of its own.
fn suite(report: &FileReport, timestamp: String) -> junit::Suite {
    let of_file = report.errors.iter().map(|error| junit::Case {
        name: "unknown".to_owned(),
        error: Some(error.clone()),
        ..junit::Case::default()
    });
    let of_test = report.tests.iter().enumerate().map(|(i, test)| junit::Case {
        name: if test.name.is_empty() { format!("unnamed#{i}") } else { test.name.clone() },
        failures: test.errors.iter().map(|error| error.trim().to_owned()).collect(),
        error: None,
    });
    junit::Suite { name: report.file.clone(), timestamp, cases: of_file.chain(of_test).collect() }
}

fn show(report: &FileReport, debug: bool) {
    for warning in &report.warnings {
        eprintln!("{warning}");
    }
    for test in report.tests.iter().filter(|_| debug) {
        eprintln!("DEBUG: Test {} finished", test.name);
        eprintln!("DEBUG: Dump of all data (input_series and rules):");
        for series in &test.dump {
            eprintln!("  {series}");
        }
    }
    if report.passed() {
        say(&"  SUCCESS");
    } else {
        eprintln!("  FAILED:");
        for error in report.all_errors() {
            eprintln!("{error}");
            say(&"");
        }
    }
    say(&"");
}
