//! The answering end of remote read, over any source: requests are decoded, narrowed by this
//! server's external labels, and answered with samples or with frames of chunks. It knows
//! nothing of HTTP, nor where samples come from.

mod metrics;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use prost::Message;
use thiserror::Error;

use crate::model::{Labels, MatchOp, Matcher};
use crate::storage::chunks::encode;
use crate::storage::frames::write_frame;
use crate::storage::prompb::{
    Chunk, ChunkedReadResponse, ChunkedSeries, Histogram, Label, Query, QueryResult, ReadRequest,
    ReadResponse, SAMPLES, STREAMED_XOR_CHUNKS, Sample, TimeSeries, labels_to_wire,
};
use crate::storage::{RawSeries, SelectHints, SelectRequest, Source, StorageError};
use crate::vector::RawSamples;

pub use metrics::RemoteReadMetrics;

/// Largest request, decoded.
const REQUEST_BYTES_MAX: usize = 32 << 20;

/// What one answer may come to; the defaults are Prometheus'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// `--storage.remote.read-sample-limit`: samples of one query answered with samples; 0
    /// for no limit.
    pub samples: usize,
    /// `--storage.remote.read-concurrent-limit`: requests answered at once; 0 for no limit.
    pub concurrent: usize,
    /// `--storage.remote.read-max-bytes-in-frame`.
    pub frame_bytes: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { samples: 50_000_000, concurrent: 10, frame_bytes: 1 << 20 }
    }
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseType {
    /// One compressed message.
    Samples,
    /// A stream of frames.
    Chunks,
}

/// Why a request is not answered. Texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error("{0}")]
    BadRequest(String),
    #[error("exceeded sample limit ({0})")]
    SampleLimit(usize),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ReadError {
    /// The HTTP status that tells it.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::SampleLimit(_) => 400,
            Self::Storage(_) => 500,
        }
    }
}

/// A decoded request.
#[derive(Clone, Debug)]
pub struct Reading {
    pub response_type: ResponseType,
    queries: Vec<SelectRequest>,
}

impl Reading {
    /// Decodes a request. Matchers that ask for this server's own external labels hold for
    /// everything it has, and are left out.
    pub fn decode(body: &[u8], external: &Labels) -> Result<Self, ReadError> {
        let bad = |e: &dyn std::fmt::Display| ReadError::BadRequest(e.to_string());
        let len = snap::raw::decompress_len(body).map_err(|e| bad(&e))?;
        if len > REQUEST_BYTES_MAX {
            return Err(bad(&format_args!("the request has more than {REQUEST_BYTES_MAX} bytes")));
        }
        let body = snap::raw::Decoder::new().decompress_vec(body).map_err(|e| bad(&e))?;
        let request = ReadRequest::decode(body.as_slice()).map_err(|e| bad(&e))?;
        let response_type = negotiate(&request.accepted_response_types)?;
        let query = |query: &Query| select_request(query, external);
        let queries = request.queries.iter().map(query).collect::<Result<_, _>>();
        Ok(Self { response_type, queries: queries.map_err(ReadError::BadRequest)? })
    }

    /// The series of each query.
    pub async fn select(&self, source: &dyn Source) -> Result<Vec<Found>, ReadError> {
        let mut found = Vec::with_capacity(self.queries.len());
        for query in &self.queries {
            let series = source.select(query).await?.series;
            let bare = query.hints.function == "series";
            found.push(Found { series, from_ms: query.from_ms, to_ms: query.to_ms, bare });
        }
        Ok(found)
    }
}

/// The best of the response types that the asking end accepts.
fn negotiate(accepted: &[i32]) -> Result<ResponseType, ReadError> {
    let known = |number: &i32| match *number {
        SAMPLES => Some(ResponseType::Samples),
        STREAMED_XOR_CHUNKS => Some(ResponseType::Chunks),
        _ => None,
    };
    if accepted.is_empty() {
        return Ok(ResponseType::Samples);
    }
    accepted.iter().find_map(known).ok_or_else(|| {
        let numbers: Vec<String> = accepted.iter().map(ToString::to_string).collect();
        ReadError::BadRequest(format!(
            "server does not support any of the requested response types: [{}]; supported: \
             map[SAMPLES:{{}} STREAMED_XOR_CHUNKS:{{}}]",
            numbers.join(" ")
        ))
    })
}

