//! The writing end of the state log: one file at a time, whole changes or nothing.
//!
//! A failure never reaches who writes but as "not written": it is counted, logged, and the
//! next change tries again, a second later at the earliest. After a failed write the file
//! is cut back to its last whole change; one that cannot be cut back is left and a new one
//! begun, whose readers take the old one up to its last finished change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustc_hash::FxHashMap;

use super::disk::Disk;
use super::frame::{append, file_header};
use super::metrics::StateMetrics;
use super::record::{Record, WatermarkRecord};
use super::replay::{Replayed, file_name};
use super::{GroupKey, StateSync};
use crate::model::{Clock, TimestampMs};

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;
/// How long to wait after a failure.
const RETRY_AFTER_NS: u64 = 1_000_000_000;
/// How many damaged files are kept for a look at them.
const SET_ASIDE_MAX: usize = 8;
/// Watermarks or numbers in one record.
const LIST_MAX: usize = 1000;

/// The change was not written; it has been counted and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotWritten;

pub(super) struct Writer {
    dir: PathBuf,
    sync: StateSync,
    clock: Arc<dyn Clock>,
    metrics: StateMetrics,
    /// `None` when the next change begins a new file.
    file: Option<File>,
    /// Of that file, when changes wait for the disk.
    disk: Option<Arc<Disk>>,
    generation: u64,
    len: u64,
    /// Bytes of this file that rules' first changes take.
    base_bytes: u64,
    buffer: Vec<u8>,
    failing: bool,
    retry_at_ns: u64,
    /// How many rules have their state in which file.
    rules_in: BTreeMap<u64, u64>,
    sizes: BTreeMap<u64, u64>,
    damaged: BTreeSet<u64>,
    /// Removed rules that a file still holds.
    forgotten: BTreeMap<u32, u64>,
    watermarks: FxHashMap<GroupKey, TimestampMs>,
    cleaner: Option<JoinHandle<io::Result<Vec<u64>>>>,
    pub(super) file_bytes_min: u64,
    #[cfg(test)]
    pub(super) fail_after_bytes: Option<u64>,
    #[cfg(test)]
    pub(super) refuse_truncation: bool,
}

impl Writer {
    pub(super) fn new(
        dir: &Path,
        (sync, file_bytes_min): (StateSync, u64),
        clock: Arc<dyn Clock>,
        metrics: StateMetrics,
        found: &Replayed,
    ) -> Self {
        let mut rules_in = BTreeMap::new();
        for rule in found.rules.values() {
            *rules_in.entry(rule.generation).or_default() += 1;
        }
        Self {
            dir: dir.to_owned(),
            sync,
            clock,
            metrics,
            file: None,
            disk: None,
            generation: found.next_generation - 1,
            len: 0,
            base_bytes: 0,
            buffer: Vec::new(),
            failing: false,
            retry_at_ns: 0,
            rules_in,
            sizes: found.files.clone(),
            damaged: found.damaged.clone(),
            forgotten: BTreeMap::new(),
            watermarks: found.watermarks.clone(),
            cleaner: None,
            file_bytes_min,
            #[cfg(test)]
            fail_after_bytes: None,
            #[cfg(test)]
            refuse_truncation: false,
        }
    }

    /// The file that the next change goes to, by its generation.
    pub(super) fn ready(&mut self) -> Result<u64, NotWritten> {
        if self.failing && self.clock.monotonic_ns() < self.retry_at_ns {
            self.metrics.write_failures.inc();
            return Err(NotWritten);
        }
        if self.file.is_none()
            && let Err(error) = self.begin_file()
        {
            return Err(self.fail("begin a file", &error));
        }
        Ok(self.generation)
    }

    /// Writes a change, all of it or nothing. `is_base` when it is the first of a rule in
    /// this file. Call [`Writer::ready`] before.
    pub(super) fn write(
        &mut self,
        is_base: bool,
        change: impl FnOnce(&mut Batch<'_>),
    ) -> Result<(), NotWritten> {
        let before = self.len;
        let mut batch = Batch { writer: self, error: None };
        change(&mut batch);
        let outcome = batch.finish();
        if let Err(error) = outcome {
            self.cut_back(before);
            return Err(self.fail("write", &error));
        }
        if self.sync == StateSync::Never {
            self.recovered();
        }
        let bytes = self.len - before;
        self.metrics.changes.inc();
        self.metrics.written_bytes.inc_by(bytes);
        if let Some(disk) = &self.disk {
            disk.wrote(self.len);
        }
        if is_base {
            self.base_bytes += bytes;
        }
        self.sizes.insert(self.generation, self.len);
        self.publish_sizes();
        if self.len > self.file_bytes_min.max(2 * self.base_bytes) {
            self.file = None;
        }
        Ok(())
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            self.metrics.failing.set(0);
            tracing::info!(dir = %self.dir.display(), "the alert state log can be written again");
        }
    }

