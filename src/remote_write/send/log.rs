//! The queue on disk: a log of what is to be sent, in segments (`segment.rs`).
//!
//! Each start of the process begins a segment, and each segment tells by itself which series
//! its samples are of, so old ones go without the younger ones being read. What was written
//! survives the death of the process at once, and a power cut after the next `sync`. A frame
//! that was cut off ends its segment.
//!
//! What is appended is hidden from readers until it is revealed: a batch is written before
//! the store commits it, so that nothing that was acknowledged can be missing here, and is
//! read only when the store has it.
//!
//! Every entry is settled once: done, or lost. An entry whose segment is dropped to make
//! room is lost unless it is under way, though it be in memory: so memory holds nothing that
//! the disk does not, and a death of the process at any moment changes no count. What was
//! under way of such a segment is found to be lost at the next start (`Ledger`).

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;

use super::batch::Item;
use super::marks::{Ledger, Marks};
use super::segment::{self, Segment, segment_path};

/// Of the size the whole log may have, what one segment takes: what is lost at once when it
/// is full.
const SEGMENTS_MIN: u64 = 8;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// Why the queue on disk cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} {}: {cause}", path.display())]
pub struct LogError {
    pub(super) what: &'static str,
    pub(super) path: PathBuf,
    pub(super) cause: String,
}

pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |e| LogError { what, path, cause: e.to_string() }
}

/// A place in the log: an entry of a frame. What comes before it is what compares less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub segment: u32,
    /// Where the frame begins.
    pub offset: u64,
    pub entry: u32,
}

pub(super) struct State {
    /// In order; the last is written to.
    pub segments: VecDeque<Segment>,
    file: File,
    /// Bytes and samples at the end of the file that are not revealed.
    hidden: (u64, u64),
    /// The last write failed in the middle, or was taken back: nothing may follow it.
    broken: bool,
    unsynced: bool,
    /// Entries under way whose segment is gone.
    orphans: u64,
    /// Entries the log was ever given.
    given: u64,
    ledger: Ledger,
}

impl State {
    /// A segment, if it is there.
    pub fn segment(&self, index: u32) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&index, |s| s.index).ok()?;
        self.segments.get(at)
    }

    fn segment_mut(&mut self, index: u32) -> Option<&mut Segment> {
        let at = self.segments.binary_search_by_key(&index, |s| s.index).ok()?;
        self.segments.get_mut(at)
    }

    /// Entries that are neither done nor lost.
    fn pending(&self) -> u64 {
        self.orphans + self.segments.iter().map(|s| s.samples - s.settled).sum::<u64>()
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }
}

/// Entries under way: how many of which segments.
pub(super) type Taken = Vec<(u32, u64)>;

/// The log of one target.
pub(super) struct Log {
    pub(super) dir: PathBuf,
    bytes_max: AtomicU64,
    pub(super) state: Mutex<State>,
    /// Lost when an earlier process ended, and not told by it for certain.
    pub found_lost: u64,
    /// Woken when something was appended.
    pub arrived: Notify,
}

/// What making room cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub segments: usize,
    pub samples: u64,
}

