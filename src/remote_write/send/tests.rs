//! The queue on disk: what comes back after a death at any byte, and what is dropped.

use std::fs;

use super::log::{FrameReader, Position, Read, segment_path};
use super::*;

/// The payloads a reader finds, until the end.
fn read_all(log: &Log, from: Position) -> (Vec<String>, u64) {
    let mut reader = FrameReader::new(from);
    let (mut found, mut lost) = (Vec::new(), 0);
    loop {
        match reader.next(log) {
            Read::Frame { payload, .. } => found.push(String::from_utf8(payload).expect("text")),
            Read::NewSegment => {}
            Read::Damaged { samples, .. } => lost += samples,
            Read::End => return (found, lost),
        }
    }
}

fn append(log: &Log, range: std::ops::Range<u32>) -> log::Dropped {
    let mut all = log::Dropped::default();
    for i in range {
        if log.wants_new_segment() {
            log.begin_segment().expect("a segment");
        }
        let dropped = log.append(format!("record {i}").as_bytes(), 10).expect("an append");
        all.segments += dropped.segments;
        all.samples += dropped.samples;
    }
    all
}

#[test]
fn wherever_the_last_segment_is_cut_whole_records_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = Log::open(dir.path(), 1 << 20).expect("a log");
    append(&log, 0..5);
    drop(log);
    let path = segment_path(dir.path(), 0);
    let whole = fs::read(&path).expect("a segment");
    let frame = (whole.len() - 16) / 5;
    for cut in 0..=whole.len() {
        let copy = tempfile::tempdir().expect("a folder");
        fs::write(segment_path(copy.path(), 0), &whole[..cut]).expect("a copy");
        let log = Log::open(copy.path(), 1 << 20).expect("what is left is a log");
        let expected = cut.saturating_sub(16) / frame;
        assert_eq!(log.pending(), 10 * expected as i64, "cut at {cut}");
        append(&log, 90..91);
        let (found, lost) = read_all(&log, Position::default());
        assert_eq!((found.len(), lost), (expected + 1, 0), "cut at {cut}");
        assert_eq!(found.last().map(String::as_str), Some("record 90"));
    }
}

#[test]
fn a_damaged_record_costs_the_rest_of_its_segment_and_no_more() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = Log::open(dir.path(), 1 << 20).expect("a log");
    append(&log, 0..4);
    log.begin_segment().expect("a segment");
    append(&log, 4..6);
    let path = segment_path(dir.path(), 0);
    let mut bytes = fs::read(&path).expect("a segment");
    let frame = (bytes.len() - 16) / 4;
    bytes[16 + frame + 13] ^= 0x40;
    fs::write(&path, bytes).expect("a write");
    let (found, lost) = read_all(&log, Position::default());
    assert_eq!(found, ["record 0", "record 4", "record 5"]);
    assert_eq!(lost, 30);
}

#[test]
fn a_full_queue_drops_its_oldest_and_says_how_much() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = Log::open(dir.path(), 4096).expect("a log");
    // Nobody has read anything: what is dropped is lost.
    let dropped = append(&log, 0..1000);
    assert!(log.bytes() <= 4096, "{}", log.bytes());
    let (found, _) = read_all(&log, Position::default());
    assert_eq!(dropped.samples, 10 * (1000 - found.len() as u64));
    assert_eq!(log.pending(), 10 * found.len() as i64);
    assert_eq!(found.last().map(String::as_str), Some("record 999"));
    // What was taken before it was dropped is not lost.
    let dropped = append(&log, 1000..1050);
    assert!(dropped.segments > 0, "room was made");
    assert_eq!(dropped.samples, 0);
}

#[test]
fn a_reader_follows_the_writer_over_segments() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = Log::open(dir.path(), 1 << 20).expect("a log");
    let mut reader = FrameReader::new(Position::default());
    let mut found = Vec::new();
    let mut expected = Vec::new();
    for i in 0..20 {
        if i % 3 == 0 {
            log.begin_segment().expect("a segment");
        }
        append(&log, i..i + 1);
        expected.push(format!("record {i}"));
        if i % 2 == 0 {
            loop {
                match reader.next(&log) {
                    Read::Frame { payload, .. } => {
                        found.push(String::from_utf8(payload).expect("text"));
                    }
                    Read::End => break,
                    Read::NewSegment => {}
                    Read::Damaged { why, .. } => panic!("{why}"),
                }
            }
            log.trim(reader.position());
        }
    }
    expected.pop();
    assert_eq!(found, expected, "the last was appended after the last look");
}

#[test]
fn queues_are_called_by_name_or_url_and_never_share() {
    let config = |name: &str, url: &str| RemoteWriteConfig {
        name: name.to_owned(),
        url: url.to_owned(),
        ..RemoteWriteConfig::default()
    };
    let url = "http://user:secret@host:9090/api/v1/write";
    let all = [config("", url), config("", url), config("a/b", url), config("a_b", url)];
    let keys = keys(&all);
    assert!(keys.iter().all(|k| !k.contains('/') && !k.contains("secret")), "{keys:?}");
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{keys:?}");
}
