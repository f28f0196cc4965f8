//! Waiting for the disk: what `--rules.state-sync=always` asks for before a change is acted
//! upon. It takes a thread that may block, never the writer's lock, and one wait serves all
//! changes that were written before it began.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Shared;
use super::metrics::StateMetrics;

/// One file of the log, as the disk sees it.
pub(super) struct Disk {
    file: File,
    /// Its directory; the name of the file is in it.
    dir: File,
    /// Bytes that were written.
    written: AtomicU64,
    /// Bytes that the disk has; 0 until the name is there as well.
    synced: Mutex<u64>,
    metrics: StateMetrics,
    #[cfg(test)]
    pub(super) fails: std::sync::atomic::AtomicBool,
}

impl Disk {
    pub(super) fn new(file: &File, dir: &Path, metrics: &StateMetrics) -> io::Result<Self> {
        Ok(Self {
            file: file.try_clone()?,
            dir: File::open(dir)?,
            written: AtomicU64::new(0),
            synced: Mutex::new(0),
            metrics: metrics.clone(),
            #[cfg(test)]
            fails: Default::default(),
        })
    }

    /// A change ends at this length.
    pub(super) fn wrote(&self, len: u64) {
        self.written.store(len, Ordering::Release);
    }

    /// Waits until the disk has the first `len` bytes.
    fn sync(&self, len: u64) -> io::Result<()> {
        let mut synced = self.synced.lock();
        if *synced >= len {
            return Ok(());
        }
        let written = self.written.load(Ordering::Acquire);
        self.metrics.syncs.inc();
        #[cfg(test)]
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.sync_data()?;
        if *synced == 0 {
            self.dir.sync_all()?;
        }
        *synced = written;
        Ok(())
    }
}

/// A change that was written and that the disk may not have.
#[must_use = "a change is acted upon when the disk has it"]
pub(in crate::rules) struct Unsynced {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Arc<Disk>,
    pub(super) generation: u64,
    pub(super) len: u64,
}

impl Unsynced {
    /// Returns when the disk has the change, or when that has failed: it is counted and
    /// logged, and everything is written to a new file. Waits on a thread for that.
    pub(in crate::rules) async fn wait(self) {
        let done = tokio::task::spawn_blocking(move || self.wait_here()).await;
        if let Err(error) = done {
            tracing::error!(%error, "BUG: waiting for the disk of the alert state died");
        }
    }

    /// As `wait`, on this thread.
    pub(super) fn wait_here(self) {
        let result = self.disk.sync(self.len);
        let mut writer = self.shared.writer.lock();
        writer.synced(self.generation, result);
        self.shared.publish(&writer);
    }
}
