//! The queue on disk: a log of what is to be sent, in segments.
//!
//! ```text
//! segment  NNNNNNNN     header, frame*
//! header   "WFWRITEQ", version u32 LE, CRC32C of the twelve bytes before, u32 LE
//! frame    payload length u32 LE, samples in it u32 LE, CRC32C of both and of the payload
//!          u32 LE, payload (snappy)
//! ```
//!
//! Each start of the process begins a segment, and each segment tells by itself which series
//! its samples are of, so old ones go without the younger ones being read. What was written
//! survives the death of the process at once, and a power cut after the next `sync`. A frame
//! that was cut off ends its segment. What frames hold is `record.rs`' affair.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;

use super::marks::Marks;

const MAGIC: &[u8; 8] = b"WFWRITEQ";
const VERSION: u32 = 1;
/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = 16;
const FRAME_HEADER_BYTES: usize = 12;
/// Longest payload: far beyond what is written at once, and all a bad length can ask for.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;
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

struct Segment {
    index: u32,
    /// Up to the end of its last good frame.
    bytes: u64,
    samples: u64,
}

struct State {
    /// In order; the last is written to.
    segments: VecDeque<Segment>,
    file: File,
    /// How far the reader is: a segment, and how many of its samples it has taken.
    taken: (u32, u64),
    /// The last write failed in the middle: nothing may follow it.
    broken: bool,
    unsynced: bool,
}

/// The log of one target.
pub(super) struct Log {
    dir: PathBuf,
    bytes_max: AtomicU64,
    state: Mutex<State>,
    /// Entries that are neither sent nor dropped.
    pending: AtomicI64,
    /// What was found to be done already before this place is not pending any more.
    counted: Mutex<Position>,
    /// Woken when something was appended.
    pub arrived: Notify,
}

/// What making room cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub segments: usize,
    /// Those that nobody had taken yet.
    pub samples: u64,
}

