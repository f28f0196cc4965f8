//! Whole batches or nothing: what a reader may see while batches are committed.
//!
//! Commits are applied one after the other, each under a number. A reader notes the number
//! of the last finished commit when it starts and sees nothing of later ones. A series
//! appends in time order, so all that is hidden from a reader is a suffix: per series it
//! is enough to remember, for each commit some active reader must not see, the time of the
//! commit's first sample (see `MemSeries`). Commits that every reader sees are forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Number of a commit, from 1 up; 0 is what was replayed from the log.
pub(crate) type CommitId = u64;

/// Knows the last finished commit and what active readers may see.
#[derive(Debug, Default)]
pub(crate) struct Isolation {
    finished: AtomicU64,
    /// Active readers per commit number.
    readers: Mutex<BTreeMap<CommitId, usize>>,
}

impl Isolation {
    /// Starts a reader.
    pub(crate) fn view(self: &Arc<Self>) -> View {
        let mut readers = self.readers.lock();
        // Read under the lock, so that `oldest_visible` cannot miss a reader about to enter.
        let visible = self.finished.load(Ordering::Acquire);
        *readers.entry(visible).or_default() += 1;
        View { isolation: Arc::clone(self), visible }
    }

    /// The last finished commit.
    pub(crate) fn finished(&self) -> CommitId {
        self.finished.load(Ordering::Acquire)
    }

    /// Every active and future reader sees the commits up to this one.
    pub(crate) fn oldest_visible(&self) -> CommitId {
        let readers = self.readers.lock();
        let finished = self.finished.load(Ordering::Acquire);
        readers.keys().next().copied().unwrap_or(finished)
    }

    /// Makes a commit visible to readers that start from now on.
    pub(crate) fn finish(&self, commit: CommitId) {
        self.finished.store(commit, Ordering::Release);
    }
}

/// What one reader sees, for as long as it holds this.
#[derive(Debug)]
pub(crate) struct View {
    isolation: Arc<Isolation>,
    visible: CommitId,
}

impl View {
    /// The last commit the reader sees.
    pub(crate) fn visible(&self) -> CommitId {
        self.visible
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let mut readers = self.isolation.readers.lock();
        if let Some(count) = readers.get_mut(&self.visible) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.visible);
            }
        }
    }
}
