//! The targets of all jobs: which loops run, what a reload changes, what the API sees.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::ScrapeConfig;
use super::fetch::RequestHeaders;
use super::ingest::SampleSettings;
use super::metrics::{Job, ScrapeMetrics};
use super::negotiate::accept_header;
use super::target::{Target, Targets};
use super::view::{DroppedTargetView, ScrapeView, TargetMetadata, TargetView};
use super::worker::{LoopSettings, Surroundings, TargetState, supervise};
use crate::discovery::{
    CHANGE_PAUSE_MS, Discovery, DiscoveryMetrics, DiscoveryUser, Groups,
    Surroundings as Discovering, count_targets,
};
use crate::http::{Client, HttpError};
use crate::model::labels::quote;
use crate::model::{Clock, Labels};
use crate::storage::Sink;

/// What the manager is given.
#[derive(Clone)]
pub struct ManagerOptions {
    pub clock: Arc<dyn Clock>,
    pub sink: Arc<dyn Sink>,
    pub metrics: ScrapeMetrics,
    pub discovery: DiscoveryMetrics,
    /// Sent with every scrape.
    pub user_agent: String,
    /// Shown instead of a loopback host in links.
    pub external_host: String,
    /// Spreads the scrapes of servers that share targets: a hash of host name and
    /// external labels.
    pub offset_seed: u64,
}

/// Why a job could not be set up; the other jobs are not affected.
#[derive(Debug, Error)]
#[error("error creating scrape pool {}: {cause}", quote(job))]
pub struct PoolError {
    pub job: String,
    #[source]
    pub cause: HttpError,
}

/// Runs the scrape loops of all jobs.
pub struct ScrapeManager {
    options: ManagerOptions,
    around: Surroundings,
    pools: Mutex<BTreeMap<String, Pool>>,
    /// Loops that wait to mark their target's series stale.
    ending: Mutex<Vec<JoinHandle<()>>>,
    /// Held while configurations are applied, so that two reloads do not mix.
    applying: tokio::sync::Mutex<()>,
    /// Discovery found something else.
    changed: Arc<Notify>,
}

struct Pool {
    config: ScrapeConfig,
    client: Client,
    /// `None` when all targets are listed.
    discovery: Option<Discovery>,
    /// What the loops were made from.
    synced: Groups,
    loops: HashMap<(Labels, String), Loop>,
    dropped: Vec<Labels>,
    dropped_count: usize,
}

struct Loop {
    settings: watch::Sender<Arc<LoopSettings>>,
    gone: CancellationToken,
    state: Arc<TargetState>,
    task: JoinHandle<()>,
}

impl ScrapeManager {
    /// A manager without jobs. Must live inside a tokio runtime.
    pub fn new(options: ManagerOptions) -> Self {
        let around = Surroundings {
            clock: options.clock.clone(),
            sink: options.sink.clone(),
            metrics: options.metrics.clone(),
            offset_seed: options.offset_seed,
            shutdown: CancellationToken::new(),
        };
        Self {
            options,
            around,
            pools: Mutex::default(),
            ending: Mutex::default(),
            applying: tokio::sync::Mutex::default(),
            changed: Arc::default(),
        }
    }

