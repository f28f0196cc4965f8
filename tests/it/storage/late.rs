//! Samples that come out of order: the rules, readers, blocks, restarts, and the real
//! Prometheus on the same directory.

use std::time::Duration;

use rand::seq::SliceRandom;
use watchfire::remote_write;
use watchfire::remote_write::proto;
use watchfire::storage::AppendError;
use watchfire::storage::tsdb::{Follower, TsdbMetrics};
use watchfire::telemetry::Registry;

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

/// The log of late samples is removed several times between two looks.
#[test]
fn a_follower_that_looks_seldom_has_all_late_samples_at_the_first_look() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = 10_000 * MINUTE;
    let clock = Arc::new(ManualClock::new(start));
    let tsdb = Tsdb::open(dir.path(), options(180 * MINUTE), clock.clone()).expect("a store");
    commit(&tsdb, "interop", 10, start - MINUTE, 0.0).expect("a commit");
    // For which no time goes by: it never opens the directory anew.
    let still = Arc::new(ManualClock::new(start));
    let follower = Follower::open(dir.path(), options(0), still).expect("a follower");
    const HOURS: i64 = 5;
    let newest_segment = || {
        let segments = dir.path().join("wbl").read_dir().expect("a directory");
        let names = segments.map(|s| s.expect("a segment").file_name().into_string());
        names.filter_map(|name| name.ok()?.parse::<u32>().ok()).max().expect("a segment")
    };
    for n in 0..2 {
        let (from, before) = (start + n * HOURS * 60 * MINUTE, newest_segment());
        write_shuffled(&tsdb, &clock, from, from + HOURS * 60 * MINUTE - MINUTE);
        assert!(newest_segment() >= before + 2, "{before} and {}", newest_segment());
        follower.poll().expect("a look");
        assert_eq!(held(&follower.store()), held(&tsdb), "after {n}");
    }
}

/// A store with its registry.
fn counted(dir: &Path, clock: Arc<dyn watchfire::model::Clock>) -> (Arc<Tsdb>, Registry) {
    let mut registry = Registry::default();
    let metrics = TsdbMetrics::new(&mut registry);
    let tsdb = Tsdb::open(dir, TsdbOptions { metrics, ..options(180 * MINUTE) }, clock);
    (tsdb.expect("a store"), registry)
}

fn value_of(registry: &Registry, metric: &str) -> usize {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("metrics");
    let value = text.lines().find_map(|l| l.strip_prefix(metric)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {metric} in {text}"))
}

/// Bytes 0x80 and up in place of the encoding of a chunk: see `chunks_head`.
fn late_chunks_in_files(data: &Path) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(data.join("chunks_head")).expect("a directory") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let mut at = 8;
        while bytes.get(at..at + 30).is_some_and(|fixed| fixed.iter().any(|b| *b != 0)) {
            found += usize::from(bytes[at + 24] & 0x80 != 0);
            let (mut len, mut shift) = (0, 0);
            at += 25;
            loop {
                len |= usize::from(bytes[at] & 0x7f) << shift;
                shift += 7;
                at += 1;
                if bytes[at - 1] < 0x80 {
                    break;
                }
            }
            at += len + 4;
        }
    }
    found
}

#[test]
fn full_chunks_out_of_order_are_in_files_and_neither_lost_nor_doubled_by_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let newest = 1000 * MINUTE;
    let clock = Arc::new(ManualClock::new(newest));
    let (tsdb, registry) = counted(dir.path(), clock.clone());
    commit(&tsdb, "interop", 10, newest, 0.0).expect("a commit");
    let mut offsets: Vec<i64> = (1..=200).collect();
    offsets.shuffle(&mut rand::rng());
    for n in &offsets {
        commit(&tsdb, "interop", 10, newest - n * 7_001, *n as f64).expect("a commit");
    }
    // As many at once, and nothing after: maintenance finds them.
    let mut appender = tsdb.appender();
    for n in 1..=200 {
        appender.append(None, &labels("interop", 7), newest - n * 7_001 - 1, -1.0).expect("taken");
    }
    appender.commit().expect("a commit");
    tsdb.maintain().expect("maintenance");
    let expected = held(&tsdb);
    assert_eq!(expected.len(), 401);
    let (chunks, mapped) =
        (value_of(&registry, "prometheus_tsdb_head_chunks "), late_chunks_in_files(dir.path()));
    assert!(mapped >= 10 * 6 + 2, "{mapped}");
    assert_eq!(value_of(&registry, "prometheus_tsdb_mmap_chunks_total "), mapped);
    // As after a crash, several times; then the file is damaged, then gone.
    drop(tsdb);
    for what in ["sound", "once more", "damaged", "gone"] {
        let file = dir.path().join("chunks_head/000001");
        if what == "damaged" {
            let mut bytes = std::fs::read(&file).expect("a file");
            bytes[3000] ^= 1;
            std::fs::write(&file, bytes).expect("a damaged file");
        } else if what == "gone" {
            std::fs::remove_dir_all(dir.path().join("chunks_head")).expect("a removal");
        }
        let (tsdb, registry) = counted(dir.path(), clock.clone());
        assert_eq!(held(&tsdb), expected, "{what}");
        if what != "damaged" && what != "gone" {
            assert_eq!(value_of(&registry, "prometheus_tsdb_head_chunks "), chunks, "{what}");
        }
        assert_eq!(value_of(&registry, "prometheus_tsdb_wal_corruptions_total "), 0);
    }
    // When blocks have them the files go, and what is deleted there does not come back.
    let (tsdb, _registry) = counted(dir.path(), clock.clone());
    for n in 1..=8 {
        clock.set_ms(newest + n * 60 * MINUTE);
        commit(&tsdb, "interop", 10, newest + n * 60 * MINUTE, 0.0).expect("a commit");
    }
    for _ in 0..4 {
        tsdb.maintain().expect("maintenance");
    }
    assert!(!tsdb.block_metas().is_empty());
    assert_eq!((held(&tsdb).len(), late_chunks_in_files(dir.path())), (409, 0));
    tsdb.delete_series(&[Vec::new()], 0, newest).expect("a deletion");
    assert_eq!(held(&tsdb).len(), 8);
    drop(tsdb);
    assert_eq!(held(&counted(dir.path(), clock).0).len(), 8);
}

