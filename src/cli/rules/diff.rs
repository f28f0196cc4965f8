//! `watchfire rules diff OLD NEW`: what a change of rules means, before it is rolled out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::files;
use crate::cli::file_kind::{FileKind, helped};
use crate::cli::{FeatureFlags, fail, say};
use crate::rules::config::{GroupSpec, LoadOptions, load_file};
use crate::rules::diff::{Difference, Weight, differences};

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The rules as they are: a file, or a folder of them (*.yml, *.yaml, *.rules).
    old: PathBuf,
    /// The rules as they are to be.
    new: PathBuf,
    /// How to show it.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// End with 3 when something is as grave as this.
    #[arg(long, value_enum, value_name = "WEIGHT")]
    fail_on: Option<FailOn>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailOn {
    /// Anything.
    Note,
    /// Results, times or policies change.
    Change,
    /// Series or alerts end, or begin anew.
    Loss,
}

/// Runs `watchfire rules diff`.
pub(crate) fn run(args: &DiffArgs, features: &FeatureFlags) -> ExitCode {
    let options =
        LoadOptions { parser: features.parser(), dialects: true, ..LoadOptions::default() };
    let groups = [&args.old, &args.new].map(|path| load(path, &options));
    let [old, new] = match groups {
        [Ok(old), Ok(new)] => [old, new],
        [Err(error), _] | [_, Err(error)] => return fail(&error),
    };
    let found = differences(&old, &new);
    match args.format {
        Format::Text => found.iter().for_each(|difference| say(&line(difference))),
        Format::Json => {
            let object = |d: &Difference| json!({"group": d.group, "rule": d.rule, "weight": d.weight.as_str(), "text": d.text});
            say(&format_args!("{:#}", json!(found.iter().map(object).collect::<Vec<_>>())));
        }
    }
    let least = match args.fail_on {
        None => return ExitCode::SUCCESS,
        Some(FailOn::Note) => Weight::Note,
        Some(FailOn::Change) => Weight::Change,
        Some(FailOn::Loss) => Weight::Loss,
    };
    let grave = found.iter().any(|difference| difference.weight >= least);
    ExitCode::from(if grave { 3 } else { 0 })
}

fn line(difference: &Difference) -> String {
    let Difference { group, rule, weight, text } = difference;
    let place = if rule.is_empty() { group.clone() } else { format!("{group}/{rule}") };
    format!("{:<6} {place}: {text}", weight.as_str())
}

/// The groups of a file or folder; what is wrong with it is an error.
fn load(path: &PathBuf, options: &LoadOptions) -> Result<Vec<GroupSpec>, String> {
    let mut groups = Vec::new();
    for file in files::named(std::slice::from_ref(path))?.files {
        let loaded = load_file(&file, options);
        if let Some(error) = loaded.errors().next() {
            return Err(helped(error.to_string(), &file, FileKind::Rules));
        }
        groups.extend(loaded.groups);
    }
    Ok(groups)
}
