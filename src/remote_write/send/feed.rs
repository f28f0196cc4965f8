//! What a target's queue is fed with: samples as they were committed, with external labels
//! added and relabelled, each series told once per segment.
//!
//! A batch is written before the store commits it and sent only once it has: whatever is
//! acknowledged is in the queue, wherever the process dies. Feeding writes to the page cache
//! and never waits for the disk or the receiver. It never fails either: what cannot be
//! written is counted as dropped, loudly.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use super::config::RemoteWriteConfig;
use super::log::{Log, LogError};
use super::metrics::{Counts, Reason, TargetMetrics, gauge, raise};
use super::record::{Payload, Value};
use crate::model::exemplar::Exemplar;
use crate::model::{Clock, Labels, LabelsBuilder};
use crate::relabel::{self, RelabelConfig};

/// Entries of one frame.
const FRAME_ENTRIES_MAX: u32 = 4096;
/// Complaints of one kind are logged that often.
const COMPLAINT_INTERVAL_MS: i64 = 60_000;

/// What a series is to this target, in the present segment.
enum Known {
    Dropped,
    Sent { number: u32, last_exemplar: Option<Exemplar> },
}

struct State {
    /// Of the present segment, unless another must begin.
    known: HashMap<Labels, Known, FxBuildHasher>,
    told: u32,
    begun: bool,
}

impl State {
    /// Series are told anew, in another segment.
    fn forget(&mut self) {
        self.known.clear();
        self.told = 0;
        self.begun = false;
    }
}

/// A batch that was written and is not sent yet.
pub(super) struct Prepared {
    relabelled: Counts,
    entries: u64,
    highest: i64,
    /// Why the rest of it could not be written.
    failed: Option<(LogError, Counts)>,
}

impl Default for Prepared {
    fn default() -> Self {
        Self { relabelled: Counts::default(), entries: 0, highest: i64::MIN, failed: None }
    }
}

impl Prepared {
    fn fail(&mut self, error: LogError, batch: &[(Labels, Value)]) {
        let mut counts = Counts::default();
        batch.iter().for_each(|(_, value)| counts.add(value));
        self.failed = Some((error, counts));
    }
}

/// What goes into the log of one target.
pub(super) struct Feed {
    pub log: Arc<Log>,
    name: String,
    external: Vec<(String, String)>,
    rules: Vec<RelabelConfig>,
    exemplars: bool,
    histograms: bool,
    clock: Arc<dyn Clock>,
    metrics: TargetMetrics,
    complained_ms: AtomicI64,
    state: Mutex<State>,
}

impl Feed {
    pub fn new(
        log: Arc<Log>,
        name: String,
        config: &RemoteWriteConfig,
        external: &Labels,
        clock: Arc<dyn Clock>,
        metrics: TargetMetrics,
    ) -> Self {
        Self {
            log,
            name,
            external: external.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            rules: config.write_relabel_configs.clone(),
            exemplars: config.send_exemplars,
            histograms: config.send_native_histograms,
            clock,
            metrics,
            complained_ms: AtomicI64::new(i64::MIN),
            state: Mutex::new(State { known: HashMap::default(), told: 0, begun: false }),
        }
    }

    /// Writes a batch that is about to be committed. Nobody reads it before it is revealed,
    /// which, or taking it back, must come before the next batch.
    pub fn prepare(&self, batch: &[(Labels, Value)]) -> Prepared {
        let mut state = self.state.lock();
        let mut prepared = Prepared::default();
        // A batch is in one segment, so that it can be taken back.
        if !state.begun || self.log.wants_new_segment() {
            state.forget();
            if let Err(error) = self.log.begin_segment() {
                prepared.fail(error, batch);
                return prepared;
            }
            state.begun = true;
        }
        let mut rest = batch;
        while !rest.is_empty() {
            rest = self.add_frame(&mut state, rest, &mut prepared);
        }
        prepared
    }

