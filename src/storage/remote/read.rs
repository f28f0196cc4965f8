//! Remote read: one request for each selector, answered with chunks that are decoded when
//! somebody reads them, or, by servers that know no better, with samples.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Body, Method, Request, Response};

use super::endpoint::Endpoint;
use super::series::{Chunked, Sampled};
use super::{Limits, LocalStart, failed};
use crate::model::{Labels, MatchOp, Matcher};
use crate::storage::chunks::WireChunk;
use crate::storage::fanout::merge;
use crate::storage::frames::Frames;
use crate::storage::prompb::{
    ChunkedReadResponse, ChunkedSeries, LabelMatcher, Query, ReadHints, ReadRequest, ReadResponse,
    SAMPLES, STREAMED_XOR_CHUNKS, TimeSeries, labels_from_wire,
};
use crate::storage::{
    LabelAnswer, LabelRequest, RawSeries, SelectHints, SelectRequest, SeriesSet, Source,
    StorageError,
};
use crate::vector::RawSamples;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-read-version");
const STREAMED: &str = "application/x-streamed-protobuf";
/// Answers up to this size are decoded where they arrive.
const SMALL_BYTES: usize = 256 << 10;

/// Which requests a server sees, and how they are changed on the way.
#[derive(Clone, Default)]
pub(super) struct Restriction {
    /// A request without all of these finds nothing.
    pub required: Vec<Matcher>,
    /// Added as matchers where a request has none of the name, and then taken off the
    /// series found.
    pub external: Labels,
    /// What the local store has is not asked for.
    pub local_start: Option<LocalStart>,
}

impl Restriction {
    /// What to ask the server; `None` for nothing.
    fn narrow(&self, request: &SelectRequest) -> Result<Option<Narrowed>, StorageError> {
        let mut request = request.clone();
        if let Some(local_start) = &self.local_start {
            let start_ms = local_start().ok_or(StorageError::Closed)?;
            if request.from_ms > start_ms {
                return Ok(None);
            }
            request.to_ms = request.to_ms.min(start_ms);
        }
        if self.required.iter().any(|wanted| !request.matchers.contains(wanted)) {
            return Ok(None);
        }
        let mut strip = Vec::new();
        for (name, value) in self.external.iter() {
            if !request.matchers.iter().any(|m| &*m.name == name) {
                request.matchers.push(Matcher::equal(name, value));
                strip.push(name.to_owned());
            }
        }
        Ok(Some(Narrowed { request, strip }))
    }
}

/// See the module.
pub(super) struct Reader {
    endpoint: Arc<Endpoint>,
    limits: Limits,
    frame_bytes_max: u64,
    restriction: Restriction,
}

/// A request as the server sees it.
struct Narrowed {
    request: SelectRequest,
    /// Names to take off the series found.
    strip: Vec<String>,
}

