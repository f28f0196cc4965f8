//! The embedded time-series database.
//!
//! ```text
//! <data directory>/
//!   lock      held while a process has the directory open
//!   wal/      write-ahead log in Prometheus' format, see `wal`
//! ```
//! Samples live in memory, compressed, until retention drops them; the log brings them back
//! after a restart. A directory Prometheus wrote opens as far as its log reaches, and
//! Prometheus opens what is written here. The store knows nothing of queries, scrapes or
//! async run times, and takes the time only from the `Clock` it is given.
//!
//! Someone must call [`Tsdb::maintain`] about once a minute on a thread that may block:
//! it is what keeps memory and disk bounded.

#[allow(dead_code, unused_imports, reason = "nothing cuts blocks yet")]
mod block;
mod chunk;
mod encoding;
mod head;
mod index;
#[allow(dead_code, reason = "nothing cuts blocks yet")]
mod intervals;
mod lock;
mod metrics;
mod validate;
mod wal;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::model::metadata::Metadata;
use crate::model::{Clock, TimestampMs};

use super::{
    Appender, LabelAnswer, LabelRequest, SelectRequest, SeriesSet, Sink, Source, StorageError,
};

pub use head::TsdbStats;
pub use index::PostingsStats;
pub use metrics::TsdbMetrics;
pub use wal::{WalCompression, WalSync};

use head::{Head, HeadAppender, HeadOptions};
use lock::DirLock;
use wal::WalOptions;

/// How the store works. The defaults are Prometheus'.
#[derive(Clone, Debug)]
pub struct TsdbOptions {
    /// `--storage.tsdb.retention.time`: samples older than the newest by more go.
    pub retention_ms: i64,
    /// Chunks do not cross multiples of this; samples more than half of it behind the
    /// newest are out of bounds.
    pub chunk_range_ms: i64,
    /// `--storage.tsdb.wal-segment-size`, in bytes.
    pub wal_segment_bytes: u64,
    /// `--storage.tsdb.wal-compression-type`.
    pub wal_compression: WalCompression,
    /// What a commit waits for.
    pub wal_sync: WalSync,
    /// Where to count; the default is seen by nobody.
    pub metrics: TsdbMetrics,
}

impl Default for TsdbOptions {
    fn default() -> Self {
        Self {
            retention_ms: 15 * 24 * 3600 * 1000,
            chunk_range_ms: 2 * 3600 * 1000,
            wal_segment_bytes: 128 << 20,
            wal_compression: WalCompression::default(),
            wal_sync: WalSync::default(),
            metrics: TsdbMetrics::default(),
        }
    }
}

/// An open data directory.
pub struct Tsdb {
    dir: PathBuf,
    head: Arc<Head>,
    syncs_commits: bool,
    lock: Mutex<Option<DirLock>>,
}

impl Tsdb {
    /// Opens a data directory, which is created when there is none, and replays its log.
    /// Blocks for as long as that takes.
    pub fn open(
        dir: impl AsRef<Path>,
        options: TsdbOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StorageError> {
        let dir = dir.as_ref();
        if options.chunk_range_ms <= 0 || options.retention_ms <= 0 {
            return Err(StorageError::Unsupported(
                "retention and chunk range must be positive; see --storage.tsdb.retention.time"
                    .to_owned(),
            ));
        }
        fs::create_dir_all(dir).map_err(|e| {
            StorageError::io(format!("create data directory {}", dir.display()), &e)
        })?;
        let lock = DirLock::acquire(dir)?;
        let wal_dir = dir.join("wal");
        fs::create_dir_all(&wal_dir)
            .map_err(|e| StorageError::io(format!("create directory {}", wal_dir.display()), &e))?;
        warn_of_blocks(dir)?;
        let head_options = HeadOptions {
            chunk_range_ms: options.chunk_range_ms,
            retention_ms: options.retention_ms,
            wal: WalOptions {
                segment_bytes: options.wal_segment_bytes.max(1),
                compression: options.wal_compression,
                sync: options.wal_sync,
            },
        };
        let head = Head::open(wal_dir, head_options, options.metrics, clock)?;
        let syncs_commits = options.wal_sync == WalSync::EachCommit;
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            head,
            syncs_commits,
            lock: Mutex::new(Some(lock)),
        }))
    }

    /// Drops what retention allows to drop, from memory and from the log. To be called
    /// about once a minute, on a thread that may block; may be repeated after an error.
    pub fn maintain(&self) -> Result<(), StorageError> {
        self.head.maintain()
    }

    /// Makes the log durable and lets go of the directory. Later appends fail, reads go on.
    /// Closing twice is fine.
    pub fn close(&self) -> Result<(), StorageError> {
        let closed = self.head.close();
        self.lock.lock().take();
        closed
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the store holds, with the `limit` biggest entries of the index. Walks all series.
    pub fn stats(&self, limit: usize) -> TsdbStats {
        let wal_bytes = wal::segment::size_bytes(&self.dir.join("wal")).unwrap_or(0);
        TsdbStats { wal_bytes, ..self.head.stats(limit) }
    }

    /// Metadata of a metric family.
    pub fn metadata(&self, family: &str) -> Option<Metadata> {
        self.head.metadata(family)
    }

    /// All metadata, sorted by family.
    pub fn all_metadata(&self) -> Vec<(String, Metadata)> {
        self.head.all_metadata()
    }

    /// Times of the oldest and newest sample, `None` while there is none.
    pub fn time_range_ms(&self) -> Option<(TimestampMs, TimestampMs)> {
        let (min, max) = self.head.bounds();
        (min <= max).then_some((min, max))
    }
}

/// Says what of a directory that Prometheus wrote is not served.
fn warn_of_blocks(dir: &Path) -> Result<(), StorageError> {
    let entries = fs::read_dir(dir)
        .map_err(|e| StorageError::io(format!("list directory {}", dir.display()), &e))?;
    let blocks = entries.flatten().filter(|e| e.path().join("meta.json").is_file()).count();
    if blocks > 0 {
        tracing::warn!(
            directory = %dir.display(),
            blocks,
            "blocks on disk are left alone and not read; only the write-ahead log is served"
        );
    }
    Ok(())
}

impl Source for Tsdb {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            Ok(SeriesSet { series: self.head.select(request).await, warnings: Vec::new() })
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            Ok(LabelAnswer { values: self.head.label_names(request).await, warnings: Vec::new() })
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            Ok(LabelAnswer {
                values: self.head.label_values(name, request).await,
                warnings: Vec::new(),
            })
        })
    }
}

impl Sink for Tsdb {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(HeadAppender::new(Arc::clone(&self.head)))
    }

    fn commit_waits(&self) -> bool {
        self.syncs_commits
    }
}
