//! Matched operations in which a step may hold a surprise: several partners, filled-in
//! values, coinciding results. Both sides are held and every step is looked at.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::matching::{Match, Ones};
use crate::exec::cx::{ExecError, Pace, Result};
use crate::exec::merge::same_labelset;
use crate::exec::operator::{Collected, Ready, SeriesMeta, SeriesTable, or_into, weight};
use crate::exec::rows::Rows;
use crate::model::{Labels, Sample};
use crate::vector::Bitmap;

pub(super) struct General<'m, 'a> {
    matched: Match<'m, 'a>,
    many: Collected<'a>,
    one: Collected<'a>,
    many_groups: Vec<u32>,
    /// Per group, its series on the "one" side.
    ones: Vec<Ones>,
    out: Output,
}

/// Results by label set.
struct Output {
    rows: HashMap<Labels, u32, FxBuildHasher>,
    series: Vec<SeriesMeta>,
    /// Per row and step: which group wrote the slot, plus one; 0 when none did.
    writers: Vec<Vec<u32>>,
    samples: Rows,
}

impl Output {
    fn new(steps: u32) -> Self {
        let (rows, series, writers) = (HashMap::default(), vec![], vec![]);
        Self { rows, series, writers, samples: Rows::new(steps) }
    }

    fn row(&mut self, meta: SeriesMeta, steps: u32) -> u32 {
        if let Some(row) = self.rows.get(&meta.labels) {
            return *row;
        }
        let row = self.series.len() as u32;
        self.rows.insert(meta.labels.clone(), row);
        self.series.push(meta);
        self.writers.push(vec![0; steps as usize]);
        row
    }
}

impl<'m, 'a> General<'m, 'a> {
    pub(super) fn new(
        matched: Match<'m, 'a>,
        many: Collected<'a>,
        one: Collected<'a>,
        many_groups: Vec<u32>,
        ones: Vec<Ones>,
    ) -> Self {
        let out = Output::new(many.steps);
        Self { matched, many, one, many_groups, ones, out }
    }

