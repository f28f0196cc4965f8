//! The write-ahead log, byte for byte Prometheus' own.
//!
//! ```text
//! wal/00000000, 00000001, ...          segments of 128 MiB, consecutive
//! wal/checkpoint.00000007/00000000 ... what is still needed of segments 0 to 7
//!
//! segment   pages of 32 KiB; the last one of the newest segment may be short
//! page      fragments, then zeros when fewer than 7 bytes are left or the segment ends
//! fragment  ┌─────────┬───────────┬──────────────┬───────────────────┐
//!           │ type 1B │ length 2B │ CRC32C 4B    │ bytes             │   big-endian
//!           └─────────┴───────────┴──────────────┴───────────────────┘
//! type      low 3 bits: 0 rest of page is empty, 1 full, 2 first, 3 middle, 4 last
//!           bit 3: the record is snappy-compressed, bit 4: zstd; the same in all its fragments
//! ```
//! A record is one full fragment or first, middle.., last; it never spans segments. The
//! checksum is of the fragment's bytes as stored. Compression is of the whole record and
//! used only when it saves something. What a record holds: `record`.
//!
//! Durability: a commit is one `write(2)`; once it returned, the data survives the death of
//! the process, not that of the machine. `fsync` happens when a segment is complete, when
//! the log is closed, and, with [`WalSync::EachCommit`], before a commit returns. A torn tail is cut off when
//! the log is next opened. A failed write is undone by truncating the file to the state
//! before the batch; until that succeeds, further batches are refused.

pub(crate) mod checkpoint;
pub(crate) mod reader;
pub(crate) mod record;
mod record_histogram;
pub(crate) mod segment;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::model::Clock;
use crate::storage::StorageError;
use crate::telemetry::Summary;

use super::disk::{Disk, DiskFile, FileSystem};
use super::metrics::LogMetrics;

pub(crate) const PAGE_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
const SNAPPY: u8 = 1 << 3;
const ZSTD: u8 = 1 << 4;

/// How records are compressed (`--storage.tsdb.wal-compression-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalCompression {
    None,
    #[default]
    Snappy,
    Zstd,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalSync {
    /// The operating system has the data: it survives a crash of the process. As Prometheus.
    #[default]
    Never,
    /// The disk has the data: it survives a power cut. Each commit costs a `fdatasync`.
    EachCommit,
}

/// How the log is written.
#[derive(Clone, Debug)]
pub(crate) struct WalOptions {
    pub(crate) segment_bytes: u64,
    pub(crate) compression: WalCompression,
    pub(crate) sync: WalSync,
    pub(crate) disk: Arc<dyn Disk>,
}

/// The log's writing end. Not shared: the head's commit lock guards it.
pub(crate) struct Wal {
    dir: PathBuf,
    options: WalOptions,
    metrics: LogMetrics,
    clock: Arc<dyn Clock>,
    file: Box<dyn DiskFile>,
    segment: u32,
    /// Bytes of the segment that are whole batches.
    len: u64,
    /// Where the last batch begins.
    batch_start: u64,
    /// The file may be longer than `len` after a failed write.
    torn: bool,
    batch: Vec<u8>,
    packed: Vec<u8>,
    snappy: snap::raw::Encoder,
    syncing: Option<JoinHandle<()>>,
}

