//! Asks a server what the linter wants to know of it.

mod asker;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::Value as Json;

use crate::cli::client::{ApiClient, ClientArgs};
use crate::cli::progress::Progress;
use crate::lint::online::{Cost, Link, Matched, Observed, Questions, Seen, Sides};
use crate::model::duration::format_duration;
use crate::model::{METRIC_NAME, Matcher};
use asker::{AT_ONCE, Asker};

/// Most points asked of an alert's expression.
const STEPS_MAX: i64 = 1440;

/// Memory a series takes on a Prometheus that scrapes itself.
const BYTES_PER_SERIES: &str = "avg(avg_over_time(go_memstats_alloc_bytes[2h]) / avg_over_time(prometheus_tsdb_head_series[2h]))";

/// Whom to ask, and within which limits.
pub(super) struct Server<'a> {
    pub url: &'a str,
    pub client: &'a ClientArgs,
    pub timeout: Duration,
    pub requests_max: usize,
}

/// Everything the questions want to know of a server, over the given range until now. A
/// question without an answer is noted as such.
pub(super) async fn ask(
    server: &Server<'_>,
    questions: &Questions,
    range_ms: i64,
    now_ms: i64,
) -> Result<Observed, String> {
    let client = ApiClient::new(server.client, server.url, server.timeout).await?;
    let step_ms = (range_ms / STEPS_MAX).max(60_000);
    let mut observed = Observed { range_ms, step_ms, now_ms, ..Observed::default() };
    let asker = Asker::new(&client, server.requests_max);
    // Whoever cannot tell this need not be asked more.
    if let Err(error) = asker.instant("vector(1)").await {
        observed.silent = Some(format!("{}: {error}", server.url));
        return Ok(observed);
    }
    server::ask(&asker, questions.wants, &mut observed).await;
    let Questions { selectors, alerts, costs, syntax, matchings, .. } = questions;
    let total = selectors.len() + alerts.len() + costs.len() + syntax.len() + matchings.len();
    let progress = Progress::new("asking", total);
    let asker = &asker;
    if !costs.is_empty() {
        let answer = asker.instant(BYTES_PER_SERIES).await.ok();
        observed.bytes_per_series = answer.and_then(|data| number(&data["result"][0]["value"][1]));
    }
    let failed = &mut observed.failed;
    let keyed = |keys: std::collections::btree_set::Iter<'_, String>| {
        keys.map(|key| (key.clone(), key.clone())).collect::<Vec<_>>()
    };
    let all: Vec<_> = selectors.iter().map(|(key, matchers)| (key.clone(), matchers)).collect();
    observed.series = each(all, &progress, failed, async |key: &String, matchers| {
        look(asker, key, matchers, range_ms).await
    })
    .await;
    observed.alerts = each(keyed(alerts.iter()), &progress, failed, async |_: &String, expr| {
        times(asker, &expr, now_ms - range_ms, now_ms, step_ms).await
    })
    .await;
    observed.costs = each(keyed(costs.iter()), &progress, failed, async |_: &String, expr| {
        cost(asker, &expr).await
    })
    .await;
    observed.syntax = each(keyed(syntax.iter()), &progress, failed, async |_: &String, expr| {
        readable(asker, &expr).await
    })
    .await;
    let all: Vec<_> = matchings.iter().map(|(key, sides)| (key.clone(), sides)).collect();
    observed.matchings =
        each(all, &progress, failed, async |_: &String, sides| matches(asker, sides).await).await;
    // What the server cannot read or match is told as such.
    let Observed { failed, syntax, matchings, .. } = &mut observed;
    let refused = |error: &str| {
        matchings.values().any(|m| matches!(m, Matched::Refused(text) if error.ends_with(&**text)))
    };
    failed.retain(|key, error| !matches!(syntax.get(key), Some(Some(_))) && !refused(error));
    Ok(observed)
}

/// Answers one question after the other, some at a time; those without an answer go to
/// `failed`.
async fn each<Q, A>(
    questions: Vec<(String, Q)>,
    progress: &Progress,
    failed: &mut HashMap<String, String>,
    answer: impl AsyncFn(&String, Q) -> Result<A, String>,
) -> HashMap<String, A> {
    let answer = &answer;
    let asked = stream::iter(questions).map(|(key, question)| async move {
        progress.at(&key);
        let answered = answer(&key, question).await;
        progress.step();
        (key, answered)
    });
    let answered: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    let mut answers = HashMap::with_capacity(answered.len());
    for (key, answered) in answered {
        match answered {
            Ok(answer) => {
                answers.insert(key, answer);
            }
            Err(error) => {
                failed.insert(key, error);
            }
        }
    }
    answers
}

