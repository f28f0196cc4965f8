//! `chunk_snapshot.SSSSSS.OOOOOOOOOO/`: what the head holds beside its chunk files when it
//! is closed, byte for byte Prometheus' own, so that a start need not read the log up to
//! segment S, offset O. It is a log of its own:
//!
//! ```text
//! series (1)      ref 8B BE, label count uvarint, { name str, value str }, 8 zero bytes,
//!                 0, or 1 and: first time 8B BE, last time 8B BE, encoding 1B,
//!                 chunk (length uvarint, bytes), and what Prometheus needs to append to it:
//!                 for floats the last four samples (only the last value counts), for
//!                 histograms the last one
//! tombstones (2)  length uvarint, 1, { ref uvarint, min varint, max varint }*
//! exemplars (3)   as in the log
//! ```
//! Beside its segments lies, of ours, the file `last-series`: the highest reference that was
//! ever given out. The log that is not read may name series that are gone by now, and none
//! of their references must be given out again. Where the file is absent the log is searched
//! for them.
//!
//! Whoever finds one it cannot use reads the log instead.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use crate::model::{Labels, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::chunk::{Encoding, read_chunk};
use crate::storage::tsdb::encoding::{Cursor, DecodeError, Put};
use crate::storage::tsdb::metrics::LogMetrics;
use crate::storage::tsdb::wal::reader::{ReadError, SegmentReader};
use crate::storage::tsdb::wal::record::{
    Record, RefExemplar, RefTombstone, decode_labels, encode_exemplars, encode_labels,
    encode_last_histogram,
};
use crate::storage::tsdb::wal::segment::Segment;
use crate::storage::tsdb::wal::{Wal, segment};
use crate::vector::RawSamples;

use super::Head;
use super::series::MemSeries;

const PREFIX: &str = "chunk_snapshot.";
const LAST_SERIES: &str = "last-series";
const SERIES: u8 = 1;
const TOMBSTONES: u8 = 2;
const EXEMPLARS: u8 = 3;
/// Version of the tombstones inside.
const TOMBSTONES_VERSION: u8 = 1;
/// Bytes of records written at once.
const BATCH_BYTES: usize = 1 << 20;
const EXEMPLARS_PER_RECORD: usize = 10_000;

/// What a snapshot holds.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Where the log goes on.
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// The highest reference so far, when it is known.
    pub(super) last_series: Option<u64>,
    /// Reference, labels, and the samples of the chunk that was being written.
    pub(super) series: Vec<(u64, Labels, RawSamples)>,
    pub(super) tombstones: Vec<RefTombstone>,
    pub(super) exemplars: Vec<RefExemplar>,
}

/// Snapshots of a data directory: segment, offset, path; the newest last.
fn list(dir: &Path) -> Result<Vec<(u32, u64, PathBuf)>, StorageError> {
    let failed = |e: &std::io::Error| StorageError::io(format!("list {}", dir.display()), e);
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let name = entry.file_name();
        let place = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('.'));
        let Some((segment, offset)) = place else { continue };
        if let (Ok(segment), Ok(offset)) = (segment.parse(), offset.parse()) {
            all.push((segment, offset, entry.path()));
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// Removes all snapshots: once something is appended, none is what the head holds.
pub(super) fn remove_all(dir: &Path) -> Result<(), StorageError> {
    let failed = |e: &std::io::Error| StorageError::io(format!("list {}", dir.display()), e);
    for entry in fs::read_dir(dir).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            segment::remove_dir(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads the newest snapshot, all of it or nothing.
pub(super) fn load(dir: &Path) -> Result<Option<Snapshot>, StorageError> {
    let Some((segment, offset, path)) = list(dir)?.pop() else { return Ok(None) };
    let last_series = fs::read_to_string(path.join(LAST_SERIES)).ok();
    let last_series = last_series.and_then(|text| text.trim().parse().ok());
    let mut snapshot = Snapshot { segment, offset, last_series, ..Snapshot::default() };
    for source in segment::list(&path)? {
        let mut reader = SegmentReader::open(&source)?;
        loop {
            let read = match reader.next() {
                Ok(None) => break,
                Ok(Some(record)) => snapshot.read(record).map_err(|e| e.to_string()),
                Err(ReadError::Damaged(damage)) => Err(damage.to_string()),
                Err(ReadError::Storage(e)) => return Err(e),
            };
            read.map_err(|why| StorageError::Corrupt {
                what: format!("snapshot {}", source.path.display()),
                offset: reader.good(),
                why,
            })?;
        }
    }
    Ok(Some(snapshot))
}

/// The highest reference that series of some segments are named by; `None` where one is
/// damaged.
pub(super) fn last_series_of(sources: &[Segment]) -> Result<Option<u64>, StorageError> {
    let mut last = 0;
    for source in sources {
        let mut reader = SegmentReader::open(source)?;
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(record)) if record.first() == Some(&SERIES) => {
                    let Ok(Record::Series(series)) = Record::decode(record) else {
                        return Ok(None);
                    };
                    last = series.iter().map(|(id, _)| *id).fold(last, u64::max);
                }
                Ok(Some(_)) => {}
                Err(ReadError::Damaged(_)) => return Ok(None),
                Err(ReadError::Storage(e)) => return Err(e),
            }
        }
    }
    Ok(Some(last))
}

