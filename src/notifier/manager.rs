//! Takes alerts from rules, labels and relabels them, and hands them to the queue of each
//! Alertmanager. A reload keeps the queues whose Alertmanager and HTTP options stay.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use reqwest::Url;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::config::AlertingConfigError;
use super::metrics::{LoopMetrics, Metrics};
use super::send_loop::{Limits, SendLoop};
use super::{AlertingConfig, AlertmanagerConfig, Notifier, NotifierView, OutgoingAlert};
use crate::discovery::{
    CHANGE_PAUSE_MS, Discovery, DiscoveryConfig, DiscoveryMetrics, DiscoveryUser, Surroundings,
    TargetGroup, count_targets,
};
use crate::http::{Client, ClientConfig, HttpError, SigV4Config};
use crate::model::{Clock, Labels};
use crate::relabel::{RelabelConfig, Verdict, apply, apply_to};
use crate::telemetry::Registry;

/// Settings of the notifier; defaults are Prometheus' (`--alertmanager.*`).
#[derive(Clone, Debug)]
pub struct NotifierOptions {
    /// Alerts one queue holds; further ones push out the oldest.
    pub queue_capacity: usize,
    /// Most alerts in one request.
    pub max_batch_size: usize,
    /// Send what is queued before shutting down.
    pub drain_on_shutdown: bool,
    /// How long draining may take. Prometheus has no such limit: a hanging Alertmanager
    /// holds its shutdown up for the timeout of every batch.
    pub drain_timeout: Duration,
    pub user_agent: String,
    /// Name server that DNS discovery asks instead of the system's; for tests.
    pub name_server: Option<std::net::SocketAddr>,
}

impl Default for NotifierOptions {
    fn default() -> Self {
        Self {
            queue_capacity: 10_000,
            max_batch_size: 256,
            drain_on_shutdown: true,
            drain_timeout: Duration::from_secs(30),
            user_agent: format!("Watchfire/{}", env!("CARGO_PKG_VERSION")),
            name_server: None,
        }
    }
}

