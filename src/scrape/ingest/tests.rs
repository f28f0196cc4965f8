//! Bodies against a sink that remembers everything.

use parking_lot::Mutex;

use super::*;
use crate::model::FloatHistogram;
use crate::model::metadata::Metadata;
use crate::model::value::is_stale_nan;

/// Keeps committed samples as text, and refuses what storage would refuse.
#[derive(Default)]
struct Recorder {
    log: Arc<Mutex<Vec<String>>>,
    last: Arc<Mutex<std::collections::BTreeMap<Labels, (TimestampMs, f64)>>>,
}

struct RecorderBatch {
    log: Arc<Mutex<Vec<String>>>,
    last: Arc<Mutex<std::collections::BTreeMap<Labels, (TimestampMs, f64)>>>,
    pending: Vec<(Labels, TimestampMs, f64)>,
}

impl Sink for Recorder {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(RecorderBatch {
            log: self.log.clone(),
            last: self.last.clone(),
            pending: Vec::new(),
        })
    }
}

impl Appender for RecorderBatch {
    fn append(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        ts: TimestampMs,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        if let Some((last, stored)) = self.last.lock().get(labels) {
            if ts < *last {
                return Err(AppendError::OutOfOrder);
            }
            if ts == *last && stored.to_bits() != value.to_bits() {
                return Err(AppendError::DuplicateForTimestamp);
            }
        }
        self.pending.push((labels.clone(), ts, value));
        Ok(SeriesRef(labels.hash64()))
    }

    fn append_histogram(
        &mut self,
        _: Option<SeriesRef>,
        labels: &Labels,
        _: TimestampMs,
        _: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(labels.hash64()))
    }

    fn append_metadata(&mut self, _: &str, _: &Metadata) {}

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        let mut log = self.log.lock();
        for (labels, ts, value) in &self.pending {
            let value_text = if is_stale_nan(*value) { "stale".into() } else { value.to_string() };
            if !labels.metric_name().starts_with("scrape_duration") {
                log.push(format!("{labels} {value_text} @{ts}"));
            }
            self.last.lock().insert(labels.clone(), (*ts, *value));
        }
        log.sort();
        Ok(())
    }
}

struct Bench {
    ingester: Ingester,
    log: Arc<Mutex<Vec<String>>>,
    now_ms: TimestampMs,
}

fn settings() -> SampleSettings {
    SampleSettings {
        target: Labels::from_pairs([("instance", "i"), ("job", "j")]),
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        relabel: Arc::from([]),
        names: NameScheme::Utf8,
        limits: Limits::default(),
        extra_metrics: false,
        timeout_ms: 10_000,
    }
}

impl Bench {
    fn new(settings: SampleSettings) -> Self {
        let sink = Recorder::default();
        let log = sink.log.clone();
        let metrics = ScrapeMetrics::new(&mut crate::telemetry::Registry::default());
        Self { ingester: Ingester::new(Arc::new(sink), metrics, settings), log, now_ms: 0 }
    }

