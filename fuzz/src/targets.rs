//! What fuzzing asserts, one function per boundary that takes text or bytes from outside.
//! Every function takes any bytes and returns; a panic, an abort or a hang is a finding.
//!
//! `fuzz_targets/` hands these to libFuzzer, `tests/it/fuzz.rs` runs the kept inputs of
//! `seeds/` through them. They use the product's public surface alone.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use watchfire::diagnostics::{self, Diagnostic, Look, Report};
use watchfire::lint::{self, Settings, registry};
use watchfire::model::{Labels, Sample, StepGrid};
use watchfire::parser::{self, ParserOptions, SeriesValue};
use watchfire::promqltest::{self, ScriptOptions};
use watchfire::query::{Engine, EngineOptions, QueryError, QueryResult, RunOptions};
use watchfire::remote_write::{self, RemoteWriteMetrics, Version, WriteError, WriteLimits};
use watchfire::rules::config::{LoadOptions, check_source};
use watchfire::rules::template::{Template, TemplateData};
use watchfire::rules::unit_test::{UnitTestOptions, run_unit_tests};
use watchfire::scrape::parse::{Entry, Format, LabelPairs, Parser};
use watchfire::storage::chunks::{self, WireChunk};
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::tsdb::{Tsdb, TsdbOptions};
use watchfire::storage::{SelectHints, SelectRequest, Source};
use watchfire::telemetry::clock::ManualClock;
use watchfire::vector::RawSamples;

type Target = fn(&[u8]);

/// Every target by its name; `seeds/NAME/` holds its inputs.
#[allow(dead_code, reason = "the fuzzing binaries name their target themselves")]
pub const TARGETS: &[(&str, Target)] = &[
    ("promql", promql),
    ("selectors", selectors),
    ("script", script),
    ("rules", rules),
    ("lint", lint),
    ("unit_tests", unit_tests),
    ("config", config),
    ("exposition", exposition),
    ("remote_write", remote_write),
    ("wal", wal),
    ("chunk", chunk),
    ("template", template),
    ("evaluate", evaluate),
];

/// Longest expression that must be handled.
const EXPRESSION_BYTES_MAX: usize = 100_000;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

fn text(data: &[u8], bytes_max: usize) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&data[..data.len().min(bytes_max)])
}

/// An expression is parsed or refused with every set of features; what is accepted prints
/// to a text that parses to the same, plainly and over several lines.
pub fn promql(data: &[u8]) {
    let text = text(data, EXPRESSION_BYTES_MAX);
    for options in [ParserOptions::default(), ParserOptions::all()] {
        let expr = match parser::parse(&text, &options) {
            Ok(expr) => expr,
            Err(errors) => {
                assert!(!errors.to_string().is_empty());
                continue;
            }
        };
        let reparsed = |text: &str| {
            parser::parse(text, &options).unwrap_or_else(|e| panic!("printed {text:?}: {e}"))
        };
        let printed = expr.to_string();
        assert_eq!(reparsed(&printed).to_string(), printed);
        let pretty = parser::pretty(&expr);
        let again = reparsed(&pretty);
        assert_eq!((again.to_string(), parser::pretty(&again)), (printed, pretty));
        assert!(!parser::outline(&expr).is_empty());
    }
}

/// The other texts the parser reads: selectors, metrics, series of tests.
pub fn selectors(data: &[u8]) {
    let text = text(data, EXPRESSION_BYTES_MAX);
    if let Ok(matchers) = parser::parse_metric_selector(&text) {
        for matcher in matchers {
            let _ = matcher.matches("x");
        }
    }
    if let Ok(labels) = parser::parse_metric(&text) {
        // A label set prints as a metric, which reads back as that set.
        assert_eq!(parser::parse_metric(&labels.to_string()).ok(), Some(labels));
    }
    let _ = parser::parse_series_description(&text);
    let _ = parser::parse_series_values(&text);
}

/// A `.test` script runs to its end, whatever it says.
pub fn script(data: &[u8]) {
    let engine = Engine::new(EngineOptions {
        timeout: Duration::from_millis(500),
        ..promqltest::engine_options()
    });
    let options = ScriptOptions { engine, strict: true };
    let report = RUNTIME.block_on(promqltest::run_script("fuzz", &text(data, 4096), &options));
    assert_eq!(report.failed, report.failures.len());
    assert!(!report.to_string().is_empty());
}

