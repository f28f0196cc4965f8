//! `load` blocks: series with their points, from time 0 on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::nhcb;
use super::script::{Line, LineError};
use crate::model::duration::{parse_duration, parse_signed_duration};
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::parser::{self, SeriesValue};
use crate::storage::memory::MemoryStorage;

/// Most points a line may stand for; a guard against `1x9999999999`.
const POINTS_MAX: usize = 1_000_000;

/// A sample of a script.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Point {
    Float(f64),
    Histogram {
        histogram: Arc<FloatHistogram>,
        /// `counter_reset_hint` was written, so it is compared.
        hint_given: bool,
    },
}

impl Point {
    /// Appends the sample; times of a series must ascend.
    pub(super) fn append(
        &self,
        storage: &MemoryStorage,
        labels: &Labels,
        ts: TimestampMs,
        start_ms: Option<TimestampMs>,
    ) -> Result<(), String> {
        match self {
            Self::Float(v) => storage.append(labels, ts, *v, start_ms),
            Self::Histogram { histogram, .. } => {
                storage.append_histogram(labels, ts, histogram, start_ms)
            }
        }
        .map_err(|e| format!("cannot append a sample to {labels} at {ts} ms: {e}"))
    }
}

/// A series to load; a point without a sample is `None`.
#[derive(Clone, Debug)]
pub(super) struct LoadSeries {
    pub(super) points: Vec<Option<Point>>,
    /// Start timestamp of each point less its time; `None` is unknown.
    pub(super) start_offsets: Vec<Option<i64>>,
}

/// A `load` command.
#[derive(Clone, Debug)]
pub(super) struct Load {
    step_ms: i64,
    with_nhcb: bool,
    /// Of a repeated label set the last line counts.
    series: BTreeMap<Labels, LoadSeries>,
}

/// Reads a `load` line and its block.
pub(super) fn parse(head: Line<'_>, block: &[Line<'_>]) -> Result<Load, LineError> {
    const FORM: &str = "invalid load command. (load[_with_nhcb] <step:duration>)";
    let (word, step) = head.text.split_once(char::is_whitespace).unwrap_or((head.text, ""));
    let with_nhcb = match word.to_ascii_lowercase().as_str() {
        "load" => false,
        "load_with_nhcb" => true,
        _ => return Err((head.number, FORM.to_owned())),
    };
    let step = step.trim();
    if step.is_empty() {
        return Err((head.number, FORM.to_owned()));
    }
    let step_ms = parse_duration(step)
        .map_err(|e| (head.number, format!("invalid step definition {step:?}: {e}")))?;
    let mut load = Load { step_ms, with_nhcb, series: BTreeMap::new() };
    let mut starts: Option<(usize, Labels, Vec<Option<i64>>)> = None;
    for line in block {
        let fail = |message: String| (line.number, message);
        if let Some((metric, items)) = start_line(line.text) {
            if let Some((number, ..)) = starts {
                return Err((number, "@st line has no following sample line".to_owned()));
            }
            let labels = parser::parse_metric(metric).map_err(|e| fail(e.to_string()))?;
            starts = Some((line.number, labels, offsets(items).map_err(fail)?));
            continue;
        }
        let (labels, points) = parse_points(line.text).map_err(fail)?;
        let start_offsets = match starts.take() {
            None => Vec::new(),
            Some((_, metric, _)) if metric != labels => {
                return Err(fail(
                    "@st metric does not match the following sample line metric".to_owned(),
                ));
            }
            Some((_, _, offsets)) if offsets.len() != points.len() => {
                return Err(fail(format!(
                    "@st line has {} values but sample line has {}",
                    offsets.len(),
                    points.len()
                )));
            }
            Some((_, _, offsets)) => offsets,
        };
        load.series.insert(labels, LoadSeries { points, start_offsets });
    }
    match starts {
        Some((number, ..)) => Err((number, "@st line has no following sample line".to_owned())),
        None => Ok(load),
    }
}

