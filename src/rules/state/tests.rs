//! The log as a whole: any life of alerts, cut off anywhere; damage; full disks.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::record::fingerprint;
use super::replay::Problem;
use super::*;
use crate::rules::alert::{Alert, AlertParams, AlertSample, AlertStates, Evidence, step};
use crate::rules::view::AlertState;
use crate::telemetry::clock::ManualClock;

const MINUTE: i64 = 60_000;

/// A log, and the rules that write to it.
struct Rig {
    dir: PathBuf,
    clock: Arc<ManualClock>,
    metrics: StateMetrics,
    log: StateLog,
    rules: Vec<(Arc<RuleLog>, AlertStates)>,
}

fn identity(rule: usize) -> RuleIdentity {
    RuleIdentity {
        file: "f.yml".to_owned(),
        group: "g".to_owned(),
        name: format!("rule{rule}"),
        labels: Labels::from_pairs([("severity", "page")]),
        index: 0,
    }
}

impl Rig {
    fn open(dir: &Path, rules: usize) -> Self {
        Self::open_with(dir, rules, StateSync::Never)
    }

    fn open_with(dir: &Path, rules: usize, sync: StateSync) -> Self {
        let clock = Arc::new(ManualClock::new(0));
        let metrics = StateMetrics::default();
        let options = StateOptions {
            dir: dir.to_owned(),
            sync,
            file_bytes_min: STATE_FILE_BYTES_MIN,
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        let log = StateLog::open(options).unwrap();
        let claim = |rule| {
            let (rule, image) = log.claim(identity(rule));
            (rule, image.map(RuleImage::into_states).unwrap_or_default())
        };
        let rules = (0..rules).map(claim).collect();
        Self { dir: dir.to_owned(), clock, metrics, log, rules }
    }

    /// One evaluation: `present` has the values of the alerts of these names.
    fn evaluate(&mut self, rule: usize, ts: i64, params: &AlertParams, present: &[(u8, f64)]) {
        let samples = present
            .iter()
            .map(|(name, value)| AlertSample {
                labels: Labels::from_pairs([("alertname", "A"), ("i", &name.to_string())]),
                annotations: Labels::from_pairs([("v", value.to_string())]),
                value: *value,
            })
            .collect();
        let (log, states) = &mut self.rules[rule];
        *states = step(std::mem::take(states), params, samples, Evidence::default(), ts).states;
        let due = states.take_due(ts, MINUTE, MINUTE / 2);
        if let Some(unsynced) = log.record(states, &due, true) {
            unsynced.wait_here();
        }
    }

    fn fire(&mut self, rule: usize, ts: i64, names: std::ops::Range<u8>) {
        let present: Vec<_> = names.map(|name| (name, 1.0)).collect();
        self.evaluate(rule, ts, &AlertParams::default(), &present);
    }

    /// What the rules have, as it should be found after a restart.
    fn expected(&self, delivered: &[(usize, i64)]) -> Vec<BTreeMap<String, Alert>> {
        let rule = |(rule, (_, states)): (usize, &(_, AlertStates))| {
            let mut states: Vec<Alert> = states.iter().cloned().collect();
            for alert in &mut states {
                alert.last_sent_at_ms.take_if(|at| !delivered.contains(&(rule, *at)));
            }
            by_labels(states.into_iter())
        };
        self.rules.iter().enumerate().map(rule).collect()
    }

    fn newest_file(&self) -> PathBuf {
        let generation = self.log.shared.writer.lock().generation();
        self.dir.join(replay::file_name(generation))
    }

    fn file_len(&self) -> u64 {
        fs::metadata(self.newest_file()).map_or(0, |m| m.len())
    }

    fn pass_second(&self) {
        self.clock.advance_ms(1001);
    }
}

fn by_labels(alerts: impl Iterator<Item = Alert>) -> BTreeMap<String, Alert> {
    alerts.map(|alert| (alert.labels.to_string(), alert)).collect()
}

/// What a directory holds, rule by rule.
fn found(dir: &Path, rules: usize) -> (Vec<BTreeMap<String, Alert>>, Vec<Problem>) {
    let mut found = replay(dir).unwrap();
    let mut image = |rule: usize| {
        let image = found.rules.values().find(|image| image.identity == identity(rule));
        by_labels(image.cloned().map(RuleImage::into_states).unwrap_or_default().into_iter())
    };
    let images = (0..rules).map(&mut image).collect();
    (images, std::mem::take(&mut found.problems))
}

/// Values and annotations of alerts whose condition holds may be older than the alerts:
/// the next evaluation brings them. Those of all others have to be right.
fn assert_same(found: &[BTreeMap<String, Alert>], expected: &[BTreeMap<String, Alert>], at: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{at}");
        for (found, expected) in found.values().zip(expected.values()) {
            let mut found = found.clone();
            let present =
                expected.state != AlertState::Inactive && expected.keep_firing_since_ms.is_none();
            if present {
                found.value = expected.value;
                found.annotations = expected.annotations.clone();
            }
            assert_eq!(found, *expected, "{at}");
        }
    }
}

