//! Recordings of made-up samples, without a server: what is fetched, what is kept, and what
//! cannot be carried over.

use watchfire::model::Labels;
use watchfire::parser::parse_metric;
use watchfire::rules::config::{GroupSpec, LoadOptions, load_source};
use watchfire::rules::unit_test::record::{
    Effort, Fetched, Plan, RecordError, Recording, Surroundings, Wanted, plan,
};

const MINUTE: i64 = 60_000;

fn groups(rules: &str) -> Vec<GroupSpec> {
    let loaded = load_source("rules.yml", rules, &LoadOptions::default());
    assert!(loaded.errors().next().is_none(), "{rules}: {:?}", loaded.errors().next());
    loaded.groups
}

/// From minute 100 to 130.
fn wanted(alert: &str) -> Wanted {
    Wanted {
        alert: alert.to_owned(),
        from_ms: 100 * MINUTE,
        to_ms: 130 * MINUTE,
        default_interval_ms: MINUTE,
        before_ms: None,
    }
}

/// A series with a sample every so many seconds from minute 60 on, where `value` of the
/// minute gives one; shown for five minutes after each.
fn series(plan: &Plan, text: &str, every_s: i64, value: impl Fn(f64) -> Option<f64>) -> Fetched {
    let times = (60 * MINUTE..=130 * MINUTE).step_by((every_s * 1000) as usize);
    let samples: Vec<(i64, f64)> =
        times.filter_map(|at| Some((at, value(at as f64 / MINUTE as f64)?))).collect();
    let visible = (0..plan.ticks()).map(|tick| {
        let at = plan.start_ms + tick as i64 * plan.interval_ms;
        samples.iter().any(|(ts, _)| *ts <= at && at - ts < 5 * MINUTE)
    });
    let visible = visible.collect();
    Fetched { labels: parse_metric(text).expect(text), samples, visible, histograms: 0 }
}

fn record(plan: &Plan, fetched: &[Fetched]) -> Result<Recording, RecordError> {
    let surroundings = Surroundings {
        external_labels: Labels::from_pairs([("region", "eu")]),
        external_url: "http://prometheus".to_owned(),
        rule_files: vec!["rules.yml".to_owned()],
        head: vec!["head".to_owned()],
    };
    let effort = Effort { runs_max: 500, ran: &|| {} };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(plan.record(fetched, &surroundings, &effort))
}

#[test]
fn what_is_fetched_is_what_the_alert_reads() {
    let check = |rules: &str, selectors: &[&str], minutes_before: i64| {
        let text = format!("groups: [{{name: g, rules: [{rules}]}}]");
        let plan = plan(&groups(&text), &wanted("A")).expect(rules);
        let before = (plan.from_ms - plan.start_ms) / MINUTE;
        assert_eq!(
            (plan.selectors, before),
            (selectors.iter().map(|s| (*s).to_owned()).collect(), minutes_before),
            "{rules}"
        );
    };
    // The lookback alone.
    check("{alert: A, expr: x > 1}", &["{__name__=\"x\"}"], 5);
    check("{alert: A, expr: 'x > 1', for: 10m, keep_firing_for: 3m}", &["{__name__=\"x\"}"], 18);
    check(
        "{alert: A, expr: 'rate(x{a=\"b\"}[10m] offset 1h) > 1'}",
        &["{a=\"b\",__name__=\"x\"}"],
        75,
    );
    check("{alert: A, expr: 'max_over_time(rate(x[5m])[1h:1m]) > 1'}", &["{__name__=\"x\"}"], 70);
    // Through what is recorded, and into what is not.
    check(
        "{record: r, expr: 'sum(rate(x[5m]))'}, {record: s, expr: 'r + y'}, {alert: A, expr: 's > z'}",
        &["{__name__=\"x\"}", "{__name__=\"y\"}", "{__name__=\"z\"}"],
        12,
    );
    check("{alert: A, expr: 'r > 1'}", &["{__name__=\"r\"}"], 5);
    // The queries of templates.
    check(
        "{alert: A, expr: 'x > 1', annotations: {a: '{{ query \"rate(q[20m])\" | first | value }}'}}",
        &["{__name__=\"q\"}", "{__name__=\"x\"}"],
        25,
    );
    check("{alert: A, expr: 'vector(1) > 0'}", &[], 5);
    check("{alert: A, expr: 'x > x offset 1w'}", &["{__name__=\"x\"}"], 7 * 24 * 60 + 5);
    let refused = |expr: &str, alert: &str, expected: &str| {
        let text = format!("groups: [{{name: g, rules: [{{alert: A, expr: '{expr}'}}]}}]");
        let error = plan(&groups(&text), &wanted(alert)).expect_err(expr).to_string();
        assert!(error.contains(expected), "{expr}: {error}");
    };
    refused("x", "B", "no rule is an alert called \"B\"");
    refused("x > x offset 60d", "A", "choose a shorter one");
}

const RATIO: &str = "
groups:
- name: alerts
  rules:
  - alert: A
    expr: sum by (job) (free) < 10
    for: 1m
    annotations: {text: '{{ $value }} in {{ $externalLabels.region }}'}
";

