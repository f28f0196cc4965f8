//! Quantiles over a sliding window, for the metrics that Prometheus exposes as summaries;
//! `prometheus_client` has no such type.
//!
//! The window is ten minutes in five slots, as client_golang's defaults are. Each slot is
//! a sketch with logarithmic buckets (about 1 % wide), so an observation costs one map
//! entry at most, memory is bounded whatever is observed, and the relative error of a
//! quantile stays below 1 %. `_sum` and `_count` are over the whole life of the process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Slots of the window.
const SLOTS: u64 = 5;
/// Time a slot collects; the window is `SLOTS` of them.
const SLOT: Duration = Duration::from_secs(120);
/// Values up to this one share a bucket: a nanosecond, in seconds.
const SMALLEST: f64 = 1e-9;
/// Natural logarithm of the ratio of neighbouring bucket bounds, 1.01.
const LN_GAMMA: f64 = 0.009_950_330_853_168_083;
/// Last bucket: about 1e18 times `SMALLEST`.
const BUCKET_MAX: u16 = 4_166;

/// Unit in which quantiles travel to the encoder; see [`Summary::encode`].
pub(super) const QUANTILE_SCALE: f64 = 1e6;

/// A summary: `_sum`, `_count` and quantiles of the last ten minutes. Clones share state.
/// Meant for durations and sizes: negative values count as zero in the quantiles.
#[derive(Clone, Debug)]
pub struct Summary {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    quantiles: &'static [f64],
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sum: f64,
    count: u64,
    /// Number of the newest slot, counted from the origin.
    newest: u64,
    slots: [Sketch; SLOTS as usize],
}

/// Bucket number to observations and their sum: the mean of a bucket stands for it, so a
/// bucket of equal values is exact.
#[derive(Debug, Default)]
struct Sketch {
    buckets: BTreeMap<u16, (u64, f64)>,
}

impl Default for Summary {
    /// The quantiles most of Prometheus' summaries have.
    fn default() -> Self {
        Self::new(&[0.5, 0.9, 0.99])
    }
}

impl Summary {
    /// A summary of these quantiles, in ascending order.
    pub fn new(quantiles: &'static [f64]) -> Self {
        let origin = Instant::now();
        Self { inner: Arc::new(Inner { quantiles, origin, state: Mutex::default() }) }
    }

    /// Adds an observation.
    pub fn observe(&self, value: f64) {
        self.observe_at(value, self.inner.origin.elapsed());
    }

    /// Adds observations made at the same time, for less than one by one.
    pub fn observe_all(&self, values: impl Iterator<Item = f64>) {
        self.observe_all_at(values, self.inner.origin.elapsed());
    }

    fn observe_at(&self, value: f64, at: Duration) {
        self.observe_all_at(std::iter::once(value), at);
    }

    fn observe_all_at(&self, values: impl Iterator<Item = f64>, at: Duration) {
        let mut state = self.inner.state.lock();
        state.rotate(at);
        // Many of one value in a row, as those that a batch shares, are added at once.
        let (mut run, mut count) = (f64::NAN, 0);
        for value in values {
            state.sum += value;
            state.count += 1;
            if value.to_bits() != run.to_bits() {
                state.add(run, count);
                (run, count) = (value, 0);
            }
            count += 1;
        }
        state.add(run, count);
    }

    /// Sum, count and the quantiles' values (NaN when the window is empty).
    fn snapshot_at(&self, at: Duration) -> (f64, u64, Vec<f64>) {
        let mut state = self.inner.state.lock();
        state.rotate(at);
        let values = state.quantiles(self.inner.quantiles);
        (state.sum, state.count, values)
    }
}

impl State {
    /// Adds so many observations of one value to the newest slot.
    fn add(&mut self, value: f64, count: u64) {
        if value.is_nan() || count == 0 {
            return;
        }
        let slot = (self.newest % SLOTS) as usize;
        let entry = self.slots[slot].buckets.entry(bucket_of(value)).or_default();
        entry.0 += count;
        entry.1 += value * count as f64;
    }

    /// Empties the slots whose time has passed.
    fn rotate(&mut self, at: Duration) {
        let now = at.as_secs() / SLOT.as_secs();
        let passed = now.saturating_sub(self.newest);
        for i in 1..=passed.min(SLOTS) {
            self.slots[((self.newest + i) % SLOTS) as usize].buckets.clear();
        }
        self.newest = self.newest.max(now);
    }

