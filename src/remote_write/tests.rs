//! The receiver against messages that `prost` encodes, and against garbage.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use prost::Message;

use super::proto::{BucketSpan, Exemplar, Histogram, Label, MetricMetadata, Sample, TimeSeries};
use super::*;
use crate::model::metadata::{Metadata, MetricType};
use crate::model::{FloatHistogram, Labels};

const NOW: i64 = 1_000_000;

/// What one batch brought, as text.
type Log = Arc<Mutex<Vec<String>>>;

/// Notes what it is given; refuses what a test names.
#[derive(Default)]
struct FakeSink {
    committed: Log,
    refuse: Option<AppendError>,
}

struct FakeAppender {
    log: Vec<String>,
    committed: Log,
    refuse: Option<AppendError>,
}

impl Sink for FakeSink {
    fn appender(&self) -> Box<dyn Appender> {
        let (committed, refuse) = (Arc::clone(&self.committed), self.refuse.clone());
        Box::new(FakeAppender { log: Vec::new(), committed, refuse })
    }
}

impl Appender for FakeAppender {
    fn append(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: i64,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        if let Some(e) = &self.refuse {
            return Err(e.clone());
        }
        self.log.push(format!("{labels} {value}@{ts} hint={}", hint.is_some()));
        Ok(SeriesRef(1))
    }

    fn append_histogram(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        ts: i64,
        h: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        let buckets = (&h.positive_buckets, &h.negative_buckets);
        self.log.push(format!("{labels} s{} c{} {buckets:?}@{ts}", h.schema, h.count));
        Ok(SeriesRef(1))
    }

    fn append_exemplar(
        &mut self,
        _: SeriesRef,
        e: crate::model::exemplar::Exemplar,
    ) -> Result<(), ExemplarError> {
        self.log.push(format!("exemplar {} {}@{}", e.labels, e.value, e.ts));
        Ok(())
    }

    fn append_metadata(&mut self, family: &str, metadata: &Metadata) {
        self.log.push(format!("{family} is a {}", metadata.kind.as_str()));
        assert_ne!(metadata.kind, MetricType::Unknown);
    }

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        self.committed.lock().expect("no panic under the lock").extend(self.log);
        Ok(())
    }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(n, v)| Label { name: (*n).into(), value: (*v).into() }).collect()
}

fn series(pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    let samples =
        samples.iter().map(|(timestamp, value)| Sample { value: *value, timestamp: *timestamp });
    TimeSeries { labels: labels(pairs), samples: samples.collect(), ..Default::default() }
}

