//! How results of rules get into storage, and when they are seen.

use std::sync::Arc;
use std::thread::ThreadId;

use parking_lot::Mutex;
use watchfire::rules::EvaluationOptions;
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::overlay::{Overlay, OverlayOptions};
use watchfire::storage::{Appender, Sink};

use super::faults::BeforeCommit;
use super::harness::{Harness, MINUTE, SECOND};

const START: i64 = 1_700_000_000 * SECOND;

/// Notes on which threads batches are committed; what it is given it may keep to itself.
struct Witness {
    storage: MemoryStorage,
    waits: bool,
    keeps: bool,
    threads: Arc<Mutex<Vec<ThreadId>>>,
}

impl Witness {
    fn new(storage: &MemoryStorage) -> Self {
        Self { storage: storage.clone(), waits: false, keeps: false, threads: Arc::default() }
    }
}

impl Sink for Witness {
    fn appender(&self) -> Box<dyn Appender> {
        let to = if self.keeps { MemoryStorage::new() } else { self.storage.clone() };
        let threads = self.threads.clone();
        BeforeCommit::appender(to.appender(), move || {
            threads.lock().push(std::thread::current().id());
            Ok(())
        })
    }

    fn commit_waits(&self) -> bool {
        self.waits
    }

    fn shows_at_once(&self) -> bool {
        !self.keeps
    }
}

#[tokio::test]
async fn only_commits_that_take_long_leave_the_thread_of_the_evaluation() {
    let rules = "groups: [{name: g, rules: [{record: r, expr: n}]}]";
    for (series, waits, stays) in [(1, false, true), (1, true, false), (5_000, false, false)] {
        let storage = Arc::new(MemoryStorage::new());
        let sink = Arc::new(Witness { waits, ..Witness::new(&storage) });
        let threads = sink.threads.clone();
        let options = EvaluationOptions::default();
        let mut h = Harness::over(storage.clone(), storage, sink, START, options);
        h.load(rules).await.unwrap();
        for i in 0..series {
            h.put(&format!("n/i={i}"), 1.0);
        }
        h.tick().await;
        // The second time the series end, which is as much work.
        let next = h.clock_next();
        for i in 0..series {
            h.put_at(&format!("n/i={i}"), next, f64::from_bits(0x7ff0_0000_0000_0002));
        }
        h.tick().await;
        let here = std::thread::current().id();
        let stayed: Vec<bool> = threads.lock().iter().map(|id| *id == here).collect();
        assert_eq!(stayed, [stays, stays], "{series} series, waits: {waits}");
        let stored = h.stored("r").await;
        assert_eq!(stored.len(), 2 * series);
        assert_eq!(stored.iter().filter(|s| s.ends_with("=stale")).count(), series);
    }
}

#[tokio::test]
async fn results_are_seen_in_their_tick_on_storage_that_shows_nothing_yet() {
    let rules = "
groups:
- name: g
  rules:
  - {record: a, expr: n}
  - {record: b, expr: a * 2}
  - {record: c, expr: 'count_over_time(b[10m])'}
  - {alert: A, expr: b > 5, for: 30s}
  - {record: d, expr: 'count(ALERTS{alertname=\"A\",alertstate=\"pending\"})'}
";
    for laid_over in [true, false] {
        let storage = Arc::new(MemoryStorage::new());
        let sink = Arc::new(Witness { keeps: true, ..Witness::new(&storage) });
        let recent = Overlay::new(storage.clone(), sink.clone(), OverlayOptions::default());
        let recent = Arc::new(recent);
        let options = EvaluationOptions::default();
        let mut h = match laid_over {
            true => Harness::over(storage, recent.clone(), recent.clone(), START, options),
            false => Harness::over(storage.clone(), storage, sink, START, options),
        };
        h.load("groups: []").await.unwrap();
        h.load(rules).await.unwrap();
        let mut seen = Vec::new();
        for n in [2.0, 3.0, 4.0] {
            h.put("n", n);
            h.tick().await;
            let firing = h.sent().len();
            let mut values = Vec::new();
            for name in ["a", "b", "c", "d"] {
                let stored = h.stored_in(&*recent, name).await;
                values
                    .push(stored.last().map_or("-", |s| s.rsplit('=').next().unwrap()).to_owned());
            }
            seen.push(format!("{} {firing}", values.join(" ")));
        }
        // The rule `b` fails to see `a` where nothing is laid over: no alert either.
        let expected: [&str; 3] = match laid_over {
            true => ["2 4 1 - 0", "3 6 2 1 0", "4 8 3 stale 1"],
            false => ["- - - - 0", "- - - - 0", "- - - - 0"],
        };
        assert_eq!(seen, expected, "laid over: {laid_over}");
    }
}

#[tokio::test]
async fn a_removed_group_ends_its_series_where_its_next_samples_would_have_been() {
    let storage = Arc::new(MemoryStorage::new());
    let mut h = Harness::new(storage, START);
    h.settings.query_offset_ms = 10 * SECOND;
    h.load("groups: [{name: g, rules: [{record: r, expr: vector(1)}]}]").await.unwrap();
    let tick = h.tick().await;
    h.advance_to(tick + SECOND).await;
    h.load("groups: []").await.unwrap();
    h.sleepers -= 1;
    h.advance_to(tick + SECOND + MINUTE).await;
    let (sample, end) = (tick - 10 * SECOND, tick - 9 * SECOND);
    let expected = [format!("{{}}@{sample}=1"), format!("{{}}@{end}=stale")];
    assert_eq!(h.stored("r").await, expected);
}
