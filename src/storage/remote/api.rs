//! The query API as storage, of Prometheus and of those that speak it.
//!
//! Raw samples are what `selector[range]` evaluates to. Such ranges leave staleness markers
//! out, so where an instant selector will look at the samples the server is asked as well
//! at which steps it sees the series; where it sees none, a marker is put. What is asked at
//! one step, as by rules, is asked for many selectors at once (`queried.rs`). VictoriaMetrics
//! exports raw samples with their markers instead (`export.rs`).
//!
//! A selector that stands for a pushed-down expression (see [`PUSHED`]) is answered with the
//! values of the expression at the steps, and a marker at each step it has none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join};
use reqwest::{Method, Request};
use serde::de::DeserializeOwned;

use super::api_json::{self, LabelSet, QueryData};
use super::batch::Batches;
use super::client::{Parameters, QueryApi};
use super::endpoint::Endpoint;
use super::export::Export;
use super::queried::Queried;
use super::series::Sampled;
use super::{DatasourceConfig, DatasourceKind, Evaluation};
use crate::model::value::stale_nan;
use crate::model::{Labels, MatchOp, Matcher, TimestampMs};
use crate::storage::fanout::merge;
use crate::storage::{
    Dialect, LabelAnswer, LabelRequest, PUSHED, PUSHED_FOR, PUSHED_OFFSET, PushDown, RawSeries,
    SelectRequest, SeriesSet, Source, StorageError,
};
use crate::vector::RawSamples;

/// How long a server may take to say what it is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_BYTES_MAX: u64 = 1 << 20;
/// Most steps a server is asked for at once; Prometheus allows 11,000.
const STEPS_MAX: i64 = 10_000;

/// See the module.
pub(super) struct ApiSource {
    api: Arc<QueryApi>,
    kind: DatasourceKind,
    /// Whole expressions are pushed down.
    whole: bool,
    raw: Raw,
}

/// Where raw samples come from.
enum Raw {
    /// Of VictoriaMetrics.
    Exports(Batches<Export>),
    /// What is asked at one step.
    Queries(Queried),
}

type Found = (BTreeMap<Labels, RawSamples>, Vec<String>);

/// What a query came to.
pub(super) struct QueryAnswer {
    pub found: BTreeMap<Labels, RawSamples>,
    /// Series that are not given as they are stored.
    pub refused: Vec<(Labels, String)>,
    pub warnings: Vec<String>,
}

/// Steps at which something is asked: all that could matter in a closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    first_ms: TimestampMs,
    last_ms: TimestampMs,
    /// 0 for one step.
    step_ms: i64,
}

impl Steps {
    /// Steps end where the interval does; those before the first one a query asks for do no
    /// harm.
    fn of(request: &SelectRequest) -> Self {
        let (last_ms, step_ms) = (request.to_ms, request.hints.step_ms.max(0));
        let span = last_ms.saturating_sub(request.from_ms);
        let before = span.checked_div(step_ms).unwrap_or(0).saturating_mul(step_ms);
        Self { first_ms: last_ms - before, last_ms, step_ms }
    }

    /// A single one.
    pub(super) fn at(at_ms: TimestampMs) -> Self {
        Self { first_ms: at_ms, last_ms: at_ms, step_ms: 0 }
    }

    fn each(self) -> impl Iterator<Item = TimestampMs> {
        let count = (self.last_ms - self.first_ms).checked_div(self.step_ms).unwrap_or(0);
        (0..=count).map(move |i| self.first_ms + i * self.step_ms)
    }

    /// Stretches a server answers at once.
    fn stretches(self) -> impl Iterator<Item = Self> {
        let length = self.step_ms.saturating_mul(STEPS_MAX).max(1);
        let count = (self.last_ms - self.first_ms) / length;
        (0..=count).map(move |i| {
            let first_ms = self.first_ms + i * length;
            let last_ms = self.last_ms.min(first_ms + length - self.step_ms.max(1));
            Self { first_ms, last_ms: last_ms.max(first_ms), ..self }
        })
    }
}