impl Reader {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        limits: Limits,
        frame_bytes_max: u64,
        restriction: Restriction,
    ) -> Self {
        Self { endpoint, limits, frame_bytes_max, restriction }
    }

    async fn ask(&self, narrowed: Narrowed) -> Result<SeriesSet, StorageError> {
        let endpoint = &self.endpoint;
        let Narrowed { request, strip } = narrowed;
        let limit = request.hints.limit;
        let body = Bytes::from(encoded(&request)?);
        let found = endpoint.within_time(async {
            let response = endpoint.send(response_type, || self.http_request(&body)).await?;
            match response_type(&response) {
                "chunked" => self.streamed(response).await,
                _ => self.sampled(response).await,
            }
        });
        let mut parts = found.await?;
        if !strip.is_empty() {
            for part in &mut parts {
                part.labels = part.labels.retain(|name| !strip.iter().any(|s| s == name));
            }
        }
        let mut series = joined(parts, &endpoint.name.as_str().into());
        if limit > 0 {
            series.truncate(limit);
        }
        Ok(SeriesSet { series, warnings: Vec::new() })
    }

    fn http_request(&self, body: &Bytes) -> Request {
        let mut request = Request::new(Method::POST, self.endpoint.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(VERSION, HeaderValue::from_static("0.1.0"));
        *request.body_mut() = Some(Body::from(body.clone()));
        request
    }

    async fn streamed(&self, mut response: Response) -> Result<Vec<Part>, StorageError> {
        let endpoint = &self.endpoint;
        let wrong = |why: &dyn std::fmt::Display| failed(&endpoint.name, why);
        let mut frames = Frames::new(self.frame_bytes_max);
        let mut parts: Vec<Part> = Vec::new();
        let (mut bytes, mut series) = (0u64, 0usize);
        while let Some(arrived) = response.chunk().await.map_err(|e| endpoint.broken(&e))? {
            endpoint.metrics.bytes.inc_by(arrived.len() as u64);
            bytes += arrived.len() as u64;
            if bytes > self.limits.bytes {
                return Err(endpoint.too_large(self.limits.bytes));
            }
            frames.push(&arrived);
            while let Some(frame) = frames.next().map_err(|e| wrong(&e))? {
                let message = ChunkedReadResponse::decode(frame).map_err(|e| wrong(&e))?;
                for found in message.chunked_series {
                    let part = Part::of_chunks(found).map_err(|e| wrong(&e))?;
                    match parts.last_mut() {
                        // A series goes on in the next frame.
                        Some(last) if last.labels == part.labels => last.add(part),
                        _ => {
                            series += 1;
                            parts.push(part);
                        }
                    }
                }
                if series > self.limits.series {
                    return Err(endpoint.too_many_series(self.limits.series));
                }
            }
        }
        frames.end().map_err(|e| wrong(&e))?;
        Ok(parts)
    }

    async fn sampled(&self, response: Response) -> Result<Vec<Part>, StorageError> {
        let endpoint = &self.endpoint;
        let body = endpoint.body(response, self.limits.bytes).await?;
        let (name, limits) = (endpoint.name.clone(), self.limits);
        let small = body.len() <= SMALL_BYTES;
        let decode = move || decode_samples(&body, limits).map_err(|why| failed(&name, why));
        let found = match small {
            true => decode()?,
            false => tokio::task::spawn_blocking(decode)
                .await
                .map_err(|e| failed(&endpoint.name, format_args!("decoding died: {e}")))??,
        };
        if found.len() > self.limits.series {
            return Err(endpoint.too_many_series(self.limits.series));
        }
        Ok(found)
    }
}

fn response_type(response: &Response) -> &'static str {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let kind = kind.unwrap_or_default();
    if kind.starts_with(STREAMED) { "chunked" } else { "sampled" }
}

/// The request as sent: protobuf, compressed.
fn encoded(request: &SelectRequest) -> Result<Vec<u8>, StorageError> {
    let SelectHints { step_ms, range_ms, function, grouping, by, limit: _ } = &request.hints;
    let query = Query {
        start_timestamp_ms: request.from_ms,
        end_timestamp_ms: request.to_ms,
        matchers: request.matchers.iter().map(LabelMatcher::from).collect(),
        hints: Some(ReadHints {
            step_ms: *step_ms,
            func: function.clone(),
            start_ms: request.from_ms,
            end_ms: request.to_ms,
            grouping: grouping.clone(),
            by: *by,
            range_ms: *range_ms,
        }),
    };
    let message = ReadRequest {
        queries: vec![query],
        accepted_response_types: vec![STREAMED_XOR_CHUNKS, SAMPLES],
    };
    snap::raw::Encoder::new()
        .compress_vec(&message.encode_to_vec())
        .map_err(|e| StorageError::Remote(format!("the request is too large: {e}")))
}

/// What an answer has of a series, or a part of it.
struct Part {
    labels: Labels,
    chunks: Vec<WireChunk>,
    samples: RawSamples,
}

