//! Reads the queue on disk in order, while it is written.

use std::fs::File;

use super::log::{Log, Position};
use super::segment::{HEADER_BYTES, Segment, read_frame, segment_path};

/// See the module.
pub(super) struct FrameReader {
    at: Position,
    /// Whether the segment of the place was come to.
    began: bool,
    file: Option<File>,
    /// Samples of this segment that were read.
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
    /// The rest of a segment cannot be read, and samples are lost that were not given up yet.
    Damaged { segment: u32, offset: u64, why: String, samples: u64 },
}

impl FrameReader {
    /// Begins at the segment of a place: what stands before the place in it is read as well,
    /// for the series it tells of.
    pub fn new(from: Position) -> Self {
        let at = Position { segment: from.segment, offset: 0, entry: 0 };
        Self { at, began: false, file: None, taken: 0 }
    }

    /// The place of the next frame.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The next frame, if there is one.
    pub fn next(&mut self, log: &Log) -> Read {
        let (offset, end) = {
            let state = log.state.lock();
            let current = state.segment(self.at.segment);
            let here = current.filter(|s| self.at.offset < s.bytes).map(|s| s.bytes);
            match here {
                Some(end) if self.began => (self.at.offset, end),
                // This segment has ended, or was dropped: the first of the others follows.
                _ => {
                    let after = self.at.segment;
                    let wanted = |s: &&Segment| match self.began {
                        true => s.index > after,
                        false => s.index >= after,
                    };
                    let Some(next) = state.segments.iter().find(wanted).map(|s| s.index) else {
                        return Read::End;
                    };
                    let path = segment_path(&log.dir, next);
                    self.at = Position { segment: next, offset: HEADER_BYTES, entry: 0 };
                    (self.began, self.taken) = (true, 0);
                    match File::open(&path) {
                        Ok(file) => self.file = Some(file),
                        Err(e) => {
                            drop(state);
                            return self.damaged(log, e.to_string());
                        }
                    }
                    return Read::NewSegment;
                }
            }
        };
        let read = match &self.file {
            Some(file) => read_frame(file, offset, end),
            None => Err("it is not open".to_owned()),
        };
        match read {
            Ok((payload, samples, bytes)) => {
                let at = self.at;
                self.at.offset += bytes;
                if log.state.lock().segment(at.segment).is_none() {
                    // It was dropped, and counted as dropped, while it was read.
                    return self.next(log);
                }
                self.taken += u64::from(samples);
                Read::Frame { at, payload, samples }
            }
            Err(why) => self.damaged(log, why),
        }
    }

    fn damaged(&mut self, log: &Log, why: String) -> Read {
        let Position { segment, offset, .. } = self.at;
        self.at.offset = u64::MAX;
        let samples = log.give_up(segment, u64::MAX, |s| s.samples.saturating_sub(self.taken));
        Read::Damaged { segment, offset, why, samples }
    }
}
