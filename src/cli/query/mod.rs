//! `watchfire query`: asks any server with Prometheus' HTTP API. Output and exit codes
//! are promtool's.

mod analyze;

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use super::client::{ApiClient, ClientArgs};
use super::{fail, format, say, small_runtime};

/// Time allowed for one request, as promtool has it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Text as promtool prints it, or the answer's JSON.
    #[arg(
        short = 'o',
        long = "format",
        value_enum,
        default_value_t = OutputFormat::Promql,
        global = true
    )]
    output: OutputFormat,
    #[command(subcommand)]
    command: QueryCommand,
}

#[derive(Debug, Subcommand)]
enum QueryCommand {
    #[command(flatten)]
    Ask(AskCommand),
    /// Show how many buckets of histograms are populated, over time.
    Analyze(analyze::AnalyzeArgs),
}

/// Commands that show one answer.
#[derive(Debug, Subcommand)]
enum AskCommand {
    /// Run an instant query.
    Instant {
        /// The server, e.g. http://127.0.0.1:9090.
        server: String,
        /// The expression.
        expr: String,
        /// Evaluation time: RFC 3339 or Unix seconds; now if left out.
        #[arg(long)]
        time: Option<String>,
    },
    /// Run a range query.
    Range {
        /// The server, e.g. http://127.0.0.1:9090.
        server: String,
        /// The expression.
        expr: String,
        /// Start of the range: RFC 3339 or Unix seconds; five minutes before the end if left out.
        #[arg(long)]
        start: Option<String>,
        /// End of the range; now if left out.
        #[arg(long)]
        end: Option<String>,
        /// Distance of two points, e.g. 15s; a 250th of the range if left out.
        #[arg(long)]
        step: Option<String>,
    },
    /// List the series that match selectors.
    Series {
        /// The server, e.g. http://127.0.0.1:9090.
        server: String,
        /// Series selector; repeatable.
        #[arg(long = "match", required = true)]
        matchers: Vec<String>,
        /// Start of the time looked at: RFC 3339 or Unix seconds; all time if left out.
        #[arg(long)]
        start: Option<String>,
        /// End of the time looked at.
        #[arg(long)]
        end: Option<String>,
    },
    /// List the values of a label.
    Labels {
        /// The server, e.g. http://127.0.0.1:9090.
        server: String,
        /// The label.
        name: String,
        /// Series selector; repeatable.
        #[arg(long = "match")]
        matchers: Vec<String>,
        /// Start of the time looked at: RFC 3339 or Unix seconds; all time if left out.
        #[arg(long)]
        start: Option<String>,
        /// End of the time looked at.
        #[arg(long)]
        end: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Promql,
    Json,
}

/// Runs `watchfire query ...`.
pub(crate) fn run(args: &QueryArgs) -> ExitCode {
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let analyze = match &args.command {
        QueryCommand::Ask(command) => return ask(args, command, &runtime),
        QueryCommand::Analyze(analyze) => analyze,
    };
    let mut out = String::new();
    let done = runtime.block_on(analyze::run(analyze, &args.client, &mut out));
    say(&out.trim_end_matches('\n'));
    match done {
        Ok(nothing) => {
            if let Some(why) = nothing {
                eprintln!("{why}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            // As promtool, which says no more than this.
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn ask(args: &QueryArgs, command: &AskCommand, runtime: &Runtime) -> ExitCode {
    match runtime.block_on(answer(args, command)) {
        Ok(text) => {
            if !text.is_empty() {
                say(&format_args!("{text}"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("query error: {error}");
            ExitCode::from(1)
        }
    }
}

async fn answer(args: &QueryArgs, command: &AskCommand) -> Result<String, String> {
    let client = |server: String| async move {
        ApiClient::new(&args.client, &server, REQUEST_TIMEOUT).await
    };
    let render = |data: &Json| match args.output {
        OutputFormat::Promql => format::result(data),
        OutputFormat::Json => data["result"].to_string(),
    };
    let list = |data: &Json, line: fn(&Json) -> String| match args.output {
        OutputFormat::Json => data.to_string(),
        OutputFormat::Promql => lines(data, line),
    };
    match command {
        AskCommand::Instant { server, expr, time } => {
            let time = time.as_deref().map(seconds).transpose()?.unwrap_or_else(now_seconds);
            let form = [("query", expr.clone()), ("time", time.to_string())];
            let data = client(server.clone()).await?.api_post("api/v1/query", &form).await?;
            Ok(render(&data))
        }
        AskCommand::Range { server, expr, start, end, step } => {
            let form = range_form(expr, start.as_deref(), end.as_deref(), step.as_deref())?;
            let client = client(server.clone()).await?;
            Ok(render(&client.api_post("api/v1/query_range", &form).await?))
        }
        AskCommand::Series { server, matchers, start, end } => {
            let form = match_form(matchers, start.as_deref(), end.as_deref())?;
            let data = client(server.clone()).await?.api_post("api/v1/series", &form).await?;
            Ok(list(&data, format::label_set))
        }
        AskCommand::Labels { server, name, matchers, start, end } => {
            let form = match_form(matchers, start.as_deref(), end.as_deref())?;
            let path = format!("api/v1/label/{name}/values");
            let data = client(server.clone()).await?.api_get(&path, &form).await?;
            Ok(list(&data, |v| v.as_str().unwrap_or("").to_owned()))
        }
    }
}

fn lines(data: &Json, line: impl Fn(&Json) -> String) -> String {
    data.as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

fn range_form(
    expr: &str,
    start: Option<&str>,
    end: Option<&str>,
    step: Option<&str>,
) -> Result<Vec<(&'static str, String)>, String> {
    let end = end.map(seconds).transpose()?.unwrap_or_else(now_seconds);
    let start = start.map(seconds).transpose()?.unwrap_or(end - 300.0);
    if start >= end {
        return Err("start time is not before end time".to_owned());
    }
    let step = match step {
        Some(step) => step.to_owned(),
        None => ((end - start) / 250.0).floor().max(1.0).to_string(),
    };
    Ok(vec![
        ("query", expr.to_owned()),
        ("start", start.to_string()),
        ("end", end.to_string()),
        ("step", step),
    ])
}

fn match_form(
    matchers: &[String],
    start: Option<&str>,
    end: Option<&str>,
) -> Result<Vec<(&'static str, String)>, String> {
    let mut form: Vec<_> = matchers.iter().map(|m| ("match[]", m.clone())).collect();
    for (name, time) in [("start", start), ("end", end)] {
        if let Some(time) = time {
            form.push((name, seconds(time)?.to_string()));
        }
    }
    Ok(form)
}

/// A time as Unix seconds: a number or RFC 3339.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    if let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        return Ok(number);
    }
    DateTime::parse_from_rfc3339(text)
        .map(|t| t.timestamp_micros() as f64 / 1e6)
        .map_err(|_| format!("cannot parse {text:?} to a valid timestamp"))
}

pub(crate) fn now_seconds() -> f64 {
    Utc::now().timestamp_millis() as f64 / 1e3
}
