//! The instant selector: at each step the newest sample of each series that is no older
//! than the lookback. A staleness marker makes the series absent and travels no further.

use std::ops::Range;
use std::sync::Arc;

use super::cx::{Cx, Hold, Result, SampleCounts};
use super::operator::{BoxOp, Operator, SeriesMeta, SeriesTable, rows_per_block};
use crate::model::value::is_stale_nan;
use crate::model::{FloatHistogram, StepGrid, TimestampMs};
use crate::parser::ast::RangeExtension;
use crate::plan::BoundSelect;
use crate::plan::node::{Emit, Select};
use crate::storage::RawSeries;
use crate::vector::block::histogram_bytes;
use crate::vector::{RawSamples, SeriesBlock, SeriesId};

/// The series a selector found, as an operator's table.
pub(crate) fn table_of(series: &[Arc<dyn RawSeries>]) -> Arc<SeriesTable> {
    let series = series.iter().map(|s| SeriesMeta::new(s.labels().clone())).collect();
    Arc::new(SeriesTable { series, unique: true })
}

/// What a histogram counts for in sample limits and statistics.
pub(crate) fn histogram_samples(h: &FloatHistogram) -> u64 {
    (histogram_bytes(h) as u64 + 8) / 16
}

/// See the module.
pub(crate) struct InstantSelect<'a> {
    cx: &'a Cx,
    grid: StepGrid,
    bound: BoundSelect,
    emit: Emit,
    smoothed: bool,
    series: &'a [Arc<dyn RawSeries>],
    table: Arc<SeriesTable>,
    rows: Range<u32>,
    raw: RawSamples,
    hold: Hold<'a>,
}

impl<'a> InstantSelect<'a> {
    pub(crate) fn open(cx: &'a Cx, select: &Select, grid: StepGrid) -> Result<BoxOp<'a>> {
        let bound = cx.binding.selects[select.id];
        let series = &cx.series[bound.request];
        let table = table_of(series);
        Ok(Box::new(Self {
            cx,
            grid,
            bound,
            emit: select.emit,
            smoothed: select.extension == Some(RangeExtension::Smoothed),
            series,
            rows: 0..table.len(),
            table,
            raw: RawSamples::default(),
            hold: cx.budget.hold(0)?,
        }))
    }

    fn fill(&mut self, block: &mut SeriesBlock, row: u32, counts: &mut SampleCounts) {
        let (raw, grid, bound) = (&self.raw, self.grid, self.bound);
        if self.smoothed {
            return fill_smoothed(
                raw,
                grid,
                bound,
                self.cx.binding.lookback_ms,
                block,
                row,
                counts,
            );
        }
        let oldest = self.cx.binding.lookback_ms;
        let (mut float, mut hist) = (0, 0);
        for step in 0..grid.len {
            let reference = bound.reference_ms(grid.at(step));
            float += raw.ts[float..].iter().take_while(|ts| **ts <= reference).count();
            hist += raw.hist[hist..].iter().take_while(|(ts, _)| *ts <= reference).count();
            let float_ts = if float > 0 { raw.ts[float - 1] } else { TimestampMs::MIN };
            let hist_ts = if hist > 0 { raw.hist[hist - 1].0 } else { TimestampMs::MIN };
            let newest = float_ts.max(hist_ts);
            if newest == TimestampMs::MIN || newest <= reference.saturating_sub(oldest) {
                continue;
            }
            let is_hist = hist_ts > float_ts;
            let stale = if is_hist {
                is_stale_nan(raw.hist[hist - 1].1.sum)
            } else {
                is_stale_nan(raw.vs[float - 1])
            };
            if stale {
                continue;
            }
            let weight = if is_hist { histogram_samples(&raw.hist[hist - 1].1) } else { 1 };
            counts.add(step, weight, weight);
            match self.emit {
                Emit::Value if is_hist => {
                    block.set_histogram(row, step, raw.hist[hist - 1].1.clone());
                }
                Emit::Value => block.set_float(row, step, raw.vs[float - 1]),
                Emit::Timestamp => block.set_float(row, step, newest as f64 / 1000.0),
                Emit::StartTimestamp => {
                    let start = if is_hist {
                        raw.hist_start_ts.get(hist - 1)
                    } else {
                        raw.start_ts.get(float - 1)
                    };
                    if let Some(start) = start.filter(|_| self.cx.options.use_start_timestamps) {
                        block.set_float(row, step, *start as f64 / 1000.0);
                    }
                }
            }
        }
    }
}

impl<'a> Operator<'a> for InstantSelect<'a> {
    fn series(&self) -> &Arc<SeriesTable> {
        &self.table
    }

    fn next(&mut self) -> Result<Option<SeriesBlock>> {
        if self.rows.is_empty() || self.grid.len == 0 {
            return Ok(None);
        }
        let first = self.rows.start;
        let rows = rows_per_block(self.grid.len).min(self.rows.end - first);
        let mut block = SeriesBlock::absent(SeriesId(first), rows, self.grid.len);
        let mut counts = SampleCounts::new(self.cx, self.grid);
        for row in 0..rows {
            if row % 64 == 0 {
                self.cx.check()?;
            }
            self.raw.clear();
            let series = &self.series[(first + row) as usize];
            series.read_into(self.bound.from_ms, self.bound.to_ms, &mut self.raw)?;
            self.hold.grow_to(self.raw.len())?;
            self.fill(&mut block, row, &mut counts);
        }
        self.cx.count_samples(self.grid, &counts);
        self.rows.start += rows;
        Ok(Some(block))
    }

    fn split(
        self: Box<Self>,
        ranges: &[Range<u32>],
    ) -> std::result::Result<Vec<BoxOp<'a>>, BoxOp<'a>> {
        let mut parts: Vec<BoxOp<'a>> = Vec::with_capacity(ranges.len());
        for rows in ranges {
            let Ok(hold) = self.cx.budget.hold(0) else { return Err(self) };
            parts.push(Box::new(Self {
                series: self.series,
                table: self.table.clone(),
                rows: rows.clone(),
                raw: RawSamples::default(),
                hold,
                ..*self
            }));
        }
        Ok(parts)
    }
}

/// `smoothed`: the exact sample, else the line between the samples on both sides, else the
/// one before; nothing before the first. Histograms are not interpolated here.
fn fill_smoothed(
    raw: &RawSamples,
    grid: StepGrid,
    bound: BoundSelect,
    lookback_ms: i64,
    block: &mut SeriesBlock,
    row: u32,
    counts: &mut SampleCounts,
) {
    for step in 0..grid.len {
        let reference = bound.reference_ms(grid.at(step));
        let after = raw.ts.partition_point(|ts| *ts <= reference);
        let Some(before) = after.checked_sub(1) else { continue };
        let (t0, v0) = (raw.ts[before], raw.vs[before]);
        if t0 <= reference.saturating_sub(lookback_ms) || is_stale_nan(v0) {
            continue;
        }
        counts.add(step, 1, 1);
        let next = (after..raw.ts.len())
            .find(|i| !is_stale_nan(raw.vs[*i]))
            .filter(|i| raw.ts[*i] <= reference.saturating_add(lookback_ms));
        let value = match next {
            Some(next) if t0 != reference => {
                let (t1, v1) = (raw.ts[next], raw.vs[next]);
                v0 + (v1 - v0) * (reference - t0) as f64 / (t1 - t0) as f64
            }
            _ => v0,
        };
        block.set_float(row, step, value);
    }
}
