//! Missed evaluations, made up for: in the end everything is as if none had been missed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use watchfire::rules::EvaluationOptions;
use watchfire::rules::view::RulesView;
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::overlay::{Overlay, OverlayOptions};
use watchfire::storage::{Sink, Source};

use super::faults::{Fault, Faulty};
use super::harness::{Harness, MINUTE, SECOND, Setup};
use super::late::Late;

/// A time far from zero, so that ranges never reach below it.
const START: i64 = 1_700_000_000 * SECOND;
const INTERVAL_MS: i64 = 30 * SECOND;
/// Ticks of a whole run.
const TICKS: i64 = 40;

/// Chains, aggregations, ranges, `for`, `keep_firing_for`, and series that come and go.
const RULES: &str = "
groups:
- name: g
  catch_up: 1h
  query_offset: 10s
  rules:
  - {record: r:rate, expr: 'sum by (i) (rate(c[2m]))'}
  - {record: r:gone, expr: 'g > 5'}
  - {record: r:chain, expr: 'r:rate * 2 + r:rate offset 1m'}
  - {record: r:end, expr: 'g @ end() + 0 * (g @ start())'}
  - {alert: High, expr: 'g > 5', for: 1m, labels: {v: '{{ $value }}'}}
  - {alert: Kept, expr: 'g > 7', keep_firing_for: 2m, annotations: {a: '{{ $value }}'}}
  - {alert: Chained, expr: 'r:chain > 3'}
  - {alert: Seen, expr: 'count by (alertname) (ALERTS) > 0', for: 1m}
  - {alert: None, expr: 'g > 100', on_no_data: fire}
";

/// As `RULES`, with a rule that reads itself: nothing can be taken rule by rule.
fn sequential() -> String {
    let own = "  - {record: r:sum, expr: 'sum(g) + (r:sum offset 30s or vector(0))'}\n";
    RULES.replace("  rules:\n", &format!("  rules:\n{own}"))
}

/// Groups that tick together and read from each other: each of `a` and `b` waits for a rule
/// of the other, `c` for both.
const TOGETHER: &str = "
groups:
- name: c
  catch_up: 1h
  rules:
  - {record: r:end, expr: 'count by (i) ({__name__=~\"r:rate|r:chain\"}) + on () group_left () r:sum'}
  - {alert: Kept, expr: 'r:chain > 1 and on () r:sum > 0', keep_firing_for: 2m}
- name: a
  catch_up: 1h
  rules:
  - {record: r:rate, expr: 'sum by (i) (rate(c[2m]))'}
  - {record: r:gone, expr: 'g > 5'}
  - {record: r:sum, expr: 'count(ALERTS{alertname=\"High\",alertstate=\"firing\"}) or vector(0)'}
- name: b
  catch_up: 1h
  rules:
  - {record: r:chain, expr: 'r:rate * 2 + r:rate offset 1m'}
  - {alert: High, expr: 'g * 0 + on (i) r:chain > -1 and g > 3', for: 1m, annotations: {v: '{{ $value }}'}}
  - {alert: Seen, expr: 'count by (alertname) (ALERTS) > 0', for: 1m}
";

/// All that the rules read, for the whole run.
fn feed() -> Arc<MemoryStorage> {
    let storage = Arc::new(MemoryStorage::new());
    let h = Harness::new(storage.clone(), START);
    for step in -20..(TICKS + 5) * 3 {
        let (at, n) = (START + step * 10 * SECOND, step as f64);
        for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
            let k = i as f64 + 1.0;
            h.put_at(&format!("c/i={name}"), at, (step + 30) as f64 * k * (1.0 + n / 100.0));
            let wave = (n / 7.0 * k).sin() * 10.0;
            // Values that repeat, so that labels made of them do.
            let there = (step / 17 + i as i64) % 4 != 0;
            if there {
                h.put_at(&format!("g/i={name}"), at, wave.round());
            } else if (step / 17 + i as i64) % 4 == 0 && step % 17 == 0 {
                let stale = watchfire::model::value::stale_nan();
                h.put_at(&format!("g/i={name}"), at, stale);
            }
        }
    }
    storage
}

