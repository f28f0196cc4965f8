//! One place samples are sent on to: reads its queue from disk, deals series out to shards,
//! and has each shard send in order.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::batch::{self, Item};
use super::config::{QueueConfig, RemoteWriteConfig, millis};
use super::log::{Log, LogError, Position, Taken};
use super::marks::{Marks, MarksFile, shard_of};
use super::metrics::{Counts, Reason, TargetMetrics, gauge, raise};
use super::post::{Answer, Receiver};
use super::queue::Queue;
use super::rates::{Look, Rates, shards};
use super::reader::{FrameReader, Read};
use super::record::Payloads;
use super::tee::Taps;
use crate::model::Clock;

/// How often the number of shards is thought over.
const RESHARD_INTERVAL: Duration = Duration::from_secs(10);
/// How often what was written is made to survive a power cut.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Entries read from disk at once.
const READ_ENTRIES: usize = 16_384;
/// Failures of a shard are logged that often.
const COMPLAINT_INTERVAL_MS: i64 = 30_000;
/// How long a request under way may take when the process stops.
const ABORT_AFTER: Duration = Duration::from_secs(5);

/// What is known of progress.
struct Progress {
    marks: Marks,
    file: MarksFile,
}

/// See the module.
pub(super) struct Target {
    name: String,
    receiver: Receiver,
    config: QueueConfig,
    sends_metadata: bool,
    metadata_interval: Duration,
    metadata_batch: usize,
    log: Arc<Log>,
    taps: Arc<Taps>,
    clock: Arc<dyn Clock>,
    metrics: TargetMetrics,
    progress: Mutex<Progress>,
    sent: AtomicU64,
    taken_in: AtomicU64,
    sending_ns: AtomicU64,
    complained_ms: std::sync::atomic::AtomicI64,
    /// Batches are sent without waiting for more.
    flush: CancellationToken,
    /// No request is begun.
    stop: CancellationToken,
    /// A request under way is given up.
    abort: CancellationToken,
    /// There is no point in waiting on: everything is sent, or the receiver takes nothing.
    settled: Notify,
}

/// What one look at the disk brought.
struct Chunk {
    reader: FrameReader,
    payloads: Payloads,
    by_shard: Vec<Vec<Item>>,
    upto: Position,
    entries: u64,
    /// Samples on a part of the disk that cannot be read.
    lost: u64,
    at_end: bool,
}

impl Target {
    #[allow(clippy::too_many_arguments, reason = "made in one place")]
    pub fn new(
        name: String,
        dir: &Path,
        config: &RemoteWriteConfig,
        receiver: Receiver,
        log: Arc<Log>,
        taps: Arc<Taps>,
        clock: Arc<dyn Clock>,
        metrics: TargetMetrics,
    ) -> Result<Self, LogError> {
        let (file, marks) = MarksFile::open(dir)?;
        metrics.pending.set(log.pending());
        metrics.queue_bytes.set(gauge(log.bytes()));
        let queue = &config.queue_config;
        metrics.shard_capacity.set(gauge(queue.capacity));
        metrics.shards_max.set(gauge(queue.max_shards));
        metrics.shards_min.set(gauge(queue.min_shards));
        metrics.max_samples_per_send.set(gauge(queue.max_samples_per_send));
        let metadata = &config.metadata_config;
        Ok(Self {
            name,
            sends_metadata: metadata.send && receiver.version() == super::super::Version::V1,
            metadata_interval: millis(metadata.send_interval_ms.max(1000)),
            metadata_batch: metadata.max_samples_per_send.max(1),
            receiver,
            config: queue.clone(),
            log,
            taps,
            clock,
            metrics,
            progress: Mutex::new(Progress { marks, file }),
            sent: AtomicU64::new(0),
            taken_in: AtomicU64::new(0),
            sending_ns: AtomicU64::new(0),
            complained_ms: std::sync::atomic::AtomicI64::new(i64::MIN),
            flush: CancellationToken::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            settled: Notify::new(),
        })
    }

