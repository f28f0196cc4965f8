//! `watchfire tsdb create-blocks-from rules`: recording rules evaluated by a server over the
//! past, their results as blocks. Each block of two hours holds the results of all rules;
//! a rule does not see what others of the same run record.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value as Json;

use super::super::client::{ApiClient, ClientArgs};
use super::super::features::FeatureFlags;
use super::super::{query, small_runtime};
use super::create::{BLOCK_MS, print_table};
use super::list::Table;
use crate::model::duration::parse_duration;
use crate::model::{Clock, Labels, METRIC_NAME};
use crate::rules::config::{GroupSpec, LoadOptions, RuleKind, RuleSpec, load_file};
use crate::rules::tick_before;
use crate::storage::tsdb::BlockBuilder;
use crate::telemetry::clock::SystemClock;

/// Time allowed for one query.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How long before now it ends when `--end` is left out: what is newer is in memory.
const END_BEFORE_NOW_SECONDS: i64 = 3 * 3600;

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// Print human readable values.
    #[arg(short = 'r', long)]
    human_readable: bool,
    /// Do not print created blocks.
    #[arg(short = 'q', long)]
    quiet: bool,
    /// The server that has the data.
    #[arg(long, value_name = "URL", default_value = "http://localhost:9090")]
    url: String,
    /// Where to begin: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME")]
    start: String,
    /// Where to end; three hours ago if left out.
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
    /// Where the blocks go.
    #[arg(long, value_name = "DIR", default_value = "data/")]
    output_dir: PathBuf,
    /// Interval of groups that have none.
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    eval_interval: String,
    #[command(flatten)]
    client: ClientArgs,
    /// The rule files; alerting rules are not evaluated.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &RulesArgs, features: &FeatureFlags) -> Result<(), String> {
    let clock = SystemClock::default();
    let start = query::seconds(&args.start)? as i64;
    let end = match &args.end {
        Some(end) => query::seconds(end)? as i64,
        None => clock.now_ms() / 1000 - END_BEFORE_NOW_SECONDS,
    };
    if start >= end {
        return Err("start time is not before end time".to_owned());
    }
    let default_ms =
        parse_duration(&args.eval_interval).map_err(|e| format!("--eval-interval: {e}"))?;
    let options = LoadOptions { parser: features.parser(), ..LoadOptions::default() };
    let mut groups = Vec::new();
    for file in &args.files {
        let loaded = load_file(file, &options);
        let errors: Vec<String> = loaded.errors().map(ToString::to_string).collect();
        if !errors.is_empty() {
            return Err(errors.join("\n"));
        }
        groups.extend(loaded.groups);
    }
    let runtime = small_runtime().map_err(|e| e.to_string())?;
    let client = runtime.block_on(ApiClient::new(&args.client, &args.url, REQUEST_TIMEOUT))?;
    std::fs::create_dir_all(&args.output_dir)
        .map_err(|e| format!("create output dir: {}: {e}", args.output_dir.display()))?;
    let (mut table, mut errors) = (Table::default(), Vec::new());
    let mut block_start = (start * 1000).div_euclid(BLOCK_MS) * BLOCK_MS;
    while block_start <= end * 1000 {
        // The last millisecond of a block, and whole seconds as promtool has them.
        let to = ((block_start + BLOCK_MS - 1) / 1000).min(end);
        let from = (block_start / 1000).max(start);
        let mut block = BlockBuilder::default();
        for group in &groups {
            let interval_ms = group.interval_ms.unwrap_or(default_ms).max(1);
            let Some(range) = Range::new(group, interval_ms, from, to) else { continue };
            for rule in &group.rules {
                let RuleKind::Recording { record } = &rule.kind else { continue };
                let added = runtime.block_on(add_rule(&client, rule, record, range, &mut block));
                errors.extend(added.map_err(|e| format!("rule {record}: {e}")).err());
            }
        }
        let written = block.write(&args.output_dir, clock.now_ms()).map_err(|e| e.to_string())?;
        if let Some((meta, bytes)) = written {
            table.add(&meta, bytes, args.human_readable);
        }
        block_start += BLOCK_MS;
    }
    print_table(&table, args.quiet);
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
}

/// The ticks of a group between two times.
#[derive(Clone, Copy, Debug)]
struct Range {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
}

impl Range {
    fn new(group: &GroupSpec, interval_ms: i64, from: i64, to: i64) -> Option<Self> {
        let before =
            |at_ms| tick_before(&group.name, &group.file, group.eval_offset_ms, interval_ms, at_ms);
        let mut start_ms = before(from * 1000);
        while start_ms < from * 1000 {
            start_ms += interval_ms;
        }
        let end_ms = to * 1000;
        (start_ms <= end_ms).then_some(Self { start_ms, end_ms, step_ms: interval_ms })
    }
}

async fn add_rule(
    client: &ApiClient,
    rule: &RuleSpec,
    record: &str,
    range: Range,
    block: &mut BlockBuilder,
) -> Result<(), String> {
    let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
    let form = [
        ("query", rule.expr.printed.clone()),
        ("start", seconds(range.start_ms)),
        ("end", seconds(range.end_ms)),
        ("step", seconds(range.step_ms)),
    ];
    let data = client.api_post("api/v1/query_range", &form).await?;
    for series in data["result"].as_array().into_iter().flatten() {
        let labels = labels_of(series, rule, record);
        for point in series["values"].as_array().into_iter().flatten() {
            let (ts, value) = (point[0].as_f64(), point[1].as_str());
            let value = value.and_then(|text| text.parse::<f64>().ok());
            let Some((ts, value)) = ts.zip(value) else {
                return Err(format!("the server answered with a point {point}"));
            };
            let ts = (ts * 1000.0).round() as i64;
            block.add(&labels, ts, value).map_err(|e| format!("add sample: {labels}: {e}"))?;
        }
    }
    Ok(())
}

/// The labels of a result as the rule records them: its own last.
fn labels_of(series: &Json, rule: &RuleSpec, record: &str) -> Labels {
    let found = series["metric"].as_object().into_iter().flatten();
    let found = found.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
    let mut builder = Labels::from_pairs(found).builder();
    for (name, value) in &rule.labels {
        builder.set(name, value);
    }
    builder.set(METRIC_NAME, record).build()
}
