//! Disks that fail beneath the log, and logs that are damaged: what was acknowledged is
//! there after a restart, what was refused is not half there, and damage is told with file
//! and offset, repaired, and set aside.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::Rng;
use watchfire::storage::tsdb::{Disk, DiskFile, FileSystem, WalCompression, WalSync};

use super::crash::SECOND;
use super::*;

/// Fails some of what is asked of it: writes cut short, no space, errors of the device.
#[derive(Clone, Debug, Default)]
pub(super) struct Failing {
    /// Of a thousand operations so many fail.
    pub(super) per_mille: Arc<AtomicU32>,
}

impl Failing {
    fn fails(&self) -> bool {
        rand::rng().random_range(0..1000) < self.per_mille.load(Ordering::Relaxed)
    }
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn error() -> io::Error {
    io::Error::from_raw_os_error(if rand::random() { ENOSPC } else { EIO })
}

#[derive(Debug)]
struct FailingFile(Box<dyn DiskFile>, Failing);

impl Disk for Failing {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.fails() {
            return Err(error());
        }
        Ok(Box::new(FailingFile(FileSystem.open(path)?, self.clone())))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.fails() {
            return Err(error());
        }
        Ok(Box::new(FailingFile(FileSystem.create(path)?, self.clone())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.fails() { Err(error()) } else { FileSystem.rename(from, to) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.fails() { Err(error()) } else { FileSystem.sync_dir(dir) }
    }
}

impl DiskFile for FailingFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.1.fails() {
            let written = rand::rng().random_range(0..=bytes.len());
            self.0.write_all(&bytes[..written])?;
            return Err(error());
        }
        self.0.write_all(bytes)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.1.fails() { Err(error()) } else { self.0.write_all_at(bytes, offset) }
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if self.1.fails() { Err(error()) } else { self.0.set_len(len) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.1.fails() { Err(error()) } else { self.0.sync() }
    }
}

/// How often, unless the environment says otherwise.
fn runs(usual: usize) -> usize {
    let given = std::env::var("WATCHFIRE_TEST_FAULTS").ok().and_then(|n| n.parse().ok());
    given.unwrap_or(usual)
}

const KEPT_SECONDS: i64 = 240;

fn options(disk: Arc<dyn Disk>, sync: WalSync) -> TsdbOptions {
    TsdbOptions {
        retention_ms: KEPT_SECONDS * SECOND,
        chunk_range_ms: 20 * SECOND,
        block_range_max_ms: 180 * SECOND,
        wal_segment_bytes: 32 << 10,
        out_of_order_window_ms: 60 * SECOND,
        wal_sync: sync,
        disk,
        ..Default::default()
    }
}

/// What a series must hold, and what it may hold: commits that failed may have reached the
/// disk whole, where taking them back failed, too, before the end.
#[derive(Default)]
struct Ledger {
    /// Of several values of one time, any counts.
    acknowledged: BTreeMap<i64, Vec<f64>>,
    refused: BTreeSet<(i64, u64)>,
}

impl Ledger {
    fn judge(&self, tsdb: &Tsdb, what: &str, exactly: bool) {
        let all = everything(tsdb);
        let newest = self.acknowledged.last_key_value().map_or(0, |(ts, _)| *ts);
        // A block of what came out of order may end a range after the newest sample.
        let oldest_kept = newest - (KEPT_SECONDS - 25) * SECOND;
        for i in 0..3 {
            let found = all.get(&labels("m", i).to_string()).cloned().unwrap_or_default();
            let found: BTreeMap<i64, f64> = found.into_iter().collect();
            for (ts, values) in self.acknowledged.range(oldest_kept..) {
                let there = found.get(ts).is_some_and(|v| values.contains(v));
                assert!(there, "{what}: series {i} at {ts}: {values:?} was acknowledged");
            }
            for (ts, v) in found.iter().filter(|(ts, _)| !self.acknowledged.contains_key(ts)) {
                let may = !exactly && self.refused.contains(&(*ts, v.to_bits()));
                assert!(may, "{what}: series {i} holds {v} at {ts}, which was refused");
            }
        }
    }
}

/// One run: commits in order and out of order on a disk that fails now and then, the death
/// of the process, and a restart on a sound disk. Counts what the disk spoilt, and blocks that
/// were written in spite of it.
fn run(sync: WalSync, done: &mut Done) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rng = rand::rng();
    let mut ledger = Ledger::default();
    let mut newest = 0;
    for life in 0..3 {
        let disk = Failing::default();
        let clock = Arc::new(ManualClock::new(newest * SECOND));
        let opened = Tsdb::open(dir.path(), options(Arc::new(disk.clone()), sync), clock.clone());
        let tsdb = opened.expect("a store");
        assert_eq!(tsdb.log_damage().iter().filter(|d| d.set_aside.is_some()).count(), 0);
        ledger.judge(&tsdb, &format!("life {life}"), false);
        // What turned out to be there stays there. Of two values that were acknowledged for
        // one time either may be shown, and another one later.
        let held = everything(&tsdb);
        for (ts, v) in held.get(&labels("m", 0).to_string()).into_iter().flatten() {
            ledger.acknowledged.entry(*ts).or_default().push(*v);
        }
        ledger.refused.clear();
        disk.per_mille.store(rng.random_range(20..300), Ordering::Relaxed);
        for _ in 0..rng.random_range(20..200) {
            newest += 1;
            clock.set_ms(newest * SECOND);
            let late = newest > 30 && rng.random_bool(0.3);
            let offset = if late { rng.random_range(2..25) * SECOND + 500 } else { 0 };
            let ts = newest * SECOND - offset;
            let value = newest as f64;
            let mut appender = tsdb.appender();
            let taken = (0..3).all(|i| appender.append(None, &labels("m", i), ts, value).is_ok());
            match appender.commit() {
                Ok(()) if taken => {
                    ledger.acknowledged.entry(ts).or_default().push(value);
                }
                Ok(()) => {}
                Err(_) => {
                    done.refused += 1;
                    ledger.refused.insert((ts, value.to_bits()));
                    ledger.judge(&tsdb, "after a refusal", true);
                }
            }
            if newest % 4 == 0 {
                // May fail, too, and is repeated.
                done.failed_maintenance += usize::from(tsdb.maintain().is_err());
            }
        }
        ledger.judge(&tsdb, "before the end", true);
        if rng.random_bool(0.3) {
            let _ = tsdb.close();
        }
    }
    let tsdb = open_with(dir.path(), options(Arc::new(FileSystem), sync)).expect("a store");
    ledger.judge(&tsdb, "at the end", false);
    done.blocks += tsdb.block_metas().len();
}

#[derive(Debug, Default)]
struct Done {
    refused: usize,
    failed_maintenance: usize,
    blocks: usize,
}

#[test]
fn what_was_acknowledged_on_a_failing_disk_is_there_after_a_restart() {
    let mut done = Done::default();
    for n in 0..runs(12) {
        run(if n % 3 == 0 { WalSync::EachCommit } else { WalSync::Never }, &mut done);
    }
    assert!(done.refused > 0 && done.failed_maintenance > 0 && done.blocks > 0, "{done:?}");
}

/// Fragments of a segment: offset and length with header.
fn fragments(segment: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 7 <= segment.len() {
        let in_page = at % (32 << 10);
        if (32 << 10) - in_page < 7 || segment[at] & 7 == 0 {
            at += (32 << 10) - in_page;
            continue;
        }
        let len = 7 + usize::from(u16::from_be_bytes([segment[at + 1], segment[at + 2]]));
        found.push((at, len));
        at += len;
    }
    found
}

#[test]
fn a_byte_flipped_at_any_border_of_records_costs_that_record_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = || TsdbOptions { wal_compression: WalCompression::None, ..Default::default() };
    let tsdb = open_with(dir.path(), options()).expect("a store");
    let (series, commits) = (40, 120);
    let mut borders = Vec::new();
    for n in 1..=commits {
        commit(&tsdb, "m", series, n, n as f64).expect("a commit");
        borders.push(fs_len(&dir.path().join("wal/00000000")));
    }
    tsdb.close().expect("a close");
    let sound = std::fs::read(dir.path().join("wal/00000000")).expect("the segment");
    assert!(sound.len() > 40 << 10, "more than a page");
    let all = fragments(&sound);
    let step = all.len().div_ceil(runs(60)).max(1);
    for (number, (at, len)) in all.iter().enumerate().skip(1) {
        // Of records that span pages every bit of the type, which no checksum covers.
        let spans = sound[*at] & 7 != 1;
        if !spans && !(number - 1).is_multiple_of(step) {
            continue;
        }
        let bits = if spans { 0..8 } else { 0..0 };
        let any = [0, 1, 2, 3, 6, 7, len - 1].map(|place| (place, rand::rng().random_range(0..8)));
        for (place, bit) in bits.map(|bit| (0, bit)).chain(any) {
            let torn = tempfile::tempdir().expect("a directory");
            let segment = torn.path().join("wal/00000000");
            std::fs::create_dir(torn.path().join("wal")).expect("a directory");
            let mut bytes = sound.clone();
            bytes[at + place] ^= 1 << bit;
            std::fs::write(&segment, &bytes).expect("a damaged segment");
            let tsdb = open_with(torn.path(), options()).expect("a store");
            let what = format!("bit {bit} of byte {place} of the fragment at {at}");
            let hit = borders.iter().position(|border| at + place < *border).expect("a commit");
            let found = everything(&tsdb);
            assert_eq!(found.len(), series, "{what}");
            for samples in found.values() {
                let lost: Vec<i64> =
                    (1..=commits).filter(|n| !samples.contains(&(*n, *n as f64))).collect();
                assert!(lost.is_empty() || lost == [hit as i64 + 1], "{what}: lost {lost:?}");
            }
            let told = tsdb.log_damage();
            assert_eq!(told.len(), 1, "{what}: {told:?}");
            assert!(told[0].file == segment && told[0].offset as usize <= at + place, "{told:?}");
            let end = hit + 1 == commits as usize;
            let aside = told[0].set_aside.as_ref();
            assert!(aside.is_some() || end, "{what}: only the tail is just cut: {told:?}");
            if let Some(aside) = aside {
                assert_eq!(std::fs::read(aside).expect("as it was"), bytes, "{what}");
            }
            // Repaired: the next start finds a sound log, and the same samples.
            drop(tsdb);
            let tsdb = open_with(torn.path(), options()).expect("a store");
            assert_eq!((tsdb.log_damage(), everything(&tsdb)), (vec![], found), "{what}");
        }
    }
}

