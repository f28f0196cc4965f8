//! Ways into the inside for benches alone: chunks and lists of the index by themselves.

use crate::model::TimestampMs;
use crate::vector::RawSamples;

use super::chunk::read_xor;
use super::chunk::xor::XorAppender;
use super::index::intersect;

/// Float samples as one chunk.
pub fn encode_floats(samples: &[(TimestampMs, f64)]) -> Box<[u8]> {
    let mut chunk = XorAppender::default();
    for (ts, value) in samples {
        chunk.push(*ts, *value);
    }
    chunk.finish()
}

/// Appends the samples of a chunk of floats to `out`; false when it makes no sense.
pub fn decode_floats(chunk: &[u8], out: &mut RawSamples) -> bool {
    read_xor(chunk, TimestampMs::MIN, TimestampMs::MAX, out).is_ok()
}

/// Keeps the references that are in both sorted lists.
pub fn intersect_lists(kept: &mut Vec<u64>, other: &[u64]) {
    intersect(kept, other);
}
