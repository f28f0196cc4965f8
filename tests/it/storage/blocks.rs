//! Blocks: cut off the head, compacted, kept as long as retention says, deleted from, and
//! read as one store with the head.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use watchfire::model::FloatHistogram;
use watchfire::model::histogram::Span;
use watchfire::storage::RawSeries;
use watchfire::storage::tsdb::BlockMeta;

use super::*;
use crate::support::available;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A store whose clock is where its samples are, and what should be in it.
struct Rig {
    dir: PathBuf,
    clock: Arc<ManualClock>,
    options: TsdbOptions,
    tsdb: Arc<Tsdb>,
    expected: Samples,
}

impl Rig {
    fn new(dir: &Path, options: TsdbOptions) -> Self {
        let clock = Arc::new(ManualClock::new(0));
        let tsdb = Tsdb::open(dir, options.clone(), clock.clone()).expect("a store");
        Self { dir: dir.to_owned(), clock, options, tsdb, expected: Samples::new() }
    }

    /// Commits a sample per minute and series for so many minutes from `from_ms` on; two of
    /// ten series live for an hour only.
    fn fill(&mut self, from_ms: i64, minutes: i64) {
        for minute in 0..minutes {
            let ts = from_ms + minute * MINUTE;
            self.clock.set_ms(ts);
            let mut appender = self.tsdb.appender();
            for i in 0..10usize {
                let name = if i < 8 { "steady".to_owned() } else { format!("h{:03}", ts / HOUR) };
                let labels = labels(&name, i);
                let value = (ts / MINUTE * (i as i64 + 1)) as f64 / 8.0;
                appender.append(None, &labels, ts, value).expect("a sample");
                self.expected.entry(labels.to_string()).or_default().push((ts, value));
            }
            appender.commit().expect("a commit");
            if minute % 10 == 9 {
                self.tsdb.maintain().expect("maintenance");
            }
        }
    }

    fn check(&self) {
        let found = everything(&self.tsdb);
        for (series, samples) in &self.expected {
            assert_eq!(found.get(series), Some(samples), "{series}");
        }
        assert_eq!(found.len(), self.expected.len());
    }

    fn reopen(&mut self) {
        self.tsdb.close().expect("a close");
        let opened = Tsdb::open(&self.dir, self.options.clone(), self.clock.clone());
        self.tsdb = opened.expect("a store");
    }

    fn spans(&self) -> Vec<(i64, i64)> {
        self.tsdb.block_metas().iter().map(|m| (m.min_time / HOUR, m.max_time / HOUR)).collect()
    }
}

fn day_options() -> TsdbOptions {
    TsdbOptions { block_range_max_ms: 18 * HOUR, ..Default::default() }
}

#[test]
fn two_hours_leave_the_head_at_a_time_and_blocks_grow_by_three() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rig = Rig::new(dir.path(), day_options());
    rig.fill(100 * HOUR, 3 * 60 - 20);
    assert_eq!(rig.spans(), [], "not before three hours");
    rig.fill(103 * HOUR - 20 * MINUTE, 30);
    assert_eq!(rig.spans(), [(100, 102)]);
    rig.check();
    let (oldest, newest) = rig.tsdb.time_range_ms().expect("samples");
    assert_eq!((oldest, newest), (100 * HOUR, 103 * HOUR + 9 * MINUTE));
    rig.fill(103 * HOUR + 10 * MINUTE, 26 * 60 + 10);
    // 102, 108 and so on are multiples of six hours, 108 and 126 of eighteen.
    assert_eq!(rig.spans(), [(100, 108), (108, 126), (126, 128)]);
    rig.check();
    for _ in 0..2 {
        rig.reopen();
        rig.check();
        rig.tsdb.maintain().expect("maintenance");
    }
    let metas = rig.tsdb.block_metas();
    let levels: Vec<u32> = metas.iter().map(|m| m.compaction.level).collect();
    assert_eq!(levels, [3, 3, 1]);
    assert_eq!(metas[1].compaction.sources.len(), 9);
    assert_eq!(metas[1].compaction.parents.len(), 3);
    let samples: u64 = metas.iter().map(|m| m.stats.num_samples).sum();
    assert_eq!(samples, 28 * 60 * 10);
    assert!(rig.tsdb.stats(1).series < 20, "ended series left the head");
    // A block's worth is read by time and by matchers.
    let found = select(
        &rig.tsdb,
        vec![
            matcher(MatchOp::Regex, "__name__", "h107|h108|steady"),
            Matcher::equal("series", "8"),
        ],
        107 * HOUR + 30 * MINUTE,
        108 * HOUR + 30 * MINUTE,
    );
    let counts: Vec<usize> = found.values().map(Vec::len).collect();
    assert_eq!(counts, [30, 31]);
    let request = LabelRequest {
        matcher_sets: vec![vec![Matcher::equal("series", "9")]],
        from_ms: 109 * HOUR,
        to_ms: i64::MAX,
    };
    let names = label_values(&rig.tsdb, "__name__", &request);
    assert_eq!((names.len(), names[0].as_str()), (22, "h108"), "by blocks: from 108 to 129");
    assert_eq!(label_names(&rig.tsdb, &request), ["__name__", "series"]);
}

