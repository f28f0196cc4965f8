//! `watchfire tsdb`: looking into data directories and making blocks. Output is promtool's
//! where promtool has the command. Nothing here but `create-blocks-from` and `bench` writes,
//! and no other command locks: a server may be using the directory.

mod analyze;
mod backfill;
mod bench;
mod create;
mod dump;
mod list;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::fail;
use super::features::FeatureFlags;

#[derive(Debug, Subcommand)]
pub(crate) enum TsdbCommand {
    /// List the blocks of a data directory.
    List(list::ListArgs),
    /// Analyze churn, label pair cardinality and compaction efficiency of a block.
    Analyze(analyze::AnalyzeArgs),
    /// Print the samples of a data directory.
    Dump(dump::DumpArgs),
    /// Print the float samples of a data directory as OpenMetrics text.
    DumpOpenmetrics(dump::SelectArgs),
    /// Read everything a data directory holds and tell what is wrong, with file and place.
    Verify(DirArg),
    /// Run a benchmark.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Make blocks of data from elsewhere.
    #[command(subcommand)]
    CreateBlocksFrom(create::CreateCommand),
}

#[derive(Debug, Args)]
pub(crate) struct DirArg {
    /// The data directory.
    #[arg(value_name = "DIR", default_value = "data/")]
    dir: PathBuf,
}

impl DirArg {
    /// The directory, when it is there.
    fn existing(&self) -> Result<&Path, String> {
        match std::fs::metadata(&self.dir) {
            Ok(_) => Ok(&self.dir),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(format!(
                "opening the db dir: stat {}: no such file or directory",
                self.dir.display()
            )),
            Err(e) => Err(format!("opening the db dir: {}: {e}", self.dir.display())),
        }
    }
}

/// Runs `watchfire tsdb ...`.
pub(crate) fn run(command: &TsdbCommand, features: &FeatureFlags) -> ExitCode {
    let done = match command {
        TsdbCommand::List(args) => list::run(args),
        TsdbCommand::Analyze(args) => analyze::run(args),
        TsdbCommand::Dump(args) => dump::run(args),
        TsdbCommand::DumpOpenmetrics(args) => dump::run_openmetrics(args),
        TsdbCommand::Verify(args) => verify::run(args),
        TsdbCommand::Bench(command) => bench::run(command),
        TsdbCommand::CreateBlocksFrom(command) => create::run(command, features),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// A span of time as Go writes it: `1h59m0.001s`.
fn go_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let seconds = (ms % 60_000) as f64 / 1000.0;
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (ms, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (-1500, "-1.5s"),
            (720_001, "12m0.001s"),
            (6_360_001, "1h46m0.001s"),
            (28_800_000, "8h0m0s"),
        ] {
            assert_eq!(go_duration(ms), expected);
        }
    }
}
