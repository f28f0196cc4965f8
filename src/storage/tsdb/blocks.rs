//! Which blocks are served: what the data directory holds, less what others replaced and
//! what retention no longer keeps.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::model::TimestampMs;
use crate::storage::StorageError;

use super::block::{self, Block, BlockMeta, Blocks, Ulid};
use super::disk::Disk;
use super::metrics::TsdbMetrics;

/// How often a directory of another process is listed until it is seen as it is.
const LISTINGS: usize = 16;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// Blocks that end so long before the newest one go; 0 for never.
    pub(super) time_ms: i64,
    /// Most bytes of blocks and log; 0 for no limit.
    pub(super) bytes: u64,
}

/// What a reader reads.
#[derive(Debug)]
pub(super) struct Shown {
    /// By their beginning.
    pub(super) blocks: Blocks,
    /// Older samples are read from blocks, newer ones from the head.
    pub(super) head_from_ms: TimestampMs,
}

/// The blocks of a data directory. One thread at a time changes what is shown.
pub(super) struct BlockSet {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    retention: Retention,
    metrics: TsdbMetrics,
    read_only: bool,
    shown: RwLock<Arc<Shown>>,
    /// Blocks that cannot be opened: told once, and left alone.
    broken: Mutex<HashSet<Ulid>>,
    /// Blocks there that do not hold what the head has of their interval.
    others: Mutex<HashSet<Ulid>>,
}

/// Blocks that cannot be opened.
type Failed = BTreeMap<Ulid, StorageError>;

/// Blocks that go, and why that is worth counting.
#[derive(Default)]
struct Going {
    blocks: HashSet<Ulid>,
    by_time: bool,
    by_size: bool,
}

impl BlockSet {
    /// Opens all blocks.
    pub(super) fn open(
        dir: &Path,
        disk: &Arc<dyn Disk>,
        retention: Retention,
        metrics: TsdbMetrics,
        read_only: bool,
    ) -> Result<Self, StorageError> {
        let shown = Shown { blocks: Vec::new(), head_from_ms: TimestampMs::MIN };
        let set = Self {
            dir: dir.to_owned(),
            disk: Arc::clone(disk),
            retention,
            metrics,
            read_only,
            shown: RwLock::new(Arc::new(shown)),
            broken: Mutex::default(),
            others: Mutex::default(),
        };
        set.reload(None, &[], 0)?;
        let shown = set.shown();
        let ends = shown.blocks.iter().filter(|b| !b.meta().compaction.from_out_of_order());
        if let Some(end) = ends.map(|b| b.meta().max_time).max() {
            set.show(shown.blocks.clone(), end);
        }
        Ok(set)
    }

    /// Finds the block with which the head's own samples begin: the newest one that holds
    /// what the head has of its interval. Gives its end, and shows the head from there on.
    pub(super) fn settle(
        &self,
        holds: impl Fn(&Block) -> Result<bool, StorageError>,
    ) -> Result<TimestampMs, StorageError> {
        let shown = self.shown();
        let mut newest_first: Vec<&Arc<Block>> = shown.blocks.iter().collect();
        newest_first.sort_by_key(|block| std::cmp::Reverse(block.meta().max_time));
        let mut head_from_ms = TimestampMs::MIN;
        for block in newest_first {
            if !block.meta().compaction.from_out_of_order() && holds(block)? {
                head_from_ms = block.meta().max_time;
                break;
            }
        }
        self.show(shown.blocks.clone(), head_from_ms);
        Ok(head_from_ms)
    }