    /// The disk has, or will never have, what was written to a file. What it did not take
    /// may be gone from memory as well: everything goes to a new file.
    pub(super) fn synced(&mut self, generation: u64, result: io::Result<()>) {
        match result {
            Ok(()) => self.recovered(),
            Err(error) => {
                if generation == self.generation {
                    self.file = None;
                }
                self.fail("sync", &error);
            }
        }
    }

    /// The current file, for changes that wait for the disk, and its length.
    pub(super) fn disk(&self) -> Option<(Arc<Disk>, u64)> {
        self.disk.clone().map(|disk| (disk, self.len))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// A rule's state lies in the current file now, and no more where it did before.
    pub(super) fn moved(&mut self, from: Option<u64>) {
        *self.rules_in.entry(self.generation).or_default() += 1;
        self.leave(from);
        self.collect_garbage();
    }

    fn leave(&mut self, from: Option<u64>) {
        let Some(from) = from else { return };
        if let Some(count) = self.rules_in.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.rules_in.remove(&from);
            }
        }
    }

    /// Drops what is known of rules; each with the file its state lies in.
    pub(super) fn forget(&mut self, rules: &[(u32, Option<u64>)]) {
        for (number, generation) in rules {
            self.leave(*generation);
            if let Some(generation) = generation {
                self.forgotten.insert(*number, *generation);
            }
        }
        if self.ready().is_ok() {
            // Should it fail: the next file says it again.
            let _ = self.write(false, |batch| {
                for part in rules.chunks(LIST_MAX) {
                    let forgotten = part.iter().map(|(number, _)| *number).collect();
                    batch.push(&Record { forgotten, ..Record::default() });
                }
            });
        }
        self.collect_garbage();
    }

    pub(super) fn watermark(&self, group: &GroupKey) -> Option<TimestampMs> {
        self.watermarks.get(group).copied()
    }

    pub(super) fn watermarks(&self) -> impl Iterator<Item = &GroupKey> {
        self.watermarks.keys()
    }

    /// Notes the last tick a group has completed; `None` when the group is gone.
    pub(super) fn set_watermark(&mut self, group: &GroupKey, tick_ms: Option<TimestampMs>) {
        match (self.watermarks.get_mut(group), tick_ms) {
            (Some(known), Some(tick)) => *known = tick,
            (None, Some(tick)) => {
                self.watermarks.insert(group.clone(), tick);
            }
            (_, None) => {
                self.watermarks.remove(group);
            }
        }
        let mark = watermark_record(group, tick_ms);
        // A new file begins with all watermarks.
        if self.file.is_some() && self.ready().is_ok() {
            let record = Record { watermarks: vec![mark], ..Record::default() };
            let _ = self.write(false, |batch| batch.push(&record));
        } else {
            let _ = self.ready();
        }
        if self.cleaner.is_some() {
            self.collect_garbage();
        }
    }

    /// Asks the disk for everything and waits for what runs in the background.
    pub(super) fn close(&mut self) {
        self.join_cleaner();
        self.collect_garbage();
        self.join_cleaner();
        if let Some(Err(error)) = self.file.as_ref().map(File::sync_data) {
            tracing::error!(dir = %self.dir.display(), %error, "syncing the alert state log failed");
        }
        self.metrics.syncs.inc();
    }

    /// Begins the next file with what every file begins with.
    fn begin_file(&mut self) -> io::Result<()> {
        // A number is used once, whatever becomes of the file.
        self.generation += 1;
        let generation = self.generation;
        let path = self.dir.join(file_name(generation));
        let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        let mut head = file_header().to_vec();
        let marks: Vec<_> =
            self.watermarks.iter().map(|(g, tick)| watermark_record(g, Some(*tick))).collect();
        for part in marks.chunks(LIST_MAX) {
            append(&mut head, &Record { watermarks: part.to_vec(), ..Record::default() });
        }
        let gone: Vec<u32> = self.forgotten.keys().copied().collect();
        for part in gone.chunks(LIST_MAX) {
            append(&mut head, &Record { forgotten: part.to_vec(), ..Record::default() });
        }
        let written = self.put(&mut file, &head).and_then(|()| match self.sync {
            StateSync::Never => Ok(None),
            StateSync::Always => Disk::new(&file, &self.dir, &self.metrics).map(Some),
        });
        match written {
            Ok(disk) => self.disk = disk.map(Arc::new),
            Err(error) => {
                // Nothing is in it: should it stay, it is deleted after the next start.
                let _ = fs::remove_file(&path);
                return Err(error);
            }
        }
        self.file = Some(file);
        self.len = head.len() as u64;
        self.base_bytes = 0;
        self.sizes.insert(generation, self.len);
        self.publish_sizes();
        Ok(())
    }

    /// One write, which tests may make fail.
    fn put(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = &mut self.fail_after_bytes {
            let fits = (*left).min(bytes.len() as u64);
            *left -= fits;
            file.write_all(&bytes[..fits as usize])?;
            return match fits as usize == bytes.len() {
                true => Ok(()),
                false => Err(io::ErrorKind::StorageFull.into()),
            };
        }
        file.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        let mut file = self.file.take().expect("BUG: changes are written once a file is ready");
        let result = self.put(&mut file, &bytes);
        self.file = Some(file);
        self.len += bytes.len() as u64;
        self.buffer = bytes;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BYTES);
        result
    }

    fn cut_back(&mut self, len: u64) {
        self.buffer.clear();
        #[cfg(test)]
        if self.refuse_truncation {
            self.file = None;
            return;
        }
        match self.file.as_ref().map(|file| file.set_len(len)) {
            Some(Ok(())) => self.len = len,
            _ => self.file = None,
        }
    }

    fn fail(&mut self, what: &str, error: &io::Error) -> NotWritten {
        self.metrics.write_failures.inc();
        self.retry_at_ns = self.clock.monotonic_ns().saturating_add(RETRY_AFTER_NS);
        if !std::mem::replace(&mut self.failing, true) {
            self.metrics.failing.set(1);
            let file = self.dir.join(file_name(self.generation));
            tracing::error!(
                file = %file.display(), offset = self.len, %error,
                "cannot {what} the alert state log: alerts go on and are sent, but would not \
                 survive a restart; free space or choose another --rules.state-dir"
            );
        }
        NotWritten
    }

    fn publish_sizes(&self) {
        self.metrics.files.set(self.sizes.len() as i64);
        let sum: u64 = self.sizes.values().sum();
        self.metrics.size_bytes.set(i64::try_from(sum).unwrap_or(i64::MAX));
    }

    /// Deletes files that hold no rule's state any more, in the background: what replaces
    /// them has to be on the disk first.
    fn collect_garbage(&mut self) {
        if self.cleaner.as_ref().is_some_and(|c| !c.is_finished()) {
            return;
        }
        self.join_cleaner();
        let idle: Vec<u64> = self
            .sizes
            .keys()
            .filter(|g| **g < self.generation && !self.rules_in.contains_key(g))
            .copied()
            .collect();
        let Some(oldest) = idle.first().copied() else { return };
        // What replaced them may lie in any file since, the newest of which may be full.
        let kept: Vec<u64> =
            self.sizes.range(oldest..).map(|(g, _)| *g).filter(|g| !idle.contains(g)).collect();
        let (dir, damaged, syncs) =
            (self.dir.clone(), self.damaged.clone(), self.metrics.syncs.clone());
        let clean = move || {
            for generation in &kept {
                File::open(dir.join(file_name(*generation)))?.sync_data()?;
            }
            File::open(&dir)?.sync_all()?;
            syncs.inc();
            for generation in &idle {
                remove(&dir, *generation, damaged.contains(generation))?;
            }
            Ok(idle)
        };
        let thread = std::thread::Builder::new().name("alert-state-cleaner".to_owned());
        self.cleaner = thread.spawn(clean).ok();
    }

    fn join_cleaner(&mut self) {
        let Some(cleaner) = self.cleaner.take() else { return };
        match cleaner.join() {
            Ok(Ok(removed)) => {
                for generation in removed {
                    self.sizes.remove(&generation);
                    self.damaged.remove(&generation);
                }
                let sizes = &self.sizes;
                self.forgotten.retain(|_, generation| sizes.contains_key(generation));
                self.publish_sizes();
            }
            Ok(Err(error)) => {
                tracing::warn!(dir = %self.dir.display(), %error, "removing old files of the alert state log failed; it is tried again");
            }
            Err(_) => tracing::error!("BUG: the cleaner of the alert state log panicked"),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.join_cleaner();
    }
}

