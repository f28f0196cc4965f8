//! `watchfire check healthy` and `check ready`: what a server says about itself.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::client::{ApiClient, ClientArgs};
use crate::cli::{fail, small_runtime};

/// Time allowed for the answer, as promtool has it.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// The server.
    #[arg(long, default_value = "http://localhost:9090")]
    url: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// Runs the command: 1 when the server does not answer with 200.
pub(super) fn run(args: &HealthArgs, path: &str) -> ExitCode {
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(ask(args, path)) {
        Ok(body) => {
            eprintln!("  SUCCESS:  {body}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

async fn ask(args: &HealthArgs, path: &str) -> Result<String, String> {
    let client = ApiClient::new(&args.client, &args.url, TIMEOUT).await?;
    let answer = client.get(path, &[]).await?;
    if answer.status != 200 {
        return Err(format!("check failed: URL={}, status={}", args.url, answer.status));
    }
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}
