//! The wire of remote read: selectors as one request, and answers as the parts of series they
//! come in: chunks in frames, or, of servers that know no better, samples.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prost::Message;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Body, Method, Request, Response, Url};

use super::batch::{Fetch, Unpacked};
use super::endpoint::{Endpoint, Refused};
use super::series::Chunked;
use super::{Limits, failed};
use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::chunks::WireChunk;
use crate::storage::fanout::merge;
use crate::storage::frames::Frames;
use crate::storage::prompb::{
    ChunkedReadResponse, ChunkedSeries, LabelMatcher, Query, ReadHints, ReadRequest, ReadResponse,
    SAMPLES, STREAMED_XOR_CHUNKS, TimeSeries, labels_from_wire,
};
use crate::storage::{RawSeries, SelectHints, StorageError};
use crate::vector::RawSamples;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-read-version");
const STREAMED: &str = "application/x-streamed-protobuf";
/// Answers up to this size are decoded where they arrive.
const SMALL_BYTES: usize = 256 << 10;

/// A server's endpoint for remote read.
pub(super) struct Wire {
    pub endpoint: Arc<Endpoint>,
    pub limits: Limits,
    pub frame_bytes_max: u64,
}

/// One selector of a request.
pub(super) fn query(
    matchers: &[Matcher],
    (from_ms, to_ms): (TimestampMs, TimestampMs),
    hints: &SelectHints,
) -> Query {
    let SelectHints { step_ms, range_ms, function, grouping, by, limit: _ } = hints;
    Query {
        start_timestamp_ms: from_ms,
        end_timestamp_ms: to_ms,
        matchers: matchers.iter().map(LabelMatcher::from).collect(),
        hints: Some(ReadHints {
            step_ms: *step_ms,
            func: function.clone(),
            start_ms: from_ms,
            end_ms: to_ms,
            grouping: grouping.clone(),
            by: *by,
            range_ms: *range_ms,
        }),
    }
}

impl Wire {
    /// Sends a request, once or again where that may help. The caller bounds the time.
    pub(super) async fn fetch(&self, queries: Vec<Query>) -> Result<Vec<Part>, Refused> {
        let count = queries.len();
        // Whatever is wrong with an answer, that to a smaller request may be well.
        let refused = |error| Refused { error, by_request: true };
        let body = Bytes::from(encoded(queries).map_err(refused)?);
        let response = self.endpoint.send(response_type, || self.http_request(&body)).await?;
        match response_type(&response) {
            "chunked" => self.streamed(response).await,
            _ => self.sampled(response, count).await,
        }
        .map_err(refused)
    }

