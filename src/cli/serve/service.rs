//! The running parts of `watchfire serve`, wired to each other: how they start, take a
//! new configuration, and stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::backend::{self, Backend, WrittenNames};
use super::late::LateStorage;
use super::options::{
    api_options, engine_options, evaluation_options, load_options, ms, read_limits, rule_policy,
    sender_options, state_dir, tsdb_options,
};
use super::peer::HttpPeer;
use super::query_log::QueryLogs;
use super::read_only::refuse_recording_rules;
use super::status::Status;
use super::{ExternalUrl, Given, Origin};
use crate::api::{
    ApiMetrics, ApiState, Notice, Notifications, Readiness, ReloadHandle, RemoteRead, Ruler,
};
use crate::cli::features::FeatureFlags;
use crate::cli::flags::ServeFlags;
use crate::config::{self, Config};
use crate::discovery::DiscoveryMetrics;
use crate::http::ClientConfig;
use crate::model::{Clock, Labels};
use crate::notifier::{self, NotifierOptions};
use crate::query::{Engine, PushTarget, QueryMetrics};
use crate::remote_read::RemoteReadMetrics;
use crate::remote_write::RemoteWriteMetrics;
use crate::remote_write::send::{Nowhere, Sender};
use crate::rule_sources::{self, RuleSourceOptions, RuleSources};
use crate::rules::config::{LoadOptions, LoadedFile};
use crate::rules::state::{StateLog, StateMetrics, StateOptions, StateSync};
use crate::rules::{self, External, RuleSettings, RuleSource, UpdateError};
use crate::scrape::{self, ScrapeManager, ScrapeMetrics};
use crate::storage::datasources;
use crate::storage::overlay::{Overlay, OverlayMetrics, OverlayOptions};
use crate::storage::remote::{self, LocalStart, RemoteMetrics, Surroundings};
use crate::storage::router::{Router, Table};
use crate::storage::tsdb::{Follower, ReplayProgress, Tsdb, TsdbMetrics, TsdbOptions};
use crate::storage::{Sink, Source};
use crate::telemetry::clock::SystemClock;
use crate::telemetry::{Registry, ReloadMetrics, new_registry};

/// Nobody is asked for rules more often.
const MIN_REFRESH: Duration = Duration::from_secs(1);
/// How often the store drops what retention allows.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);

/// How often a directory that is only read is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// Everything that runs beside the web server.
pub(super) struct Service {
    origin: Origin,
    url: ExternalUrl,
    clock: Arc<dyn Clock>,
    config: Arc<ArcSwap<Config>>,
    storage: Arc<LateStorage>,
    backend: Backend,
    router: Arc<Router>,
    /// What rules write, which a server may not have yet.
    written: WrittenNames,
    /// What other systems are read with.
    remote: Surroundings,
    tsdb_options: TsdbOptions,
    keeps_exemplars: bool,
    tsdb_dir: PathBuf,
    /// Another process' data directory, to be read instead of one's own.
    read_only_dir: Option<PathBuf>,
    load_options: LoadOptions,
    /// `None` when alerts are not remembered.
    state_dir: Option<PathBuf>,
    state_sync: StateSync,
    state_file_bytes_min: u64,
    state_metrics: StateMetrics,
    engine: Arc<Engine>,
    query_log: QueryLogs,
    notifier: Arc<notifier::Manager>,
    rules: Arc<rules::Manager>,
    rule_sources: Arc<RuleSources>,
    scrape: Arc<ScrapeManager>,
    /// Sends on what is committed to the store.
    sender: Arc<Sender>,
    reloads: ReloadMetrics,
    notifications: Notifications,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
}

