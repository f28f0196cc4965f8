//! The manager over memory: what is stored, what is sent, what survives.

use std::sync::Arc;

use watchfire::rules::RuleSource;
use watchfire::rules::view::{AlertState, RuleHealth, RulesView};
use watchfire::storage::memory::MemoryStorage;

use super::harness::{Harness, MINUTE, SECOND};

/// A time far from zero, so that ranges never reach below it.
const START: i64 = 1_700_000_000 * SECOND;

fn harness() -> Harness {
    Harness::new(Arc::new(MemoryStorage::new()), START)
}

const HIGH: &str = "
groups:
- name: g
  rules:
  - record: x:double
    expr: x * 2
  - alert: High
    expr: x:double > 10
    for: 1m
    labels: {severity: page, on: '{{ $labels.i }}'}
    annotations:
      text: '{{ $labels.i }} in {{ $externalLabels.cluster }} has {{ $value }} of {{ query \"sum(x)\" | first | value }}'
";

#[tokio::test]
async fn an_alert_goes_pending_fires_and_resolves() {
    let mut h = harness();
    // Later loads have nothing to restore: their series are written from the start.
    h.load("groups: []").await.unwrap();
    h.load(HIGH).await.unwrap();
    assert_eq!(h.alerting("High").state, AlertState::Unknown);
    let mut ticks = Vec::new();
    for (value, state, sent) in [
        (6.0, AlertState::Pending, 0),
        (7.0, AlertState::Pending, 0),
        (8.0, AlertState::Firing, 1),
        (8.0, AlertState::Firing, 0),
        (8.0, AlertState::Firing, 0),
        // More than the resend delay has passed.
        (8.0, AlertState::Firing, 1),
        (1.0, AlertState::Inactive, 1),
        (1.0, AlertState::Inactive, 0),
    ] {
        h.put("x/i=a", value);
        ticks.push(h.tick().await);
        assert_eq!(h.alerting("High").state, state, "tick {}", ticks.len());
        let out = h.sent();
        assert_eq!(out.len(), sent, "tick {}", ticks.len());
        for alert in out {
            assert_eq!(
                alert.labels.to_string(),
                r#"{alertname="High", i="a", on="a", severity="page"}"#
            );
            assert_eq!(alert.starts_at_ms, ticks[2]);
            let resolved = state == AlertState::Inactive;
            let end = if resolved { ticks[6] } else { ticks.last().unwrap() + 4 * MINUTE };
            assert_eq!(alert.ends_at_ms, end);
            assert_eq!(alert.annotations.get("text"), Some("a in c1 has 16 of 8"));
            assert_eq!(
                &*alert.generator_url,
                "http://w:9090/graph?g0.expr=x%3Adouble+%3E+10&g0.tab=1"
            );
        }
    }
    assert!(ticks.windows(2).all(|t| t[1] - t[0] == 30 * SECOND));
    let base = r#"{alertname="High", alertstate="#;
    let rest = r#", i="a", on="a", severity="page"}"#;
    let mut expected = Vec::new();
    for (state, range) in [("firing", 2..6), ("pending", 0..2)] {
        let end = ticks[range.end];
        expected.extend(range.map(|i| format!("{base}{state:?}{rest}@{}=1", ticks[i])));
        expected.push(format!("{base}{state:?}{rest}@{end}=stale"));
    }
    assert_eq!(h.stored("ALERTS").await, expected);
    let for_state = h.stored("ALERTS_FOR_STATE").await;
    assert_eq!(for_state.len(), 7);
    assert!(for_state[0].ends_with(&format!("@{}={}", ticks[0], ticks[0] / 1000)), "{for_state:?}");
    assert!(for_state[6].ends_with(&format!("@{}=stale", ticks[6])));
}

#[tokio::test]
async fn a_failing_query_keeps_alerts_and_sends_nothing() {
    let mut h = harness();
    h.load(
        "
groups:
- name: g
  rules:
  - alert: Joined
    expr: x + on(j) y > 0
  - record: ok
    expr: vector(1)
",
    )
    .await
    .unwrap();
    h.put("x/j=1", 1.0);
    h.put("y/j=1", 1.0);
    h.tick().await;
    assert_eq!((h.alerting("Joined").state, h.sent().len()), (AlertState::Firing, 1));
    let written = h.stored("ALERTS").await;
    h.put("x/j=1", 1.0);
    h.put("y/j=1", 1.0);
    h.put("y/j=1,twin=t", 1.0);
    for _ in 0..3 {
        h.tick().await;
        let rule = h.rule("Joined");
        assert_eq!(rule.health, RuleHealth::Err);
        assert!(rule.last_error.contains("many-to-many matching not allowed"), "{rule:?}");
        assert_eq!((h.alerting("Joined").state, h.sent().len()), (AlertState::Firing, 0));
        // The rules after it run all the same.
        assert_eq!(h.rule("ok").health, RuleHealth::Ok);
    }
    assert_eq!(h.stored("ALERTS").await, written, "neither samples nor staleness markers");
    assert_eq!(h.metric("prometheus_rule_evaluation_failures_total"), "3");
    assert_eq!(h.metric("prometheus_rule_evaluations_total"), "8");
}

