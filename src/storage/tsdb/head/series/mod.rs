//! One series in memory: finished chunks, the chunk being written, and what readers may
//! see of it.

mod files;
mod late;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::storage::tsdb::chunk::histogram::{Follows, HistogramAppender};
use crate::storage::tsdb::chunk::xor::{XorAppender, XorIter};
use crate::storage::tsdb::chunk::{
    Chunk, Encoding, HISTOGRAM_CHUNK_BYTES, HISTOGRAMS_PER_CHUNK_MIN, SAMPLES_PER_CHUNK,
    XOR_CHUNK_BYTES_MAX, chunk_end, range_end, read_chunk, read_samples,
};
use crate::storage::tsdb::intervals::Intervals;
use crate::storage::tsdb::wal::record::same_histogram;
use crate::storage::{AppendError, StorageError};
use crate::vector::RawSamples;

use super::isolation::CommitId;
use super::late::Late;

/// A sample's value on its way in.
#[derive(Clone, Debug)]
pub(crate) enum SampleValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl SampleValue {
    /// The label value of sample counters.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Float(_) => "float",
            Self::Histogram(_) => "histogram",
        }
    }

    /// Equality of bits: a NaN equals itself.
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(a), Self::Histogram(b)) => Arc::ptr_eq(a, b) || same_histogram(a, b),
            _ => false,
        }
    }
}

/// What became of a committed sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Appended,
    /// Appended, and a new chunk was begun for it.
    AppendedToNewChunk,
    /// The same, and the chunk before is finished.
    AppendedAfterChunk,
    /// The series has a sample of that time already.
    Duplicate,
    OutOfOrder,
    /// The series left the head meanwhile: look it up again.
    Gone,
}

/// A series. Everything but the samples is fixed at creation.
#[derive(Debug)]
pub(crate) struct MemSeries {
    pub(crate) id: u64,
    pub(crate) hash: u64,
    pub(crate) labels: Labels,
    /// Time of the oldest sample, `i64::MAX` while there is none. Copies of what `state`
    /// says, so that a selector need not take every lock.
    min_ms: AtomicI64,
    max_ms: AtomicI64,
    /// The same of samples that came out of order.
    late_min_ms: AtomicI64,
    late_max_ms: AtomicI64,
    /// Last commit that appended here.
    last_commit: AtomicU64,
    /// The log holds the series' record.
    logged: AtomicBool,
    /// Place in label order, 0 while not known: see `Ranking`.
    rank: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In time order, all before `open`.
    chunks: Vec<Arc<Chunk>>,
    open: Option<OpenChunk>,
    /// A sample at or after this time begins a new chunk.
    cut_at_ms: TimestampMs,
    last: Option<(TimestampMs, SampleValue)>,
    /// Commits some reader must not see yet, with the time of their first sample here.
    recent: SmallVec<[(CommitId, TimestampMs); 1]>,
    /// `None` while nothing is deleted.
    tombstones: Option<Arc<Intervals>>,
    /// `None` while nothing came out of order.
    late: Option<Box<Late>>,
    gone: bool,
}

#[derive(Debug)]
struct OpenChunk {
    min_ms: TimestampMs,
    max_ms: TimestampMs,
    data: OpenData,
}

#[derive(Debug)]
enum OpenData {
    Xor(Box<XorAppender>),
    Histograms(Box<HistogramAppender>),
}

impl OpenChunk {
    fn begin(ts: TimestampMs, value: &SampleValue, follows: Follows, integer: bool) -> Self {
        let data = match value {
            SampleValue::Float(value) => {
                let mut chunk = Box::<XorAppender>::default();
                chunk.push(ts, *value);
                OpenData::Xor(chunk)
            }
            SampleValue::Histogram(h) => {
                OpenData::Histograms(Box::new(HistogramAppender::begin(ts, h, follows, integer)))
            }
        };
        Self { min_ms: ts, max_ms: ts, data }
    }

    /// The part of a full chunk that is written, once it is time to look.
    fn part_full(&self) -> Option<f64> {
        match &self.data {
            OpenData::Xor(x) => (x.count() == SAMPLES_PER_CHUNK / 4).then_some(0.25),
            OpenData::Histograms(h) => {
                let full = h.bytes().len() as f64 / HISTOGRAM_CHUNK_BYTES as f64;
                (full >= 0.25).then_some(full)
            }
        }
    }

