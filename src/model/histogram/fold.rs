//! The running sum or mean of histograms, over series or over time.

use std::sync::Arc;

use super::{Combined, CounterResetHint, FloatHistogram, HistogramSum, IncompatibleSchemas};

/// Sums histograms with compensation and remembers what there is to tell. An average is
/// the sum over the count until a number would overflow, and a running mean from there.
#[derive(Clone, Debug)]
pub struct HistogramFold {
    sum: HistogramSum,
    count: u32,
    /// The sum would have run over, so `sum` is the running mean.
    running: bool,
    /// Exponential and custom buckets met: there is no result.
    incompatible: bool,
    bounds_reconciled: bool,
    reset_seen: bool,
    not_reset_seen: bool,
}

/// What came of a fold.
#[derive(Clone, Debug)]
pub struct FoldOutcome {
    /// The compacted sum or mean; `None` when schemas could not be combined.
    pub histogram: Option<Arc<FloatHistogram>>,
    /// Custom bounds differed and were intersected.
    pub bounds_reconciled: bool,
    /// Some histograms said "reset" and others "not reset".
    pub reset_collision: bool,
}

impl HistogramFold {
    /// A fold of one histogram.
    pub fn new(first: &FloatHistogram) -> Self {
        let mut fold = Self {
            sum: HistogramSum::new(first),
            count: 1,
            running: false,
            incompatible: false,
            bounds_reconciled: false,
            reset_seen: false,
            not_reset_seen: false,
        };
        fold.note_hint(first);
        fold
    }

    /// Adds one histogram to the sum, or to the mean when `AVG`.
    pub fn add<const AVG: bool>(&mut self, h: &FloatHistogram) {
        self.note_hint(h);
        if self.incompatible {
            return;
        }
        self.count += 1;
        if !AVG {
            let outcome = self.sum.add(h);
            self.note(outcome);
            return;
        }
        let n = f64::from(self.count);
        if !self.running {
            let mut direct = self.sum.clone();
            let outcome = direct.add(h);
            if !direct.has_overflow() {
                self.note(outcome);
                self.sum = direct;
                return;
            }
            self.sum.div(n - 1.0);
            self.running = true;
        }
        self.sum.mul((n - 1.0) / n);
        let mut share = h.clone();
        share.div(n);
        let outcome = self.sum.add(&share);
        self.note(outcome);
    }

    /// Adds what a later range of series gathered.
    pub fn merge<const AVG: bool>(&mut self, later: Self) {
        self.incompatible |= later.incompatible;
        self.bounds_reconciled |= later.bounds_reconciled;
        self.reset_seen |= later.reset_seen;
        self.not_reset_seen |= later.not_reset_seen;
        if self.incompatible {
            return;
        }
        let (n1, n2) = (f64::from(self.count), f64::from(later.count));
        self.count += later.count;
        let other = later.sum.finish();
        if !(self.running || later.running) {
            let mut direct = self.sum.clone();
            let outcome = direct.add(&other);
            if !AVG || !direct.has_overflow() {
                self.note(outcome);
                self.sum = direct;
                return;
            }
        }
        // Means weighted by their counts.
        self.sum.mul(if self.running { n1 } else { 1.0 } / (n1 + n2));
        let mut other = other;
        other.mul(if later.running { n2 } else { 1.0 } / (n1 + n2));
        self.running = true;
        let outcome = self.sum.add(&other);
        self.note(outcome);
    }

    /// The sum, or the mean when `AVG`, and what there is to tell.
    pub fn finish<const AVG: bool>(mut self) -> FoldOutcome {
        let mut outcome = FoldOutcome {
            histogram: None,
            bounds_reconciled: self.bounds_reconciled,
            reset_collision: self.reset_seen && self.not_reset_seen,
        };
        if !self.incompatible {
            if AVG && !self.running {
                self.sum.div(f64::from(self.count));
            }
            let mut h = self.sum.finish();
            h.compact(0);
            outcome.histogram = Some(Arc::new(h));
        }
        outcome
    }

    fn note_hint(&mut self, h: &FloatHistogram) {
        self.reset_seen |= h.counter_reset_hint == CounterResetHint::Reset;
        self.not_reset_seen |= h.counter_reset_hint == CounterResetHint::NotReset;
    }

    fn note(&mut self, outcome: Result<Combined, IncompatibleSchemas>) {
        match outcome {
            Ok(combined) => self.bounds_reconciled |= combined.bounds_reconciled,
            Err(IncompatibleSchemas) => self.incompatible = true,
        }
    }
}
