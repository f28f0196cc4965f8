//! Readers during commits: a batch is there as a whole or not at all.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const SERIES: usize = 60;
const COMMITS: i64 = 400;

#[test]
fn readers_never_see_half_a_batch_and_never_lose_one_they_saw() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    seen = check_once(&tsdb, seen);
                }
                assert_eq!(check_once(&tsdb, seen), COMMITS as usize);
            });
        }
        // Two writers on their own series: their batches interleave.
        let other = scope.spawn(|| {
            for ts in 1..=COMMITS {
                commit(&tsdb, "noise", 30, ts, 0.0).expect("a commit");
            }
        });
        for ts in 1..=COMMITS {
            commit(&tsdb, "m", SERIES, ts, ts as f64).expect("a commit");
        }
        other.join().expect("the other writer");
        done.store(true, Ordering::Relaxed);
    });
}

/// Reads once and returns the number of batches seen.
fn check_once(tsdb: &Tsdb, seen: usize) -> usize {
    let found = select(tsdb, vec![Matcher::equal("__name__", "m")], 0, i64::MAX);
    let counts: Vec<usize> = found.values().map(Vec::len).collect();
    let Some(first) = counts.first().copied() else {
        assert_eq!(seen, 0);
        return 0;
    };
    assert_eq!(counts, vec![first; SERIES], "every series of a batch, or none");
    assert!(first >= seen, "a batch that was seen stays");
    first
}

#[test]
fn a_set_read_late_shows_the_time_of_its_select() {
    let dir = tempfile::tempdir().expect("a directory");
    let tsdb = open(dir.path());
    commit(&tsdb, "m", 3, 1, 1.0).expect("a commit");
    let all = request(Vec::new(), 0, i64::MAX);
    let early = tsdb.select(&all).now_or_never().expect("ready").expect("a set");
    for ts in 2..300 {
        commit(&tsdb, "m", 5, ts, 1.0).expect("a commit");
    }
    let mut raw = RawSamples::default();
    for series in &early.series {
        raw.clear();
        series.read_into(0, i64::MAX, &mut raw).expect("samples");
        assert_eq!(raw.ts, [1]);
    }
    assert_eq!(early.series.len(), 3);
    assert_eq!(everything(&tsdb).values().map(Vec::len).sum::<usize>(), 3 + 5 * 298);
}
