//! `watchfire check web-config`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::web;

#[derive(Debug, Args)]
pub(crate) struct WebConfigArgs {
    /// The files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs `watchfire check web-config`.
pub(super) fn run(args: &WebConfigArgs) -> ExitCode {
    let mut failed = false;
    for file in &args.files {
        let name = file.display();
        match web::check(file) {
            Ok(()) => eprintln!("{name} SUCCESS"),
            Err(error) => {
                eprintln!("{name} FAILED: {error}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}
