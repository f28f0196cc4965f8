//! Many samples of a chunk at a time, several times as fast as one by one.
//!
//! A chunk's bits are looked at where they lie, in a copy of fixed size with zeros behind it,
//! so that a look needs no bounds and the next sample does not wait for the value of this one.
//! Whether the bytes ended before the last sample is seen once, when all were read. Values of
//! a stretch of even timestamps come first, the usual case; its timestamps are filled in
//! behind it. What costs most is a branch that the processor guesses wrongly, so that what
//! comes in no order (one more sample of the old window, how long a value stays) is computed
//! without any. What is rare (a delta of deltas of 64 bits, what makes no sense) is left to
//! the iterator, which starts where this stopped: both read the same bits the same way.

use std::hint::select_unpredictable;

use multiversion::multiversion;

use super::{XorIter, XorValue, signed};
use crate::model::TimestampMs;
use crate::storage::tsdb::chunk::bits::short_uvarint;
use crate::storage::tsdb::encoding::unzigzag;
use crate::vector::RawSamples;

/// The first three bits of an evenly spaced sample whose value changed within the old window,
/// and how many they are.
const OLD_WINDOW: u64 = 0b010;
const OLD_HEADER: usize = 3;
/// From here on as a number, a sample's value is not the one before, and from there on its
/// timestamp is not even.
const CHANGED: u64 = OLD_WINDOW << 61;
const UNEVEN: u64 = 1 << 63;
/// Bits of a word that are there whatever bit of a byte it begins with.
const SURE: usize = 57;
/// Values that stay, two bits each, which one look shows.
const STAYING: usize = SURE / 2;
/// As many are written at once when there are no more.
const FEW: usize = 8;
/// More bits than a sample has that is not left to the iterator.
const SAMPLE_BITS: usize = 128;

/// Samples that memory is taken for before they are read: what is broken may announce more than
/// there are.
const AT_ONCE: usize = 1024;
/// Bytes copied in one go: all that a chunk of Prometheus may have.
const PIECE: usize = 1024;

/// Part of a chunk, and zeros where it ends.
type Piece = [u8; PIECE + 8];

/// The bits from `position` on, the first one on top: `SURE` of them.
#[inline(always)]
fn word(piece: &Piece, position: usize) -> u64 {
    // The remainder changes nothing; it spares the look whether the byte is there.
    let bytes = piece[position / 8 % PIECE..].first_chunk().map_or([0; 8], |bytes| *bytes);
    u64::from_be_bytes(bytes) << (position % 8)
}

/// Which bits of a value may differ from those of the one before.
#[derive(Clone, Copy)]
struct Window {
    /// 64 less those bits.
    unused: u32,
    /// Bits behind them.
    trailing: u32,
}

impl Window {
    /// The window of a value that begins with `bits`. `None` when they make no sense.
    #[inline(always)]
    fn read(bits: u64) -> Option<Self> {
        // 64 significant bits are written as 0.
        let unused = ((bits >> 51) as u32).wrapping_neg() % 64;
        let leading = (bits >> 57) as u32 % 32;
        Some(Self { unused, trailing: unused.checked_sub(leading)? })
    }

    /// The newest value as the iterator has it.
    fn as_left(self, bits: u64) -> XorValue {
        let leading = (self.unused - self.trailing) as u8;
        XorValue { bits, leading, trailing: self.trailing as u8 }
    }

    fn significant(self) -> usize {
        64 - self.unused as usize
    }

    /// The bits that differ, which begin where `bits` begins.
    #[inline(always)]
    fn place(self, bits: u64) -> u64 {
        bits >> self.unused << self.trailing
    }

    /// As `place`, however many they are.
    #[inline(always)]
    fn place_at(self, piece: &Piece, position: usize) -> u64 {
        if self.significant() <= SURE {
            return self.place(word(piece, position));
        }
        let low = 32 - self.unused;
        let high = word(piece, position) >> 32 << low;
        (high | word(piece, position + 32) >> (64 - low)) << self.trailing
    }
}

/// Where reading stands between two samples.
#[derive(Clone, Copy)]
struct Stand {
    /// Bits read.
    position: usize,
    value: u64,
    window: Window,
    ts: TimestampMs,
    delta: i64,
    /// Values read, and timestamps filled in.
    values: usize,
    filled: usize,
}

