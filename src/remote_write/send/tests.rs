//! The queue on disk: what comes back after a death at any byte, and what is dropped.

use std::fs;

use super::batch::Item;
use super::log::Position;
use super::marks::MarksFile;
use super::reader::{FrameReader, Read};
use super::record::Value;
use super::segment::segment_path;
use super::*;

/// The payloads a reader finds, until the end.
fn read_all(log: &Log, from: Position) -> (Vec<String>, u64) {
    let mut reader = FrameReader::new(from);
    let (mut found, mut lost) = (Vec::new(), 0);
    loop {
        match reader.next(log) {
            // What a segment begins with.
            Read::Frame { samples: 0, .. } => {}
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
        log.append(format!("record {i}").as_bytes(), 10).expect("an append");
        let dropped = log.reveal();
        all.segments += dropped.segments;
        all.samples += dropped.samples;
    }
    all
}

#[test]
fn wherever_the_last_segment_is_cut_whole_records_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = Log::open(dir.path(), 1 << 20).expect("a log");
    let begin = usize::try_from(log.bytes()).expect("a few");
    append(&log, 0..5);
    drop(log);
    let path = segment_path(dir.path(), 0);
    let whole = fs::read(&path).expect("a segment");
    let frame = (whole.len() - begin) / 5;
    for cut in 0..=whole.len() {
        let copy = tempfile::tempdir().expect("a folder");
        fs::write(segment_path(copy.path(), 0), &whole[..cut]).expect("a copy");
        let log = Log::open(copy.path(), 1 << 20).expect("what is left is a log");
        let expected = cut.saturating_sub(begin) / frame;
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
    let begin = usize::try_from(log.bytes()).expect("a few");
    append(&log, 0..4);
    log.begin_segment().expect("a segment");
    append(&log, 4..6);
    let path = segment_path(dir.path(), 0);
    let mut bytes = fs::read(&path).expect("a segment");
    let frame = (bytes.len() - begin) / 4;
    bytes[begin + frame + 13] ^= 0x40;
    fs::write(&path, bytes).expect("a write");
    let (found, lost) = read_all(&log, Position::default());
    assert_eq!(found, ["record 0", "record 4", "record 5"]);
    assert_eq!(lost, 30);
    assert_eq!((log.pending(), log.ledger().lost), (30, 30));
    assert_eq!(read_all(&log, Position::default()).1, 0, "it is lost once");
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
}

/// Entries of the oldest segment that is there.
fn of_the_oldest(log: &Log, count: u32) -> Vec<Item> {
    let mut reader = FrameReader::new(Position::default());
    while !matches!(reader.next(log), Read::NewSegment | Read::End) {}
    let at = |entry| Position { entry, ..reader.position() };
    let item = |entry| Item {
        at: at(entry),
        labels: Labels::from_pairs([("a", "b")]),
        value: Value::Float(0, 0.0),
    };
    (0..count).map(item).collect()
}

#[test]
fn whatever_kills_the_process_every_entry_is_done_lost_or_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut given = 0_u64;
    let (mut next, mut done) = (0_u32, 0_u64);
    // Lives of one queue: what is finished, put back, or cut off while it is under way.
    for (life, end) in ["cut off", "finished", "put back", "cut off"].iter().enumerate() {
        let log = Log::open(dir.path(), 4096).expect("a log");
        let (mut file, mut marks) = MarksFile::open(dir.path()).expect("marks");
        marks.begin(1);
        let open = log.ledger();
        assert_eq!(open.lost + done + log.pending() as u64, given, "life {life} opens");
        append(&log, next..next + 300);
        let mut items = of_the_oldest(&log, 7);
        let taken = log.take_up(&mut items);
        assert_eq!(items.len(), 7);
        append(&log, next + 300..next + 600);
        (next, given) = (next + 600, given + 6000);
        assert!(log.take_up(&mut items).is_empty() && items.is_empty(), "its segment is gone");
        match *end {
            "finished" => {
                log.finish(&taken);
                done += 7;
            }
            "put back" => assert_eq!(log.put_back(&taken), 7),
            _ => {}
        }
        let now = log.ledger();
        assert_eq!(now.lost + done + log.pending() as u64, given, "life {life} ends");
        // The last life dies before it could note anything but what it began with.
        marks.ledger = Some(if life == 3 { open } else { now });
        file.write(&marks).expect("a write");
        let lost = if *end == "cut off" { now.lost + 7 } else { now.lost };
        let again = Log::open(dir.path(), 4096).expect("a log");
        assert_eq!(again.ledger().lost, lost, "life {life}: {end}");
        assert_eq!(again.found_lost, if life == 3 { lost - open.lost } else { lost - now.lost });
    }
}

#[test]
fn what_the_store_refused_is_not_there_and_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = Log::open(dir.path(), 1 << 20).expect("a log");
    append(&log, 0..1);
    log.append(b"refused", 10).expect("an append");
    let (found, _) = read_all(&log, Position::default());
    assert_eq!((found.len(), log.pending()), (1, 10), "nobody sees it before it is revealed");
    log.take_back().expect("a file that can be cut");
    append(&log, 1..2);
    // One more that is cut off between the queue and the store: it may be sent.
    log.append(b"cut off", 10).expect("an append");
    drop(log);
    let log = Log::open(dir.path(), 1 << 20).expect("a log");
    let (found, _) = read_all(&log, Position::default());
    assert_eq!(found, ["record 0", "record 1", "cut off"]);
    assert_eq!((log.pending(), log.ledger().lost), (30, 0));
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
                    Read::Frame { samples: 0, .. } => {}
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
