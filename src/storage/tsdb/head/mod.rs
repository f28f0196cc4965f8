//! The head: the newest samples, in memory, behind the write-ahead log.
//!
//! Order of locks: maintenance, commit, a stripe of the label table, postings, stripes of
//! the reference table, the selections; a series' own lock is innermost. Creating a series takes reference
//! stripe and postings one after the other, never together, and readers never take a label
//! stripe, so no two can wait for each other.

mod appender;
mod chunk_files;
mod cut;
mod follow;
mod isolation;
mod late;
mod late_cut;
mod late_map;
mod map;
mod mapping;
mod orphans;
mod progress;
mod ranking;
mod read;
mod repair;
mod replay;
mod selections;
mod series;
mod snapshot;
mod stats;
mod truncate;
mod under_way;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxBuildHasher;

use crate::model::metadata::Metadata;
use crate::model::{Clock, TimestampMs};
use crate::storage::StorageError;

use super::elsewhere::Elsewhere;
use super::exemplars::ExemplarStore;
use super::metrics::TsdbMetrics;
use super::wal::{Wal, WalOptions, segment};

pub(crate) use appender::HeadAppender;
use chunk_files::ChunkFiles;
pub(crate) use cut::new_chunk;
pub(crate) use follow::Followed;
use follow::Tail;
use isolation::Isolation;
pub(crate) use late_cut::LateCut;
use map::SeriesMap;
pub use orphans::LostSeries;
pub use progress::ReplayProgress;
use ranking::Ranking;
pub(crate) use read::Which;
pub use repair::LogDamage;
use selections::Selections;
use series::MemSeries;
pub use stats::TsdbStats;
use under_way::UnderWay;

/// How a head works.
#[derive(Clone, Debug)]
pub(crate) struct HeadOptions {
    /// Chunks do not cross multiples of this.
    pub(crate) chunk_range_ms: i64,
    /// Nothing older than this is taken, from the log neither: blocks have it.
    pub(crate) min_valid_ms: TimestampMs,
    /// The log is read as it is, and not written.
    pub(crate) read_only: bool,
    /// How far behind the head's newest sample one may be that comes out of order; 0 takes
    /// none.
    pub(crate) late_window_ms: i64,
    /// Leave a snapshot when closed, and start from one.
    pub(crate) snapshots: bool,
    /// Where long look-ups are done.
    pub(crate) elsewhere: Elsewhere,
    /// Where to say how far the replay is.
    pub(crate) progress: ReplayProgress,
    /// Exemplars to keep; 0 keeps none.
    pub(crate) max_exemplars: usize,
    pub(crate) wal: WalOptions,
}

/// The head.
pub(crate) struct Head {
    options: HeadOptions,
    dir: PathBuf,
    wal_dir: PathBuf,
    /// The log of samples that came out of order.
    wbl_dir: PathBuf,
    late_window_ms: AtomicI64,
    /// Times of the oldest and newest sample that came out of order.
    late_min_ms: AtomicI64,
    late_max_ms: AtomicI64,
    clock: Arc<dyn Clock>,
    metrics: TsdbMetrics,
    series: SeriesMap,
    ranking: Ranking,
    selections: Selections,
    isolation: Arc<Isolation>,
    /// Time of the oldest sample, `i64::MAX` while there is none.
    min_ms: AtomicI64,
    /// Time of the newest sample, `i64::MIN` while there is none.
    max_ms: AtomicI64,
    /// What batches under way hold, and the time before which nothing is taken.
    under_way: UnderWay,
    /// What is older left the head, and is needed in the log no more.
    truncated_ms: AtomicI64,
    /// By metric family.
    metadata: RwLock<BTreeMap<Box<str>, Metadata>>,
    exemplars: ExemplarStore,
    commit: Mutex<Committer>,
    /// What of the log was found damaged at the start.
    damage: Mutex<Vec<LogDamage>>,
    /// Samples of it whose series nothing names.
    lost: Mutex<Option<LostSeries>>,
    /// `None` where nothing is written.
    chunk_files: Mutex<Option<ChunkFiles>>,
    /// Where the log of another process is read on.
    tail: Mutex<Tail>,
    closed: AtomicBool,
    /// One maintenance at a time.
    maintenance: Mutex<()>,
}

