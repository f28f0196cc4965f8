//! Remote write 1.0 and 2.0: both ends' wire format, the sending end (`send`), and the
//! receiving end's rules, without HTTP: `api` hands in the body and answers with what comes
//! back.
//!
//! A body is one snappy block (not the framed format) that holds a protobuf
//! `prometheus.WriteRequest` or `io.prometheus.write.v2.Request`. It is decoded as it is
//! applied: no message is built. As in Prometheus, a request of 1.0 is taken whole or not
//! at all, except that series with invalid labels are skipped and counted; of one of 2.0
//! everything is taken that can be, and the rest is named.

pub mod metrics;
pub mod proto;
pub mod proto2;
mod request;
pub mod send;
mod wire;

use thiserror::Error;

use crate::model::exemplar::ExemplarError;
use crate::model::{Labels, METRIC_NAME, TimestampMs};
use crate::storage::{AppendError, Appender, SeriesRef, Sink, StorageError};

pub use metrics::RemoteWriteMetrics;
use request::{Series, each_metadata, each_series, symbols};
use wire::WireError;

/// Samples further in the future than this are out of bounds.
const AHEAD_MAX_MS: i64 = 10 * 60 * 1000;

/// Refusals of a request of 2.0 that are told one by one; the others are counted.
const REFUSALS_TOLD_MAX: usize = 100;

/// Which message a body holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    V1,
    V2,
}

impl Version {
    /// The name of the message, as content types and flags have it.
    pub fn message(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

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
    pub exemplars: usize,
    /// Series left out because of their labels.
    pub invalid_series: usize,
    /// Samples and histograms of such series; counted for 2.0 only.
    pub invalid_values: usize,
}

/// Why a request was refused. But for `Partial`, nothing of it was stored.
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
    /// What a request of 2.0 held beside what was stored: a line each.
    #[error("{0}")]
    Partial(String),
}

