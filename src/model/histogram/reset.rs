//! Counter resets between two histograms of one series.

use std::iter::Peekable;

use super::arithmetic::{index_in, intersect};
use super::layout::{Builder, coarser, indexed};
use super::{CounterResetHint, FloatHistogram, Span, bound};
use crate::model::value::is_stale_nan;

/// How a histogram follows the one before it in a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// As the next one of the same layout and kind.
    Continues,
    /// The counter was reset in between.
    Reset,
    /// Otherwise than to be compared: another schema, other bounds, a gauge after a counter,
    /// anything after a staleness marker.
    Apart,
}

impl FloatHistogram {
    /// How this histogram follows `before` by what both hold: the hint of `before` says
    /// nothing, and that of this one only "reset" and "gauge". Prometheus begins a new chunk
    /// for whatever does not continue.
    pub fn succession(&self, before: &Self) -> Succession {
        let gauge = |h: &Self| h.counter_reset_hint == CounterResetHint::Gauge;
        let alike = gauge(before) == gauge(self)
            && before.schema == self.schema
            && before.zero_threshold == self.zero_threshold
            && before.custom_values == self.custom_values;
        if is_stale_nan(before.sum) && !is_stale_nan(self.sum) {
            Succession::Apart
        } else if is_stale_nan(self.sum) {
            Succession::Continues
        } else if gauge(self) {
            if alike { Succession::Continues } else { Succession::Apart }
        } else if self.counter_reset_hint == CounterResetHint::Reset || self.fell_below(before) {
            Succession::Reset
        } else if alike {
            Succession::Continues
        } else {
            Succession::Apart
        }
    }

    /// True when the counter was reset between `previous` and this histogram: its hint
    /// says so, or, where the hint leaves it open, something that only grows went down.
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => true,
            CounterResetHint::NotReset => false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => self.fell_below(previous),
        }
    }

    /// True when something that only grows is smaller than in `previous`, hints aside.
    fn fell_below(&self, previous: &Self) -> bool {
        if self.count < previous.count
            || self.uses_custom_buckets() != previous.uses_custom_buckets()
        {
            return true;
        }
        if self.uses_custom_buckets() {
            return self.custom_buckets_shrank(previous);
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (previous_zero, threshold) = previous.zero_count_for_threshold(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < previous_zero {
            return true;
        }
        self.side_shrank(
            previous,
            (&self.positive_spans, &self.positive_buckets),
            (&previous.positive_spans, &previous.positive_buckets),
        ) || self.side_shrank(
            previous,
            (&self.negative_spans, &self.negative_buckets),
            (&previous.negative_spans, &previous.negative_buckets),
        )
    }

    fn side_shrank(
        &self,
        previous: &Self,
        now: (&[Span], &[f64]),
        before: (&[Span], &[f64]),
    ) -> bool {
        let outside = |index: i32, schema: i32| {
            self.zero_threshold == 0.0 || bound(index, schema, &[]) > self.zero_threshold
        };
        let by = previous.schema - self.schema;
        let now = indexed(now.0, now.1).filter(|(i, _)| outside(*i, self.schema));
        let mut reduced = Builder::default();
        for (index, count) in indexed(before.0, before.1) {
            if outside(index, previous.schema) {
                reduced.add(coarser(index, by), count);
            }
        }
        let (spans, counts) = reduced.finish();
        shrank(now, indexed(&spans, &counts))
    }

    fn custom_buckets_shrank(&self, previous: &Self) -> bool {
        let now = indexed(&self.positive_spans, &self.positive_buckets);
        let before = indexed(&previous.positive_spans, &previous.positive_buckets);
        if self.custom_values == previous.custom_values {
            return shrank(now, before);
        }
        let shared = intersect(&self.custom_values, &previous.custom_values);
        let map = |pairs: super::layout::Indexed<'_>, own: &[f64]| {
            let mut builder = Builder::default();
            for (index, count) in pairs {
                builder.add(index_in(&shared, index, own), count);
            }
            builder.finish()
        };
        let now = map(now, &self.custom_values);
        let before = map(before, &previous.custom_values);
        shrank(indexed(&now.0, &now.1), indexed(&before.0, &before.1))
    }
}

/// True when some bucket of `before` has fewer observations in `now`.
fn shrank(now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now: Peekable<_> = now.peekable();
    for (index, count) in before {
        while now.next_if(|(i, _)| *i < index).is_some() {}
        let current = now.next_if(|(i, _)| *i == index).map_or(0.0, |(_, c)| c);
        if current < count {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::tests::{custom, exponential};
    use super::*;

    #[test]
    fn what_only_grows_and_went_down_is_a_reset() {
        let base = exponential(1, 6.0, 9.0, 1, &[1.0, 2.0, 3.0]);
        let check = |name: &str, reset: bool, change: &dyn Fn(&mut FloatHistogram)| {
            let mut h = base.clone();
            change(&mut h);
            assert_eq!(h.detect_reset(&base), reset, "{name}");
        };
        check("equal", false, &|_| {});
        check("sum may fall", false, &|h| h.sum = -1.0);
        check("count fell", true, &|h| h.count = 5.0);
        check("bucket fell", true, &|h| h.positive_buckets = vec![1.0, 1.0, 4.0]);
        check("bucket vanished", true, &|h| {
            h.positive_spans[0] = Span { offset: 1, length: 2 };
            h.positive_buckets = vec![1.0, 5.0];
        });
        check("finer schema", true, &|h| h.schema = 2);
        check("coarser schema", false, &|h| h.reduce_to_schema(0));
        check("hint decides first", true, &|h| h.counter_reset_hint = CounterResetHint::Reset);
        check("zero bucket splits a populated one", true, &|h| {
            h.zero_threshold = 1.2;
            h.zero_count = 9.0;
        });
        let mut h = base.clone();
        (h.count, h.counter_reset_hint) = (0.0, CounterResetHint::NotReset);
        assert!(!h.detect_reset(&base), "a hint overrides the counts");
    }

    #[test]
    fn custom_bounds_are_compared_on_what_they_share() {
        let before = custom(&[1.0, 2.0], 6.0, 1.0, &[1.0, 2.0, 3.0]);
        assert!(!custom(&[2.0], 6.0, 1.0, &[3.0, 3.0]).detect_reset(&before));
        assert!(custom(&[2.0], 6.0, 1.0, &[2.0, 4.0]).detect_reset(&before));
        assert!(exponential(0, 9.0, 1.0, 0, &[9.0]).detect_reset(&before));
    }
}
