//! The physical algebra: what an operator is, and the few ways to hold what it yields.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::cx::{Cx, Hold, Result};
use crate::model::{Labels, Sample};
use crate::vector::{SeriesBlock, SeriesId};

/// A series of an operator's output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeriesMeta {
    pub labels: Labels,
    /// Delayed name removal: the metric name goes at the end of the query.
    pub drop_name: bool,
}

impl SeriesMeta {
    pub(crate) fn new(labels: Labels) -> Self {
        Self { labels, drop_name: false }
    }
}

/// The output series of an operator, indexed by `SeriesId`.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    pub series: Vec<SeriesMeta>,
    /// Every label set is known to occur once.
    pub unique: bool,
}

impl SeriesTable {
    pub(crate) fn len(&self) -> u32 {
        self.series.len() as u32
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(crate) fn labels(&self, row: u32) -> &Labels {
        &self.series[row as usize].labels
    }
}

/// Streams blocks of series over all steps of its grid.
///
/// `series` is complete before the first `next`. Blocks come in series order; each holds
/// the rows `first..first + rows`, every series is in exactly one block, and after `None`
/// or an error `next` is not called again. The caller owns the blocks.
pub(crate) trait Operator<'a>: Send {
    /// The output series; those of a part after `split` are still all of them.
    fn series(&self) -> &Arc<SeriesTable>;

    fn next(&mut self) -> Result<Option<SeriesBlock>>;

    /// Takes a block of its own back that is no longer needed, or what is left of it, to make
    /// the next one in its memory, which is in the caches. Whoever keeps blocks, or does not
    /// care, need not call it.
    fn give_back(&mut self, _block: SeriesBlock) {}

    /// Splits into operators that yield the given ranges of series, with the same ids.
    /// Gives itself back when it cannot.
    fn split(
        self: Box<Self>,
        ranges: &[Range<u32>],
    ) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>>;
}

pub(crate) type BoxOp<'a> = Box<dyn Operator<'a> + 'a>;

/// Slots of a block: 128 KiB of floats, so that it stays in the L2 cache beside what it is
/// made from.
const BLOCK_SLOTS: u32 = 16_384;

/// Rows a block should have.
pub(crate) fn rows_per_block(steps: u32) -> u32 {
    (BLOCK_SLOTS / steps.max(1)).clamp(1, 8192)
}

/// What a block weighs in the samples budget: the samples it holds, or its memory at 16
/// bytes a sample where absent slots outweigh them.
pub(crate) fn weight(block: &SeriesBlock) -> usize {
    block.sample_count().max(block.size_bytes() / 16)
}

/// Blocks that are all there.
pub(crate) struct Ready<'a> {
    table: Arc<SeriesTable>,
    blocks: VecDeque<SeriesBlock>,
    _hold: Option<Hold<'a>>,
}

impl<'a> Ready<'a> {
    pub(crate) fn new(
        table: Arc<SeriesTable>,
        blocks: Vec<SeriesBlock>,
        hold: Option<Hold<'a>>,
    ) -> Self {
        Self { table, blocks: blocks.into(), _hold: hold }
    }

    pub(crate) fn empty() -> Self {
        Self::new(Arc::new(SeriesTable { series: vec![], unique: true }), vec![], None)
    }
}

impl<'a> Operator<'a> for Ready<'a> {
    fn series(&self) -> &Arc<SeriesTable> {
        &self.table
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        Ok(self.blocks.pop_front())
    }

    fn split(self: Box<Self>, _: &[Range<u32>]) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        Err(self)
    }
}

/// All blocks of an operator, with access by row.
pub(crate) struct Collected<'a> {
    pub table: Arc<SeriesTable>,
    pub steps: u32,
    blocks: Vec<SeriesBlock>,
    /// Per row, its block and its row in that block.
    index: Vec<(u32, u32)>,
    hold: Hold<'a>,
}

impl<'a> Collected<'a> {
    pub(crate) fn new(
        table: Arc<SeriesTable>,
        steps: u32,
        blocks: Vec<SeriesBlock>,
        hold: Hold<'a>,
    ) -> Self {
        let mut index = vec![(0, 0); table.series.len()];
        for (b, block) in blocks.iter().enumerate() {
            for row in 0..block.rows {
                index[(block.first.0 + row) as usize] = (b as u32, row);
            }
        }
        Self { table, steps, blocks, index, hold }
    }

    /// The block and row of a series.
    pub(crate) fn row(&self, series: u32) -> (&SeriesBlock, u32) {
        let (block, row) = self.index[series as usize];
        (&self.blocks[block as usize], row)
    }

