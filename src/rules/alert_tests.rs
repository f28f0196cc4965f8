//! The life of alerts, tick by tick, and invariants of any life.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::rules::config::{LoadOptions, RuleSpec, load_source};
use crate::rules::notice::REASON;

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
        let out = step(states, params, samples, Evidence::default(), tick as i64 * MINUTE);
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
        AlertParams { for_ms: MINUTE, keep_firing_for_ms: 2 * MINUTE, ..AlertParams::default() },
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
        AlertParams { for_ms: MINUTE, limit: 1, ..AlertParams::default() },
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
    let (params, evidence) = (AlertParams::default(), Evidence::default());
    let first = step(AlertStates::default(), &params, vec![sample("a", 1.0)], evidence, 0);
    let second = step(first.states, &params, vec![sample("a", 2.0)], evidence, MINUTE);
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
        states = step(states, &params, samples, Evidence::default(), ts).states;
        let due = states.take_due(ts, MINUTE, 30_000);
        assert_eq!(!due.is_empty(), sent, "tick {tick}");
        for alert in due {
            assert_eq!(alert.valid_until_ms, Some(ts + 4 * MINUTE));
        }
    }
}

/// As `check`, with what is known of alerts without a sample (`f` the condition is false,
/// `n` no data, `p` partial, `e` the evaluation failed) and the notices raised.
///
/// One line per tick: samples, one letter for all that is absent or `b:n` for one alert,
/// then after a bar the notice that is raised, if any.
fn check_policy(params: AlertParams, script: &[(&str, &str)]) {
    let spec = parse_rule();
    let notices = Notices::new(&spec, &Default::default());
    let mut states = AlertStates::default();
    for (tick, (input, expected)) in script.iter().enumerate() {
        let (input, raised) = input.split_once('|').unwrap_or((input, ""));
        let mut samples = Vec::new();
        let mut reasons: Vec<(&str, Absence)> = Vec::new();
        for word in input.split_whitespace() {
            match word.split_once(':') {
                Some((name, why)) => reasons.push((name, absence(why))),
                None => samples.push(sample(word, 1.0)),
            }
        }
        let of = |labels: &Labels| {
            let name = labels.get_or_empty("i");
            let found = reasons.iter().find(|(n, _)| *n == name || *n == "*");
            found.map(|(_, reason)| *reason)
        };
        let raised = match raised.trim() {
            "" => None,
            "no_data" => Some(notices.no_data()),
            error => Some(notices.error(error)),
        };
        let evidence = Evidence {
            absence: &of,
            notices: Some(&notices),
            raised: raised.as_ref(),
            allowance: usize::MAX,
        };
        let out = step(states, &params, samples, evidence, tick as i64 * MINUTE);
        states = out.states;
        let mut alerts: Vec<&Alert> = states.iter().collect();
        alerts.sort_by_key(|a| (a.labels.get(REASON).is_none(), a.labels.clone()));
        let mut line: Vec<String> = alerts.iter().map(|a| render_missing(a)).collect();
        line.extend(out.truncated.map(|t| format!("{} of {}", t.kept, t.found)));
        line.extend(out.result.err().map(|e| e.to_string()));
        assert_eq!(line.join(" "), *expected, "tick {tick} of {script:?}");
    }
}

fn parse_rule() -> Arc<RuleSpec> {
    let text = "groups: [{name: g, rules: [{alert: A, expr: x > 1, labels: {severity: page, t: '{{ $value }}'}}]}]";
    let loaded = load_source("f.yml", text, &LoadOptions::default());
    loaded.groups[0].rules[0].clone()
}

fn absence(word: &str) -> Absence {
    match word {
        "f" => Absence::FilterFalse,
        "n" => Absence::NoData,
        "p" => Absence::Partial,
        "e" => Absence::Error,
        other => panic!("{other}"),
    }
}

/// `a:F0~2n`: fires since tick 0, without data for two evaluations, for want of data.
fn render_missing(alert: &Alert) -> String {
    let reason = alert.labels.get_or_empty(REASON);
    let base = render(alert).replace(':', if reason.is_empty() { ":" } else { "" });
    let missing = alert.missing.filter(|_| alert.state != AlertState::Inactive);
    let missing = missing.map(|m| {
        let reason = m.reason.map_or("?", Absence::as_str);
        format!("~{}{}", m.evaluations, &reason[..1])
    });
    format!("{reason}{base}{}", missing.unwrap_or_default())
}

