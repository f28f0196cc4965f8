//! What alerts remember over a restart. A crash is a copy of the state directory: what was
//! on the disk at that moment is what the next process finds.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use watchfire::rules::view::{AlertState, RulesView};
use watchfire::storage::memory::MemoryStorage;

use super::harness::{Harness, MINUTE, SECOND};

const START: i64 = 1_700_000_000 * SECOND;

const RULES: &str = "
groups:
- name: g
  interval: 10s
  rules:
  - {alert: Wait, expr: wait > 0, for: 5m, labels: {on: '{{ $labels.i }}'}}
  - {alert: Fire, expr: fire > 0, annotations: {v: '{{ $value }}'}}
  - {alert: Keep, expr: keep > 0, keep_firing_for: 10m, annotations: {v: '{{ $value }}'}}
  - {alert: End, expr: end > 0, annotations: {v: '{{ $value }}'}}
";

fn start(storage: &Arc<MemoryStorage>, dir: &Path, now_ms: i64) -> Harness {
    let mut h = Harness::new(storage.clone(), now_ms);
    h.remember(dir);
    h
}

fn crash(dir: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        // A file that nothing needs any more may be deleted meanwhile.
        if let Ok(bytes) = std::fs::read(&path) {
            std::fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
    copy
}

/// Every active alert: all that the API shows of it.
fn alerts(h: &Harness) -> Vec<String> {
    let rules = h.manager.groups().into_iter().flat_map(|g| g.rules);
    let alerts = rules.flat_map(|r| r.alerting.expect("an alerting rule").alerts);
    alerts.map(|a| format!("{a:?}")).collect()
}

fn put_all(h: &Harness, values: [(&str, f64); 4]) {
    for (name, value) in values {
        h.put(&format!("{name}/i=1"), value);
    }
}

#[tokio::test]
async fn every_state_goes_on_where_it_was() {
    let storage = Arc::new(MemoryStorage::new());
    let dir = tempfile::tempdir().unwrap();
    let mut h = start(&storage, dir.path(), START);
    h.load(RULES).await.unwrap();
    let mut ticks = Vec::new();
    for (keep, end) in [(1.0, 1.0), (-1.0, 2.0), (-1.0, -1.0)] {
        put_all(&h, [("wait", 1.0), ("fire", 7.0), ("keep", keep), ("end", end)]);
        h.deafen(end < 0.0);
        ticks.push(h.tick().await);
    }
    let sent: Vec<_> = h.sent().into_iter().filter(|a| a.starts_at_ms == ticks[0]).collect();
    assert_eq!(sent.len(), 4, "three fire, one has ended");
    let before = alerts(&h);
    assert_eq!(before.len(), 3);
    let dir = crash(&dir);

    let mut h = start(&storage, dir.path(), ticks[2] + 5 * SECOND);
    assert_eq!(h.metric("watchfire_alert_state_restored_alerts"), "4");
    let written = h.stored("ALERTS_FOR_STATE").await.len();
    h.load(RULES).await.unwrap();
    assert_eq!(alerts(&h), before, "before anything was evaluated");
    put_all(&h, [("wait", 1.0), ("fire", 7.0), ("keep", -1.0), ("end", -1.0)]);
    let tick = h.tick().await;
    assert_eq!(alerts(&h), before);
    let written = h.stored("ALERTS_FOR_STATE").await.len() - written;
    assert_eq!(written, 3, "series are written from the first evaluation");
    let sent = h.sent();
    // Its end was not confirmed. The others were, less than the resend delay ago.
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0].labels.get("alertname"), Some("End"));
    assert_eq!((sent[0].starts_at_ms, sent[0].ends_at_ms), (ticks[0], ticks[2]));
    assert_eq!(sent[0].annotations.get("v"), Some("2"));

    // `for` and `keep_firing_for` run on from when they began.
    while h.clock.now() < ticks[1] + 10 * MINUTE {
        put_all(&h, [("wait", 1.0), ("fire", 7.0), ("keep", -1.0), ("end", -1.0)]);
        h.tick().await;
    }
    let sent = h.sent();
    let of = |name: &str| {
        let all = sent.iter().filter(move |a| a.labels.get("alertname") == Some(name));
        all.map(|a| (a.starts_at_ms - ticks[0], a.ends_at_ms)).collect::<Vec<_>>()
    };
    assert!(of("Wait").iter().all(|(start, _)| *start == 5 * MINUTE), "{:?}", of("Wait"));
    assert!(of("Fire").iter().all(|(start, end)| *start == 0 && *end > tick));
    let kept = of("Keep");
    assert_eq!(kept.last(), Some(&(0, ticks[1] + 10 * MINUTE)));
    assert!(kept.len() > 5 && kept.iter().all(|(start, _)| *start == 0));
    assert!(of("End").iter().all(|alert| *alert == (0, ticks[2])));
}

