//! Native histograms in Prometheus' chunk encodings 2 (integer counts) and 3 (float counts).
//!
//! ```text
//! ┌──────────────┬──────────┬─────────────────┬─────────────┬─────────────┬───┐
//! │ count 2B BE  │ flags 1B │ layout          │ histogram 0 │ histogram 1 │...│
//! └──────────────┴──────────┴─────────────────┴─────────────┴─────────────┴───┘
//! ```
//! The two top bits of the flags say how the chunk follows what was before it. From the
//! layout on (`layout.rs`) everything is bits. A histogram is its time, count, zero count,
//! sum, positive and negative buckets:
//!
//! - times, and with integer counts also counts and buckets, are signed integers: the first
//!   time as it is, later ones by how much the step from the one before changed. Buckets are
//!   differences from the bucket to their left; the first counts are unsigned.
//! - sums, and with float counts also counts and buckets, are floats: the first 8B, later
//!   ones by the bits that changed, each with a window of its own (`xor.rs`).
//!
//! A staleness marker has the marker as its sum and no buckets; only markers follow it.
//! A histogram is read as "no reset" where it follows another one in its chunk, since a
//! reset begins a new chunk, and with an unknown hint where it is the first.

mod layout;

use std::sync::Arc;

use self::layout::{Layout, bucket_count};
use super::bits::{BitReader, BitWriter};
use super::xor::XorValue;
use super::{Encoding, corrupt};
use crate::model::TimestampMs;
use crate::model::histogram::{CounterResetHint, FloatHistogram, Succession, merged_spans, respan};
use crate::model::value::is_stale_nan;
use crate::storage::StorageError;
use crate::vector::RawSamples;

/// Bytes before the layout.
const HEADER_BYTES: usize = 3;
/// Counts from here on are not exact in a float.
const EXACT_MAX: f64 = (1u64 << 53) as f64;

/// How a chunk follows what was before it; the top bits of its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    Unknown = 0,
    NotReset = 0b01 << 6,
    Reset = 0b10 << 6,
    /// All histograms of the chunk are gauges.
    Gauge = 0b11 << 6,
}

impl Follows {
    fn of(flags: u8) -> Self {
        match flags >> 6 {
            0 => Self::Unknown,
            1 => Self::NotReset,
            2 => Self::Reset,
            _ => Self::Gauge,
        }
    }
}

/// An integer that is kept by how much its growth changed.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    value: i64,
    delta: i64,
}

impl Steps {
    fn first(value: i64) -> Self {
        Self { value, delta: 0 }
    }

    fn write(&mut self, value: i64, out: &mut BitWriter) {
        let delta = value.wrapping_sub(self.value);
        out.varbit(delta.wrapping_sub(self.delta));
        *self = Self { value, delta };
    }

    fn read(&mut self, reader: &mut BitReader<'_>) {
        self.delta = self.delta.wrapping_add(reader.varbit());
        self.value = self.value.wrapping_add(self.delta);
    }
}

/// What the last histogram held: count, zero count, positive and negative buckets.
#[derive(Clone, Debug)]
enum Counts {
    Integer { totals: [Steps; 2], buckets: Vec<Steps> },
    Float { totals: [XorValue; 2], buckets: Vec<XorValue> },
}

