//! `histogram_quantile`, `histogram_quantiles`, `histogram_fraction`: classic buckets are
//! put together by their labels without `le`, native histograms stand for themselves.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::annotate::{for_metric, forced_monotonic, quantile_note};
use super::cx::{Cx, HISTOGRAM_WORK, Pace, Result};
use super::exchange::collect;
use super::open::open;
use super::operator::{BoxOp, Collected, Ready, SeriesMeta, SeriesTable, weight};
use super::rows::Rows;
use super::scalar::values;
use super::tally::Repairs;
use super::text::format_openmetrics;
use crate::functions::histogram::{
    ClassicBucket, NanObservations, bucket_fraction, bucket_quantile, native_fraction,
    native_quantile,
};
use crate::model::labels::quote;
use crate::model::{FloatHistogram, Labels, StepGrid};
use crate::parser::ast::Span;
use crate::plan::Node;
use crate::plan::node::HistogramQuantiles;

/// One histogram: the series that make it up.
struct Member {
    meta: SeriesMeta,
    /// Series with a readable `le`, and its value.
    buckets: Vec<(u32, f64)>,
    /// The series that may hold native histograms under these very labels.
    natives: Vec<u32>,
}

/// What there is of a histogram at a step.
enum Observed<'b> {
    Classic(&'b mut Vec<ClassicBucket>),
    Native(&'b FloatHistogram),
}

/// The histograms of an input, and how to note what is wrong with them.
struct Histograms<'a> {
    cx: &'a Cx,
    input: Collected<'a>,
    members: Vec<Member>,
    span: &'a Span,
    /// Names are still known when their removal is delayed.
    named: bool,
}

impl<'a> Histograms<'a> {
    fn open(cx: &'a Cx, input: &'a Node, span: &'a Span, grid: StepGrid) -> Result<Self> {
        let input = collect(cx, open(cx, input, grid)?, grid.len)?;
        let named = cx.options.delayed_names;
        let mut this = Self { cx, input, members: vec![], span, named };
        let mut rows: HashMap<Labels, usize, FxBuildHasher> = HashMap::default();
        let table = this.input.table.clone();
        let mut member = |meta: &SeriesMeta, labels: Labels, members: &mut Vec<Member>| {
            *rows.entry(labels.clone()).or_insert_with(|| {
                let meta = SeriesMeta { labels, drop_name: meta.drop_name };
                members.push(Member { meta, buckets: vec![], natives: vec![] });
                members.len() - 1
            })
        };
        for (row, series) in table.series.iter().enumerate() {
            cx.check()?;
            let row = row as u32;
            let (block, block_row) = this.input.row(row);
            let floats = !block.present.row_is_empty(block_row);
            let histograms =
                block.histograms.as_ref().is_some_and(|h| !h.present().row_is_empty(block_row));
            if histograms {
                let i = member(series, series.labels.clone(), &mut this.members);
                this.members[i].natives.push(row);
            }
            if !floats {
                continue;
            }
            let le = series.labels.get_or_empty("le");
            match parse_bound(le) {
                Some(bound) => {
                    let i = member(series, series.labels.retain(|n| n != "le"), &mut this.members);
                    this.members[i].buckets.push((row, bound));
                }
                None => this.bad_bound(le, &series.labels),
            }
        }
        // Sorted once, they need not be at every step.
        for member in &mut this.members {
            member.buckets.sort_by(|a, b| a.1.total_cmp(&b.1));
        }
        Ok(this)
    }

    fn name(&self, labels: &Labels) -> String {
        if self.named { for_metric(labels.metric_name()) } else { String::new() }
    }

    fn bad_bound(&self, le: &str, labels: &Labels) {
        let (le, name) = (quote(le), self.name(labels));
        self.cx.warn(
            self.span,
            format!("bucket label \"le\" is missing or has a malformed value of {le}{name}"),
        );
    }

