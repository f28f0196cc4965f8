//! Shared evaluation: the expressions of all rules of the corpus, evaluated one by one and
//! together in random batches, end the same: values to the bit, order, annotations with
//! their positions, statistics, errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use watchfire::model::{FloatHistogram, Labels, MatchOp, Matcher, Sample, StepGrid, Value};
use watchfire::parser::ast::{Expr, ExprKind, Grouping};
use watchfire::parser::{ParserOptions, parse};
use watchfire::query::{
    Bundle, Engine, EngineOptions, PreparedQuery, QueryError, QueryResult, RunOptions,
};
use watchfire::rules::config::{LoadOptions, load_file};
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::{
    LabelAnswer, LabelRequest, RawSeries, SelectRequest, SeriesSet, Source, StorageError,
};
use watchfire::vector::RawSamples;

use crate::support::shared;

const AT_MS: i64 = 1_700_000_000_000;
const SAMPLE_MS: i64 = 60_000;
const SAMPLES: i64 = 45;

/// What the corpus seldom does: equal parts at other places of the text, notes about them,
/// histograms, pinned times, subqueries, errors.
const MORE: &[&str] = &[
    "rate(odd_gauge[5m])",
    "  sum by (job) (rate(odd_gauge[5m]))",
    "(rate(odd_gauge[5m])) + on (job, instance) rate((odd_gauge[5m]))",
    "sum(rate(odd_gauge[5m])) / sum(rate(odd_gauge[5m]))",
    "increase(odd_gauge[5m]) > rate(odd_gauge[5m])",
    "odd_gauge offset 5m",
    "odd_gauge offset 300s + odd_gauge",
    "odd_gauge @ 1699999000",
    "max_over_time(odd_gauge[10m]) - min_over_time(odd_gauge[10m])",
    "quantile(1.5, odd_gauge)",
    "quantile(1.5, odd_gauge) + quantile(2, odd_gauge)",
    "histogram_quantile(0.9, broken_bucket)",
    "histogram_quantile(0.9, sum by (le) (broken_bucket))",
    " histogram_quantile(0.9, sum by (le) (broken_bucket)) > 0",
    "histogram_quantile(0.5, sum by (le) (broken_bucket)) + histogram_quantile(0.9, sum by (le) (broken_bucket))",
    "histogram_quantile(0.9, native)",
    "histogram_count(native) + histogram_sum(native)",
    "rate(native[5m])",
    "sum(native) + sum(odd_gauge)",
    "sum({__name__=~\"native|odd_gauge\"})",
    "  sum({__name__=~\"native|odd_gauge\"}) > 1",
    "avg_over_time(sum by (job) (rate(odd_gauge[2m]))[10m:1m])",
    "max_over_time(sum by (job) (rate(odd_gauge[2m]))[10m:1m]) > 0",
    "odd_gauge + on (job) odd_gauge",
    "odd_gauge * on (job) group_left () odd_gauge",
    "label_replace(odd_gauge, \"instance\", \"same\", \"\", \"\")",
    "label_replace(odd_gauge, \"x\", \"$1\", \"instance\", \"(.*)\")",
    "label_replace(odd_gauge, \"x\", \"$1\", \"instance\", \"i(.*)\")",
    "topk(2, odd_gauge)",
    "bottomk(2, odd_gauge)",
    "sort_desc(odd_gauge)",
    "count_values(\"v\", odd_gauge)",
    "time() - timestamp(odd_gauge)",
    "vector(time())",
    "scalar(sum(odd_gauge)) * 2",
    "absent(no_such_metric)",
    "absent_over_time(odd_gauge[5m])",
    "odd_gauge[2m]",
    "\"text\"",
    "1 + 1",
    "predict_linear(odd_gauge[10m], 3600)",
    "changes(odd_gauge[10m]) == 0 and odd_gauge > 1",
    "odd_gauge > 1 or odd_gauge < 0",
    "unavailable > 0",
    "unavailable + odd_gauge",
    "slow_warning",
];

/// A store that cannot answer for one metric, never does for another, has something to say
/// about a third, and counts what it is asked.
#[derive(Default)]
struct Moody {
    all: MemoryStorage,
    /// The series of each metric once more: most requests name one.
    by_name: BTreeMap<String, MemoryStorage>,
    selects: AtomicUsize,
    reads: Arc<AtomicUsize>,
}

