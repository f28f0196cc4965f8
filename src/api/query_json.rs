//! Query results as JSON, written in pieces: this is the API's hot path, so it goes
//! straight from the result to text.

use std::fmt::Write;

use super::json::push_string;
use super::response::Pieces;
use crate::model::{FloatHistogram, Labels, Sample, TimestampMs, Value, float};
use crate::query::QueryStats;

/// A result as the `data` of the API has it, without statistics.
pub fn result_json(value: Value) -> String {
    let mut body = QueryBody::new(value, None);
    let mut text = String::new();
    while body.write_chunk(&mut text) {}
    text
}

/// Statistics as the API has them.
pub fn stats_json(stats: &QueryStats) -> String {
    let mut text = String::new();
    push_stats(&mut text, stats);
    text
}

/// Text written at once; a response larger than this is sent in several pieces.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// The `data` of a query's answer, on its way out.
pub(crate) struct QueryBody {
    value: Value,
    stats: Option<QueryStats>,
    /// Series written so far; `None` before the head of the object.
    next: Option<usize>,
}

impl QueryBody {
    /// A body for this value, with statistics when they were asked for.
    pub(crate) fn new(value: Value, stats: Option<QueryStats>) -> Self {
        Self { value, stats, next: None }
    }

    fn write_end(&self, out: &mut String) {
        if let Some(stats) = &self.stats {
            out.push_str(",\"stats\":");
            push_stats(out, stats);
        }
        out.push('}');
    }
}

impl Pieces for QueryBody {
    /// Appends about [`CHUNK_BYTES`].
    fn write_chunk(&mut self, out: &mut String) -> bool {
        let full = out.len() + CHUNK_BYTES;
        let mut next = match self.next {
            Some(next) => next,
            None => {
                out.push_str("{\"resultType\":\"");
                out.push_str(type_word(&self.value));
                out.push_str("\",\"result\":");
                0
            }
        };
        let len = match &self.value {
            Value::Scalar { ts, value } => {
                push_point_head(out, *ts);
                // Scalars never get an exponent.
                float::push_fixed(out, *value);
                out.push_str("\"]");
                self.write_end(out);
                return false;
            }
            Value::String { ts, value } => {
                out.push('[');
                push_timestamp(out, *ts);
                out.push(',');
                push_string(out, value);
                out.push(']');
                self.write_end(out);
                return false;
            }
            Value::Vector(samples) => samples.len(),
            Value::Matrix(series) => series.len(),
        };
        while next < len {
            out.push(if next == 0 { '[' } else { ',' });
            match &self.value {
                Value::Vector(samples) => {
                    let sample = &samples[next];
                    push_metric(out, &sample.labels);
                    push_named_point(out, sample.ts, &sample.sample);
                    out.push('}');
                }
                Value::Matrix(series) => push_series(out, &series[next]),
                Value::Scalar { .. } | Value::String { .. } => {}
            }
            next += 1;
            if out.len() >= full && next < len {
                self.next = Some(next);
                return true;
            }
        }
        out.push_str(if len == 0 { "[]" } else { "]" });
        self.write_end(out);
        false
    }
}

fn type_word(value: &Value) -> &'static str {
    match value {
        Value::Scalar { .. } => "scalar",
        Value::String { .. } => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    }
}

/// Appends a label set as an object.
pub(crate) fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

fn push_metric(out: &mut String, labels: &Labels) {
    out.push_str("{\"metric\":");
    push_labels(out, labels);
}

/// Floats stand under `values` and histograms under `histograms`, each in time order.
fn push_series(out: &mut String, series: &crate::model::value::Series) {
    push_metric(out, &series.labels);
    let mut opening = ",\"values\":[";
    let mut has_histograms = false;
    for (ts, sample) in &series.points {
        match sample {
            Sample::Float(value) => {
                out.push_str(std::mem::replace(&mut opening, ","));
                push_float_point(out, *ts, *value);
            }
            Sample::Histogram(_) => has_histograms = true,
        }
    }
    if opening == "," {
        out.push(']');
    }
    if has_histograms {
        opening = ",\"histograms\":[";
        for (ts, sample) in &series.points {
            if let Sample::Histogram(histogram) = sample {
                out.push_str(std::mem::replace(&mut opening, ","));
                push_histogram_point(out, *ts, histogram);
            }
        }
        out.push(']');
    }
    out.push('}');
}