#[test]
fn prometheus_reads_our_mapped_chunks_out_of_order_and_we_read_its() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let newest = now_ms() / MINUTE * MINUTE - MINUTE;
    let clock = Arc::new(ManualClock::new(newest));
    let (tsdb, _registry) = counted(&data, clock.clone());
    let mut offsets: Vec<i64> = (1..=300).collect();
    offsets.shuffle(&mut rand::rng());
    let series = Labels::from_pairs([("__name__", "sent"), ("series", "7")]);
    let add = |tsdb: &Tsdb, ts: i64, v: f64| {
        let mut appender = tsdb.appender();
        appender.append(None, &series, ts, v).expect("an acceptable sample");
        appender.commit().expect("a commit");
    };
    add(&tsdb, newest, 0.0);
    offsets.iter().for_each(|n| add(&tsdb, newest - n * 4_001, *n as f64));
    let mut expected = held(&tsdb);
    let mapped = late_chunks_in_files(&data);
    assert!(expected.len() == 301 && mapped >= 9, "{mapped}");
    drop(tsdb);
    let flags = ["--web.enable-remote-write-receiver"];
    let Some((mut program, url)) = prometheus_with(dir.path(), TAKES, &flags) else { return };
    assert_eq!(query(&url, "sent[2h]"), expected);
    // It goes on in the same log and the same files.
    for n in &offsets {
        send(&url, &[(newest - n * 4_001 - 1, *n as f64)]);
    }
    expected = query(&url, "sent[2h]");
    assert_eq!(expected.len(), 601);
    // Killed, it leaves in no file what it has not flushed; the log has it then.
    let status = program.terminate(Duration::from_secs(60)).expect("it ends");
    assert!(status.success(), "{}", program.log());
    assert!(late_chunks_in_files(&data) >= mapped + 8, "{}", late_chunks_in_files(&data));
    for _ in 0..2 {
        let (tsdb, registry) = counted(&data, clock.clone());
        assert_eq!(held(&tsdb), expected);
        let chunks = value_of(&registry, "prometheus_tsdb_head_chunks ");
        assert!(chunks <= 601 / 32 + 3, "{chunks}: none is there twice");
    }
    let follower = Follower::open(&data, options(0), clock).expect("a follower");
    assert_eq!(held(&follower.store()), expected);
}

#[test]
fn of_two_values_of_one_time_the_same_counts_wherever_they_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = 1200 * MINUTE;
    let clock = Arc::new(ManualClock::new(first));
    let open = || {
        let options = TsdbOptions { block_range_max_ms: 1080 * MINUTE, ..options(1200 * MINUTE) };
        Tsdb::open(dir.path(), options, clock.clone()).expect("a store")
    };
    let mut tsdb = open();
    let in_order = |n: i64| (first + n * 20 * MINUTE, n as f64);
    let mut expected: BTreeMap<i64, f64> = BTreeMap::new();
    let mut levels = 0;
    for n in 0..60 {
        let (ts, v) = in_order(n);
        clock.set_ms(ts);
        assert_eq!(append(&tsdb, &[(ts, v)]), [Ok(())]);
        expected.insert(ts, v);
        // In order, and then out of order at the same time, at once and much later; out of
        // order twice, with hours and blocks between.
        for back in [1, 4, 11, 20] {
            let late = ts - back * 20 * MINUTE;
            if late >= first {
                let value = -(n as f64) - back as f64 / 100.0;
                append(&tsdb, &[(late, value), (late + MINUTE, value)]);
                expected.entry(late + MINUTE).or_insert(value);
            }
        }
        let check = |tsdb: &Tsdb, when: &str| {
            let found = everything(tsdb)[&labels("m", 0).to_string()].clone();
            assert_eq!(found, expected.clone().into_iter().collect::<Vec<_>>(), "{n} {when}");
        };
        check(&tsdb, "in memory");
        for _ in 0..3 {
            tsdb.maintain().expect("maintenance");
            check(&tsdb, "maintained");
        }
        if n % 7 == 0 {
            drop(tsdb);
            tsdb = open();
            check(&tsdb, "after a restart");
        }
        levels =
            levels.max(tsdb.block_metas().iter().map(|b| b.compaction.level).max().unwrap_or(0));
    }
    assert!(levels >= 3, "{levels}");
}
