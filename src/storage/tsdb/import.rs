//! Making a block of samples that come from elsewhere, in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::model::{Labels, TimestampMs};
use crate::storage::{AppendError, StorageError};
use crate::vector::RawSamples;

use super::block::{BlockMeta, BlockWriter, Ulid};
use super::compact::{Recoder, Stop};
use super::disk::{Disk, FileSystem};
use super::head::new_chunk;

/// The samples of one block on their way there, in memory.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    series: BTreeMap<Labels, RawSamples>,
}

impl BlockBuilder {
    /// Adds a sample; those of a series come in time order. An exact repetition is nothing.
    pub fn add(&mut self, labels: &Labels, ts: TimestampMs, value: f64) -> Result<(), AppendError> {
        if !self.series.contains_key(labels) {
            self.series.insert(labels.clone(), RawSamples::default());
        }
        let samples = self.series.get_mut(labels).expect("BUG: the series was just inserted");
        match samples.ts.last().zip(samples.vs.last()) {
            Some((last, _)) if ts < *last => Err(AppendError::OutOfOrder),
            Some((last, held)) if ts == *last && held.to_bits() == value.to_bits() => Ok(()),
            Some((last, _)) if ts == *last => Err(AppendError::DuplicateForTimestamp),
            _ => {
                samples.push(ts, value);
                Ok(())
            }
        }
    }

    /// Writes the block into a directory and says what it is, with its bytes. `None` when
    /// nothing was added.
    pub fn write(
        self,
        dir: &Path,
        now_ms: TimestampMs,
    ) -> Result<Option<(BlockMeta, u64)>, StorageError> {
        let times = || self.series.values().filter_map(|s| s.ts.first().zip(s.ts.last()));
        let Some(min) = times().map(|(first, _)| *first).min() else { return Ok(None) };
        let max = times().map(|(_, last)| *last).max().unwrap_or(min);
        let mut meta = BlockMeta::new(Ulid::new(now_ms), min, max.saturating_add(1));
        meta.compaction.level = 1;
        meta.compaction.sources = vec![meta.ulid];
        let symbols: BTreeSet<&str> =
            self.series.keys().flat_map(|l| l.iter().flat_map(|(n, v)| [n, v])).collect();
        let disk: Arc<dyn Disk> = Arc::new(FileSystem);
        let mut writer = BlockWriter::create(&disk, dir, meta, symbols.into_iter().map(Ok))?;
        let mut recoder = Recoder::default();
        for (labels, samples) in &self.series {
            let chunks = recoder.encode(samples);
            writer.add(labels, chunks.iter().map(new_chunk))?;
        }
        let Some(meta) = writer.finish(&Stop::default())? else { return Ok(None) };
        let block = super::block::Block::open(&dir.join(meta.ulid.to_string()))?;
        Ok(Some((meta, block.size_bytes())))
    }
}