impl Wal {
    /// Starts a new segment after the existing ones, as Prometheus does on every start.
    pub(crate) fn open(
        dir: &Path,
        options: WalOptions,
        metrics: LogMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StorageError> {
        fs::create_dir_all(dir)
            .map_err(|e| StorageError::io(format!("create directory {}", dir.display()), &e))?;
        let next = match segment::list(dir)?.last() {
            Some(last) if last.bytes == 0 => last.index,
            Some(last) => last.index + 1,
            // After a checkpoint all earlier numbers are taken.
            None => segment::last_checkpoint(dir)?.map_or(0, |c| c.index + 1),
        };
        let file = create_segment(&options, dir, next)?;
        metrics.segment.set(i64::from(next));
        Ok(Self {
            dir: dir.to_owned(),
            options,
            metrics,
            clock,
            file,
            segment: next,
            len: 0,
            batch_start: 0,
            torn: false,
            batch: Vec::new(),
            packed: Vec::new(),
            snappy: snap::raw::Encoder::new(),
            syncing: None,
        })
    }

    /// Number of the segment being written.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// Bytes in the segment being written.
    pub(crate) fn segment_len(&self) -> u64 {
        self.len
    }

    /// Writes records: all of them or, when this returns an error, none.
    pub(crate) fn log(&mut self, records: &[&[u8]]) -> Result<(), StorageError> {
        let result = self.try_log(records);
        if result.is_err() {
            self.metrics.writes_failed.inc();
        }
        result
    }

    fn try_log(&mut self, records: &[&[u8]]) -> Result<(), StorageError> {
        self.undo_torn_write()?;
        let upper_bound: usize =
            records.iter().map(|r| r.len() + (r.len() / PAGE_BYTES + 2) * HEADER_BYTES).sum();
        if self.len > 0 && self.len + upper_bound as u64 > self.options.segment_bytes {
            self.cut()?;
        }
        self.batch.clear();
        for record in records {
            let (bytes, flag) =
                pack(record, self.options.compression, &mut self.snappy, &mut self.packed)?;
            append_fragments(&mut self.batch, self.len, bytes, flag);
        }
        self.batch_start = self.len;
        let batch = std::mem::take(&mut self.batch);
        let written = self.append(&batch);
        self.batch = batch;
        written?;
        if self.options.sync == WalSync::EachCommit {
            // The data is in the log whether or not this succeeds; a batch that is not
            // durable as promised is taken back like one that was not written.
            if let Err(e) = self.sync() {
                self.take_back();
                return Err(e);
            }
        }
        Ok(())
    }

    /// Undoes the last batch, which was written.
    pub(crate) fn take_back(&mut self) {
        self.len = self.batch_start;
        self.torn = true;
        // Best effort now; the next batch insists.
        let _ = self.undo_torn_write();
    }

    /// Completes the segment and starts the next one.
    pub(crate) fn cut(&mut self) -> Result<(), StorageError> {
        self.undo_torn_write()?;
        let rest = self.len as usize % PAGE_BYTES;
        if rest > 0 {
            self.append(&vec![0; PAGE_BYTES - rest])?;
        }
        let file = create_segment(&self.options, &self.dir, self.segment + 1)?;
        let full = std::mem::replace(&mut self.file, file);
        self.segment += 1;
        self.len = 0;
        self.metrics.segment.set(i64::from(self.segment));
        self.sync_in_background(full);
        Ok(())
    }

    /// Asks the disk for everything written so far.
    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        let start = self.clock.monotonic_ns();
        let result = self.file.sync();
        observe_since(&self.metrics.fsync_seconds, self.clock.as_ref(), start);
        result.map_err(|e| StorageError::io(format!("sync {}", self.path().display()), &e))
    }

    /// Syncs and waits for syncs under way.
    pub(crate) fn close(&mut self) -> Result<(), StorageError> {
        self.undo_torn_write()?;
        self.wait_for_sync();
        self.sync()
    }

    fn path(&self) -> PathBuf {
        segment::path(&self.dir, self.segment)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        if let Err(e) = self.file.write_all(bytes) {
            self.torn = true;
            // Best effort now; the next batch insists.
            let _ = self.undo_torn_write();
            return Err(StorageError::io(
                format!("write {} bytes to WAL segment {}", bytes.len(), self.path().display()),
                &e,
            ));
        }
        let pages = |len: u64| len / PAGE_BYTES as u64;
        let after = self.len + bytes.len() as u64;
        self.metrics.completed_pages.inc_by(pages(after) - pages(self.len));
        self.metrics.page_flushes.inc_by(pages(after) - pages(self.len) + 1);
        self.len = after;
        Ok(())
    }

    fn undo_torn_write(&mut self) -> Result<(), StorageError> {
        if self.torn {
            self.file.set_len(self.len).map_err(|e| {
                let what = format!("undo a failed write to {}", self.path().display());
                StorageError::io(what, &e)
            })?;
            self.torn = false;
        }
        Ok(())
    }

