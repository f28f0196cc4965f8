//! Comparing a result with what is expected.
//!
//! Floats are equal within a relative error of 1e-6, NaN equal to NaN. Histograms are
//! compared after compaction: layout exactly, numbers as floats are, the counter-reset
//! hint only where the expectation names one. Label sets must be equal.

use std::fmt::Write;

use super::eval::{ExpectedSeries, ExpectedValue, When};
use super::load::Point;
use crate::functions::histogram::almost_equal;
use crate::model::labels::quote;
use crate::model::value::{Series, VectorSample};
use crate::model::{FloatHistogram, Sample, StepGrid, TimestampMs, Value};

/// Largest relative error of a float.
const EPSILON: f64 = 0.000_001;
/// Most characters of a result that are shown.
const SHOWN_MAX: usize = 2000;

/// Checks a value; the error says what differs and shows the whole result.
pub(super) fn check(
    expected: &ExpectedValue,
    ordered: bool,
    when: When,
    got: &Value,
) -> Result<(), String> {
    check_value(expected, ordered, when, got)
        .map_err(|message| format!("{message}\nresult: {}", show(got)))
}

fn check_value(
    expected: &ExpectedValue,
    ordered: bool,
    when: When,
    got: &Value,
) -> Result<(), String> {
    match (expected, got) {
        (ExpectedValue::Scalar(want), Value::Scalar { value, .. }) => {
            if almost_equal(*want, *value, EPSILON) {
                Ok(())
            } else {
                Err(format!("expected scalar {want}, got {value}"))
            }
        }
        (ExpectedValue::String(want), Value::String { value, .. }) => {
            if want == value {
                Ok(())
            } else {
                Err(format!("expected string {}, got {}", quote(want), quote(value)))
            }
        }
        (ExpectedValue::Series(want), Value::Vector(got)) => vector(want, ordered, got),
        (ExpectedValue::Series(want), Value::Matrix(got)) => match when {
            When::Range(_) if ordered => {
                Err("expected ordered result, but query returned a matrix".to_owned())
            }
            When::Range(grid) => matrix(want, grid, got),
            When::Instant(_) if want.is_empty() && got.is_empty() => Ok(()),
            When::Instant(_) => Err("expected an instant vector, got a range vector; use \
                                     'expect range vector' if that is meant"
                .to_owned()),
        },
        (ExpectedValue::RangeVector(grid, want), Value::Matrix(got)) => matrix(want, *grid, got),
        (ExpectedValue::Scalar(want), _) => {
            Err(format!("expected scalar {want}, got another type"))
        }
        (ExpectedValue::String(want), _) => {
            Err(format!("expected string {}, got another type", quote(want)))
        }
        (ExpectedValue::Series(_) | ExpectedValue::RangeVector(..), _) => {
            Err("expected series, got another type".to_owned())
        }
    }
}

fn vector(want: &[ExpectedSeries], ordered: bool, got: &[VectorSample]) -> Result<(), String> {
    let mut seen = vec![false; want.len()];
    for (position, sample) in got.iter().enumerate() {
        let Some(i) = want.iter().rposition(|w| w.labels == sample.labels) else {
            return Err(format!("unexpected series {}", sample.labels));
        };
        if seen[i] {
            return Err(format!("series {} occurs twice in the result", sample.labels));
        }
        seen[i] = true;
        if ordered && i != position {
            return Err(format!(
                "expected {} at position {}, got it at position {}",
                sample.labels,
                i + 1,
                position + 1
            ));
        }
        match want[i].points.first() {
            Some(Some(point)) => same(point, &sample.sample)
                .map_err(|message| format!("{}: {message}", sample.labels))?,
            _ => return Err(format!("expected no sample for {}", sample.labels)),
        }
    }
    let missing = want.iter().zip(&seen).find(|(w, seen)| {
        // A line without a point, or with `_`, expects nothing.
        !**seen && w.points.first().is_some_and(Option::is_some)
    });
    match missing {
        Some((w, _)) => Err(format!("expected series {} is missing", w.labels)),
        None => Ok(()),
    }
}

fn matrix(want: &[ExpectedSeries], grid: StepGrid, got: &[Series]) -> Result<(), String> {
    if let Some(pair) = got.windows(2).find(|pair| pair[0].labels > pair[1].labels) {
        return Err(format!(
            "matrix is not sorted by labels: {} before {}",
            pair[0].labels, pair[1].labels
        ));
    }
    let mut seen = vec![false; want.len()];
    for series in got {
        let Some(i) = want.iter().rposition(|w| w.labels == series.labels) else {
            return Err(format!("unexpected series {}", series.labels));
        };
        if seen[i] {
            return Err(format!("series {} occurs twice in the result", series.labels));
        }
        seen[i] = true;
        points(&want[i], grid, series).map_err(|m| format!("{}: {m}", series.labels))?;
    }
    match want.iter().zip(&seen).find(|(_, seen)| !**seen) {
        Some((w, _)) => Err(format!("expected series {} is missing", w.labels)),
        None => Ok(()),
    }
}

