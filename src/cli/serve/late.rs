//! Storage that opens later: the HTTP side answers (with 503) while the write-ahead log
//! is still being replayed, so every room is given this and finds the store in it then.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;

use crate::model::metadata::Metadata;
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::storage::tsdb::Tsdb;
use crate::storage::{
    AppendError, Appender, ExemplarSeries, LabelAnswer, LabelRequest, SelectRequest, SeriesRef,
    SeriesSet, Sink, Source, StorageError,
};

/// A place for the store, empty until it is open.
#[derive(Default)]
pub(super) struct LateStorage {
    store: OnceLock<Arc<Tsdb>>,
}

impl LateStorage {
    /// Puts the store in place; done once.
    pub fn set(&self, store: Arc<Tsdb>) {
        assert!(self.store.set(store).is_ok(), "BUG: the store is opened once");
    }

    /// The store, once it is open.
    pub fn get(&self) -> Option<&Arc<Tsdb>> {
        self.store.get()
    }

    fn open(&self) -> Result<&Arc<Tsdb>, StorageError> {
        self.get().ok_or(StorageError::Closed)
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
        match self.get() {
            Some(store) => store.appender(),
            None => Box::new(NotOpen),
        }
    }

    fn commit_waits(&self) -> bool {
        self.get().is_some_and(|store| store.commit_waits())
    }
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