/// The counts of a histogram as a layout has them.
struct Given {
    totals: [f64; 2],
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Given {
    /// A staleness marker has none.
    fn new(h: &FloatHistogram, layout: &Layout) -> Self {
        if is_stale_nan(h.sum) {
            return Self { totals: [0.0; 2], positive: Vec::new(), negative: Vec::new() };
        }
        Self {
            totals: [h.count, h.zero_count],
            positive: respan(&h.positive_spans, &h.positive_buckets, &layout.positive),
            negative: respan(&h.negative_spans, &h.negative_buckets, &layout.negative),
        }
    }

    fn floats(&self) -> impl Iterator<Item = f64> {
        self.positive.iter().chain(&self.negative).copied()
    }

    /// Buckets as differences from their left neighbours.
    fn differences(&self) -> impl Iterator<Item = i64> {
        [&self.positive, &self.negative].into_iter().flat_map(|side| {
            side.iter().scan(0i64, |before, count| {
                let difference = (*count as i64).wrapping_sub(*before);
                *before = *count as i64;
                Some(difference)
            })
        })
    }
}

/// True when every count is a whole number that an integer and a float both hold exactly.
fn is_whole(h: &FloatHistogram) -> bool {
    let whole = |v: &f64| (0.0..EXACT_MAX).contains(v) && v.trunc() == *v && v.is_sign_positive();
    [h.count, h.zero_count].iter().all(whole)
        && h.positive_buckets.iter().chain(&h.negative_buckets).all(whole)
}

/// A chunk of histograms being written.
#[derive(Clone, Debug)]
pub(crate) struct HistogramAppender {
    bits: BitWriter,
    count: u16,
    layout: Layout,
    ts: Steps,
    sum: XorValue,
    counts: Counts,
    last: Arc<FloatHistogram>,
}

impl HistogramAppender {
    /// Begins a chunk. Counts are integers where `integer` allows it and they are whole.
    pub(crate) fn begin(
        ts: TimestampMs,
        h: &Arc<FloatHistogram>,
        follows: Follows,
        integer: bool,
    ) -> Self {
        let stale = is_stale_nan(h.sum);
        let layout = if stale { Layout::default() } else { Layout::of(h) };
        let gauge = h.counter_reset_hint == CounterResetHint::Gauge;
        let follows = if gauge { Follows::Gauge } else { follows };
        let integer = integer && (stale || is_whole(h));
        Self::start(ts, h, layout, follows, integer)
    }

    fn start(
        ts: TimestampMs,
        h: &Arc<FloatHistogram>,
        layout: Layout,
        follows: Follows,
        integer: bool,
    ) -> Self {
        let mut bits = BitWriter::after(vec![0, 1, follows as u8]);
        layout.write(&mut bits);
        bits.varbit(ts);
        let given = Given::new(h, &layout);
        let counts = if integer {
            for total in given.totals {
                bits.uvarbit(total as u64);
            }
            bits.write(h.sum.to_bits(), 64);
            given.differences().for_each(|d| bits.varbit(d));
            Counts::Integer {
                totals: given.totals.map(|total| Steps::first(total as i64)),
                buckets: given.differences().map(Steps::first).collect(),
            }
        } else {
            for v in given.totals.into_iter().chain([h.sum]).chain(given.floats()) {
                bits.write(v.to_bits(), 64);
            }
            Counts::Float {
                totals: given.totals.map(XorValue::first),
                buckets: given.floats().map(XorValue::first).collect(),
            }
        };
        let sum = XorValue::first(h.sum);
        let last = Arc::clone(h);
        Self { bits, count: 1, layout, ts: Steps::first(ts), sum, counts, last }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        match self.counts {
            Counts::Integer { .. } => Encoding::Histogram,
            Counts::Float { .. } => Encoding::FloatHistogram,
        }
    }

    /// The chunk so far, complete after every `push`.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bits.bytes()
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Bytes allocated.
    pub(crate) fn capacity(&self) -> usize {
        let counts = match &self.counts {
            Counts::Integer { buckets, .. } => buckets.capacity() * size_of::<Steps>(),
            Counts::Float { buckets, .. } => buckets.capacity() * size_of::<XorValue>(),
        };
        self.bits.capacity() + self.layout.size_bytes() + counts
    }

    /// Ends the chunk.
    pub(crate) fn finish(self) -> Box<[u8]> {
        self.bits.into_bytes().into_boxed_slice()
    }

    /// The newest histogram, as it is read.
    pub(crate) fn newest(&self) -> Arc<FloatHistogram> {
        let gauge = self.last.counter_reset_hint == CounterResetHint::Gauge;
        let mut newest = Arc::clone(&self.last);
        let hint = hint(gauge, self.count);
        if newest.counter_reset_hint != hint {
            Arc::make_mut(&mut newest).counter_reset_hint = hint;
        }
        newest
    }

    /// How a chunk that begins with `h` follows this one, which is full.
    pub(crate) fn followed_by(&self, h: &FloatHistogram) -> Follows {
        match h.succession(&self.last) {
            Succession::Reset => Follows::Reset,
            Succession::Continues | Succession::Apart => Follows::NotReset,
        }
    }

