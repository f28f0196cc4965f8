//! `watchfire eval`: an expression over a file of samples, without a server.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::{FeatureFlags, fail, format, query, say, small_runtime};
use crate::api::result_json;
use crate::model::annotation::Severity;
use crate::model::duration::parse_duration;
use crate::model::{Labels, StepGrid, TimestampMs};
use crate::query::{Engine, QueryResult, RunOptions};
use crate::scrape::parse::{self, Entry, LabelPairs};
use crate::storage::Source;
use crate::storage::memory::MemoryStorage;

/// Largest data file.
const DATA_BYTES_MAX: u64 = 4 << 30;

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The expression.
    expr: String,
    /// File in Prometheus' text format or OpenMetrics; `-` is standard input. A sample
    /// without a timestamp counts as taken at the time of evaluation.
    #[arg(long, value_name = "FILE")]
    data: String,
    /// Evaluation time: RFC 3339 or Unix seconds. Left out: the newest timestamp in the
    /// file, or now if it has none.
    #[arg(long, conflicts_with_all = ["start", "end", "step"])]
    time: Option<String>,
    /// Start of a range evaluation; needs --end and --step.
    #[arg(long, requires_all = ["end", "step"])]
    start: Option<String>,
    /// End of a range evaluation.
    #[arg(long, requires = "start")]
    end: Option<String>,
    /// Step of a range evaluation, e.g. 15s.
    #[arg(long, requires = "start")]
    step: Option<String>,
    /// Print the result as the API's JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `watchfire eval`.
pub(crate) fn run(args: &EvalArgs, features: &FeatureFlags) -> ExitCode {
    match evaluate(args, features) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn evaluate(args: &EvalArgs, features: &FeatureFlags) -> Result<(), String> {
    let data = Data::load(&args.data)?;
    let at_ms = match &args.time {
        Some(time) => to_ms(query::seconds(time)?),
        None => data.newest_ms().unwrap_or_else(|| to_ms(query::now_seconds())),
    };
    let grid = grid(args)?;
    // A sample without a timestamp is seen wherever the evaluation looks first.
    let untimed_ms = grid.map_or(at_ms, |grid| grid.start_ms);
    let source = data.into_source(untimed_ms)?;

    let engine = Engine::new(features.engine());
    let prepared = engine.prepare(&args.expr).map_err(|e| e.to_string())?;
    let runtime = small_runtime().map_err(|e| e.to_string())?;
    let options = RunOptions::default();
    let result = runtime.block_on(async {
        match grid {
            Some(grid) => prepared.range(&source, grid, &options).await,
            None => prepared.instant(&source, at_ms, &options).await,
        }
    });
    show(args, result.map_err(|e| e.to_string())?)
}

fn show(args: &EvalArgs, result: QueryResult) -> Result<(), String> {
    for (severity, word) in [(Severity::Warning, "warning"), (Severity::Info, "info")] {
        for text in result.annotations.rendered(severity, &args.expr) {
            eprintln!("{word}: {text}");
        }
    }
    let json = result_json(result.value);
    if args.json {
        say(&format_args!("{json}"));
        return Ok(());
    }
    let data = serde_json::from_str(&json).map_err(|e| format!("BUG: {e}"))?;
    let text = format::result(&data);
    if !text.is_empty() {
        say(&format_args!("{text}"));
    }
    Ok(())
}

pub(super) fn to_ms(seconds: f64) -> TimestampMs {
    (seconds * 1000.0).round() as TimestampMs
}

fn grid(args: &EvalArgs) -> Result<Option<StepGrid>, String> {
    let (Some(start), Some(end), Some(step)) = (&args.start, &args.end, &args.step) else {
        return Ok(None);
    };
    let step_ms = match step.parse::<f64>() {
        Ok(seconds) => to_ms(seconds),
        Err(_) => parse_duration(step).map_err(|e| format!("--step: {e}"))?,
    };
    let (start, end) = (to_ms(query::seconds(start)?), to_ms(query::seconds(end)?));
    match StepGrid::range(start, end, step_ms) {
        Some(grid) if grid.len > 0 => Ok(Some(grid)),
        Some(_) => Err("--end lies before --start".to_owned()),
        None => Err("--step must be positive and give fewer than 2^32 steps".to_owned()),
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let outcome = match path {
        "-" => std::io::stdin().lock().take(DATA_BYTES_MAX + 1).read_to_end(&mut bytes),
        path => std::fs::File::open(path)
            .and_then(|file| file.take(DATA_BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    outcome.map_err(|e| format!("cannot read {path}: {e}"))?;
    if bytes.len() as u64 > DATA_BYTES_MAX {
        return Err(format!("{path} has more than {DATA_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// Samples of each series in file order; a time may be missing.
#[derive(Default)]
pub(super) struct Data {
    series: BTreeMap<Labels, Vec<(Option<TimestampMs>, f64)>>,
}

impl Data {
    /// Reads a file; `-` is standard input.
    pub(super) fn load(path: &str) -> Result<Self, String> {
        samples(&read(path)?).map_err(|e| format!("{path}: {e}"))
    }

    /// The newest timestamp in the file.
    pub(super) fn newest_ms(&self) -> Option<TimestampMs> {
        self.series.values().flatten().filter_map(|(ts, _)| *ts).max()
    }

    /// Something to query; samples without a time are taken at `untimed_ms`.
    pub(super) fn into_source(self, untimed_ms: TimestampMs) -> Result<Arc<dyn Source>, String> {
        fill(self, untimed_ms).map(|storage| Arc::new(storage) as Arc<dyn Source>)
    }
}

fn samples(bytes: &[u8]) -> Result<Data, String> {
    let is_openmetrics = bytes.trim_ascii_end().ends_with(b"# EOF");
    let parser = if is_openmetrics { parse::openmetrics(bytes) } else { parse::text(bytes) };
    let mut samples = Data::default();
    let mut labels = LabelPairs::default();
    for entry in parser {
        if let Entry::Series(series) = entry.map_err(|e| e.to_string())? {
            series.labels(&mut labels).map_err(|e| e.to_string())?;
            samples.series.entry(labels.build()).or_default().push((series.ts, series.value));
        }
    }
    Ok(samples)
}

fn fill(data: Data, untimed_ms: TimestampMs) -> Result<MemoryStorage, String> {
    let storage = MemoryStorage::new();
    for (labels, samples) in data.series {
        let mut timed: Vec<_> =
            samples.into_iter().map(|(ts, v)| (ts.unwrap_or(untimed_ms), v)).collect();
        timed.sort_by_key(|(ts, _)| *ts);
        for (ts, value) in timed {
            storage
                .append(&labels, ts, value, None)
                .map_err(|e| format!("series {labels} at {ts} ms: {e}"))?;
        }
    }
    Ok(storage)
}
