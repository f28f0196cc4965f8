//! Reading: selects and label look-ups under one consistent view.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;

use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::fanout::merge;
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

/// A series as one reader sees it.
struct HeadSeries {
    view: Arc<View>,
    series: Arc<MemSeries>,
    /// What is older is read from blocks.
    from_ms: TimestampMs,
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
        if !self.series.has_late(from_ms, to_ms) {
            return self.series.read_into(visible, from_ms.max(self.from_ms), to_ms, out);
        }
        let late = self.series.read_late(visible, (from_ms, to_ms), false)?;
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
        if self.series.has_late(from_ms, to_ms) {
            return self.read_into(from_ms, to_ms, out);
        }
        self.series.read_newest_into(self.view.visible(), from_ms.max(self.from_ms), to_ms, out)
    }
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
        &self,
        view: &Arc<View>,
        from_ms: TimestampMs,
        request: &SelectRequest,
    ) -> Vec<Arc<dyn RawSeries>> {
        let first_ms = request.from_ms.max(from_ms);
        if first_ms > request.to_ms && !self.has_late(request.from_ms, request.to_ms) {
            return Vec::new();
        }
        let found = self.satisfying(&request.matchers).await;
        let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
        let mut out: Vec<Arc<dyn RawSeries>> = Vec::with_capacity(found.len().min(limit));
        for (i, series) in found.iter().enumerate() {
            if i % IDS_PER_LOCK == IDS_PER_LOCK - 1 {
                breathe().await;
            }
            if out.len() == limit {
                break;
            }
            if series.overlaps(view.visible(), first_ms, request.to_ms)
                || series.overlaps_late(view.visible(), request.from_ms, request.to_ms)
            {
                let (view, series) = (Arc::clone(view), Arc::clone(series));
                out.push(Arc::new(HeadSeries { view, series, from_ms }));
            }
        }
        out
    }

    /// Sorted label names of a request.
    pub(crate) async fn label_names(&self, view: &View, request: &LabelRequest) -> Vec<String> {
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
            return names;
        }
        let mut names = BTreeSet::new();
        for (i, series) in self.matching_any(view, request).await.into_iter().enumerate() {
            if i % IDS_PER_LOCK == IDS_PER_LOCK - 1 {
                breathe().await;
            }
            for (name, _) in series.labels.iter() {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        names.into_iter().collect()
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
        &self,
        view: &View,
        name: &str,
        request: &LabelRequest,
    ) -> Vec<String> {
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
            return values;
        }
        let mut values = BTreeSet::new();
        for (i, series) in self.matching_any(view, request).await.into_iter().enumerate() {
            if i % IDS_PER_LOCK == IDS_PER_LOCK - 1 {
                breathe().await;
            }
            if let Some(value) = series.labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        }
        values.into_iter().collect()
    }

    async fn matching_any(&self, view: &View, request: &LabelRequest) -> Vec<Arc<MemSeries>> {
        let mut seen: HashSet<u64, FxBuildHasher> = HashSet::default();
        let mut all = Vec::new();
        for matchers in &request.matcher_sets {
            let found = self.satisfying(matchers).await;
            let counts = |s: &&Arc<MemSeries>| {
                s.shows(view.visible(), request.from_ms, request.to_ms) && seen.insert(s.id)
            };
            all.extend(found.iter().filter(counts).cloned());
        }
        all
    }

    /// All series that satisfy the matchers, sorted by labels, whatever samples they hold:
    /// as found before, when nothing came or went since. The locks are not held while others
    /// have their turn; the index itself is asked at one go.
    async fn satisfying(&self, matchers: &[Matcher]) -> Found {
        let satisfies = |id: u64, matcher: &Matcher| {
            self.series.by_id(id).is_some_and(|s| matcher.matches_labels(&s.labels))
        };
        let (version, ids) = {
            let index = self.series.postings();
            if let Some(found) = self.selections.get(matchers, &index) {
                return found;
            }
            (Version::new(matchers, &index), index.select(matchers, &satisfies))
        };
        let mut found = Vec::with_capacity(ids.len());
        if ids.len() <= FEW_IDS {
            found.extend(ids.into_iter().filter_map(|id| self.series.by_id(id)));
        } else {
            for (i, part) in ids.chunks(IDS_PER_LOCK).enumerate() {
                if i > 0 {
                    breathe().await;
                }
                let by_id = self.series.all_by_id();
                found.extend(part.iter().filter_map(|id| by_id.get(*id)).map(Arc::clone));
            }
        }
        let found: Found = self.ranking.sort(found).into();
        self.selections.put(matchers, version, &found);
        found
    }
}
