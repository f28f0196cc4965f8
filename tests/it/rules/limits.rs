//! Limits of queries in rules: the rule fails with the text its query fails with, and what it
//! knew before stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use watchfire::query::EngineOptions;
use watchfire::rules::EvaluationOptions;
use watchfire::rules::view::{AlertState, RuleHealth};
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::{
    LabelAnswer, LabelRequest, SelectRequest, SeriesSet, Source, StorageError,
};

use super::harness::{Harness, MINUTE, SECOND, Setup};

const RULES: &str = "
groups:
  - name: g
    interval: 1m
    rules:
      - record: out
        expr: count_over_time(m[10m]) + 0 * m
      - alert: A
        expr: m > 0
";

/// The rules run once without trouble; then there are more series, and the limits are met.
async fn check(limits: EngineOptions, error: &str) {
    let storage = Arc::new(MemoryStorage::new());
    let mut harness = Harness::with_engine(storage, 0, limits);
    harness.put("m/i=0", 1.0);
    harness.load(RULES).await.unwrap();
    harness.tick().await;
    let ran_before = harness.rule("out").health == RuleHealth::Ok;
    for i in 1..200 {
        harness.put(&format!("m/i={i}"), 1.0);
    }
    harness.put("m/i=0", 1.0);
    harness.tick().await;
    for name in ["out", "A"] {
        let rule = harness.rule(name);
        assert_eq!((rule.health, rule.last_error.as_str()), (RuleHealth::Err, error), "{name}");
    }
    if ran_before {
        assert_eq!(harness.alerting("A").state, AlertState::Firing, "a failure resolves nothing");
    }
}

#[tokio::test]
async fn samples() {
    let error = "query processing would load too many samples into memory in query execution";
    check(EngineOptions { max_samples: 50, ..EngineOptions::default() }, error).await;
}

#[tokio::test]
async fn memory() {
    let error = "query would hold more than 5000 bytes in memory in query execution: select \
                 fewer series or a shorter time, or raise --query.max-memory-bytes";
    check(EngineOptions { max_memory_bytes: 5000, ..EngineOptions::default() }, error).await;
}

#[tokio::test]
async fn time() {
    let limits = EngineOptions { timeout: Duration::ZERO, ..EngineOptions::default() };
    check(limits, "query timed out in query execution").await;
}

/// Storage that counts how many selects it is asked at once.
#[derive(Default)]
struct Crowded {
    storage: MemoryStorage,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Source for Crowded {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(under_way, Ordering::Relaxed);
            // On one thread: everybody who may ask as well does so meanwhile.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            Source::select(&self.storage, request).await
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Source::label_names(&self.storage, request)
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Source::label_values(&self.storage, name, request)
    }
}

#[tokio::test]
async fn evaluations_at_once() {
    let mut rules = String::from("groups:\n");
    for group in ["g", "h"] {
        let record = |i: u32| format!("  - {{record: '{group}{i}', expr: m + {i}}}\n");
        let records: String = (0..6).map(record).collect();
        rules.push_str(&format!("- name: {group}\n  rules:\n{records}"));
    }
    // --rules.max-concurrent-evals, --query.max-concurrency, and what comes of it for two
    // groups that tick at the same time.
    for (evaluations, queries, most) in
        [(None, 20, 2), (Some(1), 20, 3), (Some(4), 20, 6), (Some(4), 3, 3), (None, 1, 1)]
    {
        let one_by_one =
            EvaluationOptions { shared: false, align_groups: true, ..Default::default() };
        let evaluation = match evaluations {
            Some(max) => one_by_one.with_concurrent_evals(max),
            None => one_by_one,
        };
        let source = Arc::new(Crowded::default());
        let storage = Arc::new(source.storage.clone());
        let setup = Setup {
            source: Some(source.clone()),
            evaluation,
            engine: EngineOptions { max_concurrency: queries, ..EngineOptions::default() },
            ..Setup::default()
        };
        let mut harness = Harness::with(storage, 0, setup);
        harness.clock.grid_ms.store(30 * SECOND, Ordering::Relaxed);
        harness.load(&rules).await.unwrap();
        harness.put("m", 1.0);
        harness.tick().await;
        let got = source.most.load(Ordering::Relaxed);
        assert_eq!(got, most, "{evaluations:?} evaluations, {queries} queries");
        let made = |name: &str| harness.rule(name).health;
        assert!(["g0", "g5", "h0", "h5"].into_iter().all(|n| made(n) == RuleHealth::Ok));
    }
}

#[tokio::test]
async fn nesting_is_refused_when_the_rules_are_loaded() {
    let mut harness = Harness::new(Arc::new(MemoryStorage::new()), 30 * SECOND + MINUTE);
    let deep = format!("{}m{}", "abs(".repeat(501), ")".repeat(501));
    let rules = format!("groups: [{{name: g, rules: [{{record: x, expr: '{deep}'}}]}}]");
    let error = harness.load(&rules).await.unwrap_err().to_string();
    assert!(
        error.contains(
            "expression is nested too deeply: at most 500 levels are allowed; split it into \
             recording rules"
        ),
        "{error}"
    );
}