    /// True when a sample at `ts` begins a new chunk, of which it is due at `cut_at_ms`.
    fn is_full(&self, ts: TimestampMs, cut_at_ms: TimestampMs, range_ms: i64) -> bool {
        match &self.data {
            OpenData::Xor(x) => {
                ts >= cut_at_ms
                    || x.count() >= 2 * SAMPLES_PER_CHUNK
                    || x.bytes().len() > XOR_CHUNK_BYTES_MAX
            }
            OpenData::Histograms(h) => {
                let large = h.bytes().len() >= 2 * HISTOGRAM_CHUNK_BYTES;
                let enough =
                    h.count() >= HISTOGRAMS_PER_CHUNK_MIN || ts >= range_end(self.min_ms, range_ms);
                (ts >= cut_at_ms || large) && enough || h.count() == u16::MAX
            }
        }
    }

    fn copy(&self) -> Chunk {
        let (encoding, bytes) = match &self.data {
            OpenData::Xor(x) => (Encoding::Xor, x.bytes()),
            OpenData::Histograms(h) => (h.encoding(), h.bytes()),
        };
        let bytes = Box::<[u8]>::from(bytes).into();
        Chunk { min_ms: self.min_ms, max_ms: self.max_ms, encoding, bytes }
    }

    fn finish(self) -> Chunk {
        let (encoding, bytes) = match self.data {
            OpenData::Xor(x) => (Encoding::Xor, x.finish()),
            OpenData::Histograms(h) => (h.encoding(), h.finish()),
        };
        Chunk { min_ms: self.min_ms, max_ms: self.max_ms, encoding, bytes: bytes.into() }
    }
}

impl State {
    /// Whether a sample may follow what the series holds. An exact repetition may: that is
    /// normal under federation and retries, and changes nothing.
    fn check(&self, ts: TimestampMs, value: &SampleValue) -> Result<(), AppendError> {
        match &self.last {
            Some((last, _)) if ts < *last => Err(AppendError::OutOfOrder),
            Some((last, held)) if ts == *last && !held.same_as(value) => {
                Err(AppendError::DuplicateForTimestamp)
            }
            _ => Ok(()),
        }
    }

    /// Appends, in a new chunk where Prometheus begins one.
    fn push(&mut self, ts: TimestampMs, value: &SampleValue, range_ms: i64) -> Outcome {
        self.last = Some((ts, value.clone()));
        let (mut follows, mut integer) = (Follows::Unknown, true);
        if let Some(open) = &mut self.open {
            let undecided = self.cut_at_ms == range_end(open.min_ms, range_ms);
            if undecided && let Some(full) = open.part_full() {
                self.cut_at_ms = chunk_end(open.min_ms, open.max_ms, self.cut_at_ms, full);
            }
            let is_full = open.is_full(ts, self.cut_at_ms, range_ms);
            let appended = match (&mut open.data, value) {
                (OpenData::Xor(x), SampleValue::Float(value)) if !is_full => {
                    x.push(ts, *value);
                    true
                }
                (OpenData::Histograms(h), SampleValue::Histogram(value)) => {
                    let pushed =
                        if is_full { Err(h.followed_by(value)) } else { h.push(ts, value) };
                    follows = pushed.err().unwrap_or(follows);
                    // One kind of count after the other would make a chunk each.
                    integer = h.encoding() == Encoding::Histogram;
                    pushed.is_ok()
                }
                _ => false,
            };
            if appended {
                open.max_ms = ts;
                return Outcome::Appended;
            }
        }
        let begun = OpenChunk::begin(ts, value, follows, integer);
        self.cut_at_ms = range_end(ts, range_ms);
        match self.open.replace(begun) {
            None => Outcome::AppendedToNewChunk,
            Some(full) => {
                self.chunks.push(Arc::new(full.finish()));
                Outcome::AppendedAfterChunk
            }
        }
    }

    /// First time a reader must not see.
    fn hidden_from(&self, visible: CommitId) -> TimestampMs {
        self.recent.iter().find(|(id, _)| *id > visible).map_or(TimestampMs::MAX, |(_, ts)| *ts)
    }

    fn min_ms(&self) -> TimestampMs {
        let first = self.chunks.first().map(|c| c.min_ms);
        first.or(self.open.as_ref().map(|o| o.min_ms)).unwrap_or(TimestampMs::MAX)
    }
}

impl MemSeries {
    pub(crate) fn new(id: u64, hash: u64, labels: Labels) -> Self {
        Self {
            id,
            hash,
            labels,
            min_ms: AtomicI64::new(TimestampMs::MAX),
            max_ms: AtomicI64::new(TimestampMs::MIN),
            late_min_ms: AtomicI64::new(TimestampMs::MAX),
            late_max_ms: AtomicI64::new(TimestampMs::MIN),
            last_commit: AtomicU64::new(0),
            logged: AtomicBool::new(false),
            rank: AtomicU32::new(0),
            state: Mutex::default(),
        }
    }

