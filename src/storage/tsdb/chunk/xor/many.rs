//! Many samples of a chunk at a time, several times as fast as one by one.
//!
//! Values are read from a register of bits into columns while the timestamps advance evenly,
//! the usual case; the timestamps of such a stretch are filled in behind it. What is rare (a
//! delta of deltas of 64 bits, the last bytes, what makes no sense) is left to the iterator,
//! which starts where this stopped: both read the same bits the same way.

use std::ops::ControlFlow;

use super::{XorIter, XorValue, signed};
use crate::model::TimestampMs;
use crate::vector::RawSamples;

/// The first bits of a sample whose timestamp is evenly spaced: `010` and above have another
/// value than the one before, `011` and above in a window of their own.
const CHANGED: u64 = 1 << 62;
const NEW_WINDOW: u64 = 3 << 61;
/// Bits before the significant ones, in the old window and in a new one.
const OLD_HEADER: u32 = 3;
const NEW_HEADER: u32 = 14;
/// Below this as a signed number: another pace, or at least four samples without change.
const UNUSUAL: i64 = 1 << 56;
/// Bits there are for certain behind a refill.
const REFILLED: u32 = 56;
/// What is left of a chunk is copied to where zeros follow once it is shorter than this.
const TAIL: usize = 16;

/// Bits in a register, the next one on top; bits behind those that count are as in the chunk.
#[derive(Clone, Copy)]
struct Register<'a> {
    bytes: &'a [u8],
    /// Next byte to load.
    next: usize,
    bits: u64,
    /// How many count.
    have: u32,
}

impl<'a> Register<'a> {
    /// None when fewer than eight bytes follow.
    fn at(bytes: &'a [u8], position: usize) -> Option<Self> {
        let mut register = Self { bytes, next: position / 8, bits: 0, have: 0 };
        register.refill().then(|| {
            register.take(position as u32 % 8);
            register
        })
    }

    /// Makes it `REFILLED` bits at least; false when the bytes do not suffice.
    #[inline(always)]
    fn refill(&mut self) -> bool {
        let rest = self.bytes.get(self.next..).and_then(|rest| rest.first_chunk::<8>());
        let Some(word) = rest else { return false };
        self.bits |= u64::from_be_bytes(*word) >> (self.have & 63);
        self.next += ((63 - self.have) >> 3) as usize;
        self.have |= REFILLED;
        true
    }

    #[inline(always)]
    fn take(&mut self, count: u32) {
        self.bits <<= count;
        self.have -= count;
    }

    fn position(&self) -> usize {
        self.next * 8 - self.have as usize
    }

    /// The `significant` bits, more than 32, behind a header, where the register is too short
    /// for both, and where it stands then; `None` when the bytes may not suffice.
    #[cold]
    fn long(mut self, header: u32, significant: u32) -> Option<(u64, Self)> {
        if self.have < header || self.bytes.len() < self.next + 24 {
            return None;
        }
        self.take(header);
        self.refill();
        let high = self.bits >> 32;
        self.take(32);
        self.refill();
        let low = significant - 32;
        let x = high << low | self.bits >> (64 - low);
        self.take(low);
        Some((x, self))
    }
}

/// Where reading stands between two samples, or between the two halves of one.
struct Stand {
    value: u64,
    leading: u32,
    significant: u32,
    ts: TimestampMs,
    delta: i64,
    /// Values read, and timestamps filled in.
    values: usize,
    filled: usize,
    /// The delta of a sample is read and a bit 0 put in its place; the value is not.
    half: bool,
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

    /// A timestamp that is not evenly spaced. Breaks on one that is left to the iterator,
    /// and says whether the register was long enough.
    #[inline(always)]
    fn change_pace(
        &mut self,
        register: &mut Register<'_>,
        ts: &mut [TimestampMs],
    ) -> ControlFlow<(), bool> {
        let (prefix, size) = match register.bits.leading_ones() {
            1 => (2, 14),
            2 => (3, 17),
            3 => (4, 20),
            _ => return ControlFlow::Break(()),
        };
        if register.have < prefix + size {
            return ControlFlow::Continue(false);
        }
        self.fill(ts);
        let field = register.bits << prefix >> (64 - size);
        self.delta = self.delta.wrapping_add(signed(field, size));
        register.take(prefix + size);
        register.bits >>= 1;
        register.have += 1;
        self.half = true;
        ControlFlow::Continue(register.have >= NEW_HEADER)
    }

