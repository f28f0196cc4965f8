//! Closed intervals of time that were deleted.

use smallvec::SmallVec;

use crate::model::TimestampMs;
use crate::vector::RawSamples;

/// Sorted, neither overlapping nor adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals(SmallVec<[(TimestampMs, TimestampMs); 1]>);

impl Intervals {
    /// Adds a closed interval; one that ends before it begins is nothing.
    pub(crate) fn add(&mut self, min_ms: TimestampMs, max_ms: TimestampMs) {
        if min_ms > max_ms {
            return;
        }
        let start = self.0.partition_point(|(_, max)| max.saturating_add(1) < min_ms);
        let end = self.0.partition_point(|(min, _)| *min <= max_ms.saturating_add(1));
        let mut whole = (min_ms, max_ms);
        let end = end.max(start);
        if let [first, ..] = self.0[start..end] {
            whole = (min_ms.min(first.0), max_ms.max(self.0[end - 1].1));
        }
        self.0.drain(start..end);
        self.0.insert(start, whole);
    }

    /// Intervals in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TimestampMs, TimestampMs)> {
        self.0.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when all of a closed interval was deleted.
    pub(crate) fn cover(&self, min_ms: TimestampMs, max_ms: TimestampMs) -> bool {
        self.0.iter().any(|(min, max)| *min <= min_ms && max_ms <= *max)
    }

    /// True when something of a closed interval was deleted.
    pub(crate) fn touch(&self, min_ms: TimestampMs, max_ms: TimestampMs) -> bool {
        self.0.iter().any(|(min, max)| *min <= max_ms && min_ms <= *max)
    }

    /// Forgets intervals that end before a time.
    pub(crate) fn forget_before(&mut self, from_ms: TimestampMs) {
        self.0.retain(|(_, max)| *max >= from_ms);
    }

    /// Removes deleted samples.
    pub(crate) fn remove_from(&self, out: &mut RawSamples) {
        let deleted = |ts: TimestampMs| self.cover(ts, ts);
        let mut kept = 0;
        for i in 0..out.ts.len() {
            if !deleted(out.ts[i]) {
                out.ts.swap(kept, i);
                out.vs.swap(kept, i);
                kept += 1;
            }
        }
        out.ts.truncate(kept);
        out.vs.truncate(kept);
        out.hist.retain(|(ts, _)| !deleted(*ts));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn intervals_are_the_set_of_what_they_cover(
            all in prop::collection::vec((0i64..60, -2i64..12), 0..12),
        ) {
            let mut intervals = Intervals::default();
            for (min, len) in &all {
                intervals.add(*min, min + len);
            }
            for ts in -1..80 {
                let expected = all.iter().any(|(min, len)| *min <= ts && ts <= min + len);
                prop_assert_eq!(intervals.cover(ts, ts), expected, "{}", ts);
                prop_assert_eq!(intervals.touch(ts, ts), expected);
            }
            let list: Vec<_> = intervals.iter().collect();
            prop_assert!(list.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{:?}", list);
        }
    }

    #[test]
    fn the_ends_of_time_are_intervals_too() {
        let mut intervals = Intervals::default();
        intervals.add(i64::MAX, i64::MAX);
        intervals.add(i64::MIN, i64::MIN);
        intervals.add(i64::MIN, i64::MAX);
        assert_eq!(intervals.iter().collect::<Vec<_>>(), [(i64::MIN, i64::MAX)]);
    }
}