impl WriteError {
    /// The HTTP status Prometheus answers with: 4xx tells the sender to drop the request,
    /// 5xx to send it again.
    pub fn status(&self) -> u16 {
        match self {
            Self::Snappy(_) | Self::Protobuf(_) | Self::Partial(_) => 400,
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

/// Takes a body: decompresses it and stores what it holds. Answer 204 without an error,
/// else [`WriteError::status`] with the error's text; what was stored comes with either.
pub fn receive(
    body: &[u8],
    version: Version,
    limits: WriteLimits,
    sink: &dyn Sink,
    now_ms: TimestampMs,
    metrics: &RemoteWriteMetrics,
) -> (Written, Result<(), WriteError>) {
    let written = decode(body, limits).and_then(|request| apply(&request, version, sink, now_ms));
    let (written, refused) = match written {
        Ok(done) => done,
        Err(error) => return (Written::default(), Err(error)),
    };
    metrics.invalid_labels_samples.inc_by(match version {
        Version::V1 => written.invalid_series,
        Version::V2 => written.invalid_values,
    } as u64);
    (written, refused.map_or(Ok(()), Err))
}

/// Stores a decompressed request in one batch. What of a request of 2.0 could not be stored
/// is the second part of the answer.
pub fn apply(
    request: &[u8],
    version: Version,
    sink: &dyn Sink,
    now_ms: TimestampMs,
) -> Result<(Written, Option<WriteError>), WriteError> {
    let mut batch = Batch {
        appender: sink.appender(),
        latest_ms: now_ms.saturating_add(AHEAD_MAX_MS),
        written: Written::default(),
        refusals: Refusals::default(),
    };
    match version {
        Version::V1 => {
            each_series(request, version, &[], |series| batch.add(series))?;
            each_metadata(request, |family, metadata| {
                batch.appender.append_metadata(family, &metadata);
            })?;
        }
        Version::V2 => {
            let symbols = symbols(request)?;
            each_series(request, version, &symbols, |series| batch.add_what_is_sound(series))?;
        }
    }
    // Dropping the batch on an error above forgot it; from here on it is stored.
    batch.appender.commit().map_err(WriteError::Storage)?;
    Ok((batch.written, batch.refusals.into_error()))
}

struct Batch {
    appender: Box<dyn Appender>,
    latest_ms: TimestampMs,
    written: Written,
    refusals: Refusals,
}

/// What of a request was not stored.
#[derive(Default)]
struct Refusals {
    told: Vec<String>,
    untold: usize,
}

impl Refusals {
    fn add(&mut self, text: impl FnOnce() -> String) {
        if self.told.len() < REFUSALS_TOLD_MAX {
            self.told.push(text());
        } else {
            self.untold += 1;
        }
    }

    fn into_error(mut self) -> Option<WriteError> {
        if self.untold > 0 {
            self.told.push(format!("and {} more", self.untold));
        }
        (!self.told.is_empty()).then(|| WriteError::Partial(self.told.join("\n")))
    }
}

impl Batch {
    /// Adds a series of 1.0: the first sample that is refused ends the request.
    fn add(&mut self, series: &Series<'_>) -> Result<(), WriteError> {
        let labels = match series.labels()? {
            Ok(labels) => labels,
            Err(invalid) => {
                self.written.invalid_series += 1;
                tracing::warn!(why = invalid.0, "remote write: series skipped");
                return Ok(());
            }
        };
        let found = self.add_values(series, &labels, |_, ts, e| {
            tracing::warn!(series = %labels, timestamp = ts, error = %e, "remote write refused");
            Err(WriteError::Append(e))
        })?;
        self.add_exemplars(series, found, |_, why| {
            tracing::debug!(series = %labels, %why, "exemplar refused");
        })
    }

    /// Adds a series of 2.0: whatever is refused is noted and left out.
    fn add_what_is_sound(&mut self, series: &Series<'_>) -> Result<(), WriteError> {
        let labels = match series.labels()? {
            Ok(labels) => labels,
            Err(invalid) => {
                self.written.invalid_series += 1;
                self.written.invalid_values += series.values();
                self.refusals.add(|| invalid.0);
                return Ok(());
            }
        };
        if series.values() == 0 {
            self.refusals.add(|| {
                format!(
                    "TimeSeries must contain at least one sample or histogram for series {labels}"
                )
            });
            return Ok(());
        }
        let found = self.add_values(series, &labels, |refusals, _, e| match e {
            AppendError::Storage(e) => Err(WriteError::Storage(e)),
            e => {
                refusals.add(|| format!("{e} for series {labels}"));
                Ok(())
            }
        })?;
        self.add_exemplars(series, found, |refusals, why| {
            refusals.add(|| format!("{why} for series {labels}"));
        })?;
        if let Some(metadata) = series.metadata()? {
            let name = labels.get_or_empty(METRIC_NAME);
            self.appender.append_metadata(metadata.kind.family(name), &metadata);
        }
        Ok(())
    }

    fn add_values(
        &mut self,
        series: &Series<'_>,
        labels: &Labels,
        refused: impl Fn(&mut Refusals, TimestampMs, AppendError) -> Result<(), WriteError>,
    ) -> Result<Option<SeriesRef>, WriteError> {
        let Self { appender, latest_ms, written, refusals } = self;
        let mut hint: Option<SeriesRef> = None;
        let bounds = |ts| if ts > *latest_ms { Err(AppendError::OutOfBounds) } else { Ok(()) };
        series.each_sample(|ts, value| {
            match bounds(ts).and_then(|()| appender.append(hint, labels, ts, value)) {
                Ok(series) => {
                    hint = Some(series);
                    written.samples += 1;
                    Ok(())
                }
                Err(e) => refused(refusals, ts, e),
            }
        })?;
        series.each_histogram(|ts, value| {
            match bounds(ts).and_then(|()| appender.append_histogram(hint, labels, ts, &value)) {
                Ok(series) => {
                    hint = Some(series);
                    written.histograms += 1;
                    Ok(())
                }
                Err(e) => refused(refusals, ts, e),
            }
        })?;
        Ok(hint)
    }

    /// Adds exemplars to a series that something was appended to.
    fn add_exemplars(
        &mut self,
        series: &Series<'_>,
        found: Option<SeriesRef>,
        refused: impl Fn(&mut Refusals, String),
    ) -> Result<(), WriteError> {
        let Self { appender, written, refusals, .. } = self;
        series.each_exemplar(|exemplar| {
            let found = found.ok_or(ExemplarError::UnknownSeries);
            match exemplar {
                Err(invalid) => refused(refusals, invalid.0),
                Ok(e) => match found.and_then(|found| appender.append_exemplar(found, e)) {
                    Ok(()) => written.exemplars += 1,
                    Err(e) => refused(refusals, e.to_string()),
                },
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
