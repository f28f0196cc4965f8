//! How far a target has acknowledged its queue, by shard, and that on disk.
//!
//! Series are dealt out to shards by their hash, and each shard goes through the log on its
//! own. A mark says how far one shard is. When the number of shards changes, or the process
//! starts again, an epoch ends: the log is read again from the lowest mark on, and whatever
//! any epoch has marked as done is left out. So nothing is sent twice that was acknowledged,
//! and nothing is left out that was not.
//!
//! What was under way when the process died may have arrived or not. The marks say which
//! entries these were, so that the very same request is made again: a receiver that had it
//! finds nothing new in it, and one that says so by refusing it refuses nothing else.
//!
//! ```text
//! acknowledged.0, acknowledged.1    written in turn; the higher count that is whole counts
//! count u64 LE, epochs u32 LE (its highest bit: a ledger follows), { shards u32 LE, { done,
//! under way }* }*, ledger?, CRC32C of all that u32 LE; a mark is segment u32 LE, offset u64
//! LE, entry u32 LE; the ledger is done u64 LE, lost elsewhere u64 LE, lost u64 LE
//! ```

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::log::{LogError, Position, failed};

/// Past epochs that are remembered at most; the number of shards is not changed beyond.
pub(super) const EPOCHS_MAX: usize = 8;

/// A number of shards and how far each got.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Epoch {
    done: Vec<Position>,
    /// Where the request under way ends; not above `done` when there is none.
    under_way: Vec<Position>,
}

impl Epoch {
    fn has(&self, hash: u64, at: Position) -> bool {
        at < self.done[shard_of(hash, self.done.len())]
    }
}

/// The shard of a series.
pub(super) fn shard_of(hash: u64, shards: usize) -> usize {
    (hash % shards as u64) as usize
}

/// What became of the entries of a queue, as far as its segments do not say. What was given
/// to it and is neither done nor there is lost, whatever killed the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Entries that the receiver took or refused, or that became too old.
    pub done: u64,
    /// Entries lost without ever having been in a segment, or before these were counted.
    pub lost_elsewhere: u64,
    /// All that are lost.
    pub lost: u64,
}

/// All marks of a target. The last epoch is the present one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    epochs: Vec<Epoch>,
    /// `None` in what was written before there was one.
    pub ledger: Option<Ledger>,
}

/// In the number of epochs: that there is a ledger.
const HAS_LEDGER: u32 = 1 << 31;

impl Marks {
    /// Where everything before is done.
    pub fn low(&self) -> Position {
        let present = self.epochs.last();
        present.and_then(|e| e.done.iter().min().copied()).unwrap_or_default()
    }

    /// Nothing at this place or behind it is done.
    pub fn high(&self) -> Position {
        self.epochs.iter().flat_map(|e| e.done.iter().copied()).max().unwrap_or_default()
    }

    /// The first segment that no mark speaks of.
    pub fn segments_end(&self) -> u32 {
        let marks = self.epochs.iter().flat_map(|e| e.done.iter().chain(&e.under_way));
        marks.map(|mark| mark.segment + 1).max().unwrap_or(0)
    }

    /// Whether an entry was acknowledged.
    pub fn has(&self, hash: u64, at: Position) -> bool {
        self.epochs.iter().any(|epoch| epoch.has(hash, at))
    }

    /// Begins an epoch.
    pub fn begin(&mut self, shards: usize) {
        let low = self.low();
        self.epochs.push(Epoch { done: vec![low; shards], under_way: vec![low; shards] });
        self.forget();
    }

    /// Where the requests end that were under way in the last epoch: nothing for a number of
    /// shards that it did not have.
    pub fn interrupted(&self, shards: usize) -> Vec<Option<Position>> {
        let last = self.epochs.last().filter(|epoch| epoch.done.len() == shards);
        let Some(epoch) = last else { return vec![None; shards] };
        let ends = epoch.done.iter().zip(&epoch.under_way);
        ends.map(|(done, end)| (end > done).then_some(*end)).collect()
    }

