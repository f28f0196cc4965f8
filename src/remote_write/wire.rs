//! The protobuf wire format, read in place.
//!
//! ```text
//! message  { key uvarint = field << 3 | type, payload }*
//! type     0 varint, 1 eight bytes LE, 2 length uvarint and bytes, 5 four bytes LE
//! ```

use thiserror::Error;

/// Why bytes are not a message. Offsets count from the start of the enclosing message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum WireError {
    #[error("unexpected EOF at byte {0}")]
    Short(usize),
    #[error("integer overflow at byte {0}")]
    Overflow(usize),
    #[error("illegal tag at byte {0}")]
    Tag(usize),
    #[error("illegal wireType {kind} of field {field} at byte {at}")]
    Kind { field: u64, kind: u8, at: usize },
}

/// A field's payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Payload<'a> {
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(b) = self { Some(b) } else { None }
    }

    pub(super) fn varint(self) -> Option<u64> {
        if let Self::Varint(v) = self { Some(v) } else { None }
    }

    pub(super) fn double(self) -> Option<f64> {
        if let Self::Fixed64(v) = self { Some(f64::from_bits(v)) } else { None }
    }
}

/// The fields of a message in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    message: &'a [u8],
    pos: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { message, pos: 0 }
    }

    /// The next field's number and payload.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, WireError> {
        if self.pos == self.message.len() {
            return Ok(None);
        }
        let at = self.pos;
        let key = self.uvarint()?;
        let (field, kind) = (key >> 3, (key & 7) as u8);
        if field == 0 {
            return Err(WireError::Tag(at));
        }
        let payload = match kind {
            0 => Payload::Varint(self.uvarint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let len = self.uvarint()?;
                let rest = &self.message[self.pos..];
                if len > rest.len() as u64 {
                    return Err(WireError::Short(self.pos));
                }
                self.pos += len as usize;
                Payload::Bytes(&rest[..len as usize])
            }
            5 => Payload::Fixed32(u32::from_le_bytes(self.fixed()?)),
            kind => return Err(WireError::Kind { field, kind, at }),
        };
        Ok(Some((field, payload)))
    }

    /// The error for a known field of the wrong type.
    pub(super) fn wrong_kind(&self, field: u64, payload: Payload<'_>) -> WireError {
        let kind = match payload {
            Payload::Varint(_) => 0,
            Payload::Fixed64(_) => 1,
            Payload::Bytes(_) => 2,
            Payload::Fixed32(_) => 5,
        };
        WireError::Kind { field, kind, at: self.pos }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes =
            self.message[self.pos..].first_chunk::<N>().ok_or(WireError::Short(self.pos))?;
        self.pos += N;
        Ok(*bytes)
    }

    #[inline]
    fn uvarint(&mut self) -> Result<u64, WireError> {
        // Keys and most lengths are of one byte.
        if let Some(byte @ 0..0x80) = self.message.get(self.pos) {
            self.pos += 1;
            return Ok(u64::from(*byte));
        }
        self.long_uvarint()
    }

    fn long_uvarint(&mut self) -> Result<u64, WireError> {
        let start = self.pos;
        let mut value = 0u64;
        for (i, byte) in self.message[start..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.pos = start + i + 1;
                return if i == 9 && *byte > 1 {
                    Err(WireError::Overflow(start))
                } else {
                    Ok(value)
                };
            }
        }
        Err(if self.message.len() - start < 10 {
            WireError::Short(start)
        } else {
            WireError::Overflow(start)
        })
    }
}

/// Calls `f` for each varint of a repeated field, packed or not.
pub(super) fn each_varint(payload: Payload<'_>, mut f: impl FnMut(u64)) -> Result<bool, WireError> {
    match payload {
        Payload::Varint(v) => f(v),
        Payload::Bytes(bytes) => {
            let mut packed = Fields::new(bytes);
            while packed.pos < bytes.len() {
                f(packed.uvarint()?);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Calls `f` for each double of a repeated field, packed or not.
pub(super) fn each_double(payload: Payload<'_>, mut f: impl FnMut(f64)) -> Result<bool, WireError> {
    match payload {
        Payload::Fixed64(v) => f(f64::from_bits(v)),
        Payload::Bytes(bytes) => {
            let (chunks, rest) = bytes.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(WireError::Short(bytes.len()));
            }
            chunks.iter().for_each(|b| f(f64::from_le_bytes(*b)));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The number a `sint` field means.
pub(super) fn zigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}