fn watermark_record(group: &GroupKey, tick_ms: Option<TimestampMs>) -> WatermarkRecord {
    WatermarkRecord { file: group.file.clone(), group: group.name.clone(), tick_ms }
}

/// Deletes a file, or sets it aside when it is damaged. One that is gone is no error.
fn remove(dir: &Path, generation: u64, damaged: bool) -> io::Result<()> {
    let path = dir.join(file_name(generation));
    let result = if damaged {
        fs::rename(&path, path.with_extension("damaged")).and_then(|()| drop_old_damage(dir))
    } else {
        fs::remove_file(&path)
    };
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn drop_old_damage(dir: &Path) -> io::Result<()> {
    let mut aside = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "damaged") {
            aside.push(path);
        }
    }
    aside.sort();
    let excess = aside.len().saturating_sub(SET_ASIDE_MAX);
    aside.iter().take(excess).try_for_each(fs::remove_file)
}

/// A change being written.
pub(super) struct Batch<'a> {
    writer: &'a mut Writer,
    error: Option<io::Error>,
}

impl Batch<'_> {
    /// Adds a record. After a failure nothing more is written; the end of the change says so.
    pub(super) fn push(&mut self, record: &Record) {
        append(&mut self.writer.buffer, record);
        if self.writer.buffer.len() >= WRITE_BYTES && self.error.is_none() {
            self.error = self.writer.flush().err();
        }
        if self.error.is_some() {
            self.writer.buffer.clear();
        }
    }

    fn finish(self) -> io::Result<()> {
        match self.error {
            Some(error) => Err(error),
            None => self.writer.flush(),
        }
    }
}
