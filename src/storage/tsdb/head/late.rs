//! Samples of one series that came out of order: after a newer one, or too late for the
//! chunks that are written in order. Some are collected, by time, and become a chunk; such
//! chunks may overlap each other and the rest of the series, so a reader merges them all.
//!
//! Whole batches or nothing holds here too: what some reader must not see yet stays among
//! the samples that are collected, each under its commit.

use std::sync::Arc;

use crate::model::TimestampMs;
use crate::storage::StorageError;
use crate::storage::fanout::merge;
use crate::storage::tsdb::chunk::Chunk;
use crate::storage::tsdb::compact::recode::Recoder;
use crate::vector::RawSamples;

use super::isolation::CommitId;
use super::series::SampleValue;

/// Samples collected before they become a chunk: Prometheus' `out_of_order_cap_max`.
const COLLECTED_MAX: usize = 32;

#[derive(Clone, Debug)]
struct Collected {
    ts: TimestampMs,
    value: SampleValue,
    commit: CommitId,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Late {
    /// In the order they were completed, each with its newest commit; everybody may see them.
    chunks: Vec<(CommitId, Arc<Chunk>)>,
    /// By time, each once.
    collected: Vec<Collected>,
    /// How many of the chunks are about to leave for a block.
    sealed: usize,
}

impl Late {
    /// Adds a sample. `None` when there is one of its time among those collected; otherwise
    /// how many chunks were completed.
    pub(super) fn insert(
        &mut self,
        ts: TimestampMs,
        value: &SampleValue,
        commit: CommitId,
        oldest_visible: CommitId,
    ) -> Option<usize> {
        let before = self.chunks.len();
        let len = self.collected.len();
        if len > 0 && len.is_multiple_of(COLLECTED_MAX) {
            self.complete(oldest_visible);
        }
        let at = self.collected.binary_search_by_key(&ts, |c| c.ts).err()?;
        self.collected.insert(at, Collected { ts, value: value.clone(), commit });
        Some(self.chunks.len() - before)
    }

    /// Makes chunks of all that was collected, when it is enough for one and everybody sees
    /// all of it. The chunks that no file holds, then, and how many of them are new.
    pub(super) fn complete_if_full(&mut self, up_to: CommitId) -> Option<(Vec<Arc<Chunk>>, usize)> {
        let full = self.collected.len() >= COLLECTED_MAX;
        if !full || self.collected.iter().any(|c| c.commit > up_to) {
            return None;
        }
        let before = self.chunks.len();
        self.complete(up_to);
        let held = self.chunks.iter().map(|(_, c)| c).filter(|c| c.bytes.file().is_none());
        Some((held.cloned().collect(), self.chunks.len() - before))
    }

    /// Puts a chunk as a file holds it in the place of the one in memory.
    pub(super) fn replace(&mut self, held: &Arc<Chunk>, written: Arc<Chunk>) {
        if let Some((_, place)) = self.chunks.iter_mut().find(|(_, c)| Arc::ptr_eq(c, held)) {
            *place = written;
        }
    }

    /// Number of the oldest file that holds a chunk.
    pub(super) fn oldest_file(&self) -> Option<u32> {
        self.chunks.iter().filter_map(|(_, c)| c.bytes.file()).min()
    }

    /// Takes a chunk that a file holds, in the place of its samples, which came before: what
    /// else of those is not in a file yet is collected anew. Says how many chunks there are
    /// less, or more.
    pub(super) fn attach(&mut self, chunk: &Arc<Chunk>) -> Result<isize, StorageError> {
        let mut there = RawSamples::default();
        chunk.read_into(TimestampMs::MIN, TimestampMs::MAX, &mut there)?;
        let before = self.chunks.len() as isize;
        let (held, mapped): (Vec<_>, Vec<_>) = std::mem::take(&mut self.chunks)
            .into_iter()
            .partition(|(_, c)| c.bytes.file().is_none());
        self.chunks = mapped;
        self.chunks.push((0, Arc::clone(chunk)));
        let mut rest = RawSamples::default();
        for (_, chunk) in &held {
            let mut samples = RawSamples::default();
            chunk.read_into(TimestampMs::MIN, TimestampMs::MAX, &mut samples)?;
            rest = merge(&rest, &samples);
        }
        rest = merge(&rest, &raw(self.collected.iter()));
        let commit = self.collected.iter().map(|c| c.commit).max().unwrap_or_default();
        let taken = |ts: TimestampMs| {
            there.ts.binary_search(&ts).is_ok()
                || there.hist.binary_search_by_key(&ts, |(ts, _)| *ts).is_ok()
        };
        let floats = rest.ts.iter().zip(&rest.vs).map(|(ts, v)| (*ts, SampleValue::Float(*v)));
        let histograms =
            rest.hist.iter().map(|(ts, h)| (*ts, SampleValue::Histogram(Arc::clone(h))));
        self.collected = floats
            .chain(histograms)
            .filter(|(ts, _)| !taken(*ts))
            .map(|(ts, value)| Collected { ts, value, commit })
            .collect();
        self.collected.sort_by_key(|c| c.ts);
        Ok(self.chunks.len() as isize - before)
    }

