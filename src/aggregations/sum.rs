//! `sum` and `avg` of floats and native histograms.
//!
//! Sums are compensated (Neumaier). An average is the sum over the count until the sum
//! would run over to an infinity; from there on it is a running mean:
//! `mean = mean * (n-1)/n + v/n`.

use std::any::Any;
use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::Accumulator;
use super::fold::{Grid, all_present, for_present, full_word, histogram_steps, same_kind};
use crate::functions::Flags;
use crate::model::histogram::HistogramFold;
use crate::model::sums::{kahan_inc, kahan_inc_columns};
use crate::vector::{Bitmap, SeriesBlock, SeriesId};

/// `sum`, or `avg` when `AVG`.
pub(super) struct Sum<const AVG: bool> {
    groups: u32,
    sums: Grid<f64>,
    compensations: Grid<f64>,
    /// Floats per slot; kept for averages only.
    counts: Option<Grid<u32>>,
    /// Slots that have left the direct sum for the running mean.
    running: Option<Bitmap>,
    present: Bitmap,
    /// Slots that met histograms, by `group * steps + step`.
    histograms: HashMap<u32, HistogramFold, FxBuildHasher>,
}

impl<const AVG: bool> Sum<AVG> {
    pub(super) fn start(groups: u32, steps: u32, _: &[f64]) -> Box<dyn Accumulator> {
        Box::new(Self {
            groups,
            sums: Grid::new(groups, steps, 0.0),
            compensations: Grid::new(groups, steps, 0.0),
            counts: AVG.then(|| Grid::new(groups, steps, 0)),
            running: None,
            present: Bitmap::zeros(groups, steps),
            histograms: HashMap::default(),
        })
    }

    /// The first float of a slot starts its sum: adding it to 0 would lose -0.
    fn add_floats(&mut self, group: u32, values: &[f64], words: &[u64]) {
        let full = |words: &[u64]| all_present(words, self.sums.steps);
        if !AVG && full(words) && full(self.present.row(group)) {
            let cs = self.compensations.row_mut(group);
            kahan_inc_columns(values, self.sums.row_mut(group), cs);
            return;
        }
        for (i, word) in words.iter().copied().enumerate() {
            if word == 0 {
                continue;
            }
            let base = i * 64;
            let steps = base..(base + 64).min(self.sums.steps);
            let values = &values[steps.clone()];
            let seen = &mut self.present.row_mut(group)[i];
            let (fresh, known) = (word & !*seen, word & *seen);
            *seen |= word;
            let sums = &mut self.sums.row_mut(group)[steps.clone()];
            for_present(&[fresh], |s| sums[s] = values[s]);
            if let Some(counts) = &mut self.counts {
                let counts = &mut counts.row_mut(group)[steps.clone()];
                if word == full_word(counts.len()) {
                    counts.iter_mut().for_each(|count| *count += 1);
                } else {
                    for_present(&[word], |s| counts[s] += 1);
                }
                self.add_to_means(group, base, known, values);
                continue;
            }
            let cs = &mut self.compensations.row_mut(group)[steps];
            if known == full_word(sums.len()) {
                kahan_inc_columns(values, sums, cs);
                continue;
            }
            for_present(&[known], |s| {
                (sums[s], cs[s]) = kahan_inc(values[s], sums[s], cs[s]);
            });
        }
    }

    /// Adds to slots that hold a mean already, of one word; their counts include the new
    /// float.
    fn add_to_means(&mut self, group: u32, base: usize, known: u64, values: &[f64]) {
        let steps = self.sums.steps as u32;
        let sums = &mut self.sums.row_mut(group)[base..base + values.len()];
        let cs = &mut self.compensations.row_mut(group)[base..base + values.len()];
        // Without a running mean and without an overflow, a mean is a sum for now.
        if known == full_word(values.len()) && self.running.is_none() {
            let finite = |all: bool, (v, sum): (&f64, &f64)| all & (v + sum).is_finite();
            if values.iter().zip(&*sums).fold(true, finite) {
                kahan_inc_columns(values, sums, cs);
                return;
            }
        }
        let Some(counts) = &self.counts else { return };
        let counts = &counts.row(group)[base..];
        for_present(&[known], |s| {
            let n = f64::from(counts[s]);
            let step = (base + s) as u32;
            if !self.running.as_ref().is_some_and(|r| r.get(group, step)) {
                let (sum, c) = kahan_inc(values[s], sums[s], cs[s]);
                if !sum.is_infinite() {
                    (sums[s], cs[s]) = (sum, c);
                    return;
                }
                sums[s] /= n - 1.0;
                cs[s] /= n - 1.0;
                self.running
                    .get_or_insert_with(|| Bitmap::zeros(self.groups, steps))
                    .set(group, step);
            }
            let q = (n - 1.0) / n;
            (sums[s], cs[s]) = kahan_inc(values[s] / n, q * sums[s], q * cs[s]);
        });
    }

    /// Folds the sums of a later range of series into this one.
    fn merge_sums(&mut self, group: u32, later: &Self) {
        for (i, word) in later.present.row(group).iter().copied().enumerate() {
            let steps = i * 64..(i * 64 + 64).min(self.sums.steps);
            let seen = &mut self.present.row_mut(group)[i];
            let (fresh, known) = (word & !*seen, word & *seen);
            *seen |= word;
            let sums = &mut self.sums.row_mut(group)[steps.clone()];
            let cs = &mut self.compensations.row_mut(group)[steps.clone()];
            let later_sums = &later.sums.row(group)[steps.clone()];
            let later_cs = &later.compensations.row(group)[steps];
            for_present(&[fresh], |s| (sums[s], cs[s]) = (later_sums[s], later_cs[s]));
            if known == full_word(sums.len()) {
                cs.iter_mut().zip(later_cs).for_each(|(c, later)| *c += later);
                kahan_inc_columns(later_sums, sums, cs);
                continue;
            }
            for_present(&[known], |s| {
                (sums[s], cs[s]) = kahan_inc(later_sums[s], sums[s], cs[s] + later_cs[s]);
            });
        }
    }

