//! Sorting many series by labels without comparing labels.
//!
//! Selects answer in label order, and comparing label sets is most of what a large one
//! costs. So maintenance sorts all series once in a while and gives each its rank; a select
//! sorts by rank, and compares labels only for the series created since, which it merges
//! in. A rank only orders: series that leave keep the others' ranks valid.

use std::sync::Arc;

use parking_lot::RwLock;
use rayon::slice::ParallelSliceMut;

use super::series::MemSeries;

/// Below this many series one thread sorts faster than several.
const PARALLEL_SORT_MIN: usize = 20_000;
/// Heads smaller than this are sorted fast enough without ranks.
const RANKED_MIN: usize = 10_000;

/// Held for writing while ranks change, for reading while they are collected; counts the
/// series that had a rank when it was last written.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    ranked: RwLock<usize>,
}

impl Ranking {
    /// True when so many of the series are new that ranking them again pays.
    pub(super) fn is_stale(&self, series: usize) -> bool {
        let ranked = *self.ranked.read();
        series >= RANKED_MIN && series.abs_diff(ranked) * 16 > series
    }

    /// Ranks all series anew.
    pub(super) fn rank(&self, mut all: Vec<Arc<MemSeries>>) {
        sort_by_labels(&mut all);
        let mut ranked = self.ranked.write();
        for (i, series) in all.iter().enumerate() {
            series.set_rank(u32::try_from(i + 1).unwrap_or(0));
        }
        *ranked = all.len();
    }

    /// Sorts by labels.
    pub(super) fn sort(&self, found: Vec<Arc<MemSeries>>) -> Vec<Arc<MemSeries>> {
        let guard = self.ranked.read();
        let mut new = Vec::new();
        let mut ranked: Vec<(u32, Arc<MemSeries>)> = Vec::new();
        if *guard == 0 {
            new = found;
        } else {
            ranked.reserve(found.len());
            for series in found {
                match series.rank() {
                    0 => new.push(series),
                    rank => ranked.push((rank, series)),
                }
            }
        }
        drop(guard);
        ranked.sort_unstable_by_key(|(rank, _)| *rank);
        sort_by_labels(&mut new);
        merge(ranked, new)
    }
}

fn sort_by_labels(all: &mut [Arc<MemSeries>]) {
    let compare = |a: &Arc<MemSeries>, b: &Arc<MemSeries>| a.labels.cmp(&b.labels);
    if all.len() < PARALLEL_SORT_MIN {
        all.sort_unstable_by(compare);
    } else {
        all.par_sort_unstable_by(compare);
    }
}

fn merge(ranked: Vec<(u32, Arc<MemSeries>)>, new: Vec<Arc<MemSeries>>) -> Vec<Arc<MemSeries>> {
    if ranked.is_empty() {
        return new;
    }
    let mut merged = Vec::with_capacity(ranked.len() + new.len());
    let mut new = new.into_iter().peekable();
    for (_, series) in ranked {
        while let Some(first) = new.next_if(|n| n.labels < series.labels) {
            merged.push(first);
        }
        merged.push(series);
    }
    merged.extend(new);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn ranked_and_new_series_come_out_in_label_order() {
        let series = |i: u64| {
            let labels = Labels::from_pairs([("__name__", format!("m{}", i * 7919 % 1000))]);
            Arc::new(MemSeries::new(i, 0, labels))
        };
        let all: Vec<_> = (0..1000).map(series).collect();
        let ranking = Ranking::default();
        assert!(ranking.is_stale(RANKED_MIN) && !ranking.is_stale(RANKED_MIN - 1));
        // Some leave, some come: with no, some and all series ranked.
        for known in [0, 1, 500, 1000] {
            ranking.rank(all[..known].to_vec());
            let found: Vec<_> = all.iter().skip(3).step_by(2).cloned().collect();
            let sorted = ranking.sort(found.clone());
            assert!(sorted.is_sorted_by(|a, b| a.labels < b.labels));
            assert_eq!(sorted.len(), found.len());
        }
    }
}
