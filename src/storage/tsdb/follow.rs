//! A data directory that another process writes, read while it does: blocks, the log and
//! what comes to both. Nothing is written there, no lock is taken, and its owner is not
//! asked anything.
//!
//! Someone must call [`Follower::poll`] about every second, on a thread that may block. A
//! reader sees what the owner had written at the last call. When what comes next in the log
//! is gone, because nobody called for hours or the directory was replaced, the directory is
//! opened anew and takes the old view's place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use crate::model::Clock;
use crate::storage::{
    ExemplarSeries, LabelAnswer, LabelRequest, SelectRequest, SeriesSet, Source, StorageError,
};

use super::head::Followed;
use super::{Tsdb, TsdbOptions};

/// How often a directory may change under the hands of who opens it before that is an error.
const ATTEMPTS: usize = 10;

/// Least time between two openings of the directory.
const REOPEN_INTERVAL_NS: u64 = 60_000_000_000;

/// See the module.
pub struct Follower {
    dir: PathBuf,
    options: TsdbOptions,
    clock: Arc<dyn Clock>,
    store: RwLock<Arc<Tsdb>>,
    /// When the directory was last opened; held while polling.
    opened_ns: Mutex<u64>,
}

impl Follower {
    /// Opens a data directory. Blocks until what it holds has been read.
    pub fn open(
        dir: impl AsRef<Path>,
        options: TsdbOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StorageError> {
        let dir = dir.as_ref().to_owned();
        let store = open(&dir, &options, &clock)?;
        let opened_ns = Mutex::new(clock.monotonic_ns());
        Ok(Arc::new(Self { dir, options, clock, store: RwLock::new(store), opened_ns }))
    }

    /// The directory as it was seen last.
    pub fn store(&self) -> Arc<Tsdb> {
        Arc::clone(&self.store.read())
    }

    /// The directory that is followed.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads what was written since the last call. May be repeated after an error.
    pub fn poll(&self) -> Result<(), StorageError> {
        let mut opened_ns = self.opened_ns.lock();
        let why = match self.store().follow()? {
            Followed::Level => return Ok(()),
            Followed::Lost => "the part of the log to be read next is gone",
            Followed::UnknownSeries => "the log names series that are not known here",
        };
        let now_ns = self.clock.monotonic_ns();
        if now_ns.saturating_sub(*opened_ns) < REOPEN_INTERVAL_NS {
            return Ok(());
        }
        *opened_ns = now_ns;
        tracing::warn!(directory = %self.dir.display(), reason = why, "reading the directory anew");
        for gauge in [&self.options.metrics.head_series, &self.options.metrics.head_chunks] {
            gauge.set(0);
        }
        let store = open(&self.dir, &self.options, &self.clock)?;
        *self.store.write() = store;
        Ok(())
    }
}

/// Opens a directory that may change meanwhile.
fn open(
    dir: &Path,
    options: &TsdbOptions,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Tsdb>, StorageError> {
    let mut attempt = 1;
    loop {
        match Tsdb::open_read_only(dir, options.clone(), Arc::clone(clock)) {
            Err(error) if attempt < ATTEMPTS && dir.exists() => {
                tracing::debug!(%error, attempt, "the directory changed while it was read");
                attempt += 1;
            }
            done => return done,
        }
    }
}

impl Tsdb {
    /// Reads what the owner of the directory wrote since the last time.
    fn follow(&self) -> Result<Followed, StorageError> {
        let mut known = self.maintenance.lock();
        let followed = self.head.follow()?;
        self.truncate_cut(&mut known);
        if let Some(to_ms) =
            self.blocks.follow(self.head.bounds(), |block| self.head.is_held_by(block))?
        {
            known.cut = Some((to_ms, self.head.mark()));
            self.truncate_cut(&mut known);
        }
        if let Some(up_to) = self.head.take_late_gone() {
            known.late_followed = Some((up_to, self.head.mark()));
        }
        if let Some((up_to, mark)) = known.late_followed
            && self.head.all_read_since(mark)
        {
            self.head.drop_late(up_to);
            known.late_followed = None;
        }
        self.head.keep_house_read_only();
        Ok(followed)
    }
}

impl Source for Follower {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move { self.store().select(request).await })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move { self.store().label_names(request).await })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move { self.store().label_values(name, request).await })
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        Box::pin(async move { self.store().select_exemplars(request).await })
    }
}