#[test]
fn who_reads_while_a_block_is_cut_finds_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rig = Rig::new(dir.path(), day_options());
    rig.fill(100 * HOUR, 3 * 60);
    let all = request(vec![Matcher::equal("__name__", "steady")], 0, i64::MAX);
    let set = rig.tsdb.select(&all).now_or_never().expect("no wait").expect("a set");
    let read = |series: &Arc<dyn RawSeries>| {
        let mut raw = RawSamples::default();
        series.read_into(0, i64::MAX, &mut raw).expect("samples");
        raw.ts
    };
    let before = read(&set.series[3]);
    rig.fill(103 * HOUR, 60);
    assert_eq!(rig.spans(), [(100, 102)], "there is a block");
    assert_eq!(read(&set.series[3]), before, "the head keeps what somebody may read");
    let newer = rig.tsdb.select(&all).now_or_never().expect("no wait").expect("a set");
    assert_eq!(read(&newer.series[3]).len(), 240, "nothing is there twice");
    let chunks = rig.tsdb.stats(1).chunks;
    drop((set, newer));
    rig.tsdb.maintain().expect("maintenance");
    assert!(rig.tsdb.stats(1).chunks < chunks, "then it goes");
    rig.check();
}

#[test]
fn a_batch_under_way_holds_up_the_cut_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rig = Rig::new(dir.path(), day_options());
    rig.fill(100 * HOUR, 2 * 60 + 30);
    let mut late = rig.tsdb.appender();
    let ts = 102 * HOUR - 1;
    late.append(None, &labels("late", 0), ts, 1.0).expect("a sample");
    rig.fill(102 * HOUR + 30 * MINUTE, 60);
    assert_eq!(rig.spans(), [], "a sample of the first range may come");
    late.commit().expect("a commit");
    rig.expected.insert(labels("late", 0).to_string(), vec![(ts, 1.0)]);
    rig.tsdb.maintain().expect("maintenance");
    assert_eq!(rig.spans(), [(100, 102)]);
    let mut refused = rig.tsdb.appender();
    refused.append(None, &labels("late", 0), ts, 1.0).expect_err("too old");
    rig.check();
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").map(|e| e.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn a_crash_after_the_block_and_before_the_log_leaves_nothing_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = tempfile::tempdir().expect("a directory");
    let mut rig = Rig::new(dir.path(), day_options());
    rig.fill(102 * HOUR, 3 * 60 + 5);
    assert_eq!(rig.spans(), []);
    rig.clock.set_ms(106 * HOUR);
    copy_dir(&dir.path().join("wal"), log.path());
    rig.tsdb.maintain().expect("maintenance");
    assert_eq!(rig.spans(), [(102, 104)]);
    let block = rig.tsdb.block_metas()[0].ulid.to_string();
    rig.tsdb.close().expect("a close");
    fs::remove_dir_all(dir.path().join("wal")).expect("no log");
    copy_dir(log.path(), &dir.path().join("wal"));
    rig.reopen();
    rig.check();
    let head: usize = rig.tsdb.stats(1).series;
    assert_eq!(head, 8 + 4, "only what is newer than the block is in memory");
    // And a crash before the block had its name leaves the log alone.
    rig.tsdb.close().expect("a close");
    let unfinished = dir.path().join(format!("{block}.tmp-for-creation"));
    fs::rename(dir.path().join(block), unfinished).expect("an unfinished block");
    rig.reopen();
    assert_eq!(rig.spans(), []);
    rig.check();
}

#[test]
fn blocks_go_when_they_are_too_many_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let limit = 100 << 10;
    let options =
        TsdbOptions { retention_bytes: limit, wal_segment_bytes: 32 << 10, ..day_options() };
    let mut rig = Rig::new(dir.path(), options);
    rig.fill(102 * HOUR, 100 * 60);
    let size = size_of_dir(dir.path());
    // The log grows until the next block is cut.
    assert!((limit / 3..limit + (32 << 10)).contains(&size), "{size} bytes");
    let spans = rig.spans();
    assert!(!spans.is_empty() && spans[0].0 > 102, "{spans:?}");
    rig.reopen();
    assert_eq!(rig.spans(), spans);
}