impl Stand {
    #[inline(always)]
    fn fill(&mut self, ts: &mut [TimestampMs]) {
        let after = |ts: i64, steps: usize| ts.wrapping_add(self.delta.wrapping_mul(steps as i64));
        let slots = &mut ts[self.filled..self.values];
        let count = slots.len();
        let mut next: [_; 8] = std::array::from_fn(|i| after(self.ts, i + 1));
        let (eights, rest) = slots.as_chunks_mut();
        for eight in eights {
            *eight = next;
            next = next.map(|ts| after(ts, 8));
        }
        rest.copy_from_slice(&next[..rest.len()]);
        self.ts = after(self.ts, count);
        self.filled = self.values;
    }

    /// Goes on to behind a value; the slot may be the last one.
    #[inline(always)]
    fn push(&mut self, vs: &mut [f64], size: usize) {
        vs[self.values] = f64::from_bits(self.value);
        self.values += 1;
        self.position += size;
    }

    /// Reads the value that begins with `bits`, at `position`; gives how many bits it has.
    #[inline(always)]
    fn read_value(&mut self, piece: &Piece, bits: u64, position: usize) -> Option<usize> {
        let mut header = 2;
        if bits >> 62 == 0b11 {
            (self.window, header) = (Window::read(bits)?, 13);
        } else if bits >> 63 == 0 {
            return Some(1);
        }
        self.value ^= self.window.place_at(piece, position + header);
        Some(header + self.window.significant())
    }

    /// Reads values at an even pace, up to the end of `vs`. False at what is left to the
    /// iterator.
    #[inline(always)]
    fn read_even(&mut self, piece: &Piece, vs: &mut [f64]) -> bool {
        while self.values < vs.len() {
            let size = OLD_HEADER + self.window.significant();
            let bits = if 2 * size <= SURE {
                self.read_pairs(piece, vs)
            } else {
                self.read_wide(piece, vs)
            };
            if self.values == vs.len() {
                break;
            }
            if bits < CHANGED {
                self.read_staying(piece, vs);
            } else if bits < UNEVEN {
                let Some(size) = self.read_value(piece, bits << 1, self.position + 1) else {
                    return false;
                };
                self.push(vs, 1 + size);
            } else {
                break;
            }
        }
        true
    }

    /// Reads the values of the old window that come next, two at a look, which shows both
    /// whole. Gives the first bits of what follows, unless it is the end.
    #[inline(always)]
    fn read_pairs(&mut self, piece: &Piece, vs: &mut [f64]) -> u64 {
        let Self { mut position, mut value, mut values, window, .. } = *self;
        let size = OLD_HEADER + window.significant();
        let both = |header: u64| header << 61 | header << (61 - size);
        let (mask, wanted, last) = (both(0b111), both(OLD_WINDOW), vs.len() - 1);
        let mut bits;
        loop {
            bits = word(piece, position);
            if bits & mask != wanted || values >= last {
                break;
            }
            let first = value ^ window.place(bits << OLD_HEADER);
            value = first ^ window.place(bits << size << OLD_HEADER);
            vs[values] = f64::from_bits(first);
            vs[values + 1] = f64::from_bits(value);
            values += 2;
            position += 2 * size;
        }
        if values <= last {
            // The first one may be of the old window even so.
            let is_old = bits >> 61 == OLD_WINDOW;
            value ^= select_unpredictable(is_old, window.place(bits << OLD_HEADER), 0);
            vs[values] = f64::from_bits(value);
            let size = select_unpredictable(is_old, size, 0);
            values += usize::from(is_old);
            position += size;
            bits <<= size;
        }
        (self.position, self.value, self.values) = (position, value, values);
        bits
    }

    /// As `read_pairs`, one by one.
    #[inline(always)]
    fn read_wide(&mut self, piece: &Piece, vs: &mut [f64]) -> u64 {
        let Self { mut position, mut value, mut values, window, .. } = *self;
        let mut bits = 0;
        for slot in &mut vs[values..] {
            bits = word(piece, position);
            if bits >> 61 != OLD_WINDOW {
                break;
            }
            value ^= window.place_at(piece, position + OLD_HEADER);
            *slot = f64::from_bits(value);
            values += 1;
            position += OLD_HEADER + window.significant();
        }
        (self.position, self.value, self.values) = (position, value, values);
        bits
    }