impl Log {
    /// Opens or makes the log in a directory and begins a segment.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, LogError> {
        fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
        let marks = Marks::load(dir).unwrap_or_default();
        let (mut segments, mut given) = (VecDeque::new(), 0);
        let found = segment::list(dir)?;
        let mut next = found.last().map_or(0, |index| index + 1);
        for (i, index) in found.iter().enumerate() {
            let path = segment_path(dir, *index);
            let (mut segment, before) = segment::scan(&path, *index, i + 1 == found.len())?;
            given = before.unwrap_or(given) + segment.samples;
            if segment.samples == 0 || *index < marks.low().segment {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            } else {
                segment.settled = segment::done_of(&path, &segment, &marks);
                segments.push_back(segment);
            }
        }
        // Positions name segments, so a number is never used twice while one may remember it.
        next = next.max(marks.segments_end());
        let waiting: u64 = segments.iter().map(Segment::waiting).sum();
        let given = given.max(waiting);
        let before = marks.ledger.unwrap_or_default();
        let lost = marks.ledger.map_or(0, |ledger| {
            let lost = (given + ledger.lost_elsewhere).saturating_sub(ledger.done + waiting);
            lost.max(ledger.lost)
        });
        let ledger = Ledger { done: given - waiting, lost_elsewhere: lost, lost };
        let (file, segment) = segment::begin(dir, next, given)?;
        segments.push_back(segment);
        let state = State {
            segments,
            file,
            hidden: (0, 0),
            broken: false,
            unsynced: true,
            orphans: 0,
            given,
            ledger,
        };
        Ok(Self {
            dir: dir.to_owned(),
            bytes_max: AtomicU64::new(bytes_max),
            state: Mutex::new(state),
            found_lost: lost - before.lost,
            arrived: Notify::new(),
        })
    }

    /// Changes the most bytes it may take.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Entries that are neither done nor lost.
    pub fn pending(&self) -> i64 {
        i64::try_from(self.state.lock().pending()).unwrap_or(i64::MAX)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes()
    }

    /// What became of the entries, to be written with the marks.
    pub fn ledger(&self) -> Ledger {
        self.state.lock().ledger
    }

    /// Takes entries that are about to be sent; leaves out those that were lost meanwhile.
    pub fn take_up(&self, items: &mut Vec<Item>) -> Taken {
        let mut state = self.state.lock();
        let first = state.segments.front().map_or(u32::MAX, |s| s.index);
        items.retain(|item| item.at.segment >= first);
        let runs = items.chunk_by(|a, b| a.at.segment == b.at.segment);
        let taken: Taken = runs.map(|run| (run[0].at.segment, run.len() as u64)).collect();
        for (index, count) in &taken {
            if let Some(segment) = state.segment_mut(*index) {
                segment.under_way += count;
            }
        }
        taken
    }

    /// Notes that entries were sent, or refused.
    pub fn finish(&self, taken: &Taken) {
        let mut state = self.state.lock();
        for (index, count) in taken {
            state.ledger.done += count;
            match state.segment_mut(*index) {
                Some(segment) => {
                    segment.under_way -= count;
                    segment.settled += count;
                }
                None => state.orphans -= count,
            }
        }
    }

    /// Notes that entries will not be sent by whoever took them. Those whose segment is gone
    /// are lost: how many.
    pub fn put_back(&self, taken: &Taken) -> u64 {
        let mut state = self.state.lock();
        let mut lost = 0;
        for (index, count) in taken {
            match state.segment_mut(*index) {
                Some(segment) => segment.under_way -= count,
                None => {
                    state.orphans -= count;
                    lost += count;
                }
            }
        }
        state.ledger.lost += lost;
        lost
    }

    /// Gives up entries of a segment that cannot be read, those before `upto`, unless that
    /// was done before: how many are lost.
    pub fn give_up(&self, index: u32, upto: u64, count: impl Fn(&Segment) -> u64) -> u64 {
        let mut state = self.state.lock();
        let Some(segment) = state.segment_mut(index).filter(|s| s.given_up_to < upto) else {
            return 0;
        };
        segment.given_up_to = upto;
        let lost = count(segment).min(segment.waiting());
        segment.settled += lost;
        state.ledger.lost += lost;
        lost
    }

    /// Notes that entries are lost that could not be appended.
    pub fn lost_elsewhere(&self, entries: u64) {
        let ledger = &mut self.state.lock().ledger;
        ledger.lost_elsewhere += entries;
        ledger.lost += entries;
    }

    /// Whether the next batch belongs in a new segment.
    pub fn wants_new_segment(&self) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let segment_bytes = (bytes_max / SEGMENTS_MIN).clamp(1, SEGMENT_BYTES_MAX);
        let state = self.state.lock();
        let full = state.segments.back().is_none_or(|s| s.bytes >= segment_bytes);
        full || state.broken
    }

    /// Begins a segment: series are told anew in it. Nothing may be hidden.
    pub fn begin_segment(&self) -> Result<(), LogError> {
        let mut state = self.state.lock();
        let index = state.segments.back().map_or(0, |s| s.index + 1);
        let (file, segment) = segment::begin(&self.dir, index, state.given)?;
        // An error here would only mean that a power cut may take more than it should.
        _ = std::mem::replace(&mut state.file, file).sync_data();
        state.segments.push_back(segment);
        state.broken = false;
        Ok(())
    }

    /// Appends a frame that nobody reads yet. After an error, a segment must be begun before
    /// anything else is appended; what was appended before it stays and can be revealed.
    pub fn append(&self, payload: &[u8], samples: u32) -> Result<(), LogError> {
        let frame = segment::frame(payload, samples).map_err(|cause| LogError {
            what: "compress a record of",
            path: self.dir.clone(),
            cause,
        })?;
        let mut state = self.state.lock();
        let state = &mut *state;
        let segment = state.segments.back().expect("BUG: one segment is written to");
        if let Err(e) = state.file.write_all(&frame) {
            state.broken = true;
            // What was written of it must not stand before what a later process appends.
            _ = state.file.set_len(segment.bytes + state.hidden.0);
            return Err(failed("append to", &segment_path(&self.dir, segment.index))(e));
        }
        state.hidden.0 += frame.len() as u64;
        state.hidden.1 += u64::from(samples);
        state.unsynced = true;
        Ok(())
    }

    /// Shows readers what was appended, and drops the oldest segments when the log has
    /// become too large.
    pub fn reveal(&self) -> Dropped {
        let mut state = self.state.lock();
        let state = &mut *state;
        let (bytes, samples) = std::mem::take(&mut state.hidden);
        let segment = state.segments.back_mut().expect("BUG: one segment is written to");
        segment.bytes += bytes;
        segment.samples += samples;
        state.given += samples;
        let dropped = self.make_room(state);
        self.arrived.notify_one();
        dropped
    }

    /// Takes back what was appended and not revealed. A segment must be begun before anything
    /// else is appended.
    pub fn take_back(&self) -> Result<(), LogError> {
        let mut state = self.state.lock();
        state.hidden = (0, 0);
        state.broken = true;
        let segment = state.segments.back().expect("BUG: one segment is written to");
        let path = || segment_path(&self.dir, segment.index);
        state.file.set_len(segment.bytes).map_err(|e| failed("truncate", &path())(e))
    }

    fn make_room(&self, state: &mut State) -> Dropped {
        let mut dropped = Dropped::default();
        let mut bytes = state.bytes();
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        while bytes > bytes_max && state.segments.len() > 1 {
            let Some(oldest) = state.segments.pop_front() else { break };
            bytes -= oldest.bytes;
            dropped.segments += 1;
            dropped.samples += oldest.waiting();
            state.orphans += oldest.under_way;
            segment::remove(&self.dir, oldest.index);
        }
        state.ledger.lost += dropped.samples;
        dropped
    }

    /// Removes the segments that end before a place.
    pub fn trim(&self, done: Position) {
        let mut state = self.state.lock();
        while state.segments.len() > 1
            && state.segments.front().is_some_and(|s| s.index < done.segment)
        {
            if let Some(oldest) = state.segments.pop_front() {
                segment::remove(&self.dir, oldest.index);
            }
        }
    }

    /// Makes what was appended survive a power cut. Waits for the disk.
    pub fn sync(&self) -> Result<(), LogError> {
        let file = {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.unsynced) {
                return Ok(());
            }
            state.file.try_clone().map_err(failed("sync", &self.dir))?
        };
        file.sync_data().map_err(failed("sync", &self.dir))
    }
}