    /// What a series holds at a step.
    pub(crate) fn sample(&self, series: u32, step: u32) -> Option<Sample> {
        let (block, row) = self.row(series);
        block.sample(row, step)
    }

    /// True when the series holds something at a step.
    pub(crate) fn has(&self, series: u32, step: u32) -> bool {
        let (block, row) = self.row(series);
        block.present.get(row, step) || block.histogram(row, step).is_some()
    }

    /// For each word of 64 steps, the steps at which any series holds something.
    pub(crate) fn any(&self, cx: &Cx) -> Result<Vec<u64>> {
        let mut any = vec![0; (self.steps as usize).div_ceil(64)];
        for block in &self.blocks {
            for row in 0..block.rows {
                cx.check()?;
                or_into(&mut any, block.occupied(row));
            }
        }
        Ok(any)
    }

    /// True when some series holds a histogram.
    pub(crate) fn has_histograms(&self) -> bool {
        self.blocks.iter().any(SeriesBlock::has_histograms)
    }

    /// The blocks as an operator again, perhaps under other labels.
    pub(crate) fn into_ready(self, table: Arc<SeriesTable>) -> Ready<'a> {
        Ready::new(table, self.blocks, Some(self.hold))
    }

    pub(crate) fn into_parts(self) -> (Vec<SeriesBlock>, Hold<'a>) {
        (self.blocks, self.hold)
    }
}

/// `target |= words`
pub(crate) fn or_into(target: &mut [u64], words: impl Iterator<Item = u64>) {
    for (t, w) in target.iter_mut().zip(words) {
        *t |= w;
    }
}

/// Another name for each series of an operator; the blocks pass unchanged.
pub(crate) struct Relabelled<'a> {
    table: Arc<SeriesTable>,
    input: BoxOp<'a>,
}

impl<'a> Relabelled<'a> {
    pub(crate) fn new(table: Arc<SeriesTable>, input: BoxOp<'a>) -> Self {
        debug_assert_eq!(table.len(), input.series().len());
        Self { table, input }
    }
}

impl<'a> Operator<'a> for Relabelled<'a> {
    fn series(&self) -> &Arc<SeriesTable> {
        &self.table
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        self.input.next()
    }

    fn give_back(&mut self, block: SeriesBlock) {
        self.input.give_back(block);
    }

    fn split(
        self: Box<Self>,
        ranges: &[Range<u32>],
    ) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        let table = self.table;
        match self.input.split(ranges) {
            Ok(parts) => Ok(parts
                .into_iter()
                .map(|input| Box::new(Self { table: table.clone(), input }) as BoxOp<'a>)
                .collect()),
            Err(input) => Err(Box::new(Self { table, input })),
        }
    }
}

/// A function from block to block, row by row: series and steps stay.
pub(crate) struct PerBlock<'a, F> {
    input: BoxOp<'a>,
    apply: Arc<F>,
}

impl<'a, F> PerBlock<'a, F>
where
    F: Fn(&mut SeriesBlock, &SeriesTable) -> Result<()> + Send + Sync + 'a,
{
    pub(crate) fn boxed(input: BoxOp<'a>, apply: F) -> BoxOp<'a> {
        Box::new(Self { input, apply: Arc::new(apply) })
    }
}

impl<'a, F> Operator<'a> for PerBlock<'a, F>
where
    F: Fn(&mut SeriesBlock, &SeriesTable) -> Result<()> + Send + Sync + 'a,
{
    fn series(&self) -> &Arc<SeriesTable> {
        self.input.series()
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        let Some(mut block) = self.input.next()? else { return Ok(None) };
        (self.apply)(&mut block, self.input.series())?;
        Ok(Some(block))
    }

    fn give_back(&mut self, block: SeriesBlock) {
        self.input.give_back(block);
    }

    fn split(
        self: Box<Self>,
        ranges: &[Range<u32>],
    ) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        let apply = self.apply;
        match self.input.split(ranges) {
            Ok(parts) => Ok(parts
                .into_iter()
                .map(|input| Box::new(Self { input, apply: apply.clone() }) as BoxOp<'a>)
                .collect()),
            Err(input) => Err(Box::new(Self { input, apply })),
        }
    }
}

/// One row over the whole grid, for results that are a single series.
pub(crate) fn single_row(labels: Labels, values: Vec<f64>) -> Ready<'static> {
    let mut block = SeriesBlock::absent(SeriesId(0), 1, values.len() as u32);
    for step in 0..values.len() as u32 {
        block.present.set(0, step);
    }
    block.floats = values;
    let table = SeriesTable { series: vec![SeriesMeta::new(labels)], unique: true };
    Ready::new(Arc::new(table), vec![block], None)
}
