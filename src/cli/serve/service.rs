//! The running parts of `watchfire serve`, wired to each other: how they start, take a
//! new configuration, and stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::late::LateStorage;
use super::read_only::refuse_recording_rules;
use super::status::Status;
use super::{ExternalUrl, Given, Origin};
use crate::api::{ApiMetrics, ApiOptions, ApiState, Notice, Notifications, Readiness, RemoteRead};
use crate::cli::features::FeatureFlags;
use crate::cli::flags::ServeFlags;
use crate::config::Config;
use crate::discovery::DiscoveryMetrics;
use crate::model::regex::AnchoredRegex;
use crate::model::{Clock, Labels};
use crate::notifier::{self, NotifierOptions};
use crate::query::{Engine, EngineOptions, QueryMetrics};
use crate::remote_read::{ReadLimits, RemoteReadMetrics};
use crate::remote_write::send::{Nowhere, Sender, SenderOptions};
use crate::remote_write::{RemoteWriteMetrics, Version};
use crate::rules::config::{LoadOptions, LoadedFile};
use crate::rules::state::{StateLog, StateMetrics, StateOptions, StateSync};
use crate::rules::{
    self, EvaluationOptions, External, RulePolicyDefaults, RuleSettings, RuleSource, UpdateError,
};
use crate::scrape::{self, ScrapeManager, ScrapeMetrics};
use crate::storage::overlay::{Overlay, OverlayMetrics, OverlayOptions};
use crate::storage::tsdb::{
    Follower, ReplayProgress, Tsdb, TsdbMetrics, TsdbOptions, WalCompression,
};
use crate::storage::{Sink, Source};
use crate::telemetry::clock::SystemClock;
use crate::telemetry::{Registry, ReloadMetrics, new_registry};

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
    notifier: Arc<notifier::Manager>,
    rules: Arc<rules::Manager>,
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
    pub fn new(
        given: Given<'_>,
        origin: Origin,
        config: &Config,
        url: ExternalUrl,
    ) -> Result<(Arc<Self>, Arc<ApiState>), String> {
        let Given { flags, features, effective, .. } = given;
        let mut registry = new_registry();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let storage = Arc::new(LateStorage::default());
        let source: Arc<dyn Source> = storage.clone();
        let sender = Sender::new(sender_options(flags, &clock), &mut registry);
        let sink = sender.tee(storage.clone());
        let engine = Engine::new(engine_options(flags, features));
        engine.set_clock(clock.clone());
        engine.set_metrics(QueryMetrics::new(&mut registry));
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
        let rule_sink = match &flags.storage_read_only {
            Some(_) => sender.tee(Arc::new(Nowhere)),
            None => sink.clone(),
        };
        let (rule_source, rule_sink) = rule_storage(flags, &source, &rule_sink, &mut registry);
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
            notifier: notifier.clone(),
            rules: rules.clone(),
            scrape: scrape.clone(),
            sender: Arc::new(sender),
            reloads,
            notifications: notifications.clone(),
            reloading: tokio::sync::Mutex::default(),
            url: url.clone(),
        });
        let reloader = Arc::clone(&service);
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
            quit: CancellationToken::new(),
            options: api_options(flags, effective, url)?,
        };
        Ok((service, Arc::new(state)))
    }

    /// Opens the store and replays its log; may take long.
    pub async fn open_storage(&self) -> Result<(), String> {
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

    /// The rules of a configuration. Those that ship are about a store of one's own.
    fn rule_sources(&self, config: &Config) -> Result<Vec<RuleSource>, String> {
        match (&self.read_only_dir, &self.origin) {
            (None, _) => Ok(self.origin.rule_sources(config)),
            (Some(_), Origin::Builtin(_)) => Ok(Vec::new()),
            (Some(_), Origin::File(_)) => {
                let sources = self.origin.rule_sources(config);
                if config.remote_write.is_empty() {
                    refuse_recording_rules(&sources, &self.load_options)?;
                }
                Ok(sources)
            }
        }
    }

    /// Rules first: when they are to change all or nothing, a bad rule file stops the rest.
    /// Gives what was set aside.
    async fn apply(&self, config: &Config) -> Result<Option<String>, String> {
        self.engine.set_default_subquery_step_ms(config.global.evaluation_interval_ms);
        let sources = self.rule_sources(config)?;
        let mut problems = Vec::new();
        // Before there is anything to send on.
        let labels = &config.global.external_labels;
        if let Err(errors) = self.sender.apply(&config.remote_write, labels).await {
            problems.extend(errors.iter().map(ToString::to_string));
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
        let set_aside = match self.rules.update(settings).await {
            Ok(()) => None,
            Err(error @ UpdateError::Quarantined(_)) => Some(error.to_string()),
            Err(error) => return Err(error.to_string()),
        };
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

    /// What goes on beside everything else. Does not end.
    pub async fn keep_house(&self) {
        tokio::join!(
            self.keep_limits(),
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

    /// Closes the store; nothing may append any more.
    pub async fn close_storage(&self) {
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

fn sender_options(flags: &ServeFlags, clock: &Arc<dyn Clock>) -> SenderOptions {
    SenderOptions {
        dir: flags.storage_path.join("remote_write"),
        queue_bytes_max: flags.remote_queue_bytes_max.max(1 << 16),
        flush_deadline: flags.remote_flush_deadline,
        user_agent: concat!("Watchfire/", env!("CARGO_PKG_VERSION")).to_owned(),
        clock: clock.clone(),
    }
}

/// Where alerts are remembered.
fn state_dir(flags: &ServeFlags) -> Option<PathBuf> {
    match &flags.state_dir {
        None => Some(flags.storage_path.join("alert_state")),
        Some(dir) => Some(PathBuf::from(dir)).filter(|_| !dir.is_empty()),
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn load_options(features: &FeatureFlags) -> LoadOptions {
    LoadOptions { parser: features.parser(), dialects: true, ..LoadOptions::default() }
}

fn rule_policy(flags: &ServeFlags) -> RulePolicyDefaults {
    RulePolicyDefaults {
        on_no_data: flags.on_no_data,
        on_error: flags.on_error,
        missing_evals_to_resolve: flags.missing_evals_to_resolve,
        on_limit: flags.on_limit,
        catch_up_ms: ms(flags.catch_up),
        group_budget: flags.group_budget,
        max_active_alerts: flags.max_active_alerts,
        active_alerts_bytes: flags.active_alerts_memory,
        annotate_resolved: flags.annotate_resolved,
    }
}

/// What rules read and write. Where the storage does not show at once what was written to
/// it, the results of the last minutes are laid over what it answers.
fn rule_storage(
    flags: &ServeFlags,
    source: &Arc<dyn Source>,
    sink: &Arc<dyn Sink>,
    registry: &mut Registry,
) -> (Arc<dyn Source>, Arc<dyn Sink>) {
    let overlay = match flags.read_your_writes.as_str() {
        "always" => true,
        "never" => false,
        _ => !sink.shows_at_once(),
    };
    if !overlay {
        return (source.clone(), sink.clone());
    }
    let options =
        OverlayOptions { metrics: OverlayMetrics::new(registry), ..OverlayOptions::default() };
    let overlay = Arc::new(Overlay::new(source.clone(), sink.clone(), options));
    (overlay.clone(), overlay)
}

fn evaluation_options(flags: &ServeFlags, features: &FeatureFlags) -> EvaluationOptions {
    let options = EvaluationOptions {
        shared: flags.shared_evaluation,
        align_groups: flags.align_groups,
        concurrent: None,
    };
    if features.concurrent_rule_eval() {
        options.with_concurrent_evals(flags.max_concurrent_evals)
    } else {
        options
    }
}

fn engine_options(flags: &ServeFlags, features: &FeatureFlags) -> EngineOptions {
    EngineOptions {
        lookback_ms: ms(flags.lookback_delta),
        timeout: flags.query_timeout,
        max_samples: flags.query_max_samples,
        max_memory_bytes: flags.query_max_memory_bytes,
        max_concurrency: flags.query_max_concurrency,
        ..features.engine()
    }
}

fn tsdb_options(flags: &ServeFlags, metrics: TsdbMetrics) -> TsdbOptions {
    let wal_compression = match flags.wal_compression_type.as_str() {
        _ if !flags.wal_compression => WalCompression::None,
        "zstd" => WalCompression::Zstd,
        _ => WalCompression::Snappy,
    };
    TsdbOptions {
        retention_ms: ms(flags.retention_time),
        retention_bytes: flags.retention_size,
        chunk_range_ms: ms(flags.min_block_duration),
        block_range_max_ms: flags.max_block_duration.map_or(0, ms),
        wal_segment_bytes: flags.wal_segment_size,
        wal_compression,
        metrics,
        ..TsdbOptions::default()
    }
}

fn read_limits(flags: &ServeFlags) -> ReadLimits {
    ReadLimits {
        samples: flags.remote_read_sample_limit,
        concurrent: flags.remote_read_concurrent_limit,
        frame_bytes: flags.remote_read_max_bytes_in_frame,
    }
}

fn api_options(
    flags: &ServeFlags,
    effective: BTreeMap<String, String>,
    url: ExternalUrl,
) -> Result<ApiOptions, String> {
    let cors_origin = AnchoredRegex::new(&flags.cors_origin)
        .map_err(|e| format!("--web.cors.origin={}: {e}", flags.cors_origin))?;
    Ok(ApiOptions {
        external_url: Some(url.url),
        route_prefix: url.route_prefix,
        enable_lifecycle: flags.enable_lifecycle,
        enable_admin_api: flags.enable_admin_api,
        enable_remote_write_receiver: flags.enable_remote_write_receiver,
        remote_write_messages: [Version::V1, Version::V2]
            .into_iter()
            .filter(|version| flags.remote_write_messages.iter().any(|m| m == version.message()))
            .collect(),
        cors_origin: Some(cors_origin),
        page_title: flags.page_title.clone(),
        read_timeout: flags.read_timeout,
        max_connections: flags.max_connections,
        flags: effective.into_iter().collect(),
    })
}
