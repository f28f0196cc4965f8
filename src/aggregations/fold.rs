//! What the accumulators share: grids of groups over steps, and loops over the present
//! slots of a row, word by word.

use std::any::Any;
use std::ops::Range;

use super::Accumulator;
use crate::model::effort::clearing;
use crate::vector::SeriesBlock;

/// The word of presence bits of so many steps, at most 64, that are all present.
#[inline]
pub(super) fn full_word(steps: usize) -> u64 {
    u64::MAX >> (64 - steps.clamp(1, 64))
}

/// True when every one of so many steps is present.
#[inline]
pub(super) fn all_present(words: &[u64], steps: usize) -> bool {
    match words.split_last() {
        Some((last, words)) => {
            *last == full_word(steps - words.len() * 64) && words.iter().all(|w| *w == u64::MAX)
        }
        None => true,
    }
}

/// Visits the present floats of a row of so many steps: `dense` gets the steps of words in
/// which all are present, `sparse` every other present step.
#[inline]
pub(super) fn for_words(
    words: &[u64],
    steps: usize,
    mut dense: impl FnMut(Range<usize>),
    mut sparse: impl FnMut(usize),
) {
    for (i, word) in words.iter().copied().enumerate() {
        let base = i * 64;
        let width = (steps - base).min(64);
        if word == full_word(width) {
            dense(base..base + width);
            continue;
        }
        let mut word = word;
        while word != 0 {
            sparse(base + word.trailing_zeros() as usize);
            word &= word - 1;
        }
    }
}

/// Calls `f(step)` for every present float of a row.
#[inline]
pub(super) fn for_present(words: &[u64], mut f: impl FnMut(usize)) {
    for (i, word) in words.iter().copied().enumerate() {
        let mut word = word;
        while word != 0 {
            f(i * 64 + word.trailing_zeros() as usize);
            word &= word - 1;
        }
    }
}

/// The steps of a row that hold histograms.
pub(super) fn histogram_steps(block: &SeriesBlock, row: u32) -> impl Iterator<Item = u32> + '_ {
    let steps = if block.has_histograms() { block.steps } else { 0 };
    (0..steps).filter(move |step| block.histogram(row, *step).is_some())
}

/// A value per group and step.
#[derive(Clone, Debug)]
pub(super) struct Grid<T> {
    pub(super) steps: usize,
    pub(super) cells: Vec<T>,
}

impl<T: Clone> Grid<T> {
    pub(super) fn new(groups: u32, steps: u32, fill: T) -> Self {
        clearing(groups as usize * steps as usize);
        Self { steps: steps as usize, cells: vec![fill; groups as usize * steps as usize] }
    }

    pub(super) fn row_mut(&mut self, group: u32) -> &mut [T] {
        let start = group as usize * self.steps;
        &mut self.cells[start..start + self.steps]
    }

    pub(super) fn row(&self, group: u32) -> &[T] {
        let start = group as usize * self.steps;
        &self.cells[start..start + self.steps]
    }
}

/// Takes the accumulator behind a box back to its type, for `merge`.
pub(super) fn same_kind<A: Accumulator + 'static>(later: Box<dyn Accumulator>) -> A {
    let any: Box<dyn Any> = later.into_any();
    *any.downcast::<A>().expect("BUG: accumulators of one aggregation have one type")
}
