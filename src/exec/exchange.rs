//! Parallelism: ranges of series run on the thread pool, and what they yield is put back
//! in series order. How the series are cut depends on their number alone, never on the
//! machine or on timing, so the same query always adds up in the same order.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::Mutex;
use rayon::prelude::*;

use super::cx::{Cx, Hold, Result};
use super::operator::{BoxOp, Collected, weight};
use crate::vector::SeriesBlock;

/// Slots of work that are worth a task of their own.
pub(crate) const PART_WORK: u64 = 65_536;
/// What a series costs beside its steps: finding and decoding its samples.
const SERIES_WORK: u64 = 32;
/// Most parts an input is cut into.
const PARTS_MAX: u64 = 64;

/// Consecutive ranges that cover `0..rows`, of equal size but for rounding.
fn partition(rows: u32, steps: u32, part_work: u64, parts_max: u64) -> Vec<Range<u32>> {
    let work = u64::from(rows) * (u64::from(steps) + SERIES_WORK);
    let parts =
        (work / part_work).clamp(1, parts_max.clamp(1, PARTS_MAX)).min(u64::from(rows.max(1)));
    (0..parts)
        .map(|i| {
            let bound = |i: u64| (u64::from(rows) * i / parts) as u32;
            bound(i)..bound(i + 1)
        })
        .collect()
}

/// Folds the blocks of an operator, one accumulator per part; the accumulators come back
/// in series order. `add` may take a block; what it leaves goes back to the operator.
pub(crate) fn fold<'a, T: Send>(
    cx: &'a Cx,
    input: BoxOp<'a>,
    steps: u32,
    parts_max: u64,
    make: impl Fn() -> Result<T> + Sync,
    add: impl Fn(&mut T, &mut SeriesBlock) -> Result<()> + Sync,
) -> Result<Vec<T>> {
    let drain = |part: BoxOp<'a>| drain(cx, part, &make, &add);
    match cut(cx, input, steps, parts_max) {
        Ok(parts) if cx.options.parallel => parts.into_par_iter().map(drain).collect(),
        Ok(parts) => parts.into_iter().map(drain).collect(),
        Err(whole) => Ok(vec![drain(whole)?]),
    }
}

/// As `fold`, with one accumulator in the end: `join` adds what the part behind gathered,
/// part by part in series order, as soon as it is there. So hardly more than one accumulator
/// for each thread is alive at a time.
pub(crate) fn reduce<'a, T: Send>(
    cx: &'a Cx,
    input: BoxOp<'a>,
    steps: u32,
    parts_max: u64,
    make: impl Fn() -> Result<T> + Sync,
    add: impl Fn(&mut T, &mut SeriesBlock) -> Result<()> + Sync,
    join: impl Fn(&mut T, T) -> Result<()> + Sync,
) -> Result<T> {
    let drain = |part: BoxOp<'a>| drain(cx, part, &make, &add);
    let parts = match cut(cx, input, steps, parts_max) {
        Ok(parts) => parts,
        Err(whole) => return drain(whole),
    };
    if !cx.options.parallel {
        let mut parts = parts.into_iter();
        let mut all = drain(parts.next().expect("BUG: at least one part"))?;
        for part in parts {
            join(&mut all, drain(part)?)?;
        }
        return Ok(all);
    }
    let joined = InOrder::default();
    parts
        .into_par_iter()
        .enumerate()
        .try_for_each(|(number, part)| joined.put(number, drain(part)?, &join))?;
    Ok(joined.done.into_inner().all.expect("BUG: at least one part"))
}

/// Everything a part yields, folded.
fn drain<'a, T>(
    cx: &'a Cx,
    mut part: BoxOp<'a>,
    make: impl Fn() -> Result<T>,
    add: impl Fn(&mut T, &mut SeriesBlock) -> Result<()>,
) -> Result<T> {
    let mut acc = make()?;
    while let Some(mut block) = part.next()? {
        cx.check()?;
        add(&mut acc, &mut block)?;
        part.give_back(block);
    }
    Ok(acc)
}

