//! Sending samples on by remote write: everything that is committed to a sink goes into a
//! queue on disk per target, and from there to the receiver, in the order of each series.
//!
//! ```text
//! commit -> tee.rs -> feed.rs (labels, relabelling) -> log.rs (segments on disk)
//!        reader.rs -> target.rs (deals series out) -> queue.rs (one per shard) -> post.rs
//!        marks.rs: how far each shard is, on disk
//! ```
//!
//! A commit waits for none of it but the page cache. What was committed is sent though the
//! process dies or the receiver is away for hours; what the queue cannot hold
//! (`queue_config.max_disk_size`) is dropped oldest first, which is logged as an error and
//! counted in `watchfire_remote_storage_queue_lost_samples_total`.
//!
//! It knows nothing of scrapes and rules, nor which store it stands before.

mod batch;
pub mod config;
mod feed;
mod log;
mod marks;
mod metrics;
mod post;
mod queue;
mod rates;
mod reader;
mod record;
mod segment;
mod target;
mod tee;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::model::{Clock, Labels};
use crate::storage::Sink;
use crate::telemetry::Registry;

pub use config::{MetadataConfig, QueueConfig, RemoteWriteConfig, RemoteWriteConfigError};
use feed::Feed;
use log::Log;
pub use log::LogError;
use metrics::SenderMetrics;
pub use post::ClientError;
use post::Receiver;
use target::Target;
pub use tee::Nowhere;
use tee::{Taps, Tee};

/// What all targets have in common.
#[derive(Clone)]
pub struct SenderOptions {
    /// Where the queues are, a directory each.
    pub dir: PathBuf,
    /// Most bytes of a queue whose target says nothing of it.
    pub queue_bytes_max: u64,
    /// How long stopping waits for what is being sent.
    pub flush_deadline: Duration,
    pub user_agent: String,
    pub clock: Arc<dyn Clock>,
}

/// Why a target cannot be sent to.
#[derive(Debug, Error)]
#[error("remote_write {url}: {cause}")]
pub struct SenderError {
    url: String,
    cause: Cause,
}

#[derive(Debug, Error)]
enum Cause {
    #[error(transparent)]
    Config(#[from] RemoteWriteConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("BUG: opening its queue died: {0}")]
    Died(String),
}

/// Sends samples on.
pub struct Sender {
    options: SenderOptions,
    taps: Arc<Taps>,
    running: tokio::sync::Mutex<BTreeMap<String, Running>>,
}

struct Running {
    config: RemoteWriteConfig,
    external: Labels,
    feed: Arc<Feed>,
    target: Arc<Target>,
    task: tokio::task::JoinHandle<()>,
    /// As its metrics name it.
    shown: (String, String),
}

impl Sender {
    /// A sender that has no target yet.
    pub fn new(options: SenderOptions, registry: &mut Registry) -> Self {
        let taps = Arc::new(Taps::new(SenderMetrics::new(registry)));
        Self { options, taps, running: tokio::sync::Mutex::default() }
    }

    /// The sink with what is committed to it sent on as well.
    pub fn tee(&self, inner: Arc<dyn Sink>) -> Arc<dyn Sink> {
        Arc::new(Tee { inner, taps: self.taps.clone() })
    }

