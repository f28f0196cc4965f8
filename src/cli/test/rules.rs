//! `watchfire test rules`: promtool's flags, outcome lines and exit codes.

use std::fs::OpenOptions;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::{SecondsFormat, Utc};
use clap::Args;
use parking_lot::Mutex;

use super::coverage::{self, CoverageFormat};
use crate::cli::file_kind::{FileKind, show_help};
use crate::cli::progress::Progress;
use crate::cli::{FeatureFlags, fail, junit, say, small_runtime};
use crate::model::regex::GoRegex;
use crate::rules::unit_test::{
    FileReport, Mutants, Mutation, RuleCoverage, Survivor, TestBegins, UnitTestOptions, merged,
    run_unit_tests, totals,
};

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
    /// Show what the tests exercise and check of the rules: whether alerts fire and stay
    /// silent, branches of expressions, labels and annotations.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "text", require_equals = true)]
    coverage: Option<CoverageFormat>,
    /// Write the coverage to this file instead of standard output.
    #[arg(long, value_name = "FILE", requires = "coverage")]
    coverage_output: Option<PathBuf>,
    /// Fail when less than this share is covered.
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    min_coverage: Option<f64>,
    /// Put mistakes into the rules, one at a time (thresholds, operators, windows, matchers,
    /// labels, `for`), and name those that no test notices; they make it end with 3. For each
    /// only the rules and cases that it can change are run, on all processors.
    #[arg(long)]
    mutate: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 100".to_owned()),
    }
}

/// Runs `watchfire test rules`: 1 when a test failed or could not run.
/// `junit` is where the outcome goes as XML.
pub(crate) fn run(args: &RulesArgs, junit: Option<&Path>, features: &FeatureFlags) -> ExitCode {
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let mut options = UnitTestOptions {
        run: args.run.clone(),
        ignore_unknown_fields: args.ignore_unknown_fields,
        dialects: args.dialects,
        parser: features.parser(),
        delayed_name_removal: features.delayed_name_removal(),
        dump_series: args.debug,
        diff: args.diff,
        coverage: args.coverage.is_some() || args.min_coverage.is_some(),
        begins: None,
    };
    // Said before tests that may take long, not after them.
    if let Some(file) = &args.coverage_output
        && let Err(error) = OpenOptions::new().append(true).create(true).open(file)
    {
        return fail(&format!("--coverage-output: {}: {error}", file.display()));
    }
    let mut failed = false;
    let mut suites = Vec::new();
    let (mut covered, mut survivors) = (Vec::new(), 0);
    let progress = Progress::new("testing", args.files.len());
    let of_file = Arc::new(Mutex::new(None));
    if args.files.len() == 1 {
        options.begins = Some(told_of_tests(of_file.clone()));
    }
    for file in &args.files {
        progress.at(&file.display().to_string());
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        // One file at a time, so that its outcome is seen before the next begins.
        for report in runtime.block_on(run_unit_tests(std::slice::from_ref(file), &options)) {
            progress.step();
            drop(of_file.lock().take());
            failed |= !report.passed();
            progress.aside(|| show(&report, file, args.debug));
            if args.mutate && report.passed() {
                survivors += match progress.aside(|| mutate(file, &options)) {
                    Ok(survivors) => survivors,
                    Err(error) => return fail(&error),
                };
            }
            suites.push(suite(&report, timestamp.clone()));
            covered.extend(report.coverage);
        }
    }
    drop(progress);
    if let Some(junit) = junit
        && let Err(error) = std::fs::write(junit, junit::document(&suites))
    {
        return fail(&format!("{}: {error}", junit.display()));
    }
    if let Err(error) = show_coverage(args, &merged(covered)) {
        return fail(&error);
    }
    match (failed, survivors) {
        (true, _) => ExitCode::from(1),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::from(3),
    }
}

/// Puts mistakes into the rules of a test file, shows which are not noticed and tells how
/// many. They are judged on all processors at once.
fn mutate(file: &Path, options: &UnitTestOptions) -> Result<usize, String> {
    let load = || Mutants::load(file, options);
    let mutants = load().ok_or_else(|| format!("{}: it changed while it ran", file.display()))?;
    let progress = Progress::new("mutating", mutants.len());
    let next = AtomicUsize::new(0);
    let noticed: Vec<AtomicBool> = (0..mutants.len()).map(|_| AtomicBool::new(false)).collect();
    let work = || -> std::io::Result<()> {
        let runtime = small_runtime()?;
        loop {
            let mutant = next.fetch_add(1, Ordering::Relaxed);
            let Some(outcome) = noticed.get(mutant) else { return Ok(()) };
            progress.at(mutants.rule(mutant));
            outcome.store(runtime.block_on(mutants.is_noticed(mutant)), Ordering::Relaxed);
            progress.step();
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|w| w.join().expect("BUG: judging a mistake panicked"))
    })
    .map_err(|error| error.to_string())?;
    drop(progress);
    let noticed: Vec<bool> = noticed.into_iter().map(AtomicBool::into_inner).collect();
    Ok(show_mutation(&mutants.outcome(&noticed)))
}

/// A bar of the tests of a file, made when the first one begins.
fn told_of_tests(bar: Arc<Mutex<Option<Progress>>>) -> TestBegins {
    TestBegins(Arc::new(move |name, number, of| {
        let mut bar = bar.lock();
        let bar = bar.get_or_insert_with(|| Progress::new("testing", of));
        if number > 0 {
            bar.step();
        }
        bar.at(name);
    }))
}

/// Shows which mistakes were not noticed, and tells how many.
fn show_mutation(mutation: &Mutation) -> usize {
    let all = mutation.noticed + mutation.survivors.len();
    say(&format_args!("mutations: {} of {all} noticed", mutation.noticed));
    for survivor in &mutation.survivors {
        let Survivor { file, line, rule, what } = survivor;
        say(&format_args!("  {file}:{line}: {rule}: no test notices that {what}"));
    }
    mutation.survivors.len()
}

fn show_coverage(args: &RulesArgs, rules: &[RuleCoverage]) -> Result<(), String> {
    if let Some(format) = args.coverage {
        let text = coverage::render(rules, format);
        match &args.coverage_output {
            Some(file) => std::fs::write(file, text + "\n")
                .map_err(|error| format!("{}: {error}", file.display()))?,
            None => say(&text),
        }
    }
    let (covered, all) = totals(rules);
    let share = coverage::percent(covered, all);
    match args.min_coverage {
        Some(least) if share < least => {
            Err(format!("the tests cover {share:.1} %, less than --min-coverage={least}"))
        }
        _ => Ok(()),
    }
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

fn show(report: &FileReport, file: &Path, debug: bool) {
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
        if !report.errors.is_empty() {
            show_help(file, FileKind::Tests);
        }
    }
    say(&"");
}