/// Why a configuration could not be put to use. The one before stays in use.
#[derive(Debug, Error)]
pub enum NotifierError {
    #[error(transparent)]
    Config(#[from] AlertingConfigError),
    #[error("alertmanager {url}: {why}")]
    Url { url: String, why: String },
    #[error("alertmanager options: {0}")]
    Http(#[from] HttpError),
    #[error("the notifier has been shut down")]
    ShutDown,
}

/// What makes a queue the same one across reloads. Relabelling happens before alerts are
/// queued, so its rules are no part of it.
#[derive(Clone, PartialEq)]
struct LoopKey {
    url: String,
    http: ClientConfig,
    sigv4: Option<SigV4Config>,
    timeout_ms: i64,
}

/// A queue with its task.
struct Running {
    key: LoopKey,
    queue: Arc<SendLoop>,
    task: JoinHandle<()>,
}

/// The Alertmanagers that share relabelling rules.
struct Set {
    alert_relabel_configs: Vec<RelabelConfig>,
    queues: Vec<Arc<SendLoop>>,
}

/// What `send` reads, replaced as a whole by a reload.
#[derive(Default)]
struct Routing {
    external_labels: Labels,
    alert_relabel_configs: Vec<RelabelConfig>,
    sets: Vec<Set>,
    active: Vec<String>,
    dropped: Vec<String>,
}

/// The tasks, which only reload and shutdown touch.
#[derive(Default)]
struct Tasks {
    running: Vec<Running>,
    /// Queues that a reload removed and that are still being drained.
    leaving: JoinSet<()>,
    /// What is in use, for when discovery finds something else.
    config: AlertingConfig,
    external_labels: Labels,
    discoveries: Vec<(DiscoveryConfig, Discovery)>,
    closed: bool,
}

/// Delivers alerts to Alertmanagers. Needs a tokio runtime for `apply` and `shutdown`;
/// `send` may be called from anywhere.
pub struct Manager {
    options: NotifierOptions,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    routing: ArcSwap<Routing>,
    tasks: tokio::sync::Mutex<Tasks>,
    discovery: Surroundings,
    /// Discovery found something else.
    changed: Arc<Notify>,
}

impl Manager {
    /// A notifier that knows no Alertmanager yet.
    pub fn new(
        options: NotifierOptions,
        clock: Arc<dyn Clock>,
        discovery: DiscoveryMetrics,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(registry));
        metrics.set_queue_capacity(options.queue_capacity);
        let discovery = Surroundings {
            clock: clock.clone(),
            metrics: discovery,
            user: DiscoveryUser::Notify,
            user_agent: options.user_agent.clone(),
            name_server: options.name_server,
        };
        Self {
            options,
            clock,
            metrics,
            routing: ArcSwap::default(),
            tasks: tokio::sync::Mutex::default(),
            discovery,
            changed: Arc::default(),
        }
    }

    /// Puts a configuration to use. After an error the one before stays in use. Queues of
    /// Alertmanagers that stay keep their alerts; those of others are drained beside.
    pub async fn apply(
        &self,
        config: &AlertingConfig,
        external_labels: &Labels,
    ) -> Result<(), NotifierError> {
        let mut tasks = self.tasks.lock().await;
        if tasks.closed {
            return Err(NotifierError::ShutDown);
        }
        let metrics = &self.discovery.metrics;
        // Everything that can fail comes before anything is changed.
        let mut started = Vec::new();
        let found = |(_, set): &(usize, &AlertmanagerConfig)| !set.discovery.is_static();
        for (at, set) in config.alertmanagers.iter().enumerate().filter(found) {
            let known = tasks.discoveries.iter().chain(&started);
            if !known.map(|(config, _)| config).any(|known| *known == set.discovery) {
                let name = set_name(at);
                let discovery = Discovery::start(&set.discovery, &name, &self.discovery);
                let failed = |_: &HttpError| metrics.failed(DiscoveryUser::Notify, 1);
                let mut discovery = discovery.await.inspect_err(failed)?;
                let changed = self.changed.clone();
                discovery.on_change(move || changed.notify_one());
                started.push((set.discovery.clone(), discovery));
            }
        }
        let discoveries = tasks.discoveries.iter().chain(&started);
        let planned = self.plan_all(config, discoveries).await?;
        tasks.discoveries.append(&mut started);
        let sets = &config.alertmanagers;
        tasks.discoveries.retain(|(used, _)| sets.iter().any(|set| set.discovery == *used));
        metrics.failed(DiscoveryUser::Notify, 0);
        for at in sets.len()..tasks.config.alertmanagers.len() {
            metrics.forget(DiscoveryUser::Notify, &set_name(at));
        }
        for (at, set) in sets.iter().enumerate() {
            let before = tasks.config.alertmanagers.get(at);
            if before.is_none_or(|before| before.static_configs != set.static_configs) {
                metrics.received(DiscoveryUser::Notify);
            }
        }
        self.put(&mut tasks, config, external_labels, planned);
        Ok(())
    }

    /// Follows discovery: queues come and go with the Alertmanagers that are found. Does
    /// not end.
    pub async fn follow_discovery(&self) {
        loop {
            // One that is there already came up during the pause.
            if self.changed.notified().now_or_never().is_some() {
                self.discovery.metrics.delayed(DiscoveryUser::Notify);
            } else {
                self.changed.notified().await;
            }
            let mut tasks = self.tasks.lock().await;
            if !tasks.closed {
                let config = tasks.config.clone();
                let external_labels = tasks.external_labels.clone();
                match self.plan_all(&config, tasks.discoveries.iter()).await {
                    Ok(planned) => self.put(&mut tasks, &config, &external_labels, planned),
                    Err(error) => {
                        tracing::error!(%error, "Creating targets failed; alerts go on to those known before");
                    }
                }
            }
            drop(tasks);
            self.clock.sleep_until(self.clock.now_ms() + CHANGE_PAUSE_MS).await;
        }
    }

    async fn plan_all<'a>(
        &self,
        config: &AlertingConfig,
        discoveries: impl Iterator<Item = &'a (DiscoveryConfig, Discovery)> + Clone,
    ) -> Result<Vec<Plan>, NotifierError> {
        let mut planned = Vec::with_capacity(config.alertmanagers.len());
        for set in &config.alertmanagers {
            let own = discoveries.clone().find(|(used, _)| *used == set.discovery);
            let groups = own.map(|(_, discovery)| discovery.groups()).unwrap_or_default();
            planned.push(self.plan(set, &groups).await?);
        }
        Ok(planned)
    }

    /// Replaces what is in use.
    fn put(
        &self,
        tasks: &mut Tasks,
        config: &AlertingConfig,
        external_labels: &Labels,
        planned: Vec<Plan>,
    ) {
        let mut before = std::mem::take(&mut tasks.running);
        let mut routing = Routing {
            external_labels: external_labels.clone(),
            alert_relabel_configs: config.alert_relabel_configs.clone(),
            ..Routing::default()
        };
        let metrics = &self.discovery.metrics;
        metrics.updated(DiscoveryUser::Notify);
        for (at, (set, plan)) in config.alertmanagers.iter().zip(planned).enumerate() {
            metrics.discovered(DiscoveryUser::Notify, &set_name(at), plan.found);
            let mut queues = Vec::with_capacity(plan.urls.len());
            for (text, url) in plan.urls {
                let key = LoopKey {
                    url: text.clone(),
                    http: set.http.clone(),
                    sigv4: set.sigv4.clone(),
                    timeout_ms: set.timeout_ms,
                };
                let running = match before.iter().position(|r| r.key == key) {
                    Some(at) => before.swap_remove(at),
                    None => self.start(key, url, plan.client.clone()),
                };
                queues.push(running.queue.clone());
                tasks.running.push(running);
                routing.active.push(text);
            }
            routing.dropped.extend(plan.dropped);
            let alert_relabel_configs = set.alert_relabel_configs.clone();
            routing.sets.push(Set { alert_relabel_configs, queues });
        }
        self.metrics.set_discovered(routing.active.len());
        self.routing.store(Arc::new(routing));
        // Nothing is added to these any more.
        let drain = self.drain();
        for running in before {
            tasks.leaving.spawn(running.queue.shut_down(running.task, drain));
        }
        while tasks.leaving.try_join_next().is_some() {}
        tasks.config = config.clone();
        tasks.external_labels = external_labels.clone();
    }

