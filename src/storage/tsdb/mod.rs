//! The embedded time-series database.
//!
//! ```text
//! <data directory>/
//!   lock      held while a process has the directory open
//!   wal/      write-ahead log in Prometheus' format, see `wal`
//!   wbl/      the same of samples that came out of order, see `head::late_cut`
//!   <ULID>/   blocks: the samples of two hours or more, see `block`
//!   chunks_head/, chunk_snapshot.*   finished chunks of the head, and what else it held when
//!             the store was closed: see `head::chunk_files` and `head::snapshot`
//!   snapshots/, and what else Prometheus has
//! ```
//! The newest samples live in memory, compressed, and the log brings them back after a
//! restart. Every two hours the oldest two hours are cut off as a block (`head::cut`), and
//! blocks are compacted into longer ones (`compact`) until retention drops them (`blocks`).
//! A directory that Prometheus wrote opens here, and Prometheus opens what is written here. The store knows nothing of queries, scrapes or
//! async run times, and takes the time only from the `Clock` it is given.
//!
//! Someone must call [`Tsdb::maintain`] about once a minute on a thread that may block:
//! it is what keeps memory and disk bounded.

mod block;
mod blocks;
pub(in crate::storage) mod chunk;
pub(in crate::storage) mod compact;
mod disk;
mod elsewhere;
mod encoding;
mod exemplars;
mod follow;
mod head;
mod import;
mod index;
pub mod inspect;
mod intervals;
mod lock;
mod maintain;
#[doc(hidden)]
pub mod measure;
mod metrics;
mod read;
mod wal;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::metadata::Metadata;
use crate::model::{Clock, TimestampMs};

use super::{Appender, Sink, StorageError};

pub use block::{BlockCompaction, BlockDesc, BlockMeta, BlockStats, NotUlid, Ulid};
pub use disk::{Disk, DiskFile, FileSystem};
pub use elsewhere::Threads;
pub use follow::Follower;
pub use head::{LogDamage, LostSeries, ReplayProgress, TsdbStats};
pub use import::BlockBuilder;
pub use index::PostingsStats;
pub use metrics::TsdbMetrics;
pub use wal::{WalCompression, WalSync};

use blocks::{BlockSet, Retention};
use compact::{Plan, Stop, ranges_of};
use elsewhere::Elsewhere;
use head::{Head, HeadAppender, HeadOptions};
use lock::DirLock;
use maintain::Maintenance;
use wal::{WalOptions, segment};

/// What a compacted block covers at most: 31 days.
const BLOCK_RANGE_MAX_MS: i64 = 31 * 24 * 3600 * 1000;

/// How the store works. The defaults are Prometheus'.
#[derive(Clone, Debug)]
pub struct TsdbOptions {
    /// `--storage.tsdb.retention.time`: blocks that end so long before the newest one go.
    pub retention_ms: i64,
    /// `--storage.tsdb.retention.size`: most bytes of blocks and log; 0 for no limit.
    pub retention_bytes: u64,
    /// `--storage.tsdb.min-block-duration`: what a block cut off the head covers. Chunks do
    /// not cross multiples of it; samples more than half of it behind the newest are out of
    /// bounds.
    pub chunk_range_ms: i64,
    /// `--storage.tsdb.max-block-duration`: what a compacted block covers at most; 0 for a
    /// tenth of the retention, or 31 days if that is less.
    pub block_range_max_ms: i64,
    /// `storage.tsdb.out_of_order_time_window`: how far behind the newest sample of all one
    /// may be that comes after a newer one of its series; 0 takes none.
    pub out_of_order_window_ms: i64,
    /// `--enable-feature=memory-snapshot-on-shutdown`: what the head holds is left in a file
    /// when the store is closed, for the next start, which then reads no log.
    pub memory_snapshots: bool,
    /// Where to say how far the replay of the log is.
    pub replay_progress: ReplayProgress,
    /// `storage.exemplars.max_exemplars`: the newest of all series are kept, 0 for none.
    pub max_exemplars: usize,
    /// `--storage.tsdb.wal-segment-size`, in bytes.
    pub wal_segment_bytes: u64,
    /// `--storage.tsdb.wal-compression-type`.
    pub wal_compression: WalCompression,
    /// What a commit waits for.
    pub wal_sync: WalSync,
    /// Where the files of the log are; tests put a disk there that fails.
    pub disk: Arc<dyn Disk>,
    /// Where long look-ups are done; without, on the thread that asks.
    pub threads: Option<Arc<dyn Threads>>,
    /// Where to count; the default is seen by nobody.
    pub metrics: TsdbMetrics,
}

impl Default for TsdbOptions {
    fn default() -> Self {
        Self {
            retention_ms: 15 * 24 * 3600 * 1000,
            retention_bytes: 0,
            chunk_range_ms: 2 * 3600 * 1000,
            block_range_max_ms: 0,
            out_of_order_window_ms: 0,
            memory_snapshots: false,
            replay_progress: ReplayProgress::default(),
            max_exemplars: 0,
            wal_segment_bytes: 128 << 20,
            wal_compression: WalCompression::default(),
            wal_sync: WalSync::default(),
            disk: Arc::new(FileSystem),
            threads: None,
            metrics: TsdbMetrics::default(),
        }
    }
}

