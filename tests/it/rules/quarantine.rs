//! Loads with errors: what is good takes effect, what is bad goes on as it was.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use watchfire::rules::view::{AlertState, RuleHealth, RulesView};
use watchfire::rules::{RuleSource, UpdateError};
use watchfire::storage::memory::MemoryStorage;

use super::harness::{Harness, MINUTE, SECOND};

const START: i64 = 1_700_000_000 * SECOND;

fn harness() -> Harness {
    Harness::new(Arc::new(MemoryStorage::new()), START)
}

/// The rules as the API shows them: `GROUP/NAME QUERY HEALTH`, and `*` behind one that is
/// set aside, `!` when nothing runs in its place.
fn shown(h: &Harness) -> Vec<String> {
    let mut out = Vec::new();
    for group in h.manager.groups() {
        for rule in group.rules {
            let aside = match rule.quarantine {
                None => "",
                Some(q) if q.last_good_runs => "*",
                Some(_) => "!",
            };
            let health = rule.health.as_str();
            out.push(format!("{}/{} {} {health}{aside}", group.name, rule.name, rule.query));
        }
    }
    out
}

/// Loads `before`, evaluates once, loads `after`, and compares what runs then; `errors`
/// is how many the answer lists.
async fn check(before: &str, after: &str, errors: usize, expected: &[&str]) -> Harness {
    let mut h = harness();
    h.load(before).await.unwrap();
    for _ in 0..h.sleepers {
        h.tick().await;
    }
    match h.load(after).await {
        Err(UpdateError::Quarantined(problems)) => {
            assert_eq!(problems.len(), errors, "{problems:#?}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(shown(&h), expected, "{after}");
    h
}

fn rules(list: &str) -> String {
    format!("groups:\n- name: g\n  rules: [{list}]\n")
}

#[tokio::test]
async fn a_bad_rule_runs_on_as_it_was_with_its_state() {
    let mut h = harness();
    let file = |hold: &str, expr: &str, other: &str| {
        format!(
            "
groups:
- name: g
  rules:
  - record: first
    expr: {other}
  - alert: High
    expr: {expr}
    for: {hold}
  - record: last
    expr: x
"
        )
    };
    h.load(&file("1m", "x > 10", "x * 2")).await.unwrap();
    h.put("x/i=a", 20.0);
    for _ in 0..4 {
        h.tick().await;
    }
    let before = h.alerting("High");
    assert_eq!((before.state, h.sent().len()), (AlertState::Firing, 1));

    // The rule before it changes; the bad one goes on, its alert neither lost nor resolved.
    for _ in 0..2 {
        let error = h.load(&file("1m", "x >> 10", "x * 3")).await.unwrap_err().to_string();
        assert!(error.contains("f.yml: 8:11: group \"g\", rule 2, \"High\""), "{error}");
        h.put("x/i=a", 20.0);
        h.tick().await;
        let now = h.alerting("High");
        assert_eq!(now.state, AlertState::Firing);
        assert_eq!(now.alerts[0].active_at_ms, before.alerts[0].active_at_ms);
        assert!(h.stored("first").await.last().unwrap().ends_with("=60"));
    }
    assert!(h.sent().iter().all(|a| a.ends_at_ms > h.clock.now()), "nothing was resolved");
    let rule = h.rule("High");
    assert_eq!((rule.health, rule.query.as_str()), (RuleHealth::Err, "x > 10"));
    assert!(rule.last_error.starts_with("f.yml: 8:11: "), "{}", rule.last_error);
    assert!(rule.last_error.ends_with("; its last good version runs"), "{}", rule.last_error);
    let metric = "watchfire_rules_quarantined{file=\"f.yml\",kind=\"rule\"}";
    assert_eq!(h.metric(metric), "1");
    let aside = h.manager.quarantined();
    assert_eq!((aside.len(), aside[0].kind, aside[0].last_good_runs), (1, "rule", true));
    assert_eq!(aside[0].rule.as_deref(), Some("High"));
    assert_eq!(aside[0].position.map(|at| at.line), Some(8));

    // Mended: the alert is the one it was.
    h.load(&file("1m", "x > 15", "x * 3")).await.unwrap();
    assert_eq!((h.metric(metric), h.manager.quarantined().len()), ("absent".to_owned(), 0));
    h.put("x/i=a", 20.0);
    h.tick().await;
    assert_eq!(h.rule("High").health, RuleHealth::Ok);
    assert_eq!(h.alerting("High").alerts[0].active_at_ms, before.alerts[0].active_at_ms);
}

#[tokio::test]
async fn a_bad_rule_is_found_again_by_kind_name_and_labels() {
    let good = "{alert: A, expr: x > 1, labels: {s: w}}, {alert: A, expr: x > 2, labels: {s: c}}, {record: A, expr: x}";
    // By its labels, where several have its name; the other one changed.
    check(
        &rules(good),
        &rules("{alert: A, expr: x > 3, labels: {s: w}}, {alert: A, expr: 'x >', labels: {s: c}}, {record: A, expr: x}"),
        1,
        &["g/A x > 3 unknown", "g/A x > 2 err*", "g/A x unknown"],
    )
    .await;
    // By its name, when its labels changed as well; of the two the one nobody continues.
    check(
        &rules(good),
        &rules("{alert: A, expr: x > 1, labels: {s: w}}, {alert: A, expr: 'x >', labels: {s: d}}, {record: A, expr: x}"),
        1,
        &["g/A x > 1 ok", "g/A x > 2 err*", "g/A x ok"],
    )
    .await;
    // An alert is not continued by a record of its name.
    check(
        &rules("{record: A, expr: x}"),
        &rules("{alert: A, expr: x, fore: 1m}"),
        1,
        &["g/A x err!"],
    )
    .await;
    // A rule that lost its name is the one at its place.
    check(
        &rules("{record: a, expr: x}, {record: b, expr: y}"),
        &rules("{record: a, expr: x}, {recrd: b, expr: y}"),
        2,
        &["g/a x ok", "g/b y err*"],
    )
    .await;
    // One that is new has no last good version; it is shown where it would stand.
    check(
        &rules("{record: a, expr: x}, {record: c, expr: z}"),
        &rules("{record: a, expr: x}, {record: b, expr: 'y['}, {record: c, expr: z * 2}, {alert: d, expr: ''}"),
        2,
        &["g/a x unknown", "g/b y[ err!", "g/c z * 2 unknown", "g/d  err!"],
    )
    .await;
}

#[tokio::test]
async fn a_bad_group_goes_on_whole_and_the_others_change() {
    let before = "
groups:
- {name: a, rules: [{record: a, expr: x}]}
- {name: b, rules: [{record: b, expr: x}, {record: c, expr: x}]}
";
    let a = "- {name: a, rules: [{record: a, expr: x * 2}]}";
    let a_shown = "a/a x * 2 unknown";
    let b_shown = ["b/b x err*", "b/c x err*"];
    for (group, errors) in [
        ("- {name: b, interval: 5x, rules: [{record: b, expr: y}]}", 1),
        ("- {name: b, intervall: 5m, rules: [{record: b, expr: 'y['}]}", 2),
        ("- {name: b, eval_offset: 31s, rules: []}", 1),
        ("- {name: b, type: graphite, rules: [{record: b, expr: 'f(x.y.z)'}]}", 1),
        ("- {name: b, rules: 5}", 1),
        // Which group it was is not known: those that are missing go on.
        ("- {name: '', rules: [{record: b, expr: y}]}", 1),
        ("- {name: a, rules: [{record: b, expr: y}]}", 1),
        ("- 5", 1),
    ] {
        let h = check(
            before,
            &format!("groups:\n{a}\n{group}\n"),
            errors,
            &[a_shown, b_shown[0], b_shown[1]],
        )
        .await;
        assert_eq!(h.manager.quarantined().len(), 1, "{group}");
    }
    let file = ["a/a x err*", b_shown[0], b_shown[1]];
    for source in ["groups: [", "group: []", "groups: {}", "- 1", "\u{1}"] {
        let h = check(before, source, 1, &file).await;
        assert_eq!(h.manager.quarantined()[0].kind, "file");
        // It runs untouched: the same ticks, the same series.
        let stored = h.stored("a").await.len();
        h.put("x", 1.0);
        h.tick().await;
        h.tick().await;
        assert_eq!(h.stored("a").await.len(), stored + 1);
    }
}

#[tokio::test]
async fn a_bad_object_leaves_the_other_objects_of_its_file_alone() {
    let object = |name: &str, rest: &str| {
        format!(
            "---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {{name: {name}}}\n{rest}\n"
        )
    };
    let spec = |group: &str, expr: &str| {
        format!("spec: {{groups: [{{name: {group}, rules: [{{record: r, expr: '{expr}'}}]}}]}}")
    };
    let before = object("x", &spec("x", "1")) + &object("y", &spec("y", "1"));
    check(
        &before,
        &(object("x", "specc: {}") + &object("y", &spec("y", "2"))),
        1,
        &["y/r 2 unknown", "x/r 1 err*"],
    )
    .await;
    // A group that was renamed in a good object is no victim of a bad one.
    check(
        &before,
        &(object("x", "specc: {}") + &object("y", &spec("z", "2"))),
        1,
        &["z/r 2 unknown", "x/r 1 err*"],
    )
    .await;
}

#[tokio::test]
async fn files_that_cannot_be_read_go_on_and_files_that_are_gone_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, expr: &str| {
        let text =
            format!("groups: [{{name: {name}, rules: [{{record: {name}, expr: '{expr}'}}]}}]");
        std::fs::write(path(name), text).unwrap();
    };
    for name in ["a", "b", "c"] {
        write(name, "1");
    }
    let source = RuleSource::Pattern(path("?").display().to_string());
    let mut h = harness();
    h.load_from(vec![source.clone()]).await.unwrap();
    write("a", "2");
    std::fs::write(path("b"), [0xff, 0xfe, b'\n']).unwrap();
    std::fs::remove_file(path("c")).unwrap();
    std::fs::create_dir(path("d")).unwrap();
    let error = h.load_from(vec![source.clone()]).await.unwrap_err().to_string();
    assert!(error.contains("invalid UTF-8") && error.contains("2 errors"), "{error}");
    assert_eq!(shown(&h), ["a/a 2 unknown", "b/b 1 err*"]);
    let running: Vec<bool> = h.manager.quarantined().iter().map(|q| q.last_good_runs).collect();
    assert_eq!(running, [true, false], "there never was anything in d");

    // What was in c ends.
    h.sleepers -= 1;
    h.advance_to(h.clock.now() + MINUTE).await;

    // Not even the list of files can be had: nothing is taken away.
    let error = h.load_from(vec![RuleSource::Pattern("[".to_owned())]).await.unwrap_err();
    assert!(error.to_string().contains("bad pattern"), "{error}");
    assert_eq!(shown(&h), ["a/a 2 err*", "b/b 1 err*"]);

    // Set right, with other permissions than a user without privileges has.
    write("b", "3");
    std::fs::remove_dir(path("d")).unwrap();
    std::fs::set_permissions(path("b"), std::fs::Permissions::from_mode(0o444)).unwrap();
    h.load_from(vec![source]).await.unwrap();
    assert_eq!(shown(&h), ["a/a 2 ok", "b/b 3 unknown"]);
}

#[tokio::test]
async fn the_first_load_runs_what_is_good() {
    let mut h = harness();
    let source = "groups: [{name: g, rules: [{record: r, expr: vector(1)}, {alert: A, expr: '('}]}, {name: h, interval: x}]";
    let error = h.load(source).await.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 3, "{error}");
    assert_eq!(shown(&h), ["g/r vector(1) unknown", "g/A ( err!"]);
    h.tick().await;
    assert_eq!(h.rule("r").health, RuleHealth::Ok);
    assert!(h.rule("A").last_error.ends_with("it does not run: it has no last good version"));
    let kinds: Vec<_> = h.manager.quarantined().iter().map(|q| q.kind).collect();
    assert_eq!(kinds, ["group", "rule"]);
}

#[tokio::test]
async fn strict_changes_nothing_at_all() {
    let mut h = Harness::strict(Arc::new(MemoryStorage::new()), START);
    let good = "groups: [{name: g, rules: [{record: r, expr: vector(1)}]}]";
    h.load(good).await.unwrap();
    let next = h.clock_next();
    let broken = "groups: [{name: g, rules: [{record: r, expr: vector(2)}, {record: s, expr: '('}]}, {name: h, rules: [{record: r, expr: 'x['}]}]";
    let error = h.load(broken).await.unwrap_err();
    assert!(matches!(error, UpdateError::Load(_)), "{error:?}");
    let error = error.to_string();
    assert!(error.starts_with("error loading rules, previous rule set restored: 2 errors"));
    assert_eq!((shown(&h), h.clock_next()), (vec!["g/r vector(1) unknown".to_owned()], next));
    assert!(h.manager.quarantined().is_empty());
    h.advance_to(h.clock.now() + MINUTE).await;
    assert_eq!(h.rule("r").health, RuleHealth::Ok);
}
