//! How many samples an evaluation looked at, as Prometheus counts them.
//!
//! `queryable` counts the full window at every step of the query: what each step would
//! have cost as an instant query. `read` counts a sample when a window first sees it.
//! Operators count on their own grid; what runs below a subquery or once for all steps is
//! brought up to the query's grid, scope by scope ([`StatsScope`]).

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::model::StepGrid;
use crate::plan::bind::{StatsScope, Within};
use crate::vector::WindowTable;

/// What an evaluation cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExecStats {
    pub total_queryable_samples: u64,
    pub samples_read: u64,
    /// What the series found and the samples read take, decoded.
    pub bytes_read: u64,
    pub peak_samples: u64,
    /// A selector without whose samples the result is always empty found none.
    pub input_missing: bool,
    /// One entry per step of the query, when asked for.
    pub queryable_per_step: Vec<u64>,
    pub read_per_step: Vec<u64>,
}

/// Samples an operator looked at, gathered without locks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SampleCounts {
    queryable: u64,
    read: u64,
    /// Both for every step of the grid; empty unless asked for.
    per_step: Vec<(u64, u64)>,
}

impl SampleCounts {
    fn new(steps: usize) -> Self {
        Self { queryable: 0, read: 0, per_step: vec![(0, 0); steps] }
    }

    /// Notes that a step saw `queryable` samples, `read` of them for the first time.
    #[inline]
    pub(crate) fn add(&mut self, step: u32, queryable: u64, read: u64) {
        self.queryable += queryable;
        self.read += read;
        if let Some(counts) = self.per_step.get_mut(step as usize) {
            counts.0 += queryable;
            counts.1 += read;
        }
    }

    /// True when nothing was looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.queryable == 0
    }

    /// Notes what every window of a table saw, given the sums over its steps.
    pub(crate) fn add_windows(&mut self, table: &WindowTable, sums: (u64, u64)) {
        self.queryable += sums.0;
        self.read += sums.1;
        for (counts, (held, new)) in self.per_step.iter_mut().zip(table.counts()) {
            counts.0 += held;
            counts.1 += new;
        }
    }

    /// Notes that every step whose bit is set saw one sample, for the first time.
    pub(crate) fn add_present(&mut self, words: &[u64]) {
        let present: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
        self.queryable += present;
        self.read += present;
        for (step, counts) in self.per_step.iter_mut().enumerate() {
            let seen = words[step / 64] >> (step % 64) & 1;
            counts.0 += seen;
            counts.1 += seen;
        }
    }

    /// The counts of what runs once and is repeated: looked at in every step, read in the
    /// first.
    fn repeated(&self, over: StepGrid) -> Self {
        let mut counts = Self::new(self.steps_if_wanted(over));
        for step in 0..over.len {
            counts.add(step, self.queryable, if step == 0 { self.read } else { 0 });
        }
        counts
    }

    /// The counts of a subquery's input, for the steps of what is around it.
    ///
    /// A function over the subquery counts the windows it sees itself, so the samples below
    /// count as read only, by the first step that is not before theirs. As in Prometheus
    /// 3.14, an offset is not taken into account there.
    fn below_subquery(&self, inner: StepGrid, outer: StepGrid, bare: bool) -> Self {
        let mut counts = Self::new(self.steps_if_wanted(outer));
        if bare {
            counts.add(0, self.queryable, self.read);
            return counts;
        }
        counts.read = self.read;
        for (step, (_, read)) in (0..).zip(&self.per_step) {
            let after = (inner.at(step) - outer.start_ms).max(0);
            let first = (after + outer.step_ms - 1) / outer.step_ms.max(1);
            let last = counts.per_step.len().saturating_sub(1);
            if let Some(slot) = counts.per_step.get_mut((first as usize).min(last)) {
                slot.1 += read;
            }
        }
        counts
    }

    fn steps_if_wanted(&self, grid: StepGrid) -> usize {
        if self.per_step.is_empty() { 0 } else { grid.len as usize }
    }
}

/// Where the operators of one evaluation hand in their counts.
#[derive(Debug)]
pub(crate) struct SampleStats {
    per_step_wanted: bool,
    queryable: AtomicU64,
    read: AtomicU64,
    per_step: Mutex<Vec<(u64, u64)>>,
}

impl SampleStats {
    pub(crate) fn new(per_step_wanted: bool) -> Self {
        Self {
            per_step_wanted,
            queryable: AtomicU64::new(0),
            read: AtomicU64::new(0),
            per_step: Mutex::default(),
        }
    }

