//! A process that ends in each state of its alerts, and the next one that goes on.

use super::rig::{Alertmanager, End, Rig};

/// One alert for each way of living. What is true has the same value throughout: annotations
/// that change while nothing else does are not remembered.
const RULES: &str = "
groups:
- name: g
  rules:
  - {alert: Wait, expr: wait > 0, for: 60s}
  - {alert: Fire, expr: fire > 0, annotations: {v: '{{ $value }}'}}
  - {alert: Keep, expr: keep > 0, keep_firing_for: 40s}
  - {alert: End, expr: end > 0, annotations: {v: '{{ $value }}'}}
  - {alert: Drop, expr: drop > 0, for: 60s}
  - {alert: Idle, expr: idle > 0}
";

/// At which ticks the conditions hold.
const TRUE: &[(&str, std::ops::RangeInclusive<i64>)] = &[
    // Fires at 70.
    ("wait", 10..=100),
    ("fire", 20..=110),
    // Kept until 90.
    ("keep", 10..=40),
    ("end", 10..=30),
    ("drop", 10..=30),
    ("idle", 0..=0),
];

const LAST: i64 = 120;

/// Feeds the tick at `at` and goes there.
async fn step(rig: &mut Rig, at: i64) {
    rig.put_all(TRUE.iter().map(|(name, ticks)| {
        let value = if ticks.contains(&at) { 5.0 } else { -1.0 };
        ((*name).to_owned(), value)
    }));
    rig.advance(at).await;
}