    fn quantiles(&self, wanted: &[f64]) -> Vec<f64> {
        let mut merged: BTreeMap<u16, (u64, f64)> = BTreeMap::new();
        for (bucket, (count, sum)) in self.slots.iter().flat_map(|slot| &slot.buckets) {
            let entry = merged.entry(*bucket).or_default();
            entry.0 += count;
            entry.1 += sum;
        }
        let total: u64 = merged.values().map(|(count, _)| count).sum();
        wanted
            .iter()
            .map(|q| {
                let rank = ((q * total as f64).ceil() as u64).max(1);
                let mut seen = 0;
                let found = merged.values().find(|(count, _)| {
                    seen += count;
                    seen >= rank
                });
                found.map_or(f64::NAN, |(count, sum)| sum / *count as f64)
            })
            .collect()
    }
}

fn bucket_of(value: f64) -> u16 {
    if value <= SMALLEST {
        return 0;
    }
    // The cast saturates, so infinity lands in the last bucket.
    ((value / SMALLEST).ln() / LN_GAMMA).ceil().min(f64::from(BUCKET_MAX)) as u16
}

impl EncodeMetric for Summary {
    /// The encoder of `prometheus_client` knows no summaries. What reaches it is a
    /// histogram of `unknown` type, one bucket per quantile: `le` is the quantile's value
    /// and the cumulative count the quantile in millionths. [`super::exposition::encode`]
    /// turns that into a summary, and is the only way metrics leave this process.
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        let (sum, count, values) = self.snapshot_at(self.inner.origin.elapsed());
        let mut before = 0;
        let mut buckets = Vec::with_capacity(values.len());
        for (quantile, value) in self.inner.quantiles.iter().zip(values) {
            let millionths = (quantile * QUANTILE_SCALE).round() as u64;
            buckets.push((value, millionths.saturating_sub(before)));
            before = millionths;
        }
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Summary {
    const TYPE: MetricType = MetricType::Unknown;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * 60)
    }

    #[test]
    fn quantiles_are_within_one_percent_and_a_lone_value_is_exact() {
        let summary = Summary::default();
        assert!(summary.snapshot_at(minutes(0)).2.iter().all(|v| v.is_nan()));
        summary.observe_at(0.123, minutes(0));
        assert_eq!(summary.snapshot_at(minutes(0)), (0.123, 1, vec![0.123; 3]));

        let summary = Summary::default();
        for i in 1..=10_000 {
            summary.observe_at(f64::from(i) / 1000.0, minutes(1));
        }
        for (value, expected) in summary.snapshot_at(minutes(1)).2.iter().zip([5.0, 9.0, 9.9]) {
            assert!((value / expected - 1.0).abs() < 0.01, "{value} is not {expected}");
        }
    }

    #[test]
    fn observations_leave_the_window_after_ten_minutes_but_stay_in_the_sum() {
        let summary = Summary::new(&[0.5]);
        summary.observe_at(1.0, minutes(0));
        summary.observe_at(5.0, minutes(5));
        summary.observe_at(5.0, minutes(5));
        assert_eq!(summary.snapshot_at(minutes(9)), (11.0, 3, vec![5.0]));
        summary.observe_at(7.0, minutes(13));
        assert_eq!(summary.snapshot_at(minutes(13)).2, [5.0]);
        assert_eq!(summary.snapshot_at(minutes(16)), (18.0, 4, vec![7.0]));
        assert!(summary.snapshot_at(minutes(60)).2[0].is_nan());
    }

    #[test]
    fn observations_made_together_count_as_one_by_one() {
        let values = [0.25, 0.25, 0.5, f64::NAN, 0.5, -1.0, 0.0, 0.25];
        let (one_by_one, together) = (Summary::default(), Summary::default());
        values.iter().for_each(|value| one_by_one.observe_at(*value, minutes(1)));
        together.observe_all_at(values.into_iter(), minutes(1));
        together.observe_all_at(std::iter::empty(), minutes(1));
        let show = |summary: &Summary| format!("{:?}", summary.snapshot_at(minutes(2)));
        assert_eq!(show(&together), show(&one_by_one));
    }

    #[test]
    fn any_value_is_accepted_and_memory_is_bounded() {
        let summary = Summary::new(&[0.5]);
        for value in [f64::NAN, f64::INFINITY, f64::MAX, -1.0, 0.0, f64::MIN_POSITIVE] {
            summary.observe_at(value, minutes(0));
        }
        for i in 0..100_000_u64 {
            summary.observe_at((i * i * i) as f64, minutes(0));
        }
        let state = summary.inner.state.lock();
        assert!(state.slots[0].buckets.len() <= usize::from(BUCKET_MAX) + 1);
    }
}
