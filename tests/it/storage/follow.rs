//! A directory that another process writes, read while it does: ours with the writer in the
//! same process, where every step can be looked at, and a real Prometheus'.

use std::time::Duration;

use watchfire::storage::tsdb::Follower;

use super::crash::{SECOND, victim_options};
use super::interop::{QUICK, SCRAPE_SELF, prometheus_with, query};
use super::*;
use crate::support::{Program, free_address, http_get, until};

/// A writer whose log, blocks and retention all turn over within minutes.
fn writer(dir: &Path) -> (Arc<Tsdb>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(0));
    (Tsdb::open(dir, victim_options(), clock.clone()).expect("a store"), clock)
}

fn write(tsdb: &Tsdb, clock: &ManualClock, n: i64) {
    clock.set_ms(n * SECOND);
    commit(tsdb, "m", 5, n * SECOND, n as f64).expect("a commit");
    commit(tsdb, &format!("once_{n}"), 1, n * SECOND, n as f64).expect("a commit");
    if n > 9 {
        // And what comes out of order.
        commit(tsdb, "behind", 2, n * SECOND, 0.0).expect("a commit");
        commit(tsdb, "behind", 2, (n - n % 7 - 1) * SECOND + 500, 1.0).expect("a commit");
    }
    if n % 25 < 2 {
        // Comes and goes, under a new reference each time.
        commit(tsdb, "now_and_then", 1, n * SECOND, n as f64).expect("a commit");
    }
    if n % 10 == 0 {
        tsdb.maintain().expect("maintenance");
    }
}

#[test]
fn a_follower_sees_what_the_writer_sees_at_every_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let (tsdb, clock) = writer(dir.path());
    for n in 1..=30 {
        write(&tsdb, &clock, n);
    }
    let follower = Follower::open(dir.path(), victim_options(), clock.clone()).expect("a follower");
    assert_eq!(everything(&follower.store()), everything(&tsdb));
    for n in 31..=900 {
        write(&tsdb, &clock, n);
        if n == 200 || n == 600 {
            let old = [matcher(MatchOp::Equal, "series", "3")];
            tsdb.delete_series(&[old.to_vec()], (n - 90) * SECOND, (n - 4) * SECOND)
                .expect("a deletion");
        }
        if n % 7 == 0 || n % 10 == 1 {
            follower.poll().expect("a look");
            assert_eq!(everything(&follower.store()), everything(&tsdb), "after {n}");
        }
    }
    follower.poll().expect("a look");
    let seen = follower.store();
    let (theirs, ours) = (tsdb.stats(1).series, seen.stats(1).series);
    assert!(ours <= theirs + 60, "{ours} series are followed in memory, {theirs} written");
    let (theirs, ours) = (tsdb.stats(1).chunks, seen.stats(1).chunks);
    assert!(ours <= theirs + 100, "{ours} chunks are followed in memory, {theirs} written");
    let blocks = |tsdb: &Tsdb| tsdb.block_metas().iter().map(|b| b.ulid).collect::<Vec<_>>();
    assert_eq!(blocks(&seen), blocks(&tsdb));
    // The reader wrote nothing and holds no lock: its owner closes and opens it again.
    tsdb.close().expect("a close");
    let before = everything(&tsdb);
    let (tsdb, clock) = writer(dir.path());
    for n in 901..=950 {
        write(&tsdb, &clock, n);
    }
    follower.poll().expect("a look");
    assert_eq!(everything(&follower.store()), everything(&tsdb));
    assert!(before.len() > 5);
}

#[test]
fn a_follower_that_slept_too_long_begins_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let (tsdb, clock) = writer(dir.path());
    write(&tsdb, &clock, 1);
    let follower = Follower::open(dir.path(), victim_options(), clock.clone()).expect("a follower");
    for n in 2..=1500 {
        write(&tsdb, &clock, n);
    }
    let first = std::fs::read_dir(dir.path().join("wal")).expect("the log").count();
    assert!(first > 1 && !dir.path().join("wal/00000000").exists(), "the log was truncated");
    follower.poll().expect("a look");
    assert_eq!(everything(&follower.store()), everything(&tsdb));
    write(&tsdb, &clock, 1501);
    follower.poll().expect("a look");
    assert_eq!(everything(&follower.store()), everything(&tsdb));
}

