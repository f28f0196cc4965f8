//! Samples of a server on the grid of a test.
//!
//! A point of the grid has the newest sample since the point before. Where the server shows
//! a series no longer though a test would (the lookback, or a staleness marker), the grid
//! has a marker of its own.

use super::plan::LOOKBACK_MS;
use super::{Fetched, Plan};
use crate::model::duration::format_duration;
use crate::model::value::{is_stale_nan, stale_nan};
use crate::model::{Labels, METRIC_NAME, TimestampMs};

/// One sample of one series.
pub(super) type Point = (TimestampMs, Labels, f64);

/// The input of a test.
#[derive(Clone, Debug)]
pub(super) struct Fixture {
    pub start_ms: TimestampMs,
    /// Between two points.
    pub interval_ms: i64,
    /// Each with its values from the start on.
    pub series: Vec<(Labels, Vec<Option<f64>>)>,
    /// Samples that another one of the same point hides.
    hidden: usize,
}

/// What rules record is made anew.
fn is_input(plan: &Plan, fetched: &Fetched) -> bool {
    let name = fetched.labels.get(METRIC_NAME).unwrap_or_default();
    !fetched.samples.is_empty() && !plan.recorded.contains(name)
}

impl Fixture {
    /// Puts samples on a grid of this part of the evaluation interval.
    pub(super) fn new(plan: &Plan, fetched: &[Fetched], part: i64) -> Self {
        let interval_ms = plan.interval_ms / part;
        let mut fixture =
            Self { start_ms: plan.start_ms, interval_ms, series: Vec::new(), hidden: 0 };
        for one in fetched.iter().filter(|one| is_input(plan, one)) {
            let values = fixture.values(plan, one, part as usize);
            if values.iter().any(Option::is_some) {
                fixture.series.push((one.labels.clone(), values));
            }
        }
        fixture.series.sort_by(|a, b| a.0.cmp(&b.0));
        fixture.series.dedup_by(|a, b| a.0 == b.0);
        fixture
    }

    fn values(&mut self, plan: &Plan, one: &Fetched, part: usize) -> Vec<Option<f64>> {
        let points = (plan.ticks() - 1) * part + 1;
        let mut values = vec![None; points];
        let mut next = 0;
        // When the newest sample that a test would show was put.
        let mut shown: Option<TimestampMs> = None;
        for (i, value) in values.iter_mut().enumerate() {
            let at = self.start_ms + i as i64 * self.interval_ms;
            let from = next;
            while one.samples.get(next).is_some_and(|(ts, _)| *ts <= at) {
                next += 1;
            }
            // Before the first point only the newest counts, and only if it is fresh.
            let fresh = next > from && (i > 0 || one.samples[next - 1].0 > at - self.interval_ms);
            if fresh {
                *value = Some(one.samples[next - 1].1);
                shown = Some(at);
                if i > 0 {
                    self.hidden += next - from - 1;
                }
            }
            let evaluated = i % part == 0;
            let gone = evaluated && one.visible.get(i / part) == Some(&false);
            if gone && shown.is_some_and(|ts| at - ts <= LOOKBACK_MS) {
                *value = Some(stale_nan());
                shown = None;
            }
        }
        values
    }

    /// Everything the test has, in time order.
    pub(super) fn samples(&self) -> Vec<Point> {
        let every: Vec<usize> = (0..self.series.len()).collect();
        self.samples_of(&every)
    }

    /// What some series have.
    pub(super) fn samples_of(&self, kept: &[usize]) -> Vec<Point> {
        let mut points = Vec::new();
        for (labels, values) in kept.iter().map(|i| &self.series[*i]) {
            for (i, value) in values.iter().enumerate() {
                let at = self.start_ms + i as i64 * self.interval_ms;
                points.extend(value.map(|value| (at, labels.clone(), value)));
            }
        }
        points.sort_by_key(|(at, _, _)| *at);
        points
    }

