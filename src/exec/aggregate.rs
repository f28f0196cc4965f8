//! Aggregations that fold series into groups.

use std::sync::Arc;

use super::annotate::{aggregate_notes, quantile_note};
use super::cx::{Cx, Hold, Result};
use super::exchange::reduce;
use super::group::{Groups, KeyLabels};
use super::open::open;
use super::operator::{BoxOp, Ready, SeriesMeta, SeriesTable, rows_per_block, weight};
use super::scalar::values;
use crate::aggregations::{Accumulator, AggregatorKernel};
use crate::functions::Flags;
use crate::model::StepGrid;
use crate::parser::ast::Grouping;
use crate::plan::node::Aggregate;
use crate::vector::{SeriesBlock, SeriesId};

/// Series put into groups.
pub(crate) struct Grouped {
    /// Per series.
    pub group_of: Vec<u32>,
    /// Per group, in the order first seen.
    pub groups: Arc<SeriesTable>,
    /// Per group, its first series.
    pub first: Vec<u32>,
}

/// Groups the series of a table.
pub(crate) fn group(cx: &Cx, table: &SeriesTable, grouping: &Grouping) -> Result<Grouped> {
    let labels = KeyLabels::grouping(grouping);
    let mut numbers = Groups::new(labels.clone());
    let (mut groups, mut first) = (vec![], vec![]);
    let mut group_of = Vec::with_capacity(table.series.len());
    for (row, series) in table.series.iter().enumerate() {
        cx.check()?;
        let number = numbers.number(&series.labels);
        if number as usize == groups.len() {
            groups.push(SeriesMeta::new(labels.apply(&series.labels)));
            first.push(row as u32);
        }
        groups[number as usize].drop_name |= series.drop_name;
        group_of.push(number);
    }
    let groups = Arc::new(SeriesTable { series: groups, unique: true });
    Ok(Grouped { group_of, groups, first })
}

/// Notes quantiles outside of 0..=1. As in Prometheus, of all steps only the largest and the
/// smallest one.
fn note_quantiles(cx: &Cx, node: &Aggregate, params: &[f64]) {
    if params.iter().any(|q| q.is_nan()) {
        return quantile_note(cx, &node.param_span, f64::NAN);
    }
    if params.is_empty() {
        return;
    }
    // Notes with the same text are kept once.
    for q in [
        params.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        params.iter().copied().fold(f64::INFINITY, f64::min),
    ] {
        quantile_note(cx, &node.param_span, q);
    }
}

/// Opens an aggregation: evaluates the input and yields the groups.
pub(crate) fn open_aggregate<'a>(
    cx: &'a Cx,
    node: &'a Aggregate,
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let AggregatorKernel::Fold(new) = node.op.kernel else {
        unreachable!("BUG: a folding aggregation has a folding kernel")
    };
    let params = match &node.param {
        Some(param) => values(cx, param, grid)?,
        None => vec![],
    };
    if node.op.name == "quantile" {
        note_quantiles(cx, node, &params);
    }
    let input = open(cx, &node.input, grid)?;
    let table = input.series().clone();
    if table.is_empty() {
        return Ok(Box::new(Ready::empty()));
    }
    let grouped = cx.of_series(node, &[&table], || group(cx, &table, &node.grouping))?;
    let groups = grouped.groups.len();
    // Each part has accumulators for all groups: with many groups, few parts.
    let parts_max = u64::from((table.len() / groups).max(1));
    let slots = groups as usize * grid.len as usize;
    let (steps, per_piece) = (grid.len, rows_per_block(grid.len));
    let folding = Folding { cx, new, groups, per_piece, steps, params: &params };
    let make = || {
        // Asked for before it is taken.
        let hold = cx.budget.hold(slots)?;
        Ok((Pieces::default(), hold))
    };
    // Ranks need every value: the rows stay until the end.
    let keeps_rows = node.op.name == "quantile";
    let add = |acc: &mut (Pieces, Hold<'_>), block: &mut SeriesBlock| {
        if keeps_rows {
            acc.1.grow_by(weight(block))?;
        }
        for row in 0..block.rows {
            cx.check()?;
            let group = grouped.group_of[(block.first.0 + row) as usize];
            folding.add(&mut acc.0, group, block, row);
        }
        Ok(())
    };
    let join = |acc: &mut (Pieces, Hold<'a>), (later, later_hold): (Pieces, Hold<'a>)| {
        folding.merge(&mut acc.0, later)?;
        // Counted until the end though it is gone: a query is refused or not by what it is,
        // not by how many of its parts are under way at once.
        acc.1.absorb(later_hold);
        Ok(())
    };
    let (all, hold) = reduce(cx, input, grid.len, parts_max, make, add, join)?;
    let (blocks, flags) = folding.finish(all)?;
    drop(hold);
    for (group, flags) in flags.into_iter().enumerate() {
        if flags != Flags::default() {
            // A name that is dropped by right may still be there (`NameDrop::Unseen`).
            let member = table.labels(grouped.first[group]);
            let dropped = node.drops_unseen_names();
            let shown = if dropped { member.without_metadata() } else { member.clone() };
            aggregate_notes(cx, node, flags, &shown);
        }
    }
    let hold = cx.budget.hold(blocks.iter().map(weight).sum())?;
    Ok(Box::new(Ready::new(grouped.groups.clone(), blocks, Some(hold))))
}