    /// Makes chunks of what was collected up to a commit.
    fn complete(&mut self, up_to: CommitId) {
        let (done, rest): (Vec<_>, _) =
            std::mem::take(&mut self.collected).into_iter().partition(|c| c.commit <= up_to);
        self.collected = rest;
        let newest = done.iter().map(|c| c.commit).max().unwrap_or_default();
        let chunks = Recoder::default().encode(&raw(done.iter())).into_iter();
        self.chunks.extend(chunks.map(|chunk| (newest, Arc::new(chunk))));
    }

    /// Makes chunks of all that was collected up to a commit, and notes that they leave; also
    /// those that hold newer samples.
    pub(super) fn seal(&mut self, up_to: CommitId) {
        self.complete(up_to);
        self.sealed = self.chunks.len();
    }

    /// As `seal`, but what holds newer samples stays.
    pub(super) fn seal_only(&mut self, up_to: CommitId) {
        self.complete(up_to);
        self.sealed = self.chunks.partition_point(|(newest, _)| *newest <= up_to);
    }

    /// Lets go of the chunks that were noted to leave. Says how many.
    pub(super) fn drop_sealed(&mut self) -> usize {
        let sealed = std::mem::take(&mut self.sealed);
        self.chunks.drain(..sealed);
        self.chunks.shrink_to_fit();
        sealed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.collected.is_empty()
    }

    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Bytes allocated.
    pub(super) fn size_bytes(&self) -> usize {
        let chunks: usize =
            self.chunks.iter().map(|(_, c)| c.bytes.held_bytes() + size_of::<Chunk>()).sum();
        chunks + self.collected.capacity() * size_of::<Collected>()
    }

    /// Times of the oldest and newest sample; the first is greater while there is none.
    pub(super) fn bounds(&self) -> (TimestampMs, TimestampMs) {
        let collected = self.collected.first().zip(self.collected.last());
        let all = collected.map(|(first, last)| (first.ts, last.ts));
        let all = self.chunks.iter().map(|(_, c)| (c.min_ms, c.max_ms)).chain(all);
        all.fold((TimestampMs::MAX, TimestampMs::MIN), |(min, max), (from, to)| {
            (min.min(from), max.max(to))
        })
    }