#[tokio::test]
async fn after_a_gap_absence_is_not_believed_at_once() {
    let storage = Arc::new(MemoryStorage::new());
    let dir = tempfile::tempdir().unwrap();
    let mut h = start(&storage, dir.path(), START);
    h.load(RULES).await.unwrap();
    for _ in 0..2 {
        put_all(&h, [("wait", 1.0), ("fire", 7.0), ("keep", -1.0), ("end", 2.0)]);
        h.tick().await;
    }
    let first = h.sent()[0].starts_at_ms;
    let dir = crash(&dir);

    // Ten minutes later no selector finds the old samples, and new ones are yet to come.
    let started = START + 11 * MINUTE;
    let mut h = start(&storage, dir.path(), started);
    h.load(RULES).await.unwrap();
    for _ in 0..10 {
        h.tick().await;
        assert_eq!(h.alerting("Wait").state, AlertState::Pending, "it has no sample to fire on");
        assert_eq!(h.alerting("Fire").state, AlertState::Firing);
    }
    let sent = h.sent();
    assert!(sent.iter().all(|a| a.starts_at_ms == first && a.ends_at_ms > h.clock.now()));
    assert!(sent.len() >= 4, "what holds is sent on: {sent:?}");
    // One comes back, with what it waited before; the other one has ended after all.
    let mut ended = None;
    while h.clock.now() < started + 6 * MINUTE {
        h.put("wait/i=1", 1.0);
        h.put("fire/i=1", 7.0);
        let tick = h.tick().await;
        if h.alerting("End").state == AlertState::Inactive {
            ended.get_or_insert(tick);
        }
    }
    let sent = h.sent();
    let fire = sent.iter().filter(|a| a.labels.get("alertname") == Some("Fire"));
    assert!(fire.into_iter().all(|a| a.starts_at_ms == first));
    assert_eq!(h.alerting("Wait").state, AlertState::Firing);
    assert_eq!(h.alerting("Wait").alerts[0].active_at_ms, first);
    let ended = ended.expect("absence counts again");
    assert!((5 * MINUTE..=5 * MINUTE + 30 * SECOND).contains(&(ended - started)));
}

#[tokio::test]
async fn a_long_outage_ends_what_was_pending() {
    let storage = Arc::new(MemoryStorage::new());
    let dir = tempfile::tempdir().unwrap();
    let mut h = start(&storage, dir.path(), START);
    h.load(RULES).await.unwrap();
    put_all(&h, [("wait", 1.0), ("fire", 7.0), ("keep", -1.0), ("end", -1.0)]);
    let first = h.tick().await;
    let dir = crash(&dir);
    let mut h = start(&storage, dir.path(), START + 70 * MINUTE);
    h.load(RULES).await.unwrap();
    put_all(&h, [("wait", 1.0), ("fire", 7.0), ("keep", -1.0), ("end", -1.0)]);
    let tick = h.tick().await;
    assert_eq!(
        h.alerting("Wait").alerts[0].active_at_ms,
        tick,
        "--rules.alert.for-outage-tolerance"
    );
    assert_eq!(h.alerting("Fire").alerts[0].active_at_ms, first);
}