/// The accumulators of one part, each of as many groups as a block has rows and made when
/// the first series of one of them comes: many groups over many steps take hundreds of
/// megabytes, which take the system seconds to hand over and to clear in one go.
#[derive(Default)]
struct Pieces(Vec<Option<Box<dyn Accumulator>>>);

/// How series are folded.
struct Folding<'f> {
    cx: &'f Cx,
    new: fn(u32, u32, &[f64]) -> Box<dyn Accumulator>,
    groups: u32,
    /// Groups of every piece but the last.
    per_piece: u32,
    steps: u32,
    params: &'f [f64],
}

impl Folding<'_> {
    /// The accumulator of a piece, with nothing in it.
    fn piece(&self, piece: u32) -> Box<dyn Accumulator> {
        let groups = self.per_piece.min(self.groups - piece * self.per_piece);
        (self.new)(groups, self.steps, self.params)
    }

    /// Adds a series to a group.
    fn add(&self, pieces: &mut Pieces, group: u32, block: &SeriesBlock, row: u32) {
        let (piece, group) = (group / self.per_piece, group % self.per_piece);
        if pieces.0.len() <= piece as usize {
            pieces.0.resize_with(piece as usize + 1, || None);
        }
        let accumulator = pieces.0[piece as usize].get_or_insert_with(|| self.piece(piece));
        accumulator.add(group, block, row);
    }

    /// Adds what a later part gathered.
    fn merge(&self, pieces: &mut Pieces, later: Pieces) -> Result<()> {
        if pieces.0.len() < later.0.len() {
            pieces.0.resize_with(later.0.len(), || None);
        }
        for (ours, theirs) in pieces.0.iter_mut().zip(later.0) {
            self.cx.check()?;
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => {
                    ours.merge(theirs, &|| self.cx.check().is_ok());
                }
                (ours @ None, theirs) => *ours = theirs,
                (Some(_), None) => {}
            }
        }
        self.cx.check()
    }

    /// The groups' rows, and their flags.
    fn finish(&self, pieces: Pieces) -> Result<(Vec<SeriesBlock>, Vec<Flags>)> {
        let (mut blocks, mut all_flags) = (vec![], vec![]);
        let mut pieces = pieces.0.into_iter();
        for piece in 0..self.groups.div_ceil(self.per_piece) {
            let accumulator = pieces.next().flatten().unwrap_or_else(|| self.piece(piece));
            let (mut block, flags) = accumulator.finish(&|| self.cx.check().is_ok());
            self.cx.check()?;
            block.first = SeriesId(piece * self.per_piece);
            blocks.push(block);
            all_flags.extend(flags);
        }
        Ok((blocks, all_flags))
    }
}