/// What outlives a process.
#[derive(Clone)]
struct Outside {
    storage: Arc<MemoryStorage>,
    /// Shows late what is written to it, so that rules read through an overlay.
    late: Option<Arc<Late>>,
}

impl Outside {
    fn new(storage: Arc<MemoryStorage>, is_late: bool) -> Self {
        let late = is_late.then(|| Late::new(storage.clone()));
        Self { storage, late }
    }
}

struct Run {
    outside: Outside,
    faults: Arc<Faulty>,
    h: Harness,
}

impl Run {
    async fn start(storage: Arc<MemoryStorage>, rules: &str, now_ms: i64, dir: &Path) -> Self {
        let evaluation = EvaluationOptions::default();
        Self::with(Outside::new(storage, false), rules, evaluation, now_ms, dir).await
    }

    async fn with(
        outside: Outside,
        rules: &str,
        evaluation: EvaluationOptions,
        now_ms: i64,
        dir: &Path,
    ) -> Self {
        let storage = outside.storage.clone();
        let (faults, source, sink): (_, Arc<dyn Source>, Arc<dyn Sink>) = match &outside.late {
            None => {
                let faults = Faulty::new(storage.clone());
                (faults.clone(), faults, storage.clone())
            }
            Some(late) => {
                let faults = Faulty::new(late.clone());
                let options = OverlayOptions::default();
                let recent = Arc::new(Overlay::new(faults.clone(), late.clone(), options));
                (faults, recent.clone(), recent)
            }
        };
        let align = evaluation.align_groups;
        let setup =
            Setup { source: Some(source), sink: Some(sink), evaluation, ..Setup::default() };
        let mut h = Harness::with(storage, now_ms, setup);
        if let Some(late) = &outside.late {
            late.set_clock(h.clock.clone());
        }
        if align {
            h.clock.grid_ms.store(INTERVAL_MS, Ordering::Relaxed);
        }
        h.remember(dir);
        h.settings.interval_ms = INTERVAL_MS;
        if now_ms == START {
            // A first start has nothing to restore: series are written from the beginning.
            h.load("groups: []").await.unwrap();
        }
        h.load(rules).await.unwrap();
        Self { outside, faults, h }
    }

    /// Everything that must be the same: what was recorded, and what the alerts are.
    async fn seen(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(late) = &self.outside.late {
            late.show_all();
        }
        for name in ["r:rate", "r:gone", "r:chain", "r:end", "r:sum", "ALERTS", "ALERTS_FOR_STATE"]
        {
            let stored = self.h.stored(name).await;
            all.extend(stored.into_iter().map(|sample| format!("{name} {sample}")));
        }
        let groups = self.h.manager.groups();
        for rule in groups.into_iter().flat_map(|g| g.rules) {
            for alert in rule.alerting.into_iter().flat_map(|a| a.alerts) {
                all.push(format!("{alert:?}"));
            }
        }
        all
    }

    async fn end(&mut self) -> i64 {
        let mut last = 0;
        while self.h.clock_next() < START + TICKS * INTERVAL_MS {
            last = self.h.tick().await;
        }
        last
    }
}

/// How a run is interrupted after its tenth tick.
enum Interruption {
    None,
    /// The clock jumps over so many ticks.
    Overrun(i64),
    /// The process is down for so many ticks.
    Restart(i64),
    /// The source is down for so many ticks.
    Outage(i64),
}

async fn run(rules: &str, interruption: Interruption) -> Run {
    run_with(rules, Outside::new(feed(), false), EvaluationOptions::default(), interruption).await
}