#[tokio::test]
async fn what_is_due_waits_for_somebody_to_take_it() {
    let storage = Arc::new(MemoryStorage::new());
    let dir = tempfile::tempdir().unwrap();
    let mut h = start(&storage, dir.path(), START);
    h.load(RULES).await.unwrap();
    h.receive(false);
    put_all(&h, [("wait", -1.0), ("fire", 7.0), ("keep", -1.0), ("end", 1.0)]);
    let first = h.tick().await;
    put_all(&h, [("wait", -1.0), ("fire", 7.0), ("keep", -1.0), ("end", -1.0)]);
    let second = h.tick().await;
    assert!(h.sent().is_empty());
    // Not after the resend delay, but as soon as there is somebody.
    h.receive(true);
    h.tick().await;
    let sent = h.sent();
    let mut sent: Vec<_> = sent
        .iter()
        .map(|a| (a.labels.get_or_empty("alertname"), a.starts_at_ms, a.ends_at_ms <= second))
        .collect();
    sent.sort_unstable();
    assert_eq!(sent, [("End", first, true), ("Fire", first, false)]);
}

const READERS: &str = "
groups:
- name: g
  interval: 10s
  rules:
  - {alert: Newest, expr: x == 1}
  - {alert: Wait, expr: x == 1, for: 5m}
  - {alert: Window, expr: 'x == 1 and count_over_time(x[1m]) >= 5'}
  - {alert: Steps, expr: 'count_over_time((x == 1)[1m:10s]) >= 5'}
  - {alert: Sum, expr: 'sum by (job) (x) >= 2'}
  - {record: r, expr: 'count_over_time(x[1m])'}
  - {alert: Recorded, expr: 'r >= 5'}
";

/// The active alerts, `NAME i` or `NAME`.
fn names(h: &Harness) -> Vec<String> {
    let rules = h.manager.groups().into_iter().flat_map(|g| g.rules);
    let alerts = rules.filter_map(|r| r.alerting).flat_map(|a| a.alerts);
    let name = |labels: &watchfire::model::Labels| {
        let name = format!("{} {}", labels.get_or_empty("alertname"), labels.get_or_empty("i"));
        name.trim_end().to_owned()
    };
    alerts.map(|a| name(&a.labels)).collect()
}

fn put_x(h: &Harness, values: &[(u8, f64)]) {
    for (i, value) in values {
        h.put(&format!("x/i={i},job=a"), *value);
    }
}

/// A process that has evaluated [`READERS`] on `x` of 1 and 2, ten times, and died then.
async fn before_the_gap(storage: &Arc<MemoryStorage>) -> (TempDir, i64) {
    let dir = tempfile::tempdir().unwrap();
    let mut h = start(storage, dir.path(), START);
    h.load("groups: []").await.unwrap();
    h.load(READERS).await.unwrap();
    let mut last = 0;
    for _ in 0..10 {
        put_x(&h, &[(1, 1.0), (2, 1.0)]);
        last = h.tick().await;
    }
    assert_eq!(names(&h).len(), 11, "{:?}", names(&h));
    (crash(&dir), last)
}

#[tokio::test]
async fn after_a_gap_an_alert_ends_when_what_it_looks_at_is_whole() {
    let storage = Arc::new(MemoryStorage::new());
    let (dir, last) = before_the_gap(&storage).await;
    let started = last + 61 * SECOND;
    let mut h = start(&storage, dir.path(), started);
    h.load(READERS).await.unwrap();
    let all = names(&h);
    assert_eq!(all.len(), 11);
    // Nothing has come yet; then the first series is back, and goes on as it was.
    h.tick().await;
    assert_eq!(names(&h), all);
    let first = h.clock.now();
    while h.clock.now() < first + 100 * SECOND {
        put_x(&h, &[(1, 1.0)]);
        h.tick().await;
        assert_eq!(names(&h), all, "{} s after the first sample", (h.clock.now() - first) / SECOND);
    }
    let ended = |before: &[String], after: &[String]| {
        before.iter().filter(|name| !after.contains(name)).cloned().collect::<Vec<_>>()
    };
    // The second one is back with another value: who needs no more than that ends, and an
    // alert of the first one is not concerned.
    put_x(&h, &[(1, 1.0), (2, 0.0)]);
    let second = h.clock.now();
    h.tick().await;
    let now = names(&h);
    assert_eq!(ended(&all, &now), ["Newest 2", "Wait 2", "Sum"]);
    let mut late = Vec::new();
    while h.clock.now() < second + 120 * SECOND {
        put_x(&h, &[(1, 1.0), (2, 0.0)]);
        let before = names(&h);
        h.tick().await;
        let after = (h.clock.now() - second) / SECOND;
        late.extend(ended(&before, &names(&h)).into_iter().map(|name| format!("{name} {after}")));
    }
    // A minute and the step of the evaluation later their windows are whole. What was
    // recorded of the second one is above its limit again by then.
    assert_eq!(late, ["Window 2 60", "Steps 2 60"]);
    assert!(names(&h).contains(&"Recorded 2".to_owned()));
    let resolved = h.sent().into_iter().filter(|a| a.ends_at_ms <= h.clock.now());
    let resolved: BTreeSet<String> = resolved.map(|a| a.labels.to_string()).collect();
    assert_eq!(resolved.len(), 4, "all but the one that was pending: {resolved:?}");
}