    /// True when a reader may see some sample of a closed interval.
    pub(super) fn overlaps(
        &self,
        visible: CommitId,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> bool {
        self.chunks.iter().any(|(_, c)| c.min_ms <= to_ms && from_ms <= c.max_ms)
            || self
                .collected
                .iter()
                .any(|c| (from_ms..=to_ms).contains(&c.ts) && c.commit <= visible)
    }

    /// The samples of a closed interval that a reader may see, in time order. Of two of one
    /// time the one that came first counts. With `sealed` only of those that leave.
    pub(super) fn read(
        &self,
        visible: CommitId,
        (from_ms, to_ms): (TimestampMs, TimestampMs),
        sealed: bool,
    ) -> Result<RawSamples, StorageError> {
        let mut all = RawSamples::default();
        let chunks = if sealed { &self.chunks[..self.sealed] } else { &self.chunks[..] };
        for (_, chunk) in chunks {
            let mut samples = RawSamples::default();
            chunk.read_into(from_ms, to_ms, &mut samples)?;
            all = merge(&all, &samples);
        }
        let inside = |c: &&Collected| (from_ms..=to_ms).contains(&c.ts) && c.commit <= visible;
        if !sealed && self.collected.iter().any(|c| inside(&c)) {
            all = merge(&all, &raw(self.collected.iter().filter(inside)));
        }
        Ok(all)
    }
}

fn raw<'a>(samples: impl Iterator<Item = &'a Collected>) -> RawSamples {
    let mut raw = RawSamples::default();
    for Collected { ts, value, .. } in samples {
        match value {
            SampleValue::Float(value) => raw.push(*ts, *value),
            SampleValue::Histogram(value) => raw.hist.push((*ts, Arc::clone(value))),
        }
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tsdb::block::MappedFile;
    use crate::storage::tsdb::chunk::ChunkBytes;

    fn times(late: &Late, visible: CommitId, sealed: bool) -> Vec<TimestampMs> {
        late.read(visible, (0, 10_000), sealed).expect("sound chunks").ts
    }

    #[test]
    fn samples_in_any_order_are_read_in_order_and_by_commit() {
        let mut late = Late::default();
        let mut expected = Vec::new();
        for i in 0..200i64 {
            let ts = i * 7919 % 1009;
            expected.push(ts);
            // No reader began before the commit before the last.
            let commit = i as CommitId + 1;
            let added = late.insert(ts, &SampleValue::Float(ts as f64), commit, commit - 1);
            assert!(added.is_some());
            assert_eq!(times(&late, commit - 1, false).len(), i as usize, "not its own yet");
        }
        expected.sort_unstable();
        assert_eq!(times(&late, 200, false), expected);
        assert_eq!(late.bounds(), (expected[0], expected[199]));
        assert!(late.chunk_count() >= 6 && late.collected.len() <= COLLECTED_MAX);
        assert_eq!(late.insert(late.collected[0].ts, &SampleValue::Float(0.0), 201, 200), None);
    }

    #[test]
    fn what_a_reader_must_not_see_stays_out_of_chunks() {
        let mut late = Late::default();
        for i in 0..100i64 {
            late.insert(i, &SampleValue::Float(0.0), i as CommitId + 1, 10);
        }
        assert_eq!((times(&late, 10, false).len(), times(&late, 60, false).len()), (10, 60));
        assert_eq!(late.collected.len(), 90);
    }

    #[test]
    fn sealed_chunks_leave_and_what_came_since_stays() {
        let mut late = Late::default();
        for i in 0..50 {
            late.insert(i, &SampleValue::Float(0.0), 1, 1);
        }
        late.seal(1);
        for i in 100..200 {
            late.insert(i, &SampleValue::Float(0.0), 2, 2);
        }
        assert_eq!(times(&late, 2, true), (0..50).collect::<Vec<_>>());
        assert!(late.drop_sealed() > 0 && late.overlaps(2, 150, 150) && !late.overlaps(2, 0, 99));
        assert_eq!(times(&late, 2, false), (100..200).collect::<Vec<_>>());
        late.seal(2);
        late.drop_sealed();
        assert!(late.is_empty());
    }

    #[test]
    fn a_chunk_of_a_file_takes_the_place_of_its_samples_and_of_no_others() {
        let mut late = Late::default();
        for i in 0..40 {
            late.insert(i * 2, &SampleValue::Float(i as f64), 1, if i < 35 { 0 } else { 1 });
        }
        let all = times(&late, 1, false);
        assert_eq!(all.len(), 40);
        let part = late.read(1, (0, 49), false).expect("sound chunks");
        let [chunk] = &Recoder::default().encode(&part)[..] else { panic!("one chunk") };
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &*chunk.bytes).expect("a written file");
        let map = Arc::new(MappedFile::open(file.path()).expect("a map"));
        let bytes = ChunkBytes::mapped(&map, 7, 0, chunk.bytes.len());
        late.attach(&Arc::new(Chunk { bytes, ..chunk.clone() })).expect("a sound chunk");
        assert_eq!(times(&late, 1, false), all);
        assert_eq!(
            (late.collected.len(), late.chunk_count(), late.oldest_file()),
            (15, 1, Some(7))
        );
        assert!(late.complete_if_full(1).is_none(), "not enough for a chunk");
        for ts in 100..117 {
            late.insert(ts, &SampleValue::Float(0.0), 2, 1);
        }
        assert!(late.complete_if_full(1).is_none(), "somebody does not see all of it");
        let (held, new) = late.complete_if_full(2).expect("a chunk");
        assert_eq!((held.len(), new, late.collected.len()), (1, 1, 0));
        assert_eq!(times(&late, 2, false).len(), 57);
    }
}
