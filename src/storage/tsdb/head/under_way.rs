//! What batches under way hold: the head is cut only where none of them may still append.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::model::TimestampMs;

/// Batches by their oldest sample, and the time before which nothing is taken any more.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// Written under the lock, so that no batch slips in beside the border.
    min_valid_ms: AtomicI64,
    batches: Mutex<BTreeMap<TimestampMs, usize>>,
}

impl UnderWay {
    pub(super) fn new(min_valid_ms: TimestampMs) -> Self {
        Self { min_valid_ms: AtomicI64::new(min_valid_ms), batches: Mutex::default() }
    }

    /// Nothing older than this is taken.
    pub(super) fn min_valid_ms(&self) -> TimestampMs {
        self.min_valid_ms.load(Ordering::Acquire)
    }

    /// Notes that a batch has an older sample than before. False when that is too old.
    pub(super) fn replace(&self, before: Option<TimestampMs>, oldest_ms: TimestampMs) -> bool {
        let mut batches = self.batches.lock();
        if oldest_ms < self.min_valid_ms() {
            return false;
        }
        *batches.entry(oldest_ms).or_default() += 1;
        forget(&mut batches, before);
        true
    }

    /// Notes that a batch is over.
    pub(super) fn remove(&self, oldest_ms: Option<TimestampMs>) {
        if oldest_ms.is_some() {
            forget(&mut self.batches.lock(), oldest_ms);
        }
    }

    /// Takes nothing older from now on. False while a batch under way holds something older.
    pub(super) fn raise(&self, min_valid_ms: TimestampMs) -> bool {
        let batches = self.batches.lock();
        self.min_valid_ms.fetch_max(min_valid_ms, Ordering::AcqRel);
        batches.keys().next().is_none_or(|oldest| *oldest >= min_valid_ms)
    }
}

fn forget(batches: &mut BTreeMap<TimestampMs, usize>, oldest_ms: Option<TimestampMs>) {
    if let Some(ts) = oldest_ms
        && let Some(count) = batches.get_mut(&ts)
    {
        *count -= 1;
        if *count == 0 {
            batches.remove(&ts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_waits_for_what_is_older_and_lets_nothing_older_in() {
        let all = UnderWay::new(0);
        assert!(all.replace(None, 50) && all.replace(Some(50), 40) && all.replace(None, 70));
        assert!(all.raise(40) && !all.raise(60));
        assert!(!all.replace(None, 59), "the border is where it was raised to");
        all.remove(Some(40));
        assert!(all.raise(60) && all.raise(10));
        assert_eq!(all.min_valid_ms(), 60);
        all.remove(None);
        assert!(!all.raise(71));
    }
}
