//! Range functions: a kernel over the window of each series at each step. Windows come
//! from raw samples of a selector or from the steps of a subquery.

use std::ops::Range;
use std::sync::Arc;

use super::annotate::RangeNotes;
use super::column::Column;
use super::cx::{Cx, ExecError, HISTOGRAM_WORK, Hold, Pace, Result};
use super::open::open;
use super::operator::{BoxOp, Operator, SeriesTable, rows_per_block};
use super::read::read;
use super::scalar::step_rows;
use super::select::{derive_hints, histogram_samples};
use super::stats::SampleCounts;
use super::window::{Seen, WindowShape, sweep};
use crate::functions::{Flags, FunctionSpec, Kernel, RangeArgs, RangeKernel, WindowMode};
use crate::model::histogram::CounterResetHint;
use crate::model::{FloatHistogram, StepGrid};
use crate::parser::ast::RangeExtension;
use crate::plan::BoundSelect;
use crate::plan::node::{RangeCall, RangeSource, Select};
use crate::storage::RawSeries;
use crate::vector::{RawSamples, SeriesBlock, SeriesId};

/// Where the raw samples of a row come from.
pub(crate) enum Samples<'a> {
    Stored {
        series: &'a [Arc<dyn RawSeries>],
        select: &'a Select,
        bound: BoundSelect,
        hold: Hold<'a>,
    },
    /// `block` is the one being read and the next of its rows.
    Steps { input: BoxOp<'a>, grid: StepGrid, block: Option<Box<(SeriesBlock, u32)>> },
}

/// A range source opened: its series, its windows and its samples.
pub(crate) struct OpenSource<'a> {
    pub table: Arc<SeriesTable>,
    pub shape: WindowShape,
    pub mode: WindowMode,
    pub samples: Samples<'a>,
    /// Where its windows are counted.
    pub scope: usize,
}

/// Counts what a step saw of the samples of a series.
pub(crate) fn count_window(
    raw: &RawSamples,
    seen: &Seen<'_>,
    step: u32,
    counts: &mut SampleCounts,
) {
    let weigh = |hist: &[(i64, Arc<FloatHistogram>)]| {
        hist.iter().map(|(_, h)| histogram_samples(h)).sum::<u64>()
    };
    let read = seen.new_floats.len() as u64 + weigh(&raw.hist[seen.new_hist.clone()]);
    let window = &seen.window;
    counts.add(step, window.ts.len() as u64 + weigh(window.hist), read);
}

/// Opens a range source; its times are those it was bound to.
pub(crate) fn open_source<'a>(cx: &'a Cx, source: &'a RangeSource) -> Result<OpenSource<'a>> {
    match source {
        RangeSource::Select(select) => {
            let bound = cx.binding.selects[select.id];
            let lookback_ms = cx.binding.lookback_ms;
            let (mode, before_ms, after_ms) = match select.extension {
                None => (WindowMode::Plain, 0, 0),
                Some(RangeExtension::Anchored) => (WindowMode::Anchored, lookback_ms, 0),
                Some(RangeExtension::Smoothed) => (WindowMode::Smoothed, lookback_ms, lookback_ms),
            };
            let (at_ms, offset_ms, range_ms) = (bound.at_ms, bound.offset_ms, bound.range_ms);
            let series = &cx.series[bound.request];
            Ok(OpenSource {
                table: series.table(|| cx.check())?,
                shape: WindowShape { at_ms, offset_ms, range_ms, before_ms, after_ms },
                mode,
                samples: Samples::Stored { series, select, bound, hold: cx.budget.hold(0)? },
                scope: bound.scope,
            })
        }
        RangeSource::Subquery(sub) => {
            let bound = cx.binding.subqueries[sub.id];
            // Every step takes room in each row, whether or not a series is there.
            if bound.grid.len as usize > cx.options.max_samples {
                return Err(ExecError::TooManySamples);
            }
            let input = open(cx, &sub.input, bound.grid)?;
            let (at_ms, offset_ms, range_ms) = (bound.at_ms, bound.offset_ms, bound.range_ms);
            Ok(OpenSource {
                table: input.series().clone(),
                shape: WindowShape { at_ms, offset_ms, range_ms, before_ms: 0, after_ms: 0 },
                mode: WindowMode::Plain,
                samples: Samples::Steps { input, grid: bound.grid, block: None },
                scope: bound.scope,
            })
        }
    }
}

