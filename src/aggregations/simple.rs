//! `count`, `group`, `min`, `max`: folds without rounding, so merging is exact.

use std::any::Any;
use std::cell::Cell;

use super::Accumulator;
use super::fold::{Grid, for_present, for_words, histogram_steps, same_kind};
use crate::functions::Flags;
use crate::vector::{Bitmap, SeriesBlock, SeriesId};

/// `count`, and `group` when `GROUP`: floats and histograms alike are members.
pub(super) struct Count<const GROUP: bool> {
    counts: Grid<u32>,
    groups: u32,
}

impl<const GROUP: bool> Count<GROUP> {
    pub(super) fn start(groups: u32, steps: u32, _: &[f64]) -> Box<dyn Accumulator> {
        Box::new(Self { counts: Grid::new(groups, steps, 0), groups })
    }
}

impl<const GROUP: bool> Accumulator for Count<GROUP> {
    fn add(&mut self, group: u32, block: &SeriesBlock, row: u32) {
        let counts = Cell::from_mut(self.counts.row_mut(group)).as_slice_of_cells();
        let bump = |count: &Cell<u32>| count.set(count.get() + 1);
        for_words(
            block.present.row(row),
            counts.len(),
            |steps| counts[steps].iter().for_each(bump),
            |step| bump(&counts[step]),
        );
        let counts = self.counts.row_mut(group);
        for step in histogram_steps(block, row) {
            counts[step as usize] += 1;
        }
    }

    fn merge(&mut self, later: Box<dyn Accumulator>, _: &dyn Fn() -> bool) {
        let later: Self = same_kind(later);
        for (mine, theirs) in self.counts.cells.iter_mut().zip(later.counts.cells) {
            *mine += theirs;
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn finish(self: Box<Self>, go_on: &dyn Fn() -> bool) -> (SeriesBlock, Vec<Flags>) {
        let steps = self.counts.steps as u32;
        let mut out = SeriesBlock::absent(SeriesId(0), self.groups, steps);
        for group in 0..self.groups {
            if !go_on() {
                break;
            }
            for (step, count) in self.counts.row(group).iter().enumerate() {
                if *count > 0 {
                    let value = if GROUP { 1.0 } else { f64::from(*count) };
                    out.set_float(group, step as u32, value);
                }
            }
        }
        (out, vec![Flags::default(); self.groups as usize])
    }
}

/// `min`, or `max` when `MAX`. Any number replaces a NaN; histograms are ignored.
pub(super) struct Extreme<const MAX: bool> {
    values: Grid<f64>,
    present: Bitmap,
    flags: Vec<Flags>,
    groups: u32,
}

impl<const MAX: bool> Extreme<MAX> {
    /// NaN is the neutral element: any number replaces it.
    pub(super) fn start(groups: u32, steps: u32, _: &[f64]) -> Box<dyn Accumulator> {
        Box::new(Self {
            values: Grid::new(groups, steps, f64::NAN),
            present: Bitmap::zeros(groups, steps),
            flags: vec![Flags::default(); groups as usize],
            groups,
        })
    }

    #[inline]
    fn pick(kept: f64, new: f64) -> f64 {
        let better = if MAX { kept < new } else { kept > new };
        if better || kept.is_nan() { new } else { kept }
    }
}

impl<const MAX: bool> Accumulator for Extreme<MAX> {
    fn add(&mut self, group: u32, block: &SeriesBlock, row: u32) {
        let kept = Cell::from_mut(self.values.row_mut(group)).as_slice_of_cells();
        let (new, words) = (block.row(row), block.present.row(row));
        for_words(
            words,
            kept.len(),
            |steps| {
                for (kept, new) in kept[steps.clone()].iter().zip(&new[steps]) {
                    kept.set(Self::pick(kept.get(), *new));
                }
            },
            |step| kept[step].set(Self::pick(kept[step].get(), new[step])),
        );
        or_into(self.present.row_mut(group), words);
        if histogram_steps(block, row).next().is_some() {
            self.flags[group as usize].raise(Flags::HISTOGRAMS_IGNORED_AGG);
        }
    }

    fn merge(&mut self, later: Box<dyn Accumulator>, _: &dyn Fn() -> bool) {
        let later: Self = same_kind(later);
        for group in 0..self.groups {
            let (kept, new) = (self.values.row_mut(group), later.values.row(group));
            let words = later.present.row(group);
            for_present(words, |step| kept[step] = Self::pick(kept[step], new[step]));
            or_into(self.present.row_mut(group), words);
            self.flags[group as usize].raise(later.flags[group as usize]);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn finish(self: Box<Self>, _: &dyn Fn() -> bool) -> (SeriesBlock, Vec<Flags>) {
        let block = SeriesBlock {
            first: SeriesId(0),
            rows: self.groups,
            steps: self.values.steps as u32,
            floats: self.values.cells,
            present: self.present,
            histograms: None,
        };
        (block, self.flags)
    }
}

pub(super) fn or_into(words: &mut [u64], other: &[u64]) {
    for (word, other) in words.iter_mut().zip(other) {
        *word |= other;
    }
}
