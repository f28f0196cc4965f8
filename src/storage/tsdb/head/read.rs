//! Reading: selects and label look-ups under one consistent view.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;

use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::fanout::merge;
use crate::storage::tsdb::elsewhere::{self, Threads};
use crate::storage::tsdb::index::MemPostings;
use crate::storage::{LabelRequest, RawSeries, SelectRequest, StorageError, breathe};
use crate::vector::RawSamples;

use super::Head;
use super::isolation::View;
use super::selections::{Found, Version};
use super::series::MemSeries;

/// Series or values looked up before waiting writers get a turn, and whoever waits may leave.
const IDS_PER_LOCK: usize = 8192;

/// References up to which they are looked up one by one: locking the whole table costs as
/// much as some dozens of look-ups.
const FEW_IDS: usize = 64;

/// Which samples of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Those that came in order.
    InOrder,
    /// Those that came out of order.
    Late,
}

/// A series as one reader sees it.
struct HeadSeries {
    view: Arc<View>,
    series: Arc<MemSeries>,
    /// What is older is read from blocks.
    from_ms: TimestampMs,
    which: Which,
}

impl HeadSeries {
    fn reads_late(&self, from_ms: TimestampMs, to_ms: TimestampMs) -> bool {
        self.which != Which::InOrder && self.series.has_late(from_ms, to_ms)
    }
}

impl RawSeries for HeadSeries {
    fn labels(&self) -> &Labels {
        &self.series.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        let visible = self.view.visible();
        if !self.reads_late(from_ms, to_ms) {
            if self.which == Which::Late {
                return Ok(());
            }
            return self.series.read_into(visible, from_ms.max(self.from_ms), to_ms, out);
        }
        let late = self.series.read_late(visible, (from_ms, to_ms), false)?;
        if self.which == Which::Late {
            out.append(late);
            return Ok(());
        }
        let mut in_order = RawSamples::default();
        self.series.read_into(visible, from_ms.max(self.from_ms), to_ms, &mut in_order)?;
        out.append(merge(&in_order, &late));
        Ok(())
    }

    fn read_newest_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        if self.which == Which::Late || self.reads_late(from_ms, to_ms) {
            return self.read_into(from_ms, to_ms, out);
        }
        self.series.read_newest_into(self.view.visible(), from_ms.max(self.from_ms), to_ms, out)
    }
}

/// A look-up, as far as it is done at once.
enum Begun {
    Known(Found),
    Ids(Version, Vec<u64>),
    /// It takes long.
    Far(Arc<dyn Threads>),
}

