//! Results that several evaluations read: each evaluated once, and handed out so that every
//! reader ends as if it had evaluated it alone: with the same samples, the same series
//! order, the same notes at its own positions, the same counts, and the same samples held
//! against its limits.
//!
//! A result is kept only when it came out well. What fails for whatever reason (an error, a
//! limit, the time, a panic) is evaluated by every reader itself, and fails there alone.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::cx::{Cx, Effects, Hold, Result};
use super::exchange::fold;
use super::found::{SERIES_BYTES, take};
use super::open::compute;
use super::operator::{BoxOp, Operator, SeriesTable};
use crate::model::StepGrid;
use crate::model::annotation::Span;
use crate::plan::Node;
use crate::plan::common::{ByNode, address};
use crate::vector::SeriesBlock;

/// The results, by number.
#[derive(Debug)]
pub(crate) struct Shared {
    by_node: Arc<ByNode>,
    slots: Vec<Mutex<Slot>>,
    /// Bytes that results may still take.
    room: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Slot {
    /// Readers that have not opened the result yet: after the last it is let go.
    readers: u32,
    result: Option<Arc<Recorded>>,
}

/// A result with all that evaluating it did.
#[derive(Debug)]
struct Recorded {
    table: Arc<SeriesTable>,
    /// In series order.
    blocks: Vec<SeriesBlock>,
    /// How samples were held when the operator could not be split into ranges of series:
    /// for each block and for the end, the most while it was made and what was held after.
    held: Option<Vec<(usize, usize)>>,
    opening: Effects,
    draining: Effects,
    /// Nanoseconds it took, and how many readers share them.
    cost: (u64, u32),
    /// Positions of the node that was evaluated; empty when nothing was noted.
    spans: Vec<Span>,
}

impl Shared {
    /// `readers` are those of each result.
    pub(crate) fn new(
        by_node: Arc<ByNode>,
        readers: impl Iterator<Item = u32>,
        room: Arc<AtomicU64>,
    ) -> Self {
        let slots = readers.map(|readers| Mutex::new(Slot { readers, result: None })).collect();
        Self { by_node, slots, room }
    }

    /// Evaluates a node for its readers. An error concerns nobody else: they will see.
    pub(crate) fn record(
        &self,
        number: u32,
        cx: &Cx,
        node: &Node,
        grid: StepGrid,
        elapsed_ns: impl Fn() -> u64,
    ) -> Result<()> {
        let mut recorded = Recorded::new(cx, node, grid)?;
        let mut slot = self.slots[number as usize].lock();
        recorded.cost = (elapsed_ns() + cx.shared_ns(), slot.readers);
        if take(&self.room, recorded.bytes()) {
            slot.result = Some(Arc::new(recorded));
        }
        Ok(())
    }

    /// The result of a node, when there is one that this reader can use.
    pub(crate) fn open<'a>(&self, cx: &'a Cx, node: &'a Node) -> Result<Option<BoxOp<'a>>> {
        let Some(number) = self.by_node.get(&address(node)) else { return Ok(None) };
        let mut slot = self.slots[*number as usize].lock();
        slot.readers = slot.readers.saturating_sub(1);
        let recorded = match slot.readers {
            0 => slot.result.take(),
            _ => slot.result.clone(),
        };
        drop(slot);
        let Some(recorded) = recorded else { return Ok(None) };
        let Some(places) = Places::new(&recorded.spans, node) else { return Ok(None) };
        let mut hold = cx.budget.hold(recorded.opening.peak)?;
        hold.shrink_to(recorded.opening.held);
        cx.repeat(&recorded.opening, |span| places.of(span));
        cx.add_shared_ns(recorded.cost.0 / u64::from(recorded.cost.1.max(1)));
        let rows = 0..recorded.table.len();
        Ok(Some(Box::new(Replay {
            cx,
            recorded,
            places: Arc::new(places),
            rows,
            block: 0,
            begun: false,
            opened: Arc::new(hold),
            drained: None,
        })))
    }
}

impl Recorded {
    fn new(cx: &Cx, node: &Node, grid: StepGrid) -> Result<Self> {
        let op = compute(cx, node, grid)?;
        let opening = cx.take_effects();
        let table = op.series().clone();
        // One range of all series is the same operator, if it splits at all.
        let all = 0..table.len();
        let (blocks, held) = match op.split(std::slice::from_ref(&all)) {
            Ok(mut parts) => {
                let op = parts.pop().expect("BUG: a part for every range");
                let add = |blocks: &mut Vec<SeriesBlock>, block: &mut SeriesBlock| {
                    blocks.push(std::mem::take(block));
                    Ok(())
                };
                let parts = fold(cx, op, grid.len, u64::MAX, || Ok(vec![]), add)?;
                (parts.into_iter().flatten().collect(), None)
            }
            Err(mut op) => {
                let (mut blocks, mut held) = (vec![], vec![]);
                while let Some(block) = op.next()? {
                    cx.check()?;
                    blocks.push(block);
                    held.push(cx.budget.take_peak());
                }
                held.push(cx.budget.take_peak());
                (blocks, Some(held))
            }
        };
        let draining = cx.take_effects();
        let mut noted = opening.spans();
        noted.extend(draining.spans());
        let spans: Vec<Span> = match noted.is_empty() {
            true => vec![],
            false => node.spans().into_iter().cloned().collect(),
        };
        debug_assert!(noted.iter().all(|span| spans.contains(span)), "BUG: a position of nobody's");
        Ok(Self { table, blocks, held, opening, draining, cost: (0, 1), spans })
    }

