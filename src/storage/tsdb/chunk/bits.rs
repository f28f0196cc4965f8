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
    pub(crate) fn write(&mut self, value: u64, count: u32) {
        if count == 0 {
            return;
        }
        // What is above the bits falls off; zeros follow them.
        let bits = value << (64 - count);
        let free = self.free;
        if free > 0
            && let Some(last) = self.bytes.last_mut()
        {
            *last |= (bits >> (64 - free)) as u8;
        }
        let Some(left) = count.checked_sub(free) else {
            self.free -= count;
            return;
        };
        let bytes = (bits << free).to_be_bytes();
        let begun = left.div_ceil(8) as usize;
        // Eight bytes are written faster than some, but not worth growing for.
        if self.bytes.capacity() - self.bytes.len() >= bytes.len() {
            self.bytes.extend_from_slice(&bytes);
            self.bytes.truncate(self.bytes.len() - bytes.len() + begun);
        } else {
            self.bytes.extend_from_slice(&bytes[..begun]);
        }
        self.free = left.wrapping_neg() % 8;
    }

    /// Writes the low bits of one value and then of another, at once where they fit.
    #[inline]
    pub(crate) fn write_both(&mut self, first: u64, first_bits: u32, value: u64, count: u32) {
        if first_bits + count > 64 {
            self.write(first, first_bits);
            self.write(value, count);
        } else {
            let low = value & !(u64::MAX << count);
            self.write(first << count | low, first_bits + count);
        }
    }
}

/// Payload sizes of the bit-packed integers of histogram chunks, by the number of ones in
/// front: `0`, `10` + 3 bits, `110` + 6 and so on; the last two prefixes are eight bits long.
const VARBIT_SIZES: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Whether a signed number has a place in a field of so many bits. The field holds
/// `-(2^(n-1)-1) ..= 2^(n-1)`: one more above zero than two's complement would.
#[inline]
pub(crate) fn fits(v: i64, bits: u32) -> bool {
    bits == 64 || (v > -(1 << (bits - 1)) && v <= 1 << (bits - 1))
}

/// The signed number in a field of so many bits.
#[inline]
pub(crate) fn signed(field: u64, bits: u32) -> i64 {
    let wraps = bits < 64 && field > 1 << (bits - 1);
    if wraps { field as i64 - (1 << bits) } else { field as i64 }
}

impl BitWriter {
    /// Writes a signed number, shorter the closer it is to zero.
    pub(crate) fn varbit(&mut self, v: i64) {
        let class = (1..9).find(|class| fits(v, VARBIT_SIZES[*class])).unwrap_or(8);
        self.write_varbit(v as u64, if v == 0 { 0 } else { class });
    }

    /// Writes an unsigned number, shorter the smaller it is.
    pub(crate) fn uvarbit(&mut self, v: u64) {
        let bits = 64 - v.leading_zeros();
        let class = VARBIT_SIZES.iter().position(|size| bits <= *size).unwrap_or(8);
        self.write_varbit(v, class);
    }

