//! `sort`, `sort_by_label` and their descending forms. Only an instant result has an order
//! of its own: a range result is always ordered by labels.

use std::cmp::Ordering;
use std::sync::Arc;

use super::cx::{Cx, Result};
use super::exchange::collect;
use super::open::open;
use super::operator::{BoxOp, Collected, PerBlock, Ready, SeriesTable};
use super::sorted::sorted;
use crate::model::StepGrid;
use crate::parser::ast::Span;
use crate::plan::Node;
use crate::vector::{SeriesBlock, SeriesId};

/// Sorts by value, NaN last either way; histograms are dropped.
pub(crate) fn by_value<'a>(
    cx: &'a Cx,
    input: &'a Node,
    descending: bool,
    span: &Span,
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let input = PerBlock::boxed(open(cx, input, grid)?, |block, _| {
        block.histograms = None;
        Ok(())
    });
    if !grid.is_instant() {
        warn_range(cx, span);
        return Ok(input);
    }
    let input = collect(cx, input, grid.len)?;
    let mut order: Vec<(f64, u32)> = vec![];
    for series in 0..input.table.len() {
        cx.check()?;
        let (block, row) = input.row(series);
        order.extend(block.float(row, 0).map(|value| (value, series)));
    }
    let order = sorted(cx, order, |(a, _), (b, _)| match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if descending => b.partial_cmp(a).unwrap_or(Ordering::Equal),
        (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
    })?;
    let order: Vec<u32> = order.into_iter().map(|(_, series)| series).collect();
    Ok(Box::new(reordered(cx, &input, &order)?))
}

/// Sorts by labels in natural order, ties by the whole label set.
pub(crate) fn by_label<'a>(
    cx: &'a Cx,
    input: &'a Node,
    labels: &[String],
    descending: bool,
    span: &Span,
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let input = open(cx, input, grid)?;
    if !grid.is_instant() {
        warn_range(cx, span);
        return Ok(input);
    }
    let input = collect(cx, input, grid.len)?;
    let order: Vec<u32> = (0..input.table.len()).filter(|s| input.has(*s, 0)).collect();
    let order = sorted(cx, order, |a, b| {
        let (a, b) = (input.table.labels(*a), input.table.labels(*b));
        let by_labels = labels
            .iter()
            .map(|name| natural(a.get_or_empty(name), b.get_or_empty(name)))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| a.cmp(b));
        if descending { by_labels.reverse() } else { by_labels }
    })?;
    Ok(Box::new(reordered(cx, &input, &order)?))
}

fn warn_range(cx: &Cx, span: &Span) {
    cx.warn(
        span,
        "sort is ineffective for range queries since results are always ordered by labels".into(),
    );
}

fn reordered(cx: &Cx, input: &Collected<'_>, order: &[u32]) -> Result<Ready<'static>> {
    let mut block = SeriesBlock::absent(SeriesId(0), order.len() as u32, 1);
    for (row, series) in order.iter().enumerate() {
        cx.check()?;
        if let Some(sample) = input.sample(*series, 0) {
            block.set_sample(row as u32, 0, sample);
        }
    }
    let series = order.iter().map(|s| input.table.series[*s as usize].clone()).collect();
    let table = SeriesTable { series, unique: input.table.unique };
    Ok(Ready::new(Arc::new(table), vec![block], None))
}

/// Natural order: runs of digits compare as numbers, everything else as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let ((run_a, rest_a), (run_b, rest_b)) = (run(a), run(b));
        let order = match (digits(run_a), digits(run_b)) {
            (Some(x), Some(y)) => {
                x.len().cmp(&y.len()).then_with(|| x.cmp(y)).then_with(|| run_a.cmp(run_b))
            }
            _ => run_a.cmp(run_b),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

/// The first run of digits or of other characters, and what follows.
fn run(text: &str) -> (&str, &str) {
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(text.len());
    text.split_at(end)
}

/// A run of digits without leading zeros, so that the longer one is the larger.
fn digits(run: &str) -> Option<&str> {
    run.starts_with(|c: char| c.is_ascii_digit()).then(|| run.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_reads_numbers() {
        let mut all = ["a10", "a2", "b1", "a", "10", "9", "a02"];
        all.sort_by(|a, b| natural(a, b));
        assert_eq!(all, ["9", "10", "a", "a02", "a2", "a10", "b1"]);
    }
}