impl Load {
    /// Appends the series.
    pub(super) fn apply(&self, storage: &MemoryStorage) -> Result<(), String> {
        for (labels, series) in &self.series {
            for (i, point) in series.points.iter().enumerate() {
                let Some(point) = point else { continue };
                let ts = (i as i64).saturating_mul(self.step_ms);
                let offset = series.start_offsets.get(i).copied().flatten();
                point.append(
                    storage,
                    labels,
                    ts,
                    offset.map(|offset| ts.saturating_add(offset)),
                )?;
            }
        }
        if self.with_nhcb {
            nhcb::convert(&self.series, self.step_ms, storage)?;
        }
        Ok(())
    }
}

/// A line of series notation: the metric, and its points.
pub(super) fn parse_points(line: &str) -> Result<(Labels, Vec<Option<Point>>), String> {
    let description = parser::parse_series_description(line).map_err(|e| e.to_string())?;
    let points = description
        .values
        .into_iter()
        .map(|value| match value {
            SeriesValue::Missing => None,
            SeriesValue::Float(v) => Some(Point::Float(v)),
            SeriesValue::Histogram { histogram, hint_written } => {
                Some(Point::Histogram { histogram, hint_given: hint_written })
            }
        })
        .collect();
    Ok((description.labels, points))
}

/// The metric and items of `metric{labels}@st ITEMS`.
fn start_line(line: &str) -> Option<(&str, &str)> {
    let (metric, rest) = line.split_once("@st")?;
    let closed = metric.ends_with('}') || !metric.contains(['{', ' ', '\t']);
    (closed && rest.starts_with(char::is_whitespace)).then(|| (metric, rest.trim()))
}

/// `_`, `_xN`, `D`, `DxN`, `D+DxN`, `D-DxN`, separated by blanks.
fn offsets(items: &str) -> Result<Vec<Option<i64>>, String> {
    let mut out = Vec::new();
    for item in items.split_whitespace() {
        let invalid = || format!("invalid @st item {item:?}");
        let (value, times) = match item.rsplit_once('x') {
            Some((value, times)) => (value, times.parse::<usize>().map_err(|_| invalid())?),
            None => (item, 0),
        };
        if out.len().saturating_add(times) > POINTS_MAX {
            return Err(format!("more than {POINTS_MAX} values in one @st line"));
        }
        if value == "_" {
            out.extend(std::iter::repeat_n(None, if item == "_" { 1 } else { times }));
            continue;
        }
        let (first, step) = match value.get(1..).and_then(|v| v.find(['+', '-'])) {
            Some(i) => value.split_at(i + 1),
            None => (value, ""),
        };
        let duration = |text: &str| {
            parse_signed_duration(text.strip_prefix('+').unwrap_or(text)).map_err(|_| invalid())
        };
        let first = duration(first)?;
        let step = if step.is_empty() { 0 } else { duration(step)? };
        out.extend((0..=times as i64).map(|i| Some(first.saturating_add(i.saturating_mul(step)))));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_offsets_repeat_and_step() {
        let some = |v: &[i64]| v.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(offsets("-1m 0s -59999ms"), Ok(some(&[-60_000, 0, -59_999])));
        assert_eq!(offsets("-30s-1mx2"), Ok(some(&[-30_000, -90_000, -150_000])));
        assert_eq!(offsets("-2s+1sx2"), Ok(some(&[-2000, -1000, 0])));
        assert_eq!(offsets("_ _x2 1sx1"), Ok(vec![None, None, None, Some(1000), Some(1000)]));
        assert!(offsets("soon").is_err());
        assert!(offsets("1s 1sx18446744073709551615").is_err());
        assert_eq!(start_line("a{b=\"c\"}@st  -1s"), Some(("a{b=\"c\"}", "-1s")));
        assert_eq!(start_line("a{b=\"@st\"} 1 2"), None);
    }
}