#[test]
fn only_series_that_matter_are_kept() {
    let groups = groups(RATIO);
    let plan = plan(&groups, &wanted("A")).expect("a plan");
    let low = |minute: f64| Some(if (110.0..115.0).contains(&minute) { 4.0 } else { 40.0 });
    let fetched = [
        series(&plan, "free{job=\"a\",i=\"1\"}", 15, low),
        series(&plan, "free{job=\"a\",i=\"2\"}", 15, |_| Some(1.0)),
        series(&plan, "free{job=\"b\",i=\"1\"}", 15, |_| Some(30.0)),
        series(&plan, "free{job=\"b\",i=\"2\"}", 15, |m| Some(m * 2.0)),
    ];
    let made = record(&plan, &fetched).expect("a recording");
    assert_eq!(made.series, (4, 2), "{}", made.text);
    let expected = "\
# head
rule_files:
- rules.yml
evaluation_interval: 1m
tests:
- name: A
  interval: 1m
  external_labels:
    region: eu
  external_url: http://prometheus
  input_series:
  - series: 'free{i=\"1\", job=\"a\"}'
    values: '40x15 4x4 40x15'
  - series: 'free{i=\"2\", job=\"a\"}'
    values: '1x36'
  alert_rule_test:
  - eval_time: 6m
    alertname: A
    exp_alerts: []
  - eval_time: 16m
    alertname: A
    exp_alerts: []
  - eval_time: 17m
    alertname: A
    exp_alerts:
    -
      exp_labels:
        job: a
      exp_annotations:
        text: '5 in eu'
  - eval_time: 20m
    alertname: A
    exp_alerts:
    -
      exp_labels:
        job: a
      exp_annotations:
        text: '5 in eu'
  - eval_time: 21m
    alertname: A
    exp_alerts: []
  - eval_time: 36m
    alertname: A
    exp_alerts: []
";
    assert_eq!(made.text, expected);
    assert_eq!(made.notes.len(), 1, "{:?}", made.notes);
    assert!(
        made.notes[0].contains("samples lie closer to the next one than 1m"),
        "{:?}",
        made.notes
    );
    // Nothing happens: nothing can be told not to matter.
    let quiet = [series(&plan, "free{job=\"b\",i=\"1\"}", 60, |_| Some(30.0))];
    let made = record(&plan, &quiet).expect("a recording");
    assert_eq!(made.series, (1, 1));
    assert!(
        made.notes.iter().any(|n| n.contains("neither pending nor firing")),
        "{:?}",
        made.notes
    );
    // A time of which the server has nothing.
    let empty = record(&plan, &[]).expect("a recording");
    assert_eq!(empty.series, (0, 0));
    assert!(empty.notes.iter().any(|n| n.contains("no samples of what")), "{:?}", empty.notes);
}

#[test]
fn a_finer_grid_is_taken_where_it_matters() {
    let rules = "groups: [{name: g, rules: [{alert: A, expr: 'count_over_time(x[5m]) >= 20'}]}]";
    let groups = groups(rules);
    let plan = plan(&groups, &wanted("A")).expect("a plan");
    let made = record(&plan, &[series(&plan, "x", 15, |_| Some(1.0))]).expect("a recording");
    assert!(made.text.contains("  interval: 15s\n"), "{}", made.text);
    // Every 7 seconds there is no grid for.
    let rules = rules.replace(">= 20", ">= 42");
    let groups = self::groups(&rules);
    let plan = watchfire::rules::unit_test::record::plan(&groups, &wanted("A")).expect("a plan");
    let made = record(&plan, &[series(&plan, "x", 7, |_| Some(1.0))]).expect("a recording");
    let told = made.notes.iter().any(|n| n.contains("does not fire at the same evaluations"));
    assert!(told || made.text.contains("  interval: 5s\n"), "{}: {:?}", made.text, made.notes);
}

#[test]
fn what_cannot_be_carried_over_is_said() {
    let note = |rules: &str, change: &dyn Fn(&mut Fetched), expected: &str| {
        let text = format!("groups: [{{name: g, rules: [{rules}]}}]");
        let plan = plan(&groups(&text), &wanted("A")).expect(rules);
        let mut fetched = series(&plan, "x", 60, Some);
        change(&mut fetched);
        let made = record(&plan, &[fetched]).expect("a recording");
        assert!(made.notes.iter().any(|n| n.contains(expected)), "{rules}: {:?}", made.notes);
        made.text
    };
    note(
        "{alert: A, expr: 'x > 110'}",
        &|f| f.histograms = 3,
        "{__name__=\"x\"} has 3 native histograms",
    );
    note("{alert: A, expr: 'x offset -5m > 110'}", &|_| {}, "is read 5m after the evaluation");
    let recorded = "{record: x, expr: vector(1)}, {alert: A, expr: '{__name__=~\"x|y\"} > 0'}";
    note(recorded, &|_| {}, "1 series that the rules record are made anew");
    // The time of day is the test's own only where it is asked for.
    let timed = "groups: [{name: g, rules: [{alert: A, expr: 'time() - x * 60 > 300'}]}]";
    let groups = groups(timed);
    let plan = plan(&groups, &wanted("A")).expect("a plan");
    let stuck = series(&plan, "x", 60, |minute| Some(minute.min(105.0)));
    let made = record(&plan, &[stuck]).expect("a recording");
    assert!(made.text.contains("  start_timestamp: 5700\n"), "{}", made.text);
    assert_eq!(made.fired.values().map(Vec::len).sum::<usize>(), 20, "{}", made.text);
}

#[test]
fn a_series_that_ends_gets_its_marker() {
    let rules = "groups: [{name: g, rules: [{alert: A, expr: absent(x)}]}]";
    let groups = groups(rules);
    let plan = plan(&groups, &wanted("A")).expect("a plan");
    let mut gone = series(&plan, "x", 60, |m| (m <= 110.0).then_some(1.0));
    // A marker at minute 111: shown no longer, though the lookback would reach.
    for (tick, shown) in gone.visible.iter_mut().enumerate() {
        *shown = plan.start_ms + tick as i64 * MINUTE <= 110 * MINUTE;
    }
    let made = record(&plan, &[gone]).expect("a recording");
    assert!(made.text.contains("values: '1x15 stale'"), "{}", made.text);
    assert_eq!(made.fired.values().next().map(Vec::len), Some(20), "{}", made.text);
}
