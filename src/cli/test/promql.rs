//! `watchfire test promql`: finds scripts, runs them, counts cases.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::files;
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
    for path in &args.paths {
        for script in files::found(path, "test") {
            let read = script.and_then(|script| Ok((files::read(&script)?, script)));
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
