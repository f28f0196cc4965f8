//! Many samples of a chunk at a time, several times as fast as one by one.
//!
//! A chunk's bits are looked at where they lie, in a copy of fixed size with zeros behind it,
//! so that a look needs no bounds and the next sample does not wait for the value of this one.
//! Values of a stretch of even timestamps come first, the usual case; its timestamps are
//! filled in behind it. What is rare (a delta of deltas of 64 bits, what makes no sense) is
//! left to the iterator, which starts where this stopped: both read the same bits the same
//! way.

use multiversion::multiversion;

use super::{XorIter, XorValue, signed};
use crate::model::TimestampMs;
use crate::vector::RawSamples;

/// The first three bits of an evenly spaced sample whose value changed within the old window,
/// and in a window of its own.
const OLD_WINDOW: u64 = 0b010;
const NEW_WINDOW: u64 = 0b011;
/// What three bits never are.
const NEVER: u64 = 0b1000;
/// From here on as a number, a sample's value is not the one before.
const CHANGED: u64 = OLD_WINDOW << 61;
/// Bits before the significant ones, in the old window and in a new one.
const OLD_HEADER: u32 = 3;
const NEW_HEADER: u32 = 14;
/// Bits of a word that are there whatever bit of a byte it begins with.
const SURE: u32 = 57;
/// More bits than a sample has that is not left to the iterator.
const SAMPLE_BITS: usize = 128;

/// Bytes copied in one go; a sample that begins before `PIECE_BITS` lies in them.
const PIECE: usize = 512;
const PIECE_BITS: usize = PIECE * 8 - SAMPLE_BITS;

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
    leading: u32,
    significant: u32,
}

impl Window {
    fn trailing(self) -> u32 {
        64 - self.leading - self.significant
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
        for slot in &mut ts[self.filled..self.values] {
            self.ts = self.ts.wrapping_add(self.delta);
            *slot = self.ts;
        }
        self.filled = self.values;
    }

    /// Reads the values of the old window that come next. Gives the first bits of what is
    /// something else; what is behind the end or too many is left to the caller to see.
    #[inline(always)]
    fn read_old_window(&mut self, piece: &Piece, end: usize, vs: &mut [f64]) -> u64 {
        let Self { mut position, mut value, mut values, window, .. } = *self;
        let fits = OLD_HEADER + window.significant <= SURE;
        let header = if fits { OLD_WINDOW } else { NEVER };
        let size = (OLD_HEADER + window.significant) as usize;
        let (unused, trailing) = (64 - window.significant, window.trailing());
        let mut bits = 0;
        // Two headers at a look, where a word shows two samples whole.
        if 2 * size <= SURE as usize {
            let both = |header: u64| header << 61 | header << (61 - size);
            for pair in vs[values..].chunks_exact_mut(2) {
                bits = word(piece, position);
                if bits & both(7) != both(OLD_WINDOW) || position + size >= end {
                    break;
                }
                let first = value ^ bits << OLD_HEADER >> unused << trailing;
                value = first ^ bits << size << OLD_HEADER >> unused << trailing;
                (pair[0], pair[1]) = (f64::from_bits(first), f64::from_bits(value));
                values += 2;
                position += 2 * size;
            }
        }
        for slot in &mut vs[values..] {
            bits = word(piece, position);
            if bits >> 61 != header || position >= end {
                break;
            }
            value ^= bits << OLD_HEADER >> unused << trailing;
            *slot = f64::from_bits(value);
            values += 1;
            position += size;
        }
        (self.position, self.value, self.values) = (position, value, values);
        bits
    }

    /// Reads a value whose sample has `bits` from the position on. False when they make no
    /// sense.
    #[inline(always)]
    fn read_value(&mut self, piece: &Piece, bits: u64) -> bool {
        if bits < CHANGED {
            self.position += 2;
            return true;
        }
        let mut header = OLD_HEADER;
        if bits >> 61 == NEW_WINDOW {
            let leading = (bits >> 56) as u32 & 31;
            // 64 is written as 0.
            let significant = ((bits >> 50) as u32).wrapping_sub(1) % 64 + 1;
            if leading + significant > 64 {
                return false;
            }
            (self.window, header) = (Window { leading, significant }, NEW_HEADER);
        }
        let significant = self.window.significant;
        let x = if header + significant <= SURE {
            bits << header >> (64 - significant)
        } else {
            let position = self.position + header as usize;
            let low = significant - 32;
            let high = word(piece, position) >> 32;
            high << low | word(piece, position + 32) >> (64 - low)
        };
        self.value ^= x << self.window.trailing();
        self.position += (header + significant) as usize;
        true
    }

