//! What a query may cost, and who may stop it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use tokio_util::sync::CancellationToken;
use watchfire::model::value::Value;
use watchfire::model::{Clock, Labels, StepGrid};
use watchfire::query::{Engine, EngineOptions, QueryError, RunOptions};
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::{
    LabelAnswer, LabelRequest, RawSeries, SelectRequest, SeriesSet, Source, StorageError,
};
use watchfire::vector::RawSamples;

use super::{block_on, engine, load};

fn many_series(series: u32, samples: i64) -> Arc<dyn Source> {
    let storage = MemoryStorage::new();
    for i in 0..series {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]);
        for t in 0..samples {
            storage.append(&labels, t * 60_000, t as f64, None).unwrap();
        }
    }
    Arc::new(storage)
}

fn run(options: EngineOptions, run: &RunOptions, expr: &str) -> Result<Value, QueryError> {
    let source = many_series(300, 60);
    let query = Engine::new(options).prepare(expr)?;
    let grid = StepGrid::range(0, 3_540_000, 60_000).unwrap();
    block_on(query.range(&source, grid, run)).map(|r| r.value)
}

#[test]
fn too_many_samples_are_refused() {
    let limited = |max_samples| EngineOptions { max_samples, ..EngineOptions::default() };
    let check = |max_samples, expr: &str, fails: bool| {
        let result = run(limited(max_samples), &RunOptions::default(), expr);
        assert_eq!(matches!(result, Err(QueryError::TooManySamples)), fails, "{expr}");
    };
    check(17_000, "m", true);
    check(40_000, "m", false);
    // Streaming holds a few blocks at most, never the matrix.
    check(2_000, "sum(rate(m[5m]))", false);
    check(2_000, "m + m", true);
}

#[test]
fn a_query_stops_when_told_to() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let canceled = RunOptions { cancel, ..RunOptions::default() };
    let expr = "sum_over_time((sum without (i) (m * on (i) m))[50m:1s])";
    let result = run(EngineOptions::default(), &canceled, expr);
    assert_eq!(
        result.map_err(|e| e.to_string()),
        Err("query was canceled in query execution".into())
    );
    let options = RunOptions { timeout: Some(Duration::ZERO), ..RunOptions::default() };
    let result = run(EngineOptions::default(), &options, expr);
    assert_eq!(result.map_err(|e| e.to_string()), Err("query timed out in query execution".into()));
}

#[test]
fn only_scalars_and_instant_vectors_have_ranges() {
    let grid = StepGrid::instant(0);
    for (expr, kind) in [("m[5m]", "range vector"), ("'x'", "string")] {
        let query = engine().prepare(expr).unwrap();
        let source = load(&[]);
        let error = block_on(query.range(&source, grid, &RunOptions::default())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
            )
        );
    }
}

#[test]
fn statistics_count_windows_and_samples() {
    let source = many_series(1, 11);
    let options = EngineOptions { per_step_stats: true, ..EngineOptions::default() };
    let engine = Engine::new(options);
    let run = RunOptions { per_step_stats: true, ..RunOptions::default() };
    let check = |expr: &str, grid: StepGrid, expected: &[(u64, u64)]| {
        let query = engine.prepare(expr).unwrap();
        let result = if grid.is_instant() {
            block_on(query.instant(&source, grid.start_ms, &run))
        } else {
            block_on(query.range(&source, grid, &run))
        };
        let stats = result.unwrap().stats;
        let counts = |steps: Option<Vec<(i64, u64)>>| {
            let (times, counts): (Vec<_>, Vec<_>) = steps.unwrap().into_iter().unzip();
            assert_eq!(times, grid.iter().collect::<Vec<_>>(), "{expr}");
            counts
        };
        let queryable = counts(stats.total_queryable_samples_per_step);
        let read = counts(stats.samples_read_per_step);
        let total = (stats.total_queryable_samples, stats.samples_read);
        assert_eq!(total, (queryable.iter().sum(), read.iter().sum()), "{expr}");
        assert_eq!(queryable.into_iter().zip(read).collect::<Vec<_>>(), expected, "{expr}");
    };
    let range = StepGrid::range(300_000, 420_000, 60_000).unwrap();
    let instant = StepGrid::instant(300_000);
    // Windows of five samples; at each step but the first one of them is new.
    check("rate(m[5m])", range, &[(5, 5), (5, 1), (5, 1)]);
    check("m", range, &[(1, 1); 3]);
    // What is pinned counts at every step, and is read once, also where it cannot be hoisted.
    check("m @ 60 + m", range, &[(2, 2), (2, 1), (2, 1)]);
    check("rate(m[5m] @ 300)", range, &[(5, 5), (5, 0), (5, 0)]);
    check("predict_linear(m[5m] @ 300, time())", range, &[(5, 5), (5, 0), (5, 0)]);
    // A function over a subquery counts its windows; what is below counts as read as well.
    check("max_over_time(m[2m:1m])", range, &[(2, 4), (2, 2), (2, 2)]);
    check("max_over_time(m[2m:1m] @ 300)", range, &[(2, 4), (2, 0), (2, 0)]);
    check("max_over_time(rate(m[5m])[2m:1m])", instant, &[(2, 2 + 6)]);
    // Alone, a range vector counts its samples, a subquery what is below it.
    check("m[3m]", instant, &[(3, 3)]);
    check("m[2m:1m]", instant, &[(2, 2)]);
    check("rate(m[3m])[2m:1m]", instant, &[(6, 4)]);
}