/// A delivery noted while the rule's state lay in an older file goes with the file it was
/// noted in: then the alert is sent once more than needed.
fn forgive_resends(found: &[BTreeMap<String, Alert>], expected: &mut [BTreeMap<String, Alert>]) {
    for (found, expected) in found.iter().zip(expected) {
        for (labels, alert) in expected {
            if found.get(labels).is_some_and(|a| a.last_sent_at_ms.is_none()) {
                alert.last_sent_at_ms = None;
            }
        }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        // The cleaner may be faster.
        if let Ok(bytes) = fs::read(&path) {
            fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
}

#[derive(Clone, Debug)]
struct Tick {
    rule: usize,
    present: Vec<(u8, f64)>,
    minutes: i64,
    for_minutes: i64,
    keep_minutes: i64,
    delivered: bool,
}

fn tick() -> impl Strategy<Value = Tick> {
    (
        0..2usize,
        prop::collection::btree_map(0..5u8, (0..9).prop_map(f64::from), 0..5),
        prop_oneof![8 => 0..2i64, 1 => Just(20i64)],
        0..3i64,
        0..3i64,
        any::<bool>(),
    )
        .prop_map(|(rule, present, minutes, for_minutes, keep_minutes, delivered)| Tick {
            rule,
            present: present.into_iter().collect(),
            minutes,
            for_minutes,
            keep_minutes,
            delivered,
        })
}

/// Plays ticks; `seen` looks after every record.
fn play(
    rig: &mut Rig,
    ticks: &[Tick],
    mut seen: impl FnMut(&Rig, &[(usize, i64)]),
) -> Vec<(usize, i64)> {
    let mut delivered = Vec::new();
    let mut ts = 0;
    for tick in ticks {
        ts += tick.minutes * MINUTE + 15_000;
        let params = AlertParams {
            for_ms: tick.for_minutes * MINUTE,
            keep_firing_for_ms: tick.keep_minutes * MINUTE,
            ..Default::default()
        };
        rig.evaluate(tick.rule, ts, &params, &tick.present);
        seen(rig, &delivered);
        if tick.delivered {
            rig.rules[tick.rule].0.delivered(ts);
            delivered.push((tick.rule, ts));
            seen(rig, &delivered);
        }
    }
    delivered
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_log_cut_at_any_byte_holds_the_state_of_its_last_whole_change(
        ticks in prop::collection::vec(tick(), 1..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path(), 2);
        let mut states = vec![(0, rig.expected(&[]))];
        play(&mut rig, &ticks, |rig, delivered| {
            states.push((rig.file_len(), rig.expected(delivered)));
        });
        let whole = fs::read(rig.newest_file()).unwrap();
        let torn = tempfile::tempdir().unwrap();
        let file = torn.path().join("00000001.state");
        fs::write(&file, &whole).unwrap();
        let file = OpenOptions::new().write(true).open(file).unwrap();
        for cut in (0..=whole.len()).rev() {
            file.set_len(cut as u64).unwrap();
            let (found, problems) = found(torn.path(), 2);
            let expected = states.iter().rev().find(|(len, _)| *len <= cut as u64).unwrap();
            assert_same(&found, &expected.1, &format!("cut at {cut}"));
            prop_assert!(problems.iter().all(|p| !p.is_damage), "{problems:?}");
            prop_assert!(problems.len() <= 1);
        }
    }

    #[test]
    fn a_crash_at_any_time_between_files_loses_nothing(
        ticks in prop::collection::vec(tick(), 1..60),
        restarts in prop::collection::vec(0..60usize, 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path(), 2);
        rig.log.shared.writer.lock().file_bytes_min = 200;
        let mut delivered = Vec::new();
        for (at, one) in ticks.iter().enumerate() {
            let mut one = one.clone();
            one.minutes += at as i64 * 25;
            delivered.extend(play(&mut rig, &[one], |_, _| {}));
            let crashed = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), crashed.path());
            let (found, problems) = found(crashed.path(), 2);
            prop_assert_eq!(problems, []);
            let mut expected = rig.expected(&delivered);
            forgive_resends(&found, &mut expected);
            assert_same(&found, &expected, &format!("after {at}"));
            if restarts.contains(&at) {
                drop(rig);
                rig = Rig::open(dir.path(), 2);
                rig.log.shared.writer.lock().file_bytes_min = 200;
            }
        }
        rig.log.close();
        let files = rig.log.shared.writer.lock();
        prop_assert!(files.generation() < 4 || fs::read_dir(dir.path()).unwrap().count() < 6);
    }
}

