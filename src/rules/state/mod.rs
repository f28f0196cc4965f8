//! The alert state log: what must not be forgotten when the process dies.
//!
//! Every change of an alert is written here before it is acted upon: before `ALERTS` is
//! stored and before the notifier hears of it. After a restart alerts go on from what is
//! written, whatever their `for` is and without asking any storage.
//!
//! ```text
//! DIR/lock               held while a process uses the directory
//! DIR/00000007.state     one generation after the other; only the newest is written
//! DIR/00000005.damaged   a file with damage, kept for a look at it; at most 8
//!
//! file    ┌─────────────┬────────────┬─────────────────────┬──────────┐
//!         │ "WFASTATE"  │ version 4B │ CRC32C of these 4B  │ frames.. │   little-endian
//!         └─────────────┴────────────┴─────────────────────┴──────────┘
//! frame   ┌─────────────┬────────────┬─────────────────────┬──────────┐
//!         │ f5 57 46 f6 │ length 4B  │ CRC32C of both 4B   │ record   │
//!         └─────────────┴────────────┴─────────────────────┴──────────┘
//! record  Protocol Buffers; see `record`
//! ```
//!
//! - **A change is whole or not there.** What one evaluation of a rule changed is one record,
//!   or several of which all but the last say that more follows. A change that is not
//!   finished was never acted upon, and reading ignores it.
//! - **A file's snapshot is spread over it.** The first change a rule writes to a file says
//!   all of the rule, so that all its state lies in one file. A file that grew beyond twice
//!   its snapshots is succeeded by a new one, and is deleted when no rule's state lies in it
//!   any more. Thus writing never stops for a snapshot, and size stays bounded.
//! - **Labels are written once.** Later changes name an alert by a number.
//! - **Damage costs what it hits.** A bad frame is skipped and reported with its place; its
//!   file is kept aside. A file of a newer version is set aside whole.
//! - **A failing disk never stops alerting.** What could not be written is written when it
//!   can be again, as a whole; until then a metric and the log say so.
//! - **Durability.** A change is one `write(2)`: once it returned, the change survives the
//!   death of the process. With [`StateSync::Always`] it survives that of the machine: it
//!   waits for an `fdatasync`, one for all that was written before it began. A file is on the disk before the one it replaces is deleted.
//!
//! Nothing here knows how alerts come about or who is told.

mod attach;
mod disk;
mod frame;
pub(super) mod handover;
mod metrics;
mod record;
mod replay;
mod rule;
mod writer;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::model::{Clock, Labels, TimestampMs};
use replay::{RuleImage, replay};
use writer::Writer;

pub(super) use attach::{GroupFate, Restart};
pub use handover::Peer;
pub use metrics::StateMetrics;
pub(super) use rule::RuleLog;

/// What a change waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateSync {
    /// The operating system has it: it survives the death of the process.
    #[default]
    Never,
    /// The disk has it: it survives a power cut.
    Always,
}

/// A file of the log this small is not worth replacing.
pub const STATE_FILE_BYTES_MIN: u64 = 8 << 20;

/// What a log needs.
pub struct StateOptions {
    /// Made when it is not there.
    pub dir: PathBuf,
    pub sync: StateSync,
    /// A file is succeeded by another when it has more bytes than this, and more than twice
    /// what its alerts take.
    pub file_bytes_min: u64,
    pub clock: Arc<dyn Clock>,
    pub metrics: StateMetrics,
}

/// Why a log could not be opened. What its files say never is a reason.
#[derive(Debug, Error)]
pub enum StateError {
    #[error("alert state (--rules.state-dir): {what} {path}: {error}")]
    Io { what: &'static str, path: PathBuf, error: io::Error },
    #[error(
        "alert state directory {path} is used by another process; stop it or choose another \
         directory with --rules.state-dir"
    )]
    Locked { path: PathBuf },
}

impl StateError {
    fn io(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), error }
    }
}

/// A group across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub file: String,
    pub name: String,
}