    fn sync_in_background(&mut self, mut full: Box<dyn DiskFile>) {
        self.wait_for_sync();
        let (metrics, clock) = (self.metrics.clone(), Arc::clone(&self.clock));
        let sync = move || {
            let start = clock.monotonic_ns();
            if let Err(e) = full.sync() {
                tracing::error!(error = %e, "sync of a completed WAL segment failed");
            }
            observe_since(&metrics.fsync_seconds, clock.as_ref(), start);
        };
        let thread = std::thread::Builder::new().name("wal-sync".to_owned()).spawn(sync);
        match thread {
            Ok(handle) => self.syncing = Some(handle),
            Err(e) => tracing::error!(error = %e, "no thread to sync a completed WAL segment"),
        }
    }

    fn wait_for_sync(&mut self) {
        if let Some(handle) = self.syncing.take()
            && handle.join().is_err()
        {
            tracing::error!("the thread that synced a WAL segment failed");
        }
    }
}

/// Notes how long something took that began at `start_ns` of the monotonic clock.
pub(crate) fn observe_since(summary: &Summary, clock: &dyn Clock, start_ns: u64) {
    let elapsed = clock.monotonic_ns().saturating_sub(start_ns);
    summary.observe(elapsed as f64 / 1e9);
}

fn create_segment(
    options: &WalOptions,
    dir: &Path,
    index: u32,
) -> Result<Box<dyn DiskFile>, StorageError> {
    let path = segment::path(dir, index);
    let file = options
        .disk
        .open(&path)
        .map_err(|e| StorageError::io(format!("create WAL segment {}", path.display()), &e))?;
    // Data that was synced is of no use in a file whose name was not.
    segment::sync_dir(dir)?;
    Ok(file)
}

/// Compresses a record if that makes it smaller, and tells which flag its fragments get.
fn pack<'a>(
    record: &'a [u8],
    compression: WalCompression,
    snappy: &mut snap::raw::Encoder,
    packed: &'a mut Vec<u8>,
) -> Result<(&'a [u8], u8), StorageError> {
    let failed = |e: String| StorageError::Io { what: "compress a WAL record".into(), cause: e };
    let flag = match compression {
        WalCompression::None => return Ok((record, 0)),
        WalCompression::Snappy => {
            packed.resize(snap::raw::max_compress_len(record.len()), 0);
            let len = snappy.compress(record, packed).map_err(|e| failed(e.to_string()))?;
            packed.truncate(len);
            SNAPPY
        }
        WalCompression::Zstd => {
            *packed = zstd::bulk::compress(record, 1).map_err(|e| failed(e.to_string()))?;
            ZSTD
        }
    };
    Ok(if packed.len() < record.len() { (packed, flag) } else { (record, 0) })
}

/// Appends records to a segment of `len` bytes, uncompressed.
pub(crate) fn append_to_segment(path: &Path, len: u64, records: &[Vec<u8>]) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for record in records {
        append_fragments(&mut bytes, len, record, 0);
    }
    let mut file = FileSystem.open(path)?;
    file.write_all(&bytes)?;
    file.sync()
}

/// Lays a record into pages. `base` is where `out` will stand in its segment.
fn append_fragments(out: &mut Vec<u8>, base: u64, record: &[u8], flag: u8) {
    let mut rest = record;
    let mut first = true;
    loop {
        let in_page = (base as usize + out.len()) % PAGE_BYTES;
        let free = PAGE_BYTES - in_page;
        if free < HEADER_BYTES {
            out.resize(out.len() + free, 0);
            continue;
        }
        let (part, after) = rest.split_at(rest.len().min(free - HEADER_BYTES));
        let kind = match (first, after.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => 4,
        };
        out.push(kind | flag);
        out.extend_from_slice(&(part.len() as u16).to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(part).to_be_bytes());
        out.extend_from_slice(part);
        if after.is_empty() {
            return;
        }
        rest = after;
        first = false;
    }
}

#[cfg(test)]
mod tests;