/// An operator as its parts, or whole where there is nothing to cut.
fn cut<'a>(
    cx: &'a Cx,
    input: BoxOp<'a>,
    steps: u32,
    parts_max: u64,
) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
    let ranges = partition(input.series().len(), steps, cx.options.part_work, parts_max);
    if ranges.len() == 1 { Err(input) } else { input.split(&ranges) }
}

/// What parts gathered, joined in their order whichever ends first.
struct InOrder<T> {
    done: Mutex<Joined<T>>,
}

struct Joined<T> {
    /// Of the parts before `next`; taken away while somebody joins.
    all: Option<T>,
    next: usize,
    /// Those whose predecessors are not all there.
    waiting: BTreeMap<usize, T>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { done: Mutex::new(Joined { all: None, next: 0, waiting: BTreeMap::new() }) }
    }
}

impl<T> InOrder<T> {
    /// Takes what a part gathered, and joins what can be joined unless somebody is at it
    /// already, who then does it: nobody waits for anybody.
    fn put(&self, number: usize, part: T, join: impl Fn(&mut T, T) -> Result<()>) -> Result<()> {
        let mut done = self.done.lock();
        done.waiting.insert(number, part);
        if done.next == 0
            && let Some(first) = done.waiting.remove(&0)
        {
            (done.all, done.next) = (Some(first), 1);
        }
        while let Some(mut all) = done.all.take() {
            let next = done.next;
            let Some(part) = done.waiting.remove(&next) else {
                done.all = Some(all);
                break;
            };
            drop(done);
            join(&mut all, part)?;
            done = self.done.lock();
            (done.all, done.next) = (Some(all), next + 1);
        }
        Ok(())
    }
}

/// Everything an operator yields.
pub(crate) fn collect<'a>(cx: &'a Cx, input: BoxOp<'a>, steps: u32) -> Result<Collected<'a>> {
    let table = input.series().clone();
    let make = || Ok((Vec::new(), cx.budget.hold(0)?));
    let add = |acc: &mut (Vec<SeriesBlock>, Hold<'a>), block: &mut SeriesBlock| {
        acc.1.grow_by(weight(block))?;
        acc.0.push(std::mem::take(block));
        Ok(())
    };
    let parts = fold(cx, input, steps, PARTS_MAX, make, add)?;
    let mut blocks = vec![];
    let mut hold: Option<Hold<'a>> = None;
    for (part, part_hold) in parts {
        blocks.extend(part);
        match &mut hold {
            Some(hold) => hold.absorb(part_hold),
            None => hold = Some(part_hold),
        }
    }
    let hold = match hold {
        Some(hold) => hold,
        None => cx.budget.hold(0)?,
    };
    Ok(Collected::new(table, steps, blocks, hold))
}

/// Runs two pieces of work, in parallel where allowed.
pub(crate) fn both<A: Send, B: Send>(
    cx: &Cx,
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    if cx.options.parallel { rayon::join(a, b) } else { (a(), b()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_series_once_and_small_inputs_stay_whole() {
        for rows in [0, 1, 100] {
            let parts = partition(rows, 10, PART_WORK, 64);
            assert_eq!((parts.len(), parts[0].clone()), (1, 0..rows));
        }
        for rows in [10_000, 99_999] {
            let parts = partition(rows, 361, PART_WORK, 64);
            assert!(parts.len() > 1 && parts.len() <= 64);
            assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, rows));
            assert!(parts.windows(2).all(|w| w[0].end == w[1].start));
        }
        assert_eq!(partition(10_000, 361, PART_WORK, 2).len(), 2);
    }

    #[test]
    fn parts_are_joined_in_order_whichever_ends_first() {
        let join = |all: &mut String, part: String| {
            all.push_str(&part);
            Ok(())
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
            let joined = InOrder::default();
            for number in order {
                joined.put(number, number.to_string(), join).unwrap();
            }
            let done = joined.done.into_inner();
            assert_eq!((done.all.unwrap().as_str(), done.waiting.len()), ("0123", 0), "{order:?}");
        }
    }
}
