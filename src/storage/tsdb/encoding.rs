//! The byte codings Prometheus' files are made of: big-endian integers, Go's varints
//! (LEB128, zig-zag for signed numbers) and length-prefixed strings.

use thiserror::Error;

/// Why bytes could not be read as what they should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    #[error("it ends too early")]
    Short,
    #[error("a variable-length integer is longer than 64 bits")]
    Overflow,
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("a length of {0} exceeds what is left")]
    Length(u64),
    #[error("unknown record type {0}")]
    UnknownType(u8),
    #[error("histogram buckets and spans disagree")]
    Buckets,
}

/// Appends in Prometheus' codings.
pub(crate) trait Put {
    fn put_be64(&mut self, v: u64);
    fn put_uvarint(&mut self, v: u64);
    fn put_varint(&mut self, v: i64);
    fn put_str(&mut self, text: &str);
    fn put_f64(&mut self, v: f64);
}

impl Put for Vec<u8> {
    fn put_be64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_be_bytes());
    }

    #[inline]
    fn put_uvarint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.push(v as u8);
    }

    #[inline]
    fn put_varint(&mut self, v: i64) {
        self.put_uvarint(zigzag(v));
    }

    fn put_str(&mut self, text: &str) {
        self.put_uvarint(text.len() as u64);
        self.extend_from_slice(text.as_bytes());
    }

    fn put_f64(&mut self, v: f64) {
        self.put_be64(v.to_bits());
    }
}

/// Maps small magnitudes of either sign to small unsigned numbers.
pub(crate) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// Reads from the front of a byte slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn be64(&mut self) -> Result<u64, DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<8>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*head))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_bits(self.be64()?))
    }

    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().enumerate() {
            if i == 9 && *byte > 1 {
                return Err(DecodeError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
            if i == 9 {
                return Err(DecodeError::Overflow);
            }
        }
        Err(DecodeError::Short)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i64, DecodeError> {
        Ok(unzigzag(self.uvarint()?))
    }

    /// A count of things of which each takes at least `min_bytes`: refused when that many
    /// cannot follow, so that a broken length never allocates.
    pub(crate) fn count(&mut self, min_bytes: usize) -> Result<usize, DecodeError> {
        let n = self.uvarint()?;
        if n > (self.rest.len() / min_bytes.max(1)) as u64 {
            return Err(DecodeError::Length(n));
        }
        Ok(n as usize)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.rest.len() {
            return Err(DecodeError::Length(len as u64));
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.count(1)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip_at_their_limits() {
        for v in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            let mut b = Vec::new();
            b.put_varint(v);
            b.put_uvarint(v as u64);
            let mut c = Cursor::new(&b);
            assert_eq!((c.varint(), c.uvarint()), (Ok(v), Ok(v as u64)));
            assert!(c.is_empty());
        }
    }

    #[test]
    fn broken_integers_and_lengths_are_refused() {
        assert_eq!(Cursor::new(&[0x80]).uvarint(), Err(DecodeError::Short));
        assert_eq!(Cursor::new(&[0xff; 11]).uvarint(), Err(DecodeError::Overflow));
        assert_eq!(Cursor::new(&[5, b'a']).str(), Err(DecodeError::Length(5)));
        assert_eq!(Cursor::new(&[1, 0xff]).str(), Err(DecodeError::NotUtf8));
    }
}
