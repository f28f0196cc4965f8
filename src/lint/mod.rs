//! What is likely to be wrong with rules that can be read: the checks of pint, and what
//! follows from expressions alone (`infer`).
//!
//! `registry` holds one row for each check: id, severity, words, examples and function;
//! docs/lint.md is made from it. Authors silence checks in `comments`; `settings` turns
//! them on and off and holds the policies of a team. Nothing here reads files, evaluates,
//! or asks a server.

mod checks;
mod comments;
mod context;
mod infer;
pub mod mistakes;
pub mod online;
pub mod page;
pub mod registry;
pub mod settings;

use context::{FileCx, Findings, Found, Project};
use online::Observed;
use registry::{CHECKS, Run};
pub use settings::{Settings, SettingsError};

use crate::diagnostics::{Report, Source};
use crate::model::TimestampMs;
use crate::model::lines::Lines;
use crate::rules::config::{LoadOptions, read_written};

/// A file to look at.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    /// Its text, or why it cannot be had.
    pub text: Result<String, String>,
}

/// How to look.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub load: LoadOptions,
    pub settings: Settings,
    /// For comments that end at some time.
    pub now_ms: TimestampMs,
}

/// Looks at files together. What is said is sorted by file and place.
pub fn lint(inputs: Vec<Input>, options: &Options) -> Report {
    lint_with(inputs, options, None)
}

/// As [`lint`], with what a server has answered (`online`).
pub fn lint_with(inputs: Vec<Input>, options: &Options, observed: Option<Observed>) -> Report {
    let (sources, diagnostics) = with_project(inputs, options, |mut project, unread| {
        project.observed = observed;
        let found = run(&project).into_iter().filter(|found| is_heard(&project, found));
        let mut diagnostics: Vec<_> = found.map(|f| f.diagnostic).collect();
        for (index, error) in unread {
            diagnostics.retain(|d| d.source != index);
            diagnostics.push(checks::reader::unread(index, error));
        }
        diagnostics
    });
    let mut report = Report { sources, diagnostics };
    report.sort();
    // Rules that several aliases stand for are said to be wrong once.
    report.diagnostics.dedup();
    report
}

/// Reads files and hands them on, with those that could not be had.
fn with_project<T>(
    inputs: Vec<Input>,
    options: &Options,
    then: impl FnOnce(Project<'_>, Vec<(usize, String)>) -> T,
) -> (Vec<Source>, T) {
    let mut sources = Vec::with_capacity(inputs.len());
    let mut unread = Vec::new();
    for input in inputs {
        let text = match input.text {
            Ok(text) => text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text),
            Err(error) => {
                unread.push((sources.len(), error));
                String::new()
            }
        };
        sources.push(Source { name: input.name, text });
    }
    let known: Vec<&str> = registry::ids().collect();
    let files = sources.iter().enumerate().map(|(index, source)| {
        let lines = Lines::new(&source.text);
        let comments = comments::comments(&lines, options.now_ms, &known);
        let masked = comments::masked(&lines, &comments);
        let text = masked.as_deref().unwrap_or(&source.text);
        let written = read_written(&source.name, text, &options.load);
        FileCx::new(index, &source.name, lines, written, options.load.parser, comments)
    });
    let made = then(Project::new(files.collect(), &options.settings), unread);
    (sources, made)
}

fn run(project: &Project<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for check in CHECKS.iter().filter(|check| project.settings.is_on(check)) {
        let mut findings = Findings::new(project.settings, check);
        match check.run {
            Run::Rule(run) => project.rules().for_each(|rule| run(&rule, &mut findings)),
            Run::Group(run) => project.groups().for_each(|group| run(&group, &mut findings)),
            Run::File(run) => project.files.iter().for_each(|file| run(file, &mut findings)),
            Run::Project(run) => run(project, &mut findings),
        }
        all.append(&mut findings.all);
    }
    all
}

fn is_heard(project: &Project<'_>, found: &Found) -> bool {
    let file = &project.files[found.diagnostic.source];
    let id = found.diagnostic.id;
    if file.ignored && id != "ignore/file" {
        return false;
    }
    !file.silenced(id, found.key.as_deref(), found.part)
}

#[cfg(test)]
mod tests;