/// A rule file is read, and everything said about it can be shown.
pub fn rules(data: &[u8]) {
    let text = text(data, 64 << 10);
    for (parser, lenient) in [(ParserOptions::default(), false), (ParserOptions::all(), true)] {
        let options = LoadOptions {
            parser,
            ignore_unknown_fields: lenient,
            legacy_names: !lenient,
            dialects: lenient,
        };
        let report = check_source("rules.yml", &text, &options);
        assert!(report.errors.is_empty() || !report.error_lines().is_empty());
    }
}

/// Every check that needs no server and every kind of policy.
const LINT_SETTINGS: &str = r#"
evaluation_interval: 1m
scrape_interval: 30s
lookback_delta: 5m
owners: {required: true, allowed: "team-.+"}
regexp: {smelly: true}
dependency: {ignore: ["up|a.*"]}
rules:
- match: {kind: alerting, file: ".*", group: ".*", name: ".*", labels: {severity: "critical|page"}}
  ignore: {name: Watchdog}
  labels: {severity: {required: true, values: [critical, warning]}}
  annotations: {"runbook_.*": {required: true, value: "https://.+", severity: bug, comment: a}}
  for: {min: 1m, max: 1h}
  keep_firing_for: {min: 1m}
- aggregate: [{name: ".*:.*", keep: [job], strip: [instance]}]
  name: {pattern: "[a-z:_]+"}
  selector: [{metric: "a.*", required_labels: [job]}, {call: "rate|sum", required_labels: [env]}]
  reject: [{pattern: ".* .*", label_keys: true, label_values: true, annotation_keys: true, annotation_values: true}]
  report: {comment: b, severity: info}
"#;

/// Stands between a rule file and what belongs to it: settings of the linter, unit tests.
const FILE_FOLLOWS: &str = "\n%%\n";

/// Rules are linted with every check there is, by settings of ours or those that follow
/// them; what is said is about bytes that are there, and can be shown in every form.
pub fn lint(data: &[u8]) {
    let text = text(data, 64 << 10);
    let (text, settings) = match text.split_once(FILE_FOLLOWS) {
        Some((text, settings)) => (text, Settings::from_yaml(settings)),
        None => (&*text, Settings::from_yaml(LINT_SETTINGS)),
    };
    let mut settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    settings.choose(["all"]).expect("a word of its own");
    let load = LoadOptions {
        parser: ParserOptions::all(),
        ignore_unknown_fields: false,
        legacy_names: false,
        dialects: true,
    };
    let options = lint::Options { load, settings, now_ms: 1_353_755_652_000 };
    // The same rules twice: some checks compare files.
    let input = |name: &str| lint::Input { name: name.to_owned(), text: Ok(text.to_owned()) };
    let report = lint::lint(vec![input("a.yml"), input("b.yml")], &options);
    for diagnostic in &report.diagnostics {
        check_places(&report, diagnostic);
    }
    assert_eq!(
        diagnostics::text(&report, Look::default()).is_empty(),
        report.diagnostics.is_empty()
    );
    assert!(!diagnostics::json(&report).is_empty());
    assert!(!diagnostics::sarif(&report, &registry::infos(), "0").is_empty());
    assert!(!diagnostics::junit(&report, diagnostics::Severity::Warning).is_empty());
    assert_eq!(diagnostics::github(&report).is_empty(), report.diagnostics.is_empty());
}

/// Whatever a diagnostic points at is a piece of its source.
fn check_places(report: &Report, diagnostic: &Diagnostic) {
    let source = &report.sources[diagnostic.source].text;
    let related = diagnostic.related.iter().map(|r| &r.span);
    let edits = diagnostic.helps.iter().filter_map(|h| h.edit.as_ref()).map(|e| &e.span);
    for span in diagnostic.span.iter().chain(related).chain(edits) {
        assert!(source.get(span.clone()).is_some(), "{span:?} of {diagnostic:?}");
    }
}

