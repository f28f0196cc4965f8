//! Chunks: up to a few hundred consecutive samples of one series, in Prometheus' encodings.

pub(crate) mod bits;
pub(crate) mod histogram;
pub(crate) mod xor;

use std::sync::Arc;

use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::tsdb::block::MappedFile;
use crate::vector::RawSamples;

use histogram::read_histograms;
use xor::XorIter;

/// Samples a chunk should hold; one that covers its time range sooner may take twice as many.
pub(crate) const SAMPLES_PER_CHUNK: u16 = 120;
/// Bytes after which a float chunk is cut whatever its count: 1024 less the largest sample.
pub(crate) const XOR_CHUNK_BYTES_MAX: usize = 1024 - 19;

/// Bytes a chunk of histograms should have; it is cut at twice as many.
pub(crate) const HISTOGRAM_CHUNK_BYTES: usize = 1024;
/// Histograms a chunk has at least, unless its time range ends sooner.
pub(crate) const HISTOGRAMS_PER_CHUNK_MIN: u16 = 10;

/// How the samples of a chunk are written; the numbers are those of Prometheus' files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
}

impl Encoding {
    /// The encoding of a number, when it is known.
    pub(crate) fn of(number: u8) -> Option<Self> {
        [Self::Xor, Self::Histogram, Self::FloatHistogram].into_iter().find(|e| *e as u8 == number)
    }
}

/// The bytes of a finished chunk: in memory, or in a file that is mapped.
#[derive(Clone, Debug)]
pub(crate) enum ChunkBytes {
    Held(Box<[u8]>),
    /// Where in which file; the last is its number.
    Mapped(Arc<MappedFile>, u32, u32, u32),
}

impl ChunkBytes {
    /// Bytes of a file, which has that many.
    pub(crate) fn mapped(file: &Arc<MappedFile>, number: u32, at: usize, len: usize) -> Self {
        Self::Mapped(Arc::clone(file), at as u32, len as u32, number)
    }

    /// Number of the file that has them.
    pub(crate) fn file(&self) -> Option<u32> {
        match self {
            Self::Held(_) => None,
            Self::Mapped(.., number) => Some(*number),
        }
    }

    /// The bytes as memory of one's own.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Held(bytes) => bytes.into_vec(),
            Self::Mapped(..) => self.to_vec(),
        }
    }

    /// Bytes of the process' own memory.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Held(bytes) => bytes.len(),
            Self::Mapped(..) => 0,
        }
    }
}

impl From<Box<[u8]>> for ChunkBytes {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::Held(bytes)
    }
}

impl std::ops::Deref for ChunkBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Held(bytes) => bytes,
            Self::Mapped(file, at, len, _) => {
                let at = *at as usize;
                file.bytes().get(at..at + *len as usize).unwrap_or_default()
            }
        }
    }
}

/// A finished chunk.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) min_ms: TimestampMs,
    pub(crate) max_ms: TimestampMs,
    pub(crate) encoding: Encoding,
    pub(crate) bytes: ChunkBytes,
}

impl Chunk {
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
        read_chunk(self.encoding, &self.bytes, from_ms, to_ms, out)
    }
}

/// Appends the samples of a chunk inside the closed interval to `out`.
pub(crate) fn read_chunk(
    encoding: Encoding,
    bytes: &[u8],
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    out: &mut RawSamples,
) -> Result<(), StorageError> {
    match encoding {
        Encoding::Xor => read_xor(bytes, from_ms, to_ms, out),
        Encoding::Histogram | Encoding::FloatHistogram => {
            read_histograms(bytes, encoding, from_ms, to_ms, out)
        }
    }
}

fn corrupt(what: &str, len: usize) -> StorageError {
    StorageError::Corrupt {
        what: what.to_owned(),
        offset: len as u64,
        why: "it ends before its last sample".to_owned(),
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
    iter.read_into(from_ms, to_ms, out);
    if iter.broken() { Err(corrupt("a float chunk", len)) } else { Ok(()) }
}

/// End of the chunk range that `ts` lies in: ranges of `range_ms` tile the time line.
pub(crate) fn range_end(ts: TimestampMs, range_ms: i64) -> TimestampMs {
    // Truncated division, as Prometheus has it, also before 1970.
    (ts / range_ms).saturating_mul(range_ms).saturating_add(range_ms)
}

/// Where to cut a chunk of which the part `full` is written at `now_ms`, so that the chunks
/// of a range come out equally long instead of leaving a small rest at its end.
pub(crate) fn chunk_end(start_ms: i64, now_ms: i64, range_end_ms: i64, full: f64) -> TimestampMs {
    let whole = range_end_ms.saturating_sub(start_ms) as f64;
    let n = whole * full / (now_ms.saturating_sub(start_ms)).saturating_add(1) as f64;
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
        assert_eq!(chunk_end(0, 29 * 15_000, TWO_HOURS, 0.25), 1_800_000);
        assert_eq!(chunk_end(0, TWO_HOURS - 1, TWO_HOURS, 0.25), TWO_HOURS);
    }
}
