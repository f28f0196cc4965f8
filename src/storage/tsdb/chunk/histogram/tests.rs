//! What is written is read again, in Prometheus' bytes.

use super::*;
use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, Span};
use crate::model::value::stale_nan;
use proptest::prelude::*;

fn histogram(offset: i32, buckets: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema: 1,
        zero_threshold: 2f64.powi(-128),
        zero_count: 2.0,
        count: 2.0 + buckets.iter().sum::<f64>(),
        sum: 12.5,
        positive_spans: vec![Span { offset, length: buckets.len() as u32 }],
        positive_buckets: buckets.to_vec(),
        ..FloatHistogram::default()
    }
}

/// Chunks of all histograms, a minute apart, and what is read from them.
fn chunked(all: &[FloatHistogram]) -> (Vec<HistogramAppender>, Vec<FloatHistogram>) {
    let mut chunks: Vec<HistogramAppender> = Vec::new();
    for (i, h) in all.iter().enumerate() {
        let (ts, h) = (1_700_000_000_000 + 60_000 * i as i64, Arc::new(h.clone()));
        let follows = match chunks.last_mut().map(|chunk| chunk.push(ts, &h)) {
            Some(Ok(())) => continue,
            Some(Err(follows)) => follows,
            None => Follows::Unknown,
        };
        chunks.push(HistogramAppender::begin(ts, &h, follows, true));
    }
    let mut out = RawSamples::default();
    for chunk in &chunks {
        read_histograms(chunk.bytes(), chunk.encoding(), i64::MIN, i64::MAX, &mut out)
            .expect("a sound chunk");
    }
    let times: Vec<i64> = out.hist.iter().map(|(ts, _)| *ts).collect();
    let expected: Vec<i64> =
        (0..all.len()).map(|i| 1_700_000_000_000 + 60_000 * i as i64).collect();
    assert_eq!(times, expected);
    (chunks, out.hist.iter().map(|(_, h)| (**h).clone()).collect())
}

/// Number of chunks, their encoding and how they follow, and that all is read again.
#[track_caller]
fn check(all: &[FloatHistogram], expected: &[(Encoding, Follows, u16)]) {
    let (chunks, read) = chunked(all);
    let got: Vec<_> =
        chunks.iter().map(|c| (c.encoding(), Follows::of(c.bytes()[2]), c.count())).collect();
    assert_eq!(got, expected);
    for (h, read) in all.iter().zip(&read) {
        if is_stale_nan(h.sum) {
            assert!(is_stale_nan(read.sum) && read.positive_buckets.is_empty());
        } else {
            let hint = read.counter_reset_hint;
            let mut h = FloatHistogram { counter_reset_hint: hint, ..h.clone() };
            let mut read = read.clone();
            h.compact(0);
            read.compact(0);
            assert_eq!(format!("{read:?}"), format!("{h:?}"));
        }
    }
}

use Encoding::{FloatHistogram as Floats, Histogram as Integers};
use Follows::{Gauge, NotReset, Reset, Unknown};

#[test]
fn growing_counters_share_a_chunk() {
    let all = (0..5).map(|i| FloatHistogram {
        count: 9.0 * f64::from(i),
        sum: 0.1 * f64::from(i),
        negative_spans: vec![Span { offset: 3, length: 1 }],
        negative_buckets: vec![f64::from(i)],
        ..histogram(-2, &[1.0, f64::from(2 * i), 3.0])
    });
    check(&all.collect::<Vec<_>>(), &[(Integers, Unknown, 5)]);
}

#[test]
fn what_is_not_whole_is_kept_as_floats_from_then_on() {
    let half = histogram(0, &[0.5, 1.0]);
    let more = FloatHistogram { count: 20.0, ..histogram(0, &[1.0, 8.0]) };
    check(&[half.clone(), more.clone()], &[(Floats, Unknown, 2)]);
    let whole = FloatHistogram { count: 2.0, ..histogram(0, &[0.0, 1.0]) };
    check(&[whole, half], &[(Integers, Unknown, 1), (Floats, NotReset, 1)]);
}

#[test]
fn new_buckets_rewrite_the_chunk_and_empty_ones_may_go() {
    let all = [
        histogram(5, &[1.0, 0.0]),
        FloatHistogram { count: 9.0, ..histogram(2, &[1.0, 0.0, 2.0, 1.0]) },
        FloatHistogram { count: 12.0, ..histogram(2, &[1.0, 3.0, 2.0, 1.0, 0.0, 7.0]) },
        FloatHistogram { count: 13.0, ..histogram(2, &[1.0, 4.0, 2.0, 1.0, 0.0, 7.0]) },
    ];
    check(&all, &[(Integers, Unknown, 4)]);
    let halves: Vec<_> =
        all.iter().map(|h| FloatHistogram { zero_count: 2.5, ..h.clone() }).collect();
    check(&halves, &[(Floats, Unknown, 4)]);
}