#[tokio::test]
async fn a_reload_is_no_gap_and_looks_anew_at_one() {
    let storage = Arc::new(MemoryStorage::new());
    let dir = tempfile::tempdir().unwrap();
    let rules = |window: &str| {
        format!(
            "groups: [{{name: g, interval: 10s, rules: [{{alert: Other, expr: y}}, \
             {{alert: Window, expr: 'count_over_time(x[{window}]) >= 3'}}]}}]"
        )
    };
    let mut h = start(&storage, dir.path(), START);
    h.load("groups: [{name: g, interval: 10s, rules: [{alert: Other, expr: y}]}]").await.unwrap();
    h.tick().await;
    h.load(&rules("1m")).await.unwrap();
    for _ in 0..5 {
        put_x(&h, &[(1, 1.0)]);
        h.tick().await;
    }
    assert_eq!(names(&h), ["Window 1"]);
    // The samples stop: the process has missed none.
    for _ in 0..4 {
        h.tick().await;
    }
    assert!(names(&h).is_empty(), "{:?}", names(&h));
    for _ in 0..5 {
        put_x(&h, &[(1, 1.0)]);
        h.tick().await;
    }
    let (dir, last) = (crash(&dir), h.clock.now());
    let mut h = start(&storage, dir.path(), last + 60 * SECOND);
    h.load(&rules("1m")).await.unwrap();
    put_x(&h, &[(1, 1.0)]);
    h.tick().await;
    assert_eq!(names(&h), ["Window 1"]);
    // With a shorter window, what was missed is behind sooner.
    h.load(&rules("20s")).await.unwrap();
    put_x(&h, &[(1, 1.0)]);
    h.tick().await;
    assert!(names(&h).is_empty(), "{:?}", names(&h));
}

#[tokio::test]
async fn a_restart_that_missed_no_sample_delays_no_end() {
    let storage = Arc::new(MemoryStorage::new());
    let (dir, last) = before_the_gap(&storage).await;
    let mut h = start(&storage, dir.path(), last + 3 * SECOND);
    h.load(READERS).await.unwrap();
    let all = names(&h).len();
    h.advance_to(last + 9 * SECOND).await;
    h.put_at("x/i=1,job=a", last + SECOND, 0.0);
    h.put_at("x/i=2,job=a", last + SECOND, 1.0);
    h.tick().await;
    assert_eq!(names(&h).len(), all - 4, "{:?}", names(&h));
    assert!(!names(&h).iter().any(|name| name.starts_with("Window 1")));
    // The series about them have ended as well.
    let alerts = h.stored("ALERTS").await;
    let stale = alerts.iter().filter(|sample| sample.ends_with("=stale"));
    assert_eq!(stale.count(), 4, "{alerts:?}");
}

