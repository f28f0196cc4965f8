//! Reading the samples of a block through the storage port, and its labels.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Labels, Matcher, TimestampMs};
use crate::storage::tsdb::chunk::{Encoding, read_chunk};
use crate::storage::tsdb::elsewhere::{self, Elsewhere};
use crate::storage::tsdb::index::{Lists, effort, intersects};
use crate::storage::{LabelRequest, RawSeries, SelectRequest, StorageError, breathe};
use crate::vector::RawSamples;

use super::{Block, ChunkMeta, RawChunk};

/// Series or lists read before others have a turn.
const PER_TURN: usize = 1024;

/// Appends the samples of a chunk inside the closed interval to `out`.
pub(crate) fn decode(
    chunk: RawChunk<'_>,
    from_ms: TimestampMs,
    to_ms: TimestampMs,
    out: &mut RawSamples,
) -> Result<(), StorageError> {
    let encoding = Encoding::of(chunk.encoding).ok_or_else(|| {
        StorageError::Unsupported(format!(
            "chunks of encoding {} are not known; a newer version may read them",
            chunk.encoding
        ))
    })?;
    read_chunk(encoding, chunk.bytes, from_ms, to_ms, out)
}

/// A series of a block: its samples stay where they are until they are read.
struct BlockSeries {
    block: Arc<Block>,
    series: u64,
    labels: Labels,
    chunks: Box<[ChunkMeta]>,
}

impl RawSeries for BlockSeries {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(
        &self,
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        let deleted = self.block.deleted(self.series);
        if deleted.is_none() {
            return self.block.read_chunks(&self.chunks, from_ms, to_ms, out);
        }
        let mut all = RawSamples::default();
        self.block.read_chunks(&self.chunks, from_ms, to_ms, &mut all)?;
        if let Some(deleted) = deleted {
            deleted.remove_from(&mut all);
        }
        out.append(all);
        Ok(())
    }
}

impl Block {
    /// Appends the samples of chunks inside the closed interval, and of the block, to `out`.
    pub(crate) fn read_chunks(
        &self,
        chunks: &[ChunkMeta],
        from_ms: TimestampMs,
        to_ms: TimestampMs,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        let from_ms = from_ms.max(self.meta.min_time);
        let to_ms = to_ms.min(self.meta.max_time - 1);
        for meta in chunks {
            if meta.max_ms < from_ms || meta.min_ms > to_ms {
                continue;
            }
            let chunk = self.chunk(meta.reference)?;
            decode(chunk, from_ms, to_ms, out).map_err(|e| match e {
                StorageError::Corrupt { offset, why, .. } => StorageError::Corrupt {
                    what: format!("chunk {:x} of block {}", meta.reference, self.dir.display()),
                    offset,
                    why,
                },
                e => e,
            })?;
        }
        Ok(())
    }

    /// The series of a request, sorted by labels. No sample is read.
    pub(crate) async fn select(
        self: &Arc<Self>,
        request: &SelectRequest,
        elsewhere: &Elsewhere,
    ) -> Result<Vec<Arc<dyn RawSeries>>, StorageError> {
        let found = self.look_up(&request.matchers, elsewhere).await?;
        let limit = if request.hints.limit == 0 { usize::MAX } else { request.hints.limit };
        let mut out: Vec<Arc<dyn RawSeries>> = Vec::new();
        let mut chunks = Vec::new();
        for (i, series) in found.into_iter().enumerate() {
            if i % PER_TURN == PER_TURN - 1 {
                breathe().await;
            }
            if out.len() == limit {
                break;
            }
            let labels = self.series(series, &mut chunks)?;
            chunks.retain(|c| c.min_ms <= request.to_ms && request.from_ms <= c.max_ms);
            let deleted = self.deleted(series);
            let alive =
                |c: &ChunkMeta| deleted.is_none_or(|deleted| !deleted.cover(c.min_ms, c.max_ms));
            if chunks.iter().any(alive) {
                let (block, chunks) = (Arc::clone(self), chunks.as_slice().into());
                out.push(Arc::new(BlockSeries { block, series, labels, chunks }));
            }
        }
        Ok(out)
    }

    /// Label names of the series that satisfy any of the matcher sets; all when there is none.
    pub(crate) async fn label_names(
        self: &Arc<Self>,
        request: &LabelRequest,
        elsewhere: &Elsewhere,
    ) -> Result<BTreeSet<String>, StorageError> {
        if request.matcher_sets.is_empty() {
            return Ok(self.index.names().map(str::to_owned).collect());
        }
        let mut names = BTreeSet::new();
        for matchers in &request.matcher_sets {
            let series = self.look_up(matchers, elsewhere).await?;
            if series.is_empty() {
                continue;
            }
            for (i, name) in self.index.names().enumerate() {
                if i % 64 == 63 {
                    breathe().await;
                }
                if !names.contains(name) && self.carries(name, &series)? {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(names)
    }

    /// True when one of the series carries the label.
    fn carries(&self, name: &str, series: &[u64]) -> Result<bool, StorageError> {
        let mut found = false;
        self.index.for_values(name, |_, list| {
            found = intersects(&self.index.read_list(list)?, series);
            Ok(!found)
        })?;
        Ok(found)
    }

    /// Values of a label, restricted as `label_names` is: from the lists of the index, or
    /// from the series when those are fewer.
    pub(crate) async fn label_values(
        self: &Arc<Self>,
        name: &str,
        request: &LabelRequest,
        elsewhere: &Elsewhere,
    ) -> Result<BTreeSet<String>, StorageError> {
        if request.matcher_sets.is_empty() {
            let effort = || self.index.value_count(name).saturating_mul(4);
            return match elsewhere.for_effort(effort) {
                None => self.all_values(name),
                Some(threads) => {
                    let (block, name) = (Arc::clone(self), name.to_owned());
                    elsewhere::run(&**threads, move || block.all_values(&name)).await?
                }
            };
        }
        let mut values = BTreeSet::new();
        for matchers in &request.matcher_sets {
            let series = self.look_up(matchers, elsewhere).await?;
            if series.len() < self.index.value_count(name) {
                for (i, series) in series.into_iter().enumerate() {
                    if i % PER_TURN == PER_TURN - 1 {
                        breathe().await;
                    }
                    let value = self.index.label_value(series, name)?;
                    if !value.is_empty() && !values.contains(value) {
                        values.insert(value.to_owned());
                    }
                }
                continue;
            }
            self.index.for_values(name, |value, list| {
                if !values.contains(value) && intersects(&self.index.read_list(list)?, &series) {
                    values.insert(value.to_owned());
                }
                Ok(true)
            })?;
        }
        Ok(values)
    }

    fn all_values(&self, name: &str) -> Result<BTreeSet<String>, StorageError> {
        let mut values = BTreeSet::new();
        self.index.for_values(name, |value, _| {
            values.insert(value.to_owned());
            Ok(true)
        })?;
        Ok(values)
    }

    /// As `find`, where it keeps nobody waiting.
    async fn look_up(
        self: &Arc<Self>,
        matchers: &[Matcher],
        elsewhere: &Elsewhere,
    ) -> Result<Vec<u64>, StorageError> {
        // What cannot be read fails where it is looked up, too.
        match elsewhere.for_effort(|| effort(&self.index, matchers).unwrap_or(0)) {
            None => self.find(matchers),
            Some(threads) => {
                let (block, matchers) = (Arc::clone(self), matchers.to_vec());
                elsewhere::run(&**threads, move || block.find(&matchers)).await?
            }
        }
    }
}
