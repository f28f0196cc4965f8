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
    /// Takes chunks that files hold, in time order, before what the log has after them: those
    /// that do not come after what is here are left to the log. Says how many were taken.
    pub(crate) fn attach(&self, chunks: &[Arc<Chunk>]) -> usize {
        let mut state = self.state.lock();
        if state.gone {
            return 0;
        }
        let mut newest = state.last.as_ref().map_or(TimestampMs::MIN, |(ts, _)| *ts);
        let fitting = chunks.iter().take_while(|chunk| {
            let fits = newest < chunk.min_ms;
            newest = newest.max(chunk.max_ms);
            fits
        });
        let fitting = &chunks[..fitting.count()];
        let Some((first, last)) = fitting.first().zip(fitting.last()) else { return 0 };
        // What the log has of them is told by the newest sample.
        let mut raw = RawSamples::default();
        if last.read_into(last.max_ms, last.max_ms, &mut raw).is_err() {
            return 0;
        }
        let value = match (raw.vs.first(), raw.hist.first()) {
            (Some(value), _) => SampleValue::Float(*value),
            (None, Some((_, value))) => SampleValue::Histogram(Arc::clone(value)),
            (None, None) => return 0,
        };
        state.last = Some((last.max_ms, value));
        if let Some(open) = state.open.take() {
            state.chunks.push(Arc::new(open.finish()));
        }
        state.chunks.extend(fitting.iter().cloned());
        self.min_ms.fetch_min(first.min_ms, Ordering::AcqRel);
        self.max_ms.fetch_max(last.max_ms, Ordering::AcqRel);
        fitting.len()
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
        self.state.lock().chunks.iter().filter_map(|chunk| chunk.bytes.file()).min()
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
