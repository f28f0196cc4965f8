//! WAL records in Prometheus' byte format. A record is a type byte and entries up to its end.
//!
//! ```text
//! series (1)      { ref 8B BE, label count uvarint, { name str, value str } }*
//! samples (2)     ref0 8B BE, t0 8B BE, { ref - ref0 varint, t - t0 varint, value 8B BE }*
//! tombstones (3)  { ref 8B BE, min time varint, max time varint }*
//! exemplars (4)   as samples, each followed by its labels
//! mmap (5)        { ref 8B BE, file of the chunk 4B BE, offset in it 4B BE }*
//! metadata (6)    { ref uvarint, type 1B, field count uvarint, { name str, value str } }*
//! histograms      ref0 8B BE, t0 8B BE, { ref - ref0 varint, t - t0 varint, histogram }*
//!                 7 integer, 8 float, 9 integer with custom bounds, 10 float with custom bounds
//! samples v2 (11) and histograms v2 (12 integer, 13 float): see `delta_v2`
//! min time (14)   mint 8B BE, in checkpoints only             only read over
//! str             length uvarint, bytes
//! ```
//! Every record names its first reference and time in full, so it stands on its own.

use std::sync::Arc;

use crate::model::metadata::{Metadata, MetricType};
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::storage::tsdb::encoding::{Cursor, DecodeError, Put};

pub(crate) use super::record_histogram::encode_last_histogram;
use super::record_histogram::{decode_float, decode_integer, encode_float, has_custom_bounds};

/// A float sample of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RefSample {
    pub(crate) series: u64,
    pub(crate) ts: TimestampMs,
    pub(crate) value: f64,
}

/// A histogram of a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RefHistogram {
    pub(crate) series: u64,
    pub(crate) ts: TimestampMs,
    pub(crate) value: Arc<FloatHistogram>,
}

/// A deleted interval of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefTombstone {
    pub(crate) series: u64,
    pub(crate) min_ms: TimestampMs,
    pub(crate) max_ms: TimestampMs,
}

/// An exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RefExemplar {
    pub(crate) series: u64,
    pub(crate) ts: TimestampMs,
    pub(crate) value: f64,
    pub(crate) labels: Labels,
}

/// Where a chunk of the head begins: number of its file, offset in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) offset: u32,
}

/// A decoded record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Series(Vec<(u64, Labels)>),
    Samples(Vec<RefSample>),
    Histograms(Vec<RefHistogram>),
    Tombstones(Vec<RefTombstone>),
    Exemplars(Vec<RefExemplar>),
    Metadata(Vec<(u64, Metadata)>),
    /// A file has what the log named of these series until here: reference and place, see
    /// `Place`.
    Markers(Vec<(u64, Place)>),
    /// Known, and nothing this store needs.
    Other,
}

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const TOMBSTONES: u8 = 3;
const EXEMPLARS: u8 = 4;
const MMAP_MARKERS: u8 = 5;
const METADATA: u8 = 6;
const HISTOGRAMS: u8 = 7;
const FLOAT_HISTOGRAMS: u8 = 8;
const CUSTOM_HISTOGRAMS: u8 = 9;
const CUSTOM_FLOAT_HISTOGRAMS: u8 = 10;
const SAMPLES_V2: u8 = 11;
const HISTOGRAMS_V2: u8 = 12;
const FLOAT_HISTOGRAMS_V2: u8 = 13;
const MIN_VALID_TIME: u8 = 14;

impl Record {
    /// Reads a record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut c = Cursor::new(bytes);
        let kind = c.byte()?;
        Ok(match kind {
            SERIES => Self::Series(entries(&mut c, |c| Ok((c.be64()?, decode_labels(c)?)))?),
            SAMPLES => Self::Samples(deltas(&mut c, |c, series, ts| {
                Ok(RefSample { series, ts, value: c.f64()? })
            })?),
            SAMPLES_V2 => Self::Samples(delta_v2(&mut c, |c, series, ts| {
                Ok(RefSample { series, ts, value: c.f64()? })
            })?),
            TOMBSTONES => Self::Tombstones(entries(&mut c, |c| {
                Ok(RefTombstone { series: c.be64()?, min_ms: c.varint()?, max_ms: c.varint()? })
            })?),
            EXEMPLARS => Self::Exemplars(deltas(&mut c, |c, series, ts| {
                Ok(RefExemplar { series, ts, value: c.f64()?, labels: decode_labels(c)? })
            })?),
            METADATA => Self::Metadata(entries(&mut c, decode_metadata)?),
            HISTOGRAMS | CUSTOM_HISTOGRAMS => Self::Histograms(deltas(&mut c, |c, series, ts| {
                Ok(RefHistogram { series, ts, value: decode_integer(c)? })
            })?),
            FLOAT_HISTOGRAMS | CUSTOM_FLOAT_HISTOGRAMS => {
                Self::Histograms(deltas(&mut c, |c, series, ts| {
                    Ok(RefHistogram { series, ts, value: decode_float(c)? })
                })?)
            }
            HISTOGRAMS_V2 => Self::Histograms(delta_v2(&mut c, |c, series, ts| {
                Ok(RefHistogram { series, ts, value: decode_integer(c)? })
            })?),
            FLOAT_HISTOGRAMS_V2 => Self::Histograms(delta_v2(&mut c, |c, series, ts| {
                Ok(RefHistogram { series, ts, value: decode_float(c)? })
            })?),
            MMAP_MARKERS => Self::Markers(entries(&mut c, |c| {
                let (series, place) = (c.be64()?, c.be64()?);
                Ok((series, Place { file: (place >> 32) as u32, offset: place as u32 }))
            })?),
            MIN_VALID_TIME => Self::Other,
            kind => return Err(DecodeError::UnknownType(kind)),
        })
    }
}