    /// Leaves all other series out.
    pub(super) fn keep(&mut self, kept: &[usize]) {
        let mut index = 0;
        self.series.retain(|_| {
            index += 1;
            kept.contains(&(index - 1))
        });
    }

    /// What of the server's samples the test does not have.
    pub(super) fn losses(&self, plan: &Plan, fetched: &[Fetched]) -> Vec<String> {
        let mut notes = Vec::new();
        let grid = format_duration(self.interval_ms);
        if self.hidden > 0 {
            notes.push(format!(
                "{} samples lie closer to the next one than {grid} and are not in the test",
                self.hidden
            ));
        }
        for one in fetched.iter().filter(|one| one.histograms > 0) {
            notes.push(format!(
                "{} has {} native histograms, whose schema the server's API does not tell; they \
                 are not in the test",
                one.labels, one.histograms
            ));
        }
        let known = fetched.iter().filter(|one| !is_input(plan, one) && one.histograms == 0);
        let recorded = known.filter(|one| !one.samples.is_empty()).count();
        if recorded > 0 {
            notes.push(format!("{recorded} series that the rules record are made anew"));
        }
        notes
    }
}

/// The server's own samples at their own times, with markers where a series ends.
pub(super) fn exact(plan: &Plan, fetched: &[Fetched]) -> Vec<Point> {
    let mut points = Vec::new();
    let ends = Fixture::new(plan, fetched, 1);
    for one in fetched.iter().filter(|one| is_input(plan, one)) {
        points.extend(one.samples.iter().map(|(at, v)| (*at, one.labels.clone(), *v)));
    }
    let stale = ends.samples().into_iter().filter(|(_, _, value)| is_stale_nan(*value));
    // A sample at the very time of a marker is what the marker ends.
    points.extend(stale);
    points.sort_by_key(|(at, _, value)| (*at, is_stale_nan(*value)));
    points.dedup_by(|later, earlier| later.0 == earlier.0 && later.1 == earlier.1);
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::unit_test::record::notation::notation;

    #[test]
    fn samples_find_their_points() {
        let plan = Plan::of_times(0, 60_000, 6);
        let check = |samples: &[(i64, f64)], visible: &str, part: i64, expected: &str, hidden| {
            let one = Fetched {
                labels: Labels::from_pairs([(METRIC_NAME, "x")]),
                samples: samples.iter().map(|(s, v)| (s * 1000, *v)).collect(),
                visible: visible.chars().map(|c| c == '1').collect(),
                histograms: 0,
            };
            let fixture = Fixture::new(&plan, &[one], part);
            let text = fixture.series.first().map(|(_, v)| notation(v)).unwrap_or_default();
            assert_eq!((text.as_str(), fixture.hidden), (expected, hidden), "{samples:?}");
        };
        let steady = [(0, 1.0), (60, 2.0), (120, 3.0), (180, 4.0), (240, 5.0), (300, 6.0)];
        check(&steady, "111111", 1, "1+1x5", 0);
        // Between the points: the newest, at the next point.
        check(&[(10, 1.0), (50, 2.0), (130, 3.0)], "111111", 1, "_ 2 _ 3", 1);
        check(&[(10, 1.0), (50, 2.0), (130, 3.0)], "111111", 2, "_ 1 2 _x2 3", 0);
        // One that is older than a point before the start does not count.
        check(&[(-70, 1.0), (60, 2.0)], "011111", 1, "_ 2", 0);
        check(&[(-30, 1.0)], "111111", 1, "1", 0);
        // Gone on the server while a test would still show it.
        check(&[(0, 1.0), (60, 1.0)], "110000", 1, "1x1 stale", 0);
        check(&[(0, 1.0), (60, 1.0), (200, 2.0)], "110011", 1, "1x1 stale _ 2", 0);
        check(&[(0, 1.0), (60, 1.0)], "110000", 2, "1 _ 1 _ stale", 0);
        check(&[], "000000", 1, "", 0);
    }
}