/// A second passes from one look at it to the next.
#[derive(Default)]
struct TickingClock(AtomicU64);

impl Clock for TickingClock {
    fn now_ms(&self) -> i64 {
        0
    }

    fn sleep_until(&self, _: i64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.fetch_add(1_000_000_000, Ordering::SeqCst)
    }
}

#[test]
fn statistics_time_every_phase() {
    let source = many_series(2, 2);
    let engine = engine();
    engine.set_clock(Arc::new(TickingClock::default()));
    let query = engine.prepare("m").unwrap();
    let grid = StepGrid::instant(0);
    let stats = block_on(query.range(&source, grid, &RunOptions::default())).unwrap().stats;
    // Looked at on arrival, with a slot, with the series, around the sorting, and at the end.
    let inner = (stats.queue_seconds, stats.prepare_seconds, stats.inner_eval_seconds);
    assert_eq!((inner, stats.result_sort_seconds), ((1.0, 1.0, 2.0), 1.0));
    assert_eq!((stats.eval_total_seconds, stats.exec_total_seconds), (4.0, 5.0));
}

#[test]
fn a_range_may_end_between_steps() {
    let source = many_series(1, 11);
    let query = engine().prepare("m @ end()").unwrap();
    let grid = StepGrid::range(0, 290_000, 120_000).unwrap();
    let check = |end_ms, expected: f64| {
        let run = RunOptions { end_ms, ..RunOptions::default() };
        let value = block_on(query.range(&source, grid, &run)).unwrap().value;
        let Value::Matrix(matrix) = value else { panic!("no matrix") };
        let values: Vec<f64> = matrix[0].points.iter().map(|(_, s)| super::number(s)).collect();
        assert_eq!(values, [expected; 3]);
    };
    check(None, 4.0);
    check(Some(320_000), 5.0);
}

#[test]
fn too_much_memory_is_refused_by_the_name_of_the_flag() {
    let limited = |max_memory_bytes| EngineOptions { max_memory_bytes, ..Default::default() };
    let check = |max_memory_bytes, expr: &str, fails: bool| {
        let result = run(limited(max_memory_bytes), &RunOptions::default(), expr);
        match result {
            Err(QueryError::TooMuchMemory(limit)) => {
                assert_eq!((limit, fails), (max_memory_bytes, true))
            }
            other => {
                assert!(other.is_ok() && !fails, "{expr} within {max_memory_bytes}: {other:?}")
            }
        }
    };
    // 300 series of 60 samples: 288,000 bytes and the labels.
    check(280_000, "m", true);
    check(700_000, "m", false);
    check(280_000, "sum(rate(m[5m]))", false);
    // The series alone.
    check(10_000, "count(m)", true);
    let error = run(limited(10_000), &RunOptions::default(), "m").unwrap_err().to_string();
    assert!(error.contains("10000 bytes") && error.contains("--query.max-memory-bytes"), "{error}");
}

/// Series of one sample whose first read, on demand, waits until it is let go.
struct Watched {
    labels: Labels,
    log: Arc<ReadLog>,
}

