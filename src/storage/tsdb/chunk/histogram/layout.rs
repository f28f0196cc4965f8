//! What the histograms of a chunk have in common, in front of its samples:
//!
//! ```text
//! zero threshold   0: byte 0; a power of two from 2^-243 to 2^10: exponent + 244 in a byte;
//!                  else byte 255 and 8B
//! schema           signed
//! spans            number, then length and offset (signed) each; positive ones first
//! bounds           with schema -53 only: number, then each: thousandths + 1 where that is
//!                  exact (0 to 33,554.430), else a 0 bit and 8B
//! ```
//! Integers without a size are the packed ones of `bits.rs`.

use super::super::bits::{BitReader, BitWriter};
use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span};

/// Byte that says "the zero threshold follows".
const THRESHOLD_FOLLOWS: u8 = 255;
/// Added to the exponent of a threshold that is a power of two. Exponents are those of
/// fractions from 0.5 to 1, so 2^-243 has -242.
const THRESHOLD_BIAS: i32 = 243;
const THRESHOLD_EXPONENTS: std::ops::RangeInclusive<i32> = -242..=11;
/// Largest bound kept in thousandths, in thousandths.
const THOUSANDTHS_MAX: f64 = 33_554_430.0;

/// Schema, threshold and buckets of all histograms of a chunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layout {
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) positive: Vec<Span>,
    pub(crate) negative: Vec<Span>,
    pub(crate) bounds: Vec<f64>,
}

impl Layout {
    pub(crate) fn of(h: &FloatHistogram) -> Self {
        Self {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            positive: h.positive_spans.clone(),
            negative: h.negative_spans.clone(),
            bounds: h.custom_values.clone(),
        }
    }

    pub(crate) fn positive_count(&self) -> usize {
        bucket_count(&self.positive)
    }

    pub(crate) fn negative_count(&self) -> usize {
        bucket_count(&self.negative)
    }

    /// Bytes allocated.
    pub(crate) fn size_bytes(&self) -> usize {
        size_of::<Span>() * (self.positive.capacity() + self.negative.capacity())
            + 8 * self.bounds.capacity()
    }

