//! Where look-ups in the index are done: short ones at once, long ones on other threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use watchfire::storage::tsdb::Threads;

use super::*;

/// Runs work on a thread, at once, and counts; or refuses.
#[derive(Debug, Default)]
struct Counted {
    runs: AtomicUsize,
    refuses: bool,
}

impl Threads for Counted {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        if !self.refuses {
            self.runs.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(work).join().expect("sound work");
        }
        Box::pin(std::future::ready(()))
    }
}

const SERIES: usize = 8_000;

#[test]
fn long_look_ups_go_elsewhere_and_short_ones_do_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let threads = Arc::new(Counted::default());
    let clock = Arc::new(ManualClock::new(0));
    let with = |threads: Option<Arc<dyn Threads>>| TsdbOptions {
        threads,
        chunk_range_ms: 10_000,
        ..Default::default()
    };
    let tsdb = Tsdb::open(dir.path(), with(Some(threads.clone())), clock.clone());
    let tsdb = tsdb.expect("a store");
    commit(&tsdb, "m", SERIES, 1_000, 1.0).expect("a commit");
    let looked = |matchers: Vec<Matcher>, expected: usize, runs: usize| {
        let before = threads.runs.load(Ordering::Relaxed);
        let what = format!("{matchers:?}");
        assert_eq!(select(&tsdb, matchers, i64::MIN, i64::MAX).len(), expected, "{what}");
        assert_eq!(threads.runs.load(Ordering::Relaxed) - before, runs, "{what}");
    };
    let equal = |value: &str| Matcher::equal("series", value);
    let pattern = |text: &str| matcher(MatchOp::Regex, "series", text);
    looked(vec![equal("77")], 1, 0);
    looked(vec![pattern("77|78")], 2, 0);
    looked(vec![Matcher::equal("__name__", "m")], SERIES, 0);
    looked(vec![pattern(".*77.*"), equal("77")], 1, 0);
    let sevens = (0..SERIES).filter(|i| i.to_string().contains("77")).count();
    looked(vec![pattern(".*77.*")], sevens, 1);
    looked(vec![pattern(".*77.*")], sevens, 0);
    // The same in a block, which remembers nothing.
    for n in 2..=40 {
        clock.set_ms(n * 1_000);
        commit(&tsdb, "n", 1, n * 1_000, 1.0).expect("a commit");
    }
    for _ in 0..3 {
        tsdb.maintain().expect("maintenance");
    }
    assert!(!tsdb.block_metas().is_empty());
    looked(vec![equal("77")], 1, 0);
    looked(vec![pattern(".*77.*")], sevens, 1);
    let before = threads.runs.load(Ordering::Relaxed);
    let all = LabelRequest { from_ms: i64::MIN, to_ms: i64::MAX, ..Default::default() };
    assert_eq!(label_values(&tsdb, "series", &all).len(), SERIES);
    assert_eq!(threads.runs.load(Ordering::Relaxed) - before, 1, "values of a block");
    drop(tsdb);
    // Threads that are no more are an error, not an empty answer.
    let refusing = Arc::new(Counted { refuses: true, ..Default::default() });
    let tsdb = open_with(dir.path(), with(Some(refusing))).expect("a store");
    let request = request(vec![pattern(".*77.*")], i64::MIN, i64::MAX);
    let found = tsdb.select(&request).now_or_never().expect("no waiting");
    assert!(matches!(found, Err(StorageError::Closed)));
}