impl Part {
    fn of_chunks(series: ChunkedSeries) -> Result<Self, String> {
        let labels = labels_from_wire(&series.labels);
        let chunk = |chunk: crate::storage::prompb::Chunk| {
            let known = u8::try_from(chunk.r#type).ok().filter(|n| (1..=3).contains(n));
            let encoding = known.ok_or_else(|| {
                format!("chunks of encoding {} are not known (series {labels})", chunk.r#type)
            })?;
            Ok::<_, String>(WireChunk {
                min_ms: chunk.min_time_ms,
                max_ms: chunk.max_time_ms,
                encoding,
                data: chunk.data,
            })
        };
        let chunks = series.chunks.into_iter().map(chunk).collect::<Result<_, _>>()?;
        Ok(Self { chunks, samples: RawSamples::default(), labels })
    }

    fn of_samples(series: &TimeSeries) -> Self {
        let mut samples = RawSamples::default();
        let sorted = |ts: &mut dyn Iterator<Item = i64>| ts.is_sorted_by(|a, b| a < b);
        if sorted(&mut series.samples.iter().map(|s| s.timestamp)) {
            series.samples.iter().for_each(|s| samples.push(s.timestamp, s.value));
        } else {
            let mut all: Vec<_> = series.samples.iter().map(|s| (s.timestamp, s.value)).collect();
            all.sort_by_key(|(ts, _)| *ts);
            all.dedup_by_key(|(ts, _)| *ts);
            all.into_iter().for_each(|(ts, value)| samples.push(ts, value));
        }
        samples.hist =
            series.histograms.iter().map(|h| (h.timestamp, Arc::new(h.histogram()))).collect();
        samples.hist.sort_by_key(|(ts, _)| *ts);
        samples.hist.dedup_by_key(|(ts, _)| *ts);
        Self { labels: labels_from_wire(&series.labels), chunks: Vec::new(), samples }
    }

    fn add(&mut self, mut more: Self) {
        self.chunks.append(&mut more.chunks);
        if !more.samples.is_empty() {
            self.samples = merge(&self.samples, &more.samples);
        }
    }
}

fn decode_samples(body: &[u8], limits: Limits) -> Result<Vec<Part>, String> {
    let len = snap::raw::decompress_len(body).map_err(|e| e.to_string())?;
    if len as u64 > limits.bytes.saturating_mul(8) {
        return Err(format!("the answer has {len} bytes, more than is read"));
    }
    let message = snap::raw::Decoder::new().decompress_vec(body).map_err(|e| e.to_string())?;
    let message = ReadResponse::decode(message.as_slice()).map_err(|e| e.to_string())?;
    let [result] = &message.results[..] else {
        return Err(format!("responses: want 1, got {}", message.results.len()));
    };
    Ok(result.timeseries.iter().map(Part::of_samples).collect())
}

/// The series sorted by labels, each label set once.
fn joined(mut parts: Vec<Part>, from: &Arc<str>) -> Vec<Arc<dyn RawSeries>> {
    if !parts.is_sorted_by(|a, b| a.labels < b.labels) {
        parts.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut each: Vec<Part> = Vec::with_capacity(parts.len());
        for part in parts {
            match each.last_mut() {
                Some(last) if last.labels == part.labels => last.add(part),
                _ => each.push(part),
            }
        }
        parts = each;
    }
    let series = |part: Part| -> Option<Arc<dyn RawSeries>> {
        let Part { labels, chunks, samples } = part;
        match (chunks.is_empty(), samples.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Arc::new(Sampled { labels, samples: Arc::new(samples) })),
            _ => Some(Arc::new(Chunked::new(labels, chunks, from.clone()))),
        }
    };
    parts.into_iter().filter_map(series).collect()
}

impl Source for Reader {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            match self.restriction.narrow(request)? {
                Some(narrowed) => self.ask(narrowed).await,
                None => Ok(SeriesSet::default()),
            }
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let mut names = BTreeSet::new();
            for series in self.matching(request).await? {
                names.extend(series.labels().iter().map(|(name, _)| name.to_owned()));
            }
            Ok(LabelAnswer { values: names.into_iter().collect(), warnings: Vec::new() })
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let mut values = BTreeSet::new();
            for series in self.matching(request).await? {
                values.extend(series.labels().get(name).map(str::to_owned));
            }
            Ok(LabelAnswer { values: values.into_iter().collect(), warnings: Vec::new() })
        })
    }
}