impl Snapshot {
    fn read(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let mut c = Cursor::new(record);
        match c.byte()? {
            SERIES => self.series.push(read_series(&mut c)?),
            TOMBSTONES => {
                let len = c.count(1)?;
                let mut c = Cursor::new(c.take(len)?);
                if c.byte()? != TOMBSTONES_VERSION {
                    return Err(DecodeError::UnknownType(TOMBSTONES));
                }
                while !c.is_empty() {
                    let (series, min_ms, max_ms) = (c.uvarint()?, c.varint()?, c.varint()?);
                    self.tombstones.push(RefTombstone { series, min_ms, max_ms });
                }
            }
            EXEMPLARS => {
                // The type of the log's record, which is written the same.
                let mut bytes = record.to_vec();
                bytes[0] = 4;
                if let Record::Exemplars(all) = Record::decode(&bytes)? {
                    self.exemplars.extend(all);
                }
            }
            kind => return Err(DecodeError::UnknownType(kind)),
        }
        Ok(())
    }
}

fn read_series(c: &mut Cursor<'_>) -> Result<(u64, Labels, RawSamples), DecodeError> {
    let (series, labels) = (c.be64()?, decode_labels(c)?);
    c.be64()?;
    let mut samples = RawSamples::default();
    if c.uvarint()? == 1 {
        c.be64()?;
        c.be64()?;
        let number = c.byte()?;
        let encoding = Encoding::of(number).ok_or(DecodeError::UnknownType(number))?;
        let len = c.count(1)?;
        read_chunk(encoding, c.take(len)?, TimestampMs::MIN, TimestampMs::MAX, &mut samples)
            .map_err(|_| DecodeError::Short)?;
    }
    Ok((series, labels, samples))
}

/// Records on their way into the snapshot.
struct Batch {
    out: Wal,
    records: Vec<Vec<u8>>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, record: Vec<u8>) -> Result<(), StorageError> {
        self.bytes += record.len();
        self.records.push(record);
        if self.bytes >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StorageError> {
        let records: Vec<&[u8]> = self.records.iter().map(Vec::as_slice).collect();
        self.out.log(&records)?;
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }
}

impl Head {
    /// Writes a snapshot of the head, nothing of which changes meanwhile, for a log that
    /// goes on at the beginning of a segment. `aliases` are further references of series.
    pub(super) fn write_snapshot(
        &self,
        segment: u32,
        aliases: &HashMap<u64, Arc<MemSeries>, FxBuildHasher>,
    ) -> Result<(), StorageError> {
        let (dir, options) = (&self.dir, self.options.wal.clone());
        let target = dir.join(format!("{PREFIX}{segment:06}.{:010}", 0));
        let temporary = target.with_extension("tmp");
        if temporary.exists() {
            segment::remove_dir(&temporary)?;
        }
        let out = Wal::open(&temporary, options, LogMetrics::unseen(), Arc::clone(&self.clock))?;
        let mut batch = Batch { out, records: Vec::new(), bytes: 0 };
        let mut stones = Vec::new();
        let mut all = Vec::with_capacity(self.series.len());
        self.series.for_each(|series| all.push(Arc::clone(series)));
        for series in &all {
            let mut record = vec![SERIES];
            record.put_be64(series.id);
            encode_labels(&series.labels, &mut record);
            record.put_be64(0);
            series.write_open(&mut record);
            batch.add(record)?;
            let stone = |(min_ms, max_ms)| RefTombstone { series: series.id, min_ms, max_ms };
            stones.extend(series.deleted().iter().flat_map(|d| d.iter().map(stone)));
        }
        for (id, series) in aliases {
            let mut record = vec![SERIES];
            record.put_be64(*id);
            encode_labels(&series.labels, &mut record);
            record.put_be64(0);
            record.put_uvarint(0);
            batch.add(record)?;
        }
        if !stones.is_empty() {
            let mut content = vec![TOMBSTONES_VERSION];
            for stone in &stones {
                content.put_uvarint(stone.series);
                content.put_varint(stone.min_ms);
                content.put_varint(stone.max_ms);
            }
            let mut record = vec![TOMBSTONES];
            record.put_uvarint(content.len() as u64);
            record.extend(content);
            batch.add(record)?;
        }
        let exemplars = self.known_exemplars();
        for part in exemplars.chunks(EXEMPLARS_PER_RECORD) {
            let mut record = Vec::new();
            encode_exemplars(part, &mut record);
            record[0] = EXEMPLARS;
            batch.add(record)?;
        }
        batch.write()?;
        batch.out.close()?;
        let path = temporary.join(LAST_SERIES);
        let text = self.series.last_id().to_string();
        fs::File::create(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(|e| StorageError::io(format!("write {}", path.display()), &e))?;
        segment::sync_dir(&temporary)?;
        if target.exists() {
            segment::remove_dir(&target)?;
        }
        fs::rename(&temporary, &target)
            .map_err(|e| StorageError::io(format!("rename {}", temporary.display()), &e))?;
        segment::sync_dir(dir)
    }

    /// The exemplars that are kept, of series that are here.
    fn known_exemplars(&self) -> Vec<RefExemplar> {
        let everything = crate::storage::LabelRequest {
            from_ms: TimestampMs::MIN,
            to_ms: TimestampMs::MAX,
            ..Default::default()
        };
        let mut all = Vec::new();
        for found in self.exemplars.select(&everything) {
            let Some(series) = self.series.get(&found.labels) else { continue };
            all.extend(found.exemplars.into_iter().map(|e| RefExemplar {
                series: series.id,
                ts: e.ts,
                value: e.value,
                labels: e.labels,
            }));
        }
        all.sort_by_key(|e| e.ts);
        all
    }
}

/// Appends what Prometheus needs to append to a chunk of histograms.
pub(super) fn put_last(samples: &RawSamples, encoding: Encoding, out: &mut Vec<u8>) {
    match samples.hist.last() {
        Some((_, last)) => encode_last_histogram(last, encoding == Encoding::Histogram, out),
        None => {
            // The times and the three values before it are not used by anyone any more.
            (0..7).for_each(|_| out.put_be64(0));
            out.put_f64(samples.vs.last().copied().unwrap_or_default());
        }
    }
}
