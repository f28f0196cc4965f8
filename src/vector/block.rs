//! The unit operators exchange: rows are series, columns are steps, one flat arena.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::Bitmap;
use crate::model::FloatHistogram;

/// Dense, query-local number of a series; labels live in the operator's table beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// Histogram samples of a block: sparse, because most blocks have none.
#[derive(Clone, Debug, Default)]
pub struct HistogramSide {
    slots: HashMap<u32, Arc<FloatHistogram>, FxBuildHasher>,
}

/// `rows` series over `steps` steps. Absence is a bit, never a NaN: a float slot is read
/// only when its `present` bit is set. A slot holds a float or a histogram, never both:
/// a slot with a histogram has its `present` bit clear.
#[derive(Clone, Debug, Default)]
pub struct SeriesBlock {
    /// Id of row 0; the ids of a block are consecutive.
    pub first: SeriesId,
    pub rows: u32,
    pub steps: u32,
    /// `rows * steps` values, row-major.
    pub floats: Vec<f64>,
    pub present: Bitmap,
    /// `None` unless a selector met a histogram.
    pub histograms: Option<Box<HistogramSide>>,
}

impl SeriesBlock {
    /// A block in which every slot is absent.
    pub fn absent(first: SeriesId, rows: u32, steps: u32) -> Self {
        Self {
            first,
            rows,
            steps,
            floats: vec![0.0; rows as usize * steps as usize],
            present: Bitmap::zeros(rows, steps),
            histograms: None,
        }
    }

    /// The floats of a row.
    pub fn row(&self, row: u32) -> &[f64] {
        let start = row as usize * self.steps as usize;
        &self.floats[start..start + self.steps as usize]
    }

    /// The floats of a row, to write; set the presence bits too.
    pub fn row_mut(&mut self, row: u32) -> &mut [f64] {
        let start = row as usize * self.steps as usize;
        &mut self.floats[start..start + self.steps as usize]
    }

    /// Stores a float.
    pub fn set_float(&mut self, row: u32, step: u32, value: f64) {
        self.floats[row as usize * self.steps as usize + step as usize] = value;
        self.present.set(row, step);
    }

    /// The float at a slot.
    pub fn float(&self, row: u32, step: u32) -> Option<f64> {
        self.present.get(row, step).then(|| self.row(row)[step as usize])
    }

    /// Stores a histogram and makes the slot's float absent.
    pub fn set_histogram(&mut self, row: u32, step: u32, value: Arc<FloatHistogram>) {
        self.present.clear(row, step);
        let slot = row * self.steps + step;
        self.histograms.get_or_insert_default().slots.insert(slot, value);
    }

    /// The histogram at a slot.
    pub fn histogram(&self, row: u32, step: u32) -> Option<&Arc<FloatHistogram>> {
        self.histograms.as_ref()?.slots.get(&(row * self.steps + step))
    }

    /// Removes and returns the histogram at a slot.
    pub fn take_histogram(&mut self, row: u32, step: u32) -> Option<Arc<FloatHistogram>> {
        self.histograms.as_mut()?.slots.remove(&(row * self.steps + step))
    }

    /// Makes a slot absent, whatever it held.
    pub fn clear_slot(&mut self, row: u32, step: u32) {
        self.present.clear(row, step);
        self.take_histogram(row, step);
    }

    /// True when some slot holds a histogram.
    pub fn has_histograms(&self) -> bool {
        self.histograms.as_ref().is_some_and(|side| !side.slots.is_empty())
    }

    /// True when no slot of the row holds anything.
    pub fn row_is_absent(&self, row: u32) -> bool {
        self.present.row_is_empty(row)
            && (!self.has_histograms() || (0..self.steps).all(|s| self.histogram(row, s).is_none()))
    }

    /// Bytes the block holds, for the memory budget.
    pub fn size_bytes(&self) -> usize {
        self.floats.len() * 8
            + self.rows as usize * (self.steps as usize).div_ceil(64) * 8
            + self.histograms.as_ref().map_or(0, |s| s.slots.len() * 256)
    }
}
