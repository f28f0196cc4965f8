//! Requests and answers without HTTP, read back by the room's own messages.

use futures_util::FutureExt;

use super::*;
use crate::model::FloatHistogram;
use crate::storage::chunks::WireChunk;
use crate::storage::frames::Frames;
use crate::storage::memory::MemoryStorage;
use crate::storage::prompb::{LabelMatcher, labels_from_wire};

const SAMPLES_EACH: i64 = 1000;

fn store() -> MemoryStorage {
    let storage = MemoryStorage::new();
    for name in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", name), ("job", "x")]);
        for i in 0..SAMPLES_EACH {
            storage.append(&labels, i * 1000, (i * i) as f64, None).unwrap();
        }
    }
    let labels = Labels::from_pairs([("__name__", "h"), ("job", "x"), ("region", "own")]);
    for i in 0..50 {
        let h = FloatHistogram { count: i as f64, sum: 0.5, ..FloatHistogram::default() };
        storage.append_histogram(&labels, i * 1000, &Arc::new(h), None).unwrap();
    }
    storage
}

fn body(matchers: &[(i32, &str, &str)], accepted: &[i32]) -> Vec<u8> {
    let matcher = |(kind, name, value): &(i32, &str, &str)| LabelMatcher {
        r#type: *kind,
        name: (*name).into(),
        value: (*value).into(),
    };
    let query = Query {
        start_timestamp_ms: 10_000,
        end_timestamp_ms: 2_000_000,
        matchers: matchers.iter().map(matcher).collect(),
        hints: None,
    };
    let request = ReadRequest { queries: vec![query], accepted_response_types: accepted.to_vec() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()
}

fn external() -> Labels {
    Labels::from_pairs([("region", "eu")])
}

fn found(reading: &Reading) -> Vec<Found> {
    reading.select(&store()).now_or_never().unwrap().unwrap()
}

/// `labels floats histograms first last` of each series.
fn line(labels: &[Label], raw: &RawSamples) -> String {
    let first = raw.ts.first().or(raw.hist.first().map(|(ts, _)| ts)).unwrap();
    let last = raw.ts.last().or(raw.hist.last().map(|(ts, _)| ts)).unwrap();
    let (floats, hists) = (raw.ts.len(), raw.hist.len());
    format!("{} {floats} {hists} {first} {last}", labels_from_wire(labels))
}

const EXPECTED: [&str; 3] = [
    "a{job=\"x\", region=\"eu\"} 990 0 10000 999000",
    "b{job=\"x\", region=\"eu\"} 990 0 10000 999000",
    "h{job=\"x\", region=\"own\"} 0 40 10000 49000",
];

#[test]
fn samples_and_frames_say_the_same() {
    // The matcher of the external label holds for everything here.
    let matchers = [(0, "job", "x"), (0, "region", "eu"), (2, "__name__", "a|b|h")];
    let reading = Reading::decode(&body(&matchers, &[]), &external()).unwrap();
    assert_eq!(reading.response_type, ResponseType::Samples);
    let answer = samples(&found(&reading), &external(), ReadLimits::default()).unwrap();
    let answer = snap::raw::Decoder::new().decompress_vec(&answer).unwrap();
    let answer = ReadResponse::decode(answer.as_slice()).unwrap();
    let sampled = |series: &TimeSeries| {
        let mut raw = RawSamples::default();
        series.samples.iter().for_each(|s| raw.push(s.timestamp, s.value));
        raw.hist =
            series.histograms.iter().map(|h| (h.timestamp, Arc::new(h.histogram()))).collect();
        line(&series.labels, &raw)
    };
    let lines: Vec<String> = answer.results[0].timeseries.iter().map(sampled).collect();
    assert_eq!(lines, EXPECTED);

    let reading = Reading::decode(&body(&matchers, &[1, 0]), &external()).unwrap();
    assert_eq!(reading.response_type, ResponseType::Chunks);
    for frame_bytes in [1, 600, 1 << 20] {
        let mut stream = Frames::new(1 << 20);
        let limits = ReadLimits { frame_bytes, ..ReadLimits::default() };
        let push = |frame: Vec<u8>| {
            stream.push(&frame);
            true
        };
        frames(&found(&reading), &external(), limits, push).unwrap();
        let mut series: Vec<(Vec<Label>, RawSamples)> = Vec::new();
        let mut count = 0;
        while let Some(frame) = stream.next().unwrap() {
            count += 1;
            let [part] =
                ChunkedReadResponse::decode(frame).unwrap().chunked_series.try_into().unwrap();
            if series.last().is_none_or(|(labels, _)| *labels != part.labels) {
                series.push((part.labels, RawSamples::default()));
            }
            for chunk in part.chunks {
                let chunk = WireChunk {
                    min_ms: chunk.min_time_ms,
                    max_ms: chunk.max_time_ms,
                    encoding: chunk.r#type as u8,
                    data: chunk.data,
                };
                let raw = &mut series.last_mut().unwrap().1;
                chunk.read_into(i64::MIN, i64::MAX, raw).unwrap();
            }
        }
        stream.end().unwrap();
        let lines: Vec<String> = series.iter().map(|(labels, raw)| line(labels, raw)).collect();
        assert_eq!(lines, EXPECTED, "frames of {frame_bytes}");
        assert_eq!(count > 3, frame_bytes < 1000, "{count} frames of {frame_bytes}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said_as_prometheus_does() {
    let check = |body: &[u8], expected: &str| {
        let error = Reading::decode(body, &external()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.status(), 400);
    };
    check(&body(&[(4, "a", "b")], &[]), "invalid matcher type");
    check(&body(&[(2, "a", "(")], &[]), "error parsing regexp");
    check(&body(&[], &[7]), "server does not support any of the requested response types: [7]");
    check(b"garbage", "snappy");
    let reading = Reading::decode(&body(&[(0, "job", "x")], &[9, 0]), &external()).unwrap();
    let limits = ReadLimits { samples: 100, ..ReadLimits::default() };
    let error = samples(&found(&reading), &external(), limits).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.status()), ("exceeded sample limit (100)", 400));
}
