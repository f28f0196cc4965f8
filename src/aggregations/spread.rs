//! `stddev`, `stdvar` and `quantile` of floats; histograms are ignored.

use std::any::Any;

use super::Accumulator;
use super::fold::{Grid, for_present, histogram_steps, same_kind};
use super::simple::or_into;
use crate::functions::Flags;
use crate::functions::over_time::quantile_of;
use crate::vector::{Bitmap, SeriesBlock, SeriesId};

/// `stdvar`, or `stddev` when `DEVIATION`: population variance by Welford's method.
pub(super) struct Variance<const DEVIATION: bool> {
    groups: u32,
    counts: Grid<u32>,
    means: Grid<f64>,
    /// Sums of squared distances from the mean.
    squares: Grid<f64>,
    present: Bitmap,
    flags: Vec<Flags>,
}

impl<const DEVIATION: bool> Variance<DEVIATION> {
    pub(super) fn start(groups: u32, steps: u32, _: &[f64]) -> Box<dyn Accumulator> {
        Box::new(Self {
            groups,
            counts: Grid::new(groups, steps, 0),
            means: Grid::new(groups, steps, 0.0),
            squares: Grid::new(groups, steps, 0.0),
            present: Bitmap::zeros(groups, steps),
            flags: vec![Flags::default(); groups as usize],
        })
    }
}

impl<const DEVIATION: bool> Accumulator for Variance<DEVIATION> {
    fn add(&mut self, group: u32, block: &SeriesBlock, row: u32) {
        let words = block.present.row(row);
        let values = block.row(row);
        let counts = self.counts.row_mut(group);
        let means = self.means.row_mut(group);
        let squares = self.squares.row_mut(group);
        for_present(words, |s| {
            counts[s] += 1;
            let v = values[s];
            if counts[s] == 1 {
                means[s] = v;
                // From an infinity or NaN there is no distance.
                squares[s] = if v.is_finite() { 0.0 } else { f64::NAN };
                return;
            }
            let delta = v - means[s];
            means[s] += delta / f64::from(counts[s]);
            squares[s] += delta * (v - means[s]);
        });
        or_into(self.present.row_mut(group), words);
        if histogram_steps(block, row).next().is_some() {
            self.flags[group as usize].raise(Flags::HISTOGRAMS_IGNORED_AGG);
        }
    }

    /// Chan's formula for two parts.
    fn merge(&mut self, later: Box<dyn Accumulator>, _: &dyn Fn() -> bool) {
        let later: Self = same_kind(later);
        for i in 0..self.counts.cells.len() {
            let (n1, n2) = (f64::from(self.counts.cells[i]), f64::from(later.counts.cells[i]));
            if n2 == 0.0 {
                continue;
            }
            if n1 == 0.0 {
                self.means.cells[i] = later.means.cells[i];
                self.squares.cells[i] = later.squares.cells[i];
            } else {
                let delta = later.means.cells[i] - self.means.cells[i];
                self.means.cells[i] += delta * n2 / (n1 + n2);
                self.squares.cells[i] +=
                    later.squares.cells[i] + delta * delta * n1 * n2 / (n1 + n2);
            }
            self.counts.cells[i] += later.counts.cells[i];
        }
        for group in 0..self.groups {
            or_into(self.present.row_mut(group), later.present.row(group));
            self.flags[group as usize].raise(later.flags[group as usize]);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn finish(self: Box<Self>, go_on: &dyn Fn() -> bool) -> (SeriesBlock, Vec<Flags>) {
        let mut floats = self.squares.cells;
        let steps = self.means.steps.max(1);
        for (values, counts) in floats.chunks_mut(steps).zip(self.counts.cells.chunks(steps)) {
            if !go_on() {
                break;
            }
            for (value, count) in values.iter_mut().zip(counts) {
                *value /= f64::from(*count);
                if DEVIATION {
                    *value = value.sqrt();
                }
            }
        }
        let block = SeriesBlock {
            first: SeriesId(0),
            rows: self.groups,
            steps: self.means.steps as u32,
            floats,
            present: self.present,
            histograms: None,
        };
        (block, self.flags)
    }
}

/// `quantile`: keeps every row, because ranks need all values of a step.
pub(super) struct Quantile {
    steps: u32,
    /// The rows of each group, in series order, in stretches that are never copied: there
    /// may be millions.
    groups: Vec<Vec<KeptRows>>,
    /// The wanted quantile per step.
    phis: Vec<f64>,
    flags: Vec<Flags>,
}

/// Slots after which a new stretch of rows is begun.
const STRETCH_SLOTS: usize = 1 << 15;

/// Rows one after the other, with their presence words.
#[derive(Clone, Debug, Default)]
struct KeptRows {
    floats: Vec<f64>,
    words: Vec<u64>,
}

impl Quantile {
    pub(super) fn start(groups: u32, steps: u32, phis: &[f64]) -> Box<dyn Accumulator> {
        Box::new(Self {
            steps,
            groups: vec![vec![]; groups as usize],
            phis: phis.to_vec(),
            flags: vec![Flags::default(); groups as usize],
        })
    }
}

impl Accumulator for Quantile {
    fn add(&mut self, group: u32, block: &SeriesBlock, row: u32) {
        if !block.present.row_is_empty(row) {
            let stretches = &mut self.groups[group as usize];
            if stretches.last().is_none_or(|kept| kept.floats.len() >= STRETCH_SLOTS) {
                stretches.push(KeptRows::default());
            }
            let kept = stretches.last_mut().expect("BUG: it was just put there");
            kept.floats.extend_from_slice(block.row(row));
            kept.words.extend_from_slice(block.present.row(row));
        }
        if histogram_steps(block, row).next().is_some() {
            self.flags[group as usize].raise(Flags::HISTOGRAMS_IGNORED_AGG);
        }
    }

    fn merge(&mut self, later: Box<dyn Accumulator>, _: &dyn Fn() -> bool) {
        let later: Self = same_kind(later);
        for (mine, theirs) in self.groups.iter_mut().zip(later.groups) {
            mine.extend(theirs);
        }
        for (mine, theirs) in self.flags.iter_mut().zip(later.flags) {
            mine.raise(theirs);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn finish(mut self: Box<Self>, go_on: &dyn Fn() -> bool) -> (SeriesBlock, Vec<Flags>) {
        let mut out = SeriesBlock::absent(SeriesId(0), self.groups.len() as u32, self.steps);
        let (steps, words) = (self.steps as usize, (self.steps as usize).div_ceil(64));
        let mut column: Vec<f64> = Vec::new();
        for (group, stretches) in self.groups.iter().enumerate() {
            for step in 0..steps {
                if !go_on() {
                    return (out, self.flags);
                }
                column.clear();
                for kept in stretches {
                    let rows = kept.floats.chunks_exact(steps).zip(kept.words.chunks_exact(words));
                    let present =
                        rows.filter(|(_, words)| words[step / 64] >> (step % 64) & 1 == 1);
                    column.extend(present.map(|(row, _)| row[step]));
                }
                if column.is_empty() {
                    continue;
                }
                let phi = self.phis.get(step).copied().unwrap_or(f64::NAN);
                if !(0.0..=1.0).contains(&phi) {
                    self.flags[group].raise(Flags::QUANTILE_OUT_OF_RANGE);
                }
                out.set_float(group as u32, step as u32, quantile_of(phi, &mut column));
            }
        }
        (out, self.flags)
    }
}
