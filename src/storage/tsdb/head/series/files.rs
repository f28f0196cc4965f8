//! A series' chunks in files, and what of it goes into a snapshot.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use crate::model::TimestampMs;
use crate::storage::tsdb::chunk::Chunk;
use crate::storage::tsdb::encoding::Put;
use crate::storage::tsdb::intervals::Intervals;
use crate::vector::RawSamples;

use super::super::snapshot::put_last;
use super::{MemSeries, SampleValue};

impl MemSeries {
    /// Takes a chunk that a file holds. What the log has of it is told by the newest sample.
    /// False where it cannot be taken, since something else of its time is here.
    ///
    /// A series that left and came back has chunks under several references, and those are
    /// met in any order.
    pub(crate) fn attach(&self, chunk: &Arc<Chunk>) -> bool {
        let mut state = self.state.lock();
        let newest = state.last.as_ref().map_or(TimestampMs::MIN, |(ts, _)| *ts);
        let at = state.chunks.partition_point(|held| held.max_ms < chunk.min_ms);
        let overlaps = state.chunks.get(at).is_some_and(|held| held.min_ms <= chunk.max_ms);
        if state.gone || overlaps {
            return false;
        }
        if newest < chunk.max_ms {
            let mut raw = RawSamples::default();
            if chunk.read_into(chunk.max_ms, chunk.max_ms, &mut raw).is_err() {
                return false;
            }
            let value = match (raw.vs.first(), raw.hist.first()) {
                (Some(value), _) => SampleValue::Float(*value),
                (None, Some((_, value))) => SampleValue::Histogram(Arc::clone(value)),
                (None, None) => return false,
            };
            if state.open.as_ref().is_some_and(|open| open.max_ms >= chunk.min_ms) {
                return false;
            }
            if let Some(open) = state.open.take() {
                state.chunks.push(Arc::new(open.finish()));
            }
            state.last = Some((chunk.max_ms, value));
        } else if state.open.as_ref().is_some_and(|open| open.min_ms <= chunk.max_ms) {
            return false;
        }
        // The chunk that was being written may have come before it just now.
        let at = state.chunks.partition_point(|held| held.max_ms < chunk.min_ms);
        state.chunks.insert(at, Arc::clone(chunk));
        self.min_ms.fetch_min(chunk.min_ms, Ordering::AcqRel);
        self.max_ms.fetch_max(chunk.max_ms, Ordering::AcqRel);
        true
    }

    /// The finished chunks that no file holds yet, in time order.
    pub(crate) fn unwritten(&self) -> SmallVec<[Arc<Chunk>; 4]> {
        let state = self.state.lock();
        let held = |chunk: &&Arc<Chunk>| chunk.bytes.file().is_none();
        state.chunks.iter().filter(held).cloned().collect()
    }

    /// Puts a chunk as a file holds it in the place of the one in memory.
    pub(crate) fn replace(&self, held: &Arc<Chunk>, written: Arc<Chunk>) {
        let mut state = self.state.lock();
        // It may have left meanwhile.
        if let Some(place) = state.chunks.iter_mut().find(|chunk| Arc::ptr_eq(chunk, held)) {
            *place = written;
        }
    }

    /// Number of the oldest file that holds a chunk of it.
    pub(crate) fn oldest_file(&self) -> Option<u32> {
        let state = self.state.lock();
        let late = state.late.as_ref().and_then(|late| late.oldest_file());
        state.chunks.iter().filter_map(|chunk| chunk.bytes.file()).chain(late).min()
    }

    /// Appends to a snapshot's record what is not in finished chunks.
    pub(crate) fn write_open(&self, out: &mut Vec<u8>) {
        let state = self.state.lock();
        let Some(open) = &state.open else {
            out.put_uvarint(0);
            return;
        };
        let chunk = open.copy();
        out.put_uvarint(1);
        out.put_be64(chunk.min_ms as u64);
        out.put_be64(chunk.max_ms as u64);
        out.push(chunk.encoding as u8);
        out.put_uvarint(chunk.bytes.len() as u64);
        out.extend_from_slice(&chunk.bytes);
        let mut last = RawSamples::default();
        match &state.last {
            Some((ts, SampleValue::Float(value))) => last.push(*ts, *value),
            Some((ts, SampleValue::Histogram(h))) => last.hist.push((*ts, Arc::clone(h))),
            None => {}
        }
        put_last(&last, chunk.encoding, out);
    }

    /// What is deleted of it.
    pub(crate) fn deleted(&self) -> Option<Arc<Intervals>> {
        self.state.lock().tombstones.clone()
    }
}
