//! The series of a test, stored step by step as time goes on.

use std::sync::Arc;

use super::schema::Test;
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::parser::parse_metric;
use crate::parser::series::{SeriesValue, parse_series_values};
use crate::storage::Sink;

/// Every sample of a test in time order.
#[derive(Debug, Default)]
pub(super) struct Feed {
    samples: Vec<(TimestampMs, Labels, Point)>,
    stored: usize,
}

#[derive(Clone, Debug)]
enum Point {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Feed {
    /// Reads the test's series, or those at some places. Of several with the same labels the
    /// last counts.
    pub(super) fn new(test: &Test, only: Option<&[usize]>) -> Result<Self, Vec<String>> {
        let mut series: Vec<(Labels, Vec<SeriesValue>)> = Vec::new();
        let mut errors = Vec::new();
        let wanted = |place: &usize| only.is_none_or(|only| only.contains(place));
        let all = test.input_series.iter().enumerate();
        for (_, input) in all.filter(|(place, _)| wanted(place)) {
            let parsed = parse_metric(&input.series)
                .and_then(|labels| Ok((labels, parse_series_values(&input.values)?)));
            match parsed {
                Ok((labels, values)) => {
                    series.retain(|(l, _)| *l != labels);
                    series.push((labels, values));
                }
                Err(e) => errors.push(format!("    line {}: {e}", input.at.line)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut samples = Vec::new();
        for (labels, values) in series {
            for (i, value) in values.into_iter().enumerate() {
                let point = match value {
                    SeriesValue::Missing => continue,
                    SeriesValue::Float(v) => Point::Float(v),
                    SeriesValue::Histogram { histogram, .. } => Point::Histogram(histogram),
                };
                let at = test.start_ms + i as i64 * test.interval_ms;
                samples.push((at, labels.clone(), point));
            }
        }
        samples.sort_by_key(|(at, _, _)| *at);
        Ok(Self { samples, stored: 0 })
    }

    /// Samples in time order.
    pub(super) fn of(samples: impl Iterator<Item = (TimestampMs, Labels, f64)>) -> Self {
        let samples = samples.map(|(at, labels, v)| (at, labels, Point::Float(v))).collect();
        Self { samples, stored: 0 }
    }

    /// Stores what is due by `ts`. Rules may not see the future.
    pub(super) fn store_until(&mut self, ts: TimestampMs, sink: &dyn Sink) -> Result<(), String> {
        let mut appender = sink.appender();
        while let Some((at, labels, point)) = self.samples.get(self.stored)
            && *at <= ts
        {
            let appended = match point {
                Point::Float(v) => appender.append(None, labels, *at, *v),
                Point::Histogram(h) => appender.append_histogram(None, labels, *at, h),
            };
            appended.map_err(|e| format!("    storing {labels} at {at} ms: {e}"))?;
            self.stored += 1;
        }
        appender.commit().map_err(|e| format!("    storing input series: {e}"))
    }
}