fn check(
    sink: &FakeSink,
    timeseries: Vec<TimeSeries>,
    expected: Result<&[&str], (u16, &str)>,
) -> Written {
    let metadata =
        vec![MetricMetadata { r#type: 1, metric_family_name: "m".into(), ..Default::default() }];
    let body = encode(&proto::WriteRequest { timeseries, metadata }).expect("an encoded request");
    let (written, result) = take(&body, Version::V1, WriteLimits::default(), sink);
    let log = sink.committed.lock().expect("no panic under the lock");
    match (&result, expected) {
        (Ok(_), Ok(lines)) => assert_eq!(*log, [lines, &["m is a counter"]].concat()),
        (Err(e), Err((status, text))) => {
            assert_eq!((e.status(), e.to_string().as_str()), (status, text));
            assert!(log.is_empty(), "nothing of a refused request is stored");
        }
        (got, expected) => panic!("got {got:?}, expected {expected:?}"),
    }
    written
}

fn take(
    body: &[u8],
    version: Version,
    limits: WriteLimits,
    sink: &dyn Sink,
) -> (Written, Result<(), WriteError>) {
    receive(body, version, limits, sink, NOW, &RemoteWriteMetrics::default())
}

#[test]
fn samples_arrive_in_order_and_labels_are_sorted() {
    let request =
        vec![series(&[("job", "x"), ("__name__", "up"), ("empty", "")], &[(1, 1.5), (2, -0.5)])];
    let lines = [
        r#"{__name__="up", job="x"} 1.5@1 hint=false"#,
        r#"{__name__="up", job="x"} -0.5@2 hint=true"#,
    ];
    let written = check(&FakeSink::default(), request, Ok(&lines));
    assert_eq!(written.samples, 2);
}

#[test]
fn series_with_invalid_labels_are_skipped() {
    let bad: [&[(&str, &str)]; 5] = [
        &[("job", "x")],
        &[("__name__", "")],
        &[("__name__", "up"), ("", "x")],
        &[("__name__", "up"), ("a", "1"), ("a", "2")],
        &[],
    ];
    let mut request: Vec<_> = bad.iter().map(|pairs| series(pairs, &[(1, 1.0)])).collect();
    request.push(series(&[("__name__", "a.b"), ("é", "ü")], &[(1, 2.0)]));
    let written =
        check(&FakeSink::default(), request, Ok(&[r#"{__name__="a.b", "é"="ü"} 2@1 hint=false"#]));
    assert_eq!((written.invalid_series, written.samples), (5, 1));
}

#[test]
fn integer_and_float_histograms_become_absolute_counts() {
    let integer = Histogram {
        count_int: Some(6),
        schema: -2,
        positive_spans: vec![BucketSpan { offset: -1, length: 3 }],
        positive_deltas: vec![1, 1, 1],
        timestamp: 5,
        ..Default::default()
    };
    let float = Histogram {
        count_float: Some(2.5),
        schema: -53,
        negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
        negative_counts: vec![2.5],
        timestamp: 6,
        ..Default::default()
    };
    let one = TimeSeries {
        labels: labels(&[("__name__", "h")]),
        exemplars: vec![Exemplar::default()],
        histograms: vec![integer, float],
        ..Default::default()
    };
    let lines = [
        r#"{__name__="h"} s-2 c6 ([1.0, 2.0, 3.0], [])@5"#,
        r#"{__name__="h"} s-53 c2.5 ([], [2.5])@6"#,
        "exemplar {} 0@0",
    ];
    let written = check(&FakeSink::default(), vec![one], Ok(&lines));
    assert_eq!((written.histograms, written.exemplars), (2, 1));
}

#[test]
fn refusals_answer_as_prometheus_does() {
    let request = || vec![series(&[("__name__", "up")], &[(1, 1.0)])];
    let storage =
        StorageError::Io { what: "write".into(), cause: "No space left on device".into() };
    for (refuse, status, text) in [
        (AppendError::OutOfOrder, 400, "out of order sample"),
        (AppendError::DuplicateForTimestamp, 400, "duplicate sample for timestamp"),
        (AppendError::OutOfBounds, 400, "out of bounds"),
        (AppendError::TooOld, 400, "too old sample"),
        (AppendError::Storage(storage), 500, "write: No space left on device"),
    ] {
        let sink = FakeSink { refuse: Some(refuse), ..Default::default() };
        check(&sink, request(), Err((status, text)));
    }
    let ahead = vec![series(&[("__name__", "up")], &[(NOW + AHEAD_MAX_MS + 1, 1.0)])];
    check(&FakeSink::default(), ahead, Err((400, "out of bounds")));
}

/// Texts of labels, name and value by turns, and samples.
type Sent<'a> = (&'a [&'a str], &'a [(i64, f64)]);

fn request2(series: &[Sent<'_>]) -> proto2::Request {
    let mut symbols = proto2::Symbols::default();
    let timeseries = series
        .iter()
        .map(|(texts, samples)| proto2::TimeSeries {
            labels_refs: texts.iter().map(|text| symbols.place(text)).collect(),
            samples: samples
                .iter()
                .map(|(timestamp, value)| proto2::Sample {
                    value: *value,
                    timestamp: *timestamp,
                    start_timestamp: 0,
                })
                .collect(),
            ..Default::default()
        })
        .collect();
    proto2::Request { symbols: symbols.into_symbols(), timeseries }
}

#[track_caller]
fn check2(sink: &FakeSink, request: &proto2::Request, lines: &[&str], refused: &str) -> Written {
    let body = encode(request).expect("an encoded request");
    let (written, result) = take(&body, Version::V2, WriteLimits::default(), sink);
    let told = result.err().map(|e| (e.status(), e.to_string()));
    let expected = (!refused.is_empty()).then(|| (400, refused.to_owned()));
    assert_eq!(told, expected);
    assert_eq!(*sink.committed.lock().expect("no panic under the lock"), lines);
    written
}

#[test]
fn what_is_sound_of_a_request_of_2_0_is_stored_and_the_rest_is_named() {
    let mut request = request2(&[
        (&["__name__", "up", "job", "x"], &[(1, 1.5), (2, 2.5)]),
        (&["job", "x"], &[(1, 1.0), (2, 1.0)]),
        (&["__name__", "up", "a", "1", "a", "2"], &[(1, 1.0)]),
        (&["__name__", "none"], &[]),
        (&["__name__", "late"], &[(NOW + AHEAD_MAX_MS + 1, 1.0), (3, 9.0)]),
        (&["__name__"], &[(1, 1.0)]),
        (&["__name__", "far"], &[(1, 1.0)]),
    ]);
    request.timeseries[6].labels_refs[1] = 77;
    let written = check2(
        &FakeSink::default(),
        &request,
        &[
            r#"{__name__="up", job="x"} 1.5@1 hint=false"#,
            r#"{__name__="up", job="x"} 2.5@2 hint=true"#,
            r#"{__name__="late"} 9@3 hint=false"#,
        ],
        "invalid metric name or labels, got {job=\"x\"}\n\
         invalid labels for series, labels {__name__=\"up\", a=\"1\", a=\"2\"}, duplicated label a\n\
         TimeSeries must contain at least one sample or histogram for series {__name__=\"none\"}\n\
         out of bounds for series {__name__=\"late\"}\n\
         parsing labels for series [1]: invalid labelRefs length 1\n\
         parsing labels for series [1, 77]: labelRefs 1 (name) = 77 (value) outside of symbols \
         table (size 11)",
    );
    assert_eq!((written.samples, written.invalid_series, written.invalid_values), (3, 4, 5));
}

#[test]
fn series_of_2_0_bring_their_metadata_and_histograms() {
    let mut request =
        request2(&[(&["__name__", "h_count"], &[(1, 1.0)]), (&["__name__", "n"], &[])]);
    request.timeseries[0].metadata = Some(proto2::Metadata { kind: 3, help_ref: 2, unit_ref: 0 });
    request.timeseries[1].histograms = vec![Histogram {
        count_int: Some(3),
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_deltas: vec![3],
        timestamp: 4,
        ..Default::default()
    }];
    let exemplar =
        |refs: &[u32]| proto2::Exemplar { labels_refs: refs.to_vec(), value: 2.5, timestamp: 7 };
    request.timeseries[0].exemplars = vec![exemplar(&[2, 3]), exemplar(&[]), exemplar(&[9, 9])];
    let lines = [
        r#"{__name__="h_count"} 1@1 hint=false"#,
        r#"exemplar {h_count="n"} 2.5@7"#,
        "exemplar {} 2.5@7",
        "h is a histogram",
        r#"{__name__="n"} s0 c3 ([3.0], [])@4"#,
    ];
    let refused = "parsing labels for series [9, 9]: labelRefs 9 (name) = 9 (value) outside of \
                   symbols table (size 4) for series {__name__=\"h_count\"}";
    let written = check2(&FakeSink::default(), &request, &lines, refused);
    assert_eq!((written.samples, written.histograms, written.exemplars), (1, 1, 2));
}

#[test]
fn a_store_that_fails_takes_nothing_of_a_request_of_2_0() {
    let storage = StorageError::Io { what: "write".into(), cause: "no space".into() };
    let sink = FakeSink { refuse: Some(storage.into()), ..Default::default() };
    let body = encode(&request2(&[(&["__name__", "up"], &[(1, 1.0)])])).expect("a request");
    let (written, result) = take(&body, Version::V2, WriteLimits::default(), &sink);
    assert_eq!((written, result.map_err(|e| e.status())), (Written::default(), Err(500)));
}

#[test]
fn many_refusals_are_counted_beyond_the_first() {
    let one: Sent<'_> = (&["job", "x"], &[(1, 1.0)]);
    let body = encode(&request2(&vec![one; 150])).expect("a request");
    let (_, result) = take(&body, Version::V2, WriteLimits::default(), &FakeSink::default());
    let text = result.expect_err("invalid series").to_string();
    assert_eq!((text.lines().count(), text.lines().last()), (101, Some("and 50 more")));
}

#[test]
fn broken_bodies_are_refused() {
    let check = |body: &[u8], limit: usize, status: u16, text: &str| {
        let limits = WriteLimits { decoded_bytes_max: limit };
        let sink = FakeSink::default();
        let (_, result) = take(body, Version::V1, limits, &sink);
        let error = result.expect_err("a broken body");
        assert_eq!(error.status(), status);
        assert!(error.to_string().contains(text), "{error}");
    };
    let pack = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).expect("snappy");
    check(b"", 100, 400, "snappy");
    check(b"not snappy", 1000, 400, "corrupt input");
    check(&pack(&[0; 101]), 100, 413, "decoded size of 101 bytes is above the limit of 100");
    check(&pack(&[0x0a, 5, 1]), 100, 400, "unexpected EOF at byte 2");
    check(&pack(&[0x0a]), 100, 400, "unexpected EOF");
    check(&pack(&[0]), 100, 400, "illegal tag");
    check(&pack(&[0x08, 1]), 100, 400, "illegal wireType 0 of field 1");
    check(&pack(&[0x0b]), 100, 400, "illegal wireType 3 of field 1");
    check(&pack(&[0xff; 11]), 100, 400, "integer overflow");
}

proptest! {
    #[test]
    fn any_bytes_are_answered_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let sink = FakeSink::default();
        for version in [Version::V1, Version::V2] {
            let _ = take(&bytes, version, WriteLimits::default(), &sink);
            let _ = apply(&bytes, version, &sink, NOW);
        }
    }

    #[test]
    fn mutated_requests_are_answered_without_panic(
        at in 0usize..200, to in any::<u8>(), cut in 0usize..200,
    ) {
        let request = proto::WriteRequest {
            timeseries: vec![TimeSeries {
                histograms: vec![Histogram { positive_deltas: vec![1, 2], custom_values: vec![0.5], ..Default::default() }],
                ..series(&[("__name__", "up"), ("a", "b")], &[(1, 1.0), (2, 2.0)])
            }],
            metadata: vec![MetricMetadata { r#type: 2, metric_family_name: "up".into(), ..Default::default() }],
        };
        let mut bytes = request.encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        bytes.truncate(bytes.len().max(cut) - cut.min(bytes.len()) / 2);
        struct Deaf;
        impl Sink for Deaf {
            fn appender(&self) -> Box<dyn Appender> {
                Box::new(DeafAppender)
            }
        }
        struct DeafAppender;
        impl Appender for DeafAppender {
            fn append(&mut self, _: Option<SeriesRef>, _: &Labels, _: i64, _: f64) -> Result<SeriesRef, AppendError> {
                Ok(SeriesRef(0))
            }
            fn append_histogram(&mut self, _: Option<SeriesRef>, _: &Labels, _: i64, _: &Arc<FloatHistogram>) -> Result<SeriesRef, AppendError> {
                Ok(SeriesRef(0))
            }
            fn append_metadata(&mut self, _: &str, _: &Metadata) {}
            fn commit(self: Box<Self>) -> Result<(), StorageError> {
                Ok(())
            }
        }
        let _ = apply(&bytes, Version::V1, &Deaf, NOW);
        let _ = apply(&bytes, Version::V2, &Deaf, NOW);
    }
}
