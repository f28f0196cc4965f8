//! Raw samples of one series, and the slice of them a range kernel sees at one step.

use std::sync::Arc;

use multiversion::multiversion;

use crate::model::value::is_stale_nan;
use crate::model::{FloatHistogram, TimestampMs};

/// Decoded samples of one series in time order, floats and histograms apart. Reused from
/// series to series so that decoding does not allocate.
#[derive(Clone, Debug, Default)]
pub struct RawSamples {
    pub ts: Vec<TimestampMs>,
    pub vs: Vec<f64>,
    pub hist: Vec<(TimestampMs, Arc<FloatHistogram>)>,
    /// Start timestamps of the floats, parallel to `ts`; empty when the storage knows none.
    pub start_ts: Vec<TimestampMs>,
    /// Start timestamps of the histograms, parallel to `hist`; empty when none is known.
    pub hist_start_ts: Vec<TimestampMs>,
}

impl RawSamples {
    /// Forgets the samples and keeps the memory.
    pub fn clear(&mut self) {
        self.ts.clear();
        self.vs.clear();
        self.hist.clear();
        self.start_ts.clear();
        self.hist_start_ts.clear();
    }

    /// Appends a float.
    pub fn push(&mut self, ts: TimestampMs, v: f64) {
        self.ts.push(ts);
        self.vs.push(v);
    }

    /// Removes staleness markers (of histograms: a marker as sum): a range never shows them.
    pub fn drop_stale(&mut self) {
        if self.has_stale_floats() {
            let stale = std::mem::take(&mut self.vs);
            let mut keep = stale.iter().map(|v| !is_stale_nan(*v));
            self.ts.retain(|_| keep.next().unwrap_or(false));
            let mut keep = stale.iter().map(|v| !is_stale_nan(*v));
            self.start_ts.retain(|_| keep.next().unwrap_or(false));
            self.vs = stale;
            self.vs.retain(|v| !is_stale_nan(*v));
        }
        if self.hist.iter().any(|(_, h)| is_stale_nan(h.sum)) {
            let mut keep = self.hist.iter().map(|(_, h)| !is_stale_nan(h.sum));
            self.hist_start_ts.retain(|_| keep.next().unwrap_or(false));
            self.hist.retain(|(_, h)| !is_stale_nan(h.sum));
        }
    }

    /// Appends the samples of `other`, which are later. Where only one of the two knows start
    /// times, those of the other are 0.
    pub fn append(&mut self, mut other: Self) {
        if !(self.start_ts.is_empty() && other.start_ts.is_empty()) {
            self.start_ts.resize(self.ts.len(), 0);
            other.start_ts.resize(other.ts.len(), 0);
        }
        if !(self.hist_start_ts.is_empty() && other.hist_start_ts.is_empty()) {
            self.hist_start_ts.resize(self.hist.len(), 0);
            other.hist_start_ts.resize(other.hist.len(), 0);
        }
        self.ts.append(&mut other.ts);
        self.vs.append(&mut other.vs);
        self.hist.append(&mut other.hist);
        self.start_ts.append(&mut other.start_ts);
        self.hist_start_ts.append(&mut other.hist_start_ts);
    }

    /// Appends those samples of `other` that lie in the closed interval.
    pub fn extend_from(&mut self, other: &Self, from_ms: TimestampMs, to_ms: TimestampMs) {
        let from = first_from(&other.ts, from_ms);
        let to = to_ms.checked_add(1).map_or(other.ts.len(), |end| first_from(&other.ts, end));
        let to = to.max(from);
        self.ts.extend_from_slice(&other.ts[from..to]);
        self.vs.extend_from_slice(&other.vs[from..to]);
        self.start_ts.extend_from_slice(other.start_ts.get(from..to).unwrap_or_default());
        let from = other.hist.partition_point(|(ts, _)| *ts < from_ms);
        let to = other.hist.partition_point(|(ts, _)| *ts <= to_ms).max(from);
        self.hist.extend_from_slice(&other.hist[from..to]);
        self.hist_start_ts.extend_from_slice(other.hist_start_ts.get(from..to).unwrap_or_default());
    }

