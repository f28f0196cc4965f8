//! Storage that does not answer, and storage that takes nothing.

use watchfire::rules::view::{AlertState, RuleHealth};

use super::rig::{Alertmanager, Rig};
use crate::rules::faults::Fault;

#[tokio::test]
async fn an_outage_of_storage_resolves_nothing_and_starts_nothing_anew() {
    let Some(am) = Alertmanager::start().await else { return };
    let mut rig = Rig::new(&am).await;
    rig.load(
        "
groups:
- name: g
  rules:
  - {alert: A, expr: x > 0}
  - {alert: Wait, expr: wait > 0, for: 50s}
  - {alert: Kept, expr: kept > 0, keep_firing_for: 40s}
",
    )
    .await;
    let put = |rig: &Rig, b: f64, kept: f64| {
        rig.put("x/i=a", 1.0);
        rig.put("x/i=b", b);
        rig.put("wait", 1.0);
        rig.put("kept", kept);
    };
    put(&rig, 1.0, 1.0);
    rig.advance(10).await;
    put(&rig, 1.0, -1.0);
    rig.advance(20).await;
    let a = r#"{alertname="A", i="a"}"#;
    let b = r#"{alertname="A", i="b"}"#;
    let before =
        [&*format!("{a} 10..250"), &format!("{b} 10..250"), r#"{alertname="Kept"} 10..250"#];
    rig.held("before", &before).await;
    assert_eq!(rig.posted().len(), 3);

    rig.source.set(Fault::Down);
    for at in [30, 40, 50, 60, 70, 80] {
        // Part of what happens meanwhile would end alerts, had anybody seen it.
        put(&rig, -1.0, -1.0);
        rig.advance(at).await;
        assert_eq!(rig.h.rule("A").health, RuleHealth::Err);
        assert_eq!(rig.h.alerting("Wait").state, AlertState::Pending, "nobody saw it hold on");
        assert_eq!(rig.h.alerting("Kept").state, AlertState::Firing, "nobody saw it be false");
    }
    assert!(rig.posted().is_empty(), "not even what was due at 80");
    rig.held("meanwhile", &before).await;

    rig.source.set(Fault::None);
    put(&rig, -1.0, -1.0);
    rig.advance(90).await;
    rig.held("after", &[&format!("{a} 10..330"), r#"{alertname="Wait"} 90..330"#]).await;
    assert_eq!(
        rig.posted(),
        [
            format!("{a} 10..330"),
            format!("{b} 10..90"),
            r#"{alertname="Wait"} 90..330"#.to_owned(),
            r#"{alertname="Kept"} 10..90"#.to_owned(),
        ]
    );
    // No marker ended a series while nobody knew; `b` ends when it is known to.
    let series = |labels: &str, state: &str, samples: &str| {
        let labels = labels.replacen(", i", &format!(r#", alertstate="{state}", i"#), 1);
        format!("{labels} {samples}")
    };
    let stored = rig.stored("ALERTS").await;
    assert_eq!(stored[0], series(a, "firing", "10=1 20 90"));
    assert_eq!(stored[1], series(b, "firing", "10=1 20 90=stale"));
}

#[tokio::test]
async fn storage_that_takes_nothing_delays_no_notification() {
    let Some(am) = Alertmanager::start().await else { return };
    let mut rig = Rig::new(&am).await;
    rig.load("groups: [{name: g, rules: [{alert: A, expr: x > 0}]}]").await;
    rig.sink.fail(true);
    rig.put("x/i=a", 1.0);
    rig.advance(10).await;
    rig.held("begins", &[r#"{alertname="A", i="a"} 10..250"#]).await;
    rig.put("x/i=a", -1.0);
    rig.put("x/i=b", 1.0);
    rig.advance(20).await;
    rig.held("ends and begins", &[r#"{alertname="A", i="b"} 20..260"#]).await;
    assert!(rig.stored("ALERTS").await.is_empty());
    rig.sink.fail(false);
    rig.advance(30).await;
    assert_eq!(rig.stored("ALERTS").await, [r#"{alertname="A", alertstate="firing", i="b"} 30=1"#]);
}