/// A file of rule unit tests is read and run; rules may stand before it.
pub fn unit_tests(data: &[u8]) {
    let text = text(data, 8 << 10);
    let (rules, tests) = text.split_once(FILE_FOLLOWS).unwrap_or(("", &*text));
    // What lies elsewhere on this machine is not to be read: without a slash, however it is
    // written, no path leads out of the directory.
    if tests.contains("rule_files") && tests.contains(['/', '\\']) {
        return;
    }
    let dir = tempfile::tempdir_in(fast_dir()).expect("a directory");
    let file = dir.path().join("tests.yml");
    std::fs::write(&file, tests).expect("a written file");
    std::fs::write(dir.path().join("rules.yml"), rules).expect("a written file");
    let options = UnitTestOptions {
        parser: ParserOptions::all(),
        dump_series: true,
        ..UnitTestOptions::default()
    };
    let reports = RUNTIME.block_on(run_unit_tests(&[file], &options));
    assert_eq!(reports.len(), 1);
}

/// The service's configuration is read; what is shown of it reads back.
pub fn config(data: &[u8]) {
    let text = text(data, 64 << 10);
    if text.contains("scrape_config_files") {
        return;
    }
    let Ok(loaded) = watchfire::config::parse(&text, Path::new("/nowhere")) else { return };
    let shown = loaded.config.to_yaml();
    assert!(!shown.is_empty());
}

/// Both exposition formats: a body ends, and each label set is read or refused.
pub fn exposition(data: &[u8]) {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let mut labels = LabelPairs::default();
        let mut entries = 0;
        for entry in Parser::new(data, format) {
            entries += 1;
            assert!(entries <= data.len() + 1, "an entry takes at least a byte");
            match entry {
                Ok(Entry::Series(series)) => {
                    let _ = series.labels(&mut labels);
                    if let Some(exemplar) = series.exemplar {
                        let _ = exemplar.labels(&mut labels);
                    }
                }
                Ok(_) => {}
                Err(error) => assert!(error.line >= 1 && !error.text.is_empty()),
            }
        }
    }
}

static REMOTE_WRITE: LazyLock<RemoteWriteMetrics> =
    LazyLock::new(|| RemoteWriteMetrics::new(&mut watchfire::telemetry::Registry::default()));

/// A body of remote write of either version, as sent and with the compression taken away: it
/// is stored whole or not at all, but that one of 2.0 may be stored in part.
pub fn remote_write(data: &[u8]) {
    let limits = WriteLimits { decoded_bytes_max: 1 << 20 };
    let packed = snap::raw::Encoder::new().compress_vec(data).expect("a block");
    for (body, version) in
        [data, &packed].into_iter().flat_map(|body| [(body, Version::V1), (body, Version::V2)])
    {
        let storage = MemoryStorage::new();
        let (written, result) =
            remote_write::receive(body, version, limits, &storage, 1_000_000, &REMOTE_WRITE);
        assert!(written.samples <= limits.decoded_bytes_max);
        if let Err(error) = result {
            assert!((400..600).contains(&error.status()) && !error.to_string().is_empty());
            if !matches!(error, WriteError::Partial(_)) {
                assert_eq!(storage.len(), 0, "a refused request left something");
            }
        }
    }
}

/// A page of the write-ahead log, and how long the header of a fragment is.
const PAGE_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;

/// A segment with these records, each in a fragment of its own with a true checksum. A
/// record that begins with a zero byte goes in as it is, so that damage is met as well.
fn segment(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = data;
    while let [len, tail @ ..] = rest {
        let record = &tail[..tail.len().min(usize::from(*len))];
        rest = &tail[record.len()..];
        let left = PAGE_BYTES - out.len() % PAGE_BYTES;
        if left < HEADER_BYTES + record.len() {
            out.resize(out.len() + left, 0);
        }
        if let [0, broken @ ..] = record {
            out.extend_from_slice(broken);
            continue;
        }
        out.push(1);
        out.extend_from_slice(&(record.len() as u16).to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(record).to_be_bytes());
        out.extend_from_slice(record);
    }
    out
}

/// Every sample a store holds, as text: NaN is like NaN.
fn contents(tsdb: &Tsdb) -> Vec<String> {
    let request = SelectRequest {
        matchers: vec![],
        from_ms: i64::MIN,
        to_ms: i64::MAX,
        hints: SelectHints::default(),
    };
    let found = RUNTIME.block_on(tsdb.select(&request)).expect("a select");
    let mut lines = Vec::new();
    for series in found.series {
        let mut raw = RawSamples::default();
        series.read_into(i64::MIN, i64::MAX, &mut raw).expect("readable samples");
        assert!(raw.ts.is_sorted() && raw.hist.is_sorted_by_key(|(ts, _)| *ts));
        let bits: Vec<u64> = raw.vs.iter().map(|v| v.to_bits()).collect();
        lines.push(format!("{} {:?} {bits:x?} {:?}", series.labels(), raw.ts, raw.hist));
    }
    lines
}

