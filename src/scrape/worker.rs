//! The loop of one target: wait for its moment, fetch, ingest, report. A target that
//! hangs holds up nothing but itself.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::ScrapeProtocol;
use super::fetch::{Body, FetchError, RequestHeaders, fetch};
use super::ingest::{Ingester, Report, SampleSettings};
use super::metadata::FamilyMetadata;
use super::metrics::{Interval, ScrapeMetrics};
use super::negotiate::format_of;
use super::target::Target;
use super::view::TargetHealth;
use crate::http::Client;
use crate::model::duration::format_duration;
use crate::model::{Clock, TimestampMs};
use crate::storage::Sink;

/// How late a scrape may begin and still be stamped with its planned time: equal
/// distances compress better.
const TOLERANCE_MS: i64 = 2;

/// What all loops share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub sink: Arc<dyn Sink>,
    pub metrics: ScrapeMetrics,
    /// Makes servers with the same targets scrape at different moments.
    pub offset_seed: u64,
    /// Cancelled when the program stops: loops end at once and mark nothing stale.
    pub shutdown: CancellationToken,
}

/// How a loop scrapes; a reload hands it new ones.
#[derive(Clone)]
pub(super) struct LoopSettings {
    pub target: Target,
    pub samples: SampleSettings,
    pub client: Client,
    pub headers: RequestHeaders,
    pub body_limit: u64,
    pub fallback: Option<ScrapeProtocol>,
    /// Fails every scrape with this text: the pool has too many targets.
    pub forced_error: Option<String>,
}

/// What the API shows of a target's last scrape.
#[derive(Clone, Debug)]
pub(super) struct LastScrape {
    pub health: TargetHealth,
    pub error: String,
    pub at_ms: Option<TimestampMs>,
    pub duration_seconds: f64,
}

/// Shared between a loop and the view.
pub(super) struct TargetState {
    pub last: Mutex<LastScrape>,
    pub metadata: Mutex<Arc<FamilyMetadata>>,
}

impl Default for TargetState {
    fn default() -> Self {
        let last = LastScrape {
            health: TargetHealth::Unknown,
            error: String::new(),
            at_ms: None,
            duration_seconds: 0.0,
        };
        Self { last: Mutex::new(last), metadata: Mutex::default() }
    }
}

/// Runs until the target is gone or the program stops. Should the loop itself fail, it is
/// started again: one target's trouble never ends the scraping of another.
pub(super) fn supervise(
    around: Surroundings,
    settings: watch::Receiver<Arc<LoopSettings>>,
    gone: CancellationToken,
    state: Arc<TargetState>,
) -> impl Future<Output = ()> + Send {
    // The beat counts from the moment the target became known, not from when a thread got
    // round to it.
    let mut known_since_ms = around.clock.now_ms();
    async move {
        loop {
            let worker = Worker::new(&around, settings.clone(), gone.clone(), state.clone());
            match tokio::spawn(worker.run(known_since_ms)).await {
                Err(error) if error.is_panic() => {
                    let url = settings.borrow().target.url.clone();
                    tracing::error!(%url, %error, "scrape loop failed and is started again");
                    let pause = around.clock.now_ms() + settings.borrow().target.interval_ms;
                    around.clock.sleep_until(pause).await;
                    known_since_ms = around.clock.now_ms();
                }
                _ => return,
            }
        }
    }
}

/// The part of a loop that works on a blocking thread.
struct Desk {
    ingester: Ingester,
    body: Body,
}

struct Worker {
    around: Surroundings,
    updates: watch::Receiver<Arc<LoopSettings>>,
    settings: Arc<LoopSettings>,
    gone: CancellationToken,
    state: Arc<TargetState>,
    /// `None` only while a blocking thread has it.
    desk: Option<Box<Desk>>,
    last_start_ns: Option<u64>,
}

impl Worker {
    fn new(
        around: &Surroundings,
        mut updates: watch::Receiver<Arc<LoopSettings>>,
        gone: CancellationToken,
        state: Arc<TargetState>,
    ) -> Self {
        let settings = updates.borrow_and_update().clone();
        let (sink, metrics) = (around.sink.clone(), around.metrics.clone());
        let ingester = Ingester::new(sink, metrics, settings.samples.clone());
        *state.metadata.lock() = ingester.metadata.clone();
        let desk = Some(Box::new(Desk { ingester, body: Body::default() }));
        let around = around.clone();
        Self { around, updates, settings, gone, state, desk, last_start_ns: None }
    }