impl ApiSource {
    pub(super) async fn new(endpoint: Arc<Endpoint>, config: &DatasourceConfig) -> Self {
        let kind = config.kind;
        let api = Arc::new(QueryApi { endpoint, limits: config.limits() });
        let raw = match kind {
            DatasourceKind::VictoriaMetrics => {
                let kept = super::kept(config, &api.endpoint);
                Raw::Exports(Batches::new(Export(api.clone()), kept))
            }
            _ => Raw::Queries(Queried::new(&api, config)),
        };
        let mut source = Self { api, kind, whole: false, raw };
        source.whole = match config.evaluate {
            Evaluation::Here => false,
            Evaluation::PushDown => true,
            Evaluation::Auto => {
                kind == DatasourceKind::Prometheus && source.is_recent_prometheus().await
            }
        };
        source
    }

    /// Whether the server says that it is a Prometheus of version 3 or later. One that does
    /// not answer is none.
    async fn is_recent_prometheus(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Build {
            #[serde(default)]
            version: String,
            // Mimir says its own name and Thanos counts from 0.
            #[serde(default)]
            application: String,
        }
        let mut request = Request::new(Method::GET, self.api.url(&["status", "buildinfo"]));
        *request.timeout_mut() = Some(PROBE_TIMEOUT);
        let asked = async {
            let response = self.api.endpoint.send_once(request).await?;
            self.api.endpoint.body(response, PROBE_BYTES_MAX).await
        };
        let answer = tokio::time::timeout(PROBE_TIMEOUT, asked).await;
        let body = match answer {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                tracing::warn!(%error, "Everything is evaluated here: the server did not say its version");
                return false;
            }
            Err(_) => {
                tracing::warn!(datasource = %self.api.endpoint.name, "Everything is evaluated here: the server did not say its version in time");
                return false;
            }
        };
        let Ok((build, _)) = api_json::parse::<Build>(&body) else { return false };
        let major = build.version.trim_start_matches('v').split('.').next();
        let major: Option<u32> = major.and_then(|major| major.parse().ok());
        build.application.is_empty() && major.is_some_and(|major| major >= 3)
    }

    async fn query(&self, path: &str, form: Parameters<'_>) -> Result<Found, StorageError> {
        let mut form = form;
        if self.kind == DatasourceKind::VictoriaMetrics {
            // It would answer for half a minute ago, and for steps at other times.
            form.push(("latency_offset", "1ms".to_owned()));
            form.push(("nocache", "1".to_owned()));
        }
        let body = self.api.post(&[path], &form).await?;
        let QueryAnswer { found, refused, warnings } = self.api.parsed(body, parse_query).await?;
        if let Some((_, why)) = refused.first() {
            return Err(self.api.wrong(why));
        }
        if found.len() > self.api.limits.series {
            return Err(self.api.too_many_series());
        }
        Ok((found, warnings))
    }

    /// The values of an expression at steps, in stretches if there are many.
    async fn at_steps(&self, expression: &str, steps: Steps) -> Result<Found, StorageError> {
        let mut all = Found::default();
        for stretch in steps.stretches() {
            let query = ("query", expression.to_owned());
            let found = match stretch.step_ms == 0 {
                true => {
                    self.query("query", vec![query, ("time", seconds(stretch.last_ms))]).await?
                }
                false => {
                    let form = vec![
                        query,
                        ("start", seconds(stretch.first_ms)),
                        ("end", seconds(stretch.last_ms)),
                        ("step", seconds(stretch.step_ms)),
                    ];
                    self.query("query_range", form).await?
                }
            };
            for (labels, samples) in found.0 {
                all.0.entry(labels).or_default().append(samples);
            }
            all.1.extend(found.1);
        }
        Ok(all)
    }

    /// What a pushed-down expression comes to.
    async fn pushed(&self, expr: &str, request: &SelectRequest) -> Result<SeriesSet, StorageError> {
        let steps = Steps::of(request);
        let (mut found, warnings) = self.at_steps(expr, steps).await?;
        found.values_mut().for_each(|samples| mark_gaps(samples, steps));
        Ok(series_set(found, warnings, request))
    }

    /// The raw samples of a selector, and where it is seen at several steps.
    async fn raw_at_steps(&self, request: &SelectRequest) -> Result<SeriesSet, StorageError> {
        let selector = selector(&request.matchers);
        let range_ms = request.to_ms.saturating_sub(request.from_ms).saturating_add(1);
        let form =
            vec![("query", format!("{selector}[{range_ms}ms]")), ("time", seconds(request.to_ms))];
        let steps = Steps::of(request);
        let (raw, seen) =
            try_join(self.query("query", form), self.at_steps(&selector, steps)).await?;
        let (mut found, mut warnings) = raw;
        warnings.extend(seen.1);
        let none = RawSamples::default();
        for (labels, samples) in &mut found {
            mark_unseen(samples, seen.0.get(labels).unwrap_or(&none), steps);
        }
        Ok(series_set(found, warnings, request))
    }

    /// Label sets without samples.
    async fn series(&self, request: &SelectRequest) -> Result<SeriesSet, StorageError> {
        let mut form = vec![
            ("match[]", selector(&request.matchers)),
            ("start", seconds(request.from_ms)),
            ("end", seconds(request.to_ms)),
        ];
        if request.hints.limit > 0 {
            form.push(("limit", request.hints.limit.to_string()));
        }
        let body = self.api.post(&["series"], &form).await?;
        let (found, warnings) =
            self.api.parsed(body, |b| api_json::parse::<Vec<LabelSet>>(b)).await?;
        let found = found.into_iter().map(|set| (set.0, RawSamples::default())).collect();
        Ok(series_set(found, warnings, request))
    }

    async fn texts(
        &self,
        path: &[&str],
        request: &LabelRequest,
    ) -> Result<LabelAnswer, StorageError> {
        let mut form = vec![("start", seconds(request.from_ms)), ("end", seconds(request.to_ms))];
        form.extend(request.matcher_sets.iter().map(|set| ("match[]", selector(set))));
        let mut url = self.api.url(path);
        url.query_pairs_mut().extend_pairs(&form).extend_pairs(self.api.endpoint.parameters.iter());
        let send = || Request::new(Method::GET, url.clone());
        let response = self.api.endpoint.send(|_| "", send).await?;
        let body = self.api.endpoint.body(response, self.api.limits.bytes).await?;
        let (mut values, warnings) = self.api.parsed(body, owned::<Vec<String>>).await?;
        values.sort_unstable();
        values.dedup();
        Ok(LabelAnswer { values, warnings })
    }
}

