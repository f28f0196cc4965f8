//! What may be appended, what is found, what is kept: Prometheus' rules.

use std::sync::Arc;

use watchfire::model::histogram::Span;
use watchfire::model::metadata::{Metadata, MetricType};
use watchfire::model::value::{is_stale_nan, stale_nan};
use watchfire::model::{FloatHistogram, Labels, MatchOp};
use watchfire::storage::tsdb::{TsdbOptions, WalCompression, WalSync};
use watchfire::storage::{AppendError, LabelRequest, Sink, Source};
use watchfire::telemetry::clock::ManualClock;
use watchfire::vector::RawSamples;

use super::*;

#[test]
fn samples_are_refused_as_prometheus_refuses_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    let hour = 3_600_000;
    commit(&tsdb, "up", 1, 10 * hour, 1.0).expect("a commit");
    commit(&tsdb, "other", 1, 10 * hour, 1.0).expect("a commit");
    let check = |ts: i64, value: f64, expected: Result<(), AppendError>| {
        let mut appender = tsdb.appender();
        assert_eq!(appender.append(None, &labels("up", 0), ts, value).map(|_| ()), expected);
    };
    check(10 * hour, 1.0, Ok(()));
    check(10 * hour, 2.0, Err(AppendError::DuplicateForTimestamp));
    check(10 * hour - 1, 1.0, Err(AppendError::OutOfOrder));
    check(9 * hour - 1, 1.0, Err(AppendError::OutOfBounds));
    check(10 * hour + 1, f64::NAN, Ok(()));
    let empty = tsdb.appender().append(None, &Labels::empty(), 11 * hour, 1.0);
    assert_eq!(empty, Err(AppendError::Invalid("empty labelset".to_owned())));
    // Another series may start behind the first, inside half a chunk range.
    let mut appender = tsdb.appender();
    assert!(appender.append(None, &labels("late", 0), 9 * hour, 1.0).is_ok());
}

#[test]
fn a_dropped_batch_leaves_nothing_and_a_wrong_hint_is_harmless() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    let mut dropped = tsdb.appender();
    let hint = dropped.append(None, &labels("up", 0), 1, 1.0).expect("a sample");
    drop(dropped);
    assert!(everything(&tsdb).is_empty());
    assert!(label_names(&tsdb, &LabelRequest { to_ms: i64::MAX, ..Default::default() }).is_empty());
    let mut appender = tsdb.appender();
    appender.append(Some(hint), &labels("down", 0), 1, 2.0).expect("a sample");
    appender.commit().expect("a commit");
    assert_eq!(
        everything(&tsdb).into_iter().collect::<Vec<_>>(),
        [(r#"{__name__="down", series="0"}"#.to_owned(), vec![(1, 2.0)])]
    );
}

#[test]
fn a_batch_that_contradicts_itself_keeps_the_first_sample() {
    let dir = tempfile::tempdir().expect("a directory");
    let expected = vec![(5, 1.0), (7, 3.0)];
    let tsdb = open(dir.path());
    let mut appender = tsdb.appender();
    for (ts, value) in [(5, 1.0), (5, 2.0), (4, 2.0), (7, 3.0)] {
        appender.append(None, &labels("up", 0), ts, value).expect("checked against commits only");
    }
    appender.commit().expect("a commit");
    assert_eq!(everything(&tsdb).into_values().next(), Some(expected.clone()));
    tsdb.close().expect("a close");
    // The log has all four; replay decides as the commit did.
    assert_eq!(everything(&open(dir.path())).into_values().next(), Some(expected));
}

#[test]
fn everything_survives_a_restart_under_every_compression() {
    for compression in [WalCompression::None, WalCompression::Snappy, WalCompression::Zstd] {
        let dir = tempfile::tempdir().expect("a directory");
        let options = || TsdbOptions {
            wal_compression: compression,
            wal_segment_bytes: 64 << 10,
            wal_sync: WalSync::EachCommit,
            ..Default::default()
        };
        let mut before = Samples::new();
        for restart in 0..3 {
            let tsdb = open_with(dir.path(), options()).expect("a store");
            assert_eq!(everything(&tsdb), before);
            for i in 0..200 {
                let ts = (restart * 200 + i) * 15_000;
                commit(&tsdb, "m", 20, ts, ts as f64 / 7.0).expect("a commit");
            }
            before = everything(&tsdb);
            assert_eq!(before.len(), 20);
            assert_eq!(
                before.values().map(Vec::len).sum::<usize>() as i64,
                20 * 200 * (restart + 1)
            );
            if restart > 0 {
                tsdb.close().expect("a close");
            }
        }
    }
}

#[test]
fn histograms_stale_markers_and_metadata_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let series = labels("latency", 0);
    let histogram = Arc::new(FloatHistogram {
        schema: 1,
        count: 3.0,
        sum: 2.5,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0],
        ..Default::default()
    });
    let metadata =
        Metadata { kind: MetricType::Histogram, unit: "seconds".into(), help: "How long.".into() };
    let tsdb = open(dir.path());
    let mut appender = tsdb.appender();
    let broken = FloatHistogram { positive_buckets: vec![1.0], ..Default::default() };
    let refused = appender.append_histogram(None, &series, 1, &Arc::new(broken));
    assert!(matches!(refused, Err(AppendError::Invalid(_))), "{refused:?}");
    appender.append_histogram(None, &series, 1, &histogram).expect("a histogram");
    appender.append(None, &series, 2, 7.0).expect("a float after it");
    appender.append_histogram(None, &series, 3, &histogram).expect("and a histogram again");
    appender.append_metadata("latency", &metadata);
    appender.commit().expect("a commit");
    let mut appender = tsdb.appender();
    appender.append(None, &series, 4, stale_nan()).expect("the marker of a histogram series");
    appender.commit().expect("a commit");
    for _ in 0..2 {
        tsdb.close().expect("a close");
        let tsdb = open(dir.path());
        assert_eq!(tsdb.metadata("latency"), Some(metadata.clone()));
        let all = request(Vec::new(), 0, 10);
        let set = tsdb.select(&all).now_or_never().expect("ready").expect("a set");
        let mut raw = RawSamples::default();
        set.series[0].read_into(0, 10, &mut raw).expect("samples");
        assert_eq!((raw.ts, raw.vs), (vec![2], vec![7.0]));
        let times: Vec<_> = raw.hist.iter().map(|(ts, _)| *ts).collect();
        assert_eq!((times, &raw.hist[0].1), (vec![1, 3, 4], &histogram));
        assert!(is_stale_nan(raw.hist[2].1.sum));
        tsdb.close().expect("a close");
    }
}

