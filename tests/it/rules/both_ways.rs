//! Real rule files over generated data, evaluated one by one and together: not a sample,
//! alert, error or state may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfire::model::{FloatHistogram, Labels, MatchOp, Matcher, Sample};
use watchfire::rules::EvaluationOptions;
use watchfire::rules::config::{LoadOptions, LoadedFile, load_file};
use watchfire::rules::view::RulesView;
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::{SelectHints, SelectRequest, Sink, Source};
use watchfire::vector::RawSamples;

use super::harness::{Harness, SECOND};
use crate::support::shared;

const START: i64 = 1_700_000_000 * SECOND;

/// Texts that label values are tried out of where a pattern must match.
const VALUES: &[&str] = &[
    "a",
    "1",
    "200",
    "404",
    "500",
    "GET",
    "POST",
    "true",
    "node1",
    "/",
    "/data",
    "eth0",
    "sda",
    "default",
    "kube-system",
    "prod",
    "web-0",
    "x_y",
];

/// A value that satisfies a matcher, different ones for different variants where possible.
fn value_for(matcher: &Matcher, variant: usize) -> Option<String> {
    match matcher.op {
        MatchOp::Equal => Some(matcher.value.to_string()),
        MatchOp::Regex => {
            if let Some(all) = matcher.regex().and_then(|re| re.set_matches()) {
                return all.get(variant % all.len().max(1)).cloned();
            }
            let prefix = matcher.regex().and_then(|re| re.prefix()).unwrap_or_default();
            let all = VALUES.iter().map(|v| format!("{prefix}{v}"));
            let fitting: Vec<String> = all.filter(|v| matcher.matches(v)).collect();
            fitting.get(variant % fitting.len().max(1)).cloned()
        }
        MatchOp::NotEqual | MatchOp::NotRegex => {
            VALUES.iter().find(|v| matcher.matches(v)).map(|v| (*v).to_owned())
        }
    }
}

/// Series that a selector finds, and some it does not.
fn series_for(matchers: &[Matcher], found: &mut BTreeSet<Labels>) {
    for variant in 0..3 {
        let mut builder = Labels::from_pairs([
            ("__name__", "anything".to_owned()),
            ("job", "job".to_owned()),
            ("instance", format!("i{variant}")),
            ("cluster", "c".to_owned()),
        ])
        .builder();
        for matcher in matchers {
            // The last one lacks what is only demanded in passing.
            let optional = variant == 2 && &*matcher.name != "__name__";
            if let Some(value) = value_for(matcher, variant).filter(|_| !optional) {
                builder.set(&matcher.name, &value);
            }
        }
        let labels = builder.build();
        if labels.metric_name().ends_with("_bucket") {
            for le in ["0.1", "1", "10", "+Inf"] {
                let mut builder = labels.builder();
                builder.set("le", le);
                found.insert(builder.build());
            }
        } else {
            found.insert(labels);
        }
    }
}

/// What the rules of a file read and none of them writes.
fn input(file: &LoadedFile) -> Vec<Labels> {
    let rules: Vec<_> = file.groups.iter().flat_map(|g| &g.rules).collect();
    let own: BTreeSet<&str> =
        rules.iter().map(|r| r.name()).chain(["ALERTS", "ALERTS_FOR_STATE"]).collect();
    let mut found = BTreeSet::new();
    for rule in &rules {
        for matchers in rule.expr.expr.selectors() {
            series_for(matchers, &mut found);
        }
    }
    found.into_iter().filter(|labels| !own.contains(labels.metric_name())).collect()
}

fn sample(labels: &Labels, number: usize, step: usize) -> Sample {
    let name = labels.metric_name();
    let counts = ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
    if number % 23 == 22 {
        let (count, sum) = (step as f64 + 1.0, number as f64);
        return Sample::Histogram(Arc::new(FloatHistogram { count, sum, ..Default::default() }));
    }
    Sample::Float(if counts {
        (step * (number % 7 + 1) * 13) as f64
    } else {
        [0.0, 1.0, 97.5, 3.0e9, f64::NAN][(number + step / 3) % 5]
    })
}

