//! Long look-ups in the index, run where they keep nobody else waiting.
//!
//! Most look-ups take microseconds and are done at once, on the thread that asks. One that
//! tries an expression on very many values, or collects very many series, would keep that
//! thread from everything else it has to do for milliseconds. Whoever runs the store knows
//! of threads for such work; here is only decided which work that is.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::storage::StorageError;

/// Steps of some 50 ns, a reference or a quarter of a value, from which on a look-up goes
/// elsewhere: changing threads costs as much as a tenth of that.
pub(crate) const EFFORT_MIN: usize = 1 << 14;

/// Threads for work that takes its time.
pub trait Threads: Send + Sync + fmt::Debug {
    /// Runs the work on another thread. Ready when it has ended, or will never be run.
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// Where long look-ups go; the default does all at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Elsewhere(pub(crate) Option<Arc<dyn Threads>>);

impl Elsewhere {
    /// The threads, where the effort is worth it, which is asked for only where there are any.
    pub(crate) fn for_effort(&self, effort: impl FnOnce() -> usize) -> Option<&Arc<dyn Threads>> {
        self.0.as_ref().filter(|_| effort() >= EFFORT_MIN)
    }
}

/// Runs work on other threads and gives its result. Fails when they will not run it, as at
/// the end of the process.
pub(crate) async fn run<T: Send + 'static>(
    threads: &dyn Threads,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    let done: Arc<Mutex<Option<T>>> = Arc::default();
    let place = Arc::clone(&done);
    threads.run(Box::new(move || *place.lock() = Some(work()))).await;
    let result = done.lock().take();
    result.ok_or(StorageError::Closed)
}
