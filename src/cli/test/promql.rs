//! `watchfire test promql`: finds scripts, runs them, counts cases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::{FeatureFlags, fail, say, small_runtime};
use crate::promqltest::{ScriptOptions, run_script};
use crate::query::Engine;

/// Largest script.
const SCRIPT_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(crate) struct PromqlArgs {
    /// Scripts, and folders that are searched for `*.test` at any depth.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// Runs `watchfire test promql`: 1 when a case failed or a path could not be read.
pub(crate) fn run(args: &PromqlArgs, features: &FeatureFlags) -> ExitCode {
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let options = ScriptOptions { engine: Engine::new(features.script_engine()), strict: true };
    let (mut passed, mut failed, mut broken) = (0, 0, false);
    for path in &args.paths {
        for script in scripts(path) {
            let read = script.and_then(|script| Ok((read(&script)?, script)));
            let (text, script) = match read {
                Ok(read) => read,
                Err(error) => {
                    fail(&error);
                    broken = true;
                    continue;
                }
            };
            let name = script.display().to_string();
            let report = runtime.block_on(run_script(&name, &text, &options));
            say(&report);
            passed += report.passed;
            failed += report.failed;
        }
    }
    say(&format_args!("{passed} passed, {failed} failed"));
    ExitCode::from(u8::from(failed > 0 || broken))
}

fn read(path: &Path) -> Result<String, String> {
    let error = |e: std::io::Error| format!("{}: {e}", path.display());
    let bytes = fs::metadata(path).map_err(error)?.len();
    if bytes > SCRIPT_BYTES_MAX {
        return Err(format!(
            "{}: the script has {bytes} bytes, at most {SCRIPT_BYTES_MAX} are read; split it",
            path.display()
        ));
    }
    fs::read_to_string(path).map_err(error)
}

/// What a path stands for: itself, or the scripts below it in alphabetical order.
fn scripts(path: &Path) -> Vec<Result<PathBuf, String>> {
    if !path.is_dir() {
        return vec![Ok(path.to_owned())];
    }
    let mut found = Vec::new();
    search(path, &mut found);
    if found.is_empty() {
        found.push(Err(format!("{}: no file below it ends in .test", path.display())));
    }
    found
}

/// Symbolic links to folders are not followed: they may lead in circles.
fn search(folder: &Path, found: &mut Vec<Result<PathBuf, String>>) {
    let mut entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return found.push(Err(format!("{}: {error}", folder.display()))),
    };
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&path, found);
        } else if path.extension().is_some_and(|e| e == "test") && !path.is_dir() {
            found.push(Ok(path));
        }
    }
}
