//! `topk`, `bottomk`, `limitk`, `limit_ratio`: some of the series of each group, chosen
//! step by step; the samples pass unchanged.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::aggregate::{Grouped, group};
use super::annotate::histogram_ignored;
use super::cx::{Cx, ExecError, Pace, Result};
use super::exchange::collect;
use super::open::open;
use super::operator::{BoxOp, Collected, Ready, SeriesTable};
use super::scalar::values;
use super::sorted::sorted;
use super::text::format_g;
use crate::aggregations::Selection;
use crate::model::StepGrid;
use crate::plan::node::Choose;
use crate::vector::{Bitmap, SeriesBlock, SeriesId};

/// Opens a choosing aggregation.
pub(crate) fn open_choose<'a>(cx: &'a Cx, node: &'a Choose, grid: StepGrid) -> Result<BoxOp<'a>> {
    let params = values(cx, &node.param, grid)?;
    let input = open(cx, &node.input, grid)?;
    // What is wrong with the input comes before what is wrong with the parameter.
    let input = collect(cx, input, grid.len)?;
    let Some(limits) = limits(cx, node, &params)? else { return Ok(Box::new(Ready::empty())) };
    if input.table.is_empty() {
        return Ok(Box::new(Ready::empty()));
    }
    let choice = choose(cx, node, &input, &limits)?;
    if grid.is_instant() && choice.ordered {
        return Ok(Box::new(in_order(&input, &choice.order)));
    }
    let table = input.table.clone();
    let (mut blocks, hold) = input.into_parts();
    for block in &mut blocks {
        for row in 0..block.rows {
            cx.check()?;
            block.mask_row(row, choice.kept.row(block.first.0 + row));
        }
    }
    Ok(Box::new(Ready::new(table, blocks, Some(hold))))
}

/// How many, or which share, of a step's samples are wanted.
enum Limits {
    Count(Vec<usize>),
    Ratio(Vec<f64>),
}

/// The limits of every step; `None` when no step can choose anything. As in Prometheus the
/// parameters of all steps are judged together, by the smallest and the largest.
fn limits(cx: &Cx, node: &Choose, params: &[f64]) -> Result<Option<Limits>> {
    let has_nan = params.iter().any(|v| v.is_nan());
    let min = params.iter().copied().fold(f64::INFINITY, f64::min);
    let max = params.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if node.selection == Selection::LimitRatio {
        if has_nan {
            return Err(ExecError::query("Ratio value is NaN"));
        }
        if min == 0.0 && max == 0.0 {
            return Ok(None);
        }
        for (beyond, capped) in [(max > 1.0, 1.0), (min < -1.0, -1.0)] {
            if beyond {
                let ratio = format_g(if capped > 0.0 { max } else { min });
                let text = "ratio value should be between -1 and 1";
                cx.warn(&node.param_span, format!("{text}, got {ratio}, capping to {capped}"));
            }
        }
        return Ok(Some(Limits::Ratio(params.iter().map(|r| r.clamp(-1.0, 1.0)).collect())));
    }
    if has_nan {
        return Err(ExecError::query("Parameter value is NaN"));
    }
    if max < 1.0 {
        return Ok(None);
    }
    for (wrong, k, how) in
        [(min <= i64::MIN as f64, min, "underflows"), (max >= i64::MAX as f64, max, "overflows")]
    {
        if wrong {
            return Err(ExecError::query(format!("Scalar value {} {how} int64", format_g(k))));
        }
    }
    Ok(Some(Limits::Count(params.iter().map(|k| (*k as i64).max(0) as usize).collect())))
}

struct Choice {
    /// Rows are series.
    kept: Bitmap,
    /// The chosen series of the last step, group by group, best first.
    order: Vec<u32>,
    ordered: bool,
}

