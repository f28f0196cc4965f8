//! Crashes: SIGKILL between and inside commits, torn logs, a disk that is full.
//!
//! The victim is this test binary again, told by an environment variable to run one of the
//! `victim_*` tests, which do nothing otherwise.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use rand::Rng;
use watchfire::storage::Appender;
use watchfire::storage::tsdb::WalCompression;

use super::faults::Failing;

use super::*;

const DIR_VARIABLE: &str = "WATCHFIRE_TEST_VICTIM_DIR";
const SERIES: usize = 20;
pub(super) const SECOND: i64 = 1_000;

/// Starts a victim on a directory.
fn start(test: &str, dir: &Path, prelude: &str) -> Child {
    let binary = std::env::current_exe().expect("the test binary");
    Command::new("sh")
        .args(["-c", &format!("{prelude} exec \"$0\" \"$@\"")])
        .arg(binary)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR_VARIABLE, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child process")
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").and_then(|()| out.flush()).expect("a listening parent");
}

/// Small segments, ranges and retention, so that cutting, checkpoints, truncation,
/// compaction and the removal of blocks all happen while the victim dies.
pub(super) fn victim_options() -> TsdbOptions {
    TsdbOptions {
        retention_ms: 400 * SECOND,
        chunk_range_ms: 20 * SECOND,
        block_range_max_ms: 180 * SECOND,
        wal_segment_bytes: 32 << 10,
        out_of_order_window_ms: 60 * SECOND,
        ..Default::default()
    }
}

/// Makes writes beyond some bytes of a file fail half-way, as a full disk does; `None` for
/// no limit.
fn limit_files(bytes: Option<u64>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit { current: bytes.or(maximum), maximum };
    setrlimit(Resource::Fsize, limit).expect("a limit");
}

#[test]
fn victim_commits_until_killed() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let clock = Arc::new(ManualClock::new(0));
    let disk = Failing::default();
    let options = TsdbOptions { disk: Arc::new(disk.clone()), ..victim_options() };
    let tsdb = Tsdb::open(Path::new(&dir), options, clock.clone()).expect("a store");
    // From now on one in fifty of what is asked of the disk fails.
    disk.per_mille.store(20, std::sync::atomic::Ordering::Relaxed);
    let start = tsdb.time_range_ms().map_or(0, |(_, newest)| newest / SECOND);
    // Of a batch that was not acknowledged, one of the two logs may have its part alone.
    let late = |ks: &mut dyn Iterator<Item = i64>, appender: &mut dyn Appender| {
        for k in ks.filter(|k| *k > 0) {
            let ts = k * SECOND + SECOND / 2;
            appender.append(None, &labels("late", 0), ts, k as f64).expect("a sample");
        }
    };
    let attempt = || {
        let mut appender = tsdb.appender();
        late(&mut (start - 9..start), &mut *appender);
        appender.commit()
    };
    while attempt().is_err() {}
    for n in start + 1..start + 100_000 {
        clock.set_ms(n * SECOND);
        let attempt = || {
            let mut appender = tsdb.appender();
            for i in 0..SERIES {
                appender.append(None, &labels("m", i), n * SECOND, n as f64).expect("a sample");
            }
            let once = labels(&format!("once_{n}"), 0);
            appender.append(None, &once, n * SECOND, n as f64).expect("a sample");
            appender.append(None, &labels("late", 0), n * SECOND, n as f64).expect("a sample");
            // Half a second off, and between seven and one seconds late.
            late(&mut [n - 7 + n % 2 * 4, n - 1].into_iter(), &mut *appender);
            appender.commit()
        };
        while attempt().is_err() {}
        say(&format!("ack {n}"));
        if n % 3 == 0 {
            // No file may grow beyond a few KiB: whatever is written of blocks, checkpoints
            // and head chunks is cut short, somewhere.
            if rand::random() {
                limit_files(Some(rand::rng().random_range(0..48 << 10)));
                let failed = tsdb.maintain().is_err();
                limit_files(None);
                say(&format!("maintained {}", if failed { "in vain" } else { "well" }));
            }
            // Repeated until the disk lets it.
            while tsdb.maintain().is_err() {}
        }
    }
}

