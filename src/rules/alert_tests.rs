//! The life of alerts, tick by tick, and invariants of any life.

use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("alertname", "A"), ("i", name)])
}

fn sample(name: &str, value: f64) -> AlertSample {
    AlertSample {
        labels: labels(name),
        annotations: Labels::from_pairs([("v", value.to_string())]),
        value,
    }
}

/// One line per tick: what is present (`a` or `a=3`), an arrow, then every alert's state
/// with the changes of the tick in brackets, or the error.
///
/// `a->P` pending, `F` firing, `K` kept, `R` resolved, each with the tick it began at.
fn check(params: AlertParams, script: &[(&str, &str)]) {
    check_changing(&vec![params; script.len()], script);
}

fn check_changing(params: &[AlertParams], script: &[(&str, &str)]) {
    let mut states = AlertStates::default();
    for (tick, ((input, expected), params)) in script.iter().zip(params).enumerate() {
        let samples = input
            .split_whitespace()
            .map(|word| match word.split_once('=') {
                Some((name, value)) => sample(name, value.parse().unwrap()),
                None => sample(word, 1.0),
            })
            .collect();
        let out = step(states, params, samples, tick as i64 * MINUTE);
        states = out.states;
        let mut alerts: Vec<&Alert> = states.iter().collect();
        alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut line: Vec<String> = alerts.iter().map(|a| render(a)).collect();
        line.extend(
            out.events.iter().map(|e| format!("[{} {:?}]", e.labels.get_or_empty("i"), e.change)),
        );
        line.extend(out.result.err().map(|e| e.to_string()));
        assert_eq!(line.join(" "), *expected, "tick {tick} of {script:?}");
    }
}

fn render(alert: &Alert) -> String {
    let (word, since) = match (alert.state, alert.keep_firing_since_ms) {
        (AlertState::Pending, _) => ("P", alert.active_at_ms),
        (AlertState::Firing, None) => ("F", alert.fired_at_ms.unwrap()),
        (AlertState::Firing, Some(since)) => ("K", since),
        (_, _) => ("R", alert.resolved_at_ms.unwrap()),
    };
    format!("{}:{word}{}", alert.labels.get_or_empty("i"), since / MINUTE)
}

#[test]
fn without_for_an_alert_fires_at_once_and_resolves_when_gone() {
    check(
        AlertParams::default(),
        &[
            ("a", "a:F0 [a Pending] [a Firing]"),
            ("a b", "a:F0 b:F1 [b Pending] [b Firing]"),
            ("b", "a:R2 b:F1 [a Resolved]"),
            ("", "a:R2 b:R3 [b Resolved]"),
            ("a", "a:F4 b:R3 [a Pending] [a Firing]"),
        ],
    );
}

#[test]
fn for_delays_firing_and_starts_anew_after_a_gap() {
    check(
        AlertParams { for_ms: 2 * MINUTE, ..Default::default() },
        &[
            ("a", "a:P0 [a Pending]"),
            ("a", "a:P0"),
            ("", "[a Dropped]"),
            ("a", "a:P3 [a Pending]"),
            ("a", "a:P3"),
            ("a", "a:F5 [a Firing]"),
            ("", "a:R6 [a Resolved]"),
            ("a", "a:P7 [a Pending]"),
            ("", "[a Dropped]"),
        ],
    );
}

#[test]
fn keep_firing_for_holds_firing_alerts_only() {
    check(
        AlertParams { for_ms: MINUTE, keep_firing_for_ms: 2 * MINUTE, ..Default::default() },
        &[
            ("a", "a:P0 [a Pending]"),
            ("", "[a Dropped]"),
            ("a", "a:P2 [a Pending]"),
            ("a", "a:F3 [a Firing]"),
            ("", "a:K4 [a Kept]"),
            ("", "a:K4"),
            ("a", "a:F3"),
            ("", "a:K7 [a Kept]"),
            ("", "a:K7"),
            ("", "a:R9 [a Resolved]"),
        ],
    );
}

#[test]
fn a_resolved_alert_is_forgotten_after_fifteen_minutes() {
    let mut script = vec![("a", "a:F0 [a Pending] [a Firing]"), ("", "a:R1 [a Resolved]")];
    script.extend(std::iter::repeat_n(("", "a:R1"), 15));
    script.extend([("", "[a Forgotten]"), ("", "")]);
    check(AlertParams::default(), &script);
}

#[test]
fn raising_for_demotes_and_lowering_it_promotes() {
    let hold = |minutes: i64| AlertParams { for_ms: minutes * MINUTE, ..Default::default() };
    check_changing(
        &[hold(1), hold(1), hold(3), hold(3), hold(5), hold(4)],
        &[
            ("a", "a:P0 [a Pending]"),
            ("a", "a:F1 [a Firing]"),
            ("a", "a:P0 [a Demoted]"),
            ("a", "a:F3 [a Firing]"),
            ("a", "a:P0 [a Demoted]"),
            ("a", "a:F5 [a Firing]"),
        ],
    );
}

