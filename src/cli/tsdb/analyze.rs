//! `watchfire tsdb analyze`: what takes the space, and what comes and goes.

use clap::Args;

use super::super::say;
use super::{DirArg, go_duration};
use crate::parser::parse_metric_selector;
use crate::storage::tsdb::inspect::{self, Count};

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// How many items to show in each list.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Tell also how full chunks are; reads all of them.
    #[arg(long)]
    extended: bool,
    /// Series to look at; all of them if left out.
    #[arg(long = "match", value_name = "SELECTOR")]
    selector: Option<String>,
    #[command(flatten)]
    dir: DirArg,
    /// The block; the last one if left out.
    #[arg(value_name = "BLOCK")]
    block: Option<String>,
}

pub(super) fn run(args: &AnalyzeArgs) -> Result<(), String> {
    let missing = || match &args.block {
        Some(block) => format!("block {block} not found"),
        None => "no blocks found".to_owned(),
    };
    let dir = args.dir.existing()?;
    let id = args.block.as_ref().map(|id| id.parse().map_err(|_| missing())).transpose()?;
    let matchers = match &args.selector {
        Some(text) => parse_metric_selector(text).map_err(|e| e.to_string())?,
        None => Vec::new(),
    };
    let found = inspect::analyze(dir, id, &matchers, args.limit, args.extended);
    let found = found.map_err(|e| e.to_string())?.ok_or_else(missing)?;
    say(&format_args!("Block ID: {}", found.meta.ulid));
    say(&format_args!("Duration: {}", go_duration(found.meta.max_time - found.meta.min_time)));
    say(&format_args!("Series: {}", found.series));
    say(&format_args!("Label names: {}", found.label_names));
    say(&format_args!("Postings (unique label pairs): {}", found.label_pairs));
    say(&format_args!("Postings entries (total label pairs): {}", found.postings));
    for (heading, list) in [
        ("Label pairs most involved in churning", &found.churn_by_pair),
        ("Label names most involved in churning", &found.churn_by_name),
        ("Most common label pairs", &found.series_by_pair),
        ("Label names with highest cumulative label value length", &found.bytes_by_name),
        ("Highest cardinality labels", &found.values_by_name),
        ("Highest cardinality metric names", &found.series_by_metric),
    ] {
        print_list(heading, list);
    }
    let all: u64 = found.fullness.iter().sum();
    if args.extended {
        say(&"\nCompaction analysis:");
        say(&"Fullness: Amount of samples in chunks (100% is 120 samples)");
        for (i, chunks) in found.fullness.iter().enumerate() {
            let bar = "#".repeat((100 * chunks / all.max(1)) as usize);
            say(&format_args!("{:7}%: {bar}", (i + 1) * 10));
        }
    }
    Ok(())
}

fn print_list(heading: &str, list: &[Count]) {
    say(&format_args!("\n{heading}:"));
    for (name, count) in list {
        say(&format_args!("{count} {name}"));
    }
}
