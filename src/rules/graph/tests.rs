//! The graph of small rule files, as text.

use super::*;
use crate::parser::ParserOptions;
use crate::rules::config::{LoadOptions, load_source};

/// Loads groups; `@OFFSET` at the end of a group's name aligns it.
fn graph(source: &str) -> (RuleGraph, Vec<GroupSpec>) {
    let options =
        LoadOptions { dialects: true, parser: ParserOptions::all(), ..LoadOptions::default() };
    let loaded = load_source("f", source, &options);
    assert!(loaded.is_valid(), "{:?}", loaded.problems);
    let ticks = |spec: &GroupSpec| Ticks {
        interval_ms: spec.interval_ms.unwrap_or(60_000),
        offset_ms: spec.eval_offset_ms,
    };
    (RuleGraph::new(loaded.groups.iter().map(|s| (s, ticks(s)))), loaded.groups)
}

/// `READER <SIGN WRITER`: `=` this tick, `-` the tick before, `~` whatever is there; `?`
/// for a selector without a name, `t` for a template's, `d` for a declared one.
fn edges(graph: &RuleGraph) -> Vec<String> {
    let show = |edge: Edge| {
        let sees = match edge.sees {
            Sees::ThisTick => '=',
            Sees::PreviousTick => '-',
            Sees::Latest => '~',
        };
        let kind = match edge.kind {
            EdgeKind::Selector => "",
            EdgeKind::Template => "t",
            EdgeKind::Declared => "d",
            EdgeKind::Indeterminate => "?",
        };
        let name = |r: usize| &graph.rules[r].name;
        format!("{} <{sees}{kind} {}", name(edge.reader), name(edge.writer))
    };
    graph.edges().map(show).collect()
}

/// Rules of one group, `NAME = EXPR`, alerts with a `!` in front of the name; what they
/// read of each other, and after how many rules each may be queried.
fn check(rules: &[&str], expected: &[&str], after: &[usize]) {
    let mut source = "groups:\n- name: g\n  rules:\n".to_owned();
    for rule in rules {
        let (name, expr) = rule.split_once(" = ").unwrap();
        let (kind, name) = match name.strip_prefix('!') {
            Some(name) => ("alert", name),
            None => ("record", name),
        };
        source += &format!("  - {kind}: {name}\n    expr: '{expr}'\n");
    }
    let (graph, _) = graph(&source);
    assert_eq!(edges(&graph), expected, "{rules:?}");
    assert_eq!(graph.ready_after(0), after, "{rules:?}");
}

