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
        let mut other = later.sum;
        if !(self.running || later.running) {
            let mut direct = self.sum.clone();
            let outcome = direct.merge(&other);
            if !AVG || !direct.has_overflow() {
                self.note(outcome);
                self.sum = direct;
                return;
            }
        }
        // Means weigh as much as they have members; a direct sum is divided by all.
        let weight = |running: bool, n: f64| if running { n / (n1 + n2) } else { 1.0 / (n1 + n2) };
        self.sum.mul(weight(self.running, n1));
        other.mul(weight(later.running, n2));
        self.running = true;
        let outcome = self.sum.merge(&other);
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

#[cfg(test)]
mod tests {
    use super::super::tests::{custom, exponential};
    use super::*;

    fn fold<const AVG: bool>(values: &[f64], split: usize) -> FoldOutcome {
        let of = |v: f64| exponential(0, v, v, 0, &[v]);
        let part = |values: &[f64]| {
            let mut fold = HistogramFold::new(&of(values[0]));
            values[1..].iter().for_each(|v| fold.add::<AVG>(&of(*v)));
            fold
        };
        let mut first = part(&values[..split]);
        if split < values.len() {
            first.merge::<AVG>(part(&values[split..]));
        }
        first.finish::<AVG>()
    }

    #[test]
    fn folds_give_the_same_in_one_go_and_merged() {
        let max = f64::MAX;
        for (values, sum, avg) in [
            (&[1.0, 1e100, 1.0, -1e100][..], 2.0, 0.5),
            (&[1.0, 2.0, 6.0], 9.0, 3.0),
            (&[max, max, max, max], f64::INFINITY, max),
        ] {
            for split in [values.len(), 1, 2] {
                let h = |outcome: FoldOutcome| outcome.histogram.expect("one schema");
                assert_eq!(h(fold::<false>(values, split)).count, sum, "sum of {values:?}");
                let got = h(fold::<true>(values, split)).positive_buckets[0];
                assert!((got / avg - 1.0).abs() < 1e-15, "avg of {values:?}: {avg} != {got}");
            }
        }
    }

    #[test]
    fn what_cannot_be_combined_has_no_result_and_the_rest_is_told() {
        let mut fold = HistogramFold::new(&custom(&[1.0, 2.0], 1.0, 1.0, &[1.0]));
        fold.add::<false>(&custom(&[2.0], 1.0, 1.0, &[1.0]));
        assert!(fold.clone().finish::<false>().bounds_reconciled);
        fold.add::<false>(&exponential(0, 1.0, 1.0, 0, &[1.0]));
        assert!(fold.finish::<false>().histogram.is_none());
        let hinted = |hint| FloatHistogram { counter_reset_hint: hint, ..Default::default() };
        let mut fold = HistogramFold::new(&hinted(CounterResetHint::Reset));
        // The running hint is unknown by now, but both were seen.
        fold.add::<true>(&hinted(CounterResetHint::Unknown));
        fold.add::<true>(&hinted(CounterResetHint::NotReset));
        assert!(fold.finish::<true>().reset_collision);
    }
}
