//! The series of an answer, as the evaluator reads them.

use std::sync::Arc;

use crate::model::{Labels, TimestampMs};
use crate::storage::chunks::WireChunk;
use crate::storage::fanout::merge;
use crate::storage::{RawSeries, StorageError};
use crate::vector::RawSamples;

/// A series whose samples came as samples.
pub(super) struct Sampled {
    pub labels: Labels,
    pub samples: Arc<RawSamples>,
}

impl RawSeries for Sampled {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        out.extend_from(&self.samples, from_ms, to_ms);
        Ok(())
    }
}

/// A series whose samples came as chunks. They are decoded when somebody reads.
pub(super) struct Chunked {
    labels: Labels,
    /// By their beginning.
    chunks: Vec<WireChunk>,
    /// No two have a time in common.
    apart: bool,
    /// Who sent it, for errors.
    from: Arc<str>,
}

impl Chunked {
    pub(super) fn new(labels: Labels, mut chunks: Vec<WireChunk>, from: Arc<str>) -> Self {
        chunks.sort_by_key(|chunk| chunk.min_ms);
        let apart = chunks.windows(2).all(|w| w[0].max_ms < w[1].min_ms);
        Self { labels, chunks, apart, from }
    }

    fn read_chunk(
        &self,
        chunk: &WireChunk,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        chunk.read_into(from_ms, to_ms, out).map_err(|e| match e {
            StorageError::Corrupt { offset, why, what } => StorageError::Corrupt {
                what: format!("{what} of {} sent by {}", self.labels, self.from),
                offset,
                why,
            },
            e => e,
        })
    }
}

impl RawSeries for Chunked {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        let wanted = |chunk: &&WireChunk| chunk.min_ms <= to_ms && from_ms <= chunk.max_ms;
        if self.apart {
            for chunk in self.chunks.iter().filter(wanted) {
                self.read_chunk(chunk, from_ms, to_ms, out)?;
            }
            return Ok(());
        }
        let mut merged = RawSamples::default();
        for chunk in self.chunks.iter().filter(wanted) {
            let mut next = RawSamples::default();
            self.read_chunk(chunk, from_ms, to_ms, &mut next)?;
            merged = merge(&merged, &next);
        }
        out.append(merged);
        Ok(())
    }
}
