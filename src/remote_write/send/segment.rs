//! A file of the queue on disk.
//!
//! ```text
//! segment  NNNNNNNN     header, frame*
//! header   "WFWRITEQ", version u32 LE, CRC32C of the twelve bytes before, u32 LE
//! frame    payload length u32 LE, samples in it u32 LE, CRC32C of both and of the payload
//!          u32 LE, payload (snappy)
//! ```
//!
//! The first frame has no samples and says how many entries the queue was ever given before
//! this segment, so that what is missing can be counted when older segments are gone. What
//! frames hold is `record.rs`' affair.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::log::{LogError, Position, failed};
use super::marks::Marks;
use super::record::{Payload, Payloads};

const MAGIC: &[u8; 8] = b"WFWRITEQ";
const VERSION: u32 = 1;
/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = 16;
const FRAME_HEADER_BYTES: usize = 12;
/// Longest payload: far beyond what is written at once, and all a bad length can ask for.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What is known of a segment.
pub(super) struct Segment {
    pub index: u32,
    /// Up to the end of its last good frame.
    pub bytes: u64,
    pub samples: u64,
    /// Of its samples, those that were sent or given up.
    pub settled: u64,
    /// Of its samples, those that are being sent.
    pub under_way: u64,
    /// Samples that cannot be read were counted up to here.
    pub given_up_to: u64,
}

impl Segment {
    fn new(index: u32) -> Self {
        let bytes = HEADER_BYTES;
        Self { index, bytes, samples: 0, settled: 0, under_way: 0, given_up_to: 0 }
    }

    /// Samples that nobody sends yet.
    pub fn waiting(&self) -> u64 {
        self.samples.saturating_sub(self.settled + self.under_way)
    }
}

/// A payload as it stands in a segment.
pub(super) fn frame(payload: &[u8], samples: u32) -> Result<Vec<u8>, String> {
    let packed = snap::raw::Encoder::new().compress_vec(payload).map_err(|e| e.to_string())?;
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + packed.len());
    frame.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    frame.extend_from_slice(&samples.to_le_bytes());
    let sum = checksum(&frame, &packed);
    frame.extend_from_slice(&sum.to_le_bytes());
    frame.extend_from_slice(&packed);
    Ok(frame)
}

/// The payload of the frame at a place of a file that ends at another, its samples, and the
/// bytes the frame takes.
pub(super) fn read_frame(
    file: &File,
    offset: u64,
    end: u64,
) -> Result<(Vec<u8>, u32, u64), String> {
    let (packed, samples) = read_packed(file, offset, end)?;
    let payload = snap::raw::Decoder::new().decompress_vec(&packed).map_err(|e| e.to_string())?;
    Ok((payload, samples, (FRAME_HEADER_BYTES + packed.len()) as u64))
}

fn read_packed(file: &File, offset: u64, end: u64) -> Result<(Vec<u8>, u32), String> {
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

/// Begins a segment; `before` is how many entries the queue was given before it.
pub(super) fn begin(dir: &Path, index: u32, before: u64) -> Result<(File, Segment), LogError> {
    let path = segment_path(dir, index);
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).open(&path);
    let mut file = file.map_err(failed("create", &path))?;
    let mut payload = Payload::default();
    payload.before(before);
    let first = frame(&payload.bytes, 0);
    let first = first.map_err(|cause| LogError { what: "create", path: path.clone(), cause })?;
    let mut bytes = header().to_vec();
    bytes.extend_from_slice(&first);
    file.write_all(&bytes).map_err(failed("create", &path))?;
    // The name must be there after a power cut when what is in the file is.
    _ = File::open(dir).and_then(|dir| dir.sync_all());
    Ok((file, Segment { bytes: bytes.len() as u64, ..Segment::new(index) }))
}

/// Looks at a segment of an earlier process, and at what it says was before it. Of the last
/// one every frame is checked: it may have been cut off, and is then made to end at its last
/// good frame.
pub(super) fn scan(
    path: &Path,
    index: u32,
    is_last: bool,
) -> Result<(Segment, Option<u64>), LogError> {
    let file = File::options().read(true).write(true).open(path).map_err(failed("open", path))?;
    let len = file.metadata().map_err(failed("look at", path))?.len();
    let mut segment = Segment::new(index);
    let mut found = [0; HEADER_BYTES as usize];
    let whole = len >= HEADER_BYTES && file.read_exact_at(&mut found, 0).is_ok();
    if whole && found != header() {
        let why = "it does not begin as a queue of remote write does; move it away";
        return Err(LogError { what: "cannot use", path: path.to_owned(), cause: why.to_owned() });
    }
    let first = whole.then(|| read_frame(&file, HEADER_BYTES, len).ok()).flatten();
    let before = first.and_then(|(payload, _, _)| Payloads::before(&payload));
    while whole && segment.bytes < len {
        let offset = segment.bytes;
        let next = if is_last {
            read_packed(&file, offset, len).map(|(packed, samples)| (packed.len(), samples))
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
    Ok((segment, before))
}

/// How many of its samples marks say are done. What cannot be read is not.
pub(super) fn done_of(path: &Path, segment: &Segment, marks: &Marks) -> u64 {
    let Ok(file) = File::open(path) else { return 0 };
    let mut payloads = Payloads::default();
    let (mut offset, mut done) = (HEADER_BYTES, 0);
    while offset < segment.bytes
        && (Position { segment: segment.index, offset, entry: 0 }) < marks.high()
    {
        let Ok((payload, _, bytes)) = read_frame(&file, offset, segment.bytes) else { break };
        let Some(entries) = payloads.read(&payload) else { break };
        let at = |entry| Position { segment: segment.index, offset, entry };
        let is_done =
            |(entry, (_, hash, _)): &(u32, super::record::Entry)| marks.has(*hash, at(*entry));
        done += (0..).zip(entries).filter(is_done).count() as u64;
        offset += bytes;
    }
    done
}

/// The numbers of the segments that are there, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<u32>, LogError> {
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

/// Removes a segment; that it cannot be is told.
pub(super) fn remove(dir: &Path, index: u32) {
    let path = segment_path(dir, index);
    if let Err(error) = fs::remove_file(&path) {
        tracing::error!(file = %path.display(), %error, "Remote write queue: cannot remove a segment");
    }
}
