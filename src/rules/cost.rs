//! What rules cost: the last evaluations of each, and where a group's duration is heading.
//!
//! Per rule the last [`EVALUATIONS_KEPT`] evaluations are kept, 16 bytes each, so that a
//! slow rule is found by looking and not by a metric per rule. Per group the duration is
//! kept over days, in ever coarser points, to tell when it will exceed the interval.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::error::RuleError;
use super::metrics::GroupMetrics;
use super::view::{CostSummary, PaceView};
use crate::model::{TimestampMs, Value};
use crate::query::QueryResult;

/// Evaluations of a rule that are kept.
pub(super) const EVALUATIONS_KEPT: usize = 120;

/// What one evaluation of a rule cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub seconds: f64,
    /// Samples read from storage.
    pub samples: u64,
    /// Series the query returned.
    pub series: u64,
    /// Bytes of the series and samples read, decoded.
    pub bytes: u64,
}

impl Cost {
    /// That of an answer; how long it took is not known from it. A failed query is not
    /// known to have read anything.
    pub(super) fn of(answer: &Result<QueryResult, RuleError>) -> Self {
        let Ok(answer) = answer else { return Self::default() };
        let series = match &answer.value {
            Value::Vector(samples) => samples.len(),
            Value::Matrix(series) => series.len(),
            Value::Scalar { .. } | Value::String { .. } => 1,
        };
        Self {
            seconds: 0.0,
            samples: answer.stats.samples_read,
            series: series as u64,
            bytes: answer.stats.bytes_read,
        }
    }
}

/// A cost in little room; what is larger than four bytes hold is cut.
#[derive(Clone, Copy, Debug)]
struct Packed {
    seconds: f32,
    samples: u32,
    series: u32,
    bytes: u32,
}

impl From<Cost> for Packed {
    fn from(cost: Cost) -> Self {
        let cut = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            seconds: cost.seconds as f32,
            samples: cut(cost.samples),
            series: cut(cost.series),
            bytes: cut(cost.bytes),
        }
    }
}

impl From<Packed> for Cost {
    fn from(packed: Packed) -> Self {
        Self {
            seconds: f64::from(packed.seconds),
            samples: packed.samples.into(),
            series: packed.series.into(),
            bytes: packed.bytes.into(),
        }
    }
}

/// The last evaluations of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    kept: VecDeque<Packed>,
    evaluations: u64,
    total: Cost,
}

impl Costs {
    pub(super) fn push(&mut self, cost: Cost) {
        if self.kept.len() == EVALUATIONS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(cost.into());
        self.evaluations += 1;
        self.total.seconds += cost.seconds;
        self.total.samples += cost.samples;
        self.total.series += cost.series;
        self.total.bytes += cost.bytes;
    }

    /// Evaluations since the rule came, kept or not.
    pub(super) fn evaluations(&self) -> u64 {
        self.evaluations
    }

    /// The last evaluation.
    pub(super) fn last(&self) -> Option<Cost> {
        self.kept.back().map(|packed| (*packed).into())
    }

    /// Duration in seconds, samples, series, bytes.
    pub(super) fn summaries(&self) -> [CostSummary; 4] {
        [
            self.summary(self.total.seconds, |p| f64::from(p.seconds)),
            self.summary(self.total.samples as f64, |p| p.samples.into()),
            self.summary(self.total.series as f64, |p| p.series.into()),
            self.summary(self.total.bytes as f64, |p| p.bytes.into()),
        ]
    }

    fn summary(&self, total: f64, of: impl Fn(&Packed) -> f64) -> CostSummary {
        let mut sorted: Vec<f64> = self.kept.iter().map(&of).collect();
        let last = sorted.last().copied().unwrap_or(0.0);
        sorted.sort_by(f64::total_cmp);
        let sum: f64 = sorted.iter().sum();
        let count = sorted.len().max(1);
        // The nearest rank: with fewer than a hundred values the largest.
        let rank = (count as f64 * 0.99).ceil() as usize;
        CostSummary {
            last,
            avg: sum / count as f64,
            p99: sorted.get(rank - 1).copied().unwrap_or(0.0),
            max: sorted.last().copied().unwrap_or(0.0),
            total,
        }
    }
}

/// Points of a trend; the line through them is what a forecast goes by.
const POINTS_MAX: usize = 128;
/// Fewer points than this say nothing.
const POINTS_MIN: usize = 10;
/// Nothing older takes part in a forecast.
const TREND_MS: i64 = 7 * 86_400_000;
/// A slope is believed when it is that many times its standard error.
const CERTAINTY: f64 = 4.0;
/// How much further than it looks back a forecast looks ahead.
const REACH: f64 = 10.0;

/// How a duration develops, over at most a week.
#[derive(Clone, Debug, Default)]
struct Trend {
    /// Mean time and mean duration of as many evaluations each as `width` says.
    points: Vec<(TimestampMs, f64)>,
    /// A power of two, as its exponent.
    width: u32,
    /// What the next point will be of: how many, sum of times since the first, of durations.
    open: (u32, i64, f64),
    open_at: TimestampMs,
}

