//! A source that fails, or says that it is incomplete, when told to; a sink that fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use watchfire::model::metadata::Metadata;
use watchfire::model::{FloatHistogram, Labels};
use watchfire::storage::{
    AppendError, Appender, LabelAnswer, LabelRequest, SelectRequest, SeriesRef, SeriesSet, Sink,
    Source, StorageError,
};

/// What is wrong with the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing answers.
    Down,
    /// What is there is answered, with a warning.
    Partial,
}

pub struct Faulty {
    inner: Arc<dyn Source>,
    fault: Mutex<Fault>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Source>) -> Arc<Self> {
        Arc::new(Self { inner, fault: Mutex::new(Fault::None) })
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn check(&self) -> Result<Vec<String>, StorageError> {
        match *self.fault.lock().unwrap() {
            Fault::None => Ok(vec![]),
            Fault::Down => Err(StorageError::Remote("store is down".to_owned())),
            Fault::Partial => Ok(vec!["store b did not answer".to_owned()]),
        }
    }
}

impl Source for Faulty {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            let warnings = self.check()?;
            let mut set = self.inner.select(request).await?;
            set.warnings.extend(warnings);
            Ok(set)
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.inner.label_names(request)
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.inner.label_values(name, request)
    }
}

/// Takes everything and, when told to, refuses to commit it.
pub struct FaultySink {
    inner: Arc<dyn Sink>,
    down: Arc<AtomicBool>,
}

impl FaultySink {
    pub fn new(inner: Arc<dyn Sink>) -> Arc<Self> {
        Arc::new(Self { inner, down: Arc::default() })
    }

    pub fn fail(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }
}

impl Sink for FaultySink {
    fn appender(&self) -> Box<dyn Appender> {
        let down = self.down.clone();
        BeforeCommit::appender(self.inner.appender(), move || match down.load(Ordering::Relaxed) {
            true => Err(StorageError::Remote("store is down".to_owned())),
            false => Ok(()),
        })
    }

    fn commit_waits(&self) -> bool {
        self.inner.commit_waits()
    }

    fn shows_at_once(&self) -> bool {
        self.inner.shows_at_once()
    }
}

/// Hands everything on, and asks somebody before it commits.
pub struct BeforeCommit<F> {
    inner: Box<dyn Appender>,
    ask: F,
}

impl<F: Fn() -> Result<(), StorageError> + Send + 'static> BeforeCommit<F> {
    pub fn appender(inner: Box<dyn Appender>, ask: F) -> Box<dyn Appender> {
        Box::new(Self { inner, ask })
    }
}

impl<F: Fn() -> Result<(), StorageError> + Send> Appender for BeforeCommit<F> {
    fn append(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: i64,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        self.inner.append(hint, labels, ts, value)
    }

    fn append_histogram(
        &mut self,
        hint: Option<SeriesRef>,
        labels: &Labels,
        ts: i64,
        value: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        self.inner.append_histogram(hint, labels, ts, value)
    }

    fn append_metadata(&mut self, family: &str, metadata: &Metadata) {
        self.inner.append_metadata(family, metadata);
    }

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        (self.ask)()?;
        self.inner.commit()
    }
}
