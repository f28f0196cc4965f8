//! The frames of a streamed remote-read answer, cut out of what arrives.
//!
//! ```text
//! ┌────────────────┬───────────────────────────┬──────────────────────────────┐
//! │ length uvarint │ CRC-32C of the data 4B BE │ data: a ChunkedReadResponse  │
//! └────────────────┴───────────────────────────┴──────────────────────────────┘
//! ```

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Why a stream is not one of frames; texts are those of Prometheus' reader where it has them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("chunkedReader: message size exceeded the limit {limit} bytes; got: {got} bytes")]
    TooLarge { limit: u64, got: u64 },
    #[error("chunkedReader: corrupted frame; checksum mismatch")]
    Checksum,
    #[error("chunkedReader: the length of a frame is no number")]
    Length,
    #[error("the answer ends in the middle of a frame: unexpected EOF")]
    Torn,
}

/// Takes bytes and gives frames.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    limit: u64,
}

/// Bytes a length takes at most.
const LENGTH_BYTES_MAX: usize = 10;
const CHECKSUM_BYTES: usize = 4;

impl Frames {
    /// Frames of at most so many bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, once all of it is there.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((len, header)) = length(&self.buffer)? else { return Ok(None) };
        if len > self.limit {
            return Err(FrameError::TooLarge { limit: self.limit, got: len });
        }
        let start = header + CHECKSUM_BYTES;
        // Within the limit, so it fits.
        let end = start + len as usize;
        if self.buffer.len() < end {
            self.buffer.reserve(end - self.buffer.len());
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(end).freeze();
        frame.advance(header);
        let checksum = frame.get_u32();
        if crc32c::crc32c(&frame) != checksum {
            return Err(FrameError::Checksum);
        }
        Ok(Some(frame))
    }

    /// To be called when nothing more comes.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Torn) }
    }
}

/// The number a uvarint says and the bytes it takes; `None` while some are missing.
fn length(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let fits = i + 1 < LENGTH_BYTES_MAX || *byte <= 1;
            return if fits { Ok(Some((value, i + 1))) } else { Err(FrameError::Length) };
        }
    }
    if bytes.len() >= LENGTH_BYTES_MAX { Err(FrameError::Length) } else { Ok(None) }
}

/// Appends data as a frame.
pub(crate) fn write_frame(data: &[u8], out: &mut Vec<u8>) {
    let mut len = data.len() as u64;
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(&crc32c::crc32c(data).to_be_bytes());
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames of bytes that arrive in parts of a size, or the error.
    fn frames(bytes: &[u8], part: usize, limit: u64) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut reader = Frames::new(limit);
        let mut found = Vec::new();
        for part in bytes.chunks(part) {
            reader.push(part);
            while let Some(frame) = reader.next()? {
                found.push(frame.to_vec());
            }
        }
        reader.end().map(|()| found)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_arrive() {
        let sent: Vec<Vec<u8>> = [0usize, 1, 127, 128, 5000]
            .iter()
            .map(|n| (0..*n).map(|i| (i * 7) as u8).collect())
            .collect();
        let mut bytes = Vec::new();
        sent.iter().for_each(|data| write_frame(data, &mut bytes));
        for part in [1, 3, 100, bytes.len()] {
            assert_eq!(frames(&bytes, part, 5000).as_ref(), Ok(&sent), "in parts of {part}");
        }
    }

    #[test]
    fn what_is_no_stream_of_frames_is_refused() {
        let mut bytes = Vec::new();
        write_frame(b"some data", &mut bytes);
        for cut in 1..bytes.len() {
            assert_eq!(frames(&bytes[..cut], 4, 100), Err(FrameError::Torn), "cut at {cut}");
        }
        for at in 1..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert_eq!(frames(&wrong, 4, 100), Err(FrameError::Checksum), "byte {at}");
        }
        let large = FrameError::TooLarge { limit: 5, got: 9 };
        assert_eq!(frames(&bytes, 4, 5), Err(large));
        assert_eq!(frames(&[0xff; 20], 4, 5), Err(FrameError::Length));
    }
}