#[tokio::test]
async fn vanished_results_end_and_offsets_shift_samples() {
    let mut h = harness();
    h.settings.query_offset_ms = 10 * SECOND;
    h.load(
        "
groups:
- name: default
  rules:
  - record: r
    expr: x > 0
- name: zero
  query_offset: 0s
  rules:
  - record: z
    expr: vector(time())
",
    )
    .await
    .unwrap();
    h.put_at("x/i=a", START - 20 * SECOND, 1.0);
    h.put_at("x/i=b", START - 20 * SECOND, 2.0);
    let mut ticks = Vec::new();
    for _ in 0..4 {
        let at = h.tick().await;
        ticks.push(at);
        if ticks.len() == 2 {
            h.put_at("x/i=b", at - 5 * SECOND, -1.0);
        }
    }
    let stored = h.stored("r").await;
    let z = h.stored("z").await;
    for sample in &z {
        let (at, value) = sample.trim_start_matches("{}@").split_once('=').unwrap();
        let at: f64 = at.parse().unwrap();
        assert_eq!(at / 1000.0, value.parse::<f64>().unwrap(), "query time and sample time");
        assert!(ticks.contains(&(at as i64)));
    }
    assert_eq!((z.len(), stored.len()), (2, 4), "{stored:?}");
    let at: Vec<i64> = ticks
        .iter()
        .filter(|t| !z.iter().any(|s| s.contains(&t.to_string())))
        .map(|t| t - 10 * SECOND)
        .collect();
    assert_eq!(
        stored,
        [
            format!(r#"{{i="a"}}@{}=1"#, at[0]),
            format!(r#"{{i="a"}}@{}=1"#, at[1]),
            format!(r#"{{i="b"}}@{}=2"#, at[0]),
            format!(r#"{{i="b"}}@{}=stale"#, at[1]),
        ]
    );
}

#[tokio::test]
async fn missed_ticks_are_counted_and_evaluation_stays_on_the_grid() {
    let mut h = harness();
    h.load("groups: [{name: g, rules: [{record: r, expr: vector(time())}]}]").await.unwrap();
    let first = h.tick().await;
    h.advance_to(first + 5 * 30 * SECOND + 7).await;
    let last = first + 5 * 30 * SECOND;
    assert_eq!(
        h.stored("r").await,
        [first, last].map(|t| format!("{{}}@{t}={}", t as f64 / 1000.0))
    );
    assert_eq!(h.metric("prometheus_rule_group_iterations_missed_total"), "4");
    assert_eq!(h.metric("prometheus_rule_group_iterations_total"), "6");
    assert_eq!(h.tick().await, last + 30 * SECOND);
}

#[tokio::test]
async fn a_group_runs_where_in_its_interval_it_says() {
    let mut h = harness();
    let record = "rules: [{record: r, expr: vector(1)}]";
    h.load(&format!("groups: [{{name: g, eval_offset: 7s, {record}}}]")).await.unwrap();
    for expected in [17, 47, 77] {
        assert_eq!(h.tick().await, START + expected * SECOND);
    }
    h.load(&format!("groups: [{{name: g, interval: 1m, eval_alignment: true, {record}}}]"))
        .await
        .unwrap();
    assert_eq!(h.tick().await, START + 100 * SECOND);
    let error = h.load(&format!("groups: [{{name: g, eval_offset: 31s, {record}}}]")).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("more than the interval of 30s (global.evaluation_interval)"),
        "{error}"
    );
}

#[tokio::test]
async fn a_reload_keeps_what_runs_and_hands_alerts_over() {
    let mut h = harness();
    let rules = |hold: &str, more: &str| {
        format!(
            "
groups:
- name: g
  rules:
  - alert: High
    expr: x > 10
    for: {hold}
  - record: old
    expr: x
{more}"
        )
    };
    h.load(&rules("1m", "- {name: gone, rules: [{record: gone, expr: x}]}")).await.unwrap();
    h.put("x/i=a", 20.0);
    for _ in 0..6 {
        h.tick().await;
    }
    let before = h.alerting("High");
    assert_eq!(before.state, AlertState::Firing);

    // Nothing changed: the same groups, at the same ticks.
    let next = h.clock_next();
    h.load(&rules("1m", "- {name: gone, rules: [{record: gone, expr: x}]}")).await.unwrap();
    assert_eq!(h.clock_next(), next);
    assert_eq!(h.alerting("High").alerts[0].active_at_ms, before.alerts[0].active_at_ms);

    // A broken file changes no group it names, and every error is told.
    let broken = rules("5x", "- {name: g}\n- {name: h, interval: x}");
    let error = h.load(&broken).await.unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].ends_with("goes on: 3 errors") && lines.len() == 4, "{error}");
    assert!(lines[1].starts_with("f.yml: 7:10: "), "{error}");
    assert_eq!(h.manager.groups().len(), 2);

    // Group g changes: its alert goes on, longer `for` and all; the removed rule's series
    // ends at the next tick. Group `gone` ends its series after two intervals.
    let changed = "
groups:
- name: g
  rules:
  - alert: High
    expr: x > 10
    for: 2m
";
    let gone_at = h.clock.now();
    h.load(changed).await.unwrap();
    h.put("x/i=a", 20.0);
    assert_eq!(h.alerting("High").alerts[0].active_at_ms, before.alerts[0].active_at_ms);
    let tick = h.tick().await;
    assert_eq!(h.alerting("High").state, AlertState::Pending, "`for` was raised");
    assert!(h.stored("old").await.last().unwrap().ends_with(&format!("@{tick}=stale")));
    assert!(h.stored("gone").await.last().unwrap().ends_with("=20"));
    h.sleepers -= 1;
    h.advance_to(gone_at + MINUTE).await;
    assert!(h.stored("gone").await.last().unwrap().ends_with(&format!("@{gone_at}=stale")));
    assert_eq!(h.metric("prometheus_rule_evaluations_total{rule_group=\"f.yml;gone\"}"), "absent");
}

#[tokio::test]
async fn alerts_survive_a_restart() {
    let storage = Arc::new(MemoryStorage::new());
    let rules = "
groups:
- name: g
  rules:
  - alert: Slow
    expr: x > 10
    for: 30m
    labels: {on: '{{ $labels.i }}', severity: page}
";
    let mut h = Harness::new(storage.clone(), START);
    h.load(rules).await.unwrap();
    let mut down_at = 0;
    for _ in 0..20 {
        h.put("x/i=a", 20.0);
        down_at = h.tick().await;
    }
    let active_at = h.alerting("Slow").alerts[0].active_at_ms;
    assert_eq!(active_at, down_at - 19 * 30 * SECOND);
    h.manager.shutdown().await;
    assert!(
        !h.stored("ALERTS").await.iter().any(|s| s.ends_with("stale")),
        "shutting down ends no series"
    );

    // Ten minutes later: the time it was down does not count, the time before does.
    let mut h = Harness::new(storage, down_at + 10 * MINUTE);
    let written = h.stored("ALERTS_FOR_STATE").await.len();
    h.load(rules).await.unwrap();
    h.put("x/i=a", 20.0);
    let first = h.tick().await;
    assert_eq!(h.alerting("Slow").alerts[0].active_at_ms, first);
    assert_eq!(h.stored("ALERTS_FOR_STATE").await.len(), written, "not before it was read");
    h.put("x/i=a", 20.0);
    let second = h.tick().await;
    let restored = h.alerting("Slow").alerts[0].active_at_ms;
    assert_eq!(restored, active_at / 1000 * 1000 + (second - down_at));
    h.put("x/i=a", 20.0);
    h.tick().await;
    assert_eq!(h.stored("ALERTS_FOR_STATE").await.len(), written + 1);
}

#[tokio::test]
async fn limits_fail_the_rule() {
    let mut h = harness();
    h.load(
        "
groups:
- name: g
  limit: 1
  rules:
  - {record: r, expr: x}
  - {alert: A, expr: x}
",
    )
    .await
    .unwrap();
    h.put("x/i=a", 1.0);
    h.tick().await;
    assert_eq!((h.rule("r").health, h.alerting("A").alerts.len()), (RuleHealth::Ok, 1));
    h.put("x/i=b", 1.0);
    h.tick().await;
    assert_eq!(h.rule("r").last_error, "exceeded limit of 1 with 2 series");
    assert_eq!(h.rule("A").last_error, "exceeded limit of 1 with 2 alerts");
    assert!(h.alerting("A").alerts.is_empty());
    assert_eq!(h.stored("r").await.len(), 1);
}

#[tokio::test]
async fn a_panic_stays_within_its_rule() {
    let mut h = harness();
    h.load("groups: [{name: g, rules: [{alert: A, expr: x}, {record: r, expr: x}]}]")
        .await
        .unwrap();
    h.put("x/i=a", 1.0);
    h.break_notifier(true);
    for _ in 0..2 {
        h.tick().await;
        assert_eq!(h.rule("A").last_error, "BUG: the evaluation panicked: the notifier is broken");
        assert_eq!(h.rule("r").health, RuleHealth::Ok);
        // What made the rule panic is noted as sent: try again after the resend delay.
        h.put("x/i=b", 1.0);
    }
    h.break_notifier(false);
    for _ in 0..4 {
        h.tick().await;
    }
    assert_eq!((h.rule("A").health, h.sent().len()), (RuleHealth::Ok, 2));
}

#[tokio::test]
async fn rules_come_from_files_patterns_and_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let file = |name: &str, group: &str| {
        let text = format!("groups: [{{name: {group}, rules: [{{record: r, expr: '1'}}]}}]");
        std::fs::write(path(name), text).unwrap();
    };
    file("b.yml", "b");
    file("a.yml", "a");
    let mut h = harness();
    h.load_from(vec![
        RuleSource::Pattern(path("*.yml")),
        RuleSource::Pattern(path("b.yml")),
        RuleSource::Pattern(path("none-*.yml")),
        RuleSource::Text { file: "~own".to_owned(), source: "groups: [{name: o}]".to_owned() },
    ])
    .await
    .unwrap();
    let groups: Vec<_> = h.manager.groups().into_iter().map(|g| (g.file, g.name)).collect();
    let expected = [(path("a.yml"), "a"), (path("b.yml"), "b"), ("~own".to_owned(), "o")];
    assert_eq!(groups, expected.map(|(f, n)| (f, n.to_owned())));
    let bad = h.load_from(vec![RuleSource::Pattern("[".to_owned())]).await.unwrap_err();
    assert!(bad.to_string().contains("[: bad pattern: "), "{bad}");
    h.manager.shutdown().await;
    let settings = h.settings.clone();
    assert!(h.manager.update(settings).await.is_err(), "nothing starts after the end");
}