    fn http_request(&self, body: &Bytes) -> Request {
        http_request(self.endpoint.url.clone(), body)
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
                let query = message.query_index;
                for found in message.chunked_series {
                    let part = Part::of_chunks(query, found).map_err(|e| wrong(&e))?;
                    match parts.last_mut() {
                        // A series goes on in the next frame.
                        Some(last) if last.query == query && last.labels == part.labels => {
                            last.add(part);
                        }
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

    async fn sampled(&self, response: Response, queries: usize) -> Result<Vec<Part>, StorageError> {
        let endpoint = &self.endpoint;
        let body = endpoint.body(response, self.limits.bytes).await?;
        let (name, limits) = (endpoint.name.clone(), self.limits);
        let small = body.len() <= SMALL_BYTES;
        let decode =
            move || decode_samples(&body, limits, queries).map_err(|why| failed(&name, why));
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

/// A request that asks for nothing: whoever knows the protocol answers it.
pub(super) fn empty_request(url: Url) -> Option<Request> {
    Some(http_request(url, &Bytes::from(encoded(Vec::new()).ok()?)))
}

fn http_request(url: Url, body: &Bytes) -> Request {
    let mut request = Request::new(Method::POST, url);
    let headers = request.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(VERSION, HeaderValue::from_static("0.1.0"));
    *request.body_mut() = Some(Body::from(body.clone()));
    request
}

fn response_type(response: &Response) -> &'static str {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let kind = kind.unwrap_or_default();
    if kind.starts_with(STREAMED) { "chunked" } else { "sampled" }
}

/// The request as sent: protobuf, compressed.
fn encoded(queries: Vec<Query>) -> Result<Vec<u8>, StorageError> {
    let accepted_response_types = vec![STREAMED_XOR_CHUNKS, SAMPLES];
    let message = ReadRequest { queries, accepted_response_types };
    snap::raw::Encoder::new()
        .compress_vec(&message.encode_to_vec())
        .map_err(|e| StorageError::Remote(format!("the request is too large: {e}")))
}

impl Fetch for Arc<Wire> {
    type Body = Vec<Part>;

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn bytes_of(matchers: &[Matcher]) -> usize {
        matchers.iter().map(|m| m.name.len() + m.value.len() + 8).sum()
    }

    fn ask<'a>(
        &'a self,
        selectors: Vec<&'a [Matcher]>,
        interval: (TimestampMs, TimestampMs),
    ) -> BoxFuture<'a, Result<Vec<Part>, Refused>> {
        let hints = SelectHints::default();
        let queries = selectors.into_iter().map(|m| query(m, interval, &hints)).collect();
        Box::pin(self.fetch(queries))
    }

    fn size(body: &Vec<Part>) -> usize {
        body.iter().map(Part::bytes).sum()
    }

    fn unpack(
        body: &Vec<Part>,
        (from_ms, to_ms): (TimestampMs, TimestampMs),
    ) -> Result<Unpacked<'_>, String> {
        let mut found: HashMap<Cow<'_, [u8]>, (i64, RawSamples)> = HashMap::new();
        for part in body {
            let entry = found.entry(Cow::Borrowed(part.labels.as_bytes()));
            match entry {
                // Another selector found the series too, with the same samples.
                Entry::Occupied(known) if known.get().0 != part.query => {}
                Entry::Occupied(mut known) => {
                    let samples = part.read(from_ms, to_ms)?;
                    known.get_mut().1 = merge(&known.get().1, &samples);
                }
                Entry::Vacant(free) => {
                    free.insert((part.query, part.read(from_ms, to_ms)?));
                }
            }
        }
        let found = found.into_iter().map(|(key, (_, samples))| (key, samples));
        Ok(found.collect::<HashMap<_, _>>().into())
    }

    fn labels(key: &[u8]) -> Result<Labels, String> {
        Labels::from_encoded(key).ok_or_else(|| "BUG: labels are not as they were".to_owned())
    }
}

/// What an answer has of a series, or a part of it.
pub(super) struct Part {
    /// Which selector of the request found it.
    query: i64,
    pub labels: Labels,
    pub chunks: Vec<WireChunk>,
    pub samples: RawSamples,
}

impl Part {
    fn of_chunks(query: i64, series: ChunkedSeries) -> Result<Self, String> {
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
        Ok(Self { query, chunks, samples: RawSamples::default(), labels })
    }

    fn of_samples(query: i64, series: &TimeSeries) -> Self {
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
        Self { query, labels: labels_from_wire(&series.labels), chunks: Vec::new(), samples }
    }

    /// The samples in a closed interval.
    fn read(&self, from_ms: TimestampMs, to_ms: TimestampMs) -> Result<RawSamples, String> {
        let mut samples = RawSamples::default();
        samples.extend_from(&self.samples, from_ms, to_ms);
        if !self.chunks.is_empty() {
            let chunked =
                Chunked::new(self.labels.clone(), self.chunks.clone(), "the server".into());
            let mut decoded = RawSamples::default();
            chunked.read_into(from_ms, to_ms, &mut decoded).map_err(|e| e.to_string())?;
            samples = if samples.is_empty() { decoded } else { merge(&samples, &decoded) };
        }
        Ok(samples)
    }

    fn bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.data.len()).sum();
        chunks + 16 * self.samples.ts.len() + 256 * self.samples.hist.len()
    }

    pub(super) fn add(&mut self, mut more: Self) {
        self.chunks.append(&mut more.chunks);
        if !more.samples.is_empty() {
            self.samples = merge(&self.samples, &more.samples);
        }
    }
}

fn decode_samples(body: &[u8], limits: Limits, queries: usize) -> Result<Vec<Part>, String> {
    let len = snap::raw::decompress_len(body).map_err(|e| e.to_string())?;
    if len as u64 > limits.bytes.saturating_mul(8) {
        return Err(format!("the answer has {len} bytes, more than is read"));
    }
    let message = snap::raw::Decoder::new().decompress_vec(body).map_err(|e| e.to_string())?;
    let message = ReadResponse::decode(message.as_slice()).map_err(|e| e.to_string())?;
    if message.results.len() != queries {
        return Err(format!("responses: want {queries}, got {}", message.results.len()));
    }
    let results = (0..).zip(&message.results);
    let parts = results.flat_map(|(n, result)| {
        result.timeseries.iter().map(move |series| Part::of_samples(n, series))
    });
    Ok(parts.collect())
}
