//! One rule's part of the log: what of its alerts changed since it was written last.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use prost::Message;
use rustc_hash::FxHashSet;

use super::disk::Unsynced;
use super::record::{AlertRecord, Record, RuleRecord, SentRecord, distances, fingerprint};
use super::replay::RuleImage;
use super::writer::Batch;
use super::{RuleIdentity, Shared};
use crate::model::TimestampMs;
use crate::notifier::Receipt;
use crate::rules::alert::{Alert, AlertStates, Logged};

/// About how many bytes a record of a large change has.
const RECORD_BYTES: usize = 256 << 10;

/// The part of the log that is one rule's.
pub(in crate::rules) struct RuleLog {
    shared: Arc<Shared>,
    number: u32,
    identity: RuleIdentity,
    written: Mutex<Written>,
}

/// What the log holds of the rule.
#[derive(Default)]
struct Written {
    /// The file its state lies in; `None` before the first change.
    generation: Option<u64>,
    /// The next change says all of the rule.
    whole: bool,
    restored: bool,
    last_number: u32,
    /// Numbers in use, a bit each.
    live: Vec<u64>,
    live_count: usize,
    delivered: BTreeSet<TimestampMs>,
    /// How many deliveries are remembered before those of no alert are dropped.
    prune_at: usize,
    forgotten: bool,
}

impl RuleLog {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: u32,
        identity: RuleIdentity,
        image: Option<&RuleImage>,
    ) -> Self {
        let written = Written {
            generation: image.map(|i| i.generation),
            whole: true,
            delivered: image.map(|i| i.delivered.clone()).unwrap_or_default(),
            prune_at: 16,
            ..Written::default()
        };
        Self { shared, number, identity, written: Mutex::new(written) }
    }

    /// Writes what changed since the last call: the alerts' lives, and that `due` is about
    /// to be sent. `restored` says that there is nothing more to take over from elsewhere.
    ///
    /// Does nothing when nothing changed. What cannot be written is written by a later call.
    /// What is returned has to be waited for before the change is acted upon.
    pub(in crate::rules) fn record(
        &self,
        states: &mut AlertStates,
        due: &[Alert],
        restored: bool,
    ) -> Option<Unsynced> {
        let mut written = self.written.lock();
        let generation = self.shared.generation.load(Ordering::Acquire);
        let known = !written.whole
            && written.restored == restored
            && written.generation == Some(generation);
        if written.forgotten || known && due.is_empty() && !written.is_behind(states) {
            return None;
        }
        let mut writer = self.shared.writer.lock();
        let Ok(generation) = writer.ready() else {
            written.whole = true;
            return None;
        };
        self.shared.publish(&writer);
        let whole =
            written.whole || written.restored != restored || written.generation != Some(generation);
        let moves = written.generation != Some(generation);
        let outcome = writer.write(moves, |batch| {
            let change = Change { rule: self.number, batch, record: Record::default(), bytes: 0 };
            if whole {
                let define = RuleRecord::new(&self.identity, restored);
                written.write_all(states, define, change);
            } else {
                written.write_changes(states, due, change);
            }
        });
        written.whole = outcome.is_err();
        if outcome.is_ok() && whole {
            if moves {
                writer.moved(written.generation.replace(generation));
            }
            written.restored = restored;
        }
        let unsynced = outcome.ok().and_then(|()| writer.disk()).map(|(disk, len)| Unsynced {
            shared: self.shared.clone(),
            disk,
            generation,
            len,
        });
        self.shared.publish(&writer);
        unsynced
    }

    /// Makes the next [`RuleLog::record`] say everything.
    pub(in crate::rules) fn write_all_next(&self) {
        self.written.lock().whole = true;
    }

    /// A receipt for what the rule sends at a tick.
    pub(in crate::rules) fn receipt(self: &Arc<Self>, tick_ms: TimestampMs) -> Receipt {
        let log = Arc::clone(self);
        Receipt::new(move || log.delivered(tick_ms))
    }

    /// Every Alertmanager took what was sent at a tick.
    pub(super) fn delivered(&self, tick_ms: TimestampMs) {
        let mut written = self.written.lock();
        if written.forgotten || !written.delivered.insert(tick_ms) || written.whole {
            // What is to be written as a whole takes this along.
            return;
        }
        let mut writer = self.shared.writer.lock();
        // Lost, it costs a notification more after a restart; no change waits for it.
        if writer.ready().is_ok() {
            let delivered = vec![tick_ms];
            let record = Record { rule: self.number, delivered, ..Record::default() };
            let _ = writer.write(false, |batch| batch.push(&record));
        }
        self.shared.publish(&writer);
    }

    /// The rule is gone: drops its state.
    pub(in crate::rules) fn forget(&self) {
        let mut written = self.written.lock();
        if std::mem::replace(&mut written.forgotten, true) {
            return;
        }
        let mut writer = self.shared.writer.lock();
        writer.forget(&[(self.number, written.generation)]);
        self.shared.publish(&writer);
    }
}

