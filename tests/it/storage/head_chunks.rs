//! Finished chunks of the head in files, and snapshots of the rest: what they spare a start,
//! and that nothing depends on them. To show that they are read, the log is taken away.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use watchfire::model::FloatHistogram;
use watchfire::storage::tsdb::TsdbMetrics;
use watchfire::telemetry::Registry;

use super::interop::{now_ms, prometheus_with, query};
use super::late::send;
use super::*;
use crate::support::http_get;

const STEP: i64 = 15_000;

fn snapshots() -> TsdbOptions {
    TsdbOptions { memory_snapshots: true, ..Default::default() }
}

/// Enough samples for several chunks of each series.
fn fill(tsdb: &Tsdb, from: i64, n: i64) {
    for i in 0..n {
        commit(tsdb, "interop", 20, from + i * STEP, (i * i % 1009) as f64).expect("a commit");
    }
}

/// Makes nothing of the log's segments: zeros are padding.
fn blank_log(data: &Path) {
    for entry in fs::read_dir(data.join("wal")).expect("the log") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let len = fs::metadata(&path).expect("a segment").len();
            fs::write(&path, vec![0; len as usize]).expect("a blank segment");
        }
    }
}

fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .expect("a directory")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    found
}

#[test]
fn chunks_in_files_are_read_and_their_loss_costs_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    fill(&tsdb, STEP, 400);
    tsdb.maintain().expect("maintenance");
    fill(&tsdb, STEP * 500, 30);
    let expected = everything(&tsdb);
    assert_eq!(expected.len(), 20);
    let chunks = dir.path().join("chunks_head");
    assert_eq!(files(&chunks, "0").len(), 1);
    // As after a crash, then closed, then with a file that is damaged, then with none.
    drop(tsdb);
    let tsdb = open(dir.path());
    assert_eq!(everything(&tsdb), expected);
    tsdb.close().expect("a close");
    let first = &files(&chunks, "0")[0];
    assert_eq!(fs::metadata(first).expect("a file").len(), 128 << 20, "left as a crash leaves it");
    let mut bytes = fs::read(first).expect("a file");
    bytes[2000] ^= 1;
    fs::write(first, bytes).expect("a damaged file");
    let mut registry = Registry::default();
    let metrics = TsdbMetrics::new(&mut registry);
    let options = TsdbOptions { metrics, ..Default::default() };
    let tsdb = open_with(dir.path(), options).expect("a store");
    assert_eq!(everything(&tsdb), expected);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("metrics");
    assert!(text.contains("prometheus_tsdb_mmap_chunk_corruptions_total 1"), "{text}");
    assert!(fs::metadata(first).expect("a file").len() < 2001, "cut where it was damaged");
    tsdb.close().expect("a close");
    fs::remove_dir_all(&chunks).expect("a removal");
    assert_eq!(everything(&open(dir.path())), expected);
}