    fn bytes(&self) -> u64 {
        let blocks: usize = self.blocks.iter().map(SeriesBlock::size_bytes).sum();
        blocks as u64 + SERIES_BYTES * u64::from(self.table.len())
    }

    /// Samples held while it is read, beyond those held since it was opened.
    fn held_while_draining(&self) -> usize {
        self.draining.peak.saturating_sub(self.opening.held)
    }
}

/// Positions in the text of the query that was evaluated, and those that correspond to
/// them in the reader's.
struct Places(Vec<(Span, Span)>);

impl Places {
    /// `None` when one position there is several here: then it is not known which was meant.
    fn new(theirs: &[Span], node: &Node) -> Option<Self> {
        if theirs.is_empty() {
            return Some(Self(vec![]));
        }
        let mut pairs: Vec<(Span, Span)> = Vec::with_capacity(theirs.len());
        for (theirs, ours) in theirs.iter().zip(node.spans()) {
            match pairs.iter().find(|(known, _)| known == theirs) {
                Some((_, known)) if known != ours => return None,
                Some(_) => {}
                None => pairs.push((theirs.clone(), ours.clone())),
            }
        }
        Some(Self(pairs))
    }

    fn of(&self, span: &Span) -> Span {
        let place = self.0.iter().find(|(theirs, _)| theirs == span);
        place.map_or_else(|| span.clone(), |(_, ours)| ours.clone())
    }
}

/// Hands a result out as the operator that made it would have.
struct Replay<'a> {
    cx: &'a Cx,
    recorded: Arc<Recorded>,
    places: Arc<Places>,
    /// What is still to be yielded.
    rows: Range<u32>,
    /// The next block; of parts, one that does not come after the next row.
    block: usize,
    begun: bool,
    /// Held since opening, by all parts together.
    opened: Arc<Hold<'a>>,
    /// Held since the first block was asked for.
    drained: Option<Hold<'a>>,
}

impl Replay<'_> {
    /// Holds what is held while the next block is made.
    fn hold_next(&mut self) -> Result<()> {
        if let Some(held) = &self.recorded.held {
            let (most, after) = held[self.block.min(held.len() - 1)];
            let hold = Arc::get_mut(&mut self.opened).expect("BUG: what does not split is one");
            hold.grow_to(most)?;
            hold.shrink_to(after);
        } else if self.drained.is_none() {
            self.drained = Some(self.cx.budget.hold(self.recorded.held_while_draining())?);
        }
        Ok(())
    }
}

impl<'a> Operator<'a> for Replay<'a> {
    fn series(&self) -> &Arc<SeriesTable> {
        &self.recorded.table
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        self.hold_next()?;
        if self.rows.start == 0 && !std::mem::replace(&mut self.begun, true) {
            self.cx.repeat(&self.recorded.draining, |span| self.places.of(span));
        }
        let recorded = &self.recorded;
        if recorded.held.is_some() {
            let block = recorded.blocks.get(self.block).cloned();
            self.block += 1;
            return Ok(block);
        }
        if self.rows.is_empty() {
            return Ok(None);
        }
        let first = self.rows.start;
        let holds = |block: &SeriesBlock| first < block.first.0 + block.rows;
        while self.block < recorded.blocks.len() && !holds(&recorded.blocks[self.block]) {
            self.block += 1;
        }
        let Some(block) = recorded.blocks.get(self.block) else { return Ok(None) };
        let from = first - block.first.0;
        let rows = (block.rows - from).min(self.rows.end - first);
        self.rows.start += rows;
        Ok(Some(block.copy_rows(from, rows)))
    }

    fn split(
        self: Box<Self>,
        ranges: &[Range<u32>],
    ) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        if self.recorded.held.is_some() {
            return Err(self);
        }
        Ok(ranges
            .iter()
            .map(|rows| {
                Box::new(Self {
                    cx: self.cx,
                    recorded: self.recorded.clone(),
                    places: self.places.clone(),
                    rows: rows.clone(),
                    block: 0,
                    begun: false,
                    opened: self.opened.clone(),
                    drained: None,
                }) as BoxOp<'a>
            })
            .collect())
    }
}