impl Service {
    /// Makes the parts and what the web server needs of them. Nothing runs yet.
    pub async fn new(
        given: Given<'_>,
        origin: Origin,
        config: &Config,
        url: ExternalUrl,
    ) -> Result<(Arc<Self>, Arc<ApiState>), String> {
        let Given { flags, features, effective, backend, .. } = given;
        let mut registry = new_registry();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let storage = Arc::new(LateStorage::default());
        let router = Arc::new(Router::new(storage.clone()));
        let source: Arc<dyn Source> = router.clone();
        let sender = Sender::new(sender_options(flags, &clock), &mut registry);
        let sink = sender.tee(storage.clone());
        let engine = Engine::new(engine_options(flags, features));
        engine.set_clock(clock.clone());
        engine.set_metrics(QueryMetrics::new(&mut registry));
        let written = WrittenNames::default();
        engine.set_push_target(PushTarget {
            source: source.clone(),
            written_here: match backend {
                Backend::Embedded => None,
                Backend::Server(_) => Some(written.judge()),
            },
        });
        let notifier_options = NotifierOptions {
            queue_capacity: flags.notification_queue_capacity,
            max_batch_size: flags.notification_batch_size,
            drain_on_shutdown: flags.drain_notification_queue,
            ..NotifierOptions::default()
        };
        let discovery = DiscoveryMetrics::new(&mut registry);
        let notifier = Arc::new(notifier::Manager::new(
            notifier_options,
            clock.clone(),
            discovery.clone(),
            &mut registry,
        ));
        // Over what others own, results are sent on at most.
        let shows_at_once =
            matches!(backend, Backend::Embedded) && flags.storage_read_only.is_none();
        let results = match flags.storage_read_only {
            Some(_) => sender.tee(Arc::new(Nowhere)),
            None => sink.clone(),
        };
        let (rule_source, rule_sink) =
            rule_storage(flags, shows_at_once, &source, &results, &mut registry);
        // Who asks sees results before those show them who own the samples.
        let source = if shows_at_once { source } else { rule_source.clone() };
        let remote = Surroundings {
            clock: clock.clone(),
            metrics: RemoteMetrics::new(&mut registry),
            user_agent: backend::USER_AGENT.to_owned(),
            changed: Arc::default(),
        };
        let other = backend::peer(flags)?;
        let peer = match &other {
            Some(other) => {
                let own = rule_source.clone();
                Some(backend::open_peer(other, own, &remote).await?)
            }
            None => None,
        };
        let handover: Option<Arc<dyn rules::state::Peer>> = match &other {
            Some(other) => Some(Arc::new(HttpPeer::new(other, clock.clone()).await?)),
            None => None,
        };
        let rule_sources = Arc::new(rule_sources(flags, features, &clock, &mut registry)?);
        let rules = rules::Manager::new(rules::ManagerOptions {
            engine: engine.clone(),
            source: rule_source,
            sink: rule_sink,
            notifier: notifier.clone(),
            clock: clock.clone(),
            metrics: rules::Metrics::new(&mut registry),
            resend_delay_ms: ms(flags.resend_delay),
            outage_tolerance_ms: ms(flags.for_outage_tolerance),
            grace_period_ms: ms(flags.for_grace_period),
            load: load_options(features),
            evaluation: evaluation_options(flags, features),
            policy: rule_policy(flags),
            strict: flags.rules_strict,
            last_good_dir: Some(flags.storage_path.join("rules_last_good")),
            shard: flags.rules_shard,
            peer,
            handover,
        });
        let hostname = super::hostname();
        let labels = &config.global.external_labels;
        let scrape = Arc::new(ScrapeManager::new(scrape::ManagerOptions {
            clock: clock.clone(),
            sink: sink.clone(),
            metrics: ScrapeMetrics::new(&mut registry),
            discovery,
            user_agent: concat!("Watchfire/", env!("CARGO_PKG_VERSION")).to_owned(),
            offset_seed: Labels::from_pairs([("host", &*hostname)]).hash64() ^ labels.hash64(),
            external_host: hostname,
        }));
        let reloads = ReloadMetrics::new(&mut registry);
        let notifications =
            Notifications::new(flags.max_notifications_subscribers, clock.clone(), &mut registry);
        notifications.raise(Notice::Starting);
        let config = Arc::new(ArcSwap::from_pointee(config.clone()));
        let (tsdb_metrics, replay_progress) =
            (TsdbMetrics::new(&mut registry), ReplayProgress::default());
        let status = Status {
            tsdb_metrics: tsdb_metrics.clone(),
            replay_progress: replay_progress.clone(),
            config: config.clone(),
            storage: storage.clone(),
            reloads: reloads.clone(),
            started_ms: clock.now_ms(),
            retention_ms: ms(flags.retention_time),
            retention_bytes: flags.retention_size,
        };
        let service = Arc::new(Self {
            origin,
            clock: clock.clone(),
            config,
            storage,
            backend,
            remote,
            router,
            written,
            tsdb_options: TsdbOptions {
                memory_snapshots: features.memory_snapshots(),
                replay_progress,
                ..tsdb_options(flags, tsdb_metrics)
            },
            keeps_exemplars: features.exemplar_storage(),
            tsdb_dir: flags.storage_path.clone(),
            read_only_dir: flags.storage_read_only.clone(),
            load_options: load_options(features),
            state_dir: state_dir(flags),
            state_sync: match flags.state_sync.as_str() {
                "always" => StateSync::Always,
                _ => StateSync::Never,
            },
            state_file_bytes_min: flags.state_file_bytes_min,
            state_metrics: StateMetrics::new(&mut registry),
            engine: engine.clone(),
            query_log: QueryLogs::default(),
            notifier: notifier.clone(),
            rules: rules.clone(),
            rule_sources: rule_sources.clone(),
            scrape: scrape.clone(),
            sender: Arc::new(sender),
            reloads,
            notifications: notifications.clone(),
            reloading: tokio::sync::Mutex::default(),
            url: url.clone(),
        });
        let reloader = Arc::clone(&service);
        let ruler = rule_sources.store().map(|store| {
            let service = Arc::clone(&service);
            let apply: ReloadHandle = Arc::new(move || {
                let service = Arc::clone(&service);
                Box::pin(async move { service.reload_rules().await })
            });
            Ruler { store: store.clone(), apply }
        });
        let state = ApiState {
            engine,
            source,
            sink,
            scrape,
            rules,
            notifier,
            status: Arc::new(status),
            clock,
            metrics: ApiMetrics::new(&mut registry),
            notifications,
            remote_write: RemoteWriteMetrics::new(&mut registry),
            remote_read: RemoteRead::new(read_limits(flags), RemoteReadMetrics::new(&mut registry)),
            registry: Arc::new(registry),
            readiness: Readiness::default(),
            reload: Arc::new(move || {
                let service = Arc::clone(&reloader);
                Box::pin(async move { service.reload().await })
            }),
            ruler,
            quit: CancellationToken::new(),
            options: api_options(flags, features, effective, url)?,
        };
        Ok((service, Arc::new(state)))
    }