#[test]
fn label_look_ups_are_sorted_and_respect_time_and_matchers() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    commit(&tsdb, "old", 2, 1_000, 1.0).expect("a commit");
    commit(&tsdb, "new", 12, 900_000, 1.0).expect("a commit");
    let mut appender = tsdb.appender();
    appender.append(None, &Labels::from_pairs([("zone", "a")]), 900_000, 1.0).expect("a sample");
    appender.commit().expect("a commit");
    let all = |from_ms, to_ms| LabelRequest { matcher_sets: Vec::new(), from_ms, to_ms };
    assert_eq!(label_names(&tsdb, &all(0, 2_000)), ["__name__", "series"]);
    assert_eq!(label_names(&tsdb, &all(0, i64::MAX)), ["__name__", "series", "zone"]);
    assert_eq!(label_values(&tsdb, "__name__", &all(0, i64::MAX)), ["new", "old"]);
    assert_eq!(label_values(&tsdb, "series", &all(0, 2_000)), ["0", "1"]);
    assert!(label_values(&tsdb, "nope", &all(0, i64::MAX)).is_empty());
    let sets = LabelRequest {
        matcher_sets: vec![
            vec![matcher(MatchOp::Regex, "series", "1.")],
            vec![
                matcher(MatchOp::Equal, "__name__", "old"),
                matcher(MatchOp::NotEqual, "series", "0"),
            ],
        ],
        ..all(0, i64::MAX)
    };
    assert_eq!(label_values(&tsdb, "series", &sets), ["1", "10", "11"]);
    let found = select(&tsdb, vec![matcher(MatchOp::Equal, "series", "")], 0, i64::MAX);
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [r#"{zone="a"}"#]);
}