    /// Looks at the directory of another process again. `head` are the times of the oldest
    /// and newest sample in memory: when a block came that has the older ones, the first
    /// time that the head needs no more is given.
    pub(super) fn follow(
        &self,
        (oldest_ms, newest_ms): (TimestampMs, TimestampMs),
        holds: impl Fn(&Block) -> Result<bool, StorageError>,
    ) -> Result<Option<TimestampMs>, StorageError> {
        let before = self.shown();
        let changed: Vec<Ulid> = before
            .blocks
            .iter()
            .filter(|block| block.is_outdated())
            .map(|block| block.meta().ulid)
            .collect();
        self.reload(None, &changed, 0)?;
        let shown = self.shown();
        // As Prometheus decides it when it starts: what is older than its newest block is
        // in blocks. One that ends later than a head is cut was put there by other means.
        let is_cut = |meta: &BlockMeta| {
            let half = (meta.max_time - meta.min_time) / 2;
            !meta.compaction.from_out_of_order()
                && meta.max_time <= newest_ms.saturating_sub(half)
                && meta.max_time > oldest_ms
        };
        let mut end = None;
        for block in &shown.blocks {
            let meta = block.meta();
            if meta.max_time <= shown.head_from_ms || !is_cut(meta) || end >= Some(meta.max_time) {
                continue;
            }
            let mut others = self.others.lock();
            if others.contains(&meta.ulid) {
                continue;
            }
            if holds(block)? {
                end = Some(meta.max_time);
            } else {
                others.insert(meta.ulid);
            }
        }
        if let Some(end) = end {
            self.show(shown.blocks.clone(), end);
        }
        Ok(end)
    }

