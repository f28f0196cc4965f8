//! Tests of the log as bytes on disk.

use proptest::prelude::*;

use super::reader::{Damage, ReadError, SegmentReader};
use super::*;
use crate::telemetry::clock::ManualClock;

fn open(dir: &Path, compression: WalCompression, segment_bytes: u64) -> Wal {
    open_on(Arc::new(FileSystem), dir, compression, segment_bytes)
}

fn open_on(
    disk: Arc<dyn Disk>,
    dir: &Path,
    compression: WalCompression,
    segment_bytes: u64,
) -> Wal {
    let options = WalOptions { segment_bytes, compression, sync: WalSync::Never, disk };
    Wal::open(dir, options, LogMetrics::unseen(), Arc::new(ManualClock::new(0))).expect("a log")
}

/// Records of all segments up to the first damage.
fn read(dir: &Path) -> (Vec<Vec<u8>>, Option<Damage>) {
    let mut all = Vec::new();
    for segment in segment::list(dir).expect("a listing") {
        let mut reader = SegmentReader::open(&segment).expect("a segment");
        loop {
            match reader.next() {
                Ok(Some(record)) => all.push(record.to_vec()),
                Ok(None) => break,
                Err(ReadError::Damaged(damage)) => return (all, Some(damage)),
                Err(ReadError::Storage(e)) => panic!("{e}"),
            }
        }
    }
    (all, None)
}

fn record(seed: u8, len: usize) -> Vec<u8> {
    // Half noise, half repetition, so that compression sometimes pays.
    (0..len).map(|i| if i % 2 == 0 { seed } else { (i * 31 + usize::from(seed)) as u8 }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn records_of_any_size_round_trip(
        sizes in prop::collection::vec(prop::collection::vec(
            prop_oneof![0usize..20, 32_740usize..32_790, 0usize..100_000], 1..4), 1..6),
        compression in prop::sample::select(
            vec![WalCompression::None, WalCompression::Snappy, WalCompression::Zstd]),
        segment_bytes in prop::sample::select(vec![PAGE_BYTES as u64, 128 << 20]),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut wal = open(dir.path(), compression, segment_bytes);
        let mut written = Vec::new();
        for batch in sizes {
            let batch: Vec<_> = batch.iter().map(|n| record(*n as u8, *n)).collect();
            let slices: Vec<_> = batch.iter().map(Vec::as_slice).collect();
            wal.log(&slices).expect("a write");
            written.extend(batch);
        }
        prop_assert_eq!(read(dir.path()), (written, None));
    }
}

/// Writes fail after some bytes, unless that is negative.
#[derive(Debug, Default)]
struct Full(Arc<std::sync::atomic::AtomicIsize>);

#[derive(Debug)]
struct FullFile(Box<dyn DiskFile>, Arc<std::sync::atomic::AtomicIsize>);

impl Disk for Full {
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FullFile(FileSystem.open(path)?, Arc::clone(&self.0))))
    }
}

impl DiskFile for FullFile {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Ok(allowed) = usize::try_from(self.1.load(std::sync::atomic::Ordering::Relaxed)) else {
            return self.0.write_all(bytes);
        };
        self.0.write_all(&bytes[..allowed.min(bytes.len())])?;
        Err(std::io::Error::from_raw_os_error(28))
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn a_failed_write_is_undone_and_later_ones_succeed() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = Arc::new(std::sync::atomic::AtomicIsize::new(-1));
    let disk = Arc::new(Full(Arc::clone(&room)));
    let mut wal = open_on(disk, dir.path(), WalCompression::None, 128 << 20);
    wal.log(&[b"first"]).expect("a write");
    for allowed in [0, 3, 8, 11] {
        room.store(allowed, std::sync::atomic::Ordering::Relaxed);
        let error = wal.log(&[b"refused"]).expect_err("no space").to_string();
        assert!(error.contains("00000000: No space left on device"), "{error}");
        room.store(-1, std::sync::atomic::Ordering::Relaxed);
        wal.log(&[b"kept"]).expect("space again");
    }
    let (records, damage) = read(dir.path());
    assert_eq!((records.len(), damage), (5, None));
    assert_eq!(records[1..], vec![b"kept".to_vec(); 4]);
}

#[test]
fn reading_goes_on_behind_damage_with_the_next_sound_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = segment::path(dir.path(), 0);
    let all: Vec<Vec<u8>> = (1..40).map(|i| record(i, usize::from(i) * 97)).collect();
    let mut wal = open(dir.path(), WalCompression::None, 128 << 20);
    let mut ends = vec![0];
    for one in &all {
        wal.log(&[one]).expect("a write");
        ends.push(wal.segment_len() as usize);
    }
    let sound = fs::read(&path).expect("the segment");
    let check = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x24;
        fs::write(&path, &bytes).expect("a write");
        let source = segment::list(dir.path()).expect("a listing").remove(0);
        let mut reader = SegmentReader::open(&source).expect("a segment");
        let mut found = Vec::new();
        loop {
            match reader.next().map(|record| record.map(<[u8]>::to_vec)) {
                Ok(Some(record)) => found.push(record),
                Ok(None) => break,
                Err(_) if reader.resync().expect("a readable file") => {}
                Err(_) => break,
            }
        }
        let hit = ends.iter().rposition(|end| *end <= at).expect("a record");
        let expected: Vec<_> =
            all.iter().enumerate().filter(|(i, _)| *i != hit).map(|(_, r)| r.clone()).collect();
        // What fills a page up belongs to no record.
        assert!(found == expected || (found == all && sound[at] == 0), "byte {at} of record {hit}");
    };
    for end in &ends[..all.len()] {
        (0..9).for_each(|i| check(end + i));
        check(end.saturating_sub(1));
    }
}

#[test]
fn each_kind_of_damage_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = segment::path(dir.path(), 0);
    open(dir.path(), WalCompression::None, 128 << 20)
        .log(&[b"abc", &record(1, 40_000)])
        .expect("a write");
    let sound = fs::read(&path).expect("the segment");
    let check = |change: &dyn Fn(&mut Vec<u8>), records: usize, expected: &str| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        fs::write(&path, bytes).expect("a write");
        let (found, damage) = read(dir.path());
        let damage = damage.map(|d| d.to_string()).unwrap_or_default();
        assert_eq!((found.len(), damage.as_str()), (records, expected));
    };
    check(&|b| b[8] ^= 1, 0, "checksum is 25e9a7c0, expected 364b3fb7");
    check(&|b| b[0] = 7, 0, "unknown fragment type 7");
    check(&|b| b[0] |= SNAPPY | ZSTD, 0, "unknown fragment type 25");
    check(&|b| b[10] |= ZSTD, 1, "the fragments of a record are packed differently");
    check(&|b| b[PAGE_BYTES] |= SNAPPY, 1, "the fragments of a record are packed differently");
    check(&|b| b[10] = 3, 1, "a fragment of type 3 where a record begins");
    check(&|b| b[11] = 0xff, 1, "a fragment of 65519 bytes leaves its page");
    check(&|b| b[10] = 0, 1, "non-zero bytes after the end of a page's records");
    check(&|b| b[PAGE_BYTES] = 1, 1, "a fragment of type 1 where a record goes on");
    check(&|b| b.truncate(PAGE_BYTES), 1, "it ends inside a record");
    check(&|b| b.truncate(12), 1, "it ends inside a record");
    check(&|b| b.truncate(10), 1, "");
    check(&|b| b.extend([0; 100]), 2, "");
}
