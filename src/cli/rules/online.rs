//! Asks a server what the linter wants to know of it.

use std::collections::HashMap;
use std::fmt::Display;

use futures_util::stream::{self, StreamExt};
use serde_json::Value as Json;

use crate::cli::client::ApiClient;
use crate::lint::online::{Observed, Questions, Seen};
use crate::model::duration::format_duration;
use crate::model::{METRIC_NAME, Matcher};

/// Requests under way at once.
const AT_ONCE: usize = 8;

/// A question, and its answer or why there is none.
type Answered<T> = (String, Result<T, String>);

/// Names of metrics that are fetched for suggestions.
const NAMES_MAX: usize = 100_000;

/// Most points asked of an alert's expression.
const STEPS_MAX: i64 = 1440;

/// Everything the questions want to know, over the given range until now. A question the
/// server refuses is told on standard error and left out; one that cannot be asked at all
/// is an error.
pub(super) async fn ask(
    client: &ApiClient,
    questions: &Questions,
    range_ms: i64,
    now_ms: i64,
) -> Result<Observed, String> {
    // Whoever cannot tell the time need not be asked more.
    instant(client, "vector(1)").await?;
    let step_ms = (range_ms / STEPS_MAX).max(60_000);
    let series = stream::iter(&questions.selectors).map(|(text, matchers)| async move {
        (text.clone(), look(client, text, matchers, range_ms).await)
    });
    let series: Vec<Answered<Seen>> = series.buffer_unordered(AT_ONCE).collect().await;
    let alerts = stream::iter(&questions.alerts).map(|expr| async move {
        (expr.clone(), times(client, expr, now_ms - range_ms, now_ms, step_ms).await)
    });
    let alerts: Vec<Answered<Vec<Vec<i64>>>> = alerts.buffer_unordered(AT_ONCE).collect().await;
    Ok(Observed {
        series: answered(series),
        types: types(client).await.unwrap_or_else(|error| {
            unanswered(&"types of metrics", &error);
            HashMap::new()
        }),
        names: names(client).await.unwrap_or_default(),
        alerts: answered(alerts),
        range_ms,
        step_ms,
    })
}

fn unanswered(question: &dyn Display, error: &dyn Display) {
    eprintln!("warning: the server was asked for {question}: {error}");
}

fn answered<T>(all: Vec<Answered<T>>) -> HashMap<String, T> {
    let keep = |(question, answer): Answered<T>| match answer {
        Ok(answer) => Some((question, answer)),
        Err(error) => {
            unanswered(&question, &error);
            None
        }
    };
    all.into_iter().filter_map(keep).collect()
}

/// The result of an instant query, as the API has it.
async fn instant(client: &ApiClient, query: &str) -> Result<Json, String> {
    client.api_post("api/v1/query", &[("query", query.to_owned())]).await
}

async fn finds(client: &ApiClient, query: &str) -> Result<bool, String> {
    let data = instant(client, query).await?;
    Ok(data["result"].as_array().is_some_and(|result| !result.is_empty()))
}

/// What the server has of a selector, and if nothing, why.
async fn look(
    client: &ApiClient,
    selector: &str,
    matchers: &[Matcher],
    range_ms: i64,
) -> Result<Seen, String> {
    if finds(client, &format!("count({selector})")).await? {
        return Ok(Seen::Now);
    }
    let range = format_duration(range_ms);
    let lately = |selector: String| format!("count(present_over_time({selector}[{range}]))");
    if finds(client, &lately(selector.to_owned())).await? {
        return Ok(Seen::Before);
    }
    let (name, others): (Vec<&Matcher>, Vec<&Matcher>) =
        matchers.iter().partition(|m| &*m.name == METRIC_NAME);
    let of_name: Vec<String> = name.iter().map(ToString::to_string).collect();
    let of_name = of_name.join(",");
    if others.is_empty() || !finds(client, &lately(format!("{{{of_name}}}"))).await? {
        return Ok(Seen::NoMetric);
    }
    let mut without = Vec::new();
    for matcher in others {
        if !finds(client, &lately(format!("{{{of_name},{matcher}}}"))).await? {
            without.push(matcher.to_string());
        }
    }
    Ok(if without.is_empty() { Seen::NotTogether } else { Seen::NoMatch(without) })
}

/// When each series of an expression's result was there.
async fn times(
    client: &ApiClient,
    expr: &str,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
) -> Result<Vec<Vec<i64>>, String> {
    let seconds = |ms: i64| format!("{:.3}", ms as f64 / 1000.0);
    let form = [
        ("query", expr.to_owned()),
        ("start", seconds(start_ms)),
        ("end", seconds(end_ms)),
        ("step", seconds(step_ms)),
    ];
    let data = client.api_post("api/v1/query_range", &form).await?;
    let of_series = |series: &Json| {
        let samples = ["values", "histograms"].iter().filter_map(|key| series[*key].as_array());
        let mut times: Vec<i64> = samples
            .flatten()
            .filter_map(|sample| sample[0].as_f64())
            .map(|seconds| (seconds * 1000.0).round() as i64)
            .collect();
        times.sort_unstable();
        times
    };
    Ok(data["result"].as_array().into_iter().flatten().map(of_series).collect())
}

async fn types(client: &ApiClient) -> Result<HashMap<String, String>, String> {
    let data = client.api_get("api/v1/metadata", &[]).await?;
    let families = data.as_object().into_iter().flatten();
    let kind = |all: &Json| {
        let mut kinds: Vec<&str> = all
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["type"].as_str())
            .collect();
        kinds.dedup();
        // Targets that disagree tell nothing.
        match kinds[..] {
            [kind] => Some(kind.to_owned()),
            _ => None,
        }
    };
    Ok(families.filter_map(|(name, all)| Some((name.clone(), kind(all)?))).collect())
}

async fn names(client: &ApiClient) -> Result<Vec<String>, String> {
    let path = "api/v1/label/__name__/values";
    let data = client.api_get(path, &[("limit", NAMES_MAX.to_string())]).await?;
    let names = data.as_array().into_iter().flatten().filter_map(Json::as_str);
    Ok(names.take(NAMES_MAX).map(str::to_owned).collect())
}