    /// Makes these the jobs. Targets that stay keep their beat and what they remember;
    /// jobs whose configuration did not change are not touched. A job that fails leaves
    /// the others applied, and itself as it was.
    pub async fn apply(&self, configs: &[&ScrapeConfig]) -> Result<(), Vec<PoolError>> {
        let _one_at_a_time = self.applying.lock().await;
        let mut errors = Vec::new();
        for config in configs {
            if let Err(cause) = self.apply_one(config).await {
                errors.push(PoolError { job: config.job_name.clone(), cause });
            }
        }
        let jobs: std::collections::HashSet<&str> =
            configs.iter().map(|c| c.job_name.as_str()).collect();
        let mut pools = self.pools.lock();
        let removed: Vec<String> =
            pools.keys().filter(|job| !jobs.contains(job.as_str())).cloned().collect();
        for job in removed {
            if let Some(mut pool) = pools.remove(&job) {
                let loops = pool.loops.drain().map(|(_, running)| running);
                self.retire(loops);
            }
            let labels = Job { scrape_job: job };
            self.options.discovery.forget(DiscoveryUser::Scrape, &labels.scrape_job);
            self.around.metrics.targets.remove(&labels);
            self.around.metrics.target_limit.remove(&labels);
            self.around.metrics.syncs.remove(&labels);
            self.around.metrics.sync_failed.remove(&labels);
            self.around.metrics.sync_length.remove(&labels);
        }
        self.options.discovery.failed(DiscoveryUser::Scrape, errors.len());
        self.options.discovery.updated(DiscoveryUser::Scrape);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    async fn apply_one(&self, config: &ScrapeConfig) -> Result<(), HttpError> {
        let metrics = &self.around.metrics;
        let known = {
            let pools = self.pools.lock();
            let known = pools.get(&config.job_name);
            known.map(|pool| {
                let found_alike = pool.config.discovery == config.discovery;
                if pool.config.static_configs != config.static_configs {
                    self.options.discovery.received(DiscoveryUser::Scrape);
                }
                (pool.config == *config, pool.client.clone(), found_alike)
            })
        };
        let client = match &known {
            Some((true, ..)) => return Ok(()),
            Some((false, client, _)) if *client.config() == config.http => Ok(client.clone()),
            _ => {
                let clock = self.options.clock.clone();
                Client::new(&config.http, &self.options.user_agent, clock).await
            }
        };
        let (tried, failed) = match &known {
            Some(_) => (&metrics.reloads, &metrics.reloads_failed),
            None => (&metrics.pools, &metrics.pools_failed),
        };
        tried.inc();
        let made = match client {
            // Discovery that stays keeps what it knows.
            Ok(client) if known.is_some_and(|(_, _, found_alike)| found_alike) => {
                Ok((client, None))
            }
            Ok(client) => self.discover(config).await.map(|found| (client, Some(found))),
            Err(error) => Err(error),
        };
        let (client, discovery) = made.inspect_err(|_| {
            failed.inc();
        })?;
        let mut pools = self.pools.lock();
        let pool = pools.entry(config.job_name.clone()).or_insert_with(|| Pool {
            config: config.clone(),
            client: client.clone(),
            discovery: None,
            synced: Groups::default(),
            loops: HashMap::new(),
            dropped: Vec::new(),
            dropped_count: 0,
        });
        pool.config = config.clone();
        pool.client = client;
        if let Some(discovery) = discovery {
            pool.discovery = discovery;
        }
        self.sync(pool);
        Ok(())
    }

    /// Starts discovery, where there is any.
    async fn discover(&self, config: &ScrapeConfig) -> Result<Option<Discovery>, HttpError> {
        if config.discovery.is_static() {
            return Ok(None);
        }
        let around = Discovering {
            clock: self.options.clock.clone(),
            metrics: self.options.discovery.clone(),
            user: DiscoveryUser::Scrape,
            user_agent: self.options.user_agent.clone(),
            name_server: None,
        };
        let mut discovery = Discovery::start(&config.discovery, &config.job_name, &around).await?;
        let changed = self.changed.clone();
        discovery.on_change(move || changed.notify_one());
        Ok(Some(discovery))
    }

    /// Follows discovery: loops come and go with the targets that are found. Does not end.
    pub async fn follow_discovery(&self) {
        loop {
            // One that is there already came up during the pause.
            if self.changed.notified().now_or_never().is_some() {
                self.options.discovery.delayed(DiscoveryUser::Scrape);
            } else {
                self.changed.notified().await;
            }
            self.options.discovery.updated(DiscoveryUser::Scrape);
            for pool in self.pools.lock().values_mut() {
                let found = pool.discovery.as_ref().map(Discovery::groups).unwrap_or_default();
                if found != pool.synced {
                    self.sync(pool);
                }
            }
            let clock = &self.around.clock;
            clock.sleep_until(clock.now_ms() + CHANGE_PAUSE_MS).await;
        }
    }

    /// Makes the pool's loops those of its configuration.
    fn sync(&self, pool: &mut Pool) {
        let start_ns = self.around.clock.monotonic_ns();
        let metrics = &self.around.metrics;
        let job = Job { scrape_job: pool.config.job_name.clone() };
        pool.synced = pool.discovery.as_ref().map(Discovery::groups).unwrap_or_default();
        let found = count_targets(&pool.config.static_configs, &pool.synced);
        self.options.discovery.discovered(DiscoveryUser::Scrape, &job.scrape_job, found);
        let targets = Targets::of(&pool.config, &pool.synced);
        for (_, error) in &targets.errors {
            tracing::error!(scrape_pool = %job.scrape_job, %error, "Creating target failed");
            metrics.sync_failed.get_or_create(&job).inc();
        }
        let limit = pool.config.target_limit;
        let count = targets.active.len();
        let forced_error = (limit > 0 && count as u64 > limit).then(|| {
            metrics.exceeded_target_limit.inc();
            format!("target_limit exceeded (number of targets: {count}, limit: {limit})")
        });
        pool.dropped_count = targets.dropped.len();
        pool.dropped = targets.dropped;
        if pool.config.keep_dropped_targets > 0 {
            let kept = usize::try_from(pool.config.keep_dropped_targets).unwrap_or(usize::MAX);
            pool.dropped.truncate(kept);
        }
        let mut former = std::mem::take(&mut pool.loops);
        for target in targets.active {
            let key = target.key();
            let settings = Arc::new(loop_settings(pool, target, forced_error.clone()));
            let running = match former.remove(&key) {
                Some(running) => {
                    running.settings.send_replace(settings);
                    running
                }
                None => self.start(settings),
            };
            pool.loops.insert(key, running);
        }
        self.retire(former.into_values());
        metrics.targets.get_or_create(&job).set(i64::try_from(count).unwrap_or(i64::MAX));
        metrics.target_limit.get_or_create(&job).set(i64::try_from(limit).unwrap_or(i64::MAX));
        metrics.syncs.get_or_create(&job).inc();
        let took_ns = self.around.clock.monotonic_ns().saturating_sub(start_ns);
        metrics.sync_length.get_or_create(&job).observe(took_ns as f64 / 1e9);
    }

    fn start(&self, settings: Arc<LoopSettings>) -> Loop {
        let (settings, updates) = watch::channel(settings);
        let gone = CancellationToken::new();
        let state = Arc::new(TargetState::default());
        let work = supervise(self.around.clone(), updates, gone.clone(), state.clone());
        Loop { settings, gone, state, task: tokio::spawn(work) }
    }

    /// Tells loops that their target is gone; they end on their own.
    fn retire(&self, loops: impl Iterator<Item = Loop>) {
        let mut ending = self.ending.lock();
        ending.retain(|task| !task.is_finished());
        for running in loops {
            running.gone.cancel();
            ending.push(running.task);
        }
    }

    /// Stops all loops and waits for them. Nothing is marked stale: the program that
    /// starts next goes on where this one ended.
    pub async fn stop(&self) {
        self.around.shutdown.cancel();
        let pools = std::mem::take(&mut *self.pools.lock());
        let loops = pools.into_values().flat_map(|pool| pool.loops.into_values());
        let mut tasks: Vec<JoinHandle<()>> = loops.map(|running| running.task).collect();
        tasks.append(&mut self.ending.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a scrape loop ended badly");
            }
        }
    }
}