#[test]
fn whatever_cannot_be_compared_begins_a_chunk() {
    let base = histogram(0, &[4.0, 4.0]);
    let fell = FloatHistogram { count: 1.0, ..histogram(0, &[4.0, 4.0]) };
    check(&[base.clone(), fell], &[(Integers, Unknown, 1), (Integers, Reset, 1)]);
    let schema = FloatHistogram { schema: 0, ..base.clone() };
    let (chunks, _) = chunked(&[base.clone(), schema]);
    assert_eq!(chunks.len(), 2);
    let gauge = FloatHistogram { counter_reset_hint: CounterResetHint::Gauge, ..base.clone() };
    let lower = FloatHistogram { count: 1.0, ..gauge.clone() };
    check(&[base.clone(), gauge, lower], &[(Integers, Unknown, 1), (Integers, Gauge, 2)]);
    let stale = FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() };
    check(
        &[base.clone(), stale.clone(), stale.clone(), base, stale],
        &[(Integers, Unknown, 3), (Integers, Unknown, 2)],
    );
}

#[test]
fn hints_are_read_as_prometheus_reads_them() {
    let base = histogram(0, &[4.0, 4.0]);
    let reset = FloatHistogram { counter_reset_hint: CounterResetHint::Reset, ..base.clone() };
    let (_, read) = chunked(&[base.clone(), base.clone(), reset, base]);
    let hints: Vec<_> = read.iter().map(|h| h.counter_reset_hint).collect();
    use CounterResetHint::{NotReset, Unknown};
    assert_eq!(hints, [Unknown, NotReset, Unknown, NotReset]);
}

#[test]
fn custom_bounds_and_float_counts_survive() {
    let bounded = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        zero_count: 0.0,
        custom_values: vec![0.005, 1.0, 2.5],
        ..histogram(1, &[1.0, 2.0])
    };
    let odd = FloatHistogram { sum: f64::NAN, count: 0.25, ..bounded.clone() };
    check(&[bounded, odd], &[(Integers, Unknown, 1), (Floats, Reset, 1)]);
}

#[test]
fn a_known_chunk_has_prometheus_bytes() {
    let h = FloatHistogram {
        count: 1.0,
        sum: 1.0,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![1.0],
        ..FloatHistogram::default()
    };
    let chunk = HistogramAppender::begin(0, &Arc::new(h), Follows::Unknown, true);
    // One sample, no flags, threshold 0; bits: schema 0, one span (10 001) of length 1
    // (10 001) and offset 0, no negative ones; time 0; count 1 (10 001), no zeros; the
    // sum; one bucket of 1.
    let mut bits = BitWriter::after(vec![0, 1, 0, 0]);
    for (field, size) in [
        (0, 1),
        (0b10001, 5),
        (0b10001, 5),
        (0, 1),
        (0, 1),
        (0, 1),
        (0b10001, 5),
        (0, 1),
        (1f64.to_bits(), 64),
        (0b10001, 5),
    ] {
        bits.write(field, size);
    }
    assert_eq!(chunk.bytes(), bits.bytes());
}

proptest! {
    #[test]
    fn any_histograms_are_read_again(
        all in prop::collection::vec(
            (-3i32..3, prop::collection::vec(0u32..50, 0..6), 0u32..3, any::<bool>()), 1..40),
    ) {
        let mut grown = 0.0;
        let all: Vec<_> = all
            .iter()
            .map(|(offset, buckets, step, halves)| {
                grown += f64::from(*step);
                let by = if *halves && grown > 20.0 { 0.5 } else { 0.0 };
                let buckets: Vec<f64> =
                    buckets.iter().map(|b| f64::from(*b) / 10.0 * 10.0 + grown + by).collect();
                histogram(*offset, &buckets)
            })
            .collect();
        let (_, read) = chunked(&all);
        for (h, read) in all.iter().zip(read) {
            let mut h = h.clone();
            let mut read = FloatHistogram { counter_reset_hint: h.counter_reset_hint, ..read };
            h.compact(0);
            read.compact(0);
            prop_assert_eq!(h, read);
        }
    }

    #[test]
    fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in [Integers, Floats] {
            let mut iter = HistogramIter::new(&bytes, encoding);
            while iter.advance().is_some() {
                let h = iter.current();
                prop_assert!(h.positive_buckets.len() <= bytes.len() * 8);
            }
        }
    }
}
