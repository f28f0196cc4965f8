//! Gorilla-compressed float samples in Prometheus' chunk encoding 1 (`XOR`).
//!
//! ```text
//! ┌──────────────┬────────────┬──────────┬──────────────┬────────────────┬─────────────────┬───┐
//! │ count 2B BE  │ t0 varint  │ v0 8B BE │ t1-t0 uvarint│ v1 xor bits    │ t2 dod, v2 xor  │...│
//! └──────────────┴────────────┴──────────┴──────────────┴────────────────┴─────────────────┴───┘
//! ```
//! From the second value on fields are bits, most significant first, without alignment.
//!
//! Delta of deltas `d` of timestamps, by the first prefix that fits:
//! `0` (d = 0), `10` + 14 bits, `110` + 17 bits, `1110` + 20 bits, `1111` + 64 bits.
//! An n-bit field holds `-(2^(n-1)-1) ..= 2^(n-1)`, so its top half means `d - 2^n`.
//!
//! Value bits `x = v ^ previous`: `0` (x = 0); `10` + the bits inside the previous window
//! of leading and trailing zeros; `11` + leading zeros (5 bits, capped at 31) + number of
//! significant bits (6 bits, 0 means 64) + those bits.

mod many;

use super::bits::{BitReader, BitWriter, fits, signed};
use crate::model::TimestampMs;
use crate::storage::tsdb::encoding::{Put, unzigzag};

/// Leading zeros that say "no window yet".
const NO_WINDOW: u8 = 0xff;

/// A float that is kept as the bits that changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct XorValue {
    /// Bits of the newest value.
    pub(crate) bits: u64,
    /// Zeros before and after the bits written last.
    leading: u8,
    trailing: u8,
}

impl XorValue {
    /// The first value of a chunk being written, which is written as it is.
    pub(crate) fn first(value: f64) -> Self {
        Self { bits: value.to_bits(), leading: NO_WINDOW, trailing: 0 }
    }

    /// For reading on from here, where a window that was never written is none.
    fn readable(self) -> Self {
        if self.leading == NO_WINDOW { Self { leading: 0, ..self } } else { self }
    }

    /// The first value of a chunk being read.
    pub(crate) fn read_first(reader: &mut BitReader<'_>) -> Self {
        Self { bits: reader.read(64), leading: 0, trailing: 0 }
    }

    pub(crate) fn get(self) -> f64 {
        f64::from_bits(self.bits)
    }

    pub(crate) fn write(&mut self, value: f64, out: &mut BitWriter) {
        let x = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if x == 0 {
            out.write(0, 1);
            return;
        }
        let leading = (x.leading_zeros() as u8).min(31);
        let trailing = x.trailing_zeros() as u8;
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            let significant = 64 - u32::from(self.leading) - u32::from(self.trailing);
            out.write_both(0b10, 2, x >> self.trailing, significant);
            return;
        }
        self.leading = leading;
        self.trailing = trailing;
        let significant = 64 - leading - trailing;
        // 64 significant bits need a seventh bit; as 0 never occurs, 0 stands for 64.
        let header = 0b11 << 11 | u64::from(leading) << 6 | u64::from(significant % 64);
        out.write_both(header, 13, x >> trailing, significant.into());
    }

    /// Reads the next value; `None` when the bits make no sense.
    #[inline]
    pub(crate) fn read(&mut self, reader: &mut BitReader<'_>) -> Option<()> {
        let word = reader.peek();
        self.read_from(reader, word, 0)
    }

    /// As `read`, where the bits lie in `word`, what `peek` showed, behind `used` others, at
    /// most one.
    #[inline]
    fn read_from(&mut self, reader: &mut BitReader<'_>, word: u64, used: u32) -> Option<()> {
        let word = word << used;
        if word >> 63 == 0 {
            reader.skip(used + 1);
            return Some(());
        }
        let mut header = 2;
        if word >> 62 & 1 == 1 {
            header = 13;
            self.leading = (word >> 57) as u8 & 0x1f;
            let significant = match (word >> 51) as u8 & 0x3f {
                0 => 64,
                n => n,
            };
            self.trailing = 64u8.checked_sub(self.leading + significant)?;
        }
        let significant = 64 - u32::from(self.leading) - u32::from(self.trailing);
        let x = if used + header + significant <= BitReader::PEEKED {
            reader.skip(used + header + significant);
            word << header >> (64 - significant)
        } else {
            reader.skip(used + header);
            reader.read(significant)
        };
        self.bits ^= x << self.trailing;
        Some(())
    }
}

/// Samples from one mark to the next.
const MARK_EVERY: u16 = 16;
/// Marks kept: together they reach back over the usual window of a rule, 20 samples.
const MARKS: usize = 3;
/// Room a chunk begins with.
const FIRST_BYTES: usize = 32;