impl Log {
    /// Opens or makes the log in a directory and begins a segment.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, LogError> {
        fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
        let marks = Marks::load(dir).unwrap_or_default();
        let mut segments = VecDeque::new();
        let found = list(dir)?;
        let mut next = found.last().map_or(0, |index| index + 1);
        for (i, index) in found.iter().enumerate() {
            let path = segment_path(dir, *index);
            let segment = scan(&path, *index, i + 1 == found.len())?;
            if segment.samples == 0 || *index < marks.low().segment {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            } else {
                segments.push_back(segment);
            }
        }
        // Positions name segments, so a number is never used twice while one may remember it.
        next = next.max(marks.segments_end());
        let file = begin(dir, next)?;
        segments.push_back(Segment { index: next, bytes: HEADER_BYTES, samples: 0 });
        let pending: u64 = segments.iter().map(|s| s.samples).sum();
        let taken = (0, 0);
        let state = State { segments, file, taken, broken: false, unsynced: true };
        Ok(Self {
            dir: dir.to_owned(),
            bytes_max: AtomicU64::new(bytes_max),
            state: Mutex::new(state),
            pending: AtomicI64::new(i64::try_from(pending).unwrap_or(i64::MAX)),
            counted: Mutex::default(),
            arrived: Notify::new(),
        })
    }

    /// Changes the most bytes it may take.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Entries that wait to be sent.
    pub fn pending(&self) -> i64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Notes that this many were sent or are given up.
    pub fn settle(&self, entries: u64) {
        self.pending.fetch_sub(i64::try_from(entries).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Notes that everything up to a place was looked at, and that what stands at these
    /// places was done before.
    pub fn settle_skipped(&self, skipped: &[Position], upto: Position) {
        let mut counted = self.counted.lock();
        self.settle(skipped.iter().filter(|at| **at >= *counted).count() as u64);
        *counted = (*counted).max(upto);
    }

    /// Whether the next frame belongs in a new segment.
    pub fn wants_new_segment(&self) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let segment_bytes = (bytes_max / SEGMENTS_MIN).clamp(1, SEGMENT_BYTES_MAX);
        let state = self.state.lock();
        let full = state.segments.back().is_none_or(|s| s.bytes >= segment_bytes);
        full || state.broken
    }

    /// Begins a segment: series are told anew in it.
    pub fn begin_segment(&self) -> Result<(), LogError> {
        let mut state = self.state.lock();
        let index = state.segments.back().map_or(0, |s| s.index + 1);
        let file = begin(&self.dir, index)?;
        // An error here would only mean that a power cut may take more than it should.
        _ = std::mem::replace(&mut state.file, file).sync_data();
        state.segments.push_back(Segment { index, bytes: HEADER_BYTES, samples: 0 });
        state.broken = false;
        Ok(())
    }

    /// Appends a frame, and drops the oldest segments when the log has become too large.
    /// After an error, a segment must be begun before anything else is appended.
    pub fn append(&self, payload: &[u8], samples: u32) -> Result<Dropped, LogError> {
        let packed = snap::raw::Encoder::new().compress_vec(payload).map_err(|e| LogError {
            what: "compress a record of",
            path: self.dir.clone(),
            cause: e.to_string(),
        })?;
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + packed.len());
        frame.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        frame.extend_from_slice(&samples.to_le_bytes());
        let sum = checksum(&frame, &packed);
        frame.extend_from_slice(&sum.to_le_bytes());
        frame.extend_from_slice(&packed);
        let mut state = self.state.lock();
        let state = &mut *state;
        let segment = state.segments.back_mut().expect("BUG: one segment is written to");
        if let Err(e) = state.file.write_all(&frame) {
            state.broken = true;
            // What was written of it must not stand before what a later process appends.
            _ = state.file.set_len(segment.bytes);
            return Err(failed("append to", &segment_path(&self.dir, segment.index))(e));
        }
        segment.bytes += frame.len() as u64;
        segment.samples += u64::from(samples);
        state.unsynced = true;
        let dropped = self.make_room(state);
        self.pending.fetch_add(i64::from(samples), Ordering::Relaxed);
        self.settle(dropped.samples);
        self.arrived.notify_one();
        Ok(dropped)
    }

    fn make_room(&self, state: &mut State) -> Dropped {
        let mut dropped = Dropped::default();
        let mut bytes: u64 = state.segments.iter().map(|s| s.bytes).sum();
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        while bytes > bytes_max && state.segments.len() > 1 {
            let Some(oldest) = state.segments.pop_front() else { break };
            bytes -= oldest.bytes;
            let taken = match state.taken {
                (segment, samples) if segment == oldest.index => samples,
                (segment, _) if segment > oldest.index => oldest.samples,
                _ => 0,
            };
            dropped.segments += 1;
            dropped.samples += oldest.samples.saturating_sub(taken);
            remove_segment(&self.dir, oldest.index);
        }
        dropped
    }

    /// Removes the segments that end before a place.
    pub fn trim(&self, done: Position) {
        let mut state = self.state.lock();
        while state.segments.len() > 1
            && state.segments.front().is_some_and(|s| s.index < done.segment)
        {
            if let Some(oldest) = state.segments.pop_front() {
                remove_segment(&self.dir, oldest.index);
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

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.state.lock().segments.iter().map(|s| s.bytes).sum()
    }
}

/// Reads the frames of a log in order, while it is written.
pub(super) struct FrameReader {
    at: Position,
    file: Option<File>,
    /// Of this segment, what was taken.
    taken: u64,
}

/// What a reader came upon.
pub(super) enum Read {
    /// A frame began at the place, in a segment that begins with this frame or not.
    Frame { at: Position, payload: Vec<u8>, samples: u32 },
    /// Another segment begins: series are told anew.
    NewSegment,
    /// Nothing more, for now.
    End,
    /// The rest of a segment cannot be read.
    Damaged { segment: u32, offset: u64, why: String, samples: u64 },
}

impl FrameReader {
    /// Begins at the segment of a place: what stands before the place in it is read as well,
    /// for the series it tells of.
    pub fn new(from: Position) -> Self {
        let at = Position { segment: from.segment, offset: 0, entry: 0 };
        Self { at, file: None, taken: 0 }
    }

    /// The place of the next frame.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The next frame, if there is one.
    pub fn next(&mut self, log: &Log) -> Read {
        let (offset, end) = {
            let mut state = log.state.lock();
            let current = state.segments.iter().find(|s| s.index == self.at.segment);
            let here = current.filter(|s| self.at.offset < s.bytes).map(|s| s.bytes);
            match here {
                Some(end) if self.file.is_some() => (self.at.offset, end),
                // This segment has ended, or was dropped: the first of the others follows.
                _ => {
                    let after = self.at.segment;
                    let wanted = |s: &&Segment| match self.file {
                        Some(_) => s.index > after,
                        None => s.index >= after,
                    };
                    let Some(next) = state.segments.iter().find(wanted).map(|s| s.index) else {
                        return Read::End;
                    };
                    let path = segment_path(&log.dir, next);
                    self.at = Position { segment: next, offset: HEADER_BYTES, entry: 0 };
                    self.taken = 0;
                    state.taken = (next, 0);
                    match File::open(&path) {
                        Ok(file) => self.file = Some(file),
                        Err(e) => {
                            self.at.offset = u64::MAX;
                            let segment = state.segments.iter().find(|s| s.index == next);
                            let samples = segment.map_or(0, |s| s.samples);
                            return self.damaged(e.to_string(), samples);
                        }
                    }
                    return Read::NewSegment;
                }
            }
        };
        match self.read(offset, end) {
            Ok((payload, samples, bytes)) => {
                let at = self.at;
                self.at.offset += bytes;
                let mut state = log.state.lock();
                let still_there = state.segments.iter().any(|s| s.index == at.segment);
                if !still_there {
                    // It was dropped, and counted as dropped, while it was read.
                    drop(state);
                    return self.next(log);
                }
                self.taken += u64::from(samples);
                state.taken = (at.segment, self.taken);
                Read::Frame { at, payload, samples }
            }
            Err(why) => {
                let mut state = log.state.lock();
                let segment = state.segments.iter().find(|s| s.index == self.at.segment);
                let left = segment.map_or(0, |s| s.samples.saturating_sub(self.taken));
                state.taken = (self.at.segment, self.taken + left);
                drop(state);
                let damaged = self.damaged(why, left);
                self.at.offset = u64::MAX;
                damaged
            }
        }
    }

    fn damaged(&self, why: String, samples: u64) -> Read {
        Read::Damaged { segment: self.at.segment, offset: self.at.offset, why, samples }
    }

    fn read(&self, offset: u64, end: u64) -> Result<(Vec<u8>, u32, u64), String> {
        let file = self.file.as_ref().ok_or("it is not open")?;
        let (packed, samples) = read_frame(file, offset, end)?;
        let payload =
            snap::raw::Decoder::new().decompress_vec(&packed).map_err(|e| e.to_string())?;
        Ok((payload, samples, (FRAME_HEADER_BYTES + packed.len()) as u64))
    }
}

fn read_frame(file: &File, offset: u64, end: u64) -> Result<(Vec<u8>, u32), String> {
    let mut header = [0; FRAME_HEADER_BYTES];
    if offset + FRAME_HEADER_BYTES as u64 > end {
        return Err("a frame was cut off".to_owned());
    }
    file.read_exact_at(&mut header, offset).map_err(|e| e.to_string())?;
    let len = word(&header, 0) as usize;
    let from = offset + FRAME_HEADER_BYTES as u64;
    if len > PAYLOAD_BYTES_MAX || from + len as u64 > end {
        return Err("a frame was cut off".to_owned());
    }
    let mut packed = vec![0; len];
    file.read_exact_at(&mut packed, from).map_err(|e| e.to_string())?;
    if checksum(&header[..8], &packed) != word(&header, 8) {
        return Err("the checksum of a frame is wrong".to_owned());
    }
    Ok((packed, word(&header, 4)))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

fn header() -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let sum = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&sum.to_le_bytes());
    header
}