fn owned<T: DeserializeOwned>(body: &[u8]) -> Result<(T, Vec<String>), String> {
    api_json::parse(body)
}

pub(super) fn parse_query(body: &[u8]) -> Result<QueryAnswer, String> {
    let (data, warnings) = api_json::parse::<QueryData>(body)?;
    if !matches!(data.kind.as_str(), "vector" | "matrix") {
        return Err(format!("expected a vector or a matrix, got a {}", data.kind));
    }
    let (mut found, mut refused) = (BTreeMap::new(), Vec::new());
    for series in data.result {
        let labels = series.metric.0.clone();
        if series.has_histograms() {
            let why = format!(
                "{labels} holds native histograms, which this API does not give as they are \
                 stored: use a datasource of type remote_read for them"
            );
            refused.push((labels, why));
            continue;
        }
        let mut samples = RawSamples::default();
        for (ts, value) in series.points() {
            samples.push(ts, value);
        }
        add(&mut found, labels, samples);
    }
    // Those of the language itself come again when something is evaluated here.
    let warnings = warnings.into_iter().filter(|text| !text.starts_with("PromQL ")).collect();
    Ok(QueryAnswer { found, refused, warnings })
}

/// Puts samples in time order, the first of each time.
pub(super) fn in_order(samples: &mut RawSamples) {
    if samples.ts.is_sorted_by(|a, b| a < b) {
        return;
    }
    let mut all: Vec<_> = samples.ts.iter().copied().zip(samples.vs.iter().copied()).collect();
    all.sort_by_key(|(ts, _)| *ts);
    all.dedup_by_key(|(ts, _)| *ts);
    samples.clear();
    all.into_iter().for_each(|(ts, value)| samples.push(ts, value));
}

