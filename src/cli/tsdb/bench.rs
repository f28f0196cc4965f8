//! `watchfire tsdb bench write`: how quickly samples are taken in. Stages, figures and the
//! times of the samples are promtool's, so the two can be compared. Profiles are not written.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use rayon::prelude::*;

use super::super::progress::Progress;
use super::super::say;
use super::go_duration;
use crate::model::Labels;
use crate::storage::tsdb::{Tsdb, TsdbOptions};
use crate::storage::{SeriesRef, Sink};
use crate::telemetry::clock::SystemClock;

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Run a write performance benchmark.
    Write(WriteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    /// Set the output path. What an earlier run left there is removed first.
    #[arg(long, default_value = "benchout")]
    out: PathBuf,
    /// Number of metrics to read.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    metrics: usize,
    /// Number of scrapes to simulate.
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    scrapes: usize,
    /// Input file with samples data: one JSON object of labels a line. Without one, series
    /// are made up.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Between two scrapes.
const SCRAPE_MS: i64 = 30_000;
/// Series of one commit.
const BATCH: usize = 1_000;
/// Scrapes that go by between two rounds of maintenance.
const ROUND: usize = 100;
/// The one thing in the output directory.
const STORAGE: &str = "storage";

pub(super) fn run(command: &BenchCommand) -> Result<(), String> {
    let BenchCommand::Write(args) = command;
    clear(&args.out)?;
    let dir = args.out.join(STORAGE);
    fs::create_dir_all(&dir).map_err(|e| format!("create {}: {e}", dir.display()))?;
    let clock = Arc::new(SystemClock::default());
    let store =
        Tsdb::open(&dir, TsdbOptions::default(), clock).map_err(|error| error.to_string())?;
    let (_, labels) = stage("readData", || series(args))?;
    let (duration, total) = stage("ingestScrapes", || ingest(&store, &labels, args.scrapes))?;
    say(&format!(" > total samples: {total}"));
    say(&format!(" > samples/sec: {}", total as f64 / duration.as_secs_f64().max(1e-9)));
    stage("stopStorage", || store.close().map_err(|error| error.to_string()))?;
    Ok(())
}

/// Does a part of the work, and tells that and for how long.
fn stage<T>(name: &str, work: impl FnOnce() -> Result<T, String>) -> Result<(Duration, T), String> {
    say(&format!(">> start stage={name}"));
    let start = Instant::now();
    let result = work()?;
    let took = start.elapsed();
    let shown = go_duration(i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
    say(&format!(">> completed stage={name} duration={shown}"));
    Ok((took, result))
}

/// Removes what an earlier run left, and nothing else.
fn clear(out: &Path) -> Result<(), String> {
    let shown = out.display();
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(format!("read {shown}: {e}")),
    };
    for entry in entries {
        let name = entry.map_err(|e| format!("read {shown}: {e}"))?.file_name();
        // promtool leaves profiles too.
        let name = name.to_string_lossy();
        if name != STORAGE && !name.ends_with(".prof") {
            return Err(format!(
                "{shown} holds {name}, which no benchmark wrote: name another directory with --out"
            ));
        }
    }
    fs::remove_dir_all(out).map_err(|e| format!("remove {shown}: {e}"))
}

/// The series to write, each once.
fn series(args: &WriteArgs) -> Result<Vec<Labels>, String> {
    let Some(path) = &args.file else {
        return Ok((0..args.metrics).map(made_up).collect());
    };
    let shown = path.display();
    let file = fs::File::open(path).map_err(|e| format!("open {shown}: {e}"))?;
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        if found.len() >= args.metrics {
            break;
        }
        let line = line.map_err(|e| format!("read {shown}: {e}"))?;
        if line.trim().is_empty() {
            continue;
        }
        let pairs: std::collections::BTreeMap<String, String> = serde_json::from_str(&line)
            .map_err(|e| format!("{shown}:{number}: not a JSON object of labels: {e}"))?;
        let labels = Labels::from_pairs(pairs);
        if known.insert(labels.clone()) {
            found.push(labels);
        }
    }
    match found.is_empty() {
        true => Err(format!("{shown} has no series: want a JSON object of labels on each line")),
        false => Ok(found),
    }
}

/// As a fleet of hosts with 500 series each exposes them.
fn made_up(number: usize) -> Labels {
    let (host, metric) = (number / 500, number % 500);
    Labels::from_pairs([
        ("__name__", format!("bench_{}_total", metric / 10)),
        ("device", format!("dev{}", metric % 10)),
        ("instance", format!("host-{host}:9100")),
        ("job", "bench".to_owned()),
    ])
}

/// A series that is written, and the value it is at.
struct Written<'l> {
    labels: &'l Labels,
    value: f64,
    hint: Option<SeriesRef>,
}

/// Writes all scrapes; gives the number of samples.
fn ingest(store: &Tsdb, labels: &[Labels], scrapes: usize) -> Result<u64, String> {
    let start = |labels| Written { labels, value: 123_456_789.0, hint: None };
    let mut all: Vec<Written<'_>> = labels.iter().map(start).collect();
    let progress = Progress::new("scrapes", scrapes.div_ceil(ROUND));
    for first in (0..scrapes).step_by(ROUND) {
        let round = first..scrapes.min(first + ROUND);
        all.par_chunks_mut(BATCH)
            .try_for_each(|batch| round.clone().try_for_each(|i| scrape(store, batch, i as i64)))?;
        store.maintain().map_err(|error| error.to_string())?;
        progress.step();
    }
    drop(progress);
    say(&"ingestion completed");
    Ok(all.len() as u64 * scrapes as u64)
}

/// One sample of each series of a batch.
fn scrape(store: &Tsdb, batch: &mut [Written<'_>], number: i64) -> Result<(), String> {
    let mut appender = store.appender();
    for series in batch {
        series.value += 1000.0;
        let (labels, value) = (series.labels, series.value);
        let appended = appender.append(series.hint, labels, number * SCRAPE_MS, value);
        series.hint = Some(appended.map_err(|e| format!("append to {labels}: {e}"))?);
    }
    appender.commit().map_err(|error| error.to_string())
}