fn feed(storage: &MemoryStorage, series: &[Labels], at: i64, step: usize) {
    let mut appender = Sink::appender(storage);
    for (number, labels) in series.iter().enumerate() {
        // Now and then a series has gaps, or ends.
        if (number + step).is_multiple_of(11) || number % 13 == 12 && step > 16 {
            continue;
        }
        let appended = match sample(labels, number, step) {
            Sample::Float(v) => appender.append(None, labels, at, v),
            Sample::Histogram(h) => appender.append_histogram(None, labels, at, &h),
        };
        appended.unwrap();
    }
    appender.commit().unwrap();
}

/// Everything that came of a file's rules.
async fn outcome(path: &Path, evaluation: EvaluationOptions) -> BTreeMap<String, Vec<String>> {
    let source = std::fs::read_to_string(path).unwrap();
    let loaded = load_file(path, &LoadOptions { dialects: true, ..LoadOptions::default() });
    let series = input(&loaded);
    let storage = Arc::new(MemoryStorage::new());
    for step in 0..12 {
        feed(&storage, &series, START - (12 - step) * 30 * SECOND, step as usize);
    }
    let mut h = Harness::with_evaluation(storage.clone(), START, evaluation);
    h.load("groups: []").await.unwrap();
    h.load(&source).await.unwrap();
    let mut sent = Vec::new();
    for step in 0..3 * loaded.groups.len() {
        feed(&storage, &series, h.clock_next() - 1, 12 + step);
        h.tick().await;
        sent.extend(h.sent().iter().map(|alert| format!("{alert:?}")));
    }
    let rules = h.manager.groups().into_iter().flat_map(|g| g.rules).map(|rule| {
        let alerts = rule.alerting.map(|a| (a.state, a.alerts));
        format!("{} {:?} {} {alerts:?}", rule.name, rule.health, rule.last_error)
    });
    let rules = rules.collect();
    h.manager.shutdown().await;
    let request = SelectRequest {
        matchers: Vec::new(),
        from_ms: START,
        to_ms: i64::MAX,
        hints: SelectHints::default(),
    };
    let mut stored = Vec::new();
    for series in Source::select(&*storage, &request).await.unwrap().series {
        let mut raw = RawSamples::default();
        series.read_into(request.from_ms, request.to_ms, &mut raw).unwrap();
        let floats: Vec<_> = raw.ts.iter().zip(raw.vs.iter().map(|v| v.to_bits())).collect();
        stored.push(format!("{} {floats:x?} {:?}", series.labels(), raw.hist));
    }
    [("sent", sent), ("rules", rules), ("stored", stored)].map(|(k, v)| (k.to_owned(), v)).into()
}

fn files() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut files: Vec<PathBuf> = std::fs::read_dir(own)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yml"))
        .collect();
    if let Some(dir) = shared("corpus/rules") {
        let index = std::fs::read_to_string(dir.join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let valid = index["files"].as_array().unwrap().iter().filter(|f| f["valid"] == true);
        files.extend(valid.map(|f| dir.join(f["file"].as_str().unwrap())));
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_give_the_same_one_by_one_and_together() {
    let one_by_one = EvaluationOptions { shared: false, ..EvaluationOptions::default() };
    let mut wrong = Vec::new();
    let (mut recorded, mut sent) = (0, 0);
    for (number, file) in files().iter().enumerate() {
        let expected = outcome(file, one_by_one.clone()).await;
        recorded += expected["stored"].len();
        sent += expected["sent"].len();
        let mut ways = vec![("shared", EvaluationOptions::default())];
        if number % 4 == 0 {
            let options = EvaluationOptions::default().with_concurrent_evals(2);
            ways.push(("shared and concurrent", options));
        }
        for (way, evaluation) in ways {
            let got = outcome(file, evaluation).await;
            for (what, expected) in &expected {
                let got = &got[what];
                let differs = expected.iter().zip(got).find(|(a, b)| a != b);
                if expected != got {
                    wrong.push(format!("{} {way} {what}: {differs:#?}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(recorded > 500 && sent > 100, "{recorded} series, {sent} alerts: too little to tell");
}