async fn held(rig: &Rig, what: &str, lines: &[String]) {
    rig.held(what, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// What a run without any restart comes to.
struct Undisturbed {
    /// The Alertmanager's alerts and what was posted after each tick.
    ticks: Vec<(Vec<String>, Vec<String>)>,
    /// Series about alerts.
    stored: [Vec<String>; 2],
}

async fn stored(rig: &Rig) -> [Vec<String>; 2] {
    [rig.stored("ALERTS").await, rig.stored("ALERTS_FOR_STATE").await]
}

async fn undisturbed(am: &std::sync::Arc<Alertmanager>) -> Undisturbed {
    let line = |name: &str, start: i64, sent: i64| {
        let v = if ["Fire", "End"].contains(&name) { " v=\"5\"" } else { "" };
        format!("{{alertname=\"{name}\"}} {start}..{}{v}", sent + 240)
    };
    let mut rig = Rig::new(am).await;
    rig.load(RULES).await;
    let mut ticks = Vec::new();
    for at in (10..=LAST).step_by(10) {
        step(&mut rig, at).await;
        // What must be there, worked out by hand: sent when they begin and 70 s later.
        let mut lines = Vec::new();
        if at < 40 {
            lines.push(line("End", 10, 10));
        }
        if (20..LAST).contains(&at) {
            lines.push(if at < 90 { line("Fire", 20, 20) } else { line("Fire", 20, 90) });
        }
        if at < 90 {
            lines.push(line("Keep", 10, if at < 80 { 10 } else { 80 }));
        }
        if (70..110).contains(&at) {
            lines.push(line("Wait", 70, 70));
        }
        held(&rig, &format!("undisturbed at {at}"), &lines).await;
        ticks.push((lines, rig.posted()));
    }
    rig.paged("undisturbed", PAGES).await;
    Undisturbed { ticks, stored: stored(&rig).await }
}

const PAGES: &[&str] = &[
    r#"firing {alertname="End"} 10.. v="5""#,
    r#"resolved {alertname="End"} 10..40 v="5""#,
    r#"firing {alertname="Fire"} 20.. v="5""#,
    r#"resolved {alertname="Fire"} 20..120 v="5""#,
    r#"firing {alertname="Keep"} 10.."#,
    r#"resolved {alertname="Keep"} 10..90"#,
    r#"firing {alertname="Wait"} 70.."#,
    r#"resolved {alertname="Wait"} 70..110"#,
];

#[tokio::test]
async fn a_restart_between_two_ticks_makes_no_difference_to_anybody() {
    let Some(am) = Alertmanager::start().await else { return };
    let reference = undisturbed(&am).await;
    for how in [End::Clean, End::Crash] {
        for (restart, at) in (1..).zip((10..LAST).step_by(10)) {
            let mut rig = Rig::new(&am).await;
            rig.load(RULES).await;
            for tick in (10..=at).step_by(10) {
                step(&mut rig, tick).await;
            }
            let mut rig = rig.restart(how, 1).await;
            rig.load(RULES).await;
            for (tick, (lines, posted)) in (at + 10..).step_by(10).zip(&reference.ticks[restart..])
            {
                step(&mut rig, tick).await;
                let what = format!("at {tick} after {how:?} at {at}");
                assert_eq!(rig.posted(), *posted, "{what}");
                held(&rig, &what, lines).await;
            }
            let what = format!("after {how:?} at {at}");
            rig.paged(&what, PAGES).await;
            assert_eq!(stored(&rig).await, reference.stored, "{what}");
        }
    }
}

#[tokio::test]
async fn after_a_gap_every_alert_still_begins_and_ends_once() {
    let Some(am) = Alertmanager::start().await else { return };
    // The process is down for 15 s, one tick. For twice that it does not believe that what
    // has no sample has ended.
    for (how, at) in [End::Clean, End::Crash]
        .into_iter()
        .flat_map(|how| (10..=80).step_by(10).map(move |at| (how, at)))
    {
        let mut rig = Rig::new(&am).await;
        rig.load(RULES).await;
        for tick in (10..=at).step_by(10) {
            step(&mut rig, tick).await;
        }
        let mut rig = rig.restart(how, 15_000).await;
        rig.load(RULES).await;
        for tick in (at + 20..=LAST + 20).step_by(10) {
            step(&mut rig, tick).await;
        }
        let what = format!("{how:?} at {at}");
        rig.held(&what, &[]).await;
        super::rig::reaches(&what, &8, async || rig.pages().len()).await;
        let pages = rig.pages();
        for (i, name) in ["End", "Fire", "Keep", "Wait"].iter().enumerate() {
            let start = |page: &str| {
                let rest = page.split_once(&format!("{{alertname=\"{name}\"}} "));
                let rest = rest.unwrap_or_else(|| panic!("{name} in {page} {what}")).1;
                rest.split_once("..").unwrap().0.parse::<i64>().unwrap()
            };
            let [firing, resolved] = &pages[2 * i..2 * i + 2] else { unreachable!() };
            assert!(firing.starts_with("firing") && resolved.starts_with("resolved"), "{what}");
            let usual = start(PAGES[2 * i]);
            // What fired before goes on with its start; what was yet to fire may be late.
            let late = if usual > at { 10 } else { 0 };
            assert!((usual..=usual + late).contains(&start(firing)), "{firing} {what}");
            assert_eq!(start(firing), start(resolved), "{what}");
        }
    }
}

/// How many active alerts of that name the Alertmanager has.
async fn count(rig: &Rig, name: &str) -> usize {
    rig.raw().await.iter().filter(|a| a["labels"]["alertname"] == name).count()
}

#[tokio::test]
async fn what_did_not_arrive_is_sent_by_the_next_process_at_once() {
    let Some(am) = Alertmanager::start().await else { return };
    for how in [End::Clean, End::Crash] {
        for lost in [10, 40] {
            let mut rig = Rig::new(&am).await;
            rig.load(RULES).await;
            for at in (10..=lost).step_by(10) {
                let mut set = am.set();
                if at == lost {
                    // The Alertmanager answers 404.
                    set.path_prefix = "/moved".to_owned();
                }
                rig.send_to(vec![set]).await;
                step(&mut rig, at).await;
            }
            let posted = rig.posted();
            // Its beginning was lost, or its end.
            let (line, again, before, after) = match lost {
                10 => (r#"{alertname="End"} 10..250"#, r#"{alertname="End"} 10..260"#, 0, 1),
                _ => (r#"{alertname="End"} 10..40"#, r#"{alertname="End"} 10..40"#, 1, 0),
            };
            assert!(posted.iter().any(|p| p == line), "{posted:?}");
            let what = format!("{how:?} after what was lost at {lost}");
            assert_eq!(count(&rig, "End").await, before, "{what}");
            let mut rig = rig.restart(how, 1).await;
            rig.load(RULES).await;
            step(&mut rig, lost + 10).await;
            assert_eq!(count(&rig, "End").await, after, "{what}");
            let posted = rig.posted();
            assert!(posted.iter().any(|p| p == again), "{what}: {posted:?}");
        }
    }
}
