//! `watchfire rules graph`, and the graph of many real files.

use std::path::Path;
use std::process::Output;

use watchfire::rules::config::{LoadOptions, load_file};
use watchfire::rules::graph::{EdgeKind, RuleGraph, Sees, Ticks};

use crate::support::{run_watchfire, shared};

fn graph(args: &[&str], dir: &Path, stdin: &str) -> (i32, String, String) {
    let args = [&["rules", "graph"], args].concat();
    let Output { status, stdout, stderr } = run_watchfire(&args, dir, stdin.as_bytes());
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

const ONE: &str = "
groups:
- name: one
  interval: 30s
  eval_offset: 5s
  rules:
  - {record: a, expr: x}
  - {alert: B, expr: a > 1}
  - {record: c, expr: 'count({job=\"j\"})', depends_on: [far]}
";
const TWO: &str = "
groups:
- name: two
  rules:
  - {record: far, expr: 'a + ALERTS{alertname=\"B\"} + far'}
";

#[test]
fn the_graph_is_shown_as_text_dot_and_json() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("rules")).unwrap();
    std::fs::write(dir.path().join("rules/one.yml"), ONE).unwrap();
    std::fs::write(dir.path().join("rules/two.rules"), TWO).unwrap();
    std::fs::write(dir.path().join("rules/notes.txt"), "not rules").unwrap();
    let (code, out, errors) = graph(&["rules"], dir.path(), "");
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    let expected = "rules/one.yml
  group one, every 30s at 5s: 3 rules in 3 rounds of queries at most
    1 record a
    2 alert B
        reads 1 a
    3 record c
        reads 1 a (by a selector without a name)
        reads 2 B (by a selector without a name)
        reads rules/two.rules;two;1 far, the latest (depends_on)
rules/two.rules
  group two, every 1m: 1 rules in 1 rounds of queries at most
    1 record far
        reads rules/one.yml;one;1 a, the latest
        reads rules/one.yml;one;2 B, the latest
        reads 1 far, of the tick before
";
    assert_eq!(out, expected);

    let (code, out, errors) = graph(&["--format", "json", "-"], dir.path(), ONE);
    assert_eq!(code, 0, "{errors}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["groups"][0]["rules"][2]["ready_after"], 2);
    assert_eq!(json["groups"][0]["rules"][0]["reads_from_outside"][0], "x");
    assert_eq!(json["groups"][0]["offset_seconds"], 5.0);
    assert_eq!(json["edges"][0]["sees"], "this_tick");
    assert_eq!(json["edges"][1]["by"], "indeterminate");
    let message = json["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains("depends_on \"far\" has no effect"), "{message}");

    let (code, out, errors) = graph(&["--format", "dot"], dir.path(), ONE);
    assert_eq!(code, 0);
    assert!(out.starts_with("digraph rules {") && out.ends_with("}\n"), "{out}");
    assert!(out.contains("r0 -> r1 [style=solid];"), "{out}");
    assert!(errors.starts_with("WARNING: "), "{errors}");

    // What is broken is named, what is not is shown.
    std::fs::write(dir.path().join("rules/bad.yml"), "groups: [{name: g, rules: [{}]}]").unwrap();
    let (code, out, errors) = graph(&["rules/bad.yml", "rules/two.rules"], dir.path(), "");
    assert_eq!(code, 1);
    assert!(errors.starts_with("ERROR: rules/bad.yml: "), "{errors}");
    assert!(out.contains("1 record far"), "{out}");
    let (code, _, errors) = graph(&["none.yml"], dir.path(), "");
    assert_eq!(code, 1);
    assert!(errors.contains("none.yml"), "{errors}");
}

#[test]
fn the_graph_of_the_corpus_is_whole_and_always_the_same() {
    let Some(dir) = shared("corpus/rules") else { return };
    let index = std::fs::read_to_string(dir.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let files: Vec<&str> = index["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["valid"] == true)
        .map(|f| f["file"].as_str().unwrap())
        .collect();
    let options = LoadOptions { dialects: true, ..LoadOptions::default() };
    let loaded: Vec<_> = files.iter().map(|f| load_file(&dir.join(f), &options)).collect();
    let build = |offset_ms| {
        let groups = loaded.iter().flat_map(|f| &f.groups);
        let ticks = Ticks { interval_ms: 60_000, offset_ms };
        RuleGraph::new(groups.map(|g| (g, ticks)))
    };
    let (apart, together) = (build(None), build(Some(0)));
    assert!(apart.rules.len() > 1_500, "{}", apart.rules.len());
    assert!(build(Some(0)).edges().eq(together.edges()));
    let named = |graph: &RuleGraph| graph.edges().filter(|e| e.kind == EdgeKind::Selector).count();
    assert!(named(&apart) > 500, "{}", named(&apart));
    assert_eq!(named(&apart), named(&together));
    assert!(apart.conflicts.is_empty());
    // Every order that is kept can be kept: following it there is no way back.
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); together.rules.len()];
    for group in &together.groups {
        group.rules.clone().skip(1).for_each(|rule| before[rule - 1].push(rule));
    }
    let across =
        |reader: usize, writer: usize| together.rules[reader].group != together.rules[writer].group;
    for edge in together.edges().filter(|e| across(e.reader, e.writer)) {
        match edge.sees {
            Sees::ThisTick => before[edge.writer].push(edge.reader),
            Sees::PreviousTick => {}
            Sees::Latest => assert_eq!(edge.kind, EdgeKind::Indeterminate),
        }
    }
    let mut waiting = vec![0; before.len()];
    before.iter().flatten().for_each(|rule| waiting[*rule] += 1);
    let mut ready: Vec<usize> = (0..before.len()).filter(|r| waiting[*r] == 0).collect();
    let mut done = 0;
    while let Some(rule) = ready.pop() {
        done += 1;
        for next in &before[rule] {
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    assert_eq!(done, before.len(), "a circle of waiting rules");
}
