//! What the service stands on: its own store, or somebody else's server. Everything else of
//! `serve` is the same over either.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode};
use url::Url;

use crate::cli::flags::ServeFlags;
use crate::config;
use crate::http::config::BasicAuth;
use crate::http::{Client, ClientConfig, Secret};
use crate::model::{Clock, DATASOURCE, METRIC_NAME, Matcher};
use crate::query::WrittenHere;
use crate::remote_write::send::RemoteWriteConfig;
use crate::remote_write::{self, proto};
use crate::rules::config::{LoadOptions, RuleKind};
use crate::rules::{self, RuleSource};
use crate::storage::remote::{self, DatasourceConfig, Evaluation, Surroundings};
use crate::storage::{
    ExemplarSeries, LabelAnswer, LabelRequest, SelectRequest, SeriesSet, Source, StorageError,
};

/// How long a peer may take to tell of its alerts.
const PEER_TIMEOUT_MS: i64 = 5000;
/// How often it is asked whether a receiver is there that was not.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where samples are read from, and where they are kept.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    /// The embedded store in `--storage.tsdb.path`.
    Embedded,
    /// A server: read by its query API, written to by remote write alone.
    Server(Box<DatasourceConfig>),
}

pub(super) const USER_AGENT: &str = concat!("Watchfire/", env!("CARGO_PKG_VERSION"));

/// A source over a server.
pub(super) async fn open_server(
    config: &DatasourceConfig,
    around: &Surroundings,
) -> Result<Arc<dyn Source>, String> {
    remote::open(config, around).await.map_err(|e| e.to_string())
}

/// A URL of a flag, without the credentials it holds, and those.
pub(crate) fn server_url(flag: &str, text: &str) -> Result<(Url, Option<BasicAuth>), String> {
    let mut url = Url::parse(text).map_err(|e| format!("--{flag}={text}: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("--{flag}={text}: want http://HOST[:PORT][/PATH] or https://..."));
    }
    let decode =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let auth = (!url.username().is_empty()).then(|| BasicAuth {
        username: decode(url.username()),
        password: Secret::new(decode(url.password().unwrap_or_default())),
        ..BasicAuth::default()
    });
    _ = url.set_username("");
    _ = url.set_password(None);
    Ok((url, auth))
}

/// HTTP client options of a file that a flag names, with the credentials of the URL where the
/// file has none.
pub(crate) fn server_client(
    file: Option<&Path>,
    auth: Option<BasicAuth>,
) -> Result<ClientConfig, String> {
    let mut client = match file {
        Some(file) => config::read_http_client(file).map_err(|e| e.to_string())?,
        None => ClientConfig::default(),
    };
    if auth.is_some() && client.basic_auth.is_none() && client.authorization.is_none() {
        client.basic_auth = auth;
    }
    Ok(client)
}

/// The peer that flags name.
pub(super) fn peer(flags: &ServeFlags) -> Result<Option<DatasourceConfig>, String> {
    let Some(text) = &flags.state_peer else { return Ok(None) };
    let (url, auth) = server_url("state.peer", text)?;
    let file = flags.state_peer_http_config.as_deref();
    let http =
        server_client(file, auth).map_err(|e| format!("--state.peer.http.config.file: {e}"))?;
    Ok(Some(DatasourceConfig {
        url: url.to_string(),
        name: "state.peer".to_owned(),
        timeout_ms: PEER_TIMEOUT_MS,
        evaluate: Evaluation::Here,
        http,
        ..DatasourceConfig::default()
    }))
}

/// Where alerts are restored from: a peer that has them, else where they are anyway.
pub(super) async fn open_peer(
    config: &DatasourceConfig,
    own: Arc<dyn Source>,
    around: &Surroundings,
) -> Result<Arc<dyn Source>, String> {
    let peer = open_server(config, around).await;
    let peer = peer.map_err(|e| format!("--state.peer={}: {e}", config.url))?;
    Ok(Arc::new(PeerFirst { peer, own }))
}

struct PeerFirst {
    peer: Arc<dyn Source>,
    own: Arc<dyn Source>,
}

impl Source for PeerFirst {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            match self.peer.select(request).await {
                Ok(found) if !found.series.is_empty() => Ok(found),
                Ok(_) => self.own.select(request).await,
                Err(error) => {
                    tracing::warn!(%error, "The peer cannot be asked for its alerts; they are restored from storage");
                    self.own.select(request).await
                }
            }
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.own.label_names(request)
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        self.own.label_values(name, request)
    }

    fn select_exemplars<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<Vec<ExemplarSeries>, StorageError>> {
        self.own.select_exemplars(request)
    }
}