    /// Sends until told to stop.
    pub async fn run(self: Arc<Self>) {
        let house = tokio::spawn(self.clone().keep_house());
        let metadata = self.sends_metadata.then(|| tokio::spawn(self.clone().send_metadata()));
        let before = self.progress.lock().marks.shards();
        let (min, max) = (self.config.min_shards, self.config.max_shards);
        let mut count = if (min..=max).contains(&before) { before } else { min };
        while let Some(next) = self.run_epoch(count).await {
            tracing::info!(remote_name = %self.name, from = count, to = next, "Remote write: number of shards changed");
            count = next;
        }
        house.abort();
        if let Some(metadata) = metadata {
            metadata.abort();
        }
        let this = self.clone();
        _ = tokio::task::spawn_blocking(move || this.sync()).await;
    }

    /// Stops; what is not sent stays on disk. Waits for what can be sent at once.
    pub async fn shut_down(self: Arc<Self>, task: tokio::task::JoinHandle<()>, limit: Duration) {
        self.flush.cancel();
        self.log.arrived.notify_one();
        _ = tokio::time::timeout(limit, self.settled.notified()).await;
        self.stop.cancel();
        let mut task = task;
        if tokio::time::timeout(ABORT_AFTER, &mut task).await.is_err() {
            self.abort.cancel();
            if let Err(error) = task.await {
                tracing::error!(remote_name = %self.name, %error, "BUG: remote write died");
            }
        }
    }

