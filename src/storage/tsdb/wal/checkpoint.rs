//! Checkpoints: what is still needed of old segments, so that the segments can go.
//!
//! A checkpoint is a log of its own in `checkpoint.N`, which replaces segments 0 to N. It is
//! written to `checkpoint.N.tmp`, synced and renamed; only then are the segments and older
//! checkpoints removed, so a crash at any point leaves one complete log.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::model::metadata::Metadata;
use crate::model::{Clock, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::metrics::LogMetrics;

use super::reader::{ReadError, SegmentReader};
use super::record::{
    Record, encode_exemplars, encode_histograms, encode_metadata, encode_samples, encode_series,
    encode_tombstones,
};
use super::segment::{self, Segment};
use super::{Wal, WalOptions};

/// What a checkpoint keeps.
pub(crate) struct Keep<'a> {
    /// Whether a series is still needed.
    pub(crate) series: &'a dyn Fn(u64) -> bool,
    /// Samples before this time are left out.
    pub(crate) from_ms: TimestampMs,
}

/// Replaces the segments up to `last` by a checkpoint.
pub(crate) fn create(
    dir: &Path,
    last: u32,
    keep: &Keep<'_>,
    options: WalOptions,
    clock: Arc<dyn Clock>,
) -> Result<(), StorageError> {
    let mut sources = Vec::new();
    let previous = segment::last_checkpoint(dir)?;
    let covered = previous.as_ref().map(|c| c.index);
    if let Some(checkpoint) = &previous {
        sources.extend(segment::list(&checkpoint.path)?);
    }
    sources.extend(
        segment::list(dir)?
            .into_iter()
            .filter(|s| s.index <= last && covered.is_none_or(|c| s.index > c)),
    );
    let target = segment::checkpoint_path(dir, last);
    let temporary = target.with_extension(format!("{last:08}.tmp"));
    if temporary.exists() {
        segment::remove_dir(&temporary)?;
    }
    // Its own metrics: the log's describe the log.
    let mut out = Wal::open(&temporary, options, LogMetrics::unseen(), clock)?;
    let mut metadata = BTreeMap::new();
    let mut pending = Pending::default();
    for source in &sources {
        copy(source, keep, &mut pending, &mut out, &mut metadata)?;
    }
    pending.write(&mut out)?;
    write_metadata(&metadata, &mut out)?;
    out.close()?;
    segment::sync_dir(&temporary)?;
    fs::rename(&temporary, &target).map_err(|e| {
        StorageError::io(format!("rename {} to {}", temporary.display(), target.display()), &e)
    })?;
    segment::sync_dir(dir)?;
    remove_obsolete(dir, last)
}

/// Removes the segments and checkpoints that a checkpoint replaces.
pub(crate) fn remove_obsolete(dir: &Path, checkpoint: u32) -> Result<(), StorageError> {
    segment::remove_up_to(dir, checkpoint)?;
    for old in segment::list_checkpoints(dir)? {
        if old.index < checkpoint {
            segment::remove_dir(&old.path)?;
        }
    }
    Ok(())
}

/// Records on their way into the checkpoint: written many at once.
#[derive(Default)]
struct Pending {
    records: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pending {
    const BYTES_MAX: usize = 1 << 20;

    fn add(&mut self, record: Vec<u8>, out: &mut Wal) -> Result<(), StorageError> {
        self.bytes += record.len();
        self.records.push(record);
        if self.bytes > Self::BYTES_MAX { self.write(out) } else { Ok(()) }
    }

    fn write(&mut self, out: &mut Wal) -> Result<(), StorageError> {
        let records: Vec<&[u8]> = self.records.iter().map(Vec::as_slice).collect();
        out.log(&records)?;
        *self = Self::default();
        Ok(())
    }
}

fn copy(
    source: &Segment,
    keep: &Keep<'_>,
    pending: &mut Pending,
    out: &mut Wal,
    metadata: &mut BTreeMap<u64, Metadata>,
) -> Result<(), StorageError> {
    let mut reader = SegmentReader::open(source)?;
    loop {
        let record = match reader.next() {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => Record::decode(record).map_err(|e| e.to_string()),
            Err(ReadError::Damaged(damage)) => Err(damage.to_string()),
            Err(ReadError::Storage(e)) => return Err(e),
        };
        let record = record.map_err(|why| StorageError::Corrupt {
            what: format!("WAL segment {}", source.path.display()),
            offset: reader.good(),
            why,
        })?;
        let mut bytes = Vec::new();
        filter(record, keep, metadata, &mut bytes);
        if !bytes.is_empty() {
            pending.add(bytes, out)?;
        }
    }
}

/// Encodes what is kept of a record; nothing when nothing is.
fn filter(
    record: Record,
    keep: &Keep<'_>,
    metadata: &mut BTreeMap<u64, Metadata>,
    out: &mut Vec<u8>,
) {
    match record {
        Record::Series(mut series) => {
            series.retain(|(r, _)| (keep.series)(*r));
            if !series.is_empty() {
                encode_series(series.iter().map(|(r, l)| (*r, l)), out);
            }
        }
        Record::Samples(samples) => {
            encode_samples(samples.into_iter().filter(|s| s.ts >= keep.from_ms), out);
        }
        Record::Histograms(mut histograms) => {
            histograms.retain(|h| h.ts >= keep.from_ms);
            // Integer histograms come back as float records.
            encode_histograms(&histograms, out);
        }
        Record::Tombstones(mut stones) => {
            stones.retain(|s| s.max_ms >= keep.from_ms && (keep.series)(s.series));
            if !stones.is_empty() {
                encode_tombstones(&stones, out);
            }
        }
        Record::Exemplars(mut exemplars) => {
            exemplars.retain(|e| e.ts >= keep.from_ms);
            encode_exemplars(&exemplars, out);
        }
        Record::Metadata(all) => {
            metadata.extend(all.into_iter().filter(|(r, _)| (keep.series)(*r)));
        }
        // Those are in the log of samples that came out of order, which has no checkpoints.
        Record::Markers(_) | Record::Other => {}
    }
}

fn write_metadata(metadata: &BTreeMap<u64, Metadata>, out: &mut Wal) -> Result<(), StorageError> {
    if metadata.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    encode_metadata(metadata.iter().map(|(r, m)| (*r, m)), &mut bytes);
    out.log(&[&bytes])
}
