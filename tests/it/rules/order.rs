//! In which order rules see each other's results: the same whatever is evaluated at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use watchfire::rules::EvaluationOptions;
use watchfire::rules::view::RuleHealth;
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::{
    LabelAnswer, LabelRequest, SelectRequest, SeriesSet, Source, StorageError,
};

use super::harness::{Harness, MINUTE, SECOND};

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
        h.manager.shutdown().await;
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

/// Recording rules whose series only their results tell apart, and rules between them that
/// see some of those: `ra` has the series of service `a`, and so on.
const SERVICES: &str = r#"
groups:
- name: g
  rules:
  - {record: r, expr: 'sum by (svc) (n{job="a"})'}
  - {record: only_a, expr: 'sum(r{svc="a"})'}
  - {record: some, expr: 'sum(r) + 0'}
  - {alert: A, expr: 'r{svc="a"} > 1', annotations: {late: '{{ with query "late" }}{{ . | first | value }}{{ end }}'}}
  - {record: r, expr: 'sum by (svc) (n{job="b"} > 1)'}
  - {record: only_c, expr: 'sum(r{svc=~"c|d"})'}
  - {alert: B, expr: 'r{svc="b"} > 1'}
  - {record: r, expr: 'sum by (svc) (n{job="c"}) * 10'}
  - {record: r, expr: 'max by (svc) (n{job=~"a|d"}) * 100'}
  - {record: all, expr: 'sum(r)'}
  - {alert: C, expr: 'r{svc="c"} > 1'}
  - {record: fails, expr: 'n * on () n'}
  - {record: late, expr: 'count(r)'}
  - {record: firing, expr: 'count(ALERTS) or vector(0)'}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_come_before_their_turn_are_seen_by_nobody_before_it() {
    let names =
        ["r", "only_a", "some", "only_c", "all", "late", "firing", "ALERTS", "ALERTS_FOR_STATE"];
    let feed = |h: &Harness, tick: usize| {
        for (number, job) in ["a", "b", "c", "d"].iter().enumerate() {
            // `b` comes and goes, `d` comes later.
            let value = ((tick * 7 + number * 3) % 5) as f64;
            if number < 3 || tick > 1 {
                h.put(&format!("n/job={job},svc={job}"), value);
            }
        }
    };
    // Changed rules begin with what was written before.
    let again = SERVICES.replace("svc=~\"c|d\"", "svc!=\"a\"");
    assert_ne!(again, SERVICES);
    let stored = check(&[SERVICES, &again], feed, &names).await;
    let of = |start: &str| stored.iter().filter(|s| s.starts_with(start)).count();
    assert!(of("r{") > 12 && of("only_c{") > 2 && of("ALERTS{") > 3, "{stored:#?}");
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

/// Groups in the order opposite to that of their rules, all at whole minutes.
const ALIGNED: &str = "
groups:
- name: last
  interval: 1m
  rules:
  - {record: sum, expr: 'double + triple'}
  - {record: raw, expr: n}
- name: middle
  interval: 30s
  eval_offset: 30s
  rules:
  - {record: triple, expr: 'double * 1.5'}
  - {record: alerts, expr: 'count(ALERTS{alertname=\"A\"}) or vector(0)'}
- name: first
  interval: 1m
  rules:
  - {record: ready, expr: n + 0}
  - {record: double, expr: ready * 2}
  - {alert: A, expr: double > 2}
";

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_tick_together_see_each_other_in_order() {
    for (way, evaluation) in ways() {
        let evaluation = EvaluationOptions { align_groups: true, ..evaluation };
        let storage = Arc::new(MemoryStorage::new());
        let mut h = Harness::with_evaluation(storage, START, evaluation);
        h.clock.grid_ms.store(30 * SECOND, Ordering::Relaxed);
        h.load("groups: []").await.unwrap();
        h.load(ALIGNED).await.unwrap();
        let mut minutes = Vec::new();
        for n in 0..6 {
            h.put("n", f64::from(n));
            let at = h.tick().await;
            assert_eq!(at % (30 * SECOND), 0, "{way}");
            if at % MINUTE == 0 {
                minutes.push((at, f64::from(n)));
            }
        }
        let stored = async |name: &str| {
            let all = h.stored(name).await;
            let at_minutes =
                |s: &&String| minutes.iter().any(|(at, _)| s.contains(&format!("@{at}=")));
            all.iter()
                .filter(at_minutes)
                .map(|s| s.rsplit('=').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let expect = |of: fn(f64) -> f64| -> Vec<String> {
            minutes.iter().map(|(_, n)| of(*n).to_string()).collect()
        };
        assert_eq!(minutes.len(), 3);
        assert_eq!(stored("double").await, expect(|n| n * 2.0), "{way}");
        assert_eq!(stored("triple").await, expect(|n| n * 3.0), "{way}");
        assert_eq!(stored("sum").await, expect(|n| n * 5.0), "{way}");
        assert_eq!(
            stored("alerts").await,
            expect(|n| if n * 2.0 > 2.0 { 1.0 } else { 0.0 }),
            "{way}"
        );
        assert_eq!(h.metric("watchfire_rules_order_timeouts_total"), "0", "{way}");
        assert_eq!(h.metric("prometheus_rule_evaluation_failures_total"), "0", "{way}");
        h.manager.shutdown().await;
    }
}

/// Storage whose selectors of `slow` answer only while the gate is open.
struct Gate {
    storage: Arc<MemoryStorage>,
    open: watch::Sender<bool>,
    selects: AtomicUsize,
}

impl Gate {
    fn new(storage: Arc<MemoryStorage>) -> Arc<Self> {
        Arc::new(Self { storage, open: watch::Sender::new(false), selects: AtomicUsize::new(0) })
    }
}

impl Source for Gate {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            self.selects.fetch_add(1, Ordering::Relaxed);
            if request.matchers.iter().any(|m| &*m.value == "slow") {
                let _ = self.open.subscribe().wait_for(|open| *open).await;
            }
            self.storage.select(request).await
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.storage.label_names(request)
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.storage.label_values(name, request)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_group_delays_only_those_that_read_from_it_and_not_for_long() {
    let rules = "
groups:
- {name: a, interval: 1m, rules: [{record: stuck, expr: slow}]}
- {name: b, interval: 1m, rules: [{record: free, expr: n}]}
- {name: c, interval: 1m, rules: [{record: reader, expr: 'stuck or n'}]}
";
    for (way, evaluation) in ways() {
        let evaluation = EvaluationOptions { align_groups: true, ..evaluation };
        let storage = Arc::new(MemoryStorage::new());
        let gate = Gate::new(storage.clone());
        let source: Arc<dyn Source> = gate.clone();
        let mut h = Harness::over(storage.clone(), source, storage, START, evaluation);
        h.clock.grid_ms.store(30 * SECOND, Ordering::Relaxed);
        h.load(rules).await.unwrap();
        h.put("n", 1.0);
        h.put("slow", 2.0);
        let tick = h.clock_next();
        // Group `a` hangs; the others end when their patience does, a quarter of a minute
        // later, at the latest.
        h.sleepers = 2;
        h.advance_in_steps(&[tick, tick + 15 * SECOND]).await;
        assert_eq!(h.stored("free").await, [format!("{{}}@{tick}=1")], "{way}");
        assert_eq!(h.stored("reader").await, [format!("{{}}@{tick}=1")], "{way}");
        assert_eq!(h.metric("watchfire_rules_order_timeouts_total"), "1", "{way}");
        assert!(h.stored("stuck").await.is_empty());
        h.sleepers = 3;
        gate.open.send_replace(true);
        h.advance_to(tick + 16 * SECOND).await;
        assert_eq!(h.stored("stuck").await, [format!("{{}}@{tick}=2")], "{way}");
        h.manager.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_rules_and_groups_select_is_selected_once() {
    let rules = "
groups:
- {name: a, rules: [{record: a1, expr: n}, {record: a2, expr: n * 2}]}
- {name: b, rules: [{record: b1, expr: n > 0}, {record: b2, expr: a1 + a2}]}
- {name: c, rules: [{alert: C, expr: n > 5}, {record: c1, expr: sum(n)}]}
";
    for (way, evaluation) in ways() {
        let evaluation = EvaluationOptions { align_groups: true, ..evaluation };
        // A task more is an evaluation more.
        let hands = if evaluation.concurrent.is_some() { 3 } else { 1 };
        let most = if evaluation.shared { 2 + hands } else { 7 };
        let storage = Arc::new(MemoryStorage::new());
        let gate = Gate::new(storage.clone());
        let mut h =
            Harness::over(storage.clone(), gate.clone(), storage, START, evaluation.clone());
        h.clock.grid_ms.store(30 * SECOND, Ordering::Relaxed);
        h.load("groups: []").await.unwrap();
        h.load(rules).await.unwrap();
        for _ in 0..3 {
            h.put("n", 1.0);
            gate.selects.store(0, Ordering::Relaxed);
            h.tick().await;
            let selects = gate.selects.load(Ordering::Relaxed);
            match evaluation.shared && hands == 1 {
                true => assert_eq!(selects, 3, "{way}: `n`, `a1` and `a2` once each"),
                false if evaluation.shared => assert!(selects <= most, "{way}: {selects}"),
                false => assert_eq!(selects, most, "{way}: each rule its own"),
            }
        }
        assert_eq!(h.stored("b2").await.len(), 3, "{way}");
        h.manager.shutdown().await;
    }
}