#[tokio::test]
async fn reloads_keep_and_drop_what_is_remembered() {
    let storage = Arc::new(MemoryStorage::new());
    let dir = tempfile::tempdir().unwrap();
    let mut h = start(&storage, dir.path(), START);
    let rules = |fire: &str, more: &str| {
        format!("groups:\n- name: g\n  rules:\n  - {{alert: Fire, expr: {fire}}}\n{more}")
    };
    let wait = "  - {alert: Wait, expr: wait > 0, for: 5m}\n";
    let other = "- {name: h, rules: [{alert: Other, expr: fire > 0}]}\n";
    h.load(&rules("fire > 0", &format!("{wait}{other}"))).await.unwrap();
    put_all(&h, [("wait", 1.0), ("fire", 7.0), ("keep", 0.0), ("end", 0.0)]);
    let first = h.tick().await.max(h.tick().await) - 30 * SECOND;
    let active_at = h.alerting("Fire").alerts[0].active_at_ms;
    // An edited rule keeps its alerts; a removed rule and a removed group lose theirs.
    h.load(&rules("fire > 1", "")).await.unwrap();
    let edited = crash(&dir);
    h.put("fire/i=1", 7.0);
    h.tick().await;
    for dir in [edited, crash(&dir)] {
        let mut h = start(&storage, dir.path(), h.clock.now() + SECOND);
        h.load(&rules("fire > 1", &format!("{wait}{other}"))).await.unwrap();
        assert_eq!(h.alerting("Fire").alerts[0].active_at_ms, active_at);
        assert!(h.alerting("Wait").alerts.is_empty() && h.alerting("Other").alerts.is_empty());
        put_all(&h, [("wait", 1.0), ("fire", 7.0), ("keep", 0.0), ("end", 0.0)]);
        h.tick().await;
        h.tick().await;
        assert!(h.alerting("Wait").alerts[0].active_at_ms > first);
    }
    // So do those that a process does not find any more when it starts.
    let dir = crash(&dir);
    let mut h = start(&storage, dir.path(), h.clock.now() + SECOND);
    h.load("groups: [{name: empty, rules: [{record: r, expr: '1'}]}]").await.unwrap();
    let dir = crash(&dir);
    let mut h = start(&storage, dir.path(), h.clock.now() + SECOND);
    h.load(&rules("fire > 1", "")).await.unwrap();
    assert!(h.alerting("Fire").alerts.is_empty());
}

#[tokio::test]
async fn alerts_unknown_to_the_log_are_taken_over_from_storage_once() {
    let rules = "groups: [{name: g, rules: [{alert: Slow, expr: x > 0, for: 30m}]}]";
    let storage = Arc::new(MemoryStorage::new());
    let mut h = Harness::new(storage.clone(), START);
    h.load(rules).await.unwrap();
    for _ in 0..20 {
        h.put("x/i=a", 1.0);
        h.tick().await;
    }
    let (active_at, down_at) = (h.alerting("Slow").alerts[0].active_at_ms, h.clock.now());
    h.manager.shutdown().await;

    // An upgrade: there is no log yet. A crash before the takeover does not lose it.
    let dir = tempfile::tempdir().unwrap();
    let mut h = start(&storage, dir.path(), down_at + MINUTE);
    h.load(rules).await.unwrap();
    h.put("x/i=a", 1.0);
    h.tick().await;
    let dir = crash(&dir);
    let mut h = start(&storage, dir.path(), down_at + 2 * MINUTE);
    h.load(rules).await.unwrap();
    let mut seconds = Vec::new();
    for _ in 0..3 {
        h.put("x/i=a", 1.0);
        h.tick().await;
        seconds.push((h.alerting("Slow").alerts[0].active_at_ms - active_at) / SECOND);
    }
    // As without a log: by the time that the process was down.
    assert!(seconds[0] > 600 && seconds[1] == seconds[2] && seconds[2] <= 180, "{seconds:?}");
    let taken_over = h.alerting("Slow").alerts[0].active_at_ms;
    let dir = crash(&dir);
    let mut h = start(&storage, dir.path(), h.clock.now() + MINUTE);
    h.load(rules).await.unwrap();
    for _ in 0..3 {
        assert_eq!(h.alerting("Slow").alerts[0].active_at_ms, taken_over);
        h.put("x/i=a", 1.0);
        h.tick().await;
    }
}