/// An open data directory.
pub struct Tsdb {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    metrics: TsdbMetrics,
    head: Arc<Head>,
    blocks: BlockSet,
    plan: Plan,
    maintenance: Mutex<Maintenance>,
    stop: Stop,
    syncs_commits: bool,
    lock: Mutex<Option<DirLock>>,
    elsewhere: Elsewhere,
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
        block::remove_unfinished(dir)?;
        Self::open_as(dir, options, clock, Some(lock))
    }

    /// Opens what a data directory holds at this moment for reading. Nothing is written and
    /// no lock is taken: another process may be using it. Appends fail.
    pub fn open_read_only(
        dir: impl AsRef<Path>,
        options: TsdbOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StorageError> {
        let dir = dir.as_ref();
        fs::metadata(dir)
            .map_err(|e| StorageError::io(format!("open data directory {}", dir.display()), &e))?;
        Self::open_as(dir, options, clock, None)
    }

    /// With a lock to write, without one only to read.
    fn open_as(
        dir: &Path,
        options: TsdbOptions,
        clock: Arc<dyn Clock>,
        lock: Option<DirLock>,
    ) -> Result<Arc<Self>, StorageError> {
        let retention = match lock {
            Some(_) => Retention { time_ms: options.retention_ms, bytes: options.retention_bytes },
            // How long blocks stay is for their owner to say.
            None => Retention { time_ms: 0, bytes: 0 },
        };
        let metrics = options.metrics;
        metrics.retention_seconds.set(options.retention_ms / 1000);
        metrics.retention_bytes.set(i64::try_from(options.retention_bytes).unwrap_or(i64::MAX));
        let blocks =
            BlockSet::open(dir, &options.disk, retention, metrics.clone(), lock.is_none())?;
        let wbl = dir.join("wbl");
        let has_late = wbl.exists() && !segment::list(&wbl)?.is_empty();
        let elsewhere = Elsewhere(options.threads);
        let head_options = HeadOptions {
            elsewhere: elsewhere.clone(),
            chunk_range_ms: options.chunk_range_ms,
            // Blocks of samples that came out of order are not always marked: which have the
            // older samples of the head is then told by what they hold.
            min_valid_ms: if has_late { TimestampMs::MIN } else { blocks.shown().head_from_ms },
            read_only: lock.is_none(),
            snapshots: options.memory_snapshots,
            progress: options.replay_progress,
            late_window_ms: options.out_of_order_window_ms.max(0),
            max_exemplars: options.max_exemplars,
            wal: WalOptions {
                segment_bytes: options.wal_segment_bytes.max(1),
                compression: options.wal_compression,
                sync: options.wal_sync,
                disk: Arc::clone(&options.disk),
            },
        };
        let head = Head::open(dir, head_options, metrics.clone(), Arc::clone(&clock))?;
        if has_late {
            head.begin_at(blocks.settle(|block| head.is_held_by(block))?);
        }
        let syncs_commits = options.wal_sync == WalSync::EachCommit;
        let range_max = match options.block_range_max_ms {
            0 => (options.retention_ms / 10).min(BLOCK_RANGE_MAX_MS),
            given => given,
        };
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            disk: options.disk,
            clock,
            metrics,
            head,
            blocks,
            plan: Plan { ranges_ms: ranges_of(options.chunk_range_ms, range_max) },
            maintenance: Mutex::default(),
            stop: Stop::default(),
            syncs_commits,
            lock: Mutex::new(lock),
            elsewhere,
        }))
    }

    /// Cuts off, compacts and drops what is due. To be called about once a minute, on a
    /// thread that may block; may be repeated after an error. Appends and reads go on.
    pub fn maintain(&self) -> Result<(), StorageError> {
        if self.lock.lock().is_none() {
            return Err(StorageError::Closed);
        }
        self.maintain_once()
    }

    /// Makes the log durable and lets go of the directory. Later appends fail, reads go on.
    /// Closing twice is fine.
    pub fn close(&self) -> Result<(), StorageError> {
        self.stop.set();
        // What is under way ends soon, and writes no more after that.
        let _maintenance = self.maintenance.lock();
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

    /// What of the log was found damaged when the store was opened, and what became of it.
    pub fn log_damage(&self) -> Vec<LogDamage> {
        self.head.damage()
    }

    /// Samples of the log that belong to no series, because what named it was lost.
    pub fn lost_series(&self) -> Option<LostSeries> {
        self.head.lost_series()
    }

    /// Changes how many exemplars are kept.
    pub fn set_max_exemplars(&self, max: usize) {
        self.head.exemplars().resize(max);
    }

    /// Changes how far behind the newest sample one may be that comes out of order.
    pub fn set_out_of_order_window_ms(&self, window_ms: i64) -> Result<(), StorageError> {
        self.head.set_late_window(window_ms)
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
        let (mut min, mut max) = self.head.bounds();
        let (late_min, late_max) = self.head.late_bounds();
        (min, max) = (min.min(late_min), max.max(late_max));
        for block in &self.blocks.shown().blocks {
            min = min.min(block.meta().min_time);
            let end = block.meta().max_time.saturating_sub(1);
            // What came out of order is older than what the head has, however its block ends.
            let ends_in_head = block.meta().compaction.from_out_of_order() && max > min;
            max = max.max(if ends_in_head { end.min(max) } else { end });
        }
        (min <= max).then_some((min, max))
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
