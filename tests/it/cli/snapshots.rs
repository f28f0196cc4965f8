//! What a person sees of every check: its examples, rendered, as they are kept in
//! `snapshots.txt`. A check without a snapshot fails the test.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::path::Path;

use watchfire::diagnostics::{Look, Report, render};
use watchfire::lint::online::{Cost, Matched, Observed, Seen, questions};
use watchfire::lint::registry::CHECKS;
use watchfire::lint::{Input, Options, Settings, lint_with};

use super::{kept_up_to_date, outcome};

/// Rules about which a server has something to say.
const ASKED: &str = "\
groups:
- name: example
  rules:
  - record: region:up:sum
    expr: sum(up)
    labels: {region: us, zone: a}
  - alert: Down
    expr: up{job=\"ap\"} == 0
    labels: {instance: all}
    annotations:
      summary: '{{ $externalLabels.cluser }}'
      runbook: https://runbooks.example.com/down
  - record: months
    expr: rate(requests_total[60d])
  - record: far
    expr: up offset 60d
  - record: newer
    expr: first_of(up)
  - record: raw
    expr: requests_total + on (pod) up
  - record: wide
    expr: sum by (job) (rate(requests_total[5m]))
  - alert: Wide
    expr: sum by (job) (rate(requests_total[5m])) > 1
";

/// What a server might answer to everything that is asked about [`ASKED`].
fn observed(options: &Options) -> Observed {
    let input = Input { name: "rules.yml".to_owned(), text: Ok(asked()) };
    let questions = questions(&[input], options);
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    };
    let mut observed = Observed {
        types: HashMap::from([("requests".to_owned(), "counter".to_owned())]),
        names: vec!["up".to_owned(), "requests_total".to_owned()],
        bytes_per_series: Some(4096.0),
        retention_ms: Some(15 * 86_400_000),
        version: Some("3.5.0".to_owned()),
        external_labels: Some(labels(&[("region", "eu"), ("zone", "a"), ("cluster", "x")])),
        target_labels: BTreeSet::from(["instance".to_owned(), "job".to_owned()]),
        gaps: vec![("its rules".to_owned(), "not_found: no such page".to_owned())],
        range_ms: 86_400_000,
        step_ms: 60_000,
        ..Observed::default()
    };
    for key in questions.selectors.keys() {
        let seen = if key.contains("ap\"") {
            Seen::NoMatch(vec!["job=\"ap\"".to_owned()])
        } else {
            Seen::Now
        };
        observed.series.insert(key.clone(), seen);
    }
    for expr in questions.alerts {
        observed.alerts.insert(expr, vec![vec![0, 60_000, 600_000]]);
    }
    for expr in questions.costs {
        let cost =
            Cost { series: 12, samples: Some(340), peak_samples: Some(40), seconds: Some(0.002) };
        observed.costs.insert(expr, cost);
    }
    for expr in questions.syntax {
        let refused = expr.contains("60d").then(|| "1:1: parse error: no such thing".to_owned());
        observed.syntax.insert(expr, refused);
    }
    for (key, sides) in questions.matchings {
        observed.failed.insert(sides.both, "timed out after 1m".to_owned());
        let (left, right) = (labels(&[("job", "a"), ("pod", "x")]), labels(&[("job", "a")]));
        observed.matchings.insert(key, Matched::Never { left, right });
    }
    for url in questions.links.into_keys() {
        observed.links.insert(url, Ok(404));
    }
    observed
}

/// The rules as a parser without features takes them.
fn asked() -> String {
    ASKED.replace("first_of(up)", "last_over_time(up[60d])")
}

fn one_check(id: &str, text: &str, settings: &str, online: bool) -> String {
    let mut settings = Settings::from_yaml(settings).expect(settings);
    settings.choose(["all"]).expect("all checks");
    let options = Options { settings, ..Options::default() };
    let answers = online.then(|| observed(&options));
    let input = Input { name: "rules.yml".to_owned(), text: Ok(text.to_owned()) };
    let mut report: Report = lint_with(vec![input], &options, answers);
    report.diagnostics.retain(|d| d.id == id);
    let look = Look { colour: false, width: 100 };
    let mut out = String::new();
    for diagnostic in &report.diagnostics {
        let _ = writeln!(
            out,
            "{}\n",
            render(diagnostic, &report.sources[diagnostic.source], look).trim_end()
        );
    }
    out
}

fn example(rules: &str) -> String {
    if rules.starts_with("groups:") || rules.starts_with("# pint ignore/file") {
        return rules.to_owned();
    }
    let lines: Vec<String> = rules.lines().map(|line| format!("  {line}\n")).collect();
    format!("groups:\n- name: example\n  rules:\n{}", lines.concat())
}

#[test]
fn every_check_is_shown_as_it_was() {
    let mut all = String::new();
    for check in CHECKS {
        let mut shown = String::new();
        if !check.bad.is_empty() {
            shown += &one_check(check.id, &example(check.bad), check.settings, false);
        }
        // What a server adds, also to checks that do without.
        if !check.needs.is_empty() || check.id == "promql/vector_matching" {
            let settings = match check.id {
                "query/cost" => "cost: {max_series: 10, comment: ask the platform team}",
                "rule/link" => "rules:\n- link:\n  - {url: 'https://runbooks.+'}\n",
                _ => "",
            };
            shown += &one_check(check.id, &asked(), settings, true);
        }
        assert!(!shown.is_empty(), "{}: there is no snapshot of it", check.id);
        let _ = writeln!(all, "##### {}\n\n{}", check.id, shown);
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cli/snapshots.txt");
    kept_up_to_date(&page, all.trim_end(), "cli::snapshots");
}

#[test]
fn every_check_is_listed_and_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (_, list) = outcome(&["rules", "lint", "--list"], root);
    for check in CHECKS {
        assert!(list.contains(check.id), "{} is not listed", check.id);
        let (code, text) = outcome(&["rules", "lint", "--explain", check.id], root);
        assert!(code == Some(0) && text.contains(check.doc), "{}: {text}", check.id);
    }
}