#[test]
fn retention_truncates_memory_and_log_and_nothing_newer() {
    let dir = tempfile::tempdir().expect("a directory");
    let hour = 3_600_000;
    let clock = Arc::new(ManualClock::new(0));
    let options = || TsdbOptions {
        retention_ms: 4 * hour,
        chunk_range_ms: hour,
        wal_segment_bytes: 64 << 10,
        ..Default::default()
    };
    let tsdb = Tsdb::open(dir.path(), options(), clock.clone()).expect("a store");
    let mut biggest_log = 0;
    for minute in 0..60 * 48 {
        let ts = minute * 60_000;
        clock.set_ms(ts);
        // A series an hour, which then ends: churn.
        let name = format!("churn_{:02}", minute / 60);
        let mut appender = tsdb.appender();
        for i in 0..10 {
            appender.append(None, &labels(&name, i), ts, minute as f64).expect("a sample");
        }
        appender.append(None, &labels("steady", 0), ts, minute as f64).expect("a sample");
        appender.commit().expect("a commit");
        if minute % 10 == 0 {
            tsdb.maintain().expect("maintenance");
            biggest_log = biggest_log.max(tsdb.stats(10).wal_bytes);
        }
    }
    let stats = tsdb.stats(10);
    assert!(stats.series < 80, "{} series", stats.series);
    assert!(biggest_log < 600 << 10, "{biggest_log} bytes of log");
    let check = |tsdb: &Tsdb| {
        let found = everything(tsdb);
        let steady = &found[r#"{__name__="steady", series="0"}"#];
        assert!(steady[0].0 <= (48 - 4) * hour && steady[0].0 >= (48 - 7) * hour);
        assert_eq!(steady.len() as i64, 60 * 48 - steady[0].0 / 60_000);
        assert_eq!(found[r#"{__name__="churn_46", series="9"}"#].len(), 60);
        assert!(!found.contains_key(r#"{__name__="churn_30", series="9"}"#));
    };
    check(&tsdb);
    tsdb.close().expect("a close");
    let tsdb = Tsdb::open(dir.path(), options(), clock).expect("a store");
    tsdb.maintain().expect("maintenance");
    check(&tsdb);
}

#[test]
fn a_series_that_left_and_came_back_keeps_its_new_samples() {
    let dir = tempfile::tempdir().expect("a directory");
    let hour = 3_600_000;
    let clock = Arc::new(ManualClock::new(100 * hour));
    let options =
        || TsdbOptions { retention_ms: hour, chunk_range_ms: hour / 2, ..Default::default() };
    let tsdb = Tsdb::open(dir.path(), options(), clock.clone()).expect("a store");
    commit(&tsdb, "a", 1, hour, 1.0).expect("a commit");
    // The hint outlives the series.
    let mut appender = tsdb.appender();
    let hint = appender.append(None, &labels("a", 0), hour, 1.0).expect("a repetition");
    drop(appender);
    let mut waiting = tsdb.appender();
    waiting.append(Some(hint), &labels("a", 0), 50 * hour, 2.0).expect("a sample");
    commit(&tsdb, "b", 1, 10 * hour, 1.0).expect("a commit");
    tsdb.maintain().expect("maintenance");
    assert_eq!(tsdb.stats(1).series, 1);
    waiting.commit().expect("a commit to a series that is gone");
    let expected = vec![(50 * hour, 2.0)];
    let with_block: Vec<_> = [(hour, 1.0)].into_iter().chain(expected.clone()).collect();
    assert_eq!(everything(&tsdb)[&labels("a", 0).to_string()], with_block);
    tsdb.maintain().expect("maintenance");
    assert_eq!(everything(&tsdb)[&labels("a", 0).to_string()], expected, "its block is too old");
    for _ in 0..3 {
        tsdb.close().expect("a close");
        let tsdb = Tsdb::open(dir.path(), options(), clock.clone()).expect("a store");
        tsdb.maintain().expect("maintenance");
        assert_eq!(everything(&tsdb)[&labels("a", 0).to_string()], expected);
        tsdb.close().expect("a close");
    }
}

#[test]
fn what_happens_is_counted_under_prometheus_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut registry = watchfire::telemetry::Registry::default();
    let metrics = watchfire::storage::tsdb::TsdbMetrics::new(&mut registry);
    let tsdb =
        open_with(dir.path(), TsdbOptions { metrics, ..Default::default() }).expect("a store");
    let hour = 3_600_000;
    commit(&tsdb, "up", 3, 10 * hour, 1.0).expect("a commit");
    let mut refused = tsdb.appender();
    for (ts, value) in [(10 * hour - 1, 1.0), (1, 1.0)] {
        refused.append(None, &labels("up", 0), ts, value).expect_err("too old");
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("an exposition");
    for line in [
        "prometheus_tsdb_head_series 3",
        "prometheus_tsdb_head_series_created_total 3",
        "prometheus_tsdb_head_chunks 3",
        "prometheus_tsdb_head_samples_appended_total{type=\"float\"} 3",
        "prometheus_tsdb_head_samples_appended_total{type=\"histogram\"} 0",
        "prometheus_tsdb_out_of_order_samples_total{type=\"float\"} 1",
        "prometheus_tsdb_out_of_bound_samples_total{type=\"float\"} 1",
        "prometheus_tsdb_head_max_time 36000000",
        "prometheus_tsdb_head_active_appenders 1",
        "prometheus_tsdb_wal_corruptions_total 0",
        "prometheus_tsdb_wal_segment_current 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
    }
}

#[test]
fn a_directory_in_use_or_not_usable_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    let check = |path: &std::path::Path, text: &str| {
        let error = open_with(path, TsdbOptions::default()).err().expect("refused").to_string();
        assert!(error.contains(text) && error.contains(&path.display().to_string()), "{error}");
    };
    check(dir.path(), "locked by another process");
    tsdb.close().expect("a close");
    assert!(commit_refused(&tsdb));
    open(dir.path()).close().expect("free again");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    check(&file, "create data directory");
    check(std::path::Path::new("/proc/watchfire-data"), "create data directory");
    std::fs::rename(dir.path().join("wal/00000000"), dir.path().join("wal/00000007"))
        .expect("a rename");
    commit(&open(dir.path()), "up", 1, 1, 1.0).expect("a commit");
    drop(open(dir.path()));
    std::fs::rename(dir.path().join("wal/00000007"), dir.path().join("wal/00000003"))
        .expect("a rename");
    check(dir.path(), "segments are not sequential: 00000003");
}

fn commit_refused(tsdb: &Tsdb) -> bool {
    tsdb.appender().append(None, &labels("up", 0), 1, 1.0)
        == Err(AppendError::Storage(watchfire::storage::StorageError::Closed))
}
