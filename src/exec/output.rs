//! Results: what the operators yield, in the form a query answers with.

use super::cx::{Cx, ExecError, Hold, Result};
use super::exchange;
use super::open::open;
use super::operator::{BoxOp, weight};
use super::range::{Samples, count_window, open_source};
use super::scalar::values;
use super::sorted::sorted;
use super::window::sweep;
use crate::functions::{WindowMode, edged_floats};
use crate::model::value::{Series, VectorSample};
use crate::model::{Sample, Value};
use crate::plan::Node;
use crate::plan::node::RangeSource;
use crate::vector::{RawSamples, SeriesBlock};

/// Evaluates at the one step of the binding's grid.
pub(crate) fn instant(cx: &Cx, root: &Node) -> Result<Value> {
    let grid = cx.binding.grid;
    let ts = cx.start_ms();
    match root {
        Node::Text(text) => Ok(Value::String { ts, value: text.clone() }),
        Node::RangeResult(source) => range_result(cx, source),
        node if node.is_scalar() => {
            let value = values(cx, node, grid)?.first().copied().unwrap_or(f64::NAN);
            Ok(Value::Scalar { ts, value })
        }
        node => {
            let input = open(cx, node, grid)?;
            let table = input.series().clone();
            let parts = exchange::fold(
                cx,
                input,
                1,
                u64::MAX,
                || Part::new(cx),
                |acc, block| {
                    acc.hold.grow_by(weight(block))?;
                    for row in 0..block.rows {
                        cx.check()?;
                        if let Some(sample) = block.sample(row, 0) {
                            let labels = table.labels(block.first.0 + row).clone();
                            acc.items.push(VectorSample { labels, ts, sample });
                        }
                    }
                    Ok(())
                },
            )?;
            Ok(Value::Vector(put_together(cx, parts)?))
        }
    }
}

/// Evaluates at every step of the binding's grid. The matrix is in order of evaluation: see
/// [`sort`].
pub(crate) fn range(cx: &Cx, root: &Node) -> Result<Value> {
    let grid = cx.binding.grid;
    if root.is_scalar() {
        let points: Vec<_> = grid
            .iter()
            .zip(values(cx, root, grid)?)
            .map(|(ts, v)| (ts, Sample::Float(v)))
            .collect();
        let labels = crate::model::Labels::empty();
        let series = if points.is_empty() { vec![] } else { vec![Series { labels, points }] };
        return Ok(Value::Matrix(series));
    }
    let input = open(cx, root, grid)?;
    Ok(Value::Matrix(drain(cx, input)?))
}

/// Puts a result in the order it is answered in: a matrix by labels. Vectors keep theirs.
pub(crate) fn sort(cx: &Cx, value: Value) -> Result<Value> {
    Ok(match value {
        Value::Matrix(matrix) => {
            let mut part = Part::new(cx)?;
            part.items = matrix;
            let labels = |row: u32| &part.items[row as usize].labels;
            let rows = (0..part.items.len() as u32).collect();
            let order = sorted(cx, rows, |a, b| labels(*a).cmp(labels(*b)))?;
            let matrix = std::mem::take(&mut part.items);
            if order.is_sorted() {
                return Ok(Value::Matrix(matrix));
            }
            let mut slots: Vec<Option<Series>> = matrix.into_iter().map(Some).collect();
            Value::Matrix(order.iter().filter_map(|row| slots[*row as usize].take()).collect())
        }
        other => other,
    })
}

fn drain<'a>(cx: &'a Cx, input: BoxOp<'a>) -> Result<Vec<Series>> {
    let grid = cx.binding.grid;
    let table = input.series().clone();
    let make = || Part::new(cx);
    let parts = exchange::fold(cx, input, grid.len, u64::MAX, make, |acc, block| {
        acc.hold.grow_by(block.sample_count())?;
        for row in 0..block.rows {
            cx.check()?;
            let points = points(block, row, |step| grid.at(step));
            if !points.is_empty() {
                let labels = table.labels(block.first.0 + row).clone();
                acc.items.push(Series { labels, points });
            }
        }
        Ok(())
    })?;
    put_together(cx, parts)
}

