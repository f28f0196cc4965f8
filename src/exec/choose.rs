//! `topk`, `bottomk`, `limitk`, `limit_ratio`: some of the series of each group, chosen
//! step by step; the samples pass unchanged.

use std::cmp::Ordering;
use std::sync::Arc;

use super::aggregate::group;
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

/// Steps looked at together: their floats lie in one cache line of a row.
const STEPS_AT_ONCE: u32 = 8;

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
    let groups = grouped.groups.len() as usize;
    let mut ignored = false;
    let mut first = 0;
    // Per step of a stretch and group.
    let mut candidates: Vec<Candidates> = vec![];
    candidates.resize_with(STEPS_AT_ONCE.min(steps) as usize * groups, Candidates::default);
    while first < steps {
        cx.check()?;
        let width = STEPS_AT_ONCE.min(steps - first) as usize;
        for (i, slot) in candidates.iter_mut().take(width * groups).enumerate() {
            slot.begin(node.selection, limits, first as usize + i / groups);
        }
        for row in 0..rows {
            cx.check()?;
            let (block, block_row) = input.row(row);
            let group = grouped.group_of[row as usize] as usize;
            // A stretch lies within one word.
            let bits = block.present.row(block_row)[first as usize / 64] >> (first % 64);
            let floats = &block.row(block_row)[first as usize..first as usize + width];
            for (i, v) in floats.iter().enumerate() {
                let slot = &mut candidates[i * groups + group];
                if bits >> i & 1 == 1 {
                    slot.add(*v, row);
                } else if block.histogram(block_row, first + i as u32).is_some() {
                    if by_value {
                        ignored = true;
                    } else {
                        slot.add(0.0, row);
                    }
                }
            }
        }
        for (i, slot) in candidates.iter_mut().take(width * groups).enumerate() {
            let step = first + (i / groups) as u32;
            cx.check()?;
            let chosen = pick(cx, node.selection, &mut slot.found, limits, step, &input.table)?;
            for (_, row) in chosen {
                choice.kept.set(*row, step);
                choice.order.push(*row);
            }
        }
        first += width as u32;
    }
    if ignored {
        histogram_ignored(cx, &node.span, node.op.name);
    }
    Ok(choice)
}

/// The series of a group at a step that may be chosen. Of a choice by value no more are kept
/// than may still be chosen and a few; otherwise all are, in series order.
#[derive(Default)]
struct Candidates {
    found: Vec<(f64, u32)>,
    /// The order of a choice by value.
    by_value: Option<ByValue>,
    descending: bool,
    /// How many are wanted, by value.
    wanted: usize,
    /// As many as are wanted are at least this good, and came earlier.
    bar: Option<f64>,
}

/// Which of two candidates by value comes first.
type ByValue = fn(&(f64, u32), &(f64, u32)) -> Ordering;

/// Candidates beyond twice the wanted ones that may be kept.
const SPARE: usize = 32;

impl Candidates {
    /// Forgets what was found, for another step.
    fn begin(&mut self, selection: Selection, limits: &Limits, step: usize) {
        self.found.clear();
        self.bar = None;
        self.descending = selection == Selection::TopK;
        self.by_value = match selection {
            Selection::TopK => Some(by_value::<true>),
            Selection::BottomK => Some(by_value::<false>),
            Selection::LimitK | Selection::LimitRatio => None,
        };
        if let Limits::Count(counts) = limits {
            self.wanted = counts[step];
        }
    }

    /// Takes a series that comes after those before.
    #[inline]
    fn add(&mut self, value: f64, row: u32) {
        if let Some(bar) = self.bar {
            let better = if self.descending { value > bar } else { value < bar };
            if !better {
                return;
            }
        }
        self.found.push((value, row));
        if self.found.len() > self.wanted.saturating_mul(2).saturating_add(SPARE) {
            self.weed_out();
        }
    }

    /// Keeps those that may still be chosen.
    #[cold]
    fn weed_out(&mut self) {
        let Some(order) = self.by_value else { return };
        if self.wanted == 0 {
            self.found.clear();
            return;
        }
        let (_, last, _) = self.found.select_nth_unstable_by(self.wanted - 1, order);
        self.bar = Some(last.0).filter(|bar| !bar.is_nan());
        self.found.truncate(self.wanted);
    }
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
