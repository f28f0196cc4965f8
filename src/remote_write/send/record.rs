//! What a frame of the queue holds: series and their samples.
//!
//! ```text
//! 1  series     number uvarint, length uvarint, labels as `Labels::as_bytes` has them
//! 2  float      series uvarint, time since the sample before zigzag uvarint, value f64 LE
//! 3  histogram  series uvarint, length uvarint, `proto::Histogram`
//! 4  exemplar   series uvarint, length uvarint, `proto::Exemplar`
//! 5  before     entries that the queue was given before this segment uvarint
//! ```
//!
//! Numbers of series count from 0 in each segment.

use std::sync::Arc;

use prost::Message;

use super::super::proto::{self, Histogram};
use super::super::request::decode_histogram;
use crate::model::exemplar::Exemplar;
use crate::model::{FloatHistogram, Labels, TimestampMs};

const SERIES: u8 = 1;
const FLOAT: u8 = 2;
const HISTOGRAM: u8 = 3;
const EXEMPLAR: u8 = 4;
const BEFORE: u8 = 5;

/// Something that is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Float(TimestampMs, f64),
    Histogram(TimestampMs, Arc<FloatHistogram>),
    Exemplar(Exemplar),
}

impl Value {
    /// Its time.
    pub fn ts(&self) -> TimestampMs {
        match self {
            Self::Float(ts, _) | Self::Histogram(ts, _) => *ts,
            Self::Exemplar(exemplar) => exemplar.ts,
        }
    }
}

/// Writes the payload of a frame.
#[derive(Default)]
pub(super) struct Payload {
    pub bytes: Vec<u8>,
    pub entries: u32,
    last_ts: TimestampMs,
}

impl Payload {
    /// Tells of a series.
    pub fn series(&mut self, number: u32, labels: &Labels) {
        self.bytes.push(SERIES);
        self.uvarint(u64::from(number));
        self.blob(labels.as_bytes());
    }

    /// Tells how many entries there were before the segment.
    pub fn before(&mut self, entries: u64) {
        self.bytes.push(BEFORE);
        self.uvarint(entries);
    }

    /// Adds an entry.
    pub fn add(&mut self, series: u32, value: &Value) {
        self.entries += 1;
        match value {
            Value::Float(ts, value) => {
                self.bytes.push(FLOAT);
                self.uvarint(u64::from(series));
                let delta = ts.wrapping_sub(self.last_ts);
                self.last_ts = *ts;
                self.uvarint(((delta << 1) ^ (delta >> 63)) as u64);
                self.bytes.extend_from_slice(&value.to_le_bytes());
            }
            Value::Histogram(ts, value) => {
                self.bytes.push(HISTOGRAM);
                self.uvarint(u64::from(series));
                self.blob(&Histogram::of(*ts, value).encode_to_vec());
            }
            Value::Exemplar(exemplar) => {
                self.bytes.push(EXEMPLAR);
                self.uvarint(u64::from(series));
                self.blob(&exemplar_to_proto(exemplar).encode_to_vec());
            }
        }
    }

    fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.uvarint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }
}

/// An exemplar as remote write 1.0 has it.
pub(super) fn exemplar_to_proto(exemplar: &Exemplar) -> proto::Exemplar {
    let labels = exemplar.labels.iter();
    proto::Exemplar {
        labels: labels.map(|(n, v)| proto::Label { name: n.into(), value: v.into() }).collect(),
        value: exemplar.value,
        timestamp: exemplar.ts,
    }
}

fn exemplar_from(bytes: &[u8]) -> Option<Exemplar> {
    let exemplar = proto::Exemplar::decode(bytes).ok()?;
    let labels = Labels::from_pairs(exemplar.labels.iter().map(|l| (&*l.name, &*l.value)));
    Some(Exemplar { labels, value: exemplar.value, ts: exemplar.timestamp, has_ts: true })
}

/// Reads payloads; knows the series that those before told of.
#[derive(Default)]
pub(super) struct Payloads {
    series: Vec<(Labels, u64)>,
}

/// The labels of a series with their hash, and an entry of it.
pub(super) type Entry = (Labels, u64, Value);

