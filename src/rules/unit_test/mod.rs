//! Unit tests of rules, in promtool's `test rules` format: series are given, rules run
//! over them tick by tick in memory, and what fires and what queries return is compared.
//!
//! Groups are the very ones the server runs; only storage, notifier and clock differ.

mod affected;
mod ahead;
mod assign;
mod compare;
mod coverage;
mod data;
mod diff;
mod mutate;
mod mutation;
pub mod record;
mod run;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::{GroupSpec, LoadOptions, load_file};
use crate::model::regex::GoRegex;
use crate::parser::ParserOptions;
use coverage::Observer;
pub use coverage::{Facet, RuleCoverage, merged, totals};
pub use mutation::{Mutants, Mutation, Survivor};
use schema::{Test, TestFile};

/// How to run unit tests.
#[derive(Clone, Debug, Default)]
pub struct UnitTestOptions {
    /// `--run`: only tests whose name one of these matches somewhere; none means all.
    pub run: Vec<GoRegex>,
    /// `--ignore-unknown-fields`, for rule files; test files are always strict.
    pub ignore_unknown_fields: bool,
    /// Keys of vmalert, Thanos and Mimir are read in rule files.
    pub dialects: bool,
    /// Experimental syntax, in rules and in tests.
    pub parser: ParserOptions,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `--debug`: report what is stored at the end of each test.
    pub dump_series: bool,
    /// `--diff`: alerts that are not as expected are shown as one coloured tree.
    pub diff: bool,
    /// Find out what the tests exercise and check of the rules.
    pub coverage: bool,
    /// Is told of each test that begins.
    pub begins: Option<TestBegins>,
}

/// Is told the name of a test that begins, which of its file it is, from 0, and of how many.
#[derive(Clone)]
pub struct TestBegins(pub Arc<Tell>);

type Tell = dyn Fn(&str, usize, usize) + Send + Sync;

impl std::fmt::Debug for TestBegins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestBegins")
    }
}

/// The outcome of one test file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReport {
    pub file: String,
    /// E.g. a pattern of `rule_files` that matches nothing.
    pub warnings: Vec<String>,
    /// What is wrong with the file itself or the rules it names: no test ran.
    pub errors: Vec<String>,
    /// The tests that ran, in file order.
    pub tests: Vec<TestReport>,
    /// When it was asked for.
    pub coverage: Vec<RuleCoverage>,
}

/// The outcome of one test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestReport {
    /// "" when it has none.
    pub name: String,
    /// Promtool's texts, indented as it prints them; empty when the test passed.
    pub errors: Vec<String>,
    /// Every series, as given and as rules wrote it, when asked for.
    pub dump: Vec<String>,
}

impl FileReport {
    /// True when nothing failed.
    pub fn passed(&self) -> bool {
        self.all_errors().next().is_none()
    }

    /// Every error, as `test rules` lists them under `FAILED:`.
    pub fn all_errors(&self) -> impl Iterator<Item = &String> {
        self.errors.iter().chain(self.tests.iter().flat_map(|t| &t.errors))
    }
}

/// Runs test files one after the other.
pub async fn run_unit_tests(files: &[PathBuf], options: &UnitTestOptions) -> Vec<FileReport> {
    let mut reports = Vec::with_capacity(files.len());
    for file in files {
        reports.push(run_file(file, options).await);
    }
    reports
}

async fn run_file(path: &Path, options: &UnitTestOptions) -> FileReport {
    let mut report = FileReport { file: path.display().to_string(), ..Default::default() };
    let source = match std::fs::read_to_string(path) {
        Ok(source) => source,
        Err(e) => {
            report.errors.push(format!("cannot read {}: {e}", path.display()));
            return report;
        }
    };
    let file = match schema::read(&source) {
        Ok(file) => file,
        Err(errors) => {
            report.errors = errors;
            return report;
        }
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let groups = load_rules(folder, &file.rule_files, options, &mut report);
    if !report.errors.is_empty() {
        return report;
    }
    let ahead = ahead::suits(&file, &groups);
    let mut observer = options.coverage.then(|| Observer::new(&groups));
    let tests: Vec<&Test> = selected(&file, options).collect();
    for (number, test) in tests.iter().enumerate() {
        if let Some(TestBegins(tell)) = &options.begins {
            tell(&test.name, number, tests.len());
        }
        if let Some(observer) = &mut observer {
            observer.begin_test();
        }
        let groups = groups.clone();
        let observer = observer.as_mut();
        report.tests.push(run::run_test(test, &file, groups, options, observer, ahead).await);
    }
    report.coverage = observer.map(Observer::into_coverage).unwrap_or_default();
    report
}

fn selected<'a>(
    file: &'a TestFile,
    options: &'a UnitTestOptions,
) -> impl Iterator<Item = &'a schema::Test> {
    let wanted =
        |name: &str| options.run.is_empty() || options.run.iter().any(|r| r.is_match(name));
    file.tests.iter().filter(move |test| wanted(&test.name))
}

fn load_rules(
    folder: &Path,
    patterns: &[String],
    options: &UnitTestOptions,
    report: &mut FileReport,
) -> Vec<GroupSpec> {
    let load = LoadOptions {
        parser: options.parser,
        ignore_unknown_fields: options.ignore_unknown_fields,
        dialects: options.dialects,
        ..LoadOptions::default()
    };
    let mut groups = Vec::new();
    for pattern in patterns {
        let full = folder.join(pattern).display().to_string();
        let paths = match glob::glob(&full) {
            Ok(paths) => paths.filter_map(Result::ok).collect::<Vec<_>>(),
            Err(e) => {
                report.errors.push(format!("{full}: bad pattern: {e}"));
                continue;
            }
        };
        if paths.is_empty() {
            report.warnings.push(format!("  WARNING: no file match pattern {full}"));
        }
        for path in paths {
            let loaded = load_file(&path, &load);
            let errors: Vec<_> = loaded.errors().cloned().collect();
            report.errors.extend(super::config::render(&errors));
            groups.extend(loaded.groups);
        }
    }
    groups
}