    /// Runs with a number of shards; gives the next one, or `None` when told to stop.
    async fn run_epoch(self: &Arc<Self>, count: usize) -> Option<usize> {
        let (past, queues) = {
            let mut progress = self.progress.lock();
            let ends = progress.marks.interrupted(count);
            progress.marks.begin(count);
            let past = progress.marks.clone();
            let from = past.low();
            let queue = |end| Arc::new(Queue::new(self.config.capacity, from, end));
            (past, ends.into_iter().map(queue).collect::<Vec<_>>())
        };
        self.metrics.shards.set(gauge(count));
        let halt = self.stop.child_token();
        let mut tasks = JoinSet::new();
        for shard in 0..count {
            tasks.spawn(self.clone().run_shard(shard, queues.clone(), halt.clone()));
        }
        let next = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            next = self.think_over_shards(count) => Some(next),
            () = self.deal_out(&queues, past) => None,
        };
        halt.cancel();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(remote_name = %self.name, %error, "BUG: a shard of remote write died");
            }
        }
        self.save(&queues, None);
        next
    }

    /// Reads the log and fills the shards' queues. Does not end.
    async fn deal_out(&self, queues: &[Arc<Queue>], past: Marks) {
        let mut reader = Some((FrameReader::new(past.low()), Payloads::default()));
        let past = Arc::new(past);
        loop {
            let Some((frames, payloads)) = reader.take() else { return };
            let (log, past, count) = (self.log.clone(), past.clone(), queues.len());
            let read = move || read_some(frames, payloads, &log, &past, count);
            let chunk = match tokio::task::spawn_blocking(read).await {
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::error!(remote_name = %self.name, %error, "BUG: reading the queue died");
                    return self.stop.cancelled().await;
                }
            };
            self.note_read(&chunk);
            for (queue, items) in queues.iter().zip(chunk.by_shard) {
                if !items.is_empty() {
                    queue.push(items, || _ = self.metrics.enqueue_retries.inc()).await;
                }
            }
            queues.iter().for_each(|queue| queue.filled(chunk.upto));
            reader = Some((chunk.reader, chunk.payloads));
            if chunk.at_end {
                if self.flush.is_cancelled() && queues.iter().all(|queue| queue.done().1) {
                    self.settled.notify_one();
                }
                self.log.arrived.notified().await;
            }
        }
    }

    fn note_read(&self, chunk: &Chunk) {
        self.taken_in.fetch_add(chunk.entries, Ordering::Relaxed);
        self.metrics.pending.set(self.log.pending());
        if chunk.lost > 0 {
            let counts = Counts { samples: chunk.lost, ..Counts::default() };
            self.metrics.drop_all(Reason::QueueFailed, &counts);
            self.metrics.lost.inc_by(chunk.lost);
        }
    }

    /// Sends what its queue holds until halted.
    async fn run_shard(
        self: Arc<Self>,
        shard: usize,
        queues: Vec<Arc<Queue>>,
        halt: CancellationToken,
    ) {
        let queue = &queues[shard];
        let max = self.config.max_samples_per_send;
        let deadline = millis(self.config.batch_send_deadline_ms);
        while let Some((mut items, again)) = queue.take(max, deadline, &self.flush, &halt).await {
            let Some(last) = items.last() else { continue };
            let upto = Position { entry: last.at.entry + 1, ..last.at };
            let taken = self.log.take_up(&mut items);
            self.save(&queues, Some((shard, upto)));
            if !self.send(items, again, &halt).await {
                let lost = self.log.put_back(&taken);
                if lost > 0 {
                    self.metrics.lose(&self.name, lost);
                }
                return;
            }
            self.finish(&queues, shard, upto, &taken);
            self.metrics.pending.set(self.log.pending());
            if self.flush.is_cancelled() {
                // Whoever deals out looks whether that was all.
                self.log.arrived.notify_one();
            }
        }
    }

    /// Writes down that a batch is finished: marks and ledger change together.
    fn finish(&self, queues: &[Arc<Queue>], shard: usize, upto: Position, taken: &Taken) {
        let mut progress = self.progress.lock();
        queues[shard].finished(upto);
        self.log.finish(taken);
        self.write(&mut progress, queues, None);
    }

    /// Writes down how far the shards are, and what one of them is about to send.
    fn save(&self, queues: &[Arc<Queue>], sending: Option<(usize, Position)>) {
        self.write(&mut self.progress.lock(), queues, sending);
    }

    fn write(
        &self,
        progress: &mut Progress,
        queues: &[Arc<Queue>],
        sending: Option<(usize, Position)>,
    ) {
        let before = progress.marks.low();
        let done: Vec<Position> = queues.iter().map(|queue| queue.done().0).collect();
        progress.marks.note(&done);
        if let Some((shard, end)) = sending {
            progress.marks.note_under_way(shard, end);
        }
        self.write_marks(progress);
        let low = progress.marks.low();
        if low.segment != before.segment {
            self.log.trim(low);
            self.metrics.queue_bytes.set(gauge(self.log.bytes()));
        }
    }

    fn write_marks(&self, progress: &mut Progress) {
        progress.marks.ledger = Some(self.log.ledger());
        if let Err(error) = progress.file.write(&progress.marks) {
            self.complain(|| {
                tracing::error!(remote_name = %self.name, %error, "Remote write: cannot note what was sent; a restart would send it again");
            });
        }
    }

    /// Sends a batch until it is taken or refused. False when halted before.
    async fn send(&self, mut items: Vec<Item>, again: bool, halt: &CancellationToken) -> bool {
        let mut backoff = millis(self.config.min_backoff_ms);
        // Whether the receiver may have had this very batch before.
        let mut uncertain = again;
        for attempt in 0_u32.. {
            self.drop_old(&mut items);
            if items.is_empty() {
                return true;
            }
            if halt.is_cancelled() {
                return false;
            }
            let counts = batch::counts(&items);
            let body = {
                let families = self.taps.families.read();
                batch::body(&items, self.receiver.version(), &families)
            };
            let body = match body {
                Ok(body) => body,
                Err(error) => {
                    tracing::error!(remote_name = %self.name, %error, "BUG: a batch cannot be written as a message");
                    self.metrics.failed.inc_by(&counts);
                    return true;
                }
            };
            let bytes = body.len() as u64;
            let began_ns = self.clock.monotonic_ns();
            let answer = tokio::select! {
                biased;
                () = self.abort.cancelled() => return false,
                answer = self.receiver.post(body, &counts, attempt) => answer,
            };
            let took_ns = self.clock.monotonic_ns().saturating_sub(began_ns);
            self.metrics.sent_batch_duration.observe(took_ns as f64 / 1e9);
            self.sending_ns.fetch_add(took_ns, Ordering::Relaxed);
            match answer {
                Answer::Taken(written) => {
                    self.taken(&items, &counts, &written.unwrap_or(counts));
                    self.metrics.bytes.inc_by(bytes);
                    return true;
                }
                Answer::Refused { status, why, written } => {
                    let is_bad = status.is_some_and(|s| s == reqwest::StatusCode::BAD_REQUEST);
                    if uncertain && is_bad {
                        tracing::info!(remote_name = %self.name, count = items.len(), why, "Remote write: the receiver has had this batch before");
                        self.metrics.drop_all(Reason::AlreadySent, &counts.without(&written));
                        self.taken(&items, &written, &written);
                    } else {
                        self.taken(&items, &counts, &written);
                        tracing::error!(remote_name = %self.name, count = items.len(), error = why, "Remote write: non-recoverable error, the samples are dropped");
                    }
                    return true;
                }
                Answer::Failed { why, after } => {
                    uncertain = true;
                    self.metrics.retried.inc_by(&counts);
                    self.complain(|| {
                        tracing::warn!(remote_name = %self.name, error = why, "Remote write: failed to send a batch, retrying; nothing is lost while the queue on disk has room");
                    });
                    if self.flush.is_cancelled() {
                        self.settled.notify_one();
                    }
                    let wait = after.unwrap_or(backoff);
                    backoff = (backoff * 2).min(millis(self.config.max_backoff_ms));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = halt.cancelled() => return false,
                    }
                }
            }
        }
        true
    }

    fn taken(&self, items: &[Item], counts: &Counts, written: &Counts) {
        let written = Counts {
            samples: written.samples.min(counts.samples),
            histograms: written.histograms.min(counts.histograms),
            exemplars: written.exemplars.min(counts.exemplars),
        };
        self.metrics.sent.inc_by(&written);
        self.metrics.failed.inc_by(&counts.without(&written));
        self.sent.fetch_add(counts.sum(), Ordering::Relaxed);
        if written.sum() > 0 {
            raise(&self.metrics.highest_sent, batch::highest(items));
        }
    }

    fn drop_old(&self, items: &mut Vec<Item>) {
        let limit_ms = self.config.sample_age_limit_ms;
        if limit_ms <= 0 {
            return;
        }
        let oldest = self.clock.now_ms().saturating_sub(limit_ms);
        let mut old = Counts::default();
        items.retain(|item| {
            let keep = item.value.ts() >= oldest;
            if !keep {
                old.add(&item.value);
            }
            keep
        });
        self.metrics.drop_all(Reason::TooOld, &old);
    }

    fn complain(&self, say: impl FnOnce()) {
        let now_ms = self.clock.now_ms();
        let last = self.complained_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last) >= COMPLAINT_INTERVAL_MS
            && self
                .complained_ms
                .compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            say();
        }
    }

    /// Completes with another number of shards when that is worth it.
    async fn think_over_shards(&self, now: usize) -> usize {
        let (min, max) = (self.config.min_shards, self.config.max_shards);
        let mut rates = Rates::default();
        let mut last = (self.clock.monotonic_ns(), self.totals());
        loop {
            tokio::time::sleep(RESHARD_INTERVAL).await;
            let present = (self.clock.monotonic_ns(), self.totals());
            let look = Look {
                seconds: present.0.saturating_sub(last.0) as f64 / 1e9,
                taken_in: present.1.0 - last.1.0,
                sent: present.1.1 - last.1.1,
                sending_seconds: (present.1.2 - last.1.2) as f64 / 1e9,
                pending: u64::try_from(self.metrics.pending.get()).unwrap_or(0),
            };
            last = present;
            let Some(desired) = rates.desired(&look) else { continue };
            self.metrics.shards_desired.set(desired);
            let next = shards(now, desired, min, max);
            if next != now && self.progress.lock().marks.has_room() {
                return next;
            }
        }
    }

    fn totals(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.taken_in), load(&self.sent), load(&self.sending_ns))
    }

    /// Makes what was written survive a power cut, now and then. Does not end.
    async fn keep_house(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SYNC_INTERVAL).await;
            let this = self.clone();
            _ = tokio::task::spawn_blocking(move || this.sync()).await;
        }
    }

    fn sync(&self) {
        {
            let mut progress = self.progress.lock();
            if progress.marks.ledger.is_none_or(|known| known.lost != self.log.ledger().lost) {
                self.write_marks(&mut progress);
            }
        }
        // The log first: marks must not be ahead of it.
        let log = self.log.sync();
        let handles = self.progress.lock().file.handles();
        let marks = handles.and_then(|files| files.iter().try_for_each(|f| f.sync_data()));
        let error = match (log, marks) {
            (Err(error), _) => error.to_string(),
            (_, Err(error)) => error.to_string(),
            _ => return,
        };
        self.complain(|| {
            tracing::error!(remote_name = %self.name, error, "Remote write: the queue cannot be made durable");
        });
    }

    /// Sends what is known of metric families, now and then. Does not end.
    async fn send_metadata(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.metadata_interval).await;
            let mut families: Vec<_> = {
                let families = self.taps.families.read();
                families.iter().map(|(family, m)| (family.clone(), m.clone())).collect()
            };
            families.sort_by(|a, b| a.0.cmp(&b.0));
            for part in families.chunks(self.metadata_batch) {
                let Ok(body) = batch::metadata_body(part) else { continue };
                let (count, bytes) = (part.len() as u64, body.len() as u64);
                // What fails is sent again in a while as it is.
                match self.receiver.post_metadata(body, 0).await {
                    Answer::Taken(_) => {
                        self.metrics.metadata.inc_by(count);
                        self.metrics.metadata_bytes.inc_by(bytes);
                    }
                    Answer::Refused { why, .. } => {
                        self.metrics.metadata_failed.inc_by(count);
                        tracing::error!(remote_name = %self.name, count, error = why, "Remote write: metadata was refused");
                    }
                    Answer::Failed { why, .. } => {
                        self.metrics.metadata_retried.inc_by(count);
                        tracing::warn!(remote_name = %self.name, count, error = why, "Remote write: metadata was not taken; it is sent again later");
                        break;
                    }
                }
            }
        }
    }
}