fn choose(cx: &Cx, node: &Choose, input: &Collected<'_>, limits: &Limits) -> Result<Choice> {
    let table = &input.table;
    let grouped = cx.of_series(node, &[table], || group(cx, table, &node.grouping))?;
    let (rows, steps) = (input.table.len(), input.steps);
    let by_value = matches!(node.selection, Selection::TopK | Selection::BottomK);
    let mut choice = Choice { kept: Bitmap::zeros(rows, steps), order: vec![], ordered: by_value };
    let mut ignored = false;
    let mut stretch = Stretch::new(node.selection, limits, &grouped, steps);
    let mut first = 0;
    while first < steps {
        cx.check()?;
        stretch.begin(first, steps);
        for row in 0..rows {
            cx.check()?;
            let (block, block_row) = input.row(row);
            let group = grouped.group_of[row as usize];
            ignored |= stretch.add_row(group, row, block, block_row) && by_value;
        }
        for step in stretch.steps.clone() {
            for group in 0..grouped.groups.len() {
                cx.check()?;
                let found = stretch.found(group, step);
                let chosen = pick(cx, node.selection, found, limits, step, &input.table)?;
                for (_, row) in chosen {
                    choice.kept.set(*row, step);
                    choice.order.push(*row);
                }
            }
        }
        first = stretch.steps.end;
    }
    if ignored {
        histogram_ignored(cx, &node.span, node.op.name);
    }
    Ok(choice)
}

/// The series of each group that may be chosen at some consecutive steps. Of a choice by
/// value no more are kept than may still be chosen and a few; otherwise all are, in series
/// order.
struct Stretch<'l> {
    selection: Selection,
    limits: &'l Limits,
    steps: Range<u32>,
    /// Most steps of a stretch: it starts at a multiple of this.
    width: usize,
    /// Per group and step.
    found: Vec<Vec<(f64, u32)>>,
    /// Per group and step: of a choice by value, a value that as many series have at least as
    /// are wanted; NaN while there is none.
    bars: Vec<f64>,
}

/// Candidates beyond twice the wanted ones that may be kept.
const SPARE: usize = 32;

/// Steps whose values are held against the bars together, without branches.
const LANES: u32 = 8;

/// Candidates of a stretch.
const CANDIDATES_MAX: usize = 1 << 19;

impl<'l> Stretch<'l> {
    fn new(selection: Selection, limits: &'l Limits, grouped: &Grouped, steps: u32) -> Self {
        let (rows, groups) = (grouped.group_of.len(), grouped.groups.len() as usize);
        let most_wanted = match limits {
            Limits::Count(counts) => counts.iter().copied().max().unwrap_or(0),
            Limits::Ratio(_) => usize::MAX,
        };
        let by_value = matches!(selection, Selection::TopK | Selection::BottomK);
        let of_group = if by_value { kept_max(most_wanted) } else { usize::MAX };
        let of_step = rows.min(groups.saturating_mul(of_group)).max(groups).max(1);
        // A power of two from 8 on, so that a stretch begins with a cache line of a row.
        let width = 1 << (CANDIDATES_MAX / of_step).clamp(8, 4096).ilog2();
        let width = width.min((steps as usize).next_power_of_two());
        let found = vec![vec![]; groups * width];
        Self { selection, limits, steps: 0..0, width, found, bars: vec![f64::NAN; groups * width] }
    }

    /// Forgets what was found, for the steps from `first` on.
    fn begin(&mut self, first: u32, steps: u32) {
        self.steps = first..steps.min(first + self.width as u32);
        self.found.iter_mut().for_each(Vec::clear);
        self.bars.fill(f64::NAN);
    }

    fn found(&mut self, group: u32, step: u32) -> &mut Vec<(f64, u32)> {
        &mut self.found[group as usize * self.width + (step - self.steps.start) as usize]
    }

    /// Takes a series that comes after those before; true when it holds histograms.
    fn add_row(&mut self, group: u32, row: u32, block: &SeriesBlock, block_row: u32) -> bool {
        let (descending, order): (_, ByValue) = match self.selection {
            Selection::TopK => (true, by_value::<true>),
            Selection::BottomK => (false, by_value::<false>),
            Selection::LimitK | Selection::LimitRatio => {
                return self.add_any(group, row, block, block_row);
            }
        };
        let slots = group as usize * self.width;
        let words = block.present.row(block_row);
        let floats = block.row(block_row);
        for first in self.steps.clone().step_by(LANES as usize) {
            let steps = first..self.steps.end.min(first + LANES);
            let slot = slots + (first - self.steps.start) as usize;
            let values = &floats[first as usize..steps.end as usize];
            let bars = &self.bars[slot..slot + values.len()];
            // A later series with the value of the bar comes behind all that made it.
            let pairs = values.iter().zip(bars);
            let all_behind = if descending {
                pairs.fold(true, |all, (value, bar)| all & (value <= bar))
            } else {
                pairs.fold(true, |all, (value, bar)| all & (value >= bar))
            };
            if all_behind {
                continue;
            }
            for ((step, value), slot) in steps.zip(values).zip(slot..) {
                let bar = self.bars[slot];
                let behind = if descending { *value <= bar } else { *value >= bar };
                if behind || words[step as usize / 64] >> (step % 64) & 1 == 0 {
                    continue;
                }
                let found = &mut self.found[slot];
                found.push((*value, row));
                let Limits::Count(wanted) = self.limits else { continue };
                let wanted = wanted[step as usize];
                if found.len() > kept_max(wanted) {
                    self.bars[slot] = weed_out(found, wanted, order);
                }
            }
        }
        let mut steps = self.steps.clone();
        block.histograms.is_some() && steps.any(|step| block.histogram(block_row, step).is_some())
    }