    /// Appends a histogram, whose time is after the last one's. Where it can only begin a
    /// new chunk, says how that follows this one and appends nothing.
    ///
    /// New buckets change the layout: the chunk is written anew with it.
    pub(crate) fn push(&mut self, ts: TimestampMs, h: &Arc<FloatHistogram>) -> Result<(), Follows> {
        match h.succession(&self.last) {
            Succession::Reset => return Err(Follows::Reset),
            Succession::Apart => return Err(Follows::Unknown),
            Succession::Continues => {}
        }
        if !is_stale_nan(h.sum) {
            if self.encoding() == Encoding::Histogram && !is_whole(h) {
                return Err(Follows::NotReset);
            }
            // Mostly the spans are those of the one before.
            let layout = &self.layout;
            if h.positive_spans != layout.positive || h.negative_spans != layout.negative {
                let positive = merged_spans(&layout.positive, &h.positive_spans);
                let negative = merged_spans(&layout.negative, &h.negative_spans);
                if bucket_count(&positive) > layout.positive_count()
                    || bucket_count(&negative) > layout.negative_count()
                {
                    self.rewrite(Layout { positive, negative, ..layout.clone() });
                }
            }
        }
        self.push_known(ts, h);
        Ok(())
    }

    fn rewrite(&mut self, layout: Layout) {
        let follows = Follows::of(self.bits.bytes()[2]);
        let integer = self.encoding() == Encoding::Histogram;
        let mut samples = HistogramIter::new(self.bytes(), self.encoding());
        let mut rewritten: Option<Self> = None;
        while let Some(ts) = samples.advance() {
            let h = Arc::new(samples.current());
            match &mut rewritten {
                None => rewritten = Some(Self::start(ts, &h, layout.clone(), follows, integer)),
                Some(chunk) => chunk.push_known(ts, &h),
            }
        }
        if let Some(rewritten) = rewritten {
            *self = Self { last: Arc::clone(&self.last), ..rewritten };
        }
    }

    /// Appends what the layout has every bucket of.
    fn push_known(&mut self, ts: TimestampMs, h: &Arc<FloatHistogram>) {
        let given = Given::new(h, &self.layout);
        let bits = &mut self.bits;
        self.ts.write(ts, bits);
        match &mut self.counts {
            Counts::Integer { totals, buckets } => {
                for (held, new) in totals.iter_mut().zip(given.totals) {
                    if is_stale_nan(h.sum) {
                        bits.varbit(0);
                    } else {
                        held.write(new as i64, bits);
                    }
                }
                self.sum.write(h.sum, bits);
                for (held, new) in buckets.iter_mut().zip(given.differences()) {
                    held.write(new, bits);
                }
            }
            Counts::Float { totals, buckets } => {
                for (held, new) in totals.iter_mut().zip(given.totals) {
                    held.write(new, bits);
                }
                self.sum.write(h.sum, bits);
                for (held, new) in buckets.iter_mut().zip(given.floats()) {
                    held.write(new, bits);
                }
            }
        }
        self.last = Arc::clone(h);
        self.count += 1;
        self.bits.bytes_mut()[..2].copy_from_slice(&self.count.to_be_bytes());
    }
}

/// The histograms of a chunk in time order. Ends early when the bytes do:
/// [`HistogramIter::broken`] then tells.
#[derive(Clone, Debug)]
pub(crate) struct HistogramIter<'a> {
    bits: BitReader<'a>,
    gauge: bool,
    left: u16,
    read: u16,
    layout: Layout,
    ts: Steps,
    sum: XorValue,
    counts: Counts,
    broken: bool,
}

impl<'a> HistogramIter<'a> {
    pub(crate) fn new(chunk: &'a [u8], encoding: Encoding) -> Self {
        let (left, flags, rest) = match chunk.split_first_chunk::<HEADER_BYTES>() {
            Some(([high, low, flags], rest)) => (u16::from_be_bytes([*high, *low]), *flags, rest),
            None => (0, 0, &[][..]),
        };
        let counts = match encoding {
            Encoding::Histogram => {
                Counts::Integer { totals: Default::default(), buckets: Vec::new() }
            }
            _ => Counts::Float { totals: Default::default(), buckets: Vec::new() },
        };
        Self {
            bits: BitReader::new(rest),
            gauge: Follows::of(flags) == Follows::Gauge,
            left,
            read: 0,
            layout: Layout::default(),
            ts: Steps::default(),
            sum: XorValue::default(),
            counts,
            broken: chunk.len() < HEADER_BYTES,
        }
    }

    /// True when the bytes ended before the announced number of samples, or made no sense.
    pub(crate) fn broken(&self) -> bool {
        self.broken
    }

