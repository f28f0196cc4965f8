//! Which series matter: those without which the alert does something else. Whole values of
//! labels are tried first, then ever smaller parts (delta debugging), down to single series.

use std::collections::{BTreeMap, BTreeSet};

use super::Effort;
use super::fixture::Fixture;
use super::replay::{Moment, Rig};

/// Most values of one label that are tried.
const VALUES_MAX: usize = 64;

struct Shrink<'a, 'e> {
    fixture: &'a Fixture,
    rig: &'a Rig<'a>,
    wanted: &'a [Moment],
    effort: &'a Effort<'e>,
    runs: &'a mut usize,
}

/// Indexes of the series that are needed for `wanted`.
pub(super) async fn shrink(
    fixture: &Fixture,
    rig: &Rig<'_>,
    wanted: &[Moment],
    effort: &Effort<'_>,
    runs: &mut usize,
) -> Vec<usize> {
    let mut shrink = Shrink { fixture, rig, wanted, effort, runs };
    let all: Vec<usize> = (0..fixture.series.len()).collect();
    let kept = shrink.by_labels(all).await;
    shrink.by_parts(kept).await
}

impl Shrink<'_, '_> {
    /// Whether these series alone make the alert do what it did. `false` when no more may be
    /// tried.
    async fn enough(&mut self, kept: &[usize]) -> bool {
        if *self.runs >= self.effort.runs_max {
            return false;
        }
        *self.runs += 1;
        let made = self.rig.run(&self.fixture.samples_of(kept)).await;
        (self.effort.ran)();
        made.is_ok_and(|made| made == self.wanted)
    }

    /// Leaves out all series with some value of a label, if nothing changes.
    async fn by_labels(&mut self, mut kept: Vec<usize>) -> Vec<usize> {
        let labels = |i: usize| self.fixture.series[i].0.iter();
        let names: BTreeSet<String> =
            kept.iter().flat_map(|i| labels(*i)).map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let mut by_value: BTreeMap<String, usize> = BTreeMap::new();
            for i in &kept {
                let value = self.fixture.series[*i].0.get(&name).unwrap_or_default();
                *by_value.entry(value.to_owned()).or_default() += 1;
            }
            if by_value.len() < 2 || by_value.len() > VALUES_MAX {
                continue;
            }
            // What leaves most out comes first.
            let mut values: Vec<(String, usize)> = by_value.into_iter().collect();
            values.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            for (value, _) in values {
                let without: Vec<usize> = kept
                    .iter()
                    .copied()
                    .filter(|i| self.fixture.series[*i].0.get(&name).unwrap_or_default() != value)
                    .collect();
                if !without.is_empty() && without.len() < kept.len() && self.enough(&without).await
                {
                    kept = without;
                }
            }
        }
        kept
    }

    /// Leaves out parts of the series, halves first, until no single one can be left out.
    async fn by_parts(&mut self, mut kept: Vec<usize>) -> Vec<usize> {
        let mut size = kept.len().div_ceil(2);
        while size > 0 && !kept.is_empty() {
            let mut from = 0;
            let mut left_out = false;
            while from < kept.len() {
                let to = (from + size).min(kept.len());
                let without = [&kept[..from], &kept[to..]].concat();
                if self.enough(&without).await {
                    kept = without;
                    left_out = true;
                } else {
                    from = to;
                }
            }
            // Single series are tried again as long as one of them could go.
            size = if size == 1 && left_out { 1 } else { size / 2 };
        }
        kept
    }
}
