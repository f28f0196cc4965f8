//! All series of the head, found by label set or by reference. Striped, so that scrapers
//! that append in parallel seldom meet.
//!
//! A label set is found by its hash and then compared in full: two sets with the same hash
//! are two series.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};
use rustc_hash::FxBuildHasher;

use crate::model::Labels;
use crate::storage::tsdb::index::MemPostings;

use super::series::MemSeries;

const STRIPES: usize = 64;

type ById = HashMap<u64, Arc<MemSeries>, FxBuildHasher>;

/// The series and their index.
pub(crate) struct SeriesMap {
    by_labels: Box<[RwLock<HashTable<Arc<MemSeries>>>]>,
    by_id: Box<[RwLock<ById>]>,
    postings: RwLock<MemPostings>,
    last_id: AtomicU64,
}

impl Default for SeriesMap {
    fn default() -> Self {
        Self {
            by_labels: (0..STRIPES).map(|_| RwLock::default()).collect(),
            by_id: (0..STRIPES).map(|_| RwLock::default()).collect(),
            postings: RwLock::default(),
            last_id: AtomicU64::new(0),
        }
    }
}

/// Read access to all series at once, for looking up very many.
pub(crate) struct AllById<'a>(Vec<RwLockReadGuard<'a, ById>>);

impl AllById<'_> {
    pub(crate) fn get(&self, id: u64) -> Option<&Arc<MemSeries>> {
        self.0[id as usize % STRIPES].get(&id)
    }
}

impl SeriesMap {
    /// The series of a reference: no label is hashed or compared.
    pub(crate) fn by_id(&self, id: u64) -> Option<Arc<MemSeries>> {
        self.by_id[id as usize % STRIPES].read().get(&id).cloned()
    }

    /// Locks the look-up by reference for reading.
    pub(crate) fn all_by_id(&self) -> AllById<'_> {
        AllById(self.by_id.iter().map(RwLock::read).collect())
    }

    /// The index.
    pub(crate) fn postings(&self) -> RwLockReadGuard<'_, MemPostings> {
        self.postings.read()
    }

    /// The series of a label set, created when there is none. `id` is for replay, which
    /// knows it. The flag says whether it was created.
    pub(crate) fn get_or_create(&self, labels: &Labels, id: Option<u64>) -> (Arc<MemSeries>, bool) {
        let hash = labels.hash64();
        let stripe = &self.by_labels[hash as usize % STRIPES];
        let same = |s: &Arc<MemSeries>| s.labels == *labels;
        if let Some(series) = stripe.read().find(hash, same) {
            return (Arc::clone(series), false);
        }
        let mut table = stripe.write();
        if let Some(series) = table.find(hash, same) {
            return (Arc::clone(series), false);
        }
        let id = match id {
            Some(id) => {
                self.last_id.fetch_max(id, Ordering::Relaxed);
                id
            }
            None => self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let series = Arc::new(MemSeries::new(id, hash, labels.clone()));
        // Still under the stripe's lock: who finds the series here finds it everywhere, so
        // that `remove` removes all of it.
        self.by_id[id as usize % STRIPES].write().insert(id, Arc::clone(&series));
        self.postings.write().add(id, labels);
        table.insert_unique(hash, Arc::clone(&series), |s| s.hash);
        (series, true)
    }

    /// The series of a label set.
    pub(crate) fn get(&self, labels: &Labels) -> Option<Arc<MemSeries>> {
        let hash = labels.hash64();
        let stripe = self.by_labels[hash as usize % STRIPES].read();
        stripe.find(hash, |s| s.labels == *labels).map(Arc::clone)
    }

    /// The highest reference so far.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id.load(Ordering::Relaxed)
    }

    /// Keeps later references above one met in the log.
    pub(crate) fn reserve_id(&self, id: u64) {
        self.last_id.fetch_max(id, Ordering::Relaxed);
    }

    /// Calls `f` for every series, in no order.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Arc<MemSeries>)) {
        for stripe in &self.by_id {
            // Collected first: `f` may take its time.
            let all: Vec<_> = stripe.read().values().cloned().collect();
            all.iter().for_each(&mut f);
        }
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.by_id.iter().map(|s| s.read().len()).sum()
    }

    /// Takes series out of the head.
    pub(crate) fn remove(&self, gone: &[Arc<MemSeries>]) {
        for series in gone {
            let mut table = self.by_labels[series.hash as usize % STRIPES].write();
            if let Ok(entry) = table.find_entry(series.hash, |s| Arc::ptr_eq(s, series)) {
                entry.remove();
            }
            self.by_id[series.id as usize % STRIPES].write().remove(&series.id);
        }
        let ids = gone.iter().map(|s| s.id).collect();
        let labels: Vec<_> = gone.iter().map(|s| s.labels.clone()).collect();
        self.postings.write().remove(&ids, &labels);
    }
}