#[test]
fn files_go_even_when_every_change_fills_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 1);
    // What a file begins with alone is more than it may hold.
    for group in 0..200 {
        rig.log.set_watermark("other.yml", &format!("group {group}"), MINUTE);
    }
    rig.log.shared.writer.lock().file_bytes_min = 1;
    for minute in 0..12 {
        rig.fire(0, minute * 2 * MINUTE, 0..3);
    }
    rig.log.close();
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 3, "{files} files");
}

#[test]
fn a_flipped_bit_costs_at_most_the_change_it_is_in_and_is_reported_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 2);
    let mut ends = vec![rig.file_len()];
    for minute in 0..6 {
        for rule in 0..2 {
            rig.fire(rule, minute * 2 * MINUTE, 0..3);
            ends.push(rig.file_len());
        }
    }
    let whole = fs::read(rig.newest_file()).unwrap();
    let expected = rig.expected(&[]);
    for at in 0..whole.len() {
        let flipped = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let file = flipped.path().join("00000001.state");
        fs::write(&file, bytes).unwrap();
        let (found, problems) = found(flipped.path(), 2);
        assert!(!problems.is_empty() && problems.iter().all(|p| p.file == file), "byte {at}");
        let first = &problems[0];
        let last_frame = ends[ends.len() - 2];
        assert!(first.is_damage || at as u64 >= last_frame, "byte {at}: {problems:?}");
        assert!(first.offset <= at as u64 && at as u64 - first.offset < 1000);
        // Later changes say all that matters but labels: one rule may suffer, never both.
        let hit: Vec<usize> = (0..2).filter(|r| found[*r] != expected[*r]).collect();
        assert!(hit.len() <= 1, "byte {at}: {hit:?}");
        for rule in hit {
            let states: Vec<_> = found[rule].values().map(|a| a.state).collect();
            assert!(states.is_empty() || states == [AlertState::Firing; 3], "byte {at}");
        }
    }
}

#[test]
fn damaged_files_are_set_aside_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 2);
    rig.fire(0, 0, 0..3);
    rig.fire(1, 0, 0..3);
    let file = rig.newest_file();
    drop(rig);
    let mut bytes = fs::read(&file).unwrap();
    bytes[60] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let mut rig = Rig::open(dir.path(), 2);
    assert_eq!(rig.metrics.damage.get(), 1);
    assert_eq!(rig.rules[0].1.iter().count(), 0);
    assert_eq!(rig.rules[1].1.iter().count(), 3);
    rig.fire(0, MINUTE, 0..3);
    rig.fire(1, MINUTE, 0..3);
    rig.log.close();
    assert_eq!(fs::read(file.with_extension("damaged")).unwrap(), bytes);
    assert!(!file.exists());
    let expected = rig.expected(&[]);
    drop(rig);
    let (found, problems) = found(dir.path(), 2);
    assert_eq!(problems, []);
    assert_same(&found, &expected, "after the damage");
}

#[test]
fn a_file_of_a_newer_version_is_set_aside_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut newer = frame::file_header();
    newer[8] = 9;
    let sum = crc32c::crc32c(&newer[..12]).to_le_bytes();
    newer[12..].copy_from_slice(&sum);
    let file = dir.path().join("00000003.state");
    fs::write(&file, [&newer[..], b"what a later program wrote"].concat()).unwrap();
    let (_, problems) = found(dir.path(), 0);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].is_damage && problems[0].what.contains("version 9"), "{problems:?}");
    let mut rig = Rig::open(dir.path(), 1);
    rig.fire(0, 0, 0..1);
    rig.log.close();
    assert!(file.with_extension("damaged").exists());
    assert_eq!(rig.newest_file(), dir.path().join("00000004.state"));
}