fn push_named_point(out: &mut String, ts: TimestampMs, sample: &Sample) {
    match sample {
        Sample::Float(value) => {
            out.push_str(",\"value\":");
            push_float_point(out, ts, *value);
        }
        Sample::Histogram(histogram) => {
            out.push_str(",\"histogram\":");
            push_histogram_point(out, ts, histogram);
        }
    }
}

/// `[1435781451.781,"` up to the value.
fn push_point_head(out: &mut String, ts: TimestampMs) {
    out.push('[');
    push_timestamp(out, ts);
    out.push_str(",\"");
}

fn push_float_point(out: &mut String, ts: TimestampMs, value: f64) {
    push_point_head(out, ts);
    float::push_sample_value(out, value);
    out.push_str("\"]");
}

fn push_histogram_point(out: &mut String, ts: TimestampMs, histogram: &FloatHistogram) {
    out.push('[');
    push_timestamp(out, ts);
    out.push(',');
    push_histogram(out, histogram);
    out.push(']');
}

/// Seconds; three decimals unless the time is a whole second.
pub(crate) fn push_timestamp(out: &mut String, ts: TimestampMs) {
    if ts < 0 {
        out.push('-');
    }
    let ms = ts.unsigned_abs();
    let result = match ms % 1000 {
        0 => write!(out, "{}", ms / 1000),
        fraction => write!(out, "{}.{fraction:03}", ms / 1000),
    };
    result.expect("BUG: writing to a String cannot fail");
}

fn push_histogram(out: &mut String, histogram: &FloatHistogram) {
    out.push_str("{\"count\":\"");
    float::push_sample_value(out, histogram.count);
    out.push_str("\",\"sum\":\"");
    float::push_sample_value(out, histogram.sum);
    out.push('"');
    let mut first = true;
    for bucket in histogram.all_buckets().iter().filter(|bucket| bucket.count != 0.0) {
        out.push_str(if first { ",\"buckets\":[[" } else { ",[" });
        first = false;
        // Which ends belong to the bucket: 0 upper, 1 lower, 2 none, 3 both.
        out.push(match (bucket.lower_inclusive, bucket.upper_inclusive) {
            (false, true) => '0',
            (true, false) => '1',
            (false, false) => '2',
            (true, true) => '3',
        });
        for number in [bucket.lower, bucket.upper, bucket.count] {
            out.push_str(",\"");
            float::push_sample_value(out, number);
            out.push('"');
        }
        out.push(']');
    }
    out.push_str(if first { "}" } else { "]}" });
}

fn push_stats(out: &mut String, stats: &QueryStats) {
    out.push_str("{\"timings\":{");
    for (i, (name, seconds)) in [
        ("evalTotalTime", stats.eval_total_seconds),
        ("resultSortTime", stats.result_sort_seconds),
        ("queryPreparationTime", stats.prepare_seconds),
        ("innerEvalTime", stats.inner_eval_seconds),
        ("execQueueTime", stats.queue_seconds),
        ("execTotalTime", stats.exec_total_seconds),
    ]
    .into_iter()
    .enumerate()
    {
        write!(out, "{}\"{name}\":", if i == 0 { "" } else { "," })
            .expect("BUG: writing to a String cannot fail");
        float::push_sample_value(out, seconds);
    }
    out.push_str("},\"samples\":{");
    push_steps(
        out,
        "totalQueryableSamplesPerStep",
        stats.total_queryable_samples_per_step.as_ref(),
    );
    write!(out, "\"totalQueryableSamples\":{},", stats.total_queryable_samples)
        .expect("BUG: writing to a String cannot fail");
    push_steps(out, "samplesReadPerStep", stats.samples_read_per_step.as_ref());
    write!(
        out,
        "\"samplesRead\":{},\"peakSamples\":{}}}}}",
        stats.samples_read, stats.peak_samples
    )
    .expect("BUG: writing to a String cannot fail");
}