/// A part of the results in the making. Where nothing comes of it, it is left to the end of
/// the evaluation: to give the memory of millions of samples back takes a tenth of a second.
struct Part<'a, T: Send + 'static> {
    cx: &'a Cx,
    items: Vec<T>,
    hold: Hold<'a>,
}

impl<'a, T: Send + 'static> Part<'a, T> {
    fn new(cx: &'a Cx) -> Result<Self> {
        Ok(Self { cx, items: vec![], hold: cx.budget.hold(0)? })
    }
}

impl<T: Send + 'static> Drop for Part<'_, T> {
    fn drop(&mut self) {
        if !self.items.is_empty() {
            self.cx.leave(Box::new(std::mem::take(&mut self.items)));
        }
    }
}

/// The results of all parts, one after the other.
fn put_together<T: Send + 'static>(cx: &Cx, parts: Vec<Part<'_, T>>) -> Result<Vec<T>> {
    let len: usize = parts.iter().map(|part| part.items.len()).sum();
    let mut parts = parts.into_iter();
    let Some(mut all) = parts.next() else { return Ok(vec![]) };
    all.items.reserve_exact(len - all.items.len());
    for mut part in parts {
        cx.check()?;
        all.items.append(&mut part.items);
    }
    Ok(std::mem::take(&mut all.items))
}

fn points(block: &SeriesBlock, row: u32, at: impl Fn(u32) -> i64) -> Vec<(i64, Sample)> {
    let count = block.occupied(row).map(|w| w.count_ones() as usize).sum();
    let mut points = Vec::with_capacity(count);
    if block.histograms.is_none() {
        let values = block.row(row);
        let point = |step: usize| (at(step as u32), Sample::Float(values[step]));
        for (i, word) in block.present.row(row).iter().copied().enumerate() {
            let steps = i * 64..values.len().min(i * 64 + 64);
            if word.count_ones() as usize == steps.len() {
                points.extend(steps.map(point));
            } else {
                points.extend(steps.filter(|s| word >> (s % 64) & 1 == 1).map(point));
            }
        }
        return points;
    }
    points
        .extend(block.occupied_steps(row).filter_map(|s| block.sample(row, s).map(|v| (at(s), v))));
    points
}

/// A range vector: the samples of one window, at their own times.
fn range_result(cx: &Cx, source: &RangeSource) -> Result<Value> {
    let grid = cx.binding.grid;
    let mut source = open_source(cx, source)?;
    let extension = match source.mode {
        WindowMode::Plain => None,
        WindowMode::Anchored => Some("anchored"),
        WindowMode::Smoothed => Some("smoothed"),
    };
    let mut raw = RawSamples::default();
    let mut hold = cx.budget.hold(0)?;
    let mut matrix = vec![];
    // What a subquery looked at has been counted below it.
    let of_selector = matches!(source.samples, Samples::Stored { .. });
    let mut counts = cx.counts(grid);
    for row in 0..source.table.len() {
        cx.check()?;
        source.samples.load(cx, row, &mut raw)?;
        let mut points: Vec<(i64, Sample)> = vec![];
        sweep(&raw, grid, source.shape, |step, seen| {
            if of_selector {
                count_window(&raw, &seen, step, &mut counts);
            }
            let window = seen.window;
            if let Some(word) = extension {
                if !window.hist.is_empty() {
                    let text = format!("{word} modifier is not supported with histograms");
                    return Err(ExecError::query(text));
                }
                let edged = edged_floats(&window, source.mode);
                points.extend(edged.into_iter().map(|(t, v)| (t, Sample::Float(v))));
                return Ok(());
            }
            points.extend(window.ts.iter().zip(window.vs).map(|(t, v)| (*t, Sample::Float(*v))));
            points.extend(window.hist.iter().map(|(t, h)| (*t, Sample::Histogram(h.clone()))));
            Ok(())
        })?;
        if points.is_empty() {
            continue;
        }
        hold.grow_by(points.len())?;
        points.sort_by_key(|(ts, _)| *ts);
        matrix.push(Series { labels: source.table.labels(row).clone(), points });
    }
    cx.count_samples(source.scope, &counts);
    Ok(Value::Matrix(matrix))
}
