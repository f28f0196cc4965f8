//! `watchfire tsdb create-blocks-from`: for `rules` see `backfill`; for `openmetrics`, blocks of two hours from a file of
//! samples. The file is read once per block, so that memory holds one block at a time.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::super::features::FeatureFlags;
use super::backfill::{self, RulesArgs};
use super::list::Table;
use crate::model::Clock;
use crate::scrape::parse::{Entry, LabelPairs, openmetrics};
use crate::storage::tsdb::BlockBuilder;
use crate::telemetry::clock::SystemClock;

/// What a block covers: 2 h.
pub(super) const BLOCK_MS: i64 = 2 * 3600 * 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// Import samples from OpenMetrics text; every sample needs a time.
    Openmetrics(OpenmetricsArgs),
    /// Let a server evaluate recording rules over the past.
    Rules(Box<RulesArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct OpenmetricsArgs {
    /// Print human readable values.
    #[arg(short = 'r', long)]
    human_readable: bool,
    /// Do not print created blocks.
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Label to put on every series, NAME=VALUE; repeatable.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// The file, which ends with `# EOF`.
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Where the blocks go.
    #[arg(value_name = "DIR", default_value = "data/")]
    output: PathBuf,
}

pub(super) fn run(command: &CreateCommand, features: &FeatureFlags) -> Result<(), String> {
    match command {
        CreateCommand::Openmetrics(args) => import(args),
        CreateCommand::Rules(args) => backfill::run(args, features),
    }
}

/// Prints what was made, unless nothing was or nobody wants to know.
pub(super) fn print_table(table: &Table, quiet: bool) {
    if !quiet && !table.is_empty() {
        table.print();
    }
}

fn import(args: &OpenmetricsArgs) -> Result<(), String> {
    let input =
        std::fs::read(&args.input).map_err(|e| format!("open {}: {e}", args.input.display()))?;
    let mut extra = Vec::new();
    for label in &args.labels {
        match label.split_once('=') {
            Some((name, value)) if !name.is_empty() => extra.push((name, value)),
            _ => return Err(format!("--label {label:?}: want NAME=VALUE")),
        }
    }
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    for_samples(&input, &extra, |_, ts, _| {
        (min, max) = (min.min(ts), max.max(ts));
        Ok(())
    })?;
    std::fs::create_dir_all(&args.output)
        .map_err(|e| format!("create output dir: {}: {e}", args.output.display()))?;
    let clock = SystemClock::default();
    let mut table = Table::default();
    let mut start = min.div_euclid(BLOCK_MS).saturating_mul(BLOCK_MS);
    while min <= max && start <= max {
        let end = start.saturating_add(BLOCK_MS);
        let mut block = BlockBuilder::default();
        let mut next = i64::MAX;
        for_samples(&input, &extra, |labels, ts, value| {
            if ts >= end {
                next = next.min(ts);
            } else if ts >= start {
                let labels = labels()?;
                block.add(&labels, ts, value).map_err(|e| format!("add sample: {labels}: {e}"))?;
            }
            Ok(())
        })?;
        if let Some((meta, bytes)) =
            block.write(&args.output, clock.now_ms()).map_err(|e| e.to_string())?
        {
            table.add(&meta, bytes, args.human_readable);
        }
        if next == i64::MAX {
            break;
        }
        // Years without a sample take no turn each.
        start = next.div_euclid(BLOCK_MS).saturating_mul(BLOCK_MS);
    }
    print_table(&table, args.quiet);
    Ok(())
}

type LabelsOf<'a> = dyn FnMut() -> Result<crate::model::Labels, String> + 'a;

/// Calls `each` for every sample: its labels when asked for, time and value.
fn for_samples(
    input: &[u8],
    extra: &[(&str, &str)],
    mut each: impl FnMut(&mut LabelsOf<'_>, i64, f64) -> Result<(), String>,
) -> Result<(), String> {
    let mut pairs = LabelPairs::default();
    for entry in openmetrics(input) {
        let Entry::Series(series) = entry.map_err(|e| e.to_string())? else { continue };
        let mut labels = || {
            series.labels(&mut pairs).map_err(|e| e.to_string())?;
            let mut builder = pairs.build().builder();
            for (name, value) in extra {
                builder.set(name, value);
            }
            Ok(builder.build())
        };
        match series.ts {
            Some(ts) => each(&mut labels, ts, series.value)?,
            None => return Err(format!("expected timestamp for series {}, got none", labels()?)),
        }
    }
    Ok(())
}