    /// Notes that the batch was committed: it is sent from now on.
    pub fn reveal(&self, prepared: Prepared) {
        self.metrics.drop_all(Reason::Relabelled, &prepared.relabelled);
        if prepared.entries > 0 {
            let lost = self.log.reveal();
            raise(&self.metrics.highest_queued, prepared.highest);
            self.metrics.pending.set(self.log.pending());
            if lost.samples > 0 {
                self.metrics.lose(&self.name, lost.samples);
            }
            self.metrics.queue_bytes.set(gauge(self.log.bytes()));
        }
        if let Some((error, counts)) = prepared.failed {
            self.cannot_write(&error, &counts);
        }
    }

    /// Notes that the batch was not committed: it is not sent.
    pub fn take_back(&self) {
        self.state.lock().forget();
        if let Err(error) = self.log.take_back() {
            tracing::error!(
                remote_name = %self.name,
                %error,
                "Remote write queue: a batch that the store refused cannot be taken back; it is \
                 sent after the next start"
            );
        }
    }

    /// Writes one frame; gives what did not fit in.
    fn add_frame<'a>(
        &self,
        state: &mut State,
        batch: &'a [(Labels, Value)],
        prepared: &mut Prepared,
    ) -> &'a [(Labels, Value)] {
        let mut payload = Payload::default();
        let (mut highest, mut used) = (i64::MIN, 0);
        for (labels, value) in batch {
            if payload.entries >= FRAME_ENTRIES_MAX {
                break;
            }
            used += 1;
            let wanted = match value {
                Value::Float(..) => true,
                Value::Histogram(..) => self.histograms,
                Value::Exemplar(_) => self.exemplars,
            };
            if !wanted {
                continue;
            }
            match self.known(state, labels, &mut payload) {
                Known::Dropped => prepared.relabelled.add(value),
                Known::Sent { number, last_exemplar } => {
                    if let Value::Exemplar(exemplar) = value {
                        // A target shows its exemplars again with each scrape.
                        if last_exemplar.as_ref().is_some_and(|last| last.is_same(exemplar)) {
                            continue;
                        }
                        *last_exemplar = Some(exemplar.clone());
                    }
                    payload.add(*number, value);
                    highest = highest.max(value.ts());
                }
            }
        }
        let (_, rest) = batch.split_at(used);
        if payload.entries > 0 {
            if let Err(error) = self.log.append(&payload.bytes, payload.entries) {
                state.forget();
                prepared.fail(error, batch);
                return &[];
            }
            prepared.entries += u64::from(payload.entries);
            prepared.highest = prepared.highest.max(highest);
        }
        rest
    }

    fn known<'a>(
        &self,
        state: &'a mut State,
        labels: &Labels,
        payload: &mut Payload,
    ) -> &'a mut Known {
        let State { known, told, .. } = state;
        if !known.contains_key(labels) {
            let entry = match self.relabelled(labels) {
                None => Known::Dropped,
                Some(relabelled) => {
                    let number = *told;
                    *told += 1;
                    payload.series(number, &relabelled);
                    Known::Sent { number, last_exemplar: None }
                }
            };
            known.insert(labels.clone(), entry);
        }
        known.get_mut(labels).expect("BUG: it was just put there")
    }

    /// The labels that are sent: external ones where the series has none of the name, then
    /// the rules.
    fn relabelled(&self, labels: &Labels) -> Option<Labels> {
        if self.external.is_empty() && self.rules.is_empty() {
            return Some(labels.clone());
        }
        let mut builder: LabelsBuilder = labels.builder();
        for (name, value) in &self.external {
            if !builder.contains(name) {
                builder.set(name, value);
            }
        }
        let kept = relabel::apply(&self.rules, &mut builder) == relabel::Verdict::Keep;
        (kept && !builder.is_empty()).then(|| builder.build())
    }

    fn cannot_write(&self, error: &LogError, counts: &Counts) {
        self.metrics.drop_all(Reason::QueueFailed, counts);
        self.metrics.lost.inc_by(counts.sum());
        self.log.lost_elsewhere(counts.sum());
        let now_ms = self.clock.now_ms();
        let last = self.complained_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last) >= COMPLAINT_INTERVAL_MS {
            self.complained_ms.store(now_ms, Ordering::Relaxed);
            tracing::error!(
                remote_name = %self.name,
                %error,
                "Remote write queue cannot be written: samples are dropped and will never be sent"
            );
        }
    }
}
