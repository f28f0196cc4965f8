//! Matched operations in which every series of the streamed side has at most one partner:
//! the other side is held, blocks flow through.

use std::ops::Range;
use std::sync::Arc;

use super::elements::Elements;
use crate::exec::cx::{HISTOGRAM_WORK, Pace, Result};
use crate::exec::operator::{BoxOp, Collected, Operator, SeriesTable};
use crate::vector::SeriesBlock;

pub(super) struct Streaming<'a> {
    elements: Elements<'a>,
    /// The streamed side stands on the right of the operator.
    swapped: bool,
    many: BoxOp<'a>,
    one: Arc<Collected<'a>>,
    /// Per streamed series, its partner.
    partner: Arc<Vec<Option<u32>>>,
    table: Arc<SeriesTable>,
}

impl<'a> Streaming<'a> {
    pub(super) fn new(
        elements: Elements<'a>,
        swapped: bool,
        many: BoxOp<'a>,
        one: Arc<Collected<'a>>,
        partner: Vec<Option<u32>>,
        table: Arc<SeriesTable>,
    ) -> Self {
        Self { elements, swapped, many, one, partner: Arc::new(partner), table }
    }

    fn row(&self, block: &mut SeriesBlock, row: u32) -> Result<()> {
        self.elements.cx.check()?;
        let series = (block.first.0 + row) as usize;
        let Some(partner) = self.partner[series] else {
            let nothing = vec![0; (block.steps as usize).div_ceil(64)];
            block.mask_row(row, &nothing);
            return Ok(());
        };
        let (one, one_row) = self.one.row(partner);
        let plain = block.histograms.is_none() && one.histograms.is_none();
        if plain && !self.elements.op.is_trim() {
            let steps = block.steps as usize;
            let mask = block.present.row_mut(row);
            for (word, other) in mask.iter_mut().zip(one.present.row(one_row)) {
                *word &= other;
            }
            let floats = &mut block.floats[row as usize * steps..(row as usize + 1) * steps];
            if self.swapped {
                let mut left = one.row(one_row).to_vec();
                self.elements.floats(&mut left, floats, false, mask);
                floats.copy_from_slice(&left);
            } else {
                self.elements.floats(floats, one.row(one_row), false, mask);
            }
            return Ok(());
        }
        let steps: Vec<u32> = block.occupied_steps(row).collect();
        let mut pace = Pace::new(self.elements.cx);
        for step in steps {
            pace.work(HISTOGRAM_WORK)?;
            let pair = block.sample(row, step).zip(one.sample(one_row, step));
            let result = pair.and_then(|(many, one)| {
                let (lhs, rhs) = if self.swapped { (&one, &many) } else { (&many, &one) };
                self.elements.apply(lhs, rhs, lhs)
            });
            match result {
                Some(result) => block.set_sample(row, step, result),
                None => block.clear_slot(row, step),
            }
        }
        Ok(())
    }
}

impl<'a> Operator<'a> for Streaming<'a> {
    fn series(&self) -> &Arc<SeriesTable> {
        &self.table
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        let Some(mut block) = self.many.next()? else { return Ok(None) };
        for row in 0..block.rows {
            self.row(&mut block, row)?;
        }
        Ok(Some(block))
    }

    fn give_back(&mut self, block: SeriesBlock) {
        self.many.give_back(block);
    }

    fn split(
        self: Box<Self>,
        ranges: &[Range<u32>],
    ) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        let this = *self;
        match this.many.split(ranges) {
            Ok(parts) => Ok(parts
                .into_iter()
                .map(|many| {
                    Box::new(Self {
                        many,
                        one: this.one.clone(),
                        partner: this.partner.clone(),
                        table: this.table.clone(),
                        ..this
                    }) as BoxOp<'a>
                })
                .collect()),
            Err(many) => Err(Box::new(Self { many, ..this })),
        }
    }
}