    /// Evaluates all steps.
    pub(super) fn run(mut self) -> Result<Ready<'a>> {
        let steps = self.many.steps;
        let (fill_many, fill_one) = self.matched.fills();
        let filled = fill_many.is_some() || fill_one.is_some();
        // A step at which one side is empty gives nothing, not even an error.
        let cx = self.matched.elements.cx;
        let mut active = self.many.any(cx)?;
        if filled {
            or_into(&mut active, self.one.any(cx)?.into_iter());
        } else {
            active.iter_mut().zip(self.one.any(cx)?).for_each(|(a, b)| *a &= b);
        }
        self.refuse_duplicate_ones(&active)?;
        let mut matched_bits = Bitmap::zeros(self.ones.len() as u32, steps);
        for series in 0..self.many.table.len() {
            cx.check()?;
            self.many_series(series, &active, &mut matched_bits)?;
        }
        if let Some(fill) = fill_many {
            self.fill_many(fill, &matched_bits)?;
        }
        self.finish()
    }

    /// Two series of one group on the "one" side at the same step are an error, whether or
    /// not they have a partner.
    fn refuse_duplicate_ones(&self, active: &[u64]) -> Result<()> {
        for rows in self.ones.iter().filter(|rows| rows.len() > 1) {
            let mut seen: Vec<u64> = vec![0; active.len()];
            for (i, row) in rows.iter().enumerate() {
                self.matched.elements.cx.check()?;
                let (block, block_row) = self.one.row(*row);
                let clash = block.occupied(block_row).enumerate().find_map(|(w, word)| {
                    let bits = word & seen[w] & active[w];
                    (bits != 0).then(|| w as u32 * 64 + bits.trailing_zeros())
                });
                if let Some(step) = clash {
                    let other = rows[..i].iter().find(|r| self.one.has(**r, step));
                    let other = other.expect("BUG: the bit came from an earlier series");
                    return Err(self.duplicate_ones(*other, *row));
                }
                or_into(&mut seen, block.occupied(block_row));
            }
        }
        Ok(())
    }

    fn duplicate_ones(&self, a: u32, b: u32) -> ExecError {
        let table = &self.one.table;
        let side = if self.matched.swapped { "left" } else { "right" };
        let group = self.matched.key.apply(table.labels(a));
        let mut pair = [table.labels(a).to_string(), table.labels(b).to_string()];
        pair.sort();
        ExecError::query(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the \
             operation: [{}, {}];many-to-many matching not allowed: matching labels must be \
             unique on one side",
            pair[0], pair[1]
        ))
    }

    fn many_series(&mut self, series: u32, active: &[u64], matched: &mut Bitmap) -> Result<()> {
        let group = self.many_groups[series as usize];
        let fill_one = self.matched.fills().1;
        let SeriesMeta { labels, drop_name: drops } =
            self.many.table.series[series as usize].clone();
        let (block, row) = self.many.row(series);
        let steps: Vec<u32> = block
            .occupied_steps(row)
            .filter(|s| active[*s as usize / 64] >> (s % 64) & 1 == 1)
            .collect();
        // The output row of the last partner: it seldom changes from step to step.
        let mut last: Option<(Option<u32>, u32)> = None;
        let mut pace = Pace::new(self.matched.elements.cx);
        for step in steps {
            let ones = &self.ones[group as usize];
            let at = ones.iter().position(|r| self.one.has(*r, step));
            pace.work(8 + at.unwrap_or(ones.len()))?;
            let partner = at.map(|i| ones[i]);
            let one = match (partner, fill_one) {
                (Some(row), _) => self.one.sample(row, step),
                (None, Some(fill)) => Some(Sample::Float(fill)),
                (None, None) => None,
            };
            let Some(one) = one else { continue };
            let Some(many) = self.many.sample(series, step) else { continue };
            let out_row = match last {
                Some((p, out_row)) if p == partner => out_row,
                _ => {
                    let filled = self.matched.key.apply(&labels);
                    let one_labels = partner.map_or(&filled, |r| self.one.table.labels(r));
                    let meta = self.matched.result(&labels, drops, Some(one_labels));
                    self.out.row(meta, self.many.steps)
                }
            };
            last = Some((partner, out_row));
            if self.matched.one_to_one() && matched.get(group, step) {
                return Err(ExecError::query(
                    "multiple matches for labels: many-to-one matching must be explicit \
                     (group_left/group_right)",
                ));
            }
            matched.set(group, step);
            self.write(group, out_row, step, &many, &one)?;
        }
        Ok(())
    }

    fn fill_many(&mut self, fill: f64, matched: &Bitmap) -> Result<()> {
        let many = Sample::Float(fill);
        for group in 0..self.ones.len() as u32 {
            for series in self.ones[group as usize].clone() {
                let labels = self.one.table.labels(series).clone();
                let (block, row) = self.one.row(series);
                let steps: Vec<u32> = block.occupied_steps(row).collect();
                for step in steps {
                    self.matched.elements.cx.check()?;
                    if matched.get(group, step) {
                        continue;
                    }
                    let Some(one) = self.one.sample(series, step) else { continue };
                    let meta =
                        self.matched.result(&self.matched.key.apply(&labels), false, Some(&labels));
                    let out_row = self.out.row(meta, self.one.steps);
                    self.write(group, out_row, step, &many, &one)?;
                }
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        group: u32,
        row: u32,
        step: u32,
        many: &Sample,
        one: &Sample,
    ) -> Result<()> {
        let writer = &mut self.out.writers[row as usize][step as usize];
        if *writer == group + 1 && !self.matched.one_to_one() {
            return Err(ExecError::query(
                "multiple matches for labels: grouping labels must ensure unique matches",
            ));
        }
        let before = std::mem::replace(writer, group + 1);
        let (lhs, rhs) = if self.matched.swapped { (one, many) } else { (many, one) };
        let Some(sample) = self.matched.elements.apply(lhs, rhs, lhs) else { return Ok(()) };
        if before != 0 && self.out.samples.has(row, step) {
            return Err(same_labelset());
        }
        self.out.samples.set_sample(row, step, sample);
        Ok(())
    }

    fn finish(self) -> Result<Ready<'a>> {
        let blocks = self.out.samples.into_blocks(self.out.series.len() as u32);
        let (_, mut hold) = self.many.into_parts();
        hold.grow_to(blocks.iter().map(weight).sum())?;
        let table = SeriesTable { series: self.out.series, unique: true };
        Ok(Ready::new(Arc::new(table), blocks, Some(hold)))
    }
}