fn push_steps(out: &mut String, name: &str, steps: Option<&Vec<(TimestampMs, u64)>>) {
    let Some(steps) = steps else { return };
    write!(out, "\"{name}\":[").expect("BUG: writing to a String cannot fail");
    for (i, (ts, samples)) in steps.iter().enumerate() {
        out.push_str(if i == 0 { "[" } else { ",[" });
        push_timestamp(out, *ts);
        write!(out, ",{samples}]").expect("BUG: writing to a String cannot fail");
    }
    out.push_str("],");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::histogram::Span;
    use crate::model::value::{Series, VectorSample};

    fn check(value: Value, expected: &str) {
        let mut out = String::new();
        assert!(!QueryBody::new(value, None).write_chunk(&mut out));
        assert_eq!(out, expected);
        serde_json::from_str::<serde_json::Value>(&out).unwrap();
    }

    fn histogram() -> Arc<FloatHistogram> {
        Arc::new(FloatHistogram {
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 10.0,
            sum: 1.5,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 0.0],
            negative_spans: vec![Span { offset: 0, length: 1 }],
            negative_buckets: vec![7.0],
            ..FloatHistogram::default()
        })
    }

    #[test]
    fn every_kind_of_result_has_its_form() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a\"<b>")]);
        check(
            Value::Scalar { ts: 1_435_781_451_781, value: 1e-7 },
            r#"{"resultType":"scalar","result":[1435781451.781,"0.0000001"]}"#,
        );
        check(
            Value::String { ts: 10, value: "a\nb".into() },
            r#"{"resultType":"string","result":[0.010,"a\nb"]}"#,
        );
        check(Value::Vector(vec![]), r#"{"resultType":"vector","result":[]}"#);
        check(Value::Matrix(vec![]), r#"{"resultType":"matrix","result":[]}"#);
        let float = VectorSample { labels: labels.clone(), ts: 1000, sample: Sample::Float(1e-7) };
        let other = VectorSample {
            labels: Labels::empty(),
            ts: -1500,
            sample: Sample::Histogram(histogram()),
        };
        check(
            Value::Vector(vec![float, other]),
            concat!(
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"<b>"},"value":[1,"1e-07"]},"#,
                r#"{"metric":{},"histogram":[-1.500,{"count":"10","sum":"1.5","buckets":[[1,"-1","-0.5","7"],[3,"-0.001","0.001","2"],[0,"0.5","1","1"]]}]}]}"#
            ),
        );
        let points = vec![
            (0, Sample::Float(f64::NAN)),
            (100, Sample::Histogram(Arc::new(FloatHistogram::default()))),
            (1000, Sample::Float(f64::NEG_INFINITY)),
        ];
        check(
            Value::Matrix(vec![Series { labels, points }]),
            concat!(
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a\"<b>"},"#,
                r#""values":[[0,"NaN"],[1,"-Inf"]],"histograms":[[0.100,{"count":"0","sum":"0"}]]}]}"#
            ),
        );
    }

    #[test]
    fn large_results_come_in_pieces_that_join_to_the_same_text() {
        let series = |i: i64| Series {
            labels: Labels::from_pairs([("i", i.to_string())]),
            points: (0..100).map(|t| (t * 1000, Sample::Float(0.1))).collect(),
        };
        let mut body = QueryBody::new(Value::Matrix((0..300).map(series).collect()), None);
        let mut pieces = Vec::new();
        loop {
            let mut piece = String::new();
            let more = body.write_chunk(&mut piece);
            pieces.push(piece);
            if !more {
                break;
            }
        }
        assert!(pieces.len() > 5 && pieces.iter().all(|p| p.len() < CHUNK_BYTES + 3000));
        let parsed: serde_json::Value = serde_json::from_str(&pieces.concat()).unwrap();
        assert_eq!(parsed["result"].as_array().map(Vec::len), Some(300));
    }

    #[test]
    fn statistics_follow_the_result() {
        let stats = QueryStats {
            eval_total_seconds: 0.25,
            total_queryable_samples: 7,
            samples_read: 5,
            peak_samples: 3,
            samples_read_per_step: Some(vec![(0, 2), (1500, 3)]),
            ..QueryStats::default()
        };
        let mut out = String::new();
        QueryBody::new(Value::Vector(vec![]), Some(stats)).write_chunk(&mut out);
        assert_eq!(
            out,
            concat!(
                r#"{"resultType":"vector","result":[],"stats":{"timings":{"evalTotalTime":0.25,"resultSortTime":0,"#,
                r#""queryPreparationTime":0,"innerEvalTime":0,"execQueueTime":0,"execTotalTime":0},"#,
                r#""samples":{"totalQueryableSamples":7,"samplesReadPerStep":[[0,2],[1.500,3]],"samplesRead":5,"peakSamples":3}}}"#
            )
        );
    }
}
