//! The instant selector: at each step the newest sample of each series that is no older
//! than the lookback. A staleness marker makes the series absent and travels no further.

use std::ops::Range;
use std::sync::Arc;

use super::annotate::mixed_schemas;
use super::cx::{Cx, ExecError, HISTOGRAM_WORK, Hold, Pace, Result};
use super::operator::{BoxOp, Operator, SeriesTable, rows_per_block};
use super::read::read;
use super::stats::SampleCounts;
use super::window::{WindowShape, sweep};
use crate::functions::{Flags, smoothed_instant};
use crate::model::histogram::CounterResetHint;
use crate::model::value::is_stale_nan;
use crate::model::{FloatHistogram, StepGrid, TimestampMs};
use crate::parser::ast::RangeExtension;
use crate::plan::BoundSelect;
use crate::plan::node::{Emit, Select};
use crate::storage::RawSeries;
use crate::vector::block::histogram_bytes;
use crate::vector::{CHUNK_STEPS, RawSamples, SeriesBlock, SeriesId, WindowTable};

/// What a histogram counts for in sample limits and statistics.
pub(crate) fn histogram_samples(h: &FloatHistogram) -> u64 {
    (histogram_bytes(h) as u64 + 8) / 16
}

/// What the samples of a series count for in limits.
pub(crate) fn raw_weight(raw: &RawSamples) -> usize {
    raw.ts.len() + raw.hist.iter().map(|(_, h)| histogram_samples(h) as usize).sum::<usize>()
}

/// Windows of the lookback; every selector looks back from the times of its steps.
fn lookback_windows(cx: &Cx, bound: BoundSelect, grid: StepGrid) -> WindowTable {
    let ends = grid.iter().map(|ts| bound.reference_ms(ts)).collect();
    WindowTable::new(ends, cx.binding.lookback_ms)
}

/// See the module.
pub(crate) struct InstantSelect<'a> {
    cx: &'a Cx,
    grid: StepGrid,
    bound: BoundSelect,
    emit: Emit,
    select: &'a Select,
    series: &'a [Arc<dyn RawSeries>],
    table: Arc<SeriesTable>,
    /// At a single step no sample but the newest matters.
    newest_only: bool,
    /// The window of the lookback at each step.
    windows: WindowTable,
    present: Vec<u64>,
    rows: Range<u32>,
    raw: RawSamples,
    /// A block that was given back.
    used: SeriesBlock,
    hold: Hold<'a>,
}

impl<'a> InstantSelect<'a> {
    pub(crate) fn open(cx: &'a Cx, select: &'a Select, grid: StepGrid) -> Result<BoxOp<'a>> {
        let bound = cx.binding.selects[select.id];
        let series = &cx.series[bound.request];
        let table = series.table(|| cx.check())?;
        let newest_only = grid.len == 1 && select.extension.is_none() && !select.stats_only;
        Ok(Box::new(Self {
            cx,
            grid,
            bound,
            newest_only,
            emit: select.emit,
            select,
            series,
            rows: 0..table.len(),
            table,
            windows: lookback_windows(cx, bound, grid),
            present: vec![],
            raw: RawSamples::default(),
            used: SeriesBlock::default(),
            hold: cx.budget.hold(0)?,
        }))
    }

    fn fill(&mut self, block: &mut SeriesBlock, row: u32, counts: &mut SampleCounts) -> Result<()> {
        if self.select.stats_only {
            derive_hints(self.cx, &mut self.raw)?;
        }
        let mut pace = Pace::new(self.cx);
        if self.select.extension == Some(RangeExtension::Smoothed) {
            self.raw.drop_stale();
            return self.fill_smoothed(block, row, counts);
        }
        let (raw, grid, bound) = (&self.raw, self.grid, self.bound);
        let only_floats = raw.hist.is_empty() && raw.ts.len() <= u32::MAX as usize;
        if only_floats && self.emit == Emit::Value {
            self.fill_floats(block, row, counts);
            return Ok(());
        }
        let oldest = self.cx.binding.lookback_ms;
        let (mut float, mut hist) = (0, 0);
        for step in 0..grid.len {
            pace.work(1)?;
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
                Emit::Value | Emit::FloatTimestamp if is_hist => {
                    block.set_histogram(row, step, raw.hist[hist - 1].1.clone());
                }
                Emit::Value => block.set_float(row, step, raw.vs[float - 1]),
                Emit::Timestamp | Emit::FloatTimestamp => {
                    block.set_float(row, step, newest as f64 / 1000.0)
                }
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
        Ok(())
    }
}