/// Keeps the samples of a series in time order, each time once.
fn add(found: &mut BTreeMap<Labels, RawSamples>, labels: Labels, mut samples: RawSamples) {
    in_order(&mut samples);
    let known = found.entry(labels).or_default();
    *known = if known.is_empty() { samples } else { merge(known, &samples) };
}

/// What was found inside the interval, as storage gives it.
fn series_set(
    found: BTreeMap<Labels, RawSamples>,
    warnings: Vec<String>,
    request: &SelectRequest,
) -> SeriesSet {
    let series = |(labels, samples)| -> Arc<dyn RawSeries> {
        Arc::new(Sampled { labels, samples: Arc::new(samples) })
    };
    let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
    SeriesSet { series: found.into_iter().map(series).take(limit).collect(), warnings }
}

/// Puts a marker at each step without a value that follows one with a value.
fn mark_gaps(samples: &mut RawSamples, steps: Steps) {
    let mut marked = RawSamples::default();
    for (i, (ts, value)) in samples.ts.iter().zip(&samples.vs).enumerate() {
        marked.push(*ts, *value);
        let next = ts.saturating_add(steps.step_ms);
        let gap = samples.ts.get(i + 1).is_none_or(|after| *after > next);
        if steps.step_ms > 0 && gap && next <= steps.last_ms {
            marked.push(next, stale_nan());
        }
    }
    *samples = marked;
}

/// Puts a marker at each step at which the server sees nothing of what was there before.
pub(super) fn mark_unseen(samples: &mut RawSamples, seen: &RawSamples, steps: Steps) {
    let mut marks: Vec<TimestampMs> = Vec::new();
    for step in steps.each() {
        if seen.ts.binary_search(&step).is_ok() {
            continue;
        }
        let before = samples.ts.partition_point(|ts| *ts <= step);
        let Some(newest) = before.checked_sub(1).map(|i| samples.ts[i]) else { continue };
        let marked = marks.last().is_some_and(|mark| *mark > newest);
        if newest < step && !marked {
            marks.push(step);
        }
    }
    if marks.is_empty() {
        return;
    }
    let mut markers = RawSamples::default();
    marks.into_iter().for_each(|ts| markers.push(ts, stale_nan()));
    *samples = merge(samples, &markers);
}

/// The matchers of the selector that a pushed-down one stands for, if it is a selector alone.
fn own(request: &SelectRequest) -> Vec<Matcher> {
    let reserved = |m: &&Matcher| matches!(&*m.name, PUSHED | PUSHED_FOR | PUSHED_OFFSET);
    request.matchers.iter().filter(|m| !reserved(m)).cloned().collect()
}

/// The offset of that selector.
fn offset_ms(request: &SelectRequest) -> i64 {
    let offset = request.matchers.iter().find(|m| &*m.name == PUSHED_OFFSET);
    offset.and_then(|m| m.value.parse().ok()).unwrap_or(0)
}

/// What is seen at a time, as samples of another one.
fn moved(seen: SeriesSet, from_ms: i64, to_ms: i64) -> Result<SeriesSet, StorageError> {
    if from_ms == to_ms {
        return Ok(seen);
    }
    let moved = |series: Arc<dyn RawSeries>| -> Result<Arc<dyn RawSeries>, StorageError> {
        let mut samples = RawSamples::default();
        series.read_into(from_ms, from_ms, &mut samples)?;
        samples.ts.fill(to_ms);
        let labels = series.labels().clone();
        Ok(Arc::new(Sampled { labels, samples: Arc::new(samples) }))
    };
    let series = seen.series.into_iter().map(moved).collect::<Result<_, _>>()?;
    Ok(SeriesSet { series, ..seen })
}