    /// Reads values that stay: as many as one look shows.
    #[inline(always)]
    fn read_staying(&mut self, piece: &Piece, vs: &mut [f64]) {
        let bits = word(piece, self.position) | 1 << (64 - SURE);
        let count = bits.leading_zeros() as usize / 2;
        let value = f64::from_bits(self.value);
        let slots = &mut vs[self.values..];
        let count = count.min(slots.len());
        // A fixed number is written, which costs less than a wrong guess of how many they are.
        if count > FEW
            && let Some(slots) = slots.first_chunk_mut()
        {
            *slots = [value; STAYING];
        } else if let Some(slots) = slots.first_chunk_mut()
            && count <= FEW
        {
            *slots = [value; FEW];
        } else {
            slots[..count].fill(value);
        }
        self.values += count;
        self.position += 2 * count;
    }

    /// Reads samples whose pace changes, until it no longer does. False at what is left to the
    /// iterator.
    #[inline(always)]
    fn read_uneven(&mut self, piece: &Piece, ts: &mut [TimestampMs], vs: &mut [f64]) -> bool {
        self.fill(ts);
        let mut even = 0;
        while self.values < vs.len() {
            let bits = word(piece, self.position);
            let is_even = bits < UNEVEN;
            even = if is_even { even + 1 } else { 0 };
            if even == FEW {
                break;
            }
            let (prefix, change) = if bits >> 62 != 0b11 {
                let change = signed(bits << 2 >> 50, 14);
                (select_unpredictable(is_even, 1, 16), select_unpredictable(is_even, 0, change))
            } else {
                match bits.leading_ones() {
                    2 => (20, signed(bits << 3 >> 47, 17)),
                    3 => (24, signed(bits << 4 >> 44, 20)),
                    _ => return false,
                }
            };
            let bits = bits << prefix;
            let Some(size) = self.read_value(piece, bits, self.position + prefix) else {
                return false;
            };
            self.delta = self.delta.wrapping_add(change);
            self.ts = self.ts.wrapping_add(self.delta);
            ts[self.values] = self.ts;
            self.push(vs, prefix + size);
            self.filled = self.values;
        }
        true
    }
}

/// Reads on until the columns are full; ends earlier at what is left to the iterator.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt+movbe"))]
fn read_piece(stand: &mut Stand, piece: &Piece, ts: &mut [TimestampMs], vs: &mut [f64]) {
    let mut here = *stand;
    while here.values < vs.len() && here.read_even(piece, vs) && here.read_uneven(piece, ts, vs) {}
    here.fill(ts);
    *stand = here;
}