    /// Folds the averages of a later range of series into this one: as one direct sum
    /// while both are direct and the total is finite, else by weight.
    fn merge_average(&mut self, group: u32, step: u32, later: &Self) {
        let slot = step as usize;
        let of = |a: &Self| {
            let count = a.counts.as_ref().map_or(0, |c| c.row(group)[slot]);
            let running = a.running.as_ref().is_some_and(|r| r.get(group, step));
            (count, a.sums.row(group)[slot], a.compensations.row(group)[slot], running)
        };
        let (n1, s1, c1, running1) = of(self);
        let (n2, s2, c2, running2) = of(later);
        if n2 == 0 {
            return;
        }
        let (n, mut sum, mut c, mut running) = (n1 + n2, s2, c2, running2);
        if n1 > 0 {
            (sum, c) = kahan_inc(s2, s1, c1 + c2);
            running = running1 || running2 || sum.is_infinite();
            if running {
                let mean = |s: f64, c: f64, n: u32, running: bool| {
                    if running { s + c } else { s / f64::from(n) + c / f64::from(n) }
                };
                let weight = f64::from(n2) / f64::from(n);
                sum = mean(s1, c1, n1, running1) * (1.0 - weight)
                    + mean(s2, c2, n2, running2) * weight;
                c = 0.0;
            }
        }
        self.sums.row_mut(group)[slot] = sum;
        self.compensations.row_mut(group)[slot] = c;
        if let Some(counts) = &mut self.counts {
            counts.row_mut(group)[slot] = n;
        }
        self.present.set(group, step);
        if running {
            let (groups, steps) = (self.groups, self.sums.steps as u32);
            self.running.get_or_insert_with(|| Bitmap::zeros(groups, steps)).set(group, step);
        }
    }
}

impl<const AVG: bool> Accumulator for Sum<AVG> {
    fn add(&mut self, group: u32, block: &SeriesBlock, row: u32) {
        self.add_floats(group, block.row(row), block.present.row(row));
        for step in histogram_steps(block, row) {
            let Some(h) = block.histogram(row, step) else { continue };
            let slot = group * block.steps + step;
            match self.histograms.get_mut(&slot) {
                Some(cell) => cell.add::<AVG>(h),
                None => {
                    self.histograms.insert(slot, HistogramFold::new(h));
                }
            }
        }
    }

    fn merge(&mut self, later: Box<dyn Accumulator>, go_on: &dyn Fn() -> bool) {
        let mut later: Self = same_kind(later);
        for group in 0..self.groups {
            if AVG {
                let words = later.present.row(group).to_vec();
                for_present(&words, |s| self.merge_average(group, s as u32, &later));
            } else {
                self.merge_sums(group, &later);
            }
        }
        let mut slots: Vec<u32> = later.histograms.keys().copied().collect();
        slots.sort_unstable();
        for slot in slots {
            if !go_on() {
                return;
            }
            let Some(theirs) = later.histograms.remove(&slot) else { continue };
            match self.histograms.get_mut(&slot) {
                Some(mine) => mine.merge::<AVG>(theirs),
                None => {
                    self.histograms.insert(slot, theirs);
                }
            }
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn finish(self: Box<Self>, go_on: &dyn Fn() -> bool) -> (SeriesBlock, Vec<Flags>) {
        let this = *self;
        let steps = this.sums.steps as u32;
        let mut flags = vec![Flags::default(); this.groups as usize];
        let mut out = SeriesBlock {
            first: SeriesId(0),
            rows: this.groups,
            steps,
            floats: this.sums.cells,
            present: this.present,
            histograms: None,
        };
        for group in 0..this.groups {
            if !go_on() {
                break;
            }
            let cs = this.compensations.row(group);
            let start = group as usize * steps as usize;
            let values = &mut out.floats[start..start + steps as usize];
            match &this.counts {
                None => {
                    for (value, c) in values.iter_mut().zip(cs) {
                        *value += c;
                    }
                }
                Some(counts) => {
                    for (s, count) in counts.row(group).iter().enumerate() {
                        let running = this.running.as_ref().is_some_and(|r| r.get(group, s as u32));
                        let n = if running { 1.0 } else { f64::from(*count) };
                        values[s] = values[s] / n + cs[s] / n;
                    }
                }
            }
        }
        let mut cells: Vec<(u32, HistogramFold)> = this.histograms.into_iter().collect();
        cells.sort_unstable_by_key(|(slot, _)| *slot);
        for (slot, cell) in cells {
            if !go_on() {
                break;
            }
            let (group, step) = (slot / steps, slot % steps);
            let flags = &mut flags[group as usize];
            if out.present.get(group, step) {
                flags.raise(Flags::MIXED_AGG);
                out.clear_slot(group, step);
                continue;
            }
            let outcome = cell.finish::<AVG>();
            flags.raise(Flags::of_fold(&outcome));
            if let Some(h) = outcome.histogram {
                out.set_histogram(group, step, h);
            }
        }
        (out, flags)
    }
}
