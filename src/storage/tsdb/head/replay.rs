//! Rebuilding the head from the log.
//!
//! What a series record names under several references is one series: it left the head and
//! came back. Samples are taken by the rules of a live append, so what was refused then is
//! refused again.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use crate::model::exemplar::Exemplar;
use crate::model::{METRIC_NAME, TimestampMs};
use crate::storage::StorageError;
use crate::storage::tsdb::encoding::DecodeError;
use crate::storage::tsdb::wal::checkpoint::remove_obsolete;
use crate::storage::tsdb::wal::reader::{Damage, ReadError, SegmentReader};
use crate::storage::tsdb::wal::record::{Record, RefExemplar, RefHistogram, RefSample};
use crate::storage::tsdb::wal::segment::{self, Segment};

use super::Head;
use super::series::{MemSeries, Outcome, SampleValue};

/// What replay found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Newest sample of each segment.
    pub(super) segment_max_ms: std::collections::BTreeMap<u32, TimestampMs>,
    /// References that stand for a series known under another one.
    pub(super) aliases: Vec<u64>,
    samples: u64,
    /// Entries whose series record is missing, and records of unknown type.
    unknown_refs: u64,
    unknown_records: u64,
}

struct Replayer<'a> {
    head: &'a Head,
    series: HashMap<u64, Arc<MemSeries>, FxBuildHasher>,
    found: Replayed,
    chunks: u64,
    newest_ms: TimestampMs,
}

impl Head {
    /// Reads the log into the empty head. Damage in the last segment is a write that a
    /// crash tore: it is cut off. Damage elsewhere is repaired likewise, and the segments
    /// after it, which build on what is lost, are set aside as `NNNNNNNN.corrupt`.
    pub(super) fn replay(&self) -> Result<Replayed, StorageError> {
        let dir = &self.wal_dir;
        let mut replayer = Replayer {
            head: self,
            series: HashMap::default(),
            found: Replayed::default(),
            chunks: 0,
            newest_ms: TimestampMs::MIN,
        };
        let read_only = self.options.read_only;
        if read_only && !dir.exists() {
            return Ok(Replayed::default());
        }
        if !read_only {
            segment::remove_temporary(dir)?;
        }
        let checkpoint = segment::last_checkpoint(dir)?;
        if let Some(checkpoint) = &checkpoint {
            for source in segment::list(&checkpoint.path)? {
                if let Some((offset, damage)) = replayer.read(&source)? {
                    return Err(StorageError::Corrupt {
                        what: format!("WAL checkpoint {}", source.path.display()),
                        offset,
                        why: format!("{damage}; restore it, or move it away to start without it"),
                    });
                }
            }
            // A crash may have come between the checkpoint and the removal of what it replaces.
            if !read_only {
                remove_obsolete(dir, checkpoint.index)?;
            }
        }
        let segments = segment::list(dir)?;
        for (i, source) in segments.iter().enumerate() {
            replayer.newest_ms = TimestampMs::MIN;
            let damage = replayer.read(source)?;
            if replayer.newest_ms > TimestampMs::MIN {
                replayer.found.segment_max_ms.insert(source.index, replayer.newest_ms);
            }
            if let Some((offset, damage)) = damage {
                self.metrics.wal_corruptions.inc();
                if read_only {
                    // The last segment may be growing just now.
                    tracing::warn!(segment = %source.path.display(), offset, reason = %damage, "the write-ahead log is read up to here");
                } else {
                    repair(source, offset, &damage, &segments[i + 1..])?;
                }
                break;
            }
        }
        self.metrics.head_chunks.set(replayer.chunks as i64);
        self.metrics.head_chunks_created.inc_by(replayer.chunks);
        let mut found = replayer.found;
        self.forget_empty(&mut found);
        self.metrics.head_series_not_found.inc_by(found.unknown_refs);
        if found.unknown_refs > 0 || found.unknown_records > 0 {
            tracing::warn!(
                references = found.unknown_refs,
                records = found.unknown_records,
                "the write-ahead log holds entries of unknown series or of an unknown type; they were skipped"
            );
        }
        tracing::info!(
            series = self.series.len(),
            samples = found.samples,
            "write-ahead log replayed"
        );
        Ok(found)
    }
}

impl Head {
    /// Drops series of which blocks have all samples. Segments may name them still.
    fn forget_empty(&self, found: &mut Replayed) {
        let mut empty = Vec::new();
        self.series.for_each(|series| {
            let (oldest, newest) = series.bounds();
            if oldest > newest {
                empty.push(Arc::clone(series));
            }
        });
        self.series.remove(&empty);
        found.aliases.extend(empty.iter().map(|series| series.id));
        self.metrics.head_series.dec_by(empty.len() as i64);
        self.metrics.head_series_removed.inc_by(empty.len() as u64);
    }
}