    /// Ingests and returns what was committed, without the constant target labels, and
    /// the error if the body was refused.
    fn scrape(&mut self, body: Option<&str>) -> Vec<String> {
        self.now_ms += 1000;
        let report = Report { at_ms: self.now_ms, elapsed: &|| 0.0, body_bytes: 0.0 };
        let mut lines = match body {
            Some(body) => {
                let (_, error, stored) =
                    self.ingester.ingest(body.as_bytes(), Format::Prometheus, report);
                stored.unwrap();
                error.map(|e| format!("error: {e}")).into_iter().collect()
            }
            None => {
                self.ingester.ingest_failure(report).unwrap();
                Vec::new()
            }
        };
        for line in self.log.lock().drain(..) {
            let line = line.replace(r#", instance="i", job="j"}"#, "}");
            let line = line.replace(r#"{__name__="#, "{");
            lines.push(line.replace("scrape_samples_post_metric_relabeling", "kept"));
        }
        lines
    }
}

/// The report lines that accompany each scrape.
fn report(up: u8, scraped: u64, kept: u64, added: u64, at: i64) -> Vec<String> {
    vec![
        format!("{{\"kept\"}} {kept} @{at}"),
        format!("{{\"scrape_samples_scraped\"}} {scraped} @{at}"),
        format!("{{\"scrape_series_added\"}} {added} @{at}"),
        format!("{{\"up\"}} {up} @{at}"),
    ]
}

fn expect(got: Vec<String>, samples: &[&str], report: Vec<String>) {
    let mut got = got;
    let mut want: Vec<String> = samples.iter().map(|s| (*s).to_owned()).chain(report).collect();
    got.sort();
    want.sort();
    assert_eq!(got, want);
}

#[test]
fn a_series_that_vanishes_becomes_stale_and_comes_back() {
    let mut bench = Bench::new(settings());
    expect(
        bench.scrape(Some("a 1\nb 2\n")),
        &["{\"a\"} 1 @1000", "{\"b\"} 2 @1000"],
        report(1, 2, 2, 2, 1000),
    );
    expect(
        bench.scrape(Some("a 1\n")),
        &["{\"a\"} 1 @2000", "{\"b\"} stale @2000"],
        report(1, 1, 1, 0, 2000),
    );
    assert_eq!(bench.ingester.cache.len(), 1);
    expect(bench.scrape(Some("a 1\n")), &["{\"a\"} 1 @3000"], report(1, 1, 1, 0, 3000));
    expect(
        bench.scrape(Some("b 1\na 1\n")),
        &["{\"a\"} 1 @4000", "{\"b\"} 1 @4000"],
        report(1, 2, 2, 1, 4000),
    );
}

#[test]
fn a_failed_scrape_ends_every_series_once() {
    let mut bench = Bench::new(settings());
    bench.scrape(Some("a 1\n"));
    expect(bench.scrape(None), &["{\"a\"} stale @2000"], report(0, 0, 0, 0, 2000));
    expect(bench.scrape(None), &[], report(0, 0, 0, 0, 3000));
    expect(bench.scrape(Some("a 1\n")), &["{\"a\"} 1 @4000"], report(1, 1, 1, 0, 4000));
    let error = "error: line 2: expected value after metric, got \"\\n\" while parsing: \"c\\n\"";
    expect(
        bench.scrape(Some("b 1\nc\n")),
        &["{\"a\"} stale @5000", error],
        report(0, 1, 1, 1, 5000),
    );
    expect(bench.scrape(Some("")), &[], report(1, 0, 0, 0, 6000));
    bench.scrape(Some("a 1\n"));
    expect(bench.scrape(Some("")), &["{\"a\"} stale @8000"], report(1, 0, 0, 0, 8000));
}

#[test]
fn a_target_that_goes_ends_its_report_series_too() {
    let mut bench = Bench::new(settings());
    bench.scrape(Some("a 1\n"));
    bench.ingester.end(5000).unwrap();
    let lines = bench.log.lock().clone();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line.ends_with("stale @5000")));
}

#[test]
fn timestamps_are_honored_and_not_tracked_unless_asked() {
    let mut bench = Bench::new(settings());
    expect(bench.scrape(Some("a 1 5\n")), &["{\"a\"} 1 @5"], report(1, 1, 1, 1, 1000));
    expect(bench.scrape(Some("b 1\n")), &["{\"b\"} 1 @2000"], report(1, 1, 1, 1, 2000));
    // A series that starts to carry timestamps ends as one without.
    expect(
        bench.scrape(Some("b 1 2500\n")),
        &["{\"b\"} 1 @2500", "{\"b\"} stale @3000"],
        report(1, 1, 1, 0, 3000),
    );
    // Beyond ten minutes in the future, and behind the newest: counted, not stored.
    expect(bench.scrape(Some("c 1 700000\nb 1 1\n")), &[], report(1, 2, 2, 0, 4000));
    assert_eq!(bench.ingester.metrics.out_of_bounds.get(), 1);
    assert_eq!(bench.ingester.metrics.out_of_order.get(), 1);

    let mut bench = Bench::new(SampleSettings { track_timestamps_staleness: true, ..settings() });
    bench.scrape(Some("a 1 5\n"));
    expect(
        bench.scrape(Some("b 1 6\n")),
        &["{\"b\"} 1 @6", "{\"a\"} stale @2000"],
        report(1, 1, 1, 1, 2000),
    );

    let mut bench = Bench::new(SampleSettings { honor_timestamps: false, ..settings() });
    expect(bench.scrape(Some("a 1 5\n")), &["{\"a\"} 1 @1000"], report(1, 1, 1, 1, 1000));
}

#[test]
fn a_line_that_stands_twice_is_counted_once() {
    let mut bench = Bench::new(settings());
    expect(
        bench.scrape(Some("a 1\na 2\na 3 7\n")),
        &["{\"a\"} 1 @1000", "{\"a\"} 3 @7"],
        report(1, 3, 3, 1, 1000),
    );
    assert_eq!(bench.ingester.metrics.duplicate_timestamp.get(), 1);
    expect(bench.scrape(None), &["{\"a\"} stale @2000"], report(0, 0, 0, 0, 2000));
}

