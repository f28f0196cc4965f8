//! Storage that opens later: the HTTP side answers (with 503) while the write-ahead log
//! is still being replayed, so every room is given this and finds the store in it then. What
//! opens is the embedded store, or a server that is read.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;

use crate::model::metadata::Metadata;
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::storage::tsdb::Tsdb;
use crate::storage::{
    AppendError, Appender, ExemplarSeries, LabelAnswer, LabelRequest, SelectRequest, SeriesRef,
    SeriesSet, Sink, Source, StorageError,
};

/// What was opened.
struct Opened {
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    /// When it is the embedded store.
    tsdb: Option<Arc<Tsdb>>,
}

/// A place for the storage, empty until it is open.
#[derive(Default)]
pub(super) struct LateStorage {
    opened: OnceLock<Opened>,
}

impl LateStorage {
    /// Puts the embedded store in place; done once, unless `set_remote` is.
    pub fn set(&self, store: Arc<Tsdb>) {
        let opened =
            Opened { source: store.clone(), sink: store.clone(), tsdb: Some(store.clone()) };
        assert!(self.opened.set(opened).is_ok(), "BUG: the store is opened once");
    }

    /// Puts a server in place, and what is written while nothing is kept here.
    pub fn set_remote(&self, source: Arc<dyn Source>, sink: Arc<dyn Sink>) {
        let opened = Opened { source, sink, tsdb: None };
        assert!(self.opened.set(opened).is_ok(), "BUG: the storage is opened once");
    }

    /// The embedded store, once it is open.
    pub fn get(&self) -> Option<&Arc<Tsdb>> {
        self.opened.get()?.tsdb.as_ref()
    }

    fn open(&self) -> Result<&Arc<dyn Source>, StorageError> {
        self.opened.get().map(|opened| &opened.source).ok_or(StorageError::Closed)
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

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        Box::pin(async move { self.open()?.select_exemplars(request).await })
    }
}

impl Sink for LateStorage {
    fn appender(&self) -> Box<dyn Appender> {
        match self.opened.get() {
            Some(opened) => opened.sink.appender(),
            None => Box::new(NotOpen),
        }
    }

    fn commit_waits(&self) -> bool {
        self.opened.get().is_some_and(|opened| opened.sink.commit_waits())
    }

    // What a server is sent shows later: `rule_storage` knows before anything is open.
}

/// What appends meet before the store is open.
struct NotOpen;

impl Appender for NotOpen {
    fn append(
        &mut self,
        _: Option<SeriesRef>,
        _: &Labels,
        _: TimestampMs,
        _: f64,
    ) -> Result<SeriesRef, AppendError> {
        Err(StorageError::Closed.into())
    }

    fn append_histogram(
        &mut self,
        _: Option<SeriesRef>,
        _: &Labels,
        _: TimestampMs,
        _: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        Err(StorageError::Closed.into())
    }

    fn append_metadata(&mut self, _: &str, _: &Metadata) {}

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        Err(StorageError::Closed)
    }
}
