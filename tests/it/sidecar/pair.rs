//! Several processes over the same rules: alike, dividing them, or taking over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{PATIENCE, Server, query, times};
use crate::support::{free_address, until};

const RULES: &str = r#"
groups:
  - name: one
    interval: 1s
    rules:
      - record: tick
        expr: time()
      - alert: Always
        expr: vector(7) > 3
        for: 4s
  - name: two
    interval: 1s
    rules: [{record: two, expr: '2'}]
  - name: three
    interval: 1s
    rules: [{record: three, expr: '3'}]
  - name: four
    interval: 1s
    rules: [{record: four, expr: '4'}]
"#;

fn serve(dir: &Path, name: &str, more: &[String]) -> Server {
    fs::write(dir.join("rules.yml"), RULES).expect("a file");
    fs::write(dir.join("c.yml"), "rule_files: [rules.yml]\n").expect("a file");
    let mut args = vec![
        "serve".to_owned(),
        "--config.file=c.yml".to_owned(),
        format!("--storage.tsdb.path={name}"),
    ];
    args.extend(more.iter().cloned());
    Server::start(dir, free_address(), &args)
}

fn base(server: &Server) -> String {
    format!("http://{}", server.address)
}

fn firing_since(server: &Server) -> Option<String> {
    let alerts = server.alerts("Always");
    let alert = alerts.first().filter(|a| a["state"] == "firing")?;
    alert["activeAt"].as_str().map(str::to_owned)
}

#[test]
fn two_replicas_write_the_same_samples_at_the_same_times() {
    let dir = tempfile::tempdir().expect("a folder");
    let more = ["--rules.align-groups".to_owned()];
    for aligned in [false, true] {
        let more = if aligned { &more[..] } else { &[] };
        let replicas = ["a", "b"].map(|name| serve(dir.path(), &format!("{name}{aligned}"), more));
        let of = |server: &Server| {
            (times(&base(server), "tick"), times(&base(server), "ALERTS{alertstate='firing'}"))
        };
        let common = until(PATIENCE, || {
            let [(ticks, alerts), (other_ticks, other_alerts)] = [0, 1].map(|i| of(&replicas[i]));
            let common = |a: &[i64], b: &[i64]| {
                let (a, b): (BTreeSet<_>, BTreeSet<_>) = (a.iter().collect(), b.iter().collect());
                a.intersection(&b).count()
            };
            let both = common(&ticks, &other_ticks).min(common(&alerts, &other_alerts));
            (both >= 4).then_some((ticks, other_ticks))
        });
        let (ticks, others) = common.expect("the replicas tick together");
        let phases: BTreeSet<i64> =
            ticks.iter().chain(&others).map(|t| t.rem_euclid(1000)).collect();
        assert_eq!(phases.len(), 1, "aligned {aligned}: {phases:?}");
        assert!(!aligned || phases.contains(&0), "{phases:?}");
        // The value is the time of the tick: equal times are equal samples.
        for replica in &replicas {
            let found = query(&base(replica), "tick - timestamp(tick)");
            assert_eq!(found[0]["value"][1], "0");
        }
    }
}

#[test]
fn shares_divide_the_groups_among_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut all = Vec::new();
    for number in 1..=3 {
        let shard = [format!("--rules.shard={number}/3")];
        let server = serve(dir.path(), &format!("shard{number}"), &shard);
        all.extend(server.groups().into_iter().map(|(_, name)| name));
    }
    all.sort();
    assert_eq!(all, ["four", "one", "three", "two"], "each group runs once");
}

#[test]
fn a_replica_that_takes_over_goes_on_where_its_peer_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = serve(dir.path(), "first", &[]);
    let since = until(PATIENCE, || firing_since(&first)).expect("an alert");
    let peer = [format!("--state.peer={}", base(&first))];
    let second = serve(dir.path(), "second", &peer);
    // It fires without waiting for its `for` anew, since when it does there.
    let taken = until(PATIENCE, || firing_since(&second));
    let seconds = |text: &str| text.split('.').next().map(|t| t.trim_end_matches('Z').to_owned());
    assert_eq!(taken.as_deref().and_then(seconds), seconds(&since), "{}", second.program.log());
    drop(first);
    // A peer that is gone delays and breaks nothing.
    let third = serve(dir.path(), "third", &peer);
    assert!(until(PATIENCE, || firing_since(&third)).is_some(), "{}", third.program.log());
    assert!(third.program.log().contains("The peer cannot be asked"), "{}", third.program.log());
}
