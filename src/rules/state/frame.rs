//! Frames of a state file: how a record lies on the disk and is found there again.
//!
//! Reading never fails for what the bytes say: a frame that is not what was written is
//! told as damage, with the place it takes, and reading goes on at the next good one.

use std::io::{self, Read};

use prost::Message;

use super::record::Record;

/// Bytes before the first frame.
pub(super) const FILE_HEADER_BYTES: usize = 16;
/// The version this program writes, and the newest it reads.
pub(super) const VERSION: u32 = 1;
const FILE_MAGIC: [u8; 8] = *b"WFASTATE";
/// Starts with a byte that no UTF-8 text holds, so that labels rarely look like a frame.
const FRAME_MAGIC: [u8; 4] = [0xF5, b'W', b'F', 0xF6];
const FRAME_HEADER_BYTES: usize = 12;
/// Longest record: far beyond what is written at once, and all a bad length can ask for.
const RECORD_BYTES_MAX: usize = 128 << 20;
const READ_BYTES: usize = 64 << 10;

/// What a state file begins with.
pub(super) fn file_header() -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let sum = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Good,
    /// Shorter than a header: the file was being made when the process died.
    Torn,
    Damaged,
    /// Of a version this program does not know.
    Newer(u32),
}

/// Judges the first bytes of a file.
pub(super) fn read_header(bytes: &[u8]) -> Header {
    let Some(header) = bytes.first_chunk::<FILE_HEADER_BYTES>() else { return Header::Torn };
    let version = word(header, 8);
    if header[..8] != FILE_MAGIC || crc32c::crc32c(&header[..12]) != word(header, 12) {
        Header::Damaged
    } else if version > VERSION {
        Header::Newer(version)
    } else {
        Header::Good
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Appends a record as one frame.
pub(super) fn append(out: &mut Vec<u8>, record: &Record) {
    let len = u32::try_from(record.encoded_len()).expect("BUG: records are written in parts");
    out.extend_from_slice(&FRAME_MAGIC);
    let summed = out.len();
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    record.encode(out).expect("BUG: a vector grows");
    let sum = checksum(&out[summed..summed + 4], &out[summed + 8..]);
    out[summed + 4..summed + 8].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(len: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(len), payload)
}

/// What lies next in a file. Places are bytes from its start.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Frame {
        /// Where the frame ends.
        end: u64,
        payload: &'a [u8],
    },
    /// Bytes that are no frame, up to the next good one or the end of the file.
    Damaged { from: u64, to: u64 },
    /// The file ends within a frame, as after a write that was cut off.
    Torn { from: u64 },
}

/// Reads the frames of a file, its header already read.
pub(super) struct FrameReader<R> {
    input: R,
    window: Vec<u8>,
    /// Where in the window the next frame begins.
    start: usize,
    /// Place of the window in the file.
    window_at: u64,
    ended: bool,
}

enum Parsed {
    Frame {
        payload_len: usize,
    },
    /// It would reach beyond the end of the file.
    Short,
    Bad,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(input: R) -> Self {
        let window_at = FILE_HEADER_BYTES as u64;
        Self { input, window: Vec::new(), start: 0, window_at, ended: false }
    }