    async fn run(mut self, known_since_ms: TimestampMs) {
        let mut tick = self.first_tick(known_since_ms);
        loop {
            let clock = self.around.clock.clone();
            tokio::select! {
                biased;
                () = self.around.shutdown.cancelled() => return,
                () = self.gone.cancelled() => break,
                changed = self.updates.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let interval_ms = self.settings.target.interval_ms;
                    self.take_update();
                    if self.settings.target.interval_ms != interval_ms {
                        tick = self.first_tick(clock.now_ms());
                    }
                    continue;
                }
                () = clock.sleep_until(tick) => {}
            }
            let interval_ms = self.settings.target.interval_ms;
            let now_ms = clock.now_ms();
            let late = now_ms - tick;
            let in_time = late <= TOLERANCE_MS.min(interval_ms / 100);
            let stopped = self.scrape(if in_time { tick } else { now_ms }).await;
            if stopped {
                break;
            }
            // Ticks that passed meanwhile are skipped, but for the latest.
            tick += interval_ms * ((clock.now_ms() - tick) / interval_ms).max(1);
        }
        if !self.around.shutdown.is_cancelled() && self.last_start_ns.is_some() {
            self.end(tick).await;
        }
    }

    /// The first moment of the target's own beat that is not before `now_ms`.
    fn first_tick(&self, now_ms: TimestampMs) -> TimestampMs {
        let interval_ms = self.settings.target.interval_ms;
        let offset_ms = self.settings.target.offset_ms(self.around.offset_seed);
        now_ms + (offset_ms - now_ms).rem_euclid(interval_ms)
    }

    fn take_update(&mut self) {
        self.settings = self.updates.borrow_and_update().clone();
        if let Some(desk) = &mut self.desk {
            desk.ingester.configure(self.settings.samples.clone());
        }
    }

    /// One scrape; true when the target went or the program stops meanwhile.
    async fn scrape(&mut self, at_ms: TimestampMs) -> bool {
        let clock = self.around.clock.clone();
        let start_ns = clock.monotonic_ns();
        self.observe_interval(start_ns);
        let Some(mut desk) = self.desk.take() else { return true };
        let settings = self.settings.clone();
        let deadline = clock.now_ms() + settings.target.timeout_ms;
        let fetched = tokio::select! {
            biased;
            () = self.around.shutdown.cancelled() => None,
            () = self.gone.cancelled() => None,
            fetched = fetch_body(&settings, &mut desk.body) => Some(fetched),
            () = clock.sleep_until(deadline) => {
                Some(Err(FetchError::Deadline(settings.target.url.clone()).to_string()))
            }
        };
        let Some(fetched) = fetched else {
            self.desk = Some(desk);
            return true;
        };
        if self.settings.body_limit > 0 && matches!(&fetched, Err(e) if is_too_large(e)) {
            self.around.metrics.exceeded_body_size_limit.inc();
        }
        let elapsed = {
            let clock = clock.clone();
            move || seconds(clock.monotonic_ns().saturating_sub(start_ns))
        };
        let worked = tokio::task::spawn_blocking(move || {
            let error = work(&mut desk, &settings, fetched, at_ms, &elapsed);
            (desk, error)
        });
        let error = match worked.await {
            Ok((desk, error)) => {
                self.desk = Some(desk);
                error
            }
            // The supervisor sees the same panic and starts anew.
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return true,
            },
        };
        self.note(at_ms, start_ns, error);
        false
    }

    fn observe_interval(&mut self, start_ns: u64) {
        if let Some(last) = self.last_start_ns.replace(start_ns) {
            let interval = format_duration(self.settings.target.interval_ms);
            let summary = self.around.metrics.interval_length.get_or_create(&Interval { interval });
            summary.observe(seconds(start_ns.saturating_sub(last)));
        }
    }

    fn note(&self, at_ms: TimestampMs, start_ns: u64, error: Option<String>) {
        if let Some(error) = &error {
            tracing::debug!(url = %self.settings.target.url, %error, "scrape failed");
        }
        let duration_seconds = seconds(self.around.clock.monotonic_ns().saturating_sub(start_ns));
        *self.state.last.lock() = LastScrape {
            health: if error.is_none() { TargetHealth::Up } else { TargetHealth::Down },
            error: error.unwrap_or_default(),
            at_ms: Some(at_ms),
            duration_seconds,
        };
    }

    /// Marks the target's series stale once it is clear that it does not come back at
    /// once: a bit over two intervals later, stamped with the first missed scrape. A
    /// target that is back by then has newer samples, and the markers are refused.
    async fn end(&mut self, next_tick: TimestampMs) {
        let interval_ms = self.settings.target.interval_ms;
        let wait_until = next_tick + interval_ms + interval_ms / 10;
        tokio::select! {
            () = self.around.shutdown.cancelled() => return,
            () = self.around.clock.sleep_until(wait_until) => {}
        }
        let Some(mut desk) = self.desk.take() else { return };
        let ended = tokio::task::spawn_blocking(move || desk.ingester.end(next_tick)).await;
        if let Ok(Err(error)) = ended {
            let url = &self.settings.target.url;
            tracing::error!(%url, %error, "cannot store staleness markers of a target that went");
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn is_too_large(error: &str) -> bool {
    error == FetchError::BodyTooLarge.to_string()
}

async fn fetch_body(settings: &LoopSettings, body: &mut Body) -> Result<(), String> {
    if let Some(error) = &settings.forced_error {
        return Err(error.clone());
    }
    let url = &settings.target.url;
    fetch(&settings.client, url, &settings.headers, settings.body_limit, body)
        .await
        .map_err(|e| e.to_string())
}

/// Ingests what was fetched; the error is what the target's page shows.
fn work(
    desk: &mut Desk,
    settings: &LoopSettings,
    fetched: Result<(), String>,
    at_ms: TimestampMs,
    elapsed: &dyn Fn() -> f64,
) -> Option<String> {
    let too_large = matches!(&fetched, Err(error) if is_too_large(error));
    let body_bytes = if too_large { -1.0 } else { desk.body.bytes.len() as f64 };
    let report = Report { at_ms, elapsed, body_bytes };
    let format = fetched.and_then(|()| {
        format_of(&desk.body.content_type, settings.fallback).map_err(|e| e.to_string())
    });
    let (error, stored) = match format {
        Ok(format) => {
            let (_, refusal, stored) = desk.ingester.ingest(&desk.body.bytes, format, report);
            (refusal.map(|e| e.to_string()), stored)
        }
        Err(error) => (Some(error), desk.ingester.ingest_failure(report)),
    };
    if let Err(error) = stored {
        let url = &settings.target.url;
        tracing::error!(%url, %error, "scrape commit failed: its samples are lost");
        return Some(format!("scrape commit failed: {error}"));
    }
    error
}
