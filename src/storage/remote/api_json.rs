//! The answers of Prometheus' HTTP API, read strictly and without a tree in between.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::value::stale_nan;
use crate::model::{Labels, TimestampMs};
use crate::vector::RawSamples;

/// An answer with data of some shape.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(super) struct Answer<T> {
    status: String,
    data: Option<T>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

/// What a query came to.
#[derive(Deserialize)]
pub(super) struct QueryData {
    #[serde(rename = "resultType")]
    pub kind: String,
    pub result: Vec<Series>,
}

/// One series of a vector or matrix.
#[derive(Deserialize)]
pub(super) struct Series {
    pub metric: LabelSet,
    #[serde(default)]
    value: Option<Point>,
    #[serde(default)]
    values: Vec<Point>,
    #[serde(default)]
    histogram: Option<IgnoredAny>,
    #[serde(default)]
    histograms: Option<Vec<IgnoredAny>>,
}

impl Series {
    /// Native histograms come as bounds and counts, from which the original cannot be made.
    pub(super) fn has_histograms(&self) -> bool {
        self.histogram.is_some() || self.histograms.as_ref().is_some_and(|all| !all.is_empty())
    }

    pub(super) fn points(self) -> impl Iterator<Item = (TimestampMs, f64)> {
        self.value.into_iter().chain(self.values).map(|p| (p.ts, p.value))
    }
}

/// Labels written as an object.
pub(super) struct LabelSet(pub Labels);

impl<'de> Deserialize<'de> for LabelSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = LabelSet;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelSet, A::Error> {
                let mut pairs: Vec<(Text<'de>, Text<'de>)> = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                let pairs = pairs.iter().map(|(n, v)| (&*n.0, &*v.0));
                Ok(LabelSet(Labels::from_pairs(pairs)))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A text, copied only when it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `[seconds, "value"]`
struct Point {
    ts: TimestampMs,
    value: f64,
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Point;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a time and a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Point, A::Error> {
                let short = || A::Error::custom("a point needs a time and a value");
                let seconds: f64 = seq.next_element()?.ok_or_else(short)?;
                let value: Text = seq.next_element()?.ok_or_else(short)?;
                let value = number(&value.0)
                    .ok_or_else(|| A::Error::custom(format_args!("{:?} is no value", value.0)))?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Point { ts: (seconds * 1000.0).round() as i64, value })
            }
        }
        deserializer.deserialize_seq(Pair)
    }
}

/// A value as Go prints it.
fn number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok().filter(|v: &f64| v.is_finite()),
    }
}

/// Data and warnings of an answer, or why there is none.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<(T, Vec<String>), String> {
    let answer: Answer<T> = serde_json::from_slice(body)
        .map_err(|e| format!("this is no answer of the Prometheus HTTP API: {e}"))?;
    if answer.status != "success" {
        return Err(said(&answer.error_type, &answer.error));
    }
    let data = answer.data.ok_or("the answer has no data")?;
    Ok((data, answer.warnings))
}

/// Why a server refused, if its body says so.
pub(super) fn refusal(body: &[u8]) -> Option<String> {
    let answer: Answer<IgnoredAny> = serde_json::from_slice(body).ok()?;
    (answer.status == "error").then(|| said(&answer.error_type, &answer.error))
}

/// The kind of error a body tells, "" when it tells an error of no kind.
pub(super) fn error_type(body: &[u8]) -> Option<String> {
    let answer: Answer<IgnoredAny> = serde_json::from_slice(body).ok()?;
    (answer.status == "error").then_some(answer.error_type)
}

fn said(kind: &str, error: &str) -> String {
    if kind.is_empty() { error.to_owned() } else { format!("{kind}: {error}") }
}

/// One line of VictoriaMetrics' `/api/v1/export`: the labels as written, see
/// [`export_labels`], and the samples. Values are numbers, `null` or `NaN` for a staleness
/// marker (of what is no number nothing else is stored), and infinities:
/// `{"metric":{...},"values":[1,null,+Inf],"timestamps":[1000,2000,3000]}`
pub(super) fn export_line(line: &str) -> Result<(&str, RawSamples), String> {
    let wrong = || format!("this is no line of an export: {}", crate::model::labels::quote(line));
    let rest = line.trim_end().strip_prefix("{\"metric\":").ok_or_else(wrong)?;
    let mut objects = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
    objects.next().and_then(Result::ok).ok_or_else(wrong)?;
    let (labels, rest) = rest.split_at(objects.byte_offset());
    let (values, rest) = array(rest, ",\"values\":[").ok_or_else(wrong)?;
    let (times, rest) = array(rest, ",\"timestamps\":[").ok_or_else(wrong)?;
    if rest != "}" {
        return Err(wrong());
    }
    let mut samples = RawSamples::default();
    let mut times = times.split(',');
    for value in values.split(',').filter(|v| !v.is_empty()) {
        let value = match value {
            "null" | "NaN" => Some(stale_nan()),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            value => number(value.trim_matches('"')),
        };
        let ts = times.next().and_then(|ts| ts.parse().ok());
        let (ts, value) = ts.zip(value).ok_or_else(wrong)?;
        samples.push(ts, value);
    }
    Ok((labels, samples))
}