    /// The number of shards of the last epoch; 0 before the first.
    pub fn shards(&self) -> usize {
        self.epochs.last().map_or(0, |epoch| epoch.done.len())
    }

    /// Notes where a request ends that is about to be made.
    pub fn note_under_way(&mut self, shard: usize, end: Position) {
        if let Some(epoch) = self.epochs.last_mut() {
            epoch.under_way[shard] = end;
        }
    }

    /// Notes how far the shards of the present epoch are.
    pub fn note(&mut self, done: &[Position]) {
        if let Some(epoch) = self.epochs.last_mut() {
            for (mark, at) in epoch.done.iter_mut().zip(done) {
                *mark = (*mark).max(*at);
            }
        }
        self.forget();
    }

    /// Whether another epoch may begin.
    pub fn has_room(&self) -> bool {
        self.epochs.len() <= EPOCHS_MAX
    }

    /// Drops epochs that say no more than the lowest mark.
    fn forget(&mut self) {
        let (low, last) = (self.low(), self.epochs.len().saturating_sub(1));
        let mut i = 0;
        self.epochs.retain(|epoch| {
            i += 1;
            i - 1 == last || epoch.done.iter().any(|mark| *mark > low)
        });
    }

    fn encode(&self, count: u64) -> Vec<u8> {
        let mut bytes = count.to_le_bytes().to_vec();
        let flag = if self.ledger.is_some() { HAS_LEDGER } else { 0 };
        bytes.extend_from_slice(&(self.epochs.len() as u32 | flag).to_le_bytes());
        for epoch in &self.epochs {
            bytes.extend_from_slice(&(epoch.done.len() as u32).to_le_bytes());
            for mark in epoch.done.iter().zip(&epoch.under_way).flat_map(|(a, b)| [a, b]) {
                bytes.extend_from_slice(&mark.segment.to_le_bytes());
                bytes.extend_from_slice(&mark.offset.to_le_bytes());
                bytes.extend_from_slice(&mark.entry.to_le_bytes());
            }
        }
        if let Some(ledger) = &self.ledger {
            for number in [ledger.done, ledger.lost_elsewhere, ledger.lost] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads what `encode` wrote; bytes after it are left over from a longer one.
    fn decode(mut bytes: &[u8]) -> Option<(u64, Self)> {
        let whole = bytes;
        let rest = &mut bytes;
        let count = u64::from_le_bytes(take(rest)?);
        let epochs = u32::from_le_bytes(take(rest)?);
        let mut marks = Self::default();
        for _ in 0..epochs & !HAS_LEDGER {
            let shards = u32::from_le_bytes(take(rest)?) as usize;
            let (mut done, mut under_way) = (Vec::new(), Vec::new());
            for _ in 0..shards {
                done.push(take_mark(rest)?);
                under_way.push(take_mark(rest)?);
            }
            if done.is_empty() {
                return None;
            }
            marks.epochs.push(Epoch { done, under_way });
        }
        if epochs & HAS_LEDGER != 0 {
            let mut number = || take(rest).map(u64::from_le_bytes);
            let (done, lost_elsewhere, lost) = (number()?, number()?, number()?);
            marks.ledger = Some(Ledger { done, lost_elsewhere, lost });
        }
        let summed = whole.len() - rest.len();
        let sum = u32::from_le_bytes(take(rest)?);
        (crc32c::crc32c(&whole[..summed]) == sum).then_some((count, marks))
    }

    /// What the directory remembers, if anything.
    pub fn load(dir: &Path) -> Option<Self> {
        newest(dir).map(|(_, marks)| marks)
    }
}

fn take_mark(bytes: &mut &[u8]) -> Option<Position> {
    Some(Position {
        segment: u32::from_le_bytes(take(bytes)?),
        offset: u64::from_le_bytes(take(bytes)?),
        entry: u32::from_le_bytes(take(bytes)?),
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

const NAMES: [&str; 2] = ["acknowledged.0", "acknowledged.1"];

fn newest(dir: &Path) -> Option<(u64, Marks)> {
    let read = |name| fs::read(dir.join(name)).ok().and_then(|bytes| Marks::decode(&bytes));
    NAMES.into_iter().filter_map(read).max_by_key(|(count, _)| *count)
}

/// Where marks are kept.
pub(super) struct MarksFile {
    files: [File; 2],
    count: u64,
}

impl MarksFile {
    /// Opens or makes the files.
    pub fn open(dir: &Path) -> Result<(Self, Marks), LogError> {
        let (count, marks) = newest(dir).unwrap_or_default();
        let open = |name: &str| {
            let path = dir.join(name);
            let options = File::options().create(true).truncate(false).write(true).open(&path);
            options.map_err(failed("open", &path))
        };
        let files = [open(NAMES[0])?, open(NAMES[1])?];
        Ok((Self { files, count }, marks))
    }

    /// Writes the marks; survives the death of the process.
    pub fn write(&mut self, marks: &Marks) -> std::io::Result<()> {
        self.count += 1;
        let file = &self.files[(self.count % 2) as usize];
        file.write_all_at(&marks.encode(self.count), 0)
    }

    /// The files, to be made durable elsewhere.
    pub fn handles(&self) -> std::io::Result<[File; 2]> {
        Ok([self.files[0].try_clone()?, self.files[1].try_clone()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u32, offset: u64, entry: u32) -> Position {
        Position { segment, offset, entry }
    }

    #[test]
    fn what_any_epoch_has_done_is_done() {
        let mut marks = Marks::default();
        marks.begin(2);
        marks.note(&[at(1, 16, 3), at(1, 16, 7)]);
        marks.begin(3);
        assert_eq!(marks.low(), at(1, 16, 3));
        // Hash 0 was of shard 0, hash 1 of shard 1.
        for (hash, entry, done) in [(0, 2, true), (0, 3, false), (1, 6, true), (1, 7, false)] {
            assert_eq!(marks.has(hash, at(1, 16, entry)), done, "{hash} {entry}");
        }
        marks.note(&[at(1, 16, 5), at(1, 16, 9), at(1, 16, 8)]);
        assert_eq!(marks.epochs.len(), 2, "the first epoch still says something");
        assert!(marks.has(1, at(1, 16, 6)));
        marks.note(&[at(2, 16, 0); 3]);
        assert_eq!(marks.epochs.len(), 1);
        assert_eq!(marks.interrupted(3), [None; 3]);
        marks.note_under_way(1, at(2, 16, 4));
        assert_eq!(marks.interrupted(3), [None, Some(at(2, 16, 4)), None]);
        assert_eq!(marks.interrupted(2), [None; 2], "of other shards nothing is known");
    }

    #[test]
    fn marks_come_back_whole_or_as_they_were_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut file, marks) = MarksFile::open(dir.path()).expect("files");
        assert_eq!(marks, Marks::default());
        let mut first = Marks::default();
        first.begin(50);
        first.note(&[at(3, 99, 1); 50]);
        file.write(&first).expect("a write");
        let mut second = first.clone();
        second.note(&[at(4, 16, 0); 50]);
        second.begin(1);
        second.ledger = Some(Ledger { done: 7, lost_elsewhere: 1, lost: u64::MAX });
        file.write(&second).expect("a write");
        assert_eq!(Marks::load(dir.path()), Some(second.clone()));
        // A shorter one over a longer one leaves bytes behind it.
        file.write(&second).expect("a write");
        assert_eq!(Marks::load(dir.path()), Some(second.clone()));
        // The count says which of the two was the last: damage it.
        let newest = dir.path().join(NAMES[1]);
        let mut bytes = std::fs::read(&newest).expect("marks");
        bytes[20] ^= 1;
        std::fs::write(&newest, bytes).expect("a write");
        assert_eq!(Marks::load(dir.path()), Some(second), "the other slot has it too");
    }
}
