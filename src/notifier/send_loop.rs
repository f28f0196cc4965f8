//! One Alertmanager's queue and the task that empties it. A slow or dead Alertmanager
//! only ever fills its own queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::metrics::LoopMetrics;
use super::{OutgoingAlert, payload};
use crate::http::{Client, HttpError};
use crate::model::Clock;

/// Most bytes of an answer that are read; what an Alertmanager says beyond its status
/// only goes to the log.
const ANSWER_MAX: usize = 4096;

/// Why a batch was not taken.
#[derive(Debug, Error)]
enum SendError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("bad response status {status}{}", answer_suffix(.answer))]
    Status { status: reqwest::StatusCode, answer: String },
    #[error("stopped before the answer came")]
    Stopped,
}

fn answer_suffix(answer: &str) -> String {
    if answer.is_empty() { String::new() } else { format!(": {answer}") }
}

/// Limits of a loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub queue_capacity: usize,
    pub max_batch_size: usize,
    /// How long one batch may take.
    pub timeout: Duration,
}

/// What senders and the task share.
pub(super) struct SendLoop {
    url: Url,
    client: Client,
    limits: Limits,
    clock: Arc<dyn Clock>,
    metrics: LoopMetrics,
    queue: Mutex<VecDeque<Arc<OutgoingAlert>>>,
    wake: Notify,
    /// No further batch is begun and nothing more is queued.
    stop: CancellationToken,
    /// A batch under way is given up.
    abort: CancellationToken,
}

impl SendLoop {
    pub(super) fn new(
        url: Url,
        client: Client,
        limits: Limits,
        clock: Arc<dyn Clock>,
        metrics: LoopMetrics,
    ) -> Self {
        Self {
            url,
            client,
            limits,
            clock,
            metrics,
            queue: Mutex::default(),
            wake: Notify::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Queues alerts. Never waits: what does not fit pushes out the oldest.
    pub(super) fn add(&self, alerts: &[Arc<OutgoingAlert>]) {
        alerts.iter().for_each(|alert| alert.receipt.offered());
        let capacity = self.limits.queue_capacity;
        let too_many = alerts.len().saturating_sub(capacity);
        let mut queue = self.queue.lock();
        // Asked under the lock: what is queued after the last look would be forgotten.
        if self.stop.is_cancelled() {
            drop(queue);
            return self.drop_alerts(alerts.len(), "Send loop has stopped, dropping alerts");
        }
        let alerts = &alerts[too_many..];
        let pushed_out = (queue.len() + alerts.len()).saturating_sub(capacity);
        queue.drain(..pushed_out);
        queue.extend(alerts.iter().cloned());
        self.metrics.queue_length.set(queue.len() as i64);
        drop(queue);
        self.wake.notify_one();
        self.drop_alerts(too_many, "Alert batch larger than queue capacity, dropping alerts");
        self.drop_alerts(pushed_out, "Alert notification queue full, dropping alerts");
    }

    fn drop_alerts(&self, count: usize, why: &str) {
        if count > 0 {
            self.metrics.dropped.inc_by(count as u64);
            tracing::warn!(alertmanager = %self.url, count, "{why}");
        }
    }

    /// Sends until told to stop.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.wake.notified() => {}
            }
            // Being asked to stop goes before any further batch.
            while !self.stop.is_cancelled() && self.send_one_batch().await {}
        }
    }

    /// Stops the task. With `drain`, what is queued is sent until it is gone or `drain`
    /// has passed. The rest is dropped and counted. `task` is the task of `run`.
    pub(super) async fn shut_down(
        self: Arc<Self>,
        task: tokio::task::JoinHandle<()>,
        drain: Option<Duration>,
    ) {
        self.stop.cancel();
        if let Some(limit) = drain {
            let this = self.clone();
            let abort = self.abort.clone();
            let deadline = tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                abort.cancel();
            });
            // The batch under way comes first; it bears the same deadline.
            join(task, &self.url).await;
            while !this.abort.is_cancelled() && this.send_one_batch().await {}
            deadline.abort();
        } else {
            self.abort.cancel();
            join(task, &self.url).await;
        }
        let left = std::mem::take(&mut *self.queue.lock()).len();
        self.drop_alerts(left, "Alert notification queue not drained on shutdown, dropping alerts");
    }

    /// Sends the oldest batch; false when there was none.
    async fn send_one_batch(&self) -> bool {
        let batch: Vec<_> = {
            let mut queue = self.queue.lock();
            let count = queue.len().min(self.limits.max_batch_size);
            let batch = queue.drain(..count).collect();
            self.metrics.queue_length.set(queue.len() as i64);
            batch
        };
        if batch.is_empty() {
            return false;
        }
        let count = batch.len() as u64;
        let begin = self.clock.monotonic_ns();
        match self.send(&batch).await {
            Ok(()) => {
                let seconds = self.clock.monotonic_ns().saturating_sub(begin) as f64 / 1e9;
                self.metrics.latency.observe(seconds);
                self.metrics.latency_histogram.observe(seconds);
                self.metrics.sent.inc_by(count);
                batch.iter().for_each(|alert| alert.receipt.accepted());
            }
            Err(error) => {
                tracing::error!(alertmanager = %self.url, count, %error, "Error sending alerts");
                self.metrics.errors.inc_by(count);
                self.metrics.dropped.inc_by(count);
            }
        }
        true
    }

    async fn send(&self, batch: &[Arc<OutgoingAlert>]) -> Result<(), SendError> {
        let mut request = self.client.request(Method::POST, self.url.clone());
        let content_type = HeaderValue::from_static(payload::CONTENT_TYPE);
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        *request.body_mut() = Some(payload::encode(batch.iter().map(Arc::as_ref)).into());
        let exchange = async {
            let mut response = self.client.execute(request).await?;
            let status = response.status();
            // Reading the answer to its end lets the connection be used again.
            let mut answer = Vec::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                answer.extend_from_slice(&chunk);
                if answer.len() > ANSWER_MAX {
                    break;
                }
            }
            if status.is_success() {
                return Ok(());
            }
            answer.truncate(ANSWER_MAX);
            let answer = String::from_utf8_lossy(&answer).trim().to_owned();
            Err(SendError::Status { status, answer })
        };
        tokio::select! {
            biased;
            () = self.abort.cancelled() => Err(SendError::Stopped),
            result = tokio::time::timeout(self.limits.timeout, exchange) => {
                result.unwrap_or(Err(SendError::Timeout(self.limits.timeout)))
            }
        }
    }
}

async fn join(task: tokio::task::JoinHandle<()>, url: &Url) {
    if let Err(error) = task.await {
        tracing::error!(alertmanager = %url, %error, "the send loop ended unexpectedly");
    }
}
