//! Several blocks as one. Series come in label order from each block and leave in label
//! order; in memory is one series at a time. Chunks pass as they are, unless they overlap
//! or something of them was deleted.

use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

use super::recode::{Recoder, Stop};
use crate::model::{Labels, TimestampMs};
use crate::storage::StorageError;
use crate::storage::fanout::merge as merge_samples;
use crate::storage::tsdb::block::{Block, BlockMeta, BlockWriter, ChunkMeta, NewChunk, Ulid};
use crate::storage::tsdb::chunk::Chunk;
use crate::storage::tsdb::disk::Disk;
use crate::storage::tsdb::head::new_chunk;
use crate::vector::RawSamples;

/// Series written before a look at whether to stop.
const PER_LOOK: usize = 1024;

/// Writes the blocks as one into `dir`. `None` when nothing is left of them.
pub(crate) fn compact(
    disk: &Arc<dyn Disk>,
    blocks: &[Arc<Block>],
    dir: &Path,
    now_ms: TimestampMs,
    stop: &Stop,
) -> Result<Option<BlockMeta>, StorageError> {
    let symbols = Symbols::of(blocks)?;
    let mut writer = BlockWriter::create(disk, dir, merged_meta(blocks, now_ms), symbols)?;
    let mut walks = Vec::with_capacity(blocks.len());
    for block in blocks {
        walks.push(Walk::start(block)?);
    }
    let mut recoder = Recoder::default();
    let mut series = 0usize;
    while let Some(labels) = walks.iter().filter_map(|w| w.labels.as_ref()).min().cloned() {
        if series.is_multiple_of(PER_LOOK) {
            stop.check()?;
        }
        series += 1;
        let mut parts: Vec<Part<'_>> = Vec::new();
        for walk in &mut walks {
            if walk.labels.as_ref() == Some(&labels) {
                walk.take_chunks(&mut parts);
                walk.advance()?;
            }
        }
        parts.sort_by_key(|part| part.meta.min_ms);
        let pieces = join(&parts, &mut recoder)?;
        writer.add(&labels, pieces.iter().map(Piece::as_new))?;
    }
    writer.finish(stop)
}

/// What the merged block is.
fn merged_meta(blocks: &[Arc<Block>], now_ms: TimestampMs) -> BlockMeta {
    let metas = || blocks.iter().map(|b| b.meta());
    let min = metas().map(|m| m.min_time).min().unwrap_or_default();
    let max = metas().map(|m| m.max_time).max().unwrap_or_default();
    let mut meta = BlockMeta::new(Ulid::new(now_ms), min, max);
    meta.compaction.level = metas().map(|m| m.compaction.level).max().unwrap_or_default() + 1;
    meta.compaction.sources = metas().flat_map(|m| m.compaction.sources.clone()).collect();
    meta.compaction.sources.sort_unstable();
    meta.compaction.sources.dedup();
    meta.compaction.parents = metas().map(BlockMeta::desc).collect();
    meta
}

/// The series of one block, in order.
struct Walk<'b> {
    block: &'b Block,
    left: std::vec::IntoIter<u64>,
    series: u64,
    /// Of the series; `None` behind the last one.
    labels: Option<Labels>,
    chunks: Vec<ChunkMeta>,
}

impl<'b> Walk<'b> {
    fn start(block: &'b Block) -> Result<Self, StorageError> {
        let left = block.all()?.into_iter();
        let mut walk = Self { block, left, series: 0, labels: None, chunks: Vec::new() };
        walk.advance()?;
        Ok(walk)
    }

    fn advance(&mut self) -> Result<(), StorageError> {
        self.labels = match self.left.next() {
            None => None,
            Some(series) => {
                self.series = series;
                Some(self.block.series(series, &mut self.chunks)?)
            }
        };
        Ok(())
    }