/// `{name="value",...}`
pub(super) fn selector(matchers: &[Matcher]) -> String {
    let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

/// Milliseconds as seconds.
pub(super) fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

impl Source for ApiSource {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        let pushed = request.matchers.iter().find(|m| &*m.name == PUSHED);
        let one_step = request.hints.step_ms == 0 && request.hints.limit == 0;
        // What asks for many at once takes turns and time for all of them.
        let asked: BoxFuture<'a, _> = match (pushed, &self.raw) {
            (Some(_), Raw::Queries(queried)) if one_step && !own(request).is_empty() => {
                return Box::pin(async move {
                    let at_ms = request.to_ms.saturating_sub(offset_ms(request));
                    let seen = queried.seen(&own(request), at_ms).await?;
                    moved(seen, at_ms, request.to_ms)
                });
            }
            (Some(expr), _) if expr.op == MatchOp::Equal => {
                Box::pin(self.pushed(&expr.value, request))
            }
            _ if request.hints.function == "series" => Box::pin(self.series(request)),
            (_, Raw::Exports(exports)) => return Box::pin(exports.select(request)),
            (_, Raw::Queries(queried)) if one_step => return Box::pin(queried.raw(request)),
            (_, Raw::Queries(_)) => Box::pin(self.raw_at_steps(request)),
        };
        Box::pin(self.api.endpoint.within_time(asked))
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(self.api.endpoint.within_time(async { self.texts(&["labels"], request).await }))
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(
            self.api
                .endpoint
                .within_time(async move { self.texts(&["label", name, "values"], request).await }),
        )
    }

    fn push_down(&self, _: Option<&str>) -> Option<PushDown> {
        let dialect = match self.kind {
            DatasourceKind::VictoriaMetrics => Dialect::MetricsQl,
            _ => Dialect::PromQl,
        };
        Some(PushDown { dialect, whole: self.whole, sharded: false, may_change: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::is_stale_nan;
    use crate::storage::SelectHints;

    fn steps(from_ms: i64, to_ms: i64, step_ms: i64) -> Steps {
        let hints = SelectHints { step_ms, ..SelectHints::default() };
        Steps::of(&SelectRequest { matchers: vec![], from_ms, to_ms, hints })
    }

    fn raw(ts: &[i64]) -> RawSamples {
        let mut raw = RawSamples::default();
        ts.iter().for_each(|ts| raw.push(*ts, 1.0));
        raw
    }

    /// Times, those of markers with a minus.
    fn shown(raw: &RawSamples) -> Vec<i64> {
        let sign = |v: f64| if is_stale_nan(v) { -1 } else { 1 };
        raw.ts.iter().zip(&raw.vs).map(|(ts, v)| ts * sign(*v)).collect()
    }

    #[test]
    fn steps_end_with_the_interval() {
        assert_eq!(steps(10, 100, 0).each().collect::<Vec<_>>(), [100]);
        assert_eq!(steps(10, 100, 30).each().collect::<Vec<_>>(), [10, 40, 70, 100]);
        assert_eq!(steps(11, 100, 30).each().collect::<Vec<_>>(), [40, 70, 100]);
        let all = steps(0, 25_000, 1);
        let stretches: Vec<_> = all.stretches().collect();
        assert_eq!(stretches.len(), 3);
        let each: Vec<i64> = stretches.iter().flat_map(|s| s.each()).collect();
        assert_eq!(each, all.each().collect::<Vec<_>>());
        let one = steps(0, 25_000, 0);
        assert_eq!(one.stretches().collect::<Vec<_>>(), [one]);
    }

    #[test]
    fn a_step_without_a_value_is_no_later_value() {
        let mut samples = raw(&[10, 20, 50, 80]);
        mark_gaps(&mut samples, steps(10, 80, 10));
        assert_eq!(shown(&samples), [10, 20, -30, 50, -60, 80]);
        let mut one = raw(&[100]);
        mark_gaps(&mut one, steps(10, 100, 0));
        assert_eq!(shown(&one), [100]);
    }

    #[test]
    fn what_the_server_does_not_see_any_more_is_marked() {
        let mut samples = raw(&[5, 15, 40, 90]);
        // Steps 10 to 100; the server sees the series at 10, 20, 40, 50, 90.
        mark_unseen(&mut samples, &raw(&[10, 20, 40, 50, 90]), steps(10, 100, 10));
        assert_eq!(shown(&samples), [5, 15, -30, 40, -60, 90, -100]);
        let mut gone = raw(&[5]);
        mark_unseen(&mut gone, &raw(&[]), steps(0, 100, 0));
        assert_eq!(shown(&gone), [5, -100]);
    }
}
