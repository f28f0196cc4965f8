//! The embedded store through its ports: append rules, consistent views, blocks, crashes,
//! and the real Prometheus on the same directory.

mod blocks;
mod crash;
mod faults;
mod follow;
mod head_chunks;
mod interop;
mod interop_histograms;
mod isolation;
mod late;
mod lookups;
mod model;
mod rules;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use watchfire::model::{Labels, MatchOp, Matcher};
use watchfire::storage::tsdb::{Tsdb, TsdbOptions};
use watchfire::storage::{LabelRequest, SelectHints, SelectRequest, Sink, Source, StorageError};
use watchfire::telemetry::clock::ManualClock;
use watchfire::vector::RawSamples;

/// Samples per series, as text.
type Samples = BTreeMap<String, Vec<(i64, f64)>>;

fn open_with(dir: &Path, options: TsdbOptions) -> Result<Arc<Tsdb>, StorageError> {
    Tsdb::open(dir, options, Arc::new(ManualClock::new(0)))
}

fn open(dir: &Path) -> Arc<Tsdb> {
    open_with(dir, TsdbOptions::default()).expect("a store")
}

fn labels(name: &str, series: usize) -> Labels {
    Labels::from_pairs([("__name__", name), ("series", &series.to_string())])
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).expect("a valid matcher")
}

fn request(matchers: Vec<Matcher>, from_ms: i64, to_ms: i64) -> SelectRequest {
    SelectRequest { matchers, from_ms, to_ms, hints: SelectHints::default() }
}

/// What a select finds, decoded. Series without a sample in the interval are left out.
fn select(tsdb: &Tsdb, matchers: Vec<Matcher>, from_ms: i64, to_ms: i64) -> Samples {
    let request = request(matchers, from_ms, to_ms);
    let set = tsdb.select(&request).now_or_never().expect("the store never waits").expect("a set");
    let mut found = Samples::new();
    let mut raw = RawSamples::default();
    let mut last: Option<Labels> = None;
    for series in &set.series {
        assert!(last.as_ref() < Some(series.labels()), "sorted, each label set once");
        last = Some(series.labels().clone());
        raw.clear();
        series.read_into(from_ms, to_ms, &mut raw).expect("samples");
        assert!(raw.ts.is_sorted_by(|a, b| a < b), "in time order, each time once");
        if !raw.ts.is_empty() {
            let samples = raw.ts.iter().copied().zip(raw.vs.iter().copied()).collect();
            found.insert(series.labels().to_string(), samples);
        }
    }
    found
}

/// Everything that is stored.
fn everything(tsdb: &Tsdb) -> Samples {
    select(tsdb, Vec::new(), i64::MIN, i64::MAX)
}

fn label_values(tsdb: &Tsdb, name: &str, request: &LabelRequest) -> Vec<String> {
    tsdb.label_values(name, request)
        .now_or_never()
        .expect("the store never waits")
        .expect("values")
        .values
}

fn label_names(tsdb: &Tsdb, request: &LabelRequest) -> Vec<String> {
    tsdb.label_names(request).now_or_never().expect("the store never waits").expect("names").values
}

/// Commits one sample for each of `series` series.
fn commit(tsdb: &Tsdb, name: &str, series: usize, ts: i64, value: f64) -> Result<(), StorageError> {
    let mut appender = tsdb.appender();
    for i in 0..series {
        appender.append(None, &labels(name, i), ts, value).expect("an acceptable sample");
    }
    appender.commit()
}