#[test]
fn exposed_labels_give_way_or_are_honored() {
    let body = "a{job=\"x\",exported_job=\"y\",instance=\"\"} 1\n";
    let mut bench = Bench::new(settings());
    let got = bench.scrape(Some(body));
    let want = r#"{"a", exported_exported_job="x", exported_job="y"} 1 @1000"#;
    assert!(got.contains(&want.to_owned()), "{got:?}");
    let mut bench = Bench::new(SampleSettings { honor_labels: true, ..settings() });
    let got = bench.scrape(Some(body));
    let want = r#"{"a", exported_job="y", job="x"} 1 @1000"#;
    assert!(got.contains(&want.to_owned()), "{got:?}");
}

#[test]
fn metric_relabelling_drops_and_renames() {
    let rules: Vec<RelabelConfig> = serde_yaml::from_str(
        "[{source_labels: [__name__], regex: 'go_.*', action: drop}, {regex: 'le', action: \
         labeldrop}]",
    )
    .unwrap();
    let mut bench = Bench::new(SampleSettings { relabel: rules.into(), ..settings() });
    for (at, added) in [(1000, 1), (2000, 0)] {
        expect(
            bench.scrape(Some("go_x 1\na{le=\"1\"} 1\n")),
            &[&format!("{{\"a\"}} 1 @{at}")],
            report(1, 2, 1, added, at),
        );
    }
}

#[test]
fn limits_fail_the_scrape_and_the_report_counts_everything() {
    let limits = |limits: Limits| SampleSettings { limits, ..settings() };
    let mut bench = Bench::new(limits(Limits { samples: 2, ..Limits::default() }));
    expect(
        bench.scrape(Some("a 1\nb 1\n")),
        &["{\"a\"} 1 @1000", "{\"b\"} 1 @1000"],
        report(1, 2, 2, 2, 1000),
    );
    expect(
        bench.scrape(Some("a 1\nb 1\nc 1\nd 1\n")),
        &["{\"a\"} stale @2000", "{\"b\"} stale @2000", "error: sample limit exceeded"],
        report(0, 4, 4, 0, 2000),
    );
    assert_eq!(bench.ingester.metrics.exceeded_sample_limit.get(), 1);
    for (limits_, expected) in [
        (
            Limits { labels: 3, ..Limits::default() },
            "error: label_limit limit exceeded (metric: a, number of labels: 4, limit: 3)",
        ),
        (
            Limits { label_name_bytes: 8, ..Limits::default() },
            "error: label_name_length_limit limit exceeded (metric: a, label name: long_label_x, length: 12, limit: 8)",
        ),
        (
            Limits { label_value_bytes: 3, ..Limits::default() },
            "error: label_value_length_limit limit exceeded (metric: a, label name: long_label_x, value: \"long\", length: 4, limit: 3)",
        ),
    ] {
        let mut bench = Bench::new(limits(limits_));
        let got = bench.scrape(Some("a{long_label_x=\"long\"} 1\n"));
        assert_eq!(got[0], expected);
    }
}

#[test]
fn names_are_checked_as_the_scheme_says() {
    let mut bench = Bench::new(SampleSettings { names: NameScheme::Legacy, ..settings() });
    let got = bench.scrape(Some("{\"a.b\"} 1\n"));
    assert!(got[0].starts_with("error: invalid metric name or label names: {__name__=\"a.b\""));
    let got = bench.scrape(Some("a{b=\"1\",b=\"2\"} 1\n"));
    assert_eq!(got[0], "error: label name \"b\" is not unique: invalid sample");
}

#[test]
fn new_settings_keep_series_alive_that_are_still_there() {
    let mut bench = Bench::new(settings());
    bench.scrape(Some("a 1\nb 1\n"));
    let rules: Vec<RelabelConfig> =
        serde_yaml::from_str("[{source_labels: [__name__], regex: b, action: drop}]").unwrap();
    bench.ingester.configure(SampleSettings { relabel: rules.into(), ..settings() });
    expect(
        bench.scrape(Some("a 1\nb 1\n")),
        &["{\"a\"} 1 @2000", "{\"b\"} stale @2000"],
        report(1, 2, 1, 1, 2000),
    );
}
