//! Limits of queries in rules: the rule fails with the text its query fails with, and what it
//! knew before stays.

use std::sync::Arc;
use std::time::Duration;

use watchfire::query::EngineOptions;
use watchfire::rules::view::{AlertState, RuleHealth};
use watchfire::storage::memory::MemoryStorage;

use super::harness::{Harness, MINUTE, SECOND};

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