    fn take_chunks(&self, parts: &mut Vec<Part<'b>>) {
        let (block, series) = (self.block, self.series);
        parts.extend(self.chunks.iter().map(|meta| Part { block, series, meta: *meta }));
    }
}

/// A chunk of one of the blocks.
#[derive(Clone, Copy)]
struct Part<'b> {
    block: &'b Block,
    series: u64,
    meta: ChunkMeta,
}

impl Part<'_> {
    /// True when all samples count, and no others.
    fn is_whole(&self) -> bool {
        let (meta, block) = (self.meta, self.block.meta());
        let deleted = self.block.deleted(self.series);
        block.min_time <= meta.min_ms
            && meta.max_ms < block.max_time
            && deleted.is_none_or(|deleted| !deleted.touch(meta.min_ms, meta.max_ms))
    }

    fn read(&self) -> Result<RawSamples, StorageError> {
        let mut samples = RawSamples::default();
        self.block.read_chunks(&[self.meta], i64::MIN, i64::MAX, &mut samples)?;
        if let Some(deleted) = self.block.deleted(self.series) {
            deleted.remove_from(&mut samples);
        }
        Ok(samples)
    }
}

/// A chunk of the merged block.
enum Piece<'b> {
    Stored(NewChunk<'b>),
    Made(Chunk),
}

impl Piece<'_> {
    fn as_new(&self) -> NewChunk<'_> {
        match self {
            Self::Stored(chunk) => *chunk,
            Self::Made(chunk) => new_chunk(chunk),
        }
    }
}

/// Chunks sorted by their beginning, with those that overlap made into new ones.
fn join<'b>(parts: &[Part<'b>], recoder: &mut Recoder) -> Result<Vec<Piece<'b>>, StorageError> {
    let mut pieces = Vec::with_capacity(parts.len());
    let mut rest = parts;
    while let Some(first) = rest.first() {
        let mut end = first.meta.max_ms;
        let mut len = 1;
        while let Some(next) = rest.get(len).filter(|next| next.meta.min_ms <= end) {
            end = end.max(next.meta.max_ms);
            len += 1;
        }
        let (group, after) = rest.split_at(len);
        rest = after;
        if len == 1 && first.is_whole() {
            let ChunkMeta { min_ms, max_ms, reference } = first.meta;
            let chunk = first.block.chunk(reference)?;
            pieces.push(Piece::Stored(NewChunk { min_ms, max_ms, chunk }));
            continue;
        }
        // The same value of a time counts as when the blocks are read side by side.
        let mut by_age = group.to_vec();
        by_age.sort_by_key(|part| part.block.meta().age());
        let mut samples = RawSamples::default();
        for part in by_age {
            samples = merge_samples(&samples, &part.read()?);
        }
        pieces.extend(recoder.encode(&samples).into_iter().map(Piece::Made));
    }
    Ok(pieces)
}

type Texts<'b> = Box<dyn Iterator<Item = Result<&'b str, StorageError>> + 'b>;

/// The symbols of several blocks, sorted, each once.
struct Symbols<'b> {
    sources: Vec<Peekable<Texts<'b>>>,
}

impl<'b> Symbols<'b> {
    fn of(blocks: &'b [Arc<Block>]) -> Result<Self, StorageError> {
        let mut sources = Vec::with_capacity(blocks.len());
        for block in blocks {
            let symbols: Texts<'b> = Box::new(block.symbols()?);
            sources.push(symbols.peekable());
        }
        Ok(Self { sources })
    }
}

impl<'b> Iterator for Symbols<'b> {
    type Item = Result<&'b str, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut least: Option<&'b str> = None;
        for source in &mut self.sources {
            match source.peek() {
                None => {}
                Some(Ok(text)) => least = Some(least.map_or(*text, |least| least.min(*text))),
                Some(Err(_)) => return source.next(),
            }
        }
        let least = least?;
        for source in &mut self.sources {
            source.next_if(|text| matches!(text, Ok(text) if *text == least));
        }
        Some(Ok(least))
    }
}