impl Written {
    /// Whether the log lacks something about the alerts.
    fn is_behind(&self, states: &AlertStates) -> bool {
        let mut count = 0;
        for alert in states.iter() {
            count += 1;
            if alert.logged.number == 0 || alert.logged.fingerprint != fingerprint(alert) {
                return true;
            }
        }
        count != self.live_count
    }

    fn write_all(&mut self, states: &mut AlertStates, define: RuleRecord, mut out: Change<'_, '_>) {
        self.prune(states);
        out.record.define = Some(define);
        out.record.delivered = self.delivered.iter().copied().collect();
        let mut count = 0;
        for alert in states.iter_mut() {
            count += 1;
            alert.logged = Logged { number: count, fingerprint: fingerprint(alert) };
            out.put(alert, true);
        }
        out.finish();
        self.last_number = count;
        self.live_count = count as usize;
        self.live = vec![u64::MAX; count as usize / 64 + 1];
        // Number 0 stands for none, and the last ones are not in use.
        self.live[0] &= !1;
        if let Some(last) = self.live.last_mut() {
            *last &= u64::MAX >> (63 - count % 64);
        }
    }

    fn write_changes(&mut self, states: &mut AlertStates, due: &[Alert], mut out: Change<'_, '_>) {
        if self.delivered.len() > self.prune_at {
            self.prune(states);
        }
        let mut live = vec![0; self.live.len()];
        let mut new = Vec::new();
        self.live_count = 0;
        for alert in states.iter_mut() {
            self.live_count += 1;
            let now = fingerprint(alert);
            if alert.logged.number == 0 {
                self.last_number += 1;
                alert.logged = Logged { number: self.last_number, fingerprint: now };
                new.push(self.last_number);
                out.put(alert, true);
                continue;
            }
            live[alert.logged.number as usize / 64] |= 1 << (alert.logged.number % 64);
            if alert.logged.fingerprint != now {
                alert.logged.fingerprint = now;
                out.put(alert, false);
            }
        }
        out.record.remove = distances(gone(&self.live, &live));
        live.resize(self.last_number as usize / 64 + 1, 0);
        for number in new {
            live[number as usize / 64] |= 1 << (number % 64);
        }
        self.live = live;
        out.record.sent = sent(due);
        out.finish();
    }

    /// Drops deliveries that no alert refers to.
    fn prune(&mut self, states: &AlertStates) {
        let used: FxHashSet<TimestampMs> =
            states.iter().filter_map(|alert| alert.last_sent_at_ms).collect();
        self.delivered.retain(|tick| used.contains(tick));
        self.prune_at = 2 * self.delivered.len() + 16;
    }
}

/// Numbers that were in use and are not.
fn gone(before: &[u64], now: &[u64]) -> impl Iterator<Item = u32> {
    before.iter().zip(now).enumerate().flat_map(|(word, (before, now))| {
        let mut bits = before & !now;
        std::iter::from_fn(move || {
            let bit = (bits != 0).then(|| bits.trailing_zeros())?;
            bits &= bits - 1;
            Some(word as u32 * 64 + bit)
        })
    })
}

/// What was sent of the alerts that did not change otherwise: those that did are written
/// with when they were sent. `due` is as it was before the change was written.
fn sent(due: &[Alert]) -> Vec<SentRecord> {
    let mut numbers: Vec<u32> = due
        .iter()
        .filter(|a| a.logged.number != 0 && a.logged.fingerprint == fingerprint(a))
        .map(|a| a.logged.number)
        .collect();
    numbers.sort_unstable();
    // All of one evaluation are sent at its tick.
    let at = due.first().and_then(|a| a.last_sent_at_ms.zip(a.valid_until_ms));
    match at {
        Some((tick_ms, valid_until_ms)) if !numbers.is_empty() => {
            let numbers = distances(numbers.into_iter());
            vec![SentRecord { tick_ms, valid_until_ms, numbers }]
        }
        _ => Vec::new(),
    }
}

/// A change on its way, cut into records.
struct Change<'a, 'b> {
    rule: u32,
    batch: &'a mut Batch<'b>,
    record: Record,
    bytes: usize,
}

impl Change<'_, '_> {
    fn put(&mut self, alert: &Alert, with_labels: bool) {
        let record = AlertRecord::new(alert, alert.logged.number, with_labels);
        self.bytes += record.encoded_len();
        self.record.put.push(record);
        if self.bytes >= RECORD_BYTES {
            self.flush(true);
        }
    }

    fn flush(&mut self, more: bool) {
        self.bytes = 0;
        let mut record = std::mem::take(&mut self.record);
        record.more = more;
        record.rule = self.rule;
        self.batch.push(&record);
    }

    fn finish(mut self) {
        self.flush(false);
    }
}
