//! Range functions over whole series: one run of a column kernel instead of a call per
//! window.

use super::stats::SampleCounts;
use crate::functions::{ColumnKernel, Columns, Flags};
use crate::vector::{RawSamples, SeriesBlock, WindowTable};

/// A column kernel with the windows of the series at hand.
pub(crate) struct Column {
    columns: Columns,
    kernel: Box<dyn ColumnKernel>,
    windows: WindowTable,
    /// Of the windows: which have a result, and the sums of their counts.
    present: Vec<u64>,
    counts: (u64, u64),
    /// The kernel takes these windows.
    taken: bool,
}

impl Column {
    /// `windows` are not laid out yet.
    pub(crate) fn new(columns: Columns, windows: WindowTable) -> Self {
        let kernel = (columns.new)();
        Self { columns, kernel, windows, present: vec![], counts: (0, 0), taken: true }
    }

    /// Another one of the same function.
    pub(crate) fn again(&self, windows: WindowTable) -> Self {
        Self::new(self.columns, windows)
    }

    /// Writes the results of one series, which holds floats only, into its row. `None` when
    /// its windows must be visited one by one.
    pub(crate) fn fill(
        &mut self,
        raw: &RawSamples,
        block: &mut SeriesBlock,
        row: u32,
        counts: &mut SampleCounts,
    ) -> Option<Flags> {
        if raw.vs.is_empty() {
            return Some(Flags::default());
        }
        if self.windows.lay(&raw.ts) {
            self.taken = self.kernel.lay(&self.windows.windows());
            self.windows.mark_present(self.columns.samples_min, &mut self.present);
            let sum = |sums: (u64, u64), step: (u64, u64)| (sums.0 + step.0, sums.1 + step.1);
            self.counts = self.windows.counts().fold((0, 0), sum);
        }
        if !self.taken {
            return None;
        }
        counts.add_windows(&self.windows, self.counts);
        if self.present.iter().all(|word| *word == 0) {
            return Some(Flags::default());
        }
        let (out, present) = block.row_and_bits_mut(row);
        self.kernel.run(&self.windows.windows(), &raw.vs, out);
        present.copy_from_slice(&self.present);
        Some(self.columns.flags)
    }
}
