//! What operators worked out from the series of their inputs alone: the same plan that is
//! evaluated again and again mostly meets the same series, and then groups, names and
//! partners are those of the last time.
//!
//! An entry holds the tables it was made from, so that "the same table" can be decided by
//! place in memory: nothing else can lie there meanwhile. Only a result that came out well
//! is kept, and samples have no part in any.

use std::any::{Any, TypeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::cx::{Cx, Result};
use super::operator::SeriesTable;

/// Series that the inputs of all entries may have.
const SERIES_MAX: usize = 500_000;

/// See the module. Belongs to plans, which must outlive it.
#[derive(Default)]
pub(crate) struct Memo {
    entries: Mutex<FxHashMap<(usize, TypeId), Entry>>,
    series: AtomicUsize,
}

struct Entry {
    inputs: Vec<Arc<SeriesTable>>,
    made: Arc<dyn Any + Send + Sync>,
}

impl Entry {
    fn series(&self) -> usize {
        self.inputs.iter().map(|table| table.series.len()).sum()
    }
}

impl Memo {
    fn get<T: Send + Sync + 'static>(
        &self,
        key: (usize, TypeId),
        inputs: &[&Arc<SeriesTable>],
    ) -> Option<Arc<T>> {
        let entries = self.entries.lock();
        let entry = entries.get(&key)?;
        let same = entry.inputs.len() == inputs.len()
            && entry.inputs.iter().zip(inputs).all(|(a, b)| Arc::ptr_eq(a, b));
        same.then(|| entry.made.clone().downcast().ok()).flatten()
    }

    fn put(&self, key: (usize, TypeId), entry: Entry) {
        let new = entry.series();
        let mut entries = self.entries.lock();
        let old = entries.remove(&key).map_or(0, |old| old.series());
        let held = self.series.load(Ordering::Relaxed) - old;
        let fits = held + new <= SERIES_MAX;
        self.series.store(held + if fits { new } else { 0 }, Ordering::Relaxed);
        if fits {
            entries.insert(key, entry);
        }
    }
}

impl Cx {
    /// What `make` makes of the series of `inputs` for the operator `of`; it may be what it
    /// made the last time. An operator uses one type of its own for it.
    pub(crate) fn of_series<O, T: Send + Sync + 'static>(
        &self,
        of: &O,
        inputs: &[&Arc<SeriesTable>],
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let Some(memo) = &self.memo else { return make().map(Arc::new) };
        // An operator may lie where its first part begins, but they differ in the type.
        let key = (std::ptr::from_ref(of).addr(), TypeId::of::<T>());
        if let Some(made) = memo.get(key, inputs) {
            return Ok(made);
        }
        let made = Arc::new(make()?);
        let inputs = inputs.iter().map(|table| Arc::clone(table)).collect();
        memo.put(key, Entry { inputs, made: made.clone() });
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::operator::SeriesMeta;
    use crate::model::Labels;

    fn table(series: usize) -> Arc<SeriesTable> {
        let series = vec![SeriesMeta::new(Labels::empty()); series];
        Arc::new(SeriesTable { series, unique: false })
    }

    #[test]
    fn what_was_made_of_other_series_is_made_anew_and_much_is_not_kept() {
        let memo = Memo::default();
        let key = |place| (place, TypeId::of::<u32>());
        let put = |place, inputs: &[&Arc<SeriesTable>], made: u32| {
            let inputs = inputs.iter().map(|t| Arc::clone(t)).collect();
            memo.put(key(place), Entry { inputs, made: Arc::new(made) });
        };
        let get = |place, inputs: &[&Arc<SeriesTable>]| -> Option<u32> {
            memo.get(key(place), inputs).map(|made| *made)
        };
        let (a, b) = (table(1), table(1));
        put(8, &[&a], 1);
        put(16, &[&a, &b], 2);
        assert_eq!((get(8, &[&a]), get(16, &[&a, &b])), (Some(1), Some(2)));
        assert_eq!((get(8, &[&b]), get(16, &[&b, &a]), get(16, &[&a])), (None, None, None));
        assert_eq!((get(24, &[&a]), memo.series.load(Ordering::Relaxed)), (None, 3));
        put(8, &[&b], 3);
        assert_eq!((get(8, &[&a]), get(8, &[&b])), (None, Some(3)));
        let large = table(SERIES_MAX);
        put(8, &[&large], 4);
        assert_eq!((get(8, &[&large]), get(8, &[&b])), (None, None));
        assert_eq!(memo.series.load(Ordering::Relaxed), 2);
    }
}