impl<'a> Samples<'a> {
    /// Loads the samples of the next row into `raw`, without staleness markers.
    pub(crate) fn load(&mut self, cx: &Cx, row: u32, raw: &mut RawSamples) -> Result<()> {
        match self {
            Self::Stored { series, select, bound, hold } => {
                let interval = (bound.from_ms, bound.to_ms);
                read(cx, &*series[row as usize], interval, raw, hold)?;
                raw.drop_stale();
                if select.stats_only {
                    derive_hints(cx, raw)?;
                }
                Ok(())
            }
            Self::Steps { input, grid, block } => {
                raw.clear();
                while block.as_ref().is_none_or(|b| b.1 == b.0.rows) {
                    if let Some(read) = block.take() {
                        input.give_back(read.0);
                    }
                    match input.next()? {
                        Some(next) => *block = Some(Box::new((next, 0))),
                        None => return Ok(()),
                    }
                }
                if let Some((block, next)) = block.as_deref_mut() {
                    steps_to_samples(cx, block, *next, *grid, raw)?;
                    *next += 1;
                }
                Ok(())
            }
        }
    }

    fn split(self, cx: &'a Cx, ranges: &[Range<u32>]) -> std::result::Result<Vec<Self>, Self> {
        match self {
            Self::Stored { series, select, bound, hold } => {
                let parts: Result<Vec<Self>> = ranges
                    .iter()
                    .map(|_| Ok(Self::Stored { series, select, bound, hold: cx.budget.hold(0)? }))
                    .collect();
                parts.map_err(|_| Self::Stored { series, select, bound, hold })
            }
            Self::Steps { input, grid, block } => match input.split(ranges) {
                Ok(parts) => Ok(parts
                    .into_iter()
                    .map(|input| Self::Steps { input, grid, block: None })
                    .collect()),
                Err(input) => Err(Self::Steps { input, grid, block }),
            },
        }
    }
}

/// A row of a subquery's result as if it had been stored at its steps.
fn steps_to_samples(
    cx: &Cx,
    block: &SeriesBlock,
    row: u32,
    grid: StepGrid,
    raw: &mut RawSamples,
) -> Result<()> {
    let mut pace = Pace::new(cx);
    let values = block.row(row);
    for (first, word) in (0..).step_by(64).zip(block.present.row(row)) {
        let steps = first..grid.len.min(first + 64);
        pace.work(steps.len())?;
        if word.count_ones() as usize == steps.len() {
            raw.vs.extend_from_slice(&values[steps.start as usize..steps.end as usize]);
            raw.ts.extend(steps.map(|step| grid.at(step)));
            continue;
        }
        for step in steps.filter(|step| word >> (step % 64) & 1 == 1) {
            raw.push(grid.at(step), values[step as usize]);
        }
    }
    if block.histograms.is_none() {
        return Ok(());
    }
    for step in block.occupied_steps(row) {
        pace.work(1)?;
        let Some(h) = block.histogram(row, step) else { continue };
        let mut h = h.clone();
        // What a hint says about the sample before it does not hold between steps.
        if matches!(h.counter_reset_hint, CounterResetHint::Reset | CounterResetHint::NotReset) {
            Arc::make_mut(&mut h).counter_reset_hint = CounterResetHint::Unknown;
        }
        raw.hist.push((grid.at(step), h));
    }
    Ok(())
}

/// Scalar arguments of every step.
struct Scalars {
    per_step: usize,
    values: Vec<f64>,
}

impl Scalars {
    fn at(&self, step: u32) -> &[f64] {
        let first = step as usize * self.per_step;
        &self.values[first..first + self.per_step]
    }
}

/// See the module.
struct RangeOp<'a> {
    cx: &'a Cx,
    grid: StepGrid,
    kernel: RangeKernel,
    scalars: Arc<Scalars>,
    table: Arc<SeriesTable>,
    shape: WindowShape,
    mode: WindowMode,
    samples: Samples<'a>,
    scope: usize,
    /// The fast way, where the function has one and the windows allow it.
    column: Option<Column>,
    rows: Range<u32>,
    raw: RawSamples,
    /// A block that was given back.
    used: SeriesBlock,
    notes: RangeNotes<'a>,
}