fn policy(on_no_data: OnNoData, on_error: OnError, evals: u32) -> AlertParams {
    let policy = Policy { on_no_data, on_error, missing_evals_to_resolve: evals };
    AlertParams { policy, ..AlertParams::default() }
}

#[test]
fn what_is_missing_ends_by_default_whatever_the_reason() {
    for why in ["*:f", "*:n", "*:p", ""] {
        check_policy(AlertParams::default(), &[("a", "a:F0"), (why, "a:R1")]);
    }
}

#[test]
fn keep_holds_alerts_without_data_and_only_those() {
    let keep = policy(OnNoData::Keep, OnError::Keep, 1);
    check_policy(
        keep,
        &[
            ("a b", "a:F0 b:F0"),
            ("a:n b:f", "a:F0~1n b:R1"),
            ("a:p", "a:F0~2p b:R1"),
            ("a:e", "a:F0~3e b:R1"),
            ("a", "a:F0 b:R1"),
            ("a:n", "a:F0~1n b:R1"),
            ("a:f", "a:R6 b:R1"),
        ],
    );
    // A held alert neither begins to fire nor loses its age.
    check_policy(
        AlertParams { for_ms: 2 * MINUTE, ..keep },
        &[
            ("a", "a:P0"),
            ("*:n", "a:P0~1n"),
            ("*:n", "a:P0~2n"),
            ("*:n", "a:P0~3n"),
            ("a", "a:F4"),
            ("*:n", "a:F4~1n"),
            ("*:f", "a:R6"),
        ],
    );
    // `keep_firing_for` is about a condition that is false.
    check_policy(
        AlertParams { keep_firing_for_ms: 2 * MINUTE, ..keep },
        &[
            ("a", "a:F0"),
            ("*:n", "a:F0~1n"),
            ("*:f", "a:K2~0f"),
            ("*:n", "a:K2~1n"),
            ("*:n", "a:K2~2n"),
            ("*:f", "a:R5"),
        ],
    );
}

#[test]
fn a_number_of_missing_evaluations_resolves() {
    check_policy(
        policy(OnNoData::Resolve, OnError::Keep, 3),
        &[
            ("a", "a:F0"),
            ("*:n", "a:F0~1n"),
            ("*:n", "a:F0~2n"),
            ("a", "a:F0"),
            ("*:n", "a:F0~1n"),
            ("*:p", "a:F0~2p"),
            ("*:n", "a:R6"),
            ("a", "a:F7"),
            ("*:f", "a:R8"),
        ],
    );
    // With `keep` the number bounds what would be held for ever.
    check_policy(
        policy(OnNoData::Keep, OnError::Keep, 2),
        &[("a", "a:F0"), ("*:n", "a:F0~1n"), ("*:n", "a:R2")],
    );
}

#[test]
fn a_failing_rule_resolves_or_fires_as_told() {
    check_policy(policy(OnNoData::Resolve, OnError::Resolve, 1), &[("a", "a:F0"), ("*:e", "a:R1")]);
    check_policy(
        policy(OnNoData::Resolve, OnError::Resolve, 2),
        &[("a", "a:F0"), ("*:e", "a:F0~1e"), ("*:e", "a:R2")],
    );
    check_policy(
        policy(OnNoData::Resolve, OnError::Fire, 2),
        &[
            ("a", "a:F0"),
            ("*:e|boom", "errorF1 a:F0~1e"),
            ("*:e|boom", "errorF1 a:F0~2e"),
            ("a", "errorR3 a:F0"),
            ("*:e|bang", "errorF4 a:F0~1e"),
            ("*:f", "errorR5 a:R5"),
        ],
    );
}

#[test]
fn a_notice_passes_through_for_and_ends_when_it_no_longer_holds() {
    let fire = policy(OnNoData::Fire, OnError::Fire, 1);
    check_policy(
        AlertParams { for_ms: MINUTE, keep_firing_for_ms: 5 * MINUTE, ..fire },
        &[
            ("|no_data", "no_dataP0"),
            ("|no_data", "no_dataF1"),
            // Nobody knows whether the data is back.
            ("*:e|boom", "errorP2 no_dataF1"),
            ("*:e|boom", "errorF3 no_dataF1"),
            ("a", "errorR4 no_dataR4 a:P4"),
            ("a", "errorR4 no_dataR4 a:F5"),
            ("*:n|no_data", "errorR4 no_dataP6 a:F5~1n"),
        ],
    );
    let notices = Notices::new(&parse_rule(), &Default::default());
    let notice = notices.no_data();
    assert_eq!(
        notice.labels.to_string(),
        r#"{alertname="A", severity="page", watchfire_reason="no_data"}"#
    );
    // A series that looks like a notice is an alert of its own.
    let twin = AlertSample { value: 7.0, ..notice.clone() };
    let evidence =
        Evidence { notices: Some(&notices), raised: Some(&notice), ..Evidence::default() };
    let out = step(AlertStates::default(), &fire, vec![twin], evidence, 0);
    assert_eq!(out.states.iter().map(|a| a.value).collect::<Vec<_>>(), [7.0]);
    let out = step(out.states, &fire, vec![], evidence, MINUTE);
    assert_eq!(out.states.active().count(), 1);
}

