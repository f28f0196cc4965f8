//! Samples that come out of order: the rules, readers, blocks, restarts, and the real
//! Prometheus on the same directory.

use std::time::Duration;

use rand::seq::SliceRandom;
use watchfire::remote_write;
use watchfire::remote_write::proto;
use watchfire::storage::AppendError;
use watchfire::storage::tsdb::Follower;

use super::interop::{now_ms, prometheus_with, query};
use super::*;
use crate::support::until;

const MINUTE: i64 = 60_000;

fn options(window_ms: i64) -> TsdbOptions {
    TsdbOptions { out_of_order_window_ms: window_ms, ..Default::default() }
}

fn append(tsdb: &Tsdb, samples: &[(i64, f64)]) -> Vec<Result<(), AppendError>> {
    let mut appender = tsdb.appender();
    let results = samples
        .iter()
        .map(|(ts, v)| appender.append(None, &labels("m", 0), *ts, *v).map(drop))
        .collect();
    appender.commit().expect("a commit");
    results
}

#[test]
fn the_window_decides_and_may_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open_with(dir.path(), options(10 * MINUTE)).expect("a store");
    let newest = 1000 * MINUTE;
    assert_eq!(append(&tsdb, &[(newest, 1.0)]), [Ok(())]);
    assert_eq!(
        append(&tsdb, &[(newest - 10 * MINUTE, 2.0), (newest - 10 * MINUTE - 1, 3.0)]),
        [Ok(()), Err(AppendError::TooOld)]
    );
    // Both orders inside one batch, and of two of one time the first counts.
    assert_eq!(
        append(&tsdb, &[(newest + 20, 4.0), (newest + 10, 5.0), (newest + 10, 6.0)]),
        [Ok(()), Ok(()), Ok(())]
    );
    assert_eq!(
        append(&tsdb, &[(newest + 20, 7.0)]),
        [Err(AppendError::DuplicateForTimestamp)],
        "the newest one is told apart as ever"
    );
    let expected =
        vec![(newest - 10 * MINUTE, 2.0), (newest, 1.0), (newest + 10, 5.0), (newest + 20, 4.0)];
    let held = |tsdb: &Tsdb| everything(tsdb)[&labels("m", 0).to_string()].clone();
    assert_eq!(held(&tsdb), expected);
    tsdb.set_out_of_order_window_ms(0).expect("a window");
    assert_eq!(append(&tsdb, &[(newest + 5, 0.0)]), [Err(AppendError::OutOfOrder)]);
    assert_eq!(append(&tsdb, &[(1, 0.0)]), [Err(AppendError::OutOfBounds)]);
    drop(tsdb);
    // What was taken stays, also where nothing more is.
    let tsdb = open(dir.path());
    assert_eq!(held(&tsdb), expected);
    assert_eq!(append(&tsdb, &[(newest + 5, 0.0)]), [Err(AppendError::OutOfOrder)]);
    tsdb.delete_series(&[Vec::new()], newest - 20 * MINUTE, newest + 10).expect("a deletion");
    assert_eq!(held(&tsdb), [(newest + 20, 4.0)]);
}

/// In order each minute, and half a minute off those, up to `behind` minutes late. Returns
/// what there is in the end.
fn write_shuffled(tsdb: &Tsdb, clock: &ManualClock, from: i64, to: i64) -> Vec<(i64, String)> {
    let mut waiting = Vec::new();
    let mut expected = Vec::new();
    let mut rng = rand::rng();
    for n in 0..=(to - from) / MINUTE {
        let ts = from + n * MINUTE;
        clock.set_ms(ts);
        commit(tsdb, "interop", 10, ts, n as f64).expect("a commit");
        expected.push((ts, format!("{}", n as f64)));
        waiting.push((ts + MINUTE / 2, n as f64 + 0.25));
        if waiting.len() == 90 || ts == to {
            waiting.shuffle(&mut rng);
            for (ts, v) in waiting.drain(..).filter(|(t, _)| *t < ts) {
                commit(tsdb, "interop", 10, ts, v).expect("a commit");
                expected.push((ts, format!("{v}")));
            }
        }
        if n % 30 == 0 {
            tsdb.maintain().expect("maintenance");
        }
    }
    expected.sort_by_key(|(ts, _)| *ts);
    expected
}

fn held(tsdb: &Tsdb) -> Vec<(i64, String)> {
    let ours = select(tsdb, vec![Matcher::equal("series", "7")], i64::MIN, i64::MAX);
    ours.values().flatten().map(|(ts, v)| (*ts, format!("{v}"))).collect()
}