impl Reader {
    /// The protocol knows no look-up of labels: what is not about some series is refused, as
    /// by Prometheus; for the rest their samples are asked for.
    async fn matching(
        &self,
        request: &LabelRequest,
    ) -> Result<Vec<Arc<dyn RawSeries>>, StorageError> {
        let selects =
            |set: &Vec<Matcher>| set.iter().any(|m| !m.matches_empty() && m.op == MatchOp::Equal);
        if request.matcher_sets.is_empty() || !request.matcher_sets.iter().all(selects) {
            return Err(failed(&self.endpoint.name, "not implemented"));
        }
        let mut found = Vec::new();
        for matchers in &request.matcher_sets {
            let (from_ms, to_ms) = (request.from_ms, request.to_ms);
            let hints = SelectHints { function: "series".to_owned(), ..SelectHints::default() };
            let request = SelectRequest { matchers: matchers.clone(), from_ms, to_ms, hints };
            found.extend(self.select(&request).await?.series);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server is asked, as `matchers to_ms`, and what is taken off again.
    fn check(restriction: &Restriction, matchers: &[&str], expected: Option<(&str, &str)>) {
        let matcher = |text: &&str| {
            let (name, value) = text.split_once('=').unwrap();
            Matcher::equal(name, value)
        };
        let request = SelectRequest {
            matchers: matchers.iter().map(matcher).collect(),
            from_ms: 1000,
            to_ms: 2000,
            hints: SelectHints::default(),
        };
        let asked = restriction.narrow(&request).unwrap().map(|narrowed| {
            let texts: Vec<String> =
                narrowed.request.matchers.iter().map(ToString::to_string).collect();
            let asked = format!("{} {}", texts.join(","), narrowed.request.to_ms);
            (asked, narrowed.strip.join(","))
        });
        let asked = asked.as_ref().map(|(asked, strip)| (asked.as_str(), strip.as_str()));
        assert_eq!(asked, expected, "{matchers:?}");
    }

    #[test]
    fn a_server_is_asked_for_what_is_its_business_alone() {
        let external = Labels::from_pairs([("region", "eu"), ("replica", "a")]);
        let by_labels = Restriction { external, ..Restriction::default() };
        let asked = "a=\"b\",region=\"eu\",replica=\"a\" 2000";
        check(&by_labels, &["a=b"], Some((asked, "region,replica")));
        // Who asks for a label sees it.
        let asked = "region=\"us\",replica=\"a\" 2000";
        check(&by_labels, &["region=us"], Some((asked, "replica")));
        let required = vec![Matcher::equal("job", "x"), Matcher::equal("env", "y")];
        let required = Restriction { required, ..Restriction::default() };
        check(&required, &["job=x"], None);
        check(&required, &["job=x", "env=z"], None);
        check(&required, &["env=y", "job=x"], Some(("env=\"y\",job=\"x\" 2000", "")));
        let until = |start_ms: Option<i64>| Restriction {
            local_start: Some(Arc::new(move || start_ms)),
            ..Restriction::default()
        };
        check(&until(Some(999)), &["a=b"], None);
        check(&until(Some(1000)), &["a=b"], Some(("a=\"b\" 1000", "")));
        check(&until(Some(1500)), &["a=b"], Some(("a=\"b\" 1500", "")));
        check(&until(Some(i64::MAX)), &["a=b"], Some(("a=\"b\" 2000", "")));
        let request =
            SelectRequest { matchers: vec![], from_ms: 0, to_ms: 1, hints: SelectHints::default() };
        // While the local store opens nobody knows what it will have.
        assert!(until(None).narrow(&request).is_err());
    }
}
