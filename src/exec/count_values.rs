//! `count_values`: one output series per distinct value of each group.

use std::sync::Arc;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::cx::{Cx, Result};
use super::exchange::collect;
use super::group::KeyLabels;
use super::labels::{invalid_label_name, is_label_name};
use super::open::open;
use super::operator::{BoxOp, Ready, SeriesMeta, SeriesTable, weight};
use super::rows::Rows;
use super::text::format_f;
use crate::model::{Labels, Sample, StepGrid};
use crate::parser::ast::Grouping;
use crate::plan::Node;

/// Opens `count_values`. The label is set before grouping, so one of that name that was
/// there does not tell groups apart.
pub(crate) fn open_count_values<'a>(
    cx: &'a Cx,
    input: &'a Node,
    label: &str,
    grouping: &Grouping,
    grid: StepGrid,
) -> Result<BoxOp<'a>> {
    if !is_label_name(label) {
        return Err(invalid_label_name(label));
    }
    let key = match grouping {
        Grouping::By(labels) => KeyLabels::only(&[labels.as_slice(), &[label.to_owned()]].concat()),
        Grouping::Without(labels) => KeyLabels::all_but(labels),
    };
    let input = collect(cx, open(cx, input, grid)?, grid.len)?;
    let mut rows: HashMap<Labels, u32, FxBuildHasher> = HashMap::default();
    let mut series: Vec<SeriesMeta> = vec![];
    let mut counts = Rows::new(grid.len);
    let mut hold = cx.budget.hold(0)?;
    for row in 0..input.table.len() {
        cx.check()?;
        let meta = &input.table.series[row as usize];
        let base = meta.labels.retain(|name| name != label && key.keeps(name));
        let (block, block_row) = input.row(row);
        // Values seldom change from step to step: the last one's row is kept at hand.
        let mut last: Option<(Sample, u32)> = None;
        for step in block.occupied_steps(block_row) {
            cx.check()?;
            let Some(sample) = block.sample(block_row, step) else { continue };
            let out_row = match &last {
                Some((value, out_row)) if *value == sample => *out_row,
                _ => {
                    let mut builder = base.builder();
                    if key.keeps(label) {
                        builder.set(label, &text(&sample));
                    }
                    let labels = builder.build();
                    let out_row = *rows.entry(labels.clone()).or_insert_with(|| {
                        series.push(SeriesMeta { labels, drop_name: meta.drop_name });
                        series.len() as u32 - 1
                    });
                    hold.grow_to(series.len() * grid.len as usize)?;
                    last = Some((sample, out_row));
                    out_row
                }
            };
            let (block, row) = counts.at_mut(out_row);
            let count = block.float(row, step).unwrap_or(0.0);
            block.set_float(row, step, count + 1.0);
        }
    }
    let blocks = counts.into_blocks(series.len() as u32);
    hold.grow_to(blocks.iter().map(weight).sum())?;
    let table = SeriesTable { series, unique: true };
    Ok(Box::new(Ready::new(Arc::new(table), blocks, Some(hold))))
}

fn text(sample: &Sample) -> String {
    match sample {
        Sample::Float(v) => format_f(*v),
        Sample::Histogram(h) => h.to_string(),
    }
}
