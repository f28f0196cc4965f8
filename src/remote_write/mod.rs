//! Remote write 1.0, both ends' wire format and the receiving end's rules, without HTTP:
//! `api` hands in the body and answers with what comes back.
//!
//! A body is one snappy block (not the framed format) that holds a protobuf
//! `prometheus.WriteRequest`. It is decoded as it is applied: no message is built. As in
//! Prometheus, a request is taken whole or not at all, except that series with invalid
//! labels are skipped and counted.

pub mod metrics;
pub mod proto;
pub mod proto2;
mod request;
mod wire;

use thiserror::Error;

use crate::model::TimestampMs;
use crate::storage::{AppendError, Appender, SeriesRef, Sink, StorageError};

pub use metrics::RemoteWriteMetrics;
use request::{Series, each_metadata, each_series};
use wire::WireError;

/// Samples further in the future than this are out of bounds.
const AHEAD_MAX_MS: i64 = 10 * 60 * 1000;

/// What a receiver accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLimits {
    /// Largest request after decompression, in bytes.
    pub decoded_bytes_max: usize,
}

impl Default for WriteLimits {
    fn default() -> Self {
        Self { decoded_bytes_max: 32 << 20 }
    }
}

/// What a request brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub samples: usize,
    pub histograms: usize,
    /// Recognised, and dropped: the store keeps no exemplars.
    pub exemplars_dropped: usize,
    /// Series left out because of their labels.
    pub invalid_series: usize,
}

/// Why a request was refused. Nothing of it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    #[error("snappy: {0}")]
    Snappy(String),
    #[error(
        "snappy: decoded size of {size} bytes is above the limit of {limit}; send smaller requests \
         (max_samples_per_send)"
    )]
    TooLarge { size: usize, limit: usize },
    #[error("proto: {0}")]
    Protobuf(String),
    /// The text is Prometheus' own, which senders log.
    #[error(transparent)]
    Append(AppendError),
    #[error(transparent)]
    Storage(StorageError),
}

impl WriteError {
    /// The HTTP status Prometheus answers with: 4xx tells the sender to drop the request,
    /// 5xx to send it again.
    pub fn status(&self) -> u16 {
        match self {
            Self::Snappy(_) | Self::Protobuf(_) => 400,
            Self::TooLarge { .. } => 413,
            Self::Append(AppendError::Storage(_)) | Self::Storage(_) => 500,
            Self::Append(_) => 400,
        }
    }
}

impl From<WireError> for WriteError {
    fn from(e: WireError) -> Self {
        Self::Protobuf(e.to_string())
    }
}

/// Decompresses a body: the bytes of a `WriteRequest`.
pub fn decode(body: &[u8], limits: WriteLimits) -> Result<Vec<u8>, WriteError> {
    let snappy = |e: snap::Error| WriteError::Snappy(format!("corrupt input: {e}"));
    let size = snap::raw::decompress_len(body).map_err(snappy)?;
    let limit = limits.decoded_bytes_max;
    if size > limit {
        return Err(WriteError::TooLarge { size, limit });
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(snappy)
}

/// Encodes and compresses a request of either version for sending.
pub fn encode(request: &impl prost::Message) -> Result<Vec<u8>, WriteError> {
    let bytes = request.encode_to_vec();
    snap::raw::Encoder::new()
        .compress_vec(&bytes)
        .map_err(|e| WriteError::Snappy(format!("cannot compress: {e}")))
}

/// Takes a body: decompresses it and stores what it holds. Answer 204 when this succeeds,
/// else [`WriteError::status`] with the error's text.
pub fn receive(
    body: &[u8],
    limits: WriteLimits,
    sink: &dyn Sink,
    now_ms: TimestampMs,
    metrics: &RemoteWriteMetrics,
) -> Result<Written, WriteError> {
    let request = decode(body, limits)?;
    let written = apply(&request, sink, now_ms)?;
    metrics.invalid_labels_samples.inc_by(written.invalid_series as u64);
    Ok(written)
}

/// Stores a decompressed `WriteRequest` in one batch.
pub fn apply(request: &[u8], sink: &dyn Sink, now_ms: TimestampMs) -> Result<Written, WriteError> {
    let mut batch = Batch {
        appender: sink.appender(),
        latest_ms: now_ms.saturating_add(AHEAD_MAX_MS),
        written: Written::default(),
    };
    each_series(request, |series| batch.add(series))?;
    each_metadata(request, |family, metadata| batch.appender.append_metadata(family, &metadata))?;
    // Dropping the batch on an error above forgot it; from here on it is stored.
    batch.appender.commit().map_err(WriteError::Storage)?;
    Ok(batch.written)
}

struct Batch {
    appender: Box<dyn Appender>,
    latest_ms: TimestampMs,
    written: Written,
}

impl Batch {
    fn add(&mut self, series: &Series<'_>) -> Result<(), WriteError> {
        self.written.exemplars_dropped += series.exemplars();
        let Some(labels) = series.labels()? else {
            self.written.invalid_series += 1;
            tracing::warn!("remote write: series with invalid metric name or labels skipped");
            return Ok(());
        };
        let mut hint: Option<SeriesRef> = None;
        let refused = |ts: TimestampMs, e: AppendError| {
            tracing::warn!(series = %labels, timestamp = ts, error = %e, "remote write refused");
            WriteError::Append(e)
        };
        let latest_ms = self.latest_ms;
        let bounds = |ts| if ts > latest_ms { Err(AppendError::OutOfBounds) } else { Ok(()) };
        series.each_sample(|ts, value| {
            let appended = bounds(ts).and_then(|()| self.appender.append(hint, &labels, ts, value));
            hint = Some(appended.map_err(|e| refused(ts, e))?);
            self.written.samples += 1;
            Ok(())
        })?;
        series.each_histogram(|ts, value| {
            let appended =
                bounds(ts).and_then(|()| self.appender.append_histogram(hint, &labels, ts, &value));
            hint = Some(appended.map_err(|e| refused(ts, e))?);
            self.written.histograms += 1;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
