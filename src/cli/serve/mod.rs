//! `watchfire serve`: opens the sockets, then the store, then starts what fills and reads
//! it, and takes it all down in the order that loses nothing.

mod auto_reload;
mod backend;
mod builtin;
mod late;
mod options;
mod peer;
mod query_log;
mod read_only;
mod service;
mod status;
mod web_config;

pub(crate) use backend::{Backend, server_client, server_url};
pub(crate) use status::binary_bytes;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::features::FeatureFlags;
use super::file_kind::{FileKind, helped};
use super::flags::ServeFlags;
use super::memory;
use crate::api::{self, Notice, Phase};
use crate::config::{self, Config, Loaded};
use crate::rule_sources;
use crate::rules::RuleSource;
use crate::telemetry::{build, logging};
use service::Service;

/// What the command line said.
pub(crate) struct Given<'a> {
    pub flags: &'a ServeFlags,
    pub features: &'a FeatureFlags,
    /// Values in effect, by the flag's name.
    pub effective: BTreeMap<String, String>,
    /// Flags that were given and have no effect.
    pub unserved: Vec<&'static str>,
    pub backend: Backend,
    /// The configuration, when it is none that is read from a file.
    pub made: Option<MadeConfig>,
}

/// Makes a configuration, anew at each reload.
pub(crate) type MadeConfig = Box<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// Runs the service until it is told to stop.
pub(crate) fn run(given: Given<'_>) -> ExitCode {
    if let Err(error) = start_logging(given.flags) {
        return super::fail(&error);
    }
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start worker threads: {e}"))
        .and_then(|runtime| runtime.block_on(serve(given)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.lines() {
                tracing::error!("{line}");
            }
            ExitCode::from(1)
        }
    }
}

fn start_logging(flags: &ServeFlags) -> Result<(), logging::LogError> {
    logging::init(flags.log_level.parse()?, flags.log_format.parse()?)
}

async fn serve(mut given: Given<'_>) -> Result<(), String> {
    let flags = given.flags;
    tracing::info!(version = build::VERSION, "Starting Watchfire");
    for flag in &given.unserved {
        tracing::warn!("--{flag} is accepted but not served yet; it has no effect");
    }
    for feature in given.features.unknown() {
        tracing::warn!("--enable-feature={feature} is not known; it has no effect");
    }
    raise_file_limit();
    tokio::spawn(memory::take_large_pages_when_large());
    let url = ExternalUrl::new(flags)?;
    // The sockets come first: a port that is taken must not cost a log replay.
    let listeners = bind(&flags.listen_addresses)?;
    let origin = match given.made.take() {
        Some(make) => Origin::Made(make),
        None => Origin::new(flags, &listeners, &url.route_prefix)?,
    };
    let loaded = origin.load()?;
    if flags.rules_strict {
        // Rules that cannot run are then fatal, and cheaper to find before the store opens.
        let files = origin.rule_sources(&loaded.config).into_iter();
        // Those of servers are had, and judged, when rules are loaded.
        let files: Vec<_> = files
            .filter(|s| !matches!(s, RuleSource::Pattern(p) if rule_sources::is_url(p)))
            .collect();
        service::check_rules(&files, given.features)?;
    }

    let watched = auto_reload::Watched::new(flags, given.features, &loaded.config);
    let shutdown = CancellationToken::new();
    let (service, state) = Service::new(given, origin, &loaded.config, url).await?;
    let web = tokio::spawn(api::serve(listeners, Arc::clone(&state), shutdown.clone()));
    let stop = wait_for_stop(Arc::clone(&service), state.quit.clone());
    let watch_config = auto_reload::run(Arc::clone(&service), watched);
    let result = tokio::select! {
        biased;
        () = stop => Ok(()),
        result = run_service(&service, &state, &loaded.config) => result,
        never = watch_config => match never {},
        ended = watch(web) => Err(ended),
    };
    state.readiness.set(Phase::Stopping);
    state.notifications.raise(Notice::Stopping);
    tracing::info!("Stopping");
    service.stop().await;
    // Streams of notifications end by themselves only now.
    state.notifications.close();
    shutdown.cancel();
    service.close().await;
    if result.is_ok() {
        tracing::info!("See you next time!");
    }
    result
}

/// Opens the store, starts everything, then keeps house until dropped.
async fn run_service(
    service: &Arc<Service>,
    state: &api::ApiState,
    config: &Config,
) -> Result<(), String> {
    service.open_storage().await?;
    service.start(config).await?;
    state.readiness.set(Phase::Ready);
    state.notifications.clear(Notice::Starting);
    tracing::info!("Server is ready to receive web requests.");
    service.keep_house().await;
    Ok(())
}

