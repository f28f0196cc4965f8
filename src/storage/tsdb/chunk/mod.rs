//! Chunks: up to a few hundred consecutive samples of one series.
//!
//! Floats are kept in Prometheus' XOR encoding. Native histograms stay decoded and shared
//! (`Arc`), which costs memory but lets a reader have them without a copy; their durable
//! form is the write-ahead log.

pub(crate) mod bits;
pub(crate) mod xor;

use std::sync::Arc;

use crate::model::{FloatHistogram, TimestampMs};
use crate::storage::StorageError;
use crate::vector::RawSamples;

use xor::XorIter;

/// Samples a chunk should hold; one that covers its time range sooner may take twice as many.
pub(crate) const SAMPLES_PER_CHUNK: u16 = 120;
/// Bytes after which a float chunk is cut whatever its count: 1024 less the largest sample.
pub(crate) const XOR_CHUNK_BYTES_MAX: usize = 1024 - 19;

/// The samples of a finished chunk.
#[derive(Clone, Debug)]
pub(crate) enum ChunkData {
    Xor(Box<[u8]>),
    Histograms(Box<[(TimestampMs, Arc<FloatHistogram>)]>),
}

/// A finished chunk.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) min_ms: TimestampMs,
    pub(crate) max_ms: TimestampMs,
    pub(crate) data: ChunkData,
}

impl Chunk {
    /// Bytes held beside the struct itself; a histogram is counted by its buckets.
    pub(crate) fn size_bytes(&self) -> usize {
        match &self.data {
            ChunkData::Xor(bytes) => bytes.len(),
            ChunkData::Histograms(samples) => {
                samples.iter().map(|(_, h)| histogram_bytes(h) + 16).sum()
            }
        }
    }

    /// Appends the samples inside the closed interval to `out`.
    pub(crate) fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        if self.max_ms < from_ms || self.min_ms > to_ms {
            return Ok(());
        }
        match &self.data {
            ChunkData::Xor(bytes) => read_xor(bytes, from_ms, to_ms, out),
            ChunkData::Histograms(samples) => {
                read_histograms(samples, from_ms, to_ms, out);
                Ok(())
            }
        }
    }
}

/// Appends the samples of an XOR chunk inside the closed interval to `out`.
pub(crate) fn read_xor(
    bytes: &[u8],
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    out: &mut RawSamples,
) -> Result<(), StorageError> {
    read_samples(XorIter::new(bytes), bytes.len(), from_ms, to_ms, out)
}

/// As `read_xor`, from what is left of a chunk, which is `len` bytes.
pub(crate) fn read_samples(
    mut iter: XorIter<'_>,
    len: usize,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    out: &mut RawSamples,
) -> Result<(), StorageError> {
    for (ts, value) in iter.by_ref() {
        if ts > to_ms {
            return Ok(());
        }
        if ts >= from_ms {
            out.push(ts, value);
        }
    }
    if iter.broken() {
        return Err(StorageError::Corrupt {
            what: "a float chunk in memory".to_owned(),
            offset: len as u64,
            why: "it ends before its last sample".to_owned(),
        });
    }
    Ok(())
}

/// Appends the histograms inside the closed interval to `out`.
pub(crate) fn read_histograms(
    samples: &[(TimestampMs, Arc<FloatHistogram>)],
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    out: &mut RawSamples,
) {
    let start = samples.partition_point(|(ts, _)| *ts < from_ms);
    let end = samples.partition_point(|(ts, _)| *ts <= to_ms);
    if start < end {
        out.hist.extend_from_slice(&samples[start..end]);
    }
}

/// Bytes a decoded histogram takes.
pub(crate) fn histogram_bytes(h: &FloatHistogram) -> usize {
    size_of::<FloatHistogram>()
        + 8 * (h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len())
        + 8 * (h.positive_spans.len() + h.negative_spans.len())
}

/// End of the chunk range that `ts` lies in: ranges of `range_ms` tile the time line.
pub(crate) fn range_end(ts: TimestampMs, range_ms: i64) -> TimestampMs {
    // Truncated division, as Prometheus has it, also before 1970.
    (ts / range_ms).saturating_mul(range_ms).saturating_add(range_ms)
}

/// Where to cut a chunk that is a quarter full at `now_ms` so that the chunks of a range
/// come out equally long instead of leaving a small rest at its end.
pub(crate) fn chunk_end(start_ms: i64, now_ms: i64, range_end_ms: i64) -> TimestampMs {
    let whole = range_end_ms.saturating_sub(start_ms) as f64;
    let n = whole / ((now_ms.saturating_sub(start_ms)).saturating_add(1) as f64 * 4.0);
    if n <= 1.0 { range_end_ms } else { (start_ms as f64 + whole / n.floor()) as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_range_come_out_equal() {
        const TWO_HOURS: i64 = 7_200_000;
        assert_eq!(range_end(1, TWO_HOURS), TWO_HOURS);
        assert_eq!(range_end(TWO_HOURS, TWO_HOURS), 2 * TWO_HOURS);
        // A sample each 15 s: the quarter (30 samples) is reached after 435 s; 7200 / 1740
        // rounds down to four chunks of 1,800 s.
        assert_eq!(chunk_end(0, 29 * 15_000, TWO_HOURS), 1_800_000);
        assert_eq!(chunk_end(0, TWO_HOURS - 1, TWO_HOURS), TWO_HOURS);
    }
}