#[test]
fn beyond_the_limit_all_states_go() {
    check(
        AlertParams { for_ms: MINUTE, limit: 1, ..Default::default() },
        &[
            ("a", "a:P0 [a Pending]"),
            ("a b", "exceeded limit of 1 with 2 alerts"),
            ("a", "a:P2 [a Pending]"),
        ],
    );
}

#[test]
fn duplicates_change_nothing() {
    check(
        AlertParams::default(),
        &[
            ("a", "a:F0 [a Pending] [a Firing]"),
            (
                "b b",
                "a:F0 vector contains metrics with the same labelset after applying alert labels",
            ),
            ("a=2", "a:F0"),
        ],
    );
}

#[test]
fn a_present_alert_takes_value_and_annotations_but_keeps_its_age() {
    let first = step(AlertStates::default(), &AlertParams::default(), vec![sample("a", 1.0)], 0);
    let second = step(first.states, &AlertParams::default(), vec![sample("a", 2.0)], MINUTE);
    let alert = second.states.get(&labels("a")).unwrap();
    assert_eq!((alert.value, alert.active_at_ms, alert.fired_at_ms), (2.0, 0, Some(0)));
    assert_eq!(alert.annotations.get("v"), Some("2"));
}

#[test]
fn notifications_are_resent_after_the_delay_and_at_the_end() {
    let params = AlertParams { for_ms: MINUTE, ..Default::default() };
    let mut states = AlertStates::default();
    // Every 30 s: present?, sent?
    let script = [
        (true, false),
        (true, false),
        (true, true),
        (true, false),
        (true, false),
        (true, true),
        (false, true),
        (false, false),
        (false, false),
        (false, true),
        (true, false),
        (false, false),
    ];
    for (tick, (present, sent)) in script.into_iter().enumerate() {
        let ts = tick as i64 * 30_000;
        let samples = if present { vec![sample("a", 1.0)] } else { vec![] };
        states = step(states, &params, samples, ts).states;
        let due = states.take_due(ts, MINUTE, 30_000);
        assert_eq!(!due.is_empty(), sent, "tick {tick}");
        for alert in due {
            assert_eq!(alert.valid_until_ms, Some(ts + 4 * MINUTE));
        }
    }
}

proptest! {
    #[test]
    fn any_history_keeps_the_invariants(
        for_ticks in 0i64..4,
        keep_ticks in 0i64..4,
        history in prop::collection::vec(prop::collection::vec(any::<bool>(), 3), 1..60),
    ) {
        let params = AlertParams {
            for_ms: for_ticks * MINUTE,
            keep_firing_for_ms: keep_ticks * MINUTE,
            limit: 0,
            ..Default::default()
        };
        let mut states = AlertStates::default();
        for (tick, row) in history.iter().enumerate() {
            let ts = tick as i64 * MINUTE;
            let present: Vec<&str> =
                ["a", "b", "c"].into_iter().zip(row).filter(|(_, p)| **p).map(|(n, _)| n).collect();
            let samples = present.iter().map(|n| sample(n, 1.0)).collect();
            let before = states.clone();
            let out = step(states, &params, samples, ts);
            prop_assert_eq!(&out.result, &Ok(()));
            for alert in out.states.iter() {
                let name = alert.labels.get_or_empty("i");
                let is_present = present.contains(&name);
                let age = ts - alert.active_at_ms;
                match alert.state {
                    AlertState::Pending => {
                        prop_assert!(is_present && age < params.for_ms);
                        prop_assert!(!alert.is_due(ts, 0));
                    }
                    AlertState::Firing => {
                        prop_assert!(age >= params.for_ms);
                        prop_assert!(alert.fired_at_ms.unwrap() >= alert.active_at_ms);
                        prop_assert_eq!(is_present, alert.keep_firing_since_ms.is_none());
                        if let Some(since) = alert.keep_firing_since_ms {
                            prop_assert!(ts - since < params.keep_firing_for_ms);
                        }
                    }
                    _ => {
                        prop_assert!(!is_present);
                        let resolved = alert.resolved_at_ms.unwrap();
                        prop_assert!(resolved > alert.fired_at_ms.unwrap());
                        prop_assert!(ts - resolved <= RESOLVED_RETENTION_MS);
                    }
                }
            }
            // Every present series is active, and nothing that fired vanishes unresolved.
            for name in &present {
                prop_assert!(out.states.get(&labels(name)).is_some_and(|a| a.state != AlertState::Inactive));
            }
            for alert in before.iter().filter(|a| a.state == AlertState::Firing) {
                prop_assert!(out.states.get(&alert.labels).is_some());
            }
            states = out.states;
            let due = states.take_due(ts, 0, MINUTE);
            let again = states.take_due(ts, 0, MINUTE);
            prop_assert!(again.is_empty(), "nothing is due twice in one tick");
            prop_assert!(due.iter().all(|a| a.state != AlertState::Pending));
        }
    }
}