#[test]
fn rules_of_a_group_find_what_they_read() {
    check(&["a = x", "b = y"], &[], &[0, 0]);
    check(&["a = x", "b = a", "c = rate(b[5m]) / a"], &["b <= a", "c <= a", "c <= b"], &[0, 1, 2]);
    check(&["a = x", "c = y", "b = a"], &["b <= a"], &[0, 0, 1]);
    // Itself and later ones: the value of the tick before, so nothing to wait for.
    check(&["a = b", "b = b + x"], &["a <- b", "b <- b"], &[0, 0]);
    // Patterns and negations.
    check(
        &["a:one = x", "a:two = x", r#"c = {__name__=~"a:.+",__name__!="a:one"}"#],
        &["c <= a:two"],
        &[0, 0, 2],
    );
    // Labels tell rules of one name apart.
    check(
        &[r#"a = x{job="1"}"#, r#"a = sum by (job) (x{job="2"})"#, r#"b = a{job="2"}"#],
        &["b <= a"],
        &[0, 0, 2],
    );
    // Without a name: everything that may have the label.
    check(
        &["a = sum by (job) (x)", "b = sum(x)", r#"c = count({job="1"})"#],
        &["c <=? a"],
        &[0, 0, 1],
    );
    check(&["target_info = x", "b = info(y)"], &["b <= target_info"], &[0, 1]);
}

#[test]
fn alerts_are_read_by_their_names_and_states() {
    check(
        &[
            "!Up = x",
            "!Down = y",
            r#"a = ALERTS{alertname="Down"}"#,
            "b = ALERTS_FOR_STATE",
            "c = ALERTS{alertstate!~\"firing|pending\"}",
        ],
        &["a <= Down", "b <= Up", "b <= Down"],
        &[0, 0, 2, 2, 0],
    );
    check(
        &["!Up = x", r#"!Root = ALERTS{alertname!="Root"} == 1"#, "c = Up"],
        &["Root <= Up"],
        &[0, 1, 0],
    );
}

#[test]
fn templates_and_declarations_are_dependencies_too() {
    let (graph, specs) = graph(
        r#"
groups:
- name: g
  rules:
  - {record: a, expr: x}
  - alert: A
    expr: y > 0
    annotations: {text: '{{ query "a" | first | value }}'}
  - {record: b, expr: z, depends_on: [A, c, none]}
  - {record: c, expr: z}
- name: h
  depends_on: [b, nobody]
  rules:
  - {record: d, expr: z}
"#,
    );
    assert_eq!(edges(&graph), ["A <=t a", "b <=d A", "d <~d b"]);
    assert_eq!(graph.ready_after(0), [0, 0, 2, 0], "templates are expanded in turn anyway");
    let specs: Vec<&GroupSpec> = specs.iter().collect();
    let told: Vec<String> = graph.problems(&specs).iter().map(|p| p.message.clone()).collect();
    assert_eq!(
        told,
        [
            r#"9:5: group "g", rule 3, "b": depends_on "c" has no effect: that rule stands later in the same group, so the value of the tick before is seen; move it up"#,
            r#"9:5: group "g", rule 3, "b": depends_on "none" has no effect: there is no rule of that name"#,
            r#"14:5: group "h", rule 1, "d": depends_on "nobody" has no effect: there is no rule of that name"#,
        ]
    );
    assert_eq!(graph.rules[0].outside, ["x"]);
}

#[test]
fn groups_that_tick_together_are_ordered() {
    let source = |own: &str| {
        format!(
            "
groups:
- {{name: late, interval: 1m, {own}, rules: [{{record: a, expr: b + c}}]}}
- {{name: early, interval: 5m, eval_offset: 0s, rules: [{{record: b, expr: x}}]}}
- {{name: apart, interval: 1m, eval_offset: 1s, rules: [{{record: c, expr: 'a + {{job=\"q\"}}'}}]}}
"
        )
    };
    let (together, _) = graph(&source("eval_offset: 0s"));
    assert_eq!(edges(&together), ["a <= b", "a <~ c", "c <~ a", "c <~? b", "c <-? c"]);
    assert_eq!(together.waits(0), [1]);
    assert_eq!(together.waits(1).len() + together.waits(2).len(), 0);
    assert!(together.conflicts.is_empty());
    assert_eq!(together.cycles, [Cycle { rules: vec![0, 2], within_group: false }]);
    let (apart, _) = graph(&source("limit: 0"));
    assert_eq!(apart.waits(0).len(), 0);
}

#[test]
fn circles_are_told_with_their_path_and_broken_the_same_way_always() {
    // `a` waits for `d`, which is written after `c`, which waits for `b`, which is written
    // after `a`: no circle of data, but one of waiting.
    let source = "
groups:
- {name: g, eval_offset: 0s, rules: [{record: a, expr: d}, {record: b, expr: x}]}
- {name: h, eval_offset: 0s, rules: [{record: c, expr: b}, {record: d, expr: x}]}
- {name: i, rules: [{record: p, expr: q}, {record: q, expr: p}]}
";
    let (graph, specs) = graph(source);
    assert_eq!(edges(&graph), ["a <= d", "c <- b", "p <- q", "q <= p"]);
    assert_eq!(graph.waits(0), [3]);
    assert_eq!(graph.waits(2).len(), 0);
    let specs: Vec<&GroupSpec> = specs.iter().collect();
    let told: Vec<_> =
        graph.problems(&specs).into_iter().map(|p| (p.severity, p.message)).collect();
    assert_eq!(
        told,
        [
            (
                Severity::Warning,
                r#"4:38: group "h", rule 1, "c": it reads what f;g;2 b writes in the same tick, which has to wait for it: f;h;1 c -> f;h;2 d -> f;g;1 a -> f;g;2 b; it reads the value of the tick before"#.to_owned()
            ),
            (
                Severity::Note,
                r#"5:21: group "i", rule 1, "p": rules read each other in a circle: f;i;1 p -> f;i;2 q -> f;i;1 p"#.to_owned()
            ),
        ]
    );
}

#[test]
fn the_way_around_a_circle_is_a_shortest_one_and_crowds_are_no_rules() {
    let circle = |rules: &[(&str, &str)], expected: &[&[usize]]| {
        let rule =
            |(name, expr): &(&str, &str)| format!("  - {{record: {name}, expr: '{expr}'}}\n");
        let rules = rules.iter().map(rule).collect::<String>();
        let (graph, _) = graph(&format!("groups:\n- name: g\n  rules:\n{rules}"));
        let found: Vec<_> = graph.cycles.iter().map(|c| c.rules.clone()).collect();
        assert_eq!(found, expected, "{rules}");
    };
    circle(&[("a", "a + x")], &[]);
    circle(&[("a", "b"), ("b", "c + d"), ("c", "d"), ("d", "a")], &[&[0, 1, 3]]);
    // Two rules of one name: each reads itself, and the other.
    circle(&[("a", "a + x"), ("a", "a + y")], &[&[0, 1]]);
    circle(&[("a", "a + x"), ("a", "y")], &[]);
    circle(&[("a", "b"), ("a", "x"), ("b", "a"), ("b", "y"), ("c", "b + c")], &[&[0, 2]]);
}

#[test]
fn ticks_meet_when_their_grids_have_a_common_point() {
    let ticks = |interval_ms, offset_ms| Ticks { interval_ms, offset_ms: Some(offset_ms) };
    let check = |a: Ticks, b: Ticks, expected| {
        assert_eq!((a.meet(b), b.meet(a)), (expected, expected), "{a:?} {b:?}");
    };
    check(ticks(60, 0), ticks(60, 0), true);
    check(ticks(60, 0), ticks(60, 1), false);
    check(ticks(60, 0), ticks(300, 120), true);
    check(ticks(60, 10), ticks(90, 40), true);
    check(ticks(60, 10), ticks(90, 41), false);
    check(ticks(60, 0), Ticks { interval_ms: 60, offset_ms: None }, false);
    assert!(ticks(60, 10).include(-50) && !ticks(60, 10).include(60));
}

/// Each group has services one after the other, and each service's last rule reads a metric
/// that every service records, told apart by a label nothing is known of: each group seems to
/// wait for all others.
#[test]
fn hundreds_of_groups_that_seem_to_read_each_other_are_ordered_at_once() {
    let (groups, services) = (100, 6);
    let mut source = "groups:\n".to_owned();
    for group in 0..groups {
        source += &format!("- name: g{group}\n  eval_offset: 0s\n  rules:\n");
        for service in 0..services {
            let service = group * services + service;
            source += &format!(
                "  - {{record: r, expr: 'sum by (service) (x{{job=\"{service}\"}})'}}\n  -                  {{record: a, expr: 'r{{service=\"{service}\"}} > 1'}}\n"
            );
        }
    }
    let (graph, specs) = graph(&source);
    let per_group = 2 * services;
    // A reader of the first group comes before all others, so each of these gives it what it
    // has before it waits itself.
    assert_eq!(graph.waits(1).len(), groups - 1);
    let own = graph.edges_of(1).iter().filter(|e| e.sees == Sees::ThisTick).count();
    assert_eq!(own, 1 + (groups - 1) * services);
    // Nothing follows the last rule of a group, so it may wait for everything; the first
    // reader of the second group for what comes before the one that waits for its own group.
    assert_eq!(graph.waits(groups * per_group - 1).len(), groups - 1);
    assert_eq!(graph.waits(per_group + 1)[0], 0);
    assert_eq!(graph.conflicts.len(), CONFLICTS_MAX);
    let specs: Vec<&GroupSpec> = specs.iter().collect();
    let told = graph.problems(&specs);
    assert_eq!(told.len(), CONFLICTS_MAX + 1);
    assert!(told[CONFLICTS_MAX].message.contains("more rules read what has to wait for them"));
    // Nobody waits for who waits for it.
    let waits: Vec<Vec<usize>> = (0..graph.rules.len()).map(|rule| graph.waits(rule)).collect();
    let next = |rule: usize| {
        let before = (!rule.is_multiple_of(per_group)).then(|| rule - 1);
        waits[rule].iter().copied().chain(before).collect::<Vec<_>>()
    };
    let next: Vec<Vec<usize>> = (0..graph.rules.len()).map(next).collect();
    assert!(cycles::components(&next).is_empty());
}
