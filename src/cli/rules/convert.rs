//! `watchfire rules convert`: rule files of one ruler as those of another.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::{FeatureFlags, fail};
use crate::rules::config::read_text;
use crate::rules::convert::{Options, Target, convert};

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Whose rule files to write.
    #[arg(long, value_enum)]
    to: To,
    /// The files; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The object's metadata.name; else the file's name.
    #[arg(long)]
    name: Option<String>,
    /// The object's metadata.namespace, or Mimir's namespace (else the file's name).
    #[arg(long)]
    namespace: Option<String>,
    /// A label of the object, which a ruleSelector may ask for. Repeatable.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Write each file under its own name into this folder instead of to standard output.
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Write nothing when anything is lost.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    Prometheus,
    Vmalert,
    Thanos,
    Mimir,
    Prometheusrule,
}

impl From<To> for Target {
    fn from(to: To) -> Self {
        match to {
            To::Prometheus => Self::Prometheus,
            To::Vmalert => Self::Vmalert,
            To::Thanos => Self::Thanos,
            To::Mimir => Self::Mimir,
            To::Prometheusrule => Self::PrometheusRule,
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("want NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Exit code when `--strict` forbids what was lost.
const LOST: u8 = 3;

/// Runs `watchfire rules convert`.
pub(crate) fn run(args: &ConvertArgs, features: &FeatureFlags) -> ExitCode {
    let to = Target::from(args.to);
    if args.files.len() > 1 && args.output_dir.is_none() && to != Target::PrometheusRule {
        return fail(&"rule files are one document each: name one file, or --output-dir");
    }
    let mut all = Vec::with_capacity(args.files.len());
    let mut lost = false;
    for file in &args.files {
        let stdin = file == Path::new("-");
        let name = if stdin { "standard input".to_owned() } else { file.display().to_string() };
        let options = Options {
            parser: features.parser(),
            name: args.name.clone().unwrap_or_else(|| object_name(file)),
            namespace: args.namespace.clone(),
            labels: args.labels.clone(),
        };
        let source = if stdin { crate::cli::check::stdin_text() } else { read_text(file) };
        let source = match source {
            Ok(source) => source,
            Err(error) => return fail(&format_args!("{name}: {error}")),
        };
        match convert(&name, &source, to, &options) {
            Ok(converted) => {
                for warning in &converted.warnings {
                    lost = true;
                    eprintln!("{name}:{warning}");
                }
                all.push((file, converted.text));
            }
            Err(error) => return fail(&format_args!("{name}: {error}")),
        }
    }
    if lost && args.strict {
        eprintln!("nothing is written: --strict");
        return ExitCode::from(LOST);
    }
    match write(args, &all) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn write(args: &ConvertArgs, all: &[(&PathBuf, String)]) -> Result<(), String> {
    let Some(dir) = &args.output_dir else {
        let texts: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
        super::fmt::print(&texts.join("---\n"));
        return Ok(());
    };
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for (file, text) in all {
        let name = file.file_name().filter(|_| *file != Path::new("-"));
        let path = dir.join(name.unwrap_or("rules.yml".as_ref()));
        if path.canonicalize().is_ok_and(|p| file.canonicalize().is_ok_and(|f| f == p)) {
            return Err(format!("{}: it is the file that is read", path.display()));
        }
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// A name that Kubernetes takes, after the file.
fn object_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = stem.chars().map(kept).collect();
    match name.trim_matches(['-', '.']) {
        "" => "rules".to_owned(),
        name => name.to_owned(),
    }
}