    fn write_varbit(&mut self, v: u64, class: usize) {
        let ones = (1 << class) - 1;
        let (prefix, bits) = if class < 8 { (ones << 1, class as u32 + 1) } else { (ones, 8) };
        self.write_both(prefix, bits, v, VARBIT_SIZES[class]);
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

    /// Goes to behind so many bits.
    pub(crate) fn go_to(&mut self, position: usize) {
        self.at = position;
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bits used.
    pub(crate) fn position(&self) -> usize {
        self.at
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

    /// What `BitWriter::varbit` wrote; nonsense past the end.
    #[inline]
    pub(crate) fn varbit(&mut self) -> i64 {
        let (field, size) = self.varbit_field();
        if size == 0 { 0 } else { signed(field, size) }
    }

    /// What `BitWriter::uvarbit` wrote; nonsense past the end.
    #[inline]
    pub(crate) fn uvarbit(&mut self) -> u64 {
        self.varbit_field().0
    }

    #[inline]
    fn varbit_field(&mut self) -> (u64, u32) {
        let word = self.peek();
        let class = word.leading_ones().min(8);
        let size = VARBIT_SIZES[class as usize];
        let prefix = (class + 1).min(8);
        if size == 0 {
            self.skip(1);
            return (0, 0);
        }
        if prefix + size <= Self::PEEKED {
            self.skip(prefix + size);
            return (word << prefix >> (64 - size), size);
        }
        self.skip(prefix);
        (self.read(size), size)
    }

    /// Bits that are left; 0 past the end.
    pub(crate) fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    /// A LEB128 integer laid into the bit stream; `None` when it does not end in time.
    pub(crate) fn uvarint(&mut self) -> Option<u64> {
        let Some((value, size)) = short_uvarint(self.peek()) else { return self.long_uvarint() };
        self.skip(8 * size as u32);
        Some(value)
    }

    #[cold]
    fn long_uvarint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for n in 0..10 {
            let byte = self.read(8);
            value |= (byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

/// A LEB128 integer of up to seven bytes at the top of a word, and how many they are.
#[inline]
pub(crate) fn short_uvarint(word: u64) -> Option<(u64, usize)> {
    // The highest bit of the last byte is zero.
    let ends = !word & 0x8080_8080_8080_8000;
    if ends == 0 {
        return None;
    }
    let size = (ends.leading_zeros() + 8) & !7;
    let bytes = (word >> (64 - size)).swap_bytes() >> (64 - size);
    // Pairs of seven bits, then of fourteen, then of twenty-eight, move together.
    let pairs = |bits: u64, low: u64, gap: u32| bits & low | (bits & !low) >> gap;
    let sevens = bytes & 0x7f7f_7f7f_7f7f_7f7f;
    let fourteens = pairs(sevens, 0x007f_007f_007f_007f, 1);
    let value = pairs(pairs(fourteens, 0x0000_3fff_0000_3fff, 2), 0x0fff_ffff, 4);
    Some((value, size as usize / 8))
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
    use crate::storage::tsdb::encoding::Put;
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

        #[test]
        fn packed_integers_are_read(values in prop::collection::vec((any::<i64>(), 0u32..64), 0..200)) {
            let mut w = BitWriter::default();
            let values: Vec<i64> = values.iter().map(|(v, shift)| v >> shift).collect();
            for v in &values {
                w.varbit(*v);
                w.uvarbit(*v as u64);
            }
            let mut r = BitReader::new(w.bytes());
            for v in &values {
                prop_assert_eq!((r.varbit(), r.uvarbit()), (*v, *v as u64));
            }
            prop_assert!(!r.overrun() && r.left() < 8);
        }
    }

    proptest! {
        #[test]
        fn integers_of_bytes_are_read_wherever_they_begin(
            values in prop::collection::vec((any::<u64>(), 0u32..64, 1u32..8), 0..50),
        ) {
            let mut w = BitWriter::default();
            for (v, shift, gap) in &values {
                w.write(1, *gap);
                let mut bytes = Vec::new();
                bytes.put_uvarint(v >> shift);
                bytes.iter().for_each(|byte| w.write(u64::from(*byte), 8));
            }
            let mut r = BitReader::new(w.bytes());
            for (v, shift, gap) in &values {
                r.read(*gap);
                prop_assert_eq!(r.uvarint(), Some(v >> shift));
            }
            prop_assert!(!r.overrun() && r.left() < 8);
        }
    }

    #[test]
    fn integers_of_bytes_end_within_ten() {
        let mut endless = [0xff; 12];
        assert_eq!(BitReader::new(&endless).uvarint(), None);
        endless[9] = 1;
        assert_eq!(BitReader::new(&endless).uvarint(), Some(u64::MAX));
    }

    #[test]
    fn packed_integers_take_the_shortest_prefix_that_holds_them() {
        let check = |v: i64, signed_bits: usize, unsigned_bits: usize| {
            let mut w = BitWriter::default();
            w.varbit(v);
            assert_eq!(w.position(), signed_bits, "signed {v}");
            let mut w = BitWriter::default();
            w.uvarbit(v as u64);
            assert_eq!(w.position(), unsigned_bits, "unsigned {v}");
        };
        check(0, 1, 1);
        check(1, 5, 5);
        check(4, 5, 5);
        check(7, 9, 5);
        check(-3, 5, 72);
        check(-4, 9, 72);
        check(32, 9, 9);
        check(33, 13, 9);
        check(1 << 55, 64, 64);
        check((1 << 55) + 1, 72, 64);
        check(i64::MIN, 72, 72);
    }
}
