//! In which order rules see each other's results: the same whatever is evaluated at once.

use std::sync::Arc;

use watchfire::rules::EvaluationOptions;
use watchfire::rules::view::RuleHealth;
use watchfire::storage::memory::MemoryStorage;

use super::harness::{Harness, SECOND};

/// A time far from zero, so that ranges never reach below it.
const START: i64 = 1_700_000_000 * SECOND;

/// Every way to evaluate.
fn ways() -> [(&'static str, EvaluationOptions); 4] {
    let one_by_one = EvaluationOptions { shared: false, ..EvaluationOptions::default() };
    let shared = EvaluationOptions::default();
    [
        ("one by one", one_by_one.clone()),
        ("shared", shared.clone()),
        ("concurrent", one_by_one.with_concurrent_evals(4)),
        ("shared and concurrent", shared.with_concurrent_evals(2)),
    ]
}

/// Loads rules each way, feeds them, and compares what is stored under all `names`.
async fn check(rules: &[&str], feed: impl Fn(&Harness, usize), names: &[&str]) -> Vec<String> {
    let mut outcomes = Vec::new();
    for (way, evaluation) in ways() {
        let storage = Arc::new(MemoryStorage::new());
        let mut h = Harness::with_evaluation(storage, START, evaluation);
        h.load("groups: []").await.unwrap();
        for (load, rules) in rules.iter().enumerate() {
            h.load(rules).await.unwrap();
            for tick in 0..3 {
                feed(&h, load * 3 + tick);
                h.tick().await;
            }
        }
        let mut stored = Vec::new();
        for name in names {
            stored.extend(h.stored(name).await.into_iter().map(|s| format!("{name}{s}")));
        }
        outcomes.push((way, stored));
    }
    let (_, first) = outcomes.remove(0);
    for (way, stored) in outcomes {
        assert_eq!(first, stored, "{way}");
    }
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_sees_earlier_rules_of_its_tick_and_later_ones_of_the_tick_before() {
    let rules = "
groups:
- name: g
  rules:
  - {record: seen, expr: 'count(late) or vector(0)'}
  - {record: one, expr: n}
  - {record: other, expr: n * 100}
  - {record: two, expr: one + 1}
  - {record: two_of_label, expr: '{kind=\"k\"} * 2', labels: {kind: z}}
  - {record: labelled, expr: two, labels: {kind: k}}
  - {record: sum, expr: 'sum({kind=\"k\"}) + sum(other)'}
  - {alert: A, expr: two > 2}
  - {record: alerts, expr: 'count(ALERTS{alertname=\"A\"}) or vector(0)'}
  - {record: late, expr: n > 1}
  - {record: self, expr: 'n + (self or n * 0)'}
";
    let names = ["seen", "one", "two", "two_of_label", "sum", "alerts", "late", "self", "ALERTS"];
    let stored = check(&[rules], |h, tick| h.put("n", tick as f64), &names).await;
    let values = |name: &str| -> Vec<&str> {
        let of = stored.iter().filter(|s| s.starts_with(&format!("{name}{{")));
        of.map(|s| s.rsplit('=').next().unwrap()).collect()
    };
    assert_eq!(values("seen"), ["0", "0", "0"], "`late` is there from the third tick");
    assert_eq!(values("two"), ["1", "2", "3"]);
    assert_eq!(values("two_of_label"), ["2", "4"], "of the tick before");
    assert_eq!(values("sum"), ["1", "102", "203"]);
    assert_eq!(values("alerts"), ["0", "0", "1"]);
    assert_eq!(values("self"), ["0", "1", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn series_a_changed_rule_no_longer_makes_end_before_they_are_read() {
    // The new `a` cannot have the label `i`, so `b` does not seem to read it; but the old
    // one's series with that label end when the new one is first evaluated.
    let rules = |by: &str| {
        format!(
            "
groups:
- name: g
  rules:
  - {{record: a, expr: 'sum by ({by}) (n)'}}
  - {{record: b, expr: 'count(a{{i!=\"\"}}) or vector(0)'}}
"
        )
    };
    let (before, after) = (rules("i"), rules("j"));
    let stored = check(&[&before, &after], |h, tick| h.put("n/i=1,j=2", tick as f64), &["b"]).await;
    let values: Vec<&str> = stored.iter().map(|s| s.rsplit('=').next().unwrap()).collect();
    assert_eq!(values, ["1", "1", "1", "0", "0", "0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_fails_takes_no_other_with_it() {
    for (way, evaluation) in ways() {
        let storage = Arc::new(MemoryStorage::new());
        let mut h = Harness::with_evaluation(storage, START, evaluation);
        h.load(
            "
groups:
- name: g
  rules:
  - {record: a, expr: n}
  - {record: b, expr: n + on () n2}
  - {record: c, expr: n}
",
        )
        .await
        .unwrap();
        h.put("n", 1.0);
        h.put("n2/i=1", 1.0);
        h.put("n2/i=2", 1.0);
        h.tick().await;
        let health = ["a", "b", "c"].map(|name| h.rule(name).health);
        assert_eq!(health, [RuleHealth::Ok, RuleHealth::Err, RuleHealth::Ok], "{way}");
        assert_eq!(h.metric("prometheus_rule_evaluations_total"), "3", "{way}");
        assert_eq!(h.metric("prometheus_rule_evaluation_failures_total"), "1", "{way}");
    }
}
