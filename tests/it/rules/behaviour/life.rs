//! The life of alerts as an Alertmanager has it, without anything going wrong.

use super::rig::{Alertmanager, Rig};

/// `High` waits and is kept, `Now` does neither; `Slow` has a longer interval than the
/// resend delay, and ticks once, at 30.
fn rules(rig: &Rig) -> String {
    let offset = (rig.zero() / 1000 + 30) % 120;
    format!(
        "
groups:
- name: g
  rules:
  - alert: High
    expr: x > 10
    for: 20s
    keep_firing_for: 20s
    labels: {{severity: page, on: '{{{{ $labels.i }}}}', none: ''}}
    annotations: {{text: '{{{{ $labels.i }}}} has {{{{ $value }}}}'}}
  - {{alert: Now, expr: y > 0}}
- name: slow
  interval: 2m
  eval_offset: {offset}s
  rules:
  - {{alert: Slow, expr: x > 0}}
"
    )
}

const HIGH: &str = r#"{alertname="High", i="a", on="a", severity="page"}"#;
const NOW: &str = r#"{alertname="Now", i="a"}"#;
const SLOW: &str = r#"{alertname="Slow", i="a"} 30..510"#;

#[tokio::test]
async fn an_alert_waits_fires_is_resent_kept_and_resolved() {
    let Some(am) = Alertmanager::start().await else { return };
    let mut rig = Rig::new(&am).await;
    rig.load(&rules(&rig)).await;
    let first = format!(r#"{HIGH} 30..270 text="a has 13""#);
    let again = format!(r#"{HIGH} 30..340 text="a has 20""#);
    let now = format!("{NOW} 30..270");
    // Values of x and y at each tick, and what the Alertmanager has after it.
    let steps: &[(f64, f64, &[&str])] = &[
        (11.0, -1.0, &[]),
        (12.0, -1.0, &[]),
        // 30: `for` has passed. An alert without it fires at once.
        (13.0, 1.0, &[&first, &now, SLOW]),
        // Nothing is sent before the resend delay has passed, however values change.
        (14.0, 1.0, &[&first, &now, SLOW]),
        (15.0, 1.0, &[&first, &now, SLOW]),
        (16.0, 1.0, &[&first, &now, SLOW]),
        (17.0, 1.0, &[&first, &now, SLOW]),
        (18.0, 1.0, &[&first, &now, SLOW]),
        (19.0, 1.0, &[&first, &now, SLOW]),
        // 100, more than a minute later: with the annotations of now and the old start. The
        // other one has ended.
        (20.0, -1.0, &[&again, SLOW]),
        // Not true any more, and kept.
        (1.0, -1.0, &[&again, SLOW]),
        (1.0, -1.0, &[&again, SLOW]),
        (1.0, -1.0, &[SLOW]),
        // 140: true again, it waits as a new one.
        (11.0, -1.0, &[SLOW]),
        (-1.0, -1.0, &[]),
    ];
    for (step, (x, y, expected)) in (1..).zip(steps) {
        rig.put("x/i=a", *x);
        rig.put("y/i=a", *y);
        rig.advance(10 * step).await;
        rig.held(&format!("at {}", 10 * step), expected).await;
        if step == 3 {
            let alerts = rig.raw().await;
            let high = alerts.iter().find(|a| a["labels"]["alertname"] == "High").unwrap();
            assert_eq!(high["generatorURL"], "http://w:9090/graph?g0.expr=x+%3E+10&g0.tab=1");
            assert_eq!(high["status"]["state"], "active");
        }
    }
    // Ends are told for 15 minutes, each after the resend delay, to no effect.
    rig.advance(1100).await;
    let posted = rig.posted();
    let count = |line: &str| posted.iter().filter(|p| *p == line).count();
    assert_eq!(count(&format!("{NOW} 30..100")), 13, "every 70 s from 100 to 940");
    assert_eq!(count(&format!("{HIGH} 30..130")), 1, "forgotten when it was back");
    assert_eq!(count(r#"{alertname="Slow", i="a"} 30..150"#), 8, "every 120 s from 150 to 990");
    assert_eq!(am.received("resolved").await, 22.0);
    assert_eq!(am.received("firing").await, posted.len() as f64 - 22.0);
    rig.paged(
        "each start and each end once",
        &[
            &format!(r#"firing {HIGH} 30.. text="a has 13""#),
            &format!(r#"resolved {HIGH} 30..130 text="a has 20""#),
            &format!("firing {NOW} 30.."),
            &format!("resolved {NOW} 30..100"),
            r#"firing {alertname="Slow", i="a"} 30.."#,
            r#"resolved {alertname="Slow", i="a"} 30..150"#,
        ],
    )
    .await;
}
