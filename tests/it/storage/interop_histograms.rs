//! Native histograms in blocks and log of ours, as the real Prometheus reads them.

use watchfire::api::result_json;
use watchfire::model::histogram::{CounterResetHint, Span};
use watchfire::model::value::Series;
use watchfire::model::{FloatHistogram, Sample, Value};

use super::interop::{now_ms, prometheus_with};
use super::*;
use crate::support::http_get;

const MINUTE: i64 = 60_000;

/// The n-th histogram of each series: what changes from one to the next is what chunks are
/// begun and written anew for.
fn histograms(n: i64) -> Vec<(&'static str, FloatHistogram)> {
    let i = n as f64;
    let span = |offset, length| Span { offset, length };
    let base = FloatHistogram {
        schema: 3,
        zero_threshold: 2f64.powi(-128),
        zero_count: i,
        sum: i * 0.7,
        positive_spans: vec![span(-5, 3), span(4, 2)],
        positive_buckets: vec![i, 2.0 * i, 3.0 * i, i, 7.0],
        negative_spans: vec![span(1, 1)],
        negative_buckets: vec![4.0 * i],
        ..FloatHistogram::default()
    };
    let counted = |h: FloatHistogram| FloatHistogram {
        count: h.zero_count
            + h.positive_buckets.iter().sum::<f64>()
            + h.negative_buckets.iter().sum::<f64>(),
        ..h
    };
    // A bucket more every hour, in the middle and at the ends.
    let grown = match n / 60 % 3 {
        0 => (vec![span(0, 2)], vec![i, i]),
        1 => (vec![span(0, 2), span(1, 1)], vec![i, i, i]),
        _ => (vec![span(-2, 1), span(1, 4)], vec![i, i, i, i, i]),
    };
    vec![
        ("whole", counted(base.clone())),
        ("halves", counted(FloatHistogram { zero_count: i / 2.0, ..base.clone() })),
        (
            "growing",
            counted(FloatHistogram {
                positive_spans: grown.0,
                positive_buckets: grown.1,
                ..base.clone()
            }),
        ),
        ("resetting", counted(FloatHistogram { zero_count: i % 50.0, ..base.clone() })),
        (
            "gauge",
            counted(FloatHistogram {
                counter_reset_hint: CounterResetHint::Gauge,
                zero_threshold: 0.001,
                positive_buckets: vec![9.0, i % 7.0, i % 5.0, 0.0, 1.0],
                ..base.clone()
            }),
        ),
        ("changing", counted(FloatHistogram { schema: (n / 100 % 4) as i32, ..base })),
    ]
}

/// The points of a range as JSON, as the API has them.
fn as_json(points: Vec<(i64, Sample)>) -> serde_json::Value {
    let series = Series { labels: Labels::empty(), points };
    let text = result_json(Value::Matrix(vec![series]));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let result = json.get("result").unwrap_or(&json);
    result[0]["histograms"].clone()
}

/// Equality, but for the last digits of bounds: 2.42 rounds them otherwise.
fn alike(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match (a, b) {
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.keys().eq(b.keys()) && a.values().zip(b.values()).all(|(a, b)| alike(a, b))
        }
        (Json::String(a), Json::String(b)) => {
            let (a, b): (f64, f64) = (a.parse().expect("a number"), b.parse().expect("a number"));
            a == b || (a - b).abs() <= 1e-12 * a.abs()
        }
        _ => a == b,
    }
}

#[test]
fn prometheus_reads_the_native_histograms_we_wrote() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let end = now_ms() / MINUTE * MINUTE - MINUTE;
    let start = end - 8 * 60 * MINUTE;
    let clock = Arc::new(ManualClock::new(start));
    let tsdb = Tsdb::open(&data, TsdbOptions::default(), clock.clone()).expect("a store");
    for n in 0..=8 * 60 {
        let ts = start + n * MINUTE;
        clock.set_ms(ts);
        let mut appender = tsdb.appender();
        for (name, h) in histograms(n) {
            let labels = Labels::from_pairs([("__name__", name)]);
            appender.append_histogram(None, &labels, ts, &Arc::new(h)).expect("a sample");
        }
        appender.commit().expect("a commit");
        if n % 30 == 0 {
            tsdb.maintain().expect("maintenance");
        }
    }
    assert!(tsdb.block_metas().len() >= 2, "{:?}", tsdb.block_metas());
    let mut ours = BTreeMap::new();
    let set = tsdb
        .select(&request(Vec::new(), i64::MIN, i64::MAX))
        .now_or_never()
        .expect("the store never waits")
        .expect("a set");
    for series in &set.series {
        let mut raw = RawSamples::default();
        series.read_into(i64::MIN, i64::MAX, &mut raw).expect("samples");
        let points = raw.hist.into_iter().map(|(ts, h)| (ts, Sample::Histogram(h))).collect();
        ours.insert(series.labels().metric_name().to_owned(), as_json(points));
    }
    for (name, found) in &ours {
        let written = (0..=8 * 60).filter_map(|n| {
            let (_, h) = histograms(n).into_iter().find(|(series, _)| series == name)?;
            Some((start + n * MINUTE, Sample::Histogram(Arc::new(h))))
        });
        assert!(*found == as_json(written.collect()), "{name} is not what was written");
    }
    drop(set);
    tsdb.close().expect("a close");

    let flags = ["--enable-feature=native-histograms"];
    let Some((_program, url)) = prometheus_with(dir.path(), "scrape_configs: []\n", &flags) else {
        return;
    };
    for (name, expected) in ours {
        let url = format!("{url}/api/v1/query?query={name}[9h]&time={}", end / 1000);
        let (_, body) = http_get(&url).expect("an answer");
        let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let theirs = &json["data"]["result"][0]["histograms"];
        let (theirs, ours) = (theirs.as_array().expect("histograms"), expected.as_array().unwrap());
        assert_eq!(theirs.len(), ours.len(), "{name}");
        for (theirs, ours) in theirs.iter().zip(ours) {
            assert!(alike(theirs, ours), "{name}: {theirs} is not {ours}");
        }
    }
}