#[test]
fn a_full_disk_is_survived_and_made_good_for() {
    for refuse_truncation in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(dir.path(), 2);
        rig.fire(0, 0, 0..2);
        rig.fire(1, 0, 0..2);
        let before = rig.expected(&[]);
        {
            let mut writer = rig.log.shared.writer.lock();
            writer.fail_after_bytes = Some(20);
            writer.refuse_truncation = refuse_truncation;
        }
        rig.fire(0, 2 * MINUTE, 0..5);
        rig.fire(1, 2 * MINUTE, 0..1);
        assert_eq!((rig.metrics.failing.get(), rig.metrics.write_failures.get()), (1, 2));
        // The process may die now: what is on the disk is what was there before.
        let (then, problems) = found(dir.path(), 2);
        assert_same(&then, &before, "while the disk is full");
        assert!(problems.iter().all(|p| !p.is_damage), "{problems:?}");
        // The alerts go on meanwhile, and nothing is tried before a second has passed.
        rig.log.shared.writer.lock().fail_after_bytes = None;
        rig.fire(0, 3 * MINUTE, 0..5);
        assert_eq!(rig.metrics.failing.get(), 1);
        rig.pass_second();
        rig.fire(0, 4 * MINUTE, 0..4);
        assert_eq!(rig.metrics.failing.get(), 0);
        rig.fire(1, 4 * MINUTE, 0..1);
        let (now, _) = found(dir.path(), 2);
        assert_same(&now, &rig.expected(&[]), "after space came back");
    }
}

#[test]
fn unchanged_alerts_write_nothing_and_resends_write_little() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 1);
    rig.fire(0, 0, 0..200);
    let first = rig.file_len();
    rig.fire(0, MINUTE / 2, 0..200);
    rig.fire(0, MINUTE, 0..200);
    assert_eq!(rig.file_len(), first, "nothing was sent, nothing happened");
    rig.fire(0, 2 * MINUTE, 0..200);
    let resent = rig.file_len() - first;
    assert!((200..300).contains(&resent), "{resent} bytes for 200 alerts sent again");
    assert_eq!(rig.metrics.changes.get(), 2);
}

#[test]
fn the_disk_is_asked_before_a_change_is_acted_upon_when_it_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open_with(dir.path(), 1, StateSync::Always);
    for minute in 0..4 {
        rig.fire(0, minute * 2 * MINUTE, 0..2);
        // One per change.
        assert_eq!(rig.metrics.syncs.get(), minute as u64 + 1);
    }
    drop(rig);
    let mut rig = Rig::open(dir.path(), 1);
    rig.fire(0, 9 * MINUTE, 0..2);
    rig.fire(0, 11 * MINUTE, 0..2);
    rig.log.close();
    // One before the old file is deleted, one to close.
    assert_eq!(rig.metrics.syncs.get(), 2);
}

#[test]
fn one_wait_for_the_disk_serves_all_that_was_written_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open_with(dir.path(), 2, StateSync::Always);
    let mut write = |rule: usize| {
        let (log, states) = &mut rig.rules[rule];
        let sample = AlertSample {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::empty(),
            value: 1.0,
        };
        states.insert(Alert::new(sample, 0));
        log.record(states, &[], true).expect("the disk has to have it")
    };
    let (first, second) = (write(0), write(1));
    first.wait_here();
    second.wait_here();
    assert_eq!(rig.metrics.syncs.get(), 1);
}

#[test]
fn what_the_disk_did_not_take_goes_to_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open_with(dir.path(), 2, StateSync::Always);
    rig.fire(0, 0, 0..2);
    rig.fire(1, 0, 0..2);
    let (disk, _) = rig.log.shared.writer.lock().disk().unwrap();
    disk.fails.store(true, std::sync::atomic::Ordering::Relaxed);
    rig.fire(0, 2 * MINUTE, 0..3);
    assert_eq!(rig.metrics.failing.get(), 1);
    // Nobody knows what of that file the disk has: it is read no more.
    rig.pass_second();
    rig.log.set_watermark("f.yml", "g", 3 * MINUTE);
    rig.fire(0, 4 * MINUTE, 0..3);
    rig.fire(1, 4 * MINUTE, 0..2);
    assert_eq!(rig.metrics.failing.get(), 0);
    rig.log.close();
    assert!(!dir.path().join("00000001.state").exists());
    let (now, _) = found(dir.path(), 2);
    assert_same(&now, &rig.expected(&[]), "after the disk works again");
}