/// A chunk being written.
#[derive(Clone, Debug)]
pub(crate) struct XorAppender {
    bits: BitWriter,
    count: u16,
    ts: TimestampMs,
    value: XorValue,
    delta: u64,
    /// The newest marks, in a ring. Made only once somebody reads: they take more memory than
    /// the samples of a value that never changes, as that of `ALERTS` a million times over.
    marks: Option<Box<[Mark; MARKS]>>,
}

/// A place in a chunk that is being written where reading may begin, behind some samples.
/// Rules look at the last minutes again and again: with marks they need not decode what
/// lies before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    /// Of the sample before.
    ts: TimestampMs,
    value: XorValue,
    delta: u64,
    /// Bits before.
    position: u32,
    /// Samples before; 0 for a mark that was never made.
    count: u16,
}

impl Default for XorAppender {
    fn default() -> Self {
        let mut bytes = Vec::with_capacity(FIRST_BYTES);
        bytes.extend_from_slice(&[0, 0]);
        Self {
            bits: BitWriter::after(bytes),
            count: 0,
            ts: 0,
            value: XorValue::default(),
            delta: 0,
            marks: None,
        }
    }
}

impl XorAppender {
    /// The chunk so far, complete after every `push`.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bits.bytes()
    }

    /// The bytes to read from and where in them, so that no sample at or after `from_ms` is
    /// missed; the mark is `None` for the whole chunk. The first reading makes the marks.
    pub(crate) fn bytes_from(&mut self, from_ms: TimestampMs) -> (&[u8], Option<Mark>) {
        if self.marks.is_none() {
            self.marks = Some(self.mark_all());
        }
        let marks = self.marks.iter().flat_map(|marks| marks.iter());
        let usable = marks.filter(|m| m.count > 0 && m.ts < from_ms);
        match usable.max_by_key(|m| m.count).copied() {
            None => (self.bytes(), None),
            Some(mark) => {
                let first = mark.position as usize / 8;
                let inside = Mark { position: mark.position % 8, ..mark };
                (&self.bytes()[first..], Some(inside))
            }
        }
    }

    /// The marks as they would be had there been readers all along.
    fn mark_all(&self) -> Box<[Mark; MARKS]> {
        let mut marks = Box::<[Mark; MARKS]>::default();
        let mut iter = XorIter::new(self.bytes());
        while iter.next().is_some() {
            let count = iter.read as u16;
            if count.is_multiple_of(MARK_EVERY) {
                marks[usize::from(count / MARK_EVERY) % MARKS] = Mark {
                    ts: iter.ts,
                    value: iter.value,
                    delta: iter.delta,
                    // The number of samples comes before what is read as bits.
                    position: 16 + iter.bits.position() as u32,
                    count,
                };
            }
        }
        marks
    }

    fn mark(&mut self) {
        let Some(marks) = &mut self.marks else { return };
        marks[usize::from(self.count / MARK_EVERY) % MARKS] = Mark {
            ts: self.ts,
            value: self.value,
            delta: self.delta,
            position: self.bits.position() as u32,
            count: self.count,
        };
    }

    /// Bytes allocated.
    pub(crate) fn capacity(&self) -> usize {
        self.bits.capacity() + self.marks.as_ref().map_or(0, |marks| size_of_val(&**marks))
    }

    /// Ends the chunk.
    pub(crate) fn finish(self) -> Box<[u8]> {
        self.bits.into_bytes().into_boxed_slice()
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Appends a sample; `ts` is after the previous one and the chunk holds fewer than
    /// 65,535 samples, both of which the head guarantees.
    pub(crate) fn push(&mut self, ts: TimestampMs, value: f64) {
        match self.count {
            0 => self.push_first(ts, value),
            1 => {
                self.delta = ts.wrapping_sub(self.ts) as u64;
                let mut delta = Vec::with_capacity(10);
                delta.put_uvarint(self.delta);
                for byte in delta {
                    self.bits.write(u64::from(byte), 8);
                }
                self.value.write(value, &mut self.bits);
            }
            _ => {
                let delta = ts.wrapping_sub(self.ts) as u64;
                self.push_delta_of_delta(delta.wrapping_sub(self.delta) as i64);
                self.delta = delta;
                self.value.write(value, &mut self.bits);
            }
        }
        self.ts = ts;
        self.count += 1;
        self.bits.bytes_mut()[..2].copy_from_slice(&self.count.to_be_bytes());
        if self.count.is_multiple_of(MARK_EVERY) {
            self.mark();
        }
    }

    fn push_first(&mut self, ts: TimestampMs, value: f64) {
        let mut first = Vec::with_capacity(10);
        first.put_varint(ts);
        for byte in first {
            self.bits.write(u64::from(byte), 8);
        }
        self.bits.write(value.to_bits(), 64);
        self.value = XorValue::first(value);
    }

    fn push_delta_of_delta(&mut self, d: i64) {
        if d == 0 {
            self.bits.write(0, 1);
        } else {
            let (prefix, prefix_bits, bits) = match d {
                d if fits(d, 14) => (0b10, 2, 14),
                d if fits(d, 17) => (0b110, 3, 17),
                d if fits(d, 20) => (0b1110, 4, 20),
                _ => (0b1111, 4, 64),
            };
            self.bits.write_both(prefix, prefix_bits, d as u64, bits);
        }
    }
}

