//! Looking into a data directory without opening it: no lock is taken and nothing is
//! written, so another process may be using it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::model::{Labels, METRIC_NAME, Matcher};
use crate::storage::StorageError;
use crate::vector::RawSamples;

use super::block::{self, Block, BlockMeta, ChunkMeta, Ulid};
use super::chunk::SAMPLES_PER_CHUNK;
use super::wal::reader::{ReadError, SegmentReader};
use super::wal::record::Record;
use super::wal::segment;

/// Descriptions of all blocks with their bytes, by their beginning.
pub fn blocks(dir: &Path) -> Result<Vec<(BlockMeta, u64)>, StorageError> {
    let opened = open_all(dir)?;
    Ok(opened.iter().map(|block| (block.meta().clone(), block.size_bytes())).collect())
}

fn open_all(dir: &Path) -> Result<Vec<Arc<Block>>, StorageError> {
    let mut blocks = Vec::new();
    for dir in block::list(dir)? {
        blocks.push(Arc::new(Block::open(&dir)?));
    }
    blocks.sort_by_key(|block| (block.meta().min_time, block.meta().ulid));
    Ok(blocks)
}

/// A name and how often or how much.
pub type Count = (String, u64);

/// What a block's labels are like.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    pub meta: BlockMeta,
    pub series: u64,
    pub label_names: usize,
    pub label_pairs: usize,
    /// Labels over all series.
    pub postings: u64,
    /// Series of which part of the block's time is missing, summed up as parts of it.
    pub churn_by_pair: Vec<Count>,
    pub churn_by_name: Vec<Count>,
    pub series_by_pair: Vec<Count>,
    /// Bytes of all values of a label.
    pub bytes_by_name: Vec<Count>,
    pub values_by_name: Vec<Count>,
    pub series_by_metric: Vec<Count>,
    /// Chunks by tenths of how full they are; empty unless asked for.
    pub fullness: Vec<u64>,
}

/// Looks at the labels of a block, the newest one when `id` is `None`. Lists are the
/// `limit` biggest. `None` when there is no such block.
pub fn analyze(
    dir: &Path,
    id: Option<Ulid>,
    matchers: &[Matcher],
    limit: usize,
    extended: bool,
) -> Result<Option<Analysis>, StorageError> {
    let blocks = open_all(dir)?;
    let block = match id {
        Some(id) => blocks.iter().find(|block| block.meta().ulid == id),
        None => blocks.last(),
    };
    block.map(|block| analyze_block(block, matchers, limit, extended)).transpose()
}

fn analyze_block(
    block: &Block,
    matchers: &[Matcher],
    limit: usize,
    extended: bool,
) -> Result<Analysis, StorageError> {
    let mut analysis = Analysis { meta: block.meta().clone(), ..Analysis::default() };
    let span = (block.meta().max_time - block.meta().min_time).max(1);
    let mut pairs: HashMap<(String, String), (u64, i64)> = HashMap::new();
    let mut chunks: Vec<ChunkMeta> = Vec::new();
    let mut fullness = vec![0; 10];
    for series in block.find(matchers)? {
        let labels: Labels = block.series(series, &mut chunks)?;
        analysis.series += 1;
        let covered = match (chunks.first(), chunks.last()) {
            (Some(first), Some(last)) => last.max_ms - first.min_ms,
            _ => 0,
        };
        for (name, value) in labels.iter() {
            analysis.postings += 1;
            let pair = pairs.entry((name.to_owned(), value.to_owned())).or_default();
            pair.0 += 1;
            pair.1 += span - covered;
        }
        for chunk in chunks.iter().filter(|_| extended) {
            let samples = block.chunk(chunk.reference)?.samples().min(SAMPLES_PER_CHUNK.into());
            let tenth = (10 * samples).div_ceil(SAMPLES_PER_CHUNK.into()).max(1);
            fullness[tenth as usize - 1] += 1;
        }
    }
    if extended {
        analysis.fullness = fullness;
    }
    let mut by_name: HashMap<&str, (i64, u64, u64)> = HashMap::new();
    for ((name, value), (series, uncovered)) in &pairs {
        let pair = format!("{name}={value}");
        analysis.churn_by_pair.push((pair.clone(), (uncovered / span).unsigned_abs()));
        analysis.series_by_pair.push((pair, *series));
        if name == METRIC_NAME {
            analysis.series_by_metric.push((value.clone(), *series));
        }
        let all = by_name.entry(name).or_default();
        all.0 += uncovered;
        all.1 += value.len() as u64;
        all.2 += 1;
    }
    analysis.label_pairs = pairs.len();
    analysis.label_names = by_name.len();
    for (name, (uncovered, bytes, values)) in by_name {
        analysis.churn_by_name.push((name.to_owned(), (uncovered / span).unsigned_abs()));
        analysis.bytes_by_name.push((name.to_owned(), bytes));
        analysis.values_by_name.push((name.to_owned(), values));
    }
    for list in [
        &mut analysis.churn_by_pair,
        &mut analysis.churn_by_name,
        &mut analysis.series_by_pair,
        &mut analysis.bytes_by_name,
        &mut analysis.values_by_name,
        &mut analysis.series_by_metric,
    ] {
        list.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        list.truncate(limit);
    }
    Ok(analysis)
}