    pub(crate) fn rank(&self) -> u32 {
        self.rank.load(Ordering::Relaxed)
    }

    pub(crate) fn set_rank(&self, rank: u32) {
        self.rank.store(rank, Ordering::Relaxed);
    }

    pub(crate) fn is_logged(&self) -> bool {
        self.logged.load(Ordering::Relaxed)
    }

    pub(crate) fn set_logged(&self) {
        self.logged.store(true, Ordering::Relaxed);
    }

    /// Whether a sample may be appended, as far as is committed.
    pub(crate) fn check(&self, ts: TimestampMs, value: &SampleValue) -> Result<(), AppendError> {
        self.state.lock().check(ts, value)
    }

    /// Time of the newest sample that was appended in order, `i64::MIN` when there is none.
    pub(crate) fn newest_ms(&self) -> TimestampMs {
        self.state.lock().last.as_ref().map_or(TimestampMs::MIN, |(ts, _)| *ts)
    }

    /// True when the newest sample is a histogram.
    pub(crate) fn ends_in_histogram(&self) -> bool {
        matches!(self.state.lock().last, Some((_, SampleValue::Histogram(_))))
    }

    /// Appends under a commit that no reader sees yet. `oldest_visible`: see `Isolation`.
    pub(crate) fn append(
        &self,
        ts: TimestampMs,
        value: &SampleValue,
        commit: CommitId,
        oldest_visible: CommitId,
        chunk_range_ms: i64,
    ) -> Outcome {
        let mut state = self.state.lock();
        if state.gone {
            return Outcome::Gone;
        }
        match &state.last {
            Some((last, _)) if ts < *last => return Outcome::OutOfOrder,
            Some((last, _)) if ts == *last => return Outcome::Duplicate,
            _ => {}
        }
        let outcome = state.push(ts, value, chunk_range_ms);
        if state.recent.last().is_none_or(|(id, _)| *id != commit) {
            state.recent.retain(|(id, _)| *id > oldest_visible);
            if commit > oldest_visible {
                state.recent.push((commit, ts));
            }
        }
        // A reader that sees the new time must also see the new commit: commit first.
        self.last_commit.store(commit, Ordering::Release);
        self.max_ms.store(ts, Ordering::Release);
        if ts < self.min_ms.load(Ordering::Acquire) {
            self.min_ms.fetch_min(ts, Ordering::AcqRel);
        }
        outcome
    }

