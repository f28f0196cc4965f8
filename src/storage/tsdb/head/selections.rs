//! Which series matchers found, for those that ask again: rules do, at every tick.
//!
//! A selection holds as long as no series that may belong to it came and none left. That
//! is decided by the index itself, whose lists only grow between removals: when the list
//! of one of the labels a selection asks for is as long as it was, nothing new belongs to
//! the selection, however many other series came. Samples and time play no part: a reader
//! looks at the times of the series it is given.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use crate::model::{MatchOp, Matcher};
use crate::storage::tsdb::index::MemPostings;

use super::series::MemSeries;

/// Series that the selections of one generation refer to, each selection counting for
/// `ENTRY_WEIGHT` more. Two generations are kept: some 40 MB at the very most.
const WEIGHT_MAX: usize = 1 << 20;
const ENTRY_WEIGHT: usize = 32;

/// Sorted by labels.
pub(super) type Found = Arc<[Arc<MemSeries>]>;

/// See the module.
#[derive(Default)]
pub(super) struct Selections(Mutex<Generations>);

type BySelector = HashMap<Box<[Matcher]>, Selection, FxBuildHasher>;

/// What is used moves to the young one; when that is full, the old one is forgotten.
#[derive(Default)]
struct Generations {
    young: BySelector,
    weight: usize,
    old: BySelector,
}

/// How far the index was when a selection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    added: u64,
    removed: u64,
    /// Of the labels the selection asks for by value, the number of series that carry each.
    lists: Box<[usize]>,
}

struct Selection {
    version: Version,
    found: Found,
}

/// Matchers that name the one value a label must have.
fn pinned(matchers: &[Matcher]) -> impl Iterator<Item = &Matcher> {
    matchers.iter().filter(|m| m.op == MatchOp::Equal && !m.value.is_empty())
}

impl Version {
    pub(super) fn new(matchers: &[Matcher], index: &MemPostings) -> Self {
        let lists = pinned(matchers).map(|m| index.get(&m.name, &m.value).len()).collect();
        Self { added: index.added(), removed: index.removed(), lists }
    }

    /// Whether a selection of this version is what the index would give now; if so, it is
    /// of the index' version.
    fn holds(&mut self, matchers: &[Matcher], index: &MemPostings) -> bool {
        if self.removed != index.removed() {
            return false;
        }
        if self.added == index.added() {
            return true;
        }
        let now = Self::new(matchers, index);
        let unchanged = self.lists.iter().zip(&now.lists).any(|(before, now)| before == now);
        if unchanged {
            *self = now;
        }
        unchanged
    }
}

impl Selections {
    /// What was found before, when it would be found again.
    pub(super) fn get(&self, matchers: &[Matcher], index: &MemPostings) -> Option<Found> {
        let mut all = self.0.lock();
        if let Some(selection) = all.young.get_mut(matchers) {
            return selection.version.holds(matchers, index).then(|| Arc::clone(&selection.found));
        }
        let (key, mut selection) = all.old.remove_entry(matchers)?;
        if !selection.version.holds(matchers, index) {
            return None;
        }
        let found = Arc::clone(&selection.found);
        all.insert(key, selection);
        Some(found)
    }

    /// Keeps what was found, in a version noted before it was looked for.
    pub(super) fn put(&self, matchers: &[Matcher], version: Version, found: &Found) {
        // One that large is found anew: it would push out what is asked for often.
        if found.len() <= WEIGHT_MAX / 4 {
            let selection = Selection { version, found: Arc::clone(found) };
            self.0.lock().insert(matchers.into(), selection);
        }
    }

    /// Forgets everything: what is gone must not be held in memory.
    pub(super) fn clear(&self) {
        *self.0.lock() = Generations::default();
    }
}

impl Generations {
    fn insert(&mut self, key: Box<[Matcher]>, selection: Selection) {
        self.weight += ENTRY_WEIGHT + selection.found.len();
        if let Some(replaced) = self.young.insert(key, selection) {
            self.weight -= ENTRY_WEIGHT + replaced.found.len();
        }
        if self.weight > WEIGHT_MAX {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use crate::storage::tsdb::index::RefSet;

    fn series(id: u64, pairs: &[(&str, &str)]) -> Arc<MemSeries> {
        Arc::new(MemSeries::new(id, 0, Labels::from_pairs(pairs.iter().copied())))
    }

    /// Looks a selection up as the head does; says whether it had to be made.
    fn look(cache: &Selections, index: &MemPostings, matchers: &[Matcher]) -> bool {
        if cache.get(matchers, index).is_some() {
            return false;
        }
        let version = Version::new(matchers, index);
        let ids = index.select(matchers, &|_, _| unreachable!("the index alone decides"));
        let found: Found = ids.into_iter().map(|id| series(id, &[("i", "x")])).collect();
        cache.put(matchers, version, &found);
        true
    }

    #[test]
    fn a_selection_holds_until_a_series_that_may_belong_to_it_comes_or_any_goes() {
        let (cache, mut index) = (Selections::default(), MemPostings::default());
        let add = |index: &mut MemPostings, id: u64, name: &str, job: &str| {
            index.add(id, &Labels::from_pairs([("__name__", name), ("job", job)]));
        };
        let a = [Matcher::equal("__name__", "m"), Matcher::equal("job", "a")];
        let all = [Matcher::new(MatchOp::Regex, "job", ".+").unwrap()];
        add(&mut index, 1, "m", "a");
        assert!(look(&cache, &index, &a) && !look(&cache, &index, &a));
        assert!(look(&cache, &index, &all) && !look(&cache, &index, &all));
        add(&mut index, 2, "m", "b");
        assert!(!look(&cache, &index, &a), "no job a came");
        assert!(look(&cache, &index, &all), "nothing says that what came does not belong");
        add(&mut index, 3, "n", "a");
        assert!(!look(&cache, &index, &a), "no m came since it was last looked at");
        add(&mut index, 4, "m", "a");
        assert!(look(&cache, &index, &a) && !look(&cache, &index, &a));
        assert_eq!(cache.get(&a, &index).map(|found| found.len()), Some(2));
        let gone = Labels::from_pairs([("__name__", "m"), ("job", "b")]);
        index.remove(&RefSet::from_iter([2]), &[gone]);
        assert!(look(&cache, &index, &a), "whatever goes");
        cache.clear();
        assert!(look(&cache, &index, &a));
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let (cache, index) = (Selections::default(), MemPostings::default());
        let large: Found = (0..1000).map(|id| series(id, &[("i", "x")])).collect();
        let selector = |i: usize| [Matcher::equal("i", &i.to_string())];
        for i in 0..3 * WEIGHT_MAX / 1000 {
            let version = Version::new(&selector(i), &index);
            cache.put(&selector(i), version, &large);
            assert!(cache.get(&selector(0), &index).is_some(), "{i}");
        }
        let all = cache.0.lock();
        assert!(all.weight <= WEIGHT_MAX && all.young.len() + all.old.len() <= 2050);
        assert!(!all.young.contains_key(&selector(1)[..]));
    }
}
