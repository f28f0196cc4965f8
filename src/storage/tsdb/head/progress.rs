//! How far the replay of the log is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Segments of a replay. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ReplayProgress(Arc<[AtomicI64; 3]>);

impl ReplayProgress {
    /// First and last segment, and the one that was read last.
    pub fn get(&self) -> (i64, i64, i64) {
        let [min, max, current] = &*self.0;
        (min.load(Ordering::Relaxed), max.load(Ordering::Relaxed), current.load(Ordering::Relaxed))
    }

    pub(super) fn begin(&self, min: u32, max: u32) {
        self.0[0].store(min.into(), Ordering::Relaxed);
        self.0[1].store(max.into(), Ordering::Relaxed);
    }

    pub(super) fn at(&self, current: u32) {
        self.0[2].store(current.into(), Ordering::Relaxed);
    }
}