    /// True when a float is a staleness marker.
    pub fn has_stale_floats(&self) -> bool {
        // Of the two questions whether a value is any NaN is the quicker one.
        has_nan(&self.vs) && self.vs.iter().any(|v| is_stale_nan(*v))
    }

    /// Forgets all but the newest sample.
    pub fn keep_newest(&mut self) {
        let float = self.ts.last().copied();
        let hist = self.hist.last().map(|(ts, _)| *ts);
        let floats = usize::from(float.is_some() && float >= hist);
        let hists = usize::from(hist.is_some() && hist > float);
        self.ts.drain(..self.ts.len() - floats);
        self.vs.drain(..self.vs.len() - floats);
        self.start_ts.drain(..self.start_ts.len().saturating_sub(floats));
        self.hist.drain(..self.hist.len() - hists);
        self.hist_start_ts.drain(..self.hist_start_ts.len().saturating_sub(hists));
    }

    /// Samples held: floats and histograms.
    pub fn len(&self) -> usize {
        self.ts.len() + self.hist.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.hist.is_empty()
    }
}

/// Looks at all of a stretch of samples at once, without branches: markers are rare.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn has_nan(vs: &[f64]) -> bool {
    vs.chunks(256).any(|vs| vs.iter().fold(false, |found, v| found | v.is_nan()))
}

/// The position of the first time that is not before `from_ms`, or the length. Times lie
/// mostly at equal distances, and a look where the one wanted should be spares a search all
/// over memory.
pub fn first_from(ts: &[TimestampMs], from_ms: TimestampMs) -> usize {
    let (Some(first), Some(last)) = (ts.first(), ts.last()) else { return 0 };
    if from_ms <= *first {
        return 0;
    }
    if from_ms > *last {
        return ts.len();
    }
    let (ahead, all) = (from_ms.abs_diff(*first), last.abs_diff(*first));
    // In 128 bits a division takes longer than all the rest.
    let guess = match ahead.checked_mul(ts.len() as u64 - 1) {
        Some(product) => product.div_ceil(all),
        None => (u128::from(ahead) * (ts.len() as u128 - 1)).div_ceil(u128::from(all)) as u64,
    } as usize;
    if ts[guess] >= from_ms && ts[guess - 1] < from_ms {
        return guess;
    }
    ts.partition_point(|ts| *ts < from_ms)
}

/// What a range-vector kernel sees at one step: slices into `RawSamples`, stale markers
/// already removed, `start_ms < ts <= end_ms` for plain windows.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    pub ts: &'a [TimestampMs],
    pub vs: &'a [f64],
    pub hist: &'a [(TimestampMs, Arc<FloatHistogram>)],
    /// Parallel to `ts`, or empty.
    pub start_ts: &'a [TimestampMs],
    /// Parallel to `hist`, or empty.
    pub hist_start_ts: &'a [TimestampMs],
    /// Open lower end of the window.
    pub start_ms: TimestampMs,
    /// Closed upper end of the window (evaluation time less offset).
    pub end_ms: TimestampMs,
    /// Evaluation time of the step.
    pub eval_ms: TimestampMs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_found_wherever_it_lies() {
        let (min, max) = (TimestampMs::MIN, TimestampMs::MAX);
        for ts in [
            &[][..],
            &[5],
            &[min, max],
            &[10, 20, 30, 40, 50],
            &[10, 11, 12, 13, 1_000],
            &[-50, -49, 7, 8, 9, 90],
            &[min, -1, 0, 1, max],
        ] {
            let around = ts.iter().flat_map(|t| [t.saturating_sub(1), *t, t.saturating_add(1)]);
            for from_ms in around.chain([min, 0, 15, 35, max]) {
                let expected = ts.partition_point(|ts| *ts < from_ms);
                assert_eq!(first_from(ts, from_ms), expected, "{from_ms} in {ts:?}");
            }
        }
    }
}
