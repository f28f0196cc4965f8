//! Time is `i64` milliseconds since the Unix epoch everywhere; one type describes the
//! evaluation times of instant, range, rule, subquery and backtest evaluation alike.

/// Milliseconds since the Unix epoch, UTC.
pub type TimestampMs = i64;

/// Earliest time a client may name: what Prometheus' API uses for "from the beginning".
pub const MIN_TIME_MS: TimestampMs = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// Latest time a client may name.
pub const MAX_TIME_MS: TimestampMs = (i64::MAX / 1000 - 62_135_596_801) * 1000;

/// The steps of one evaluation: `start_ms`, `start_ms + step_ms`, ... (`len` of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepGrid {
    pub start_ms: TimestampMs,
    /// Distance of two steps; positive, and 1 for an instant.
    pub step_ms: i64,
    /// Number of steps; 0 is an empty grid.
    pub len: u32,
}

impl StepGrid {
    /// The grid of an instant query.
    pub fn instant(at_ms: TimestampMs) -> Self {
        Self { start_ms: at_ms, step_ms: 1, len: 1 }
    }

    /// Every step from `start_ms` to at most `end_ms`. `None` when the step is not
    /// positive or there are more steps than a `u32` counts; empty when `end_ms < start_ms`.
    pub fn range(start_ms: TimestampMs, end_ms: TimestampMs, step_ms: i64) -> Option<Self> {
        if step_ms <= 0 {
            return None;
        }
        if end_ms < start_ms {
            return Some(Self { start_ms, step_ms, len: 0 });
        }
        let steps = (i128::from(end_ms) - i128::from(start_ms)) / i128::from(step_ms) + 1;
        Some(Self { start_ms, step_ms, len: u32::try_from(steps).ok()? })
    }

    /// Time of step `i`.
    pub fn at(&self, i: u32) -> TimestampMs {
        self.start_ms + i64::from(i) * self.step_ms
    }

    /// Time of the last step, or the start of an empty grid.
    pub fn end_ms(&self) -> TimestampMs {
        self.at(self.len.saturating_sub(1))
    }

    /// True when the grid has one step.
    pub fn is_instant(&self) -> bool {
        self.len == 1
    }

    /// All step times in order.
    pub fn iter(&self) -> impl Iterator<Item = TimestampMs> + use<> {
        let grid = *self;
        (0..grid.len).map(move |i| grid.at(i))
    }
}

/// The largest number that divides both; signs do not matter, and 0 is divided by all.
pub fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.saturating_abs() } else { gcd(b, a.checked_rem(b).unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_divisors_have_no_sign() {
        for (a, b, expected) in [
            (12, 18, 6),
            (-12, 18, 6),
            (60_000, -30_000, 30_000),
            (0, 5, 5),
            (0, 0, 0),
            (i64::MIN, -1, 1),
        ] {
            assert_eq!((gcd(a, b), gcd(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn a_range_ends_at_or_before_its_end() {
        let grid = StepGrid::range(0, 25, 10).unwrap();
        assert_eq!(grid.iter().collect::<Vec<_>>(), [0, 10, 20]);
        assert_eq!(StepGrid::range(0, -1, 10).unwrap().len, 0);
        assert_eq!(StepGrid::range(0, 10, 0), None);
        assert_eq!(StepGrid::range(i64::MIN, i64::MAX, 1), None);
    }
}
