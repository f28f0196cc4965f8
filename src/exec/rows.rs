//! Output rows that are written in any order and whose number shows only in the course of
//! it: in blocks that are made when a row of them is first written to, so that no large
//! stretch of memory is ever cleared in one go. The first blocks are small, because most
//! results are: each holds as many rows as all before it, up to the usual size.

use super::operator::rows_per_block;
use crate::model::Sample;
use crate::vector::{SeriesBlock, SeriesId};

/// See the module.
pub(crate) struct Rows {
    steps: u32,
    /// Powers of two: rows of the first block and of the largest.
    smallest: u32,
    largest: u32,
    blocks: Vec<SeriesBlock>,
}

/// Rows of the first block.
const SMALLEST: u32 = 8;

impl Rows {
    /// No rows yet, of so many steps.
    pub(crate) fn new(steps: u32) -> Self {
        let largest = 1 << rows_per_block(steps).ilog2();
        Self { steps, smallest: SMALLEST.min(largest), largest, blocks: vec![] }
    }

    /// The number of the block a row is in.
    fn block_of(&self, row: u32) -> usize {
        let doublings = self.largest.ilog2() - self.smallest.ilog2();
        let number = if row < self.smallest {
            0
        } else if row < self.largest {
            row.ilog2() - self.smallest.ilog2() + 1
        } else {
            doublings + row / self.largest
        };
        number as usize
    }

    /// As `block_of` and the row in that block, making rows up to this one.
    pub(crate) fn at_mut(&mut self, row: u32) -> (&mut SeriesBlock, u32) {
        let number = self.block_of(row);
        while self.blocks.len() <= number {
            let first = self.blocks.last().map_or(0, |block| block.first.0 + block.rows);
            let rows = first.clamp(self.smallest, self.largest);
            self.blocks.push(SeriesBlock::absent(SeriesId(first), rows, self.steps));
        }
        let block = &mut self.blocks[number];
        let row = row - block.first.0;
        (block, row)
    }

    /// True when a slot holds something.
    pub(crate) fn has(&self, row: u32, step: u32) -> bool {
        self.blocks.get(self.block_of(row)).is_some_and(|block| {
            let row = row - block.first.0;
            block.present.get(row, step) || block.histogram(row, step).is_some()
        })
    }

    /// Stores a float.
    pub(crate) fn set_float(&mut self, row: u32, step: u32, value: f64) {
        let (block, row) = self.at_mut(row);
        block.set_float(row, step, value);
    }

    /// Stores a float or a histogram.
    pub(crate) fn set_sample(&mut self, row: u32, step: u32, sample: Sample) {
        let (block, row) = self.at_mut(row);
        block.set_sample(row, step, sample);
    }

    /// The first `rows` rows: all that were written to, and absent ones where there are more.
    pub(crate) fn into_blocks(mut self, rows: u32) -> Vec<SeriesBlock> {
        if rows == 0 {
            return vec![];
        }
        let (block, last) = self.at_mut(rows - 1);
        if last + 1 < block.rows {
            *block = block.copy_rows(0, last + 1);
        }
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_order_come_out_in_consecutive_blocks() {
        let cases = [
            (20_000, &[4u32, 0, 2][..], 5u32),
            (20_000, &[1], 2),
            (20_000, &[0], 7),
            (20_000, &[], 0),
            (500, &[7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 0], 129),
            (500, &[200], 300),
        ];
        for (steps, written, rows) in cases {
            let mut out = Rows::new(steps);
            for row in written {
                assert!(!out.has(*row, 3));
                out.set_float(*row, 3, f64::from(*row));
                assert!(out.has(*row, 3) && !out.has(*row, 4));
            }
            let mut next = 0;
            for block in out.into_blocks(rows) {
                assert_eq!(block.first, SeriesId(next));
                for row in 0..block.rows {
                    let expected = written.contains(&next).then_some(f64::from(next));
                    assert_eq!(block.float(row, 3), expected, "row {next}");
                    next += 1;
                }
            }
            assert_eq!(next, rows);
        }
    }
}
