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

/// Reads bits from bytes; keeps up to 64 of them in a register.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    rest: &'a [u8],
    /// Valid bits are the low `valid` ones.
    buffer: u64,
    valid: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, buffer: 0, valid: 0 }
    }

    /// The next `count` bits, `1 <= count <= 64`; `None` past the end.
    #[inline]
    pub(crate) fn read(&mut self, count: u32) -> Option<u64> {
        if count <= self.valid {
            self.valid -= count;
            return Some(self.buffer >> self.valid & mask(count));
        }
        self.read_across(count)
    }

    #[inline]
    pub(crate) fn bit(&mut self) -> Option<bool> {
        self.read(1).map(|b| b == 1)
    }

    fn read_across(&mut self, count: u32) -> Option<u64> {
        let high = self.buffer & mask(self.valid);
        let missing = count - self.valid;
        self.refill()?;
        if missing > self.valid {
            return None;
        }
        self.valid -= missing;
        let low = self.buffer >> self.valid & mask(missing);
        Some(if missing == 64 { low } else { high << missing | low })
    }

    fn refill(&mut self) -> Option<()> {
        if let Some((head, rest)) = self.rest.split_first_chunk::<8>() {
            self.buffer = u64::from_be_bytes(*head);
            self.valid = 64;
            self.rest = rest;
            return Some(());
        }
        if self.rest.is_empty() {
            return None;
        }
        self.buffer = self.rest.iter().fold(0, |b, byte| b << 8 | u64::from(*byte));
        self.valid = self.rest.len() as u32 * 8;
        self.rest = &[];
        Some(())
    }

    /// A LEB128 integer laid into the bit stream.
    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.read(8)?;
            value |= (byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[inline]
fn mask(count: u32) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
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
                prop_assert_eq!(r.read(*n), Some(v & mask(*n)));
            }
            prop_assert_eq!(r.read(8), None);
        }
    }
}