impl Payloads {
    /// A segment begins.
    pub fn forget(&mut self) {
        self.series.clear();
    }

    /// How many entries there were before the segment, where a payload begins with that.
    pub fn before(bytes: &[u8]) -> Option<u64> {
        let (kind, mut rest) = bytes.split_first()?;
        if *kind != BEFORE { None } else { uvarint(&mut rest) }
    }

    /// The entries of a payload in order; `None` when it is not one that was written.
    pub fn read(&mut self, mut bytes: &[u8]) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut last_ts: TimestampMs = 0;
        while let Some((kind, rest)) = bytes.split_first() {
            bytes = rest;
            let number = uvarint(&mut bytes)?;
            if *kind == BEFORE {
                continue;
            }
            let number = usize::try_from(number).ok()?;
            if *kind == SERIES {
                let labels = Labels::from_encoded(blob(&mut bytes)?)?;
                if number != self.series.len() {
                    return None;
                }
                let hash = labels.hash64();
                self.series.push((labels, hash));
                continue;
            }
            let (labels, hash) = self.series.get(number)?;
            let value = match *kind {
                FLOAT => {
                    let delta = uvarint(&mut bytes)?;
                    let delta = (delta >> 1) as i64 ^ -((delta & 1) as i64);
                    last_ts = last_ts.wrapping_add(delta);
                    let (value, rest) = bytes.split_first_chunk::<8>()?;
                    bytes = rest;
                    Value::Float(last_ts, f64::from_le_bytes(*value))
                }
                HISTOGRAM => {
                    let (ts, value) = decode_histogram(blob(&mut bytes)?).ok()?;
                    Value::Histogram(ts, Arc::new(value))
                }
                EXEMPLAR => Value::Exemplar(exemplar_from(blob(&mut bytes)?)?),
                _ => return None,
            };
            entries.push((labels.clone(), *hash, value));
        }
        Some(entries)
    }
}

fn uvarint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn blob<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(uvarint(bytes)?).ok()?;
    let (blob, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(blob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::{CounterResetHint, Span};

    #[test]
    fn what_is_written_is_read_and_garbage_is_refused() {
        let labels = [("a", "x"), ("b", "ü")].map(|(n, v)| Labels::from_pairs([(n, v)]));
        let whole = FloatHistogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: 3,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 9.0,
            sum: 4.5,
            positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
            positive_buckets: vec![1.0, 4.0, 2.0],
            ..FloatHistogram::default()
        };
        let broken = FloatHistogram { count: 9.5, zero_count: 2.5, ..whole.clone() };
        let exemplar = Exemplar {
            labels: Labels::from_pairs([("trace", "1")]),
            value: 0.5,
            ts: 7,
            has_ts: true,
        };
        let values = [
            (0, Value::Float(1_700_000_000_000, -0.0)),
            (1, Value::Float(-5, f64::from_bits(0x7ff0_0000_0000_0002))),
            (1, Value::Histogram(i64::MAX, Arc::new(whole))),
            (0, Value::Histogram(3, Arc::new(broken))),
            (0, Value::Exemplar(exemplar)),
        ];
        let mut payload = Payload::default();
        payload.series(0, &labels[0]);
        payload.series(1, &labels[1]);
        values.iter().for_each(|(series, value)| payload.add(*series, value));
        assert_eq!(payload.entries, 5);
        let read = Payloads::default().read(&payload.bytes).expect("what was written");
        for ((series, expected), (found, hash, value)) in values.iter().zip(read) {
            assert_eq!((&found, hash), (&labels[*series as usize], found.hash64()));
            match (expected, &value) {
                (Value::Float(at, a), Value::Float(bt, b)) => {
                    assert_eq!((at, a.to_bits()), (bt, b.to_bits()));
                }
                (expected, value) => assert_eq!(expected, value),
            }
        }
        for cut in 1..payload.bytes.len() {
            // Wherever it is cut, it is read up to a whole entry or refused; never a panic.
            let _ = Payloads::default().read(&payload.bytes[..cut]);
        }
    }
}