fn size_of_dir(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry"));
    entries
        .map(|e| match e.metadata().expect("metadata") {
            m if m.is_dir() => size_of_dir(&e.path()),
            m => m.len(),
        })
        .sum()
}

#[test]
fn deleted_samples_stay_away_in_blocks_and_head() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rig = Rig::new(dir.path(), day_options());
    rig.fill(102 * HOUR, 4 * 60);
    assert_eq!(rig.spans(), [(102, 104)]);
    let (from, to) = (103 * HOUR, 105 * HOUR);
    let sets =
        [vec![Matcher::equal("series", "3")], vec![matcher(MatchOp::Regex, "__name__", "h104")]];
    rig.tsdb.delete_series(&sets, from, to).expect("a deletion");
    rig.expected.retain(|series, samples| {
        if series.contains("series=\"3\"") || series.contains("h104") {
            samples.retain(|(ts, _)| !(from..=to).contains(ts));
        }
        !samples.is_empty()
    });
    rig.check();
    rig.reopen();
    rig.check();
    assert!(rig.tsdb.block_metas()[0].stats.num_tombstones > 0);
    rig.tsdb.clean_tombstones().expect("a cleaning");
    let metas = rig.tsdb.block_metas();
    assert_eq!((metas.len(), metas[0].stats.num_tombstones), (1, 0));
    assert_eq!(metas[0].stats.num_samples, 20 * 60 - 60);
    rig.check();
    // What is deleted in the head does not come into a block either.
    rig.fill(106 * HOUR, 2 * 60);
    assert_eq!(rig.spans(), [(102, 104), (104, 106)]);
    rig.check();
    rig.tsdb.delete_series(&[vec![]], 0, 104 * HOUR - 1).expect("a deletion");
    rig.tsdb.clean_tombstones().expect("a cleaning");
    assert_eq!(rig.spans(), [(104, 106)], "nothing was left of the first");
}

#[test]
fn a_snapshot_is_a_store_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rig = Rig::new(dir.path(), day_options());
    rig.fill(102 * HOUR, 5 * 60);
    for (skip_head, blocks) in [(false, 2), (true, 1)] {
        let name = rig.tsdb.snapshot(skip_head).expect("a snapshot");
        let copy = open_with(&dir.path().join("snapshots").join(name), day_options());
        let copy = copy.expect("a store");
        assert_eq!(copy.block_metas().len(), blocks);
        let found = everything(&copy);
        if !skip_head {
            assert_eq!(found, rig.expected);
        }
        assert!(found.values().flatten().all(|(ts, _)| !skip_head || *ts < 104 * HOUR));
    }
    rig.check();
}

fn copy_block(from: &Path, meta: &BlockMeta, to: &Path) {
    let (from, to) = (from.join(meta.ulid.to_string()), to.join(meta.ulid.to_string()));
    fs::create_dir_all(to.join("chunks")).expect("a directory");
    for name in ["index", "tombstones", "meta.json", "chunks/000001"] {
        fs::copy(from.join(name), to.join(name)).expect("a copy");
    }
}

#[test]
fn overlapping_blocks_are_read_and_compacted_as_one() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("one")];
    let mut rigs =
        [Rig::new(dirs[0].path(), day_options()), Rig::new(dirs[1].path(), day_options())];
    rigs[0].fill(102 * HOUR, 4 * 60);
    // The other one knows more of some series, between the minutes, and ends earlier.
    rigs[1].fill(102 * HOUR + MINUTE / 2, 3 * 60 + 10);
    let theirs = rigs[1].tsdb.block_metas();
    copy_block(dirs[1].path(), &theirs[0], dirs[0].path());
    for (series, samples) in rigs[1].expected.clone() {
        let all = rigs[0].expected.entry(series).or_default();
        all.extend(samples.into_iter().filter(|(ts, _)| *ts < 104 * HOUR));
        all.sort_by_key(|(ts, _)| *ts);
    }
    let [ours, _] = &mut rigs;
    ours.reopen();
    assert_eq!(ours.tsdb.block_metas().len(), 2);
    ours.check();
    ours.tsdb.maintain().expect("maintenance");
    let metas = ours.tsdb.block_metas();
    assert_eq!((metas.len(), metas[0].compaction.parents.len()), (1, 2));
    assert_eq!(metas[0].stats.num_samples, 2 * 2 * 60 * 10);
    ours.check();
}