    /// What is served now.
    pub(super) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.read())
    }

    fn show(&self, mut blocks: Blocks, head_from_ms: TimestampMs) {
        blocks.sort_by_key(|block| (block.meta().min_time, block.meta().ulid));
        self.metrics.blocks_loaded.set(blocks.len() as i64);
        let bytes: u64 = blocks.iter().map(|b| b.size_bytes()).sum();
        self.metrics.blocks_bytes.set(bytes as i64);
        let symbols: u64 = blocks.iter().map(|b| b.index().symbol_table_bytes()).sum();
        self.metrics.symbol_table_bytes.set(symbols as i64);
        if let Some(first) = blocks.first() {
            self.metrics.lowest_timestamp.set(first.meta().min_time);
        }
        *self.shown.write() = Arc::new(Shown { blocks, head_from_ms });
    }

    /// Looks at the directory again: opens new blocks, and those of `changed` anew, then
    /// removes what is no longer to be served. `head_from_ms` is where the head begins from
    /// now on; `log_bytes` count for the retention by size.
    pub(super) fn reload(
        &self,
        head_from_ms: Option<TimestampMs>,
        changed: &[Ulid],
        log_bytes: u64,
    ) -> Result<(), StorageError> {
        self.metrics.reloads.inc();
        let result = self.try_reload(head_from_ms, changed, log_bytes);
        if result.is_err() {
            self.metrics.reloads_failed.inc();
        }
        result
    }

    fn try_reload(
        &self,
        head_from_ms: Option<TimestampMs>,
        changed: &[Ulid],
        log_bytes: u64,
    ) -> Result<(), StorageError> {
        let before = self.shown();
        let mut open: BTreeMap<Ulid, Arc<Block>> =
            before.blocks.iter().map(|b| (b.meta().ulid, Arc::clone(b))).collect();
        for id in changed {
            open.remove(id);
        }
        let (listed, failed) = self.open_new(&mut open, || block::list(&self.dir))?;
        if self.read_only {
            open.retain(|id, _| listed.contains(id));
        }
        let metas: Vec<(&BlockMeta, u64)> =
            open.values().map(|b| (b.meta(), b.size_bytes())).collect();
        let going = self.going(&metas, log_bytes);
        for (id, error) in failed {
            // What another block replaces need not be readable.
            if !going.blocks.contains(&id) {
                self.tell_broken(id, &error);
            }
        }
        let kept: Blocks = open
            .iter()
            .filter(|(id, _)| !going.blocks.contains(id))
            .map(|(_, b)| Arc::clone(b))
            .collect();
        drop(metas);
        self.show(kept, head_from_ms.unwrap_or(before.head_from_ms));
        self.metrics.time_retentions.inc_by(u64::from(going.by_time));
        self.metrics.size_retentions.inc_by(u64::from(going.by_size));
        for id in going.blocks {
            if self.read_only {
                continue;
            }
            let dir = self.dir.join(id.to_string());
            if dir.exists() {
                tracing::info!(block = %id, "deleting an obsolete block");
                block::remove(&*self.disk, &dir)?;
            }
        }
        Ok(())
    }

    /// Opens what is listed and not `open` yet. Gives what is listed, and what cannot be
    /// opened. Another process may put a new block in the place of others while the
    /// directory is read, so that the listing has neither: only two that are the same, with
    /// nothing gone between listing and opening, show a state that was there.
    fn open_new(
        &self,
        open: &mut BTreeMap<Ulid, Arc<Block>>,
        mut list: impl FnMut() -> Result<Vec<PathBuf>, StorageError>,
    ) -> Result<(HashSet<Ulid>, Failed), StorageError> {
        let mut failed = Failed::new();
        let mut before = None;
        for _ in 0..LISTINGS {
            let dirs = list()?;
            let mut is_gone = false;
            for dir in &dirs {
                let Some(id) = id_of(dir) else { continue };
                if open.contains_key(&id)
                    || failed.contains_key(&id)
                    || self.broken.lock().contains(&id)
                {
                    continue;
                }
                match Block::open(dir) {
                    Ok(block) => {
                        open.insert(id, Arc::new(block));
                    }
                    // Its owner removed it.
                    Err(_) if self.read_only && !dir.exists() => is_gone = true,
                    Err(e) => {
                        failed.insert(id, e);
                    }
                }
            }
            if !self.read_only || !is_gone && before.as_ref() == Some(&dirs) {
                let listed = dirs.iter().filter_map(|dir| id_of(dir)).collect();
                return Ok((listed, failed));
            }
            before = Some(dirs);
        }
        Err(StorageError::Io {
            what: format!("list the blocks of {}", self.dir.display()),
            cause: "they keep changing; try again".to_owned(),
        })
    }

    fn tell_broken(&self, id: Ulid, error: &StorageError) {
        self.metrics.reloads_failed.inc();
        tracing::error!(
            block = %id,
            %error,
            "a block cannot be opened and is not served; restore it, or delete its directory"
        );
        self.broken.lock().insert(id);
    }

    fn going(&self, blocks: &[(&BlockMeta, u64)], log_bytes: u64) -> Going {
        let mut going = Going::default();
        let mut newest_first: Vec<(&BlockMeta, u64)> = Vec::new();
        for (meta, bytes) in blocks {
            going.blocks.extend(meta.compaction.parents.iter().map(|p| p.ulid));
            if meta.compaction.deletable {
                going.blocks.insert(meta.ulid);
            } else {
                newest_first.push((meta, *bytes));
            }
        }
        newest_first.retain(|(meta, _)| !going.blocks.contains(&meta.ulid));
        newest_first.sort_by_key(|(meta, _)| std::cmp::Reverse(meta.max_time));
        let Some((newest, _)) = newest_first.first() else { return going };
        let newest_ms = newest.max_time;
        let mut bytes_held = log_bytes;
        for (i, (meta, bytes)) in newest_first.iter().enumerate() {
            let age_ms = newest_ms.saturating_sub(meta.max_time);
            bytes_held = bytes_held.saturating_add(*bytes);
            if i > 0 && self.retention.time_ms > 0 && age_ms >= self.retention.time_ms {
                going.by_time = true;
                going.blocks.insert(meta.ulid);
            }
            if self.retention.bytes > 0 && bytes_held > self.retention.bytes {
                going.by_size = true;
                going.blocks.insert(meta.ulid);
            }
        }
        going
    }

    /// Makes an empty directory for a snapshot below the data directory.
    pub(super) fn snapshot_dir(&self, name: &str) -> Result<PathBuf, StorageError> {
        let dir = self.dir.join("snapshots").join(name);
        fs::create_dir_all(&dir)
            .map_err(|e| StorageError::io(format!("create {}", dir.display()), &e))?;
        Ok(dir)
    }
}