    fn drain(&self) -> Option<Duration> {
        self.options.drain_on_shutdown.then_some(self.options.drain_timeout)
    }

    async fn plan(
        &self,
        set: &AlertmanagerConfig,
        discovered: &[TargetGroup],
    ) -> Result<Plan, NotifierError> {
        let targets = set.targets(discovered)?;
        let (agent, clock) = (&self.options.user_agent, self.clock.clone());
        let client = match &set.sigv4 {
            Some(sigv4) => Client::signed(&set.http, sigv4, agent, clock).await?,
            None => Client::new(&set.http, agent, clock).await?,
        };
        let mut urls = Vec::with_capacity(targets.active.len());
        for text in targets.active {
            let url = Url::parse(&text)
                .map_err(|e| NotifierError::Url { url: text.clone(), why: e.to_string() })?;
            urls.push((text, url));
        }
        let found = count_targets(&set.static_configs, discovered);
        Ok(Plan { client, urls, dropped: targets.dropped, found })
    }

    fn start(&self, key: LoopKey, url: Url, client: Client) -> Running {
        let limits = Limits {
            queue_capacity: self.options.queue_capacity.max(1),
            max_batch_size: self.options.max_batch_size.max(1),
            timeout: Duration::from_millis(key.timeout_ms.unsigned_abs()),
        };
        let metrics = LoopMetrics::new(&self.metrics, &key.url);
        let queue = Arc::new(SendLoop::new(url, client, limits, self.clock.clone(), metrics));
        let task = tokio::spawn(queue.clone().run());
        Running { key, queue, task }
    }

    /// Stops all queues at once, each after draining it if the options say so. Call it
    /// when no rule sends any more; what is sent later is dropped. May be repeated.
    pub async fn shutdown(&self) {
        let mut tasks = self.tasks.lock().await;
        tasks.closed = true;
        tasks.discoveries.clear();
        let drain = self.drain();
        for running in std::mem::take(&mut tasks.running) {
            tasks.leaving.spawn(running.queue.shut_down(running.task, drain));
        }
        while tasks.leaving.join_next().await.is_some() {}
        self.routing.store(Arc::new(Routing::default()));
        self.metrics.set_discovered(0);
    }
}

/// A set whose configuration has been checked.
struct Plan {
    client: Client,
    urls: Vec<(String, Url)>,
    dropped: Vec<String>,
    /// Targets before relabelling.
    found: usize,
}

/// What metrics of discovery call a set, by its place.
fn set_name(at: usize) -> String {
    format!("config-{at}")
}

impl Routing {
    /// The alert as it leaves: external labels where it has none of its own, then the
    /// rules that hold for all Alertmanagers. `None` when they drop it.
    fn outgoing(&self, mut alert: OutgoingAlert) -> Option<Arc<OutgoingAlert>> {
        let mut labels = alert.labels.builder();
        for (name, value) in self.external_labels.iter() {
            if labels.get(name).is_empty() {
                labels.set(name, value);
            }
        }
        if apply(&self.alert_relabel_configs, &mut labels) == Verdict::Drop {
            return None;
        }
        alert.labels = labels.build();
        Some(Arc::new(alert))
    }
}

impl Set {
    fn send(&self, alerts: &[Arc<OutgoingAlert>]) {
        if self.queues.is_empty() {
            return;
        }
        if self.alert_relabel_configs.is_empty() {
            return self.queues.iter().for_each(|queue| queue.add(alerts));
        }
        let relabelled: Vec<_> = alerts
            .iter()
            .filter_map(|alert| {
                let labels = apply_to(&self.alert_relabel_configs, &alert.labels)?;
                Some(Arc::new(OutgoingAlert { labels, ..OutgoingAlert::clone(alert) }))
            })
            .collect();
        if !relabelled.is_empty() {
            self.queues.iter().for_each(|queue| queue.add(&relabelled));
        }
    }
}

impl Notifier for Manager {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        let routing = self.routing.load();
        if routing.sets.is_empty() {
            return;
        }
        let alerts: Vec<_> = alerts.into_iter().filter_map(|a| routing.outgoing(a)).collect();
        if !alerts.is_empty() {
            routing.sets.iter().for_each(|set| set.send(&alerts));
        }
    }

    fn has_receivers(&self) -> bool {
        !self.routing.load().active.is_empty()
    }
}

impl NotifierView for Manager {
    fn active_alertmanagers(&self) -> Vec<String> {
        self.routing.load().active.clone()
    }

    fn dropped_alertmanagers(&self) -> Vec<String> {
        self.routing.load().dropped.clone()
    }
}