/// A rule across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RuleIdentity {
    pub file: String,
    pub group: String,
    pub name: String,
    /// As written.
    pub labels: Labels,
    /// Among those of the group that are equal otherwise.
    pub index: u32,
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub struct StateLog {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Mutex<Writer>,
    /// The writer's generation, to be looked at without waiting for it.
    generation: AtomicU64,
    /// Rules that were read and that no group has claimed.
    dormant: Mutex<Dormant>,
    _lock: File,
}

struct Dormant {
    rules: FxHashMap<RuleIdentity, (u32, RuleImage)>,
    next_rule: u32,
}

impl StateLog {
    /// Opens a directory and reads what is in it. What is wrong with its files is logged
    /// with its place and counted.
    pub fn open(options: StateOptions) -> Result<Self, StateError> {
        let StateOptions { dir, sync, file_bytes_min, clock, metrics } = options;
        fs::create_dir_all(&dir).map_err(|e| StateError::io("create directory", &dir, e))?;
        let lock = lock(&dir)?;
        let found = replay(&dir)?;
        for problem in &found.problems {
            let (file, offset, what) = (problem.file.display(), problem.offset, &problem.what);
            if problem.is_damage {
                metrics.damage.inc();
                tracing::error!(%file, offset, "the alert state file {what}");
            } else {
                tracing::warn!(%file, offset, "the alert state file {what}; what it cut off was never acted upon");
            }
        }
        let alerts: usize = found.rules.values().map(|rule| rule.alerts.len()).sum();
        metrics.restored_alerts.set(alerts as i64);
        let writer = Writer::new(&dir, (sync, file_bytes_min), clock, metrics, &found);
        let next_rule = found.next_rule;
        let rules = found.rules.into_iter().map(|(n, rule)| (rule.identity.clone(), (n, rule)));
        let dormant = Dormant { rules: rules.collect(), next_rule };
        tracing::info!(
            dir = %dir.display(), rules = dormant.rules.len(), alerts, "Alert state opened"
        );
        Ok(Self {
            shared: Arc::new(Shared {
                writer: Mutex::new(writer),
                generation: AtomicU64::new(0),
                dormant: Mutex::new(dormant),
                _lock: lock,
            }),
        })
    }

    /// A rule's part of the log, and what is known of it from before the start.
    fn claim(&self, identity: RuleIdentity) -> (Arc<RuleLog>, Option<RuleImage>) {
        let mut dormant = self.shared.dormant.lock();
        let found = dormant.rules.remove(&identity);
        let number = found.as_ref().map_or(dormant.next_rule, |(number, _)| *number);
        dormant.next_rule = dormant.next_rule.max(number.saturating_add(1));
        let image = found.map(|(_, image)| image);
        let log = RuleLog::new(self.shared.clone(), number, identity, image.as_ref());
        (Arc::new(log), image)
    }

    /// The last tick a group has completed, before or after the start.
    pub(super) fn watermark(&self, file: &str, group: &str) -> Option<TimestampMs> {
        let key = GroupKey { file: file.to_owned(), name: group.to_owned() };
        self.shared.writer.lock().watermark(&key)
    }

    /// Notes that a group has completed a tick.
    pub(super) fn set_watermark(&self, file: &str, group: &str, tick_ms: TimestampMs) {
        let key = GroupKey { file: file.to_owned(), name: group.to_owned() };
        let mut writer = self.shared.writer.lock();
        writer.set_watermark(&key, Some(tick_ms));
        self.shared.publish(&writer);
    }

    /// Asks the disk for everything that was written. The log stays usable.
    pub fn close(&self) {
        self.shared.writer.lock().close();
    }
}

impl Shared {
    fn publish(&self, writer: &Writer) {
        self.generation.store(writer.generation(), Ordering::Release);
    }
}

/// Held until the file is closed; the kernel lets go of it when the process dies.
fn lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| StateError::io("open lock file", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(StateError::io("lock", &path, e)),
    }
}

#[cfg(test)]
mod tests;