#[tokio::test]
async fn an_update_nobody_waits_for_is_finished() {
    let mut h = harness();
    h.load("groups: [{name: g, rules: [{record: r, expr: vector(1)}]}]").await.unwrap();
    let source = "groups: [{name: g, rules: [{record: s, expr: vector(2)}]}]".to_owned();
    h.settings.sources = vec![RuleSource::Text { file: "f.yml".to_owned(), source }];
    tokio::select! {
        biased;
        _ = h.manager.update(h.settings.clone()) => panic!("it cannot be done at once"),
        () = std::future::ready(()) => {}
    }
    // The next update waits for it, and finds that nothing is left to change.
    h.manager.update(h.settings.clone()).await.unwrap();
    h.tick().await;
    assert_eq!(h.rule("s").health, RuleHealth::Ok);
    assert_eq!(h.stored("r").await.len(), 0);
    assert_eq!(h.stored("s").await.len(), 1);
}

#[tokio::test]
async fn empty_labels_go_and_empty_annotations_stay() {
    let mut h = harness();
    h.load(
        "
groups:
- name: g
  labels: {team: t}
  rules:
  - alert: A
    expr: x
    labels: {i: '', team: '', blank: '{{ $labels.none }}'}
    annotations: {empty: '', blank: '{{ $labels.none }}'}
  - {record: r, expr: x, labels: {i: ''}}
",
    )
    .await
    .unwrap();
    h.put("x/i=1,team=x,j=2", 1.0);
    h.tick().await;
    let shown = |labels: &watchfire::model::Labels| {
        labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(",")
    };
    // As written in the list of rules; as they came out in alerts and samples.
    assert_eq!(shown(&h.rule("A").labels), "blank={{ $labels.none }},i=,team=");
    let alerting = h.alerting("A");
    assert_eq!(shown(&alerting.annotations), "blank={{ $labels.none }},empty=");
    assert_eq!(shown(&alerting.alerts[0].labels), "alertname=A,j=2");
    assert_eq!(shown(&alerting.alerts[0].annotations), "blank=,empty=");
    assert_eq!(shown(&h.sent()[0].annotations), "blank=,empty=");
    assert_eq!(h.stored("r").await.len(), 1);
    assert!(
        h.stored("r").await[0].starts_with(r#"{j="2", team="t"}@"#),
        "{:?}",
        h.stored("r").await
    );
}