fn fs_len(path: &Path) -> usize {
    std::fs::metadata(path).expect("a file").len() as usize
}

/// A log of 30 samples of each of 4 series, the record that names them first, and the segment
/// of it.
fn named_once(dir: &Path, options: TsdbOptions) -> (Samples, Vec<u8>) {
    let options = TsdbOptions { wal_compression: WalCompression::None, ..options };
    let tsdb = open_with(dir, options).expect("a store");
    for n in 1..=30 {
        commit(&tsdb, "m", 4, n, n as f64).expect("a commit");
    }
    let all = everything(&tsdb);
    tsdb.close().expect("a close");
    (all, std::fs::read(dir.join("wal/00000000")).expect("the segment"))
}

#[test]
fn samples_whose_series_record_is_lost_are_told_and_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, mut segment) = named_once(dir.path(), TsdbOptions::default());
    let second = fragments(&segment)[1].0;
    segment[20] ^= 1;
    let path = dir.path().join("wal/00000000");
    std::fs::write(&path, segment).expect("a damaged segment");
    let mut registry = watchfire::telemetry::Registry::default();
    let metrics = watchfire::storage::tsdb::TsdbMetrics::new(&mut registry);
    let options = TsdbOptions { metrics, ..Default::default() };
    let tsdb = open_with(dir.path(), options).expect("a store");
    let lost = tsdb.lost_series().expect("samples of no series");
    assert_eq!((lost.series, lost.samples, &lost.file), (4, 120, &path));
    assert!(lost.offset <= second as u64, "{lost:?}");
    assert_eq!((tsdb.log_damage().len(), everything(&tsdb).len()), (1, 0));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("metrics");
    let metric = "prometheus_tsdb_wal_replay_unknown_refs_total{type=\"samples\"} 120";
    assert!(text.contains(metric), "{text}");
    // None of their references is given to another series, now or after a restart.
    commit(&tsdb, "m", 4, 100, 100.0).expect("a commit");
    drop(tsdb);
    let tsdb = open(dir.path());
    assert!(everything(&tsdb).values().all(|s| *s == [(100, 100.0)]));
    assert_eq!(tsdb.lost_series().map(|l| l.samples), Some(120), "they are in the log still");
}