impl Replayer<'_> {
    /// Reads a segment up to its end or to damage, whose offset is returned.
    fn read(&mut self, source: &Segment) -> Result<Option<(u64, Damage)>, StorageError> {
        let mut reader = SegmentReader::open(source)?;
        loop {
            let damage = match reader.next() {
                Ok(None) => return Ok(None),
                Ok(Some(bytes)) => match Record::decode(bytes) {
                    Ok(record) => {
                        self.apply(record);
                        continue;
                    }
                    Err(DecodeError::UnknownType(_)) => {
                        self.found.unknown_records += 1;
                        continue;
                    }
                    Err(e) => Damage::Record(e.to_string()),
                },
                Err(ReadError::Damaged(damage)) => damage,
                Err(ReadError::Storage(e)) => return Err(e),
            };
            return Ok(Some((reader.good(), damage)));
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Series(all) => {
                for (id, labels) in all {
                    // A series without labels cannot be written; one in the log is ignored.
                    if !labels.is_empty() && !self.series.contains_key(&id) {
                        self.add_series(id, &labels);
                    }
                }
            }
            Record::Samples(all) => {
                for RefSample { series, ts, value } in all {
                    self.add_sample(series, ts, &SampleValue::Float(value));
                }
            }
            Record::Histograms(all) => {
                for RefHistogram { series, ts, value } in all {
                    self.add_sample(series, ts, &SampleValue::Histogram(value));
                }
            }
            Record::Tombstones(all) => {
                for stone in all {
                    match self.series.get(&stone.series) {
                        Some(series) => series.delete(stone.min_ms, stone.max_ms),
                        None => self.found.unknown_refs += 1,
                    }
                }
            }
            Record::Metadata(all) => {
                for (id, metadata) in all {
                    let Some(series) = self.series.get(&id) else { continue };
                    if let Some(name) = series.labels.get(METRIC_NAME) {
                        let family = metadata.kind.family(name);
                        self.head.metadata.write().insert(family.into(), metadata);
                    }
                }
            }
            Record::Exemplars(all) => {
                for RefExemplar { series, ts, value, labels } in all {
                    let Some(series) = self.series.get(&series) else { continue };
                    // The log does not say whether the time is its own.
                    let exemplar = Exemplar { labels, value, ts, has_ts: true };
                    self.head.exemplars().add(&series.labels, exemplar);
                }
            }
            Record::Other => {}
        }
    }

    fn add_series(&mut self, id: u64, labels: &crate::model::Labels) {
        let (series, created) = self.head.series.get_or_create(labels, Some(id));
        if created {
            self.head.metrics.head_series.inc();
            self.head.metrics.head_series_created.inc();
        } else {
            self.head.series.reserve_id(id);
            self.found.aliases.push(id);
        }
        series.set_logged();
        self.series.insert(id, series);
    }

    fn add_sample(&mut self, id: u64, ts: TimestampMs, value: &SampleValue) {
        // A block has it: the log is only truncated some time after.
        if ts < self.head.options.min_valid_ms {
            return;
        }
        let Some(series) = self.series.get(&id) else {
            self.found.unknown_refs += 1;
            return;
        };
        match series.append(ts, value, 0, 0, self.head.options.chunk_range_ms) {
            Outcome::AppendedToNewChunk => self.chunks += 1,
            Outcome::Appended => {}
            Outcome::Duplicate | Outcome::OutOfOrder | Outcome::Gone => return,
        }
        self.found.samples += 1;
        self.newest_ms = self.newest_ms.max(ts);
        self.head.widen(ts);
    }
}

fn repair(
    source: &Segment,
    offset: u64,
    damage: &Damage,
    later: &[Segment],
) -> Result<(), StorageError> {
    tracing::error!(
        segment = %source.path.display(),
        offset,
        dropped_bytes = source.bytes.saturating_sub(offset),
        reason = %damage,
        "the write-ahead log is damaged; what follows in this segment is dropped"
    );
    OpenOptions::new().write(true).open(&source.path).and_then(|f| f.set_len(offset)).map_err(
        |e| StorageError::io(format!("cut damaged WAL segment {}", source.path.display()), &e),
    )?;
    for segment in later {
        let aside = set_aside_path(&segment.path);
        tracing::error!(
            segment = %segment.path.display(),
            bytes = segment.bytes,
            kept_as = %aside.display(),
            "a segment after the damage is not read; delete it when it is not needed"
        );
        std::fs::rename(&segment.path, &aside).map_err(|e| {
            StorageError::io(format!("set aside WAL segment {}", segment.path.display()), &e)
        })?;
    }
    Ok(())
}

fn set_aside_path(path: &Path) -> PathBuf {
    path.with_extension("corrupt")
}
