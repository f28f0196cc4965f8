//! The samples of a recording, asked of a server piece by piece.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::cli::client::{ApiClient, ServerConfig};
use crate::cli::progress::Progress;
use crate::model::duration::{format_duration, parse_duration};
use crate::model::labels::quote;
use crate::model::{Labels, TimestampMs};
use crate::rules::unit_test::record::{Fetched, Plan};

/// Longest time whose samples are asked for at once.
const PIECE_MS: i64 = 6 * 3_600_000;

/// Most steps of one range query.
const STEPS_MAX: i64 = 5_000;

/// What a server says of itself; what it does not say is empty.
#[derive(Default)]
pub(super) struct About {
    pub external_labels: Labels,
    pub external_url: String,
    pub evaluation_interval_ms: Option<i64>,
}

pub(super) async fn about(client: &ApiClient) -> About {
    let config = client.api_get("api/v1/status/config", &[]).await.unwrap_or_default();
    let config = ServerConfig::of(&config).unwrap_or_default();
    let flags = client.api_get("api/v1/status/flags", &[]).await.unwrap_or_default();
    let interval = config.global.evaluation_interval;
    About {
        external_labels: Labels::from_pairs(config.global.external_labels),
        external_url: flags["web.external-url"].as_str().unwrap_or("").to_owned(),
        evaluation_interval_ms: interval.and_then(|text| parse_duration(&text).ok()),
    }
}

/// How many alerts the server itself had as firing. `None` when it does not tell.
pub(super) async fn fired(client: &ApiClient, alert: &str, plan: &Plan) -> Option<usize> {
    let selector = format!("ALERTS{{alertname={},alertstate=\"firing\"}}", quote(alert));
    let range = format_duration((plan.end_ms - plan.from_ms).max(1000));
    let query = format!("count(count_over_time({selector}[{range}]))");
    let form = [("query", query), ("time", seconds(plan.end_ms))];
    let data = client.api_post("api/v1/query", &form).await.ok()?;
    data["result"][0]["value"][1].as_str()?.parse().ok()
}

fn seconds(ms: TimestampMs) -> String {
    format!("{:.3}", ms as f64 / 1000.0)
}

/// Every series the plan names, with its samples.
pub(super) async fn series(
    client: &ApiClient,
    plan: &Plan,
    series_max: usize,
) -> Result<Vec<Fetched>, String> {
    let progress = Progress::new("fetching", plan.selectors.len());
    let mut found: BTreeMap<Labels, Fetched> = BTreeMap::new();
    for selector in &plan.selectors {
        progress.at(selector);
        let range = format_duration(plan.end_ms - plan.start_ms + plan.interval_ms);
        let count = format!("count(count_over_time({selector}[{range}]))");
        let form = [("query", count), ("time", seconds(plan.end_ms))];
        let data = client.api_post("api/v1/query", &form).await?;
        let count = data["result"][0]["value"][1].as_str().and_then(|n| n.parse().ok());
        let count: usize = count.unwrap_or(0);
        if found.len() + count > series_max {
            return Err(format!(
                "{selector} has {count} series, and at most {series_max} are fetched in all; choose \
                 a shorter time, or raise --max-series"
            ));
        }
        if count > 0 {
            samples(client, plan, selector, &mut found).await?;
            visible(client, plan, selector, &mut found).await?;
        }
        progress.step();
    }
    let mut series: Vec<Fetched> = found.into_values().collect();
    for one in &mut series {
        one.samples.sort_by_key(|(ts, _)| *ts);
        one.samples.dedup_by_key(|(ts, _)| *ts);
    }
    Ok(series)
}

/// The samples themselves, from an interval before the start on.
async fn samples(
    client: &ApiClient,
    plan: &Plan,
    selector: &str,
    found: &mut BTreeMap<Labels, Fetched>,
) -> Result<(), String> {
    let mut from = plan.start_ms - plan.interval_ms;
    while from < plan.end_ms {
        let to = (from + PIECE_MS).min(plan.end_ms);
        let query = format!("{selector}[{}]", format_duration(to - from));
        let form = [("query", query), ("time", seconds(to))];
        let data = client.api_post("api/v1/query", &form).await?;
        for row in data["result"].as_array().into_iter().flatten() {
            let one = entry(plan, row, found);
            one.samples.extend(row["values"].as_array().into_iter().flatten().filter_map(sample));
            one.histograms += row["histograms"].as_array().map_or(0, Vec::len);
        }
        from = to;
    }
    Ok(())
}

/// At which evaluations the server shows each series.
async fn visible(
    client: &ApiClient,
    plan: &Plan,
    selector: &str,
    found: &mut BTreeMap<Labels, Fetched>,
) -> Result<(), String> {
    let mut from = plan.start_ms;
    while from <= plan.end_ms {
        let to = (from + (STEPS_MAX - 1) * plan.interval_ms).min(plan.end_ms);
        let form = [
            ("query", selector.to_owned()),
            ("start", seconds(from)),
            ("end", seconds(to)),
            ("step", seconds(plan.interval_ms)),
        ];
        let data = client.api_post("api/v1/query_range", &form).await?;
        for row in data["result"].as_array().into_iter().flatten() {
            let one = entry(plan, row, found);
            for values in [&row["values"], &row["histograms"]] {
                for at in values.as_array().into_iter().flatten().filter_map(at_ms) {
                    let tick = (at - plan.start_ms) / plan.interval_ms;
                    if let Some(shown) =
                        usize::try_from(tick).ok().and_then(|i| one.visible.get_mut(i))
                    {
                        *shown = true;
                    }
                }
            }
        }
        from = to + plan.interval_ms;
    }
    Ok(())
}

fn entry<'f>(plan: &Plan, row: &Json, found: &'f mut BTreeMap<Labels, Fetched>) -> &'f mut Fetched {
    let labels = row["metric"].as_object().into_iter().flatten();
    let labels = Labels::from_pairs(labels.map(|(n, v)| (n, v.as_str().unwrap_or(""))));
    found.entry(labels.clone()).or_insert_with(|| Fetched {
        labels,
        visible: vec![false; plan.ticks()],
        ..Fetched::default()
    })
}

fn at_ms(point: &Json) -> Option<TimestampMs> {
    Some((point[0].as_f64()? * 1000.0).round() as TimestampMs)
}

fn sample(point: &Json) -> Option<(TimestampMs, f64)> {
    let value = match point[1].as_str()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().ok()?,
    };
    Some((at_ms(point)?, value))
}
