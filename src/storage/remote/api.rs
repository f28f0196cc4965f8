//! The query API as storage, of Prometheus and of those that speak it.
//!
//! Raw samples are what `selector[range]` evaluates to. Such ranges leave staleness markers
//! out, so where an instant selector will look at the samples the server is asked as well
//! at which steps it sees the series; where it sees none, a marker is put. VictoriaMetrics
//! exports raw samples with their markers instead.
//!
//! A selector that stands for a pushed-down expression (see [`PUSHED`]) is answered with the
//! values of the expression at the steps, and a marker at each step it has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, try_join};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::de::DeserializeOwned;

use super::api_json::{self, LabelSet, QueryData};
use super::endpoint::Endpoint;
use super::series::Sampled;
use super::{DatasourceConfig, DatasourceKind, Evaluation, Limits, failed};
use crate::model::value::stale_nan;
use crate::model::{Labels, MatchOp, Matcher, TimestampMs};
use crate::storage::fanout::merge;
use crate::storage::{
    Dialect, LabelAnswer, LabelRequest, PUSHED, PushDown, RawSeries, SelectRequest, SeriesSet,
    Source, StorageError,
};
use crate::vector::RawSamples;

/// Answers up to this size are decoded where they arrive.
const SMALL_BYTES: usize = 256 << 10;
/// Most steps a server is asked for at once; Prometheus allows 11,000.
const STEPS_MAX: i64 = 10_000;

/// See the module.
pub(super) struct ApiSource {
    endpoint: Arc<Endpoint>,
    kind: DatasourceKind,
    evaluate: Evaluation,
    limits: Limits,
}

type Found = (BTreeMap<Labels, RawSamples>, Vec<String>);
type Parameters<'a> = Vec<(&'a str, String)>;