fn loop_settings(pool: &Pool, target: Target, forced_error: Option<String>) -> LoopSettings {
    let config = &pool.config;
    LoopSettings {
        samples: SampleSettings {
            target: target.labels.clone(),
            honor_labels: config.honor_labels,
            honor_timestamps: config.honor_timestamps,
            track_timestamps_staleness: config.track_timestamps_staleness,
            relabel: config.metric_relabel_configs.clone().into(),
            names: config.name_validation(),
            limits: config.limits(),
            extra_metrics: config.extra_scrape_metrics == Some(true),
            timeout_ms: target.timeout_ms,
        },
        client: pool.client.clone(),
        headers: RequestHeaders {
            accept: accept_header(config.protocols(), config.name_escaping()),
            compressed: config.enable_compression,
            timeout_ms: target.timeout_ms,
        },
        body_limit: config.body_size_limit,
        fallback: config.fallback_protocol(),
        target,
        forced_error,
    }
}

impl ScrapeView for ScrapeManager {
    fn active_targets(&self) -> Vec<TargetView> {
        let pools = self.pools.lock();
        let mut views = Vec::new();
        for (job, pool) in pools.iter() {
            let first = views.len();
            for running in pool.loops.values() {
                let settings = running.settings.borrow().clone();
                let target = &settings.target;
                let last = running.state.last.lock().clone();
                views.push(TargetView {
                    discovered_labels: target.discovered.clone(),
                    labels: target.labels.clone(),
                    scrape_pool: job.clone(),
                    scrape_url: target.url.clone(),
                    global_url: global_url(&target.url, &self.options.external_host),
                    last_error: last.error,
                    last_scrape_ms: last.at_ms,
                    last_scrape_duration_seconds: last.duration_seconds,
                    health: last.health,
                    scrape_interval_ms: target.interval_ms,
                    scrape_timeout_ms: target.timeout_ms,
                });
            }
            views[first..].sort_by(|a: &TargetView, b| {
                (&a.scrape_url, &a.labels).cmp(&(&b.scrape_url, &b.labels))
            });
        }
        views
    }