/// Opens a range function.
pub(crate) fn open_range<'a>(cx: &'a Cx, call: &'a RangeCall, grid: StepGrid) -> Result<BoxOp<'a>> {
    let Kernel::Range { kernel, check, columns } = call.function.kernel else {
        unreachable!("BUG: a range call has a range kernel")
    };
    if let RangeSource::Select(select) = &call.source {
        check_extension(select.extension, call.function)?;
    }
    let (values, per_step) = step_rows(cx, &call.scalars, grid)?;
    let scalars = Scalars { per_step, values };
    let source = open_source(cx, &call.source)?;
    if let Some(check) = check
        && !source.table.is_empty()
    {
        for step in 0..grid.len {
            cx.check()?;
            check(scalars.at(step)).map_err(ExecError::Query)?;
        }
    }
    let columns = columns.filter(|_| source.mode == WindowMode::Plain);
    Ok(Box::new(RangeOp {
        cx,
        grid,
        kernel,
        column: columns.map(|columns| Column::new(columns, source.shape.table(grid))),
        scalars: Arc::new(scalars),
        rows: 0..source.table.len(),
        table: source.table,
        shape: source.shape,
        mode: source.mode,
        samples: source.samples,
        scope: source.scope,
        raw: RawSamples::default(),
        used: SeriesBlock::default(),
        notes: RangeNotes { cx, call },
    }))
}

/// Functions that know what to do with samples beyond their window.
fn check_extension(extension: Option<RangeExtension>, function: &FunctionSpec) -> Result<()> {
    let (word, allowed): (_, &[&str]) = match extension {
        None => return Ok(()),
        Some(RangeExtension::Anchored) => {
            ("anchored", &["changes", "delta", "increase", "rate", "resets"])
        }
        Some(RangeExtension::Smoothed) => ("smoothed", &["delta", "increase", "rate"]),
    };
    if allowed.contains(&function.name) {
        return Ok(());
    }
    Err(ExecError::query(format!(
        "{word} modifier can only be used with: {} - not with {}",
        allowed.join(", "),
        function.name
    )))
}

impl RangeOp<'_> {
    fn fill(&mut self, block: &mut SeriesBlock, row: u32, counts: &mut SampleCounts) -> Result<()> {
        let (raw, scalars) = (&self.raw, &self.scalars);
        let mut flags = Flags::default();
        let starts_count = self.cx.options.use_start_timestamps && !raw.start_ts.is_empty();
        if let Some(column) = &mut self.column
            && raw.hist.is_empty()
            && !starts_count
            && raw.ts.len() <= u32::MAX as usize
            && let Some(flags) = column.fill(raw, block, row, counts)
        {
            self.note(flags, 0, block.first.0 + row);
            return Ok(());
        }
        let mut args = RangeArgs {
            scalars: &[],
            range_ms: self.shape.range_ms,
            mode: self.mode,
            use_start_timestamps: self.cx.options.use_start_timestamps,
        };
        let mut pace = Pace::new(self.cx);
        let mut overlaps = 0;
        sweep(raw, self.grid, self.shape, |step, seen| {
            let window = &seen.window;
            // Long windows over many steps make one row long work.
            pace.work(1 + window.ts.len() + window.hist.len() * HISTOGRAM_WORK)?;
            if window.ts.is_empty() && window.hist.is_empty() {
                return Ok(());
            }
            count_window(raw, &seen, step, counts);
            args.scalars = scalars.at(step);
            let mut raised = Flags::default();
            if let Some(sample) = (self.kernel)(window, &args, &mut raised) {
                block.set_sample(row, step, sample);
            }
            overlaps += u64::from(raised.has(Flags::START_TIME_OVERLAP));
            flags.raise(raised);
            Ok::<(), ExecError>(())
        })?;
        self.note(flags, overlaps, block.first.0 + row);
        Ok(())
    }

    fn note(&self, flags: Flags, overlaps: u64, series: u32) {
        if flags != Flags::default() {
            let labels = self.table.labels(series);
            self.notes.start_time_overlaps(labels, overlaps);
            self.notes.note(flags, labels, |step| self.scalars.at(step), self.grid.len);
        }
    }
}

impl<'a> Operator<'a> for RangeOp<'a> {
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
            self.samples.load(self.cx, first + row, &mut self.raw)?;
            self.fill(&mut block, row, &mut counts)?;
        }
        if let Samples::Stored { select, .. } = &self.samples {
            self.cx.note_read(select, &counts);
        }
        self.cx.count_samples(self.scope, &counts);
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
        let this = *self;
        match this.samples.split(this.cx, ranges) {
            Ok(parts) => Ok(parts
                .into_iter()
                .zip(ranges)
                .map(|(samples, rows)| {
                    Box::new(Self {
                        samples,
                        rows: rows.clone(),
                        table: this.table.clone(),
                        scalars: this.scalars.clone(),
                        column: this.column.as_ref().map(|c| c.again(this.shape.table(this.grid))),
                        raw: RawSamples::default(),
                        used: SeriesBlock::default(),
                        notes: this.notes,
                        ..this
                    }) as BoxOp<'a>
                })
                .collect()),
            Err(samples) => Err(Box::new(Self { samples, ..this })),
        }
    }
}