const TAKES: &str = "storage: {tsdb: {out_of_order_time_window: 3h}}\n";

#[test]
fn prometheus_serves_blocks_and_log_of_samples_that_came_to_us_out_of_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let end = now_ms() / MINUTE * MINUTE - MINUTE;
    let start = end - 11 * 60 * MINUTE;
    let clock = Arc::new(ManualClock::new(start));
    let reopen = || Tsdb::open(&data, options(180 * MINUTE), clock.clone()).expect("a store");
    let tsdb = reopen();
    let expected = write_shuffled(&tsdb, &clock, start, end);
    assert!(expected.len() > 1200, "{}", expected.len());
    assert_eq!(held(&tsdb), expected);
    let late = |tsdb: &Tsdb| {
        tsdb.block_metas().iter().filter(|b| b.compaction.from_out_of_order()).count()
    };
    assert!(late(&tsdb) > 0 && late(&tsdb) < tsdb.block_metas().len());
    // As after a crash.
    drop(tsdb);
    let tsdb = reopen();
    assert_eq!(held(&tsdb), expected);
    drop(tsdb);
    assert!(data.join("wbl").read_dir().expect("the log").count() > 0);
    let Some((mut program, url)) = prometheus_with(dir.path(), TAKES, &[]) else { return };
    let expr = "interop{series=\"7\"}[12h]";
    assert_eq!(query(&url, expr), expected);
    program.kill();
    assert_eq!(held(&reopen()), expected);
}

/// Sends samples of `sent{series="7"}` to Prometheus.
pub(super) fn send(url: &str, samples: &[(i64, f64)]) {
    let label = |name: &str, value: &str| proto::Label { name: name.into(), value: value.into() };
    let series = proto::TimeSeries {
        labels: vec![label("__name__", "sent"), label("series", "7")],
        samples: samples
            .iter()
            .map(|(timestamp, value)| proto::Sample { value: *value, timestamp: *timestamp })
            .collect(),
        ..Default::default()
    };
    let request = proto::WriteRequest { timeseries: vec![series], ..Default::default() };
    let body = remote_write::encode(&request).expect("a request");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let status = runtime.expect("a runtime").block_on(async {
        let response = reqwest::Client::new()
            .post(format!("{url}/api/v1/write"))
            .header("Content-Encoding", "snappy")
            .header("Content-Type", "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(body)
            .send()
            .await;
        response.expect("an answer").status()
    });
    assert!(status.is_success(), "{status}");
}

#[test]
fn we_serve_and_follow_what_came_to_prometheus_out_of_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = [
        "--web.enable-remote-write-receiver",
        "--storage.tsdb.min-block-duration=4s",
        "--storage.tsdb.max-block-duration=12s",
    ];
    let Some((mut program, url)) = prometheus_with(dir.path(), TAKES, &flags) else { return };
    let data = dir.path().join("data");
    let clock = Arc::new(watchfire::telemetry::clock::SystemClock::default());
    let follower = Follower::open(&data, options(0), clock.clone()).expect("a follower");
    let start = now_ms() - 60_000;
    send(&url, &[(start, 0.0)]);
    let mut rng = rand::rng();
    let mut n = 0;
    let late_blocks = || {
        let blocks = follower.store().block_metas();
        blocks.iter().filter(|b| b.compaction.from_out_of_order()).count()
    };
    let whole = until(Duration::from_secs(90), || {
        // One in order, and several behind it.
        n += 1;
        let newest = start + n * 500;
        send(&url, &[(newest, n as f64)]);
        let mut late: Vec<i64> = (1..8).map(|i| newest - i * 61).collect();
        late.shuffle(&mut rng);
        late.iter().for_each(|ts| send(&url, &[(*ts, *ts as f64)]));
        let theirs = query(&url, "sent[10m]");
        follower.poll().expect("a look");
        assert_eq!(held(&follower.store()), theirs, "after {n}");
        (n > 60 && late_blocks() > 0 && follower.store().block_metas().len() > 3).then_some(())
    });
    assert!(whole.is_some(), "{n} rounds, {} late blocks", late_blocks());
    let theirs = query(&url, "sent[10m]");
    program.kill();
    let tsdb = Tsdb::open(&data, options(MINUTE), clock).expect("a store");
    assert_eq!(held(&tsdb), theirs);
    tsdb.maintain().expect("maintenance");
    assert_eq!(held(&tsdb), theirs);
}