    /// Empty counts for an operator on `grid`.
    pub(crate) fn counts(&self, grid: StepGrid) -> SampleCounts {
        SampleCounts::new(if self.per_step_wanted { grid.len as usize } else { 0 })
    }

    /// Takes the counts of an operator that stands in scope number `scope`.
    pub(crate) fn count(&self, scopes: &[StatsScope], mut scope: usize, counts: &SampleCounts) {
        let mut lifted;
        let mut counts = counts;
        loop {
            let StatsScope { grid, parent, within } = scopes[scope];
            lifted = match within {
                Within::Query => break,
                Within::Once => counts.repeated(scopes[parent].grid),
                Within::Subquery { bare } => counts.below_subquery(grid, scopes[parent].grid, bare),
            };
            counts = &lifted;
            scope = parent;
        }
        self.add(counts);
    }

    /// Takes what has been counted; counts from here on anew.
    pub(crate) fn take(&self) -> SampleCounts {
        SampleCounts {
            queryable: self.queryable.swap(0, Ordering::Relaxed),
            read: self.read.swap(0, Ordering::Relaxed),
            per_step: std::mem::take(&mut *self.per_step.lock()),
        }
    }

    /// Adds counts that are those of the query's grid already.
    pub(crate) fn add(&self, counts: &SampleCounts) {
        self.queryable.fetch_add(counts.queryable, Ordering::Relaxed);
        self.read.fetch_add(counts.read, Ordering::Relaxed);
        if counts.per_step.is_empty() {
            return;
        }
        let mut all = self.per_step.lock();
        all.resize(counts.per_step.len(), (0, 0));
        for (sum, (queryable, read)) in all.iter_mut().zip(&counts.per_step) {
            sum.0 += queryable;
            sum.1 += read;
        }
    }

    /// The cost so far.
    pub(crate) fn stats(&self, peak_samples: u64) -> ExecStats {
        let per_step = self.per_step.lock();
        ExecStats {
            total_queryable_samples: self.queryable.load(Ordering::Relaxed),
            samples_read: self.read.load(Ordering::Relaxed),
            bytes_read: 0,
            peak_samples,
            input_missing: false,
            queryable_per_step: per_step.iter().map(|(queryable, _)| *queryable).collect(),
            read_per_step: per_step.iter().map(|(_, read)| *read).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(start_s: i64, step_s: i64, len: u32) -> StepGrid {
        StepGrid { start_ms: start_s * 1000, step_ms: step_s * 1000, len }
    }

    #[test]
    fn counts_are_brought_up_to_the_grid_of_the_query() {
        let query = StatsScope { grid: grid(100, 60, 3), parent: 0, within: Within::Query };
        let below = |grid, within| [query, StatsScope { grid, parent: 0, within }];
        let check = |scopes: &[StatsScope], expected: &[(u64, u64)]| {
            let scope = scopes.len() - 1;
            for per_step_wanted in [true, false] {
                let stats = SampleStats::new(per_step_wanted);
                let mut counts = stats.counts(scopes[scope].grid);
                for step in 0..scopes[scope].grid.len {
                    counts.add(step, 10, 1 + u64::from(step));
                }
                stats.count(scopes, scope, &counts);
                let got = stats.stats(7);
                let sum = |f: fn(&(u64, u64)) -> u64| expected.iter().map(f).sum::<u64>();
                let total = (got.total_queryable_samples, got.samples_read, got.peak_samples);
                assert_eq!(total, (sum(|e| e.0), sum(|e| e.1), 7));
                let zip = got.queryable_per_step.into_iter().zip(got.read_per_step);
                let per_step = if per_step_wanted { expected } else { &[] };
                assert_eq!(zip.collect::<Vec<_>>(), per_step);
            }
        };
        check(&[query], &[(10, 1), (10, 2), (10, 3)]);
        check(&below(grid(100, 60, 1), Within::Once), &[(10, 1), (10, 0), (10, 0)]);
        // Steps at 40, 80, ... 240 s, read by the steps at 100, 160 and 220 s.
        let inner = grid(40, 40, 6);
        let subquery = below(inner, Within::Subquery { bare: false });
        check(&subquery, &[(0, 1 + 2), (0, 3 + 4), (0, 5 + 6)]);
        let instant = StatsScope { grid: grid(240, 0, 1), ..query };
        let bare = StatsScope { grid: inner, parent: 0, within: Within::Subquery { bare: true } };
        check(&[instant, bare], &[(60, 21)]);
    }
}