    /// Reads the samples that come next and have a pace of their own. False when something is
    /// left to the iterator.
    #[inline(always)]
    fn read_uneven(
        &mut self,
        piece: &Piece,
        end: usize,
        ts: &mut [TimestampMs],
        vs: &mut [f64],
    ) -> bool {
        self.fill(ts);
        while self.values < vs.len() && self.position < end {
            let bits = word(piece, self.position);
            let (prefix, size) = match bits.leading_ones() {
                0 => break,
                1 => (2, 14),
                2 => (3, 17),
                3 => (4, 20),
                _ => return false,
            };
            // The value follows as behind the bit of an even pace.
            let mut next = Self { position: self.position + (prefix + size - 1) as usize, ..*self };
            let behind = word(piece, next.position) & (u64::MAX >> 1);
            if !next.read_value(piece, behind) {
                return false;
            }
            let change = signed(bits << prefix >> (64 - size), size);
            next.delta = self.delta.wrapping_add(change);
            next.ts = self.ts.wrapping_add(next.delta);
            ts[self.values] = next.ts;
            vs[self.values] = f64::from_bits(next.value);
            (next.values, next.filled) = (self.values + 1, self.values + 1);
            *self = next;
        }
        true
    }
}

/// Reads on until the columns are full or the end is reached; ends earlier at what is left to
/// the iterator. `end` is the number of bits that a sample may begin in.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt+movbe"))]
fn read_piece(
    stand: &mut Stand,
    piece: &Piece,
    end: usize,
    ts: &mut [TimestampMs],
    vs: &mut [f64],
) {
    while stand.values < vs.len() && stand.position < end {
        let bits = stand.read_old_window(piece, end, vs);
        if stand.values >= vs.len() || stand.position >= end {
            break;
        }
        if bits < CHANGED {
            // Two zeros for each sample without change.
            let run = (bits | 1 << (64 - SURE)).leading_zeros() as usize / 2;
            let run = run.min(vs.len() - stand.values);
            vs[stand.values..][..run].fill(f64::from_bits(stand.value));
            stand.values += run;
            stand.position += 2 * run;
        } else if bits >> 63 == 0 {
            if !stand.read_value(piece, bits) {
                break;
            }
            vs[stand.values] = f64::from_bits(stand.value);
            stand.values += 1;
        } else if !stand.read_uneven(piece, end, ts, vs) {
            break;
        }
    }
    stand.fill(ts);
}

impl XorIter<'_> {
    /// Appends the samples of the closed interval that are still to come to `out`, whose bytes
    /// can hold `most`. Ends behind the interval, at the end or where the bytes make no
    /// sense, which `broken` tells.
    pub(crate) fn read_into(
        &mut self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        most: usize,
        out: &mut RawSamples,
    ) {
        let begun = out.ts.len();
        while self.read < 2 {
            let Some((ts, value)) = self.next() else { break };
            out.push(ts, value);
        }
        while self.left > 0 && self.ts <= to_ms {
            // At an even pace these are all up to the end of the interval.
            let pace = (self.delta as i64).max(1);
            let wanted = (to_ms.saturating_sub(self.ts) / pace).saturating_add(1);
            let wanted = usize::try_from(wanted).unwrap_or(0).min(self.left.into()).min(most);
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

    /// Fills both columns, which are equally long and no longer than what is left, from their
    /// beginning; returns how many samples it could read. Whoever wants the next one calls
    /// `next`, which also tells what is wrong.
    fn read_many(&mut self, ts: &mut [TimestampMs], vs: &mut [f64]) -> usize {
        let whole = self.bits.bytes();
        let leading = u32::from(self.value.leading);
        let significant = 64 - leading - u32::from(self.value.trailing);
        let mut position = self.bits.position();
        let mut stand = Stand {
            position,
            value: self.value.bits,
            window: Window { leading, significant },
            ts: self.ts,
            delta: self.delta as i64,
            values: 0,
            filled: 0,
        };
        let mut piece: Piece = [0; PIECE + 8];
        loop {
            let from = position / 8;
            let rest = whole.get(from..).unwrap_or_default();
            let last = rest.len() <= PIECE;
            let there = rest.len().min(PIECE);
            piece[..there].copy_from_slice(&rest[..there]);
            if from > 0 && last {
                piece[there..].fill(0);
            }
            stand.position = position - from * 8;
            let before = stand;
            let end = if last { there * 8 } else { PIECE_BITS };
            read_piece(&mut stand, &piece, end, ts, vs);
            if last && stand.position > end {
                // What follows the last bytes was taken for samples: those that may reach
                // there are left to the iterator.
                stand = before;
                let end = end.saturating_sub(SAMPLE_BITS);
                read_piece(&mut stand, &piece, end, ts, vs);
            }
            position = from * 8 + stand.position;
            if last || stand.position < end || stand.values == vs.len() {
                break;
            }
        }
        self.bits.go_to(position);
        self.left -= stand.values as u16;
        self.read += stand.values as u32;
        (self.ts, self.delta) = (stand.ts, stand.delta as u64);
        let Window { leading, .. } = stand.window;
        let trailing = stand.window.trailing() as u8;
        self.value = XorValue { bits: stand.value, leading: leading as u8, trailing };
        stand.values
    }
}
