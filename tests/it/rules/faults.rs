//! A source that fails, or says that it is incomplete, when told to.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use watchfire::storage::{
    LabelAnswer, LabelRequest, SelectRequest, SeriesSet, Source, StorageError,
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