/// What one commit after the other works with.
struct Committer {
    /// `None` once closed.
    wal: Option<Wal>,
    /// `None` while nothing may come out of order, and once closed.
    wbl: Option<Wal>,
    /// Which segment is being written, and since when.
    segment_started: (u32, TimestampMs),
    /// Up to this segment the log may name series by references that are not known here.
    unread_up_to: Option<u32>,
    /// References by which chunk files, and the log of samples that came out of order, may
    /// name series beside their own: of samples up to a time.
    aliases: HashMap<u64, Arc<MemSeries>, FxBuildHasher>,
    aliases_until_ms: TimestampMs,
    /// Newest sample of each segment, to know when a segment is obsolete.
    segment_max_ms: BTreeMap<u32, TimestampMs>,
    /// References that left the head but may still occur up to a segment: their series
    /// records stay in checkpoints until that segment is gone.
    expiring: HashMap<u64, u32, FxBuildHasher>,
    buffers: Vec<Vec<u8>>,
    /// Series whose finished chunks are to go into files soon.
    finished: Vec<Arc<MemSeries>>,
}

impl Head {
    /// Replays the log of a data directory and goes on writing it.
    pub(crate) fn open(
        dir: &Path,
        options: HeadOptions,
        metrics: TsdbMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StorageError> {
        let (read_only, max_late_ms) = (options.read_only, options.late_window_ms);
        let wal_options = options.wal.clone();
        let exemplars = ExemplarStore::new(options.max_exemplars, metrics.exemplars.clone());
        let mut head = Self {
            dir: dir.to_owned(),
            wal_dir: dir.join("wal"),
            wbl_dir: dir.join("wbl"),
            late_window_ms: AtomicI64::new(max_late_ms),
            late_min_ms: AtomicI64::new(TimestampMs::MAX),
            late_max_ms: AtomicI64::new(TimestampMs::MIN),
            clock,
            metrics,
            series: SeriesMap::default(),
            ranking: Ranking::default(),
            selections: Selections::default(),
            isolation: Arc::default(),
            min_ms: AtomicI64::new(TimestampMs::MAX),
            max_ms: AtomicI64::new(TimestampMs::MIN),
            under_way: UnderWay::new(options.min_valid_ms),
            truncated_ms: AtomicI64::new(options.min_valid_ms),
            options,
            damage: Mutex::default(),
            lost: Mutex::default(),
            chunk_files: Mutex::default(),
            metadata: RwLock::default(),
            exemplars,
            commit: Mutex::new(Committer {
                wal: None,
                wbl: None,
                segment_started: (0, 0),
                unread_up_to: None,
                aliases: HashMap::default(),
                aliases_until_ms: TimestampMs::MIN,
                segment_max_ms: BTreeMap::new(),
                expiring: HashMap::default(),
                buffers: Vec::new(),
                finished: Vec::new(),
            }),
            tail: Mutex::default(),
            closed: AtomicBool::new(false),
            maintenance: Mutex::default(),
        };
        let start_ns = head.clock.monotonic_ns();
        let (replayed, tail) = head.replay()?;
        let elapsed_ns = head.clock.monotonic_ns().saturating_sub(start_ns);
        head.metrics.replay_seconds.set(elapsed_ns as f64 / 1e9);
        if read_only {
            head.tail = Mutex::new(tail);
            head.closed.store(true, Ordering::Release);
            return Ok(Arc::new(head));
        }
        let wal_metrics = head.metrics.wal.clone();
        let wal = Wal::open(&head.wal_dir, wal_options, wal_metrics, Arc::clone(&head.clock))?;
        let now_ms = head.clock.now_ms();
        let newest_ms = head.max_ms.load(Ordering::Acquire);
        let committer = head.commit.get_mut();
        committer.segment_started = (wal.segment(), now_ms);
        // Segments read just now may name a series by its other references.
        committer.expiring = replayed.aliases.iter().map(|(id, _)| (*id, wal.segment())).collect();
        let aliases = replayed.aliases.into_iter().filter(|(_, series)| !series.is_gone());
        committer.aliases = aliases.collect();
        committer.aliases_until_ms = newest_ms;
        let newest_in = |(segment, max): (u32, TimestampMs)| (segment, max.min(newest_ms));
        committer.segment_max_ms = replayed.segment_max_ms.into_iter().map(newest_in).collect();
        committer.unread_up_to = replayed.unread_up_to;
        committer.wal = Some(wal);
        let (min, max) = head.bounds();
        head.metrics.head_min_time.set(min);
        head.metrics.head_max_time.set(max);
        let bytes = segment::size_bytes(&head.wal_dir)?;
        head.metrics.wal.storage_bytes.set(bytes as i64);
        if max_late_ms > 0 || head.wbl_dir.exists() {
            head.open_wbl()?;
        }
        Ok(Arc::new(head))
    }

    /// Syncs the log and refuses further batches.
    pub(crate) fn close(&self) -> Result<(), StorageError> {
        self.closed.store(true, Ordering::Release);
        let mut committer = self.commit.lock();
        self.leave_chunks(&mut committer);
        let (wal, wbl) = (committer.wal.take(), committer.wbl.take());
        drop(committer);
        [wal, wbl].into_iter().flatten().try_for_each(|mut log| log.close())
    }

    /// Times of the oldest and newest sample; the first is greater while there is none.
    pub(crate) fn bounds(&self) -> (TimestampMs, TimestampMs) {
        (self.min_ms.load(Ordering::Acquire), self.max_ms.load(Ordering::Acquire))
    }

    /// The newest sample, or the first one to be.
    fn newest_ms(&self, first_ts: TimestampMs) -> TimestampMs {
        match self.max_ms.load(Ordering::Acquire) {
            TimestampMs::MIN => first_ts,
            newest => newest,
        }
    }

    /// Older samples are out of bounds: what truncation removed, and what lies so far
    /// behind the newest sample that its chunk may be complete.
    fn appendable_from_ms(&self, newest_ms: TimestampMs) -> TimestampMs {
        let window = newest_ms.saturating_sub(self.options.chunk_range_ms / 2);
        self.under_way.min_valid_ms().max(window)
    }

    /// Widens the head's time range while replaying.
    fn widen(&self, ts: TimestampMs) {
        // Nearly always it is wide enough, and looking is cheaper.
        if ts < self.min_ms.load(Ordering::Relaxed) {
            self.min_ms.fetch_min(ts, Ordering::Relaxed);
        }
        if ts > self.max_ms.load(Ordering::Relaxed) {
            self.max_ms.fetch_max(ts, Ordering::Relaxed);
        }
    }

    /// Widens the head's time range.
    fn note_times(&self, min_ms: TimestampMs, max_ms: TimestampMs) {
        let min = self.min_ms.fetch_min(min_ms, Ordering::AcqRel).min(min_ms);
        let max = self.max_ms.fetch_max(max_ms, Ordering::AcqRel).max(max_ms);
        self.metrics.head_min_time.set(min);
        self.metrics.head_max_time.set(max);
    }

    /// What of the log was found damaged at the start.
    pub(crate) fn damage(&self) -> Vec<LogDamage> {
        self.damage.lock().clone()
    }

    /// Samples of the log whose series nothing names.
    pub(crate) fn lost_series(&self) -> Option<LostSeries> {
        self.lost.lock().clone()
    }

    /// The newest exemplars.
    pub(crate) fn exemplars(&self) -> &ExemplarStore {
        &self.exemplars
    }

    /// Metadata of a metric family.
    pub(crate) fn metadata(&self, family: &str) -> Option<Metadata> {
        self.metadata.read().get(family).cloned()
    }

    /// All metadata, by family name.
    pub(crate) fn all_metadata(&self) -> Vec<(String, Metadata)> {
        self.metadata.read().iter().map(|(f, m)| (f.to_string(), m.clone())).collect()
    }
}