/// A data directory whose log holds anything opens, or says what is wrong with it; what was
/// read once is read again by the next start.
pub fn wal(data: &[u8]) {
    let dir = tempfile::tempdir_in(fast_dir()).expect("a directory");
    let log = dir.path().join("wal");
    std::fs::create_dir(&log).expect("a directory");
    std::fs::write(log.join("00000000"), segment(&data[..data.len().min(60_000)]))
        .expect("a written segment");
    let open = || Tsdb::open(dir.path(), TsdbOptions::default(), Arc::new(ManualClock::new(0)));
    match open() {
        Ok(tsdb) => {
            let before = contents(&tsdb);
            tsdb.close().expect("a closed store");
            drop(tsdb);
            let again = open().expect("what was repaired opens");
            assert_eq!(contents(&again), before);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A chunk whose first byte tells its encoding is read whole or refused; what is sound is read
/// the same in two intervals, and again once it is encoded anew.
pub fn chunk(data: &[u8]) {
    let Some((encoding, data)) = data.split_first() else { return };
    let chunk = WireChunk {
        min_ms: i64::MIN,
        max_ms: i64::MAX,
        encoding: encoding % 4,
        data: data.to_vec().into(),
    };
    let read = |chunks: &[WireChunk], intervals: &[(i64, i64)]| {
        let mut raw = RawSamples::default();
        for (from_ms, to_ms) in intervals {
            for chunk in chunks {
                if let Err(error) = chunk.read_into(*from_ms, *to_ms, &mut raw) {
                    assert!(!error.to_string().is_empty());
                    return None;
                }
            }
        }
        Some(raw)
    };
    let shown = |raw: &RawSamples| {
        let bits: Vec<u64> = raw.vs.iter().map(|v| v.to_bits()).collect();
        format!("{:?} {bits:x?} {:?}", raw.ts, raw.hist)
    };
    let one = std::slice::from_ref(&chunk);
    let Some(whole) = read(one, &[(i64::MIN, i64::MAX)]) else { return };
    let mut times = whole.ts.clone();
    times.extend(whole.hist.iter().map(|(ts, _)| *ts));
    // Intervals make sense where time goes on.
    if !times.is_sorted_by(|a, b| a < b) {
        return;
    }
    let Some(middle) = times.get(times.len() / 2).filter(|ts| **ts < i64::MAX) else { return };
    let parts = read(one, &[(i64::MIN, *middle), (middle + 1, i64::MAX)]);
    assert_eq!(parts.map(|raw| shown(&raw)), Some(shown(&whole)), "in two intervals");
    if whole.hist.is_empty() {
        let again = read(&chunks::encode(&whole), &[(i64::MIN, i64::MAX)]);
        assert_eq!(again.map(|raw| shown(&raw)), Some(shown(&whole)), "encoded anew");
    }
}

/// Memory where there is some, for speed.
fn fast_dir() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// A label or annotation expands or fails within its bounds, and does the same again.
pub fn template(data: &[u8]) {
    let text = text(data, 16 << 10);
    let Ok(template) = Template::parse_alert("A", &text) else { return };
    let up = Labels::from_pairs([("__name__", "up"), ("instance", "a:9090"), ("job", "node")]);
    let external = Labels::from_pairs([("cluster", "eu")]);
    let url = "http://prometheus.example/base";
    let data =
        TemplateData::alert(up.clone(), external, url, &Sample::Float(0.5), 1_353_755_652_000);
    let found = |ts, value| watchfire::model::value::VectorSample {
        labels: up.clone(),
        ts,
        sample: Sample::Float(value),
    };
    let expand = || template.expand(&data, &mut |_| Ok(vec![found(0, 1.0), found(0, f64::NAN)]));
    let first = expand();
    if let Ok(output) = &first {
        assert!(output.len() <= 64 << 20, "{} bytes of output", output.len());
    }
    assert_eq!(first, expand());
}

/// What expressions are evaluated over: counters, gauges, classic and native histograms,
/// info series, gaps and staleness.
const DATA: &str = r#"
requests_total{instance="a", job="x", code="200"} 0+7x20
requests_total{instance="b", job="x", code="500"} 0+3x9 0+5x10
requests_total{instance="c", job="y", code="200"} 1 2 _ _ 5 stale 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21
up{instance="a", job="x"} 1 1 0 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
up{instance="b", job="x"} 1x20
up{instance="c", job="y"} 0x20
temperature{room="hall"} 20 NaN Inf -Inf -0 1e308 -1e308 1e-320 3 4 5 6 7 8 9 10 11 12 13 14 15
latency_seconds_bucket{instance="a", le="0.1"} 0+1x20
latency_seconds_bucket{instance="a", le="1"} 0+4x20
latency_seconds_bucket{instance="a", le="+Inf"} 0+5x20
latency_seconds_bucket{instance="a", le="broken"} 0+2x20
latency_seconds{instance="a"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}+{{schema:0 sum:5 count:4 buckets:[1 2 1]}}x20
latency_seconds{instance="b"} {{schema:3 sum:-2 count:9 z_bucket:2 z_bucket_w:0.001 n_buckets:[1 2] buckets:[3 0 1] offset:-5}}x20
custom_seconds{instance="a"} {{schema:-53 sum:5 count:7 custom_values:[0.5 1 2] buckets:[1 2 3 1]}}x20
custom_seconds{instance="b"} {{schema:-53 sum:5 count:4 custom_values:[0.5 2] buckets:[1 2 1]}}x10 1 2 3
target_info{instance="a", job="x", version="1"} 1x20
target_info{instance="b", job="x", version="2"} 1x20
{"dotted.name", "label with blanks"="é"} 1+1x20
"#;

/// Milliseconds between the samples of [`DATA`].
const INTERVAL_MS: i64 = 15_000;

static SOURCE: LazyLock<Arc<dyn Source>> = LazyLock::new(|| {
    let storage = MemoryStorage::new();
    for line in DATA.lines().filter(|line| !line.is_empty()) {
        let series = parser::parse_series_description(line).expect("sound data");
        for (i, value) in series.values.iter().enumerate() {
            let ts = i as i64 * INTERVAL_MS;
            let appended = match value {
                SeriesValue::Missing => continue,
                SeriesValue::Float(v) => storage.append(&series.labels, ts, *v, None),
                SeriesValue::Histogram { histogram, .. } => {
                    storage.append_histogram(&series.labels, ts, histogram, None)
                }
            };
            appended.expect("a stored sample");
        }
    }
    Arc::new(storage)
});

/// Samples an evaluation may hold.
const SAMPLES_MAX: usize = 20_000;

/// An engine with narrow limits.
fn engine(delayed_name_removal: bool) -> Arc<Engine> {
    Engine::new(EngineOptions {
        // Some thousand times what the limits allow: a busy machine stops for seconds.
        timeout: Duration::from_secs(20),
        max_samples: SAMPLES_MAX,
        max_memory_bytes: 16 << 20,
        parser: ParserOptions::all(),
        delayed_name_removal,
        per_step_stats: true,
        parallel: false,
        ..EngineOptions::default()
    })
}

static ENGINES: LazyLock<[Arc<Engine>; 2]> = LazyLock::new(|| [engine(false), engine(true)]);

/// An expression that parses is evaluated or refused, at one time and at several, and keeps
/// to the engine's limits.
pub fn evaluate(data: &[u8]) {
    let text = text(data, 4096);
    if parser::parse(&text, &ParserOptions::all()).is_err() {
        return;
    }
    let grid = StepGrid::range(0, 300_000, 37_500).expect("a grid");
    let options = RunOptions { per_step_stats: true, ..RunOptions::default() };
    for engine in &*ENGINES {
        let query = engine.prepare(&text).expect("an expression that parses is planned");
        check(&text, RUNTIME.block_on(query.instant(&SOURCE, 150_000, &options)));
        check(&text, RUNTIME.block_on(query.range(&SOURCE, grid, &options)));
    }
}

fn check(text: &str, result: Result<QueryResult, QueryError>) {
    match result {
        Ok(result) => {
            let peak = result.stats.peak_samples;
            assert!(peak <= SAMPLES_MAX as u64, "{text}: held {peak} samples");
        }
        Err(QueryError::Timeout(_) | QueryError::Canceled(_)) => {
            panic!("{text}: the limits allow work for seconds")
        }
        Err(QueryError::Storage(error)) => panic!("{text}: {error}"),
        // A thread that panicked shows as an error of its own.
        Err(error) => assert!(!error.to_string().contains("unexpected error"), "{text}: {error}"),
    }
}
