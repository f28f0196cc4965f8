//! Several Alertmanagers, some of which do not work, and many alerts.

use std::net::{SocketAddr, TcpListener};

use axum::http::StatusCode;
use watchfire::notifier::NotifierOptions;
use watchfire::relabel::RelabelConfig;

use super::rig::{Alertmanager, Rig, RigSetup, reaches, set};
use crate::support::{free_address, serve_app};

/// One that refuses everything in the same way.
async fn refusing(status: u16) -> SocketAddr {
    let status = StatusCode::from_u16(status).unwrap();
    let app = axum::Router::new().fallback(async move || status);
    serve_app(app).await
}

fn relabel(yaml: &str) -> Vec<RelabelConfig> {
    serde_yaml::from_str(yaml).unwrap()
}

#[tokio::test]
async fn those_that_work_do_not_notice_those_that_do_not() {
    let (Some(one), Some(two)) = (Alertmanager::start().await, Alertmanager::start().await) else {
        return;
    };
    let mut rig = Rig::new(&one).await;
    // The kernel completes connections to this one; nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = silent.local_addr().unwrap();
    let dead = free_address();
    let refusing = [refusing(500).await, refusing(400).await, refusing(429).await];
    let mut sets = vec![set(dead), set(slow)];
    sets.extend(refusing.map(set));
    sets[1].timeout_ms = 500;
    // Each set has its own idea of the alerts.
    let mut second = two.set();
    second.alert_relabel_configs = relabel(
        "[{source_labels: [alertname], regex: B, action: drop}, {target_label: team, replacement: db}]",
    );
    sets.insert(0, second);
    sets.push(one.set());
    rig.send_to(sets).await;
    rig.load(
        "groups: [{name: g, rules: [{alert: A, expr: x > 0}, {alert: B, expr: x > 0}, {alert: C, expr: x > 0}]}]",
    )
    .await;
    rig.put("x", 1.0);
    rig.advance(10).await;
    let all = ["A", "B", "C"].map(|n| format!("{{alertname=\"{n}\"}} 10..250"));
    rig.held("all", &all.each_ref().map(String::as_str)).await;
    let sent = |address| rig.sent_metric("sent_total", address);
    let failed =
        |a| (rig.sent_metric("errors_total", a), rig.sent_metric("dropped_total", a), sent(a));
    for address in [&[dead, slow], &refusing[..]].concat() {
        assert_eq!(failed(address), (3.0, 3.0, 0.0), "{address}");
    }
    for (address, count) in [(one.address, 3.0), (two.address, 2.0)] {
        assert_eq!(failed(address), (0.0, 0.0, count), "{address}");
    }
    rig.am = two;
    rig.held(
        "its own",
        &[r#"{alertname="A", team="db"} 10..250"#, r#"{alertname="C", team="db"} 10..250"#],
    )
    .await;
    // Those that refuse are asked again when alerts are due again, and for the ends.
    rig.put("x", -1.0);
    rig.advance(20).await;
    rig.held("ended", &[]).await;
    assert_eq!(rig.sent_metric("errors_total", refusing[0]), 6.0);
}

#[tokio::test]
async fn a_queue_that_is_too_short_loses_the_oldest_alerts_until_they_are_due_again() {
    let Some(am) = Alertmanager::start().await else { return };
    // A batch is handed over at once: what does not fit is dropped whatever the speed.
    let notifier =
        NotifierOptions { queue_capacity: 4, max_batch_size: 2, ..NotifierOptions::default() };
    let mut rig = Rig::with(&am, RigSetup { notifier, ..RigSetup::default() }).await;
    rig.load("groups: [{name: g, rules: [{alert: A, expr: x > 0}]}]").await;
    rig.put_all((0..6).map(|i| (format!("x/i={i}"), 1.0)));
    rig.advance(10).await;
    let line = |i: i64, end| format!("{{alertname=\"A\", i=\"{i}\"}} 10..{end}");
    let held: Vec<String> = (2..6).map(|i| line(i, 250)).collect();
    rig.held("the last four", &held.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(rig.sent_metric("dropped_total", am.address), 2.0);
    assert_eq!(rig.sent_metric("sent_total", am.address), 4.0);
    // As any alert that was lost on the way, they come with the next round, if they fit.
    rig.put_all((3..6).map(|i| (format!("x/i={i}"), -1.0)));
    rig.advance(80).await;
    let held: Vec<String> = [line(0, 320), line(1, 320), line(2, 320)].into();
    rig.held("the next round", &held.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn ten_thousand_alerts_arrive_in_batches_and_resolve() {
    const COUNT: usize = 10_000;
    // Ten thousand groups looked at ten times a second would be all it does.
    let Some(am) = Alertmanager::start_with("5s").await else { return };
    // Time for a slow machine: what is sent holds for 20 minutes.
    let setup = RigSetup { behind_ms: 640_000, ..RigSetup::default() };
    let mut rig = Rig::with(&am, setup).await;
    let offset = (rig.zero() / 1000 + 10) % 300;
    rig.load(&format!(
        "
groups:
- name: g
  interval: 5m
  eval_offset: {offset}s
  rules:
  - alert: Many
    expr: x > 0
    labels: {{severity: page}}
    annotations: {{text: '{{{{ $labels.i }}}} has {{{{ $value }}}}'}}
"
    ))
    .await;
    // That many are true, the others are not.
    let put = |rig: &Rig, firing| {
        let value = |i| if i < firing { 1.0 } else { -1.0 };
        rig.put_all((0..COUNT).map(|i| (format!("x/i={i}"), value(i))));
    };
    put(&rig, COUNT);
    rig.advance(10).await;
    let mut expected: Vec<String> = (0..COUNT)
        .map(|i| {
            format!(r#"{{alertname="Many", i="{i}", severity="page"}} 10..1210 text="{i} has 1""#)
        })
        .collect();
    expected.sort();
    rig.held("all", &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(rig.sent_metric("sent_total", am.address), COUNT as f64);
    assert_eq!(rig.sent_metric("dropped_total", am.address), 0.0);
    let batches = rig.sent_metric("latency_histogram_seconds_count", am.address);
    assert_eq!(batches, COUNT.div_ceil(256) as f64);
    assert_eq!(am.received("firing").await, COUNT as f64);
    // Nine of ten end; the others are due again.
    rig.advance(300).await;
    put(&rig, COUNT / 10);
    rig.advance(310).await;
    assert_eq!(am.received("firing").await, 1.1 * COUNT as f64);
    assert_eq!(am.received("resolved").await, 0.9 * COUNT as f64);
    // They end, too, and the ends of the others are told again.
    rig.advance(600).await;
    put(&rig, 0);
    rig.advance(610).await;
    rig.held("none", &[]).await;
    assert_eq!(am.received("firing").await, 1.1 * COUNT as f64);
    assert_eq!(am.received("resolved").await, 1.9 * COUNT as f64);
    assert_eq!(rig.sent_metric("dropped_total", am.address), 0.0);
    // The pager heard of each start and each end. (With so much to do, an Alertmanager may
    // say something twice.)
    reaches("pages", &(COUNT, COUNT), async || {
        let mut pages = rig.pages();
        pages.dedup();
        let ends = pages.iter().filter(|p| p.starts_with("resolved")).count();
        (pages.len() - ends, ends)
    })
    .await;
}
