//! `info(v)`: labels of info series (`target_info` by default) are added to the series
//! with the same `instance` and `job`, step by step.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::cx::{Cx, ExecError, Pace, Result};
use super::exchange::collect;
use super::group::{Groups, KeyLabels};
use super::open::open;
use super::operator::{BoxOp, Collected, Ready, SeriesMeta, SeriesTable, weight};
use super::rows::Rows;
use super::select::InstantSelect;
use crate::model::{Labels, METRIC_NAME, StepGrid};
use crate::plan::node::Info;

/// Labels that tell which target a series belongs to.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Opens `info`.
pub(crate) fn open_info<'a>(cx: &'a Cx, node: &'a Info, grid: StepGrid) -> Result<BoxOp<'a>> {
    let base = collect(cx, open(cx, &node.input, grid)?, grid.len)?;
    // The times of the info samples decide between duplicates; their values do not matter.
    let info = collect(cx, InstantSelect::open(cx, &node.select, grid)?, grid.len)?;
    if info.has_histograms() {
        return Err(ExecError::query("info sample should be float"));
    }
    let mut enrichment = Enrichment::new(cx, node, &base, &info)?;
    for row in 0..base.table.len() {
        cx.check()?;
        enrichment.series(row)?;
    }
    let (series, samples) = (enrichment.series, enrichment.samples);
    let mut out = Rows::new(grid.len);
    let mut pace = Pace::new(cx);
    for (row, base_row, step) in samples {
        pace.work(4)?;
        if let Some(sample) = base.sample(base_row, step) {
            out.set_sample(row, step, sample);
        }
    }
    let blocks = out.into_blocks(series.len() as u32);
    let hold = cx.budget.hold(blocks.iter().map(weight).sum())?;
    let table = SeriesTable { series, unique: true };
    Ok(Box::new(Ready::new(Arc::new(table), blocks, Some(hold))))
}

struct Enrichment<'i, 'a> {
    cx: &'a Cx,
    node: &'i Info,
    base: &'i Collected<'a>,
    info: &'i Collected<'a>,
    targets: Groups,
    /// Per target, its info series by metric name.
    by_target: Vec<Vec<Vec<u32>>>,
    rows: HashMap<Labels, u32, FxBuildHasher>,
    series: Vec<SeriesMeta>,
    /// `(output row, base row, step)`
    samples: Vec<(u32, u32, u32)>,
}

impl<'i, 'a> Enrichment<'i, 'a> {
    fn new(
        cx: &'a Cx,
        node: &'i Info,
        base: &'i Collected<'a>,
        info: &'i Collected<'a>,
    ) -> Result<Self> {
        let mut targets = Groups::new(KeyLabels::only(&IDENTIFYING.map(str::to_owned)));
        let mut by_target: Vec<Vec<Vec<u32>>> = vec![];
        for row in 0..info.table.len() {
            cx.check()?;
            let labels = info.table.labels(row);
            let target = targets.number(labels) as usize;
            by_target.resize_with(by_target.len().max(target + 1), Vec::new);
            let name = labels.metric_name();
            let same_name = |rows: &&mut Vec<u32>| {
                rows.first().is_some_and(|r| info.table.labels(*r).metric_name() == name)
            };
            match by_target[target].iter_mut().find(same_name) {
                Some(rows) => rows.push(row),
                None => by_target[target].push(vec![row]),
            }
        }
        let (rows, series, samples) = (HashMap::default(), vec![], vec![]);
        Ok(Self { cx, node, base, info, targets, by_target, rows, series, samples })
    }

    fn series(&mut self, row: u32) -> Result<()> {
        let meta = self.base.table.series[row as usize].clone();
        // Info series are not enriched with themselves.
        let is_info = self.node.name_matchers.iter().all(|m| m.matches_labels(&meta.labels));
        let identified = IDENTIFYING.iter().any(|name| meta.labels.get(name).is_some());
        let target = (!is_info && identified).then(|| self.targets.find(&meta.labels)).flatten();
        let (block, block_row) = self.base.row(row);
        let steps: Vec<u32> = block.occupied_steps(block_row).collect();
        let mut last: Option<(Vec<u32>, Option<u32>)> = None;
        for step in steps {
            self.cx.check()?;
            let partners = match target {
                Some(target) => self.partners(target, step)?,
                None => vec![],
            };
            let out_row = match &last {
                Some((before, out_row)) if *before == partners => *out_row,
                _ => self.enriched(&meta, &partners, is_info)?.map(|meta| self.row(meta)),
            };
            last = Some((partners, out_row));
            self.samples.extend(out_row.map(|out_row| (out_row, row, step)));
        }
        Ok(())
    }

    /// The newest info series of each name at a step.
    fn partners(&self, target: u32, step: u32) -> Result<Vec<u32>> {
        let mut out = vec![];
        for rows in &self.by_target[target as usize] {
            let mut newest: Option<(f64, u32)> = None;
            for row in rows {
                self.cx.check()?;
                let (block, block_row) = self.info.row(*row);
                let Some(ts) = block.float(block_row, step) else { continue };
                match newest {
                    Some((best, other)) if best == ts => {
                        let ms = (ts * 1000.0) as i64;
                        let (a, b) = (self.info.table.labels(other), self.info.table.labels(*row));
                        return Err(ExecError::query(format!(
                            "found duplicate series for info metric: existing {a} @ {ms}, new {b} @ {ms}"
                        )));
                    }
                    Some((best, _)) if best > ts => {}
                    _ => newest = Some((ts, *row)),
                }
            }
            out.extend(newest.map(|(_, row)| row));
        }
        Ok(out)
    }

    /// The series with the labels of its partners; `None` when a data matcher wanted some
    /// and there are none.
    fn enriched(
        &self,
        meta: &SeriesMeta,
        partners: &[u32],
        is_info: bool,
    ) -> Result<Option<SeriesMeta>> {
        if is_info {
            return Ok(Some(meta.clone()));
        }
        let wanted = |name: &str| {
            self.node.data_matchers.is_empty()
                || self.node.data_matchers.iter().any(|m| &*m.name == name)
        };
        let mut builder = meta.labels.builder();
        let unmatched = partners.is_empty();
        if unmatched && self.node.data_matchers.iter().any(|m| !m.matches_empty()) {
            return Ok(None);
        }
        for partner in partners {
            for (name, value) in self.info.table.labels(*partner).iter() {
                if name == METRIC_NAME || meta.labels.get(name).is_some() || !wanted(name) {
                    continue;
                }
                if builder.contains(name) && builder.get(name) != value {
                    return Err(ExecError::query(format!("conflicting label: {name}")));
                }
                builder.set(name, value);
            }
        }
        Ok(Some(SeriesMeta { labels: builder.build(), drop_name: meta.drop_name }))
    }

    fn row(&mut self, meta: SeriesMeta) -> u32 {
        *self.rows.entry(meta.labels.clone()).or_insert_with(|| {
            self.series.push(meta);
            self.series.len() as u32 - 1
        })
    }
}
