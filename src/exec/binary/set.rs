//! `and`, `or`, `unless`: series are matched by key, step by step; samples pass unchanged.

use std::ops::Range;
use std::sync::Arc;

use crate::exec::cx::{Cx, Result};
use crate::exec::exchange::{self, both};
use crate::exec::group::{Groups, KeyLabels};
use crate::exec::open::open;
use crate::exec::operator::{BoxOp, Operator, SeriesTable, or_into};
use crate::model::StepGrid;
use crate::parser::ast::BinaryOp;
use crate::plan::Node;
use crate::vector::{SeriesBlock, SeriesId};

/// For every key, the steps at which a series of that key holds something.
struct Presence {
    words: usize,
    bits: Vec<u64>,
}

impl Presence {
    fn of(&self, group: u32) -> &[u64] {
        &self.bits[group as usize * self.words..(group as usize + 1) * self.words]
    }
}

/// Opens a set operation.
pub(crate) fn set_op<'a>(
    cx: &'a Cx,
    op: BinaryOp,
    (lhs, rhs): (&'a Node, &'a Node),
    (on, labels): (bool, &[String]),
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let key = if on { KeyLabels::only(labels) } else { KeyLabels::all_but(labels) };
    let (lhs, rhs) = both(cx, || open(cx, lhs, grid), || open(cx, rhs, grid));
    let (lhs, rhs) = (lhs?, rhs?);
    let mut groups = Groups::new(key);
    let mut number = |table: &SeriesTable| -> Result<Vec<u32>> {
        table.series.iter().map(|s| cx.check().map(|()| groups.number(&s.labels))).collect()
    };
    let (left, right) = (number(lhs.series())?, number(rhs.series())?);
    let count = groups.len();
    if op == BinaryOp::Or {
        return or(cx, (lhs, left), (rhs, right), count, grid.len);
    }
    let presence = presence(cx, rhs, &right, count, grid.len)?;
    let unless = op == BinaryOp::Unless;
    Ok(Box::new(Masked {
        input: lhs,
        groups: Arc::new(left),
        presence: Arc::new(presence),
        where_present: !unless,
    }))
}

/// Everything on the left, then of the right what has no key on the left at the step.
fn or<'a>(
    cx: &'a Cx,
    (lhs, left): (BoxOp<'a>, Vec<u32>),
    (rhs, right): (BoxOp<'a>, Vec<u32>),
    groups: u32,
    steps: u32,
) -> Result<BoxOp<'a>> {
    let first = exchange::collect(cx, lhs, steps)?;
    let mut presence = empty_presence(groups, steps);
    for (row, group) in left.iter().enumerate() {
        cx.check()?;
        let (block, block_row) = first.row(row as u32);
        mark(&mut presence, *group, block, block_row);
    }
    let offset = first.table.len();
    let both = first.table.series.iter().chain(&rhs.series().series);
    let series = both.map(|s| cx.check().map(|()| s.clone())).collect::<Result<_>>()?;
    let table = Arc::new(SeriesTable { series, unique: false });
    let second = Masked {
        input: rhs,
        groups: Arc::new(right),
        presence: Arc::new(presence),
        where_present: false,
    };
    let first_table = first.table.clone();
    let first = Box::new(first.into_ready(first_table));
    Ok(Box::new(Chain { table, first: Some(first), second: Box::new(second), offset }))
}

fn empty_presence(groups: u32, steps: u32) -> Presence {
    let words = (steps as usize).div_ceil(64);
    Presence { words, bits: vec![0; groups as usize * words] }
}

fn mark(presence: &mut Presence, group: u32, block: &SeriesBlock, row: u32) {
    let first = group as usize * presence.words;
    or_into(&mut presence.bits[first..first + presence.words], block.occupied(row));
}

fn presence<'a>(
    cx: &'a Cx,
    input: BoxOp<'a>,
    group_of: &[u32],
    groups: u32,
    steps: u32,
) -> Result<Presence> {
    let parts_max = u64::from((input.series().len() / groups.max(1)).max(1));
    let make = || Ok(empty_presence(groups, steps));
    let add = |presence: &mut Presence, block: &mut SeriesBlock| {
        for row in 0..block.rows {
            mark(presence, group_of[(block.first.0 + row) as usize], block, row);
        }
        Ok(())
    };
    let join = |all: &mut Presence, part: Presence| {
        or_into(&mut all.bits, part.bits.into_iter());
        cx.check()
    };
    exchange::reduce(cx, input, steps, parts_max, make, add, join)
}

/// Keeps the samples of a series at the steps where its key is present (or absent).
struct Masked<'a> {
    input: BoxOp<'a>,
    groups: Arc<Vec<u32>>,
    presence: Arc<Presence>,
    where_present: bool,
}

impl<'a> Operator<'a> for Masked<'a> {
    fn series(&self) -> &Arc<SeriesTable> {
        self.input.series()
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        let Some(mut block) = self.input.next()? else { return Ok(None) };
        let mut mask = vec![0u64; self.presence.words];
        for row in 0..block.rows {
            let present = self.presence.of(self.groups[(block.first.0 + row) as usize]);
            for (m, p) in mask.iter_mut().zip(present) {
                *m = if self.where_present { *p } else { !*p };
            }
            block.mask_row(row, &mask);
        }
        Ok(Some(block))
    }

    fn give_back(&mut self, block: SeriesBlock) {
        self.input.give_back(block);
    }

    fn split(
        self: Box<Self>,
        ranges: &[Range<u32>],
    ) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        let this = *self;
        match this.input.split(ranges) {
            Ok(parts) => Ok(parts
                .into_iter()
                .map(|input| {
                    Box::new(Self {
                        input,
                        groups: this.groups.clone(),
                        presence: this.presence.clone(),
                        where_present: this.where_present,
                    }) as BoxOp<'a>
                })
                .collect()),
            Err(input) => Err(Box::new(Self { input, ..this })),
        }
    }
}

/// One operator after the other.
struct Chain<'a> {
    table: Arc<SeriesTable>,
    first: Option<BoxOp<'a>>,
    second: BoxOp<'a>,
    offset: u32,
}

impl<'a> Operator<'a> for Chain<'a> {
    fn series(&self) -> &Arc<SeriesTable> {
        &self.table
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        if let Some(first) = &mut self.first {
            if let Some(block) = first.next()? {
                return Ok(Some(block));
            }
            self.first = None;
        }
        let Some(mut block) = self.second.next()? else { return Ok(None) };
        block.first = SeriesId(block.first.0 + self.offset);
        Ok(Some(block))
    }

    fn give_back(&mut self, block: SeriesBlock) {
        self.first.as_mut().unwrap_or(&mut self.second).give_back(block);
    }

    fn split(self: Box<Self>, _: &[Range<u32>]) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        Err(self)
    }
}
