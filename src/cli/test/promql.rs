//! `watchfire test promql`: finds scripts, runs them, counts cases.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::files;
use crate::cli::progress::Progress;
use crate::cli::{FeatureFlags, fail, say, small_runtime};
use crate::promqltest::{ScriptOptions, run_script};
use crate::query::Engine;

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
    let scripts: Vec<_> = args.paths.iter().flat_map(|path| files::found(path, "test")).collect();
    let progress = Progress::new("testing", scripts.len());
    for script in scripts {
        let read = script.and_then(|script| Ok((files::read(&script)?, script)));
        let (text, script) = match read {
            Ok(read) => read,
            Err(error) => {
                progress.aside(|| fail(&error));
                broken = true;
                continue;
            }
        };
        let name = script.display().to_string();
        progress.at(&name);
        let report = runtime.block_on(run_script(&name, &text, &options));
        progress.step();
        progress.aside(|| say(&report));
        passed += report.passed;
        failed += report.failed;
    }
    drop(progress);
    say(&format_args!("{passed} passed, {failed} failed"));
    ExitCode::from(u8::from(failed > 0 || broken))
}
