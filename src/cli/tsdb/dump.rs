//! `watchfire tsdb dump` and `dump-openmetrics`: samples as text, from blocks and log.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::super::small_runtime;
use super::DirArg;
use crate::model::float::general;
use crate::model::labels::quote_label_name;
use crate::model::{Labels, METRIC_NAME};
use crate::parser::parse_metric_selector;
use crate::storage::tsdb::{Tsdb, TsdbOptions};
use crate::storage::{RawSeries, SelectHints, SelectRequest, Source};
use crate::telemetry::clock::SystemClock;
use crate::vector::RawSamples;

#[derive(Debug, Args)]
pub(crate) struct SelectArgs {
    /// First time to print, in milliseconds.
    #[arg(long, default_value_t = i64::MIN, allow_hyphen_values = true)]
    min_time: i64,
    /// Last time to print, in milliseconds.
    #[arg(long, default_value_t = i64::MAX, allow_hyphen_values = true)]
    max_time: i64,
    /// Series selector; repeatable.
    #[arg(long = "match", value_name = "SELECTOR", default_value = "{__name__=~'(?s:.*)'}")]
    selectors: Vec<String>,
    /// Taken and not needed: nothing is written.
    #[arg(long, hide = true)]
    sandbox_dir_root: Option<String>,
    #[command(flatten)]
    dir: DirArg,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Lines of series, value and time, or the label sets of the series as JSON.
    #[arg(long, value_enum, default_value_t = Format::Prom)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Prom,
    Seriesjson,
}

type Out<'a> = BufWriter<std::io::StdoutLock<'a>>;

pub(super) fn run(args: &DumpArgs) -> Result<(), String> {
    with_series(&args.select, |series, raw, out| match args.format {
        Format::Prom => write_samples(series.labels(), raw, out),
        Format::Seriesjson => write_json(series.labels(), out),
    })
}

pub(super) fn run_openmetrics(args: &SelectArgs) -> Result<(), String> {
    with_series(args, |series, raw, out| {
        let name = series.labels().metric_name();
        let labels = openmetrics_labels(series.labels());
        for (ts, value) in raw.ts.iter().zip(&raw.vs) {
            writeln!(out, "{name}{labels} {} {:.3}", general(*value), *ts as f64 / 1e3)?;
        }
        Ok(())
    })?;
    super::super::say(&"# EOF");
    Ok(())
}

/// The labels but the name as OpenMetrics has them: without blanks, and with its escapes.
fn openmetrics_labels(labels: &Labels) -> String {
    let mut text = "{".to_owned();
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        if text.len() > 1 {
            text.push(',');
        }
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        text.push_str(&format!("{}=\"{value}\"", quote_label_name(name)));
    }
    text + "}"
}

/// Opens the directory and calls `write` for each series with its samples.
fn with_series(
    args: &SelectArgs,
    mut write: impl FnMut(&dyn RawSeries, &RawSamples, &mut Out<'_>) -> std::io::Result<()>,
) -> Result<(), String> {
    let clock = Arc::new(SystemClock::default());
    let opened = Tsdb::open_read_only(args.dir.existing()?, TsdbOptions::default(), clock);
    let store = opened.map_err(|e| e.to_string())?;
    let mut all: BTreeMap<Labels, Arc<dyn RawSeries>> = BTreeMap::new();
    let runtime = small_runtime().map_err(|e| e.to_string())?;
    for selector in &args.selectors {
        let request = SelectRequest {
            matchers: parse_metric_selector(selector).map_err(|e| e.to_string())?,
            from_ms: args.min_time,
            to_ms: args.max_time,
            hints: SelectHints::default(),
        };
        let found = runtime.block_on(store.select(&request)).map_err(|e| e.to_string())?;
        all.extend(found.series.into_iter().map(|series| (series.labels().clone(), series)));
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut raw = RawSamples::default();
    for series in all.values() {
        raw.clear();
        let read = series.read_into(args.min_time, args.max_time, &mut raw);
        read.map_err(|e| e.to_string())?;
        if write(series.as_ref(), &raw, &mut out).is_err() {
            // Whoever reads this stopped reading.
            return Ok(());
        }
    }
    let _ = out.flush();
    Ok(())
}

fn write_samples(labels: &Labels, raw: &RawSamples, out: &mut Out<'_>) -> std::io::Result<()> {
    let (mut floats, mut histograms) = (0, 0);
    while floats < raw.ts.len() || histograms < raw.hist.len() {
        let float = raw.ts.get(floats).copied();
        match raw.hist.get(histograms) {
            Some((ts, histogram)) if float.is_none_or(|float| *ts < float) => {
                writeln!(out, "{labels} {histogram} {ts}")?;
                histograms += 1;
            }
            _ => {
                let (ts, value) = (raw.ts[floats], general(raw.vs[floats]));
                writeln!(out, "{labels} {value} {ts}")?;
                floats += 1;
            }
        }
    }
    Ok(())
}

fn write_json(labels: &Labels, out: &mut Out<'_>) -> std::io::Result<()> {
    let map: BTreeMap<&str, &str> = labels.iter().collect();
    serde_json::to_writer(&mut *out, &map)?;
    writeln!(out)
}