#[test]
fn samples_are_found_again_when_the_log_or_a_snapshot_names_their_series() {
    // Named after its samples.
    let dir = tempfile::tempdir().expect("a directory");
    let (expected, segment) = named_once(dir.path(), TsdbOptions::default());
    let (at, len) = fragments(&segment)[0];
    assert_eq!((at, segment[7]), (0, 1), "the record of series");
    let wal = dir.path().join("wal");
    std::fs::remove_dir_all(dir.path().join("chunks_head")).expect("no chunks");
    std::fs::write(wal.join("00000000"), &segment[len..]).expect("a segment");
    std::fs::write(wal.join("00000001"), &segment[..len]).expect("a segment");
    let tsdb = open(dir.path());
    assert_eq!((everything(&tsdb), tsdb.lost_series()), (expected, None));
    drop(tsdb);
    // Named by a snapshot that is not started from.
    let dir = tempfile::tempdir().expect("a directory");
    let snapshots = TsdbOptions { memory_snapshots: true, ..Default::default() };
    let (expected, mut segment) = named_once(dir.path(), snapshots);
    segment[20] ^= 1;
    std::fs::write(dir.path().join("wal/00000000"), segment).expect("a damaged segment");
    let tsdb = open(dir.path());
    assert_eq!((everything(&tsdb), tsdb.lost_series()), (expected, None));
    assert_eq!(tsdb.log_damage().len(), 1);
}
