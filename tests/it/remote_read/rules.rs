//! A thousand rules over every system: what they make of the same samples is the same.

use std::fmt::Write;
use std::sync::Arc;

use watchfire::query::{Bundle, Engine, EngineOptions, RunOptions};
use watchfire::rules::config::{LoadOptions, load_source};
use watchfire::storage::Source;
use watchfire::storage::remote::{DatasourceKind, Evaluation};

use super::*;

const RULES: usize = 1000;

/// A file of rules as people write them: each pattern with jobs, instances and limits.
fn rule_file() -> String {
    let jobs = ["api", "web", "db"];
    let mut file = "groups:\n- name: g\n  interval: 1m\n  rules:\n".to_owned();
    for n in 0..RULES {
        let (job, k) = (jobs[n % 3], n / 30);
        let expr = match n % 10 {
            0 => format!("up{{job=\"{job}\"}} == {}", k % 2),
            1 => format!(
                "sum by (instance) (rate(requests_total{{job=\"{job}\"}}[{}m])) > {}",
                2 + k % 9,
                k % 7
            ),
            2 => format!(
                "sum(rate(requests_total{{job=\"{job}\",code=~\"5..\"}}[{}m])) / sum(rate(requests_total{{job=\"{job}\"}}[{}m])) > 0.{}",
                3 + k % 5,
                3 + k % 5,
                k
            ),
            3 => format!(
                "histogram_quantile(0.{}, sum by (le) (rate(latency_seconds_bucket{{job=\"{job}\"}}[{}m])))",
                50 + k,
                5 + k % 10
            ),
            4 => format!(
                "max_over_time(level{{job=\"{job}\"}}[{}m]) - min_over_time(level{{job=\"{job}\"}}[{}m])",
                5 + k,
                5 + k
            ),
            5 => format!(
                "absent(sometimes{{job=\"{job}\",instance=\"x{k}:1\"}}) or sometimes{{job=\"{job}\"}} > {k}"
            ),
            6 => {
                format!("level{{job=\"{job}\"}} * on (job) group_left (team) job_info offset {k}m")
            }
            7 => format!("predict_linear(level{{job=\"{job}\"}}[{}m], 3600) < {}", 10 + k, k * 10),
            8 => format!(
                "count by (job) (sometimes offset {k}m) < {} unless on (job) limit{{job=\"{job}\"}} > {}",
                1 + k % 3,
                k * 5
            ),
            _ => format!("increase(errors_total{{job=\"{job}\"}}[{}m]) > bool {k}", 3 + k),
        };
        let _ = write!(file, "  - record: r:{n}\n    expr: {expr}\n");
    }
    file
}

/// The results of all rules at several ticks, in order; an error as its absence.
async fn evaluate(
    engine: &Arc<Engine>,
    source: &Arc<dyn Source>,
    rules: &[String],
) -> Vec<Option<Value>> {
    let queries = rules.iter().map(|r| Arc::new(engine.prepare(r).unwrap())).collect();
    let bundle = Bundle::new(engine, queries);
    let mut results = Vec::new();
    for minute in [0, 20] {
        let at_ms = data::END_MS - 29 * 60_000 - 500 + minute * 60_000;
        let answers = bundle.instant(source, at_ms, &RunOptions::default()).await;
        results.extend(answers.into_iter().map(comparable));
    }
    results
}

pub fn rules() -> Vec<String> {
    let loaded = load_source("rules.yml", &rule_file(), &LoadOptions::default());
    let errors: Vec<String> = loaded.errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let rules: Vec<String> =
        loaded.groups[0].rules.iter().map(|rule| rule.expr.printed.clone()).collect();
    assert_eq!(rules.len(), RULES);
    rules
}

/// Compares a system with our own store.
async fn check(
    base: &str,
    kind: DatasourceKind,
    evaluation: Evaluation,
    rules: &[String],
    wanted: &[Option<Value>],
) {
    let remote = open(base, kind, evaluation).await;
    let got = evaluate(&pushing(&remote), &remote, rules).await;
    let different: Vec<String> = wanted
        .iter()
        .zip(&got)
        .enumerate()
        .filter(|(_, (wanted, got))| !same(wanted, got))
        .map(|(i, (wanted, got))| {
            format!("tick {} {}\n  {wanted:?}\n  {got:?}", i / RULES, rules[i % RULES])
        })
        .collect();
    let shown = different.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(different.is_empty(), "{kind:?} {evaluation:?}: {} differ:\n{shown}", different.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rules_come_to_the_same_over_every_system() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_prometheus, prometheus)) = start_prometheus(dir.path(), "global: {}\n") else {
        return;
    };
    let Some((_vm, vm)) = start_victoria_metrics(dir.path()) else { return };
    // No value that is no number: one of the two does not keep it.
    let sent = without_nan(data::request(SEED));
    for base in [&prometheus, &vm] {
        send(base, &sent).await;
    }
    flush(&vm).await;
    let rules = rules();
    let wanted = evaluate(&Engine::new(EngineOptions::default()), &local(&sent), &rules).await;
    let full = wanted.iter().flatten().filter(|v| v["data"]["result"] != serde_json::json!([]));
    assert!(full.count() > RULES, "most rules make something");
    for evaluation in [Evaluation::Here, Evaluation::PushDown] {
        for kind in [DatasourceKind::RemoteRead, DatasourceKind::Prometheus] {
            check(&prometheus, kind, evaluation, &rules, &wanted).await;
        }
        check(&vm, DatasourceKind::VictoriaMetrics, evaluation, &rules, &wanted).await;
    }
}