#[test]
fn what_was_not_delivered_is_due_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let due_after_restart = |ts: i64| {
        let mut rig = Rig::open(dir.path(), 1);
        let due = rig.rules[0].1.take_due(ts, MINUTE, MINUTE);
        due.iter().map(|a| a.labels.get_or_empty("i").to_owned()).collect::<String>()
    };
    let mut rig = Rig::open(dir.path(), 1);
    rig.fire(0, 0, 0..2);
    drop(rig);
    assert_eq!(due_after_restart(1000), "01", "firing, and nobody has it");
    let mut rig = Rig::open(dir.path(), 1);
    rig.fire(0, 1000, 0..2);
    rig.rules[0].0.delivered(1000);
    drop(rig);
    assert_eq!(due_after_restart(2000), "", "everybody has it");
    let mut rig = Rig::open(dir.path(), 1);
    rig.fire(0, 2000, 0..1);
    drop(rig);
    assert_eq!(due_after_restart(3000), "1", "its end has not arrived");
    // The alert that did not change keeps its delivery through files and restarts.
    let mut rig = Rig::open(dir.path(), 1);
    rig.fire(0, 3000, 0..1);
    rig.rules[0].0.delivered(3000);
    rig.rules[0].0.write_all_next();
    rig.fire(0, 4000, 0..1);
    drop(rig);
    assert_eq!(due_after_restart(5000), "");
    assert_eq!(due_after_restart(64_000), "01", "the resend delay has passed");
}

#[test]
fn removed_rules_stay_removed_and_slow_ones_keep_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(dir.path(), 3);
    (0..3).for_each(|rule| rig.fire(rule, 0, 0..3));
    rig.log.set_watermark("f.yml", "g", 7);
    rig.log.set_watermark("f.yml", "gone", 8);
    drop(rig);
    let mut rig = Rig::open(dir.path(), 3);
    rig.log.shared.writer.lock().file_bytes_min = 1000;
    // Rule 2 is not evaluated any more, rule 1 is removed, rule 0 fills files.
    rig.fire(0, MINUTE, 0..3);
    rig.rules[1].0.forget();
    assert!(rig.rules[1].0.record(&mut AlertStates::default(), &[], true).is_none());
    for minute in 0..200 {
        rig.fire(0, minute * MINUTE, 0..3 + (minute % 2) as u8);
    }
    rig.log.close();
    assert!(rig.log.shared.writer.lock().generation() > 4);
    assert_eq!(rig.metrics.files.get(), 2, "the first, and the newest");
    let (found, problems) = found(dir.path(), 3);
    assert_eq!((found[1].len(), found[2].len()), (0, 3));
    assert_eq!(problems, []);
    drop(rig);
    // At the next start nobody claims rule 2.
    let mut rig = Rig::open(dir.path(), 1);
    assert_eq!(rig.log.watermark("f.yml", "gone"), Some(8));
    rig.log.forget_unclaimed(|_, group| match group {
        "g" => GroupFate::Unread,
        _ => GroupFate::Gone,
    });
    assert_eq!(rig.log.shared.dormant.lock().rules.len(), 1, "its file may come back");
    rig.log.forget_unclaimed(|_, group| match group {
        "g" => GroupFate::Runs,
        _ => GroupFate::Gone,
    });
    rig.fire(0, 300 * MINUTE, 0..1);
    rig.log.close();
    drop(rig);
    let all = replay(dir.path()).unwrap();
    assert_eq!((all.rules.len(), all.files.len()), (1, 1));
    let rig = Rig::open(dir.path(), 0);
    let marks = ["g", "gone"].map(|group| rig.log.watermark("f.yml", group));
    assert_eq!(marks, [Some(7), None]);
}

#[test]
fn one_process_at_a_time_uses_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir.path(), 0);
    let again = || {
        StateLog::open(StateOptions {
            dir: dir.path().to_owned(),
            sync: StateSync::Never,
            file_bytes_min: STATE_FILE_BYTES_MIN,
            clock: rig.clock.clone(),
            metrics: StateMetrics::default(),
        })
    };
    let error = again().err().unwrap().to_string();
    assert!(error.contains("--rules.state-dir") && error.contains("another process"), "{error}");
}

#[test]
fn every_part_of_a_life_changes_the_fingerprint() {
    let mut states = AlertStates::default();
    let sample = AlertSample {
        labels: Labels::from_pairs([("alertname", "A")]),
        annotations: Labels::empty(),
        value: 1.0,
    };
    states = step(states, &AlertParams::default(), vec![sample], Evidence::default(), 0).states;
    let alert = states.iter().next().unwrap().clone();
    let changes: [fn(&mut Alert); 5] = [
        |a| a.state = AlertState::Pending,
        |a| a.active_at_ms += 1,
        |a| a.fired_at_ms = None,
        |a| a.resolved_at_ms = Some(0),
        |a| a.keep_firing_since_ms = Some(0),
    ];
    for change in changes {
        let mut changed = alert.clone();
        change(&mut changed);
        assert_ne!(fingerprint(&changed), fingerprint(&alert));
    }
}