    /// The bits of a value that differ from those of the last one. Breaks on what is left to
    /// the iterator; `None` when the register is too short.
    #[inline(always)]
    fn difference(&mut self, register: &mut Register<'_>) -> ControlFlow<(), Option<u64>> {
        let mut header = OLD_HEADER;
        if register.bits >= NEW_WINDOW {
            if register.have < NEW_HEADER {
                return ControlFlow::Continue(None);
            }
            let leading = (register.bits >> 56) as u32 & 31;
            let significant = match (register.bits >> 50) as u32 & 63 {
                0 => 64,
                n => n,
            };
            if leading + significant > 64 {
                return ControlFlow::Break(());
            }
            (self.leading, self.significant, header) = (leading, significant, NEW_HEADER);
        }
        let size = header + self.significant;
        let x = if size <= register.have {
            let x = register.bits << header >> (64 - self.significant);
            register.take(size);
            x
        } else if size <= REFILLED {
            return ControlFlow::Continue(None);
        } else {
            let Some((x, behind)) = register.long(header, self.significant) else {
                return ControlFlow::Break(());
            };
            *register = behind;
            x
        };
        ControlFlow::Continue(Some(x << (64 - self.significant - self.leading)))
    }

    /// Reads until the register is too short for the next sample. Breaks on what is left to
    /// the iterator.
    #[inline(always)]
    fn read_on(
        &mut self,
        register: &mut Register<'_>,
        ts: &mut [TimestampMs],
        vs: &mut [f64],
    ) -> ControlFlow<()> {
        while self.values < vs.len() && register.have >= NEW_HEADER {
            if (register.bits as i64) < UNUSUAL {
                if (register.bits as i64) < 0 {
                    if self.change_pace(register, ts)? {
                        continue;
                    }
                    break;
                }
                let run = unchanged(*register, self.value, &mut vs[self.values..]);
                register.take(2 * run);
                self.values += run as usize;
                self.half = false;
                break;
            }
            if register.bits >= CHANGED {
                let Some(x) = self.difference(register)? else { break };
                self.value ^= x;
            } else {
                register.take(2);
            }
            vs[self.values] = f64::from_bits(self.value);
            self.values += 1;
            self.half = false;
        }
        ControlFlow::Continue(())
    }
}

/// As many samples as are the same as the last one, as far as the register shows.
#[cold]
fn unchanged(register: Register<'_>, value: u64, out: &mut [f64]) -> u32 {
    let run = (register.bits.leading_zeros().min(register.have) / 2).min(out.len() as u32);
    out[..run as usize].fill(f64::from_bits(value));
    run
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
        let kept = begun + out.ts[begun..].partition_point(|ts| *ts <= to_ms);
        out.ts.truncate(kept);
        out.vs.truncate(kept);
        let early = begun + out.ts[begun..].partition_point(|ts| *ts < from_ms);
        out.ts.drain(begun..early);
        out.vs.drain(begun..early);
    }

    /// Fills both columns, which are equally long and no longer than what is left, from their
    /// beginning; returns how many samples it could read. Whoever wants the next one calls
    /// `next`, which also tells what is wrong.
    fn read_many(&mut self, ts: &mut [TimestampMs], vs: &mut [f64]) -> usize {
        let whole = self.bits.bytes();
        let mut read = 0;
        while read < vs.len() {
            let from = self.bits.position() / 8;
            let rest = whole.get(from..).unwrap_or_default();
            let mut tail = [0; 2 * TAIL];
            let last = rest.len() < TAIL;
            let bytes = if last {
                tail[..rest.len()].copy_from_slice(rest);
                &tail[..]
            } else {
                rest
            };
            let before = self.clone();
            let got = self.read_from(bytes, from, &mut ts[read..], &mut vs[read..]);
            if self.bits.overrun() {
                // What follows the last bytes was taken for samples: none of these count.
                *self = before;
                break;
            }
            read += got;
            if got == 0 || last || self.broken {
                break;
            }
        }
        read
    }

    /// Reads from `bytes`, which begin `from` bytes behind the beginning.
    fn read_from(
        &mut self,
        bytes: &[u8],
        from: usize,
        ts: &mut [TimestampMs],
        vs: &mut [f64],
    ) -> usize {
        let Some(mut register) = Register::at(bytes, self.bits.position() - from * 8) else {
            return 0;
        };
        let leading = u32::from(self.value.leading);
        let mut stand = Stand {
            value: self.value.bits,
            leading,
            significant: 64 - leading - u32::from(self.value.trailing),
            ts: self.ts,
            delta: self.delta as i64,
            values: 0,
            filled: 0,
            half: false,
        };
        while stand.values < vs.len() && register.refill() {
            if stand.read_on(&mut register, ts, vs).is_break() {
                break;
            }
        }
        stand.fill(ts);
        self.bits.go_to(from * 8 + register.position());
        self.left -= stand.values as u16;
        self.read += stand.values as u32;
        (self.ts, self.delta) = (stand.ts, stand.delta as u64);
        let trailing = (64 - stand.leading - stand.significant) as u8;
        self.value = XorValue { bits: stand.value, leading: stand.leading as u8, trailing };
        if !stand.half {
            return stand.values;
        }
        // Only the iterator knows how to end it.
        self.bits.skip(1);
        self.left -= 1;
        self.read += 1;
        self.ts = self.ts.wrapping_add(self.delta as i64);
        if self.value.read(&mut self.bits).is_none() {
            self.broken = true;
            self.left = 0;
            return stand.values;
        }
        ts[stand.values] = self.ts;
        vs[stand.values] = self.value.get();
        stand.values + 1
    }
}
