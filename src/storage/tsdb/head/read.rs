//! Reading: selects and label look-ups under one consistent view.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashSet;
use rustc_hash::FxBuildHasher;

use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::{LabelRequest, RawSeries, SelectRequest, StorageError};
use crate::vector::RawSamples;

use super::Head;
use super::isolation::View;
use super::series::MemSeries;

/// References looked up before waiting writers get a turn.
const IDS_PER_LOCK: usize = 8192;

/// References up to which they are looked up one by one: locking the whole table costs as
/// much as some dozens of look-ups.
const FEW_IDS: usize = 64;

/// A series as one reader sees it.
struct HeadSeries {
    view: Arc<View>,
    series: Arc<MemSeries>,
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
        self.series.read_into(self.view.visible(), from_ms, to_ms, out)
    }

    fn read_newest_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        self.series.read_newest_into(self.view.visible(), from_ms, to_ms, out)
    }
}

impl Head {
    /// The series of a request, sorted by labels. Nothing is decoded.
    pub(crate) fn select(&self, request: &SelectRequest) -> Vec<Arc<dyn RawSeries>> {
        // The view comes first: what it shows is in the index already.
        let view = Arc::new(self.isolation.view());
        let found = self.matching(&view, &request.matchers, request.from_ms, request.to_ms);
        let mut found = self.ranking.sort(found);
        if request.hints.limit > 0 {
            found.truncate(request.hints.limit);
        }
        found
            .into_iter()
            .map(|series| -> Arc<dyn RawSeries> {
                Arc::new(HeadSeries { view: Arc::clone(&view), series })
            })
            .collect()
    }

    /// Sorted label names of a request.
    pub(crate) fn label_names(&self, request: &LabelRequest) -> Vec<String> {
        let view = self.isolation.view();
        let (from, to) = (request.from_ms, request.to_ms);
        if request.matcher_sets.is_empty() {
            let postings = self.series.postings();
            let by_id = self.series.all_by_id();
            let counts =
                |id: &u64| by_id.get(*id).is_some_and(|s| s.overlaps(view.visible(), from, to));
            let mut names: Vec<String> = postings
                .names()
                .filter(|name| postings.values(name).any(|(_, list)| list.iter().any(&counts)))
                .map(str::to_owned)
                .collect();
            names.sort_unstable();
            return names;
        }
        let mut names = BTreeSet::new();
        for series in self.matching_any(&view, request) {
            for (name, _) in series.labels.iter() {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        names.into_iter().collect()
    }

    /// Sorted values of one label of a request.
    pub(crate) fn label_values(&self, name: &str, request: &LabelRequest) -> Vec<String> {
        let view = self.isolation.view();
        let (from, to) = (request.from_ms, request.to_ms);
        if request.matcher_sets.is_empty() {
            let postings = self.series.postings();
            let by_id = self.series.all_by_id();
            let counts =
                |id: &u64| by_id.get(*id).is_some_and(|s| s.overlaps(view.visible(), from, to));
            let mut values: Vec<String> = postings
                .values(name)
                .filter(|(_, list)| list.iter().any(&counts))
                .map(|(value, _)| value.to_owned())
                .collect();
            values.sort_unstable();
            return values;
        }
        let mut values = BTreeSet::new();
        for series in self.matching_any(&view, request) {
            if let Some(value) = series.labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        }
        values.into_iter().collect()
    }

    fn matching_any(&self, view: &View, request: &LabelRequest) -> Vec<Arc<MemSeries>> {
        let mut seen: HashSet<u64, FxBuildHasher> = HashSet::default();
        let mut all = Vec::new();
        for matchers in &request.matcher_sets {
            let found = self.matching(view, matchers, request.from_ms, request.to_ms);
            all.extend(found.into_iter().filter(|s| seen.insert(s.id)));
        }
        all
    }

    fn matching(
        &self,
        view: &View,
        matchers: &[Matcher],
        from_ms: TimestampMs,
        to_ms: TimestampMs,
    ) -> Vec<Arc<MemSeries>> {
        let satisfies = |id: u64, matcher: &Matcher| {
            self.series.by_id(id).is_some_and(|s| matcher.matches_labels(&s.labels))
        };
        let ids = self.series.postings().select(matchers, &satisfies);
        let mut found = Vec::with_capacity(ids.len());
        if ids.len() <= FEW_IDS {
            let series = ids.into_iter().filter_map(|id| self.series.by_id(id));
            found.extend(series.filter(|s| s.overlaps(view.visible(), from_ms, to_ms)));
            return found;
        }
        for part in ids.chunks(IDS_PER_LOCK) {
            let by_id = self.series.all_by_id();
            let series = part.iter().filter_map(|id| by_id.get(*id));
            found.extend(
                series.filter(|s| s.overlaps(view.visible(), from_ms, to_ms)).map(Arc::clone),
            );
        }
        found
    }
}
