//! Samples as chunks and back, in the encodings of the block files: what remote read sends
//! over the wire. It knows neither blocks nor requests.

use bytes::Bytes;

use super::StorageError;
use super::tsdb::chunk::{Chunk, Encoding, read_chunk};
use super::tsdb::compact::Recoder;
use crate::model::TimestampMs;
use crate::vector::RawSamples;

/// An encoded chunk.
#[derive(Clone, Debug)]
pub struct WireChunk {
    pub min_ms: TimestampMs,
    pub max_ms: TimestampMs,
    /// 1 floats, 2 integer histograms, 3 float histograms.
    pub encoding: u8,
    pub data: Bytes,
}

impl WireChunk {
    /// Appends the samples inside the closed interval to `out`. `what` begins an error.
    pub fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        if self.max_ms < from_ms || self.min_ms > to_ms {
            return Ok(());
        }
        let encoding = Encoding::of(self.encoding).ok_or_else(|| {
            StorageError::Unsupported(format!("chunks of encoding {} are not known", self.encoding))
        })?;
        read_chunk(encoding, &self.data, from_ms, to_ms, out)
    }
}

/// Samples as chunks of the usual size, in time order.
pub fn encode(samples: &RawSamples) -> Vec<WireChunk> {
    let wire = |chunk: Chunk| WireChunk {
        min_ms: chunk.min_ms,
        max_ms: chunk.max_ms,
        encoding: chunk.encoding as u8,
        data: Bytes::from(chunk.bytes.into_vec()),
    };
    Recoder::default().encode(samples).into_iter().map(wire).collect()
}