    fn dropped_targets(&self) -> Vec<DroppedTargetView> {
        let pools = self.pools.lock();
        let dropped = pools.iter().flat_map(|(job, pool)| {
            pool.dropped.iter().map(|labels| DroppedTargetView {
                discovered_labels: labels.clone(),
                scrape_pool: job.clone(),
            })
        });
        dropped.collect()
    }

    fn dropped_target_counts(&self) -> Vec<(String, usize)> {
        let pools = self.pools.lock();
        pools.iter().map(|(job, pool)| (job.clone(), pool.dropped_count)).collect()
    }

    fn metadata(&self) -> Vec<TargetMetadata> {
        let pools = self.pools.lock();
        let mut all = Vec::new();
        for running in pools.values().flat_map(|pool| pool.loops.values()) {
            let target = running.settings.borrow().target.labels.clone();
            let families = running.state.metadata.lock().all();
            all.extend(families.into_iter().map(|(family, metadata)| TargetMetadata {
                target: target.clone(),
                family,
                metadata,
            }));
        }
        all
    }
}

/// The URL with a loopback host replaced.
fn global_url(url: &str, external_host: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let Some(after) = rest.strip_prefix(host) else { continue };
        if !external_host.is_empty() && (after.is_empty() || after.starts_with([':', '/', '?'])) {
            return format!("{scheme}://{external_host}{after}");
        }
    }
    url.to_owned()
}

#[cfg(test)]
mod tests {
    use super::global_url;

    #[test]
    fn loopback_hosts_are_replaced_in_links() {
        for (url, expected) in [
            ("http://localhost:9090/metrics", "http://box:9090/metrics"),
            ("http://[::1]:1/", "http://box:1/"),
            ("http://localhosts:1/", "http://localhosts:1/"),
            ("http://10.0.0.1:1/", "http://10.0.0.1:1/"),
        ] {
            assert_eq!(global_url(url, "box"), expected);
        }
    }
}