fn begin(dir: &Path, index: u32) -> Result<File, LogError> {
    let path = segment_path(dir, index);
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).open(&path);
    let mut file = file.map_err(failed("create", &path))?;
    file.write_all(&header()).map_err(failed("create", &path))?;
    // The name must be there after a power cut when what is in the file is.
    _ = File::open(dir).and_then(|dir| dir.sync_all());
    Ok(file)
}

/// Looks at a segment of an earlier process. Of the last one every frame is checked: it may
/// have been cut off, and is then made to end at its last good frame.
fn scan(path: &Path, index: u32, is_last: bool) -> Result<Segment, LogError> {
    let file = File::options().read(true).write(true).open(path).map_err(failed("open", path))?;
    let len = file.metadata().map_err(failed("look at", path))?.len();
    let mut segment = Segment { index, bytes: HEADER_BYTES, samples: 0 };
    let mut found = [0; HEADER_BYTES as usize];
    let whole = len >= HEADER_BYTES && file.read_exact_at(&mut found, 0).is_ok();
    if whole && found != header() {
        let why = "it does not begin as a queue of remote write does; move it away";
        return Err(LogError { what: "cannot use", path: path.to_owned(), cause: why.to_owned() });
    }
    while whole && segment.bytes < len {
        let offset = segment.bytes;
        let next = if is_last {
            read_frame(&file, offset, len).map(|(packed, samples)| (packed.len(), samples))
        } else {
            let mut header = [0; FRAME_HEADER_BYTES];
            let read = file.read_exact_at(&mut header, offset);
            read.map(|()| (word(&header, 0) as usize, word(&header, 4))).map_err(|e| e.to_string())
        };
        match next {
            Ok((bytes, samples)) if offset + (FRAME_HEADER_BYTES + bytes) as u64 <= len => {
                segment.bytes += (FRAME_HEADER_BYTES + bytes) as u64;
                segment.samples += u64::from(samples);
            }
            _ => {
                let lost = len - offset;
                tracing::warn!(file = %path.display(), offset, lost, "Remote write queue: the end of a segment was cut off");
                if is_last {
                    file.set_len(offset).map_err(failed("truncate", path))?;
                }
                break;
            }
        }
    }
    Ok(segment)
}

fn list(dir: &Path) -> Result<Vec<u32>, LogError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.len() == 8
            && let Ok(index) = name.parse()
        {
            found.push(index);
        }
    }
    found.sort_unstable();
    Ok(found)
}

pub(super) fn segment_path(dir: &Path, index: u32) -> PathBuf {
    dir.join(format!("{index:08}"))
}

fn remove_segment(dir: &Path, index: u32) {
    let path = segment_path(dir, index);
    if let Err(error) = fs::remove_file(&path) {
        tracing::error!(file = %path.display(), %error, "Remote write queue: cannot remove a segment");
    }
}