fn entries<T>(
    c: &mut Cursor<'_>,
    mut one: impl FnMut(&mut Cursor<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut all = Vec::new();
    while !c.is_empty() {
        all.push(one(c)?);
    }
    Ok(all)
}

fn deltas<T>(
    c: &mut Cursor<'_>,
    mut one: impl FnMut(&mut Cursor<'_>, u64, TimestampMs) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    if c.is_empty() {
        return Ok(Vec::new());
    }
    let (first_ref, first_ts) = (c.be64()?, c.be64()? as i64);
    let mut all = Vec::with_capacity(c.remaining() / 10);
    while !c.is_empty() {
        let series = first_ref.wrapping_add(c.varint()? as u64);
        let ts = first_ts.wrapping_add(c.varint()?);
        all.push(one(c, series, ts)?);
    }
    Ok(all)
}

/// The newer layout: references are deltas to the previous entry, all numbers varints, and
/// each entry has a start time, which this store does not keep:
/// ```text
/// ref0 varint, t0 varint, start0 varint, payload,
/// { ref - previous varint, t - t0 varint, marker 1B [start - start0 varint if marker = 2], payload }*
/// ```
fn delta_v2<T>(
    c: &mut Cursor<'_>,
    mut one: impl FnMut(&mut Cursor<'_>, u64, TimestampMs) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    const EXPLICIT_START: u8 = 2;
    if c.is_empty() {
        return Ok(Vec::new());
    }
    let (mut series, first_ts) = (c.varint()? as u64, c.varint()?);
    c.varint()?;
    let mut all = vec![one(c, series, first_ts)?];
    while !c.is_empty() {
        series = series.wrapping_add(c.varint()? as u64);
        let ts = first_ts.wrapping_add(c.varint()?);
        if c.byte()? >= EXPLICIT_START {
            c.varint()?;
        }
        all.push(one(c, series, ts)?);
    }
    Ok(all)
}

/// Reads a label set.
pub(crate) fn decode_labels(c: &mut Cursor<'_>) -> Result<Labels, DecodeError> {
    let count = c.count(2)?;
    let start = *c;
    let mut sorted = true;
    let mut last = "";
    for i in 0..count {
        let (name, value) = (c.str()?, c.str()?);
        sorted &= (i == 0 || last < name) && !value.is_empty();
        last = name;
    }
    // The texts were checked above; reading them again cannot fail.
    let pairs = (0..count).scan(start, |c, _| Some((c.str().ok()?, c.str().ok()?)));
    Ok(if sorted { Labels::from_sorted_pairs(pairs) } else { Labels::from_pairs(pairs) })
}

fn decode_metadata(c: &mut Cursor<'_>) -> Result<(u64, Metadata), DecodeError> {
    let series = c.uvarint()?;
    let kind = MetricType::from_code(c.byte()?.into());
    let (mut unit, mut help) = ("", "");
    for _ in 0..c.count(2)? {
        match (c.str()?, c.str()?) {
            ("UNIT", text) => unit = text,
            ("HELP", text) => help = text,
            _ => {}
        }
    }
    Ok((series, Metadata { kind, unit: unit.into(), help: help.into() }))
}

/// Appends a series record.
pub(crate) fn encode_series<'a>(
    series: impl IntoIterator<Item = (u64, &'a Labels)>,
    out: &mut Vec<u8>,
) {
    out.push(SERIES);
    for (series, labels) in series {
        out.put_be64(series);
        encode_labels(labels, out);
    }
}

/// Appends a label set.
pub(crate) fn encode_labels(labels: &Labels, out: &mut Vec<u8>) {
    out.put_uvarint(labels.len() as u64);
    for (name, value) in labels.iter() {
        out.put_str(name);
        out.put_str(value);
    }
}

/// Appends a samples record; nothing when there is no sample.
pub(crate) fn encode_samples(samples: impl IntoIterator<Item = RefSample>, out: &mut Vec<u8>) {
    let mut samples = samples.into_iter().peekable();
    let Some(first) = samples.peek().copied() else { return };
    out.push(SAMPLES);
    out.put_be64(first.series);
    out.put_be64(first.ts as u64);
    for s in samples {
        out.put_varint(s.series.wrapping_sub(first.series) as i64);
        out.put_varint(s.ts.wrapping_sub(first.ts));
        out.put_f64(s.value);
    }
}

/// Appends a float histogram record; nothing when there is no histogram.
pub(crate) fn encode_histograms(histograms: &[RefHistogram], out: &mut Vec<u8>) {
    let Some(first) = histograms.first() else { return };
    // The layout is the same; the type only warns readers that do not know custom bounds.
    let custom = histograms.iter().any(|h| has_custom_bounds(&h.value));
    out.push(if custom { CUSTOM_FLOAT_HISTOGRAMS } else { FLOAT_HISTOGRAMS });
    out.put_be64(first.series);
    out.put_be64(first.ts as u64);
    for h in histograms {
        out.put_varint(h.series.wrapping_sub(first.series) as i64);
        out.put_varint(h.ts.wrapping_sub(first.ts));
        encode_float(&h.value, out);
    }
}

/// Equality of bits; the counter-reset hint does not count.
pub(crate) fn same_histogram(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let bytes = |h| {
        let mut out = Vec::new();
        encode_float(h, &mut out);
        out
    };
    bytes(a)[1..] == bytes(b)[1..]
}

/// Appends a tombstones record.
pub(crate) fn encode_tombstones(stones: &[RefTombstone], out: &mut Vec<u8>) {
    out.push(TOMBSTONES);
    for stone in stones {
        out.put_be64(stone.series);
        out.put_varint(stone.min_ms);
        out.put_varint(stone.max_ms);
    }
}

/// Appends a record that says which files have chunks of series.
pub(crate) fn encode_markers(markers: &[(u64, Place)], out: &mut Vec<u8>) {
    out.push(MMAP_MARKERS);
    for (series, Place { file, offset }) in markers {
        out.put_be64(*series);
        out.put_be64(u64::from(*file) << 32 | u64::from(*offset));
    }
}

/// Appends an exemplars record; nothing when there is no exemplar.
pub(crate) fn encode_exemplars(exemplars: &[RefExemplar], out: &mut Vec<u8>) {
    let Some(first) = exemplars.first() else { return };
    out.push(EXEMPLARS);
    out.put_be64(first.series);
    out.put_be64(first.ts as u64);
    for e in exemplars {
        out.put_varint(e.series.wrapping_sub(first.series) as i64);
        out.put_varint(e.ts.wrapping_sub(first.ts));
        out.put_f64(e.value);
        encode_labels(&e.labels, out);
    }
}

/// Appends a metadata record.
pub(crate) fn encode_metadata<'a>(
    metadata: impl IntoIterator<Item = (u64, &'a Metadata)>,
    out: &mut Vec<u8>,
) {
    out.push(METADATA);
    for (series, metadata) in metadata {
        out.put_uvarint(series);
        out.push(metadata.kind.code());
        out.put_uvarint(2);
        out.put_str("UNIT");
        out.put_str(&metadata.unit);
        out.put_str("HELP");
        out.put_str(&metadata.help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(encode: impl Fn(&mut Vec<u8>), expected: Record) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        assert_eq!(Record::decode(&bytes), Ok(expected));
        for cut in 1..bytes.len() {
            // A cut record may end at an entry's border, but never panics.
            let _ = Record::decode(&bytes[..cut]);
        }
    }

    #[test]
    fn records_round_trip() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "é")]);
        let series = vec![(7, labels.clone()), (u64::MAX, Labels::empty())];
        check(
            |b| encode_series(series.iter().map(|(r, l)| (*r, l)), b),
            Record::Series(series.clone()),
        );
        let samples = vec![
            RefSample { series: 9, ts: -5, value: 1.5 },
            RefSample { series: 2, ts: i64::MAX, value: f64::INFINITY },
        ];
        check(|b| encode_samples(samples.iter().copied(), b), Record::Samples(samples.clone()));
        let stones = vec![RefTombstone { series: 1, min_ms: i64::MIN, max_ms: 3 }];
        check(|b| encode_tombstones(&stones, b), Record::Tombstones(stones.clone()));
        let exemplars = vec![RefExemplar { series: 1, ts: 2, value: 3.0, labels }];
        check(|b| encode_exemplars(&exemplars, b), Record::Exemplars(exemplars.clone()));
        let metadata =
            vec![(3, Metadata { kind: MetricType::Counter, unit: "s".into(), help: "h".into() })];
        check(
            |b| encode_metadata(metadata.iter().map(|(r, m)| (*r, m)), b),
            Record::Metadata(metadata.clone()),
        );
    }

    #[test]
    fn samples_have_prometheus_bytes_in_both_layouts() {
        let samples = [
            RefSample { series: 5, ts: 1000, value: 1.0 },
            RefSample { series: 4, ts: 1001, value: 2.0 },
        ];
        let mut bytes = Vec::new();
        encode_samples(samples, &mut bytes);
        let one = 1.0f64.to_be_bytes();
        let two = 2.0f64.to_be_bytes();
        let head = [2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 3, 0xe8];
        assert_eq!(bytes, [&head[..], &[0, 0], &one, &[1, 2], &two].concat());
        let v2 = [&[11, 10, 0xd0, 0x0f, 0][..], &one, &[1, 2, 2, 8], &two].concat();
        assert_eq!(Record::decode(&v2), Ok(Record::Samples(samples.to_vec())));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..16) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = Record::decode(&bytes);
        }
    }
}