impl Head {
    /// Starts a reader. Its view comes first: what it shows is in the index already, and
    /// nothing it may read leaves the head meanwhile.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::new(self.isolation.view())
    }

    /// The series of a request, sorted by labels, with their samples from `from_ms` on.
    /// Nothing is decoded.
    pub(crate) async fn select(
        self: &Arc<Self>,
        view: &Arc<View>,
        from_ms: TimestampMs,
        which: Which,
        request: &SelectRequest,
    ) -> Result<Vec<Arc<dyn RawSeries>>, StorageError> {
        let first_ms = request.from_ms.max(from_ms);
        if first_ms > request.to_ms && !self.has_late(request.from_ms, request.to_ms) {
            return Ok(Vec::new());
        }
        let found = self.satisfying(&request.matchers).await?;
        let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
        let mut out: Vec<Arc<dyn RawSeries>> = Vec::with_capacity(found.len().min(limit));
        for (i, series) in found.iter().enumerate() {
            if i % IDS_PER_LOCK == IDS_PER_LOCK - 1 {
                breathe().await;
            }
            if out.len() == limit {
                break;
            }
            let in_order =
                which != Which::Late && series.overlaps(view.visible(), first_ms, request.to_ms);
            let late = || {
                which != Which::InOrder
                    && series.overlaps_late(view.visible(), request.from_ms, request.to_ms)
            };
            if in_order || late() {
                let (view, series) = (Arc::clone(view), Arc::clone(series));
                out.push(Arc::new(HeadSeries { view, series, from_ms, which }));
            }
        }
        Ok(out)
    }

    /// Sorted label names of a request.
    pub(crate) async fn label_names(
        self: &Arc<Self>,
        view: &View,
        request: &LabelRequest,
    ) -> Result<Vec<String>, StorageError> {
        if request.matcher_sets.is_empty() {
            let mut all: Vec<String> = self.series.postings().names().map(str::to_owned).collect();
            all.sort_unstable();
            let mut names = Vec::with_capacity(all.len());
            for (i, name) in all.into_iter().enumerate() {
                if i % 64 == 63 {
                    breathe().await;
                }
                if self.any_value_counts(view, &name, request) {
                    names.push(name);
                }
            }
            return Ok(names);
        }
        let mut names = BTreeSet::new();
        for (i, series) in self.matching_any(view, request).await?.into_iter().enumerate() {
            if i % IDS_PER_LOCK == IDS_PER_LOCK - 1 {
                breathe().await;
            }
            for (name, _) in series.labels.iter() {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// True when a series of the interval carries the label.
    fn any_value_counts(&self, view: &View, name: &str, request: &LabelRequest) -> bool {
        let postings = self.series.postings();
        let by_id = self.series.all_by_id();
        let (from, to) = (request.from_ms, request.to_ms);
        let counts = |id: &u64| by_id.get(*id).is_some_and(|s| s.shows(view.visible(), from, to));
        postings.values(name).any(|(_, list)| list.iter().any(counts))
    }

    /// Sorted values of one label of a request.
    pub(crate) async fn label_values(
        self: &Arc<Self>,
        view: &View,
        name: &str,
        request: &LabelRequest,
    ) -> Result<Vec<String>, StorageError> {
        let (from, to) = (request.from_ms, request.to_ms);
        if request.matcher_sets.is_empty() {
            let all: Vec<String> =
                self.series.postings().values(name).map(|(value, _)| value.to_owned()).collect();
            let mut values = Vec::with_capacity(all.len());
            let mut left = all.into_iter().peekable();
            while left.peek().is_some() {
                let part: Vec<String> = left.by_ref().take(IDS_PER_LOCK).collect();
                {
                    let postings = self.series.postings();
                    let by_id = self.series.all_by_id();
                    let counts = |id: &u64| {
                        by_id.get(*id).is_some_and(|s| s.shows(view.visible(), from, to))
                    };
                    let used = |value: &String| postings.get(name, value).iter().any(counts);
                    values.extend(part.into_iter().filter(used));
                }
                if left.peek().is_some() {
                    breathe().await;
                }
            }
            values.sort_unstable();
            return Ok(values);
        }
        let mut values = BTreeSet::new();
        for (i, series) in self.matching_any(view, request).await?.into_iter().enumerate() {
            if i % IDS_PER_LOCK == IDS_PER_LOCK - 1 {
                breathe().await;
            }
            if let Some(value) = series.labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        }
        Ok(values.into_iter().collect())
    }

    async fn matching_any(
        self: &Arc<Self>,
        view: &View,
        request: &LabelRequest,
    ) -> Result<Vec<Arc<MemSeries>>, StorageError> {
        let mut seen: HashSet<u64, FxBuildHasher> = HashSet::default();
        let mut all = Vec::new();
        for matchers in &request.matcher_sets {
            let found = self.satisfying(matchers).await?;
            let counts = |s: &&Arc<MemSeries>| {
                s.shows(view.visible(), request.from_ms, request.to_ms) && seen.insert(s.id)
            };
            all.extend(found.iter().filter(counts).cloned());
        }
        Ok(all)
    }

    /// All series that satisfy the matchers, sorted by labels, whatever samples they hold:
    /// as found before, when nothing came or went since. What takes long is done elsewhere;
    /// where there is no elsewhere, the locks are not held while others have their turn, and
    /// the index itself is asked at one go.
    async fn satisfying(self: &Arc<Self>, matchers: &[Matcher]) -> Result<Found, StorageError> {
        let (version, ids) = match self.begin_look_up(matchers) {
            Begun::Known(found) => return Ok(found),
            Begun::Far(threads) => {
                let (head, matchers) = (Arc::clone(self), matchers.to_vec());
                return elsewhere::run(&*threads, move || head.look_up(&matchers)).await;
            }
            Begun::Ids(version, ids) => (version, ids),
        };
        let mut found = Vec::with_capacity(ids.len());
        for (i, part) in ids.chunks(IDS_PER_LOCK).enumerate() {
            if i > 0 {
                breathe().await;
            }
            self.collect(part, &mut found);
        }
        Ok(self.keep(matchers, version, found))
    }

    fn begin_look_up(&self, matchers: &[Matcher]) -> Begun {
        let index = self.series.postings();
        if let Some(found) = self.selections.get(matchers, &index) {
            return Begun::Known(found);
        }
        match self.options.elsewhere.for_effort(|| index.effort(matchers)) {
            Some(threads) => Begun::Far(Arc::clone(threads)),
            None => Begun::Ids(Version::new(matchers, &index), self.ids(matchers, &index)),
        }
    }

    /// As `satisfying`, at one go.
    fn look_up(&self, matchers: &[Matcher]) -> Found {
        let (version, ids) = {
            let index = self.series.postings();
            (Version::new(matchers, &index), self.ids(matchers, &index))
        };
        let mut found = Vec::with_capacity(ids.len());
        ids.chunks(IDS_PER_LOCK).for_each(|part| self.collect(part, &mut found));
        self.keep(matchers, version, found)
    }

    fn ids(&self, matchers: &[Matcher], index: &MemPostings) -> Vec<u64> {
        index.select(matchers, &|id, matcher| {
            self.series.by_id(id).is_some_and(|s| matcher.matches_labels(&s.labels))
        })
    }

    fn collect(&self, ids: &[u64], found: &mut Vec<Arc<MemSeries>>) {
        if ids.len() <= FEW_IDS {
            found.extend(ids.iter().filter_map(|id| self.series.by_id(*id)));
        } else {
            let by_id = self.series.all_by_id();
            found.extend(ids.iter().filter_map(|id| by_id.get(*id)).map(Arc::clone));
        }
    }

    fn keep(&self, matchers: &[Matcher], version: Version, found: Vec<Arc<MemSeries>>) -> Found {
        let found: Found = self.ranking.sort(found).into();
        self.selections.put(matchers, version, &found);
        found
    }
}