    /// Opens the store and replays its log; may take long.
    pub async fn open_storage(&self) -> Result<(), String> {
        if let Backend::Server(config) = &self.backend {
            let source = backend::open_server(config, &self.remote).await?;
            tracing::info!(url = config.url, "Samples are read from a server");
            self.storage.set_server(source, Arc::new(Nowhere));
            return self.open_state().await;
        }
        let (dir, mut options) = (self.tsdb_dir.clone(), self.tsdb_options.clone());
        let config = self.config.load();
        options.max_exemplars = self.max_exemplars(&config);
        options.out_of_order_window_ms = config.storage.out_of_order_window_ms();
        let clock = Arc::clone(&self.clock);
        let began_ns = self.clock.monotonic_ns();
        let storage = Arc::clone(&self.storage);
        let read_only = self.read_only_dir.clone();
        let opened = tokio::task::spawn_blocking(move || match read_only {
            None => Tsdb::open(dir, options, clock)
                .map(|store| storage.set(store))
                .map_err(|e| format!("cannot open storage (--storage.tsdb.path): {e}")),
            Some(dir) => Follower::open(dir, options, clock)
                .map(|follower| storage.set_followed(follower))
                .map_err(|e| format!("cannot read storage (--storage.tsdb.read-only): {e}")),
        });
        opened.await.map_err(|e| format!("BUG: opening the store died: {e}"))??;
        let seconds = (self.clock.monotonic_ns() - began_ns) as f64 / 1e9;
        let dir = self.read_only_dir.as_ref().unwrap_or(&self.tsdb_dir);
        tracing::info!(dir = %dir.display(), seconds, "Storage opened");
        self.open_state().await
    }