fn select_request(query: &Query, external: &Labels) -> Result<SelectRequest, String> {
    let mut matchers: Vec<Matcher> =
        query.matchers.iter().map(|m| m.matcher()).collect::<Result<_, _>>()?;
    matchers.retain(|m| m.op != MatchOp::Equal || external.get(&m.name) != Some(&*m.value));
    let hints = query.hints.as_ref().map_or_else(SelectHints::default, |hints| SelectHints {
        step_ms: hints.step_ms,
        range_ms: hints.range_ms,
        function: hints.func.clone(),
        grouping: hints.grouping.clone(),
        by: hints.by,
        limit: 0,
    });
    let (from_ms, to_ms) = (query.start_timestamp_ms, query.end_timestamp_ms);
    Ok(SelectRequest { matchers, from_ms, to_ms, hints })
}

/// The series of one query.
pub struct Found {
    series: Vec<Arc<dyn RawSeries>>,
    from_ms: i64,
    to_ms: i64,
    /// Only labels are wanted.
    bare: bool,
}

impl Found {
    fn read(&self, series: &dyn RawSeries, out: &mut RawSamples) -> Result<(), StorageError> {
        out.clear();
        if self.bare {
            return Ok(());
        }
        series.read_into(self.from_ms, self.to_ms, out)
    }
}

/// The labels of a series as others see it: with the external labels it has not itself.
fn shown(labels: &Labels, external: &Labels) -> Vec<Label> {
    if external.is_empty() {
        return labels_to_wire(labels);
    }
    let missing = external.iter().filter(|(name, _)| labels.get(name).is_none());
    labels_to_wire(&labels.with(missing))
}

/// The answer as one compressed message. Decodes samples: it belongs on a thread that may be
/// busy.
pub fn samples(
    found: &[Found],
    external: &Labels,
    limits: ReadLimits,
) -> Result<Vec<u8>, ReadError> {
    let mut response = ReadResponse::default();
    let mut raw = RawSamples::default();
    for query in found {
        let mut result = QueryResult::default();
        let mut count = 0;
        for series in &query.series {
            query.read(&**series, &mut raw)?;
            count += raw.len();
            if limits.samples > 0 && count > limits.samples {
                return Err(ReadError::SampleLimit(limits.samples));
            }
            let sample = |(ts, value): (&i64, &f64)| Sample { timestamp: *ts, value: *value };
            result.timeseries.push(TimeSeries {
                labels: shown(series.labels(), external),
                samples: raw.ts.iter().zip(&raw.vs).map(sample).collect(),
                histograms: raw.hist.iter().map(|(ts, h)| Histogram::of(*ts, h)).collect(),
            });
        }
        response.results.push(result);
    }
    snap::raw::Encoder::new()
        .compress_vec(&response.encode_to_vec())
        .map_err(|e| ReadError::Storage(StorageError::Unsupported(e.to_string())))
}

/// Gives the answer frame by frame, so that no more than one is held. As `samples`, it
/// belongs on a thread that may be busy. Ends when `send` says that nobody listens any more.
pub fn frames(
    found: &[Found],
    external: &Labels,
    limits: ReadLimits,
    mut send: impl FnMut(Vec<u8>) -> bool,
) -> Result<(), StorageError> {
    let mut raw = RawSamples::default();
    for (index, query) in found.iter().enumerate() {
        for series in &query.series {
            query.read(&**series, &mut raw)?;
            let labels = shown(series.labels(), external);
            let labels_len: usize = labels.iter().map(Message::encoded_len).sum();
            let mut chunks = encode(&raw).into_iter().map(wire_chunk).peekable();
            loop {
                let mut part = ChunkedSeries { labels: labels.clone(), chunks: Vec::new() };
                let mut left = limits.frame_bytes as i64 - labels_len as i64;
                while left > 0 || part.chunks.is_empty() {
                    let Some(chunk) = chunks.next() else { break };
                    left -= chunk.encoded_len() as i64;
                    part.chunks.push(chunk);
                }
                let last = chunks.peek().is_none();
                let message =
                    ChunkedReadResponse { chunked_series: vec![part], query_index: index as i64 };
                let mut frame = Vec::with_capacity(message.encoded_len() + 16);
                write_frame(&message.encode_to_vec(), &mut frame);
                if !send(frame) {
                    return Ok(());
                }
                if last {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn wire_chunk(chunk: crate::storage::chunks::WireChunk) -> Chunk {
    Chunk {
        min_time_ms: chunk.min_ms,
        max_time_ms: chunk.max_ms,
        r#type: i32::from(chunk.encoding),
        data: chunk.data,
    }
}