#[test]
fn a_snapshot_is_read_instead_of_the_log_and_its_loss_costs_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open_with(dir.path(), snapshots()).expect("a store");
    fill(&tsdb, STEP, 300);
    let mut appender = tsdb.appender();
    for (i, count) in [4.0, 5.5, 2.0, 3.0].into_iter().enumerate() {
        let h = Arc::new(FloatHistogram { count, zero_count: count, ..Default::default() });
        let ts = STEP * (290 + i as i64);
        appender.append_histogram(None, &labels("h", 1), ts, &h).expect("a sample");
    }
    appender.commit().expect("a commit");
    let old = vec![matcher(MatchOp::Equal, "series", "3")];
    tsdb.delete_series(&[old], STEP * 10, STEP * 250).expect("a deletion");
    let expected = everything(&tsdb);
    let histograms = |tsdb: &Tsdb| {
        let request = request(vec![Matcher::equal("__name__", "h")], i64::MIN, i64::MAX);
        let set = tsdb.select(&request).now_or_never().expect("no waiting").expect("a set");
        let mut raw = RawSamples::default();
        set.series[0].read_into(i64::MIN, i64::MAX, &mut raw).expect("samples");
        raw.hist.iter().map(|(ts, h)| (*ts, h.count)).collect::<Vec<_>>()
    };
    let counts = histograms(&tsdb);
    assert_eq!(counts.len(), 4);
    tsdb.close().expect("a close");
    assert_eq!(files(dir.path(), "chunk_snapshot.").len(), 1);
    // A copy without a log: all there is comes from the snapshot and the chunks.
    let copy = tempfile::tempdir().expect("a directory");
    let mut cp = std::process::Command::new("cp");
    cp.arg("-a").arg(dir.path().join(".")).arg(copy.path());
    assert!(cp.status().expect("cp").success());
    blank_log(copy.path());
    let blank = open_with(copy.path(), snapshots()).expect("a store");
    assert_eq!(everything(&blank), expected);
    assert_eq!(histograms(&blank), counts);
    fill(&blank, STEP * 400, 10);
    assert!(files(copy.path(), "chunk_snapshot.").is_empty(), "it is outdated from now on");
    // Damaged, it is told and the log is read.
    let snapshot = &files(&files(dir.path(), "chunk_snapshot.")[0], "0")[0];
    let mut bytes = fs::read(snapshot).expect("a snapshot");
    bytes[300] ^= 1;
    fs::write(snapshot, bytes).expect("a damaged snapshot");
    let tsdb = open_with(dir.path(), snapshots()).expect("a store");
    assert_eq!(everything(&tsdb), expected);
    assert_eq!(histograms(&tsdb), counts);
    // From a snapshot, on, and then from the log alone.
    tsdb.close().expect("a close");
    let tsdb = open_with(dir.path(), snapshots()).expect("a store");
    fill(&tsdb, STEP * 301, 200);
    let expected = everything(&tsdb);
    drop(tsdb);
    assert_eq!(everything(&open(dir.path())), expected);
}

fn metric(url: &str, name: &str) -> Option<String> {
    let (_, text) = http_get(&format!("{url}/metrics")).ok()?;
    text.lines().find_map(|l| Some(l.strip_prefix(name)?.trim().to_owned()))
}

const SNAPSHOTS: &str = "--enable-feature=memory-snapshot-on-shutdown";

#[test]
fn prometheus_starts_from_our_chunks_and_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let start = now_ms() / 1000 * 1000 - 60 * 60_000;
    let tsdb = open_with(&data, snapshots()).expect("a store");
    fill(&tsdb, start, 230);
    let ours = everything(&tsdb)[&labels("interop", 7).to_string()].clone();
    let expected: Vec<_> = ours.iter().map(|(ts, v)| (*ts, format!("{v}"))).collect();
    tsdb.close().expect("a close");
    blank_log(&data);
    let found = prometheus_with(dir.path(), "scrape_configs: []\n", &[SNAPSHOTS]);
    let Some((mut program, url)) = found else { return };
    assert_eq!(query(&url, "interop{series=\"7\"}[2h]"), expected, "{}", program.log());
    for name in [
        "prometheus_tsdb_mmap_chunk_corruptions_total",
        "prometheus_tsdb_snapshot_replay_error_total",
    ] {
        assert_eq!(metric(&url, name).as_deref(), Some("0"));
    }
    program.kill();
}

#[test]
fn we_start_from_chunks_and_snapshot_of_prometheus() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["--web.enable-remote-write-receiver", SNAPSHOTS];
    let found = prometheus_with(dir.path(), "scrape_configs: []\n", &flags);
    let Some((mut program, url)) = found else { return };
    let start = now_ms() / 1000 * 1000 - 60 * 60_000;
    for part in 0..10 {
        let samples: Vec<_> =
            (0..40).map(|i| (start + (part * 40 + i) * 5_000, (i % 7) as f64)).collect();
        send(&url, &samples);
    }
    let theirs = query(&url, "sent[2h]");
    assert_eq!(theirs.len(), 400);
    let status = program.terminate(Duration::from_secs(60)).expect("it ends");
    assert!(status.success(), "{}", program.log());
    let data = dir.path().join("data");
    assert_eq!(files(&data, "chunk_snapshot.").len(), 1);
    blank_log(&data);
    let tsdb = open_with(&data, snapshots()).expect("a store");
    let ours = select(&tsdb, vec![Matcher::equal("series", "7")], i64::MIN, i64::MAX);
    let ours: Vec<_> = ours.values().flatten().map(|(ts, v)| (*ts, format!("{v}"))).collect();
    assert_eq!(ours, theirs);
}