    /// As `add_row`, whatever the series holds.
    fn add_any(&mut self, group: u32, row: u32, block: &SeriesBlock, block_row: u32) -> bool {
        for step in self.steps.clone() {
            let there = block.present.get(block_row, step);
            if there || block.histogram(block_row, step).is_some() {
                self.found(group, step).push((0.0, row));
            }
        }
        false
    }
}

/// Which of two candidates by value comes first.
type ByValue = fn(&(f64, u32), &(f64, u32)) -> Ordering;

/// Candidates by value that are kept before they are weeded out.
fn kept_max(wanted: usize) -> usize {
    wanted.saturating_mul(2).saturating_add(SPARE)
}

/// Keeps the wanted ones; the value of the last of them.
#[cold]
fn weed_out(found: &mut Vec<(f64, u32)>, wanted: usize, order: ByValue) -> f64 {
    let bar = match wanted {
        0 => f64::NAN,
        _ => found.select_nth_unstable_by(wanted - 1, order).1.0,
    };
    found.truncate(wanted);
    bar
}

/// The chosen ones of a group at a step, best first.
fn pick<'c>(
    cx: &Cx,
    selection: Selection,
    candidates: &'c mut Vec<(f64, u32)>,
    limits: &Limits,
    step: u32,
    table: &SeriesTable,
) -> Result<&'c [(f64, u32)]> {
    Ok(match limits {
        Limits::Ratio(ratios) => {
            let ratio = ratios[step as usize];
            let mut stopped = Ok(());
            let mut pace = Pace::new(cx);
            candidates.retain(|(_, row)| {
                stopped = std::mem::replace(&mut stopped, Ok(())).and_then(|()| pace.work(4));
                stopped.is_ok() && in_ratio(table.labels(*row).hash64(), ratio)
            });
            stopped?;
            candidates
        }
        Limits::Count(counts) => {
            let k = counts[step as usize].min(candidates.len());
            let order = match selection {
                Selection::TopK => by_value::<true>,
                Selection::BottomK => by_value::<false>,
                _ => return Ok(&candidates[..k]),
            };
            if k > 0 && k < candidates.len() {
                candidates.select_nth_unstable_by(k - 1, order);
            }
            // All orders are total: no two candidates are equal.
            candidates.truncate(k);
            *candidates = sorted(cx, std::mem::take(candidates), order)?;
            candidates
        }
    })
}

/// Best first; NaN is worse than any number, and of equals the earlier series is better.
fn by_value<const DESCENDING: bool>(a: &(f64, u32), b: &(f64, u32)) -> Ordering {
    let values = match (a.0.is_nan(), b.0.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if DESCENDING => b.0.total_cmp(&a.0),
        (false, false) => a.0.total_cmp(&b.0),
    };
    // -0 and 0 are equal values.
    let values = if a.0 == b.0 { Ordering::Equal } else { values };
    values.then(a.1.cmp(&b.1))
}

/// A positive ratio takes the hashes from below, a negative one the rest of its complement.
fn in_ratio(hash: u64, ratio: f64) -> bool {
    let offset = hash as f64 / u64::MAX as f64;
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

/// An instant result keeps the order of choice.
fn in_order(input: &Collected<'_>, order: &[u32]) -> Ready<'static> {
    let mut block = SeriesBlock::absent(SeriesId(0), order.len() as u32, 1);
    for (row, series) in order.iter().enumerate() {
        if let Some(sample) = input.sample(*series, 0) {
            block.set_sample(row as u32, 0, sample);
        }
    }
    let series = order.iter().map(|r| input.table.series[*r as usize].clone()).collect();
    let table = SeriesTable { series, unique: input.table.unique };
    Ready::new(Arc::new(table), vec![block], None)
}
