//! Other systems as sources: remote read (`read.rs`), the query API of Prometheus and of
//! those that speak it (`api.rs`, `queried.rs`; of VictoriaMetrics `export.rs`); which of them a server is,
//! it can be asked (`discovered.rs`). What is asked at the same time is one request
//! (`batch.rs`), and what is asked again and again is kept (`kept.rs`). What several sources
//! together come to is `fanout`'s and `routes`' business; who asks, and why, is not known
//! here.

mod api;
mod api_json;
mod batch;
mod client;
pub mod config;
mod detect;
mod discovered;
mod endpoint;
mod export;
mod joined;
mod kept;
mod metrics;
mod queried;
mod read;
mod read_wire;
mod series;

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::Notify;

use super::{Source, StorageError};
use crate::http::HttpError;
use crate::model::{Clock, Labels, TimestampMs};

pub use config::{DatasourceConfig, DatasourceError, DatasourceKind, Evaluation, RemoteReadConfig};
pub use metrics::RemoteMetrics;

use discovered::Discovered;
use endpoint::Endpoint;
use kept::Kept;
use read::{Reader, Restriction};
use read_wire::Wire;

/// What sources are made with, beside their configuration.
#[derive(Clone)]
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub metrics: RemoteMetrics,
    /// `Watchfire/1.2.3`
    pub user_agent: String,
    /// Told when a server turned out to be something else than it was taken for: what was
    /// planned for it is to be planned anew.
    pub changed: Arc<Notify>,
}

/// Why a source could not be made.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Config(#[from] DatasourceError),
    #[error("{name}: {cause}")]
    Client { name: String, cause: HttpError },
}

/// The oldest time the local store is sure to have everything from; `None` while it opens.
pub type LocalStart = Arc<dyn Fn() -> Option<TimestampMs> + Send + Sync>;

/// A source over a server. A server that is down fails queries, not this.
pub async fn open(
    config: &DatasourceConfig,
    around: &Surroundings,
) -> Result<Arc<dyn Source>, OpenError> {
    config.validate()?;
    if config.kind == DatasourceKind::Auto {
        return Ok(Arc::new(Discovered::new(config, around).await?));
    }
    let endpoint = Arc::new(Endpoint::new(&config.endpoint(), around).await?);
    endpoint.metrics.is_a(config.kind.word());
    Ok(match config.kind {
        DatasourceKind::RemoteRead => reader(endpoint, config),
        DatasourceKind::Auto | DatasourceKind::Prometheus | DatasourceKind::VictoriaMetrics => {
            Arc::new(api::ApiSource::new(endpoint, config).await)
        }
    })
}

/// A source over an endpoint of remote read.
fn reader(endpoint: Arc<Endpoint>, config: &DatasourceConfig) -> Arc<dyn Source> {
    let kept = kept(config, &endpoint);
    let (limits, frame_bytes_max) = (config.limits(), config::CHUNKED_READ_LIMIT);
    Arc::new(Reader::new(Wire { endpoint, limits, frame_bytes_max }, kept))
}

/// What may be kept of what a datasource is asked again and again.
fn kept(config: &DatasourceConfig, endpoint: &Endpoint) -> Kept {
    let keeping = kept::Keeping {
        overlap_ms: config.late_samples_ms,
        whole_ms: config.refresh_kept_ms,
        samples_max: usize::try_from(config.keep_bytes / 16).unwrap_or(usize::MAX),
    };
    Kept::new(keeping, endpoint.metrics.clone())
}

/// A source over a `remote_read` section: `external_labels` are those of this server, which
/// the other end is taken to have on its series as well.
pub async fn open_remote_read(
    config: &RemoteReadConfig,
    external_labels: &Labels,
    local_start: LocalStart,
    around: &Surroundings,
) -> Result<Arc<dyn Source>, OpenError> {
    let endpoint = Endpoint::new(&config.endpoint(), around).await?;
    let restriction = Restriction {
        required: config.required_matchers(),
        external: match config.filter_external_labels {
            true => external_labels.clone(),
            false => Labels::empty(),
        },
        local_start: (!config.read_recent).then_some(local_start),
    };
    let wire = Wire {
        endpoint: Arc::new(endpoint),
        limits: config.limits(),
        frame_bytes_max: config.chunked_read_limit,
    };
    Ok(Arc::new(Reader::restricted(wire, restriction)))
}

/// What one answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub series: usize,
    pub bytes: u64,
}

fn failed(name: &str, why: impl std::fmt::Display) -> StorageError {
    StorageError::Remote(format!("{name}: {why}"))
}