/// What happened to the series of a [`WatchedSource`].
#[derive(Default)]
struct ReadLog {
    selects: AtomicUsize,
    reads: AtomicUsize,
    readers: Mutex<Vec<ThreadId>>,
    /// Told when the first read begins; answers when it may go on.
    gate: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl RawSeries for Watched {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read_into(&self, _: i64, to_ms: i64, out: &mut RawSamples) -> Result<(), StorageError> {
        self.log.reads.fetch_add(1, Ordering::SeqCst);
        self.log.readers.lock().push(thread::current().id());
        if let Some((began, go_on)) = self.log.gate.lock().take() {
            began.send(()).unwrap();
            go_on.recv().unwrap();
        }
        out.push(to_ms, 1.0);
        Ok(())
    }
}

/// Makes series at every select, or never answers when `stuck`.
struct WatchedSource {
    series: usize,
    stuck: bool,
    log: Arc<ReadLog>,
}

impl Source for WatchedSource {
    fn select<'a>(
        &'a self,
        _: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        self.log.selects.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            if self.stuck {
                std::future::pending::<()>().await;
            }
            let one = |i: usize| -> Arc<dyn RawSeries> {
                let labels = Labels::from_pairs([("__name__", "m"), ("i", &format!("{i:06}"))]);
                Arc::new(Watched { labels, log: self.log.clone() })
            };
            Ok(SeriesSet { series: (0..self.series).map(one).collect(), warnings: vec![] })
        })
    }

    fn label_names<'a>(
        &'a self,
        _: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(std::future::pending())
    }

    fn label_values<'a>(
        &'a self,
        _: &'a str,
        _: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(std::future::pending())
    }
}

/// Lets a future go on once, and says whether it has not ended.
async fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

fn watched(series: usize, stuck: bool) -> (Arc<dyn Source>, Arc<ReadLog>) {
    let log = Arc::new(ReadLog::default());
    (Arc::new(WatchedSource { series, stuck, log: log.clone() }), log)
}

#[test]
fn queries_beyond_the_concurrency_wait_for_a_slot() {
    let (source, log) = watched(1, true);
    let options = EngineOptions { max_concurrency: 1, ..EngineOptions::default() };
    let query = Engine::new(options).prepare("m").unwrap();
    let run = RunOptions::default();
    block_on(async {
        let mut first = Box::pin(query.instant(&source, 0, &run));
        let mut second = Box::pin(query.instant(&source, 0, &run));
        assert!(is_pending(&mut first).await && is_pending(&mut second).await);
        assert_eq!(log.selects.load(Ordering::SeqCst), 1);
        drop(first);
        assert!(is_pending(&mut second).await);
        assert_eq!(log.selects.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_query_nobody_waits_for_stops_reading() {
    let (source, log) = watched(50_000, false);
    for expr in ["m", "rate(m[5m])", "sum(max_over_time(m[1h]))", "m + m", "topk(3, m)"] {
        let ((began, has_begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
        *log.gate.lock() = Some((began, may_go_on));
        log.reads.store(0, Ordering::SeqCst);
        let options = EngineOptions { parallel: false, max_concurrency: 1, ..Default::default() };
        let query = Engine::new(options).prepare(expr).unwrap();
        block_on(async {
            let run = RunOptions::default();
            let mut asked = Box::pin(query.instant(&source, 0, &run));
            assert!(is_pending(&mut asked).await, "{expr}");
            has_begun.recv().unwrap();
            drop(asked);
            go_on.send(()).unwrap();
            // The only slot is free again once the evaluation has ended.
            let next = RunOptions { timeout: Some(Duration::from_secs(60)), ..run };
            let other = load(&[]);
            query.instant(&other, 0, &next).await.unwrap();
        });
        // It looks at least after every block of series.
        let reads = log.reads.load(Ordering::SeqCst);
        assert!(reads <= 5_000, "{expr}: {reads} reads after nobody waited");
    }
}

#[test]
fn work_that_takes_long_leaves_the_async_thread_free() {
    let reader = |series: usize, expr: &str| {
        let (source, log) = watched(series, false);
        let query = engine().prepare(expr).unwrap();
        block_on(query.instant(&source, 0, &RunOptions::default())).unwrap();
        let readers = log.readers.lock();
        readers.iter().all(|id| *id == thread::current().id())
    };
    assert!(reader(3, "m"), "a small query needs no other thread");
    assert!(reader(100, "sum(rate(m[5m]))"));
    assert!(!reader(3, "max_over_time(m[30d])"), "few series, but a long window");
    assert!(!reader(20_000, "m"), "many series");
}
