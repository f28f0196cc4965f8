//! Storage that shows only after a while what was written to it, as remote ones do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::future::BoxFuture;
use watchfire::model::metadata::Metadata;
use watchfire::model::{FloatHistogram, Labels};
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::{
    AppendError, Appender, LabelAnswer, LabelRequest, SelectRequest, SeriesRef, SeriesSet, Sink,
    Source, StorageError,
};

use super::harness::{SECOND, TestClock};

/// How long it takes.
const DELAY_MS: i64 = 100 * SECOND;

type Samples = Vec<(Labels, i64, f64)>;

pub struct Late {
    storage: Arc<MemoryStorage>,
    /// What is not shown yet, each with the time it was written.
    hidden: Arc<Mutex<VecDeque<(i64, Samples)>>>,
    clock: Mutex<Option<Arc<TestClock>>>,
    /// Set when everything is to be seen.
    done: OnceLock<()>,
}

impl Late {
    pub fn new(storage: Arc<MemoryStorage>) -> Arc<Self> {
        let (hidden, clock) = (Arc::default(), Mutex::default());
        Arc::new(Self { storage, hidden, clock, done: OnceLock::new() })
    }

    /// The clock of the process that writes from now on.
    pub fn set_clock(&self, clock: Arc<TestClock>) {
        *self.clock.lock().unwrap() = Some(clock);
    }

    fn now(&self) -> i64 {
        self.clock.lock().unwrap().as_ref().map_or(i64::MIN, |clock| clock.now())
    }

    /// Shows everything.
    pub fn show_all(&self) {
        self.done.get_or_init(|| ());
        self.show();
    }

    fn show(&self) {
        let now = self.now();
        let mut hidden = self.hidden.lock().unwrap();
        let due = |at: i64| self.done.get().is_some() || at + DELAY_MS <= now;
        while hidden.front().is_some_and(|(at, _)| due(*at)) {
            let (_, samples) = hidden.pop_front().unwrap();
            let mut appender = Sink::appender(&*self.storage);
            for (labels, ts, value) in samples {
                appender.append(None, &labels, ts, value).unwrap();
            }
            appender.commit().unwrap();
        }
    }
}

impl Source for Late {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        self.show();
        Source::select(&*self.storage, request)
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Source::label_names(&*self.storage, request)
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Source::label_values(&*self.storage, name, request)
    }
}

impl Sink for Late {
    fn appender(&self) -> Box<dyn Appender> {
        let (now, hidden) = (self.now(), self.hidden.clone());
        Box::new(LateAppender { now, hidden, samples: Vec::new() })
    }

    fn shows_at_once(&self) -> bool {
        false
    }
}

struct LateAppender {
    now: i64,
    hidden: Arc<Mutex<VecDeque<(i64, Samples)>>>,
    samples: Samples,
}

impl Appender for LateAppender {
    fn append(
        &mut self,
        _hint: Option<SeriesRef>,
        labels: &Labels,
        ts: i64,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        self.samples.push((labels.clone(), ts, value));
        Ok(SeriesRef(0))
    }

    fn append_histogram(
        &mut self,
        _hint: Option<SeriesRef>,
        _labels: &Labels,
        _ts: i64,
        _value: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        unreachable!("the rules make floats")
    }

    fn append_metadata(&mut self, _family: &str, _metadata: &Metadata) {}

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        self.hidden.lock().unwrap().push_back((self.now, self.samples));
        Ok(())
    }
}