    /// Reads what is remembered of alerts.
    async fn open_state(&self) -> Result<(), String> {
        let Some(dir) = self.state_dir.clone() else { return Ok(()) };
        let options = StateOptions {
            dir,
            sync: self.state_sync,
            file_bytes_min: self.state_file_bytes_min,
            clock: Arc::clone(&self.clock),
            metrics: self.state_metrics.clone(),
        };
        let opened = tokio::task::spawn_blocking(move || StateLog::open(options)).await;
        let log = opened.map_err(|e| format!("BUG: opening the alert state died: {e}"))?;
        self.rules.use_state(log.map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Puts the first configuration to use. Rules that had to be set aside do not stop it.
    pub async fn start(&self, config: &Config) -> Result<(), String> {
        let _one = self.reloading.lock().await;
        // Whom to tell is known before there is anything to tell. An error comes again below.
        _ = self.notifier.apply(&config.alerting, &config.global.external_labels).await;
        match self.apply(config).await? {
            None => self.reload_succeeded(),
            Some(error) => {
                self.reload_failed();
                tracing::error!("Starting without what cannot be used: {error}");
            }
        }
        Ok(())
    }

    /// Reads the configuration again. A file that cannot be used changes nothing, nor do
    /// rules that cannot with `--rules.strict`; without it they are set aside, the rest
    /// takes effect, and the answer is an error all the same.
    pub async fn reload(&self) -> Result<(), String> {
        let _one = self.reloading.lock().await;
        let outcome = match self.origin.load() {
            Ok(loaded) => self.apply(&loaded.config).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(None) => {
                self.reload_succeeded();
                tracing::info!("Completed loading of configuration file");
                Ok(())
            }
            Ok(Some(error)) | Err(error) => {
                self.reload_failed();
                tracing::error!("{error}");
                Err(error)
            }
        }
    }

    fn reload_succeeded(&self) {
        self.reloads.succeeded(self.clock.now_ms());
        self.notifications.clear(Notice::ReloadFailed);
    }

    fn reload_failed(&self) {
        self.reloads.failed();
        self.notifications.raise(Notice::ReloadFailed);
    }

    /// How many exemplars are kept with a configuration.
    fn max_exemplars(&self, config: &Config) -> usize {
        if self.keeps_exemplars { config.storage.max_exemplars() } else { 0 }
    }

    /// The rules of a configuration, from wherever they come. Those that ship are about a
    /// store of one's own.
    async fn rules_of(&self, config: &Config) -> Result<Vec<RuleSource>, String> {
        let sources = match &self.origin {
            Origin::File(_) | Origin::Made(_) => self.rule_sources.load(&config.rule_files).await,
            Origin::Builtin(_) => {
                let mut sources = self.rule_sources.load(&[]).await;
                if self.read_only_dir.is_none() {
                    sources.extend(self.origin.rule_sources(config));
                }
                sources
            }
        };
        if self.read_only_dir.is_some() && config.remote_write.is_empty() {
            refuse_recording_rules(&sources, &self.load_options)?;
        }
        Ok(sources)
    }

    /// Rules first: when they are to change all or nothing, a bad rule file stops the rest.
    /// Gives what was set aside.
    async fn apply(&self, config: &Config) -> Result<Option<String>, String> {
        let remote = self.remote_sources(config).await?;
        self.engine.set_default_subquery_step_ms(config.global.evaluation_interval_ms);
        // Rules are planned by what remote sources evaluate themselves.
        self.router.set(remote);
        let sources = self.rules_of(config).await?;
        let mut problems = Vec::new();
        // Before queries of other rules come.
        let file = &config.global.query_log_file;
        problems.extend(self.query_log.apply(&self.engine, file, &self.clock).await.err());
        // Before there is anything to send on.
        let labels = &config.global.external_labels;
        if let Err(errors) = self.sender.apply(&config.remote_write, labels).await {
            problems.extend(errors.iter().map(ToString::to_string));
        }
        let set_aside = self.apply_rules(config, sources).await?;
        if let Some(store) = self.storage.get() {
            store.set_max_exemplars(self.max_exemplars(config));
        }
        if let Some(store) = self.storage.own()
            && let Err(error) =
                store.set_out_of_order_window_ms(config.storage.out_of_order_window_ms())
        {
            problems.push(format!("storage.tsdb.out_of_order_time_window: {error}"));
        }
        if let Err(error) = self.notifier.apply(&config.alerting, labels).await {
            problems.push(format!("alerting: {error}"));
        }
        let mut jobs: Vec<_> = config.all_scrape_configs().collect();
        if self.read_only_dir.is_some() && !jobs.is_empty() {
            tracing::warn!(
                jobs = jobs.len(),
                "nothing is scraped with --storage.tsdb.read-only; scrape_configs have no effect"
            );
            jobs.clear();
        }
        if let Err(errors) = self.scrape.apply(&jobs).await {
            problems.extend(errors.iter().map(ToString::to_string));
        }
        self.config.store(Arc::new(config.clone()));
        if problems.is_empty() {
            return Ok(set_aside);
        }
        problems.extend(set_aside);
        Err(problems.join("; "))
    }

    /// Loads the rules. Gives what was set aside.
    async fn apply_rules(
        &self,
        config: &Config,
        sources: Vec<RuleSource>,
    ) -> Result<Option<String>, String> {
        if matches!(self.backend, Backend::Server(_)) {
            // Before rules are planned: what they read of each other is evaluated here.
            self.written.set(&sources, &self.load_options);
        }
        let settings = RuleSettings {
            sources,
            interval_ms: config.global.evaluation_interval_ms,
            query_offset_ms: config.global.rule_query_offset_ms,
            external: External {
                labels: config.global.external_labels.clone(),
                url: self.url.url.as_str().trim_end_matches('/').to_owned(),
            },
        };
        match self.rules.update(settings).await {
            Ok(()) => Ok(None),
            Err(error @ UpdateError::Quarantined(_)) => Ok(Some(error.to_string())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Loads the rules anew, and nothing else. What was set aside is an error.
    async fn reload_rules(&self) -> Result<(), String> {
        let _one = self.reloading.lock().await;
        let config = self.config.load_full();
        let sources = self.rules_of(&config).await?;
        match self.apply_rules(&config, sources).await {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(error),
        }
    }

    /// Loads rules anew when where they come from has changed. Does not end.
    async fn follow_rules(&self) {
        loop {
            self.rule_sources.changed.notified().await;
            match self.reload_rules().await {
                Ok(()) => tracing::info!("Rules have changed and were loaded anew"),
                Err(error) => tracing::error!("Rules have changed: {error}"),
            }
        }
    }

    /// Plans rules anew when a server turned out to be something else than they were planned
    /// for. Does not end.
    async fn follow_servers(&self) {
        loop {
            self.remote.changed.notified().await;
            match self.reload_rules().await {
                Ok(()) => tracing::info!("Rules were planned anew for what a server is"),
                Err(error) => tracing::error!("Rules were planned anew: {error}"),
            }
        }
    }

    /// Over a server: says when results cannot be written to it.
    async fn look_for_receivers(&self) {
        if matches!(self.backend, Backend::Embedded) {
            return;
        }
        let config = self.config.load_full();
        let looks = config
            .remote_write
            .iter()
            .map(|target| backend::look_for_receiver(target, self.clock.clone()));
        futures_util::future::join_all(looks).await;
    }

    /// The other systems a configuration names.
    async fn remote_sources(&self, config: &Config) -> Result<Table, String> {
        let storage = self.storage.clone();
        let margin_ms = 2 * self.tsdb_options.chunk_range_ms;
        let local_start: LocalStart = Arc::new(move || {
            let range = storage.get()?.time_range_ms();
            // Before that, the oldest block may have been cut off already.
            Some(range.map_or(i64::MAX, |(oldest, _)| oldest.saturating_add(margin_ms)))
        });
        let labels = &config.global.external_labels;
        let mut table = Table::default();
        for read in &config.remote_read {
            let open =
                remote::open_remote_read(read, labels, local_start.clone(), &self.remote).await;
            table.beside.push(open.map_err(|e| format!("remote_read: {e}"))?);
        }
        let local: Arc<dyn Source> = self.storage.clone();
        let named = datasources::open_all(&config.datasources, &local, &self.remote).await;
        table.named = named.map_err(|e| format!("datasources: {e}"))?;
        Ok(table)
    }

    /// What goes on beside everything else. Does not end.
    pub async fn keep_house(&self) {
        tokio::join!(
            self.keep_limits(),
            self.rule_sources.follow(),
            self.follow_rules(),
            self.follow_servers(),
            self.look_for_receivers(),
            self.follow(),
            self.notifier.follow_discovery(),
            self.scrape.follow_discovery(),
        );
    }

    /// Keeps the store within its limits. Does not end.
    async fn keep_limits(&self) {
        let mut ticks = tokio::time::interval(MAINTENANCE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(store) = self.storage.own().cloned() else { continue };
            match tokio::task::spawn_blocking(move || store.maintain()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "storage maintenance failed"),
                Err(error) => tracing::error!(%error, "BUG: storage maintenance died"),
            }
        }
    }

    /// Looks what the owner of a directory that is only read wrote there. Does not end.
    async fn follow(&self) {
        let mut ticks = tokio::time::interval(FOLLOW_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let Some(follower) = self.storage.followed().cloned() else { continue };
            let polled = tokio::task::spawn_blocking(move || follower.poll()).await;
            let error = match polled {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(format!("BUG: reading on died: {error}")),
            };
            match error {
                None => failing = false,
                // Said once: it is tried again twice a second.
                Some(_) if failing => {}
                Some(error) => {
                    failing = true;
                    tracing::error!(%error, "cannot read on in --storage.tsdb.read-only");
                }
            }
        }
    }

    /// Stops what produces before what consumes: targets, rules, then the notifier, which
    /// sends what the rules left.
    pub async fn stop(&self) {
        self.scrape.stop().await;
        self.rules.shutdown().await;
        self.notifier.shutdown().await;
        self.sender.shutdown().await;
    }

    /// Closes the query log and the store; nothing may append any more.
    pub async fn close(&self) {
        self.query_log.close(&self.engine).await;
        let Some(store) = self.storage.own().cloned() else { return };
        match tokio::task::spawn_blocking(move || store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "closing the store failed"),
            Err(error) => tracing::error!(%error, "BUG: closing the store died"),
        }
    }
}

/// Fails with every error of every rule file.
pub(super) fn check_rules(sources: &[RuleSource], features: &FeatureFlags) -> Result<(), String> {
    let files = rules::load_all(sources, &load_options(features));
    let errors: Vec<String> =
        files.iter().flat_map(LoadedFile::errors).map(ToString::to_string).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(format!("loading rule files failed\n{}", errors.join("\n")))
}

/// Rules of servers, and those that are written through the API.
fn rule_sources(
    flags: &ServeFlags,
    features: &FeatureFlags,
    clock: &Arc<dyn Clock>,
    registry: &mut Registry,
) -> Result<RuleSources, String> {
    let http = match &flags.rules_http_config {
        Some(file) => {
            config::read_http_client(file).map_err(|e| format!("--rules.http.config.file: {e}"))?
        }
        None => ClientConfig::default(),
    };
    let store = if flags.enable_rules_api {
        let dir = flags.storage_path.join("ruler");
        let opened = rule_sources::open_store(dir, load_options(features));
        Some(opened.map_err(|e| format!("--web.enable-rules-api: {e}"))?)
    } else {
        None
    };
    let options = RuleSourceOptions {
        interval: flags.rules_refresh_interval.max(MIN_REFRESH),
        watch_files: flags.rules_watch_files,
        http,
        user_agent: backend::USER_AGENT.to_owned(),
        clock: clock.clone(),
    };
    Ok(RuleSources::new(options, store, registry))
}

/// What rules read and write. Where the storage does not show at once what was written to
/// it, the results of the last minutes are laid over what it answers.
fn rule_storage(
    flags: &ServeFlags,
    shows_at_once: bool,
    source: &Arc<dyn Source>,
    sink: &Arc<dyn Sink>,
    registry: &mut Registry,
) -> (Arc<dyn Source>, Arc<dyn Sink>) {
    let overlay = match flags.read_your_writes.as_str() {
        "always" => true,
        "never" => false,
        _ => !shows_at_once,
    };
    if !overlay {
        return (source.clone(), sink.clone());
    }
    let options =
        OverlayOptions { metrics: OverlayMetrics::new(registry), ..OverlayOptions::default() };
    let overlay = Arc::new(Overlay::new(source.clone(), sink.clone(), options));
    (overlay.clone(), overlay)
}