impl InstantSelect<'_> {
    /// The values of a series without histograms: the newest sample of each window, unless
    /// it is a staleness marker.
    fn fill_floats(&mut self, block: &mut SeriesBlock, row: u32, counts: &mut SampleCounts) {
        let vs = &self.raw.vs;
        if self.windows.lay(&self.raw.ts) || self.present.is_empty() {
            self.windows.mark_present(1, &mut self.present);
        }
        let (out, present) = block.row_and_bits_mut(row);
        if vs.is_empty() {
            return;
        }
        self.windows.windows().newest(vs, out);
        present.copy_from_slice(&self.present);
        if self.raw.has_stale_floats() {
            for (word, out) in present.iter_mut().zip(out.chunks(CHUNK_STEPS)) {
                for (step, v) in out.iter().enumerate() {
                    *word &= !(u64::from(is_stale_nan(*v)) << step);
                }
            }
        }
        counts.add_present(present);
    }

    /// `smoothed`: the window around each step, interpolated.
    fn fill_smoothed(
        &self,
        block: &mut SeriesBlock,
        row: u32,
        counts: &mut SampleCounts,
    ) -> Result<()> {
        let lookback_ms = self.cx.binding.lookback_ms;
        let shape = WindowShape {
            at_ms: self.bound.at_ms,
            offset_ms: self.bound.offset_ms,
            range_ms: lookback_ms,
            before_ms: 0,
            after_ms: lookback_ms,
        };
        let mut flags = Flags::default();
        let mut pace = Pace::new(self.cx);
        sweep(&self.raw, self.grid, shape, |step, seen| {
            pace.work(1 + seen.window.hist.len() * HISTOGRAM_WORK)?;
            if let Some(sample) = smoothed_instant(&seen.window, &mut flags) {
                counts.add(step, 1, 1);
                block.set_sample(row, step, sample);
            }
            Ok::<(), ExecError>(())
        })?;
        if flags.has(Flags::MIXED_SCHEMAS) {
            let labels = self.table.labels(block.first.0 + row);
            self.cx.warn(&self.select.span, mixed_schemas(labels));
        }
        Ok(())
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
        let used = std::mem::take(&mut self.used);
        let mut block = SeriesBlock::absent_in(used, SeriesId(first), rows, self.grid.len);
        let mut counts = self.cx.counts(self.grid);
        for row in 0..rows {
            self.cx.check()?;
            let series = &*self.series[(first + row) as usize];
            let (from_ms, to_ms) = (self.bound.from_ms, self.bound.to_ms);
            if self.newest_only {
                self.raw.clear();
                series.read_newest_into(from_ms, to_ms, &mut self.raw)?;
                self.raw.keep_newest();
                self.hold.grow_to(raw_weight(&self.raw))?;
            } else {
                read(self.cx, series, (from_ms, to_ms), &mut self.raw, &mut self.hold)?;
            }
            self.fill(&mut block, row, &mut counts)?;
        }
        self.cx.note_read(self.select, &counts);
        self.cx.count_samples(self.bound.scope, &counts);
        self.rows.start += rows;
        Ok(Some(block))
    }

    fn give_back(&mut self, block: SeriesBlock) {
        self.used = block;
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
                windows: lookback_windows(self.cx, self.bound, self.grid),
                present: vec![],
                rows: rows.clone(),
                raw: RawSamples::default(),
                used: SeriesBlock::default(),
                hold,
                ..*self
            }));
        }
        Ok(parts)
    }
}

/// Works counter-reset hints out from one sample to the next, where they are unknown.
pub(crate) fn derive_hints(cx: &Cx, raw: &mut RawSamples) -> Result<()> {
    let mut before: Option<Arc<FloatHistogram>> = None;
    let mut pace = Pace::new(cx);
    for (_, h) in &mut raw.hist {
        pace.work(HISTOGRAM_WORK)?;
        if is_stale_nan(h.sum) {
            continue;
        }
        let original = h.clone();
        if let Some(before) = &before
            && h.counter_reset_hint == CounterResetHint::Unknown
        {
            let reset = h.detect_reset(before);
            Arc::make_mut(h).counter_reset_hint =
                if reset { CounterResetHint::Reset } else { CounterResetHint::NotReset };
        }
        before = Some(original);
    }
    Ok(())
}