/// Labels as a line of an export has them.
pub(super) fn export_labels(text: &str) -> Result<Labels, String> {
    let set: Result<LabelSet, _> = serde_json::from_str(text);
    let wrong = || format!("these are no labels: {}", crate::model::labels::quote(text));
    set.map(|set| set.0).map_err(|_| wrong())
}

fn array<'a>(text: &'a str, head: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(head)?.split_once(']')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::is_stale_nan;

    #[test]
    fn a_matrix_is_read_with_its_warnings() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"job":"a\"b","__name__":"m"},
             "values":[[1.5,"1e3"],[1795275462.123,"+Inf"],[3,"NaN"]]},
            {"metric":{},"value":[1435781451.781,"-0.5"],"histogram":[1,{"count":"1"}]}
        ]},"warnings":["half of it"],"infos":["x"]}"#;
        let (data, warnings) = parse::<QueryData>(body.as_bytes()).unwrap();
        assert_eq!((data.kind.as_str(), warnings), ("matrix", vec!["half of it".to_owned()]));
        let [a, b]: [Series; 2] = data.result.try_into().ok().unwrap();
        assert_eq!(a.metric.0.to_string(), "{__name__=\"m\", job=\"a\\\"b\"}");
        assert!(!a.has_histograms() && b.has_histograms());
        let points: Vec<_> = a.points().collect();
        assert_eq!(points[..2], [(1500, 1000.0), (1_795_275_462_123, f64::INFINITY)]);
        assert!(points[2].1.is_nan());
        assert_eq!(b.points().collect::<Vec<_>>(), [(1_435_781_451_781, -0.5)]);
    }

    #[test]
    fn what_is_no_answer_is_refused_with_its_reason() {
        let check = |body: &str, expected: &str| {
            let error = parse::<QueryData>(body.as_bytes()).err().unwrap();
            assert!(error.contains(expected), "{body}: {error}");
        };
        check(r#"{"status":"error","errorType":"bad_data","error":"no"}"#, "bad_data: no");
        check(r#"{"status":"success"}"#, "no data");
        check(r#"{"status":"success","data":{"resultType":"vector","result":[{"met"#, "EOF");
        check("<html>", "no answer of the Prometheus HTTP API");
        let point = |point: &str| {
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":{point}}}]}}}}"#
            )
        };
        check(&point(r#"[1,"x"]"#), "is no value");
        check(&point(r#"[1,"infinity"]"#), "is no value");
        check(&point("[1]"), "needs a time and a value");
        assert_eq!(
            refusal(br#"{"status":"error","errorType":"422","error":"e"}"#).unwrap(),
            "422: e"
        );
        assert_eq!(refusal(b"garbage"), None);
    }

    #[test]
    fn lines_of_an_export_have_markers_and_infinities() {
        let line = r#"{"metric":{"__name__":"bar","x":"],\"values\":["},"values":[1,2.5,null,+Inf,-Inf,NaN],"timestamps":[10,20,30,40,50,60]}"#;
        let (labels, samples) = export_line(line).unwrap();
        let labels = export_labels(labels).unwrap();
        assert_eq!(labels.get("x"), Some("],\"values\":["));
        assert!(export_labels("[1]").is_err());
        assert_eq!(samples.ts, [10, 20, 30, 40, 50, 60]);
        assert_eq!(samples.vs[..2], [1.0, 2.5]);
        assert!(is_stale_nan(samples.vs[2]) && is_stale_nan(samples.vs[5]));
        assert_eq!(samples.vs[3..5], [f64::INFINITY, f64::NEG_INFINITY]);
        for cut in 1..line.len() {
            assert!(export_line(&line[..cut]).is_err(), "cut at {cut}");
        }
    }
}