#[test]
fn a_broken_block_is_left_alone_and_the_rest_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rig = Rig::new(dir.path(), TsdbOptions { block_range_max_ms: HOUR, ..day_options() });
    rig.fill(102 * HOUR, 7 * 60);
    assert_eq!(rig.spans(), [(102, 104), (104, 106)]);
    let first = dir.path().join(rig.tsdb.block_metas()[0].ulid.to_string());
    let index = fs::read(first.join("index")).expect("an index");
    rig.tsdb.close().expect("a close");
    fs::write(first.join("index"), &index[..index.len() - 1]).expect("a broken index");
    rig.reopen();
    assert_eq!(rig.spans(), [(104, 106)]);
    rig.tsdb.maintain().expect("maintenance");
    assert!(first.exists(), "somebody may mend it");
    let found = everything(&rig.tsdb);
    assert_eq!(found[&labels("steady", 0).to_string()].len(), 5 * 60);
    fs::write(first.join("index"), &index).expect("a mended index");
    rig.reopen();
    rig.check();
}

#[test]
fn native_histograms_go_through_blocks_and_compaction() {
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::new(dir.path(), day_options());
    let labels = labels("native", 0);
    let mut expected = Vec::new();
    for minute in 0..12 * 60i64 {
        let ts = 102 * HOUR + minute * MINUTE;
        rig.clock.set_ms(ts);
        let n = minute as f64;
        let h = FloatHistogram {
            count: 3.0 * n,
            sum: n / 2.0,
            zero_count: n,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![n, n],
            ..FloatHistogram::default()
        };
        let mut appender = rig.tsdb.appender();
        appender.append_histogram(None, &labels, ts, &Arc::new(h)).expect("a sample");
        appender.commit().expect("a commit");
        expected.push((ts, 3.0 * n, vec![n, n]));
        if minute % 30 == 29 {
            rig.tsdb.maintain().expect("maintenance");
        }
    }
    assert_eq!(rig.spans(), [(102, 108), (108, 110), (110, 112)]);
    assert_eq!(rig.tsdb.block_metas()[0].stats.num_histogram_samples, 6 * 60);
    let all = request(vec![Matcher::equal("__name__", "native")], 0, i64::MAX);
    let set = rig.tsdb.select(&all).now_or_never().expect("no wait").expect("a set");
    let mut raw = RawSamples::default();
    set.series[0].read_into(0, i64::MAX, &mut raw).expect("samples");
    let found: Vec<_> =
        raw.hist.iter().map(|(ts, h)| (*ts, h.count, h.positive_buckets.clone())).collect();
    assert_eq!(found, expected);
}

/// Lines of a promtool command, `None` when there is no promtool.
fn promtool(args: &[&str], dir: &Path) -> Option<Vec<String>> {
    available("promtool").then(|| {
        let output = Command::new("promtool").args(args).arg(dir).output().expect("promtool");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text.lines().map(str::to_owned).collect()
    })
}

#[test]
fn promtool_reads_our_blocks() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rig = Rig::new(dir.path(), day_options());
    rig.fill(100 * HOUR, 29 * 60);
    let sets = [vec![Matcher::equal("series", "3")]];
    rig.tsdb.delete_series(&sets, 110 * HOUR, 111 * HOUR).expect("a deletion");
    let steady = labels("steady", 3).to_string();
    let all = rig.expected.get_mut(&steady).expect("samples");
    all.retain(|(ts, _)| !(110 * HOUR..=111 * HOUR).contains(ts));
    rig.tsdb.close().expect("a close");
    let Some(listed) = promtool(&["tsdb", "list"], dir.path()) else { return };
    assert_eq!(listed.len(), 1 + rig.spans().len(), "{listed:?}");
    let analyzed = promtool(&["tsdb", "analyze"], dir.path()).expect("promtool");
    assert!(analyzed.iter().any(|l| l == "Series: 12" || l == "Total Series: 12"), "{analyzed:?}");
    let mut found = Samples::new();
    for line in promtool(&["tsdb", "dump"], dir.path()).expect("promtool") {
        let (rest, ts) = line.rsplit_once(' ').expect("a time");
        let (series, value) = rest.rsplit_once(' ').expect("a value");
        let sample = (ts.parse().expect("a time"), value.parse().expect("a value"));
        found.entry(series.to_owned()).or_default().push(sample);
    }
    assert_eq!(found, rig.expected);
}