/// The samples of a chunk in time order. Ends early when the bytes do: [`XorIter::broken`]
/// then tells.
#[derive(Clone, Debug)]
pub(crate) struct XorIter<'a> {
    bits: BitReader<'a>,
    left: u16,
    read: u32,
    ts: TimestampMs,
    value: XorValue,
    delta: u64,
    broken: bool,
}

impl<'a> XorIter<'a> {
    pub(crate) fn new(chunk: &'a [u8]) -> Self {
        let (count, rest, broken) = match chunk.split_first_chunk::<2>() {
            Some((count, rest)) => (u16::from_be_bytes(*count), rest, false),
            None => (0, &[][..], true),
        };
        Self {
            bits: BitReader::new(rest),
            left: count,
            read: 0,
            ts: 0,
            value: XorValue::default(),
            delta: 0,
            broken,
        }
    }

    /// Goes on behind a mark in the bytes it came with; `count` samples are in the chunk.
    pub(crate) fn resume(bytes: &'a [u8], mark: Mark, count: u16) -> Self {
        let mut bits = BitReader::new(bytes);
        if mark.position > 0 {
            let _ = bits.read(mark.position);
        }
        Self {
            bits,
            left: count.saturating_sub(mark.count),
            read: u32::from(mark.count),
            ts: mark.ts,
            value: mark.value.readable(),
            delta: mark.delta,
            broken: false,
        }
    }

    /// True when the bytes ended before the announced number of samples.
    pub(crate) fn broken(&self) -> bool {
        self.broken
    }

    /// Reads the first two samples; `None` when the bytes make no sense.
    fn begin(&mut self) -> Option<()> {
        if self.read == 0 {
            self.ts = unzigzag(self.bits.uvarint()?);
            self.value = XorValue::read_first(&mut self.bits);
            return Some(());
        }
        self.delta = self.bits.uvarint()?;
        self.ts = self.ts.wrapping_add(self.delta as i64);
        self.value.read(&mut self.bits)
    }

    /// Reads a later sample.
    #[inline]
    fn advance(&mut self) -> Option<()> {
        let word = self.bits.peek();
        // Without change, the usual case, the same look shows the value's bits.
        let prefix = word.leading_ones();
        if prefix == 0 {
            self.ts = self.ts.wrapping_add(self.delta as i64);
            return self.value.read_from(&mut self.bits, word, 1);
        }
        let (prefix, size) = match prefix {
            1 => (2, 14),
            2 => (3, 17),
            3 => (4, 20),
            _ => (4, 64),
        };
        self.bits.skip(prefix);
        let change = signed(self.bits.read(size), size);
        self.delta = self.delta.wrapping_add(change as u64);
        self.ts = self.ts.wrapping_add(self.delta as i64);
        self.value.read(&mut self.bits)
    }
}