/// What was read of a data directory without finding anything wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub blocks: u64,
    pub series: u64,
    pub samples: u64,
    pub log_records: u64,
}

/// Reads all that a data directory holds. Every error names the file and the place.
pub fn verify(dir: &Path) -> Result<(Verified, Vec<StorageError>), StorageError> {
    let (mut verified, mut errors) = (Verified::default(), Vec::new());
    for dir in block::list(dir)? {
        verified.blocks += 1;
        match Block::open(&dir) {
            Ok(block) => errors.extend(verify_block(&block, &mut verified).err()),
            Err(e) => errors.push(e),
        }
    }
    let wal = dir.join("wal");
    if wal.is_dir() {
        let mut segments = Vec::new();
        if let Some(checkpoint) = segment::last_checkpoint(&wal)? {
            segments.extend(segment::list(&checkpoint.path)?);
        }
        match segment::list(&wal) {
            Ok(more) => segments.extend(more),
            Err(e) => errors.push(e),
        }
        for segment in &segments {
            errors.extend(verify_segment(segment, &mut verified).err());
        }
    }
    Ok((verified, errors))
}

fn verify_block(block: &Block, verified: &mut Verified) -> Result<(), StorageError> {
    let mut chunks = Vec::new();
    let mut last: Option<Labels> = None;
    let mut samples = 0;
    for series in block.all()? {
        let labels = block.series(series, &mut chunks)?;
        if last.as_ref().is_some_and(|last| *last >= labels) {
            return Err(block.wrong(format!("series {labels} is out of order")));
        }
        if !chunks.is_sorted_by(|a, b| a.max_ms < b.min_ms) {
            return Err(block.wrong(format!("chunks of series {labels} are out of order")));
        }
        for chunk in &chunks {
            let mut raw = RawSamples::default();
            block.read_chunks(std::slice::from_ref(chunk), i64::MIN, i64::MAX, &mut raw)?;
            samples += (raw.ts.len() + raw.hist.len()) as u64;
            let times = raw.ts.iter().chain(raw.hist.iter().map(|(ts, _)| ts));
            if times.into_iter().any(|ts| *ts < chunk.min_ms || *ts > chunk.max_ms) {
                let why = format!("a chunk of series {labels} holds other times than it says");
                return Err(block.wrong(why));
            }
        }
        verified.series += 1;
        last = Some(labels);
    }
    verified.samples += samples;
    if samples != block.meta().stats.num_samples {
        let said = block.meta().stats.num_samples;
        return Err(block.wrong(format!("it holds {samples} samples and says {said}")));
    }
    Ok(())
}

fn verify_segment(segment: &segment::Segment, verified: &mut Verified) -> Result<(), StorageError> {
    let mut reader = SegmentReader::open(segment)?;
    loop {
        let why = match reader.next() {
            Ok(None) => return Ok(()),
            Ok(Some(bytes)) => match Record::decode(bytes) {
                Ok(_) => {
                    verified.log_records += 1;
                    continue;
                }
                Err(e) => e.to_string(),
            },
            Err(ReadError::Damaged(damage)) => damage.to_string(),
            Err(ReadError::Storage(e)) => return Err(e),
        };
        return Err(StorageError::Corrupt {
            what: segment.path.display().to_string(),
            offset: reader.good(),
            why,
        });
    }
}