    /// Visits every histogram that is there at a step: `(member, step, observed)`.
    fn each(&self, mut visit: impl FnMut(usize, u32, Observed<'_>)) -> Result<()> {
        let mut pace = Pace::new(self.cx);
        let mut buckets: Vec<ClassicBucket> = vec![];
        let mut columns: Vec<(f64, &[f64], &[u64])> = vec![];
        for (i, member) in self.members.iter().enumerate() {
            self.cx.check()?;
            columns.clear();
            for (row, upper_bound) in &member.buckets {
                self.cx.check()?;
                let (block, block_row) = self.input.row(*row);
                columns.push((*upper_bound, block.row(block_row), block.present.row(block_row)));
            }
            for step in 0..self.input.steps {
                pace.work(1 + member.buckets.len() + member.natives.len() * HISTOGRAM_WORK)?;
                buckets.clear();
                let (word, bit) = (step as usize / 64, step % 64);
                buckets.extend(columns.iter().filter_map(|(upper_bound, counts, present)| {
                    let count = counts[step as usize];
                    let bucket = ClassicBucket { upper_bound: *upper_bound, count };
                    (present[word] >> bit & 1 == 1).then_some(bucket)
                }));
                let native = member.natives.iter().find_map(|row| {
                    let (block, block_row) = self.input.row(*row);
                    block.histogram(block_row, step)
                });
                match native {
                    Some(_) if !buckets.is_empty() => {
                        let name = self.name(&member.meta.labels);
                        self.cx.warn(
                            self.span,
                            format!("vector contains a mix of classic and native histograms{name}"),
                        );
                    }
                    Some(h) => visit(i, step, Observed::Native(h)),
                    None if buckets.is_empty() => {}
                    None => visit(i, step, Observed::Classic(&mut buckets)),
                }
            }
        }
        Ok(())
    }

    fn nan_note(&self, nan: Option<NanObservations>, labels: &Labels) {
        let Some(nan) = nan else { return };
        let name = self.name(labels);
        let text = match nan {
            NanObservations::ResultIsNan => {
                format!("input to histogram_quantile has NaN observations, result is NaN{name}")
            }
            NanObservations::SkewedHigher => format!(
                "input to histogram_quantile has NaN observations, result is skewed higher{name}"
            ),
            NanObservations::Excluded => format!(
                "input to histogram_fraction has NaN observations, which are excluded from all \
                 fractions{name}"
            ),
        };
        self.cx.info(self.span, text);
    }

    fn finish(self, series: Vec<SeriesMeta>, out: Rows) -> Result<BoxOp<'a>> {
        let blocks = out.into_blocks(series.len() as u32);
        let hold = self.cx.budget.hold(blocks.iter().map(weight).sum())?;
        let table = SeriesTable { series, unique: false };
        Ok(Box::new(Ready::new(Arc::new(table), blocks, Some(hold))))
    }
}

/// An `le` as Go's `ParseFloat` reads it.
fn parse_bound(le: &str) -> Option<f64> {
    match le {
        "" => None,
        _ => le.parse().ok(),
    }
}

/// Opens `histogram_quantile` or `histogram_quantiles`.
pub(crate) fn quantiles<'a>(
    cx: &'a Cx,
    node: &'a HistogramQuantiles,
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let mut all = Vec::with_capacity(node.quantiles.len());
    for (quantile, span) in &node.quantiles {
        let values = values(cx, quantile, grid)?;
        values.iter().for_each(|q| quantile_note(cx, span, *q));
        all.push(values);
    }
    let histograms = Histograms::open(cx, &node.input, &node.span, grid)?;
    let mut rows: HashMap<(usize, u64), u32, FxBuildHasher> = HashMap::default();
    let mut series: Vec<SeriesMeta> = vec![];
    let mut out = Rows::new(grid.len);
    // Per quantile, the key of the last result and its row: mostly those of the next.
    let mut last: Vec<Option<((usize, u64), u32)>> = vec![None; all.len()];
    histograms.each(|i, step, mut observed| {
        let meta = &histograms.members[i].meta;
        for (quantiles, last) in all.iter().zip(&mut last) {
            let q = quantiles[step as usize];
            let value = match &mut observed {
                Observed::Classic(buckets) => {
                    let result = bucket_quantile(q, buckets);
                    if let Some(repair) = result.repair {
                        let name = if histograms.named { meta.labels.metric_name() } else { "" };
                        let repairs = Repairs {
                            buckets: (repair.min_bucket, repair.max_bucket),
                            max_diff: repair.max_diff,
                            count: 1,
                            times: (grid.at(step), grid.at(step)),
                        };
                        forced_monotonic(cx, &node.span, name, repairs);
                    }
                    result.value
                }
                Observed::Native(h) => {
                    let (value, nan) = native_quantile(q, h);
                    histograms.nan_note(nan, &meta.labels);
                    value
                }
            };
            // Without a label for it, the quantile does not tell series apart.
            let key = node.label.as_ref().map_or(0, |_| q.to_bits());
            let key = (i, key);
            let row = match *last {
                Some((before, row)) if before == key => row,
                _ => *rows.entry(key).or_insert_with(|| {
                    let mut meta = meta.clone();
                    if let Some(label) = &node.label {
                        let mut builder = meta.labels.builder();
                        meta.labels = builder.set(label, &format_openmetrics(q)).build();
                    }
                    series.push(meta);
                    series.len() as u32 - 1
                }),
            };
            *last = Some((key, row));
            out.set_float(row, step, value);
        }
    })?;
    histograms.finish(series, out)
}

/// Opens `histogram_fraction`.
pub(crate) fn fraction<'a>(
    cx: &'a Cx,
    (lower, upper): (&Node, &Node),
    input: &'a Node,
    span: &'a Span,
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    let (lower, upper) = (values(cx, lower, grid)?, values(cx, upper, grid)?);
    let histograms = Histograms::open(cx, input, span, grid)?;
    let mut out = Rows::new(grid.len);
    histograms.each(|i, step, observed| {
        let (lower, upper) = (lower[step as usize], upper[step as usize]);
        let value = match observed {
            Observed::Classic(buckets) => bucket_fraction(lower, upper, buckets),
            Observed::Native(h) => {
                let (value, nan) = native_fraction(lower, upper, h);
                histograms.nan_note(nan, &histograms.members[i].meta.labels);
                value
            }
        };
        out.set_float(i as u32, step, value);
    })?;
    let series = histograms.members.iter().map(|m| m.meta.clone()).collect();
    histograms.finish(series, out)
}