impl Iterator for XorIter<'_> {
    type Item = (TimestampMs, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let advanced = if self.read < 2 { self.begin() } else { self.advance() };
        self.read += 1;
        if advanced.is_none() || self.bits.overrun() {
            self.broken = true;
            self.left = 0;
            return None;
        }
        Some((self.ts, self.value.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::RawSamples;
    use proptest::prelude::*;

    fn check(samples: &[(i64, f64)]) {
        check_read_after(samples, 0);
        check_read_after(samples, samples.len() / 3);
    }

    fn bits((ts, value): (i64, f64)) -> (i64, u64) {
        (ts, value.to_bits())
    }

    /// What reading many at a time gives, and whether the chunk is broken.
    fn many(mut iter: XorIter<'_>, from_ms: i64, to_ms: i64) -> (Vec<(i64, u64)>, bool) {
        // What was there before stays.
        let mut out = RawSamples { ts: vec![7], vs: vec![7.0], ..RawSamples::default() };
        iter.read_into(from_ms, to_ms, &mut out);
        assert_eq!((out.ts.remove(0), out.vs.remove(0)), (7, 7.0));
        (out.ts.into_iter().zip(out.vs).map(bits).collect(), iter.broken())
    }

    /// With a first reader after so many samples: from then on places are marked.
    fn check_read_after(samples: &[(i64, f64)], first_read: usize) {
        let mut appender = XorAppender::default();
        for (i, (ts, v)) in samples.iter().enumerate() {
            if i == first_read {
                appender.bytes_from(i64::MIN);
            }
            appender.push(*ts, *v);
        }
        assert_eq!(usize::from(appender.count()), samples.len());
        for (skipped, (from_ms, _)) in samples.iter().enumerate().step_by(1 + samples.len() / 16) {
            let count = appender.count();
            let (bytes, mark) = appender.bytes_from(*from_ms);
            let iter = match mark {
                Some(mark) => XorIter::resume(bytes, mark, count),
                None => XorIter::new(bytes),
            };
            let expected = samples[skipped..].iter().map(|(t, v)| (*t, v.to_bits()));
            assert!(
                iter.clone().map(bits).filter(|(t, _)| t >= from_ms).eq(expected.clone()),
                "from sample {skipped} on, {mark:?}"
            );
            for to_ms in [i64::MAX, samples[(skipped * 7 + 3) % samples.len()].0] {
                let (read, broken) = many(iter.clone(), *from_ms, to_ms);
                assert!(
                    expected.clone().filter(|(t, _)| *t <= to_ms).eq(read) && !broken,
                    "{skipped}"
                );
            }
        }
        let chunk = appender.finish();
        let mut iter = XorIter::new(&chunk);
        let read: Vec<_> = iter.by_ref().map(|(t, v)| (t, v.to_bits())).collect();
        let expected: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
        assert_eq!(read, expected);
        assert!(!iter.broken());
    }

    #[test]
    fn every_timestamp_field_width_round_trips_at_its_limits() {
        let deltas_of_deltas = [
            0,
            1,
            -1,
            8191,
            8192,
            8193,
            -8191,
            -8192,
            65535,
            65536,
            65537,
            -65535,
            -65536,
            524_287,
            524_288,
            524_289,
            -524_287,
            -524_288,
            1 << 40,
        ];
        for d in deltas_of_deltas {
            let step = 1 << 41;
            check(&[(-5, 1.0), (step, 1.5), (2 * step + 5 + d, f64::NAN), (4 * step, -0.0)]);
        }
    }

    #[test]
    fn a_known_chunk_has_prometheus_bytes() {
        let mut a = XorAppender::default();
        a.push(1, 1.0);
        a.push(2, 1.0);
        a.push(3, 1.0);
        // count 3, t0 = 1 (zig-zag 2), 1.0, delta 1, then the bits 0 (same), 0 (dod), 0 (same).
        let expected = [0, 3, 2, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(a.bytes(), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_samples_round_trip(
            start in -1_000_000_000_000i64..1_000_000_000_000,
            steps in prop::collection::vec((1i64..100_000_000, any::<u64>()), 0..240),
        ) {
            let mut ts = start;
            let samples: Vec<_> = steps
                .iter()
                .map(|(d, v)| { ts += d; (ts, f64::from_bits(*v)) })
                .collect();
            check(&samples);
        }

        /// As exporters have them: values that stay, grow or wander, at a pace that may change.
        #[test]
        fn usual_samples_round_trip(
            jitter in 0i64..20,
            scale in prop::sample::select(vec![1.0, 0.125, 0.01, 1e9]),
            steps in prop::collection::vec((any::<i64>(), 0u8..8, any::<u16>()), 1..240),
        ) {
            let (mut ts, mut value) = (1_700_000_000_000, 0.0);
            let samples: Vec<_> = steps
                .iter()
                .map(|(random, kind, by)| {
                    ts += 15_000 + if jitter > 0 { random.rem_euclid(jitter) } else { 0 };
                    match kind {
                        0..4 => {}
                        4..6 => value += f64::from(by % 50),
                        6 => value = f64::from(*by) * scale,
                        _ => value = f64::from_bits(*random as u64),
                    }
                    (ts, value)
                })
                .collect();
            check(&samples);
        }

        #[test]
        fn any_bytes_decode_the_same_one_by_one_and_many_at_a_time(
            bytes in prop::collection::vec(any::<u8>(), 0..1400),
            zeros in 0usize..40,
            interval in any::<(i64, i64)>(),
        ) {
            let bytes = [bytes, vec![0; zeros]].concat();
            let mut iter = XorIter::new(&bytes);
            let expected: Vec<_> = iter.by_ref().map(bits).collect();
            prop_assert!(expected.len() <= 65_535);
            let read = many(XorIter::new(&bytes), i64::MIN, i64::MAX);
            prop_assert_eq!(read, (expected, iter.broken()));
            many(XorIter::new(&bytes), interval.0, interval.1);
        }
    }
}