impl Moody {
    /// The stores that a series belongs into.
    fn stores(&mut self, labels: &Labels) -> [&MemoryStorage; 2] {
        let name = labels.metric_name().to_owned();
        [&self.all, self.by_name.entry(name).or_default()]
    }
}

/// A series that counts how often it is read, and breaks when told to.
struct Read {
    series: Arc<dyn RawSeries>,
    reads: Arc<AtomicUsize>,
}

impl RawSeries for Read {
    fn labels(&self) -> &Labels {
        self.series.labels()
    }

    fn read_into(&self, from: i64, to: i64, out: &mut RawSamples) -> Result<(), StorageError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        assert_ne!(self.labels().metric_name(), "broken_series", "a bug of the store");
        self.series.read_into(from, to, out)
    }

    fn read_newest_into(
        &self,
        from: i64,
        to: i64,
        out: &mut RawSamples,
    ) -> Result<(), StorageError> {
        // No decoding, as far as stores go that have the newest sample at hand.
        assert_ne!(self.labels().metric_name(), "broken_series", "a bug of the store");
        self.series.read_newest_into(from, to, out)
    }
}

impl Source for Moody {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            self.selects.fetch_add(1, Ordering::Relaxed);
            let names = |name: &str| request.matchers.iter().any(|m| &*m.value == name);
            if names("unavailable") {
                return Err(StorageError::Remote("the store is away".into()));
            }
            if names("never_answers") {
                std::future::pending::<()>().await;
            }
            let named = |m: &&Matcher| &*m.name == "__name__" && m.op == MatchOp::Equal;
            let store = match request.matchers.iter().find(named) {
                Some(m) => self.by_name.get(&*m.value),
                None => Some(&self.all),
            };
            let mut set = match store {
                Some(store) => store.select(request).await?,
                None => SeriesSet::default(),
            };
            for series in &mut set.series {
                *series = Arc::new(Read { series: series.clone(), reads: self.reads.clone() });
            }
            if names("slow_warning") {
                set.warnings.push("part of the store did not answer".into());
            }
            Ok(set)
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.all.label_names(request)
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.all.label_values(name, request)
    }
}

/// Every valid expression of the corpus, in file order, each once; then `MORE`.
fn expressions() -> Vec<(String, Arc<Expr>)> {
    let mut found = Vec::new();
    let mut files = Vec::new();
    let mut folders: Vec<_> = shared("corpus/rules").into_iter().collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    for file in files {
        let loaded = load_file(&file, &LoadOptions::default());
        for rule in loaded.groups.into_iter().flat_map(|g| g.rules) {
            found.push((rule.expr.printed.clone(), rule.expr.expr.clone()));
        }
    }
    for text in MORE {
        found.push(((*text).to_owned(), parse(text, &ParserOptions::all()).unwrap().into()));
    }
    let mut seen = BTreeSet::new();
    found.retain(|(text, _)| seen.insert(text.clone()));
    found
}

/// A value that a matcher accepts, where one is easily found.
fn accepted(matcher: &Matcher, wish: &str) -> Option<String> {
    let mut candidates = vec![wish.to_owned(), matcher.value.to_string(), String::new()];
    for part in matcher.value.split('|') {
        let plain = part.replace(".*", "x").replace(".+", "x").replace("\\", "");
        candidates.push(plain.trim_matches(['(', ')', '^', '$']).to_owned());
    }
    candidates.into_iter().find(|value| matcher.matches(value))
}

/// What the series that an expression selects look like, and the labels it groups by.
fn shapes(expr: &Expr, sets: &mut BTreeMap<String, BTreeSet<Vec<(String, String)>>>) {
    let mut labels = BTreeSet::new();
    expr.walk(&mut |e| match &e.kind {
        ExprKind::Aggregate(a) => {
            if let Grouping::By(names) = &a.grouping {
                labels.extend(names.iter().cloned());
            }
        }
        ExprKind::Binary(b) => {
            if let Some(matching) = &b.matching {
                labels.extend(matching.labels.iter().chain(&matching.include).cloned());
            }
        }
        _ => {}
    });
    expr.walk(&mut |e| {
        let ExprKind::VectorSelector(selector) = &e.kind else { return };
        let name = selector.matchers.iter().find(|m| &*m.name == "__name__");
        let Some(name) = name.and_then(|m| accepted(m, "")) else { return };
        for copy in 0..3 {
            let mut pairs: BTreeMap<String, String> = BTreeMap::new();
            for label in labels.iter().map(String::as_str).chain(["instance", "job"]) {
                pairs.insert(label.to_owned(), format!("{}{}", &label[..1], copy % 2));
            }
            pairs.insert("instance".into(), format!("i{copy}"));
            for matcher in selector.matchers.iter().filter(|m| &*m.name != "__name__") {
                if matcher.op == MatchOp::Equal
                    || !matcher.matches(pairs.get(&*matcher.name).map_or("", |v| v))
                {
                    let wish = format!("other{copy}");
                    pairs.insert(
                        matcher.name.to_string(),
                        accepted(matcher, &wish).unwrap_or_default(),
                    );
                }
            }
            pairs.retain(|name, value| !value.is_empty() && name != "le" && name != "__name__");
            sets.entry(name.clone()).or_default().insert(pairs.into_iter().collect());
        }
    });
}