fn points(want: &ExpectedSeries, grid: StepGrid, got: &Series) -> Result<(), String> {
    if want.points.len() > grid.len as usize {
        return Err(format!(
            "expected {} points, but query time range cannot return this many points",
            want.points.len()
        ));
    }
    let expected: Vec<(TimestampMs, &Point)> = want
        .points
        .iter()
        .enumerate()
        .filter_map(|(i, p)| p.as_ref().map(|p| (grid.at(i as u32), p)))
        .collect();
    let times = |points: &mut dyn Iterator<Item = TimestampMs>| {
        points.map(|ts| ts.to_string()).collect::<Vec<_>>().join(" ")
    };
    if expected.len() != got.points.len() {
        return Err(format!(
            "expected {} points at [{}], got {} at [{}] (ms)",
            expected.len(),
            times(&mut expected.iter().map(|p| p.0)),
            got.points.len(),
            times(&mut got.points.iter().map(|p| p.0)),
        ));
    }
    for ((ts, want), (got_ts, got)) in expected.iter().zip(&got.points) {
        if ts != got_ts {
            return Err(format!("expected a point at {ts} ms, got one at {got_ts} ms"));
        }
        same(want, got).map_err(|message| format!("at {ts} ms: {message}"))?;
    }
    Ok(())
}

fn same(want: &Point, got: &Sample) -> Result<(), String> {
    match (want, got) {
        (Point::Float(want), Sample::Float(got)) => {
            if almost_equal(*want, *got, EPSILON) {
                Ok(())
            } else {
                Err(format!("expected {want}, got {got}"))
            }
        }
        (Point::Histogram { histogram: want, hint_given }, Sample::Histogram(got)) => {
            if same_histogram(want, got, *hint_given) {
                Ok(())
            } else {
                Err(format!(
                    "expected histogram {}, got {}",
                    want.test_expression(),
                    got.test_expression()
                ))
            }
        }
        (Point::Float(want), Sample::Histogram(got)) => {
            Err(format!("expected {want}, got histogram {}", got.test_expression()))
        }
        (Point::Histogram { histogram: want, .. }, Sample::Float(got)) => {
            Err(format!("expected histogram {}, got {got}", want.test_expression()))
        }
    }
}

fn same_histogram(want: &FloatHistogram, got: &FloatHistogram, with_hint: bool) -> bool {
    let (mut want, mut got) = (want.clone(), got.clone());
    want.compact(0);
    got.compact(0);
    let all_close = |a: &[f64], b: &[f64]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| almost_equal(*a, *b, EPSILON))
    };
    want.schema == got.schema
        && want.custom_values == got.custom_values
        && want.zero_threshold == got.zero_threshold
        && all_close(
            &[want.count, want.sum, want.zero_count],
            &[got.count, got.sum, got.zero_count],
        )
        && want.positive_spans == got.positive_spans
        && want.negative_spans == got.negative_spans
        && all_close(&want.positive_buckets, &got.positive_buckets)
        && all_close(&want.negative_buckets, &got.negative_buckets)
        && (!with_hint || want.counter_reset_hint == got.counter_reset_hint)
}

/// The result as text, cut when it is long.
fn show(value: &Value) -> String {
    let mut out = String::new();
    let sample = |s: &Sample| match s {
        Sample::Float(v) => v.to_string(),
        Sample::Histogram(h) => h.test_expression(),
    };
    match value {
        Value::Scalar { value, .. } => out = format!("scalar {value}"),
        Value::String { value, .. } => out = format!("string {}", quote(value)),
        Value::Vector(samples) if samples.is_empty() => out.push_str("nothing"),
        Value::Matrix(series) if series.is_empty() => out.push_str("nothing"),
        Value::Vector(samples) => {
            for s in samples {
                write!(out, "\n  {} {}", s.labels, sample(&s.sample))
                    .expect("BUG: writing to a String cannot fail");
            }
        }
        Value::Matrix(all) => {
            for series in all {
                write!(out, "\n  {}", series.labels).expect("BUG: writing to a String cannot fail");
                for (ts, s) in &series.points {
                    write!(out, " {}@{ts}", sample(s))
                        .expect("BUG: writing to a String cannot fail");
                }
            }
        }
    }
    if out.len() > SHOWN_MAX {
        let mut end = SHOWN_MAX;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
        out.push_str(" ...");
    }
    out
}