/// The web server ends by itself only when something is wrong.
async fn watch(web: tokio::task::JoinHandle<Result<(), api::ServeError>>) -> String {
    match web.await {
        Ok(Ok(())) => "the web server stopped".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => format!("BUG: the web server died: {error}"),
    }
}

/// Completes on SIGTERM, SIGINT or `/-/quit`. SIGHUP reloads meanwhile.
async fn wait_for_stop(service: Arc<Service>, quit: CancellationToken) {
    let streams =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = streams else {
        tracing::error!("cannot listen for signals; only /-/quit and SIGKILL stop this process");
        return quit.cancelled().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                tracing::warn!(signal = "terminated", "Received an OS signal, exiting gracefully...");
                return;
            }
            _ = interrupt.recv() => {
                tracing::warn!(signal = "interrupt", "Received an OS signal, exiting gracefully...");
                return;
            }
            () = quit.cancelled() => {
                tracing::warn!("Received termination request via web service, exiting gracefully...");
                return;
            }
            _ = hangup.recv() => {
                if let Err(error) = service.reload().await {
                    tracing::error!("Error reloading config: {error}");
                }
            }
        }
    }
}

fn bind(addresses: &[String]) -> Result<Vec<TcpListener>, String> {
    addresses
        .iter()
        .map(|address| {
            let listener = api::bind(address).map_err(|e| e.to_string())?;
            tracing::info!(address, "Start listening for connections");
            Ok(listener)
        })
        .collect()
}

/// Scrapes, queries and segments hold files open: use all the system grants.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}

/// Where users find this server.
#[derive(Clone, Debug)]
pub(super) struct ExternalUrl {
    url: Url,
    route_prefix: String,
}

impl ExternalUrl {
    /// From `--web.external-url` and `--web.route-prefix`; without them, this host's name
    /// and the port listened on.
    fn new(flags: &ServeFlags) -> Result<Self, String> {
        let text = match flags.external_url.as_str() {
            "" => {
                let address = flags.listen_addresses.first().map_or("", String::as_str);
                let (host, port) = address.rsplit_once(':').unwrap_or((address, "9090"));
                let name = match host {
                    "" | "0.0.0.0" | "[::]" => hostname(),
                    host => host.to_owned(),
                };
                format!("http://{name}:{port}/")
            }
            text if text.contains("://") => text.to_owned(),
            text => return Err(format!("--web.external-url={text}: want http://HOST[:PORT]/PATH")),
        };
        let url = Url::parse(&text).map_err(|e| format!("--web.external-url={text}: {e}"))?;
        let prefix = flags.route_prefix.as_deref().unwrap_or_else(|| url.path());
        let route_prefix = format!("/{}", prefix.trim_matches('/'));
        Ok(Self { url, route_prefix })
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// Where the configuration comes from: a file, or the program itself.
pub(super) enum Origin {
    File(std::path::PathBuf),
    Builtin(String),
    /// Flags.
    Made(MadeConfig),
}

impl Origin {
    fn new(flags: &ServeFlags, bound: &[TcpListener], prefix: &str) -> Result<Self, String> {
        if let Some(file) = &flags.config_file {
            return Ok(Self::File(file.clone()));
        }
        let first = bound.first().ok_or("--web.listen-address names no address")?;
        let address = first.local_addr().map_err(|e| format!("listening socket: {e}"))?;
        tracing::info!("No --config.file: watching this process with the rules that ship with it");
        // What is wrong with it is told where it is served.
        let web = flags.web_config_file.as_deref().and_then(|file| config::web::load(file).ok());
        if web.as_ref().is_some_and(|web| !web.users.is_empty()) {
            tracing::warn!(
                "--web.config.file has users, whose passwords are not known here: without \
                 --config.file this process cannot scrape itself; give it a configuration with \
                 basic_auth"
            );
        }
        let tls = web.is_some_and(|web| web.tls.is_some());
        Ok(Self::Builtin(builtin::config_text(address, prefix, tls)))
    }

    /// Reads the configuration and logs what it warns of.
    fn load(&self) -> Result<Loaded, String> {
        let loaded = match self {
            Self::File(file) => {
                tracing::info!(filename = %file.display(), "Loading configuration file");
                config::load(file).map_err(|e| {
                    let error =
                        format!("Error loading config (--config.file={}): {e}", file.display());
                    helped(error, file, FileKind::Config)
                })?
            }
            Self::Made(make) => make()?,
            Self::Builtin(text) => {
                config::parse(text, Path::new("")).map_err(|e| format!("BUG: {e}"))?
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(loaded)
    }

    fn rule_sources(&self, config: &Config) -> Vec<RuleSource> {
        let patterns = config.rule_files.iter().cloned().map(RuleSource::Pattern);
        match self {
            Self::File(_) | Self::Made(_) => patterns.collect(),
            Self::Builtin(_) => builtin::rules(),
        }
    }
}