#[test]
fn a_record_half_written_is_read_when_it_is_whole() {
    let (dir, copy) = (tempfile::tempdir().expect("a dir"), tempfile::tempdir().expect("a dir"));
    let (tsdb, clock) = writer(dir.path());
    for n in 1..=3 {
        write(&tsdb, &clock, n);
    }
    let whole = std::fs::read(dir.path().join("wal/00000000")).expect("a segment");
    let wal = copy.path().join("wal");
    std::fs::create_dir(&wal).expect("a directory");
    std::fs::write(wal.join("00000000"), &whole[..100]).expect("a segment");
    let follower =
        Follower::open(copy.path(), victim_options(), clock.clone()).expect("a follower");
    for end in (100..=whole.len()).step_by(3).chain([whole.len()]) {
        std::fs::write(wal.join("00000000"), &whole[..end]).expect("a segment");
        follower.poll().expect("a look");
    }
    assert_eq!(everything(&follower.store()), everything(&tsdb));
}

/// What Prometheus answers now, and what is seen in its directory after one look at it.
fn compare(url: &str, follower: &Follower, expr: &str, name: &str) -> usize {
    let theirs = query(url, expr);
    follower.poll().expect("a look");
    let matchers = vec![Matcher::equal("__name__", name)];
    let from = theirs.first().map_or(i64::MAX, |(ts, _)| *ts);
    let to = theirs.last().map_or(i64::MAX, |(ts, _)| *ts);
    let ours = select(&follower.store(), matchers, from, to);
    let ours: Vec<(i64, String)> =
        ours.values().flatten().map(|(ts, v)| (*ts, format!("{v}"))).collect();
    assert_eq!(ours, theirs);
    theirs.len()
}

#[test]
fn a_running_prometheus_is_followed_through_blocks_checkpoints_and_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some((mut program, url)) = prometheus_with(dir.path(), SCRAPE_SELF, &QUICK) else {
        return;
    };
    let data = dir.path().join("data");
    let clock = Arc::new(watchfire::telemetry::clock::SystemClock::default());
    let follower =
        Follower::open(&data, TsdbOptions::default(), clock.clone()).expect("a follower");
    let (expr, name) = ("scrape_samples_scraped[10m]", "scrape_samples_scraped");
    let checkpoint = || {
        let names = std::fs::read_dir(data.join("wal")).expect("the log");
        let mut names = names.filter_map(Result::ok).map(|e| e.file_name());
        names.any(|n| {
            let n = n.to_string_lossy();
            n.starts_with("checkpoint.") && !n.ends_with(".tmp")
        })
    };
    let whole = until(Duration::from_secs(120), || {
        let samples = compare(&url, &follower, expr, name);
        let blocks = follower.store().block_metas().len();
        (samples > 20 && blocks >= 3 && checkpoint()).then_some(samples)
    });
    assert!(whole.is_some(), "blocks and a checkpoint within two minutes");
    program.kill();
    let Some((_program, url)) = prometheus_with(dir.path(), SCRAPE_SELF, &QUICK) else { return };
    let until_samples = whole.unwrap_or(0) + 15;
    let more = until(Duration::from_secs(60), || {
        let samples = compare(&url, &follower, expr, name);
        (samples > until_samples).then_some(samples)
    });
    assert!(more.is_some(), "the log goes on after a crash of its writer");
}

#[test]
fn serve_answers_and_alerts_from_a_directory_that_it_only_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some((_prometheus, url)) = prometheus_with(dir.path(), SCRAPE_SELF, &[]) else { return };
    let rules = dir.path().join("rules.yml");
    let config = dir.path().join("watchfire.yml");
    std::fs::write(&config, "rule_files: [rules.yml]\nglobal: {evaluation_interval: 1s}\n")
        .expect("a file");
    let data = dir.path().join("data");
    let start = |rule: &str| {
        std::fs::write(&rules, format!("groups: [{{name: g, rules: [{rule}]}}]\n"))
            .expect("a file");
        let address = free_address();
        let args = [
            "serve".to_owned(),
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.read-only={}", data.display()),
            format!("--web.listen-address={address}"),
        ];
        (Program::watchfire(&args, dir.path()), format!("http://{address}"))
    };
    let (mut refused, _) = start("{record: a, expr: up}");
    let status = refused.wait(Duration::from_secs(60)).expect("it ends");
    assert!(!status.success() && refused.log().contains("recording rules have nowhere"));
    let (mut program, ours) = start("{alert: Up, expr: up == 1}");
    program.wait_ready(&format!("{ours}/-/ready"));
    let firing = until(Duration::from_secs(60), || {
        let (_, body) = http_get(&format!("{ours}/api/v1/alerts")).ok()?;
        body.contains("\"firing\"").then_some(())
    });
    assert!(firing.is_some(), "{}", program.log());
    let same = until(Duration::from_secs(60), || {
        let theirs = query(&url, "up[1m]");
        let since = until(Duration::from_secs(5), || {
            let found = query(&ours, "up[2m]");
            theirs.iter().all(|sample| found.contains(sample)).then_some(())
        });
        (theirs.len() > 10).then_some(since.is_some())
    });
    assert_eq!(same, Some(true), "{}", program.log());
}
