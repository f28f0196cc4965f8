//! Storage that opens later: the HTTP side answers (with 503) while the write-ahead log
//! is still being replayed, so every room is given this and finds the store in it then. What
//! opens is the embedded store, or a server that is read.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;

use crate::model::metadata::Metadata;
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::storage::tsdb::{Follower, Tsdb};
use crate::storage::{
    AppendError, Appender, ExemplarSeries, LabelAnswer, LabelRequest, PushDown, SelectRequest,
    SeriesRef, SeriesSet, Sink, Source, StorageError,
};

/// A place for the storage, empty until it is open.
#[derive(Default)]
pub(super) struct LateStorage {
    store: OnceLock<Opened>,
}

/// What is open.
enum Opened {
    Own(Arc<Tsdb>),
    /// Another process' own data directory.
    Followed(Arc<Follower>),
    /// A server, and where goes what is written meanwhile.
    Server {
        source: Arc<dyn Source>,
        sink: Arc<dyn Sink>,
    },
}

impl LateStorage {
    /// Puts the store in place; done once.
    pub fn set(&self, store: Arc<Tsdb>) {
        self.put(Opened::Own(store));
    }

    /// Puts a directory in place that is only read; done once.
    pub fn set_followed(&self, follower: Arc<Follower>) {
        self.put(Opened::Followed(follower));
    }

    /// Puts a server in place; done once.
    pub fn set_server(&self, source: Arc<dyn Source>, sink: Arc<dyn Sink>) {
        self.put(Opened::Server { source, sink });
    }

    fn put(&self, opened: Opened) {
        assert!(self.store.set(opened).is_ok(), "BUG: the store is opened once");
    }

    /// The store, once it is open: one's own, or what was last seen of another's.
    pub fn get(&self) -> Option<Arc<Tsdb>> {
        match self.store.get()? {
            Opened::Own(store) => Some(Arc::clone(store)),
            Opened::Followed(follower) => Some(follower.store()),
            Opened::Server { .. } => None,
        }
    }

    /// The store, once it is open, if it may be written.
    pub fn own(&self) -> Option<&Arc<Tsdb>> {
        match self.store.get()? {
            Opened::Own(store) => Some(store),
            Opened::Followed(_) | Opened::Server { .. } => None,
        }
    }

    /// The directory that is only read, once it is open.
    pub fn followed(&self) -> Option<&Arc<Follower>> {
        match self.store.get()? {
            Opened::Followed(follower) => Some(follower),
            Opened::Own(_) | Opened::Server { .. } => None,
        }
    }

    fn open(&self) -> Result<Arc<dyn Source>, StorageError> {
        match self.store.get().ok_or(StorageError::Closed)? {
            Opened::Own(store) => Ok(store.clone()),
            Opened::Followed(follower) => Ok(follower.store()),
            Opened::Server { source, .. } => Ok(source.clone()),
        }
    }
}

impl Source for LateStorage {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move { self.open()?.select(request).await })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move { self.open()?.label_names(request).await })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move { self.open()?.label_values(name, request).await })
    }

    fn push_down(&self, datasource: Option<&str>) -> Option<PushDown> {
        match self.store.get()? {
            Opened::Server { source, .. } => source.push_down(datasource),
            Opened::Own(_) | Opened::Followed(_) => None,
        }
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        Box::pin(async move { self.open()?.select_exemplars(request).await })
    }
}

impl Sink for LateStorage {
    fn appender(&self) -> Box<dyn Appender> {
        match self.store.get() {
            Some(Opened::Own(store)) => store.appender(),
            Some(Opened::Server { sink, .. }) => sink.appender(),
            Some(Opened::Followed(_)) => Box::new(Refuses(StorageError::Unsupported(
                "the data directory is another process' own and only read here \
                  (--storage.tsdb.read-only); send samples to that process"
                    .to_owned(),
            ))),
            None => Box::new(Refuses(StorageError::Closed)),
        }
    }

    fn commit_waits(&self) -> bool {
        self.own().is_some_and(|store| store.commit_waits())
    }
}

/// What appends meet where nothing can be appended.
struct Refuses(StorageError);

impl Appender for Refuses {
    fn append(
        &mut self,
        _: Option<SeriesRef>,
        _: &Labels,
        _: TimestampMs,
        _: f64,
    ) -> Result<SeriesRef, AppendError> {
        Err(self.0.clone().into())
    }

    fn append_histogram(
        &mut self,
        _: Option<SeriesRef>,
        _: &Labels,
        _: TimestampMs,
        _: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        Err(self.0.clone().into())
    }

    fn append_metadata(&mut self, _: &str, _: &Metadata) {}

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        Err(self.0)
    }
}