impl Trend {
    fn push(&mut self, at_ms: TimestampMs, seconds: f64) {
        if self.open.0 == 0 {
            self.open_at = at_ms;
        }
        self.open.0 += 1;
        self.open.1 += at_ms - self.open_at;
        self.open.2 += seconds;
        let (count, since, sum) = self.open;
        if count < 1 << self.width {
            return;
        }
        self.open = (0, 0, 0.0);
        let kept_from = self.points.partition_point(|(at, _)| *at < at_ms - TREND_MS);
        self.points.drain(..kept_from);
        if self.points.len() == POINTS_MAX {
            self.halve();
        }
        self.points.push((self.open_at + since / i64::from(count), sum / f64::from(count)));
    }

    /// Makes one point of two.
    fn halve(&mut self) {
        let halved = self.points.chunks(2).map(|pair| {
            let n = pair.len() as f64;
            let since: i64 = pair.iter().map(|(at, _)| at - pair[0].0).sum();
            let seconds: f64 = pair.iter().map(|(_, s)| s).sum();
            (pair[0].0 + since / pair.len() as i64, seconds / n)
        });
        self.points = halved.collect();
        self.width += 1;
    }

    /// Seconds from `now_ms` until the line through the points reaches `limit` seconds;
    /// `None` when there is no rise to be sure of, or that is too far off to tell.
    fn forecast(&self, now_ms: TimestampMs, limit: f64) -> Option<f64> {
        let n = self.points.len();
        if n < POINTS_MIN {
            return None;
        }
        // Seconds since now: small numbers, and the line's value now is its intercept.
        let points = || self.points.iter().map(|(at, s)| ((at - now_ms) as f64 / 1000.0, *s));
        let mean = |sum: f64| sum / n as f64;
        let mean_t = mean(points().map(|(t, _)| t).sum());
        let mean_s = mean(points().map(|(_, s)| s).sum());
        let sxx: f64 = points().map(|(t, _)| (t - mean_t).powi(2)).sum();
        let sxy: f64 = points().map(|(t, s)| (t - mean_t) * (s - mean_s)).sum();
        if sxx <= 0.0 {
            return None;
        }
        let slope = sxy / sxx;
        let now = mean_s - slope * mean_t;
        let rest: f64 = points().map(|(t, s)| (s - now - slope * t).powi(2)).sum();
        let error = (rest / (n - 2) as f64 / sxx).sqrt();
        if slope <= CERTAINTY * error || slope <= 0.0 {
            return None;
        }
        let ahead = ((limit - now) / slope).max(0.0);
        let span = (now_ms - self.points[0].0) as f64 / 1000.0;
        (ahead <= REACH * span).then_some(ahead)
    }
}

/// Evaluations of a group whose mean is held against its budget: one slow one is no news.
const RECENT: usize = 5;

/// How long a group takes, of the time it has.
#[derive(Debug)]
pub(super) struct Pace {
    interval_seconds: f64,
    /// Share of the interval.
    budget: f64,
    state: Mutex<PaceState>,
}

#[derive(Debug, Default)]
struct PaceState {
    recent: VecDeque<f64>,
    trend: Trend,
    exceeded: bool,
    forecast: Option<f64>,
}

impl PaceState {
    fn mean(&self) -> Option<f64> {
        let n = self.recent.len();
        (n > 0).then(|| self.recent.iter().sum::<f64>() / n as f64)
    }
}

/// What crossed the budget just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    Exceeded,
    Kept,
}

impl Pace {
    pub(super) fn new(interval_ms: i64, budget: f64) -> Self {
        let interval_seconds = interval_ms as f64 / 1000.0;
        Self { interval_seconds, budget, state: Mutex::default() }
    }

    /// Notes an evaluation that ended, and says so when the budget was crossed by it.
    pub(super) fn note(
        &self,
        metrics: &GroupMetrics,
        at_ms: TimestampMs,
        seconds: f64,
    ) -> Option<Crossing> {
        let mut state = self.state.lock();
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back(seconds);
        state.trend.push(at_ms, seconds);
        let mean = state.mean().unwrap_or(0.0);
        state.forecast = match mean > self.interval_seconds {
            true => Some(0.0),
            false => state.trend.forecast(at_ms, self.interval_seconds),
        };
        let used = mean / self.interval_seconds;
        metrics.interval_used.set(used);
        metrics.budget.set(self.budget);
        metrics.overrun_forecast_seconds.set(state.forecast.unwrap_or(f64::INFINITY));
        if seconds > self.budget * self.interval_seconds {
            metrics.budget_exceeded.inc();
        }
        let before = std::mem::replace(&mut state.exceeded, used > self.budget);
        match (before, state.exceeded) {
            (false, true) => Some(Crossing::Exceeded),
            (true, false) => Some(Crossing::Kept),
            _ => None,
        }
    }

    /// `None` before the first evaluation.
    pub(super) fn view(&self) -> Option<PaceView> {
        let state = self.state.lock();
        Some(PaceView {
            used: state.mean()? / self.interval_seconds,
            budget: self.budget,
            exceeded: state.exceeded,
            overrun_forecast_seconds: state.forecast,
        })
    }
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
