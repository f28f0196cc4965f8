//! What a target's loop remembers from scrape to scrape: which text is which series, and
//! which series were there last time. A body that names the same series in the same
//! words needs no label decoded, relabelled or hashed.

use std::collections::HashSet;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::model::Labels;
use crate::storage::SeriesRef;

/// A series' identity towards storage.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub series: Option<SeriesRef>,
    pub labels: Labels,
}

#[derive(Debug)]
struct Entry {
    /// The text, as the target wrote it.
    raw: Box<[u8]>,
    /// `None` for text that relabelling drops.
    known: Option<Known>,
    /// The scrape that met it last.
    seen: u64,
    /// The scrape since which its staleness is tracked; 0 when it is not.
    live_since: u64,
    /// The scrape that stored a tracked sample last.
    tracked: u64,
}

/// Where a remembered text is kept; valid until the scrape ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// What a line's text means.
#[derive(Debug)]
pub(super) enum Lookup {
    Dropped,
    /// `first` is false when this scrape met the same text before.
    Known {
        slot: Slot,
        first: bool,
    },
    New,
}

/// The memory of one target. One scrape is `begin`, then `look_up` and its companions
/// for each line, then `succeed` or `fail`.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    entries: Vec<Entry>,
    /// Indexes into `entries`, by text.
    index: HashTable<usize>,
    /// Seeded, so that a target cannot aim at collisions.
    hasher: DefaultHashBuilder,
    /// Number of the current scrape, from 1.
    scrape: u64,
    /// Entries the current scrape met.
    seen: usize,
    /// Series that end in this scrape although their text was met.
    ended: Vec<Known>,
    /// Series of a previous configuration, whose text may now mean something else.
    carried: Vec<Known>,
}

impl SeriesCache {
    /// Starts a scrape.
    pub fn begin(&mut self) {
        self.scrape += 1;
        self.seen = 0;
        self.ended.clear();
    }

    /// What the text meant so far. Counts it as met.
    pub fn look_up(&mut self, raw: &[u8]) -> Lookup {
        let hash = self.hasher.hash_one(raw);
        let entries = &self.entries;
        let Some(&at) = self.index.find(hash, |&at| *entries[at].raw == *raw) else {
            return Lookup::New;
        };
        let entry = &mut self.entries[at];
        let first = entry.seen != self.scrape;
        entry.seen = self.scrape;
        self.seen += usize::from(first);
        match &entry.known {
            None => Lookup::Dropped,
            Some(_) => Lookup::Known { slot: Slot(at), first },
        }
    }

    /// The series of a text that `look_up` knew.
    pub fn known(&self, slot: Slot) -> &Known {
        self.entries[slot.0].known.as_ref().expect("BUG: a slot is given out for a known series")
    }

    /// Remembers what a new text means; `None` that relabelling drops it.
    pub fn insert(&mut self, raw: &[u8], known: Option<Known>) -> Slot {
        self.seen += 1;
        let at = self.entries.len();
        let entry = Entry { raw: raw.into(), known, seen: self.scrape, live_since: 0, tracked: 0 };
        self.entries.push(entry);
        self.link(at);
        Slot(at)
    }

    fn link(&mut self, at: usize) {
        let Self { entries, index, hasher, .. } = self;
        let hash = hasher.hash_one(&*entries[at].raw);
        index.insert_unique(hash, at, |&at| hasher.hash_one(&*entries[at].raw));
    }

    /// Remembers a stored sample. `track` says whether the series becomes stale when the
    /// next scrape does not have it.
    pub fn stored(&mut self, slot: Slot, found: SeriesRef, track: bool) {
        let entry = &mut self.entries[slot.0];
        if let Some(known) = &mut entry.known {
            known.series = Some(found);
        }
        if !track {
            self.lost(slot);
            return;
        }
        if entry.live_since == 0 {
            entry.live_since = self.scrape;
        }
        entry.tracked = self.scrape;
    }

    /// Notes that a met series has no sample that counts for staleness: its sample was
    /// refused, or carries its own time. It ends as if it were missing.
    pub fn lost(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot.0];
        let was_live = entry.live_since != 0 && entry.live_since < self.scrape;
        if was_live && entry.tracked != self.scrape {
            entry.live_since = 0;
            self.ended.extend(entry.known.clone());
        }
    }

    /// Ends a scrape that went well: forgets the texts it did not meet and returns the
    /// series that ended.
    pub fn succeed(&mut self) -> Vec<Known> {
        let mut ended = std::mem::take(&mut self.ended);
        if self.entries.len() > self.seen {
            let scrape = self.scrape;
            self.entries.retain_mut(|entry| {
                if entry.seen == scrape {
                    return true;
                }
                if entry.live_since != 0 {
                    ended.extend(entry.known.take());
                }
                false
            });
            self.index.clear();
            (0..self.entries.len()).for_each(|at| self.link(at));
        }
        if !self.carried.is_empty() {
            let alive: HashSet<&Labels> =
                self.entries.iter().filter_map(|e| Some(&e.known.as_ref()?.labels)).collect();
            ended.extend(self.carried.drain(..).filter(|known| !alive.contains(&known.labels)));
        }
        ended
    }

    /// Ends a scrape that failed and of which nothing was stored: every series that was
    /// alive before it ends. Texts stay known for when the target is back.
    pub fn fail(&mut self) -> Vec<Known> {
        let mut ended = std::mem::take(&mut self.carried);
        for known in self.ended.drain(..) {
            ended.push(known);
        }
        for entry in &mut self.entries {
            if entry.live_since != 0 && entry.live_since < self.scrape {
                ended.extend(entry.known.clone());
            }
            entry.live_since = 0;
        }
        ended
    }

    /// Forgets what texts mean, because labels are made differently from now on; series
    /// that are alive end in the next scrape unless it has them again.
    pub fn reset(&mut self) {
        self.index.clear();
        for entry in self.entries.drain(..) {
            if entry.live_since != 0 {
                self.carried.extend(entry.known);
            }
        }
    }

    /// Number of texts remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
