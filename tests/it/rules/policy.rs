//! What alerts do when data is missing, queries fail or limits are reached.

use std::fmt::Write as _;
use std::sync::Arc;

use watchfire::rules::RulePolicyDefaults;
use watchfire::rules::view::RulesView;
use watchfire::storage::Source;
use watchfire::storage::memory::MemoryStorage;

use super::faults::{Fault, Faulty};
use super::harness::{Harness, MINUTE, SECOND, Setup};

/// A time far from zero, so that ranges never reach below it.
const START: i64 = 1_700_000_000 * SECOND;

/// Ticks are further apart than samples are looked back for: what is not stored anew is
/// gone at the next tick.
const INTERVAL_MS: i64 = 6 * MINUTE;

async fn harness(rules: &str, policy: RulePolicyDefaults) -> (Harness, Arc<Faulty>) {
    let storage = Arc::new(MemoryStorage::new());
    let faults = Faulty::new(storage.clone());
    let source: Option<Arc<dyn Source>> = Some(faults.clone());
    let mut h = Harness::with(storage, START, Setup { source, policy, ..Setup::default() });
    h.settings.interval_ms = INTERVAL_MS;
    // Later loads have nothing to restore: their series are written from the start.
    h.load("groups: []").await.unwrap();
    h.load(rules).await.unwrap();
    (h, faults)
}

/// `OUTCOME LABELS=STATE REASON ... > LABELS firing or resolved`: what the API shows after
/// a tick and what was sent at it. Labels are those beside the alert's name.
fn show(h: &Harness, rule: &str) -> String {
    let view = h.rule(rule);
    let mut line = view.last_outcome.expect("evaluated").as_str().to_owned();
    let name = |labels: &watchfire::model::Labels| {
        let labels = labels.retain(|n| n != "alertname");
        labels.iter().map(|(_, v)| v.to_owned()).collect::<Vec<_>>().join(",")
    };
    for alert in h.alerting(rule).alerts {
        write!(line, " {}={}", name(&alert.labels), alert.state.as_str()).unwrap();
        if let Some(reason) = alert.missing.and_then(|m| m.reason) {
            write!(line, "~{}", reason.as_str()).unwrap();
        }
    }
    let now = h.clock.now();
    for alert in h.sent() {
        let what = if alert.ends_at_ms > now { "fires" } else { "resolved" };
        let why = alert.annotations.get("watchfire_resolved_reason").unwrap_or_default();
        let space = if why.is_empty() { "" } else { " " };
        write!(line, " > {} {what}{space}{why}", name(&alert.labels)).unwrap();
    }
    line
}

/// Ticks: the samples stored before it (`x/i=a 5`, separated by semicolons), `down` or
/// `partial` for the source, and what is seen afterwards.
async fn check(rules: &str, flags: RulePolicyDefaults, ticks: &[(&str, &str)]) -> Harness {
    let (h, faults) = harness(rules, flags).await;
    for (tick, (input, expected)) in ticks.iter().enumerate() {
        let mut fault = Fault::None;
        for word in input.split(';').map(str::trim).filter(|w| !w.is_empty()) {
            match word.split_once(' ') {
                Some((series, value)) => {
                    h.put_at(series, h.clock_next() - SECOND, value.parse().unwrap());
                }
                None if word == "down" => fault = Fault::Down,
                None => fault = Fault::Partial,
            }
        }
        faults.set(fault);
        h.tick().await;
        assert_eq!(show(&h, "A"), *expected, "tick {tick} of {rules}");
    }
    h
}

/// A group of one alert `A` with these keys.
fn alert(expr: &str, keys: &str) -> String {
    format!("groups: [{{name: g, rules: [{{alert: A, expr: '{expr}', {keys}}}]}}]")
}