#[test]
fn acknowledged_commits_survive_sigkill_exactly_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rng = rand::rng();
    let mut last_ack = 0i64;
    // Hundreds by hand, some always.
    let kills = std::env::var("WATCHFIRE_TEST_KILLS").ok().and_then(|n| n.parse().ok());
    let mut seen = Seen::default();
    for _ in 0..kills.unwrap_or(15) {
        let test = "storage::crash::victim_commits_until_killed";
        let mut child = start(test, dir.path(), "trap '' XFSZ;");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let wanted = rng.random_range(1..150);
        let acks = lines
            .map_while(Result::ok)
            .inspect(|line| seen.in_vain += usize::from(line == "maintained in vain"))
            .filter_map(|l| l.strip_prefix("ack ")?.parse().ok());
        // Spinning for a moment moves the kill off the border between two commits.
        last_ack = acks.take(wanted).last().unwrap_or(last_ack);
        for _ in 0..rng.random_range(0..2_000_000) {
            std::hint::spin_loop();
        }
        child.kill().expect("a living victim");
        child.wait().expect("a dead victim");
        check_survivors(dir.path(), last_ack, &mut seen);
    }
    println!("{last_ack} commits; {seen:?}");
    assert!(last_ack > 15 && seen.blocks.len() > 15, "{last_ack} commits; {seen:?}");
    assert!(seen.compacted > 3 && seen.in_vain > 15, "{seen:?}");
    assert!(last_ack < 1000 || seen.retained > 0, "{seen:?}");
}

/// What happened to blocks over all lives, as far as it was there after one of them.
#[derive(Debug, Default)]
struct Seen {
    blocks: std::collections::HashSet<String>,
    compacted: usize,
    /// Blocks that were there before, ended too early to be kept, and are gone.
    retained: usize,
    in_vain: usize,
    before: Vec<(String, i64)>,
}

impl Seen {
    fn note(&mut self, tsdb: &Tsdb, oldest_kept: i64) {
        let now = tsdb.block_metas();
        for meta in &now {
            let new = self.blocks.insert(meta.ulid.to_string());
            self.compacted += usize::from(new && meta.compaction.level > 1);
        }
        let now: Vec<_> = now.iter().map(|m| (m.ulid.to_string(), m.max_time)).collect();
        let old = |b: &&(String, i64)| b.1 < oldest_kept * SECOND && !now.contains(b);
        self.retained += self.before.iter().filter(old).count();
        self.before = now;
    }
}

/// Everything acknowledged and inside retention is there; nothing else but whole commits.
fn check_survivors(dir: &Path, last_ack: i64, seen: &mut Seen) {
    let tsdb = open_with(dir, victim_options()).expect("a store after a crash");
    let found = everything(&tsdb);
    let newest = tsdb.time_range_ms().map_or(0, |(_, newest)| newest / SECOND);
    assert!(newest >= last_ack, "acknowledged {last_ack}, found {newest}");
    // A block of what came out of order may end a range after the newest sample.
    let oldest_kept = (newest - 375).max(1);
    for i in 0..SERIES {
        let samples = &found[&labels("m", i).to_string()];
        let tail: Vec<_> = samples.iter().filter(|(ts, _)| *ts >= oldest_kept * SECOND).collect();
        let expected: Vec<_> = (oldest_kept..=newest).map(|n| (n * SECOND, n as f64)).collect();
        assert!(tail.into_iter().eq(expected.iter()), "series {i}: {samples:?}");
    }
    let late = &found[&labels("late", 0).to_string()];
    let tail: Vec<_> = late.iter().filter(|(ts, _)| *ts >= oldest_kept * SECOND).collect();
    for n in oldest_kept..=newest {
        let on_time = (n * SECOND, n as f64);
        assert!(tail.contains(&&on_time), "{n} of {newest} in order: {late:?}");
        let behind = (n * SECOND + SECOND / 2, n as f64);
        let there = tail.contains(&&behind);
        assert!(there || n >= last_ack, "{n} of {last_ack} out of order: {late:?}");
    }
    let highest = 2 * (newest - oldest_kept) as usize + 1;
    assert!(tail.len() <= highest, "each once: {late:?}");
    for n in oldest_kept..=last_ack {
        let name = labels(&format!("once_{n}"), 0).to_string();
        assert_eq!(found.get(&name), Some(&vec![(n * SECOND, n as f64)]), "{name}");
    }
    assert!(tsdb.log_damage().iter().all(|d| d.set_aside.is_none()), "{:?}", tsdb.log_damage());
    assert_eq!(tsdb.lost_series(), None);
    assert!(!tsdb.block_metas().iter().any(|b| b.compaction.failed), "a full disk is no reason");
    seen.note(&tsdb, oldest_kept);
    tsdb.close().expect("a close");
}