/// Follows links; redirections count as where they lead.
pub(super) async fn follow(
    links: &BTreeMap<String, Link>,
    timeout: Duration,
) -> HashMap<String, Result<u16, String>> {
    let progress = Progress::new("following links", links.len());
    let followed = stream::iter(links).map(|(url, link)| {
        let progress = progress.clone();
        async move {
            // Credentials of the server are not for others.
            let headers = link.headers.iter().map(|(name, value)| format!("{name}={value}"));
            let args = ClientArgs { http_config: None, headers: headers.collect() };
            let status = match ApiClient::new(&args, url, timeout).await {
                Ok(client) => client.status().await,
                Err(error) => Err(error),
            };
            progress.step();
            (url.clone(), status)
        }
    });
    followed.buffer_unordered(AT_ONCE).collect().await
}

fn number(value: &Json) -> Option<f64> {
    value.as_str()?.parse().ok()
}

async fn finds(asker: &Asker<'_>, query: &str) -> Result<bool, String> {
    let data = asker.instant(query).await?;
    Ok(data["result"].as_array().is_some_and(|result| !result.is_empty()))
}

/// What the server has of a selector, and if nothing, why.
async fn look(
    asker: &Asker<'_>,
    selector: &str,
    matchers: &[Matcher],
    range_ms: i64,
) -> Result<Seen, String> {
    if finds(asker, &format!("count({selector})")).await? {
        return Ok(Seen::Now);
    }
    let range = format_duration(range_ms);
    let lately = |selector: String| format!("count(present_over_time({selector}[{range}]))");
    if finds(asker, &lately(selector.to_owned())).await? {
        return Ok(Seen::Before);
    }
    let (name, others): (Vec<&Matcher>, Vec<&Matcher>) =
        matchers.iter().partition(|m| &*m.name == METRIC_NAME);
    let of_name: Vec<String> = name.iter().map(ToString::to_string).collect();
    let of_name = of_name.join(",");
    if others.is_empty() || !finds(asker, &lately(format!("{{{of_name}}}"))).await? {
        return Ok(Seen::NoMetric);
    }
    let mut without = Vec::new();
    for matcher in others {
        if !finds(asker, &lately(format!("{{{of_name},{matcher}}}"))).await? {
            without.push(matcher.to_string());
        }
    }
    Ok(if without.is_empty() { Seen::NotTogether } else { Seen::NoMatch(without) })
}

/// When each series of an expression's result was there.
async fn times(
    asker: &Asker<'_>,
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
    let data = asker.post("api/v1/query_range", &form).await?;
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

/// What one evaluation takes. The result is counted by the server, so that it need not be
/// sent.
async fn cost(asker: &Asker<'_>, expr: &str) -> Result<Cost, String> {
    let data = asker.with_stats(&format!("count({expr})")).await?;
    let series = number(&data["result"][0]["value"][1]).unwrap_or(0.0);
    let stats = &data["stats"];
    Ok(Cost {
        series: series as u64,
        samples: stats["samples"]["totalQueryableSamples"].as_u64(),
        peak_samples: stats["samples"]["peakSamples"].as_u64(),
        seconds: stats["timings"]["evalTotalTime"].as_f64(),
    })
}

/// Why the server cannot read an expression; at the beginning of time there is nothing to
/// evaluate.
async fn readable(asker: &Asker<'_>, expr: &str) -> Result<Option<String>, String> {
    match asker.at(expr, 0).await {
        Ok(_) => Ok(None),
        Err(error) => match error.strip_prefix("bad_data: ") {
            Some(text) => {
                let text = text.strip_prefix("invalid parameter \"query\": ").unwrap_or(text);
                Ok(Some(text.to_owned()))
            }
            None => Err(error),
        },
    }
}

/// Whether the sides of an operator match, and if not, why.
async fn matches(asker: &Asker<'_>, sides: &Sides) -> Result<Matched, String> {
    let count = |expr: &str| format!("count({expr})");
    if let Some(exact) = &sides.exact
        && let Err(error) = asker.instant(&count(exact)).await
    {
        let known = ["many-to-many", "duplicate series", "multiple matches"];
        if known.iter().any(|text| error.contains(text)) {
            let text = error.strip_prefix("execution: ").unwrap_or(&error);
            return Ok(Matched::Refused(text.to_owned()));
        }
        return Err(error);
    }
    if finds(asker, &count(&sides.both)).await?
        || !finds(asker, &count(&sides.left)).await?
        || !finds(asker, &count(&sides.right)).await?
    {
        return Ok(Matched::Fine);
    }
    let (left, right) = (one(asker, &sides.left).await, one(asker, &sides.right).await);
    Ok(Matched::Never { left, right })
}

/// The labels of some series of a result; none when it cannot be had.
async fn one(asker: &Asker<'_>, expr: &str) -> BTreeMap<String, String> {
    let data = asker.instant(&format!("topk(1, {expr})")).await.unwrap_or_default();
    let labels = data["result"][0]["metric"].as_object().into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned())).collect()
}