    pub(crate) fn write(&self, out: &mut BitWriter) {
        write_threshold(self.zero_threshold, out);
        out.varbit(i64::from(self.schema));
        for spans in [&self.positive, &self.negative] {
            out.uvarbit(spans.len() as u64);
            for span in spans {
                out.uvarbit(u64::from(span.length));
                out.varbit(i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            out.uvarbit(self.bounds.len() as u64);
            for bound in &self.bounds {
                write_bound(*bound, out);
            }
        }
    }

    /// `None` when the bits make no sense: more is announced than they can hold.
    pub(crate) fn read(reader: &mut BitReader<'_>) -> Option<Self> {
        let zero_threshold = read_threshold(reader);
        let schema = i32::try_from(reader.varbit()).ok()?;
        let positive = read_spans(reader)?;
        let negative = read_spans(reader)?;
        let mut bounds = Vec::new();
        if schema == CUSTOM_BUCKETS_SCHEMA {
            let n = announced(reader)?;
            bounds.extend((0..n).map(|_| read_bound(reader)));
        }
        Some(Self { schema, zero_threshold, positive, negative, bounds })
    }
}

/// Buckets that spans spell out.
pub(crate) fn bucket_count(spans: &[Span]) -> usize {
    spans.iter().map(|s| s.length as usize).sum()
}

/// A number of things that take at least a bit each.
fn announced(reader: &mut BitReader<'_>) -> Option<usize> {
    let n = usize::try_from(reader.uvarbit()).ok()?;
    (n <= reader.left()).then_some(n)
}

fn read_spans(reader: &mut BitReader<'_>) -> Option<Vec<Span>> {
    let n = announced(reader)?;
    let mut buckets = 0u64;
    let mut spans = Vec::with_capacity(n);
    for _ in 0..n {
        let length = u32::try_from(reader.uvarbit()).ok()?;
        let offset = i32::try_from(reader.varbit()).ok()?;
        buckets += u64::from(length);
        spans.push(Span { offset, length });
    }
    // Each bucket of the first histogram is to come, with a bit at least.
    (buckets <= reader.left() as u64).then_some(spans)
}

/// The power `e` of two, if the number is `0.5 * 2^e`.
fn power_of_two(v: f64) -> Option<i32> {
    let bits = v.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let exponent = (bits >> 52) as i32;
    (fraction == 0 && (1..0x7ff).contains(&exponent)).then(|| exponent - 1022)
}

fn write_threshold(threshold: f64, out: &mut BitWriter) {
    match power_of_two(threshold).filter(|e| THRESHOLD_EXPONENTS.contains(e)) {
        _ if threshold == 0.0 => out.write(0, 8),
        Some(exponent) => out.write((exponent + THRESHOLD_BIAS) as u64, 8),
        None => {
            out.write(u64::from(THRESHOLD_FOLLOWS), 8);
            out.write(threshold.to_bits(), 64);
        }
    }
}

fn read_threshold(reader: &mut BitReader<'_>) -> f64 {
    match reader.read(8) as u8 {
        0 => 0.0,
        THRESHOLD_FOLLOWS => f64::from_bits(reader.read(64)),
        power => 0.5 * f64::from(i32::from(power) - THRESHOLD_BIAS).exp2(),
    }
}

fn write_bound(bound: f64, out: &mut BitWriter) {
    let thousandths = (bound * 1000.0).round();
    let exact = thousandths / 1000.0 == bound && !(bound == 0.0 && bound.is_sign_negative());
    if exact && (0.0..=THOUSANDTHS_MAX).contains(&thousandths) {
        out.uvarbit(thousandths as u64 + 1);
    } else {
        out.write(0, 1);
        out.write(bound.to_bits(), 64);
    }
}

fn read_bound(reader: &mut BitReader<'_>) -> f64 {
    match reader.uvarbit() {
        0 => f64::from_bits(reader.read(64)),
        thousandths => (thousandths - 1) as f64 / 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(layout: &Layout) -> usize {
        let mut out = BitWriter::default();
        layout.write(&mut out);
        let size = out.position();
        // The buckets of the first histogram.
        out.write(0, 64);
        let mut reader = BitReader::new(out.bytes());
        assert_eq!(Layout::read(&mut reader).as_ref(), Some(layout));
        assert!(!reader.overrun());
        size
    }

    #[test]
    fn thresholds_that_are_powers_of_two_take_a_byte() {
        let with = |zero_threshold| Layout { zero_threshold, ..Layout::default() };
        // Threshold, schema 0, no spans.
        for short in [0.0, 2f64.powi(-243), 2f64.powi(-128), 0.5, 1.0, 1024.0] {
            assert_eq!(check(&with(short)), 8 + 3, "{short}");
        }
        for long in [0.001, 2f64.powi(-244), 2048.0, f64::MIN_POSITIVE / 2.0] {
            assert_eq!(check(&with(long)), 72 + 3, "{long}");
        }
    }

    #[test]
    fn a_known_threshold_has_prometheus_byte() {
        // 2^-128, the usual one, is 0.5 * 2^-127.
        let mut out = BitWriter::default();
        write_threshold(2f64.powi(-128), &mut out);
        assert_eq!(out.bytes(), [243 - 127]);
    }

    #[test]
    fn spans_and_bounds_round_trip() {
        let spans = vec![Span { offset: -700, length: 3 }, Span { offset: 40, length: 1 }];
        check(&Layout {
            schema: -4,
            positive: spans.clone(),
            negative: spans,
            ..Layout::default()
        });
        let bounds = vec![f64::NEG_INFINITY, -1.0, -0.0, 0.005, 0.0051, 1.0 / 3.0, 33_554.43, 1e9];
        let layout = Layout { schema: CUSTOM_BUCKETS_SCHEMA, bounds, ..Layout::default() };
        check(&layout);
        assert!(format!("{layout:?}").contains("-0.0"));
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let mut out = BitWriter::default();
        out.write(0, 8);
        out.varbit(0);
        out.uvarbit(1);
        out.uvarbit(1 << 30);
        out.varbit(0);
        out.write(0, 64);
        assert_eq!(Layout::read(&mut BitReader::new(out.bytes())), None);
    }
}
