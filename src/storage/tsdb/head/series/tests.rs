//! Tests of one series.

use super::*;
use crate::model::histogram::{CounterResetHint, Span};

const RANGE: i64 = 7_200_000;

fn read(series: &MemSeries, visible: CommitId, from: i64, to: i64) -> Vec<i64> {
    let mut out = RawSamples::default();
    series.read_into(visible, from, to, &mut out).expect("sound chunks");
    out.ts
}

#[test]
fn a_reader_sees_no_sample_of_a_later_commit() {
    let s = MemSeries::new(1, 0, Labels::empty());
    for (commit, ts) in [(1, 10), (1, 11), (2, 20), (3, 30)] {
        s.append(ts, &SampleValue::Float(1.0), commit, 0, RANGE);
    }
    for (visible, expected) in
        [(0, vec![]), (1, vec![10, 11]), (2, vec![10, 11, 20]), (3, vec![10, 11, 20, 30])]
    {
        assert_eq!(read(&s, visible, 0, 100), expected);
        assert_eq!(s.overlaps(visible, 0, 100), !expected.is_empty());
    }
    // Once every reader sees commit 3, the earlier borders are forgotten.
    s.append(40, &SampleValue::Float(1.0), 4, 3, RANGE);
    assert_eq!((read(&s, 3, 0, 100).len(), read(&s, 4, 0, 100).len()), (4, 5));
    assert_eq!(s.state.lock().recent.len(), 1);
}

#[test]
fn repeated_and_older_samples_follow_prometheus_rules() {
    let s = MemSeries::new(1, 0, Labels::empty());
    let float = SampleValue::Float;
    s.append(10, &float(f64::NAN), 1, 1, RANGE);
    assert_eq!(s.check(10, &float(f64::NAN)), Ok(()));
    assert_eq!(s.check(10, &float(1.0)), Err(AppendError::DuplicateForTimestamp));
    let histogram = SampleValue::Histogram(Arc::default());
    assert_eq!(s.check(10, &histogram), Err(AppendError::DuplicateForTimestamp));
    assert_eq!(s.check(9, &float(1.0)), Err(AppendError::OutOfOrder));
    assert_eq!(s.append(10, &float(2.0), 2, 2, RANGE), Outcome::Duplicate);
    assert_eq!(s.append(9, &float(2.0), 2, 2, RANGE), Outcome::OutOfOrder);
    assert_eq!(s.append(11, &histogram, 2, 2, RANGE), Outcome::AppendedAfterChunk);
    assert_eq!(s.check(11, &histogram), Ok(()));
    assert!(s.ends_in_histogram());
}

#[test]
fn chunks_are_cut_by_time_and_dropped_by_truncation() {
    let s = MemSeries::new(1, 0, Labels::empty());
    for i in 0..960 {
        s.append(i * 15_000, &SampleValue::Float(i as f64), 1, 1, RANGE);
    }
    // 480 samples per range in four chunks of 120, two ranges.
    assert_eq!(s.size().0, 8);
    assert_eq!(s.truncate(RANGE), (4, false));
    assert_eq!(read(&s, 1, 0, i64::MAX).first(), Some(&RANGE));
    assert_eq!(s.bounds().0, RANGE);
    assert_eq!(s.truncate(i64::MAX), (4, true));
    assert_eq!(s.append(i64::MAX, &SampleValue::Float(0.0), 1, 1, RANGE), Outcome::Gone);
}

#[test]
fn histograms_are_read_with_the_hints_of_their_chunks() {
    let s = MemSeries::new(1, 0, Labels::empty());
    for (i, count) in [4.0, 5.0, 2.0, 2.5, 3.0].into_iter().enumerate() {
        let h = FloatHistogram { count, ..FloatHistogram::default() };
        s.append(i as i64, &SampleValue::Histogram(Arc::new(h)), 1, 1, RANGE);
        let (mut newest, mut all) = (RawSamples::default(), RawSamples::default());
        s.read_newest_into(1, 0, 100, &mut newest).expect("sound chunks");
        s.read_into(1, 0, 100, &mut all).expect("sound chunks");
        assert_eq!(newest.hist.last(), all.hist.last());
    }
    // A reset begins a chunk, and so does the first count that is not whole; the whole
    // one after it does not.
    assert_eq!(s.size().0, 3);
}

#[test]
fn large_histograms_are_cut_by_bytes() {
    let s = MemSeries::new(1, 0, Labels::empty());
    for i in 0..100u32 {
        let buckets: Vec<f64> =
            (0..100u32).map(|b| f64::from((b * 7919 + i * i * 104_729) % 1000)).collect();
        let h = FloatHistogram {
            counter_reset_hint: CounterResetHint::Gauge,
            positive_spans: vec![Span { offset: 0, length: 100 }],
            positive_buckets: buckets,
            ..FloatHistogram::default()
        };
        s.append(i64::from(i) * 1000, &SampleValue::Histogram(Arc::new(h)), 1, 1, RANGE);
    }
    assert_eq!(s.size().0, 10, "ten each, since each is far larger than a tenth");
}

#[test]
fn deleted_intervals_are_not_read() {
    let s = MemSeries::new(1, 0, Labels::empty());
    for i in 0..10 {
        s.append(i, &SampleValue::Float(0.0), 1, 1, RANGE);
    }
    s.delete(2, 4);
    s.delete(8, 20);
    assert_eq!(read(&s, 1, 1, 9), [1, 5, 6, 7]);
}
