//! `watchfire query`: asks any server with Prometheus' HTTP API. Output and exit codes
//! are promtool's.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use url::Url;

use super::{fail, format, say, small_runtime};

/// Time allowed for one request, as promtool has it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer read into memory.
const ANSWER_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, Subcommand)]
pub(crate) enum QueryCommand {
    /// Run an instant query.
    Instant {
        #[command(flatten)]
        common: Common,
        /// The expression.
        expr: String,
        /// Evaluation time: RFC 3339 or Unix seconds; now if left out.
        #[arg(long)]
        time: Option<String>,
    },
    /// Run a range query.
    Range {
        #[command(flatten)]
        common: Common,
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
        #[command(flatten)]
        common: Common,
        /// Series selector; repeatable.
        #[arg(long = "match", required = true)]
        matchers: Vec<String>,
        #[arg(long)]
        start: Option<String>,
        #[arg(long)]
        end: Option<String>,
    },
    /// List the values of a label.
    Labels {
        #[command(flatten)]
        common: Common,
        /// The label.
        name: String,
        /// Series selector; repeatable.
        #[arg(long = "match")]
        matchers: Vec<String>,
        #[arg(long)]
        start: Option<String>,
        #[arg(long)]
        end: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The server, e.g. http://127.0.0.1:9090.
    server: String,
    /// Header to send, NAME=VALUE; repeatable.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Text as promtool prints it, or the answer's JSON.
    #[arg(short = 'o', long = "format", value_enum, default_value_t = OutputFormat::Promql)]
    output: OutputFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Promql,
    Json,
}

/// Runs `watchfire query ...`.
pub(crate) fn run(command: &QueryCommand) -> ExitCode {
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(answer(command)) {
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

async fn answer(command: &QueryCommand) -> Result<String, String> {
    match command {
        QueryCommand::Instant { common, expr, time } => {
            let time = time.as_deref().map(seconds).transpose()?.unwrap_or_else(now_seconds);
            let form = vec![("query", expr.clone()), ("time", time.to_string())];
            let data = ask(common, "api/v1/query", form).await?;
            Ok(render(common, &data))
        }
        QueryCommand::Range { common, expr, start, end, step } => {
            let form = range_form(expr, start.as_deref(), end.as_deref(), step.as_deref())?;
            let data = ask(common, "api/v1/query_range", form).await?;
            Ok(render(common, &data))
        }
        QueryCommand::Series { common, matchers, start, end } => {
            let form = match_form(matchers, start.as_deref(), end.as_deref())?;
            let data = ask(common, "api/v1/series", form).await?;
            Ok(match common.output {
                OutputFormat::Json => data.to_string(),
                OutputFormat::Promql => lines(&data, format::label_set),
            })
        }
        QueryCommand::Labels { common, name, matchers, start, end } => {
            let form = match_form(matchers, start.as_deref(), end.as_deref())?;
            let data = ask_get(common, &format!("api/v1/label/{name}/values"), form).await?;
            Ok(match common.output {
                OutputFormat::Json => data.to_string(),
                OutputFormat::Promql => lines(&data, |v| v.as_str().unwrap_or("").to_owned()),
            })
        }
    }
}

fn render(common: &Common, data: &Json) -> String {
    match common.output {
        OutputFormat::Promql => format::result(data),
        OutputFormat::Json => data["result"].to_string(),
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

async fn ask(common: &Common, path: &str, form: Vec<(&str, String)>) -> Result<Json, String> {
    let request = client(common)?.post(endpoint(&common.server, path)?).form(&form);
    read_answer(request).await
}

async fn ask_get(common: &Common, path: &str, form: Vec<(&str, String)>) -> Result<Json, String> {
    let request = client(common)?.get(endpoint(&common.server, path)?).query(&form);
    read_answer(request).await
}

fn endpoint(server: &str, path: &str) -> Result<Url, String> {
    let with_scheme =
        if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let base = Url::parse(&with_scheme).map_err(|e| format!("server URL {server:?}: {e}"))?;
    let mut url = base.clone();
    let prefix = base.path().trim_end_matches('/');
    url.set_path(&format!("{prefix}/{path}"));
    Ok(url)
}

fn client(common: &Common) -> Result<reqwest::Client, String> {
    // The provider is per process; that another command installed it first is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut headers = HeaderMap::new();
    for header in &common.headers {
        let parsed = header.split_once('=').and_then(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value).ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| format!("header {header:?}: want NAME=VALUE"))?;
        headers.append(name, value);
    }
    reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .default_headers(headers)
        .user_agent(concat!("watchfire/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| e.to_string())
}

async fn read_answer(request: reqwest::RequestBuilder) -> Result<Json, String> {
    let mut response = request.send().await.map_err(|e| with_cause(&e))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| with_cause(&e))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("answer is larger than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    let json: Json = serde_json::from_slice(&body)
        .map_err(|_| format!("server answered HTTP status {status}, not Prometheus' JSON"))?;
    for warning in json["warnings"].as_array().into_iter().flatten() {
        eprintln!("query warning: {}", warning.as_str().unwrap_or(""));
    }
    match json["status"].as_str() {
        Some("success") => Ok(json["data"].clone()),
        _ => {
            let text = |key: &str| json[key].as_str().unwrap_or("unknown").to_owned();
            Err(format!("{}: {}", text("errorType"), text("error")))
        }
    }
}

/// An error with what caused it: reqwest's own text stops at "error sending request".
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
