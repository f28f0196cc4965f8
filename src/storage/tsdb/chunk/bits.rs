//! A stream of bits, most significant bit first.

/// Appends bits to bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// Free bits in the last byte.
    free: u32,
}

impl BitWriter {
    /// Continues after whole bytes.
    pub(crate) fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, free: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bits written, those of the bytes it continues after included.
    pub(crate) fn position(&self) -> usize {
        self.bytes.len() * 8 - self.free as usize
    }

    /// Writes the low `count` bits of `value`, `count <= 64`.
    #[inline]
    pub(crate) fn write(&mut self, value: u64, mut count: u32) {
        while count > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let n = count.min(self.free);
            let part = (value >> (count - n)) as u32 & ((1u32 << n) - 1);
            let last = self.bytes.len() - 1;
            self.bytes[last] |= (part << (self.free - n)) as u8;
            self.free -= n;
            count -= n;
        }
    }
}

/// Reads bits from bytes: the reader looks at as many as it likes and then goes on by as
/// many as it used.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits used.
    at: usize,
}

impl<'a> BitReader<'a> {
    /// Bits that `peek` shows at least.
    pub(crate) const PEEKED: u32 = 57;

    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, the first one on top: at least `PEEKED` of them, zeros past the end.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(head) => u64::from_be_bytes(*head),
            None => last_word(rest),
        };
        word << (self.at % 8)
    }

    /// Goes on by `count` bits.
    #[inline]
    pub(crate) fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    /// True once more bits were used than there are.
    #[inline]
    pub(crate) fn overrun(&self) -> bool {
        self.at > self.bytes.len() * 8
    }

    /// The next `count` bits, `1 <= count <= 64`; zeros past the end.
    #[inline]
    pub(crate) fn read(&mut self, count: u32) -> u64 {
        let high = count.min(32);
        let mut value = self.peek() >> (64 - high);
        self.skip(high);
        if count > 32 {
            let low = count - 32;
            value = value << low | self.peek() >> (64 - low);
            self.skip(low);
        }
        value
    }

    /// A LEB128 integer laid into the bit stream; `None` when it does not end in time.
    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.read(8);
            value |= (byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// Fewer than eight bytes as if zeros followed.
#[cold]
fn last_word(rest: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in prop::collection::vec((any::<u64>(), 1u32..=64), 0..200)) {
            let mut w = BitWriter::default();
            for (v, n) in &fields {
                w.write(*v, *n);
            }
            let mut r = BitReader::new(w.bytes());
            for (v, n) in &fields {
                prop_assert_eq!(r.read(*n), v & u64::MAX >> (64 - n));
                prop_assert!(!r.overrun());
            }
            r.skip(8);
            prop_assert!(r.overrun());
        }
    }
}