#[tokio::test]
async fn by_default_what_is_missing_resolves() {
    for lost in ["", "x/i=a 1", "x/i=b 9; partial"] {
        let h = check(
            &alert("x > 5", ""),
            RulePolicyDefaults::default(),
            &[("x/i=a 9", "matched a=firing > a fires")],
        )
        .await;
        for word in lost.split(';').map(str::trim) {
            if let Some((series, value)) = word.split_once(' ') {
                h.put_at(series, h.clock_next() - SECOND, value.parse().unwrap());
            }
        }
        h.tick().await;
        assert!(show(&h, "A").contains("> a resolved"), "{lost}");
    }
    check(
        &alert("x > 5", ""),
        RulePolicyDefaults::default(),
        &[
            ("x/i=a 9", "matched a=firing > a fires"),
            ("down", "error a=firing"),
            ("partial", "partial > a resolved"),
            ("x/i=a 1", "filter_false > a resolved"),
            ("", "no_data > a resolved"),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_alert_whose_series_are_gone_is_told_from_one_whose_condition_is_false() {
    let keep = "on_no_data: keep, labels: {i2: x}";
    let h = check(
        &alert("x > 5", keep),
        RulePolicyDefaults::default(),
        &[
            ("x/i=a 9; x/i=b 9", "matched a,x=firing b,x=firing > a,x fires > b,x fires"),
            ("x/i=a 9; x/i=b 1", "matched a,x=firing > a,x fires > b,x resolved"),
            ("x/i=b 1", "filter_false a,x=firing~no_data > a,x fires > b,x resolved"),
            ("partial; x/i=b 1", "partial a,x=firing~partial > a,x fires > b,x resolved"),
            ("", "no_data a,x=firing~no_data > a,x fires"),
            ("down", "error a,x=firing~no_data"),
            ("x/i=a 2", "filter_false > a,x resolved"),
        ],
    )
    .await;
    // What is held is written like any active alert.
    let stored = h.stored("ALERTS").await;
    assert_eq!(stored.iter().filter(|s| s.contains("i=\"a\"") && s.ends_with("=1")).count(), 5);
    for (name, value) in [
        ("matched", "2"),
        ("filter_false", "2"),
        ("no_data", "1"),
        ("partial", "1"),
        ("error", "1"),
    ] {
        let metric = format!("watchfire_rules_evaluation_outcomes_total{{outcome=\"{name}\"}}");
        assert_eq!(h.metric(&metric), value, "{name}");
    }
}

#[tokio::test]
async fn joins_aggregations_and_sets_have_an_input_too() {
    let both = "x/i=a 9; y/i=a 5";
    for (expr, there, labels, gone, falsified) in [
        ("x > on(i) y", both, "a", "x/i=a 9", "x/i=a 9; y/i=a 10"),
        ("x > 5 and y > 1", both, "a", "x/i=a 9", "x/i=a 9; y/i=a 0"),
        ("x > 5 or y > 7", both, "a", "z 1", "y/i=a 1"),
        ("x unless y > 7", both, "a", "y/i=a 1", "x/i=a 1; y/i=a 9"),
        ("sum by (i) (x) > 5", both, "a", "x/i=b 9", "x/i=a 1"),
        ("count by (j) (x == 9)", "x/j=a 9", "a", "x/j=b 9", "x/j=a 8"),
        (
            "topk by (j) (1, x)",
            "x/j=a,i=u 9; x/j=a,i=v 1",
            "u,a",
            "x/j=a,i=v 9",
            "x/j=a,i=u 1; x/j=a,i=v 9",
        ),
        ("x > scalar(y)", "x/i=a 9; y 1", "a", "x/i=a 9", "x/i=a 9; y 11"),
        ("count_values(\"v\", x) > 0", "x/i=a 9", "9", "z 1", "x/i=a 8"),
        ("max_over_time((x > 5)[2s:1s])", "x/i=a 9", "a", "x/i=b 9", "x/i=a 1"),
        (
            "x * on(j) group_left(i) (y == 1)",
            "x/j=a 9; y/j=a,i=k 1",
            "k,a",
            "x/j=a 9",
            "x/j=a 9; y/j=a,i=k 0",
        ),
    ] {
        let keys = "on_no_data: keep";
        for (input, held) in [(gone, true), (falsified, false)] {
            let (h, _) = harness(&alert(expr, keys), RulePolicyDefaults::default()).await;
            let mut shown = String::new();
            for input in [there, input] {
                for (series, value) in input.split("; ").filter_map(|w| w.split_once(' ')) {
                    h.put_at(series, h.clock_next() - SECOND, value.parse().unwrap());
                }
                h.tick().await;
                shown = show(&h, "A");
            }
            let missing = format!("{labels}=firing~no_data");
            assert_eq!(shown.contains(&missing), held, "{expr} with {input}: {shown}");
            let resolved = format!("> {labels} resolved");
            assert_eq!(shown.contains(&resolved), !held, "{expr} with {input}: {shown}");
        }
    }
}

#[tokio::test]
async fn missing_evaluations_are_counted_and_resolutions_say_why() {
    let flags = RulePolicyDefaults {
        missing_evals_to_resolve: 3,
        annotate_resolved: true,
        ..RulePolicyDefaults::default()
    };
    check(
        &alert("x > 5", ""),
        flags,
        &[
            ("x/i=a 9", "matched a=firing > a fires"),
            ("", "no_data a=firing~no_data > a fires"),
            ("", "no_data a=firing~no_data > a fires"),
            ("", "no_data > a resolved no_data"),
            ("x/i=a 9", "matched a=firing > a fires"),
            ("x/i=a 1", "filter_false > a resolved filter_false"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_rule_without_data_fires_once_through_for_and_resolves_when_data_is_back() {
    let keys = "on_no_data: fire, for: 6m, keep_firing_for: 1h, labels: {severity: page, v: \"{{ $value }}\"}, annotations: {runbook_url: u, text: \"{{ $value }}\"}";
    let h = check(
        &alert("x > 5", keys),
        RulePolicyDefaults::default(),
        &[
            ("", "no_data page,no_data=pending"),
            ("down", "error page,no_data=pending"),
            ("", "no_data page,no_data=firing > page,no_data fires"),
            ("x/i=a 1", "filter_false > page,no_data resolved"),
            ("x/i=a 9", "matched a,page,9=pending > page,no_data resolved"),
        ],
    )
    .await;
    h.tick().await;
    h.tick().await;
    let sent = h.sent();
    let notice = sent.iter().find(|a| a.labels.get("watchfire_reason").is_some());
    let notice = notice.expect("the notice fires again");
    assert_eq!(notice.annotations.get("runbook_url"), Some("u"));
    assert_eq!(notice.annotations.get("text"), None);
    assert_eq!(notice.annotations.get("summary"), Some("A: no data"));
    assert!(notice.annotations.get("description").unwrap().ends_with("Expression: x > 5"));
}

#[tokio::test]
async fn a_failing_rule_fires_or_resolves_as_told() {
    let flags = RulePolicyDefaults::default();
    let h = check(
        &alert("x > 5", "on_error: fire"),
        flags,
        &[
            ("x/i=a 9", "matched a=firing > a fires"),
            ("down", "error a=firing~error error=firing > a fires > error fires"),
            ("x/i=a 9", "matched a=firing > a fires > error resolved"),
        ],
    )
    .await;
    assert_eq!(h.metric("prometheus_rule_evaluation_failures_total"), "1");
    check(
        &alert("x > 5", "on_error: resolve"),
        flags,
        &[
            ("x/i=a 9", "matched a=firing > a fires"),
            ("down", "error > a resolved"),
            ("down", "error > a resolved"),
        ],
    )
    .await;
}

#[tokio::test]
async fn limits_refuse_what_is_new_and_the_rule_says_so() {
    let rules = "
groups:
- name: g
  limit: 2
  on_limit: truncate
  rules: [{alert: A, expr: x, labels: {severity: page}}]
";
    let h = check(rules, RulePolicyDefaults::default(), &[
        ("x/i=c 1", "matched c,page=firing > c,page fires"),
        (
            "x/i=a 1; x/i=b 1; x/i=c 1",
            "matched a,page=firing c,page=firing page,limit=firing > a,page fires > c,page fires > page,limit fires",
        ),
        (
            "x/i=b 1; x/i=c 1",
            "matched b,page=firing c,page=firing > a,page resolved > b,page fires > c,page fires > page,limit resolved",
        ),
    ])
    .await;
    assert_eq!(h.metric("watchfire_rules_limited_evaluations_total"), "1");
    assert_eq!(h.metric("watchfire_rules_active_alerts"), "2");
}

#[tokio::test]
async fn all_rules_share_a_budget_of_active_alerts() {
    let rules = "
groups:
- name: g
  rules: [{alert: A, expr: x}, {alert: B, expr: x}, {record: r, expr: x}]
";
    let default = RulePolicyDefaults::default();
    for flags in [
        RulePolicyDefaults { max_active_alerts: 5, ..default },
        // An alert of 16 bytes of labels counts for 1,648: there is room for five and a half.
        RulePolicyDefaults { active_alerts_bytes: 5 * 1_648 + 800, ..default },
    ] {
        check_shared_budget(rules, flags).await;
    }
}

async fn check_shared_budget(rules: &str, flags: RulePolicyDefaults) {
    let (mut h, _) = harness(rules, flags).await;
    let put = |h: &Harness, names: &[&str]| {
        for name in names {
            h.put_at(&format!("x/i={name}"), h.clock_next() - SECOND, 1.0);
        }
    };
    put(&h, &["a", "b", "c"]);
    h.tick().await;
    let kept = |h: &Harness, rule: &str| {
        let alerts = h.alerting(rule).alerts;
        let name = |l: &watchfire::model::Labels| {
            l.get("i").or(l.get("watchfire_reason")).unwrap_or_default().to_owned()
        };
        alerts.iter().map(|a| name(&a.labels)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((kept(&h, "A"), kept(&h, "B")), ("a b c".to_owned(), "a b limit".to_owned()));
    assert_eq!(h.metric("watchfire_rules_active_alerts_bytes"), (5 * 1_648).to_string());
    // What ends makes room, after a reload too.
    h.load(&rules.replace("record: r", "record: s")).await.unwrap();
    put(&h, &["b", "c"]);
    h.tick().await;
    assert_eq!((kept(&h, "A"), kept(&h, "B")), ("b c".to_owned(), "b c".to_owned()));
    h.load("groups: []").await.unwrap();
    h.sleepers -= 1;
    h.advance_to(h.clock.now() + 2 * INTERVAL_MS).await;
    assert_eq!(h.manager.groups().len(), 0);
    assert_eq!(h.metric("watchfire_rules_active_alerts"), "0");
}