fn store(expressions: &[(String, Arc<Expr>)]) -> Moody {
    let mut sets = BTreeMap::new();
    expressions.iter().for_each(|(_, expr)| shapes(expr, &mut sets));
    let mut storage = Moody::default();
    let mut rng = StdRng::seed_from_u64(7);
    for (name, sets) in &sets {
        if name == "native" || name == "unavailable" {
            continue;
        }
        for set in sets {
            let bounds: &[&str] =
                if name.ends_with("_bucket") { &["0.1", "1", "+Inf"] } else { &[""] };
            for le in bounds {
                let pairs = set.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                let labels =
                    Labels::from_pairs(pairs.chain([("__name__", name.as_str()), ("le", le)]));
                fill(&mut storage, &labels, &mut rng);
            }
        }
    }
    for job in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "native"), ("job", job)]);
        for i in 0..SAMPLES {
            let (sum, count, ts) = (i as f64, i as f64, AT_MS - (SAMPLES - i) * SAMPLE_MS);
            let h = FloatHistogram { sum, count, zero_count: count, ..FloatHistogram::default() };
            for store in storage.stores(&labels) {
                store.append_histogram(&labels, ts, &Arc::new(h.clone()), None).unwrap();
            }
        }
    }
    storage
}

/// Counters grow and are reset now and then, the rest wanders; some samples are missing.
fn fill(storage: &mut Moody, labels: &Labels, rng: &mut StdRng) {
    let name = labels.metric_name();
    let counter = ["_total", "_count", "_sum", "_bucket"].iter().any(|s| name.ends_with(s));
    let phase = rng.random_range(0..SAMPLE_MS);
    let ends = if rng.random_ratio(1, 12) { rng.random_range(5..SAMPLES) } else { SAMPLES };
    let mut value = f64::from(rng.random_range(0..4u32));
    for i in 0..ends {
        if rng.random_ratio(1, 15) {
            continue;
        }
        value = match counter {
            true if rng.random_ratio(1, 40) => 0.0,
            true => value + 0.1 * f64::from(rng.random_range(0..50u32)),
            false if rng.random_ratio(1, 60) => f64::NAN,
            false => f64::from(rng.random_range(-1..3i32)) * 0.7,
        };
        let ts = AT_MS - (SAMPLES - i) * SAMPLE_MS + phase;
        for store in storage.stores(labels) {
            store.append(labels, ts, value, None).unwrap();
        }
    }
}

/// All there is of an answer but how long it took.
fn show(text: &str, answer: &Result<QueryResult, QueryError>) -> String {
    let result = match answer {
        Ok(result) => result,
        Err(e) => return format!("{text}\nerror: {e}"),
    };
    let mut out = format!("{text}\n");
    let sample = |s: &Sample| match s {
        Sample::Float(v) => format!("{v} {:x}", v.to_bits()),
        Sample::Histogram(h) => format!("{h:?}"),
    };
    match &result.value {
        Value::Scalar { ts, value } => writeln!(out, "{ts} {:x}", value.to_bits()).unwrap(),
        Value::String { ts, value } => writeln!(out, "{ts} {value}").unwrap(),
        Value::Vector(all) => {
            for v in all {
                writeln!(out, "{} {} {}", v.labels, v.ts, sample(&v.sample)).unwrap();
            }
        }
        Value::Matrix(all) => {
            for s in all {
                writeln!(out, "{}", s.labels).unwrap();
                for (ts, s) in &s.points {
                    writeln!(out, "  {ts} {}", sample(s)).unwrap();
                }
            }
        }
    }
    for note in result.annotations.iter() {
        writeln!(out, "{note:?}").unwrap();
    }
    let stats = &result.stats;
    let counts = (stats.total_queryable_samples, stats.samples_read, stats.peak_samples);
    let steps = (&stats.total_queryable_samples_per_step, &stats.samples_read_per_step);
    writeln!(out, "{counts:?} {steps:?}").unwrap();
    out
}