    /// The next frame or what is in its place; `None` at the end. An error is the disk's:
    /// nothing more can be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Item<'_>>> {
        if self.available(1)? == 0 {
            return Ok(None);
        }
        let from = self.place();
        match self.parse()? {
            Parsed::Frame { payload_len } => {
                let begin = self.start + FRAME_HEADER_BYTES;
                self.start = begin + payload_len;
                let end = self.place();
                return Ok(Some(Item::Frame { end, payload: &self.window[begin..self.start] }));
            }
            Parsed::Short => {
                return Ok(Some(match self.resynchronise()? {
                    (true, _) => Item::Damaged { from, to: self.place() },
                    (false, _) => Item::Torn { from },
                }));
            }
            Parsed::Bad => {}
        }
        // A machine that lost power may leave zeros where the file was to grow.
        Ok(Some(match self.resynchronise()? {
            (false, true) => Item::Torn { from },
            _ => Item::Damaged { from, to: self.place() },
        }))
    }

    fn place(&self) -> u64 {
        self.window_at + self.start as u64
    }

    /// Moves to the next good frame: whether there is one, and whether all that was passed
    /// over is zero.
    fn resynchronise(&mut self) -> io::Result<(bool, bool)> {
        let mut zeros = true;
        while self.available(1)? > 0 {
            let rest = &self.window[self.start..];
            let magic = rest[1..].iter().position(|b| *b == FRAME_MAGIC[0]);
            let step = magic.map_or(rest.len(), |at| at + 1);
            zeros &= rest[..step].iter().all(|b| *b == 0);
            self.start += step;
            if magic.is_some() && matches!(self.parse()?, Parsed::Frame { .. }) {
                return Ok((true, zeros));
            }
        }
        Ok((false, zeros))
    }

    /// What the bytes at the start are.
    fn parse(&mut self) -> io::Result<Parsed> {
        let available = self.available(FRAME_HEADER_BYTES)?;
        let header = &self.window[self.start..];
        if available < FRAME_HEADER_BYTES {
            let magic_len = available.min(FRAME_MAGIC.len());
            let magic = header[..magic_len] == FRAME_MAGIC[..magic_len];
            return Ok(if magic { Parsed::Short } else { Parsed::Bad });
        }
        let payload_len = word(header, 4) as usize;
        if header[..4] != FRAME_MAGIC || payload_len > RECORD_BYTES_MAX {
            return Ok(Parsed::Bad);
        }
        let frame_len = FRAME_HEADER_BYTES + payload_len;
        if self.available(frame_len)? < frame_len {
            return Ok(Parsed::Short);
        }
        let frame = &self.window[self.start..self.start + frame_len];
        let sum = checksum(&frame[4..8], &frame[FRAME_HEADER_BYTES..]);
        Ok(if sum == word(frame, 8) { Parsed::Frame { payload_len } } else { Parsed::Bad })
    }

    /// Bytes the window holds from the start: at least `wanted`, or all there are.
    fn available(&mut self, wanted: usize) -> io::Result<usize> {
        while !self.ended && self.window.len() - self.start < wanted {
            if self.start > 0 {
                self.window.drain(..self.start);
                self.window_at += self.start as u64;
                self.start = 0;
            }
            let len = self.window.len();
            self.window.resize(len + READ_BYTES.max(wanted - len), 0);
            let read = self.input.read(&mut self.window[len..]);
            self.window.truncate(len + read.as_ref().copied().unwrap_or(0));
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => self.ended = read? == 0,
            }
        }
        Ok(self.window.len() - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rules: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        for rule in rules {
            append(&mut out, &Record { rule: *rule, ..Record::default() });
        }
        out
    }

    /// Frames as their rule, damage and torn tails as their place.
    fn read(bytes: &[u8]) -> Vec<String> {
        let mut reader = FrameReader::new(bytes);
        let mut out = Vec::new();
        while let Some(item) = reader.next().unwrap() {
            out.push(match item {
                Item::Frame { payload, .. } => Record::decode(payload).unwrap().rule.to_string(),
                Item::Damaged { from, to } => format!("damaged {}..{}", from - 16, to - 16),
                Item::Torn { from } => format!("torn {}", from - 16),
            });
        }
        out
    }

    #[test]
    fn whatever_byte_is_wrong_the_other_frames_are_read() {
        let whole = file(&[1, 2, 3]);
        assert_eq!((whole.len(), read(&whole)), (42, ["1", "2", "3"].map(str::to_owned).to_vec()));
        for (at, bit) in (0..42).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let found = read(&bytes);
            let begin = at / 14 * 14;
            let place = format!("damaged {begin}..{}", begin + 14);
            let mut expected = ["1", "2", "3"].map(str::to_owned).to_vec();
            expected[at / 14] = place;
            if at >= 28 && found.last().is_some_and(|last| last == "torn 28") {
                // A longer length in the last frame is a torn write for all one can tell.
                expected[2] = "torn 28".to_owned();
            }
            assert_eq!(found, expected, "bit {bit} of byte {at}");
        }
    }

    #[test]
    fn a_cut_or_empty_tail_is_no_damage() {
        let whole = file(&[1, 2]);
        for cut in 15..28 {
            assert_eq!(read(&whole[..cut]), ["1", "torn 14"]);
        }
        let zeros = [&whole[..14], &[0; 40]].concat();
        assert_eq!(read(&zeros), ["1", "torn 14"]);
        let garbage = [&whole[..14], &[7; 40]].concat();
        assert_eq!(read(&garbage), ["1", "damaged 14..54"]);
        let both = [&whole[..14], &[0; 40], &whole[14..]].concat();
        assert_eq!(read(&both), ["1", "damaged 14..54", "2"]);
    }

    #[test]
    fn headers_tell_versions_apart() {
        let header = file_header();
        assert_eq!(read_header(&header), Header::Good);
        assert_eq!(read_header(&header[..15]), Header::Torn);
        let mut newer = header;
        newer[8] = 2;
        assert_eq!(read_header(&newer), Header::Damaged);
        let sum = crc32c::crc32c(&newer[..12]).to_le_bytes();
        newer[12..].copy_from_slice(&sum);
        assert_eq!(read_header(&newer), Header::Newer(2));
    }
}