    /// True when some sample the reader may see can lie in the closed interval. Decided by
    /// the ends of the series, without decoding: gaps inside are not looked for.
    pub(crate) fn overlaps(
        &self,
        visible: CommitId,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> bool {
        let (min, max) = self.bounds();
        if min > max || min > to_ms || max < from_ms {
            return false;
        }
        if self.last_commit.load(Ordering::Acquire) <= visible {
            return true;
        }
        let hidden_from = self.state.lock().hidden_from(visible);
        min < hidden_from && (hidden_from == TimestampMs::MAX || from_ms < hidden_from)
    }

    /// Appends the samples of the closed interval that the reader may see to `out`, but for
    /// those that came out of order.
    pub(crate) fn read_into(
        &self,
        visible: CommitId,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        let hidden_from = state.hidden_from(visible);
        let to_ms =
            if hidden_from == TimestampMs::MAX { to_ms } else { to_ms.min(hidden_from - 1) };
        let tombstones = state.tombstones.clone();
        let start = state.chunks.partition_point(|c| c.max_ms < from_ms);
        let end = state.chunks.partition_point(|c| c.min_ms <= to_ms);
        let chunks: SmallVec<[Arc<Chunk>; 8]> =
            state.chunks.get(start..end).unwrap_or_default().iter().cloned().collect();
        // The open chunk is small: copying it lets the decoding happen outside the lock.
        let open = state.open.as_mut().filter(|o| o.min_ms <= to_ms && o.max_ms >= from_ms);
        let mut bytes: SmallVec<[u8; 512]> = SmallVec::new();
        let (mut mark, mut count, mut encoding) = (None, 0, Encoding::Xor);
        match open.map(|o| &mut o.data) {
            Some(OpenData::Xor(x)) => {
                let (from, place) = x.bytes_from(from_ms);
                bytes.extend_from_slice(from);
                (mark, count) = (place, x.count());
            }
            Some(OpenData::Histograms(h)) => {
                bytes.extend_from_slice(h.bytes());
                encoding = h.encoding();
            }
            None => {}
        }
        drop(state);

        for chunk in &chunks {
            chunk.read_into(from_ms, to_ms, out)?;
        }
        if let Some(mark) = mark {
            let iter = XorIter::resume(&bytes, mark, count);
            read_samples(iter, bytes.len(), from_ms, to_ms, out)?;
        } else if !bytes.is_empty() {
            read_chunk(encoding, &bytes, from_ms, to_ms, out)?;
        }
        if let Some(intervals) = tombstones {
            intervals.remove_from(out);
        }
        Ok(())
    }

    /// As `read_into`, where the newest sample is enough. That is at hand, unless the reader
    /// must not see it or it lies after the interval.
    pub(crate) fn read_newest_into(
        &self,
        visible: CommitId,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        let state = self.state.lock();
        if let Some((ts, value)) = &state.last
            && *ts <= to_ms
            && *ts < state.hidden_from(visible)
            && state.tombstones.is_none()
        {
            match (value, state.open.as_ref().map(|open| &open.data)) {
                _ if *ts < from_ms => {}
                (SampleValue::Float(v), _) => out.push(*ts, *v),
                (_, Some(OpenData::Histograms(h))) => out.hist.push((*ts, h.newest())),
                (SampleValue::Histogram(h), _) => out.hist.push((*ts, Arc::clone(h))),
            }
            return Ok(());
        }
        drop(state);
        self.read_into(visible, from_ms, to_ms, out)
    }

    /// Hides an interval that was deleted.
    pub(crate) fn delete(&self, min_ms: TimestampMs, max_ms: TimestampMs) {
        let mut state = self.state.lock();
        Arc::make_mut(state.tombstones.get_or_insert_default()).add(min_ms, max_ms);
    }

    /// Drops chunks that end before `from_ms`. Returns how many, and whether the series is
    /// now empty; an empty one is closed for appending and must leave the head.
    pub(crate) fn truncate(&self, from_ms: TimestampMs) -> (usize, bool) {
        let mut state = self.state.lock();
        let mut dropped = state.chunks.partition_point(|c| c.max_ms < from_ms);
        state.chunks.drain(..dropped);
        if state.chunks.is_empty() && state.open.as_ref().is_some_and(|o| o.max_ms < from_ms) {
            state.open = None;
            dropped += 1;
        }
        if state.late.is_none()
            && let Some(intervals) = &mut state.tombstones
        {
            Arc::make_mut(intervals).forget_before(from_ms);
        }
        state.tombstones.take_if(|intervals| intervals.is_empty());
        state.chunks.shrink_to_fit();
        state.gone = state.chunks.is_empty() && state.open.is_none() && state.late.is_none();
        self.min_ms.store(state.min_ms(), Ordering::Release);
        (dropped, state.gone)
    }

    /// The chunks that begin before `to_ms`, and what is deleted of them. What is being
    /// written is copied.
    pub(crate) fn chunks_before(
        &self,
        to_ms: TimestampMs,
    ) -> (SmallVec<[Arc<Chunk>; 8]>, Option<Arc<Intervals>>) {
        let state = self.state.lock();
        let end = state.chunks.partition_point(|c| c.min_ms < to_ms);
        let mut chunks: SmallVec<_> = state.chunks[..end].iter().cloned().collect();
        if let Some(open) = state.open.as_ref().filter(|open| open.min_ms < to_ms) {
            chunks.push(Arc::new(open.copy()));
        }
        (chunks, state.tombstones.clone())
    }

    /// Lets nothing be appended any more: an empty series leaves the head.
    pub(crate) fn close(&self) {
        self.state.lock().gone = true;
    }

    /// True once the series left the head.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.lock().gone
    }

    /// Times of the oldest and newest sample.
    pub(crate) fn bounds(&self) -> (TimestampMs, TimestampMs) {
        (self.min_ms.load(Ordering::Acquire), self.max_ms.load(Ordering::Acquire))
    }

    /// Chunks and the bytes the series takes with its labels.
    pub(crate) fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        let mut bytes = size_of::<Self>() + self.labels.encoded_size() + 16;
        bytes += state.chunks.capacity() * size_of::<Arc<Chunk>>();
        bytes += state
            .chunks
            .iter()
            .map(|c| c.bytes.held_bytes() + size_of::<Chunk>() + 16)
            .sum::<usize>();
        bytes += match state.open.as_ref().map(|o| &o.data) {
            Some(OpenData::Xor(x)) => x.capacity() + size_of::<XorAppender>(),
            Some(OpenData::Histograms(h)) => h.capacity() + size_of::<HistogramAppender>(),
            None => 0,
        };
        bytes += state.late.as_ref().map_or(0, |late| late.size_bytes());
        let late = state.late.as_ref().map_or(0, |late| late.chunk_count());
        (state.chunks.len() + usize::from(state.open.is_some()) + late, bytes)
    }
}

#[cfg(test)]
mod tests;