#[test]
fn an_absence_that_says_nothing_changes_nothing() {
    let params = AlertParams {
        for_ms: 2 * MINUTE,
        keep_firing_for_ms: 2 * MINUTE,
        policy: policy(OnNoData::Resolve, OnError::Resolve, 2).policy,
        ..AlertParams::default()
    };
    let mut states = AlertStates::default();
    let mut at = |minute: i64, sample: Option<AlertSample>, reason: Absence| {
        let absence = |_: &Labels| Some(reason);
        let evidence = Evidence { absence: &absence, ..Evidence::default() };
        let samples = sample.into_iter().collect();
        let out = step(std::mem::take(&mut states), &params, samples, evidence, minute * MINUTE);
        states = out.states;
        states.iter().next().map(|a| (a.state, a.active_at_ms, a.keep_firing_since_ms))
    };
    let a = || Some(sample("a", 1.0));
    at(0, a(), Absence::Restart);
    // Old enough to fire, but nothing says that it should.
    assert_eq!(at(2, None, Absence::Restart), Some((AlertState::Pending, 0, None)));
    assert_eq!(at(3, a(), Absence::Restart), Some((AlertState::Firing, 0, None)));
    // It is not kept: it fires.
    assert_eq!(at(9, None, Absence::Restart), Some((AlertState::Firing, 0, None)));
    assert_eq!(at(10, None, Absence::NoData), Some((AlertState::Firing, 0, None)));
    assert_eq!(at(11, None, Absence::Restart), Some((AlertState::Firing, 0, None)));
    let kept = Some((AlertState::Firing, 0, Some(12 * MINUTE)));
    assert_eq!(at(12, None, Absence::NoData), kept, "the second time without data");
    assert_eq!(at(13, None, Absence::Restart), kept);
    assert_eq!(at(20, None, Absence::Restart), kept);
    assert_eq!(at(21, None, Absence::FilterFalse).unwrap().0, AlertState::Inactive);
}

#[test]
fn a_limit_keeps_what_is_active_and_says_what_it_refused() {
    let limited = AlertParams { limit: 2, truncate: true, ..AlertParams::default() };
    check_policy(
        limited,
        &[
            ("c", "c:F0"),
            ("d b c a", "limitF1 a:F1 c:F0 2 of 4"),
            ("d b c a", "limitF1 a:F1 c:F0 2 of 4"),
            // Room is given to the next by labels, and taken from nobody.
            ("d b c", "limitF1 a:R3 b:F3 c:F0 2 of 3"),
            ("a b c", "limitF1 a:R3 b:F3 c:F0 2 of 3"),
            ("b c", "limitR5 a:R3 b:F3 c:F0"),
        ],
    );
    // What is held counts.
    check_policy(
        AlertParams { limit: 2, truncate: true, ..policy(OnNoData::Keep, OnError::Keep, 1) },
        &[("a b", "a:F0 b:F0"), ("c a:n b:n", "limitF1 a:F0~1n b:F0~1n 2 of 3")],
    );
    // So does the room that other rules leave.
    let params = AlertParams::default();
    let evidence = Evidence { allowance: 1, ..Evidence::default() };
    let out = step(
        AlertStates::default(),
        &params,
        vec![sample("b", 1.0), sample("a", 1.0)],
        evidence,
        0,
    );
    assert_eq!(out.truncated, Some(Truncated { kept: 1, found: 2 }));
    assert!(out.states.get(&labels("a")).is_some() && out.states.get(&labels("b")).is_none());
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
            ..AlertParams::default()
        };
        let mut states = AlertStates::default();
        for (tick, row) in history.iter().enumerate() {
            let ts = tick as i64 * MINUTE;
            let present: Vec<&str> =
                ["a", "b", "c"].into_iter().zip(row).filter(|(_, p)| **p).map(|(n, _)| n).collect();
            let samples = present.iter().map(|n| sample(n, 1.0)).collect();
            let before = states.clone();
            let out = step(states, &params, samples, Evidence::default(), ts);
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