/// Reads up to some entries, and deals them out. Waits for the disk.
fn read_some(
    mut reader: FrameReader,
    mut payloads: Payloads,
    log: &Log,
    past: &Marks,
    count: usize,
) -> Chunk {
    let mut by_shard: Vec<Vec<Item>> = (0..count).map(|_| Vec::new()).collect();
    let (mut skipped, mut entries, mut lost, mut at_end) = (0, 0, 0, false);
    while entries + skipped < READ_ENTRIES {
        let (at, read, samples) = match reader.next(log) {
            Read::End => {
                at_end = true;
                break;
            }
            Read::NewSegment => {
                payloads.forget();
                continue;
            }
            Read::Frame { at, payload, samples } => (at, payloads.read(&payload), samples),
            Read::Damaged { segment, offset, why, samples } => {
                lost += samples;
                tracing::error!(
                    segment,
                    offset,
                    why,
                    samples,
                    "Remote write queue: the rest of a segment cannot be read and is left out"
                );
                continue;
            }
        };
        let Some(read) = read else {
            lost += log.give_up(at.segment, at.offset + 1, |_| u64::from(samples));
            tracing::error!(
                segment = at.segment,
                offset = at.offset,
                "Remote write queue: a record is not one of ours and is left out"
            );
            continue;
        };
        for (entry, (labels, hash, value)) in (0..).zip(read) {
            let at = Position { entry, ..at };
            if past.has(hash, at) {
                skipped += 1;
            } else {
                entries += 1;
                by_shard[shard_of(hash, count)].push(Item { at, labels, value });
            }
        }
    }
    let upto = reader.position();
    Chunk { reader, payloads, by_shard, upto, entries: entries as u64, lost, at_end }
}