/// The names of what rules write. A server has it only when it has been sent there, so parts
/// of expressions that look at it are not left to the server.
#[derive(Clone, Default)]
pub(super) struct WrittenNames(Arc<ArcSwap<BTreeSet<String>>>);

impl WrittenNames {
    /// Notes what these rules write. Names are never forgotten: rules that are set aside may
    /// go on as they were.
    pub fn set(&self, sources: &[RuleSource], options: &LoadOptions) {
        let mut names = BTreeSet::clone(&self.0.load());
        names.extend(["ALERTS", "ALERTS_FOR_STATE"].map(str::to_owned));
        for file in rules::load_all(sources, options) {
            for rule in file.groups.into_iter().flat_map(|group| group.rules) {
                if let RuleKind::Recording { record } = &rule.kind {
                    names.insert(record.clone());
                }
            }
        }
        self.0.store(Arc::new(names));
    }

    /// Whether a selector may find any of it.
    pub fn judge(&self) -> WrittenHere {
        let names = self.0.clone();
        Arc::new(move |matchers: &[Matcher]| {
            // Named datasources have nothing laid over what they answer.
            if matchers.iter().any(|m| &*m.name == DATASOURCE) {
                return false;
            }
            let names = names.load();
            let about: Vec<&Matcher> =
                matchers.iter().filter(|m| &*m.name == METRIC_NAME).collect();
            names.iter().any(|name| about.iter().all(|m| m.matches(name)))
        })
    }
}

/// Says clearly that results of rules cannot be written back, when that is so, and when it
/// is so no more. Ends when the receiver is there.
pub(super) async fn look_for_receiver(config: &RemoteWriteConfig, clock: Arc<dyn Clock>) {
    let mut told = false;
    loop {
        match probe(config, clock.clone()).await {
            Ok(status) if !is_missing(status) => {
                if told {
                    tracing::info!(url = config.url, "The receiver of remote write is there now");
                }
                return;
            }
            Ok(status) if !told => {
                told = true;
                tracing::error!(
                    url = config.url,
                    %status,
                    "Nothing receives remote write there: results of rules are evaluated and \
                     alerts sent, but nothing is written back. Start Prometheus with \
                     --web.enable-remote-write-receiver, or name another receiver with \
                     --remote-write.url, or none with --remote-write.url=none"
                );
            }
            // A server that is away is the business of the queue.
            _ => {}
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

/// Statuses of servers that have no such endpoint.
fn is_missing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}

/// Sends a request that holds nothing.
async fn probe(config: &RemoteWriteConfig, clock: Arc<dyn Clock>) -> Result<StatusCode, String> {
    let url = config.parsed_url().map_err(|e| e.to_string())?;
    let client = Client::new(&config.http, USER_AGENT, clock).await.map_err(|e| e.to_string())?;
    let body = remote_write::encode(&proto::WriteRequest::default()).map_err(|e| e.to_string())?;
    let mut request = client.request(Method::POST, url);
    let headers = request.headers_mut();
    for (name, value) in [
        ("content-encoding", "snappy"),
        ("content-type", "application/x-protobuf"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ] {
        headers.insert(name, reqwest::header::HeaderValue::from_static(value));
    }
    for (name, value) in &config.headers {
        let name = reqwest::header::HeaderName::from_bytes(name.as_bytes());
        let value = reqwest::header::HeaderValue::from_str(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    *request.body_mut() = Some(body.into());
    let answer = tokio::time::timeout(PROBE_TIMEOUT, client.execute(request)).await;
    let answer = answer.map_err(|_| "no answer".to_owned())?.map_err(|e| e.to_string())?;
    Ok(answer.status())
}