    /// Sends to these from now on. What stays as it is goes on undisturbed; what is gone
    /// keeps its queue on disk, and goes on with it when it comes back. Those that cannot be
    /// used are told, the others run.
    pub async fn apply(
        &self,
        configs: &[RemoteWriteConfig],
        external: &Labels,
    ) -> Result<(), Vec<SenderError>> {
        let mut running = self.running.lock().await;
        let mut gone = std::mem::take(&mut *running);
        let mut errors = Vec::new();
        for (key, config) in keys(configs).into_iter().zip(configs) {
            let before = gone.remove(&key);
            match before {
                Some(same) if same.config == *config && same.external == *external => {
                    running.insert(key, same);
                }
                before => {
                    let others: Vec<_> =
                        running.values().chain(gone.values()).map(|r| r.feed.clone()).collect();
                    match self.start(&key, config, external, before, others).await {
                        Ok(started) => _ = running.insert(key, started),
                        Err((cause, before)) => {
                            let url = config.parsed_url();
                            let url = url.map_or_else(|_| key.clone(), |url| redacted(&url));
                            errors.push(SenderError { url, cause });
                            before.map(|before| running.insert(key, *before));
                        }
                    }
                }
            }
        }
        self.taps.set_feeds(running.values().map(|r| r.feed.clone()).collect());
        for (_, old) in gone {
            self.stop(old, Duration::ZERO).await;
        }
        self.tell_of_strangers(&running);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Stops sending; what was not sent stays on disk, and so does what is committed still.
    pub async fn shutdown(&self) {
        let mut running = self.running.lock().await;
        let limit = self.options.flush_deadline;
        let stops = std::mem::take(&mut *running).into_values().map(|r| self.stop(r, limit));
        futures_util::future::join_all(stops).await;
    }

    /// Starts a target, in the place of one with the same queue if there is one: that goes
    /// on when this one cannot be used. `others` are fed meanwhile.
    async fn start(
        &self,
        key: &str,
        config: &RemoteWriteConfig,
        external: &Labels,
        before: Option<Running>,
        mut others: Vec<Arc<Feed>>,
    ) -> Result<Running, (Cause, Option<Box<Running>>)> {
        let options = &self.options;
        let dir = options.dir.join(key);
        let bytes_max = match config.queue_config.max_disk_bytes {
            0 => options.queue_bytes_max,
            bytes => bytes,
        };
        let log = before.as_ref().map(|before| before.feed.log.clone());
        let prepared = self.prepare(config, &dir, log, bytes_max).await;
        let (receiver, shown_url, log) = match prepared {
            Ok(prepared) => prepared,
            Err(cause) => return Err((cause, before.map(Box::new))),
        };
        let name = if config.name.is_empty() { key.to_owned() } else { config.name.clone() };
        let shown = (name.clone(), shown_url);
        let metrics = self.taps.metrics.target(&shown.0, &shown.1);
        metrics.queue_bytes_max.set(metrics::gauge(bytes_max));
        if before.is_none() {
            // Of all processes that had this queue: the counter never goes back.
            let ledger = log.ledger();
            metrics.lost.inc_by(ledger.lost - log.found_lost);
            if log.found_lost > 0 {
                metrics.lose(&name, log.found_lost);
            }
        }
        log.set_bytes_max(bytes_max);
        let clock = options.clock.clone();
        let feed =
            Feed::new(log.clone(), name.clone(), config, external, clock.clone(), metrics.clone());
        let feed = Arc::new(feed);
        // The queue is fed without a gap while one takes the place of the other.
        others.push(feed.clone());
        self.taps.set_feeds(others);
        if let Some(before) = before {
            before.target.shut_down(before.task, Duration::ZERO).await;
            if before.shown != shown {
                self.taps.metrics.remove(&before.shown.0, &before.shown.1);
            }
        }
        let taps = self.taps.clone();
        let target = Target::new(name, &dir, config, receiver, log, taps, clock, metrics);
        let target = Arc::new(target.map_err(|e| (Cause::from(e), None))?);
        let task = tokio::spawn(target.clone().run());
        let (config, external) = (config.clone(), external.clone());
        Ok(Running { config, external, feed, target, task, shown })
    }

    /// What can fail before anything changes.
    async fn prepare(
        &self,
        config: &RemoteWriteConfig,
        dir: &std::path::Path,
        log: Option<Arc<Log>>,
        bytes_max: u64,
    ) -> Result<(Receiver, String, Arc<Log>), Cause> {
        let url = config.parsed_url()?;
        let shown_url = redacted(&url);
        let options = &self.options;
        let receiver =
            Receiver::new(config, url, &options.user_agent, options.clock.clone()).await?;
        if let Some(log) = log {
            return Ok((receiver, shown_url, log));
        }
        let dir = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || Log::open(&dir, bytes_max)).await;
        let log = opened.map_err(|e| Cause::Died(e.to_string()))??;
        Ok((receiver, shown_url, Arc::new(log)))
    }

    async fn stop(&self, running: Running, limit: Duration) {
        running.target.shut_down(running.task, limit).await;
        self.taps.metrics.remove(&running.shown.0, &running.shown.1);
    }

    /// Queues of targets that are gone take room until somebody decides about them.
    fn tell_of_strangers(&self, running: &BTreeMap<String, Running>) {
        let Ok(entries) = std::fs::read_dir(&self.options.dir) else { return };
        for entry in entries.flatten() {
            let key = entry.file_name().to_string_lossy().into_owned();
            if !running.contains_key(&key) && entry.path().is_dir() {
                tracing::warn!(
                    dir = %entry.path().display(),
                    "A remote write queue belongs to no target; it is kept for when its target \
                     comes back: remove the directory if it will not"
                );
            }
        }
    }
}

/// What the directories are called: by name, else by URL, so that a change of other options
/// goes on with the queue.
fn keys(configs: &[RemoteWriteConfig]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for config in configs {
        let text = if config.name.is_empty() { &config.url } else { &config.name };
        // Of a URL, what is no secret.
        let shown = match config.parsed_url() {
            Ok(url) if config.name.is_empty() => {
                let port = url.port().map(|port| format!("-{port}")).unwrap_or_default();
                format!("{}{port}{}", url.host_str().unwrap_or_default(), url.path())
            }
            _ => config.name.clone(),
        };
        let readable: String = shown
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .take(40)
            .collect();
        let hash = xxhash_rust::xxh64::xxh64(text.as_bytes(), 0) as u32;
        let key = format!("{readable}-{hash:08x}");
        let same = keys.iter().filter(|k| **k == key || k.starts_with(&format!("{key}."))).count();
        keys.push(if same == 0 { key } else { format!("{key}.{same}") });
    }
    keys
}

/// A URL as it may be shown.
fn redacted(url: &url::Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        _ = url.set_password(Some("xxxxx"));
    }
    url.to_string()
}

#[cfg(test)]
mod tests;
