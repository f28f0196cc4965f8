//! `watchfire push metrics`: metrics in the text format, sent by remote write.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::check::stdin_text;
use super::client::{ApiClient, ClientArgs};
use super::{fail, query, say, small_runtime};
use crate::model::METRIC_NAME;
use crate::model::duration::parse_duration;
use crate::model::metadata::MetricType;
use crate::remote_write::{self, proto, proto2};
use crate::scrape::parse::{Entry, LabelPairs, text};

#[derive(Debug, Subcommand)]
pub(crate) enum PushCommand {
    /// Send metrics in the text format to a remote write receiver; standard input when no
    /// file is named. For tests and one-off values, not for regular monitoring.
    Metrics(Box<MetricsArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// The receiver, e.g. http://127.0.0.1:9090.
    url: String,
    /// The files.
    files: Vec<PathBuf>,
    /// Label to put on every series that lacks it, NAME=VALUE; repeatable.
    #[arg(long = "label", value_name = "NAME=VALUE", default_value = "job=promtool")]
    labels: Vec<String>,
    /// Longest time for one request.
    #[arg(long, default_value = "30s")]
    timeout: String,
    /// Which message to send.
    #[arg(long = "protobuf_message", value_enum, default_value_t = Message::V1)]
    message: Message,
    /// Path of the receiver below the URL.
    #[arg(long = "remote-write.path", default_value = "/api/v1/write")]
    path: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Message {
    #[value(name = "prometheus.WriteRequest")]
    V1,
    #[value(name = "io.prometheus.write.v2.Request")]
    V2,
}

impl Message {
    fn headers(self) -> HeaderMap {
        let (content_type, version) = match self {
            Self::V1 => ("application/x-protobuf", "0.1.0"),
            Self::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        let version = HeaderValue::from_static(version);
        headers.insert("x-prometheus-remote-write-version", version);
        headers
    }
}

/// Runs `watchfire push ...`: 1 when something was not taken.
pub(crate) fn run(command: &PushCommand) -> ExitCode {
    let PushCommand::Metrics(args) = command;
    let runtime = match small_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    runtime.block_on(push_all(args))
}

async fn push_all(args: &MetricsArgs) -> ExitCode {
    let client = async {
        let ms = parse_duration(&args.timeout).map_err(|e| format!("--timeout: {e}"))?;
        let timeout = Duration::from_millis(ms.unsigned_abs());
        let client = ApiClient::new(&args.client, &args.url, timeout).await?;
        Ok::<_, String>((client, labels(&args.labels)?))
    };
    let (client, labels) = match client.await {
        Ok(made) => made,
        Err(error) => return fail(&error),
    };
    // A URL that already ends in the path is taken as it is.
    let at_end =
        client.base().path().trim_end_matches('/').ends_with(args.path.trim_end_matches('/'));
    let path = if at_end { "" } else { args.path.trim_start_matches('/') };
    let mut inputs: Vec<(String, Result<String, String>)> = Vec::new();
    if args.files.is_empty() {
        inputs.push((String::new(), stdin_text()));
    }
    for file in &args.files {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|e| format!("open {}: {e}", file.display()));
        inputs.push((file.display().to_string(), text));
    }
    let mut failed = false;
    for (name, input) in inputs {
        let outcome = async {
            let input = input?;
            match name.as_str() {
                "" => say(&"Parsing standard input"),
                name => say(&format_args!("Parsing metrics file {name}")),
            }
            let body = body(&input, &labels, args.message)?;
            let answer = client.post(path, args.message.headers(), body).await?;
            if (200..300).contains(&answer.status) {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&answer.body);
            Err(format!("server returned HTTP status {}: {}", answer.status, text.trim_end()))
        };
        match outcome.await {
            Ok(()) if name.is_empty() => say(&"  SUCCESS: metrics pushed to remote write."),
            Ok(()) => {
                say(&format_args!("  SUCCESS: metrics file {name} pushed to remote write."));
            }
            Err(error) => {
                eprintln!("  FAILED: {error}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

type Pairs = BTreeMap<String, String>;

fn labels(given: &[String]) -> Result<Pairs, String> {
    let pair = |label: &String| match label.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("--label {label:?}: want NAME=VALUE")),
    };
    given.iter().map(pair).collect()
}

/// What a body says.
#[derive(Default)]
struct Parsed {
    /// Labels, value, time in ms; in the body's order.
    series: Vec<(Pairs, f64, i64)>,
    families: BTreeMap<String, (MetricType, String)>,
}

fn parse(input: &str, labels: &Pairs, now_ms: i64) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut pairs = LabelPairs::default();
    for entry in text(input.as_bytes()) {
        match entry.map_err(|e| e.to_string())? {
            Entry::Help { family, text } => {
                parsed.families.entry(family.into_owned()).or_default().1 = text.into_owned();
            }
            Entry::Type { family, kind } => {
                parsed.families.entry(family.into_owned()).or_default().0 = kind;
            }
            Entry::Series(series) => {
                series.labels(&mut pairs).map_err(|e| e.to_string())?;
                let mut all = labels.clone();
                all.extend(pairs.build().iter().map(|(n, v)| (n.to_owned(), v.to_owned())));
                parsed.series.push((all, series.value, series.ts.unwrap_or(now_ms)));
            }
            Entry::Unit { .. } | Entry::Comment => {}
        }
    }
    Ok(parsed)
}

/// The compressed message.
fn body(input: &str, labels: &Pairs, message: Message) -> Result<Vec<u8>, String> {
    let now_ms = (query::now_seconds() * 1e3) as i64;
    let parsed = parse(input, labels, now_ms)?;
    let body = match message {
        Message::V1 => remote_write::encode(&message_v1(parsed)),
        Message::V2 => remote_write::encode(&message_v2(parsed)),
    };
    body.map_err(|e| e.to_string())
}

fn message_v1(parsed: Parsed) -> proto::WriteRequest {
    let label = |(name, value)| proto::Label { name, value };
    let series = |(labels, value, timestamp): (Pairs, f64, i64)| proto::TimeSeries {
        labels: labels.into_iter().map(label).collect(),
        samples: vec![proto::Sample { value, timestamp }],
        ..proto::TimeSeries::default()
    };
    let metadata = |(name, (kind, help)): (String, (MetricType, String))| proto::MetricMetadata {
        r#type: i32::from(kind.code()),
        metric_family_name: name,
        help,
        unit: String::new(),
    };
    proto::WriteRequest {
        timeseries: parsed.series.into_iter().map(series).collect(),
        metadata: parsed.families.into_iter().map(metadata).collect(),
    }
}

fn message_v2(parsed: Parsed) -> proto2::Request {
    let mut symbols = proto2::Symbols::default();
    let mut timeseries = Vec::with_capacity(parsed.series.len());
    for (labels, value, timestamp) in parsed.series {
        let name = labels.get(METRIC_NAME).map_or("", String::as_str);
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|s| name.strip_suffix(s));
        let family = parsed.families.get(name);
        let family = family.or_else(|| base.and_then(|base| parsed.families.get(base)));
        let metadata = family.map(|(kind, help)| proto2::Metadata {
            kind: i32::from(kind.code()),
            help_ref: symbols.place(help),
            unit_ref: 0,
        });
        let refs = labels.iter().flat_map(|(n, v)| [symbols.place(n), symbols.place(v)]).collect();
        timeseries.push(proto2::TimeSeries {
            labels_refs: refs,
            samples: vec![proto2::Sample { value, timestamp, start_timestamp: 0 }],
            metadata,
            ..proto2::TimeSeries::default()
        });
    }
    proto2::Request { symbols: symbols.into_symbols(), timeseries }
}