impl XorIter<'_> {
    /// Appends the samples of the closed interval that are still to come to `out`. Ends behind
    /// the interval, at the end or where the bytes make no sense, which `broken` tells.
    pub(crate) fn read_into(
        &mut self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) {
        let begun = out.ts.len();
        if let Some((ts, vs)) = self.first_two() {
            out.ts.extend_from_slice(&ts);
            out.vs.extend_from_slice(&vs);
        }
        while self.read < 2 {
            let Some((ts, value)) = self.next() else { break };
            out.push(ts, value);
        }
        while self.left > 0 && self.ts <= to_ms {
            let wanted = self.count_to(to_ms).min(AT_ONCE);
            let first = out.ts.len();
            out.ts.resize(first + wanted, 0);
            out.vs.resize(first + wanted, 0.0);
            let read = self.read_many(&mut out.ts[first..], &mut out.vs[first..]);
            out.ts.truncate(first + read);
            out.vs.truncate(first + read);
            if (read < wanted || wanted == 0) && self.ts <= to_ms {
                let Some((ts, value)) = self.next() else { break };
                out.push(ts, value);
            }
        }
        if out.ts.last().is_some_and(|last| *last > to_ms) {
            let kept = begun + out.ts[begun..].partition_point(|ts| *ts <= to_ms);
            out.ts.truncate(kept);
            out.vs.truncate(kept);
        }
        if out.ts.get(begun).is_some_and(|first| *first < from_ms) {
            let early = begun + out.ts[begun..].partition_point(|ts| *ts < from_ms);
            out.ts.drain(begun..early);
            out.vs.drain(begun..early);
        }
    }

    /// The first two samples of a chunk, as they usually are: those of a few dozen bytes, and
    /// of times and values that are not out of all bounds.
    fn first_two(&mut self) -> Option<([TimestampMs; 2], [f64; 2])> {
        if self.read > 0 || self.left < 2 {
            return None;
        }
        let head: &[u8; 32] = self.bits.bytes().first_chunk()?;
        let at = |byte: usize| {
            let bytes = head.get(byte..).and_then(|bytes| bytes.first_chunk());
            u64::from_be_bytes(bytes.map_or([0; 8], |bytes| *bytes))
        };
        let (first_ts, ts_bytes) = short_uvarint(at(0))?;
        let (delta, delta_bytes) = short_uvarint(at(ts_bytes + 8))?;
        let value_at = ts_bytes + 8 + delta_bytes;
        let bits = at(value_at);
        let (mut window, mut change, mut size) = (Window { unused: 0, trailing: 0 }, 0, 1);
        if bits >> 63 == 1 {
            window = Window::read(bits)?;
            // From the byte where they begin on, 59 bits are there.
            if bits >> 62 != 0b11 || window.unused < 5 {
                return None;
            }
            change = window.place(at(value_at + 1) << 5);
            size = 13 + window.significant();
        }
        let (ts, value) = (unzigzag(first_ts), at(ts_bytes));
        self.bits.go_to(value_at * 8 + size);
        (self.read, self.left) = (2, self.left - 2);
        (self.ts, self.delta) = (ts.wrapping_add(delta as i64), delta);
        self.value = window.as_left(value ^ change);
        Some(([ts, self.ts], [f64::from_bits(value), f64::from_bits(self.value.bits)]))
    }

    /// How many samples come up to the end of an interval, and one more, at an even pace.
    fn count_to(&self, to_ms: TimestampMs) -> usize {
        let (left, pace) = (usize::from(self.left), (self.delta as i64).max(1));
        let room = to_ms.saturating_sub(self.ts);
        // To divide takes longer than to read some samples.
        if room >= pace.saturating_mul(i64::from(self.left)) {
            return left;
        }
        usize::try_from((room / pace).saturating_add(1)).unwrap_or(0).min(left)
    }

    /// Fills both columns, which are equally long and no longer than what is left, from their
    /// beginning; returns how many samples it could read. Whoever wants the next one calls
    /// `next`, which also tells what is wrong.
    fn read_many(&mut self, ts: &mut [TimestampMs], vs: &mut [f64]) -> usize {
        let whole = self.bits.bytes();
        let trailing = u32::from(self.value.trailing);
        let unused = u32::from(self.value.leading) + trailing;
        let mut position = self.bits.position();
        let mut stand = Stand {
            position,
            value: self.value.bits,
            window: Window { unused, trailing },
            ts: self.ts,
            delta: self.delta as i64,
            values: 0,
            filled: 0,
        };
        loop {
            let mut piece: Piece = [0; PIECE + 8];
            let from = position / 8;
            let rest = whole.get(from..).unwrap_or_default();
            let last = rest.len() <= PIECE;
            let there = rest.len().min(PIECE);
            piece[..there].copy_from_slice(&rest[..there]);
            stand.position = position - from * 8;
            let before = stand;
            let sure = stand.values + (PIECE * 8 - stand.position) / SAMPLE_BITS;
            let end = if last { vs.len() } else { vs.len().min(sure) };
            read_piece(&mut stand, &piece, &mut ts[..end], &mut vs[..end]);
            if last && stand.position > there * 8 {
                // What follows the last bytes was taken for samples: those that may reach
                // there are left to the iterator.
                stand = before;
                let sure = stand.values + (there * 8).saturating_sub(stand.position) / SAMPLE_BITS;
                let end = end.min(sure);
                read_piece(&mut stand, &piece, &mut ts[..end], &mut vs[..end]);
            }
            position = from * 8 + stand.position;
            if last || stand.values < end || stand.values == vs.len() {
                break;
            }
        }
        self.bits.go_to(position);
        self.left -= stand.values as u16;
        self.read += stand.values as u32;
        (self.ts, self.delta) = (stand.ts, stand.delta as u64);
        self.value = stand.window.as_left(stand.value);
        stand.values
    }
}
