//! `watchfire debug`: what a server tells about itself, gathered in one archive for those
//! who have to find out what is wrong with it.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::client::{ApiClient, ClientArgs};
use super::{fail, say, small_runtime};

/// Name of the archive, in the folder the command runs in.
const ARCHIVE: &str = "debug.tar.gz";
/// Profiles take up to half a minute.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Paths of the server and names in the archive.
const METRICS: &[(&str, &str)] = &[("metrics", "metrics.txt")];
const PROFILES: &[(&str, &str)] = &[
    ("debug/pprof/block", "block.pb"),
    ("debug/pprof/goroutine", "goroutine.pb"),
    ("debug/pprof/heap", "heap.pb"),
    ("debug/pprof/mutex", "mutex.pb"),
    ("debug/pprof/threadcreate", "threadcreate.pb"),
    ("debug/pprof/profile?seconds=30", "cpu.pb"),
    ("debug/pprof/trace?seconds=30", "trace.pb"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Fetch the profiles of a Go program such as Prometheus into debug.tar.gz here, which takes
    /// about a minute. Watchfire has none.
    Pprof(DebugArgs),
    /// Fetch the server's own metrics into debug.tar.gz here.
    Metrics(DebugArgs),
    /// Fetch both into one debug.tar.gz here.
    All(DebugArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DebugArgs {
    /// The server, e.g. http://127.0.0.1:9090.
    server: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs `watchfire debug ...`: 1 when something could not be fetched.
pub(crate) fn run(command: &DebugCommand) -> ExitCode {
    let (args, what) = match command {
        DebugCommand::Pprof(args) => (args, vec![PROFILES]),
        DebugCommand::Metrics(args) => (args, vec![METRICS]),
        DebugCommand::All(args) => (args, vec![PROFILES, METRICS]),
    };
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(gather(args, &what.concat())) {
        Ok(()) => {
            say(&format_args!(
                "Compiling debug information complete, all files written in {ARCHIVE:?}."
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error completing debug command: {error}");
            ExitCode::from(1)
        }
    }
}

/// Nothing is written unless everything was fetched.
async fn gather(args: &DebugArgs, what: &[(&str, &str)]) -> Result<(), String> {
    let client = ApiClient::new(&args.client, &args.server, TIMEOUT).await?;
    let mut files = Vec::new();
    for (path, name) in what {
        let (path, seconds) = path.split_once("?seconds=").unwrap_or((path, ""));
        let query: Vec<_> = Some(("seconds", seconds.to_owned()))
            .filter(|(_, seconds)| !seconds.is_empty())
            .into_iter()
            .collect();
        say(&format_args!("collecting: {}/{path}", args.server.trim_end_matches('/')));
        let answer = client.get(path, &query).await;
        let answer = answer.map_err(|e| format!("error executing HTTP request: {e}"))?;
        if answer.status != 200 {
            return Err(format!("{path}: server answered HTTP status {}", answer.status));
        }
        files.push((*name, answer.body));
    }
    archive(&files).map_err(|e| format!("cannot write {ARCHIVE}: {e}"))
}

fn archive(files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    let encoder = GzEncoder::new(File::create(ARCHIVE)?, Compression::default());
    let mut archive = tar::Builder::new(encoder);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    archive.into_inner()?.finish()?.flush()
}
