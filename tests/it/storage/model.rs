//! The store against a model of a few lines: any sequence of appends, commits, dropped
//! batches, restarts and maintenance leaves the same samples.

use proptest::prelude::*;
use watchfire::model::value::stale_nan;
use watchfire::storage::AppendError;

use super::*;

#[derive(Clone, Debug)]
enum Action {
    /// Series, time relative to the newest so far, value.
    Append(usize, i64, f64),
    Commit,
    Drop,
    /// Without closing, as after a crash.
    Restart,
    Close,
    Maintain,
}

fn action() -> impl Strategy<Value = Action> {
    let value = prop::sample::select(vec![0.0, 1.0, -1.5, f64::INFINITY, f64::NAN, stale_nan()]);
    prop_oneof![
        12 => (0usize..4, -150i64..400, value).prop_map(|(s, dt, v)| Action::Append(s, dt, v)),
        4 => Just(Action::Commit),
        1 => Just(Action::Drop),
        1 => Just(Action::Restart),
        1 => Just(Action::Close),
        1 => Just(Action::Maintain),
    ]
}

const RANGE_MS: i64 = 200;

/// Committed samples per series, and the batch under way.
#[derive(Default)]
struct Model {
    series: BTreeMap<usize, BTreeMap<i64, u64>>,
    /// Newest sample per series that came in order.
    last: BTreeMap<usize, (i64, u64)>,
    batch: Vec<(usize, i64, u64)>,
    /// Oldest time the batch takes in order, and out of order.
    from_ms: Option<(i64, i64)>,
    window_ms: i64,
}

impl Model {
    fn append(&mut self, series: usize, ts: i64, bits: u64) -> Result<(), AppendError> {
        let newest = self.last.values().map(|(ts, _)| *ts).max().unwrap_or(ts);
        let bounds = (newest - RANGE_MS / 2, newest - self.window_ms);
        let (from_ms, late_from_ms) = *self.from_ms.get_or_insert(bounds);
        let last = self.last.get(&series).filter(|_| ts >= from_ms);
        if let Some((last, held)) = last
            && ts == *last
            && bits != *held
        {
            return Err(AppendError::DuplicateForTimestamp);
        }
        let in_order = ts >= from_ms && last.is_none_or(|(last, _)| ts >= *last);
        if !in_order && self.window_ms == 0 {
            let in_bounds = ts >= from_ms;
            return Err(if in_bounds { AppendError::OutOfOrder } else { AppendError::OutOfBounds });
        }
        if !in_order && ts < late_from_ms {
            return Err(AppendError::TooOld);
        }
        self.batch.push((series, ts, bits));
        Ok(())
    }

    fn commit(&mut self) {
        let (from_ms, _) = self.from_ms.take().unwrap_or_default();
        for (series, ts, bits) in self.batch.drain(..) {
            let in_order = self.last.get(&series).is_none_or(|(last, _)| ts > *last);
            if in_order && ts >= from_ms {
                self.last.insert(series, (ts, bits));
            } else if self.window_ms == 0 {
                continue;
            }
            self.series.entry(series).or_default().entry(ts).or_insert(bits);
        }
    }

    fn drop_batch(&mut self) {
        self.batch.clear();
        self.from_ms = None;
    }
}

fn check(model: &Model, tsdb: &Tsdb) {
    let found: BTreeMap<String, Vec<(i64, u64)>> = everything(tsdb)
        .into_iter()
        .map(|(l, s)| (l, s.into_iter().map(|(t, v)| (t, v.to_bits())).collect()))
        .collect();
    let samples = |s: &BTreeMap<i64, u64>| s.iter().map(|(ts, bits)| (*ts, *bits)).collect();
    let expected =
        model.series.iter().map(|(i, s)| (labels("m", *i).to_string(), samples(s))).collect();
    assert_eq!(found, expected);
}

/// Does all of it to a store and to the model, and compares after each step.
fn run(actions: Vec<Action>, window_ms: i64, memory_snapshots: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    // Retention far beyond the times used: maintenance cuts segments and nothing else.
    let options = || TsdbOptions {
        chunk_range_ms: RANGE_MS,
        out_of_order_window_ms: window_ms,
        memory_snapshots,
        ..Default::default()
    };
    let clock = Arc::new(ManualClock::new(0));
    let reopen = || Tsdb::open(dir.path(), options(), clock.clone()).expect("a store");
    let mut tsdb = reopen();
    let mut model = Model { window_ms, ..Model::default() };
    let mut appender = None;
    let mut newest = 1_000;
    for action in actions {
        match action {
            Action::Append(series, dt, value) => {
                let ts = newest + dt;
                // Which of two values of one time counts is not said out of order.
                let value = if window_ms > 0 { (ts % 1009) as f64 } else { value };
                let appender = appender.get_or_insert_with(|| tsdb.appender());
                let got = appender.append(None, &labels("m", series), ts, value).map(|_| ());
                assert_eq!(got.clone(), model.append(series, ts, value.to_bits()));
                if got.is_ok() {
                    newest = newest.max(ts);
                    clock.set_ms(newest);
                }
                continue;
            }
            Action::Commit => {
                if let Some(appender) = appender.take() {
                    appender.commit().expect("a commit");
                    model.commit();
                }
            }
            Action::Maintain => tsdb.maintain().expect("maintenance"),
            Action::Drop | Action::Restart | Action::Close => {
                appender = None;
                model.drop_batch();
            }
        }
        if matches!(action, Action::Close) {
            tsdb.close().expect("a close");
        }
        if matches!(action, Action::Close | Action::Restart) {
            drop(tsdb);
            tsdb = reopen();
        }
        check(&model, &tsdb);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history_leaves_what_the_model_says(
        actions in prop::collection::vec(action(), 1..120),
        window_ms in prop::sample::select(vec![0i64, 60, 500]),
        memory_snapshots in any::<bool>(),
    ) {
        run(actions, window_ms, memory_snapshots);
    }
}

/// Histories that once left something else.
#[test]
fn histories_that_went_wrong_go_right() {
    use Action::{Close, Commit, Maintain, Restart};
    let at = |series, dt| Action::Append(series, dt, 0.0);
    let late_after_a_cut =
        vec![at(2, 0), at(0, 301), Commit, Maintain, at(2, 5), at(2, -1), Commit, Restart, Close];
    run(late_after_a_cut, 60, true);
    let snapshot_of_what_is_cut = vec![
        at(0, 0),
        at(3, 0),
        Commit,
        at(0, 0),
        at(1, 0),
        at(3, 301),
        Commit,
        Maintain,
        Close,
        at(0, 0),
        Commit,
        Restart,
    ];
    run(snapshot_of_what_is_cut, 0, true);
    let series_that_left_and_came_back = vec![
        at(0, 0),
        Commit,
        at(0, 94),
        at(1, 207),
        Commit,
        at(0, 0),
        Maintain,
        at(0, 99),
        Commit,
        Close,
        at(0, 156),
        at(0, 44),
        Commit,
        Close,
    ];
    run(series_that_left_and_came_back, 0, false);
}