/// Steps at which something is asked: all that could matter in a closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steps {
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
    pub(super) fn new(endpoint: Arc<Endpoint>, config: &DatasourceConfig) -> Self {
        Self { endpoint, kind: config.kind, evaluate: config.evaluate, limits: config.limits() }
    }

    /// The body of the answer to a form.
    async fn post(&self, path: &[&str], form: &Parameters<'_>) -> Result<Vec<u8>, StorageError> {
        let url = self.url(path);
        let all = form
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(self.endpoint.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish();
        let request = || {
            let mut request = Request::new(Method::POST, url.clone());
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers_mut().insert(CONTENT_TYPE, kind);
            *request.body_mut() = Some(body.clone().into());
            request
        };
        let response = self.endpoint.send(|_| "", request).await?;
        self.endpoint.body(response, self.limits.bytes).await
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.endpoint.url.clone();
        // An error means that the URL can have no path, which was refused.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }

    fn wrong(&self, why: impl std::fmt::Display) -> StorageError {
        failed(&self.endpoint.name, format_args!("{}: {why}", self.endpoint.shown_url()))
    }

    /// Parses where it holds nobody up.
    async fn parsed<T: Send + 'static>(
        &self,
        body: Vec<u8>,
        parse: impl FnOnce(&[u8]) -> Result<T, String> + Send + 'static,
    ) -> Result<T, StorageError> {
        let parsed = match body.len() <= SMALL_BYTES {
            true => parse(&body),
            false => tokio::task::spawn_blocking(move || parse(&body))
                .await
                .unwrap_or_else(|e| Err(format!("decoding died: {e}"))),
        };
        parsed.map_err(|why| self.wrong(why))
    }

    async fn query(&self, path: &str, form: Parameters<'_>) -> Result<Found, StorageError> {
        let mut form = form;
        if self.kind == DatasourceKind::VictoriaMetrics {
            // It would answer for half a minute ago, and for steps at other times.
            form.push(("latency_offset", "1ms".to_owned()));
            form.push(("nocache", "1".to_owned()));
        }
        let body = self.post(&[path], &form).await?;
        let found = self.parsed(body, parse_query).await?;
        if found.0.len() > self.limits.series {
            return Err(self.endpoint.too_many_series(self.limits.series));
        }
        Ok(found)
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

    /// The raw samples of a selector.
    async fn raw(&self, request: &SelectRequest) -> Result<SeriesSet, StorageError> {
        let selector = selector(&request.matchers);
        if self.kind == DatasourceKind::VictoriaMetrics {
            return self.exported(&selector, request).await;
        }
        let range_ms = request.to_ms.saturating_sub(request.from_ms).saturating_add(1);
        let form =
            vec![("query", format!("{selector}[{range_ms}ms]")), ("time", seconds(request.to_ms))];
        // A range alone, looked at by a function of ranges, never shows a marker.
        let hints = &request.hints;
        if hints.range_ms > 0 && !hints.function.is_empty() {
            let (found, warnings) = self.query("query", form).await?;
            return Ok(series_set(found, warnings, request));
        }
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

    async fn exported(
        &self,
        selector: &str,
        request: &SelectRequest,
    ) -> Result<SeriesSet, StorageError> {
        let form = vec![
            ("match[]", selector.to_owned()),
            ("start", seconds(request.from_ms)),
            ("end", seconds(request.to_ms)),
        ];
        let body = self.post(&["export"], &form).await?;
        let found = self.parsed(body, parse_export).await?;
        if found.len() > self.limits.series {
            return Err(self.endpoint.too_many_series(self.limits.series));
        }
        Ok(series_set(found, Vec::new(), request))
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
        let body = self.post(&["series"], &form).await?;
        let (found, warnings) = self.parsed(body, |b| api_json::parse::<Vec<LabelSet>>(b)).await?;
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
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(&form).extend_pairs(self.endpoint.parameters.iter());
        let send = || Request::new(Method::GET, url.clone());
        let response = self.endpoint.send(|_| "", send).await?;
        let body = self.endpoint.body(response, self.limits.bytes).await?;
        let (mut values, warnings) = self.parsed(body, owned::<Vec<String>>).await?;
        values.sort_unstable();
        values.dedup();
        Ok(LabelAnswer { values, warnings })
    }
}

fn owned<T: DeserializeOwned>(body: &[u8]) -> Result<(T, Vec<String>), String> {
    api_json::parse(body)
}

fn parse_query(body: &[u8]) -> Result<Found, String> {
    let (data, warnings) = api_json::parse::<QueryData>(body)?;
    if !matches!(data.kind.as_str(), "vector" | "matrix") {
        return Err(format!("expected a vector or a matrix, got a {}", data.kind));
    }
    let mut found: BTreeMap<Labels, RawSamples> = BTreeMap::new();
    for series in data.result {
        let labels = series.metric.0.clone();
        if series.has_histograms() {
            return Err(format!(
                "{labels} holds native histograms, which this API does not give as they are \
                 stored: use a datasource of type remote_read for them"
            ));
        }
        let mut samples = RawSamples::default();
        for (ts, value) in series.points() {
            samples.push(ts, value);
        }
        add(&mut found, labels, samples);
    }
    // Those of the language itself come again when something is evaluated here.
    Ok((found, warnings.into_iter().filter(|text| !text.starts_with("PromQL ")).collect()))
}

fn parse_export(body: &[u8]) -> Result<BTreeMap<Labels, RawSamples>, String> {
    let text = std::str::from_utf8(body).map_err(|e| e.to_string())?;
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (labels, samples) = api_json::export_line(line)?;
        add(&mut found, labels, samples);
    }
    Ok(found)
}

/// Keeps the samples of a series in time order, each time once.
fn add(found: &mut BTreeMap<Labels, RawSamples>, labels: Labels, mut samples: RawSamples) {
    if !samples.ts.is_sorted_by(|a, b| a < b) {
        let mut all: Vec<_> = samples.ts.iter().copied().zip(samples.vs.iter().copied()).collect();
        all.sort_by_key(|(ts, _)| *ts);
        all.dedup_by_key(|(ts, _)| *ts);
        samples.clear();
        all.into_iter().for_each(|(ts, value)| samples.push(ts, value));
    }
    let known = found.entry(labels).or_default();
    *known = if known.is_empty() { samples } else { merge(known, &samples) };
}

/// What was found inside the interval, as storage gives it.
fn series_set(
    found: BTreeMap<Labels, RawSamples>,
    warnings: Vec<String>,
    request: &SelectRequest,
) -> SeriesSet {
    let series =
        |(labels, samples)| -> Arc<dyn RawSeries> { Arc::new(Sampled { labels, samples }) };
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
fn mark_unseen(samples: &mut RawSamples, seen: &RawSamples, steps: Steps) {
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

/// `{name="value",...}`
fn selector(matchers: &[Matcher]) -> String {
    let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

/// Milliseconds as seconds.
fn seconds(ms: i64) -> String {
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
        let asked: BoxFuture<'a, _> = match pushed {
            Some(expr) if expr.op == MatchOp::Equal => Box::pin(self.pushed(&expr.value, request)),
            _ if request.hints.function == "series" => Box::pin(self.series(request)),
            _ => Box::pin(self.raw(request)),
        };
        Box::pin(self.endpoint.within_time(asked))
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(self.endpoint.within_time(async { self.texts(&["labels"], request).await }))
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(
            self.endpoint
                .within_time(async move { self.texts(&["label", name, "values"], request).await }),
        )
    }

    fn push_down(&self, _: Option<&str>) -> Option<PushDown> {
        let dialect = match self.kind {
            DatasourceKind::VictoriaMetrics => Dialect::MetricsQl,
            _ => Dialect::PromQl,
        };
        Some(PushDown { dialect, whole: self.evaluate == Evaluation::PushDown })
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
