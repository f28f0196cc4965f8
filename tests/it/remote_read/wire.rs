//! What comes over the wire of remote read: native histograms in chunks of a real
//! Prometheus, and answers of servers that know samples alone.

use prost::Message;
use watchfire::model::histogram::{CounterResetHint, Span};
use watchfire::model::{FloatHistogram, Matcher, TimestampMs};
use watchfire::storage::prompb::{
    BucketSpan, Histogram, Label, QueryResult, ReadResponse, Sample, TimeSeries,
};
use watchfire::storage::{SelectHints, SelectRequest};
use watchfire::vector::RawSamples;

use super::failures::{Fake, http};
use super::*;

pub const SAMPLES: i64 = 500;

pub fn time(i: i64) -> TimestampMs {
    data::END_MS - (SAMPLES - i) * 5000
}

/// The n-th float histogram; its buckets grow in number now and then.
fn float(i: i64) -> FloatHistogram {
    let n = i as f64;
    let length = 2 + (i / 100) as u32;
    let positive_buckets: Vec<f64> = (0..length).map(|b| n + f64::from(b) / 2.0).collect();
    FloatHistogram {
        schema: 2,
        zero_threshold: 0.001,
        zero_count: n / 4.0,
        count: n / 4.0 + n + positive_buckets.iter().sum::<f64>(),
        sum: n * 1.5,
        positive_spans: vec![Span { offset: -1, length }],
        positive_buckets,
        negative_spans: vec![Span { offset: 3, length: 1 }],
        negative_buckets: vec![n],
        ..FloatHistogram::default()
    }
}

/// The n-th whole histogram, as it is sent.
pub fn whole(i: i64) -> Histogram {
    Histogram {
        count_int: Some(6 * i as u64),
        zero_count_int: Some(i as u64),
        sum: i as f64,
        schema: 1,
        zero_threshold: 0.001,
        positive_spans: vec![BucketSpan { offset: 0, length: 3 }],
        positive_deltas: vec![i, i, -i],
        negative_spans: vec![BucketSpan { offset: 2, length: 1 }],
        negative_deltas: vec![i],
        timestamp: time(i),
        ..Histogram::default()
    }
}

pub fn labels(name: &str) -> Vec<Label> {
    vec![Label { name: "__name__".into(), value: name.into() }]
}

async fn read(source: &Arc<dyn Source>, name: &str, from_ms: i64, to_ms: i64) -> RawSamples {
    let matchers = vec![Matcher::equal("__name__", name)];
    let hints = SelectHints::default();
    let request = SelectRequest { matchers, from_ms, to_ms, hints };
    let found = source.select(&request).await.unwrap().series;
    assert_eq!(found.len(), 1, "{name}");
    let mut out = RawSamples::default();
    found[0].read_into(from_ms, to_ms, &mut out).unwrap();
    out
}

/// Without the hint, which depends on what came before in the chunk, and without buckets that
/// are there only because later ones have them.
fn plain(h: &FloatHistogram) -> FloatHistogram {
    let mut h = FloatHistogram { counter_reset_hint: CounterResetHint::Unknown, ..h.clone() };
    h.compact(0);
    h
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_come_as_they_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_prometheus, base)) = start_prometheus(dir.path(), "global: {}\n") else { return };
    let series = |name: &str, histograms| proto::TimeSeries {
        labels: labels(name),
        histograms,
        ..proto::TimeSeries::default()
    };
    let request = proto::WriteRequest {
        timeseries: vec![
            series("floats", (1..SAMPLES).map(|i| Histogram::of(time(i), &float(i))).collect()),
            series("wholes", (1..SAMPLES).map(whole).collect()),
        ],
        ..proto::WriteRequest::default()
    };
    send(&base, &request).await;
    let remote = open(&base, DatasourceKind::RemoteRead, Evaluation::Here).await;
    for (name, first, last) in
        [("floats", 1, SAMPLES - 1), ("wholes", 1, SAMPLES - 1), ("floats", 130, 250)]
    {
        let got = read(&remote, name, time(first), time(last)).await;
        assert!(got.ts.is_empty());
        assert_eq!(got.hist.len() as i64, last - first + 1, "{name}");
        for (i, (ts, h)) in (first..).zip(&got.hist) {
            let wanted = if name == "floats" { float(i) } else { whole(i).histogram() };
            let (h, wanted) = (plain(h), plain(&wanted));
            assert!(*ts == time(i) && h.equals(&wanted), "{name} {i}\n  {h:?}\n  {wanted:?}");
        }
    }
    let engine = Engine::new(EngineOptions::default());
    let when = When::At(time(SAMPLES - 1));
    let count = comparable(ask(&engine, &remote, "histogram_count(wholes)", when).await).unwrap();
    assert_eq!(count["data"]["result"][0]["value"][1], format!("{}", 6 * (SAMPLES - 1)));
}

#[tokio::test]
async fn servers_that_know_samples_alone_are_read_too() {
    let sample = |(ts, value)| Sample { timestamp: ts, value };
    let response = ReadResponse {
        results: vec![QueryResult {
            timeseries: vec![
                // Out of order, one of them twice: what is made of it is in order, each once.
                TimeSeries {
                    labels: labels("m"),
                    samples: [(30, 3.0), (10, 1.0), (20, 2.0), (20, 9.0)].map(sample).into(),
                    histograms: vec![Histogram::of(40, &float(4)), whole(5)],
                },
                TimeSeries { labels: labels("none"), ..TimeSeries::default() },
            ],
        }],
    };
    let body = snap::raw::Encoder::new().compress_vec(&response.encode_to_vec()).unwrap();
    let fake = Fake::start(vec![http("200 OK", "application/x-protobuf", &body)]).await;
    let remote = open(&fake.base, DatasourceKind::RemoteRead, Evaluation::Here).await;
    let got = read(&remote, "m", 0, i64::MAX).await;
    assert_eq!((got.ts, got.vs), (vec![10, 20, 30], vec![1.0, 2.0, 3.0]));
    assert_eq!(got.hist.iter().map(|(ts, _)| *ts).collect::<Vec<_>>(), [40, time(5)]);
    assert!(got.hist[0].1.equals(&float(4)));
    assert_eq!(got.hist[1].1.positive_buckets, [5.0, 10.0, 5.0]);
    let got = read(&remote, "m", 15, 25).await;
    assert_eq!((got.ts, got.hist.len()), (vec![20], 0));
}