/// Asks one by one and together in batches of random sizes and members; how many answers
/// were errors and how many carried notes.
async fn compare(
    options: EngineOptions,
    source: &Arc<dyn Source>,
    expressions: &[(String, Arc<Expr>)],
    grid: Option<StepGrid>,
    seed: u64,
) -> (usize, usize) {
    // What threads hold at one time is a matter of chance.
    let show = |text: &str, answer: Result<QueryResult, QueryError>| {
        let timeless = |mut result: QueryResult| {
            result.stats.peak_samples *= u64::from(!options.parallel);
            result
        };
        show(text, &answer.map(timeless))
    };
    let engine = Engine::new(options.clone());
    let run = RunOptions { per_step_stats: true, ..RunOptions::default() };
    let prepare = |(text, expr): &(String, Arc<Expr>)| {
        Arc::new(engine.prepare_expr(text, expr.clone()).unwrap())
    };
    let queries: Vec<Arc<PreparedQuery>> = expressions.iter().map(prepare).collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..queries.len()).collect();
    order.shuffle(&mut rng);
    let (mut errors, mut notes) = (0, 0);
    let mut left = order.as_slice();
    while !left.is_empty() {
        let (batch, rest) = left.split_at(rng.random_range(1..=60).min(left.len()));
        left = rest;
        // Neighbours share more than strangers, and some ask twice.
        let mut batch: Vec<usize> =
            batch.iter().flat_map(|i| [*i, (i + 1) % queries.len()]).collect();
        batch.truncate(60);
        let members: Vec<&PreparedQuery> = batch.iter().map(|i| &*queries[*i]).collect();
        let together = match grid {
            // What is asked at tick after tick leaves something behind for the next one.
            None if seed.is_multiple_of(2) => {
                let members = batch.iter().map(|i| queries[*i].clone()).collect();
                let bundle = Bundle::new(&engine, members);
                for ticks in [2, 1] {
                    bundle.instant(source, AT_MS - ticks * 30_000, &run).await;
                }
                bundle.instant(source, AT_MS, &run).await
            }
            None => engine.together(&members, source, AT_MS, &run).await,
            Some(grid) => engine.together_range(&members, source, grid, &run).await,
        };
        assert_eq!(together.len(), members.len());
        for (query, together) in members.iter().zip(together) {
            let alone = match grid {
                None => query.instant(source, AT_MS, &run).await,
                Some(grid) => query.range(source, grid, &run).await,
            };
            errors += usize::from(alone.is_err());
            notes += usize::from(alone.as_ref().is_ok_and(|r| !r.annotations.is_empty()));
            let (alone, together) = (show(query.text(), alone), show(query.text(), together));
            assert!(
                alone == together,
                "seed {seed}, {grid:?}: alone\n{alone}\ntogether\n{together}\nin a batch of\n{}\n{}",
                members.iter().map(|q| q.text()).collect::<Vec<_>>().join("\n"),
                query.explain()
            );
        }
    }
    (errors, notes)
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_corpus_end_the_same_alone_and_together() {
    let expressions = expressions();
    let source: Arc<dyn Source> = Arc::new(store(&expressions));
    let options = || EngineOptions {
        per_step_stats: true,
        parser: ParserOptions::all(),
        parallel: false,
        ..EngineOptions::default()
    };
    let grid = StepGrid { start_ms: AT_MS - 1_200_000, step_ms: 90_000, len: 9 };
    let delayed = EngineOptions { delayed_name_removal: true, ..options() };
    for (options, grid, seed) in [
        (options(), None, 1),
        (options(), None, 2),
        (delayed.clone(), None, 3),
        (delayed, None, 10),
        (options(), Some(grid), 4),
        (EngineOptions { parallel: true, ..options() }, Some(grid), 8),
        // Too little for many: each must hit its limit exactly where it would alone.
        (EngineOptions { max_samples: 20, ..options() }, None, 5),
        (EngineOptions { max_samples: 20, ..options() }, None, 12),
        (EngineOptions { max_samples: 100, ..options() }, Some(grid), 6),
        (EngineOptions { max_memory_bytes: 4_000, ..options() }, None, 7),
    ] {
        let (errors, notes) = compare(options, &source, &expressions, grid, seed).await;
        println!(
            "seed {seed}: {} expressions, {errors} errors, {notes} with notes",
            expressions.len()
        );
        assert!(errors > 5 && notes > 5, "seed {seed}: {errors} errors and {notes} notes");
    }
}