    /// Goes on to the next histogram and says its time.
    pub(crate) fn advance(&mut self) -> Option<TimestampMs> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let advanced = if self.read == 0 { self.first() } else { self.next() };
        self.read += 1;
        if advanced.is_none() || self.bits.overrun() {
            self.broken = true;
            self.left = 0;
            return None;
        }
        Some(self.ts.value)
    }

    fn first(&mut self) -> Option<()> {
        let bits = &mut self.bits;
        self.layout = Layout::read(bits)?;
        self.ts = Steps::first(bits.varbit());
        let n = self.layout.positive_count() + self.layout.negative_count();
        match &mut self.counts {
            Counts::Integer { totals, buckets } => {
                *totals = [bits.uvarbit() as i64, bits.uvarbit() as i64].map(Steps::first);
                self.sum = XorValue::read_first(bits);
                // Without this a few bytes could ask for gigabytes.
                if n > bits.left() {
                    return None;
                }
                buckets.extend((0..n).map(|_| Steps::first(bits.varbit())));
            }
            Counts::Float { totals, buckets } => {
                *totals = [XorValue::read_first(bits), XorValue::read_first(bits)];
                self.sum = XorValue::read_first(bits);
                if n > bits.left() / 64 {
                    return None;
                }
                buckets.extend((0..n).map(|_| XorValue::read_first(bits)));
            }
        }
        Some(())
    }

    fn next(&mut self) -> Option<()> {
        let bits = &mut self.bits;
        self.ts.read(bits);
        match &mut self.counts {
            Counts::Integer { totals, buckets } => {
                totals.iter_mut().for_each(|total| total.read(bits));
                self.sum.read(bits)?;
                if !is_stale_nan(self.sum.get()) {
                    buckets.iter_mut().for_each(|bucket| bucket.read(bits));
                }
            }
            Counts::Float { totals, buckets } => {
                for total in totals {
                    total.read(bits)?;
                }
                self.sum.read(bits)?;
                if !is_stale_nan(self.sum.get()) {
                    for bucket in buckets {
                        bucket.read(bits)?;
                    }
                }
            }
        }
        Some(())
    }

    /// The histogram `advance` stopped at.
    pub(crate) fn current(&self) -> FloatHistogram {
        let sum = self.sum.get();
        if is_stale_nan(sum) {
            return FloatHistogram { sum, ..FloatHistogram::default() };
        }
        let (totals, mut positive) = match &self.counts {
            Counts::Integer { totals, buckets } => {
                let mut count = 0i64;
                let mut absolute = |(i, difference): (usize, &Steps)| {
                    let before = if i == self.layout.positive_count() { 0 } else { count };
                    count = before.wrapping_add(difference.value);
                    count as f64
                };
                let buckets: Vec<f64> = buckets.iter().enumerate().map(&mut absolute).collect();
                (totals.map(|total| total.value as f64), buckets)
            }
            Counts::Float { totals, buckets } => {
                (totals.map(XorValue::get), buckets.iter().map(|b| b.get()).collect())
            }
        };
        let negative = positive.split_off(self.layout.positive_count());
        FloatHistogram {
            counter_reset_hint: hint(self.gauge, self.read),
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: totals[1],
            count: totals[0],
            sum,
            positive_spans: self.layout.positive.clone(),
            positive_buckets: positive,
            negative_spans: self.layout.negative.clone(),
            negative_buckets: negative,
            custom_values: self.layout.bounds.clone(),
        }
    }
}

/// The hint of the n-th histogram of a chunk.
fn hint(gauge: bool, n: u16) -> CounterResetHint {
    match n {
        _ if gauge => CounterResetHint::Gauge,
        0 | 1 => CounterResetHint::Unknown,
        _ => CounterResetHint::NotReset,
    }
}

/// Appends the histograms of a chunk inside the closed interval to `out`.
pub(crate) fn read_histograms(
    bytes: &[u8],
    encoding: Encoding,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    out: &mut RawSamples,
) -> Result<(), StorageError> {
    let mut iter = HistogramIter::new(bytes, encoding);
    while let Some(ts) = iter.advance() {
        if ts > to_ms {
            return Ok(());
        }
        if ts >= from_ms {
            out.hist.push((ts, Arc::new(iter.current())));
        }
    }
    if iter.broken() { Err(corrupt("a histogram chunk", bytes.len())) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