fn id_of(dir: &Path) -> Option<Ulid> {
    dir.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use crate::storage::tsdb::disk::FileSystem;

    fn open(dir: &Path, retention: Retention, read_only: bool) -> BlockSet {
        let disk: Arc<dyn Disk> = Arc::new(FileSystem);
        BlockSet::open(dir, &disk, retention, TsdbMetrics::default(), read_only).expect("a set")
    }

    fn check(retention: Retention, log_bytes: u64, blocks: &[(i64, i64, u64)], gone: &[i64]) {
        let dir = tempfile::tempdir().expect("a directory");
        let set = open(dir.path(), retention, false);
        let metas: Vec<(BlockMeta, u64)> = blocks
            .iter()
            .map(|(from, to, bytes)| (BlockMeta::new(Ulid::new(*from), *from, *to), *bytes))
            .collect();
        let metas: Vec<(&BlockMeta, u64)> = metas.iter().map(|(m, b)| (m, *b)).collect();
        let going = set.going(&metas, log_bytes);
        let mut found: Vec<i64> = going.blocks.iter().map(|id| id.time_ms()).collect();
        found.sort_unstable();
        assert_eq!(found, gone, "{retention:?} {blocks:?}");
    }

    #[test]
    fn blocks_go_by_age_and_by_size_the_oldest_first() {
        let blocks = [(0, 10, 100), (10, 20, 100), (20, 30, 100), (30, 40, 100)];
        let keep = |time_ms, bytes| Retention { time_ms, bytes };
        check(keep(0, 0), 0, &blocks, &[]);
        check(keep(20, 0), 0, &blocks, &[0, 10]);
        check(keep(21, 0), 0, &blocks, &[0]);
        check(keep(1, 0), 0, &blocks[..1], &[]);
        check(keep(0, 250), 0, &blocks, &[0, 10]);
        check(keep(0, 250), 100, &blocks, &[0, 10, 20]);
        check(keep(25, 350), 0, &blocks, &[0]);
    }

    #[test]
    fn what_a_block_replaces_goes_and_counts_for_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let retention = Retention { time_ms: 0, bytes: 250 };
        let set = open(dir.path(), retention, false);
        let mut all: Vec<BlockMeta> = [(0, 10), (10, 20), (0, 20)]
            .map(|(f, t)| BlockMeta::new(Ulid::new(t + f), f, t))
            .into();
        all[2].compaction.parents = vec![all[0].desc(), all[1].desc()];
        let sized: Vec<_> = all.iter().map(|m| (m, 100)).collect();
        let going = set.going(&sized, 0);
        assert_eq!(going.blocks, HashSet::from([all[0].ulid, all[1].ulid]));
        assert!(!going.by_size && !going.by_time);
    }

    #[test]
    fn what_takes_the_place_of_a_block_while_a_directory_is_read_is_found() {
        let (dir, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |parent: &Path, ts: i64| {
            let series = Labels::from_pairs([("__name__", "up")]);
            block::tests::write(parent, &[(series, vec![(ts, 1.0)])].into_iter().collect())
        };
        let retention = Retention { time_ms: 0, bytes: 0 };
        let set = open(dir.path(), retention, true);
        let swap = |from: &Path| {
            let to = write(aside.path(), 20);
            fs::rename(&to, dir.path().join(to.file_name().unwrap())).unwrap();
            fs::remove_dir_all(from).unwrap();
        };
        // The old one is listed and gone when it is opened; then neither is listed.
        for is_listed in [true, false] {
            let old = write(dir.path(), 10);
            let mut calls = 0;
            let mut open = BTreeMap::new();
            let (listed, failed) = set
                .open_new(&mut open, || {
                    calls += 1;
                    let mut listed = block::list(dir.path())?;
                    if calls == 1 {
                        listed.retain(|_| is_listed);
                        swap(&old);
                    }
                    Ok(listed)
                })
                .unwrap();
            assert!(failed.is_empty() && calls == 3, "{failed:?} {calls}");
            assert_eq!(listed.iter().map(|id| id.time_ms()).collect::<Vec<_>>(), [21]);
            assert_eq!(open.keys().copied().collect::<HashSet<_>>(), listed);
            listed
                .iter()
                .for_each(|id| fs::remove_dir_all(dir.path().join(id.to_string())).unwrap());
        }
        // One that changes for ever is told.
        let mut n = 100;
        let changing = set.open_new(&mut BTreeMap::new(), || {
            n += 1;
            write(dir.path(), n);
            block::list(dir.path())
        });
        assert!(changing.unwrap_err().to_string().contains("they keep changing"), "{n}");
    }
}