async fn run_with(
    rules: &str,
    outside: Outside,
    evaluation: EvaluationOptions,
    interruption: Interruption,
) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::with(outside.clone(), rules, evaluation.clone(), START, dir.path()).await;
    let mut last = 0;
    for _ in 0..10 {
        last = run.h.tick().await;
    }
    match interruption {
        Interruption::None => {}
        Interruption::Overrun(ticks) => {
            run.h.advance_to(last + (ticks + 1) * INTERVAL_MS).await;
        }
        Interruption::Restart(ticks) => {
            run.h.manager.shutdown().await;
            let now_ms = last + ticks * INTERVAL_MS + 5 * SECOND;
            // One process at a time holds the state directory.
            drop(run);
            run = Run::with(outside, rules, evaluation, now_ms, dir.path()).await;
        }
        Interruption::Outage(ticks) => {
            run.faults.set(Fault::Down);
            for _ in 0..ticks {
                run.h.tick().await;
            }
            run.faults.set(Fault::None);
        }
    }
    run.end().await;
    run
}

fn differences(expected: &[String], got: &[String]) -> String {
    let lacks = expected.iter().filter(|e| !got.contains(e)).map(|e| format!("- {e}"));
    let extra = got.iter().filter(|g| !expected.contains(g)).map(|g| format!("+ {g}"));
    lacks.chain(extra).take(20).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn what_was_missed_is_as_if_it_had_not_been() {
    for rules in [RULES.to_owned(), sequential()] {
        let whole = run(&rules, Interruption::None).await;
        let expected = whole.seen().await;
        assert!(expected.len() > 500, "{}", expected.len());
        for kind in ["ALERTS ", "r:gone ", "r:end "] {
            assert!(expected.iter().any(|line| line.starts_with(kind)), "{kind}");
        }
        for (interruption, evaluations) in [
            (Interruption::Overrun(7), "7"),
            (Interruption::Restart(7), "7"),
            (Interruption::Outage(7), "7"),
        ] {
            let interrupted = run(&rules, interruption).await;
            let got = interrupted.seen().await;
            let differences = differences(&expected, &got);
            assert_eq!(differences, "", "{rules}");
            let metric = interrupted.h.metric("watchfire_rules_catch_up_evaluations_total");
            assert_eq!(metric, evaluations);
            assert_eq!(interrupted.h.metric("watchfire_rules_catch_up_skipped_total"), "0");
        }
    }
}

/// Groups that tick together, on storage that shows at once what is written to it, and on
/// one that does not.
#[tokio::test(flavor = "multi_thread")]
async fn groups_that_tick_together_make_up_for_what_was_missed_in_their_order() {
    for shared in [true, false] {
        for is_late in [false, true] {
            let evaluation =
                EvaluationOptions { align_groups: true, shared, ..EvaluationOptions::default() };
            let run = async |interruption| {
                let outside = Outside::new(feed(), is_late);
                run_with(TOGETHER, outside, evaluation.clone(), interruption).await
            };
            let expected = run(Interruption::None).await.seen().await;
            assert!(expected.len() > 400, "{}", expected.len());
            for kind in ["ALERTS ", "r:gone ", "r:end ", "r:sum ", "r:chain "] {
                assert!(expected.iter().any(|line| line.starts_with(kind)), "{kind}");
            }
            let sums = expected.iter().filter(|line| line.starts_with("r:sum "));
            let sums: BTreeSet<_> = sums.filter_map(|line| line.rsplit('=').next()).collect();
            assert!(sums.len() > 2, "{sums:?}");
            for (what, interruption) in [
                ("overrun", Interruption::Overrun(7)),
                ("restart", Interruption::Restart(7)),
                ("outage", Interruption::Outage(7)),
            ] {
                let interrupted = run(interruption).await;
                let got = interrupted.seen().await;
                let what = format!("{what}, shared: {shared}, late: {is_late}");
                assert_eq!(differences(&expected, &got), "", "{what}");
                let metric = |name: &str| interrupted.h.metric(name);
                assert_eq!(metric("watchfire_rules_order_timeouts_total"), "0", "{what}");
                for group in ["a", "b", "c"] {
                    let labels = format!("{{rule_group=\"f.yml;{group}\"}}");
                    let count = |name: &str| metric(&format!("{name}{labels}"));
                    assert_eq!(count("watchfire_rules_catch_up_evaluations_total"), "7", "{what}");
                    assert_eq!(count("watchfire_rules_catch_up_skipped_total"), "0", "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn alerts_catch_up_silently() {
    let rules = "
groups:
- name: g
  catch_up: 1h
  rules:
  - {alert: Stays, expr: 'stays > 0', for: 1m}
  - {alert: Goes, expr: 'goes > 0'}
  - {alert: Flashes, expr: 'flashes > 0'}
";
    let dir = tempfile::tempdir().unwrap();
    let run = Run::start(Arc::new(MemoryStorage::new()), rules, START, dir.path()).await;
    let h = &run.h;
    h.put_at("goes", h.clock_next() - SECOND, 1.0);
    let first = h.tick().await;
    assert_eq!(h.sent().len(), 1);
    // Meanwhile one fires and stays, one ends, one comes and goes.
    let put = |name: &str, tick: i64, value: f64| {
        h.put_at(name, first + tick * INTERVAL_MS - SECOND, value);
    };
    put("stays", 1, 1.0);
    put("goes", 2, 0.0);
    put("flashes", 1, 1.0);
    put("flashes", 3, 0.0);
    h.advance_to(first + 6 * INTERVAL_MS).await;
    let mut sent: Vec<_> = h
        .sent()
        .into_iter()
        .map(|a| {
            let name = a.labels.get_or_empty("alertname").to_owned();
            (name, (a.starts_at_ms - first) / INTERVAL_MS, (a.ends_at_ms - first) / INTERVAL_MS)
        })
        .collect();
    sent.sort();
    // It fires since the third tick and holds for four minutes; the other ended at the second.
    assert_eq!(sent, [("Goes".to_owned(), 0, 2), ("Stays".to_owned(), 3, 6 + 8)]);
    // As in Prometheus, ticks that were not evaluated when they were due count as missed.
    assert_eq!(h.metric("prometheus_rule_group_iterations_missed_total"), "5");
    assert_eq!(h.metric("watchfire_rules_catch_up_evaluations_total"), "5");
}

#[tokio::test]
async fn what_is_too_old_is_skipped_and_without_the_key_everything_is() {
    for (keys, made_up, skipped, stored) in
        [("catch_up: 2m, ", "4", "5", 6), ("", "0", "0", 2), ("catch_up: 10s, ", "0", "9", 2)]
    {
        let rules =
            format!("groups: [{{name: g, {keys}rules: [{{record: r, expr: vector(time())}}]}}]");
        let dir = tempfile::tempdir().unwrap();
        let run = Run::start(Arc::new(MemoryStorage::new()), &rules, START, dir.path()).await;
        let h = &run.h;
        let first = h.tick().await;
        h.advance_to(first + 10 * INTERVAL_MS).await;
        assert_eq!(h.metric("watchfire_rules_catch_up_evaluations_total"), made_up, "{keys}");
        assert_eq!(h.metric("watchfire_rules_catch_up_skipped_total"), skipped, "{keys}");
        let samples = h.stored("r").await;
        assert_eq!(samples.len(), stored, "{keys}");
        for sample in samples {
            let (at, value) = sample.trim_start_matches("{}@").split_once('=').unwrap();
            assert_eq!(at.parse::<f64>().unwrap() / 1000.0, value.parse::<f64>().unwrap());
        }
    }
}

#[tokio::test]
async fn an_outage_longer_than_catch_up_costs_its_oldest_ticks_once() {
    let rules = "groups: [{name: g, catch_up: 2m, rules: [{record: r, expr: x}]}]";
    let dir = tempfile::tempdir().unwrap();
    let run = Run::start(Arc::new(MemoryStorage::new()), rules, START, dir.path()).await;
    let h = &run.h;
    h.put_at("x", START, 1.0);
    h.tick().await;
    run.faults.set(Fault::Down);
    for _ in 0..8 {
        h.tick().await;
    }
    run.faults.set(Fault::None);
    h.tick().await;
    assert_eq!(h.metric("watchfire_rules_catch_up_evaluations_total"), "4");
    assert_eq!(h.metric("watchfire_rules_catch_up_skipped_total"), "4");
    assert_eq!(h.stored("r").await.len(), 1 + 4 + 1);
    h.advance_to(h.clock.now() + MINUTE).await;
    assert_eq!(h.metric("watchfire_rules_catch_up_evaluations_total"), "5");
}