/// A few series of each metric that `MORE` and the cases below name.
fn small_store() -> Moody {
    let mut storage = Moody::default();
    let mut rng = StdRng::seed_from_u64(11);
    for name in ["odd_gauge", "x_total", "broken_series"] {
        for instance in ["i0", "i1", "i2"] {
            let labels = [("__name__", name), ("instance", instance), ("job", "j")];
            fill(&mut storage, &Labels::from_pairs(labels), &mut rng);
        }
    }
    storage
}

/// Evaluates together; says how many requests were made and how often series were read.
async fn cost(texts: &[&str]) -> (usize, usize) {
    let engine = Engine::new(EngineOptions::default());
    let store = Arc::new(small_store());
    let source: Arc<dyn Source> = store.clone();
    let queries: Vec<_> = texts.iter().map(|t| engine.prepare(t).unwrap()).collect();
    let all: Vec<_> = queries.iter().collect();
    for answer in engine.together(&all, &source, AT_MS, &RunOptions::default()).await {
        answer.unwrap();
    }
    (store.selects.load(Ordering::Relaxed), store.reads.load(Ordering::Relaxed))
}

#[tokio::test]
async fn what_is_common_is_fetched_decoded_and_evaluated_once() {
    let check =
        async |texts: &[&str], expected| assert_eq!(cost(texts).await, expected, "{texts:?}");
    // Three series: equal parts, wherever they stand.
    check(&["sum(rate(x_total[5m]))", "avg( (rate(x_total[5m])) ) > 1"], (1, 3)).await;
    check(&["x_total[5m]", "rate(x_total[5m])"], (1, 3)).await;
    check(&["rate(x_total[5m]) / rate(x_total[5m])", "1 + 1"], (1, 3)).await;
    // Different functions of the same windows, and the newest sample in one of them.
    check(&["rate(x_total[5m])", "changes(x_total[5m])", "x_total"], (1, 3)).await;
    check(&["rate(x_total[5m] offset 5m)", "rate(x_total[5m] offset 300s) > 0"], (1, 3)).await;
    check(&["delta(x_total[2m] @ 1699999000)", "rate(x_total[2m] @ 1699999000)"], (1, 3)).await;
    // Of several lengths of window the longest; all else is read from it.
    check(&["rate(x_total[5m])", "rate(x_total[1h])", "x_total"], (2, 3)).await;
    check(&["rate(x_total[5m])", "rate(x_total[1h] offset 1m)"], (2, 6)).await;
    // Nothing in common.
    check(&["rate(x_total[5m])", "rate(odd_gauge[5m])"], (2, 6)).await;
    check(&["rate(x_total[5m])", "rate(x_total{job=\"j\"}[5m])"], (2, 6)).await;
    check(&["rate(x_total[5m])", "rate(x_total[5m] offset 5m)"], (2, 6)).await;
}

#[tokio::test]
async fn a_failure_is_its_own() {
    let engine = Engine::new(EngineOptions::default());
    let source: Arc<dyn Source> = Arc::new(small_store());
    let run = RunOptions { timeout: Some(Duration::from_millis(50)), ..RunOptions::default() };
    for (bad, expected) in [
        ("unavailable", "expanding series: the store is away"),
        ("never_answers", "query timed out in query execution"),
        ("sum(broken_series) + x_total", "unexpected error: "),
        ("x_total + on (job) x_total", "found duplicate series for the match group"),
    ] {
        // The bad one shares a part with the good ones, and comes twice.
        let texts = [bad, "sum(x_total)", bad, "x_total > 1", "sum(x_total) / 2"];
        let queries: Vec<_> = texts.iter().map(|t| engine.prepare(t).unwrap()).collect();
        let all: Vec<_> = queries.iter().collect();
        for (query, got) in all.iter().zip(engine.together(&all, &source, AT_MS, &run).await) {
            if query.text() == bad {
                let error = got.unwrap_err().to_string();
                assert!(error.starts_with(expected), "{bad}: {error}");
            } else {
                let alone = query.instant(&source, AT_MS, &run).await;
                assert_eq!(show(bad, &got), show(bad, &alone), "beside {bad}");
            }
        }
    }
}