#[test]
fn a_log_cut_at_any_byte_keeps_the_commits_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = || TsdbOptions { wal_compression: WalCompression::None, ..Default::default() };
    let tsdb = open_with(dir.path(), options()).expect("a store");
    let segment = dir.path().join("wal/00000000");
    // The tail crosses the border of a page.
    let mut ends = Vec::new();
    let mut n = 0;
    while ends.last().copied().unwrap_or(0) < 33_200 {
        n += 1;
        commit(&tsdb, "m", 40, n, n as f64).expect("a commit");
        ends.push(std::fs::metadata(&segment).expect("the segment").len());
    }
    tsdb.close().expect("a close");
    let whole = std::fs::read(&segment).expect("the segment");
    let first = 32_700;
    for cut in first..=whole.len() {
        let torn = tempfile::tempdir().expect("a directory");
        let wal = torn.path().join("wal");
        std::fs::create_dir(&wal).expect("a directory");
        std::fs::write(wal.join("00000000"), &whole[..cut]).expect("a torn segment");
        let expected = ends.iter().filter(|end| **end as usize <= cut).count();
        let tsdb = open_with(torn.path(), options()).expect("a store");
        let found = everything(&tsdb);
        assert!(found.values().all(|s| s.len() == expected), "cut at {cut}: {expected} commits");
        if cut % 50 == 0 {
            // And it goes on from there.
            commit(&tsdb, "m", 40, 1_000_000, 0.0).expect("a commit");
            tsdb.close().expect("a close");
            let again = everything(&open_with(torn.path(), options()).expect("a store"));
            assert!(again.values().all(|s| s.len() == expected + 1));
        }
    }
}

#[test]
fn damage_in_the_middle_costs_what_it_hit_and_is_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    for n in 1..=3 {
        let tsdb = open(dir.path());
        commit(&tsdb, "m", 40, n, n as f64).expect("a commit");
        tsdb.close().expect("a close");
    }
    std::fs::remove_dir_all(dir.path().join("chunks_head")).expect("no chunks");
    let second = dir.path().join("wal/00000001");
    let mut bytes = std::fs::read(&second).expect("the segment");
    bytes[20] ^= 0x40;
    std::fs::write(&second, bytes).expect("a damaged segment");
    let tsdb = open(dir.path());
    assert!(everything(&tsdb).values().all(|s| *s == [(1, 1.0), (3, 3.0)]));
    assert!(dir.path().join("wal/00000001.corrupt").exists());
    let told = tsdb.log_damage();
    assert!(told.len() == 1 && told[0].file == second && told[0].offset == 0, "{told:?}");
    commit(&tsdb, "m", 40, 9, 9.0).expect("a commit");
    tsdb.close().expect("a close");
    let again = open(dir.path());
    assert!(everything(&again).values().all(|s| *s == [(1, 1.0), (3, 3.0), (9, 9.0)]));
    assert!(again.log_damage().is_empty());
}

#[test]
fn victim_meets_a_full_disk() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let tsdb = open(Path::new(&dir));
    let mut n = 0;
    let error = loop {
        n += 1;
        if let Err(e) = commit(&tsdb, "m", 50, n, n as f64) {
            break e.to_string();
        }
    };
    say(&format!("error {error}"));
    assert!(error.contains("wal/00000000") && error.contains("write"), "{error}");
    let seen = || everything(&tsdb).values().map(Vec::len).sum::<usize>() as i64;
    assert_eq!(seen(), 50 * (n - 1), "nothing of the failed commit is visible");
    assert!(commit(&tsdb, "m", 50, n, n as f64).is_err(), "still full");
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: maximum, maximum }).expect("space again");
    commit(&tsdb, "m", 50, n, n as f64).expect("a commit after space came back");
    assert_eq!(seen(), 50 * n);
    say(&format!("stored {n}"));
}

#[test]
fn a_full_disk_fails_the_commit_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    // A soft limit of 64 KiB on file sizes fails writes half-way, as a full disk does.
    let child = start(
        "storage::crash::victim_meets_a_full_disk",
        dir.path(),
        "trap '' XFSZ; ulimit -S -f 128;",
    );
    let output = child.wait_with_output().expect("the child's end");
    let text = String::from_utf8_lossy(&output.stdout);
    let stored: i64 = text
        .lines()
        .find_map(|l| l.strip_prefix("stored ")?.parse().ok())
        .unwrap_or_else(|| panic!("the child failed: {text}"));
    let found = everything(&open(dir.path()));
    assert_eq!(found.len(), 50);
    let expected: Vec<_> = (1..=stored).map(|n| (n, n as f64)).collect();
    assert!(found.values().all(|s| *s == expected));
}
